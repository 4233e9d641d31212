#include "driver_find.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

_Static_assert(IVG_DRIVER_PATH_BYTES >= PATH_MAX, "realpath writes into such a buffer");

/* What every build of the shim contains (link.c reads it) and no driver does. */
#define SHIM_MARK "IVGPU_CHANNEL"

static const char *const usual_places[] = {
        "libcuda.so.1",
        "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
        "/usr/lib64/libcuda.so.1",
        "/usr/lib/libcuda.so.1",
        "/usr/local/nvidia/lib64/libcuda.so.1",
        "/usr/lib/wsl/lib/libcuda.so.1",
        "/run/opengl-driver/lib/libcuda.so.1",
        NULL,
};

struct verdict { /* the child's, through a pipe */
        char path[IVG_DRIVER_PATH_BYTES];
        char refusal[sizeof(((struct ivg_error *)NULL)->text)]; /* empty: found */
};

bool ivg_driver_is_shim(const char *path)
{
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat status;
        void *file = MAP_FAILED;
        bool found = false;

        if (fd >= 0 && fstat(fd, &status) == 0 && status.st_size > 0)
                file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (file != MAP_FAILED) {
                found = memmem(file, (size_t)status.st_size, SHIM_MARK, strlen(SHIM_MARK)) != NULL;
                munmap(file, (size_t)status.st_size);
        }
        if (fd >= 0)
                close(fd);
        return found;
}

/* ---- in the child ---- */

static void refusal_add(struct verdict *verdict, const char *path, const char *why)
{
        const size_t used = strlen(verdict->refusal);

        snprintf(verdict->refusal + used, sizeof(verdict->refusal) - used, "%s%.100s: %.120s", used ? "; " : "", path,
                 why);
}

static bool try_one(const char *path, struct verdict *verdict)
{
        void *library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
        struct link_map *map;

        if (!library) {
                refusal_add(verdict, path, dlerror());
                return false;
        }
        if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0 || !realpath(map->l_name, verdict->path)) {
                refusal_add(verdict, path, "its file is not to be found");
                return false;
        }
        if (ivg_driver_is_shim(verdict->path)) {
                refusal_add(verdict, verdict->path, "is ivgpu's own libcuda.so.1");
                return false;
        }
        if (!dlsym(library, "cuInit")) {
                refusal_add(verdict, path, "lacks cuInit");
                return false;
        }
        return true;
}

static void find_in_child(const char *path, int pipe_fd) __attribute__((noreturn));

static void find_in_child(const char *path, int pipe_fd)
{
        static struct verdict verdict;
        const char *const one[] = {path, NULL};
        bool found = false;

        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        for (const char *const *place = path ? one : usual_places; *place && !found; place++) {
                if (!path && (*place)[0] == '/' && access(*place, F_OK) != 0)
                        continue; /* not worth a word */
                found = try_one(*place, &verdict);
        }
        if (found)
                verdict.refusal[0] = '\0';
        /* Below PIPE_BUF's guarantee or not: one reader, one writer. */
        for (size_t done = 0; done < sizeof(verdict);) {
                const ssize_t bytes = write(pipe_fd, (char *)&verdict + done, sizeof(verdict) - done);

                if (bytes <= 0)
                        _exit(1);
                done += (size_t)bytes;
        }
        _exit(0); /* without the driver's atexit handlers */
}

/* ---- in the parent ---- */

static int verdict_read(int pipe_fd, struct verdict *verdict)
{
        struct pollfd watched = {.fd = pipe_fd, .events = POLLIN};
        size_t done = 0;

        while (done < sizeof(*verdict)) {
                ssize_t bytes;
                const int ready = poll(&watched, 1, (int)IVG_DRIVER_FIND_MS); /* the whole comes at once, at the end */

                if (ready < 0 && errno == EINTR)
                        continue;
                if (ready <= 0)
                        return -ETIMEDOUT;
                bytes = read(pipe_fd, (char *)verdict + done, sizeof(*verdict) - done);
                if (bytes <= 0)
                        return -ECHILD;
                done += (size_t)bytes;
        }
        return 0;
}

int ivg_driver_find(const char *path, char found[IVG_DRIVER_PATH_BYTES], struct ivg_error *error)
{
        struct verdict *verdict = calloc(1, sizeof(*verdict));
        int pipe_fds[2], rc;
        pid_t pid;

        if (!verdict || pipe2(pipe_fds, O_CLOEXEC) < 0) {
                free(verdict);
                ivg_error_set(error, "looking for the driver: no memory or descriptors");
                return -ENOMEM;
        }
        pid = fork();
        if (pid == 0)
                find_in_child(path, pipe_fds[1]);
        close(pipe_fds[1]);
        rc = pid < 0 ? -EAGAIN : verdict_read(pipe_fds[0], verdict);
        close(pipe_fds[0]);
        if (pid > 0) {
                kill(pid, SIGKILL);
                while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                        continue;
        }
        if (rc == 0 && verdict->refusal[0] != '\0') {
                ivg_error_set(error, "%s", verdict->refusal);
                rc = -ENODEV;
        } else if (rc == -ETIMEDOUT) {
                ivg_error_set(error, "the driver was not loaded within %u ms", IVG_DRIVER_FIND_MS);
        } else if (rc < 0) {
                ivg_error_set(error, "%s ended the process that tried it", path ? path : "the driver");
        } else {
                strcpy(found, verdict->path);
        }
        free(verdict);
        return rc;
}

int ivg_path_beside_program(const char *relative, char path[IVG_DRIVER_PATH_BYTES])
{
        char program[IVG_DRIVER_PATH_BYTES], joined[2 * IVG_DRIVER_PATH_BYTES];
        const ssize_t bytes = readlink("/proc/self/exe", program, sizeof(program) - 1);

        if (bytes < 0)
                return -errno;
        program[bytes] = '\0';
        *strrchr(program, '/') = '\0'; /* an absolute path: it has one */
        snprintf(joined, sizeof(joined), "%s/%s", program, relative);
        return realpath(joined, path) ? 0 : -errno;
}

int ivg_path_of_helper(const char *name, char path[IVG_DRIVER_PATH_BYTES])
{
        char installed[IVG_DRIVER_PATH_BYTES];
        const int rc = ivg_path_beside_program(name, path);

        if (rc != -ENOENT)
                return rc;
        snprintf(installed, sizeof(installed), "../lib/ivgpu-host/%s", name);
        return ivg_path_beside_program(installed, path);
}
