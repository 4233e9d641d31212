/* A block: its warps, shared and local memory, barriers. One worker runs it at any time. */
#include <stdlib.h>
#include <string.h>

#include "ptx_machine.h"

static void set_up_warp(struct ptx_block *block, uint32_t index)
{
        const struct ptx_run *run = block->run;
        const uint32_t *size = run->launch->block;
        struct ptx_warp *warp = &block->warps[index];
        uint32_t first = index * PTX_LANES;
        uint32_t lanes = run->threads - first < PTX_LANES ? run->threads - first : PTX_LANES;

        warp->block = block;
        warp->index = index;
        warp->first_thread = first;
        warp->born = lanes == PTX_LANES ? PTX_MASK_FULL : (1u << lanes) - 1;
        for (uint32_t i = 0; i < lanes; i++) {
                uint32_t thread = first + i;

                warp->tid[0][i] = thread % size[0];
                warp->tid[1][i] = thread / size[0] % size[1];
                warp->tid[2][i] = thread / size[0] / size[1];
        }
}

struct ptx_block *ptx_block_create(struct ptx_run *run)
{
        struct ptx_block *block = calloc(1, sizeof(*block));
        size_t shared_bytes = ((size_t)run->shared_bytes + 63) & ~(size_t)63;
        size_t local_bytes;

        if (!block)
                return NULL;
        block->run = run;
        block->warp_count = (run->threads + PTX_LANES - 1) / PTX_LANES;
        block->shared_bytes = run->shared_bytes;
        block->local_stride = (run->function->stack_bytes + 15u) & ~15u;
        /* A whole number of warps: addresses of lanes that do not exist are computed, though never used. */
        local_bytes = ((size_t)block->local_stride * block->warp_count * PTX_LANES + 63) & ~(size_t)63;
        block->warps = calloc(block->warp_count, sizeof(*block->warps));
        block->shared = aligned_alloc(4096, (shared_bytes + 4096) & ~(size_t)4095);
        block->local = aligned_alloc(64, local_bytes ? local_bytes : 64);
        if (!block->warps || !block->shared || !block->local) {
                ptx_block_destroy(block);
                return NULL;
        }
        memset(block->local, 0, local_bytes);
        for (uint32_t i = 0; i < block->warp_count; i++)
                set_up_warp(block, i);
        return block;
}

void ptx_block_destroy(struct ptx_block *block)
{
        for (uint32_t i = 0; block->warps && i < block->warp_count; i++)
                ptx_warp_release(&block->warps[i]);
        free(block->warps);
        free(block->shared);
        free(block->local);
        free(block);
}

bool ptx_block_start(struct ptx_block *block, uint64_t index)
{
        const uint32_t *grid = block->run->launch->grid;

        block->ctaid[0] = (uint32_t)(index % grid[0]);
        block->ctaid[1] = (uint32_t)(index / grid[0] % grid[1]);
        block->ctaid[2] = (uint32_t)(index / grid[0] / grid[1]);
        block->alive = block->run->threads;
        memset(block->barriers, 0, sizeof(block->barriers));
        memset(block->shared, 0, block->shared_bytes);
        for (uint32_t i = 0; i < block->warp_count; i++)
                if (!ptx_warp_start(&block->warps[i])) {
                        ptx_fault_at(&block->warps[i], PTX_OUT_OF_MEMORY, 0, 0, "no memory for registers");
                        ptx_block_fail(block, &block->warps[i], block->run->function->line, PTX_OUT_OF_MEMORY);
                        return false;
                }
        return true;
}

void ptx_block_fail(struct ptx_block *block, const struct ptx_warp *warp, uint32_t line, enum ptx_status status)
{
        struct ptx_run *run = block->run;

        pthread_mutex_lock(&run->lock);
        if (run->status == PTX_OK) {
                run->status = status;
                run->fault.address = warp->fault_address;
                memcpy(run->fault.block, block->ctaid, sizeof(run->fault.block));
                for (unsigned k = 0; k < 3; k++)
                        run->fault.thread[k] = warp->tid[k][warp->fault_lane];
                run->fault.line = line;
                memcpy(run->fault.detail, warp->fault_detail, sizeof(warp->fault_detail));
        }
        pthread_mutex_unlock(&run->lock);
        /* Relaxed: the status above is read under the lock, this only ends the work of others. */
        atomic_store_explicit(&run->stop, 1, memory_order_relaxed);
}

void ptx_barrier_arrive(struct ptx_block *block, uint32_t id, uint32_t warp, uint32_t lanes, uint32_t true_lanes,
                        uint32_t expected, bool gives_predicate)
{
        struct ptx_barrier *barrier = &block->barriers[id];

        barrier->in_use = true;
        barrier->arrived[warp] |= lanes;
        if (expected)
                barrier->expected = expected;
        if (gives_predicate) {
                barrier->red_total += (uint32_t)__builtin_popcount(lanes);
                barrier->red_count += (uint32_t)__builtin_popcount(true_lanes);
        }
}

/* Without a count every living thread must be there. With one, whole warps count 32 even if lanes are missing, as the
 * hardware counts them. */
static bool is_complete(const struct ptx_block *block, const struct ptx_barrier *barrier)
{
        uint32_t count = 0;

        for (uint32_t i = 0; i < block->warp_count; i++) {
                uint32_t arrived = barrier->arrived[i];
                bool whole = (block->warps[i].alive & ~arrived) == 0;

                if (!barrier->expected && !whole)
                        return false;
                count += whole && arrived ? PTX_LANES : (uint32_t)__builtin_popcount(arrived);
        }
        return !barrier->expected || count >= barrier->expected;
}

static bool pass_barriers(struct ptx_block *block)
{
        bool passed = false;

        for (uint32_t id = 0; id < PTX_BARRIERS_MAX; id++) {
                struct ptx_barrier *barrier = &block->barriers[id];

                if (!barrier->in_use || !is_complete(block, barrier))
                        continue;
                for (uint32_t i = 0; i < block->warp_count; i++)
                        ptx_warp_pass_barrier(&block->warps[i], id, barrier);
                memset(barrier, 0, sizeof(*barrier));
                passed = true;
        }
        return passed;
}

/* Nobody can go on: names one fragment that waits and what for. */
static void fail_waiting(struct ptx_block *block)
{
        for (uint32_t i = 0; i < block->warp_count; i++) {
                struct ptx_warp *warp = &block->warps[i];
                const struct ptx_fragment *f = warp->fragments;

                if (!warp->fragment_count)
                        continue;
                if (f->state == PTX_FRAGMENT_AT_BARRIER)
                        ptx_fault_at(warp, PTX_BARRIER, (unsigned)__builtin_ctz(f->mask), f->barrier,
                                     "warp %u lanes 0x%08x wait forever at barrier %u", i, f->mask, f->barrier);
                else
                        ptx_fault_at(warp, PTX_BARRIER, (unsigned)__builtin_ctz(f->mask), 0,
                                     "warp %u lanes 0x%08x wait forever for other lanes of the warp", i, f->mask);
                ptx_block_fail(block, warp, f->frame->function->code[f->pc].line, PTX_BARRIER);
                return;
        }
}

enum ptx_block_progress ptx_block_run(struct ptx_block *block)
{
        uint32_t rounds = block->run->launch->cooperative ? PTX_COOPERATIVE_ROUNDS : PTX_BLOCK_ROUNDS;

        for (uint32_t passes = 0; rounds && passes < PTX_BARRIER_PASSES; passes++) {
                bool yielded = false, passed = false;

                if (ptx_must_stop(block->run)) {
                        ptx_fault_at(&block->warps[0], PTX_ABORTED, 0, 0, "launch aborted");
                        ptx_block_fail(block, &block->warps[0], block->run->function->line, PTX_ABORTED);
                        return PTX_BLOCK_FAILED;
                }
                for (uint32_t i = 0; i < block->warp_count; i++) {
                        enum ptx_warp_progress progress;

                        if (!block->warps[i].fragment_count)
                                continue;
                        progress = ptx_warp_run(&block->warps[i]);
                        if (progress == PTX_WARP_FAILED)
                                return PTX_BLOCK_FAILED;
                        yielded |= progress == PTX_WARP_YIELDS;
                        passed |= pass_barriers(block);
                }
                if (!block->alive)
                        return PTX_BLOCK_DONE;
                if (!yielded && !passed) {
                        fail_waiting(block);
                        return PTX_BLOCK_FAILED;
                }
                rounds -= yielded;
        }
        return PTX_BLOCK_YIELDS;
}
