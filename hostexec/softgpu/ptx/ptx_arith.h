/* What the arithmetic handlers share with the decoder: operand encodings in mode and aux, and the handler tables. */
#ifndef IVGPU_SOFTGPU_PTX_ARITH_H
#define IVGPU_SOFTGPU_PTX_ARITH_H

#include "ptx_program.h"

enum { PTX_COMBINE_NONE, PTX_COMBINE_AND, PTX_COMBINE_OR, PTX_COMBINE_XOR };
enum {
        PTX_PERMUTE_INDEX,
        PTX_PERMUTE_F4E,
        PTX_PERMUTE_B4E,
        PTX_PERMUTE_RC8,
        PTX_PERMUTE_ECL,
        PTX_PERMUTE_ECR,
        PTX_PERMUTE_RC16
};
enum {
        PTX_DIRECTED_ADD,
        PTX_DIRECTED_SUB,
        PTX_DIRECTED_MUL,
        PTX_DIRECTED_DIV,
        PTX_DIRECTED_RCP,
        PTX_DIRECTED_SQRT,
        PTX_DIRECTED_FMA
};
#define PTX_CARRY_IN 1u
#define PTX_CARRY_OUT 2u

struct ptx_arith_entry {
        const char *key;
        ptx_handler run;
};

/* One table per instruction set; the same keys in the same order. The last entry has no key. */
extern const struct ptx_arith_entry ptx_arith_baseline[];
#ifdef PTX_ARITH_HAS_AVX2
extern const struct ptx_arith_entry ptx_arith_avx2[];
#endif

#endif
