/* What every generated encoder of the guest writes, the generated decoder of the host accepts, with ranges inside the
 * record and in the arena; what exceeds the table's limits is refused in the guest; lent arena memory is given back. */
#include "call_encode_fake.h"
#include "guest.h"
#include "send_samples.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct {
        uint64_t staged_bytes; /* bump allocation; back to 0 when all is given back */
        uint32_t staged_count;
        uint32_t calls;
        uint32_t async_calls_with_loans;
        uint16_t number;
} guest;

/* ---- the shim, as far as encoders call it ---- */

void *ivg_staging_take(uint64_t bytes)
{
        void *const memory = fake_arena + guest.staged_bytes;
        const uint64_t padded = (bytes + 63) & ~UINT64_C(63);
        if (padded > FAKE_ARENA_BYTES - guest.staged_bytes)
                return NULL;
        guest.staged_bytes += padded;
        guest.staged_count++;
        return memory;
}

void ivg_staging_give(void *memory, uint64_t bytes)
{
        assert_in_range((uintptr_t)memory, (uintptr_t)fake_arena, (uintptr_t)fake_arena + FAKE_ARENA_BYTES - bytes);
        assert_true(guest.staged_count > 0);
        if (--guest.staged_count == 0)
                guest.staged_bytes = 0;
}

bool ivg_arena_offset(const void *pointer, uint64_t bytes, uint64_t *offset)
{
        const uintptr_t at = (uintptr_t)pointer, base = (uintptr_t)fake_arena;
        if (at < base || at - base > FAKE_ARENA_BYTES || bytes > FAKE_ARENA_BYTES - (at - base))
                return false;
        *offset = at - base;
        return true;
}

static CUresult run(uint16_t number, void *request, uint32_t bytes, struct fake_run *result)
{
        assert_int_equal(number, guest.number);
        assert_int_equal(bytes % 8, 0);
        assert_true(bytes <= IVG_RECORD_PAYLOAD_BYTES_MAX);
        uint8_t *const exact = malloc(bytes); /* a read behind it is seen by the address sanitizer */
        assert_non_null(exact);
        memcpy(exact, request, bytes);
        *result = fake_execute(number, exact, bytes);
        free(exact);
        guest.calls++;
        if (result->fault != IVG_FAULT_NONE)
                fail_msg("%s: fault %u, parameter %u", result->name, result->fault, result->fault_value);
        return result->result;
}

CUresult ivg_call_sync(uint16_t number, void *request, uint32_t request_bytes, void *answer, uint32_t answer_bytes_min,
                       uint32_t answer_bytes_max, uint32_t *answer_bytes)
{
        struct fake_run result;
        run(number, request, request_bytes, &result);
        guest.async_calls_with_loans += result.is_async && guest.staged_count > 0;
        if (answer_bytes) {
                if (result.answer_bytes < answer_bytes_min)
                        fail_msg("%s answers %u bytes of %u", result.name, result.answer_bytes, answer_bytes_min);
                *answer_bytes = result.answer_bytes < answer_bytes_max ? result.answer_bytes : answer_bytes_max;
                memcpy(answer, result.answer, *answer_bytes);
        }
        return result.result;
}

CUresult ivg_call_async(uint16_t number, void *request, uint32_t request_bytes)
{
        struct fake_run result;
        run(number, request, request_bytes, &result);
        assert_true(result.is_async);
        assert_int_equal(guest.staged_count, 0); /* lent memory would be given back too early */
        return CUDA_SUCCESS;
}

/* ---- tests ---- */

static void every_encoder_meets_its_decoder(void **state)
{
        static const uint32_t lengths[] = {1, 2, 3, 5, 8, 17, 64, 100, 500, 4000, 32768, 65537, 1u << 20};
        (void)state;
        for (uint32_t i = 0; i < ivg_send_samples_count; i++) {
                guest.number = ivg_send_samples[i].number;
                for (size_t n = 0; n < sizeof(lengths) / sizeof(lengths[0]); n++) {
                        bool allowed = false;
                        const uint32_t calls = guest.calls;
                        const CUresult result = ivg_send_samples[i].send(lengths[n], &allowed);
                        assert_int_equal(guest.staged_count, 0);
                        if (!allowed) {
                                /* Room for an answer is cut to the table's limit instead. */
                                if (guest.calls == calls)
                                        assert_in_set(result, ((uintmax_t[]){CUDA_SUCCESS, CUDA_ERROR_INVALID_VALUE}),
                                                      2);
                                continue;
                        }
                        if (guest.calls != calls + 1)
                                fail_msg("call 0x%04x with %u: not sent, %d", guest.number, lengths[n], result);
                        if (result != CUDA_SUCCESS && result != CUDA_ERROR_NOT_SUPPORTED)
                                fail_msg("call 0x%04x with %u: %d", guest.number, lengths[n], result);
                        if (!ivg_send_samples[i].ranged)
                                break;
                }
        }
        assert_true(guest.calls > ivg_send_samples_count);
        assert_true(guest.async_calls_with_loans > 0); /* launches with long parameters went with an answer */
}

static void a_full_arena_is_out_of_memory(void **state)
{
        (void)state;
        guest.number = IVG_CALL_ivgModuleLoad;
        for (uint32_t i = 0; i < ivg_send_samples_count; i++) {
                if (ivg_send_samples[i].number != guest.number)
                        continue;
                const uint32_t calls = guest.calls;
                bool allowed = false;
                guest.staged_bytes = FAKE_ARENA_BYTES;
                assert_int_equal(ivg_send_samples[i].send(16, &allowed), CUDA_ERROR_OUT_OF_MEMORY);
                guest.staged_bytes = 0;
                assert_int_equal(guest.calls, calls);
                assert_int_equal(guest.staged_count, 0);
                return;
        }
        fail_msg("no sample of ivgModuleLoad");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_encoder_meets_its_decoder),
                cmocka_unit_test(a_full_arena_is_out_of_memory),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
