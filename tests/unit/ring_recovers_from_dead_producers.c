/* Producers that die at every step between their note and the end of it; and what recovery must not touch. */
#include "ring_fixture.h"

#define DEAD_A 100u
#define DEAD_B 101u

static struct ivg_ring_producer *line_of(struct ring_fixture *f, const struct ivg_producer *producer)
{
        return &f->guest->producers[producer->index];
}

/* P0 without P2: what a line says when its owner died, or is preempted, just before its claim. */
static void note(struct ring_fixture *f, const struct ivg_producer *producer, uint64_t position, uint32_t slots)
{
        ivg_store_relaxed_u64(&line_of(f, producer)->position, position);
        ivg_store_relaxed_u32(&line_of(f, producer)->slots, slots);
}

static void open_dead(struct ring_fixture *f, uint32_t owner, struct ivg_producer *producer)
{
        assert_int_equal(ivg_producer_open(&f->ring, owner, producer), 0);
}

static void expect_recovery(struct ring_fixture *f, uint32_t owner, int expected, bool expected_doorbell)
{
        bool doorbell = !expected_doorbell;

        assert_int_equal(ivg_ring_recover(&f->ring, owner, &doorbell), expected);
        assert_int_equal(doorbell, expected_doorbell);
}

static void expect_records(struct ring_fixture *f, int count, uint16_t first_opcode)
{
        assert_int_equal(ivg_consumer_take(&f->consumer, &f->batch), count);
        for (int i = 0; i < count; i++)
                assert_int_equal(f->batch.records[i].opcode, first_opcode + i);
}

static void idle_owner_leaves_only_its_line(void **state)
{
        struct ring_fixture f;
        struct ivg_producer dead, next;
        struct ivg_record record = {0};

        (void)state;
        fixture_open(&f, 0);
        open_dead(&f, DEAD_A, &dead);
        assert_int_equal(ivg_producer_reserve(&dead, 1, &record), 0);
        (void)ivg_producer_commit(&dead, &record, 1);
        expect_recovery(&f, DEAD_A, 0, false);
        assert_int_equal(ivg_producer_open(&f.ring, DEAD_B, &next), 0);
        assert_int_equal(next.index, dead.index);
        expect_records(&f, 1, 1);
        expect_recovery(&f, 12345, 0, false); /* an owner nobody knows */
        expect_recovery(&f, 0, -EINVAL, false);
        expect_recovery(&f, IVG_OWNER_DEAD | 5, -EINVAL, false);
        fixture_close(&f);
}

static void note_without_a_claim_is_nothing(void **state)
{
        struct ring_fixture f;
        struct ivg_producer dead;

        (void)state;
        fixture_open(&f, 0);
        open_dead(&f, DEAD_A, &dead);
        note(&f, &dead, 0, 3); /* tail == t */
        expect_recovery(&f, DEAD_A, 0, false);
        assert_int_equal(ivg_load_relaxed_u64(&f.guest->tail), 0);
        (void)fixture_send(&f, 1, 10, 6);
        expect_records(&f, 1, 6);
        fixture_close(&f);
}

static void committed_claim_is_left_alone(void **state)
{
        struct ring_fixture f;
        struct ivg_producer dead;
        struct ivg_record record = {0};

        (void)state;
        fixture_open(&f, 0);
        open_dead(&f, DEAD_A, &dead);
        assert_int_equal(ivg_producer_reserve(&dead, 100, &record), 0);
        (void)ivg_ring_publish_record(&f.ring, record.position, record.slots, IVG_SLOT_DATA, 5); /* note still there */
        expect_recovery(&f, DEAD_A, 0, false);
        expect_records(&f, 1, 5);
        fixture_close(&f);
}

static void committed_claim_whose_doorbell_was_not_rung_is_rung(void **state)
{
        struct ring_fixture f;
        struct ivg_producer dead;
        struct ivg_record record = {0};

        (void)state;
        fixture_open(&f, 0);
        open_dead(&f, DEAD_A, &dead);
        assert_true(ivg_consumer_sleep_begin(&f.consumer));
        assert_int_equal(ivg_producer_reserve(&dead, 1, &record), 0);
        assert_true(ivg_producer_commit(&dead, &record, 5)); /* and dies before it rings */
        expect_recovery(&f, DEAD_A, 0, true);
        ivg_consumer_sleep_end(&f.consumer);
        expect_records(&f, 1, 5);
        expect_recovery(&f, DEAD_A, 0, false);
        fixture_close(&f);
}

static void consumed_and_overwritten_claim_is_left_alone(void **state)
{
        struct ring_fixture f;
        struct ivg_producer dead;
        struct ivg_record record = {0};

        (void)state;
        fixture_open(&f, 0);
        open_dead(&f, DEAD_A, &dead);
        assert_int_equal(ivg_producer_reserve(&dead, 1, &record), 0);
        (void)ivg_ring_publish_record(&f.ring, record.position, record.slots, IVG_SLOT_DATA, 5);
        for (uint32_t i = 0; i < IVG_RING_SLOTS + 10; i++) { /* slot 0 now carries the next lap's tag */
                (void)fixture_send(&f, i, 1, 1);
                (void)ivg_consumer_take(&f.consumer, &f.batch);
        }
        expect_recovery(&f, DEAD_A, 0, false);
        (void)fixture_send(&f, 1, 1, 8);
        expect_records(&f, 1, 8);
        fixture_close(&f);
}

static void abandoned_claim_becomes_skip_and_rings(void **state)
{
        const uint64_t starts[] = {0, IVG_RING_SLOTS - 2, (1ull << 32) - 3, UINT64_MAX - 3};

        (void)state;
        for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
                struct ring_fixture f;
                struct ivg_producer dead;
                struct ivg_record record = {0};

                fixture_open(&f, starts[i]);
                open_dead(&f, DEAD_A, &dead);
                assert_int_equal(ivg_producer_reserve(&dead, 5 * IVG_SLOT_PAYLOAD_BYTES, &record), 0);
                ivg_record_write(&dead, &record, 0, "half", 4);
                assert_false(fixture_send(&f, 1, 70, 9)); /* behind it */
                assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 0);
                assert_true(ivg_consumer_sleep_begin(&f.consumer));
                expect_recovery(&f, DEAD_A, 0, true);
                ivg_consumer_sleep_end(&f.consumer);
                expect_records(&f, 1, 9);
                fixture_check_record(&f.batch.records[0], 1, 70, 9);
                fixture_close(&f);
        }
}

static void all_claims_of_one_owner_are_completed(void **state)
{
        struct ring_fixture f;
        struct ivg_producer dead[3];
        struct ivg_record record = {0};

        (void)state;
        fixture_open(&f, 0);
        for (uint32_t i = 0; i < 3; i++) {
                open_dead(&f, DEAD_A, &dead[i]);
                assert_int_equal(ivg_producer_reserve(&dead[i], 100 * i, &record), 0);
                (void)fixture_send(&f, i, 1, (uint16_t)i);
        }
        expect_recovery(&f, DEAD_A, 0, false);
        expect_records(&f, 3, 0);
        fixture_close(&f);
}

static void live_rival_is_waited_for_and_never_touched(void **state)
{
        struct ring_fixture f;
        struct ivg_producer dead;
        struct ivg_record record = {0};
        uint64_t word;

        (void)state;
        fixture_open(&f, 0);
        open_dead(&f, DEAD_A, &dead);
        /* Both noted 0; the live one won and has not committed yet. */
        assert_int_equal(ivg_producer_reserve(&f.producer, 60, &record), 0);
        note(&f, &dead, 0, 2);
        word = ivg_load_relaxed_u64(&fixture_slot(&f, 0)->commit);
        expect_recovery(&f, DEAD_A, -EAGAIN, false);
        expect_recovery(&f, DEAD_A, -EAGAIN, false);
        assert_int_equal(ivg_load_relaxed_u64(&fixture_slot(&f, 0)->commit), word);
        (void)ivg_producer_commit(&f.producer, &record, 3);
        expect_recovery(&f, DEAD_A, 0, false);
        expect_records(&f, 1, 3);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 0);
        fixture_close(&f);
}

static void live_loser_is_waited_for_then_the_dead_winner_skipped(void **state)
{
        struct ring_fixture f;
        struct ivg_producer dead;
        struct ivg_record record = {0};

        (void)state;
        fixture_open(&f, 0);
        open_dead(&f, DEAD_A, &dead);
        assert_int_equal(ivg_producer_reserve(&dead, 1, &record), 0);
        note(&f, &f.producer, 0, 4); /* about to fail its exchange */
        expect_recovery(&f, DEAD_A, -EAGAIN, false);
        (void)fixture_send(&f, 1, 200, 3); /* which it did, and moved on */
        expect_recovery(&f, DEAD_A, 0, false);
        expect_records(&f, 1, 3);
        fixture_close(&f);
}

static void two_dead_with_the_same_claim_make_one_skip(void **state)
{
        struct ring_fixture f;
        struct ivg_producer a, b;
        struct ivg_record record = {0};

        (void)state;
        fixture_open(&f, 0);
        open_dead(&f, DEAD_A, &a);
        open_dead(&f, DEAD_B, &b);
        assert_int_equal(ivg_producer_reserve(&a, 100, &record), 0);
        note(&f, &b, 0, 2);
        (void)fixture_send(&f, 1, 1, 7);
        expect_recovery(&f, DEAD_A, -EAGAIN, false); /* B is not known to be dead yet */
        expect_recovery(&f, DEAD_B, 0, false);
        expect_recovery(&f, DEAD_A, 0, false);
        expect_records(&f, 1, 7);
        fixture_close(&f);
}

static void two_dead_that_differ_end_the_ring(void **state)
{
        struct ring_fixture f;
        struct ivg_producer a, b;
        struct ivg_record record = {0};

        (void)state;
        fixture_open(&f, 0);
        open_dead(&f, DEAD_A, &a);
        open_dead(&f, DEAD_B, &b);
        assert_int_equal(ivg_producer_reserve(&a, 100, &record), 0);
        note(&f, &b, 0, 5);
        expect_recovery(&f, DEAD_A, -EAGAIN, false);
        expect_recovery(&f, DEAD_B, -ENOTRECOVERABLE, false);
        expect_recovery(&f, DEAD_A, -ENOTRECOVERABLE, false);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 0); /* nothing was invented */
        fixture_close(&f);
}

static void nonsense_in_a_dead_line_is_not_followed(void **state)
{
        struct ring_fixture f;
        struct ivg_producer dead;
        struct ivg_record record = {0};

        (void)state;
        fixture_open(&f, 0);
        open_dead(&f, DEAD_A, &dead);
        assert_int_equal(ivg_producer_reserve(&dead, 1, &record), 0);
        note(&f, &dead, 0, IVG_RECORD_SLOTS_MAX + 1);
        expect_recovery(&f, DEAD_A, -ENOTRECOVERABLE, false);
        note(&f, &dead, 1ull << 40, 3); /* far in the future: no claim */
        expect_recovery(&f, DEAD_A, 0, false);
        fixture_close(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(idle_owner_leaves_only_its_line),
                cmocka_unit_test(note_without_a_claim_is_nothing),
                cmocka_unit_test(committed_claim_is_left_alone),
                cmocka_unit_test(committed_claim_whose_doorbell_was_not_rung_is_rung),
                cmocka_unit_test(consumed_and_overwritten_claim_is_left_alone),
                cmocka_unit_test(abandoned_claim_becomes_skip_and_rings),
                cmocka_unit_test(all_claims_of_one_owner_are_completed),
                cmocka_unit_test(live_rival_is_waited_for_and_never_touched),
                cmocka_unit_test(live_loser_is_waited_for_then_the_dead_winner_skipped),
                cmocka_unit_test(two_dead_with_the_same_claim_make_one_skip),
                cmocka_unit_test(two_dead_that_differ_end_the_ring),
                cmocka_unit_test(nonsense_in_a_dead_line_is_not_followed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
