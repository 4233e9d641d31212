/* Mailboxes short and long, and both sleep handshakes decided step by step. */
#include "ring_fixture.h"

static void answer_travels_in_the_mailbox(void **state)
{
        struct ring_fixture f;
        uint8_t sent[IVG_MAILBOX_PAYLOAD_BYTES], got[IVG_MAILBOX_PAYLOAD_BYTES];
        struct ivg_answer_header header;

        (void)state;
        fixture_open(&f, 0);
        for (uint32_t bytes = 0; bytes <= IVG_MAILBOX_PAYLOAD_BYTES; bytes++) {
                const uint64_t sequence = ++f.producer.sequence;

                for (uint32_t i = 0; i < bytes; i++)
                        sent[i] = fixture_byte(sequence, i);
                assert_false(ivg_producer_poll_answer(&f.producer, sequence, &header, got));
                assert_int_equal(ivg_consumer_answer(&f.consumer, f.producer.index, sequence, 700 + bytes, sent, bytes),
                                 0);
                assert_false(ivg_producer_poll_answer(&f.producer, sequence + 1, &header, got));
                assert_true(ivg_producer_poll_answer(&f.producer, sequence, &header, got));
                assert_int_equal(header.result, 700 + bytes);
                assert_int_equal(header.answer_bytes, bytes);
                assert_memory_equal(got, sent, bytes);
                assert_true(ivg_producer_poll_answer(&f.producer, sequence, &header, NULL));
        }
        fixture_close(&f);
}

static void long_answer_only_announces_itself(void **state)
{
        struct ring_fixture f;
        uint8_t got[IVG_MAILBOX_PAYLOAD_BYTES];
        struct ivg_answer_header header;

        (void)state;
        memset(got, 0xaa, sizeof(got));
        fixture_open(&f, 0);
        assert_int_equal(ivg_consumer_answer(&f.consumer, f.producer.index, 1, 3, NULL, IVG_MAILBOX_PAYLOAD_BYTES + 1),
                         0);
        assert_true(ivg_producer_poll_answer(&f.producer, 1, &header, got));
        assert_int_equal(header.result, 3);
        assert_int_equal(header.answer_bytes, IVG_MAILBOX_PAYLOAD_BYTES + 1);
        for (size_t i = 0; i < sizeof(got); i++)
                assert_int_equal(got[i], 0xaa);
        fixture_close(&f);
}

static void answer_index_is_bounded(void **state)
{
        struct ring_fixture f;

        (void)state;
        fixture_open(&f, 0);
        assert_int_equal(ivg_consumer_answer(&f.consumer, IVG_RING_PRODUCERS, 1, 0, NULL, 0), -EINVAL);
        assert_int_equal(ivg_consumer_answer(&f.consumer, UINT32_MAX, 1, 0, NULL, 0), -EINVAL);
        assert_int_equal(ivg_consumer_answer(&f.consumer, IVG_RING_PRODUCERS - 1, 1, 0, NULL, 0), 0);
        fixture_close(&f);
}

static void sleeping_guest_thread_is_interrupted_once_it_said_so(void **state)
{
        struct ring_fixture f;

        (void)state;
        fixture_open(&f, 0);
        assert_int_equal(ivg_consumer_answer(&f.consumer, f.producer.index, 1, 0, NULL, 0), 0);
        assert_true(ivg_producer_wait_begin(&f.producer, 1)); /* came before the announcement: do not sleep */
        ivg_producer_wait_end(&f.producer);
        assert_false(ivg_producer_wait_begin(&f.producer, 2));
        assert_int_equal(ivg_consumer_answer(&f.consumer, f.producer.index + 1, 2, 0, NULL, 0), 0); /* not this one */
        assert_int_equal(ivg_consumer_answer(&f.consumer, f.producer.index, 2, 0, NULL, 0), 1);
        ivg_producer_wait_end(&f.producer);
        assert_int_equal(ivg_consumer_answer(&f.consumer, f.producer.index, 3, 0, NULL, 0), 0);
        fixture_close(&f);
}

static void only_the_awaited_record_rings(void **state)
{
        struct ring_fixture f;
        struct ivg_producer other;
        struct ivg_record awaited = {0}, behind = {0};

        (void)state;
        fixture_open(&f, (1ull << 32) - 1);
        assert_int_equal(ivg_producer_open(&f.ring, FIXTURE_OWNER, &other), 0);
        assert_false(fixture_send(&f, 1, 1, 1));             /* consumer awake */
        assert_false(ivg_consumer_sleep_begin(&f.consumer)); /* a record is there: no sleep */
        ivg_consumer_sleep_end(&f.consumer);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);

        assert_true(ivg_consumer_sleep_begin(&f.consumer));
        assert_int_equal(ivg_producer_reserve(&f.producer, 300, &awaited), 0);
        assert_int_equal(ivg_producer_reserve(&other, 1, &behind), 0);
        assert_false(ivg_producer_commit(&other, &behind, 2)); /* behind an uncommitted one: no use to ring */
        assert_true(ivg_producer_commit(&f.producer, &awaited, 3));
        assert_false(fixture_send(&f, 1, 1, 4)); /* a second doorbell would be one too many */
        ivg_consumer_sleep_end(&f.consumer);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 3);
        assert_false(fixture_send(&f, 1, 1, 5));
        fixture_close(&f);
}

static void abandoned_record_wakes_too(void **state)
{
        struct ring_fixture f;
        struct ivg_record record = {0};

        (void)state;
        fixture_open(&f, 0);
        assert_true(ivg_consumer_sleep_begin(&f.consumer));
        assert_int_equal(ivg_producer_reserve(&f.producer, 1, &record), 0);
        assert_true(ivg_producer_abandon(&f.producer, &record)); /* else records behind it would not wake anybody */
        ivg_consumer_sleep_end(&f.consumer);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 0);
        assert_true(ivg_consumer_sleep_begin(&f.consumer)); /* awaits the next position now */
        assert_true(fixture_send(&f, 1, 1, 1));
        fixture_close(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(answer_travels_in_the_mailbox),
                cmocka_unit_test(long_answer_only_announces_itself),
                cmocka_unit_test(answer_index_is_bounded),
                cmocka_unit_test(sleeping_guest_thread_is_interrupted_once_it_said_so),
                cmocka_unit_test(only_the_awaited_record_rings),
                cmocka_unit_test(abandoned_record_wakes_too),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
