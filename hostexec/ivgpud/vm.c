/* A VM: its listening socket and the one QEMU that may be behind it. Each QEMU gets a region of its own, so nothing of
 * an earlier guest is in it. */
#include "ivgpu_calls.h"
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
                .account = &vm->account,
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
                        ivg_log(IVG_LOG_ERROR, "[SOCKET] %s: accept: %s", vm->config->socket, strerror(errno));
                return;
        }
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes);
        ivg_log(IVG_LOG_INFO, "[SOCKET] New connection on %s (fd=%d, pid=%d)", vm->config->socket, fd, (int)peer.pid);
        if (vm->tenant) {
                ivg_log(IVG_LOG_ERROR, "[CONNECTION] VM %u (%s): a second QEMU (pid %d) is refused: one is connected",
                        vm->config->vm_id, vm->config->name, (int)peer.pid);
                close(fd);
                return;
        }
        if (qemu_admit(vm, fd, &error) < 0) {
                ivg_log(IVG_LOG_ERROR, "[CONNECTION] VM %u (%s): %s", vm->config->vm_id, vm->config->name, error.text);
                close(fd);
                return;
        }
        ivg_log(IVG_LOG_INFO, "[CONNECTION] VM %u (%s): QEMU (pid %d) has %u MiB, %u channels, %u vectors",
                vm->config->vm_id, vm->config->name, (int)peer.pid, vm->config->region_mib, vm->config->channels,
                vm->config->vectors);
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

int ivg_vm_open(struct ivg_mediator *mediator, struct ivg_vm *vm, const struct ivg_vm_config *config,
                struct ivg_error *error)
{
        int rc = geometry_try(config, error);

        vm->mediator = mediator;
        vm->config = config;
        vm->qemu.fd = vm->listener.fd = -1;
        if (rc == 0) {
                rc = ivg_server_listen(config->socket, config->socket_mode, SOCK_STREAM, error);
                vm->listener = (struct ivg_source){.fd = rc, .ready = listener_ready};
        }
        if (rc >= 0) {
                rc = ivg_loop_watch(mediator, &vm->listener);
                if (rc < 0)
                        ivg_error_set(error, "watching %s: %s", config->socket, strerror(-rc));
        }
        if (rc < 0)
                ivg_error_prefix(error, "VM %u (%s)", config->vm_id, config->name);
        return rc;
}

void ivg_vm_close(struct ivg_vm *vm)
{
        if (vm->listener.fd >= 0)
                unlink(vm->config->socket);
        ivg_loop_close(vm->mediator, &vm->listener);
        if (vm->tenant)
                qemu_gone(vm, "the mediator ends");
}
