/* What the ring's stress programs share: a producer's loop, a consumer's turn, and the checks of both.
 *
 * Every record names its producer, its number and its length and is filled with a pattern of these; the consumer checks
 * order per producer, completeness and content. Now and then a producer asks for an answer and waits for it, asleep if
 * need be; now and then it pauses, so that the consumer sleeps. A wake-up that takes STRESS_WAKE_MS counts as lost. */
#ifndef RING_STRESS_H
#define RING_STRESS_H

#include "ivgpu/ring.h"
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define STRESS_WAKE_MS 20000 /* far beyond any scheduling delay of a loaded machine */
#define STRESS_SPINS 4u      /* before either side sleeps */
#define STRESS_FULL_YIELDS 1000u
#define STRESS_PRODUCERS_MAX 8u
#define STRESS_GENERATION 3u

struct stress {
        struct ivg_ring_guest_part *guest;
        struct ivg_ring_host_part *host;
        int doorbell;                       /* wakes the consumer */
        int interrupts[IVG_RING_PRODUCERS]; /* by producer line; only the first STRESS_PRODUCERS_MAX are used */
};

struct stress_header {
        uint32_t producer; /* the test's own number */
        uint32_t line;
        uint32_t bytes;
        uint32_t last;
        uint64_t number;   /* 0, 1, 2, ... per producer */
        uint64_t sequence; /* non-zero: wants an answer */
};

static inline uint64_t stress_random(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

static inline uint8_t stress_byte(const struct stress_header *header, uint32_t offset)
{
        return (uint8_t)(header->number * 131 + header->producer * 17 + offset * 3);
}

/* Adds one to the eventfd. */
static inline void stress_ring(int eventfd_fd)
{
        const uint64_t one = 1;

        if (write(eventfd_fd, &one, sizeof(one)) != sizeof(one))
                abort();
}

/* Waits for the eventfd; returns what it counted, 0 after `timeout_ms`. */
static inline uint64_t stress_wait(int eventfd_fd, int timeout_ms)
{
        struct pollfd poll_fd = {.fd = eventfd_fd, .events = POLLIN};
        uint64_t count = 0;

        if (poll(&poll_fd, 1, timeout_ms) == 1 && read(eventfd_fd, &count, sizeof(count)) != sizeof(count))
                abort();
        return count;
}

static inline uint64_t stress_now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- producer ---- */

struct stress_producer {
        struct stress *stress;
        uint32_t number;
        uint32_t owner;
        uint64_t records;
        bool dawdle;         /* stays long between claim and commit: for those who kill it there */
        bool asks_nothing;   /* wants no answers, for which it would wait: fills the ring */
        uint64_t doorbells;  /* out: rung */
        const char *failure; /* out: NULL when all went well */
};

static inline const char *stress_await_answer(struct stress *stress, struct ivg_producer *producer,
                                              const struct stress_header *sent)
{
        struct ivg_answer_header header;
        uint8_t payload[IVG_MAILBOX_PAYLOAD_BYTES] = {0};
        uint64_t echoed;

        for (uint32_t spin = 0; !ivg_producer_poll_answer(producer, sent->sequence, &header, payload); spin++) {
                if (spin < STRESS_SPINS) {
                        ivg_cpu_relax();
                        continue;
                }
                if (!ivg_producer_wait_begin(producer, sent->sequence) &&
                    stress_wait(stress->interrupts[producer->index], STRESS_WAKE_MS) == 0) {
                        ivg_producer_wait_end(producer);
                        return "answer: wake-up lost";
                }
                ivg_producer_wait_end(producer);
        }
        memcpy(&echoed, payload, sizeof(echoed));
        if (header.result != (uint32_t)sent->number || header.answer_bytes != sizeof(echoed) || echoed != ~sent->number)
                return "answer: not the one to this request";
        return NULL;
}

static inline const char *stress_send(struct stress_producer *self, struct ivg_producer *producer,
                                      const struct stress_header *header)
{
        uint8_t bytes[IVG_RECORD_PAYLOAD_BYTES_MAX];
        struct ivg_record record;
        const uint64_t give_up_ns = stress_now_ns() + STRESS_WAKE_MS * 1000000ull;
        uint32_t full = 0;
        int rc;

        while ((rc = ivg_producer_reserve(producer, header->bytes, &record)) == -EAGAIN) {
                if (stress_now_ns() > give_up_ns)
                        return "ring stays full";
                if (full++ < STRESS_FULL_YIELDS)
                        sched_yield();
                else
                        usleep(100);
        }
        if (rc != 0)
                return "reserve refused";
        memcpy(bytes, header, sizeof(*header));
        for (uint32_t i = sizeof(*header); i < header->bytes; i++)
                bytes[i] = stress_byte(header, i);
        ivg_record_write(producer, &record, 0, bytes, header->bytes);
        if (self->dawdle && header->number % 4 == 0)
                sched_yield();
        if (ivg_producer_commit(producer, &record, (uint16_t)header->producer)) {
                self->doorbells++;
                stress_ring(self->stress->doorbell);
        }
        return NULL;
}

static inline void stress_produce(struct stress_producer *self)
{
        struct ivg_ring ring;
        struct ivg_producer producer;
        uint64_t random = 88172645463325252ull + self->number;

        self->failure = NULL;
        if (ivg_ring_init(&ring, self->stress->guest, self->stress->host, STRESS_GENERATION) != 0 ||
            ivg_producer_open(&ring, self->owner, &producer) != 0) {
                self->failure = "attach refused";
                return;
        }
        for (uint64_t number = 0; number < self->records && !self->failure; number++) {
                const uint64_t dice = stress_random(&random);
                struct stress_header header = {
                        .producer = self->number,
                        .line = producer.index,
                        .bytes = (uint32_t)sizeof(header) + (dice % 8 == 0 ? (uint32_t)(dice >> 32) % 3500 : dice % 24),
                        .last = number == self->records - 1,
                        .number = number,
                        .sequence = dice % 32 == 1 && !self->asks_nothing ? ++producer.sequence : 0,
                };

                self->failure = stress_send(self, &producer, &header);
                if (!self->failure && header.sequence != 0)
                        self->failure = stress_await_answer(self->stress, &producer, &header);
                if (dice % 64 == 2)
                        usleep(20);
        }
        if (!self->failure)
                ivg_producer_close(&producer);
}

/* ---- consumer ---- */

struct stress_consumer {
        struct stress *stress;
        struct ivg_consumer ring;
        struct ivg_batch batch;
        uint64_t next_number[64]; /* by the test's producer number */
        uint64_t next_position;
        uint64_t records, skipped_slots, announcements, sleeps, doorbells;
        uint32_t finished;
        const char *failure;
};

static inline void stress_consume_record(struct stress_consumer *self, const struct ivg_taken_record *record)
{
        struct stress_header header;

        memcpy(&header, record->payload, sizeof(header));
        self->skipped_slots += record->position - self->next_position;
        self->next_position = record->position + record->slots;
        if (header.producer >= 64 || header.producer != record->opcode || header.bytes > record->payload_bytes ||
            header.bytes + IVG_SLOT_PAYLOAD_BYTES <= record->payload_bytes) {
                self->failure = "header torn";
                return;
        }
        if (header.number != self->next_number[header.producer]++) {
                self->failure = "record lost, doubled or out of order";
                return;
        }
        for (uint32_t i = sizeof(header); i < header.bytes; i++)
                if (record->payload[i] != stress_byte(&header, i))
                        self->failure = "payload torn";
        self->records++;
        self->finished += header.last;
        if (header.sequence != 0) {
                const uint64_t echo = ~header.number;

                if (ivg_consumer_answer(&self->ring, header.line, header.sequence, (uint32_t)header.number, &echo,
                                        sizeof(echo)) == 1)
                        stress_ring(self->stress->interrupts[header.line]);
        }
}

/* One batch. Returns the number of records, or a negative errno. */
static inline int stress_consume_batch(struct stress_consumer *self)
{
        const int count = ivg_consumer_take(&self->ring, &self->batch);

        if (count < 0)
                self->failure = "take refused";
        for (int i = 0; i < count && !self->failure; i++)
                stress_consume_record(self, &self->batch.records[i]);
        return count;
}

/* Sleeps for at most `timeout_ms` unless a record is there. False when the time was up. */
static inline bool stress_consumer_sleep(struct stress_consumer *self, int timeout_ms)
{
        bool in_time = true;

        self->announcements++;
        if (ivg_consumer_sleep_begin(&self->ring)) {
                const uint64_t count = stress_wait(self->stress->doorbell, timeout_ms);

                self->sleeps++;
                self->doorbells += count;
                in_time = count != 0;
        }
        ivg_consumer_sleep_end(&self->ring);
        return in_time;
}

/* Until `producers` have sent their last record. */
static inline void stress_consume_all(struct stress_consumer *self, uint32_t producers)
{
        uint32_t idle = 0;

        while (self->finished < producers && !self->failure) {
                if (stress_consume_batch(self) != 0) {
                        idle = 0;
                } else if (++idle < STRESS_SPINS) {
                        ivg_cpu_relax();
                } else {
                        idle = 0;
                        if (!stress_consumer_sleep(self, STRESS_WAKE_MS))
                                self->failure = "doorbell lost";
                }
        }
}

#endif
