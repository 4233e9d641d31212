/* ivgpuctl: looks at a running ivgpud and changes what it does, over its control socket (hostexec/ivgpud/commands.h).
 */
#include "attach.h"
#include "config.h"
#include "control_client.h"
#include "ivgpu/number.h"
#include "json_add.h"
#include "show.h"
#include "trace_session.h"
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ANSWER_S 10              /* of silence: a mediator answers at once */
#define DRAIN_LOOK_NS 100000000L /* --wait looks that often */

enum exit_status {
        EXIT_DONE = 0,
        EXIT_REFUSED = 1, /* the mediator said no, and why */
        EXIT_USAGE = 2,
        EXIT_NO_MEDIATOR = 3, /* nobody there, or no answer */
        EXIT_NOT_YET = 4,     /* --wait is over */
};

static const struct command {
        const char *name, *arguments[2]; /* the arguments' keys in the request, in order */
        unsigned int needed;
        const char *usage, *help;
        void (*show)(struct json_object *answer);
} commands[] = {
        {"list", {NULL, NULL}, 0, "list", "pools and VMs", ivg_show_list},
        {"show", {"object", NULL}, 1, "show VM", "one VM: state, limits, faults, executors", ivg_show_member},
        {"attach",
         {"object", NULL},
         1,
         "attach VM [--format=FORMAT]",
         "prints what gives a VM its device; FORMAT is qemu or libvirt",
         NULL},
        {"stats",
         {"object", NULL},
         0,
         "stats [VM]",
         "counters and latencies of pools and VMs, or of one VM",
         ivg_show_stats},
        {"programs", {"object", NULL}, 0, "programs [VM]", "counters of each program that runs", ivg_show_programs},
        {"set",
         {"object", "="},
         2,
         "set VM|pool:POOL LIMIT=VALUE...",
         "changes limits, until the configuration is read again",
         NULL},
        {"pause", {"object", NULL}, 1, "pause VM", "its programs give the GPU nothing new", NULL},
        {"resume", {"object", NULL}, 1, "resume VM", "ends pause and drain", NULL},
        {"drain",
         {"object", NULL},
         1,
         "drain VM [--wait=SECONDS]",
         "starts none of its programs; those that run go on",
         NULL},
        {"quarantine",
         {"object", "seconds"},
         1,
         "quarantine VM [SECONDS]",
         "ends its programs and starts none; 0: until released; default: its quarantine_s",
         NULL},
        {"release", {"object", NULL}, 1, "release VM", "ends quarantine", NULL},
        {"kill", {"object", "pid"}, 1, "kill VM [PID]", "ends its programs, or that of one executor", NULL},
        {"trace",
         {"object", "file"},
         2,
         "trace VM FILE [--seconds=N] [--calls=N]",
         "its programs' calls with their times, for a trace viewer",
         NULL},
        {"reload", {NULL, NULL}, 0, "reload", "reads the configuration file again, as SIGHUP does", NULL},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const char *socket_path = IVG_CONTROL_SOCKET_STANDARD;
static const char *wait_text, *format, *config_path, *seconds_text, *calls_text,
        *ready_text; /* options of single commands; NULL: not given */

static void usage(FILE *out)
{
        fprintf(out, "usage: ivgpuctl [--socket=PATH] [--json] COMMAND [ARGUMENT...]\n\n"
                     "Looks at a running ivgpud and changes what it does. VM is a vm_id, a name, or \"local\": the "
                     "programs of this\n"
                     "machine, which count as one VM.\n\n");
        for (size_t i = 0; i < COMMANDS; i++)
                fprintf(out, "  %-40s %s\n", commands[i].usage, commands[i].help);
        fprintf(out,
                "\n  --socket=PATH   ivgpud's control socket; default $IVGPU_CONTROL_SOCKET, "
                "or " IVG_CONTROL_SOCKET_STANDARD "\n"
                "  --json          the mediator's answer as it is, on one line\n"
                "  --wait=SECONDS  drain: returns when its last program has ended, at the latest after SECONDS\n"
                "  --format=FORMAT attach: qemu (options, for a shell; the default) or libvirt (elements of a domain)\n"
                "  --config=FILE   attach: by this configuration, not the running mediator's\n"
                "  --seconds=N     trace: so long; default: until SIGINT or SIGTERM\n"
                "  --calls=N       trace: ends after so many calls; default 500000\n"
                "  --help, --version\n\n"
                "Limits: priority=low|medium|high, weight=1..100, vram_mib, calls_per_s, rate=slow|fail, inflight,\n"
                "executors_max, call_timeout_ms, kernel_timeout_ms, faults_max, fault_window_s, quarantine_s,\n"
                "log_level=error|warning|info. 0 is "
                "none.\n"
                "Of a pool: policy=auto|turns|fair, warm_executors.\n"
                "What is set holds at once, for programs that run too, and until the configuration is read again.\n\n"
                "Whoever can connect may look; root, the mediator's user and \"user\" and \"group\" of the group\n"
                "\"control\" in its configuration may change things and trace. Both are logged.\n\n"
                "trace writes JSON in the Trace Event Format, which ui.perfetto.dev and chrome://tracing open: what\n"
                "each executor ran, and what threads of the programs waited for, from the moment that the executor\n"
                "saw the call. Calls that the guest answers itself are not in it. Programs that start meanwhile are\n"
                "traced from their first call. It costs an executor two looks at the clock and a copy of some 200\n"
                "bytes a call; what comes too fast to be read is counted as missing.\n\n"
                "Exit status: 0 done; 1 refused, with the reason on stderr; 2 usage; 3 no mediator there, or no "
                "answer;\n"
                "4 --wait is over and programs are left.\n\n"
                "Examples:\n"
                "  qemu-system-x86_64 ... $(ivgpuctl attach web)\n"
                "  ivgpuctl set 7 weight=30 vram_mib=4096\n"
                "  ivgpuctl set pool:A policy=fair\n"
                "  ivgpuctl trace web /tmp/web.json --seconds=5\n"
                "  ivgpuctl drain web --wait=60 && ivgpuctl kill web\n"
                "  ivgpuctl --json stats 7 | jq .accounts[0].gpu_seconds\n");
}

/* ---- asking ---- */

/* Sends the request, returns what the mediator says; exits with the reason if it says no. */
static struct json_object *ask(struct json_object *request, bool as_json)
{
        char words[IVG_CONTROL_WORDS_BYTES], *line;
        struct json_object *answer, *ok, *error;
        const int rc = ivg_control_ask(socket_path, ANSWER_S, request, &answer, &line, words);

        if (rc == -ENAMETOOLONG) {
                fprintf(stderr, "ivgpuctl: %s: %s\n", socket_path, words);
                exit(EXIT_USAGE);
        }
        if (rc == -EPIPE || rc == -ETIMEDOUT || rc == -EPROTO) {
                fprintf(stderr, "ivgpuctl: the mediator at %s: %s\n", socket_path, words);
                exit(EXIT_NO_MEDIATOR);
        }
        if (rc < 0) {
                fprintf(stderr, "ivgpuctl: no mediator at %s: %s\n", socket_path, words);
                exit(EXIT_NO_MEDIATOR);
        }
        if (as_json)
                printf("%s\n", line);
        free(line);
        json_object_object_get_ex(answer, "ok", &ok);
        if (!json_object_get_boolean(ok)) {
                fprintf(stderr, "ivgpuctl: %s\n",
                        json_object_object_get_ex(answer, "error", &error) ? json_object_get_string(error) : "refused");
                exit(EXIT_REFUSED);
        }
        return answer;
}

/* ---- arguments ---- */

static bool parse_number(const char *text, uint32_t *number)
{
        uint64_t wide;

        if (!ivg_number_read(text, 0, UINT32_MAX, &wide))
                return false;
        *number = (uint32_t)wide;
        return true;
}

static void request_add(struct json_object *request, const char *key, const char *text)
{
        uint32_t number;

        if (strcmp(key, "object") == 0) {
                ivg_json_add_text(request, key, text);
                return;
        }
        if (!parse_number(text, &number)) {
                fprintf(stderr, "ivgpuctl: \"%s\" is no number (%s)\n", text, key);
                exit(EXIT_USAGE);
        }
        ivg_json_add_number(request, key, number);
}

/* One request for each LIMIT=VALUE; all are looked at before the first is sent. */
static void set_all(const char *object, char **pairs, int count, bool as_json)
{
        for (int i = 0; i < count; i++)
                if (!strchr(pairs[i], '=') || pairs[i][0] == '=') {
                        fprintf(stderr, "ivgpuctl: \"%s\" is not LIMIT=VALUE\n", pairs[i]);
                        exit(EXIT_USAGE);
                }
        for (int i = 0; i < count; i++) {
                struct json_object *request = ivg_control_request("set", object);
                char *value = strchr(pairs[i], '=');

                *value++ = '\0';
                ivg_json_add_text(request, "key", pairs[i]);
                ivg_json_add_text(request, "value", value);
                json_object_put(ask(request, as_json));
                json_object_put(request);
        }
}

static uint32_t programs_of(const char *object)
{
        struct json_object *request = ivg_control_request("show", object), *answer = ask(request, false), *programs;
        uint32_t count = 0;

        if (json_object_object_get_ex(answer, "programs", &programs))
                count = (uint32_t)json_object_get_int(programs);
        json_object_put(answer);
        json_object_put(request);
        return count;
}

static int drain_wait(const char *object, uint32_t seconds)
{
        const struct timespec pause = {.tv_nsec = DRAIN_LOOK_NS};
        struct timespec now;
        time_t end;
        uint32_t left;

        clock_gettime(CLOCK_MONOTONIC, &now); /* the wall clock may be set meanwhile */
        end = now.tv_sec + (time_t)seconds;
        while ((left = programs_of(object)) > 0) {
                clock_gettime(CLOCK_MONOTONIC, &now);
                if (now.tv_sec >= end) {
                        fprintf(stderr, "ivgpuctl: VM %s: %u programs still run after %u s\n", object, left, seconds);
                        return EXIT_NOT_YET;
                }
                nanosleep(&pause, NULL);
        }
        return EXIT_DONE;
}

/* ---- attach ---- */

/* By the mediator: as the VM's next QEMU finds it. */
static void attachment_ask(const char *name, struct ivg_attachment *vm)
{
        static struct json_object *answer; /* it stays: the socket's name is in it */
        struct json_object *request = ivg_control_request("show", name);

        answer = ask(request, false);
        vm->vm_id = (uint32_t)ivg_json_number(answer, "vm_id");
        vm->region_mib = (uint32_t)ivg_json_number(answer, "region_mib");
        vm->vectors = (uint32_t)ivg_json_number(answer, "vectors");
        vm->socket = ivg_json_text(answer, "socket");
        json_object_put(request);
}

static void attachment_read(const char *name, const char *path, struct ivg_attachment *vm)
{
        static struct ivg_config config;
        struct ivg_error error = {""};
        char number[16];

        ivg_config_init(&config);
        if (ivg_config_read(&config, path, &error) < 0 || ivg_config_finish(&config, &error) < 0) {
                fprintf(stderr, "ivgpuctl: %s\n", error.text);
                exit(EXIT_REFUSED);
        }
        for (uint32_t slot = 0; slot < config.vm_count; slot++) {
                const struct ivg_vm_config *one = &config.vms[slot];

                snprintf(number, sizeof(number), "%u", one->vm_id);
                if (strcmp(name, one->name) != 0 && strcmp(name, number) != 0)
                        continue;
                *vm = (struct ivg_attachment){.vm_id = one->vm_id,
                                              .region_mib = one->region_mib,
                                              .vectors = one->vectors,
                                              .socket = one->socket};
                return;
        }
        fprintf(stderr, "ivgpuctl: %s: unknown VM %s\n", path, name);
        exit(EXIT_REFUSED);
}

static int attach(const char *name)
{
        struct ivg_attachment vm = {0};

        if (config_path)
                attachment_read(name, config_path, &vm);
        else
                attachment_ask(name, &vm);
        if (vm.socket[0] == '\0' || strcmp(vm.socket, "-") == 0) {
                fprintf(stderr, "ivgpuctl: %s has no socket for a QEMU: its programs are this machine's own\n", name);
                return EXIT_REFUSED;
        }
        if (ivg_attach_print(&vm, format ? format : "qemu"))
                return EXIT_DONE;
        fprintf(stderr, "ivgpuctl: --format is qemu or libvirt, not \"%s\"\n", format);
        return EXIT_USAGE;
}

static const struct command *find_command(const char *name)
{
        for (size_t i = 0; name && i < COMMANDS; i++)
                if (strcmp(commands[i].name, name) == 0)
                        return &commands[i];
        return NULL;
}

/* Each of those belongs to one command. */
static bool options_fit(const struct command *command)
{
        const bool is_attach = strcmp(command->name, "attach") == 0;

        const bool is_trace = strcmp(command->name, "trace") == 0;

        return (!wait_text || strcmp(command->name, "drain") == 0) && ((!format && !config_path) || is_attach) &&
               ((!seconds_text && !calls_text && !ready_text) || is_trace);
}

static int trace(const struct command *command, char **arguments)
{
        uint32_t seconds = 0, calls = IVG_TRACE_CALLS_STANDARD, ready_fd = 0;
        struct ivg_trace_options options = {
                .socket = socket_path, .object = arguments[0], .file = arguments[1], .name = "ivgpuctl"};

        if ((seconds_text && !parse_number(seconds_text, &seconds)) ||
            (calls_text && !parse_number(calls_text, &calls)) || (ready_text && !parse_number(ready_text, &ready_fd))) {
                fprintf(stderr, "ivgpuctl: usage: ivgpuctl %s\n", command->usage);
                return EXIT_USAGE;
        }
        options.seconds = seconds;
        options.calls_max = calls;
        options.ready_fd = ready_text ? (int)ready_fd : -1;
        return (int)ivg_trace_run(&options);
}

static int run(const struct command *command, char **arguments, int count, bool as_json)
{
        const int most = command->arguments[1] ? 2 : command->arguments[0] ? 1 : 0;
        const bool is_set = strcmp(command->name, "set") == 0;
        struct json_object *request, *answer;
        uint32_t wait_s = 0;

        if ((unsigned int)count < command->needed || (count > most && !is_set) ||
            (wait_text && !parse_number(wait_text, &wait_s)) || !options_fit(command)) {
                fprintf(stderr, "ivgpuctl: usage: ivgpuctl %s\n", command->usage);
                return EXIT_USAGE;
        }
        if (is_set) {
                set_all(arguments[0], arguments + 1, count - 1, as_json);
                return EXIT_DONE;
        }
        if (strcmp(command->name, "attach") == 0)
                return attach(arguments[0]);
        if (strcmp(command->name, "trace") == 0)
                return trace(command, arguments);
        request = ivg_control_request(command->name, NULL);
        for (int i = 0; i < count; i++)
                request_add(request, command->arguments[i], arguments[i]);
        answer = ask(request, as_json);
        if (command->show && !as_json)
                command->show(answer);
        json_object_put(answer);
        json_object_put(request);
        return wait_text ? drain_wait(arguments[0], wait_s) : EXIT_DONE;
}

int main(int argc, char **argv)
{
        static const struct option names[] = {
                {"socket", required_argument, NULL, 's'},
                {"json", no_argument, NULL, 'j'},
                {"wait", required_argument, NULL, 'w'},
                {"format", required_argument, NULL, 'f'},
                {"config", required_argument, NULL, 'c'},
                {"help", no_argument, NULL, 'h'},
                {"version", no_argument, NULL, 'v'},
                {"seconds", required_argument, NULL, 'S'},
                {"calls", required_argument, NULL, 'C'},
                {"ready-fd", required_argument, NULL, 'r'}, /* ivgpu-run's */
                {NULL, 0, NULL, 0},
        };
        const struct command *command;
        bool as_json = false;
        int option;

        if (getenv("IVGPU_CONTROL_SOCKET"))
                socket_path = getenv("IVGPU_CONTROL_SOCKET");
        while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
                switch (option) {
                case 's':
                        socket_path = optarg;
                        break;
                case 'j':
                        as_json = true;
                        break;
                case 'w':
                        wait_text = optarg;
                        break;
                case 'S':
                        seconds_text = optarg;
                        break;
                case 'C':
                        calls_text = optarg;
                        break;
                case 'r':
                        ready_text = optarg;
                        break;
                case 'f':
                        format = optarg;
                        break;
                case 'c':
                        config_path = optarg;
                        break;
                case 'h':
                        usage(stdout);
                        return EXIT_DONE;
                case 'v':
                        printf("ivgpuctl " IVG_VERSION "\n");
                        return EXIT_DONE;
                default:
                        usage(stderr);
                        return EXIT_USAGE;
                }
        }
        command = find_command(argv[optind]);
        if (!command) {
                if (argv[optind])
                        fprintf(stderr, "ivgpuctl: unknown command \"%s\"\n", argv[optind]);
                usage(stderr);
                return EXIT_USAGE;
        }
        return run(command, argv + optind + 1, argc - optind - 1, as_json);
}
