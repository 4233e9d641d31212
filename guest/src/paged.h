/* Copies between the program's pageable memory and the device that a capture takes (paged.c). */
#ifndef IVG_GUEST_PAGED_H
#define IVG_GUEST_PAGED_H

#include "memory.h"
#pragma GCC visibility push(hidden)

struct ivg_paged_box { /* rows in the program's memory */
        uint64_t address, pitch, slice_pitch;
        uint64_t width, height, depth;
};
struct ivg_paged;

/* Arena memory for the box, its rows packed, which the graph of the capture keeps. */
CUresult ivg_paged_begin(const struct ivg_copy *copy, const struct ivg_paged_box *box, struct ivg_paged **paged);
uint64_t ivg_paged_address(const struct ivg_paged *paged);
/* The next node of the stream copies from the program's memory into it, or out of it. */
CUresult ivg_paged_read(const struct ivg_copy *copy, struct ivg_paged *paged);
CUresult ivg_paged_write(const struct ivg_copy *copy, struct ivg_paged *paged);
/* Gives back what graphs have let go of. */
void ivg_paged_sweep(void);

#pragma GCC visibility pop
#endif
