// The runtime API as nvcc's programs use it: built with static and with shared cudart, run unmodified.
#include <cstdio>
#include <cstdlib>
#include <cmath>
#include <vector>

#define OK(call)                                                                                                       \
        do {                                                                                                           \
                cudaError_t e_ = (call);                                                                               \
                if (e_ != cudaSuccess) {                                                                               \
                        fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(e_));         \
                        exit(1);                                                                                       \
                }                                                                                                      \
        } while (0)
#define MUST(condition)                                                                                                \
        do {                                                                                                           \
                if (!(condition)) {                                                                                    \
                        fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                  \
                        exit(1);                                                                                       \
                }                                                                                                      \
        } while (0)

__constant__ float scale[2];
__device__ int touched;

template <typename T> __global__ void axpy(const T *x, T *y, int n)
{
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < n)
                y[i] = (T)(scale[0] * x[i] + scale[1] * y[i]);
        if (i == 0)
                atomicAdd(&touched, 1);
}

__global__ void block_sum(const float *in, float *out, int n)
{
        __shared__ float part[8];
        float sum = 0;
        for (int i = threadIdx.x; i < n; i += blockDim.x)
                sum += in[i];
        for (int d = 16; d; d >>= 1)
                sum += __shfl_xor_sync(0xffffffff, sum, d);
        if (threadIdx.x % 32 == 0)
                part[threadIdx.x / 32] = sum;
        __syncthreads();
        if (threadIdx.x == 0) {
                sum = 0;
                for (int i = 0; i < 8; i++)
                        sum += part[i];
                *out = sum;
        }
}

int main()
{
        const int n = 100000;
        cudaDeviceProp properties;
        int count;
        OK(cudaGetDeviceCount(&count));
        MUST(count >= 1);
        OK(cudaGetDeviceProperties(&properties, 0));
        MUST(properties.warpSize == 32 && properties.multiProcessorCount > 0);

        std::vector<float> x(n), y(n), r(n);
        for (int i = 0; i < n; i++) {
                x[i] = 0.25f * i;
                y[i] = 3.0f * (i % 17);
        }
        const float factors[2] = {2.0f, -0.5f};
        float *dx, *dy;
        cudaStream_t stream;
        cudaEvent_t begin, end;
        OK(cudaMalloc(&dx, n * sizeof(float)));
        OK(cudaMalloc(&dy, n * sizeof(float)));
        OK(cudaStreamCreate(&stream));
        OK(cudaEventCreate(&begin));
        OK(cudaEventCreate(&end));
        OK(cudaMemcpyToSymbol(scale, factors, sizeof factors));
        OK(cudaMemcpyAsync(dx, x.data(), n * sizeof(float), cudaMemcpyHostToDevice, stream));
        OK(cudaMemcpyAsync(dy, y.data(), n * sizeof(float), cudaMemcpyHostToDevice, stream));
        OK(cudaEventRecord(begin, stream));
        axpy<float><<<(n + 127) / 128, 128, 0, stream>>>(dx, dy, n);
        OK(cudaGetLastError());
        OK(cudaEventRecord(end, stream));
        OK(cudaMemcpyAsync(r.data(), dy, n * sizeof(float), cudaMemcpyDeviceToHost, stream));
        OK(cudaStreamSynchronize(stream));
        for (int i = 0; i < n; i++)
                MUST(fabsf(r[i] - (2.0f * x[i] - 0.5f * y[i])) <= 1e-2f);
        float ms;
        OK(cudaEventElapsedTime(&ms, begin, end));
        MUST(ms >= 0);
        int touches = 0;
        OK(cudaMemcpyFromSymbol(&touches, touched, sizeof touches));
        MUST(touches == 1);

        // pinned memory, a reduction, symbols of another template
        float *pinned, *sum;
        OK(cudaMallocHost(&pinned, n * sizeof(float)));
        OK(cudaMallocHost(&sum, sizeof(float)));
        double expected = 0;
        for (int i = 0; i < n; i++) {
                pinned[i] = (float)((i * 7) % 13);
                expected += pinned[i];
        }
        OK(cudaMemcpyAsync(dx, pinned, n * sizeof(float), cudaMemcpyHostToDevice, stream));
        block_sum<<<1, 256, 0, stream>>>(dx, sum, n);
        OK(cudaStreamSynchronize(stream));
        MUST(fabs(*sum - expected) < 1e-3 * expected);
        OK(cudaFreeHost(pinned));
        OK(cudaFreeHost(sum));

        cudaFuncAttributes attributes;
        OK(cudaFuncGetAttributes(&attributes, block_sum));
        MUST(attributes.sharedSizeBytes == 32 && attributes.maxThreadsPerBlock >= 256);
        int blocks;
        OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, axpy<double>, 128, 0));
        MUST(blocks >= 1);

        // an error that is not sticky, and one that names the limit
        axpy<float><<<1, 4096, 0, stream>>>(dx, dy, n);
        MUST(cudaGetLastError() != cudaSuccess);
        MUST(cudaMalloc(&dx, (size_t)1 << 50) == cudaErrorMemoryAllocation);
        MUST(cudaGetLastError() == cudaErrorMemoryAllocation);
        OK(cudaDeviceSynchronize());
        OK(cudaMemset(dy, 0, n * sizeof(float)));
        OK(cudaMemcpy(r.data(), dy, n * sizeof(float), cudaMemcpyDeviceToHost));
        MUST(r[0] == 0 && r[n - 1] == 0);
        OK(cudaFree(dy));
        OK(cudaStreamDestroy(stream));
        OK(cudaDeviceReset());
        printf("runtime: right on %s\n", properties.name);
        return 0;
}
