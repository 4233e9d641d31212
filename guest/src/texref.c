/* Texture and surface references: found in modules by name, and what is bound to them. The rest of their calls needs
 * nothing of the guest and is generated. */
#include "cuda_api.h"
#include "function.h"
#include "guest_send.h"

/* values[] of TEXREF and SURFREF objects: the array or mipmapped array that was bound last. */
enum { BOUND_OBJECT, BOUND_ID };

/* ---- by name ---- */

typedef CUresult (*ask_reference)(ivg_id module, const char *name, ivg_id reference);

static CUresult reference_of_module(enum ivg_kind kind, CUmodule handle, const char *name, ask_reference ask,
                                    struct ivg_object **out)
{
        struct ivg_object *context, *module;
        struct ivg_names *names;
        struct ivg_name *entry;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || name == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        module = ivg_object_of(IVG_KIND_MODULE, handle);
        if (module == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        names = kind == IVG_KIND_TEXREF ? &ivg_module_of(module)->textures : &ivg_module_of(module)->surfaces;
        pthread_mutex_lock(&names->lock);
        entry = ivg_names_find(names, name, IVG_ID_NONE);
        if (entry == NULL) {
                struct ivg_object *made;

                result = ivg_object_create(kind, module->context, &made);
                if (result == CUDA_SUCCESS) {
                        result = ask(module->id, name, made->id);
                        entry = result == CUDA_SUCCESS ? ivg_names_add(names, name, IVG_ID_NONE) : NULL;
                        if (result == CUDA_SUCCESS && entry == NULL)
                                result = CUDA_ERROR_OUT_OF_MEMORY;
                        if (entry == NULL)
                                ivg_object_destroy(made);
                }
                if (entry != NULL) {
                        entry->object = made;
                        entry->id = made->id;
                }
        }
        if (result == CUDA_SUCCESS)
                *out = entry->object;
        pthread_mutex_unlock(&names->lock);
        return result;
}

CUresult cuModuleGetTexRef(CUtexref *pTexRef, CUmodule hmod, const char *name)
{
        return reference_of_module(IVG_KIND_TEXREF, hmod, name, ivg_send_cuModuleGetTexRef,
                                   (struct ivg_object **)(void *)pTexRef);
}

CUresult cuModuleGetSurfRef(CUsurfref *pSurfRef, CUmodule hmod, const char *name)
{
        return reference_of_module(IVG_KIND_SURFREF, hmod, name, ivg_send_cuModuleGetSurfRef,
                                   (struct ivg_object **)(void *)pSurfRef);
}

/* ---- what is bound ---- */

typedef CUresult (*send_bind)(ivg_id reference, ivg_id bound, uint32_t flags);

static CUresult bind(enum ivg_kind kind, const void *handle, enum ivg_kind bound_kind, const void *bound_handle,
                     unsigned int flags, send_bind send)
{
        struct ivg_object *context, *reference, *bound;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        reference = ivg_object_of(kind, handle);
        bound = ivg_object_of(bound_kind, bound_handle);
        if (reference == NULL || bound == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        result = send(reference->id, bound->id, flags);
        if (result == CUDA_SUCCESS) {
                reference->values[BOUND_OBJECT] = (uintptr_t)bound;
                reference->values[BOUND_ID] = bound->id;
        }
        return result;
}

/* The driver says whether something of that kind is bound; which, the guest knows. */
static CUresult get_bound(enum ivg_kind kind, const void *handle, enum ivg_kind bound_kind, void *out,
                          CUresult (*send)(ivg_id reference))
{
        struct ivg_object *context, *reference, *bound;
        CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        reference = ivg_object_of(kind, handle);
        if (reference == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        result = send(reference->id);
        if (result != CUDA_SUCCESS)
                return result;
        bound = ivg_object_of(bound_kind, (const void *)(uintptr_t)reference->values[BOUND_OBJECT]);
        if (bound == NULL || bound->id != (ivg_id)reference->values[BOUND_ID])
                return CUDA_ERROR_INVALID_VALUE; /* it has ended since */
        *(void **)out = bound;
        return CUDA_SUCCESS;
}

CUresult cuTexRefSetArray(CUtexref hTexRef, CUarray hArray, unsigned int Flags)
{
        return bind(IVG_KIND_TEXREF, hTexRef, IVG_KIND_ARRAY, hArray, Flags, ivg_send_cuTexRefSetArray);
}

CUresult cuTexRefSetMipmappedArray(CUtexref hTexRef, CUmipmappedArray hMipmappedArray, unsigned int Flags)
{
        return bind(IVG_KIND_TEXREF, hTexRef, IVG_KIND_MIPMAP, hMipmappedArray, Flags,
                    ivg_send_cuTexRefSetMipmappedArray);
}

CUresult cuSurfRefSetArray(CUsurfref hSurfRef, CUarray hArray, unsigned int Flags)
{
        return bind(IVG_KIND_SURFREF, hSurfRef, IVG_KIND_ARRAY, hArray, Flags, ivg_send_cuSurfRefSetArray);
}

CUresult cuTexRefGetArray(CUarray *phArray, CUtexref hTexRef)
{
        return get_bound(IVG_KIND_TEXREF, hTexRef, IVG_KIND_ARRAY, phArray, ivg_send_cuTexRefGetArray);
}

CUresult cuTexRefGetMipmappedArray(CUmipmappedArray *phMipmappedArray, CUtexref hTexRef)
{
        return get_bound(IVG_KIND_TEXREF, hTexRef, IVG_KIND_MIPMAP, phMipmappedArray,
                         ivg_send_cuTexRefGetMipmappedArray);
}

CUresult cuSurfRefGetArray(CUarray *phArray, CUsurfref hSurfRef)
{
        return get_bound(IVG_KIND_SURFREF, hSurfRef, IVG_KIND_ARRAY, phArray, ivg_send_cuSurfRefGetArray);
}
