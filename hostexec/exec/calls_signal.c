/* Words that tell how far streams have come, without a copy. */
#include "exec_internal.h"
#include "host_args.h"
#include "watch.h"
#include <string.h>

static CUresult prepare(struct ivg_exec_call *call, struct ivg_exec_completion *completion, uint32_t index,
                        uint64_t value)
{
        if (index == IVG_COMPLETION_NONE)
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, index);
        return ivg_exec_completion_prepare(call, completion, index, value);
}

/* What a synchronization waits for: the stream writes the word. */
CUresult ivg_host_ivgStreamSignal(struct ivg_exec_call *call, const struct ivg_args_ivgStreamSignal *args)
{
        struct ivg_exec_completion completion;
        const CUresult result = prepare(call, &completion, args->completion_index, args->completion_value);

        return ivg_exec_completion_finish(call, &completion, args->stream, result);
}

/* Another guest thread's capture, of this stream or one that waits for it, is no place for our word. */
CUresult ivg_host_ivgContextSignal(struct ivg_exec_call *call, const struct ivg_args_ivgContextSignal *args)
{
        struct ivg_exec_completion completion;
        CUresult result = prepare(call, &completion, args->completion_index, args->completion_value);

        if (result == CUDA_SUCCESS && ivg_capture_under_way(call->exec, args->stream))
                result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        result = ivg_exec_completion_finish(call, &completion, args->stream, result);
        return call->fault != IVG_FAULT_NONE ? result : CUDA_SUCCESS;
}

/* ---- words that the consumer writes: watch.h ---- */

static void say(struct ivg_exec *exec, const struct ivg_watch *watch, CUresult result)
{
        const struct ivg_exec_completion completion = {.index = watch->index, .value = watch->value};
        struct ivg_exec_call call = {.exec = exec};

        (void)ivg_exec_completion_finish_read(&call, &completion, result);
}

static void drop(struct ivg_watches *watches, uint32_t place)
{
        watches->all[place] = watches->all[--watches->count];
}

void ivg_watches_ask(struct ivg_exec *exec, uint64_t now_ns)
{
        struct ivg_watches *watches = &exec->watches;
        const uint32_t most = watches->count < IVG_WATCH_AT_ONCE ? watches->count : IVG_WATCH_AT_ONCE;

        watches->asked_ns = now_ns;
        (void)ivg_capture_mode_relax(exec); /* each call enters its own again */
        for (uint32_t i = 0; i < most && watches->count > 0; i++) {
                const uint32_t place = watches->next < watches->count ? watches->next : 0;
                const struct ivg_watch *watch = &watches->all[place];
                CUresult result = ivg_context_enter(exec, watch->context);

                if (result == CUDA_SUCCESS)
                        result = exec->driver.cuEventQuery(watch->event);
                watches->next = place + 1;
                if (result == CUDA_ERROR_NOT_READY)
                        continue;
                say(exec, watch, result);
                drop(watches, place);
                watches->next = place;
        }
}

static bool ends_contexts(uint16_t number)
{
        return number == IVG_CALL_cuCtxDestroy_v2 || number == IVG_CALL_cuDevicePrimaryCtxRelease_v2 ||
               number == IVG_CALL_cuDevicePrimaryCtxReset_v2 || number == IVG_CALL_cuGreenCtxDestroy;
}

/* The event of a record that ends or captures one; all such records begin with it. */
static ivg_id event_of(const struct ivg_exec_request *request)
{
        struct ivg_request_cuEventDestroy_v2 first;

        _Static_assert(offsetof(struct ivg_request_cuEventDestroy_v2, hEvent) ==
                                       offsetof(struct ivg_request_cuEventRecord, hEvent) &&
                               offsetof(struct ivg_request_cuEventDestroy_v2, hEvent) ==
                                       offsetof(struct ivg_request_cuEventRecordWithFlags, hEvent),
                       "the event is first");
        if (request->bytes_count < sizeof(first))
                return IVG_ID_NONE;
        memcpy(&first, request->bytes, sizeof(first));
        return first.hEvent;
}

/* A word that is dropped never comes: the guest goes on asking. That of an event that ends is nobody's any more, and
 * comes so that it can be used again. With a context its guest's words go. */
void ivg_watches_before(struct ivg_exec *exec, const struct ivg_exec_request *request)
{
        struct ivg_watches *watches = &exec->watches;
        const uint16_t number = request->descriptor->number;
        const bool ends = number == IVG_CALL_cuEventDestroy_v2;
        ivg_id event;

        if (ends_contexts(number)) {
                watches->count = 0;
                return;
        }
        if (!ends &&
            !(request->capturing && (number == IVG_CALL_cuEventRecord || number == IVG_CALL_cuEventRecordWithFlags)))
                return;
        event = event_of(request);
        for (uint32_t i = watches->count; i-- > 0;) {
                if (watches->all[i].number != event || event == IVG_ID_NONE)
                        continue;
                if (ends)
                        say(exec, &watches->all[i], CUDA_SUCCESS);
                drop(watches, i);
        }
}

/* What fails is the asker's to know, by the word: its program has made no call that could have failed. */
static CUresult watch(struct ivg_exec_call *call, struct ivg_watch *wanted, CUresult result)
{
        struct ivg_exec *exec = call->exec;
        struct ivg_watches *watches = &exec->watches;
        uint32_t place = 0;

        if (call->fault != IVG_FAULT_NONE)
                return result;
        while (place < watches->count && watches->all[place].index != wanted->index)
                place++;
        if (result == CUDA_SUCCESS && place == IVG_SIGNAL_WORDS)
                result = CUDA_ERROR_OUT_OF_MEMORY;
        if (result != CUDA_SUCCESS) {
                ivg_log(IVG_LOG_DEBUG, "no word for a question: CUDA error %d", (int)result);
                say(exec, wanted, result);
                return CUDA_SUCCESS;
        }
        wanted->context = call->context;
        watches->all[place] = *wanted;
        if (place == watches->count)
                watches->count++;
        exec->awaited = (struct ivg_exec_awaited){.index = wanted->index, .value = wanted->value};
        return CUDA_SUCCESS;
}

/* Lanes have no part in this: no guest of ours sends one of these for an answer. */
static CUresult prepare_watch(struct ivg_exec_call *call, uint32_t index, uint64_t value)
{
        const struct ivg_driver *driver = &call->exec->driver;
        struct ivg_exec_completion completion;
        const CUresult result = prepare(call, &completion, index, value);

        if (result != CUDA_SUCCESS)
                return result;
        return !ivg_thread_may_wait && driver->cuEventCreate && driver->cuEventRecord && driver->cuEventQuery &&
                               driver->cuEventDestroy_v2
                       ? CUDA_SUCCESS
                       : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult ivg_host_ivgEventWatch(struct ivg_exec_call *call, const struct ivg_args_ivgEventWatch *args)
{
        struct ivg_watch wanted = {.index = args->completion_index,
                                   .value = args->completion_value,
                                   .number = args->hEvent_id,
                                   .event = args->hEvent};

        return watch(call, &wanted, prepare_watch(call, args->completion_index, args->completion_value));
}

/* By an event without timing, which takes the device no time. */
CUresult ivg_host_ivgStreamWatch(struct ivg_exec_call *call, const struct ivg_args_ivgStreamWatch *args)
{
        struct ivg_watch wanted = {.index = args->completion_index, .value = args->completion_value};
        CUresult result = prepare_watch(call, args->completion_index, args->completion_value);

        if (result == CUDA_SUCCESS && ivg_capture_under_way(call->exec, args->stream))
                result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        if (result == CUDA_SUCCESS)
                result = ivg_handle_watch_event(call, wanted.index % IVG_SIGNAL_WORDS, &wanted.event);
        if (result == CUDA_SUCCESS)
                result = call->exec->driver.cuEventRecord(wanted.event, args->stream);
        return watch(call, &wanted, result);
}
