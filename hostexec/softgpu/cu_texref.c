/* Texture and surface references: a variable of a module that names what is bound. Each change makes a new object of
 * what is described so far, once the work before it is done, and puts its number into the variable. */
#include <string.h>

#include "array.h"

/* ---- life ---- */

static void sg_reference_unbind(struct sg_reference *reference)
{
        struct sg_texture *texture = reference->texture;
        reference->texture = NULL;
        if (reference->slot != NULL)
                *reference->slot = 0;
        if (texture != NULL) {
                (void)sg_resource_close(&texture->resource);
                sg_object_put(texture);
        }
}

void sg_reference_finalize(struct sg_reference *reference)
{
        sg_reference_unbind(reference);
        if (reference->module != NULL)
                sg_object_put(reference->module);
}

static CUresult sg_reference_make(bool surface, struct sg_reference **out)
{
        const CUresult result = sg_resource_new(SG_REFERENCE, out);
        if (result != CUDA_SUCCESS)
                return result;
        (*out)->surface = surface;
        (*out)->format = CU_AD_FORMAT_FLOAT;
        (*out)->channels = 1;
        for (unsigned i = 0; i < 3; i++)
                (*out)->sampling.addressMode[i] = CU_TR_ADDRESS_MODE_CLAMP;
        return CUDA_SUCCESS;
}

/* Under sg_state_lock: the reference of a module's variable; NULL: nobody has asked for it. */
static struct sg_reference *sg_reference_at(const struct sg_context *context, const uint64_t *slot)
{
        for (struct sg_resource *resource = context->resources; resource != NULL; resource = resource->next) {
                struct sg_reference *reference = (struct sg_reference *)(void *)resource;
                if (resource->object.kind == SG_REFERENCE && reference->slot == slot)
                        return reference;
        }
        return NULL;
}

static CUresult sg_reference_of_module(void *out, CUmodule handle, const char *name, bool surface)
{
        struct sg_context *context;
        uint64_t *slot;
        CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || name == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_module *module = sg_object_from(handle, SG_MODULE);
        if (module == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        if (!ptx_reference_find(module->code, name, surface, &slot))
                return CUDA_ERROR_NOT_FOUND;
        pthread_mutex_lock(&sg_state_lock);
        struct sg_reference *reference = sg_reference_at(module->context, slot);
        pthread_mutex_unlock(&sg_state_lock);
        if (reference == NULL) {
                result = sg_reference_make(surface, &reference);
                if (result != CUDA_SUCCESS)
                        return result;
                sg_object_get(module);
                reference->module = module;
                reference->slot = slot;
        }
        *(void **)out = reference;
        return CUDA_SUCCESS;
}

void sg_references_close(struct sg_module *module)
{
        for (;;) {
                struct sg_resource *found = NULL;
                pthread_mutex_lock(&sg_state_lock);
                for (struct sg_resource *resource = module->context->resources; resource != NULL && found == NULL;
                     resource = resource->next)
                        if (resource->object.kind == SG_REFERENCE &&
                            ((struct sg_reference *)(void *)resource)->module == module)
                                found = resource;
                pthread_mutex_unlock(&sg_state_lock);
                if (found == NULL || !sg_resource_close(found))
                        return;
        }
}

SG_ENTRY(cuModuleGetTexRef, CUtexref *out, CUmodule module, const char *name)
{
        return sg_reference_of_module(out, module, name, false);
}

SG_ENTRY(cuModuleGetSurfRef, CUsurfref *out, CUmodule module, const char *name)
{
        return sg_reference_of_module(out, module, name, true);
}

SG_ENTRY(cuTexRefCreate, CUtexref *out)
{
        struct sg_reference *reference;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const CUresult result = sg_reference_make(false, &reference);
        if (result == CUDA_SUCCESS)
                *out = (CUtexref)reference;
        return result;
}

static CUresult sg_reference_lookup(const void *handle, bool surface, struct sg_reference **out)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        *out = sg_object_from(handle, SG_REFERENCE);
        return *out != NULL && (*out)->surface == surface ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

SG_ENTRY(cuTexRefDestroy, CUtexref handle)
{
        struct sg_reference *reference;
        const CUresult result = sg_reference_lookup(handle, false, &reference);
        if (result != CUDA_SUCCESS)
                return result;
        if (reference->module != NULL) /* it goes with its module */
                return CUDA_ERROR_INVALID_VALUE;
        return sg_resource_close(&reference->resource) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/* ---- changes ---- */

/* What a change starts from, and what it ends with: kernels that were launched before see what was there. */
static CUresult sg_change_begin(const void *handle, bool surface, struct sg_reference **reference,
                                struct sg_reference *changed)
{
        CUresult result = sg_reference_lookup(handle, surface, reference);
        if (result == CUDA_SUCCESS)
                result = sg_resource_drain((*reference)->resource.context);
        if (result == CUDA_SUCCESS)
                *changed = **reference;
        return result;
}

static CUresult sg_change_end(struct sg_reference *reference, const struct sg_reference *changed)
{
        struct sg_texture *texture = NULL;
        if (changed->bound) {
                const CUresult result = sg_texture_make(&changed->described,
                                                        changed->surface ? NULL : &changed->sampling, NULL, &texture);
                if (result != CUDA_SUCCESS)
                        return result;
                sg_object_get(texture); /* the reference's: the context may close it first */
        }
        sg_reference_unbind(reference);
        reference->texture = texture;
        reference->described = changed->described;
        reference->sampling = changed->sampling;
        reference->bound = changed->bound;
        reference->format = changed->format;
        reference->channels = changed->channels;
        if (reference->slot != NULL)
                *reference->slot = sg_address(texture);
        return CUDA_SUCCESS;
}

/* A call that changes `now`, which is a copy. */
#define SG_CHANGE(handle, of_surface, change)                                                 \
        do {                                                                                  \
                struct sg_reference *reference, now;                                          \
                const CUresult begun = sg_change_begin(handle, of_surface, &reference, &now); \
                if (begun != CUDA_SUCCESS)                                                    \
                        return begun;                                                         \
                change;                                                                       \
                return sg_change_end(reference, &now);                                        \
        } while (0)

static CUresult sg_bind(const void *handle, bool surface, const CUDA_RESOURCE_DESC *resource)
{
        SG_CHANGE(handle, surface, now.described = *resource; now.bound = true);
}

SG_ENTRY(cuTexRefSetArray, CUtexref handle, CUarray array, unsigned flags)
{
        const CUDA_RESOURCE_DESC resource = {.resType = CU_RESOURCE_TYPE_ARRAY, .res.array.hArray = array};
        return flags != CU_TRSA_OVERRIDE_FORMAT ? CUDA_ERROR_INVALID_VALUE : sg_bind(handle, false, &resource);
}

SG_ENTRY(cuTexRefSetMipmappedArray, CUtexref handle, CUmipmappedArray mipmap, unsigned flags)
{
        const CUDA_RESOURCE_DESC resource = {.resType = CU_RESOURCE_TYPE_MIPMAPPED_ARRAY,
                                             .res.mipmap.hMipmappedArray = mipmap};
        return flags != CU_TRSA_OVERRIDE_FORMAT ? CUDA_ERROR_INVALID_VALUE : sg_bind(handle, false, &resource);
}

SG_ENTRY(cuSurfRefSetArray, CUsurfref handle, CUarray array, unsigned flags)
{
        const CUDA_RESOURCE_DESC resource = {.resType = CU_RESOURCE_TYPE_ARRAY, .res.array.hArray = array};
        return flags != 0 ? CUDA_ERROR_INVALID_VALUE : sg_bind(handle, true, &resource);
}

SG_ENTRY(cuTexRefSetAddress_v2, size_t *offset, CUtexref handle, CUdeviceptr address, size_t bytes)
{
        const size_t above = address % SG_TEXTURE_ALIGN;
        if (offset == NULL && above != 0)
                return CUDA_ERROR_INVALID_VALUE;
        SG_CHANGE(handle, false, {
                now.described = (CUDA_RESOURCE_DESC){.resType = CU_RESOURCE_TYPE_LINEAR};
                now.described.res.linear.devPtr = address - above;
                now.described.res.linear.format = now.format;
                now.described.res.linear.numChannels = (unsigned)now.channels;
                now.described.res.linear.sizeInBytes = bytes + above;
                now.bound = address != 0;
                if (offset != NULL)
                        *offset = above;
        });
}

SG_ENTRY(cuTexRefSetAddress2D_v3, CUtexref handle, const CUDA_ARRAY_DESCRIPTOR *descriptor, CUdeviceptr address,
         size_t pitch)
{
        if (descriptor == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        SG_CHANGE(handle, false, {
                now.described = (CUDA_RESOURCE_DESC){.resType = CU_RESOURCE_TYPE_PITCH2D};
                now.described.res.pitch2D.devPtr = address;
                now.described.res.pitch2D.format = descriptor->Format;
                now.described.res.pitch2D.numChannels = descriptor->NumChannels;
                now.described.res.pitch2D.width = descriptor->Width;
                now.described.res.pitch2D.height = descriptor->Height;
                now.described.res.pitch2D.pitchInBytes = pitch;
                now.format = descriptor->Format;
                now.channels = (int)descriptor->NumChannels;
                now.bound = true;
        });
}
SG_ALIAS(cuTexRefSetAddress2D_v2, cuTexRefSetAddress2D_v3);

SG_ENTRY(cuTexRefSetFormat, CUtexref handle, CUarray_format format, int channels)
{
        enum ptx_texel texel;
        if (channels != 1 && channels != 2 && channels != 4)
                return CUDA_ERROR_INVALID_VALUE;
        if (!sg_texel_of(format, &texel))
                return CUDA_ERROR_NOT_SUPPORTED;
        SG_CHANGE(handle, false, now.format = format; now.channels = channels);
}

SG_ENTRY(cuTexRefSetAddressMode, CUtexref handle, int dimension, CUaddress_mode mode)
{
        if (dimension < 0 || dimension > 2)
                return CUDA_ERROR_INVALID_VALUE;
        SG_CHANGE(handle, false, now.sampling.addressMode[dimension] = mode);
}

SG_ENTRY(cuTexRefSetFilterMode, CUtexref handle, CUfilter_mode mode)
{
        SG_CHANGE(handle, false, now.sampling.filterMode = mode);
}

SG_ENTRY(cuTexRefSetMipmapFilterMode, CUtexref handle, CUfilter_mode mode)
{
        SG_CHANGE(handle, false, now.sampling.mipmapFilterMode = mode);
}

SG_ENTRY(cuTexRefSetMipmapLevelBias, CUtexref handle, float bias)
{
        SG_CHANGE(handle, false, now.sampling.mipmapLevelBias = bias);
}

SG_ENTRY(cuTexRefSetMipmapLevelClamp, CUtexref handle, float low, float high)
{
        SG_CHANGE(handle, false, now.sampling.minMipmapLevelClamp = low; now.sampling.maxMipmapLevelClamp = high);
}

SG_ENTRY(cuTexRefSetMaxAnisotropy, CUtexref handle, unsigned most)
{
        SG_CHANGE(handle, false, now.sampling.maxAnisotropy = most);
}

SG_ENTRY(cuTexRefSetBorderColor, CUtexref handle, float *color)
{
        if (color == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        SG_CHANGE(handle, false, memcpy(now.sampling.borderColor, color, sizeof(now.sampling.borderColor)));
}

SG_ENTRY(cuTexRefSetFlags, CUtexref handle, unsigned flags)
{
        SG_CHANGE(handle, false, now.sampling.flags = flags);
}

/* ---- questions ---- */

#define SG_ASK(handle, of_surface, wanted, answer)                                          \
        do {                                                                                \
                struct sg_reference *reference;                                             \
                const CUresult found = sg_reference_lookup(handle, of_surface, &reference); \
                if (found != CUDA_SUCCESS)                                                  \
                        return found;                                                       \
                if (!(wanted))                                                              \
                        return CUDA_ERROR_INVALID_VALUE;                                    \
                answer;                                                                     \
                return CUDA_SUCCESS;                                                        \
        } while (0)
#define SG_BOUND(type) (reference->bound && reference->described.resType == (type))

SG_ENTRY(cuTexRefGetArray, CUarray *out, CUtexref handle)
{
        SG_ASK(handle, false, out && SG_BOUND(CU_RESOURCE_TYPE_ARRAY), *out = reference->described.res.array.hArray);
}

SG_ENTRY(cuSurfRefGetArray, CUarray *out, CUsurfref handle)
{
        SG_ASK(handle, true, out && SG_BOUND(CU_RESOURCE_TYPE_ARRAY), *out = reference->described.res.array.hArray);
}

SG_ENTRY(cuTexRefGetMipmappedArray, CUmipmappedArray *out, CUtexref handle)
{
        SG_ASK(handle, false, out && SG_BOUND(CU_RESOURCE_TYPE_MIPMAPPED_ARRAY),
               *out = reference->described.res.mipmap.hMipmappedArray);
}

/* Both descriptions of memory start with its address. */
SG_ENTRY(cuTexRefGetAddress_v2, CUdeviceptr *out, CUtexref handle)
{
        SG_ASK(handle, false, out && (SG_BOUND(CU_RESOURCE_TYPE_LINEAR) || SG_BOUND(CU_RESOURCE_TYPE_PITCH2D)),
               *out = reference->described.res.linear.devPtr);
}

SG_ENTRY(cuTexRefGetFormat, CUarray_format *format, int *channels, CUtexref handle)
{
        SG_ASK(handle, false, format && channels, *format = reference->format; *channels = reference->channels);
}

SG_ENTRY(cuTexRefGetAddressMode, CUaddress_mode *out, CUtexref handle, int dimension)
{
        SG_ASK(handle, false, out && dimension >= 0 && dimension <= 2,
               *out = reference->sampling.addressMode[dimension]);
}

SG_ENTRY(cuTexRefGetFilterMode, CUfilter_mode *out, CUtexref handle)
{
        SG_ASK(handle, false, out, *out = reference->sampling.filterMode);
}

SG_ENTRY(cuTexRefGetMipmapFilterMode, CUfilter_mode *out, CUtexref handle)
{
        SG_ASK(handle, false, out, *out = reference->sampling.mipmapFilterMode);
}

SG_ENTRY(cuTexRefGetMipmapLevelBias, float *out, CUtexref handle)
{
        SG_ASK(handle, false, out, *out = reference->sampling.mipmapLevelBias);
}

SG_ENTRY(cuTexRefGetMipmapLevelClamp, float *low, float *high, CUtexref handle)
{
        SG_ASK(handle, false, low && high, *low = reference->sampling.minMipmapLevelClamp;
               *high = reference->sampling.maxMipmapLevelClamp);
}

SG_ENTRY(cuTexRefGetMaxAnisotropy, int *out, CUtexref handle)
{
        SG_ASK(handle, false, out, *out = (int)reference->sampling.maxAnisotropy);
}

SG_ENTRY(cuTexRefGetBorderColor, float *out, CUtexref handle)
{
        SG_ASK(handle, false, out, memcpy(out, reference->sampling.borderColor, 4 * sizeof(*out)));
}

SG_ENTRY(cuTexRefGetFlags, unsigned *out, CUtexref handle)
{
        SG_ASK(handle, false, out, *out = reference->sampling.flags);
}

/* The module's variable is what its kernels use already. */
SG_ENTRY(cuParamSetTexRef, CUfunction function, int unit, CUtexref handle)
{
        struct sg_reference *reference;
        struct sg_function *found;
        CUresult result = sg_reference_lookup(handle, false, &reference);
        if (result == CUDA_SUCCESS)
                result = sg_function_resolve(function, reference->resource.context, &found);
        if (result == CUDA_SUCCESS && (unit != CU_PARAM_TR_DEFAULT || reference->module != found->module))
                result = CUDA_ERROR_INVALID_VALUE;
        return result;
}
