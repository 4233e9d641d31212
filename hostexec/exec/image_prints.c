/* Whether a module's kernels may print (printf in device code): then the driver has to be asked to synchronize, since
 * it shows what was printed only there; without, the guest may wait for a word that the GPU writes and nobody
 * synchronizes.
 *
 * Such code calls `vprintf`, which the driver resolves: the name stands in PTX and in the symbol names of machine code.
 * In a fatbin the parts for this device are looked at, decompressed. What is not understood may print. */
#include "../common/fatbin.h"
#include "exec_internal.h"
#include "jit.h"
#include <stdlib.h>
#include <string.h>

#define DECOMPRESSED_BYTES_MAX (64u << 20) /* of one entry; a larger one may print */
static const char printing[] = "vprintf";

static bool names_printing(const void *bytes, uint64_t count)
{
        return memmem(bytes, count, printing, sizeof(printing) - 1) != NULL;
}

static bool entry_prints(const struct ivg_fatbin_entry *entry)
{
        bool prints = true;
        size_t bytes;
        char *text;

        if (!ivg_fatbin_is_compressed(entry))
                return names_printing(entry->payload, entry->payload_bytes);
        if (ivg_fatbin_decompress(entry, DECOMPRESSED_BYTES_MAX, &text, &bytes) == 0) {
                prints = names_printing(text, bytes);
                free(text);
        }
        return prints;
}

/* The driver takes machine code of the device's own generation, or compiles PTX of it or an older one. */
static bool entry_is_for(const struct ivg_fatbin_entry *entry, uint32_t capability)
{
        if (entry->kind == IVG_FATBIN_ELF)
                return entry->target / 10 == capability / 10 && entry->target <= capability;
        return entry->kind == IVG_FATBIN_PTX && entry->target <= capability;
}

/* With machine code for the device its PTX is not looked at: the driver does not either. */
static bool fatbin_prints(const uint8_t *image, uint64_t bytes, uint32_t capability)
{
        bool prints_as_elf = false, prints_as_ptx = false, has_elf = false, has_ptx = false;
        struct ivg_fatbin_entry entry;
        struct ivg_fatbin fatbin;
        int rc;

        if (!ivg_fatbin_open(image, bytes, &fatbin))
                return true;
        while ((rc = ivg_fatbin_next(&fatbin, &entry)) == 1) {
                if (!entry_is_for(&entry, capability))
                        continue;
                if (entry.kind == IVG_FATBIN_ELF) {
                        has_elf = true;
                        prints_as_elf = prints_as_elf || entry_prints(&entry);
                } else if (!has_elf) {
                        has_ptx = true;
                        prints_as_ptx = prints_as_ptx || entry_prints(&entry);
                }
        }
        if (rc != 0)
                return true;
        return has_elf ? prints_as_elf : !has_ptx || prints_as_ptx;
}

bool ivg_image_prints(const void *image, uint64_t bytes, uint32_t capability)
{
        uint32_t magic = 0;

        if (bytes >= sizeof(magic))
                memcpy(&magic, image, sizeof(magic));
        if (magic == IVG_FATBIN_MAGIC)
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
                        /* P1, release, pairs with P2 (synchronize.c of the guest): before the load's answer, so before
                         * any launch of its kernels. */
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
