/* A kernel writes out of bounds: CUDA_ERROR_ILLEGAL_ADDRESS, sticky, for this program only. */
#include "check.h"

int main(void)
{
        test_context();
        CUmodule module = test_module();
        CUdeviceptr data;
        CU(cuMemAlloc_v2(&data, 4096));
        void *parameters[] = {&data};
        CU(cuLaunchKernel(test_function(module, "write_out_of_bounds"), 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
        CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
        CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
        uint32_t word;
        CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS, cuMemcpyDtoH_v2(&word, data, 4));
        static uint8_t large[1 << 20];
        CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS, cuMemcpyDtoH_v2(large, data, 4096));
        CU_EXPECT(CUDA_ERROR_ILLEGAL_ADDRESS, cuMemAlloc_v2(&data, 4096));
        puts("fault: sticky, as it must be");
        return 0;
}
