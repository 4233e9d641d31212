/* The host's half of the attach test: serves one QEMU with a region and doorbells, moves channel states as a mediator
 * does, and answers doorbells itself where an executor would: it reads a word from the arena and stores its successor
 * as a completion. No executor, no GPU: what is tested is QEMU, the guest kernel's sysfs, and ivshmem-glue on both
 * sides.
 *
 * usage: vm_attach_host SOCKET. Ends with QEMU; exit code 0 and one line of counts if a guest has been served. */
#include "attach.h"
#include "ivgpu/server.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define QEMU_WAIT_MS 60000

struct host {
        int memfd, qemu;
        struct ivg_doorbells doorbells;
        struct ivg_region region;
        uint64_t completions[IVG_CHANNELS_MAX];
        uint32_t epochs, opened, freed, doorbells_answered;
};

static void die(const char *what, const struct ivg_error *error)
{
        fprintf(stderr, "vm_attach_host: %s: %s\n", what, error->text);
        exit(1);
}

static void epoch_serve(struct host *host)
{
        struct ivg_host_pages *pages = ivg_region_host_pages(&host->region);
        const uint64_t epoch = ivg_load_acquire_u64(&ivg_region_guest_pages(&host->region)->boot_epoch);

        if (epoch == ivg_load_relaxed_u64(&pages->epoch_seen))
                return;
        for (uint32_t i = 0; i < host->region.channel_count; i++) {
                const uint64_t word = ivg_load_relaxed_u64(&pages->channels[i].state);

                if (ivg_channel_word_state(word) != IVG_HOST_CHANNEL_FREE)
                        ivg_store_release_u64(
                                &pages->channels[i].state,
                                ivg_channel_word(ivg_channel_word_generation(word) + 1, IVG_HOST_CHANNEL_FREE));
        }
        host->epochs++;
        ivg_store_release_u64(&pages->epoch_seen, epoch);
}

static void channel_serve(struct host *host, uint32_t channel)
{
        _Atomic(uint64_t) *state = &ivg_region_host_pages(&host->region)->channels[channel].state;
        const uint64_t guest = ivg_load_acquire_u64(&ivg_region_guest_pages(&host->region)->channels[channel].state);
        const uint64_t word = ivg_load_relaxed_u64(state);
        const uint32_t generation = ivg_channel_word_generation(word);

        if (ivg_channel_word_generation(guest) != generation)
                return;
        if (ivg_channel_word_state(guest) == IVG_GUEST_CHANNEL_OPEN &&
            ivg_channel_word_state(word) == IVG_HOST_CHANNEL_FREE) {
                host->completions[channel] = 0;
                ivg_store_relaxed_u64(&ivg_region_completions(&host->region, channel)[0], 0);
                ivg_store_release_u64(&ivg_region_ring_host(&host->region, channel)->status,
                                      ivg_channel_word(generation, IVG_RING_OPEN));
                ivg_store_release_u64(state, ivg_channel_word(generation, IVG_HOST_CHANNEL_READY));
                host->opened++;
        } else if (ivg_channel_word_state(guest) == IVG_GUEST_CHANNEL_CLOSED &&
                   ivg_channel_word_state(word) == IVG_HOST_CHANNEL_READY) {
                ivg_store_release_u64(state, ivg_channel_word(generation + 1, IVG_HOST_CHANNEL_FREE));
                host->freed++;
        }
}

/* Channel c's word lies at the start of the first extent it owns. */
static void channel_answer(struct host *host, uint32_t channel)
{
        const struct ivg_guest_pages *guest = ivg_region_guest_pages(&host->region);

        for (uint32_t i = 0; i < host->region.extent_count; i++) {
                uint64_t asked;

                if (ivg_load_acquire_u32(&guest->extent_owner[i]) != channel + 1)
                        continue;
                if (pread(host->memfd, &asked, sizeof(asked),
                          (off_t)(host->region.arena_offset + (uint64_t)i * IVG_EXTENT_BYTES)) != sizeof(asked) ||
                    asked == host->completions[channel])
                        return;
                host->completions[channel] = asked;
                ivg_store_release_u64(&ivg_region_completions(&host->region, channel)[0], asked + ATTACH_ANSWER_ADDS);
                host->doorbells_answered++;
                return;
        }
}

static void vector_serve(struct host *host, uint32_t vector)
{
        const uint32_t channel_vectors = host->region.vector_count - 1;
        uint64_t rings;

        if (read(host->doorbells.to_host[vector], &rings, sizeof(rings)) < 0)
                return;
        if (vector == 0)
                epoch_serve(host);
        for (uint32_t i = 0; i < host->region.channel_count; i++) {
                if (vector == 0)
                        channel_serve(host, i);
                else if (1 + i % channel_vectors == vector)
                        channel_answer(host, i);
        }
}

/* Until QEMU's socket ends; a poll time-out is a heartbeat. */
static void serve(struct host *host)
{
        struct pollfd watched[1 + IVG_VECTORS_MAX] = {{.fd = host->qemu, .events = POLLIN}};
        _Atomic(uint64_t) *heartbeat = &ivg_region_host_pages(&host->region)->heartbeat;

        for (uint32_t i = 0; i < host->doorbells.vector_count; i++)
                watched[1 + i] = (struct pollfd){.fd = host->doorbells.to_host[i], .events = POLLIN};
        for (;;) {
                if (poll(watched, 1 + host->doorbells.vector_count, (int)IVG_HEARTBEAT_MS) < 0 && errno != EINTR)
                        return;
                ivg_store_relaxed_u64(heartbeat, ivg_load_relaxed_u64(heartbeat) + 1);
                if (watched[0].revents != 0)
                        return;
                for (uint32_t i = 0; i < host->doorbells.vector_count; i++) {
                        if (watched[1 + i].revents != 0)
                                vector_serve(host, i);
                }
        }
}

int main(int argc, char **argv)
{
        const struct ivg_region_config config = {.region_bytes = 256ull << 20,
                                                 .channel_count = ATTACH_CHANNELS,
                                                 .vector_count = ATTACH_VECTORS,
                                                 .vm_id = 1,
                                                 .vm_name = "attach",
                                                 .call_table_fingerprint = ATTACH_FINGERPRINT};
        struct host host = {0};
        struct ivg_error error = {""};
        struct pollfd waiting;
        int listener;

        if (argc != 2) {
                fprintf(stderr, "usage: vm_attach_host SOCKET\n");
                return 2;
        }
        if (ivg_region_create(&config, &host.memfd, &error) < 0 ||
            ivg_region_check_fd(host.memfd, ATTACH_FINGERPRINT, &host.region, &error) < 0 ||
            ivg_region_map(&host.region, host.memfd, IVG_SIDE_HOST_MEDIATOR, 0, &error) < 0 ||
            ivg_doorbells_create(&host.doorbells, ATTACH_VECTORS, &error) < 0)
                die("region", &error);
        listener = ivg_server_listen(argv[1], 0600, SOCK_STREAM, &error);
        if (listener < 0)
                die("listen", &error);
        waiting = (struct pollfd){.fd = listener, .events = POLLIN};
        if (poll(&waiting, 1, QEMU_WAIT_MS) != 1) {
                fprintf(stderr, "vm_attach_host: no QEMU within %d ms\n", QEMU_WAIT_MS);
                return 1;
        }
        host.qemu = accept(listener, NULL, NULL);
        if (ivg_ivshmem_greet(host.qemu, host.memfd, &host.doorbells, &error) < 0)
                die("greeting", &error);
        serve(&host);
        unlink(argv[1]);
        printf("host: epochs %u, opened %u, freed %u, doorbells answered %u\n", host.epochs, host.opened, host.freed,
               host.doorbells_answered);
        return host.opened > 0 ? 0 : 1;
}
