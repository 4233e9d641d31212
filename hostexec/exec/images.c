/* An executor's way to the keeper of images: one question at a time, bounded; any trouble ends it, and images are sent
 * from then on. */
#include "exec_internal.h"
#include "image_control.h"
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>

struct ivg_images {
        pthread_mutex_t mutex; /* lanes take turns, from question to answer */
        int fd;                /* under the mutex; -1: no keeper (any more) */
        uint64_t sequence;     /* under the mutex */
        _Atomic(uint32_t) usable;
};

struct ivg_images *ivg_images_create(int fd)
{
        struct ivg_images *images = calloc(1, sizeof(*images));

        if (!images)
                return NULL;
        pthread_mutex_init(&images->mutex, NULL);
        images->fd = fd;
        ivg_store_relaxed_u32(&images->usable, fd >= 0);
        return images;
}

/* The mutex is held, or one thread is left. */
static void give_up(struct ivg_images *images, const char *why)
{
        if (why)
                ivg_log(IVG_LOG_WARNING, "the keeper of images %s: every image is sent from now on", why);
        ivg_store_relaxed_u32(&images->usable, 0); /* relaxed: whoever misses it finds no descriptor */
        if (images->fd >= 0)
                close(images->fd);
        images->fd = -1;
}

void ivg_images_destroy(struct ivg_images *images)
{
        if (!images)
                return;
        give_up(images, NULL);
        pthread_mutex_destroy(&images->mutex);
        free(images);
}

bool ivg_images_usable(struct ivg_images *images)
{
        return ivg_load_relaxed_u32(&images->usable) != 0;
}

static struct ivg_images_message message_of(const struct ivg_wire_image_name *name, enum ivg_images_type type)
{
        struct ivg_images_message message = {.magic = IVG_IMAGES_MAGIC, .type = type, .bytes = name->bytes};

        _Static_assert(sizeof(message.digest) == sizeof(name->digest), "as it travels");
        memcpy(&message.digest, name->digest, sizeof(message.digest));
        return message;
}

/* ---- questions ---- */

/* The answer to question `sequence`, with a descriptor or -1; false: there is none to be had. */
static bool answer_wait(struct ivg_images *images, struct ivg_images_message *answer, int *fd)
{
        struct pollfd socket = {.fd = images->fd, .events = POLLIN};
        const uint64_t end_ns = ivg_clock_ns() + IVG_IMAGES_ANSWER_MS * 1000000ull;

        for (;;) {
                int rc = ivg_images_receive(images->fd, answer, fd);

                if (rc == 0)
                        return answer->sequence == images->sequence && (answer->type == IVG_IMAGES_FOUND) == (*fd >= 0);
                if (rc != -EAGAIN || ivg_clock_ns() >= end_ns)
                        return false;
                (void)poll(&socket, 1, IVG_IMAGES_ANSWER_MS);
        }
}

/* The mutex is held. */
static int ask(struct ivg_images *images, const struct ivg_wire_image_name *name)
{
        struct ivg_images_message message = message_of(name, IVG_IMAGES_FIND);
        int fd = -1;

        if (images->fd < 0)
                return -1;
        message.sequence = ++images->sequence;
        if (ivg_images_send(images->fd, &message, -1) == 0 && answer_wait(images, &message, &fd))
                return fd;
        if (fd >= 0)
                close(fd);
        give_up(images, "does not answer");
        return -1;
}

bool ivg_images_find(struct ivg_images *images, const struct ivg_wire_image_name *name, struct ivg_image_view *view)
{
        void *data = MAP_FAILED;
        int fd;

        pthread_mutex_lock(&images->mutex);
        fd = ask(images, name);
        pthread_mutex_unlock(&images->mutex);
        if (fd < 0)
                return false;
        /* Sealed: it neither shrinks under the mapping nor changes under the driver. */
        if (ivg_images_sealed(fd, name->bytes))
                data = mmap(NULL, name->bytes, PROT_READ, MAP_SHARED, fd, 0);
        close(fd);
        if (data == MAP_FAILED)
                return false;
        *view = (struct ivg_image_view){.data = data, .bytes = name->bytes};
        return true;
}

void ivg_images_unmap(struct ivg_image_view *view)
{
        munmap((void *)(uintptr_t)view->data, view->bytes);
}

/* ---- offers ---- */

bool ivg_images_keep(struct ivg_exec_call *call, const struct ivg_wire_image_name *name, const void *data)
{
        const struct ivg_images_message message = message_of(name, IVG_IMAGES_KEEP);
        struct ivg_images *images = call->exec->images;
        const int fd = ivg_exec_temporary_fd(call, data);
        int rc = -EPIPE;

        if (fd < 0)
                return false;
        pthread_mutex_lock(&images->mutex);
        if (images->fd >= 0)
                rc = ivg_images_send(images->fd, &message, fd);
        if (rc != 0 && rc != -EAGAIN && images->fd >= 0) /* a full socket: the keeper is busy, another time then */
                give_up(images, "is gone");
        pthread_mutex_unlock(&images->mutex);
        return rc == 0;
}
