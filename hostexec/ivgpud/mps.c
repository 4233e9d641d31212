/* MPS: the executors of a pool share one GPU context, that of an MPS server of the pool's own.
 *
 *   DOWN ──start──► STARTING ──its socket is there──► UP ──the pool goes, ivgpud ends──► ENDING ──► NONE
 *    ▲                  │                             │
 *    └── after a pause ─┴── the control daemon ends ──┘
 *
 * The control daemon (NVIDIA's nvidia-cuda-mps-control, in the foreground) is our child and starts a server when the
 * first executor comes. A server that dies takes its clients' contexts along: their programs end with error 5, and
 * the daemon starts another one for those that come. A fatal fault of one client is every client's, and the server
 * refuses new ones until all of those are gone: they are ended when the first is refused.
 * An executor that finds no daemon would run beside the others without a word: while the daemon is not UP none starts.
 */
#include "driver_find.h"
#include "mediator.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM "nvidia-cuda-mps-control"
#define CUDA_ERROR_MPS_SERVER_NOT_READY 807u /* cuda.h */
#define MPS_CHILDREN_BYTES 128u /* of one thread's children: a server, and those that ended and were not looked at */

static const char *name_of(const struct ivg_mediator *mediator, uint32_t pool)
{
        return mediator->config.pools[pool].name;
}

bool ivg_mps_is_used(const struct ivg_mediator *mediator, uint32_t pool)
{
        return mediator->mps[pool].phase != IVG_MPS_NONE;
}

bool ivg_mps_is_up(const struct ivg_mediator *mediator, uint32_t pool)
{
        return mediator->mps[pool].phase == IVG_MPS_NONE || mediator->mps[pool].phase == IVG_MPS_UP;
}

const char *ivg_mps_word(const struct ivg_mediator *mediator, uint32_t pool)
{
        static const char *const words[] = {[IVG_MPS_NONE] = "off",
                                            [IVG_MPS_DOWN] = "down",
                                            [IVG_MPS_STARTING] = "starting",
                                            [IVG_MPS_UP] = "on",
                                            [IVG_MPS_ENDING] = "ending"};

        return words[mediator->mps[pool].phase];
}

/* ---- the program ---- */

static bool take_if_runs(const char *folder, size_t folder_bytes, char path[IVG_PATH_BYTES])
{
        const int bytes = snprintf(path, IVG_PATH_BYTES, "%.*s/" PROGRAM, (int)folder_bytes, folder);

        return folder_bytes > 0 && bytes < (int)IVG_PATH_BYTES && access(path, X_OK) == 0;
}

/* In $PATH, then where the driver's programs are in containers, then beside the driver. */
static bool find_program(const struct ivg_mediator *mediator, char path[IVG_PATH_BYTES])
{
        static const char *const usual[] = {"/usr/bin", "/usr/local/nvidia/bin", "/usr/local/cuda/bin"};
        char driver[IVG_PATH_BYTES], beside[IVG_PATH_BYTES + 8];

        for (const char *word = getenv("PATH"); word && *word; word += strspn(word, ":")) {
                const size_t bytes = strcspn(word, ":");

                if (take_if_runs(word, bytes, path))
                        return true;
                word += bytes;
        }
        for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++)
                if (take_if_runs(usual[i], strlen(usual[i]), path))
                        return true;
        snprintf(driver, sizeof(driver), "%s", mediator->driver_path);
        snprintf(beside, sizeof(beside), "%s/../bin", dirname(driver));
        return take_if_runs(beside, strlen(beside), path);
}

/* Whether the pool is to have a server; -errno with words. */
static int decide(struct ivg_mediator *mediator, const struct ivg_pool_config *pool, struct ivg_error *error)
{
        const struct ivg_config *config = &mediator->config;

        if (pool->mps == IVG_MPS_MODE_OFF)
                return 0;
        if (pool->mps == IVG_MPS_MODE_AUTO && config->device == IVG_DEVICE_SOFT) {
                ivg_log(IVG_EVENT_MPS, IVG_ABOUT_NOBODY,
                        "[MPS] pool %s: mps = \"auto\": none, the soft GPU has no servers", pool->name);
                return 0;
        }
        if (config->mps_program[0] != '\0')
                snprintf(mediator->mps_program, sizeof(mediator->mps_program), "%s", config->mps_program);
        if (config->mps_program[0] != '\0' ? access(config->mps_program, X_OK) == 0
                                           : find_program(mediator, mediator->mps_program))
                return 1;
        if (pool->mps == IVG_MPS_MODE_AUTO) {
                ivg_log(IVG_EVENT_SCHED_LIMITED, IVG_ABOUT_NOBODY,
                        "[MPS] pool %s: mps = \"auto\": none, %s is not there: its executors take turns in the GPU's "
                        "time "
                        "slices",
                        pool->name, config->mps_program[0] != '\0' ? config->mps_program : PROGRAM);
                return 0;
        }
        if (config->mps_program[0] != '\0')
                ivg_error_set(error, "pool %s: mps: %s: %s", pool->name, config->mps_program, strerror(errno));
        else
                ivg_error_set(error,
                              "pool %s: mps: " PROGRAM
                              " is not in $PATH, nor beside the driver (mps_program says where)",
                              pool->name);
        return -ENOENT;
}

void ivg_mps_init(struct ivg_mediator *mediator)
{
        for (uint32_t i = 0; i < IVG_POOLS_MAX; i++)
                mediator->mps[i] = (struct ivg_mps){.daemon = {.fd = -1}, .server = {.fd = -1}, .lock_fd = -1};
}

/* ---- its folders ---- */

static int folder_make(const char *path)
{
        return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* Ours as long as we run: another ivgpud of the same folder would take our daemon for its own. */
static int folders_take(struct ivg_mediator *mediator, uint32_t pool, const char *name, struct ivg_error *error)
{
        struct ivg_mps *mps = &mediator->mps[pool];
        const char *dir = mediator->config.mps_dir;
        char path[IVG_PATH_BYTES + 32];
        int rc = 0;

        for (const char *end = dir + 1; rc == 0 && *end; end++) /* the folders above */
                if (*end == '/') {
                        snprintf(path, sizeof(path), "%.*s", (int)(end - dir), dir);
                        if (mkdir(path, 0755) < 0 && errno != EEXIST)
                                rc = -errno;
                }
        if (rc == 0)
                rc = folder_make(dir);
        snprintf(path, sizeof(path), "%s/%u", dir, pool);
        if (rc == 0)
                rc = folder_make(path);
        if (rc == 0)
                rc = folder_make(mps->folders.pipe);
        if (rc == 0)
                rc = folder_make(mps->folders.log);
        if (rc < 0) {
                ivg_error_set(error, "pool %s: mps: %s: %s", name, path, strerror(-rc));
                return rc;
        }
        strcat(path, "/lock");
        mps->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (mps->lock_fd < 0 || flock(mps->lock_fd, LOCK_EX | LOCK_NB) < 0) {
                rc = -errno;
                ivg_error_set(error, "pool %s: mps: %s: %s", name, path,
                              rc == -EWOULDBLOCK ? "another ivgpud has it (mps_dir says where)" : strerror(-rc));
        }
        return rc;
}

static void folders_give(struct ivg_mps *mps)
{
        if (mps->lock_fd >= 0)
                close(mps->lock_fd);
        mps->lock_fd = -1;
        mps->folders.pipe[0] = '\0';
}

/* What a daemon left behind: a client would try to connect there. */
static void pipe_clear(const struct ivg_mps *mps)
{
        DIR *folder = opendir(mps->folders.pipe);
        const struct dirent *entry;

        while (folder && (entry = readdir(folder)) != NULL)
                if (entry->d_name[0] != '.')
                        unlinkat(dirfd(folder), entry->d_name, 0);
        if (folder)
                closedir(folder);
}

static bool daemon_listens(const struct ivg_mps *mps)
{
        char path[IVG_PATH_BYTES + 16];

        snprintf(path, sizeof(path), "%s/control", mps->folders.pipe);
        return access(path, F_OK) == 0;
}

/* ---- processes ---- */

/* posix_spawn cannot: it ends with us. Between fork and exec only what a thread may do there. */
static pid_t spawn(const char *program, const char *option, int stdin_fd, int output_fd, char **environment)
{
        char *arguments[] = {(char *)program, (char *)option, NULL};
        const pid_t parent = getpid();
        sigset_t none;
        const pid_t pid = fork();

        if (pid != 0)
                return pid < 0 ? -errno : pid;
        prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
        if (getppid() != parent)
                _exit(1);
        setpgid(0, 0); /* a terminal's interrupt is for the mediator, which ends it in order */
        signal(SIGPIPE, SIG_DFL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if (dup2(stdin_fd, STDIN_FILENO) < 0 || dup2(output_fd, STDOUT_FILENO) < 0 ||
            dup2(output_fd, STDERR_FILENO) < 0)
                _exit(1);
        execve(program, arguments, environment);
        _exit(127);
}

/* With what it says in the log's folder. A pid or -errno. */
static pid_t run_program(struct ivg_mediator *mediator, uint32_t pool, const char *option, int stdin_fd)
{
        const struct ivg_mps *mps = &mediator->mps[pool];
        char path[IVG_PATH_BYTES + 16], **environment = NULL;
        int rc = ivg_environment_make(&mediator->config.pools[pool], &mps->folders, true, &environment);
        int output_fd;

        if (rc < 0)
                return rc;
        snprintf(path, sizeof(path), "%s/said", mps->folders.log);
        output_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        rc = output_fd < 0 ? -errno : spawn(mediator->mps_program, option, stdin_fd, output_fd, environment);
        if (output_fd >= 0)
                close(output_fd);
        free(environment);
        return rc;
}

static int null_open(void)
{
        return open("/dev/null", O_RDWR | O_CLOEXEC);
}

/* Starts a program that tells the daemon to quit, and its server to go at once. A pid or -errno. */
static pid_t tell_quit(struct ivg_mediator *mediator, uint32_t pool)
{
        static const char words[] = "quit -t 1\n";
        int pair[2];
        pid_t pid;

        if (pipe2(pair, O_CLOEXEC) < 0)
                return -errno;
        pid = write(pair[1], words, sizeof(words) - 1) < 0 ? -errno : run_program(mediator, pool, NULL, pair[0]);
        close(pair[0]);
        close(pair[1]);
        return pid;
}

/* ---- clients ---- */

/* Ends the programs whose contexts went; those that are only starting find the next server, or say why not. */
static void end_clients(struct ivg_mediator *mediator, uint32_t pool, const char *why)
{
        uint32_t ended = 0;

        for (struct ivg_executor *executor = mediator->executors; executor; executor = executor->next) {
                if (executor->pool != pool)
                        continue;
                if (executor->phase == IVG_EXECUTOR_READY) {
                        ivg_channel_stop(executor->channel, IVG_ERROR_CUDA_ERROR);
                        ended++;
                } else if (executor->phase == IVG_EXECUTOR_WAITING) {
                        ivg_executor_end(executor);
                }
        }
        ivg_log(IVG_EVENT_MPS_FAILED, IVG_ABOUT_NOBODY, "[MPS] pool %s: %s: %u programs end with error %d (%s)",
                name_of(mediator, pool), why, ended, IVG_ERROR_CUDA_ERROR, ivg_error_code_name(IVG_ERROR_CUDA_ERROR));
}

void ivg_mps_refused(const struct ivg_executor *executor, const struct ivg_exec_message *message)
{
        if (ivg_mps_is_used(executor->mediator, executor->pool) && message->fault == CUDA_ERROR_MPS_SERVER_NOT_READY)
                end_clients(executor->mediator, executor->pool,
                            "the server takes no new program, one of those that run has faulted");
}

/* ---- the server, which is the daemon's child ---- */

static void server_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct ivg_mps *mps = (void *)((char *)source - offsetof(struct ivg_mps, server));
        char why[64];

        (void)events; /* a pidfd becomes readable once, at the end */
        ivg_loop_close(mediator, source);
        if (mps->phase == IVG_MPS_ENDING)
                return;
        mps->server_losses++;
        snprintf(why, sizeof(why), "the server (pid %d) is gone", (int)mps->server_pid);
        end_clients(mediator, (uint32_t)(mps - mediator->mps), why);
}

/* Of the children that a thread has, as /proc tells them, the first that runs; its pidfd, or negative. */
static int find_running(const char *path, pid_t *pid)
{
        char text[MPS_CHILDREN_BYTES] = "", *word = text, *end;
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        int process = -1;

        if (fd < 0)
                return -1;
        if (read(fd, text, sizeof(text) - 1) > 0)
                for (; process < 0 && (*pid = (pid_t)strtol(word, &end, 10)) > 0 && *end == ' '; word = end)
                        process = ivg_process_open(*pid); /* one that has ended, and was not looked at, is no server */
        close(fd);
        return process;
}

/* The first running child of any of its threads; its pidfd, or negative: there is none. */
static int find_child(pid_t parent, pid_t *pid)
{
        char path[64];
        const struct dirent *entry;
        int process = -1;
        DIR *tasks;

        snprintf(path, sizeof(path), "/proc/%d/task", (int)parent);
        tasks = opendir(path);
        while (tasks && process < 0 && (entry = readdir(tasks)) != NULL) {
                if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
                        continue;
                snprintf(path, sizeof(path), "/proc/%d/task/%.10s/children", (int)parent, entry->d_name);
                process = find_running(path, pid);
        }
        if (tasks)
                closedir(tasks);
        return process;
}

static void server_find(struct ivg_mediator *mediator, uint32_t pool)
{
        struct ivg_mps *mps = &mediator->mps[pool];
        pid_t pid = 0;

        mps->server = (struct ivg_source){.fd = find_child(mps->pid, &pid), .ready = server_ready};
        if (mps->server.fd < 0)
                return;
        if (ivg_loop_watch(mediator, &mps->server) < 0) {
                ivg_loop_close(mediator, &mps->server);
                return;
        }
        mps->server_pid = pid;
        ivg_log(IVG_EVENT_MPS, IVG_ABOUT_NOBODY, "[MPS] pool %s: server %d serves its executors",
                name_of(mediator, pool), (int)pid);
}

static void server_kill(struct ivg_mediator *mediator, struct ivg_mps *mps)
{
        if (mps->server.fd >= 0)
                (void)syscall(SYS_pidfd_send_signal, mps->server.fd, SIGKILL, NULL, 0);
        ivg_loop_close(mediator, &mps->server);
}

/* ---- the daemon ---- */

static void retry_later(struct ivg_mps *mps, uint64_t now_ms)
{
        if (mps->phase == IVG_MPS_UP && now_ms - mps->since_ms >= IVG_MPS_STEADY_MS)
                mps->pause_ms = 0;
        mps->pause_ms = mps->pause_ms == 0 ? IVG_MPS_RETRY_MS : mps->pause_ms * 2;
        if (mps->pause_ms > IVG_MPS_RETRY_MS_MAX)
                mps->pause_ms = IVG_MPS_RETRY_MS_MAX;
        mps->phase = IVG_MPS_DOWN;
        mps->deadline_ms = now_ms + mps->pause_ms;
}

static void daemon_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct ivg_mps *mps = (void *)((char *)source - offsetof(struct ivg_mps, daemon));
        const uint32_t pool = (uint32_t)(mps - mediator->mps);
        siginfo_t info = {0};
        char why[128];

        (void)events;
        if (waitid(P_PID, (id_t)mps->pid, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
                return;
        ivg_loop_close(mediator, source);
        server_kill(mediator, mps);
        pipe_clear(mps);
        if (mps->phase == IVG_MPS_ENDING) {
                mps->phase = IVG_MPS_NONE;
                folders_give(mps);
                return;
        }
        mps->daemon_losses++;
        retry_later(mps, ivg_loop_now_ms());
        snprintf(why, sizeof(why), "the control daemon (pid %d) ended with %s %d and is started again in %u ms",
                 (int)mps->pid, info.si_code == CLD_EXITED ? "status" : "signal", info.si_status, mps->pause_ms);
        end_clients(mediator, pool, why);
        ivg_log(IVG_EVENT_MPS, IVG_ABOUT_NOBODY, "[MPS] pool %s: what it said is in %s", name_of(mediator, pool),
                mps->folders.log);
}

static void daemon_start(struct ivg_mediator *mediator, uint32_t pool)
{
        struct ivg_mps *mps = &mediator->mps[pool];
        const uint64_t now_ms = ivg_loop_now_ms();
        const int null = null_open();
        int rc = null < 0 ? -errno : 0;

        pipe_clear(mps); /* so that its socket is the sign that it is there */
        if (rc == 0)
                rc = mps->pid = run_program(mediator, pool, "-f", null);
        if (null >= 0)
                close(null);
        if (rc > 0) {
                mps->daemon =
                        (struct ivg_source){.fd = (int)syscall(SYS_pidfd_open, mps->pid, 0), .ready = daemon_ready};
                rc = mps->daemon.fd < 0 ? -errno : ivg_loop_watch(mediator, &mps->daemon);
                if (rc < 0) {
                        kill(mps->pid, SIGKILL);
                        waitpid(mps->pid, NULL, 0); /* killed: a moment */
                        ivg_loop_close(mediator, &mps->daemon);
                }
        }
        if (rc < 0) {
                retry_later(mps, now_ms);
                ivg_log(IVG_EVENT_MPS_FAILED, IVG_ABOUT_NOBODY, "[MPS] pool %s: %s: %s; tried again in %u ms",
                        name_of(mediator, pool), mediator->mps_program, strerror(-rc), mps->pause_ms);
                return;
        }
        mps->phase = IVG_MPS_STARTING;
        mps->deadline_ms = now_ms + IVG_MPS_READY_MS;
}

static void daemon_look(struct ivg_mediator *mediator, uint32_t pool, uint64_t now_ms)
{
        struct ivg_mps *mps = &mediator->mps[pool];

        if (daemon_listens(mps)) {
                mps->phase = IVG_MPS_UP;
                mps->since_ms = now_ms;
                ivg_log(IVG_EVENT_MPS, IVG_ABOUT_NOBODY, "[MPS] pool %s: control daemon %d listens in %s",
                        name_of(mediator, pool), (int)mps->pid, mps->folders.pipe);
        } else if (now_ms >= mps->deadline_ms) {
                ivg_log(IVG_EVENT_MPS_FAILED, IVG_ABOUT_NOBODY,
                        "[MPS] pool %s: the control daemon (pid %d) does not listen within %u ms: it is killed",
                        name_of(mediator, pool), (int)mps->pid, IVG_MPS_READY_MS);
                kill(mps->pid, SIGKILL); /* not reaped yet: the number is still its own */
                mps->deadline_ms = UINT64_MAX;
        }
}

/* When it wants to be looked at again; 0: in the next tick. */
static uint64_t next_look_ms(const struct ivg_mediator *mediator, const struct ivg_mps *mps)
{
        if (mps->quit_pid > 0 || mps->phase == IVG_MPS_STARTING)
                return 0;
        if (mps->phase == IVG_MPS_DOWN || mps->phase == IVG_MPS_ENDING)
                return mps->deadline_ms;
        /* A server comes with the first executor. */
        return mps->phase == IVG_MPS_UP && mps->server.fd < 0 && mediator->executors ? 0 : IVG_TICK_NEVER;
}

uint64_t ivg_mps_tick(struct ivg_mediator *mediator, uint64_t now_ms)
{
        uint64_t next_ms = IVG_TICK_NEVER;

        for (uint32_t pool = 0; pool < IVG_POOLS_MAX; pool++) {
                struct ivg_mps *mps = &mediator->mps[pool];

                if (mps->quit_pid > 0 && waitpid(mps->quit_pid, NULL, WNOHANG) != 0)
                        mps->quit_pid = 0;
                if (mps->phase == IVG_MPS_DOWN && now_ms >= mps->deadline_ms && !mediator->ending)
                        daemon_start(mediator, pool);
                else if (mps->phase == IVG_MPS_STARTING)
                        daemon_look(mediator, pool, now_ms);
                else if (mps->phase == IVG_MPS_UP && mps->server.fd < 0)
                        server_find(mediator, pool);
                else if (mps->phase == IVG_MPS_ENDING && now_ms >= mps->deadline_ms)
                        kill(mps->pid, SIGKILL);
                next_ms = ivg_tick_earlier(next_ms, next_look_ms(mediator, mps));
        }
        return next_ms;
}

enum ivg_error_code ivg_mps_admit(const struct ivg_mediator *mediator, uint32_t pool, struct ivg_error *error)
{
        if (ivg_mps_is_up(mediator, pool))
                return IVG_ERROR_NONE;
        ivg_error_set(error, "the MPS control daemon of pool %s is %s", name_of(mediator, pool),
                      ivg_mps_word(mediator, pool));
        return IVG_ERROR_MEDIATOR_UNAVAILABLE;
}

/* ---- begin and end ---- */

int ivg_mps_prepare(struct ivg_mediator *mediator, uint32_t pool, const struct ivg_pool_config *config,
                    struct ivg_error *error)
{
        struct ivg_mps *mps = &mediator->mps[pool];
        const char *dir = mediator->config.mps_dir;
        int rc;

        if (mps->phase != IVG_MPS_NONE) {
                ivg_error_set(error, "pool %s: mps: the server of the pool before it has not ended yet", config->name);
                return -EBUSY;
        }
        mps->folders.pipe[0] = '\0';
        rc = decide(mediator, config, error);
        if (rc <= 0)
                return rc;
        snprintf(mps->folders.pipe, sizeof(mps->folders.pipe), "%s/%u/pipe", dir, pool);
        snprintf(mps->folders.log, sizeof(mps->folders.log), "%s/%u/log", dir, pool);
        rc = folders_take(mediator, pool, config->name, error);
        if (rc < 0)
                folders_give(mps);
        return rc < 0 ? rc : 1;
}

static void wait_for(pid_t *pid, uint64_t deadline_ms)
{
        struct pollfd process = {.fd = (int)syscall(SYS_pidfd_open, *pid, 0), .events = POLLIN};
        const uint64_t now_ms = ivg_loop_now_ms();

        if (process.fd < 0 || poll(&process, 1, now_ms < deadline_ms ? (int)(deadline_ms - now_ms) : 0) != 1)
                kill(*pid, SIGKILL);
        waitpid(*pid, NULL, 0);
        if (process.fd >= 0)
                close(process.fd);
        *pid = 0;
}

/* A daemon of an ivgpud that was killed. */
static void quit_leftover(struct ivg_mediator *mediator, uint32_t pool)
{
        pid_t pid = daemon_listens(&mediator->mps[pool]) ? tell_quit(mediator, pool) : 0;

        if (pid > 0)
                wait_for(&pid, ivg_loop_now_ms() + IVG_MPS_END_MS);
}

void ivg_mps_begin(struct ivg_mediator *mediator, uint32_t pool)
{
        struct ivg_mps *mps = &mediator->mps[pool];

        quit_leftover(mediator, pool);
        mps->phase = IVG_MPS_DOWN;
        mps->pause_ms = 0;
        daemon_start(mediator, pool);
}

/* At the start: whoever is told that we are ready may start a program. A daemon that cannot be is a mistake then. */
int ivg_mps_open(struct ivg_mediator *mediator, struct ivg_error *error)
{
        const struct timespec pause = {.tv_nsec = 5000000};

        for (uint32_t pool = 0; pool < mediator->config.pool_count; pool++) {
                struct ivg_mps *mps = &mediator->mps[pool];

                if (mps->folders.pipe[0] == '\0')
                        continue;
                ivg_mps_begin(mediator, pool);
                while (mps->phase == IVG_MPS_STARTING) {
                        struct pollfd daemon = {.fd = mps->daemon.fd, .events = POLLIN};

                        daemon_look(mediator, pool, ivg_loop_now_ms());
                        if (poll(&daemon, 1, 0) == 1)
                                daemon_ready(mediator, &mps->daemon, 0);
                        nanosleep(&pause, NULL);
                }
                if (mps->phase == IVG_MPS_DOWN) {
                        ivg_error_set(error, "pool %s: mps: %s does not stay, see above and %s",
                                      name_of(mediator, pool), mediator->mps_program, mps->folders.log);
                        return -EIO;
                }
        }
        return 0;
}

void ivg_mps_end(struct ivg_mediator *mediator, uint32_t pool)
{
        struct ivg_mps *mps = &mediator->mps[pool];

        if (mps->phase == IVG_MPS_ENDING)
                return;
        if (mps->phase != IVG_MPS_UP && mps->phase != IVG_MPS_STARTING) {
                folders_give(mps);
                mps->phase = IVG_MPS_NONE;
                return;
        }
        mps->phase = IVG_MPS_ENDING;
        mps->deadline_ms = ivg_loop_now_ms() + IVG_MPS_END_MS;
        mps->quit_pid = tell_quit(mediator, pool);
        if (mps->quit_pid < 0)
                kill(mps->pid, SIGTERM);
}

void ivg_mps_close(struct ivg_mediator *mediator)
{
        for (uint32_t pool = 0; pool < IVG_POOLS_MAX; pool++)
                ivg_mps_end(mediator, pool);
        for (uint32_t pool = 0; pool < IVG_POOLS_MAX; pool++) {
                struct ivg_mps *mps = &mediator->mps[pool];

                if (mps->quit_pid > 0)
                        wait_for(&mps->quit_pid, mps->deadline_ms);
                if (mps->phase != IVG_MPS_ENDING)
                        continue;
                wait_for(&mps->pid, mps->deadline_ms);
                ivg_loop_close(mediator, &mps->daemon);
                server_kill(mediator, mps);
                pipe_clear(mps);
                folders_give(mps);
                mps->phase = IVG_MPS_NONE;
        }
}
