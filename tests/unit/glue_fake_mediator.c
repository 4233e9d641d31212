#include "glue_fake_mediator.h"
#include "ivgpu/fd_pass.h"
#include "ivgpu/server.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define FAKE_WAIT_MS 10000

/* True when `fd` became readable, false when the test wants the thread to end. */
static bool fake_wait(struct fake_mediator *fake, int fd)
{
        struct pollfd watched[2] = {{.fd = fd, .events = POLLIN}, {.fd = fake->stop, .events = POLLIN}};

        return poll(watched, 2, FAKE_WAIT_MS) > 0 && watched[1].revents == 0;
}

static int unsealed_copy(int memfd)
{
        int copy = memfd_create("unsealed", MFD_CLOEXEC);
        static uint8_t head[4 << 20];

        if (pread(memfd, head, sizeof(head), 0) != (ssize_t)sizeof(head) || ftruncate(copy, TEST_REGION_BYTES) != 0 ||
            pwrite(copy, head, sizeof(head), 0) != (ssize_t)sizeof(head))
                abort();
        return copy;
}

static void fake_welcome(struct fake_mediator *fake)
{
        struct ivg_local_welcome welcome = {
                .magic = fake->behaviour == FAKE_WRONG_MAGIC ? 1 : IVG_LOCAL_MAGIC,
                .layout_version = fake->behaviour == FAKE_WRONG_VERSION ? 42 : IVG_LAYOUT_VERSION,
                .call_table_fingerprint = fake->behaviour == FAKE_WRONG_TABLE ? 5 : TEST_FINGERPRINT,
                .region_bytes = fake->behaviour == FAKE_WRONG_SIZE ? 2 * TEST_REGION_BYTES : TEST_REGION_BYTES,
        };
        const int fds[] = {fake->memfd, fake->control, fake->doorbell, fake->interrupt};

        ivg_fds_send(fake->socket, &welcome, sizeof(welcome) - (fake->behaviour == FAKE_WRONG_LENGTH ? 4 : 0), fds,
                     fake->behaviour == FAKE_NO_DESCRIPTORS ? 0 : 4);
}

/* False: this conversation is over. */
static bool fake_greet(struct fake_mediator *fake)
{
        struct ivg_error error;
        struct ucred peer;

        fake->socket = accept(fake->listener, NULL, NULL);
        if (fake->socket < 0 || !fake_wait(fake, fake->socket) ||
            ivg_local_receive_hello(fake->socket, TEST_FINGERPRINT, &peer, &error) != 0)
                return false;
        switch (fake->behaviour) {
        case FAKE_NO_WELCOME:
                return true;
        case FAKE_END_AT_HELLO:
                shutdown(fake->socket, SHUT_RDWR);
                return false;
        case FAKE_REFUSE:
                ivg_local_send_refusal(fake->socket, IVG_ERROR_RATE_LIMITED, "too many programs");
                return false;
        case FAKE_READY:
                return ivg_local_send_welcome(fake->socket, fake->memfd, fake->control, fake->doorbell, fake->interrupt,
                                              TEST_REGION_BYTES, &error) == 0;
        default:
                fake_welcome(fake);
                return true;
        }
}

static void fake_host_state(struct fake_mediator *fake, uint32_t generation, uint32_t state)
{
        ivg_store_release_u64(&ivg_region_host_pages(&fake->region)->channels[0].state,
                              ivg_channel_word(generation, state));
}

static void fake_channel_opened(struct fake_mediator *fake, uint32_t generation)
{
        struct ivg_host_channel *host = &ivg_region_host_pages(&fake->region)->channels[0];
        _Atomic(uint64_t) *status = &ivg_region_ring_host(&fake->region, 0)->status;

        if (fake->behaviour == FAKE_END_AT_CLAIM) {
                shutdown(fake->socket, SHUT_RDWR);
                return;
        }
        if (fake->behaviour == FAKE_GENERATIONS_FOREVER ||
            (fake->behaviour == FAKE_NEW_GENERATION && generation == 1)) {
                fake_host_state(fake, generation + 1, IVG_HOST_CHANNEL_FREE);
                return;
        }
        fake_host_state(fake, generation, IVG_HOST_CHANNEL_STARTING);
        usleep(2000);
        if (fake->behaviour == FAKE_NEVER_READY)
                return;
        if (fake->behaviour == FAKE_FAIL) {
                ivg_store_relaxed_u32(&host->reason, IVG_ERROR_INVALID_POOL);
                fake_host_state(fake, generation, IVG_HOST_CHANNEL_FAILED);
                return;
        }
        if (fake->behaviour == FAKE_UNKNOWN_STATE) {
                fake_host_state(fake, generation, 77);
                return;
        }
        if (fake->behaviour != FAKE_RING_NOT_OPEN)
                ivg_store_release_u64(status, ivg_channel_word(generation, IVG_RING_OPEN));
        fake_host_state(fake, generation, IVG_HOST_CHANNEL_READY);
}

static void *fake_main(void *arg)
{
        struct fake_mediator *fake = arg;
        uint64_t rings;

        if (!fake_wait(fake, fake->listener) || !fake_greet(fake))
                return NULL;
        while (fake_wait(fake, fake->control)) {
                const struct ivg_guest_pages *guest = ivg_region_guest_pages(&fake->region);
                const uint64_t word = ivg_load_acquire_u64(&guest->channels[0].state);

                if (read(fake->control, &rings, sizeof(rings)) < 0)
                        continue;
                if (ivg_load_acquire_u64(&guest->boot_epoch) == 0)
                        continue; /* the test will miss READY */
                if (ivg_channel_word_state(word) == IVG_GUEST_CHANNEL_OPEN)
                        fake_channel_opened(fake, ivg_channel_word_generation(word));
                else if (ivg_channel_word_state(word) == IVG_GUEST_CHANNEL_CLOSED)
                        atomic_store(&fake->closed_generation, ivg_channel_word_generation(word));
        }
        return NULL;
}

void fake_mediator_start(struct fake_mediator *fake, enum fake_behaviour behaviour)
{
        struct ivg_error error = {""};

        memset(fake, 0, sizeof(*fake));
        fake->behaviour = behaviour;
        fake->socket = -1;
        fake->stop = eventfd(0, EFD_CLOEXEC);
        fake->control = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        fake->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        fake->interrupt = eventfd(0, EFD_CLOEXEC); /* blocking: the link must not rely on our flags */
        fake->memfd = test_region(1, 0);
        if (behaviour == FAKE_UNSEALED) {
                const int copy = unsealed_copy(fake->memfd);

                close(fake->memfd);
                fake->memfd = copy;
        }
        fake->region = test_map(fake->memfd, IVG_SIDE_HOST_MEDIATOR, 0);
        test_directory(fake->directory);
        snprintf(fake->path, sizeof(fake->path), "%s/local.sock", fake->directory);
        fake->listener = ivg_server_listen(fake->path, 0600, SOCK_SEQPACKET, &error);
        if (fake->listener < 0)
                fail_msg("%s", error.text);
        assert_int_equal(pthread_create(&fake->thread, NULL, fake_main, fake), 0);
}

void fake_mediator_die(struct fake_mediator *fake)
{
        const uint64_t one = 1;

        if (fake->joined)
                return;
        assert_int_equal(write(fake->stop, &one, sizeof(one)), sizeof(one));
        assert_int_equal(pthread_join(fake->thread, NULL), 0);
        ivg_close_fd(&fake->listener);
        fake->joined = true;
}

void fake_mediator_stop(struct fake_mediator *fake)
{
        const int socket = atomic_load(&fake->socket);

        fake_mediator_die(fake);
        ivg_region_unmap(&fake->region);
        if (socket >= 0)
                close(socket);
        ivg_close_fd(&fake->stop);
        ivg_close_fd(&fake->memfd);
        ivg_close_fd(&fake->control);
        ivg_close_fd(&fake->doorbell);
        ivg_close_fd(&fake->interrupt);
        unlink(fake->path);
        rmdir(fake->directory);
}

void fake_mediator_hang_up(struct fake_mediator *fake)
{
        shutdown(fake->socket, SHUT_RDWR);
}

struct ivg_link *fake_mediator_link(struct fake_mediator *fake)
{
        char name[128];
        const struct ivg_link_places places = {.forced = name, .sysfs_root = "/nowhere", .open_ms = 10000};
        enum ivg_error_code code;
        struct ivg_error error = {""};
        struct ivg_link *link = NULL;

        snprintf(name, sizeof(name), "local:%s", fake->path);
        if (ivg_link_open_at(&places, TEST_FINGERPRINT, &link, &code, &error) != 0)
                fail_msg("%s (%s)", error.text, ivg_error_code_name(code));
        return link;
}
