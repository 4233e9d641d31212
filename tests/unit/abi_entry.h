/* A fact of the binary interface: an enumerator's value, a size, an alignment or an offset. */
#ifndef IVG_ABI_ENTRY_H
#define IVG_ABI_ENTRY_H

#include <stddef.h>

struct abi_entry {
        const char *name;
        long long value;
};

extern const struct abi_entry abi_ours[], abi_theirs[];
extern const size_t abi_ours_count, abi_theirs_count;

#endif
