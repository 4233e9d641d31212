/* ivgpu-dump: what stands in a region, for people and scripts. Reads only. */
#include "control_client.h"
#include "dump.h"
#include "ivgpu/number.h"
#include "json_add.h"
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_S 10
#define CALLS_STANDARD 16
#define CALLS_MAX IVG_RING_SLOTS
#define AGE_MS_STANDARD 20
#define AGE_MS_MAX 60000
#define REGIONS_MAX 256u /* of one process */

enum exit_status {
        EXIT_DONE = 0,
        EXIT_REFUSED = 1, /* by the mediator; or there is no such region, or it is none */
        EXIT_USAGE = 2,
        EXIT_NO_MEDIATOR = 3,
};

static const char *socket_path;

static void usage(FILE *out)
{
        fputs("usage: ivgpu-dump [OPTION...] [VM | FILE]\n"
              "       ivgpu-dump [OPTION...] --pid PID\n\n"
              "Shows what stands in a region: its page, channels and their states, ring positions, records that are "
              "claimed "
              "and\n"
              "not committed, calls that wait or were taken lately, decoded, threads and their mailboxes, owners of "
              "extents.\n"
              "It reads only, stops nobody, and believes nothing of what it reads: a snapshot of a live region is of "
              "no single "
              "moment.\n\n"
              "  VM              a vm_id, a name, or \"local\": the mediator is asked for its region; without, for "
              "all\n"
              "  FILE            (with a slash) what --save wrote; or, in a guest without our driver and as root, the\n"
              "                  device's memory: /sys/bus/pci/devices/ADDRESS/resource2. With the driver a guest does "
              "not\n"
              "                  let one process see others' channels: look from the host\n"
              "  --pid=PID       regions that this process has open (ivgpud, QEMU, ivgpu-exec); root\n"
              "  --executor=PID  of the mediator's regions only that of this executor\n"
              "  --channel=N     this channel only; default: those in use\n"
              "  --all           channels that nobody uses too\n"
              "  --calls=N       shows the latest N calls that were taken; default 16, at most what the ring still "
              "holds.\n"
              "                  Those that wait are all shown, marked with >\n"
              "  --age=MS        looks twice at what is half-written, to tell how old it is at least; default 20, 0: "
              "once\n"
              "  --save=FILE     writes the region to a new file, without the arena (programs' data), and shows "
              "nothing\n"
              "  --json          one JSON object for each region, one a line\n"
              "  --socket=PATH   ivgpud's control socket; default $IVGPU_CONTROL_SOCKET, "
              "or " IVG_CONTROL_SOCKET_STANDARD "\n"
              "  --help, --version\n\n"
              "The mediator hands regions to root, its own user, and \"user\" and \"group\" of \"control\" in its "
              "configuration.\n"
              "Records hold arguments of programs' calls and small copies: treat a saved file like their memory.\n\n"
              "Exit status: 0 done; 1 refused, not there, or no region, with the reason on stderr; 2 usage; 3 no "
              "mediator.\n\n"
              "Examples:\n"
              "  ivgpu-dump 7 --calls=100\n"
              "  ivgpu-dump --pid $(pidof qemu-system-x86_64) --save=/tmp/hung.region\n"
              "  ivgpu-dump --json /tmp/hung.region | jq '.channels[].ring.half_written'\n",
              out);
}

struct arguments {
        struct ivg_dump_options dump;
        const char *object, *save;
        uint32_t pid, executor; /* 0: not given */
        bool as_json;
};

/* ---- one region ---- */

static int show(const struct ivg_region_source *source, const struct arguments *arguments, const char *name)
{
        struct ivg_error error = {""};
        struct json_object *dump;

        if (arguments->save) {
                if (ivg_region_source_save(source, arguments->save, &error) == 0)
                        return EXIT_DONE;
                fprintf(stderr, "ivgpu-dump: %s: %s\n", name, error.text);
                return EXIT_REFUSED;
        }
        dump = ivg_dump_region(source, &arguments->dump, &error);
        if (!dump) {
                fprintf(stderr, "ivgpu-dump: %s: %s\n", name, error.text);
                return EXIT_REFUSED;
        }
        ivg_json_add_text(dump, "source", name);
        if (arguments->as_json)
                puts(json_object_to_json_string_ext(dump, JSON_C_TO_STRING_PLAIN));
        else
                ivg_dump_print(stdout, dump);
        json_object_put(dump);
        return EXIT_DONE;
}

static int show_all(struct ivg_region_source *sources, uint32_t count, const struct arguments *arguments,
                    const char *name)
{
        int status = EXIT_DONE;

        if (count == 0) {
                fprintf(stderr, "ivgpu-dump: %s: no region\n", name);
                return EXIT_REFUSED;
        }
        if (arguments->save && count > 1) {
                fprintf(stderr, "ivgpu-dump: %s: %u regions do not go into one file: name a VM, or --executor\n", name,
                        count);
                return EXIT_USAGE;
        }
        for (uint32_t i = 0; i < count; i++) {
                const int one = show(&sources[i], arguments, name);

                if (one != EXIT_DONE)
                        status = one;
                if (i + 1 < count && !arguments->as_json)
                        puts("");
        }
        return status;
}

static void close_all(struct ivg_region_source *sources, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++)
                ivg_region_source_close(&sources[i]);
}

/* ---- where they come from ---- */

static int show_file(const struct arguments *arguments)
{
        struct ivg_region_source source;
        struct ivg_error error = {""};
        int status;

        if (ivg_region_source_open_path(&source, arguments->object, &error) < 0) {
                fprintf(stderr, "ivgpu-dump: %s\n", error.text);
                return EXIT_REFUSED;
        }
        status = show(&source, arguments, arguments->object);
        ivg_region_source_close(&source);
        return status;
}

static int show_process(const struct arguments *arguments)
{
        static struct ivg_region_source sources[REGIONS_MAX];
        struct ivg_error error = {""};
        char name[32];
        int count = ivg_region_sources_of_process((int)arguments->pid, sources, REGIONS_MAX, &error), status;

        if (count < 0) {
                fprintf(stderr, "ivgpu-dump: %s\n", error.text);
                return EXIT_REFUSED;
        }
        snprintf(name, sizeof(name), "process %u", arguments->pid);
        status = show_all(sources, (uint32_t)count, arguments, name);
        close_all(sources, (uint32_t)count);
        return status;
}

/* Takes the reply's regions. Their number, or -1 when one of them cannot be read. */
static int take_regions(struct ivg_control_reply *reply, struct ivg_region_source sources[IVG_FDS_PER_MESSAGE_MAX])
{
        struct json_object *regions = ivg_json_array(reply->answer, "regions");
        struct ivg_error error = {""};
        uint32_t count = 0;

        for (size_t i = 0; i < ivg_json_length(regions) && count < IVG_FDS_PER_MESSAGE_MAX; i++) {
                const uint64_t fd = ivg_json_number(json_object_array_get_idx(regions, i), "fd");

                if (fd >= reply->fd_count || reply->fds[fd] < 0)
                        continue;
                if (ivg_region_source_open(&sources[count], reply->fds[fd], &error) == 0)
                        count++;
                reply->fds[fd] = -1;
        }
        return (int)count;
}

/* One answer holds so many; `after` moves on. False: that was the last. */
static bool ask_and_show(int fd, const struct arguments *arguments, uint64_t *after, int *status)
{
        struct ivg_region_source sources[IVG_FDS_PER_MESSAGE_MAX];
        struct json_object *request = ivg_control_request("regions", arguments->object);
        char words[IVG_CONTROL_WORDS_BYTES];
        struct ivg_control_reply reply;
        const char *refusal;
        uint32_t count;

        if (arguments->executor != 0)
                ivg_json_add_number(request, "pid", arguments->executor);
        ivg_json_add_number(request, "after", *after);
        if (ivg_control_exchange(fd, request, &reply, words) < 0) {
                fprintf(stderr, "ivgpu-dump: the mediator at %s: %s\n", socket_path, words);
                *status = EXIT_NO_MEDIATOR;
                json_object_put(request);
                return false;
        }
        json_object_put(request);
        refusal = ivg_control_refusal(reply.answer);
        if (refusal) {
                fprintf(stderr, "ivgpu-dump: %s\n", refusal);
                *status = EXIT_REFUSED;
                ivg_control_reply_free(&reply);
                return false;
        }
        count = (uint32_t)take_regions(&reply, sources);
        *status = show_all(sources, count, arguments, arguments->object ? arguments->object : "the mediator");
        close_all(sources, count);
        *after = ivg_json_number(reply.answer, "more_after");
        ivg_control_reply_free(&reply);
        return *status == EXIT_DONE && *after != 0;
}

static int show_mediators(const struct arguments *arguments)
{
        char words[IVG_CONTROL_WORDS_BYTES];
        const int fd = ivg_control_connect(socket_path, ANSWER_S, words);
        int status = EXIT_DONE;
        uint64_t after = 0;

        if (fd < 0) {
                fprintf(stderr, "ivgpu-dump: no mediator at %s: %s\n", socket_path, words);
                return EXIT_NO_MEDIATOR;
        }
        while (ask_and_show(fd, arguments, &after, &status))
                continue;
        close(fd);
        return status;
}

/* ---- arguments ---- */

static uint32_t number_of(const char *name, const char *text, uint32_t max)
{
        uint64_t number;

        if (!ivg_number_option(name, text, 0, max, &number))
                exit(EXIT_USAGE);
        return (uint32_t)number;
}

int main(int argc, char **argv)
{
        static const struct option names[] = {
                {"socket", required_argument, NULL, 's'},  {"json", no_argument, NULL, 'j'},
                {"pid", required_argument, NULL, 'p'},     {"executor", required_argument, NULL, 'e'},
                {"channel", required_argument, NULL, 'c'}, {"calls", required_argument, NULL, 'n'},
                {"all", no_argument, NULL, 'a'},           {"age", required_argument, NULL, 'g'},
                {"save", required_argument, NULL, 'o'},    {"help", no_argument, NULL, 'h'},
                {"version", no_argument, NULL, 'v'},       {NULL, 0, NULL, 0},
        };
        struct arguments arguments = {
                .dump = {.channel = IVG_CHANNEL_NONE, .calls = CALLS_STANDARD, .look_again_ms = AGE_MS_STANDARD}};
        int option, index = 0;

        socket_path = getenv("IVGPU_CONTROL_SOCKET");
        if (!socket_path)
                socket_path = IVG_CONTROL_SOCKET_STANDARD;
        while ((option = getopt_long(argc, argv, "h", names, &index)) != -1) {
                switch (option) {
                case 's':
                        socket_path = optarg;
                        break;
                case 'j':
                        arguments.as_json = true;
                        break;
                case 'p':
                        arguments.pid = number_of("pid", optarg, INT_MAX);
                        break;
                case 'e':
                        arguments.executor = number_of("executor", optarg, INT_MAX);
                        break;
                case 'c':
                        arguments.dump.channel = number_of("channel", optarg, IVG_CHANNELS_MAX - 1);
                        break;
                case 'n':
                        arguments.dump.calls = number_of("calls", optarg, CALLS_MAX);
                        break;
                case 'a':
                        arguments.dump.all_channels = true;
                        break;
                case 'g':
                        arguments.dump.look_again_ms = number_of("age", optarg, AGE_MS_MAX);
                        break;
                case 'o':
                        arguments.save = optarg;
                        break;
                case 'h':
                        usage(stdout);
                        return EXIT_DONE;
                case 'v':
                        puts("ivgpu-dump " IVG_VERSION);
                        return EXIT_DONE;
                default:
                        usage(stderr);
                        return EXIT_USAGE;
                }
        }
        arguments.object = argv[optind];
        if (argc - optind > 1 || (arguments.pid != 0 && arguments.object)) {
                usage(stderr);
                return EXIT_USAGE;
        }
        if (arguments.pid != 0)
                return show_process(&arguments);
        if (arguments.object && strchr(arguments.object, '/'))
                return show_file(&arguments);
        return show_mediators(&arguments);
}
