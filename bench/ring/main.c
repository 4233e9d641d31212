/* ivgpu-ring-bench: the ring against the machine's floor and against what Debian packages. bench/README.md says how to
 * read it. */
#include "ivgpu/number.h"
#include "ours.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define LIST_MAX 16u
#define CASES_MAX 4096u

struct list {
        uint32_t count;
        uint32_t values[LIST_MAX];
};

struct sweep {
        struct bench_options options;
        struct list producers, payloads;
        const char *rings; /* names, by commas; NULL: all */
        bool threads[2], sleeping[2], pinned[2];
        const char *json, *distributions, *shm, *serve;
        bool bars;
        uint64_t sleeps;
        double ratio_max;
};

static struct bench_case_result results[CASES_MAX];

static void usage(FILE *out)
{
        fprintf(out, "usage: ivgpu-ring-bench [options]             a sweep over all rings, as a table\n"
                     "       ivgpu-ring-bench --bars [--sleeps N]   what the ring is held to; exit 1 when it misses\n"
                     "       ivgpu-ring-bench --serve SOCKET        on a host: QEMU's ivshmem server (5 vectors) and "
                     "consumer\n"
                     "       ivgpu-ring-bench --shm /dev/ivgpu0     in its guest: our ring between the two\n"
                     "  --rings A,B,...       of: ");
        for (uint32_t i = 0; i < bench_peers_count; i++)
                fprintf(out, "%s%s", i == 0 ? "" : ", ", bench_peers[i]->name);
        for (uint32_t i = 0; i < bench_absent_count; i++)
                fprintf(out, ", %s (absent)", bench_absent[i].ring);
        fprintf(out,
                "\n"
                "  --producers N,...     at once, 1 to %u (1,2,4,16)\n"
                "  --payloads BYTES,...  8 to %u (8,56,512,4096,65536)\n"
                "  --workers threads,processes    (threads)\n"
                "  --consumer polled,sleeping     who finds nothing looks again, or sleeps at once (polled)\n"
                "  --placement pinned,floating    all producers on one processor and the consumer on another, or\n"
                "                        wherever the kernel puts them (pinned)\n"
                "  --all                 everything: threads and processes, 1 to 16 producers, all modes\n"
                "  --quick               one short run of each ring: that it works, not how fast\n"
                "  --passes N            runs of which the median is shown (5)\n"
                "  --milliseconds N      of round trips, and again of throughput, in each run (40)\n"
                "  --processors A,B      producers' and consumer's (the first two this process may use)\n"
                "  --floor-min NS        rejects runs with a shorter floor: a virtual machine's two processors may be "
                "moved\n"
                "                        onto one core of its host (0)\n"
                "  --ratio-max X         exit 1 when a round trip of ours, polled, pinned, from one producer and of "
                "at\n"
                "                        most 56 bytes, is above X times the floor\n"
                "  --json FILE           the figures\n"
                "  --distributions FILE  round trips by percentile, for bench/ring/plot\n"
                "  --sleeps N            of the consumer, for lost wake-ups (10000000)\n",
                BENCH_PRODUCERS_MAX, BENCH_PAYLOAD_MAX);
}

static bool parse_list(const char *text, uint32_t min, uint32_t max, struct list *list)
{
        list->count = 0;
        for (;;) {
                char *end;
                const unsigned long value = strtoul(text, &end, 10);

                if (end == text || value < min || value > max || list->count == LIST_MAX)
                        return false;
                list->values[list->count++] = (uint32_t)value;
                if (*end == '\0')
                        return true;
                if (*end != ',')
                        return false;
                text = end + 1;
        }
}

static bool in_names(const char *names, const char *name)
{
        const size_t length = strlen(name);

        for (const char *at = names; (at = strstr(at, name)) != NULL; at++)
                if ((at == names || at[-1] == ',') && (at[length] == '\0' || at[length] == ','))
                        return true;
        return false;
}

static bool parse_decimal(const char *text, double *number)
{
        char *end;

        *number = strtod(text, &end);
        return end != text && *end == '\0' && *number >= 0 && *number < 1e9;
}

static bool parse_processors(const char *text, int processors[2])
{
        int length = -1;

        return sscanf(text, "%d,%d%n", &processors[0], &processors[1], &length) == 2 && text[length] == '\0' &&
               processors[0] != processors[1];
}

/* Which of two words stand in the list; false when another does, or none. */
static bool parse_pair(const char *text, const char *first, const char *second, bool chosen[2])
{
        size_t length = 0;

        chosen[0] = in_names(text, first);
        chosen[1] = in_names(text, second);
        length = (chosen[0] ? strlen(first) : 0) + (chosen[1] ? strlen(second) : 0) + (chosen[0] && chosen[1]);
        return length != 0 && length == strlen(text);
}

static bool rings_exist(const char *names)
{
        size_t length = 0;

        for (uint32_t i = 0; i < bench_peers_count; i++)
                if (in_names(names, bench_peers[i]->name))
                        length += strlen(bench_peers[i]->name) + 1;
        for (uint32_t i = 0; i < bench_absent_count; i++)
                if (in_names(names, bench_absent[i].ring))
                        length += strlen(bench_absent[i].ring) + 1;
        return length == strlen(names) + 1;
}

static void choose_all(struct sweep *sweep)
{
        (void)parse_list("1,2,3,4,8,16", 1, BENCH_PRODUCERS_MAX, &sweep->producers);
        (void)parse_list("8,56,128,512,1024,3584,4096,16384,65536", 8, BENCH_PAYLOAD_MAX, &sweep->payloads);
        for (uint32_t i = 0; i < 2; i++)
                sweep->threads[i] = sweep->sleeping[i] = sweep->pinned[i] = true;
}

static void choose_quick(struct sweep *sweep)
{
        (void)parse_list("1,2", 1, BENCH_PRODUCERS_MAX, &sweep->producers);
        (void)parse_list("8,56,4096", 8, BENCH_PAYLOAD_MAX, &sweep->payloads);
        sweep->options.passes = 1;
        sweep->options.milliseconds = 2;
}

static bool parse_options(int argc, char **argv, struct sweep *sweep)
{
        static const struct option names[] = {
                {"rings", required_argument, NULL, 'r'},
                {"producers", required_argument, NULL, 'n'},
                {"payloads", required_argument, NULL, 'b'},
                {"workers", required_argument, NULL, 'w'},
                {"consumer", required_argument, NULL, 'c'},
                {"placement", required_argument, NULL, 'a'},
                {"all", no_argument, NULL, 'A'},
                {"quick", no_argument, NULL, 'q'},
                {"passes", required_argument, NULL, 'p'},
                {"milliseconds", required_argument, NULL, 'm'},
                {"processors", required_argument, NULL, 'P'},
                {"json", required_argument, NULL, 'j'},
                {"floor-min", required_argument, NULL, 'f'},
                {"ratio-max", required_argument, NULL, 'x'},
                {"distributions", required_argument, NULL, 'd'},
                {"bars", no_argument, NULL, 'B'},
                {"sleeps", required_argument, NULL, 's'},
                {"shm", required_argument, NULL, 'S'},
                {"serve", required_argument, NULL, 'H'},
                {"help", no_argument, NULL, 'h'},
                {NULL, 0, NULL, 0},
        };
        bool processors_given = false;
        int option;

        *sweep = (struct sweep){.options = {.milliseconds = 40, .passes = 5, .floor_line_ns = bench_floor_line_ns},
                                .threads = {true, false},
                                .sleeping = {true, false},
                                .pinned = {true, false},
                                .sleeps = 10000000};
        (void)parse_list("1,2,4,16", 1, BENCH_PRODUCERS_MAX, &sweep->producers);
        (void)parse_list("8,56,512,4096,65536", 8, BENCH_PAYLOAD_MAX, &sweep->payloads);
        while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
                uint64_t number = 0;
                bool right = true;

                switch (option) {
                case 'r':
                        sweep->rings = optarg;
                        right = rings_exist(optarg);
                        break;
                case 'n':
                        right = parse_list(optarg, 1, BENCH_PRODUCERS_MAX, &sweep->producers);
                        break;
                case 'b':
                        right = parse_list(optarg, 8, BENCH_PAYLOAD_MAX, &sweep->payloads);
                        break;
                case 'w':
                        right = parse_pair(optarg, "threads", "processes", sweep->threads);
                        break;
                case 'c':
                        right = parse_pair(optarg, "polled", "sleeping", sweep->sleeping);
                        break;
                case 'a':
                        right = parse_pair(optarg, "pinned", "floating", sweep->pinned);
                        break;
                case 'A':
                        choose_all(sweep);
                        break;
                case 'q':
                        choose_quick(sweep);
                        break;
                case 'p':
                        if (!ivg_number_option("passes", optarg, 1, BENCH_PASSES_MAX, &number))
                                return false;
                        sweep->options.passes = (uint32_t)number;
                        break;
                case 'm':
                        if (!ivg_number_option("milliseconds", optarg, 1, BENCH_MILLISECONDS_MAX, &number))
                                return false;
                        sweep->options.milliseconds = (uint32_t)number;
                        break;
                case 'P':
                        right = processors_given = parse_processors(optarg, sweep->options.processors);
                        break;
                case 'j':
                        sweep->json = optarg;
                        break;
                case 'd':
                        sweep->distributions = optarg;
                        break;
                case 'x':
                        right = parse_decimal(optarg, &sweep->ratio_max) && sweep->ratio_max > 0;
                        break;
                case 'f':
                        right = parse_decimal(optarg, &sweep->options.floor_min_ns);
                        break;
                case 'B':
                        sweep->bars = true;
                        break;
                case 's':
                        if (!ivg_number_option("sleeps", optarg, 1, UINT64_MAX, &sweep->sleeps))
                                return false;
                        break;
                case 'S':
                        sweep->shm = optarg;
                        break;
                case 'H':
                        sweep->serve = optarg;
                        break;
                case 'h':
                        usage(stdout);
                        exit(0);
                default:
                        return false;
                }
                if (!right) {
                        fprintf(stderr, "ivgpu-ring-bench: '%s' is no value for this option\n", optarg);
                        return false;
                }
        }
        if (optind != argc)
                return false;
        if (!processors_given && !bench_choose_processors(sweep->options.processors)) {
                fprintf(stderr, "ivgpu-ring-bench: two processors are needed, this process may use fewer\n");
                exit(77);
        }
        return true;
}

/* Every ring at one payload and every payload from one producer, unless told otherwise: not their product, which shows
 * little more and takes for ever. */
static bool is_wanted(const struct sweep *sweep, uint32_t producers, uint32_t payload)
{
        return producers == sweep->producers.values[0] || payload == 56 || sweep->payloads.count == 1;
}

/* Those of the build, or the one way to the host. */
static const struct bench_peer *peer_of(const struct sweep *sweep, const struct bench_peer *remote, uint32_t i)
{
        if (remote)
                return i == 0 ? remote : NULL;
        return i < bench_peers_count && (!sweep->rings || in_names(sweep->rings, bench_peers[i]->name)) ? bench_peers[i]
                                                                                                        : NULL;
}

static void add_case(const struct sweep *sweep, const struct bench_case *is, uint32_t *count)
{
        if (*count == CASES_MAX)
                bench_die("more than %u cases", CASES_MAX);
        bench_measure(&sweep->options, is, &results[*count]);
        bench_table_row(&results[(*count)++]);
}

/* Modes outermost: what is to be compared is measured close together. */
static uint32_t run_sweep(const struct sweep *sweep, const struct bench_peer *remote)
{
        uint32_t count = 0;

        for (uint32_t mode = 0; mode < 8; mode++) {
                if (!sweep->threads[mode >> 2] || !sweep->sleeping[mode >> 1 & 1] || !sweep->pinned[mode & 1])
                        continue;
                for (uint32_t n = 0; n < sweep->producers.count; n++)
                        for (uint32_t b = 0; b < sweep->payloads.count; b++)
                                for (uint32_t ring = 0; ring < bench_peers_count; ring++) {
                                        const struct bench_case is = {
                                                .peer = peer_of(sweep, remote, ring),
                                                .processes = (mode >> 2) != 0,
                                                .sleeping = (mode >> 1 & 1) != 0,
                                                .pinned = (mode & 1) == 0,
                                                .producers = sweep->producers.values[n],
                                                .payload_bytes = sweep->payloads.values[b],
                                        };

                                        if (!is.peer || !is_wanted(sweep, is.producers, is.payload_bytes))
                                                continue;
                                        add_case(sweep, &is, &count);
                                }
        }
        return count;
}

static void show_machine(const struct sweep *sweep)
{
        printf("processors %d and %d; medians of %u runs, %u ms of round trips and %u ms of throughput each\n",
               sweep->options.processors[0], sweep->options.processors[1], sweep->options.passes,
               sweep->options.milliseconds, sweep->options.milliseconds);
        printf("floors: one line there and back %.1f ns; memcpy", sweep->options.floor_line_ns(&sweep->options));
        for (uint32_t b = 0; b < sweep->payloads.count; b++)
                printf("%s %u bytes %.1f ns", b == 0 ? "" : ",", sweep->payloads.values[b],
                       bench_floor_memcpy_ns(&sweep->options, sweep->payloads.values[b]));
        printf("\n");
}

static int check_ratio(const struct sweep *sweep, uint32_t count)
{
        int failures = 0;

        for (uint32_t i = 0; i < count; i++) {
                const struct bench_case *is = &results[i].is;
                const struct bench_figures *figures = &results[i].median;

                if (sweep->ratio_max <= 0 || !is->peer->is_ours || is->sleeping || !is->pinned || is->producers > 1 ||
                    is->payload_bytes > 56 || figures->rtt_p50_ns <= sweep->ratio_max * figures->floor_rtt_p50_ns)
                        continue;
                printf("FAILED: %u bytes: round trip above %.2f x floor\n", is->payload_bytes, sweep->ratio_max);
                failures++;
        }
        return failures != 0;
}

static void write_file(const char *path, const char *what, int rc)
{
        if (path && rc != 0)
                bench_die("%s: %s not written: %s", path, what, strerror(-rc));
}

int main(int argc, char **argv)
{
        static struct sweep sweep;
        const struct bench_peer *remote = NULL;
        uint32_t count;

        bench_peers_load();
        if (!parse_options(argc, argv, &sweep)) {
                usage(stderr);
                return 2;
        }
        sweep.options.ns_per_tick = bench_measure_ns_per_tick();
        if (sweep.bars)
                return bench_check_bars(&sweep.options, sweep.sleeps);
        if (sweep.serve)
                bench_shm_serve(sweep.serve, &sweep.options);
        if (sweep.shm)
                remote = bench_shm_open(sweep.shm, &sweep.options);
        show_machine(&sweep);
        bench_table_head();
        count = run_sweep(&sweep, remote);
        write_file(sweep.json, "JSON", sweep.json ? bench_write_json(sweep.json, results, count) : 0);
        write_file(sweep.distributions, "distributions",
                   sweep.distributions ? bench_write_distributions(sweep.distributions, results, count) : 0);
        return check_ratio(&sweep, count);
}
