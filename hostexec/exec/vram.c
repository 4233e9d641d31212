#include "vram.h"
#include "vram_table.h"
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096u
#define POOLS_MAX 256u /* with memory of this process in them; of more, only what is allocated is counted */
#define NO_POOL POOLS_MAX

/* One allocation, by its address or its array's handle. */
struct block {
        struct block *next;
        uint64_t key, bytes;
        int32_t device;
        uint32_t pool; /* whose figure stands for it; NO_POOL: its own bytes do */
        ivg_id context;
};

/* A pool holds more than what is allocated from it: what was freed and not given back yet. */
struct pool {
        CUmemoryPool handle; /* NULL: a free place, or the pool is destroyed and its last memory still there */
        int32_t device;
        uint64_t allocated,
                counted; /* counted in the table: what the driver has reserved, at least what is allocated */
};

/* One executor is one process. */
static struct ivg_driver real; /* the functions that were replaced */
static struct ivg_exec *executor;
static struct ivg_vram_table *table;
static uint32_t place;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* all that follows, and this place's figures */
static struct block *buckets[BUCKETS];
static struct pool pools[POOLS_MAX];
static uint64_t graph_counted[IVG_VRAM_DEVICES_MAX];
static _Atomic(uint32_t) graphs_take_memory;

/* ---- the table; the mutex is held ---- */

static bool device_is_counted(int32_t device)
{
        return device >= 0 && device < (int32_t)IVG_VRAM_DEVICES_MAX;
}

static uint64_t in_units(uint64_t bytes)
{
        return bytes > UINT64_MAX - IVG_VRAM_UNIT_BYTES
                       ? bytes
                       : (bytes + IVG_VRAM_UNIT_BYTES - 1) / IVG_VRAM_UNIT_BYTES * IVG_VRAM_UNIT_BYTES;
}

static void give(int32_t device, uint64_t bytes)
{
        if (device_is_counted(device))
                ivg_vram_table_change(table, place, (uint32_t)device, bytes, false);
}

static uint64_t pool_reserved(const struct pool *pool)
{
        uint64_t reserved = 0;

        if (!pool->handle || !real.cuMemPoolGetAttribute ||
            real.cuMemPoolGetAttribute(pool->handle, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved) != CUDA_SUCCESS)
                return pool->allocated;
        return reserved > pool->allocated ? reserved : pool->allocated;
}

static void pool_shrink(struct pool *pool)
{
        const uint64_t reserved = pool_reserved(pool);

        if (reserved >= pool->counted)
                return;
        give(pool->device, pool->counted - reserved);
        pool->counted = reserved;
}

static void graph_count(int32_t device)
{
        uint64_t reserved = 0;

        if (!device_is_counted(device) || !real.cuDeviceGetGraphMemAttribute ||
            real.cuDeviceGetGraphMemAttribute(device, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &reserved) !=
                    CUDA_SUCCESS)
                return;
        if (reserved > graph_counted[device])
                ivg_vram_table_change(table, place, (uint32_t)device, reserved - graph_counted[device], true);
        else
                give(device, graph_counted[device] - reserved);
        graph_counted[device] = reserved;
}

/* What pools and graphs keep for later is let go before anything is refused, as the driver does. */
static void let_go_of_unused(int32_t device)
{
        for (uint32_t i = 0; i < POOLS_MAX; i++) {
                if (pools[i].counted == 0 || pools[i].device != device)
                        continue;
                if (pools[i].handle && real.cuMemPoolTrimTo)
                        (void)real.cuMemPoolTrimTo(pools[i].handle, 0);
                pool_shrink(&pools[i]);
        }
        if (ivg_load_relaxed_u32(&graphs_take_memory)) { /* relaxed: set by this process's own earlier calls */
                if (real.cuDeviceGraphMemTrim)
                        (void)real.cuDeviceGraphMemTrim(device);
                graph_count(device);
        }
}

static bool take(int32_t device, uint64_t bytes)
{
        if (!device_is_counted(device) || ivg_vram_table_take(table, place, (uint32_t)device, bytes))
                return true;
        let_go_of_unused(device);
        return ivg_vram_table_take(table, place, (uint32_t)device, bytes);
}

bool ivg_vram_take(int32_t device, uint64_t bytes)
{
        bool taken = true;

        if (!table)
                return true;
        pthread_mutex_lock(&mutex);
        taken = take(device, bytes);
        pthread_mutex_unlock(&mutex);
        return taken;
}

void ivg_vram_give(int32_t device, uint64_t bytes)
{
        if (!table)
                return;
        pthread_mutex_lock(&mutex);
        give(device, bytes);
        pthread_mutex_unlock(&mutex);
}

/* ---- blocks; the mutex is held ---- */

static struct block **block_find(uint64_t key)
{
        struct block **link = &buckets[(key * 0x9e3779b97f4a7c15ull) >> 52];

        while (*link && (*link)->key != key)
                link = &(*link)->next;
        return link;
}

static void block_release(struct block *block)
{
        if (block->pool == NO_POOL) {
                give(block->device, block->bytes);
        } else {
                pools[block->pool].allocated -= block->bytes;
                pool_shrink(&pools[block->pool]);
        }
        free(block);
}

static void block_drop(uint64_t key)
{
        struct block **link, *block;

        pthread_mutex_lock(&mutex);
        link = block_find(key);
        block = *link;
        if (block) {
                *link = block->next;
                block_release(block);
        }
        pthread_mutex_unlock(&mutex);
}

static void block_add(struct block *block, uint64_t key)
{
        struct block **link;

        pthread_mutex_lock(&mutex);
        block->key = key;
        link = block_find(key);
        block->next = *link; /* one of the same key: the driver has freed it unseen; the newer one is found first */
        *link = block;
        pthread_mutex_unlock(&mutex);
}

/* A block of so many bytes of the current device, counted; NULL: over the cap, or no memory. */
static struct block *block_new(uint64_t bytes)
{
        struct block *block = calloc(1, sizeof(*block));
        CUdevice device = -1;

        if (!block)
                return NULL;
        if (real.cuCtxGetDevice(&device) != CUDA_SUCCESS)
                device = -1; /* the driver will refuse, too */
        *block = (struct block){.bytes = in_units(bytes),
                                .device = device,
                                .pool = NO_POOL,
                                .context = ivg_context_owner(executor, ivg_context_current())};
        if (ivg_vram_take(device, block->bytes))
                return block;
        free(block);
        return NULL;
}

static void block_undo(struct block *block)
{
        ivg_vram_give(block->device, block->bytes);
        free(block);
}

/* After the driver's answer, which has put an address or an array at `given`. */
static CUresult block_settle(struct block *block, CUresult result, const void *given)
{
        uint64_t key;

        if (result != CUDA_SUCCESS) {
                block_undo(block);
                return result;
        }
        memcpy(&key, given, sizeof(key));
        block_add(block, key);
        return CUDA_SUCCESS;
}

void ivg_vram_context_ends(ivg_id context)
{
        if (!table)
                return;
        pthread_mutex_lock(&mutex);
        for (uint32_t i = 0; i < BUCKETS; i++)
                for (struct block **link = &buckets[i]; *link;) {
                        struct block *block = *link;

                        if (block->context != context) {
                                link = &block->next;
                                continue;
                        }
                        *link = block->next;
                        block_release(block);
                }
        pthread_mutex_unlock(&mutex);
}

/* ---- plain memory ---- */

static CUresult allocate(CUdeviceptr *address, size_t bytes)
{
        struct block *block = block_new(bytes);

        if (!block)
                return CUDA_ERROR_OUT_OF_MEMORY;
        return block_settle(block, real.cuMemAlloc_v2(address, bytes), address);
}

/* The pitch is the driver's to choose: what it adds is asked for afterwards, and if it is too much all goes back. */
static CUresult allocate_pitch(CUdeviceptr *address, size_t *pitch, size_t width, size_t height, unsigned int element)
{
        struct block *block;
        CUresult result;
        uint64_t bytes, more;

        if (__builtin_mul_overflow(width, height, &bytes))
                return CUDA_ERROR_OUT_OF_MEMORY;
        block = block_new(bytes);
        if (!block)
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = real.cuMemAllocPitch_v2(address, pitch, width, height, element);
        if (result != CUDA_SUCCESS) {
                block_undo(block);
                return result;
        }
        bytes = in_units((uint64_t)*pitch * height);
        more = bytes > block->bytes ? bytes - block->bytes : 0;
        if (!ivg_vram_take(block->device, more)) {
                (void)real.cuMemFree_v2(*address);
                block_undo(block);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        block->bytes += more;
        block_add(block, *address);
        return CUDA_SUCCESS;
}

/* Before the driver does: it may give the address to another thread at once. If it refuses, it was no block. */
static CUresult release(CUdeviceptr address)
{
        block_drop(address);
        return real.cuMemFree_v2(address);
}

/* ---- memory of pools ---- */

/* The mutex is held. NO_POOL: no place. */
static uint32_t pool_find(CUmemoryPool handle, int32_t device)
{
        uint32_t found = NO_POOL;

        for (uint32_t i = 0; i < POOLS_MAX; i++) {
                if (pools[i].handle == handle)
                        return i;
                if (!pools[i].handle && pools[i].allocated == 0 && pools[i].counted == 0 && found == NO_POOL)
                        found = i;
        }
        if (found != NO_POOL)
                pools[found] = (struct pool){.handle = handle, .device = device};
        return found;
}

/* The driver has given memory from `handle`, which `block` is counted for: from now on the pool's figure is. False:
 * what the driver reserved beyond it is too much. */
static bool pool_count(struct block *block, CUmemoryPool handle)
{
        struct pool *pool;
        uint64_t reserved;
        uint32_t index;
        bool there = true;

        pthread_mutex_lock(&mutex);
        index = pool_find(handle, block->device);
        if (index != NO_POOL) {
                pool = &pools[index];
                pool->allocated += block->bytes;
                pool->counted += block->bytes;
                block->pool = index;
                reserved = pool_reserved(pool);
                if (reserved > pool->counted) {
                        there = take(pool->device, reserved - pool->counted);
                        pool->counted += there ? reserved - pool->counted : 0;
                } else {
                        pool_shrink(pool);
                }
        }
        pthread_mutex_unlock(&mutex);
        return there;
}

static CUresult allocate_from(CUdeviceptr *address, size_t bytes, CUmemoryPool pool, CUstream stream)
{
        struct block *block;
        CUresult result;

        if (ivg_capture_under_way(executor, stream)) { /* memory of a graph: taken when that runs */
                ivg_store_relaxed_u32(&graphs_take_memory, 1);
                return pool ? real.cuMemAllocFromPoolAsync(address, bytes, pool, stream)
                            : real.cuMemAllocAsync(address, bytes, stream);
        }
        block = block_new(bytes);
        if (!block)
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = pool ? real.cuMemAllocFromPoolAsync(address, bytes, pool, stream)
                      : real.cuMemAllocAsync(address, bytes, stream);
        if (result != CUDA_SUCCESS) {
                block_undo(block);
                return result;
        }
        if (!pool && real.cuDeviceGetMemPool)
                (void)real.cuDeviceGetMemPool(&pool, block->device); /* else its own bytes are counted */
        if (!pool || pool_count(block, pool)) {
                block_add(block, *address);
                return CUDA_SUCCESS;
        }
        (void)real.cuMemFreeAsync(*address, stream);
        block_add(block, *address);
        block_drop(*address);
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
        const CUresult result = real.cuMemFreeAsync(address, stream);

        if (result == CUDA_SUCCESS && !ivg_capture_under_way(executor, stream))
                block_drop(address);
        return result;
}

static CUresult pool_destroy(CUmemoryPool handle)
{
        pthread_mutex_lock(&mutex);
        for (uint32_t i = 0; i < POOLS_MAX; i++)
                if (pools[i].handle == handle) {
                        pools[i].handle = NULL; /* it is asked no more: what is allocated stays counted */
                        pool_shrink(&pools[i]);
                }
        pthread_mutex_unlock(&mutex);
        return real.cuMemPoolDestroy(handle);
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
        struct block *block = block_new(array_is_empty(description->Flags) ? 0 : level_bytes(description, 0));

        if (!block)
                return CUDA_ERROR_OUT_OF_MEMORY;
        return block_settle(block, real.cuArray3DCreate_v2(array, description), array);
}

static CUresult array_create(CUarray *array, const CUDA_ARRAY_DESCRIPTOR *description)
{
        const CUDA_ARRAY3D_DESCRIPTOR same = {.Width = description->Width,
                                              .Height = description->Height,
                                              .Format = description->Format,
                                              .NumChannels = description->NumChannels};
        struct block *block = block_new(level_bytes(&same, 0));

        if (!block)
                return CUDA_ERROR_OUT_OF_MEMORY;
        return block_settle(block, real.cuArrayCreate_v2(array, description), array);
}

static CUresult mipmapped_create(CUmipmappedArray *array, const CUDA_ARRAY3D_DESCRIPTOR *description,
                                 unsigned int levels)
{
        struct block *block;
        uint64_t bytes = 0;

        for (unsigned int level = 0; level < levels && level < 32 && !array_is_empty(description->Flags); level++)
                if (__builtin_add_overflow(bytes, level_bytes(description, level), &bytes))
                        bytes = UINT64_MAX;
        block = block_new(bytes);
        if (!block)
                return CUDA_ERROR_OUT_OF_MEMORY;
        return block_settle(block, real.cuMipmappedArrayCreate(array, description, levels), array);
}

static CUresult array_destroy(CUarray array)
{
        block_drop((uintptr_t)array);
        return real.cuArrayDestroy(array);
}

static CUresult mipmapped_destroy(CUmipmappedArray array)
{
        block_drop((uintptr_t)array);
        return real.cuMipmappedArrayDestroy(array);
}

/* ---- memory of graphs: the driver reserves it when the graph runs ---- */

static CUresult graph_add_node(CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies,
                               const CUgraphEdgeData *edges, size_t count, CUgraphNodeParams *params)
{
        if (params && params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) /* relaxed: the program launches it afterwards */
                ivg_store_relaxed_u32(&graphs_take_memory, 1);
        return real.cuGraphAddNode_v2(node, graph, dependencies, edges, count, params);
}

/* A launch that went over the cap is not undone: none follows, and nothing else is given, until it is under it again.
 */
static CUresult graph_launch(CUgraphExec graph, CUstream stream)
{
        CUdevice device = -1;
        CUresult result;
        bool there;

        if (!ivg_load_relaxed_u32(&graphs_take_memory))
                return real.cuGraphLaunch(graph, stream);
        (void)real.cuCtxGetDevice(&device);
        if (!ivg_vram_take(device, 0))
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = real.cuGraphLaunch(graph, stream);
        pthread_mutex_lock(&mutex);
        graph_count(device);
        pthread_mutex_unlock(&mutex);
        there = ivg_vram_take(device, 0);
        if (!there)
                ivg_log(IVG_LOG_WARNING, "a graph's memory goes over vram_mib");
        return result;
}

static CUresult graph_memory_trim(CUdevice device)
{
        const CUresult result = real.cuDeviceGraphMemTrim(device);

        pthread_mutex_lock(&mutex);
        graph_count(device);
        pthread_mutex_unlock(&mutex);
        return result;
}

/* ---- what the guest is told ---- */

static CUresult total_memory(size_t *bytes, CUdevice device)
{
        const CUresult result = real.cuDeviceTotalMem_v2(bytes, device);
        const uint64_t limit = ivg_load_relaxed_u64(&table->limit_bytes);

        if (result == CUDA_SUCCESS && *bytes > limit)
                *bytes = limit;
        return result;
}

static CUresult memory_info(size_t *free_bytes, size_t *total_bytes)
{
        const uint64_t limit = ivg_load_relaxed_u64(&table->limit_bytes);
        CUresult result = real.cuMemGetInfo_v2(free_bytes, total_bytes);
        CUdevice device = -1;
        uint64_t held, left;

        if (result != CUDA_SUCCESS || limit == IVG_VRAM_NO_LIMIT || real.cuCtxGetDevice(&device) != CUDA_SUCCESS ||
            !device_is_counted(device))
                return result;
        pthread_mutex_lock(&mutex);
        for (uint32_t i = 0; i < POOLS_MAX; i++) /* what the driver has given back since */
                if (pools[i].counted > 0)
                        pool_shrink(&pools[i]);
        pthread_mutex_unlock(&mutex);
        held = ivg_vram_table_sum(table, (uint32_t)device);
        left = limit > held ? limit - held : 0;
        if (*total_bytes > limit)
                *total_bytes = limit;
        if (*free_bytes > left)
                *free_bytes = left;
        return CUDA_SUCCESS;
}

/* ---- in their places ---- */

int ivg_vram_open(struct ivg_exec *exec, int fd, uint32_t own_place)
{
        struct ivg_driver *driver = &exec->driver;

        if (fd < 0)
                return 0;
        table = own_place < IVG_VRAM_PLACES ? ivg_vram_table_map(fd) : NULL;
        if (!table)
                return -EINVAL;
        place = own_place;
        executor = exec;
        real = *driver;
        if (!real.cuCtxGetDevice)
                return -ENOSYS;
#define REPLACE(symbol, function) \
        if (real.symbol)          \
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
