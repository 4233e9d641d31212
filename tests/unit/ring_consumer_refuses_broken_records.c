/* Ring bytes built by hand: what the consumer takes, what it leaves, what it refuses and with which words. */
#include "ring_fixture.h"

static void expect_fault(struct ring_fixture *f, enum ivg_ring_fault fault, uint32_t value, uint64_t position)
{
        assert_int_equal(ivg_consumer_take(&f->consumer, &f->batch), -EPROTO);
        assert_int_equal(ivg_load_acquire_u64(&f->host->status), (uint64_t)FIXTURE_GENERATION << 32 | IVG_RING_FAULT);
        assert_int_equal(ivg_load_relaxed_u64(&f->host->fault), (uint64_t)value << 32 | fault);
        assert_int_equal(ivg_load_relaxed_u64(&f->host->fault_position), position);
        assert_int_equal(ivg_ring_state_errno(&f->ring), -EPROTO);
        /* For good, also when the slot is repaired. */
        fixture_poke(f, position, ivg_commit_word(position, 1, IVG_SLOT_DATA, 1));
        assert_int_equal(ivg_consumer_take(&f->consumer, &f->batch), -EPROTO);
        assert_int_equal(f->batch.records_count, 0);
}

static void half_written_record_stops_the_consumer(void **state)
{
        struct ring_fixture f;
        struct ivg_record first = {0}, second = {0};

        (void)state;
        fixture_open(&f, 0);
        /* Claimed, payload there, not committed; a later one is. Order holds, nothing is taken. */
        assert_int_equal(ivg_producer_reserve(&f.producer, 8, &first), 0);
        ivg_record_write(&f.producer, &first, 0, "early...", 8);
        assert_int_equal(ivg_producer_reserve(&f.producer, 8, &second), 0);
        ivg_record_write(&f.producer, &second, 0, "late....", 8);
        (void)ivg_producer_commit(&f.producer, &second, 2);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 0);
        (void)ivg_producer_commit(&f.producer, &first, 1);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1); /* the first after none comes alone */
        assert_int_equal(f.batch.records[0].opcode, 1);
        assert_memory_equal(f.batch.records[0].payload, "early...", 8);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
        assert_int_equal(f.batch.records[0].opcode, 2);
        assert_memory_equal(f.batch.records[0].payload, "late....", 8);
        fixture_close(&f);
}

static void skip_is_passed_over(void **state)
{
        struct ring_fixture f;
        struct ivg_record record = {0};

        (void)state;
        fixture_open(&f, 0);
        /* By hand: three slots, continuation words never written. */
        ivg_store_relaxed_u64(&f.guest->tail, 3);
        fixture_poke(&f, 0, ivg_commit_word(0, 3, IVG_SLOT_SKIP, 9));
        (void)fixture_send(&f, 5, 100, 77);
        /* By the producer. */
        assert_int_equal(ivg_producer_reserve(&f.producer, 200, &record), 0);
        (void)ivg_producer_abandon(&f.producer, &record);
        (void)fixture_send(&f, 6, 1, 78);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 2);
        fixture_check_record(&f.batch.records[0], 5, 100, 77);
        fixture_check_record(&f.batch.records[1], 6, 1, 78);
        assert_int_equal(f.batch.records[0].position, 3);
        assert_int_equal(f.batch.records[1].position, 9);
        fixture_close(&f);
}

static void stale_lap_is_no_record(void **state)
{
        struct ring_fixture f;

        (void)state;
        fixture_open(&f, 3 * IVG_RING_SLOTS);
        fixture_poke(&f, 3 * IVG_RING_SLOTS, ivg_commit_word(2 * IVG_RING_SLOTS, 1, IVG_SLOT_DATA, 1));
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 0);
        fixture_poke(&f, 3 * IVG_RING_SLOTS, ivg_commit_word(4 * IVG_RING_SLOTS, 1, IVG_SLOT_DATA, 1));
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 0);
        fixture_poke(&f, 3 * IVG_RING_SLOTS, 0);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 0);
        assert_int_equal(ivg_ring_state_errno(&f.ring), 0);
        fixture_close(&f);
}

static void wrong_continuation_is_refused(void **state)
{
        /* Of an earlier lap, with a length, of DATA kind, zero, of a neighbour's position. */
        const uint64_t start = 2 * IVG_RING_SLOTS - 2; /* the record runs over the end */
        const uint64_t bad_words[] = {
                ivg_commit_word(start + 2 - IVG_RING_SLOTS, 0, IVG_SLOT_CONT, 0),
                ivg_commit_word(start + 2, 1, IVG_SLOT_CONT, 0),
                ivg_commit_word(start + 2, 0, IVG_SLOT_DATA, 0),
                ivg_commit_word(start + 2, 0, IVG_SLOT_CONT, 1),
                0,
                ivg_commit_word(start + 1, 0, IVG_SLOT_CONT, 0),
        };

        (void)state;
        for (size_t i = 0; i < sizeof(bad_words) / sizeof(bad_words[0]); i++) {
                struct ring_fixture f;

                fixture_open(&f, start);
                (void)fixture_send(&f, i, 4 * IVG_SLOT_PAYLOAD_BYTES, 3);
                fixture_poke(&f, start + 2, bad_words[i]);
                assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), -EPROTO);
                assert_int_equal(f.batch.records_count, 0);
                assert_int_equal(ivg_load_relaxed_u64(&f.host->fault), 2ull << 32 | IVG_FAULT_CONT_TAG);
                assert_int_equal(ivg_load_relaxed_u64(&f.host->fault_position), start + 2);
                fixture_close(&f);
        }
}

static void slot_counts_0_and_65_are_refused(void **state)
{
        const uint32_t slots[] = {0, IVG_RECORD_SLOTS_MAX + 1, 255};
        const enum ivg_slot_kind kinds[] = {IVG_SLOT_DATA, IVG_SLOT_SKIP};

        (void)state;
        for (size_t i = 0; i < 6; i++) {
                struct ring_fixture f;
                const uint64_t word = ivg_commit_word(0, slots[i / 2], kinds[i % 2], 0x1234);

                fixture_open(&f, 0);
                fixture_poke(&f, 0, word);
                expect_fault(&f, IVG_FAULT_RECORD_SLOTS, (uint32_t)(word >> 32), 0);
                fixture_close(&f);
        }
}

static void wrong_kinds_are_refused(void **state)
{
        const uint32_t kinds[] = {0, IVG_SLOT_CONT, 4, 255};

        (void)state;
        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
                struct ring_fixture f;
                const uint64_t word = ivg_commit_word(0, 1, (enum ivg_slot_kind)kinds[i], 1);

                fixture_open(&f, 0);
                fixture_poke(&f, 0, word);
                expect_fault(&f, IVG_FAULT_RECORD_KIND, (uint32_t)(word >> 32), 0);
                fixture_close(&f);
        }
}

static void records_before_a_broken_one_are_delivered(void **state)
{
        struct ring_fixture f;

        (void)state;
        fixture_open(&f, 0);
        (void)fixture_send(&f, 1, 60, 11);
        (void)fixture_send(&f, 2, 10, 12);
        fixture_poke(&f, 3, ivg_commit_word(3, 0, IVG_SLOT_DATA, 1));
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), -EPROTO);
        assert_int_equal(f.batch.records_count, 2);
        fixture_check_record(&f.batch.records[0], 1, 60, 11);
        fixture_check_record(&f.batch.records[1], 2, 10, 12);
        fixture_close(&f);
}

static void first_end_wins(void **state)
{
        struct ring_fixture f;

        (void)state;
        fixture_open(&f, 0);
        ivg_consumer_fault(&f.consumer, IVG_FAULT_OPCODE, 4711, 12);
        ivg_consumer_close(&f.consumer, IVG_RING_CLOSED, IVG_FAULT_NONE, 0);
        ivg_consumer_close(&f.consumer, IVG_RING_FAULT, IVG_FAULT_ARENA, 1);
        assert_int_equal(ivg_ring_state_errno(&f.ring), -EPROTO);
        assert_int_equal(ivg_load_relaxed_u64(&f.host->fault), 4711ull << 32 | IVG_FAULT_OPCODE);
        assert_int_equal(ivg_load_relaxed_u64(&f.host->fault_position), 12);
        fixture_close(&f);
}

static void what_the_guest_scribbles_elsewhere_is_not_looked_at(void **state)
{
        struct ring_fixture f;

        (void)state;
        fixture_open(&f, 0);
        (void)fixture_send(&f, 3, 56, 5);
        ivg_store_relaxed_u64(&f.guest->tail, UINT64_MAX);
        memset(&f.guest->producers[1], 0xff, sizeof(f.guest->producers) - sizeof(f.guest->producers[0]));
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
        fixture_check_record(&f.batch.records[0], 3, 56, 5);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 0);
        fixture_close(&f);
}

static void every_fault_has_its_own_name(void **state)
{
        (void)state;
        for (int i = 0; i <= IVG_FAULT_ARENA; i++) {
                assert_string_not_equal(ivg_ring_fault_name((enum ivg_ring_fault)i), "unknown fault");
                for (int j = 0; j < i; j++)
                        assert_string_not_equal(ivg_ring_fault_name((enum ivg_ring_fault)i),
                                                ivg_ring_fault_name((enum ivg_ring_fault)j));
        }
        assert_string_equal(ivg_ring_fault_name((enum ivg_ring_fault)999), "unknown fault");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(half_written_record_stops_the_consumer),
                cmocka_unit_test(skip_is_passed_over),
                cmocka_unit_test(stale_lap_is_no_record),
                cmocka_unit_test(wrong_continuation_is_refused),
                cmocka_unit_test(slot_counts_0_and_65_are_refused),
                cmocka_unit_test(wrong_kinds_are_refused),
                cmocka_unit_test(records_before_a_broken_one_are_delivered),
                cmocka_unit_test(first_end_wins),
                cmocka_unit_test(what_the_guest_scribbles_elsewhere_is_not_looked_at),
                cmocka_unit_test(every_fault_has_its_own_name),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
