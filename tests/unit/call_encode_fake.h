/* The executor and driver as far as decoders need them, with one arena that both halves of a test share. */
#ifndef IVG_CALL_ENCODE_FAKE_H
#define IVG_CALL_ENCODE_FAKE_H

#include "ivgpu/call_wire.h"
#include "ivgpu/cuda_abi.h"
#include <stdint.h>

#define FAKE_ARENA_BYTES (8u << 20)
extern uint8_t fake_arena[FAKE_ARENA_BYTES];

struct fake_run {
        CUresult result;
        uint32_t fault; /* enum ivg_ring_fault */
        uint32_t fault_value;
        uint32_t answer_bytes;
        uint32_t is_async; /* the call's class */
        const char *name;
        const uint8_t *answer;
};
/* Decodes and executes a request as the executor does. */
struct fake_run fake_execute(uint16_t number, const uint8_t *request, uint32_t bytes);

#endif
