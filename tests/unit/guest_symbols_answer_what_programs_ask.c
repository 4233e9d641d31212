/* cuGetProcAddress of the built library, against every ask that real programs were seen to make. */
#include "ivgpu/cuda_abi.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <dlfcn.h>

#define ASKS_MIN 400 /* of the list: an empty or cut one must not pass */

typedef CUresult (*get_v1)(const char *, void **, int, cuuint64_t);
typedef CUresult (*get_v2)(const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *);

static void *library;
static get_v1 ask_v1;
static get_v2 ask;

static int open_library(void **state)
{
        (void)state;
        library = dlopen(TEST_LIBCUDA, RTLD_NOW | RTLD_LOCAL);
        if (library == NULL)
                fail_msg("%s", dlerror());
        *(void **)&ask_v1 = dlsym(library, "cuGetProcAddress");
        *(void **)&ask = dlsym(library, "cuGetProcAddress_v2");
        return ask == NULL || ask_v1 == NULL;
}

static void every_recorded_ask_is_answered(void **state)
{
        FILE *list = fopen(TEST_ASKS, "r");
        char line[256], name[128], flag[16], symbol[128];
        int version, asks = 0;

        (void)state;
        assert_non_null(list);
        while (fgets(line, sizeof(line), list) != NULL) {
                CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
                void *found = &status;

                if (line[0] == '#')
                        continue;
                assert_int_equal(sscanf(line, "%127s %d %15s %127s", name, &version, flag, symbol), 4);
                const cuuint64_t flags = strcmp(flag, "plain") == 0 ? 0 : 2;
                const CUresult result = ask(name, &found, version, flags, &status);

                asks++;
                if (strcmp(symbol, "-") == 0) {
                        assert_int_equal(result, CUDA_SUCCESS);
                        assert_int_equal(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
                        assert_null(found);
                        continue;
                }
                if (result != CUDA_SUCCESS || found != dlsym(library, symbol))
                        fail_msg("%s@%d %s: result %d, not %s", name, version, flag, (int)result, symbol);
                assert_int_equal(status, CU_GET_PROC_ADDRESS_SUCCESS);
        }
        fclose(list);
        assert_true(asks >= ASKS_MIN);
}

static void versions_and_flags_choose(void **state)
{
        CUdriverProcAddressQueryResult status;
        void *found;

        (void)state;
        assert_int_equal(ask("cuMemAlloc", &found, 3019, 0, &status), CUDA_SUCCESS);
        assert_ptr_equal(found, dlsym(library, "cuMemAlloc"));
        assert_int_equal(ask("cuMemAlloc", &found, 13000, 0, &status), CUDA_SUCCESS);
        assert_ptr_equal(found, dlsym(library, "cuMemAlloc_v2"));
        /* Without a per-thread form the plain one answers, also when the per-thread one is asked for. */
        assert_int_equal(ask("cuMemAlloc", &found, 13000, 2, &status), CUDA_SUCCESS);
        assert_ptr_equal(found, dlsym(library, "cuMemAlloc_v2"));
        assert_int_equal(ask("cuLaunchKernel", &found, 13000, 2, &status), CUDA_SUCCESS);
        assert_ptr_equal(found, dlsym(library, "cuLaunchKernel_ptsz"));
        assert_int_equal(ask("cuLaunchKernel", &found, 13000, 1, &status), CUDA_SUCCESS);
        assert_ptr_equal(found, dlsym(library, "cuLaunchKernel"));
        assert_int_equal(ask("cuMemcpyHtoD", &found, 13000, 2, &status), CUDA_SUCCESS);
        assert_ptr_equal(found, dlsym(library, "cuMemcpyHtoD_v2_ptds"));
        assert_int_equal(ask_v1("cuInit", &found, 13000, 0), CUDA_SUCCESS);
        assert_ptr_equal(found, dlsym(library, "cuInit"));
}

static void what_is_not_there_is_told_apart(void **state)
{
        CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SUCCESS;
        void *found = &status;

        (void)state;
        assert_int_equal(ask("cuGraphLaunch", &found, 9000, 0, &status), CUDA_SUCCESS);
        assert_int_equal(status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
        assert_null(found);
        assert_int_equal(ask("cuNobodyHasThis", &found, 13000, 0, &status), CUDA_SUCCESS);
        assert_int_equal(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
        assert_int_equal(ask("", &found, 13000, 0, NULL), CUDA_SUCCESS);
        assert_null(found);
        assert_int_equal(ask("cuMemAlloc_v2", &found, 13000, 0, &status), CUDA_SUCCESS);
        assert_int_equal(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
        /* What is invalid touches nothing. */
        found = &status;
        status = (CUdriverProcAddressQueryResult)77;
        assert_int_equal(ask("cuInit", &found, 13010, 0, &status), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(ask("cuInit", &found, 13000, 4, &status), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(ask_v1("cuInit", &found, 13010, 0), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(ask_v1("cuNobodyHasThis", &found, 13000, 0), CUDA_ERROR_NOT_FOUND);
        assert_ptr_equal(found, &status);
        assert_int_equal((int)status, 77);
        /* NVIDIA's driver crashes on these. */
        assert_int_equal(ask(NULL, &found, 13000, 0, &status), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(ask("cuInit", NULL, 13000, 0, &status), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(ask_v1("cuInit", NULL, 13000, 0), CUDA_ERROR_INVALID_VALUE);
}

static void refused_names_exist_and_answer_not_supported(void **state)
{
        CUresult (*destroy)(void *);
        CUdriverProcAddressQueryResult status;
        void *found;

        (void)state;
        assert_int_equal(ask("cuGraphicsUnregisterResource", &found, 13000, 0, &status), CUDA_SUCCESS);
        *(void **)&destroy = found;
        assert_int_equal(destroy(NULL), CUDA_ERROR_NOT_SUPPORTED);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_recorded_ask_is_answered),
                cmocka_unit_test(versions_and_flags_choose),
                cmocka_unit_test(what_is_not_there_is_told_apart),
                cmocka_unit_test(refused_names_exist_and_answer_not_supported),
        };

        return cmocka_run_group_tests(tests, open_library, NULL);
}
