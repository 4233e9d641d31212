/* The keeper of module images (ivgpu-images): a process, since the mediator itself never reads what guests send. It is
 * of no account for anything but speed: without it every image is sent. */
#include "driver_find.h"
#include "image_control.h"
#include "mediator.h"
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { CHILD_CONTROL_FD = 3 };

void ivg_images_init(struct ivg_mediator *mediator)
{
        mediator->images = (struct ivg_images){.process = {.fd = -1}, .control_fd = -1};
}

static void forget(struct ivg_mediator *mediator)
{
        struct ivg_images *images = &mediator->images;

        ivg_loop_close(mediator, &images->process);
        if (images->control_fd >= 0)
                close(images->control_fd);
        images->control_fd = -1;
}

static void process_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        siginfo_t info = {0};

        (void)source;
        (void)events;
        if (waitid(P_PID, (id_t)mediator->images.pid, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
                return;
        ivg_log(IVG_EVENT_IMAGES_LOST, IVG_ABOUT_NOBODY,
                "the keeper of images (pid %d) ended with %s %d: images are sent until the next start",
                (int)info.si_pid, info.si_code == CLD_EXITED ? "status" : "signal", info.si_status);
        forget(mediator);
}

/* ---- starting ---- */

static int spawn(const struct ivg_mediator *mediator, int control_fd, pid_t *pid)
{
        const struct ivg_images_config *config = &mediator->config.images;
        char path[IVG_PATH_BYTES], control[32], bytes[48], tenant_bytes[48], count[32];
        char *arguments[] = {path, control, bytes, tenant_bytes, count, NULL};
        char *environment[] = {NULL};
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        int rc = ivg_path_of_helper("ivgpu-images", path);

        if (rc < 0)
                return rc;
        snprintf(control, sizeof(control), "--control-fd=%d", CHILD_CONTROL_FD);
        snprintf(bytes, sizeof(bytes), "--bytes=%llu", (unsigned long long)config->mib << 20);
        snprintf(tenant_bytes, sizeof(tenant_bytes), "--tenant-bytes=%llu", (unsigned long long)config->vm_mib << 20);
        snprintf(count, sizeof(count), "--count=%u", config->count);
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attributes);
        rc = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        if (rc == 0)
                rc = posix_spawn_file_actions_adddup2(&actions, control_fd, CHILD_CONTROL_FD);
        if (rc == 0)
                rc = ivg_child_attributes(&attributes);
        if (rc == 0)
                rc = posix_spawn(pid, path, &actions, &attributes, arguments, environment);
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&actions);
        return -rc;
}

static int watch(struct ivg_mediator *mediator)
{
        struct ivg_images *images = &mediator->images;
        int rc;

        images->process =
                (struct ivg_source){.fd = (int)syscall(SYS_pidfd_open, images->pid, 0), .ready = process_ready};
        rc = images->process.fd < 0 ? -errno : ivg_loop_watch(mediator, &images->process);
        if (rc == 0)
                return 0;
        kill(images->pid, SIGKILL);
        waitpid(images->pid, NULL, 0); /* killed: a moment */
        return rc;
}

static void start(struct ivg_mediator *mediator)
{
        struct ivg_images *images = &mediator->images;
        const uint64_t now_ms = ivg_loop_now_ms();
        int pair[2] = {-1, -1}, rc;

        if (now_ms < images->next_start_ms)
                return;
        images->next_start_ms = now_ms + IVG_IMAGES_RESTART_MS;
        rc = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0;
        if (rc == 0)
                rc = spawn(mediator, pair[1], &images->pid);
        if (pair[1] >= 0)
                close(pair[1]);
        images->control_fd = pair[0];
        if (rc == 0)
                rc = watch(mediator);
        if (rc == 0)
                return;
        ivg_log(IVG_EVENT_IMAGES_LOST, IVG_ABOUT_NOBODY,
                "the keeper of images was not started: %s: every image is sent", strerror(-rc));
        forget(mediator);
}

int ivg_images_connect(struct ivg_mediator *mediator, const struct ivg_tenant *tenant)
{
        struct ivg_images_message message = {
                .magic = IVG_IMAGES_MAGIC, .type = IVG_IMAGES_CONNECT, .tenant = tenant->member->number};
        int pair[2], rc;

        if (mediator->config.images.share == IVG_IMAGES_OFF)
                return -1;
        if (mediator->images.control_fd < 0)
                start(mediator);
        if (mediator->images.control_fd < 0)
                return -1;
        if (mediator->config.images.share == IVG_IMAGES_VM)
                message.space = message.tenant;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -1;
        rc = ivg_images_send(mediator->images.control_fd, &message, pair[1]);
        close(pair[1]);
        if (rc == 0)
                return pair[0];
        ivg_log(IVG_EVENT_IMAGES_LOST, ivg_about_member(tenant->member), "%s: no way to the keeper of images: %s",
                tenant->name, strerror(-rc));
        close(pair[0]);
        return -1;
}

/* ---- the end ---- */

void ivg_images_close(struct ivg_mediator *mediator)
{
        struct ivg_images *images = &mediator->images;
        struct pollfd process = {.fd = images->process.fd, .events = POLLIN};

        if (images->control_fd < 0)
                return;
        close(images->control_fd); /* which ends it */
        images->control_fd = -1;
        if (poll(&process, 1, IVG_IMAGES_END_MS) != 1)
                kill(images->pid, SIGKILL);
        waitpid(images->pid, NULL, 0);
        forget(mediator);
}
