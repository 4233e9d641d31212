/* The reaper: one thread for asynchronous calls that may block (frees, unloads), in the ring's order.
 *
 * One thread for all guest threads, since these calls end objects that belong to each other (a context and its memory),
 * and a program orders them across its threads by its own means, which only the ring's order reflects. Each call has a
 * ticket; `done` follows `submitted`. Nobody waits here but lanes.
 *
 *   R1 enqueue, then `submitted` (exchange)   ->   R2 `submitted` (acquire), then dequeue
 *   R3 `done` (exchange), then `waiters`      <->  R4 `waiters` (add), then `done` (seq_cst), then futex
 *   R1, then `sleeping` (seq_cst)             <->  R5 `sleeping` (exchange), then `submitted` (seq_cst), then futex */
#include "exec_internal.h"
#include "rcu.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <urcu/wfcqueue.h>

#define IVG_REAPER_SLEEP_MS 60000u /* it is woken; this only bounds the wait */

struct ivg_reaper_call {
        struct cds_wfcq_node node;
        struct ivg_exec_request request; /* .bytes points at `bytes` */
        uint64_t trace_taken_ns;
        _Alignas(16) uint8_t bytes[];
};

/* Wait-free to enqueue, one dequeuer. */
struct ivg_reaper_queue {
        struct cds_wfcq_head head;
        _Alignas(64) struct cds_wfcq_tail tail;
};

_Thread_local bool ivg_thread_may_wait;

static struct ivg_reaper_call *next_call(struct ivg_reaper *reaper)
{
        struct cds_wfcq_node *node = __cds_wfcq_dequeue_blocking(&reaper->queue->head, &reaper->queue->tail);

        return node ? ivg_container_of(node, struct ivg_reaper_call, node) : NULL;
}

static void wait_for_calls(struct ivg_reaper *reaper, struct ivg_exec *exec, uint64_t done)
{
        (void)ivg_exchange_seq_cst_u32(&reaper->sleeping, 1); /* R5 */
        if (ivg_load_seq_cst_u64(&reaper->submitted) == done && !ivg_load_seq_cst_u32(&exec->stop))
                ivg_futex_wait(ivg_futex_low_half(&reaper->submitted), (uint32_t)done, IVG_REAPER_SLEEP_MS);
        ivg_store_relaxed_u32(&reaper->sleeping, 0); /* a wake too many is harmless */
}

static void *reaper_main(void *argument)
{
        struct ivg_exec *exec = argument;
        struct ivg_reaper *reaper = &exec->reaper;
        uint64_t done = 0;

        ivg_exec_thread_begins("ivgpu-reaper");
        while (!ivg_load_acquire_u32(&exec->stop)) {
                struct ivg_reaper_call *call;

                if (ivg_load_acquire_u64(&reaper->submitted) == done) { /* R2 */
                        wait_for_calls(reaper, exec, done);
                        continue;
                }
                call = next_call(reaper);
                ivg_exec_run_traced(exec, &call->request, call->trace_taken_ns, IVG_TRACE_REAPER);
                free(call);
                (void)ivg_exchange_seq_cst_u64(&reaper->done, ++done); /* R3 */
                if (ivg_load_seq_cst_u32(&reaper->waiters))
                        ivg_futex_wake_all(ivg_futex_low_half(&reaper->done));
        }
        ivg_exec_thread_ends();
        return NULL;
}

int ivg_reaper_start(struct ivg_exec *exec)
{
        struct ivg_reaper *reaper = &exec->reaper;
        int error;

        reaper->queue = aligned_alloc(64, sizeof(*reaper->queue));
        if (!reaper->queue)
                return -ENOMEM;
        cds_wfcq_init(&reaper->queue->head, &reaper->queue->tail);
        error = pthread_create(&reaper->thread, NULL, reaper_main, exec);
        reaper->started = error == 0;
        return -error;
}

bool ivg_reaper_submit(struct ivg_exec *exec, const struct ivg_exec_request *request)
{
        struct ivg_reaper *reaper = &exec->reaper;
        const uint64_t submitted = ivg_load_relaxed_u64(&reaper->submitted); /* own word */
        struct ivg_reaper_call *call;

        if (submitted - ivg_load_acquire_u64(&reaper->done) >= IVG_REAPER_CALLS_MAX)
                return false;
        call = malloc(sizeof(*call) + request->bytes_count);
        if (!call)
                return false;
        cds_wfcq_node_init(&call->node);
        call->request = *request;
        memcpy(call->bytes, request->bytes, request->bytes_count);
        call->request.bytes = call->bytes;
        call->request.record = NULL;
        call->trace_taken_ns = exec->trace_taken_ns;
        cds_wfcq_enqueue(&reaper->queue->head, &reaper->queue->tail, &call->node);
        (void)ivg_exchange_seq_cst_u64(&reaper->submitted, submitted + 1); /* R1 */
        exec->producers[request->producer].reaper_last = submitted + 1;
        if (ivg_load_seq_cst_u32(&reaper->sleeping))
                ivg_futex_wake_all(ivg_futex_low_half(&reaper->submitted));
        return true;
}

static bool is_done(const struct ivg_reaper *reaper, uint64_t ticket)
{
        return ivg_load_seq_cst_u64(&reaper->done) >= ticket;
}

int ivg_reaper_wait(struct ivg_exec *exec, uint64_t ticket, uint32_t timeout_ms)
{
        struct ivg_reaper *reaper = &exec->reaper;
        const uint64_t end = ivg_clock_ns() + timeout_ms * 1000000ull;
        int error = 0;

        if (is_done(reaper, ticket))
                return 0;
        atomic_fetch_add_explicit(&reaper->waiters, 1, memory_order_seq_cst); /* R4 */
        while (!is_done(reaper, ticket)) {
                const uint64_t seen = ivg_load_seq_cst_u64(&reaper->done);

                error = ivg_load_acquire_u32(&exec->stop) ? -ESHUTDOWN : ivg_clock_ns() >= end ? -ETIMEDOUT : 0;
                if (error)
                        break;
                if (seen < ticket)
                        ivg_futex_wait(ivg_futex_low_half(&reaper->done), (uint32_t)seen, timeout_ms);
        }
        atomic_fetch_sub_explicit(&reaper->waiters, 1, memory_order_relaxed);
        return error;
}

bool ivg_exec_settle_frees(struct ivg_exec_call *call)
{
        struct ivg_exec *exec = call->exec;
        const uint64_t ticket = ivg_load_acquire_u64(&exec->reaper.submitted);

        return ivg_thread_may_wait && !is_done(&exec->reaper, ticket) &&
               ivg_reaper_wait(exec, ticket, IVG_REAPER_SETTLE_MS) == 0;
}

void ivg_reaper_wake(struct ivg_exec *exec)
{
        ivg_futex_wake_all(ivg_futex_low_half(&exec->reaper.submitted));
        ivg_futex_wake_all(ivg_futex_low_half(&exec->reaper.done));
}

void ivg_reaper_destroy(struct ivg_exec *exec)
{
        struct ivg_reaper_call *call;

        if (!exec->reaper.queue)
                return;
        while ((call = next_call(&exec->reaper)))
                free(call);
        free(exec->reaper.queue);
        exec->reaper.queue = NULL;
}
