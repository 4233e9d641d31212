/* What the programs about graphs share. */
#ifndef IVG_TEST_GRAPH_CHECK_H
#define IVG_TEST_GRAPH_CHECK_H

#include "check.h"

static inline CUgraph test_graph(void)
{
        CUgraph graph;
        CU(cuGraphCreate(&graph, 0));
        return graph;
}

static inline void test_graph_launch(CUgraphExec exec, CUstream stream)
{
        CU(cuGraphLaunch(exec, stream));
        CU(cuStreamSynchronize(stream));
}

/* Instantiates, launches once, waits, ends both. */
static inline void test_graph_run(CUgraph graph, CUstream stream)
{
        CUgraphExec exec;
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        test_graph_launch(exec, stream);
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphDestroy(graph));
}

/* A copy of one row from device memory to the program's. */
static inline CUDA_MEMCPY3D test_row_to_host(void *to, CUdeviceptr from, size_t bytes)
{
        return (CUDA_MEMCPY3D){.srcMemoryType = CU_MEMORYTYPE_DEVICE,
                               .srcDevice = from,
                               .srcPitch = bytes,
                               .srcHeight = 1,
                               .dstMemoryType = CU_MEMORYTYPE_HOST,
                               .dstHost = to,
                               .dstPitch = bytes,
                               .dstHeight = 1,
                               .WidthInBytes = bytes,
                               .Height = 1,
                               .Depth = 1};
}

#endif
