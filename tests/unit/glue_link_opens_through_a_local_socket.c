/* Opening against a mediator that behaves, misbehaves, fails, goes silent or is not there; and life after opening. */
#include "glue_fake_mediator.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static uint32_t descriptors_open(void)
{
        DIR *entries = opendir("/proc/self/fd");
        uint32_t count = 0;

        assert_non_null(entries);
        while (readdir(entries) != NULL)
                count++;
        closedir(entries);
        return count;
}

static void opens_and_closes_in_order(void **state)
{
        struct fake_mediator fake;
        struct ivg_link *link;
        const struct ivg_guest_channel *guest;
        uint64_t rings = 0;
        const uint32_t descriptors = descriptors_open();
        const uint64_t deadline_ns = ivg_now_ns() + 5000 * IVG_NS_PER_MS;

        (void)state;
        fake_mediator_start(&fake, FAKE_READY);
        link = fake_mediator_link(&fake);
        guest = &ivg_region_guest_pages(&fake.region)->channels[0];
        assert_int_equal(ivg_link_channel(link), 0);
        assert_int_equal(ivg_link_generation(link), 1);
        assert_memory_equal(ivg_link_name(link), "local:/tmp/", 11);
        assert_int_equal(ivg_link_region(link)->vm_id, 7);
        assert_int_equal(ivg_load_acquire_u64(&guest->state), ivg_channel_word(1, IVG_GUEST_CHANNEL_OPEN));
        assert_int_equal(ivg_load_acquire_u32(&guest->pid), getpid());
        assert_memory_equal(guest->program, "glue_link_opens", 15);
        assert_int_equal(ivg_link_alive(link), 0);
        ivg_link_doorbell(link);
        ivg_link_doorbell(link);
        assert_int_equal(read(fake.doorbell, &rings, sizeof(rings)), sizeof(rings));
        assert_int_equal(rings, 2);
        ivg_link_close(link);
        while (atomic_load(&fake.closed_generation) == 0 && ivg_now_ns() < deadline_ns)
                usleep(1000);
        assert_int_equal(atomic_load(&fake.closed_generation), 1);
        fake_mediator_stop(&fake);
        assert_int_equal(descriptors_open(), descriptors);
}

static void claims_again_when_the_epoch_ended_the_generation(void **state)
{
        struct fake_mediator fake;
        struct ivg_link *link;

        (void)state;
        fake_mediator_start(&fake, FAKE_NEW_GENERATION);
        link = fake_mediator_link(&fake);
        assert_int_equal(ivg_link_generation(link), 2);
        assert_int_equal(ivg_link_alive(link), 0);
        ivg_link_close(link);
        fake_mediator_stop(&fake);
}

struct refusal {
        enum fake_behaviour behaviour;
        int rc;
        enum ivg_error_code code;
        const char *words;
};

static void each_misbehaviour_is_named(void **state)
{
        const struct refusal refusals[] = {
                {FAKE_NO_WELCOME, -ETIMEDOUT, IVG_ERROR_TIMEOUT, "no welcome from the mediator"},
                {FAKE_END_AT_HELLO, -EPIPE, IVG_ERROR_MEDIATOR_UNAVAILABLE, "closed the connection without a welcome"},
                {FAKE_REFUSE, -ECONNABORTED, IVG_ERROR_RATE_LIMITED, "RATE_LIMITED: too many programs"},
                {FAKE_WRONG_MAGIC, -EPROTO, IVG_ERROR_MEDIATOR_UNAVAILABLE, "magic 00000001, expected 4c475649"},
                {FAKE_WRONG_VERSION, -EPROTO, IVG_ERROR_MEDIATOR_UNAVAILABLE, "mediator has 42, this program has 2"},
                {FAKE_WRONG_TABLE, -EPROTO, IVG_ERROR_MEDIATOR_UNAVAILABLE, "mediator has 0000000000000005"},
                {FAKE_WRONG_LENGTH, -EPROTO, IVG_ERROR_MEDIATOR_UNAVAILABLE, "expected 224"},
                {FAKE_NO_DESCRIPTORS, -EPROTO, IVG_ERROR_MEDIATOR_UNAVAILABLE, "welcome with 0 descriptors"},
                {FAKE_UNSEALED, -EPROTO, IVG_ERROR_MEDIATOR_UNAVAILABLE, "not sealed against shrinking"},
                {FAKE_WRONG_SIZE, -EPROTO, IVG_ERROR_MEDIATOR_UNAVAILABLE, "the welcome said 134217728"},
                {FAKE_NEVER_READY, -ETIMEDOUT, IVG_ERROR_TIMEOUT, "channel 0: not ready after"},
                {FAKE_FAIL, -ECONNABORTED, IVG_ERROR_INVALID_POOL, "the executor did not start: INVALID_POOL (6)"},
                {FAKE_END_AT_CLAIM, -EPIPE, IVG_ERROR_MEDIATOR_UNAVAILABLE, "went away before it was ready"},
                {FAKE_GENERATIONS_FOREVER, -EPROTO, IVG_ERROR_MEDIATOR_UNAVAILABLE, "the host is at 5"},
                {FAKE_RING_NOT_OPEN, -EPROTO, IVG_ERROR_MEDIATOR_UNAVAILABLE, "READY but its ring has state 0"},
                {FAKE_UNKNOWN_STATE, -EPROTO, IVG_ERROR_MEDIATOR_UNAVAILABLE, "host state 77 is unknown"},
        };
        const uint32_t descriptors = descriptors_open();

        (void)state;
        for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
                const bool waits = refusals[i].rc == -ETIMEDOUT;
                char name[128];
                const struct ivg_link_places places = {
                        .forced = name, .sysfs_root = "/nowhere", .open_ms = waits ? 300 : 10000};
                const uint64_t begin_ns = ivg_now_ns();
                struct ivg_error error = {""};
                enum ivg_error_code code = IVG_ERROR_NONE;
                struct ivg_link *link = NULL;
                struct fake_mediator fake;
                int rc;

                fake_mediator_start(&fake, refusals[i].behaviour);
                snprintf(name, sizeof(name), "local:%s", fake.path);
                rc = ivg_link_open_at(&places, TEST_FINGERPRINT, &link, &code, &error);
                assert_words(error, refusals[i].words);
                assert_words(error, name);
                assert_int_equal(rc, refusals[i].rc);
                assert_int_equal(code, refusals[i].code);
                assert_null(link);
                assert_true(test_ms_since(begin_ns) < 5000);
                fake_mediator_stop(&fake);
                assert_int_equal(descriptors_open(), descriptors);
        }
}

static void our_version_is_refused_by_the_mediator_in_words(void **state)
{
        struct fake_mediator fake;
        char name[128];
        const struct ivg_link_places places = {.forced = name, .sysfs_root = "/nowhere", .open_ms = 5000};
        struct ivg_error error = {""};
        enum ivg_error_code code;
        struct ivg_link *link;

        (void)state;
        fake_mediator_start(&fake, FAKE_READY);
        snprintf(name, sizeof(name), "local:%s", fake.path);
        assert_int_equal(ivg_link_open_at(&places, 1, &link, &code, &error), -ECONNABORTED);
        assert_int_equal(code, IVG_ERROR_INVALID_REQUEST);
        assert_words(error, "program has 0000000000000001, mediator has 1122334455667788");
        fake_mediator_stop(&fake);
}

static int open_without_rights(const char *path)
{
        int status;
        const pid_t child = fork();

        if (child == 0) {
                char name[128];
                const struct ivg_link_places places = {.forced = name, .sysfs_root = "/nowhere", .open_ms = 500};
                struct ivg_error error = {""};
                enum ivg_error_code code;
                struct ivg_link *link;
                int rc;

                snprintf(name, sizeof(name), "local:%s", path);
                if (setgid(65534) != 0 || setuid(65534) != 0)
                        _exit(77);
                rc = ivg_link_open_at(&places, TEST_FINGERPRINT, &link, &code, &error);
                _exit(rc == -EACCES && strstr(error.text, "permission denied") != NULL ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void absent_refused_and_forbidden_are_told_apart(void **state)
{
        struct ivg_link_places places = {.forced = "local:/nonexistent/ivgpu.sock", .sysfs_root = "/nowhere"};
        struct fake_mediator fake;
        struct ivg_error error = {""};
        enum ivg_error_code code;
        struct ivg_link *link;
        char name[128], longest[200];

        (void)state;
        assert_int_equal(ivg_link_open_at(&places, TEST_FINGERPRINT, &link, &code, &error), -ENOENT);
        assert_words(error, "local:/nonexistent/ivgpu.sock: absent");
        assert_int_equal(code, IVG_ERROR_MEDIATOR_UNAVAILABLE);

        fake_mediator_start(&fake, FAKE_READY);
        if (getuid() == 0)
                assert_int_equal(open_without_rights(fake.path), 0);
        snprintf(name, sizeof(name), "local:%s", fake.path);
        places.forced = name;
        fake_mediator_die(&fake);
        assert_int_equal(ivg_link_open_at(&places, TEST_FINGERPRINT, &link, &code, &error), -ECONNREFUSED);
        assert_words(error, "refused: the socket is there, no mediator listens");
        fake_mediator_stop(&fake);

        memset(longest, 'x', sizeof(longest));
        memcpy(longest, "local:", 6);
        longest[sizeof(longest) - 1] = '\0';
        places.forced = longest;
        assert_int_equal(ivg_link_open_at(&places, TEST_FINGERPRINT, &link, &code, &error), -ENAMETOOLONG);
        places.forced = "driver:/nonexistent/ivgpu0";
        assert_int_equal(ivg_link_open_at(&places, TEST_FINGERPRINT, &link, &code, &error), -ENOENT);
        assert_words(error, "driver:/nonexistent/ivgpu0: absent");
        places.forced = "vfio:/dev/vfio/1";
        assert_int_equal(ivg_link_open_at(&places, TEST_FINGERPRINT, &link, &code, &error), -EPROTONOSUPPORT);
        assert_words(error, "IVGPU_CHANNEL=vfio:/dev/vfio/1");
        assert_int_equal(code, IVG_ERROR_UNSUPPORTED_OP);
}

static void a_search_names_every_place_it_tried(void **state)
{
        const struct ivg_link_places places = {
                .socket = "/nonexistent/s", .sysfs_root = "/nowhere/pci", .open_ms = 100};
        struct fake_mediator fake;
        struct ivg_error error = {""};
        enum ivg_error_code code;
        struct ivg_link *link = NULL;

        (void)state;
        assert_int_equal(ivg_link_open_at(&places, TEST_FINGERPRINT, &link, &code, &error), -ENOENT);
        assert_words(error, "local:/nonexistent/s: absent");
        assert_words(error, "sysfs:");
        assert_words(error, "/nowhere/pci: No such file");

        /* A mediator that refuses ends the search: going on would hide why. */
        fake_mediator_start(&fake, FAKE_REFUSE);
        setenv("IVGPU_SOCKET", fake.path, 1);
        unsetenv("IVGPU_CHANNEL");
        assert_int_equal(ivg_link_open(TEST_FINGERPRINT, &link, &code, &error), -ECONNABORTED);
        assert_int_equal(code, IVG_ERROR_RATE_LIMITED);
        assert_null(strstr(error.text, "sysfs"));
        fake_mediator_stop(&fake);

        fake_mediator_start(&fake, FAKE_READY);
        setenv("IVGPU_SOCKET", fake.path, 1);
        assert_int_equal(ivg_link_open(TEST_FINGERPRINT, &link, &code, &error), 0);
        assert_int_equal(code, IVG_ERROR_NONE);
        ivg_link_close(link);
        fake_mediator_stop(&fake);
        unsetenv("IVGPU_SOCKET");
}

/* ---- life after opening ---- */

static int alive_becomes(struct ivg_link *link, int expected)
{
        const uint64_t deadline_ns = ivg_now_ns() + 5000 * IVG_NS_PER_MS;
        int rc;

        do {
                rc = ivg_link_alive(link);
                usleep(1000);
        } while (rc != expected && ivg_now_ns() < deadline_ns);
        return rc;
}

static void each_end_of_the_peer_has_its_error(void **state)
{
        struct fake_mediator fake;
        struct ivg_link *link;
        _Atomic(uint64_t) *status, *host;

        (void)state;
        fake_mediator_start(&fake, FAKE_READY);
        link = fake_mediator_link(&fake);
        status = &ivg_region_ring_host(&fake.region, 0)->status;
        host = &ivg_region_host_pages(&fake.region)->channels[0].state;
        ivg_store_release_u64(status, ivg_channel_word(1, IVG_RING_CLOSED));
        assert_int_equal(ivg_link_alive(link), -ESHUTDOWN);
        ivg_store_release_u64(status, ivg_channel_word(1, IVG_RING_FAULT));
        assert_int_equal(ivg_link_alive(link), -EPROTO);
        ivg_store_release_u64(status, ivg_channel_word(1, IVG_RING_PEER_GONE));
        assert_int_equal(ivg_link_alive(link), -EOWNERDEAD);
        ivg_store_release_u64(status, ivg_channel_word(2, IVG_RING_OPEN));
        assert_int_equal(ivg_link_alive(link), -EOWNERDEAD);
        ivg_store_release_u64(status, ivg_channel_word(1, IVG_RING_OPEN));
        assert_int_equal(ivg_link_alive(link), 0);
        ivg_store_release_u64(host, ivg_channel_word(1, IVG_HOST_CHANNEL_DEAD));
        assert_int_equal(ivg_link_alive(link), -EOWNERDEAD);
        ivg_store_release_u64(host, ivg_channel_word(2, IVG_HOST_CHANNEL_FREE));
        assert_int_equal(ivg_link_alive(link), -EOWNERDEAD);
        ivg_store_release_u64(host, ivg_channel_word(1, IVG_HOST_CHANNEL_READY));
        assert_int_equal(ivg_link_alive(link), 0);
        fake_mediator_hang_up(&fake);
        assert_int_equal(alive_becomes(link, -EPIPE), -EPIPE);
        ivg_link_close(link);
        fake_mediator_stop(&fake);
}

static void a_forked_child_lets_go_without_a_word(void **state)
{
        struct fake_mediator fake;
        struct ivg_link *link;
        int status;
        pid_t child;

        (void)state;
        fake_mediator_start(&fake, FAKE_READY);
        link = fake_mediator_link(&fake);
        child = fork();
        if (child == 0) {
                const int socket = link->socket_fd;

                ivg_link_abandon(link);
                _exit(fcntl(socket, F_GETFD) == -1 ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        usleep(20000);
        assert_int_equal(atomic_load(&fake.closed_generation), 0);
        assert_int_equal(ivg_link_alive(link), 0);
        ivg_link_close(link);
        fake_mediator_stop(&fake);
}

static void the_arena_window_ends_with_the_link(void **state)
{
        struct fake_mediator fake;
        struct ivg_link *link;
        void *window = NULL;
        int rc = -EEXIST;

        (void)state;
        fake_mediator_start(&fake, FAKE_READY);
        link = fake_mediator_link(&fake);
        for (uint32_t i = 0; i < IVG_WINDOW_ATTEMPTS_MAX && rc != 0; i++) {
                window = ivg_region_window_candidate(ivg_link_region(link), i);
                rc = ivg_link_map_arena(link, window);
        }
        assert_int_equal(rc, 0);
        *(volatile uint8_t *)window = 1;
        assert_int_equal(ivg_link_map_arena(link, window), -EALREADY);
        ivg_link_unmap_arena(link);
        assert_int_equal(msync(window, 4096, MS_ASYNC), -1);
        assert_int_equal(ivg_link_map_arena(link, window), 0);
        ivg_link_close(link);
        assert_int_equal(msync(window, 4096, MS_ASYNC), -1);
        assert_int_equal(errno, ENOMEM);
        fake_mediator_stop(&fake);
}

static void shutdown_tells_the_mediator_and_leaves_mappings(void **state)
{
        struct fake_mediator fake;
        struct ivg_link *link;
        const uint64_t deadline_ns = ivg_now_ns() + 5000 * IVG_NS_PER_MS;

        (void)state;
        fake_mediator_start(&fake, FAKE_READY);
        link = fake_mediator_link(&fake);
        ivg_link_shutdown(link);
        while (atomic_load(&fake.closed_generation) == 0 && ivg_now_ns() < deadline_ns)
                usleep(1000);
        assert_int_equal(atomic_load(&fake.closed_generation), 1);
        assert_int_equal(ivg_link_alive(link), 0); /* still readable: another thread may be looking */
        ivg_link_close(link);
        fake_mediator_stop(&fake);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(opens_and_closes_in_order),
                cmocka_unit_test(claims_again_when_the_epoch_ended_the_generation),
                cmocka_unit_test(each_misbehaviour_is_named),
                cmocka_unit_test(our_version_is_refused_by_the_mediator_in_words),
                cmocka_unit_test(absent_refused_and_forbidden_are_told_apart),
                cmocka_unit_test(a_search_names_every_place_it_tried),
                cmocka_unit_test(each_end_of_the_peer_has_its_error),
                cmocka_unit_test(a_forked_child_lets_go_without_a_word),
                cmocka_unit_test(the_arena_window_ends_with_the_link),
                cmocka_unit_test(shutdown_tells_the_mediator_and_leaves_mappings),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
