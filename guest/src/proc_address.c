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

static bool has_per_thread(uint32_t first)
{
        for (uint32_t at = first; at < ivg_symbols_count && strcmp(ivg_symbols[at].base, ivg_symbols[first].base) == 0;
             at++)
                if (ivg_symbols[at].per_thread)
                        return true;
        return false;
}

/* The newest symbol of `name` that is not newer than `version`. A name that has per-thread forms is answered by those
 * alone where they are asked for, also when they are all too new. NULL: none; *known: there is one up to `shown`. */
static const struct ivg_symbol *symbol_find(const char *name, int version, int shown, bool per_thread, bool *known)
{
        const struct ivg_symbol *found = NULL;
        const uint32_t first = symbol_first(name);

        *known = false;
        per_thread = per_thread && has_per_thread(first);
        for (uint32_t at = first; at < ivg_symbols_count && strcmp(ivg_symbols[at].base, name) == 0; at++) {
                const struct ivg_symbol *row = &ivg_symbols[at];

                *known |= (int)row->version <= shown;
                if ((int)row->version <= version && row->per_thread == per_thread)
                        found = row; /* later rows have higher versions */
        }
        return found;
}

bool ivg_symbol_carried(const char *name)
{
        bool known;
        const struct ivg_symbol *found = symbol_find(name, INT32_MAX, INT32_MAX, false, &known);

        return found != NULL && found->implemented;
}

/* As NVIDIA's driver was seen to answer (580, all of names.txt): a version above its own, or an unknown flag, is
 * invalid and touches nothing; a negative version is the newest; both flags are the per-thread one. */
static CUresult proc_address(const char *symbol, int version, cuuint64_t flags, const struct ivg_symbol **found,
                             bool *known)
{
        const int shown = ivg_process_driver_version();

        if (symbol == NULL || (flags & ~(cuuint64_t)FLAGS_KNOWN) != 0 || version > shown)
                return CUDA_ERROR_INVALID_VALUE;
        *found = symbol_find(symbol, version < 0 ? shown : version, shown,
                             (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0, known);
        return CUDA_SUCCESS;
}

/* The older form has no other way to say that there is no such function, and leaves *pfn alone then. */
static CUresult proc_address_v1(const char *symbol, void **pfn, int version, cuuint64_t flags)
{
        const struct ivg_symbol *found = NULL;
        bool known;
        const CUresult result = proc_address(symbol, version, flags, &found, &known);

        if (result != CUDA_SUCCESS || pfn == NULL)
                return result != CUDA_SUCCESS ? result : CUDA_ERROR_INVALID_VALUE;
        if (found == NULL)
                return CUDA_ERROR_NOT_FOUND;
        *pfn = (void *)found->function;
        return CUDA_SUCCESS;
}

static CUresult proc_address_v2(const char *symbol, void **pfn, int version, cuuint64_t flags,
                                CUdriverProcAddressQueryResult *status)
{
        const struct ivg_symbol *found = NULL;
        bool known;
        const CUresult result = proc_address(symbol, version, flags, &found, &known);

        if (result != CUDA_SUCCESS || pfn == NULL)
                return result != CUDA_SUCCESS ? result : CUDA_ERROR_INVALID_VALUE;
        *pfn = found != NULL ? (void *)found->function : NULL;
        if (status != NULL)
                *status = found != NULL ? CU_GET_PROC_ADDRESS_SUCCESS
                          : known       ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                                        : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
        return CUDA_SUCCESS;
}

CUresult cuGetProcAddress(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags)
{
        return ivg_local("cuGetProcAddress", proc_address_v1(symbol, pfn, cudaVersion, flags));
}

CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags,
                             CUdriverProcAddressQueryResult *symbolStatus)
{
        return ivg_local("cuGetProcAddress_v2", proc_address_v2(symbol, pfn, cudaVersion, flags, symbolStatus));
}
