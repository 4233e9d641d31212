/* Texture and surface objects, and what is bound to references. */
#include "exec_internal.h"
#include "host_args.h"
#include "ivgpu/resource_wire.h"

/* Addresses are not checked: the device follows them, as it follows those in a kernel's parameters. A type of a layout
 * that we do not know must not reach the driver. */
static CUresult resource_open(const struct ivg_wire_resource *wire, CUarray array, CUmipmappedArray mipmap,
                              CUDA_RESOURCE_DESC *resource)
{
        if (!ivg_resource_from_wire(wire, array, mipmap, resource))
                return CUDA_ERROR_INVALID_VALUE;
        if ((resource->resType == CU_RESOURCE_TYPE_ARRAY && !array) ||
            (resource->resType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY && !mipmap))
                return CUDA_ERROR_INVALID_HANDLE;
        return CUDA_SUCCESS;
}

/* Handles stay here: the guest knows which arrays it named. */
static CUresult resource_tell(CUresult result, const CUDA_RESOURCE_DESC *resource, struct ivg_wire_resource *wire)
{
        if (result == CUDA_SUCCESS && !ivg_resource_to_wire(resource, wire))
                return CUDA_ERROR_NOT_SUPPORTED;
        return result;
}

/* ---- objects ---- */

CUresult ivg_host_cuTexObjectCreate(struct ivg_exec_call *call, const struct ivg_args_cuTexObjectCreate *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUDA_RESOURCE_DESC resource;
        CUtexObject object = 0;
        CUresult result = resource_open(&args->resource, args->array, args->mipmap, &resource);

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
        CUresult result = resource_open(&args->resource, args->array, args->mipmap, &resource);

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
        return resource_tell(result, &resource, &args->answer->resource);
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
        return resource_tell(result, &resource, &args->answer->resource);
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
