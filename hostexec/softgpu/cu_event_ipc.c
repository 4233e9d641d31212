/* Events of several processes: two counters in a memory file, one for the records that were asked for, one for the
 * newest that was passed. Whoever waits for such an event, in the process that made it too, looks at them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "softgpu.h"

#define SG_EVENT_MAGIC 0x45504753u
#define SG_EVENT_NAME "ivgpu-soft-event-%016llx"

struct sg_shared_marks {
        _Atomic(uint64_t) recorded, passed;
};

struct sg_event_handle {
        uint32_t magic;
        int32_t pid, fd, zero;
        uint64_t nonce;
        uint64_t zeros[5];
};
_Static_assert(sizeof(struct sg_event_handle) == sizeof(CUipcEventHandle), "in a handle's place");

/* ---- the marks ---- */

uint64_t sg_shared_mark_record(struct sg_event *event)
{
        return event->shared != NULL ? atomic_fetch_add(&event->shared->recorded, 1) + 1 : 0;
}

/* Records in several streams may pass in any order: the newest counts. */
void sg_shared_mark_pass(struct sg_event *event, uint64_t number)
{
        if (event->shared == NULL)
                return;
        uint64_t passed = atomic_load(&event->shared->passed);
        while (passed < number && !atomic_compare_exchange_weak(&event->shared->passed, &passed, number))
                continue;
}

bool sg_shared_mark_passed(const struct sg_event *event)
{
        const uint64_t recorded = atomic_load(&event->shared->recorded);
        return atomic_load(&event->shared->passed) >= recorded;
}

void sg_shared_mark_wait(const struct sg_event *event)
{
        const uint64_t recorded = atomic_load(&event->shared->recorded);
        unsigned round = 0;
        while (atomic_load(&event->shared->passed) < recorded && sg_poll_pause(event->context, &round))
                continue;
}

struct sg_shared_wait_op {
        struct sg_op op;
        struct sg_event *event; /* referenced */
        uint64_t recorded;
};

static CUresult sg_shared_wait_run(struct sg_op *op, struct sg_stream *stream)
{
        const struct sg_shared_wait_op *wait = (const struct sg_shared_wait_op *)op;
        unsigned round = 0;
        while (atomic_load(&wait->event->shared->passed) < wait->recorded && sg_poll_pause(stream->context, &round))
                continue;
        return CUDA_SUCCESS;
}

static void sg_shared_wait_release(struct sg_op *op)
{
        sg_object_put(((struct sg_shared_wait_op *)op)->event);
        sg_op_free(op);
}

CUresult sg_shared_mark_stream_waits(struct sg_event *event, struct sg_stream *stream)
{
        struct sg_shared_wait_op *wait = sg_op_new(sizeof(*wait), sg_shared_wait_run, sg_shared_wait_release);
        if (wait == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        wait->event = event;
        wait->recorded = atomic_load(&event->shared->recorded);
        sg_object_get(event);
        return sg_submit(stream, &wait->op);
}

/* ---- the file ---- */

/* Takes the descriptor in every case. */
static CUresult sg_event_attach(struct sg_event *event, int fd, uint64_t nonce)
{
        if (fd < 0)
                return CUDA_ERROR_OUT_OF_MEMORY;
        void *marks = mmap(NULL, sizeof(struct sg_shared_marks), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (marks == MAP_FAILED) {
                close(fd);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        event->shared = marks;
        event->shared_fd = fd;
        event->shared_nonce = nonce;
        return CUDA_SUCCESS;
}

CUresult sg_event_share(struct sg_event *event)
{
        char name[48];
        uint64_t nonce = 0;
        if (getrandom(&nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce))
                return CUDA_ERROR_OPERATING_SYSTEM;
        snprintf(name, sizeof(name), SG_EVENT_NAME, (unsigned long long)nonce);
        const int fd = memfd_create(name, MFD_CLOEXEC);
        if (fd >= 0 && ftruncate(fd, sizeof(struct sg_shared_marks)) != 0) {
                close(fd);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        return sg_event_attach(event, fd, nonce);
}

void sg_event_unshare(struct sg_event *event)
{
        if (event->shared == NULL)
                return;
        munmap(event->shared, sizeof(struct sg_shared_marks));
        close(event->shared_fd);
}

SG_ENTRY(cuIpcGetEventHandle, CUipcEventHandle *out, CUevent given)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        const struct sg_event *event = sg_object_from(given, SG_EVENT);
        if (event == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        if (out == NULL || event->shared == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const struct sg_event_handle handle = {.magic = SG_EVENT_MAGIC,
                                               .pid = (int32_t)getpid(),
                                               .fd = event->shared_fd,
                                               .nonce = event->shared_nonce};
        memcpy(out, &handle, sizeof(handle));
        return CUDA_SUCCESS;
}

SG_ENTRY(cuIpcOpenEventHandle, CUevent *out, CUipcEventHandle given)
{
        struct sg_context *context;
        struct sg_event_handle handle;
        char name[48];
        CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        memcpy(&handle, &given, sizeof(handle));
        if (out == NULL || handle.magic != SG_EVENT_MAGIC)
                return CUDA_ERROR_INVALID_VALUE;
        snprintf(name, sizeof(name), SG_EVENT_NAME, (unsigned long long)handle.nonce);
        const int fd = sg_descriptor_of_process(handle.pid, handle.fd, name);
        if (fd < 0)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_event *event = sg_event_new(context, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING);
        if (event == NULL) {
                close(fd);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        result = sg_event_attach(event, fd, handle.nonce);
        if (result != CUDA_SUCCESS) {
                if (sg_object_retire(event))
                        sg_object_put(event);
                return result;
        }
        *out = (CUevent)event;
        return CUDA_SUCCESS;
}
