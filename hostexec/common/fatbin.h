/* Reading a fatbin: the one container of several images that nvcc writes and programs hand to module loads. For the
 * executor, which looks whether kernels print, and the soft GPU, which runs the PTX in it. Both take it from a guest:
 * every length is checked before it is used, and of a payload nothing is believed but its bounds.
 *
 * What nvcc 11.8 to 13.0 were seen to write, all fields little-endian:
 *   fatbin   u32 magic BA55ED50, u16 version 1, u16 header bytes 16, u64 bytes of the entries that follow
 *   entry    u16 kind (1 PTX, 2 ELF), u16 version 0101, u32 header bytes (80 for PTX, 64 for ELF), u64 payload bytes
 *            (a multiple of 8), u32 compressed bytes (the payload without its padding; 0 when not compressed),
 *            u32 offset of options, u32 PTX ISA version, u32 target (75: compute capability 7.5), u64, u64 flags, u64,
 *            u64 bytes when decompressed (at offset 56)
 *   flags    bit 15: Zstandard frame (modes default, size, balance); bit 13: LZ4 block (mode speed, and toolkits before
 *            12.8); neither: plain, PTX with leading newlines as padding */
#ifndef IVG_FATBIN_H
#define IVG_FATBIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IVG_FATBIN_MAGIC 0xBA55ED50u
#define IVG_FATBIN_PTX 1u
#define IVG_FATBIN_ELF 2u
#define IVG_FATBIN_ENTRIES_MAX 4096u

struct ivg_fatbin {
        const uint8_t *at; /* the next entry */
        uint64_t left;     /* bytes of entries from there on */
        uint32_t entries;  /* seen so far */
};
struct ivg_fatbin_entry {
        uint16_t kind;
        uint32_t target, compressed_bytes;
        uint64_t flags, text_bytes, payload_bytes;
        const uint8_t *payload;
};

/* `image` begins with the magic, and `bytes_max` of it may be read. False: its header is not one, or the entries would
 * lie outside. */
bool ivg_fatbin_open(const void *image, uint64_t bytes_max, struct ivg_fatbin *fatbin);
/* 1: `entry` is the next one; 0: that was all; -EINVAL: it is malformed, or one too many. */
int ivg_fatbin_next(struct ivg_fatbin *fatbin, struct ivg_fatbin_entry *entry);

bool ivg_fatbin_is_compressed(const struct ivg_fatbin_entry *entry);
/* A compressed entry's content, at most `bytes_max`, in memory that the caller frees: 0, -ENOMEM, or -EINVAL when it is
 * not what it says or is larger. */
int ivg_fatbin_decompress(const struct ivg_fatbin_entry *entry, uint64_t bytes_max, char **text, size_t *bytes);

#endif
