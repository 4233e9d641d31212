/* Arrays and what looks at them: textures, surfaces, references. */
#ifndef IVGPU_SOFTGPU_ARRAY_H
#define IVGPU_SOFTGPU_ARRAY_H

#include "softgpu.h"

/* Limits, which the device's attributes report. */
#define SG_ARRAY_1D_MAX 131072u
#define SG_ARRAY_2D_MAX 65536u
#define SG_ARRAY_3D_MAX 16384u
#define SG_ARRAY_LAYERS_MAX 2048u
#define SG_TEXTURE_LINEAR_MAX (1u << 27)
#define SG_TEXTURE_PITCHED_MAX 131072u
#define SG_TEXTURE_ALIGN 512u /* of memory that a texture looks at */
#define SG_TEXTURE_PITCH_ALIGN 32u

/* What all of them start with: a context ends what it has of them. */
struct sg_resource {
        struct sg_object object;
        struct sg_context *context;           /* not referenced: it closes its resources before it goes */
        struct sg_resource *next, **previous; /* of the context, under sg_state_lock; previous NULL: not there */
};
/* A new resource of the calling thread's context, known to it. */
CUresult sg_resource_new(enum sg_kind kind, void *out);
/* The handle ends, and with it the caller's reference. False: somebody else was first. */
bool sg_resource_close(struct sg_resource *resource);
void sg_resources_close(struct sg_context *context);

struct sg_array {
        struct sg_resource resource;
        struct sg_allocation *memory; /* referenced */
        CUDA_ARRAY3D_DESCRIPTOR descriptor;
        struct ptx_texture_level level;
        bool part; /* of a mipmapped array, which ends it */
};
struct sg_mipmap {
        struct sg_resource resource;
        struct sg_allocation *memory; /* referenced */
        CUDA_ARRAY3D_DESCRIPTOR descriptor;
        unsigned count;
        struct sg_array *levels[PTX_TEXTURE_LEVELS_MAX]; /* referenced */
};
struct sg_texture {
        struct sg_resource resource;
        struct sg_allocation *memory; /* referenced; NULL: the program's memory */
        struct ptx_texture view;
        CUDA_RESOURCE_DESC described;
        CUDA_TEXTURE_DESC sampling;
        CUDA_RESOURCE_VIEW_DESC viewed;
        bool has_view;
};
struct sg_reference {
        struct sg_resource resource;
        bool surface;
        struct sg_module *module;   /* referenced; NULL: made by cuTexRefCreate */
        uint64_t *slot;             /* in the module's memory: the number that kernels find */
        struct sg_texture *texture; /* referenced: what is bound, ready for kernels; NULL: nothing */
        CUDA_RESOURCE_DESC described;
        CUDA_TEXTURE_DESC sampling;
        bool bound;
        CUarray_format format;
        int channels;
};
void sg_array_finalize(struct sg_array *array);
void sg_mipmap_finalize(struct sg_mipmap *mipmap);
void sg_texture_finalize(struct sg_texture *texture);
void sg_reference_finalize(struct sg_reference *reference);

/* False: a format that this device does not have. */
bool sg_texel_of(CUarray_format format, enum ptx_texel *texel);
size_t sg_texel_bytes(enum ptx_texel texel);
/* Waits for the work of the context that may still use a resource. */
CUresult sg_resource_drain(struct sg_context *context);

/* A texture, or with `sampling` NULL a surface, of the current context. */
CUresult sg_texture_make(const CUDA_RESOURCE_DESC *resource, const CUDA_TEXTURE_DESC *sampling,
                         const CUDA_RESOURCE_VIEW_DESC *view, struct sg_texture **out);
/* For the engine: what `number` looks at in `context`, or NULL. */
const struct ptx_texture *sg_texture_view(void *context, uint64_t number);
/* The module goes, and its references with it. */
void sg_references_close(struct sg_module *module);

#endif
