/* Copies of one dimension with arrays: boxes of one row. */
#include "array.h"
#include "copy.h"

static struct sg_box_side sg_array_side(CUarray array, size_t offset)
{
        return (struct sg_box_side){.type = CU_MEMORYTYPE_ARRAY, .array = array, .x = offset};
}

static struct sg_box_side sg_host_side(const void *host)
{
        return (struct sg_box_side){.type = CU_MEMORYTYPE_HOST, .host = sg_address(host)};
}

static struct sg_box_side sg_device_side(CUdeviceptr address)
{
        return (struct sg_box_side){.type = CU_MEMORYTYPE_DEVICE, .device = address};
}

/* The array of these calls has one dimension. */
static CUresult sg_row_copy(CUstream stream, struct sg_box_side to, struct sg_box_side from, size_t bytes,
                            bool synchronous)
{
        const struct sg_box_side *sides[2] = {&to, &from};
        for (unsigned i = 0; i < 2; i++) {
                const struct sg_array *array = sg_object_from(sides[i]->array, SG_ARRAY);
                if (sides[i]->type == CU_MEMORYTYPE_ARRAY && array == NULL)
                        return CUDA_ERROR_INVALID_HANDLE;
                if (sides[i]->type == CU_MEMORYTYPE_ARRAY && (array->descriptor.Height | array->descriptor.Depth) != 0)
                        return CUDA_ERROR_INVALID_VALUE;
        }
        const size_t extent[3] = {bytes, 1, 1};
        return sg_box_copy(stream, &to, &from, extent, synchronous);
}

/* A call on the legacy stream, and the same on the thread's. */
#define SG_ROW_CALL(call, parameters, to, from, bytes)                           \
        SG_ENTRY(call, SG_UNPACK parameters)                                     \
        {                                                                        \
                return sg_row_copy(NULL, to, from, bytes, true);                 \
        }                                                                        \
        SG_ENTRY(call##_ptds, SG_UNPACK parameters)                              \
        {                                                                        \
                return sg_row_copy(CU_STREAM_PER_THREAD, to, from, bytes, true); \
        }
#define SG_ROW_CALL_ASYNC(call, parameters, to, from, bytes)                       \
        SG_ENTRY(call, SG_UNPACK parameters, CUstream stream)                      \
        {                                                                          \
                return sg_row_copy(stream, to, from, bytes, false);                \
        }                                                                          \
        SG_ENTRY(call##_ptsz, SG_UNPACK parameters, CUstream stream)               \
        {                                                                          \
                return sg_row_copy(sg_per_thread(stream), to, from, bytes, false); \
        }
#define SG_UNPACK(...) __VA_ARGS__

SG_ROW_CALL(cuMemcpyHtoA_v2, (CUarray array, size_t offset, const void *host, size_t bytes),
            sg_array_side(array, offset), sg_host_side(host), bytes)
SG_ROW_CALL(cuMemcpyAtoH_v2, (void *host, CUarray array, size_t offset, size_t bytes), sg_host_side(host),
            sg_array_side(array, offset), bytes)
SG_ROW_CALL(cuMemcpyDtoA_v2, (CUarray array, size_t offset, CUdeviceptr address, size_t bytes),
            sg_array_side(array, offset), sg_device_side(address), bytes)
SG_ROW_CALL(cuMemcpyAtoD_v2, (CUdeviceptr address, CUarray array, size_t offset, size_t bytes), sg_device_side(address),
            sg_array_side(array, offset), bytes)
SG_ROW_CALL(cuMemcpyAtoA_v2, (CUarray to, size_t to_offset, CUarray from, size_t from_offset, size_t bytes),
            sg_array_side(to, to_offset), sg_array_side(from, from_offset), bytes)
SG_ROW_CALL_ASYNC(cuMemcpyHtoAAsync_v2, (CUarray array, size_t offset, const void *host, size_t bytes),
                  sg_array_side(array, offset), sg_host_side(host), bytes)
SG_ROW_CALL_ASYNC(cuMemcpyAtoHAsync_v2, (void *host, CUarray array, size_t offset, size_t bytes), sg_host_side(host),
                  sg_array_side(array, offset), bytes)
