/* What was done so far: host-written counters, and beside them the guests' own claims, shown as such. */
#include "mediator.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void totals_add(struct ivg_totals *to, const struct ivg_totals *from)
{
        uint64_t *sums = (uint64_t *)to;
        const uint64_t *values = (const uint64_t *)from;

        _Static_assert(sizeof(struct ivg_totals) % sizeof(uint64_t) == 0, "nothing but 64-bit counters");
        for (size_t i = 0; i < sizeof(*to) / sizeof(uint64_t); i++)
                sums[i] += values[i];
}

void ivg_stats_collect(const struct ivg_channel *channel, struct ivg_totals *totals)
{
        const struct ivg_region *region = &channel->tenant->region;
        const struct ivg_host_channel *host = &ivg_region_host_pages(region)->channels[channel->index];
        const struct ivg_ring_guest_part *guest = ivg_region_ring_guest(region, channel->index);

        /* Relaxed throughout: counters to look at, each true by itself. */
        totals->records += ivg_load_relaxed_u64(&host->records_consumed);
        totals->batches += ivg_load_relaxed_u64(&host->batches);
        totals->sleeps += ivg_load_relaxed_u64(&host->sleeps);
        totals->interrupts += ivg_load_relaxed_u64(&host->interrupts);
        totals->bytes_from_guest += ivg_load_relaxed_u64(&host->arena_bytes_from_guest);
        totals->bytes_to_guest += ivg_load_relaxed_u64(&host->arena_bytes_to_guest);
        totals->failed += ivg_load_relaxed_u64(&host->calls_failed);
        totals->unsupported += ivg_load_relaxed_u64(&host->calls_unsupported);
        totals->images_found += ivg_load_relaxed_u64(&host->images_found);
        totals->image_bytes_found += ivg_load_relaxed_u64(&host->image_bytes_found);
        totals->images_kept += ivg_load_relaxed_u64(&host->images_kept);
        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++) {
                const struct ivg_ring_producer *line = &guest->producers[i];

                totals->calls += ivg_load_relaxed_u64(&line->calls);
                totals->calls_sync += ivg_load_relaxed_u64(&line->calls_sync);
                totals->calls_local += ivg_load_relaxed_u32(&line->calls_local_low);
                totals->doorbells += ivg_load_relaxed_u64(&line->doorbells);
        }
        totals->programs++;
}

void ivg_stats_settle(struct ivg_channel *channel)
{
        struct ivg_tenant *tenant = channel->tenant;
        struct ivg_totals totals = {0};

        ivg_stats_collect(channel, &totals);
        totals_add(&tenant->member->account.ended, &totals);
        totals_add(&tenant->mediator->pools[tenant->pool].ended, &totals);
}

/* What has ended plus what runs, of one member or (NULL) of one pool. Returns what runs. */
static uint32_t totals_now(const struct ivg_mediator *mediator, uint32_t pool, const struct ivg_member *member,
                           struct ivg_totals *totals)
{
        uint32_t running = 0;

        *totals = member ? member->account.ended : mediator->pools[pool].ended;
        for (const struct ivg_tenant *tenant = mediator->tenants; tenant; tenant = tenant->next) {
                if (member ? tenant->member != member : tenant->pool != pool)
                        continue;
                for (uint32_t i = 0; i < tenant->region.channel_count; i++) {
                        if (!tenant->channels[i].executor) /* none, or settled */
                                continue;
                        ivg_stats_collect(&tenant->channels[i], totals);
                        running++;
                }
        }
        return running;
}

/* ---- as text ---- */

struct text {
        char bytes[64 * 1024];
        size_t used;
};

static void text_add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void text_add(struct text *text, const char *format, ...)
{
        va_list arguments;
        int bytes;

        va_start(arguments, format);
        bytes = vsnprintf(text->bytes + text->used, sizeof(text->bytes) - text->used, format, arguments);
        va_end(arguments);
        if (bytes > 0)
                text->used += (size_t)bytes;
        if (text->used >= sizeof(text->bytes))
                text->used = sizeof(text->bytes) - 1; /* cut */
}

typedef unsigned long long number;

static void text_add_user(struct text *text, const char *name, uint32_t running, const struct ivg_totals *t)
{
        text_add(text,
                 "  %s: programs %llu (%u running), records %llu in %llu batches, sleeps %llu, interrupts %llu\n"
                 "    arena bytes from guest %llu, to guest %llu; failed %llu, refused %llu, faults %llu, executors "
                 "failed %llu\n"
                 "    images found %llu (%llu bytes not sent), brought %llu\n"
                 "    guest's own count: calls %llu (waited for %llu), local %llu, doorbells %llu\n",
                 name, (number)t->programs, running, (number)t->records, (number)t->batches, (number)t->sleeps,
                 (number)t->interrupts, (number)t->bytes_from_guest, (number)t->bytes_to_guest, (number)t->failed,
                 (number)t->unsupported, (number)t->faults, (number)t->executor_failures, (number)t->images_found,
                 (number)t->image_bytes_found, (number)t->images_kept, (number)t->calls, (number)t->calls_sync,
                 (number)t->calls_local, (number)t->doorbells);
}

void ivg_stats_write(struct ivg_mediator *mediator, int fd)
{
        static struct text text;
        struct ivg_totals totals, all = {0};
        uint32_t running;

        text.used = 0;
        for (uint32_t i = 0; i < mediator->config.pool_count; i++) {
                (void)totals_now(mediator, i, NULL, &totals);
                totals_add(&all, &totals);
        }
        text_add(&text, "[MEDIATOR STATS]\n  %-17s %llu\n", "Total processed:", (number)all.records);
        for (uint32_t i = 0; i < mediator->config.pool_count; i++) {
                if (!ivg_config_has_pool(&mediator->config, i))
                        continue;
                (void)totals_now(mediator, i, NULL, &totals);
                text_add(&text, "  Pool %s processed: %llu\n", mediator->config.pools[i].name, (number)totals.records);
        }
        for (uint32_t i = 0; i < mediator->config.pool_count; i++) {
                const struct ivg_warm *warm = &mediator->warm[i];

                if (!ivg_config_has_pool(&mediator->config, i))
                        continue;
                text_add(&text,
                         "  Pool %s executors: %u wait, %u warm up; taken warm %llu, started cold %llu, lost %llu\n",
                         mediator->config.pools[i].name, ivg_warm_count(mediator, i, IVG_EXECUTOR_WAITING),
                         ivg_warm_count(mediator, i, IVG_EXECUTOR_WARMING), (number)warm->taken, (number)warm->cold,
                         (number)warm->lost);
        }
        for (struct ivg_member *member = ivg_member_next(mediator, NULL); member;
             member = ivg_member_next(mediator, member)) {
                running = totals_now(mediator, 0, member, &totals);
                text_add_user(&text, member->slot == IVG_VMS_MAX ? "Local" : member->name, running, &totals);
        }
        for (size_t done = 0; done < text.used;) {
                const ssize_t bytes = write(fd, text.bytes + done, text.used - done);

                if (bytes <= 0) /* whoever reads it is gone */
                        return;
                done += (size_t)bytes;
        }
}
