/* A guest that owns a channel and writes everything wrong. usage: hostile_guest CASE | --list
 *
 * One case, one process, one channel, opened through the mediator as any program's (IVGPU_CHANNEL). The case says how
 * its channel ends: by the named fault; closed by the mediator; or not at all, and then an honest call still works.
 * --list: a line for each case, "NAME FAULT", with FAULT the number in the executor's and mediator's messages, "closed"
 * or "open". hostile_guest.py runs them beside an honest neighbour and looks at what is left. Exit code 0: as said. */
#include "ivgpu/link.h"
#include "ivgpu/ring.h"
#include "ivgpu_calls.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_NS 20000000000ull /* sanitizers on a busy machine */
#define CONTEXT (IVG_ID_FIRST + 0u)
#define STREAM (IVG_ID_FIRST + 1u)
#define EVENT (IVG_ID_FIRST + 2u)
#define STORM_DOORBELLS 200000u
#define DESCRIPTORS_MAX 256

enum { CLOSED = -1, OPEN = 0 }; /* ends of a channel besides enum ivg_ring_fault's */

static struct guest {
        struct ivg_link *link;
        const struct ivg_region *region;
        struct ivg_ring ring;
        struct ivg_producer producer;
        uint8_t *arena;
        uint64_t memory; /* 4 KiB of the device's */
} g;

#define MUST(condition, ...)                                                   \
        do {                                                                   \
                if (!(condition)) {                                            \
                        fprintf(stderr, "hostile_guest: line %d: ", __LINE__); \
                        fprintf(stderr, __VA_ARGS__);                          \
                        fprintf(stderr, "; must hold: %s\n", #condition);      \
                        exit(1);                                               \
                }                                                              \
        } while (0)

static uint64_t now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* ---- honest words ---- */

static struct ivg_call_header header(uint32_t bytes, bool wants)
{
        return (struct ivg_call_header){.sequence_low = wants ? (uint32_t)++g.producer.sequence : 0,
                                        .context = CONTEXT,
                                        .bytes = (uint16_t)bytes,
                                        .producer = (uint8_t)g.producer.index,
                                        .flags = wants ? IVG_CALL_WANTS_ANSWER : 0};
}

static void send_as_it_is(uint16_t number, const void *request, uint32_t bytes)
{
        struct ivg_record record = {0};

        MUST(ivg_producer_reserve(&g.producer, bytes, &record) == 0, "no room");
        ivg_record_write(&g.producer, &record, 0, request, bytes);
        (void)ivg_producer_commit(&g.producer, &record, number);
        ivg_link_doorbell(g.link);
}

static void call_async(uint16_t number, void *request, uint32_t bytes)
{
        const struct ivg_call_header h = header(bytes, false);

        memcpy(request, &h, sizeof(h));
        send_as_it_is(number, request, bytes);
}

/* The answer, or -1 when the ring has ended before it came. */
static int call(uint16_t number, void *request, uint32_t bytes, void *answer, uint32_t answer_bytes)
{
        const struct ivg_call_header h = header(bytes, true);
        const uint64_t end = now_ns() + PATIENCE_NS;
        struct ivg_answer_header got;
        uint8_t payload[IVG_MAILBOX_PAYLOAD_BYTES];

        memcpy(request, &h, sizeof(h));
        send_as_it_is(number, request, bytes);
        while (!ivg_producer_poll_answer(&g.producer, g.producer.sequence, &got, payload)) {
                if (ivg_ring_state_errno(&g.ring) != 0)
                        return -1;
                MUST(now_ns() < end, "no answer to call %u", number);
                usleep(100);
        }
        if (answer_bytes)
                memcpy(answer, payload, answer_bytes);
        return (int)got.result;
}

static void greet(void)
{
        int result = CUDA_ERROR_ALREADY_MAPPED;

        for (uint32_t attempt = 0; attempt < IVG_WINDOW_ATTEMPTS_MAX && result == CUDA_ERROR_ALREADY_MAPPED;
             attempt++) {
                struct ivg_request_ivgHello request = {
                        .window = (uintptr_t)ivg_region_window_candidate(g.region, attempt), .pid = 1};

                g.arena = (uint8_t *)(uintptr_t)request.window;
                if (ivg_link_map_arena(g.link, g.arena) != 0)
                        continue;
                result = call(IVG_CALL_ivgHello, &request, sizeof(request), NULL, 0);
                if (result == CUDA_ERROR_ALREADY_MAPPED)
                        ivg_link_unmap_arena(g.link);
        }
        MUST(result == CUDA_SUCCESS, "hello: %d", result);
}

static void attach(void)
{
        struct ivg_request_cuDevicePrimaryCtxRetain retain = {.dev = 0, .pctx = CONTEXT};
        struct ivg_request_cuStreamCreateWithPriority stream = {.phStream = STREAM};
        struct ivg_request_cuEventCreate event = {.phEvent = EVENT};
        struct ivg_request_cuMemAlloc_v2 memory = {.bytesize = 4096};
        struct ivg_answer_cuMemAlloc_v2 address = {0};
        struct ivg_error error = {.text = ""};
        enum ivg_error_code code;

        MUST(ivg_link_open(IVG_CALL_TABLE_FINGERPRINT, &g.link, &code, &error) == 0, "%s", error.text);
        g.region = ivg_link_region(g.link);
        MUST(ivg_ring_init(&g.ring, ivg_region_ring_guest(g.region, ivg_link_channel(g.link)),
                           ivg_region_ring_host(g.region, ivg_link_channel(g.link)), ivg_link_generation(g.link)) == 0,
             "ring");
        MUST(ivg_producer_open(&g.ring, 1, &g.producer) == 0, "producer");
        greet();
        MUST(call(IVG_CALL_cuDevicePrimaryCtxRetain, &retain, sizeof(retain), NULL, 0) == 0, "context");
        call_async(IVG_CALL_cuStreamCreateWithPriority, &stream, sizeof(stream));
        call_async(IVG_CALL_cuEventCreate, &event, sizeof(event));
        MUST(call(IVG_CALL_cuMemAlloc_v2, &memory, sizeof(memory), &address, sizeof(address)) == 0, "memory");
        g.memory = address.dptr;
}

static int synchronize(ivg_id stream)
{
        struct ivg_request_cuStreamSynchronize request = {.hStream = stream};

        return call(IVG_CALL_cuStreamSynchronize, &request, sizeof(request), NULL, 0);
}

static struct ivg_request_ivgLaunch launch(void)
{
        struct ivg_request_ivgLaunch request = {
                .stream = STREAM, .grid_x = 1, .grid_y = 1, .grid_z = 1, .block_x = 1, .block_y = 1, .block_z = 1};

        request.header = header(sizeof(request), false);
        return request;
}

static void send_launch(const struct ivg_request_ivgLaunch *request)
{
        send_as_it_is(IVG_CALL_ivgLaunch, request, sizeof(*request));
}

/* ---- slots: commit words, tags, lengths, positions ---- */

/* A record of one slot that is claimed properly, with any commit word. */
static void commit_word(uint32_t slots, uint32_t kind, uint16_t number)
{
        const struct ivg_request_ivgLaunch request = launch();
        struct ivg_record record = {0};

        MUST(ivg_producer_reserve(&g.producer, 16, &record) == 0, "no room");
        ivg_record_write(&g.producer, &record, 0, &request, 16);
        ivg_store_release_u64(&ivg_ring_slot_at(&g.ring, record.position)->commit,
                              ivg_commit_word(record.position, slots, (enum ivg_slot_kind)kind, number));
        ivg_link_doorbell(g.link);
}

static void record_of_no_slots(void)
{
        commit_word(0, IVG_SLOT_DATA, IVG_CALL_ivgLaunch);
}

static void record_of_65_slots(void)
{
        commit_word(65, IVG_SLOT_DATA, IVG_CALL_ivgLaunch);
}

static void skip_of_255_slots(void)
{
        commit_word(255, IVG_SLOT_SKIP, 0);
}

static void slot_of_no_kind(void)
{
        commit_word(1, 9, IVG_CALL_ivgLaunch);
}

static void continuation_without_beginning(void)
{
        commit_word(1, IVG_SLOT_CONT, IVG_CALL_ivgLaunch);
}

static void continuation_of_an_earlier_lap(void)
{
        struct ivg_record record = {0};

        MUST(ivg_producer_reserve(&g.producer, 3 * IVG_SLOT_PAYLOAD_BYTES, &record) == 0, "no room");
        ivg_store_relaxed_u64(&ivg_ring_slot_at(&g.ring, record.position + 1)->commit,
                              ivg_commit_word(record.position + 1, 0, IVG_SLOT_CONT, 0));
        ivg_store_relaxed_u64(&ivg_ring_slot_at(&g.ring, record.position + 2)->commit,
                              ivg_commit_word(record.position + 2 - IVG_RING_SLOTS, 0, IVG_SLOT_CONT, 0));
        ivg_store_release_u64(&ivg_ring_slot_at(&g.ring, record.position)->commit,
                              ivg_commit_word(record.position, 3, IVG_SLOT_DATA, IVG_CALL_ivgLaunch));
        ivg_link_doorbell(g.link);
}

/* ---- call headers ---- */

static void length_below_the_header(void)
{
        struct ivg_request_ivgLaunch request = launch();

        request.header.bytes = sizeof(request.header) - 1;
        send_launch(&request);
}

static void length_over_the_record(void)
{
        struct ivg_request_ivgLaunch request = launch();

        request.header.bytes = UINT16_MAX;
        send_launch(&request);
}

static void producer_that_is_none(void)
{
        struct ivg_request_ivgLaunch request = launch();

        request.header.producer = 255;
        send_launch(&request);
}

static void flags_that_are_none(void)
{
        struct ivg_request_ivgLaunch request = launch();

        request.header.flags = 0x80;
        send_launch(&request);
}

static void capture_mode_without_capture(void)
{
        struct ivg_request_ivgLaunch request = launch();

        request.header.flags = 1u << IVG_CALL_MODE_SHIFT;
        send_launch(&request);
}

static void reserved_word(void)
{
        struct ivg_request_ivgLaunch request = launch();

        request.header.reserved = 1;
        send_launch(&request);
}

static void synchronous_call_that_wants_no_answer(void)
{
        struct ivg_request_cuStreamSynchronize request = {.hStream = STREAM};

        call_async(IVG_CALL_cuStreamSynchronize, &request, sizeof(request));
}

/* A guest thread waits for each answer; this one does not. Enough that the lane cannot have finished them all. */
static void many_unanswered_calls(void)
{
        for (uint32_t i = 0; i < 2000 && ivg_ring_state_errno(&g.ring) == 0; i++) {
                struct ivg_request_cuStreamSynchronize request = {.hStream = STREAM};
                struct ivg_record record = {0};

                request.header = header(sizeof(request), true);
                if (ivg_producer_reserve(&g.producer, sizeof(request), &record) != 0)
                        continue;
                ivg_record_write(&g.producer, &record, 0, &request, sizeof(request));
                (void)ivg_producer_commit(&g.producer, &record, IVG_CALL_cuStreamSynchronize);
                ivg_link_doorbell(g.link);
        }
}

/* ---- calls and their arguments ---- */

static void call_number_zero(void)
{
        const struct ivg_request_ivgLaunch request = launch();

        send_as_it_is(0, &request, sizeof(request));
}

static void call_number_65535(void)
{
        const struct ivg_request_ivgLaunch request = launch();

        send_as_it_is(UINT16_MAX, &request, sizeof(request));
}

static void arguments_cut_off(void)
{
        struct ivg_request_ivgLaunch request = launch();

        request.header.bytes = sizeof(request) - 8;
        send_launch(&request);
}

static void launch_with_parameters(uint32_t bytes, uint32_t where, uint64_t offset)
{
        struct ivg_request_ivgLaunch request = launch();

        request.params = (struct ivg_wire_range){.bytes = bytes, .where = where, .offset = offset};
        send_launch(&request);
}

static void range_behind_the_record(void)
{
        launch_with_parameters(64, IVG_RANGE_INLINE, sizeof(struct ivg_request_ivgLaunch));
}

static void range_that_wraps_in_the_record(void)
{
        launch_with_parameters(64, IVG_RANGE_INLINE, UINT64_MAX - 15);
}

static void range_of_no_place(void)
{
        launch_with_parameters(8, 7, 0);
}

static void range_of_nothing_with_bytes(void)
{
        launch_with_parameters(8, IVG_RANGE_NULL, 0);
}

static void completion_word_out_of_range(void)
{
        struct ivg_request_ivgCopyHtoD request = {.stream = STREAM, .completion_index = IVG_COMPLETION_WORDS};

        call_async(IVG_CALL_ivgCopyHtoD, &request, sizeof(request));
}

static void name_without_end(void)
{
        struct {
                struct ivg_request_cuModuleGetFunction request;
                char name[8];
        } sent = {.request = {.hmod = 99,
                              .hfunc = 98,
                              .name = {.bytes = 8,
                                       .where = IVG_RANGE_INLINE,
                                       .offset = sizeof(struct ivg_request_cuModuleGetFunction)}},
                  .name = {'n', 'o', ' ', 'e', 'n', 'd', '.', '.'}};

        (void)call(IVG_CALL_cuModuleGetFunction, &sent, sizeof(sent), NULL, 0);
}

static void image_of_no_bytes_and_no_name(void)
{
        struct ivg_request_ivgModuleLoad request = {.module = 99};

        (void)call(IVG_CALL_ivgModuleLoad, &request, sizeof(request), NULL, 0);
}

/* ---- handles ---- */

static void number_that_is_taken(void)
{
        struct ivg_request_cuStreamCreateWithPriority request = {.phStream = EVENT};

        call_async(IVG_CALL_cuStreamCreateWithPriority, &request, sizeof(request));
}

static void number_that_is_reserved(void)
{
        struct ivg_request_cuStreamCreateWithPriority request = {.phStream = IVG_ID_STREAM_LEGACY};

        call_async(IVG_CALL_cuStreamCreateWithPriority, &request, sizeof(request));
}

static void number_zero(void)
{
        struct ivg_request_cuStreamCreateWithPriority request = {.phStream = 0};

        call_async(IVG_CALL_cuStreamCreateWithPriority, &request, sizeof(request));
}

/* No rule of the ring: the answer is an error, as for a program's mistake. Numbers of other processes are unknown here:
 * the neighbour, which runs the shim, has objects under each of the low numbers. */
static void handles_of_others(void)
{
        struct ivg_request_cuStreamDestroy_v2 destroy = {.hStream = EVENT};

        MUST(synchronize(EVENT) == CUDA_ERROR_INVALID_HANDLE, "an event is no stream");
        MUST(synchronize(CONTEXT) == CUDA_ERROR_INVALID_HANDLE, "a context is no stream");
        for (ivg_id id = EVENT + 1; id < IVG_ID_FIRST + 64; id++)
                MUST(synchronize(id) == CUDA_ERROR_INVALID_HANDLE, "number %u belongs to nobody here", id);
        for (uint32_t bit = 6; bit < 32; bit++)
                MUST(synchronize(STREAM | 1u << bit) == CUDA_ERROR_INVALID_HANDLE, "a stream of another age, bit %u",
                     bit);
        call_async(IVG_CALL_cuStreamDestroy_v2, &destroy, sizeof(destroy)); /* destroys nothing: it is an event */
        destroy.hStream = STREAM;
        call_async(IVG_CALL_cuStreamDestroy_v2, &destroy, sizeof(destroy));
        call_async(IVG_CALL_cuStreamDestroy_v2, &destroy, sizeof(destroy));
        MUST(synchronize(STREAM) == CUDA_ERROR_INVALID_HANDLE, "a stream that is gone");
}

static void contexts_of_others(void)
{
        struct ivg_request_cuStreamSynchronize request = {.hStream = IVG_ID_STREAM_LEGACY};
        const uint64_t end = now_ns() + PATIENCE_NS;
        struct ivg_answer_header got;

        request.header = header(sizeof(request), true);
        request.header.context = 4711;
        send_as_it_is(IVG_CALL_cuStreamSynchronize, &request, sizeof(request));
        while (!ivg_producer_poll_answer(&g.producer, g.producer.sequence, &got, NULL))
                MUST(now_ns() < end && ivg_ring_state_errno(&g.ring) == 0, "no answer");
        MUST(got.result == CUDA_ERROR_INVALID_CONTEXT, "%u", got.result);
}

static void tickets_of_others(void)
{
        for (uint32_t i = 0; i < 64; i++) {
                struct ivg_request_cuIpcOpenMemHandle_v2 request = {.Flags = 1};
                struct ivg_wire_ticket ticket;

                memset(&ticket, (int)(i * 37), sizeof(ticket));
                if (i % 2) /* a place that there is */
                        ticket.words[0] = i / 2;
                memcpy(&request.handle, &ticket, sizeof(request.handle));
                MUST(call(IVG_CALL_cuIpcOpenMemHandle_v2, &request, sizeof(request), NULL, 0) > 0,
                     "ticket %u opens something", i);
        }
}

/* ---- memory ---- */

static uint32_t own_extent(void)
{
        uint32_t first = 0;

        MUST(ivg_link_extents_claim(g.link, 1, &first) == 0, "no extent");
        return first;
}

static void arena_of_nobody(void)
{
        launch_with_parameters(64, IVG_RANGE_ARENA, (uint64_t)(g.region->extent_count - 1) * IVG_EXTENT_BYTES);
}

static void arena_of_another_channel(void)
{
        const uint32_t extent = own_extent();

        /* In local mode the guest plays the driver: it says itself that it is another's. */
        ivg_store_release_u32(&ivg_region_guest_pages(g.region)->extent_owner[extent], 5);
        launch_with_parameters(64, IVG_RANGE_ARENA, (uint64_t)extent * IVG_EXTENT_BYTES);
}

static void arena_that_leaves_its_extent(void)
{
        launch_with_parameters(64, IVG_RANGE_ARENA, (uint64_t)(own_extent() + 1) * IVG_EXTENT_BYTES - 32);
}

static void arena_past_its_end(void)
{
        for (uint32_t i = 0; i < g.region->extent_count; i++)
                ivg_store_release_u32(&ivg_region_guest_pages(g.region)->extent_owner[i], ivg_link_channel(g.link) + 1);
        launch_with_parameters(64, IVG_RANGE_ARENA, g.region->arena_bytes - 8);
}

static void arena_that_wraps(void)
{
        launch_with_parameters(64, IVG_RANGE_ARENA, UINT64_MAX - 7);
}

static void copy_whose_length_wraps(void)
{
        struct ivg_request_ivgCopyHtoD request = {.dst = g.memory,
                                                  .arena_offset = (uint64_t)own_extent() * IVG_EXTENT_BYTES + 64,
                                                  .bytes = UINT64_MAX - 32,
                                                  .stream = STREAM,
                                                  .completion_index = UINT32_MAX};

        call_async(IVG_CALL_ivgCopyHtoD, &request, sizeof(request));
}

static void extents_registered_that_are_free(void)
{
        struct ivg_request_ivgExtentsRegister request = {.offset = 0,
                                                         .bytes = (uint64_t)g.region->extent_count * IVG_EXTENT_BYTES};

        (void)call(IVG_CALL_ivgExtentsRegister, &request, sizeof(request), NULL, 0);
}

/* Addresses of the executor's own memory, as far as a guest could guess or know them. The channel stays, the bytes do
 * too: nothing that is copied out may be anything but the device memory's. */
static void addresses_of_the_executor(void)
{
        const uint32_t extent = own_extent();
        uint8_t *const target = g.arena + (uint64_t)extent * IVG_EXTENT_BYTES;
        const uint64_t addresses[] = {1,
                                      4096,
                                      0x400000,
                                      0x555555554000,
                                      0x7ffff7dd0000,
                                      0x7ffffffde000,
                                      (uintptr_t)&g,
                                      (uintptr_t)&extent,
                                      (uintptr_t)g.arena + g.region->arena_bytes,
                                      (uintptr_t)g.arena - 64,
                                      g.memory + 4096 - 32,
                                      g.memory - 32,
                                      0xffffffffff600000,
                                      UINT64_MAX - 32};

        memset(target, 0x5a, 4096);
        for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
                struct ivg_request_ivgCopyDtoH out = {.arena_offset = (uint64_t)extent * IVG_EXTENT_BYTES,
                                                      .src = addresses[i],
                                                      .bytes = 64,
                                                      .stream = STREAM,
                                                      .completion_index = UINT32_MAX};
                struct ivg_request_cuMemsetD8Async set = {
                        .dstDevice = addresses[i], .uc = 1, .N = 64, .hStream = STREAM};

                call_async(IVG_CALL_ivgCopyDtoH, &out, sizeof(out));
                call_async(IVG_CALL_cuMemsetD8Async, &set, sizeof(set));
                (void)synchronize(STREAM);
                for (uint32_t byte = 0; byte < 64; byte++)
                        MUST(target[byte] == 0x5a, "address %#llx was read", (unsigned long long)addresses[i]);
        }
        ivg_link_extents_release(g.link, extent, 1);
}

static void windows_that_are_none(void)
{
        const uint64_t windows[] = {0, 1, 4096, UINT64_MAX - 4095, 0x7ffffffff000, (uintptr_t)g.arena, 1ull << 47};

        for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
                struct ivg_request_ivgHello request = {.window = windows[i], .pid = 1};

                MUST(call(IVG_CALL_ivgHello, &request, sizeof(request), NULL, 0) > 0, "window %#llx",
                     (unsigned long long)windows[i]);
        }
}

/* ---- words that the host does not follow ---- */

static void tail_and_producer_lines(void)
{
        struct ivg_ring_guest_part *part = g.ring.guest;
        const uint64_t tail = ivg_load_relaxed_u64(&part->tail);

        ivg_store_release_u64(&part->tail, UINT64_MAX);
        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++) {
                if (i == g.producer.index)
                        continue;
                memset((void *)&part->producers[i], 0xff, sizeof(part->producers[i]));
                memset((void *)&part->waiters[i], 0xff, sizeof(part->waiters[i]));
        }
        ivg_link_doorbell(g.link);
        usleep(10000);
        ivg_store_release_u64(&part->tail, tail);
}

static void payload_without_commit(void)
{
        const uint64_t tail = ivg_load_relaxed_u64(&g.ring.guest->tail);

        /* The next lap's tags everywhere but in the next slot: nothing of it is due. */
        for (uint64_t position = tail + 1; position < tail + IVG_RING_SLOTS; position++) {
                struct ivg_ring_slot *slot = ivg_ring_slot_at(&g.ring, position);

                memset(slot->payload, 0xff, sizeof(slot->payload));
                ivg_store_release_u64(&slot->commit,
                                      ivg_commit_word(position + IVG_RING_SLOTS, 1, IVG_SLOT_DATA, 0xffff));
        }
        ivg_link_doorbell(g.link);
        usleep(10000);
}

static void storm_of_doorbells(void)
{
        for (uint32_t i = 0; i < STORM_DOORBELLS; i++)
                ivg_link_doorbell(g.link);
}

/* ---- what only a local guest can reach: the region's file and the mediator's descriptors ---- */

/* Descriptors of this process that `is` says true of; the link keeps them, and its owner could always find them so. */
static uint32_t find_descriptors(bool (*is)(int fd), int found[], uint32_t room)
{
        uint32_t count = 0;

        for (int fd = 3; fd < DESCRIPTORS_MAX && count < room; fd++)
                if (is(fd))
                        found[count++] = fd;
        return count;
}

static bool is_region(int fd)
{
        struct stat status;

        return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && (uint64_t)status.st_size == g.region->region_bytes;
}

static bool is_socket(int fd)
{
        struct stat status;

        return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

static bool is_eventfd(int fd)
{
        char path[64], name[64] = "";

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        return readlink(path, name, sizeof(name) - 1) > 0 && strcmp(name, "anon_inode:[eventfd]") == 0;
}

static uint8_t *whole_region(void)
{
        void *all;
        int fd;

        MUST(find_descriptors(is_region, &fd, 1) == 1, "the region's file");
        MUST(ftruncate(fd, 4096) < 0 && errno == EPERM, "a region that shrinks under its host");
        MUST(ftruncate(fd, (off_t)g.region->region_bytes * 2) < 0 && errno == EPERM, "a region that grows");
        all = mmap(NULL, g.region->region_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        MUST(all != MAP_FAILED, "mmap");
        return all;
}

/* The executor's own words are private: a mailbox, a head or a status that the guest overwrites misleads the guest. */
static void host_words_overwritten(void)
{
        const struct ivg_request_ivgLaunch request = launch();
        uint8_t *const all = whole_region();
        const uint64_t channel = g.region->channels_offset + ivg_link_channel(g.link) * g.region->channel_stride;
        struct ivg_record record = {0};

        MUST(ivg_producer_reserve(&g.producer, sizeof(request), &record) == 0, "no room");
        ivg_record_write(&g.producer, &record, 0, &request, sizeof(request));
        memset(all + channel + IVG_CHANNEL_RING_HOST_OFFSET, 0xff, IVG_CHANNEL_HOST_BYTES);
        memset(all + g.region->host_pages_offset, 0xff, g.region->host_pages_bytes);
        memset(all, 0xff, IVG_PAGE_BYTES);
        usleep(10000);
        (void)ivg_producer_commit(&g.producer, &record, UINT16_MAX);
        ivg_link_doorbell(g.link);
}

static void host_words_flicker(void)
{
        uint8_t *const all = whole_region();
        _Atomic(uint64_t) *const words = (void *)(all + g.region->host_pages_offset);

        for (uint32_t round = 0; round < 20000; round++) {
                atomic_store(&words[round % (g.region->host_pages_bytes / 8)], round * 0x9e3779b97f4a7c15ull);
                if (round % 64 == 0)
                        ivg_link_doorbell(g.link);
        }
        call_number_65535();
}

static void guest_words_of_no_state(void)
{
        struct ivg_guest_channel *word = &ivg_region_guest_pages(g.region)->channels[ivg_link_channel(g.link)];
        const uint64_t good = ivg_load_relaxed_u64(&word->state);
        int fds[8];
        const uint32_t count = find_descriptors(is_eventfd, fds, 8);
        const uint64_t one = 1;

        for (uint32_t state = 3; state < 2003; state++) {
                /* Unknown states of this generation, known ones of others. */
                ivg_store_release_u64(&word->state,
                                      state % 2 ? (good & ~(uint64_t)UINT32_MAX) | state : good + (1ull << 40));
                for (uint32_t i = 0; i < count; i++)
                        (void)!write(fds[i], &one, sizeof(one));
        }
        ivg_store_release_u64(&word->state, good);
        for (uint32_t i = 0; i < count; i++)
                (void)!write(fds[i], &one, sizeof(one));
}

static void boot_epochs_without_end(void)
{
        int fds[8];
        const uint32_t count = find_descriptors(is_eventfd, fds, 8);
        const uint64_t one = 1;

        for (uint64_t epoch = 2; epoch < 2000; epoch++) {
                ivg_store_release_u64(&ivg_region_guest_pages(g.region)->boot_epoch, epoch * 2654435761u);
                for (uint32_t i = 0; i < count; i++)
                        (void)!write(fds[i], &one, sizeof(one));
        }
}

static void words_on_the_socket(void)
{
        char nonsense[4096];
        int fd;

        MUST(find_descriptors(is_socket, &fd, 1) == 1, "the socket");
        memset(nonsense, 0xff, sizeof(nonsense));
        for (uint32_t i = 0; i < 16; i++)
                (void)send(fd, nonsense, sizeof(nonsense) - i * 64, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- cases ---- */

static const struct {
        const char *name;
        void (*act)(void);
        int end; /* enum ivg_ring_fault, CLOSED or OPEN */
} cases[] = {
#define CASE(name, end)          \
        {                        \
#name, name, end \
        }
        CASE(record_of_no_slots, IVG_FAULT_RECORD_SLOTS),
        CASE(record_of_65_slots, IVG_FAULT_RECORD_SLOTS),
        CASE(skip_of_255_slots, IVG_FAULT_RECORD_SLOTS),
        CASE(slot_of_no_kind, IVG_FAULT_RECORD_KIND),
        CASE(continuation_without_beginning, IVG_FAULT_RECORD_KIND),
        CASE(continuation_of_an_earlier_lap, IVG_FAULT_CONT_TAG),
        CASE(length_below_the_header, IVG_FAULT_RECORD_HEADER),
        CASE(length_over_the_record, IVG_FAULT_RECORD_HEADER),
        CASE(producer_that_is_none, IVG_FAULT_RECORD_HEADER),
        CASE(flags_that_are_none, IVG_FAULT_RECORD_HEADER),
        CASE(capture_mode_without_capture, IVG_FAULT_RECORD_HEADER),
        CASE(reserved_word, IVG_FAULT_RECORD_HEADER),
        CASE(synchronous_call_that_wants_no_answer, IVG_FAULT_RECORD_HEADER),
        CASE(many_unanswered_calls, IVG_FAULT_RECORD_HEADER),
        CASE(call_number_zero, IVG_FAULT_OPCODE),
        CASE(call_number_65535, IVG_FAULT_OPCODE),
        CASE(arguments_cut_off, IVG_FAULT_ARGUMENTS),
        CASE(range_behind_the_record, IVG_FAULT_ARGUMENTS),
        CASE(range_that_wraps_in_the_record, IVG_FAULT_ARGUMENTS),
        CASE(range_of_no_place, IVG_FAULT_ARGUMENTS),
        CASE(range_of_nothing_with_bytes, IVG_FAULT_ARGUMENTS),
        CASE(completion_word_out_of_range, IVG_FAULT_ARGUMENTS),
        CASE(name_without_end, IVG_FAULT_ARGUMENTS),
        CASE(image_of_no_bytes_and_no_name, IVG_FAULT_ARGUMENTS),
        CASE(number_that_is_taken, IVG_FAULT_HANDLE),
        CASE(number_that_is_reserved, IVG_FAULT_HANDLE),
        CASE(number_zero, IVG_FAULT_ARGUMENTS),
        CASE(arena_of_nobody, IVG_FAULT_ARENA),
        CASE(arena_of_another_channel, IVG_FAULT_ARENA),
        CASE(arena_that_leaves_its_extent, IVG_FAULT_ARENA),
        CASE(arena_past_its_end, IVG_FAULT_ARENA),
        CASE(arena_that_wraps, IVG_FAULT_ARENA),
        CASE(copy_whose_length_wraps, IVG_FAULT_ARENA),
        CASE(extents_registered_that_are_free, IVG_FAULT_ARENA),
        CASE(host_words_overwritten, IVG_FAULT_OPCODE),
        CASE(host_words_flicker, IVG_FAULT_OPCODE),
        CASE(boot_epochs_without_end, CLOSED),
        CASE(words_on_the_socket, CLOSED),
        CASE(handles_of_others, OPEN),
        CASE(contexts_of_others, OPEN),
        CASE(tickets_of_others, OPEN),
        CASE(addresses_of_the_executor, OPEN),
        CASE(windows_that_are_none, OPEN),
        CASE(tail_and_producer_lines, OPEN),
        CASE(payload_without_commit, OPEN),
        CASE(storm_of_doorbells, OPEN),
        CASE(guest_words_of_no_state, OPEN),
#undef CASE
};

static void list_cases(void)
{
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                printf("%s ", cases[i].name);
                if (cases[i].end > 0)
                        printf("%d %s\n", cases[i].end, ivg_ring_fault_name((enum ivg_ring_fault)cases[i].end));
                else
                        puts(cases[i].end == CLOSED ? "closed" : "open");
        }
}

static void expect_end(int end)
{
        const struct ivg_host_channel *host = &ivg_region_host_pages(g.region)->channels[ivg_link_channel(g.link)];
        const uint64_t patience = now_ns() + PATIENCE_NS;
        uint32_t status, fault;

        if (end == OPEN) {
                MUST(synchronize(IVG_ID_STREAM_LEGACY) == CUDA_SUCCESS, "an honest call does not work any more");
                return;
        }
        /* The words themselves: the guest's functions would look at the generation, which a case may have overwritten.
         */
        do {
                MUST(now_ns() < patience, "the channel is still open");
                usleep(500);
                status = (uint32_t)ivg_load_acquire_u64(&g.ring.host->status);
                fault = (uint32_t)ivg_load_relaxed_u64(&g.ring.host->fault);
        } while (status != IVG_RING_FAULT && status != IVG_RING_CLOSED && status != IVG_RING_PEER_GONE);
        if (end == CLOSED) {
                MUST(status == IVG_RING_CLOSED || status == IVG_RING_PEER_GONE, "status %u", status);
                return;
        }
        MUST(status == IVG_RING_FAULT && fault == (uint32_t)end, "status %u, fault %u (%s)", status, fault,
             ivg_ring_fault_name((enum ivg_ring_fault)fault));
        /* The mediator has been told the reason too. */
        while ((uint32_t)ivg_load_acquire_u64(&host->state) != IVG_HOST_CHANNEL_DEAD) {
                MUST(now_ns() < patience, "the mediator does not say that the executor is dead");
                usleep(500);
        }
}

int main(int argc, char **argv)
{
        if (argc == 2 && strcmp(argv[1], "--list") == 0) {
                list_cases();
                return 0;
        }
        for (size_t i = 0; argc == 2 && i < sizeof(cases) / sizeof(cases[0]); i++) {
                if (strcmp(argv[1], cases[i].name) != 0)
                        continue;
                attach();
                cases[i].act();
                expect_end(cases[i].end);
                _exit(0); /* no word of farewell: the hosts see the process's end */
        }
        fprintf(stderr, "usage: hostile_guest CASE | --list\n");
        return 2;
}
