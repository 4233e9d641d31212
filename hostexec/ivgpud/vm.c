/* A VM: its listening socket and the one QEMU that may be behind it. Each QEMU gets a region of its own, so nothing of
 * an earlier guest is in it. */
#include "ivgpu_calls.h"
#include "manager.h"
#include "mediator.h"
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- what the service manager keeps of a QEMU: its connection, its region, each vector's two doorbells ---- */

/* "vm7.qemu", "vm7.g3" */
static const char *kept_name(char name[IVG_MANAGER_KEPT_NAME_BYTES], const struct ivg_vm *vm, const char *what,
                             uint32_t vector)
{
        char number[12] = "";

        _Static_assert(sizeof(IVG_MANAGER_KEPT_PREFIX "4294967295.region") <= IVG_MANAGER_KEPT_NAME_BYTES &&
                               sizeof(IVG_MANAGER_KEPT_PREFIX "4294967295.h127") <= IVG_MANAGER_KEPT_NAME_BYTES &&
                               IVG_VECTORS_MAX <= 1000,
                       "every name fits");
        if (what[1] == '\0')
                snprintf(number, sizeof(number), "%u", vector);
        snprintf(name, IVG_MANAGER_KEPT_NAME_BYTES, IVG_MANAGER_KEPT_PREFIX "%u.%s%s", vm->config->vm_id, what, number);
        return name;
}

static void kept_each(const struct ivg_vm *vm, void (*act)(const char *name, int fd), const struct ivg_left *left,
                      int qemu_fd)
{
        char name[IVG_MANAGER_KEPT_NAME_BYTES];

        act(kept_name(name, vm, "qemu", 0), qemu_fd);
        act(kept_name(name, vm, "region", 0), left->memfd);
        for (uint32_t i = 0; i < left->doorbells.vector_count; i++) {
                act(kept_name(name, vm, "h", i), left->doorbells.to_host[i]);
                act(kept_name(name, vm, "g", i), left->doorbells.to_guest[i]);
        }
}

static void forget(const char *name, int fd)
{
        (void)fd;
        ivg_manager_forget(name);
}

static struct ivg_left tenant_descriptors(const struct ivg_tenant *tenant)
{
        return (struct ivg_left){.memfd = tenant->memfd, .doorbells = tenant->doorbells};
}

/* ---- QEMU ---- */

static void qemu_gone(struct ivg_vm *vm, const char *why)
{
        const struct ivg_left left = tenant_descriptors(vm->tenant);

        shutdown(vm->qemu.fd, SHUT_RDWR); /* first: one that is kept would hold it open */
        kept_each(vm, forget, &left, vm->qemu.fd);
        ivg_loop_close(vm->mediator, &vm->qemu);
        ivg_tenant_end(vm->tenant, why);
        vm->tenant = NULL;
}

static void qemu_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct ivg_vm *vm = (void *)((char *)source - offsetof(struct ivg_vm, qemu));
        char bytes[IVG_QEMU_BYTES_PER_TURN];
        const ssize_t received = recv(source->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

        (void)mediator;
        (void)events;
        if (received == 0 || (received < 0 && errno != EAGAIN && errno != EINTR))
                qemu_gone(vm, "QEMU is gone");
        else if (received > 0)
                qemu_gone(vm, "its peer talks, which QEMU does not");
}

/* A connection that is greeted, or, with what is left of it, was greeted before. */
static int qemu_admit(struct ivg_vm *vm, int fd, struct ivg_left *left, struct ivg_error *error)
{
        const struct ivg_vm_config *config = vm->config;
        char name[64];
        const struct ivg_tenant_config tenant_config = {
                .kind = IVG_TENANT_VM,
                .vm_id = config->vm_id,
                .pool = config->pool,
                .region_mib = config->region_mib,
                .channels = config->channels,
                .vectors = config->vectors,
                .name = name,
                .vm_name = config->name,
                .member = &vm->member,
                .left = left,
        };
        struct ivg_tenant *tenant;
        int rc;

        snprintf(name, sizeof(name), "VM %u (%s)", config->vm_id, config->name);
        rc = ivg_tenant_create(vm->mediator, &tenant_config, &tenant, error);
        if (rc < 0)
                return rc;
        if (!left)
                rc = ivg_ivshmem_greet(fd, tenant->memfd, &tenant->doorbells, error);
        if (rc == 0) {
                vm->qemu = (struct ivg_source){.fd = fd, .ready = qemu_ready};
                rc = ivg_loop_watch(vm->mediator, &vm->qemu);
                if (rc < 0)
                        ivg_error_set(error, "watching QEMU: %s", strerror(-rc));
        }
        if (rc < 0) {
                vm->qemu.fd = -1;
                ivg_tenant_end(tenant, "QEMU was not greeted");
                return rc;
        }
        vm->tenant = tenant;
        return 0;
}

static void qemu_attached(const struct ivg_vm *vm, const char *how)
{
        const struct ivg_region *region = &vm->tenant->region;
        struct ucred peer = {0};
        socklen_t bytes = sizeof(peer);

        getsockopt(vm->qemu.fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes);
        ivg_log(IVG_EVENT_ATTACHED, ivg_about_member(&vm->member),
                "[CONNECTION] VM %u (%s): QEMU (pid %d) %s %llu MiB, %u channels, %u vectors", vm->config->vm_id,
                vm->config->name, (int)peer.pid, how, (unsigned long long)(region->region_bytes >> 20),
                region->channel_count, region->vector_count);
}

/* ---- a QEMU that was there before us ---- */

static struct ivg_left kept_take(const struct ivg_vm *vm)
{
        char name[IVG_MANAGER_KEPT_NAME_BYTES];
        struct ivg_left left = {.memfd = ivg_manager_kept(kept_name(name, vm, "region", 0))};

        while (left.doorbells.vector_count < IVG_VECTORS_MAX) {
                const uint32_t vector = left.doorbells.vector_count;
                int *to_host = &left.doorbells.to_host[vector], *to_guest = &left.doorbells.to_guest[vector];

                *to_host = ivg_manager_kept(kept_name(name, vm, "h", vector));
                *to_guest = ivg_manager_kept(kept_name(name, vm, "g", vector));
                if (*to_host < 0 && *to_guest < 0)
                        break;
                left.doorbells.vector_count++;
        }
        return left;
}

static void qemu_resume(struct ivg_vm *vm)
{
        char name[IVG_MANAGER_KEPT_NAME_BYTES];
        const int fd = ivg_manager_kept(kept_name(name, vm, "qemu", 0));
        struct ivg_left left = kept_take(vm);
        const struct ivg_left kept = left;
        struct ivg_error error = {""};
        bool complete = left.memfd >= 0 && left.doorbells.vector_count >= 2;

        if (fd < 0 && left.memfd < 0 && left.doorbells.vector_count == 0)
                return;
        for (uint32_t i = 0; i < left.doorbells.vector_count; i++)
                complete &= left.doorbells.to_host[i] >= 0 && left.doorbells.to_guest[i] >= 0;
        if (fd >= 0 && complete && qemu_admit(vm, fd, &left, &error) == 0) {
                qemu_attached(vm, "is connected as before ivgpud's start:");
                return;
        }
        if (fd < 0)
                ivg_log(IVG_EVENT_DETACHED, ivg_about_member(&vm->member),
                        "[CONNECTION] VM %u (%s): its QEMU has gone while ivgpud was away", vm->config->vm_id,
                        vm->config->name);
        else
                ivg_log(IVG_EVENT_REFUSED, ivg_about_member(&vm->member),
                        "[CONNECTION] VM %u (%s): its QEMU was connected before ivgpud's start and is cut off: %s; "
                        "start the VM anew",
                        vm->config->vm_id, vm->config->name,
                        complete ? error.text : "the service manager has kept a part of its descriptors only");
        kept_each(vm, forget, &kept, fd);
        if (!complete || fd < 0)
                ivg_left_close(&left); /* else taken over */
        if (fd >= 0) {
                shutdown(fd, SHUT_RDWR);
                close(fd);
        }
}

static void listener_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct ivg_vm *vm = (void *)((char *)source - offsetof(struct ivg_vm, listener));
        struct ivg_error error = {""};
        struct ucred peer = {0};
        socklen_t bytes = sizeof(peer);
        struct ivg_left left;
        const int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        (void)mediator;
        (void)events;
        if (fd < 0) {
                if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                        ivg_log(IVG_EVENT_SOCKET_FAILED, ivg_about_member(&vm->member), "[SOCKET] %s: accept: %s",
                                vm->config->socket, strerror(errno));
                return;
        }
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes);
        ivg_log(IVG_EVENT_CONNECTED, ivg_about_member(&vm->member), "[SOCKET] New connection on %s (fd=%d, pid=%d)",
                vm->config->socket, fd, (int)peer.pid);
        if (vm->tenant) {
                ivg_log(IVG_EVENT_REFUSED, ivg_about_member(&vm->member),
                        "[CONNECTION] VM %u (%s): a second QEMU (pid %d) is refused: one is connected",
                        vm->config->vm_id, vm->config->name, (int)peer.pid);
                close(fd);
                return;
        }
        if (qemu_admit(vm, fd, NULL, &error) < 0) {
                ivg_log(IVG_EVENT_REFUSED, ivg_about_member(&vm->member), "[CONNECTION] VM %u (%s): %s",
                        vm->config->vm_id, vm->config->name, error.text);
                close(fd);
                return;
        }
        left = tenant_descriptors(vm->tenant);
        kept_each(vm, ivg_manager_keep, &left, fd);
        qemu_attached(vm, "has");
}

/* A geometry that cannot be is better told now than to the first QEMU. */
static int geometry_try(const struct ivg_vm_config *config, struct ivg_error *error)
{
        const struct ivg_region_config region_config = {
                .region_bytes = (uint64_t)config->region_mib << 20,
                .channel_count = config->channels,
                .vector_count = config->vectors,
                .vm_id = config->vm_id,
                .vm_name = config->name,
                .call_table_fingerprint = IVG_CALL_TABLE_FINGERPRINT,
        };
        int memfd;
        int rc = ivg_region_create(&region_config, &memfd, error);

        if (rc == 0)
                close(memfd);
        return rc;
}

int ivg_vm_listen(const struct ivg_vm_config *config, struct ivg_error *error)
{
        int rc = geometry_try(config, error);

        if (rc == 0)
                rc = ivg_manager_listen(config->socket, config->socket_mode, SOCK_STREAM, error);
        if (rc < 0)
                ivg_error_prefix(error, "VM %u (%s)", config->vm_id, config->name);
        return rc;
}

int ivg_vm_listen_local(const struct ivg_vm_config *config, struct ivg_error *error)
{
        const int rc = ivg_manager_listen(config->local_socket, config->socket_mode, SOCK_SEQPACKET, error);

        if (rc < 0)
                ivg_error_prefix(error, "VM %u (%s)", config->vm_id, config->name);
        return rc;
}

int ivg_vm_take_listener(struct ivg_vm *vm, int fd, struct ivg_error *error)
{
        struct ivg_source listener = {.fd = fd, .ready = listener_ready};
        int rc;

        ivg_loop_close(vm->mediator, &vm->listener);
        vm->listener = listener;
        rc = ivg_loop_watch(vm->mediator, &vm->listener);
        if (rc < 0)
                ivg_error_set(error, "VM %u (%s): watching %s: %s", vm->config->vm_id, vm->config->name,
                              vm->config->socket, strerror(-rc));
        return rc;
}

void ivg_vm_init(struct ivg_mediator *mediator, uint32_t slot)
{
        struct ivg_vm *vm = &mediator->vms[slot];

        *vm = (struct ivg_vm){
                .mediator = mediator, .config = &mediator->config.vms[slot], .listener.fd = -1, .qemu.fd = -1};
        ivg_member_init(&vm->member, mediator, slot, &vm->config->limits);
        ivg_local_init(&vm->local);
        vm->local.path = vm->config->local_socket;
        vm->local.pool = &vm->config->pool;
        vm->local.region_mib = &vm->config->region_mib;
        vm->local.vm_id = vm->config->vm_id;
        vm->local.whose = &vm->member;
}

int ivg_vm_open(struct ivg_mediator *mediator, uint32_t slot, struct ivg_error *error)
{
        const struct ivg_vm_config *config = &mediator->config.vms[slot];
        int rc = ivg_local_open(mediator, &mediator->vms[slot].local, config->socket_mode, error);

        if (rc < 0 || config->socket[0] == '\0')
                return rc;
        rc = ivg_vm_listen(config, error);
        if (rc >= 0)
                rc = ivg_vm_take_listener(&mediator->vms[slot], rc, error);
        if (rc >= 0)
                qemu_resume(&mediator->vms[slot]);
        return rc;
}

void ivg_vm_announce(const struct ivg_vm *vm)
{
        if (vm->local.listener.fd >= 0)
                ivg_log(IVG_EVENT_LISTENING, ivg_about_member(&vm->member),
                        "[SOCKET] %s, pool %s: its local programs: listening on %s", vm->member.name,
                        vm->mediator->config.pools[vm->config->pool].name, vm->config->local_socket);
        if (vm->listener.fd < 0)
                return;
        ivg_log(IVG_EVENT_LISTENING, ivg_about_member(&vm->member), "[SOCKET] %s, pool %s: listening on %s",
                vm->member.name, vm->mediator->config.pools[vm->config->pool].name, vm->config->socket);
}

void ivg_vm_stop_listening(struct ivg_vm *vm)
{
        if (vm->listener.fd >= 0)
                ivg_manager_unlink(vm->config->socket);
        ivg_loop_close(vm->mediator, &vm->listener);
}

void ivg_vm_close(struct ivg_vm *vm)
{
        ivg_vm_stop_listening(vm);
        ivg_local_close(vm->mediator, &vm->local);
        if (!vm->tenant)
                return;
        if (!ivg_manager_keeps()) {
                qemu_gone(vm, "the mediator ends");
                return;
        }
        /* What is kept is left to the next ivgpud, or hangs up when the unit is stopped. */
        ivg_loop_close(vm->mediator, &vm->qemu);
        ivg_tenant_end(vm->tenant, "the mediator ends, the service manager keeps its QEMU");
        vm->tenant = NULL;
}

/* ---- out of the configuration ---- */

void ivg_vm_remove(struct ivg_vm *vm)
{
        ivg_vm_stop_listening(vm);
        ivg_local_stop_listening(vm->mediator, &vm->local);
        vm->removed = true;
        vm->member.draining = true;
}

static void vms_tick(struct ivg_mediator *mediator)
{
        struct ivg_config *config = &mediator->config;

        for (uint32_t slot = 0; slot < config->vm_count; slot++) {
                struct ivg_vm *vm = &mediator->vms[slot];

                if (!ivg_config_has_vm(config, slot) || !vm->removed || vm->member.executors_alive > 0)
                        continue;
                if (vm->tenant)
                        qemu_gone(vm, "it is no longer configured");
                ivg_local_close(mediator, &vm->local); /* programs that are connected and run nothing */
                ivg_log(IVG_EVENT_RELOADED, ivg_about_member(&vm->member), "[RELOAD] %s is gone", vm->member.name);
                ivg_member_end(&vm->member);
                memset(&config->vms[slot], 0, sizeof(config->vms[slot]));
        }
}

static bool pool_is_named(const struct ivg_mediator *mediator, uint32_t pool)
{
        const struct ivg_config *config = &mediator->config;

        if (config->local.socket[0] != '\0' && config->local.pool == pool)
                return true;
        for (uint32_t slot = 0; slot < config->vm_count; slot++)
                if (ivg_config_has_vm(config, slot) && config->vms[slot].pool == pool)
                        return true;
        for (const struct ivg_tenant *tenant = mediator->tenants; tenant; tenant = tenant->next)
                if (tenant->pool == pool)
                        return true;
        for (const struct ivg_executor *executor = mediator->executors; executor; executor = executor->next)
                if (executor->pool == pool)
                        return true;
        return false;
}

void ivg_removed_tick(struct ivg_mediator *mediator)
{
        struct ivg_config *config = &mediator->config;

        vms_tick(mediator);
        for (uint32_t pool = 0; pool < config->pool_count; pool++) {
                if (!mediator->pool_removed[pool] || pool_is_named(mediator, pool))
                        continue;
                ivg_log(IVG_EVENT_RELOADED, IVG_ABOUT_NOBODY, "[RELOAD] pool %s is gone", config->pools[pool].name);
                ivg_mps_end(mediator, pool);
                mediator->pool_removed[pool] = false;
                mediator->records_of_gone_pools += mediator->pools[pool].ended.records;
                ivg_account_clear(&mediator->pools[pool]);
                memset(&config->pools[pool], 0, sizeof(config->pools[pool]));
        }
}
