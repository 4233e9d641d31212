/* ld, st, atom, red, fences, prefetch, cp.async. */
#include "ptx_build.h"
#include "ptx_machine.h"
#include "ptx_memory.h"

#define NONE PTX_REF_NONE

/* Hints and scopes change when data moves, not what is read: every access here is coherent. */
static void take_hints(struct ptx_statement *s)
{
        static const enum ptx_flag hints[] = {
                PTX_FLAG_CTA,
                PTX_FLAG_CLUSTER,
                PTX_FLAG_GPU,
                PTX_FLAG_SYS,
                PTX_FLAG_CA,
                PTX_FLAG_CG,
                PTX_FLAG_CS,
                PTX_FLAG_LU,
                PTX_FLAG_CV,
                PTX_FLAG_NC,
                PTX_FLAG_WB,
                PTX_FLAG_WT,
                PTX_FLAG_L1_EVICT_NORMAL,
                PTX_FLAG_L1_EVICT_UNCHANGED,
                PTX_FLAG_L1_EVICT_FIRST,
                PTX_FLAG_L1_EVICT_LAST,
                PTX_FLAG_L1_NO_ALLOCATE,
                PTX_FLAG_L2_64B,
                PTX_FLAG_L2_128B,
                PTX_FLAG_L2_256B,
                PTX_FLAG_L2_EVICT_FIRST,
                PTX_FLAG_L2_EVICT_LAST,
                PTX_FLAG_L2_EVICT_NORMAL,
        };

        for (unsigned i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
                ptx_take(s, hints[i]);
}

static uint8_t take_order(struct ptx_statement *s)
{
        uint8_t roles = 0;

        ptx_take(s, PTX_FLAG_WEAK);
        ptx_take(s, PTX_FLAG_RELAXED);
        ptx_take(s, PTX_FLAG_MMIO);
        ptx_take(s, PTX_FLAG_VOLATILE); /* every access happens, and once, as it is */
        if (ptx_take(s, PTX_FLAG_ACQUIRE))
                roles |= PTX_ROLE_ACQUIRE;
        if (ptx_take(s, PTX_FLAG_RELEASE))
                roles |= PTX_ROLE_RELEASE;
        if (ptx_take(s, PTX_FLAG_ACQ_REL))
                roles |= PTX_ROLE_ACQUIRE | PTX_ROLE_RELEASE;
        return roles;
}

static enum ptx_space take_space(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;

        if (ptx_take(s, PTX_FLAG_GLOBAL))
                return PTX_SPACE_GLOBAL;
        if (ptx_take(s, PTX_FLAG_SHARED) || ptx_take(s, PTX_FLAG_SHARED_CTA))
                return PTX_SPACE_SHARED;
        if (ptx_take(s, PTX_FLAG_LOCAL))
                return PTX_SPACE_LOCAL;
        if (ptx_take(s, PTX_FLAG_CONST))
                return PTX_SPACE_CONST;
        if (ptx_take(s, PTX_FLAG_PARAM_ENTRY))
                return PTX_SPACE_PARAM;
        if (ptx_take(s, PTX_FLAG_PARAM_FUNC))
                return PTX_SPACE_LOCAL;
        if (ptx_take(s, PTX_FLAG_PARAM))
                return builder->function->is_entry ? PTX_SPACE_PARAM : PTX_SPACE_LOCAL;
        return PTX_SPACE_GENERIC;
}

struct address {
        enum ptx_space space;
        ptx_ref base;
        int64_t offset;
        bool base32;
};

/* The .param places of a call lie in local memory, also in a kernel; named ones are relative to the frame. */
static struct address take_address(struct ptx_builder *builder, const struct ptx_operand *operand, enum ptx_space space)
{
        struct address address = {.space = space, .base = NONE};

        if (operand->is_address && operand->kind == PTX_OPERAND_VARIABLE &&
            operand->variable->space == PTX_SPACE_LOCAL) {
                if (space != PTX_SPACE_LOCAL && space != PTX_SPACE_PARAM)
                        ptx_refuse(builder, "a .local or .param variable needs its own state space");
                address.space = PTX_SPACE_LOCAL;
                address.offset = operand->offset + (int64_t)operand->variable->address;
                return address;
        }
        ptx_set_address(builder, operand, &address.base, &address.offset, &address.base32);
        if (operand->kind == PTX_OPERAND_FORMAL && space != PTX_SPACE_PARAM)
                ptx_refuse(builder, "a kernel parameter needs .param");
        /* Frame-relative or not is told by the base: a plain number gets one. */
        if (address.space == PTX_SPACE_LOCAL && address.base == NONE) {
                address.base = ptx_constant(builder, (uint64_t)address.offset, 8);
                address.offset = 0;
        }
        return address;
}

static void set_address(struct ptx_insn *insn, const struct address *address)
{
        insn->space = (uint8_t)address->space;
        insn->a = address->base;
        insn->offset = address->offset;
        insn->roles |= address->base32 ? PTX_ROLE_BASE32 : 0;
}

static unsigned take_vector(struct ptx_statement *s)
{
        if (ptx_take(s, PTX_FLAG_V2))
                return 2;
        if (ptx_take(s, PTX_FLAG_V4))
                return 4;
        if (ptx_take(s, PTX_FLAG_V8))
                return 8;
        return 1;
}

/* The registers of a vector access: one per element, each of any width that holds the element. */
static ptx_ref *take_elements(struct ptx_builder *builder, const struct ptx_operand *operand, enum ptx_type type,
                              unsigned count, bool is_load, uint32_t *widths)
{
        struct ptx_statement *s = &builder->statement;
        ptx_ref *list = ptx_keep(builder, count * sizeof(*list));

        *widths = 0;
        if (operand->kind != PTX_OPERAND_VECTOR || operand->is_address || operand->count != count) {
                ptx_refuse(builder, "the vector operand does not have as many elements as its type");
                return NULL;
        }
        for (unsigned k = 0; k < count && builder->status == PTX_OK; k++) {
                const struct ptx_operand *element = &s->elements[operand->first + k];
                unsigned bytes;

                list[k] = is_load ? ptx_destination_wide(builder, element, type, &bytes)
                                  : ptx_source_wide(builder, element, type, &bytes);
                *widths |= bytes << 4 * k;
        }
        return builder->status == PTX_OK ? list : NULL;
}

static bool check_element(struct ptx_builder *builder, enum ptx_type type, unsigned count)
{
        unsigned bytes = ptx_types[type].bytes;

        if (type == PTX_PRED || type == PTX_B128 || ptx_types[type].kind == 'o' || bytes == 0 || bytes * count > 32) {
                ptx_refuse(builder, "no such vector in memory");
                return false;
        }
        return true;
}

/* A cache policy may follow as last operand; it is checked and forgotten. */
static void take_policy(struct ptx_builder *builder, unsigned operand)
{
        if (ptx_take(&builder->statement, PTX_FLAG_L2_CACHE_HINT) && builder->statement.operand_count > operand)
                ptx_source(builder, operand, PTX_B64);
}

static void decode_ld(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        uint8_t order = take_order(s);
        enum ptx_space space = take_space(builder);
        unsigned count = take_vector(s), bytes = 0;
        bool hinted = s->flags[PTX_FLAG_L2_CACHE_HINT];
        enum ptx_type type = ptx_take_type(builder);
        struct address address;
        struct ptx_insn *insn;
        ptx_ref d = NONE, *list = NULL;
        uint32_t widths;

        take_hints(s);
        if (!ptx_count_operands(builder, 2 + hinted, 2 + hinted) || !check_element(builder, type, count))
                return;
        take_policy(builder, 2);
        address = take_address(builder, &s->operands[1], space);
        if (count > 1 || s->operands[0].kind == PTX_OPERAND_VECTOR) {
                list = take_elements(builder, &s->operands[0], type, count, true, &widths);
                if (!list)
                        return;
        } else {
                d = ptx_destination_wide(builder, &s->operands[0], type, &bytes);
                widths = bytes;
        }
        insn = ptx_emit(builder, ptx_op_load, d, NONE, NONE, NONE);
        if (!list && bytes == ptx_types[type].bytes)
                insn->run = bytes == 4 ? ptx_op_load32 : bytes == 8 ? ptx_op_load64 : ptx_op_load;
        set_address(insn, &address);
        insn->roles |= order | (list ? PTX_ROLE_LIST : 0);
        insn->list = list;
        insn->count = (uint8_t)count;
        insn->aux = widths;
        insn->type = (uint8_t)type;
}

static void decode_st(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        uint8_t order = take_order(s);
        enum ptx_space space = take_space(builder);
        unsigned count = take_vector(s), bytes = 0;
        bool hinted = s->flags[PTX_FLAG_L2_CACHE_HINT];
        enum ptx_type type = ptx_take_type(builder);
        struct address address;
        struct ptx_insn *insn;
        ptx_ref b = NONE, *list = NULL;
        uint32_t widths;

        take_hints(s);
        if (!ptx_count_operands(builder, 2 + hinted, 2 + hinted) || !check_element(builder, type, count))
                return;
        if (space == PTX_SPACE_CONST) {
                ptx_refuse(builder, "constants cannot be written");
                return;
        }
        take_policy(builder, 2);
        address = take_address(builder, &s->operands[0], space);
        if (address.space == PTX_SPACE_PARAM) {
                ptx_refuse(builder, "kernel parameters cannot be written");
                return;
        }
        if (count > 1 || s->operands[1].kind == PTX_OPERAND_VECTOR) {
                list = take_elements(builder, &s->operands[1], type, count, false, &widths);
                if (!list)
                        return;
        } else {
                b = ptx_source_wide(builder, &s->operands[1], type, &bytes);
                widths = bytes;
        }
        insn = ptx_emit(builder, ptx_op_store, NONE, NONE, b, NONE);
        if (!list && bytes == ptx_types[type].bytes)
                insn->run = bytes == 4 ? ptx_op_store32 : bytes == 8 ? ptx_op_store64 : ptx_op_store;
        set_address(insn, &address);
        insn->roles |= order;
        insn->list = list;
        insn->count = (uint8_t)count;
        insn->aux = widths;
        insn->type = (uint8_t)type;
}

static int take_atomic(struct ptx_builder *builder)
{
        static const struct {
                enum ptx_flag flag;
                enum ptx_atomic operation;
        } operations[] = {
                {PTX_FLAG_ADD, PTX_ATOMIC_ADD}, {PTX_FLAG_MIN, PTX_ATOMIC_MIN},   {PTX_FLAG_MAX, PTX_ATOMIC_MAX},
                {PTX_FLAG_AND, PTX_ATOMIC_AND}, {PTX_FLAG_OR, PTX_ATOMIC_OR},     {PTX_FLAG_XOR, PTX_ATOMIC_XOR},
                {PTX_FLAG_CAS, PTX_ATOMIC_CAS}, {PTX_FLAG_EXCH, PTX_ATOMIC_EXCH}, {PTX_FLAG_INC, PTX_ATOMIC_INC},
                {PTX_FLAG_DEC, PTX_ATOMIC_DEC},
        };

        for (unsigned i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
                if (ptx_take(&builder->statement, operations[i].flag))
                        return (int)operations[i].operation;
        ptx_refuse(builder, "needs an operation");
        return -1;
}

static bool atomic_fits(int operation, enum ptx_type type)
{
        char kind = ptx_types[type].kind;
        unsigned bytes = ptx_types[type].bytes;

        switch (operation) {
        case PTX_ATOMIC_ADD:
                return type == PTX_U32 || type == PTX_S32 || type == PTX_U64 || type == PTX_S64 || kind == 'f';
        case PTX_ATOMIC_MIN:
        case PTX_ATOMIC_MAX:
                return ((kind == 'u' || kind == 's') && (bytes == 8 || type == PTX_U32 || type == PTX_S32)) ||
                       type == PTX_F16 || type == PTX_F16X2 || type == PTX_BF16 || type == PTX_BF16X2 ||
                       type == PTX_F32;
        case PTX_ATOMIC_INC:
        case PTX_ATOMIC_DEC:
                return type == PTX_U32;
        case PTX_ATOMIC_CAS:
                return kind != 'p' && (bytes == 2 || bytes == 4 || bytes == 8);
        case PTX_ATOMIC_EXCH:
                return kind != 'p' && (bytes == 4 || bytes == 8);
        default:
                return kind != 'f' && kind != 'p' && (bytes == 4 || bytes == 8);
        }
}

static void decode_atomic(struct ptx_builder *builder, bool has_result)
{
        struct ptx_statement *s = &builder->statement;
        enum ptx_space space;
        enum ptx_type type;
        struct address address;
        struct ptx_insn *insn;
        int operation;
        unsigned first = has_result ? 1 : 0, count, hinted = s->flags[PTX_FLAG_L2_CACHE_HINT];
        ptx_ref d = NONE, b, c = NONE;

        take_order(s);
        ptx_take(s, PTX_FLAG_NOFTZ);
        space = take_space(builder);
        operation = take_atomic(builder);
        take_hints(s);
        type = ptx_take_type(builder);
        count = first + 2 + (operation == PTX_ATOMIC_CAS);
        if (!ptx_count_operands(builder, count + hinted, count + hinted))
                return;
        if (operation < 0 || !atomic_fits(operation, type) || type == PTX_TF32 || space == PTX_SPACE_PARAM ||
            space == PTX_SPACE_CONST || space == PTX_SPACE_LOCAL) {
                ptx_refuse(builder, "this form is not implemented");
                return;
        }
        take_policy(builder, count);
        address = take_address(builder, &s->operands[first], space);
        b = ptx_source(builder, first + 1, type);
        if (operation == PTX_ATOMIC_CAS)
                c = ptx_source(builder, first + 2, type);
        if (has_result && s->operands[0].kind != PTX_OPERAND_SINK)
                d = ptx_destination(builder, 0, type);
        insn = ptx_emit(builder, ptx_op_atomic, d, NONE, b, c);
        set_address(insn, &address);
        insn->mode = (uint8_t)operation;
        insn->type = (uint8_t)type;
        insn->bytes = ptx_types[type].bytes;
}

static void decode_atom(struct ptx_builder *builder)
{
        decode_atomic(builder, true);
}

/* red.async belongs to clusters: its flag stays untaken and is refused. */
static void decode_red(struct ptx_builder *builder)
{
        decode_atomic(builder, false);
}

static void decode_fence(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;

        take_order(s);
        ptx_take(s, PTX_FLAG_SC);
        ptx_take(s, PTX_FLAG_GL);
        take_hints(s);
        if (s->operand_count)
                ptx_refuse(builder, "this form is not implemented");
        ptx_emit(builder, ptx_op_fence, NONE, NONE, NONE, NONE);
}

/* prefetch, prefetchu, discard-free cache control: nothing to do, but operands must make sense. */
static void decode_prefetch(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;

        ptx_take(s, PTX_FLAG_L1);
        ptx_take(s, PTX_FLAG_L2);
        take_hints(s);
        if (ptx_count_operands(builder, 1, 1))
                take_address(builder, &s->operands[0], take_space(builder));
}

static void decode_cp_async(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        struct address to, from;
        struct ptx_insn *insn;
        unsigned hinted = s->flags[PTX_FLAG_L2_CACHE_HINT];
        ptx_ref c = NONE, base;
        uint64_t bytes;

        if (ptx_take(s, PTX_FLAG_COMMIT_GROUP) || ptx_take(s, PTX_FLAG_WAIT_ALL)) {
                ptx_count_operands(builder, 0, 0);
                return;
        }
        if (ptx_take(s, PTX_FLAG_WAIT_GROUP)) {
                ptx_count_operands(builder, 1, 1);
                return;
        }
        if (!ptx_take(s, PTX_FLAG_SHARED) && !ptx_take(s, PTX_FLAG_SHARED_CTA))
                ptx_refuse(builder, "copies to shared memory only");
        ptx_take(s, PTX_FLAG_GLOBAL);
        take_hints(s);
        if (!ptx_count_operands(builder, 3 + hinted, 4 + hinted))
                return;
        bytes = s->operands[2].value;
        if (s->operands[2].kind != PTX_OPERAND_INTEGER || (bytes != 4 && bytes != 8 && bytes != 16)) {
                ptx_refuse(builder, "copies 4, 8 or 16 bytes");
                return;
        }
        if (s->operand_count - hinted == 4) {
                if (s->operands[3].kind == PTX_OPERAND_REGISTER && s->operands[3].type == PTX_PRED) {
                        ptx_refuse(builder, "ignore-src is not implemented");
                        return;
                }
                c = ptx_source(builder, 3, PTX_U32);
        }
        take_policy(builder, s->operand_count - 1);
        to = take_address(builder, &s->operands[0], PTX_SPACE_SHARED);
        from = take_address(builder, &s->operands[1], PTX_SPACE_GLOBAL);
        base = from.base;
        if (base == NONE) {
                base = ptx_constant(builder, (uint64_t)from.offset, 8);
                from.offset = 0;
        }
        if (from.base32 || from.offset != (int32_t)from.offset) {
                ptx_refuse(builder, "source address");
                return;
        }
        insn = ptx_emit(builder, ptx_op_copy_async, NONE, NONE, base, c);
        set_address(insn, &to);
        insn->bytes = (uint8_t)bytes;
        insn->aux = (uint32_t)(int32_t)from.offset;
}

static void decode_cp(struct ptx_builder *builder)
{
        if (!ptx_take(&builder->statement, PTX_FLAG_ASYNC) || builder->statement.flags[PTX_FLAG_BULK]) {
                ptx_refuse(builder, "this form is not implemented");
                return;
        }
        decode_cp_async(builder);
}

const struct ptx_decoder_entry ptx_decoders_memory[] = {
        {"ld", decode_ld},
        {"ldu", decode_ld},
        {"st", decode_st},
        {"atom", decode_atom},
        {"red", decode_red},
        {"membar", decode_fence},
        {"fence", decode_fence},
        {"prefetch", decode_prefetch},
        {"prefetchu", decode_prefetch},
        {"cp", decode_cp},
        {NULL, NULL},
};
