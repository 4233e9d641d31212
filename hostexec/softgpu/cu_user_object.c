/* User objects: reference counts of the program's own things, held by the program and by graphs. When the last one
 * goes, the destructor runs on a thread of ours, as it may be let go of under locks and by streams' threads. */
#include <limits.h>
#include <stdlib.h>

#include "graph.h"

void sg_user_finalize(struct sg_user *user)
{
        (void)user;
}

static void *sg_user_destroy_main(void *argument)
{
        struct sg_user *user = argument;
        sg_callback_enter();
        user->destroy(user->data);
        sg_callback_leave();
        sg_object_put(user);
        return NULL;
}

static void sg_user_destroy(struct sg_user *user)
{
        pthread_t thread;
        (void)sg_object_retire(user);
        if (pthread_create(&thread, NULL, sg_user_destroy_main, user) == 0)
                pthread_detach(thread);
        else
                sg_report("no thread for the destructor of a user object: it does not run");
}

/* Under sg_graph_lock. */
static void sg_user_release(struct sg_user *user, unsigned count)
{
        user->references -= count;
        if (user->references == 0)
                sg_user_destroy(user);
}

/* ---- of graphs; under sg_graph_lock ---- */

static struct sg_user_hold *sg_user_hold_of(struct sg_user_holds *holds, const struct sg_user *user)
{
        for (unsigned i = 0; i < holds->count; i++)
                if (holds->items[i].user == user)
                        return &holds->items[i];
        return NULL;
}

static CUresult sg_user_hold_add(struct sg_user_holds *holds, struct sg_user *user, unsigned count)
{
        struct sg_user_hold *hold = sg_user_hold_of(holds, user);
        if (hold == NULL) {
                struct sg_user_hold *more = realloc(holds->items, (holds->count + 1) * sizeof(*more));
                if (more == NULL)
                        return CUDA_ERROR_OUT_OF_MEMORY;
                holds->items = more;
                hold = &more[holds->count++];
                *hold = (struct sg_user_hold){.user = user};
        }
        hold->count += count;
        return CUDA_SUCCESS;
}

CUresult sg_user_holds_copy(struct sg_user_holds *to, const struct sg_user_holds *from)
{
        CUresult result = CUDA_SUCCESS;
        for (unsigned i = 0; i < from->count && result == CUDA_SUCCESS; i++) {
                const struct sg_user_hold *hold = &from->items[i];
                if (hold->count > INT_MAX - hold->user->references)
                        return CUDA_ERROR_OUT_OF_MEMORY;
                result = sg_user_hold_add(to, hold->user, hold->count);
                if (result == CUDA_SUCCESS)
                        hold->user->references += hold->count;
        }
        return result;
}

void sg_user_holds_release(struct sg_user_holds *holds)
{
        sg_graph_lock_take();
        for (unsigned i = 0; i < holds->count; i++)
                sg_user_release(holds->items[i].user, holds->items[i].count);
        free(holds->items);
        *holds = (struct sg_user_holds){NULL, 0};
        sg_graph_lock_give();
}

/* ---- calls ---- */

SG_ENTRY(cuUserObjectCreate, CUuserObject *out, void *data, CUhostFn destroy, unsigned references, unsigned flags)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        if (out == NULL || destroy == NULL || references == 0 || references > INT_MAX ||
            flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_user *user = sg_object_new(SG_USER);
        if (user == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        user->destroy = destroy;
        user->data = data;
        user->references = references;
        *out = (CUuserObject)user;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuUserObjectRetain, CUuserObject handle, unsigned count)
{
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        struct sg_user *user = sg_object_from(handle, SG_USER);
        if (user != NULL && count != 0 && count <= INT_MAX - user->references) {
                user->references += count;
                result = CUDA_SUCCESS;
        }
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuUserObjectRelease, CUuserObject handle, unsigned count)
{
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        struct sg_user *user = sg_object_from(handle, SG_USER);
        if (user != NULL && count != 0 && count <= user->references) {
                sg_user_release(user, count);
                result = CUDA_SUCCESS;
        }
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphRetainUserObject, CUgraph graph_handle, CUuserObject handle, unsigned count, unsigned flags)
{
        struct sg_graph *graph;
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        struct sg_user *user = sg_object_from(handle, SG_USER);
        const bool moves = flags == CU_GRAPH_USER_OBJECT_MOVE;
        if (user != NULL && sg_graph_resolve(graph_handle, &graph) && (flags == 0 || moves) && count != 0 &&
            (moves ? count <= user->references : count <= INT_MAX - user->references))
                result = sg_user_hold_add(&graph->users, user, count);
        if (result == CUDA_SUCCESS && !moves)
                user->references += count;
        sg_graph_lock_give();
        return result;
}

SG_ENTRY(cuGraphReleaseUserObject, CUgraph graph_handle, CUuserObject handle, unsigned count)
{
        struct sg_graph *graph;
        CUresult result = CUDA_ERROR_INVALID_VALUE;
        sg_graph_lock_take();
        struct sg_user *user = sg_object_from(handle, SG_USER);
        if (user != NULL && sg_graph_resolve(graph_handle, &graph)) {
                struct sg_user_hold *hold = sg_user_hold_of(&graph->users, user);
                if (hold != NULL && count != 0 && count <= hold->count) {
                        hold->count -= count;
                        if (hold->count == 0)
                                *hold = graph->users.items[--graph->users.count];
                        sg_user_release(user, count);
                        result = CUDA_SUCCESS;
                }
        }
        sg_graph_lock_give();
        return result;
}
