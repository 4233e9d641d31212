/* What one thread of the program publishes and another finds: a function's description, a kernel's function, the mark
 * that work is done, what is known of an event, what a stream was given. The finder looks with relaxed loads until it
 * is there, so that nothing but the shim's own order is left to carry what it then uses. What that order lacks
 * ThreadSanitizer tells (docs/ordering.md, "The guest's tables", "Copies"). */
#include "cuda_api.h"
#include "function.h"
#include "guest_played_host.h"
#include "work.h"

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

static void give(void)
{
        CUevent event;

        REQUIRE_RESULT(cuEventCreate(&event, 0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuEventRecord(event, (CUstream)object), CUDA_SUCCESS);
}

static void begin(enum ivg_kind kind)
{
        struct ivg_object *owner;

        played_host_start(&host);
        REQUIRE_RESULT(cuInit(0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxCreate_v2(&context, 0, 0), CUDA_SUCCESS);
        owner = (struct ivg_object *)context;
        if (kind == IVG_KIND_STREAM) {
                REQUIRE_RESULT(cuStreamCreate((CUstream *)&object, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
                give();
        } else if (kind == IVG_KIND_EVENT) {
                REQUIRE_RESULT(cuEventCreate((CUevent *)&object, 0), CUDA_SUCCESS);
        } else {
                REQUIRE_RESULT(ivg_function_create(kind, owner, owner, "name", &object), CUDA_SUCCESS);
        }
}

/* A finder's beginning: looks until `is_published`, which loads relaxed. */
#define FIND_WHEN(is_published)                                         \
        do {                                                            \
                REQUIRE_RESULT(cuCtxSetCurrent(context), CUDA_SUCCESS); \
                ivg_store_relaxed_u32(&is_there, 1);                    \
                while (!(is_published))                                 \
                        sched_yield();                                  \
        } while (0)

/* ---- F1, F2: descriptions ---- */

static void *find_description(void *unused)
{
        struct ivg_function *function = ivg_function_of(object);
        size_t offset, bytes;

        FIND_WHEN(atomic_load_explicit(&function->attributes[0], memory_order_relaxed) != NULL);
        REQUIRE_RESULT(cuFuncGetParamInfo((CUfunction)object, 0, &offset, &bytes), CUDA_ERROR_INVALID_VALUE); /* none */
        return unused;
}

static void publish_description(void)
{
        int value;

        (void)cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_NUM_REGS, (CUfunction)object);
}

/* ---- I1, I2: a kernel's function in a context ---- */

static void *find_instance(void *unused)
{
        const struct ivg_function *kernel = ivg_function_of(object);
        CUfunction function = NULL;

        FIND_WHEN(atomic_load_explicit(&kernel->instances, memory_order_relaxed) != NULL);
        REQUIRE_RESULT(cuKernelGetFunction(&function, (CUkernel)object), CUDA_SUCCESS);
        REQUIRE(function != NULL);
        return unused;
}

static void publish_instance(void)
{
        CUfunction function;

        REQUIRE_RESULT(cuKernelGetFunction(&function, (CUkernel)object), CUDA_SUCCESS);
}

/* ---- S1, S2: done work ---- */

static void *find_mark(void *unused)
{
        const uint64_t before = ivg_load_relaxed_u64(&object->done_tail);

        FIND_WHEN(ivg_load_relaxed_u64(&object->done_tail) != before);
        REQUIRE_RESULT(cuStreamQuery((CUstream)object), CUDA_SUCCESS);
        REQUIRE(effect == 7);
        return unused;
}

static void publish_mark(void)
{
        effect = 7;
        REQUIRE_RESULT(cuStreamQuery((CUstream)object), CUDA_SUCCESS);
}

/* ---- Q1, Q2: done events ---- */

static void *find_done_event(void *unused)
{
        FIND_WHEN(ivg_load_relaxed_u64(&object->signal) != 0);
        REQUIRE_RESULT(cuEventQuery((CUevent)object), CUDA_SUCCESS);
        REQUIRE(effect == 7);
        return unused;
}

static void publish_done_event(void)
{
        effect = 7;
        REQUIRE_RESULT(cuEventQuery((CUevent)object), CUDA_SUCCESS);
}

/* ---- N1, N2; N3, N4: what a stream was given, and that it is done ---- */

static void object_has_work(bool has)
{
        struct ivg_context_work all;
        bool found = false;

        REQUIRE(ivg_context_work_find((struct ivg_object *)context, &all));
        for (uint32_t i = 0; i < all.count; i++)
                found = found || all.of[i].work == object->data;
        REQUIRE(found == has && effect == 7);
}

static void *find_given(void *unused)
{
        const struct ivg_work *work = object->data;
        const uint64_t before = ivg_load_relaxed_u64(&work->given);

        FIND_WHEN(ivg_load_relaxed_u64(&work->given) != before);
        object_has_work(true);
        return unused;
}

static void publish_given(void)
{
        size_t free, total;

        effect = 7;
        give();
        (void)cuMemGetInfo_v2(&free, &total); /* the host has taken the record */
}

static void *find_done_work(void *unused)
{
        const struct ivg_work *work = object->data;

        FIND_WHEN(ivg_load_relaxed_u64(&work->done) == ivg_load_relaxed_u64(&work->given));
        object_has_work(false);
        return unused;
}

/* ---- all of them ---- */

static const struct found {
        enum ivg_kind kind; /* of the object */
        void *(*find)(void *);
        void (*publish)(void);
        uint16_t call; /* the publisher's alone: the finder needs none */
} * found;

static void publish_and_find(void)
{
        pthread_t finder;

        begin(found->kind);
        REQUIRE(pthread_create(&finder, NULL, found->find, NULL) == 0);
        while (ivg_load_relaxed_u32(&is_there) == 0)
                sched_yield();
        found->publish();
        pthread_join(finder, NULL);
        REQUIRE(calls(found->call) == 1);
}

static void what_is_found_is_whole(void **state)
{
        static const struct found all[] = {
                {IVG_KIND_FUNCTION, find_description, publish_description, IVG_CALL_ivgFunctionDescribe},
                {IVG_KIND_KERNEL, find_instance, publish_instance, IVG_CALL_cuKernelGetFunction},
                {IVG_KIND_STREAM, find_mark, publish_mark, IVG_CALL_cuStreamQuery},
                {IVG_KIND_EVENT, find_done_event, publish_done_event, IVG_CALL_cuEventQuery},
                {IVG_KIND_STREAM, find_given, publish_given, IVG_CALL_cuMemGetInfo_v2},
                {IVG_KIND_STREAM, find_done_work, publish_mark, IVG_CALL_cuStreamQuery},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
                found = &all[i];
                played_scenario(publish_and_find, said, sizeof(said));
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
