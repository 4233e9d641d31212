/* A primary context's life, from before there is one: its state, its flags, its end and its next beginning. */
#include "check.h"

/* How waiting goes, of the context's flags. */
static unsigned int expect_active(int active)
{
        unsigned int flags = ~0u;
        int seen = -1;

        CU(cuDevicePrimaryCtxGetState(0, &flags, &seen));
        CHECK(seen == active, "active %d", seen);
        return flags & CU_CTX_SCHED_MASK;
}

static void expect_state(unsigned int flags, int active)
{
        const unsigned int seen = expect_active(active);

        CHECK(seen == flags, "flags 0x%x", seen);
}

/* A context that works: memory is cleared and comes back as it was written. */
static void use(CUcontext context)
{
        uint32_t words[64];
        CUdeviceptr memory;

        CU(cuCtxSetCurrent(context));
        CU(cuMemAlloc_v2(&memory, sizeof(words)));
        CU(cuMemsetD32_v2(memory, 0x5eed, 64));
        CU(cuMemcpyDtoH_v2(words, memory, sizeof(words)));
        for (uint32_t i = 0; i < 64; i++)
                CHECK(words[i] == 0x5eed, "word %u is 0x%x", i, words[i]);
        CU(cuMemFree_v2(memory));
}

static void flags_before_the_first_retain_count(void)
{
        unsigned int flags = 0;
        CUcontext context;

        expect_state(0, 0);
        CU(cuDevicePrimaryCtxSetFlags_v2(0, CU_CTX_SCHED_BLOCKING_SYNC));
        expect_state(CU_CTX_SCHED_BLOCKING_SYNC, 0);
        CU(cuDevicePrimaryCtxRetain(&context, 0));
        expect_state(CU_CTX_SCHED_BLOCKING_SYNC, 1);
        use(context);
        CU(cuCtxGetFlags(&flags));
        CHECK((flags & CU_CTX_SCHED_MASK) == CU_CTX_SCHED_BLOCKING_SYNC, "flags 0x%x", flags);
        CU(cuDevicePrimaryCtxRelease_v2(0));
        expect_state(0, 0); /* the flags end with it */
        CU_EXPECT(CUDA_ERROR_INVALID_CONTEXT, cuDevicePrimaryCtxRelease_v2(0));
}

static void it_ends_with_its_last_reference_and_begins_anew(void)
{
        CUcontext context, again;

        CU(cuDevicePrimaryCtxSetFlags_v2(0, CU_CTX_SCHED_AUTO));
        CU(cuDevicePrimaryCtxRetain(&context, 0));
        CU(cuDevicePrimaryCtxRetain(&again, 0));
        CHECK(context == again, "two primary contexts");
        CU(cuDevicePrimaryCtxRelease_v2(0));
        expect_state(0, 1);
        use(context);
        CU(cuDevicePrimaryCtxRelease_v2(0));
        expect_state(0, 0);
        CU(cuDevicePrimaryCtxRetain(&context, 0));
        use(context);
        CU(cuDevicePrimaryCtxRelease_v2(0));
        expect_state(0, 0);
}

/* Last: references may outlive it. */
static void a_reset_ends_it_with_what_is_in_it(void)
{
        CUcontext context;
        CUdeviceptr memory;

        CU(cuDevicePrimaryCtxRetain(&context, 0));
        use(context);
        CU(cuMemAlloc_v2(&memory, 1 << 20));
        CU(cuDevicePrimaryCtxReset_v2(0));
        expect_state(0, 0);
}

static void a_created_context_leaves_it_inactive(void)
{
        CUcontext context;

        CU(cuCtxCreate_v2(&context, 0, 0));
        expect_state(0, 0);
        use(context);
        CU(cuCtxDestroy_v2(context));
        expect_state(0, 0);
}

int main(int argc, char **argv)
{
        CU(cuInit(0));
        expect_state(0, 0);
        if (argc > 1 && strcmp(argv[1], "created") == 0) /* first of all, that is */
                a_created_context_leaves_it_inactive();
        else if (argc > 1 && strcmp(argv[1], "plain") == 0)
                it_ends_with_its_last_reference_and_begins_anew();
        flags_before_the_first_retain_count();
        it_ends_with_its_last_reference_and_begins_anew();
        a_created_context_leaves_it_inactive();
        a_reset_ends_it_with_what_is_in_it();
        puts("primary: passed");
        return 0;
}
