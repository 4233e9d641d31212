/* The guest's side of the executor's tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_fixture.h"
#include "rcu.h"
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_NS 20000000000ull /* sanitizers on a busy machine */

static void make_region(struct exec_fixture *f)
{
        const struct ivg_region_config config = {.region_bytes = FIXTURE_REGION_BYTES,
                                                 .channel_count = 2,
                                                 .vector_count = 4,
                                                 .vm_id = 9,
                                                 .vm_name = "test",
                                                 .call_table_fingerprint = IVG_CALL_TABLE_FINGERPRINT};
        struct ivg_error error = {.text = ""};
        void *page;

        if (ivg_region_create(&config, &f->memfd, &error))
                fail_msg("%s", error.text);
        page = mmap(NULL, IVG_PAGE_BYTES, PROT_READ, MAP_SHARED, f->memfd, 0);
        assert_ptr_not_equal(page, MAP_FAILED);
        if (ivg_region_check(page, FIXTURE_REGION_BYTES, IVG_CALL_TABLE_FINGERPRINT, &f->guest_region, &error))
                fail_msg("%s", error.text);
        munmap(page, IVG_PAGE_BYTES);
        if (ivg_region_map(&f->guest_region, f->memfd, IVG_SIDE_GUEST, FIXTURE_CHANNEL, &error))
                fail_msg("%s", error.text);
}

static void greet(struct exec_fixture *f)
{
        struct ivg_answer_ivgHello answer = {0};
        CUresult result = CUDA_ERROR_ALREADY_MAPPED;

        for (uint32_t attempt = 0; attempt < IVG_WINDOW_ATTEMPTS_MAX && result == CUDA_ERROR_ALREADY_MAPPED;
             attempt++) {
                struct ivg_request_ivgHello request = {
                        .window = (uintptr_t)ivg_region_window_candidate(&f->guest_region, attempt), .pid = 77};

                result = fixture_call(f, &f->producer, IVG_CALL_ivgHello, &request, sizeof(request), &answer,
                                      sizeof(answer));
                f->arena = (uint8_t *)(uintptr_t)request.window;
        }
        assert_int_equal(result, CUDA_SUCCESS);
        ivg_tsan_acquire(&fake); /* the answer came through another mapping than it was written to */
        assert_int_equal(answer.driver_version, 13000);
        assert_int_equal(answer.device_count, 1);
        assert_int_equal(answer.executor_pid, getpid());
}

static void start_context(struct exec_fixture *f)
{
        struct ivg_request_cuDevicePrimaryCtxRetain retain = {.dev = 0, .pctx = FIXTURE_CONTEXT};
        struct ivg_request_cuStreamCreateWithPriority stream = {.phStream = FIXTURE_STREAM};
        struct ivg_exec_call put = {.exec = f->exec, .context = FIXTURE_CONTEXT};

        assert_int_equal(
                fixture_call(f, &f->producer, IVG_CALL_cuDevicePrimaryCtxRetain, &retain, sizeof(retain), NULL, 0),
                CUDA_SUCCESS);
        fixture_async(f, &f->producer, IVG_CALL_cuStreamCreateWithPriority, &stream, sizeof(stream));
        for (uint32_t kernel = FAKE_KERNEL_OK; kernel <= FAKE_KERNEL_STICKY; kernel++)
                assert_true(ivg_handle_put(&put, IVG_KIND_FUNCTION, FIXTURE_KERNEL(kernel), (void *)(uintptr_t)kernel));
        fixture_settle(f, &f->producer);
}

int fixture_setup(void **state)
{
        return fixture_setup_driver(state, NULL);
}

int fixture_setup_driver(void **state, void (*fill_more)(struct ivg_driver *driver))
{
        struct exec_fixture *f = calloc(1, sizeof(*f));
        struct ivg_exec_config config;
        struct ivg_error error = {.text = ""};

        assert_non_null(f);
        *state = f;
        urcu_memb_register_thread();
        make_region(f);
        f->doorbell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        f->interrupt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        config = (struct ivg_exec_config){.region_fd = f->memfd,
                                          .ipc_fd = -1,
                                          .images_fd = -1,
                                          .share_fd = -1,
                                          .board_fd = -1,
                                          .kick_fd = -1,
                                          .doorbell_fd = f->doorbell_fd,
                                          .interrupt_fd = f->interrupt_fd,
                                          .channel = FIXTURE_CHANNEL,
                                          .generation = FIXTURE_GENERATION};
        if (ivg_exec_create(&config, &f->exec, &error))
                fail_msg("%s", error.text);
        fake_driver_fill(&f->exec->driver);
        if (fill_more)
                fill_more(&f->exec->driver);
        if (ivg_exec_start(f->exec, &error))
                fail_msg("%s", error.text);
        assert_int_equal(ivg_ring_init(&f->ring, ivg_region_ring_guest(&f->guest_region, FIXTURE_CHANNEL),
                                       ivg_region_ring_host(&f->guest_region, FIXTURE_CHANNEL), FIXTURE_GENERATION),
                         0);
        fixture_open_producer(f, &f->producer);
        greet(f);
        start_context(f);
        return 0;
}

int fixture_teardown(void **state)
{
        struct exec_fixture *f = *state;

        for (uint32_t i = 0; i < 16; i++) /* whoever a failed test left waiting */
                sem_post(&fake.release);
        assert_int_equal(ivg_exec_stop(f->exec, IVG_RING_CLOSED, 20000), 0);
        assert_true(ivg_ring_state_errno(&f->ring) < 0);
        ivg_exec_close_contexts(f->exec);
        ivg_exec_destroy(f->exec);
        ivg_region_unmap(&f->guest_region);
        close(f->interrupt_fd);
        close(f->doorbell_fd);
        close(f->memfd);
        sem_destroy(&fake.release);
        urcu_memb_unregister_thread();
        free(f);
        return 0;
}

void fixture_open_producer(struct exec_fixture *f, struct ivg_producer *producer)
{
        static uint32_t owner;

        assert_int_equal(ivg_producer_open(&f->ring, ++owner, producer), 0);
}

void fixture_own_extents(struct exec_fixture *f, uint32_t first, uint32_t count, uint32_t channel)
{
        struct ivg_guest_pages *pages = ivg_region_guest_pages(&f->guest_region);

        for (uint32_t i = first; i < first + count; i++)
                ivg_store_release_u32(&pages->extent_owner[i], channel + 1);
}

struct ivg_call_header fixture_header(struct ivg_producer *producer, uint32_t bytes, bool wants)
{
        return (struct ivg_call_header){.sequence_low = wants ? (uint32_t)++producer->sequence : 0,
                                        .context = FIXTURE_CONTEXT,
                                        .bytes = (uint16_t)bytes,
                                        .producer = (uint8_t)producer->index,
                                        .flags = wants ? IVG_CALL_WANTS_ANSWER : 0};
}

void fixture_send(struct exec_fixture *f, struct ivg_producer *producer, uint16_t number, const void *request,
                  uint32_t bytes)
{
        struct ivg_record record;
        const uint64_t end = ivg_clock_ns() + PATIENCE_NS;
        int error;

        while ((error = ivg_producer_reserve(producer, bytes, &record)) == -EAGAIN && ivg_clock_ns() < end)
                sched_yield();
        assert_int_equal(error, 0);
        ivg_record_write(producer, &record, 0, request, bytes);
        ivg_tsan_release(f->exec->host_channel); /* pairs with the acquire in take_turn */
        if (ivg_producer_commit(producer, &record, number))
                assert_int_equal(eventfd_write(f->doorbell_fd, 1), 0);
}

bool fixture_answered(struct exec_fixture *f, struct ivg_producer *producer)
{
        struct ivg_answer_header header;
        uint8_t payload[IVG_MAILBOX_PAYLOAD_BYTES];

        (void)f;
        return ivg_producer_poll_answer(producer, producer->sequence, &header, payload);
}

CUresult fixture_answer(struct exec_fixture *f, struct ivg_producer *producer, void *answer, uint32_t bytes)
{
        struct ivg_answer_header header;
        uint8_t payload[IVG_MAILBOX_PAYLOAD_BYTES];
        const uint64_t end = ivg_clock_ns() + PATIENCE_NS;

        while (!ivg_producer_poll_answer(producer, producer->sequence, &header, payload)) {
                if (ivg_clock_ns() >= end)
                        fail_msg("no answer to sequence %llu, ring state %d", (unsigned long long)producer->sequence,
                                 ivg_ring_state_errno(&f->ring));
                sched_yield();
        }
        if (bytes) {
                assert_true(header.answer_bytes >= bytes || header.result != CUDA_SUCCESS);
                memcpy(answer,
                       header.answer_bytes > sizeof(payload)
                               ? ivg_region_answer_area(&f->guest_region, FIXTURE_CHANNEL, producer->index)
                               : payload,
                       bytes < header.answer_bytes ? bytes : header.answer_bytes);
        }
        return (CUresult)header.result;
}

CUresult fixture_call(struct exec_fixture *f, struct ivg_producer *producer, uint16_t number, void *request,
                      uint32_t bytes, void *answer, uint32_t answer_bytes)
{
        const struct ivg_call_header header = fixture_header(producer, bytes, true);

        memcpy(request, &header, sizeof(header));
        fixture_send(f, producer, number, request, bytes);
        return fixture_answer(f, producer, answer, answer_bytes);
}

void fixture_async(struct exec_fixture *f, struct ivg_producer *producer, uint16_t number, void *request,
                   uint32_t bytes)
{
        const struct ivg_call_header header = fixture_header(producer, bytes, false);

        memcpy(request, &header, sizeof(header));
        fixture_send(f, producer, number, request, bytes);
}

void fixture_settle(struct exec_fixture *f, struct ivg_producer *producer)
{
        struct ivg_request_cuMemGetInfo_v2 request = {.header = {0}};
        struct ivg_answer_cuMemGetInfo_v2 answer;

        assert_int_equal(
                fixture_call(f, producer, IVG_CALL_cuMemGetInfo_v2, &request, sizeof(request), &answer, sizeof(answer)),
                CUDA_SUCCESS);
        assert_int_equal(answer.total, 2);
}

bool fixture_faulted(struct exec_fixture *f, enum ivg_ring_fault fault)
{
        const uint64_t end = ivg_clock_ns() + PATIENCE_NS;

        while (ivg_ring_state_errno(&f->ring) == 0 && ivg_clock_ns() < end)
                sched_yield();
        return ivg_ring_state_errno(&f->ring) == -EPROTO &&
               (uint32_t)ivg_load_acquire_u64(&f->ring.host->fault) == (uint32_t)fault &&
               fixture_reaches(&f->exec->fault, (uint32_t)fault);
}

bool fixture_reaches(_Atomic(uint32_t) *word, uint32_t value)
{
        const uint64_t end = ivg_clock_ns() + PATIENCE_NS;

        while (atomic_load(word) != value && ivg_clock_ns() < end)
                sched_yield();
        return atomic_load(word) == value;
}

/* ---- shorthands ---- */

CUresult fixture_alloc(struct exec_fixture *f, struct ivg_producer *producer, uint64_t bytes, uint64_t *address)
{
        struct ivg_request_cuMemAlloc_v2 request = {.bytesize = bytes};
        struct ivg_answer_cuMemAlloc_v2 answer = {0};
        const CUresult result =
                fixture_call(f, producer, IVG_CALL_cuMemAlloc_v2, &request, sizeof(request), &answer, sizeof(answer));

        *address = answer.dptr;
        return result;
}

void fixture_free_async(struct exec_fixture *f, struct ivg_producer *producer, uint64_t address)
{
        struct ivg_request_cuMemFree_v2 request = {.dptr = address};

        fixture_async(f, producer, IVG_CALL_cuMemFree_v2, &request, sizeof(request));
}

void fixture_launch(struct exec_fixture *f, struct ivg_producer *producer, uint32_t kernel, ivg_id stream)
{
        struct ivg_request_ivgLaunch request = {.function = FIXTURE_KERNEL(kernel),
                                                .stream = stream,
                                                .grid_x = 1,
                                                .grid_y = 1,
                                                .grid_z = 1,
                                                .block_x = 1,
                                                .block_y = 1,
                                                .block_z = 1};

        fixture_async(f, producer, IVG_CALL_ivgLaunch, &request, sizeof(request));
}

CUresult fixture_synchronize(struct exec_fixture *f, struct ivg_producer *producer)
{
        struct ivg_request_cuStreamSynchronize request = {.hStream = FIXTURE_STREAM};

        return fixture_call(f, producer, IVG_CALL_cuStreamSynchronize, &request, sizeof(request), NULL, 0);
}
