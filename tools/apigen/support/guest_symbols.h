/* The names behind cuGetProcAddress: generated from names.txt, sorted by base name, then version, plain before
 * per-thread. The symbol for an ask is the one with the highest version <= the asked one among the entries of that base
 * name with the wanted per_thread, or, where there is no per-thread entry, among the plain ones. */
#ifndef IVG_GUEST_SYMBOLS_H
#define IVG_GUEST_SYMBOLS_H

#include <stdint.h>

struct ivg_symbol {
        const char *base;
        int32_t version;
        uint8_t per_thread;
        uint8_t implemented; /* 0: answers CUDA_ERROR_NOT_SUPPORTED when called */
        void (*function)(void);
};

extern const struct ivg_symbol ivg_symbols[];
extern const uint32_t ivg_symbols_count;

#endif
