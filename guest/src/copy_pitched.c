/* Copies in two and three dimensions between host and device memory. Arrays are refused by name.
 *
 * A copy is brought to one form first: two addresses with pitches, and a box of rows. Then, as in copy.c: in place when
 * no side is pageable; else in groups of rows that are packed into copy buffers on the way. */
#include "cuda_api.h"
#include "guest_send.h"
#include "memory.h"
#include <string.h>

enum side_kind { SIDE_DEVICE, SIDE_PINNED, SIDE_PAGEABLE };
struct side {
        enum side_kind kind;
        uint64_t address;     /* of the box's first byte */
        uint64_t pitch;       /* from row to row */
        uint64_t slice_pitch; /* from slice to slice */
};
struct box {
        struct side to, from;
        uint64_t width, height, depth;
};

/* ---- to one form ---- */

/* One side as the program describes it. */
struct described {
        CUmemorytype type;
        uint64_t host, device;
        uint64_t x, y, z, pitch, rows; /* rows: per slice */
};

static bool add_product(uint64_t *sum, uint64_t a, uint64_t b)
{
        uint64_t product;
        return !__builtin_mul_overflow(a, b, &product) && !__builtin_add_overflow(*sum, product, sum);
}

/* Bytes from the first to behind the last one of the box on this side; false: it wraps. */
static bool side_span(const struct side *side, const struct box *box, uint64_t *bytes)
{
        *bytes = box->width;
        return add_product(bytes, box->height - 1, side->pitch) &&
               add_product(bytes, box->depth - 1, side->slice_pitch);
}

static enum side_kind host_kind(uint64_t address, uint64_t bytes)
{
        uint64_t offset;
        return ivg_pinned_offset((const void *)(uintptr_t)address, bytes, &offset) ? SIDE_PINNED : SIDE_PAGEABLE;
}

static CUresult side_kind_find(const struct described *described, struct side *side, uint64_t span)
{
        struct ivg_memory_range range;
        switch (described->type) {
        case CU_MEMORYTYPE_HOST:
                side->kind = host_kind(side->address, span);
                return CUDA_SUCCESS;
        case CU_MEMORYTYPE_DEVICE:
                side->kind = SIDE_DEVICE;
                return CUDA_SUCCESS;
        case CU_MEMORYTYPE_UNIFIED:
                side->kind = ivg_memory_find(&ivg_memory_of_device, side->address, &range)
                                     ? SIDE_DEVICE
                                     : host_kind(side->address, span);
                return CUDA_SUCCESS;
        case CU_MEMORYTYPE_ARRAY:
                return ivg_refuse("pitched copy with a CUarray");
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
}

static CUresult side_resolve(const struct described *described, const struct box *box, struct side *side)
{
        uint64_t row_end, span;
        const bool one_row = box->height == 1 && box->depth == 1;
        side->pitch = described->pitch == 0 && one_row ? described->x + box->width : described->pitch;
        if (__builtin_add_overflow(described->x, box->width, &row_end) || side->pitch < row_end)
                return CUDA_ERROR_INVALID_VALUE;
        if (box->depth > 1 && (box->height > described->rows || described->y > described->rows - box->height))
                return CUDA_ERROR_INVALID_VALUE;
        if (__builtin_mul_overflow(side->pitch, described->rows, &side->slice_pitch))
                return CUDA_ERROR_INVALID_VALUE;
        side->address = described->type == CU_MEMORYTYPE_HOST ? described->host : described->device;
        if (side->address == 0 && described->type != CU_MEMORYTYPE_ARRAY)
                return CUDA_ERROR_INVALID_VALUE;
        if (!add_product(&side->address, described->x, 1) || !add_product(&side->address, described->y, side->pitch) ||
            !add_product(&side->address, described->z, side->slice_pitch) || !side_span(side, box, &span) ||
            span > UINT64_MAX - side->address)
                return CUDA_ERROR_INVALID_VALUE;
        return side_kind_find(described, side, span);
}

/* ---- in place ---- */

static CUresult send_box(const struct ivg_copy *copy, const struct box *box, uint32_t index, uint64_t value)
{
        if (box->depth == 1)
                return ivg_send_ivgCopy2D(box->to.address, box->to.pitch, box->from.address, box->from.pitch,
                                          box->width, box->height, copy->stream, index, value);
        /* Each slice's rows are a whole number of pitches apart: side_resolve made slice_pitch so. */
        return ivg_send_ivgCopy3D(box->to.address, box->to.pitch, box->to.slice_pitch / box->to.pitch,
                                  box->from.address, box->from.pitch, box->from.slice_pitch / box->from.pitch,
                                  box->width, box->height, box->depth, copy->stream, index, value);
}

static CUresult copy_box_in_place(const struct ivg_copy *copy, const struct box *box)
{
        const bool wait = copy->synchronous && (box->to.kind == SIDE_PINNED || box->from.kind == SIDE_PINNED);
        struct ivg_completion *completion = wait && !copy->captured ? ivg_completion_take() : NULL;
        if (completion == NULL) {
                const CUresult result = send_box(copy, box, IVG_COMPLETION_NONE, 0);
                return result != CUDA_SUCCESS || !wait ? result : ivg_send_cuStreamSynchronize(copy->stream);
        }
        const uint64_t value = ivg_completion_begin(completion, copy->stream, copy->context);
        CUresult result = send_box(copy, box, completion->index, value);
        if (result == CUDA_SUCCESS)
                result = ivg_completion_wait(completion);
        ivg_completion_give(completion);
        return result;
}

/* ---- by way of a copy buffer ---- */

static uint8_t *row_address(const struct side *side, uint64_t slice, uint64_t row)
{
        return (uint8_t *)(uintptr_t)(side->address + slice * side->slice_pitch + row * side->pitch);
}

/* `rows` rows of one slice, packed in a buffer. */
static CUresult stage_rows(const struct ivg_copy *copy, const struct box *box, struct ivg_copy_buffer *buffer,
                           uint64_t slice, uint64_t row, uint64_t rows)
{
        const bool to_device = box->from.kind == SIDE_PAGEABLE;
        const uint64_t memory = (uintptr_t)buffer->memory, width = box->width;
        CUresult result = ivg_completion_wait(&buffer->completion);
        if (result != CUDA_SUCCESS)
                return result;
        for (uint64_t i = 0; to_device && i < rows; i++)
                memcpy(buffer->memory + i * width, row_address(&box->from, slice, row + i), width);
        const uint64_t value = ivg_completion_begin(&buffer->completion, copy->stream, copy->context);
        const struct side *device = to_device ? &box->to : &box->from;
        const uint64_t address = (uintptr_t)row_address(device, slice, row);
        result = to_device ? ivg_send_ivgCopy2D(address, device->pitch, memory, width, width, rows, copy->stream,
                                                buffer->completion.index, value)
                           : ivg_send_ivgCopy2D(memory, width, address, device->pitch, width, rows, copy->stream,
                                                buffer->completion.index, value);
        if (result != CUDA_SUCCESS) {
                buffer->completion.pending = false; /* it never left */
                return result;
        }
        if (to_device)
                return CUDA_SUCCESS;
        result = ivg_completion_wait(&buffer->completion);
        for (uint64_t i = 0; result == CUDA_SUCCESS && i < rows; i++)
                memcpy(row_address(&box->to, slice, row + i), buffer->memory + i * width, width);
        return result;
}

/* Two buffers: to the device, one is filled while the other is in DMA. */
static CUresult stage_box(const struct ivg_copy *copy, const struct box *box)
{
        struct ivg_copy_buffer *buffers[2];
        const uint64_t group = IVG_COPY_CHUNK_BYTES / box->width;
        uint32_t turn = 0;
        CUresult result = ivg_copy_buffer_take(&ivg_copy_buffers_for_dma, &buffers[0]);
        if (result != CUDA_SUCCESS)
                return result;
        buffers[1] = ivg_copy_buffer_try(&ivg_copy_buffers_for_dma);
        for (uint64_t slice = 0; slice < box->depth; slice++) {
                for (uint64_t row = 0; row < box->height && result == CUDA_SUCCESS; row += group, turn++) {
                        const uint64_t left = box->height - row;
                        struct ivg_copy_buffer *buffer = buffers[1] != NULL ? buffers[turn % 2] : buffers[0];
                        result = stage_rows(copy, box, buffer, slice, row, left < group ? left : group);
                }
        }
        ivg_copy_buffer_give(buffers[0]);
        if (buffers[1] != NULL)
                ivg_copy_buffer_give(buffers[1]);
        return result;
}

/* Rows longer than a buffer are copies of their own. */
static CUresult copy_rows_singly(const struct ivg_copy *copy, const struct box *box)
{
        CUresult result = CUDA_SUCCESS;
        for (uint64_t slice = 0; slice < box->depth; slice++) {
                for (uint64_t row = 0; row < box->height && result == CUDA_SUCCESS; row++) {
                        uint8_t *to = row_address(&box->to, slice, row), *from = row_address(&box->from, slice, row);
                        result = box->from.kind == SIDE_PAGEABLE
                                         ? ivg_copy_to_device(copy, (uintptr_t)to, from, box->width)
                                         : ivg_copy_from_device(copy, to, (uintptr_t)from, box->width);
                }
        }
        return result;
}

static CUresult copy_box_on_host(const struct ivg_copy *copy, const struct box *box)
{
        const CUresult result = ivg_send_cuStreamSynchronize(copy->stream);
        for (uint64_t slice = 0; result == CUDA_SUCCESS && slice < box->depth; slice++)
                for (uint64_t row = 0; row < box->height; row++)
                        memmove(row_address(&box->to, slice, row), row_address(&box->from, slice, row), box->width);
        return result;
}

static CUresult copy_box(const struct ivg_copy *copy, const struct box *box)
{
        if (box->to.kind != SIDE_DEVICE && box->from.kind != SIDE_DEVICE)
                return copy_box_on_host(copy, box);
        if (box->to.kind != SIDE_PAGEABLE && box->from.kind != SIDE_PAGEABLE)
                return copy_box_in_place(copy, box);
        if (copy->captured)
                return ivg_refuse("capture of a pitched copy with pageable memory");
        return box->width <= IVG_COPY_CHUNK_BYTES ? stage_box(copy, box) : copy_rows_singly(copy, box);
}

/* ---- the exported forms ---- */

static CUresult copy_described(const struct described *to, const struct described *from, struct box *box,
                               CUstream stream, ivg_id null_stream, bool synchronous)
{
        struct ivg_copy copy;
        CUresult result = ivg_copy_begin(&copy, stream, null_stream, synchronous);
        if (result != CUDA_SUCCESS)
                return result;
        if (box->width == 0 || box->height == 0 || box->depth == 0)
                return CUDA_SUCCESS;
        result = side_resolve(to, box, &box->to);
        if (result == CUDA_SUCCESS)
                result = side_resolve(from, box, &box->from);
        return result != CUDA_SUCCESS ? result : copy_box(&copy, box);
}

static CUresult copy_2d(const CUDA_MEMCPY2D *p, CUstream stream, ivg_id null_stream, bool synchronous)
{
        if (p == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const struct described to = {.type = p->dstMemoryType,
                                     .host = (uintptr_t)p->dstHost,
                                     .device = p->dstDevice,
                                     .x = p->dstXInBytes,
                                     .y = p->dstY,
                                     .pitch = p->dstPitch};
        const struct described from = {.type = p->srcMemoryType,
                                       .host = (uintptr_t)p->srcHost,
                                       .device = p->srcDevice,
                                       .x = p->srcXInBytes,
                                       .y = p->srcY,
                                       .pitch = p->srcPitch};
        struct box box = {.width = p->WidthInBytes, .height = p->Height, .depth = 1};
        return copy_described(&to, &from, &box, stream, null_stream, synchronous);
}

static CUresult described_3d(const CUDA_MEMCPY3D *p, struct described *to, struct described *from, struct box *box)
{
        if (p == NULL || p->srcLOD != 0 || p->dstLOD != 0)
                return CUDA_ERROR_INVALID_VALUE;
        *to = (struct described){.type = p->dstMemoryType,
                                 .host = (uintptr_t)p->dstHost,
                                 .device = p->dstDevice,
                                 .x = p->dstXInBytes,
                                 .y = p->dstY,
                                 .z = p->dstZ,
                                 .pitch = p->dstPitch,
                                 .rows = p->dstHeight};
        *from = (struct described){.type = p->srcMemoryType,
                                   .host = (uintptr_t)p->srcHost,
                                   .device = p->srcDevice,
                                   .x = p->srcXInBytes,
                                   .y = p->srcY,
                                   .z = p->srcZ,
                                   .pitch = p->srcPitch,
                                   .rows = p->srcHeight};
        *box = (struct box){.width = p->WidthInBytes, .height = p->Height, .depth = p->Depth};
        return CUDA_SUCCESS;
}

/* Rows of a slice, for a side whose slices are a whole number of rows apart. */
static uint64_t side_rows(const struct side *side, const struct box *box)
{
        return side->slice_pitch != 0 ? side->slice_pitch / side->pitch : box->height;
}

CUresult ivg_copy_node(const CUDA_MEMCPY3D *copy, struct ivg_wire_graph_node *node)
{
        struct described to, from;
        struct box box;
        CUresult result = described_3d(copy, &to, &from, &box);

        if (result != CUDA_SUCCESS)
                return result;
        if (box.width == 0 || box.height == 0 || box.depth == 0)
                return CUDA_ERROR_INVALID_VALUE;
        result = side_resolve(&to, &box, &box.to);
        if (result == CUDA_SUCCESS)
                result = side_resolve(&from, &box, &box.from);
        if (result != CUDA_SUCCESS)
                return result;
        if (box.to.kind == SIDE_PAGEABLE || box.from.kind == SIDE_PAGEABLE)
                return ivg_refuse("graph node that copies pageable memory");
        node->dst = box.to.address;
        node->dst_pitch = box.to.pitch;
        node->dst_height = side_rows(&box.to, &box);
        node->src = box.from.address;
        node->src_pitch = box.from.pitch;
        node->src_height = side_rows(&box.from, &box);
        node->width = box.width;
        node->height = box.height;
        node->depth = box.depth;
        return CUDA_SUCCESS;
}

static CUresult copy_3d(const CUDA_MEMCPY3D *p, CUstream stream, ivg_id null_stream, bool synchronous)
{
        struct described to, from;
        struct box box;
        const CUresult result = described_3d(p, &to, &from, &box);

        return result != CUDA_SUCCESS ? result : copy_described(&to, &from, &box, stream, null_stream, synchronous);
}

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *pCopy)
{
        return copy_2d(pCopy, NULL, IVG_ID_STREAM_LEGACY, true);
}

CUresult cuMemcpy2D_v2_ptds(const CUDA_MEMCPY2D *pCopy)
{
        return copy_2d(pCopy, NULL, IVG_ID_STREAM_PER_THREAD, true);
}

CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *pCopy)
{
        return copy_2d(pCopy, NULL, IVG_ID_STREAM_LEGACY, true);
}

CUresult cuMemcpy2DUnaligned_v2_ptds(const CUDA_MEMCPY2D *pCopy)
{
        return copy_2d(pCopy, NULL, IVG_ID_STREAM_PER_THREAD, true);
}

CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *pCopy, CUstream hStream)
{
        return copy_2d(pCopy, hStream, IVG_ID_STREAM_LEGACY, false);
}

CUresult cuMemcpy2DAsync_v2_ptsz(const CUDA_MEMCPY2D *pCopy, CUstream hStream)
{
        return copy_2d(pCopy, hStream, IVG_ID_STREAM_PER_THREAD, false);
}

CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D *pCopy)
{
        return copy_3d(pCopy, NULL, IVG_ID_STREAM_LEGACY, true);
}

CUresult cuMemcpy3D_v2_ptds(const CUDA_MEMCPY3D *pCopy)
{
        return copy_3d(pCopy, NULL, IVG_ID_STREAM_PER_THREAD, true);
}

CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D *pCopy, CUstream hStream)
{
        return copy_3d(pCopy, hStream, IVG_ID_STREAM_LEGACY, false);
}

CUresult cuMemcpy3DAsync_v2_ptsz(const CUDA_MEMCPY3D *pCopy, CUstream hStream)
{
        return copy_3d(pCopy, hStream, IVG_ID_STREAM_PER_THREAD, false);
}
