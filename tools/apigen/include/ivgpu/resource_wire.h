/* A texture's or surface's resource between CUDA's form and the wire's, for both sides. Handles stay outside: each side
 * has its own for the arrays. */
#ifndef IVGPU_RESOURCE_WIRE_H
#define IVGPU_RESOURCE_WIRE_H

#include "ivgpu/call_wire.h"
#include "ivgpu/cuda_abi.h"
#include <stdbool.h>

/* False: a type whose layout we do not know. */
static inline bool ivg_resource_to_wire(const CUDA_RESOURCE_DESC *resource, struct ivg_wire_resource *wire)
{
        *wire = (struct ivg_wire_resource){.type = resource->resType, .flags = resource->flags};
        switch (resource->resType) {
        case CU_RESOURCE_TYPE_ARRAY:
        case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
                return true;
        case CU_RESOURCE_TYPE_LINEAR:
                wire->address = resource->res.linear.devPtr;
                wire->format = resource->res.linear.format;
                wire->channels = resource->res.linear.numChannels;
                wire->bytes = resource->res.linear.sizeInBytes;
                return true;
        case CU_RESOURCE_TYPE_PITCH2D:
                wire->address = resource->res.pitch2D.devPtr;
                wire->format = resource->res.pitch2D.format;
                wire->channels = resource->res.pitch2D.numChannels;
                wire->width = resource->res.pitch2D.width;
                wire->height = resource->res.pitch2D.height;
                wire->pitch = resource->res.pitch2D.pitchInBytes;
                return true;
        default:
                return false;
        }
}

/* The same back; `array` and `mipmap` are used as the type says. */
static inline bool ivg_resource_from_wire(const struct ivg_wire_resource *wire, CUarray array, CUmipmappedArray mipmap,
                                          CUDA_RESOURCE_DESC *resource)
{
        *resource = (CUDA_RESOURCE_DESC){.resType = (CUresourcetype)wire->type, .flags = wire->flags};
        switch (resource->resType) {
        case CU_RESOURCE_TYPE_ARRAY:
                resource->res.array.hArray = array;
                return true;
        case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
                resource->res.mipmap.hMipmappedArray = mipmap;
                return true;
        case CU_RESOURCE_TYPE_LINEAR:
                resource->res.linear.devPtr = wire->address;
                resource->res.linear.format = (CUarray_format)wire->format;
                resource->res.linear.numChannels = wire->channels;
                resource->res.linear.sizeInBytes = wire->bytes;
                return true;
        case CU_RESOURCE_TYPE_PITCH2D:
                resource->res.pitch2D.devPtr = wire->address;
                resource->res.pitch2D.format = (CUarray_format)wire->format;
                resource->res.pitch2D.numChannels = wire->channels;
                resource->res.pitch2D.width = wire->width;
                resource->res.pitch2D.height = wire->height;
                resource->res.pitch2D.pitchInBytes = wire->pitch;
                return true;
        default:
                return false;
        }
}

#endif
