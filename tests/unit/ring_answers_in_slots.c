/* An answer in the request's own slot: seen at once by who spins, never in place of another's, and never the only one.
 */
#include "ring_fixture.h"
#include <pthread.h>
#include <sched.h>

#define RESULT 700u

/* A synchronous request; its position through the pointer, its sequence returned. */
static uint64_t request(struct ivg_producer *producer, uint64_t *position)
{
        const uint64_t sequence = ++producer->sequence;
        struct ivg_record record = {0};

        assert_int_equal(ivg_producer_reserve(producer, sizeof(sequence), &record), 0);
        ivg_record_write(producer, &record, 0, &sequence, sizeof(sequence));
        (void)ivg_producer_commit(producer, &record, 9);
        *position = record.position;
        return sequence;
}

static void answer(struct ring_fixture *f, uint32_t at, uint64_t sequence, const void *bytes, uint32_t count)
{
        assert_true(at < f->batch.records_count);
        assert_int_equal(ivg_consumer_answer_record(&f->consumer, &f->batch.records[at], f->producer.index, sequence,
                                                    RESULT + count, bytes, count),
                         0);
}

static bool look(struct ring_fixture *f, uint64_t sequence, uint32_t look)
{
        struct ivg_answer_header header;

        return ivg_producer_look_for_answer(&f->producer, sequence, look, &header, NULL);
}

static uint32_t kind_at(struct ring_fixture *f, uint64_t position)
{
        return ivg_commit_kind(ivg_load_acquire_u64(&fixture_slot(f, position)->commit));
}

/* The mailbox as it was before the last answer: the consumer is between the two. */
static void take_mailbox_back(struct ring_fixture *f, uint64_t sequence)
{
        ivg_store_relaxed_u64(&f->host->mailboxes[f->producer.index].sequence, sequence);
}

static void answer_is_seen_in_slot_and_mailbox(void **state)
{
        const uint64_t starts[] = {0, (1ull << 32) - 20, UINT64_MAX - 20};

        (void)state;
        for (uint32_t start = 0; start < 3; start++) {
                struct ring_fixture f;

                fixture_open(&f, starts[start]);
                for (uint32_t bytes = 0; bytes <= IVG_MAILBOX_PAYLOAD_BYTES + 1; bytes++) {
                        const bool inside = bytes <= IVG_MAILBOX_PAYLOAD_BYTES;
                        uint8_t sent[IVG_MAILBOX_PAYLOAD_BYTES + 1], got[IVG_MAILBOX_PAYLOAD_BYTES];
                        struct ivg_answer_header header;
                        uint64_t position, sequence;

                        for (uint32_t i = 0; i < bytes; i++)
                                sent[i] = fixture_byte(starts[start] + bytes, i);
                        sequence = request(&f.producer, &position);
                        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
                        for (uint32_t i = 0; i < 2 * IVG_LOOKS_PER_MAILBOX; i++)
                                assert_false(look(&f, sequence, i));
                        answer(&f, 0, sequence, inside ? sent : NULL, bytes);
                        assert_int_equal(kind_at(&f, position), IVG_SLOT_ANSWERED);
                        take_mailbox_back(&f, sequence - 1);
                        assert_true(ivg_producer_look_for_answer(&f.producer, sequence, 1, &header, got));
                        assert_int_equal(header.result, RESULT + bytes);
                        assert_int_equal(header.answer_bytes, bytes);
                        if (inside)
                                assert_memory_equal(got, sent, bytes);
                        assert_true(look(&f, sequence, 0));
                        assert_false(look(&f, sequence, IVG_LOOKS_PER_MAILBOX - 1)); /* not in the mailbox yet */
                        take_mailbox_back(&f, sequence);
                        assert_true(ivg_producer_poll_answer(&f.producer, sequence, &header, got));
                        assert_int_equal(header.result, RESULT + bytes);
                        if (inside)
                                assert_memory_equal(got, sent, bytes);
                }
                fixture_close(&f);
        }
}

static void slot_that_was_given_back_takes_no_answer(void **state)
{
        struct ring_fixture f;
        uint64_t position, sequence;

        (void)state;
        fixture_open(&f, 0);
        sequence = request(&f.producer, &position);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
        ivg_consumer_publish(&f.consumer);
        answer(&f, 0, sequence, NULL, 0);
        assert_int_equal(kind_at(&f, position), IVG_SLOT_DATA);
        for (uint32_t i = 0; i < IVG_LOOKS_PER_MAILBOX; i++)
                assert_int_equal(look(&f, sequence, i), i == IVG_LOOKS_PER_MAILBOX - 1);
        fixture_close(&f);
}

/* What a take hands out is not given back before the next take, however many went before. */
static void slots_in_hand_stay_the_consumers(void **state)
{
        struct ring_fixture f;
        uint64_t position, sequence;

        (void)state;
        fixture_open(&f, UINT64_MAX - 3 * IVG_HEAD_PUBLISH_SLOTS);
        for (uint32_t sent = 0; sent < 6 * IVG_HEAD_PUBLISH_SLOTS; sent += 2) {
                (void)fixture_send(&f, sent, 8, 1);
                sequence = request(&f.producer, &position);
                if (sent % 4 == 0) /* by turns a batch, and one alone behind a look that finds nothing */
                        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 2);
                else
                        for (uint32_t i = 0; i < 2; i++) {
                                f.consumer.next_alone = true;
                                assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
                        }
                assert_true((int64_t)(position - ivg_load_relaxed_u64(&f.host->head)) >= 0);
                answer(&f, f.batch.records_count - 1, sequence, NULL, 0);
                f.consumer.next_alone = false;
                assert_int_equal(kind_at(&f, position), IVG_SLOT_ANSWERED);
                assert_true(look(&f, sequence, 1));
        }
        assert_true(position - ivg_load_relaxed_u64(&f.host->head) < IVG_HEAD_PUBLISH_SLOTS + IVG_BATCH_SLOTS_MAX);
        fixture_close(&f);
}

/* The waiter was away while the slot came to its next lap. */
static void late_waiter_looks_into_the_mailbox(void **state)
{
        struct ring_fixture f;
        struct ivg_producer other;
        uint64_t position, sequence, word;

        (void)state;
        fixture_open(&f, (1ull << 32) - 2);
        assert_int_equal(ivg_producer_open(&f.ring, FIXTURE_OWNER, &other), 0);
        sequence = request(&f.producer, &position);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
        answer(&f, 0, sequence, NULL, 0);
        word = ivg_load_acquire_u64(&fixture_slot(&f, position)->commit);
        ivg_consumer_publish(&f.consumer);

        /* Claims up to the slot's next lap leave it alone; the one that takes it may have written any of it. */
        ivg_store_relaxed_u64(&f.guest->tail, position + IVG_RING_SLOTS);
        assert_true(look(&f, sequence, 1));
        ivg_store_relaxed_u64(&f.guest->tail, position + IVG_RING_SLOTS + 1);
        assert_false(look(&f, sequence, 1));
        assert_true(look(&f, sequence, IVG_LOOKS_PER_MAILBOX - 1));
        /* 2^32 slots later an answer has the same tag. */
        ivg_store_relaxed_u64(&f.guest->tail, position + (1ull << 32) + 1);
        assert_int_equal(ivg_load_acquire_u64(&fixture_slot(&f, position)->commit), word);
        assert_false(look(&f, sequence, 1));
        /* Another lap's answer is told by its tag. */
        ivg_store_relaxed_u64(&f.guest->tail, position + 1);
        fixture_poke(&f, position, ivg_commit_word(position + IVG_RING_SLOTS, 1, IVG_SLOT_ANSWERED, 9));
        assert_false(look(&f, sequence, 1));
        fixture_close(&f);
}

/* An answered slot is a committed one for recovery, and no record for the consumer. */
static void answered_slot_is_no_open_claim_and_no_record(void **state)
{
        struct ring_fixture f;
        struct ivg_producer dead;
        uint64_t position, sequence;
        bool doorbell;

        (void)state;
        fixture_open(&f, 0);
        assert_int_equal(ivg_producer_open(&f.ring, 100, &dead), 0);
        sequence = request(&dead, &position);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
        answer(&f, 0, sequence, NULL, 0);
        /* It died before it took its note away. */
        ivg_store_relaxed_u64(&dead.line->position, position);
        ivg_store_relaxed_u32(&dead.line->slots, 1);
        assert_int_equal(ivg_ring_recover(&f.ring, 100, &doorbell), 0);
        assert_false(doorbell);
        assert_int_equal(kind_at(&f, position), IVG_SLOT_ANSWERED);
        /* Forged where a record should be. */
        fixture_poke(&f, position + 1, ivg_commit_word(position + 1, 1, IVG_SLOT_ANSWERED, 9));
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), -EPROTO);
        assert_int_equal((uint32_t)ivg_load_relaxed_u64(&f.host->fault), IVG_FAULT_RECORD_KIND);
        fixture_close(&f);
}

/* The answer in the mailbox comes when its thread has gone: it must not be the next owner's. */
static void next_owner_of_the_line_counts_on(void **state)
{
        struct ring_fixture f;
        struct ivg_answer_header header;
        uint64_t position, sequence;

        (void)state;
        fixture_open(&f, 0);
        sequence = request(&f.producer, &position);
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
        answer(&f, 0, sequence, NULL, 0);
        take_mailbox_back(&f, 0);
        assert_true(look(&f, sequence, 1));
        ivg_producer_close(&f.producer);
        assert_int_equal(ivg_producer_open(&f.ring, FIXTURE_OWNER, &f.producer), 0);
        assert_true(f.producer.sequence >= (sequence | UINT32_MAX));
        take_mailbox_back(&f, sequence);
        assert_false(ivg_producer_poll_answer(&f.producer, f.producer.sequence + 1, &header, NULL));
        fixture_close(&f);
}

/* ---- at full speed: threads that ask, and one that fills the slots behind them ---- */

#define ASKING 2u
#define ROUNDS 800u
#define POSTED 0x55ull

static struct ring_fixture busy;
static _Atomic(uint32_t) over; /* 1 when all have their answers */

static void *ask(void *argument)
{
        struct ivg_producer producer;
        const uint64_t seed = (uint64_t)(uintptr_t)argument;

        assert_int_equal(ivg_producer_open(&busy.ring, FIXTURE_OWNER, &producer), 0);
        for (uint64_t i = 0; i < ROUNDS; i++) {
                const uint64_t sequence = ++producer.sequence, words[3] = {producer.index, sequence, seed * i};
                uint8_t got[IVG_MAILBOX_PAYLOAD_BYTES];
                struct ivg_answer_header header;
                struct ivg_record record = {0};

                while (ivg_producer_reserve(&producer, sizeof(words), &record) == -EAGAIN)
                        sched_yield();
                ivg_record_fill(&producer, &record, words);
                (void)ivg_producer_commit(&producer, &record, 1);
                if (i % 64 == 0)
                        sched_yield(); /* the slot may come round meanwhile */
                for (uint32_t look = 0; !ivg_producer_look_for_answer(&producer, sequence, look, &header, got); look++)
                        if (look % 64 == 63)
                                sched_yield();
                assert_int_equal(header.answer_bytes, 8 + i % 5 * 8);
                for (uint32_t word = 0; word < header.answer_bytes / 8; word++) {
                        uint64_t value;

                        memcpy(&value, got + (size_t)word * 8, 8);
                        assert_int_equal(value, seed * i + word);
                }
        }
        ivg_producer_close(&producer);
        return NULL;
}

static void *post(void *argument)
{
        struct ivg_producer producer;
        const uint64_t words[7] = {POSTED, POSTED, POSTED, POSTED, POSTED, POSTED, POSTED};

        (void)argument;
        assert_int_equal(ivg_producer_open(&busy.ring, FIXTURE_OWNER, &producer), 0);
        while (ivg_load_acquire_u32(&over) == 0) {
                struct ivg_record record = {0};

                if (ivg_producer_reserve(&producer, sizeof(words), &record) == -EAGAIN) {
                        sched_yield();
                        continue;
                }
                ivg_record_fill(&producer, &record, words);
                (void)ivg_producer_commit(&producer, &record, 2);
        }
        ivg_producer_close(&producer);
        return NULL;
}

static void serve(const struct ivg_taken_record *record, uint64_t *counts)
{
        uint64_t words[3], given[6];

        memcpy(words, record->payload, sizeof(words));
        for (uint32_t i = 0; i < 6; i++)
                given[i] = words[2] + i;
        (void)ivg_consumer_answer_record(&busy.consumer, record, (uint32_t)words[0], words[1], 0, given,
                                         (uint32_t)(8 + counts[words[0]]++ % 5 * 8));
}

static void *serve_all(void *argument)
{
        static uint64_t counts[IVG_RING_PRODUCERS];
        uint64_t left = (uint64_t)ASKING * ROUNDS;

        (void)argument;
        while (left != 0) {
                const int count = ivg_consumer_take(&busy.consumer, &busy.batch);

                assert_true(count >= 0);
                if (count == 0)
                        sched_yield();
                for (int i = 0; i < count; i++) {
                        if (busy.batch.records[i].opcode != 1)
                                continue;
                        serve(&busy.batch.records[i], counts);
                        left--;
                }
        }
        ivg_store_release_u32(&over, 1);
        ivg_consumer_publish(&busy.consumer);
        return NULL;
}

static void each_thread_gets_its_own_answers_whole(void **state)
{
        pthread_t threads[ASKING + 2];

        (void)state;
        fixture_open(&busy, UINT64_MAX - 10 * IVG_RING_SLOTS);
        for (uint64_t i = 0; i < ASKING; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, ask, (void *)(uintptr_t)(i + 3)), 0);
        assert_int_equal(pthread_create(&threads[ASKING], NULL, post, NULL), 0);
        assert_int_equal(pthread_create(&threads[ASKING + 1], NULL, serve_all, NULL), 0);
        for (uint32_t i = 0; i < ASKING + 2; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        fixture_close(&busy);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(answer_is_seen_in_slot_and_mailbox),
                cmocka_unit_test(slot_that_was_given_back_takes_no_answer),
                cmocka_unit_test(slots_in_hand_stay_the_consumers),
                cmocka_unit_test(late_waiter_looks_into_the_mailbox),
                cmocka_unit_test(answered_slot_is_no_open_claim_and_no_record),
                cmocka_unit_test(next_owner_of_the_line_counts_on),
                cmocka_unit_test(each_thread_gets_its_own_answers_whole),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
