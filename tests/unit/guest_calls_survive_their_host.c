/* The shim against a host that is slow, wrong, or gone: every call returns, with an error that tells, and one line. */
#include "cuda_api.h"
#include "guest_played_host.h"
#include "guest_send.h"
#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

static struct played_host host;
static char said[8192];

static int64_t now_ms(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void start(void)
{
        played_host_start(&host);
        REQUIRE_RESULT(cuInit(0), CUDA_SUCCESS);
}

/* ---- beginning ---- */

static void connects(void)
{
        CUcontext context = (CUcontext)1;
        char name[64];
        int count = 0, version = 0;
        size_t bytes;
        CUuuid uuid;

        played_host_start(&host);
        REQUIRE_RESULT(cuDeviceGetCount(&count), CUDA_ERROR_NOT_INITIALIZED);
        REQUIRE_RESULT(cuCtxGetCurrent(&context), CUDA_ERROR_NOT_INITIALIZED);
        REQUIRE_RESULT(cuMemAlloc_v2(NULL, 1), CUDA_ERROR_NOT_INITIALIZED);
        REQUIRE_RESULT(cuDriverGetVersion(&version), CUDA_SUCCESS); /* needs the host, but is not cuInit */
        REQUIRE(version == PLAYED_DRIVER_VERSION);
        REQUIRE_RESULT(cuDeviceGetCount(&count), CUDA_ERROR_NOT_INITIALIZED);
        REQUIRE_RESULT(cuInit(1), CUDA_ERROR_INVALID_VALUE);
        REQUIRE_RESULT(cuInit(0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuInit(0), CUDA_SUCCESS);
        REQUIRE_RESULT(cuDeviceGetCount(&count), CUDA_SUCCESS);
        REQUIRE(count == 2);
        REQUIRE_RESULT(cuDeviceGetName(name, sizeof(name), 0), CUDA_SUCCESS); /* by the answer area */
        REQUIRE(strcmp(name, "a device of the test") == 0);
        REQUIRE_RESULT(cuDeviceGetName(name, 5, 0), CUDA_SUCCESS);
        REQUIRE(strcmp(name, "a de") == 0);
        REQUIRE_RESULT(cuDeviceGetName(name, sizeof(name), 2), CUDA_ERROR_INVALID_DEVICE);
        REQUIRE_RESULT(cuDeviceTotalMem_v2(&bytes, 0), CUDA_SUCCESS);
        REQUIRE(bytes == 5ull << 30);
        REQUIRE_RESULT(cuDeviceGetUuid_v2(&uuid, 1), CUDA_SUCCESS);
        REQUIRE(uuid.bytes[0] == 1 && uuid.bytes[15] == 16);
        REQUIRE(atomic_load(&host.calls[IVG_CALL_ivgHello]) == 1);
        REQUIRE(atomic_load(&host.calls[IVG_CALL_ivgDeviceSnapshot]) == 2); /* one per device */
}

static void attributes(void)
{
        CUdevice device = -1;
        int value = 0;

        start();
        REQUIRE_RESULT(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 0), CUDA_SUCCESS);
        REQUIRE(value == 1000 + CU_DEVICE_ATTRIBUTE_WARP_SIZE);
        /* What is not carried is not promised, whatever the host says; what is carried follows the host. */
        REQUIRE_RESULT(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 0), CUDA_SUCCESS);
        REQUIRE(value == 1); /* ours */
        REQUIRE_RESULT(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 0), CUDA_SUCCESS);
        REQUIRE(value ==
                (ivg_symbol_carried("cuLaunchCooperativeKernel") ? 1000 + CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH : 0));
        REQUIRE_RESULT(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS, 0), CUDA_SUCCESS);
        REQUIRE(value == 0);
        REQUIRE_RESULT(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID, 0), CUDA_SUCCESS);
        REQUIRE(value == -1);
        REQUIRE(ivg_symbol_carried("cuLaunchKernel") && !ivg_symbol_carried("cuGraphicsUnregisterResource"));
        REQUIRE(!ivg_symbol_carried("cuNobodyHasThis"));
        REQUIRE_RESULT(cuDeviceGetAttribute(&value, 141, 0), CUDA_ERROR_INVALID_VALUE);
        REQUIRE_RESULT(cuDeviceGetAttribute(&value, 0, 0), CUDA_ERROR_INVALID_VALUE);
        REQUIRE_RESULT(cuDeviceGetAttribute(&value, (CUdevice_attribute)-1, 0), CUDA_ERROR_INVALID_VALUE);
        REQUIRE_RESULT(cuDeviceGetAttribute(&value, (CUdevice_attribute)100000, 0), CUDA_ERROR_INVALID_VALUE);
        REQUIRE_RESULT(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, -1), CUDA_ERROR_INVALID_DEVICE);
        REQUIRE_RESULT(cuDeviceGetByPCIBusId(&device, "0000:65:00.0"), CUDA_SUCCESS);
        REQUIRE(device == 0);
        REQUIRE_RESULT(cuDeviceGetByPCIBusId(&device, "65:0"), CUDA_SUCCESS);
        REQUIRE_RESULT(cuDeviceGetByPCIBusId(&device, "66:0"), CUDA_ERROR_INVALID_DEVICE);
        REQUIRE_RESULT(cuDeviceGetByPCIBusId(&device, "65:0:zz"), CUDA_ERROR_INVALID_VALUE);
        REQUIRE_RESULT(cuDeviceGetByPCIBusId(&device, ""), CUDA_ERROR_INVALID_VALUE);
}

static void connecting_brings_devices(void **state)
{
        (void)state;
        played_scenario(connects, said, sizeof(said));
        assert_int_equal(played_lines(said), 0);
        played_scenario(attributes, said, sizeof(said));
        assert_int_equal(played_lines(said), 0);
}

static void window_moves(void)
{
        atomic_store(&host.windows_refused, 2);
        start();
        REQUIRE(atomic_load(&host.calls[IVG_CALL_ivgHello]) == 3);
        ivg_process.arena[0] = 1; /* mapped */
}

static void window_never_fits(void)
{
        atomic_store(&host.windows_refused, 1000);
        played_host_start(&host);
        REQUIRE_RESULT(cuInit(0), CUDA_ERROR_NO_DEVICE);
        /* Places that are taken on this side already (a sanitizer has many) are passed over without asking. */
        REQUIRE(atomic_load(&host.calls[IVG_CALL_ivgHello]) >= 2 &&
                atomic_load(&host.calls[IVG_CALL_ivgHello]) <= IVG_WINDOW_ATTEMPTS_MAX);
}

static void the_window_moves_on_when_refused(void **state)
{
        (void)state;
        played_scenario(window_moves, said, sizeof(said));
        played_scenario(window_never_fits, said, sizeof(said));
        assert_int_equal(played_lines(said), 1);
}

static void no_mediator(void)
{
        int count = 0;

        setenv("IVGPU_CHANNEL", "local:/nonexistent/socket", 1);
        REQUIRE_RESULT(cuInit(0), CUDA_ERROR_NO_DEVICE);
        REQUIRE_RESULT(cuInit(0), CUDA_ERROR_NO_DEVICE);
        REQUIRE_RESULT(cuDeviceGetCount(&count), CUDA_ERROR_NOT_INITIALIZED);
}

static void other_table(void)
{
        host.fingerprint = IVG_CALL_TABLE_FINGERPRINT ^ 1;
        played_host_start(&host);
        REQUIRE_RESULT(cuInit(0), CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
}

static void a_missing_or_foreign_mediator_is_named_once(void **state)
{
        char mine[32], its[32];

        (void)state;
        played_scenario(no_mediator, said, sizeof(said));
        assert_int_equal(played_lines(said), 1);
        assert_non_null(strstr(said, "error 3 (MEDIATOR_UNAVAILABLE)"));
        assert_non_null(strstr(said, "/nonexistent/socket"));
        played_scenario(other_table, said, sizeof(said));
        assert_int_equal(played_lines(said), 1);
        snprintf(mine, sizeof(mine), "%llx", (unsigned long long)IVG_CALL_TABLE_FINGERPRINT);
        snprintf(its, sizeof(its), "%llx", (unsigned long long)IVG_CALL_TABLE_FINGERPRINT ^ 1);
        assert_non_null(strstr(said, mine));
        assert_non_null(strstr(said, its));
}

/* ---- a full ring, many threads ---- */

static void *unpause_later(void *argument)
{
        (void)argument;
        usleep(150000);
        atomic_store(&host.paused, 0);
        return NULL;
}

/* Counted calls, asynchronous by hand: the generated sender would wait. */
static CUresult send_counted(uint64_t count)
{
        struct ivg_request_ivgExtentsUnregister request = {.offset = count};

        return ivg_call_async(IVG_CALL_ivgExtentsUnregister, &request, sizeof(request));
}

static void ring_fills(void)
{
        enum { CALLS = 3 * (int)IVG_RING_SLOTS };
        uint32_t result = 0;
        pthread_t thread;
        int64_t begun;

        start();
        atomic_store(&host.paused, 1);
        REQUIRE(pthread_create(&thread, NULL, unpause_later, NULL) == 0);
        begun = now_ms();
        for (uint32_t i = 1; i <= CALLS; i++)
                REQUIRE_RESULT(send_counted(i), CUDA_SUCCESS);
        REQUIRE(now_ms() - begun >= 100); /* it did have to wait */
        REQUIRE_RESULT(ivg_send_ivgTakeAsyncError((int32_t *)&result), CUDA_SUCCESS);
        REQUIRE(atomic_load(&host.calls[IVG_CALL_ivgExtentsUnregister]) == CALLS);
        REQUIRE(atomic_load(&host.order_errors) == 0);
        REQUIRE(pthread_join(thread, NULL) == 0);
}

static void a_full_ring_is_waited_for(void **state)
{
        (void)state;
        played_scenario(ring_fills, said, sizeof(said));
        assert_int_equal(played_lines(said), 0);
}

#define SENDERS 3u
#define SENDER_CALLS (2 * IVG_RING_SLOTS)

static void *send_many(void *argument)
{
        for (uint32_t i = 1; i <= SENDER_CALLS; i++)
                REQUIRE_RESULT(send_counted(i), CUDA_SUCCESS);
        return argument;
}

static void *ask_once(void *argument)
{
        int32_t result;

        REQUIRE_RESULT(ivg_send_ivgTakeAsyncError(&result), CUDA_SUCCESS);
        return argument;
}

static int64_t cpu_ms(void)
{
        struct timespec used;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
        return used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

/* Threads that wait for room and one that waits for an answer, while the host takes nothing. */
static void ring_stays_full(void)
{
        pthread_t threads[SENDERS], asker;
        int64_t used_ms;

        start();
        atomic_store(&host.paused, 1);
        REQUIRE(pthread_create(&asker, NULL, ask_once, NULL) == 0);
        for (uint32_t i = 0; i < SENDERS; i++)
                REQUIRE(pthread_create(&threads[i], NULL, send_many, NULL) == 0);
        while (ivg_load_relaxed_u64(&ivg_process.ring.guest->tail) -
                       ivg_load_relaxed_u64(&ivg_process.ring.host->head) <
               IVG_RING_SLOTS)
                usleep(1000);
        usleep(300000); /* the sleeps have grown */
        used_ms = cpu_ms();
        usleep(1000000);
        REQUIRE(cpu_ms() - used_ms < 250); /* of this whole process; a thread that spins takes all it can get */
        atomic_store(&host.paused, 0);
        for (uint32_t i = 0; i < SENDERS; i++)
                REQUIRE(pthread_join(threads[i], NULL) == 0);
        REQUIRE(pthread_join(asker, NULL) == 0);
        ask_once(NULL); /* all before it has been taken */
        REQUIRE(atomic_load(&host.calls[IVG_CALL_ivgExtentsUnregister]) == SENDERS * SENDER_CALLS);
        REQUIRE(atomic_load(&host.calls[IVG_CALL_ivgTakeAsyncError]) == 2);
        REQUIRE(atomic_load(&host.order_errors) == 0);
}

static void a_ring_that_stays_full_costs_nothing(void **state)
{
        (void)state;
        played_scenario(ring_stays_full, said, sizeof(said));
        assert_int_equal(played_lines(said), 0);
}

static pthread_barrier_t together;
static _Atomic(uint32_t) lines_shared;

static void *thread_calls(void *argument)
{
        int32_t result;

        (void)argument;
        REQUIRE_RESULT(ivg_send_ivgTakeAsyncError(&result), CUDA_SUCCESS);
        pthread_barrier_wait(&together); /* all have a line now, or share */
        if (ivg_thread_local()->shared)
                atomic_fetch_add(&lines_shared, 1);
        for (uint32_t i = 0; i < 20; i++)
                REQUIRE_RESULT(ivg_send_ivgTakeAsyncError(&result), CUDA_SUCCESS);
        return NULL;
}

static void threads_in_waves(void)
{
        enum { THREADS = 160 };
        pthread_t threads[THREADS];

        start();
        for (uint32_t wave = 1; wave <= 2; wave++) {
                atomic_store(&lines_shared, 0);
                pthread_barrier_init(&together, NULL, THREADS);
                for (uint32_t i = 0; i < THREADS; i++)
                        REQUIRE(pthread_create(&threads[i], NULL, thread_calls, NULL) == 0);
                for (uint32_t i = 0; i < THREADS; i++)
                        REQUIRE(pthread_join(threads[i], NULL) == 0);
                /* All lines but the process's shared one and this thread's: given back by the first wave. */
                REQUIRE(atomic_load(&lines_shared) == THREADS - (IVG_RING_PRODUCERS - 2));
        }
        int32_t result;
        REQUIRE_RESULT(ivg_send_ivgTakeAsyncError(&result), CUDA_SUCCESS);
        REQUIRE(atomic_load(&host.calls[IVG_CALL_ivgTakeAsyncError]) == 2 * THREADS * 21 + 1);
        REQUIRE(atomic_load(&host.calls[IVG_CALL_ivgThreadEnd]) == 2 * (IVG_RING_PRODUCERS - 2));
}

static void more_threads_than_lines_share_one(void **state)
{
        (void)state;
        played_scenario(threads_in_waves, said, sizeof(said));
        assert_int_equal(played_lines(said), 0);
}

/* ---- loss ---- */

static void (*harm)(void);

static void *harm_later(void *argument)
{
        (void)argument;
        usleep(100000);
        harm();
        return NULL;
}

static void loses_its_host(CUresult expected)
{
        pthread_t thread;
        int64_t begun;
        int32_t result;
        int count;

        start();
        REQUIRE_RESULT(cuDeviceGetCount(&count), CUDA_SUCCESS);
        atomic_store(&host.mute, 1);
        REQUIRE(pthread_create(&thread, NULL, harm_later, NULL) == 0);
        begun = now_ms();
        REQUIRE_RESULT(ivg_send_ivgTakeAsyncError(&result), expected); /* while it sleeps for its answer */
        REQUIRE(now_ms() - begun < 3000);
        REQUIRE_RESULT(ivg_send_ivgTakeAsyncError(&result), expected);
        REQUIRE_RESULT(send_counted(1), expected);
        REQUIRE_RESULT(cuDeviceGetCount(&count), expected);
        REQUIRE(pthread_join(thread, NULL) == 0);
}

static void harm_executor(void)
{
        played_host_lose(&host, IVG_RING_PEER_GONE, IVG_FAULT_NONE);
}

static void harm_rule(void)
{
        played_host_lose(&host, IVG_RING_FAULT, IVG_FAULT_ARENA);
}

static void harm_mediator(void)
{
        played_host_hang_up(&host);
}

static void executor_dies(void)
{
        harm = harm_executor;
        loses_its_host(CUDA_ERROR_DEVICE_UNAVAILABLE);
}

static void rule_breaks(void)
{
        harm = harm_rule;
        loses_its_host(CUDA_ERROR_UNKNOWN);
}

static void mediator_dies(void)
{
        harm = harm_mediator;
        loses_its_host(CUDA_ERROR_DEVICE_UNAVAILABLE);
}

static void full_ring_dies(void)
{
        pthread_t thread;
        CUresult result = CUDA_SUCCESS;

        start();
        atomic_store(&host.paused, 1);
        harm = harm_executor;
        REQUIRE(pthread_create(&thread, NULL, harm_later, NULL) == 0);
        for (uint32_t i = 1; i <= 2 * IVG_RING_SLOTS && result == CUDA_SUCCESS; i++)
                result = send_counted(i);
        REQUIRE_RESULT(result, CUDA_ERROR_DEVICE_UNAVAILABLE);
        REQUIRE(pthread_join(thread, NULL) == 0);
}

static void a_lost_host_is_a_sticky_error_and_one_line(void **state)
{
        (void)state;
        played_scenario(executor_dies, said, sizeof(said));
        assert_int_equal(played_lines(said), 1);
        assert_non_null(strstr(said, "the executor"));
        assert_non_null(strstr(said, "CUDA_ERROR")); /* the reason that the host gave */
        played_scenario(rule_breaks, said, sizeof(said));
        assert_int_equal(played_lines(said), 1);
        assert_non_null(strstr(said, "arena reference, value 77"));
        played_scenario(mediator_dies, said, sizeof(said));
        assert_int_equal(played_lines(said), 1);
        assert_non_null(strstr(said, "the mediator is gone"));
        played_scenario(full_ring_dies, said, sizeof(said));
        assert_int_equal(played_lines(said), 1);
}

/* ---- fork and exit ---- */

static int in_child(CUresult (*ask)(void))
{
        const pid_t child = fork();
        int status = 0;

        if (child == 0)
                _exit((int)ask() & 0xff);
        REQUIRE(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
        return WEXITSTATUS(status);
}

static CUresult ask_count(void)
{
        int count;

        return cuDeviceGetCount(&count);
}

static CUresult ask_current(void)
{
        CUcontext context;

        return cuCtxGetCurrent(&context);
}

static CUresult ask_init(void)
{
        return cuInit(0);
}

static void forks(void)
{
        int32_t result;
        CUcontext context;

        start();
        REQUIRE_RESULT(cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
        REQUIRE_RESULT(in_child(ask_count), CUDA_ERROR_NOT_INITIALIZED);
        REQUIRE_RESULT(in_child(ask_current), CUDA_ERROR_NOT_INITIALIZED);
        REQUIRE_RESULT(in_child(ask_init), CUDA_ERROR_NOT_INITIALIZED);
        REQUIRE_RESULT(ivg_send_ivgTakeAsyncError(&result), CUDA_SUCCESS); /* the parent goes on */
        REQUIRE(atomic_load(&host.closed) == 0);
        ivg_process.arena[0] = 1;
}

static void forks_before_init(void)
{
        int version;
        int32_t result;

        played_host_start(&host);
        REQUIRE_RESULT(cuDriverGetVersion(&version), CUDA_SUCCESS);
        /* The child may begin anew; there is nobody at the test's socket for it any more, which it finds out itself. */
        REQUIRE_RESULT(in_child(ask_init), CUDA_ERROR_NO_DEVICE);
        REQUIRE_RESULT(cuInit(0), CUDA_SUCCESS);
        REQUIRE_RESULT(ivg_send_ivgTakeAsyncError(&result), CUDA_SUCCESS);
}

static void fork_leaves_the_parent_alone(void **state)
{
        (void)state;
        played_scenario(forks, said, sizeof(said));
        assert_int_equal(played_lines(said), 0);
        played_scenario(forks_before_init, said, sizeof(said));
}

static void *call_for_ever(void *argument)
{
        volatile uint8_t *arena = ivg_process.arena + 8192 * (uintptr_t)argument;
        int32_t result;

        for (uint64_t i = 1;; i++) {
                (void)send_counted(i);
                if (i % 16 == 0)
                        (void)ivg_send_ivgTakeAsyncError(&result);
                arena[i % 4096] = (uint8_t)i;
        }
        return NULL;
}

static void exits_in_full_flight(void)
{
        pthread_t thread;

        start();
        for (uintptr_t i = 0; i < 3; i++)
                REQUIRE(pthread_create(&thread, NULL, call_for_ever, (void *)i) == 0);
        usleep(50000);
}

static void exit_is_quiet_while_threads_call(void **state)
{
        (void)state;
        for (uint32_t i = 0; i < 5; i++) {
                played_scenario(exits_in_full_flight, said, sizeof(said));
                assert_int_equal(played_lines(said), 0);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(connecting_brings_devices),
                cmocka_unit_test(the_window_moves_on_when_refused),
                cmocka_unit_test(a_missing_or_foreign_mediator_is_named_once),
                cmocka_unit_test(a_full_ring_is_waited_for),
                cmocka_unit_test(a_ring_that_stays_full_costs_nothing),
                cmocka_unit_test(more_threads_than_lines_share_one),
                cmocka_unit_test(a_lost_host_is_a_sticky_error_and_one_line),
                cmocka_unit_test(fork_leaves_the_parent_alone),
                cmocka_unit_test(exit_is_quiet_while_threads_call),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
