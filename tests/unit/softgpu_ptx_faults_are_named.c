/* What a kernel may do wrong while it runs, and what the launch then tells. Nothing outside the buffers may change. */
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "softgpu_ptx_programs.h"

static void assert_detail(const char *part)
{
        if (!strstr(device->fault.detail, part))
                fail_msg("'%s' does not name '%s'", device->fault.detail, part);
        assert_true(device->fault.line > 0);
}

static void accesses_out_of_bounds(void **unused)
{
        int *out = device_buffer(device, 256), *in = device_buffer(device, 256);

        (void)unused;
        RUN(device, "write_at", line(1, 1), ARGUMENT(out), 63);
        assert_int_equal(out[63], 5);
        assert_int_equal(LAUNCH(device, "write_at", line(1, 1), ARGUMENT(out), 64), PTX_ILLEGAL_ADDRESS);
        assert_detail("write of 4 bytes at global address");
        assert_int_equal(device->fault.address, ARGUMENT(&out[64]));
        assert_int_equal(LAUNCH(device, "write_at", line(1, 1), ARGUMENT(out), (uint64_t)-1), PTX_ILLEGAL_ADDRESS);
        assert_int_equal(LAUNCH(device, "write_at", line(1, 1), 0, 0), PTX_ILLEGAL_ADDRESS);
        assert_int_equal(device->fault.address, 0);
        assert_int_equal(LAUNCH(device, "write_at", line(1, 1), UINT64_MAX - 3, 0), PTX_ILLEGAL_ADDRESS);
        RUN(device, "read_at", line(1, 1), ARGUMENT(in), ARGUMENT(out), 5);
        assert_int_equal(LAUNCH(device, "read_at", line(1, 1), ARGUMENT(in), ARGUMENT(out), 1ull << 40),
                         PTX_ILLEGAL_ADDRESS);
        assert_detail("read of 4 bytes at global address");
}

static void writes_to_read_only_ranges(void **unused)
{
        int *out = device_buffer(device, 256);

        (void)unused;
        for (size_t i = 0; i < device->range_count; i++)
                if (device->ranges[i].start == ARGUMENT(out))
                        device->ranges[i].writable = false;
        RUN(device, "read_at", line(1, 1), ARGUMENT(out), ARGUMENT(device_buffer(device, 8)), 0);
        assert_int_equal(LAUNCH(device, "write_at", line(1, 1), ARGUMENT(out), 0), PTX_ILLEGAL_ADDRESS);
        assert_int_equal(out[0], 0);
}

static void windows_have_their_bounds(void **unused)
{
        int *out = device_buffer(device, 256);

        (void)unused;
        RUN(device, "shared_at", line(1, 32), ARGUMENT(out), 31);
        assert_int_equal(out[4], 31);
        assert_int_equal(LAUNCH(device, "shared_at", line(1, 32), ARGUMENT(out), 32), PTX_ILLEGAL_ADDRESS);
        assert_detail("shared address 0x80");
        assert_int_equal(LAUNCH(device, "shared_at", line(1, 32), ARGUMENT(out), (uint64_t)-1), PTX_ILLEGAL_ADDRESS);
        memset(out, 0, 256);
        RUN(device, "local_at", line(1, 1), ARGUMENT(out), 0);
        assert_int_equal(out[0], 3);
        assert_int_equal(LAUNCH(device, "local_at", line(1, 1), ARGUMENT(out), 1 << 20), PTX_ILLEGAL_ADDRESS);
        assert_detail("local address");
}

static void misaligned_accesses(void **unused)
{
        int *out = device_buffer(device, 256);

        (void)unused;
        assert_int_equal(LAUNCH(device, "read_misaligned", line(1, 1), ARGUMENT(out), ARGUMENT(out)), PTX_MISALIGNED);
        assert_detail("misaligned");
        assert_int_equal(device->fault.address, ARGUMENT(out) + 2);
}

static void traps_tell_block_and_thread(void **unused)
{
        int *out = device_buffer(device, 256);
        struct shape shape = {.grid = {1, 2, 1}, .block = {16, 4, 1}, .workers = 1};

        (void)unused;
        /* threadIdx.x alone never reaches 37 in this shape. */
        RUN(device, "traps", shape, ARGUMENT(out));
        assert_int_equal(LAUNCH(device, "traps", line(3, 64), ARGUMENT(out)), PTX_TRAP);
        assert_detail("trap");
        assert_int_equal(device->fault.thread[0], 37);
        assert_int_equal(device->fault.thread[1], 0);
        assert_int_equal(out[37], 1);
}

static void assertions_tell_their_text(void **unused)
{
        int *in = device_buffer(device, 256);

        (void)unused;
        in[7] = 50;
        RUN(device, "asserts", line(1, 32), ARGUMENT(in), 51);
        assert_int_equal(in[7], -1);
        in[9] = 60;
        assert_int_equal(LAUNCH(device, "asserts", line(1, 32), ARGUMENT(in), 51), PTX_ASSERT);
        assert_detail("in[threadIdx.x] < limit");
        assert_detail("programs.cu");
        assert_int_equal(device->fault.thread[0], 9);
}

static void barriers_that_cannot_complete(void **unused)
{
        int *out = device_buffer(device, 1024);

        (void)unused;
        assert_int_equal(LAUNCH(device, "barrier_for_some", line(1, 64), ARGUMENT(out)), PTX_BARRIER);
        assert_detail("barrier 1");
        assert_int_equal(LAUNCH(device, "warp_barrier_for_some", line(1, 32), ARGUMENT(out)), PTX_BARRIER);
        assert_detail("wait forever");
}

static void calls_that_cannot_return(void **unused)
{
        int *out = device_buffer(device, 256);

        (void)unused;
        assert_int_equal(LAUNCH(device, "endless_recursion", line(1, 32), ARGUMENT(out), 3), PTX_ILLEGAL_ADDRESS);
        assert_detail("stack overflow");
        assert_int_equal(LAUNCH(device, "call_nowhere", line(1, 32), ARGUMENT(out), 0), PTX_ILLEGAL_ADDRESS);
        assert_detail("no function");
        assert_int_equal(LAUNCH(device, "call_nowhere", line(1, 32), ARGUMENT(out), ARGUMENT(out)),
                         PTX_ILLEGAL_ADDRESS);
}

static void shapes_beyond_the_limits(void **unused)
{
        int *out = device_buffer(device, 8192);
        struct shape shape = line(1, 32);

        (void)unused;
        assert_int_equal(LAUNCH(device, "bounded", line(1, 65), ARGUMENT(out)), PTX_OUT_OF_RESOURCES);
        RUN(device, "bounded", line(1, 64), ARGUMENT(out));
        assert_int_equal(LAUNCH(device, "traps", line(1, 1025), ARGUMENT(out)), PTX_INVALID);
        shape.shared = 228 << 10;
        assert_int_equal(LAUNCH(device, "traps", shape, ARGUMENT(out)), PTX_OUT_OF_RESOURCES);
        shape.shared = UINT32_MAX;
        assert_int_equal(LAUNCH(device, "traps", shape, ARGUMENT(out)), PTX_OUT_OF_RESOURCES);
        shape.shared = 227 << 10;
        RUN(device, "traps", shape, ARGUMENT(out));
        shape = line(PTX_RESIDENT_BLOCKS_MAX + 1, 1);
        shape.cooperative = true;
        assert_int_equal(LAUNCH(device, "traps", shape, ARGUMENT(out)), PTX_OUT_OF_RESOURCES);
        shape = (struct shape){.grid = {1, 65536, 1}, .block = {1, 1, 1}};
        assert_int_equal(LAUNCH(device, "traps", shape, ARGUMENT(out)), PTX_INVALID);
        shape = (struct shape){.grid = {1, 1, 1}, .block = {1, 1, 65}};
        assert_int_equal(LAUNCH(device, "traps", shape, ARGUMENT(out)), PTX_INVALID);
}

struct aborted {
        const char *kernel;
        uint32_t blocks;
        _Atomic(uint32_t) flag;
        enum ptx_status status;
        double seconds;
};

static void *launch_endless(void *context)
{
        struct aborted *a = context;
        int *word = (int *)(uintptr_t)device->ranges[0].start;
        struct ptx_launch launch = {.grid = {a->blocks, 1, 1}, .block = {64, 1, 1}, .abort = &a->flag};
        void *params = &word;

        launch.function = ptx_function_find(device->module, a->kernel);
        launch.params = params;
        launch.memory = &device->memory;
        a->status = ptx_launch(&launch, &device->fault);
        return NULL;
}

static void endless_kernels_stop_when_told(void **unused)
{
        static const char *const kernels[] = {"endless", "endless_barrier"};

        (void)unused;
        for (unsigned i = 0; i < 4; i++) {
                struct aborted a = {.kernel = kernels[i & 1], .blocks = i < 2 ? 1 : 20, .status = PTX_OK};
                struct timespec start, end, wait = {0, 50000000};
                pthread_t thread;
                int *word = device_buffer(device, 4096);

                /* The kernel's word is in the first range: give it one of zeros only. */
                (void)word;
                device->ranges[0].bytes = device->ranges[0].bytes < 4096 ? device->ranges[0].bytes : 4096;
                *(int *)(uintptr_t)device->ranges[0].start = 0;
                device->memory = (struct ptx_memory){device->ranges, device->range_count};
                assert_int_equal(pthread_create(&thread, NULL, launch_endless, &a), 0);
                nanosleep(&wait, NULL);
                clock_gettime(CLOCK_MONOTONIC, &start);
                a.flag = 1;
                pthread_join(thread, NULL);
                clock_gettime(CLOCK_MONOTONIC, &end);
                assert_int_equal(a.status, PTX_ABORTED);
                assert_true(end.tv_sec - start.tv_sec < 20);
        }
}

static void an_aborted_launch_does_not_start(void **unused)
{
        int *out = device_buffer(device, 4096);
        struct aborted a = {.kernel = "bounded", .blocks = 1, .flag = 1};

        (void)unused;
        (void)out;
        device->memory = (struct ptx_memory){device->ranges, device->range_count};
        launch_endless(&a);
        assert_int_equal(a.status, PTX_ABORTED);
}

static void *launch_often(void *context)
{
        int *out = context;
        struct ptx_launch launch = {.grid = {3, 1, 1}, .block = {64, 1, 1}};

        launch.function = ptx_function_find(device->module, "recursion");
        launch.params = &out;
        launch.memory = &device->memory;
        for (int i = 0; i < 50; i++)
                if (ptx_launch(&launch, NULL) != PTX_OK)
                        return context;
        return NULL;
}

static void launches_run_side_by_side(void **unused)
{
        pthread_t threads[4];
        int *out[4];

        (void)unused;
        for (int i = 0; i < 4; i++)
                out[i] = device_buffer(device, 256);
        device->memory = (struct ptx_memory){device->ranges, device->range_count};
        for (int i = 0; i < 4; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, launch_often, out[i]), 0);
        for (int i = 0; i < 4; i++) {
                void *failed;

                pthread_join(threads[i], &failed);
                assert_null(failed);
                assert_int_equal(out[i][12], 144);
        }
}

#define PROGRAM(TEST) cmocka_unit_test_setup_teardown(TEST, open_programs, close_programs)

int main(void)
{
        const struct CMUnitTest tests[] = {
                PROGRAM(accesses_out_of_bounds),           PROGRAM(writes_to_read_only_ranges),
                PROGRAM(windows_have_their_bounds),        PROGRAM(misaligned_accesses),
                PROGRAM(traps_tell_block_and_thread),      PROGRAM(assertions_tell_their_text),
                PROGRAM(barriers_that_cannot_complete),    PROGRAM(calls_that_cannot_return),
                PROGRAM(shapes_beyond_the_limits),         PROGRAM(endless_kernels_stop_when_told),
                PROGRAM(an_aborted_launch_does_not_start), PROGRAM(launches_run_side_by_side),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
