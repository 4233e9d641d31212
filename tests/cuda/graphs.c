/* Graphs by capture: several streams, replays with other inputs, updates, lists of nodes, clones; and the mistakes that
 * CUDA tells at the call that makes them. */
#include "check.h"
#include <pthread.h>

#define COUNT 1024u
#define BYTES (COUNT * sizeof(float))

static CUmodule module;

static void vector_add(CUdeviceptr a, CUdeviceptr b, CUdeviceptr c, CUstream stream)
{
        int count = COUNT;
        void *parameters[] = {&a, &b, &c, &count};
        CU(cuLaunchKernel(test_function(module, "vector_add"), COUNT / 128, 1, 1, 128, 1, 1, 0, stream, parameters,
                          NULL));
}

struct diamond {
        CUdeviceptr in, left, right, out;
        float *host_in, *host_out; /* pinned */
        CUstream streams[2];
        CUevent fork, join;
};

static void diamond_make(struct diamond *d)
{
        CU(cuMemAlloc_v2(&d->in, BYTES));
        CU(cuMemAlloc_v2(&d->left, BYTES));
        CU(cuMemAlloc_v2(&d->right, BYTES));
        CU(cuMemAlloc_v2(&d->out, BYTES));
        CU(cuMemHostAlloc((void **)&d->host_in, BYTES, 0));
        CU(cuMemHostAlloc((void **)&d->host_out, BYTES, 0));
        for (int i = 0; i < 2; i++)
                CU(cuStreamCreate(&d->streams[i], CU_STREAM_NON_BLOCKING));
        CU(cuEventCreate(&d->fork, CU_EVENT_DISABLE_TIMING));
        CU(cuEventCreate(&d->join, CU_EVENT_DISABLE_TIMING));
}

static void diamond_end(struct diamond *d)
{
        CU(cuMemFree_v2(d->in));
        CU(cuMemFree_v2(d->left));
        CU(cuMemFree_v2(d->right));
        CU(cuMemFree_v2(d->out));
        CU(cuMemFreeHost(d->host_in));
        CU(cuMemFreeHost(d->host_out));
        CU(cuStreamDestroy_v2(d->streams[0]));
        CU(cuStreamDestroy_v2(d->streams[1]));
        CU(cuEventDestroy_v2(d->fork));
        CU(cuEventDestroy_v2(d->join));
}

static CUstreamCaptureStatus status_of(CUstream stream)
{
        CUstreamCaptureStatus status = (CUstreamCaptureStatus)77;
        CU(cuStreamIsCapturing(stream, &status));
        return status;
}

/* in -> (left = in + in) and (right = in + in by the other stream) -> out = left + right, `extra` more times in. */
static CUgraph diamond_capture(struct diamond *d, CUstreamCaptureMode mode, int extra)
{
        CUgraph graph = NULL, seen = NULL;
        cuuint64_t id = 0, id_joined = 0;
        CUstreamCaptureStatus status;
        const CUgraphNode *dependencies = NULL;
        size_t count = 99;
        CUgraphNodeType type;
        CHECK(status_of(d->streams[0]) == CU_STREAM_CAPTURE_STATUS_NONE, "captures before it began");
        CU(cuStreamBeginCapture_v2(d->streams[0], mode));
        CHECK(status_of(d->streams[0]) == CU_STREAM_CAPTURE_STATUS_ACTIVE, "does not capture");
        CHECK(status_of(d->streams[1]) == CU_STREAM_CAPTURE_STATUS_NONE, "captures without having joined");
        CU(cuMemcpyHtoDAsync_v2(d->in, d->host_in, BYTES, d->streams[0]));
        CU(cuStreamGetCaptureInfo_v2(d->streams[0], &status, &id, &seen, &dependencies, &count));
        CHECK(count == 1 && dependencies != NULL, "%zu dependencies after one copy", count);
        CU(cuGraphNodeGetType(dependencies[0], &type));
        CHECK(type == CU_GRAPH_NODE_TYPE_MEMCPY, "the copy is a node of type %d", (int)type);
        CU(cuEventRecord(d->fork, d->streams[0]));
        CU(cuStreamWaitEvent(d->streams[1], d->fork, 0));
        CHECK(status_of(d->streams[1]) == CU_STREAM_CAPTURE_STATUS_ACTIVE, "has not joined by the event");
        CU(cuStreamGetCaptureInfo_v2(d->streams[1], &status, &id_joined, NULL, NULL, NULL));
        CHECK(id == id_joined, "the joined stream captures %llu, not %llu", (unsigned long long)id_joined,
              (unsigned long long)id);
        vector_add(d->in, d->in, d->left, d->streams[0]);
        CU(cuMemsetD32Async(d->right, 0, COUNT, d->streams[1]));
        vector_add(d->in, d->right, d->right, d->streams[1]);
        CU(cuEventRecord(d->join, d->streams[1]));
        CU(cuStreamWaitEvent(d->streams[0], d->join, 0));
        vector_add(d->left, d->right, d->out, d->streams[0]);
        for (int i = 0; i < extra; i++)
                vector_add(d->out, d->in, d->out, d->streams[0]);
        CU(cuMemcpyDtoHAsync_v2(d->host_out, d->out, BYTES, d->streams[0]));
        CU(cuStreamEndCapture(d->streams[0], &graph));
        CHECK(graph != NULL && graph == seen, "graph %p, during the capture %p", (void *)graph, (void *)seen);
        CHECK(status_of(d->streams[0]) == CU_STREAM_CAPTURE_STATUS_NONE, "captures after the end");
        CHECK(status_of(d->streams[1]) == CU_STREAM_CAPTURE_STATUS_NONE, "the joined stream captures after the end");
        return graph;
}

static void diamond_replay(struct diamond *d, CUgraphExec exec, int rounds, float factor)
{
        for (int round = 0; round < rounds; round++) {
                for (unsigned i = 0; i < COUNT; i++)
                        d->host_in[i] = (float)((int)i * (round + 1) % 1000);
                CU(cuGraphLaunch(exec, d->streams[0]));
                CU(cuStreamSynchronize(d->streams[0]));
                for (unsigned i = 0; i < COUNT; i++)
                        CHECK(d->host_out[i] == factor * d->host_in[i], "round %d, element %u: %g, not %g", round, i,
                              (double)d->host_out[i], (double)(factor * d->host_in[i]));
        }
}

static size_t count_nodes(CUgraph graph)
{
        size_t count = 0;
        CU(cuGraphGetNodes(graph, NULL, &count));
        return count;
}

static void capture_and_replay(struct diamond *d)
{
        CUgraphExec exec;
        CUgraph graph = diamond_capture(d, CU_STREAM_CAPTURE_MODE_GLOBAL, 0);
        d->host_out[0] = -1;
        CU(cuStreamSynchronize(d->streams[0]));
        CHECK(d->host_out[0] == -1.f, "captured work ran");
        CHECK(count_nodes(graph) == 6, "%zu nodes", count_nodes(graph));
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        diamond_replay(d, exec, 100, 3);

        /* The same shape with other parameters: an update. Another shape: refused, and the instance lives on. */
        CUgraphExecUpdateResultInfo info;
        CUdeviceptr other, left = d->left;
        CU(cuMemAlloc_v2(&other, BYTES));
        d->left = other;
        CUgraph same = diamond_capture(d, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, 0);
        CU(cuGraphExecUpdate_v2(exec, same, &info));
        CHECK(info.result == CU_GRAPH_EXEC_UPDATE_SUCCESS, "update %d", (int)info.result);
        CU(cuMemsetD32_v2(left, 0, COUNT));
        CU(cuCtxSynchronize());
        diamond_replay(d, exec, 3, 3);
        float in_other[COUNT];
        CU(cuMemcpyDtoH_v2(in_other, other, BYTES));
        CHECK(in_other[7] == 2 * d->host_in[7], "the updated graph did not write where it should");
        CUgraph longer = diamond_capture(d, CU_STREAM_CAPTURE_MODE_RELAXED, 2);
        CU_EXPECT(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, cuGraphExecUpdate_v2(exec, longer, &info));
        CHECK(info.result != CU_GRAPH_EXEC_UPDATE_SUCCESS, "the outcome of a failed update is %d", (int)info.result);
        diamond_replay(d, exec, 3, 3);
        d->left = left;

        CU(cuGraphExecDestroy(exec));
        CU(cuGraphInstantiateWithFlags(&exec, longer, CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH));
        CU(cuGraphDestroy(longer)); /* the instance does not need it */
        CU(cuGraphUpload(exec, d->streams[1]));
        CU(cuStreamSynchronize(d->streams[1]));
        diamond_replay(d, exec, 10, 5);
        CU(cuGraphExecDestroy(exec));
        CU(cuMemFree_v2(other));
        CU(cuGraphDestroy(graph));
        CU(cuGraphDestroy(same));
}

static void lists_and_clones(struct diamond *d)
{
        CUgraphNode nodes[8], again[8], roots[8], before[8], after[8], found;
        size_t count = 8, roots_count = 8, before_count = 0, after_count = 0;
        CUgraph clone, graph = diamond_capture(d, CU_STREAM_CAPTURE_MODE_GLOBAL, 0);
        CUgraphExec exec;
        CU(cuGraphGetNodes(graph, nodes, &count));
        CHECK(count == 6 && nodes[5] != NULL && nodes[6] == NULL, "%zu nodes", count);
        count = 3;
        CU(cuGraphGetNodes(graph, again, &count));
        CHECK(count == 3, "%zu of 3 nodes", count);
        for (size_t i = 0; i < 3; i++)
                CHECK(again[i] == nodes[i], "node %zu has two handles", i);
        CU(cuGraphGetRootNodes(graph, roots, &roots_count));
        CHECK(roots_count == 1, "%zu root nodes", roots_count);
        CU(cuGraphNodeGetDependencies(roots[0], NULL, &before_count));
        CHECK(before_count == 0, "a root node has %zu dependencies", before_count);
        CU(cuGraphNodeGetDependentNodes(roots[0], NULL, &after_count));
        CHECK(after_count == 2, "%zu nodes follow the copy", after_count);
        CU(cuGraphNodeGetDependentNodes(roots[0], after, &after_count));
        for (size_t i = 0; i < after_count; i++) {
                before_count = 8;
                CU(cuGraphNodeGetDependencies(after[i], before, &before_count));
                CHECK(before_count == 1 && before[0] == roots[0], "node %zu depends on another", i);
        }
        CU(cuGraphClone(&clone, graph));
        CHECK(count_nodes(clone) == 6, "the clone has %zu nodes", count_nodes(clone));
        CU(cuGraphNodeFindInClone(&found, nodes[0], clone));
        CHECK(found != nodes[0], "the clone shares its nodes");
        CU(cuGraphDestroy(graph));
        CU(cuGraphInstantiateWithFlags(&exec, clone, 0));
        diamond_replay(d, exec, 2, 3);
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphDestroy(clone));
}

/* A graph inside another, and capture into a graph that is there already. */
static void by_hand(struct diamond *d)
{
        CUgraph graph, inner = diamond_capture(d, CU_STREAM_CAPTURE_MODE_GLOBAL, 0), ended = NULL;
        CUgraphNode begin, child, end, only[4];
        CUgraphExec exec;
        size_t count = 4;
        CUgraphNodeType type;
        uint32_t word = 0;
        CU(cuGraphCreate(&graph, 0));
        CU(cuGraphAddEmptyNode(&begin, graph, NULL, 0));
        CU(cuGraphAddChildGraphNode(&child, graph, &begin, 1, inner));
        CU(cuGraphAddEventRecordNode(&end, graph, &child, 1, d->join));
        CU(cuGraphNodeGetType(child, &type));
        CHECK(type == CU_GRAPH_NODE_TYPE_GRAPH, "type %d", (int)type);
        CU(cuGraphGetNodes(graph, only, &count));
        CHECK(count == 3, "%zu nodes", count);
        for (size_t i = 0; i < 3; i++)
                CHECK(only[i] == begin || only[i] == child || only[i] == end, "node %zu has two handles", i);
        CU(cuGraphDestroy(inner)); /* it was copied */
        CU(cuStreamBeginCaptureToGraph(d->streams[1], graph, &end, NULL, 1, CU_STREAM_CAPTURE_MODE_RELAXED));
        CU(cuMemsetD32Async(d->left, 77, 1, d->streams[1]));
        CU(cuStreamEndCapture(d->streams[1], &ended));
        CHECK(ended == graph, "another graph came out");
        CHECK(count_nodes(graph) == 4, "%zu nodes", count_nodes(graph));
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        diamond_replay(d, exec, 3, 3);
        CU(cuEventSynchronize(d->join));
        CU(cuMemcpyDtoH_v2(&word, d->left, 4));
        CHECK(word == 77, "the captured set did not run last: %u", word);
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphDestroy(graph));
}

/* Kernels, copies and sets as nodes; edges; parameters changed in the graph and in the instance. */
static void nodes_by_hand(struct diamond *d)
{
        CUgraph graph;
        CUgraphExec exec;
        CUgraphNode set, copy, first, second, back, from[8], to[8];
        CUcontext context;
        CUdeviceptr left = d->left, right = d->right, out = d->out;
        int count = COUNT;
        size_t edges = 8;
        CU(cuCtxGetCurrent(&context));
        CU(cuGraphCreate(&graph, 0));
        CUDA_MEMSET_NODE_PARAMS sets = {.dst = right, .value = 0, .elementSize = 4, .width = COUNT, .height = 1};
        CU(cuGraphAddMemsetNode(&set, graph, NULL, 0, &sets, context));
        CUDA_MEMCPY3D in = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                            .srcHost = d->host_in,
                            .srcPitch = BYTES,
                            .srcHeight = 1,
                            .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                            .dstDevice = left,
                            .dstPitch = BYTES,
                            .dstHeight = 1,
                            .WidthInBytes = BYTES,
                            .Height = 1,
                            .Depth = 1};
        CU(cuGraphAddMemcpyNode(&copy, graph, NULL, 0, &in, context));
        void *parameters[] = {&left, &right, &out, &count};
        CUDA_KERNEL_NODE_PARAMS kernel = {.func = test_function(module, "vector_add"),
                                          .gridDimX = COUNT / 128,
                                          .gridDimY = 1,
                                          .gridDimZ = 1,
                                          .blockDimX = 128,
                                          .blockDimY = 1,
                                          .blockDimZ = 1,
                                          .kernelParams = parameters};
        CUgraphNode both[] = {set, copy};
        CU(cuGraphAddKernelNode_v2(&first, graph, both, 2, &kernel)); /* out = in */
        void *again[] = {&out, &left, &out, &count};
        kernel.kernelParams = again;
        CU(cuGraphAddKernelNode_v2(&second, graph, NULL, 0, &kernel)); /* out += in */
        CU(cuGraphAddDependencies(graph, &first, &second, 1));
        CUgraphNodeParams generic = {.type = CU_GRAPH_NODE_TYPE_MEMCPY};
        generic.memcpy.copyCtx = context;
        generic.memcpy.copyParams = (CUDA_MEMCPY3D){.srcMemoryType = CU_MEMORYTYPE_DEVICE,
                                                    .srcDevice = out,
                                                    .srcPitch = BYTES,
                                                    .srcHeight = 1,
                                                    .dstMemoryType = CU_MEMORYTYPE_HOST,
                                                    .dstHost = d->host_out,
                                                    .dstPitch = BYTES,
                                                    .dstHeight = 1,
                                                    .WidthInBytes = BYTES,
                                                    .Height = 1,
                                                    .Depth = 1};
        CU(cuGraphAddNode_v2(&back, graph, &second, NULL, 1, &generic));
        CU(cuGraphGetEdges(graph, from, to, &edges));
        CHECK(edges == 4, "%zu edges", edges);
        for (size_t i = 0; i < 4; i++)
                CHECK((to[i] == first && (from[i] == set || from[i] == copy)) ||
                              (to[i] == second && from[i] == first) || (to[i] == back && from[i] == second),
                      "edge %zu is between other nodes", i);
        CUDA_GRAPH_INSTANTIATE_PARAMS instantiate = {.flags = 0};
        CU(cuGraphInstantiateWithParams(&exec, graph, &instantiate));
        CHECK(instantiate.result_out == CUDA_GRAPH_INSTANTIATE_SUCCESS, "outcome %d", (int)instantiate.result_out);
        diamond_replay(d, exec, 20, 2);

        /* In the instance only: the second kernel adds the sum to itself. */
        void *doubled[] = {&out, &out, &out, &count};
        kernel.kernelParams = doubled;
        kernel.blockDimX = 64;
        kernel.gridDimX = COUNT / 64;
        CU(cuGraphExecKernelNodeSetParams_v2(exec, first, &kernel)); /* twice what was there before */
        CU(cuMemsetD32_v2(out, 0, COUNT));
        CU(cuCtxSynchronize()); /* the set is asynchronous, and nothing orders it with a non-blocking stream */
        diamond_replay(d, exec, 1, 1);
        kernel.kernelParams = parameters;
        CU(cuGraphExecKernelNodeSetParams_v2(exec, first, &kernel));
        diamond_replay(d, exec, 2, 2);

        /* In the graph: the next instance has it, this one has not. */
        kernel.kernelParams = doubled;
        void *four[] = {&left, &left, &out, &count};
        CU(cuGraphKernelNodeSetParams_v2(second, &kernel));
        kernel.kernelParams = four;
        CU(cuGraphKernelNodeSetParams_v2(first, &kernel));
        diamond_replay(d, exec, 1, 2);
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        diamond_replay(d, exec, 2, 4);
        CU(cuGraphExecDestroy(exec));

        /* Without the set and the copy nothing changes any more. */
        CU(cuGraphRemoveDependencies(graph, &set, &first, 1));
        CU(cuGraphDestroyNode(set));
        CHECK(count_nodes(graph) == 4, "%zu nodes", count_nodes(graph));
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        diamond_replay(d, exec, 2, 4);
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphDestroy(graph));
}

static CUresult allocate_in(CUstreamCaptureMode mode, CUdeviceptr *memory)
{
        CU(cuThreadExchangeStreamCaptureMode(&mode));
        const CUresult result = cuMemAlloc_v2(memory, 4096);
        CU(cuThreadExchangeStreamCaptureMode(&mode));
        return result;
}

static void mistakes(struct diamond *d)
{
        CUgraph graph;
        CUdeviceptr memory;
        CUevent outside;
        CU_EXPECT(CUDA_ERROR_ILLEGAL_STATE, cuStreamEndCapture(d->streams[0], &graph));
        CU_EXPECT(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamBeginCapture_v2(NULL, CU_STREAM_CAPTURE_MODE_GLOBAL));

        /* Waiting for a stream that captures: told at once, and the capture is spoilt. */
        CU(cuStreamBeginCapture_v2(d->streams[0], CU_STREAM_CAPTURE_MODE_GLOBAL));
        CU_EXPECT(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamSynchronize(d->streams[0]));
        CHECK(status_of(d->streams[0]) == CU_STREAM_CAPTURE_STATUS_INVALIDATED, "not invalidated");
        CU_EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuMemsetD32Async(d->in, 0, 1, d->streams[0]));
        CU_EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(d->streams[0], &graph));
        CHECK(graph == NULL, "a graph came of a spoilt capture");

        /* Memory during a capture: by the thread's mode. */
        CU(cuStreamBeginCapture_v2(d->streams[0], CU_STREAM_CAPTURE_MODE_GLOBAL));
        CU(allocate_in(CU_STREAM_CAPTURE_MODE_RELAXED, &memory));
        CU(cuMemsetD32Async(memory, 5, 1, d->streams[0]));
        CHECK(status_of(d->streams[0]) == CU_STREAM_CAPTURE_STATUS_ACTIVE, "spoilt by a relaxed allocation");
        CU_EXPECT(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, allocate_in(CU_STREAM_CAPTURE_MODE_GLOBAL, &memory));
        CU_EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(d->streams[0], &graph));
        CU(cuMemFree_v2(memory));

        /* Work that never comes back to where the capture began. */
        CU(cuStreamBeginCapture_v2(d->streams[0], CU_STREAM_CAPTURE_MODE_GLOBAL));
        CU(cuEventRecord(d->fork, d->streams[0]));
        CU(cuStreamWaitEvent(d->streams[1], d->fork, 0));
        CU(cuMemsetD32Async(d->in, 0, 1, d->streams[1]));
        CU_EXPECT(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, cuStreamEndCapture(d->streams[0], &graph));
        CHECK(status_of(d->streams[1]) == CU_STREAM_CAPTURE_STATUS_NONE, "still captures");

        /* An event from outside. */
        CU(cuEventCreate(&outside, CU_EVENT_DISABLE_TIMING));
        CU(cuEventRecord(outside, d->streams[1]));
        CU(cuStreamBeginCapture_v2(d->streams[0], CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
        CU_EXPECT(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, cuStreamWaitEvent(d->streams[0], outside, 0));
        CU_EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(d->streams[0], &graph));
        CU(cuEventDestroy_v2(outside));

        /* The legacy stream would wait for a blocking stream that captures. */
        CUstream blocking;
        CU(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
        CU(cuStreamBeginCapture_v2(blocking, CU_STREAM_CAPTURE_MODE_RELAXED));
        CU_EXPECT(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, cuMemsetD32Async(d->in, 0, 1, NULL));
        CU_EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(blocking, &graph));
        CU(cuStreamDestroy_v2(blocking));
        CU(cuCtxSynchronize());
}

/* What another thread may do while this one captures hangs on both modes. */
struct other {
        struct diamond *d;
        CUcontext context;
        CUstreamCaptureMode mode;
        CUresult allocated, ended;
};

static void *other_thread(void *argument)
{
        struct other *other = argument;
        CUdeviceptr memory;
        CUgraph graph;
        CU(cuCtxSetCurrent(other->context));
        other->allocated = allocate_in(other->mode, &memory);
        other->ended = CUDA_ERROR_UNKNOWN;
        if (other->allocated != CUDA_SUCCESS)
                return NULL;
        CU(cuThreadExchangeStreamCaptureMode(&(CUstreamCaptureMode){CU_STREAM_CAPTURE_MODE_RELAXED}));
        CU(cuMemFree_v2(memory));
        other->ended = cuStreamEndCapture(other->d->streams[0], &graph);
        if (other->ended == CUDA_SUCCESS)
                CU(cuGraphDestroy(graph));
        return NULL;
}

static struct other beside(struct diamond *d, CUstreamCaptureMode capture, CUstreamCaptureMode mode)
{
        struct other other = {.d = d, .mode = mode};
        pthread_t thread;
        CU(cuCtxGetCurrent(&other.context));
        CU(cuStreamBeginCapture_v2(d->streams[0], capture));
        CU(cuMemsetD32Async(d->left, 3, 1, d->streams[0]));
        CHECK(pthread_create(&thread, NULL, other_thread, &other) == 0, "no thread");
        CHECK(pthread_join(thread, NULL) == 0, "no end of the thread");
        return other;
}

static void threads(struct diamond *d)
{
        CUgraph graph;
        struct other other = beside(d, CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_GLOBAL);
        CHECK(other.allocated == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "allocated beside a global capture: %d",
              (int)other.allocated);
        CU_EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(d->streams[0], &graph));

        other = beside(d, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, CU_STREAM_CAPTURE_MODE_GLOBAL);
        CHECK(other.allocated == CUDA_SUCCESS, "a thread-local capture hinders others: %d", (int)other.allocated);
        CHECK(other.ended == CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "ended by another thread: %d", (int)other.ended);
        CU_EXPECT(CUDA_ERROR_ILLEGAL_STATE, cuStreamEndCapture(d->streams[0], &graph)); /* that ended it all the same */

        other = beside(d, CU_STREAM_CAPTURE_MODE_RELAXED, CU_STREAM_CAPTURE_MODE_GLOBAL);
        CHECK(other.allocated == CUDA_SUCCESS && other.ended == CUDA_SUCCESS, "a relaxed capture: %d, %d",
              (int)other.allocated, (int)other.ended);
        CHECK(status_of(d->streams[0]) == CU_STREAM_CAPTURE_STATUS_NONE, "still captures");
}

int main(void)
{
        struct diamond d;
        test_context();
        module = test_module();
        diamond_make(&d);
        capture_and_replay(&d);
        lists_and_clones(&d);
        by_hand(&d);
        nodes_by_hand(&d);
        mistakes(&d);
        threads(&d);
        diamond_end(&d);
        puts("graphs: right");
        return 0;
}
