/* Launches in a row go to the driver as graphs (chain.h), and the device gets what plain launches would have given it:
 * each once, in its stream's order, with its own parameters; what cannot be in a graph comes as it is; and graphs end
 * before what they use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "chain.h"
#include "exec_fake_graphs.h"
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ID(n) (IVG_ID_FIRST + 100u + (n))
#define EVENT ID(0)
#define MODULE ID(1)
#define OTHER_CONTEXT ID(2)
#define STREAM(n) ((n) == 0 ? FIXTURE_STREAM : ID(10u + (n)))
#define KERNEL_A FIXTURE_KERNEL(FAKE_KERNEL_OK)
#define KERNEL_B FIXTURE_KERNEL(FAKE_KERNEL_FAILS) /* this driver knows no kernel that fails */
#define KERNEL(n) ID(1000u + (n))
#define LAUNCHES_MAX 8192u
#define LEGACY UINT32_MAX

/* What has been launched, by numbers from 1 on. */
static struct sent {
        ivg_id kernel;
        uint32_t stream; /* of STREAM() or LEGACY */
} sent[LAUNCHES_MAX];
static uint32_t sent_count;
static const struct fake_arrival *seen;
static uint32_t seen_count, seen_before;

static int setup(void **state, const char *how)
{
        struct exec_fixture *f;
        struct ivg_exec_call put;

        sent_count = seen_count = seen_before = 0;
        if (how)
                assert_int_equal(setenv("IVGPU_LAUNCHES", how, 1), 0);
        else
                unsetenv("IVGPU_LAUNCHES");
        if (fixture_setup_driver(state, fake_graphs_fill))
                return -1;
        f = *state;
        put = (struct ivg_exec_call){.exec = f->exec, .context = FIXTURE_CONTEXT};
        assert_true(ivg_handle_put(&put, IVG_KIND_EVENT, EVENT, (void *)(uintptr_t)0xe0));
        assert_true(ivg_handle_put(&put, IVG_KIND_MODULE, MODULE, (void *)(uintptr_t)0xd0));
        assert_true(ivg_handle_put(&put, IVG_KIND_CONTEXT, OTHER_CONTEXT, (void *)(uintptr_t)0xc0));
        return 0;
}

static int setup_chained(void **state)
{
        return setup(state, "chained");
}

static int setup_patient(void **state)
{
        return setup(state, NULL);
}

static int setup_plain(void **state)
{
        return setup(state, "plain");
}

static int teardown(void **state)
{
        const int result = fixture_teardown(state);

        fake_graphs_free();
        return result;
}

/* ---- the guest ---- */

struct launch_record {
        struct ivg_request_ivgLaunch request;
        uint64_t params[2];
};

static struct launch_record launch_record(ivg_id kernel, uint32_t stream)
{
        const uint32_t number = ++sent_count;

        assert_true(number < LAUNCHES_MAX);
        sent[number] = (struct sent){.kernel = kernel, .stream = stream};
        return (struct launch_record){.request = {.function = kernel,
                                                  .stream = stream == LEGACY ? IVG_ID_STREAM_LEGACY : STREAM(stream),
                                                  .grid_x = number,
                                                  .grid_y = 1,
                                                  .grid_z = 1,
                                                  .block_x = 1,
                                                  .block_y = 1,
                                                  .block_z = 1,
                                                  .params = {.bytes = 16,
                                                             .where = IVG_RANGE_INLINE,
                                                             .offset = sizeof(struct ivg_request_ivgLaunch)}},
                                      .params = {number, ~(uint64_t)number}};
}

static void launch(struct exec_fixture *f, ivg_id kernel, uint32_t stream)
{
        struct launch_record record = launch_record(kernel, stream);

        fixture_async(f, &f->producer, IVG_CALL_ivgLaunch, &record, sizeof(record));
}

static void launch_many(struct exec_fixture *f, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++)
                launch(f, KERNEL_A, 0);
}

static void record_event(struct exec_fixture *f)
{
        struct ivg_request_cuEventRecord request = {.hEvent = EVENT, .hStream = FIXTURE_STREAM};

        fixture_async(f, &f->producer, IVG_CALL_cuEventRecord, &request, sizeof(request));
}

/* The consumer stays in a call: what is sent now is one batch, as long as it is no longer than a batch. */
static void hold_at_some_look(struct exec_fixture *f)
{
        const uint32_t held = atomic_load(&fake_graphs.held);

        fixture_settle(f, &f->producer);
        atomic_store(&fake_graphs.hold, 1);
        record_event(f);
        assert_true(fixture_reaches(&fake_graphs.held, held + 1));
}

/* The same, and the gate looks at its first launch, so that it need not in its middle. */
static void hold(struct exec_fixture *f)
{
        hold_at_some_look(f);
        atomic_fetch_add(&f->exec->board->grants[0].wake, 1);
}

static void let_go(struct exec_fixture *f)
{
        sem_post(&fake.release);
        fixture_settle(f, &f->producer);
}

static void create_streams(struct exec_fixture *f, uint32_t end)
{
        for (uint32_t i = 1; i < end; i++) {
                struct ivg_request_cuStreamCreateWithPriority request = {.phStream = STREAM(i)};

                fixture_async(f, &f->producer, IVG_CALL_cuStreamCreateWithPriority, &request, sizeof(request));
        }
}

/* ---- what has arrived ---- */

static uintptr_t stream_handle(uint32_t stream)
{
        return stream == LEGACY ? (uintptr_t)CU_STREAM_LEGACY : 0x5000u + stream;
}

static void check_launch(const struct fake_arrival *arrival)
{
        const struct sent *launch = &sent[arrival->number];

        assert_true(arrival->number >= 1 && arrival->number <= sent_count);
        assert_int_equal(arrival->stream, stream_handle(launch->stream));
        assert_int_equal(arrival->params_bytes, 16);
        assert_int_equal(arrival->params[0], arrival->number);
        assert_int_equal(arrival->params[1], ~(uint64_t)arrival->number);
}

/* All that was launched has arrived, but `lost`; each once, in its stream's order. */
static void check_all_but(uint32_t lost)
{
        static bool arrived[LAUNCHES_MAX];
        uint32_t last_of_stream[64] = {0}, count = 0;

        memset(arrived, 0, sizeof(arrived));
        seen_before = seen_count;
        seen_count = fake_arrivals(&seen);
        for (uint32_t i = 0; i < seen_count; i++) {
                const uint32_t place = seen[i].graph == FAKE_NO_LAUNCH ? 0 : sent[seen[i].number].stream % 63;

                if (seen[i].graph == FAKE_NO_LAUNCH)
                        continue;
                check_launch(&seen[i]);
                assert_false(arrived[seen[i].number]);
                assert_true(seen[i].number > last_of_stream[place]);
                arrived[seen[i].number] = true;
                last_of_stream[place] = seen[i].number;
                count++;
        }
        assert_int_equal(count, sent_count - (lost != 0));
        assert_false(arrived[lost]);
}

static void check_all(void)
{
        check_all_but(0);
}

/* What has come since the check before came with graphs of these sizes. */
static void check_graphs(const uint32_t *sizes, size_t count)
{
        uint32_t place = seen_before;

        for (size_t i = 0; i < count; i++)
                for (uint32_t of = 0; of < (sizes[i] == FAKE_PLAIN || sizes[i] == FAKE_NO_LAUNCH ? 1 : sizes[i]); of++)
                        assert_int_equal(place < seen_count ? seen[place++].graph : 0xbad, sizes[i]);
        assert_int_equal(place, seen_count);
}
#define CHECK_GRAPHS(...) \
        check_graphs((const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

/* A kernel's first launch. */
static void make_known(struct exec_fixture *f, ivg_id kernel)
{
        launch(f, kernel, 0);
        fixture_settle(f, &f->producer);
        check_all();
        CHECK_GRAPHS(FAKE_PLAIN);
}

static int32_t deferred_error(struct exec_fixture *f)
{
        struct ivg_request_ivgTakeAsyncError request = {.header = {0}};
        struct ivg_answer_ivgTakeAsyncError answer = {0};

        assert_int_equal(fixture_call(f, &f->producer, IVG_CALL_ivgTakeAsyncError, &request, sizeof(request), &answer,
                                      sizeof(answer)),
                         CUDA_SUCCESS);
        return answer.error;
}

/* ---- what goes into graphs ---- */

static void as_few_graphs_as_make_up_the_number(void **state)
{
        struct exec_fixture *f = *state;

        make_known(f, KERNEL_A);
        for (uint32_t count = 1; count <= IVG_CHAIN_LAUNCHES_MAX; count++) {
                uint32_t sizes[IVG_CHAIN_SIZES], graphs = 0;

                hold(f);
                launch_many(f, count);
                let_go(f);
                for (uint32_t size = IVG_CHAIN_LAUNCHES_MAX; size > 0; size /= 2)
                        if (count & size)
                                sizes[graphs++] = size;
                check_all();
                check_graphs(sizes, graphs);
        }
        assert_int_equal(atomic_load(&fake_graphs.execs_made), IVG_CHAIN_SIZES);
}

static void more_than_a_batch_keeps_its_order(void **state)
{
        struct exec_fixture *f = *state;

        make_known(f, KERNEL_A);
        launch_many(f, 1000);
        fixture_settle(f, &f->producer);
        check_all();
}

static void plain_means_plain(void **state)
{
        struct exec_fixture *f = *state;

        make_known(f, KERNEL_A);
        launch_many(f, 200);
        fixture_settle(f, &f->producer);
        check_all();
        assert_int_equal(atomic_load(&fake_graphs.instantiations), 0);
}

static void a_stream_is_patient(void **state)
{
        struct exec_fixture *f = *state;

        launch_many(f, IVG_CHAIN_PATIENCE_MIN);
        fixture_settle(f, &f->producer);
        check_all();
        assert_int_equal(atomic_load(&fake_graphs.instantiations), 0);
        hold(f);
        launch_many(f, 8);
        let_go(f);
        check_all();
        CHECK_GRAPHS(8);
}

static void whole_order_stays(void)
{
        for (uint32_t i = 1; i < seen_count; i++)
                assert_true(seen[i].number > seen[i - 1].number);
}

/* A launch for another stream has what was gathered issued: a kernel may need one that was launched before it. */
static void each_stream_has_its_own(void **state)
{
        struct exec_fixture *f = *state;

        create_streams(f, 2);
        make_known(f, KERNEL_A);
        make_known(f, KERNEL_B);
        hold(f);
        for (uint32_t i = 0; i < 4; i++) {
                launch(f, KERNEL_A, 0);
                launch(f, i % 3 ? KERNEL_A : KERNEL_B, 0);
                launch(f, KERNEL_B, 1);
        }
        let_go(f);
        check_all();
        CHECK_GRAPHS(2, 1, 2, 1, 2, 1, 2, 1);
        whole_order_stays();
}

/* It waits for the others, and they for it: the whole order stays. */
static void the_legacy_stream_stays_between(void **state)
{
        struct exec_fixture *f = *state;

        create_streams(f, 2);
        make_known(f, KERNEL_A);
        hold(f);
        launch(f, KERNEL_A, 0);
        launch(f, KERNEL_A, 0);
        launch(f, KERNEL_A, LEGACY);
        launch(f, KERNEL_A, LEGACY);
        launch(f, KERNEL_A, 1);
        launch(f, KERNEL_A, LEGACY);
        let_go(f);
        check_all();
        CHECK_GRAPHS(2, 2, 1, 1);
        whole_order_stays();
}

static void other_records_stay_between(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_cuMemsetD8Async set = {.uc = 5, .N = 16, .hStream = FIXTURE_STREAM};

        assert_int_equal(fixture_alloc(f, &f->producer, 16, &set.dstDevice), CUDA_SUCCESS);
        make_known(f, KERNEL_A);
        hold(f);
        launch_many(f, 3);
        record_event(f);
        launch_many(f, 2);
        fixture_async(f, &f->producer, IVG_CALL_cuMemsetD8Async, &set, sizeof(set));
        launch_many(f, 1);
        let_go(f);
        check_all();
        CHECK_GRAPHS(2, 1, FAKE_NO_LAUNCH, 2, FAKE_NO_LAUNCH, 1);
        fixture_free_async(f, &f->producer, set.dstDevice);
}

static void a_launch_with_an_answer_overtakes_nothing(void **state)
{
        struct exec_fixture *f = *state;
        struct launch_record record;
        struct ivg_call_header header;

        make_known(f, KERNEL_A);
        hold(f);
        launch_many(f, 3);
        record = launch_record(KERNEL_A, 0);
        header = fixture_header(&f->producer, sizeof(record), true);
        memcpy(&record, &header, sizeof(header));
        fixture_send(f, &f->producer, IVG_CALL_ivgLaunch, &record, sizeof(record));
        sem_post(&fake.release);
        assert_int_equal(fixture_answer(f, &f->producer, NULL, 0), CUDA_SUCCESS);
        check_all();
        CHECK_GRAPHS(2, 1, FAKE_PLAIN);
}

/* ---- what cannot be in one ---- */

static void what_a_node_cannot_be_is_launched_plainly(void **state)
{
        struct exec_fixture *f = *state;

        make_known(f, KERNEL_A);
        make_known(f, KERNEL_B);
        atomic_store(&fake_graphs.node_fails, sent_count + 12);
        hold(f);
        launch_many(f, 14); /* 8, 4 with the one that cannot be, 2 */
        let_go(f);
        check_all();
        CHECK_GRAPHS(8, FAKE_PLAIN, FAKE_PLAIN, FAKE_PLAIN, FAKE_PLAIN, 2);
        hold(f);
        launch_many(f, 2); /* that kernel from now on */
        launch(f, KERNEL_B, 0);
        launch(f, KERNEL_B, 0);
        let_go(f);
        check_all();
        CHECK_GRAPHS(FAKE_PLAIN, FAKE_PLAIN, 2);
        assert_int_equal(deferred_error(f), CUDA_SUCCESS);
}

static void a_kernel_that_makes_no_node_leaves_others_theirs(void **state)
{
        struct exec_fixture *f = *state;

        make_known(f, KERNEL_A);
        make_known(f, KERNEL_B);
        atomic_store(&fake_graphs.added_fails, sent_count + 1);
        hold(f);
        launch(f, KERNEL_A, 0);
        launch(f, KERNEL_B, 0);
        let_go(f);
        check_all();
        CHECK_GRAPHS(FAKE_PLAIN, FAKE_PLAIN);
        assert_int_equal(atomic_load(&fake_graphs.graphs), 0);
        hold(f);
        launch(f, KERNEL_B, 0);
        launch(f, KERNEL_B, 0);
        let_go(f);
        check_all();
        CHECK_GRAPHS(2);
}

static void a_graph_that_fails_is_launched_plainly(void **state)
{
        struct exec_fixture *f = *state;

        make_known(f, KERNEL_A);
        atomic_store(&fake_graphs.launches_fail, 1);
        hold(f);
        launch_many(f, 6);
        let_go(f);
        check_all();
        CHECK_GRAPHS(FAKE_PLAIN, FAKE_PLAIN, FAKE_PLAIN, FAKE_PLAIN, 2);
        assert_int_equal(deferred_error(f), CUDA_SUCCESS);
}

static void a_launch_that_fails_fails_alone(void **state)
{
        struct exec_fixture *f = *state;
        uint64_t failed;
        uint32_t number;

        make_known(f, KERNEL_A);
        failed = ivg_load_relaxed_u64(&f->exec->host_channel->calls_failed);
        number = sent_count + 2;
        atomic_store(&fake_graphs.node_fails, number);
        atomic_store(&fake_graphs.plain_fails, number);
        hold(f);
        launch_many(f, 4);
        let_go(f);
        check_all_but(number);
        CHECK_GRAPHS(FAKE_PLAIN, FAKE_PLAIN, FAKE_PLAIN);
        assert_int_equal(deferred_error(f), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(deferred_error(f), CUDA_SUCCESS);
        assert_int_equal(ivg_load_relaxed_u64(&f->exec->host_channel->calls_failed), failed + 1);
}

static void a_driver_that_makes_none_is_asked_once(void **state)
{
        struct exec_fixture *f = *state;

        make_known(f, KERNEL_A);
        atomic_store(&fake_graphs.makes_no_execs, 1);
        for (uint32_t round = 0; round < 3; round++) {
                hold(f);
                launch_many(f, 4);
                let_go(f);
                check_all();
                CHECK_GRAPHS(FAKE_PLAIN, FAKE_PLAIN, FAKE_PLAIN, FAKE_PLAIN);
        }
        assert_int_equal(atomic_load(&fake_graphs.instantiations), 1);
        assert_int_equal(atomic_load(&fake_graphs.graphs), 0);
}

static void kernels_with_clusters_are_launched_plainly(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_cuFuncSetAttribute attribute = {
                .hfunc = KERNEL_B, .attrib = CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH, .value = 2};

        atomic_store(&fake_graphs.clustered, FAKE_KERNEL_OK);
        make_known(f, KERNEL_A);
        make_known(f, KERNEL_B);
        hold(f);
        launch_many(f, 2);
        launch(f, KERNEL_B, 0);
        let_go(f);
        check_all();
        CHECK_GRAPHS(FAKE_PLAIN, FAKE_PLAIN, 1);
        /* One that gets them later. */
        assert_int_equal(
                fixture_call(f, &f->producer, IVG_CALL_cuFuncSetAttribute, &attribute, sizeof(attribute), NULL, 0),
                CUDA_SUCCESS);
        for (uint32_t round = 0; round < 2; round++)
                make_known(f, KERNEL_B);
}

/* Parameters of another length than the driver has taken before, or so many that they came through the arena. */
static void odd_parameters_are_launched_plainly(void **state)
{
        const size_t many = 2 * IVG_CHAIN_PARAMS_BYTES_MAX;
        struct exec_fixture *f = *state;
        struct launch_record record;
        const struct fake_arrival *last;

        make_known(f, KERNEL_A);
        fixture_own_extents(f, 0, 1, FIXTURE_CHANNEL);
        memset(f->arena, 0x11, many);
        hold(f);
        launch_many(f, 2);
        record = launch_record(KERNEL_A, 0);
        record.request.params.bytes = 8;
        fixture_async(f, &f->producer, IVG_CALL_ivgLaunch, &record, sizeof(record.request) + 8);
        launch_many(f, 1);
        record = launch_record(KERNEL_A, 0);
        record.request.params = (struct ivg_wire_range){.bytes = (uint32_t)many, .where = IVG_RANGE_ARENA};
        fixture_async(f, &f->producer, IVG_CALL_ivgLaunch, &record.request, sizeof(record.request));
        let_go(f);
        seen_before = 1;
        seen_count = fake_arrivals(&seen);
        CHECK_GRAPHS(2, FAKE_PLAIN, 1, FAKE_PLAIN);
        for (uint32_t i = 0; i < seen_count; i++)
                assert_int_equal(seen[i].number, i + 1);
        assert_int_equal(seen[3].params_bytes, 8);
        last = &seen[seen_count - 1];
        assert_int_equal(last->params_bytes, many);
        assert_int_equal(last->params[1], 0x1111111111111111u);
}

/* ---- bounds ---- */

static void more_streams_than_places(void **state)
{
        const uint32_t streams = IVG_CHAIN_STREAMS_MAX + 4;
        struct exec_fixture *f = *state;

        create_streams(f, streams);
        make_known(f, KERNEL_A);
        for (uint32_t round = 0; round < 3; round++) {
                hold(f);
                for (uint32_t stream = 0; stream < streams; stream++)
                        launch(f, KERNEL_A, stream);
                let_go(f);
        }
        check_all();
        assert_int_equal(atomic_load(&fake_graphs.execs_made), IVG_CHAIN_STREAMS_MAX);
        /* One that has not been used for long makes room. */
        launch_many(f, IVG_CHAIN_STREAM_IDLE);
        fixture_settle(f, &f->producer);
        check_all();
        launch(f, KERNEL_A, streams - 1);
        fixture_settle(f, &f->producer);
        check_all();
        CHECK_GRAPHS(1);
        assert_true(atomic_load(&fake_graphs.execs) < atomic_load(&fake_graphs.execs_made));
        assert_int_equal(atomic_load(&fake_graphs.execs), atomic_load(&fake_graphs.graphs));
}

static void more_kernels_than_places(void **state)
{
        const uint32_t kernels = IVG_CHAIN_KERNELS + 200;
        struct exec_fixture *f = *state;
        struct ivg_exec_call put = {.exec = f->exec, .context = FIXTURE_CONTEXT};
        uint32_t in_graphs = 0;

        for (uint32_t i = 0; i < kernels; i++)
                assert_true(ivg_handle_put(&put, IVG_KIND_FUNCTION, KERNEL(i), (void *)(uintptr_t)(0x10000u + 16 * i)));
        for (uint32_t round = 0; round < 2; round++)
                for (uint32_t i = 0; i < kernels; i++)
                        launch(f, KERNEL(i), 0);
        fixture_settle(f, &f->producer);
        check_all();
        for (uint32_t i = 0; i < seen_count; i++) {
                assert_int_equal(seen[i].function, 0x10000u + 16 * ((seen[i].number - 1) % kernels));
                in_graphs += seen[i].graph != FAKE_PLAIN;
        }
        assert_in_range(in_graphs, 1, IVG_CHAIN_KERNELS);
}

/* A gate that closes between gathered launches lets those go that have passed it. */
static void a_closed_gate_holds_no_launch_that_has_passed(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_board_grant *grant = &f->exec->board->grants[0];
        struct launch_record record;
        uint32_t waited_ms = 0;

        make_known(f, KERNEL_A);
        hold_at_some_look(f);
        launch_many(f, 5);
        record = launch_record(KERNEL_A, 0);
        record.request.header = fixture_header(&f->producer, sizeof(record), false);
        record.request.header.context = OTHER_CONTEXT; /* makes the consumer look at the grant */
        fixture_send(f, &f->producer, IVG_CALL_ivgLaunch, &record, sizeof(record));
        ivg_store_relaxed_u64(&grant->granted_ns, 0);
        sem_post(&fake.release);
        while (ivg_load_acquire_u64(&f->exec->board->uses[0].waiting_ns) == 0 && waited_ms++ < 20000)
                usleep(1000);
        /* Six, but where a sample of the device's time made it look sooner. */
        assert_int_not_equal(ivg_load_relaxed_u64(&f->exec->board->uses[0].waiting_ns), 0);
        assert_int_equal(fake_arrivals(&seen), ivg_load_relaxed_u64(&f->exec->board->uses[0].calls));
        ivg_store_relaxed_u64(&grant->granted_ns, IVG_BOARD_NO_LIMIT);
        atomic_fetch_add(&grant->wake, 1);
        ivg_futex_wake_shared(&grant->wake);
        fixture_settle(f, &f->producer);
        check_all();
}

static void a_broken_record_stops_nothing_before_it(void **state)
{
        struct exec_fixture *f = *state;
        struct launch_record record;

        make_known(f, KERNEL_A);
        hold(f);
        launch_many(f, 3);
        record = launch_record(KERNEL_A, 0);
        record.request.header = fixture_header(&f->producer, sizeof(record), false);
        record.request.header.flags = 0xff;
        fixture_send(f, &f->producer, IVG_CALL_ivgLaunch, &record, sizeof(record));
        sem_post(&fake.release);
        assert_true(fixture_faulted(f, IVG_FAULT_RECORD_HEADER));
        assert_int_equal(ivg_exec_stop(f->exec, IVG_RING_CLOSED, 20000), 0);
        check_all_but(sent_count);
        CHECK_GRAPHS(2, 1);
}

/* ---- ends ---- */

static CUresult set_limit(struct exec_fixture *f)
{
        struct ivg_request_cuCtxSetLimit request = {.limit = CU_LIMIT_STACK_SIZE, .value = 4096};

        return fixture_call(f, &f->producer, IVG_CALL_cuCtxSetLimit, &request, sizeof(request), NULL, 0);
}

static void unload_module(struct exec_fixture *f)
{
        struct ivg_request_cuModuleUnload request = {.hmod = MODULE};

        fixture_async(f, &f->producer, IVG_CALL_cuModuleUnload, &request, sizeof(request));
}

static void destroy_stream(struct exec_fixture *f)
{
        struct ivg_request_cuStreamDestroy_v2 request = {.hStream = FIXTURE_STREAM};

        fixture_async(f, &f->producer, IVG_CALL_cuStreamDestroy_v2, &request, sizeof(request));
}

/* That was the `count`th end, and graphs were gone. */
static void check_end(uint32_t count)
{
        assert_true(fixture_reaches(&fake_graphs.ends, count));
        assert_int_equal(atomic_load(&fake_graphs.graphs_left_at_end), 0);
        assert_int_equal(atomic_load(&fake_graphs.execs), 0);
        assert_int_equal(atomic_load(&fake_graphs.graphs), 0);
}

static void launch_in_graphs(struct exec_fixture *f)
{
        const uint32_t made = atomic_load(&fake_graphs.execs_made);

        check_all();
        make_known(f, KERNEL_A);
        hold(f);
        launch_many(f, 7);
        let_go(f);
        check_all();
        CHECK_GRAPHS(4, 2, 1);
        assert_int_equal(atomic_load(&fake_graphs.execs_made), made + 3);
        assert_int_equal(atomic_load(&fake_graphs.execs), 3);
        hold(f);
        launch_many(f, 3); /* and some that are gathered then */
}

static void graphs_end_before_what_they_use(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_cuDevicePrimaryCtxRelease_v2 release = {.dev = 0};

        launch_in_graphs(f);
        sem_post(&fake.release);
        assert_int_equal(set_limit(f), CUDA_SUCCESS);
        check_end(1);
        launch_in_graphs(f);
        unload_module(f);
        let_go(f);
        check_end(2);
        launch_in_graphs(f);
        destroy_stream(f);
        let_go(f);
        check_end(3);
        check_all();
        /* Another stream, and then the context. */
        launch(f, KERNEL_A, LEGACY);
        fixture_settle(f, &f->producer);
        assert_int_equal(atomic_load(&fake_graphs.execs), 1);
        assert_int_equal(fixture_call(f, &f->producer, IVG_CALL_cuDevicePrimaryCtxRelease_v2, &release, sizeof(release),
                                      NULL, 0),
                         CUDA_SUCCESS);
        check_end(4);
        check_all();
}

/* As a thread ends: in the ring's order, or (while others capture) on its lane, with an answer. */
static void thread_end(struct exec_fixture *f, struct ivg_producer *thread, bool on_lane)
{
        struct ivg_request_ivgThreadEnd end = {.header = fixture_header(thread, sizeof(end), on_lane)};

        if (on_lane)
                end.header.flags |= IVG_CALL_CAPTURING | CU_STREAM_CAPTURE_MODE_RELAXED << IVG_CALL_MODE_SHIFT;
        fixture_send(f, thread, IVG_CALL_ivgThreadEnd, &end, sizeof(end));
        if (on_lane)
                assert_int_equal(fixture_answer(f, thread, NULL, 0), CUDA_SUCCESS);
        fixture_settle(f, &f->producer);
}

static void thread_stream_ends_after_its_graphs(struct exec_fixture *f, bool on_lane)
{
        struct ivg_producer thread;

        make_known(f, KERNEL_A);
        fixture_open_producer(f, &thread);
        for (uint32_t i = 0; i < 2; i++) {
                struct launch_record record = launch_record(KERNEL_A, 1);

                record.request.stream = IVG_ID_STREAM_PER_THREAD;
                fixture_async(f, &thread, IVG_CALL_ivgLaunch, &record, sizeof(record));
                fixture_settle(f, &f->producer);
        }
        check_all();
        assert_int_equal(atomic_load(&fake_graphs.execs), 1);
        thread_end(f, &thread, on_lane);
        check_end(1);
}

static void a_threads_own_stream_ends_after_its_graphs(void **state)
{
        thread_stream_ends_after_its_graphs(*state, false);
}

static void it_does_so_on_a_lane(void **state)
{
        thread_stream_ends_after_its_graphs(*state, true);
}

static void graphs_that_did_not_last_make_patient(void **state)
{
        struct exec_fixture *f = *state;
        uint32_t patience = IVG_CHAIN_PATIENCE_MIN;

        for (uint32_t round = 1; round <= 3; round++, patience *= 2) {
                const uint32_t tried = atomic_load(&fake_graphs.instantiations);

                launch_many(f, patience);
                fixture_settle(f, &f->producer);
                check_all();
                assert_int_equal(atomic_load(&fake_graphs.instantiations), tried);
                hold(f);
                launch_many(f, 4);
                let_go(f);
                check_all();
                CHECK_GRAPHS(4);
                if (round == 2) { /* a stream's end counts as all others' */
                        struct ivg_request_cuStreamCreateWithPriority create = {.phStream = FIXTURE_STREAM};

                        atomic_store(&fake.streams_made, 0); /* the same handle again */
                        destroy_stream(f);
                        check_end(round);
                        fixture_async(f, &f->producer, IVG_CALL_cuStreamCreateWithPriority, &create, sizeof(create));
                } else {
                        assert_int_equal(set_limit(f), CUDA_SUCCESS);
                        check_end(round);
                }
        }
}

/* Settings of contexts and streams that a graph's kernels would not have. */
static void settings_of_a_context_end_graphs_for_good(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_request_cuCtxSetCacheConfig request = {.config = CU_FUNC_CACHE_PREFER_L1};
        uint32_t made;

        launch_in_graphs(f);
        sem_post(&fake.release);
        assert_int_equal(
                fixture_call(f, &f->producer, IVG_CALL_cuCtxSetCacheConfig, &request, sizeof(request), NULL, 0),
                CUDA_SUCCESS);
        check_end(1);
        made = atomic_load(&fake_graphs.execs_made);
        launch_many(f, 100);
        fixture_settle(f, &f->producer);
        check_all();
        assert_int_equal(atomic_load(&fake_graphs.execs_made), made);
}

#define TEST(how, test) cmocka_unit_test_setup_teardown(test, setup_##how, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(chained, as_few_graphs_as_make_up_the_number),
                TEST(chained, more_than_a_batch_keeps_its_order),
                TEST(plain, plain_means_plain),
                TEST(patient, a_stream_is_patient),
                TEST(chained, each_stream_has_its_own),
                TEST(chained, the_legacy_stream_stays_between),
                TEST(chained, other_records_stay_between),
                TEST(chained, a_launch_with_an_answer_overtakes_nothing),
                TEST(chained, what_a_node_cannot_be_is_launched_plainly),
                TEST(chained, a_kernel_that_makes_no_node_leaves_others_theirs),
                TEST(chained, a_graph_that_fails_is_launched_plainly),
                TEST(chained, a_launch_that_fails_fails_alone),
                TEST(chained, a_driver_that_makes_none_is_asked_once),
                TEST(chained, kernels_with_clusters_are_launched_plainly),
                TEST(chained, odd_parameters_are_launched_plainly),
                TEST(chained, more_streams_than_places),
                TEST(chained, more_kernels_than_places),
                TEST(chained, a_closed_gate_holds_no_launch_that_has_passed),
                TEST(chained, a_broken_record_stops_nothing_before_it),
                TEST(chained, graphs_end_before_what_they_use),
                TEST(chained, a_threads_own_stream_ends_after_its_graphs),
                TEST(chained, it_does_so_on_a_lane),
                TEST(patient, graphs_that_did_not_last_make_patient),
                TEST(chained, settings_of_a_context_end_graphs_for_good),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
