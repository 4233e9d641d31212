/* User objects: the driver counts the references, ours and those of graphs, and calls the destructor when the last one
 * goes. Ours hands the guest's over like a host function, and waits on the driver's thread until it has run.
 *
 *   destroyed():  the guest's destructor, then `dead` (release)   pairs with   sweep(): `dead` (acquire)
 * The driver's thread may not use the tables (it is no reader of RCU's): numbers of dead objects are taken back when
 * the next one is made. Until then they name a structure of ours, never the driver's dead object. */
#include "exec_internal.h"
#include "host_args.h"
#include <stdlib.h>

struct ivg_user_object {
        struct ivg_user_object *next;
        struct ivg_callback *callback;
        CUuserObject driver;
        ivg_id id; /* IVG_ID_NONE: nobody but a graph knows it */
        _Atomic(uint32_t) dead;
        _Atomic(uint32_t) silent; /* the guest has been told of a failure, and keeps what the destructor would end */
};

static pthread_mutex_t list_mutex = PTHREAD_MUTEX_INITIALIZER;

static void destroyed(void *data)
{
        struct ivg_user_object *object = data;

        if (ivg_load_acquire_u32(&object->silent))
                ivg_callback_give(object->callback);
        else
                ivg_callback_host_function(object->callback); /* which gives it back */
        ivg_store_release_u32(&object->dead, 1);
}

/* Frees what is dead, and counts what is not. The mutex is held. */
static uint32_t sweep(struct ivg_exec *exec)
{
        uint32_t alive = 0;

        for (struct ivg_user_object **at = &exec->user_objects; *at;) {
                struct ivg_user_object *object = *at;

                if (!ivg_load_acquire_u32(&object->dead)) {
                        alive++;
                        at = &object->next;
                        continue;
                }
                *at = object->next;
                if (object->id != IVG_ID_NONE)
                        (void)ivg_handle_remove(exec, IVG_KIND_USER_OBJECT, object->id);
                free(object);
        }
        return alive;
}

void ivg_user_objects_destroy(struct ivg_exec *exec)
{
        while (exec->user_objects) {
                struct ivg_user_object *object = exec->user_objects;

                exec->user_objects = object->next;
                if (!ivg_load_acquire_u32(&object->dead)) /* else it has given itself back */
                        ivg_callback_give(object->callback);
                free(object);
        }
}

/* A structure in the list, which the driver does not know yet. */
static struct ivg_user_object *prepare(struct ivg_exec *exec, uint64_t function, uint64_t data, ivg_id id)
{
        struct ivg_user_object *object = calloc(1, sizeof(*object));

        if (!object)
                return NULL;
        object->id = id;
        object->callback = ivg_callback_take(exec, function, data, id, IVG_CALLBACK_USER_OBJECT);
        pthread_mutex_lock(&list_mutex);
        if (sweep(exec) >= IVG_USER_OBJECTS_MAX || !object->callback) {
                pthread_mutex_unlock(&list_mutex);
                if (object->callback)
                        ivg_callback_give(object->callback);
                free(object);
                return NULL;
        }
        object->next = exec->user_objects;
        exec->user_objects = object;
        pthread_mutex_unlock(&list_mutex);
        return object;
}

/* The driver has not taken it. */
static void abandon(struct ivg_user_object *object)
{
        ivg_callback_give(object->callback);
        object->id = IVG_ID_NONE;
        ivg_store_release_u32(&object->dead, 1);
}

CUresult ivg_host_ivgUserObjectCreate(struct ivg_exec_call *call, const struct ivg_args_ivgUserObjectCreate *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        struct ivg_user_object *object;
        CUresult result;

        if (!driver->cuUserObjectCreate)
                return CUDA_ERROR_NOT_SUPPORTED;
        object = prepare(call->exec, args->function, args->data, args->object);
        if (!object)
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = driver->cuUserObjectCreate(&object->driver, object, destroyed, args->references, args->flags);
        if (result != CUDA_SUCCESS) {
                abandon(object);
                return result;
        }
        /* A number that is taken closes the channel; the object stays the driver's. */
        return ivg_handle_put(call, IVG_KIND_USER_OBJECT, args->object, object) ? CUDA_SUCCESS
                                                                                : CUDA_ERROR_INVALID_VALUE;
}

/* The driver's object behind the table's pointer; NULL: it has died. */
static CUuserObject living(CUuserObject handle)
{
        const struct ivg_user_object *object = (const struct ivg_user_object *)(void *)handle;

        return ivg_load_acquire_u32(&object->dead) ? NULL : object->driver;
}

CUresult ivg_host_cuUserObjectRetain(struct ivg_exec_call *call, const struct ivg_args_cuUserObjectRetain *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        const CUuserObject object = living(args->object);

        if (!object)
                return CUDA_ERROR_INVALID_VALUE;
        return driver->cuUserObjectRetain ? driver->cuUserObjectRetain(object, args->count) : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult ivg_host_cuUserObjectRelease(struct ivg_exec_call *call, const struct ivg_args_cuUserObjectRelease *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        const CUuserObject object = living(args->object);

        if (!object)
                return CUDA_ERROR_INVALID_VALUE;
        return driver->cuUserObjectRelease ? driver->cuUserObjectRelease(object, args->count)
                                           : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult ivg_host_cuGraphRetainUserObject(struct ivg_exec_call *call,
                                          const struct ivg_args_cuGraphRetainUserObject *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        const CUuserObject object = living(args->object);

        if (!object)
                return CUDA_ERROR_INVALID_VALUE;
        return driver->cuGraphRetainUserObject
                       ? driver->cuGraphRetainUserObject(args->graph, object, args->count, args->flags)
                       : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult ivg_host_cuGraphReleaseUserObject(struct ivg_exec_call *call,
                                           const struct ivg_args_cuGraphReleaseUserObject *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        const CUuserObject object = living(args->object);

        if (!object)
                return CUDA_ERROR_INVALID_VALUE;
        return driver->cuGraphReleaseUserObject ? driver->cuGraphReleaseUserObject(args->graph, object, args->count)
                                                : CUDA_ERROR_NOT_SUPPORTED;
}

/* ---- for the memory of a graph's nodes ---- */

CUresult ivg_host_ivgGraphUserObject(struct ivg_exec_call *call, const struct ivg_args_ivgGraphUserObject *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        struct ivg_user_object *object;
        CUgraph graph = args->graph;
        cuuint64_t id = 0;
        CUresult result = CUDA_SUCCESS;

        if (!driver->cuUserObjectCreate || !driver->cuGraphRetainUserObject || !driver->cuUserObjectRelease)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (!graph)
                result = ivg_capture_graph(driver, args->stream, &id, &graph);
        if (result != CUDA_SUCCESS || !graph)
                return result != CUDA_SUCCESS ? result : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        object = prepare(call->exec, args->function, args->data, IVG_ID_NONE);
        if (!object)
                return CUDA_ERROR_OUT_OF_MEMORY;
        result = driver->cuUserObjectCreate(&object->driver, object, destroyed, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC);
        if (result != CUDA_SUCCESS) {
                abandon(object);
                return result;
        }
        result = driver->cuGraphRetainUserObject(graph, object->driver, 1, CU_GRAPH_USER_OBJECT_MOVE);
        if (result != CUDA_SUCCESS) {
                ivg_store_release_u32(&object->silent, 1);
                (void)driver->cuUserObjectRelease(object->driver, 1);
        }
        return result;
}
