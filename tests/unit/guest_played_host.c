#include "guest_played_host.h"
#include "ivgpu/server.h"
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define PLAYED_REGION_BYTES (64ull << 20)
#define PLAYED_POLL_MS 20
#define PLAYED_ANSWER_BYTES 64u /* more than the fixed part of any answer that is not filled below */

static uint64_t state_word(uint64_t generation, uint32_t state)
{
        return generation << 32 | state;
}

/* ---- executor ---- */

static uint64_t extend(uint64_t last, uint32_t low)
{
        const uint64_t high = last >> 32;

        return (low > (uint32_t)last ? high : high + 1) << 32 | low;
}

static void fill_device(struct ivg_wire_device *device)
{
        memset(device, 0, sizeof(*device));
        strcpy(device->name, "a device of the test");
        strcpy(device->pci_bus_id, "0000:65:00.0");
        device->total_bytes = 5ull << 30;
        for (uint32_t i = 0; i < 16; i++)
                device->uuid[i] = (uint8_t)(i + 1);
        for (uint32_t i = 1; i < 140; i++) { /* 140 and later: unknown to this driver */
                device->known[i / 64] |= 1ull << i % 64;
                device->attributes[i] = (int32_t)(1000 + i);
        }
        device->attributes[CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID] = 0;
        device->attributes[CU_DEVICE_ATTRIBUTE_PCI_BUS_ID] = 0x65;
        device->attributes[CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID] = 0;
        device->attributes[CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED] = 0;
}

static uint32_t fill_hello(struct played_host *host, uint8_t *answer, uint32_t *result)
{
        const struct ivg_answer_ivgHello hello = {
                .driver_version = PLAYED_DRIVER_VERSION, .device_count = 2, .executor_pid = (uint32_t)getpid()};

        *result = CUDA_SUCCESS;
        if (atomic_load(&host->windows_refused) != 0) {
                atomic_fetch_sub(&host->windows_refused, 1);
                *result = CUDA_ERROR_ALREADY_MAPPED;
        }
        memcpy(answer, &hello, sizeof(hello));
        return sizeof(hello);
}

static void fill_layout(struct ivg_wire_device_layout *layout, uint32_t times_asked)
{
        static const uint32_t pairs[] = {IVG_LAYOUT_PAIRS_MAX + 1, 0, PLAYED_PAIRS};

        layout->pairs = pairs[times_asked <= 2 ? times_asked - 1 : 2];
        for (uint32_t i = 0; i < PLAYED_PAIRS; i++) {
                layout->place[i] = (uint8_t)(i % 3);
                layout->group[i] = (uint8_t)(i / 3);
        }
}

static uint32_t fill_answer(struct played_host *host, uint16_t number, const uint8_t *request, uint8_t *answer,
                            uint32_t *result)
{
        struct ivg_request_cuCtxGetLimit asked;
        struct ivg_answer_cuCtxGetLimit limit;
        struct ivg_answer_cuCtxGetFlags flags;
        struct ivg_answer_cuCtxGetStreamPriorityRange range;
        struct ivg_answer_ivgDeviceSnapshot snapshot;
        struct ivg_answer_ivgDeviceLayout layout;

        memset(answer, 0, IVG_ANSWER_AREA_BYTES);
        switch (number) {
        case IVG_CALL_ivgHello:
                return fill_hello(host, answer, result);
        case IVG_CALL_ivgDeviceSnapshot:
                memset(&snapshot, 0, sizeof(snapshot));
                fill_device(&snapshot.snapshot);
                memcpy(answer, &snapshot, sizeof(snapshot));
                return sizeof(snapshot);
        case IVG_CALL_ivgDeviceLayout:
                memset(&layout, 0, sizeof(layout));
                fill_layout(&layout.layout, atomic_load(&host->calls[number]));
                memcpy(answer, &layout, sizeof(layout));
                return sizeof(layout);
        case IVG_CALL_cuCtxGetFlags: /* how often they were asked for */
                memset(&flags, 0, sizeof(flags));
                flags.flags = atomic_load(&host->calls[number]);
                memcpy(answer, &flags, sizeof(flags));
                return sizeof(flags);
        case IVG_CALL_cuCtxGetLimit: /* the limit's number, and how often any was asked for */
                memcpy(&asked, request, sizeof(asked));
                memset(&limit, 0, sizeof(limit));
                limit.pvalue = (uint64_t)asked.limit * 1000 + atomic_load(&host->calls[number]);
                memcpy(answer, &limit, sizeof(limit));
                return sizeof(limit);
        case IVG_CALL_cuCtxGetStreamPriorityRange:
                memset(&range, 0, sizeof(range));
                range.greatestPriority = -5;
                memcpy(answer, &range, sizeof(range));
                return sizeof(range);
        case IVG_CALL_ivgFunctionDescribe: /* no parameters, no attribute known */
                return sizeof(struct ivg_answer_ivgFunctionDescribe);
        default:
                return PLAYED_ANSWER_BYTES;
        }
}

static void interrupt(struct played_host *host)
{
        const uint64_t one = 1;

        if (write(host->interrupt, &one, sizeof(one)) < 0)
                abort();
}

static void check_order(struct played_host *host, const struct ivg_call_header *header, const uint8_t *request)
{
        struct ivg_request_ivgExtentsUnregister counted;

        memcpy(&counted, request, sizeof(counted));
        if (counted.offset != host->last_offset[header->producer] + 1)
                atomic_fetch_add(&host->order_errors, 1);
        host->last_offset[header->producer] = counted.offset;
}

static void note_signal(struct played_host *host, const uint8_t *request)
{
        struct ivg_request_ivgEventWatch signal; /* laid out as ivgStreamWatch's */

        _Static_assert(sizeof(signal) == sizeof(struct ivg_request_ivgStreamWatch), "one layout");
        memcpy(&signal, request, sizeof(signal));
        atomic_store(&host->signal_index, signal.completion_index);
        atomic_store(&host->signal_value, signal.completion_value);
}

static void execute(struct played_host *host, const struct ivg_taken_record *record)
{
        _Alignas(8) uint8_t answer[IVG_ANSWER_AREA_BYTES];
        struct ivg_call_header header;
        uint32_t result = atomic_load(&host->result), bytes;

        memcpy(&header, record->payload, sizeof(header));
        if (record->opcode == IVG_CALL_ivgEventWatch || record->opcode == IVG_CALL_ivgStreamWatch)
                note_signal(host, record->payload);
        atomic_fetch_add(&host->calls[record->opcode & 4095], 1);
        if (record->opcode == IVG_CALL_ivgExtentsUnregister)
                check_order(host, &header, record->payload);
        if ((header.flags & IVG_CALL_WANTS_ANSWER) == 0)
                return;
        host->sequences[header.producer] = extend(host->sequences[header.producer], header.sequence_low);
        if (atomic_load(&host->mute) != 0)
                return;
        bytes = fill_answer(host, record->opcode, record->payload, answer, &result);
        if (bytes > IVG_MAILBOX_PAYLOAD_BYTES)
                memcpy(ivg_region_answer_area(&host->executor_region, 0, header.producer), answer, bytes);
        if (ivg_consumer_answer(&host->consumer, header.producer, host->sequences[header.producer], result, answer,
                                bytes) == 1)
                interrupt(host);
}

/* Runs until the process ends. */
static void *executor_main(void *argument)
{
        struct played_host *host = argument;
        static struct ivg_batch batch;
        uint64_t rings;

        for (;;) {
                const int taken = atomic_load(&host->paused) != 0 ? 0 : ivg_consumer_take(&host->consumer, &batch);

                for (int i = 0; i < taken; i++)
                        execute(host, &batch.records[i]);
                if (taken < 0)
                        break;
                if (taken != 0)
                        continue;
                if (ivg_consumer_sleep_begin(&host->consumer) || atomic_load(&host->paused) != 0) {
                        struct pollfd watched = {.fd = host->doorbell, .events = POLLIN};

                        if (poll(&watched, 1, PLAYED_POLL_MS) > 0)
                                (void)!read(host->doorbell, &rings, sizeof(rings));
                }
                ivg_consumer_sleep_end(&host->consumer);
        }
        return NULL;
}

/* ---- mediator ---- */

static void channel_open(struct played_host *host, uint32_t generation)
{
        struct ivg_host_channel *channel = &ivg_region_host_pages(&host->region)->channels[0];

        REQUIRE(ivg_consumer_open(&host->consumer, ivg_region_ring_guest(&host->executor_region, 0),
                                  ivg_region_ring_host(&host->executor_region, 0), generation, 0) == 0);
        atomic_store(&host->executor_runs, 1);
        REQUIRE(pthread_create(&host->executor, NULL, executor_main, host) == 0 && pthread_detach(host->executor) == 0);
        ivg_store_release_u64(&channel->state, state_word(generation, IVG_HOST_CHANNEL_READY));
}

static bool greet(struct played_host *host)
{
        struct pollfd watched = {.fd = atomic_load(&host->socket), .events = POLLIN};
        struct ivg_error error = {""};
        struct ucred peer;

        if (poll(&watched, 1, 5000) <= 0 || ivg_local_receive_hello(watched.fd, host->fingerprint, &peer, &error) != 0)
                return false;
        return ivg_local_send_welcome(watched.fd, host->memfd, host->control, host->doorbell, host->interrupt,
                                      PLAYED_REGION_BYTES, &error) == 0;
}

/* One client; runs until the process ends. */
static void *mediator_main(void *argument)
{
        struct played_host *host = argument;
        const struct ivg_guest_pages *guest = ivg_region_guest_pages(&host->region);
        struct pollfd watched = {.fd = host->listener, .events = POLLIN};
        uint64_t rings;

        poll(&watched, 1, -1); /* the listener does not block */
        atomic_store(&host->socket, accept4(host->listener, NULL, NULL, SOCK_CLOEXEC));
        close(host->listener); /* a second one is refused at once */
        if (!greet(host))
                return NULL;
        watched.fd = host->control;
        for (;;) {
                uint64_t word;

                if (poll(&watched, 1, PLAYED_POLL_MS) <= 0 || read(host->control, &rings, sizeof(rings)) < 0)
                        continue;
                word = ivg_load_acquire_u64(&guest->channels[0].state);
                if ((uint32_t)word == IVG_GUEST_CHANNEL_OPEN && atomic_load(&host->executor_runs) == 0)
                        channel_open(host, (uint32_t)(word >> 32));
                else if ((uint32_t)word == IVG_GUEST_CHANNEL_CLOSED)
                        atomic_store(&host->closed, 1);
        }
}

static void regions_make(struct played_host *host)
{
        const struct ivg_region_config config = {.region_bytes = PLAYED_REGION_BYTES,
                                                 .channel_count = 1,
                                                 .vm_name = "test",
                                                 .call_table_fingerprint = host->fingerprint};
        struct ivg_error error = {""};

        REQUIRE(ivg_region_create(&config, &host->memfd, &error) == 0);
        REQUIRE(ivg_region_check_fd(host->memfd, host->fingerprint, &host->region, &error) == 0);
        host->executor_region = host->region;
        REQUIRE(ivg_region_map(&host->region, host->memfd, IVG_SIDE_HOST_MEDIATOR, 0, &error) == 0);
        REQUIRE(ivg_region_map(&host->executor_region, host->memfd, IVG_SIDE_HOST_EXECUTOR, 0, &error) == 0);
}

static struct played_host *started;

static void remove_directory(void)
{
        unlink(started->path);
        rmdir(started->directory);
}

void played_host_start(struct played_host *host)
{
        struct ivg_error error = {""};
        char channel[128];

        if (host->fingerprint == 0)
                host->fingerprint = IVG_CALL_TABLE_FINGERPRINT;
        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++)
                host->sequences[i] = UINT32_MAX;
        host->control = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        host->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        host->interrupt = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        regions_make(host);
        strcpy(host->directory, "/tmp/ivgpu-test-XXXXXX");
        REQUIRE(mkdtemp(host->directory) != NULL);
        snprintf(host->path, sizeof(host->path), "%s/local.sock", host->directory);
        host->listener = ivg_server_listen(host->path, 0600, SOCK_SEQPACKET, &error);
        REQUIRE(host->listener >= 0);
        snprintf(channel, sizeof(channel), "local:%s", host->path);
        setenv("IVGPU_CHANNEL", channel, 1);
        started = host;
        atexit(remove_directory);
        REQUIRE(pthread_create(&host->mediator, NULL, mediator_main, host) == 0 && pthread_detach(host->mediator) == 0);
}

void played_host_lose(struct played_host *host, enum ivg_ring_state state, enum ivg_ring_fault fault)
{
        struct ivg_host_channel *channel = &ivg_region_host_pages(&host->region)->channels[0];
        const uint64_t word = ivg_load_acquire_u64(&channel->state);

        ivg_store_relaxed_u32(&channel->reason, IVG_ERROR_CUDA_ERROR);
        ivg_consumer_close(&host->consumer, state, fault, 77);
        ivg_store_release_u64(&channel->state, state_word(word >> 32, IVG_HOST_CHANNEL_DEAD));
        interrupt(host);
}

void played_host_hang_up(struct played_host *host)
{
        shutdown(atomic_load(&host->socket), SHUT_RDWR);
}

/* ---- scenarios ---- */

void played_scenario(void (*scenario)(void), char *said, size_t capacity)
{
        int pipes[2], status = 0;
        size_t bytes = 0;
        ssize_t got;
        pid_t child;

        assert_int_equal(pipe(pipes), 0);
        child = fork();
        if (child == 0) {
                dup2(pipes[1], STDERR_FILENO);
                close(pipes[0]);
                close(pipes[1]);
                scenario();
                exit(0);
        }
        assert_true(child > 0);
        close(pipes[1]);
        while ((got = read(pipes[0], said + bytes, capacity - 1 - bytes)) > 0)
                bytes += (size_t)got;
        said[bytes] = '\0';
        close(pipes[0]);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                fail_msg("the scenario ended with status %x and said:\n%s", (unsigned int)status, said);
}

uint32_t played_lines(const char *said)
{
        uint32_t lines = 0;

        for (const char *at = said; (at = strstr(at, "ivgpu: ")) != NULL; at++)
                lines += at == said || at[-1] == '\n';
        return lines;
}
