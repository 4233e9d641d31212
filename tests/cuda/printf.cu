// Kernels that print and assert. printf.ptx is this file through: nvcc -ptx -arch=compute_75 printf.cu
#include <assert.h>
#include <stdio.h>

extern "C" __global__ void print_lines(int round)
{
        printf("line %d of round %d, %s %.2f\n", (int)(blockIdx.x * blockDim.x + threadIdx.x), round, "half", 0.5);
}

extern "C" __global__ void assert_below(int limit)
{
        assert((int)threadIdx.x < limit);
}
