/* RECORDS asynchronous records in a row through the executor's consumer, from the ring to a driver that does nothing.
 * All lie in the ring before the first is done, so no look at an empty ring is counted. fast_path.py counts
 * instructions between the first driver call and the last. usage: exec_burst [launch|record|chained] */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "../unit/exec_fixture.h"
#include "collect.h"
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORDS 1001u /* 1,000 from the first driver call to the last */
#define EVENT (IVG_ID_FIRST + 40u)

static sem_t filled;
static _Atomic(uint32_t) done;
static _Atomic(uint64_t) first_ns, last_ns;

static CUresult one_more(void)
{
        const uint32_t number = ++done;

        if (number == 1)
                sem_wait(&filled);
        if (number == 1) {
                first_ns = ivg_clock_ns();
                GUARD_TOGGLE_COLLECT();
        } else if (number == RECORDS) {
                GUARD_TOGGLE_COLLECT();
                last_ns = ivg_clock_ns();
        }
        return CUDA_SUCCESS;
}

static CUresult counted_launch(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx,
                               unsigned int by, unsigned int bz, unsigned int shared, CUstream stream, void **params,
                               void **extra)
{
        (void)f, (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared, (void)stream, (void)params;
        (void)extra;
        return one_more();
}

static CUresult counted_record(CUevent event, CUstream stream)
{
        (void)event, (void)stream;
        return one_more();
}

static void burst(struct exec_fixture *f, uint16_t number, void *request, uint32_t bytes)
{
        atomic_store(&done, 0);
        sem_init(&filled, 0, 0);
        f->exec->driver.cuLaunchKernel = counted_launch;
        f->exec->driver.cuEventRecord = counted_record;
        for (uint32_t i = 0; i < RECORDS; i++)
                fixture_async(f, &f->producer, number, request, bytes);
        sem_post(&filled);
        assert_true(fixture_reaches(&done, RECORDS));
        fixture_settle(f, &f->producer);
        assert_int_equal(atomic_load(&done), RECORDS);
        printf("exec_burst: %.1f ns a record\n", (double)(last_ns - first_ns) / (RECORDS - 1));
        sem_destroy(&filled);
}

/* ---- graphs that are numbers of nodes (chain.h) ---- */

static CUresult number_graph(CUgraph *graph, unsigned int flags)
{
        static uint64_t nodes[64];
        static uint32_t graphs;

        (void)flags;
        assert_in_range(graphs, 0, sizeof(nodes) / sizeof(nodes[0]) - 1);
        *graph = (CUgraph)(void *)&nodes[graphs++];
        return CUDA_SUCCESS;
}

static CUresult number_node(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t after_count,
                            const CUDA_KERNEL_NODE_PARAMS *params)
{
        (void)after, (void)after_count, (void)params;
        *node = (CUgraphNode)(void *)graph;
        ++*(uint64_t *)(void *)graph;
        return CUDA_SUCCESS;
}

static CUresult number_instantiate(CUgraphExec *exec, CUgraph graph, unsigned long long flags)
{
        (void)flags;
        *exec = (CUgraphExec)(void *)graph;
        return CUDA_SUCCESS;
}

static CUresult number_set(CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *params)
{
        (void)exec, (void)node, (void)params;
        return CUDA_SUCCESS;
}

static CUresult number_launch(CUgraphExec exec, CUstream stream)
{
        (void)stream;
        for (uint64_t i = 0; i < *(const uint64_t *)(const void *)exec; i++)
                (void)one_more();
        return CUDA_SUCCESS;
}

static CUresult number_destroy(CUgraph graph)
{
        (void)graph;
        return CUDA_SUCCESS;
}

static CUresult number_exec_destroy(CUgraphExec exec)
{
        (void)exec;
        return CUDA_SUCCESS;
}

static CUresult no_clusters(int *value, CUfunction_attribute attribute, CUfunction function)
{
        (void)attribute, (void)function;
        *value = 0;
        return CUDA_SUCCESS;
}

static void fill_numbers(struct ivg_driver *driver)
{
        driver->cuGraphCreate = number_graph;
        driver->cuGraphAddKernelNode_v2 = number_node;
        driver->cuGraphInstantiateWithFlags = number_instantiate;
        driver->cuGraphExecKernelNodeSetParams_v2 = number_set;
        driver->cuGraphLaunch = number_launch;
        driver->cuGraphDestroy = number_destroy;
        driver->cuGraphExecDestroy = number_exec_destroy;
        driver->cuFuncGetAttribute = no_clusters;
}

static int chained_setup(void **state)
{
        assert_int_equal(setenv("IVGPU_LAUNCHES", "chained", 1), 0);
        return fixture_setup_driver(state, fill_numbers);
}

static void test_launches_reach_the_driver(void **state)
{
        struct {
                struct ivg_request_ivgLaunch request;
                uint8_t params[40]; /* of six parameters */
        } launch = {.request = {.function = FIXTURE_KERNEL(FAKE_KERNEL_OK),
                                .stream = FIXTURE_STREAM,
                                .grid_x = 1,
                                .grid_y = 1,
                                .grid_z = 1,
                                .block_x = 32,
                                .block_y = 1,
                                .block_z = 1,
                                .params = {.bytes = 36,
                                           .where = IVG_RANGE_INLINE,
                                           .offset = sizeof(struct ivg_request_ivgLaunch)}}};

        memset(launch.params, 0x11, 36);
        burst(*state, IVG_CALL_ivgLaunch, &launch, sizeof(launch));
}

static void test_event_records_reach_the_driver(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_cuEventRecord record = {.hEvent = EVENT, .hStream = FIXTURE_STREAM};
        struct ivg_exec_call put = {.exec = f->exec, .context = FIXTURE_CONTEXT};

        assert_true(ivg_handle_put(&put, IVG_KIND_EVENT, EVENT, (void *)(uintptr_t)0xe0));
        burst(f, IVG_CALL_cuEventRecord, &record, sizeof(record));
}

int main(int argc, char **argv)
{
        const struct CMUnitTest launch[] = {
                cmocka_unit_test_setup_teardown(test_launches_reach_the_driver, fixture_setup, fixture_teardown),
        };
        const struct CMUnitTest record[] = {
                cmocka_unit_test_setup_teardown(test_event_records_reach_the_driver, fixture_setup, fixture_teardown),
        };
        const struct CMUnitTest chained[] = {
                cmocka_unit_test_setup_teardown(test_launches_reach_the_driver, chained_setup, fixture_teardown),
        };
        int failed = 0;

        unsetenv("IVGPU_LAUNCHES");
        if (argc < 2 || strcmp(argv[1], "launch") == 0)
                failed |= cmocka_run_group_tests(launch, NULL, NULL);
        if (argc < 2 || strcmp(argv[1], "record") == 0)
                failed |= cmocka_run_group_tests(record, NULL, NULL);
        if (argc < 2 || strcmp(argv[1], "chained") == 0)
                failed |= cmocka_run_group_tests(chained, NULL, NULL);
        return failed;
}
