/* Compiling and linking at run time: every option, the logs, the wall time, inputs of each kind, and errors. */
#include "supported.h"
#include <unistd.h>

struct log {
        char info[8192], error[8192];
        float milliseconds;
        unsigned info_used, error_used;
};

enum { LOG_OPTIONS = 6 };

/* Fills in the options that bring logs and time; what they bring is read by log_read afterwards. */
static void log_options(struct log *log, CUjit_option *options, void **values)
{
        static const CUjit_option wanted[LOG_OPTIONS] = {CU_JIT_WALL_TIME,
                                                         CU_JIT_INFO_LOG_BUFFER,
                                                         CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES,
                                                         CU_JIT_ERROR_LOG_BUFFER,
                                                         CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
                                                         CU_JIT_LOG_VERBOSE};
        memset(log, 0, sizeof *log);
        memset(log->info, 'x', sizeof log->info);
        memset(log->error, 'x', sizeof log->error);
        log->info[0] = log->error[0] = '\0';
        memcpy(options, wanted, sizeof wanted);
        values[0] = NULL;
        values[1] = log->info;
        values[2] = (void *)(uintptr_t)(sizeof log->info - 100);
        values[3] = log->error;
        values[4] = (void *)(uintptr_t)(sizeof log->error - 100);
        values[5] = (void *)(uintptr_t)1;
}

static void log_read(struct log *log, void **values)
{
        uint32_t bits = (uint32_t)(uintptr_t)values[0];
        memcpy(&log->milliseconds, &bits, sizeof bits);
        log->info_used = (unsigned)(uintptr_t)values[2];
        log->error_used = (unsigned)(uintptr_t)values[4];
        CHECK(log->info_used <= sizeof log->info - 100 && log->error_used <= sizeof log->error - 100,
              "logs of %u and %u bytes", log->info_used, log->error_used);
        CHECK(log->info[sizeof log->info - 1] == 'x' && log->error[sizeof log->error - 1] == 'x',
              "a log was written past its size");
        CHECK(strnlen(log->info, log->info_used + 1) <= log->info_used + 1, "the info log has no end");
}

static void counts(CUmodule module)
{
        CUdeviceptr counter;
        uint32_t value = 0;
        CU(cuMemAlloc_v2(&counter, 4));
        CU(cuMemsetD32_v2(counter, 0, 1));
        void *parameters[] = {&counter};
        CU(cuLaunchKernel(test_function(module, "increment"), 1, 1, 1, 5, 1, 1, 0, NULL, parameters, NULL));
        CU(cuMemcpyDtoH_v2(&value, counter, 4));
        CHECK(value == 5, "%u", value);
        CU(cuMemFree_v2(counter));
}

/* ---- options of a load ---- */

/* Each alone: taken, and the kernel still counts. */
static void options_each(void)
{
        static const struct {
                CUjit_option option;
                unsigned value;
        } each[] = {
                {CU_JIT_MAX_REGISTERS, 32},
                {CU_JIT_THREADS_PER_BLOCK, 128},
                {CU_JIT_OPTIMIZATION_LEVEL, 2},
                {CU_JIT_TARGET_FROM_CUCONTEXT, 0},
                {CU_JIT_FALLBACK_STRATEGY, CU_PREFER_PTX},
                {CU_JIT_GENERATE_DEBUG_INFO, 0},
                {CU_JIT_LOG_VERBOSE, 1},
                {CU_JIT_GENERATE_LINE_INFO, 1},
                {CU_JIT_CACHE_MODE, CU_JIT_CACHE_OPTION_CA},
                {CU_JIT_FTZ, 1},
                {CU_JIT_PREC_DIV, 0},
                {CU_JIT_PREC_SQRT, 0},
                {CU_JIT_FMA, 0},
                {CU_JIT_MIN_CTA_PER_SM, 1},
                {CU_JIT_OVERRIDE_DIRECTIVE_VALUES, 1},
                {CU_JIT_SPLIT_COMPILE, 1},
        };
        CUmodule module;
        for (size_t i = 0; i < sizeof each / sizeof each[0]; i++) {
                CUjit_option option = each[i].option;
                void *value = (void *)(uintptr_t)each[i].value;
                const CUresult result = cuModuleLoadDataEx(&module, test_kernels_ptx, 1, &option, &value);
                CHECK(result == CUDA_SUCCESS, "option %d: %d", (int)option, (int)result);
                counts(module);
                CU(cuModuleUnload(module));
        }
        CUjit_option unknown = (CUjit_option)1000;
        void *value = NULL;
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuModuleLoadDataEx(&module, test_kernels_ptx, 1, &unknown, &value));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuModuleLoadDataEx(&module, test_kernels_ptx, 1, NULL, NULL));
}

static const char broken_ptx[] = ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry k() {\n"
                                 "  frobnicate.u32 %r1;\n  ret;\n}\n";

static void load_logs(void)
{
        static struct log log;
        CUjit_option options[LOG_OPTIONS];
        void *values[LOG_OPTIONS];
        CUmodule module;
        log_options(&log, options, values);
        CU(cuModuleLoadDataEx(&module, test_kernels_ptx, LOG_OPTIONS, options, values));
        log_read(&log, values);
        CHECK(log.milliseconds >= 0 && log.milliseconds < 60000, "%g ms", (double)log.milliseconds);
        CHECK(log.error[0] == '\0', "an error log of a load that worked: %s", log.error);
        counts(module);
        CU(cuModuleUnload(module));
        log_options(&log, options, values);
        CU_EXPECT(CUDA_ERROR_INVALID_PTX, cuModuleLoadDataEx(&module, broken_ptx, LOG_OPTIONS, options, values));
        log_read(&log, values);
        CHECK(strlen(log.error) > 10, "no words about a broken text: '%s'", log.error);
        /* A small buffer gets the beginning. */
        char small[12];
        memset(small, 'y', sizeof small);
        CUjit_option two[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
        void *places[] = {small, (void *)(uintptr_t)8};
        CU_EXPECT(CUDA_ERROR_INVALID_PTX, cuModuleLoadDataEx(&module, broken_ptx, 2, two, places));
        CHECK(small[8] == 'y' && small[11] == 'y' && memchr(small, '\0', 8) != NULL, "eight bytes were not kept to");
}

/* ---- links ---- */

static void one_input(int by_old_names)
{
        static struct log log;
        CUjit_option options[LOG_OPTIONS];
        void *values[LOG_OPTIONS], *cubin = NULL;
        size_t bytes = 0, text_bytes = strlen(test_kernels_ptx) + 1;
        CUlinkState link;
        CUmodule module;
        char *text = strdup(test_kernels_ptx);
        log_options(&log, options, values);
        if (by_old_names) {
                CU(cuLinkCreate(LOG_OPTIONS, options, values, &link));
                CU(cuLinkAddData(link, CU_JIT_INPUT_PTX, text, text_bytes, "kernels.ptx", 0, NULL, NULL));
        } else {
                CU(cuLinkCreate_v2(LOG_OPTIONS, options, values, &link));
                CU(cuLinkAddData_v2(link, CU_JIT_INPUT_PTX, text, text_bytes, "kernels.ptx", 0, NULL, NULL));
        }
        free(text); /* the driver has read it */
        CU(cuLinkComplete(link, &cubin, &bytes));
        log_read(&log, values);
        CHECK(cubin != NULL && bytes > 100, "a cubin of %zu bytes", bytes);
        CHECK(log.milliseconds >= 0 && log.milliseconds < 60000, "%g ms", (double)log.milliseconds);
        CU(cuModuleLoadData(&module, cubin));
        CU(cuLinkDestroy(link)); /* the cubin goes, the module stays */
        counts(module);
        CU(cuModuleUnload(module));
}

static void files(void)
{
        char path[64];
        CUlinkState link;
        CUmodule module;
        void *cubin;
        size_t bytes;
        snprintf(path, sizeof path, "/tmp/ivgpu-link-%d.ptx", (int)getpid());
        FILE *file = fopen(path, "w");
        CHECK(file != NULL && fputs(test_kernels_ptx, file) >= 0 && fclose(file) == 0, "%s", path);
        for (int old = 0; old < 2; old++) {
                CU(cuLinkCreate_v2(0, NULL, NULL, &link));
                CU_EXPECT(CUDA_ERROR_FILE_NOT_FOUND,
                          cuLinkAddFile_v2(link, CU_JIT_INPUT_PTX, "/tmp/no such file", 0, NULL, NULL));
                CU(old ? cuLinkAddFile(link, CU_JIT_INPUT_PTX, path, 0, NULL, NULL)
                       : cuLinkAddFile_v2(link, CU_JIT_INPUT_PTX, path, 0, NULL, NULL));
                CU(cuLinkComplete(link, &cubin, &bytes));
                CU(cuModuleLoadData(&module, cubin));
                CU(cuLinkDestroy(link));
                counts(module);
                CU(cuModuleUnload(module));
        }
        unlink(path);
}

/* A kernel in one text, what it calls in another. */
static void two_inputs(void)
{
        static const char caller[] =
                ".version 7.0\n.target sm_75\n.address_size 64\n.extern .func (.param .b32 r) twice(.param .b32 x);\n"
                ".visible .entry call(.param .u64 out, .param .u32 x) {\n  .reg .b32 %a<3>;\n  .reg .b64 %p<2>;\n"
                "  ld.param.u32 %a1, [x];\n  ld.param.u64 %p1, [out];\n  cvta.to.global.u64 %p1, %p1;\n"
                "  {\n  .param .b32 given;\n  st.param.b32 [given], %a1;\n  .param .b32 got;\n"
                "  call.uni (got), twice, (given);\n  ld.param.b32 %a2, [got];\n  }\n"
                "  st.global.u32 [%p1], %a2;\n  ret;\n}\n";
        static const char callee[] = ".version 7.0\n.target sm_75\n.address_size 64\n"
                                     ".visible .func (.param .b32 r) twice(.param .b32 x) {\n  .reg .b32 %a<3>;\n"
                                     "  ld.param.b32 %a1, [x];\n  add.s32 %a2, %a1, %a1;\n"
                                     "  st.param.b32 [r], %a2;\n  ret;\n}\n";
        static struct log log;
        CUjit_option options[LOG_OPTIONS];
        void *values[LOG_OPTIONS], *cubin;
        size_t bytes;
        CUlinkState link;
        log_options(&log, options, values);
        CU(cuLinkCreate_v2(LOG_OPTIONS, options, values, &link));
        CU(cuLinkAddData_v2(link, CU_JIT_INPUT_PTX, (void *)(uintptr_t)caller, sizeof caller, "caller", 0, NULL, NULL));
        if (test_supported(cuLinkAddData_v2(link, CU_JIT_INPUT_PTX, (void *)(uintptr_t)callee, sizeof callee, "callee",
                                            0, NULL, NULL),
                           "linking two inputs")) {
                CUmodule module;
                CUdeviceptr out;
                uint32_t x = 21, doubled = 0;
                CU(cuLinkComplete(link, &cubin, &bytes));
                CU(cuModuleLoadData(&module, cubin));
                CU(cuMemAlloc_v2(&out, 4));
                void *parameters[] = {&out, &x};
                CU(cuLaunchKernel(test_function(module, "call"), 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
                CU(cuMemcpyDtoH_v2(&doubled, out, 4));
                CHECK(doubled == 42, "%u", doubled);
                CU(cuMemFree_v2(out));
                CU(cuModuleUnload(module));
        }
        CU(cuLinkDestroy(link));

        /* Alone, the caller lacks something: named at the latest when the link is completed. */
        log_options(&log, options, values);
        CU(cuLinkCreate_v2(LOG_OPTIONS, options, values, &link));
        CU(cuLinkAddData_v2(link, CU_JIT_INPUT_PTX, (void *)(uintptr_t)caller, sizeof caller, "caller", 0, NULL, NULL));
        CHECK(cuLinkComplete(link, &cubin, &bytes) != CUDA_SUCCESS, "linked without what it calls");
        log_read(&log, values);
        CHECK(strstr(log.error, "twice") != NULL, "the log does not name what is missing: '%s'", log.error);
        CU(cuLinkDestroy(link));
}

static void errors(void)
{
        static struct log log;
        CUjit_option options[LOG_OPTIONS];
        void *values[LOG_OPTIONS], *cubin;
        size_t bytes;
        char nonsense[] = "this is neither text nor code, and must not become any";
        CUlinkState link;
        log_options(&log, options, values);
        CU(cuLinkCreate_v2(LOG_OPTIONS, options, values, &link));
        CHECK(cuLinkAddData_v2(link, CU_JIT_INPUT_PTX, (void *)(uintptr_t)broken_ptx, sizeof broken_ptx, "broken", 0,
                               NULL, NULL) != CUDA_SUCCESS ||
                      cuLinkComplete(link, &cubin, &bytes) != CUDA_SUCCESS,
              "a broken text was linked");
        log_read(&log, values);
        CHECK(log.error[0] != '\0', "no words about a broken text");
        CU(cuLinkDestroy(link));
        static const CUjitInputType types[] = {CU_JIT_INPUT_CUBIN, CU_JIT_INPUT_FATBINARY, CU_JIT_INPUT_OBJECT,
                                               CU_JIT_INPUT_LIBRARY, CU_JIT_INPUT_NVVM};
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
                CU(cuLinkCreate_v2(0, NULL, NULL, &link));
                CHECK(cuLinkAddData_v2(link, types[i], nonsense, sizeof nonsense, "nonsense", 0, NULL, NULL) !=
                                      CUDA_SUCCESS ||
                              cuLinkComplete(link, &cubin, &bytes) != CUDA_SUCCESS,
                      "nonsense was linked as input of type %d", (int)types[i]);
                CU(cuLinkDestroy(link));
        }
        CU(cuLinkCreate_v2(0, NULL, NULL, &link));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE,
                  cuLinkAddData_v2(link, (CUjitInputType)99, nonsense, sizeof nonsense, "nonsense", 0, NULL, NULL));
        CU(cuLinkDestroy(link));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuLinkCreate_v2(0, NULL, NULL, NULL));
}

int main(void)
{
        test_context();
        options_each();
        load_logs();
        one_input(0);
        one_input(1);
        files();
        two_inputs();
        errors();
        puts("link: right");
        return 0;
}
