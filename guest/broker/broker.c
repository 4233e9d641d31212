#include "broker.h"
#include "ivgpu/fd_pass.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

uint64_t ivg_broker_now_ms(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- attaching ---- */

static int region_attach(struct ivg_broker *broker, struct ivg_error *error)
{
        const struct ivg_vfio_device *device = &broker->device;
        const struct ivg_region_page *page =
                mmap(NULL, IVG_PAGE_BYTES, PROT_READ, MAP_SHARED, device->device_fd, (off_t)device->region_file_offset);
        int rc;

        if ((const void *)page == MAP_FAILED) {
                rc = -errno;
                ivg_error_set(error, "mapping the region page: %s", strerror(errno));
                return rc;
        }
        /* No calls are made here: whatever table the host has, its programs must have. */
        broker->fingerprint = *(const volatile uint64_t *)&page->call_table_fingerprint;
        rc = ivg_region_check(page, device->region_bytes, broker->fingerprint, &broker->region, error);
        munmap((void *)(uintptr_t)page, IVG_PAGE_BYTES);
        if (rc < 0)
                return rc;
        broker->region.file_offset = device->region_file_offset;
        return ivg_region_map(&broker->region, device->device_fd, IVG_SIDE_GUEST, IVG_CHANNEL_NONE, error);
}

int ivg_broker_open(struct ivg_broker *broker, const char *sysfs_root, const char *device_name, struct ivg_error *error)
{
        int rc;

        broker->device_name = device_name;
        rc = ivg_vfio_device_open(sysfs_root, device_name, &broker->device, error);
        if (rc < 0)
                return rc;
        rc = region_attach(broker, error);
        if (rc == 0 && broker->region.vector_count < 2) {
                ivg_error_set(error, "vector_count %u: a region for local attach", broker->region.vector_count);
                rc = -EINVAL;
        }
        if (rc == 0)
                rc = ivg_vfio_device_interrupts(&broker->device, broker->region.vector_count, error);
        if (rc == 0 && getrandom(&broker->epoch, sizeof(broker->epoch), 0) != sizeof(broker->epoch)) {
                ivg_error_set(error, "boot epoch: getrandom: %s", strerror(errno));
                rc = -EIO;
        }
        broker->epoch |= 1;
        if (rc == 0)
                rc = ivg_broker_channels_start(broker, error);
        if (rc < 0)
                ivg_broker_close(broker);
        return rc;
}

void ivg_broker_close(struct ivg_broker *broker)
{
        for (uint32_t i = 0; i < IVG_CHANNELS_MAX; i++) {
                if (broker->vectors_are_shared && broker->channels[i].interrupt_fd > 0)
                        close(broker->channels[i].interrupt_fd);
        }
        ivg_region_unmap(&broker->region);
        ivg_vfio_device_close(&broker->device);
}

/* ---- programs ---- */

static void program_end(struct ivg_broker *broker, struct ivg_program *program)
{
        if (program->state == IVG_PROGRAM_RUNNING)
                ivg_broker_channel_give_back(broker, program->channel);
        close(program->socket_fd);
        close(program->process_fd);
        *program = (struct ivg_program){.socket_fd = -1, .process_fd = -1};
}

static void program_refuse(struct ivg_broker *broker, struct ivg_program *program, enum ivg_error_code code,
                           const char *text)
{
        (void)ivg_local_send_refusal(program->socket_fd, code, text);
        program_end(broker, program);
}

static int program_welcome(const struct ivg_broker *broker, const struct ivg_program *program)
{
        const struct ivg_broker_channel *channel = &broker->channels[program->channel];
        const int fds[IVG_BROKER_FDS] = {broker->device.device_fd, channel->interrupt_fd};
        const struct ivg_broker_welcome welcome = {
                .common = {.magic = IVG_LOCAL_MAGIC,
                           .code = IVG_ERROR_NONE,
                           .layout_version = IVG_LAYOUT_VERSION,
                           .call_table_fingerprint = broker->fingerprint,
                           .region_bytes = broker->device.region_bytes},
                .channel = program->channel,
                .generation = channel->generation,
                .doorbell_vector = ivg_channel_vector(program->channel, broker->vectors_usable),
                .region_file_offset = broker->device.region_file_offset,
                .doorbell_file_offset = ivg_vfio_device_doorbell_offset(&broker->device),
        };

        return ivg_fds_send(program->socket_fd, &welcome, sizeof(welcome), fds, IVG_BROKER_FDS);
}

static void program_serve(struct ivg_broker *broker, struct ivg_program *program)
{
        const int rc = ivg_broker_channel_claim(broker, program->pid, &program->channel);

        if (rc == -EBUSY) {
                program_refuse(broker, program, IVG_ERROR_QUEUE_FULL, "all channels are in use");
        } else if (rc < 0) {
                if (ivg_broker_now_ms() > program->deadline_ms)
                        program_refuse(broker, program, IVG_ERROR_TIMEOUT,
                                       "no channel came free: the host does not end earlier programs");
        } else {
                program->state = IVG_PROGRAM_RUNNING;
                if (program_welcome(broker, program) < 0)
                        program_end(broker, program);
        }
}

static void program_hello(struct ivg_broker *broker, struct ivg_program *program)
{
        struct ivg_error error = {""};
        struct ucred peer;
        const int rc = ivg_local_receive_hello(program->socket_fd, broker->fingerprint, &peer, &error);

        if (rc == -EAGAIN)
                return;
        if (rc < 0) {
                if (rc == -EPROTO)
                        ivg_broker_log("process %u refused: %s", program->pid, error.text);
                program_end(broker, program);
                return;
        }
        program->state = IVG_PROGRAM_WAITING;
        program->deadline_ms = ivg_broker_now_ms() + IVG_BROKER_CHANNEL_MS;
        program_serve(broker, program);
}

static void program_accept(struct ivg_broker *broker)
{
        const int fd = accept4(broker->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct ivg_program *program = NULL;
        struct ucred peer;
        socklen_t bytes = sizeof(peer);

        if (fd < 0)
                return;
        for (uint32_t i = 0; i < IVG_BROKER_PROGRAMS_MAX && !program; i++) {
                if (broker->programs[i].state == IVG_PROGRAM_NONE)
                        program = &broker->programs[i];
        }
        if (!program || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0) {
                (void)ivg_local_send_refusal(fd, IVG_ERROR_QUEUE_FULL, "too many programs at once");
                close(fd);
                return;
        }
        *program = (struct ivg_program){
                .state = IVG_PROGRAM_CONNECTED,
                .socket_fd = fd,
                .process_fd = (int)syscall(SYS_pidfd_open, peer.pid, 0),
                .pid = (uint32_t)peer.pid,
                .deadline_ms = ivg_broker_now_ms() + IVG_BROKER_HELLO_MS,
        };
        if (program->process_fd < 0) /* gone already */
                program_end(broker, program);
}

/* ---- the loop ---- */

#define WATCHED_MAX (3 + IVG_VECTORS_MAX + 2 * IVG_BROKER_PROGRAMS_MAX)

struct watch {
        struct pollfd fds[WATCHED_MAX];
        uint32_t count;
};

static const struct pollfd *watch_add(struct watch *watch, int fd, short events)
{
        struct pollfd *added = &watch->fds[watch->count++];

        *added = (struct pollfd){.fd = fd, .events = events};
        return added;
}

static void programs_look(struct ivg_broker *broker, const struct pollfd *fds)
{
        const uint64_t now_ms = ivg_broker_now_ms();

        for (uint32_t i = 0; i < IVG_BROKER_PROGRAMS_MAX; i++) {
                struct ivg_program *program = &broker->programs[i];
                const struct pollfd *socket = &fds[2 * i], *process = &fds[2 * i + 1];

                if (program->state == IVG_PROGRAM_NONE)
                        continue;
                /* One that was accepted in this turn has not been watched yet. */
                if (socket->fd != program->socket_fd)
                        continue;
                if (process->revents != 0 || (socket->revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0)
                        program_end(broker, program);
                else if (program->state == IVG_PROGRAM_CONNECTED && socket->revents != 0)
                        program_hello(broker, program);
                else if (program->state == IVG_PROGRAM_CONNECTED && now_ms > program->deadline_ms)
                        program_end(broker, program);
                else if (program->state == IVG_PROGRAM_RUNNING && (socket->revents & POLLIN) != 0)
                        program_end(broker, program); /* there is nothing more to say */
                else if (program->state == IVG_PROGRAM_WAITING)
                        program_serve(broker, program);
        }
}

/* Until something happens, or while channels are ending, until it is time to look at them. */
static int poll_timeout_ms(struct ivg_broker *broker)
{
        const bool ending = ivg_broker_channels_drain(broker);
        bool awaited = false;

        for (uint32_t i = 0; i < IVG_BROKER_PROGRAMS_MAX; i++)
                awaited |= broker->programs[i].state == IVG_PROGRAM_CONNECTED ||
                           broker->programs[i].state == IVG_PROGRAM_WAITING;
        if (!ending)
                return awaited ? (int)IVG_BROKER_DRAIN_LAST_MS : -1;
        broker->drain_ms =
                broker->drain_ms * 2 > IVG_BROKER_DRAIN_LAST_MS ? IVG_BROKER_DRAIN_LAST_MS : broker->drain_ms * 2;
        return (int)broker->drain_ms;
}

const char *ivg_broker_serve(struct ivg_broker *broker)
{
        static struct watch watch; /* too large for a stack frame */

        for (;;) {
                const int timeout_ms = poll_timeout_ms(broker);
                const struct pollfd *signal, *request, *listen, *vectors, *programs;

                watch.count = 0;
                signal = watch_add(&watch, broker->signal_fd, POLLIN);
                request = watch_add(&watch, broker->device.request_fd, POLLIN);
                listen = watch_add(&watch, broker->listen_fd, POLLIN);
                vectors = &watch.fds[watch.count];
                for (uint32_t i = 1; i < broker->vectors_usable; i++)
                        watch_add(&watch, broker->vectors_are_shared ? broker->device.vector_fds[i] : -1, POLLIN);
                programs = &watch.fds[watch.count];
                for (uint32_t i = 0; i < IVG_BROKER_PROGRAMS_MAX; i++) {
                        const bool there = broker->programs[i].state != IVG_PROGRAM_NONE;

                        watch_add(&watch, there ? broker->programs[i].socket_fd : -1, POLLIN | POLLRDHUP);
                        watch_add(&watch, there ? broker->programs[i].process_fd : -1, POLLIN);
                }
                if (poll(watch.fds, watch.count, timeout_ms) < 0 && errno != EINTR)
                        return strerror(errno);
                if (signal->revents != 0)
                        return "ended by a signal";
                if (request->revents != 0)
                        return "the device is going";
                for (uint32_t i = 1; i < broker->vectors_usable; i++) {
                        if (vectors[i - 1].revents != 0)
                                ivg_broker_vector_ready(broker, i);
                }
                programs_look(broker, programs);
                if (listen->revents != 0)
                        program_accept(broker);
        }
}
