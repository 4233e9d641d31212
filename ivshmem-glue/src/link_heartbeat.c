/* The mediator's sign of life for transports without a socket to it: a word that grows.
 *
 * Its silence is measured by who looks, and only while it looks. Of the time between two looks IVG_HEARTBEAT_GAP_NS
 * counts at most: whoever waits looks more often than that, so that the rest is time in which nobody waited or this
 * side itself stood still (stopped, frozen with the mediator, a machine that was suspended and whose clock then jumps),
 * and of which it cannot say that it would have seen a beat. */
#include "link_internal.h"

/* H4, acquire, pairs with H3 (ivgpud's tenant.c): a beat that is read afterwards is not older than the pace. */
static uint64_t silence_allowed_ms(const struct ivg_link *link)
{
        const uint64_t told = ivg_load_acquire_u64(&ivg_region_host_pages(&link->region)->silence_ms);

        return told <= IVG_HEARTBEAT_LOST_MS ? IVG_HEARTBEAT_LOST_MS : ivg_min_u64(told, IVG_HEARTBEAT_SLOW_LOST_MS);
}

int ivg_link_heartbeat_check(struct ivg_link *link)
{
        /* The clock first: a thread that is held up between the two sees a newer beat, not an older one. */
        const uint64_t now_ns = ivg_now_ns();
        const uint64_t silence_ns = silence_allowed_ms(link) * IVG_NS_PER_MS;
        /* Relaxed, here and below: a beat orders nothing. Threads may count for each other; exchanged, each stretch of
         * time counts once. */
        const uint64_t beat = ivg_load_relaxed_u64(&ivg_region_host_pages(&link->region)->heartbeat);
        const uint64_t looked_ns = atomic_exchange_explicit(&link->heartbeat_looked_ns, now_ns, memory_order_relaxed);
        const uint64_t gap_ns = now_ns > looked_ns ? ivg_min_u64(now_ns - looked_ns, IVG_HEARTBEAT_GAP_NS) : 0;

        if (beat != atomic_load_explicit(&link->heartbeat_seen, memory_order_relaxed)) {
                atomic_store_explicit(&link->heartbeat_silent_ns, 0, memory_order_relaxed);
                atomic_store_explicit(&link->heartbeat_seen, beat, memory_order_relaxed);
                return 0;
        }
        if (atomic_fetch_add_explicit(&link->heartbeat_silent_ns, gap_ns, memory_order_relaxed) + gap_ns < silence_ns)
                return 0;
        return -EPIPE;
}
