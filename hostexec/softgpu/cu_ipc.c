/* Device memory of another process: a heap's window is a memfd, which another process of the same user opens through
 * /proc. Events: cu_event_ipc.c. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "softgpu.h"

#define SG_IPC_MAGIC 0x43504753u
#define SG_IPC_PAGE 4096u

struct sg_ipc_handle {
        uint32_t magic;
        int32_t pid, fd, device;
        uint64_t nonce, offset, bytes;
        uint64_t zero[3];
};
_Static_assert(sizeof(struct sg_ipc_handle) == sizeof(CUipcMemHandle), "in a handle's place");

/* What is open, each handle once. */
struct sg_opened {
        struct sg_opened *next;
        struct sg_ipc_handle handle;
        uint64_t address;
        unsigned count;
};
static pthread_mutex_t sg_opened_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sg_opened *sg_opened;

SG_ENTRY(cuIpcGetMemHandle, CUipcMemHandle *out, CUdeviceptr address)
{
        struct sg_context *context;
        struct sg_share share;
        CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_allocation *allocation = sg_registry_find(address);
        if (allocation == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        /* As on a GPU: memory of cuMemAlloc only. */
        if (allocation->kind != SG_MEMORY_DEVICE || allocation->pool != NULL)
                result = CUDA_ERROR_INVALID_VALUE;
        else if (!sg_heap_share(allocation->device->heap, allocation->start, &share))
                result = CUDA_ERROR_NOT_SUPPORTED;
        if (result == CUDA_SUCCESS) {
                const struct sg_ipc_handle handle = {.magic = SG_IPC_MAGIC,
                                                     .pid = (int32_t)getpid(),
                                                     .fd = share.fd,
                                                     .nonce = share.nonce,
                                                     .offset = share.offset,
                                                     .bytes = allocation->bytes};
                memcpy(out, &handle, sizeof(handle));
        }
        sg_allocation_put(allocation);
        return result;
}

int sg_descriptor_of_process(int pid, int fd, const char *name)
{
        char path[64], have[96], wanted[64];
        snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
        const ssize_t length = readlink(path, have, sizeof(have) - 1);
        if (length < 0)
                return -1;
        have[length] = '\0';
        snprintf(wanted, sizeof(wanted), "/memfd:%s", name);
        if (strncmp(have, wanted, strlen(wanted)) != 0)
                return -1;
        return open(path, O_RDWR | O_CLOEXEC);
}

/* The exporter's descriptor, if it is still the one that was meant. */
static int sg_ipc_descriptor(const struct sg_ipc_handle *handle)
{
        char name[SG_SHARE_NAME_BYTES];
        snprintf(name, sizeof(name), "ivgpu-soft-%016llx", (unsigned long long)handle->nonce);
        return sg_descriptor_of_process(handle->pid, handle->fd, name);
}

CUresult sg_share_map(struct sg_context *context, int fd, uint64_t offset, size_t length, enum sg_memory_kind kind,
                      struct sg_pool *pool, uint64_t *address)
{
        const uint64_t lead = offset % SG_IPC_PAGE;
        const size_t bytes = (lead + length + SG_IPC_PAGE - 1) & ~(size_t)(SG_IPC_PAGE - 1);
        char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)(offset - lead));
        if (base == MAP_FAILED)
                return CUDA_ERROR_MAP_FAILED;
        struct sg_allocation *allocation = calloc(1, sizeof(*allocation));
        if (allocation == NULL) {
                munmap(base, bytes);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        allocation->start = sg_address(base) + lead;
        allocation->bytes = length;
        allocation->map_bytes = bytes;
        allocation->kind = kind;
        allocation->context = context;
        allocation->device = context->device;
        allocation->pool = pool;
        if (pool != NULL)
                sg_object_get(pool);
        atomic_init(&allocation->references, 1);
        const CUresult result = sg_registry_insert(allocation);
        if (result != CUDA_SUCCESS)
                sg_allocation_put(allocation);
        else
                *address = allocation->start;
        return result;
}

static CUresult sg_ipc_map(struct sg_context *context, const struct sg_ipc_handle *handle, uint64_t *address)
{
        const int fd = sg_ipc_descriptor(handle);
        if (fd < 0)
                return CUDA_ERROR_INVALID_VALUE;
        const CUresult result =
                sg_share_map(context, fd, handle->offset, handle->bytes, SG_MEMORY_OPENED, NULL, address);
        close(fd);
        return result;
}

/* The lock is held. An entry whose context has ended took its memory along: it is opened anew. */
static struct sg_opened *sg_opened_find(const struct sg_ipc_handle *handle, uint64_t address)
{
        struct sg_opened **link = &sg_opened;
        while (*link != NULL) {
                struct sg_opened *opened = *link;
                struct sg_allocation *allocation = sg_registry_find(opened->address);
                const bool alive = allocation != NULL && allocation->kind == SG_MEMORY_OPENED &&
                                   allocation->start == opened->address;
                if (allocation != NULL)
                        sg_allocation_put(allocation);
                if (!alive) {
                        *link = opened->next;
                        free(opened);
                        continue;
                }
                if (handle != NULL ? memcmp(&opened->handle, handle, sizeof(*handle)) == 0 : opened->address == address)
                        return opened;
                link = &opened->next;
        }
        return NULL;
}

static CUresult sg_ipc_open(struct sg_context *context, const struct sg_ipc_handle *handle, CUdeviceptr *out)
{
        struct sg_opened *opened = sg_opened_find(handle, 0);
        CUresult result = CUDA_SUCCESS;
        if (opened == NULL) {
                opened = calloc(1, sizeof(*opened));
                result = opened == NULL ? CUDA_ERROR_OUT_OF_MEMORY : sg_ipc_map(context, handle, &opened->address);
                if (result != CUDA_SUCCESS) {
                        free(opened);
                        return result;
                }
                opened->handle = *handle;
                opened->next = sg_opened;
                sg_opened = opened;
        }
        opened->count++;
        *out = opened->address;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuIpcOpenMemHandle_v2, CUdeviceptr *out, CUipcMemHandle given, unsigned flags)
{
        struct sg_context *context;
        struct sg_ipc_handle handle;
        CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        memcpy(&handle, &given, sizeof(handle));
        if (out == NULL || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS || handle.magic != SG_IPC_MAGIC ||
            handle.bytes == 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (handle.pid == (int32_t)getpid()) /* CUDA's rule: not in the exporting process */
                return CUDA_ERROR_INVALID_CONTEXT;
        pthread_mutex_lock(&sg_opened_lock);
        result = sg_ipc_open(context, &handle, out);
        pthread_mutex_unlock(&sg_opened_lock);
        return result;
}
SG_ALIAS(cuIpcOpenMemHandle, cuIpcOpenMemHandle_v2);

SG_ENTRY(cuIpcCloseMemHandle, CUdeviceptr address)
{
        struct sg_context *context;
        struct sg_allocation *allocation = NULL;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        (void)sg_context_drain(context); /* queued work may still use it, and takes its map from the registry */
        pthread_mutex_lock(&sg_opened_lock);
        struct sg_opened *opened = sg_opened_find(NULL, address);
        if (opened != NULL && --opened->count == 0)
                allocation = sg_registry_take(address, 1u << SG_MEMORY_OPENED); /* the entry goes at the next look */
        pthread_mutex_unlock(&sg_opened_lock);
        if (allocation != NULL) {
                sg_contexts_forget_maps();
                sg_allocation_put(allocation);
        }
        return opened != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
