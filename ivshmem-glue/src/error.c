/* Words of errors: set where the fault is found, prefixed with context on the way up. */
#include "ivgpu/region.h"
#include <errno.h>
#include <stdarg.h>
#include <string.h>

void ivg_error_set(struct ivg_error *error, const char *format, ...)
{
        const int saved_errno = errno; /* callers set the words first and return -errno after */
        va_list arguments;

        if (error == NULL)
                return;
        va_start(arguments, format);
        vsnprintf(error->text, sizeof(error->text), format, arguments);
        va_end(arguments);
        errno = saved_errno;
}

void ivg_error_prefix(struct ivg_error *error, const char *format, ...)
{
        const int saved_errno = errno;
        char inner[sizeof(error->text)];
        va_list arguments;
        size_t used;

        if (error == NULL)
                return;
        memcpy(inner, error->text, sizeof(inner));
        inner[sizeof(inner) - 1] = '\0';
        va_start(arguments, format);
        vsnprintf(error->text, sizeof(error->text), format, arguments);
        va_end(arguments);
        used = strlen(error->text);
        snprintf(error->text + used, sizeof(error->text) - used, ": %s", inner);
        errno = saved_errno;
}

const char *ivg_error_code_name(enum ivg_error_code code)
{
        static const char *const names[] = {
                [IVG_ERROR_NONE] = "NONE",
                [IVG_ERROR_INVALID_REQUEST] = "INVALID_REQUEST",
                [IVG_ERROR_REQUEST_TOO_LARGE] = "REQUEST_TOO_LARGE",
                [IVG_ERROR_MEDIATOR_UNAVAILABLE] = "MEDIATOR_UNAVAILABLE",
                [IVG_ERROR_TIMEOUT] = "TIMEOUT",
                [IVG_ERROR_CUDA_ERROR] = "CUDA_ERROR",
                [IVG_ERROR_INVALID_POOL] = "INVALID_POOL",
                [IVG_ERROR_QUEUE_FULL] = "QUEUE_FULL",
                [IVG_ERROR_UNSUPPORTED_OP] = "UNSUPPORTED_OP",
                [IVG_ERROR_INVALID_LENGTH] = "INVALID_LENGTH",
                [IVG_ERROR_RATE_LIMITED] = "RATE_LIMITED",
                [IVG_ERROR_VM_QUARANTINED] = "VM_QUARANTINED",
        };

        /* The number may come from the other side: a value outside the list is named as such. */
        if ((unsigned int)code >= sizeof(names) / sizeof(names[0]))
                return "UNKNOWN_CODE";
        return names[code];
}
