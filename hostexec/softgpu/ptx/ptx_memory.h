/* Handlers that touch memory, other lanes or the block, as the decoders name them. */
#ifndef IVGPU_SOFTGPU_PTX_MEMORY_H
#define IVGPU_SOFTGPU_PTX_MEMORY_H

#include "ptx_program.h"

#define PTX_OP(NAME) int NAME(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)

/* ptx_address.c */
PTX_OP(ptx_op_to_generic);
PTX_OP(ptx_op_from_generic);
PTX_OP(ptx_op_is_space);

/* ptx_memory.c. mode: bytes of the registers; type: of an element. */
PTX_OP(ptx_op_load);
PTX_OP(ptx_op_load32);
PTX_OP(ptx_op_load64);
PTX_OP(ptx_op_store);
PTX_OP(ptx_op_store32);
PTX_OP(ptx_op_store64);
PTX_OP(ptx_op_fence);
PTX_OP(ptx_op_copy_async);

/* ptx_atomic.c. mode: enum ptx_atomic. */
enum ptx_atomic {
        PTX_ATOMIC_ADD,
        PTX_ATOMIC_MIN,
        PTX_ATOMIC_MAX,
        PTX_ATOMIC_AND,
        PTX_ATOMIC_OR,
        PTX_ATOMIC_XOR,
        PTX_ATOMIC_EXCH,
        PTX_ATOMIC_CAS,
        PTX_ATOMIC_INC,
        PTX_ATOMIC_DEC
};
PTX_OP(ptx_op_atomic);

/* ptx_warp_ops.c. */
enum ptx_shuffle { PTX_SHUFFLE_UP, PTX_SHUFFLE_DOWN, PTX_SHUFFLE_BFLY, PTX_SHUFFLE_IDX };
enum ptx_vote { PTX_VOTE_ALL, PTX_VOTE_ANY, PTX_VOTE_UNI, PTX_VOTE_BALLOT };
enum ptx_redux { PTX_REDUX_ADD, PTX_REDUX_MIN, PTX_REDUX_MAX, PTX_REDUX_AND, PTX_REDUX_OR, PTX_REDUX_XOR };
PTX_OP(ptx_op_shuffle);
PTX_OP(ptx_op_vote);
PTX_OP(ptx_op_match);
PTX_OP(ptx_op_redux);
PTX_OP(ptx_op_elect);
PTX_OP(ptx_op_activemask);
PTX_OP(ptx_op_nothing);
PTX_OP(ptx_op_nanosleep);
PTX_OP(ptx_op_trap);

/* ptx_matrix.c */
PTX_OP(ptx_op_ldmatrix);
PTX_OP(ptx_op_mma);
PTX_OP(ptx_op_movmatrix);

/* ptx_builtin.c: functions that the CUDA runtime provides on the device; extra is the struct ptx_call. NULL: unknown.
 */
ptx_handler ptx_builtin_find(const char *name, uint32_t *argument_count, uint32_t *result_count);

#undef PTX_OP
#endif
