/* Texture and surface objects. A number is the object's handle; the engine looks through it as struct ptx_texture. */
#include <string.h>

#include "array.h"

void sg_texture_finalize(struct sg_texture *texture)
{
        if (texture->memory != NULL)
                sg_allocation_put(texture->memory);
}

const struct ptx_texture *sg_texture_view(void *context, uint64_t number)
{
        const struct sg_texture *texture = sg_object_from(sg_pointer(number), SG_TEXTURE);
        return texture != NULL && texture->resource.context == context ? &texture->view : NULL;
}

/* ---- resources ---- */

static void sg_view_shape(const CUDA_ARRAY3D_DESCRIPTOR *d, struct ptx_texture *view)
{
        view->layered = (d->Flags & CUDA_ARRAY3D_LAYERED) != 0;
        view->dimensions = d->Depth != 0 && !view->layered ? 3 : d->Height != 0 ? 2 : 1;
        view->channels = d->NumChannels;
        (void)sg_texel_of(d->Format, &view->texel); /* checked when the array was made */
}

static CUresult sg_view_array(const struct sg_array *array, struct sg_texture *texture)
{
        if (array == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        if (texture->view.surface && (array->descriptor.Flags & CUDA_ARRAY3D_SURFACE_LDST) == 0)
                return CUDA_ERROR_INVALID_VALUE;
        sg_view_shape(&array->descriptor, &texture->view);
        texture->view.level_count = 1;
        texture->view.levels[0] = array->level;
        texture->memory = array->memory;
        sg_allocation_get(texture->memory);
        return CUDA_SUCCESS;
}

static CUresult sg_view_mipmap(const struct sg_mipmap *mipmap, struct sg_texture *texture)
{
        if (mipmap == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        sg_view_shape(&mipmap->descriptor, &texture->view);
        texture->view.level_count = mipmap->count;
        for (unsigned i = 0; i < mipmap->count; i++)
                texture->view.levels[i] = mipmap->levels[i]->level;
        texture->memory = mipmap->memory;
        sg_allocation_get(texture->memory);
        return CUDA_SUCCESS;
}

/* The program's own memory: accesses are checked when they are made. */
static CUresult sg_view_memory(uint64_t address, CUarray_format format, unsigned channels, size_t width, size_t height,
                               size_t pitch, struct ptx_texture *view)
{
        if (!sg_texel_of(format, &view->texel))
                return CUDA_ERROR_NOT_SUPPORTED;
        if (address == 0 || address % SG_TEXTURE_ALIGN != 0 || (channels != 1 && channels != 2 && channels != 4))
                return CUDA_ERROR_INVALID_VALUE;
        view->channels = channels;
        view->in_memory = true;
        view->level_count = 1;
        view->levels[0] = (struct ptx_texture_level){.data = sg_pointer(address),
                                                     .width = (uint32_t)width,
                                                     .height = (uint32_t)height,
                                                     .depth = 1,
                                                     .pitch = pitch};
        return CUDA_SUCCESS;
}

static CUresult sg_view_resource(const CUDA_RESOURCE_DESC *resource, struct sg_texture *texture)
{
        struct ptx_texture *view = &texture->view;
        if (resource->flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        switch (resource->resType) {
        case CU_RESOURCE_TYPE_ARRAY:
                return sg_view_array(sg_object_from(resource->res.array.hArray, SG_ARRAY), texture);
        case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
                if (view->surface)
                        return CUDA_ERROR_INVALID_VALUE;
                return sg_view_mipmap(sg_object_from(resource->res.mipmap.hMipmappedArray, SG_MIPMAP), texture);
        case CU_RESOURCE_TYPE_LINEAR: {
                enum ptx_texel texel;
                const unsigned channels = resource->res.linear.numChannels;
                if (view->surface)
                        return CUDA_ERROR_INVALID_VALUE;
                if (!sg_texel_of(resource->res.linear.format, &texel))
                        return CUDA_ERROR_NOT_SUPPORTED;
                if (channels == 0 || channels > 4)
                        return CUDA_ERROR_INVALID_VALUE;
                const size_t width = resource->res.linear.sizeInBytes / (sg_texel_bytes(texel) * channels);
                if (width == 0 || width > SG_TEXTURE_LINEAR_MAX)
                        return CUDA_ERROR_INVALID_VALUE;
                view->dimensions = 1;
                view->linear = true;
                return sg_view_memory(resource->res.linear.devPtr, resource->res.linear.format, channels, width, 1, 0,
                                      view);
        }
        case CU_RESOURCE_TYPE_PITCH2D: {
                const size_t width = resource->res.pitch2D.width, height = resource->res.pitch2D.height;
                const size_t pitch = resource->res.pitch2D.pitchInBytes;
                if (view->surface || width == 0 || width > SG_TEXTURE_PITCHED_MAX || height == 0 ||
                    height > SG_TEXTURE_PITCHED_MAX || pitch % SG_TEXTURE_PITCH_ALIGN != 0 || pitch > INT32_MAX)
                        return CUDA_ERROR_INVALID_VALUE;
                view->dimensions = 2;
                return sg_view_memory(resource->res.pitch2D.devPtr, resource->res.pitch2D.format,
                                      resource->res.pitch2D.numChannels, width, height, pitch, view);
        }
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
}

/* ---- sampling ---- */

#define SG_SAMPLING_FLAGS \
        (CU_TRSF_READ_AS_INTEGER | CU_TRSF_NORMALIZED_COORDINATES | CU_TRSF_DISABLE_TRILINEAR_OPTIMIZATION)

static bool sg_is_integer(const struct ptx_texture *view)
{
        return view->texel == PTX_TEXEL_U32 || view->texel == PTX_TEXEL_S32 ||
               (view->as_integer && view->texel != PTX_TEXEL_HALF && view->texel != PTX_TEXEL_FLOAT);
}

static CUresult sg_sampling_set(const CUDA_TEXTURE_DESC *sampling, struct ptx_texture *view)
{
        static const float none[4];
        if ((sampling->flags & ~SG_SAMPLING_FLAGS) != 0)
                return CUDA_ERROR_NOT_SUPPORTED; /* sRGB, cube maps */
        for (unsigned i = 0; i < 3; i++) {
                if ((unsigned)sampling->addressMode[i] > CU_TR_ADDRESS_MODE_BORDER)
                        return CUDA_ERROR_INVALID_VALUE;
                view->address[i] = (enum ptx_texture_address)sampling->addressMode[i];
        }
        if ((unsigned)sampling->filterMode > CU_TR_FILTER_MODE_LINEAR ||
            (unsigned)sampling->mipmapFilterMode > CU_TR_FILTER_MODE_LINEAR)
                return CUDA_ERROR_INVALID_VALUE;
        view->filter_linear = sampling->filterMode == CU_TR_FILTER_MODE_LINEAR;
        view->levels_linear = sampling->mipmapFilterMode == CU_TR_FILTER_MODE_LINEAR;
        view->normalized = (sampling->flags & CU_TRSF_NORMALIZED_COORDINATES) != 0;
        view->as_integer = (sampling->flags & CU_TRSF_READ_AS_INTEGER) != 0;
        view->level_bias = sampling->mipmapLevelBias;
        view->level_min = sampling->minMipmapLevelClamp;
        view->level_max = sampling->maxMipmapLevelClamp;
        memcpy(view->border, sampling->borderColor, sizeof(view->border));
        if (view->linear && view->filter_linear)
                return CUDA_ERROR_INVALID_VALUE;
        if (sg_is_integer(view) && (view->filter_linear || memcmp(view->border, none, sizeof(none)) != 0))
                return view->filter_linear ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_SUPPORTED;
        return CUDA_SUCCESS;
}

/* ---- views ---- */

/* Uncompressed formats stand in groups of one, two and four channels. */
static bool sg_view_format(CUresourceViewFormat format, enum ptx_texel *texel, uint32_t *channels)
{
        static const enum ptx_texel texels[] = {PTX_TEXEL_U8,  PTX_TEXEL_S8,  PTX_TEXEL_U16,  PTX_TEXEL_S16,
                                                PTX_TEXEL_U32, PTX_TEXEL_S32, PTX_TEXEL_HALF, PTX_TEXEL_FLOAT};
        if (format < CU_RES_VIEW_FORMAT_UINT_1X8 || format > CU_RES_VIEW_FORMAT_FLOAT_4X32)
                return false;
        const unsigned index = (unsigned)format - CU_RES_VIEW_FORMAT_UINT_1X8;
        *texel = texels[index / 3];
        *channels = 1u << index % 3;
        return true;
}

/* Another reading of an array's texels, and a part of its levels. A part of the layers is not there. */
static CUresult sg_view_apply(const CUDA_RESOURCE_VIEW_DESC *asked, struct ptx_texture *view)
{
        enum ptx_texel texel;
        uint32_t channels;
        if (view->in_memory)
                return CUDA_ERROR_INVALID_VALUE;
        if (!sg_view_format(asked->format, &texel, &channels) || asked->firstLayer != 0 ||
            (asked->lastLayer != 0 && asked->lastLayer + 1 != view->levels[0].depth))
                return CUDA_ERROR_NOT_SUPPORTED;
        if (sg_texel_bytes(texel) * channels != sg_texel_bytes(view->texel) * view->channels ||
            asked->firstMipmapLevel > asked->lastMipmapLevel || asked->lastMipmapLevel >= view->level_count ||
            asked->width != view->levels[0].width || (view->dimensions > 1 && asked->height != view->levels[0].height))
                return CUDA_ERROR_INVALID_VALUE;
        view->texel = texel;
        view->channels = channels;
        view->level_count = asked->lastMipmapLevel - asked->firstMipmapLevel + 1;
        memmove(view->levels, view->levels + asked->firstMipmapLevel, view->level_count * sizeof(view->levels[0]));
        return CUDA_SUCCESS;
}

/* ---- objects ---- */

CUresult sg_texture_make(const CUDA_RESOURCE_DESC *resource, const CUDA_TEXTURE_DESC *sampling,
                         const CUDA_RESOURCE_VIEW_DESC *view, struct sg_texture **out)
{
        struct sg_texture *texture;
        CUresult result = sg_resource_new(SG_TEXTURE, &texture);
        if (result != CUDA_SUCCESS)
                return result;
        texture->view.surface = sampling == NULL;
        result = sg_view_resource(resource, texture);
        if (result == CUDA_SUCCESS && view != NULL)
                result = sg_view_apply(view, &texture->view);
        if (result == CUDA_SUCCESS && sampling != NULL)
                result = sg_sampling_set(sampling, &texture->view);
        if (result != CUDA_SUCCESS) {
                (void)sg_resource_close(&texture->resource);
                return result;
        }
        texture->described = *resource;
        if (sampling != NULL)
                texture->sampling = *sampling;
        texture->has_view = view != NULL;
        if (view != NULL)
                texture->viewed = *view;
        *out = texture;
        return CUDA_SUCCESS;
}

static CUresult sg_texture_lookup(uint64_t number, bool surface, struct sg_texture **out)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        *out = sg_object_from(sg_pointer(number), SG_TEXTURE);
        return *out != NULL && (*out)->view.surface == surface && (*out)->resource.context == context
                       ? CUDA_SUCCESS
                       : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult sg_texture_destroy(uint64_t number, bool surface)
{
        struct sg_texture *texture;
        CUresult result = sg_texture_lookup(number, surface, &texture);
        if (result != CUDA_SUCCESS)
                return result;
        result = sg_resource_drain(texture->resource.context);
        return sg_resource_close(&texture->resource) ? result : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult sg_texture_described(CUDA_RESOURCE_DESC *out, uint64_t number, bool surface)
{
        struct sg_texture *texture;
        const CUresult result = sg_texture_lookup(number, surface, &texture);
        if (result == CUDA_SUCCESS && out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                *out = texture->described;
        return result;
}

SG_ENTRY(cuTexObjectCreate, CUtexObject *out, const CUDA_RESOURCE_DESC *resource, const CUDA_TEXTURE_DESC *sampling,
         const CUDA_RESOURCE_VIEW_DESC *view)
{
        struct sg_texture *texture;
        if (out == NULL || resource == NULL || sampling == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const CUresult result = sg_texture_make(resource, sampling, view, &texture);
        if (result == CUDA_SUCCESS)
                *out = sg_address(texture);
        return result;
}

SG_ENTRY(cuTexObjectDestroy, CUtexObject number)
{
        return sg_texture_destroy(number, false);
}

SG_ENTRY(cuTexObjectGetResourceDesc, CUDA_RESOURCE_DESC *out, CUtexObject number)
{
        return sg_texture_described(out, number, false);
}

SG_ENTRY(cuTexObjectGetTextureDesc, CUDA_TEXTURE_DESC *out, CUtexObject number)
{
        struct sg_texture *texture;
        const CUresult result = sg_texture_lookup(number, false, &texture);
        if (result == CUDA_SUCCESS && out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                *out = texture->sampling;
        return result;
}

SG_ENTRY(cuTexObjectGetResourceViewDesc, CUDA_RESOURCE_VIEW_DESC *out, CUtexObject number)
{
        struct sg_texture *texture;
        const CUresult result = sg_texture_lookup(number, false, &texture);
        if (result == CUDA_SUCCESS && (out == NULL || !texture->has_view))
                return CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                *out = texture->viewed;
        return result;
}

SG_ENTRY(cuSurfObjectCreate, CUsurfObject *out, const CUDA_RESOURCE_DESC *resource)
{
        struct sg_texture *texture;
        if (out == NULL || resource == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const CUresult result = sg_texture_make(resource, NULL, NULL, &texture);
        if (result == CUDA_SUCCESS)
                *out = sg_address(texture);
        return result;
}

SG_ENTRY(cuSurfObjectDestroy, CUsurfObject number)
{
        return sg_texture_destroy(number, true);
}

SG_ENTRY(cuSurfObjectGetResourceDesc, CUDA_RESOURCE_DESC *out, CUsurfObject number)
{
        return sg_texture_described(out, number, true);
}
