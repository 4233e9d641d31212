/* Bounds of the PTX engine. Module text is hostile input: every count it controls is checked against one of these. */
#ifndef IVGPU_SOFTGPU_PTX_LIMITS_H
#define IVGPU_SOFTGPU_PTX_LIMITS_H

#define PTX_TEXT_BYTES_MAX (256u << 20)       /* the largest real modules (fused attention) are near 30 MiB */
#define PTX_NAME_BYTES_MAX 16384u             /* mangled template names reach several KiB */
#define PTX_SCOPE_DEPTH_MAX 64u               /* nested { } in a function body */
#define PTX_MODIFIERS_MAX 16u                 /* .rn.ftz.f32 ... of one instruction */
#define PTX_OPERANDS_MAX 12u                  /* top-level operands of one instruction */
#define PTX_ELEMENTS_MAX 256u                 /* elements of all vectors and lists of one instruction */
#define PTX_DIMENSIONS_MAX 8u                 /* of an array variable */
#define PTX_FUNCTIONS_MAX 16384u              /* per module */
#define PTX_FUNCTION_REGISTERS_MAX (1u << 20) /* used virtual registers of one function */
#define PTX_DECLARED_REGISTERS_MAX (1u << 24) /* declared ones of a function: each costs four bytes */
#define PTX_FUNCTION_INSNS_MAX (1u << 22)     /* of one function */
#define PTX_FRAME_BYTES_MAX (64u << 20)       /* register file of one warp in one function */
#define PTX_CONSTANT_BYTES_MAX (256u << 20)   /* broadcast immediates of one function */
#define PTX_VARIABLE_BYTES_MAX (1ull << 32)   /* one module variable */
#define PTX_PARAM_BYTES_MAX 32764u            /* of one kernel, as the hardware has it since sm_70 */
#define PTX_LOCAL_BYTES_MAX (512u << 10)      /* per thread, as the hardware has it */
#define PTX_STACK_EXTRA_BYTES 16384u          /* per thread, for recursion and indirect calls */
#define PTX_CALL_DEPTH_MAX 4096u              /* frames of one lane */
#define PTX_SHARED_BYTES_MAX (227u << 10)     /* per block, static and dynamic */
#define PTX_BLOCK_THREADS_MAX 1024u
#define PTX_BARRIERS_MAX 16u
#define PTX_HEAP_BYTES (8u << 20)          /* device malloc, per module that calls it; CUDA's default */
#define PTX_PRINT_BYTES_MAX 8192u          /* one printf line */
#define PTX_LIVENESS_BYTES_MAX (16u << 20) /* sets and edges of one function; beyond, slots are not shared */
#define PTX_WORKERS_MAX 256u

/* Scheduling. A turn is PTX_FRAGMENT_QUANTUM backward branches, calls and returns of one fragment; then a waiting part
 * of the same warp comes first. After so many turns the next warp of the block runs, after so many rounds over the
 * warps the next resident block. Blocks of a cooperative launch wait for each other all the time: theirs are short. */
#define PTX_FRAGMENT_QUANTUM 256u
#define PTX_WARP_TURNS 16u
#define PTX_COOPERATIVE_TURNS 2u
#define PTX_BLOCK_ROUNDS 8u
#define PTX_COOPERATIVE_ROUNDS 1u
#define PTX_BARRIER_PASSES 4096u /* rounds that ended at a barrier, of which far more are normal */

#endif
