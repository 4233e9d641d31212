/* Chains of launches (chain.h). */
#include "chain.h"
#include "vram.h"
#include <stdlib.h>
#include <string.h>

enum kernel_state { KERNEL_PLAIN = 0, KERNEL_CHAINS };

/* What is known of a kernel in a context. */
struct kernel {
        CUfunction handle; /* as records name it, a CUkernel perhaps; NULL: free place */
        CUfunction function;
        ivg_id context;
        enum kernel_state state;
        size_t params_bytes; /* as its first launch had them, which the driver took */
};

struct launch {
        struct ivg_exec_request request; /* for messages; its bytes, and the parameters in them, are the batch's */
        struct kernel *kernel;
        uint32_t grid[3], block[3], shared_bytes;
        const void *params;
        size_t params_bytes;
};

/* So many kernels in a row. */
struct kernel_row {
        CUgraph graph;
        CUgraphExec exec;
        bool refused; /* the driver would not make it */
        CUgraphNode nodes[IVG_CHAIN_LAUNCHES_MAX];
};

struct chain {
        CUstream stream; /* NULL: free place; the legacy stream is CU_STREAM_LEGACY */
        ivg_id context;
        uint64_t launches_seen;
        uint64_t last_launch; /* of all streams' */
        uint32_t count;       /* gathered */
        bool made;            /* has graphs, whose memory is counted on the device */
        CUdevice device;
        struct kernel_row rows[IVG_CHAIN_SIZES]; /* of 1, 2, 4 ... kernels */
        struct launch launches[IVG_CHAIN_LAUNCHES_MAX];
};

struct ivg_chains {
        bool plain; /* from now on all launches are */
        uint64_t launches, launches_at_unmake, patience, patience_min;
        struct chain *last; /* the latest launch's stream; what has been gathered is there, while exec->chains_open */
        struct chain chains[IVG_CHAIN_STREAMS_MAX];
        struct kernel kernels[IVG_CHAIN_KERNELS];
};

/* How patient this process is; false: it wants no chains. */
static bool patience_wanted(uint64_t *patience)
{
        const char *text = getenv("IVGPU_LAUNCHES");

        *patience = text && strcmp(text, "chained") == 0 ? 0 : IVG_CHAIN_PATIENCE_MIN;
        if (!text || *patience == 0)
                return true;
        if (strcmp(text, "plain") != 0)
                ivg_log(IVG_LOG_WARNING, "IVGPU_LAUNCHES: '%s' is neither chained nor plain: plain", text);
        return false;
}

struct ivg_chains *ivg_chains_create(const struct ivg_driver *driver)
{
        struct ivg_chains *chains;
        uint64_t patience;

        if (!patience_wanted(&patience) || !driver->cuGraphCreate || !driver->cuGraphAddKernelNode_v2 ||
            !driver->cuGraphInstantiateWithFlags || !driver->cuGraphExecKernelNodeSetParams_v2 ||
            !driver->cuGraphLaunch || !driver->cuGraphExecDestroy || !driver->cuGraphDestroy ||
            !driver->cuFuncGetAttribute)
                return NULL;
        chains = calloc(1, sizeof(*chains));
        if (chains)
                chains->patience = chains->patience_min = patience;
        return chains;
}

void ivg_chains_destroy(struct ivg_chains *chains)
{
        free(chains);
}

/* ---- kernels ---- */

/* The kernel's place, a free one for it, or NULL. */
static struct kernel *kernel_place(struct ivg_chains *chains, CUfunction handle, ivg_id context)
{
        const uint64_t place = (((uintptr_t)handle >> 4) + context) * 0x9e3779b97f4a7c15u >> 32;

        for (uint32_t probe = 0; probe < IVG_CHAIN_PROBES; probe++) {
                struct kernel *kernel = &chains->kernels[(place + probe) % IVG_CHAIN_KERNELS];

                if ((kernel->handle == handle && kernel->context == context) || kernel->handle == NULL)
                        return kernel;
        }
        return NULL;
}

/* A node takes the function that a kernel is in this context, which must not bring clusters of its own. */
static bool kernel_chains(struct ivg_exec_call *call, const struct ivg_args_ivgLaunch *args, CUfunction *function)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        void *kernel;
        int clusters = 0;

        *function = args->function;
        if (ivg_handle_get(call->exec, IVG_KIND_KERNEL, args->function_id, &kernel) == CUDA_SUCCESS &&
            (!driver->cuKernelGetFunction || driver->cuKernelGetFunction(function, kernel) != CUDA_SUCCESS))
                return false;
        /* A driver that does not know the attribute has no clusters. */
        return driver->cuFuncGetAttribute(&clusters, CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH, *function) !=
                       CUDA_SUCCESS ||
               clusters == 0;
}

void ivg_chain_launched(struct ivg_exec_call *call, const struct ivg_args_ivgLaunch *args)
{
        struct ivg_chains *chains = call->exec->chains;
        struct kernel *kernel;

        if (!chains || ivg_thread_may_wait || chains->plain)
                return;
        kernel = kernel_place(chains, args->function, call->context);
        if (!kernel || kernel->handle)
                return;
        kernel->handle = args->function;
        kernel->context = call->context;
        kernel->params_bytes = args->params_bytes;
        kernel->state = kernel_chains(call, args, &kernel->function) ? KERNEL_CHAINS : KERNEL_PLAIN;
}

/* ---- rows ---- */

static CUDA_KERNEL_NODE_PARAMS node_params(const struct launch *launch, void **extra)
{
        return (CUDA_KERNEL_NODE_PARAMS){.func = launch->kernel->function,
                                         .gridDimX = launch->grid[0],
                                         .gridDimY = launch->grid[1],
                                         .gridDimZ = launch->grid[2],
                                         .blockDimX = launch->block[0],
                                         .blockDimY = launch->block[1],
                                         .blockDimZ = launch->block[2],
                                         .sharedMemBytes = launch->shared_bytes,
                                         .extra = launch->params_bytes ? extra : NULL};
}

static void row_unmake(const struct ivg_driver *driver, struct kernel_row *row)
{
        /* A failure was the context's end. */
        if (row->exec)
                (void)driver->cuGraphExecDestroy(row->exec);
        if (row->graph)
                (void)driver->cuGraphDestroy(row->graph);
        memset(row, 0, sizeof(*row));
}

/* Its nodes are what the launch is, for now. */
static bool row_make(const struct ivg_driver *driver, struct kernel_row *row, uint32_t kernels,
                     const struct launch *launch)
{
        void *extra[] = IVG_PACKED_PARAMS(launch->params, launch->params_bytes);
        const CUDA_KERNEL_NODE_PARAMS params = node_params(launch, extra);
        bool is_node = true;
        CUresult result;

        result = driver->cuGraphCreate(&row->graph, 0);
        for (uint32_t i = 0; i < kernels && result == CUDA_SUCCESS; i++) {
                result = driver->cuGraphAddKernelNode_v2(&row->nodes[i], row->graph, i ? &row->nodes[i - 1] : NULL,
                                                         i != 0, &params);
                is_node = result == CUDA_SUCCESS;
        }
        if (result == CUDA_SUCCESS)
                result = driver->cuGraphInstantiateWithFlags(&row->exec, row->graph, 0);
        if (result == CUDA_SUCCESS)
                return true;
        row_unmake(driver, row);
        if (is_node)
                row->refused = true;
        else /* another kernel may be one */
                launch->kernel->state = KERNEL_PLAIN;
        return false;
}

static bool memory_take(const struct ivg_driver *driver, struct chain *chain)
{
        if (!driver->cuCtxGetDevice || driver->cuCtxGetDevice(&chain->device) != CUDA_SUCCESS)
                chain->device = -1; /* nobody counts there */
        if (ivg_vram_take_unused(chain->device, IVG_CHAIN_STREAM_BYTES))
                return true;
        chain->launches_seen = 0; /* asked again when it has been patient again */
        return false;
}

/* The stream's first graph takes the memory for all of them. */
static bool row_ready(struct ivg_exec *exec, struct chain *chain, uint32_t size, const struct launch *launch)
{
        struct kernel_row *row = &chain->rows[size];

        if (row->exec || row->refused)
                return row->exec != NULL;
        if (!chain->made && !memory_take(&exec->driver, chain))
                return false;
        if (row_make(&exec->driver, row, 1u << size, launch))
                return chain->made = true;
        if (!chain->made)
                ivg_vram_give(chain->device, IVG_CHAIN_STREAM_BYTES);
        return false;
}

/* False: nothing of it has been launched. */
static bool row_launch(struct ivg_exec *exec, struct chain *chain, uint32_t size, const struct launch *launches)
{
        const struct ivg_driver *driver = &exec->driver;
        struct kernel_row *row = &chain->rows[size];

        if (!row->exec && !row_ready(exec, chain, size, launches))
                return false;
        for (uint32_t i = 0; i < 1u << size; i++) {
                void *extra[] = IVG_PACKED_PARAMS(launches[i].params, launches[i].params_bytes);
                const CUDA_KERNEL_NODE_PARAMS params = node_params(&launches[i], extra);

                if (driver->cuGraphExecKernelNodeSetParams_v2(row->exec, row->nodes[i], &params) != CUDA_SUCCESS) {
                        launches[i].kernel->state = KERNEL_PLAIN;
                        return false;
                }
        }
        return driver->cuGraphLaunch(row->exec, chain->stream) == CUDA_SUCCESS;
}

/* ---- chains ---- */

static void launch_plainly(struct ivg_exec *exec, CUstream stream, const struct launch *launch, CUresult result)
{
        void *extra[] = IVG_PACKED_PARAMS(launch->params, launch->params_bytes);

        if (result == CUDA_SUCCESS)
                result = exec->driver.cuLaunchKernel(launch->kernel->handle, launch->grid[0], launch->grid[1],
                                                     launch->grid[2], launch->block[0], launch->block[1],
                                                     launch->block[2], launch->shared_bytes, stream, NULL,
                                                     launch->params_bytes ? extra : NULL);
        if (result != CUDA_SUCCESS)
                ivg_exec_call_failed(exec, &launch->request, result);
}

static void chain_issue(struct ivg_exec *exec, struct chain *chain)
{
        const CUresult entered = ivg_context_enter(exec, chain->context);

        for (uint32_t first = 0, kernels; first < chain->count; first += kernels) {
                const uint32_t size = 31u - (uint32_t)__builtin_clz(chain->count - first);

                kernels = 1u << size;
                if (entered == CUDA_SUCCESS && row_launch(exec, chain, size, &chain->launches[first]))
                        continue;
                for (uint32_t i = first; i < first + kernels; i++)
                        launch_plainly(exec, chain->stream, &chain->launches[i], entered);
        }
        chain->count = 0;
}

void ivg_chains_issue_now(struct ivg_exec *exec)
{
        const ivg_id context = ivg_context_current(); /* of a call that is under way, perhaps */

        chain_issue(exec, exec->chains->last);
        exec->chains_open = false;
        if (context != IVG_ID_NONE)
                (void)ivg_context_enter(exec, context);
}

static void chain_unmake(struct ivg_exec *exec, struct chain *chain)
{
        /* A context that has ended took its graphs with it. */
        if (chain->made && ivg_context_enter(exec, chain->context) == CUDA_SUCCESS)
                for (uint32_t size = 0; size < IVG_CHAIN_SIZES; size++)
                        row_unmake(&exec->driver, &chain->rows[size]);
        if (chain->made)
                ivg_vram_give(chain->device, IVG_CHAIN_STREAM_BYTES);
        memset(chain, 0, sizeof(*chain));
}

/* Graphs have gone that so many launches have used, or might have. */
static void adapt_patience(struct ivg_chains *chains, uint64_t launches)
{
        if (launches > 16 * chains->patience)
                chains->patience = chains->patience_min;
        else if (chains->patience < IVG_CHAIN_PATIENCE_MAX)
                chains->patience *= 2;
}

static void unmake_all(struct ivg_exec *exec)
{
        struct ivg_chains *chains = exec->chains;
        const uint64_t launches = chains->launches - chains->launches_at_unmake;
        bool any = false;

        for (uint32_t i = 0; i < IVG_CHAIN_STREAMS_MAX; i++) {
                any |= chains->chains[i].made;
                chain_unmake(exec, &chains->chains[i]);
        }
        memset(chains->kernels, 0, sizeof(chains->kernels));
        chains->last = NULL;
        if (!any)
                return;
        chains->launches_at_unmake = chains->launches;
        adapt_patience(chains, launches);
}

static struct chain *find_chain(struct ivg_chains *chains, CUstream stream, ivg_id context)
{
        if (chains->last && chains->last->stream == stream && chains->last->context == context)
                return chains->last;
        for (uint32_t i = 0; i < IVG_CHAIN_STREAMS_MAX; i++)
                if (chains->chains[i].stream == stream && chains->chains[i].context == context)
                        return &chains->chains[i];
        return NULL;
}

/* A free place, or that of a stream that is not used; NULL: all are. */
static struct chain *take_place(struct ivg_exec *exec, CUstream stream, ivg_id context)
{
        struct ivg_chains *chains = exec->chains;
        struct chain *oldest = &chains->chains[0];

        for (uint32_t i = 1; i < IVG_CHAIN_STREAMS_MAX && oldest->stream; i++)
                if (!chains->chains[i].stream || chains->chains[i].last_launch < oldest->last_launch)
                        oldest = &chains->chains[i];
        if (oldest->stream && chains->launches - oldest->last_launch < IVG_CHAIN_STREAM_IDLE)
                return NULL;
        chain_unmake(exec, oldest);
        if (ivg_context_enter(exec, context) != CUDA_SUCCESS)
                return NULL;
        oldest->stream = stream;
        oldest->context = context;
        return oldest;
}

/* The launch's stream among the chains; NULL: it is to be a plain launch. Issues what another stream has gathered. */
static struct chain *chain_for(struct ivg_exec_call *call, const struct ivg_args_ivgLaunch *args)
{
        struct ivg_exec *exec = call->exec;
        struct ivg_chains *chains = exec->chains;
        struct chain *chain;

        if (chains->plain || call->temporaries || args->params_bytes > IVG_CHAIN_PARAMS_BYTES_MAX ||
            ivg_load_relaxed_u32(&exec->green_count) != 0)
                return NULL;
        chains->launches++;
        chain = find_chain(chains, args->stream, call->context);
        if (chain != chains->last)
                ivg_chains_issue(exec);
        if (!chain)
                chain = take_place(exec, args->stream, call->context);
        if (!chain)
                return NULL;
        chains->last = chain;
        chain->last_launch = chains->launches;
        return ++chain->launches_seen > chains->patience || chain->made ? chain : NULL;
}

/* The launch's kernel if it may be a node; NULL: it is to be a plain launch. */
static struct kernel *kernel_for(struct ivg_exec_call *call, const struct ivg_args_ivgLaunch *args)
{
        struct kernel *kernel = kernel_place(call->exec->chains, args->function, call->context);

        /* A free place is no kernel that chains. */
        return kernel && kernel->state == KERNEL_CHAINS && kernel->params_bytes == args->params_bytes ? kernel : NULL;
}

bool ivg_chain_launch(struct ivg_exec_call *call, const struct ivg_args_ivgLaunch *args)
{
        struct ivg_exec *exec = call->exec;
        struct kernel *kernel;
        struct chain *chain;

        if (!exec->chains || !call->whole || call->whole->wants_answer || ivg_thread_may_wait)
                return false;
        chain = chain_for(call, args);
        kernel = chain ? kernel_for(call, args) : NULL;
        if (!kernel || chain->count == IVG_CHAIN_LAUNCHES_MAX)
                ivg_chains_issue(exec);
        if (!kernel)
                return false;
        exec->chains_open = true;
        chain->launches[chain->count++] = (struct launch){.request = *call->whole,
                                                          .kernel = kernel,
                                                          .grid = {args->grid_x, args->grid_y, args->grid_z},
                                                          .block = {args->block_x, args->block_y, args->block_z},
                                                          .shared_bytes = args->shared_bytes,
                                                          .params = args->params,
                                                          .params_bytes = args->params_bytes};
        return true;
}

/* ---- ends ---- */

static void stream_ends(struct ivg_exec *exec, CUstream stream)
{
        struct ivg_chains *chains = exec->chains;

        for (uint32_t i = 0; i < IVG_CHAIN_STREAMS_MAX; i++) {
                struct chain *chain = &chains->chains[i];

                if (chain->stream != stream)
                        continue;
                if (chain->made)
                        adapt_patience(chains, chain->launches_seen);
                chain_unmake(exec, chain);
        }
}

/* Kernels may have clusters from now on, or none: their next launches tell. */
static void kernels_forget(struct ivg_chains *chains, int32_t attribute)
{
        if (attribute >= CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH)
                memset(chains->kernels, 0, sizeof(chains->kernels));
}

void ivg_chains_unmake(struct ivg_exec *exec, const struct ivg_exec_request *request)
{
        union { /* their lengths have been checked */
                struct ivg_request_cuStreamDestroy_v2 stream;
                struct ivg_request_cuFuncSetAttribute function;
                struct ivg_request_cuKernelSetAttribute kernel;
        } of;
        void *stream;

        switch (request->descriptor->number) {
        case IVG_CALL_cuStreamDestroy_v2:
                memcpy(&of.stream, request->bytes, sizeof(of.stream));
                if (ivg_handle_get(exec, IVG_KIND_STREAM, of.stream.hStream, &stream) == CUDA_SUCCESS)
                        stream_ends(exec, stream);
                return;
        case IVG_CALL_ivgThreadEnd: /* here, as it may run on a lane */
                for (uint32_t i = 0; i < IVG_THREAD_STREAMS_MAX; i++)
                        if ((stream = ivg_thread_stream(exec, request->producer, i)))
                                stream_ends(exec, stream);
                return;
        case IVG_CALL_cuFuncSetAttribute:
                memcpy(&of.function, request->bytes, sizeof(of.function));
                kernels_forget(exec->chains, of.function.attrib);
                return;
        case IVG_CALL_cuKernelSetAttribute:
                memcpy(&of.kernel, request->bytes, sizeof(of.kernel));
                kernels_forget(exec->chains, of.kernel.attrib);
                return;
        case IVG_CALL_cuStreamSetAttribute:
        case IVG_CALL_cuStreamCopyAttributes:
        case IVG_CALL_cuCtxSetCacheConfig:
        case IVG_CALL_cuCtxSetSharedMemConfig:
                exec->chains->plain = true;
                break;
        default:
                break;
        }
        unmake_all(exec);
}
