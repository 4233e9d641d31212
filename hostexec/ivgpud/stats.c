/* The [MEDIATOR STATS] block, whose words are its predecessor's: host-written counters, and beside them the guests' own
 * claims, shown as such. */
#include "mediator.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KEY "MESSAGE="

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

static void text_add_member(struct text *text, const struct ivg_account_view *view)
{
        const struct ivg_totals *t = &view->totals;

        if (view->kind == IVG_ACCOUNT_VM)
                text_add(text, "  VM %u (%s)", view->vm_id, view->name);
        else
                text_add(text, "  Local");
        text_add(text,
                 ": programs %llu (%llu running), records %llu in %llu batches, sleeps %llu, interrupts %llu\n"
                 "    arena bytes from guest %llu, to guest %llu; failed %llu, refused %llu, faults %llu, executors "
                 "failed %llu\n"
                 "    images found %llu (%llu bytes not sent), brought %llu\n"
                 "    guest's own count: calls %llu (waited for %llu), local %llu, doorbells %llu\n",
                 (number)t->programs, (number)view->running, (number)t->records, (number)t->batches, (number)t->sleeps,
                 (number)t->interrupts, (number)t->bytes_from_guest, (number)t->bytes_to_guest, (number)t->failed,
                 (number)t->unsupported, (number)t->faults, (number)t->executor_failures, (number)t->images_found,
                 (number)t->image_bytes_found, (number)t->images_kept, (number)t->calls, (number)t->calls_sync,
                 (number)t->calls_local, (number)t->doorbells);
        if (t->rejections != 0 || t->quarantines != 0 || strcmp(view->state, "running") != 0)
                text_add(text, "    %s; programs not admitted %llu, times in quarantine %llu\n", view->state,
                         (number)t->rejections, (number)t->quarantines);
}

/* After "MESSAGE=", for the journal. */
static void text_make(struct text *text, struct ivg_mediator *mediator)
{
        struct ivg_account_view view;
        struct ivg_member *member = NULL;
        uint64_t records[IVG_POOLS_MAX] = {0}, all = mediator->records_of_gone_pools;

        text->used = 0;
        text_add(text, "%s", KEY);
        for (uint32_t i = 0; i < mediator->config.pool_count; i++) {
                if (!ivg_config_has_pool(&mediator->config, i))
                        continue;
                ivg_account_view_pool(mediator, i, &view);
                records[i] = view.totals.records;
                all += records[i];
        }
        text_add(text, "[MEDIATOR STATS]\n  %-17s %llu\n", "Total processed:", (number)all);
        for (uint32_t i = 0; i < mediator->config.pool_count; i++)
                if (ivg_config_has_pool(&mediator->config, i))
                        text_add(text, "  Pool %s processed: %llu\n", mediator->config.pools[i].name,
                                 (number)records[i]);
        for (uint32_t i = 0; i < mediator->config.pool_count; i++) {
                const struct ivg_warm *warm = &mediator->warm[i];

                if (!ivg_config_has_pool(&mediator->config, i))
                        continue;
                text_add(text,
                         "  Pool %s executors: %u wait, %u warm up; taken warm %llu, started cold %llu, lost %llu\n",
                         mediator->config.pools[i].name, ivg_warm_count(mediator, i, IVG_EXECUTOR_WAITING),
                         ivg_warm_count(mediator, i, IVG_EXECUTOR_WARMING), (number)warm->taken, (number)warm->cold,
                         (number)warm->lost);
        }
        while ((member = ivg_member_next(mediator, member)) != NULL) {
                ivg_account_view_member(member, &view);
                text_add_member(text, &view);
        }
}

static void text_write(const struct text *text, int fd)
{
        for (size_t done = strlen(KEY); done < text->used;) {
                const ssize_t bytes = write(fd, text->bytes + done, text->used - done);

                if (bytes <= 0) /* whoever reads it is gone */
                        return;
                done += (size_t)bytes;
        }
}

void ivg_stats_write(struct ivg_mediator *mediator, int fd)
{
        static struct text text;

        text_make(&text, mediator);
        text_write(&text, fd);
}

void ivg_stats_log(struct ivg_mediator *mediator)
{
        static struct text text;

        text_make(&text, mediator);
        if (ivg_log_is_journal())
                ivg_log_block(IVG_EVENT_STATS, text.bytes);
        else
                text_write(&text, STDERR_FILENO);
}
