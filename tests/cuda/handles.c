/* Handles that are none: made up, destroyed, of another kind. NVIDIA's own driver may crash on these; ours answers
 * CUDA_ERROR_INVALID_HANDLE (or INVALID_CONTEXT) and goes on. Not run natively. */
#include "check.h"

static void refused(CUresult result, const char *what)
{
        CHECK(result == CUDA_ERROR_INVALID_HANDLE || result == CUDA_ERROR_INVALID_CONTEXT ||
                      result == CUDA_ERROR_INVALID_VALUE,
              "%s answered %d", what, (int)result);
}

/* Arrays, their parts, and what looks at them. */
static void arrays(CUevent event)
{
        const CUDA_ARRAY3D_DESCRIPTOR descriptor = {
                .Width = 16, .Height = 16, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1};
        const CUDA_TEXTURE_DESC sampling = {.filterMode = CU_TR_FILTER_MODE_POINT};
        CUDA_ARRAY3D_DESCRIPTOR described;
        CUDA_ARRAY_MEMORY_REQUIREMENTS requirements;
        CUDA_ARRAY_SPARSE_PROPERTIES sparse;
        CUDA_RESOURCE_DESC resource = {.resType = CU_RESOURCE_TYPE_ARRAY};
        CUDA_TEXTURE_DESC sampled;
        CUmipmappedArray mipmap;
        CUarray array, level;
        CUtexObject texture, surface;
        uint8_t bytes[16] = {0};
        CU(cuArray3DCreate_v2(&array, &descriptor));
        CU(cuMipmappedArrayCreate(&mipmap, &descriptor, 2));
        CU(cuMipmappedArrayGetLevel(&level, mipmap, 1));
        CU(cuArray3DGetDescriptor_v2(&described, level));
        refused(cuArrayDestroy((CUarray)event), "an event as an array");
        refused(cuArrayDestroy((CUarray)mipmap), "a mipmapped array as an array");
        refused(cuArrayDestroy(level), "a level, which its whole destroys");
        refused(cuMemcpyHtoA_v2((CUarray)event, 0, bytes, 16), "a copy into an event");
        refused(cuMemcpyDtoA((CUarray)event, 0, 4096, 16), "an old copy into an event");
        refused(cuMemcpyAtoD(4096, (CUarray)event, 0, 16), "an old copy from an event");
        refused(cuMemcpyDtoA_v2(array, 0, (CUdeviceptr)(uintptr_t)bytes, 16), "host memory as device memory");
        refused(cuMipmappedArrayGetSparseProperties(&sparse, mipmap), "an array that is not sparse");
        refused(cuMipmappedArrayGetMemoryRequirements(&requirements, mipmap, 0), "an array that has its memory");

        CUarrayMapInfo map = {.resourceType = CU_RESOURCE_TYPE_ARRAY,
                              .resource.array = (CUarray)event,
                              .memOperationType = CU_MEM_OPERATION_TYPE_UNMAP};
        refused(cuMemMapArrayAsync(&map, 1, NULL), "memory behind an event");

        resource.res.array.hArray = (CUarray)event;
        refused(cuTexObjectCreate(&texture, &resource, &sampling, NULL), "a texture of an event");
        resource.res.array.hArray = array;
        refused(cuSurfObjectCreate(&surface, &resource), "a surface of an array without surface access");
        CU(cuTexObjectCreate(&texture, &resource, &sampling, NULL));
        refused(cuTexObjectDestroy(texture + 1), "another number as a texture");
        refused(cuSurfObjectDestroy(texture), "a texture as a surface");
        refused(cuSurfObjectGetResourceDesc(&resource, texture), "a texture as a surface, asked");
        refused(cuTexObjectGetTextureDesc(&sampled, 0), "no texture at all");
        CU(cuTexObjectDestroy(texture));
        refused(cuTexObjectDestroy(texture), "a destroyed texture");
        refused(cuTexObjectGetResourceDesc(&resource, texture), "a destroyed texture, asked");

        CU(cuMipmappedArrayDestroy(mipmap));
        refused(cuArray3DGetDescriptor_v2(&described, level), "a level of a destroyed mipmapped array");
        CU(cuArrayDestroy(array));
        refused(cuArray3DGetDescriptor_v2(&described, array), "a destroyed array");
}

static void references(CUfunction function)
{
        const CUDA_ARRAY_DESCRIPTOR_v1 shape = {
                .Width = 16, .Height = 16, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1};
        CUdeviceptr memory;
        CUdeviceptr_v1 address;
        CUtexref reference;
        CUarray array = NULL;
        size_t offset;
        unsigned old_offset;
        CU(cuMemAlloc_v2(&memory, 4096));
        CU(cuTexRefCreate(&reference));
        refused(cuTexRefGetArray(&array, reference), "a reference that is not bound");
        CU(cuTexRefSetAddress_v2(&offset, reference, memory, 4096));
        refused(cuTexRefGetArray(&array, reference), "a reference that is bound to memory");
        CU_EXPECT(CUDA_ERROR_NOT_SUPPORTED, cuTexRefGetAddress(&address, reference)); /* it has more than 32 bits */
        CU(cuTexRefSetAddress(&old_offset, reference, 0, 0));                         /* nothing */
        refused(cuTexRefGetAddress_v2(&memory, reference), "a reference that was unbound");
        refused(cuParamSetTexRef(function, CU_PARAM_TR_DEFAULT, (CUtexref)function), "a function as a reference");
        refused(cuSurfRefSetArray((CUsurfref)reference, array, 0), "a texture reference as one of a surface");
        CU(cuTexRefDestroy(reference));
        refused(cuTexRefSetFlags(reference, 0), "a destroyed reference");
        refused(cuTexRefSetAddress2D(reference, &shape, 4096, 64), "a destroyed reference, the old way");
}

int main(void)
{
        test_context();
        CUmodule module = test_module();
        CUfunction function = test_function(module, "increment");
        CUstream stream;
        CUevent event;
        CUdeviceptr counter;
        static char not_ours[256];
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuEventCreate(&event, CU_EVENT_DEFAULT));
        CU(cuMemAlloc_v2(&counter, 4));
        CU(cuMemsetD32_v2(counter, 0, 1));
        void *parameters[] = {&counter};

        refused(cuStreamSynchronize((CUstream)(uintptr_t)0x1234560), "a made-up stream");
        refused(cuStreamSynchronize((CUstream)(void *)not_ours), "the program's own memory as a stream");
        refused(cuStreamSynchronize((CUstream)event), "an event as a stream");
        refused(cuEventRecord((CUevent)stream, NULL), "a stream as an event");
        refused(cuEventSynchronize((CUevent)((char *)event + 8)), "the inside of an event");
        refused(cuModuleGetFunction(&function, (CUmodule)event, "increment"), "an event as a module");
        refused(cuLaunchKernel((CUfunction)module, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL),
                "a module as a function");
        refused(cuCtxSetCurrent((CUcontext)(void *)not_ours), "the program's own memory as a context");

        arrays(event);
        references(function);
        CU(cuEventDestroy_v2(event));
        refused(cuEventRecord(event, NULL), "a destroyed event");
        refused(cuEventDestroy_v2(event), "a destroyed event, destroyed again");
        CU(cuStreamDestroy_v2(stream));
        refused(cuStreamQuery(stream), "a destroyed stream");

        CUmodule second = test_module();
        CUfunction of_second = test_function(second, "increment");
        CU(cuModuleUnload(second));
        refused(cuModuleGetFunction(&of_second, second, "increment"), "an unloaded module");
        refused(cuLaunchKernel(of_second, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL),
                "a function of an unloaded module");

        function = test_function(module, "increment"); /* everything still works */
        uint32_t value = 0;
        CU(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
        CU(cuMemcpyDtoH_v2(&value, counter, 4));
        CHECK(value == 1, "%u launches ran, one was right", value);
        puts("handles: none accepted that is none");
        return 0;
}
