/* The mediator's sign of life for transports without a socket to it: a word that grows. */
#include "link_internal.h"

int ivg_link_heartbeat_check(struct ivg_link *link)
{
        /* Relaxed, here and below: a beat orders nothing. Threads may store each other's stamps; each is a true one. */
        const uint64_t beat = ivg_load_relaxed_u64(&ivg_region_host_pages(&link->region)->heartbeat);
        const uint64_t now_ns = ivg_now_ns();

        if (beat != atomic_load_explicit(&link->heartbeat_seen, memory_order_relaxed)) {
                atomic_store_explicit(&link->heartbeat_seen_ns, now_ns, memory_order_relaxed);
                atomic_store_explicit(&link->heartbeat_seen, beat, memory_order_relaxed);
                return 0;
        }
        if (now_ns - atomic_load_explicit(&link->heartbeat_seen_ns, memory_order_relaxed) <
            IVG_HEARTBEAT_LOST_MS * IVG_NS_PER_MS)
                return 0;
        return -EPIPE;
}
