/* What the kernel carries: a pair of UNIX sockets (stream, seqpacket) or of pipes for each producer, since several
 * writers of one would have to be told apart again. Polled: never blocking, tried again. Sleeping: blocking; a consumer
 * of several waits in poll().
 *
 * eventfd is none of these rings but what wakes sleepers: the word lies in shared memory, one at a time, and the kernel
 * carries the news of it alone. */
#include "bench.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET_BUFFER_BYTES (1 << 20)

struct fd_line {
        _Alignas(128) _Atomic(uint64_t) word; /* eventfd's: 0 when taken */
};

struct fds {
        bool is_eventfd;
        int producer_in[BENCH_PRODUCERS_MAX], producer_out[BENCH_PRODUCERS_MAX];
        int consumer_in[BENCH_PRODUCERS_MAX], consumer_out[BENCH_PRODUCERS_MAX];
        struct fd_line words[BENCH_PRODUCERS_MAX];
};

struct fd_producer {
        struct fds *ring;
        uint32_t done; /* bytes of a record under way (stream, pipe) */
};
struct fd_consumer {
        struct fds *ring;
        struct {
                uint32_t done;
                uint8_t bytes[BENCH_PAYLOAD_MAX];
        } partial[BENCH_PRODUCERS_MAX];
};

static bool nothing_now(ssize_t rc)
{
        return rc < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

static inline bool fd_send(struct fd_producer *self, struct bench_worker *worker, uint64_t word)
{
        const uint32_t bytes = self->ring->is_eventfd ? 8 : worker->run->is.payload_bytes;
        const int fd = self->ring->producer_out[worker->index];
        const uint64_t one = 1;
        ssize_t rc;

        if (self->ring->is_eventfd) {
                if (ivg_load_acquire_u64(&self->ring->words[worker->index].word) != 0) /* pairs with the take */
                        return false;
                ivg_store_release_u64(&self->ring->words[worker->index].word, word);
                if (write(fd, &one, sizeof(one)) != sizeof(one))
                        bench_die("eventfd: write failed: %s", strerror(errno));
                return true;
        }
        memcpy(worker->payload, &word, sizeof(word));
        rc = write(fd, worker->payload + self->done, bytes - self->done);
        if (nothing_now(rc))
                return false;
        if (rc < 0)
                bench_die("%s: write failed: %s", worker->run->is.peer->name, strerror(errno));
        self->done += (uint32_t)rc;
        if (self->done != bytes)
                return false;
        self->done = 0;
        return true;
}

/* The answer is the record's number. */
static inline bool fd_answered(struct fd_producer *self, struct bench_worker *worker, uint64_t number)
{
        uint64_t answer;
        const ssize_t rc = read(self->ring->producer_in[worker->index], &answer, sizeof(answer));

        if (nothing_now(rc))
                return false;
        if (rc != sizeof(answer) || (answer != number && !self->ring->is_eventfd))
                bench_die("%s: not the answer to record %llu", worker->run->is.peer->name, (unsigned long long)number);
        return true;
}

static inline void note(struct fd_consumer *self, struct bench_worker *worker, uint64_t word)
{
        const uint64_t answer = self->ring->is_eventfd ? 1 : bench_word_number(word);

        /* Eight bytes: never in part, and one answer is under way at a time, so there is room. */
        if (bench_note(worker, word) &&
            write(self->ring->consumer_out[bench_word_producer(word)], &answer, sizeof(answer)) != sizeof(answer))
                bench_die("%s: answer failed: %s", worker->run->is.peer->name, strerror(errno));
}

static inline uint32_t receive_from(struct fd_consumer *self, struct bench_worker *worker, uint32_t producer)
{
        const uint32_t bytes = self->ring->is_eventfd ? 8 : worker->run->is.payload_bytes;
        uint8_t *to = self->partial[producer].bytes;
        uint32_t *done = &self->partial[producer].done;
        const ssize_t rc = read(self->ring->consumer_in[producer], to + *done, bytes - *done);
        uint64_t word;

        if (nothing_now(rc))
                return 0;
        if (rc <= 0)
                bench_die("%s: read failed: %s", worker->run->is.peer->name, rc == 0 ? "end" : strerror(errno));
        *done += (uint32_t)rc;
        if (*done != bytes)
                return 0;
        *done = 0;
        if (self->ring->is_eventfd) {
                word = ivg_load_acquire_u64(&self->ring->words[producer].word); /* pairs with the producer's store */
                ivg_store_release_u64(&self->ring->words[producer].word, 0);
        } else {
                memcpy(&word, to, sizeof(word));
        }
        note(self, worker, word);
        return 1;
}

static inline uint32_t fd_receive(struct fd_consumer *self, struct bench_worker *worker)
{
        const uint32_t producers = worker->run->is.producers;
        struct pollfd fds[BENCH_PRODUCERS_MAX];
        uint32_t count = 0;

        if (producers > 1 && worker->run->is.sleeping) {
                for (uint32_t i = 0; i < producers; i++)
                        fds[i] = (struct pollfd){.fd = self->ring->consumer_in[i], .events = POLLIN};
                if (poll(fds, producers, -1) < 0 && errno != EINTR)
                        bench_die("%s: poll failed: %s", worker->run->is.peer->name, strerror(errno));
        }
        for (uint32_t i = 0; i < producers; i++)
                if (producers == 1 || !worker->run->is.sleeping || (fds[i].revents & POLLIN))
                        count += receive_from(self, worker, i);
        return count;
}

#define LOOPS_NAME fd
#define LOOPS_PRODUCER struct fd_producer
#define LOOPS_CONSUMER struct fd_consumer
#include "loops.h"

/* ---- life ---- */

static bool open_socket_pair(struct fds *fds, uint32_t i, int type)
{
        const int buffer_bytes = SOCKET_BUFFER_BYTES;
        int ends[2];

        if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0)
                return false;
        for (int end = 0; end < 2; end++) /* as much as the machine allows: not checked */
                (void)setsockopt(ends[end], SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof(buffer_bytes));
        fds->producer_in[i] = fds->producer_out[i] = ends[0];
        fds->consumer_in[i] = fds->consumer_out[i] = ends[1];
        return true;
}

static bool open_pipes(struct fds *fds, uint32_t i)
{
        int there[2], back[2];

        if (pipe2(there, O_CLOEXEC) != 0 || pipe2(back, O_CLOEXEC) != 0)
                return false;
        (void)fcntl(there[1], F_SETPIPE_SZ, SOCKET_BUFFER_BYTES); /* as much as the machine allows: not checked */
        fds->consumer_in[i] = there[0];
        fds->producer_out[i] = there[1];
        fds->producer_in[i] = back[0];
        fds->consumer_out[i] = back[1];
        return true;
}

static bool open_eventfds(struct fds *fds, uint32_t i)
{
        fds->producer_out[i] = fds->consumer_in[i] = eventfd(0, EFD_CLOEXEC);
        fds->producer_in[i] = fds->consumer_out[i] = eventfd(0, EFD_CLOEXEC);
        return fds->producer_out[i] >= 0 && fds->producer_in[i] >= 0;
}

static bool open_one(struct fds *fds, const struct bench_peer *peer, uint32_t i)
{
        if (strcmp(peer->name, "unix stream") == 0)
                return open_socket_pair(fds, i, SOCK_STREAM);
        if (strcmp(peer->name, "unix seqpacket") == 0)
                return open_socket_pair(fds, i, SOCK_SEQPACKET);
        return fds->is_eventfd ? open_eventfds(fds, i) : open_pipes(fds, i);
}

static const char *open_fds(struct bench_run *run)
{
        struct fds *fds = bench_memory(run, sizeof(*fds), 128);

        run->ring = fds;
        fds->is_eventfd = strcmp(run->is.peer->name, "eventfd") == 0;
        for (uint32_t i = 0; i < run->is.producers; i++) {
                const int all[] = {0, 1, 2, 3};

                if (!open_one(fds, run->is.peer, i))
                        return strerror(errno);
                for (size_t end = 0; end < sizeof(all) / sizeof(all[0]) && !run->is.sleeping; end++) {
                        const int of[] = {fds->producer_in[i], fds->producer_out[i], fds->consumer_in[i],
                                          fds->consumer_out[i]};

                        if (fcntl(of[end], F_SETFL, O_NONBLOCK) != 0)
                                return strerror(errno);
                }
        }
        return NULL;
}

static void close_fds(struct bench_run *run)
{
        const struct fds *fds = run->ring;

        for (uint32_t i = 0; i < run->is.producers; i++) {
                close(fds->producer_out[i]);
                close(fds->consumer_out[i]);
                if (fds->producer_in[i] == fds->producer_out[i] || fds->is_eventfd)
                        continue;
                close(fds->producer_in[i]);
                close(fds->consumer_in[i]);
        }
}

static const char *any_case(const struct bench_case *is)
{
        (void)is;
        return NULL;
}
static const char *one_word(const struct bench_case *is)
{
        return is->payload_bytes != 8 ? "carries no payload but a word" : NULL;
}

#define FD_PEER(variable, label, refuses)                          \
        const struct bench_peer variable = {.name = label,         \
                                            .refusal = refuses,    \
                                            .open = open_fds,      \
                                            .close = close_fds,    \
                                            .produce = fd_produce, \
                                            .consume = fd_consume}
FD_PEER(bench_peer_unix_stream, "unix stream", any_case);
FD_PEER(bench_peer_unix_seqpacket, "unix seqpacket", any_case);
FD_PEER(bench_peer_pipe, "pipe", any_case);
FD_PEER(bench_peer_eventfd, "eventfd", one_word);
