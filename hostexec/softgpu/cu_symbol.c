/* cuGetProcAddress: from a base name and an interface version to a symbol of this library, if it is exported. */
#include <dlfcn.h>
#include <string.h>

#include "softgpu.h"

struct sg_symbol {
        const char *base;
        const char *name;
        int version;
        bool per_thread;
};

/* All of libcuda's, sorted by base and version; what this library lacks is not found by dlsym. */
static const struct sg_symbol sg_symbols[] = {
#include "cu_symbol_table.h"
};

static void *sg_self;

static void sg_self_open(void)
{
        Dl_info info;
        if (dladdr((const void *)(uintptr_t)&cuInit, &info) != 0)
                sg_self = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
}

/* Index of the first symbol of `base`, or the count. */
static size_t sg_symbol_first(const char *base)
{
        size_t low = 0, high = sizeof(sg_symbols) / sizeof(sg_symbols[0]);
        while (low < high) {
                const size_t middle = low + (high - low) / 2;
                if (strcmp(sg_symbols[middle].base, base) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

/* The newest symbol that is not newer than `version`; of the per-thread ones alone when those are wanted and the name
 * has any. */
static const struct sg_symbol *sg_symbol_choose(const char *base, int version, bool per_thread, bool *known)
{
        const struct sg_symbol *plain = NULL, *threaded = NULL;
        bool has_threaded = false;
        *known = false;
        for (size_t i = sg_symbol_first(base);
             i < sizeof(sg_symbols) / sizeof(sg_symbols[0]) && strcmp(sg_symbols[i].base, base) == 0; i++) {
                *known |= sg_symbols[i].version <= sg_driver_version();
                has_threaded |= sg_symbols[i].per_thread;
                if (sg_symbols[i].version > version)
                        continue;
                if (sg_symbols[i].per_thread)
                        threaded = &sg_symbols[i];
                else
                        plain = &sg_symbols[i];
        }
        return per_thread && has_threaded ? threaded : plain;
}

SG_ENTRY(cuGetProcAddress_v2, const char *base, void **out, int version, cuuint64_t flags,
         CUdriverProcAddressQueryResult *status)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        const cuuint64_t both = CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
        if (base == NULL || out == NULL || (flags & ~both) != 0 || version > sg_driver_version())
                return CUDA_ERROR_INVALID_VALUE;
        if (version < 0)
                version = sg_driver_version();
        pthread_once(&once, sg_self_open);
        bool known;
        const struct sg_symbol *symbol =
                sg_symbol_choose(base, version, (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0, &known);
        *out = symbol != NULL && sg_self != NULL ? dlsym(sg_self, symbol->name) : NULL;
        if (status != NULL)
                *status = *out != NULL              ? CU_GET_PROC_ADDRESS_SUCCESS
                          : known && symbol == NULL ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                                                    : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
        return CUDA_SUCCESS; /* with a null pointer, as NVIDIA's driver, also for whoever wants no status */
}

SG_ENTRY(cuGetProcAddress, const char *base, void **out, int version, cuuint64_t flags)
{
        void *found = NULL;
        const CUresult result = cuGetProcAddress_v2(base, out != NULL ? &found : NULL, version, flags, NULL);
        if (result != CUDA_SUCCESS)
                return result;
        if (found == NULL)
                return CUDA_ERROR_NOT_FOUND;
        *out = found;
        return CUDA_SUCCESS;
}
