/* Device memory: allocation on the host, with each range noted here so that pointers can be told apart. */
#include "cuda_api.h"
#include "graph.h"
#include "guest_send.h"
#include "memory.h"

/* Allocations whose addresses the program's own memory has already are set aside while another is asked for: three in
 * a row would mean that the host's driver allocates right inside this process's mappings. */
#define COLLISIONS_MAX 3u

typedef CUresult (*send_allocation)(uint64_t *pointer, uint64_t *bytes, void *request);
typedef CUresult (*send_free)(uint64_t pointer, void *request);
/* How one kind of memory is obtained and given back. */
struct allocator {
        uint32_t kind; /* enum ivg_memory_kind */
        send_allocation allocate;
        send_free free;
};

static _Atomic(uint32_t) collisions_told; /* once: then this process lives with them */

/* Whether the range's address is to be used: it is nobody's here, or nothing better is to be had. */
static bool range_is_kept(struct ivg_memory_range *range, uint32_t aside_count)
{
        if (ivg_shadow_reserve(range->base, range->bytes))
                return true;
        /* Relaxed: it only saves work and lines of log. */
        if (ivg_load_relaxed_u32(&collisions_told) == 0 && aside_count < COLLISIONS_MAX)
                return false;
        if (ivg_exchange_seq_cst_u32(&collisions_told, 1) == 0)
                ivg_log("device memory at 0x%llx, and perhaps more, lies where this program has memory of its own: "
                        "cuMemcpy and cuPointerGetAttribute cannot tell them apart there",
                        (unsigned long long)range->base);
        range->flags |= IVG_MEMORY_AMBIGUOUS;
        return true;
}

/* Allocates until an address comes that is nobody's here, then gives the others back. When none does, the last one is
 * kept and marked: everything works on it but the calls that must guess what a pointer is. */
static CUresult allocate_apart(const struct allocator *allocator, void *request, struct ivg_memory_range *range)
{
        uint64_t aside[COLLISIONS_MAX];
        uint32_t count = 0;
        CUresult result = allocator->allocate(&range->base, &range->bytes, request);
        while (result == CUDA_SUCCESS && !range_is_kept(range, count)) {
                aside[count++] = range->base;
                result = allocator->allocate(&range->base, &range->bytes, request);
        }
        while (count > 0)
                (void)allocator->free(aside[--count], request); /* freed or not: the program never knew of it */
        return result;
}

CUresult ivg_graph_memory_note(struct ivg_object *context, uint64_t address, uint64_t bytes)
{
        struct ivg_memory_range range = {.base = address,
                                         .bytes = bytes,
                                         .kind = IVG_MEMORY_GRAPH,
                                         .device = context->device,
                                         .context = context};
        if (!ivg_shadow_reserve(address, bytes))
                range.flags = IVG_MEMORY_AMBIGUOUS;
        return ivg_memory_add(&ivg_memory_of_device, &range) == 0 ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult allocate(struct ivg_object *context, const struct allocator *allocator, void *request,
                         CUdeviceptr *pointer)
{
        struct ivg_memory_range range = {
                .kind = allocator->kind, .device = context->device, .context = ivg_context_owner(context)};
        const CUresult result = allocate_apart(allocator, request, &range);
        if (result != CUDA_SUCCESS)
                return result;
        const int error = ivg_memory_add(&ivg_memory_of_device, &range);
        if (error != 0) {
                ivg_log("device memory 0x%llx, %llu bytes: cannot be noted: error %d", (unsigned long long)range.base,
                        (unsigned long long)range.bytes, error);
                (void)allocator->free(range.base, request);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        *pointer = range.base;
        return CUDA_SUCCESS;
}

/* With an answer: see the call table. */
CUresult ivg_free_and_wait(uint64_t pointer)
{
        struct ivg_request_cuMemFree_v2 request = {.dptr = pointer};

        return ivg_call_sync(IVG_CALL_cuMemFree_v2, &request, sizeof(request), NULL, 0, 0, NULL);
}

static CUresult send_free_plain(uint64_t pointer, void *request)
{
        (void)request;
        return ivg_free_and_wait(pointer);
}

static CUresult send_plain(uint64_t *pointer, uint64_t *bytes, void *request)
{
        *bytes = *(const uint64_t *)request;
        return ivg_send_cuMemAlloc_v2(*bytes, pointer);
}

static const struct allocator plain = {IVG_MEMORY_DEVICE, send_plain, send_free_plain};

CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize)
{
        struct ivg_object *context;
        uint64_t bytes = bytesize;
        const CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (dptr == NULL || bytesize == 0)
                return CUDA_ERROR_INVALID_VALUE;
        return allocate(context, &plain, &bytes, dptr);
}

struct pitch_request {
        uint64_t width, height, pitch;
        unsigned int element_bytes;
};

static CUresult send_pitch(uint64_t *pointer, uint64_t *bytes, void *request)
{
        struct pitch_request *pitch = request;
        const CUresult result =
                ivg_send_cuMemAllocPitch_v2(pitch->width, pitch->height, pitch->element_bytes, pointer, &pitch->pitch);
        *bytes = pitch->pitch * pitch->height;
        return result;
}

static const struct allocator pitched = {IVG_MEMORY_DEVICE, send_pitch, send_free_plain};

CUresult cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pPitch, size_t WidthInBytes, size_t Height,
                            unsigned int ElementSizeBytes)
{
        struct ivg_object *context;
        struct pitch_request request = {.width = WidthInBytes, .height = Height, .element_bytes = ElementSizeBytes};
        CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (dptr == NULL || pPitch == NULL || WidthInBytes == 0 || Height == 0)
                return CUDA_ERROR_INVALID_VALUE;
        result = allocate(context, &pitched, &request, dptr);
        if (result == CUDA_SUCCESS)
                *pPitch = request.pitch;
        return result;
}

/* The next launch may allocate it again, so it stays noted. */
static bool is_graph_memory(uint64_t address)
{
        struct ivg_memory_range range;
        return ivg_memory_find(&ivg_memory_of_device, address, &range) && range.base == address &&
               range.kind == IVG_MEMORY_GRAPH;
}

/* The range leaves the index before the host hears of it: as soon as the host has freed it, another thread's allocation
 * may get the same address and must find it vacant here. What was not freed (a capture forbids it) comes back. */
static CUresult free_noted(struct ivg_memory_range *range)
{
        const CUresult result = ivg_free_and_wait(range->base);

        if (result != CUDA_SUCCESS)
                (void)ivg_memory_add(&ivg_memory_of_device, range); /* it just was there */
        return result;
}

CUresult cuMemFree_v2(CUdeviceptr dptr)
{
        struct ivg_object *context;
        struct ivg_memory_range range;
        CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS || dptr == 0)
                return result;
        if (ivg_memory_remove(&ivg_memory_of_device, dptr, IVG_MEMORY_DEVICE, &range) ||
            ivg_memory_remove(&ivg_memory_of_device, dptr, IVG_MEMORY_POOLED, &range))
                return free_noted(&range);
        if (is_graph_memory(dptr))
                return ivg_free_and_wait(dptr);
        return ivg_managed_free(dptr, &result) ? result : CUDA_ERROR_INVALID_VALUE;
}

/* ---- in stream order, from pools ---- */

struct pool_request {
        uint64_t bytes;
        ivg_id pool; /* IVG_ID_NONE: the device's current one */
        ivg_id stream;
};

static CUresult send_pooled(uint64_t *pointer, uint64_t *bytes, void *request)
{
        const struct pool_request *pool = request;
        *bytes = pool->bytes;
        return pool->pool == IVG_ID_NONE
                       ? ivg_send_cuMemAllocAsync(pool->bytes, pool->stream, pointer)
                       : ivg_send_cuMemAllocFromPoolAsync(pool->bytes, pool->pool, pool->stream, pointer);
}

static CUresult send_free_pooled(uint64_t pointer, void *request)
{
        return ivg_send_cuMemFreeAsync(pointer, ((const struct pool_request *)request)->stream);
}

static const struct allocator pooled = {IVG_MEMORY_POOLED, send_pooled, send_free_pooled};
/* Of a stream that captures. */
static const struct allocator captured = {IVG_MEMORY_GRAPH, send_pooled, send_free_pooled};

static CUresult allocate_pooled(CUdeviceptr *pointer, uint64_t bytes, ivg_id pool, CUstream stream, ivg_id null_stream)
{
        struct ivg_object *context;
        struct pool_request request = {.bytes = bytes, .pool = pool};
        CUresult result = ivg_context_require(&context);
        if (result == CUDA_SUCCESS)
                result = ivg_stream_id(stream, null_stream, &request.stream);
        if (result != CUDA_SUCCESS)
                return result;
        if (pointer == NULL || bytes == 0)
                return CUDA_ERROR_INVALID_VALUE;
        return allocate(context, ivg_capture_takes(request.stream) ? &captured : &pooled, &request, pointer);
}

CUresult cuMemAllocAsync(CUdeviceptr *dptr, size_t bytesize, CUstream hStream)
{
        return allocate_pooled(dptr, bytesize, IVG_ID_NONE, hStream, IVG_ID_STREAM_LEGACY);
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr *dptr, size_t bytesize, CUstream hStream)
{
        return allocate_pooled(dptr, bytesize, IVG_ID_NONE, hStream, IVG_ID_STREAM_PER_THREAD);
}

static CUresult allocate_from_pool(CUdeviceptr *pointer, uint64_t bytes, CUmemoryPool pool, CUstream stream,
                                   ivg_id null_stream)
{
        const CUresult result = ivg_process_check();
        if (result != CUDA_SUCCESS)
                return result;
        const struct ivg_object *object = ivg_object_of(IVG_KIND_MEMORY_POOL, pool);
        return object != NULL ? allocate_pooled(pointer, bytes, object->id, stream, null_stream)
                              : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool, CUstream hStream)
{
        return allocate_from_pool(dptr, bytesize, pool, hStream, IVG_ID_STREAM_LEGACY);
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool, CUstream hStream)
{
        return allocate_from_pool(dptr, bytesize, pool, hStream, IVG_ID_STREAM_PER_THREAD);
}

/* Also for memory of cuMemAlloc, as CUDA has it; and cuMemFree takes memory from pools. */
static CUresult free_in_order(CUdeviceptr pointer, CUstream stream, ivg_id null_stream)
{
        struct ivg_object *context;
        struct ivg_memory_range range;
        ivg_id id;
        CUresult result = ivg_context_require(&context);
        if (result == CUDA_SUCCESS)
                result = ivg_stream_id(stream, null_stream, &id);
        if (result != CUDA_SUCCESS)
                return result;
        if (!is_graph_memory(pointer) &&
            !ivg_memory_remove(&ivg_memory_of_device, pointer, IVG_MEMORY_POOLED, &range) &&
            !ivg_memory_remove(&ivg_memory_of_device, pointer, IVG_MEMORY_DEVICE, &range))
                return CUDA_ERROR_INVALID_VALUE;
        ivg_store_relaxed_u32(&ivg_frees_in_order, 1);
        return ivg_send_cuMemFreeAsync(pointer, id);
}

CUresult cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream)
{
        return free_in_order(dptr, hStream, IVG_ID_STREAM_LEGACY);
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr dptr, CUstream hStream)
{
        return free_in_order(dptr, hStream, IVG_ID_STREAM_PER_THREAD);
}
