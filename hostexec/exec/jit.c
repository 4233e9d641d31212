/* What a load or a link passes to the driver beside the image, and whether the image may be passed. */
#include "jit.h"
#include <elf.h>
#include <string.h>

#define FATBIN_MAGIC 0xBA55ED50u

struct fatbin_header {
        uint32_t magic;
        uint16_t version;
        uint16_t header_bytes;
        uint64_t payload_bytes;
};

static CUresult option_passes(uint32_t option)
{
        switch (option) {
        case CU_JIT_MAX_REGISTERS:
        case CU_JIT_THREADS_PER_BLOCK:
        case CU_JIT_WALL_TIME:
        case CU_JIT_OPTIMIZATION_LEVEL:
        case CU_JIT_TARGET_FROM_CUCONTEXT:
        case CU_JIT_TARGET:
        case CU_JIT_FALLBACK_STRATEGY:
        case CU_JIT_GENERATE_DEBUG_INFO:
        case CU_JIT_LOG_VERBOSE:
        case CU_JIT_GENERATE_LINE_INFO:
        case CU_JIT_CACHE_MODE:
        case CU_JIT_NEW_SM3X_OPT:
        case CU_JIT_FAST_COMPILE:
        case CU_JIT_LTO:
        case CU_JIT_FTZ:
        case CU_JIT_PREC_DIV:
        case CU_JIT_PREC_SQRT:
        case CU_JIT_FMA:
        case CU_JIT_OPTIMIZE_UNUSED_DEVICE_VARIABLES:
        case CU_JIT_POSITION_INDEPENDENT_CODE:
        case CU_JIT_MIN_CTA_PER_SM:
        case CU_JIT_MAX_THREADS_PER_BLOCK:
        case CU_JIT_OVERRIDE_DIRECTIVE_VALUES:
        case CU_JIT_SPLIT_COMPILE:
                return CUDA_SUCCESS;
        default: /* an address, or unknown and perhaps one */
                return option < CU_JIT_NUM_OPTIONS ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
        }
}

static void add(struct ivg_jit *jit, CUjit_option option, void *value)
{
        jit->options[jit->count] = option;
        jit->values[jit->count++] = value;
}

CUresult ivg_jit_begin(struct ivg_jit *jit, const struct ivg_wire_jit_option *options, uint32_t count)
{
        memset(jit, 0, sizeof(*jit));
        jit->wall_time_at = jit->threads_at = UINT32_MAX;
        if (count > IVG_JIT_OPTIONS_MAX - 8)
                return CUDA_ERROR_INVALID_VALUE;
        for (uint32_t i = 0; i < count; i++) {
                const CUresult result = option_passes(options[i].option);

                if (result != CUDA_SUCCESS)
                        return result;
                if (options[i].option == CU_JIT_WALL_TIME)
                        jit->wall_time_at = jit->count;
                if (options[i].option == CU_JIT_THREADS_PER_BLOCK)
                        jit->threads_at = jit->count;
                add(jit, (CUjit_option)options[i].option, (void *)(uintptr_t)options[i].value);
        }
        return CUDA_SUCCESS;
}

void ivg_jit_add_logs(struct ivg_jit *jit, char *info_log, uint32_t info_bytes, char *error_log, uint32_t error_bytes)
{
        if (info_log && info_bytes) {
                add(jit, CU_JIT_INFO_LOG_BUFFER, info_log);
                add(jit, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, (void *)(uintptr_t)info_bytes);
                jit->info_log = info_log;
                jit->info_log_bytes = info_bytes;
        }
        if (error_log && error_bytes) {
                add(jit, CU_JIT_ERROR_LOG_BUFFER, error_log);
                add(jit, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, (void *)(uintptr_t)error_bytes);
                jit->error_log = error_log;
                jit->error_log_bytes = error_bytes;
        }
}

float ivg_jit_wall_time(const struct ivg_jit *jit)
{
        float ms = 0;

        /* The driver stores a float in the value's place. */
        if (jit->wall_time_at != UINT32_MAX)
                memcpy(&ms, &jit->values[jit->wall_time_at], sizeof(ms));
        return ms;
}

uint32_t ivg_jit_threads_per_block(const struct ivg_jit *jit)
{
        return jit->threads_at == UINT32_MAX ? 0 : (uint32_t)(uintptr_t)jit->values[jit->threads_at];
}

uint32_t ivg_jit_copy_log(void *target, uint32_t target_bytes, const char *log, uint32_t log_bytes)
{
        size_t length;

        if (!target || !target_bytes || !log)
                return 0;
        length = strnlen(log, log_bytes);
        if (length >= target_bytes)
                length = target_bytes - 1;
        memcpy(target, log, length);
        ((char *)target)[length] = '\0';
        return (uint32_t)length;
}

/* ---- images ---- */

static bool inside(uint64_t offset, uint64_t length, uint64_t bytes)
{
        return offset <= bytes && length <= bytes - offset;
}

static bool fatbin_contained(const uint8_t *image, uint32_t bytes)
{
        struct fatbin_header header;

        if (bytes < sizeof(header))
                return false;
        memcpy(&header, image, sizeof(header));
        return header.header_bytes >= sizeof(header) && inside(header.header_bytes, header.payload_bytes, bytes);
}

static bool elf_sections_contained(const uint8_t *image, uint32_t bytes, const Elf64_Ehdr *header)
{
        uint64_t count = header->e_shnum;
        Elf64_Shdr section;

        if (header->e_shoff == 0)
                return count == 0;
        if (header->e_shentsize != sizeof(section) || !inside(header->e_shoff, sizeof(section), bytes))
                return false;
        if (count == 0) { /* 0xff00 sections or more: the number stands in the first one */
                memcpy(&section, image + header->e_shoff, sizeof(section));
                count = section.sh_size;
        }
        if (count > bytes / sizeof(section) || !inside(header->e_shoff, count * sizeof(section), bytes))
                return false;
        for (uint64_t i = 0; i < count; i++) {
                memcpy(&section, image + header->e_shoff + i * sizeof(section), sizeof(section));
                if (section.sh_type != SHT_NOBITS && section.sh_type != SHT_NULL &&
                    !inside(section.sh_offset, section.sh_size, bytes))
                        return false;
        }
        return true;
}

static bool elf_segments_contained(const uint8_t *image, uint32_t bytes, const Elf64_Ehdr *header)
{
        Elf64_Phdr segment;

        if (header->e_phnum == 0)
                return true;
        if (header->e_phoff == 0 || header->e_phentsize != sizeof(segment) ||
            !inside(header->e_phoff, (uint64_t)header->e_phnum * sizeof(segment), bytes))
                return false;
        for (uint32_t i = 0; i < header->e_phnum; i++) {
                memcpy(&segment, image + header->e_phoff + i * sizeof(segment), sizeof(segment));
                if (!inside(segment.p_offset, segment.p_filesz, bytes))
                        return false;
        }
        return true;
}

/* What the guest measures (guest/src/image.c) counts here too: an honest image passes. */
static bool elf_contained(const uint8_t *image, uint32_t bytes)
{
        Elf64_Ehdr header;

        if (bytes < sizeof(header))
                return false;
        memcpy(&header, image, sizeof(header));
        return header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_ident[EI_DATA] == ELFDATA2LSB &&
               elf_sections_contained(image, bytes, &header) && elf_segments_contained(image, bytes, &header);
}

/* Anything that is not text could be one of the driver's own formats, some of which hold addresses. A fatbin wrapper's
 * bytes could be a comment's but for the first, which is not ASCII. */
static bool text_contained(const uint8_t *image, uint32_t bytes)
{
        const uint8_t *end = memchr(image, '\0', bytes);

        if (!end || end == image || *image >= 0x7f)
                return false;
        for (const uint8_t *at = image; at < end; at++)
                if (*at < ' ' && !(*at >= '\t' && *at <= '\r'))
                        return false;
        return true;
}

bool ivg_image_contained(const void *image, uint32_t bytes)
{
        uint32_t magic;

        if (!image || bytes < sizeof(magic))
                return false;
        memcpy(&magic, image, sizeof(magic));
        if (magic == FATBIN_MAGIC)
                return fatbin_contained(image, bytes);
        if (memcmp(image, ELFMAG, SELFMAG) == 0)
                return elf_contained(image, bytes);
        return text_contained(image, bytes);
}
