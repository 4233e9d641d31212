/* Chooses the arithmetic handlers for this processor and finds them by key. */
#include <stdlib.h>
#include <string.h>

#include "ptx_arith.h"
#include "ptx_machine.h"

#define BUCKETS 4096u /* entries are near 700: the table stays sparse */

static const struct ptx_arith_entry *table;
static uint16_t buckets[BUCKETS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(void)
{
        table = ptx_arith_baseline;
#ifdef PTX_ARITH_HAS_AVX2
        /* The variable lets a test reach the handlers that this processor would not choose. */
        __builtin_cpu_init();
        if (!getenv("IVGPU_SOFT_BASELINE") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
                table = ptx_arith_avx2;
#endif
        for (unsigned i = 0; table[i].key; i++) {
                uint32_t slot = ptx_hash(table[i].key, strlen(table[i].key)) % BUCKETS;

                while (buckets[slot])
                        slot = (slot + 1) % BUCKETS;
                buckets[slot] = (uint16_t)(i + 1);
        }
}

ptx_handler ptx_arith_find(const char *key)
{
        uint32_t slot = ptx_hash(key, strlen(key)) % BUCKETS;

        pthread_once(&once, fill);
        for (; buckets[slot]; slot = (slot + 1) % BUCKETS)
                if (!strcmp(table[buckets[slot] - 1].key, key))
                        return table[buckets[slot] - 1].run;
        return NULL;
}
