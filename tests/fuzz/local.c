/* Both sides of the local socket: any first message of a program to the mediator, and any welcome of a mediator to a
 * program, which is then gone.
 *
 * Input: u8 side and form; of a welcome then u8 how many descriptors, then the message as changes of a good one. */
#include "fuzz.h"
#include "glue_internal.h"
#include "ivgpu/fd_pass.h"
#include "ivgpu/server.h"
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define FINGERPRINT 0x1122334455667788ull

/* Overlays what the input has, byte by byte, upon a good message; returns its length. */
static size_t form_message(struct fuzz_input *input, uint32_t form, uint8_t *message, size_t good, size_t room)
{
        if (form & 1) { /* some bytes changed */
                for (uint32_t i = 0; i < 16 && input->left > 0; i++)
                        message[fuzz_take_number(input, 1) % good] = (uint8_t)fuzz_take_number(input, 1);
                return form & 2 ? fuzz_take_number(input, 2) % room : good;
        }
        good = input->left < room ? input->left : room;
        fuzz_take(input, message, good);
        return good;
}

static void hello(struct fuzz_input *input, uint32_t form, int pair[2])
{
        struct ivg_local_hello good = {
                .magic = IVG_LOCAL_MAGIC, .layout_version = IVG_LAYOUT_VERSION, .call_table_fingerprint = FINGERPRINT};
        uint8_t message[512] = {0}, answer[512];
        struct ivg_error error = {.text = ""};
        struct ucred peer = {0};
        const int extra = form & 4 ? eventfd(0, EFD_CLOEXEC) : -1;
        const int before = dup(pair[0]);
        size_t bytes;
        int rc, after;

        memcpy(message, &good, sizeof(good));
        bytes = form_message(input, form, message, sizeof(good), sizeof(message));
        if (form & 8)
                MUST(shutdown(pair[1], SHUT_WR) == 0, "shutdown");
        else if (bytes)
                (void)ivg_fds_send(pair[1], message, bytes, &extra, extra >= 0);
        rc = ivg_local_receive_hello(pair[0], FINGERPRINT, &peer, &error);
        MUST(rc <= 0, "%d", rc);
        MUST(rc != 0 || (bytes == sizeof(good) && memcmp(message, &good, sizeof(good)) == 0), "a wrong hello passed");
        MUST(rc == 0 || error.text[0], "refused without words");
        if (rc == -EPROTO) {
                const ssize_t got = recv(pair[1], answer, sizeof(answer), MSG_DONTWAIT);

                MUST(got == (ssize_t)sizeof(struct ivg_local_welcome), "a refusal of %zd bytes", got);
        }
        close(before);
        after = dup(pair[0]);
        MUST(after == before, "a descriptor stayed: %d, %d before", after, before);
        close(after);
        if (extra >= 0)
                close(extra);
}

static void greet(struct fuzz_input *input, uint32_t form)
{
        struct ivg_doorbells doorbells;
        struct ivg_error error = {.text = ""};
        const uint32_t vectors = 2 + (uint32_t)fuzz_take_number(input, 1) % 64;
        const uint32_t read_first = (uint32_t)fuzz_take_number(input, 1) % 8;
        const int memfd = memfd_create("fuzz", MFD_CLOEXEC);
        int pair[2], rc;

        MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0, "pair");
        MUST(ivg_doorbells_create(&doorbells, vectors, &error) == 0, "%s", error.text);
        if (form & 1) {
                const int small = 1 << (form % 16);

                (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
        }
        for (uint32_t i = 0; i < read_first; i++) /* QEMU never says anything: nobody may be disturbed by it */
                (void)!write(pair[1], "nonsense", 8);
        if (form & 2)
                close(pair[1]);
        rc = ivg_ivshmem_greet(pair[0], memfd, &doorbells, &error);
        MUST(rc <= 0, "%d", rc);
        MUST(!(form & 2) || rc < 0, "greeted nobody");
        if (!(form & 2))
                close(pair[1]);
        close(pair[0]);
        close(memfd);
        ivg_doorbells_close(&doorbells);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct fuzz_input input = {data, size};
        const uint32_t form = (uint32_t)fuzz_take_number(&input, 1);
        int pair[2];

        if (form & 128) {
                greet(&input, form);
                return 0;
        }
        MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0, "pair");
        hello(&input, form, pair);
        close(pair[0]);
        close(pair[1]);
        return 0;
}
