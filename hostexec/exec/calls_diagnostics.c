/* The driver's log, and its settings for core dumps of kernels.
 *
 * A core dump is a file that the driver writes where this process may write: nothing that names or writes one is passed
 * on, whatever the guest sends. */
#include "exec_internal.h"
#include "host_args.h"

CUresult ivg_host_ivgLogsDump(struct ivg_exec_call *call, const struct ivg_args_ivgLogsDump *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);
        CUlogIterator iterator = args->from;
        size_t used = args->text_bytes;
        CUresult result;

        if (!driver->cuLogsDumpToMemory)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (!args->text || used == 0)
                return CUDA_ERROR_INVALID_VALUE;
        result = driver->cuLogsDumpToMemory(args->given ? &iterator : NULL, args->text, &used, args->flags);
        if (result != CUDA_SUCCESS)
                return result;
        args->answer->iterator = iterator;
        args->answer->used = used;
        return CUDA_SUCCESS;
}

typedef CUresult (*coredump_function)(CUcoredumpSettings attribute, void *value, size_t *size);

static bool is_harmless(int32_t attribute)
{
        switch (attribute) {
        case CU_COREDUMP_ENABLE_ON_EXCEPTION:
        case CU_COREDUMP_TRIGGER_HOST:
        case CU_COREDUMP_LIGHTWEIGHT:
        case CU_COREDUMP_ENABLE_USER_TRIGGER:
        case CU_COREDUMP_GENERATION_FLAGS:
                return true;
        default: /* names of files and pipes, and what later drivers add */
                return false;
        }
}

/* The attribute's size by the driver; all that are passed on are numbers of at most 8 bytes. */
static CUresult attribute_bytes(coredump_function get, int32_t attribute, size_t *bytes)
{
        CUresult result;

        if (!get || !is_harmless(attribute))
                return CUDA_ERROR_NOT_SUPPORTED;
        *bytes = 0;
        result = get((CUcoredumpSettings)attribute, NULL, bytes);
        if (result != CUDA_SUCCESS)
                return result;
        return *bytes != 0 && *bytes <= sizeof(uint64_t) ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
}

static CUresult coredump_get(coredump_function get, int32_t attribute, uint64_t *value, uint64_t *bytes)
{
        size_t size;
        CUresult result = attribute_bytes(get, attribute, &size);

        *value = 0;
        *bytes = size;
        return result == CUDA_SUCCESS ? get((CUcoredumpSettings)attribute, value, &size) : result;
}

static CUresult coredump_set(coredump_function get, coredump_function set, int32_t attribute, uint64_t value)
{
        const bool writes =
                attribute == CU_COREDUMP_ENABLE_ON_EXCEPTION || attribute == CU_COREDUMP_ENABLE_USER_TRIGGER;
        size_t size;
        CUresult result;

        if (!set || (writes && value != 0))
                return CUDA_ERROR_NOT_SUPPORTED;
        result = attribute_bytes(get, attribute, &size);
        return result == CUDA_SUCCESS ? set((CUcoredumpSettings)attribute, &value, &size) : result;
}

CUresult ivg_host_cuCoredumpGetAttribute(struct ivg_exec_call *call, const struct ivg_args_cuCoredumpGetAttribute *args)
{
        return coredump_get(ivg_exec_driver(call->exec)->cuCoredumpGetAttribute, args->attrib, &args->answer->value,
                            &args->answer->bytes);
}

CUresult ivg_host_cuCoredumpGetAttributeGlobal(struct ivg_exec_call *call,
                                               const struct ivg_args_cuCoredumpGetAttributeGlobal *args)
{
        return coredump_get(ivg_exec_driver(call->exec)->cuCoredumpGetAttributeGlobal, args->attrib,
                            &args->answer->value, &args->answer->bytes);
}

CUresult ivg_host_cuCoredumpSetAttribute(struct ivg_exec_call *call, const struct ivg_args_cuCoredumpSetAttribute *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);

        return coredump_set(driver->cuCoredumpGetAttribute, driver->cuCoredumpSetAttribute, args->attrib, args->value);
}

CUresult ivg_host_cuCoredumpSetAttributeGlobal(struct ivg_exec_call *call,
                                               const struct ivg_args_cuCoredumpSetAttributeGlobal *args)
{
        const struct ivg_driver *driver = ivg_exec_driver(call->exec);

        return coredump_set(driver->cuCoredumpGetAttributeGlobal, driver->cuCoredumpSetAttributeGlobal, args->attrib,
                            args->value);
}
