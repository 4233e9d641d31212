/* Graphs that are lists of launches. */
#include "exec_fake_graphs.h"
#include <stdlib.h>
#include <string.h>

struct fake_graphs fake_graphs;

struct graph {
        uint32_t count;
        struct fake_arrival nodes[FAKE_GRAPH_NODES_MAX];
};

struct graph_exec {
        const struct graph *graph;
        struct graph now;
};

static struct fake_arrival arrivals[FAKE_ARRIVALS_MAX];
static uint32_t arrivals_count;
static pthread_mutex_t arrivals_mutex = PTHREAD_MUTEX_INITIALIZER;

uint32_t fake_arrivals(const struct fake_arrival **list)
{
        uint32_t count;

        pthread_mutex_lock(&arrivals_mutex);
        *list = arrivals;
        count = arrivals_count;
        pthread_mutex_unlock(&arrivals_mutex);
        return count;
}

static void arrive(const struct fake_arrival *arrival, uint32_t graph, CUstream stream)
{
        pthread_mutex_lock(&arrivals_mutex);
        if (arrivals_count < FAKE_ARRIVALS_MAX) {
                arrivals[arrivals_count] = *arrival;
                arrivals[arrivals_count].graph = graph;
                arrivals[arrivals_count++].stream = (uintptr_t)stream;
        }
        pthread_mutex_unlock(&arrivals_mutex);
}

static struct fake_arrival read_launch(CUfunction function, uint32_t number, void *const *extra)
{
        struct fake_arrival arrival = {.function = (uintptr_t)function, .number = number};
        size_t bytes;

        if (!extra)
                return arrival;
        memcpy(&bytes, extra[3], sizeof(bytes));
        arrival.params_bytes = (uint32_t)bytes;
        memcpy(arrival.params, extra[1], bytes < sizeof(arrival.params) ? bytes : sizeof(arrival.params));
        return arrival;
}

/* ---- launches and what may stand between ---- */

static CUresult launch(CUfunction function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx,
                       unsigned int by, unsigned int bz, unsigned int shared, CUstream stream, void **params,
                       void **extra)
{
        const struct fake_arrival arrival = read_launch(function, gx, extra);

        (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared, (void)params;
        if (gx == atomic_load(&fake_graphs.plain_fails))
                return CUDA_ERROR_INVALID_VALUE;
        arrive(&arrival, FAKE_PLAIN, stream);
        return CUDA_SUCCESS;
}

static CUresult event_record(CUevent event, CUstream stream)
{
        const struct fake_arrival arrival = {.function = (uintptr_t)event};

        if (atomic_exchange(&fake_graphs.hold, 0)) {
                atomic_fetch_add(&fake_graphs.held, 1);
                sem_wait(&fake.release);
        } else {
                arrive(&arrival, FAKE_NO_LAUNCH, stream);
        }
        return CUDA_SUCCESS;
}

static CUresult set(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream)
{
        const struct fake_arrival arrival = {.function = value};

        (void)to, (void)bytes;
        arrive(&arrival, FAKE_NO_LAUNCH, stream);
        return CUDA_SUCCESS;
}

static CUresult function_attribute(int *value, CUfunction_attribute attribute, CUfunction function)
{
        *value = attribute == CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH &&
                 (uintptr_t)function == atomic_load(&fake_graphs.clustered);
        return CUDA_SUCCESS;
}

static CUresult function_set_attribute(CUfunction function, CUfunction_attribute attribute, int value)
{
        if (attribute == CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH && value != 0)
                atomic_store(&fake_graphs.clustered, (uintptr_t)function);
        return CUDA_SUCCESS;
}

/* ---- graphs ---- */

/* What lives; a driver frees it with its context or its process. The consumer's, then the test's. */
static void *objects[1024];

static void *object_new(size_t bytes)
{
        for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++)
                if (!objects[i])
                        return objects[i] = calloc(1, bytes);
        return NULL;
}

static void object_free(const void *object)
{
        for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++)
                if (objects[i] == object) {
                        free(objects[i]);
                        objects[i] = NULL;
                        return;
                }
        abort(); /* twice, or never made */
}

void fake_graphs_free(void)
{
        for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
                free(objects[i]);
                objects[i] = NULL;
        }
}

static CUresult graph_create(CUgraph *out, unsigned int flags)
{
        struct graph *graph = object_new(sizeof(*graph));

        (void)flags;
        if (!graph)
                return CUDA_ERROR_OUT_OF_MEMORY;
        atomic_fetch_add(&fake_graphs.graphs, 1);
        *out = (CUgraph)(void *)graph;
        return CUDA_SUCCESS;
}

static CUresult graph_destroy(CUgraph graph)
{
        object_free(graph);
        atomic_fetch_sub(&fake_graphs.graphs, 1);
        return CUDA_SUCCESS;
}

static CUresult graph_add(CUgraphNode *node, CUgraph handle, const CUgraphNode *after, size_t after_count,
                          const CUDA_KERNEL_NODE_PARAMS *params)
{
        struct graph *graph = (struct graph *)(void *)handle;

        /* A row, each node behind the one before it. */
        if (graph->count == FAKE_GRAPH_NODES_MAX || after_count != (graph->count != 0) ||
            (after_count && *after != (CUgraphNode)(void *)&graph->nodes[graph->count - 1]))
                return CUDA_ERROR_NOT_SUPPORTED;
        if (params->gridDimX == atomic_load(&fake_graphs.added_fails))
                return CUDA_ERROR_INVALID_VALUE;
        *node = (CUgraphNode)(void *)&graph->nodes[graph->count];
        graph->nodes[graph->count++] = read_launch(params->func, params->gridDimX, params->extra);
        return CUDA_SUCCESS;
}

static CUresult graph_instantiate(CUgraphExec *out, CUgraph graph, unsigned long long flags)
{
        struct graph_exec *exec;

        (void)flags;
        atomic_fetch_add(&fake_graphs.instantiations, 1);
        exec = atomic_load(&fake_graphs.makes_no_execs) ? NULL : object_new(sizeof(*exec));
        if (!exec)
                return CUDA_ERROR_OUT_OF_MEMORY;
        exec->graph = (const struct graph *)(const void *)graph;
        exec->now = *exec->graph;
        atomic_fetch_add(&fake_graphs.execs_made, 1);
        atomic_fetch_add(&fake_graphs.execs, 1);
        *out = (CUgraphExec)(void *)exec;
        return CUDA_SUCCESS;
}

static CUresult graph_set(CUgraphExec handle, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *params)
{
        struct graph_exec *exec = (struct graph_exec *)(void *)handle;
        const ptrdiff_t index = (const struct fake_arrival *)(const void *)node - exec->graph->nodes;

        if (params->gridDimX == atomic_load(&fake_graphs.node_fails))
                return CUDA_ERROR_INVALID_VALUE;
        exec->now.nodes[index] = read_launch(params->func, params->gridDimX, params->extra);
        return CUDA_SUCCESS;
}

static CUresult graph_launch(CUgraphExec handle, CUstream stream)
{
        const struct graph_exec *exec = (const struct graph_exec *)(const void *)handle;

        if (atomic_load(&fake_graphs.launches_fail) > 0) {
                atomic_fetch_sub(&fake_graphs.launches_fail, 1);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        for (uint32_t i = 0; i < exec->now.count; i++)
                arrive(&exec->now.nodes[i], exec->now.count, stream);
        return CUDA_SUCCESS;
}

static CUresult graph_exec_destroy(CUgraphExec exec)
{
        object_free(exec);
        atomic_fetch_sub(&fake_graphs.execs, 1);
        return CUDA_SUCCESS;
}

/* ---- what ends, or changes what graphs hold ---- */

static CUresult end(void)
{
        atomic_fetch_add(&fake_graphs.graphs_left_at_end,
                         atomic_load(&fake_graphs.execs) + atomic_load(&fake_graphs.graphs));
        atomic_fetch_add(&fake_graphs.ends, 1);
        return CUDA_SUCCESS;
}

static CUresult stream_destroy(CUstream stream)
{
        (void)stream;
        return end();
}

static CUresult module_unload(CUmodule module)
{
        (void)module;
        return end();
}

static CUresult context_release(CUdevice device)
{
        (void)device;
        return end();
}

static CUresult context_set_limit(CUlimit limit, size_t value)
{
        (void)limit, (void)value;
        return end();
}

static CUresult context_set_cache(CUfunc_cache config)
{
        (void)config;
        return end();
}

void fake_graphs_fill(struct ivg_driver *driver)
{
        memset(&fake_graphs, 0, sizeof(fake_graphs));
        arrivals_count = 0;
        driver->cuLaunchKernel = launch;
        driver->cuEventRecord = event_record;
        driver->cuMemsetD8Async = set;
        driver->cuFuncGetAttribute = function_attribute;
        driver->cuFuncSetAttribute = function_set_attribute;
        driver->cuGraphCreate = graph_create;
        driver->cuGraphDestroy = graph_destroy;
        driver->cuGraphAddKernelNode_v2 = graph_add;
        driver->cuGraphInstantiateWithFlags = graph_instantiate;
        driver->cuGraphExecKernelNodeSetParams_v2 = graph_set;
        driver->cuGraphLaunch = graph_launch;
        driver->cuGraphExecDestroy = graph_exec_destroy;
        driver->cuStreamDestroy_v2 = stream_destroy;
        driver->cuModuleUnload = module_unload;
        driver->cuDevicePrimaryCtxRelease_v2 = context_release;
        driver->cuCtxSetLimit = context_set_limit;
        driver->cuCtxSetCacheConfig = context_set_cache;
}
