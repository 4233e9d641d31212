/* Branches, calls, barriers, traps. */
#include "ptx_build.h"
#include "ptx_machine.h"
#include "ptx_memory.h"

#define NONE PTX_REF_NONE

static void decode_bra(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        struct ptx_insn *insn;

        ptx_take(s, PTX_FLAG_UNI);
        if (!ptx_count_operands(builder, 1, 1))
                return;
        if (s->operands[0].kind != PTX_OPERAND_NAME) {
                ptx_fail(builder, PTX_INVALID, s->line, "bra needs a label");
                return;
        }
        insn = ptx_emit(builder, NULL, NONE, NONE, NONE, NONE);
        insn->kind = PTX_KIND_BRANCH;
        if (builder->status == PTX_OK)
                ptx_label_use(builder, &s->operands[0], builder->code_count - 1, NULL, false);
}

static void decode_brx(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        struct ptx_insn *insn;
        ptx_ref a;

        ptx_take(s, PTX_FLAG_UNI);
        if (!ptx_take(s, PTX_FLAG_IDX))
                ptx_refuse(builder, "needs .idx");
        if (!ptx_count_operands(builder, 2, 2))
                return;
        if (s->operands[1].kind != PTX_OPERAND_NAME) {
                ptx_fail(builder, PTX_INVALID, s->line, "brx.idx needs a list of branch targets");
                return;
        }
        a = ptx_source(builder, 0, PTX_U32);
        insn = ptx_emit(builder, NULL, NONE, a, NONE, NONE);
        insn->kind = PTX_KIND_BRANCH_TABLE;
        if (builder->status == PTX_OK)
                ptx_label_use(builder, &s->operands[1], builder->code_count - 1, NULL, true);
}

static struct ptx_actual *take_actuals(struct ptx_builder *builder, const struct ptx_operand *list, bool results)
{
        struct ptx_actual *actuals = ptx_keep(builder, (list->count + 1) * sizeof(*actuals));

        for (uint32_t i = 0; i < list->count && builder->status == PTX_OK; i++) {
                const struct ptx_operand *operand = &builder->statement.elements[list->first + i];

                if (operand->kind == PTX_OPERAND_VARIABLE && operand->variable->space == PTX_SPACE_LOCAL &&
                    operand->offset == 0) {
                        actuals[i].where = (ptx_ref)operand->variable->address;
                        actuals[i].bytes = (uint32_t)operand->variable->bytes;
                } else if (operand->kind == PTX_OPERAND_SINK && results) {
                        actuals[i].in_register = true;
                        actuals[i].where = NONE;
                } else if (operand->kind == PTX_OPERAND_REGISTER && operand->type != PTX_PRED) {
                        actuals[i].in_register = true;
                        actuals[i].where = operand->ref;
                        actuals[i].bytes = ptx_types[operand->type].bytes;
                        if (actuals[i].bytes == 1)
                                actuals[i].bytes = 2;
                } else {
                        ptx_refuse(builder, "an argument is neither a .param variable nor a register");
                }
        }
        return actuals;
}

/* call (results), callee, (arguments), prototype: all but the callee may be missing. */
static void decode_call(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        unsigned at = 0;
        struct ptx_call *call = ptx_keep(builder, sizeof(*call));
        ptx_ref a = NONE;
        struct ptx_insn *insn;

        ptx_take(s, PTX_FLAG_UNI);
        if (!ptx_count_operands(builder, 1, 4) || !call)
                return;
        call->line = s->line;
        if (s->operands[at].kind == PTX_OPERAND_VECTOR) {
                call->result_count = s->operands[at].count;
                call->results = take_actuals(builder, &s->operands[at++], true);
        }
        if (at == s->operand_count) {
                ptx_fail(builder, PTX_INVALID, s->line, "call names no function");
                return;
        }
        if (s->operands[at].kind == PTX_OPERAND_FUNCTION) {
                call->callee = s->operands[at].function;
        } else if (s->operands[at].kind == PTX_OPERAND_REGISTER) {
                a = ptx_source(builder, at, PTX_U64);
                builder->function->calls_indirectly = true;
        } else {
                ptx_fail(builder, PTX_INVALID, s->line, "call of '%.*s', which is no function",
                         (int)(s->operands[at].bytes < 200 ? s->operands[at].bytes : 200),
                         s->operands[at].bytes ? s->operands[at].text : "");
                return;
        }
        at++;
        if (at < s->operand_count && s->operands[at].kind == PTX_OPERAND_VECTOR) {
                call->argument_count = s->operands[at].count;
                call->arguments = take_actuals(builder, &s->operands[at++], false);
        }
        insn = ptx_emit(builder, NULL, NONE, a, NONE, NONE);
        insn->kind = PTX_KIND_CALL;
        insn->extra = call;
        call->next = builder->function->calls;
        builder->function->calls = call;
}

static void decode_simple(struct ptx_builder *builder, enum ptx_kind kind)
{
        struct ptx_insn *insn;

        ptx_take(&builder->statement, PTX_FLAG_UNI);
        if (!ptx_count_operands(builder, 0, 0))
                return;
        insn = ptx_emit(builder, NULL, NONE, NONE, NONE, NONE);
        insn->kind = (uint8_t)kind;
}

static void decode_ret(struct ptx_builder *builder)
{
        decode_simple(builder, PTX_KIND_RETURN);
}

static void decode_exit(struct ptx_builder *builder)
{
        decode_simple(builder, PTX_KIND_EXIT);
}

static void decode_trap(struct ptx_builder *builder)
{
        struct ptx_insn *insn;

        if (!ptx_count_operands(builder, 0, 0))
                return;
        insn = ptx_emit(builder, ptx_op_trap, NONE, NONE, NONE, NONE);
        insn->mode = builder->statement.name[0] == 'b';
}

static void decode_nanosleep(struct ptx_builder *builder)
{
        enum ptx_type type = ptx_take_type(builder);

        if (ptx_count_operands(builder, 1, 1))
                ptx_emit(builder, ptx_op_nanosleep, NONE, ptx_source(builder, 0, type == PTX_U32 ? type : PTX_B32),
                         NONE, NONE);
}

/* Programmatic dependent launch: a launch here starts after the one before it has ended, so there is nothing to wait
 * for. */
static void decode_griddepcontrol(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;

        if (!ptx_take(s, PTX_FLAG_WAIT) && !ptx_take(s, PTX_FLAG_LAUNCH_DEPENDENTS))
                ptx_refuse(builder, "this form is not implemented");
        if (ptx_count_operands(builder, 0, 0))
                ptx_emit(builder, ptx_op_fence, NONE, NONE, NONE, NONE);
}

/* bar.warp.sync members */
static void decode_warp_barrier(struct ptx_builder *builder)
{
        struct ptx_insn *insn;
        ptx_ref members;

        if (!ptx_take(&builder->statement, PTX_FLAG_SYNC) || !ptx_count_operands(builder, 1, 1)) {
                ptx_refuse(builder, "this form is not implemented");
                return;
        }
        members = ptx_source(builder, 0, PTX_B32);
        insn = ptx_emit(builder, ptx_op_fence, NONE, NONE, NONE, NONE);
        insn->kind = PTX_KIND_WARP_BARRIER;
        insn->e = members;
}

static void decode_bar_red(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        uint8_t mode = ptx_take(s, PTX_FLAG_POPC)  ? PTX_BARRIER_POPC
                       : ptx_take(s, PTX_FLAG_AND) ? PTX_BARRIER_AND
                       : ptx_take(s, PTX_FLAG_OR)  ? PTX_BARRIER_OR
                                                   : PTX_BARRIER_SYNC;
        enum ptx_type type = ptx_take_type(builder);
        ptx_ref a, b = NONE, c, d;
        struct ptx_insn *insn;

        if (mode == PTX_BARRIER_SYNC || type != (mode == PTX_BARRIER_POPC ? PTX_U32 : PTX_PRED)) {
                ptx_refuse(builder, "this form is not implemented");
                return;
        }
        if (!ptx_count_operands(builder, 3, 4))
                return;
        a = ptx_source(builder, 1, PTX_U32);
        if (s->operand_count == 4)
                b = ptx_source(builder, 2, PTX_U32);
        c = ptx_source(builder, s->operand_count - 1, PTX_PRED);
        d = ptx_destination(builder, 0, type);
        insn = ptx_emit(builder, NULL, d, a, b, c);
        insn->kind = PTX_KIND_BARRIER;
        insn->mode = mode;
}

static void decode_bar(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        bool arrive;
        struct ptx_insn *insn;
        ptx_ref a, b = NONE;

        if (ptx_take(s, PTX_FLAG_WARP)) {
                decode_warp_barrier(builder);
                return;
        }
        ptx_take(s, PTX_FLAG_CTA);
        ptx_take(s, PTX_FLAG_ALIGNED);
        if (ptx_take(s, PTX_FLAG_RED)) {
                decode_bar_red(builder);
                return;
        }
        arrive = ptx_take(s, PTX_FLAG_ARRIVE);
        if (!arrive && !ptx_take(s, PTX_FLAG_SYNC))
                ptx_refuse(builder, "this form is not implemented");
        if (!ptx_count_operands(builder, arrive ? 2 : 1, 2))
                return;
        a = ptx_source(builder, 0, PTX_U32);
        if (s->operand_count == 2)
                b = ptx_source(builder, 1, PTX_U32);
        insn = ptx_emit(builder, NULL, NONE, a, b, NONE);
        insn->kind = PTX_KIND_BARRIER;
        insn->mode = arrive ? PTX_BARRIER_ARRIVE : PTX_BARRIER_SYNC;
}

const struct ptx_decoder_entry ptx_decoders_control[] = {
        {"bra", decode_bra},
        {"brx", decode_brx},
        {"call", decode_call},
        {"ret", decode_ret},
        {"exit", decode_exit},
        {"trap", decode_trap},
        {"brkpt", decode_trap},
        {"nanosleep", decode_nanosleep},
        {"bar", decode_bar},
        {"barrier", decode_bar},
        {"griddepcontrol", decode_griddepcontrol},
        {NULL, NULL},
};
