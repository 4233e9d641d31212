/* The rest of the world for tests of the guest's memory code: one process that is READY, one context, an arena, and a
 * "device" whose memory is this process's. Asynchronous calls are done in order by a thread, some time later, so that a
 * copy which is believed to be done too early shows. */
#ifndef IVG_GUEST_FAKE_HOST_H
#define IVG_GUEST_FAKE_HOST_H

#include "memory.h"

/* Call once, first. `extents` of arena; `delay_us`: before each asynchronous call is done. */
void fake_host_start(uint32_t extents, uint32_t delay_us);
void fake_host_set_delay(uint32_t delay_us);
void fake_host_settle(void); /* until all asynchronous calls are done */

/* The next copy to or from the arena is not done: its completion word tells `result`, which is deferred as well. */
void fake_host_fail_next_copy(CUresult result);
void fake_host_fail_copy_after(uint32_t copies, CUresult result); /* the one after so many more */
/* The next registration of extents is refused. */
void fake_host_fail_next_register(CUresult result);

struct fake_host_counts {
        uint32_t extents_owned, extents_registered;
        uint32_t copies, inline_copies, pitched_copies, synchronizations, allocations_live;
        CUresult deferred; /* the error that is still to be told */
};
struct fake_host_counts fake_host_count(void);
/* How many of the following allocations are to lie on this process's own memory (a mapping made for it). */
void fake_host_collide(uint32_t allocations);

#endif
