/* The guest driver's part for every channel: guest_part.h writes the words, here is when. */
#include "broker.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void control_ring(const struct ivg_broker *broker)
{
        const int rc = ivg_vfio_device_ring(&broker->device, broker->region.doorbell_peer, 0);

        if (rc < 0)
                ivg_broker_log("the control doorbell: %s", strerror(-rc));
}

static int epoch_begin(struct ivg_broker *broker, struct ivg_error *error)
{
        const uint64_t deadline_ms = ivg_broker_now_ms() + IVG_BROKER_EPOCH_MS;

        ivg_guest_epoch_begin(&broker->region, broker->epoch, broker->vectors_usable);
        control_ring(broker);
        while (!ivg_guest_epoch_is_seen(&broker->region, broker->epoch)) {
                if (ivg_broker_now_ms() > deadline_ms) {
                        ivg_error_set(error, "the host has not answered within %u ms", IVG_BROKER_EPOCH_MS);
                        return -ETIMEDOUT;
                }
                usleep(1000);
        }
        return 0;
}

int ivg_broker_channels_start(struct ivg_broker *broker, struct ivg_error *error)
{
        broker->vectors_usable = broker->device.vectors_count;
        broker->vectors_are_shared = ivg_vectors_are_shared(broker->region.channel_count, broker->vectors_usable);
        for (uint32_t i = 0; i < broker->region.channel_count; i++) {
                struct ivg_broker_channel *channel = &broker->channels[i];

                channel->interrupt_fd =
                        broker->vectors_are_shared
                                ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
                                : broker->device.vector_fds[ivg_channel_vector(i, broker->vectors_usable)];
                if (channel->interrupt_fd < 0) {
                        ivg_error_set(error, "eventfd: %s", strerror(errno));
                        return -EMFILE;
                }
        }
        return epoch_begin(broker, error);
}

static void program_name(uint32_t pid, char name[32])
{
        char path[64];
        FILE *file;

        snprintf(path, sizeof(path), "/proc/%u/comm", pid);
        file = fopen(path, "re");
        if (!file || !fgets(name, 32, file))
                strcpy(name, "?");
        name[strcspn(name, "\n")] = '\0';
        if (file)
                fclose(file);
}

int ivg_broker_channel_claim(struct ivg_broker *broker, uint32_t pid, uint32_t *index)
{
        bool ending = false;
        char name[32];

        for (uint32_t i = 0; i < broker->region.channel_count; i++) {
                struct ivg_broker_channel *channel = &broker->channels[i];

                ending |= channel->state == IVG_BROKER_DRAINING;
                if (channel->state != IVG_BROKER_FREE ||
                    ivg_channel_word_state(ivg_guest_channel_host_word(&broker->region, i)) != IVG_HOST_CHANNEL_FREE)
                        continue;
                /* The host's word is FREE: no executor uses what an earlier owner left. */
                ivg_guest_extents_release_all(&broker->region, i);
                program_name(pid, name);
                channel->generation = ivg_guest_channel_open(&broker->region, i, pid, name);
                channel->state = IVG_BROKER_OPEN;
                control_ring(broker);
                *index = i;
                return 0;
        }
        return ending ? -EAGAIN : -EBUSY;
}

void ivg_broker_channel_give_back(struct ivg_broker *broker, uint32_t index)
{
        struct ivg_broker_channel *channel = &broker->channels[index];

        ivg_guest_channel_store(&broker->region, index, channel->generation, IVG_GUEST_CHANNEL_CLOSED);
        control_ring(broker);
        channel->state = IVG_BROKER_DRAINING;
        broker->drain_ms = IVG_BROKER_DRAIN_FIRST_MS;
}

bool ivg_broker_channels_drain(struct ivg_broker *broker)
{
        bool ending = false;

        for (uint32_t i = 0; i < broker->region.channel_count; i++) {
                struct ivg_broker_channel *channel = &broker->channels[i];

                if (channel->state != IVG_BROKER_DRAINING)
                        continue;
                if (!ivg_guest_channel_is_done(&broker->region, i, channel->generation)) {
                        ending = true;
                        continue;
                }
                ivg_guest_extents_release_all(&broker->region, i);
                ivg_guest_channel_store(&broker->region, i, channel->generation, IVG_GUEST_CHANNEL_FREE);
                channel->state = IVG_BROKER_FREE;
        }
        return ending;
}

void ivg_broker_vector_ready(struct ivg_broker *broker, uint32_t vector)
{
        const struct ivg_host_pages *host = ivg_region_host_pages(&broker->region);
        const uint64_t one = 1;
        uint64_t count;

        /* Drained first: what is stored after this look interrupts again. */
        if (read(broker->device.vector_fds[vector], &count, sizeof(count)) < 0)
                return;
        for (uint32_t i = vector - 1; i < broker->region.channel_count; i += broker->vectors_usable - 1) {
                struct ivg_broker_channel *channel = &broker->channels[i];
                /* I2: the state first. Its acquire makes a count of the same life or later the one that is read next.
                 */
                const uint64_t state = ivg_guest_channel_host_word(&broker->region, i);
                const uint64_t interrupts = ivg_load_acquire_u64(&host->channels[i].interrupts);

                if (state == channel->state_seen && interrupts == channel->interrupts_seen)
                        continue;
                channel->state_seen = state;
                channel->interrupts_seen = interrupts;
                if (channel->state == IVG_BROKER_OPEN && write(channel->interrupt_fd, &one, sizeof(one)) < 0)
                        continue; /* full: it is being woken anyway */
        }
}
