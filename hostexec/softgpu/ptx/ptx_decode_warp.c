/* Instructions across the lanes of a warp. */
#include "ptx_build.h"
#include "ptx_machine.h"
#include "ptx_memory.h"

#define NONE PTX_REF_NONE

static bool need_sync(struct ptx_builder *builder)
{
        if (ptx_take(&builder->statement, PTX_FLAG_SYNC))
                return true;
        ptx_refuse(builder, "only the .sync form exists since sm_70");
        return false;
}

static struct ptx_insn *emit_warp(struct ptx_builder *builder, ptx_handler run, ptx_ref d, ptx_ref a, ptx_ref b,
                                  ptx_ref c, unsigned members)
{
        ptx_ref e = ptx_source(builder, members, PTX_B32);
        struct ptx_insn *insn = ptx_emit(builder, run, d, a, b, c);

        insn->kind = PTX_KIND_WARP_OP;
        insn->e = e;
        return insn;
}

/* The p of d|p, as a written list of one. */
static void set_second(struct ptx_builder *builder, struct ptx_insn *insn, const ptx_ref *second)
{
        if (builder->status != PTX_OK || !second)
                return;
        insn->list = second;
        insn->count = 1;
        insn->roles |= PTX_ROLE_LIST;
}

static ptx_ref *take_second(struct ptx_builder *builder)
{
        const struct ptx_statement *s = &builder->statement;
        ptx_ref *list;

        if (s->operands[0].second < 0)
                return NULL;
        list = ptx_keep(builder, sizeof(*list));
        if (list)
                *list = ptx_destination_operand(builder, &s->elements[s->operands[0].second], PTX_PRED);
        return list;
}

static void decode_shfl(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        uint8_t mode = PTX_SHUFFLE_IDX;
        ptx_ref a, b, c, d, *second;
        struct ptx_insn *insn;

        if (!need_sync(builder))
                return;
        if (ptx_take(s, PTX_FLAG_UP))
                mode = PTX_SHUFFLE_UP;
        else if (ptx_take(s, PTX_FLAG_DOWN))
                mode = PTX_SHUFFLE_DOWN;
        else if (ptx_take(s, PTX_FLAG_BFLY))
                mode = PTX_SHUFFLE_BFLY;
        else if (!ptx_take(s, PTX_FLAG_IDX))
                ptx_refuse(builder, "needs a mode");
        if (ptx_types[ptx_take_type(builder)].bytes != 4)
                ptx_refuse(builder, "moves 32 bits");
        if (!ptx_count_operands(builder, 5, 5))
                return;
        a = ptx_source(builder, 1, PTX_B32);
        b = ptx_source(builder, 2, PTX_B32);
        c = ptx_source(builder, 3, PTX_B32);
        d = ptx_destination(builder, 0, PTX_B32);
        second = take_second(builder);
        insn = emit_warp(builder, ptx_op_shuffle, d, a, b, c, 4);
        insn->mode = mode;
        set_second(builder, insn, second);
}

static void decode_vote(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        uint8_t mode = PTX_VOTE_BALLOT;
        enum ptx_type type;
        struct ptx_insn *insn;
        ptx_ref a, d;

        if (!need_sync(builder))
                return;
        if (ptx_take(s, PTX_FLAG_ALL))
                mode = PTX_VOTE_ALL;
        else if (ptx_take(s, PTX_FLAG_ANY))
                mode = PTX_VOTE_ANY;
        else if (ptx_take(s, PTX_FLAG_UNI))
                mode = PTX_VOTE_UNI;
        else if (!ptx_take(s, PTX_FLAG_BALLOT))
                ptx_refuse(builder, "needs a mode");
        type = ptx_take_type(builder);
        if (type != (mode == PTX_VOTE_BALLOT ? PTX_B32 : PTX_PRED))
                ptx_refuse(builder, "type does not fit the mode");
        if (!ptx_count_operands(builder, 3, 3))
                return;
        a = ptx_source(builder, 1, PTX_PRED);
        d = ptx_destination(builder, 0, type);
        insn = emit_warp(builder, ptx_op_vote, d, a, NONE, NONE, 2);
        insn->mode = mode;
}

static void decode_match(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        bool all = ptx_take(s, PTX_FLAG_ALL);
        enum ptx_type type;
        struct ptx_insn *insn;
        ptx_ref a, d, *second;

        if ((!all && !ptx_take(s, PTX_FLAG_ANY)) || !need_sync(builder)) {
                ptx_refuse(builder, "needs .any or .all");
                return;
        }
        type = ptx_take_type(builder);
        if (type != PTX_B32 && type != PTX_B64)
                ptx_refuse(builder, "matches b32 or b64");
        if (!ptx_count_operands(builder, 3, 3))
                return;
        a = ptx_source(builder, 1, type);
        d = ptx_destination(builder, 0, PTX_B32);
        second = take_second(builder);
        insn = emit_warp(builder, ptx_op_match, d, a, NONE, NONE, 2);
        insn->mode = all;
        insn->bytes = ptx_types[type].bytes;
        set_second(builder, insn, second);
}

static void decode_redux(struct ptx_builder *builder)
{
        static const struct {
                enum ptx_flag flag;
                uint8_t mode;
        } operations[] = {
                {PTX_FLAG_ADD, PTX_REDUX_ADD}, {PTX_FLAG_MIN, PTX_REDUX_MIN}, {PTX_FLAG_MAX, PTX_REDUX_MAX},
                {PTX_FLAG_AND, PTX_REDUX_AND}, {PTX_FLAG_OR, PTX_REDUX_OR},   {PTX_FLAG_XOR, PTX_REDUX_XOR},
        };
        struct ptx_statement *s = &builder->statement;
        uint8_t mode = UINT8_MAX;
        enum ptx_type type;
        struct ptx_insn *insn;
        ptx_ref a, d;

        if (!need_sync(builder))
                return;
        for (unsigned i = 0; i < sizeof(operations) / sizeof(operations[0]) && mode == UINT8_MAX; i++)
                if (ptx_take(s, operations[i].flag))
                        mode = operations[i].mode;
        type = ptx_take_type(builder);
        if (mode == UINT8_MAX || ptx_types[type].kind == 'f' || ptx_types[type].bytes != 4)
                ptx_refuse(builder, "this form is not implemented");
        if (!ptx_count_operands(builder, 3, 3))
                return;
        a = ptx_source(builder, 1, type);
        d = ptx_destination(builder, 0, type);
        insn = emit_warp(builder, ptx_op_redux, d, a, NONE, NONE, 2);
        insn->mode = mode;
        insn->type = (uint8_t)type;
}

static void decode_elect(struct ptx_builder *builder)
{
        struct ptx_insn *insn;
        ptx_ref d, *second;

        if (!need_sync(builder) || !ptx_count_operands(builder, 2, 2))
                return;
        d = ptx_destination(builder, 0, PTX_B32);
        second = take_second(builder);
        if (!second) {
                ptx_refuse(builder, "needs a predicate");
                return;
        }
        insn = emit_warp(builder, ptx_op_elect, d, NONE, NONE, NONE, 1);
        set_second(builder, insn, second);
}

static void decode_activemask(struct ptx_builder *builder)
{
        if (ptx_take_type(builder) != PTX_B32)
                ptx_refuse(builder, "gives b32");
        if (ptx_count_operands(builder, 1, 1))
                ptx_emit(builder, ptx_op_activemask, ptx_destination(builder, 0, PTX_B32), NONE, NONE, NONE);
}

const struct ptx_decoder_entry ptx_decoders_warp[] = {
        {"shfl", decode_shfl},
        {"vote", decode_vote},
        {"match", decode_match},
        {"redux", decode_redux},
        {"elect", decode_elect},
        {"activemask", decode_activemask},
        {NULL, NULL},
};
