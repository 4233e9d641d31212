/* The guest driver's part in a channel's life (states: region_layout.h), played by the process itself.
 *
 * The words themselves, and their labels G1 and H2: guest_part.c. */
#include "link_internal.h"
#include <poll.h>
#include <string.h>

/* How often one opening may find that the host has started a new generation under it. Once is normal (a new boot epoch
 * ends all older channels); a host that keeps doing it is broken. */
#define CLAIMS_MAX 4u

static const struct ivg_host_channel *host_channel(const struct ivg_link *link)
{
        return &ivg_region_host_pages(&link->region)->channels[link->channel];
}

void ivg_link_channel_claim(struct ivg_link *link)
{
        link->generation =
                ivg_guest_channel_open(&link->region, link->channel, (uint32_t)getpid(), program_invocation_short_name);
        link->claimed = true;
        link->transport->ring_control(link);
}

void ivg_link_channel_close(struct ivg_link *link)
{
        if (!link->claimed)
                return;
        if (link->transport->channel_close != NULL) {
                link->claimed = false;
                link->transport->channel_close(link);
                return;
        }
        ivg_guest_channel_store(&link->region, link->channel, link->generation, IVG_GUEST_CHANNEL_CLOSED);
        link->claimed = false;
        link->transport->ring_control(link);
}

void ivg_link_step(struct ivg_link *link, uint64_t *step_ns)
{
        struct pollfd watched[2] = {{.fd = link->socket_fd, .events = POLLRDHUP},
                                    {.fd = link->interrupt_fd, .events = POLLIN}};
        const struct timespec step = {.tv_nsec = (long)*step_ns};
        uint64_t drained;

        /* Descriptors of -1 are passed over: then this is a sleep. */
        if (ppoll(watched, 2, &step, NULL) > 0) {
                if (watched[0].revents != 0)
                        atomic_store(&link->mediator_gone, 1);
                if (watched[1].revents != 0)
                        (void)!read(link->interrupt_fd, &drained, sizeof(drained)); /* only drained: no one waits yet */
        }
        *step_ns = ivg_min_u64(*step_ns * 2, IVG_LINK_STEP_NS_MAX);
}

static int channel_failed(struct ivg_link *link, struct ivg_link_request *request, const char *what)
{
        /* Stored by the host before the state word, which we have seen. */
        const uint32_t reason = ivg_load_relaxed_u32(&host_channel(link)->reason);

        request->code = reason != IVG_ERROR_NONE && reason <= IVG_ERROR_VM_QUARANTINED ? (enum ivg_error_code)reason
                                                                                       : IVG_ERROR_MEDIATOR_UNAVAILABLE;
        ivg_error_set(request->error, "channel %u: the executor %s: %s (%u)", link->channel, what,
                      ivg_error_code_name((enum ivg_error_code)reason), reason);
        return -ECONNABORTED;
}

static int ring_must_be_open(const struct ivg_link *link, struct ivg_link_request *request)
{
        /* S2, pairs with S1 in ivg_consumer_open(): head and mailboxes are in their first state. */
        const uint64_t status = ivg_load_acquire_u64(&ivg_region_ring_host(&link->region, link->channel)->status);

        if (status == ivg_channel_word(link->generation, IVG_RING_OPEN))
                return 0;
        ivg_error_set(request->error,
                      "channel %u is READY but its ring has state %u of generation %u, expected %u of %u",
                      link->channel, ivg_channel_word_state(status), ivg_channel_word_generation(status), IVG_RING_OPEN,
                      link->generation);
        return -EPROTO;
}

/* 1: keep waiting. */
static int channel_progress(struct ivg_link *link, struct ivg_link_request *request, uint32_t *claims)
{
        /* With READY the executor has opened the ring, with FAILED or DEAD the reason is there. */
        const uint64_t word = ivg_guest_channel_host_word(&link->region, link->channel);
        const uint32_t generation = ivg_channel_word_generation(word);
        const uint32_t state = ivg_channel_word_state(word);

        if (generation != link->generation) {
                if (state == IVG_HOST_CHANNEL_FREE && link->transport->channel_close == NULL &&
                    ++*claims <= CLAIMS_MAX) {
                        ivg_link_channel_claim(link);
                        return 1;
                }
                ivg_error_set(request->error, "channel %u: claimed generation %u, the host is at %u, state %u",
                              link->channel, link->generation, generation, state);
                return -EPROTO;
        }
        switch (state) {
        case IVG_HOST_CHANNEL_FREE:
        case IVG_HOST_CHANNEL_STARTING:
                return 1;
        case IVG_HOST_CHANNEL_READY:
                return ring_must_be_open(link, request);
        case IVG_HOST_CHANNEL_FAILED:
                return channel_failed(link, request, "did not start");
        case IVG_HOST_CHANNEL_DEAD:
                return channel_failed(link, request, "died");
        default:
                ivg_error_set(request->error, "channel %u: host state %u is unknown", link->channel, state);
                return -EPROTO;
        }
}

int ivg_link_channel_wait_ready(struct ivg_link *link, struct ivg_link_request *request)
{
        const uint64_t begin_ns = ivg_now_ns();
        uint64_t step_ns = IVG_LINK_STEP_NS_MIN;
        uint32_t claims = 1;

        for (;;) {
                const int rc = channel_progress(link, request, &claims);

                if (rc != 1)
                        return rc;
                /* Asked after the state: what the mediator said before it went counts first. */
                if (link->transport->alive(link) < 0) {
                        ivg_error_set(request->error, "channel %u: the mediator went away before it was ready",
                                      link->channel);
                        return -EPIPE;
                }
                if (ivg_now_ns() >= request->deadline_ns) {
                        request->code = IVG_ERROR_TIMEOUT;
                        ivg_error_set(
                                request->error, "channel %u: not ready after %llu ms, host state %u", link->channel,
                                (unsigned long long)((ivg_now_ns() - begin_ns) / IVG_NS_PER_MS),
                                ivg_channel_word_state(ivg_guest_channel_host_word(&link->region, link->channel)));
                        return -ETIMEDOUT;
                }
                ivg_link_step(link, &step_ns);
        }
}
