/* Device memory under its VM's cap (hostexec/common/vram_table.h).
 *
 * The functions of the driver's table that take and free device memory are replaced by ones that ask the cap first and
 * count, so that no path goes past it: plain and pitched memory, memory of pools, arrays, mipmapped arrays, memory of
 * graphs. cuMemCreate's is counted by calls_virtual.c and physical.c, which know how long it lives. What the driver
 * tells of a device's memory is cut to the cap.
 *
 * Counted are the bytes asked for, in units of IVG_VRAM_UNIT_BYTES; of a pool and of graphs, the bytes that the driver
 * reserves for them (of a pool without a cap, those asked for: the driver is not asked for nothing); of the graphs that
 * the executor makes of launches, IVG_CHAIN_STREAM_BYTES for each stream that has some (chain.h). Not counted:
 * contexts, modules, and what the driver needs by itself. */
#ifndef IVG_EXEC_VRAM_H
#define IVG_EXEC_VRAM_H

#include "exec_internal.h"

#define IVG_VRAM_UNIT_BYTES 512u /* a device's least allocation */

/* After exec->driver is filled in, before any call. fd -1: there is no table, and nothing is replaced. -errno. */
int ivg_vram_open(struct ivg_exec *exec, int fd, uint32_t place);
/* For memory that this file sees no function of. False: over the cap. Lanes only. */
bool ivg_vram_take(int32_t device, uint64_t bytes);
/* For what can be done without: waits for nobody and has nothing let go. False: over the cap, or somebody is at it. Any
 * thread. */
bool ivg_vram_take_unused(int32_t device, uint64_t bytes);
void ivg_vram_give(int32_t device, uint64_t bytes);
/* All that was allocated in this context goes with it. */
void ivg_vram_context_ends(ivg_id context);

#endif
