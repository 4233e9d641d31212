/* Every length, every place in the ring, positions near 2^32 and 2^64, batch ends, space given back. */
#include "ring_fixture.h"

static void every_length_arrives(void **state)
{
        struct ring_fixture f;

        (void)state;
        fixture_open(&f, IVG_RING_SLOTS - 3); /* soon over the end, then around several times */
        for (uint32_t bytes = 0; bytes <= IVG_RECORD_PAYLOAD_BYTES_MAX; bytes += bytes < 200 ? 1 : 61) {
                (void)fixture_send(&f, bytes, bytes, (uint16_t)bytes);
                assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
                fixture_check_record(&f.batch.records[0], bytes, bytes, (uint16_t)bytes);
        }
        (void)fixture_send(&f, 1, IVG_RECORD_PAYLOAD_BYTES_MAX, UINT16_MAX);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
        fixture_check_record(&f.batch.records[0], 1, IVG_RECORD_PAYLOAD_BYTES_MAX, UINT16_MAX);
        fixture_close(&f);
}

static void writes_in_pieces_make_one_record(void **state)
{
        struct ring_fixture f;
        uint8_t payload[500];
        struct ivg_record record = {0};

        (void)state;
        for (uint32_t i = 0; i < sizeof(payload); i++)
                payload[i] = fixture_byte(9, i);
        fixture_open(&f, IVG_RING_SLOTS - 4);
        for (uint32_t piece = 1; piece < 130; piece++) {
                assert_int_equal(ivg_producer_reserve(&f.producer, sizeof(payload), &record), 0);
                for (uint32_t at = 0; at < sizeof(payload); at += piece)
                        ivg_record_write(&f.producer, &record, at, payload + at,
                                         piece < sizeof(payload) - at ? piece : (uint32_t)sizeof(payload) - at);
                (void)ivg_producer_commit(&f.producer, &record, (uint16_t)piece);
                assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
                fixture_check_record(&f.batch.records[0], 9, sizeof(payload), (uint16_t)piece);
        }
        fixture_close(&f);
}

/* Lengths that fill batches unevenly, sent until full and taken until empty, from `start` on; all in order. */
static void send_and_take(uint64_t start, uint64_t records)
{
        struct ring_fixture f;
        uint64_t sent = 0, taken = 0, position = start;

        fixture_open(&f, start);
        while (taken < records) {
                bool asleep;

                for (; sent < records; sent++) {
                        const uint64_t at = ivg_load_relaxed_u64(&f.guest->tail);

                        if (!fixture_try_send(&f, sent, (uint32_t)(sent * 37 % 1500), (uint16_t)sent, &asleep))
                                break;
                        /* The sleep word of that one position is 0, as nobody's: a doorbell too many there. */
                        assert_true(!asleep || at == UINT64_MAX);
                }
                for (;;) {
                        const int count = ivg_consumer_take(&f.consumer, &f.batch);

                        assert_true(count >= 0);
                        if (count == 0)
                                break;
                        for (int i = 0; i < count; i++, taken++) {
                                assert_int_equal(f.batch.records[i].position, position);
                                fixture_check_record(&f.batch.records[i], taken, (uint32_t)(taken * 37 % 1500),
                                                     (uint16_t)taken);
                                position += f.batch.records[i].slots;
                        }
                }
                assert_int_equal(taken, sent);
        }
        fixture_close(&f);
}

static void order_holds_over_many_laps(void **state)
{
        (void)state;
        send_and_take(0, 3000);
}

static void order_holds_across_2_to_the_32(void **state)
{
        (void)state;
        send_and_take((1ull << 32) - 2 * IVG_RING_SLOTS - 5, 3000);
        send_and_take((1ull << 32) - 1, 500);
        send_and_take((1ull << 32), 500);
        send_and_take((1ull << 31) - 7, 500);
}

static void order_holds_across_2_to_the_64(void **state)
{
        (void)state;
        send_and_take(UINT64_MAX - 2 * IVG_RING_SLOTS - 5, 3000);
        send_and_take(UINT64_MAX, 500);
}

static void record_that_does_not_fit_waits_for_the_next_batch(void **state)
{
        struct ring_fixture f;

        (void)state;
        fixture_open(&f, 0);
        (void)fixture_send(&f, 1, 40 * IVG_SLOT_PAYLOAD_BYTES, 1);
        (void)fixture_send(&f, 2, 25 * IVG_SLOT_PAYLOAD_BYTES, 2); /* 65 in all */
        (void)fixture_send(&f, 3, 39 * IVG_SLOT_PAYLOAD_BYTES, 3); /* exactly 64 with the one before */
        (void)fixture_send(&f, 4, IVG_RECORD_PAYLOAD_BYTES_MAX, 4);
        for (uint16_t i = 0; i < 70; i++)
                (void)fixture_send(&f, i, 0, i);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
        fixture_check_record(&f.batch.records[0], 1, 40 * IVG_SLOT_PAYLOAD_BYTES, 1);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 2);
        fixture_check_record(&f.batch.records[0], 2, 25 * IVG_SLOT_PAYLOAD_BYTES, 2);
        fixture_check_record(&f.batch.records[1], 3, 39 * IVG_SLOT_PAYLOAD_BYTES, 3);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
        fixture_check_record(&f.batch.records[0], 4, IVG_RECORD_PAYLOAD_BYTES_MAX, 4);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), IVG_BATCH_SLOTS_MAX);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 6);
        assert_int_equal(f.batch.records[5].opcode, 69);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 0);
        fixture_close(&f);
}

/* Its answer waits for no look at the next slot; whoever is behind it comes with the next call. */
static void first_record_after_none_comes_alone(void **state)
{
        struct ring_fixture f;
        bool asleep;

        (void)state;
        fixture_open(&f, 0);
        asleep = fixture_send(&f, 1, 8, 1) || fixture_send(&f, 2, 8, 2);
        assert_false(asleep);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch),
                         2); /* not before the first call that found nothing */
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 0);
        assert_true(fixture_try_send(&f, 3, 8, 3, &asleep) && fixture_try_send(&f, 4, 300, 4, &asleep) &&
                    fixture_try_send(&f, 5, 8, 5, &asleep));
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
        fixture_check_record(&f.batch.records[0], 3, 8, 3);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 2);
        fixture_check_record(&f.batch.records[0], 4, 300, 4);
        fixture_check_record(&f.batch.records[1], 5, 8, 5);
        fixture_close(&f);
}

static void space_comes_back_rarely_and_before_sleep(void **state)
{
        struct ring_fixture f;
        uint32_t taken = 0;

        (void)state;
        fixture_open(&f, 0);
        for (uint32_t i = 0; i < IVG_RING_SLOTS; i++)
                (void)fixture_send(&f, i, 1, 0);
        while (taken < IVG_HEAD_PUBLISH_SLOTS - IVG_BATCH_SLOTS_MAX) {
                taken += (uint32_t)ivg_consumer_take(&f.consumer, &f.batch);
                assert_int_equal(ivg_load_relaxed_u64(&f.host->head), 0);
        }
        taken += (uint32_t)ivg_consumer_take(&f.consumer, &f.batch);
        assert_int_equal(taken, IVG_HEAD_PUBLISH_SLOTS);
        assert_int_equal(ivg_load_relaxed_u64(&f.host->head), 0); /* the last ones may be answered where they lie */
        for (uint32_t i = 0; i < 2; i++) {
                (void)ivg_consumer_take(&f.consumer, &f.batch);
                assert_int_equal(ivg_load_relaxed_u64(&f.host->head), IVG_HEAD_PUBLISH_SLOTS);
        }
        assert_false(ivg_consumer_sleep_begin(&f.consumer));
        assert_int_equal(ivg_load_relaxed_u64(&f.host->head), IVG_HEAD_PUBLISH_SLOTS + 2 * IVG_BATCH_SLOTS_MAX);
        ivg_consumer_sleep_end(&f.consumer);
        fixture_close(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_length_arrives),
                cmocka_unit_test(writes_in_pieces_make_one_record),
                cmocka_unit_test(order_holds_over_many_laps),
                cmocka_unit_test(order_holds_across_2_to_the_32),
                cmocka_unit_test(order_holds_across_2_to_the_64),
                cmocka_unit_test(record_that_does_not_fit_waits_for_the_next_batch),
                cmocka_unit_test(first_record_after_none_comes_alone),
                cmocka_unit_test(space_comes_back_rarely_and_before_sleep),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
