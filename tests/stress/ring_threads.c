/* Eight producer threads, one consumer that sleeps: order per producer, nothing lost or torn, no wake-up lost on either
 * side, and never more doorbells than sleeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "ring_stress.h"
#include <cmocka.h>
#include <pthread.h>
#include <sys/mman.h>

#ifdef IVG_TSAN
#define RECORDS_PER_PRODUCER 4000u
#else
#define RECORDS_PER_PRODUCER 40000u
#endif

static void *producer_thread(void *argument)
{
        stress_produce(argument);
        return NULL;
}

static void eight_threads_lose_nothing(void **state)
{
        static struct stress stress;
        static struct stress_consumer consumer;
        struct stress_producer producers[STRESS_PRODUCERS_MAX];
        pthread_t threads[STRESS_PRODUCERS_MAX];
        const uint64_t start = (1ull << 32) - 20000; /* the tag wraps on the way */
        uint64_t doorbells_rung = 0;

        (void)state;
        stress.guest = mmap(NULL, sizeof(*stress.guest), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        stress.host = mmap(NULL, sizeof(*stress.host), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(stress.guest, MAP_FAILED);
        assert_ptr_not_equal(stress.host, MAP_FAILED);
        stress.doorbell = eventfd(0, EFD_CLOEXEC);
        for (uint32_t i = 0; i < STRESS_PRODUCERS_MAX; i++)
                stress.interrupts[i] = eventfd(0, EFD_CLOEXEC);
        ivg_ring_format(stress.guest, start);
        consumer.stress = &stress;
        consumer.next_position = start;
        assert_int_equal(ivg_consumer_open(&consumer.ring, stress.guest, stress.host, STRESS_GENERATION, start), 0);

        for (uint32_t i = 0; i < STRESS_PRODUCERS_MAX; i++) {
                producers[i] = (struct stress_producer){
                        .stress = &stress, .number = i, .owner = 1 + i, .records = RECORDS_PER_PRODUCER};
                assert_int_equal(pthread_create(&threads[i], NULL, producer_thread, &producers[i]), 0);
        }
        stress_consume_all(&consumer, STRESS_PRODUCERS_MAX);
        if (consumer.failure)
                ivg_consumer_close(&consumer.ring, IVG_RING_CLOSED, IVG_FAULT_NONE, 0); /* lets the threads end */
        for (uint32_t i = 0; i < STRESS_PRODUCERS_MAX; i++) {
                pthread_join(threads[i], NULL);
                doorbells_rung += producers[i].doorbells;
                if (!consumer.failure && producers[i].failure)
                        consumer.failure = producers[i].failure;
        }
        if (consumer.failure)
                fail_msg("%s", consumer.failure);
        consumer.doorbells += stress_wait(stress.doorbell, 0);
        print_message("records %lu, sleeps %lu, doorbells %lu\n", (unsigned long)consumer.records,
                      (unsigned long)consumer.sleeps, (unsigned long)consumer.doorbells);
        assert_int_equal(consumer.records, (uint64_t)STRESS_PRODUCERS_MAX * RECORDS_PER_PRODUCER);
        assert_int_equal(consumer.skipped_slots, 0);
        assert_int_equal(consumer.doorbells, doorbells_rung);
        /* Exactly one commit answers one announcement; an announcement that a late look cancelled may be answered too.
         */
        assert_true(consumer.sleeps > 0);
        assert_true(consumer.doorbells <= consumer.announcements);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(eight_threads_lose_nothing)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
