/* Arena memory and completion words registered with the driver, and the check of every pointer the driver follows.
 *
 * A registration belongs to the context that made it and goes with it, though all contexts may use it (PORTABLE). So
 * each entry notes its owner; when that context ends, its entries are unregistered before and made again in another
 * context, at once if there is one, else when the next begins. Registering is slow (milliseconds) and rare: one mutex.
 */
#include "exec_internal.h"
#include "ipc_table.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define IVG_REGISTER_FLAGS (CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP)
/* Pieces of mapped memory that one copy may span when the driver is asked about it. */
#define IVG_MEMORY_PIECES_MAX 1024u

struct ivg_pinned_range {
        uint64_t offset, bytes; /* in the arena */
        ivg_id owner;           /* 0: not registered now */
};

struct ivg_pinned {
        pthread_mutex_t mutex;
        struct ivg_pinned_range *ranges; /* unordered; at most one for each extent */
        uint32_t count, capacity;
        ivg_id words_owner;             /* 0: completion words not registered now */
        _Atomic(uint64_t) words_device; /* their device address, 0: not registered now */
};

struct ivg_pinned *ivg_pinned_create(void)
{
        struct ivg_pinned *pinned = calloc(1, sizeof(*pinned));

        if (pinned)
                pthread_mutex_init(&pinned->mutex, NULL);
        return pinned;
}

void ivg_pinned_destroy(struct ivg_pinned *pinned)
{
        if (!pinned)
                return;
        pthread_mutex_destroy(&pinned->mutex);
        free(pinned->ranges);
        free(pinned);
}

static uint8_t *arena_at(const struct ivg_exec *exec, uint64_t offset)
{
        /* Stored once by ivgHello before any call that comes here; relaxed: the ring ordered the two calls. */
        return (uint8_t *)(uintptr_t)ivg_load_relaxed_u64(&exec->arena) + offset;
}

/* ---- with the mutex held ---- */

static CUresult register_range(struct ivg_exec *exec, struct ivg_pinned_range *range, ivg_id context)
{
        uint8_t *address = arena_at(exec, range->offset);
        CUdeviceptr device = 0;
        CUresult result = exec->driver.cuMemHostRegister_v2(address, range->bytes, IVG_REGISTER_FLAGS);

        if (result)
                return result;
        /* The guest takes the window's address for the device's: anything else must not go unnoticed. */
        result = exec->driver.cuMemHostGetDevicePointer_v2(&device, address, 0);
        if (!result && device != (uintptr_t)address) {
                ivg_log(IVG_LOG_ERROR, "arena offset 0x%llx: device address 0x%llx is not the host's %p",
                        (unsigned long long)range->offset, (unsigned long long)device, (void *)address);
                result = CUDA_ERROR_NOT_SUPPORTED;
        }
        if (result || ivg_ranges_add(exec->ranges, (uintptr_t)address, range->bytes, IVG_ID_NONE)) {
                exec->driver.cuMemHostUnregister(address);
                return result ? result : CUDA_ERROR_OUT_OF_MEMORY;
        }
        range->owner = context;
        return CUDA_SUCCESS;
}

static CUresult unregister_range(struct ivg_exec *exec, struct ivg_pinned_range *range)
{
        uint8_t *address = arena_at(exec, range->offset);

        if (!range->owner)
                return CUDA_SUCCESS;
        range->owner = IVG_ID_NONE;
        ivg_ranges_remove(exec->ranges, (uintptr_t)address);
        return exec->driver.cuMemHostUnregister(address);
}

static CUresult register_words(struct ivg_exec *exec, ivg_id context)
{
        void *words = (void *)exec->completions;
        CUdeviceptr device = 0;
        CUresult result = exec->driver.cuMemHostRegister_v2(words, IVG_COMPLETION_WORDS * 8u, IVG_REGISTER_FLAGS);

        if (result)
                return result;
        result = exec->driver.cuMemHostGetDevicePointer_v2(&device, words, 0);
        if (result) {
                exec->driver.cuMemHostUnregister(words);
                return result;
        }
        exec->pinned->words_owner = context;
        /* Pairs with the load in ivg_pinned_completion_word: the registration is complete. */
        ivg_store_release_u64(&exec->pinned->words_device, device);
        return CUDA_SUCCESS;
}

static bool add_entry(struct ivg_pinned *pinned, const struct ivg_pinned_range *range)
{
        if (pinned->count == pinned->capacity) {
                const uint32_t capacity = pinned->capacity ? pinned->capacity * 2 : 16;
                struct ivg_pinned_range *ranges = realloc(pinned->ranges, capacity * sizeof(*ranges));

                if (!ranges)
                        return false;
                pinned->ranges = ranges;
                pinned->capacity = capacity;
        }
        pinned->ranges[pinned->count++] = *range;
        return true;
}

static bool overlaps(const struct ivg_pinned *pinned, uint64_t offset, uint64_t bytes)
{
        for (uint32_t i = 0; i < pinned->count; i++)
                if (offset < pinned->ranges[i].offset + pinned->ranges[i].bytes &&
                    pinned->ranges[i].offset < offset + bytes)
                        return true;
        return false;
}

/* ---- calls ---- */

CUresult ivg_pinned_register(struct ivg_exec *exec, ivg_id context, uint64_t offset, uint64_t bytes)
{
        struct ivg_pinned *pinned = exec->pinned;
        struct ivg_pinned_range range = {.offset = offset, .bytes = bytes};
        CUresult result = CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;

        pthread_mutex_lock(&pinned->mutex);
        if (!overlaps(pinned, offset, bytes)) {
                result = register_range(exec, &range, context);
                if (!result && !add_entry(pinned, &range)) {
                        unregister_range(exec, &range);
                        result = CUDA_ERROR_OUT_OF_MEMORY;
                }
        }
        pthread_mutex_unlock(&pinned->mutex);
        return result;
}

CUresult ivg_pinned_unregister(struct ivg_exec *exec, uint64_t offset)
{
        struct ivg_pinned *pinned = exec->pinned;
        CUresult result = CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;

        pthread_mutex_lock(&pinned->mutex);
        for (uint32_t i = 0; i < pinned->count; i++)
                if (pinned->ranges[i].offset == offset) {
                        result = unregister_range(exec, &pinned->ranges[i]);
                        pinned->ranges[i] = pinned->ranges[--pinned->count];
                        break;
                }
        pthread_mutex_unlock(&pinned->mutex);
        return result;
}

CUresult ivg_pinned_completion_word(struct ivg_exec *exec, ivg_id context, uint32_t index, CUdeviceptr *address)
{
        struct ivg_pinned *pinned = exec->pinned;
        uint64_t device = ivg_load_acquire_u64(&pinned->words_device);
        CUresult result = CUDA_SUCCESS;

        if (!device) {
                /* Once for each context that owned them: the only time that the consumer takes this mutex. */
                pthread_mutex_lock(&pinned->mutex);
                if (!pinned->words_owner)
                        result = register_words(exec, context);
                device = ivg_load_relaxed_u64(&pinned->words_device); /* under the mutex */
                pthread_mutex_unlock(&pinned->mutex);
        }
        *address = device + (uint64_t)index * 8;
        return result;
}

void ivg_pinned_context_begins(struct ivg_exec *exec, ivg_id context)
{
        struct ivg_pinned *pinned = exec->pinned;

        pthread_mutex_lock(&pinned->mutex);
        for (uint32_t i = 0; i < pinned->count; i++) {
                CUresult result = CUDA_SUCCESS;

                if (!pinned->ranges[i].owner)
                        result = register_range(exec, &pinned->ranges[i], context);
                if (result)
                        ivg_log(IVG_LOG_ERROR, "arena offset 0x%llx could not be registered again: CUDA error %d",
                                (unsigned long long)pinned->ranges[i].offset, (int)result);
        }
        pthread_mutex_unlock(&pinned->mutex);
}

void ivg_pinned_context_ends(struct ivg_exec *exec, ivg_id context)
{
        struct ivg_pinned *pinned = exec->pinned;

        pthread_mutex_lock(&pinned->mutex);
        for (uint32_t i = 0; i < pinned->count; i++)
                if (pinned->ranges[i].owner == context)
                        unregister_range(exec, &pinned->ranges[i]);
        if (pinned->words_owner == context) {
                pinned->words_owner = IVG_ID_NONE;
                ivg_store_release_u64(&pinned->words_device, 0);
                exec->driver.cuMemHostUnregister((void *)exec->completions);
        }
        pthread_mutex_unlock(&pinned->mutex);
}

/* ---- the check of pointers that the driver follows ---- */

/* Asks the driver; memory may consist of several mapped pieces in a row. The driver knows nothing of the executor's own
 * memory: only the arena and the completion words were ever registered. */
static bool driver_knows(struct ivg_exec *exec, uint64_t address, uint64_t bytes)
{
        for (uint32_t piece = 0; piece < IVG_MEMORY_PIECES_MAX; piece++) {
                CUdeviceptr start = 0;
                size_t length = 0;
                uint64_t into;

                if (exec->driver.cuMemGetAddressRange_v2(&start, &length, address) != CUDA_SUCCESS)
                        return false;
                into = address - start;
                if (address < start || into >= length)
                        return false;
                if (bytes <= length - into)
                        return true;
                bytes -= length - into;
                address = start + length;
        }
        return false;
}

CUresult ivg_exec_device_range(struct ivg_exec_call *call, uint64_t address, uint64_t bytes)
{
        if (bytes == 0)
                return CUDA_SUCCESS;
        if (address + bytes < address)
                return CUDA_ERROR_INVALID_VALUE;
        if (ivg_ranges_contain(call->exec->ranges, address, bytes) ||
            ivg_graph_thing_holds(call->exec, IVG_GRAPH_MEMORY, address, bytes) ||
            driver_knows(call->exec, address, bytes))
                return CUDA_SUCCESS;
        return CUDA_ERROR_INVALID_VALUE;
}

CUresult ivg_exec_device_range_2d(struct ivg_exec_call *call, uint64_t address, uint64_t pitch, uint64_t row_bytes,
                                  uint64_t rows)
{
        uint64_t before_last, bytes;

        if (rows == 0 || row_bytes == 0)
                return CUDA_SUCCESS;
        if (__builtin_mul_overflow(pitch, rows - 1, &before_last) ||
            __builtin_add_overflow(before_last, row_bytes, &bytes))
                return CUDA_ERROR_INVALID_VALUE;
        return ivg_exec_device_range(call, address, bytes);
}

/* The last byte of a box lies (slices - 1) slices, (rows - 1) rows and the width after its first. */
CUresult ivg_exec_device_box(struct ivg_exec_call *call, uint64_t address, uint64_t pitch, uint64_t slice_rows,
                             const uint64_t extent[3])
{
        const uint64_t width = extent[0], height = extent[1], depth = extent[2];
        uint64_t slice, slices, rows, bytes;

        if (width == 0 || height == 0 || depth == 0)
                return CUDA_SUCCESS;
        if (width > pitch || (depth > 1 && height > slice_rows))
                return CUDA_ERROR_INVALID_VALUE;
        if (__builtin_mul_overflow(pitch, slice_rows, &slice) || __builtin_mul_overflow(slice, depth - 1, &slices) ||
            __builtin_mul_overflow(pitch, height - 1, &rows) || __builtin_add_overflow(slices, rows, &bytes) ||
            __builtin_add_overflow(bytes, width, &bytes))
                return CUDA_ERROR_INVALID_VALUE;
        return ivg_exec_device_range(call, address, bytes);
}

CUresult ivg_exec_memory_add(struct ivg_exec_call *call, uint64_t address, uint64_t bytes)
{
        const struct ivg_driver *driver = &call->exec->driver;
        CUdevice device = -1;
        int error;

        if (!driver->cuCtxGetDevice || driver->cuCtxGetDevice(&device) != CUDA_SUCCESS)
                device = -1;
        error = ivg_ranges_add_on(call->exec->ranges, address, bytes, ivg_context_owner(call->exec, call->context),
                                  device);

        if (error)
                ivg_log(IVG_LOG_WARNING,
                        "memory 0x%llx of %llu bytes is not noted (error %d): each use asks the driver",
                        (unsigned long long)address, (unsigned long long)bytes, -error);
        return CUDA_SUCCESS;
}

bool ivg_exec_memory_known(struct ivg_exec_call *call, uint64_t address)
{
        CUdeviceptr start = 0;
        size_t length = 0;

        if (ivg_ranges_contain(call->exec->ranges, address, 1) ||
            ivg_graph_thing_holds(call->exec, IVG_GRAPH_MEMORY, address, 1))
                return true;
        return call->exec->driver.cuMemGetAddressRange_v2(&start, &length, address) == CUDA_SUCCESS && start == address;
}

void ivg_exec_memory_remove(struct ivg_exec_call *call, uint64_t address)
{
        (void)ivg_ranges_remove(call->exec->ranges, address); /* not noted: nothing to drop */
        ivg_ipc_withdraw(call->exec, IVG_IPC_MEMORY, address);
        ivg_ipc_withdraw(call->exec, IVG_IPC_POINTER, address);
}
