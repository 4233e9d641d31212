/* Handles: any pointer may be asked about, numbers do not come back soon, threads do not disturb each other. */
#include "guest.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* As of a program's pointers, nothing is known of these when they are compiled. */
static struct ivg_object *object_of(enum ivg_kind kind, const void *handle)
{
        const void *volatile any = handle;

        return ivg_object_of(kind, any);
}

static struct ivg_object *object_of_function(const void *handle)
{
        const void *volatile any = handle;

        return ivg_object_of_function(any);
}

static struct ivg_object *make(enum ivg_kind kind, struct ivg_object *context)
{
        struct ivg_object *object = NULL;

        assert_int_equal(ivg_object_create(kind, context, &object), CUDA_SUCCESS);
        assert_non_null(object);
        return object;
}

static void foreign_pointers_are_refused_without_a_fault(void **state)
{
        struct ivg_object *stream = make(IVG_KIND_STREAM, NULL);
        int local;
        void *heap = malloc(256);

        (void)state;
        assert_ptr_equal(object_of(IVG_KIND_STREAM, stream), stream);
        assert_null(object_of(IVG_KIND_EVENT, stream));
        assert_null(object_of(IVG_KIND_STREAM, NULL));
        assert_null(object_of(IVG_KIND_STREAM, (void *)1));
        assert_null(object_of(IVG_KIND_STREAM, (void *)UINTPTR_MAX));
        assert_null(object_of(IVG_KIND_STREAM, (void *)(uintptr_t)0x7fff00000000));
        assert_null(object_of(IVG_KIND_STREAM, &local));
        assert_null(object_of(IVG_KIND_STREAM, heap));
        assert_null(object_of(IVG_KIND_STREAM, (uint8_t *)stream + 1));
        assert_null(object_of(IVG_KIND_STREAM, (uint8_t *)stream + 64));
        /* A cell never used, one not backed by memory, and just outside the window, on both sides. */
        assert_null(object_of(IVG_KIND_STREAM, stream + 1000));
        assert_null(object_of(IVG_KIND_STREAM, stream + (1 << 23)));
        assert_null(object_of(IVG_KIND_STREAM, stream + (1 << 24)));
        assert_null(object_of(IVG_KIND_STREAM, stream - 100));
        assert_null(object_of_function(stream));
        assert_null(object_of_function(heap));
        free(heap);
        ivg_object_destroy(stream);
        assert_null(object_of(IVG_KIND_STREAM, stream));
}

static void functions_and_kernels_are_both_launchable(void **state)
{
        struct ivg_object *function = make(IVG_KIND_FUNCTION, NULL), *kernel = make(IVG_KIND_KERNEL, NULL);

        (void)state;
        assert_ptr_equal(object_of_function(function), function);
        assert_ptr_equal(object_of_function(kernel), kernel);
        ivg_object_destroy(function);
        ivg_object_destroy(kernel);
}

static void special_streams_have_numbers(void **state)
{
        struct ivg_object *stream = make(IVG_KIND_STREAM, NULL);
        ivg_id id = 99;

        (void)state;
        assert_int_equal(ivg_stream_id(NULL, IVG_ID_STREAM_LEGACY, &id), CUDA_SUCCESS);
        assert_int_equal(id, IVG_ID_STREAM_LEGACY);
        assert_int_equal(ivg_stream_id(NULL, IVG_ID_STREAM_PER_THREAD, &id), CUDA_SUCCESS);
        assert_int_equal(id, IVG_ID_STREAM_PER_THREAD);
        assert_int_equal(ivg_stream_id(CU_STREAM_LEGACY, IVG_ID_STREAM_PER_THREAD, &id), CUDA_SUCCESS);
        assert_int_equal(id, IVG_ID_STREAM_LEGACY);
        assert_int_equal(ivg_stream_id(CU_STREAM_PER_THREAD, IVG_ID_STREAM_LEGACY, &id), CUDA_SUCCESS);
        assert_int_equal(id, IVG_ID_STREAM_PER_THREAD);
        assert_int_equal(ivg_stream_id((CUstream)stream, IVG_ID_STREAM_LEGACY, &id), CUDA_SUCCESS);
        assert_int_equal(id, stream->id);
        ivg_object_destroy(stream);
        assert_int_equal(ivg_stream_id((CUstream)stream, IVG_ID_STREAM_LEGACY, &id), CUDA_ERROR_INVALID_HANDLE);
}

/* Far more turns than generations: one number may come again only after many destroys. */
static void numbers_come_back_late(void **state)
{
        enum { TURNS = 70000, APART_MIN = 10000 };
        uint32_t *last = calloc(1u << 20, sizeof(*last));

        (void)state;
        assert_non_null(last);
        for (uint32_t turn = 1; turn <= TURNS; turn++) {
                struct ivg_object *event = make(IVG_KIND_EVENT, NULL);
                const uint32_t index = event->id & 0xffffff, generation = event->id >> IVG_ID_INDEX_BITS;

                assert_true(index >= IVG_ID_FIRST && index < 4096);
                uint32_t *before = &last[index << 8 | generation];
                if (*before != 0 && turn - *before < APART_MIN)
                        fail_msg("number %x again after %u turns", event->id, turn - *before);
                *before = turn;
                ivg_object_destroy(event);
        }
        free(last);
}

static uint32_t released;
static void count_release(struct ivg_object *object)
{
        assert_int_equal(object->values[0], 7);
        released++;
}

static void a_context_takes_its_objects_along(void **state)
{
        struct ivg_object *context = make(IVG_KIND_CONTEXT, NULL), *other = make(IVG_KIND_CONTEXT, NULL);
        struct ivg_object *mine[40], *its = make(IVG_KIND_GRAPH, other), *library = make(IVG_KIND_LIBRARY, NULL);

        (void)state;
        ivg_object_set_release(IVG_KIND_GRAPH, count_release);
        its->values[0] = 7;
        for (uint32_t i = 0; i < 40; i++) {
                mine[i] = make(IVG_KIND_GRAPH, context);
                mine[i]->values[0] = 7;
        }
        ivg_objects_destroy_of_context(context);
        assert_int_equal(released, 40);
        for (uint32_t i = 0; i < 40; i++)
                assert_null(object_of(IVG_KIND_GRAPH, mine[i]));
        assert_ptr_equal(object_of(IVG_KIND_GRAPH, its), its);
        assert_ptr_equal(object_of(IVG_KIND_LIBRARY, library), library);
        assert_ptr_equal(object_of(IVG_KIND_CONTEXT, context), context);
        ivg_object_destroy(its);
        ivg_object_destroy(its); /* a second time is the program's mistake and does nothing */
        assert_int_equal(released, 41);
        ivg_object_set_release(IVG_KIND_GRAPH, NULL);
}

static void *churn(void *argument)
{
        const uint64_t mark = (uintptr_t)argument;
        struct ivg_object *held[64];

        for (uint32_t round = 0; round < 200; round++) {
                for (uint32_t i = 0; i < 64; i++) {
                        held[i] = make(IVG_KIND_EVENT, NULL);
                        held[i]->values[1] = mark;
                }
                for (uint32_t i = 0; i < 64; i++) {
                        assert_ptr_equal(object_of(IVG_KIND_EVENT, held[i]), held[i]);
                        assert_true(held[i]->values[1] == mark);
                        ivg_object_destroy(held[i]);
                }
        }
        return NULL;
}

static void threads_get_cells_of_their_own(void **state)
{
        pthread_t threads[4];

        (void)state;
        for (uintptr_t i = 0; i < 4; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)), 0);
        for (uint32_t i = 0; i < 4; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(foreign_pointers_are_refused_without_a_fault),
                cmocka_unit_test(functions_and_kernels_are_both_launchable),
                cmocka_unit_test(special_streams_have_numbers),
                cmocka_unit_test(numbers_come_back_late),
                cmocka_unit_test(a_context_takes_its_objects_along),
                cmocka_unit_test(threads_get_cells_of_their_own),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
