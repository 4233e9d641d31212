/* Arrays: copies of one dimension with the host, and the parts of arrays that are arrays themselves.
 *
 * A part (a level of a mipmapped array, a plane of an array) is made once; asked for again it is the same handle, as
 * with the driver. It ends with the whole, here and in the executor's table. */
#include "cuda_api.h"
#include "function.h"
#include "guest_send.h"
#include "memory.h"
#include <stdlib.h>

/* ---- parts ---- */

struct part {
        struct part *next;
        struct ivg_object *object;
        ivg_id id; /* of the object: its cell may have another tenant by now */
        uint32_t index;
};

static pthread_mutex_t parts_lock = PTHREAD_MUTEX_INITIALIZER; /* every list of parts; held around the call too */

static void parts_release(struct ivg_object *whole)
{
        struct part *part;

        if (whole->data == NULL) /* most arrays; and a part that part_make() gives up, with the lock held */
                return;
        pthread_mutex_lock(&parts_lock);
        part = whole->data;
        whole->data = NULL;
        pthread_mutex_unlock(&parts_lock);
        while (part != NULL) {
                struct part *const next = part->next;

                ivg_object_destroy_if(part->object, part->id);
                free(part);
                part = next;
        }
}

__attribute__((constructor)) static void set_releases(void)
{
        ivg_object_set_release(IVG_KIND_ARRAY, parts_release);
        ivg_object_set_release(IVG_KIND_MIPMAP, parts_release);
}

typedef CUresult (*ask_part)(ivg_id whole, uint32_t index, ivg_id part);

/* Lock held. */
static CUresult part_make(struct ivg_object *whole, uint32_t index, ask_part ask, struct part **made)
{
        struct part *part = calloc(1, sizeof(*part));
        CUresult result;

        if (part == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = ivg_object_create(IVG_KIND_ARRAY, whole->context, &part->object);
        if (result == CUDA_SUCCESS) {
                result = ask(whole->id, index, part->object->id);
                if (result == CUDA_SUCCESS) {
                        part->id = part->object->id;
                        part->index = index;
                        part->next = whole->data;
                        whole->data = part;
                        *made = part;
                        return CUDA_SUCCESS;
                }
                ivg_object_destroy(part->object);
        }
        free(part);
        return result;
}

static CUresult part_get(enum ivg_kind kind, const void *handle, uint32_t index, ask_part ask, CUarray *out)
{
        struct ivg_object *context, *whole;
        struct part *part;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        whole = ivg_object_of(kind, handle);
        if (whole == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        pthread_mutex_lock(&parts_lock);
        for (part = whole->data; part != NULL && part->index != index; part = part->next)
                ;
        if (part == NULL)
                result = part_make(whole, index, ask, &part);
        if (result == CUDA_SUCCESS)
                *out = (CUarray)part->object;
        pthread_mutex_unlock(&parts_lock);
        return result;
}

CUresult cuMipmappedArrayGetLevel(CUarray *pLevelArray, CUmipmappedArray hMipmappedArray, unsigned int level)
{
        return part_get(IVG_KIND_MIPMAP, hMipmappedArray, level, ivg_send_cuMipmappedArrayGetLevel, pLevelArray);
}

CUresult cuArrayGetPlane(CUarray *pPlaneArray, CUarray hArray, unsigned int planeIdx)
{
        return part_get(IVG_KIND_ARRAY, hArray, planeIdx, ivg_send_cuArrayGetPlane, pPlaneArray);
}

/* ---- memory behind sparse arrays ---- */

#define MAPS_MAX 32u /* of one call on the wire; a longer list goes in several */

static CUresult map_describe(CUarrayMapInfo *map, ivg_id *resource, ivg_id *memory)
{
        const bool mipmap = map->resourceType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY;
        const struct ivg_object *object;

        if (!mipmap && map->resourceType != CU_RESOURCE_TYPE_ARRAY)
                return CUDA_ERROR_INVALID_VALUE;
        object = mipmap ? ivg_object_of(IVG_KIND_MIPMAP, map->resource.mipmap)
                        : ivg_object_of(IVG_KIND_ARRAY, map->resource.array);
        if (object == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        *resource = object->id;
        map->resource.array = NULL;
        *memory = IVG_ID_NONE;
        if (map->memOperationType == CU_MEM_OPERATION_TYPE_MAP) {
                object = ivg_object_of(IVG_KIND_MEMORY_HANDLE, (const void *)(uintptr_t)map->memHandle.memHandle);
                if (object == NULL)
                        return CUDA_ERROR_INVALID_HANDLE;
                *memory = object->id;
        }
        map->memHandle.memHandle = 0;
        return CUDA_SUCCESS;
}

static CUresult map_arrays(const CUarrayMapInfo *list, unsigned int count, CUstream stream, ivg_id null_stream)
{
        struct ivg_object *context;
        ivg_id stream_id = IVG_ID_NONE;
        CUresult result = ivg_context_require(&context);

        if (result == CUDA_SUCCESS)
                result = ivg_stream_id(stream, null_stream, &stream_id);
        if (result == CUDA_SUCCESS && list == NULL && count != 0)
                result = CUDA_ERROR_INVALID_VALUE;
        for (unsigned int done = 0; result == CUDA_SUCCESS && done < count;) {
                CUarrayMapInfo maps[MAPS_MAX];
                ivg_id resources[MAPS_MAX], memories[MAPS_MAX];
                unsigned int n = 0;

                for (; result == CUDA_SUCCESS && n < MAPS_MAX && done < count; n++, done++) {
                        maps[n] = list[done];
                        result = map_describe(&maps[n], &resources[n], &memories[n]);
                }
                if (result == CUDA_SUCCESS)
                        result = ivg_send_ivgMapArrays(maps, n, resources, n, memories, n, stream_id);
        }
        return result;
}

CUresult cuMemMapArrayAsync(CUarrayMapInfo *mapInfoList, unsigned int count, CUstream hStream)
{
        return map_arrays(mapInfoList, count, hStream, IVG_ID_STREAM_LEGACY);
}

CUresult cuMemMapArrayAsync_ptsz(CUarrayMapInfo *mapInfoList, unsigned int count, CUstream hStream)
{
        return map_arrays(mapInfoList, count, hStream, IVG_ID_STREAM_PER_THREAD);
}

/* ---- copies of one dimension between the host and an array ---- */

static CUresult copy_array(CUarray handle, size_t offset, void *host, size_t bytes, CUstream stream, ivg_id null_stream,
                           bool synchronous, bool to_array)
{
        struct ivg_copy copy;
        const CUresult result = ivg_copy_begin(&copy, stream, null_stream, synchronous);
        const struct ivg_object *array;

        if (result != CUDA_SUCCESS)
                return result;
        array = ivg_object_of(IVG_KIND_ARRAY, handle);
        if (array == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        return ivg_copy_array(&copy, array->id, offset, host, bytes, to_array);
}

/* The program's source is not written through this. */
static void *unconst(const void *pointer)
{
        return (void *)(uintptr_t)pointer;
}

CUresult cuMemcpyHtoA_v2(CUarray dstArray, size_t dstOffset, const void *srcHost, size_t ByteCount)
{
        return copy_array(dstArray, dstOffset, unconst(srcHost), ByteCount, NULL, IVG_ID_STREAM_LEGACY, true, true);
}

CUresult cuMemcpyHtoA_v2_ptds(CUarray dstArray, size_t dstOffset, const void *srcHost, size_t ByteCount)
{
        return copy_array(dstArray, dstOffset, unconst(srcHost), ByteCount, NULL, IVG_ID_STREAM_PER_THREAD, true, true);
}

CUresult cuMemcpyHtoAAsync_v2(CUarray dstArray, size_t dstOffset, const void *srcHost, size_t ByteCount,
                              CUstream hStream)
{
        return copy_array(dstArray, dstOffset, unconst(srcHost), ByteCount, hStream, IVG_ID_STREAM_LEGACY, false, true);
}

CUresult cuMemcpyHtoAAsync_v2_ptsz(CUarray dstArray, size_t dstOffset, const void *srcHost, size_t ByteCount,
                                   CUstream hStream)
{
        return copy_array(dstArray, dstOffset, unconst(srcHost), ByteCount, hStream, IVG_ID_STREAM_PER_THREAD, false,
                          true);
}

CUresult cuMemcpyAtoH_v2(void *dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount)
{
        return copy_array(srcArray, srcOffset, dstHost, ByteCount, NULL, IVG_ID_STREAM_LEGACY, true, false);
}

CUresult cuMemcpyAtoH_v2_ptds(void *dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount)
{
        return copy_array(srcArray, srcOffset, dstHost, ByteCount, NULL, IVG_ID_STREAM_PER_THREAD, true, false);
}

CUresult cuMemcpyAtoHAsync_v2(void *dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount, CUstream hStream)
{
        return copy_array(srcArray, srcOffset, dstHost, ByteCount, hStream, IVG_ID_STREAM_LEGACY, false, false);
}

CUresult cuMemcpyAtoHAsync_v2_ptsz(void *dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount,
                                   CUstream hStream)
{
        return copy_array(srcArray, srcOffset, dstHost, ByteCount, hStream, IVG_ID_STREAM_PER_THREAD, false, false);
}
