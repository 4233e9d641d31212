/* Modules, libraries, kernels: handles, attributes, layouts, globals, parameters of every shape, refusals. */
#include "check.h"

static void parameters_of_every_shape(CUmodule module)
{
        struct {
                char byte;
                double number;
                short pair[3];
                uint64_t out;
        } mixed = {3, 2.5e6, {1, 2, 3}, 0};
        uint64_t result[7];
        CUdeviceptr out;
        CU(cuMemAlloc_v2(&out, sizeof result));
        mixed.out = out;
        char a = 7;
        short b = 1234;
        double c = 99.0;
        uint8_t d = 200;
        CUfunction function = test_function(module, "mixed");
        void *parameters[] = {&a, &mixed, &b, &c, &d};
        CU(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
        CU(cuMemcpyDtoH_v2(result, out, sizeof result));
        const uint64_t expected[7] = {7, 3, 2500000, 321, 1234, 99, 200};
        for (int i = 0; i < 7; i++)
                CHECK(result[i] == expected[i], "parameter %d arrived as %" PRIu64 ", sent %" PRIu64, i, result[i],
                      expected[i]);

        /* the same as one packed buffer */
        size_t offset, size, end = 0;
        for (size_t i = 0; i < 5; i++) {
                CU(cuFuncGetParamInfo(function, i, &offset, &size));
                end = offset + size;
        }
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuFuncGetParamInfo(function, 5, &offset, &size));
        uint8_t packed[128] = {0};
        for (size_t i = 0; i < 5; i++) {
                CU(cuFuncGetParamInfo(function, i, &offset, &size));
                memcpy(packed + offset, parameters[i], size);
        }
        CU(cuMemsetD8_v2(out, 0, sizeof result));
        void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, packed, CU_LAUNCH_PARAM_BUFFER_SIZE, &end,
                         CU_LAUNCH_PARAM_END};
        CU(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, extra));
        CU(cuMemcpyDtoH_v2(result, out, sizeof result));
        CHECK(memcmp(result, expected, sizeof result) == 0, "packed parameters");

        /* nearly 4 KiB of parameters */
        static uint32_t words[990];
        uint64_t sum = 0, got = 0;
        for (uint32_t i = 0; i < 990; i++) {
                words[i] = i * 2654435761u;
                sum += words[i] * (uint64_t)(i + 1);
        }
        void *large[] = {words, &out};
        CU(cuLaunchKernel(test_function(module, "large"), 1, 1, 1, 1, 1, 1, 0, NULL, large, NULL));
        memset(words, 0, sizeof words); /* read when the call returned */
        CU(cuMemcpyDtoH_v2(&got, out, 8));
        CHECK(got == sum, "large parameters: %" PRIu64 ", expected %" PRIu64, got, sum);
        CU(cuMemFree_v2(out));
}

static void globals(CUmodule module)
{
        CUdeviceptr address, out;
        size_t bytes;
        uint32_t value = 41, result[2];
        CU(cuModuleGetGlobal_v2(&address, &bytes, module, "global_word"));
        CHECK(bytes == 4, "global_word has %zu bytes", bytes);
        CU(cuMemcpyDtoH_v2(result, address, 4));
        CHECK(result[0] == 17, "initial value %u", result[0]);
        CU(cuMemcpyHtoD_v2(address, &value, 4));
        CU(cuModuleGetGlobal_v2(&address, &bytes, module, "constant_words"));
        CHECK(bytes == 16, "constant_words has %zu bytes", bytes);
        const uint32_t constants[4] = {10, 0, 0, 30};
        CU(cuMemcpyHtoD_v2(address, constants, 16));
        CU(cuMemAlloc_v2(&out, 8));
        void *parameters[] = {&out};
        CU(cuLaunchKernel(test_function(module, "read_globals"), 1, 1, 1, 64, 1, 1, 0, NULL, parameters, NULL));
        CU(cuMemcpyDtoH_v2(result, out, 8));
        CHECK(result[0] == 41 && result[1] == 40, "globals read by a kernel: %u, %u", result[0], result[1]);
        float array[64];
        CU(cuModuleGetGlobal_v2(&address, &bytes, module, "global_array"));
        CU(cuMemcpyDtoH_v2(array, address, sizeof array));
        CHECK(array[63] == 94.5f, "global array written by a kernel: %g", (double)array[63]);
        CU_EXPECT(CUDA_ERROR_NOT_FOUND, cuModuleGetGlobal_v2(&address, &bytes, module, "no_such_global"));
        CU(cuMemFree_v2(out));
}

static unsigned int seen_functions;
static CUfunction seen_function[64];

static void see_function(void *user, CUfunction function)
{
        CHECK(user == &seen_functions, "another user pointer");
        if (seen_functions < 64)
                seen_function[seen_functions] = function;
        seen_functions++;
}

/* The private way of cuFFT to a module's functions: cuGetExportTable 6e163fbe, entry 7. */
static void functions_one_by_one(CUmodule module)
{
        static const unsigned char id[16] = {0x6e, 0x16, 0x3f, 0xbe, 0xb9, 0x58, 0x44, 0x4d,
                                             0x83, 0x5c, 0xe1, 0x82, 0xaf, 0xf1, 0x99, 0x1e};
        typedef unsigned int (*each_function)(CUcontext, CUmodule, void (*)(void *, CUfunction), void *);
        unsigned int count, found = 0;
        const char *name;
        const void *table;
        CUuuid uuid;

        memcpy(&uuid, id, sizeof(id));
        CU(cuGetExportTable(&table, &uuid));
        CU(cuModuleGetFunctionCount(&count, module));
        const each_function each = ((const each_function *)table)[7];
        CHECK(each(NULL, module, see_function, &seen_functions) == count, "not %u functions", count);
        CHECK(seen_functions == count && count <= 64, "%u functions seen of %u", seen_functions, count);
        for (unsigned int i = 0; i < count; i++) {
                CU(cuFuncGetName(&name, seen_function[i]));
                found += strcmp(name, "increment") == 0;
        }
        CHECK(found == 1, "\"increment\" is there %u times", found);
}

static void libraries(void)
{
        CUlibrary library;
        CUkernel kernel, again;
        CUfunction function;
        CUlibraryOption preserved = CU_LIBRARY_BINARY_IS_PRESERVED; /* has no value: cuBLASLt gives no array of them */
        CU(cuLibraryLoadData(&library, test_kernels_ptx, NULL, NULL, 0, &preserved, NULL, 1));
        CU(cuLibraryGetKernel(&kernel, library, "increment"));
        CU(cuLibraryGetKernel(&again, library, "increment"));
        CHECK(kernel == again, "one kernel, two handles");
        CU(cuKernelGetFunction(&function, kernel));
        int threads, shared;
        CU(cuKernelGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel, 0));
        CU(cuFuncGetAttribute(&shared, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, function));
        CHECK(threads >= 256 && threads <= 1024 && shared == 0, "%d threads, %d bytes shared", threads, shared);
        CUdeviceptr counter;
        uint32_t value;
        CU(cuMemAlloc_v2(&counter, 4));
        CU(cuMemsetD32_v2(counter, 5, 1));
        void *parameters[] = {&counter};
        CU(cuLaunchKernel((CUfunction)kernel, 2, 1, 1, 3, 1, 1, 0, NULL, parameters, NULL));
        CU(cuLaunchKernel(function, 1, 1, 1, 4, 1, 1, 0, NULL, parameters, NULL));
        CU(cuMemcpyDtoH_v2(&value, counter, 4));
        CHECK(value == 15, "%u", value);
        CU_EXPECT(CUDA_ERROR_NOT_FOUND, cuLibraryGetKernel(&kernel, library, "no_such_kernel"));
        CU(cuMemFree_v2(counter));
        CU(cuLibraryUnload(library));
}

/* Each number of a shape: none, and one more than the device has. */
static void shapes_beyond_the_device(CUfunction function, void **parameters)
{
        static const CUdevice_attribute most[6] = {
                CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X,  CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y,
                CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z,  CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X,
                CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z,
        };
        for (int which = 0; which < 6; which++) {
                int value;
                CU(cuDeviceGetAttribute(&value, most[which], 0));
                for (int beyond = 0; beyond < 2; beyond++) {
                        uint32_t n[6] = {1, 1, 1, 1, 1, 1};
                        n[which] = beyond ? (uint32_t)value + 1 : 0;
                        const CUresult result =
                                cuLaunchKernel(function, n[0], n[1], n[2], n[3], n[4], n[5], 0, NULL, parameters, NULL);
                        CHECK(result == CUDA_ERROR_INVALID_VALUE, "number %d of a shape was %u: %d", which, n[which],
                              (int)result);
                }
        }
}

static void shared_memory_and_attributes(CUmodule module)
{
        enum { THREADS = 128, BLOCKS = 3 };
        static uint32_t data[THREADS * BLOCKS];
        CUdeviceptr device;
        CUfunction reverse = test_function(module, "shared_reverse");
        for (uint32_t i = 0; i < THREADS * BLOCKS; i++)
                data[i] = i;
        CU(cuMemAlloc_v2(&device, sizeof data));
        CU(cuMemcpyHtoD_v2(device, data, sizeof data));
        void *parameters[] = {&device};
        CU(cuLaunchKernel(reverse, BLOCKS, 1, 1, THREADS, 1, 1, THREADS * 4, NULL, parameters, NULL));
        CU(cuMemcpyDtoH_v2(data, device, sizeof data));
        for (uint32_t i = 0; i < THREADS * BLOCKS; i++)
                CHECK(data[i] == i / THREADS * THREADS + THREADS - 1 - i % THREADS, "word %u is %u", i, data[i]);
        int blocks;
        CU(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, reverse, 256, 0));
        CHECK(blocks >= 1 && blocks <= 64, "%d blocks a multiprocessor", blocks);
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(reverse, 0, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(reverse, 1, 1, 1, 2048, 1, 1, 0, NULL, parameters, NULL));
        shapes_beyond_the_device(reverse, parameters);
        CU(cuMemFree_v2(device));
}

static void refusals(void)
{
        CUmodule module;
        char log[512] = "";
        CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
        void *values[] = {log, (void *)(uintptr_t)sizeof log};
        const char broken[] = ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry k() {\n  frobnicate.u32 "
                              "%r1;\n  ret;\n}\n";
        CU_EXPECT(CUDA_ERROR_INVALID_PTX, cuModuleLoadDataEx(&module, broken, 2, options, values));
        CHECK(log[0] != 0 && strlen(log) < sizeof log, "no words in the JIT log");
        CHECK(cuModuleLoadData(&module, "this is not a module") != CUDA_SUCCESS, "nonsense was loaded");
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuModuleLoadData(&module, NULL));
}

int main(void)
{
        test_context();
        CUmodule module = test_module();
        CUfunction function;
        CU_EXPECT(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&function, module, "no_such_function"));
        parameters_of_every_shape(module);
        globals(module);
        functions_one_by_one(module);
        libraries();
        shared_memory_and_attributes(module);
        refusals();
        CU(cuModuleUnload(module));
        puts("modules: right");
        return 0;
}
