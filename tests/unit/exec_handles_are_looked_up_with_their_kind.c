/* The executor's table of numbers: kinds, malformed and taken numbers, contexts' ends, per-thread streams, threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_fixture.h"
#include "rcu.h"
#include <cmocka.h>

static struct ivg_exec_call call_in(struct exec_fixture *f, ivg_id context)
{
        return (struct ivg_exec_call){.exec = f->exec, .context = context, .producer = 5};
}

static void a_number_is_found_with_its_kind_only(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_exec_call call = call_in(f, FIXTURE_CONTEXT);
        void *handle = NULL;
        int object;

        assert_true(ivg_handle_put(&call, IVG_KIND_EVENT, 1000, &object));
        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_EVENT, 1000, &handle), CUDA_SUCCESS);
        assert_ptr_equal(handle, &object);
        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_STREAM, 1000, &handle), CUDA_ERROR_INVALID_HANDLE);
        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_EVENT, 1001, &handle), CUDA_ERROR_INVALID_HANDLE);
        assert_null(ivg_handle_remove(f->exec, IVG_KIND_STREAM, 1000));
        assert_ptr_equal(ivg_handle_remove(f->exec, IVG_KIND_EVENT, 1000), &object);
        assert_null(ivg_handle_remove(f->exec, IVG_KIND_EVENT, 1000));
        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_EVENT, 1000, &handle), CUDA_ERROR_INVALID_HANDLE);
        assert_int_equal(call.fault, IVG_FAULT_NONE);
}

static void *remove_elsewhere(void *exec)
{
        void *removed;

        urcu_memb_register_thread();
        removed = ivg_handle_remove(exec, IVG_KIND_EVENT, 1000);
        urcu_memb_unregister_thread();
        return removed;
}

/* Threads keep what they have found: never beyond the handle's end, whoever ends it. */
static void a_number_is_not_found_after_its_end(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_exec_call call = call_in(f, FIXTURE_CONTEXT);
        void *handle = NULL;
        int first, second;
        pthread_t remover;

        for (uint32_t turn = 0; turn < 3; turn++) {
                void *object = turn % 2 == 0 ? &first : &second;

                assert_true(ivg_handle_put(&call, IVG_KIND_EVENT, 1000, object));
                for (uint32_t look = 0; look < 2; look++) {
                        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_EVENT, 1000, &handle), CUDA_SUCCESS);
                        assert_ptr_equal(handle, object);
                        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_STREAM, 1000, &handle),
                                         CUDA_ERROR_INVALID_HANDLE);
                        /* In the same place of what is kept. */
                        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_EVENT, 1000 + 4096, &handle),
                                         CUDA_ERROR_INVALID_HANDLE);
                }
                if (turn == 0)
                        assert_ptr_equal(ivg_handle_remove(f->exec, IVG_KIND_EVENT, 1000), object);
                if (turn == 1) {
                        assert_int_equal(pthread_create(&remover, NULL, remove_elsewhere, f->exec), 0);
                        assert_int_equal(pthread_join(remover, &handle), 0);
                        assert_ptr_equal(handle, object);
                }
                if (turn == 2)
                        ivg_handles_remove_context(f->exec, FIXTURE_CONTEXT);
                assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_EVENT, 1000, &handle), CUDA_ERROR_INVALID_HANDLE);
        }
}

static void a_taken_or_malformed_number_is_a_fault(void **state)
{
        struct exec_fixture *f = *state;
        const ivg_id malformed[] = {IVG_ID_NONE, IVG_ID_STREAM_LEGACY, IVG_ID_STREAM_PER_THREAD, IVG_ID_FIRST - 1,
                                    0x05000000u | IVG_ID_STREAM_LEGACY};
        struct ivg_exec_call call = call_in(f, FIXTURE_CONTEXT);

        assert_true(ivg_handle_put(&call, IVG_KIND_EVENT, 2000, &call));
        assert_false(ivg_handle_put(&call, IVG_KIND_EVENT, 2000, &call));
        assert_int_equal(call.fault, IVG_FAULT_HANDLE);
        assert_int_equal(call.fault_value, 2000);
        call.fault = IVG_FAULT_NONE;
        assert_false(ivg_handle_put(&call, IVG_KIND_MODULE, 2000, &call)); /* another kind does not help */
        assert_int_equal(call.fault, IVG_FAULT_HANDLE);
        for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
                call.fault = IVG_FAULT_NONE;
                assert_false(ivg_handle_put(&call, IVG_KIND_EVENT, malformed[i], &call));
                assert_int_equal(call.fault, IVG_FAULT_HANDLE);
        }
        /* The same index in another generation is another number. */
        call.fault = IVG_FAULT_NONE;
        assert_true(ivg_handle_put(&call, IVG_KIND_EVENT, 0x01000000u | 2000, &call));
}

static void a_whole_takes_its_parts_with_it(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_exec_call call = call_in(f, FIXTURE_CONTEXT);
        void *handle;

        assert_true(ivg_handle_put(&call, IVG_KIND_MIPMAP, 3000, &call));
        assert_true(ivg_handle_put_part(&call, IVG_KIND_ARRAY, 3001, &call, 3000));
        assert_true(ivg_handle_put_part(&call, IVG_KIND_ARRAY, 3002, &call, 3000));
        assert_true(ivg_handle_put_part(&call, IVG_KIND_TEXREF, 3003, &call, 4000));
        assert_true(ivg_handle_put(&call, IVG_KIND_ARRAY, 3004, &call));
        assert_non_null(ivg_handle_remove(f->exec, IVG_KIND_ARRAY, 3001)); /* a part may go by itself */
        assert_non_null(ivg_handle_remove(f->exec, IVG_KIND_MIPMAP, 3000));
        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_ARRAY, 3002, &handle), CUDA_ERROR_INVALID_HANDLE);
        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_TEXREF, 3003, &handle), CUDA_SUCCESS);
        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_ARRAY, 3004, &handle), CUDA_SUCCESS);
        ivg_handles_remove_parts(f->exec, IVG_ID_NONE); /* is nobody's whole */
        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_ARRAY, 3004, &handle), CUDA_SUCCESS);
        assert_true(ivg_handle_put(&call, IVG_KIND_MODULE, 4000, &call));
        assert_non_null(ivg_handle_remove(f->exec, IVG_KIND_MODULE, 4000));
        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_TEXREF, 3003, &handle), CUDA_ERROR_INVALID_HANDLE);
}

static void a_context_takes_its_objects_with_it(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_exec_call one = call_in(f, FIXTURE_CONTEXT), two = call_in(f, 900);
        void *handle;

        assert_true(ivg_handle_put(&one, IVG_KIND_EVENT, 3000, &one));
        assert_true(ivg_handle_put(&two, IVG_KIND_EVENT, 3001, &two));
        assert_true(ivg_handle_put(&one, IVG_KIND_LIBRARY, 3002, &one)); /* libraries outlive contexts */
        ivg_handles_remove_context(f->exec, FIXTURE_CONTEXT);
        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_EVENT, 3000, &handle), CUDA_ERROR_INVALID_HANDLE);
        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_EVENT, 3001, &handle), CUDA_SUCCESS);
        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_LIBRARY, 3002, &handle), CUDA_SUCCESS);
        assert_int_equal(ivg_handle_get(f->exec, IVG_KIND_CONTEXT, FIXTURE_CONTEXT, &handle), CUDA_SUCCESS);
}

static void each_guest_thread_and_context_has_its_default_stream(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_exec_call call = call_in(f, FIXTURE_CONTEXT);
        CUstream first, again, other_thread, other_context, legacy;
        const uint32_t made = atomic_load(&fake.streams_made);

        assert_int_equal(ivg_handle_stream(&call, IVG_ID_STREAM_PER_THREAD, &first), CUDA_SUCCESS);
        assert_int_equal(ivg_handle_stream(&call, IVG_ID_STREAM_PER_THREAD, &again), CUDA_SUCCESS);
        assert_ptr_equal(first, again);
        call.producer = 6;
        assert_int_equal(ivg_handle_stream(&call, IVG_ID_STREAM_PER_THREAD, &other_thread), CUDA_SUCCESS);
        assert_ptr_not_equal(first, other_thread);
        call.producer = 5;
        call.context = 901;
        assert_int_equal(ivg_handle_stream(&call, IVG_ID_STREAM_PER_THREAD, &other_context), CUDA_SUCCESS);
        assert_ptr_not_equal(first, other_context);
        assert_int_equal(atomic_load(&fake.streams_made), made + 3);

        assert_int_equal(ivg_handle_stream(&call, IVG_ID_STREAM_LEGACY, &legacy), CUDA_SUCCESS);
        assert_ptr_equal(legacy, CU_STREAM_LEGACY);
        assert_int_equal(ivg_handle_stream(&call, IVG_ID_NONE, &legacy), CUDA_ERROR_INVALID_HANDLE);

        /* Thread 5 ends: its stream of a live context is destroyed, the other thread keeps its own. */
        ivg_thread_streams_end(f->exec, 5);
        assert_int_equal(atomic_load(&fake.streams_destroyed), 1);
        call.context = FIXTURE_CONTEXT;
        assert_int_equal(ivg_handle_stream(&call, IVG_ID_STREAM_PER_THREAD, &again), CUDA_SUCCESS);
        assert_ptr_not_equal(first, again);
        call.producer = 6;
        assert_int_equal(ivg_handle_stream(&call, IVG_ID_STREAM_PER_THREAD, &again), CUDA_SUCCESS);
        assert_ptr_equal(again, other_thread);
}

static void a_thread_with_streams_in_too_many_contexts_is_told(void **state)
{
        struct exec_fixture *f = *state;
        struct ivg_exec_call call = call_in(f, 0);
        CUstream stream;

        for (uint32_t i = 0; i < IVG_THREAD_STREAMS_MAX; i++) {
                call.context = 5000 + i;
                assert_int_equal(ivg_handle_stream(&call, IVG_ID_STREAM_PER_THREAD, &stream), CUDA_SUCCESS);
        }
        call.context = 6000;
        assert_int_equal(ivg_handle_stream(&call, IVG_ID_STREAM_PER_THREAD, &stream), CUDA_ERROR_OUT_OF_MEMORY);
}

/* ---- threads ---- */

struct worker {
        struct exec_fixture *f;
        uint32_t first;
        uint32_t wrong;
};

static void *put_get_remove(void *argument)
{
        struct worker *worker = argument;
        struct ivg_exec_call call = call_in(worker->f, 0);

        urcu_memb_register_thread();
        for (uint32_t round = 0; round < 2000; round++) {
                const ivg_id id = worker->first + round % 16;
                void *handle = NULL;

                worker->wrong += !ivg_handle_put(&call, IVG_KIND_EVENT, id, worker);
                worker->wrong += ivg_handle_get(worker->f->exec, IVG_KIND_EVENT, id, &handle) != CUDA_SUCCESS;
                worker->wrong += handle != worker;
                /* Somebody else's number: there or not, never another's object. */
                if (ivg_handle_get(worker->f->exec, IVG_KIND_EVENT, id ^ 0x10000, &handle) == CUDA_SUCCESS)
                        worker->wrong += handle == worker;
                worker->wrong += ivg_handle_remove(worker->f->exec, IVG_KIND_EVENT, id) != worker;
        }
        urcu_memb_unregister_thread();
        return NULL;
}

static void threads_do_not_disturb_each_other(void **state)
{
        struct worker workers[2] = {{.f = *state, .first = 0x10000}, {.f = *state, .first = 0x20000}};
        pthread_t threads[2];

        workers[1].first = workers[0].first ^ 0x10000;
        workers[0].first |= 0x100, workers[1].first |= 0x100; /* clear of the fixture's */
        for (int i = 0; i < 2; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, put_get_remove, &workers[i]), 0);
        for (int i = 0; i < 2; i++)
                pthread_join(threads[i], NULL);
        assert_int_equal(workers[0].wrong + workers[1].wrong, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_number_is_found_with_its_kind_only, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_number_is_not_found_after_its_end, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_taken_or_malformed_number_is_a_fault, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(a_whole_takes_its_parts_with_it, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_context_takes_its_objects_with_it, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(each_guest_thread_and_context_has_its_default_stream, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(a_thread_with_streams_in_too_many_contexts_is_told, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(threads_do_not_disturb_each_other, fixture_setup, fixture_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
