/* The trace of an executor: events come whole and in order, or are counted as lost; a reader ends whatever it finds. */
#include "trace_ring.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define WRITERS 3u
#define EVENTS_EACH 60000u /* with the others more than the ring holds */

static struct ivg_trace_ring ring;

static struct ivg_trace_event event_of(uint32_t writer, uint64_t n)
{
        struct ivg_trace_event event = {.position = n,
                                        .taken_ns = n + 1,
                                        .begin_ns = n + 2,
                                        .end_ns = n * 3,
                                        .line = (uint8_t)writer,
                                        .request_bytes = IVG_TRACE_REQUEST_BYTES};

        memset(event.request, (int)(n * 7 + writer), sizeof(event.request));
        return event;
}

static void *writer_main(void *argument)
{
        const uint32_t writer = (uint32_t)(uintptr_t)argument;

        for (uint64_t n = 0; n < EVENTS_EACH; n++) {
                const struct ivg_trace_event event = event_of(writer, n);

                ivg_trace_write(&ring, &event);
        }
        return NULL;
}

static int empty(void **state)
{
        (void)state;
        memset(&ring, 0, sizeof(ring));
        return 0;
}

static uint64_t check_events(struct ivg_trace_reader *reader, uint64_t next[WRITERS], bool finish)
{
        struct ivg_trace_event event, expected;
        uint64_t count = 0;

        while (ivg_trace_read(reader, &event, finish)) {
                assert_true(event.line < WRITERS);
                expected = event_of(event.line, event.position);
                assert_memory_equal(&event, &expected, sizeof(event));
                assert_true(event.position >= next[event.line]);
                next[event.line] = event.position + 1;
                count++;
        }
        return count;
}

static void events_come_whole_or_are_counted(void **state)
{
        struct ivg_trace_reader reader = {.ring = &ring};
        uint64_t next[WRITERS] = {0}, read = 0;
        pthread_t threads[WRITERS];

        (void)state;
        for (uint32_t i = 0; i < WRITERS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, writer_main, (void *)(uintptr_t)i), 0);
        for (uint32_t turn = 0; turn < 200; turn++)
                read += check_events(&reader, next, false);
        for (uint32_t i = 0; i < WRITERS; i++)
                pthread_join(threads[i], NULL);
        read += check_events(&reader, next, true);
        assert_int_equal(read + reader.lost, WRITERS * EVENTS_EACH);
        /* The very latest is there. */
        assert_true(next[0] == EVENTS_EACH || next[1] == EVENTS_EACH || next[2] == EVENTS_EACH);
}

static void who_reads_in_time_loses_nothing(void **state)
{
        struct ivg_trace_reader reader = {.ring = &ring};
        uint64_t next[WRITERS] = {0}, read = 0;

        (void)state;
        for (uint64_t n = 0; n < 3 * IVG_TRACE_EVENTS; n++) {
                const struct ivg_trace_event event = event_of(1, n);

                ivg_trace_write(&ring, &event);
                if (n % (IVG_TRACE_EVENTS / 2) == 0)
                        read += check_events(&reader, next, false);
        }
        read += check_events(&reader, next, false);
        assert_int_equal(reader.lost, 0);
        assert_int_equal(read, 3 * IVG_TRACE_EVENTS);
}

static void a_writer_that_died_holds_nobody_up_at_the_end(void **state)
{
        struct ivg_trace_reader reader = {.ring = &ring};
        uint64_t next[WRITERS] = {0};
        struct ivg_trace_event event;

        (void)state;
        event = event_of(0, 0);
        ivg_trace_write(&ring, &event);
        ivg_store_relaxed_u64(&ring.next, 2);
        ivg_store_relaxed_u64(&ring.slots[1].state, 3);
        event = event_of(0, 1);
        ivg_trace_write(&ring, &event);
        assert_int_equal(check_events(&reader, next, false), 1);
        assert_int_equal(check_events(&reader, next, false), 0);
        assert_int_equal(check_events(&reader, next, true), 1);
        assert_int_equal(reader.lost, 1);
}

static void nonsense_ends(void **state)
{
        uint64_t random = 88172645463325252ull;

        (void)state;
        for (uint32_t turn = 0; turn < 20; turn++) {
                struct ivg_trace_reader reader = {.ring = &ring, .next = turn % 2 ? random : 0};
                struct ivg_trace_event event;
                uint64_t read = 0;

                for (uint32_t i = 0; i < IVG_TRACE_EVENTS; i++) {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        ivg_store_relaxed_u64(&ring.slots[i].state, i % 3 ? random : 2ull * i + 2);
                }
                ivg_store_relaxed_u64(&ring.next, turn % 4 ? random : IVG_TRACE_EVENTS);
                while (ivg_trace_read(&reader, &event, turn % 3 != 0))
                        assert_true(++read <= IVG_TRACE_EVENTS);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(events_come_whole_or_are_counted, empty),
                cmocka_unit_test_setup(who_reads_in_time_loses_nothing, empty),
                cmocka_unit_test_setup(a_writer_that_died_holds_nobody_up_at_the_end, empty),
                cmocka_unit_test_setup(nonsense_ends, empty),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
