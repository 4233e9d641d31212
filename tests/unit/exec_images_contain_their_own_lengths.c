/* What may be handed to a driver that is told no length: every cut and every lie about lengths is refused before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "jit.h"
#include <cmocka.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>

/* An exact allocation for each cut, so that a read past it is seen by AddressSanitizer. */
static bool contained(const void *image, size_t bytes)
{
        uint8_t *copy = malloc(bytes ? bytes : 1);
        bool answer;

        assert_non_null(copy);
        memcpy(copy, image, bytes);
        answer = ivg_image_contained(copy, (uint32_t)bytes);
        free(copy);
        return answer;
}

static void every_cut_is_refused(const void *image, size_t bytes)
{
        for (size_t cut = 0; cut < bytes; cut++)
                assert_false(contained(image, cut));
        assert_true(contained(image, bytes));
}

static void fatbins(void **state)
{
        struct {
                uint32_t magic;
                uint16_t version, header_bytes;
                uint64_t payload_bytes;
                uint8_t payload[40];
        } fatbin = {.magic = 0xBA55ED50u, .version = 1, .header_bytes = 16, .payload_bytes = 40};

        (void)state;
        every_cut_is_refused(&fatbin, sizeof(fatbin));
        fatbin.payload_bytes = UINT64_MAX - 8; /* wraps with the header */
        assert_false(contained(&fatbin, sizeof(fatbin)));
        fatbin.payload_bytes = 8;
        fatbin.header_bytes = 8; /* below itself */
        assert_false(contained(&fatbin, sizeof(fatbin)));
}

static void elf_files(void **state)
{
        struct {
                Elf64_Ehdr header;
                Elf64_Shdr sections[2];
                uint8_t data[32];
        } elf;

        (void)state;
        memset(&elf, 0, sizeof(elf));
        memcpy(elf.header.e_ident, ELFMAG, SELFMAG);
        elf.header.e_ident[EI_CLASS] = ELFCLASS64;
        elf.header.e_ident[EI_DATA] = ELFDATA2LSB;
        elf.header.e_shoff = offsetof(typeof(elf), sections);
        elf.header.e_shnum = 2;
        elf.header.e_shentsize = sizeof(Elf64_Shdr);
        elf.sections[1] = (Elf64_Shdr){
                .sh_type = SHT_PROGBITS, .sh_offset = offsetof(typeof(elf), data), .sh_size = sizeof(elf.data)};
        every_cut_is_refused(&elf, sizeof(elf));
        elf.sections[1].sh_size = UINT64_MAX - 16;
        assert_false(contained(&elf, sizeof(elf)));
        elf.sections[1].sh_type = SHT_NOBITS; /* takes no room in the file */
        assert_true(contained(&elf, sizeof(elf)));
        elf.header.e_shnum = 60000;
        assert_false(contained(&elf, sizeof(elf)));
        elf.header.e_shnum = 2;
        elf.header.e_shoff = UINT64_MAX - 64;
        assert_false(contained(&elf, sizeof(elf)));
        elf.header.e_shoff = offsetof(typeof(elf), sections);
        elf.header.e_shentsize = 1;
        assert_false(contained(&elf, sizeof(elf)));
}

/* Found by the fuzz target `images`: lengths that only the guest's measure looked at. */
static void elf_files_of_many_sections_and_of_segments(void **state)
{
        struct {
                Elf64_Ehdr header;
                Elf64_Shdr sections[2];
                Elf64_Phdr segment;
        } elf;

        (void)state;
        memset(&elf, 0, sizeof(elf));
        memcpy(elf.header.e_ident, ELFMAG, SELFMAG);
        elf.header.e_ident[EI_CLASS] = ELFCLASS64;
        elf.header.e_ident[EI_DATA] = ELFDATA2LSB;
        elf.header.e_phoff = offsetof(typeof(elf), segment);
        elf.header.e_phnum = 1;
        elf.header.e_phentsize = sizeof(Elf64_Phdr);
        elf.segment = (Elf64_Phdr){.p_offset = 64, .p_filesz = sizeof(elf) - 64};
        every_cut_is_refused(&elf, sizeof(elf));
        elf.segment.p_filesz++;
        assert_false(contained(&elf, sizeof(elf)));
        elf.segment = (Elf64_Phdr){.p_offset = UINT64_MAX - 7, .p_filesz = 16};
        assert_false(contained(&elf, sizeof(elf)));
        elf.segment = (Elf64_Phdr){.p_offset = 0};
        elf.header.e_phoff = 0; /* where the driver begins to read is anyone's guess */
        assert_false(contained(&elf, sizeof(elf)));
        elf.header.e_phnum = 0;
        elf.header.e_shoff = offsetof(typeof(elf), sections);
        elf.header.e_shentsize = sizeof(Elf64_Shdr);
        elf.sections[0].sh_size = 2; /* how many there are */
        assert_true(contained(&elf, sizeof(elf)));
        elf.sections[1] = (Elf64_Shdr){.sh_type = SHT_PROGBITS, .sh_offset = 64, .sh_size = sizeof(elf)};
        assert_false(contained(&elf, sizeof(elf)));
        elf.sections[0].sh_size = 3000;
        assert_false(contained(&elf, sizeof(elf)));
        elf.sections[0].sh_size = UINT64_MAX / 32;
        assert_false(contained(&elf, sizeof(elf)));
        elf.header.e_shoff = 0;
        elf.header.e_shnum = 2;
        assert_false(contained(&elf, sizeof(elf)));
        elf.header.e_shnum = 0;
        elf.header.e_ident[EI_DATA] = ELFDATA2MSB;
        assert_false(contained(&elf, sizeof(elf)));
}

static void texts(void **state)
{
        const char text[] = "// \xc3\xa4\n.version 7.5\n\t.target sm_75\n";
        uint64_t wrapper[3] = {0x1466243B1ull, 0x1234, 0}; /* holds an address of this process */
        const char binary[] = "abc\x01\x02\x03";
        /* Text up to its NUL, and a wrapper with an address all the same: found by the fuzz target `images`. */
        const char text_and_wrapper[] = "\xb1"
                                        "CbF\t\0\0\0\x10\x20\x30\x40\x55\x55\0\0\0\0\0\0\0\0\0";

        (void)state;
        assert_false(contained(text_and_wrapper, sizeof(text_and_wrapper)));
        every_cut_is_refused(text, sizeof(text));
        assert_false(contained(wrapper, sizeof(wrapper)));
        assert_false(contained(binary, sizeof(binary)));
        assert_false(contained("\0\0\0\0", 4));
        assert_false(ivg_image_contained(NULL, 100));
}

static void options_with_addresses_do_not_pass(void **state)
{
        struct ivg_wire_jit_option option = {.value = 0x1234};
        struct ivg_wire_jit_option many[IVG_JIT_OPTIONS_MAX];
        struct ivg_jit jit;
        uint32_t passed = 0;

        (void)state;
        for (option.option = 0; option.option < 64; option.option++) {
                const CUresult result = ivg_jit_begin(&jit, &option, 1);

                passed += result == CUDA_SUCCESS;
                if (option.option >= CU_JIT_NUM_OPTIONS)
                        assert_int_equal(result, CUDA_ERROR_INVALID_VALUE);
        }
        assert_int_equal(passed, 24);
        for (uint32_t address = CU_JIT_INFO_LOG_BUFFER; address <= CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES; address++) {
                option.option = address;
                assert_int_equal(ivg_jit_begin(&jit, &option, 1), CUDA_ERROR_NOT_SUPPORTED);
        }
        option.option = CU_JIT_GLOBAL_SYMBOL_ADDRESSES;
        assert_int_equal(ivg_jit_begin(&jit, &option, 1), CUDA_ERROR_NOT_SUPPORTED);
        memset(many, 0, sizeof(many));
        assert_int_equal(ivg_jit_begin(&jit, many, IVG_JIT_OPTIONS_MAX), CUDA_ERROR_INVALID_VALUE);
}

static void logs_are_cut_with_their_nul(void **state)
{
        char target[8];

        (void)state;
        memset(target, 'x', sizeof(target));
        assert_int_equal(ivg_jit_copy_log(target, 4, "abcdefg", 8), 3);
        assert_string_equal(target, "abc");
        assert_int_equal(target[4], 'x');
        assert_int_equal(ivg_jit_copy_log(target, sizeof(target), "abcdefg", 2), 2); /* without NUL in its length */
        assert_string_equal(target, "ab");
        assert_int_equal(ivg_jit_copy_log(NULL, 8, "abc", 4), 0);
        assert_int_equal(ivg_jit_copy_log(target, 0, "abc", 4), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(fatbins),
                cmocka_unit_test(elf_files),
                cmocka_unit_test(elf_files_of_many_sections_and_of_segments),
                cmocka_unit_test(texts),
                cmocka_unit_test(options_with_addresses_do_not_pass),
                cmocka_unit_test(logs_are_cut_with_their_nul),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
