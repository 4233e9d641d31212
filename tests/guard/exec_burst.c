/* RECORDS asynchronous records in a row through the executor's consumer, from the ring to a driver that does nothing.
 * All lie in the ring before the first is done, so no look at an empty ring is counted. fast_path.py counts
 * instructions between the first driver call and the last. usage: exec_burst [launch|record] */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "../unit/exec_fixture.h"
#include "collect.h"
#include <cmocka.h>
#include <stdio.h>
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
        int failed = 0;

        if (argc < 2 || strcmp(argv[1], "launch") == 0)
                failed |= cmocka_run_group_tests(launch, NULL, NULL);
        if (argc < 2 || strcmp(argv[1], "record") == 0)
                failed |= cmocka_run_group_tests(record, NULL, NULL);
        return failed;
}
