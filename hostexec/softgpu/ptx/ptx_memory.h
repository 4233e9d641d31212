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
PTX_OP(ptx_op_nanosleep);
PTX_OP(ptx_op_trap);

/* ptx_texture.c, ptx_surface.c. extra: struct ptx_matrix, results and sources; mode: index into ptx_geometries. */
struct ptx_geometry {
        uint8_t flag; /* enum ptx_flag */
        uint8_t dimensions;
        bool layered;        /* the layer is the first coordinate */
        uint8_t coordinates; /* in the instruction; the last may be padding */
};
extern const struct ptx_geometry ptx_geometries[];
/* insn->aux: widths of the registers of a surface's elements, a nibble each, and what follows. */
#define PTX_TEXTURE_INDIRECT (1u << 16) /* the object is the address of a reference */
#define PTX_TEXTURE_INTEGER (1u << 17)  /* coordinates are texels */
#define PTX_TEXTURE_LEVEL (1u << 18)    /* the last source is the level */
#define PTX_TEXTURE_GATHER (1u << 19)   /* tld4 of the component in `bytes` */
#define PTX_SURFACE_CLAMP (1u << 20)    /* neither: an access outside is a fault */
#define PTX_SURFACE_ZERO (1u << 21)
PTX_OP(ptx_op_texture);
PTX_OP(ptx_op_surface_load);
PTX_OP(ptx_op_surface_store);
enum ptx_query {
        PTX_QUERY_WIDTH,
        PTX_QUERY_HEIGHT,
        PTX_QUERY_DEPTH,
        PTX_QUERY_LAYERS,
        PTX_QUERY_LEVELS,
        PTX_QUERY_NORMALIZED
};
PTX_OP(ptx_op_texture_query); /* mode: enum ptx_query; bytes: it is a surface */
struct ptx_texture;
/* The object of a lane, or NULL with the fault's status in *rc. */
const struct ptx_texture *ptx_texture_of(struct ptx_warp *warp, const struct ptx_insn *insn, unsigned lane,
                                         uint64_t object, bool surface, int *rc);

/* ptx_builtin.c: functions that the CUDA runtime provides on the device; extra is the struct ptx_call. NULL: unknown.
 */
ptx_handler ptx_builtin_find(const char *name, uint32_t *argument_count, uint32_t *result_count);

#undef PTX_OP
#endif
