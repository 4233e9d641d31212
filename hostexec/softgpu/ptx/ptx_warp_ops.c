/* Instructions that look across the lanes of a warp. The interpreter runs them once all member lanes are together. */
#include <time.h>

#include "ptx_machine.h"
#include "ptx_memory.h"

static uint32_t member_mask(const struct ptx_warp *warp, const struct ptx_insn *insn, unsigned lane)
{
        return ((const lane_u32 *)ptx_at(warp, insn->e))[lane];
}

/* The source lane of lane `i`, and whether it lies in the segment that c describes. */
static unsigned shuffle_source(unsigned mode, unsigned i, uint32_t b, uint32_t c, bool *inside)
{
        const uint32_t segment = c >> 8 & 31, clamp = c & 31, delta = b & 31;
        const uint32_t last = (i & segment) | (clamp & ~segment), first = i & segment;
        int32_t j;

        switch (mode) {
        case PTX_SHUFFLE_UP:
                j = (int32_t)i - (int32_t)delta;
                *inside = j >= (int32_t)last;
                break;
        case PTX_SHUFFLE_DOWN:
                j = (int32_t)(i + delta);
                *inside = j <= (int32_t)last;
                break;
        case PTX_SHUFFLE_BFLY:
                j = (int32_t)(i ^ delta);
                *inside = j <= (int32_t)last;
                break;
        default:
                j = (int32_t)(first | (delta & ~segment));
                *inside = j <= (int32_t)last;
                break;
        }
        return *inside ? (unsigned)j & 31 : i;
}

/* d = a of the source lane. A list of one reference, if there is one, gets the predicate. */
int ptx_op_shuffle(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        lane_u32 *d = ptx_at(warp, insn->d);
        const lane_u32 *a = ptx_at(warp, insn->a), *b = ptx_at(warp, insn->b), *c = ptx_at(warp, insn->c);
        uint32_t result[PTX_LANES], all_inside = 0;

        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);
                bool inside;

                result[i] = a[shuffle_source(insn->mode, i, b[i], c[i], &inside)];
                all_inside |= (uint32_t)inside << i;
        }
        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);

                d[i] = result[i];
        }
        if (insn->list) {
                lane_u32 *p = ptx_at(warp, insn->list[0]);

                *p = (*p & ~mask) | all_inside;
        }
        return 0;
}

int ptx_op_vote(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        const uint32_t holds = *(const lane_u32 *)ptx_at(warp, insn->a) & mask;
        lane_u32 *d = ptx_at(warp, insn->d);
        uint32_t result = 0;

        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);
                const uint32_t members = member_mask(warp, insn, i) & mask;
                const uint32_t of_members = holds & members;
                bool yes;

                if (insn->mode == PTX_VOTE_BALLOT) {
                        d[i] = of_members;
                        continue;
                }
                yes = insn->mode == PTX_VOTE_ALL   ? of_members == members
                      : insn->mode == PTX_VOTE_ANY ? of_members != 0
                                                   : of_members == 0 || of_members == members;
                result |= (uint32_t)yes << i;
        }
        if (insn->mode != PTX_VOTE_BALLOT)
                *d = (*d & ~mask) | result;
        return 0;
}

/* mode 1 is match.all; a list of one reference gets its predicate. bytes: 4 or 8. */
int ptx_op_match(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        uint64_t value[PTX_LANES] = {0};
        lane_u32 *d = ptx_at(warp, insn->d);
        uint32_t all_equal = 0;

        for (unsigned i = 0; i < PTX_LANES; i++)
                value[i] = insn->bytes == 4 ? ((const lane_u32 *)ptx_at(warp, insn->a))[i]
                                            : ((const lane_u64 *)ptx_at(warp, insn->a))[i];
        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);
                const uint32_t members = member_mask(warp, insn, i) & mask;
                uint32_t equal = 0;

                for (uint32_t others = members; others; others &= others - 1) {
                        unsigned k = (unsigned)__builtin_ctz(others);

                        equal |= (uint32_t)(value[k] == value[i]) << k;
                }
                if (insn->mode) {
                        all_equal |= (uint32_t)(equal == members) << i;
                        equal = equal == members ? equal : 0;
                }
                d[i] = equal;
        }
        if (insn->list) {
                lane_u32 *p = ptx_at(warp, insn->list[0]);

                *p = (*p & ~mask) | all_equal;
        }
        return 0;
}

static uint32_t reduce(const struct ptx_insn *insn, uint32_t x, uint32_t y)
{
        const bool is_signed = insn->type == PTX_S32;

        switch (insn->mode) {
        case PTX_REDUX_ADD:
                return x + y;
        case PTX_REDUX_MIN:
                return (is_signed ? (int32_t)x < (int32_t)y : x < y) ? x : y;
        case PTX_REDUX_MAX:
                return (is_signed ? (int32_t)x > (int32_t)y : x > y) ? x : y;
        case PTX_REDUX_AND:
                return x & y;
        case PTX_REDUX_OR:
                return x | y;
        default:
                return x ^ y;
        }
}

int ptx_op_redux(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        const lane_u32 *a = ptx_at(warp, insn->a);
        lane_u32 *d = ptx_at(warp, insn->d);
        uint32_t result[PTX_LANES];

        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);
                uint32_t members = member_mask(warp, insn, i) & mask;

                if (!members)
                        members = 1u << i;
                result[i] = a[__builtin_ctz(members)];
                for (members &= members - 1; members; members &= members - 1)
                        result[i] = reduce(insn, result[i], a[__builtin_ctz(members)]);
        }
        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);

                d[i] = result[i];
        }
        return 0;
}

/* The lowest member leads; d (which may be a scratch register) gets its number, the predicate in the list says who. */
int ptx_op_elect(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        lane_u32 *d = ptx_at(warp, insn->d);
        lane_u32 *p = ptx_at(warp, insn->list[0]);
        uint32_t leaders = 0;

        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);
                const uint32_t members = member_mask(warp, insn, i) & mask;
                unsigned leader = members ? (unsigned)__builtin_ctz(members) : i;

                d[i] = leader;
                leaders |= (uint32_t)(leader == i) << i;
        }
        *p = (*p & ~mask) | leaders;
        return 0;
}

int ptx_op_activemask(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        lane_u32 *d = ptx_at(warp, insn->d);

        PTX_LANES_DO(mask, d[i] = mask;);
        return 0;
}

/* Lanes may sleep up to twice what they ask for; 1 us is short enough for every waiting loop and keeps the core usable
 * by the block that is waited for. */
int ptx_op_nanosleep(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        const struct timespec pause = {0, 1000};
        const lane_u32 *a = ptx_at(warp, insn->a);

        if (a[__builtin_ctz(mask)])
                nanosleep(&pause, NULL);
        return 0;
}

int ptx_op_trap(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        return ptx_fault_at(warp, PTX_TRAP, (unsigned)__builtin_ctz(mask), 0, "%s executed",
                            insn->mode ? "brkpt" : "trap");
}
