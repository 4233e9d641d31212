/* Texture fetches: what the CUDA programming guide says in its appendix on texture fetching. A linear filter's weights
 * have eight bits behind the point, as on the hardware. Channels that a texture does not have read as zero. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ptx_machine.h"
#include "ptx_memory.h"
#include "ptx_numeric.h"

/* Beyond this no coordinate of a texture lies; and it converts to an integer. */
#define COORDINATE_MAX 1073741824.0f
#define FRACTION 256.0f

const struct ptx_texture *ptx_texture_of(struct ptx_warp *warp, const struct ptx_insn *insn, unsigned lane,
                                         uint64_t object, bool surface, int *rc)
{
        const struct ptx_launch *launch = warp->block->run->launch;
        const uint64_t number = insn->aux & PTX_TEXTURE_INDIRECT ? *(const uint64_t *)(uintptr_t)object : object;
        const struct ptx_texture *texture = launch->texture ? launch->texture(launch->texture_user, number) : NULL;

        if (texture && texture->surface == surface)
                return texture;
        *rc = ptx_fault_at(warp, PTX_ILLEGAL_ADDRESS, lane, number, "0x%" PRIx64 " is no %s", number,
                           surface ? "surface" : "texture");
        return NULL;
}

/* One lane's fetch. */
struct fetch {
        struct ptx_warp *warp;
        unsigned lane;
        const struct ptx_texture *texture;
        const struct ptx_texture_level *level;
        int rc; /* fault */
        unsigned layer;
};

union value {
        float f[4];
        uint32_t u[4];
};

static unsigned texel_bytes(enum ptx_texel texel)
{
        static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 2, 4};

        return bytes[texel];
}

static bool gives_float(const struct ptx_texture *texture)
{
        switch (texture->texel) {
        case PTX_TEXEL_U32:
        case PTX_TEXEL_S32:
                return false;
        case PTX_TEXEL_HALF:
        case PTX_TEXEL_FLOAT:
                return true;
        default:
                return !texture->as_integer;
        }
}

static float fraction_of(int32_t value, int32_t most)
{
        const float x = (float)value / (float)most;

        return x < -1.0f ? -1.0f : x;
}

/* A channel as the kernel gets it: 32 bits. */
static uint32_t channel_value(const struct ptx_texture *texture, const uint8_t *data)
{
        int32_t value = 0, most = 1;
        uint16_t half;
        uint32_t word;
        float f;

        switch (texture->texel) {
        case PTX_TEXEL_U8:
                value = *data;
                most = UINT8_MAX;
                break;
        case PTX_TEXEL_S8:
                value = (int8_t)*data;
                most = INT8_MAX;
                break;
        case PTX_TEXEL_U16:
                memcpy(&half, data, sizeof(half));
                value = half;
                most = UINT16_MAX;
                break;
        case PTX_TEXEL_S16:
                memcpy(&half, data, sizeof(half));
                value = (int16_t)half;
                most = INT16_MAX;
                break;
        case PTX_TEXEL_HALF:
                memcpy(&half, data, sizeof(half));
                f = half_to_float(half);
                memcpy(&word, &f, sizeof(word));
                return word;
        default:
                memcpy(&word, data, sizeof(word));
                return word;
        }
        if (texture->as_integer)
                return (uint32_t)value;
        f = fraction_of(value, most);
        memcpy(&word, &f, sizeof(word));
        return word;
}

/* The index that the address mode makes of one outside; -1: the border. Wrapped and mirrored coordinates have been
 * brought inside before: what is left are the neighbours of a linear filter. */
static int32_t place_index(enum ptx_texture_address mode, int64_t index, uint32_t size)
{
        if (index >= 0 && index < size)
                return (int32_t)index;
        switch (mode) {
        case PTX_TEXTURE_BORDER:
                return -1;
        case PTX_TEXTURE_WRAP:
                return (int32_t)(index < 0 ? index + size : index - size);
        default:
                return index < 0 ? 0 : (int32_t)size - 1;
        }
}

static enum ptx_texture_address mode_of(const struct ptx_texture *texture, unsigned dimension)
{
        const enum ptx_texture_address mode = texture->address[dimension];

        /* Without normalized coordinates there is nothing to repeat. */
        if (!texture->normalized && (mode == PTX_TEXTURE_WRAP || mode == PTX_TEXTURE_MIRROR))
                return PTX_TEXTURE_CLAMP;
        return mode;
}

static void read_texel(struct fetch *fetch, const int64_t index[3], union value *out)
{
        const struct ptx_texture *texture = fetch->texture;
        const struct ptx_texture_level *level = fetch->level;
        const uint32_t sizes[3] = {level->width, level->height, texture->layered ? 1 : level->depth};
        const unsigned bytes = texel_bytes(texture->texel);
        int32_t place[3] = {0, 0, 0};
        const uint8_t *data;

        memset(out, 0, sizeof(*out));
        for (unsigned d = 0; d < texture->dimensions; d++) {
                place[d] = texture->linear && (index[d] < 0 || index[d] >= sizes[d])
                                   ? -1
                                   : place_index(mode_of(texture, d), index[d], sizes[d]);
                if (place[d] >= 0)
                        continue;
                if (!texture->linear)
                        memcpy(out->f, texture->border, sizeof(out->f));
                return;
        }
        data = level->data + (uint64_t)place[0] * bytes * texture->channels + (uint64_t)place[1] * level->pitch +
               (uint64_t)(texture->layered ? fetch->layer : (uint32_t)place[2]) * level->slice;
        if (texture->in_memory && !ptx_resolve_generic(fetch->warp, fetch->lane, (uint64_t)(uintptr_t)data,
                                                       (uint64_t)bytes * texture->channels, false, NULL)) {
                fetch->rc = ptx_fault_at(fetch->warp, PTX_ILLEGAL_ADDRESS, fetch->lane, (uint64_t)(uintptr_t)data,
                                         "texel in memory that is not there");
                return;
        }
        for (unsigned k = 0; k < texture->channels; k++)
                out->u[k] = channel_value(texture, data + k * bytes);
}

/* From the kernel's coordinate to texels. */
static float to_texels(const struct ptx_texture *texture, unsigned dimension, float x, uint32_t size)
{
        if (texture->normalized) {
                const float whole = floorf(x);

                if (mode_of(texture, dimension) == PTX_TEXTURE_WRAP)
                        x -= whole;
                else if (mode_of(texture, dimension) == PTX_TEXTURE_MIRROR)
                        x = fmodf(whole, 2.0f) == 0.0f ? x - whole : 1.0f - (x - whole);
                x *= (float)size;
        }
        return x > COORDINATE_MAX ? COORDINATE_MAX : x > -COORDINATE_MAX ? x : x != x ? 0.0f : -COORDINATE_MAX;
}

/* The lower neighbour and the upper one's weight. */
static void to_neighbours(float x, int64_t *index, float *weight)
{
        const float below = floorf(x - 0.5f);

        *index = (int64_t)below;
        *weight = rintf((x - 0.5f - below) * FRACTION) / FRACTION;
}

static void sample_level(struct fetch *fetch, const float coordinates[3], union value *out)
{
        const struct ptx_texture *texture = fetch->texture;
        const uint32_t sizes[3] = {fetch->level->width, fetch->level->height, fetch->level->depth};
        const bool filter = texture->filter_linear && gives_float(texture);
        int64_t base[3] = {0, 0, 0};
        float weight[3] = {0, 0, 0};

        for (unsigned d = 0; d < texture->dimensions; d++) {
                const float x = to_texels(texture, d, coordinates[d], sizes[d]);

                if (filter)
                        to_neighbours(x, &base[d], &weight[d]);
                else
                        base[d] = (int64_t)floorf(x);
        }
        if (!filter) {
                /* A normalized coordinate just below one may round up to the size. */
                read_texel(fetch, base, out);
                return;
        }
        memset(out, 0, sizeof(*out));
        for (unsigned corner = 0; corner < 1u << texture->dimensions && !fetch->rc; corner++) {
                int64_t index[3] = {0, 0, 0};
                float share = 1.0f;
                union value texel;

                for (unsigned d = 0; d < texture->dimensions; d++) {
                        const bool upper = corner >> d & 1;

                        index[d] = base[d] + upper;
                        share *= upper ? weight[d] : 1.0f - weight[d];
                }
                if (share == 0.0f)
                        continue;
                read_texel(fetch, index, &texel);
                for (unsigned k = 0; k < 4; k++)
                        out->f[k] += share * texel.f[k];
        }
}

static void sample(struct fetch *fetch, const float coordinates[3], float level, union value *out)
{
        const struct ptx_texture *texture = fetch->texture;
        const float last = (float)(texture->level_count - 1);
        union value other;
        float fraction;
        unsigned low;

        level += texture->level_bias;
        level = level > texture->level_min ? level : texture->level_min;
        level = level < texture->level_max ? level : texture->level_max;
        level = level > 0.0f ? level < last ? level : last : 0.0f;
        if (!texture->levels_linear || !gives_float(texture)) {
                fetch->level = &texture->levels[(unsigned)floorf(level + 0.5f)];
                sample_level(fetch, coordinates, out);
                return;
        }
        low = (unsigned)floorf(level);
        fraction = rintf((level - (float)low) * FRACTION) / FRACTION;
        fetch->level = &texture->levels[low];
        sample_level(fetch, coordinates, out);
        if (fraction == 0.0f)
                return;
        fetch->level = &texture->levels[low + 1]; /* low < last, or the fraction were zero */
        sample_level(fetch, coordinates, &other);
        for (unsigned k = 0; k < 4; k++)
                out->f[k] = (1.0f - fraction) * out->f[k] + fraction * other.f[k];
}

/* tld4: one channel of the four texels that a linear filter would look at, counter-clockwise from the lower left. */
static void gather(struct fetch *fetch, const float coordinates[3], unsigned component, union value *out)
{
        static const uint8_t corners[4][2] = {{0, 1}, {1, 1}, {1, 0}, {0, 0}};
        const struct ptx_texture *texture = fetch->texture;
        int64_t base[2];
        float ignored;

        fetch->level = &texture->levels[0];
        to_neighbours(to_texels(texture, 0, coordinates[0], fetch->level->width), &base[0], &ignored);
        to_neighbours(to_texels(texture, 1, coordinates[1], fetch->level->height), &base[1], &ignored);
        for (unsigned k = 0; k < 4 && !fetch->rc; k++) {
                const int64_t index[3] = {base[0] + corners[k][0], base[1] + corners[k][1], 0};
                union value texel;

                read_texel(fetch, index, &texel);
                out->u[k] = texel.u[component];
        }
}

static void fetch_lane(struct fetch *fetch, const struct ptx_insn *insn, const ptx_ref *sources, union value *out)
{
        const struct ptx_geometry *g = &ptx_geometries[insn->mode];
        const struct ptx_texture *texture = fetch->texture;
        float coordinates[3] = {0, 0, 0};
        int64_t index[3] = {0, 0, 0};
        float level = 0.0f;

        if (g->layered) {
                const int32_t layer = ((const lane_s32 *)ptx_at(fetch->warp, *sources++))[fetch->lane];
                const int32_t last = (int32_t)texture->levels[0].depth - 1;

                fetch->layer = (unsigned)(layer < 0 ? 0 : layer > last ? last : layer);
        }
        for (unsigned d = 0; d < g->dimensions; d++, sources++) {
                coordinates[d] = ((const lane_f32 *)ptx_at(fetch->warp, *sources))[fetch->lane];
                index[d] = ((const lane_s32 *)ptx_at(fetch->warp, *sources))[fetch->lane];
        }
        if (insn->aux & PTX_TEXTURE_GATHER) {
                gather(fetch, coordinates, insn->bytes, out);
        } else if (insn->aux & PTX_TEXTURE_INTEGER) {
                int32_t wanted = 0;
                const int32_t last = (int32_t)texture->level_count - 1;

                if (insn->aux & PTX_TEXTURE_LEVEL)
                        wanted = ((const lane_s32 *)ptx_at(fetch->warp, *sources))[fetch->lane];
                fetch->level = &texture->levels[wanted < 0 ? 0 : wanted > last ? last : wanted];
                read_texel(fetch, index, out);
        } else {
                if (insn->aux & PTX_TEXTURE_LEVEL)
                        level = ((const lane_f32 *)ptx_at(fetch->warp, *sources))[fetch->lane];
                sample(fetch, coordinates, level, out);
        }
}

int ptx_op_texture(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        const struct ptx_geometry *g = &ptx_geometries[insn->mode];
        const struct ptx_matrix *m = insn->extra;
        const ptx_ref *sources = m->registers + m->written;
        const lane_u64 *objects = ptx_at(warp, sources[0]);
        union value result[PTX_LANES];
        uint64_t object = 0;
        struct fetch fetch = {.warp = warp};

        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                fetch.lane = (unsigned)__builtin_ctz(rest);
                if (!fetch.texture || objects[fetch.lane] != object)
                        fetch.texture = ptx_texture_of(warp, insn, fetch.lane, objects[fetch.lane], false, &fetch.rc);
                if (!fetch.texture)
                        return fetch.rc;
                object = objects[fetch.lane];
                if (fetch.texture->dimensions != g->dimensions || fetch.texture->layered != g->layered)
                        return ptx_fault_at(warp, PTX_ILLEGAL_ADDRESS, fetch.lane, object,
                                            "the texture has %u dimensions%s, the instruction %u%s",
                                            fetch.texture->dimensions, fetch.texture->layered ? " and layers" : "",
                                            g->dimensions, g->layered ? " and layers" : "");
                fetch_lane(&fetch, insn, sources + 1, &result[fetch.lane]);
                if (fetch.rc)
                        return fetch.rc;
        }
        for (unsigned k = 0; k < 4; k++) {
                lane_u32 *d = ptx_at(warp, m->registers[k]);

                for (uint32_t rest = mask; rest; rest &= rest - 1) {
                        const unsigned i = (unsigned)__builtin_ctz(rest);

                        d[i] = result[i].u[k];
                }
        }
        return 0;
}

static uint32_t answer(const struct ptx_texture *texture, enum ptx_query query)
{
        switch (query) {
        case PTX_QUERY_WIDTH:
                return texture->levels[0].width;
        case PTX_QUERY_HEIGHT:
                return texture->dimensions > 1 ? texture->levels[0].height : 0;
        case PTX_QUERY_DEPTH:
                return texture->dimensions > 2 ? texture->levels[0].depth : 0;
        case PTX_QUERY_LAYERS:
                return texture->layered ? texture->levels[0].depth : 0;
        case PTX_QUERY_LEVELS:
                return texture->level_count;
        case PTX_QUERY_NORMALIZED:
                break;
        }
        return texture->normalized;
}

int ptx_op_texture_query(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask)
{
        const struct ptx_matrix *m = insn->extra;
        lane_u32 *d = ptx_at(warp, m->registers[0]);
        const lane_u64 *objects = ptx_at(warp, m->registers[1]);
        int rc = 0;

        for (uint32_t rest = mask; rest; rest &= rest - 1) {
                const unsigned i = (unsigned)__builtin_ctz(rest);
                const struct ptx_texture *texture = ptx_texture_of(warp, insn, i, objects[i], insn->bytes, &rc);

                if (!texture)
                        return rc;
                d[i] = answer(texture, (enum ptx_query)insn->mode);
        }
        return 0;
}
