/* Lengths of module images: right for well-formed ones, refused for hostile ones, and nothing read beyond what the
 * format announces: every image here ends at the edge of a page that must not be touched. */
#include "image.h"
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE 4096u
#define ROOM (16u * PAGE)

static uint8_t *fence; /* first byte that faults */

static int map_fence(void **state)
{
        (void)state;
        uint8_t *memory = mmap(NULL, ROOM + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED || mprotect(memory + ROOM, PAGE, PROT_NONE) != 0)
                return -1;
        fence = memory + ROOM;
        return 0;
}

/* The bytes, placed so that the one behind them faults. */
static const void *at_the_fence(const void *bytes, size_t count)
{
        assert_true(count <= ROOM);
        memset(fence - ROOM, 0xee, ROOM);
        memcpy(fence - count, bytes, count);
        return fence - count;
}

static void expect_length(const void *image, uint64_t bytes)
{
        struct ivg_image measured;
        assert_int_equal(ivg_image_measure(image, &measured), 0);
        assert_int_equal(measured.parts_count, 1);
        assert_ptr_equal(measured.first.data, image);
        assert_int_equal(measured.first.bytes, bytes);
        assert_int_equal(measured.bytes, bytes);
}

static void expect_refusal(const void *image, int error)
{
        struct ivg_image measured;
        assert_int_equal(ivg_image_measure(image, &measured), error);
}

/* ---- text ---- */

static void text_ends_at_its_nul(void **state)
{
        (void)state;
        const char ptx[] = ".version 8.0\n.target sm_75\n";
        expect_length(at_the_fence(ptx, sizeof ptx), sizeof ptx);
        expect_length(at_the_fence("x", 2), 2);
}

static void text_may_begin_like_a_magic_number(void **state)
{
        (void)state;
        /* Cut after each byte of the magic: the look at the magic must stop at the NUL. */
        const uint8_t starts[3][4] = {{0xb1, 0x43, 0x62, 0x46}, {0x50, 0xed, 0x55, 0xba}, {0x7f, 'E', 'L', 'F'}};
        for (int i = 0; i < 3; i++) {
                for (size_t kept = 1; kept < 4; kept++) {
                        uint8_t text[4] = {0};
                        memcpy(text, starts[i], kept);
                        expect_length(at_the_fence(text, kept + 1), kept + 1);
                }
        }
}

static void nothing_is_not_an_image(void **state)
{
        (void)state;
        expect_refusal(NULL, -EINVAL);
        expect_refusal(at_the_fence("", 1), -EINVAL);
}

static void endless_text_is_refused(void **state)
{
        (void)state;
        /* One page of text, mapped over and over: 256 MiB and not a NUL. */
        const size_t bytes = IVG_IMAGE_BYTES_MAX, step = 16u << 20;
        const int file = memfd_create("text", MFD_CLOEXEC);
        assert_true(file >= 0);
        assert_int_equal(ftruncate(file, (off_t)step), 0);
        uint8_t *memory = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert_ptr_not_equal(memory, MAP_FAILED);
        for (size_t offset = 0; offset < bytes; offset += step)
                assert_ptr_not_equal(
                        mmap(memory + offset, step, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0),
                        MAP_FAILED);
        memset(memory, ' ', step);
        expect_refusal(memory, -E2BIG);
        munmap(memory, bytes);
        close(file);
}

/* ---- fatbins ---- */

struct fatbin {
        uint32_t magic;
        uint16_t version, header_bytes;
        uint64_t bytes;
};

static void fatbin_is_header_and_what_follows(void **state)
{
        (void)state;
        const struct fatbin header = {0xba55ed50, 1, 16, 1000};
        /* Only the header is looked at: nothing else of it is there. */
        expect_length(at_the_fence(&header, sizeof header), 1016);
        const struct fatbin longer = {0xba55ed50, 1, 64, 8};
        expect_length(at_the_fence(&longer, sizeof longer), 72);
        const struct fatbin empty = {0xba55ed50, 1, 16, 0};
        expect_length(at_the_fence(&empty, sizeof empty), 16);
}

static void hostile_fatbins_are_refused(void **state)
{
        (void)state;
        const struct {
                struct fatbin header;
                int error;
        } cases[] = {
                {{0xba55ed50, 1, 0, 100}, -EINVAL},
                {{0xba55ed50, 1, 15, 100}, -EINVAL},
                {{0xba55ed50, 1, 16, UINT64_MAX}, -E2BIG},
                {{0xba55ed50, 1, 16, UINT64_MAX - 15}, -E2BIG}, /* the sum wraps to 0 */
                {{0xba55ed50, 1, 16, IVG_IMAGE_BYTES_MAX - 15}, -E2BIG},
                {{0xba55ed50, 1, 0xffff, IVG_IMAGE_BYTES_MAX}, -E2BIG},
        };
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
                expect_refusal(at_the_fence(&cases[i].header, sizeof cases[i].header), cases[i].error);
        const struct fatbin largest = {0xba55ed50, 1, 16, IVG_IMAGE_BYTES_MAX - 16};
        expect_length(at_the_fence(&largest, sizeof largest), IVG_IMAGE_BYTES_MAX);
}

/* ---- wrappers ---- */

struct wrapper {
        uint32_t magic, version;
        const void *data;
        const void *const *list;
};

static void plain_wrapper_is_its_fatbin(void **state)
{
        (void)state;
        const struct fatbin fatbin = {0xba55ed50, 1, 16, 100};
        /* In version 1 the second pointer is a file name or anything: it must not be followed. */
        const struct wrapper wrapper = {0x466243b1, 1, &fatbin, (const void *const *)(const void *)fence};
        struct ivg_image image;
        assert_int_equal(ivg_image_measure(at_the_fence(&wrapper, sizeof wrapper), &image), 0);
        assert_int_equal(image.parts_count, 1);
        assert_int_equal(image.linked, 0);
        assert_ptr_equal(image.first.data, &fatbin);
        assert_int_equal(image.bytes, 116);
}

static void linked_wrapper_carries_its_list(void **state)
{
        (void)state;
        uint8_t parts[3][64];
        const struct fatbin headers[3] = {{0xba55ed50, 1, 16, 5}, {0xba55ed50, 1, 16, 20}, {0xba55ed50, 1, 16, 1}};
        for (int i = 0; i < 3; i++) {
                memset(parts[i], 0x10 + i, sizeof parts[i]);
                memcpy(parts[i], &headers[i], sizeof headers[i]);
        }
        const void *const list[] = {parts[1], parts[2], NULL};
        const struct wrapper wrapper = {0x466243b1, 2, parts[0], at_the_fence(list, sizeof list)};
        struct ivg_image image;
        assert_int_equal(ivg_image_measure(&wrapper, &image), 0);
        assert_int_equal(image.parts_count, 3);
        assert_int_equal(image.linked, 1);
        assert_int_equal(image.bytes, 32 + 48 + 32);
        uint8_t *flat = malloc(image.bytes);
        uint64_t lengths[3];
        assert_non_null(flat);
        assert_int_equal(ivg_image_flatten(&image, flat, lengths), 0);
        assert_int_equal(lengths[0], 21);
        assert_int_equal(lengths[1], 36);
        assert_int_equal(lengths[2], 17);
        assert_memory_equal(flat, parts[0], 21);
        assert_int_equal(flat[21], 0); /* padding is zero, not what the stack held */
        assert_memory_equal(flat + 32, parts[1], 36);
        assert_memory_equal(flat + 80, parts[2], 17);
        free(flat);
        struct ivg_image_part part;
        assert_int_equal(ivg_image_part(&image, 3, &part), -EINVAL);
}

static void image_that_grows_while_copied_is_refused(void **state)
{
        (void)state;
        const struct {
                struct fatbin header;
                uint8_t body[8];
        } fatbin = {.header = {0xba55ed50, 1, 16, 5}};
        const struct wrapper wrapper = {0x466243b1, 2, &fatbin, NULL};
        const void *const list[] = {&fatbin, NULL};
        struct ivg_image image;
        uint64_t lengths[2];
        uint8_t flat[64];
        assert_int_equal(ivg_image_measure(&wrapper, &image), 0);
        image.list = list;
        image.parts_count = 2; /* as if the list had grown: the room measured before is for one */
        assert_int_equal(ivg_image_flatten(&image, flat, lengths), -EINVAL);
}

static void hostile_wrappers_are_refused(void **state)
{
        (void)state;
        const struct fatbin good = {0xba55ed50, 1, 16, 4}, bad = {0xba55ed50, 1, 0, 4};
        const struct fatbin half = {0xba55ed50, 1, 16, IVG_IMAGE_BYTES_MAX / 2};
        struct wrapper wrapper = {0x466243b1, 3, &good, NULL};
        expect_refusal(&wrapper, -EINVAL); /* a version nobody knows */
        wrapper.version = 0;
        expect_refusal(&wrapper, -EINVAL);
        wrapper = (struct wrapper){0x466243b1, 1, NULL, NULL};
        expect_refusal(&wrapper, -EINVAL);
        const void *const spoilt[] = {&good, &bad, NULL};
        wrapper = (struct wrapper){0x466243b1, 2, &good, spoilt};
        expect_refusal(&wrapper, -EINVAL);
        const void *const heavy[] = {&half, &half, NULL};
        wrapper = (struct wrapper){0x466243b1, 2, &good, heavy};
        expect_refusal(&wrapper, -E2BIG);
        const void *endless[IVG_IMAGE_PARTS_MAX]; /* as many as allowed, the first part is one more, and no end */
        for (uint32_t i = 0; i < IVG_IMAGE_PARTS_MAX; i++)
                endless[i] = &good;
        wrapper = (struct wrapper){0x466243b1, 2, &good, at_the_fence(endless, sizeof endless)};
        expect_refusal(&wrapper, -E2BIG);
        /* A wrapper inside a wrapper is text to the reader, not a reason to go on and on. */
        const struct wrapper inner = {0x466243b1, 1, NULL, NULL};
        wrapper = (struct wrapper){0x466243b1, 1, &inner, NULL};
        struct ivg_image image;
        assert_int_equal(ivg_image_measure(&wrapper, &image), 0);
        assert_int_equal(image.first.bytes, 6); /* b1 43 62 46 01 00 */
}

/* ---- ELF ---- */

static Elf64_Ehdr elf_header(void)
{
        Elf64_Ehdr elf = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1},
                          .e_ehsize = sizeof elf,
                          .e_shentsize = sizeof(Elf64_Shdr),
                          .e_phentsize = sizeof(Elf64_Phdr)};
        return elf;
}

static void elf_ends_with_its_furthest_part(void **state)
{
        (void)state;
        struct {
                Elf64_Ehdr elf;
                Elf64_Shdr sections[3];
                Elf64_Phdr segments[1];
        } image = {.elf = elf_header()};
        image.elf.e_shoff = offsetof(__typeof__(image), sections);
        image.elf.e_shnum = 3;
        image.elf.e_phoff = offsetof(__typeof__(image), segments);
        image.elf.e_phnum = 1;
        expect_length(at_the_fence(&image, sizeof image), sizeof image); /* the headers themselves */
        image.sections[1] = (Elf64_Shdr){.sh_type = SHT_PROGBITS, .sh_offset = 500, .sh_size = 100};
        expect_length(at_the_fence(&image, sizeof image), 600);
        image.sections[2] = (Elf64_Shdr){.sh_type = SHT_NOBITS, .sh_offset = 500, .sh_size = 1u << 20};
        expect_length(at_the_fence(&image, sizeof image), 600); /* NOBITS takes no room in the file */
        image.segments[0] = (Elf64_Phdr){.p_offset = 600, .p_filesz = 50, .p_memsz = 1u << 30};
        expect_length(at_the_fence(&image, sizeof image), 650);
}

static void elf_without_tables_is_its_header(void **state)
{
        (void)state;
        const Elf64_Ehdr elf = elf_header();
        expect_length(at_the_fence(&elf, sizeof elf), sizeof elf);
}

static void elf_counts_sections_beyond_16_bits(void **state)
{
        (void)state;
        struct {
                Elf64_Ehdr elf;
                Elf64_Shdr sections[2];
        } image = {.elf = elf_header()};
        image.elf.e_shoff = offsetof(__typeof__(image), sections);
        image.sections[0].sh_size = 2;
        image.sections[1] = (Elf64_Shdr){.sh_type = SHT_PROGBITS, .sh_offset = 1000, .sh_size = 24};
        expect_length(at_the_fence(&image, sizeof image), 1024);
        image.sections[0].sh_size = UINT64_MAX;
        expect_refusal(at_the_fence(&image, sizeof image), -E2BIG);
}

static void hostile_elfs_are_refused(void **state)
{
        (void)state;
        struct {
                Elf64_Ehdr elf;
                Elf64_Shdr sections[1];
                Elf64_Phdr segments[1];
        } image, good = {.elf = elf_header()};
        good.elf.e_shoff = offsetof(__typeof__(image), sections);
        good.elf.e_shnum = 1;
        good.elf.e_phoff = offsetof(__typeof__(image), segments);
        good.elf.e_phnum = 1;
        expect_length(at_the_fence(&good, sizeof good), sizeof good);

#define REFUSED(error, change)                                             \
        do {                                                               \
                image = good;                                              \
                change;                                                    \
                expect_refusal(at_the_fence(&image, sizeof image), error); \
        } while (0)
        REFUSED(-EINVAL, image.elf.e_ident[EI_CLASS] = ELFCLASS32);
        REFUSED(-EINVAL, image.elf.e_ident[EI_DATA] = ELFDATA2MSB);
        REFUSED(-EINVAL, image.elf.e_shentsize = 1);
        REFUSED(-EINVAL, image.elf.e_phentsize = 0);
        REFUSED(-E2BIG, image.elf.e_shoff = UINT64_MAX - 1);
        REFUSED(-E2BIG, image.elf.e_shoff = IVG_IMAGE_BYTES_MAX);
        REFUSED(-E2BIG, image.elf.e_phoff = UINT64_MAX - 8);
        REFUSED(-E2BIG, (image.sections[0] = (Elf64_Shdr){.sh_type = SHT_PROGBITS, .sh_offset = UINT64_MAX}));
        REFUSED(-E2BIG, (image.sections[0] =
                                 (Elf64_Shdr){.sh_type = SHT_PROGBITS, .sh_offset = 64, .sh_size = UINT64_MAX - 63}));
        REFUSED(-E2BIG, (image.segments[0] = (Elf64_Phdr){.p_offset = 1, .p_filesz = IVG_IMAGE_BYTES_MAX}));
#undef REFUSED
        /* A 32-bit header is shorter than a 64-bit one: its class must be looked at before the rest. */
        const uint8_t narrow[52] = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB};
        expect_refusal(at_the_fence(narrow, sizeof narrow), -EINVAL);
        const uint8_t magic_only[5] = {0x7f, 'E', 'L', 'F', 0};
        expect_refusal(at_the_fence(magic_only, sizeof magic_only), -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(text_ends_at_its_nul),
                cmocka_unit_test(text_may_begin_like_a_magic_number),
                cmocka_unit_test(nothing_is_not_an_image),
                cmocka_unit_test(endless_text_is_refused),
                cmocka_unit_test(fatbin_is_header_and_what_follows),
                cmocka_unit_test(hostile_fatbins_are_refused),
                cmocka_unit_test(plain_wrapper_is_its_fatbin),
                cmocka_unit_test(linked_wrapper_carries_its_list),
                cmocka_unit_test(image_that_grows_while_copied_is_refused),
                cmocka_unit_test(hostile_wrappers_are_refused),
                cmocka_unit_test(elf_ends_with_its_furthest_part),
                cmocka_unit_test(elf_without_tables_is_its_header),
                cmocka_unit_test(elf_counts_sections_beyond_16_bits),
                cmocka_unit_test(hostile_elfs_are_refused),
        };
        return cmocka_run_group_tests(tests, map_fence, NULL);
}
