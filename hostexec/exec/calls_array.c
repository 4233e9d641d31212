/* Copies with arrays and between contexts, and memory behind sparse arrays. */
#include "exec_internal.h"
#include "host_args.h"
#include <stddef.h>
#include <string.h>

/* ---- boxes ---- */

static CUmemorytype side_type(CUarray array)
{
        return array ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_UNIFIED;
}

/* An address must be the guest's for the whole box; an array checks by itself. */
static CUresult check_side(struct ivg_exec_call *call, const struct ivg_wire_box_side *side, CUarray array,
                           const struct ivg_wire_box *box)
{
        const uint64_t extent[3] = {box->width, box->height, box->depth};

        if (array)
                return CUDA_SUCCESS;
        if (side->x | side->y | side->z)
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, 1);
        return ivg_exec_device_box(call, side->address, side->pitch, side->height, extent);
}

static CUresult copy_box(const struct ivg_driver *driver, const struct ivg_args_ivgCopyBox *args)
{
        const struct ivg_wire_box *box = &args->box;
        const CUDA_MEMCPY3D_PEER copy = {
                .srcMemoryType = side_type(args->src_array),
                .srcArray = args->src_array,
                .srcContext = args->src_context,
                .srcDevice = box->from.address,
                .srcPitch = box->from.pitch,
                .srcHeight = box->from.height,
                .srcXInBytes = box->from.x,
                .srcY = box->from.y,
                .srcZ = box->from.z,
                .dstMemoryType = side_type(args->dst_array),
                .dstArray = args->dst_array,
                .dstContext = args->dst_context,
                .dstDevice = box->to.address,
                .dstPitch = box->to.pitch,
                .dstHeight = box->to.height,
                .dstXInBytes = box->to.x,
                .dstY = box->to.y,
                .dstZ = box->to.z,
                .WidthInBytes = box->width,
                .Height = box->height,
                .Depth = box->depth,
        };
        CUDA_MEMCPY3D plain;

        if (box->peer)
                return driver->cuMemcpy3DPeerAsync ? driver->cuMemcpy3DPeerAsync(&copy, args->stream)
                                                   : CUDA_ERROR_NOT_SUPPORTED;
        /* The same members at the same places; where one has contexts the other has reserved words. */
        _Static_assert(sizeof(plain) == sizeof(copy), "CUDA_MEMCPY3D and its peer form");
        _Static_assert(offsetof(CUDA_MEMCPY3D, reserved0) == offsetof(CUDA_MEMCPY3D_PEER, srcContext), "source");
        _Static_assert(offsetof(CUDA_MEMCPY3D, reserved1) == offsetof(CUDA_MEMCPY3D_PEER, dstContext), "destination");
        memcpy(&plain, &copy, sizeof(plain));
        return driver->cuMemcpy3DAsync_v2 ? driver->cuMemcpy3DAsync_v2(&plain, args->stream) : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult ivg_host_ivgCopyBox(struct ivg_exec_call *call, const struct ivg_args_ivgCopyBox *args)
{
        const struct ivg_wire_box *box = &args->box;
        struct ivg_exec_completion completion;
        CUresult result =
                ivg_exec_completion_prepare(call, &completion, args->completion_index, args->completion_value);

        if (box->peer > 1 || box->reserved || (!box->peer && (args->dst_context || args->src_context)))
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, 1);
        if (result == CUDA_SUCCESS)
                result = check_side(call, &box->to, args->dst_array, box);
        if (result == CUDA_SUCCESS)
                result = check_side(call, &box->from, args->src_array, box);
        if (result == CUDA_SUCCESS)
                result = copy_box(ivg_exec_driver(call->exec), args);
        return ivg_exec_completion_finish(call, &completion, args->stream, result);
}

/* ---- one dimension, with the arena ---- */

static CUresult copy_array(const struct ivg_driver *driver, const struct ivg_args_ivgCopyArray *args, void *memory)
{
        if (!driver->cuMemcpyHtoAAsync_v2 || !driver->cuMemcpyAtoHAsync_v2)
                return CUDA_ERROR_NOT_SUPPORTED;
        return args->to_array ? driver->cuMemcpyHtoAAsync_v2(args->array, args->array_offset, memory, args->bytes,
                                                             args->stream)
                              : driver->cuMemcpyAtoHAsync_v2(memory, args->array, args->array_offset, args->bytes,
                                                             args->stream);
}

CUresult ivg_host_ivgCopyArray(struct ivg_exec_call *call, const struct ivg_args_ivgCopyArray *args)
{
        struct ivg_exec *exec = call->exec;
        void *memory = ivg_exec_arena(call, args->arena_offset, args->bytes);
        struct ivg_exec_completion completion;
        CUresult result;

        if (!memory)
                return CUDA_ERROR_INVALID_VALUE;
        if (args->to_array > 1)
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, args->to_array);
        result = ivg_exec_completion_prepare(call, &completion, args->completion_index, args->completion_value);
        if (result == CUDA_SUCCESS)
                result = copy_array(&exec->driver, args, memory);
        if (result == CUDA_SUCCESS && args->to_array)
                ivg_exec_count(&exec->counters.arena_bytes_from_guest, &exec->host_channel->arena_bytes_from_guest,
                               args->bytes);
        else if (result == CUDA_SUCCESS)
                ivg_exec_count(&exec->counters.arena_bytes_to_guest, &exec->host_channel->arena_bytes_to_guest,
                               args->bytes);
        return ivg_exec_completion_finish(call, &completion, args->stream, result);
}

/* ---- sparse arrays ---- */

#define IVG_ARRAY_MAPS_MAX 32u /* as the table has it */

/* Puts the handles into an entry whose numbers came beside it. */
static CUresult map_resolve(struct ivg_exec_call *call, CUarrayMapInfo *map, ivg_id resource, ivg_id memory)
{
        void *handle = NULL;
        CUresult result;

        if (map->resource.array || map->memHandle.memHandle)
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, 1);
        if (map->resourceType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY) {
                result = ivg_handle_get(call->exec, IVG_KIND_MIPMAP, resource, &handle);
                map->resource.mipmap = handle;
        } else if (map->resourceType == CU_RESOURCE_TYPE_ARRAY) {
                result = ivg_handle_get(call->exec, IVG_KIND_ARRAY, resource, &handle);
                map->resource.array = handle;
        } else {
                return CUDA_ERROR_INVALID_VALUE;
        }
        if (result != CUDA_SUCCESS || memory == IVG_ID_NONE)
                return result;
        result = ivg_handle_get(call->exec, IVG_KIND_MEMORY_HANDLE, memory, &handle);
        map->memHandle.memHandle = (CUmemGenericAllocationHandle)(uintptr_t)handle;
        return result;
}

CUresult ivg_host_ivgMapArrays(struct ivg_exec_call *call, const struct ivg_args_ivgMapArrays *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUarrayMapInfo maps[IVG_ARRAY_MAPS_MAX];

        if (args->resources_count != args->maps_count || args->memories_count != args->maps_count)
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, 2);
        if (!driver->cuMemMapArrayAsync)
                return CUDA_ERROR_NOT_SUPPORTED;
        for (uint32_t i = 0; i < args->maps_count; i++) {
                CUresult result;

                maps[i] = args->maps[i];
                result = map_resolve(call, &maps[i], args->resources[i], args->memories[i]);
                if (result != CUDA_SUCCESS)
                        return result;
        }
        return driver->cuMemMapArrayAsync(maps, args->maps_count, args->stream);
}
