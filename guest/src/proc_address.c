/* cuGetProcAddress over the generated table of names: which symbol answers for a name, a version and a stream flag. */
#include "cuda_api.h"
#include "guest.h"
#include "guest_symbols.h"
#include <string.h>

/* Every flag this interface version knows. */
#define FLAGS_KNOWN (CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM)

/* First row of `name`, or ivg_symbols_count. Rows are sorted by name, then version, then per-thread. */
static uint32_t symbol_first(const char *name)
{
        uint32_t low = 0, high = ivg_symbols_count;

        while (low < high) {
                const uint32_t middle = low + (high - low) / 2;

                if (strcmp(ivg_symbols[middle].base, name) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low < ivg_symbols_count && strcmp(ivg_symbols[low].base, name) == 0 ? low : ivg_symbols_count;
}

/* The newest symbol of `name` that a program built for `version` understands; the per-thread form where that is asked
 * for and there is one. NULL: none; *name_known tells whether a newer one would be there. */
static const struct ivg_symbol *symbol_find(const char *name, int version, bool per_thread, bool *name_known)
{
        const struct ivg_symbol *found = NULL;
        uint32_t at = symbol_first(name);

        *name_known = at < ivg_symbols_count;
        for (; at < ivg_symbols_count && strcmp(ivg_symbols[at].base, name) == 0; at++) {
                const struct ivg_symbol *row = &ivg_symbols[at];

                if ((int)row->version > version || (row->per_thread && !per_thread))
                        continue;
                /* Later rows have higher versions; a per-thread form is never displaced by a plain one. */
                if (found == NULL || !found->per_thread || row->per_thread)
                        found = row;
        }
        return found;
}

bool ivg_symbol_carried(const char *name)
{
        bool known;
        const struct ivg_symbol *found = symbol_find(name, INT32_MAX, false, &known);

        return found != NULL && found->implemented;
}

static CUresult proc_address(const char *symbol, void **pfn, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult *status)
{
        const struct ivg_symbol *found;
        bool known;

        if (symbol == NULL || pfn == NULL || (flags & ~(cuuint64_t)FLAGS_KNOWN) != 0 || flags == FLAGS_KNOWN)
                return CUDA_ERROR_INVALID_VALUE;
        found = symbol_find(symbol, version, flags == CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, &known);
        *pfn = found != NULL ? (void *)found->function : NULL;
        if (status != NULL)
                *status = found != NULL ? CU_GET_PROC_ADDRESS_SUCCESS
                          : known       ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                                        : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
        return found != NULL ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuGetProcAddress(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags)
{
        return ivg_local("cuGetProcAddress", proc_address(symbol, pfn, cudaVersion, flags, NULL));
}

CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags,
                             CUdriverProcAddressQueryResult *symbolStatus)
{
        return ivg_local("cuGetProcAddress_v2", proc_address(symbol, pfn, cudaVersion, flags, symbolStatus));
}
