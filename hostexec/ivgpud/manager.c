#include "manager.h"
#include "ivgpu/server.h"
#include "mediator.h"
#include "module.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_PASSED 3 /* SD_LISTEN_FDS_START */

static const struct ivg_systemd *library;
static struct passed_socket {
        int fd, type;
        char path[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1];
        bool used;
} passed[IVG_MANAGER_SOCKETS_MAX];
static uint32_t passed_count;
static uint64_t watchdog_period_ms, watchdog_next_ms; /* a period of 0: none is asked for */

const struct ivg_systemd *ivg_manager_library(struct ivg_error *error)
{
        if (!library)
                library = ivg_module_load("systemd", "ivg_systemd", error);
        return library;
}

/* ---- sockets ---- */

/* Moves a descriptor out of the way of those that executors get. */
static int passed_take(int fd, const char *name, int fd_first, struct ivg_error *error)
{
        struct passed_socket *taken = &passed[passed_count];
        struct sockaddr_un address = {0};
        socklen_t bytes = sizeof(address), type_bytes = sizeof(taken->type), listening_bytes = sizeof(int);
        int listening = 0;

        if (getsockname(fd, (struct sockaddr *)&address, &bytes) < 0 || address.sun_family != AF_UNIX ||
            getsockopt(fd, SOL_SOCKET, SO_TYPE, &taken->type, &type_bytes) < 0 ||
            getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &listening_bytes) < 0 || !listening) {
                ivg_error_set(error, "descriptor %d (%s) of the service manager is no listening UNIX socket", fd, name);
                return -ENOTSOCK;
        }
        taken->fd = fcntl(fd, F_DUPFD_CLOEXEC, fd_first);
        if (taken->fd < 0 || fcntl(taken->fd, F_SETFL, fcntl(taken->fd, F_GETFL) | O_NONBLOCK) < 0) {
                ivg_error_set(error, "descriptor %d (%s) of the service manager: %s", fd, name, strerror(errno));
                return -errno;
        }
        memcpy(taken->path, address.sun_path,
               sizeof(address.sun_path)); /* ends with one of our own zeros at the latest */
        passed_count++;
        close(fd);
        return 0;
}

static int passed_open(int fd_first, struct ivg_error *error)
{
        char **names = NULL;
        const int count = library->listen_fds_with_names(0, &names);
        int rc = 0;

        if (count > (int)IVG_MANAGER_SOCKETS_MAX) {
                ivg_error_set(error, "the service manager hands over %d sockets, at most %u are taken", count,
                              IVG_MANAGER_SOCKETS_MAX);
                rc = -E2BIG;
        } else if (count < 0) {
                ivg_error_set(error, "sockets of the service manager: %s", strerror(-count));
                rc = count;
        }
        for (int i = 0; i < count; i++) {
                if (rc == 0)
                        rc = passed_take(FIRST_PASSED + i, names[i], fd_first, error);
                free(names[i]);
        }
        free(names);
        return rc;
}

static struct passed_socket *passed_at(const char *path)
{
        for (uint32_t i = 0; i < passed_count; i++)
                if (strcmp(passed[i].path, path) == 0)
                        return &passed[i];
        return NULL;
}

int ivg_manager_listen(const char *path, mode_t mode, int socket_type, struct ivg_error *error)
{
        struct passed_socket *held = passed_at(path);
        int fd;

        if (!held)
                return ivg_server_listen(path, mode, socket_type, error);
        if (held->type != socket_type) {
                ivg_error_set(error,
                              "%s: the service manager holds a socket of type %d there, of type %d is needed (%s)",
                              path, held->type, socket_type,
                              socket_type == SOCK_STREAM ? "ListenStream=" : "ListenSequentialPacket=");
                return -EPROTOTYPE;
        }
        fd = fcntl(held->fd, F_DUPFD_CLOEXEC, 0); /* ours stays: a later configuration may want it again */
        if (fd < 0) {
                ivg_error_set(error, "%s: %s", path, strerror(errno));
                return -errno;
        }
        held->used = true;
        return fd;
}

bool ivg_manager_holds(const char *path)
{
        return passed_at(path) != NULL;
}

void ivg_manager_unlink(const char *path)
{
        if (!ivg_manager_holds(path))
                unlink(path);
}

const char *ivg_manager_unused(uint32_t *next)
{
        while (*next < passed_count) {
                const struct passed_socket *held = &passed[(*next)++];

                if (!held->used)
                        return held->path;
        }
        return NULL;
}

/* ---- news ---- */

void ivg_manager_notify(const char *state)
{
        const int rc = library ? library->notify(0, state) : 0;

        if (rc < 0)
                ivg_log(IVG_EVENT_MANAGER, IVG_ABOUT_NOBODY, "telling the service manager \"%s\": %s", state,
                        strerror(-rc));
}

void ivg_manager_alive(uint64_t now_ms)
{
        if (watchdog_period_ms == 0 || now_ms < watchdog_next_ms)
                return;
        watchdog_next_ms = now_ms + watchdog_period_ms;
        ivg_manager_notify("WATCHDOG=1");
}

int ivg_manager_open(int fd_first, struct ivg_error *error)
{
        uint64_t usec = 0;
        int rc;

        if (!getenv("NOTIFY_SOCKET") && !getenv("LISTEN_FDS"))
                return 0;
        if (!ivg_manager_library(error)) {
                ivg_error_prefix(error, "started by a service manager, but no way to talk to it");
                return -ELIBACC;
        }
        rc = passed_open(fd_first, error);
        if (rc == 0 && library->watchdog_enabled(0, &usec) > 0)
                watchdog_period_ms = usec / 1000 / 3; /* one that comes late is no reason to be killed */
        return rc;
}
