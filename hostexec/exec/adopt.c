#include "adopt.h"
#include "ivgpu/fd_pass.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

static int wait_for_word(int control_fd, int signal_fd)
{
        struct pollfd fds[2] = {{.fd = control_fd, .events = POLLIN}, {.fd = signal_fd, .events = POLLIN}};

        while (poll(fds, 2, -1) < 0)
                if (errno != EINTR)
                        return -errno;
        return fds[1].revents ? -ECANCELED : 0;
}

static bool message_valid(const struct ivg_exec_adoption *message, long bytes, uint32_t fd_count)
{
        return bytes == (long)sizeof(*message) && message->magic == IVG_EXEC_CONTROL_MAGIC &&
               message->type == IVG_EXEC_ADOPT && message->given < 1u << IVG_EXEC_SLOTS &&
               (message->given & IVG_EXEC_SLOTS_NEEDED) == IVG_EXEC_SLOTS_NEEDED &&
               (uint32_t)__builtin_popcount(message->given) == fd_count;
}

int ivg_exec_adopt(int control_fd, int signal_fd, struct ivg_exec_config *config, uint32_t *vm_id,
                   struct ivg_error *error)
{
        struct ivg_exec_adoption message = {0};
        int fds[IVG_FDS_PER_MESSAGE_MAX], slots[IVG_EXEC_SLOTS];
        uint32_t fd_count = 0, next = 0;
        int rc = wait_for_word(control_fd, signal_fd);
        long bytes;

        _Static_assert((uint32_t)IVG_EXEC_SLOTS <= IVG_FDS_PER_MESSAGE_MAX, "one message carries them");
        if (rc < 0)
                return rc;
        bytes = ivg_fds_receive(control_fd, &message, sizeof(message), fds, &fd_count);
        if (bytes <= 0)
                return -EPIPE;
        if (!message_valid(&message, bytes, fd_count)) {
                ivg_error_set(error, "no channel in a message of %ld bytes with %u descriptors (slots 0x%x)", bytes,
                              fd_count, message.given);
                while (fd_count > 0)
                        close(fds[--fd_count]);
                return -EPROTO;
        }
        for (uint32_t slot = 0; slot < IVG_EXEC_SLOTS; slot++)
                slots[slot] = message.given & 1u << slot ? fds[next++] : -1;
        *config = (struct ivg_exec_config){
                .region_fd = slots[IVG_EXEC_SLOT_REGION],
                .doorbell_fd = slots[IVG_EXEC_SLOT_DOORBELL],
                .interrupt_fd = slots[IVG_EXEC_SLOT_INTERRUPT],
                .ipc_fd = slots[IVG_EXEC_SLOT_IPC],
                .share_fd = slots[IVG_EXEC_SLOT_SHARE],
                .images_fd = slots[IVG_EXEC_SLOT_IMAGES],
                .board_fd = slots[IVG_EXEC_SLOT_BOARD],
                .kick_fd = slots[IVG_EXEC_SLOT_KICK],
                .vram_fd = slots[IVG_EXEC_SLOT_VRAM],
                .vram_place = message.vram_place,
                .channel = message.channel,
                .generation = message.generation,
        };
        *vm_id = message.vm_id;
        return 0;
}
