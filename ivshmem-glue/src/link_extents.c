/* Arena extents: who owns which, one word each, claimed by compare-and-swap.
 *
 *                 claim (E1)                    release (E2)                  owner check (executor)
 *   claim (E1)    one of two wins a word; the   sees 0 or the old owner       sees the new owner before any record
 *                 other takes its run back                                    that names the extent (ring order)
 *   release (E2)  -                             never the same word           the guest's own mistake, if it still
 *                                                                             uses it
 *
 * E1 acquires what E2 released: the earlier owner's last writes lie before the new owner's first. */
#include "link_internal.h"
#include <assert.h>

static _Atomic(uint32_t) *owners(const struct ivg_region *region)
{
        return ivg_region_guest_pages(region)->extent_owner;
}

static void run_release(const struct ivg_region *region, uint32_t channel, uint32_t first, uint32_t count)
{
        for (uint32_t i = first; i < first + count; i++) {
                uint32_t mine = channel + 1;
                const bool was_mine = ivg_compare_exchange_acq_rel_u32(&owners(region)[i], &mine, 0); /* E2 */

                assert(was_mine);
                (void)was_mine;
        }
}

/* Claims from `first` on; returns how many of `count` it got before it met an owned one. */
static uint32_t run_claim(const struct ivg_region *region, uint32_t channel, uint32_t first, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++) {
                uint32_t expected = 0;

                if (!ivg_compare_exchange_acq_rel_u32(&owners(region)[first + i], &expected, channel + 1)) /* E1 */
                        return i;
        }
        return count;
}

/* Length of the free run at `first`, at most `count`. Relaxed: only a guess, E1 decides. */
static uint32_t run_free(const struct ivg_region *region, uint32_t first, uint32_t count)
{
        uint32_t i = 0;

        while (i < count && ivg_load_relaxed_u32(&owners(region)[first + i]) == 0)
                i++;
        return i;
}

static bool scan(struct ivg_link *link, uint32_t count, uint32_t *first)
{
        const struct ivg_region *region = &link->region;
        uint32_t begin = 0;

        while (begin + count <= region->extent_count) {
                uint32_t got = run_free(region, begin, count);

                if (got == count) {
                        got = run_claim(region, link->channel, begin, count);
                        if (got == count) {
                                *first = begin;
                                return true;
                        }
                        run_release(region, link->channel, begin, got);
                }
                begin += got + 1; /* begin + got is owned: no run can include it */
        }
        return false;
}

int ivg_link_extents_claim(struct ivg_link *link, uint32_t count, uint32_t *first)
{
        int rc = -ENOSPC;

        if (count == 0)
                return -EINVAL;
        if (count > link->region.extent_count)
                return -ENOSPC;
        if (link->transport->extents_claim != NULL)
                return link->transport->extents_claim(link, count, first);
        pthread_mutex_lock(&link->extents_lock);
        if (scan(link, count, first))
                rc = 0;
        pthread_mutex_unlock(&link->extents_lock);
        return rc;
}

void ivg_link_extents_release(struct ivg_link *link, uint32_t first, uint32_t count)
{
        assert(count <= link->region.extent_count && first <= link->region.extent_count - count);
        if (link->transport->extents_release != NULL) {
                link->transport->extents_release(link, first, count);
                return;
        }
        pthread_mutex_lock(&link->extents_lock);
        run_release(&link->region, link->channel, first, count);
        pthread_mutex_unlock(&link->extents_lock);
}
