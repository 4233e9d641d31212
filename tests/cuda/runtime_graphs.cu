/* Graphs through the runtime API, as frameworks use them: an allocation in the midst of a capture, replays, an update,
 * and a graph by hand. */
#include <cstdio>
#include <cstdlib>

#define RT(...)                                                                                                  \
        do {                                                                                                     \
                const cudaError_t rt_result_ = (__VA_ARGS__);                                                    \
                if (rt_result_ != cudaSuccess) {                                                                 \
                        fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #__VA_ARGS__, cudaGetErrorString(rt_result_)); \
                        exit(1);                                                                                 \
                }                                                                                                \
        } while (0)

__global__ void add(int *out, int value)
{
        atomicAdd(out + threadIdx.x, value);
}

static void expect(const int *host, int value, const char *when)
{
        for (int i = 0; i < 64; i++)
                if (host[i] != value) {
                        fprintf(stderr, "%s: element %d is %d, not %d\n", when, i, host[i], value);
                        exit(1);
                }
}

static cudaGraph_t capture(cudaStream_t stream, cudaStreamCaptureMode mode, int *device, int *host, int value)
{
        cudaGraph_t graph;
        int *more;
        cudaStreamCaptureMode relaxed = cudaStreamCaptureModeRelaxed;
        RT(cudaStreamBeginCapture(stream, mode));
        RT(cudaThreadExchangeStreamCaptureMode(&relaxed));
        RT(cudaMalloc(&more, 4096));
        RT(cudaFree(more));
        RT(cudaThreadExchangeStreamCaptureMode(&relaxed));
        add<<<1, 64, 0, stream>>>(device, value);
        RT(cudaGetLastError());
        RT(cudaMemcpyAsync(host, device, 256, cudaMemcpyDeviceToHost, stream));
        RT(cudaStreamEndCapture(stream, &graph));
        return graph;
}

int main()
{
        int *device, *host, value = 7;
        size_t nodes = 0;
        cudaStream_t stream;
        cudaGraphExec_t exec;
        cudaGraphExecUpdateResultInfo info;
        RT(cudaMalloc(&device, 256));
        RT(cudaMallocHost(&host, 256));
        RT(cudaMemset(device, 0, 256));
        RT(cudaDeviceSynchronize());
        RT(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));

        cudaGraph_t graph = capture(stream, cudaStreamCaptureModeGlobal, device, host, 2);
        RT(cudaGraphGetNodes(graph, NULL, &nodes));
        if (nodes != 2) {
                fprintf(stderr, "%zu nodes\n", nodes);
                return 1;
        }
        RT(cudaGraphInstantiateWithFlags(&exec, graph, cudaGraphInstantiateFlagAutoFreeOnLaunch));
        for (int i = 0; i < 10; i++)
                RT(cudaGraphLaunch(exec, stream));
        RT(cudaStreamSynchronize(stream));
        expect(host, 20, "replays");

        cudaGraph_t other = capture(stream, cudaStreamCaptureModeRelaxed, device, host, 5);
        RT(cudaGraphExecUpdate(exec, other, &info));
        RT(cudaGraphLaunch(exec, stream));
        RT(cudaStreamSynchronize(stream));
        expect(host, 25, "update");
        RT(cudaGraphExecDestroy(exec));
        RT(cudaGraphDestroy(graph));
        RT(cudaGraphDestroy(other));

        cudaGraphNode_t kernel, copy;
        void *arguments[] = {&device, &value};
        cudaKernelNodeParams params = {};
        params.func = (void *)add;
        params.gridDim = 1;
        params.blockDim = 64;
        params.kernelParams = arguments;
        RT(cudaGraphCreate(&graph, 0));
        RT(cudaGraphAddKernelNode(&kernel, graph, NULL, 0, &params));
        RT(cudaGraphAddMemcpyNode1D(&copy, graph, &kernel, 1, host, device, 256, cudaMemcpyDeviceToHost));
        RT(cudaGraphInstantiateWithFlags(&exec, graph, 0));
        RT(cudaGraphLaunch(exec, stream));
        RT(cudaStreamSynchronize(stream));
        expect(host, 32, "by hand");
        puts("runtime_graphs: right");
        return 0;
}
