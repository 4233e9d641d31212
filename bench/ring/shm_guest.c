/* --shm: producers in a guest, the consumer on its host (shm_host.c), over a link as any program of the guest has. */
#include "link_internal.h"
#include "ours.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define WAIT_MS 20000u /* for the host: beyond any delay of an emulated machine */

static struct {
        struct ivg_link *link;
        uint8_t *memory; /* SHM_EXTENTS of the arena */
        uint64_t arena_offset;
        struct ours ours;
        struct ivg_ring ring;
        struct ivg_producer producer; /* for what is said between runs */
} shm;

struct awaited {
        const struct ivg_producer *producer;
        uint64_t number;
};

static bool has_come(void *argument)
{
        const struct awaited *awaited = argument;

        return ivg_load_seq_cst_u64(&awaited->producer->mailbox->sequence) == awaited->number;
}

static void wake_consumer(struct ours *ours)
{
        ivg_link_doorbell(ours->way);
}

static void producer_sleep(struct ours *ours, uint32_t index, struct ivg_producer *producer, uint64_t number)
{
        struct awaited awaited = {producer, number};
        const int rc = ivg_link_wait(ours->way, has_come, &awaited, WAIT_MS);

        if (rc != 0)
                bench_die("producer %u: no answer from the host: %s", index, strerror(-rc));
}

/* Says something between runs and waits for the host's word. */
static void tell(enum bench_opcode opcode, const void *message, uint32_t bytes)
{
        struct awaited awaited = {&shm.producer, shm.producer.sequence};
        struct ivg_record record;
        int rc = ivg_producer_reserve(&shm.producer, bytes, &record);

        if (rc == 0) {
                ivg_record_write(&shm.producer, &record, 0, message, bytes);
                if (ivg_producer_commit(&shm.producer, &record, (uint16_t)opcode))
                        ivg_link_doorbell(shm.link);
                if (!ivg_producer_wait_begin(&shm.producer, awaited.number))
                        rc = ivg_link_wait(shm.link, has_come, &awaited, WAIT_MS);
                ivg_producer_wait_end(&shm.producer);
        }
        if (rc != 0)
                bench_die("the host does not answer: %s", strerror(-rc));
}

static const char *refusal(const struct bench_case *is)
{
        return is->processes ? "processes of a guest have a channel each" : NULL;
}

static const char *open_case(struct bench_run *run)
{
        struct bench_run shared = *run;
        const struct shm_case message = {.sequence = ++shm.producer.sequence,
                                         .arena_offset = shm.arena_offset,
                                         .producers = run->is.producers,
                                         .payload_bytes = run->is.payload_bytes,
                                         .sleeping = run->is.sleeping,
                                         .mailbox = shm.producer.index};

        memset(shm.memory, 0, (size_t)SHM_EXTENTS * IVG_EXTENT_BYTES);
        shared.memory = shm.memory;
        shared.memory_bytes = (size_t)SHM_EXTENTS * IVG_EXTENT_BYTES;
        bench_ours_share(&shared, &shm.ours);
        run->ring = &shm.ours;
        tell(OPCODE_CASE, &message, sizeof(message));
        return NULL;
}

static double floor_line_ns(const struct bench_options *options)
{
        static struct ivg_histogram groups_ns;
        _Atomic(uint64_t) *words = (_Atomic(uint64_t) *)(void *)shm.memory;
        const struct shm_floor message = {.sequence = ++shm.producer.sequence,
                                          .arena_offset = shm.arena_offset,
                                          .rounds = bench_floor_rounds(options),
                                          .mailbox = shm.producer.index};

        ivg_histogram_clear(&groups_ns);
        memset(shm.memory, 0, (size_t)BENCH_FLOOR_LINES * IVG_PAGE_BYTES);
        bench_pin(options->processors[0]);
        tell(OPCODE_FLOOR, &message, sizeof(message));
        bench_floor_call(words, message.rounds, options->ns_per_tick, &groups_ns);
        return bench_group_percentile_ns(&groups_ns, 50);
}

static const struct bench_peer remote = {
        .name = "ivgpu", .is_ours = true, .refusal = refusal, .open = open_case, .produce = bench_ours_produce};

static void claim_memory(void)
{
        const struct ivg_region *region = ivg_link_region(shm.link);
        uint8_t *window = NULL;
        uint32_t first;
        int rc = -EEXIST;

        for (uint32_t i = 0; i < IVG_WINDOW_ATTEMPTS_MAX && rc == -EEXIST; i++) {
                window = ivg_region_window_candidate(region, i);
                rc = ivg_link_map_arena(shm.link, window);
        }
        if (rc == 0)
                rc = ivg_link_extents_claim(shm.link, SHM_EXTENTS, &first);
        if (rc != 0)
                bench_die("no memory of the arena: %s", strerror(-rc));
        shm.arena_offset = (uint64_t)first * IVG_EXTENT_BYTES;
        shm.memory = window + shm.arena_offset;
}

static void close_link(void)
{
        if (shm.producer.ring)
                ivg_producer_close(&shm.producer);
        ivg_link_shutdown(shm.link);
}

/* A node of our driver, or what IVGPU_CHANNEL takes; sysfs:FOLDER/DEVICE too, with a folder in the place of the
 * kernel's. */
static int open_link(const char *place, enum ivg_error_code *code, struct ivg_error *error)
{
        const char *device = strrchr(place, '/');
        char channel[256], folder[256];
        const struct ivg_link_places places = {
                .forced = channel,
                .sysfs_root = folder,
                .open_ms = WAIT_MS,
        };

        if (strncmp(place, "sysfs:", 6) == 0 && device != NULL) {
                snprintf(channel, sizeof(channel), "sysfs:%s", device + 1);
                snprintf(folder, sizeof(folder), "%.*s", (int)(device - place - 6), place + 6);
                return ivg_link_open_at(&places, SHM_FINGERPRINT, &shm.link, code, error);
        }
        snprintf(channel, sizeof(channel), "%s%s", place[0] == '/' ? "driver:" : "", place);
        setenv("IVGPU_CHANNEL", channel, 1);
        return ivg_link_open(SHM_FINGERPRINT, &shm.link, code, error);
}

const struct bench_peer *bench_shm_open(const char *place, struct bench_options *options)
{
        enum ivg_error_code code;
        struct ivg_error error = {""};
        const struct ivg_region *region;
        uint32_t index;

        if (open_link(place, &code, &error) != 0)
                bench_die("%s (%s)", error.text, ivg_error_code_name(code));
        region = ivg_link_region(shm.link);
        index = ivg_link_channel(shm.link);
        shm.ours = (struct ours){.guest = ivg_region_ring_guest(region, index),
                                 .host = ivg_region_ring_host(region, index),
                                 .generation = ivg_link_generation(shm.link),
                                 .wake_consumer = wake_consumer,
                                 .producer_sleep = producer_sleep,
                                 .way = shm.link};
        if (ivg_ring_init(&shm.ring, shm.ours.guest, shm.ours.host, shm.ours.generation) != 0 ||
            ivg_producer_open(&shm.ring, BENCH_PRODUCERS_MAX + 1, &shm.producer) != 0)
                bench_die("the ring does not open");
        atexit(close_link);
        claim_memory();
        options->floor_line_ns = floor_line_ns;
        printf("over %s\n", ivg_link_name(shm.link));
        return &remote;
}
