/* Shareable handles: a descriptor of this guest that stands for memory or a pool on the host. It is a sealed memory
 * file with a ticket in it (ipc.c of the executor), so it goes wherever descriptors go: by fork, over a UNIX socket.
 *
 * As long as anybody holds such a descriptor, the memory lives. Each one that the program gets is an open file of its
 * own with a shared lock on it; the lock goes with the last duplicate of that open file, in whatever process. So
 * whoever gets the exclusive lock knows that none is left. This process keeps one descriptor to ask with. */
#include "guest.h"
#include "memory.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

static pthread_mutex_t share_lock = PTHREAD_MUTEX_INITIALIZER; /* an object's first export */

/* An object's data: 1 + the descriptor to ask with. */
static int asking_fd(const struct ivg_object *object)
{
        return (int)(intptr_t)object->data - 1;
}

static int file_create(const struct ivg_wire_ticket *ticket)
{
        const int fd = memfd_create("ivgpu-share", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        if (fd < 0)
                return -1;
        if (write(fd, ticket, sizeof(*ticket)) == (ssize_t)sizeof(*ticket) && fcntl(fd, F_ADD_SEALS, SEALS) == 0)
                return fd;
        close(fd);
        return -1;
}

/* Another open file of the same memory file, locked. */
static int file_open_again(int fd)
{
        char path[32];
        int again;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        again = open(path, O_RDONLY | O_CLOEXEC);
        if (again >= 0 && flock(again, LOCK_SH | LOCK_NB) != 0) {
                close(again);
                again = -1;
        }
        return again;
}

CUresult ivg_share_export(struct ivg_object *object, CUresult (*send)(ivg_id id, struct ivg_wire_ticket *ticket),
                          int *descriptor)
{
        struct ivg_wire_ticket ticket;
        CUresult result = CUDA_SUCCESS;
        int fd;

        pthread_mutex_lock(&share_lock);
        fd = asking_fd(object);
        if (fd < 0) {
                result = send(object->id, &ticket);
                fd = result == CUDA_SUCCESS ? file_create(&ticket) : -1;
                object->data = (void *)(intptr_t)(fd + 1);
        }
        *descriptor = fd >= 0 ? file_open_again(fd) : -1;
        pthread_mutex_unlock(&share_lock);
        if (result == CUDA_SUCCESS && *descriptor < 0) {
                ivg_log("a shareable handle cannot be made: %s", strerror(errno));
                result = CUDA_ERROR_OPERATING_SYSTEM;
        }
        return result;
}

CUresult ivg_share_read(int descriptor, struct ivg_wire_ticket *ticket)
{
        const int seals = fcntl(descriptor, F_GET_SEALS);

        if (seals < 0 || (seals & SEALS) != SEALS ||
            pread(descriptor, ticket, sizeof(*ticket), 0) != (ssize_t)sizeof(*ticket))
                return CUDA_ERROR_INVALID_VALUE;
        return CUDA_SUCCESS;
}

bool ivg_share_held(const struct ivg_object *object)
{
        const int fd = asking_fd(object);

        if (fd < 0)
                return false;
        if (flock(fd, LOCK_EX | LOCK_NB) != 0)
                return true;
        (void)flock(fd, LOCK_UN);
        return false;
}

void ivg_share_end(struct ivg_object *object)
{
        const int fd = asking_fd(object);

        object->data = NULL;
        if (fd >= 0)
                close(fd);
}
