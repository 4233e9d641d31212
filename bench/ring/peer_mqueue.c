/* POSIX message queues: one for all producers' records, one for each producer's answers. */
#include "bench.h"
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define RECORDS_MAX 64
#define QUEUE_BYTES_MAX 400000 /* half of what a user may have by default (RLIMIT_MSGQUEUE) */

struct queues {
        mqd_t records, answers[BENCH_PRODUCERS_MAX];
};
struct mqueue_producer {
        struct queues *ring;
};
struct mqueue_consumer {
        struct queues *ring;
};

static bool nothing_now(ssize_t rc)
{
        return rc < 0 && (errno == EAGAIN || errno == EINTR);
}

static inline bool mqueue_send(struct mqueue_producer *self, struct bench_worker *worker, uint64_t word)
{
        int rc;

        memcpy(worker->payload, &word, sizeof(word));
        rc = mq_send(self->ring->records, (const char *)worker->payload, worker->run->is.payload_bytes, 0);
        if (nothing_now(rc))
                return false;
        if (rc != 0)
                bench_die("mqueue: send failed: %s", strerror(errno));
        return true;
}

static inline bool mqueue_answered(struct mqueue_producer *self, struct bench_worker *worker, uint64_t number)
{
        uint64_t answer;
        const ssize_t rc = mq_receive(self->ring->answers[worker->index], (char *)&answer, sizeof(answer), NULL);

        if (nothing_now(rc))
                return false;
        if (rc != sizeof(answer) || answer != number)
                bench_die("mqueue: not the answer to record %llu", (unsigned long long)number);
        return true;
}

static inline uint32_t mqueue_receive(struct mqueue_consumer *self, struct bench_worker *worker)
{
        const ssize_t rc =
                mq_receive(self->ring->records, (char *)worker->payload, worker->run->is.payload_bytes, NULL);
        uint64_t word, answer;

        if (nothing_now(rc))
                return 0;
        if (rc != (ssize_t)worker->run->is.payload_bytes)
                bench_die("mqueue: receive failed: %s", rc < 0 ? strerror(errno) : "short message");
        memcpy(&word, worker->payload, sizeof(word));
        answer = bench_word_number(word);
        if (bench_note(worker, word) &&
            mq_send(self->ring->answers[bench_word_producer(word)], (const char *)&answer, sizeof(answer), 0) != 0)
                bench_die("mqueue: answer failed: %s", strerror(errno));
        return 1;
}

#define LOOPS_NAME mqueue
#define LOOPS_PRODUCER struct mqueue_producer
#define LOOPS_CONSUMER struct mqueue_consumer
#include "loops.h"

static const char *refusal(const struct bench_case *is)
{
        (void)is;
        return NULL;
}

/* Without a name: nothing is left behind, whatever happens. */
static mqd_t open_queue(const struct bench_run *run, uint32_t number, long records, long bytes)
{
        struct mq_attr attributes = {.mq_maxmsg = records, .mq_msgsize = bytes};
        const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | (run->is.sleeping ? 0 : O_NONBLOCK);
        char name[64];
        mqd_t queue;

        snprintf(name, sizeof(name), "/ivgpu-ring-bench.%d.%u", (int)getpid(), number);
        queue = mq_open(name, flags, 0600, &attributes);
        if (queue != (mqd_t)-1)
                mq_unlink(name);
        return queue;
}

static const char *open_queues(struct bench_run *run)
{
        const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
        const long fitting = QUEUE_BYTES_MAX / (long)run->is.payload_bytes;
        struct queues *queues = bench_memory(run, sizeof(*queues), 128);

        run->ring = queues;
        (void)setrlimit(RLIMIT_MSGQUEUE, &unlimited); /* root's; others live with the default */
        queues->records = open_queue(run, BENCH_PRODUCERS_MAX, fitting < RECORDS_MAX ? fitting : RECORDS_MAX,
                                     (long)run->is.payload_bytes);
        if (queues->records == (mqd_t)-1) /* over a user's msg_max of 10, or msgsize_max of 8192 */
                queues->records = open_queue(run, BENCH_PRODUCERS_MAX, 10, (long)run->is.payload_bytes);
        if (queues->records == (mqd_t)-1)
                return "over this user's limits of message queues";
        for (uint32_t i = 0; i < run->is.producers; i++) {
                queues->answers[i] = open_queue(run, i, 1, 8);
                if (queues->answers[i] == (mqd_t)-1)
                        return "over this user's limits of message queues";
        }
        return NULL;
}

static void close_queues(struct bench_run *run)
{
        const struct queues *queues = run->ring;

        mq_close(queues->records);
        for (uint32_t i = 0; i < run->is.producers; i++)
                mq_close(queues->answers[i]);
}

const struct bench_peer bench_peer_mqueue = {.name = "mqueue",
                                             .is_mpsc = true,
                                             .refusal = refusal,
                                             .open = open_queues,
                                             .close = close_queues,
                                             .produce = mqueue_produce,
                                             .consume = mqueue_consume};
