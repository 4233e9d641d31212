/* Private to vram.c and vram_figures.c: allocations, and the figures in the VM's table that stand for them. */
#ifndef IVG_EXEC_VRAM_FIGURES_H
#define IVG_EXEC_VRAM_FIGURES_H

#include "vram.h"

/* One allocation. */
struct ivg_vram_block;

/* The driver as it was before vram.c put its functions in their places. */
extern struct ivg_driver ivg_vram_real;

int ivg_vram_figures_open(struct ivg_exec *exec, int fd, uint32_t place);

/* A block of so many bytes of the current device, counted; NULL: over the cap, or no memory. */
struct ivg_vram_block *ivg_vram_block_new(uint64_t bytes);
/* Room for a block that is larger than it was thought. False: over the cap; the block is as before. */
bool ivg_vram_block_grow(struct ivg_vram_block *block, uint64_t bytes);
void ivg_vram_block_undo(struct ivg_vram_block *block);
/* After the driver's answer, which has put an address or an array at `given`: the block is known by it. */
CUresult ivg_vram_block_settle(struct ivg_vram_block *block, CUresult result, const void *given);
void ivg_vram_block_drop(uint64_t key); /* not known: nothing */
/* The driver has given it from `pool` (NULL: the device's own), whose figure stands for it from now on. False: what the
 * driver has reserved for the pool is over the cap. */
bool ivg_vram_pool_count(struct ivg_vram_block *block, CUmemoryPool pool);
void ivg_vram_pool_ends(CUmemoryPool pool); /* before the driver destroys it: what is allocated stays counted */
void ivg_vram_pools_shrink(void);           /* what the driver has given back since */
void ivg_vram_graphs_begin(void);           /* from now on graphs take memory */
bool ivg_vram_graphs_began(void);
void ivg_vram_graphs_count(int32_t device); /* what the driver has reserved for them, over the cap if need be */

uint64_t ivg_vram_limit(void);          /* of a device; IVG_VRAM_NO_LIMIT: none */
uint64_t ivg_vram_held(int32_t device); /* by the whole VM */

#endif
