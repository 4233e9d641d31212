/* Calls that some devices refuse: skipped with words, and only when the device itself answered NOT_SUPPORTED. */
#ifndef IVG_TEST_SUPPORTED_H
#define IVG_TEST_SUPPORTED_H

#include "check.h"
#include <stdbool.h>

/* True when the call succeeded; any error but NOT_SUPPORTED ends the program. */
static inline bool test_supported(CUresult result, const char *what)
{
        CHECK(result == CUDA_SUCCESS || result == CUDA_ERROR_NOT_SUPPORTED, "%s answered %d", what, (int)result);
        if (result == CUDA_ERROR_NOT_SUPPORTED)
                printf("skipped on this device: %s\n", what);
        return result == CUDA_SUCCESS;
}

#endif
