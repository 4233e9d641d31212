/* Another configuration while everything runs.
 *
 *   read, check -> places for pools and VMs -> what may fail: environments, sockets -> (only now) everything changes
 *
 * Limits hold at once. What a running object was made of (a region, a socket's kind, the driver) holds from the next
 * start of that object, and is named. */
#include "manager.h"
#include "mediator.h"
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NONE UINT32_MAX

struct plan {
        struct ivg_mediator *mediator;
        struct ivg_config fresh;
        uint32_t pool_slots[IVG_POOLS_MAX], vm_slots[IVG_VMS_MAX]; /* of the fresh ones, by their place in the file */
        bool pool_stays[IVG_POOLS_MAX], vm_stays[IVG_VMS_MAX];     /* by slot: it is there now, and will be */
        char **environments[IVG_POOLS_MAX];                        /* new ones, by slot; NULL: the old one does */
        bool begins_mps[IVG_POOLS_MAX];                            /* by slot: prepared, not begun */
        int listeners[IVG_VMS_MAX];                                /* by slot; -1: the old one does */
        int local_listeners[IVG_VMS_MAX];                          /* likewise, of local_socket */
};

static void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void note(const char *format, ...)
{
        char text[256];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        ivg_log(IVG_EVENT_RELOAD_LATER, IVG_ABOUT_NOBODY, "[RELOAD] %s", text);
}

/* ---- places ---- */

/* One kind of things that keep their places while the mediator runs. */
struct places {
        uint32_t now_count, fresh_count, slots_max;
        bool (*is_taken)(const struct ivg_config *now, uint32_t slot);
        bool (*is_same)(const struct ivg_config *now, uint32_t slot, const struct ivg_config *fresh, uint32_t i);
        uint32_t *slots; /* by place in the file */
        bool *stays;     /* by slot */
};

/* The first fresh one for which there is no slot; NONE: all have one. */
static uint32_t place(const struct plan *plan, const struct places *places)
{
        const struct ivg_config *now = &plan->mediator->config;
        uint32_t slot, next_free = 0;

        for (uint32_t i = 0; i < places->fresh_count; i++) {
                places->slots[i] = NONE;
                for (slot = 0; slot < places->now_count; slot++)
                        if (places->is_taken(now, slot) && places->is_same(now, slot, &plan->fresh, i)) {
                                places->slots[i] = slot;
                                places->stays[slot] = true;
                        }
        }
        for (uint32_t i = 0; i < places->fresh_count; i++) {
                if (places->slots[i] != NONE)
                        continue;
                while (next_free < places->slots_max && places->is_taken(now, next_free))
                        next_free++;
                if (next_free == places->slots_max)
                        return i;
                places->slots[i] = next_free++;
        }
        return NONE;
}

static bool is_same_pool(const struct ivg_config *now, uint32_t slot, const struct ivg_config *fresh, uint32_t i)
{
        return strcmp(now->pools[slot].name, fresh->pools[i].name) == 0;
}

static bool is_same_vm(const struct ivg_config *now, uint32_t slot, const struct ivg_config *fresh, uint32_t i)
{
        return now->vms[slot].vm_id == fresh->vms[i].vm_id;
}

static int all_place(struct plan *plan, struct ivg_error *error)
{
        const struct ivg_config *now = &plan->mediator->config, *fresh = &plan->fresh;
        const struct places pools = {now->pool_count, fresh->pool_count, IVG_POOLS_MAX,   ivg_config_has_pool,
                                     is_same_pool,    plan->pool_slots,  plan->pool_stays};
        const struct places vms = {now->vm_count, fresh->vm_count, IVG_VMS_MAX,   ivg_config_has_vm,
                                   is_same_vm,    plan->vm_slots,  plan->vm_stays};
        uint32_t without = place(plan, &pools);

        if (without != NONE) {
                ivg_error_set(error, "pool \"%s\": %u pools are there, those counted whose last programs run",
                              fresh->pools[without].name, IVG_POOLS_MAX);
                return -ENOSPC;
        }
        without = place(plan, &vms);
        if (without != NONE) {
                ivg_error_set(error, "VM %u: %u VMs are there, those counted whose last programs run",
                              fresh->vms[without].vm_id, IVG_VMS_MAX);
                return -ENOSPC;
        }
        return 0;
}

/* ---- what may fail ---- */

static bool gpus_differ(const struct ivg_pool_config *a, const struct ivg_pool_config *b)
{
        return a->gpu_count != b->gpu_count || memcmp(a->gpus, b->gpus, a->gpu_count * sizeof(a->gpus[0])) != 0;
}

static int prepare(struct plan *plan, struct ivg_error *error)
{
        struct ivg_mediator *mediator = plan->mediator;
        int rc = 0;

        for (uint32_t i = 0; rc == 0 && i < plan->fresh.pool_count; i++) {
                const uint32_t slot = plan->pool_slots[i];

                if (plan->pool_stays[slot] && (!gpus_differ(&mediator->config.pools[slot], &plan->fresh.pools[i]) ||
                                               ivg_mps_is_used(mediator, slot)))
                        continue;
                rc = plan->pool_stays[slot] ? 0 : ivg_mps_prepare(mediator, slot, &plan->fresh.pools[i], error);
                if (rc < 0)
                        break;
                plan->begins_mps[slot] = rc > 0;
                rc = ivg_environment_make(&plan->fresh.pools[i], rc > 0 ? &mediator->mps[slot].folders : NULL, false,
                                          &plan->environments[slot]);
                if (rc < 0)
                        ivg_error_set(error, "no memory");
        }
        for (uint32_t i = 0; rc == 0 && i < plan->fresh.vm_count; i++) {
                const uint32_t slot = plan->vm_slots[i];
                const struct ivg_vm_config *now = &mediator->config.vms[slot], *fresh = &plan->fresh.vms[i];
                const bool stays = plan->vm_stays[slot] && !mediator->vms[slot].removed;

                if (fresh->socket[0] != '\0' && !(stays && strcmp(now->socket, fresh->socket) == 0))
                        rc = plan->listeners[slot] = ivg_vm_listen(fresh, error);
                if (rc >= 0 && fresh->local_socket[0] != '\0' &&
                    !(stays && strcmp(now->local_socket, fresh->local_socket) == 0))
                        rc = plan->local_listeners[slot] = ivg_vm_listen_local(fresh, error);
                rc = rc < 0 ? rc : 0;
        }
        return rc;
}

static void listener_drop(int fd, const char *path)
{
        if (fd < 0)
                return;
        close(fd);
        ivg_manager_unlink(path);
}

static void unprepare(struct plan *plan)
{
        for (uint32_t slot = 0; slot < IVG_POOLS_MAX; slot++) {
                free(plan->environments[slot]);
                if (plan->begins_mps[slot])
                        ivg_mps_end(plan->mediator, slot);
        }
        for (uint32_t i = 0; i < plan->fresh.vm_count; i++)
                if (plan->vm_slots[i] != NONE) {
                        listener_drop(plan->listeners[plan->vm_slots[i]], plan->fresh.vms[i].socket);
                        listener_drop(plan->local_listeners[plan->vm_slots[i]], plan->fresh.vms[i].local_socket);
                }
}

/* ---- the change ---- */

static void pools_change(struct plan *plan)
{
        struct ivg_mediator *mediator = plan->mediator;
        struct ivg_config *now = &mediator->config;

        for (uint32_t slot = 0; slot < now->pool_count; slot++)
                if (ivg_config_has_pool(now, slot) && !plan->pool_stays[slot]) {
                        note("pool %s goes when its last program has ended", now->pools[slot].name);
                        mediator->pool_removed[slot] = true;
                }
        for (uint32_t i = 0; i < plan->fresh.pool_count; i++) {
                const uint32_t slot = plan->pool_slots[i];
                struct ivg_pool_config *fresh = &plan->fresh.pools[i], *pool = &now->pools[slot];

                if (!plan->pool_stays[slot]) {
                        note("pool %s is new", fresh->name);
                        memset(&mediator->warm[slot], 0, sizeof(mediator->warm[slot]));
                } else if (fresh->mps != pool->mps) {
                        note("pool %s: mps holds from ivgpud's next start", fresh->name);
                        fresh->mps = pool->mps;
                }
                if (plan->pool_stays[slot] && ivg_mps_is_used(mediator, slot) && gpus_differ(fresh, pool)) {
                        note("pool %s: gpus hold from ivgpud's next start: its MPS server has those of now",
                             fresh->name);
                        fresh->gpu_count = pool->gpu_count;
                        memcpy(fresh->gpus, pool->gpus, sizeof(fresh->gpus));
                }
                if (plan->pool_stays[slot] && plan->environments[slot]) {
                        note("pool %s: gpus hold for programs that start from now on", fresh->name);
                        ivg_warm_end_pool(mediator, slot);
                }
                if (plan->pool_stays[slot] && fresh->warm_executors != pool->warm_executors)
                        ivg_log(IVG_EVENT_RELOADED, IVG_ABOUT_NOBODY,
                                "[WARM] pool %s: %u executors wait from now on, not %u", fresh->name,
                                fresh->warm_executors, pool->warm_executors);
                if (plan->environments[slot]) {
                        free(mediator->executor_environment[slot]);
                        mediator->executor_environment[slot] = plan->environments[slot];
                        plan->environments[slot] = NULL;
                }
                *pool = *fresh;
                ivg_sched_policy_changed(mediator, slot);
                if (plan->begins_mps[slot])
                        ivg_mps_begin(mediator, slot);
                plan->begins_mps[slot] = false;
                mediator->pool_removed[slot] = false;
                mediator->warm[slot].next_start_ms = 0;
                if (slot >= now->pool_count)
                        now->pool_count = slot + 1;
        }
}

static void vm_differences(const struct ivg_vm *vm, const struct ivg_vm_config *now, const struct ivg_vm_config *fresh)
{
        const struct {
                const char *key;
                bool differs;
        } made_of[] = {
                {"name", strcmp(now->name, fresh->name) != 0},        {"pool", now->pool != fresh->pool},
                {"region_mib", now->region_mib != fresh->region_mib}, {"channels", now->channels != fresh->channels},
                {"vectors", now->vectors != fresh->vectors},
        };

        for (size_t i = 0; i < sizeof(made_of) / sizeof(made_of[0]); i++)
                if (made_of[i].differs && vm->tenant)
                        note("VM %u (%s): %s holds from its QEMU's next start", now->vm_id, now->name, made_of[i].key);
}

static void mode_change(const char *path, mode_t now, mode_t fresh)
{
        if (now != fresh && !ivg_manager_holds(path) && chmod(path, fresh) < 0)
                ivg_log(IVG_EVENT_SOCKET_FAILED, IVG_ABOUT_NOBODY, "[RELOAD] %s: %s", path, strerror(errno));
}

static void vm_change(struct plan *plan, uint32_t slot, const struct ivg_vm_config *fresh)
{
        struct ivg_mediator *mediator = plan->mediator;
        struct ivg_vm *vm = &mediator->vms[slot];
        struct ivg_vm_config *now = &mediator->config.vms[slot];
        struct ivg_error error = {""};
        const bool moved = plan->listeners[slot] >= 0, local_moved = plan->local_listeners[slot] >= 0;

        if (plan->vm_stays[slot]) {
                vm_differences(vm, now, fresh);
                if (vm->listener.fd >= 0 && (moved || fresh->socket[0] == '\0'))
                        ivg_vm_stop_listening(vm);
                else if (vm->listener.fd >= 0)
                        mode_change(now->socket, now->socket_mode, fresh->socket_mode);
                if (vm->local.listener.fd >= 0 && (local_moved || fresh->local_socket[0] == '\0'))
                        ivg_local_stop_listening(mediator, &vm->local);
                else if (vm->local.listener.fd >= 0)
                        mode_change(now->local_socket, now->socket_mode, fresh->socket_mode);
                *now = *fresh;
                if (vm->removed)
                        vm->removed = vm->member.draining = false;
                ivg_member_rename(&vm->member);
        } else {
                *now = *fresh;
                ivg_vm_init(mediator, slot);
        }
        if (moved && ivg_vm_take_listener(vm, plan->listeners[slot], &error) < 0)
                ivg_log(IVG_EVENT_SOCKET_FAILED, ivg_about_member(&vm->member), "[RELOAD] %s", error.text);
        if (local_moved && ivg_local_take_listener(mediator, &vm->local, plan->local_listeners[slot], &error) < 0)
                ivg_log(IVG_EVENT_SOCKET_FAILED, ivg_about_member(&vm->member), "[RELOAD] %s", error.text);
        if (moved || local_moved)
                ivg_vm_announce(vm);
        plan->listeners[slot] = plan->local_listeners[slot] = -1;
}

static void vms_change(struct plan *plan)
{
        struct ivg_mediator *mediator = plan->mediator;
        struct ivg_config *now = &mediator->config;

        for (uint32_t slot = 0; slot < now->vm_count; slot++)
                if (ivg_config_has_vm(now, slot) && !plan->vm_stays[slot] && !mediator->vms[slot].removed) {
                        note("%s goes when its last program has ended (%u run)", mediator->vms[slot].member.name,
                             mediator->vms[slot].member.executors_alive);
                        ivg_vm_remove(&mediator->vms[slot]);
                }
        for (uint32_t i = 0; i < plan->fresh.vm_count; i++) {
                const uint32_t slot = plan->vm_slots[i];

                plan->fresh.vms[i].pool = plan->pool_slots[plan->fresh.vms[i].pool];
                vm_change(plan, slot, &plan->fresh.vms[i]);
                if (slot >= now->vm_count)
                        now->vm_count = slot + 1;
        }
}

static void rest_change(struct plan *plan)
{
        struct ivg_config *now = &plan->mediator->config, *fresh = &plan->fresh;
        const struct {
                const char *key;
                bool differs;
        } fixed[] = {
                {"mediator: device", now->device != fresh->device},
                {"mediator: driver", strcmp(now->driver, fresh->driver) != 0},
                {"mediator: executor", strcmp(now->executor, fresh->executor) != 0},
                {"mediator: mps_dir", strcmp(now->mps_dir, fresh->mps_dir) != 0},
                {"mediator: mps_program", strcmp(now->mps_program, fresh->mps_program) != 0},
                {"local: socket", strcmp(now->local.socket, fresh->local.socket) != 0},
                {"images", memcmp(&now->images, &fresh->images, sizeof(now->images)) != 0},
                {"control", memcmp(&now->control, &fresh->control, sizeof(now->control)) != 0},
                {"metrics", memcmp(&now->metrics, &fresh->metrics, sizeof(now->metrics)) != 0},
        };

        for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
                if (fixed[i].differs)
                        note("%s holds from ivgpud's next start", fixed[i].key);
        now->heartbeat_log_s = fresh->heartbeat_log_s;
        now->ready_timeout_ms = fresh->ready_timeout_ms;
        now->silent_timeout_ms = fresh->silent_timeout_ms;
        now->warm_executors = fresh->warm_executors;
        if (strcmp(now->local.socket, fresh->local.socket) != 0)
                return;
        if (now->local.socket[0] != '\0')
                mode_change(now->local.socket, now->local.socket_mode, fresh->local.socket_mode);
        now->local = fresh->local; /* region and pool: of programs that start from now on */
        now->local.pool = plan->pool_slots[fresh->local.pool];
}

int ivg_reload(struct ivg_mediator *mediator, struct ivg_error *error)
{
        struct plan *plan;
        int rc;

        if (!mediator->config_path) {
                ivg_error_set(error, "there is no configuration file");
                return -ENOENT;
        }
        plan = calloc(1, sizeof(*plan));
        if (!plan) {
                ivg_error_set(error, "no memory");
                return -ENOMEM;
        }
        plan->mediator = mediator;
        for (uint32_t i = 0; i < IVG_VMS_MAX; i++)
                plan->listeners[i] = plan->local_listeners[i] = -1;
        rc = mediator->configure(&plan->fresh, error);
        if (rc == 0)
                rc = all_place(plan, error);
        if (rc == 0)
                rc = prepare(plan, error);
        if (rc == 0) {
                pools_change(plan);
                vms_change(plan);
                rest_change(plan);
                for (struct ivg_member *member = ivg_member_next(mediator, NULL); member;
                     member = ivg_member_next(mediator, member))
                        ivg_member_limits_changed(member);
                ivg_warm_tick(mediator, ivg_loop_now_ms());
                ivg_log(IVG_EVENT_RELOADED, IVG_ABOUT_NOBODY, "[RELOAD] %s holds", mediator->config_path);
        }
        unprepare(plan);
        free(plan);
        return rc;
}
