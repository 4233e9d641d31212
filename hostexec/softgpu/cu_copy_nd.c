/* Copies of boxes: 2D and 3D, between pitched ranges and arrays. */
#include <string.h>

#include "array.h"
#include "copy.h"
#include "softgpu.h"

/* One side of a box copy: the range it touches and the strides in it. */
struct sg_box {
        struct sg_span span; /* from the first byte to the last one touched */
        size_t pitch, slice;
        struct sg_array *array; /* referenced; NULL: memory. Then where in it the box begins: */
        size_t x, y, z;
};

struct sg_box_op {
        struct sg_op op;
        struct sg_box destination, source;
        size_t width, height, depth;
};

static CUresult sg_box_run(struct sg_op *op, struct sg_stream *stream)
{
        const struct sg_box_op *box = (const struct sg_box_op *)op;
        (void)stream;
        for (size_t z = 0; z < box->depth; z++)
                for (size_t y = 0; y < box->height; y++)
                        memmove(box->destination.span.address + z * box->destination.slice + y * box->destination.pitch,
                                box->source.span.address + z * box->source.slice + y * box->source.pitch, box->width);
        return CUDA_SUCCESS;
}

static void sg_box_close(struct sg_box *box)
{
        sg_span_close(&box->span);
        if (box->array != NULL)
                sg_object_put(box->array);
}

static void sg_box_release(struct sg_op *op)
{
        struct sg_box_op *box = (struct sg_box_op *)op;
        sg_box_close(&box->destination);
        sg_box_close(&box->source);
        sg_op_free(op);
}

static CUmemorytype sg_box_type(const struct sg_box *box)
{
        return box->array != NULL ? CU_MEMORYTYPE_ARRAY : sg_span_type(&box->span);
}

/* Of memory: an array's place in it is nobody's business. */
static char *sg_box_start(const struct sg_box *box)
{
        return box->array != NULL ? NULL : box->span.address;
}

static void sg_box_describe(const struct sg_op *op, CUgraphNodeParams *params)
{
        const struct sg_box_op *box = (const struct sg_box_op *)op;
        const struct sg_box *to = &box->destination, *from = &box->source;
        params->memcpy.copyParams = (CUDA_MEMCPY3D){.srcMemoryType = sg_box_type(from),
                                                    .srcArray = (CUarray)from->array,
                                                    .srcXInBytes = from->x,
                                                    .srcY = from->y,
                                                    .srcZ = from->z,
                                                    .srcHost = sg_box_start(from),
                                                    .srcDevice = sg_address(sg_box_start(from)),
                                                    .srcPitch = from->pitch,
                                                    .srcHeight = from->slice / from->pitch,
                                                    .dstMemoryType = sg_box_type(to),
                                                    .dstArray = (CUarray)to->array,
                                                    .dstXInBytes = to->x,
                                                    .dstY = to->y,
                                                    .dstZ = to->z,
                                                    .dstHost = sg_box_start(to),
                                                    .dstDevice = sg_address(sg_box_start(to)),
                                                    .dstPitch = to->pitch,
                                                    .dstHeight = to->slice / to->pitch,
                                                    .WidthInBytes = box->width,
                                                    .Height = box->height,
                                                    .Depth = box->depth};
}

/* start + x + y * pitch + z * slice, and the bytes from there to the box's last; false on overflow. */
static bool sg_box_extent(const struct sg_box_side *side, const struct sg_box_op *box, uint64_t start, size_t pitch,
                          size_t slice, uint64_t *first, size_t *bytes)
{
        size_t rows, slices, offset, last_rows, last_slices, extent;
        if (__builtin_mul_overflow(side->y, pitch, &rows) || __builtin_mul_overflow(side->z, slice, &slices) ||
            __builtin_add_overflow(rows, slices, &offset) || __builtin_add_overflow(offset, side->x, &offset) ||
            __builtin_add_overflow(start, offset, first))
                return false;
        if (__builtin_mul_overflow(box->height - 1, pitch, &last_rows) ||
            __builtin_mul_overflow(box->depth - 1, slice, &last_slices) ||
            __builtin_add_overflow(last_rows, last_slices, &extent) ||
            __builtin_add_overflow(extent, box->width, bytes))
                return false;
        return true;
}

static bool sg_fits(size_t start, size_t count, size_t size)
{
        return start <= size && count <= size - start;
}

static CUresult sg_box_open_array(const struct sg_box_side *side, const struct sg_box_op *box, struct sg_box *out)
{
        struct sg_array *array = sg_object_from(side->array, SG_ARRAY);
        if (array == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        const struct ptx_texture_level *level = &array->level;
        if (!sg_fits(side->x, box->width, level->pitch) || !sg_fits(side->y, box->height, level->height) ||
            !sg_fits(side->z, box->depth, level->depth))
                return CUDA_ERROR_INVALID_VALUE;
        sg_allocation_get(array->memory);
        sg_object_get(array); /* the operation's, so that the handle may go before it has run */
        out->array = array;
        out->x = side->x;
        out->y = side->y;
        out->z = side->z;
        out->span.owner = array->memory;
        out->span.address = (char *)level->data + side->x + side->y * level->pitch + side->z * level->slice;
        out->pitch = level->pitch;
        out->slice = level->slice;
        return CUDA_SUCCESS;
}

static CUresult sg_box_open(const struct sg_box_side *side, const struct sg_box_op *box, struct sg_box *out)
{
        static const enum sg_side sides[] = {[CU_MEMORYTYPE_HOST] = SG_SIDE_HOST,
                                             [CU_MEMORYTYPE_DEVICE] = SG_SIDE_DEVICE,
                                             [CU_MEMORYTYPE_UNIFIED] = SG_SIDE_ANY};
        if (side->type == CU_MEMORYTYPE_ARRAY)
                return sg_box_open_array(side, box, out);
        if (side->type != CU_MEMORYTYPE_HOST && side->type != CU_MEMORYTYPE_DEVICE &&
            side->type != CU_MEMORYTYPE_UNIFIED)
                return CUDA_ERROR_INVALID_VALUE;
        const uint64_t start = side->type == CU_MEMORYTYPE_HOST ? side->host : side->device;
        /* A pitch or height of 0 means packed. */
        const size_t row_end = side->x + box->width;
        const size_t pitch = side->pitch != 0 ? side->pitch : row_end;
        const size_t height = side->height != 0 ? side->height : side->y + box->height;
        size_t slice;
        if (row_end < side->x || row_end > pitch || side->y + box->height < side->y ||
            (box->depth > 1 && side->y + box->height > height) || __builtin_mul_overflow(pitch, height, &slice))
                return CUDA_ERROR_INVALID_VALUE;
        uint64_t first;
        size_t bytes;
        if (!sg_box_extent(side, box, start, pitch, slice, &first, &bytes))
                return CUDA_ERROR_INVALID_VALUE;
        out->pitch = pitch;
        out->slice = slice;
        return sg_span_open(first, bytes, sides[side->type], &out->span);
}

CUresult sg_box_copy(CUstream handle, const struct sg_box_side *to, const struct sg_box_side *from,
                     const size_t extent[3], bool synchronous)
{
        struct sg_stream *stream;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        if (extent[0] == 0 || extent[1] == 0 || extent[2] == 0) {
                sg_object_put(stream);
                return CUDA_SUCCESS;
        }
        struct sg_box_op *box = sg_op_new(sizeof(*box), sg_box_run, sg_box_release);
        if (box == NULL) {
                sg_object_put(stream);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        box->op.node_type = CU_GRAPH_NODE_TYPE_MEMCPY; /* pageable sides wait, and so are not captured */
        box->op.describe = sg_box_describe;
        box->width = extent[0];
        box->height = extent[1];
        box->depth = extent[2];
        result = sg_box_open(to, box, &box->destination);
        if (result == CUDA_SUCCESS)
                result = sg_box_open(from, box, &box->source);
        if (result == CUDA_SUCCESS && sg_span_is_read_only(&box->destination.span))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result != CUDA_SUCCESS) {
                sg_box_release(&box->op);
        } else {
                const bool wait = synchronous || box->destination.span.pageable || box->source.span.pageable;
                result = wait ? sg_submit_wait(stream, &box->op) : sg_submit(stream, &box->op);
        }
        sg_object_put(stream);
        return result;
}

static CUresult sg_copy_2d(CUstream stream, const CUDA_MEMCPY2D *copy, bool synchronous)
{
        if (copy == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const struct sg_box_side to = {.type = copy->dstMemoryType,
                                       .host = sg_address(copy->dstHost),
                                       .device = copy->dstDevice,
                                       .array = copy->dstArray,
                                       .x = copy->dstXInBytes,
                                       .y = copy->dstY,
                                       .pitch = copy->dstPitch};
        const struct sg_box_side from = {.type = copy->srcMemoryType,
                                         .host = sg_address(copy->srcHost),
                                         .device = copy->srcDevice,
                                         .array = copy->srcArray,
                                         .x = copy->srcXInBytes,
                                         .y = copy->srcY,
                                         .pitch = copy->srcPitch};
        const size_t extent[3] = {copy->WidthInBytes, copy->Height, 1};
        return sg_box_copy(stream, &to, &from, extent, synchronous);
}

/* CUDA_MEMCPY3D and its peer form name the same members, but for two contexts. */
#define SG_BOX_SIDE(copy, end)                                                                                         \
        {                                                                                                              \
                .type = (copy)->end##MemoryType, .host = sg_address((copy)->end##Host), .device = (copy)->end##Device, \
                .array = (copy)->end##Array, .x = (copy)->end##XInBytes, .y = (copy)->end##Y, .z = (copy)->end##Z,     \
                .pitch = (copy)->end##Pitch, .height = (copy)->end##Height                                             \
        }

static CUresult sg_copy_3d(CUstream stream, const CUDA_MEMCPY3D *copy, bool synchronous)
{
        if (copy == NULL || copy->srcLOD != 0 || copy->dstLOD != 0)
                return CUDA_ERROR_INVALID_VALUE;
        const struct sg_box_side to = SG_BOX_SIDE(copy, dst), from = SG_BOX_SIDE(copy, src);
        const size_t extent[3] = {copy->WidthInBytes, copy->Height, copy->Depth};
        return sg_box_copy(stream, &to, &from, extent, synchronous);
}

static CUresult sg_copy_3d_peer(CUstream stream, const CUDA_MEMCPY3D_PEER *copy, bool synchronous)
{
        struct sg_context *end;
        if (copy == NULL || copy->srcLOD != 0 || copy->dstLOD != 0)
                return CUDA_ERROR_INVALID_VALUE;
        CUresult result = CUDA_SUCCESS; /* an array has a context of its own */
        if (copy->dstMemoryType != CU_MEMORYTYPE_ARRAY)
                result = sg_context_lookup(copy->dstContext, &end);
        if (result == CUDA_SUCCESS && copy->srcMemoryType != CU_MEMORYTYPE_ARRAY)
                result = sg_context_lookup(copy->srcContext, &end);
        if (result != CUDA_SUCCESS)
                return result;
        const struct sg_box_side to = SG_BOX_SIDE(copy, dst), from = SG_BOX_SIDE(copy, src);
        const size_t extent[3] = {copy->WidthInBytes, copy->Height, copy->Depth};
        return sg_box_copy(stream, &to, &from, extent, synchronous);
}

SG_ENTRY(cuMemcpy2D_v2, const CUDA_MEMCPY2D *copy)
{
        return sg_copy_2d(NULL, copy, true);
}
SG_ALIAS(cuMemcpy2DUnaligned_v2, cuMemcpy2D_v2);

SG_ENTRY(cuMemcpy2D_v2_ptds, const CUDA_MEMCPY2D *copy)
{
        return sg_copy_2d(CU_STREAM_PER_THREAD, copy, true);
}
SG_ALIAS(cuMemcpy2DUnaligned_v2_ptds, cuMemcpy2D_v2_ptds);

SG_ENTRY(cuMemcpy2DAsync_v2, const CUDA_MEMCPY2D *copy, CUstream stream)
{
        return sg_copy_2d(stream, copy, false);
}

SG_ENTRY(cuMemcpy2DAsync_v2_ptsz, const CUDA_MEMCPY2D *copy, CUstream stream)
{
        return sg_copy_2d(sg_per_thread(stream), copy, false);
}

SG_ENTRY(cuMemcpy3D_v2, const CUDA_MEMCPY3D *copy)
{
        return sg_copy_3d(NULL, copy, true);
}

SG_ENTRY(cuMemcpy3D_v2_ptds, const CUDA_MEMCPY3D *copy)
{
        return sg_copy_3d(CU_STREAM_PER_THREAD, copy, true);
}

SG_ENTRY(cuMemcpy3DAsync_v2, const CUDA_MEMCPY3D *copy, CUstream stream)
{
        return sg_copy_3d(stream, copy, false);
}

SG_ENTRY(cuMemcpy3DAsync_v2_ptsz, const CUDA_MEMCPY3D *copy, CUstream stream)
{
        return sg_copy_3d(sg_per_thread(stream), copy, false);
}

SG_ENTRY(cuMemcpy3DPeer, const CUDA_MEMCPY3D_PEER *copy)
{
        return sg_copy_3d_peer(NULL, copy, true);
}

SG_ENTRY(cuMemcpy3DPeer_ptds, const CUDA_MEMCPY3D_PEER *copy)
{
        return sg_copy_3d_peer(CU_STREAM_PER_THREAD, copy, true);
}

SG_ENTRY(cuMemcpy3DPeerAsync, const CUDA_MEMCPY3D_PEER *copy, CUstream stream)
{
        return sg_copy_3d_peer(stream, copy, false);
}

SG_ENTRY(cuMemcpy3DPeerAsync_ptsz, const CUDA_MEMCPY3D_PEER *copy, CUstream stream)
{
        return sg_copy_3d_peer(sg_per_thread(stream), copy, false);
}
