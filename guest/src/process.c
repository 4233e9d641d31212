/* The process's one connection: made by cuInit, lost at most once, left behind by fork(), ended by exit(). */
#include "cuda_api.h"
#include "guest.h"
#include "guest_send.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct ivg_process ivg_process;

static pthread_mutex_t connect_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static bool failure_told; /* under connect_lock: a program that asks again and again is told once */

CUresult ivg_result_from_errno(int negative_errno)
{
        switch (negative_errno) {
        case 0:
                return CUDA_SUCCESS;
        case -ENOMEM:
        case -ENOSPC:
        case -EBUSY: /* all producer lines taken */
                return CUDA_ERROR_OUT_OF_MEMORY;
        case -EINVAL:
        case -EMSGSIZE:
                return CUDA_ERROR_INVALID_VALUE;
        case -EOWNERDEAD: /* executor gone */
        case -EPIPE:      /* mediator gone */
        case -ESTALE:     /* the channel belongs to a later generation: as good as gone */
                return CUDA_ERROR_DEVICE_UNAVAILABLE;
        case -ESHUTDOWN:
                return CUDA_ERROR_DEINITIALIZED;
        case -ETIMEDOUT:
                return CUDA_ERROR_TIMEOUT;
        case -EACCES:
        case -EPERM:
                return CUDA_ERROR_NOT_PERMITTED;
        default: /* -EPROTO and what nobody foresaw */
                return CUDA_ERROR_UNKNOWN;
        }
}

CUresult ivg_process_refusal(void)
{
        const uint32_t lost = ivg_load_relaxed_u32(&ivg_process.lost); /* relaxed: stands by itself */

        switch (ivg_load_acquire_u32(&ivg_process.state)) {
        case IVG_PROCESS_READY:
                return (CUresult)lost;
        case IVG_PROCESS_ENDED:
                return CUDA_ERROR_DEINITIALIZED;
        default:
                return CUDA_ERROR_NOT_INITIALIZED;
        }
}

/* ---- losing the executor ---- */

/* Why, in words, from what the host left in shared memory. Each word is read once, and only to be shown. The number
 * that goes with it: what the mediator ended the program for, or that it is without an executor. */
static enum ivg_error_code loss_cause(int negative_errno, char *text, size_t capacity)
{
        const struct ivg_region *region = ivg_link_region(ivg_process.link);
        const struct ivg_host_channel *channel =
                &ivg_region_host_pages(region)->channels[ivg_link_channel(ivg_process.link)];
        const struct ivg_ring_host_part *ring = ivg_process.ring.host;
        const uint32_t reason = ivg_load_acquire_u32(&channel->reason);
        const uint64_t fault = ivg_load_acquire_u64(&ring->fault);

        /* With CUDA_ERROR in an orderly end; an executor that crashed leaves the same reason. */
        if (reason == IVG_ERROR_TIMEOUT || reason == IVG_ERROR_VM_QUARANTINED ||
            (reason == IVG_ERROR_CUDA_ERROR && negative_errno == -ESHUTDOWN)) {
                snprintf(text, capacity, "the mediator has ended this program (%s)",
                         reason == IVG_ERROR_TIMEOUT      ? "its VM's time limit is over"
                         : reason == IVG_ERROR_CUDA_ERROR ? "its GPU's MPS server has failed"
                                                          : "its VM is in quarantine");
                return (enum ivg_error_code)reason;
        }
        switch (negative_errno) {
        case -EPROTO:
                snprintf(text, capacity, "the executor found a broken rule: %s, value %u, at position %llu",
                         ivg_ring_fault_name((enum ivg_ring_fault)(uint32_t)fault), (uint32_t)(fault >> 32),
                         (unsigned long long)ivg_load_relaxed_u64(&ring->fault_position));
                break;
        case -EPIPE:
                snprintf(text, capacity, "the mediator is gone");
                break;
        case -EOWNERDEAD:
                snprintf(text, capacity, "the executor (host process %u) is gone, reason %s",
                         ivg_load_relaxed_u32(&channel->executor_pid),
                         ivg_error_code_name((enum ivg_error_code)reason));
                break;
        default:
                snprintf(text, capacity, "%s", strerror(-negative_errno));
                break;
        }
        return IVG_ERROR_MEDIATOR_UNAVAILABLE;
}

CUresult ivg_process_lose(int negative_errno, const char *where)
{
        const CUresult result = ivg_result_from_errno(negative_errno);
        enum ivg_error_code code;
        uint32_t lost = 0;
        char cause[200];

        if (!ivg_compare_exchange_acq_rel_u32(&ivg_process.lost, &lost, result))
                return ivg_process_refusal();
        if (ivg_load_acquire_u32(&ivg_process.state) != IVG_PROCESS_ENDED) {
                code = loss_cause(negative_errno, cause, sizeof(cause));
                ivg_log("error %d (%s): %s, while %s: %s; every further call answers CUDA error %d", (int)code,
                        ivg_error_code_name(code), ivg_link_name(ivg_process.link), where, cause, (int)result);
        }
        return result;
}

/* ---- connecting ---- */

static CUresult connect_failed(enum ivg_error_code code, const char *text, CUresult result)
{
        if (!failure_told)
                ivg_log("error %d (%s): %s", (int)code, ivg_error_code_name(code), text);
        failure_told = true;
        return result;
}

/* Finds an address for the arena that is free here and in the executor. */
static CUresult connect_window(void)
{
        const struct ivg_region *region = ivg_link_region(ivg_process.link);
        CUresult result = CUDA_ERROR_OUT_OF_MEMORY;

        for (uint32_t attempt = 0; attempt < IVG_WINDOW_ATTEMPTS_MAX; attempt++) {
                void *window = ivg_region_window_candidate(region, attempt);
                uint32_t executor_pid = 0;
                int32_t driver = 0, devices = 0;
                const int rc = ivg_link_map_arena(ivg_process.link, window);

                if (rc == -EEXIST)
                        continue;
                if (rc != 0)
                        return ivg_result_from_errno(rc);
                result = ivg_send_ivgHello((uintptr_t)window, (uint32_t)getpid(), 0, &driver, &devices, &executor_pid);
                if (result == CUDA_SUCCESS) {
                        ivg_process.arena = window;
                        ivg_process.arena_bytes = region->arena_bytes;
                        ivg_process.driver_version = driver < CUDA_VERSION ? driver : CUDA_VERSION;
                        ivg_process.device_count = devices < IVG_DEVICES_MAX ? devices : IVG_DEVICES_MAX;
                        return CUDA_SUCCESS;
                }
                ivg_link_unmap_arena(ivg_process.link);
                if (result != CUDA_ERROR_ALREADY_MAPPED)
                        break;
        }
        return result;
}

static CUresult connect_link(void)
{
        enum ivg_error_code code = IVG_ERROR_NONE;
        struct ivg_error error = {.text = ""};
        int rc = ivg_link_open(IVG_CALL_TABLE_FINGERPRINT, &ivg_process.link, &code, &error);

        if (rc != 0) {
                ivg_process.link = NULL;
                /* Of two builds: found here (-EPROTO), or by the mediator, which refuses such a hello. */
                return connect_failed(code, error.text,
                                      rc == -EPROTO || code == IVG_ERROR_INVALID_REQUEST
                                              ? CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
                                              : CUDA_ERROR_NO_DEVICE);
        }
        if (ivg_link_cost(ivg_process.link) != NULL)
                ivg_log("%s: %s", ivg_link_name(ivg_process.link), ivg_link_cost(ivg_process.link));
        const struct ivg_region *region = ivg_link_region(ivg_process.link);
        const uint32_t channel = ivg_link_channel(ivg_process.link);

        rc = ivg_ring_init(&ivg_process.ring, ivg_region_ring_guest(region, channel),
                           ivg_region_ring_host(region, channel), ivg_link_generation(ivg_process.link));
        if (rc != 0)
                return connect_failed(IVG_ERROR_MEDIATOR_UNAVAILABLE, "the ring of a new channel is not open",
                                      CUDA_ERROR_NO_DEVICE);
        return CUDA_SUCCESS;
}

/* Nobody else can have used the link: the process was never READY. This thread's line goes with it. */
static void disconnect(void)
{
        if (ivg_process.link != NULL)
                ivg_link_close(ivg_process.link);
        ivg_process.link = NULL;
        ivg_store_relaxed_u32(&ivg_process.lost, 0);
}

static CUresult connect_all(void)
{
        CUresult result = connect_link();
        char text[100];

        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_threads_start();
        if (result == CUDA_SUCCESS)
                result = connect_window();
        if (result != CUDA_SUCCESS) {
                snprintf(text, sizeof(text), "%s: the first call to the executor answered CUDA error %d",
                         ivg_link_name(ivg_process.link), (int)result);
                return connect_failed(IVG_ERROR_CUDA_ERROR, text, CUDA_ERROR_NO_DEVICE);
        }
        if (ivg_process.device_count <= 0)
                return connect_failed(IVG_ERROR_CUDA_ERROR, "the executor has no device", CUDA_ERROR_NO_DEVICE);
        return CUDA_SUCCESS;
}

/* ---- fork ---- */

/* In the child: the channel is the parent's. Memory that the parent pinned is not there any more, as with CUDA itself;
 * locks of other threads stay as they are, which is why every entry looks at the state first. */
static void forked_child(void)
{
        const uint32_t state = ivg_load_relaxed_u32(&ivg_process.state); /* the only thread */

        pthread_mutex_init(&connect_lock, NULL); /* another thread may have been inside cuInit */
        ivg_thread_forked();
        switch (state) {
        case IVG_PROCESS_READY:
                ivg_store_relaxed_u32(&ivg_process.state, IVG_PROCESS_FORKED);
                ivg_link_abandon(ivg_process.link);
                break;
        case IVG_PROCESS_CONNECTED: /* no call was made yet: the child may begin anew, as CUDA allows */
                ivg_link_abandon(ivg_process.link);
                ivg_process.link = NULL;
                ivg_store_relaxed_u32(&ivg_process.state, IVG_PROCESS_NEW);
                break;
        case IVG_PROCESS_CONNECTING: /* half-made by another thread: nothing may be touched */
                ivg_store_relaxed_u32(&ivg_process.state, IVG_PROCESS_FORKED);
                break;
        default:
                break;
        }
}

static void fork_start(void)
{
        (void)pthread_atfork(NULL, NULL, forked_child);
}

/* Under connect_lock: brings NEW and FAILED to CONNECTED, or to FAILED. */
static CUresult connect_once(void)
{
        struct ivg_thread *thread = ivg_thread_local();
        CUresult result;

        thread->connecting = true;
        ivg_store_release_u32(&ivg_process.state, IVG_PROCESS_CONNECTING);
        result = connect_all();
        thread->connecting = false;
        if (result != CUDA_SUCCESS) {
                ivg_thread_forked(); /* its line, if it took one, goes with the channel */
                disconnect();
        }
        ivg_store_release_u32(&ivg_process.state, result == CUDA_SUCCESS ? IVG_PROCESS_CONNECTED : IVG_PROCESS_FAILED);
        return result;
}

/* `state` at least CONNECTED, or at least READY; or why not. */
static CUresult connect_until(enum ivg_process_state wanted)
{
        CUresult result = CUDA_SUCCESS;
        uint32_t state;

        pthread_once(&fork_once, fork_start);
        pthread_mutex_lock(&connect_lock);
        state = ivg_load_acquire_u32(&ivg_process.state);
        if (state == IVG_PROCESS_NEW || state == IVG_PROCESS_FAILED)
                result = connect_once();
        state = ivg_load_acquire_u32(&ivg_process.state);
        /* Release, pairs with the acquire in ivg_process_check: the link, ring and window are complete. */
        if (state == IVG_PROCESS_CONNECTED && wanted == IVG_PROCESS_READY)
                ivg_store_release_u32(&ivg_process.state, IVG_PROCESS_READY);
        pthread_mutex_unlock(&connect_lock);
        if (result == CUDA_SUCCESS && !(state == IVG_PROCESS_CONNECTED || state == IVG_PROCESS_READY))
                result = ivg_process_refusal();
        return result;
}

CUresult ivg_process_connect(void)
{
        const uint32_t state = ivg_load_acquire_u32(&ivg_process.state);
        CUresult result = CUDA_SUCCESS;

        if (state != IVG_PROCESS_READY && state != IVG_PROCESS_FORKED && state != IVG_PROCESS_ENDED)
                result = connect_until(IVG_PROCESS_READY);
        return result == CUDA_SUCCESS ? ivg_process_check() : result;
}

CUresult ivg_process_ask(CUresult (*ask)(void *argument), void *argument)
{
        struct ivg_thread *thread = ivg_thread_local();
        const bool before = thread->connecting;
        CUresult result = connect_until(IVG_PROCESS_CONNECTED);

        if (result != CUDA_SUCCESS)
                return result;
        thread->connecting = true;
        result = ask(argument);
        thread->connecting = before;
        return result;
}

int ivg_process_driver_version(void)
{
        static _Atomic(uint32_t) asked; /* once: where no host answers, hundreds of names are asked for all the same */
        uint32_t state = ivg_load_acquire_u32(&ivg_process.state);

        if ((state == IVG_PROCESS_NEW || state == IVG_PROCESS_CONNECTING) &&
            (state == IVG_PROCESS_CONNECTING || ivg_exchange_seq_cst_u32(&asked, 1) == 0)) {
                (void)connect_until(IVG_PROCESS_CONNECTED);
                state = ivg_load_acquire_u32(&ivg_process.state);
        }
        /* Acquire above, pairs with the release of CONNECTED, which all states but these have behind them. */
        if (state == IVG_PROCESS_NEW || state == IVG_PROCESS_CONNECTING || state == IVG_PROCESS_FAILED ||
            ivg_process.driver_version == 0)
                return CUDA_VERSION;
        return ivg_process.driver_version;
}

/* ---- the end ---- */

/* Other threads may still run, inside calls or copying to pinned memory: nothing is unmapped, the kernel does that.
 * From here on calls are refused; the other side learns by the closed channel, at the latest by the closed descriptors.
 */
__attribute__((destructor)) static void process_end(void)
{
        uint32_t state;

        if (ivg_process_check() == CUDA_SUCCESS && ivg_output_is_there())
                ivg_output_fetch();
        state = ivg_exchange_seq_cst_u32(&ivg_process.state, IVG_PROCESS_ENDED);

        if (state != IVG_PROCESS_CONNECTED && state != IVG_PROCESS_READY)
                return;
        ivg_store_relaxed_u32(&ivg_process.lost, CUDA_ERROR_DEINITIALIZED);
        ivg_link_shutdown(ivg_process.link);
}

/* ---- the exported calls of this file ---- */

CUresult cuInit(unsigned int Flags)
{
        return ivg_local("cuInit", Flags != 0 ? CUDA_ERROR_INVALID_VALUE : ivg_process_connect());
}

CUresult cuDriverGetVersion(int *driverVersion)
{
        CUresult result;

        if (driverVersion == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        /* CUDA answers this before cuInit too; our answer is the host driver's, so the host must be asked once. */
        result = connect_until(IVG_PROCESS_CONNECTED);
        if (result == CUDA_SUCCESS)
                *driverVersion = ivg_process.driver_version;
        return ivg_local("cuDriverGetVersion", result);
}
