/* What the driver says about its own doings: its log, and its core dumps. Files named by the program are the guest's;
 * the executor's driver is never given a name. */
#include "cuda_api.h"
#include "guest.h"
#include "guest_send.h"
#include <stdio.h>
#include <string.h>

/* ---- the log ---- */

/* The driver keeps 25600 bytes (cuda.h); more never comes. */
#define LOGS_BYTES_MAX 0x8000u

static CUresult logs_dump(CUlogIterator *iterator, char *text, size_t capacity, unsigned int flags, size_t *used)
{
        CUlogIterator next = 0;
        uint64_t bytes = 0;
        const CUresult result =
                ivg_send_ivgLogsDump(iterator != NULL, iterator != NULL ? *iterator : 0, flags, text,
                                     capacity < LOGS_BYTES_MAX ? capacity : LOGS_BYTES_MAX, &next, &bytes);

        *used = 0;
        if (result != CUDA_SUCCESS)
                return result;
        if (bytes > capacity)
                return CUDA_ERROR_UNKNOWN; /* a broken host */
        *used = bytes;
        if (iterator != NULL)
                *iterator = next;
        return CUDA_SUCCESS;
}

CUresult cuLogsDumpToMemory(CUlogIterator *iterator, char *buffer, size_t *size, unsigned int flags)
{
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (buffer == NULL || size == NULL || *size == 0)
                return CUDA_ERROR_INVALID_VALUE;
        return logs_dump(iterator, buffer, *size, flags, size);
}

CUresult cuLogsDumpToFile(CUlogIterator *iterator, const char *pathToFile, unsigned int flags)
{
        CUresult result = ivg_process_check();
        char text[LOGS_BYTES_MAX];
        size_t used = 0;
        FILE *file;

        if (result != CUDA_SUCCESS)
                return result;
        if (pathToFile == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        /* Opened before the dump: what cannot be written is not skipped by the iterator. */
        file = fopen(pathToFile, "we");
        if (file == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = logs_dump(iterator, text, sizeof(text), flags, &used);
        if (result == CUDA_SUCCESS && used != 0 && fwrite(text, used, 1, file) != 1)
                result = CUDA_ERROR_OPERATING_SYSTEM;
        if (fclose(file) != 0 && result == CUDA_SUCCESS)
                result = CUDA_ERROR_OPERATING_SYSTEM;
        return result;
}

/* ---- core dumps ---- */

/* True: the attribute is a name of a file or a pipe, of the host. */
static bool names_a_file(CUcoredumpSettings attribute)
{
        return attribute == CU_COREDUMP_FILE || attribute == CU_COREDUMP_PIPE;
}

static CUresult coredump_get(CUcoredumpSettings attribute, void *value, size_t *size,
                             CUresult (*send)(int32_t attribute, uint64_t *value, uint64_t *bytes), const char *name)
{
        uint64_t number = 0, bytes = 0;
        CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (size == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (names_a_file(attribute))
                return ivg_refuse(name);
        result = send((int32_t)attribute, &number, &bytes);
        if (result != CUDA_SUCCESS)
                return result;
        if (bytes > sizeof(number))
                return CUDA_ERROR_UNKNOWN; /* a broken host */
        if (value != NULL && *size < bytes)
                return CUDA_ERROR_INVALID_VALUE;
        if (value != NULL)
                memcpy(value, &number, bytes);
        *size = bytes;
        return CUDA_SUCCESS;
}

static CUresult coredump_set(CUcoredumpSettings attribute, const void *value, const size_t *size,
                             CUresult (*send)(int32_t attribute, uint64_t value), const char *name)
{
        uint64_t number = 0;
        const CUresult result = ivg_process_check();

        if (result != CUDA_SUCCESS)
                return result;
        if (value == NULL || size == NULL || *size == 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (names_a_file(attribute))
                return ivg_refuse(name);
        if (*size > sizeof(number))
                return CUDA_ERROR_INVALID_VALUE;
        memcpy(&number, value, *size);
        if (number != 0 &&
            (attribute == CU_COREDUMP_ENABLE_ON_EXCEPTION || attribute == CU_COREDUMP_ENABLE_USER_TRIGGER))
                return ivg_refuse(name); /* it would write files of the host */
        return send((int32_t)attribute, number);
}

CUresult cuCoredumpGetAttribute(CUcoredumpSettings attrib, void *value, size_t *size)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_require(&context);

        return result != CUDA_SUCCESS ? result
                                      : coredump_get(attrib, value, size, ivg_send_cuCoredumpGetAttribute,
                                                     "cuCoredumpGetAttribute of a file's name");
}

CUresult cuCoredumpGetAttributeGlobal(CUcoredumpSettings attrib, void *value, size_t *size)
{
        return coredump_get(attrib, value, size, ivg_send_cuCoredumpGetAttributeGlobal,
                            "cuCoredumpGetAttributeGlobal of a file's name");
}

CUresult cuCoredumpSetAttribute(CUcoredumpSettings attrib, void *value, size_t *size)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_require(&context);

        return result != CUDA_SUCCESS ? result
                                      : coredump_set(attrib, value, size, ivg_send_cuCoredumpSetAttribute,
                                                     "cuCoredumpSetAttribute that writes a file of the host");
}

CUresult cuCoredumpSetAttributeGlobal(CUcoredumpSettings attrib, void *value, size_t *size)
{
        return coredump_set(attrib, value, size, ivg_send_cuCoredumpSetAttributeGlobal,
                            "cuCoredumpSetAttributeGlobal that writes a file of the host");
}
