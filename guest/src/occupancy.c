/* Occupancy: numbers that the driver computes from a function's needs. Answers are kept per function and device, since
 * libraries ask the same question before every launch.
 *
 * A cache entry is one word, so that it is read and written whole without a lock:
 *   bit 63 valid, 62 flags, 52-61 blocks, 32-51 block size, 0-31 dynamic shared memory bytes
 * Setting an attribute of the function empties the cache (function.c). */
#include "cuda_api.h"
#include "guest_send.h"
#include "launch.h"

#define ENTRY_VALID (1ull << 63)
#define ENTRY_BLOCKS_MAX 0x3ffu
#define ENTRY_BLOCK_SIZE_MAX 0xfffffu

static uint64_t entry_key(int block_size, size_t shared_bytes, unsigned int flags)
{
        return ENTRY_VALID | (uint64_t)flags << 62 | (uint64_t)(uint32_t)block_size << 32 | (uint32_t)shared_bytes;
}

static _Atomic(uint64_t) *entry_of(struct ivg_function_attributes *attributes, uint64_t key)
{
        const uint64_t hash = key * 0x9e3779b97f4a7c15ull; /* 2^64 / golden ratio: spreads neighbouring sizes */
        return &attributes->occupancy[hash >> 60];
}
_Static_assert(IVG_OCCUPANCY_CACHE == 16, "four bits of hash");

static CUresult active_blocks(struct ivg_object *function, int device, int block_size, size_t shared_bytes,
                              unsigned int flags, int *blocks)
{
        const struct ivg_function_layout *layout;
        struct ivg_function_attributes *attributes;
        CUresult result = ivg_function_need(function, device, &layout, &attributes);
        if (result != CUDA_SUCCESS)
                return result;
        if (block_size <= 0 || flags > CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
                return CUDA_ERROR_INVALID_VALUE;
        const bool fits = (uint32_t)block_size <= ENTRY_BLOCK_SIZE_MAX && shared_bytes <= UINT32_MAX;
        const uint64_t key = entry_key(block_size, shared_bytes, flags);
        _Atomic(uint64_t) *entry = entry_of(attributes, key);
        /* Relaxed, here and below: the word is the whole fact. */
        const uint64_t cached = ivg_load_relaxed_u64(entry);
        if (fits && (cached & ~((uint64_t)ENTRY_BLOCKS_MAX << 52)) == key) {
                *blocks = (int)(cached >> 52 & ENTRY_BLOCKS_MAX);
                ivg_count_local();
                return CUDA_SUCCESS;
        }
        result = ivg_send_cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(function->id, block_size, shared_bytes,
                                                                               flags, blocks);
        if (result == CUDA_SUCCESS && fits && *blocks >= 0 && (uint32_t)*blocks <= ENTRY_BLOCKS_MAX)
                ivg_store_relaxed_u64(entry, key | (uint64_t)(uint32_t)*blocks << 52);
        return result;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *numBlocks, CUfunction func, int blockSize,
                                                              size_t dynamicSMemSize, unsigned int flags)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        struct ivg_object *function = ivg_object_of_function(func);
        if (function == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        if (numBlocks == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        return active_blocks(function, context->device, blockSize, dynamicSMemSize, flags, numBlocks);
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *numBlocks, CUfunction func, int blockSize,
                                                     size_t dynamicSMemSize)
{
        return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(numBlocks, func, blockSize, dynamicSMemSize,
                                                                    CU_OCCUPANCY_DEFAULT);
}

/* ---- the best block size ---- */

struct potential {
        struct ivg_object *function;
        const struct ivg_device *device;
        CUoccupancyB2DSize shared_of_block; /* the program's; NULL: shared_bytes for every size */
        size_t shared_bytes;
        unsigned int flags;
        int best_size, best_blocks, best_threads;
};

/* Tries one block size; larger sizes come first and keep a draw. */
static CUresult potential_try(struct potential *potential, int device, int block_size)
{
        int blocks = 0;
        const size_t shared_bytes =
                potential->shared_of_block != NULL ? potential->shared_of_block(block_size) : potential->shared_bytes;
        const CUresult result =
                active_blocks(potential->function, device, block_size, shared_bytes, potential->flags, &blocks);
        if (result == CUDA_SUCCESS && blocks * block_size > potential->best_threads) {
                potential->best_threads = blocks * block_size;
                potential->best_blocks = blocks;
                potential->best_size = block_size;
        }
        return result;
}

static CUresult potential_search(struct potential *potential, int device, int limit)
{
        int largest;
        const struct ivg_function_layout *layout;
        struct ivg_function_attributes *attributes;
        const int warp = potential->device->attributes[CU_DEVICE_ATTRIBUTE_WARP_SIZE];
        const int threads = potential->device->attributes[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR];
        CUresult result = ivg_function_need(potential->function, device, &layout, &attributes);
        if (result != CUDA_SUCCESS)
                return result;
        if (!ivg_function_value(attributes, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, &largest) || largest <= 0 ||
            warp <= 0)
                return CUDA_ERROR_UNKNOWN;
        if (limit > 0 && limit < largest)
                largest = limit;
        /* From the largest down in whole warps; a largest that is no multiple of a warp is tried as it is. */
        for (int size = largest; size > 0 && result == CUDA_SUCCESS && potential->best_threads < threads;
             size = (size - 1) / warp * warp)
                result = potential_try(potential, device, size);
        return result;
}

CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int *minGridSize, int *blockSize, CUfunction func,
                                                   CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                                   size_t dynamicSMemSize, int blockSizeLimit, unsigned int flags)
{
        struct ivg_object *context;
        struct potential potential = {
                .shared_of_block = blockSizeToDynamicSMemSize, .shared_bytes = dynamicSMemSize, .flags = flags};
        CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        potential.function = ivg_object_of_function(func);
        if (potential.function == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        if (minGridSize == NULL || blockSize == NULL || blockSizeLimit < 0)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_device_get(context->device, &potential.device);
        if (result == CUDA_SUCCESS)
                result = potential_search(&potential, context->device, blockSizeLimit);
        if (result != CUDA_SUCCESS)
                return result;
        *blockSize = potential.best_size;
        *minGridSize = potential.best_blocks * potential.device->attributes[CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT];
        return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialBlockSize(int *minGridSize, int *blockSize, CUfunction func,
                                          CUoccupancyB2DSize blockSizeToDynamicSMemSize, size_t dynamicSMemSize,
                                          int blockSizeLimit)
{
        return cuOccupancyMaxPotentialBlockSizeWithFlags(minGridSize, blockSize, func, blockSizeToDynamicSMemSize,
                                                         dynamicSMemSize, blockSizeLimit, CU_OCCUPANCY_DEFAULT);
}

/* ---- clusters ---- */

enum cluster_question { MAX_ACTIVE_CLUSTERS = 0, MAX_POTENTIAL_CLUSTER_SIZE = 1 };

static CUresult ask_clusters(enum cluster_question question, CUfunction func, const CUlaunchConfig *config, int *answer)
{
        struct ivg_object *context;
        CUlaunchAttribute attributes[IVG_LAUNCH_ATTRIBUTES_MAX];
        uint32_t count;
        ivg_id stream;
        CUresult result = ivg_context_require(&context);
        if (result != CUDA_SUCCESS)
                return result;
        const struct ivg_object *function = ivg_object_of_function(func);
        if (function == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        if (answer == NULL || config == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_launch_attributes(config->attrs, config->numAttrs, attributes, &count);
        if (result == CUDA_SUCCESS)
                result = ivg_stream_id(config->hStream, IVG_ID_STREAM_LEGACY, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        return ivg_send_ivgOccupancyClusters(function->id, stream, question, config->gridDimX, config->gridDimY,
                                             config->gridDimZ, config->blockDimX, config->blockDimY, config->blockDimZ,
                                             config->sharedMemBytes, attributes, count, answer);
}

CUresult cuOccupancyMaxActiveClusters(int *numClusters, CUfunction func, const CUlaunchConfig *config)
{
        return ask_clusters(MAX_ACTIVE_CLUSTERS, func, config, numClusters);
}

CUresult cuOccupancyMaxPotentialClusterSize(int *clusterSize, CUfunction func, const CUlaunchConfig *config)
{
        return ask_clusters(MAX_POTENTIAL_CLUSTER_SIZE, func, config, clusterSize);
}
