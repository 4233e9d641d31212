/* --serve: the host's half of a measurement between a guest and its host. One thread does what a mediator does (region,
 * doorbells, heartbeat, channel states), another is the consumer of the one channel that is measured. */
#include "ivgpu/server.h"
#include "ours.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define REGION_BYTES (256ull << 20)

struct host {
        struct bench_options options;
        int memfd, qemu;
        struct ivg_doorbells doorbells;
        struct ivg_region region;   /* as the mediator sees it */
        struct ivg_region executor; /* as an executor does: its channel's guest part can be formatted */
        uint8_t *arena;
        bool busy; /* a channel is served */
        uint32_t channel;
        pthread_t consumer;
        struct ours ours;
        _Atomic(uint32_t) stop;
};

/* ---- the consumer's thread ---- */

static uint32_t vector_of(const struct host *host)
{
        return 1 + host->channel % (SHM_VECTORS - 1);
}

static void consumer_sleep(struct ours *ours)
{
        const struct host *host = ours->way;
        struct pollfd doorbell = {.fd = host->doorbells.to_host[vector_of(host)], .events = POLLIN};
        uint64_t count;

        while (poll(&doorbell, 1, -1) < 0 && errno == EINTR)
                ;
        if (read(doorbell.fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
                bench_die("no doorbell could be waited for: %s", strerror(errno));
        if (ivg_load_acquire_u32(&host->stop) != 0) /* pairs with channel_end */
                pthread_exit(NULL);
}

static void wake_producer(struct ours *ours, uint32_t producer)
{
        const struct host *host = ours->way;
        _Atomic(uint64_t) *interrupts = &ivg_region_host_pages(&host->region)->channels[host->channel].interrupts;
        const uint64_t one = 1;

        (void)producer; /* one interrupt serves all who sleep */
        /* As ivg_exec_interrupt: the guest's driver wakes nobody whose count has not moved. This thread alone writes
         * it. */
        ivg_store_release_u64(interrupts, ivg_load_relaxed_u64(interrupts) + 1);
        if (write(host->doorbells.to_guest[vector_of(host)], &one, sizeof(one)) < 0 && errno != EAGAIN)
                bench_die("the guest could not be interrupted: %s", strerror(errno));
}

static void answer(struct host *host, uint32_t mailbox, uint64_t sequence)
{
        if (ivg_consumer_answer(&host->ours.consumer, mailbox, sequence, 0, NULL, 0) == 1)
                wake_producer(&host->ours, 0);
}

/* The guest is whoever started this bench there; still, nothing outside the arena is touched for it. */
static uint8_t *arena_at(const struct host *host, uint64_t offset)
{
        const uint64_t bytes = (uint64_t)SHM_EXTENTS * IVG_EXTENT_BYTES;

        if (offset > host->region.arena_bytes || bytes > host->region.arena_bytes - offset ||
            offset % IVG_EXTENT_BYTES != 0)
                bench_die("the guest names memory outside the arena: offset %llu", (unsigned long long)offset);
        return host->arena + offset;
}

static void serve_case(struct host *host, const struct shm_case *told)
{
        static const struct bench_peer peer = {.name = "ivgpu"};
        struct bench_run run = {.is = {.peer = &peer,
                                       .sleeping = told->sleeping != 0,
                                       .producers = told->producers,
                                       .payload_bytes = told->payload_bytes},
                                .ring = &host->ours,
                                .memory = arena_at(host, told->arena_offset),
                                .memory_bytes = (size_t)SHM_EXTENTS * IVG_EXTENT_BYTES};
        struct bench_worker *worker = aligned_alloc(128, (sizeof(*worker) + 127) / 128 * 128);

        if (told->producers < 1 || told->producers > BENCH_PRODUCERS_MAX || told->payload_bytes < 8 ||
            told->payload_bytes > BENCH_PAYLOAD_MAX)
                bench_die("the guest asks for %u producers and %u bytes", told->producers, told->payload_bytes);
        if (!worker)
                bench_die("out of memory");
        memset(worker, 0, sizeof(*worker));
        worker->run = &run;
        worker->payload = aligned_alloc(4096, BENCH_PAYLOAD_MAX);
        if (!worker->payload)
                bench_die("out of memory");
        bench_ours_share(&run, &host->ours);
        answer(host, told->mailbox, told->sequence);
        bench_ours_consume(worker);
        free(worker->payload);
        free(worker);
}

static void serve_floor(struct host *host, const struct shm_floor *told)
{
        _Atomic(uint64_t) *words = (_Atomic(uint64_t) *)(void *)arena_at(host, told->arena_offset);

        answer(host, told->mailbox, told->sequence);
        bench_floor_answer(words, told->rounds);
}

static void serve_record(struct host *host, const struct ivg_taken_record *record)
{
        struct shm_case told_case;
        struct shm_floor told_floor;

        switch (record->opcode) {
        case OPCODE_CASE:
                memcpy(&told_case, record->payload, sizeof(told_case));
                serve_case(host, &told_case);
                break;
        case OPCODE_FLOOR:
                memcpy(&told_floor, record->payload, sizeof(told_floor));
                serve_floor(host, &told_floor);
                break;
        default:
                bench_die("the guest sends opcode %u between runs", record->opcode);
        }
}

static void *consume(void *argument)
{
        struct host *host = argument;
        struct ivg_batch *batch = aligned_alloc(64, sizeof(*batch));

        if (!batch)
                bench_die("out of memory");
        pthread_cleanup_push(free, batch);
        bench_pin(host->options.processors[1]);
        for (;;) {
                const int count = ivg_consumer_take(&host->ours.consumer, batch);

                if (count < 0)
                        bench_die("take failed: %d", count);
                for (int i = 0; i < count; i++) /* one: the guest waits for its answer */
                        serve_record(host, &batch->records[i]);
                if (count != 0)
                        continue;
                if (ivg_consumer_sleep_begin(&host->ours.consumer))
                        consumer_sleep(&host->ours);
                ivg_consumer_sleep_end(&host->ours.consumer);
        }
        pthread_cleanup_pop(1);
        return NULL;
}

/* ---- the mediator's part ---- */

static void channel_begin(struct host *host, uint32_t channel, uint32_t generation)
{
        struct ivg_error error = {""};

        if (ivg_region_check_fd(host->memfd, SHM_FINGERPRINT, &host->executor, &error) < 0 ||
            ivg_region_map(&host->executor, host->memfd, IVG_SIDE_HOST_EXECUTOR, channel, &error) < 0)
                bench_die("channel %u: %s", channel, error.text);
        host->channel = channel;
        host->ours = (struct ours){.guest = ivg_region_ring_guest(&host->executor, channel),
                                   .host = ivg_region_ring_host(&host->executor, channel),
                                   .generation = generation,
                                   .consumer_sleep = consumer_sleep,
                                   .wake_producer = wake_producer,
                                   .way = host};
        ivg_store_relaxed_u32(&host->stop, 0); /* before the thread starts */
        ivg_ring_format(host->ours.guest, 0);
        if (ivg_consumer_open(&host->ours.consumer, host->ours.guest, host->ours.host, generation, 0) != 0 ||
            pthread_create(&host->consumer, NULL, consume, host) != 0)
                bench_die("channel %u does not open", channel);
        host->busy = true;
}

static void channel_end(struct host *host)
{
        const uint64_t one = 1;

        ivg_consumer_close(&host->ours.consumer, IVG_RING_CLOSED, IVG_FAULT_NONE, 0);
        ivg_store_release_u32(&host->stop, 1); /* pairs with consumer_sleep */
        if (write(host->doorbells.to_host[vector_of(host)], &one, sizeof(one)) < 0)
                bench_die("the consumer could not be woken: %s", strerror(errno));
        pthread_join(host->consumer, NULL);
        ivg_region_unmap(&host->executor);
        host->busy = false;
}

static void epoch_serve(struct host *host)
{
        struct ivg_host_pages *pages = ivg_region_host_pages(&host->region);
        const uint64_t epoch = ivg_load_acquire_u64(&ivg_region_guest_pages(&host->region)->boot_epoch);

        if (epoch != ivg_load_relaxed_u64(&pages->epoch_seen)) /* own word */
                ivg_store_release_u64(&pages->epoch_seen, epoch);
}

static void channel_serve(struct host *host, uint32_t channel)
{
        _Atomic(uint64_t) *state = &ivg_region_host_pages(&host->region)->channels[channel].state;
        const uint64_t guest = ivg_load_acquire_u64(&ivg_region_guest_pages(&host->region)->channels[channel].state);
        const uint64_t word = ivg_load_relaxed_u64(state); /* own word */
        const uint32_t generation = ivg_channel_word_generation(word);

        if (ivg_channel_word_generation(guest) != generation)
                return;
        if (ivg_channel_word_state(guest) == IVG_GUEST_CHANNEL_OPEN &&
            ivg_channel_word_state(word) == IVG_HOST_CHANNEL_FREE && !host->busy) {
                channel_begin(host, channel, generation);
                ivg_store_release_u64(state, ivg_channel_word(generation, IVG_HOST_CHANNEL_READY));
        } else if (ivg_channel_word_state(guest) == IVG_GUEST_CHANNEL_CLOSED) {
                if (host->busy && host->channel == channel)
                        channel_end(host);
                ivg_store_release_u64(state, ivg_channel_word(generation + 1, IVG_HOST_CHANNEL_FREE));
        } else {
                return;
        }
        for (uint32_t i = 1; i < SHM_VECTORS; i++) {
                const uint64_t one = 1;

                if (write(host->doorbells.to_guest[i], &one, sizeof(one)) < 0 && errno != EAGAIN)
                        bench_die("the guest could not be interrupted: %s", strerror(errno));
        }
}

/* Until QEMU's socket ends. A guest that ends in the middle of a run leaves the consumer waiting for records: the end
 * of QEMU then ends this process. */
static void serve_qemu(struct host *host)
{
        struct pollfd watched[2] = {{.fd = host->qemu, .events = POLLIN},
                                    {.fd = host->doorbells.to_host[0], .events = POLLIN}};
        _Atomic(uint64_t) *heartbeat = &ivg_region_host_pages(&host->region)->heartbeat;
        uint64_t rings;

        for (;;) {
                if (poll(watched, 2, (int)IVG_HEARTBEAT_MS) < 0 && errno != EINTR)
                        bench_die("poll failed: %s", strerror(errno));
                ivg_store_relaxed_u64(heartbeat, ivg_load_relaxed_u64(heartbeat) + 1); /* a count alone */
                if (watched[0].revents != 0)
                        return;
                if (watched[1].revents != 0 && read(host->doorbells.to_host[0], &rings, sizeof(rings)) < 0)
                        continue;
                epoch_serve(host);
                for (uint32_t i = 0; i < host->region.channel_count; i++)
                        channel_serve(host, i);
        }
}

static void open_region(struct host *host, const char *socket, int *listener)
{
        const struct ivg_region_config config = {.region_bytes = REGION_BYTES,
                                                 .channel_count = SHM_CHANNELS,
                                                 .vector_count = SHM_VECTORS,
                                                 .vm_id = 1,
                                                 .vm_name = "ring-bench",
                                                 .call_table_fingerprint = SHM_FINGERPRINT};
        struct ivg_error error = {""};

        if (ivg_region_create(&config, &host->memfd, &error) < 0 ||
            ivg_region_check_fd(host->memfd, SHM_FINGERPRINT, &host->region, &error) < 0 ||
            ivg_region_map(&host->region, host->memfd, IVG_SIDE_HOST_MEDIATOR, 0, &error) < 0 ||
            ivg_doorbells_create(&host->doorbells, SHM_VECTORS, &error) < 0)
                bench_die("%s", error.text);
        host->arena = mmap(NULL, host->region.arena_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, host->memfd,
                           (off_t)host->region.arena_offset);
        if (host->arena == MAP_FAILED)
                bench_die("the arena cannot be mapped: %s", strerror(errno));
        *listener = ivg_server_listen(socket, 0600, SOCK_STREAM, &error);
        if (*listener < 0)
                bench_die("%s", error.text);
}

void bench_shm_serve(const char *socket, const struct bench_options *options)
{
        static struct host host;
        struct ivg_error error = {""};
        struct pollfd waiting = {.events = POLLIN};

        host.options = *options;
        open_region(&host, socket, &waiting.fd);
        printf("serving one QEMU at %s with %u vectors\n", socket, SHM_VECTORS);
        fflush(stdout);
        while (poll(&waiting, 1, -1) < 0 && errno == EINTR)
                ;
        host.qemu = accept(waiting.fd, NULL, NULL);
        if (host.qemu < 0 || ivg_ivshmem_greet(host.qemu, host.memfd, &host.doorbells, &error) < 0)
                bench_die("greeting: %s", error.text);
        serve_qemu(&host);
        unlink(socket);
        if (host.busy)
                bench_die("QEMU ended in the middle of a run");
        exit(0);
}
