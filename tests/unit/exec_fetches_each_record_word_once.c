/* The whole way of a record through the executor, while every word of the ring that it fetches changes right after.
 *
 * The executor's sources are compiled here with IVG_LOAD_HOOK. A word of a record that is fetched twice, by the
 * consumer, a decoder, a lane or the reaper, would be seen as garbage the second time; it is counted too. So every call
 * must do what it does with a guest that holds still. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "call_samples.h"
#include "exec_fixture.h"
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#define GARBAGE 0xeeeeeeeeeeeeeeeeull

/* The guest's own mapping, by which the hook writes; NULL: no hostility. */
static _Atomic(struct ivg_ring_guest_part *) hostile;
static const struct ivg_ring_guest_part *seen_by_executor;
static const struct ivg_exec *executor;
static uint64_t fetched[IVG_RING_SLOTS][8]; /* position + 1 of the last fetch of each word; consumer only */
static _Atomic(uint64_t) fetches, twice;

/* Not instrumented: producer and consumer agree on these words through two mappings, which ThreadSanitizer takes for
 * different words. Volatile, as nothing may make a call of it. */
__attribute__((no_sanitize("thread"))) static void spoil(struct ivg_ring_guest_part *guest, uint64_t offset)
{
        *(volatile uint64_t *)((uintptr_t)guest->slots + offset) = GARBAGE;
}

/* Called by every thread after each load of any ordered word; only those of the ring's slots matter here. */
void ivg_load_hook(const volatile void *address, uint32_t bytes)
{
        struct ivg_ring_guest_part *guest = atomic_load(&hostile);
        uint64_t offset, position;
        uint32_t slot, index;

        if (!guest || (uintptr_t)address < (uintptr_t)seen_by_executor->slots)
                return;
        offset = (uintptr_t)address - (uintptr_t)seen_by_executor->slots;
        if (offset >= sizeof(seen_by_executor->slots))
                return;
        assert_int_equal(bytes, 8);
        slot = (uint32_t)(offset / IVG_SLOT_BYTES);
        index = (uint32_t)(offset % IVG_SLOT_BYTES / 8);
        /* The next position of this slot that is not behind the consumer, which is this thread. */
        position = atomic_load_explicit(&executor->consumer.head, memory_order_relaxed);
        position += (slot - position) & IVG_RING_SLOT_MASK;
        /* A commit word may be looked at until it is there, and the producer may just be storing it. It has been seen
         * when the payload behind it is fetched: it changes then. */
        if (index == 0) {
                if (fetched[slot][1] == position + 1)
                        atomic_fetch_add(&twice, 1);
                return;
        }
        if (fetched[slot][index] == position + 1)
                atomic_fetch_add(&twice, 1);
        fetched[slot][index] = position + 1;
        atomic_fetch_add(&fetches, 1);
        if (index == 1)
                spoil(guest, offset - 8);
        spoil(guest, offset);
}

static int setup(void **state)
{
        struct exec_fixture *f;

        if (fixture_setup(state) != 0)
                return -1;
        f = *state;
        memset(fetched, 0, sizeof(fetched));
        atomic_store(&fetches, 0);
        atomic_store(&twice, 0);
        executor = f->exec;
        seen_by_executor = f->exec->consumer.guest;
        assert_ptr_not_equal(seen_by_executor, f->ring.guest); /* two mappings: the executor's is read-only */
        atomic_store(&hostile, f->ring.guest);
        return 0;
}

static int teardown(void **state)
{
        /* Before the mappings go. The consumer may be inside a look: it uses them until it is stopped, as they do. */
        atomic_store(&hostile, NULL);
        return fixture_teardown(state);
}

static void calls_do_what_they_do(void **state)
{
        struct exec_fixture *f = *state;
        uint64_t addresses[64], before;

        for (uint32_t lap = 0; lap < 3; lap++) {
                for (uint32_t i = 0; i < 64; i++)
                        assert_int_equal(fixture_alloc(f, &f->producer, 4096 + i, &addresses[i]), CUDA_SUCCESS);
                for (uint32_t i = 0; i < 600; i++)
                        fixture_launch(f, &f->producer, FAKE_KERNEL_OK, FIXTURE_STREAM);
                assert_int_equal(fixture_synchronize(f, &f->producer), CUDA_SUCCESS);
                for (uint32_t i = 0; i < 64; i++)
                        fixture_free_async(f, &f->producer, addresses[i]);
                fixture_settle(f, &f->producer);
        }
        assert_true(fixture_reaches(&fake.launches, 3 * 600));
        assert_true(fixture_reaches(&fake.frees, 3 * 64));
        assert_int_equal(ivg_ring_state_errno(&f->ring), 0);
        before = atomic_load(&fetches);
        assert_true(before > 3ull * (600 + 128) * 7);
        assert_int_equal(atomic_load(&twice), 0);
}

/* Records of many slots: parameters that the launch carries arrive as they were sent, and a copy's bytes too. */
static void long_records_arrive_as_sent(void **state)
{
        struct exec_fixture *f = *state;
        struct {
                struct ivg_request_ivgCopyHtoDInline request;
                uint8_t bytes[2048];
        } sent;
        uint64_t address;

        assert_int_equal(fixture_alloc(f, &f->producer, sizeof(sent.bytes), &address), CUDA_SUCCESS);
        for (uint32_t round = 0; round < 200; round++) {
                memset(&sent, 0, sizeof(sent));
                for (uint32_t i = 0; i < sizeof(sent.bytes); i++)
                        sent.bytes[i] = (uint8_t)(i * 7 + round);
                sent.request.dst = address;
                sent.request.stream = FIXTURE_STREAM;
                sent.request.data = (struct ivg_wire_range){
                        .bytes = sizeof(sent.bytes), .where = IVG_RANGE_INLINE, .offset = sizeof(sent.request)};
                fixture_async(f, &f->producer, IVG_CALL_ivgCopyHtoDInline, &sent, sizeof(sent));
                fixture_settle(f, &f->producer);
                assert_memory_equal((const void *)(uintptr_t)address, sent.bytes, sizeof(sent.bytes));
        }
        assert_int_equal(atomic_load(&twice), 0);
        assert_int_equal(ivg_ring_state_errno(&f->ring), 0);
}

/* What a record refers to in the arena is fetched once, too: a check and what it was for see the same copy. */
static void arena_ranges_are_copied_before_they_are_looked_at(void **state)
{
        static const uint32_t lengths[] = {1, 64, IVG_TEMPORARY_FILE_BYTES_MIN - 1, IVG_TEMPORARY_FILE_BYTES_MIN};
        struct exec_fixture *f = *state;

        fixture_own_extents(f, 0, 1, FIXTURE_CHANNEL);
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
                const struct ivg_wire_range range = {.bytes = lengths[i], .where = IVG_RANGE_ARENA};
                struct ivg_exec_call call = {.exec = f->exec};
                const void *data;

                memset(f->arena, 0x11, lengths[i]);
                assert_true(ivg_exec_range_in(&call, &range, lengths[i], &data));
                memset(f->arena, 0xee, lengths[i]);
                for (uint32_t byte = 0; byte < lengths[i]; byte++)
                        assert_int_equal(((const uint8_t *)data)[byte], 0x11);
                ivg_exec_temporaries_free(&call);
        }
}

/* How a call ended: its answer, or the fault that closed the channel. */
struct end {
        CUresult result;
        uint32_t fault;
};

static struct end call_alone(const struct ivg_call_sample *sample, bool hostility)
{
        _Alignas(8) uint8_t request[IVG_RECORD_PAYLOAD_BYTES_MAX] = {0};
        const uint32_t bytes = sample->write(request);
        struct end end = {CUDA_SUCCESS, IVG_FAULT_NONE};
        struct ivg_call_header header;
        struct ivg_answer_header answer = {0};
        void *state = NULL;
        struct exec_fixture *f;
        uint64_t patience;

        assert_int_equal(hostility ? setup(&state) : fixture_setup(&state), 0);
        f = state;
        patience = ivg_clock_ns() + 20000000000ull;
        header = fixture_header(&f->producer, bytes, true);
        memcpy(request, &header, sizeof(header));
        fixture_send(f, &f->producer, sample->number, request, bytes);
        while (!ivg_producer_poll_answer(&f->producer, f->producer.sequence, &answer, NULL) &&
               ivg_ring_state_errno(&f->ring) == 0)
                assert_true(ivg_clock_ns() < patience);
        if (ivg_ring_state_errno(&f->ring) != 0)
                end.fault = (uint32_t)ivg_load_acquire_u64(&f->ring.host->fault);
        else
                end.result = (CUresult)answer.result;
        assert_int_equal(hostility ? teardown(&state) : fixture_teardown(&state), 0);
        return end;
}

/* Every call of the table ends as it does with a guest that holds still: answered alike, or refused by the same rule.
 */
static void every_call_ends_alike(void **state)
{
        uint32_t answered = 0;

        (void)state;
        for (uint32_t i = 0; i < ivg_call_samples_count; i++) {
                const struct end still = call_alone(&ivg_call_samples[i], false);
                const struct end end = call_alone(&ivg_call_samples[i], true);

                if (end.fault != still.fault || end.result != still.result)
                        fail_msg("%s: result %d, fault %u; of a guest that holds still %d, %u",
                                 ivg_call_find(ivg_call_samples[i].number)->name, end.result, end.fault, still.result,
                                 still.fault);
                assert_int_equal(atomic_load(&twice), 0);
                answered += end.fault == IVG_FAULT_NONE;
        }
        assert_true(answered > ivg_call_samples_count / 2);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(calls_do_what_they_do, setup, teardown),
                cmocka_unit_test_setup_teardown(long_records_arrive_as_sent, setup, teardown),
                cmocka_unit_test_setup_teardown(arena_ranges_are_copied_before_they_are_looked_at, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test(every_call_ends_alike),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
