/* Handles that are none: made up, destroyed, of another kind. NVIDIA's own driver may crash on these; ours answers
 * CUDA_ERROR_INVALID_HANDLE (or INVALID_CONTEXT) and goes on. Not run natively. */
#include "check.h"

static void refused(CUresult result, const char *what)
{
        CHECK(result == CUDA_ERROR_INVALID_HANDLE || result == CUDA_ERROR_INVALID_CONTEXT ||
                      result == CUDA_ERROR_INVALID_VALUE,
              "%s answered %d", what, (int)result);
}

static void nothing(void *data)
{
        (void)data;
}

/* Graphs, nodes and user objects; numbers that no call has given out; ends that are not the program's to make. */
static void graphs(void)
{
        CUDA_KERNEL_NODE_PARAMS kernel = {.gridDimX = 1};
        CUgraphNodeParams conditional = {.type = CU_GRAPH_NODE_TYPE_CONDITIONAL};
        CUgraph graph, inner, child;
        CUgraphNode empty, node;
        CUuserObject object;
        CUdeviceptr address;
        CU(cuGraphCreate(&graph, 0));
        CU(cuGraphCreate(&inner, 0));
        CU(cuGraphAddEmptyNode(&empty, graph, NULL, 0));
        CU(cuUserObjectCreate(&object, NULL, nothing, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
        refused(cuGraphKernelNodeGetParams_v2((CUgraphNode)graph, &kernel), "a graph as a node");
        refused(cuGraphKernelNodeGetParams_v2(empty, &kernel), "an empty node as a kernel's");
        refused(cuGraphMemFreeNodeGetParams(empty, &address), "an empty node as a free");
        refused(cuGraphAddMemFreeNode(&node, graph, NULL, 0, 0x7000000000), "an address that nobody has allocated");
        conditional.conditional.handle = 0x1234;
        conditional.conditional.size = 1;
        refused(cuGraphAddNode_v2(&node, graph, NULL, NULL, 0, &conditional), "a made-up condition");
        refused(cuGraphRetainUserObject(graph, (CUuserObject)empty, 1, 0), "a node as a user object");
        refused(cuGraphReleaseUserObject(graph, object, 1), "a reference that the graph does not have");
        CU(cuGraphAddChildGraphNode(&node, graph, NULL, 0, inner));
        CU(cuGraphChildGraphNodeGetGraph(node, &child));
        refused(cuGraphDestroy(child), "a node's own graph, destroyed");
        CU(cuUserObjectRelease(object, 1));
        CU(cuGraphDestroy(graph));
        refused(cuGraphKernelNodeGetParams_v2(empty, &kernel), "a node of a destroyed graph");
        refused(cuGraphGetNodes(child, NULL, &(size_t){0}), "a child graph of a destroyed graph");
        CU(cuGraphDestroy(inner));
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

        CUcontext context, made;
        CU(cuCtxGetCurrent(&context));
        refused(cuCtxRecordEvent((CUcontext)event, event), "an event as a context");
        refused(cuCtxWaitEvent(context, (CUevent)(void *)not_ours), "the program's own memory as an event");
        refused(cuGreenCtxDestroy((CUgreenCtx)context), "a context as a part of a device");
        refused(cuGreenCtxRecordEvent((CUgreenCtx)(void *)not_ours, event), "made-up parts of devices");
        CUgreenCtx green;
        refused(cuGreenCtxCreate(&green, (CUdevResourceDesc)module, 0, CU_GREEN_CTX_DEFAULT_STREAM),
                "a module as a description of a part");
        CUdevResource forged = {.type = CU_DEV_RESOURCE_TYPE_SM};
        memset(forged._internal_padding, 0x41, sizeof forged._internal_padding);
        CUdevResourceDesc description;
        refused(cuDevResourceGenerateDesc(&description, &forged, 1), "a resource that no device gave");
        /* What would let the driver write files of the host. */
        CU_EXPECT(CUDA_ERROR_NOT_SUPPORTED, cuCtxCreate_v2(&made, CU_CTX_COREDUMP_ENABLE, 0));
        CU_EXPECT(CUDA_ERROR_NOT_SUPPORTED, cuCtxSetFlags(CU_CTX_USER_COREDUMP_ENABLE));
        uint8_t on = 1;
        char path[] = "/tmp/a file of the host";
        size_t bytes = sizeof on;
        CU_EXPECT(CUDA_ERROR_NOT_SUPPORTED, cuCoredumpSetAttributeGlobal(CU_COREDUMP_ENABLE_ON_EXCEPTION, &on, &bytes));
        bytes = sizeof path;
        CU_EXPECT(CUDA_ERROR_NOT_SUPPORTED, cuCoredumpSetAttribute(CU_COREDUMP_FILE, path, &bytes));
        graphs();
        function = test_function(module, "increment"); /* everything still works */
        uint32_t value = 0;
        CU(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
        CU(cuMemcpyDtoH_v2(&value, counter, 4));
        CHECK(value == 1, "%u launches ran, one was right", value);
        puts("handles: none accepted that is none");
        return 0;
}
