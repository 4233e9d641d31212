/* cuGetProcAddress for every name of the driver interface, at every version where something changes, with all flags:
 * the rule of tools/apigen/names.txt against the library itself. What is newer than the driver is not there.
 *
 * proc_address [VERSION]: cuDriverGetVersion must answer that. */
#include "check.h"
#include <dlfcn.h>
#include <stdbool.h>

static const struct row {
        const char *base, *name;
        int version;
        bool per_thread;
} rows[] = {
#include "cu_symbol_table.h"
};
#define ROWS (sizeof rows / sizeof rows[0])
#define UNTOUCHED ((void *)0x77)

static int driver;
static void *library;

/* The row that must answer, among `count` of one base name; NULL: none. */
static const struct row *expected_row(const struct row *first, size_t count, int version, cuuint64_t flags)
{
        const struct row *found = NULL;
        bool per_thread = false;
        for (size_t i = 0; i < count; i++)
                per_thread |= first[i].per_thread;
        per_thread &= (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0;
        for (size_t i = 0; i < count; i++)
                if (first[i].version <= version && first[i].per_thread == per_thread)
                        found = &first[i];
        return found;
}

static void ask(const struct row *first, size_t count, int version, cuuint64_t flags)
{
        void *pfn = UNTOUCHED, *old = UNTOUCHED;
        CUdriverProcAddressQueryResult status = (CUdriverProcAddressQueryResult)99, wanted;
        const CUresult v2 = cuGetProcAddress_v2(first->base, &pfn, version, flags, &status);
        const CUresult v1 = cuGetProcAddress(first->base, &old, version, flags);
        const struct row *row = expected_row(first, count, version, flags);
        bool known = false;
        if (version > driver) {
                CHECK(v2 == CUDA_ERROR_INVALID_VALUE && v1 == v2 && pfn == UNTOUCHED && old == UNTOUCHED &&
                              (int)status == 99,
                      "%s@%d flags %d over driver %d: %d, %d, status %d", first->base, version, (int)flags, driver, v2,
                      v1, (int)status);
                return;
        }
        for (size_t i = 0; i < count; i++)
                known |= first[i].version <= driver;
        wanted = row != NULL ? CU_GET_PROC_ADDRESS_SUCCESS
                 : known     ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                             : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
        CHECK(v2 == CUDA_SUCCESS && status == wanted, "%s@%d flags %d: %d, status %d, expected %d", first->base,
              version, (int)flags, v2, (int)status, (int)wanted);
        CHECK(pfn == (row != NULL ? dlsym(library, row->name) : NULL) && (row == NULL || pfn != NULL),
              "%s@%d flags %d: not %s", first->base, version, (int)flags, row != NULL ? row->name : "NULL");
        CHECK(v1 == (row != NULL ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND) && old == (row != NULL ? pfn : UNTOUCHED),
              "cuGetProcAddress %s@%d flags %d: %d", first->base, version, (int)flags, v1);
}

static unsigned ask_all_of(const struct row *first, size_t count)
{
        unsigned asked = 0;
        for (size_t i = 0; i <= count; i++)
                for (int before = 0; before < 2; before++)
                        for (cuuint64_t flags = 0; flags < 4; flags++, asked++)
                                ask(first, count, (i < count ? first[i].version : driver + 1) - before, flags);
        return asked;
}

static void odd_questions(void)
{
        CUdriverProcAddressQueryResult status;
        void *pfn;
        CU(cuGetProcAddress_v2("cuInit", &pfn, -1, 0, &status)); /* the newest */
        CHECK(pfn == dlsym(library, "cuInit"), "cuInit@-1");
        CU(cuGetProcAddress_v2("cuMemAlloc", &pfn, -1, 0, NULL));
        CHECK(pfn == dlsym(library, "cuMemAlloc_v2"), "cuMemAlloc@-1");
        CU(cuGetProcAddress_v2("cuMemAlloc_v2", &pfn, driver, 0, &status));
        CHECK(pfn == NULL && status == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND, "a symbol is not a base name");
        CU(cuGetProcAddress_v2("cuNobodyHasThis", &pfn, driver, 0, NULL));
        CHECK(pfn == NULL, "cuNobodyHasThis");
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuGetProcAddress_v2("cuInit", &pfn, driver, 4, &status));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuGetProcAddress("cuInit", &pfn, driver, (cuuint64_t)1 << 40));
}

int main(int argc, char **argv)
{
        unsigned asked = 0;
        library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
        CHECK(library != NULL, "%s", dlerror());
        CU(cuDriverGetVersion(&driver));
        CHECK(argc < 2 || driver == atoi(argv[1]), "driver version %d", driver);
        for (size_t first = 0, count; first < ROWS; first += count) {
                for (count = 1; first + count < ROWS && strcmp(rows[first].base, rows[first + count].base) == 0;)
                        count++;
                asked += ask_all_of(&rows[first], count);
        }
        odd_questions();
        CU(cuInit(0));
        CHECK(asked > 5000, "%u questions", asked);
        printf("proc_address: %u answers right, driver %d\n", asked, driver);
        return 0;
}
