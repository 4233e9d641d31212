/* What the driver says for whoever looks for a mistake: its log, and its settings for core dumps. */
#include "supported.h"
#include <unistd.h>

/* Something that drivers with a log write into it: a text that does not compile, and an error of a call. */
static void provoke(void)
{
        CUmodule module;
        CUdeviceptr memory;
        CHECK(cuModuleLoadData(&module, ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry k() {\n"
                                        "  frobnicate.u32 %r1;\n  ret;\n}\n") != CUDA_SUCCESS,
              "a broken text was loaded");
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAlloc_v2(&memory, 0));
}

static void logs(void)
{
        CUlogIterator iterator = 0, end = 0;
        static char text[25600], again[25600];
        char path[64];
        size_t bytes = sizeof text;
        if (!test_supported(cuLogsCurrent(&iterator, 0), "cuLogsCurrent"))
                return;
        CU(cuLogsCurrent(&iterator, 0));
        end = iterator;
        CU(cuLogsDumpToMemory(&end, text, &bytes, 0));
        CHECK(bytes == 0, "%zu bytes behind the end: %s", bytes, text);
        provoke();
        CUlogIterator from = iterator, for_file = iterator;
        bytes = sizeof text;
        CU(cuLogsDumpToMemory(&from, text, &bytes, 0));
        CHECK(bytes > 10 && bytes < sizeof text && text[bytes] == '\0' && strlen(text) == bytes &&
                      text[bytes - 1] == '\n',
              "%zu bytes of log: '%s'", bytes, text);
        snprintf(path, sizeof path, "/tmp/ivgpu-log-%d", (int)getpid());
        CU(cuLogsDumpToFile(&for_file, path, 0));
        CHECK(for_file == from, "the iterators of a file and of memory differ");
        FILE *file = fopen(path, "r");
        CHECK(file != NULL, "%s is not there", path);
        const size_t read_back = fread(again, 1, sizeof again, file);
        fclose(file);
        unlink(path);
        CHECK(read_back >= bytes && memcmp(text, again, bytes) == 0, "the file holds %zu bytes, memory %zu", read_back,
              bytes);
        bytes = sizeof text;
        CU(cuLogsDumpToMemory(&from, text, &bytes, 0)); /* went on: there is no more */
        CHECK(bytes == 0, "%zu bytes twice", bytes);
        bytes = sizeof text;
        CU(cuLogsDumpToMemory(NULL, text, &bytes, 0));
        CHECK(bytes > 10, "%zu bytes of all", bytes);
        CHECK(cuLogsDumpToFile(&from, "/no such folder/file", 0) != CUDA_SUCCESS, "a file in no folder");
}

static void coredumps(void)
{
        uint8_t enabled = 9;
        uint32_t flags = 0;
        size_t bytes = 0;
        if (!test_supported(cuCoredumpGetAttributeGlobal(CU_COREDUMP_ENABLE_ON_EXCEPTION, NULL, &bytes),
                            "cuCoredumpGetAttributeGlobal"))
                return;
        CHECK(bytes == sizeof enabled, "%zu bytes", bytes);
        CU(cuCoredumpGetAttributeGlobal(CU_COREDUMP_ENABLE_ON_EXCEPTION, &enabled, &bytes));
        CHECK(enabled == 0, "core dumps are on");
        CU(cuCoredumpGetAttribute(CU_COREDUMP_ENABLE_ON_EXCEPTION, &enabled, &bytes));
        CHECK(enabled == 0, "core dumps are on in this context");
        bytes = sizeof flags;
        if (test_supported(cuCoredumpGetAttribute(CU_COREDUMP_GENERATION_FLAGS, &flags, &bytes), "generation flags")) {
                uint32_t wanted = CU_COREDUMP_SKIP_SHARED_MEMORY, got = 0;
                CU(cuCoredumpSetAttribute(CU_COREDUMP_GENERATION_FLAGS, &wanted, &bytes));
                CU(cuCoredumpGetAttribute(CU_COREDUMP_GENERATION_FLAGS, &got, &bytes));
                CHECK((got & wanted) != 0, "flags %#x after %#x were set", got, wanted);
                CU(cuCoredumpSetAttribute(CU_COREDUMP_GENERATION_FLAGS, &flags, &bytes));
        }
        bytes = sizeof enabled;
        enabled = 0;
        test_supported(cuCoredumpSetAttributeGlobal(CU_COREDUMP_ENABLE_ON_EXCEPTION, &enabled, &bytes),
                       "switching core dumps off");
}

int main(void)
{
        test_context();
        logs();
        coredumps();
        puts("diagnostics: right");
        return 0;
}
