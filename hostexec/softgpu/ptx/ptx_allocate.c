/* Register allocation: PTX names a fresh register for nearly every value, and a warp's register file with one slot for
 * each would not fit any cache. Liveness over the control-flow graph gives each virtual register one interval of
 * instructions; a scan over the instructions then reuses slots whose interval has passed.
 *
 * Diverged lanes may be at different instructions, but a slot has 32 lanes and each lane follows one path of the graph:
 * what holds for one thread holds for each lane by itself. */
#include <stdlib.h>
#include <string.h>

#include "ptx_build.h"

#define LIVENESS_PASSES_MAX 64u
#define NO_BLOCK UINT32_MAX
#define MANY_BLOCKS (UINT32_MAX - 1)

struct liveness {
        struct ptx_builder *builder;
        uint32_t register_count;
        uint32_t *first, *last; /* interval of each register, by instruction */
        uint32_t *home;         /* the block a register stays in, NO_BLOCK or MANY_BLOCKS */
        uint32_t *global;       /* dense number of registers that live across blocks */
        uint32_t global_count;
        uint32_t *block_of;    /* instruction to block */
        uint32_t *block_start; /* one more than there are blocks */
        uint32_t block_count;
        uint64_t table_edges; /* of brx.idx: the passes follow each */
        uint32_t words;       /* of one set */
        uint64_t *in, *out, *use, *def;
        uint32_t block, insn; /* of the walk */
};

typedef void (*ref_visitor)(struct liveness *live, ptx_ref *ref, bool written, bool guarded);

static void visit(struct liveness *live, ptx_ref *ref, bool written, bool guarded, ref_visitor visitor)
{
        if (*ref != PTX_REF_NONE && !(*ref & PTX_REF_CONSTANT))
                visitor(live, ref, written, guarded);
}

static void visit_actuals(struct liveness *live, struct ptx_actual *actuals, uint32_t count, bool written, bool guarded,
                          ref_visitor visitor)
{
        for (uint32_t i = 0; i < count; i++)
                if (actuals[i].in_register)
                        visit(live, &actuals[i].where, written, guarded, visitor);
}

/* Every register reference of an instruction, those that are read first. The casts: the builder owns what it emitted.
 */
static void visit_insn(struct liveness *live, struct ptx_insn *insn, ref_visitor visitor)
{
        const bool guarded = insn->guard != PTX_REF_NONE;
        ptx_ref *list = (ptx_ref *)(uintptr_t)insn->list;
        struct ptx_call *call = insn->kind == PTX_KIND_CALL ? (struct ptx_call *)(uintptr_t)insn->extra : NULL;
        struct ptx_matrix *matrix = insn->roles & PTX_ROLE_MATRIX ? (struct ptx_matrix *)(uintptr_t)insn->extra : NULL;

        visit(live, &insn->guard, false, false, visitor);
        visit(live, &insn->a, false, false, visitor);
        visit(live, &insn->b, false, false, visitor);
        visit(live, &insn->c, false, false, visitor);
        if (!(insn->roles & PTX_ROLE_E))
                visit(live, &insn->e, false, false, visitor);
        for (unsigned k = 0; list && k < insn->count && !(insn->roles & PTX_ROLE_LIST); k++)
                visit(live, &list[k], false, false, visitor);
        for (uint32_t k = matrix ? matrix->written : 0; matrix && k < matrix->total; k++)
                visit(live, &matrix->registers[k], false, false, visitor);
        if (call)
                visit_actuals(live, call->arguments, call->argument_count, false, false, visitor);
        if (insn->roles & PTX_ROLE_D)
                visit(live, &insn->d, true, guarded, visitor);
        if (insn->roles & PTX_ROLE_E)
                visit(live, &insn->e, true, guarded, visitor);
        for (unsigned k = 0; list && k < insn->count && (insn->roles & PTX_ROLE_LIST); k++)
                visit(live, &list[k], true, guarded, visitor);
        for (uint32_t k = 0; matrix && k < matrix->written; k++)
                visit(live, &matrix->registers[k], true, guarded, visitor);
        if (call)
                visit_actuals(live, call->results, call->result_count, true, guarded, visitor);
}

static bool ends_block(const struct ptx_insn *insn)
{
        return insn->kind == PTX_KIND_BRANCH || insn->kind == PTX_KIND_BRANCH_TABLE || insn->kind == PTX_KIND_RETURN ||
               insn->kind == PTX_KIND_EXIT;
}

static void find_blocks(struct liveness *live)
{
        struct ptx_builder *b = live->builder;
        uint32_t count = b->code_count;

        /* block_of first marks the instructions that start a block. */
        live->block_of[0] = 1;
        for (uint32_t i = 0; i < count; i++) {
                const struct ptx_insn *insn = &b->code[i];

                if (insn->kind == PTX_KIND_BRANCH)
                        live->block_of[insn->target] = 1;
                if (insn->kind == PTX_KIND_BRANCH_TABLE) {
                        const struct ptx_branch_table *table = insn->extra;

                        for (uint32_t k = 0; k < table->count; k++)
                                live->block_of[table->targets[k]] = 1;
                        live->table_edges += table->count;
                }
                if (ends_block(insn) && i + 1 < count)
                        live->block_of[i + 1] = 1;
        }
        for (uint32_t i = 0; i < count; i++) {
                if (live->block_of[i])
                        live->block_start[live->block_count++] = i;
                live->block_of[i] = live->block_count - 1;
        }
        live->block_start[live->block_count] = count;
}

/* A register whose first mention in its only block is a full definition cannot carry a value from elsewhere. */
static void note_home(struct liveness *live, ptx_ref *ref, bool written, bool guarded)
{
        uint32_t r = *ref;

        if (live->home[r] == NO_BLOCK) {
                live->home[r] = written && !guarded ? live->block : MANY_BLOCKS;
                live->first[r] = live->insn;
        } else if (live->home[r] != live->block) {
                live->home[r] = MANY_BLOCKS;
        }
        live->last[r] = live->insn;
}

/* Before the last mention of a full definition nothing is exposed; a guarded definition keeps the old value. */
static void note_use_def(struct liveness *live, ptx_ref *ref, bool written, bool guarded)
{
        uint32_t g = live->global[*ref];
        uint64_t *use, *def, bit;

        if (live->home[*ref] != MANY_BLOCKS)
                return;
        use = live->use + (size_t)live->block * live->words + g / 64;
        def = live->def + (size_t)live->block * live->words + g / 64;
        bit = 1ull << (g & 63);
        if ((!written || guarded) && !(*def & bit))
                *use |= bit;
        if (written && !guarded)
                *def |= bit;
}

static void walk(struct liveness *live, ref_visitor visitor)
{
        struct ptx_builder *b = live->builder;

        for (uint32_t i = 0; i < b->code_count; i++) {
                live->insn = i;
                live->block = live->block_of[i];
                visit_insn(live, &b->code[i], visitor);
        }
}

static void merge_successor(struct liveness *live, uint64_t *out, uint32_t insn)
{
        const uint64_t *in = live->in + (size_t)live->block_of[insn] * live->words;

        for (uint32_t w = 0; w < live->words; w++)
                out[w] |= in[w];
}

static void compute_out(struct liveness *live, uint32_t block, uint64_t *out)
{
        struct ptx_builder *b = live->builder;
        uint32_t next = live->block_start[block + 1];
        const struct ptx_insn *last = &b->code[next - 1];
        bool falls = next < b->code_count;

        memset(out, 0, live->words * sizeof(*out));
        if (last->kind == PTX_KIND_BRANCH)
                merge_successor(live, out, last->target);
        if (last->kind == PTX_KIND_BRANCH_TABLE) {
                const struct ptx_branch_table *table = last->extra;

                for (uint32_t k = 0; k < table->count; k++)
                        merge_successor(live, out, table->targets[k]);
        }
        if (ends_block(last) && last->guard == PTX_REF_NONE)
                falls = false;
        if (falls)
                merge_successor(live, out, next);
}

/* The usual backward fixed point; false when it takes too long. */
static bool solve(struct liveness *live)
{
        for (unsigned pass = 0; pass < LIVENESS_PASSES_MAX; pass++) {
                bool changed = false;

                for (uint32_t block = live->block_count; block-- > 0;) {
                        size_t at = (size_t)block * live->words;

                        compute_out(live, block, live->out + at);
                        for (uint32_t w = 0; w < live->words; w++) {
                                uint64_t in = live->use[at + w] | (live->out[at + w] & ~live->def[at + w]);

                                changed |= in != live->in[at + w];
                                live->in[at + w] = in;
                        }
                }
                if (!changed)
                        return true;
        }
        return false;
}

static void widen(struct liveness *live, uint32_t r, uint32_t insn)
{
        if (insn < live->first[r])
                live->first[r] = insn;
        if (insn > live->last[r])
                live->last[r] = insn;
}

static void widen_over_blocks(struct liveness *live)
{
        for (uint32_t r = 0; r < live->register_count; r++) {
                uint32_t g = live->global[r];
                uint64_t bit = 1ull << (g & 63);

                if (live->home[r] != MANY_BLOCKS)
                        continue;
                for (uint32_t block = 0; block < live->block_count; block++) {
                        size_t at = (size_t)block * live->words + g / 64;

                        if (live->in[at] & bit)
                                widen(live, r, live->block_start[block]);
                        if (live->out[at] & bit)
                                widen(live, r, live->block_start[block + 1] - 1);
                }
        }
}

static void widen_all(struct liveness *live)
{
        for (uint32_t r = 0; r < live->register_count; r++)
                if (live->home[r] == MANY_BLOCKS) {
                        live->first[r] = 0;
                        live->last[r] = live->builder->code_count - 1;
                }
}

/* Intervals of registers that live across blocks: exact if the sets are affordable, else the whole function. */
static void compute_intervals(struct liveness *live)
{
        uint64_t *sets = NULL;
        size_t set_words;

        for (uint32_t r = 0; r < live->register_count; r++)
                if (live->home[r] == MANY_BLOCKS)
                        live->global[r] = live->global_count++;
        live->words = (live->global_count + 63) / 64;
        set_words = (size_t)live->words * live->block_count;
        if (live->global_count == 0)
                return;
        if (set_words + live->table_edges * live->words <= PTX_LIVENESS_BYTES_MAX / (4 * sizeof(*sets)))
                sets = calloc(set_words * 4, sizeof(*sets));
        if (!sets) {
                widen_all(live);
                return;
        }
        live->in = sets;
        live->out = sets + set_words;
        live->use = sets + 2 * set_words;
        live->def = sets + 3 * set_words;
        walk(live, note_use_def);
        if (solve(live))
                widen_over_blocks(live);
        else
                widen_all(live);
        free(sets);
}

/* Slots of one register width: 0 predicates, 1..3 for 16, 32 and 64 bits. */
struct slots {
        uint32_t *freed;
        uint32_t freed_count;
        uint32_t count;
        uint32_t base;
        uint32_t stride;
};

static unsigned slot_class(unsigned bytes)
{
        return bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3;
}

/* One pass over the instructions: what ended before it frees its slot, what starts at it takes one. `starts` and `ends`
 * are lists by instruction, linked through next_start and next_end. */
static void scan(struct liveness *live, struct slots classes[4], uint32_t *slot, uint32_t *starts, uint32_t *ends,
                 uint32_t *next_start, uint32_t *next_end)
{
        const uint8_t *bytes = live->builder->register_bytes;

        for (uint32_t r = 0; r < live->register_count; r++) {
                if (live->home[r] == NO_BLOCK)
                        continue;
                next_start[r] = starts[live->first[r]];
                starts[live->first[r]] = r + 1;
                next_end[r] = ends[live->last[r]];
                ends[live->last[r]] = r + 1;
        }
        for (uint32_t i = 0; i < live->builder->code_count; i++) {
                for (uint32_t r = i ? ends[i - 1] : 0; r; r = next_end[r - 1]) {
                        struct slots *c = &classes[slot_class(bytes[r - 1])];

                        c->freed[c->freed_count++] = slot[r - 1];
                }
                for (uint32_t r = starts[i]; r; r = next_start[r - 1]) {
                        struct slots *c = &classes[slot_class(bytes[r - 1])];

                        slot[r - 1] = c->freed_count ? c->freed[--c->freed_count] : c->count++;
                }
        }
}

static void place_classes(struct liveness *live, struct slots classes[4])
{
        static const uint32_t strides[4] = {4, 2 * PTX_LANES, 4 * PTX_LANES, 8 * PTX_LANES};
        struct ptx_function *f = live->builder->function;
        uint64_t top = 0;

        /* Widest first keeps every register aligned to its vectors. */
        for (unsigned c = 4; c-- > 0;) {
                classes[c].stride = strides[c];
                classes[c].base = (uint32_t)top;
                top += (uint64_t)classes[c].count * strides[c];
                if (top > PTX_FRAME_BYTES_MAX) {
                        ptx_fail(live->builder, PTX_UNSUPPORTED, f->line, "registers of '%s' exceed %u bytes a warp",
                                 f->name, PTX_FRAME_BYTES_MAX);
                        return;
                }
        }
        f->frame_bytes = (uint32_t)((top + 63) & ~63ull);
        f->registers = 2 * classes[3].count + classes[2].count + classes[1].count + 2;
        if (f->registers > 255)
                f->registers = 255;
}

/* After this, references are offsets into the frame. `first` is free by now and holds them. */
static void rewrite(struct liveness *live, ptx_ref *ref, bool written, bool guarded)
{
        (void)written;
        (void)guarded;
        *ref = live->first[*ref];
}

static void assign(struct liveness *live)
{
        struct ptx_builder *b = live->builder;
        uint32_t registers = live->register_count, insns = b->code_count;
        uint32_t *memory = calloc((size_t)registers * 7 + (size_t)insns * 2, sizeof(*memory));
        struct slots classes[4] = {{0}};

        if (!memory) {
                ptx_fail(b, PTX_OUT_OF_MEMORY, b->function->line, "no memory to allocate registers");
                return;
        }
        for (unsigned c = 0; c < 4; c++)
                classes[c].freed = memory + (size_t)registers * c;
        {
                uint32_t *slot = memory + (size_t)registers * 4;

                scan(live, classes, slot, memory + (size_t)registers * 7, memory + (size_t)registers * 7 + insns,
                     memory + (size_t)registers * 5, memory + (size_t)registers * 6);
                place_classes(live, classes);
                for (uint32_t r = 0; r < registers; r++) {
                        const struct slots *c = &classes[slot_class(b->register_bytes[r])];

                        live->first[r] = c->base + slot[r] * c->stride;
                }
        }
        free(memory);
        walk(live, rewrite);
        for (uint32_t i = 0; i < b->function->formal_count; i++)
                if (b->function->formals[i].in_register)
                        visit(live, &b->function->formals[i].where, false, false, rewrite);
        for (uint32_t i = 0; i < b->function->result_count; i++)
                if (b->function->results[i].in_register)
                        visit(live, &b->function->results[i].where, false, false, rewrite);
}

/* Register parameters are written by the caller and register results read by it: they live everywhere. */
static void pin_formals(struct liveness *live, const struct ptx_formal *formals, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++)
                if (formals[i].in_register && formals[i].where < live->register_count) {
                        live->home[formals[i].where] = NO_BLOCK - 2;
                        live->first[formals[i].where] = 0;
                        live->last[formals[i].where] = live->builder->code_count - 1;
                }
}

void ptx_allocate_registers(struct ptx_builder *builder)
{
        struct liveness live = {.builder = builder, .register_count = builder->register_count};
        size_t registers = builder->register_count, insns = builder->code_count;
        uint32_t *memory;

        if (builder->status != PTX_OK)
                return;
        memory = calloc(registers * 4 + insns * 2 + 2, sizeof(*memory));
        if (!memory) {
                ptx_fail(builder, PTX_OUT_OF_MEMORY, builder->function->line, "no memory to allocate registers");
                return;
        }
        live.first = memory;
        live.last = memory + registers;
        live.home = memory + registers * 2;
        live.global = memory + registers * 3;
        live.block_of = memory + registers * 4;
        live.block_start = memory + registers * 4 + insns;
        memset(live.home, 0xff, registers * sizeof(*live.home));
        find_blocks(&live);
        walk(&live, note_home);
        pin_formals(&live, builder->function->formals, builder->function->formal_count);
        pin_formals(&live, builder->function->results, builder->function->result_count);
        compute_intervals(&live);
        assign(&live);
        free(memory);
}
