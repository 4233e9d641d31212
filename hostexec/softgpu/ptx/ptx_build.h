/* The loader's own state: text to program. A load is one thread's work; nothing here survives it.
 *
 * Errors are sticky: the first one sets builder->status and writes the log line, what follows only unwinds. Helpers may
 * therefore be called in a row and checked once. */
#ifndef IVGPU_SOFTGPU_PTX_BUILD_H
#define IVGPU_SOFTGPU_PTX_BUILD_H

#include "ptx_lex.h"
#include "ptx_numeric.h"
#include "ptx_program.h"

enum ptx_operand_kind {
        PTX_OPERAND_REGISTER,
        PTX_OPERAND_INTEGER,
        PTX_OPERAND_FLOAT32,
        PTX_OPERAND_FLOAT64,
        PTX_OPERAND_VARIABLE, /* address of, plus offset */
        PTX_OPERAND_FORMAL,   /* kernel parameter, plus offset */
        PTX_OPERAND_FUNCTION,
        PTX_OPERAND_SPECIAL,
        PTX_OPERAND_VECTOR, /* { } or ( ): elements first .. first + count - 1 */
        PTX_OPERAND_SINK,   /* _ */
        PTX_OPERAND_NAME,   /* not declared so far: a label, a prototype */
};

struct ptx_operand {
        enum ptx_operand_kind kind;
        bool is_address; /* in [ ] */
        bool negated;    /* !p */
        ptx_ref ref;
        enum ptx_type type; /* of a register */
        uint64_t value;
        int64_t offset;
        struct ptx_variable *variable;
        struct ptx_formal *formal;
        struct ptx_function *function;
        uint32_t special;
        uint32_t first, count; /* of a vector; of an address [a, {x, y}], the coordinates */
        int32_t second;        /* element index of the other half of p|q, or -1 */
        const char *text;
        size_t bytes;
};

/* Modifiers that are not types. Each decoder takes those it understands; what is left over is refused by name. */
enum ptx_flag {
#define PTX_FLAG(id, text) PTX_FLAG_##id,
#include "ptx_flags.def"
#undef PTX_FLAG
        PTX_FLAGS,
};

struct ptx_statement {
        uint32_t line;
        bool guarded;
        bool guard_negated;
        ptx_ref guard;
        const char *name; /* mnemonic: slice */
        size_t name_bytes;
        const char *text; /* whole instruction with its modifiers, for messages */
        size_t text_bytes;
        uint8_t flags[PTX_FLAGS]; /* 1 present, 0 absent or taken */
        enum ptx_type types[4];
        uint32_t type_count;
        uint32_t types_taken;
        struct ptx_token unknown; /* first modifier that no table knows */
        struct ptx_operand operands[PTX_OPERANDS_MAX];
        uint32_t operand_count;
        struct ptx_operand elements[PTX_ELEMENTS_MAX];
        uint32_t element_count;
};

enum ptx_local_kind {
        PTX_LOCAL_REGISTER,
        PTX_LOCAL_RANGE,
        PTX_LOCAL_VARIABLE,
        PTX_LOCAL_FORMAL,
        PTX_LOCAL_LABEL,
        PTX_LOCAL_TARGETS,
        PTX_LOCAL_PROTOTYPE,
};
/* A name of a function body. */
struct ptx_local {
        const char *name;
        size_t bytes;
        uint32_t hash;
        uint32_t depth;
        enum ptx_local_kind kind;
        enum ptx_type type;
        ptx_ref ref;    /* register */
        uint32_t count; /* range */
        uint32_t *refs; /* range: register number + 1, 0 not used so far */
        struct ptx_variable *variable;
        struct ptx_formal *formal;
        uint32_t target; /* label: instruction index */
        struct ptx_branch_table *table;
        struct ptx_local *next; /* in the bucket */
        struct ptx_local *scope_next;
};
/* A label used before the end of its scope. */
struct ptx_pending {
        const char *name;
        size_t bytes;
        uint32_t line;
        uint32_t insn;                  /* instruction to patch, or */
        struct ptx_branch_table *table; /* table entry `insn` to patch */
        bool wants_table;               /* brx.idx */
        struct ptx_pending *next;
};
struct ptx_scope {
        struct ptx_local *locals;
        struct ptx_pending *pending;
        uint32_t local_top;
};

#define PTX_LOCAL_BUCKETS 1024u
#define PTX_CONSTANT_BUCKETS 4096u

struct ptx_builder {
        struct ptx_module *module;
        struct ptx_lexer lexer;
        struct ptx_token token; /* the one to look at */
        struct ptx_log *log;
        enum ptx_status status;

        /* The function being read. */
        struct ptx_function *function;
        struct ptx_arena scratch;
        struct ptx_local *buckets[PTX_LOCAL_BUCKETS];
        struct ptx_scope scopes[PTX_SCOPE_DEPTH_MAX];
        uint32_t depth;
        struct ptx_insn *code;
        struct ptx_insn discarded; /* where a failed builder emits to */
        uint32_t code_count, code_capacity;
        uint8_t *register_bytes; /* by virtual register; 1: predicate */
        uint32_t register_count, register_capacity;
        uint64_t declared_count;
        uint8_t *constants;
        uint32_t constants_bytes, constants_capacity;
        uint32_t *constant_buckets; /* offset + 1 of the last constant with this hash */
        uint32_t *constant_chain;   /* by offset / 64 */
        uint32_t constant_chain_capacity;
        struct ptx_fixup *fixups;
        uint32_t fixup_count, fixup_capacity;
        struct ptx_variable **shared;
        uint32_t shared_count, shared_capacity;
        struct ptx_statement statement;
};

/* ptx_builder.c */
void ptx_fail(struct ptx_builder *builder, enum ptx_status status, uint32_t line, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
void *ptx_scratch(struct ptx_builder *builder, size_t bytes);
void *ptx_keep(struct ptx_builder *builder, size_t bytes);
bool ptx_grow(struct ptx_builder *builder, void **array, uint32_t *capacity, uint32_t wanted, size_t element_bytes);
void ptx_advance(struct ptx_builder *builder);
bool ptx_at_punct(const struct ptx_builder *builder, char punct);
bool ptx_accept_punct(struct ptx_builder *builder, char punct);
bool ptx_expect_punct(struct ptx_builder *builder, char punct);
bool ptx_expect_integer(struct ptx_builder *builder, uint64_t max, uint64_t *value);
void ptx_fail_token(struct ptx_builder *builder, const char *expected);

/* ptx_scope.c */
bool ptx_scope_open(struct ptx_builder *builder);
void ptx_scope_close(struct ptx_builder *builder);
struct ptx_local *ptx_local_add(struct ptx_builder *builder, const struct ptx_token *name, enum ptx_local_kind kind);
struct ptx_local *ptx_local_find(struct ptx_builder *builder, const char *name, size_t bytes);
/* The register called `name`, also as a member of a range: false when there is none. */
bool ptx_register_find(struct ptx_builder *builder, const char *name, size_t bytes, ptx_ref *ref, enum ptx_type *type);
void ptx_label_use(struct ptx_builder *builder, const struct ptx_operand *name, uint32_t insn,
                   struct ptx_branch_table *table, bool wants_table);
ptx_ref ptx_register_new(struct ptx_builder *builder, enum ptx_type type);

/* ptx_variable.c: from the space directive to the semicolon. */
struct ptx_linkage {
        bool external; /* .visible, .weak and .common matter to a linker only */
};
void ptx_parse_variable(struct ptx_builder *builder, const struct ptx_linkage *linkage);
bool ptx_accept_type(struct ptx_builder *builder, enum ptx_type *type);

/* ptx_function.c: from .entry or .func on. */
void ptx_parse_function(struct ptx_builder *builder, const struct ptx_linkage *linkage, bool is_entry);

/* ptx_statement.c: one instruction, to its semicolon, into builder->statement. */
void ptx_parse_instruction(struct ptx_builder *builder);

/* ptx_emit.c */
bool ptx_take(struct ptx_statement *statement, enum ptx_flag flag);
enum ptx_type ptx_take_type(struct ptx_builder *builder);
enum ptx_type ptx_peek_type(const struct ptx_builder *builder);
struct ptx_insn *ptx_emit(struct ptx_builder *builder, ptx_handler run, ptx_ref d, ptx_ref a, ptx_ref b, ptx_ref c);
ptx_ref ptx_constant(struct ptx_builder *builder, uint64_t value, unsigned bytes);
ptx_ref ptx_source(struct ptx_builder *builder, unsigned operand, enum ptx_type type);
ptx_ref ptx_source_operand(struct ptx_builder *builder, const struct ptx_operand *operand, enum ptx_type type);
/* A source whose register may be wider than `type` (ld, st, cvt); *bytes gets the register's width. */
ptx_ref ptx_source_wide(struct ptx_builder *builder, const struct ptx_operand *operand, enum ptx_type type,
                        unsigned *bytes);
ptx_ref ptx_destination(struct ptx_builder *builder, unsigned operand, enum ptx_type type);
ptx_ref ptx_destination_operand(struct ptx_builder *builder, const struct ptx_operand *operand, enum ptx_type type);
ptx_ref ptx_destination_wide(struct ptx_builder *builder, const struct ptx_operand *operand, enum ptx_type type,
                             unsigned *bytes);
bool ptx_count_operands(struct ptx_builder *builder, unsigned min, unsigned max);
void ptx_refuse(struct ptx_builder *builder, const char *why);
ptx_handler ptx_arith(struct ptx_builder *builder, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Address operand into insn: base, offset. */
void ptx_set_address(struct ptx_builder *builder, const struct ptx_operand *operand, ptx_ref *base, int64_t *offset,
                     bool *base32);

/* ptx_decode*.c: builder->statement into instructions. */
void ptx_decode(struct ptx_builder *builder);
typedef void (*ptx_decoder)(struct ptx_builder *builder);
struct ptx_decoder_entry {
        const char *name; /* the last entry has none */
        ptx_decoder decode;
};
extern const struct ptx_decoder_entry ptx_decoders_arith[], ptx_decoders_float[], ptx_decoders_compare[],
        ptx_decoders_move[], ptx_decoders_convert[], ptx_decoders_memory[], ptx_decoders_control[], ptx_decoders_warp[],
        ptx_decoders_matrix[], ptx_decoders_texture[];

/* ptx_decode_float.c, for names that integers have too; `directed` is the PTX_DIRECTED_* of ptx_arith.h. */
void ptx_decode_float2(struct ptx_builder *builder, const char *name, int directed);
void ptx_decode_fma(struct ptx_builder *builder);
void ptx_decode_float_min_max(struct ptx_builder *builder, const char *name);

/* The rounding flag present, or PTX_ROUND_NEAREST. */
enum ptx_rounding ptx_take_rounding(struct ptx_builder *builder);

/* ptx_special.c */
bool ptx_special_find(const char *name, size_t bytes, uint32_t *id, enum ptx_type *type);
int ptx_op_special(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask);
#define PTX_SPECIAL_DYNAMIC_SHARED 0u
#define PTX_SPECIAL_LOCAL_BASE 1u

/* ptx_allocate.c: virtual registers to frame offsets. */
void ptx_allocate_registers(struct ptx_builder *builder);
/* ptx_finish.c: what needs the whole module: calls, shared memory, stacks. */
void ptx_finish(struct ptx_builder *builder);

#endif
