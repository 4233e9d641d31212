/* Fills of 8, 16 and 32 bit values, one- and two-dimensional. */
#include <string.h>

#include "copy.h"
#include "softgpu.h"

struct sg_fill_op {
        struct sg_op op;
        struct sg_span destination;
        uint32_t value;
        unsigned element_bytes;
        size_t pitch, width, height; /* width in elements */
};

static void sg_fill_row(char *row, const struct sg_fill_op *fill)
{
        if (fill->element_bytes == 1) {
                memset(row, (int)(unsigned char)fill->value, fill->width);
                return;
        }
        for (size_t i = 0; i < fill->width; i++)
                memcpy(row + i * fill->element_bytes, &fill->value, fill->element_bytes); /* little-endian */
}

static CUresult sg_fill_run(struct sg_op *op, struct sg_stream *stream)
{
        const struct sg_fill_op *fill = (const struct sg_fill_op *)op;
        (void)stream;
        for (size_t y = 0; y < fill->height; y++)
                sg_fill_row(fill->destination.address + y * fill->pitch, fill);
        return CUDA_SUCCESS;
}

static void sg_fill_release(struct sg_op *op)
{
        sg_span_close(&((struct sg_fill_op *)op)->destination);
        sg_op_free(op);
}

static void sg_fill_describe(const struct sg_op *op, CUgraphNodeParams *params)
{
        const struct sg_fill_op *fill = (const struct sg_fill_op *)op;
        params->memset = (CUDA_MEMSET_NODE_PARAMS_v2){.dst = sg_address(fill->destination.address),
                                                      .pitch = fill->pitch,
                                                      .value = fill->value,
                                                      .elementSize = fill->element_bytes,
                                                      .width = fill->width,
                                                      .height = fill->height};
}

static CUresult sg_fill_open(struct sg_fill_op *fill, uint64_t address)
{
        size_t row_bytes, bytes;
        if (address % fill->element_bytes != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (__builtin_mul_overflow(fill->width, (size_t)fill->element_bytes, &row_bytes))
                return CUDA_ERROR_INVALID_VALUE;
        if (fill->height > 1 && (fill->pitch < row_bytes || fill->pitch % fill->element_bytes != 0))
                return CUDA_ERROR_INVALID_VALUE;
        if (__builtin_mul_overflow(fill->height - 1, fill->pitch, &bytes) ||
            __builtin_add_overflow(bytes, row_bytes, &bytes))
                return CUDA_ERROR_INVALID_VALUE;
        const CUresult result = sg_span_open(address, bytes, SG_SIDE_DEVICE, &fill->destination);
        if (result == CUDA_SUCCESS && sg_span_is_read_only(&fill->destination))
                return CUDA_ERROR_INVALID_VALUE; /* the span is closed with the operation */
        return result;
}

static CUresult sg_fill(CUstream handle, uint64_t address, size_t pitch, uint32_t value, unsigned element_bytes,
                        size_t width, size_t height, bool synchronous)
{
        struct sg_stream *stream;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        struct sg_fill_op *fill = NULL;
        if (width != 0 && height != 0) {
                fill = sg_op_new(sizeof(*fill), sg_fill_run, sg_fill_release);
                result = fill != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
        }
        if (fill != NULL) {
                fill->op.node_type = CU_GRAPH_NODE_TYPE_MEMSET;
                fill->op.describe = sg_fill_describe;
                fill->value = value;
                fill->element_bytes = element_bytes;
                fill->pitch = pitch;
                fill->width = width;
                fill->height = height;
                result = sg_fill_open(fill, address);
                if (result != CUDA_SUCCESS)
                        sg_fill_release(&fill->op);
                else
                        result = synchronous ? sg_submit_wait(stream, &fill->op) : sg_submit(stream, &fill->op);
        }
        sg_object_put(stream);
        return result;
}

/* One element size in its eight forms. */
#define SG_FILL_CALLS(bits, type, bytes)                                                                               \
        SG_ENTRY(cuMemsetD##bits##_v2, CUdeviceptr to, type value, size_t count)                                       \
        {                                                                                                              \
                return sg_fill(NULL, to, 0, value, bytes, count, 1, true);                                             \
        }                                                                                                              \
        SG_ENTRY(cuMemsetD##bits##_v2_ptds, CUdeviceptr to, type value, size_t count)                                  \
        {                                                                                                              \
                return sg_fill(CU_STREAM_PER_THREAD, to, 0, value, bytes, count, 1, true);                             \
        }                                                                                                              \
        SG_ENTRY(cuMemsetD##bits##Async, CUdeviceptr to, type value, size_t count, CUstream stream)                    \
        {                                                                                                              \
                return sg_fill(stream, to, 0, value, bytes, count, 1, false);                                          \
        }                                                                                                              \
        SG_ENTRY(cuMemsetD##bits##Async_ptsz, CUdeviceptr to, type value, size_t count, CUstream stream)               \
        {                                                                                                              \
                return sg_fill(sg_per_thread(stream), to, 0, value, bytes, count, 1, false);                           \
        }                                                                                                              \
        SG_ENTRY(cuMemsetD2D##bits##_v2, CUdeviceptr to, size_t pitch, type value, size_t width, size_t height)        \
        {                                                                                                              \
                return sg_fill(NULL, to, pitch, value, bytes, width, height, true);                                    \
        }                                                                                                              \
        SG_ENTRY(cuMemsetD2D##bits##_v2_ptds, CUdeviceptr to, size_t pitch, type value, size_t width, size_t height)   \
        {                                                                                                              \
                return sg_fill(CU_STREAM_PER_THREAD, to, pitch, value, bytes, width, height, true);                    \
        }                                                                                                              \
        SG_ENTRY(cuMemsetD2D##bits##Async, CUdeviceptr to, size_t pitch, type value, size_t width, size_t height,      \
                 CUstream stream)                                                                                      \
        {                                                                                                              \
                return sg_fill(stream, to, pitch, value, bytes, width, height, false);                                 \
        }                                                                                                              \
        SG_ENTRY(cuMemsetD2D##bits##Async_ptsz, CUdeviceptr to, size_t pitch, type value, size_t width, size_t height, \
                 CUstream stream)                                                                                      \
        {                                                                                                              \
                return sg_fill(sg_per_thread(stream), to, pitch, value, bytes, width, height, false);                  \
        }

SG_FILL_CALLS(8, unsigned char, 1)
SG_FILL_CALLS(16, unsigned short, 2)
SG_FILL_CALLS(32, unsigned int, 4)
