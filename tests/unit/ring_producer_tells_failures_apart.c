/* Full, too large, closed, peer gone, fault, another generation, no line left: each by its own errno, nothing claimed.
 */
#include "ring_fixture.h"

static void expect_refusal(struct ring_fixture *f, uint32_t bytes, int expected)
{
        const uint64_t tail = ivg_load_relaxed_u64(&f->guest->tail);
        struct ivg_record record = {0};

        assert_int_equal(ivg_producer_reserve(&f->producer, bytes, &record), expected);
        assert_int_equal(ivg_load_relaxed_u64(&f->guest->tail), tail);
        assert_int_equal(ivg_load_relaxed_u32(&f->guest->producers[f->producer.index].slots), 0);
}

static void full_claims_nothing_and_ends_when_space_returns_at(uint64_t start)
{
        struct ring_fixture f;

        fixture_open(&f, start);
        for (uint32_t i = 0; i < IVG_RING_SLOTS - 1; i++)
                (void)fixture_send(&f, i, 56, 1);
        expect_refusal(&f, 57, -EAGAIN); /* one slot is left */
        (void)fixture_send(&f, 0, 56, 1);
        expect_refusal(&f, 0, -EAGAIN);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), IVG_BATCH_SLOTS_MAX);
        expect_refusal(&f, 0, -EAGAIN); /* taken, but not published yet */
        ivg_consumer_publish(&f.consumer);
        expect_refusal(&f, IVG_RECORD_PAYLOAD_BYTES_MAX + 1, -EMSGSIZE);
        (void)fixture_send(&f, 0, IVG_RECORD_PAYLOAD_BYTES_MAX, 2);
        expect_refusal(&f, 0, -EAGAIN);
        fixture_close(&f);
}

static void full_claims_nothing_and_ends_when_space_returns(void **state)
{
        (void)state;
        full_claims_nothing_and_ends_when_space_returns_at((1ull << 32) - 100);
        full_claims_nothing_and_ends_when_space_returns_at(UINT64_MAX - 100);
}

static void stale_view_of_tail_is_not_full(void **state)
{
        struct ring_fixture f;
        struct ivg_producer other;
        struct ivg_record record = {0};

        (void)state;
        fixture_open(&f, 0);
        assert_int_equal(ivg_producer_open(&f.ring, FIXTURE_OWNER, &other), 0);
        /* Another producer has seen a later head than this one's tail guess could ever be. */
        for (uint32_t i = 0; i < 3 * IVG_RING_SLOTS; i++) {
                (void)fixture_send(&f, i, 1, 1);
                (void)ivg_consumer_take(&f.consumer, &f.batch);
        }
        ivg_consumer_publish(&f.consumer);
        assert_int_equal(ivg_producer_reserve(&other, 1, &record), 0);
        assert_int_equal(record.position, 3 * IVG_RING_SLOTS);
        (void)ivg_producer_commit(&other, &record, 1);
        fixture_close(&f);
}

static void too_large_is_not_full(void **state)
{
        struct ring_fixture f;

        (void)state;
        fixture_open(&f, 0);
        expect_refusal(&f, IVG_RECORD_PAYLOAD_BYTES_MAX + 1, -EMSGSIZE);
        expect_refusal(&f, UINT32_MAX, -EMSGSIZE); /* rounding up must not overflow */
        (void)fixture_send(&f, 0, IVG_RECORD_PAYLOAD_BYTES_MAX, 2);
        fixture_close(&f);
}

static void each_end_has_its_errno(void **state)
{
        const struct {
                enum ivg_ring_state state;
                int expected;
        } ends[] = {{IVG_RING_CLOSED, -ESHUTDOWN}, {IVG_RING_PEER_GONE, -EOWNERDEAD}, {IVG_RING_FAULT, -EPROTO}};

        (void)state;
        for (size_t i = 0; i < 3; i++) {
                struct ring_fixture f;

                fixture_open(&f, 0);
                ivg_consumer_close(&f.consumer, ends[i].state, IVG_FAULT_NONE, 0);
                assert_int_equal(ivg_ring_state_errno(&f.ring), ends[i].expected);
                expect_refusal(&f, 8, ends[i].expected);
                fixture_close(&f);
        }
}

static void mediator_marks_only_an_open_ring_of_that_generation(void **state)
{
        struct ring_fixture f;

        (void)state;
        fixture_open(&f, 0);
        ivg_ring_mark_peer_gone(f.host, FIXTURE_GENERATION + 1);
        assert_int_equal(ivg_ring_state_errno(&f.ring), 0);
        ivg_ring_mark_peer_gone(f.host, FIXTURE_GENERATION);
        expect_refusal(&f, 8, -EOWNERDEAD);
        fixture_close(&f);

        fixture_open(&f, 0);
        ivg_consumer_close(&f.consumer, IVG_RING_FAULT, IVG_FAULT_HANDLE, 3);
        ivg_ring_mark_peer_gone(f.host, FIXTURE_GENERATION);
        expect_refusal(&f, 8, -EPROTO); /* the reason stays */
        fixture_close(&f);
}

static void another_generation_is_stale(void **state)
{
        struct ring_fixture f;
        struct ivg_ring later;

        (void)state;
        fixture_open(&f, 0);
        assert_int_equal(ivg_ring_init(&later, f.guest, f.host, FIXTURE_GENERATION + 1), -ESTALE);
        (void)fixture_send(&f, 1, 200, 1);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
        (void)ivg_consumer_answer(&f.consumer, 0, 99, 1, "secret", 6);

        /* Nobody formatted the guest part: the host refuses, and says so to nobody. */
        assert_int_equal(ivg_consumer_open(&f.consumer, f.guest, f.host, FIXTURE_GENERATION + 1, 0), -ESTALE);
        ivg_ring_format(f.guest, 0);
        assert_int_equal(ivg_consumer_open(&f.consumer, f.guest, f.host, FIXTURE_GENERATION + 1, 0), 0);
        expect_refusal(&f, 8, -ESTALE);
        assert_int_equal(ivg_ring_init(&later, f.guest, f.host, FIXTURE_GENERATION + 1), 0);
        /* Nothing of the earlier generation is left: no record, no answer. */
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 0);
        assert_int_equal(ivg_load_relaxed_u64(&f.host->mailboxes[0].sequence), 0);
        for (size_t i = 0; i < IVG_MAILBOX_PAYLOAD_BYTES; i++)
                assert_int_equal(f.host->mailboxes[0].payload[i], 0);
        fixture_close(&f);
}

static void lines_run_out_and_come_back(void **state)
{
        struct ring_fixture f;
        struct ivg_producer producers[IVG_RING_PRODUCERS], one_more;
        uint64_t sequence;

        (void)state;
        fixture_open(&f, 0);
        assert_int_equal(ivg_producer_open(&f.ring, 0, &one_more), -EINVAL);
        assert_int_equal(ivg_producer_open(&f.ring, IVG_OWNER_DEAD, &one_more), -EINVAL);
        for (uint32_t i = 1; i < IVG_RING_PRODUCERS; i++) {
                assert_int_equal(ivg_producer_open(&f.ring, FIXTURE_OWNER, &producers[i]), 0);
                assert_int_equal(producers[i].index, i);
        }
        assert_int_equal(ivg_producer_open(&f.ring, FIXTURE_OWNER, &one_more), -EBUSY);

        /* The next owner of a line never meets an answer meant for an earlier one. */
        sequence = ++producers[5].sequence;
        (void)ivg_consumer_answer(&f.consumer, 5, sequence, 0, NULL, 0);
        ivg_producer_close(&producers[5]);
        assert_int_equal(ivg_producer_open(&f.ring, FIXTURE_OWNER + 1, &one_more), 0);
        assert_int_equal(one_more.index, 5);
        assert_true(one_more.sequence > sequence);
        fixture_close(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(full_claims_nothing_and_ends_when_space_returns),
                cmocka_unit_test(stale_view_of_tail_is_not_full),
                cmocka_unit_test(too_large_is_not_full),
                cmocka_unit_test(each_end_has_its_errno),
                cmocka_unit_test(mediator_marks_only_an_open_ring_of_that_generation),
                cmocka_unit_test(another_generation_is_stale),
                cmocka_unit_test(lines_run_out_and_come_back),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
