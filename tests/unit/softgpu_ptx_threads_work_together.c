/* Kernels of ptx/programs.cu in which threads of a warp, warps of a block and blocks of a grid need each other. */
#include "softgpu_ptx_programs.h"

static void blocks_reduce_in_dynamic_shared_memory(void **unused)
{
        enum { N = 50000 };
        int *in = device_buffer(device, N * 4), *out = device_buffer(device, 4), sum = 0;
        struct shape shape = line(13, 256);

        (void)unused;
        for (int i = 0; i < N; i++)
                sum += in[i] = i % 1000 - 300;
        shape.shared = 256 * 4;
        RUN(device, "reduce_shared", shape, ARGUMENT(in), ARGUMENT(out), N);
        assert_int_equal(*out, sum);
}

static void warps_scan(void **unused)
{
        int *in = device_buffer(device, 4096), *out = device_buffer(device, 4096), sum = 0;

        (void)unused;
        for (int i = 0; i < 1024; i++)
                in[i] = i * 7 % 31 - 9;
        RUN(device, "scan_warp", line(1, 1024), ARGUMENT(in), ARGUMENT(out));
        for (int i = 0; i < 1024; i++) {
                sum += in[i];
                assert_int_equal(out[i], sum);
        }
}

static void lanes_exchange_values(void **unused)
{
        int *in = device_buffer(device, 128), *out = device_buffer(device, 11 * 128);
        unsigned odd = 0, second = 0;
        int seventeen = 0;

        (void)unused;
        for (int i = 0; i < 32; i++) {
                in[i] = (i * 13 + 5) % 40;
                odd |= (unsigned)(in[i] & 1) << i;
                seventeen |= in[i] == 17;
                second |= (unsigned)(in[i] >> 1 & 1) << i;
        }
        RUN(device, "shuffles", line(1, 32), ARGUMENT(in), ARGUMENT(out));
        for (int i = 0; i < 32; i++) {
                unsigned same = 0;

                for (int k = 0; k < 32; k++)
                        same |= (unsigned)((in[k] & 3) == (in[i] & 3)) << k;
                assert_int_equal(out[i], in[i ^ 5]);
                assert_int_equal(out[32 + i], in[(i & ~7) + i * 7 % 8]);
                assert_int_equal(out[64 + i], in[i % 16 + 3 < 16 ? i + 3 : i]);
                assert_int_equal(out[96 + i], in[i % 4 >= 2 ? i - 2 : i]);
                assert_int_equal(out[128 + i], (int)odd);
                assert_int_equal(out[160 + i], 1 + 2 * seventeen);
                assert_int_equal(out[192 + i], (int)same);
                assert_int_equal(out[224 + i], 0);
                assert_int_equal(out[256 + i], 32);
                assert_int_equal(out[288 + i], i & 1 ? (int)(second & 0xaaaaaaaau) + in[3] : in[i ^ 2]);
                assert_int_equal(out[320 + i], in[31 - i] / 2);
        }
}

static void blocks_count_into_one_histogram(void **unused)
{
        enum { N = 30000 };
        unsigned char *in = device_buffer(device, N);
        uint32_t *bins = device_buffer(device, 1024), wanted[256] = {0};
        uint64_t state = 11;

        (void)unused;
        for (int i = 0; i < N; i++)
                wanted[in[i] = (unsigned char)(next_random(&state) & next_random(&state))]++;
        RUN(device, "histogram", line(7, 192), ARGUMENT(in), ARGUMENT(bins), N);
        assert_memory_equal(bins, wanted, sizeof(wanted));
}

static void atomics_lose_nothing(void **unused)
{
        enum { BLOCKS = 8, THREADS = 160, N = BLOCKS * THREADS };
        int *i = device_buffer(device, 64);
        uint32_t *u = device_buffer(device, 64), x = 0;
        uint64_t *l = device_buffer(device, 64), sum = 0;
        float *f = device_buffer(device, 4);
        double *d = device_buffer(device, 8);
        uint16_t *h = device_buffer(device, 4);

        (void)unused;
        u[0] = ~0u;
        u[3] = 0;
        u[4] = 0;
        for (uint32_t t = 0; t < N; t++) {
                x ^= t;
                sum += t;
        }
        RUN(device, "atomics", line(BLOCKS, THREADS), ARGUMENT(i), ARGUMENT(u), ARGUMENT(l), ARGUMENT(f), ARGUMENT(d),
            ARGUMENT(h));
        assert_int_equal(i[0], sum);
        assert_int_equal(i[1], -(int)sum);
        assert_int_equal(i[2], 100 - (N - 1));
        assert_int_equal(i[3], 3 * (N - 1));
        assert_int_equal(u[0], 0);
        assert_int_equal(u[1], 0xffff);
        assert_int_equal(u[2], x);
        assert_int_equal(u[3], N % 10);
        assert_int_equal(u[4], (7 - N % 7) % 7);
        assert_int_equal(u[5], 0xf0000000u);
        assert_int_equal(u[6], 2 * N);
        assert_int_equal((uint16_t)u[7], N);
        assert_true(l[0] == sum << 32);
        assert_int_equal(l[1], (uint64_t)(N - 1) * (N - 1));
        assert_int_equal(l[2] + l[3], sum); /* every value was put in once and is taken out once, or still there */
        assert_true(*f == N * 0.5f && *d == N * 0.25);
        assert_int_equal(h[0], 0x6500); /* 1280 */
        assert_int_equal(h[1], 0x6900); /* 2560: above 2048 halves count by twos, and twos are what is added */
}

static int compare(const void *a, const void *b)
{
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return x < y ? -1 : x > y;
}

static void a_block_sorts(void **unused)
{
        uint32_t *data = device_buffer(device, 2048), wanted[512];
        uint64_t state = 12;

        (void)unused;
        for (int i = 0; i < 512; i++)
                wanted[i] = data[i] = (uint32_t)next_random(&state);
        qsort(wanted, 512, 4, compare);
        RUN(device, "bitonic_sort", line(1, 256), ARGUMENT(data));
        assert_memory_equal(data, wanted, sizeof(wanted));
}

/* Without progress for every lane these two would never end. */
static void lanes_of_a_warp_take_one_lock(void **unused)
{
        int *lock = device_buffer(device, 4), *counter = device_buffer(device, 4);

        (void)unused;
        RUN(device, "spin_lock", line(3, 64), ARGUMENT(lock), ARGUMENT(counter));
        assert_int_equal(*counter, 192);
        RUN(device, "spin_lock_plain", line(2, 64), ARGUMENT(lock), ARGUMENT(counter));
        assert_int_equal(*counter, 192 + 128);
        assert_int_equal(*lock, 0);
}

static void lanes_wait_for_later_lanes(void **unused)
{
        int *flag = device_buffer(device, 4), *out = device_buffer(device, 128);

        (void)unused;
        RUN(device, "lanes_wait", line(1, 32), ARGUMENT(flag), ARGUMENT(out));
        for (int t = 0; t < 32; t++)
                assert_int_equal(out[t], t < 16 ? 7 : 1);
}

static void blocks_wait_for_earlier_blocks(void **unused)
{
        enum { BLOCKS = 200 };
        int *sums = device_buffer(device, BLOCKS * 4), *out = device_buffer(device, BLOCKS * 4);

        (void)unused;
        for (unsigned workers = 0; workers < 2; workers++) {
                struct shape shape = line(BLOCKS, 32);

                shape.workers = workers;
                memset(sums, 0, BLOCKS * 4);
                RUN(device, "chained_blocks", shape, ARGUMENT(sums), ARGUMENT(out));
                for (int i = 0; i < BLOCKS; i++)
                        assert_int_equal(out[i], (i + 1) * (i + 2) / 2);
        }
}

static void a_cooperative_grid_meets(void **unused)
{
        enum { BLOCKS = 24, THREADS = 64, N = BLOCKS * THREADS, ROUNDS = 5 };
        int *data = device_buffer(device, 2 * N * 4), *out = device_buffer(device, N * 4);
        struct shape shape = line(BLOCKS, THREADS);

        (void)unused;
        shape.cooperative = true;
        for (unsigned workers = 0; workers < 2; workers++) {
                shape.workers = workers;
                for (int i = 0; i < N; i++)
                        data[i] = i * i % 1000;
                RUN(device, "grid_sync", shape, ARGUMENT(data), ARGUMENT(out), ROUNDS);
                for (int i = 0; i < N; i++) {
                        int from = (i + ROUNDS) % N;

                        assert_int_equal(out[i], from * from % 1000 + ROUNDS + 1000);
                }
        }
}

static void barriers_reduce_votes(void **unused)
{
        int *in = device_buffer(device, 400), *out = device_buffer(device, 400), count = 0;

        (void)unused;
        for (int i = 0; i < 100; i++)
                count += (in[i] = (i * 29) % 64) > 10;
        RUN(device, "barrier_votes", line(1, 100), ARGUMENT(in), ARGUMENT(out));
        for (int i = 0; i < 100; i++)
                assert_int_equal(out[i], count * 4 + 2 + 1);
        in[3] = -1;
        for (int i = 0; i < 100; i++)
                if (in[i] == 63)
                        in[i] = 11;
        RUN(device, "barrier_votes", line(1, 100), ARGUMENT(in), ARGUMENT(out));
        assert_int_equal(out[50] & 3, 0);
}

static void barriers_have_numbers_and_counts(void **unused)
{
        int *out = device_buffer(device, 512);

        (void)unused;
        RUN(device, "named_barriers", line(1, 128), ARGUMENT(out));
        for (int t = 0; t < 128; t++) {
                int wanted = (t / 64 * 64 + (t + 17) % 64) * 3;

                if (t >= 32 && t < 64)
                        wanted += 1000 + t - 32;
                assert_int_equal(out[t], wanted);
        }
}

static void diverged_threads_meet_at_barriers(void **unused)
{
        int *out = device_buffer(device, 512);

        (void)unused;
        RUN(device, "diverged_barrier", line(1, 64), ARGUMENT(out));
        for (int t = 0; t < 64; t++)
                assert_int_equal(out[t], t & 1 ? 9 : 5);
        RUN(device, "early_exit", line(1, 96), ARGUMENT(out));
        for (int t = 10; t < 70; t++) {
                unsigned odd = 0xaaaaaaaau & (t < 32 ? 0xfffffc00u : t < 64 ? ~0u : 0x3fu);

                assert_int_equal(out[t], (int)((unsigned)((t + 1) % 70) + odd));
        }
}

static void parts_of_a_warp_meet(void **unused)
{
        int *in = device_buffer(device, 512), *out = device_buffer(device, 512);

        (void)unused;
        RUN(device, "warp_barriers", line(1, 32), ARGUMENT(out));
        for (int t = 0; t < 32; t++) {
                int other = (t + 8) % 32;

                assert_int_equal(out[t], (t < 8 ? 10 : 39 - t) + (other < 8 ? 10 : other));
        }
        for (int i = 0; i < 64; i++)
                in[i] = i * 11 % 23;
        RUN(device, "cooperative_tiles", line(1, 64), ARGUMENT(in), ARGUMENT(out));
        for (int t = 0; t < 64; t++) {
                int sum = 0, size = 0, rank = 0;

                for (int k = t & ~7; k < (t & ~7) + 8; k++)
                        sum += in[k];
                for (int k = t & ~31; k < (t & ~31) + 32; k++) {
                        size += in[k] & 1;
                        rank += k < t && (in[k] & 1);
                }
                assert_int_equal(out[t], sum + (in[t] & 1 ? size * 100 + rank : 0) * 10000 + t / 8);
        }
}

#define PROGRAM(TEST) cmocka_unit_test_setup_teardown(TEST, open_programs, close_programs)

int main(void)
{
        const struct CMUnitTest tests[] = {
                PROGRAM(blocks_reduce_in_dynamic_shared_memory),
                PROGRAM(warps_scan),
                PROGRAM(lanes_exchange_values),
                PROGRAM(blocks_count_into_one_histogram),
                PROGRAM(atomics_lose_nothing),
                PROGRAM(a_block_sorts),
                PROGRAM(lanes_of_a_warp_take_one_lock),
                PROGRAM(lanes_wait_for_later_lanes),
                PROGRAM(blocks_wait_for_earlier_blocks),
                PROGRAM(a_cooperative_grid_meets),
                PROGRAM(barriers_reduce_votes),
                PROGRAM(barriers_have_numbers_and_counts),
                PROGRAM(diverged_threads_meet_at_barriers),
                PROGRAM(parts_of_a_warp_meet),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
