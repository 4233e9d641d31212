/* Special registers, and the two addresses that are known only when a block runs. */
#include <string.h>
#include <time.h>

#include "ptx_build.h"
#include "ptx_machine.h"

enum special {
        SPECIAL_DYNAMIC_SHARED = PTX_SPECIAL_DYNAMIC_SHARED,
        SPECIAL_LOCAL_BASE = PTX_SPECIAL_LOCAL_BASE,
        SPECIAL_TID_X,
        SPECIAL_TID_Y,
        SPECIAL_TID_Z,
        SPECIAL_NTID_X,
        SPECIAL_NTID_Y,
        SPECIAL_NTID_Z,
        SPECIAL_CTAID_X,
        SPECIAL_CTAID_Y,
        SPECIAL_CTAID_Z,
        SPECIAL_NCTAID_X,
        SPECIAL_NCTAID_Y,
        SPECIAL_NCTAID_Z,
        SPECIAL_LANEID,
        SPECIAL_WARPID,
        SPECIAL_NWARPID,
        SPECIAL_ZERO,
        SPECIAL_ONE,
        SPECIAL_GRIDID,
        SPECIAL_CLOCK,
        SPECIAL_CLOCK_HI,
        SPECIAL_CLOCK64,
        SPECIAL_GLOBALTIMER,
        SPECIAL_GLOBALTIMER_LO,
        SPECIAL_GLOBALTIMER_HI,
        SPECIAL_LANEMASK_EQ,
        SPECIAL_LANEMASK_LE,
        SPECIAL_LANEMASK_LT,
        SPECIAL_LANEMASK_GE,
        SPECIAL_LANEMASK_GT,
        SPECIAL_TOTAL_SMEM,
        SPECIAL_DYNAMIC_SMEM,
        SPECIAL_WORKSPACE_HI,
        SPECIAL_WORKSPACE_LO,
};

static const struct {
        const char *name;
        enum special id;
        enum ptx_type type;
} specials[] = {
        {"%tid.x", SPECIAL_TID_X, PTX_U32},
        {"%tid.y", SPECIAL_TID_Y, PTX_U32},
        {"%tid.z", SPECIAL_TID_Z, PTX_U32},
        {"%ntid.x", SPECIAL_NTID_X, PTX_U32},
        {"%ntid.y", SPECIAL_NTID_Y, PTX_U32},
        {"%ntid.z", SPECIAL_NTID_Z, PTX_U32},
        {"%ctaid.x", SPECIAL_CTAID_X, PTX_U32},
        {"%ctaid.y", SPECIAL_CTAID_Y, PTX_U32},
        {"%ctaid.z", SPECIAL_CTAID_Z, PTX_U32},
        {"%nctaid.x", SPECIAL_NCTAID_X, PTX_U32},
        {"%nctaid.y", SPECIAL_NCTAID_Y, PTX_U32},
        {"%nctaid.z", SPECIAL_NCTAID_Z, PTX_U32},
        {"%laneid", SPECIAL_LANEID, PTX_U32},
        {"%warpid", SPECIAL_WARPID, PTX_U32},
        {"%nwarpid", SPECIAL_NWARPID, PTX_U32},
        {"%smid", SPECIAL_ZERO, PTX_U32},
        {"%nsmid", SPECIAL_ONE, PTX_U32},
        {"%gridid", SPECIAL_GRIDID, PTX_U64},
        {"%clock", SPECIAL_CLOCK, PTX_U32},
        {"%clock_hi", SPECIAL_CLOCK_HI, PTX_U32},
        {"%clock64", SPECIAL_CLOCK64, PTX_U64},
        {"%globaltimer", SPECIAL_GLOBALTIMER, PTX_U64},
        {"%globaltimer_lo", SPECIAL_GLOBALTIMER_LO, PTX_U32},
        {"%globaltimer_hi", SPECIAL_GLOBALTIMER_HI, PTX_U32},
        {"%lanemask_eq", SPECIAL_LANEMASK_EQ, PTX_U32},
        {"%lanemask_le", SPECIAL_LANEMASK_LE, PTX_U32},
        {"%lanemask_lt", SPECIAL_LANEMASK_LT, PTX_U32},
        {"%lanemask_ge", SPECIAL_LANEMASK_GE, PTX_U32},
        {"%lanemask_gt", SPECIAL_LANEMASK_GT, PTX_U32},
        {"%total_smem_size", SPECIAL_TOTAL_SMEM, PTX_U32},
        {"%aggr_smem_size", SPECIAL_TOTAL_SMEM, PTX_U32},
        {"%dynamic_smem_size", SPECIAL_DYNAMIC_SMEM, PTX_U32},
        /* Where cooperative groups look for the memory of their grid barrier. */
        {"%envreg1", SPECIAL_WORKSPACE_HI, PTX_U32},
        {"%envreg2", SPECIAL_WORKSPACE_LO, PTX_U32},
        /* Every block is a cluster of its own. */
        {"%clusterid.x", SPECIAL_CTAID_X, PTX_U32},
        {"%clusterid.y", SPECIAL_CTAID_Y, PTX_U32},
        {"%clusterid.z", SPECIAL_CTAID_Z, PTX_U32},
        {"%nclusterid.x", SPECIAL_NCTAID_X, PTX_U32},
        {"%nclusterid.y", SPECIAL_NCTAID_Y, PTX_U32},
        {"%nclusterid.z", SPECIAL_NCTAID_Z, PTX_U32},
        {"%cluster_ctaid.x", SPECIAL_ZERO, PTX_U32},
        {"%cluster_ctaid.y", SPECIAL_ZERO, PTX_U32},
        {"%cluster_ctaid.z", SPECIAL_ZERO, PTX_U32},
        {"%cluster_nctaid.x", SPECIAL_ONE, PTX_U32},
        {"%cluster_nctaid.y", SPECIAL_ONE, PTX_U32},
        {"%cluster_nctaid.z", SPECIAL_ONE, PTX_U32},
        {"%cluster_ctarank", SPECIAL_ZERO, PTX_U32},
        {"%cluster_nctarank", SPECIAL_ONE, PTX_U32},
};

bool ptx_special_find(const char *name, size_t bytes, uint32_t *id, enum ptx_type *type)
{
        for (unsigned i = 0; i < sizeof(specials) / sizeof(specials[0]); i++)
                if (strlen(specials[i].name) == bytes && !memcmp(specials[i].name, name, bytes)) {
                        *id = specials[i].id;
                        *type = specials[i].type;
                        return true;
                }
        return false;
}

static uint64_t now_ns(clockid_t clock)
{
        struct timespec t;

        clock_gettime(clock, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* What is the same in all lanes. */
static uint64_t uniform(const struct ptx_warp *warp, uint32_t id)
{
        const struct ptx_block *block = warp->block;
        const struct ptx_run *run = block->run;

        switch (id) {
        case SPECIAL_DYNAMIC_SHARED:
                return run->dynamic_shared;
        case SPECIAL_LOCAL_BASE:
                return warp->local_base;
        case SPECIAL_NTID_X:
        case SPECIAL_NTID_Y:
        case SPECIAL_NTID_Z:
                return run->launch->block[id - SPECIAL_NTID_X];
        case SPECIAL_CTAID_X:
        case SPECIAL_CTAID_Y:
        case SPECIAL_CTAID_Z:
                return block->ctaid[id - SPECIAL_CTAID_X];
        case SPECIAL_NCTAID_X:
        case SPECIAL_NCTAID_Y:
        case SPECIAL_NCTAID_Z:
                return run->launch->grid[id - SPECIAL_NCTAID_X];
        case SPECIAL_WARPID:
                return warp->index;
        case SPECIAL_NWARPID:
                return PTX_BLOCK_THREADS_MAX / PTX_LANES;
        case SPECIAL_ONE:
                return 1;
        case SPECIAL_GRIDID:
                return run->grid_id;
        case SPECIAL_CLOCK:
        case SPECIAL_CLOCK64:
                return now_ns(CLOCK_MONOTONIC);
        case SPECIAL_CLOCK_HI:
                return now_ns(CLOCK_MONOTONIC) >> 32;
        case SPECIAL_GLOBALTIMER:
        case SPECIAL_GLOBALTIMER_LO:
                return now_ns(CLOCK_REALTIME);
        case SPECIAL_GLOBALTIMER_HI:
                return now_ns(CLOCK_REALTIME) >> 32;
        case SPECIAL_TOTAL_SMEM:
                return run->shared_bytes;
        case SPECIAL_DYNAMIC_SMEM:
                return run->launch->dynamic_shared_bytes;
        case SPECIAL_WORKSPACE_HI:
                return run->launch->cooperative ? (uint64_t)(uintptr_t)run->workspace >> 32 : 0;
        case SPECIAL_WORKSPACE_LO:
                return run->launch->cooperative ? (uint64_t)(uintptr_t)run->workspace : 0;
        default:
                return 0;
        }
}

static int per_lane(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        lane_u32 *d = ptx_at(warp, insn->d);

        switch (insn->aux) {
        case SPECIAL_LANEID:
                PTX_LANES_DO(mask, d[i] = i;);
                break;
        case SPECIAL_LANEMASK_EQ:
                PTX_LANES_DO(mask, d[i] = 1u << i;);
                break;
        case SPECIAL_LANEMASK_LE:
                PTX_LANES_DO(mask, d[i] = (2u << i) - 1;);
                break;
        case SPECIAL_LANEMASK_LT:
                PTX_LANES_DO(mask, d[i] = (1u << i) - 1;);
                break;
        case SPECIAL_LANEMASK_GE:
                PTX_LANES_DO(mask, d[i] = ~((1u << i) - 1););
                break;
        case SPECIAL_LANEMASK_GT:
                PTX_LANES_DO(mask, d[i] = ~((2u << i) - 1););
                break;
        default: {
                const uint32_t *tid = warp->tid[insn->aux - SPECIAL_TID_X];

                PTX_LANES_DO(mask, d[i] = tid[i];);
                break;
        }
        }
        return 0;
}

int ptx_op_special(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        uint64_t value;

        if ((insn->aux >= SPECIAL_TID_X && insn->aux <= SPECIAL_TID_Z) || insn->aux == SPECIAL_LANEID ||
            (insn->aux >= SPECIAL_LANEMASK_EQ && insn->aux <= SPECIAL_LANEMASK_GT))
                return per_lane(warp, insn, mask);
        value = uniform(warp, insn->aux) + (uint64_t)insn->offset;
        if (insn->bytes == 4) {
                lane_u32 *d = ptx_at(warp, insn->d);

                PTX_LANES_DO(mask, d[i] = (uint32_t)value;);
        } else {
                lane_u64 *d = ptx_at(warp, insn->d);

                PTX_LANES_DO(mask, d[i] = value;);
        }
        return 0;
}
