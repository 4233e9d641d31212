/* What the generated decoders (host_dispatch.c) share: checks on the executor's private copy of a record.
 * A broken rule is a fault of the channel, with the parameter's index (0: the record's length) as its value. */
#ifndef IVG_CALL_DECODE_H
#define IVG_CALL_DECODE_H

#include "exec.h"
#include <string.h>

static inline bool ivg_decode_fault(struct ivg_exec_call *call, uint32_t parameter)
{
        call->fault = IVG_FAULT_ARGUMENTS;
        call->fault_value = parameter;
        return false;
}

/* The same, as the result of a decoder. */
static inline CUresult ivg_decode_refuse(struct ivg_exec_call *call, uint32_t parameter)
{
        ivg_decode_fault(call, parameter);
        return CUDA_ERROR_UNKNOWN;
}

/* An input range: legal `where`, inside the record directly behind the range before it (*cursor), padding zero, a
 * multiple of `element` bytes, at most bytes_max. `optional`: the NULL range is legal. */
static inline bool ivg_decode_range(struct ivg_exec_call *call, const struct ivg_wire_range *range, uint32_t parameter,
                                    bool optional, uint64_t element, uint64_t bytes_max, uint32_t *cursor,
                                    const void **data)
{
        *data = NULL;
        if (range->bytes > bytes_max || range->bytes % element != 0)
                return ivg_decode_fault(call, parameter);
        if (range->where == IVG_RANGE_NULL) {
                if (!optional || range->bytes != 0 || range->offset != 0)
                        return ivg_decode_fault(call, parameter);
                return true;
        }
        if (range->where == IVG_RANGE_INLINE) {
                const uint32_t left =
                        call->request_bytes - *cursor; /* cursor <= request_bytes: kept by this function */
                if (range->offset != *cursor || range->bytes > left)
                        return ivg_decode_fault(call, parameter);
                const uint32_t padded = (range->bytes + 7u) & ~7u;
                if (padded > left)
                        return ivg_decode_fault(call, parameter);
                for (uint32_t i = range->bytes; i < padded; i++) {
                        if (call->request[*cursor + i] != 0)
                                return ivg_decode_fault(call, parameter);
                }
                *data = call->request + *cursor;
                *cursor += padded;
                return true;
        }
        if (range->where != IVG_RANGE_ARENA) {
                return ivg_decode_fault(call, parameter);
        }
        return ivg_exec_range_in(call, range, bytes_max, data);
}

/* A string: not empty as a range, its one NUL is its last byte. */
static inline bool ivg_decode_string(struct ivg_exec_call *call, const struct ivg_wire_range *range, uint32_t parameter,
                                     const void *data)
{
        if (!data)
                return true;
        if (range->bytes == 0 || memchr(data, 0, range->bytes) != (const char *)data + range->bytes - 1)
                return ivg_decode_fault(call, parameter);
        return true;
}

/* A range that the call fills: arena memory of the guest, or NULL. */
static inline bool ivg_decode_outrange(struct ivg_exec_call *call, const struct ivg_wire_range *range,
                                       uint32_t parameter, uint64_t bytes_max, void **data)
{
        *data = NULL;
        if (range->bytes > bytes_max)
                return ivg_decode_fault(call, parameter);
        if (range->where == IVG_RANGE_NULL)
                return range->bytes == 0 && range->offset == 0 ? true : ivg_decode_fault(call, parameter);
        if (range->where != IVG_RANGE_ARENA)
                return ivg_decode_fault(call, parameter);
        return ivg_exec_range_out(call, range, bytes_max, data);
}

static inline bool ivg_decode_zero(struct ivg_exec_call *call, const uint8_t *bytes, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++) {
                if (bytes[i] != 0)
                        return ivg_decode_fault(call, 0);
        }
        return true;
}

/* Room in the answer for an output range; NULL with a fault when there is none. */
static inline void *ivg_decode_answer(struct ivg_exec_call *call, struct ivg_wire_range *range, uint32_t bytes)
{
        uint8_t *const room = ivg_exec_answer_room(call, bytes);
        if (room)
                *range = (struct ivg_wire_range){
                        .bytes = bytes, .where = IVG_RANGE_INLINE, .offset = (uint64_t)(room - call->answer)};
        return room;
}

#endif
