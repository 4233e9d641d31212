/* Module images: finds the PTX text in what a program hands to a load. Images are hostile: every length is checked
 * before it is used, and nothing is believed about the payload but its bounds.
 *
 * What nvcc 13.0 was seen to write (all fields little-endian):
 *   wrapper  u32 magic 466243B1, u32 version (1 plain, 2 a list for the linker), pointer to the fatbin, pointer
 *   fatbin   u32 magic BA55ED50, u16 version 1, u16 header bytes 16, u64 bytes of the entries that follow
 *   entry    u16 kind (1 PTX, 2 ELF), u16 version 0101, u32 header bytes (80 for PTX, 64 for ELF), u64 payload bytes
 *            (a multiple of 8), u32 compressed bytes (the payload without its padding; 0 when not compressed),
 *            u32 offset of options, u32 PTX ISA version, u32 target (75 for compute_75), u64, u64 flags, u64,
 *            u64 bytes when decompressed (at offset 56)
 *   flags    bit 15: Zstandard frame (modes default, size, balance); bit 13: LZ4 block (mode speed, and toolkits before
 *            12.8); neither: plain text, with leading newlines as padding
 * A text of any form may end in NUL bytes. */
#include <limits.h>
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "softgpu.h"

#define SG_WRAPPER_MAGIC 0x466243b1u
#define SG_FATBIN_MAGIC 0xba55ed50u
#define SG_ELF_MAGIC 0x464c457fu
#define SG_FATBIN_HEADER_BYTES 16u
#define SG_ENTRY_BYTES_MIN 64u
#define SG_ENTRY_PTX 1u
#define SG_ENTRY_FLAG_LZ4 (1u << 13)
#define SG_ENTRY_FLAG_ZSTD (1u << 15)
#define SG_ENTRIES_MAX 4096u
#define SG_TEXT_PROBE_BYTES 4u
#define SG_TEXT_BYTES_MAX ((size_t)256 << 20) /* of one decompressed text */

struct sg_wrapper {
        uint32_t magic, version;
        const void *data;
        const void *list;
};

struct sg_entry {
        const unsigned char *payload;
        size_t payload_bytes;
        uint64_t compressed_bytes, text_bytes, flags;
        uint32_t target;
};

static uint16_t sg_read_u16(const unsigned char *bytes)
{
        uint16_t value;
        memcpy(&value, bytes, sizeof(value));
        return value;
}

static uint32_t sg_read_u32(const unsigned char *bytes)
{
        uint32_t value;
        memcpy(&value, bytes, sizeof(value));
        return value;
}

static uint64_t sg_read_u64(const unsigned char *bytes)
{
        uint64_t value;
        memcpy(&value, bytes, sizeof(value));
        return value;
}

void sg_image_close(struct sg_image *image)
{
        free(image->text);
        *image = (struct sg_image){0};
}

/* Takes the text; drops padding at its end. */
static CUresult sg_image_take(struct sg_image *out, char *text, size_t bytes, unsigned target)
{
        while (bytes > 0 && text[bytes - 1] == '\0')
                bytes--;
        if (bytes == 0) {
                free(text);
                return CUDA_ERROR_INVALID_IMAGE;
        }
        *out = (struct sg_image){.text = text, .bytes = bytes, .target = target};
        return CUDA_SUCCESS;
}

static CUresult sg_image_copy(struct sg_image *out, const void *text, size_t bytes, unsigned target)
{
        char *copy = bytes != 0 && bytes <= SG_TEXT_BYTES_MAX ? malloc(bytes) : NULL;
        if (copy == NULL)
                return bytes != 0 && bytes <= SG_TEXT_BYTES_MAX ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_IMAGE;
        memcpy(copy, text, bytes);
        return sg_image_take(out, copy, bytes, target);
}

/* ---- fatbins ---- */

/* Decompressed length into *bytes, which held the room; false when the payload is not what it says. */
static bool sg_entry_inflate(const struct sg_entry *entry, char *text, size_t *bytes)
{
        if ((entry->flags & SG_ENTRY_FLAG_ZSTD) != 0) {
                const size_t done = ZSTD_decompress(text, *bytes, entry->payload, entry->compressed_bytes);
                if (ZSTD_isError(done))
                        return false;
                *bytes = done;
                return true;
        }
        if (entry->compressed_bytes > INT_MAX)
                return false;
        const int done =
                LZ4_decompress_safe((const char *)entry->payload, text, (int)entry->compressed_bytes, (int)*bytes);
        if (done < 0)
                return false;
        *bytes = (size_t)done;
        return true;
}

static CUresult sg_entry_extract(const struct sg_entry *entry, struct sg_image *out)
{
        if ((entry->flags & (SG_ENTRY_FLAG_ZSTD | SG_ENTRY_FLAG_LZ4)) == 0)
                return sg_image_copy(out, entry->payload, entry->payload_bytes, entry->target);
        if (entry->compressed_bytes == 0 || entry->compressed_bytes > entry->payload_bytes || entry->text_bytes == 0 ||
            entry->text_bytes > SG_TEXT_BYTES_MAX)
                return CUDA_ERROR_INVALID_IMAGE;
        size_t bytes = (size_t)entry->text_bytes;
        char *text = malloc(bytes);
        if (text == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        if (!sg_entry_inflate(entry, text, &bytes)) {
                free(text);
                return CUDA_ERROR_INVALID_IMAGE;
        }
        return sg_image_take(out, text, bytes, entry->target);
}

/* The text made for this device's capability or the nearest below; else, since the engine runs newer PTX too, the
 * lowest above. */
static bool sg_target_is_better(uint32_t candidate, uint32_t best)
{
        const bool candidate_fits = candidate <= SG_PTX_TARGET_NATIVE, best_fits = best <= SG_PTX_TARGET_NATIVE;
        if (candidate_fits != best_fits)
                return candidate_fits;
        return candidate_fits ? candidate > best : candidate < best;
}

/* One entry at `at` of `left` readable bytes; 0 when it is malformed, else its whole length. */
static size_t sg_entry_read(const unsigned char *at, size_t left, struct sg_entry *out, bool *is_ptx)
{
        if (left < SG_ENTRY_BYTES_MIN)
                return 0;
        const uint32_t header_bytes = sg_read_u32(at + 4);
        const uint64_t payload_bytes = sg_read_u64(at + 8);
        if (header_bytes < SG_ENTRY_BYTES_MIN || header_bytes > left || payload_bytes > left - header_bytes)
                return 0;
        *is_ptx = sg_read_u16(at) == SG_ENTRY_PTX;
        *out = (struct sg_entry){.payload = at + header_bytes,
                                 .payload_bytes = (size_t)payload_bytes,
                                 .compressed_bytes = sg_read_u32(at + 16),
                                 .target = sg_read_u32(at + 28),
                                 .flags = sg_read_u64(at + 40),
                                 .text_bytes = sg_read_u64(at + 56)};
        return (size_t)header_bytes + (size_t)payload_bytes;
}

static CUresult sg_fatbin_open(const unsigned char *image, size_t bytes_max, struct sg_image *out)
{
        if (bytes_max < SG_FATBIN_HEADER_BYTES)
                return CUDA_ERROR_INVALID_IMAGE;
        const uint32_t header_bytes = sg_read_u16(image + 6);
        const uint64_t entries_bytes = sg_read_u64(image + 8);
        if (header_bytes < SG_FATBIN_HEADER_BYTES || header_bytes > bytes_max || entries_bytes > SG_IMAGE_BYTES_MAX ||
            entries_bytes > bytes_max - header_bytes)
                return CUDA_ERROR_INVALID_IMAGE;
        const unsigned char *at = image + header_bytes;
        size_t left = (size_t)entries_bytes;
        struct sg_entry best = {0};
        bool found = false;
        for (unsigned i = 0; i < SG_ENTRIES_MAX && left != 0; i++) {
                struct sg_entry entry;
                bool is_ptx;
                const size_t length = sg_entry_read(at, left, &entry, &is_ptx);
                if (length == 0)
                        return CUDA_ERROR_INVALID_IMAGE;
                if (is_ptx && (!found || sg_target_is_better(entry.target, best.target))) {
                        best = entry;
                        found = true;
                }
                at += length;
                left -= length;
        }
        return found ? sg_entry_extract(&best, out) : CUDA_ERROR_NO_BINARY_FOR_GPU;
}

/* ---- any image ---- */

static CUresult sg_text_open(const char *text, size_t bytes_max, struct sg_image *out)
{
        const size_t bytes = strnlen(text, bytes_max < SG_TEXT_BYTES_MAX ? bytes_max : SG_TEXT_BYTES_MAX);
        if (bytes == 0 || bytes == SG_TEXT_BYTES_MAX)
                return CUDA_ERROR_INVALID_IMAGE;
        return sg_image_copy(out, text, bytes, 0);
}

/* A damaged binary must not be searched for the end of a text. */
static bool sg_starts_like_text(const unsigned char *image, size_t bytes)
{
        for (size_t i = 0; i < SG_TEXT_PROBE_BYTES && i < bytes && (i == 0 || image[i] != 0); i++)
                if ((image[i] < ' ' || image[i] >= 0x7f) && image[i] != '\n' && image[i] != '\t' && image[i] != '\r')
                        return false;
        return true;
}

/* The first word, or 0 when the image is a shorter text: no magic holds a NUL byte. */
static uint32_t sg_image_magic(const unsigned char *image, size_t bytes)
{
        for (size_t i = 0; i < 4; i++)
                if (i == bytes || image[i] == 0)
                        return 0;
        return sg_read_u32(image);
}

CUresult sg_image_open_bounded(const void *image, size_t bytes, struct sg_image *out)
{
        if (image == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const uint32_t magic = sg_image_magic(image, bytes);
        if (magic == SG_WRAPPER_MAGIC) {
                struct sg_wrapper wrapper;
                if (bytes < sizeof(wrapper))
                        return CUDA_ERROR_INVALID_IMAGE;
                memcpy(&wrapper, image, sizeof(wrapper));
                if (wrapper.data == NULL || sg_read_u32(wrapper.data) != SG_FATBIN_MAGIC)
                        return CUDA_ERROR_INVALID_IMAGE;
                return sg_fatbin_open(wrapper.data, SG_IMAGE_BYTES_MAX, out);
        }
        if (magic == SG_FATBIN_MAGIC)
                return sg_fatbin_open(image, bytes, out);
        if (magic == SG_ELF_MAGIC)
                return CUDA_ERROR_NO_BINARY_FOR_GPU; /* machine code: only a GPU runs it */
        if (bytes == 0 || !sg_starts_like_text(image, bytes))
                return CUDA_ERROR_INVALID_IMAGE;
        return sg_text_open(image, bytes, out);
}

CUresult sg_image_open(const void *image, struct sg_image *out)
{
        return sg_image_open_bounded(image, SG_IMAGE_BYTES_MAX, out);
}

static CUresult sg_file_read(FILE *file, void *bytes, size_t count)
{
        return fread(bytes, 1, count, file) == count ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}

CUresult sg_image_open_file(const char *path, struct sg_image *out)
{
        FILE *file = fopen(path, "rbe");
        if (file == NULL)
                return CUDA_ERROR_FILE_NOT_FOUND;
        long length = -1;
        if (fseek(file, 0, SEEK_END) == 0)
                length = ftell(file);
        CUresult result = CUDA_ERROR_INVALID_IMAGE;
        char *bytes = NULL;
        if (length > 0 && (size_t)length <= SG_IMAGE_BYTES_MAX && fseek(file, 0, SEEK_SET) == 0) {
                bytes = malloc((size_t)length);
                result = bytes != NULL ? sg_file_read(file, bytes, (size_t)length) : CUDA_ERROR_OUT_OF_MEMORY;
        }
        fclose(file);
        if (result == CUDA_SUCCESS && sg_image_magic((const unsigned char *)bytes, (size_t)length) == SG_WRAPPER_MAGIC)
                result = CUDA_ERROR_INVALID_IMAGE; /* holds an address: not a thing of files */
        if (result == CUDA_SUCCESS)
                result = sg_image_open_bounded(bytes, (size_t)length, out);
        free(bytes);
        return result;
}
