/* What the driver prints for kernels: printf and failed assertions.
 *
 * The driver writes to stdout and stderr of the process that it lives in, through libc or not, when it synchronizes.
 * Both descriptors become memory files here, which cannot block the driver, and the log keeps the old stderr, so that
 * no guest's text gets into the host's journal. What has been fetched is punched out: the files' lengths only grow,
 * their memory does not. */
#include "exec_internal.h"
#include "host_args.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define STREAMS 2u
#define LEFT_OVER_BYTES 4096u /* of unfetched text, shown at the end */

/* Of the process, as its descriptors are. */
static struct {
        pthread_mutex_t mutex;
        bool opened;
        int fds[STREAMS]; /* our own descriptors of the files: whoever closes 1 or 2 takes nothing from us */
        uint64_t taken[STREAMS];
} output = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* AddressSanitizer and its kin write to descriptor 2 when this process is at fault: to the log instead. */
__attribute__((weak)) void __sanitizer_set_report_fd(void *fd);

static int open_file(const char *name)
{
        const int fd = memfd_create(name, MFD_CLOEXEC);

        if (fd >= 0 && fcntl(fd, F_SETFL, O_APPEND) < 0) {
                close(fd);
                return -1;
        }
        return fd;
}

int ivg_output_open(void)
{
        const int log = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        const int out = open_file("ivgpu-stdout"), error = open_file("ivgpu-stderr");
        int saved;

        if (log >= 0 && out >= 0 && error >= 0 && dup2(out, STDOUT_FILENO) >= 0 && dup2(error, STDERR_FILENO) >= 0) {
                ivg_log_set_fd(log);
                if (__sanitizer_set_report_fd)
                        __sanitizer_set_report_fd((void *)(intptr_t)log);
                output.fds[0] = out;
                output.fds[1] = error;
                output.opened = true;
                return 0;
        }
        saved = errno ? errno : EIO;
        if (log >= 0) { /* stdout leads into a file that nobody reads, at worst */
                dup2(log, STDERR_FILENO);
                close(log);
        }
        if (out >= 0)
                close(out);
        if (error >= 0)
                close(error);
        errno = saved;
        return -saved;
}

/* With the mutex: how long the file is; 0 when it cannot be told. */
static uint64_t file_bytes(uint32_t stream)
{
        struct stat status;

        return fstat(output.fds[stream], &status) == 0 ? (uint64_t)status.st_size : 0;
}

static void punch(uint32_t stream, uint64_t from, uint64_t to)
{
        from &= ~(uint64_t)(IVG_PAGE_BYTES - 1);
        to &= ~(uint64_t)(IVG_PAGE_BYTES - 1);
        if (to > from)
                (void)fallocate(output.fds[stream], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
                                (off_t)(to - from)); /* memory that stays is only memory */
}

static void drop_oldest(uint32_t stream, uint64_t bytes)
{
        const uint64_t first = bytes - IVG_OUTPUT_UNREAD_MAX;

        ivg_log(IVG_LOG_WARNING, "kernels have printed %llu bytes that the guest did not fetch: the oldest go",
                (unsigned long long)(bytes - output.taken[stream]));
        punch(stream, output.taken[stream], first);
        output.taken[stream] = first;
}

void ivg_output_publish(struct ivg_exec *exec)
{
        uint64_t printed = 0;

        if (!output.opened) /* set before the first thread */
                return;
        fflush(stdout); /* a driver that prints through libc */
        pthread_mutex_lock(&output.mutex);
        for (uint32_t i = 0; i < STREAMS; i++) {
                const uint64_t bytes = file_bytes(i);

                printed += bytes;
                if (bytes > output.taken[i] + IVG_OUTPUT_UNREAD_MAX)
                        drop_oldest(i, bytes);
        }
        /* Relaxed: the answer that follows orders it. Lengths only grow, and the mutex makes the word grow with them.
         */
        if (printed != ivg_load_relaxed_u64(&exec->completions[IVG_OUTPUT_PRINTED]))
                ivg_store_relaxed_u64(&exec->completions[IVG_OUTPUT_PRINTED], printed);
        pthread_mutex_unlock(&output.mutex);
}

CUresult ivg_host_ivgOutputFetch(struct ivg_exec_call *call, const struct ivg_args_ivgOutputFetch *args)
{
        const uint32_t stream = args->stream - 1;
        ssize_t used;

        if (stream >= STREAMS)
                return ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, args->stream);
        if (!output.opened || !args->text)
                return CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_lock(&output.mutex);
        used = pread(output.fds[stream], args->text, args->text_bytes, (off_t)output.taken[stream]);
        if (used > 0) {
                punch(stream, output.taken[stream], output.taken[stream] + (uint64_t)used);
                output.taken[stream] += (uint64_t)used;
        }
        pthread_mutex_unlock(&output.mutex);
        args->answer->used = used > 0 ? (uint32_t)used : 0;
        return CUDA_SUCCESS;
}

void ivg_output_close(void)
{
        char text[LEFT_OVER_BYTES];
        ssize_t used;

        /* Not while a thread that is stuck in the driver may hold it. Of stdout nothing: that was the program's own. */
        if (!output.opened || pthread_mutex_trylock(&output.mutex) != 0)
                return;
        used = pread(output.fds[1], text, sizeof(text), (off_t)output.taken[1]);
        if (used > 0 && write(ivg_log_fd(), text, (size_t)used) < 0)
                ivg_log(IVG_LOG_WARNING, "unfetched text was lost");
        pthread_mutex_unlock(&output.mutex);
}
