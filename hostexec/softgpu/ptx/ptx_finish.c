/* What only the complete module tells: which functions exist, what each kernel reaches, where shared variables lie. */
#include <stdlib.h>
#include <string.h>

#include "ptx_build.h"
#include "ptx_memory.h"

/* Calls of functions without a body become instructions of the engine, or the module is refused. */
static void bind_builtins(struct ptx_builder *builder, struct ptx_function *f)
{
        for (uint32_t i = 0; i < f->code_count && builder->status == PTX_OK; i++) {
                struct ptx_insn *insn = &f->code[i];
                const struct ptx_call *call = insn->kind == PTX_KIND_CALL ? insn->extra : NULL;
                uint32_t arguments, results;
                ptx_handler run;

                if (!call || !call->callee || call->callee->is_defined)
                        continue;
                run = ptx_builtin_find(call->callee->name, &arguments, &results);
                if (!run) {
                        ptx_fail(builder, PTX_UNSUPPORTED, insn->line, "external function '%.200s' is not defined",
                                 call->callee->name);
                } else if (call->argument_count != arguments || call->result_count > results) {
                        ptx_fail(builder, PTX_INVALID, insn->line, "'%s' takes %u arguments", call->callee->name,
                                 arguments);
                } else {
                        insn->kind = PTX_KIND_OP;
                        insn->run = run;
                        if (!strcmp(call->callee->name, "malloc"))
                                f->module->needs_heap = true;
                }
                for (uint32_t k = 0; run && k < call->argument_count; k++)
                        if (call->arguments[k].in_register || call->arguments[k].bytes > 8)
                                ptx_fail(builder, PTX_UNSUPPORTED, insn->line, "register argument of '%s'",
                                         call->callee->name);
                for (uint32_t k = 0; run && k < call->result_count; k++)
                        if (call->results[k].in_register || call->results[k].bytes > 8)
                                ptx_fail(builder, PTX_UNSUPPORTED, insn->line, "register result of '%s'",
                                         call->callee->name);
        }
}

static bool actuals_fit(const struct ptx_actual *actuals, const struct ptx_formal *formals, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++)
                if (formals[i].type == PTX_PRED ||
                    (actuals[i].bytes != formals[i].bytes && actuals[i].where != PTX_REF_NONE))
                        return false;
        return true;
}

static void check_calls(struct ptx_builder *builder, struct ptx_function *f)
{
        for (const struct ptx_call *call = f->calls; call; call = call->next) {
                const struct ptx_function *callee = call->callee;

                if (!callee || !callee->is_defined)
                        continue;
                if (callee->is_entry || call->argument_count != callee->formal_count ||
                    call->result_count != callee->result_count ||
                    !actuals_fit(call->arguments, callee->formals, call->argument_count) ||
                    !actuals_fit(call->results, callee->results, call->result_count))
                        ptx_fail(builder, PTX_INVALID, call->line, "call does not fit the parameters of '%.200s'",
                                 callee->name);
        }
}

/* Depth-first over the calls of one kernel, without recursion of our own: module text decides the depth. */
struct reach {
        struct ptx_module *module;
        uint32_t *state; /* 0 new, 1 on the path, 2 done */
        uint64_t *stack; /* local bytes from this function down */
        struct ptx_function **path;
        const struct ptx_call **next_call;
        struct ptx_function **reached; /* what is not in state 0 */
        uint32_t reached_count;
        bool unbounded; /* recursion or an indirect call */
};

static void enter(struct reach *r, struct ptx_function *f, uint32_t depth)
{
        r->path[depth] = f;
        r->next_call[depth] = f->calls;
        r->state[f->index] = 1;
        r->stack[f->index] = 0;
        r->reached[r->reached_count++] = f;
}

static void visit_calls(struct reach *r, struct ptx_function *root)
{
        uint32_t depth = 0;

        if (r->state[root->index] == 2)
                return;
        enter(r, root, 0);
        for (;;) {
                struct ptx_function *f = r->path[depth];
                const struct ptx_call *call = r->next_call[depth];
                struct ptx_function *callee;

                if (!call) {
                        uint64_t total;

                        r->state[f->index] = 2;
                        r->stack[f->index] += f->local_bytes;
                        total = r->stack[f->index];
                        if (depth-- == 0)
                                return;
                        f = r->path[depth];
                        if (total > r->stack[f->index])
                                r->stack[f->index] = total;
                        continue;
                }
                r->next_call[depth] = call->next;
                callee = call->callee;
                if (!callee || !callee->is_defined)
                        continue;
                if (r->state[callee->index] == 1) {
                        r->unbounded = true;
                } else if (r->state[callee->index] == 2) {
                        if (r->stack[callee->index] > r->stack[f->index])
                                r->stack[f->index] = r->stack[callee->index];
                } else {
                        enter(r, callee, ++depth);
                }
        }
}

/* Marks everything `entry` can run; an indirect call can run any function whose address is taken. */
static void reach_from(struct reach *r, struct ptx_function *entry)
{
        struct ptx_module *m = r->module;
        bool indirect = false;
        uint64_t deepest = 0;

        while (r->reached_count)
                r->state[r->reached[--r->reached_count]->index] = 0;
        r->unbounded = false;
        visit_calls(r, entry);
        for (uint32_t i = 0; i < r->reached_count && !indirect; i++)
                indirect = r->reached[i]->calls_indirectly;
        for (struct ptx_function *f = m->functions; f && indirect; f = f->next)
                if (f->address_taken && f->is_defined && !f->is_entry) {
                        visit_calls(r, f);
                        if (r->stack[f->index] > deepest)
                                deepest = r->stack[f->index];
                }
        entry->stack_bytes =
                (uint32_t)(r->stack[entry->index] + deepest < PTX_LOCAL_BYTES_MAX ? r->stack[entry->index] + deepest
                                                                                  : PTX_LOCAL_BYTES_MAX);
        if (r->unbounded || indirect)
                entry->stack_bytes += PTX_STACK_EXTRA_BYTES;
}

/* Shared variables of a kernel lie next to each other. One that several kernels reach through a function keeps the
 * place that the first kernel gave it, and the others arrange theirs around it. */
static void place_shared(struct ptx_builder *builder, struct ptx_function *entry, struct ptx_variable **list,
                         uint32_t count)
{
        uint64_t top = 0;

        for (uint32_t i = 0; i < count; i++)
                if (!list[i]->external && list[i]->placed && list[i]->address + list[i]->bytes > top)
                        top = list[i]->address + list[i]->bytes;
        for (uint32_t i = 0; i < count; i++) {
                struct ptx_variable *v = list[i];

                if (v->external) {
                        if (v->align > entry->dynamic_align)
                                entry->dynamic_align = v->align;
                        continue;
                }
                if (v->placed)
                        continue;
                top = (top + v->align - 1) & ~((uint64_t)v->align - 1);
                v->address = top;
                v->placed = true;
                top += v->bytes;
        }
        if (top > PTX_SHARED_BYTES_MAX)
                ptx_fail(builder, PTX_UNSUPPORTED, entry->line, "shared memory of '%.200s' exceeds %u bytes",
                         entry->name, PTX_SHARED_BYTES_MAX);
        entry->shared_bytes = (uint32_t)top;
}

static void finish_entry(struct ptx_builder *builder, struct reach *r, struct ptx_function *entry,
                         struct ptx_variable **list, uint32_t *seen, uint32_t stamp)
{
        uint32_t count = 0;

        reach_from(r, entry);
        entry->dynamic_align = 16;
        for (uint32_t k = 0; k < r->reached_count; k++) {
                const struct ptx_function *f = r->reached[k];

                if (f->registers > entry->registers)
                        entry->registers = f->registers;
                for (uint32_t i = 0; i < f->shared_count; i++)
                        if (seen[f->shared[i]->index] != stamp) {
                                seen[f->shared[i]->index] = stamp;
                                list[count++] = f->shared[i];
                        }
        }
        place_shared(builder, entry, list, count);
}

static void apply_fixups(struct ptx_function *f)
{
        for (uint32_t i = 0; i < f->fixup_count; i++) {
                const struct ptx_fixup *fixup = &f->fixups[i];
                uint64_t value = fixup->variable->address + (uint64_t)fixup->addend;

                for (unsigned lane = 0; lane < PTX_LANES; lane++)
                        memcpy(f->constants + fixup->constant + lane * fixup->bytes, &value, fixup->bytes);
        }
}

static void finish_entries(struct ptx_builder *builder)
{
        struct ptx_module *m = builder->module;
        struct reach r = {.module = m};
        struct ptx_variable **list = calloc(m->shared_count + 1, sizeof(*list));
        uint32_t *seen = calloc(m->shared_count + 1, sizeof(*seen)), stamp = 0;

        r.state = calloc(m->function_count + 1, sizeof(*r.state));
        r.stack = calloc(m->function_count + 1, sizeof(*r.stack));
        r.path = calloc(m->function_count + 1, sizeof(*r.path));
        r.next_call = calloc(m->function_count + 1, sizeof(*r.next_call));
        r.reached = calloc(m->function_count + 1, sizeof(*r.reached));
        if (!list || !seen || !r.state || !r.stack || !r.path || !r.next_call || !r.reached)
                ptx_fail(builder, PTX_OUT_OF_MEMORY, 0, "no memory for %u functions", m->function_count);
        for (struct ptx_function *f = m->functions; f && builder->status == PTX_OK; f = f->next)
                if (f->is_entry && f->is_defined) {
                        finish_entry(builder, &r, f, list, seen, ++stamp);
                        m->entries[m->entry_count++] = f;
                }
        free(r.state);
        free(r.stack);
        free(r.path);
        free(r.next_call);
        free(r.reached);
        free(list);
        free(seen);
}

void ptx_finish(struct ptx_builder *builder)
{
        struct ptx_module *m = builder->module;

        m->function_table = ptx_keep(builder, (m->function_count + 1) * sizeof(*m->function_table));
        m->entries = ptx_keep(builder, (m->function_count + 1) * sizeof(*m->entries));
        if (builder->status != PTX_OK)
                return;
        for (struct ptx_function *f = m->functions; f; f = f->next) {
                m->function_table[f->index] = f;
                if (f->is_defined) {
                        check_calls(builder, f);
                        bind_builtins(builder, f);
                }
        }
        if (builder->status == PTX_OK)
                finish_entries(builder);
        for (struct ptx_function *f = m->functions; f && builder->status == PTX_OK; f = f->next)
                apply_fixups(f);
        if (builder->status == PTX_OK && m->needs_heap) {
                m->heap = ptx_heap_create(m);
                if (!m->heap)
                        ptx_fail(builder, PTX_OUT_OF_MEMORY, 0, "no %u bytes for device malloc", PTX_HEAP_BYTES);
        }
}
