/* Runs one warp. A warp is a set of fragments: lanes that are at the same instruction in the same call. A branch that
 * the lanes decide differently splits a fragment; fragments that meet join again. The fragment in the deepest call with
 * the lowest instruction runs first, which joins lanes soon after a branch in code that compilers lay out. Because
 * lanes may wait for each other (a spin lock between lanes is legal since sm_70), a fragment that has taken
 * PTX_FRAGMENT_QUANTUM backward branches hands over to the one that has not run for longest. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ptx_machine.h"

#define ROOT_PC 0u
#define NO_LIMIT UINT32_MAX

enum step {
        STEP_NEXT,     /* go on at fragment->pc */
        STEP_SCHEDULE, /* the fragment waits, is gone, or is not alone at its place */
        STEP_FAULT,
};

/* Frames. */

static struct ptx_frame *take_frame(struct ptx_warp *warp, const struct ptx_function *function)
{
        struct ptx_frame **link = &warp->free_frames, *frame;
        size_t capacity;

        for (; *link; link = &(*link)->next_free)
                if ((*link)->capacity >= function->frame_bytes)
                        break;
        frame = *link;
        if (frame) {
                *link = frame->next_free;
        } else {
                capacity = ((size_t)function->frame_bytes + 4095) & ~(size_t)4095;
                frame = malloc(sizeof(*frame));
                if (!frame)
                        return NULL;
                frame->registers = aligned_alloc(64, capacity ? capacity : 64);
                if (!frame->registers) {
                        free(frame);
                        return NULL;
                }
                frame->capacity = (uint32_t)capacity;
        }
        memset(frame->registers, 0, function->frame_bytes);
        frame->function = function;
        frame->parent = NULL;
        frame->call = NULL;
        frame->references = 1;
        frame->depth = 0;
        frame->local_base = 0;
        return frame;
}

static void drop_frame(struct ptx_warp *warp, struct ptx_frame *frame)
{
        while (frame && --frame->references == 0) {
                struct ptx_frame *parent = frame->parent;

                frame->next_free = warp->free_frames;
                warp->free_frames = frame;
                frame = parent;
        }
}

bool ptx_warp_start(struct ptx_warp *warp)
{
        struct ptx_frame *frame = take_frame(warp, warp->block->run->function);

        if (!frame)
                return false;
        warp->alive = warp->born;
        warp->carry = 0;
        warp->clock = 0;
        warp->fragment_count = 1;
        warp->fragments[0] = (struct ptx_fragment){.frame = frame, .pc = ROOT_PC, .mask = warp->born};
        return true;
}

void ptx_warp_release(struct ptx_warp *warp)
{
        for (uint32_t i = 0; i < warp->fragment_count; i++)
                drop_frame(warp, warp->fragments[i].frame);
        warp->fragment_count = 0;
        while (warp->free_frames) {
                struct ptx_frame *next = warp->free_frames->next_free;

                free(warp->free_frames->registers);
                free(warp->free_frames);
                warp->free_frames = next;
        }
}

/* Fragments. */

static void enter_frame(struct ptx_warp *warp, const struct ptx_frame *frame)
{
        warp->registers = frame->registers;
        warp->constants = frame->function->constants;
        warp->local_base = frame->local_base;
}

/* `lanes` of fragment go on at `pc` by themselves. There are at most 32: masks are disjoint and not empty. */
static struct ptx_fragment *split(struct ptx_warp *warp, struct ptx_fragment *fragment, uint32_t lanes, uint32_t pc)
{
        struct ptx_fragment *part = &warp->fragments[warp->fragment_count++];

        *part = *fragment;
        part->mask = lanes;
        part->pc = pc;
        part->state = PTX_FRAGMENT_RUNS;
        part->frame->references++;
        fragment->mask &= ~lanes;
        return part;
}

static void remove_fragment(struct ptx_warp *warp, struct ptx_fragment *fragment)
{
        drop_frame(warp, fragment->frame);
        *fragment = warp->fragments[--warp->fragment_count];
}

static bool may_join(const struct ptx_fragment *a, const struct ptx_fragment *b)
{
        return a->pc == b->pc && a->frame == b->frame && a->state <= PTX_FRAGMENT_AT_SYNC &&
               b->state <= PTX_FRAGMENT_AT_SYNC;
}

/* A joined fragment runs: one that waited for lanes tries again with the new ones. */
static void join_fragments(struct ptx_warp *warp)
{
        for (uint32_t i = 0; i + 1 < warp->fragment_count; i++)
                for (uint32_t k = i + 1; k < warp->fragment_count;) {
                        struct ptx_fragment *a = &warp->fragments[i], *b = &warp->fragments[k];

                        if (!may_join(a, b)) {
                                k++;
                                continue;
                        }
                        a->mask |= b->mask;
                        a->state = PTX_FRAGMENT_RUNS;
                        a->stamp = a->stamp < b->stamp ? a->stamp : b->stamp;
                        remove_fragment(warp, b);
                }
}

/* The next place above `pc` where another fragment of the same call waits to be joined. */
static uint32_t find_limit(const struct ptx_warp *warp, const struct ptx_fragment *fragment, uint32_t pc)
{
        uint32_t limit = NO_LIMIT;

        for (uint32_t i = 0; i < warp->fragment_count; i++) {
                const struct ptx_fragment *other = &warp->fragments[i];

                if (other != fragment && other->frame == fragment->frame && other->pc > pc && other->pc < limit)
                        limit = other->pc;
        }
        return limit;
}

static uint32_t lane_value(const struct ptx_frame *frame, ptx_ref ref, unsigned lane)
{
        const uint8_t *base = ref & PTX_REF_CONSTANT ? frame->function->constants : frame->registers;

        return ((const lane_u32 *)(const void *)(base + (ref & ~PTX_REF_CONSTANT)))[lane];
}

/* Lanes whose 32-bit operand equals that of the first lane. */
static uint32_t lanes_alike(const struct ptx_fragment *fragment, ptx_ref ref, uint32_t *value)
{
        uint32_t alike = 0;

        *value = lane_value(fragment->frame, ref, (unsigned)__builtin_ctz(fragment->mask));
        for (uint32_t rest = fragment->mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);

                alike |= (uint32_t)(lane_value(fragment->frame, ref, i) == *value) << i;
        }
        return alike;
}

/* Calls. */

static uint8_t *local_place(const struct ptx_warp *warp, uint32_t base, uint32_t offset, unsigned lane)
{
        return (uint8_t *)(uintptr_t)ptx_local_window(warp, lane) + base + offset;
}

/* One parameter, for the lanes of mask: between the caller's place and the callee's, memory or register on either side.
 */
static void copy_parameter(struct ptx_warp *warp, struct ptx_frame *caller, struct ptx_frame *callee,
                           const struct ptx_actual *actual, const struct ptx_formal *formal, uint32_t mask,
                           bool to_callee)
{
        if (actual->where == PTX_REF_NONE)
                return;
        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);
                uint8_t *there = actual->in_register ? caller->registers + actual->where + i * actual->bytes
                                                     : local_place(warp, caller->local_base, actual->where, i);
                uint8_t *here = formal->in_register ? callee->registers + formal->where + i * formal->bytes
                                                    : local_place(warp, callee->local_base, formal->where, i);

                if (to_callee)
                        memcpy(here, there, formal->bytes);
                else
                        memcpy(there, here, formal->bytes);
        }
}

/* Whether an indirect callee takes what the call gives; a direct one was checked when the module was loaded. */
static bool call_fits(const struct ptx_call *call, const struct ptx_function *callee)
{
        if (call->argument_count != callee->formal_count || call->result_count != callee->result_count)
                return false;
        for (uint32_t i = 0; i < call->argument_count; i++)
                if (call->arguments[i].bytes != callee->formals[i].bytes)
                        return false;
        for (uint32_t i = 0; i < call->result_count; i++)
                if (call->results[i].bytes != callee->results[i].bytes && call->results[i].where != PTX_REF_NONE)
                        return false;
        return true;
}

/* The callee of the first lane; lanes that call another function stay behind. */
static const struct ptx_function *find_callee(struct ptx_warp *warp, struct ptx_fragment *fragment,
                                              const struct ptx_insn *insn, const struct ptx_call *call)
{
        const struct ptx_module *module = warp->block->run->module;
        unsigned first = (unsigned)__builtin_ctz(fragment->mask);
        const lane_u64 *addresses;
        const struct ptx_function *callee;
        uint64_t address, index;
        uint32_t alike = 0;

        if (call->callee)
                return call->callee;
        enter_frame(warp, fragment->frame);
        addresses = ptx_at(warp, insn->a);
        address = addresses[first];
        for (uint32_t rest = fragment->mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);

                alike |= (uint32_t)(addresses[i] == address) << i;
        }
        if (alike != fragment->mask)
                split(warp, fragment, fragment->mask & ~alike, fragment->pc);
        index = (address - PTX_FUNCTION_ADDRESS) / PTX_FUNCTION_STRIDE;
        if (address < PTX_FUNCTION_ADDRESS || index >= module->function_count || address % PTX_FUNCTION_STRIDE) {
                ptx_fault_at(warp, PTX_ILLEGAL_ADDRESS, first, address, "call of 0x%" PRIx64 ", which is no function",
                             address);
                return NULL;
        }
        callee = module->function_table[index];
        if (!callee->is_defined || callee->is_entry || !call_fits(call, callee)) {
                ptx_fault_at(warp, PTX_ILLEGAL_ADDRESS, first, address, "indirect call does not fit '%.64s'",
                             callee->name);
                return NULL;
        }
        return callee;
}

static enum step step_call(struct ptx_warp *warp, struct ptx_fragment *fragment, const struct ptx_insn *insn,
                           int *status)
{
        const struct ptx_call *call = insn->extra;
        const struct ptx_function *callee = find_callee(warp, fragment, insn, call);
        struct ptx_frame *caller = fragment->frame, *frame;
        unsigned first = (unsigned)__builtin_ctz(fragment->mask);
        uint32_t local_base;

        if (!callee) {
                *status = PTX_ILLEGAL_ADDRESS;
                return STEP_FAULT;
        }
        local_base = caller->local_base + caller->function->local_bytes;
        if (caller->depth + 1 >= PTX_CALL_DEPTH_MAX ||
            (uint64_t)local_base + callee->local_bytes > warp->block->local_stride) {
                *status = ptx_fault_at(warp, PTX_ILLEGAL_ADDRESS, first, 0, "stack overflow in '%.64s', %u calls deep",
                                       callee->name, caller->depth + 1);
                return STEP_FAULT;
        }
        frame = take_frame(warp, callee);
        if (!frame) {
                *status = ptx_fault_at(warp, PTX_OUT_OF_MEMORY, first, 0, "no memory for a call of '%.64s'",
                                       callee->name);
                return STEP_FAULT;
        }
        frame->parent = caller; /* the fragment's reference becomes the frame's */
        frame->call = call;
        frame->return_pc = fragment->pc + 1;
        frame->depth = caller->depth + 1;
        frame->local_base = local_base;
        for (uint32_t i = 0; i < call->argument_count; i++)
                copy_parameter(warp, caller, frame, &call->arguments[i], &callee->formals[i], fragment->mask, true);
        fragment->frame = frame;
        fragment->pc = 0;
        return STEP_SCHEDULE;
}

static enum step step_exit(struct ptx_warp *warp, struct ptx_fragment *fragment)
{
        warp->alive &= ~fragment->mask;
        warp->block->alive -= (uint32_t)__builtin_popcount(fragment->mask);
        remove_fragment(warp, fragment);
        return STEP_SCHEDULE;
}

static enum step step_return(struct ptx_warp *warp, struct ptx_fragment *fragment)
{
        struct ptx_frame *frame = fragment->frame, *caller = frame->parent;

        if (!caller)
                return step_exit(warp, fragment);
        for (uint32_t i = 0; i < frame->call->result_count; i++)
                copy_parameter(warp, caller, frame, &frame->call->results[i], &frame->function->results[i],
                               fragment->mask, false);
        caller->references++;
        fragment->frame = caller;
        fragment->pc = frame->return_pc;
        drop_frame(warp, frame);
        return STEP_SCHEDULE;
}

/* Waiting. */

static enum step step_branch_table(struct ptx_warp *warp, struct ptx_fragment *fragment, const struct ptx_insn *insn,
                                   int *status)
{
        const struct ptx_branch_table *table = insn->extra;
        uint32_t index, alike = lanes_alike(fragment, insn->a, &index);

        if (alike != fragment->mask)
                split(warp, fragment, fragment->mask & ~alike, fragment->pc);
        if (index >= table->count) {
                *status = ptx_fault_at(warp, PTX_ILLEGAL_ADDRESS, (unsigned)__builtin_ctz(alike), index,
                                       "brx.idx %u of %u targets", index, table->count);
                return STEP_FAULT;
        }
        fragment->pc = table->targets[index];
        return STEP_SCHEDULE;
}

static enum step step_barrier(struct ptx_warp *warp, struct ptx_fragment *fragment, const struct ptx_insn *insn,
                              int *status)
{
        uint32_t id, expected = 0, alike = lanes_alike(fragment, insn->a, &id), true_lanes = 0;
        bool reduces = insn->mode >= PTX_BARRIER_POPC;

        if (alike != fragment->mask)
                split(warp, fragment, fragment->mask & ~alike, fragment->pc);
        if (insn->b != PTX_REF_NONE)
                expected = lane_value(fragment->frame, insn->b, (unsigned)__builtin_ctz(alike));
        if (id >= PTX_BARRIERS_MAX || expected > PTX_BLOCK_THREADS_MAX || expected % PTX_LANES) {
                *status = ptx_fault_at(warp, PTX_BARRIER, (unsigned)__builtin_ctz(alike), id,
                                       "barrier %u for %u threads does not exist", id, expected);
                return STEP_FAULT;
        }
        if (reduces)
                true_lanes = lane_value(fragment->frame, insn->c, 0) & alike;
        ptx_barrier_arrive(warp->block, id, warp->index, alike, true_lanes, expected, reduces);
        if (insn->mode == PTX_BARRIER_ARRIVE) {
                fragment->pc++;
                return STEP_NEXT;
        }
        fragment->state = PTX_FRAGMENT_AT_BARRIER;
        fragment->barrier = id;
        return STEP_SCHEDULE;
}

void ptx_warp_pass_barrier(struct ptx_warp *warp, uint32_t id, const struct ptx_barrier *barrier)
{
        for (uint32_t i = 0; i < warp->fragment_count; i++) {
                struct ptx_fragment *f = &warp->fragments[i];
                const struct ptx_insn *insn;

                if (f->state != PTX_FRAGMENT_AT_BARRIER || f->barrier != id)
                        continue;
                insn = &f->frame->function->code[f->pc++];
                f->state = PTX_FRAGMENT_RUNS;
                if (insn->mode == PTX_BARRIER_POPC) {
                        lane_u32 *d = (void *)(f->frame->registers + insn->d);

                        for (unsigned lane = 0; lane < PTX_LANES; lane++)
                                if (f->mask >> lane & 1)
                                        d[lane] = barrier->red_count;
                } else if (insn->mode != PTX_BARRIER_SYNC) {
                        lane_u32 *d = (void *)(f->frame->registers + insn->d);
                        bool holds = insn->mode == PTX_BARRIER_AND ? barrier->red_count == barrier->red_total
                                                                   : barrier->red_count != 0;

                        *d = (*d & ~f->mask) | (holds ? f->mask : 0);
                }
        }
}

/* Releases the fragments at bar.warp.sync with these members if together they are all that live. */
static bool try_warp_barrier(struct ptx_warp *warp, uint32_t members)
{
        uint32_t arrived = 0;

        for (uint32_t i = 0; i < warp->fragment_count; i++)
                if (warp->fragments[i].state == PTX_FRAGMENT_AT_WARPBAR && warp->fragments[i].members == members)
                        arrived |= warp->fragments[i].mask;
        if (members & warp->alive & ~arrived)
                return false;
        for (uint32_t i = 0; i < warp->fragment_count; i++) {
                struct ptx_fragment *f = &warp->fragments[i];

                if (f->state == PTX_FRAGMENT_AT_WARPBAR && f->members == members) {
                        f->state = PTX_FRAGMENT_RUNS;
                        f->pc++;
                }
        }
        ptx_fence();
        return true;
}

static enum step step_warp_barrier(struct ptx_warp *warp, struct ptx_fragment *fragment, const struct ptx_insn *insn)
{
        uint32_t members, alike = lanes_alike(fragment, insn->e, &members);

        if (alike != fragment->mask)
                split(warp, fragment, fragment->mask & ~alike, fragment->pc);
        fragment->state = PTX_FRAGMENT_AT_WARPBAR;
        fragment->members = members;
        try_warp_barrier(warp, members);
        return warp->fragment_count == 1 && fragment->state == PTX_FRAGMENT_RUNS ? STEP_NEXT : STEP_SCHEDULE;
}

/* Lanes of the fragment whose member lanes are all here. */
static uint32_t lanes_complete(const struct ptx_warp *warp, const struct ptx_fragment *fragment,
                               const struct ptx_insn *insn)
{
        uint32_t complete = 0;

        if (fragment->mask == warp->alive)
                return fragment->mask;
        for (uint32_t rest = fragment->mask; rest; rest &= rest - 1) {
                unsigned i = (unsigned)__builtin_ctz(rest);
                uint32_t members = lane_value(fragment->frame, insn->e, i);

                complete |= (uint32_t)((members & warp->alive & ~fragment->mask) == 0) << i;
        }
        return complete;
}

static enum step step_warp_op(struct ptx_warp *warp, struct ptx_fragment *fragment, const struct ptx_insn *insn,
                              int *status)
{
        uint32_t complete = lanes_complete(warp, fragment, insn);

        if (!complete) {
                fragment->state = PTX_FRAGMENT_AT_SYNC;
                return STEP_SCHEDULE;
        }
        if (complete != fragment->mask)
                split(warp, fragment, fragment->mask & ~complete, fragment->pc)->state = PTX_FRAGMENT_AT_SYNC;
        *status = insn->run(warp, insn, complete);
        fragment->pc++;
        if (*status)
                return STEP_FAULT;
        return STEP_NEXT;
}

static enum step control(struct ptx_warp *warp, struct ptx_fragment *fragment, const struct ptx_insn *insn, int *status)
{
        switch (insn->kind) {
        case PTX_KIND_BRANCH_TABLE:
                return step_branch_table(warp, fragment, insn, status);
        case PTX_KIND_CALL:
                return step_call(warp, fragment, insn, status);
        case PTX_KIND_RETURN:
                return step_return(warp, fragment);
        case PTX_KIND_EXIT:
                return step_exit(warp, fragment);
        case PTX_KIND_BARRIER:
                return step_barrier(warp, fragment, insn, status);
        case PTX_KIND_WARP_BARRIER:
                return step_warp_barrier(warp, fragment, insn);
        default:
                return step_warp_op(warp, fragment, insn, status);
        }
}

/* Runs one fragment until it must be scheduled anew. *quantum counts down with backward branches, calls and returns.
 * Returns 0 or the status of a fault, whose line is *line. */
static int run_fragment(struct ptx_warp *warp, struct ptx_fragment *fragment, uint32_t *quantum, uint32_t *line)
{
        const struct ptx_insn *code = fragment->frame->function->code, *insn;
        uint32_t pc = fragment->pc, mask = fragment->mask, limit = find_limit(warp, fragment, pc), lanes;
        int status = 0;

        enter_frame(warp, fragment->frame);
        while (pc < limit) {
                insn = &code[pc];
                lanes = mask;
                if (insn->guard != PTX_REF_NONE) {
                        const uint32_t holds = *(const lane_u32 *)(const void *)(warp->registers + insn->guard);

                        lanes &= insn->negated ? ~holds : holds;
                }
                if (insn->kind == PTX_KIND_OP) {
                        if (lanes && (status = insn->run(warp, insn, lanes)) != 0)
                                goto fault;
                        pc++;
                        continue;
                }
                if (!lanes) {
                        pc++;
                        continue;
                }
                if (insn->kind == PTX_KIND_BRANCH) {
                        const bool backward = insn->target <= pc;

                        if (lanes != mask) {
                                /* The lower of the two places runs on. */
                                uint32_t kept = backward ? lanes : mask & ~lanes;

                                split(warp, fragment, mask & ~kept, backward ? pc + 1 : insn->target);
                                mask = kept;
                                pc = backward ? insn->target : pc + 1;
                        } else {
                                pc = insn->target;
                        }
                        if (warp->fragment_count > 1)
                                limit = find_limit(warp, fragment, pc);
                        if (backward && --*quantum == 0)
                                break;
                        continue;
                }
                fragment->pc = pc;
                if (lanes != mask) {
                        split(warp, fragment, mask & ~lanes, pc + 1);
                        mask = lanes;
                }
                switch (control(warp, fragment, insn, &status)) {
                case STEP_FAULT:
                        goto fault;
                case STEP_SCHEDULE:
                        --*quantum;
                        return 0;
                default:
                        pc = fragment->pc;
                        mask = fragment->mask;
                        limit = find_limit(warp, fragment, pc);
                        break;
                }
        }
        fragment->pc = pc;
        return 0;
fault:
        *line = insn->line;
        return status;
}

/* Lanes have exited since fragments began to wait: some may have all members by now. */
static bool wake_waiting(struct ptx_warp *warp)
{
        bool woken = false;

        for (uint32_t i = 0; i < warp->fragment_count; i++) {
                struct ptx_fragment *f = &warp->fragments[i];

                if (f->state == PTX_FRAGMENT_AT_SYNC && lanes_complete(warp, f, &f->frame->function->code[f->pc])) {
                        f->state = PTX_FRAGMENT_RUNS;
                        woken = true;
                } else if (f->state == PTX_FRAGMENT_AT_WARPBAR) {
                        woken |= try_warp_barrier(warp, f->members);
                }
        }
        return woken;
}

static bool runs_before(const struct ptx_fragment *a, const struct ptx_fragment *b, bool rotate)
{
        if (rotate)
                return a->stamp < b->stamp;
        if (a->frame->depth != b->frame->depth)
                return a->frame->depth > b->frame->depth;
        return a->pc < b->pc;
}

static struct ptx_fragment *pick(struct ptx_warp *warp, bool rotate)
{
        struct ptx_fragment *best = NULL;

        if (warp->fragment_count > 1)
                join_fragments(warp);
        if (rotate)
                wake_waiting(warp);
        for (unsigned attempt = 0; !best && attempt < 2; attempt++) {
                for (uint32_t i = 0; i < warp->fragment_count; i++) {
                        struct ptx_fragment *f = &warp->fragments[i];

                        if (f->state == PTX_FRAGMENT_RUNS && (!best || runs_before(f, best, rotate)))
                                best = f;
                }
                if (!best && !wake_waiting(warp))
                        break;
        }
        return best;
}

enum ptx_warp_progress ptx_warp_run(struct ptx_warp *warp)
{
        uint32_t turns = warp->block->run->launch->cooperative ? PTX_COOPERATIVE_TURNS : PTX_WARP_TURNS;
        uint32_t quantum = PTX_FRAGMENT_QUANTUM;

        while (warp->fragment_count) {
                struct ptx_fragment *fragment = pick(warp, quantum == 0);
                uint32_t line = 0;
                int status;

                if (!fragment)
                        return PTX_WARP_WAITS;
                if (quantum == 0) {
                        if (ptx_must_stop(warp->block->run)) {
                                ptx_fault_at(warp, PTX_ABORTED, 0, 0, "launch aborted");
                                ptx_block_fail(warp->block, warp, fragment->frame->function->code[fragment->pc].line,
                                               PTX_ABORTED);
                                return PTX_WARP_FAILED;
                        }
                        if (--turns == 0)
                                return PTX_WARP_YIELDS;
                        quantum = PTX_FRAGMENT_QUANTUM;
                }
                fragment->stamp = ++warp->clock;
                status = run_fragment(warp, fragment, &quantum, &line);
                if (status) {
                        ptx_block_fail(warp->block, warp, line, (enum ptx_status)status);
                        return PTX_WARP_FAILED;
                }
        }
        return PTX_WARP_DONE;
}
