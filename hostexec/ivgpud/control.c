/* ivgpuctl's socket. One JSON object a line in, one a line out; commands.c answers.
 *
 *   accept ── a request comes, in pieces ── answered at once ── the answer goes, in pieces ── the next, or the end
 *
 * Nobody is waited for: a client has room for one request and one answer, and IVG_CONTROL_MS for each; one that sends
 * more, or does not read, is cut off. Who may change something is told by the kernel (SO_PEERCRED), not by the client.
 */
#include "commands.h"
#include "manager.h"
#include "mediator.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Groups of a peer that are looked at; who has more is taken by the first ones. */
#define PEER_GROUPS_MAX 256

struct ivg_control_client {
        struct ivg_garbage garbage;
        struct ivg_control_client *next;
        struct ivg_source source;
        struct ivg_command_asker asker;
        uint64_t deadline_ms;
        size_t request_bytes, sent_bytes;
        struct ivg_command_answer answer; /* .text NULL: it is the client's turn */
        char request[IVG_CONTROL_REQUEST_BYTES];
};

static void client_gone(struct ivg_mediator *mediator, struct ivg_control_client *client)
{
        struct ivg_control_client **link = &mediator->control.clients;

        while (*link != client)
                link = &(*link)->next;
        *link = client->next;
        mediator->control.client_count--;
        ivg_trace_end(mediator, client);
        ivg_loop_close(mediator, &client->source);
        ivg_command_answer_free(&client->answer);
        ivg_loop_free(mediator, &client->garbage);
}

/* ---- who it is ---- */

static bool in_group(int fd, gid_t primary, gid_t group)
{
        gid_t groups[PEER_GROUPS_MAX];
        socklen_t bytes = sizeof(groups);

        if (group == (gid_t)-1)
                return false;
        if (primary == group)
                return true;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) < 0)
                return false;
        for (size_t i = 0; i < bytes / sizeof(groups[0]); i++)
                if (groups[i] == group)
                        return true;
        return false;
}

static bool identify(const struct ivg_control_config *config, struct ivg_control_client *client)
{
        const uid_t user = config->user != (uid_t)-1 ? config->user : geteuid();
        struct ucred peer;
        socklen_t bytes = sizeof(peer);

        if (getsockopt(client->source.fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0)
                return false;
        client->asker.client = client;
        client->asker.pid = peer.pid;
        client->asker.may_change =
                peer.uid == 0 || peer.uid == user || in_group(client->source.fd, peer.gid, config->group);
        return true;
}

/* ---- request and answer ---- */

/* Each of these: false when the client is to go. */

/* The first byte takes the descriptors along. As send(). */
static ssize_t piece_send(struct ivg_control_client *client)
{
        struct ivg_command_answer *answer = &client->answer;
        int rc;

        if (client->sent_bytes > 0 || answer->fd_count == 0)
                return send(client->source.fd, answer->text + client->sent_bytes, answer->bytes - client->sent_bytes,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        rc = ivg_fds_send(client->source.fd, answer->text, 1, answer->fds, answer->fd_count);
        if (rc == 0) {
                while (answer->fd_count > 0)
                        close(answer->fds[--answer->fd_count]);
                return 1;
        }
        errno = -rc;
        return -1;
}

static bool answer_send(struct ivg_mediator *mediator, struct ivg_control_client *client)
{
        while (client->sent_bytes < client->answer.bytes) {
                const ssize_t sent = piece_send(client);

                if (sent < 0 && (errno == EAGAIN || errno == EINTR))
                        return ivg_loop_watch_for(mediator, &client->source, EPOLLOUT) == 0;
                if (sent <= 0)
                        return false;
                client->sent_bytes += (size_t)sent;
        }
        ivg_command_answer_free(&client->answer);
        client->deadline_ms = ivg_loop_now_ms() + IVG_CONTROL_MS;
        /* One request a turn: if the next is here already, its turn comes as soon as the socket takes an answer. */
        return ivg_loop_watch_for(mediator, &client->source,
                                  memchr(client->request, '\n', client->request_bytes) ? EPOLLOUT : EPOLLIN) == 0;
}

static bool request_answer(struct ivg_mediator *mediator, struct ivg_control_client *client, char *end)
{
        const size_t bytes = (size_t)(end + 1 - client->request);

        *end = '\0';
        if (!ivg_command_run(mediator, client->request, &client->asker, &client->answer))
                return false;
        client->sent_bytes = 0;
        client->request_bytes -= bytes;
        memmove(client->request, client->request + bytes, client->request_bytes);
        return answer_send(mediator, client);
}

static bool request_receive(struct ivg_control_client *client)
{
        const ssize_t received = recv(client->source.fd, client->request + client->request_bytes,
                                      sizeof(client->request) - client->request_bytes, MSG_DONTWAIT);

        if (received <= 0)
                return received < 0 && (errno == EAGAIN || errno == EINTR);
        client->request_bytes += (size_t)received;
        if (client->request_bytes < sizeof(client->request) ||
            memchr(client->request, '\n', client->request_bytes) != NULL)
                return true;
        ivg_log(IVG_EVENT_CONTROL_REFUSED, IVG_ABOUT_NOBODY, "[CONTROL] process %d: a request of more than %zu bytes",
                (int)client->asker.pid, sizeof(client->request) - 1);
        return false;
}

static bool client_turn(struct ivg_mediator *mediator, struct ivg_control_client *client)
{
        char *end;

        if (client->answer.text)
                return answer_send(mediator, client);
        end = memchr(client->request, '\n', client->request_bytes);
        if (!end) {
                if (!request_receive(client))
                        return false;
                end = memchr(client->request, '\n', client->request_bytes);
        }
        return !end || request_answer(mediator, client, end);
}

static void client_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct ivg_control_client *client = (void *)((char *)source - offsetof(struct ivg_control_client, source));

        (void)events; /* its end shows in what is received or sent */
        if (!client_turn(mediator, client))
                client_gone(mediator, client);
}

/* ---- the socket ---- */

static void listener_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events)
{
        struct ivg_control *control = &mediator->control;
        struct ivg_control_client *client;
        const int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        (void)events;
        if (fd < 0)
                return;
        client = control->client_count < IVG_CONTROL_CLIENTS_MAX ? calloc(1, sizeof(*client)) : NULL;
        if (!client) {
                ivg_log(IVG_EVENT_CONTROL_REFUSED, IVG_ABOUT_NOBODY, "[CONTROL] a client is refused: %u are connected",
                        control->client_count);
                close(fd);
                return;
        }
        client->source = (struct ivg_source){.fd = fd, .ready = client_ready};
        client->deadline_ms = ivg_loop_now_ms() + IVG_CONTROL_MS;
        if (!identify(&mediator->config.control, client) || ivg_loop_watch(mediator, &client->source) < 0) {
                close(fd);
                free(client);
                return;
        }
        client->next = control->clients;
        control->clients = client;
        control->client_count++;
}

uint64_t ivg_control_tick(struct ivg_mediator *mediator, uint64_t now_ms)
{
        struct ivg_control_client *next;
        uint64_t next_ms = IVG_TICK_NEVER;

        for (struct ivg_control_client *client = mediator->control.clients; client; client = next) {
                next = client->next;
                if (now_ms >= client->deadline_ms)
                        client_gone(mediator, client);
                else
                        next_ms = ivg_tick_earlier(next_ms, client->deadline_ms);
        }
        return next_ms;
}

int ivg_control_open(struct ivg_mediator *mediator, struct ivg_error *error)
{
        const struct ivg_control_config *config = &mediator->config.control;
        struct ivg_control *control = &mediator->control;
        int rc;

        control->listener.fd = -1;
        if (config->socket[0] == '\0')
                return 0;
        rc = ivg_manager_listen(config->socket, config->socket_mode, SOCK_STREAM, error);
        if (rc < 0)
                return rc;
        control->listener = (struct ivg_source){.fd = rc, .ready = listener_ready};
        if ((config->user != (uid_t)-1 || config->group != (gid_t)-1) && !ivg_manager_holds(config->socket) &&
            chown(config->socket, config->user, config->group) < 0) {
                rc = -errno;
                ivg_error_set(error, "control: %s: owner: %s", config->socket, strerror(-rc));
                return rc;
        }
        rc = ivg_loop_watch(mediator, &control->listener);
        if (rc < 0)
                ivg_error_set(error, "watching %s: %s", config->socket, strerror(-rc));
        return rc;
}

void ivg_control_close(struct ivg_mediator *mediator)
{
        struct ivg_control *control = &mediator->control;

        if (control->listener.fd >= 0)
                ivg_manager_unlink(mediator->config.control.socket);
        ivg_loop_close(mediator, &control->listener);
        while (control->clients)
                client_gone(mediator, control->clients);
}
