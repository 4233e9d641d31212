/* One tracing session: executors of one member write their calls to their boards, and a client of the control socket
 * gets the boards to read. The mediator hands them out and sees none of the calls. A session is as long as its client's
 * connection: nobody can forget one. */
#include "mediator.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int ivg_readable_fd(int fd, struct ivg_error *error)
{
        char path[32];
        int readable;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        readable = open(path, O_RDONLY | O_CLOEXEC);
        if (readable < 0) {
                readable = -errno;
                ivg_error_set(error, "%s cannot be opened for reading: %s", path, strerror(-readable));
        }
        return readable;
}

static void source_add(struct ivg_trace_session *session, const struct ivg_channel *channel)
{
        const struct ivg_executor *executor = channel->executor;
        struct ivg_trace_source *source = &session->sources[session->count];
        struct ivg_error error;

        if (session->count == IVG_TRACE_SOURCES_MAX) {
                session->lost++;
                return;
        }
        *source = (struct ivg_trace_source){.fd = ivg_readable_fd(executor->board_fd, &error),
                                            .executor_pid = executor->pid,
                                            .channel = channel->index,
                                            /* Relaxed: the executor's claim, for the reader. */
                                            .first = ivg_load_relaxed_u64(&executor->board->trace.next)};
        source->guest_pid = ivg_channel_program(channel, source->program);
        snprintf(source->of, sizeof(source->of), "%s", channel->tenant->name);
        if (source->fd < 0) {
                ivg_log(IVG_EVENT_TRACE_FAILED, ivg_about_channel(channel, IVG_ERROR_NONE),
                        "[TRACE] %s, channel %u: %s", source->of, source->channel, error.text);
                session->lost++;
                return;
        }
        session->count++;
        /* Relaxed: the executor looks at it before each batch. */
        ivg_store_relaxed_u32(&executor->board->orders.trace, 1);
}

static void for_executors(struct ivg_mediator *mediator, const struct ivg_member *member,
                          void (*what)(struct ivg_trace_session *session, const struct ivg_channel *channel))
{
        for (struct ivg_tenant *tenant = mediator->tenants; tenant; tenant = tenant->next)
                for (uint32_t i = 0; tenant->member == member && i < tenant->region.channel_count; i++)
                        if (tenant->channels[i].executor && tenant->channels[i].executor->board)
                                what(&mediator->trace, &tenant->channels[i]);
}

static void source_off(struct ivg_trace_session *session, const struct ivg_channel *channel)
{
        (void)session;
        ivg_store_relaxed_u32(&channel->executor->board->orders.trace, 0);
}

int ivg_trace_begin(struct ivg_mediator *mediator, const struct ivg_member *member, const void *client,
                    struct ivg_error *error)
{
        struct ivg_trace_session *session = &mediator->trace;

        if (session->client && (session->client != client || session->member != member)) {
                ivg_error_set(error, "%s is being traced: one trace at a time", session->member->name);
                return -EBUSY;
        }
        if (session->client)
                return 0;
        *session = (struct ivg_trace_session){.client = client, .member = member};
        for_executors(mediator, member, source_add);
        return 1;
}

void ivg_trace_end(struct ivg_mediator *mediator, const void *client)
{
        struct ivg_trace_session *session = &mediator->trace;

        if (session->client != client)
                return;
        for_executors(mediator, session->member, source_off);
        while (session->count > 0)
                close(session->sources[--session->count].fd);
        ivg_log(IVG_EVENT_TRACE, ivg_about_member(session->member), "[TRACE] %s: over", session->member->name);
        session->client = NULL;
}

void ivg_trace_executor_begins(const struct ivg_channel *channel)
{
        struct ivg_trace_session *session = &channel->tenant->mediator->trace;

        if (session->client && session->member == channel->tenant->member)
                source_add(session, channel);
}

bool ivg_trace_take(struct ivg_trace_session *session, struct ivg_trace_source *source)
{
        if (session->count == 0)
                return false;
        *source = session->sources[0];
        memmove(session->sources, session->sources + 1, --session->count * sizeof(session->sources[0]));
        return true;
}
