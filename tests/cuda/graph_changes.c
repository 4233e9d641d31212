/* Changing what a graph's nodes and an instance's do: each kind by its own call and by the one for all kinds, nodes
 * switched off and on, whole updates, and the interface's older versions. */
#include "graph_check.h"

#define COUNT 256u
#define BYTES (COUNT * sizeof(uint32_t))

static CUcontext context;
static CUmodule module;
static CUstream stream;
static CUdeviceptr memory, other;
static uint32_t *pinned;

static void clear(void)
{
        CU(cuMemsetD32Async(memory, 0, COUNT, stream));
        CU(cuMemsetD32Async(other, 0, COUNT, stream));
        CU(cuStreamSynchronize(stream));
}

static uint32_t word(CUdeviceptr from, uint32_t index)
{
        uint32_t value = 0;
        CU(cuMemcpyDtoH_v2(&value, from + index * 4, 4));
        return value;
}

/* ---- parameters ---- */

static CUDA_MEMSET_NODE_PARAMS set_of(CUdeviceptr to, unsigned value)
{
        return (CUDA_MEMSET_NODE_PARAMS){.dst = to, .value = value, .elementSize = 4, .width = COUNT, .height = 1};
}

/* fill_u32(memory, value, count): word i becomes value + i. */
struct fill {
        CUdeviceptr memory;
        uint32_t value;
        uint64_t count;
        void *parameters[3];
};

static CUDA_KERNEL_NODE_PARAMS_v1 fill_of(struct fill *fill, CUdeviceptr to, uint32_t value)
{
        *fill = (struct fill){.memory = to, .value = value, .count = COUNT};
        fill->parameters[0] = &fill->memory;
        fill->parameters[1] = &fill->value;
        fill->parameters[2] = &fill->count;
        return (CUDA_KERNEL_NODE_PARAMS_v1){.func = test_function(module, "fill_u32"),
                                            .gridDimX = 4,
                                            .gridDimY = 1,
                                            .gridDimZ = 1,
                                            .blockDimX = 64,
                                            .blockDimY = 1,
                                            .blockDimZ = 1,
                                            .kernelParams = fill->parameters};
}

/* ---- nodes of an instance, one by one ---- */

static void kernels(void)
{
        struct fill fill;
        CUDA_KERNEL_NODE_PARAMS_v1 params = fill_of(&fill, memory, 100);
        CUgraph graph = test_graph();
        CUgraphNode node;
        CUgraphExec exec;
        cuuint64_t flags = 77;
        CU(cuGraphAddKernelNode(&node, graph, NULL, 0, &params));
        params = fill_of(&fill, memory, 200);
        CU(cuGraphKernelNodeSetParams(node, &params));
        CU(cuGraphInstantiate(&exec, graph, NULL, NULL, 0));
        CU(cuGraphExecGetFlags(exec, &flags));
        CHECK(flags == 0, "flags %llu", (unsigned long long)flags);
        test_graph_launch(exec, stream);
        CHECK(word(memory, 3) == 203, "%u", word(memory, 3));
        params = fill_of(&fill, other, 300);
        CU(cuGraphExecKernelNodeSetParams(exec, node, &params));
        clear();
        test_graph_launch(exec, stream);
        CHECK(word(memory, 3) == 0 && word(other, 3) == 303, "%u, %u", word(memory, 3), word(other, 3));

        /* Off and on again; the graph's own node stays as it was. */
        unsigned on = 77;
        CU(cuGraphNodeGetEnabled(exec, node, &on));
        CHECK(on == 1, "enabled %u", on);
        CU(cuGraphNodeSetEnabled(exec, node, 0));
        CU(cuGraphNodeGetEnabled(exec, node, &on));
        CHECK(on == 0, "enabled %u", on);
        clear();
        test_graph_launch(exec, stream);
        CHECK(word(other, 3) == 0, "a node that is off has run");
        CU(cuGraphNodeSetEnabled(exec, node, 1));
        test_graph_launch(exec, stream);
        CHECK(word(other, 3) == 303, "a node that is on again has not run");
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphDestroy(graph));
}

static void sets_and_copies(void)
{
        CUDA_MEMSET_NODE_PARAMS set = set_of(memory, 5);
        CUDA_MEMCPY3D copy = test_row_to_host(pinned, memory, BYTES);
        CUgraph graph = test_graph();
        CUgraphNode nodes[2];
        CUgraphExec exec;
        char log[8] = "xxxxxxx";
        CU(cuGraphAddMemsetNode(&nodes[0], graph, NULL, 0, &set, context));
        CU(cuGraphAddMemcpyNode(&nodes[1], graph, nodes, 1, &copy, context));
        CU(cuGraphInstantiate_v2(&exec, graph, NULL, log, sizeof(log)));
        CHECK(log[0] == '\0', "the log says %s", log);
        set.value = 6;
        CU(cuGraphExecMemsetNodeSetParams(exec, nodes[0], &set, context));
        copy.dstHost = pinned + COUNT;
        CU(cuGraphExecMemcpyNodeSetParams(exec, nodes[1], &copy, context));
        memset(pinned, 0, 2 * BYTES);
        test_graph_launch(exec, stream);
        CHECK(pinned[0] == 0 && pinned[COUNT] == 6 && pinned[2 * COUNT - 1] == 6, "%u, %u", pinned[0], pinned[COUNT]);

        /* By the call for all kinds. */
        CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEMSET};
        params.memset = (CUDA_MEMSET_NODE_PARAMS_v2){
                .dst = memory, .value = 7, .elementSize = 4, .width = COUNT, .height = 1, .ctx = context};
        CU(cuGraphExecNodeSetParams(exec, nodes[0], &params));
        test_graph_launch(exec, stream);
        CHECK(pinned[COUNT] == 7, "%u", pinned[COUNT]);
        params.memset.value = 8;
        CU(cuGraphNodeSetParams(nodes[0], &params));
        test_graph_launch(exec, stream);
        CHECK(pinned[COUNT] == 7, "a change of the graph has reached its instance: %u", pinned[COUNT]);

        /* The graph as it is now, with the first version's answer. */
        CUgraphNode wrong = nodes[0];
        CUgraphExecUpdateResult outcome = CU_GRAPH_EXEC_UPDATE_ERROR;
        CU(cuGraphExecUpdate(exec, graph, &wrong, &outcome));
        CHECK(outcome == CU_GRAPH_EXEC_UPDATE_SUCCESS && wrong == NULL, "outcome %d", (int)outcome);
        test_graph_launch(exec, stream);
        CHECK(pinned[0] == 8, "%u", pinned[0]);
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphDestroy(graph));
}

static void children(void)
{
        const CUDA_MEMSET_NODE_PARAMS first = set_of(memory, 1), second = set_of(memory, 2);
        CUgraph graph = test_graph(), child = test_graph(), changed;
        CUgraphNode node;
        CUgraphExec exec;
        CU(cuGraphAddMemsetNode(&node, child, NULL, 0, &first, context));
        CU(cuGraphClone(&changed, child));
        CU(cuGraphNodeFindInClone(&node, node, changed));
        CU(cuGraphMemsetNodeSetParams(node, &second));
        CU(cuGraphAddChildGraphNode(&node, graph, NULL, 0, child));
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        CU(cuGraphExecChildGraphNodeSetParams(exec, node, changed));
        test_graph_launch(exec, stream);
        CHECK(word(memory, 9) == 2, "%u", word(memory, 9));
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphDestroy(graph));
        CU(cuGraphDestroy(child));
        CU(cuGraphDestroy(changed));
}

/* What the instance records and waits for is another event than the graph says. */
static void events(void)
{
        CUevent events[3];
        CUgraph graph = test_graph();
        CUgraphNode waits, records;
        CUgraphExec exec;
        CUevent told;
        for (int i = 0; i < 3; i++)
                CU(cuEventCreate(&events[i], CU_EVENT_DISABLE_TIMING));
        CU(cuGraphAddEventWaitNode(&waits, graph, NULL, 0, events[0]));
        CU(cuGraphAddEventRecordNode(&records, graph, &waits, 1, events[0]));
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        CU(cuGraphExecEventWaitNodeSetEvent(exec, waits, events[1]));
        CU(cuGraphExecEventRecordNodeSetEvent(exec, records, events[2]));
        CU(cuGraphEventRecordNodeGetEvent(records, &told));
        CHECK(told == events[0], "the graph's own node has changed");
        CU(cuStreamWaitValue32_v2(stream, memory, 0, CU_STREAM_WAIT_VALUE_GEQ));
        CU(cuEventRecord(events[1], stream));
        CU(cuGraphLaunch(exec, stream));
        CU(cuEventSynchronize(events[2]));
        CU(cuStreamSynchronize(stream));
        CU(cuEventQuery(events[2]));
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphDestroy(graph));
        for (int i = 0; i < 3; i++)
                CU(cuEventDestroy_v2(events[i]));
}

/* ---- the first version of a capture ---- */

static void capture_as_it_began(void)
{
        CUgraph graph;
        CUgraphExec exec;
        CU(cuStreamBeginCapture(stream));
        CU(cuMemsetD32Async(memory, 12, COUNT, stream));
        CU(cuStreamEndCapture(stream, &graph));
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        test_graph_launch(exec, stream);
        CHECK(word(memory, 0) == 12, "%u", word(memory, 0));
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphDestroy(graph));
}

int main(void)
{
        context = test_context();
        module = test_module();
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuMemAlloc_v2(&memory, BYTES));
        CU(cuMemAlloc_v2(&other, BYTES));
        CU(cuMemHostAlloc((void **)&pinned, 2 * BYTES, 0));
        clear();
        kernels();
        sets_and_copies();
        children();
        events();
        capture_as_it_began();
        CU(cuMemFreeHost(pinned));
        CU(cuMemFree_v2(memory));
        CU(cuMemFree_v2(other));
        CU(cuStreamDestroy_v2(stream));
        puts("graph changes: right");
        return 0;
}
