/* The local transport: a mediator on this machine hands out a region of one channel over a UNIX socket.
 *
 * Opening: connect, hello, welcome with four descriptors, full check of the region, then the guest driver's part: boot
 * epoch, claim of channel 0, wait for READY. Afterwards the socket carries nothing; its hang-up is the mediator's end,
 * and ours for the mediator. */
#include "ivgpu/fd_pass.h"
#include "ivgpu/server.h"
#include "link_internal.h"
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

/* How old an answer about the socket may be before the kernel is asked again. */
#define SOCKET_CHECK_NS (5 * IVG_NS_PER_MS)
#define CONNECT_RETRY_NS IVG_NS_PER_MS

enum { FD_REGION, FD_CONTROL, FD_DOORBELL, FD_INTERRUPT, FDS };
_Static_assert((uint32_t)FDS <= IVG_FDS_PER_MESSAGE_MAX, "a welcome brings these");

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

static int socket_connect(struct ivg_link *link, const char *path, struct ivg_link_request *request)
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
        /* A full backlog answers EAGAIN at once; the mediator accepts on its loop's next turn. */
        for (;;) {
                rc = connect(link->socket_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
                if ((rc != -EAGAIN && rc != -EINTR) || ivg_now_ns() >= request->deadline_ns)
                        break;
                ivg_sleep_ns(CONNECT_RETRY_NS);
        }
        if (rc == -ENOENT || rc == -ENOTDIR)
                ivg_error_set(request->error, "absent: no mediator has made this socket");
        else if (rc == -ECONNREFUSED)
                ivg_error_set(request->error, "refused: the socket is there, no mediator listens");
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

static int welcome_check(struct ivg_local_welcome *welcome, long bytes, uint32_t fd_count,
                         struct ivg_link_request *request)
{
        struct ivg_error *error = request->error;

        if (bytes != (long)sizeof(*welcome)) {
                ivg_error_set(error, "welcome of %ld bytes, expected %zu", bytes, sizeof(*welcome));
                return -EPROTO;
        }
        welcome->text[sizeof(welcome->text) - 1] = '\0';
        if (welcome->magic != IVG_LOCAL_MAGIC) {
                ivg_error_set(error, "welcome magic %08x, expected %08x", welcome->magic, IVG_LOCAL_MAGIC);
                return -EPROTO;
        }
        if (welcome->code != IVG_ERROR_NONE) {
                request->code = (enum ivg_error_code)welcome->code;
                ivg_error_set(error, "mediator refused: %s: %s", ivg_error_code_name(request->code), welcome->text);
                return -ECONNABORTED;
        }
        if (welcome->layout_version != IVG_LAYOUT_VERSION) {
                ivg_error_set(error, "layout version: mediator has %u, this program has %u", welcome->layout_version,
                              IVG_LAYOUT_VERSION);
                return -EPROTO;
        }
        if (welcome->call_table_fingerprint != request->call_table_fingerprint) {
                ivg_error_set(error, "call table fingerprint: mediator has %016llx, this program has %016llx",
                              (unsigned long long)welcome->call_table_fingerprint,
                              (unsigned long long)request->call_table_fingerprint);
                return -EPROTO;
        }
        if (fd_count != FDS) {
                ivg_error_set(error, "welcome with %u descriptors, expected %d", fd_count, FDS);
                return -EPROTO;
        }
        return 0;
}

static int welcome_receive(struct ivg_link *link, struct ivg_local_welcome *welcome, struct ivg_link_request *request)
{
        int fds[IVG_FDS_PER_MESSAGE_MAX] = {-1, -1, -1, -1};
        uint32_t fd_count = 0;
        long bytes;
        int rc = socket_wait(link->socket_fd, request->deadline_ns);

        if (rc == -ETIMEDOUT) {
                request->code = IVG_ERROR_TIMEOUT;
                ivg_error_set(request->error, "no welcome from the mediator in time");
                return rc;
        }
        if (rc < 0) {
                ivg_error_set(request->error, "waiting for the welcome: %s", strerror(-rc));
                return rc;
        }
        bytes = ivg_fds_receive(link->socket_fd, welcome, sizeof(*welcome), fds, &fd_count);
        if (bytes == 0 || bytes == -ECONNRESET) {
                ivg_error_set(request->error, "the mediator closed the connection without a welcome");
                return -EPIPE;
        }
        if (bytes < 0) {
                ivg_error_set(request->error, "welcome: %s", strerror((int)-bytes));
                return (int)bytes;
        }
        /* Owned by the link from here on, right or wrong: its end closes them. */
        link->region_fd = fds[FD_REGION];
        link->control_fd = fds[FD_CONTROL];
        link->doorbell_fd = fds[FD_DOORBELL];
        link->interrupt_fd = fds[FD_INTERRUPT];
        for (uint32_t i = FDS; i < fd_count; i++)
                close(fds[i]);
        return welcome_check(welcome, bytes, fd_count, request);
}

static int region_attach(struct ivg_link *link, const struct ivg_local_welcome *welcome,
                         struct ivg_link_request *request)
{
        const int seals = fcntl(link->region_fd, F_GET_SEALS);
        int rc;

        if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
                ivg_error_set(request->error, "region: its file is not sealed against shrinking");
                return -EPROTO;
        }
        rc = ivg_region_check_fd(link->region_fd, request->call_table_fingerprint, &link->region, request->error);
        if (rc == 0 && link->region.region_bytes != welcome->region_bytes) {
                ivg_error_set(request->error, "%llu bytes, the welcome said %llu",
                              (unsigned long long)link->region.region_bytes, (unsigned long long)welcome->region_bytes);
                rc = -EPROTO;
        }
        if (rc == 0)
                rc = ivg_region_map(&link->region, link->region_fd, IVG_SIDE_GUEST, 0, request->error);
        if (rc < 0)
                ivg_error_prefix(request->error, "region");
        return rc;
}

/* The interrupt eventfd is drained by whoever leads; a second reader must never block on it. */
static int eventfds_prepare(struct ivg_link *link, struct ivg_link_request *request)
{
        const int flags = fcntl(link->interrupt_fd, F_GETFL);

        if (flags < 0 || fcntl(link->interrupt_fd, F_SETFL, flags | O_NONBLOCK) < 0) {
                ivg_error_set(request->error, "interrupt eventfd: %s", strerror(errno));
                return -errno;
        }
        return 0;
}

static int local_open(struct ivg_link *link, const char *path, struct ivg_link_request *request)
{
        struct ivg_local_welcome welcome;
        uint64_t epoch;
        int rc = socket_connect(link, path, request);

        if (rc == 0)
                rc = hello_send(link, request);
        if (rc == 0)
                rc = welcome_receive(link, &welcome, request);
        if (rc == 0)
                rc = eventfds_prepare(link, request);
        if (rc == 0)
                rc = region_attach(link, &welcome, request);
        if (rc < 0)
                return rc;
        if (getrandom(&epoch, sizeof(epoch), 0) != sizeof(epoch)) {
                ivg_error_set(request->error, "boot epoch: getrandom: %s", strerror(errno));
                return -EIO;
        }
        /* B1, release: the mediator, which reads it when control rings, finds only words of this boot after it. */
        ivg_store_release_u64(&ivg_region_guest_pages(&link->region)->boot_epoch, epoch | 1);
        link->channel = 0;
        ivg_link_channel_claim(link);
        return ivg_link_channel_wait_ready(link, request);
}

static void eventfd_ring(int fd)
{
        const uint64_t one = 1;

        /* Fails only when the counter is about to overflow: then it is non-zero, which is all a doorbell says. Raw: a
         * cancellation point here would leave a committed record without its doorbell. */
        (void)!syscall(SYS_write, fd, &one, sizeof(one));
}

static void local_ring_control(struct ivg_link *link)
{
        eventfd_ring(link->control_fd);
}

static void local_ring_channel(struct ivg_link *link)
{
        eventfd_ring(link->doorbell_fd);
}

static int local_alive(struct ivg_link *link)
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

/* Extents stay marked: the region ends with this channel, and the executor may still be reading. */
static void local_close(struct ivg_link *link, bool in_order)
{
        if (in_order)
                ivg_link_channel_close(link);
}

const struct ivg_link_transport ivg_link_transport_local = {
        .scheme = "local",
        .has_interrupts = true,
        .open = local_open,
        .ring_control = local_ring_control,
        .ring_channel = local_ring_channel,
        .alive = local_alive,
        .close = local_close,
};
