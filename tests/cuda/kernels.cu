// Kernels of the programs in this folder. kernels.ptx is this file through: nvcc -ptx -arch=compute_75 kernels.cu
#include <stdint.h>

extern "C" __global__ void vector_add(const float *a, const float *b, float *c, int count)
{
        const int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < count)
                c[i] = a[i] + b[i];
}

// Square matrices, side a multiple of 16; launched with 16 x 16 threads.
extern "C" __global__ void matrix_multiply_tiled(const float *a, const float *b, float *c, int side)
{
        __shared__ float tile_a[16][16], tile_b[16][16];
        const int row = blockIdx.y * 16 + threadIdx.y, column = blockIdx.x * 16 + threadIdx.x;
        float sum = 0;
        for (int t = 0; t < side; t += 16) {
                tile_a[threadIdx.y][threadIdx.x] = a[row * side + t + threadIdx.x];
                tile_b[threadIdx.y][threadIdx.x] = b[(t + threadIdx.y) * side + column];
                __syncthreads();
                for (int k = 0; k < 16; k++)
                        sum += tile_a[threadIdx.y][k] * tile_b[k][threadIdx.x];
                __syncthreads();
        }
        c[row * side + column] = sum;
}

extern "C" __global__ void fill_u32(uint32_t *out, uint32_t value, uint64_t count)
{
        for (uint64_t i = blockIdx.x * (uint64_t)blockDim.x + threadIdx.x; i < count; i += (uint64_t)gridDim.x * blockDim.x)
                out[i] = value + (uint32_t)i;
}

extern "C" __global__ void increment(uint32_t *counter)
{
        atomicAdd(counter, 1u);
}

// Turns `rounds` times around a dependent chain: a kernel that takes a while.
extern "C" __global__ void spin_rounds(uint32_t *out, uint32_t seed, uint32_t rounds)
{
        uint32_t x = seed + threadIdx.x;
        for (uint32_t i = 0; i < rounds; i++)
                x = x * 1664525u + 1013904223u;
        out[blockIdx.x * blockDim.x + threadIdx.x] = x;
}

struct mixed_parameters {
        char byte;
        double number;
        short pair[3];
        uint64_t *out;
};
extern "C" __global__ void mixed(char a, struct mixed_parameters p, short b, double c, uint8_t d)
{
        p.out[0] = (uint64_t)a;
        p.out[1] = (uint64_t)p.byte;
        p.out[2] = (uint64_t)p.number;
        p.out[3] = (uint64_t)(p.pair[0] + p.pair[1] * 10 + p.pair[2] * 100);
        p.out[4] = (uint64_t)b;
        p.out[5] = (uint64_t)c;
        p.out[6] = d;
}

// 4000 bytes of parameters: a record of many slots.
struct large_parameters {
        uint32_t word[990];
};
extern "C" __global__ void large(struct large_parameters p, uint64_t *out)
{
        uint64_t sum = 0;
        for (int i = 0; i < 990; i++)
                sum += p.word[i] * (uint64_t)(i + 1);
        *out = sum;
}

extern "C" {
__device__ uint32_t global_word = 17;
__device__ float global_array[64];
__constant__ uint32_t constant_words[4] = {1, 2, 3, 4};
}
extern "C" __global__ void read_globals(uint32_t *out)
{
        out[0] = global_word;
        out[1] = constant_words[0] + constant_words[3];
        global_array[threadIdx.x] = 1.5f * threadIdx.x;
}

extern "C" __global__ void write_out_of_bounds(uint32_t *out)
{
        out[1ull << 40] = 1;
}

extern "C" __global__ void shared_reverse(uint32_t *data)
{
        extern __shared__ uint32_t buffer[];
        const uint32_t n = blockDim.x;
        buffer[threadIdx.x] = data[blockIdx.x * n + threadIdx.x];
        __syncthreads();
        data[blockIdx.x * n + threadIdx.x] = buffer[n - 1 - threadIdx.x];
}
