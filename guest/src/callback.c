/* Host functions of the program: cuLaunchHostFunc and cuStreamAddCallback.
 *
 * The executor says which function is due (ivgpu/call_wire.h has the queue), one thread of this process runs them, in
 * the order in which they came due, and counts them. That thread is no thread of the program: nothing that the program
 * holds while it makes a call can stop it, and it makes no calls, as CUDA forbids them in host functions
 * (CUDA_ERROR_NOT_PERMITTED). It sleeps until the host interrupts.
 *
 *   G1 IVG_CALLBACK_DUE, acquire (or stronger): pairs with the executor's store B1 after the queue's words
 *   G2 the count, release after the function has returned: pairs with the executor's load B2 */
#include "cuda_api.h"
#include "guest_send.h"
#include "memory.h"
#include "user_object.h"
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#define CALLBACK_WAIT_MS 1000u /* a slice of sleep; between two the peer's life is checked */
/* Callbacks often come in rows: looks so often (some microseconds) before it sleeps. */
#define CALLBACK_SPINS_MAX 500u

static struct {
        pthread_mutex_t lock; /* of starting */
        _Atomic(uint32_t) started;
        _Atomic(uint64_t) *count; /* arena memory, kept until the process ends */
        uint64_t ran;             /* the callback thread's */
        uint32_t spins_max;
} callbacks = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const _Atomic(uint64_t) *word(uint32_t index)
{
        return ivg_region_completions(ivg_link_region(ivg_process.link), ivg_link_channel(ivg_process.link)) + index;
}

static bool is_due(void *argument)
{
        (void)argument;
        return ivg_load_seq_cst_u64(word(IVG_CALLBACK_DUE)) != callbacks.ran; /* G1 */
}

static void run_one(void)
{
        const _Atomic(uint64_t) *slot =
                word(IVG_CALLBACK_QUEUE + (uint32_t)(callbacks.ran % IVG_CALLBACK_SLOTS) * IVG_CALLBACK_WORDS);
        /* Relaxed: G1 ordered them. The host is believed, as everywhere: it is this program's hypervisor. */
        void *const data = (void *)(uintptr_t)ivg_load_relaxed_u64(&slot[IVG_CALLBACK_DATA]);
        const uintptr_t function = (uintptr_t)ivg_load_relaxed_u64(&slot[IVG_CALLBACK_FUNCTION]);
        const CUstream stream = (CUstream)(uintptr_t)ivg_load_relaxed_u64(&slot[IVG_CALLBACK_STREAM]);
        const uint64_t status = ivg_load_relaxed_u64(&slot[IVG_CALLBACK_STATUS]);

        ivg_progress_note(); /* what the stream was given before it is done */
        if (status >> 32 == IVG_CALLBACK_STREAM_CALLBACK)
                ((CUstreamCallback)function)(stream, (CUresult)(uint32_t)status, data);
        else
                ((CUhostFn)function)(data);
        if (status >> 32 == IVG_CALLBACK_USER_OBJECT)
                ivg_user_object_over((ivg_id)(uintptr_t)stream);
        ivg_store_release_u64(callbacks.count, ++callbacks.ran); /* G2 */
}

static bool wait_due(void)
{
        int rc;

        for (uint32_t spin = 0; spin < callbacks.spins_max; spin++) {
                if (is_due(NULL))
                        return true;
                ivg_cpu_relax();
        }
        do
                rc = ivg_link_wait(ivg_process.link, is_due, NULL, CALLBACK_WAIT_MS);
        while (rc == -ETIMEDOUT && ivg_process_check() == CUDA_SUCCESS);
        return rc == 0;
}

/* Ends with the process or its executor; whoever waits for a stream learns of the latter by itself. */
static void *callback_main(void *argument)
{
        (void)argument;
        ivg_thread_local()->in_callback = true;
        prctl(PR_SET_NAME, "ivgpu-callback", 0, 0, 0);
        while (ivg_process_check() == CUDA_SUCCESS && wait_due())
                if (ivg_process_check() ==
                    CUDA_SUCCESS) /* not after exit() has begun to destroy the program's objects */
                        run_one();
        return NULL;
}

/* With all signals blocked: they are for the program's own threads. */
static bool start_thread(void)
{
        pthread_attr_t attributes;
        pthread_t thread;
        sigset_t all, before;
        int rc;

        sigfillset(&all);
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        rc = pthread_create(&thread, &attributes, callback_main, NULL);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
        return rc == 0;
}

/* Under the lock. What one attempt got is kept for the next. */
static CUresult start(void)
{
        CUresult result = CUDA_SUCCESS;
        uint64_t offset;

        if (callbacks.count == NULL) {
                void *memory = ivg_staging_take(sizeof(uint64_t));

                if (memory == NULL || !ivg_arena_offset(memory, sizeof(uint64_t), &offset))
                        return CUDA_ERROR_OUT_OF_MEMORY;
                callbacks.spins_max = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? CALLBACK_SPINS_MAX : 0;
                ivg_store_release_u64(memory, 0);
                result = ivg_send_ivgCallbacksStart(offset);
                if (result != CUDA_SUCCESS) {
                        ivg_staging_give(memory, sizeof(uint64_t));
                        return result;
                }
                callbacks.count = memory;
        }
        if (!start_thread())
                return CUDA_ERROR_OPERATING_SYSTEM;
        ivg_store_release_u32(&callbacks.started, 1); /* pairs with the load in ivg_callbacks_require */
        return CUDA_SUCCESS;
}

CUresult ivg_callbacks_require(void)
{
        CUresult result = CUDA_SUCCESS;

        if (__builtin_expect(ivg_load_acquire_u32(&callbacks.started) != 0, 1))
                return CUDA_SUCCESS;
        pthread_mutex_lock(&callbacks.lock);
        if (ivg_load_acquire_u32(&callbacks.started) == 0)
                result = start();
        pthread_mutex_unlock(&callbacks.lock);
        return result;
}

/* ---- the exported calls ---- */

static CUresult enqueue(CUstream stream, ivg_id null_stream, enum ivg_callback_kind kind, uintptr_t function,
                        void *data)
{
        struct ivg_object *context;
        ivg_id id;
        CUresult result = ivg_context_require(&context);

        if (result == CUDA_SUCCESS)
                result = ivg_stream_id(stream, null_stream, &id);
        if (result == CUDA_SUCCESS && function == 0)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS && ivg_thread_local()->in_callback)
                result = CUDA_ERROR_NOT_PERMITTED;
        if (result == CUDA_SUCCESS)
                result = ivg_callbacks_require();
        return result != CUDA_SUCCESS
                       ? result
                       : ivg_send_ivgHostFunction(id, kind, function, (uintptr_t)data, (uintptr_t)stream);
}

CUresult cuLaunchHostFunc(CUstream hStream, CUhostFn fn, void *userData)
{
        return enqueue(hStream, IVG_ID_STREAM_LEGACY, IVG_CALLBACK_HOST_FUNCTION, (uintptr_t)fn, userData);
}

CUresult cuLaunchHostFunc_ptsz(CUstream hStream, CUhostFn fn, void *userData)
{
        return enqueue(hStream, IVG_ID_STREAM_PER_THREAD, IVG_CALLBACK_HOST_FUNCTION, (uintptr_t)fn, userData);
}

static CUresult add_callback(CUstream stream, ivg_id null_stream, CUstreamCallback callback, void *data,
                             unsigned int flags)
{
        if (flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        return enqueue(stream, null_stream, IVG_CALLBACK_STREAM_CALLBACK, (uintptr_t)callback, data);
}

CUresult cuStreamAddCallback(CUstream hStream, CUstreamCallback callback, void *userData, unsigned int flags)
{
        return add_callback(hStream, IVG_ID_STREAM_LEGACY, callback, userData, flags);
}

CUresult cuStreamAddCallback_ptsz(CUstream hStream, CUstreamCallback callback, void *userData, unsigned int flags)
{
        return add_callback(hStream, IVG_ID_STREAM_PER_THREAD, callback, userData, flags);
}
