/* One call from its private request to its answer. Runs on the consumer, on lanes and on the reaper alike. */
#include "exec_internal.h"
#include "ivgpu/sticky_error.h"
#include "jit.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Enough for any call's name and arguments in one line. */
#define IVG_CALL_TEXT_BYTES 512u

void ivg_exec_count(_Atomic(uint64_t) *counter, _Atomic(uint64_t) *shown, uint64_t n)
{
        /* Relaxed: statistics. The sum is kept in private memory; what is shown may lag by one addition. */
        const uint64_t sum = atomic_fetch_add_explicit(counter, n, memory_order_relaxed) + n;

        ivg_store_relaxed_u64(shown, sum);
}

void ivg_exec_interrupt(struct ivg_exec *exec)
{
        const uint64_t one = 1;

        if (exec->interrupt_fd < 0)
                return;
        /* I1, release, pairs with I2 (ivg_pci.c, channels.c): counted before the interrupt, which may be for any
         * channel of its vector, so that whoever it is for has changed when it comes. Every value is stored once,
         * whichever of two threads is later, so each store is a change. */
        ivg_store_release_u64(&exec->host_channel->interrupts,
                              atomic_fetch_add_explicit(&exec->counters.interrupts, 1, memory_order_relaxed) + 1);
        /* EAGAIN: the counter is full of unread interrupts, so the guest is being woken anyway. */
        if (write(exec->interrupt_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
                ivg_log(IVG_LOG_WARNING, "interrupting the guest: %s", strerror(errno));
}

static const char *print_call(const struct ivg_exec_request *request, char text[IVG_CALL_TEXT_BYTES])
{
        if (!request->descriptor->print ||
            request->descriptor->print(text, IVG_CALL_TEXT_BYTES, request->bytes, request->bytes_count) < 0)
                return request->descriptor->name;
        return text;
}

void ivg_exec_fault(struct ivg_exec *exec, enum ivg_ring_fault fault, uint32_t value, uint64_t position,
                    const char *what)
{
        const uint64_t one = 1;
        uint32_t none = IVG_FAULT_NONE;

        /* Before the ring: a consumer that finds it closed then knows that the fault is being dealt with. */
        if (!ivg_compare_exchange_acq_rel_u32(&exec->fault, &none, (uint32_t)fault))
                return;
        ivg_consumer_fault(&exec->consumer, fault, value, position);
        ivg_log(IVG_LOG_ERROR, "channel closed: %s broken (value %u) by record %llu%s%s", ivg_ring_fault_name(fault),
                value, (unsigned long long)position, *what ? ": " : "", what);
        ivg_exec_interrupt(exec);
        if (write(exec->event_fd, &one, sizeof(one)) < 0)
                ivg_log(IVG_LOG_ERROR, "the fault could not be announced");
}

static void count_failure(struct ivg_exec *exec, CUresult result)
{
        struct ivg_host_channel *shown = exec->host_channel;

        if (result == CUDA_SUCCESS || result == CUDA_ERROR_NOT_READY) /* "not ready" is an answer, no failure */
                return;
        if (result == CUDA_ERROR_NOT_SUPPORTED)
                ivg_exec_count(&exec->counters.calls_unsupported, &shown->calls_unsupported, 1);
        else
                ivg_exec_count(&exec->counters.calls_failed, &shown->calls_failed, 1);
}

static void log_failure(struct ivg_exec *exec, const struct ivg_exec_request *request, CUresult result,
                        enum ivg_log_level level)
{
        char text[IVG_CALL_TEXT_BYTES];
        uint64_t suppressed = 0;

        if (result == CUDA_SUCCESS || result == CUDA_ERROR_NOT_READY || !ivg_log_shows(level) ||
            !ivg_log_permit(&exec->failure_log, &suppressed))
                return;
        if (suppressed)
                ivg_log(level, "%llu failed calls were not logged", (unsigned long long)suppressed);
        ivg_log(level, "%s = %d", print_call(request, text), (int)result);
}

void ivg_exec_call_failed(struct ivg_exec *exec, const struct ivg_exec_request *request, CUresult result)
{
        count_failure(exec, result);
        if (!ivg_error_is_sticky(result)) /* a dead context tells its error itself, and to nobody else */
                ivg_deferred_note(exec, result);
        log_failure(exec, request, result, IVG_LOG_WARNING);
}

void ivg_exec_answer(struct ivg_exec *exec, const struct ivg_exec_request *request, CUresult result,
                     const uint8_t *answer, uint32_t answer_bytes)
{
        if (answer_bytes > IVG_MAILBOX_PAYLOAD_BYTES)
                memcpy(ivg_region_answer_area(&exec->region, exec->channel, request->producer), answer, answer_bytes);
        const int asleep =
                request->record ? ivg_consumer_answer_record(&exec->consumer, request->record, request->producer,
                                                             request->sequence, (uint32_t)result, answer, answer_bytes)
                                : ivg_consumer_answer(&exec->consumer, request->producer, request->sequence,
                                                      (uint32_t)result, answer, answer_bytes);

        if (asleep == 1)
                ivg_exec_interrupt(exec);
}

/* The guest's shim tells the program of error 10 (RATE_LIMITED) by this result. */
void ivg_exec_over_rate(struct ivg_exec *exec, const struct ivg_exec_request *request)
{
        atomic_fetch_add_explicit(&exec->board->counters.rate_failures, 1, memory_order_relaxed);
        if (request->wants_answer)
                ivg_exec_answer(exec, request, IVG_RESULT_RATE_LIMITED, NULL, 0);
        else
                ivg_exec_call_failed(exec, request, IVG_RESULT_RATE_LIMITED);
}

/* Work for the device from a lane: a capture takes none, and all else waits for the grant as on the consumer. */
static CUresult execute_on_lane(struct ivg_exec_call *call, const struct ivg_call_descriptor *descriptor)
{
        const uint32_t mode = ivg_capture_mode_relax(call->exec);
        uint32_t device = 0;
        CUresult result = CUDA_SUCCESS;

        if (!ivg_gate_lane(call->exec, &device))
                return CUDA_ERROR_DEINITIALIZED; /* the channel ends: nobody reads it */
        if (descriptor->needs_context)           /* the gate may have made another one current */
                result = ivg_context_enter(call->exec, call->context);
        ivg_capture_mode_enter(call->exec, mode);
        if (result == CUDA_SUCCESS)
                result = descriptor->execute(call);
        (void)ivg_capture_mode_relax(call->exec);
        ivg_meter_lane_call(call->exec, call->context, device, call->stream);
        ivg_capture_mode_enter(call->exec, mode);
        return result;
}

/* Decodes and executes; `call` is fresh. */
static CUresult execute(struct ivg_exec_call *call, const struct ivg_call_descriptor *descriptor)
{
        CUresult result = CUDA_SUCCESS;

        if (descriptor->needs_context)
                result = ivg_context_enter(call->exec, call->context);
        if (result == CUDA_SUCCESS)
                result = descriptor->gpu && ivg_thread_may_wait ? execute_on_lane(call, descriptor)
                                                                : descriptor->execute(call);
        if (call->temporaries)
                ivg_exec_temporaries_free(call);
        return result;
}

static inline struct ivg_exec_call fresh_call(struct ivg_exec *exec, const struct ivg_exec_request *request,
                                              uint8_t *answer)
{
        return (struct ivg_exec_call){.exec = exec,
                                      .whole = request,
                                      .request = request->bytes,
                                      .request_bytes = request->bytes_count,
                                      .producer = request->producer,
                                      .context = request->context,
                                      .answer = answer};
}

void ivg_exec_run(struct ivg_exec *exec, const struct ivg_exec_request *request)
{
        /* Zero at first, and afterwards holding only this guest's own earlier answers. */
        static _Thread_local _Alignas(16) uint8_t answer[IVG_ANSWER_AREA_BYTES];
        const struct ivg_call_descriptor *descriptor = request->descriptor;
        struct ivg_exec_call call = fresh_call(exec, request, answer);
        CUresult result;

        /* On the consumer, that is: the reaper is given no such calls. */
        call.metered = descriptor->gpu && !ivg_thread_may_wait && exec->gate.metering;

        ivg_capture_mode_enter(exec, request->capture_mode);
        result = execute(&call, descriptor);
        if (call.metered && call.stream)
                ivg_meter_note_stream(exec, call.context, call.stream);

        /* Frees of other guest threads may still be queued, though the program knows that they came first. */
        if (result == CUDA_ERROR_OUT_OF_MEMORY && call.fault == IVG_FAULT_NONE && request->wants_answer &&
            ivg_exec_settle_frees(&call)) {
                call = fresh_call(exec, request, answer);
                result = execute(&call, descriptor);
        }
        /* The driver prints what kernels have printed when it synchronizes, which only calls of lanes make it do.
         * Kernels that cannot print may still fail an assertion: then so does the call. */
        if (descriptor->lane && (result != CUDA_SUCCESS || ivg_exec_may_print(exec)))
                ivg_output_publish(exec);
        if (call.fault != IVG_FAULT_NONE) {
                char text[IVG_CALL_TEXT_BYTES];

                ivg_exec_fault(exec, call.fault, call.fault_value, request->position, print_call(request, text));
                return;
        }
        if (!request->wants_answer) {
                if (result != CUDA_SUCCESS)
                        ivg_exec_call_failed(exec, request, result);
                return;
        }
        if (result != CUDA_SUCCESS) {
                count_failure(exec, result);
                log_failure(exec, request, result, IVG_LOG_DEBUG); /* the program is told itself */
        }
        /* A call that succeeded and gave something must say so, or the guest would lose it. */
        if (descriptor->reports_async && (result != CUDA_SUCCESS || call.answer_bytes == 0))
                result = ivg_deferred_report(exec, result);
        ivg_exec_answer(exec, request, result, answer, call.answer_bytes);
}
