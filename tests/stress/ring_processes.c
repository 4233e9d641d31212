/* Producers in processes of their own, over one memfd: each maps the parts itself, with the host's part read-only. Some
 * are killed at a random instant, and the ring is recovered and goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "ring_stress.h"
#include <cmocka.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define PRODUCERS 4u
#define GUEST_BYTES sizeof(struct ivg_ring_guest_part)
#define HOST_BYTES ((sizeof(struct ivg_ring_host_part) + IVG_PAGE_BYTES - 1) / IVG_PAGE_BYTES * IVG_PAGE_BYTES)
#define RECOVER_TRIES_MAX 100000u /* each lets others run; a rival needs a few instructions */
#ifdef IVG_TSAN
#define RECORDS_PER_PRODUCER 2000u
#define KILLS 20u
#else
#define RECORDS_PER_PRODUCER 30000u
#define KILLS 60u
#endif

struct shared {
        int memfd;
        struct stress stress; /* the parent's mapping */
        struct stress_consumer consumer;
};

static void shared_open(struct shared *shared)
{
        memset(shared, 0, sizeof(*shared));
        shared->memfd = memfd_create("ring", MFD_CLOEXEC);
        assert_true(shared->memfd >= 0);
        assert_int_equal(ftruncate(shared->memfd, (off_t)(GUEST_BYTES + HOST_BYTES)), 0);
        /* The consumer cannot write the guest's part either. */
        shared->stress.guest = mmap(NULL, GUEST_BYTES, PROT_READ, MAP_SHARED, shared->memfd, 0);
        shared->stress.host = mmap(NULL, HOST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, shared->memfd, GUEST_BYTES);
        assert_ptr_not_equal(shared->stress.guest, MAP_FAILED);
        assert_ptr_not_equal(shared->stress.host, MAP_FAILED);
        shared->stress.doorbell = eventfd(0, EFD_CLOEXEC);
        for (uint32_t i = 0; i < STRESS_PRODUCERS_MAX; i++)
                shared->stress.interrupts[i] = eventfd(0, EFD_CLOEXEC);
        shared->consumer.stress = &shared->stress;
        assert_int_equal(ivg_consumer_open(&shared->consumer.ring, shared->stress.guest, shared->stress.host,
                                           STRESS_GENERATION, 0),
                         0);
}

static void shared_close(struct shared *shared)
{
        munmap(shared->stress.guest, GUEST_BYTES);
        munmap(shared->stress.host, HOST_BYTES);
        close(shared->stress.doorbell);
        for (uint32_t i = 0; i < STRESS_PRODUCERS_MAX; i++)
                close(shared->stress.interrupts[i]);
        close(shared->memfd);
}

/* A guest's view: its own part writable, the host's read-only. */
static int map_as_guest(const struct shared *shared, struct stress *stress)
{
        *stress = shared->stress;
        stress->guest = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, shared->memfd, 0);
        stress->host = mmap(NULL, HOST_BYTES, PROT_READ, MAP_SHARED, shared->memfd, GUEST_BYTES);
        return stress->guest == MAP_FAILED || stress->host == MAP_FAILED ? -ENOMEM : 0;
}

/* `records` == 0: goes on until it is killed. */
static pid_t start_producer(const struct shared *shared, uint32_t number, uint32_t owner, uint64_t records)
{
        const pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                struct stress stress;
                struct stress_producer producer = {
                        .stress = &stress,
                        .number = number,
                        .owner = owner,
                        .records = records != 0 ? records : UINT64_MAX,
                        .dawdle = records == 0,
                };

                if (map_as_guest(shared, &stress) != 0)
                        _exit(2);
                stress_produce(&producer);
                if (producer.failure)
                        fprintf(stderr, "producer %u: %s\n", number, producer.failure);
                _exit(producer.failure ? 1 : 0);
        }
        return pid;
}

static void four_processes_lose_nothing(void **state)
{
        static struct shared shared;
        pid_t pids[PRODUCERS];

        (void)state;
        shared_open(&shared);
        for (uint32_t i = 0; i < PRODUCERS; i++)
                pids[i] = start_producer(&shared, i, 1 + i, RECORDS_PER_PRODUCER);
        stress_consume_all(&shared.consumer, PRODUCERS);
        if (shared.consumer.failure)
                ivg_consumer_close(&shared.consumer.ring, IVG_RING_CLOSED, IVG_FAULT_NONE, 0);
        for (uint32_t i = 0; i < PRODUCERS; i++) {
                int status = -1;

                assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
                assert_int_equal(status, 0);
        }
        if (shared.consumer.failure)
                fail_msg("%s", shared.consumer.failure);
        assert_int_equal(shared.consumer.records, PRODUCERS * RECORDS_PER_PRODUCER);
        assert_int_equal(shared.consumer.skipped_slots, 0);
        shared_close(&shared);
}

static void kill_and_recover(struct shared *shared, struct ivg_ring *driver, pid_t pid, uint32_t owner)
{
        uint32_t tries = 0;
        bool doorbell;
        int rc, status;

        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status)); /* did not end by itself before */
        while ((rc = ivg_ring_recover(driver, owner, &doorbell)) == -EAGAIN && tries++ < RECOVER_TRIES_MAX)
                sched_yield();
        assert_int_equal(rc, 0);
        if (doorbell)
                stress_ring(shared->stress.doorbell);
}

/* Everything that was claimed so far, also behind what the living are still writing. */
static void consume_up_to(struct shared *shared, uint64_t position)
{
        const uint64_t give_up_ns = stress_now_ns() + STRESS_WAKE_MS * 1000000ull;

        while ((int64_t)(position - ivg_load_relaxed_u64(&shared->consumer.ring.head)) > 0 &&
               !shared->consumer.failure) {
                if (stress_consume_batch(&shared->consumer) == 0)
                        (void)stress_consumer_sleep(&shared->consumer, 1);
                assert_true(stress_now_ns() < give_up_ns);
        }
}

static void killed_producers_leave_a_ring_that_works(void **state)
{
        static struct shared shared;
        struct stress driver_view;
        struct ivg_ring driver;
        pid_t pids[PRODUCERS];
        uint64_t random = 2463534242u, killed = 0, next_kill_ns;

        (void)state;
        shared_open(&shared);
        assert_int_equal(map_as_guest(&shared, &driver_view), 0);
        assert_int_equal(ivg_ring_init(&driver, driver_view.guest, driver_view.host, STRESS_GENERATION), 0);
        for (uint32_t i = 0; i < PRODUCERS; i++)
                pids[i] = start_producer(&shared, i, 1 + i, 0);
        next_kill_ns = stress_now_ns() + 5000000;
        while (killed < KILLS && !shared.consumer.failure) {
                const uint32_t victim = (uint32_t)(killed % PRODUCERS);

                if (stress_consume_batch(&shared.consumer) == 0)
                        (void)stress_consumer_sleep(&shared.consumer, 1);
                if (stress_now_ns() < next_kill_ns)
                        continue;
                /* The consumer stands still here: its producers fill the ring or go on, as they can. */
                kill_and_recover(&shared, &driver, pids[victim], 1 + victim);
                killed++;
                consume_up_to(&shared, ivg_load_acquire_u64(&driver_view.guest->tail));
                shared.consumer.next_number[victim] = 0;
                pids[victim] = start_producer(&shared, victim, 1 + victim, 0);
                next_kill_ns = stress_now_ns() + 1000000 + stress_random(&random) % 8000000;
        }
        for (uint32_t i = 0; i < PRODUCERS; i++)
                kill_and_recover(&shared, &driver, pids[i], 1 + i);
        consume_up_to(&shared, ivg_load_acquire_u64(&driver_view.guest->tail));
        if (shared.consumer.failure)
                fail_msg("%s", shared.consumer.failure);
        print_message("records %lu, kills %lu, slots skipped %lu, sleeps %lu\n", (unsigned long)shared.consumer.records,
                      (unsigned long)killed, (unsigned long)shared.consumer.skipped_slots,
                      (unsigned long)shared.consumer.sleeps);
        assert_true(shared.consumer.skipped_slots > 0); /* the window was hit: this test tested something */
        /* All is settled: every claimed slot was consumed, every line is free. */
        assert_int_equal(ivg_load_relaxed_u64(&shared.consumer.ring.head),
                         ivg_load_relaxed_u64(&driver_view.guest->tail));
        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++)
                assert_int_equal(ivg_load_relaxed_u32(&driver_view.guest->producers[i].owner), 0);
        munmap(driver_view.guest, GUEST_BYTES);
        munmap((void *)driver_view.host, HOST_BYTES);
        shared_close(&shared);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(four_processes_lose_nothing),
                cmocka_unit_test(killed_producers_leave_a_ring_that_works),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
