/* What this process holds of device memory: its blocks by address, pools' and graphs' figures, and its place in the
 * VM's table, which are kept equal. */
#include "vram_figures.h"
#include "vram_table.h"
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096u
#define POOLS_MAX 256u /* with memory of this process in them; of more, only what is allocated is counted */
#define NO_POOL POOLS_MAX

/* One allocation, by its address or its array's handle. */
struct ivg_vram_block {
        struct ivg_vram_block *next;
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
struct ivg_driver ivg_vram_real;
static struct ivg_exec *executor;
static struct ivg_vram_table *table;
static uint32_t place;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* all that follows, and this place's figures */
static struct ivg_vram_block *buckets[BUCKETS];
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

        /* Without a cap the driver is not asked: that would be a price for nothing. */
        if (ivg_vram_limit() == IVG_VRAM_NO_LIMIT || !pool->handle || !ivg_vram_real.cuMemPoolGetAttribute ||
            ivg_vram_real.cuMemPoolGetAttribute(pool->handle, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved) !=
                    CUDA_SUCCESS)
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

        if (!device_is_counted(device) || !ivg_vram_real.cuDeviceGetGraphMemAttribute ||
            ivg_vram_real.cuDeviceGetGraphMemAttribute(device, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &reserved) !=
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
                if (pools[i].handle && ivg_vram_real.cuMemPoolTrimTo)
                        (void)ivg_vram_real.cuMemPoolTrimTo(pools[i].handle, 0);
                pool_shrink(&pools[i]);
        }
        if (ivg_load_relaxed_u32(&graphs_take_memory)) { /* relaxed: set by this process's own earlier calls */
                if (ivg_vram_real.cuDeviceGraphMemTrim)
                        (void)ivg_vram_real.cuDeviceGraphMemTrim(device);
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

bool ivg_vram_take_unused(int32_t device, uint64_t bytes)
{
        bool taken;

        if (!table || !device_is_counted(device))
                return true;
        if (pthread_mutex_trylock(&mutex) != 0)
                return false;
        taken = ivg_vram_table_try_take(table, place, (uint32_t)device, bytes);
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

static struct ivg_vram_block **block_find(uint64_t key)
{
        struct ivg_vram_block **link = &buckets[(key * 0x9e3779b97f4a7c15ull) >> 52];

        while (*link && (*link)->key != key)
                link = &(*link)->next;
        return link;
}

static void block_release(struct ivg_vram_block *block)
{
        if (block->pool == NO_POOL) {
                give(block->device, block->bytes);
        } else {
                pools[block->pool].allocated -= block->bytes;
                pool_shrink(&pools[block->pool]);
        }
        free(block);
}

void ivg_vram_block_drop(uint64_t key)
{
        struct ivg_vram_block **link, *block;

        pthread_mutex_lock(&mutex);
        link = block_find(key);
        block = *link;
        if (block) {
                *link = block->next;
                block_release(block);
        }
        pthread_mutex_unlock(&mutex);
}

static void block_add(struct ivg_vram_block *block, uint64_t key)
{
        struct ivg_vram_block **link;

        pthread_mutex_lock(&mutex);
        block->key = key;
        link = block_find(key);
        block->next = *link; /* one of the same key: the driver has freed it unseen; the newer one is found first */
        *link = block;
        pthread_mutex_unlock(&mutex);
}

/* A block of so many bytes of the current device, counted; NULL: over the cap, or no memory. */
struct ivg_vram_block *ivg_vram_block_new(uint64_t bytes)
{
        struct ivg_vram_block *block = calloc(1, sizeof(*block));
        CUdevice device = -1;

        if (!block)
                return NULL;
        if (ivg_vram_real.cuCtxGetDevice(&device) != CUDA_SUCCESS)
                device = -1; /* the driver will refuse, too */
        *block = (struct ivg_vram_block){.bytes = in_units(bytes),
                                         .device = device,
                                         .pool = NO_POOL,
                                         .context = ivg_context_owner(executor, ivg_context_current())};
        if (ivg_vram_take(device, block->bytes))
                return block;
        free(block);
        return NULL;
}

bool ivg_vram_block_grow(struct ivg_vram_block *block, uint64_t bytes)
{
        const uint64_t grown = in_units(bytes), more = grown > block->bytes ? grown - block->bytes : 0;

        if (!ivg_vram_take(block->device, more))
                return false;
        block->bytes += more;
        return true;
}

void ivg_vram_block_undo(struct ivg_vram_block *block)
{
        ivg_vram_give(block->device, block->bytes);
        free(block);
}

/* After the driver's answer, which has put an address or an array at `given`. */
CUresult ivg_vram_block_settle(struct ivg_vram_block *block, CUresult result, const void *given)
{
        uint64_t key;

        if (result != CUDA_SUCCESS) {
                ivg_vram_block_undo(block);
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
                for (struct ivg_vram_block **link = &buckets[i]; *link;) {
                        struct ivg_vram_block *block = *link;

                        if (block->context != context) {
                                link = &block->next;
                                continue;
                        }
                        *link = block->next;
                        block_release(block);
                }
        pthread_mutex_unlock(&mutex);
}

/* ---- pools and graphs ---- */

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

bool ivg_vram_pool_count(struct ivg_vram_block *block, CUmemoryPool handle)
{
        struct pool *pool;
        uint64_t reserved;
        uint32_t index;
        bool there = true;

        if (!handle && ivg_vram_real.cuDeviceGetMemPool)
                (void)ivg_vram_real.cuDeviceGetMemPool(&handle, block->device);
        if (!handle) /* its own bytes stay counted */
                return true;
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

void ivg_vram_pool_ends(CUmemoryPool handle)
{
        pthread_mutex_lock(&mutex);
        for (uint32_t i = 0; i < POOLS_MAX; i++)
                if (pools[i].handle == handle) {
                        pools[i].handle = NULL; /* it is asked no more */
                        pool_shrink(&pools[i]);
                }
        pthread_mutex_unlock(&mutex);
}

void ivg_vram_pools_shrink(void)
{
        pthread_mutex_lock(&mutex);
        for (uint32_t i = 0; i < POOLS_MAX; i++)
                if (pools[i].counted > 0)
                        pool_shrink(&pools[i]);
        pthread_mutex_unlock(&mutex);
}

void ivg_vram_graphs_begin(void)
{
        ivg_store_relaxed_u32(&graphs_take_memory, 1); /* relaxed: the program launches them afterwards */
}

bool ivg_vram_graphs_began(void)
{
        return ivg_load_relaxed_u32(&graphs_take_memory);
}

void ivg_vram_graphs_count(int32_t device)
{
        pthread_mutex_lock(&mutex);
        graph_count(device);
        pthread_mutex_unlock(&mutex);
}

/* ---- the table ---- */

uint64_t ivg_vram_limit(void)
{
        return ivg_load_relaxed_u64(&table->limit_bytes); /* relaxed: a moment earlier or later is as good */
}

uint64_t ivg_vram_held(int32_t device)
{
        return device_is_counted(device) ? ivg_vram_table_sum(table, (uint32_t)device) : 0;
}

int ivg_vram_figures_open(struct ivg_exec *exec, int fd, uint32_t own_place)
{
        table = own_place < IVG_VRAM_PLACES ? ivg_vram_table_map(fd) : NULL;
        if (!table)
                return -EINVAL;
        place = own_place;
        executor = exec;
        ivg_vram_real = exec->driver;
        return 0;
}
