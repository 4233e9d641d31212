/* Members of a dump's objects, and what dump_ring.c gives dump_json.c. */
#ifndef IVG_DUMP_PARTS_H
#define IVG_DUMP_PARTS_H

#include "../common/json_add.h"
#include "ivgpu/atomics.h"
#include "region_image.h"

/* A text of the other side: printable characters only, no end needed. */
static inline void ivg_dump_add_claimed_text(struct json_object *object, const char *key, const char *bytes,
                                             size_t count)
{
        char text[65];
        size_t length = 0;

        for (; length < count && length < sizeof(text) - 1 && bytes[length]; length++)
                text[length] = bytes[length];
        text[length] = '\0';
        for (char *c = text; *c; c++)
                if (*c < ' ' || *c > '~')
                        *c = '?';
        ivg_json_add_text(object, key, text);
}

static inline void ivg_dump_add_word(struct json_object *object, const char *key, uint32_t value,
                                     const char *const *words, uint32_t count)
{
        if (value < count && words[value])
                ivg_json_add_text(object, key, words[value]);
        else
                ivg_json_add_number(object, key, value);
}
#define IVG_DUMP_ADD_WORD(object, key, value, words) \
        ivg_dump_add_word(object, key, value, words, (uint32_t)(sizeof(words) / sizeof((words)[0])))

/* Relaxed: of private copies. */
static inline uint64_t ivg_dump_u64(const _Atomic(uint64_t) *word)
{
        return ivg_load_relaxed_u64(word);
}
static inline uint32_t ivg_dump_u32(const _Atomic(uint32_t) *word)
{
        return ivg_load_relaxed_u32(word);
}

/* ---- dump_ring.c ---- */

/* "ring": its words and records; of those that were taken the latest `calls`. `decode`: they are of this build's table.
 */
void ivg_dump_add_ring(struct json_object *channel, const struct ivg_channel_image *image, uint32_t calls, bool decode);
/* The records alone, as members of `object`. */
void ivg_dump_add_entries(struct json_object *object, const struct ivg_channel_image *image, uint32_t calls,
                          bool decode);
/* "threads": each with its line and its mailbox. */
void ivg_dump_add_threads(struct json_object *channel, const struct ivg_channel_image *image);

#endif
