/* What a loaded module is made of: types, instructions, functions, variables. Immutable after ptx_load. */
#ifndef IVGPU_SOFTGPU_PTX_PROGRAM_H
#define IVGPU_SOFTGPU_PTX_PROGRAM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../ptx.h"
#include "ptx_limits.h"

#define PTX_LANES 32u
#define PTX_MASK_FULL 0xffffffffu

enum ptx_type {
        PTX_NONE,
        PTX_PRED,
        PTX_B8,
        PTX_B16,
        PTX_B32,
        PTX_B64,
        PTX_B128,
        PTX_U8,
        PTX_U16,
        PTX_U32,
        PTX_U64,
        PTX_S8,
        PTX_S16,
        PTX_S32,
        PTX_S64,
        PTX_U16X2,
        PTX_S16X2,
        PTX_F16,
        PTX_F16X2,
        PTX_BF16,
        PTX_BF16X2,
        PTX_TF32,
        PTX_F32,
        PTX_F64,
        PTX_TEXREF, /* of module variables only: the number of the texture that is bound */
        PTX_SURFREF,
        PTX_TYPES,
};

enum ptx_space {
        PTX_SPACE_GENERIC, /* host addresses; also .const, whose variables live in the caller's memory map */
        PTX_SPACE_GLOBAL,
        PTX_SPACE_SHARED, /* offsets into the block's shared memory */
        PTX_SPACE_LOCAL,  /* offsets into the thread's local memory; device function parameters live there too */
        PTX_SPACE_PARAM,  /* offsets into the kernel's parameter block */
        PTX_SPACE_CONST,
};

/* How the interpreter treats an instruction; everything but KIND_OP may change control flow or wait. */
enum ptx_kind {
        PTX_KIND_OP,
        PTX_KIND_BRANCH,
        PTX_KIND_BRANCH_TABLE,
        PTX_KIND_CALL,
        PTX_KIND_RETURN,
        PTX_KIND_EXIT,
        PTX_KIND_BARRIER,
        PTX_KIND_WARP_OP,      /* handler runs once the lanes of its member mask (operand e) are together */
        PTX_KIND_WARP_BARRIER, /* bar.warp.sync: member lanes may wait at different instructions */
};

/* mode of PTX_KIND_BARRIER */
enum { PTX_BARRIER_SYNC, PTX_BARRIER_ARRIVE, PTX_BARRIER_POPC, PTX_BARRIER_AND, PTX_BARRIER_OR };

struct ptx_warp;
struct ptx_insn;

/* Executes one instruction for the lanes of `mask` (never zero). 0, or the enum ptx_status of a fault. */
typedef int (*ptx_handler)(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask);

/* Operand references. While a function is built: a virtual register number, or a constant. Afterwards: a byte offset
 * into the frame's register file, or with the top bit a byte offset into the function's constants. */
typedef uint32_t ptx_ref;
#define PTX_REF_NONE 0x7fffffffu
#define PTX_REF_CONSTANT 0x80000000u

struct ptx_insn {
        ptx_handler run;
        uint8_t kind;    /* enum ptx_kind */
        uint8_t space;   /* enum ptx_space of a memory access */
        uint8_t bytes;   /* of one memory element, or of an operand */
        uint8_t count;   /* elements in `list` */
        uint8_t roles;   /* PTX_ROLE_*: which references are written */
        uint8_t negated; /* guard is @!p */
        uint8_t mode;    /* meaning is the handler's */
        uint8_t type;    /* enum ptx_type, where a handler asks */
        ptx_ref guard;   /* predicate register or PTX_REF_NONE */
        ptx_ref d, a, b, c, e;
        uint32_t line;
        uint32_t target;     /* branch: instruction index */
        uint32_t aux;        /* meaning is the handler's */
        int64_t offset;      /* of an address */
        const void *extra;   /* struct ptx_call, struct ptx_branch_table */
        const ptx_ref *list; /* vector elements */
};

#define PTX_ROLE_D 1u      /* d is written */
#define PTX_ROLE_E 2u      /* e is written */
#define PTX_ROLE_LIST 4u   /* list elements are written */
#define PTX_ROLE_BASE32 8u /* a is a 32-bit address */
#define PTX_ROLE_RELEASE 16u
#define PTX_ROLE_ACQUIRE 32u
#define PTX_ROLE_MATRIX 64u /* extra is a struct ptx_matrix */

/* Fragments of a matrix instruction, spread over the lanes; or what a texture instruction reads and writes. The first
 * `written` registers are results. */
struct ptx_matrix {
        uint32_t written, total;
        ptx_ref registers[24];
};

struct ptx_branch_table {
        uint32_t count;
        uint32_t *targets;
};

/* A parameter of a function as its body sees it. */
struct ptx_formal {
        const char *name;
        bool in_register;
        ptx_ref where; /* register, or offset: in the kernel's block, or in the function's local memory */
        uint32_t bytes;
        uint32_t align;
        enum ptx_type type;
};
/* An argument or result place at a call. */
struct ptx_actual {
        bool in_register;
        ptx_ref where; /* register or constant, or local offset; PTX_REF_NONE: result ignored */
        uint32_t bytes;
};
struct ptx_call {
        struct ptx_function *callee; /* NULL: indirect through operand a */
        uint32_t result_count;
        uint32_t argument_count;
        struct ptx_actual *results;
        struct ptx_actual *arguments;
        struct ptx_call *next; /* of the function, for the checks after the last line of the module */
        uint32_t line;
};

struct ptx_variable {
        const char *name;
        enum ptx_space space;
        enum ptx_type type;
        uint64_t bytes;
        uint32_t align;
        bool external;    /* declared, not defined */
        bool placed;      /* shared: offset is fixed */
        uint64_t address; /* host address, or offset in its space */
        size_t index;     /* among the module's shared variables */
        struct ptx_variable *next;
};

/* A constant that is known only after the shared variables are placed. */
struct ptx_fixup {
        struct ptx_variable *variable;
        uint32_t constant; /* offset in constants */
        uint32_t bytes;
        int64_t addend;
};

struct ptx_function {
        const char *name;
        struct ptx_module *module;
        uint32_t index;
        bool is_entry;
        bool is_defined;
        bool address_taken;
        bool calls_indirectly;
        uint32_t line;

        struct ptx_insn *code;
        uint32_t code_count;
        uint8_t *constants;
        uint32_t constants_bytes;
        uint32_t frame_bytes; /* register file of one warp */
        uint32_t registers;   /* 32-bit registers per thread */
        uint32_t local_bytes; /* of one frame, 16-aligned */

        struct ptx_formal *formals;
        uint32_t formal_count;
        struct ptx_formal *results;
        uint32_t result_count;
        uint32_t param_bytes;

        uint32_t max_threads;
        uint32_t reqntid[3]; /* zero: free */

        /* Of an entry, over everything it can reach. */
        uint32_t shared_bytes; /* static */
        uint32_t dynamic_align;
        uint32_t stack_bytes; /* local memory of one thread */

        struct ptx_call *calls;
        struct ptx_fixup *fixups;
        uint32_t fixup_count;
        struct ptx_variable **shared; /* variables the body names */
        uint32_t shared_count;
        struct ptx_function *next;
};

struct ptx_arena {
        struct ptx_arena_chunk *chunks;
};

struct ptx_symbol {
        const char *name;
        uint32_t hash;
        struct ptx_variable *variable;
        struct ptx_function *function;
        struct ptx_symbol *next;
};
#define PTX_MODULE_BUCKETS 4096u

struct ptx_heap;

struct ptx_module {
        struct ptx_arena arena;
        struct ptx_allocator allocator;
        uint32_t version;
        uint32_t target;
        struct ptx_symbol *buckets[PTX_MODULE_BUCKETS];
        struct ptx_function *functions; /* in order of first declaration */
        struct ptx_function **functions_tail;
        struct ptx_function **function_table; /* by index */
        uint32_t function_count;
        struct ptx_function **entries;
        uint32_t entry_count;
        struct ptx_variable *variables; /* global and const */
        struct ptx_variable *shared;    /* shared, module and function scope */
        size_t shared_count;
        uint64_t const_bytes;
        struct ptx_heap *heap; /* device malloc; NULL: not called */
        bool needs_heap;
};

/* Function addresses are numbers outside every mapping: a kernel can store and call them, not read through them. */
#define PTX_FUNCTION_ADDRESS 0x0f00000000000000ull
#define PTX_FUNCTION_STRIDE 16u

extern const struct ptx_type_info {
        const char *name;
        uint8_t bytes;
        char kind; /* 'b' bits, 'u', 's', 'f' float, 'p' predicate, 'o' opaque */
} ptx_types[PTX_TYPES];

void *ptx_arena_allocate(struct ptx_arena *arena, size_t bytes); /* zeroed, 16-aligned; NULL: no memory */
char *ptx_arena_copy(struct ptx_arena *arena, const char *text, size_t bytes);
void ptx_arena_release(struct ptx_arena *arena);

uint32_t ptx_hash(const char *text, size_t bytes);
struct ptx_symbol *ptx_module_lookup(const struct ptx_module *module, const char *name, size_t bytes);

struct ptx_heap *ptx_heap_create(struct ptx_module *module);
void ptx_heap_destroy(struct ptx_module *module, struct ptx_heap *heap);
uint64_t ptx_heap_take(struct ptx_heap *heap, uint64_t bytes); /* 0: none left */
int ptx_heap_give(struct ptx_heap *heap, uint64_t address);    /* -EINVAL: not a live block */

#endif
