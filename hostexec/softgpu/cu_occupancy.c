/* Occupancy by the limits of compute capability 7.5. */
#include <limits.h>

#include "softgpu.h"

#define SG_REGISTERS_PER_WARP_UNIT 256u /* registers are given to warps in these units */
#define SG_SHARED_UNIT 256u             /* shared memory is given to blocks in these */
#define SG_WARPS_PER_SM (SG_THREADS_PER_SM / SG_WARP)

static unsigned sg_warp_registers(const struct ptx_function_info *info)
{
        const unsigned registers = info->registers != 0 ? info->registers * SG_WARP : SG_WARP;
        return (registers + SG_REGISTERS_PER_WARP_UNIT - 1) / SG_REGISTERS_PER_WARP_UNIT * SG_REGISTERS_PER_WARP_UNIT;
}

unsigned sg_function_threads_max(const struct ptx_function_info *info)
{
        unsigned warps = SG_REGISTERS_PER_SM / sg_warp_registers(info);
        if (warps > SG_THREADS_PER_BLOCK / SG_WARP)
                warps = SG_THREADS_PER_BLOCK / SG_WARP;
        const unsigned threads = warps * SG_WARP;
        return info->max_threads != 0 && info->max_threads < threads ? info->max_threads : threads;
}

static unsigned occupancy_blocks(const struct ptx_function_info *info, unsigned threads, size_t dynamic_shared_bytes)
{
        if (threads == 0 || threads > sg_function_threads_max(info))
                return 0;
        const unsigned warps = (threads + SG_WARP - 1) / SG_WARP;
        unsigned blocks = SG_WARPS_PER_SM / warps;
        const unsigned by_registers = SG_REGISTERS_PER_SM / sg_warp_registers(info) / warps;
        if (blocks > by_registers)
                blocks = by_registers;
        if (dynamic_shared_bytes > SG_SHARED_PER_SM || info->shared_bytes > SG_SHARED_PER_SM)
                return 0;
        const size_t shared =
                (info->shared_bytes + dynamic_shared_bytes + SG_SHARED_UNIT - 1) / SG_SHARED_UNIT * SG_SHARED_UNIT;
        if (shared != 0 && blocks > SG_SHARED_PER_SM / shared)
                blocks = (unsigned)(SG_SHARED_PER_SM / shared);
        return blocks < SG_BLOCKS_PER_SM ? blocks : SG_BLOCKS_PER_SM;
}

uint64_t sg_cooperative_blocks(const struct sg_function *function, unsigned threads, size_t dynamic_shared_bytes)
{
        const uint64_t blocks =
                (uint64_t)occupancy_blocks(&function->info, threads, dynamic_shared_bytes) * sg_processor_count();
        return blocks < PTX_RESIDENT_BLOCKS_MAX ? blocks : PTX_RESIDENT_BLOCKS_MAX;
}

SG_ENTRY(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, int *out, CUfunction handle, int threads,
         size_t shared_bytes, unsigned flags)
{
        struct sg_function *function;
        const CUresult result = sg_function_resolve(handle, NULL, &function);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || threads <= 0 || (flags & ~(unsigned)CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE) != 0)
                return CUDA_ERROR_INVALID_VALUE;
        *out = (int)occupancy_blocks(&function->info, (unsigned)threads, shared_bytes);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuOccupancyMaxActiveBlocksPerMultiprocessor, int *out, CUfunction handle, int threads, size_t shared_bytes)
{
        return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(out, handle, threads, shared_bytes, 0);
}

/* The block size that keeps most threads resident; the largest of several. */
static void sg_occupancy_best(const struct ptx_function_info *info, CUoccupancyB2DSize shared_of_block,
                              size_t shared_bytes, unsigned limit, int *block_threads, int *grid_blocks)
{
        unsigned best_threads = 0, best_blocks = 0, best_resident = 0;
        for (unsigned threads = limit; threads > 0;
             threads = threads % SG_WARP != 0 ? threads - threads % SG_WARP : threads - SG_WARP) {
                const size_t shared = shared_of_block != NULL ? shared_of_block((int)threads) : shared_bytes;
                const unsigned blocks = occupancy_blocks(info, threads, shared);
                if (blocks * threads > best_resident) {
                        best_resident = blocks * threads;
                        best_threads = threads;
                        best_blocks = blocks;
                }
        }
        *block_threads = (int)best_threads;
        *grid_blocks = (int)(best_blocks * sg_processor_count());
}

SG_ENTRY(cuOccupancyMaxPotentialBlockSizeWithFlags, int *grid_blocks, int *block_threads, CUfunction handle,
         CUoccupancyB2DSize shared_of_block, size_t shared_bytes, int limit, unsigned flags)
{
        struct sg_function *function;
        const CUresult result = sg_function_resolve(handle, NULL, &function);
        if (result != CUDA_SUCCESS)
                return result;
        if (grid_blocks == NULL || block_threads == NULL || limit < 0 ||
            (flags & ~(unsigned)CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE) != 0)
                return CUDA_ERROR_INVALID_VALUE;
        unsigned threads = sg_function_threads_max(&function->info);
        if (limit != 0 && (unsigned)limit < threads)
                threads = (unsigned)limit;
        sg_occupancy_best(&function->info, shared_of_block, shared_bytes, threads, block_threads, grid_blocks);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuOccupancyMaxPotentialBlockSize, int *grid_blocks, int *block_threads, CUfunction handle,
         CUoccupancyB2DSize shared_of_block, size_t shared_bytes, int limit)
{
        return cuOccupancyMaxPotentialBlockSizeWithFlags(grid_blocks, block_threads, handle, shared_of_block,
                                                         shared_bytes, limit, 0);
}

SG_ENTRY(cuOccupancyAvailableDynamicSMemPerBlock, size_t *out, CUfunction handle, int blocks, int threads)
{
        struct sg_function *function;
        const CUresult result = sg_function_resolve(handle, NULL, &function);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL || blocks <= 0 || threads <= 0 ||
            (unsigned)blocks > occupancy_blocks(&function->info, (unsigned)threads, 0))
                return CUDA_ERROR_INVALID_VALUE;
        const size_t share = SG_SHARED_PER_SM / (unsigned)blocks / SG_SHARED_UNIT * SG_SHARED_UNIT;
        const size_t free_bytes = share > function->info.shared_bytes ? share - function->info.shared_bytes : 0;
        const size_t limit = sg_shared_limit(function);
        *out = free_bytes < limit ? free_bytes : limit;
        return CUDA_SUCCESS;
}
