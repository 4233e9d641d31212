/* atom and red, lane by lane, with the host's atomic instructions: blocks run on several cores. All are sequentially
 * consistent, which is at least what any .sem asks for. */
#include "ptx_machine.h"
#include "ptx_memory.h"
#include "ptx_numeric.h"

/* The value that takes the place of `old`. */
static uint64_t combine(const struct ptx_insn *insn, uint64_t old, uint64_t b, uint64_t c)
{
        const bool is_signed = ptx_types[insn->type].kind == 's';
        const unsigned shift = 64 - insn->bytes * 8u;
        const int64_t signed_old = (int64_t)(old << shift) >> shift, signed_b = (int64_t)(b << shift) >> shift;

        switch (insn->mode) {
        case PTX_ATOMIC_ADD:
                return old + b;
        case PTX_ATOMIC_MIN:
                return (is_signed ? signed_old < signed_b : old < b) ? old : b;
        case PTX_ATOMIC_MAX:
                return (is_signed ? signed_old > signed_b : old > b) ? old : b;
        case PTX_ATOMIC_AND:
                return old & b;
        case PTX_ATOMIC_OR:
                return old | b;
        case PTX_ATOMIC_XOR:
                return old ^ b;
        case PTX_ATOMIC_CAS:
                return old == b ? c : old;
        case PTX_ATOMIC_INC:
                return old >= b ? 0 : old + 1;
        case PTX_ATOMIC_DEC:
                return old == 0 || old > b ? b : old - 1;
        default: /* EXCH */
                return b;
        }
}

static uint32_t pair(uint16_t low, uint16_t high)
{
        return low | (uint32_t)high << 16;
}

static uint16_t combine_half(const struct ptx_insn *insn, uint16_t x, uint16_t y)
{
        const bool is_bfloat = insn->type == PTX_BF16 || insn->type == PTX_BF16X2;
        const float a = is_bfloat ? bfloat_to_float(x) : half_to_float(x);
        const float b = is_bfloat ? bfloat_to_float(y) : half_to_float(y);
        const float r = insn->mode == PTX_ATOMIC_MIN ? min32(a, b) : insn->mode == PTX_ATOMIC_MAX ? max32(a, b) : a + b;

        return is_bfloat ? float_to_bfloat(r) : float_to_half(r);
}

static uint64_t combine_float(const struct ptx_insn *insn, uint64_t old, uint64_t b)
{
        switch (insn->type) {
        case PTX_F32: {
                float x = float32((uint32_t)old), y = float32((uint32_t)b);

                return bits32(insn->mode == PTX_ATOMIC_MIN   ? min32(x, y)
                              : insn->mode == PTX_ATOMIC_MAX ? max32(x, y)
                                                             : canonical32(x + y));
        }
        case PTX_F64: {
                double x = float64(old), y = float64(b);

                return bits64(x + y);
        }
        case PTX_F16:
        case PTX_BF16:
                return combine_half(insn, (uint16_t)old, (uint16_t)b);
        default:
                return pair(combine_half(insn, (uint16_t)old, (uint16_t)b),
                            combine_half(insn, (uint16_t)(old >> 16), (uint16_t)(b >> 16)));
        }
}

/* The loop ends: each failed exchange means that another lane's operation went through. */
#define EXCHANGE(T, PLACE)                                                                                             \
        do {                                                                                                           \
                lane_##T *word = (void *)(PLACE);                                                                      \
                lane_##T seen = __atomic_load_n(word, __ATOMIC_RELAXED);                                               \
                lane_##T wanted;                                                                                       \
                do {                                                                                                   \
                        wanted = (lane_##T)(is_float ? combine_float(insn, seen, b) : combine(insn, seen, b, c));      \
                } while (                                                                                              \
                        !__atomic_compare_exchange_n(word, &seen, wanted, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)); \
                return seen;                                                                                           \
        } while (0)

static uint64_t perform(const struct ptx_insn *insn, uint8_t *place, uint64_t b, uint64_t c)
{
        const bool is_float = ptx_types[insn->type].kind == 'f' && insn->mode != PTX_ATOMIC_EXCH;

        /* What histograms and counters do all day. */
        if (insn->mode == PTX_ATOMIC_ADD && !is_float && insn->bytes == 4)
                return __atomic_fetch_add((lane_u32 *)(void *)place, (uint32_t)b, __ATOMIC_SEQ_CST);
        switch (insn->bytes) {
        case 2:
                EXCHANGE(u16, place);
        case 4:
                EXCHANGE(u32, place);
        default:
                EXCHANGE(u64, place);
        }
}

static uint64_t read_lane(const struct ptx_warp *warp, ptx_ref ref, unsigned bytes, unsigned lane)
{
        const void *lanes;

        if (ref == PTX_REF_NONE)
                return 0;
        lanes = ptx_at(warp, ref);
        return bytes == 2   ? ((const lane_u16 *)lanes)[lane]
               : bytes == 4 ? ((const lane_u32 *)lanes)[lane]
                            : ((const lane_u64 *)lanes)[lane];
}

int ptx_op_atomic(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        uint8_t *place[PTX_LANES];
        int rc = ptx_resolve(warp, insn, mask, insn->bytes, true, place);

        if (rc)
                return rc;
        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);
                uint64_t old = perform(insn, place[i], read_lane(warp, insn->b, insn->bytes, i),
                                       read_lane(warp, insn->c, insn->bytes, i));

                if (insn->d == PTX_REF_NONE)
                        continue;
                if (insn->bytes == 2)
                        ((lane_u16 *)ptx_at(warp, insn->d))[i] = (uint16_t)old;
                else if (insn->bytes == 4)
                        ((lane_u32 *)ptx_at(warp, insn->d))[i] = (uint32_t)old;
                else
                        ((lane_u64 *)ptx_at(warp, insn->d))[i] = old;
        }
        return 0;
}
