#include "fatbin.h"
#include <errno.h>
#include <limits.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define HEADER_BYTES 16u
#define ENTRY_HEADER_BYTES_MIN 64u
#define FLAG_LZ4 (1u << 13)
#define FLAG_ZSTD (1u << 15)

static uint64_t number(const uint8_t *at, uint32_t bytes)
{
        uint64_t value = 0;

        memcpy(&value, at, bytes);
        return value;
}

bool ivg_fatbin_open(const void *image, uint64_t bytes_max, struct ivg_fatbin *fatbin)
{
        const uint8_t *at = image;
        uint64_t header_bytes;

        if (bytes_max < HEADER_BYTES)
                return false;
        header_bytes = number(at + 6, 2);
        *fatbin = (struct ivg_fatbin){.at = at + header_bytes, .left = number(at + 8, 8)};
        return header_bytes >= HEADER_BYTES && header_bytes <= bytes_max && fatbin->left <= bytes_max - header_bytes;
}

int ivg_fatbin_next(struct ivg_fatbin *fatbin, struct ivg_fatbin_entry *entry)
{
        const uint8_t *at = fatbin->at;
        uint64_t header_bytes;

        if (fatbin->left == 0)
                return 0;
        if (fatbin->left < ENTRY_HEADER_BYTES_MIN || fatbin->entries == IVG_FATBIN_ENTRIES_MAX)
                return -EINVAL;
        header_bytes = number(at + 4, 4);
        *entry = (struct ivg_fatbin_entry){.kind = (uint16_t)number(at, 2),
                                           .payload_bytes = number(at + 8, 8),
                                           .compressed_bytes = (uint32_t)number(at + 16, 4),
                                           .target = (uint32_t)number(at + 28, 4),
                                           .flags = number(at + 40, 8),
                                           .text_bytes = number(at + 56, 8),
                                           .payload = at + header_bytes};
        if (header_bytes < ENTRY_HEADER_BYTES_MIN || header_bytes > fatbin->left ||
            entry->payload_bytes > fatbin->left - header_bytes)
                return -EINVAL;
        fatbin->at += header_bytes + entry->payload_bytes;
        fatbin->left -= header_bytes + entry->payload_bytes;
        fatbin->entries++;
        return 1;
}

bool ivg_fatbin_is_compressed(const struct ivg_fatbin_entry *entry)
{
        return (entry->flags & (FLAG_LZ4 | FLAG_ZSTD)) != 0;
}

/* Into `text`, which has room for *bytes. */
static bool decompress(const struct ivg_fatbin_entry *entry, char *text, size_t *bytes)
{
        if (entry->flags & FLAG_ZSTD) {
                const size_t done = ZSTD_decompress(text, *bytes, entry->payload, entry->compressed_bytes);

                if (ZSTD_isError(done))
                        return false;
                *bytes = done;
                return true;
        }
        const int done =
                LZ4_decompress_safe((const char *)entry->payload, text, (int)entry->compressed_bytes, (int)*bytes);
        if (done < 0)
                return false;
        *bytes = (size_t)done;
        return true;
}

int ivg_fatbin_decompress(const struct ivg_fatbin_entry *entry, uint64_t bytes_max, char **text, size_t *bytes)
{
        if (entry->text_bytes == 0 || entry->text_bytes > bytes_max || entry->text_bytes > INT_MAX ||
            entry->compressed_bytes == 0 || entry->compressed_bytes > entry->payload_bytes ||
            entry->compressed_bytes > INT_MAX)
                return -EINVAL;
        *bytes = entry->text_bytes;
        *text = malloc(*bytes);
        if (*text == NULL)
                return -ENOMEM;
        if (decompress(entry, *text, bytes))
                return 0;
        free(*text);
        *text = NULL;
        return -EINVAL;
}
