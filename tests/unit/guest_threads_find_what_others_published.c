/* What one thread of the program publishes and another finds: a function's description, a kernel's function, the mark
 * that work is done. The finder looks with relaxed loads until it is there, so that nothing but the shim's own order is
 * left to carry what it then uses. What that order lacks ThreadSanitizer tells (docs/ordering.md, "The guest's tables",
 * "Copies"). */
#include "cuda_api.h"
#include "function.h"
#include "guest_played_host.h"

static struct played_host host;
static char said[8192];
static CUcontext context;
static struct ivg_object *object;  /* what is published about */
static uint32_t effect;            /* plain: of the work that is marked done */
static _Atomic(uint32_t) is_there; /* the finder */

static uint32_t calls(uint16_t number)
{
        return atomic_load_explicit(&host.calls[number], memory_order_relaxed);
}

static void begin(enum ivg_kind kind)
{
        struct ivg_object *owner;

        played_host_start(&host);
        REQUIRE_RESULT(cuInit(0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxCreate_v2(&context, 0, 0), CUDA_SUCCESS);
        owner = (struct ivg_object *)context;
        if (kind == IVG_KIND_STREAM)
                REQUIRE_RESULT(cuStreamCreate((CUstream *)&object, 0), CUDA_SUCCESS);
        else
                REQUIRE_RESULT(ivg_function_create(kind, owner, owner, "name", &object), CUDA_SUCCESS);
}

static void finder_begins(void)
{
        REQUIRE_RESULT(cuCtxSetCurrent(context), CUDA_SUCCESS);
        ivg_store_relaxed_u32(&is_there, 1);
}

/* Runs `find` beside what the caller does until the returned thread is joined. */
static pthread_t finder_start(void *(*find)(void *))
{
        pthread_t thread;

        REQUIRE(pthread_create(&thread, NULL, find, NULL) == 0);
        while (ivg_load_relaxed_u32(&is_there) == 0)
                sched_yield();
        return thread;
}

/* ---- F1, F2: descriptions ---- */

static void *find_description(void *unused)
{
        struct ivg_function *function = ivg_function_of(object);
        size_t offset, bytes;

        finder_begins();
        while (atomic_load_explicit(&function->attributes[0], memory_order_relaxed) == NULL)
                sched_yield();
        REQUIRE_RESULT(cuFuncGetParamInfo((CUfunction)object, 0, &offset, &bytes), CUDA_ERROR_INVALID_VALUE); /* none */
        return unused;
}

static void descriptions(void)
{
        pthread_t finder;
        int value;

        begin(IVG_KIND_FUNCTION);
        finder = finder_start(find_description);
        (void)cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_NUM_REGS, (CUfunction)object);
        pthread_join(finder, NULL);
        REQUIRE(calls(IVG_CALL_ivgFunctionDescribe) == 1);
}

/* ---- I1, I2: a kernel's function in a context ---- */

static void *find_instance(void *unused)
{
        const struct ivg_function *kernel = ivg_function_of(object);
        CUfunction function = NULL;

        finder_begins();
        while (atomic_load_explicit(&kernel->instances, memory_order_relaxed) == NULL)
                sched_yield();
        REQUIRE_RESULT(cuKernelGetFunction(&function, (CUkernel)object), CUDA_SUCCESS);
        REQUIRE(function != NULL);
        return unused;
}

static void instances(void)
{
        CUfunction function;
        pthread_t finder;

        begin(IVG_KIND_KERNEL);
        finder = finder_start(find_instance);
        REQUIRE_RESULT(cuKernelGetFunction(&function, (CUkernel)object), CUDA_SUCCESS);
        pthread_join(finder, NULL);
        REQUIRE(calls(IVG_CALL_cuKernelGetFunction) == 1);
}

/* ---- S1, S2: done work ---- */

static void *find_mark(void *unused)
{
        const uint64_t before = ivg_load_relaxed_u64(&object->done_tail);

        finder_begins();
        while (ivg_load_relaxed_u64(&object->done_tail) == before)
                sched_yield();
        REQUIRE_RESULT(cuStreamQuery((CUstream)object), CUDA_SUCCESS);
        REQUIRE(effect == 7);
        return unused;
}

static void marks(void)
{
        pthread_t finder;

        begin(IVG_KIND_STREAM);
        finder = finder_start(find_mark);
        effect = 7;
        REQUIRE_RESULT(cuStreamQuery((CUstream)object), CUDA_SUCCESS);
        pthread_join(finder, NULL);
        REQUIRE(calls(IVG_CALL_cuStreamQuery) == 1); /* the finder needed none */
}

static void what_is_found_is_whole(void **state)
{
        static void (*const scenarios[])(void) = {descriptions, instances, marks};

        (void)state;
        for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
                played_scenario(scenarios[i], said, sizeof(said));
                assert_int_equal(played_lines(said), 0);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_found_is_whole),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
