/* One call's way: header -> claim -> write -> commit, and for synchronous ones the answer. In that order below.
 *
 * A record of a thread is visible to the executor before any later one of the same thread, and a claim is made before
 * it returns: asynchronous calls keep the program's order per thread, and across threads that synchronise. */
#include "call_print.h"
#include "guest.h"
#include "ivgpu/sticky_error.h"
#include "work.h"
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A full ring is 4096 slots of work ahead: worth a short spin (about 50 us of PAUSE), then sleeps that double. A ring
 * that stays full, as that of a paused VM, costs next to nothing: sleeps grow with the wait and lengthen it by 1 %. */
#define FULL_SPINS_MAX 1000u
#define FULL_SLEEP_NS_MIN 20000
#define FULL_SLEEP_NS_DOUBLED 1000000
#define FULL_SLEEP_PART 100
#define FULL_SLEEP_NS_MAX 50000000
/* Answers of short calls come within microseconds; a thread that sleeps pays a wake-up of several. */
#define ANSWER_SPIN_NS 50000
#define ANSWER_SPINS_PER_CLOCK 32u /* several times IVG_LOOKS_PER_MAILBOX */
/* A slice of sleep; between two the peer's life is checked. */
#define ANSWER_WAIT_MS 1000u

static uint32_t spin_ns = ANSWER_SPIN_NS;
_Atomic(uint32_t) ivg_faulted;

static struct {
        uint32_t threads_max;
        _Atomic(uint32_t) threads; /* a count of its own: relaxed */
        _Atomic(uint32_t) off;
} yielding;

__attribute__((constructor)) static void call_start(void)
{
        const long processors = sysconf(_SC_NPROCESSORS_ONLN);

        /* With one processor a spinning thread keeps the answer from being made. */
        if (processors <= 1)
                spin_ns = 0;
        yielding.threads_max = processors > 1 ? (uint32_t)processors / 2 : 0;
        const char *wait = secure_getenv("IVGPU_WAIT");
        if (wait != NULL && strcmp(wait, "sleep") == 0)
                ivg_waits_block();
}

static int64_t now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now); /* vDSO: no system call */
        return now.tv_sec * 1000000000ll + now.tv_nsec;
}

void ivg_expect_dma(uint64_t bytes)
{
        struct ivg_thread *thread = ivg_thread_local();
        const uint64_t ns = bytes / IVG_DMA_BYTES_PER_NS;

        thread->dma_ns = ns > IVG_DMA_SPIN_NS_MAX - thread->dma_ns ? IVG_DMA_SPIN_NS_MAX : thread->dma_ns + ns;
}

uint64_t ivg_spin_ns(uint64_t usual)
{
        struct ivg_thread *thread = ivg_thread_local();
        uint64_t ns = usual;

        if (spin_ns == 0)
                return 0;
        if (thread->rang) {
                /* Where whoever was woken has been put on this processor, it goes first. */
                sched_yield();
                if (ns < IVG_WAKE_SPIN_NS)
                        ns = IVG_WAKE_SPIN_NS;
        }
        ns += thread->dma_ns;
        thread->rang = false;
        thread->dma_ns = 0;
        return ns;
}

void ivg_waits_block(void)
{
        ivg_store_relaxed_u32(&yielding.off, 1); /* a word by itself */
}

/* Whoever has waited long goes on with more calls as a rule: a consumer that has fallen asleep meanwhile wakes beside
 * it, instead of in front of the first of them. A ring too many is harmless, and so is one that misses a sleeper. */
static void wake_ahead(void)
{
        struct ivg_ring_producer *line = ivg_thread_local()->line;

        if (line == NULL || ivg_load_relaxed_u64(&ivg_process.ring.host->sleep_at) == 0)
                return;
        ivg_store_relaxed_u64(&line->doorbells, ivg_load_relaxed_u64(&line->doorbells) + 1);
        ivg_link_doorbell(ivg_process.link);
}

bool ivg_wait_yielding(bool (*look)(void *argument), void *argument)
{
        bool seen = false;
        int64_t end;

        if (ivg_load_relaxed_u32(&yielding.off))
                return false;
        end = now_ns() + IVG_WAIT_YIELD_NS;
        if (atomic_fetch_add_explicit(&yielding.threads, 1, memory_order_relaxed) < yielding.threads_max)
                do {
                        for (uint32_t i = 0; i < ANSWER_SPINS_PER_CLOCK && !seen; i++) {
                                seen = look(argument);
                                ivg_cpu_relax();
                        }
                        if (!seen)
                                sched_yield();
                } while (!seen && now_ns() < end);
        atomic_fetch_sub_explicit(&yielding.threads, 1, memory_order_relaxed);
        if (seen)
                wake_ahead();
        return seen;
}

/* IVGPU_LOG=calls: what crosses, beside the lines of the exported functions. */
__attribute__((cold)) static void log_record(uint16_t number, const void *request, uint32_t request_bytes)
{
        char text[400];

        (void)ivg_print_call(number, text, sizeof(text), request, request_bytes);
        ivg_log("  -> %s", text);
}

/* The ring is full: waits for room as long as somebody lives who makes some. */
__attribute__((cold, noinline)) static CUresult reserve_waiting(struct ivg_producer *producer, uint32_t bytes,
                                                                struct ivg_record *record, int rc)
{
        struct timespec pause = {.tv_nsec = FULL_SLEEP_NS_MIN};
        uint64_t waited_ns = 0;

        /* Bounded by the peer's life. */
        for (uint32_t spin = 0; rc == -EAGAIN; rc = ivg_producer_reserve(producer, bytes, record)) {
                int alive;

                if (spin < FULL_SPINS_MAX) {
                        spin++;
                        ivg_cpu_relax();
                        continue;
                }
                alive = ivg_link_alive(ivg_process.link);
                if (alive != 0)
                        return ivg_process_lose(alive, "waiting for room in the ring");
                nanosleep(&pause, NULL);
                waited_ns += (uint64_t)pause.tv_nsec;
                if (pause.tv_nsec < FULL_SLEEP_NS_DOUBLED)
                        pause.tv_nsec *= 2;
                else if (pause.tv_nsec < FULL_SLEEP_NS_MAX && waited_ns / FULL_SLEEP_PART > (uint64_t)pause.tv_nsec)
                        pause.tv_nsec = (long)(waited_ns / FULL_SLEEP_PART);
        }
        if (rc == 0)
                return CUDA_SUCCESS;
        return rc == -EMSGSIZE ? CUDA_ERROR_INVALID_VALUE : ivg_process_lose(rc, "sending a call");
}

/* Inline: the flags of the two callers are constants or nearly so. */
__attribute__((always_inline)) static inline CUresult
send_record(struct ivg_thread *thread, struct ivg_producer *producer, uint16_t number, struct ivg_call_header *header,
            uint32_t request_bytes, uint8_t flags, uint32_t sequence_low)
{
        const struct ivg_object *context = ivg_context_current_of(thread);
        struct ivg_ring_producer *line = ivg_producer_line(producer);
        struct ivg_record record;
        const int rc = ivg_producer_reserve(producer, request_bytes, &record);

        if (__builtin_expect(rc != 0, 0)) {
                const CUresult result = reserve_waiting(producer, request_bytes, &record, rc);

                if (result != CUDA_SUCCESS)
                        return result;
        }

        header->sequence_low = sequence_low;
        header->context = context != NULL ? context->id : IVG_ID_NONE;
        header->bytes = (uint16_t)request_bytes;
        header->producer = (uint8_t)producer->index;
        header->flags = flags;
        header->reserved = 0;
        ivg_record_fill(producer, &record, header);
        if (__builtin_expect(ivg_log_calls, 0))
                log_record(number, header, request_bytes);

        if (__builtin_expect(ivg_producer_commit(producer, &record, number), 0)) {
                ivg_store_relaxed_u64(&line->doorbells, ivg_load_relaxed_u64(&line->doorbells) + 1);
                ivg_link_doorbell(ivg_process.link);
                thread->rang = true;
        }
        /* Relaxed: counters to look at, of which this thread is the only writer. */
        ivg_store_relaxed_u64(&line->calls, ivg_load_relaxed_u64(&line->calls) + 1);
        if (thread->work != NULL)
                ivg_work_gave(thread->work, record.position);
        if (flags & IVG_CALL_WANTS_ANSWER)
                ivg_store_relaxed_u64(&line->calls_sync, ivg_load_relaxed_u64(&line->calls_sync) + 1);
        return CUDA_SUCCESS;
}

/* This thread's line; NULL when nothing may go out. */
static inline struct ivg_thread *thread_for_call(void)
{
        struct ivg_thread *thread = ivg_thread_self();
        const uint32_t lost = ivg_load_relaxed_u32(&ivg_process.lost); /* as in ivg_process_check */

        return __builtin_expect(lost == 0, 1) ? thread : NULL;
}

__attribute__((cold)) static CUresult no_thread_for_call(void)
{
        return ivg_thread_local()->in_callback ? CUDA_ERROR_NOT_PERMITTED : ivg_process_refusal();
}

CUresult ivg_call_async(uint16_t number, void *request, uint32_t request_bytes)
{
        CUresult result;

        if (ivg_capturing() || __builtin_expect(ivg_load_relaxed_u32(&ivg_faulted) != 0, 0))
                return ivg_call_sync(number, request, request_bytes, NULL, 0, 0, NULL);
        struct ivg_thread *thread = thread_for_call();
        if (__builtin_expect(thread == NULL, 0))
                return no_thread_for_call();
        result = send_record(thread, ivg_thread_producer_take(thread), number, request, request_bytes, 0, 0);
        ivg_thread_producer_give(thread);
        return result;
}

/* ---- answers ---- */

struct answer {
        struct ivg_producer *producer;
        uint64_t sequence;
        struct ivg_answer_header header;
        uint8_t payload[IVG_MAILBOX_PAYLOAD_BYTES];
};

static bool answer_poll(struct answer *answer)
{
        return ivg_producer_poll_answer(answer->producer, answer->sequence, &answer->header, answer->payload);
}

static bool answer_is_there(void *argument)
{
        const struct answer *answer = argument;
        const struct ivg_producer *producer = answer->producer;

        /* P8, pairs with C6: sequentially consistent, for the wait may sleep on its word. */
        return ivg_load_seq_cst_u64(&producer->mailbox->sequence) == answer->sequence;
}

static bool answer_look(void *argument)
{
        return answer_poll(argument);
}

static bool answer_spin(struct answer *answer)
{
        int64_t end;

        if (spin_ns == 0)
                return answer_poll(answer);
        end = now_ns() + (int64_t)ivg_spin_ns(spin_ns);
        ivg_producer_rest(answer->producer);
        do {
                for (uint32_t look = 0; look < ANSWER_SPINS_PER_CLOCK; look++) {
                        if (ivg_producer_look_for_answer(answer->producer, answer->sequence, look, &answer->header,
                                                         answer->payload))
                                return true;
                        ivg_cpu_relax();
                }
        } while (now_ns() < end);
        return false;
}

/* Sleeps until the answer is there or its maker is gone. There is no other limit: a kernel may run for hours. */
static CUresult answer_sleep(struct ivg_producer *producer, struct answer *answer)
{
        int rc = 0;

        if (!ivg_producer_wait_begin(producer, answer->sequence))
                do
                        rc = ivg_link_wait(ivg_process.link, answer_is_there, answer, ANSWER_WAIT_MS);
                while (rc == -ETIMEDOUT && (rc = ivg_link_alive(ivg_process.link)) == 0 && !answer_is_there(answer));
        ivg_producer_wait_end(producer);
        if (answer_poll(answer)) /* also one that came with the executor's last breath */
                return CUDA_SUCCESS;
        return ivg_process_lose(rc != 0 ? rc : -EOWNERDEAD, "waiting for an answer");
}

/* Copies the answer's bytes, from the mailbox or the thread's answer area. */
static CUresult answer_read(const struct answer *answer, void *out, uint32_t bytes_min, uint32_t bytes_max,
                            uint32_t *answer_bytes)
{
        const CUresult result = (CUresult)answer->header.result;
        const uint32_t bytes = answer->header.answer_bytes;
        const uint32_t wanted = bytes < bytes_max ? bytes : bytes_max;
        const void *from = answer->payload;

        if (bytes > IVG_ANSWER_AREA_BYTES || (result == CUDA_SUCCESS && bytes < bytes_min)) {
                ivg_log("a host's answer of %u bytes is not in %u..%u", bytes, bytes_min, IVG_ANSWER_AREA_BYTES);
                return CUDA_ERROR_UNKNOWN;
        }
        /* The area was filled before the mailbox's sequence, which answer_poll acquired. */
        if (bytes > IVG_MAILBOX_PAYLOAD_BYTES)
                from = ivg_region_answer_area(ivg_link_region(ivg_process.link), ivg_link_channel(ivg_process.link),
                                              answer->producer->index);
        if (wanted != 0)
                memcpy(out, from, wanted);
        if (answer_bytes != NULL)
                *answer_bytes = wanted;
        if (__builtin_expect(result != CUDA_SUCCESS, 0) && ivg_error_is_sticky(result))
                ivg_store_relaxed_u32(&ivg_faulted, 1);
        if (__builtin_expect(result == IVG_RESULT_RATE_LIMITED, 0))
                ivg_call_rate_limited();
        return result;
}

/* Calls that the program did not make itself must not spoil its capture. */
static bool is_our_own(uint16_t number)
{
        switch (number) {
        case IVG_CALL_ivgExtentsRegister:
        case IVG_CALL_ivgExtentsUnregister:
        case IVG_CALL_ivgTakeAsyncError:
        case IVG_CALL_ivgThreadEnd:
        case IVG_CALL_ivgDeviceSnapshot:
        case IVG_CALL_ivgDeviceLayout:
        case IVG_CALL_ivgFunctionDescribe:
        case IVG_CALL_ivgFunctionParameters:
                return true;
        default:
                return false;
        }
}

static uint8_t capture_flags(const struct ivg_thread *thread, uint16_t number)
{
        if (!ivg_capturing())
                return 0;
        const uint32_t mode = is_our_own(number) ? CU_STREAM_CAPTURE_MODE_RELAXED : thread->capture_mode;
        return (uint8_t)(IVG_CALL_CAPTURING | mode << IVG_CALL_MODE_SHIFT);
}

CUresult ivg_call_sync(uint16_t number, void *request, uint32_t request_bytes, void *answer_out,
                       uint32_t answer_bytes_min, uint32_t answer_bytes_max, uint32_t *answer_bytes)
{
        CUresult result;
        struct ivg_thread *thread = thread_for_call();
        struct ivg_producer *producer;
        struct answer answer;

        if (thread == NULL)
                return no_thread_for_call();
        producer = ivg_thread_producer_take(thread);
        answer.producer = producer;
        answer.sequence = ++producer->sequence;
        result = send_record(thread, producer, number, request, request_bytes,
                             IVG_CALL_WANTS_ANSWER | capture_flags(thread, number), (uint32_t)answer.sequence);
        if (result == CUDA_SUCCESS && !answer_spin(&answer) && !ivg_wait_yielding(answer_look, &answer))
                result = answer_sleep(producer, &answer);
        if (result == CUDA_SUCCESS)
                result = answer_read(&answer, answer_out, answer_bytes_min, answer_bytes_max, answer_bytes);
        ivg_thread_producer_give(thread);
        if (result != CUDA_ERROR_NOT_READY)
                ivg_progress_note();
        if (__builtin_expect(ivg_output_is_there(), 0) && !thread->fetching_output)
                ivg_output_fetch();
        return result;
}
