/* Modules and libraries from every source, their functions counted and listed, what kernels say of themselves and what
 * can be set, occupancy. Effects are seen by running what was found. */
#include "supported.h"
#include <unistd.h>

enum { KERNELS = 10 }; /* in kernels.ptx */

static char file_path[64];

static void write_file(void)
{
        snprintf(file_path, sizeof file_path, "/tmp/ivgpu-functions-%d.ptx", (int)getpid());
        FILE *file = fopen(file_path, "w");
        CHECK(file != NULL && fputs(test_kernels_ptx, file) >= 0 && fclose(file) == 0, "%s", file_path);
}

static void runs(CUfunction increment)
{
        CUdeviceptr counter;
        uint32_t value = 0;
        CU(cuMemAlloc_v2(&counter, 4));
        CU(cuMemsetD32_v2(counter, 100, 1));
        void *parameters[] = {&counter};
        CU(cuLaunchKernel(increment, 1, 1, 1, 7, 1, 1, 0, NULL, parameters, NULL));
        CU(cuMemcpyDtoH_v2(&value, counter, 4));
        CHECK(value == 107, "the kernel counted to %u", value);
        CU(cuMemFree_v2(counter));
}

static void modules(void)
{
        CUmodule from_file, from_data, again;
        CUfunction functions[KERNELS];
        unsigned count = 0;
        CUmoduleLoadingMode mode;
        CU(cuModuleGetLoadingMode(&mode));
        CHECK(mode == CU_MODULE_EAGER_LOADING || mode == CU_MODULE_LAZY_LOADING, "mode %d", (int)mode);
        CU(cuModuleLoad(&from_file, file_path));
        CU_EXPECT(CUDA_ERROR_FILE_NOT_FOUND, cuModuleLoad(&again, "/tmp/no such file"));
        from_data = test_module();
        runs(test_function(from_file, "increment"));
        CU(cuModuleGetFunctionCount(&count, from_data));
        CHECK(count == KERNELS, "%u functions", count);
        CU(cuModuleEnumerateFunctions(functions, KERNELS, from_data));
        int found = 0;
        for (unsigned i = 0; i < count; i++) {
                const char *name;
                CU(cuFuncGetName(&name, functions[i]));
                CU(cuFuncGetModule(&again, functions[i]));
                CHECK(again == from_data, "%s is of another module", name);
                if (strcmp(name, "increment") == 0) {
                        found++;
                        runs(functions[i]);
                }
        }
        CHECK(found == 1, "%d functions are named increment", found);

        CUfunction reverse = test_function(from_data, "shared_reverse");
        CUfunctionLoadingState state;
        CU(cuFuncLoad(reverse));
        CU(cuFuncIsLoaded(&state, reverse));
        CHECK(state == CU_FUNCTION_LOADING_STATE_LOADED, "state %d after cuFuncLoad", (int)state);
        CU(cuModuleUnload(from_file));
        CU(cuModuleUnload(from_data));
}

/* What a library gives is usable in the current context; its kernels are one thing whatever way they are found. */
static void libraries(void)
{
        CUlibrary from_file, from_data, owner;
        CUkernel kernels[KERNELS], kernel;
        CUmodule module;
        CUfunction function;
        CUdeviceptr address = 0, same = 0;
        size_t bytes = 0, offset, size;
        unsigned count = 0;
        const char *name;
        int value;
        CU(cuLibraryLoadFromFile(&from_file, file_path, NULL, NULL, 0, NULL, NULL, 0));
        CU(cuLibraryLoadData(&from_data, test_kernels_ptx, NULL, NULL, 0, NULL, NULL, 0));
        CU(cuLibraryGetKernelCount(&count, from_data));
        CHECK(count == KERNELS, "%u kernels", count);
        CU(cuLibraryEnumerateKernels(kernels, KERNELS, from_data));
        int found = 0;
        for (unsigned i = 0; i < count; i++) {
                CU(cuKernelGetName(&name, kernels[i]));
                CU(cuKernelGetLibrary(&owner, kernels[i]));
                CHECK(owner == from_data, "%s is of another library", name);
                found += strcmp(name, "shared_reverse") == 0;
        }
        CHECK(found == 1, "%d kernels are named shared_reverse", found);
        CU(cuLibraryGetKernel(&kernel, from_file, "mixed"));
        CU(cuKernelGetParamInfo(kernel, 1, &offset, &size));
        CHECK(offset == 8 && size == 32, "parameter 1 at %zu, %zu bytes", offset, size);
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuKernelGetParamInfo(kernel, 5, &offset, &size));

        CU(cuLibraryGetModule(&module, from_file));
        runs(test_function(module, "increment"));
        CU(cuLibraryGetGlobal(&address, &bytes, from_file, "global_word"));
        CU(cuModuleGetGlobal_v2(&same, NULL, module, "global_word"));
        CHECK(bytes == 4 && address == same, "global_word: %zu bytes", bytes);
        CU(cuLibraryGetKernel(&kernel, from_file, "shared_reverse"));
        CU(cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 50, kernel, 0));
        CU(cuKernelGetAttribute(&value, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, kernel, 0));
        CHECK(value == 50, "carveout %d", value);
        CU(cuKernelSetCacheConfig(kernel, CU_FUNC_CACHE_PREFER_L1, 0));
        CU(cuKernelGetFunction(&function, kernel));
        CU(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, function));
        CHECK(value == 50, "the function's carveout is %d", value);

        void *unified;
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuLibraryGetUnifiedFunction(&unified, from_data, "no_such_function"));
        const CUresult managed = cuLibraryGetManaged(&address, &bytes, from_data, "no_such_variable");
        if (managed != CUDA_ERROR_NOT_FOUND)
                test_supported(managed, "cuLibraryGetManaged");
        CU(cuLibraryUnload(from_file));
        CU(cuLibraryUnload(from_data));
}

/* More shared memory than a kernel gets unasked: refused before, granted after. */
static void attributes(CUmodule module)
{
        CUfunction reverse = test_function(module, "shared_reverse");
        CUdeviceptr data;
        int optin = 0, plain = 0, value = 0;
        CU(cuDeviceGetAttribute(&optin, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 0));
        CU(cuDeviceGetAttribute(&plain, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 0));
        CU(cuMemAlloc_v2(&data, 4096));
        void *parameters[] = {&data};
        CHECK(optin > plain, "%d bytes of shared memory, %d when asked for", plain, optin);
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE,
                  cuLaunchKernel(reverse, 1, 1, 1, 32, 1, 1, (unsigned)optin, NULL, parameters, NULL));
        CU(cuFuncSetAttribute(reverse, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, optin));
        CU(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, reverse));
        CHECK(value == optin, "%d bytes after %d were set", value, optin);
        CU(cuLaunchKernel(reverse, 1, 1, 1, 32, 1, 1, (unsigned)optin, NULL, parameters, NULL));
        CU(cuCtxSynchronize());
        CHECK(cuFuncSetAttribute(reverse, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, optin * 64) != CUDA_SUCCESS,
              "64 times the shared memory there is");
        CU(cuFuncSetCacheConfig(reverse, CU_FUNC_CACHE_PREFER_SHARED));
        CU(cuFuncSetSharedMemConfig(reverse, CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE));
        CU(cuMemFree_v2(data));
}

static size_t shared_bytes_of(int threads)
{
        return (size_t)threads * 4;
}

static void occupancy(CUmodule module)
{
        CUfunction reverse = test_function(module, "shared_reverse");
        int few = 0, many = 0, grid = 0, block = 0, grid_flags = 0, block_flags = 0, threads_max = 0;
        size_t room = 0, room_for_one = 0;
        CU(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&many, reverse, 64, 0, CU_OCCUPANCY_DEFAULT));
        CU(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&few, reverse, 64, 40000, CU_OCCUPANCY_DEFAULT));
        CHECK(many > few && few >= 1, "%d blocks with, %d without shared memory", few, many);
        CU(cuOccupancyMaxPotentialBlockSize(&grid, &block, reverse, shared_bytes_of, 0, 0));
        CU(cuOccupancyMaxPotentialBlockSizeWithFlags(&grid_flags, &block_flags, reverse, shared_bytes_of, 0, 0,
                                                     CU_OCCUPANCY_DEFAULT));
        CU(cuDeviceGetAttribute(&threads_max, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 0));
        CHECK(grid == grid_flags && block == block_flags && block >= 32 && block <= threads_max && grid >= 1,
              "%d blocks of %d threads, with flags %d of %d", grid, block, grid_flags, block_flags);
        CU(cuOccupancyMaxPotentialBlockSize(&grid, &block, reverse, NULL, 0, 96));
        CHECK(block <= 96, "%d threads, asked for at most 96", block);
        CU(cuOccupancyAvailableDynamicSMemPerBlock(&room, reverse, 2, 64));
        CU(cuOccupancyAvailableDynamicSMemPerBlock(&room_for_one, reverse, 1, 64));
        CHECK(room > 0 && room_for_one >= room, "%zu bytes for one block, %zu for each of two", room_for_one, room);
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuOccupancyMaxActiveBlocksPerMultiprocessor(NULL, reverse, 64, 0));

        CUlaunchAttribute cluster = {.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION};
        cluster.value.clusterDim.x = 2;
        cluster.value.clusterDim.y = cluster.value.clusterDim.z = 1;
        CUlaunchConfig config = {
                .gridDimX = 4, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 64, .blockDimY = 1, .blockDimZ = 1};
        int clusters = 0, size = 0, launches = 0;
        CU(cuDeviceGetAttribute(&launches, CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH, 0));
        if (!launches) {
                puts("skipped on this device: clusters");
                return;
        }
        CU(cuOccupancyMaxPotentialClusterSize(&size, reverse, &config));
        CHECK(size >= 2 && size <= 16, "clusters of %d", size);
        config.attrs = &cluster;
        config.numAttrs = 1;
        CU(cuOccupancyMaxActiveClusters(&clusters, reverse, &config));
        CHECK(clusters >= 1, "%d clusters", clusters);
}

int main(void)
{
        test_context();
        write_file();
        modules();
        libraries();
        unlink(file_path);
        CUmodule module = test_module();
        attributes(module);
        occupancy(module);
        puts("functions: right");
        return 0;
}
