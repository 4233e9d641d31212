/* Module images of any size, as modules and as libraries, again and again: the same kernels each time, whether the
 * image was sent or the host had it. Without arguments: a few sizes around the one from which images are named.
 *
 *   images KIB COUNT SEED    loads an image of that size and content so often
 *   images linked SEED       loads a device-linked image of three parts (ivgpu's soft GPU; a GPU wants real ones)
 *   images stale SEED        loads one, changes it in place, loads it again: the change must show
 *   images time KIB COUNT    prints how long each load takes of an image that is nearly all filling */
#include "check.h"
#include <time.h>

#define PAD_LINE_BYTES 64u

/* The kernels with as much comment behind them as makes `bytes` with the NUL; `seed` makes it another image. */
static char *image_make(size_t bytes, uint64_t seed)
{
        const size_t text_bytes = strlen(test_kernels_ptx);
        char *image = malloc(bytes);
        CHECK(image != NULL && bytes > text_bytes + 2 * PAD_LINE_BYTES, "an image of %zu bytes", bytes);
        memcpy(image, test_kernels_ptx, text_bytes);
        memset(image + text_bytes, '\n', bytes - text_bytes);
        for (size_t at = text_bytes; at + PAD_LINE_BYTES < bytes; at += PAD_LINE_BYTES) {
                char line[PAD_LINE_BYTES];
                snprintf(line, sizeof line, "\n// %016" PRIx64 "%016" PRIx64, test_random(&seed), test_random(&seed));
                memcpy(image + at, line, strlen(line));
        }
        image[bytes - 1] = 0;
        return image;
}

/* global_word and the kernel that reads it: 17 in every fresh module. */
static void module_is_right(CUmodule module, uint32_t expected)
{
        CUdeviceptr word, out;
        uint32_t result[2] = {0};
        size_t bytes;
        CU(cuModuleGetGlobal_v2(&word, &bytes, module, "global_word"));
        CHECK(bytes == 4, "global_word has %zu bytes", bytes);
        CU(cuMemAlloc_v2(&out, sizeof result));
        void *parameters[] = {&out};
        CU(cuLaunchKernel(test_function(module, "read_globals"), 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
        CU(cuMemcpyDtoH_v2(result, out, sizeof result));
        CHECK(result[0] == expected, "global_word is %u, expected %u", result[0], expected);
        CU(cuMemFree_v2(out));
}

static void as_module(const void *image)
{
        CUmodule module;
        CU(cuModuleLoadData(&module, image));
        module_is_right(module, 17);
        CU(cuModuleUnload(module));
}

static void as_library(const void *image)
{
        CUlibrary library;
        CUmodule module;
        CU(cuLibraryLoadData(&library, image, NULL, NULL, 0, NULL, NULL, 0));
        CU(cuLibraryGetModule(&module, library));
        module_is_right(module, 17);
        CU(cuLibraryUnload(library));
}

static void load_often(size_t bytes, unsigned count, uint64_t seed)
{
        char *image = image_make(bytes, seed);
        for (unsigned i = 0; i < count; i++) {
                if (i % 2 == 0)
                        as_module(image);
                else
                        as_library(image);
        }
        free(image);
}

/* The initial value is changed in the text, at the same address and length. */
static void changed_in_place(uint64_t seed)
{
        char *image = image_make((size_t)256 << 10, seed), *value = strstr(image, "global_word = 17");
        CUmodule module;
        CHECK(value != NULL, "the kernels' text has no global_word = 17");
        as_module(image);
        memcpy(value, "global_word = 23", strlen("global_word = 23"));
        CU(cuModuleLoadData(&module, image));
        module_is_right(module, 23);
        CU(cuModuleUnload(module));
        free(image);
}

/* ---- device-linked ---- */

struct fatbin {
        uint32_t magic;
        uint16_t version, header_bytes;
        uint64_t bytes;
};
struct fatbin_entry {
        uint16_t kind, version;
        uint32_t header_bytes;
        uint64_t bytes;
        uint32_t compressed_bytes, options_offset;
        uint16_t minor, major;
        uint32_t architecture, name_offset, name_bytes;
        uint64_t flags, zero, plain_bytes;
};
_Static_assert(sizeof(struct fatbin) == 16 && sizeof(struct fatbin_entry) == 64, "as they lie");

static struct fatbin_entry entry_of(uint16_t kind, uint32_t architecture, uint64_t bytes)
{
        return (struct fatbin_entry){.kind = kind,
                                     .version = 0x101,
                                     .header_bytes = sizeof(struct fatbin_entry),
                                     .bytes = bytes,
                                     .major = 8,
                                     .architecture = architecture,
                                     .flags = 0x11};
}

/* A fatbin of one PTX entry and, unless `filling` is 0, so many bytes of machine code for a GPU that no longer is. */
static void *fatbin_make(const char *ptx, uint64_t filling)
{
        const uint64_t padded = (strlen(ptx) + 1 + 7) & ~7ull;
        const struct fatbin_entry entry = entry_of(1, 75, padded), old = entry_of(2, 20, filling);
        const struct fatbin fatbin = {.magic = 0xba55ed50,
                                      .version = 1,
                                      .header_bytes = sizeof fatbin,
                                      .bytes = sizeof entry + padded + (filling ? sizeof old + filling : 0)};
        uint64_t seed = filling + 1;
        uint8_t *image = calloc(1, sizeof fatbin + fatbin.bytes), *at = image;
        CHECK(image != NULL, "no memory");
        memcpy(at, &fatbin, sizeof fatbin);
        memcpy(at += sizeof fatbin, &entry, sizeof entry);
        memcpy(at += sizeof entry, ptx, strlen(ptx));
        at += padded;
        if (filling) {
                memcpy(at, &old, sizeof old);
                at += sizeof old;
        }
        for (uint64_t i = 0; i + 8 <= filling; i += 8) {
                const uint64_t word = test_random(&seed);
                memcpy(at + i, &word, 8);
        }
        return image;
}

static void linked(uint64_t seed)
{
        char *text = image_make((size_t)128 << 10, seed), *first = image_make((size_t)40 << 10, seed + 1);
        void *parts[] = {fatbin_make(text, 0), fatbin_make(first, 0), fatbin_make(test_kernels_ptx, 0), NULL};
        const struct {
                uint32_t magic, version;
                const void *data;
                void *const *list;
        } wrapper = {0x466243b1, 2, parts[0], parts + 1};
        for (int i = 0; i < 2; i++) {
                as_module(&wrapper);
                as_library(&wrapper);
        }
        for (int i = 0; i < 3; i++)
                free(parts[i]);
        free(text);
        free(first);
}

/* ---- time ---- */

static double now_ms(void)
{
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* The kernel is next to nothing, so that the image's way is what takes time. */
static void time_loads(size_t bytes, unsigned count)
{
        const char *ptx = ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry nothing() { ret; }\n";
        void *image = fatbin_make(ptx, bytes);
        for (unsigned i = 0; i < count; i++) {
                CUmodule module;
                const double begin = now_ms();
                CU(cuModuleLoadData(&module, image));
                printf("%s%.3f", i ? " " : "", now_ms() - begin);
                CU(cuModuleUnload(module));
        }
        puts(" ms");
        free(image);
}

int main(int argc, char **argv)
{
        test_context();
        if (argc == 3 && strcmp(argv[1], "linked") == 0) {
                linked(strtoull(argv[2], NULL, 0));
        } else if (argc == 3 && strcmp(argv[1], "stale") == 0) {
                changed_in_place(strtoull(argv[2], NULL, 0));
        } else if (argc == 4 && strcmp(argv[1], "time") == 0) {
                time_loads(strtoull(argv[2], NULL, 0) << 10, (unsigned)atoi(argv[3]));
        } else if (argc == 4) {
                load_often(strtoull(argv[1], NULL, 0) << 10, (unsigned)atoi(argv[2]), strtoull(argv[3], NULL, 0));
        } else {
                CHECK(argc == 1, "usage: images [KIB COUNT SEED | linked SEED | stale SEED | time KIB COUNT]");
                const size_t named = (size_t)64 << 10;
                load_often(named - 1, 2, 1);
                load_often(named, 4, 2);
                load_often(named + 1, 4, 3);
                load_often((size_t)1 << 20, 4, 4);
                changed_in_place(5);
        }
        puts("images: ok");
        return 0;
}
