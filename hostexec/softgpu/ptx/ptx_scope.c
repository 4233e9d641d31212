/* Names inside a function body: registers, variables, labels, with PTX's nested scopes. */
#include <string.h>

#include "ptx_build.h"

bool ptx_scope_open(struct ptx_builder *builder)
{
        uint32_t top = builder->depth ? builder->scopes[builder->depth - 1].local_top : 0;

        if (builder->depth == PTX_SCOPE_DEPTH_MAX) {
                ptx_fail(builder, PTX_INVALID, builder->token.line, "more than %u nested scopes", PTX_SCOPE_DEPTH_MAX);
                return false;
        }
        builder->scopes[builder->depth++] = (struct ptx_scope){.local_top = top};
        return true;
}

static void resolve(struct ptx_builder *builder, const struct ptx_pending *pending, const struct ptx_local *local)
{
        enum ptx_local_kind wanted = pending->wants_table ? PTX_LOCAL_TARGETS : PTX_LOCAL_LABEL;

        if (local->kind != wanted)
                ptx_fail(builder, PTX_INVALID, pending->line, "'%.*s' is not a %s", (int)pending->bytes, pending->name,
                         pending->wants_table ? "list of branch targets" : "label");
        else if (pending->wants_table)
                builder->code[pending->insn].extra = local->table;
        else if (pending->table)
                pending->table->targets[pending->insn] = local->target;
        else
                builder->code[pending->insn].target = local->target;
}

/* A label may be used before it is defined, and its scope is a block. So uses wait for the end of the block they stand
 * in: those whose label is not known there move to the block around it, at most PTX_SCOPE_DEPTH_MAX times. */
void ptx_scope_close(struct ptx_builder *builder)
{
        struct ptx_scope *scope = &builder->scopes[builder->depth - 1];
        struct ptx_scope *outer = builder->depth > 1 ? scope - 1 : NULL;
        struct ptx_pending *next;

        for (struct ptx_pending *p = scope->pending; p; p = next) {
                const struct ptx_local *local = ptx_local_find(builder, p->name, p->bytes);

                next = p->next;
                if (local) {
                        resolve(builder, p, local);
                } else if (outer) {
                        p->next = outer->pending;
                        outer->pending = p;
                } else {
                        ptx_fail(builder, PTX_INVALID, p->line, "label '%.*s' is not defined",
                                 (int)(p->bytes < 200 ? p->bytes : 200), p->name);
                }
        }
        /* Names were pushed to the front of their buckets; they leave in the opposite order. */
        for (struct ptx_local *l = scope->locals; l; l = l->scope_next)
                builder->buckets[l->hash % PTX_LOCAL_BUCKETS] = l->next;
        builder->depth--;
}

struct ptx_local *ptx_local_add(struct ptx_builder *builder, const struct ptx_token *name, enum ptx_local_kind kind)
{
        struct ptx_scope *scope = &builder->scopes[builder->depth - 1];
        uint32_t hash = ptx_hash(name->text, name->bytes);
        struct ptx_local *local = ptx_scratch(builder, sizeof(*local));

        if (!local)
                return NULL;
        for (const struct ptx_local *l = builder->buckets[hash % PTX_LOCAL_BUCKETS]; l; l = l->next)
                if (l->depth == builder->depth && l->hash == hash && l->bytes == name->bytes &&
                    !memcmp(l->name, name->text, name->bytes)) {
                        ptx_fail(builder, PTX_INVALID, name->line, "'%.*s' is declared twice",
                                 (int)(name->bytes < 200 ? name->bytes : 200), name->text);
                        return NULL;
                }
        *local = (struct ptx_local){
                .name = name->text, .bytes = name->bytes, .hash = hash, .kind = kind, .depth = builder->depth};
        local->next = builder->buckets[hash % PTX_LOCAL_BUCKETS];
        builder->buckets[hash % PTX_LOCAL_BUCKETS] = local;
        local->scope_next = scope->locals;
        scope->locals = local;
        return local;
}

struct ptx_local *ptx_local_find(struct ptx_builder *builder, const char *name, size_t bytes)
{
        uint32_t hash = ptx_hash(name, bytes);

        for (struct ptx_local *local = builder->buckets[hash % PTX_LOCAL_BUCKETS]; local; local = local->next)
                if (local->hash == hash && local->kind != PTX_LOCAL_RANGE && local->bytes == bytes &&
                    !memcmp(local->name, name, bytes))
                        return local;
        return NULL;
}

ptx_ref ptx_register_new(struct ptx_builder *builder, enum ptx_type type)
{
        unsigned bytes = type == PTX_PRED ? 1 : ptx_types[type].bytes;

        if (builder->register_count == PTX_FUNCTION_REGISTERS_MAX) {
                ptx_fail(builder, PTX_UNSUPPORTED, builder->token.line, "function uses more than %u registers",
                         PTX_FUNCTION_REGISTERS_MAX);
                return PTX_REF_NONE;
        }
        if (!ptx_grow(builder, (void **)&builder->register_bytes, &builder->register_capacity,
                      builder->register_count + 1, 1))
                return PTX_REF_NONE;
        /* 8-bit registers live in 16-bit ones: only ld, st and cvt may name them. */
        builder->register_bytes[builder->register_count] = (uint8_t)(bytes == 1 && type != PTX_PRED ? 2 : bytes);
        return builder->register_count++;
}

static struct ptx_local *find_range(struct ptx_builder *builder, const char *name, size_t bytes)
{
        uint32_t hash = ptx_hash(name, bytes);

        for (struct ptx_local *local = builder->buckets[hash % PTX_LOCAL_BUCKETS]; local; local = local->next)
                if (local->hash == hash && local->kind == PTX_LOCAL_RANGE && local->bytes == bytes &&
                    !memcmp(local->name, name, bytes))
                        return local;
        return NULL;
}

bool ptx_register_find(struct ptx_builder *builder, const char *name, size_t bytes, ptx_ref *ref, enum ptx_type *type)
{
        struct ptx_local *local = ptx_local_find(builder, name, bytes);
        uint64_t index = 0, scale = 1;

        if (local) {
                *ref = local->ref;
                *type = local->type;
                return local->kind == PTX_LOCAL_REGISTER;
        }
        /* %r<100> declares %r0 .. %r99: split the digits off the end, one more at a time, until a range fits. */
        for (size_t digits = 1; digits < bytes && digits <= 8; digits++) {
                char c = name[bytes - digits];

                if (c < '0' || c > '9')
                        return false;
                index += (uint64_t)(c - '0') * scale;
                scale *= 10;
                if (c == '0' && digits > 1)
                        continue;
                local = find_range(builder, name, bytes - digits);
                if (!local || index >= local->count)
                        continue;
                *type = local->type;
                if (!local->refs[index])
                        local->refs[index] = ptx_register_new(builder, local->type) + 1;
                *ref = local->refs[index] - 1;
                return true;
        }
        return false;
}

void ptx_label_use(struct ptx_builder *builder, const struct ptx_operand *name, uint32_t insn,
                   struct ptx_branch_table *table, bool wants_table)
{
        struct ptx_scope *scope = &builder->scopes[builder->depth - 1];
        struct ptx_pending *pending = ptx_scratch(builder, sizeof(*pending));

        if (!pending)
                return;
        *pending = (struct ptx_pending){.name = name->text,
                                        .bytes = name->bytes,
                                        .line = builder->statement.line,
                                        .insn = insn,
                                        .table = table,
                                        .wants_table = wants_table,
                                        .next = scope->pending};
        scope->pending = pending;
}
