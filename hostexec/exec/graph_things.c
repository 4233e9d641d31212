/* What a graph or a node owns beside its nodes: memory that it allocates, handles of conditions, bodies of conditional
 * nodes. Noted while the owner lives, so that the guest can name nothing else, and that numbers end with it.
 *
 * Rare and few: one list, one mutex, and a count that says whether to look at all. */
#include "exec_internal.h"
#include <stdlib.h>

struct ivg_graph_thing {
        struct ivg_graph_thing *next;
        const void *owner; /* the driver's graph or node */
        enum ivg_graph_thing_kind kind;
        uint64_t value, bytes;
};

struct ivg_graph_things {
        pthread_mutex_t mutex;
        struct ivg_graph_thing *first;
        _Atomic(uint32_t) count;
};

struct ivg_graph_things *ivg_graph_things_create(void)
{
        struct ivg_graph_things *things = calloc(1, sizeof(*things));

        if (things)
                pthread_mutex_init(&things->mutex, NULL);
        return things;
}

void ivg_graph_things_destroy(struct ivg_graph_things *things)
{
        if (!things)
                return;
        while (things->first) {
                struct ivg_graph_thing *thing = things->first;

                things->first = thing->next;
                free(thing);
        }
        pthread_mutex_destroy(&things->mutex);
        free(things);
}

bool ivg_graph_thing_add(struct ivg_exec *exec, const void *owner, enum ivg_graph_thing_kind kind, uint64_t value,
                         uint64_t bytes)
{
        struct ivg_graph_things *things = exec->graph_things;
        struct ivg_graph_thing *thing;

        /* Relaxed: a bound. Two threads may go over it by one. */
        if (ivg_load_relaxed_u32(&things->count) >= IVG_GRAPH_THINGS_MAX)
                return false;
        thing = malloc(sizeof(*thing));
        if (!thing)
                return false;
        *thing = (struct ivg_graph_thing){.owner = owner, .kind = kind, .value = value, .bytes = bytes};
        pthread_mutex_lock(&things->mutex);
        thing->next = things->first;
        things->first = thing;
        ivg_store_relaxed_u32(&things->count, ivg_load_relaxed_u32(&things->count) + 1);
        pthread_mutex_unlock(&things->mutex);
        return true;
}

bool ivg_graph_thing_holds(struct ivg_exec *exec, enum ivg_graph_thing_kind kind, uint64_t value, uint64_t bytes)
{
        struct ivg_graph_things *things = exec->graph_things;
        bool held = false;

        /* Relaxed: what another guest thread adds at this moment is concurrent in the program too. */
        if (ivg_load_relaxed_u32(&things->count) == 0)
                return false;
        pthread_mutex_lock(&things->mutex);
        for (const struct ivg_graph_thing *thing = things->first; thing && !held; thing = thing->next)
                held = thing->kind == kind && value - thing->value < thing->bytes &&
                       bytes <= thing->bytes - (value - thing->value);
        pthread_mutex_unlock(&things->mutex);
        return held;
}

uint32_t ivg_graph_things_of(struct ivg_exec *exec, const void *owner, enum ivg_graph_thing_kind kind, uint64_t *values,
                             uint32_t capacity)
{
        struct ivg_graph_things *things = exec->graph_things;
        uint32_t count = 0;

        if (ivg_load_relaxed_u32(&things->count) == 0)
                return 0;
        pthread_mutex_lock(&things->mutex);
        for (const struct ivg_graph_thing *thing = things->first; thing && count < capacity; thing = thing->next)
                if (thing->owner == owner && thing->kind == kind)
                        values[count++] = thing->value;
        pthread_mutex_unlock(&things->mutex);
        return count;
}

void ivg_graph_things_drop(struct ivg_exec *exec, const void *owner)
{
        struct ivg_graph_things *things = exec->graph_things;

        if (ivg_load_relaxed_u32(&things->count) == 0)
                return;
        pthread_mutex_lock(&things->mutex);
        for (struct ivg_graph_thing **at = &things->first; *at;) {
                struct ivg_graph_thing *thing = *at;

                if (thing->owner != owner) {
                        at = &thing->next;
                        continue;
                }
                *at = thing->next;
                free(thing);
                ivg_store_relaxed_u32(&things->count, ivg_load_relaxed_u32(&things->count) - 1);
        }
        pthread_mutex_unlock(&things->mutex);
}
