/* Graph nodes of every kind: what they do is told as it was given, whoever made them; host functions, memory and stream
 * memory operations by hand; bodies of conditional nodes; graphs drawn; captures asked in every version. */
#include "graph_check.h"
#include <stdatomic.h>
#include <unistd.h>

#define COUNT 1024u
#define BYTES (COUNT * sizeof(uint32_t))

static CUmodule module;
static CUcontext context;
static CUstream stream;

static CUgraphNode only_node(CUgraph graph)
{
        CUgraphNode node = NULL;
        size_t count = 1;
        CU(cuGraphGetNodes(graph, &node, &count));
        CHECK(count == 1 && node != NULL, "%zu nodes", count);
        return node;
}

static void expect_words(CUdeviceptr memory, uint32_t first, uint32_t step)
{
        static uint32_t words[COUNT];
        CU(cuMemcpyDtoH_v2(words, memory, BYTES));
        for (uint32_t i = 0; i < COUNT; i++)
                CHECK(words[i] == first + i * step, "word %u is %u, not %u", i, words[i], first + i * step);
}

/* ---- kernels ---- */

static void kernel_parameters(void)
{
        CUdeviceptr memory;
        uint32_t value = 500;
        uint64_t count = COUNT;
        void *parameters[] = {&memory, &value, &count};
        const CUfunction fill = test_function(module, "fill_u32");
        const CUDA_KERNEL_NODE_PARAMS given = {.func = fill,
                                               .gridDimX = 4,
                                               .gridDimY = 1,
                                               .gridDimZ = 1,
                                               .blockDimX = 64,
                                               .blockDimY = 2,
                                               .blockDimZ = 1,
                                               .sharedMemBytes = 128,
                                               .kernelParams = parameters};
        CUDA_KERNEL_NODE_PARAMS told, again;
        CUDA_KERNEL_NODE_PARAMS_v1 told_v1;
        CUgraph graph = test_graph();
        CUgraphNode node;
        CU(cuMemAlloc_v2(&memory, BYTES));
        CU(cuGraphAddKernelNode_v2(&node, graph, NULL, 0, &given));
        CU(cuGraphKernelNodeGetParams_v2(node, &told));
        CHECK(told.func == fill, "function %p, not %p", (void *)told.func, (void *)fill);
        CHECK(told.gridDimX == 4 && told.blockDimX == 64 && told.blockDimY == 2 && told.sharedMemBytes == 128,
              "another shape");
        CHECK(told.kernelParams != NULL && told.extra == NULL, "no parameters");
        CHECK(*(CUdeviceptr *)told.kernelParams[0] == memory && *(uint32_t *)told.kernelParams[1] == 500 &&
                      *(uint64_t *)told.kernelParams[2] == COUNT,
              "other parameters");
        CU(cuGraphKernelNodeGetParams_v2(node, &again));
        CHECK(again.kernelParams == told.kernelParams, "the node's memory moved");
        CU(cuGraphKernelNodeGetParams(node, &told_v1));
        CHECK(told_v1.func == fill && *(uint32_t *)told_v1.kernelParams[1] == 500, "the first version tells otherwise");

        /* Told, changed, given back. */
        value = 900;
        told.kernelParams[1] = &value;
        told.blockDimX = 32;
        CU(cuGraphKernelNodeSetParams_v2(node, &told));
        CU(cuGraphKernelNodeGetParams_v2(node, &again));
        CHECK(*(uint32_t *)again.kernelParams[1] == 900 && again.blockDimX == 32, "the change is not told");
        test_graph_run(graph, stream);
        expect_words(memory, 900, 1);

        /* Of a capture, and by way of a clone. */
        CUgraph clone;
        CUgraphNode cloned;
        CU(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
        value = 7;
        CU(cuLaunchKernel(fill, 2, 1, 1, 128, 1, 1, 0, stream, parameters, NULL));
        CU(cuStreamEndCapture(stream, &graph));
        CU(cuGraphClone(&clone, graph));
        CU(cuGraphNodeFindInClone(&cloned, only_node(graph), clone));
        CU(cuGraphKernelNodeGetParams_v2(cloned, &told));
        CHECK(told.func == fill && told.gridDimX == 2 && *(uint32_t *)told.kernelParams[1] == 7 &&
                      *(CUdeviceptr *)told.kernelParams[0] == memory,
              "a captured kernel is told otherwise");
        CU(cuGraphDestroy(graph));
        test_graph_run(clone, stream);
        expect_words(memory, 7, 1);
        CU(cuMemFree_v2(memory));
}

static void kernel_attributes(void)
{
        CUdeviceptr memory;
        CUgraph graph = test_graph();
        CUgraphNode node, other;
        CU(cuMemAlloc_v2(&memory, 4));
        void *parameters[] = {&memory};
        const CUDA_KERNEL_NODE_PARAMS given = {.func = test_function(module, "increment"),
                                               .gridDimX = 1,
                                               .gridDimY = 1,
                                               .gridDimZ = 1,
                                               .blockDimX = 1,
                                               .blockDimY = 1,
                                               .blockDimZ = 1,
                                               .kernelParams = parameters};
        CUkernelNodeAttrValue value, told;
        CU(cuGraphAddKernelNode_v2(&node, graph, NULL, 0, &given));
        CU(cuGraphAddKernelNode_v2(&other, graph, &node, 1, &given));
        memset(&value, 0, sizeof(value));
        value.priority = -1;
        CU(cuGraphKernelNodeSetAttribute(node, CU_LAUNCH_ATTRIBUTE_PRIORITY, &value));
        memset(&told, 0, sizeof(told));
        CU(cuGraphKernelNodeGetAttribute(node, CU_LAUNCH_ATTRIBUTE_PRIORITY, &told));
        CHECK(told.priority == -1, "priority %d", told.priority);
        CU(cuGraphKernelNodeGetAttribute(node, CU_LAUNCH_ATTRIBUTE_COOPERATIVE, &told));
        CHECK(told.cooperative == 0, "cooperative %d", told.cooperative);
        CU(cuGraphKernelNodeCopyAttributes(other, node));
        CU(cuGraphKernelNodeGetAttribute(other, CU_LAUNCH_ATTRIBUTE_PRIORITY, &told));
        CHECK(told.priority == -1, "copied priority %d", told.priority);
        CU(cuMemsetD32_v2(memory, 5, 1));
        CU(cuCtxSynchronize());
        test_graph_run(graph, stream);
        uint32_t word = 0;
        CU(cuMemcpyDtoH_v2(&word, memory, 4));
        CHECK(word == 7, "%u", word);
        CU(cuMemFree_v2(memory));
}

/* ---- copies and sets ---- */

static void copies_and_sets(void)
{
        uint32_t *pinned;
        CUdeviceptr memory;
        CUDA_MEMCPY3D copy;
        CUDA_MEMSET_NODE_PARAMS set;
        CUgraph graph = test_graph();
        CUgraphNode set_node, copy_node;
        CU(cuMemAlloc_v2(&memory, BYTES));
        CU(cuMemHostAlloc((void **)&pinned, BYTES, 0));
        const CUDA_MEMSET_NODE_PARAMS sets = {
                .dst = memory, .value = 42, .elementSize = 4, .width = COUNT, .height = 1};
        const CUDA_MEMCPY3D copies = test_row_to_host(pinned, memory, BYTES);
        CU(cuGraphAddMemsetNode(&set_node, graph, NULL, 0, &sets, context));
        CU(cuGraphAddMemcpyNode(&copy_node, graph, &set_node, 1, &copies, context));
        CU(cuGraphMemsetNodeGetParams(set_node, &set));
        CHECK(set.dst == memory && set.value == 42 && set.elementSize == 4 && set.width == COUNT && set.height == 1,
              "another set: 0x%llx, %u, %u, %zu x %zu", (unsigned long long)set.dst, set.value, set.elementSize,
              set.width, set.height);
        CU(cuGraphMemcpyNodeGetParams(copy_node, &copy));
        CHECK(copy.srcMemoryType == CU_MEMORYTYPE_DEVICE && copy.srcDevice == memory, "another source");
        CHECK(copy.dstMemoryType == CU_MEMORYTYPE_HOST && copy.dstHost == pinned, "another destination");
        CHECK(copy.WidthInBytes == BYTES && copy.Height == 1 && copy.Depth == 1, "another box");
        set.value = 43;
        CU(cuGraphMemsetNodeSetParams(set_node, &set));
        copy.dstHost = pinned + COUNT / 2;
        copy.WidthInBytes = BYTES / 2;
        CU(cuGraphMemcpyNodeSetParams(copy_node, &copy));
        memset(pinned, 0, BYTES);
        test_graph_run(graph, stream);
        CHECK(pinned[0] == 0 && pinned[COUNT / 2] == 43 && pinned[COUNT - 1] == 43, "%u %u", pinned[0],
              pinned[COUNT - 1]);

        /* Of a capture. */
        CU(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
        CU(cuMemsetD32Async(memory, 11, COUNT, stream));
        CU(cuStreamEndCapture(stream, &graph));
        CU(cuGraphMemsetNodeGetParams(only_node(graph), &set));
        CHECK(set.dst == memory && set.value == 11 && set.elementSize * set.width * set.height == BYTES, "another set");
        CU(cuGraphDestroy(graph));
        CU(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
        CU(cuMemcpyHtoDAsync_v2(memory, pinned, BYTES, stream));
        CU(cuStreamEndCapture(stream, &graph));
        CU(cuGraphMemcpyNodeGetParams(only_node(graph), &copy));
        CHECK(copy.WidthInBytes * copy.Height * copy.Depth == BYTES, "%zu bytes", copy.WidthInBytes);
        CHECK((copy.srcMemoryType == CU_MEMORYTYPE_HOST ? copy.srcHost == pinned
                                                        : copy.srcDevice == (CUdeviceptr)(uintptr_t)pinned) &&
                      copy.dstDevice == memory,
              "another copy");
        CU(cuGraphDestroy(graph));
        CU(cuMemFreeHost(pinned));
        CU(cuMemFree_v2(memory));
}

/* ---- host functions ---- */

struct note {
        _Atomic(uint32_t) ran;
        const uint32_t *seen;
        uint32_t value;
};

static void note_run(void *data)
{
        struct note *note = data;
        if (note->seen != NULL)
                note->value = *note->seen;
        atomic_fetch_add(&note->ran, 1);
}

static void note_twice(void *data)
{
        note_run(data);
        note_run(data);
}

static void host_functions(void)
{
        static struct note first, second, third;
        uint32_t *pinned;
        CUdeviceptr memory;
        CUDA_HOST_NODE_PARAMS told;
        CUgraph graph = test_graph();
        CUgraphExec exec;
        CUgraphNode set, copy, host, plain;
        CU(cuMemAlloc_v2(&memory, 4));
        CU(cuMemHostAlloc((void **)&pinned, 4, 0));
        *pinned = 0;
        first.seen = second.seen = pinned;
        const CUDA_MEMSET_NODE_PARAMS sets = {.dst = memory, .value = 77, .elementSize = 4, .width = 1, .height = 1};
        const CUDA_MEMCPY3D copies = {.srcMemoryType = CU_MEMORYTYPE_DEVICE,
                                      .srcDevice = memory,
                                      .srcPitch = 4,
                                      .srcHeight = 1,
                                      .dstMemoryType = CU_MEMORYTYPE_HOST,
                                      .dstHost = pinned,
                                      .dstPitch = 4,
                                      .dstHeight = 1,
                                      .WidthInBytes = 4,
                                      .Height = 1,
                                      .Depth = 1};
        const CUDA_HOST_NODE_PARAMS hosts = {.fn = note_run, .userData = &first};
        CU(cuGraphAddMemsetNode(&set, graph, NULL, 0, &sets, context));
        CU(cuGraphAddMemcpyNode(&copy, graph, &set, 1, &copies, context));
        CU(cuGraphAddHostNode(&host, graph, &copy, 1, &hosts));
        CUgraphNodeParams generic = {.type = CU_GRAPH_NODE_TYPE_HOST};
        generic.host.fn = note_run;
        generic.host.userData = &third;
        CU(cuGraphAddNode_v2(&plain, graph, &host, NULL, 1, &generic));
        CU(cuGraphHostNodeGetParams(host, &told));
        CHECK(told.fn == note_run && told.userData == &first, "another function");
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        for (int i = 0; i < 3; i++)
                CU(cuGraphLaunch(exec, stream));
        CU(cuStreamSynchronize(stream));
        CHECK(first.ran == 3 && first.value == 77 && third.ran == 3, "ran %u and %u times, saw %u", first.ran,
              third.ran, first.value);

        /* Another function in the instance, then in the graph. */
        const CUDA_HOST_NODE_PARAMS others = {.fn = note_twice, .userData = &second};
        CU(cuGraphExecHostNodeSetParams(exec, host, &others));
        CU(cuGraphHostNodeGetParams(host, &told));
        CHECK(told.userData == &first, "the graph's node changed with the instance's");
        CU(cuGraphLaunch(exec, stream));
        CU(cuStreamSynchronize(stream));
        CHECK(first.ran == 3 && second.ran == 2, "ran %u, %u times", first.ran, second.ran);
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphHostNodeSetParams(host, &others));
        CU(cuGraphHostNodeGetParams(host, &told));
        CHECK(told.fn == note_twice && told.userData == &second, "the change is not told");
        test_graph_run(graph, stream);
        CHECK(first.ran == 3 && second.ran == 4, "ran %u, %u times", first.ran, second.ran);

        /* Of a capture. */
        CU(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
        CU(cuLaunchHostFunc(stream, note_run, &second));
        CU(cuStreamEndCapture(stream, &graph));
        CU(cuGraphHostNodeGetParams(only_node(graph), &told));
        CHECK(told.fn == note_run && told.userData == &second, "a captured function is told otherwise");
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE,
                  cuGraphAddHostNode(&host, graph, NULL, 0, &(CUDA_HOST_NODE_PARAMS){NULL, NULL}));
        test_graph_run(graph, stream);
        CHECK(second.ran == 5, "ran %u times", second.ran);
        CU(cuMemFreeHost(pinned));
        CU(cuMemFree_v2(memory));
}

/* ---- graphs and events ---- */

static void children_and_events(void)
{
        CUdeviceptr memory;
        CUgraph graph = test_graph(), inner = test_graph(), told = NULL, again = NULL;
        CUgraphNode set, child, record, wait, inside;
        CUevent events[2], event = NULL;
        CUDA_MEMSET_NODE_PARAMS params;
        CU(cuMemAlloc_v2(&memory, 4));
        const CUDA_MEMSET_NODE_PARAMS sets = {.dst = memory, .value = 3, .elementSize = 4, .width = 1, .height = 1};
        for (int i = 0; i < 2; i++)
                CU(cuEventCreate(&events[i], CU_EVENT_DISABLE_TIMING));
        CU(cuGraphAddMemsetNode(&set, inner, NULL, 0, &sets, context));
        CU(cuGraphAddChildGraphNode(&child, graph, NULL, 0, inner));
        CU(cuGraphDestroy(inner));
        CU(cuGraphChildGraphNodeGetGraph(child, &told));
        CU(cuGraphChildGraphNodeGetGraph(child, &again));
        CHECK(told != NULL && told == again, "a child graph has two handles");
        inside = only_node(told);
        CU(cuGraphMemsetNodeGetParams(inside, &params));
        CHECK(params.value == 3, "%u", params.value);
        params.value = 4; /* in the child graph itself */
        CU(cuGraphMemsetNodeSetParams(inside, &params));
        CU(cuGraphAddEventRecordNode(&record, graph, &child, 1, events[0]));
        CU(cuGraphAddEventWaitNode(&wait, graph, &record, 1, events[1]));
        CU(cuGraphEventRecordNodeGetEvent(record, &event));
        CHECK(event == events[0], "another event");
        CU(cuGraphEventWaitNodeGetEvent(wait, &event));
        CHECK(event == events[1], "another event");
        CU(cuGraphEventRecordNodeSetEvent(record, events[1]));
        CU(cuGraphEventRecordNodeGetEvent(record, &event));
        CHECK(event == events[1], "another event");
        CU(cuGraphEventWaitNodeSetEvent(wait, events[0]));
        test_graph_run(graph, stream);
        CU(cuEventSynchronize(events[1]));
        uint32_t word = 0;
        CU(cuMemcpyDtoH_v2(&word, memory, 4));
        CHECK(word == 4, "the child graph wrote %u", word);

        /* As nodes of the generic kind. */
        CUgraphNodeParams generic = {.type = CU_GRAPH_NODE_TYPE_EVENT_RECORD};
        graph = test_graph();
        generic.eventRecord.event = events[0];
        CU(cuGraphAddNode_v2(&record, graph, NULL, NULL, 0, &generic));
        generic = (CUgraphNodeParams){.type = CU_GRAPH_NODE_TYPE_EMPTY};
        CU(cuGraphAddNode_v2(&child, graph, &record, NULL, 1, &generic));
        generic = (CUgraphNodeParams){.type = CU_GRAPH_NODE_TYPE_WAIT_EVENT};
        generic.eventWait.event = events[1];
        CU(cuGraphAddNode_v2(&wait, graph, &child, NULL, 1, &generic));
        CU(cuGraphEventWaitNodeGetEvent(wait, &event));
        CHECK(event == events[1], "another event");
        test_graph_run(graph, stream);
        for (int i = 0; i < 2; i++)
                CU(cuEventDestroy_v2(events[i]));
        CU(cuMemFree_v2(memory));
}

/* ---- memory ---- */

static CUDA_MEM_ALLOC_NODE_PARAMS allocation(void)
{
        return (CUDA_MEM_ALLOC_NODE_PARAMS){.poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                                          .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}},
                                            .bytesize = BYTES};
}

static uint64_t graph_memory_used(void)
{
        cuuint64_t used = 77;
        CU(cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &used));
        return used;
}

/* Allocated, filled and copied out; freed by the graph, or afterwards by the program. */
static void memory_of_graphs(void)
{
        CUdeviceptr result, told = 0;
        uint32_t value = 10;
        uint64_t count = COUNT;
        CUgraphExec exec;
        CU(cuMemAlloc_v2(&result, BYTES));
        for (int freed_by_graph = 1; freed_by_graph >= 0; freed_by_graph--) {
                CUgraph graph = test_graph();
                CUgraphNode alloc, fill, copy, end;
                CUDA_MEM_ALLOC_NODE_PARAMS params = allocation(), params_told;
                CU(cuGraphAddMemAllocNode(&alloc, graph, NULL, 0, &params));
                CHECK(params.dptr != 0, "no address");
                CU(cuGraphMemAllocNodeGetParams(alloc, &params_told));
                CHECK(params_told.dptr == params.dptr && params_told.bytesize == BYTES &&
                              params_told.poolProps.location.type == CU_MEM_LOCATION_TYPE_DEVICE &&
                              params_told.poolProps.location.id == 0,
                      "another allocation");
                void *parameters[] = {&params.dptr, &value, &count};
                const CUDA_KERNEL_NODE_PARAMS kernel = {.func = test_function(module, "fill_u32"),
                                                        .gridDimX = 4,
                                                        .gridDimY = 1,
                                                        .gridDimZ = 1,
                                                        .blockDimX = 64,
                                                        .blockDimY = 1,
                                                        .blockDimZ = 1,
                                                        .kernelParams = parameters};
                CU(cuGraphAddKernelNode_v2(&fill, graph, &alloc, 1, &kernel));
                const CUDA_MEMCPY3D copies = {.srcMemoryType = CU_MEMORYTYPE_DEVICE,
                                              .srcDevice = params.dptr,
                                              .srcPitch = BYTES,
                                              .srcHeight = 1,
                                              .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                                              .dstDevice = result,
                                              .dstPitch = BYTES,
                                              .dstHeight = 1,
                                              .WidthInBytes = BYTES,
                                              .Height = 1,
                                              .Depth = 1};
                CU(cuGraphAddMemcpyNode(&copy, graph, &fill, 1, &copies, context));
                if (freed_by_graph) {
                        CU(cuGraphAddMemFreeNode(&end, graph, &copy, 1, params.dptr));
                        CU(cuGraphMemFreeNodeGetParams(end, &told));
                        CHECK(told == params.dptr, "another address");
                }
                CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
                for (int round = 0; round < 3; round++) {
                        CU(cuMemsetD32_v2(result, 0, COUNT));
                        CU(cuCtxSynchronize());
                        CU(cuGraphLaunch(exec, stream));
                        if (!freed_by_graph) {
                                CU(cuStreamSynchronize(stream));
                                expect_words(params.dptr, value, 1); /* it outlives the launch */
                                if (round == 1)
                                        CU(cuMemFree_v2(params.dptr));
                                else
                                        CU(cuMemFreeAsync(params.dptr, stream));
                        }
                        CU(cuStreamSynchronize(stream));
                        expect_words(result, value, 1);
                }
                CU(cuGraphExecDestroy(exec));
                CU(cuGraphDestroy(graph));
        }
        /* Still allocated: it may not be launched again, unless that frees it. */
        CUgraph graph = test_graph();
        CUgraphNode node;
        CUDA_MEM_ALLOC_NODE_PARAMS params = allocation();
        CU(cuGraphAddMemAllocNode(&node, graph, NULL, 0, &params));
        CU(cuGraphInstantiateWithFlags(&exec, graph, CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH));
        for (int i = 0; i < 3; i++)
                CU(cuGraphLaunch(exec, stream));
        CU(cuStreamSynchronize(stream));
        CHECK(graph_memory_used() >= BYTES, "%llu bytes of graphs in use", (unsigned long long)graph_memory_used());
        CU(cuMemFreeAsync(params.dptr, stream));
        CU(cuStreamSynchronize(stream));
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphDestroy(graph));
        CU(cuDeviceGraphMemTrim(0));
        CHECK(graph_memory_used() == 0, "%llu bytes of graphs in use", (unsigned long long)graph_memory_used());

        /* Memory asked for by the program may come to the same address. */
        CUdeviceptr later[64];
        for (int i = 0; i < 64; i++)
                CU(cuMemAlloc_v2(&later[i], BYTES));
        for (int i = 0; i < 64; i++)
                CU(cuMemFree_v2(later[i]));
        CU(cuMemFree_v2(result));
}

/* In stream order, captured: nodes that allocate and free. */
static void captured_memory(void)
{
        CUdeviceptr memory, result;
        uint32_t value = 20;
        uint64_t count = COUNT;
        CUgraph graph;
        CUgraphExec exec;
        CUgraphNode nodes[8];
        size_t nodes_count = 8;
        unsigned allocs = 0, frees = 0;
        CU(cuMemAlloc_v2(&result, BYTES));
        CU(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
        CU(cuMemAllocAsync(&memory, BYTES, stream));
        void *parameters[] = {&memory, &value, &count};
        CU(cuLaunchKernel(test_function(module, "fill_u32"), 4, 1, 1, 64, 1, 1, 0, stream, parameters, NULL));
        CU(cuMemcpyDtoDAsync_v2(result, memory, BYTES, stream));
        CU(cuMemFreeAsync(memory, stream));
        CU(cuStreamEndCapture(stream, &graph));
        CU(cuGraphGetNodes(graph, nodes, &nodes_count));
        CHECK(nodes_count == 4, "%zu nodes", nodes_count);
        for (size_t i = 0; i < nodes_count; i++) {
                CUgraphNodeType type;
                CUDA_MEM_ALLOC_NODE_PARAMS params;
                CU(cuGraphNodeGetType(nodes[i], &type));
                allocs += type == CU_GRAPH_NODE_TYPE_MEM_ALLOC;
                frees += type == CU_GRAPH_NODE_TYPE_MEM_FREE;
                if (type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) {
                        CU(cuGraphMemAllocNodeGetParams(nodes[i], &params));
                        CHECK(params.dptr == memory && params.bytesize == BYTES, "another allocation");
                }
        }
        CHECK(allocs == 1 && frees == 1, "%u allocations, %u frees", allocs, frees);
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        for (int i = 0; i < 3; i++) {
                CU(cuMemsetD32_v2(result, 0, COUNT));
                CU(cuCtxSynchronize());
                CU(cuGraphLaunch(exec, stream));
                CU(cuStreamSynchronize(stream));
                expect_words(result, 20, 1);
        }
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphDestroy(graph));
        CU(cuMemFree_v2(result));
}

/* ---- stream memory operations ---- */

static void batches(void)
{
        CUdeviceptr words;
        CUgraph graph = test_graph();
        CUgraphExec exec;
        CUgraphNode node;
        CUDA_BATCH_MEM_OP_NODE_PARAMS told;
        uint32_t read[2] = {0};
        CUstreamBatchMemOpParams operations[2];
        CU(cuMemAlloc_v2(&words, 8));
        CU(cuMemsetD32_v2(words, 0, 2));
        CU(cuCtxSynchronize());
        memset(operations, 0, sizeof(operations));
        for (int i = 0; i < 2; i++) {
                operations[i].operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
                operations[i].writeValue.address = words + 4u * (unsigned)i;
                operations[i].writeValue.value = 100u + (unsigned)i;
        }
        CUDA_BATCH_MEM_OP_NODE_PARAMS params = {.ctx = context, .count = 2, .paramArray = operations};
        CU(cuGraphAddBatchMemOpNode(&node, graph, NULL, 0, &params));
        CU(cuGraphBatchMemOpNodeGetParams(node, &told));
        CHECK(told.count == 2 && told.paramArray != NULL && told.flags == 0, "%u operations", told.count);
        for (int i = 0; i < 2; i++)
                CHECK(told.paramArray[i].operation == CU_STREAM_MEM_OP_WRITE_VALUE_32 &&
                              told.paramArray[i].writeValue.address == words + 4u * (unsigned)i &&
                              told.paramArray[i].writeValue.value == 100u + (unsigned)i,
                      "operation %d is another", i);
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        CU(cuGraphLaunch(exec, stream));
        CU(cuStreamSynchronize(stream));
        CU(cuMemcpyDtoH_v2(read, words, 8));
        CHECK(read[0] == 100 && read[1] == 101, "%u, %u", read[0], read[1]);
        operations[1].writeValue.value = 201;
        CU(cuGraphExecBatchMemOpNodeSetParams(exec, node, &params));
        CU(cuGraphLaunch(exec, stream));
        CU(cuStreamSynchronize(stream));
        CU(cuMemcpyDtoH_v2(read, words, 8));
        CHECK(read[0] == 100 && read[1] == 201, "%u, %u", read[0], read[1]);
        CU(cuGraphExecDestroy(exec));
        operations[0].writeValue.value = 300;
        CU(cuGraphBatchMemOpNodeSetParams(node, &params));
        CU(cuGraphBatchMemOpNodeGetParams(node, &told));
        CHECK(told.paramArray[0].writeValue.value == 300, "%u", told.paramArray[0].writeValue.value);
        test_graph_run(graph, stream);
        CU(cuMemcpyDtoH_v2(read, words, 8));
        CHECK(read[0] == 300 && read[1] == 201, "%u, %u", read[0], read[1]);
        CU(cuMemFree_v2(words));
}

/* ---- conditions ---- */

/* A body that runs as its handle's default says; nobody on the device changes it. */
static void conditions(void)
{
        CUdeviceptr memory;
        CUgraph graph = test_graph();
        CUgraphConditionalHandle handle;
        CUgraphNode node, set;
        uint32_t word = 0;
        const CUresult made = cuGraphConditionalHandleCreate(&handle, graph, context, 1, CU_GRAPH_COND_ASSIGN_DEFAULT);
        if (made == CUDA_ERROR_NOT_SUPPORTED) {
                puts("skipped on this device: conditional nodes");
                CU(cuGraphDestroy(graph));
                return;
        }
        CHECK(made == CUDA_SUCCESS, "cuGraphConditionalHandleCreate answered %d", (int)made);
        CU(cuMemAlloc_v2(&memory, 4));
        CU(cuMemsetD32_v2(memory, 0, 1));
        CU(cuCtxSynchronize());
        CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_CONDITIONAL};
        params.conditional.handle = handle;
        params.conditional.type = CU_GRAPH_COND_TYPE_IF;
        params.conditional.size = 1;
        params.conditional.ctx = context;
        CU(cuGraphAddNode_v2(&node, graph, NULL, NULL, 0, &params));
        CHECK(params.conditional.phGraph_out != NULL && params.conditional.phGraph_out[0] != NULL, "no body");
        const CUDA_MEMSET_NODE_PARAMS sets = {.dst = memory, .value = 9, .elementSize = 4, .width = 1, .height = 1};
        CU(cuGraphAddMemsetNode(&set, params.conditional.phGraph_out[0], NULL, 0, &sets, context));
        CHECK(only_node(params.conditional.phGraph_out[0]) == set, "another node in the body");
        test_graph_run(graph, stream);
        CU(cuMemcpyDtoH_v2(&word, memory, 4));
        CHECK(word == 9, "the body did not run: %u", word);
        CU(cuMemFree_v2(memory));
}

/* ---- drawing ---- */

static void drawing(void)
{
        CUgraph graph = test_graph();
        CUgraphNode first, second;
        char path[] = "/tmp/ivgpu-graph-XXXXXX";
        static char text[65536];
        const int fd = mkstemp(path);
        CHECK(fd >= 0, "no file");
        CU(cuGraphAddEmptyNode(&first, graph, NULL, 0));
        CU(cuGraphAddEmptyNode(&second, graph, &first, 1));
        CU(cuGraphDebugDotPrint(graph, path, 0));
        const ssize_t bytes = read(fd, text, sizeof(text) - 1);
        CHECK(bytes > 0, "nothing was drawn");
        CHECK(strstr(text, "digraph") != NULL && strstr(text, "->") != NULL, "drawn: %s", text);
        CHECK(cuGraphDebugDotPrint(graph, "/nowhere/at/all", 0) != CUDA_SUCCESS, "drawn nowhere");
        close(fd);
        unlink(path);
        CU(cuGraphDestroy(graph));
}

/* ---- captures, asked in every version ---- */

static void captures(void)
{
        CUdeviceptr memory;
        CUstreamCaptureStatus status = (CUstreamCaptureStatus)77;
        cuuint64_t ids[3] = {0};
        CUgraph graphs[2] = {NULL}, graph;
        const CUgraphNode *dependencies;
        const CUgraphEdgeData *edges;
        CUgraphNode first, second;
        size_t count = 77;
        CU(cuMemAlloc_v2(&memory, 8));
        CU(cuStreamGetCaptureInfo(stream, &status, &ids[0]));
        CHECK(status == CU_STREAM_CAPTURE_STATUS_NONE, "status %d", (int)status);
        CU(cuStreamGetCaptureInfo_v3(stream, &status, NULL, NULL, NULL, NULL, NULL));
        CHECK(status == CU_STREAM_CAPTURE_STATUS_NONE, "status %d", (int)status);
        CU(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
        CU(cuMemsetD32Async(memory, 1, 1, stream));
        CU(cuStreamGetCaptureInfo(stream, &status, &ids[0]));
        CHECK(status == CU_STREAM_CAPTURE_STATUS_ACTIVE, "status %d", (int)status);
        CU(cuStreamGetCaptureInfo_v2(stream, &status, &ids[1], &graphs[0], &dependencies, &count));
        CHECK(count == 1, "%zu dependencies", count);
        first = dependencies[0];
        CU(cuStreamGetCaptureInfo_v3(stream, &status, &ids[2], &graphs[1], &dependencies, &edges, &count));
        CHECK(count == 1 && dependencies[0] == first, "another dependency");
        CHECK(edges == NULL || (edges[0].type == CU_GRAPH_DEPENDENCY_TYPE_DEFAULT && edges[0].from_port == 0),
              "another edge");
        CHECK(ids[0] == ids[1] && ids[1] == ids[2] && graphs[0] == graphs[1], "captures differ");

        /* The next node depends on nothing, then on both: set, then added. */
        CU(cuStreamUpdateCaptureDependencies(stream, NULL, 0, CU_STREAM_SET_CAPTURE_DEPENDENCIES));
        CU(cuMemsetD32Async(memory + 4, 2, 1, stream));
        CU(cuStreamGetCaptureInfo_v2(stream, &status, NULL, NULL, &dependencies, &count));
        CHECK(count == 1 && dependencies[0] != first, "%zu dependencies", count);
        second = dependencies[0];
        CU(cuStreamUpdateCaptureDependencies_v2(stream, &first, NULL, 1, CU_STREAM_ADD_CAPTURE_DEPENDENCIES));
        CU(cuStreamGetCaptureInfo_v2(stream, &status, NULL, NULL, &dependencies, &count));
        CHECK(count == 2, "%zu dependencies", count);
        CU(cuStreamUpdateCaptureDependencies_v2(stream, &second, NULL, 1, CU_STREAM_SET_CAPTURE_DEPENDENCIES));
        CU(cuStreamGetCaptureInfo_v2(stream, &status, NULL, NULL, &dependencies, &count));
        CHECK(count == 1 && dependencies[0] == second, "%zu dependencies", count);
        CU(cuStreamEndCapture(stream, &graph));
        CHECK(graph == graphs[0], "another graph");
        size_t roots = 0;
        CU(cuGraphGetRootNodes(graph, NULL, &roots));
        CHECK(roots == 2, "%zu roots", roots);
        test_graph_run(graph, stream);
        uint32_t words[2] = {0};
        CU(cuMemcpyDtoH_v2(words, memory, 8));
        CHECK(words[0] == 1 && words[1] == 2, "%u, %u", words[0], words[1]);
        CU(cuMemFree_v2(memory));
}

int main(void)
{
        context = test_context();
        module = test_module();
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        kernel_parameters();
        kernel_attributes();
        copies_and_sets();
        host_functions();
        children_and_events();
        memory_of_graphs();
        captured_memory();
        batches();
        conditions();
        drawing();
        captures();
        CU(cuStreamDestroy_v2(stream));
        puts("graph nodes: right");
        return 0;
}
