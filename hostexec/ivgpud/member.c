/* Members of pools: VMs, and all local programs as one. Whether one may start programs, what it did wrong, and what
 * follows from that. */
#include "mediator.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const char *ivg_fault_kind_name(enum ivg_fault_kind kind)
{
        static const char *const names[IVG_FAULT_KINDS] = {
                [IVG_FAULT_KIND_PROTOCOL] = "protocol", [IVG_FAULT_KIND_DIED] = "died",
                [IVG_FAULT_KIND_CALL] = "call",         [IVG_FAULT_KIND_KERNEL] = "kernel",
                [IVG_FAULT_KIND_SILENT] = "silent",
        };

        return (uint32_t)kind < IVG_FAULT_KINDS ? names[kind] : "unknown";
}

void ivg_member_init(struct ivg_member *member, struct ivg_mediator *mediator, uint32_t slot,
                     const struct ivg_limits *limits)
{
        *member = (struct ivg_member){.mediator = mediator,
                                      .slot = slot,
                                      .number = ++mediator->member_count,
                                      .limits = limits,
                                      .vram_fd = -1};
        ivg_member_rename(member);
}

void ivg_member_rename(struct ivg_member *member)
{
        const struct ivg_vm_config *vm = &member->mediator->config.vms[member->slot];

        if (member->slot < IVG_VMS_MAX)
                snprintf(member->name, sizeof(member->name), "VM %u (%s)", vm->vm_id, vm->name);
        else
                strcpy(member->name, "local programs");
}

void ivg_member_limits_changed(struct ivg_member *member)
{
        const uint64_t vram_bytes = (uint64_t)member->limits->vram_mib << 20;

        /* Relaxed: an allocation under way may still go by the old one. Those of admission and of the watchdog are read
         * where they are used. */
        if (member->vram)
                ivg_store_relaxed_u64(&member->vram->limit_bytes, vram_bytes != 0 ? vram_bytes : IVG_VRAM_NO_LIMIT);
        ivg_sched_limits_changed(member->mediator, member);
}

/* ---- device memory ---- */

int ivg_member_vram_place(struct ivg_member *member, uint32_t *place)
{
        if (!member->vram) {
                const int fd = ivg_vram_table_create(&member->vram);

                if (fd < 0)
                        return fd;
                member->vram_fd = fd;
                ivg_member_limits_changed(member);
        }
        for (*place = 0; *place < IVG_VRAM_PLACES; (*place)++)
                if (!member->vram_taken[*place]) {
                        member->vram_taken[*place] = true;
                        return 0;
                }
        return -ENOSPC;
}

void ivg_member_vram_leave(struct ivg_member *member, uint32_t place)
{
        ivg_vram_table_clear(member->vram, place);
        member->vram_taken[place] = false;
}

void ivg_member_end(struct ivg_member *member)
{
        if (member->vram)
                munmap(member->vram, sizeof(*member->vram));
        if (member->vram_fd >= 0)
                close(member->vram_fd);
        member->vram = NULL;
        member->vram_fd = -1;
        ivg_account_clear(&member->account);
}

const char *ivg_member_state(const struct ivg_member *member)
{
        return member->quarantined ? "quarantined"
               : member->paused    ? "paused"
               : member->draining  ? "draining"
                                   : "running";
}

uint32_t ivg_member_pool(const struct ivg_member *member)
{
        const struct ivg_config *config = &member->mediator->config;

        return member->slot < IVG_VMS_MAX ? config->vms[member->slot].pool : config->local.pool;
}

struct ivg_member *ivg_member_next(struct ivg_mediator *mediator, const struct ivg_member *after)
{
        const struct ivg_config *config = &mediator->config;

        if (after == &mediator->local.member)
                return NULL;
        for (uint32_t slot = after ? after->slot + 1 : 0; slot < config->vm_count; slot++)
                if (ivg_config_has_vm(config, slot))
                        return &mediator->vms[slot].member;
        return config->local.socket[0] != '\0' ? &mediator->local.member : NULL;
}

/* ---- admission ---- */

enum ivg_error_code ivg_member_admit(struct ivg_member *member, struct ivg_error *error)
{
        const uint32_t executors_max = member->limits->executors_max;
        enum ivg_error_code code = IVG_ERROR_NONE;

        if (member->quarantined) {
                ivg_error_set(error, "%s is in quarantine", member->name);
                code = IVG_ERROR_VM_QUARANTINED;
        } else if (member->draining) {
                ivg_error_set(error, "%s is drained: it starts no programs", member->name);
                code = IVG_ERROR_MEDIATOR_UNAVAILABLE;
        } else if (executors_max != 0 && member->executors_alive >= executors_max) {
                ivg_error_set(error, "%s has %u executors, executors_max = %u", member->name, member->executors_alive,
                              executors_max);
                code = IVG_ERROR_QUEUE_FULL;
        }
        member->account.ended.rejections += code != IVG_ERROR_NONE;
        return code;
}

/* ---- faults ---- */

/* True when the last faults_max of them came within the window. */
static bool too_many(const struct ivg_member *member, uint64_t now_ms)
{
        const uint32_t faults_max = member->limits->faults_max;
        uint64_t first_ms;

        _Static_assert(IVG_FAULTS_REMEMBERED >= 16, "the highest faults_max (vm_limits.c)");
        if (faults_max == 0 || member->faults < faults_max)
                return false;
        first_ms = member->fault_at_ms[(member->faults - faults_max) % IVG_FAULTS_REMEMBERED];
        return first_ms != 0 && now_ms - first_ms <= member->limits->fault_window_s * 1000ull;
}

void ivg_member_fault(struct ivg_tenant *tenant, enum ivg_fault_kind kind)
{
        struct ivg_member *member = tenant->member;
        const uint64_t now_ms = ivg_loop_now_ms();
        char why[80];

        member->account.ended.faults++;
        tenant->mediator->pools[tenant->pool].ended.faults++;
        member->fault_at_ms[member->faults % IVG_FAULTS_REMEMBERED] = now_ms;
        member->faults++;
        member->fault_counts[kind]++;
        if (member->quarantined || !too_many(member, now_ms))
                return;
        snprintf(why, sizeof(why), "%u faults within %u s, the latest: %s", member->limits->faults_max,
                 member->limits->fault_window_s, ivg_fault_kind_name(kind));
        ivg_member_quarantine(member, member->limits->quarantine_s, why);
}

void ivg_member_quarantine(struct ivg_member *member, uint32_t seconds, const char *why)
{
        struct ivg_log_about about = ivg_about_member(member);
        char until[32] = "it is released";

        if (seconds != 0)
                snprintf(until, sizeof(until), "%u s are over", seconds);
        member->quarantine_end_ms = seconds != 0 ? ivg_loop_now_ms() + seconds * 1000ull : UINT64_MAX;
        member->account.ended.quarantines += !member->quarantined;
        member->quarantined = true;
        about.error = IVG_ERROR_VM_QUARANTINED;
        ivg_log(IVG_EVENT_QUARANTINED, about, "[WATCHDOG] %s: error %d (%s): %s; no programs until %s", member->name,
                IVG_ERROR_VM_QUARANTINED, ivg_error_code_name(IVG_ERROR_VM_QUARANTINED), why, until);
        for (struct ivg_tenant *tenant = member->mediator->tenants; tenant; tenant = tenant->next)
                for (uint32_t i = 0; tenant->member == member && i < tenant->region.channel_count; i++)
                        ivg_channel_stop(&tenant->channels[i], IVG_ERROR_VM_QUARANTINED);
}

void ivg_member_release(struct ivg_member *member, const char *why)
{
        member->quarantined = false;
        memset(member->fault_at_ms, 0, sizeof(member->fault_at_ms));
        ivg_log(IVG_EVENT_RELEASED, ivg_about_member(member), "[WATCHDOG] %s: quarantine ends: %s", member->name, why);
}

uint64_t ivg_member_tick(struct ivg_member *member, uint64_t now_ms)
{
        if (member->quarantined && now_ms >= member->quarantine_end_ms)
                ivg_member_release(member, "its time is over");
        return member->quarantined ? member->quarantine_end_ms : IVG_TICK_NEVER;
}
