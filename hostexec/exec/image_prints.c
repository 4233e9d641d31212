/* Whether a module's kernels may print (printf in device code): then the driver has to be asked to synchronize, since
 * it shows what was printed only there; without, the guest may wait for a word that the GPU writes and nobody
 * synchronizes.
 *
 * Such code calls `vprintf`, which the driver resolves: the name stands in PTX and in the symbol names of machine code.
 * In a fatbin the parts for this device are looked at, decompressed. What is not understood may print. Layouts are
 * those that nvcc 11.8 to 13.0 write, little-endian: fatbin   u32 magic BA55ED50, u16 version, u16 header bytes, u64
 * bytes of the entries that follow entry    u16 kind (1 PTX, 2 ELF), u16, u32 header bytes, u64 payload bytes, u32
 * compressed bytes, u32, u32, u32 target (90: compute capability 9.0), u64, u64 flags, u64, u64 bytes when decompressed
 *   flags    bit 15: Zstandard frame; bit 13: LZ4 block; neither: as it is */
#include "exec_internal.h"
#include "jit.h"
#include <limits.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define FATBIN_MAGIC 0xBA55ED50u
#define FATBIN_HEADER_BYTES 16u
#define ENTRY_HEADER_BYTES_MIN 64u
#define ENTRY_PTX 1u
#define ENTRY_ELF 2u
#define ENTRY_LZ4 (1u << 13)
#define ENTRY_ZSTD (1u << 15)
#define ENTRIES_MAX 4096u
#define DECOMPRESSED_BYTES_MAX (64u << 20) /* of one entry; a larger one may print */
static const char printing[] = "vprintf";

struct entry {
        uint16_t kind;
        uint32_t target, compressed_bytes;
        uint64_t flags, text_bytes, payload_bytes;
        const uint8_t *payload;
};

static uint64_t number(const uint8_t *at, uint32_t bytes)
{
        uint64_t value = 0;

        memcpy(&value, at, bytes);
        return value;
}

static bool names_printing(const void *bytes, uint64_t count)
{
        return memmem(bytes, count, printing, sizeof(printing) - 1) != NULL;
}

/* The whole length of the entry at `at`; 0: malformed. */
static uint64_t entry_read(const uint8_t *at, uint64_t left, struct entry *entry)
{
        uint64_t header_bytes;

        if (left < ENTRY_HEADER_BYTES_MIN)
                return 0;
        header_bytes = number(at + 4, 4);
        *entry = (struct entry){.kind = (uint16_t)number(at, 2),
                                .payload_bytes = number(at + 8, 8),
                                .compressed_bytes = (uint32_t)number(at + 16, 4),
                                .target = (uint32_t)number(at + 28, 4),
                                .flags = number(at + 40, 8),
                                .text_bytes = number(at + 56, 8),
                                .payload = at + header_bytes};
        if (header_bytes < ENTRY_HEADER_BYTES_MIN || header_bytes > left || entry->payload_bytes > left - header_bytes)
                return 0;
        return header_bytes + entry->payload_bytes;
}

static bool entry_prints(const struct entry *entry)
{
        size_t bytes = entry->text_bytes;
        bool prints = true;
        char *text;

        if ((entry->flags & (ENTRY_LZ4 | ENTRY_ZSTD)) == 0)
                return names_printing(entry->payload, entry->payload_bytes);
        if (bytes == 0 || bytes > DECOMPRESSED_BYTES_MAX || entry->compressed_bytes > entry->payload_bytes ||
            entry->compressed_bytes > INT_MAX)
                return true;
        text = malloc(bytes);
        if (!text)
                return true;
        if (entry->flags & ENTRY_ZSTD) {
                const size_t done = ZSTD_decompress(text, bytes, entry->payload, entry->compressed_bytes);

                if (!ZSTD_isError(done))
                        prints = names_printing(text, done);
        } else {
                const int done = LZ4_decompress_safe((const char *)entry->payload, text, (int)entry->compressed_bytes,
                                                     (int)bytes);

                if (done >= 0)
                        prints = names_printing(text, (uint64_t)done);
        }
        free(text);
        return prints;
}

/* The driver takes machine code of the device's own generation, or compiles PTX of it or an older one. */
static bool entry_is_for(const struct entry *entry, uint32_t capability)
{
        if (entry->kind == ENTRY_ELF)
                return entry->target / 10 == capability / 10 && entry->target <= capability;
        return entry->kind == ENTRY_PTX && entry->target <= capability;
}

/* With machine code for the device its PTX is not looked at: the driver does not either. */
static bool fatbin_prints(const uint8_t *image, uint64_t bytes, uint32_t capability)
{
        bool prints_as_elf = false, prints_as_ptx = false, has_elf = false, has_ptx = false;
        uint64_t left, at;

        if (bytes < FATBIN_HEADER_BYTES)
                return true;
        at = number(image + 6, 2);
        left = number(image + 8, 8);
        if (at < FATBIN_HEADER_BYTES || at > bytes || left > bytes - at)
                return true;
        for (uint32_t i = 0; left > 0; i++) {
                struct entry entry;
                const uint64_t length = entry_read(image + at, left, &entry);

                if (length == 0 || i == ENTRIES_MAX)
                        return true;
                if (entry_is_for(&entry, capability)) {
                        if (entry.kind == ENTRY_ELF) {
                                has_elf = true;
                                prints_as_elf = prints_as_elf || entry_prints(&entry);
                        } else if (!has_elf) {
                                has_ptx = true;
                                prints_as_ptx = prints_as_ptx || entry_prints(&entry);
                        }
                }
                at += length;
                left -= length;
        }
        return has_elf ? prints_as_elf : !has_ptx || prints_as_ptx;
}

bool ivg_image_prints(const void *image, uint64_t bytes, uint32_t capability)
{
        if (bytes >= 4 && number(image, 4) == FATBIN_MAGIC)
                return fatbin_prints(image, bytes, capability);
        return names_printing(image, bytes); /* PTX or a cubin; of what is neither the driver makes no kernel */
}

/* True when the image may print on a device that this process could use. */
static bool prints_somewhere(const struct ivg_driver *driver, const void *image, uint64_t bytes)
{
        uint32_t last = 0;
        int count = 0;

        if (!driver->cuDeviceGetCount || !driver->cuDeviceGetAttribute || driver->cuDeviceGetCount(&count) ||
            count <= 0)
                return true;
        for (int i = 0; i < count; i++) {
                uint32_t capability;
                CUdevice device;
                int major, minor;

                if (driver->cuDeviceGet(&device, i) ||
                    driver->cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device) ||
                    driver->cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device))
                        return true;
                capability = (uint32_t)(major * 10 + minor);
                if (capability != last && ivg_image_prints(image, bytes, capability))
                        return true;
                last = capability; /* as a rule all devices are of one kind */
        }
        return false;
}

void ivg_image_note_printing(struct ivg_exec *exec, const void *image, uint64_t bytes, const uint64_t *parts,
                             uint32_t parts_count)
{
        _Atomic(uint64_t) *word = &exec->completions[IVG_MAY_PRINT];
        const uint64_t whole = bytes;
        uint64_t offset = 0;

        if (ivg_load_relaxed_u64(word) != 0) /* once a process may print, it may */
                return;
        if (!parts || parts_count == 0) {
                parts = &whole;
                parts_count = 1;
        }
        for (uint32_t i = 0; i < parts_count; i++) {
                if (prints_somewhere(ivg_exec_driver(exec), (const uint8_t *)image + offset, parts[i])) {
                        /* Release: before the load's answer, so before any launch of its kernels. */
                        ivg_store_release_u64(word, 1);
                        return;
                }
                offset += (parts[i] + IVG_IMAGE_PART_ALIGNMENT - 1) & ~(uint64_t)(IVG_IMAGE_PART_ALIGNMENT - 1);
        }
}

bool ivg_exec_may_print(const struct ivg_exec *exec)
{
        /* Acquire pairs with the release above; the launch came after the load in any case. */
        return ivg_load_acquire_u64(&exec->completions[IVG_MAY_PRINT]) != 0;
}
