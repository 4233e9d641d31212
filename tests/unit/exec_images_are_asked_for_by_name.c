/* Loads by name, with a keeper behind the executor: what is sent once is found, what was never sent is not, and a guest
 * that lies harms nobody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_fixture.h"
#include "image_control.h"
#include "keeper.h"
#include <cmocka.h>
#include <sched.h>
#include <string.h>

#define IMAGE_BYTES (256u << 10)
#define MODULE_FIRST (IVG_ID_FIRST + 1000u)

static struct {
        struct ivg_keeper *keeper;
        int mediator, inner;
        pthread_t thread;
        pthread_mutex_t mutex; /* the keeper is one thread's at a time */
        _Atomic(uint32_t) stop;
        /* what the driver was given last */
        uint64_t bytes;
        uint8_t first, last;
        uint8_t *disturb; /* changed while the driver looks */
        uint32_t loads, modules;
} t;

/* What a lane did is done when its answer is there; ThreadSanitizer cannot see that, since both sides map the region.
 */
static void lanes_meet(void)
{
        pthread_mutex_lock(&t.mutex);
        pthread_mutex_unlock(&t.mutex);
}

/* ---- a driver that looks at images, a keeper of its own thread ---- */

static CUresult fake_load(CUmodule *module, const void *image, unsigned int count, CUjit_option *options, void **values)
{
        const char *text = image;

        (void)count;
        (void)options;
        (void)values;
        t.loads++;
        t.first = (uint8_t)text[0];
        if (t.disturb)
                memset(t.disturb, '?', IMAGE_BYTES);
        t.bytes = strlen(text) + 1;
        t.last = (uint8_t)text[t.bytes - 2];
        *module = (CUmodule)(uintptr_t)(0x9000 + t.loads);
        lanes_meet();
        return text[0] == '!' ? CUDA_ERROR_INVALID_PTX : CUDA_SUCCESS;
}

static void *keeper_main(void *argument)
{
        (void)argument;
        while (!atomic_load(&t.stop)) {
                pthread_mutex_lock(&t.mutex);
                (void)ivg_keeper_turn(t.keeper, 1);
                pthread_mutex_unlock(&t.mutex);
                sched_yield();
        }
        return NULL;
}

static void keeper_connect(struct exec_fixture *f)
{
        const struct ivg_images_message message = {.magic = IVG_IMAGES_MAGIC, .type = IVG_IMAGES_CONNECT, .tenant = 1};
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        assert_int_equal(ivg_images_send(t.mediator, &message, pair[1]), 0);
        close(pair[1]);
        ivg_images_destroy(f->exec->images); /* nobody loads yet */
        f->exec->images = ivg_images_create(pair[0]);
        assert_non_null(f->exec->images);
}

static int setup(void **state)
{
        const struct ivg_image_limits limits = {.bytes_max = 8 << 20, .tenant_bytes_max = 8 << 20, .count_max = 8};
        struct exec_fixture *f;
        int pair[2];

        memset(&t, 0, sizeof(t));
        pthread_mutex_init(&t.mutex, NULL);
        if (fixture_setup(state) != 0)
                return -1;
        f = *state;
        f->exec->driver.cuModuleLoadDataEx = fake_load;
        fixture_own_extents(f, 0, 2, FIXTURE_CHANNEL);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        t.mediator = pair[0];
        t.inner = pair[1];
        t.keeper = ivg_keeper_create(pair[1], &limits);
        assert_non_null(t.keeper);
        assert_int_equal(pthread_create(&t.thread, NULL, keeper_main, NULL), 0);
        return 0;
}

static int teardown(void **state)
{
        const int result = fixture_teardown(state);

        atomic_store(&t.stop, 1);
        pthread_join(t.thread, NULL);
        ivg_keeper_destroy(t.keeper);
        close(t.mediator);
        close(t.inner);
        return result;
}

/* ---- loads ---- */

static void image_write(struct exec_fixture *f, char first, char last)
{
        memset(f->arena, 'x', IMAGE_BYTES);
        f->arena[0] = (uint8_t)first;
        f->arena[IMAGE_BYTES - 2] = (uint8_t)last;
        f->arena[IMAGE_BYTES - 1] = 0;
}

static struct ivg_wire_image_name name_of(const void *image, uint64_t bytes)
{
        struct ivg_wire_image_name name = {.bytes = bytes};
        struct ivg_digest digest;

        ivg_digest_of(image, bytes, &digest);
        memcpy(name.digest, &digest, sizeof(digest));
        return name;
}

static struct ivg_request_ivgModuleLoad request_of(const struct ivg_wire_image_name *name, bool with_image)
{
        struct ivg_request_ivgModuleLoad request;

        memset(&request, 0, sizeof(request));
        request.module = MODULE_FIRST + t.modules++;
        request.name = *name;
        request.options = (struct ivg_wire_range){.where = IVG_RANGE_INLINE, .offset = sizeof(request)};
        if (with_image)
                request.image = (struct ivg_wire_range){.where = IVG_RANGE_ARENA, .bytes = IMAGE_BYTES};
        return request;
}

static CUresult load(struct exec_fixture *f, const struct ivg_wire_image_name *name, bool with_image, uint32_t *wanted)
{
        struct ivg_request_ivgModuleLoad request = request_of(name, with_image);
        struct ivg_answer_ivgModuleLoad answer = {.wanted = 99};
        const CUresult result = fixture_call(f, &f->producer, IVG_CALL_ivgModuleLoad, &request, sizeof(request),
                                             &answer, sizeof(answer));

        lanes_meet();
        *wanted = answer.wanted;
        return result;
}

static void assert_load(struct exec_fixture *f, const struct ivg_wire_image_name *name, bool with_image,
                        uint32_t wanted)
{
        const uint32_t before = t.loads;
        uint32_t got;

        assert_int_equal(load(f, name, with_image, &got), CUDA_SUCCESS);
        assert_int_equal(got, wanted);
        assert_int_equal(t.loads, before + (wanted == IVG_IMAGE_LOADED));
}

/* Until the keeper has looked at all that was brought. */
static void keeper_settles(uint64_t brought)
{
        struct ivg_keeper_counts counts;
        struct ivg_image_totals totals;
        const uint64_t end = ivg_clock_ns() + 5000000000ull;

        do {
                pthread_mutex_lock(&t.mutex);
                ivg_keeper_counts(t.keeper, &counts, &totals);
                pthread_mutex_unlock(&t.mutex);
        } while (counts.kept + counts.refused + counts.dropped < brought && ivg_clock_ns() < end && sched_yield() == 0);
        assert_int_equal(counts.kept + counts.refused + counts.dropped, brought);
}

static void what_was_sent_once_is_found(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_wire_image_name name;

        keeper_connect(f);
        image_write(f, 'a', 'z');
        name = name_of(f->arena, IMAGE_BYTES);
        assert_load(f, &name, false, IVG_IMAGE_SEND);
        assert_load(f, &name, true, IVG_IMAGE_LOADED);
        keeper_settles(1);
        memset(f->arena, 0, IMAGE_BYTES);
        t.first = t.last = 0;
        assert_load(f, &name, false, IVG_IMAGE_LOADED);
        assert_int_equal(t.bytes, IMAGE_BYTES);
        assert_int_equal(t.first, 'a');
        assert_int_equal(t.last, 'z');
        assert_int_equal(atomic_load(&f->exec->counters.images_kept), 1);
        assert_int_equal(atomic_load(&f->exec->counters.images_found), 1);
        assert_int_equal(atomic_load(&f->exec->host_channel->image_bytes_found), IMAGE_BYTES);
        assert_int_equal(atomic_load(&f->exec->host_channel->arena_bytes_from_guest), IMAGE_BYTES);
}

static void a_false_name_is_loaded_and_not_kept(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_wire_image_name victims, own;

        keeper_connect(f);
        image_write(f, 'v', 'v');
        victims = name_of(f->arena, IMAGE_BYTES);
        image_write(f, 'e', 'e');
        own = name_of(f->arena, IMAGE_BYTES);
        assert_load(f, &victims, true, IVG_IMAGE_LOADED); /* it gets what it sent, by whatever name */
        assert_int_equal(t.first, 'e');
        keeper_settles(1);
        assert_load(f, &victims, false, IVG_IMAGE_SEND);
        assert_load(f, &own, false, IVG_IMAGE_SEND);
}

static void a_change_during_the_load_is_not_seen(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_wire_image_name name;

        keeper_connect(f);
        image_write(f, 'b', 'y');
        name = name_of(f->arena, IMAGE_BYTES);
        t.disturb = f->arena;
        assert_load(f, &name, true, IVG_IMAGE_LOADED);
        assert_int_equal(t.last, 'y');
        t.disturb = NULL;
        assert_int_equal(f->arena[IMAGE_BYTES - 2], '?');
        keeper_settles(1);
        assert_load(f, &name, false, IVG_IMAGE_LOADED); /* and kept is what had the name */
        assert_int_equal(t.last, 'y');
}

static void what_the_driver_refuses_is_not_kept(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_wire_image_name name;
        uint32_t wanted;

        keeper_connect(f);
        image_write(f, '!', 'z');
        name = name_of(f->arena, IMAGE_BYTES);
        assert_int_equal(load(f, &name, true, &wanted), CUDA_ERROR_INVALID_PTX);
        assert_int_equal(atomic_load(&f->exec->counters.images_kept), 0);
        assert_load(f, &name, false, IVG_IMAGE_SEND);
}

static void without_a_keeper_all_is_sent(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_wire_image_name name;

        image_write(f, 'a', 'z');
        name = name_of(f->arena, IMAGE_BYTES);
        assert_load(f, &name, false, IVG_IMAGE_SEND_ALWAYS);
        assert_load(f, &name, true, IVG_IMAGE_LOADED);
        assert_load(f, &(struct ivg_wire_image_name){0}, true, IVG_IMAGE_LOADED);
        assert_int_equal(atomic_load(&f->exec->counters.images_kept), 0);
}

/* The keeper goes while the executor lives. */
static void a_lost_keeper_is_not_asked_again(void **state)
{
        struct exec_fixture *f = *state;
        const struct ivg_images_message nonsense = {.magic = 1};
        struct ivg_wire_image_name name;
        int pair[2];

        image_write(f, 'a', 'z');
        name = name_of(f->arena, IMAGE_BYTES);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        ivg_images_destroy(f->exec->images);
        f->exec->images = ivg_images_create(pair[0]);
        assert_int_equal(ivg_images_send(pair[1], &nonsense, -1), 0); /* not an answer */
        assert_load(f, &name, false, IVG_IMAGE_SEND);
        assert_load(f, &name, false, IVG_IMAGE_SEND_ALWAYS);
        close(pair[1]);
}

static void breaks(struct exec_fixture *f, const struct ivg_wire_image_name *name, bool with_image)
{
        struct ivg_request_ivgModuleLoad request = request_of(name, with_image);

        *(struct ivg_call_header *)&request = fixture_header(&f->producer, sizeof(request), true);
        fixture_send(f, &f->producer, IVG_CALL_ivgModuleLoad, &request, sizeof(request));
        assert_true(fixture_faulted(f, IVG_FAULT_ARGUMENTS));
        assert_int_equal(t.loads, 0);
}

static void neither_image_nor_name(void **state)
{
        breaks(*state, &(struct ivg_wire_image_name){0}, false);
}

static void a_name_of_another_length(void **state)
{
        breaks(*state, &(struct ivg_wire_image_name){.bytes = IMAGE_BYTES - 1, .digest = {1}}, true);
}

static void a_name_of_a_larger_image_than_there_can_be(void **state)
{
        breaks(*state, &(struct ivg_wire_image_name){.bytes = IVG_IMAGES_BYTES_MAX + 1, .digest = {1}}, false);
}

static void a_name_of_the_largest_number(void **state)
{
        breaks(*state, &(struct ivg_wire_image_name){.bytes = UINT64_MAX, .digest = {1}}, false);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(what_was_sent_once_is_found),
                TEST(a_false_name_is_loaded_and_not_kept),
                TEST(a_change_during_the_load_is_not_seen),
                TEST(what_the_driver_refuses_is_not_kept),
                TEST(without_a_keeper_all_is_sent),
                TEST(a_lost_keeper_is_not_asked_again),
                TEST(neither_image_nor_name),
                TEST(a_name_of_another_length),
                TEST(a_name_of_a_larger_image_than_there_can_be),
                TEST(a_name_of_the_largest_number),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
