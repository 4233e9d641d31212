/* The mediator's side of a local attach: one hello in, one welcome or refusal out. */
#include "glue_internal.h"
#include "ivgpu/fd_pass.h"
#include "ivgpu/server.h"
#include <string.h>
#include <sys/socket.h>

static int hello_refuse(int socket, enum ivg_error_code code, struct ivg_error *error)
{
        ivg_local_send_refusal(socket, code, error->text);
        return -EPROTO;
}

int ivg_local_receive_hello(int socket, uint64_t call_table_fingerprint, struct ucred *peer, struct ivg_error *error)
{
        struct ivg_error words; /* the refusal needs them even when the caller does not */
        struct ivg_local_hello hello;
        socklen_t peer_bytes = sizeof(*peer);
        ssize_t received;

        if (error == NULL)
                error = &words;
        /* Without room for control data the kernel drops any descriptors the client sends: none can leak to us. */
        do {
                received = recv(socket, &hello, sizeof(hello), MSG_DONTWAIT | MSG_TRUNC);
        } while (received < 0 && errno == EINTR);
        if (received < 0) {
                ivg_error_set(error, "hello: %s", strerror(errno));
                return -errno;
        }
        if (received == 0) {
                ivg_error_set(error, "hello: the client closed the connection");
                return -EPIPE;
        }
        if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, peer, &peer_bytes) < 0) {
                ivg_error_set(error, "hello: SO_PEERCRED: %s", strerror(errno));
                return -errno;
        }
        if (received != (ssize_t)sizeof(hello)) {
                ivg_error_set(error, "hello of %zd bytes, expected %zu", received, sizeof(hello));
                return hello_refuse(socket, IVG_ERROR_INVALID_LENGTH, error);
        }
        if (hello.magic != IVG_LOCAL_MAGIC) {
                ivg_error_set(error, "hello magic %08x, expected %08x", hello.magic, IVG_LOCAL_MAGIC);
                return hello_refuse(socket, IVG_ERROR_INVALID_REQUEST, error);
        }
        if (hello.layout_version != IVG_LAYOUT_VERSION) {
                ivg_error_set(error, "layout version: program has %u, mediator has %u", hello.layout_version,
                              IVG_LAYOUT_VERSION);
                return hello_refuse(socket, IVG_ERROR_INVALID_REQUEST, error);
        }
        if (hello.call_table_fingerprint != call_table_fingerprint) {
                ivg_error_set(error, "call table fingerprint: program has %016llx, mediator has %016llx",
                              (unsigned long long)hello.call_table_fingerprint,
                              (unsigned long long)call_table_fingerprint);
                return hello_refuse(socket, IVG_ERROR_INVALID_REQUEST, error);
        }
        return 0;
}

int ivg_local_send_welcome(int socket, int memfd, int control_eventfd, int doorbell_eventfd, int interrupt_eventfd,
                           uint64_t region_bytes, struct ivg_error *error)
{
        const int fds[] = {memfd, control_eventfd, doorbell_eventfd, interrupt_eventfd};
        struct ivg_local_welcome welcome = {
                .magic = IVG_LOCAL_MAGIC,
                .code = IVG_ERROR_NONE,
                .layout_version = IVG_LAYOUT_VERSION,
                .region_bytes = region_bytes,
        };
        uint64_t *fingerprint = &welcome.call_table_fingerprint;
        int rc;

        /* The value in the region itself, so that welcome and region cannot disagree. */
        if (pread(memfd, fingerprint, sizeof(*fingerprint), offsetof(struct ivg_region_page, call_table_fingerprint)) !=
            (ssize_t)sizeof(*fingerprint)) {
                ivg_error_set(error, "welcome: reading the region page: %s", strerror(errno));
                return -EIO;
        }
        rc = ivg_fds_send(socket, &welcome, sizeof(welcome), fds, sizeof(fds) / sizeof(fds[0]));
        if (rc < 0)
                ivg_error_set(error, "welcome: %s", strerror(-rc));
        return rc;
}

int ivg_local_send_refusal(int socket, enum ivg_error_code code, const char *text)
{
        struct ivg_local_welcome welcome = {
                .magic = IVG_LOCAL_MAGIC,
                .code = (uint32_t)code,
                .layout_version = IVG_LAYOUT_VERSION,
        };

        if (code == IVG_ERROR_NONE)
                return -EINVAL; /* would read as a welcome without descriptors */
        snprintf(welcome.text, sizeof(welcome.text), "%s", text);
        return ivg_fds_send(socket, &welcome, sizeof(welcome), NULL, 0);
}
