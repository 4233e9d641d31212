/* One valid request per call, generated from the table: what the decoder's tests start from. */
#ifndef IVG_CALL_SAMPLES_H
#define IVG_CALL_SAMPLES_H

#include "ivgpu_calls.h"

struct ivg_call_sample {
        uint16_t number;
        uint32_t (*write)(
                uint8_t *request); /* into IVG_RECORD_PAYLOAD_BYTES_MAX bytes, aligned to 8; returns its length */
        uint32_t ranges_offset;    /* of the first of its input ranges, which lie side by side */
        uint32_t ranges_count;
};

extern const struct ivg_call_sample ivg_call_samples[];
extern const uint32_t ivg_call_samples_count;

#endif
