/* What the ring costs on this machine, beside what the machine itself costs.
 *
 *   floor        one cache line, there and back between two threads: no ring can be faster
 *   round trip   reserve, write 56 bytes, commit -> take -> answer -> poll, one in flight; budget 1.3 x floor
 *   async        what one record costs its producer when nobody waits for it and the ring has room; budget 50 ns
 *   throughput   one producer, 56 bytes, as fast as the consumer takes them
 *
 * Two threads of this process play guest and host on two processors. Each figure is taken in several passes in turn and
 * the median pass is shown, with the smallest and largest behind it; a busy machine shows in the spread. */
#include "ivgpu/ring.h"
#include "measure.h"
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define PASSES_MAX 101u
#define PAYLOAD_BYTES IVG_SLOT_PAYLOAD_BYTES
#define ASYNC_BURST (IVG_RING_SLOTS / 2) /* fits without a look at head */
#define MEDIAN_GROUP 16u
#define RESERVE_SPINS_MAX 2000000000u /* seconds: the consumer thread is gone */

struct options {
        uint32_t passes;
        uint32_t rounds;
        int processors[2];
        double ratio_max; /* 0: show only */
};

struct bench {
        struct options options;
        double ns_per_tick;
        struct ivg_ring_guest_part *guest;
        struct ivg_ring_host_part *host;
        struct ivg_ring ring;
        uint64_t *stamps;  /* rounds + 1: the end of each */
        uint64_t *samples; /* rounds */
        /* Each written by one thread: apart, as they are in two processes. */
        _Alignas(128) struct ivg_producer producer;
        _Alignas(128) struct ivg_consumer consumer;
        _Alignas(128) _Atomic(uint64_t) floor_line;
        _Alignas(128) _Atomic(uint64_t) records_taken;
        _Alignas(128) _Atomic(uint32_t) stop;
};

enum figure {
        FIGURE_FLOOR_P50,
        FIGURE_FLOOR_P99,
        FIGURE_TRIP_P50,
        FIGURE_TRIP_P99,
        FIGURE_ASYNC,
        FIGURE_THROUGHPUT,
        FIGURE_COUNT
};

static uint64_t ticks(void)
{
#if defined(__x86_64__)
        return __builtin_ia32_rdtsc();
#else
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

static double measure_ns_per_tick(void)
{
        const struct timespec pause = {.tv_nsec = 50000000};
        const double start_ns = bench_now_ns();
        const uint64_t start = ticks();

        nanosleep(&pause, NULL);
        return (bench_now_ns() - start_ns) / (double)(ticks() - start);
}

static void pin(int processor)
{
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET(processor, &set);
        if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set) != 0)
                fprintf(stderr, "ivgpu-ring-bench: cannot pin to processor %d\n", processor);
}

static int compare_u64(const void *a, const void *b)
{
        const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

/* Of the time that `group` consecutive rounds took, each. Groups, because some machines' counters advance in steps of
 * ten nanoseconds and more: too coarse for the median of single rounds, good enough for their tail. */
static double percentile_ns(struct bench *bench, uint32_t percent, uint32_t group)
{
        const uint32_t count = bench->options.rounds / group;

        for (uint32_t i = 0; i < count; i++)
                bench->samples[i] = bench->stamps[(i + 1) * group] - bench->stamps[i * group];
        qsort(bench->samples, count, sizeof(bench->samples[0]), compare_u64);
        return (double)bench->samples[(uint64_t)count * percent / 100] * bench->ns_per_tick / group;
}

/* ---- floor ---- */

static void *floor_peer(void *argument)
{
        struct bench *bench = argument;

        pin(bench->options.processors[1]);
        for (uint64_t round = 1; round <= bench->options.rounds; round++) {
                while (ivg_load_acquire_u64(&bench->floor_line) != 2 * round - 1)
                        ivg_cpu_relax();
                (void)ivg_exchange_seq_cst_u64(&bench->floor_line, 2 * round);
        }
        return NULL;
}

static void run_floor(struct bench *bench)
{
        bench->stamps[0] = ticks();
        for (uint64_t round = 1; round <= bench->options.rounds; round++) {
                (void)ivg_exchange_seq_cst_u64(&bench->floor_line, 2 * round - 1);
                while (ivg_load_acquire_u64(&bench->floor_line) != 2 * round)
                        ivg_cpu_relax();
                bench->stamps[round] = ticks();
        }
}

/* ---- ring ---- */

/* Opcode 1 wants an answer with its sequence, 0 wants none. */
static void *consumer_peer(void *argument)
{
        struct bench *bench = argument;
        static struct ivg_batch batch;
        uint64_t taken = 0;

        pin(bench->options.processors[1]);
        while (ivg_load_relaxed_u32(&bench->stop) == 0) { /* a flag alone */
                const int count = ivg_consumer_take(&bench->consumer, &batch);

                if (count < 0)
                        abort();
                for (int i = 0; i < count; i++) {
                        uint64_t sequence;

                        memcpy(&sequence, batch.records[i].payload, sizeof(sequence));
                        if (batch.records[i].opcode == 1)
                                (void)ivg_consumer_answer(&bench->consumer, 0, sequence, 0, &sequence,
                                                          sizeof(sequence));
                }
                if (count == 0) {
                        ivg_cpu_relax();
                        continue;
                }
                taken += (uint64_t)count;
                /* Read by the bench only after a burst. */
                ivg_store_release_u64(&bench->records_taken, taken);
        }
        return NULL;
}

static void send_record(struct bench *bench, uint16_t opcode, uint64_t value)
{
        const uint64_t payload[PAYLOAD_BYTES / 8] = {value, 1, 2, 3, 4, 5, 6};
        struct ivg_record record = {0};
        uint32_t spins = 0;
        int rc;

        while ((rc = ivg_producer_reserve(&bench->producer, PAYLOAD_BYTES, &record)) == -EAGAIN) {
                ivg_cpu_relax();
                if (spins++ == RESERVE_SPINS_MAX)
                        abort();
        }
        if (rc != 0)
                abort();
        ivg_record_write(&bench->producer, &record, 0, payload, PAYLOAD_BYTES);
        (void)ivg_producer_commit(&bench->producer, &record, opcode);
}

static void run_round_trips(struct bench *bench)
{
        bench->stamps[0] = ticks();
        for (uint32_t round = 1; round <= bench->options.rounds; round++) {
                const uint64_t sequence = ++bench->producer.sequence;
                struct ivg_answer_header header;
                uint8_t payload[IVG_MAILBOX_PAYLOAD_BYTES];

                send_record(bench, 1, sequence);
                while (!ivg_producer_poll_answer(&bench->producer, sequence, &header, payload))
                        ivg_cpu_relax();
                bench->stamps[round] = ticks();
        }
}

static void wait_until_taken(struct bench *bench, uint64_t records)
{
        while (ivg_load_acquire_u64(&bench->records_taken) != records)
                ivg_cpu_relax();
}

/* Nanoseconds per record for the producer alone: bursts into an empty ring. */
static double run_async(struct bench *bench, uint64_t *sent)
{
        const uint32_t bursts = bench->options.rounds / ASYNC_BURST + 1;
        uint64_t spent = 0;

        for (uint32_t burst = 0; burst < bursts; burst++) {
                const uint64_t start = ticks();

                for (uint32_t i = 0; i < ASYNC_BURST; i++)
                        send_record(bench, 0, i);
                spent += ticks() - start;
                *sent += ASYNC_BURST;
                wait_until_taken(bench, *sent);
        }
        return (double)spent * bench->ns_per_tick / ((double)bursts * ASYNC_BURST);
}

/* Million records a second, until the last is taken. */
static double run_throughput(struct bench *bench, uint64_t *sent)
{
        const uint64_t records = (uint64_t)bench->options.rounds * 8;
        const uint64_t start = ticks();

        for (uint64_t i = 0; i < records; i++)
                send_record(bench, 0, i);
        *sent += records;
        wait_until_taken(bench, *sent);
        return (double)records * 1e3 / ((double)(ticks() - start) * bench->ns_per_tick);
}

static void open_ring(struct bench *bench, uint32_t generation)
{
        ivg_ring_format(bench->guest, 0);
        if (ivg_consumer_open(&bench->consumer, bench->guest, bench->host, generation, 0) != 0 ||
            ivg_ring_init(&bench->ring, bench->guest, bench->host, generation) != 0 ||
            ivg_producer_open(&bench->ring, 1, &bench->producer) != 0)
                abort();
        ivg_store_relaxed_u64(&bench->records_taken, 0); /* before the threads start */
        ivg_store_relaxed_u32(&bench->stop, 0);
}

static void start_peer(pthread_t *thread, void *(*function)(void *), struct bench *bench)
{
        if (pthread_create(thread, NULL, function, bench) != 0) {
                fprintf(stderr, "ivgpu-ring-bench: no second thread\n");
                exit(1);
        }
}

static void run_pass(struct bench *bench, uint32_t pass, double figures[FIGURE_COUNT])
{
        pthread_t peer;
        uint64_t sent = bench->options.rounds; /* the round trips' */

        ivg_store_relaxed_u64(&bench->floor_line, 0); /* before the thread starts */
        start_peer(&peer, floor_peer, bench);
        run_floor(bench);
        pthread_join(peer, NULL);
        figures[FIGURE_FLOOR_P50] = percentile_ns(bench, 50, MEDIAN_GROUP);
        figures[FIGURE_FLOOR_P99] = percentile_ns(bench, 99, 1);

        open_ring(bench, pass + 1);
        start_peer(&peer, consumer_peer, bench);
        run_round_trips(bench);
        figures[FIGURE_TRIP_P50] = percentile_ns(bench, 50, MEDIAN_GROUP);
        figures[FIGURE_TRIP_P99] = percentile_ns(bench, 99, 1);
        wait_until_taken(bench, sent);
        figures[FIGURE_ASYNC] = run_async(bench, &sent);
        figures[FIGURE_THROUGHPUT] = run_throughput(bench, &sent);
        ivg_store_relaxed_u32(&bench->stop, 1); /* a flag alone */
        pthread_join(peer, NULL);
        ivg_producer_close(&bench->producer);
}

/* ---- report ---- */

static double show(const char *name, const char *unit, double passes[][FIGURE_COUNT], uint32_t count,
                   enum figure figure)
{
        double values[PASSES_MAX];

        for (uint32_t i = 0; i < count; i++)
                values[i] = passes[i][figure];
        qsort(values, count, sizeof(values[0]), bench_compare_double);
        printf("%-34s %8.1f %-8s (%.1f .. %.1f)\n", name, values[count / 2], unit, values[0], values[count - 1]);
        return values[count / 2];
}

static int report(const struct bench *bench, double passes[][FIGURE_COUNT])
{
        const uint32_t count = bench->options.passes;
        double floor_ns, trip_ns;

        printf("processors %d and %d, %u passes of %u rounds, %u-byte records; medians (smallest .. largest pass)\n",
               bench->options.processors[0], bench->options.processors[1], count, bench->options.rounds, PAYLOAD_BYTES);
        floor_ns = show("floor: one line, there and back", "ns p50", passes, count, FIGURE_FLOOR_P50);
        (void)show("floor", "ns p99", passes, count, FIGURE_FLOOR_P99);
        trip_ns = show("ring round trip", "ns p50", passes, count, FIGURE_TRIP_P50);
        (void)show("ring round trip", "ns p99", passes, count, FIGURE_TRIP_P99);
        printf("%-34s %8.2f x floor\n", "ring round trip", trip_ns / floor_ns);
        (void)show("async record, producer's cost", "ns", passes, count, FIGURE_ASYNC);
        (void)show("throughput, one producer", "M/s", passes, count, FIGURE_THROUGHPUT);
        if (bench->options.ratio_max > 0 && trip_ns > bench->options.ratio_max * floor_ns) {
                printf("FAILED: round trip above %.2f x floor\n", bench->options.ratio_max);
                return 1;
        }
        return 0;
}

static void usage(FILE *out)
{
        fprintf(out,
                "usage: ivgpu-ring-bench [--passes N] [--rounds N] [--processors A,B] [--ratio-max X]\n"
                "  --passes N        passes, odd, at most %u (5)\n"
                "  --rounds N        round trips in each (100000)\n"
                "  --processors A,B  producer's and consumer's (the first two this process may use)\n"
                "  --ratio-max X     exit 1 when the round trip is above X times the floor\n",
                PASSES_MAX);
}

static bool choose_processors(struct options *options)
{
        cpu_set_t set;
        int found = 0;

        if (sched_getaffinity(0, sizeof(set), &set) != 0)
                return false;
        for (int i = 0; i < CPU_SETSIZE && found < 2; i++)
                if (CPU_ISSET(i, &set))
                        options->processors[found++] = i;
        return found == 2;
}

static bool parse_options(int argc, char **argv, struct options *options)
{
        static const struct option names[] = {
                {"passes", required_argument, NULL, 'p'},
                {"rounds", required_argument, NULL, 'r'},
                {"processors", required_argument, NULL, 'c'},
                {"ratio-max", required_argument, NULL, 'x'},
                {"help", no_argument, NULL, 'h'},
                {NULL, 0, NULL, 0},
        };
        bool processors_given = false;
        int option;

        *options = (struct options){.passes = 5, .rounds = 100000};
        while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
                switch (option) {
                case 'p':
                        options->passes = (uint32_t)strtoul(optarg, NULL, 10);
                        break;
                case 'r':
                        options->rounds = (uint32_t)strtoul(optarg, NULL, 10);
                        break;
                case 'c':
                        processors_given =
                                sscanf(optarg, "%d,%d", &options->processors[0], &options->processors[1]) == 2;
                        if (!processors_given)
                                return false;
                        break;
                case 'x':
                        options->ratio_max = strtod(optarg, NULL);
                        break;
                case 'h':
                        usage(stdout);
                        exit(0);
                default:
                        return false;
                }
        }
        if (optind != argc || options->passes < 1 || options->passes > PASSES_MAX || options->rounds < 100)
                return false;
        if (!processors_given && !choose_processors(options)) {
                fprintf(stderr, "ivgpu-ring-bench: two processors are needed, this process may use fewer\n");
                exit(77);
        }
        return true;
}

int main(int argc, char **argv)
{
        static struct bench bench;
        static double passes[PASSES_MAX][FIGURE_COUNT];

        if (!parse_options(argc, argv, &bench.options)) {
                usage(stderr);
                return 2;
        }
        bench.guest = mmap(NULL, sizeof(*bench.guest), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        bench.host = mmap(NULL, sizeof(*bench.host), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        bench.stamps = calloc((size_t)bench.options.rounds + 1, sizeof(bench.stamps[0]));
        bench.samples = calloc(bench.options.rounds, sizeof(bench.samples[0]));
        if (bench.guest == MAP_FAILED || bench.host == MAP_FAILED || !bench.stamps || !bench.samples) {
                fprintf(stderr, "ivgpu-ring-bench: out of memory\n");
                return 1;
        }
        bench.ns_per_tick = measure_ns_per_tick();
        pin(bench.options.processors[0]);
        for (uint32_t pass = 0; pass < bench.options.passes; pass++)
                run_pass(&bench, pass, passes[pass]);
        free(bench.stamps);
        free(bench.samples);
        return report(&bench, passes);
}
