/* ivgpud: the mediator. Gives regions to VMs and local programs, starts and ends their executors, tells what happens.
 *
 *   options, configuration -> driver found -> sockets -> (background) -> loop -> sockets and executors gone, statistics
 *
 * It must not die of anything a guest, a QEMU, a program or a driver does: it parses no record, maps no arena, loads no
 * driver, and waits for nobody. */
#include "driver_find.h"
#include "ivgpu/number.h"
#include "manager.h"
#include "mediator.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

/* Descriptors below this are never used for anything of ours: executors get theirs there (executor.c). */
#define FD_FIRST 10

#define EXIT_USAGE 2
#define EXIT_START 3

extern char **environ;

struct options {
        const char *config, *local, *arena, *device, *driver, *executor, *control, *warm;
        bool foreground, quiet, warm_once;
        enum ivg_log_form log;
        int stats_fd, ready_fd;
};

#define DESCRIPTOR_MAX (1u << 20)

static struct ivg_mediator mediator;
static struct options options;

/* ---- options ---- */

static void usage(FILE *out)
{
        fprintf(out,
                "usage: ivgpud [--config FILE] [options]\n"
                "  --config FILE      VMs, pools, limits; see ivgpud.conf.example\n"
                "  --local SOCKET     serve programs of this machine there\n"
                "  --arena MIB        shared memory of each of them: a power of two, sparse\n"
                "  --device soft|cuda  the driver that executors load\n"
                "  --driver PATH      its libcuda.so.1\n"
                "  --executor PATH    ivgpu-exec, if not beside this program\n"
                "  --control SOCKET   serve ivgpuctl there\n"
                "  --warm N           executors that wait for a program, in each pool, with a context\n"
                "  --warm-once N      the same, not replaced when programs take them\n"
                "  --foreground       stay in the foreground\n"
                "  --log auto|journal|text  where the log goes; auto: to systemd's journal when standard error leads "
                "there,\n"
                "                     else lines on standard error\n"
                "  --quiet            say warnings and errors only\n"
                "  --stats-fd N       at the end, write the [MEDIATOR STATS] block to this descriptor and close it\n"
                "  --ready-fd N       when all sockets listen, write \"ready\" and a newline there and close it\n"
                "The command line wins over the file. SIGUSR1 prints statistics, SIGHUP reads the file again; SIGTERM "
                "ends "
                "in order.\n");
}

static bool parse_options(int argc, char **argv)
{
        static const struct option names[] = {
                {"config", required_argument, NULL, 'c'},   {"local", required_argument, NULL, 'l'},
                {"arena", required_argument, NULL, 'a'},    {"device", required_argument, NULL, 'd'},
                {"driver", required_argument, NULL, 'D'},   {"executor", required_argument, NULL, 'e'},
                {"warm", required_argument, NULL, 'w'},     {"warm-once", required_argument, NULL, 'W'},
                {"log", required_argument, NULL, 'L'},      {"foreground", no_argument, NULL, 'f'},
                {"quiet", no_argument, NULL, 'q'},          {"stats-fd", required_argument, NULL, 's'},
                {"ready-fd", required_argument, NULL, 'r'}, {"control", required_argument, NULL, 'C'},
                {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0},
        };
        static const char *const log_words[] = {
                [IVG_LOG_AUTO] = "auto", [IVG_LOG_TEXT] = "text", [IVG_LOG_JOURNAL] = "journal", NULL};
        uint64_t number;
        uint32_t word;
        int option;

        options = (struct options){.stats_fd = -1, .ready_fd = -1};
        while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
                switch (option) {
                case 'c':
                        options.config = optarg;
                        break;
                case 'l':
                        options.local = optarg;
                        break;
                case 'a':
                        options.arena = optarg;
                        break;
                case 'd':
                        options.device = optarg;
                        break;
                case 'D':
                        options.driver = optarg;
                        break;
                case 'e':
                        options.executor = optarg;
                        break;
                case 'C':
                        options.control = optarg;
                        break;
                case 'w':
                case 'W':
                        options.warm = optarg;
                        options.warm_once = option == 'W';
                        break;
                case 'f':
                        options.foreground = true;
                        break;
                case 'L':
                        if (!ivg_word_find(log_words, optarg, &word)) {
                                fprintf(stderr, "ivgpud: --log: \"%s\" is none of auto, journal, text\n", optarg);
                                return false;
                        }
                        options.log = (enum ivg_log_form)word;
                        break;
                case 'q':
                        options.quiet = true;
                        break;
                case 's':
                case 'r':
                        if (!ivg_number_option(option == 's' ? "stats-fd" : "ready-fd", optarg, 0, DESCRIPTOR_MAX,
                                               &number))
                                return false;
                        *(option == 's' ? &options.stats_fd : &options.ready_fd) = (int)number;
                        break;
                case 'h':
                        usage(stdout);
                        exit(0);
                default:
                        return false;
                }
        }
        if (optind != argc)
                fprintf(stderr, "ivgpud: \"%s\" is not expected\n", argv[optind]);
        return optind == argc;
}

static int path_take(char *to, size_t capacity, const char *option, const char *path, struct ivg_error *error)
{
        if (path[0] == '\0' || strlen(path) >= capacity) {
                ivg_error_set(error, "--%s: %zu bytes are outside 1..%zu", option, strlen(path), capacity - 1);
                return -EINVAL;
        }
        strcpy(to, path);
        return 0;
}

/* For every pool, whatever the file says. */
static int warm_take(struct ivg_config *config, struct ivg_error *error)
{
        uint64_t number;

        if (!ivg_number_read(options.warm, 0, IVG_WARM_EXECUTORS_MAX, &number)) {
                ivg_error_set(error, "--warm%s: \"%s\" is no number from 0 to %u", options.warm_once ? "-once" : "",
                              options.warm, IVG_WARM_EXECUTORS_MAX);
                return -EINVAL;
        }
        config->warm_once = options.warm_once;
        config->warm_executors = (uint32_t)number;
        for (uint32_t i = 0; i < config->pool_count; i++)
                config->pools[i].warm_executors = (uint32_t)number;
        return 0;
}

static int arena_take(uint32_t *region_mib, const char *text, struct ivg_error *error)
{
        uint64_t value;

        if (!ivg_number_read(text, IVG_REGION_BYTES_MIN >> 20, IVG_REGION_BYTES_MAX >> 20, &value) ||
            (value & (value - 1)) != 0) {
                ivg_error_set(error, "--arena: \"%s\" is no power of two in %llu..%llu (MiB)", text,
                              IVG_REGION_BYTES_MIN >> 20, IVG_REGION_BYTES_MAX >> 20);
                return -EINVAL;
        }
        *region_mib = (uint32_t)value;
        return 0;
}

/* What the file and the command line say; the latter wins. Again at each reload. */
static int configure(struct ivg_config *config, struct ivg_error *error)
{
        int rc = 0;

        ivg_config_init(config);
        if (options.config)
                rc = ivg_config_read(config, options.config, error);
        if (rc == 0 && options.local)
                rc = path_take(config->local.socket, sizeof(config->local.socket), "local", options.local, error);
        if (rc == 0 && options.arena)
                rc = arena_take(&config->local.region_mib, options.arena, error);
        if (rc == 0 && options.driver)
                rc = path_take(config->driver, sizeof(config->driver), "driver", options.driver, error);
        if (rc == 0 && options.executor)
                rc = path_take(config->executor, sizeof(config->executor), "executor", options.executor, error);
        if (rc == 0 && options.control)
                rc = path_take(config->control.socket, sizeof(config->control.socket), "control", options.control,
                               error);
        if (rc == 0 && options.warm)
                rc = warm_take(config, error);
        if (rc == 0 && options.device) {
                if (strcmp(options.device, "soft") != 0 && strcmp(options.device, "cuda") != 0) {
                        ivg_error_set(error, "--device: \"%s\" is neither \"soft\" nor \"cuda\"", options.device);
                        return -EINVAL;
                }
                config->device = strcmp(options.device, "soft") == 0 ? IVG_DEVICE_SOFT : IVG_DEVICE_CUDA;
        }
        return rc == 0 ? ivg_config_finish(config, error) : rc;
}

/* ---- what executors are started with ---- */

static int find_driver(struct ivg_error *error)
{
        const struct ivg_config *config = &mediator.config;
        int rc;

        if (config->device == IVG_DEVICE_SOFT) {
                if (config->driver[0] != '\0')
                        rc = realpath(config->driver, mediator.driver_path) ? 0 : -errno;
                else
                        rc = ivg_path_beside_program(IVG_SOFTGPU_BESIDE, mediator.driver_path);
                if (rc < 0)
                        ivg_error_set(error, "soft GPU: %s: %s",
                                      config->driver[0] != '\0' ? config->driver : IVG_SOFTGPU_BESIDE, strerror(-rc));
                else if (ivg_driver_is_shim(mediator.driver_path)) {
                        ivg_error_set(error, "%s is ivgpu's own libcuda.so.1 for guests", mediator.driver_path);
                        rc = -EINVAL;
                }
                return rc;
        }
        rc = ivg_driver_find(config->driver[0] != '\0' ? config->driver : NULL, mediator.driver_path, error);
        if (rc < 0)
                ivg_error_prefix(error, "no CUDA driver");
        else
                ivg_log(IVG_EVENT_STARTED, IVG_ABOUT_NOBODY, "driver %s", mediator.driver_path);
        return rc;
}

static int find_executor(struct ivg_error *error)
{
        const char *given = mediator.config.executor;
        int rc = 0;

        if (given[0] == '\0')
                rc = ivg_path_of_helper("ivgpu-exec", mediator.executor_path);
        else if (!realpath(given, mediator.executor_path))
                rc = -errno;
        if (rc == 0 && access(mediator.executor_path, X_OK) < 0)
                rc = -errno;
        if (rc < 0)
                ivg_error_set(error, "executor %s: %s", given[0] != '\0' ? given : "ivgpu-exec beside this program",
                              strerror(-rc));
        return rc;
}

/* ---- descriptors ---- */

/* What the caller gave us goes above FD_FIRST, everything else inherited is closed in executors. */
static int descriptors_settle(struct ivg_error *error)
{
        int *const given[] = {&options.stats_fd, &options.ready_fd};
        int fd;

        for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
                if (*given[i] < 0)
                        continue;
                fd = fcntl(*given[i], F_DUPFD_CLOEXEC, FD_FIRST);
                if (fd < 0) {
                        ivg_error_set(error, "descriptor %d: %s", *given[i], strerror(errno));
                        return -errno;
                }
                if (*given[i] > STDERR_FILENO)
                        close(*given[i]);
                *given[i] = fd;
        }
        if (close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC) < 0) {
                ivg_error_set(error, "close_range: %s", strerror(errno));
                return -errno;
        }
        do { /* occupies what is free below FD_FIRST, standard descriptors included */
                fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        } while (fd >= 0 && fd < FD_FIRST);
        if (fd < 0) {
                ivg_error_set(error, "/dev/null: %s", strerror(errno));
                return -errno;
        }
        close(fd);
        return 0;
}

static void descriptors_allow_many(void)
{
        struct rlimit limit;

        /* Each VM takes two for every vector. */
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
                limit.rlim_cur = limit.rlim_max;
                setrlimit(RLIMIT_NOFILE, &limit);
        }
}

/* ---- start ---- */

/* Nothing is open: what may be closed from here on, however far the start gets. */
static void init_closed(void)
{
        mediator.epoll_fd = -1;
        ivg_images_init(&mediator);
        ivg_mps_init(&mediator);
        ivg_local_init(&mediator.local);
        mediator.local.path = mediator.config.local.socket;
        mediator.local.pool = &mediator.config.local.pool;
        mediator.local.region_mib = &mediator.config.local.region_mib;
        mediator.local.whose = &mediator.local.member;
        ivg_member_init(&mediator.local.member, &mediator, IVG_VMS_MAX, &mediator.config.local.limits);
        mediator.sched.kick.fd = mediator.sched.timer.fd = -1;
        mediator.control.listener.fd = -1;
        mediator.metrics.listen_fd = -1;
        for (uint32_t i = 0; i < mediator.config.vm_count; i++)
                ivg_vm_init(&mediator, i);
}

static int open_sockets(struct ivg_error *error)
{
        int rc;

        mediator.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (mediator.epoll_fd < 0) {
                ivg_error_set(error, "epoll: %s", strerror(errno));
                return -errno;
        }
        rc = ivg_sched_open(&mediator, error);
        for (uint32_t i = 0; rc >= 0 && i < mediator.config.vm_count; i++)
                rc = ivg_vm_open(&mediator, i, error);
        if (rc >= 0)
                rc = ivg_local_open(&mediator, &mediator.local, mediator.config.local.socket_mode, error);
        if (rc >= 0)
                rc = ivg_control_open(&mediator, error);
        if (rc >= 0)
                rc = ivg_metrics_open(&mediator, error);
        return rc;
}

static int prepare(struct ivg_error *error)
{
        int rc = descriptors_settle(error);

        if (rc == 0)
                rc = find_executor(error);
        if (rc == 0)
                rc = find_driver(error);
        for (uint32_t i = 0; rc >= 0 && i < mediator.config.pool_count; i++) {
                rc = ivg_mps_prepare(&mediator, i, &mediator.config.pools[i], error);
                if (rc < 0)
                        return rc;
                rc = ivg_environment_make(&mediator.config.pools[i], rc > 0 ? &mediator.mps[i].folders : NULL, false,
                                          &mediator.executor_environment[i]);
                if (rc < 0)
                        ivg_error_set(error, "no memory");
        }
        if (rc == 0)
                rc = open_sockets(error);
        return rc;
}

static void close_sockets(void)
{
        for (uint32_t i = 0; i < mediator.config.vm_count; i++)
                ivg_vm_close(&mediator.vms[i]);
        ivg_local_close(&mediator, &mediator.local);
        ivg_control_close(&mediator);
        ivg_metrics_close(&mediator);
}

/* The parent ends once the sockets listen: whoever started us may connect then. */
static int go_to_background(struct ivg_error *error)
{
        const pid_t pid = fork();

        if (pid < 0) {
                ivg_error_set(error, "fork: %s", strerror(errno));
                return -errno;
        }
        if (pid > 0)
                _exit(0);
        setsid();
        return 0;
}

static void announce(int ready_fd)
{
        char example[IVG_MANAGER_KEPT_NAME_BYTES];
        const char *path;
        uint32_t count;

        for (uint32_t i = 0; i < mediator.config.vm_count; i++)
                if (ivg_config_has_vm(&mediator.config, i))
                        ivg_vm_announce(&mediator.vms[i]);
        if (mediator.config.local.socket[0] != '\0')
                ivg_log(IVG_EVENT_LISTENING, IVG_ABOUT_NOBODY, "[SOCKET] local programs, pool %s: listening on %s",
                        mediator.config.pools[mediator.config.local.pool].name, mediator.config.local.socket);
        if (mediator.config.control.socket[0] != '\0')
                ivg_log(IVG_EVENT_LISTENING, IVG_ABOUT_NOBODY, "[SOCKET] ivgpuctl: listening on %s",
                        mediator.config.control.socket);
        if (mediator.config.metrics.port != 0)
                ivg_log(IVG_EVENT_LISTENING, IVG_ABOUT_NOBODY, "[SOCKET] metrics: listening on %s port %u",
                        mediator.config.metrics.address, mediator.config.metrics.port);
        else if (mediator.config.metrics.socket[0] != '\0')
                ivg_log(IVG_EVENT_LISTENING, IVG_ABOUT_NOBODY, "[SOCKET] metrics: listening on %s",
                        mediator.config.metrics.socket);
        if (ready_fd >= 0 && write(ready_fd, "ready\n", 6) != 6)
                ivg_log(IVG_EVENT_MANAGER, IVG_ABOUT_NOBODY, "telling that it is ready: %s", strerror(errno));
        if (ready_fd >= 0)
                close(ready_fd);
        count = ivg_manager_kept_drop(example);
        if (count > 0)
                ivg_log(IVG_EVENT_SOCKET_UNUSED, IVG_ABOUT_NOBODY,
                        "[SOCKET] %u descriptors that the service manager has kept (%s, ...) are of no VM that is "
                        "configured: its QEMU is cut off",
                        count, example);
        for (uint32_t i = 0; (path = ivg_manager_unused(&i)) != NULL;)
                ivg_log(IVG_EVENT_SOCKET_UNUSED, IVG_ABOUT_NOBODY,
                        "[SOCKET] %s is the service manager's, but no configuration names it", path);
        ivg_manager_notify("READY=1");
}

int main(int argc, char **argv)
{
        struct ivg_error error = {""};
        int rc;

        if (!parse_options(argc, argv)) {
                usage(stderr);
                return EXIT_USAGE;
        }
        mediator.quiet = options.quiet;
        rc = ivg_log_setup(options.quiet ? IVG_LOG_WARNING : IVG_LOG_INFO, options.log, &error);
        if (rc < 0) {
                fprintf(stderr, "ivgpud: %s\n", error.text);
                return EXIT_START;
        }
        signal(SIGPIPE, SIG_IGN);
        ivg_loop_hold_signals();
        descriptors_allow_many();
        rc = ivg_manager_open(FD_FIRST, &error);
        if (rc < 0) {
                ivg_log(IVG_EVENT_START_FAILED, IVG_ABOUT_NOBODY, "%s", error.text);
                return EXIT_START;
        }
        mediator.configure = configure;
        mediator.config_path = options.config;
        rc = configure(&mediator.config, &error);
        if (rc < 0) {
                ivg_log(IVG_EVENT_START_FAILED, IVG_ABOUT_NOBODY, "%s", error.text);
                return EXIT_USAGE;
        }
        init_closed();
        rc = prepare(&error);
        if (rc >= 0 && !options.foreground)
                rc = go_to_background(&error);
        if (rc >= 0)
                rc = ivg_metrics_start(&mediator, &error);
        if (rc >= 0)
                rc = ivg_mps_open(&mediator, &error);
        if (rc < 0) {
                ivg_log(IVG_EVENT_START_FAILED, IVG_ABOUT_NOBODY, "%s", error.text);
                close_sockets();
                ivg_mps_close(&mediator);
                ivg_environments_free(&mediator);
                return EXIT_START;
        }
        announce(options.ready_fd);
        rc = ivg_loop_run(&mediator, &error);
        ivg_manager_notify("STOPPING=1");
        if (rc < 0)
                ivg_log(IVG_EVENT_START_FAILED, IVG_ABOUT_NOBODY, "%s", error.text);
        if (!options.quiet)
                ivg_stats_log(&mediator);
        if (options.stats_fd >= 0) {
                ivg_stats_write(&mediator, options.stats_fd);
                close(options.stats_fd);
        }
        ivg_metrics_close(&mediator);
        ivg_images_close(&mediator);
        ivg_mps_close(&mediator);
        ivg_sched_close(&mediator);
        close(mediator.epoll_fd);
        ivg_environments_free(&mediator);
        return rc < 0 ? 1 : 0;
}
