/* Module images: finds the PTX text in what a program hands to a load. Images are hostile: every length is checked
 * before it is used, and nothing is believed about the payload but its bounds.
 *
 *   wrapper  u32 magic 466243B1, u32 version (1 plain, 2 a list for the linker), pointer to the fatbin, pointer
 *   fatbin   ../common/fatbin.h
 * A text of any form may end in NUL bytes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/fatbin.h"
#include "softgpu.h"

#define SG_WRAPPER_MAGIC 0x466243b1u
#define SG_ELF_MAGIC 0x464c457fu
#define SG_TEXT_PROBE_BYTES 4u
#define SG_TEXT_BYTES_MAX ((size_t)256 << 20) /* of one decompressed text */

struct sg_wrapper {
        uint32_t magic, version;
        const void *data;
        const void *list;
};

static uint32_t sg_read_u32(const unsigned char *bytes)
{
        uint32_t value;
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

static CUresult sg_entry_extract(const struct ivg_fatbin_entry *entry, struct sg_image *out)
{
        if (!ivg_fatbin_is_compressed(entry))
                return sg_image_copy(out, entry->payload, entry->payload_bytes, entry->target);
        char *text;
        size_t bytes;
        const int rc = ivg_fatbin_decompress(entry, SG_TEXT_BYTES_MAX, &text, &bytes);
        if (rc != 0)
                return rc == -ENOMEM ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_IMAGE;
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

static CUresult sg_fatbin_open(const void *image, size_t bytes_max, struct sg_image *out)
{
        struct ivg_fatbin fatbin;
        struct ivg_fatbin_entry entry, best = {0};
        bool found = false;
        int rc;
        if (!ivg_fatbin_open(image, bytes_max, &fatbin) || fatbin.left > SG_IMAGE_BYTES_MAX)
                return CUDA_ERROR_INVALID_IMAGE;
        while ((rc = ivg_fatbin_next(&fatbin, &entry)) == 1)
                if (entry.kind == IVG_FATBIN_PTX && (!found || sg_target_is_better(entry.target, best.target))) {
                        best = entry;
                        found = true;
                }
        if (rc != 0)
                return CUDA_ERROR_INVALID_IMAGE;
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
                if (wrapper.data == NULL || sg_read_u32(wrapper.data) != IVG_FATBIN_MAGIC)
                        return CUDA_ERROR_INVALID_IMAGE;
                return sg_fatbin_open(wrapper.data, SG_IMAGE_BYTES_MAX, out);
        }
        if (magic == IVG_FATBIN_MAGIC)
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
