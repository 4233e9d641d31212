/* Context-local storage: keys come and go, destructors run once and in order, readers never see another key's value. */
#include "guest.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void *key(uint32_t i)
{
        return (void *)(uintptr_t)(0x555500000000 + 16 * (uintptr_t)i);
}

static void *value(uint32_t i)
{
        return (void *)(uintptr_t)(0x777700000000 + (uintptr_t)i);
}

static void assert_there(struct ivg_context_storage *storage, uint32_t i)
{
        void *found = NULL;

        assert_int_equal(ivg_storage_get(storage, key(i), &found), CUDA_SUCCESS);
        assert_ptr_equal(found, value(i));
}

static void assert_missing(struct ivg_context_storage *storage, uint32_t i)
{
        void *found = storage;

        assert_int_equal(ivg_storage_get(storage, key(i), &found), CUDA_ERROR_INVALID_HANDLE);
        assert_ptr_equal(found, storage); /* untouched */
}

/* Storages live as long as the process: kept where the leak checker finds them. */
static struct ivg_context_storage *storages[8];
static uint32_t storages_count;

static struct ivg_context_storage *make(void)
{
        struct ivg_context_storage *storage = ivg_storage_create();

        assert_non_null(storage);
        storages[storages_count++] = storage;
        return storage;
}

static void keys_come_and_go(void **state)
{
        struct ivg_context_storage *storage = make();
        void *found;

        (void)state;
        assert_non_null(storage);
        assert_missing(storage, 0);
        assert_int_equal(ivg_storage_put(storage, NULL, value(0), NULL), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(ivg_storage_delete(storage, key(0)), CUDA_ERROR_INVALID_HANDLE);
        for (uint32_t i = 0; i < 1000; i++)
                assert_int_equal(ivg_storage_put(storage, key(i), value(i), NULL), CUDA_SUCCESS);
        for (uint32_t i = 0; i < 1000; i++)
                assert_there(storage, i);
        for (uint32_t i = 0; i < 1000; i += 3) /* holes in every probe */
                assert_int_equal(ivg_storage_delete(storage, key(i)), CUDA_SUCCESS);
        for (uint32_t i = 0; i < 1000; i++)
                if (i % 3 == 0)
                        assert_missing(storage, i);
                else
                        assert_there(storage, i);
        assert_int_equal(ivg_storage_put(storage, key(1), value(5), NULL), CUDA_SUCCESS);
        assert_int_equal(ivg_storage_get(storage, key(1), &found), CUDA_SUCCESS);
        assert_ptr_equal(found, value(5));
        /* NULL is a value like any other. */
        assert_int_equal(ivg_storage_put(storage, key(0), NULL, NULL), CUDA_SUCCESS);
        assert_int_equal(ivg_storage_get(storage, key(0), &found), CUDA_SUCCESS);
        assert_null(found);
        ivg_storage_end(storage, NULL);
        for (uint32_t i = 0; i < 1000; i++)
                assert_missing(storage, i);
}

static void storage_is_bounded(void **state)
{
        struct ivg_context_storage *storage = make();
        uint32_t i = 0;

        (void)state;
        while (i <= IVG_STORAGE_ENTRIES_MAX + 1 && ivg_storage_put(storage, key(i), value(i), NULL) == CUDA_SUCCESS)
                i++;
        assert_in_range(i, IVG_STORAGE_ENTRIES_MAX, IVG_STORAGE_ENTRIES_MAX + 1);
        assert_int_equal(ivg_storage_put(storage, key(i), value(i), NULL), CUDA_ERROR_OUT_OF_MEMORY);
        assert_there(storage, i - 1);
        ivg_storage_end(storage, NULL);
}

static struct ivg_context_storage *ending;
static uint32_t destructed;

static void check_order(CUcontext context, void *its_key, void *its_value)
{
        assert_ptr_equal(context, (CUcontext)0x42);
        assert_ptr_equal(its_key, key(destructed));
        assert_ptr_equal(its_value, value(destructed));
        destructed++;
        assert_missing(ending, destructed - 1); /* gone before it is called */
        if (destructed == 20)                   /* a destructor may put */
                assert_int_equal(ivg_storage_put(ending, key(20), value(20), check_order), CUDA_SUCCESS);
}

static void destructors_run_once_in_order(void **state)
{
        ending = make();
        (void)state;
        for (uint32_t i = 0; i < 20; i++)
                assert_int_equal(ivg_storage_put(ending, key(i), value(i), check_order), CUDA_SUCCESS);
        assert_int_equal(ivg_storage_put(ending, key(500), value(500), NULL), CUDA_SUCCESS);
        assert_int_equal(ivg_storage_put(ending, key(501), value(501), check_order), CUDA_SUCCESS);
        assert_int_equal(ivg_storage_delete(ending, key(501)), CUDA_SUCCESS); /* deleted: not called */
        ivg_storage_end(ending, (CUcontext)0x42);
        assert_int_equal(destructed, 21);
        ivg_storage_end(ending, (CUcontext)0x42);
        assert_int_equal(destructed, 21);
}

static _Atomic(uint32_t) writers_left;
static _Atomic(uint32_t) wrong_values, wrong_misses;

static void *write_keys(void *argument)
{
        struct ivg_context_storage *storage = argument;

        for (uint32_t round = 0; round < 300; round++) {
                for (uint32_t i = 8; i < 40; i++)
                        (void)ivg_storage_put(storage, key(i), value(i), NULL);
                for (uint32_t i = 8; i < 40; i++)
                        (void)ivg_storage_delete(storage, key(i));
        }
        atomic_fetch_sub(&writers_left, 1);
        return NULL;
}

static void *read_keys(void *argument)
{
        struct ivg_context_storage *storage = argument;
        void *found;

        while (atomic_load(&writers_left) != 0)
                for (uint32_t i = 0; i < 40; i++) {
                        const CUresult result = ivg_storage_get(storage, key(i), &found);

                        if (result == CUDA_SUCCESS && found != value(i))
                                atomic_fetch_add(&wrong_values, 1);
                        if (result != CUDA_SUCCESS && i < 8) /* these are always there */
                                atomic_fetch_add(&wrong_misses, 1);
                }
        return NULL;
}

static void readers_see_whole_states_only(void **state)
{
        struct ivg_context_storage *storage = make();
        pthread_t threads[4];

        (void)state;
        for (uint32_t i = 0; i < 8; i++)
                assert_int_equal(ivg_storage_put(storage, key(i), value(i), NULL), CUDA_SUCCESS);
        atomic_store(&writers_left, 2);
        for (uint32_t i = 0; i < 4; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, i < 2 ? write_keys : read_keys, storage), 0);
        for (uint32_t i = 0; i < 4; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(atomic_load(&wrong_values), 0);
        assert_int_equal(atomic_load(&wrong_misses), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(keys_come_and_go),
                cmocka_unit_test(storage_is_bounded),
                cmocka_unit_test(destructors_run_once_in_order),
                cmocka_unit_test(readers_see_whole_states_only),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
