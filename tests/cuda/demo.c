/* What tools/demo runs in the guest: the device's name, a vector add, 256 MiB up and down, a tiled matrix product. */
#include "check.h"
#include <math.h>
#include <time.h>

static double now_s(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void vector_add(CUmodule module)
{
        enum { COUNT = 1 << 20 };
        const size_t bytes = COUNT * sizeof(float);
        float *a = malloc(bytes), *b = malloc(bytes), *c = malloc(bytes);
        CHECK(a && b && c, "no memory for 3 x %zu bytes", bytes);
        uint64_t state = 11;
        for (int i = 0; i < COUNT; i++) {
                a[i] = (float)(test_random(&state) >> 40) / 1024;
                b[i] = (float)(test_random(&state) >> 40) / 512;
                c[i] = -1;
        }
        CUdeviceptr da, db, dc;
        CU(cuMemAlloc_v2(&da, bytes));
        CU(cuMemAlloc_v2(&db, bytes));
        CU(cuMemAlloc_v2(&dc, bytes));
        const double start = now_s();
        CU(cuMemcpyHtoD_v2(da, a, bytes));
        CU(cuMemcpyHtoD_v2(db, b, bytes));
        int count = COUNT;
        void *parameters[] = {&da, &db, &dc, &count};
        CU(cuLaunchKernel(test_function(module, "vector_add"), COUNT / 256, 1, 1, 256, 1, 1, 0, NULL, parameters,
                          NULL));
        CU(cuMemcpyDtoH_v2(c, dc, bytes));
        const double seconds = now_s() - start;
        for (int i = 0; i < COUNT; i++)
                CHECK(c[i] == a[i] + b[i], "element %d: %g + %g gave %g", i, (double)a[i], (double)b[i], (double)c[i]);
        printf("vector add       %d floats, every element right (%.0f ms)\n", COUNT, seconds * 1e3);
        CU(cuMemFree_v2(da));
        CU(cuMemFree_v2(db));
        CU(cuMemFree_v2(dc));
        free(a);
        free(b);
        free(c);
}

static void upload_and_read_back(void)
{
        const size_t bytes = 256u << 20;
        uint8_t *up = malloc(bytes), *down = malloc(bytes);
        CHECK(up && down, "no memory for 2 x %zu bytes", bytes);
        test_fill(up, bytes, 3);
        memset(down, 0x5a, bytes);
        CUdeviceptr device;
        CU(cuMemAlloc_v2(&device, bytes));
        const double start = now_s();
        CU(cuMemcpyHtoD_v2(device, up, bytes));
        const double middle = now_s();
        CU(cuMemcpyDtoH_v2(down, device, bytes));
        const double end = now_s();
        const uint64_t sent = test_checksum(up, bytes), received = test_checksum(down, bytes);
        CHECK(sent == received, "checksums differ: %016" PRIx64 " sent, %016" PRIx64 " read back", sent, received);
        printf("256 MiB          checksum %016" PRIx64 " both ways (up %.0f ms, down %.0f ms)\n", sent,
               (middle - start) * 1e3, (end - middle) * 1e3);
        CU(cuMemFree_v2(device));
        free(up);
        free(down);
}

static void matrix_product(CUmodule module)
{
        enum { SIDE = 256 };
        static float a[SIDE][SIDE], b[SIDE][SIDE], c[SIDE][SIDE];
        uint64_t state = 5;
        for (int i = 0; i < SIDE; i++)
                for (int j = 0; j < SIDE; j++) {
                        a[i][j] = (float)(test_random(&state) >> 48) / 65536 - 0.5f;
                        b[i][j] = (float)(test_random(&state) >> 48) / 65536 - 0.5f;
                }
        CUdeviceptr da, db, dc;
        CU(cuMemAlloc_v2(&da, sizeof a));
        CU(cuMemAlloc_v2(&db, sizeof b));
        CU(cuMemAlloc_v2(&dc, sizeof c));
        CU(cuMemcpyHtoD_v2(da, a, sizeof a));
        CU(cuMemcpyHtoD_v2(db, b, sizeof b));
        int side = SIDE;
        void *parameters[] = {&da, &db, &dc, &side};
        CU(cuLaunchKernel(test_function(module, "matrix_multiply_tiled"), SIDE / 16, SIDE / 16, 1, 16, 16, 1, 0, NULL,
                          parameters, NULL));
        CU(cuMemcpyDtoH_v2(c, dc, sizeof c));
        double difference = 0, norm = 0;
        for (int i = 0; i < SIDE; i++)
                for (int j = 0; j < SIDE; j++) {
                        double sum = 0;
                        for (int k = 0; k < SIDE; k++)
                                sum += (double)a[i][k] * (double)b[k][j];
                        difference += (c[i][j] - sum) * (c[i][j] - sum);
                        norm += sum * sum;
                }
        const double error = sqrt(difference / norm);
        CHECK(error < 1e-6, "relative error %g of the product against double precision", error);
        printf("matrix product   %d x %d tiled, relative error %.1e against the CPU in double\n", SIDE, SIDE, error);
        CU(cuMemFree_v2(da));
        CU(cuMemFree_v2(db));
        CU(cuMemFree_v2(dc));
}

int main(void)
{
        test_context();
        char name[128];
        size_t memory;
        int version;
        CU(cuDeviceGetName(name, sizeof name, 0));
        CU(cuDeviceTotalMem_v2(&memory, 0));
        CU(cuDriverGetVersion(&version));
        printf("device           %s, %zu MiB, driver API %d.%d\n", name, memory >> 20, version / 1000,
               version % 1000 / 10);
        CUmodule module = test_module();
        vector_add(module);
        upload_and_read_back();
        matrix_product(module);
        CU(cuModuleUnload(module));
        CU(cuDevicePrimaryCtxRelease_v2(0));
        puts("demo: all results right");
        return 0;
}
