/* One ivgpu-exec process: started with one socket, given a channel over it, listened to, ended within a bound, always
 * reaped. */
#include "ivgpu/fd_pass.h"
#include "mediator.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Where the executor finds its socket. main.c keeps this number taken in the mediator, so that the source is another.
 */
enum { CHILD_CONTROL_FD = 3 };

/* ---- the process ---- */

int ivg_child_attributes(posix_spawnattr_t *attributes)
{
        sigset_t none, all;
        int rc;

        sigemptyset(&none);
        sigfillset(&all);
        /* Own process group: a terminal's interrupt is for the mediator, which then ends its executors in order. */
        rc = posix_spawnattr_setflags(attributes,
                                      POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
        if (rc == 0)
                rc = posix_spawnattr_setpgroup(attributes, 0);
        if (rc == 0)
                rc = posix_spawnattr_setsigmask(attributes, &none);
        if (rc == 0)
                rc = posix_spawnattr_setsigdefault(attributes, &all);
        return rc;
}

/* Device memory has the addresses that the driver reserves in the executor, and the guest's program uses them beside
 * its own. With the ordinary layout both would take theirs from the same end of the address space and now and then
 * collide. The older layout lets the executor's mappings grow from a third of it upwards, where an ordinary program has
 * none. */
static int executor_layout_begin(void)
{
        const int now = personality(0xffffffff);

#ifndef __SANITIZE_THREAD__ /* ThreadSanitizer knows the ordinary layout only */
        if (now != -1)
                (void)personality((unsigned long)now | ADDR_COMPAT_LAYOUT);
#endif
        return now;
}

static void executor_layout_end(int layout)
{
        if (layout != -1)
                (void)personality((unsigned long)layout);
}

static int spawn(struct ivg_executor *executor, int control_fd, int words_fd)
{
        struct ivg_mediator *mediator = executor->mediator;
        char control[32], driver[IVG_PATH_BYTES + 16], warm[32], log_level[] = "--log-level=warning";
        char mps[] = "--mps", *arguments[7];
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        int count = 0, layout, rc;

        snprintf(control, sizeof(control), "--control-fd=%d", CHILD_CONTROL_FD);
        snprintf(driver, sizeof(driver), "--driver=%s", mediator->driver_path);
        snprintf(warm, sizeof(warm), "--warm=%d", IVG_EXEC_WARM_UNUSED_MS);
        arguments[count++] = mediator->executor_path;
        arguments[count++] = control;
        arguments[count++] = driver;
        if (executor->warm)
                arguments[count++] = warm;
        if (ivg_mps_is_used(mediator, executor->pool))
                arguments[count++] = mps;
        if (mediator->quiet)
                arguments[count++] = log_level;
        arguments[count] = NULL;
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attributes);
        layout = executor_layout_begin();
        rc = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        if (rc == 0)
                rc = posix_spawn_file_actions_adddup2(&actions, control_fd, CHILD_CONTROL_FD);
        if (rc == 0 && words_fd >= 0)
                rc = posix_spawn_file_actions_adddup2(&actions, words_fd, STDERR_FILENO);
        if (rc == 0)
                rc = ivg_child_attributes(&attributes);
        if (rc == 0)
                rc = posix_spawn(&executor->pid, mediator->executor_path, &actions, &attributes, arguments,
                                 mediator->executor_environment[executor->pool]);
        executor_layout_end(layout);
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&actions);
        return -rc;
}

/* ---- what it says ---- */

static void waiting(struct ivg_executor *executor, const struct ivg_exec_message *message)
{
        if (executor->phase == IVG_EXECUTOR_WARMING) {
                executor->phase = IVG_EXECUTOR_WAITING;
                ivg_warm_waits(executor, message);
        } else if (executor->phase == IVG_EXECUTOR_STARTING && executor->warm) { /* its channel came earlier */
                executor->deadline_ms = ivg_loop_now_ms() + IVG_ADOPTION_MS;
        }
}

static void message_handle(struct ivg_executor *executor, const struct ivg_exec_message *message)
{
        if (!executor->channel && message->type != IVG_EXEC_WAITING && message->type != IVG_EXEC_FAILED) {
                ivg_log(IVG_EVENT_EXECUTOR_ODD, ivg_about_executor(executor),
                        "executor %d: message of type %u before it had a channel", (int)executor->pid, message->type);
                return;
        }
        switch (message->type) {
        case IVG_EXEC_WAITING:
                waiting(executor, message);
                return;
        case IVG_EXEC_READY:
                if (executor->phase == IVG_EXECUTOR_STARTING) {
                        executor->phase = IVG_EXECUTOR_READY;
                        ivg_sched_join(executor, message->device_count > 0 ? (uint32_t)message->device_count : 0);
                        ivg_channel_ready(executor->channel, message);
                }
                return;
        case IVG_EXEC_FAILED:
                ivg_mps_refused(executor, message);
                if (executor->warm) { /* it ends; if a program waits for it, a cold one is tried */
                        ivg_log(IVG_EVENT_WARM_LOST, ivg_about_executor(executor), "[WARM] executor %d: %s",
                                (int)executor->pid, message->text);
                        return;
                }
                ivg_channel_failed(executor->channel,
                                   message->code != IVG_ERROR_NONE && message->code <= IVG_ERROR_VM_QUARANTINED
                                           ? (enum ivg_error_code)message->code
                                           : IVG_ERROR_CUDA_ERROR,
                                   message->text);
                return;
        case IVG_EXEC_PONG:
                executor->asked_ms = 0;
                return;
        case IVG_EXEC_FAULT:
                ivg_channel_fault(executor->channel, message);
                ivg_executor_end(executor);
                return;
        default:
                ivg_log(IVG_EVENT_EXECUTOR_ODD, ivg_about_executor(executor),
                        "executor %d: message of type %u is unknown", (int)executor->pid, message->type);
        }
}

/* False when nothing more will come. */
static bool messages_receive(struct ivg_executor *executor)
{
        for (uint32_t i = 0; i < IVG_EXECUTOR_MESSAGES_PER_TURN; i++) {
                struct ivg_exec_message message;
                const ssize_t bytes = recv(executor->control.fd, &message, sizeof(message), MSG_DONTWAIT | MSG_TRUNC);

                if (bytes < 0 &&
                    errno == ECONNRESET) /* it ended without taking its channel; its words are still there */
                        continue;
                if (bytes < 0)
                        return errno == EAGAIN || errno == EINTR;
                if (bytes == 0)
                        return false;
                if (bytes != (ssize_t)sizeof(message) || message.magic != IVG_EXEC_CONTROL_MAGIC) {
                        ivg_log(IVG_EVENT_EXECUTOR_ODD, ivg_about_executor(executor),
                                "executor %d: message of %zd bytes is none of ours", (int)executor->pid, bytes);
                        continue;
                }
                message.text[sizeof(message.text) - 1] = '\0';
                message_handle(executor, &message);
        }
        return true;
}

static void control_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct ivg_executor *executor = (void *)((char *)source - offsetof(struct ivg_executor, control));

        (void)events;
        if (!messages_receive(executor))
                ivg_loop_close(mediator, source); /* its end follows on the pidfd */
}

/* ---- its end ---- */

static void vram_leave(struct ivg_executor *executor, const struct ivg_channel *channel)
{
        if (executor->vram_placed)
                ivg_member_vram_leave(channel->tenant->member, executor->vram_place);
        executor->vram_placed = false;
}

static void describe_end(const siginfo_t *info, char *text, size_t capacity)
{
        if (info->si_code == CLD_EXITED)
                snprintf(text, capacity, "the executor (pid %d) ended with status %d%s", (int)info->si_pid,
                         info->si_status, info->si_status == IVG_EXEC_EXIT_STUCK ? ": the driver did not let go" : "");
        else
                snprintf(text, capacity, "the executor (pid %d) was ended by signal %d (%s)", (int)info->si_pid,
                         info->si_status, strsignal(info->si_status));
}

/* Tells whoever it was for. */
static void gone(struct ivg_executor *executor, const char *how)
{
        const bool ended = executor->phase == IVG_EXECUTOR_TERM || executor->phase == IVG_EXECUTOR_KILL;
        struct ivg_channel *channel = executor->channel;

        if (!channel) {
                if (executor->told)
                        ivg_log(IVG_EVENT_WARM_WAITS, ivg_about_executor(executor), "[WARM] %s", how);
                else
                        ivg_warm_lost(executor, how);
                return;
        }
        if (executor->warm && !executor->told && ivg_channel_start_cold(channel, how)) {
                executor->mediator->warm[executor->pool].lost++;
                return;
        }
        if (ended)
                ivg_log(IVG_EVENT_PROGRAM_ENDED, ivg_about_channel(channel, IVG_ERROR_NONE),
                        "[CONNECTION] %s, channel %u: %s", channel->tenant->name, channel->index, how);
        ivg_channel_executor_gone(channel, ended, how);
}

static void process_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct ivg_executor *executor = (void *)((char *)source - offsetof(struct ivg_executor, process));
        struct ivg_executor **link = &mediator->executors;
        siginfo_t info = {0};
        char how[160];

        (void)events;
        if (waitid(P_PID, (id_t)executor->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
                return;
        if (executor->control.fd >= 0)
                (void)messages_receive(executor); /* its last words count before its end */
        /* Only now: until it is reaped its number cannot be another's, whatever a message makes us send it. */
        (void)waitid(P_PID, (id_t)executor->pid, &info, WEXITED | WNOHANG);
        describe_end(&info, how, sizeof(how));
        ivg_executor_words_end(executor);
        while (*link != executor)
                link = &(*link)->next;
        *link = executor->next;
        ivg_sched_leave(executor);
        ivg_loop_close(mediator, &executor->control);
        ivg_loop_close(mediator, &executor->share);
        ivg_loop_close(mediator, &executor->process);
        if (executor->channel) { /* the driver frees that memory now */
                ivg_shares_end_of(executor->channel->tenant->shares, executor);
                vram_leave(executor, executor->channel);
        }
        gone(executor, how);
        ivg_board_close(executor->board, executor->board_fd); /* after its counters have been taken over */
        ivg_loop_free(mediator, &executor->garbage);
}

void ivg_executor_end(struct ivg_executor *executor)
{
        executor->told = true;
        if (executor->phase == IVG_EXECUTOR_TERM || executor->phase == IVG_EXECUTOR_KILL)
                return;
        if (!executor->channel) { /* it holds nothing of anybody: its end need not be in order */
                executor->phase = IVG_EXECUTOR_KILL;
                kill(executor->pid, SIGKILL);
                return;
        }
        executor->phase = IVG_EXECUTOR_TERM;
        executor->deadline_ms = ivg_loop_now_ms() + IVG_EXECUTOR_TERM_MS;
        kill(executor->pid, SIGTERM); /* not reaped yet: the number is still its own */
}

static void too_late(struct ivg_executor *executor)
{
        struct ivg_mediator *mediator = executor->mediator;
        char text[96];

        snprintf(text, sizeof(text), "the executor (pid %d) was not ready within %u ms", (int)executor->pid,
                 mediator->config.ready_timeout_ms);
        if (!executor->warm)
                ivg_channel_failed(executor->channel, IVG_ERROR_TIMEOUT, text);
        else /* with a channel: a cold one follows when this one is gone, since two must not write one ring */
                ivg_log(IVG_EVENT_WARM_LOST, ivg_about_executor(executor),
                        "[WARM] the executor (pid %d) hangs: it is killed", (int)executor->pid);
}

uint64_t ivg_executor_tick(struct ivg_executor *executor, uint64_t now_ms)
{
        const bool all = now_ms == UINT64_MAX;

        if ((executor->phase == IVG_EXECUTOR_READY || executor->phase == IVG_EXECUTOR_WAITING) && !all)
                return IVG_TICK_NEVER;
        if (now_ms < executor->deadline_ms)
                return executor->deadline_ms;
        if (executor->phase == IVG_EXECUTOR_KILL) {
                if (!all && executor->warm && executor->channel && !executor->told &&
                    executor->channel->state == IVG_HOST_CHANNEL_STARTING)
                        ivg_channel_failed(executor->channel, IVG_ERROR_TIMEOUT,
                                           "the kernel does not let a hanging executor go");
                return IVG_TICK_NEVER; /* its end is an event */
        }
        if ((executor->phase == IVG_EXECUTOR_STARTING || executor->phase == IVG_EXECUTOR_WARMING) && !all)
                too_late(executor);
        executor->phase = IVG_EXECUTOR_KILL;
        executor->deadline_ms = ivg_loop_now_ms() + IVG_KILLED_GONE_MS;
        kill(executor->pid, SIGKILL);
        return executor->deadline_ms;
}

/* ---- its beginning ---- */

static void drop(struct ivg_executor *executor, bool running)
{
        if (running) {
                kill(executor->pid, SIGKILL);
                waitpid(executor->pid, NULL, 0); /* killed: a moment */
        }
        ivg_loop_close(executor->mediator, &executor->process);
        ivg_loop_close(executor->mediator, &executor->control);
        ivg_loop_close(executor->mediator, &executor->share);
        ivg_loop_close(executor->mediator, &executor->words.source);
        ivg_board_close(executor->board, executor->board_fd);
        if (executor->channel)
                vram_leave(executor, executor->channel);
        free(executor);
}

static int pair_open(int pair[2])
{
        return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0 ? -errno : 0;
}

static void close_if_open(int fd)
{
        if (fd >= 0)
                close(fd);
}

static int send_channel(struct ivg_executor *executor, const struct ivg_channel *channel, int share_fd)
{
        const struct ivg_tenant *tenant = channel->tenant;
        const int images_fd = ivg_images_connect(executor->mediator, tenant);
        const int slots[IVG_EXEC_SLOTS] = {
                [IVG_EXEC_SLOT_REGION] = tenant->memfd,
                [IVG_EXEC_SLOT_DOORBELL] = ivg_tenant_doorbell_fd(tenant, channel->index),
                [IVG_EXEC_SLOT_INTERRUPT] = ivg_tenant_interrupt_fd(tenant, channel->index),
                [IVG_EXEC_SLOT_IPC] = tenant->ipc_fd,
                [IVG_EXEC_SLOT_SHARE] = share_fd,
                [IVG_EXEC_SLOT_IMAGES] = images_fd,
                [IVG_EXEC_SLOT_BOARD] = executor->board_fd,
                [IVG_EXEC_SLOT_VRAM] = tenant->member->vram_fd,
                [IVG_EXEC_SLOT_KICK] = executor->mediator->sched.kick.fd,
        };
        struct ivg_exec_adoption message = {.magic = IVG_EXEC_CONTROL_MAGIC,
                                            .type = IVG_EXEC_ADOPT,
                                            .channel = channel->index,
                                            .generation = channel->generation,
                                            .vm_id = tenant->vm_id,
                                            .vram_place = executor->vram_place};
        int fds[IVG_EXEC_SLOTS], rc;
        uint32_t count = 0;

        for (uint32_t slot = 0; slot < IVG_EXEC_SLOTS; slot++)
                if (slots[slot] >= 0) {
                        fds[count++] = slots[slot];
                        message.given |= 1u << slot;
                }
        rc = executor->control.fd < 0 ? -EPIPE
                                      : ivg_fds_send(executor->control.fd, &message, sizeof(message), fds, count);
        close_if_open(images_fd);
        return rc;
}

/* The executor is the channel's from then on. */
static int give(struct ivg_executor *executor, struct ivg_channel *channel)
{
        int share[2] = {-1, -1};
        int rc = pair_open(share);

        executor->share = (struct ivg_source){.fd = share[0], .ready = ivg_shares_ready};
        if (rc == 0)
                rc = ivg_loop_watch(executor->mediator, &executor->share);
        if (rc == 0)
                rc = executor->board_fd = ivg_board_create(&executor->board);
        if (rc >= 0)
                rc = ivg_member_vram_place(channel->tenant->member, &executor->vram_place);
        executor->vram_placed = rc >= 0;
        if (rc >= 0)
                rc = send_channel(executor, channel, share[1]);
        close_if_open(share[1]);
        if (rc < 0) {
                vram_leave(executor, channel);
                ivg_board_close(executor->board, executor->board_fd);
                executor->board = NULL;
                ivg_loop_close(executor->mediator, &executor->share);
                return rc;
        }
        if (executor->phase == IVG_EXECUTOR_WAITING) /* else as long as it would have had anyway */
                executor->deadline_ms = ivg_loop_now_ms() + IVG_ADOPTION_MS;
        executor->phase = IVG_EXECUTOR_STARTING;
        executor->channel = channel;
        return 0;
}

/* A process, watched. Without a channel it is a warm one. */
static int start(struct ivg_mediator *mediator, uint32_t pool, struct ivg_channel *channel, struct ivg_executor **out,
                 struct ivg_error *error)
{
        struct ivg_executor *executor = calloc(1, sizeof(*executor));
        int pair[2] = {-1, -1}, words_fd = -1, rc;

        if (!executor) {
                ivg_error_set(error, "no memory for an executor");
                return -ENOMEM;
        }
        executor->mediator = mediator;
        executor->pool = pool;
        executor->warm = !channel;
        executor->phase = IVG_EXECUTOR_WARMING;
        executor->deadline_ms = ivg_loop_now_ms() + mediator->config.ready_timeout_ms;
        rc = pair_open(pair);
        executor->share.fd = executor->words.source.fd = -1;
        executor->control = (struct ivg_source){.fd = pair[0], .ready = control_ready};
        executor->process = (struct ivg_source){.fd = -1, .ready = process_ready};
        /* Before the process: one that fails at once still says why, and not that its socket is closed. */
        if (rc == 0 && channel)
                rc = give(executor, channel);
        if (rc == 0)
                rc = ivg_executor_words_open(executor, &words_fd);
        if (rc == 0)
                rc = spawn(executor, pair[1], words_fd);
        close_if_open(pair[1]);
        close_if_open(words_fd);
        if (rc < 0) {
                ivg_error_set(error, "%s: %s", mediator->executor_path, strerror(-rc));
                drop(executor, false);
                return rc;
        }
        executor->process.fd = (int)syscall(SYS_pidfd_open, executor->pid, 0);
        rc = executor->process.fd < 0 ? -errno : ivg_loop_watch(mediator, &executor->process);
        if (rc == 0)
                rc = ivg_loop_watch(mediator, &executor->control);
        if (rc < 0) {
                ivg_error_set(error, "watching executor %d: %s", (int)executor->pid, strerror(-rc));
                drop(executor, true);
                return rc;
        }
        executor->next = mediator->executors;
        mediator->executors = executor;
        *out = executor;
        return 0;
}

int ivg_executor_start_spare(struct ivg_mediator *mediator, uint32_t pool, struct ivg_error *error)
{
        struct ivg_executor *executor;

        return start(mediator, pool, NULL, &executor, error);
}

static struct ivg_executor *adopt(struct ivg_channel *channel)
{
        struct ivg_mediator *mediator = channel->tenant->mediator;
        struct ivg_executor *executor;

        while ((executor = ivg_warm_take(mediator, channel->tenant->pool)) != NULL) {
                const int rc = give(executor, channel);

                if (rc == 0)
                        return executor;
                if (rc != -EPIPE && rc != -ECONNRESET) /* our own trouble, which the start of a cold one will name */
                        return NULL;
                /* It is dying: its end is told by its pidfd, and counts as a loss. */
                executor->phase = IVG_EXECUTOR_KILL;
                kill(executor->pid, SIGKILL);
        }
        return NULL;
}

int ivg_executor_start(struct ivg_channel *channel, bool cold, struct ivg_executor **out, struct ivg_error *error)
{
        struct ivg_mediator *mediator = channel->tenant->mediator;
        const uint32_t pool = channel->tenant->pool;
        struct ivg_executor *executor = cold ? NULL : adopt(channel);
        int rc;

        if (executor) {
                mediator->warm[pool].taken++;
                *out = executor;
                return 0;
        }
        rc = start(mediator, pool, channel, out, error);
        if (rc == 0)
                mediator->warm[pool].cold++;
        return rc;
}
