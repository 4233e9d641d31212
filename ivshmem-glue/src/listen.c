/* A listening UNIX socket at a path: replaces what a dead server left behind, never what a live one holds. */
#include "glue_internal.h"
#include "ivgpu/server.h"
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define LISTEN_BACKLOG 64 /* a burst of starting programs; each waits in connect at most until the loop's next turn */

/* 1: nobody listens there any more. 0: somebody does. -errno: it is no socket, or we may not know. */
static int path_is_stale(const struct sockaddr_un *address, int socket_type)
{
        struct stat status;
        int probe, rc;

        if (lstat(address->sun_path, &status) < 0)
                return errno == ENOENT ? 1 : -errno;
        if (!S_ISSOCK(status.st_mode))
                return -ENOTSOCK;
        probe = socket(AF_UNIX, socket_type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (probe < 0)
                return -errno;
        rc = connect(probe, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
        ivg_close_fd(&probe);
        if (rc == -ECONNREFUSED || rc == -ENOENT)
                return 1;
        /* Accepted, a full backlog (EAGAIN) or a listener of another type (EPROTOTYPE): alive. */
        return rc == 0 || rc == -EAGAIN || rc == -EPROTOTYPE ? 0 : rc;
}

static int bind_replacing(int fd, const struct sockaddr_un *address, int socket_type, struct ivg_error *error)
{
        int stale;

        if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
                return 0;
        if (errno != EADDRINUSE) {
                ivg_error_set(error, "bind: %s", strerror(errno));
                return -errno;
        }
        stale = path_is_stale(address, socket_type);
        if (stale == 0) {
                ivg_error_set(error, "another server is listening there");
                return -EADDRINUSE;
        }
        if (stale < 0) {
                ivg_error_set(error, "%s", stale == -ENOTSOCK ? "exists and is not a socket" : strerror(-stale));
                return stale;
        }
        if ((unlink(address->sun_path) < 0 && errno != ENOENT) ||
            bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
                ivg_error_set(error, "replacing a stale socket: %s", strerror(errno));
                return -errno;
        }
        return 0;
}

int ivg_server_listen(const char *path, mode_t mode, int socket_type, struct ivg_error *error)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd, rc;

        if (path[0] == '\0' || strlen(path) >= sizeof(address.sun_path)) {
                ivg_error_set(error, "%s: socket path of %zu bytes, 1..%zu allowed", path, strlen(path),
                              sizeof(address.sun_path) - 1);
                return -ENAMETOOLONG;
        }
        strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, socket_type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) {
                ivg_error_set(error, "%s: socket: %s", path, strerror(errno));
                return -errno;
        }
        /* The mode is set on the socket before bind() makes the file, so that it is never wider than asked for; the
         * umask may only have made it narrower, which the second call puts right. */
        rc = fchmod(fd, mode) < 0 ? -errno : bind_replacing(fd, &address, socket_type, error);
        if (rc == 0 && (chmod(path, mode) < 0 || listen(fd, LISTEN_BACKLOG) < 0)) {
                rc = -errno;
                ivg_error_set(error, "chmod or listen: %s", strerror(-rc));
                unlink(path);
        }
        if (rc < 0) {
                ivg_close_fd(&fd);
                ivg_error_prefix(error, "%s", path);
                return rc;
        }
        return fd;
}
