/* ivgpu-sched-sim: the scheduler's policy on a simulated machine. Prints a table or JSON; draws with gnuplot. */
#include "ivgpu/number.h"
#include "sim.h"
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000ull
#define EXIT_USAGE 2

static struct sim_load loads[SIM_VMS_MAX];
static struct sim_result result, alone;
static double progress[SIM_VMS_MAX]; /* kernels, as a part of those that the same load makes with a device for itself */

static void usage(FILE *out)
{
        fprintf(out,
                "usage: ivgpu-sched-sim [options] LOAD...\n"
                "LOAD is KIND[,KEY=VALUE...]; KIND is one of\n"
                "  saturate   launches without end\n"
                "  closed     launches, waits, thinks (think_us), launches again\n"
                "  bursts     saturates for on_ms, is silent for off_ms\n"
                "  recorded   launches as file=PATH says: lines of \"at_us kernel_us\", in order\n"
                "KEY: count (VMs like this), weight 1..100, priority low|medium|high, device, kernel_us, spread, "
                "depth,\n"
                "     issue_ns, think_us, begin_ms, on_ms, off_ms, file\n"
                "  --policy fair|turns|none   none: as the device's time slices have it (default fair)\n"
                "  --devices N                1..%u (default 1)\n"
                "  --seconds S                the run (10)\n"
                "  --ignore-ms M              its beginning that does not count (500)\n"
                "  --slice-us N               the device's time slice between contexts (2090)\n"
                "  --switch-us N              of the device from one context to another (150)\n"
                "  --step-us N                of the simulation (20)\n"
                "  --quantum-us N             instead of the policy's, which stands before it (2000; turns 4000)\n"
                "  --late-us N                the mediator's ticks come late by up to this (200)\n"
                "  --json                     JSON in place of the table\n"
                "  --plot FILE.svg            shares over time, drawn by gnuplot\n",
                SIM_DEVICES_MAX);
}

/* ---- loads ---- */

static bool read_recorded(struct sim_load *load, const char *path)
{
        struct sim_arrival *arrivals = calloc(SIM_TRACE_MAX, sizeof(*arrivals));
        unsigned long long at_us, kernel_us, before = 0;
        FILE *file = fopen(path, "re");
        uint32_t count = 0;

        if (!file || !arrivals) {
                fprintf(stderr, "ivgpu-sched-sim: %s: %s\n", path, strerror(errno));
                return false;
        }
        while (count < SIM_TRACE_MAX && fscanf(file, "%llu %llu", &at_us, &kernel_us) == 2 && at_us >= before) {
                arrivals[count++] = (struct sim_arrival){at_us * 1000, kernel_us * 1000};
                before = at_us;
        }
        if (count == 0 || !feof(file)) {
                fprintf(stderr, "ivgpu-sched-sim: %s: line %u is no \"at_us kernel_us\" in order, or one too many\n",
                        path, count + 1);
                return false;
        }
        fclose(file);
        load->arrivals = arrivals; /* until the end of the program */
        load->arrival_count = count;
        return true;
}

static bool read_word(const char *text, const char *const *words, uint32_t *index)
{
        for (*index = 0; words[*index]; (*index)++)
                if (strcmp(words[*index], text) == 0)
                        return true;
        return false;
}

static bool set_key(struct sim_load *load, uint32_t *count, const char *key, const char *text)
{
        static const char *const priorities[] = {"low", "medium", "high", NULL};
        const struct {
                const char *name;
                unsigned long long min, max, unit;
                uint64_t *wide;
                uint32_t *narrow;
        } keys[] = {
                {"count", 1, SIM_VMS_MAX, 1, NULL, count},
                {"weight", 1, 100, 1, NULL, &load->weight},
                {"device", 0, SIM_DEVICES_MAX - 1, 1, NULL, &load->device},
                {"spread", 0, 1000, 1, NULL, &load->spread},
                {"depth", 1, 65536, 1, NULL, &load->depth},
                {"kernel_us", 1, 100000000, 1000, &load->kernel_ns, NULL},
                {"issue_ns", 0, 100000000, 1, &load->issue_ns, NULL},
                {"think_us", 0, 100000000, 1000, &load->think_ns, NULL},
                {"begin_ms", 0, 100000000, MS, &load->begin_ns, NULL},
                {"on_ms", 1, 100000000, MS, &load->on_ns, NULL},
                {"off_ms", 0, 100000000, MS, &load->off_ns, NULL},
        };
        uint64_t value;

        if (strcmp(key, "priority") == 0)
                return read_word(text, priorities, &load->priority);
        if (strcmp(key, "file") == 0)
                return load->kind == SIM_RECORDED && read_recorded(load, text);
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
                if (strcmp(keys[i].name, key) == 0) {
                        if (!ivg_number_read(text, keys[i].min, keys[i].max, &value))
                                return false;
                        if (keys[i].wide)
                                *keys[i].wide = value * keys[i].unit;
                        else
                                *keys[i].narrow = (uint32_t)value;
                        return true;
                }
        return false;
}

static bool read_load(char *text, struct sim_settings *settings)
{
        static const char *const kinds[] = {"saturate", "closed", "bursts", "recorded", NULL};
        struct sim_load load = {
                .priority = 1, .weight = 1, .kernel_ns = MS, .think_ns = MS, .on_ns = 50 * MS, .off_ns = 50 * MS};
        uint32_t kind = 0, count = 1;
        char *rest = NULL, *part = strtok_r(text, ",", &rest);

        if (!part || !read_word(part, kinds, &kind)) {
                fprintf(stderr, "ivgpu-sched-sim: \"%s\" is no kind of load\n", part ? part : "");
                return false;
        }
        load.kind = (enum sim_kind)kind;
        while ((part = strtok_r(NULL, ",", &rest)) != NULL) {
                char *value = strchr(part, '=');

                if (value)
                        *value++ = '\0';
                if (!value || !set_key(&load, &count, part, value)) {
                        fprintf(stderr, "ivgpu-sched-sim: %s: \"%s\" is no key, or \"%s\" no value of it\n",
                                kinds[kind], part, value ? value : "");
                        return false;
                }
        }
        if (load.device >= settings->device_count || settings->vm_count + count > SIM_VMS_MAX ||
            (load.kind == SIM_RECORDED && !load.arrivals)) {
                fprintf(stderr, "ivgpu-sched-sim: %s: a device that is not there, more than %u VMs, or no file\n",
                        kinds[kind], SIM_VMS_MAX);
                return false;
        }
        for (uint32_t i = 0; i < count; i++)
                loads[settings->vm_count++] = load;
        return true;
}

/* ---- figures ---- */

static bool same_load(const struct sim_load *a, const struct sim_load *b)
{
        return a->kind == b->kind && a->kernel_ns == b->kernel_ns && a->spread == b->spread && a->depth == b->depth &&
               a->issue_ns == b->issue_ns && a->think_ns == b->think_ns && a->begin_ns == b->begin_ns &&
               a->on_ns == b->on_ns && a->off_ns == b->off_ns && a->arrivals == b->arrivals;
}

static int find_progress(const struct sim_settings *settings)
{
        struct sim_settings one = *settings;
        uint64_t kernels = 0;

        one.vm_count = one.device_count = 1;
        one.timeline = NULL;
        for (uint32_t i = 0; i < settings->vm_count; i++) {
                struct sim_load load = loads[i];

                if (i == 0 || !same_load(&load, &loads[i - 1])) {
                        load.device = 0;
                        one.loads = &load;
                        if (sim_run(&one, &alone) < 0)
                                return -1;
                        kernels = alone.vms[0].kernels;
                }
                progress[i] = kernels ? (double)result.vms[i].kernels / (double)kernels : 0;
        }
        return 0;
}

static double ms(uint64_t ns)
{
        return (double)ns / 1e6;
}

static void print_table(const struct sim_settings *settings)
{
        double sum = 0;

        for (uint32_t i = 0; i < settings->vm_count; i++)
                sum += progress[i];
        printf("%4s %3s %6s %8s %9s %8s %10s %10s %12s %12s\n", "vm", "dev", "weight", "share", "kernels", "progress",
               "p50 ms", "p99 ms", "begin ms", "unserved ms");
        for (uint32_t i = 0; i < settings->vm_count; i++) {
                const struct sim_figures *f = &result.vms[i];

                printf("%4u %3u %6u %8.4f %9llu %8.4f %10.3f %10.3f %12.3f %12.3f\n", i, loads[i].device,
                       loads[i].weight, f->share, (unsigned long long)f->kernels, progress[i], ms(f->latency_p50_ns),
                       ms(f->latency_p99_ns), ms(f->begin_wait_max_ns), ms(f->starved_max_ns));
        }
        for (uint32_t i = 0; i < settings->device_count; i++)
                printf("device %u: wanted %.4f of the time, busy %.4f\n", i, result.wanted[i], result.busy[i]);
        printf("sum of progress %.4f, of which", sum);
        for (uint32_t i = 0; i < settings->vm_count && i < 16; i++)
                printf(" %.4f", sum > 0 ? progress[i] / sum : 0);
        printf("\nfairness of those that saturate (Jain): %.4f; looks of the mediator: %llu\n", result.jain,
               (unsigned long long)result.looks);
}

static void print_json(const struct sim_settings *settings)
{
        printf("{\"jain\": %.6f, \"looks\": %llu, \"devices\": [", result.jain, (unsigned long long)result.looks);
        for (uint32_t i = 0; i < settings->device_count; i++)
                printf("%s{\"wanted\": %.6f, \"busy\": %.6f}", i ? ", " : "", result.wanted[i], result.busy[i]);
        printf("], \"vms\": [");
        for (uint32_t i = 0; i < settings->vm_count; i++) {
                const struct sim_figures *f = &result.vms[i];

                printf("%s\n {\"device\": %u, \"weight\": %u, \"priority\": %u, \"share\": %.6f, \"progress\": %.6f, "
                       "\"kernels\": %llu, "
                       "\"latency_p50_ns\": %llu, \"latency_p99_ns\": %llu, \"latency_max_ns\": %llu, "
                       "\"begin_wait_max_ns\": %llu, \"unserved_max_ns\": %llu}",
                       i ? "," : "", loads[i].device, loads[i].weight, loads[i].priority, f->share, progress[i],
                       (unsigned long long)f->kernels, (unsigned long long)f->latency_p50_ns,
                       (unsigned long long)f->latency_p99_ns, (unsigned long long)f->latency_max_ns,
                       (unsigned long long)f->begin_wait_max_ns, (unsigned long long)f->starved_max_ns);
        }
        printf("]}\n");
}

/* Shares of each 10 ms, as gnuplot reads them from its own input. */
static bool draw(const struct sim_settings *settings, FILE *rows, const char *path)
{
        FILE *plot = popen("gnuplot", "we");
        char line[16384];

        if (!plot) {
                fprintf(stderr, "ivgpu-sched-sim: gnuplot: %s\n", strerror(errno));
                return false;
        }
        fprintf(plot, "set terminal svg size 900,420\nset output '%s'\nset yrange [0:1.05]\nset xlabel 'ms'\n", path);
        fprintf(plot, "set ylabel 'share of its device'\nset key outside\n$rows << EOD\n");
        rewind(rows);
        while (fgets(line, sizeof(line), rows))
                fputs(line, plot);
        fprintf(plot, "EOD\nplot ");
        for (uint32_t i = 0; i < settings->vm_count && i < 16; i++) /* more cannot be told apart */
                fprintf(plot, "%s$rows using 1:%u with lines title 'VM %u, weight %u'", i ? ", " : "", i + 2, i,
                        loads[i].weight);
        fprintf(plot, "\n");
        return pclose(plot) == 0;
}

/* ---- options ---- */

static const struct option options[] = {
        {"policy", required_argument, NULL, 'p'},
        {"devices", required_argument, NULL, 'd'},
        {"seconds", required_argument, NULL, 's'},
        {"ignore-ms", required_argument, NULL, 'i'},
        {"slice-us", required_argument, NULL, 'l'},
        {"switch-us", required_argument, NULL, 'w'},
        {"step-us", required_argument, NULL, 't'},
        {"late-us", required_argument, NULL, 'L'},
        {"quantum-us", required_argument, NULL, 'q'},
        {"json", no_argument, NULL, 'j'},
        {"plot", required_argument, NULL, 'P'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
};

static bool set_option(struct sim_settings *settings, int option, const char *text)
{
        static const char *const policies[] = {"fair", "turns", "none", NULL};
        uint64_t value = 0;
        uint32_t policy = 0;

        switch (option) {
        case 'p':
                if (!read_word(text, policies, &policy))
                        return false;
                settings->policy = policy == 1 ? ivg_sched_turns : ivg_sched_fair;
                settings->scheduled = policy != 2;
                return true;
        case 'd':
                if (!ivg_number_read(text, 1, SIM_DEVICES_MAX, &value))
                        return false;
                settings->device_count = (uint32_t)value;
                return true;
        case 's':
                if (!ivg_number_read(text, 1, 100000, &value))
                        return false;
                settings->length_ns = value * 1000 * MS;
                return true;
        default:
                if (!ivg_number_read(text, option == 'i' || option == 'L' || option == 'w' ? 0 : 1, 1000000, &value))
                        return false;
                *(option == 'i'   ? &settings->ignore_ns
                  : option == 'l' ? &settings->slice_ns
                  : option == 'w' ? &settings->switch_ns
                  : option == 't' ? &settings->step_ns
                  : option == 'q' ? &settings->policy.quantum_ns
                                  : &settings->late_ns) = value * (option == 'i' ? MS : 1000);
                return true;
        }
}

int main(int argc, char **argv)
{
        struct sim_settings settings;
        const char *plot = NULL;
        bool json = false;
        int option;

        sim_settings_init(&settings);
        settings.loads = loads;
        while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
                if (option == 'h' || option == '?') {
                        usage(option == 'h' ? stdout : stderr);
                        return option == 'h' ? 0 : EXIT_USAGE;
                }
                if (option == 'j')
                        json = true;
                else if (option == 'P')
                        plot = optarg;
                else if (!set_option(&settings, option, optarg)) {
                        fprintf(stderr, "ivgpu-sched-sim: \"%s\" is no value there\n", optarg);
                        return EXIT_USAGE;
                }
        }
        for (int i = optind; i < argc; i++)
                if (!read_load(argv[i], &settings))
                        return EXIT_USAGE;
        if (settings.vm_count == 0 || settings.ignore_ns >= settings.length_ns) {
                fprintf(stderr, "ivgpu-sched-sim: no load, or nothing that counts\n");
                usage(stderr);
                return EXIT_USAGE;
        }
        settings.timeline = plot ? tmpfile() : NULL;
        if ((plot && !settings.timeline) || sim_run(&settings, &result) < 0 || find_progress(&settings) < 0) {
                fprintf(stderr, "ivgpu-sched-sim: %s\n", strerror(errno));
                return 1;
        }
        (json ? print_json : print_table)(&settings);
        return plot && !draw(&settings, settings.timeline, plot) ? 1 : 0;
}
