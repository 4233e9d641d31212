/* The tree: leaves of 1 KiB, joined in pairs from the left, the largest whole subtrees first. */
#include "digest_internal.h"

/* Leaves taken at once: the larger the subtree, the fuller the lanes while it is joined. */
#define GROUP_CHUNKS_MAX 128u

static const uint32_t start[8] = {DIGEST_IV};

/* Joins two chaining values that lie behind each other. */
static void join(uint32_t pair[16], uint32_t flags, uint32_t out[8])
{
        uint8_t block[BLOCK_BYTES];

        memcpy(block, pair, sizeof(block));
        memcpy(out, start, sizeof(start));
        ivg_digest_compress(out, block, BLOCK_BYTES, 0, PARENT | flags);
}

/* `chunks` leaves, a power of two, to one chaining value. */
static void subtree(const uint8_t *data, uint32_t chunks, uint64_t counter, uint32_t out[8])
{
        digest_lanes_fn *const many = ivg_digest_lanes();
        const struct digest_inputs leaves = {.data = data,
                                             .stride = IVG_DIGEST_CHUNK_BYTES,
                                             .counter = counter,
                                             .step = 1,
                                             .count = chunks,
                                             .blocks = CHUNK_BLOCKS,
                                             .first = CHUNK_START,
                                             .last = CHUNK_END};
        uint32_t values[2][GROUP_CHUNKS_MAX][8];
        uint32_t now = 0;

        many(&leaves, values[now]);
        for (; chunks > 1; chunks /= 2, now = !now) {
                const struct digest_inputs parents = {.data = (const uint8_t *)values[now],
                                                      .stride = BLOCK_BYTES,
                                                      .count = chunks / 2,
                                                      .blocks = 1,
                                                      .every = PARENT};

                many(&parents, values[!now]);
        }
        memcpy(out, values[now][0], 8 * sizeof(out[0]));
}

/* More bytes follow, so no node that is made here is the root. */
static void push(struct ivg_digest_state *state, const uint8_t *data, uint32_t chunks)
{
        uint32_t *top = state->stack[state->stack_count];

        subtree(data, chunks, state->chunks, top);
        state->chunks += chunks;
        for (uint64_t whole = state->chunks / chunks; whole % 2 == 0; whole /= 2) {
                state->stack_count--;
                join(state->stack[state->stack_count], 0, state->stack[state->stack_count]);
        }
        state->stack_count++;
}

void ivg_digest_begin(struct ivg_digest_state *state)
{
        state->stack_count = 0;
        state->tail_bytes = 0;
        state->chunks = 0;
}

/* The largest power of two of leaves that lie before the last byte, and that complete subtrees of the tree. */
static uint32_t group_chunks(uint64_t bytes, uint64_t counter)
{
        uint32_t chunks = GROUP_CHUNKS_MAX;

        while (chunks > 1 && ((uint64_t)chunks * IVG_DIGEST_CHUNK_BYTES >= bytes || counter % chunks != 0))
                chunks /= 2;
        return chunks;
}

void ivg_digest_add(struct ivg_digest_state *state, const void *data, uint64_t bytes)
{
        const uint8_t *from = data;
        uint64_t step;

        if (state->tail_bytes > 0 || bytes <= IVG_DIGEST_CHUNK_BYTES) {
                step = IVG_DIGEST_CHUNK_BYTES - state->tail_bytes;
                step = bytes < step ? bytes : step;
                if (step > 0)
                        memcpy(state->tail + state->tail_bytes, from, step);
                state->tail_bytes += (uint32_t)step;
                from += step;
                bytes -= step;
                if (bytes == 0)
                        return;
                push(state, state->tail, 1);
        }
        while (bytes > IVG_DIGEST_CHUNK_BYTES) {
                const uint32_t chunks = group_chunks(bytes, state->chunks);

                push(state, from, chunks);
                step = (uint64_t)chunks * IVG_DIGEST_CHUNK_BYTES;
                from += step;
                bytes -= step;
        }
        memcpy(state->tail, from, bytes);
        state->tail_bytes = (uint32_t)bytes;
}

void ivg_digest_end(const struct ivg_digest_state *state, struct ivg_digest *digest)
{
        const uint32_t root = state->stack_count == 0 ? ROOT : 0;
        uint32_t pair[16], at = 0, left = state->tail_bytes;
        uint32_t *cv = pair + 8;
        uint32_t flags = CHUNK_START;

        memcpy(cv, start, sizeof(start));
        do { /* the last leaf, which may be empty only when all is */
                const uint32_t step = left < BLOCK_BYTES ? left : BLOCK_BYTES;
                uint8_t block[BLOCK_BYTES] = {0};

                memcpy(block, state->tail + at, step);
                at += step;
                left -= step;
                ivg_digest_compress(cv, block, step, state->chunks, flags | (left == 0 ? CHUNK_END | root : 0));
                flags = 0;
        } while (left > 0);
        for (uint32_t i = state->stack_count; i > 0; i--) {
                memcpy(pair, state->stack[i - 1], 8 * sizeof(pair[0]));
                join(pair, i == 1 ? ROOT : 0, cv);
        }
        memcpy(digest, cv, sizeof(*digest));
}

void ivg_digest_of(const void *data, uint64_t bytes, struct ivg_digest *digest)
{
        struct ivg_digest_state state;

        ivg_digest_begin(&state);
        ivg_digest_add(&state, data, bytes);
        ivg_digest_end(&state, digest);
}
