#include "guest_fake_host.h"
#include "guest_send.h"
#include "ivgpu_calls.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define QUEUE_MAX 4096u
#define EXTENTS_MAX 256u
#define DEVICE_WINDOW (1ull << 32) /* addresses that this process has no memory at: the device's own choice */

struct ivg_process ivg_process;
bool ivg_log_calls;

struct queued {
        uint16_t number;
        uint8_t *request;
        CUresult fail;
};
static struct {
        pthread_mutex_t lock;
        pthread_cond_t work, idle;
        struct queued queue[QUEUE_MAX];
        uint32_t head, tail; /* done and given, modulo 2^32 */
        uint32_t delay_us;
        CUresult fail_copy, fail_register;
        uint32_t fail_copy_after;
        uint8_t owned[EXTENTS_MAX];
        uint32_t registered_bytes[EXTENTS_MAX]; /* in extents, at the first of a range */
        struct fake_host_counts counts;
        uint8_t *device_window;
        uint64_t device_used;
        uint32_t collide;
} host = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER};

static _Atomic(uint64_t) words[IVG_COMPLETION_WORDS];
/* The one object there is, current in every thread. */
static struct ivg_object context = {.kind = IVG_KIND_CONTEXT, .id = 0x1000010};
struct ivg_object_window ivg_object_window = {.base = (uintptr_t)&context, .usable_bytes = sizeof(context)};
_Thread_local struct ivg_thread ivg_thread_here = {
        .context_depth = 1, .context_stack = {&context}, .context_ids = {0x1000010}};
static struct ivg_region region;

static void die(const char *what)
{
        fprintf(stderr, "fake host: %s\n", what);
        abort();
}

/* ---- what the asynchronous calls do ---- */

static uint8_t *arena_at(uint64_t offset, uint64_t bytes)
{
        if (offset > ivg_process.arena_bytes || bytes > ivg_process.arena_bytes - offset)
                die("arena offset out of bounds");
        for (uint64_t extent = offset / IVG_EXTENT_BYTES; extent * IVG_EXTENT_BYTES < offset + bytes; extent++)
                if (!host.owned[extent])
                        die("arena extent is not owned");
        return ivg_process.arena + offset;
}

static void complete(uint32_t index, uint64_t value, CUresult result)
{
        if (index == IVG_COMPLETION_NONE)
                return;
        if (index >= IVG_COMPLETION_WORDS)
                die("completion index");
        ivg_store_release_u64(&words[index],
                              result == CUDA_SUCCESS ? value : ivg_completion_failure(value, (uint32_t)result));
}

static void *at(uint64_t address)
{
        return (void *)(uintptr_t)address;
}

static void copy_rows(uint64_t to, uint64_t to_pitch, uint64_t from, uint64_t from_pitch, uint64_t width, uint64_t rows)
{
        for (uint64_t row = 0; row < rows; row++)
                memcpy(at(to + row * to_pitch), at(from + row * from_pitch), width);
}

static void execute(const struct queued *queued)
{
        const void *request = queued->request;
        switch (queued->number) {
        case IVG_CALL_ivgCopyHtoD: {
                const struct ivg_request_ivgCopyHtoD *r = request;
                if (queued->fail == CUDA_SUCCESS)
                        memcpy(at(r->dst), arena_at(r->arena_offset, r->bytes), r->bytes);
                complete(r->completion_index, r->completion_value, queued->fail);
                return;
        }
        case IVG_CALL_ivgCopyDtoH: {
                const struct ivg_request_ivgCopyDtoH *r = request;
                if (queued->fail == CUDA_SUCCESS)
                        memcpy(arena_at(r->arena_offset, r->bytes), at(r->src), r->bytes);
                complete(r->completion_index, r->completion_value, queued->fail);
                return;
        }
        case IVG_CALL_ivgCopyHtoDInline: {
                const struct ivg_request_ivgCopyHtoDInline *r = request;
                if (r->data.where != IVG_RANGE_INLINE)
                        die("inline copy that is not inline");
                memcpy(at(r->dst), queued->request + r->data.offset, r->data.bytes);
                return;
        }
        case IVG_CALL_ivgCopy2D: {
                const struct ivg_request_ivgCopy2D *r = request;
                copy_rows(r->dst, r->dst_pitch, r->src, r->src_pitch, r->width, r->height);
                complete(r->completion_index, r->completion_value, CUDA_SUCCESS);
                return;
        }
        case IVG_CALL_ivgCopy3D: {
                const struct ivg_request_ivgCopy3D *r = request;
                for (uint64_t z = 0; z < r->depth; z++)
                        copy_rows(r->dst + z * r->dst_pitch * r->dst_height, r->dst_pitch,
                                  r->src + z * r->src_pitch * r->src_height, r->src_pitch, r->width, r->height);
                complete(r->completion_index, r->completion_value, CUDA_SUCCESS);
                return;
        }
        case IVG_CALL_cuMemcpyDtoDAsync_v2: {
                const struct ivg_request_cuMemcpyDtoDAsync_v2 *r = request;
                memmove(at(r->dstDevice), at(r->srcDevice), r->ByteCount);
                return;
        }
        default:
                die("asynchronous call it does not know");
        }
}

static void *device_thread(void *arg)
{
        (void)arg;
        pthread_mutex_lock(&host.lock);
        for (;;) {
                while (host.head == host.tail)
                        pthread_cond_wait(&host.work, &host.lock);
                const struct queued queued = host.queue[host.head % QUEUE_MAX];
                const uint32_t delay_us = host.delay_us;
                pthread_mutex_unlock(&host.lock);
                if (delay_us > 0)
                        usleep(delay_us);
                execute(&queued);
                free(queued.request);
                pthread_mutex_lock(&host.lock);
                host.head++;
                pthread_cond_broadcast(&host.idle);
        }
        return NULL;
}

static void wait_idle_locked(void)
{
        const uint32_t target = host.tail;
        while ((int32_t)(host.head - target) < 0)
                pthread_cond_wait(&host.idle, &host.lock);
}

/* ---- calls ---- */

static void count_call(uint16_t number, struct queued *queued)
{
        switch (number) {
        case IVG_CALL_ivgCopyHtoD:
        case IVG_CALL_ivgCopyDtoH:
                host.counts.copies++;
                if (host.fail_copy_after > 0) {
                        host.fail_copy_after--;
                        return;
                }
                queued->fail = host.fail_copy;
                if (host.fail_copy != CUDA_SUCCESS && host.counts.deferred == CUDA_SUCCESS)
                        host.counts.deferred = host.fail_copy;
                host.fail_copy = CUDA_SUCCESS;
                return;
        case IVG_CALL_ivgCopyHtoDInline:
                host.counts.inline_copies++;
                return;
        case IVG_CALL_ivgCopy2D:
        case IVG_CALL_ivgCopy3D:
                host.counts.pitched_copies++;
                return;
        default:
                return;
        }
}

CUresult ivg_call_async(uint16_t number, void *request, uint32_t request_bytes)
{
        pthread_mutex_lock(&host.lock);
        if (number == IVG_CALL_cuMemFree_v2) {
                host.counts.allocations_live--;
        } else {
                struct queued queued = {.number = number, .request = malloc(request_bytes)};
                if (queued.request == NULL || host.tail - host.head == QUEUE_MAX)
                        die("queue");
                memcpy(queued.request, request, request_bytes);
                count_call(number, &queued);
                host.queue[host.tail++ % QUEUE_MAX] = queued;
                pthread_cond_signal(&host.work);
        }
        pthread_mutex_unlock(&host.lock);
        return CUDA_SUCCESS;
}

static CUresult register_extents(const struct ivg_request_ivgExtentsRegister *r)
{
        const uint64_t first = r->offset / IVG_EXTENT_BYTES, count = r->bytes / IVG_EXTENT_BYTES;
        const CUresult fail = host.fail_register;
        host.fail_register = CUDA_SUCCESS;
        if (r->offset % IVG_EXTENT_BYTES != 0 || r->bytes % IVG_EXTENT_BYTES != 0 || count == 0)
                die("registration of less than extents");
        arena_at(r->offset, r->bytes);
        if (fail != CUDA_SUCCESS)
                return fail;
        if (host.registered_bytes[first] != 0)
                die("extents registered twice");
        host.registered_bytes[first] = (uint32_t)count;
        host.counts.extents_registered += (uint32_t)count;
        return CUDA_SUCCESS;
}

static CUresult unregister_extents(const struct ivg_request_ivgExtentsUnregister *r)
{
        const uint64_t first = r->offset / IVG_EXTENT_BYTES;
        if (host.registered_bytes[first] == 0)
                die("unregistering what is not registered");
        host.counts.extents_registered -= host.registered_bytes[first];
        host.registered_bytes[first] = 0;
        return CUDA_SUCCESS;
}

static uint64_t device_memory(uint64_t bytes)
{
        const uint64_t granule = 2u << 20, rounded = (bytes + granule - 1) / granule * granule;
        host.counts.allocations_live++;
        if (host.collide > 0) {
                host.collide--;
                uint8_t *own = mmap(NULL, rounded + granule, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                return ((uintptr_t)own + granule - 1) / granule * granule;
        }
        host.device_used += rounded;
        return (uintptr_t)host.device_window + host.device_used - rounded;
}

static CUresult execute_sync(uint16_t number, const void *request, void *answer)
{
        switch (number) {
        case IVG_CALL_cuStreamSynchronize:
        case IVG_CALL_cuCtxSynchronize: {
                wait_idle_locked();
                host.counts.synchronizations++;
                const CUresult result = host.counts.deferred;
                host.counts.deferred = CUDA_SUCCESS;
                return result;
        }
        case IVG_CALL_ivgTakeAsyncError:
                ((struct ivg_answer_ivgTakeAsyncError *)answer)->error = (int32_t)host.counts.deferred;
                host.counts.deferred = CUDA_SUCCESS;
                return CUDA_SUCCESS;
        case IVG_CALL_ivgExtentsRegister:
                return register_extents(request);
        case IVG_CALL_ivgExtentsUnregister:
                wait_idle_locked();
                return unregister_extents(request);
        case IVG_CALL_cuMemAlloc_v2:
                ((struct ivg_answer_cuMemAlloc_v2 *)answer)->dptr =
                        device_memory(((const struct ivg_request_cuMemAlloc_v2 *)request)->bytesize);
                return CUDA_SUCCESS;
        case IVG_CALL_cuMemFree_v2:
                host.counts.allocations_live--;
                return CUDA_SUCCESS;
        default:
                die("synchronous call it does not know");
                return CUDA_ERROR_UNKNOWN;
        }
}

CUresult ivg_call_sync(uint16_t number, void *request, uint32_t request_bytes, void *answer, uint32_t answer_bytes_min,
                       uint32_t answer_bytes_max, uint32_t *answer_bytes)
{
        (void)request_bytes;
        (void)answer_bytes_max;
        pthread_mutex_lock(&host.lock);
        const CUresult result = execute_sync(number, request, answer);
        pthread_mutex_unlock(&host.lock);
        if (answer_bytes != NULL)
                *answer_bytes = answer_bytes_min;
        return result;
}

/* ---- the link ---- */

int ivg_link_extents_claim(struct ivg_link *link, uint32_t count, uint32_t *first)
{
        (void)link;
        const uint32_t extents = (uint32_t)(ivg_process.arena_bytes / IVG_EXTENT_BYTES);
        uint32_t run = 0;
        int result = -ENOSPC;
        pthread_mutex_lock(&host.lock);
        for (uint32_t i = 0; i < extents && result != 0; i++) {
                run = host.owned[i] ? 0 : run + 1;
                if (run == count) {
                        *first = i + 1 - count;
                        memset(&host.owned[*first], 1, count);
                        host.counts.extents_owned += count;
                        result = 0;
                }
        }
        pthread_mutex_unlock(&host.lock);
        return result;
}

void ivg_link_extents_release(struct ivg_link *link, uint32_t first, uint32_t count)
{
        (void)link;
        pthread_mutex_lock(&host.lock);
        for (uint32_t i = first; i < first + count; i++) {
                if (!host.owned[i])
                        die("release of an extent that is free");
                if (host.registered_bytes[i] != 0)
                        die("release of an extent that is registered");
                host.owned[i] = 0;
        }
        host.counts.extents_owned -= count;
        pthread_mutex_unlock(&host.lock);
}

const struct ivg_region *ivg_link_region(const struct ivg_link *link)
{
        (void)link;
        return &region;
}

uint32_t ivg_link_channel(const struct ivg_link *link)
{
        (void)link;
        return 0;
}

_Atomic(uint64_t) *ivg_region_completions(const struct ivg_region *of, uint32_t channel)
{
        (void)of;
        (void)channel;
        return words;
}

int ivg_link_alive(struct ivg_link *link)
{
        (void)link;
        return 0;
}

/* ---- the rest of the shim ---- */

CUresult ivg_process_lose(int negative_errno, const char *where)
{
        (void)negative_errno;
        die(where);
        return CUDA_ERROR_UNKNOWN;
}

CUresult ivg_process_refusal(void)
{
        return CUDA_ERROR_NOT_INITIALIZED;
}

CUresult ivg_result_from_errno(int negative_errno)
{
        (void)negative_errno;
        return CUDA_ERROR_UNKNOWN;
}

CUresult ivg_context_require(struct ivg_object **out)
{
        *out = &context;
        return CUDA_SUCCESS;
}

CUresult ivg_refuse(const char *name)
{
        (void)name;
        return CUDA_ERROR_NOT_SUPPORTED;
}

void ivg_count_local(void)
{
}

void ivg_log_local(const char *name, CUresult result)
{
        (void)name;
        (void)result;
}

void ivg_log(const char *format, ...)
{
        va_list arguments;
        va_start(arguments, format);
        vfprintf(stderr, format, arguments);
        fputc('\n', stderr);
        va_end(arguments);
}

/* ---- the test's side ---- */

void fake_host_start(uint32_t extents, uint32_t delay_us)
{
        pthread_t thread;
        if (extents > EXTENTS_MAX)
                die("extents");
        ivg_process.arena_bytes = (uint64_t)extents * IVG_EXTENT_BYTES;
        ivg_process.arena = mmap(NULL, ivg_process.arena_bytes, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        /* The device's addresses: aligned, and found vacant by whoever asks (they are unmapped until then). */
        uint8_t *window = mmap(NULL, DEVICE_WINDOW, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (ivg_process.arena == MAP_FAILED || window == MAP_FAILED || munmap(window, DEVICE_WINDOW) != 0)
                die("address space");
        host.device_window = (uint8_t *)(((uintptr_t)window + (2u << 20) - 1) & ~(uintptr_t)((2u << 20) - 1));
        host.delay_us = delay_us;
        ivg_store_release_u32(&ivg_process.state, IVG_PROCESS_READY);
        if (pthread_create(&thread, NULL, device_thread, NULL) != 0)
                die("thread");
        pthread_detach(thread);
}

void fake_host_set_delay(uint32_t delay_us)
{
        pthread_mutex_lock(&host.lock);
        host.delay_us = delay_us;
        pthread_mutex_unlock(&host.lock);
}

void fake_host_settle(void)
{
        pthread_mutex_lock(&host.lock);
        wait_idle_locked();
        pthread_mutex_unlock(&host.lock);
}

void fake_host_fail_next_copy(CUresult result)
{
        fake_host_fail_copy_after(0, result);
}

void fake_host_fail_copy_after(uint32_t copies, CUresult result)
{
        pthread_mutex_lock(&host.lock);
        host.fail_copy = result;
        host.fail_copy_after = copies;
        pthread_mutex_unlock(&host.lock);
}

void fake_host_fail_next_register(CUresult result)
{
        pthread_mutex_lock(&host.lock);
        host.fail_register = result;
        pthread_mutex_unlock(&host.lock);
}

void fake_host_collide(uint32_t allocations)
{
        pthread_mutex_lock(&host.lock);
        host.collide = allocations;
        pthread_mutex_unlock(&host.lock);
}

struct fake_host_counts fake_host_count(void)
{
        pthread_mutex_lock(&host.lock);
        const struct fake_host_counts counts = host.counts;
        pthread_mutex_unlock(&host.lock);
        return counts;
}

/* Nothing captures here. */
_Atomic(uint32_t) ivg_captures;

CUresult ivg_callbacks_require(void)
{
        return CUDA_ERROR_NOT_SUPPORTED; /* nothing captures here */
}

CUresult ivg_capture_allows(void)
{
        return CUDA_SUCCESS; /* nothing captures */
}

bool ivg_capture_takes(ivg_id stream)
{
        (void)stream;
        return false;
}

void ivg_expect_dma(uint64_t bytes)
{
        (void)bytes;
}

bool ivg_wait_yielding(bool (*look)(void *argument), void *argument)
{
        (void)look, (void)argument;
        return false; /* these tests look at what comes after the waiting */
}

uint64_t ivg_spin_ns(uint64_t usual)
{
        return usual;
}

CUresult ivg_write_settle(ivg_id stream, uint64_t address)
{
        return ivg_memory_settles(address) ? ivg_send_cuStreamSynchronize(stream) : CUDA_SUCCESS;
}

struct ivg_moment ivg_moment_now(void)
{
        return (struct ivg_moment){.tail = 0};
}

bool ivg_copy_follows_nothing(const struct ivg_copy *copy)
{
        (void)copy;
        return true;
}

bool ivg_upload_waits(const struct ivg_copy *copy)
{
        (void)copy;
        return false;
}

CUresult ivg_upload_wait(const struct ivg_copy *copy)
{
        (void)copy;
        return CUDA_SUCCESS;
}

void ivg_copy_has_waited(const struct ivg_copy *copy, const struct ivg_moment *before)
{
        (void)copy;
        (void)before;
}

_Atomic(uint32_t) ivg_frees_in_order;
