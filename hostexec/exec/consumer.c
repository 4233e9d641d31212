/* The consumer thread: takes batches, checks each record's header, runs short calls, hands the others on. It never
 * waits for anything but records.
 *
 * Where a call runs:
 *   wants an answer, may block (lane)           its guest thread's lane
 *   wants an answer, that lane is not idle yet  the lane too: a mailbox has one writer at a time
 *   wants an answer, the process captures       the lane too: a capture knows operating-system threads (capture_mode.c)
 *   no answer, may block                        the reaper, in the ring's order
 *   all else                                    here, in the ring's order
 * So a call on a lane starts after every earlier record has been executed or given to the reaper, and waits there for
 * its own thread's earlier calls (lane.c). */
#include "chain.h"
#include "exec_internal.h"
#include "rcu.h"
#include "watch.h"
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

/* Looks at the clock only every so many looks at the ring. */
#define IVG_SPIN_LOOKS 64u
#define IVG_SPIN_LOOKS_WATCHING 16u /* while the driver is asked in between */

static void refuse_record(struct ivg_exec *exec, const struct ivg_taken_record *record, enum ivg_ring_fault fault,
                          uint32_t value, const char *what)
{
        ivg_exec_fault(exec, fault, value, record->position, what);
}

/* The mailbox's full sequence from its low half: a thread's sequences grow by one, a line's next owner starts in the
 * next 2^32 (ring_producer.c), so a low half that did not grow means the next high half. */
static uint64_t extend_sequence(uint64_t last, uint32_t low)
{
        const uint64_t high = last & ~(uint64_t)UINT32_MAX;

        return low > (uint32_t)last ? high | low : (high + (1ull << 32)) | low;
}

static bool flags_are_legal(uint32_t flags)
{
        const uint32_t mode = (flags & IVG_CALL_MODE_MASK) >> IVG_CALL_MODE_SHIFT;

        if (flags & ~(IVG_CALL_WANTS_ANSWER | IVG_CALL_CAPTURING | IVG_CALL_MODE_MASK))
                return false;
        if (!(flags & IVG_CALL_CAPTURING))
                return mode == 0;
        return (flags & IVG_CALL_WANTS_ANSWER) && mode <= CU_STREAM_CAPTURE_MODE_RELAXED;
}

/* Checks a record completely up to its arguments. The record lies in private memory. */
static bool accept_record(struct ivg_exec *exec, const struct ivg_taken_record *record,
                          struct ivg_exec_request *request)
{
        const struct ivg_call_descriptor *descriptor;
        struct ivg_call_header header;

        memcpy(&header, record->payload, sizeof(header));
        if (header.bytes < sizeof(header) || header.bytes > record->payload_bytes) {
                refuse_record(exec, record, IVG_FAULT_RECORD_HEADER, header.bytes, "length of the request");
                return false;
        }
        if (header.producer >= IVG_RING_PRODUCERS) {
                refuse_record(exec, record, IVG_FAULT_RECORD_HEADER, header.producer, "producer");
                return false;
        }
        if (!flags_are_legal(header.flags) || header.reserved) {
                refuse_record(exec, record, IVG_FAULT_RECORD_HEADER, header.flags, "flags or reserved field");
                return false;
        }
        descriptor = ivg_call_find(record->opcode);
        if (!descriptor) {
                refuse_record(exec, record, IVG_FAULT_OPCODE, record->opcode, "no such call");
                return false;
        }
        if (header.bytes < descriptor->request_bytes_min || header.bytes > descriptor->request_bytes_max) {
                refuse_record(exec, record, IVG_FAULT_ARGUMENTS, header.bytes, descriptor->name);
                return false;
        }
        if (descriptor->class_ == IVG_CLASS_SYNC && !(header.flags & IVG_CALL_WANTS_ANSWER)) {
                refuse_record(exec, record, IVG_FAULT_RECORD_HEADER, header.flags, "synchronous call without answer");
                return false;
        }
        *request = (struct ivg_exec_request){.descriptor = descriptor,
                                             .bytes = record->payload,
                                             .bytes_count = header.bytes,
                                             .producer = header.producer,
                                             .context = header.context,
                                             .wants_answer = header.flags & IVG_CALL_WANTS_ANSWER,
                                             .capturing = header.flags & IVG_CALL_CAPTURING,
                                             .capture_mode = CU_STREAM_CAPTURE_MODE_RELAXED,
                                             .position = record->position,
                                             .record = record};
        if (request->capturing)
                request->capture_mode = (header.flags & IVG_CALL_MODE_MASK) >> IVG_CALL_MODE_SHIFT;
        if (request->wants_answer) {
                struct ivg_exec_producer *producer = &exec->producers[header.producer];

                producer->sequence = extend_sequence(producer->sequence, header.sequence_low);
                request->sequence = producer->sequence;
        }
        return true;
}

static void hand_to_lane(struct ivg_exec *exec, const struct ivg_taken_record *record,
                         const struct ivg_exec_request *request)
{
        const int error = ivg_lane_submit(exec, request);

        exec->awaited.value = 0; /* who waits there for long has gone to sleep */
        if (error == -EPROTO)
                refuse_record(exec, record, IVG_FAULT_RECORD_HEADER, request->producer,
                              "a guest thread has more than one unanswered call");
        else if (error)
                ivg_exec_answer(exec, request, CUDA_ERROR_OUT_OF_MEMORY, NULL, 0);
}

static bool is_launch(uint16_t number)
{
        return number == IVG_CALL_ivgLaunch || number == IVG_CALL_ivgLaunchEx || number == IVG_CALL_cuGraphLaunch;
}

static void run_here(struct ivg_exec *exec, const struct ivg_exec_request *request)
{
        exec->gate.calls[request->wants_answer ? IVG_BOARD_CONSUMER_SYNC : IVG_BOARD_CONSUMER_ASYNC]++;
        if (!request->descriptor->gpu) {
                if (request->descriptor->unchains)
                        ivg_meter_flush(exec); /* it may end a stream */
                if (__builtin_expect(exec->gate.legacy_dirty, 0) && request->descriptor->orders_streams)
                        ivg_meter_flush_now(exec);
                ivg_exec_run(exec, request);
        } else if (__builtin_expect(exec->gate.over_rate, 0) && is_launch(request->descriptor->number)) {
                exec->gate.tokens++; /* it costs nothing */
                ivg_exec_over_rate(exec, request);
        } else if (ivg_gate_pass(exec, request->context)) {
                ivg_exec_run(exec, request);
        }
}

static void execute_record(struct ivg_exec *exec, const struct ivg_taken_record *record)
{
        struct ivg_exec_request request;

        if (!accept_record(exec, record, &request))
                return;
        if (request.descriptor->number != IVG_CALL_ivgLaunch || request.wants_answer)
                ivg_chains_issue(exec);
        if (__builtin_expect(request.descriptor->unchains, 0) && exec->chains)
                ivg_chains_unmake(exec, &request);
        if (__builtin_expect(exec->watches.count > 0, 0))
                ivg_watches_before(exec, &request);
        if (request.wants_answer &&
            (request.descriptor->lane || request.capturing || ivg_lane_pending(exec, request.producer) > 0)) {
                ivg_meter_flush(exec); /* it may end a stream, or wait for one */
                exec->gate.calls[IVG_BOARD_LANE]++;
                hand_to_lane(exec, record, &request);
        } else if (request.descriptor->lane) {
                ivg_meter_flush(exec);
                exec->gate.calls[IVG_BOARD_REAPER]++;
                if (!ivg_reaper_submit(exec, &request))
                        ivg_exec_call_failed(exec, &request, CUDA_ERROR_OUT_OF_MEMORY);
        } else {
                run_here(exec, &request);
        }
}

/* True while records may be taken. Acquire: pairs with the release of who closes, so that its reason is seen. */
static bool may_go_on(const struct ivg_exec *exec)
{
        return !ivg_load_acquire_u32(&exec->stop) && !ivg_load_acquire_u32(&exec->fault);
}

/* Not inlined, so that execute_record is, once: it takes the batch's every record. */
static __attribute__((noinline)) void execute_records(struct ivg_exec *exec, uint32_t first, uint32_t end)
{
        for (uint32_t i = first; i < end && may_go_on(exec); i++)
                execute_record(exec, &exec->batch.records[i]);
        ivg_chains_issue(exec);
}

/* Each with its times; what goes to a lane or the reaper is told there. */
static void execute_traced(struct ivg_exec *exec)
{
        const uint64_t *calls = exec->gate.calls;

        for (uint32_t i = 0; i < exec->batch.records_count && may_go_on(exec); i++) {
                const struct ivg_taken_record *record = &exec->batch.records[i];
                const uint64_t handed = calls[IVG_BOARD_LANE] + calls[IVG_BOARD_REAPER];
                const struct ivg_trace_times times = {
                        .position = record->position, .taken_ns = exec->trace_taken_ns, .begin_ns = ivg_clock_ns()};

                execute_records(exec, i, i + 1);
                if (calls[IVG_BOARD_LANE] + calls[IVG_BOARD_REAPER] == handed)
                        ivg_trace_call(exec, record->opcode, record->payload, record->payload_bytes, &times,
                                       IVG_TRACE_CONSUMER);
        }
}

static void note_latencies(struct ivg_exec *exec, uint64_t batch_ns)
{
        struct ivg_histogram *latencies = exec->board->latencies;
        const uint64_t calls = exec->batch.records_count;

        if (calls == 0)
                return;
        ivg_histogram_record_many(&latencies[IVG_BOARD_EXECUTION], batch_ns / calls, calls);
        ivg_histogram_record_many(&latencies[IVG_BOARD_RING_WAIT], batch_ns / calls * (calls - 1) / 2, calls);
        ivg_histogram_record(&latencies[IVG_BOARD_TOTAL], batch_ns);
}

/* What the batch was goes to the board. This thread is the words' one writer; relaxed: statistics. */
static void batch_ends(struct ivg_exec *exec, uint64_t begin_ns)
{
        struct ivg_board_counters *counters = &exec->board->counters;
        struct ivg_gate *gate = &exec->gate;

        for (uint32_t i = 0; i < IVG_BOARD_CLASSES; i++)
                ivg_store_relaxed_u64(&counters->calls[i], gate->calls[i]);
        ivg_store_relaxed_u64(&counters->batches, exec->batches);
        ivg_store_relaxed_u64(&counters->call_since_ns, 0);
        if (gate->rate_calls_per_s != 0)
                gate->tokens -= exec->batch.records_count;
        if (begin_ns != 0)
                note_latencies(exec, ivg_clock_ns() - begin_ns);
        ivg_gate_batch_ends(exec);
}

/* One batch: one turn, so that a stop or a fault is seen between any two. */
static int take_turn(struct ivg_exec *exec)
{
        struct ivg_host_channel *shown = exec->host_channel;
        uint64_t begin_ns = 0;
        int taken;

        if (__builtin_expect(exec->gate.rate_calls_per_s != 0 ||
                                     ivg_load_relaxed_u64(&exec->board->orders.rate_calls_per_s) != 0,
                             0))
                ivg_gate_rate(exec);
        ivg_consumer_rest(&exec->consumer, &exec->batch);
        taken = ivg_consumer_take(&exec->consumer, &exec->batch);
        if (taken > 0) { /* relaxed: whoever watches sees it at last; the trace begins and ends with some batch */
                ivg_store_relaxed_u64(&exec->board->counters.call_since_ns, ivg_clock_coarse_ns());
                exec->trace_taken_ns = ivg_load_relaxed_u32(&exec->board->orders.trace) ? ivg_clock_ns() : 0;
        }
        if (taken > 0 && exec->batches % IVG_BOARD_LATENCY_EVERY == 0)
                begin_ns = ivg_clock_ns();
        /* Records come after what their senders did before (C1). ThreadSanitizer sees no order where sender and
         * consumer map the ring at two addresses: tests that play the guest in this process tell it (fixture_send). */
        ivg_tsan_acquire(exec->host_channel);
        if (__builtin_expect(exec->trace_taken_ns != 0, 0))
                execute_traced(exec);
        else
                execute_records(exec, 0, exec->batch.records_count);
        if (taken > 0) {
                /* This thread is their one writer; relaxed: statistics. */
                exec->records_consumed += exec->batch.records_count;
                exec->batches++;
                ivg_store_relaxed_u64(&shown->records_consumed, exec->records_consumed);
                ivg_store_relaxed_u64(&shown->batches, exec->batches);
                batch_ends(exec, begin_ns);
                if (__builtin_expect(exec->watches.count > 0, 0))
                        ivg_watches_look(exec, ivg_clock_ns());
        }
        if (taken < 0 && may_go_on(exec)) {
                /* The ring has closed itself and noted which rule. Its word serves the message alone: a guest that
                 * overwrites it gets a wrong message, and the channel stays closed. */
                const uint64_t noted = ivg_load_relaxed_u64(&exec->consumer.host->fault);
                const uint32_t fault = (uint32_t)noted != IVG_FAULT_NONE ? (uint32_t)noted : IVG_FAULT_RECORD_KIND;

                ivg_exec_fault(exec, (enum ivg_ring_fault)fault, (uint32_t)(noted >> 32),
                               ivg_load_relaxed_u64(&exec->consumer.head), "in the ring");
        }
        return taken;
}

static void drain_doorbell(const struct ivg_exec *exec)
{
        uint64_t rings;

        /* Non-blocking: nothing there is as good as something. */
        if (read(exec->doorbell_fd, &rings, sizeof(rings)) < 0)
                return;
}

/* A short sleep had better have been spent looking; a long one makes it look less the next time. */
static void slept(struct ivg_exec *exec, uint64_t ns)
{
        if (ns > IVG_CONSUMER_YIELD_NS_MAX)
                exec->yield_ns /= 2;
        else
                exec->yield_ns = exec->yield_ns + ns < IVG_CONSUMER_YIELD_NS_MAX ? exec->yield_ns + ns
                                                                                 : IVG_CONSUMER_YIELD_NS_MAX;
}

static void sleep_for_records(struct ivg_exec *exec)
{
        struct pollfd fds[2] = {{.fd = exec->doorbell_fd, .events = POLLIN}, {.fd = exec->stop_fd, .events = POLLIN}};

        exec->awaited.value = 0; /* whoever asks after this wakes it */
        if (ivg_consumer_sleep_begin(&exec->consumer)) {
                const uint64_t begin_ns = ivg_clock_ns();

                exec->sleeps++;
                ivg_store_relaxed_u64(&exec->host_channel->sleeps, exec->sleeps);
                (void)poll(fds, 2, -1); /* ends by doorbell or stop */
                drain_doorbell(exec);
                slept(exec, ivg_clock_ns() - begin_ns);
                exec->has_woken = true;
        }
        ivg_consumer_sleep_end(&exec->consumer);
        ivg_gate_consumer_woke(exec);
}

/* Relaxed: nothing but the looking depends on it. A failure's word is above every value. */
static bool word_is_awaited(const struct ivg_exec *exec)
{
        return ivg_load_relaxed_u64(&exec->completions[exec->awaited.index]) < exec->awaited.value;
}

/* Looks again and again for about one wake-up's cost, then between offers of its processor for as long as it has been
 * worth it, and as somebody waits who will call again then. */
static bool spin_for_records(struct ivg_exec *exec)
{
        const uint64_t begin = ivg_clock_ns(), end = begin + IVG_CONSUMER_SPIN_NS;
        uint64_t last = end + exec->yield_ns, now = begin;
        bool flushed = false;

        /* Whoever rang may wait on this processor, for what has just been done: it goes first. Not before the ring is
         * found empty: a call may send two records and wait for the second. */
        if (exec->has_woken) {
                exec->has_woken = false;
                sched_yield();
        }
        do {
                flushed = flushed || ivg_meter_pause(exec, begin, now);
                const uint32_t looks = exec->watches.count > 0 ? IVG_SPIN_LOOKS_WATCHING : IVG_SPIN_LOOKS;

                for (uint32_t look = 0; look < looks; look++) {
                        if (take_turn(exec) != 0) {
                                exec->gate.expects_more = now - begin < IVG_METER_DELAY_NS;
                                return true;
                        }
                        ivg_cpu_relax();
                }
                now = ivg_clock_ns();
                ivg_watches_look(exec, now);
                if (now < end)
                        continue;
                sched_yield();
                if (last < now + IVG_CONSUMER_SPIN_NS && now - begin < IVG_AWAITED_NS_MAX && word_is_awaited(exec) &&
                    ivg_clock_ns() - now < IVG_YIELD_TAKEN_NS)
                        last = now + IVG_CONSUMER_SPIN_NS;
        } while (now < last && may_go_on(exec));
        if (!flushed)
                ivg_meter_flush(exec);
        exec->gate.expects_more = false;
        return false;
}

void *ivg_consumer_main(void *argument)
{
        struct ivg_exec *exec = argument;

        ivg_exec_thread_begins("ivgpu-consumer");
        while (may_go_on(exec)) {
                if (take_turn(exec) != 0 || spin_for_records(exec) || !may_go_on(exec))
                        continue;
                sleep_for_records(exec);
        }
        ivg_exec_thread_ends();
        return NULL;
}
