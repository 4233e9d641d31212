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

static void qemu_gone(struct ivg_vm *vm, const char *why)
{
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

static int qemu_admit(struct ivg_vm *vm, int fd, struct ivg_error *error)
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
        };
        struct ivg_tenant *tenant;
        int rc;

        snprintf(name, sizeof(name), "VM %u (%s)", config->vm_id, config->name);
        rc = ivg_tenant_create(vm->mediator, &tenant_config, &tenant, error);
        if (rc < 0)
                return rc;
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

static void listener_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct ivg_vm *vm = (void *)((char *)source - offsetof(struct ivg_vm, listener));
        struct ivg_error error = {""};
        struct ucred peer = {0};
        socklen_t bytes = sizeof(peer);
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
        if (qemu_admit(vm, fd, &error) < 0) {
                ivg_log(IVG_EVENT_REFUSED, ivg_about_member(&vm->member), "[CONNECTION] VM %u (%s): %s",
                        vm->config->vm_id, vm->config->name, error.text);
                close(fd);
                return;
        }
        ivg_log(IVG_EVENT_ATTACHED, ivg_about_member(&vm->member),
                "[CONNECTION] VM %u (%s): QEMU (pid %d) has %u MiB, %u channels, %u vectors", vm->config->vm_id,
                vm->config->name, (int)peer.pid, vm->config->region_mib, vm->config->channels, vm->config->vectors);
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
        return rc < 0 ? rc : ivg_vm_take_listener(&mediator->vms[slot], rc, error);
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
        if (vm->tenant)
                qemu_gone(vm, "the mediator ends");
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
