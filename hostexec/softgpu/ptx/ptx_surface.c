/* suld.b and sust.b: bytes of a surface, x in bytes, what lies outside by the instruction's mode. */
#include <inttypes.h>
#include <string.h>

#include "ptx_machine.h"
#include "ptx_memory.h"

static const uint8_t texel_bytes[] = {1, 1, 2, 2, 4, 4, 2, 4}; /* by enum ptx_texel */

/* A coordinate below `count`, or brought there by .clamp; false: outside. */
static bool place(const struct ptx_insn *insn, int64_t coordinate, int64_t count, uint64_t *out)
{
        const bool inside = coordinate >= 0 && coordinate < count;

        *out = (uint64_t)(coordinate < 0 ? 0 : inside ? coordinate : count - 1);
        return inside || insn->aux & PTX_SURFACE_CLAMP;
}

static int64_t coordinate_of(const struct ptx_warp *warp, ptx_ref source, unsigned lane)
{
        return ((const lane_s32 *)ptx_at(warp, source))[lane];
}

/* Where the lane's element lies; NULL: outside, with a fault in *rc unless the instruction wants zeros. */
static uint8_t *element_at(struct ptx_warp *warp, const struct ptx_insn *insn, const ptx_ref *sources, unsigned lane,
                           int *rc)
{
        const struct ptx_geometry *g = &ptx_geometries[insn->mode];
        const uint64_t object = ((const lane_u64 *)ptx_at(warp, *sources++))[lane];
        const struct ptx_texture *surface = ptx_texture_of(warp, insn, lane, object, true, rc);
        const unsigned bytes = ptx_types[insn->type].bytes * insn->count;
        uint64_t layer = 0, x, y = 0, z = 0;
        bool inside = true;

        if (!surface)
                return NULL;
        if (surface->dimensions != g->dimensions || surface->layered != g->layered) {
                *rc = ptx_fault_at(warp, PTX_ILLEGAL_ADDRESS, lane, object, "the surface has %u dimensions%s",
                                   surface->dimensions, surface->layered ? " and layers" : "");
                return NULL;
        }
        const struct ptx_texture_level *level = &surface->levels[0];
        const int64_t row = (int64_t)level->width * texel_bytes[surface->texel] * surface->channels;

        if (g->layered)
                inside &= place(insn, coordinate_of(warp, *sources++, lane), level->depth, &layer);
        const int64_t first = coordinate_of(warp, *sources++, lane);

        if (first % (int64_t)bytes != 0) {
                *rc = ptx_fault_at(warp, PTX_MISALIGNED, lane, (uint64_t)first,
                                   "surface access of %u bytes at %" PRId64, bytes, first);
                return NULL;
        }
        inside &= place(insn, first < 0 ? -1 : first / (int64_t)bytes, row / (int64_t)bytes, &x);
        if (g->dimensions > 1)
                inside &= place(insn, coordinate_of(warp, *sources++, lane), level->height, &y);
        if (g->dimensions > 2)
                inside &= place(insn, coordinate_of(warp, *sources++, lane), level->depth, &z);
        if (inside)
                return level->data + x * bytes + y * level->pitch + (g->layered ? layer : z) * level->slice;
        if (!(insn->aux & PTX_SURFACE_ZERO))
                *rc = ptx_fault_at(warp, PTX_ILLEGAL_ADDRESS, lane, object, "surface access outside of the surface");
        return NULL;
}

static void set_register(void *reg, unsigned width, unsigned lane, uint64_t value)
{
        if (width == 2)
                ((lane_u16 *)reg)[lane] = (uint16_t)value;
        else if (width == 4)
                ((lane_u32 *)reg)[lane] = (uint32_t)value;
        else
                ((lane_u64 *)reg)[lane] = value;
}

static uint64_t get_register(const void *reg, unsigned width, unsigned lane)
{
        return width == 2   ? ((const lane_u16 *)reg)[lane]
               : width == 4 ? ((const lane_u32 *)reg)[lane]
                            : ((const lane_u64 *)reg)[lane];
}

int ptx_op_surface_load(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        const struct ptx_matrix *m = insn->extra;
        const unsigned bytes = ptx_types[insn->type].bytes;
        uint64_t values[4][PTX_LANES];
        int rc = 0;

        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                const unsigned i = (unsigned)__builtin_ctz(rest);
                const uint8_t *data = element_at(warp, insn, m->registers + m->written, i, &rc);

                if (rc)
                        return rc;
                for (unsigned k = 0; k < insn->count; k++) {
                        values[k][i] = 0;
                        if (data)
                                memcpy(&values[k][i], data + k * bytes, bytes);
                }
        }
        for (unsigned k = 0; k < insn->count; k++)
                for (uint32_t rest = mask; rest; rest &= rest - 1) {
                        const unsigned i = (unsigned)__builtin_ctz(rest);

                        set_register(ptx_at(warp, m->registers[k]), insn->aux >> 4 * k & 15, i, values[k][i]);
                }
        return 0;
}

int ptx_op_surface_store(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        const struct ptx_matrix *m = insn->extra;
        const unsigned bytes = ptx_types[insn->type].bytes;
        int rc = 0;

        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                const unsigned i = (unsigned)__builtin_ctz(rest);
                uint8_t *data = element_at(warp, insn, m->registers, i, &rc);

                if (rc)
                        return rc;
                for (unsigned k = 0; data && k < insn->count; k++) {
                        const uint64_t value = get_register(ptx_at(warp, m->registers[m->total - insn->count + k]),
                                                            insn->aux >> 4 * k & 15, i);

                        memcpy(data + k * bytes, &value, bytes);
                }
        }
        return 0;
}
