/* One grid: checks, workers, result. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptx_machine.h"
#include "ptx_pool.h"

#define GRID_X_MAX 2147483647u
#define GRID_YZ_MAX 65535u
#define BLOCK_Z_MAX 64u

static enum ptx_status refuse(struct ptx_fault *fault, enum ptx_status status, const char *what, uint64_t value)
{
        snprintf(fault->detail, sizeof(fault->detail), "%s: %" PRIu64, what, value);
        return status;
}

static enum ptx_status check_launch(const struct ptx_launch *launch, struct ptx_fault *fault)
{
        const struct ptx_function *f = launch->function;
        uint64_t threads = 1, blocks = 1;

        for (unsigned i = 0; i < 3; i++) {
                if (launch->grid[i] == 0 || launch->block[i] == 0)
                        return refuse(fault, PTX_INVALID, "grid or block has no extent in dimension", i);
                if (launch->grid[i] > (i ? GRID_YZ_MAX : GRID_X_MAX))
                        return refuse(fault, PTX_INVALID, "grid too large", launch->grid[i]);
                if (launch->block[i] > (i == 2 ? BLOCK_Z_MAX : PTX_BLOCK_THREADS_MAX))
                        return refuse(fault, PTX_INVALID, "block too large", launch->block[i]);
                threads *= launch->block[i];
                blocks *= launch->grid[i];
        }
        if (threads > PTX_BLOCK_THREADS_MAX)
                return refuse(fault, PTX_INVALID, "too many threads in a block", threads);
        if (threads > f->max_threads)
                return refuse(fault, PTX_OUT_OF_RESOURCES, "more threads than .maxntid", threads);
        for (unsigned i = 0; i < 3; i++)
                if (f->reqntid[i] && f->reqntid[i] != launch->block[i])
                        return refuse(fault, PTX_OUT_OF_RESOURCES, "block differs from .reqntid", launch->block[i]);
        if (launch->dynamic_shared_bytes > PTX_SHARED_BYTES_MAX ||
            f->shared_bytes + launch->dynamic_shared_bytes > PTX_SHARED_BYTES_MAX)
                return refuse(fault, PTX_OUT_OF_RESOURCES, "shared memory",
                              (uint64_t)f->shared_bytes + launch->dynamic_shared_bytes);
        if (launch->cooperative && blocks > PTX_RESIDENT_BLOCKS_MAX)
                return refuse(fault, PTX_OUT_OF_RESOURCES, "too many blocks for a cooperative launch", blocks);
        return PTX_OK;
}

/* The blocks one worker has started: a ring through `next`, run in turn. */
struct residents {
        struct ptx_run *run;
        struct ptx_block *front, *back;
        struct ptx_block *spare; /* done, to be started again */
        uint32_t count;
        uint32_t yields; /* since a block was started or done */
};

static void append(struct residents *r, struct ptx_block *block)
{
        block->next = NULL;
        if (r->back)
                r->back->next = block;
        else
                r->front = block;
        r->back = block;
}

static struct ptx_block *take_front(struct residents *r)
{
        struct ptx_block *block = r->front;

        if (block) {
                r->front = block->next;
                if (!r->front)
                        r->back = NULL;
        }
        return block;
}

/* One more block, if there is one and the launch has room for it. False: none was started. */
static bool start_block(struct residents *r)
{
        struct ptx_run *run = r->run;
        struct ptx_block *block;
        uint64_t index;

        if (atomic_fetch_add_explicit(&run->resident, 1, memory_order_relaxed) >= PTX_RESIDENT_BLOCKS_MAX)
                goto none;
        /* Relaxed: the counter hands out numbers, what a block reads was written before the workers started. */
        index = atomic_load_explicit(&run->next_block, memory_order_relaxed);
        if (index >= run->block_count)
                goto none;
        index = atomic_fetch_add_explicit(&run->next_block, 1, memory_order_relaxed);
        if (index >= run->block_count)
                goto none;
        block = r->spare;
        r->spare = NULL;
        if (!block)
                block = ptx_block_create(run);
        if (!block) {
                pthread_mutex_lock(&run->lock);
                if (run->status == PTX_OK) {
                        run->status = PTX_OUT_OF_MEMORY;
                        snprintf(run->fault.detail, sizeof(run->fault.detail), "no memory for a block");
                }
                pthread_mutex_unlock(&run->lock);
                atomic_store_explicit(&run->stop, 1, memory_order_relaxed);
                goto none;
        }
        append(r, block);
        r->count++;
        r->yields = 0;
        ptx_block_start(block, index);
        return true;
none:
        atomic_fetch_sub_explicit(&run->resident, 1, memory_order_relaxed);
        return false;
}

/* Blocks wait for each other only in cooperative launches and in those that rely on earlier blocks being further along;
 * the first kind starts all blocks at once, for the second it is enough to add one when the others had two turns. */
static bool wants_more(const struct residents *r)
{
        return r->count == 0 || r->run->launch->cooperative || r->yields >= 2 * r->count;
}

static void finish_block(struct residents *r, struct ptx_block *block)
{
        r->count--;
        r->yields = 0;
        atomic_fetch_sub_explicit(&r->run->resident, 1, memory_order_relaxed);
        if (r->spare)
                ptx_block_destroy(block);
        else
                r->spare = block;
}

static void run_blocks(void *context)
{
        struct residents r = {.run = context};

        for (;;) {
                struct ptx_block *block;

                if (ptx_must_stop(r.run))
                        break;
                while (wants_more(&r) && start_block(&r) && r.run->launch->cooperative)
                        ;
                block = take_front(&r);
                if (!block)
                        break;
                switch (ptx_block_run(block)) {
                case PTX_BLOCK_DONE:
                        finish_block(&r, block);
                        break;
                default:
                        append(&r, block);
                        r.yields++;
                        break;
                }
        }
        while (r.front)
                ptx_block_destroy(take_front(&r));
        if (r.spare)
                ptx_block_destroy(r.spare);
}

static bool set_up(struct ptx_run *run, const struct ptx_launch *launch)
{
        static _Atomic(uint64_t) next_grid_id;
        const struct ptx_function *f = launch->function;
        uint32_t align = f->dynamic_align ? f->dynamic_align : 16;

        run->launch = launch;
        run->function = f;
        run->module = f->module;
        run->dynamic_shared = (f->shared_bytes + align - 1) & ~(align - 1);
        run->shared_bytes =
                launch->dynamic_shared_bytes ? run->dynamic_shared + launch->dynamic_shared_bytes : f->shared_bytes;
        run->threads = launch->block[0] * launch->block[1] * launch->block[2];
        run->block_count = (uint64_t)launch->grid[0] * launch->grid[1] * launch->grid[2];
        run->grid_id = atomic_fetch_add_explicit(&next_grid_id, 1, memory_order_relaxed);
        run->params = aligned_alloc(4096, ((size_t)f->param_bytes + 4096) & ~(size_t)4095);
        if (!run->params)
                return false;
        if (f->param_bytes)
                memcpy(run->params, launch->params, f->param_bytes);
        pthread_mutex_init(&run->lock, NULL);
        return true;
}

enum ptx_status ptx_launch(const struct ptx_launch *launch, struct ptx_fault *fault)
{
        struct ptx_run *run;
        struct ptx_fault ignored;
        struct ptx_task task = {.work = run_blocks};
        enum ptx_status status;
        uint32_t workers;

        if (!fault)
                fault = &ignored;
        memset(fault, 0, sizeof(*fault));
        status = check_launch(launch, fault);
        if (status != PTX_OK)
                return status;
        run = aligned_alloc(64, (sizeof(*run) + 63) & ~(size_t)63);
        if (run)
                memset(run, 0, sizeof(*run));
        if (!run || !set_up(run, launch)) {
                free(run);
                return refuse(fault, PTX_OUT_OF_MEMORY, "no memory for a launch of blocks", launch->grid[0]);
        }
        workers = launch->workers && launch->workers < ptx_pool_size() ? launch->workers : ptx_pool_size();
        if (workers > run->block_count)
                workers = (uint32_t)run->block_count;
        task.context = run;
        ptx_pool_run(&task, workers - 1);
        status = run->status;
        if (status == PTX_OK && ptx_must_stop(run)) {
                /* Stopped between two blocks; if the last block was through, the abort came too late to matter. */
                if (atomic_load(&run->next_block) < run->block_count || atomic_load(&run->resident))
                        status = refuse(&run->fault, PTX_ABORTED, "launch aborted after blocks",
                                        atomic_load(&run->next_block));
        }
        *fault = run->fault;
        pthread_mutex_destroy(&run->lock);
        free(run->params);
        free(run);
        return status;
}
