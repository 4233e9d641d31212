/* Copies in one dimension. Four ways, chosen by what the host side of the copy is:
 *
 *   inline    pageable, to the device, up to IVG_COPY_INLINE_BYTES: the bytes ride in the record
 *   in place  pinned: the DMA reads or writes the program's memory, which is arena memory
 *   to read   pageable, to the device, up to IVG_COPY_TO_READ_BYTES: through a buffer that the driver reads at once
 *   staged    pageable: chunks through copy buffers, the processors' copy of one beside the DMA of the others
 *             (copy_staged.c)
 *   on device no host side
 *
 * A copy that a capture takes is made again at each launch of the graph: with pageable memory by way of arena memory
 * that the graph keeps (paged.c).
 *
 * When they return (the same as on bare metal): to the device from pageable memory: when the source has been read, and
 * not for the Async forms: when what the stream was given before is done (ivg_upload_waits);
 * from the device into pageable memory: when the data is there, also for the Async forms; pinned memory: at once for
 * the Async forms, when the copy is done for the others; on the device: at once. */
#include "guest_send.h"
#include "memory.h"
#include "paged.h"
#include <string.h>

#define IVG_COPY_INLINE_BYTES 3000u /* one record; from here on a buffer's bookkeeping costs less than the bytes */

CUresult ivg_copy_begin(struct ivg_copy *copy, CUstream stream, ivg_id null_stream, bool synchronous)
{
        copy->synchronous = synchronous;
        copy->array = IVG_ID_NONE;
        CUresult result = ivg_context_require(&copy->context);
        if (result == CUDA_SUCCESS)
                result = ivg_stream_id(stream, null_stream, &copy->stream);
        copy->captured = result == CUDA_SUCCESS && ivg_capture_takes(copy->stream);
        copy->follows_nothing = result == CUDA_SUCCESS && synchronous && ivg_copy_follows_nothing(copy);
        return result;
}

bool ivg_pinned_offset(const void *pointer, uint64_t bytes, uint64_t *offset)
{
        struct ivg_memory_range range;
        if (!ivg_arena_offset(pointer, bytes, offset))
                return false;
        const uint64_t address = (uintptr_t)pointer;
        return ivg_memory_find(&ivg_memory_of_host, address, &range) &&
               (range.kind == IVG_MEMORY_PINNED || range.kind == IVG_MEMORY_MANAGED) &&
               bytes <= range.bytes - (address - range.base);
}

/* ---- in place ---- */

CUresult ivg_copy_send(const struct ivg_copy *copy, bool to_device, uint64_t device, uint64_t arena_offset,
                       uint64_t bytes, uint32_t index, uint64_t value)
{
        if (copy->array != IVG_ID_NONE)
                return ivg_send_ivgCopyArray(copy->array, device, arena_offset, bytes, to_device, copy->stream, index,
                                             value);
        return to_device ? ivg_send_ivgCopyHtoD(device, arena_offset, bytes, copy->stream, index, value, 0)
                         : ivg_send_ivgCopyDtoH(arena_offset, device, bytes, copy->stream, index, value);
}

static CUresult copy_in_place(const struct ivg_copy *copy, bool to_device, uint64_t device, uint64_t arena_offset,
                              uint64_t bytes)
{
        struct ivg_completion *completion = copy->synchronous && !copy->captured ? ivg_completion_take() : NULL;
        if (completion == NULL) {
                const CUresult result =
                        ivg_copy_send(copy, to_device, device, arena_offset, bytes, IVG_COMPLETION_NONE, 0);
                ivg_expect_dma(copy->synchronous ? 0 : bytes);
                return result != CUDA_SUCCESS || !copy->synchronous ? result
                                                                    : ivg_send_cuStreamSynchronize(copy->stream);
        }
        const uint64_t value = ivg_completion_begin(completion, copy->stream, copy->context);
        const struct ivg_moment before = ivg_moment_now();
        CUresult result = ivg_completion_sent(
                completion, ivg_copy_send(copy, to_device, device, arena_offset, bytes, completion->index, value));
        ivg_expect_dma(bytes);
        if (result == CUDA_SUCCESS)
                result = ivg_completion_wait(completion);
        ivg_completion_give(completion);
        if (result == CUDA_SUCCESS)
                ivg_copy_has_waited(copy, &before);
        return result;
}

/* ---- small, to the device ---- */

/* By a buffer that the driver reads as it would read the program's memory. False: there is no such buffer. */
static bool copy_for_reading(const struct ivg_copy *copy, uint64_t destination, const void *source, uint64_t bytes,
                             CUresult *result)
{
        struct ivg_copy_buffer *buffer;
        if (ivg_copy_buffer_take(&ivg_copy_buffers_to_read, copy, &buffer) != CUDA_SUCCESS)
                return false;
        memcpy(buffer->memory, source, bytes);
        const uint64_t value = ivg_completion_begin(&buffer->completion, copy->stream, copy->context);
        *result = ivg_completion_sent(&buffer->completion,
                                      ivg_send_ivgCopyHtoD(destination, buffer->arena_offset, bytes, copy->stream,
                                                           buffer->completion.index, value, 1));
        ivg_copy_buffer_give(buffer);
        return true;
}

/* ---- captured, with pageable memory ---- */

static CUresult paged_begin(const struct ivg_copy *copy, const void *pointer, uint64_t bytes, struct ivg_paged **paged,
                            uint64_t *arena_offset)
{
        const struct ivg_paged_box box = {
                .address = (uintptr_t)pointer, .pitch = bytes, .width = bytes, .height = 1, .depth = 1};
        const CUresult result = ivg_paged_begin(copy, &box, paged);

        if (result == CUDA_SUCCESS &&
            !ivg_arena_offset((const void *)(uintptr_t)ivg_paged_address(*paged), bytes, arena_offset))
                return CUDA_ERROR_UNKNOWN;
        return result;
}

static CUresult paged_to_device(const struct ivg_copy *copy, uint64_t destination, const void *source, uint64_t bytes)
{
        struct ivg_paged *paged;
        uint64_t offset;
        CUresult result = paged_begin(copy, source, bytes, &paged, &offset);

        if (result == CUDA_SUCCESS)
                result = ivg_paged_read(copy, paged);
        return result == CUDA_SUCCESS ? copy_in_place(copy, true, destination, offset, bytes) : result;
}

static CUresult paged_from_device(const struct ivg_copy *copy, const void *destination, uint64_t source, uint64_t bytes)
{
        struct ivg_paged *paged;
        uint64_t offset;
        CUresult result = paged_begin(copy, destination, bytes, &paged, &offset);

        if (result == CUDA_SUCCESS)
                result = copy_in_place(copy, false, source, offset, bytes);
        return result == CUDA_SUCCESS ? ivg_paged_write(copy, paged) : result;
}

/* ---- by kind ---- */

/* True when a "host" pointer is really one of the device's: unified addressing lets programs pass either. Only where
 * no memory of the program's can be meant: shadow.c keeps the two apart. */
static bool is_device_memory(uint64_t address)
{
        struct ivg_memory_range range;
        return ivg_memory_find(&ivg_memory_of_device, address, &range) && !(range.flags & IVG_MEMORY_AMBIGUOUS);
}

/* The device's side of a synchronous copy may be memory that the program reads next, or one of which it wants to know
 * that the copy is done. */
static CUresult settle(const struct ivg_copy *copy, uint64_t destination, uint64_t source, CUresult result)
{
        if (result == CUDA_SUCCESS && copy->synchronous && !copy->captured &&
            (ivg_memory_settles(destination) || ivg_memory_settles(source)))
                return ivg_send_cuStreamSynchronize(copy->stream);
        return result;
}

/* A synchronous write that nothing has waited for yet. */
static CUresult settle_write(const struct ivg_copy *copy, uint64_t destination, CUresult result)
{
        return result == CUDA_SUCCESS && copy->synchronous && !copy->captured
                       ? ivg_write_settle(copy->stream, destination)
                       : result;
}

static CUresult settle_upload(const struct ivg_copy *copy, uint64_t destination, CUresult result)
{
        if (result != CUDA_SUCCESS || !copy->synchronous)
                return result;
        if (ivg_memory_settles(destination))
                return ivg_send_cuStreamSynchronize(copy->stream);
        return ivg_upload_waits(copy) ? ivg_upload_wait(copy) : CUDA_SUCCESS;
}

CUresult ivg_copy_to_device(const struct ivg_copy *copy, uint64_t destination, const void *source, uint64_t bytes)
{
        CUresult result;
        uint64_t offset;
        if (bytes == 0)
                return CUDA_SUCCESS;
        if (source == NULL || destination == 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (ivg_pinned_offset(source, bytes, &offset))
                return copy_in_place(copy, true, destination, offset, bytes);
        if (is_device_memory((uintptr_t)source)) {
                result = ivg_send_cuMemcpyDtoDAsync_v2(destination, (uintptr_t)source, bytes, copy->stream);
                return ivg_memory_settles((uintptr_t)source) ? settle(copy, destination, (uintptr_t)source, result)
                                                             : settle_write(copy, destination, result);
        }
        if (copy->captured)
                return paged_to_device(copy, destination, source, bytes);
        if (bytes <= IVG_COPY_INLINE_BYTES) {
                result = ivg_send_ivgCopyHtoDInline(destination, copy->stream, source, (uint32_t)bytes);
                return settle_upload(copy, destination, result);
        }
        if (bytes <= IVG_COPY_TO_READ_BYTES && copy_for_reading(copy, destination, source, bytes, &result))
                return settle_upload(copy, destination, result);
        return ivg_copy_staged(copy, destination, (void *)(uintptr_t)source, bytes, true);
}

CUresult ivg_copy_from_device(const struct ivg_copy *copy, void *destination, uint64_t source, uint64_t bytes)
{
        uint64_t offset;
        if (bytes == 0)
                return CUDA_SUCCESS;
        if (destination == NULL || source == 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (ivg_pinned_offset(destination, bytes, &offset))
                return copy_in_place(copy, false, source, offset, bytes);
        if (is_device_memory((uintptr_t)destination))
                return ivg_copy_on_device(copy, (uintptr_t)destination, source, bytes);
        if (copy->captured)
                return paged_from_device(copy, destination, source, bytes);
        return ivg_copy_staged(copy, source, destination, bytes, false);
}

/* Of one dimension, as cuMemcpyHtoA and cuMemcpyAtoH have it. */
CUresult ivg_copy_array(struct ivg_copy *copy, ivg_id array, uint64_t array_offset, void *host, uint64_t bytes,
                        bool to_array)
{
        uint64_t offset;
        if (bytes == 0)
                return CUDA_SUCCESS;
        if (host == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        copy->array = array;
        if (ivg_pinned_offset(host, bytes, &offset))
                return copy_in_place(copy, to_array, array_offset, offset, bytes);
        if (is_device_memory((uintptr_t)host))
                return ivg_refuse("device memory in the place of the host memory of an array's copy");
        if (copy->captured)
                return to_array ? paged_to_device(copy, array_offset, host, bytes)
                                : paged_from_device(copy, host, array_offset, bytes);
        return ivg_copy_staged(copy, array_offset, host, bytes, to_array);
}

CUresult ivg_copy_on_device(const struct ivg_copy *copy, uint64_t destination, uint64_t source, uint64_t bytes)
{
        if (bytes == 0)
                return CUDA_SUCCESS;
        if (destination == 0 || source == 0)
                return CUDA_ERROR_INVALID_VALUE;
        return settle(copy, destination, source,
                      ivg_send_cuMemcpyDtoDAsync_v2(destination, source, bytes, copy->stream));
}

/* The stream's earlier work may write the source or read the destination, when that is pinned. */
static CUresult copy_on_host(const struct ivg_copy *copy, void *destination, const void *source, uint64_t bytes)
{
        if (bytes == 0)
                return CUDA_SUCCESS;
        const CUresult result = ivg_send_cuStreamSynchronize(copy->stream);
        if (result == CUDA_SUCCESS)
                memmove(destination, source, bytes);
        return result;
}

CUresult ivg_copy_unified(const struct ivg_copy *copy, uint64_t destination, uint64_t source, uint64_t bytes)
{
        struct ivg_memory_range range;
        if (bytes == 0)
                return CUDA_SUCCESS;
        if (destination == 0 || source == 0)
                return CUDA_ERROR_INVALID_VALUE;
        const bool to_device = ivg_memory_find(&ivg_memory_of_device, destination, &range);
        const bool from_device = ivg_memory_find(&ivg_memory_of_device, source, &range);
        if (to_device && from_device)
                return ivg_copy_on_device(copy, destination, source, bytes);
        if (to_device)
                return ivg_copy_to_device(copy, destination, (const void *)(uintptr_t)source, bytes);
        if (from_device)
                return ivg_copy_from_device(copy, (void *)(uintptr_t)destination, source, bytes);
        return copy_on_host(copy, (void *)(uintptr_t)destination, (const void *)(uintptr_t)source, bytes);
}
