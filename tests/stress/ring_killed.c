/* Producers that die at every point between their note and their commit's end (ring_producer.h, IVG_POINT_*), beside
 * others that live on and a consumer that sleeps: processes by SIGKILL, threads by leaving there for good. Whoever
 * finds them dead recovers the ring.
 *
 * Nothing lost that was committed, nothing delivered twice, nobody left waiting; from positions near 0, 2^32 and 2^64.
 *
 * usage: ring_killed [DEATHS]     so many of processes, and again of threads (a few hundred; long: 10000) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "ring_stress.h"
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define DEATHS_MAX 100000u
#define LIVING 2u
#define LIVING_OWNER 1u /* and the next */
#define DYING_OWNER 10u /* and the next */
#define DYING_AT_ONCE 2u
#define RECORDS_BEFORE_DEATH_MAX 4u
#define FULL_MAX 200u
#define RECOVER_TRIES_MAX 1000000u /* each lets others run; a rival needs a few instructions */
#define LIVING_ID UINT32_MAX       /* of who does not die */

/* Each record: whose, and its number. Lengths vary, so the rest is filled by both. */
struct payload {
        uint32_t id; /* of the death, or LIVING_ID - index */
        uint32_t bytes;
        uint64_t number;
};

static struct shared {
        struct ivg_ring_guest_part guest;
        struct ivg_ring_host_part host;
        _Alignas(128) _Atomic(uint32_t) committed[DEATHS_MAX]; /* by who is about to die: past P4 */
        _Alignas(128) _Atomic(uint32_t) stop;
} * shared;

#ifdef IVG_TSAN
static uint32_t deaths_wanted = 60;
#else
static uint32_t deaths_wanted = 600;
#endif
static int doorbell;
static uint32_t delivered[DEATHS_MAX]; /* consumer's */
static _Atomic(uint64_t) living_sent[LIVING];
static uint64_t living_delivered[LIVING];

/* ---- dying ---- */

static __thread struct {
        bool is_dying, is_thread;
        uint32_t id;
        enum ivg_producer_point point;
        uint32_t points_left; /* passes of that point to survive */
} fate;

static void die(void)
{
        if (fate.is_thread)
                pthread_exit((void *)1);
        raise(SIGKILL);
}

void ivg_point_hook(enum ivg_producer_point point)
{
        if (!fate.is_dying)
                return;
        if (point == IVG_POINT_COMMITTED) { /* one writer */
                _Atomic(uint32_t) *count = &shared->committed[fate.id];

                ivg_store_release_u32(count, ivg_load_relaxed_u32(count) + 1);
        }
        if (point == fate.point && fate.points_left-- == 0)
                die();
}

static bool send_record(struct ivg_producer *producer, uint32_t id, uint64_t number, uint32_t bytes)
{
        uint8_t content[IVG_RECORD_PAYLOAD_BYTES_MAX];
        const struct payload payload = {id, bytes, number};
        struct ivg_record record;
        uint32_t full = 0;
        int rc;

        memset(content, (int)(id + number), bytes);
        memcpy(content, &payload, sizeof(payload));
        while ((rc = ivg_producer_reserve(producer, bytes, &record)) == -EAGAIN) {
                /* Full behind a claim of one who died with us, and who is recovered when we are dead, too. */
                if (fate.is_dying && ++full > FULL_MAX)
                        die();
                sched_yield();
        }
        if (rc != 0)
                return false;
        ivg_record_write(producer, &record, 0, content, bytes);
        if (ivg_producer_commit(producer, &record, 1))
                stress_ring(doorbell);
        return true;
}

struct death {
        uint32_t id, owner;
        uint64_t random;
        bool one_slot; /* two that die at one position must agree about it */
};

static void live_and_die(const struct death *death, bool is_thread)
{
        uint64_t random = death->random;
        struct ivg_ring ring;
        struct ivg_producer producer;

        if (ivg_ring_init(&ring, &shared->guest, &shared->host, STRESS_GENERATION) != 0 ||
            ivg_producer_open(&ring, death->owner, &producer) != 0)
                return;
        fate.id = death->id;
        fate.is_thread = is_thread;
        fate.point = (enum ivg_producer_point)(stress_random(&random) % IVG_POINT_COUNT);
        fate.points_left = (uint32_t)(stress_random(&random) % RECORDS_BEFORE_DEATH_MAX);
        fate.is_dying = true;
        for (uint64_t number = 0; number < 100; number++) /* dies long before */
                if (!send_record(&producer, death->id, number,
                                 (uint32_t)sizeof(struct payload) +
                                         (death->one_slot ? 0 : (uint32_t)(stress_random(&random) % 300))))
                        return;
}

static void *dying_thread(void *argument)
{
        live_and_die(argument, true);
        return NULL;
}

/* ---- those who live on ---- */

static void *living_thread(void *argument)
{
        const uint32_t index = (uint32_t)(uintptr_t)argument;
        uint64_t random = 88172645463325252u + index, number = 0;
        struct ivg_ring ring;
        struct ivg_producer producer;

        if (ivg_ring_init(&ring, &shared->guest, &shared->host, STRESS_GENERATION) != 0 ||
            ivg_producer_open(&ring, LIVING_OWNER + index, &producer) != 0)
                return (void *)1;
        while (ivg_load_relaxed_u32(&shared->stop) == 0) { /* a flag alone */
                if (!send_record(&producer, LIVING_ID - index, number,
                                 (uint32_t)sizeof(struct payload) + (uint32_t)(stress_random(&random) % 600)))
                        return (void *)1;
                ivg_store_relaxed_u64(&living_sent[index], ++number); /* read when this thread has ended */
                if (stress_random(&random) % 8 == 0)
                        usleep(50); /* lets the consumer fall asleep */
        }
        ivg_producer_close(&producer);
        return NULL;
}

/* ---- consumer ---- */

struct consumer {
        struct ivg_consumer ring;
        struct ivg_batch batch;
        uint64_t next_position, skipped_slots, sleeps, stalls;
        _Atomic(uint32_t) stall; /* stands still while set */
        _Atomic(const char *) failure;
};

static const char *check_record(struct consumer *self, const struct ivg_taken_record *record)
{
        struct payload payload;
        uint64_t expected;

        memcpy(&payload, record->payload, sizeof(payload));
        self->skipped_slots += record->position - self->next_position;
        self->next_position = record->position + record->slots;
        if (payload.bytes < sizeof(payload) || payload.bytes > record->payload_bytes)
                return "header torn";
        for (uint32_t i = sizeof(payload); i < payload.bytes; i++)
                if (record->payload[i] != (uint8_t)(payload.id + payload.number))
                        return "payload torn";
        if (payload.id > LIVING_ID - LIVING)
                expected = living_delivered[LIVING_ID - payload.id]++;
        else if (payload.id < DEATHS_MAX)
                expected = delivered[payload.id]++;
        else
                return "a record of nobody";
        return payload.number == expected ? NULL : "a record lost, doubled or out of order";
}

static void *consumer_thread(void *argument)
{
        struct consumer *self = argument;

        while (!self->failure) {
                const int count = ivg_consumer_take(&self->ring, &self->batch);

                if (count < 0)
                        self->failure = "take refused";
                for (int i = 0; i < count && !self->failure; i++)
                        self->failure = check_record(self, &self->batch.records[i]);
                while (ivg_load_relaxed_u32(&self->stall) != 0) /* a flag alone */
                        usleep(1000);
                if (count != 0)
                        continue;
                if (ivg_load_acquire_u32(&shared->stop) == 2) /* all others have ended, all is recovered */
                        break;
                if (ivg_consumer_sleep_begin(&self->ring)) {
                        self->sleeps++;
                        if (stress_wait(doorbell, STRESS_WAKE_MS) == 0)
                                self->failure = "a doorbell lost";
                }
                ivg_consumer_sleep_end(&self->ring);
        }
        return NULL;
}

/* ---- the driver's part ---- */

/* All of them are dead for certain before the first is recovered; while one of them is not yet told dead, its note may
 * keep another from being settled. */
static void recover(struct ivg_ring *driver, uint32_t count)
{
        bool rings = false, settled = false;

        for (uint32_t tries = 0; !settled && tries < RECOVER_TRIES_MAX; tries++) {
                settled = true;
                for (uint32_t i = 0; i < count; i++) {
                        bool now;
                        const int rc = ivg_ring_recover(driver, DYING_OWNER + i, &now);

                        rings |= now;
                        assert_true(rc == 0 || rc == -EAGAIN);
                        settled = settled && rc == 0;
                }
                if (!settled)
                        sched_yield();
        }
        assert_true(settled);
        if (rings)
                stress_ring(doorbell);
}

static void die_as_processes(struct death *deaths, uint32_t count)
{
        pid_t pids[DYING_AT_ONCE];

        for (uint32_t i = 0; i < count; i++) {
                pids[i] = fork();
                assert_true(pids[i] >= 0);
                if (pids[i] == 0) {
                        live_and_die(&deaths[i], false);
                        _exit(1);
                }
        }
        for (uint32_t i = 0; i < count; i++) {
                int status;

                assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
                assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        }
}

static void die_as_threads(struct death *deaths, uint32_t count)
{
        pthread_t threads[DYING_AT_ONCE];

        for (uint32_t i = 0; i < count; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, dying_thread, &deaths[i]), 0);
        for (uint32_t i = 0; i < count; i++) {
                void *how;

                pthread_join(threads[i], &how);
                assert_ptr_equal(how, (void *)1);
        }
}

static void fill_and_stand_still(struct consumer *consumer)
{
        const uint64_t give_up_ns = stress_now_ns() + STRESS_WAKE_MS * 1000000ull;

        ivg_store_relaxed_u32(&consumer->stall, 1);
        /* Full, as those who send see it: less than the longest record of theirs is free. */
        while (ivg_load_relaxed_u64(&shared->guest.tail) - ivg_load_relaxed_u64(&shared->host.head) <
                       IVG_RING_SLOTS - 12 &&
               stress_now_ns() < give_up_ns)
                usleep(1000);
        usleep(100000);
        ivg_store_relaxed_u32(&consumer->stall, 0);
        consumer->stalls++;
}

static void run_deaths(uint64_t start, uint32_t first, uint32_t last, void (*let_die)(struct death *, uint32_t),
                       bool stall)
{
        static struct consumer consumer;
        pthread_t reader, living[LIVING];
        struct ivg_ring driver;
        uint64_t random = 2463534242u + first;

        memset((void *)&consumer, 0, sizeof(consumer));
        consumer.next_position = start;
        memset(living_delivered, 0, sizeof(living_delivered));
        ivg_store_relaxed_u32(&shared->stop, 0);
        ivg_ring_format(&shared->guest, start);
        assert_int_equal(ivg_consumer_open(&consumer.ring, &shared->guest, &shared->host, STRESS_GENERATION, start), 0);
        assert_int_equal(ivg_ring_init(&driver, &shared->guest, &shared->host, STRESS_GENERATION), 0);
        assert_int_equal(pthread_create(&reader, NULL, consumer_thread, &consumer), 0);
        for (uint32_t i = 0; i < LIVING; i++)
                assert_int_equal(pthread_create(&living[i], NULL, living_thread, (void *)(uintptr_t)i), 0);
        for (uint32_t id = first; id < last && !consumer.failure;) {
                struct death deaths[DYING_AT_ONCE];
                uint32_t count = 1 + (uint32_t)(stress_random(&random) % DYING_AT_ONCE);

                count = count < last - id ? count : last - id;
                for (uint32_t i = 0; i < count; i++)
                        deaths[i] = (struct death){.id = id + i,
                                                   .owner = DYING_OWNER + i,
                                                   .random = stress_random(&random),
                                                   .one_slot = count > 1};
                let_die(deaths, count);
                recover(&driver, count);
                id += count;
        }
        if (stall)
                fill_and_stand_still(&consumer);
        ivg_store_relaxed_u32(&shared->stop, 1);
        for (uint32_t i = 0; i < LIVING; i++) {
                void *failed;

                pthread_join(living[i], &failed);
                assert_null(failed);
        }
        ivg_store_release_u32(&shared->stop, 2); /* pairs with the consumer's load */
        stress_ring(doorbell);
        pthread_join(reader, NULL);
        if (consumer.failure)
                fail_msg("%s", (const char *)consumer.failure);
        for (uint32_t id = first; id < last; id++)
                assert_int_equal(delivered[id], ivg_load_acquire_u32(&shared->committed[id]));
        for (uint32_t i = 0; i < LIVING; i++)
                assert_int_equal(living_delivered[i], ivg_load_relaxed_u64(&living_sent[i]));
        assert_int_equal(ivg_load_relaxed_u64(&consumer.ring.head), ivg_load_relaxed_u64(&shared->guest.tail));
        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++)
                assert_int_equal(ivg_load_relaxed_u32(&shared->guest.producers[i].owner), 0);
        if (last - first >= 50)
                assert_true(consumer.skipped_slots > 0); /* some did die with a claim */
        print_message("%u deaths from position %#llx: %llu slots skipped, %llu sleeps\n", last - first,
                      (unsigned long long)start, (unsigned long long)consumer.skipped_slots,
                      (unsigned long long)consumer.sleeps);
}

static void at_every_start(void (*let_die)(struct death *, uint32_t))
{
        static const uint64_t starts[] = {0, (1ull << 32) - 3000, UINT64_MAX - 3000};
        const uint32_t each = (deaths_wanted + 2) / 3;

        memset(delivered, 0, sizeof(delivered));
        for (uint32_t id = 0; id < DEATHS_MAX; id++)
                ivg_store_relaxed_u32(&shared->committed[id], 0);
        for (uint32_t i = 0; i < 3; i++)
                run_deaths(starts[i], i * each, (i + 1) * each, let_die, i == 2);
}

static void processes_die_at_every_point(void **state)
{
        (void)state;
        at_every_start(die_as_processes);
}

static void threads_die_at_every_point(void **state)
{
        (void)state;
        at_every_start(die_as_threads);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(processes_die_at_every_point),
                cmocka_unit_test(threads_die_at_every_point),
        };

        if (argc > 1)
                deaths_wanted = (uint32_t)strtoul(argv[1], NULL, 10);
        if (argc > 2 || deaths_wanted < 3 || deaths_wanted > DEATHS_MAX - 3) {
                fprintf(stderr, "usage: ring_killed [DEATHS]\n");
                return 2;
        }
        shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        doorbell = eventfd(0, EFD_CLOEXEC);
        if (shared == MAP_FAILED || doorbell < 0)
                return 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
