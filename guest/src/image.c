/* Lengths of module images; see image.h. */
#include "image.h"
#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define WRAPPER_MAGIC 0x466243B1u
#define WRAPPER_VERSION_PLAIN 1u
#define WRAPPER_VERSION_LINKED 2u
#define FATBIN_MAGIC 0xBA55ED50u

struct fatbin_wrapper {
        uint32_t magic;
        uint32_t version;
        const void *data;
        const void *const *list; /* version 2 only; a file name in version 1 */
};
struct fatbin_header {
        uint32_t magic;
        uint16_t version;
        uint16_t header_bytes;
        uint64_t bytes; /* that follow the header */
};

/* Moves *end to offset + bytes when that is further. Nothing may lie beyond the bound, however the sum wraps. */
static int extend_end(uint64_t *end, uint64_t offset, uint64_t bytes)
{
        if (offset > IVG_IMAGE_BYTES_MAX || bytes > IVG_IMAGE_BYTES_MAX - offset)
                return -E2BIG;
        if (offset + bytes > *end)
                *end = offset + bytes;
        return 0;
}

static int measure_fatbin(const void *image, uint64_t *bytes)
{
        struct fatbin_header header;
        memcpy(&header, image, sizeof header);
        if (header.header_bytes < sizeof header)
                return -EINVAL;
        if (header.bytes > IVG_IMAGE_BYTES_MAX - header.header_bytes)
                return -E2BIG;
        *bytes = header.header_bytes + header.bytes;
        return 0;
}

static int extend_by_sections(const uint8_t *image, const Elf64_Ehdr *elf, uint64_t *end)
{
        if (elf->e_shoff == 0)
                return 0;
        if (elf->e_shentsize != sizeof(Elf64_Shdr))
                return -EINVAL;
        if (elf->e_shoff > IVG_IMAGE_BYTES_MAX - sizeof(Elf64_Shdr))
                return -E2BIG;
        uint64_t count = elf->e_shnum;
        if (count == 0) { /* 0xff00 sections or more: the number stands in the first one */
                Elf64_Shdr first;
                memcpy(&first, image + elf->e_shoff, sizeof first);
                count = first.sh_size;
        }
        if (count > IVG_IMAGE_BYTES_MAX / sizeof(Elf64_Shdr))
                return -E2BIG;
        int error = extend_end(end, elf->e_shoff, count * sizeof(Elf64_Shdr));
        for (uint64_t i = 0; i < count && error == 0; i++) {
                Elf64_Shdr section;
                memcpy(&section, image + elf->e_shoff + i * sizeof section, sizeof section);
                if (section.sh_type != SHT_NOBITS && section.sh_type != SHT_NULL)
                        error = extend_end(end, section.sh_offset, section.sh_size);
        }
        return error;
}

static int extend_by_segments(const uint8_t *image, const Elf64_Ehdr *elf, uint64_t *end)
{
        if (elf->e_phoff == 0 || elf->e_phnum == 0)
                return 0;
        if (elf->e_phentsize != sizeof(Elf64_Phdr))
                return -EINVAL;
        int error = extend_end(end, elf->e_phoff, (uint64_t)elf->e_phnum * sizeof(Elf64_Phdr));
        for (uint32_t i = 0; i < elf->e_phnum && error == 0; i++) {
                Elf64_Phdr segment;
                memcpy(&segment, image + elf->e_phoff + i * sizeof segment, sizeof segment);
                error = extend_end(end, segment.p_offset, segment.p_filesz);
        }
        return error;
}

static int measure_elf(const uint8_t *image, uint64_t *bytes)
{
        /* The class decides the header's length: look at it before reading a 64-bit header. */
        if (image[EI_CLASS] != ELFCLASS64 || image[EI_DATA] != ELFDATA2LSB)
                return -EINVAL;
        Elf64_Ehdr elf;
        memcpy(&elf, image, sizeof elf);
        uint64_t end = sizeof elf;
        int error = extend_by_sections(image, &elf, &end);
        if (error == 0)
                error = extend_by_segments(image, &elf, &end);
        *bytes = end;
        return error;
}

static int measure_text(const char *text, uint64_t *bytes)
{
        const size_t length = strnlen(text, IVG_IMAGE_BYTES_MAX);
        if (length == IVG_IMAGE_BYTES_MAX)
                return -E2BIG;
        *bytes = length + 1; /* the driver wants the NUL too */
        return length == 0 ? -EINVAL : 0;
}

/* True when the bytes at `image` are those of `magic`. Stops at the first difference: a text may be one byte long. */
static int starts_with(const uint8_t *image, const uint8_t magic[4])
{
        for (uint32_t i = 0; i < 4; i++)
                if (image[i] != magic[i])
                        return 0;
        return 1;
}

static int magic_is(const uint8_t *image, uint32_t magic)
{
        uint8_t bytes[4];
        memcpy(bytes, &magic, sizeof bytes); /* little-endian, as the images are */
        return starts_with(image, bytes);
}

static int measure_part(const void *image, struct ivg_image_part *part)
{
        const uint8_t *bytes = image;
        part->data = image;
        part->bytes = 0;
        if (image == NULL)
                return -EINVAL;
        if (magic_is(bytes, FATBIN_MAGIC))
                return measure_fatbin(image, &part->bytes);
        if (starts_with(bytes, (const uint8_t *)ELFMAG))
                return measure_elf(bytes, &part->bytes);
        return measure_text(image, &part->bytes);
}

static uint64_t aligned_part_bytes(uint64_t bytes)
{
        return (bytes + IVG_IMAGE_PART_ALIGNMENT - 1) & ~(uint64_t)(IVG_IMAGE_PART_ALIGNMENT - 1);
}

static int measure_linked(const struct fatbin_wrapper *wrapper, struct ivg_image *out)
{
        out->linked = 1;
        out->list = wrapper->list;
        out->bytes = aligned_part_bytes(out->first.bytes);
        for (uint32_t i = 0; wrapper->list != NULL && wrapper->list[i] != NULL; i++) {
                struct ivg_image_part part;
                if (i + 1 == IVG_IMAGE_PARTS_MAX)
                        return -E2BIG;
                const int error = measure_part(wrapper->list[i], &part);
                if (error != 0)
                        return error;
                if (aligned_part_bytes(part.bytes) > IVG_IMAGE_BYTES_MAX - out->bytes)
                        return -E2BIG;
                out->bytes += aligned_part_bytes(part.bytes);
                out->parts_count++;
        }
        return 0;
}

int ivg_image_measure(const void *image, struct ivg_image *out)
{
        *out = (struct ivg_image){.parts_count = 1};
        if (image == NULL)
                return -EINVAL;
        const void *data = image;
        struct fatbin_wrapper wrapper = {.version = WRAPPER_VERSION_PLAIN};
        if (magic_is(image, WRAPPER_MAGIC)) {
                memcpy(&wrapper, image, sizeof wrapper);
                if (wrapper.version != WRAPPER_VERSION_PLAIN && wrapper.version != WRAPPER_VERSION_LINKED)
                        return -EINVAL;
                data = wrapper.data;
        }
        const int error = measure_part(data, &out->first);
        if (error != 0)
                return error;
        out->bytes = out->first.bytes;
        return wrapper.version == WRAPPER_VERSION_LINKED ? measure_linked(&wrapper, out) : 0;
}

int ivg_image_part(const struct ivg_image *image, uint32_t index, struct ivg_image_part *out)
{
        if (index >= image->parts_count)
                return -EINVAL;
        *out = image->first;
        return index == 0 ? 0 : measure_part(image->list[index - 1], out);
}

int ivg_image_flatten(const struct ivg_image *image, uint8_t *destination, uint64_t *lengths)
{
        uint64_t offset = 0;
        for (uint32_t i = 0; i < image->parts_count; i++) {
                struct ivg_image_part part;
                const int error = ivg_image_part(image, i, &part);
                if (error != 0)
                        return error;
                const uint64_t step = image->linked ? aligned_part_bytes(part.bytes) : part.bytes;
                /* Another thread of the program may have changed the image since it was measured. */
                if (step > image->bytes - offset)
                        return -EINVAL;
                memcpy(destination + offset, part.data, part.bytes);
                memset(destination + offset + part.bytes, 0, step - part.bytes);
                lengths[i] = part.bytes;
                offset += step;
        }
        return 0;
}

int ivg_image_open(const void *image, struct ivg_flat_image *flat)
{
        struct ivg_image measured;
        *flat = (struct ivg_flat_image){0};
        const int error = ivg_image_measure(image, &measured);
        if (error != 0)
                return error;
        flat->data = measured.first.data;
        flat->bytes = measured.first.bytes;
        if (measured.parts_count == 1) /* a linked one without a list is its linked fatbin */
                return 0;
        flat->memory = malloc(measured.bytes);
        flat->parts = calloc(measured.parts_count, sizeof flat->parts[0]);
        if (flat->memory == NULL || flat->parts == NULL)
                return -ENOMEM;
        flat->data = flat->memory;
        flat->bytes = measured.bytes;
        flat->parts_count = measured.parts_count;
        return ivg_image_flatten(&measured, flat->memory, flat->parts);
}

void ivg_image_close(struct ivg_flat_image *flat)
{
        free(flat->memory);
        free(flat->parts);
}
