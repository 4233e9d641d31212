/* ivgpu-run: an unmodified CUDA program on this machine, through shim, ring and executor, without a VM.
 *
 * Starts a private ivgpud on a socket in a private folder, runs the program with our libcuda.so.1 first in its library
 * path, passes signals on, ends ivgpud, removes the folder. The exit code is the program's. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MEDIATOR_READY_MS 10000 /* the driver is not loaded in ivgpud: it listens within milliseconds */
#define MEDIATOR_END_MS 5000    /* executors end in order within 2 s, or are killed */
#define EXIT_OWN_FAILURE 125    /* as env(1): ivgpu-run itself failed */
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND 127

struct options {
        const char *device; /* "soft", "cuda"; NULL: find out */
        const char *driver; /* path, or NULL */
        const char *log;    /* "calls", or NULL */
        const char *warm;   /* executors that wait for processes; NULL: one, for the first */
        const char *arena;  /* MiB, or NULL */
        const char *trace;  /* file, or NULL */
        bool stats;
        char **program;
};

struct run {
        char prefix[PATH_MAX]; /* the folder above bin/ */
        char folder[64];       /* private: socket */
        char socket[96];
        char control[96]; /* likewise, when it is traced */
        pid_t mediator;
        pid_t tracer;  /* 0: none */
        int tracer_fd; /* it says there how far it is (trace_session.h) */
        int stats_fd;
};

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
        va_list arguments;
        va_start(arguments, format);
        fputs("ivgpu-run: ", stderr);
        vfprintf(stderr, format, arguments);
        fputc('\n', stderr);
        va_end(arguments);
}

static void usage(FILE *out)
{
        fputs("usage: ivgpu-run [--device soft|cuda] [--driver PATH] [--arena MIB] [--stats] [--log=calls]\n"
              "                 [--trace FILE] [--warm N] [--] PROGRAM [ARGUMENTS]\n"
              "Runs an unmodified CUDA program through ivgpu on this machine, without a VM.\n"
              "  --device soft   kernels run on the CPU (no GPU needed)\n"
              "  --device cuda   this machine's GPU; the default where there is one\n"
              "  --driver PATH   the libcuda.so.1 that the executor loads\n"
              "  --arena MIB     bounds pinned and managed memory; a power of two, sparse; default a quarter of the "
              "memory,\n"
              "                  1024 to 16384\n"
              "  --stats         prints the counters of ring and executor at the end\n"
              "  --log=calls     prints every call with its arguments on stderr\n"
              "  --trace FILE    writes every call that crosses, with its times, for ui.perfetto.dev or "
              "chrome://tracing;\n"
              "                  at most 500000 (see ivgpuctl --help, trace)\n"
              "  --warm N        keeps N contexts ready for the program's processes, each some hundred MiB of the "
              "GPU;\n"
              "                  without it one is begun at once and not replaced; 0: none\n"
              "The exit code is the program's; 125: ivgpu-run itself failed.\n",
              out);
}

static bool options_read(int argc, char **argv, struct options *options)
{
        static const struct option names[] = {
                {"device", required_argument, NULL, 'd'}, {"driver", required_argument, NULL, 'D'},
                {"warm", required_argument, NULL, 'w'},   {"arena", required_argument, NULL, 'a'},
                {"stats", no_argument, NULL, 's'},        {"log", required_argument, NULL, 'l'},
                {"trace", required_argument, NULL, 't'},  {"help", no_argument, NULL, 'h'},
                {"version", no_argument, NULL, 'v'},      {NULL, 0, NULL, 0},
        };
        int option;
        while ((option = getopt_long(argc, argv, "+h", names, NULL)) != -1) {
                switch (option) {
                case 'd':
                        options->device = optarg;
                        if (strcmp(optarg, "soft") != 0 && strcmp(optarg, "cuda") != 0) {
                                say("--device is soft or cuda, not '%s'", optarg);
                                return false;
                        }
                        break;
                case 'D':
                        options->driver = optarg;
                        break;
                case 'a':
                        options->arena = optarg;
                        break;
                case 's':
                        options->stats = true;
                        break;
                case 'l':
                        options->log = optarg;
                        if (strcmp(optarg, "calls") != 0) {
                                say("--log knows 'calls', not '%s'", optarg);
                                return false;
                        }
                        break;
                case 't':
                        options->trace = optarg;
                        break;
                case 'w':
                        options->warm = optarg; /* ivgpud names what is no number */
                        break;
                case 'h':
                        usage(stdout);
                        exit(0);
                case 'v':
                        puts("ivgpu-run " IVG_VERSION);
                        exit(0);
                default:
                        usage(stderr);
                        return false;
                }
        }
        options->program = argv + optind;
        if (!*options->program) {
                usage(stderr);
                return false;
        }
        return true;
}

/* This program lies in PREFIX/bin, the shim in PREFIX/lib/ivgpu. */
static bool find_prefix(struct run *run)
{
        const ssize_t length = readlink("/proc/self/exe", run->prefix, sizeof run->prefix - 1);
        char *slash;
        if (length < 0) {
                say("/proc/self/exe: %s", strerror(errno));
                return false;
        }
        run->prefix[length] = 0;
        for (int level = 0; level < 2; level++) {
                slash = strrchr(run->prefix, '/');
                if (!slash) {
                        say("%s lies in no bin folder", run->prefix);
                        return false;
                }
                *slash = 0;
        }
        return true;
}

/* True when `function` lies in our own shim: LD_LIBRARY_PATH may name it, as under another ivgpu-run. */
static bool is_own_shim(const struct run *run, void *function)
{
        char shim[PATH_MAX + 32], shim_real[PATH_MAX], found_real[PATH_MAX];
        Dl_info found;
        snprintf(shim, sizeof shim, "%s/lib/ivgpu/libcuda.so.1", run->prefix);
        return dladdr(function, &found) && realpath(found.dli_fname, found_real) && realpath(shim, shim_real) &&
               strcmp(found_real, shim_real) == 0;
}

/* A child asks the system's driver, so that nothing of it stays in this process. */
static bool machine_has_cuda_device(const struct run *run)
{
        const pid_t child = fork();
        int status;
        if (child < 0)
                return false;
        if (child == 0) {
                void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
                int (*init)(unsigned) = driver ? (int (*)(unsigned))dlsym(driver, "cuInit") : NULL;
                int (*get_count)(int *) = driver ? (int (*)(int *))dlsym(driver, "cuDeviceGetCount") : NULL;
                int count = 0;
                if (init && get_count && !is_own_shim(run, (void *)init) && init(0) == 0)
                        get_count(&count);
                _exit(count > 0 ? 0 : 1);
        }
        return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool folder_make(struct run *run)
{
        const char *parent = getenv("XDG_RUNTIME_DIR");
        /* A socket's path holds 107 bytes: a long parent would not fit. */
        if (!parent || strlen(parent) > 32 || access(parent, W_OK) != 0)
                parent = "/tmp";
        snprintf(run->folder, sizeof run->folder, "%s/ivgpu-run.XXXXXX", parent);
        if (!mkdtemp(run->folder)) { /* mode 0700: nobody else's program attaches */
                say("%s: %s", run->folder, strerror(errno));
                return false;
        }
        snprintf(run->socket, sizeof run->socket, "%s/local.sock", run->folder);
        snprintf(run->control, sizeof run->control, "%s/control.sock", run->folder);
        return true;
}

static void mediator_exec(const struct run *run, const struct options *options, int ready_fd, int stats_fd)
{
        static const char *const managers[] = {"NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC"};
        char path[PATH_MAX + 16], ready[16], stats[16];
        const char *arguments[24];
        int count = 0;
        snprintf(path, sizeof path, "%s/bin/ivgpud", run->prefix);
        snprintf(ready, sizeof ready, "%d", ready_fd);
        snprintf(stats, sizeof stats, "%d", stats_fd);
        arguments[count++] = path;
        arguments[count++] = "--local";
        arguments[count++] = run->socket;
        arguments[count++] = "--device";
        arguments[count++] = options->device;
        if (options->driver) {
                arguments[count++] = "--driver";
                arguments[count++] = options->driver;
        }
        /* At once: the driver starts while the program loads what it is made of. */
        arguments[count++] = options->warm ? "--warm" : "--warm-once";
        arguments[count++] = options->warm ? options->warm : "1";
        if (options->arena) {
                arguments[count++] = "--arena";
                arguments[count++] = options->arena;
        }
        if (options->trace) {
                arguments[count++] = "--control";
                arguments[count++] = run->control;
        }
        arguments[count++] = "--foreground";
        arguments[count++] = "--quiet";
        arguments[count++] = "--ready-fd";
        arguments[count++] = ready;
        arguments[count++] = "--stats-fd";
        arguments[count++] = stats;
        arguments[count] = NULL;
        /* A service manager's words are for the program, if it is a service. */
        for (size_t i = 0; i < sizeof managers / sizeof managers[0]; i++)
                unsetenv(managers[i]);
        /* Terminal signals go to the program; ivgpud ends when told, or with us. */
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        execv(path, (char **)(uintptr_t)arguments);
        say("%s: %s", path, strerror(errno));
        _exit(EXIT_OWN_FAILURE);
}

/* Waits for a byte; end of file before it means that `name` said why on stderr and ended. */
static bool wait_ready(int fd, const char *name)
{
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        char byte;
        const int events = poll(&poll_fd, 1, MEDIATOR_READY_MS);
        if (events == 0)
                say("%s was not ready within %d ms", name, MEDIATOR_READY_MS);
        return events == 1 && read(fd, &byte, 1) == 1;
}

static bool mediator_start(struct run *run, const struct options *options)
{
        int ready[2], stats[2];
        if (pipe(ready) != 0 || pipe(stats) != 0) {
                say("pipe: %s", strerror(errno));
                return false;
        }
        run->mediator = fork();
        if (run->mediator < 0) {
                say("fork: %s", strerror(errno));
                return false;
        }
        if (run->mediator == 0) {
                close(ready[0]);
                close(stats[0]);
                mediator_exec(run, options, ready[1], stats[1]);
        }
        close(ready[1]);
        close(stats[1]);
        run->stats_fd = stats[0];
        fcntl(run->stats_fd, F_SETFD, FD_CLOEXEC);
        const bool is_ready = wait_ready(ready[0], "ivgpud");
        close(ready[0]);
        return is_ready;
}

/* ---- the tracer: ivgpuctl, which reads what executors write until ivgpud has ended ---- */

static void tracer_exec(const struct run *run, const struct options *options, int ready_fd)
{
        char path[PATH_MAX + 16], ready[16];
        snprintf(path, sizeof path, "%s/bin/ivgpuctl", run->prefix);
        snprintf(ready, sizeof ready, "%d", ready_fd);
        const char *arguments[] = {path,    "--socket", run->control,   "--ready-fd", ready,
                                   "trace", "local",    options->trace, NULL};
        /* Like ivgpud: terminal signals are the program's. */
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        execv(path, (char **)(uintptr_t)arguments);
        say("%s: %s", path, strerror(errno));
        _exit(EXIT_OWN_FAILURE);
}

/* True: every call from now on is traced, or none is wanted. */
static bool tracer_start(struct run *run, const struct options *options)
{
        int ready[2];
        if (!options->trace)
                return true;
        if (pipe(ready) != 0) {
                say("pipe: %s", strerror(errno));
                return false;
        }
        run->tracer = fork();
        if (run->tracer == 0) {
                close(ready[0]);
                tracer_exec(run, options, ready[1]);
        }
        close(ready[1]);
        run->tracer_fd = ready[0];
        fcntl(run->tracer_fd, F_SETFD, FD_CLOEXEC);
        return run->tracer > 0 && wait_ready(run->tracer_fd, "the tracer");
}

/* The program has ended: before ivgpud does. */
static void tracer_take_last(const struct run *run)
{
        if (run->tracer <= 0)
                return;
        kill(run->tracer, SIGTERM);
        wait_ready(run->tracer_fd, "the tracer's last look");
}

/* It ends by itself after ivgpud; the file is written then. False: not so. */
static bool tracer_wait(const struct run *run)
{
        int status;
        if (run->tracer <= 0)
                return true;
        close(run->tracer_fd);
        while (waitpid(run->tracer, &status, 0) < 0 && errno == EINTR)
                continue;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Ends ivgpud in order and copies its counters to stderr when asked for. */
static void mediator_stop(struct run *run, bool show_stats)
{
        char text[4096];
        struct pollfd poll_fd = {.fd = run->stats_fd, .events = POLLIN};
        if (run->mediator <= 0)
                return;
        kill(run->mediator, SIGTERM);
        for (;;) { /* until end of file: ivgpud closes it when everything has ended */
                if (poll(&poll_fd, 1, MEDIATOR_END_MS) != 1) {
                        say("ivgpud (pid %d) did not end within %d ms: killed", (int)run->mediator, MEDIATOR_END_MS);
                        kill(run->mediator, SIGKILL);
                        break;
                }
                const ssize_t bytes = read(run->stats_fd, text, sizeof text);
                if (bytes <= 0)
                        break;
                if (show_stats)
                        fwrite(text, 1, (size_t)bytes, stderr);
        }
        waitpid(run->mediator, NULL, 0);
        close(run->stats_fd);
}

static void folder_remove(const struct run *run)
{
        if (run->socket[0])
                unlink(run->socket);
        if (run->control[0])
                unlink(run->control);
        if (run->folder[0])
                rmdir(run->folder);
}

static void program_exec(const struct run *run, const struct options *options)
{
        char path[PATH_MAX * 2];
        const char *before = getenv("LD_LIBRARY_PATH");
        snprintf(path, sizeof path, "%s/lib/ivgpu%s%s", run->prefix, before && *before ? ":" : "",
                 before ? before : "");
        setenv("LD_LIBRARY_PATH", path, 1);
        snprintf(path, sizeof path, "local:%s", run->socket);
        setenv("IVGPU_CHANNEL", path, 1);
        setenv("IVGPU_SOCKET", run->socket, 1);
        if (options->log)
                setenv("IVGPU_LOG", options->log, 1);
        execvp(options->program[0], options->program);
        say("%s: %s", options->program[0], strerror(errno));
        _exit(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

/* Waits for the program's end and passes signals on. Signals are taken one by one, not by handlers: none comes between.
 */
static int program_wait(pid_t program, const sigset_t *taken)
{
        int status;
        for (;;) {
                const int number = sigwaitinfo(taken, NULL);
                if (number > 0 && number != SIGCHLD)
                        kill(program, number);
                if (waitpid(program, &status, WNOHANG) == program)
                        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
}

static int program_run(const struct run *run, const struct options *options)
{
        static const int numbers[] = {SIGCHLD, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
        sigset_t taken, blocked, before;
        sigemptyset(&taken);
        for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
                sigaddset(&taken, numbers[i]);
        /* These come from a terminal, which sends them to the program too, from its first moment on: it decides, we
         * wait. */
        blocked = taken;
        sigaddset(&blocked, SIGINT);
        sigaddset(&blocked, SIGQUIT);
        sigprocmask(SIG_BLOCK, &blocked, &before);
        const pid_t program = fork();
        if (program < 0) {
                say("fork: %s", strerror(errno));
                return EXIT_OWN_FAILURE;
        }
        if (program == 0) {
                sigprocmask(SIG_SETMASK, &before, NULL);
                program_exec(run, options);
        }
        return program_wait(program, &taken);
}

int main(int argc, char **argv)
{
        struct options options = {0};
        struct run run = {0};
        int code = EXIT_OWN_FAILURE;
        if (!options_read(argc, argv, &options) || !find_prefix(&run))
                return EXIT_OWN_FAILURE;
        if (!options.device) {
                options.device = machine_has_cuda_device(&run) ? "cuda" : "soft";
                say("device %s", options.device);
        }
        if (!folder_make(&run))
                return EXIT_OWN_FAILURE;
        if (mediator_start(&run, &options) && tracer_start(&run, &options))
                code = program_run(&run, &options);
        tracer_take_last(&run);
        mediator_stop(&run, options.stats);
        if (!tracer_wait(&run))
                code = EXIT_OWN_FAILURE;
        folder_remove(&run);
        return code;
}
