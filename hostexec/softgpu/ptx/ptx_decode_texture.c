/* tex, tld4, suld, sust, txq, suq. */
#include "ptx_build.h"
#include "ptx_memory.h"

#define NONE PTX_REF_NONE

const struct ptx_geometry ptx_geometries[] = {
        {PTX_FLAG_G1D, 1, false, 1}, {PTX_FLAG_G2D, 2, false, 2}, {PTX_FLAG_G3D, 3, false, 4},
        {PTX_FLAG_A1D, 1, true, 2},  {PTX_FLAG_A2D, 2, true, 4},
};
static const unsigned geometry_count = sizeof(ptx_geometries) / sizeof(ptx_geometries[0]);

/* What the instruction is made of; `m` collects results, then the object, then the other sources. */
struct parts {
        struct ptx_matrix m;
        unsigned geometry;
        uint32_t flags; /* insn->aux */
};

static bool take_geometry(struct ptx_builder *builder, struct parts *parts)
{
        for (unsigned i = 0; i < geometry_count; i++)
                if (ptx_take(&builder->statement, (enum ptx_flag)ptx_geometries[i].flag)) {
                        parts->geometry = i;
                        return true;
                }
        ptx_refuse(builder, "this geometry is not implemented");
        return false;
}

static void add_source(struct parts *parts, ptx_ref ref)
{
        parts->m.registers[parts->m.total++] = ref;
}

/* The object: a number in a register, or a reference of the module. */
static void add_object(struct ptx_builder *builder, const struct ptx_operand *operand, enum ptx_type reference,
                       struct parts *parts)
{
        struct ptx_operand object = *operand;

        object.is_address = false;
        if (!operand->is_address || operand->offset) {
                ptx_refuse(builder, "needs an object in brackets");
        } else if (operand->kind == PTX_OPERAND_REGISTER || operand->kind == PTX_OPERAND_NAME) { /* not declared */
                add_source(parts, ptx_source_operand(builder, &object, PTX_U64));
        } else if (operand->kind == PTX_OPERAND_VARIABLE && operand->variable->type == reference &&
                   !operand->variable->external) {
                parts->flags |= PTX_TEXTURE_INDIRECT;
                add_source(parts, ptx_constant(builder, operand->variable->address, 8));
        } else {
                ptx_refuse(builder, "the object is neither a register nor a reference of this module");
        }
}

/* The layer, a whole number, then one coordinate for each dimension; padding is looked at and forgotten. */
static void add_coordinates(struct ptx_builder *builder, const struct ptx_operand *operand, enum ptx_type type,
                            struct parts *parts)
{
        const struct ptx_geometry *g = &ptx_geometries[parts->geometry];
        const unsigned used = g->dimensions + g->layered;

        if (operand->count != g->coordinates) {
                ptx_refuse(builder, "the geometry has another number of coordinates");
                return;
        }
        for (unsigned k = 0; k < operand->count && builder->status == PTX_OK; k++) {
                const struct ptx_operand *element = &builder->statement.elements[operand->first + k];
                const ptx_ref ref = ptx_source_operand(builder, element, g->layered && k == 0 ? PTX_U32 : type);

                if (k < used)
                        add_source(parts, ref);
        }
}

static void finish(struct ptx_builder *builder, const struct parts *parts, ptx_handler run, enum ptx_type type,
                   unsigned count, unsigned component)
{
        struct ptx_matrix *kept = ptx_keep(builder, sizeof(*kept));
        struct ptx_insn *insn;

        if (!kept || builder->status != PTX_OK)
                return;
        *kept = parts->m;
        insn = ptx_emit(builder, run, NONE, NONE, NONE, NONE);
        insn->extra = kept;
        insn->roles |= PTX_ROLE_MATRIX;
        insn->mode = (uint8_t)parts->geometry;
        insn->type = (uint8_t)type;
        insn->count = (uint8_t)count;
        insn->bytes = (uint8_t)component;
        insn->aux = parts->flags;
}

/* {d0, d1, d2, d3}, 32 bits each. */
static bool take_texels(struct ptx_builder *builder, enum ptx_type *type, struct parts *parts)
{
        const struct ptx_statement *s = &builder->statement;
        const struct ptx_operand *d = &s->operands[0];

        *type = ptx_take_type(builder);
        if (!ptx_take(&builder->statement, PTX_FLAG_V4) || (*type != PTX_F32 && *type != PTX_U32 && *type != PTX_S32) ||
            d->kind != PTX_OPERAND_VECTOR || d->is_address || d->count != 4) {
                ptx_refuse(builder, "gives four values of 32 bits only");
                return false;
        }
        for (unsigned k = 0; k < 4 && builder->status == PTX_OK; k++)
                add_source(parts, ptx_destination_operand(builder, &s->elements[d->first + k], *type));
        parts->m.written = 4;
        return builder->status == PTX_OK;
}

static void decode_tex(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        struct parts parts = {.geometry = 0};
        const bool level = ptx_take(s, PTX_FLAG_LEVEL);
        enum ptx_type type, coordinate;

        if (!take_geometry(builder, &parts) || !ptx_count_operands(builder, 2 + level, 2 + level) ||
            !take_texels(builder, &type, &parts))
                return;
        coordinate = ptx_take_type(builder);
        if (coordinate != PTX_F32 && coordinate != PTX_S32) {
                ptx_refuse(builder, "coordinates are .f32 or .s32");
                return;
        }
        if (coordinate == PTX_S32)
                parts.flags |= PTX_TEXTURE_INTEGER;
        add_object(builder, &s->operands[1], PTX_TEXREF, &parts);
        add_coordinates(builder, &s->operands[1], coordinate, &parts);
        if (level) {
                parts.flags |= PTX_TEXTURE_LEVEL;
                add_source(&parts, ptx_source(builder, 2, coordinate));
        }
        finish(builder, &parts, ptx_op_texture, type, 0, 0);
}

static void decode_tld4(struct ptx_builder *builder)
{
        static const enum ptx_flag components[] = {PTX_FLAG_R, PTX_FLAG_COMPONENT_G, PTX_FLAG_B, PTX_FLAG_COMPONENT_A};
        struct ptx_statement *s = &builder->statement;
        struct parts parts = {.flags = PTX_TEXTURE_GATHER};
        unsigned component = 4;
        enum ptx_type type;

        for (unsigned k = 0; k < 4; k++)
                if (ptx_take(s, components[k]))
                        component = k;
        if (!take_geometry(builder, &parts) || !ptx_count_operands(builder, 2, 2) ||
            !take_texels(builder, &type, &parts))
                return;
        if (component == 4 || ptx_geometries[parts.geometry].flag != PTX_FLAG_G2D ||
            ptx_take_type(builder) != PTX_F32) {
                ptx_refuse(builder, "this form is not implemented");
                return;
        }
        add_object(builder, &s->operands[1], PTX_TEXREF, &parts);
        add_coordinates(builder, &s->operands[1], PTX_F32, &parts);
        finish(builder, &parts, ptx_op_texture, type, 0, component);
}

/* ---- surfaces ---- */

static unsigned take_vector(struct ptx_statement *s)
{
        return ptx_take(s, PTX_FLAG_V2) ? 2 : ptx_take(s, PTX_FLAG_V4) ? 4 : 1;
}

/* The elements of a surface access; a single one may stand without braces. */
static void add_elements(struct ptx_builder *builder, const struct ptx_operand *operand, enum ptx_type type,
                         unsigned count, bool is_load, struct parts *parts)
{
        const struct ptx_statement *s = &builder->statement;
        const bool is_list = operand->kind == PTX_OPERAND_VECTOR;

        if ((is_list ? operand->count : 1) != count) {
                ptx_refuse(builder, "the vector operand does not have as many elements as its type");
                return;
        }
        for (unsigned k = 0; k < count && builder->status == PTX_OK; k++) {
                const struct ptx_operand *element = is_list ? &s->elements[operand->first + k] : operand;
                unsigned bytes;

                add_source(parts, is_load ? ptx_destination_wide(builder, element, type, &bytes)
                                          : ptx_source_wide(builder, element, type, &bytes));
                parts->flags |= bytes << 4 * k;
        }
}

static void decode_surface(struct ptx_builder *builder, bool is_load)
{
        struct ptx_statement *s = &builder->statement;
        struct parts parts = {.geometry = 0};
        unsigned count;
        enum ptx_type type;

        if (!ptx_take(s, PTX_FLAG_B)) {
                ptx_refuse(builder, "formatted surface accesses are not implemented");
                return;
        }
        if (!take_geometry(builder, &parts) || !ptx_count_operands(builder, 2, 2))
                return;
        count = take_vector(s);
        type = ptx_take_type(builder);
        if ((type != PTX_B8 && type != PTX_B16 && type != PTX_B32 && type != PTX_B64) ||
            ptx_types[type].bytes * count > 16) {
                ptx_refuse(builder, "no such element of a surface");
                return;
        }
        if (ptx_take(s, PTX_FLAG_CLAMP))
                parts.flags |= PTX_SURFACE_CLAMP;
        else if (ptx_take(s, PTX_FLAG_ZERO))
                parts.flags |= PTX_SURFACE_ZERO;
        else
                ptx_take(s, PTX_FLAG_TRAP);
        if (is_load) {
                add_elements(builder, &s->operands[0], type, count, true, &parts);
                parts.m.written = count;
        }
        add_object(builder, &s->operands[is_load ? 1 : 0], PTX_SURFREF, &parts);
        add_coordinates(builder, &s->operands[is_load ? 1 : 0], PTX_U32, &parts);
        if (!is_load)
                add_elements(builder, &s->operands[1], type, count, false, &parts);
        finish(builder, &parts, is_load ? ptx_op_surface_load : ptx_op_surface_store, type, count, 0);
}

static void decode_suld(struct ptx_builder *builder)
{
        decode_surface(builder, true);
}

static void decode_sust(struct ptx_builder *builder)
{
        decode_surface(builder, false);
}

/* ---- queries ---- */

static void decode_query(struct ptx_builder *builder, bool surface)
{
        static const enum ptx_flag queries[] = {
                [PTX_QUERY_WIDTH] = PTX_FLAG_WIDTH,
                [PTX_QUERY_HEIGHT] = PTX_FLAG_HEIGHT,
                [PTX_QUERY_DEPTH] = PTX_FLAG_DEPTH,
                [PTX_QUERY_LAYERS] = PTX_FLAG_ARRAY_SIZE,
                [PTX_QUERY_LEVELS] = PTX_FLAG_NUM_MIPMAP_LEVELS,
                [PTX_QUERY_NORMALIZED] = PTX_FLAG_NORMALIZED_COORDS,
        };
        struct ptx_statement *s = &builder->statement;
        struct parts parts = {.m.written = 1};

        for (parts.geometry = 0; parts.geometry < sizeof(queries) / sizeof(queries[0]); parts.geometry++)
                if (ptx_take(s, queries[parts.geometry]))
                        break;
        if (parts.geometry == sizeof(queries) / sizeof(queries[0]) || ptx_take_type(builder) != PTX_B32) {
                ptx_refuse(builder, "this query is not implemented");
                return;
        }
        if (!ptx_count_operands(builder, 2, 2))
                return;
        add_source(&parts, ptx_destination(builder, 0, PTX_B32));
        add_object(builder, &s->operands[1], surface ? PTX_SURFREF : PTX_TEXREF, &parts);
        finish(builder, &parts, ptx_op_texture_query, PTX_B32, 0, surface);
}

static void decode_txq(struct ptx_builder *builder)
{
        decode_query(builder, false);
}

static void decode_suq(struct ptx_builder *builder)
{
        decode_query(builder, true);
}

const struct ptx_decoder_entry ptx_decoders_texture[] = {
        {"tex", decode_tex}, {"tld4", decode_tld4}, {"suld", decode_suld}, {"sust", decode_sust},
        {"txq", decode_txq}, {"suq", decode_suq},   {NULL, NULL},
};
