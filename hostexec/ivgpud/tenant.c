/* A tenant: one region, its doorbells, its channels. Made when a QEMU or a local program connects, ended with it; the
 * memory is never given to another. */
#include "ipc_table.h"
#include "ivgpu_calls.h"
#include "mediator.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CONTROL_VECTOR 0u
#define LOCAL_VECTOR 1u /* a local program has two pairs of eventfds: control, and its one channel's */

static uint32_t channel_vector(const struct ivg_tenant *tenant, uint32_t channel)
{
        return tenant->kind == IVG_TENANT_LOCAL ? LOCAL_VECTOR : ivg_channel_vector(channel, tenant->vectors_usable);
}

int ivg_tenant_doorbell_fd(const struct ivg_tenant *tenant, uint32_t channel)
{
        const int own_fd = tenant->channels[channel].doorbell_fd;

        return own_fd >= 0 ? own_fd : tenant->doorbells.to_host[channel_vector(tenant, channel)];
}

int ivg_tenant_interrupt_fd(const struct ivg_tenant *tenant, uint32_t channel)
{
        return tenant->doorbells.to_guest[channel_vector(tenant, channel)];
}

void ivg_tenant_interrupt(const struct ivg_tenant *tenant, uint32_t channel)
{
        const uint64_t one = 1;

        /* A counter that is full wakes as well. */
        if (write(ivg_tenant_interrupt_fd(tenant, channel), &one, sizeof(one)) < 0 && errno != EAGAIN)
                ivg_log(IVG_EVENT_DOORBELL_FAILED, ivg_about_member(tenant->member), "%s: interrupt for channel %u: %s",
                        tenant->name, channel, strerror(errno));
}

void ivg_tenant_beat(struct ivg_tenant *tenant)
{
        _Atomic(uint64_t) *heartbeat = &ivg_region_host_pages(&tenant->region)->heartbeat;

        /* Relaxed: one writer, and nothing hangs on its order. */
        ivg_store_relaxed_u64(heartbeat, ivg_load_relaxed_u64(heartbeat) + 1);
}

void ivg_tenant_tell_pace(struct ivg_tenant *tenant, uint64_t pause_ms)
{
        /* H3, release, pairs with H4 (link_heartbeat.c): who sees the faster pace sees the beat that began it. */
        ivg_store_release_u64(&ivg_region_host_pages(&tenant->region)->silence_ms,
                              pause_ms <= IVG_HEARTBEAT_MS ? IVG_HEARTBEAT_LOST_MS : IVG_HEARTBEAT_SLOW_LOST_MS);
}

/* ---- creation ---- */

static int region_make(struct ivg_tenant *tenant, const struct ivg_tenant_config *config, struct ivg_error *error)
{
        const struct ivg_region_config region_config = {
                .region_bytes = (uint64_t)config->region_mib << 20,
                .channel_count = config->channels,
                .vector_count = config->kind == IVG_TENANT_VM ? config->vectors : 0,
                .vm_id = config->vm_id,
                .vm_name = config->vm_name,
                .call_table_fingerprint = IVG_CALL_TABLE_FINGERPRINT,
        };

        return ivg_region_create(&region_config, &tenant->memfd, error);
}

static int region_open(struct ivg_tenant *tenant, const struct ivg_tenant_config *config, struct ivg_error *error)
{
        int rc = config->left ? 0 : region_make(tenant, config, error);

        if (rc == 0)
                rc = ivg_region_check_fd(tenant->memfd, IVG_CALL_TABLE_FINGERPRINT, &tenant->region, error);
        if (rc == 0 && config->left && tenant->region.vector_count != tenant->doorbells.vector_count) {
                ivg_error_set(error, "the region has %u vectors, %u doorbells are there", tenant->region.vector_count,
                              tenant->doorbells.vector_count);
                rc = -EPROTO;
        }
        if (rc == 0)
                rc = ivg_region_map(&tenant->region, tenant->memfd, IVG_SIDE_HOST_MEDIATOR, IVG_CHANNEL_NONE, error);
        return rc;
}

/* Local programs that come in at one place are each a tenant, but of one machine: they share as on one without ivgpu. A
 * handle there is worth what its 128 random bits are worth. */
static int ipc_open(struct ivg_tenant *tenant, struct ivg_local *local, struct ivg_error *error)
{
        struct ivg_shares **shares = local ? &local->shares : &tenant->shares;
        int fd = -1, rc = 0;

        if (!*shares)
                *shares = ivg_shares_create();
        tenant->shares = *shares;
        if (!tenant->shares) {
                rc = -ENOMEM;
        } else if (!local) {
                rc = fd = ivg_ipc_table_create();
        } else {
                if (local->ipc_fd < 0)
                        rc = local->ipc_fd = ivg_ipc_table_create();
                if (local->ipc_fd >= 0) {
                        fd = fcntl(local->ipc_fd, F_DUPFD_CLOEXEC, 0);
                        rc = fd < 0 ? -errno : 0;
                }
        }
        tenant->ipc_fd = fd;
        if (rc < 0)
                ivg_error_set(error, "table of shared objects: %s", strerror(-rc));
        return rc < 0 ? rc : 0;
}

/* Everything but the object itself. */
static void resources_release(struct ivg_tenant *tenant)
{
        ivg_loop_unwatch(tenant->mediator, &tenant->control);
        ivg_relays_end(tenant);
        ivg_region_unmap(&tenant->region);
        ivg_doorbells_close(&tenant->doorbells);
        if (tenant->memfd >= 0)
                close(tenant->memfd);
        tenant->memfd = -1;
        if (tenant->ipc_fd >= 0)
                close(tenant->ipc_fd);
        tenant->ipc_fd = -1;
        if (tenant->kind == IVG_TENANT_VM)
                ivg_shares_destroy(tenant->shares);
        tenant->shares = NULL;
}

/* Relaxed: the boot epoch beside it was seen. Once read; what it may be is bounded there. */
static int vectors_follow(struct ivg_tenant *tenant)
{
        return ivg_relays_adopt(tenant, ivg_load_relaxed_u32(&ivg_region_guest_pages(&tenant->region)->vectors_used));
}

/* One of ours that runs; not another user's process that has got its number. */
static bool process_runs(pid_t pid)
{
        int process;

        if (pid <= 1 || pid == getpid() || kill(pid, 0) < 0)
                return false;
        process = ivg_process_open(pid);
        if (process >= 0)
                close(process);
        return process != -ESRCH;
}

/* A region that a mediator before us has served. Its words are in the guest's reach, and were checked like a stranger's
 * (ivg_region_check): a guest that has changed them harms itself. */
static int left_follow(struct ivg_tenant *tenant, struct ivg_error *error)
{
        struct ivg_host_pages *host = ivg_region_host_pages(&tenant->region);
        const uint64_t one = 1;
        uint64_t epoch;
        int rc = 0;

        for (uint32_t i = 0; i < tenant->region.channel_count; i++) {
                /* Relaxed: who stored it is gone. */
                const pid_t pid = (pid_t)ivg_load_relaxed_u32(&host->channels[i].executor_pid);

                /* The manager has seen to it that all are gone. One that a driver holds in the kernel could still
                 * write. */
                if (process_runs(pid)) {
                        ivg_error_set(error, "process %d, an executor of channel %u, is still there", (int)pid, i);
                        return -EBUSY;
                }
        }
        /* B3, acquire, pairs with B1, as in epoch_follow; another epoch is followed there. */
        epoch = ivg_load_acquire_u64(&ivg_region_guest_pages(&tenant->region)->boot_epoch);
        if (epoch != 0 && epoch == ivg_load_relaxed_u64(&host->epoch_seen))
                rc = vectors_follow(tenant);
        if (rc < 0)
                ivg_error_set(error, "doorbells of its channels: %s", strerror(-rc));
        /* The loop's first turn looks at what the guest asked for meanwhile. A counter that is full wakes as well. */
        (void)!write(tenant->doorbells.to_host[CONTROL_VECTOR], &one, sizeof(one));
        return rc;
}

static void control_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct ivg_tenant *tenant = (void *)((char *)source - offsetof(struct ivg_tenant, control));
        uint64_t rings;

        (void)mediator;
        (void)events;
        /* Drained first: what is stored after this look rings again. */
        if (read(source->fd, &rings, sizeof(rings)) == (ssize_t)sizeof(rings))
                ivg_tenant_scan(tenant);
}

void ivg_left_close(struct ivg_left *left)
{
        if (left->memfd >= 0)
                close(left->memfd);
        left->memfd = -1;
        ivg_doorbells_close(&left->doorbells);
}

int ivg_tenant_create(struct ivg_mediator *mediator, const struct ivg_tenant_config *config, struct ivg_tenant **out,
                      struct ivg_error *error)
{
        struct ivg_tenant *tenant = calloc(1, sizeof(*tenant));
        int rc;

        if (!tenant) {
                if (config->left)
                        ivg_left_close(config->left);
                ivg_error_set(error, "no memory");
                return -ENOMEM;
        }
        tenant->mediator = mediator;
        tenant->kind = config->kind;
        tenant->vm_id = config->vm_id;
        tenant->pool = config->pool;
        tenant->member = config->member;
        tenant->memfd = config->left ? config->left->memfd : -1;
        tenant->ipc_fd = -1;
        tenant->control.fd = -1;
        if (config->left)
                tenant->doorbells = config->left->doorbells;
        snprintf(tenant->name, sizeof(tenant->name), "%s", config->name);
        rc = region_open(tenant, config, error);
        if (rc == 0)
                rc = ipc_open(tenant, config->local, error);
        ivg_relays_init(tenant);
        if (rc == 0 && !config->left)
                rc = ivg_doorbells_create(&tenant->doorbells, config->kind == IVG_TENANT_VM ? config->vectors : 2,
                                          error);
        if (rc == 0) {
                tenant->control =
                        (struct ivg_source){.fd = tenant->doorbells.to_host[CONTROL_VECTOR], .ready = control_ready};
                rc = ivg_loop_watch(mediator, &tenant->control);
                if (rc < 0) {
                        tenant->control.fd = -1;
                        ivg_error_set(error, "watching the control doorbell: %s", strerror(-rc));
                }
        }
        if (rc == 0 && config->left)
                rc = left_follow(tenant, error);
        if (rc < 0) {
                resources_release(tenant);
                free(tenant);
                return rc;
        }
        for (uint32_t i = 0; i < tenant->region.channel_count; i++)
                (config->left ? ivg_channel_adopt : ivg_channel_init)(&tenant->channels[i], tenant, i);
        ivg_tenant_beat(tenant);
        tenant->next = mediator->tenants;
        mediator->tenants = tenant;
        *out = tenant;
        return 0;
}

/* ---- end ---- */

static void tenant_drop(struct ivg_tenant *tenant)
{
        struct ivg_tenant **link = &tenant->mediator->tenants;

        while (*link != tenant)
                link = &(*link)->next;
        *link = tenant->next;
        resources_release(tenant);
        ivg_loop_free(tenant->mediator, &tenant->garbage);
}

void ivg_tenant_end(struct ivg_tenant *tenant, const char *why)
{
        ivg_log(IVG_EVENT_DETACHED, ivg_about_member(tenant->member), "[CONNECTION] %s: %s; %u executors end",
                tenant->name, why, tenant->executors_alive);
        tenant->ending = true;
        ivg_loop_unwatch(tenant->mediator, &tenant->control);
        for (uint32_t i = 0; i < tenant->region.channel_count; i++)
                (void)ivg_channel_clear(&tenant->channels[i]);
        if (tenant->executors_alive == 0)
                tenant_drop(tenant);
}

void ivg_tenant_executor_gone(struct ivg_tenant *tenant)
{
        tenant->executors_alive--;
        if (tenant->ending && tenant->executors_alive == 0)
                tenant_drop(tenant);
        else if (tenant->epoch_pending != 0 && tenant->executors_alive == 0)
                ivg_tenant_scan(tenant);
}

/* ---- what the guest's words ask for ---- */

/* True when there is nothing to wait for. */
static bool epoch_follow(struct ivg_tenant *tenant)
{
        struct ivg_host_pages *host = ivg_region_host_pages(&tenant->region);
        /* B3, acquire, pairs with B1: the guest's channel words are those of this boot. */
        const uint64_t epoch = ivg_load_acquire_u64(&ivg_region_guest_pages(&tenant->region)->boot_epoch);
        bool clear = true;
        int rc;

        /* Relaxed: this thread wrote it. */
        if (epoch == 0 || epoch == ivg_load_relaxed_u64(&host->epoch_seen))
                return true;
        if (epoch != tenant->epoch_pending && ivg_load_relaxed_u64(&host->epoch_seen) != 0)
                ivg_log(IVG_EVENT_BOOTED, ivg_about_member(tenant->member),
                        "%s: the guest has booted anew; its earlier programs end", tenant->name);
        tenant->epoch_pending = epoch;
        for (uint32_t i = 0; i < tenant->region.channel_count; i++)
                clear &= ivg_channel_clear(&tenant->channels[i]);
        if (!clear)
                return false;
        tenant->epoch_pending = 0;
        rc = vectors_follow(tenant);
        if (rc < 0)
                ivg_log(IVG_EVENT_VECTORS_FAILED, ivg_about_member(tenant->member),
                        "%s: doorbells of %u channels through %u vectors: %s; its programs will hang", tenant->name,
                        tenant->region.channel_count, tenant->vectors_usable, strerror(-rc));
        /* B4, release, pairs with B2: older channels are ended, their memory is nobody's. */
        ivg_store_release_u64(&host->epoch_seen, epoch);
        return true;
}

void ivg_tenant_scan(struct ivg_tenant *tenant)
{
        if (tenant->ending || tenant->mediator->ending || !epoch_follow(tenant))
                return;
        for (uint32_t i = 0; i < tenant->region.channel_count; i++)
                ivg_channel_look(&tenant->channels[i]);
}
