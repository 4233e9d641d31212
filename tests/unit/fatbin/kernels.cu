/* Kernels of the softgpu_driver_* tests. `make-fatbins` in this folder writes the images from it. */
#include <cstdio>
#include <cassert>
#include <cooperative_groups.h>

extern "C" {

__device__ int counter = 7;
__device__ int table[4] = {1, 2, 3, 4};
__constant__ int scale = 3;

__global__ void fill(int *out, int n, int value)
{
        const int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < n)
                out[i] = value * scale + i;
}

__global__ void count(void)
{
        atomicAdd(&counter, 1);
}

/* Waits until the host sets the flag: proves that a launch does not block its caller. */
__global__ void wait_for(volatile int *flag, int *out)
{
        while (*flag == 0)
                ;
        *out = 1;
}

struct mixed {
        char letter;
        double number;
        short words[3];
};

__global__ void take_params(char a, double b, mixed c, float d, long long *out)
{
        out[0] = a;
        out[1] = (long long)(b * 4);
        out[2] = c.letter;
        out[3] = (long long)(c.number * 4);
        out[4] = c.words[0] + c.words[1] * 100 + c.words[2] * 10000;
        out[5] = (long long)(d * 4);
}

__global__ void reverse_in_shared(int *data)
{
        extern __shared__ int tile[];
        tile[threadIdx.x] = data[threadIdx.x];
        __syncthreads();
        data[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

__global__ void store_at(int *out)
{
        *out = 5;
}

__global__ void stop_here(void)
{
        asm volatile("trap;");
}

__global__ void assert_positive(int value)
{
        assert(value > 0);
}

__global__ void say(int value)
{
        printf("value %d\n", value);
}

/* Each block adds up what all blocks wrote before the grid's barrier. */
__global__ void sum_over_grid(int *cells, int *sums)
{
        cells[blockIdx.x] = blockIdx.x + 1;
        cooperative_groups::this_grid().sync();
        int sum = 0;
        for (unsigned i = 0; i < gridDim.x; i++)
                sum += cells[i];
        sums[blockIdx.x] = sum;
}

__global__ void empty(void)
{
}
}
