/* The driver's functions that take or free device memory, and those that tell of it, under the VM's cap. */
#include "vram_figures.h"
#include "vram_table.h"
#include <errno.h>

static struct ivg_exec *executor; /* one executor is one process */

/* ---- plain memory ---- */

static CUresult allocate(CUdeviceptr *address, size_t bytes)
{
        struct ivg_vram_block *block = ivg_vram_block_new(bytes);

        if (!block)
                return CUDA_ERROR_OUT_OF_MEMORY;
        return ivg_vram_block_settle(block, ivg_vram_real.cuMemAlloc_v2(address, bytes), address);
}

/* The pitch is the driver's to choose: what it adds is asked for afterwards, and if it is too much all goes back. */
static CUresult allocate_pitch(CUdeviceptr *address, size_t *pitch, size_t width, size_t height, unsigned int element)
{
        struct ivg_vram_block *block;
        CUresult result;
        uint64_t bytes;

        if (__builtin_mul_overflow(width, height, &bytes))
                return CUDA_ERROR_OUT_OF_MEMORY;
        block = ivg_vram_block_new(bytes);
        if (!block)
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = ivg_vram_real.cuMemAllocPitch_v2(address, pitch, width, height, element);
        if (result != CUDA_SUCCESS) {
                ivg_vram_block_undo(block);
                return result;
        }
        if (!ivg_vram_block_grow(block, (uint64_t)*pitch * height)) {
                (void)ivg_vram_real.cuMemFree_v2(*address);
                ivg_vram_block_undo(block);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        return ivg_vram_block_settle(block, CUDA_SUCCESS, address);
}

/* Before the driver does: it may give the address to another thread at once. If it refuses, it was no block. */
static CUresult release(CUdeviceptr address)
{
        ivg_vram_block_drop(address);
        return ivg_vram_real.cuMemFree_v2(address);
}

/* ---- memory of pools ---- */

static CUresult allocate_from(CUdeviceptr *address, size_t bytes, CUmemoryPool pool, CUstream stream)
{
        struct ivg_vram_block *block;
        CUresult result;

        if (ivg_capture_under_way(executor, stream)) { /* memory of a graph: taken when that runs */
                ivg_vram_graphs_begin();
                return pool ? ivg_vram_real.cuMemAllocFromPoolAsync(address, bytes, pool, stream)
                            : ivg_vram_real.cuMemAllocAsync(address, bytes, stream);
        }
        block = ivg_vram_block_new(bytes);
        if (!block)
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = pool ? ivg_vram_real.cuMemAllocFromPoolAsync(address, bytes, pool, stream)
                      : ivg_vram_real.cuMemAllocAsync(address, bytes, stream);
        if (result != CUDA_SUCCESS) {
                ivg_vram_block_undo(block);
                return result;
        }
        if (ivg_vram_pool_count(block, pool))
                return ivg_vram_block_settle(block, CUDA_SUCCESS, address);
        (void)ivg_vram_real.cuMemFreeAsync(*address, stream);
        (void)ivg_vram_block_settle(block, CUDA_SUCCESS, address);
        ivg_vram_block_drop(*address);
        return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult allocate_async(CUdeviceptr *address, size_t bytes, CUstream stream)
{
        return allocate_from(address, bytes, NULL, stream);
}

static CUresult allocate_from_pool_async(CUdeviceptr *address, size_t bytes, CUmemoryPool pool, CUstream stream)
{
        return allocate_from(address, bytes, pool, stream);
}

static CUresult release_async(CUdeviceptr address, CUstream stream)
{
        const CUresult result = ivg_vram_real.cuMemFreeAsync(address, stream);

        if (result == CUDA_SUCCESS && !ivg_capture_under_way(executor, stream))
                ivg_vram_block_drop(address);
        return result;
}

static CUresult pool_destroy(CUmemoryPool pool)
{
        ivg_vram_pool_ends(pool);
        return ivg_vram_real.cuMemPoolDestroy(pool);
}

/* ---- arrays ---- */

static uint64_t element_bytes(CUarray_format format, unsigned int channels)
{
        switch (format) {
        case CU_AD_FORMAT_UNSIGNED_INT8:
        case CU_AD_FORMAT_SIGNED_INT8:
                return channels;
        case CU_AD_FORMAT_UNSIGNED_INT16:
        case CU_AD_FORMAT_SIGNED_INT16:
        case CU_AD_FORMAT_HALF:
                return 2ull * channels;
        default: /* 32 bits, and at least what the compressed ones need */
                return 4ull * channels;
        }
}

static uint64_t at_least_1(uint64_t number)
{
        return number == 0 ? 1 : number;
}

static uint64_t level_bytes(const CUDA_ARRAY3D_DESCRIPTOR *description, unsigned int level)
{
        uint64_t bytes = element_bytes(description->Format, description->NumChannels);
        const uint64_t extent[] = {description->Width, description->Height, description->Depth};

        for (size_t i = 0; i < 3; i++)
                if (__builtin_mul_overflow(bytes, at_least_1(extent[i] >> level), &bytes))
                        return UINT64_MAX; /* the driver refuses it as well */
        return bytes;
}

/* Such an array has no memory of its own. */
static bool array_is_empty(unsigned int flags)
{
        return flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING);
}

static CUresult array_3d_create(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *description)
{
        struct ivg_vram_block *block =
                ivg_vram_block_new(array_is_empty(description->Flags) ? 0 : level_bytes(description, 0));

        if (!block)
                return CUDA_ERROR_OUT_OF_MEMORY;
        return ivg_vram_block_settle(block, ivg_vram_real.cuArray3DCreate_v2(array, description), array);
}

static CUresult array_create(CUarray *array, const CUDA_ARRAY_DESCRIPTOR *description)
{
        const CUDA_ARRAY3D_DESCRIPTOR same = {.Width = description->Width,
                                              .Height = description->Height,
                                              .Format = description->Format,
                                              .NumChannels = description->NumChannels};
        struct ivg_vram_block *block = ivg_vram_block_new(level_bytes(&same, 0));

        if (!block)
                return CUDA_ERROR_OUT_OF_MEMORY;
        return ivg_vram_block_settle(block, ivg_vram_real.cuArrayCreate_v2(array, description), array);
}

static CUresult mipmapped_create(CUmipmappedArray *array, const CUDA_ARRAY3D_DESCRIPTOR *description,
                                 unsigned int levels)
{
        struct ivg_vram_block *block;
        uint64_t bytes = 0;

        for (unsigned int level = 0; level < levels && level < 32 && !array_is_empty(description->Flags); level++)
                if (__builtin_add_overflow(bytes, level_bytes(description, level), &bytes))
                        bytes = UINT64_MAX;
        block = ivg_vram_block_new(bytes);
        if (!block)
                return CUDA_ERROR_OUT_OF_MEMORY;
        return ivg_vram_block_settle(block, ivg_vram_real.cuMipmappedArrayCreate(array, description, levels), array);
}

static CUresult array_destroy(CUarray array)
{
        ivg_vram_block_drop((uintptr_t)array);
        return ivg_vram_real.cuArrayDestroy(array);
}

static CUresult mipmapped_destroy(CUmipmappedArray array)
{
        ivg_vram_block_drop((uintptr_t)array);
        return ivg_vram_real.cuMipmappedArrayDestroy(array);
}

/* ---- memory of graphs: the driver reserves it when the graph runs ---- */

static CUresult graph_add_node(CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies,
                               const CUgraphEdgeData *edges, size_t count, CUgraphNodeParams *params)
{
        if (params && params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
                ivg_vram_graphs_begin();
        return ivg_vram_real.cuGraphAddNode_v2(node, graph, dependencies, edges, count, params);
}

/* A launch that went over the cap is not undone: none follows, and nothing else is given, until it is under it again.
 */
static CUresult graph_launch(CUgraphExec graph, CUstream stream)
{
        CUdevice device = -1;
        CUresult result;

        if (!ivg_vram_graphs_began())
                return ivg_vram_real.cuGraphLaunch(graph, stream);
        (void)ivg_vram_real.cuCtxGetDevice(&device);
        if (!ivg_vram_take(device, 0))
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = ivg_vram_real.cuGraphLaunch(graph, stream);
        ivg_vram_graphs_count(device);
        if (!ivg_vram_take(device, 0))
                ivg_log(IVG_LOG_WARNING, "a graph's memory goes over vram_mib");
        return result;
}

static CUresult graph_memory_trim(CUdevice device)
{
        const CUresult result = ivg_vram_real.cuDeviceGraphMemTrim(device);

        ivg_vram_graphs_count(device);
        return result;
}

/* ---- what the guest is told ---- */

static CUresult total_memory(size_t *bytes, CUdevice device)
{
        const CUresult result = ivg_vram_real.cuDeviceTotalMem_v2(bytes, device);
        const uint64_t limit = ivg_vram_limit();

        if (result == CUDA_SUCCESS && *bytes > limit)
                *bytes = limit;
        return result;
}

static CUresult memory_info(size_t *free_bytes, size_t *total_bytes)
{
        const uint64_t limit = ivg_vram_limit();
        CUresult result = ivg_vram_real.cuMemGetInfo_v2(free_bytes, total_bytes);
        CUdevice device = -1;
        uint64_t held, left;

        if (result != CUDA_SUCCESS || limit == IVG_VRAM_NO_LIMIT ||
            ivg_vram_real.cuCtxGetDevice(&device) != CUDA_SUCCESS)
                return result;
        ivg_vram_pools_shrink();
        held = ivg_vram_held(device);
        left = limit > held ? limit - held : 0;
        if (*total_bytes > limit)
                *total_bytes = limit;
        if (*free_bytes > left)
                *free_bytes = left;
        return CUDA_SUCCESS;
}

/* ---- in their places ---- */

int ivg_vram_open(struct ivg_exec *exec, int fd, uint32_t place)
{
        struct ivg_driver *driver = &exec->driver;
        int rc;

        if (fd < 0)
                return 0;
        if (!driver->cuCtxGetDevice)
                return -ENOSYS;
        rc = ivg_vram_figures_open(exec, fd, place);
        if (rc < 0)
                return rc;
        executor = exec;
#define REPLACE(symbol, function) \
        if (ivg_vram_real.symbol) \
        driver->symbol = function
        REPLACE(cuMemAlloc_v2, allocate);
        REPLACE(cuMemAllocPitch_v2, allocate_pitch);
        REPLACE(cuMemFree_v2, release);
        REPLACE(cuMemAllocAsync, allocate_async);
        REPLACE(cuMemAllocFromPoolAsync, allocate_from_pool_async);
        REPLACE(cuMemFreeAsync, release_async);
        REPLACE(cuMemPoolDestroy, pool_destroy);
        REPLACE(cuArrayCreate_v2, array_create);
        REPLACE(cuArray3DCreate_v2, array_3d_create);
        REPLACE(cuArrayDestroy, array_destroy);
        REPLACE(cuMipmappedArrayCreate, mipmapped_create);
        REPLACE(cuMipmappedArrayDestroy, mipmapped_destroy);
        REPLACE(cuGraphAddNode_v2, graph_add_node);
        REPLACE(cuGraphLaunch, graph_launch);
        REPLACE(cuDeviceGraphMemTrim, graph_memory_trim);
        REPLACE(cuDeviceTotalMem_v2, total_memory);
        REPLACE(cuMemGetInfo_v2, memory_info);
#undef REPLACE
        return 0;
}
