/* Modules and libraries from text and from every form of fatbin; damaged images are refused, never read beyond. */
#include "softgpu_driver.h"

#include <sys/mman.h>

struct wrapper {
        uint32_t magic, version;
        const void *data, *list;
};

/* The counter starts at its initialiser and two launches add to it. */
static void module_check(CUmodule module)
{
        CUdeviceptr counter, table;
        size_t bytes;
        int value, values[4];
        CUfunction count = function_find(module, "count");
        OK(cuModuleGetGlobal_v2(&counter, &bytes, module, "counter"));
        assert_int_equal(bytes, 4);
        OK(cuModuleGetGlobal_v2(&table, &bytes, module, "table"));
        assert_int_equal(bytes, 16);
        CALL(CUDA_ERROR_NOT_FOUND, cuModuleGetGlobal_v2(&table, &bytes, module, "nothing"));
        OK(cuMemcpyDtoH_v2(&value, counter, 4));
        assert_int_equal(value, 7);
        assert_int_equal(launch(count, 2, 5, NULL, NULL), CUDA_SUCCESS);
        OK(cuMemcpyDtoH_v2(&value, counter, 4));
        assert_int_equal(value, 17);
        OK(cuMemcpyDtoH_v2(values, table, 16));
        assert_int_equal(values[3], 4);
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(counter));
}

static void every_image_loads(void **state)
{
        (void)state;
        static const char *const names[] = {"kernels.ptx",  "default.fatbin", "size.fatbin",
                                            "speed.fatbin", "none.fatbin",    "several.fatbin"};
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                CUmodule module = module_load(names[i]);
                module_check(module);
                OK(cuModuleUnload(module));
                CALL(CUDA_ERROR_INVALID_HANDLE, cuModuleUnload(module));
        }
}

static void a_wrapped_fatbin_loads_as_library_and_module(void **state)
{
        (void)state;
        char *image = image_read("speed.fatbin", NULL);
        const struct wrapper wrapper = {0x466243b1u, 1, image, NULL};
        CUmodule module;
        CUlibrary library;
        OK(cuModuleLoadFatBinary(&module, &wrapper));
        module_check(module);
        OK(cuModuleUnload(module));
        OK(cuLibraryLoadData(&library, &wrapper, NULL, NULL, 0, NULL, NULL, 0));
        free(image); /* the library keeps its own copy */
        OK(cuLibraryGetModule(&module, library));
        module_check(module);
        CALL(CUDA_ERROR_INVALID_HANDLE, cuModuleUnload(module));
        OK(cuLibraryUnload(library));
        CALL(CUDA_ERROR_INVALID_HANDLE, cuLibraryUnload(library));
        CALL(CUDA_ERROR_INVALID_HANDLE, cuLibraryGetModule(&module, library));
}

static void machine_code_alone_is_no_binary_for_this_gpu(void **state)
{
        (void)state;
        CUmodule module;
        char *image = image_read("machine.fatbin", NULL);
        CALL(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadData(&module, image));
        free(image);
        CALL(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadData(&module, "\177ELF\2\1\1"));
}

/* The image at the very end of readable memory: a byte read beyond it is a crash. */
static char *before_the_edge(const char *image, size_t bytes, size_t map_bytes, char **map)
{
        *map = mmap(NULL, map_bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(*map, MAP_FAILED);
        assert_int_equal(mprotect(*map + map_bytes, 4096, PROT_NONE), 0);
        return memcpy(*map + map_bytes - bytes, image, bytes);
}

static void damaged_fatbins_are_refused(void **state)
{
        (void)state;
        static const char *const names[] = {"speed.fatbin", "size.fatbin", "none.fatbin"};
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                size_t bytes;
                char *image = image_read(names[i], &bytes), *map;
                CUmodule module;
                /* Every header field in turn is given its extremes. */
                char *copy = before_the_edge(image, bytes, 16384, &map);
                for (size_t at = 0; at < 16 + 64; at += 2) {
                        static const uint16_t extremes[] = {0, 0xffff, 0x8000, 1};
                        for (unsigned e = 0; e < 4; e++) {
                                memcpy(copy, image, bytes);
                                memcpy(copy + at, &extremes[e], 2);
                                /* Lengths beyond the map are the program's word: no load is told the truth. */
                                if ((at == 6 || at == 8) && extremes[e] > 1)
                                        continue;
                                if (at > 8 && at < 16 && extremes[e] != 0)
                                        continue;
                                const CUresult result = cuda.cuModuleLoadData(&module, copy);
                                if (result == CUDA_SUCCESS)
                                        OK(cuModuleUnload(module));
                                else
                                        assert_true(result == CUDA_ERROR_INVALID_IMAGE ||
                                                    result == CUDA_ERROR_NO_BINARY_FOR_GPU ||
                                                    result == CUDA_ERROR_INVALID_PTX);
                        }
                }
                /* The entries cut short, with a header that says so. */
                for (uint64_t left = 0; left < bytes - 16; left += 61) {
                        char *cut = map + 16384 - (16 + left);
                        memmove(cut, image, 16 + (size_t)left);
                        memcpy(cut + 8, &left, 8);
                        assert_int_not_equal(cuda.cuModuleLoadData(&module, cut), CUDA_SUCCESS);
                }
                munmap(map, 16384 + 4096);
                free(image);
        }
}

static void what_is_no_image_is_refused(void **state)
{
        (void)state;
        CUmodule module;
        CALL(CUDA_ERROR_INVALID_VALUE, cuModuleLoadData(&module, NULL));
        CALL(CUDA_ERROR_INVALID_IMAGE, cuModuleLoadData(&module, ""));
        CALL(CUDA_ERROR_INVALID_IMAGE, cuModuleLoadData(&module, "\1\2\3\4"));
        CALL(CUDA_ERROR_INVALID_PTX, cuModuleLoadData(&module, "x"));
        CALL(CUDA_ERROR_FILE_NOT_FOUND, cuModuleLoad(&module, "/nonexistent/file.ptx"));
        const struct wrapper empty = {0x466243b1u, 1, NULL, NULL};
        CALL(CUDA_ERROR_INVALID_IMAGE, cuModuleLoadData(&module, &empty));
        char path[512];
        snprintf(path, sizeof(path), "%s/several.fatbin", SOFTGPU_IMAGES);
        OK(cuModuleLoad(&module, path));
        module_check(module);
        OK(cuModuleUnload(module));
}

static void compiler_errors_reach_the_log_buffer(void **state)
{
        (void)state;
        char errors[512] = "", infos[512] = "x";
        CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_INFO_LOG_BUFFER,
                                  CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, CU_JIT_OPTIMIZATION_LEVEL};
        void *values[] = {errors, (void *)(uintptr_t)sizeof(errors), infos, (void *)(uintptr_t)sizeof(infos),
                          (void *)(uintptr_t)4};
        CUmodule module;
        const char *text = ".version 9.0\n.target sm_75\n.address_size 64\n.visible .entry k()\n{\n .reg .b32 %r<2>;\n "
                           "bogus.u32 %r1;\n}\n";
        assert_int_not_equal(cuda.cuModuleLoadDataEx(&module, text, 5, options, values), CUDA_SUCCESS);
        assert_non_null(strstr(errors, "bogus"));
        assert_int_equal((uintptr_t)values[1], strlen(errors));
        assert_string_equal(infos, "");
        options[0] = (CUjit_option)500;
        CALL(CUDA_ERROR_INVALID_VALUE, cuModuleLoadDataEx(&module, text, 5, options, values));
}

static void kernels_belong_to_every_context(void **state)
{
        (void)state;
        CUlibrary library, owner;
        CUkernel kernel, kernels[32];
        CUfunction function;
        CUcontext other;
        CUdeviceptr counter;
        size_t offset, bytes;
        unsigned count;
        int value;
        const char *name;
        char *image = image_read("default.fatbin", NULL);
        OK(cuLibraryLoadData(&library, image, NULL, NULL, 0, NULL, NULL, 0));
        free(image);
        OK(cuLibraryGetKernelCount(&count, library));
        assert_int_equal(count, 11);
        OK(cuLibraryEnumerateKernels(kernels, 32, library));
        OK(cuLibraryGetKernel(&kernel, library, "take_params"));
        CALL(CUDA_ERROR_NOT_FOUND, cuLibraryGetKernel(&kernels[0], library, "absent"));
        OK(cuKernelGetName(&name, kernel));
        assert_string_equal(name, "take_params");
        OK(cuKernelGetLibrary(&owner, kernel));
        assert_ptr_equal(owner, library);
        OK(cuKernelGetParamInfo(kernel, 2, &offset, &bytes));
        assert_int_equal(offset, 16);
        assert_int_equal(bytes, 24);
        OK(cuKernelGetParamInfo(kernel, 4, &offset, &bytes));
        assert_int_equal(offset, 48);
        CALL(CUDA_ERROR_INVALID_VALUE, cuKernelGetParamInfo(kernel, 5, &offset, &bytes));
        OK(cuKernelGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel, device));
        assert_int_equal(value, 1024);
        OK(cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 60000, kernel, device));
        OK(cuKernelGetFunction(&function, kernel));
        OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, function));
        assert_int_equal(value, 60000);
        CALL(CUDA_ERROR_INVALID_VALUE,
             cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 65537, kernel, device));
        /* A kernel is launched as it is, and each context has its own variables. */
        OK(cuLibraryGetKernel(&kernel, library, "count"));
        OK(cuCtxCreate_v2(&other, 0, device));
        assert_int_equal(launch((CUfunction)kernel, 3, 1, NULL, NULL), CUDA_SUCCESS);
        OK(cuLibraryGetGlobal(&counter, &bytes, library, "counter"));
        OK(cuMemcpyDtoH_v2(&value, counter, 4));
        assert_int_equal(value, 10);
        OK(cuCtxDestroy_v2(other));
        OK(cuLibraryGetGlobal(&counter, &bytes, library, "counter"));
        OK(cuMemcpyDtoH_v2(&value, counter, 4));
        assert_int_equal(value, 7);
        OK(cuLibraryUnload(library));
        CALL(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH_v2(&value, counter, 4));
        CALL(CUDA_ERROR_INVALID_HANDLE, cuKernelGetName(&name, kernel));
}

static void functions_describe_themselves(void **state)
{
        (void)state;
        CUmodule module = module_load("kernels.ptx"), owner;
        CUfunction function, functions[32];
        CUmoduleLoadingMode mode;
        CUfunctionLoadingState loading;
        unsigned count;
        size_t offset, bytes;
        int value;
        const char *name;
        OK(cuModuleGetLoadingMode(&mode));
        assert_int_equal(mode, CU_MODULE_EAGER_LOADING);
        CALL(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&function, module, "absent"));
        OK(cuModuleGetFunctionCount(&count, module));
        assert_int_equal(count, 11);
        OK(cuModuleEnumerateFunctions(functions, 32, module));
        OK(cuFuncGetName(&name, functions[0]));
        function = function_find(module, name);
        assert_ptr_equal(function, functions[0]);
        function = function_find(module, "fill");
        OK(cuFuncGetModule(&owner, function));
        assert_ptr_equal(owner, module);
        OK(cuFuncIsLoaded(&loading, function));
        assert_int_equal(loading, CU_FUNCTION_LOADING_STATE_LOADED);
        OK(cuFuncGetParamInfo(function, 1, &offset, &bytes));
        assert_int_equal(offset, 8);
        assert_int_equal(bytes, 4);
        CALL(CUDA_ERROR_INVALID_VALUE, cuFuncGetParamInfo(function, 3, &offset, &bytes));
        OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_PTX_VERSION, function));
        assert_int_equal(value, 75);
        OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_NUM_REGS, function));
        assert_in_range(value, 1, 255);
        CALL(CUDA_ERROR_NOT_SUPPORTED, cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH, 2));
        CALL(CUDA_ERROR_INVALID_VALUE, cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_NUM_REGS, 2));
        OK(cuModuleUnload(module));
        CALL(CUDA_ERROR_INVALID_HANDLE, cuFuncGetName(&name, function));
}

static void the_linker_takes_one_text(void **state)
{
        (void)state;
        CUlinkState link;
        CUmodule module;
        void *image;
        size_t text_bytes, bytes;
        char *text = image_read("kernels.ptx", &text_bytes);
        OK(cuLinkCreate_v2(0, NULL, NULL, &link));
        CALL(CUDA_ERROR_INVALID_VALUE, cuLinkComplete(link, &image, &bytes));
        OK(cuLinkAddData_v2(link, CU_JIT_INPUT_PTX, text, text_bytes, "kernels", 0, NULL, NULL));
        CALL(CUDA_ERROR_NOT_SUPPORTED,
             cuLinkAddData_v2(link, CU_JIT_INPUT_PTX, text, text_bytes, "again", 0, NULL, NULL));
        CALL(CUDA_ERROR_NO_BINARY_FOR_GPU,
             cuLinkAddData_v2(link, CU_JIT_INPUT_CUBIN, text, text_bytes, "cubin", 0, NULL, NULL));
        OK(cuLinkComplete(link, &image, &bytes));
        OK(cuModuleLoadData(&module, image));
        module_check(module);
        OK(cuModuleUnload(module));
        OK(cuLinkDestroy(link));
        CALL(CUDA_ERROR_INVALID_HANDLE, cuLinkDestroy(link));
        free(text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_image_loads),
                cmocka_unit_test(a_wrapped_fatbin_loads_as_library_and_module),
                cmocka_unit_test(machine_code_alone_is_no_binary_for_this_gpu),
                cmocka_unit_test(damaged_fatbins_are_refused),
                cmocka_unit_test(what_is_no_image_is_refused),
                cmocka_unit_test(compiler_errors_reach_the_log_buffer),
                cmocka_unit_test(kernels_belong_to_every_context),
                cmocka_unit_test(functions_describe_themselves),
                cmocka_unit_test(the_linker_takes_one_text),
        };
        return cmocka_run_group_tests(tests, driver_open, driver_close);
}
