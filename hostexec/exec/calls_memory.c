/* Copies between arena and device, pitched copies, memory pools' attributes. */
#include "exec_internal.h"
#include "host_args.h"

/* ---- arena to device and back ---- */

CUresult ivg_host_ivgCopyHtoD(struct ivg_exec_call *call, const struct ivg_args_ivgCopyHtoD *args)
{
        struct ivg_exec *exec = call->exec;
        const void *source = ivg_exec_arena(call, args->arena_offset, args->bytes);
        struct ivg_exec_completion completion;
        CUresult result;

        if (!source)
                return CUDA_ERROR_INVALID_VALUE;
        if (args->read_on_return > 1 || (args->read_on_return && args->bytes > IVG_COPY_READ_BYTES_MAX))
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, args->bytes);
        result = ivg_exec_completion_prepare(call, &completion, args->completion_index, args->completion_value);
        if (result == CUDA_SUCCESS)
                result = ivg_exec_device_range(call, args->dst, args->bytes);
        /* A graph would look at the source again, long after it is gone. */
        if (result == CUDA_SUCCESS && args->read_on_return && ivg_capture_under_way(exec, args->stream))
                result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        if (result == CUDA_SUCCESS)
                result = exec->driver.cuMemcpyHtoDAsync_v2(args->dst, source, args->bytes, args->stream);
        if (result == CUDA_SUCCESS)
                ivg_exec_count(&exec->counters.arena_bytes_from_guest, &exec->host_channel->arena_bytes_from_guest,
                               args->bytes);
        return args->read_on_return ? ivg_exec_completion_finish_read(call, &completion, result)
                                    : ivg_exec_completion_finish(call, &completion, args->stream, result);
}

CUresult ivg_host_ivgCopyDtoH(struct ivg_exec_call *call, const struct ivg_args_ivgCopyDtoH *args)
{
        struct ivg_exec *exec = call->exec;
        void *target = ivg_exec_arena(call, args->arena_offset, args->bytes);
        struct ivg_exec_completion completion;
        CUresult result;

        if (!target)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_exec_completion_prepare(call, &completion, args->completion_index, args->completion_value);
        if (result == CUDA_SUCCESS)
                result = ivg_exec_device_range(call, args->src, args->bytes);
        if (result == CUDA_SUCCESS)
                result = exec->driver.cuMemcpyDtoHAsync_v2(target, args->src, args->bytes, args->stream);
        if (result == CUDA_SUCCESS)
                ivg_exec_count(&exec->counters.arena_bytes_to_guest, &exec->host_channel->arena_bytes_to_guest,
                               args->bytes);
        return ivg_exec_completion_finish(call, &completion, args->stream, result);
}

CUresult ivg_host_ivgCopyHtoDInline(struct ivg_exec_call *call, const struct ivg_args_ivgCopyHtoDInline *args)
{
        CUresult result = ivg_exec_device_range(call, args->dst, args->data_bytes);

        if (result != CUDA_SUCCESS || args->data_bytes == 0)
                return result;
        /* A graph would look at the record again, long after it is gone. */
        if (ivg_capture_under_way(call->exec, args->stream))
                return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        /* The driver has read pageable memory of this size when it returns, so the record may go. */
        return call->exec->driver.cuMemcpyHtoDAsync_v2(args->dst, args->data, args->data_bytes, args->stream);
}

/* ---- pitched copies, by unified addresses ---- */

CUresult ivg_host_ivgCopy2D(struct ivg_exec_call *call, const struct ivg_args_ivgCopy2D *args)
{
        struct ivg_exec *exec = call->exec;
        const CUDA_MEMCPY2D copy = {.srcMemoryType = CU_MEMORYTYPE_UNIFIED,
                                    .srcDevice = args->src,
                                    .srcPitch = args->src_pitch,
                                    .dstMemoryType = CU_MEMORYTYPE_UNIFIED,
                                    .dstDevice = args->dst,
                                    .dstPitch = args->dst_pitch,
                                    .WidthInBytes = args->width,
                                    .Height = args->height};
        struct ivg_exec_completion completion;
        CUresult result =
                ivg_exec_completion_prepare(call, &completion, args->completion_index, args->completion_value);

        if (result == CUDA_SUCCESS && !exec->driver.cuMemcpy2DAsync_v2)
                result = CUDA_ERROR_NOT_SUPPORTED;
        if (result == CUDA_SUCCESS && (args->width > args->src_pitch || args->width > args->dst_pitch))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = ivg_exec_device_range_2d(call, args->src, args->src_pitch, args->width, args->height);
        if (result == CUDA_SUCCESS)
                result = ivg_exec_device_range_2d(call, args->dst, args->dst_pitch, args->width, args->height);
        if (result == CUDA_SUCCESS)
                result = exec->driver.cuMemcpy2DAsync_v2(&copy, args->stream);
        return ivg_exec_completion_finish(call, &completion, args->stream, result);
}

CUresult ivg_host_ivgCopy3D(struct ivg_exec_call *call, const struct ivg_args_ivgCopy3D *args)
{
        struct ivg_exec *exec = call->exec;
        const CUDA_MEMCPY3D copy = {.srcMemoryType = CU_MEMORYTYPE_UNIFIED,
                                    .srcDevice = args->src,
                                    .srcPitch = args->src_pitch,
                                    .srcHeight = args->src_height,
                                    .dstMemoryType = CU_MEMORYTYPE_UNIFIED,
                                    .dstDevice = args->dst,
                                    .dstPitch = args->dst_pitch,
                                    .dstHeight = args->dst_height,
                                    .WidthInBytes = args->width,
                                    .Height = args->height,
                                    .Depth = args->depth};
        const uint64_t extent[3] = {args->width, args->height, args->depth};
        struct ivg_exec_completion completion;
        CUresult result =
                ivg_exec_completion_prepare(call, &completion, args->completion_index, args->completion_value);

        if (result == CUDA_SUCCESS && !exec->driver.cuMemcpy3DAsync_v2)
                result = CUDA_ERROR_NOT_SUPPORTED;
        if (result == CUDA_SUCCESS)
                result = ivg_exec_device_box(call, args->src, args->src_pitch, args->src_height, extent);
        if (result == CUDA_SUCCESS)
                result = ivg_exec_device_box(call, args->dst, args->dst_pitch, args->dst_height, extent);
        if (result == CUDA_SUCCESS)
                result = exec->driver.cuMemcpy3DAsync_v2(&copy, args->stream);
        return ivg_exec_completion_finish(call, &completion, args->stream, result);
}

/* ---- pools: values of 4 or 8 bytes, which travel as 8 ---- */

static bool pool_attribute_bytes(int32_t attribute, uint32_t *bytes)
{
        switch (attribute) {
        case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
                *bytes = 4;
                return true;
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
                *bytes = 8;
                return true;
        default: /* of unknown size: it must not reach the driver */
                return false;
        }
}

CUresult ivg_host_cuMemPoolSetAttribute(struct ivg_exec_call *call, const struct ivg_args_cuMemPoolSetAttribute *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        uint64_t value = args->value; /* little-endian: a 4-byte value is the low half */
        uint32_t bytes;

        if (!pool_attribute_bytes(args->attr, &bytes))
                return CUDA_ERROR_INVALID_VALUE;
        if (!driver->cuMemPoolSetAttribute)
                return CUDA_ERROR_NOT_SUPPORTED;
        return driver->cuMemPoolSetAttribute(args->pool, (CUmemPool_attribute)args->attr, &value);
}

CUresult ivg_host_cuMemPoolGetAttribute(struct ivg_exec_call *call, const struct ivg_args_cuMemPoolGetAttribute *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        uint64_t value = 0;
        uint32_t bytes;
        CUresult result;

        if (!pool_attribute_bytes(args->attr, &bytes))
                return CUDA_ERROR_INVALID_VALUE;
        if (!driver->cuMemPoolGetAttribute)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuMemPoolGetAttribute(args->pool, (CUmemPool_attribute)args->attr, &value);
        args->answer->value = bytes == 4 ? (uint32_t)value : value;
        return result;
}
