/* A ring that stays full: a process stops between claim and commit, all behind it fill the ring and wait, the consumer
 * sleeps. In that time nobody gets anywhere: of the producers some wait for room, some asleep for an answer, and two
 * processes are killed as they wait. Then the one that stopped is killed too, and recovery lets all go on: nothing
 * lost, nothing twice, nobody left waiting; and the consumer has slept all the while. From positions near 0, 2^32 and
 * 2^64.
 *
 * usage: ring_full_for_long [MS]     so long each time */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "ring_stress.h"
#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define LIVING 3u /* threads; their numbers are 0 and on */
#define KILLED 2u /* processes; LIVING and on */
#define OWNER_STOPPED 40u
#define OWNER(number) (1u + (number))
#define STOPPED_SLOTS 3u
#define RECORD_SLOTS_MAX 64u
#ifdef IVG_TSAN
#define RECORDS 1500u
#else
#define RECORDS 6000u
#endif

static struct shared {
        struct ivg_ring_guest_part guest;
        struct ivg_ring_host_part host;
} * shared;

static uint32_t hold_ms = 700;
static struct stress stress;
static struct stress_consumer consumer;

static void *living_thread(void *argument)
{
        stress_produce(argument);
        return NULL;
}

static void *consumer_thread(void *argument)
{
        (void)argument;
        stress_consume_all(&consumer, LIVING);
        if (consumer.failure) /* lets the others end */
                ivg_consumer_close(&consumer.ring, IVG_RING_CLOSED, IVG_FAULT_NONE, 0);
        return NULL;
}

/* Claims and goes no further. */
static void stop_with_a_claim(void)
{
        struct ivg_ring ring;
        struct ivg_producer producer;
        struct ivg_record record;

        if (ivg_ring_init(&ring, &shared->guest, &shared->host, STRESS_GENERATION) != 0 ||
            ivg_producer_open(&ring, OWNER_STOPPED, &producer) != 0 ||
            ivg_producer_reserve(&producer, STOPPED_SLOTS * IVG_SLOT_PAYLOAD_BYTES, &record) != 0)
                _exit(1);
        pause();
        _exit(2);
}

static void produce_until_killed(uint32_t number)
{
        struct stress_producer producer = {.stress = &stress,
                                           .number = number,
                                           .owner = OWNER(number),
                                           .records = UINT64_MAX,
                                           .asks_nothing = number == LIVING};

        stress_produce(&producer);
        fprintf(stderr, "producer %u: %s\n", number, producer.failure ? producer.failure : "has sent all");
        _exit(1);
}

static bool reaches(bool (*is_so)(uint64_t), uint64_t argument)
{
        const uint64_t give_up_ns = stress_now_ns() + STRESS_WAKE_MS * 1000000ull;

        while (!is_so(argument) && stress_now_ns() < give_up_ns)
                usleep(1000);
        return is_so(argument);
}

static bool is_claimed(uint64_t position)
{
        return ivg_load_relaxed_u64(&shared->guest.tail) == position;
}

/* As all see it who want more than what is left: a short record may still find a slot. */
static bool is_full(uint64_t start)
{
        return ivg_load_relaxed_u64(&shared->guest.tail) - start > IVG_RING_SLOTS - RECORD_SLOTS_MAX;
}

static bool consumer_sleeps(uint64_t start)
{
        return ivg_load_relaxed_u64(&shared->host.sleep_at) == start + 1;
}

static void kill_and_recover(struct ivg_ring *driver, pid_t pid, uint32_t owner)
{
        const uint64_t give_up_ns = stress_now_ns() + STRESS_WAKE_MS * 1000000ull;
        bool doorbell;
        int rc, status;

        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* it had not ended by itself */
        while ((rc = ivg_ring_recover(driver, owner, &doorbell)) == -EAGAIN && stress_now_ns() < give_up_ns)
                sched_yield();
        assert_int_equal(rc, 0);
        if (doorbell)
                stress_ring(stress.doorbell);
}

static uint64_t cpu_ns(pthread_t thread)
{
        struct timespec used;
        clockid_t clock;

        assert_int_equal(pthread_getcpuclockid(thread, &clock), 0);
        assert_int_equal(clock_gettime(clock, &used), 0);
        return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static pid_t fork_child(void (*run)(uint32_t), uint32_t argument)
{
        const pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
                run(argument);
        return pid;
}

static void stop_child(uint32_t unused)
{
        (void)unused;
        stop_with_a_claim();
}

static void stay_full(uint64_t start)
{
        struct stress_producer producers[LIVING];
        pthread_t threads[LIVING], reader;
        pid_t stopped, killed[KILLED];
        struct ivg_ring driver;
        uint64_t slept_cpu_ns;

        ivg_ring_format(&shared->guest, start);
        memset(&consumer, 0, sizeof(consumer));
        consumer.stress = &stress;
        consumer.next_position = start;
        (void)stress_wait(stress.doorbell, 0); /* what an earlier start left */
        assert_int_equal(ivg_consumer_open(&consumer.ring, &shared->guest, &shared->host, STRESS_GENERATION, start), 0);
        assert_int_equal(ivg_ring_init(&driver, &shared->guest, &shared->host, STRESS_GENERATION), 0);
        stopped = fork_child(stop_child, 0);
        assert_true(reaches(is_claimed, start + STOPPED_SLOTS));
        for (uint32_t i = 0; i < KILLED; i++)
                killed[i] = fork_child(produce_until_killed, LIVING + i);
        assert_int_equal(pthread_create(&reader, NULL, consumer_thread, NULL), 0);
        for (uint32_t i = 0; i < LIVING; i++) {
                producers[i] = (struct stress_producer){
                        .stress = &stress, .number = i, .owner = OWNER(i), .records = RECORDS, .asks_nothing = i == 0};
                assert_int_equal(pthread_create(&threads[i], NULL, living_thread, &producers[i]), 0);
        }

        assert_true(reaches(is_full, start));
        assert_true(reaches(consumer_sleeps, start));
        slept_cpu_ns = cpu_ns(reader);
        usleep(hold_ms * 500u);
        for (uint32_t i = 0; i < KILLED; i++)
                kill_and_recover(&driver, killed[i], OWNER(LIVING + i));
        usleep(hold_ms * 500u);
        assert_true(is_full(start) && consumer_sleeps(start)); /* nobody took anything, nobody woke it for nothing */
        assert_true(cpu_ns(reader) - slept_cpu_ns < hold_ms * 1000000ull / 10);
        assert_int_equal(consumer.records, 0);

        kill_and_recover(&driver, stopped, OWNER_STOPPED);
        for (uint32_t i = 0; i < LIVING; i++)
                pthread_join(threads[i], NULL);
        pthread_join(reader, NULL);
        if (consumer.failure)
                fail_msg("%s", consumer.failure);
        for (uint32_t i = 0; i < LIVING; i++) {
                if (producers[i].failure)
                        fail_msg("producer %u: %s", i, producers[i].failure);
                assert_int_equal(consumer.next_number[i], RECORDS);
        }
        assert_int_equal(ivg_load_relaxed_u64(&consumer.ring.head), ivg_load_relaxed_u64(&shared->guest.tail));
        assert_true(consumer.skipped_slots >= STOPPED_SLOTS);
        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++)
                assert_int_equal(ivg_load_relaxed_u32(&shared->guest.producers[i].owner), 0);
        print_message("from position %#llx: %llu records, %llu slots skipped\n", (unsigned long long)start,
                      (unsigned long long)consumer.records, (unsigned long long)consumer.skipped_slots);
}

static void all_go_on_when_it_ends(void **state)
{
        static const uint64_t starts[] = {0, (1ull << 32) - 3000, UINT64_MAX - 3000};

        (void)state;
        for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
                stay_full(starts[i]);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(all_go_on_when_it_ends),
        };

        if (argc > 1)
                hold_ms = (uint32_t)strtoul(argv[1], NULL, 10);
        if (argc > 2 || hold_ms < 100 || hold_ms > STRESS_WAKE_MS / 2) {
                fprintf(stderr, "usage: ring_full_for_long [MS]     100 to %d\n", STRESS_WAKE_MS / 2);
                return 2;
        }
        shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (shared == MAP_FAILED)
                return 1;
        stress.guest = &shared->guest;
        stress.host = &shared->host;
        stress.doorbell = eventfd(0, EFD_CLOEXEC);
        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++)
                stress.interrupts[i] = eventfd(0, EFD_CLOEXEC);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
