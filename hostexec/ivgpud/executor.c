/* One ivgpu-exec process: started with exactly its descriptors, listened to, ended within a bound, always reaped. */
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

/* Where the executor finds its descriptors. main.c keeps these numbers taken in the mediator, so that none of the
 * sources lies among them. */
enum { CHILD_REGION_FD = 3, CHILD_DOORBELL_FD, CHILD_INTERRUPT_FD, CHILD_CONTROL_FD, CHILD_IPC_FD, CHILD_IMAGES_FD };

/* ---- the process ---- */

static int spawn_actions(posix_spawn_file_actions_t *actions, const struct ivg_channel *channel, int control_fd,
                         int images_fd)
{
        const struct ivg_tenant *tenant = channel->tenant;
        int rc = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);

        if (rc == 0)
                rc = posix_spawn_file_actions_adddup2(actions, tenant->memfd, CHILD_REGION_FD);
        if (rc == 0)
                rc = posix_spawn_file_actions_adddup2(actions, ivg_tenant_doorbell_fd(tenant, channel->index),
                                                      CHILD_DOORBELL_FD);
        if (rc == 0)
                rc = posix_spawn_file_actions_adddup2(actions, ivg_tenant_interrupt_fd(tenant, channel->index),
                                                      CHILD_INTERRUPT_FD);
        if (rc == 0)
                rc = posix_spawn_file_actions_adddup2(actions, control_fd, CHILD_CONTROL_FD);
        if (rc == 0)
                rc = posix_spawn_file_actions_adddup2(actions, tenant->ipc_fd, CHILD_IPC_FD);
        if (rc == 0 && images_fd >= 0)
                rc = posix_spawn_file_actions_adddup2(actions, images_fd, CHILD_IMAGES_FD);
        return rc;
}

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

static int spawn(struct ivg_channel *channel, int control_fd, int images_fd, pid_t *pid)
{
        struct ivg_mediator *mediator = channel->tenant->mediator;
        char index[32], generation[32], vm_id[32], region[32], doorbell[32], interrupt[32], control[32], ipc[32],
                images[32];
        char driver[IVG_PATH_BYTES + 16], log_level[] = "--log-level=warning";
        char *arguments[] = {mediator->executor_path,
                             region,
                             doorbell,
                             interrupt,
                             control,
                             index,
                             generation,
                             driver,
                             vm_id,
                             ipc,
                             images,
                             mediator->quiet ? log_level : NULL,
                             NULL};
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        int layout, rc;

        snprintf(region, sizeof(region), "--region-fd=%d", CHILD_REGION_FD);
        snprintf(doorbell, sizeof(doorbell), "--doorbell-fd=%d", CHILD_DOORBELL_FD);
        snprintf(interrupt, sizeof(interrupt), "--interrupt-fd=%d", CHILD_INTERRUPT_FD);
        snprintf(control, sizeof(control), "--control-fd=%d", CHILD_CONTROL_FD);
        snprintf(images, sizeof(images), "--images-fd=%d", images_fd >= 0 ? CHILD_IMAGES_FD : -1);
        snprintf(ipc, sizeof(ipc), "--ipc-fd=%d", CHILD_IPC_FD);
        snprintf(index, sizeof(index), "--channel=%u", channel->index);
        snprintf(generation, sizeof(generation), "--generation=%u", channel->generation);
        snprintf(driver, sizeof(driver), "--driver=%s", mediator->driver_path);
        snprintf(vm_id, sizeof(vm_id), "--vm-id=%u", channel->tenant->vm_id);
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attributes);
        layout = executor_layout_begin();
        rc = spawn_actions(&actions, channel, control_fd, images_fd);
        if (rc == 0)
                rc = ivg_child_attributes(&attributes);
        if (rc == 0)
                rc = posix_spawn(pid, mediator->executor_path, &actions, &attributes, arguments,
                                 mediator->executor_environment[channel->tenant->pool]);
        executor_layout_end(layout);
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&actions);
        return -rc;
}

/* ---- what it says ---- */

static void message_handle(struct ivg_executor *executor, const struct ivg_exec_message *message)
{
        switch (message->type) {
        case IVG_EXEC_READY:
                if (executor->phase == IVG_EXECUTOR_STARTING) {
                        executor->phase = IVG_EXECUTOR_READY;
                        ivg_channel_ready(executor->channel, message);
                }
                return;
        case IVG_EXEC_FAILED:
                ivg_channel_failed(executor->channel,
                                   message->code != IVG_ERROR_NONE && message->code <= IVG_ERROR_VM_QUARANTINED
                                           ? (enum ivg_error_code)message->code
                                           : IVG_ERROR_CUDA_ERROR,
                                   message->text);
                return;
        case IVG_EXEC_FAULT:
                ivg_channel_fault(executor->channel, message);
                ivg_executor_end(executor);
                return;
        default:
                ivg_log(IVG_LOG_WARNING, "executor %d: message of type %u is unknown", (int)executor->pid,
                        message->type);
        }
}

/* False when nothing more will come. */
static bool messages_receive(struct ivg_executor *executor)
{
        for (uint32_t i = 0; i < IVG_EXECUTOR_MESSAGES_PER_TURN; i++) {
                struct ivg_exec_message message;
                const ssize_t bytes = recv(executor->control.fd, &message, sizeof(message), MSG_DONTWAIT | MSG_TRUNC);

                if (bytes < 0)
                        return errno == EAGAIN || errno == EINTR;
                if (bytes == 0)
                        return false;
                if (bytes != (ssize_t)sizeof(message) || message.magic != IVG_EXEC_CONTROL_MAGIC) {
                        ivg_log(IVG_LOG_WARNING, "executor %d: message of %zd bytes is none of ours",
                                (int)executor->pid, bytes);
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

static void describe_end(const siginfo_t *info, char *text, size_t capacity)
{
        if (info->si_code == CLD_EXITED)
                snprintf(text, capacity, "the executor (pid %d) ended with status %d%s", (int)info->si_pid,
                         info->si_status, info->si_status == IVG_EXEC_EXIT_STUCK ? ": the driver did not let go" : "");
        else
                snprintf(text, capacity, "the executor (pid %d) was ended by signal %d (%s)", (int)info->si_pid,
                         info->si_status, strsignal(info->si_status));
}

static void process_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct ivg_executor *executor = (void *)((char *)source - offsetof(struct ivg_executor, process));
        struct ivg_executor **link = &mediator->executors;
        siginfo_t info = {0};
        char how[160];
        bool told;

        (void)events;
        if (waitid(P_PID, (id_t)executor->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
                return;
        if (executor->control.fd >= 0)
                (void)messages_receive(executor); /* its last words count before its end */
        /* Only now: until it is reaped its number cannot be another's, whatever a message makes us send it. */
        (void)waitid(P_PID, (id_t)executor->pid, &info, WEXITED | WNOHANG);
        told = executor->phase == IVG_EXECUTOR_TERM || executor->phase == IVG_EXECUTOR_KILL;
        describe_end(&info, how, sizeof(how));
        if (told)
                ivg_log(IVG_LOG_INFO, "[CONNECTION] %s, channel %u: %s", executor->channel->tenant->name,
                        executor->channel->index, how);
        while (*link != executor)
                link = &(*link)->next;
        *link = executor->next;
        ivg_loop_close(mediator, &executor->control);
        ivg_loop_close(mediator, &executor->process);
        ivg_channel_executor_gone(executor->channel, told, how);
        ivg_loop_free(mediator, &executor->garbage);
}

void ivg_executor_end(struct ivg_executor *executor)
{
        if (executor->phase == IVG_EXECUTOR_TERM || executor->phase == IVG_EXECUTOR_KILL)
                return;
        executor->phase = IVG_EXECUTOR_TERM;
        executor->deadline_ms = ivg_loop_now_ms() + IVG_EXECUTOR_TERM_MS;
        kill(executor->pid, SIGTERM); /* not reaped yet: the number is still its own */
}

void ivg_executor_tick(struct ivg_executor *executor, uint64_t now_ms)
{
        if (executor->phase == IVG_EXECUTOR_READY && now_ms != UINT64_MAX)
                return;
        if (executor->phase == IVG_EXECUTOR_KILL || now_ms < executor->deadline_ms)
                return;
        if (executor->phase == IVG_EXECUTOR_STARTING && now_ms != UINT64_MAX) {
                char text[96];

                snprintf(text, sizeof(text), "the executor (pid %d) was not ready within %u ms", (int)executor->pid,
                         executor->channel->tenant->mediator->config.ready_timeout_ms);
                ivg_channel_failed(executor->channel, IVG_ERROR_TIMEOUT, text);
        }
        executor->phase = IVG_EXECUTOR_KILL;
        kill(executor->pid, SIGKILL);
}

/* ---- its beginning ---- */

int ivg_executor_start(struct ivg_channel *channel, struct ivg_executor **out, struct ivg_error *error)
{
        struct ivg_mediator *mediator = channel->tenant->mediator;
        struct ivg_executor *executor = calloc(1, sizeof(*executor));
        int pair[2] = {-1, -1}, images_fd, rc;

        if (!executor) {
                ivg_error_set(error, "no memory for an executor");
                return -ENOMEM;
        }
        rc = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0 ? -errno : 0;
        images_fd = rc == 0 ? ivg_images_connect(mediator, channel->tenant) : -1;
        if (rc == 0)
                rc = spawn(channel, pair[1], images_fd, &executor->pid);
        if (pair[1] >= 0)
                close(pair[1]);
        if (images_fd >= 0)
                close(images_fd);
        if (rc < 0) {
                ivg_error_set(error, "%s: %s", mediator->executor_path, strerror(-rc));
                if (pair[0] >= 0)
                        close(pair[0]);
                free(executor);
                return rc;
        }
        executor->channel = channel;
        executor->phase = IVG_EXECUTOR_STARTING;
        executor->deadline_ms = ivg_loop_now_ms() + mediator->config.ready_timeout_ms;
        executor->control = (struct ivg_source){.fd = pair[0], .ready = control_ready};
        executor->process =
                (struct ivg_source){.fd = (int)syscall(SYS_pidfd_open, executor->pid, 0), .ready = process_ready};
        rc = executor->process.fd < 0 ? -errno : ivg_loop_watch(mediator, &executor->process);
        if (rc == 0)
                rc = ivg_loop_watch(mediator, &executor->control);
        if (rc < 0) {
                ivg_error_set(error, "watching executor %d: %s", (int)executor->pid, strerror(-rc));
                kill(executor->pid, SIGKILL);
                waitpid(executor->pid, NULL, 0); /* killed: a moment */
                ivg_loop_close(mediator, &executor->process);
                ivg_loop_close(mediator, &executor->control);
                free(executor);
                return rc;
        }
        executor->next = mediator->executors;
        mediator->executors = executor;
        *out = executor;
        return 0;
}
