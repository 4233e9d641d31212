/* A socket to whoever hands out the region: connecting, the one message that comes, and its end as a sign. */
#include "ivgpu/fd_pass.h"
#include "ivgpu/server.h"
#include "link_internal.h"
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

/* How old an answer about the socket may be before the kernel is asked again. */
#define SOCKET_CHECK_NS (5 * IVG_NS_PER_MS)
#define CONNECT_RETRY_NS IVG_NS_PER_MS

static int socket_wait(int socket, uint64_t deadline_ns)
{
        for (;;) {
                struct pollfd watched = {.fd = socket, .events = POLLIN};
                const uint64_t now_ns = ivg_now_ns();
                int rc;

                if (now_ns >= deadline_ns)
                        return -ETIMEDOUT;
                rc = poll(&watched, 1, (int)((deadline_ns - now_ns) / IVG_NS_PER_MS) + 1);
                if (rc > 0)
                        return 0;
                if (rc < 0 && errno != EINTR)
                        return -errno;
        }
}

static int socket_connect(struct ivg_link *link, const char *path, const char *whose, struct ivg_link_request *request)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int rc;

        if (path[0] == '\0' || strlen(path) >= sizeof(address.sun_path)) {
                ivg_error_set(request->error, "socket path of %zu bytes, 1..%zu allowed", strlen(path),
                              sizeof(address.sun_path) - 1);
                return -ENAMETOOLONG;
        }
        strcpy(address.sun_path, path);
        link->socket_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (link->socket_fd < 0) {
                ivg_error_set(request->error, "socket: %s", strerror(errno));
                return -errno;
        }
        /* A full backlog answers EAGAIN at once; its owner accepts on its loop's next turn. */
        for (;;) {
                rc = connect(link->socket_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
                if ((rc != -EAGAIN && rc != -EINTR) || ivg_now_ns() >= request->deadline_ns)
                        break;
                ivg_sleep_ns(CONNECT_RETRY_NS);
        }
        if (rc == -ENOENT || rc == -ENOTDIR)
                ivg_error_set(request->error, "absent: no %s has made this socket", whose);
        else if (rc == -ECONNREFUSED)
                ivg_error_set(request->error, "refused: the socket is there, no %s listens", whose);
        else if (rc == -EACCES || rc == -EPERM)
                ivg_error_set(request->error, "permission denied: this user may not write to the socket");
        else if (rc < 0)
                ivg_error_set(request->error, "connect: %s", strerror(-rc));
        return rc;
}

static int hello_send(struct ivg_link *link, struct ivg_link_request *request)
{
        const struct ivg_local_hello hello = {
                .magic = IVG_LOCAL_MAGIC,
                .layout_version = IVG_LAYOUT_VERSION,
                .call_table_fingerprint = request->call_table_fingerprint,
        };
        const int rc = ivg_fds_send(link->socket_fd, &hello, sizeof(hello), NULL, 0);

        if (rc < 0)
                ivg_error_set(request->error, "hello: %s", strerror(-rc));
        return rc;
}

/* What every welcome begins with; `bytes` came of `wanted`. A refusal has no more than this, and no descriptors. */
static int welcome_check(struct ivg_local_welcome *welcome, long bytes, size_t wanted, const char *whose,
                         struct ivg_link_request *request)
{
        struct ivg_error *error = request->error;

        if (bytes != (long)wanted && bytes != (long)sizeof(*welcome)) {
                ivg_error_set(error, "welcome of %ld bytes, expected %zu", bytes, wanted);
                return -EPROTO;
        }
        welcome->text[sizeof(welcome->text) - 1] = '\0';
        if (welcome->magic != IVG_LOCAL_MAGIC) {
                ivg_error_set(error, "welcome magic %08x, expected %08x", welcome->magic, IVG_LOCAL_MAGIC);
                return -EPROTO;
        }
        if (welcome->code != IVG_ERROR_NONE) {
                request->code = (enum ivg_error_code)welcome->code;
                ivg_error_set(error, "%s refused: %s: %s", whose, ivg_error_code_name(request->code), welcome->text);
                return -ECONNABORTED;
        }
        if (bytes != (long)wanted) {
                ivg_error_set(error, "welcome of %ld bytes, expected %zu", bytes, wanted);
                return -EPROTO;
        }
        if (welcome->layout_version != IVG_LAYOUT_VERSION) {
                ivg_error_set(error, "layout version: %s has %u, this program has %u", whose, welcome->layout_version,
                              IVG_LAYOUT_VERSION);
                return -EPROTO;
        }
        if (welcome->call_table_fingerprint != request->call_table_fingerprint) {
                ivg_error_set(error, "call table fingerprint: %s has %016llx, this program has %016llx", whose,
                              (unsigned long long)welcome->call_table_fingerprint,
                              (unsigned long long)request->call_table_fingerprint);
                return -EPROTO;
        }
        return 0;
}

static int welcome_receive(struct ivg_link *link, const char *whose, struct ivg_local_welcome *welcome, size_t wanted,
                           int *fds, uint32_t fds_wanted, struct ivg_link_request *request)
{
        int received[IVG_FDS_PER_MESSAGE_MAX];
        uint32_t count = 0;
        long bytes;
        int rc = socket_wait(link->socket_fd, request->deadline_ns);

        if (rc == -ETIMEDOUT) {
                request->code = IVG_ERROR_TIMEOUT;
                ivg_error_set(request->error, "no welcome from the %s in time", whose);
                return rc;
        }
        if (rc < 0) {
                ivg_error_set(request->error, "waiting for the welcome: %s", strerror(-rc));
                return rc;
        }
        bytes = ivg_fds_receive(link->socket_fd, welcome, wanted, received, &count);
        if (bytes == 0 || bytes == -ECONNRESET) {
                ivg_error_set(request->error, "the %s closed the connection without a welcome", whose);
                return -EPIPE;
        }
        if (bytes < 0) {
                ivg_error_set(request->error, "welcome: %s", strerror((int)-bytes));
                return (int)bytes;
        }
        /* The caller's from here on, right or wrong. */
        for (uint32_t i = 0; i < count; i++) {
                if (i < fds_wanted)
                        fds[i] = received[i];
                else
                        close(received[i]);
        }
        rc = welcome_check(welcome, bytes, wanted, whose, request);
        if (rc == 0 && count != fds_wanted) {
                ivg_error_set(request->error, "welcome with %u descriptors, expected %u", count, fds_wanted);
                rc = -EPROTO;
        }
        return rc;
}

int ivg_link_welcome(struct ivg_link *link, const char *path, const char *whose, void *welcome, size_t bytes, int *fds,
                     uint32_t fds_wanted, struct ivg_link_request *request)
{
        int rc = socket_connect(link, path, whose, request);

        if (rc == 0)
                rc = hello_send(link, request);
        if (rc == 0)
                rc = welcome_receive(link, whose, welcome, bytes, fds, fds_wanted, request);
        return rc;
}

/* The interrupt eventfd is drained by whoever leads; a second reader must never block on it. */
int ivg_link_interrupts_prepare(struct ivg_link *link, struct ivg_link_request *request)
{
        const int flags = fcntl(link->interrupt_fd, F_GETFL);

        if (flags < 0 || fcntl(link->interrupt_fd, F_SETFL, flags | O_NONBLOCK) < 0) {
                ivg_error_set(request->error, "interrupt eventfd: %s", strerror(errno));
                return -errno;
        }
        return 0;
}

int ivg_link_socket_alive(struct ivg_link *link)
{
        const uint64_t now_ns = ivg_now_ns();
        uint64_t checked_ns = atomic_load_explicit(&link->socket_checked_ns, memory_order_relaxed);

        /* Relaxed: the stamp only spares system calls. One thread of those that find it old asks the kernel. */
        if (now_ns - checked_ns >= SOCKET_CHECK_NS &&
            atomic_compare_exchange_strong(&link->socket_checked_ns, &checked_ns, now_ns)) {
                struct pollfd watched = {.fd = link->socket_fd, .events = POLLRDHUP};
                struct timespec at_once = {0};

                if (syscall(SYS_ppoll, &watched, 1, &at_once, NULL, 0) > 0)
                        atomic_store(&link->mediator_gone, 1);
        }
        return atomic_load(&link->mediator_gone) != 0 ? -EPIPE : 0;
}
