/* Texture and surface objects, and what is bound to references. */
#include "exec_internal.h"
#include "host_args.h"

/* Addresses are not checked: the device follows them, as it follows those in a kernel's parameters. */
static CUresult resource_from_wire(const struct ivg_wire_resource *wire, CUarray array, CUmipmappedArray mipmap,
                                   CUDA_RESOURCE_DESC *resource)
{
        *resource = (CUDA_RESOURCE_DESC){.resType = (CUresourcetype)wire->type, .flags = wire->flags};
        switch (resource->resType) {
        case CU_RESOURCE_TYPE_ARRAY:
                resource->res.array.hArray = array;
                return array ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
        case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
                resource->res.mipmap.hMipmappedArray = mipmap;
                return mipmap ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
        case CU_RESOURCE_TYPE_LINEAR:
                resource->res.linear.devPtr = wire->address;
                resource->res.linear.format = (CUarray_format)wire->format;
                resource->res.linear.numChannels = wire->channels;
                resource->res.linear.sizeInBytes = wire->bytes;
                return CUDA_SUCCESS;
        case CU_RESOURCE_TYPE_PITCH2D:
                resource->res.pitch2D.devPtr = wire->address;
                resource->res.pitch2D.format = (CUarray_format)wire->format;
                resource->res.pitch2D.numChannels = wire->channels;
                resource->res.pitch2D.width = wire->width;
                resource->res.pitch2D.height = wire->height;
                resource->res.pitch2D.pitchInBytes = wire->pitch;
                return CUDA_SUCCESS;
        default: /* of a layout that we do not know: it must not reach the driver */
                return CUDA_ERROR_INVALID_VALUE;
        }
}

/* Handles stay here: the guest knows which arrays it named. */
static void resource_to_wire(const CUDA_RESOURCE_DESC *resource, struct ivg_wire_resource *wire)
{
        wire->type = resource->resType;
        wire->flags = resource->flags;
        if (resource->resType == CU_RESOURCE_TYPE_LINEAR) {
                wire->address = resource->res.linear.devPtr;
                wire->format = resource->res.linear.format;
                wire->channels = resource->res.linear.numChannels;
                wire->bytes = resource->res.linear.sizeInBytes;
        } else if (resource->resType == CU_RESOURCE_TYPE_PITCH2D) {
                wire->address = resource->res.pitch2D.devPtr;
                wire->format = resource->res.pitch2D.format;
                wire->channels = resource->res.pitch2D.numChannels;
                wire->width = resource->res.pitch2D.width;
                wire->height = resource->res.pitch2D.height;
                wire->pitch = resource->res.pitch2D.pitchInBytes;
        }
}

/* ---- objects ---- */

CUresult ivg_host_cuTexObjectCreate(struct ivg_exec_call *call, const struct ivg_args_cuTexObjectCreate *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUDA_RESOURCE_DESC resource;
        CUtexObject object = 0;
        CUresult result = resource_from_wire(&args->resource, args->array, args->mipmap, &resource);

        if (result != CUDA_SUCCESS)
                return result;
        if (!driver->cuTexObjectCreate)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuTexObjectCreate(&object, &resource, &args->pTexDesc, args->view_count ? args->view : NULL);
        if (result != CUDA_SUCCESS)
                return result;
        if (!ivg_handle_put(call, IVG_KIND_TEXTURE, args->pTexObject, (void *)(uintptr_t)object))
                return CUDA_ERROR_UNKNOWN;
        args->answer->number = object;
        return CUDA_SUCCESS;
}

CUresult ivg_host_cuSurfObjectCreate(struct ivg_exec_call *call, const struct ivg_args_cuSurfObjectCreate *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUDA_RESOURCE_DESC resource;
        CUsurfObject object = 0;
        CUresult result = resource_from_wire(&args->resource, args->array, args->mipmap, &resource);

        if (result != CUDA_SUCCESS)
                return result;
        if (!driver->cuSurfObjectCreate)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuSurfObjectCreate(&object, &resource);
        if (result != CUDA_SUCCESS)
                return result;
        if (!ivg_handle_put(call, IVG_KIND_SURFACE, args->pSurfObject, (void *)(uintptr_t)object))
                return CUDA_ERROR_UNKNOWN;
        args->answer->number = object;
        return CUDA_SUCCESS;
}

CUresult ivg_host_cuTexObjectGetResourceDesc(struct ivg_exec_call *call,
                                             const struct ivg_args_cuTexObjectGetResourceDesc *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUDA_RESOURCE_DESC resource = {.flags = 0};
        CUresult result;

        if (!driver->cuTexObjectGetResourceDesc)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuTexObjectGetResourceDesc(&resource, (CUtexObject)(uintptr_t)args->texObject);
        if (result == CUDA_SUCCESS)
                resource_to_wire(&resource, &args->answer->resource);
        return result;
}

CUresult ivg_host_cuSurfObjectGetResourceDesc(struct ivg_exec_call *call,
                                              const struct ivg_args_cuSurfObjectGetResourceDesc *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUDA_RESOURCE_DESC resource = {.flags = 0};
        CUresult result;

        if (!driver->cuSurfObjectGetResourceDesc)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = driver->cuSurfObjectGetResourceDesc(&resource, (CUsurfObject)(uintptr_t)args->surfObject);
        if (result == CUDA_SUCCESS)
                resource_to_wire(&resource, &args->answer->resource);
        return result;
}

/* ---- references: whether something is bound; the guest knows what ---- */

CUresult ivg_host_cuTexRefGetArray(struct ivg_exec_call *call, const struct ivg_args_cuTexRefGetArray *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUarray array;

        return driver->cuTexRefGetArray ? driver->cuTexRefGetArray(&array, args->hTexRef) : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult ivg_host_cuTexRefGetMipmappedArray(struct ivg_exec_call *call,
                                            const struct ivg_args_cuTexRefGetMipmappedArray *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUmipmappedArray mipmap;

        return driver->cuTexRefGetMipmappedArray ? driver->cuTexRefGetMipmappedArray(&mipmap, args->hTexRef)
                                                 : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult ivg_host_cuSurfRefGetArray(struct ivg_exec_call *call, const struct ivg_args_cuSurfRefGetArray *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUarray array;

        return driver->cuSurfRefGetArray ? driver->cuSurfRefGetArray(&array, args->hSurfRef) : CUDA_ERROR_NOT_SUPPORTED;
}
