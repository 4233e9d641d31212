#include <stdlib.h>
#include <string.h>

#include "ptx_program.h"

#define PTX_ARENA_CHUNK_BYTES (64u << 10)

struct ptx_arena_chunk {
        struct ptx_arena_chunk *next;
        size_t used, capacity;
        _Alignas(16) unsigned char bytes[];
};

void *ptx_arena_allocate(struct ptx_arena *arena, size_t bytes)
{
        struct ptx_arena_chunk *chunk = arena->chunks;
        void *result;

        if (bytes > SIZE_MAX / 2)
                return NULL;
        bytes = (bytes + 15) & ~(size_t)15;
        if (!chunk || chunk->capacity - chunk->used < bytes) {
                size_t capacity = bytes > PTX_ARENA_CHUNK_BYTES / 4 ? bytes : PTX_ARENA_CHUNK_BYTES;

                chunk = calloc(1, sizeof(*chunk) + capacity);
                if (!chunk)
                        return NULL;
                chunk->capacity = capacity;
                /* A large piece has a chunk of its own, behind the one that is being filled. */
                if (arena->chunks && capacity == bytes) {
                        chunk->next = arena->chunks->next;
                        arena->chunks->next = chunk;
                } else {
                        chunk->next = arena->chunks;
                        arena->chunks = chunk;
                }
        }
        result = chunk->bytes + chunk->used;
        chunk->used += bytes;
        return result;
}

char *ptx_arena_copy(struct ptx_arena *arena, const char *text, size_t bytes)
{
        char *copy = ptx_arena_allocate(arena, bytes + 1);

        if (copy)
                memcpy(copy, text, bytes);
        return copy;
}

void ptx_arena_release(struct ptx_arena *arena)
{
        while (arena->chunks) {
                struct ptx_arena_chunk *next = arena->chunks->next;

                free(arena->chunks);
                arena->chunks = next;
        }
}

/* FNV-1a: names share long prefixes, so every byte counts. */
uint32_t ptx_hash(const char *text, size_t bytes)
{
        uint32_t hash = 2166136261u;

        for (size_t i = 0; i < bytes; i++)
                hash = (hash ^ (unsigned char)text[i]) * 16777619u;
        return hash ^ hash >> 15;
}

struct ptx_symbol *ptx_module_lookup(const struct ptx_module *module, const char *name, size_t bytes)
{
        uint32_t hash = ptx_hash(name, bytes);

        for (struct ptx_symbol *s = module->buckets[hash % PTX_MODULE_BUCKETS]; s; s = s->next)
                if (s->hash == hash && !strncmp(s->name, name, bytes) && s->name[bytes] == '\0')
                        return s;
        return NULL;
}
