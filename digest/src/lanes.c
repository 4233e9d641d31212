/* LANES inputs at once, one in each lane of vectors of 32-bit words. Built three times, for as many instruction sets
 * (CMakeLists.txt); nothing else is in this unit, so that no other code gets instructions that a processor lacks. */
#include "digest_internal.h"

#define NAME_(lanes) ivg_digest_lanes_##lanes
#define NAME(lanes) NAME_(lanes)

typedef uint32_t vec __attribute__((vector_size(4 * LANES)));

/* Interleaving all rows' halves log2(LANES) times transposes the square. */
#if LANES == 4
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#elif LANES == 8
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#endif

/* rows[i] = a row of input i; afterwards rows[w] = word w of every input. */
static void transpose(vec rows[LANES])
{
        vec next[LANES];

        for (uint32_t width = LANES; width > 1; width /= 2) {
                for (uint32_t i = 0; i < LANES / 2; i++) {
                        next[2 * i] = LOW(rows[i], rows[i + LANES / 2]);
                        next[2 * i + 1] = HIGH(rows[i], rows[i + LANES / 2]);
                }
                memcpy(rows, next, sizeof(next));
        }
}

static void load_block(const uint8_t *const inputs[LANES], uint64_t offset, vec m[16])
{
        for (uint32_t part = 0; part < 16 / LANES; part++) {
                for (uint32_t i = 0; i < LANES; i++)
                        memcpy(&m[part * LANES + i], inputs[i] + offset + part * sizeof(vec), sizeof(vec));
                transpose(m + part * LANES);
        }
}

static void compress(vec cv[8], const vec m[16], vec counter_low, vec counter_high, uint32_t flags)
{
        static const uint32_t iv[8] = {DIGEST_IV};
        const vec zero = {0};
        vec v[16];

        memcpy(v, cv, 8 * sizeof(v[0]));
        for (uint32_t i = 0; i < 4; i++)
                v[8 + i] = zero + iv[i];
        v[12] = counter_low;
        v[13] = counter_high;
        v[14] = zero + BLOCK_BYTES;
        v[15] = zero + flags;
        DIGEST_ROUNDS();
        for (uint32_t i = 0; i < 8; i++)
                cv[i] = v[i] ^ v[i + 8];
}

static void lanes(const struct digest_inputs *in, uint32_t from, uint32_t count, uint32_t (*out)[8])
{
        static const uint32_t iv[8] = {DIGEST_IV};
        const vec zero = {0};
        const uint8_t *inputs[LANES];
        vec cv[8], m[16], counter_low, counter_high;

        for (uint32_t i = 0; i < LANES; i++) { /* a lane without input repeats the first one's */
                const uint32_t lane = i < count ? i : 0;
                const uint64_t counter = in->counter + (from + lane) * in->step;

                inputs[i] = in->data + (from + lane) * in->stride;
                counter_low[i] = (uint32_t)counter;
                counter_high[i] = (uint32_t)(counter >> 32);
        }
        for (uint32_t i = 0; i < 8; i++)
                cv[i] = zero + iv[i];
        for (uint32_t block = 0; block < in->blocks; block++) {
                const uint32_t flags =
                        in->every | (block == 0 ? in->first : 0) | (block + 1 == in->blocks ? in->last : 0);

                load_block(inputs, (uint64_t)block * BLOCK_BYTES, m);
                compress(cv, m, counter_low, counter_high, flags);
        }
        for (uint32_t i = 0; i < count; i++)
                for (uint32_t word = 0; word < 8; word++)
                        out[i][word] = cv[word][i];
}

void NAME(LANES)(const struct digest_inputs *inputs, uint32_t (*out)[8])
{
        for (uint32_t from = 0; from < inputs->count; from += LANES) {
                const uint32_t left = inputs->count - from;

                lanes(inputs, from, left < LANES ? left : LANES, out + from);
        }
}
