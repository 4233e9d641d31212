/* Managed memory: arena memory, which the program and the device use at one address and at the same time.
 *
 * Nothing migrates: the device reads and writes it across the bus like any pinned memory, so a kernel that works in it
 * again and again is slower than on bare metal, and its size is bounded by the arena, not by the device. Prefetching,
 * advice and attachment are checked and remembered, and have nothing else to do. Managed variables of modules
 * (cuLibraryGetManaged) are not carried: the host's driver chooses their addresses. */
#include "cuda_api.h"
#include "guest_send.h"
#include "memory.h"
#include <string.h>

static uint64_t page_end(uint64_t address)
{
        return (address + IVG_PAGE_BYTES - 1) & ~(uint64_t)(IVG_PAGE_BYTES - 1);
}

/* ---- allocation ---- */

static CUresult note(struct ivg_object *context, void *memory, uint64_t bytes, unsigned int flags)
{
        struct ivg_memory_range range = {
                .base = (uintptr_t)memory,
                .bytes = bytes,
                .kind = IVG_MEMORY_MANAGED,
                .flags = flags,
                .device = context->device,
                .context = ivg_context_owner(context),
        };
        const CUresult result = ivg_advice_begin(range.base, page_end(range.base + bytes));

        if (result != CUDA_SUCCESS)
                return result;
        if (ivg_memory_add(&ivg_memory_of_host, &range) != 0) {
                ivg_advice_end(range.base, page_end(range.base + bytes));
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        return CUDA_SUCCESS;
}

CUresult cuMemAllocManaged(CUdeviceptr *dptr, size_t bytesize, unsigned int flags)
{
        struct ivg_object *context;
        void *memory = NULL;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (dptr == NULL || bytesize == 0 || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST))
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_pinned_take(bytesize, &memory);
        if (result != CUDA_SUCCESS)
                return result;
        result = note(context, memory, bytesize, flags);
        if (result != CUDA_SUCCESS)
                (void)ivg_pool_give(&ivg_pinned_pool, memory, bytesize);
        else
                *dptr = (uintptr_t)memory;
        return result;
}

static CUresult give_back(const struct ivg_memory_range *range)
{
        ivg_advice_end(range->base, page_end(range->base + range->bytes));
        return ivg_pool_give(&ivg_pinned_pool, (void *)(uintptr_t)range->base, range->bytes);
}

/* Waits for the device, as cuMemFree does: a kernel under way may still use the memory, and its next owner is near. */
bool ivg_managed_free(uint64_t pointer, CUresult *result)
{
        struct ivg_memory_range range;
        CUresult earlier;

        if (!ivg_memory_find(&ivg_memory_of_host, pointer, &range) || range.base != pointer ||
            range.kind != IVG_MEMORY_MANAGED)
                return false;
        earlier = ivg_send_cuCtxSynchronize();
        if (!ivg_memory_remove(&ivg_memory_of_host, pointer, IVG_MEMORY_MANAGED, &range))
                return false; /* another thread frees it too */
        *result = give_back(&range);
        if (*result == CUDA_SUCCESS)
                *result = earlier;
        return true;
}

void ivg_managed_end_of_context(const struct ivg_object *context)
{
        struct ivg_memory_range range;

        while (ivg_memory_remove_of_context(&ivg_memory_of_host, context, IVG_MEMORY_MANAGED, &range))
                (void)give_back(&range); /* it logs */
}

/* ---- locations ---- */

static CUmemLocation location_of_device(CUdevice device)
{
        return device == CU_DEVICE_CPU ? (CUmemLocation){CU_MEM_LOCATION_TYPE_HOST, 0}
                                       : (CUmemLocation){CU_MEM_LOCATION_TYPE_DEVICE, device};
}

static CUresult location_check(const CUmemLocation *location)
{
        switch (location->type) {
        case CU_MEM_LOCATION_TYPE_DEVICE:
                return location->id >= 0 && location->id < ivg_process.device_count ? CUDA_SUCCESS
                                                                                    : CUDA_ERROR_INVALID_DEVICE;
        case CU_MEM_LOCATION_TYPE_HOST:
        case CU_MEM_LOCATION_TYPE_HOST_NUMA:
        case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
                return CUDA_SUCCESS;
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
}

/* ---- prefetching ---- */

static void prefetched(struct ivg_advice *advice, const void *location)
{
        memcpy(&advice->prefetched, location, sizeof(advice->prefetched));
}

static CUresult prefetch(CUdeviceptr pointer, size_t bytes, CUmemLocation location, unsigned int flags, CUstream stream,
                         ivg_id null_stream)
{
        struct ivg_object *context;
        ivg_id id;
        CUresult result = ivg_context_require(&context);

        if (result == CUDA_SUCCESS)
                result = ivg_stream_id(stream, null_stream, &id);
        if (result == CUDA_SUCCESS && flags != 0)
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = location_check(&location);
        return result != CUDA_SUCCESS ? result : ivg_advice_change(pointer, bytes, prefetched, &location);
}

CUresult cuMemPrefetchAsync(CUdeviceptr devPtr, size_t count, CUdevice dstDevice, CUstream hStream)
{
        return ivg_local("cuMemPrefetchAsync",
                         prefetch(devPtr, count, location_of_device(dstDevice), 0, hStream, IVG_ID_STREAM_LEGACY));
}

CUresult cuMemPrefetchAsync_ptsz(CUdeviceptr devPtr, size_t count, CUdevice dstDevice, CUstream hStream)
{
        return ivg_local("cuMemPrefetchAsync_ptsz",
                         prefetch(devPtr, count, location_of_device(dstDevice), 0, hStream, IVG_ID_STREAM_PER_THREAD));
}

CUresult cuMemPrefetchAsync_v2(CUdeviceptr devPtr, size_t count, CUmemLocation location, unsigned int flags,
                               CUstream hStream)
{
        return ivg_local("cuMemPrefetchAsync_v2",
                         prefetch(devPtr, count, location, flags, hStream, IVG_ID_STREAM_LEGACY));
}

CUresult cuMemPrefetchAsync_v2_ptsz(CUdeviceptr devPtr, size_t count, CUmemLocation location, unsigned int flags,
                                    CUstream hStream)
{
        return ivg_local("cuMemPrefetchAsync_v2_ptsz",
                         prefetch(devPtr, count, location, flags, hStream, IVG_ID_STREAM_PER_THREAD));
}

/* ---- advice ---- */

struct advise {
        CUmem_advise advice;
        CUmemLocation location;
};

static void accessed_by(struct ivg_advice *advice, const CUmemLocation *location, bool on)
{
        if (location->type == CU_MEM_LOCATION_TYPE_HOST)
                advice->accessed_by_host = on;
        else if (on)
                advice->accessed_by |= 1ull << location->id;
        else
                advice->accessed_by &= ~(1ull << location->id);
}

static void advised(struct ivg_advice *advice, const void *argument)
{
        const struct advise *advise = argument;

        switch (advise->advice) {
        case CU_MEM_ADVISE_SET_READ_MOSTLY:
        case CU_MEM_ADVISE_UNSET_READ_MOSTLY:
                advice->read_mostly = advise->advice == CU_MEM_ADVISE_SET_READ_MOSTLY;
                break;
        case CU_MEM_ADVISE_SET_PREFERRED_LOCATION:
                advice->preferred = advise->location;
                break;
        case CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION:
                advice->preferred = (CUmemLocation){CU_MEM_LOCATION_TYPE_INVALID, 0};
                break;
        default:
                accessed_by(advice, &advise->location, advise->advice == CU_MEM_ADVISE_SET_ACCESSED_BY);
                break;
        }
}

static CUresult advise_memory(CUdeviceptr pointer, size_t bytes, CUmem_advise advice, CUmemLocation location)
{
        const struct advise advise = {advice, location};
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        switch (advice) {
        case CU_MEM_ADVISE_SET_READ_MOSTLY: /* these three have no location */
        case CU_MEM_ADVISE_UNSET_READ_MOSTLY:
        case CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION:
                break;
        case CU_MEM_ADVISE_SET_PREFERRED_LOCATION:
                result = location_check(&location);
                break;
        case CU_MEM_ADVISE_SET_ACCESSED_BY:
        case CU_MEM_ADVISE_UNSET_ACCESSED_BY:
                result = location_check(&location);
                if (result == CUDA_SUCCESS && location.type != CU_MEM_LOCATION_TYPE_DEVICE &&
                    location.type != CU_MEM_LOCATION_TYPE_HOST)
                        result = CUDA_ERROR_INVALID_VALUE;
                break;
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
        return result != CUDA_SUCCESS ? result : ivg_advice_change(pointer, bytes, advised, &advise);
}

CUresult cuMemAdvise(CUdeviceptr devPtr, size_t count, CUmem_advise advice, CUdevice device)
{
        return ivg_local("cuMemAdvise", advise_memory(devPtr, count, advice, location_of_device(device)));
}

CUresult cuMemAdvise_v2(CUdeviceptr devPtr, size_t count, CUmem_advise advice, CUmemLocation location)
{
        return ivg_local("cuMemAdvise_v2", advise_memory(devPtr, count, advice, location));
}

/* ---- attributes of ranges: what all pieces agree on ---- */

struct summary {
        bool any;
        struct ivg_advice all;
};

static CUmemLocation common_location(CUmemLocation a, CUmemLocation b)
{
        if (a.type != b.type || a.id != b.id)
                a = (CUmemLocation){CU_MEM_LOCATION_TYPE_INVALID, 0};
        return a;
}

static void summarize(const struct ivg_advice *advice, void *argument)
{
        struct summary *summary = argument;
        struct ivg_advice *all = &summary->all;

        if (!summary->any) {
                *all = *advice;
                summary->any = true;
                return;
        }
        all->read_mostly = all->read_mostly && advice->read_mostly;
        all->accessed_by_host = all->accessed_by_host && advice->accessed_by_host;
        all->accessed_by &= advice->accessed_by;
        all->preferred = common_location(all->preferred, advice->preferred);
        all->prefetched = common_location(all->prefetched, advice->prefetched);
}

/* As the first interface gives a location: a device, the processor, or "invalid". */
static int32_t location_number(CUmemLocation location)
{
        if (location.type == CU_MEM_LOCATION_TYPE_DEVICE)
                return location.id;
        return location.type == CU_MEM_LOCATION_TYPE_HOST ? CU_DEVICE_CPU : CU_DEVICE_INVALID;
}

static void store_accessed_by(const struct ivg_advice *advice, int32_t *out, size_t count)
{
        size_t used = 0;

        for (int device = 0; device < IVG_DEVICES_MAX && used < count; device++)
                if (advice->accessed_by & 1ull << device)
                        out[used++] = device;
        if (advice->accessed_by_host && used < count)
                out[used++] = CU_DEVICE_CPU;
        while (used < count)
                out[used++] = CU_DEVICE_INVALID;
}

static CUresult store_attribute(const struct ivg_advice *advice, CUmem_range_attribute attribute, void *data,
                                size_t bytes)
{
        int32_t value;

        if (data == NULL || bytes == 0 || bytes % sizeof(value) != 0 ||
            (attribute != CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY && bytes != sizeof(value)))
                return CUDA_ERROR_INVALID_VALUE;
        switch (attribute) {
        case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY:
                value = advice->read_mostly;
                break;
        case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION:
                value = location_number(advice->preferred);
                break;
        case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION:
                value = location_number(advice->prefetched);
                break;
        case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE:
                value = (int32_t)advice->preferred.type;
                break;
        case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID:
                value = advice->preferred.id;
                break;
        case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE:
                value = (int32_t)advice->prefetched.type;
                break;
        case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID:
                value = advice->prefetched.id;
                break;
        case CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY:
                store_accessed_by(advice, data, bytes / sizeof(value));
                return CUDA_SUCCESS;
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
        memcpy(data, &value, sizeof(value));
        return CUDA_SUCCESS;
}

static CUresult get_attributes(void **data, const size_t *sizes, const CUmem_range_attribute *attributes, size_t count,
                               CUdeviceptr pointer, size_t bytes)
{
        struct summary summary = {.any = false};
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (data == NULL || sizes == NULL || attributes == NULL || count == 0)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_advice_read(pointer, bytes, summarize, &summary);
        for (size_t i = 0; i < count && result == CUDA_SUCCESS; i++)
                result = store_attribute(&summary.all, attributes[i], data[i], sizes[i]);
        return result;
}

CUresult cuMemRangeGetAttribute(void *data, size_t dataSize, CUmem_range_attribute attribute, CUdeviceptr devPtr,
                                size_t count)
{
        return ivg_local("cuMemRangeGetAttribute", get_attributes(&data, &dataSize, &attribute, 1, devPtr, count));
}

CUresult cuMemRangeGetAttributes(void **data, size_t *dataSizes, CUmem_range_attribute *attributes,
                                 size_t numAttributes, CUdeviceptr devPtr, size_t count)
{
        return ivg_local("cuMemRangeGetAttributes",
                         get_attributes(data, dataSizes, attributes, numAttributes, devPtr, count));
}

/* ---- attachment: it restricts nobody where host and device use memory at the same time ---- */

static CUresult attach(CUstream stream, ivg_id null_stream, CUdeviceptr pointer, size_t bytes, unsigned int flags)
{
        struct ivg_object *context;
        struct ivg_memory_range range;
        ivg_id id;
        CUresult result = ivg_context_require(&context);

        if (result == CUDA_SUCCESS)
                result = ivg_stream_id(stream, null_stream, &id);
        if (result != CUDA_SUCCESS)
                return result;
        if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST && flags != CU_MEM_ATTACH_SINGLE)
                return CUDA_ERROR_INVALID_VALUE;
        if (!ivg_memory_find(&ivg_memory_of_host, pointer, &range) || range.kind != IVG_MEMORY_MANAGED ||
            range.base != pointer || (bytes != 0 && bytes != range.bytes))
                return CUDA_ERROR_INVALID_VALUE;
        return CUDA_SUCCESS;
}

CUresult cuStreamAttachMemAsync(CUstream hStream, CUdeviceptr dptr, size_t length, unsigned int flags)
{
        return ivg_local("cuStreamAttachMemAsync", attach(hStream, IVG_ID_STREAM_LEGACY, dptr, length, flags));
}

CUresult cuStreamAttachMemAsync_ptsz(CUstream hStream, CUdeviceptr dptr, size_t length, unsigned int flags)
{
        return ivg_local("cuStreamAttachMemAsync_ptsz", attach(hStream, IVG_ID_STREAM_PER_THREAD, dptr, length, flags));
}
