/* Matrix instructions: mma.sync, ldmatrix, movmatrix. A warp holds a matrix spread over its lanes; each instruction
 * gathers it, works on it as a matrix, and spreads the result. lane = 4 * group + member throughout, as in the ISA. */
#include <string.h>

#include "ptx_build.h"
#include "ptx_machine.h"
#include "ptx_memory.h"

#define NONE PTX_REF_NONE
#define ROWS 16u /* of A and D */
#define COLUMNS 8u
#define DEPTH_MAX 32u

struct shape {
        uint8_t depth;
        uint8_t operand; /* enum ptx_type of A and B */
        uint8_t result;  /* of C and D */
};

static uint32_t lane_word(const struct ptx_warp *warp, ptx_ref ref, unsigned lane)
{
        return ((const lane_u32 *)ptx_at(warp, ref))[lane];
}

/* One element out of a register that packs several. */
static float element(uint32_t word, enum ptx_type type, unsigned index)
{
        switch (type) {
        case PTX_F16:
                return half_to_float((uint16_t)(word >> 16 * index));
        case PTX_BF16:
                return bfloat_to_float((uint16_t)(word >> 16 * index));
        case PTX_S8:
                return (float)(int8_t)(word >> 8 * index);
        case PTX_U8:
                return (float)(uint8_t)(word >> 8 * index);
        default: /* tf32: the low 13 bits do not count */
                return float32(word & 0xffffe000u);
        }
}

/* How many elements a register packs. */
static unsigned packed(enum ptx_type type)
{
        return type == PTX_TF32 ? 1 : 4u / ptx_types[type].bytes;
}

/* Rows of A: register r of lane l holds, of row l / 4 (+ 8 for odd r), the columns from pack * (l % 4) on, the upper
 * half of the columns for r >= 2. B is laid out as A's transpose without the second set of rows. */
static void gather_a(const struct ptx_warp *warp, const struct shape *shape, const ptx_ref *registers, unsigned count,
                     float a[ROWS][DEPTH_MAX])
{
        const unsigned pack = packed(shape->operand), half = 4 * pack;

        for (unsigned r = 0; r < count; r++)
                for (unsigned lane = 0; lane < PTX_LANES; lane++)
                        for (unsigned k = 0; k < pack; k++)
                                a[lane / 4 + 8 * (r & 1)][lane % 4 * pack + k + half * (r / 2)] =
                                        element(lane_word(warp, registers[r], lane), shape->operand, k);
}

static void gather_b(const struct ptx_warp *warp, const struct shape *shape, const ptx_ref *registers, unsigned count,
                     float b[DEPTH_MAX][COLUMNS])
{
        const unsigned pack = packed(shape->operand), half = 4 * pack;

        for (unsigned r = 0; r < count; r++)
                for (unsigned lane = 0; lane < PTX_LANES; lane++)
                        for (unsigned k = 0; k < pack; k++)
                                b[lane % 4 * pack + k + half * r][lane / 4] =
                                        element(lane_word(warp, registers[r], lane), shape->operand, k);
}

/* C and D: two neighbours of row l / 4, then of row l / 4 + 8; one register each, or one for both in f16. */
static void spread(unsigned lane, unsigned index, unsigned *row, unsigned *column)
{
        *row = lane / 4 + 8 * (index / 2);
        *column = lane % 4 * 2 + (index & 1);
}

/* The hardware adds the products of one step before it rounds; the order and the width of its sums are not documented.
 * A double holds any such sum of narrow products nearly exactly, and is rounded once. */
static double dot(const struct shape *shape, const float a[DEPTH_MAX], float b[DEPTH_MAX][COLUMNS], unsigned column)
{
        double sum = 0;

        for (unsigned k = 0; k < shape->depth; k++)
                sum += (double)a[k] * (double)b[k][column];
        return sum;
}

static uint32_t accumulate(const struct shape *shape, uint32_t c, double sum)
{
        if (shape->result == PTX_S32)
                return c + (uint32_t)(int64_t)sum;
        if (shape->result == PTX_F16)
                return double_to_half((double)half_to_float((uint16_t)c) + sum, PTX_ROUND_NEAREST);
        return bits32(canonical32((float)((double)float32(c) + sum)));
}

static int op_mma(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        const struct ptx_matrix *m = insn->extra;
        const struct shape shape = {(uint8_t)insn->bytes, insn->type, insn->mode};
        const bool is_half = shape.result == PTX_F16;
        const unsigned d_count = is_half ? 2 : 4;
        const unsigned a_count = shape.depth / packed(shape.operand) / 2, b_count = a_count / 2;
        const ptx_ref *a_at = m->registers + d_count, *b_at = a_at + a_count, *c_at = b_at + b_count;
        float a[ROWS][DEPTH_MAX], b[DEPTH_MAX][COLUMNS];
        uint32_t result[4][PTX_LANES];

        if (mask != PTX_MASK_FULL)
                return ptx_fault_at(warp, PTX_BARRIER, (unsigned)__builtin_ctz(mask), 0,
                                    "matrix instruction with lanes 0x%08x only", mask);
        gather_a(warp, &shape, a_at, a_count, a);
        gather_b(warp, &shape, b_at, b_count, b);
        for (unsigned lane = 0; lane < PTX_LANES; lane++)
                for (unsigned index = 0; index < 4; index++) {
                        unsigned row, column;
                        uint32_t c = lane_word(warp, c_at[is_half ? index / 2 : index], lane);

                        spread(lane, index, &row, &column);
                        if (is_half)
                                c = c >> 16 * (index & 1) & 0xffff;
                        result[index][lane] = accumulate(&shape, c, dot(&shape, a[row], b, column));
                }
        for (unsigned lane = 0; lane < PTX_LANES; lane++)
                for (unsigned index = 0; index < 4; index++) {
                        lane_u32 *d = ptx_at(warp, m->registers[is_half ? index / 2 : index]);

                        if (!is_half)
                                d[lane] = result[index][lane];
                        else if (index & 1)
                                d[lane] = (result[index - 1][lane] & 0xffff) | result[index][lane] << 16;
                }
        return 0;
}

/* Row i of matrix k is read from the address that lane 8k + i gives; lane l gets two neighbours of row l / 4, or,
 * .trans, of column l / 4. */
static int op_ldmatrix(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        uint8_t *place[PTX_LANES];
        uint16_t matrix[8][8];
        uint32_t wanted = insn->count == 4 ? PTX_MASK_FULL : (1u << 8 * insn->count) - 1;
        int rc;

        if (mask != PTX_MASK_FULL)
                return ptx_fault_at(warp, PTX_BARRIER, (unsigned)__builtin_ctz(mask), 0,
                                    "ldmatrix with lanes 0x%08x only", mask);
        rc = ptx_resolve(warp, insn, wanted, 16, false, place);
        if (rc)
                return rc;
        for (unsigned k = 0; k < insn->count; k++) {
                lane_u32 *d = ptx_at(warp, insn->list[k]);

                for (unsigned row = 0; row < 8; row++)
                        memcpy(matrix[row], place[8 * k + row], 16);
                for (unsigned lane = 0; lane < PTX_LANES; lane++) {
                        unsigned i = lane / 4, j = lane % 4 * 2;

                        d[lane] = insn->mode ? matrix[j][i] | (uint32_t)matrix[j + 1][i] << 16
                                             : matrix[i][j] | (uint32_t)matrix[i][j + 1] << 16;
                }
        }
        return 0;
}

static int op_movmatrix(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        uint16_t matrix[8][8];
        lane_u32 *d = ptx_at(warp, insn->d);

        if (mask != PTX_MASK_FULL)
                return ptx_fault_at(warp, PTX_BARRIER, (unsigned)__builtin_ctz(mask), 0,
                                    "movmatrix with lanes 0x%08x only", mask);
        for (unsigned lane = 0; lane < PTX_LANES; lane++) {
                uint32_t word = lane_word(warp, insn->a, lane);

                matrix[lane / 4][lane % 4 * 2] = (uint16_t)word;
                matrix[lane / 4][lane % 4 * 2 + 1] = (uint16_t)(word >> 16);
        }
        for (unsigned lane = 0; lane < PTX_LANES; lane++)
                d[lane] = matrix[lane % 4 * 2][lane / 4] | (uint32_t)matrix[lane % 4 * 2 + 1][lane / 4] << 16;
        return 0;
}

/* All lanes take part: the interpreter waits for them as for any warp instruction. */
static void make_warp_op(struct ptx_insn *insn, ptx_ref members)
{
        insn->kind = PTX_KIND_WARP_OP;
        insn->e = members;
}

static bool take_sync_aligned(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        bool sync = ptx_take(s, PTX_FLAG_SYNC), aligned = ptx_take(s, PTX_FLAG_ALIGNED);

        if (sync && aligned)
                return true;
        ptx_refuse(builder, "needs .sync.aligned");
        return false;
}

static bool take_registers(struct ptx_builder *builder, unsigned operand, enum ptx_type type, unsigned count,
                           bool written, struct ptx_matrix *m)
{
        const struct ptx_statement *s = &builder->statement;
        const struct ptx_operand *vector = &s->operands[operand];

        if (vector->kind != PTX_OPERAND_VECTOR || vector->count != count ||
            m->total + count > sizeof(m->registers) / sizeof(m->registers[0])) {
                ptx_refuse(builder, "operand does not have the registers of its shape");
                return false;
        }
        for (unsigned k = 0; k < count; k++) {
                const struct ptx_operand *element = &s->elements[vector->first + k];

                m->registers[m->total++] = written ? ptx_destination_operand(builder, element, type)
                                                   : ptx_source_operand(builder, element, type);
        }
        if (written)
                m->written = m->total;
        return builder->status == PTX_OK;
}

static unsigned take_depth(struct ptx_statement *s)
{
        return ptx_take(s, PTX_FLAG_M16N8K4)    ? 4
               : ptx_take(s, PTX_FLAG_M16N8K8)  ? 8
               : ptx_take(s, PTX_FLAG_M16N8K16) ? 16
               : ptx_take(s, PTX_FLAG_M16N8K32) ? 32
                                                : 0;
}

/* D and C alike, A and B alike, and a depth of one or two times what four lanes hold in a register. */
static bool mma_fits(unsigned depth, const enum ptx_type types[4])
{
        enum ptx_type d = types[0], a = types[1], b = types[2], c = types[3];
        bool known = a == PTX_F16 || a == PTX_BF16 || a == PTX_TF32 || a == PTX_S8 || a == PTX_U8;

        if (!known || a != b || c != d)
                return false;
        if (a == PTX_S8 || a == PTX_U8)
                return d == PTX_S32 && (depth == 16 || depth == 32);
        if (a == PTX_TF32)
                return d == PTX_F32 && (depth == 4 || depth == 8);
        return (d == PTX_F32 || (d == PTX_F16 && a == PTX_F16)) && (depth == 8 || depth == 16);
}

static void decode_mma(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        struct ptx_matrix *m;
        struct ptx_insn *insn;
        enum ptx_type types[4], accumulator;
        unsigned depth, d_count, a_count;
        ptx_ref members;

        if (!take_sync_aligned(builder))
                return;
        depth = take_depth(s);
        if (!ptx_take(s, PTX_FLAG_ROW) || !ptx_take(s, PTX_FLAG_COL))
                ptx_refuse(builder, "only .row.col is implemented");
        for (unsigned i = 0; i < 4; i++)
                types[i] = ptx_take_type(builder);
        if (!mma_fits(depth, types))
                ptx_refuse(builder, "this shape and these types are not implemented");
        m = ptx_keep(builder, sizeof(*m));
        if (!ptx_count_operands(builder, 4, 4) || builder->status != PTX_OK)
                return;
        d_count = types[0] == PTX_F16 ? 2 : 4;
        a_count = depth / packed(types[1]) / 2;
        accumulator = types[0] == PTX_F16 ? PTX_B32 : types[0];
        if (!take_registers(builder, 0, accumulator, d_count, true, m) ||
            !take_registers(builder, 1, PTX_B32, a_count, false, m) ||
            !take_registers(builder, 2, PTX_B32, a_count / 2, false, m) ||
            !take_registers(builder, 3, accumulator, d_count, false, m))
                return;
        members = ptx_constant(builder, PTX_MASK_FULL, 4);
        insn = ptx_emit(builder, op_mma, NONE, NONE, NONE, NONE);
        insn->extra = m;
        insn->roles |= PTX_ROLE_MATRIX;
        insn->bytes = (uint8_t)depth;
        insn->type = (uint8_t)types[1];
        insn->mode = (uint8_t)types[0];
        make_warp_op(insn, members);
}

static void decode_ldmatrix(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        struct ptx_matrix m = {0};
        struct ptx_insn *insn;
        ptx_ref base, members, *list;
        int64_t offset;
        unsigned count;
        bool base32, trans;

        if (!take_sync_aligned(builder))
                return;
        count = ptx_take(s, PTX_FLAG_X1) ? 1 : ptx_take(s, PTX_FLAG_X2) ? 2 : ptx_take(s, PTX_FLAG_X4) ? 4 : 0;
        trans = ptx_take(s, PTX_FLAG_TRANS);
        if (!count || !ptx_take(s, PTX_FLAG_M8N8) ||
            !(ptx_take(s, PTX_FLAG_SHARED) || ptx_take(s, PTX_FLAG_SHARED_CTA)) || ptx_take_type(builder) != PTX_B16) {
                ptx_refuse(builder, "this form is not implemented");
                return;
        }
        list = ptx_keep(builder, count * sizeof(*list));
        if (!ptx_count_operands(builder, 2, 2) || !take_registers(builder, 0, PTX_B32, count, true, &m))
                return;
        for (unsigned k = 0; k < count; k++)
                list[k] = m.registers[k];
        ptx_set_address(builder, &s->operands[1], &base, &offset, &base32);
        members = ptx_constant(builder, PTX_MASK_FULL, 4);
        insn = ptx_emit(builder, op_ldmatrix, NONE, base, NONE, NONE);
        insn->space = PTX_SPACE_SHARED;
        insn->offset = offset;
        insn->roles |= PTX_ROLE_LIST | (base32 ? PTX_ROLE_BASE32 : 0);
        insn->list = list;
        insn->count = (uint8_t)count;
        insn->mode = trans;
        make_warp_op(insn, members);
}

static void decode_movmatrix(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        struct ptx_insn *insn;
        ptx_ref a, members;

        if (!take_sync_aligned(builder))
                return;
        if (!ptx_take(s, PTX_FLAG_M8N8) || !ptx_take(s, PTX_FLAG_TRANS) || ptx_take_type(builder) != PTX_B16) {
                ptx_refuse(builder, "this form is not implemented");
                return;
        }
        if (!ptx_count_operands(builder, 2, 2))
                return;
        a = ptx_source(builder, 1, PTX_B32);
        members = ptx_constant(builder, PTX_MASK_FULL, 4);
        insn = ptx_emit(builder, op_movmatrix, ptx_destination(builder, 0, PTX_B32), a, NONE, NONE);
        make_warp_op(insn, members);
}

const struct ptx_decoder_entry ptx_decoders_matrix[] = {
        {"mma", decode_mma},
        {"ldmatrix", decode_ldmatrix},
        {"movmatrix", decode_movmatrix},
        {NULL, NULL},
};
