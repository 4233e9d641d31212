#include "doctor.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

void *ivg_shared_new(size_t bytes)
{
        void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        return memory == MAP_FAILED ? NULL : memory;
}

/* In the child: nothing from stdin, everything said into `output_fd`. */
static void child_settle(int output_fd)
{
        const int nowhere = open("/dev/null", O_RDWR);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(nowhere, STDIN_FILENO);
        dup2(output_fd, STDOUT_FILENO);
        dup2(output_fd, STDERR_FILENO);
}

/* Waits for its end, at most limit_ms; then it is killed. Takes what it said. */
static void child_join(pid_t pid, int output_fd, unsigned int limit_ms, struct ivg_child *child)
{
        const int process = (int)syscall(SYS_pidfd_open, pid, 0);
        struct pollfd ended = {.fd = process, .events = POLLIN};
        ssize_t bytes;
        int ready;

        do
                ready = poll(&ended, 1, (int)limit_ms);
        while (ready < 0 && errno == EINTR);
        child->timed_out = ready == 0;
        if (ready != 1)
                kill(pid, SIGKILL);
        while (waitpid(pid, &child->status, 0) < 0 && errno == EINTR)
                continue;
        if (child->timed_out)
                child->status = -1;
        if (process >= 0)
                close(process);
        bytes = pread(output_fd, child->output, sizeof(child->output) - 1, 0);
        child->output[bytes > 0 ? bytes : 0] = '\0';
}

static pid_t child_begin(int *output_fd, struct ivg_child *child)
{
        pid_t pid;

        child->status = -1;
        child->timed_out = false;
        child->output[0] = '\0';
        fflush(NULL); /* or the child's copy of what waits is said twice */
        *output_fd = memfd_create("ivgpu-doctor", MFD_CLOEXEC);
        pid = *output_fd < 0 ? -1 : fork();
        if (pid == 0)
                child_settle(*output_fd);
        if (pid < 0)
                snprintf(child->output, sizeof(child->output), "starting a process: %s", strerror(errno));
        return pid;
}

void ivg_child_call(void (*body)(void *argument), void *argument, unsigned int limit_ms, struct ivg_child *child)
{
        int output_fd;
        const pid_t pid = child_begin(&output_fd, child);

        if (pid == 0) {
                body(argument);
                _exit(0);
        }
        if (pid > 0)
                child_join(pid, output_fd, limit_ms, child);
        if (output_fd >= 0)
                close(output_fd);
}

void ivg_child_program(char *const arguments[], char *const variables[], unsigned int limit_ms, struct ivg_child *child)
{
        int output_fd;
        const pid_t pid = child_begin(&output_fd, child);

        if (pid == 0) {
                for (char *const *variable = variables; variable && *variable; variable++)
                        putenv(*variable);
                execvp(arguments[0], arguments);
                fprintf(stderr, "%s: %s\n", arguments[0], strerror(errno));
                _exit(127);
        }
        if (pid > 0)
                child_join(pid, output_fd, limit_ms, child);
        if (output_fd >= 0)
                close(output_fd);
}

/* ---- another user's reach ---- */

struct reach {
        const char *path;
        int access_mode, rc;
        bool becomes;
        uid_t uid;
        gid_t gid;
        const char *user;
        char where[PATH_MAX];
};

/* Every folder from the root on, then the file itself. */
static void reach_try(struct reach *reach)
{
        char *const where = reach->where;

        for (const char *slash = strchr(reach->path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                snprintf(where, PATH_MAX, "%.*s", (int)(slash - reach->path), reach->path);
                if (faccessat(AT_FDCWD, where, X_OK, AT_EACCESS) < 0) {
                        reach->rc = -errno;
                        return;
                }
        }
        snprintf(where, PATH_MAX, "%s", reach->path);
        reach->rc = faccessat(AT_FDCWD, where, reach->access_mode, AT_EACCESS) < 0 ? -errno : 0;
}

static void reach_body(void *argument)
{
        struct reach *reach = argument;

        if (reach->becomes &&
            (initgroups(reach->user, reach->gid) < 0 || setgid(reach->gid) < 0 || setuid(reach->uid) < 0))
                reach->rc = -errno;
        else
                reach_try(reach);
}

int ivg_user_reaches(const char *user, const char *path, int access_mode, char where[PATH_MAX])
{
        static struct ivg_child child;
        const struct passwd *entry = getpwnam(user);
        struct reach *reach;
        int rc;

        snprintf(where, PATH_MAX, "%s", user);
        if (!entry)
                return -ESRCH;
        if (entry->pw_uid != geteuid() && geteuid() != 0)
                return -ENOTSUP;
        reach = ivg_shared_new(sizeof(*reach));
        if (!reach)
                return -ENOMEM;
        *reach = (struct reach){.path = path,
                                .access_mode = access_mode,
                                .rc = -ECHILD,
                                .becomes = entry->pw_uid != geteuid(),
                                .uid = entry->pw_uid,
                                .gid = entry->pw_gid,
                                .user = user};
        ivg_child_call(reach_body, reach, IVG_DOCTOR_PROGRAM_MS, &child);
        rc = reach->rc;
        memcpy(where, reach->where, PATH_MAX);
        munmap(reach, sizeof(*reach));
        return rc;
}
