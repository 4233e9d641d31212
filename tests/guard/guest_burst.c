/* COUNT asynchronous calls of one kind in a row, while the executor is held in a launch: it is awake and takes nothing,
 * and the ring has room, so what the calls cost here is theirs alone, on any machine. fast_path.py counts instructions
 * and system calls between the two marks. usage: guest_burst launch|record COUNT, with the null driver */
#include "check.h"
#include "collect.h"
#include <unistd.h>

#define COUNT_MAX 1900 /* two slots each, and the ring has 4096 */

static const char ptx[] =
        ".version 6.3\n.target sm_75\n.address_size 64\n"
        ".visible .entry empty_6(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 d,"
        " .param .u32 e, .param .f32 f)\n{\n\tret;\n}\n"
        ".visible .entry hold(.param .u64 word)\n{\n\t.reg .pred %p;\n\t.reg .u32 %v;\n\t.reg .u64 %a;\n"
        "\tld.param.u64 %a, [word];\nagain:\n\tld.volatile.u32 %v, [%a];\n\tsetp.eq.u32 %p, %v, 0;\n"
        "\t@%p bra again;\n\tret;\n}\n";

struct burst {
        CUfunction empty;
        CUstream stream;
        CUevent event;
};

static void launch(const struct burst *burst)
{
        uint64_t a = 1, b = 2, c = 3;
        uint32_t d = 4, e = 5;
        float f = 6;
        void *parameters[] = {&a, &b, &c, &d, &e, &f};

        CU(cuLaunchKernel(burst->empty, 1, 1, 1, 32, 1, 1, 0, burst->stream, parameters, NULL));
}

static void record(const struct burst *burst)
{
        CU(cuEventRecord(burst->event, burst->stream));
}

/* Seen by strace, refused by the kernel. */
static void mark(const char *text)
{
        CHECK(write(-1, text, strlen(text)) < 0, "descriptor -1 can be written to");
}

int main(int argc, char **argv)
{
        void (*call)(const struct burst *) = argc == 3 && strcmp(argv[1], "launch") == 0   ? launch
                                             : argc == 3 && strcmp(argv[1], "record") == 0 ? record
                                                                                           : NULL;
        const int count = argc == 3 ? atoi(argv[2]) : 0;
        struct burst burst;
        _Atomic(uint32_t) *word;
        void *pinned;

        CHECK(call != NULL && count > 0 && count <= COUNT_MAX, "usage: guest_burst launch|record COUNT");
        test_context();
        CUmodule module;
        CU(cuModuleLoadData(&module, ptx));
        burst.empty = test_function(module, "empty_6");
        CUfunction hold = test_function(module, "hold");
        CU(cuStreamCreate(&burst.stream, CU_STREAM_NON_BLOCKING));
        CU(cuEventCreate(&burst.event, CU_EVENT_DISABLE_TIMING));
        CU(cuMemHostAlloc(&pinned, 64, 0));
        word = pinned;
        *word = 1;
        void *parameters[] = {&word};
        CU(cuLaunchKernel(hold, 1, 1, 1, 1, 1, 1, 0, burst.stream, parameters, NULL));
        call(&burst); /* what is fetched once is there then */
        CU(cuCtxSynchronize());

        *word = 0;
        CU(cuLaunchKernel(hold, 1, 1, 1, 1, 1, 1, 0, burst.stream, parameters, NULL));
        mark("burst begins");
        GUARD_TOGGLE_COLLECT();
        for (int i = 0; i < count; i++)
                call(&burst);
        GUARD_TOGGLE_COLLECT();
        mark("burst ends");
        *word = 1;
        CU(cuCtxSynchronize());
        printf("guest_burst: %d calls\n", count);
        return 0;
}
