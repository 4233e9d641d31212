/* The consumer's process is killed in the middle of its work, again and again, and another takes over with the next
 * generation: every producer, also one that sleeps for an answer, is told soon; the new consumer gets records of its
 * own generation only, from the first on, each once. */
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

#define PRODUCERS 3u
#ifdef IVG_TSAN
#define KILLS 20u
#else
#define KILLS 100u
#endif
#define START ((1ull << 32) - 2000)

static struct shared {
        struct ivg_ring_guest_part guest;
        struct ivg_ring_host_part host;
        _Alignas(128) _Atomic(uint32_t) generation; /* that producers may attach to; 0: none now */
        _Atomic(uint32_t) stop;
        _Alignas(128) _Atomic(uint32_t) told[PRODUCERS]; /* the last generation whose end a producer was told */
        _Atomic(uint64_t) taken;                         /* by consumers */
} * shared;

static int doorbell, interrupts[PRODUCERS];
static uint64_t answers[PRODUCERS];

struct payload {
        uint32_t generation, producer;
        uint64_t number;
        uint64_t sequence; /* 0: wants no answer */
        uint32_t line;
};

/* ---- producers: threads of the test ---- */

/* 0 when answered, or the ring's end. */
static int await(struct ivg_producer *producer, uint32_t index, uint64_t sequence)
{
        struct ivg_answer_header header;
        int rc = 0;

        while (rc == 0 && !ivg_producer_poll_answer(producer, sequence, &header, NULL)) {
                if (!ivg_producer_wait_begin(producer, sequence) && (rc = ivg_ring_state_errno(producer->ring)) == 0)
                        if (stress_wait(interrupts[index], STRESS_WAKE_MS) == 0)
                                rc = -ETIMEDOUT;
                ivg_producer_wait_end(producer);
        }
        return rc;
}

static int send_until_the_end(struct ivg_producer *producer, uint32_t index, uint32_t generation)
{
        for (uint64_t number = 0;; number++) {
                const struct payload payload = {.generation = generation,
                                                .producer = index,
                                                .number = number,
                                                .sequence = number % 4 == 3 ? ++producer->sequence : 0,
                                                .line = producer->index};
                struct ivg_record record;
                int rc;

                while ((rc = ivg_producer_reserve(producer, sizeof(payload), &record)) == -EAGAIN)
                        sched_yield();
                if (rc != 0)
                        return rc;
                ivg_record_write(producer, &record, 0, &payload, sizeof(payload));
                if (ivg_producer_commit(producer, &record, 1))
                        stress_ring(doorbell);
                rc = payload.sequence != 0 ? await(producer, index, payload.sequence) : 0;
                if (rc != 0)
                        return rc;
                answers[index] += payload.sequence != 0;
        }
}

static void *producer_thread(void *argument)
{
        const uint32_t index = (uint32_t)(uintptr_t)argument;
        uint32_t last = 0;

        while (ivg_load_acquire_u32(&shared->stop) == 0) {
                const uint32_t generation = ivg_load_acquire_u32(&shared->generation);
                struct ivg_producer producer;
                struct ivg_ring ring;
                int rc;

                if (generation == last || generation == 0 ||
                    ivg_ring_init(&ring, &shared->guest, &shared->host, generation) != 0) {
                        sched_yield();
                        continue;
                }
                if (ivg_producer_open(&ring, 1 + index, &producer) != 0)
                        return (void *)1;
                rc = send_until_the_end(&producer, index, generation);
                if (rc != -EOWNERDEAD) {
                        fprintf(stderr, "producer %u, generation %u: told %d\n", index, generation, rc);
                        return (void *)1;
                }
                last = generation;
                ivg_store_release_u32(&shared->told[index], generation); /* done with this generation's memory */
        }
        return NULL;
}

/* ---- the consumer: a process ---- */

static bool take_record(struct ivg_consumer *consumer, const struct ivg_taken_record *record, uint32_t generation,
                        uint64_t next[PRODUCERS])
{
        struct payload payload;

        memcpy(&payload, record->payload, sizeof(payload));
        if (payload.generation != generation || payload.producer >= PRODUCERS ||
            payload.number != next[payload.producer]++) {
                fprintf(stderr, "generation %u: number %llu of producer %u, generation %u\n", generation,
                        (unsigned long long)payload.number, payload.producer, payload.generation);
                return false;
        }
        if (payload.sequence != 0 && ivg_consumer_answer(consumer, payload.line, payload.sequence, 0, NULL, 0) == 1)
                stress_ring(interrupts[payload.producer]);
        return true;
}

static void consume(uint32_t generation)
{
        static struct ivg_consumer consumer;
        static struct ivg_batch batch;
        uint64_t next[PRODUCERS] = {0}, taken = ivg_load_relaxed_u64(&shared->taken); /* its one writer now */

        if (ivg_consumer_open(&consumer, &shared->guest, &shared->host, generation, START) != 0)
                _exit(1);
        ivg_store_release_u32(&shared->generation, generation);
        for (;;) {
                const int count = ivg_consumer_take(&consumer, &batch);

                if (count < 0)
                        _exit(1);
                for (int i = 0; i < count; i++)
                        if (!take_record(&consumer, &batch.records[i], generation, next))
                                _exit(1);
                ivg_store_relaxed_u64(&shared->taken, taken += (uint64_t)count); /* a count alone */
                if (count != 0)
                        continue;
                if (ivg_consumer_sleep_begin(&consumer) && stress_wait(doorbell, STRESS_WAKE_MS) == 0)
                        _exit(2); /* a doorbell lost */
                ivg_consumer_sleep_end(&consumer);
        }
}

/* ---- the mediator's part ---- */

static void bury(uint32_t generation)
{
        const uint64_t give_up_ns = stress_now_ns() + STRESS_WAKE_MS * 1000000ull;

        ivg_store_release_u32(&shared->generation, 0);
        ivg_ring_mark_peer_gone(&shared->host, generation);
        for (uint32_t i = 0; i < PRODUCERS; i++)
                stress_ring(interrupts[i]);
        for (uint32_t i = 0; i < PRODUCERS; i++)
                while (ivg_load_acquire_u32(&shared->told[i]) != generation) {
                        assert_true(stress_now_ns() < give_up_ns);
                        sched_yield();
                }
}

static void consumers_come_and_go(void **state)
{
        pthread_t threads[PRODUCERS];
        uint64_t random = 2463534242u;

        (void)state;
        for (uint32_t i = 0; i < PRODUCERS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, producer_thread, (void *)(uintptr_t)i), 0);
        for (uint32_t generation = 1; generation <= KILLS; generation++) {
                const uint64_t before = ivg_load_relaxed_u64(&shared->taken);
                const uint64_t give_up_ns = stress_now_ns() + STRESS_WAKE_MS * 1000000ull;
                int status;
                pid_t pid;

                ivg_ring_format(&shared->guest, START);
                pid = fork();
                assert_true(pid >= 0);
                if (pid == 0)
                        consume(generation);
                /* All producers have attached, and it is at work. */
                while (ivg_load_relaxed_u64(&shared->taken) < before + 50 + stress_random(&random) % 3000) {
                        assert_true(stress_now_ns() < give_up_ns);
                        usleep(200);
                }
                kill(pid, SIGKILL);
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_true(WIFSIGNALED(status)); /* found nothing wrong before */
                while (!shared->guest.producers[0].owner || !shared->guest.producers[1].owner ||
                       !shared->guest.producers[2].owner)
                        sched_yield(); /* who had not attached yet does so, to be told too */
                bury(generation);
        }
        ivg_store_release_u32(&shared->stop, 1);
        for (uint32_t i = 0; i < PRODUCERS; i++) {
                void *failed;

                pthread_join(threads[i], &failed);
                assert_null(failed);
                assert_true(answers[i] > 0);
        }
        print_message("%u consumers killed, %llu records taken\n", KILLS,
                      (unsigned long long)ivg_load_relaxed_u64(&shared->taken));
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(consumers_come_and_go)};

        shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        doorbell = eventfd(0, EFD_CLOEXEC);
        for (uint32_t i = 0; i < PRODUCERS; i++)
                interrupts[i] = eventfd(0, EFD_CLOEXEC);
        return shared == MAP_FAILED ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
