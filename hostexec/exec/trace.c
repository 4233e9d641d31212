/* Tracing: what ran goes to the board's trace (trace_ring.h), for whoever reads it. Off, it costs the consumer one look
 * at the board's orders a batch, and lanes and reaper a look at a private word. */
#include "exec_internal.h"
#include <string.h>

_Static_assert(sizeof(union ivg_request_any) <= IVG_TRACE_REQUEST_BYTES, "the printer reads all of it");

/* What the call answered, if its answer is still the mailbox's latest: it is this thread that has just written it. */
static uint32_t result_of(const struct ivg_exec *exec, const struct ivg_call_header *header)
{
        const struct ivg_ring_mailbox *mailbox = &exec->consumer.host->mailboxes[header->producer];

        if (!(header->flags & IVG_CALL_WANTS_ANSWER) ||
            (uint32_t)ivg_load_relaxed_u64(&mailbox->sequence) != header->sequence_low)
                return IVG_TRACE_NO_RESULT;
        return mailbox->result;
}

void ivg_trace_call(struct ivg_exec *exec, uint16_t call, const uint8_t *request, uint32_t bytes,
                    const struct ivg_trace_times *times, enum ivg_trace_place place)
{
        struct ivg_trace_event event = {.position = times->position,
                                        .taken_ns = times->taken_ns,
                                        .begin_ns = times->begin_ns,
                                        .end_ns = ivg_clock_ns(),
                                        .result = IVG_TRACE_NO_RESULT,
                                        .call = call,
                                        .place = (uint8_t)place};
        struct ivg_call_header header;

        if (bytes >= sizeof(header)) {
                memcpy(&header, request, sizeof(header));
                if (header.producer < IVG_RING_PRODUCERS) {
                        event.line = header.producer;
                        event.result = result_of(exec, &header);
                        /* Relaxed: the guest's name for it, shown only. */
                        event.thread = ivg_load_relaxed_u32(&exec->consumer.guest->producers[header.producer].owner) &
                                       ~IVG_OWNER_DEAD;
                }
        }
        event.request_bytes = (uint16_t)(bytes < sizeof(event.request) ? bytes : sizeof(event.request));
        memcpy(event.request, request, event.request_bytes);
        ivg_trace_write(&exec->board->trace, &event);
}

void ivg_exec_run_traced(struct ivg_exec *exec, const struct ivg_exec_request *request, uint64_t taken_ns,
                         enum ivg_trace_place place)
{
        const struct ivg_trace_times times = {
                .position = request->position, .taken_ns = taken_ns, .begin_ns = taken_ns != 0 ? ivg_clock_ns() : 0};

        ivg_exec_run(exec, request);
        if (taken_ns != 0)
                ivg_trace_call(exec, request->descriptor->number, request->bytes, request->bytes_count, &times, place);
}
