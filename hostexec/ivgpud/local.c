/* Local programs: each connects to a socket, that of all or that of a VM, says hello, and gets a region of its own with
 * one channel. Its end is seen by its socket and by its pidfd: a forked child may hold the socket open for long. */
#include "ivgpu_calls.h"
#include "manager.h"
#include "mediator.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

static void program_gone(struct ivg_mediator *mediator, struct ivg_local_program *program, const char *why)
{
        struct ivg_local *local = program->local;
        struct ivg_local_program **link = &local->programs;

        while (*link != program)
                link = &(*link)->next;
        *link = program->next;
        local->program_count--;
        ivg_loop_close(mediator, &program->socket);
        ivg_loop_close(mediator, &program->process);
        if (program->tenant)
                ivg_tenant_end(program->tenant, why);
        ivg_loop_free(mediator, &program->garbage);
}

static void process_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        (void)events; /* a pidfd becomes readable once, at the end */
        program_gone(mediator, (void *)((char *)source - offsetof(struct ivg_local_program, process)),
                     "the program is gone");
}

/* The kernel's own pidfd of the peer cannot be of a later process with the same number; older kernels lack it. */
static int peer_pidfd(int socket, pid_t pid)
{
        int fd = -1;
        socklen_t bytes = sizeof(fd);

        if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &bytes) == 0)
                return fd;
        return pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1; /* 0: a container's process, not in our namespace */
}

static int program_welcome(struct ivg_mediator *mediator, struct ivg_local_program *program, pid_t pid,
                           struct ivg_error *error)
{
        struct ivg_local *local = program->local;
        char name[64];
        const struct ivg_tenant_config tenant_config = {
                .kind = IVG_TENANT_LOCAL,
                .vm_id = local->vm_id,
                .pool = *local->pool,
                .region_mib = *local->region_mib,
                .channels = 1,
                .name = name,
                .vm_name = "local",
                .member = local->whose,
                .local = local,
        };
        const struct ivg_doorbells *doorbells;
        int rc;

        snprintf(name, sizeof(name), "local program %d", (int)pid);
        rc = ivg_tenant_create(mediator, &tenant_config, &program->tenant, error);
        if (rc < 0)
                return rc;
        program->process = (struct ivg_source){.fd = peer_pidfd(program->socket.fd, pid), .ready = process_ready};
        if (program->process.fd >= 0 && ivg_loop_watch(mediator, &program->process) < 0)
                ivg_loop_close(mediator, &program->process); /* the socket alone then tells of its end */
        doorbells = &program->tenant->doorbells;
        rc = ivg_local_send_welcome(program->socket.fd, program->tenant->memfd, doorbells->to_host[0],
                                    doorbells->to_host[1], doorbells->to_guest[1], program->tenant->region.region_bytes,
                                    error);
        if (rc == 0)
                ivg_log(IVG_EVENT_ATTACHED, ivg_about_member(local->whose), "[CONNECTION] %s: region of %u MiB", name,
                        *local->region_mib);
        return rc;
}

static void hello_ready(struct ivg_mediator *mediator, struct ivg_local_program *program)
{
        struct ivg_error error = {""};
        struct ucred peer;
        int rc = ivg_local_receive_hello(program->socket.fd, IVG_CALL_TABLE_FINGERPRINT, &peer, &error);

        if (rc == -EAGAIN)
                return;
        if (rc == 0) {
                rc = program_welcome(mediator, program, peer.pid, &error);
                if (rc < 0 && rc != -EPIPE && rc != -ECONNRESET)
                        (void)ivg_local_send_refusal(program->socket.fd, IVG_ERROR_MEDIATOR_UNAVAILABLE, error.text);
        }
        if (rc < 0) {
                ivg_log(IVG_EVENT_REFUSED, ivg_about_member(program->local->whose), "[CONNECTION] local program: %s",
                        error.text);
                program_gone(mediator, program, "it was not welcomed");
        }
}

static void socket_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct ivg_local_program *program = (void *)((char *)source - offsetof(struct ivg_local_program, socket));
        char byte;

        (void)events;
        if (!program->tenant) {
                hello_ready(mediator, program);
                return;
        }
        /* After the hello a program says nothing more: what comes is its end, or nonsense. */
        if (recv(source->fd, &byte, sizeof(byte), MSG_DONTWAIT) >= 0 || (errno != EAGAIN && errno != EINTR))
                program_gone(mediator, program, "its socket is closed");
}

static void listener_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct ivg_local *local = (void *)((char *)source - offsetof(struct ivg_local, listener));
        struct ivg_local_program *program;
        const int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        (void)events;
        if (fd < 0) {
                if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                        ivg_log(IVG_EVENT_SOCKET_FAILED, ivg_about_member(local->whose), "[SOCKET] %s: accept: %s",
                                local->path, strerror(errno));
                return;
        }
        ivg_log(IVG_EVENT_CONNECTED, ivg_about_member(local->whose), "[SOCKET] New connection on %s (fd=%d)",
                local->path, fd);
        program = local->program_count < IVG_LOCAL_PROGRAMS_MAX ? calloc(1, sizeof(*program)) : NULL;
        if (!program) {
                ivg_log(IVG_EVENT_REFUSED, ivg_about_member(local->whose),
                        "[CONNECTION] local program refused: %u are connected", local->program_count);
                (void)ivg_local_send_refusal(fd, IVG_ERROR_QUEUE_FULL, "too many local programs");
                close(fd);
                return;
        }
        program->socket = (struct ivg_source){.fd = fd, .ready = socket_ready};
        program->process.fd = -1;
        program->local = local;
        program->deadline_ms = ivg_loop_now_ms() + IVG_HELLO_MS;
        if (ivg_loop_watch(mediator, &program->socket) < 0) {
                close(fd);
                free(program);
                return;
        }
        program->next = local->programs;
        local->programs = program;
        local->program_count++;
}

void ivg_local_init(struct ivg_local *local)
{
        local->listener.fd = local->ipc_fd = -1;
}

int ivg_local_take_listener(struct ivg_mediator *mediator, struct ivg_local *local, int fd, struct ivg_error *error)
{
        int rc;

        local->listener = (struct ivg_source){.fd = fd, .ready = listener_ready};
        rc = ivg_loop_watch(mediator, &local->listener);
        if (rc < 0)
                ivg_error_set(error, "watching %s: %s", local->path, strerror(-rc));
        return rc;
}

int ivg_local_open(struct ivg_mediator *mediator, struct ivg_local *local, mode_t mode, struct ivg_error *error)
{
        int rc;

        if (local->path[0] == '\0')
                return 0;
        rc = ivg_manager_listen(local->path, mode, SOCK_SEQPACKET, error);
        return rc < 0 ? rc : ivg_local_take_listener(mediator, local, rc, error);
}

uint64_t ivg_local_tick(struct ivg_mediator *mediator, struct ivg_local *local, uint64_t now_ms)
{
        struct ivg_local_program *next;
        uint64_t next_ms = IVG_TICK_NEVER;

        for (struct ivg_local_program *program = local->programs; program; program = next) {
                next = program->next;
                if (!program->tenant && now_ms >= program->deadline_ms) {
                        ivg_log(IVG_EVENT_REFUSED, ivg_about_member(local->whose),
                                "[CONNECTION] local program: no hello within %u ms", IVG_HELLO_MS);
                        program_gone(mediator, program, "no hello");
                } else if (!program->tenant) {
                        next_ms = ivg_tick_earlier(next_ms, program->deadline_ms);
                }
        }
        return next_ms;
}

void ivg_local_stop_listening(struct ivg_mediator *mediator, struct ivg_local *local)
{
        if (local->listener.fd >= 0)
                ivg_manager_unlink(local->path);
        ivg_loop_close(mediator, &local->listener);
}

void ivg_local_close(struct ivg_mediator *mediator, struct ivg_local *local)
{
        ivg_local_stop_listening(mediator, local);
        while (local->programs)
                program_gone(mediator, local->programs, "the mediator ends");
}
