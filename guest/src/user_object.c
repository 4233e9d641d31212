/* User objects: the host's driver counts their references and says when the last one has gone; then the destructor runs
 * on the callback thread, like a host function (callback.c). The handle ends with it. */
#include "user_object.h"
#include "cuda_api.h"
#include "guest_send.h"

void ivg_user_object_over(ivg_id id)
{
        struct ivg_object *object = ivg_object_of_id(IVG_KIND_USER_OBJECT, id);

        if (object != NULL)
                ivg_object_destroy(object);
}

CUresult cuUserObjectCreate(CUuserObject *object_out, void *ptr, CUhostFn destroy, unsigned int initialRefcount,
                            unsigned int flags)
{
        struct ivg_object *object;
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (object_out == NULL || destroy == NULL || initialRefcount == 0 || initialRefcount > INT32_MAX ||
            flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_callbacks_require();
        if (result == CUDA_SUCCESS)
                result = ivg_object_create(IVG_KIND_USER_OBJECT, NULL, &object);
        if (result != CUDA_SUCCESS)
                return result;
        result = ivg_send_ivgUserObjectCreate((uintptr_t)destroy, (uintptr_t)ptr, initialRefcount, flags, object->id);
        if (result == CUDA_SUCCESS)
                *object_out = (CUuserObject)object;
        else
                ivg_object_destroy(object);
        return result;
}
