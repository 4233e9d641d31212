/* The private tables: present with the measured lengths, known entries answer, unknown ones answer 0 and are counted.
 */
#include "cuda_api.h"
#include "guest_played_host.h"
#include "ivgpu/layout_table.h"

static struct played_host host;
static char said[32768];

/* As one writes it: "6bd5fb6c-5bf4-e74a-8987-d93912fd9df9", bytes in memory order. */
static const uintptr_t *table_of(const char *text)
{
        const void *table = &host;
        unsigned int byte;
        CUuuid uuid;

        for (int i = 0; i < 16; text++)
                if (*text != '-') {
                        REQUIRE(sscanf(text, "%2x", &byte) == 1);
                        uuid.bytes[i++] = (char)byte;
                        text++;
                }
        const CUresult result = cuGetExportTable(&table, &uuid);
        REQUIRE(result == (table != NULL ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND));
        return table;
}

static const struct {
        const char *uuid;
        uint32_t words;    /* 0: not found */
        bool length;       /* the first word is the length */
        const char *known; /* entries with a meaning, as ",1,2," */
} expected[] = {
        {"6bd5fb6c-5bf4-e74a-8987-d93912fd9df9", 13, true, ",1,2,6,7,8,12,"},
        {"42d85a81-23f6-cb47-8298-f6e78a3aecdc", 3, true, ",2,"},
        {"a094798c-2e74-2e74-93f2-0800200c0a66", 7, true, ",2,6,"},
        {"c693336e-1121-df11-a8c3-68f355d89593", 4, false, ",0,1,2,"},
        {"263e8860-7cd2-6143-92f6-bbd5006dfa7e", 15, true, ",2,3,"},
        {"d4082055-bde6-704b-8d34-ba123c66e1f2", 3, true, ",1,"},
        {"f8cff951-2146-8b4e-b9e2-fb469e7c0dd9", 3, true, ",1,"},
        {"21318c60-9714-3248-8ca6-41ff7324c8f2", 93, true, ",4,"},
        {"1734dc26-800d-4745-8726-c0f1e7dd8bca", 17, true, ",4,13,"},
        {"6e163fbe-b958-444d-835c-e182aff1991e", 99, true, ",7,"},
        {"69a28e9f-2449-8b47-b030-c5da330ea4e9", 0, false, ""},
        {"da9151d3-3ae6-cc41-a5c0-4f26d533e328", 0, false, ""},
        {"00000000-0000-0000-0000-000000000000", 0, false, ""},
};

static void tables_and_counts(void)
{
        char number[16], name[32];

        for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
                const uintptr_t *table = table_of(expected[i].uuid);

                REQUIRE((table != NULL) == (expected[i].words != 0));
                if (table == NULL)
                        continue;
                if (expected[i].length)
                        REQUIRE(table[0] == expected[i].words * sizeof(uintptr_t));
                for (uint32_t entry = expected[i].length; entry < expected[i].words; entry++) {
                        REQUIRE(table[entry] > 4096);
                        snprintf(number, sizeof(number), ",%u,", entry);
                        if (strstr(expected[i].known, number) != NULL)
                                continue;
                        CUresult (*call)(void *, void *, void *) = (CUresult(*)(void *, void *, void *))table[entry];

                        snprintf(name, sizeof(name), "%.8s[%u]", expected[i].uuid, entry);
                        REQUIRE(ivg_refused_count(name) == 0);
                        REQUIRE_RESULT(call(NULL, NULL, NULL), CUDA_SUCCESS);
                        REQUIRE_RESULT(call(NULL, NULL, NULL), CUDA_SUCCESS);
                        REQUIRE(ivg_refused_count(name) == 2);
                }
        }
}

static void tables_have_their_lengths_and_count_strangers(void **state)
{
        (void)state;
        played_scenario(tables_and_counts, said, sizeof(said));
        assert_int_equal(played_lines(said), 6 + 1 + 4 + 1 + 12 + 1 + 1 + 91 + 14 + 97); /* each stranger named once */
}

static void layout_is_asked_for_once(ivg_layout_get get, ivg_layout_free give_back)
{
        _Atomic(uint32_t) *asked = &host.calls[IVG_CALL_ivgDeviceLayout];
        uint8_t *place = NULL, *group = NULL;

        REQUIRE_RESULT(give_back(NULL, NULL), CUDA_SUCCESS);
        REQUIRE_RESULT(get(NULL, &group), CUDA_ERROR_INVALID_VALUE);
        /* The played host says more pairs than an answer holds, then none, then some. */
        REQUIRE_RESULT(get(&place, &group), CUDA_ERROR_NOT_SUPPORTED);
        REQUIRE_RESULT(get(&place, &group), CUDA_ERROR_NOT_SUPPORTED);
        REQUIRE(place == NULL && group == NULL && atomic_load(asked) == 2);
        for (int again = 0; again < 2; again++) {
                REQUIRE_RESULT(get(&place, &group), CUDA_SUCCESS);
                for (uint32_t i = 0; i < PLAYED_PAIRS; i++)
                        REQUIRE(place[i] == i % 3 && group[i] == i / 3);
                REQUIRE_RESULT(give_back(place, group), CUDA_SUCCESS);
        }
        REQUIRE(atomic_load(asked) == 3);
}

static void known_entries(void)
{
        uint32_t word = 5;
        uint64_t out[2] = {0, 0}, id = 0;
        unsigned long long context_id = 0;
        void *buffer = NULL;
        size_t count = 0;
        CUcontext context = NULL, current = NULL;

        played_host_start(&host);
        REQUIRE_RESULT(cuInit(0), CUDA_SUCCESS);
        const uintptr_t *runtime = table_of(expected[0].uuid), *tls = table_of(expected[1].uuid);
        const uintptr_t *hooks = table_of(expected[2].uuid), *questions = table_of(expected[4].uuid);
        const uintptr_t *check = table_of(expected[5].uuid), *log = table_of(expected[6].uuid);
        const uintptr_t *ids = table_of(expected[7].uuid), *layout = table_of(expected[8].uuid);

        REQUIRE_RESULT(((CUresult(*)(CUcontext *, CUdevice))runtime[2])(&context, 1), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxSetCurrent(context), CUDA_SUCCESS);
        REQUIRE_RESULT(((CUresult(*)(CUcontext *))tls[2])(&current), CUDA_SUCCESS);
        REQUIRE(current == context);
        REQUIRE_RESULT(((CUresult(*)(void *))runtime[7])(NULL), CUDA_SUCCESS);

        ((CUresult(*)(void **, size_t *))hooks[2])(&buffer, &count);
        REQUIRE(buffer != NULL && count == 1024);
        for (size_t i = 0; i < count; i++)
                REQUIRE(((uint32_t *)buffer)[i] == 0);
        ((CUresult(*)(void **, size_t *))hooks[6])(&buffer, &count);
        REQUIRE(buffer != NULL && count == 14);

        REQUIRE_RESULT(((CUresult(*)(CUcontext, uint32_t *, void **))questions[2])(NULL, &word, &buffer), 0);
        REQUIRE(word == 0);
        REQUIRE_RESULT(((CUresult(*)(void))questions[3])(), 0);
        REQUIRE_RESULT(((CUresult(*)(uint32_t, uint64_t, uint64_t *))check[1])(13000, 1700000000, out), CUDA_SUCCESS);
        REQUIRE(out[0] == 0x3341181C03CB675C && out[1] == 0x8ED383AA1F4CD1E8);
        REQUIRE_RESULT(((CUresult(*)(uint32_t, uint64_t, uint64_t *))check[1])(12082, 1700000000, out), CUDA_SUCCESS);
        REQUIRE(out[0] != 0x3341181C03CB675C && out[1] != 0x8ED383AA1F4CD1E8);
        REQUIRE_RESULT(((CUresult(*)(int, int, const char *))log[1])(1, 2, "%s"), CUDA_SUCCESS);
        REQUIRE_RESULT(((CUresult(*)(CUcontext, uint64_t *))ids[4])(context, &id), CUDA_SUCCESS);
        REQUIRE_RESULT(cuCtxGetId(context, &context_id), CUDA_SUCCESS);
        REQUIRE(id == context_id);
        layout_is_asked_for_once((ivg_layout_get)layout[IVG_LAYOUT_GET], (ivg_layout_free)layout[IVG_LAYOUT_FREE]);
}

static void known_entries_answer(void **state)
{
        (void)state;
        played_scenario(known_entries, said, sizeof(said));
        assert_int_equal(played_lines(said), 0);
}

static void errors_have_their_names(void **state)
{
        const char *text = NULL;

        (void)state;
        assert_int_equal(cuGetErrorName(CUDA_SUCCESS, &text), CUDA_SUCCESS);
        assert_string_equal(text, "CUDA_SUCCESS");
        assert_int_equal(cuGetErrorName(CUDA_ERROR_LAUNCH_FAILED, &text), CUDA_SUCCESS);
        assert_string_equal(text, "CUDA_ERROR_LAUNCH_FAILED");
        assert_int_equal(cuGetErrorString(CUDA_ERROR_OUT_OF_MEMORY, &text), CUDA_SUCCESS);
        assert_string_equal(text, "out of memory");
        assert_int_equal(cuGetErrorName((CUresult)998, &text), CUDA_ERROR_INVALID_VALUE);
        assert_null(text);
        assert_int_equal(cuGetErrorName(CUDA_SUCCESS, NULL), CUDA_ERROR_INVALID_VALUE);
        for (int error = -1; error <= 1000; error++) /* found by halving: all of them, or none */
                assert_int_equal(cuGetErrorName((CUresult)error, &text), cuGetErrorString((CUresult)error, &text));
        uint32_t names = 0;
        for (int error = 0; error <= 999; error++)
                names += cuGetErrorName((CUresult)error, &text) == CUDA_SUCCESS;
        assert_int_equal(names, 101); /* as many as cuda.h of 13.0 has */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(tables_have_their_lengths_and_count_strangers),
                cmocka_unit_test(known_entries_answer),
                cmocka_unit_test(errors_have_their_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
