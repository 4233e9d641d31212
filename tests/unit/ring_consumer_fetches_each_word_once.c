/* The hostile guest in its purest form: every word changes right after each fetch of it.
 *
 * ring_consumer.c is compiled here with IVG_LOAD_HOOK. A second fetch of the same word within one call fails at once,
 * and whatever was copied must be what the first fetch saw. */
#include "ring_fixture.h"

static struct ring_fixture *hostile;
static uint8_t fetched[sizeof(struct ivg_ring_guest_part) / 4]; /* per 32-bit word, in this call */
static uint32_t fetches;

void ivg_load_hook(const volatile void *address, uint32_t bytes)
{
        uintptr_t offset;

        if (!hostile)
                return;
        offset = (uintptr_t)address - (uintptr_t)hostile->guest;
        if (offset >= sizeof(*hostile->guest)) {
                /* A private word, or the host part, which the consumer writes and must not read back. */
                assert_true((uintptr_t)address - (uintptr_t)hostile->host >= sizeof(*hostile->host));
                return;
        }
        for (uint32_t i = 0; i < bytes; i += 4) {
                assert_int_equal(fetched[(offset + i) / 4], 0);
                fetched[(offset + i) / 4] = 1;
        }
        fetches++;
        memset((uint8_t *)hostile->guest + offset, 0xee, bytes);
}

static void begin_hostility(struct ring_fixture *f)
{
        memset(fetched, 0, sizeof(fetched));
        fetches = 0;
        hostile = f;
}

static void take_uses_the_first_and_only_fetch(void **state)
{
        struct ring_fixture f;
        int count;

        (void)state;
        fixture_open(&f, IVG_RING_SLOTS - 5);
        (void)fixture_send(&f, 1, 20, 1);
        (void)fixture_send(&f, 2, 20 * IVG_SLOT_PAYLOAD_BYTES, 2);
        (void)fixture_send(&f, 3, 56, 3);
        begin_hostility(&f);
        count = ivg_consumer_take(&f.consumer, &f.batch);
        hostile = NULL;
        assert_int_equal(count, 3);
        assert_int_equal(fetches, 22 * 8 + 1); /* 22 lines, and the word after them */
        fixture_check_record(&f.batch.records[0], 1, 20, 1);
        fixture_check_record(&f.batch.records[1], 2, 20 * IVG_SLOT_PAYLOAD_BYTES, 2);
        fixture_check_record(&f.batch.records[2], 3, 56, 3);
        fixture_close(&f);
}

/* The way of nearly every call that somebody waits for: nothing was there, now one record is. */
static void a_record_that_comes_alone_is_fetched_once(void **state)
{
        static const uint32_t lengths[] = {20, 20 * IVG_SLOT_PAYLOAD_BYTES};

        (void)state;
        for (uint32_t i = 0; i < 2; i++) {
                const uint32_t slots = (lengths[i] + IVG_SLOT_PAYLOAD_BYTES - 1) / IVG_SLOT_PAYLOAD_BYTES;
                struct ring_fixture f;
                int count;

                fixture_open(&f, IVG_RING_SLOTS - 1);
                assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 0);
                (void)fixture_send(&f, 1, lengths[i], 1);
                (void)fixture_send(&f, 2, 56, 2);
                begin_hostility(&f);
                count = ivg_consumer_take(&f.consumer, &f.batch);
                hostile = NULL;
                assert_int_equal(count, 1);
                assert_int_equal(fetches, slots * 8); /* and not the word after them */
                fixture_check_record(&f.batch.records[0], 1, lengths[i], 1);
                fixture_close(&f);
        }
}

static void answer_and_sleep_fetch_one_word_each(void **state)
{
        struct ring_fixture f;
        bool asleep;

        (void)state;
        fixture_open(&f, IVG_RING_SLOTS); /* the hostile word must not be the awaited one's */
        begin_hostility(&f);
        (void)ivg_consumer_answer(&f.consumer, 3, 1, 0, "x", 1);
        assert_int_equal(fetches, 1);
        f.batch.records[0] = (struct ivg_taken_record){.position = IVG_RING_SLOTS + 5, .opcode = 1, .slots = 1};
        begin_hostility(&f);
        (void)ivg_consumer_answer_record(&f.consumer, &f.batch.records[0], 3, 2, 0, "x", 1); /* reads no slot */
        assert_int_equal(fetches, 1);
        begin_hostility(&f);
        asleep = ivg_consumer_sleep_begin(&f.consumer);
        ivg_consumer_sleep_end(&f.consumer);
        hostile = NULL;
        assert_true(asleep);
        assert_int_equal(ivg_commit_kind(ivg_load_relaxed_u64(&fixture_slot(&f, IVG_RING_SLOTS + 5)->commit)),
                         IVG_SLOT_ANSWERED);
        assert_int_equal(fetches, 1);
        fixture_close(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(take_uses_the_first_and_only_fetch),
                cmocka_unit_test(a_record_that_comes_alone_is_fetched_once),
                cmocka_unit_test(answer_and_sleep_fetch_one_word_each),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
