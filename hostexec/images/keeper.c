/* See keeper.h. */
#include "keeper.h"
#include "image_control.h"
#include <stdlib.h>
#include <sys/epoll.h>

#define EVENTS_PER_TURN 64

struct client {
        struct client *next;
        int fd; /* -1: gone; freed at the end of the turn, since other events of it may name it */
        uint32_t tenant, space, pending;
};

/* An image on its way in. */
struct pending {
        struct pending *next;
        struct client *client; /* NULL: gone since */
        uint32_t tenant, space;
        struct ivg_digest claimed;
        uint64_t bytes, done;
        int fd;
        struct ivg_digest_state state;
};

struct ivg_keeper {
        struct ivg_image_store *store;
        struct ivg_keeper_counts counts;
        int mediator_fd, epoll_fd;
        struct client *clients;
        uint32_t clients_count;
        struct pending *first, **last; /* in the order of their next step */
        uint32_t pending_count;
        uint64_t pending_bytes;
        bool mediator_gone;
        uint8_t step[IVG_KEEPER_STEP_BYTES];
};

/* ---- clients ---- */

static int watch(const struct ivg_keeper *keeper, int fd, void *what)
{
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = what};

        return epoll_ctl(keeper->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static void client_add(struct ivg_keeper *keeper, int fd, uint32_t tenant, uint32_t space)
{
        struct client *client = keeper->clients_count < IVG_KEEPER_CLIENTS_MAX ? calloc(1, sizeof(*client)) : NULL;

        if (!client || watch(keeper, fd, client) != 0) {
                free(client);
                close(fd); /* the executor sees the end, and sends its images each time */
                return;
        }
        *client = (struct client){.next = keeper->clients, .fd = fd, .tenant = tenant, .space = space};
        keeper->clients = client;
        keeper->clients_count++;
}

static void client_close(struct client *client)
{
        close(client->fd); /* leaves epoll by itself */
        client->fd = -1;
}

static void clients_sweep(struct ivg_keeper *keeper)
{
        struct client **link = &keeper->clients;

        while (*link) {
                struct client *client = *link;

                if (client->fd >= 0) {
                        link = &client->next;
                        continue;
                }
                for (struct pending *pending = keeper->first; pending; pending = pending->next)
                        if (pending->client == client)
                                pending->client = NULL;
                *link = client->next;
                keeper->clients_count--;
                free(client);
        }
}

/* ---- what they bring ---- */

static void bring(struct ivg_keeper *keeper, struct client *client, const struct ivg_images_message *message, int fd)
{
        struct pending *pending;

        if (fd < 0 || message->bytes > IVG_IMAGES_BYTES_MAX || !ivg_images_sealed(fd, message->bytes)) {
                keeper->counts.refused++;
                if (fd >= 0)
                        close(fd);
                return;
        }
        pending =
                keeper->pending_count < IVG_KEEPER_PENDING_MAX && client->pending < IVG_KEEPER_PENDING_OF_ONE_MAX &&
                                message->bytes <= IVG_KEEPER_PENDING_BYTES_MAX - keeper->pending_bytes &&
                                ivg_image_store_fits(keeper->store, message->bytes) &&
                                ivg_image_store_find(keeper->store, client->space, &message->digest, message->bytes) < 0
                        ? malloc(sizeof(*pending))
                        : NULL;
        if (!pending) {
                keeper->counts.dropped++;
                close(fd);
                return;
        }
        pending->next = NULL;
        pending->client = client;
        pending->tenant = client->tenant;
        pending->space = client->space;
        pending->claimed = message->digest;
        pending->bytes = message->bytes;
        pending->done = 0;
        pending->fd = fd;
        ivg_digest_begin(&pending->state);
        *keeper->last = pending;
        keeper->last = &pending->next;
        keeper->pending_count++;
        keeper->pending_bytes += pending->bytes;
        client->pending++;
}

static void pending_end(struct ivg_keeper *keeper, struct pending *pending)
{
        struct ivg_digest digest;

        ivg_digest_end(&pending->state, &digest);
        if (pending->done < pending->bytes || !ivg_digest_equal(&digest, &pending->claimed)) {
                keeper->counts.refused++;
                close(pending->fd);
        } else if (ivg_image_store_put(keeper->store, pending->tenant, pending->space, &digest, pending->bytes,
                                       pending->fd)) {
                keeper->counts.kept++;
        } else {
                keeper->counts.dropped++;
        }
        keeper->pending_count--;
        keeper->pending_bytes -= pending->bytes;
        if (pending->client)
                pending->client->pending--;
        free(pending);
}

/* Hashes a piece of the first image, which then goes to the back of the line. Read, not mapped: reading holes of a
 * sparse file makes no pages. */
static void verify_step(struct ivg_keeper *keeper)
{
        struct pending *pending = keeper->first;
        const uint64_t left = pending->bytes - pending->done;
        const ssize_t bytes = pread(pending->fd, keeper->step,
                                    left < sizeof(keeper->step) ? left : sizeof(keeper->step), (off_t)pending->done);

        if (bytes < 0 && errno == EINTR)
                return;
        keeper->first = pending->next;
        if (!keeper->first)
                keeper->last = &keeper->first;
        pending->next = NULL;
        if (bytes > 0) {
                ivg_digest_add(&pending->state, keeper->step, (uint64_t)bytes);
                pending->done += (uint64_t)bytes;
        }
        if (bytes <= 0 || pending->done == pending->bytes) {
                pending_end(keeper, pending);
                return;
        }
        *keeper->last = pending;
        keeper->last = &pending->next;
}

/* ---- what they ask ---- */

/* An executor that does not take its answers is told nothing more: it asks one thing at a time. */
static void answer(struct ivg_keeper *keeper, struct client *client, const struct ivg_images_message *question)
{
        struct ivg_images_message message = *question;
        const int fd = ivg_image_store_find(keeper->store, client->space, &question->digest, question->bytes);

        message.type = fd >= 0 ? IVG_IMAGES_FOUND : IVG_IMAGES_MISSING;
        if (fd >= 0)
                keeper->counts.found++;
        else
                keeper->counts.missing++;
        if (ivg_images_send(client->fd, &message, fd) != 0)
                client_close(client);
}

static void client_ready(struct ivg_keeper *keeper, struct client *client)
{
        for (uint32_t i = 0; i < IVG_KEEPER_MESSAGES_PER_TURN && client->fd >= 0; i++) {
                struct ivg_images_message message;
                int fd;
                const int rc = ivg_images_receive(client->fd, &message, &fd);

                if (rc == -EAGAIN)
                        return;
                if (rc == 0 && message.type == IVG_IMAGES_KEEP) {
                        bring(keeper, client, &message, fd);
                        continue;
                }
                if (fd >= 0)
                        close(fd);
                if (rc == 0 && message.type == IVG_IMAGES_FIND)
                        answer(keeper, client, &message);
                else
                        client_close(client); /* its end, or not our language */
        }
}

static void mediator_ready(struct ivg_keeper *keeper)
{
        for (uint32_t i = 0; i < EVENTS_PER_TURN; i++) {
                struct ivg_images_message message;
                int fd;
                const int rc = ivg_images_receive(keeper->mediator_fd, &message, &fd);

                if (rc == -EAGAIN)
                        return;
                if (rc != 0) {
                        keeper->mediator_gone = true;
                        return;
                }
                if (message.type == IVG_IMAGES_CONNECT && fd >= 0)
                        client_add(keeper, fd, message.tenant, message.space);
                else if (fd >= 0)
                        close(fd);
        }
}

/* ---- interface ---- */

struct ivg_keeper *ivg_keeper_create(int mediator_fd, const struct ivg_image_limits *limits)
{
        struct ivg_keeper *keeper = calloc(1, sizeof(*keeper));

        if (!keeper)
                return NULL;
        keeper->mediator_fd = mediator_fd;
        keeper->last = &keeper->first;
        keeper->store = ivg_image_store_create(limits);
        keeper->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (!keeper->store || keeper->epoll_fd < 0 || watch(keeper, mediator_fd, NULL) != 0) {
                ivg_keeper_destroy(keeper);
                return NULL;
        }
        return keeper;
}

bool ivg_keeper_turn(struct ivg_keeper *keeper, int timeout_ms)
{
        struct epoll_event events[EVENTS_PER_TURN];
        const int count = epoll_wait(keeper->epoll_fd, events, EVENTS_PER_TURN, keeper->first ? 0 : timeout_ms);

        for (int i = 0; i < count; i++) {
                struct client *client = events[i].data.ptr;

                if (!client)
                        mediator_ready(keeper);
                else if (client->fd >= 0)
                        client_ready(keeper, client);
        }
        if (keeper->first)
                verify_step(keeper);
        clients_sweep(keeper);
        return !keeper->mediator_gone;
}

void ivg_keeper_counts(const struct ivg_keeper *keeper, struct ivg_keeper_counts *counts,
                       struct ivg_image_totals *totals)
{
        *counts = keeper->counts;
        ivg_image_store_totals(keeper->store, totals);
}

void ivg_keeper_destroy(struct ivg_keeper *keeper)
{
        while (keeper->first) {
                struct pending *pending = keeper->first;

                keeper->first = pending->next;
                close(pending->fd);
                free(pending);
        }
        while (keeper->clients) {
                struct client *client = keeper->clients;

                keeper->clients = client->next;
                if (client->fd >= 0)
                        close(client->fd);
                free(client);
        }
        ivg_image_store_destroy(keeper->store);
        if (keeper->epoll_fd >= 0)
                close(keeper->epoll_fd);
        free(keeper);
}
