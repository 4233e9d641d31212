/* Advice about managed memory, piece by piece, against an array with one entry for each page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "memory.h"
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#define PAGES 96u
#define BASE 0x10000000ull
#define ROUNDS 20000u

static struct {
        bool managed;
        int preferred; /* id + 1 of a location; 0: none */
} model[PAGES];

static uint64_t at(uint32_t page)
{
        return BASE + page * (uint64_t)IVG_PAGE_BYTES;
}

static void prefer(struct ivg_advice *advice, const void *arg)
{
        const int id = *(const int *)arg;

        advice->preferred = (CUmemLocation){id ? CU_MEM_LOCATION_TYPE_DEVICE : CU_MEM_LOCATION_TYPE_INVALID, id};
}

struct seen {
        uint32_t pieces;
        int first;
        bool same;
};

static void look(const struct ivg_advice *advice, void *arg)
{
        struct seen *seen = arg;

        if (seen->pieces++ == 0) {
                seen->first = advice->preferred.id;
                seen->same = true;
        }
        seen->same = seen->same && advice->preferred.id == seen->first;
}

static void change_and_compare(uint32_t first, uint32_t count)
{
        const int id = rand() % 4;
        bool covered = true, same = true;
        struct seen seen = {.pieces = 0};
        /* Inside the first and the last page: whole pages are meant. */
        const uint64_t address = at(first) + (uint64_t)(rand() % 100), bytes = count * (uint64_t)IVG_PAGE_BYTES - 200;
        CUresult result;

        for (uint32_t i = first; i < first + count; i++)
                covered = covered && i < PAGES && model[i].managed;
        if (rand() % 2) {
                assert_int_equal(ivg_advice_change(address, bytes, prefer, &id),
                                 covered ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
                for (uint32_t i = first; covered && i < first + count; i++)
                        model[i].preferred = id;
        }
        result = ivg_advice_read(address, bytes, look, &seen);
        assert_int_equal(result, covered ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
        if (!covered) {
                assert_int_equal(seen.pieces, 0);
                return;
        }
        for (uint32_t i = first; i < first + count; i++)
                same = same && model[i].preferred == model[first].preferred;
        assert_true(seen.pieces > 0 && seen.pieces <= count);
        assert_int_equal(seen.first, model[first].preferred);
        assert_int_equal(seen.same, same);
}

static void begin_or_end(void)
{
        /* Blocks of 8 pages come and go as a whole, as allocations do. */
        const uint32_t block = (uint32_t)rand() % (PAGES / 8) * 8;

        if (model[block].managed)
                ivg_advice_end(at(block), at(block + 8));
        else
                assert_int_equal(ivg_advice_begin(at(block), at(block + 8)), CUDA_SUCCESS);
        for (uint32_t i = block; i < block + 8; i++) {
                model[i].managed = !model[i].managed;
                model[i].preferred = 0;
        }
}

static void pieces_agree_with_pages(void **state)
{
        (void)state;
        srand(7);
        for (uint32_t round = 0; round < ROUNDS; round++) {
                if (rand() % 16 == 0)
                        begin_or_end();
                else
                        change_and_compare((uint32_t)rand() % PAGES, 1 + (uint32_t)rand() % 20);
        }
}

static void odd_ranges_are_refused(void **state)
{
        struct seen seen = {.pieces = 0};

        (void)state;
        assert_int_equal(ivg_advice_read(BASE, 0, look, &seen), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(ivg_advice_read(UINT64_MAX - 10, 100, look, &seen), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(ivg_advice_read(UINT64_MAX - 10, 5, look, &seen), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(seen.pieces, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(pieces_agree_with_pages),
                cmocka_unit_test(odd_ranges_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
