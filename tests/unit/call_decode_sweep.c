/* Every call of the table, on the host's side: its valid request is accepted; every truncated prefix, every longer one
 * and every impossible range is refused; an unknown object is an error of the call and not of the channel; the printer
 * stays inside its buffers. The driver is a function that answers CUDA_SUCCESS whatever it is asked. */
#include "call_print.h"
#include "call_samples.h"
#include "exec.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ARENA_BYTES 64u

struct fake {
        struct ivg_driver driver;
        CUresult handles; /* what every look-up answers */
        uint8_t arena[ARENA_BYTES];
};
static struct fake fake;
static uint8_t answer_area[8192];

static CUresult driver_answers_success(void)
{
        return CUDA_SUCCESS;
}

/* ---- the executor, as far as decoders call it ---- */

const struct ivg_driver *ivg_exec_driver(const struct ivg_exec *exec)
{
        (void)exec;
        return &fake.driver;
}

CUresult ivg_handle_get(struct ivg_exec *exec, enum ivg_kind kind, ivg_id id, void **driver_handle)
{
        (void)exec;
        assert_int_not_equal(kind, IVG_KIND_NONE);
        *driver_handle = (void *)(uintptr_t)id;
        return fake.handles;
}

bool ivg_handle_put(struct ivg_exec_call *call, enum ivg_kind kind, ivg_id id, void *driver_handle)
{
        (void)call;
        (void)driver_handle;
        assert_int_not_equal(kind, IVG_KIND_NONE);
        return id != IVG_ID_NONE; /* decoders refuse it before */
}

bool ivg_handle_put_part(struct ivg_exec_call *call, enum ivg_kind kind, ivg_id id, void *driver_handle, ivg_id whole)
{
        (void)whole;
        return ivg_handle_put(call, kind, id, driver_handle);
}

bool ivg_graph_node_put(struct ivg_exec_call *call, ivg_id id, CUgraphNode node)
{
        return ivg_handle_put(call, IVG_KIND_GRAPH_NODE, id, node);
}

void *ivg_handle_remove(struct ivg_exec *exec, enum ivg_kind kind, ivg_id id)
{
        (void)exec;
        (void)kind;
        return (void *)(uintptr_t)id;
}

CUresult ivg_handle_stream(struct ivg_exec_call *call, ivg_id id, CUstream *stream)
{
        (void)call;
        *stream = (CUstream)(uintptr_t)id;
        return fake.handles;
}

CUresult ivg_handle_function(struct ivg_exec_call *call, ivg_id id, CUfunction *function)
{
        (void)call;
        *function = (CUfunction)(uintptr_t)id;
        return fake.handles;
}

bool ivg_exec_range_in(struct ivg_exec_call *call, const struct ivg_wire_range *range, uint64_t bytes_max,
                       const void **data)
{
        assert_true(range->bytes <= bytes_max);
        if (range->where == IVG_RANGE_INLINE) {
                assert_true(range->offset <= call->request_bytes);
                assert_true(range->bytes <= call->request_bytes - range->offset);
                *data = call->request + range->offset;
                return true;
        }
        if (range->offset > ARENA_BYTES || range->bytes > ARENA_BYTES - range->offset) {
                call->fault = IVG_FAULT_ARENA;
                return false;
        }
        *data = fake.arena + range->offset;
        return true;
}

bool ivg_exec_range_out(struct ivg_exec_call *call, const struct ivg_wire_range *range, uint64_t bytes_max, void **data)
{
        const void *memory;
        assert_int_equal(range->where, IVG_RANGE_ARENA);
        if (!ivg_exec_range_in(call, range, bytes_max, &memory))
                return false;
        *data = fake.arena + range->offset;
        return true;
}

void *ivg_exec_answer_room(struct ivg_exec_call *call, uint32_t bytes)
{
        void *const room = call->answer + call->answer_bytes;
        const uint32_t padded = (bytes + 7u) & ~7u;
        if (padded > sizeof(answer_area) - call->answer_bytes) {
                call->fault = IVG_FAULT_ARGUMENTS;
                return NULL;
        }
        call->answer_bytes += padded;
        return room;
}

CUresult ivg_exec_device_range(struct ivg_exec_call *call, uint64_t address, uint64_t bytes)
{
        (void)call;
        (void)address;
        (void)bytes;
        return CUDA_SUCCESS;
}

CUresult ivg_exec_device_range_2d(struct ivg_exec_call *call, uint64_t address, uint64_t pitch, uint64_t row_bytes,
                                  uint64_t rows)
{
        (void)pitch;
        (void)rows;
        return ivg_exec_device_range(call, address, row_bytes);
}

CUresult ivg_exec_memory_add(struct ivg_exec_call *call, uint64_t address, uint64_t bytes)
{
        return ivg_exec_device_range(call, address, bytes);
}

bool ivg_exec_memory_known(struct ivg_exec_call *call, uint64_t address)
{
        (void)call;
        (void)address;
        return true;
}

void ivg_exec_memory_remove(struct ivg_exec_call *call, uint64_t address)
{
        (void)call;
        (void)address;
}

CUresult ivg_exec_refuse(struct ivg_exec_call *call, enum ivg_ring_fault fault, uint32_t value)
{
        call->fault = fault;
        call->fault_value = value;
        return CUDA_ERROR_INVALID_VALUE;
}

bool ivg_exec_settle_frees(struct ivg_exec_call *call)
{
        (void)call;
        return false;
}

/* ---- helpers ---- */

/* Runs a request from memory that ends exactly behind it, so that the address sanitizer sees a read too far. */
static CUresult execute(const struct ivg_call_descriptor *descriptor, const uint8_t *request, uint32_t bytes,
                        struct ivg_exec_call *call)
{
        uint8_t *const exact = malloc(bytes ? bytes : 1);
        assert_non_null(exact);
        memcpy(exact, request, bytes);
        *call = (struct ivg_exec_call){.request = exact, .request_bytes = bytes, .answer = answer_area};
        const CUresult result = descriptor->execute(call);
        call->request = NULL;
        free(exact);
        return result;
}

static void assert_refused(const struct ivg_call_descriptor *descriptor, const uint8_t *request, uint32_t bytes,
                           const char *why)
{
        struct ivg_exec_call call;
        execute(descriptor, request, bytes, &call);
        if (call.fault == IVG_FAULT_NONE)
                fail_msg("%s accepted a request with %s (%u bytes)", descriptor->name, why, bytes);
}

static int set_up(void **state)
{
        CUresult (*const answer)(void) = driver_answers_success;
        memset(&fake, 0, sizeof(fake));
        for (size_t at = offsetof(struct ivg_driver, library) + sizeof(void *); at < sizeof(fake.driver);
             at += sizeof(answer))
                memcpy((char *)&fake.driver + at, &answer, sizeof(answer));
        *state = NULL;
        return 0;
}

struct request {
        _Alignas(8) uint8_t bytes[IVG_RECORD_PAYLOAD_BYTES_MAX + 64];
        uint32_t length;
        const struct ivg_call_descriptor *descriptor;
};

static void sample(const struct ivg_call_sample *from, struct request *request)
{
        memset(request, 0, sizeof(*request));
        request->length = from->write(request->bytes);
        request->descriptor = ivg_call_find(from->number);
        assert_non_null(request->descriptor);
}

/* ---- tests ---- */

static void every_valid_request_is_accepted(void **state)
{
        (void)state;
        assert_int_equal(ivg_call_samples_count, ivg_call_count);
        for (uint32_t i = 0; i < ivg_call_samples_count; i++) {
                struct request request;
                struct ivg_exec_call call;
                sample(&ivg_call_samples[i], &request);
                assert_in_range(request.length, request.descriptor->request_bytes_min,
                                request.descriptor->request_bytes_max);
                const CUresult result = execute(request.descriptor, request.bytes, request.length, &call);
                if (call.fault != IVG_FAULT_NONE)
                        fail_msg("%s: fault %d, parameter %u", request.descriptor->name, call.fault, call.fault_value);
                /* Hand-written bodies are not linked here: theirs is the weak refusal. */
                if (result != CUDA_SUCCESS && result != CUDA_ERROR_NOT_SUPPORTED)
                        fail_msg("%s: %d", request.descriptor->name, result);
        }
}

static void every_truncated_prefix_is_refused(void **state)
{
        (void)state;
        for (uint32_t i = 0; i < ivg_call_samples_count; i++) {
                struct request request;
                sample(&ivg_call_samples[i], &request);
                for (uint32_t bytes = 0; bytes < request.length; bytes++)
                        assert_refused(request.descriptor, request.bytes, bytes, "a missing end");
        }
}

static void every_longer_request_is_refused(void **state)
{
        (void)state;
        for (uint32_t i = 0; i < ivg_call_samples_count; i++) {
                struct request request;
                sample(&ivg_call_samples[i], &request);
                for (uint32_t more = 1; more <= 64; more++)
                        assert_refused(request.descriptor, request.bytes, request.length + more, "trailing bytes");
        }
}

static void every_impossible_range_is_refused(void **state)
{
        static const struct ivg_wire_range bad[] = {
                {0xffffffffu, IVG_RANGE_INLINE, 0},
                {8, IVG_RANGE_INLINE, UINT64_MAX},
                {8, IVG_RANGE_INLINE, 0},
                {0xfffffff8u, IVG_RANGE_ARENA, 0},
                {8, IVG_RANGE_ARENA, UINT64_MAX},
                {8, IVG_RANGE_NULL, 0},
                {0, IVG_RANGE_NULL, 8},
                {8, 3, 0},
                {8, UINT32_MAX, 0},
        };
        (void)state;
        for (uint32_t i = 0; i < ivg_call_samples_count; i++) {
                for (uint32_t r = 0; r < ivg_call_samples[i].ranges_count; r++) {
                        for (size_t b = 0; b < sizeof(bad) / sizeof(bad[0]); b++) {
                                struct request request;
                                sample(&ivg_call_samples[i], &request);
                                memcpy(request.bytes + ivg_call_samples[i].ranges_offset + r * sizeof(bad[b]), &bad[b],
                                       sizeof(bad[b]));
                                assert_refused(request.descriptor, request.bytes, request.length,
                                               "an impossible range");
                        }
                }
        }
}

static void dirty_padding_is_refused(void **state)
{
        struct ivg_wire_range range;
        uint32_t tried = 0;
        (void)state;
        for (uint32_t i = 0; i < ivg_call_samples_count; i++) {
                struct request request;
                for (uint32_t r = 0; r < ivg_call_samples[i].ranges_count; r++) {
                        sample(&ivg_call_samples[i], &request);
                        memcpy(&range, request.bytes + ivg_call_samples[i].ranges_offset + r * sizeof(range),
                               sizeof(range));
                        if (range.where != IVG_RANGE_INLINE || range.bytes % 8 == 0)
                                continue;
                        request.bytes[range.offset + range.bytes] = 1;
                        assert_refused(request.descriptor, request.bytes, request.length, "dirty padding");
                        tried++;
                }
        }
        assert_true(tried > 0);
}

/* Bytes at random places: whatever the decoder makes of them, it stays inside the record (the sanitizer looks), and a
 * request that it accepts has the exact length that its ranges give. */
static void damaged_requests_stay_inside(void **state)
{
        uint64_t random = 0x9e3779b97f4a7c15ull;
        uint32_t refused = 0, accepted = 0;
        (void)state;
        for (uint32_t i = 0; i < ivg_call_samples_count; i++) {
                for (uint32_t round = 0; round < 200; round++) {
                        struct request request;
                        struct ivg_exec_call call;
                        sample(&ivg_call_samples[i], &request);
                        for (uint32_t change = 0; change < 4; change++) {
                                random ^= random << 13;
                                random ^= random >> 7;
                                random ^= random << 17;
                                request.bytes[(random >> 32) % request.length] = (uint8_t)random;
                        }
                        execute(request.descriptor, request.bytes, request.length, &call);
                        refused += call.fault != IVG_FAULT_NONE;
                        accepted += call.fault == IVG_FAULT_NONE;
                }
        }
        assert_true(refused > 0 && accepted > 0);
}

static void a_string_without_its_end_is_refused(void **state)
{
        struct request request;
        struct ivg_wire_range range;
        const struct ivg_call_sample *found = NULL;
        (void)state;
        for (uint32_t i = 0; i < ivg_call_samples_count; i++) {
                if (ivg_call_samples[i].number == IVG_CALL_cuModuleGetFunction)
                        found = &ivg_call_samples[i];
        }
        assert_non_null(found);
        sample(found, &request);
        memcpy(&range, request.bytes + found->ranges_offset, sizeof(range));
        request.bytes[range.offset + range.bytes - 1] = 'a';
        assert_refused(request.descriptor, request.bytes, request.length, "no NUL");
        request.bytes[range.offset + range.bytes - 1] = 0;
        request.bytes[range.offset] = 0;
        assert_refused(request.descriptor, request.bytes, request.length, "a NUL inside");
}

static void an_unknown_object_is_an_error_of_the_call_only(void **state)
{
        struct request request;
        struct ivg_exec_call call;
        const struct ivg_call_sample *found = NULL;
        (void)state;
        for (uint32_t i = 0; i < ivg_call_samples_count; i++) {
                if (ivg_call_samples[i].number == IVG_CALL_cuEventQuery)
                        found = &ivg_call_samples[i];
        }
        assert_non_null(found);
        sample(found, &request);
        fake.handles = CUDA_ERROR_INVALID_HANDLE;
        assert_int_equal(execute(request.descriptor, request.bytes, request.length, &call), CUDA_ERROR_INVALID_HANDLE);
        assert_int_equal(call.fault, IVG_FAULT_NONE);
}

static void a_driver_without_the_function_says_not_supported(void **state)
{
        struct request request;
        struct ivg_exec_call call;
        (void)state;
        memset(&fake.driver, 0, sizeof(fake.driver));
        for (uint32_t i = 0; i < ivg_call_samples_count; i++) {
                sample(&ivg_call_samples[i], &request);
                assert_int_equal(execute(request.descriptor, request.bytes, request.length, &call),
                                 CUDA_ERROR_NOT_SUPPORTED);
                assert_int_equal(call.fault, IVG_FAULT_NONE);
        }
}

static void the_printer_stays_inside(void **state)
{
        char text[256];
        (void)state;
        for (uint32_t i = 0; i < ivg_call_samples_count; i++) {
                struct request request;
                sample(&ivg_call_samples[i], &request);
                uint8_t *const exact = malloc(request.length);
                assert_non_null(exact);
                memcpy(exact, request.bytes, request.length);
                for (size_t capacity = 0; capacity < sizeof(text); capacity++) {
                        memset(text, '#', sizeof(text));
                        const int length = request.descriptor->print(text, capacity, exact, request.length);
                        assert_true(length >= 0 && (capacity == 0 ? length == 0 : (size_t)length < capacity));
                        assert_int_equal(text[capacity], '#');
                        if (capacity > 0)
                                assert_int_equal(strlen(text), length);
                }
                for (uint32_t bytes = 0; bytes < request.length; bytes++) {
                        uint8_t *const part = malloc(bytes ? bytes : 1);
                        assert_non_null(part);
                        memcpy(part, request.bytes, bytes);
                        ivg_print_call(request.descriptor->number, text, sizeof(text), part, bytes);
                        assert_memory_equal(text, request.descriptor->name, strlen(request.descriptor->name));
                        free(part);
                }
                free(exact);
        }
        ivg_print_call(0xffff, text, sizeof(text), NULL, 0);
        assert_string_equal(text, "call 0xffff (unknown)");
}

static void unknown_numbers_are_not_found(void **state)
{
        (void)state;
        assert_null(ivg_call_find(0));
        assert_null(ivg_call_find(0xffff));
        assert_null(ivg_call_find(IVG_CALL_NUMBER_MAX + 1));
        assert_null(ivg_call_at(ivg_call_count));
        for (uint32_t i = 0; i < ivg_call_count; i++)
                assert_ptr_equal(ivg_call_find(ivg_call_at(i)->number), ivg_call_at(i));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(every_valid_request_is_accepted, set_up),
                cmocka_unit_test_setup(every_truncated_prefix_is_refused, set_up),
                cmocka_unit_test_setup(every_longer_request_is_refused, set_up),
                cmocka_unit_test_setup(every_impossible_range_is_refused, set_up),
                cmocka_unit_test_setup(dirty_padding_is_refused, set_up),
                cmocka_unit_test_setup(damaged_requests_stay_inside, set_up),
                cmocka_unit_test_setup(a_string_without_its_end_is_refused, set_up),
                cmocka_unit_test_setup(an_unknown_object_is_an_error_of_the_call_only, set_up),
                cmocka_unit_test_setup(a_driver_without_the_function_says_not_supported, set_up),
                cmocka_unit_test_setup(the_printer_stays_inside, set_up),
                cmocka_unit_test_setup(unknown_numbers_are_not_found, set_up),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
