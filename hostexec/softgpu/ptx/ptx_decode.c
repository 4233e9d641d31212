/* Finds the decoder of an instruction and checks that it understood every modifier. */
#include <string.h>

#include "ptx_build.h"

#define BUCKETS 1024u

static const struct ptx_decoder_entry *buckets[BUCKETS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(void)
{
        static const struct ptx_decoder_entry *const tables[] = {
                ptx_decoders_arith,   ptx_decoders_float,   ptx_decoders_compare, ptx_decoders_move,
                ptx_decoders_convert, ptx_decoders_memory,  ptx_decoders_control, ptx_decoders_warp,
                ptx_decoders_matrix,  ptx_decoders_texture,
        };

        for (unsigned t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
                for (const struct ptx_decoder_entry *entry = tables[t]; entry->name; entry++) {
                        uint32_t slot = ptx_hash(entry->name, strlen(entry->name)) % BUCKETS;

                        while (buckets[slot])
                                slot = (slot + 1) % BUCKETS;
                        buckets[slot] = entry;
                }
}

static ptx_decoder find(const char *name, size_t bytes)
{
        uint32_t slot = ptx_hash(name, bytes) % BUCKETS;

        pthread_once(&once, fill);
        for (; buckets[slot]; slot = (slot + 1) % BUCKETS)
                if (strlen(buckets[slot]->name) == bytes && !memcmp(buckets[slot]->name, name, bytes))
                        return buckets[slot]->decode;
        return NULL;
}

enum ptx_rounding ptx_take_rounding(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;

        if (ptx_take(s, PTX_FLAG_RZ))
                return PTX_ROUND_ZERO;
        if (ptx_take(s, PTX_FLAG_RM))
                return PTX_ROUND_DOWN;
        if (ptx_take(s, PTX_FLAG_RP))
                return PTX_ROUND_UP;
        if (ptx_take(s, PTX_FLAG_RNA))
                return PTX_ROUND_AWAY;
        ptx_take(s, PTX_FLAG_RN);
        return PTX_ROUND_NEAREST;
}

void ptx_decode(struct ptx_builder *builder)
{
        struct ptx_statement *s = &builder->statement;
        ptx_decoder decode = find(s->name, s->name_bytes);

        if (!decode) {
                ptx_refuse(builder, "unknown instruction");
                return;
        }
        if (s->unknown.bytes) {
                ptx_refuse(builder, "unknown modifier");
                return;
        }
        decode(builder);
        if (builder->status != PTX_OK)
                return;
        for (unsigned f = 0; f < PTX_FLAGS; f++)
                if (s->flags[f]) {
                        ptx_refuse(builder, "this combination of modifiers is not implemented");
                        return;
                }
        if (s->types_taken != s->type_count)
                ptx_refuse(builder, "too many types");
}
