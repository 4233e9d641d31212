/* Doorbells that channels share: where a VM has fewer vectors than channels, the executors cannot wait on them
 * themselves, since one would take the ring that was meant for another. The mediator waits, and wakes the executors
 * whose awaited record is there: those and no others, so that a ring costs one wake-up however many channels share its
 * vector. */
#include "mediator.h"
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void wake_if_awaited(const struct ivg_channel *channel)
{
        const struct ivg_region *region = &channel->tenant->region;
        /* Of the guest's memory one word is looked at: a guest that lies wakes, or does not wake, its own executor. */
        const struct ivg_ring ring = {.guest = ivg_region_ring_guest(region, channel->index),
                                      .host = ivg_region_ring_host(region, channel->index),
                                      .generation = channel->generation};
        const uint64_t one = 1;

        if (channel->executor && ivg_ring_consumer_missed_a_record(&ring) &&
            write(channel->doorbell_fd, &one, sizeof(one)) < 0 && errno != EAGAIN) /* full wakes as well */
                ivg_log(IVG_EVENT_DOORBELL_FAILED, ivg_about_channel(channel, IVG_ERROR_NONE),
                        "%s: doorbell of channel %u: %s", channel->tenant->name, channel->index, strerror(errno));
}

static void relay_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        const struct ivg_relay *relay = (void *)((char *)source - offsetof(struct ivg_relay, source));
        const struct ivg_tenant *tenant = relay->tenant;
        uint64_t rings;

        (void)mediator;
        (void)events;
        /* Drained first: a record that comes after this look rings again. */
        if (read(source->fd, &rings, sizeof(rings)) != (ssize_t)sizeof(rings))
                return;
        for (uint32_t i = relay->vector - 1; i < tenant->region.channel_count; i += tenant->vectors_usable - 1)
                wake_if_awaited(&tenant->channels[i]);
}

void ivg_relays_init(struct ivg_tenant *tenant)
{
        for (uint32_t i = 0; i < IVG_VECTORS_MAX; i++)
                tenant->relays[i] = (struct ivg_relay){.source = {.fd = -1}, .tenant = tenant, .vector = i};
        for (uint32_t i = 0; i < IVG_CHANNELS_MAX; i++)
                tenant->channels[i].doorbell_fd = -1;
        tenant->vectors_usable = tenant->region.vector_count;
}

static int channel_open(struct ivg_channel *channel)
{
        if (channel->doorbell_fd < 0)
                channel->doorbell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        return channel->doorbell_fd < 0 ? -errno : 0;
}

static int relay_open(struct ivg_relay *relay)
{
        int rc;

        relay->source =
                (struct ivg_source){.fd = relay->tenant->doorbells.to_host[relay->vector], .ready = relay_ready};
        rc = ivg_loop_watch(relay->tenant->mediator, &relay->source);
        if (rc < 0)
                relay->source.fd = -1;
        return rc;
}

static void relays_unwatch(struct ivg_tenant *tenant)
{
        for (uint32_t i = 0; i < IVG_VECTORS_MAX; i++)
                ivg_loop_unwatch(tenant->mediator, &tenant->relays[i].source);
}

int ivg_relays_adopt(struct ivg_tenant *tenant, uint32_t vectors_used)
{
        const uint32_t channels = tenant->region.channel_count;
        int rc = 0;

        if (tenant->kind == IVG_TENANT_LOCAL)
                return 0;
        relays_unwatch(tenant);
        tenant->vectors_usable = ivg_vectors_usable(tenant->region.vector_count, vectors_used);
        if (!ivg_vectors_are_shared(channels, tenant->vectors_usable))
                return 0;
        for (uint32_t i = 0; i < channels && rc == 0; i++)
                rc = channel_open(&tenant->channels[i]);
        for (uint32_t i = 1; i < tenant->vectors_usable && rc == 0; i++)
                rc = relay_open(&tenant->relays[i]);
        return rc;
}

void ivg_relays_end(struct ivg_tenant *tenant)
{
        relays_unwatch(tenant);
        for (uint32_t i = 0; i < IVG_CHANNELS_MAX; i++) {
                if (tenant->channels[i].doorbell_fd >= 0)
                        close(tenant->channels[i].doorbell_fd);
                tenant->channels[i].doorbell_fd = -1;
        }
}
