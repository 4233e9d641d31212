/* Accounts: what pools, VMs and the local programs did. Counters that executors write (the region's host pages, the
 * board) are summed up when somebody looks, and moved to the account when their executor is gone. */
#include "mediator.h"
#include <stdlib.h>
#include <string.h>

const char *const ivg_latency_names[IVG_BOARD_LATENCIES] = {
        [IVG_BOARD_RING_WAIT] = "ring_wait", [IVG_BOARD_EXECUTION] = "execution", [IVG_BOARD_TOTAL] = "total"};

#define TOTAL(field) offsetof(struct ivg_account_view, totals.field), true, false
#define TOTAL_NS(field) offsetof(struct ivg_account_view, totals.field), true, true
#define NOW(field) offsetof(struct ivg_account_view, field), false, false

const struct ivg_account_field ivg_account_fields[] = {
        {"programs", NULL, NULL, "Programs that got an executor", TOTAL(programs)},
        {"programs_running", NULL, NULL, "Programs that have one now", NOW(running)},
        {"records", NULL, NULL, "Calls taken from the rings", TOTAL(records)},
        {"batches", NULL, NULL, "Times that an executor took some", TOTAL(batches)},
        {"run_async", "calls_run", "class=\"async\"", "Calls by where they ran", TOTAL(run[IVG_BOARD_CONSUMER_ASYNC])},
        {"run_sync", "calls_run", "class=\"sync\"", NULL, TOTAL(run[IVG_BOARD_CONSUMER_SYNC])},
        {"run_lane", "calls_run", "class=\"lane\"", NULL, TOTAL(run[IVG_BOARD_LANE])},
        {"run_reaper", "calls_run", "class=\"reaper\"", NULL, TOTAL(run[IVG_BOARD_REAPER])},
        {"calls_failed", NULL, NULL, "Calls that ended with an error", TOTAL(failed)},
        {"calls_refused", NULL, NULL, "Calls that are not supported", TOTAL(unsupported)},
        {"bytes_from_guest", "copied_bytes", "direction=\"from_guest\"", "Bytes copied through the arena",
         TOTAL(bytes_from_guest)},
        {"bytes_to_guest", "copied_bytes", "direction=\"to_guest\"", NULL, TOTAL(bytes_to_guest)},
        {"gpu_calls", NULL, NULL, "Calls given to the GPU", TOTAL(gpu_calls)},
        {"gpu_seconds", NULL, NULL, "Time that the GPU worked for them", TOTAL_NS(gpu_ns)},
        {"gates", NULL, NULL, "Times that an executor waited for its share", TOTAL(gates)},
        {"gated_seconds", NULL, NULL, "How long", TOTAL_NS(gated_ns)},
        {"throttles", NULL, NULL, "Times that an executor waited for its call rate", TOTAL(throttles)},
        {"throttled_seconds", NULL, NULL, "How long", TOTAL_NS(throttled_ns)},
        {"rate_failures", NULL, NULL, "Calls failed for the call rate", TOTAL(rate_failures)},
        {"sleeps", NULL, NULL, "Times that an executor went to sleep", TOTAL(sleeps)},
        {"interrupts", NULL, NULL, "Interrupts of guests", TOTAL(interrupts)},
        {"doorbells", NULL, NULL, "Doorbells, as the guests count", TOTAL(doorbells)},
        {"guest_calls", NULL, NULL, "CUDA calls, as the guests count", TOTAL(calls)},
        {"guest_calls_waited", NULL, NULL, "Of them waited for", TOTAL(calls_sync)},
        {"guest_calls_local", NULL, NULL, "Calls answered in the guest, as the guests count", TOTAL(calls_local)},
        {"images_found", NULL, NULL, "Module images that need not be sent", TOTAL(images_found)},
        {"images_found_bytes", NULL, NULL, "Their bytes", TOTAL(image_bytes_found)},
        {"images_kept", NULL, NULL, "Module images brought", TOTAL(images_kept)},
        {"faults", NULL, NULL, "Faults that the watchdog counted", TOTAL(faults)},
        {"executor_failures", NULL, NULL, "Executors that did not get ready", TOTAL(executor_failures)},
        {"rejections", NULL, NULL, "Programs not admitted", TOTAL(rejections)},
        {"quarantines", NULL, NULL, "Times in quarantine", TOTAL(quarantines)},
        {"ring_depth", NULL, NULL, "Slots that waited when batches were taken, the latest of each program",
         NOW(ring_depth)},
        {"gpu_inflight", NULL, NULL, "Calls given to the GPU and not known done", NOW(gpu_inflight)},
        {"vram_bytes", NULL, NULL, "Device memory held", NOW(vram_bytes)},
        {"vram_limit_bytes", NULL, NULL, "The cap of it on each GPU; 0: none", NOW(vram_limit_bytes)},
        {NULL, NULL, NULL, NULL, 0, false, false},
};

/* ---- summing up ---- */

static void totals_add(struct ivg_totals *to, const struct ivg_totals *from)
{
        uint64_t *sums = (uint64_t *)to;
        const uint64_t *values = (const uint64_t *)from;

        _Static_assert(sizeof(struct ivg_totals) % sizeof(uint64_t) == 0, "nothing but 64-bit counters");
        for (size_t i = 0; i < sizeof(*to) / sizeof(uint64_t); i++)
                sums[i] += values[i];
}

/* Relaxed throughout: counters to look at, each true by itself. */
static void collect_region(const struct ivg_channel *channel, struct ivg_totals *totals)
{
        const struct ivg_region *region = &channel->tenant->region;
        const struct ivg_host_channel *host = &ivg_region_host_pages(region)->channels[channel->index];
        const struct ivg_ring_guest_part *guest = ivg_region_ring_guest(region, channel->index);

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

static void collect_board(const struct ivg_board *board, struct ivg_totals *totals)
{
        const struct ivg_board_counters *counters = &board->counters;

        for (uint32_t i = 0; i < IVG_BOARD_CLASSES; i++)
                totals->run[i] += ivg_load_relaxed_u64(&counters->calls[i]);
        totals->gpu_calls += ivg_load_relaxed_u64(&counters->gpu_calls);
        totals->gates += ivg_load_relaxed_u64(&counters->gates);
        totals->gated_ns += ivg_load_relaxed_u64(&counters->gated_ns);
        totals->throttles += ivg_load_relaxed_u64(&counters->throttles);
        totals->throttled_ns += ivg_load_relaxed_u64(&counters->throttled_ns);
        totals->rate_failures += ivg_load_relaxed_u64(&counters->rate_failures);
        for (uint32_t i = 0; i < IVG_BOARD_DEVICES_MAX; i++)
                totals->gpu_ns += ivg_load_relaxed_u64(&board->uses[i].gpu_ns);
}

static void collect(const struct ivg_channel *channel, struct ivg_totals *totals)
{
        collect_region(channel, totals);
        collect_board(channel->executor->board, totals);
}

/* ---- ended ---- */

static void account_add(struct ivg_account *account, const struct ivg_totals *totals, const struct ivg_board *board)
{
        totals_add(&account->ended, totals);
        if (!account->latencies)
                account->latencies = calloc(IVG_BOARD_LATENCIES, sizeof(account->latencies[0]));
        for (uint32_t i = 0; account->latencies && i < IVG_BOARD_LATENCIES; i++)
                ivg_histogram_merge(&account->latencies[i], &board->latencies[i]);
}

void ivg_account_settle(struct ivg_channel *channel)
{
        struct ivg_tenant *tenant = channel->tenant;
        struct ivg_totals totals = {0};

        collect(channel, &totals);
        account_add(&tenant->member->account, &totals, channel->executor->board);
        account_add(&tenant->mediator->pools[tenant->pool], &totals, channel->executor->board);
}

void ivg_account_clear(struct ivg_account *account)
{
        free(account->latencies);
        memset(account, 0, sizeof(*account));
}

/* ---- views ---- */

static void view_running(struct ivg_account_view *view, const struct ivg_channel *channel,
                         struct ivg_histogram latencies[IVG_BOARD_LATENCIES])
{
        const struct ivg_board *board = channel->executor->board;

        collect(channel, &view->totals);
        view->running++;
        view->ring_depth += ivg_load_relaxed_u32(&board->counters.ring_depth);
        for (uint32_t i = 0; i < IVG_BOARD_DEVICES_MAX; i++)
                view->gpu_inflight += ivg_load_relaxed_u64(&board->uses[i].inflight);
        for (uint32_t i = 0; i < IVG_VRAM_DEVICES_MAX; i++)
                view->vram_bytes +=
                        ivg_load_relaxed_u64(&channel->tenant->member->vram->held[i][channel->executor->vram_place]);
        for (uint32_t i = 0; i < IVG_BOARD_LATENCIES; i++)
                ivg_histogram_merge(&latencies[i], &board->latencies[i]);
}

static struct ivg_histogram viewed[IVG_BOARD_LATENCIES]; /* one thread; too large for its stack */

const struct ivg_histogram *ivg_account_viewed_latencies(void)
{
        return viewed;
}

static void view_begin(struct ivg_account_view *view, const struct ivg_account *account)
{
        memset(viewed, 0, sizeof(viewed));
        view->totals = account->ended;
        for (uint32_t i = 0; account->latencies && i < IVG_BOARD_LATENCIES; i++)
                ivg_histogram_merge(&viewed[i], &account->latencies[i]);
}

static void view_end(struct ivg_account_view *view)
{
        for (uint32_t i = 0; i < IVG_BOARD_LATENCIES; i++)
                view->latencies[i] = (struct ivg_latency){
                        .count = ivg_histogram_count(&viewed[i]),
                        .sum_ns = ivg_load_relaxed_u64(&viewed[i].sum), /* relaxed: a copy of our own */
                        .p50_ns = ivg_histogram_percentile(&viewed[i], 50),
                        .p95_ns = ivg_histogram_percentile(&viewed[i], 95),
                        .p99_ns = ivg_histogram_percentile(&viewed[i], 99),
                };
}

/* Of one member, or (NULL) of one pool. */
static void view_fill(struct ivg_mediator *mediator, uint32_t pool, const struct ivg_member *member,
                      struct ivg_account_view *view)
{
        view_begin(view, member ? &member->account : &mediator->pools[pool]);
        for (const struct ivg_tenant *tenant = mediator->tenants; tenant; tenant = tenant->next) {
                if (member ? tenant->member != member : tenant->pool != pool)
                        continue;
                for (uint32_t i = 0; i < tenant->region.channel_count; i++)
                        if (tenant->channels[i].executor) /* else none, or settled */
                                view_running(view, &tenant->channels[i], viewed);
        }
        view_end(view);
}

void ivg_account_view_channel(const struct ivg_channel *channel, struct ivg_account_view *view)
{
        static const struct ivg_account none;

        *view = (struct ivg_account_view){.vram_limit_bytes = (uint64_t)channel->tenant->member->limits->vram_mib
                                                              << 20};
        view_begin(view, &none);
        view_running(view, channel, viewed);
        view_end(view);
}

void ivg_account_view_pool(struct ivg_mediator *mediator, uint32_t pool, struct ivg_account_view *view)
{
        *view = (struct ivg_account_view){.kind = IVG_ACCOUNT_POOL};
        strcpy(view->name, mediator->config.pools[pool].name);
        strcpy(view->pool, mediator->config.pools[pool].name);
        view_fill(mediator, pool, NULL, view);
}

void ivg_account_view_member(struct ivg_member *member, struct ivg_account_view *view)
{
        const struct ivg_config *config = &member->mediator->config;
        const bool is_vm = member->slot < IVG_VMS_MAX;

        *view = (struct ivg_account_view){.kind = is_vm ? IVG_ACCOUNT_VM : IVG_ACCOUNT_LOCAL,
                                          .state = ivg_member_state(member),
                                          .vram_limit_bytes = (uint64_t)member->limits->vram_mib << 20};
        if (is_vm) {
                view->vm_id = config->vms[member->slot].vm_id;
                strcpy(view->name, config->vms[member->slot].name);
        } else {
                strcpy(view->name, "local");
        }
        strcpy(view->pool, config->pools[ivg_member_pool(member)].name);
        view_fill(member->mediator, 0, member, view);
}
