/* What the generated encoders (guest_send.h) share: building a request with its byte ranges.
 * Short ranges go into the record, long ones into arena memory that is given back after the answer. */
#ifndef IVG_CALL_ENCODE_H
#define IVG_CALL_ENCODE_H

#include "guest.h"
#include <string.h>

#define IVG_ENCODE_RANGES_MAX 8u /* staged ranges of one call; the table has at most this many per row (checked) */

struct ivg_encoder {
        uint8_t *request; /* IVG_RECORD_PAYLOAD_BYTES_MAX bytes, 8-byte aligned */
        uint32_t bytes;   /* used so far; a multiple of 8 */
        uint32_t staged_count;
        struct {
                void *memory;
                uint64_t bytes;
        } staged[IVG_ENCODE_RANGES_MAX];
};

/* Gives staged ranges back. Every path after the first ivg_encode_* call comes here. */
static inline void ivg_encode_end(struct ivg_encoder *encoder)
{
        while (encoder->staged_count > 0) {
                encoder->staged_count--;
                ivg_staging_give(encoder->staged[encoder->staged_count].memory,
                                 encoder->staged[encoder->staged_count].bytes);
        }
}

/* Arena memory for a range of this call; NULL when the arena is full. */
static inline void *ivg_encode_stage(struct ivg_encoder *encoder, struct ivg_wire_range *range, uint64_t bytes)
{
        uint64_t offset;
        void *const memory = ivg_staging_take(bytes);
        if (!memory)
                return NULL;
        if (!ivg_arena_offset(memory, bytes, &offset)) {
                ivg_staging_give(memory, bytes);
                return NULL;
        }
        encoder->staged[encoder->staged_count].memory = memory;
        encoder->staged[encoder->staged_count].bytes = bytes;
        encoder->staged_count++;
        *range = (struct ivg_wire_range){.bytes = (uint32_t)bytes, .where = IVG_RANGE_ARENA, .offset = offset};
        return memory;
}

/* An input range; `data` NULL: the NULL range. Fails: CUDA_ERROR_INVALID_VALUE over bytes_max, CUDA_ERROR_OUT_OF_MEMORY
 * when the arena is full. */
static inline CUresult ivg_encode_range(struct ivg_encoder *encoder, struct ivg_wire_range *range, const void *data,
                                        uint64_t bytes, uint64_t bytes_max)
{
        void *memory;
        if (!data) {
                *range = (struct ivg_wire_range){.where = IVG_RANGE_NULL};
                return CUDA_SUCCESS;
        }
        if (bytes > bytes_max)
                return CUDA_ERROR_INVALID_VALUE;
        const uint64_t padded = (bytes + 7) & ~UINT64_C(7);
        if (padded <= IVG_RECORD_PAYLOAD_BYTES_MAX - encoder->bytes) {
                *range = (struct ivg_wire_range){
                        .bytes = (uint32_t)bytes, .where = IVG_RANGE_INLINE, .offset = encoder->bytes};
                memcpy(encoder->request + encoder->bytes, data, bytes);
                memset(encoder->request + encoder->bytes + bytes, 0, padded - bytes);
                encoder->bytes += (uint32_t)padded;
                return CUDA_SUCCESS;
        }
        memory = ivg_encode_stage(encoder, range, bytes);
        if (!memory)
                return CUDA_ERROR_OUT_OF_MEMORY;
        memcpy(memory, data, bytes);
        return CUDA_SUCCESS;
}

/* A range that the host fills: always arena memory. `bytes` 0: the NULL range. */
static inline CUresult ivg_encode_outrange(struct ivg_encoder *encoder, struct ivg_wire_range *range, uint64_t bytes,
                                           uint64_t bytes_max, void **memory)
{
        *memory = NULL;
        *range = (struct ivg_wire_range){.where = IVG_RANGE_NULL};
        if (bytes == 0)
                return CUDA_SUCCESS;
        if (bytes > bytes_max)
                return CUDA_ERROR_INVALID_VALUE;
        *memory = ivg_encode_stage(encoder, range, bytes);
        return *memory ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

/* Copies a byte range of an answer out: at most `capacity` bytes; its true length to *bytes (NULL: not wanted).
 * False: the host's range does not lie inside its answer. */
static inline bool ivg_decode_answer_range(const uint8_t *answer, uint32_t answer_bytes,
                                           const struct ivg_wire_range *range, void *data, uint64_t capacity,
                                           uint32_t *bytes)
{
        if (bytes)
                *bytes = range->bytes;
        if (range->where == IVG_RANGE_NULL)
                return range->bytes == 0;
        if (range->where != IVG_RANGE_INLINE || range->offset > answer_bytes ||
            range->bytes > answer_bytes - range->offset || range->bytes > capacity)
                return false;
        if (data)
                memcpy(data, answer + range->offset, range->bytes);
        return true;
}

#endif
