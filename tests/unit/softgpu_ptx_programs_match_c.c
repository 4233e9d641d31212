/* Ordinary kernels of ptx/programs.cu: loads and stores, control flow, calls, module variables; each against the same
 * computation in C. */
#include <math.h>

#include "softgpu_ptx_programs.h"

static void a_grid_of_partial_blocks_adds_vectors(void **unused)
{
        const int n = 100003;
        float *a = device_buffer(device, n * 4), *b = device_buffer(device, n * 4), *c = device_buffer(device, n * 4);

        (void)unused;
        for (int i = 0; i < n; i++) {
                a[i] = (float)i * 0.5f;
                b[i] = (float)(i % 97) - 3;
        }
        RUN(device, "vector_add", line((n + 255) / 256, 256), ARGUMENT(a), ARGUMENT(b), ARGUMENT(c), (uint64_t)n);
        for (int i = 0; i < n; i++)
                if (c[i] != a[i] + b[i])
                        fail_msg("element %d", i);
}

static void tiles_in_shared_memory_multiply_matrices(void **unused)
{
        enum { N = 64 };
        float *a = device_buffer(device, N * N * 4), *b = device_buffer(device, N * N * 4);
        float *c = device_buffer(device, N * N * 4);
        struct shape shape = {.grid = {N / 16, N / 16, 1}, .block = {16, 16, 1}};

        (void)unused;
        for (int i = 0; i < N * N; i++) {
                a[i] = (float)(i % 13) * 0.37f - 2;
                b[i] = (float)(i % 17) * 0.11f + 1;
        }
        RUN(device, "matmul", shape, ARGUMENT(a), ARGUMENT(b), ARGUMENT(c), N);
        for (int row = 0; row < N; row++)
                for (int column = 0; column < N; column++) {
                        float sum = 0;

                        for (int k = 0; k < N; k++)
                                sum = fmaf(a[row * N + k], b[k * N + column], sum);
                        if (c[row * N + column] != sum)
                                fail_msg("row %d column %d: %a, not %a", row, column, (double)c[row * N + column],
                                         (double)sum);
                }
}

static void loops_diverge_by_data(void **unused)
{
        enum { WIDTH = 64 };
        uint32_t *out = device_buffer(device, WIDTH * WIDTH * 4);
        struct shape shape = {.grid = {WIDTH / 32, WIDTH / 4, 1}, .block = {32, 4, 1}};

        (void)unused;
        RUN(device, "mandelbrot", shape, ARGUMENT(out), WIDTH);
        for (int y = 0; y < WIDTH; y++)
                for (int x = 0; x < WIDTH; x++) {
                        /* nvcc may contract the two products outside the loop: it does, into one fma each. */
                        float cr = fmaf((float)x, 3.0f / WIDTH, -2.0f), ci = fmaf((float)y, 2.0f / WIDTH, -1.0f);
                        float zr = 0, zi = 0;
                        uint32_t n = 0;

                        while (n < 200 && zr * zr + zi * zi < 4.0f) {
                                float t = zr * zr - zi * zi + cr;

                                zi = 2 * (zr * zi) + ci;
                                zr = t;
                                n++;
                        }
                        assert_int_equal(out[y * WIDTH + x], n);
                }
}

static int nested_model(int thread, int v)
{
        int sum = 0;

        for (int i = 0; i < v; i++) {
                if (i % 3 == 0) {
                        for (int k = 0; k < thread % 5; k++) {
                                sum += k * i;
                                if (sum % 11 == 3)
                                        break;
                        }
                } else if (i % 7 == 4) {
                        sum ^= i;
                        continue;
                }
                sum += 1;
        }
        return sum;
}

static void nested_loops_meet_again(void **unused)
{
        int *in = device_buffer(device, 256), *out = device_buffer(device, 256);

        (void)unused;
        for (int t = 0; t < 64; t++)
                in[t] = (t * 37) % 90;
        RUN(device, "nested_loops", line(1, 64), ARGUMENT(in), ARGUMENT(out));
        for (int t = 0; t < 64; t++)
                assert_int_equal(out[t], nested_model(t, in[t]) + nested_model(t ^ 1, in[t ^ 1]));
}

static void switches_take_their_table(void **unused)
{
        int *in = device_buffer(device, 256), *out = device_buffer(device, 256);

        (void)unused;
        for (int t = 0; t < 64; t++)
                in[t] = t % 12 - 1;
        RUN(device, "switches", line(1, 64), ARGUMENT(in), ARGUMENT(out));
        for (int t = 0; t < 64; t++) {
                int wanted[] = {-1, 11,   4, __builtin_popcount((unsigned)t), -5, t * t, 77, 6 << t % 8, -1,
                                -1, 1234, -1};

                assert_int_equal(out[t], wanted[t % 12]);
        }
}

struct point {
        int a;
        double b;
        char c[5];
        float v[3];
};

static struct point change(struct point p, int by)
{
        p.a += by;
        p.b *= by;
        p.c[by & 3] = (char)by;
        for (int i = 0; i < 3; i++)
                p.v[i] += (float)(i * by);
        return p;
}

static void structures_pass_by_value(void **unused)
{
        struct point p = {7, 1.25, {1, 2, 3, 4, 5}, {0.5f, -1, 2}};
        int *out = device_buffer(device, 256);
        double *reals = device_buffer(device, 512);

        (void)unused;
        RUN(device, "structures", line(1, 64), ARGUMENT(&p), ARGUMENT(out), ARGUMENT(reals));
        for (int t = 0; t < 64; t++) {
                struct point q = change(change(p, t), 3);

                assert_int_equal(out[t], q.a + q.c[0] + q.c[1] * 2 + q.c[2] * 4 + q.c[3] * 8 + q.c[4]);
                assert_true(reals[t] == q.b + (double)q.v[0] + (double)q.v[1] + (double)q.v[2]);
        }
}

static int fibonacci(int n)
{
        return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static void lanes_recurse_to_their_own_depth(void **unused)
{
        int *out = device_buffer(device, 256);

        (void)unused;
        RUN(device, "recursion", line(1, 64), ARGUMENT(out));
        for (int t = 0; t < 64; t++)
                assert_int_equal(out[t], fibonacci(t % 13));
}

static void pointers_and_virtual_functions_are_called(void **unused)
{
        int *out = device_buffer(device, 256);

        (void)unused;
        RUN(device, "function_pointers", line(1, 64), ARGUMENT(out));
        for (int t = 0; t < 64; t++)
                assert_int_equal(out[t], t % 3 == 0 ? t + 5 : t % 3 == 1 ? t * 5 : t - 5);
        RUN(device, "virtual_calls", line(1, 64), ARGUMENT(out));
        for (int t = 0; t < 64; t++)
                assert_int_equal(out[t], t & 1 ? t * 3 + 1 : t * t * 2);
}

static void module_variables_have_values_and_addresses(void **unused)
{
        static const int weights[8] = {1, -2, 3, -4, 5, -6, 7, -8};
        static const double numbers[2][3] = {{1.5, 2.5, 3.5}, {-1, -2, 0}};
        static const float late[4] = {10, 20, 30, 40};
        int *out = device_buffer(device, 256), *counter;
        void *address;
        size_t bytes;

        (void)unused;
        assert_true(ptx_global_find(device->module, "late", &address, &bytes));
        assert_int_equal(bytes, sizeof(late));
        memcpy(address, late, sizeof(late));
        assert_true(ptx_global_find(device->module, "counter", &address, &bytes));
        assert_int_equal(bytes, 4);
        counter = address;
        assert_int_equal(*counter, 40);
        assert_false(ptx_global_find(device->module, "vector_add", &address, &bytes));
        assert_false(ptx_global_find(device->module, "nothing", &address, &bytes));
        RUN(device, "module_variables", line(1, 64), ARGUMENT(out));
        assert_int_equal(*counter, 40 + 64);
        for (int t = 0; t < 64; t++)
                assert_int_equal(out[t], weights[t & 7] * "global text"[t % 11] + (int)(numbers[t & 1][t % 3] * 2) +
                                                 (int)late[t & 3]);
}

static void local_arrays_belong_to_their_thread(void **unused)
{
        int *in = device_buffer(device, 256), *out = device_buffer(device, 256);

        (void)unused;
        for (int t = 0; t < 64; t++)
                in[t] = (t * 7919) % 101;
        RUN(device, "local_arrays", line(1, 64), ARGUMENT(in), ARGUMENT(out));
        for (int t = 0; t < 64; t++) {
                int stack[24], top = 0, sum;

                for (int i = 0; i < 24; i++) {
                        int v = in[(t + i) % 64];

                        if (v & 1 || top == 0)
                                stack[top++] = v;
                        else
                                v += stack[--top];
                        if (top)
                                stack[top / 2] ^= v;
                }
                sum = top;
                for (int i = 0; i < top; i++)
                        sum = (int)((unsigned)sum * 31 + (unsigned)stack[i]);
                assert_int_equal(out[t], sum);
        }
}

static void grids_have_three_dimensions(void **unused)
{
        uint32_t *out = device_buffer(device, 2 * 3 * 4 * 5 * 3 * 7 * 4);
        struct shape shape = {.grid = {2, 3, 4}, .block = {5, 3, 7}};

        (void)unused;
        RUN(device, "indices", shape, ARGUMENT(out));
        for (uint32_t block = 0; block < 24; block++)
                for (uint32_t thread = 0; thread < 105; thread++)
                        assert_int_equal(out[block * 105 + thread],
                                         thread % 5 | thread / 5 % 3 << 4 | thread / 15 << 8 | block % 2 << 12 |
                                                 block / 2 % 3 << 16 | block / 6 << 20 | 1u << 24);
}

static void generic_addresses_know_their_space(void **unused)
{
        int *out = device_buffer(device, 256);

        (void)unused;
        RUN(device, "spaces", line(1, 64), ARGUMENT(out));
        for (int t = 0; t < 64; t++) {
                int own = t + (t & 3);

                assert_int_equal(out[t], t & 1 ? 7 + 700 + own * 10000 + 1000000 + 4000000
                                               : own + 2 + 500 + (own + 2) * 10000 + 2000000 + 4000000);
        }
}

static void accesses_of_every_width_move_their_bytes(void **unused)
{
        enum { N = 1024 };
        char *in = device_buffer(device, N), *out = device_buffer(device, N * 5);
        uint64_t state = 9;

        (void)unused;
        for (int i = 0; i < N; i++)
                in[i] = (char)next_random(&state);
        RUN(device, "byte_copies", line(1, 96), ARGUMENT(in), ARGUMENT(out), N);
        assert_memory_equal(out, in, N);
        for (int i = 0; i < N / 16; i++) {
                int16_t s[2], t[2];
                unsigned char *c = (unsigned char *)out + 2 * N + 4 * i, *from = (unsigned char *)in + 4 * i;

                memcpy(s, in + 4 * i, 4);
                memcpy(t, out + N + 4 * i, 4);
                assert_int_equal(t[0], (int16_t)(s[0] + s[1]));
                assert_int_equal(t[1], s[1]);
                assert_true(c[0] == from[0] && c[1] == from[1] && c[2] == from[2]);
                assert_int_equal(c[3], (unsigned char)(from[0] - from[1]));
                assert_memory_equal(out + 3 * N + 16 * i, in + 16 * i + 8, 8);
                assert_memory_equal(out + 3 * N + 16 * i + 8, in + 16 * i, 8);
                memcpy(s, out + 4 * N + 2 * i, 2);
                assert_int_equal(s[0], (signed char)in[i]);
        }
}

static void wide_divisions_are_exact(void **unused)
{
        int64_t *a = device_buffer(device, 512), *b = device_buffer(device, 512), *out = device_buffer(device, 512);
        uint64_t state = 10;

        (void)unused;
        for (int i = 0; i < 64; i++) {
                a[i] = (int64_t)next_random(&state);
                b[i] = (int64_t)(next_random(&state) >> (i & 63)) | 1;
        }
        RUN(device, "long_division", line(1, 64), ARGUMENT(a), ARGUMENT(b), ARGUMENT(out));
        for (int i = 0; i < 64; i++) {
                uint64_t sum = (uint64_t)(a[i] / b[i]) + (uint64_t)(a[i] % b[i]);

                sum += (uint64_t)a[i] / 10 + (uint32_t)a[i] / 7u;
                assert_true(out[i] == (int64_t)sum);
        }
}

static void the_device_prints(void **unused)
{
        int *in = device_buffer(device, 256);
        const char wanted[] = "real 1.500000 1.235e+04 0.1      -2.00 global text\n"
                              "plain -2 7 ff|    2|2    |00002 q words % -1234567890123 18446744073709551615\n";

        (void)unused;
        device->printed_bytes = 0;
        RUN(device, "prints", line(1, 3), ARGUMENT(in));
        if (strstr(device->printed, "plain") < strstr(device->printed, "real")) {
                /* Lanes of a warp print in the order in which they get there. */
                assert_memory_equal(device->printed, strchr(wanted, '\n') + 1, strlen(strchr(wanted, '\n') + 1));
                assert_int_equal(strlen(device->printed), strlen(wanted));
        } else {
                assert_string_equal(device->printed, wanted);
        }
        assert_int_equal(in[0], strchr(wanted, '\n') + 1 - wanted);
}

static void the_device_allocates(void **unused)
{
        int *out = device_buffer(device, 1024);
        void **large = device_buffer(device, 8);

        (void)unused;
        for (int round = 0; round < 3; round++) {
                RUN(device, "device_malloc", line(2, 128), ARGUMENT(out), 20);
                for (int t = 0; t < 128; t++)
                        assert_int_equal(out[t], 190 * t);
        }
        *large = out;
        RUN(device, "malloc_too_much", line(1, 1), ARGUMENT(large));
        assert_null(*large);
}

static void time_passes(void **unused)
{
        uint64_t *out = device_buffer(device, 32), first;

        (void)unused;
        RUN(device, "clocks", line(1, 1), ARGUMENT(out));
        assert_true(out[0] > 0 && out[0] < 10000000000u);
        first = out[1];
        assert_true(first > 1600000000ull * 1000000000u);
        RUN(device, "clocks", line(1, 1), ARGUMENT(out));
        assert_true(out[1] > first);
}

static void functions_describe_themselves(void **unused)
{
        struct ptx_function_info info;
        size_t offset, bytes;
        const struct ptx_function *function = ptx_function_find(device->module, "structures");

        (void)unused;
        ptx_function_query(function, &info);
        assert_string_equal(info.name, "structures");
        assert_int_equal(info.param_count, 3);
        assert_int_equal(info.param_bytes, sizeof(struct point) + 16);
        assert_int_equal(info.target, 75);
        assert_int_equal(info.ptx_version, 90);
        assert_int_equal(info.max_threads, 1024);
        assert_int_equal(info.const_bytes, 8 * 4 + 4 * 4);
        assert_true(info.local_bytes >= 2 * sizeof(struct point));
        assert_true(info.registers >= 8 && info.registers <= 255);
        assert_true(ptx_function_param(function, 1, &offset, &bytes));
        assert_int_equal(offset, sizeof(struct point));
        assert_int_equal(bytes, 8);
        assert_false(ptx_function_param(function, 3, &offset, &bytes));
        ptx_function_query(ptx_function_find(device->module, "matmul"), &info);
        assert_int_equal(info.shared_bytes, 2048);
        ptx_function_query(ptx_function_find(device->module, "bounded"), &info);
        assert_int_equal(info.max_threads, 64);
        assert_null(ptx_function_find(device->module, "counter"));
        assert_null(ptx_function_at(device->module, ptx_function_count(device->module)));
        assert_non_null(ptx_function_at(device->module, ptx_function_count(device->module) - 1));
}

#define PROGRAM(TEST) cmocka_unit_test_setup_teardown(TEST, open_programs, close_programs)

int main(void)
{
        const struct CMUnitTest tests[] = {
                PROGRAM(a_grid_of_partial_blocks_adds_vectors),
                PROGRAM(tiles_in_shared_memory_multiply_matrices),
                PROGRAM(loops_diverge_by_data),
                PROGRAM(nested_loops_meet_again),
                PROGRAM(switches_take_their_table),
                PROGRAM(structures_pass_by_value),
                PROGRAM(lanes_recurse_to_their_own_depth),
                PROGRAM(pointers_and_virtual_functions_are_called),
                PROGRAM(module_variables_have_values_and_addresses),
                PROGRAM(local_arrays_belong_to_their_thread),
                PROGRAM(grids_have_three_dimensions),
                PROGRAM(generic_addresses_know_their_space),
                PROGRAM(accesses_of_every_width_move_their_bytes),
                PROGRAM(wide_divisions_are_exact),
                PROGRAM(the_device_prints),
                PROGRAM(the_device_allocates),
                PROGRAM(time_passes),
                PROGRAM(functions_describe_themselves),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
