/* Contexts of parts of a device ("green"): which there are, and which primary context each belongs to. */
#include "green.h"

static ivg_id context_of(uint64_t entry)
{
        return (ivg_id)entry;
}

static ivg_id primary_of(uint64_t entry)
{
        return (ivg_id)(entry >> 32);
}

/* The place of `context`, or -1. Acquire pairs with the release where entries are written. */
static int place_of(const struct ivg_exec *exec, ivg_id context)
{
        if (ivg_load_relaxed_u32((_Atomic(uint32_t) *)&exec->green_count) == 0) /* the ordinary case: one load */
                return -1;
        for (uint32_t i = 0; i < IVG_GREEN_CONTEXTS_MAX; i++) {
                const uint64_t entry = ivg_load_acquire_u64((_Atomic(uint64_t) *)&exec->green[i]);

                if (entry != 0 && context_of(entry) == context)
                        return (int)i;
        }
        return -1;
}

ivg_id ivg_context_owner(const struct ivg_exec *exec, ivg_id context)
{
        const int place = place_of(exec, context);
        const uint64_t entry = place < 0 ? 0 : ivg_load_acquire_u64((_Atomic(uint64_t) *)&exec->green[place]);

        return entry != 0 && context_of(entry) == context ? primary_of(entry) : context;
}

bool ivg_context_is_green(const struct ivg_exec *exec, ivg_id context)
{
        return place_of(exec, context) >= 0;
}

/* ---- with the lock of contexts ---- */

bool ivg_green_note(struct ivg_exec *exec, ivg_id context, ivg_id primary)
{
        for (uint32_t i = 0; i < IVG_GREEN_CONTEXTS_MAX; i++)
                if (ivg_load_relaxed_u64(&exec->green[i]) == 0) {
                        ivg_store_release_u64(&exec->green[i], (uint64_t)primary << 32 | context);
                        atomic_fetch_add_explicit(&exec->green_count, 1, memory_order_relaxed);
                        return true;
                }
        return false;
}

void ivg_green_drop(struct ivg_exec *exec, ivg_id context)
{
        const int place = place_of(exec, context);

        if (place < 0)
                return;
        /* The streams first: they are told by the number that the entry explains. */
        ivg_context_ends(exec, context);
        ivg_store_release_u64(&exec->green[place], 0);
        atomic_fetch_sub_explicit(&exec->green_count, 1, memory_order_relaxed);
}

void ivg_greens_forget(struct ivg_exec *exec, ivg_id primary)
{
        for (uint32_t i = 0; i < IVG_GREEN_CONTEXTS_MAX; i++) {
                const uint64_t entry = ivg_load_relaxed_u64(&exec->green[i]);

                if (entry != 0 && primary_of(entry) == primary)
                        ivg_green_drop(exec, context_of(entry));
        }
}
