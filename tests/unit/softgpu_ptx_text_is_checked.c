/* Module text is hostile: every refusal names its line, every prefix and every mutation of good text is survived, and
 * what is refused leaves nothing allocated. */
#include "softgpu_ptx.h"

#define HEAD ".version 8.0\n.target sm_75\n.address_size 64\n"
#define KERNEL(BODY) HEAD ".visible .entry k(.param .u64 p)\n{\n" BODY "}\n"

static void refuse(const char *text, enum ptx_status status, const char *message)
{
        struct device *device = calloc(1, sizeof(*device));
        enum ptx_status got = device_load_text(device, text, strlen(text));

        if (got != status || !strstr(device->log_text, message))
                fail_msg("%s\n%s: %s (wanted %s: %s)", text, ptx_status_name(got), device->log_text,
                         ptx_status_name(status), message);
        assert_null(device->module);
        assert_int_equal(device->range_count, 0);
        free(device);
}

static void accept(const char *text)
{
        struct device *device = calloc(1, sizeof(*device));

        if (device_load_text(device, text, strlen(text)) != PTX_OK)
                fail_msg("%s\n%s", text, device->log_text);
        ptx_unload(device->module);
        assert_int_equal(device->range_count, 0);
        free(device);
}

static void good_text_is_accepted(void **unused)
{
        (void)unused;
        accept(HEAD);
        accept(KERNEL("ret;\n"));
        accept(KERNEL(".reg .b32 %r<3>; .reg .pred t; mov.u32 %r1, 5; setp.eq.s32 t, %r1, 4; @!t bra L; L: exit;\n"));
        accept(KERNEL("{ .reg .b32 x; mov.b32 x, 1; L: { .reg .b32 x; mov.b32 x, 2; bra M; } M: }\n"));
        accept(HEAD ".global .f64 d[2] = {1.5, -2.0};\n/* a comment\n */ .file 1 \"x.cu\", 12, 13\n.section .debug { "
                    ".b8 1 }\n");
        accept(HEAD "/* a comment that never ends");
}

static void initialisers_have_their_values(void **unused)
{
        static const char text[] = HEAD ".global .align 8 .u64 a[2][2] = {{1, 2}, {3}};\n"
                                        ".global .u64 b = generic(a)+8;\n"
                                        ".global .align 8 .b8 c[8] = {0xFF(a), 0xFF00(a), 7, -1};\n"
                                        ".const .f32 f[2] = {0f3F800000, 2.5};\n"
                                        ".global .s16 s = -3;\n";
        struct device *device = calloc(1, sizeof(*device));
        void *address;
        size_t bytes;
        uint64_t *a;

        (void)unused;
        assert_int_equal(device_load_text(device, text, strlen(text)), PTX_OK);
        assert_true(ptx_global_find(device->module, "a", &address, &bytes));
        a = address;
        assert_true(bytes == 32 && a[0] == 1 && a[1] == 2 && a[2] == 3 && a[3] == 0);
        assert_true(ptx_global_find(device->module, "b", &address, &bytes));
        assert_int_equal(*(uint64_t *)address, ARGUMENT(&a[1]));
        assert_true(ptx_global_find(device->module, "c", &address, &bytes));
        assert_int_equal(((uint8_t *)address)[0], ARGUMENT(a) & 255);
        assert_int_equal(((uint8_t *)address)[1], ARGUMENT(a) >> 8 & 255);
        assert_true(((uint8_t *)address)[2] == 7 && ((uint8_t *)address)[3] == 255 && ((uint8_t *)address)[4] == 0);
        assert_true(ptx_global_find(device->module, "f", &address, &bytes));
        assert_true(((float *)address)[0] == 1.0f && ((float *)address)[1] == 2.5f);
        assert_true(ptx_global_find(device->module, "s", &address, &bytes));
        assert_int_equal(*(int16_t *)address, -3);
        device_close(device);
}

/* What nvcc does not write but the ISA allows: register parameters, guarded calls and returns, results that are not
 * used. */
static void functions_take_registers(void **unused)
{
        static const char text[] =
                HEAD ".func (.reg .u32 r, .param .b32 twice) f(.reg .u32 a, .param .b32 b)\n"
                     "{ .reg .b32 t; .reg .pred p; ld.param.u32 t, [b]; mov.u32 r, 7; st.param.b32 [twice], t;\n"
                     "setp.gt.u32 p, a, 20; @p ret; add.u32 r, a, t; add.u32 t, t, t; st.param.b32 [twice], t; }\n"
                     ".entry k(.param .u64 p) { .reg .b64 d, o; .reg .b32 x, y, z; .reg .pred q; .param .b32 b, c;\n"
                     "ld.param.u64 d, [p]; mov.u32 x, %tid.x; mul.wide.u32 o, x, 4; add.u64 d, d, o;\n"
                     "add.u32 y, x, 100; st.param.b32 [b], y; mov.u32 y, 1; mov.u32 z, 2; setp.ne.u32 q, x, 5;\n"
                     "@q call (y, c), f, (x, b); @!q bra L; ld.param.b32 z, [c]; L: call (_, c), f, (x, b);\n"
                     "mad.lo.u32 y, z, 1000, y; st.global.u32 [d], y; setp.lt.u32 q, x, 9; @q exit;\n"
                     "st.global.u32 [d+128], x; }\n";
        struct device *device = calloc(1, sizeof(*device));
        uint32_t *out;

        (void)unused;
        if (device_load_text(device, text, strlen(text)) != PTX_OK)
                fail_msg("%s", device->log_text);
        out = device_buffer(device, 256);
        RUN(device, "k", line(1, 32), ARGUMENT(out));
        for (uint32_t t = 0; t < 32; t++) {
                uint32_t y = t > 20 ? 7 : t + t + 100, z = t > 20 ? t + 100 : 2 * (t + 100);

                assert_int_equal(out[t], t == 5 ? 2001 : z * 1000 + y);
                assert_int_equal(out[32 + t], t < 9 ? 0 : t);
        }
        device_close(device);
}

static void mistakes_are_named(void **unused)
{
        (void)unused;
        refuse("", PTX_INVALID, "line 1");
        refuse("hello", PTX_INVALID, ".version expected, found 'hello'");
        refuse("\x7f"
               "ELF\x02\x01",
               PTX_INVALID, "byte 0x7f");
        refuse(".version 8.0\n", PTX_INVALID, "no .target");
        refuse(".version 8.0\n.target sm_75\n.address_size 32\n", PTX_UNSUPPORTED, "address size 32");
        refuse(".version 8.0\n.target arm_7\n", PTX_UNSUPPORTED, "target 'arm_7'");
        refuse(KERNEL("frobnicate.u32 %r1;\n"), PTX_INVALID, "%r1");
        refuse(KERNEL(".reg .b32 %r<2>; frobnicate.u32 %r1;\n"), PTX_UNSUPPORTED, "'frobnicate.u32'");
        refuse(KERNEL(".reg .b32 %r<2>; add.u32 %r1, %r1, %r2;\n"), PTX_INVALID, "'%r2' is no register");
        refuse(KERNEL(".reg .b32 %r<2>; add.u32 %r1, %r1, x;\n"), PTX_INVALID, "'x' is not declared");
        refuse(KERNEL(".reg .b32 %r<2>; .reg .b64 d; add.u32 %r1, %r1, d;\n"), PTX_INVALID, "does not fit .u32");
        refuse(KERNEL(".reg .b32 %r<2>; add.u32 %r1, %r1;\n"), PTX_INVALID, "2 operands");
        refuse(KERNEL(".reg .b32 %r<2>; add.u32.frob %r1, %r1, 1;\n"), PTX_UNSUPPORTED, "add.u32.frob");
        refuse(KERNEL(".reg .b32 %r<2>; add.uni.u32 %r1, %r1, 1;\n"), PTX_UNSUPPORTED, "combination of modifiers");
        refuse(KERNEL(".reg .b32 %r<2>; add %r1, %r1, 1;\n"), PTX_INVALID, "needs a type");
        refuse(KERNEL(".reg .b32 %r<2>; add.u32 %r1, %r1, 1\n"), PTX_INVALID, "';' expected");
        refuse(KERNEL(".reg .b32 %r<2>; mov.u32 3, %r1;\n"), PTX_INVALID, "does not fit");
        refuse(KERNEL("bra L;\n"), PTX_INVALID, "label 'L' is not defined");
        refuse(KERNEL("{ L: } bra L;\n"), PTX_INVALID, "label 'L' is not defined");
        refuse(KERNEL("L: L: ret;\n"), PTX_INVALID, "'L' is declared twice");
        refuse(KERNEL(".reg .b32 %r<2>; .reg .b32 %r<4>;\n"), PTX_INVALID, "'%r' is declared twice");
        refuse(KERNEL(".reg .b32 r; @r bra L; L: ret;\n"), PTX_INVALID, "predicate register expected");
        refuse(KERNEL(".reg .b64 d; ld.param.u64 d, [q];\n"), PTX_INVALID, "'q' is not declared");
        refuse(KERNEL(".reg .b64 d; st.param.u64 [p], d;\n"), PTX_UNSUPPORTED, "cannot be written");
        refuse(KERNEL(".reg .b64 d; st.const.u64 [d], d;\n"), PTX_UNSUPPORTED, "constants cannot be written");
        refuse(KERNEL(".reg .f32 f<5>; tex.2d.v4.f32.f32 {f1,f2,f3,f4}, [t, {f1, f2}];\n"), PTX_INVALID, "line 6");
        refuse(KERNEL(".reg .b64 d; .reg .f32 f; suld.b.1d.b32.trap f, d;\n"), PTX_UNSUPPORTED, "'suld.b.1d.b32.trap'");
        refuse(KERNEL(".reg .b32 r; .reg .b64 d; mbarrier.init.shared.b64 [d], r;\n"), PTX_UNSUPPORTED,
               "mbarrier.init");
        refuse(KERNEL(".reg .b32 r; shfl.down.b32 r, r, 1, 31;\n"), PTX_UNSUPPORTED, ".sync");
        refuse(KERNEL(".reg .b32 r; .reg .f32 f; cvt.s32.f32 r, f;\n"), PTX_UNSUPPORTED, "rounding to integer");
        refuse(KERNEL("call f, ();\n"), PTX_INVALID, "no function");
        refuse(HEAD ".extern .func f;\n.entry k() { call f; }\n", PTX_UNSUPPORTED, "'f' is not defined");
        refuse(HEAD ".func f(.param .b32 x) { ret; }\n.entry k() { call f; }\n", PTX_INVALID, "parameters of 'f'");
        refuse(HEAD ".entry k() { call k; }\n", PTX_INVALID, "parameters of 'k'");
        refuse(HEAD ".entry k() { ret; }\n.entry k() { ret; }\n", PTX_INVALID, "'k' is defined twice");
        refuse(HEAD ".global .u32 x; .global .u32 x;\n", PTX_INVALID, "'x' is declared twice");
        refuse(HEAD ".extern .global .u32 x;\n.entry k() { .reg .b64 d; mov.u64 d, x; }\n", PTX_INVALID,
               "'x' is not defined");
        refuse(HEAD ".global .samplerref t;\n", PTX_UNSUPPORTED, "'.samplerref'");
        refuse(HEAD ".shared .texref t;\n", PTX_UNSUPPORTED, "'t': a reference");
        refuse(HEAD ".global .texref t[2];\n", PTX_UNSUPPORTED, "'t': a reference");
        refuse(HEAD ".global .surfref t;\n.entry k() { .reg .f32 f<5>; tex.1d.v4.f32.f32 {f1,f2,f3,f4}, [t, {f1}]; }\n",
               PTX_UNSUPPORTED, "the object");
        refuse(HEAD ".global .texref t;\n.entry k() { .reg .b64 d; mov.u64 d, t; }\n", PTX_UNSUPPORTED, "the address");
        refuse(KERNEL(".reg .b64 d; .reg .f32 f<5>; tex.2d.v4.f32.f32 {f1,f2,f3,f4}, [d, {f1}];\n"), PTX_UNSUPPORTED,
               "another number of coordinates");
        refuse(KERNEL(".reg .b64 d; .reg .f32 f<5>; tex.cube.v4.f32.f32 {f1,f2,f3,f4}, [d, {f1,f2,f3,f4}];\n"),
               PTX_UNSUPPORTED, "tex.cube");
        refuse(KERNEL(".reg .b64 d; .reg .f32 f; ld.f32 f, [d, {f}];\n"), PTX_INVALID, "'ld.f32'");
        refuse(HEAD ".global .u32 x[2] = {1, 2, 3};\n", PTX_INVALID, "more than 2");
        refuse(HEAD ".global .u64 x = y;\n", PTX_INVALID, "'y'");
        refuse(HEAD ".global .align 3 .u32 x;\n", PTX_INVALID, "alignment 3");
        refuse(HEAD ".alias a, b;\n", PTX_UNSUPPORTED, "'.alias'");
        refuse(HEAD ".entry k() .frob { ret; }\n", PTX_UNSUPPORTED, "'.frob'");
        refuse(HEAD ".entry k(.param .texref t) { ret; }\n", PTX_UNSUPPORTED, "'.texref'");
}

static void limits_are_named(void **unused)
{
        static const char *const pieces[] = {"{ ", "} "};
        char *text = malloc(1 << 20);
        size_t used;

        (void)unused;
        refuse(HEAD ".shared .b8 x[300000];\n.entry k() { ret; }\n", PTX_INVALID, "limit");
        refuse(HEAD ".global .b8 x[99999999999];\n", PTX_INVALID, "over the limit");
        refuse(HEAD ".global .b8 x[65536][65536][65536];\n", PTX_INVALID, "array over");
        refuse(KERNEL(".local .b8 x[600000];\n"), PTX_UNSUPPORTED, "local memory of 'k'");
        refuse(KERNEL(".reg .b32 %r<99999999>;\n"), PTX_INVALID, "over the limit");
        refuse(KERNEL(".reg .b32 %r<16000000>; .reg .b32 %q<16000000>;\n"), PTX_UNSUPPORTED, "declares more than");
        refuse(HEAD ".entry k(.param .b8 x[40000]) { ret; }\n", PTX_UNSUPPORTED, "parameters of 'k' exceed");
        refuse(HEAD ".entry k(.param .b8 x[99999999]) { ret; }\n", PTX_INVALID, "over the limit");
        for (unsigned which = 0; which < 2; which++) {
                used = (size_t)sprintf(text, "%s", HEAD ".entry k() {");
                for (int i = 0; i < 100; i++)
                        used += (size_t)sprintf(text + used, "%s", pieces[which]);
                if (which == 0)
                        refuse(text, PTX_INVALID, "nested scopes");
                else
                        refuse(text, PTX_INVALID, "directive expected");
        }
        used = (size_t)sprintf(text, "%s", HEAD ".global .u32 ");
        memset(text + used, 'n', 20000);
        strcpy(text + used + 20000, ";\n");
        refuse(text, PTX_INVALID, "name of a variable expected");
        used = (size_t)sprintf(text, "%s", HEAD ".entry k() { .reg .b32 r; add");
        for (int i = 0; i < 40; i++)
                used += (size_t)sprintf(text + used, ".rn");
        strcpy(text + used, " r, r, r; }");
        refuse(text, PTX_INVALID, "modifiers");
        used = (size_t)sprintf(text, "%s", HEAD ".global .u32 x[4] = ");
        for (int i = 0; i < 3000; i++)
                used += (size_t)sprintf(text + used, "{");
        refuse(text, PTX_INVALID, "nested over");
        free(text);
}

/* Loads `bytes` bytes of text that may be anything; returns whether it was accepted. */
static bool survives(const char *text, size_t bytes)
{
        struct device *device = calloc(1, sizeof(*device));
        char *exact = malloc(bytes ? bytes : 1); /* so that a sanitizer sees one byte too many */
        enum ptx_status status;

        memcpy(exact, text, bytes);
        status = device_load_text(device, exact, bytes);
        if (status != PTX_OK) {
                assert_null(device->module);
                assert_true(device->log_text[0] != '\0');
        }
        ptx_unload(device->module);
        assert_int_equal(device->range_count, 0);
        free(exact);
        free(device);
        return status == PTX_OK;
}

static void every_prefix_is_survived(void **unused)
{
        size_t bytes, accepted = 0;
        char *text = read_text(SOFTGPU_PTX "/half.ptx", &bytes);

        (void)unused;
        for (size_t length = 0; length < bytes; length += length < 3000 ? 1 : 211)
                accepted += survives(text, length);
        /* Only cuts between two functions are modules. */
        assert_true(accepted > 0 && accepted < 600);
        assert_true(survives(text, bytes));
        free(text);
}

static void mutations_are_survived(void **unused)
{
        static const char *const files[] = {"programs.ptx", "half.ptx", "fast_math.ptx", "integer.ptx"};
        uint64_t state = 40;

        (void)unused;
        for (unsigned f = 0; f < 4; f++) {
                char path[512];
                size_t bytes;
                char *text;
                char *mutant;

                snprintf(path, sizeof(path), "%s/%s", SOFTGPU_PTX, files[f]);
                text = read_text(path, &bytes);
                if (bytes > 40000)
                        bytes = 40000;
                mutant = malloc(bytes);
                for (int round = 0; round < 250; round++) {
                        memcpy(mutant, text, bytes);
                        for (uint64_t n = next_random(&state) % 8; n < 8; n++) {
                                size_t at = next_random(&state) % bytes, from = next_random(&state) % bytes;
                                size_t length = next_random(&state) % 40;

                                if (at + length > bytes || from + length > bytes)
                                        continue;
                                if (next_random(&state) & 1)
                                        memmove(mutant + at, text + from, length);
                                else
                                        mutant[at] = (char)next_random(&state);
                        }
                        survives(mutant, bytes);
                }
                free(mutant);
                free(text);
        }
}

static void random_bytes_are_survived(void **unused)
{
        static const char words[][20] = {".version ",
                                         "8.0 ",
                                         ".target ",
                                         "sm_80 ",
                                         ".entry ",
                                         "k",
                                         "(",
                                         ")",
                                         "{",
                                         "}",
                                         ".reg ",
                                         ".b32 ",
                                         "%r",
                                         "<5>",
                                         ";",
                                         "add.u32 ",
                                         "%r1",
                                         ",",
                                         "@",
                                         "!",
                                         "L:",
                                         "bra L",
                                         ".param ",
                                         "[",
                                         "]",
                                         "call ",
                                         "ret",
                                         ".func ",
                                         "0x",
                                         "1e9",
                                         "0f3F",
                                         "\"",
                                         "/*",
                                         "*/",
                                         "//",
                                         "\n",
                                         "-",
                                         "+",
                                         ".global ",
                                         "=",
                                         ".align ",
                                         "generic",
                                         ".v4",
                                         "|",
                                         "%tid",
                                         ".x",
                                         "ld.global.v4.f32 "};
        uint64_t state = 41;

        (void)unused;
        for (int round = 0; round < 2000; round++) {
                char text[512] = ".version 8.0\n.target sm_80\n";
                size_t used = round & 1 ? strlen(text) : 0;

                while (used < sizeof(text) - 20) {
                        const char *word = words[next_random(&state) % (sizeof(words) / sizeof(words[0]))];

                        if (next_random(&state) % 20 == 0) {
                                text[used++] = (char)next_random(&state);
                        } else {
                                memcpy(text + used, word, strlen(word));
                                used += strlen(word);
                        }
                }
                survives(text, used);
        }
}

static void a_small_log_is_cut(void **unused)
{
        struct device *device = calloc(1, sizeof(*device));
        const struct ptx_allocator allocator = {device_allocate, device_release, device};
        char small[16];
        struct ptx_log log = {small, sizeof(small), 0};
        struct ptx_module *module;

        (void)unused;
        assert_int_equal(ptx_load("garbage", 7, &allocator, &log, &module), PTX_INVALID);
        assert_int_equal(log.used, 15);
        assert_int_equal(strlen(small), 15);
        assert_int_equal(ptx_load("garbage", 7, &allocator, NULL, &module), PTX_INVALID);
        free(device);
}

static void *allocate_nothing(void *user, size_t bytes, size_t alignment)
{
        (void)user;
        (void)bytes;
        (void)alignment;
        return NULL;
}

static void storage_can_be_refused(void **unused)
{
        const struct ptx_allocator allocator = {allocate_nothing, NULL, NULL};
        static const char text[] = HEAD ".global .u32 x;\n";
        struct ptx_module *module;

        (void)unused;
        assert_int_equal(ptx_load(text, strlen(text), &allocator, NULL, &module), PTX_OUT_OF_MEMORY);
        assert_null(module);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(good_text_is_accepted),    cmocka_unit_test(initialisers_have_their_values),
                cmocka_unit_test(functions_take_registers), cmocka_unit_test(mistakes_are_named),
                cmocka_unit_test(limits_are_named),         cmocka_unit_test(every_prefix_is_survived),
                cmocka_unit_test(mutations_are_survived),   cmocka_unit_test(random_bytes_are_survived),
                cmocka_unit_test(a_small_log_is_cut),       cmocka_unit_test(storage_can_be_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
