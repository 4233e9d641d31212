/* A channel's life as the host sees it; the states are in region_layout.h.
 *
 *   FREE ──guest OPEN──► STARTING ──executor's "ready"──► READY ──executor ends by itself──► DEAD
 *    ▲                      │  │                            │                                 │
 *    │                      │  └──"failed", too late────► FAILED                              │
 *    └── generation + 1 ◄───┴──── guest CLOSED, and the executor is gone ◄──┴─────────────────┘
 * The host's word is private here (channel->state) and only shown in the region; it is never read back. */
#include "mediator.h"
#include <errno.h>
#include <string.h>

static struct ivg_host_channel *host_channel(const struct ivg_channel *channel)
{
        return &ivg_region_host_pages(&channel->tenant->region)->channels[channel->index];
}

/* The guest's state, FREE when its word is of another generation: such a word means nothing. */
static uint32_t guest_state(const struct ivg_channel *channel)
{
        /* G2, acquire, pairs with G1 (guest_part.c, kmod): pid and program are there when OPEN is. */
        const uint64_t word =
                ivg_load_acquire_u64(&ivg_region_guest_pages(&channel->tenant->region)->channels[channel->index].state);

        return ivg_channel_word_generation(word) == channel->generation ? ivg_channel_word_state(word)
                                                                        : (uint32_t)IVG_GUEST_CHANNEL_FREE;
}

static void set_state(struct ivg_channel *channel, enum ivg_host_channel_state state, enum ivg_error_code reason)
{
        struct ivg_host_channel *host = host_channel(channel);

        channel->state = state;
        ivg_store_relaxed_u32(&host->reason, reason); /* ordered by the next store */
        /* H1, release, pairs with H2 (link_channel.c): whatever the state speaks of is complete. */
        ivg_store_release_u64(&host->state, ivg_channel_word(channel->generation, state));
        ivg_tenant_interrupt(channel->tenant, channel->index);
}

void ivg_channel_init(struct ivg_channel *channel, struct ivg_tenant *tenant, uint32_t index)
{
        channel->tenant = tenant;
        channel->index = index;
        channel->state = IVG_HOST_CHANNEL_FREE;
        /* As ivg_region_create formatted it; nobody else knows the region yet. */
        channel->generation = ivg_channel_word_generation(ivg_load_relaxed_u64(&host_channel(channel)->state));
}

void ivg_channel_adopt(struct ivg_channel *channel, struct ivg_tenant *tenant, uint32_t index)
{
        uint64_t word;

        channel->tenant = tenant;
        channel->index = index;
        word = ivg_load_relaxed_u64(&host_channel(channel)->state); /* relaxed: who stored it is gone */
        channel->state = ivg_channel_word_state(word);
        channel->generation = ivg_channel_word_generation(word);
        if (channel->generation == 0) /* not ours: the guest has been here */
                channel->generation = 1;
        ivg_ring_mark_peer_gone(ivg_region_ring_host(&tenant->region, index), channel->generation);
        if (channel->state != IVG_HOST_CHANNEL_FREE && channel->state != IVG_HOST_CHANNEL_FAILED)
                set_state(channel, IVG_HOST_CHANNEL_DEAD, IVG_ERROR_MEDIATOR_UNAVAILABLE);
}

/* ---- to FREE ---- */

/* The executor that wrote these is gone. Relaxed: set_state orders it for the next claimant. */
static void counters_clear(const struct ivg_channel *channel)
{
        struct ivg_host_pages *pages = ivg_region_host_pages(&channel->tenant->region);
        struct ivg_host_channel *host = &pages->channels[channel->index];

        ivg_store_relaxed_u32(&host->executor_pid, 0);
        ivg_store_relaxed_u64(&host->records_consumed, 0);
        ivg_store_relaxed_u64(&host->batches, 0);
        ivg_store_relaxed_u64(&host->sleeps, 0);
        ivg_store_relaxed_u64(&host->interrupts, 0);
        ivg_store_relaxed_u64(&host->arena_bytes_from_guest, 0);
        ivg_store_relaxed_u64(&host->arena_bytes_to_guest, 0);
        ivg_store_relaxed_u64(&host->calls_failed, 0);
        ivg_store_relaxed_u64(&host->calls_unsupported, 0);
        ivg_store_relaxed_u64(&host->images_found, 0);
        ivg_store_relaxed_u64(&host->image_bytes_found, 0);
        ivg_store_relaxed_u64(&host->images_kept, 0);
        for (uint32_t i = 0; i < IVG_SHOWN_DEVICES_MAX; i++)
                ivg_store_relaxed_u64(&pages->device_bytes[channel->index][i], 0);
}

static void free_next_generation(struct ivg_channel *channel)
{
        channel->generation++;
        if (channel->generation == 0) /* 2^32 programs later; 0 is no generation */
                channel->generation = 1;
        set_state(channel, IVG_HOST_CHANNEL_FREE, IVG_ERROR_NONE);
}

bool ivg_channel_clear(struct ivg_channel *channel)
{
        if (channel->executor) {
                ivg_executor_end(channel->executor);
                return false;
        }
        if (channel->state != IVG_HOST_CHANNEL_FREE) {
                counters_clear(channel);
                free_next_generation(channel);
        }
        return true;
}

/* ---- from the guest ---- */

static void start_executor(struct ivg_channel *channel, bool cold)
{
        struct ivg_tenant *tenant = channel->tenant;
        struct ivg_error error = {""};

        if (ivg_executor_start(channel, cold, &channel->executor, &error) < 0) {
                ivg_channel_failed(channel, IVG_ERROR_MEDIATOR_UNAVAILABLE, error.text);
                return;
        }
        tenant->executors_alive++;
        tenant->member->executors_alive++;
        ivg_store_relaxed_u32(&host_channel(channel)->executor_pid, (uint32_t)channel->executor->pid); /* to show */
        ivg_trace_executor_begins(channel);
}

static void start(struct ivg_channel *channel)
{
        struct ivg_error error = {""};
        enum ivg_error_code refusal = ivg_mps_admit(channel->tenant->mediator, channel->tenant->pool, &error);

        if (refusal == IVG_ERROR_NONE)
                refusal = ivg_member_admit(channel->tenant->member, &error);
        set_state(channel, IVG_HOST_CHANNEL_STARTING, IVG_ERROR_NONE);
        if (refusal == IVG_ERROR_NONE) {
                start_executor(channel, false);
                return;
        }
        ivg_log(IVG_EVENT_PROGRAM_REFUSED, ivg_about_channel(channel, refusal), "%s, channel %u: error %d (%s): %s",
                channel->tenant->name, channel->index, (int)refusal, ivg_error_code_name(refusal), error.text);
        set_state(channel, IVG_HOST_CHANNEL_FAILED, refusal);
}

void ivg_channel_look(struct ivg_channel *channel)
{
        const uint32_t asked = guest_state(channel);

        if (channel->state == IVG_HOST_CHANNEL_FREE) {
                if (asked == IVG_GUEST_CHANNEL_OPEN)
                        start(channel);
                else if (asked == IVG_GUEST_CHANNEL_CLOSED) /* opened and closed before we looked: it waits for us */
                        free_next_generation(channel);
        } else if (asked == IVG_GUEST_CHANNEL_CLOSED) {
                (void)ivg_channel_clear(channel);
        }
}

/* ---- from the executor ---- */

void ivg_channel_ready(struct ivg_channel *channel, const struct ivg_exec_message *message)
{
        const struct ivg_tenant *tenant = channel->tenant;

        if (channel->state != IVG_HOST_CHANNEL_STARTING)
                return;
        set_state(channel, IVG_HOST_CHANNEL_READY, IVG_ERROR_NONE);
        ivg_log(IVG_EVENT_PROGRAM_STARTED, ivg_about_channel(channel, IVG_ERROR_NONE),
                "[cuda-executor] CUDA_CALL_INIT vm=%u — pipeline live (%s, channel %u, generation %u, pid %d, driver "
                "%d, %d devices, %s)",
                tenant->vm_id, tenant->name, channel->index, channel->generation, (int)channel->executor->pid,
                message->driver_version, message->device_count, channel->executor->warm ? "warm" : "cold");
}

void ivg_channel_failed(struct ivg_channel *channel, enum ivg_error_code code, const char *text)
{
        struct ivg_tenant *tenant = channel->tenant;

        tenant->member->account.ended.executor_failures++;
        tenant->mediator->pools[tenant->pool].ended.executor_failures++;
        ivg_log(IVG_EVENT_PROGRAM_FAILED, ivg_about_channel(channel, code), "%s, channel %u: error %d (%s): %s",
                tenant->name, channel->index, (int)code, ivg_error_code_name(code), text);
        if (channel->state == IVG_HOST_CHANNEL_STARTING)
                set_state(channel, IVG_HOST_CHANNEL_FAILED, code);
}

void ivg_channel_fault(struct ivg_channel *channel, const struct ivg_exec_message *message)
{
        struct ivg_tenant *tenant = channel->tenant;

        ivg_log(IVG_EVENT_PROTOCOL_FAULT, ivg_about_channel(channel, IVG_ERROR_INVALID_REQUEST),
                "%s, channel %u: error %d (%s): %s (fault %u)", tenant->name, channel->index, IVG_ERROR_INVALID_REQUEST,
                ivg_error_code_name(IVG_ERROR_INVALID_REQUEST), message->text, message->fault);
        set_state(channel, IVG_HOST_CHANNEL_DEAD, IVG_ERROR_INVALID_REQUEST);
        ivg_member_fault(tenant, IVG_FAULT_KIND_PROTOCOL);
}

void ivg_channel_stop(struct ivg_channel *channel, enum ivg_error_code reason)
{
        if (!channel->executor)
                return;
        /* First, so that the guest finds the reason when it finds the ring closed. */
        if (channel->state == IVG_HOST_CHANNEL_READY)
                set_state(channel, IVG_HOST_CHANNEL_DEAD, reason);
        else if (channel->state == IVG_HOST_CHANNEL_STARTING)
                set_state(channel, IVG_HOST_CHANNEL_FAILED, reason);
        ivg_executor_end(channel->executor);
}

bool ivg_channel_start_cold(struct ivg_channel *channel, const char *how)
{
        struct ivg_tenant *tenant = channel->tenant;

        if (channel->state != IVG_HOST_CHANNEL_STARTING || tenant->ending || tenant->mediator->ending ||
            tenant->epoch_pending != 0 || guest_state(channel) != IVG_GUEST_CHANNEL_OPEN)
                return false;
        ivg_log(IVG_EVENT_WARM_LOST, ivg_about_channel(channel, IVG_ERROR_NONE),
                "%s, channel %u: %s, which had waited; a cold one is started", tenant->name, channel->index, how);
        channel->executor = NULL;
        tenant->executors_alive--;
        tenant->member->executors_alive--;
        start_executor(channel, true);
        return true;
}

void ivg_channel_executor_gone(struct ivg_channel *channel, bool told, const char *how)
{
        struct ivg_tenant *tenant = channel->tenant;
        const bool was_starting = channel->state == IVG_HOST_CHANNEL_STARTING;
        const bool died = !told && channel->state == IVG_HOST_CHANNEL_READY;

        /* If it did not write a better reason itself. */
        ivg_ring_mark_peer_gone(ivg_region_ring_host(&tenant->region, channel->index), channel->generation);
        ivg_account_settle(channel);
        channel->executor = NULL;
        if (!told && was_starting)
                ivg_channel_failed(channel, IVG_ERROR_MEDIATOR_UNAVAILABLE, how);
        else if (died)
                ivg_log(IVG_EVENT_PROGRAM_FAILED, ivg_about_channel(channel, IVG_ERROR_CUDA_ERROR),
                        "%s, channel %u: error %d (%s): %s", tenant->name, channel->index, IVG_ERROR_CUDA_ERROR,
                        ivg_error_code_name(IVG_ERROR_CUDA_ERROR), how);
        if (channel->state == IVG_HOST_CHANNEL_READY || channel->state == IVG_HOST_CHANNEL_STARTING)
                set_state(channel, IVG_HOST_CHANNEL_DEAD, told ? IVG_ERROR_MEDIATOR_UNAVAILABLE : IVG_ERROR_CUDA_ERROR);
        else
                ivg_tenant_interrupt(tenant, channel->index); /* the ring's status may have changed */
        tenant->member->executors_alive--;
        if (died) /* after this one's end is settled: it may end others */
                ivg_member_fault(tenant, IVG_FAULT_KIND_DIED);
        if (!tenant->ending && (guest_state(channel) == IVG_GUEST_CHANNEL_CLOSED || tenant->epoch_pending != 0))
                (void)ivg_channel_clear(channel);
        ivg_tenant_executor_gone(tenant);
}

uint32_t ivg_channel_program(const struct ivg_channel *channel, char program[IVG_PROGRAM_BYTES])
{
        const struct ivg_guest_channel *guest =
                &ivg_region_guest_pages(&channel->tenant->region)->channels[channel->index];

        _Static_assert(IVG_PROGRAM_BYTES == sizeof(guest->program) + 1, "with an end");
        memcpy(program, guest->program, sizeof(guest->program));
        program[sizeof(guest->program)] = '\0';
        for (char *c = program; *c; c++)
                if (*c < ' ' || *c > '~')
                        *c = '?';
        return ivg_load_relaxed_u32(&guest->pid); /* relaxed: a claim that is shown */
}
