/* Core dumps of kernels are files of the host: whatever a guest sends, the driver is never told to write or name one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_fixture.h"
#include <cmocka.h>

static _Atomic(uint32_t) reached; /* calls of the driver that would have changed something */
static _Atomic(uint64_t) last_value;

static CUresult spy_flags(unsigned int flags)
{
        atomic_fetch_add(&reached, 1);
        atomic_store(&last_value, flags);
        return CUDA_SUCCESS;
}

static CUresult spy_primary_flags(CUdevice device, unsigned int flags)
{
        (void)device;
        return spy_flags(flags);
}

static CUresult spy_get(CUcoredumpSettings attribute, void *value, size_t *size)
{
        (void)attribute;
        if (value)
                memset(value, 7, *size);
        *size = 4;
        return CUDA_SUCCESS;
}

static CUresult spy_set(CUcoredumpSettings attribute, void *value, size_t *size)
{
        uint32_t number = 0;

        (void)attribute;
        memcpy(&number, value, *size < sizeof(number) ? *size : sizeof(number));
        return spy_flags(number);
}

static struct exec_fixture *spied(void **state)
{
        struct exec_fixture *f = *state;

        f->exec->driver.cuCtxSetFlags = spy_flags;
        f->exec->driver.cuDevicePrimaryCtxSetFlags_v2 = spy_primary_flags;
        f->exec->driver.cuCoredumpGetAttribute = spy_get;
        f->exec->driver.cuCoredumpGetAttributeGlobal = spy_get;
        f->exec->driver.cuCoredumpSetAttribute = spy_set;
        f->exec->driver.cuCoredumpSetAttributeGlobal = spy_set;
        atomic_store(&reached, 0);
        return f;
}

static CUresult set_flags(struct exec_fixture *f, uint32_t flags)
{
        struct ivg_request_cuCtxSetFlags request = {.flags = flags};

        return fixture_call(f, &f->producer, IVG_CALL_cuCtxSetFlags, &request, sizeof(request), NULL, 0);
}

static void flags_of_contexts(void **state)
{
        struct exec_fixture *f = spied(state);
        struct ivg_request_cuDevicePrimaryCtxSetFlags_v2 primary = {.flags = CU_CTX_USER_COREDUMP_ENABLE};

        assert_int_equal(set_flags(f, CU_CTX_COREDUMP_ENABLE | CU_CTX_SCHED_SPIN), CUDA_ERROR_NOT_SUPPORTED);
        assert_int_equal(fixture_call(f, &f->producer, IVG_CALL_cuDevicePrimaryCtxSetFlags_v2, &primary,
                                      sizeof(primary), NULL, 0),
                         CUDA_ERROR_NOT_SUPPORTED);
        assert_int_equal(atomic_load(&reached), 0);
        assert_int_equal(set_flags(f, CU_CTX_SCHED_SPIN), CUDA_SUCCESS);
        assert_int_equal(atomic_load(&reached), 1);
        assert_int_equal(atomic_load(&last_value), CU_CTX_SCHED_SPIN);
}

static CUresult set_attribute(struct exec_fixture *f, int32_t attribute, uint64_t value)
{
        struct ivg_request_cuCoredumpSetAttributeGlobal request = {.attrib = attribute, .value = value};

        return fixture_call(f, &f->producer, IVG_CALL_cuCoredumpSetAttributeGlobal, &request, sizeof(request), NULL, 0);
}

static void attributes(void **state)
{
        struct exec_fixture *f = spied(state);
        struct ivg_request_cuCoredumpGetAttribute get = {.attrib = CU_COREDUMP_FILE};
        struct ivg_answer_cuCoredumpGetAttribute answer;

        assert_int_equal(set_attribute(f, CU_COREDUMP_ENABLE_ON_EXCEPTION, 1), CUDA_ERROR_NOT_SUPPORTED);
        assert_int_equal(set_attribute(f, CU_COREDUMP_ENABLE_USER_TRIGGER, 256), CUDA_ERROR_NOT_SUPPORTED);
        assert_int_equal(set_attribute(f, CU_COREDUMP_FILE, 0x2f706d742f), CUDA_ERROR_NOT_SUPPORTED);
        assert_int_equal(set_attribute(f, CU_COREDUMP_PIPE, 0), CUDA_ERROR_NOT_SUPPORTED);
        assert_int_equal(set_attribute(f, 4711, 0), CUDA_ERROR_NOT_SUPPORTED);
        assert_int_equal(atomic_load(&reached), 0);
        assert_int_equal(set_attribute(f, CU_COREDUMP_ENABLE_ON_EXCEPTION, 0), CUDA_SUCCESS);
        assert_int_equal(set_attribute(f, CU_COREDUMP_GENERATION_FLAGS, 4), CUDA_SUCCESS);
        assert_int_equal(atomic_load(&reached), 2);
        assert_int_equal(atomic_load(&last_value), 4);
        /* Names of the host's files are not told either; numbers are. */
        assert_int_equal(fixture_call(f, &f->producer, IVG_CALL_cuCoredumpGetAttribute, &get, sizeof(get), &answer,
                                      sizeof(answer)),
                         CUDA_ERROR_NOT_SUPPORTED);
        get = (struct ivg_request_cuCoredumpGetAttribute){.attrib = CU_COREDUMP_LIGHTWEIGHT};
        assert_int_equal(fixture_call(f, &f->producer, IVG_CALL_cuCoredumpGetAttribute, &get, sizeof(get), &answer,
                                      sizeof(answer)),
                         CUDA_SUCCESS);
        assert_int_equal(answer.bytes, 4);
        assert_int_equal(answer.value, 0x07070707);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(flags_of_contexts, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(attributes, fixture_setup, fixture_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
