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
static struct kept_descriptor {
        char name[IVG_MANAGER_KEPT_NAME_BYTES];
        int fd; /* -1: taken */
} * kept;       /* by name */
static uint32_t kept_count;
static uint64_t watchdog_period_ms, watchdog_next_ms; /* a period of 0: none is asked for */

const struct ivg_systemd *ivg_manager_library(struct ivg_error *error)
{
        if (!library)
                library = ivg_module_load("systemd", "ivg_systemd", error);
        return library;
}

/* ---- sockets ---- */

/* Moves a descriptor out of the way of those that executors get. */
static int passed_move(int fd, const char *name, int fd_first, struct ivg_error *error)
{
        const int moved = fcntl(fd, F_DUPFD_CLOEXEC, fd_first);
        const int rc = -errno;

        if (moved < 0) {
                ivg_error_set(error, "descriptor %d (%s) of the service manager: %s", fd, name, strerror(-rc));
                return rc;
        }
        close(fd);
        return moved;
}

static bool name_is_kept(const char *name)
{
        const size_t prefix_bytes = strlen(IVG_MANAGER_KEPT_PREFIX);

        return strncmp(name, IVG_MANAGER_KEPT_PREFIX, prefix_bytes) == 0 && strchr(name, '.') &&
               strlen(name) < IVG_MANAGER_KEPT_NAME_BYTES;
}

static int kept_take(int fd, const char *name, int fd_first, struct ivg_error *error)
{
        const int moved = passed_move(fd, name, fd_first, error);

        if (moved < 0)
                return moved;
        kept[kept_count].fd = moved;
        strcpy(kept[kept_count].name, name); /* fits: name_is_kept */
        kept_count++;
        return 0;
}

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
        if (passed_count == IVG_MANAGER_SOCKETS_MAX) {
                ivg_error_set(error, "the service manager hands over more than %u sockets", IVG_MANAGER_SOCKETS_MAX);
                return -E2BIG;
        }
        taken->fd = passed_move(fd, name, fd_first, error);
        if (taken->fd < 0)
                return taken->fd;
        if (fcntl(taken->fd, F_SETFL, fcntl(taken->fd, F_GETFL) | O_NONBLOCK) < 0) {
                ivg_error_set(error, "descriptor %d (%s) of the service manager: %s", fd, name, strerror(errno));
                return -errno;
        }
        memcpy(taken->path, address.sun_path,
               sizeof(address.sun_path)); /* ends with one of our own zeros at the latest */
        passed_count++;
        return 0;
}

static int kept_compare(const void *a, const void *b)
{
        const struct kept_descriptor *left = a, *right = b;

        return strcmp(left->name, right->name);
}

static int passed_open(int fd_first, struct ivg_error *error)
{
        char **names = NULL;
        const int count = library->listen_fds_with_names(0, &names);
        int rc = 0;

        if (count < 0) {
                ivg_error_set(error, "sockets of the service manager: %s", strerror(-count));
                return count;
        }
        kept = calloc((size_t)count + 1, sizeof(*kept));
        if (!kept) {
                ivg_error_set(error, "no memory for %d descriptors", count);
                rc = -ENOMEM;
        }
        for (int i = 0; i < count; i++) {
                if (rc == 0)
                        rc = (name_is_kept(names[i]) ? kept_take : passed_take)(FIRST_PASSED + i, names[i], fd_first,
                                                                                error);
                free(names[i]);
        }
        free(names);
        if (kept_count > 0)
                qsort(kept, kept_count, sizeof(*kept), kept_compare);
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

/* ---- what it keeps ---- */

bool ivg_manager_keeps(void)
{
        return library && getenv("NOTIFY_SOCKET");
}

static void store(const char *command, const char *name, const int *fd)
{
        char state[64];
        int rc;

        if (!ivg_manager_keeps())
                return;
        snprintf(state, sizeof(state), "%s=1\nFDNAME=%s", command, name);
        rc = library->pid_notify_with_fds(0, 0, state, fd, fd ? 1 : 0);
        if (rc < 0)
                ivg_log(IVG_EVENT_MANAGER, IVG_ABOUT_NOBODY, "telling the service manager \"%s\" of %s: %s", command,
                        name, strerror(-rc));
}

void ivg_manager_keep(const char *name, int fd)
{
        store("FDSTORE", name, &fd);
}

void ivg_manager_forget(const char *name)
{
        store("FDSTOREREMOVE", name, NULL);
}

int ivg_manager_kept(const char *name)
{
        struct kept_descriptor key = {.fd = -1}, *found;
        int fd;

        if (kept_count == 0)
                return -1;
        snprintf(key.name, sizeof(key.name), "%s", name);
        found = bsearch(&key, kept, kept_count, sizeof(*kept), kept_compare);
        if (!found)
                return -1;
        fd = found->fd;
        found->fd = -1;
        return fd;
}

uint32_t ivg_manager_kept_drop(char example[IVG_MANAGER_KEPT_NAME_BYTES])
{
        uint32_t count = 0;

        for (uint32_t i = 0; i < kept_count; i++) {
                if (kept[i].fd < 0)
                        continue;
                ivg_manager_forget(kept[i].name);
                close(kept[i].fd);
                strcpy(example, kept[i].name);
                count++;
        }
        free(kept);
        kept = NULL;
        kept_count = 0;
        return count;
}

/* ---- news ---- */

void ivg_manager_notify(const char *state)
{
        const int rc = library ? library->notify(0, state) : 0;

        if (rc < 0)
                ivg_log(IVG_EVENT_MANAGER, IVG_ABOUT_NOBODY, "telling the service manager \"%s\": %s", state,
                        strerror(-rc));
}

uint64_t ivg_manager_alive(uint64_t now_ms)
{
        if (watchdog_period_ms == 0)
                return UINT64_MAX;
        if (now_ms >= watchdog_next_ms) {
                watchdog_next_ms = now_ms + watchdog_period_ms;
                ivg_manager_notify("WATCHDOG=1");
        }
        return watchdog_next_ms;
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
