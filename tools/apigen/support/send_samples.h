/* A use of every encoder, generated from the table: what the test of encoders against decoders runs. */
#ifndef IVG_SEND_SAMPLES_H
#define IVG_SEND_SAMPLES_H

#include "ivgpu_calls.h"
#include <stdbool.h>

struct ivg_send_sample {
        uint16_t number;
        uint8_t ranged;
        /* Sends with ranges of n > 0 bytes or elements each; *allowed: whether the table allows that many. */
        CUresult (*send)(uint32_t n, bool *allowed);
};

extern const struct ivg_send_sample ivg_send_samples[];
extern const uint32_t ivg_send_samples_count;

#endif
