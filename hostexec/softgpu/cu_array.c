/* Arrays and mipmapped arrays: rows one behind the other in memory that has no address for the program. */
#include <string.h>

#include "array.h"

#define SG_LEVEL_BYTES ((size_t)512) /* each level starts at a multiple */
#define SG_ARRAY_FLAGS (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_SURFACE_LDST | CUDA_ARRAY3D_TEXTURE_GATHER)

/* ---- resources ---- */

CUresult sg_resource_new(enum sg_kind kind, void *out)
{
        struct sg_context *context;
        CUresult result = sg_context_current(&context);
        if (result == CUDA_SUCCESS && atomic_load(&sg_captures) != 0)
                result = sg_capture_check_unsafe();
        if (result != CUDA_SUCCESS)
                return result;
        struct sg_resource *resource = sg_object_new(kind);
        if (resource == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        resource->context = context;
        pthread_mutex_lock(&sg_state_lock);
        resource->next = context->resources;
        resource->previous = &context->resources;
        if (resource->next != NULL)
                resource->next->previous = &resource->next;
        context->resources = resource;
        pthread_mutex_unlock(&sg_state_lock);
        *(void **)out = resource;
        return CUDA_SUCCESS;
}

/* Under sg_state_lock. */
static void sg_resource_unlink(struct sg_resource *resource)
{
        if (resource->previous == NULL)
                return;
        *resource->previous = resource->next;
        if (resource->next != NULL)
                resource->next->previous = resource->previous;
        resource->previous = NULL;
}

bool sg_resource_close(struct sg_resource *resource)
{
        pthread_mutex_lock(&sg_state_lock);
        const bool mine = sg_object_retire(resource);
        if (mine)
                sg_resource_unlink(resource);
        pthread_mutex_unlock(&sg_state_lock);
        if (mine)
                sg_object_put(resource);
        return mine;
}

void sg_resources_close(struct sg_context *context)
{
        for (;;) {
                pthread_mutex_lock(&sg_state_lock);
                struct sg_resource *resource = context->resources;
                const bool mine = resource != NULL && sg_object_retire(resource);
                if (resource != NULL)
                        sg_resource_unlink(resource);
                pthread_mutex_unlock(&sg_state_lock);
                if (resource == NULL)
                        return;
                if (mine)
                        sg_object_put(resource);
        }
}

CUresult sg_resource_drain(struct sg_context *context)
{
        return sg_context_drain(context);
}

/* ---- shape ---- */

bool sg_texel_of(CUarray_format format, enum ptx_texel *texel)
{
        static const struct {
                CUarray_format format;
                enum ptx_texel texel;
        } formats[] = {
                {CU_AD_FORMAT_UNSIGNED_INT8, PTX_TEXEL_U8},   {CU_AD_FORMAT_SIGNED_INT8, PTX_TEXEL_S8},
                {CU_AD_FORMAT_UNSIGNED_INT16, PTX_TEXEL_U16}, {CU_AD_FORMAT_SIGNED_INT16, PTX_TEXEL_S16},
                {CU_AD_FORMAT_UNSIGNED_INT32, PTX_TEXEL_U32}, {CU_AD_FORMAT_SIGNED_INT32, PTX_TEXEL_S32},
                {CU_AD_FORMAT_HALF, PTX_TEXEL_HALF},          {CU_AD_FORMAT_FLOAT, PTX_TEXEL_FLOAT},
        };
        for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
                if (formats[i].format == format) {
                        *texel = formats[i].texel;
                        return true;
                }
        return false;
}

size_t sg_texel_bytes(enum ptx_texel texel)
{
        static const unsigned char bytes[] = {1, 1, 2, 2, 4, 4, 2, 4};
        return bytes[texel];
}

static CUresult sg_array_check(const CUDA_ARRAY3D_DESCRIPTOR *d)
{
        enum ptx_texel texel;
        const bool layered = (d->Flags & CUDA_ARRAY3D_LAYERED) != 0;
        const size_t depth_max = layered ? SG_ARRAY_LAYERS_MAX : SG_ARRAY_3D_MAX;
        if (!sg_texel_of(d->Format, &texel) || (d->Flags & ~SG_ARRAY_FLAGS) != 0)
                return CUDA_ERROR_NOT_SUPPORTED; /* block-compressed and planar formats, cube maps, sparse arrays */
        if (d->Width == 0 || (d->NumChannels != 1 && d->NumChannels != 2 && d->NumChannels != 4))
                return CUDA_ERROR_INVALID_VALUE;
        if (layered ? d->Depth == 0 : d->Depth != 0 && d->Height == 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (d->Width > (d->Depth != 0 && !layered ? SG_ARRAY_3D_MAX : SG_ARRAY_1D_MAX) || d->Depth > depth_max ||
            d->Height > (d->Depth != 0 && !layered ? SG_ARRAY_3D_MAX : SG_ARRAY_2D_MAX))
                return CUDA_ERROR_INVALID_VALUE;
        return CUDA_SUCCESS;
}

static uint32_t sg_halved(size_t size, unsigned level)
{
        return size >> level != 0 ? (uint32_t)(size >> level) : 1;
}

/* Extents and strides of a level, and the bytes it takes; a dimension that is not there counts as one. */
static size_t sg_level_shape(const CUDA_ARRAY3D_DESCRIPTOR *d, unsigned level, struct ptx_texture_level *out)
{
        enum ptx_texel texel = PTX_TEXEL_U8;
        (void)sg_texel_of(d->Format, &texel); /* it was checked */
        out->width = sg_halved(d->Width, level);
        out->height = sg_halved(d->Height, level);
        out->depth = d->Flags & CUDA_ARRAY3D_LAYERED ? (uint32_t)d->Depth : sg_halved(d->Depth, level);
        out->pitch = out->width * sg_texel_bytes(texel) * d->NumChannels;
        out->slice = out->pitch * out->height;
        return (out->slice * out->depth + SG_LEVEL_BYTES - 1) & ~(SG_LEVEL_BYTES - 1);
}

/* ---- arrays ---- */

void sg_array_finalize(struct sg_array *array)
{
        if (array->memory != NULL)
                sg_allocation_put(array->memory);
}

static CUresult sg_array_make(CUarray *out, const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
        struct sg_array *array;
        struct ptx_texture_level level;
        CUresult result = sg_array_check(descriptor);
        if (result == CUDA_SUCCESS)
                result = sg_resource_new(SG_ARRAY, &array);
        if (result != CUDA_SUCCESS)
                return result;
        const size_t bytes = sg_level_shape(descriptor, 0, &level);
        result = sg_device_take(array->resource.context, bytes, SG_MEMORY_DEVICE, NULL, &array->memory);
        if (result != CUDA_SUCCESS) {
                (void)sg_resource_close(&array->resource);
                return result;
        }
        level.data = sg_pointer(array->memory->start);
        array->level = level;
        array->descriptor = *descriptor;
        *out = (CUarray)array;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuArray3DCreate_v2, CUarray *out, const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        return out == NULL || descriptor == NULL ? CUDA_ERROR_INVALID_VALUE : sg_array_make(out, descriptor);
}

SG_ENTRY(cuArrayCreate_v2, CUarray *out, const CUDA_ARRAY_DESCRIPTOR *descriptor)
{
        if (descriptor == NULL)
                return cuArray3DCreate_v2(out, NULL);
        const CUDA_ARRAY3D_DESCRIPTOR deep = {.Width = descriptor->Width,
                                              .Height = descriptor->Height,
                                              .Format = descriptor->Format,
                                              .NumChannels = descriptor->NumChannels};
        return cuArray3DCreate_v2(out, &deep);
}

static CUresult sg_array_lookup(CUarray handle, struct sg_array **out)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        *out = sg_object_from(handle, SG_ARRAY);
        return *out != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

SG_ENTRY(cuArrayDestroy, CUarray handle)
{
        struct sg_array *array;
        CUresult result = sg_array_lookup(handle, &array);
        if (result != CUDA_SUCCESS)
                return result;
        if (array->part)
                return CUDA_ERROR_INVALID_HANDLE;
        result = sg_resource_drain(array->resource.context);
        return sg_resource_close(&array->resource) ? result : CUDA_ERROR_INVALID_HANDLE;
}

SG_ENTRY(cuArray3DGetDescriptor_v2, CUDA_ARRAY3D_DESCRIPTOR *out, CUarray handle)
{
        struct sg_array *array;
        const CUresult result = sg_array_lookup(handle, &array);
        if (result == CUDA_SUCCESS && out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                *out = array->descriptor;
        return result;
}

SG_ENTRY(cuArrayGetDescriptor_v2, CUDA_ARRAY_DESCRIPTOR *out, CUarray handle)
{
        CUDA_ARRAY3D_DESCRIPTOR deep;
        const CUresult result = cuArray3DGetDescriptor_v2(out != NULL ? &deep : NULL, handle);
        if (result == CUDA_SUCCESS)
                *out = (CUDA_ARRAY_DESCRIPTOR){.Width = deep.Width,
                                               .Height = deep.Height,
                                               .Format = deep.Format,
                                               .NumChannels = deep.NumChannels};
        return result;
}

/* No array here is sparse, planar or without memory: what asks for that gets CUDA's answer for the others. */
static CUresult sg_array_is_plain(CUarray handle)
{
        struct sg_array *array;
        const CUresult result = sg_array_lookup(handle, &array);
        return result != CUDA_SUCCESS ? result : CUDA_ERROR_INVALID_VALUE;
}

SG_ENTRY(cuArrayGetSparseProperties, CUDA_ARRAY_SPARSE_PROPERTIES *out, CUarray handle)
{
        (void)out;
        return sg_array_is_plain(handle);
}

SG_ENTRY(cuArrayGetMemoryRequirements, CUDA_ARRAY_MEMORY_REQUIREMENTS *out, CUarray handle, CUdevice device)
{
        (void)out;
        (void)device;
        return sg_array_is_plain(handle);
}

SG_ENTRY(cuArrayGetPlane, CUarray *out, CUarray handle, unsigned plane)
{
        (void)out;
        (void)plane;
        return sg_array_is_plain(handle);
}

/* ---- mipmapped arrays ---- */

void sg_mipmap_finalize(struct sg_mipmap *mipmap)
{
        for (unsigned i = 0; i < mipmap->count; i++) {
                (void)sg_resource_close(&mipmap->levels[i]->resource);
                sg_object_put(mipmap->levels[i]);
        }
        if (mipmap->memory != NULL)
                sg_allocation_put(mipmap->memory);
}

static unsigned sg_levels_max(const CUDA_ARRAY3D_DESCRIPTOR *d)
{
        size_t largest = d->Width > d->Height ? d->Width : d->Height;
        unsigned count = 1;
        if ((d->Flags & CUDA_ARRAY3D_LAYERED) == 0 && d->Depth > largest)
                largest = d->Depth;
        while (largest >>= 1)
                count++;
        return count < PTX_TEXTURE_LEVELS_MAX ? count : PTX_TEXTURE_LEVELS_MAX;
}

static CUresult sg_mipmap_level_make(struct sg_mipmap *mipmap, unsigned index, size_t offset)
{
        struct sg_array *array;
        const CUresult result = sg_resource_new(SG_ARRAY, &array);
        if (result != CUDA_SUCCESS)
                return result;
        (void)sg_level_shape(&mipmap->descriptor, index, &array->level);
        array->level.data = (uint8_t *)sg_pointer(mipmap->memory->start) + offset;
        array->descriptor = mipmap->descriptor;
        array->descriptor.Width = array->level.width;
        if (array->descriptor.Height != 0)
                array->descriptor.Height = array->level.height;
        if (array->descriptor.Depth != 0)
                array->descriptor.Depth = array->level.depth;
        array->part = true;
        array->memory = mipmap->memory;
        sg_allocation_get(array->memory);
        sg_object_get(array); /* the mipmapped array's: its context may close the level first */
        mipmap->levels[mipmap->count++] = array;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuMipmappedArrayCreate, CUmipmappedArray *out, const CUDA_ARRAY3D_DESCRIPTOR *descriptor, unsigned count)
{
        struct sg_mipmap *mipmap;
        struct ptx_texture_level level;
        size_t bytes = 0, offset = 0;
        if (out == NULL || descriptor == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        CUresult result = sg_array_check(descriptor);
        if (result == CUDA_SUCCESS)
                result = sg_resource_new(SG_MIPMAP, &mipmap);
        if (result != CUDA_SUCCESS)
                return result;
        const unsigned most = sg_levels_max(descriptor);
        const unsigned levels = count == 0 ? 1 : count < most ? count : most;
        mipmap->descriptor = *descriptor;
        for (unsigned i = 0; i < levels; i++)
                bytes += sg_level_shape(descriptor, i, &level);
        result = sg_device_take(mipmap->resource.context, bytes, SG_MEMORY_DEVICE, NULL, &mipmap->memory);
        for (unsigned i = 0; i < levels && result == CUDA_SUCCESS; i++) {
                result = sg_mipmap_level_make(mipmap, i, offset);
                offset += sg_level_shape(descriptor, i, &level);
        }
        if (result == CUDA_SUCCESS)
                *out = (CUmipmappedArray)mipmap;
        else
                (void)sg_resource_close(&mipmap->resource);
        return result;
}

static CUresult sg_mipmap_lookup(CUmipmappedArray handle, struct sg_mipmap **out)
{
        struct sg_context *context;
        const CUresult result = sg_context_current(&context);
        if (result != CUDA_SUCCESS)
                return result;
        *out = sg_object_from(handle, SG_MIPMAP);
        return *out != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

SG_ENTRY(cuMipmappedArrayGetLevel, CUarray *out, CUmipmappedArray handle, unsigned level)
{
        struct sg_mipmap *mipmap;
        const CUresult result = sg_mipmap_lookup(handle, &mipmap);
        if (result == CUDA_SUCCESS && (out == NULL || level >= mipmap->count))
                return CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                *out = (CUarray)mipmap->levels[level];
        return result;
}

SG_ENTRY(cuMipmappedArrayDestroy, CUmipmappedArray handle)
{
        struct sg_mipmap *mipmap;
        CUresult result = sg_mipmap_lookup(handle, &mipmap);
        if (result != CUDA_SUCCESS)
                return result;
        result = sg_resource_drain(mipmap->resource.context);
        return sg_resource_close(&mipmap->resource) ? result : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult sg_mipmap_is_plain(CUmipmappedArray handle)
{
        struct sg_mipmap *mipmap;
        const CUresult result = sg_mipmap_lookup(handle, &mipmap);
        return result != CUDA_SUCCESS ? result : CUDA_ERROR_INVALID_VALUE;
}

SG_ENTRY(cuMipmappedArrayGetSparseProperties, CUDA_ARRAY_SPARSE_PROPERTIES *out, CUmipmappedArray handle)
{
        (void)out;
        return sg_mipmap_is_plain(handle);
}

SG_ENTRY(cuMipmappedArrayGetMemoryRequirements, CUDA_ARRAY_MEMORY_REQUIREMENTS *out, CUmipmappedArray handle,
         CUdevice device)
{
        (void)out;
        (void)device;
        return sg_mipmap_is_plain(handle);
}
