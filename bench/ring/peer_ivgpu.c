/* Ours: records inline up to 3584 bytes, above by reference to a block; answers by mailbox; sleeping by the position in
 * `sleep_at` and an eventfd, on both sides. */
#include "ours.h"
#include <sys/eventfd.h>
#include <unistd.h>

#define GENERATION 1u

struct block_reference {
        uint64_t word, given;
        uint32_t bytes;
};

static void ring_eventfd(int fd)
{
        const uint64_t one = 1;

        if (write(fd, &one, sizeof(one)) != sizeof(one))
                bench_die("ivgpu: no doorbell could be rung");
}

static void wait_eventfd(int fd)
{
        uint64_t count;

        if (read(fd, &count, sizeof(count)) != sizeof(count))
                bench_die("ivgpu: no doorbell could be waited for");
}

/* ---- producer ---- */

struct ivgpu_producer {
        struct ours *ring;
        struct ivg_ring view;
        uint32_t looks; /* for the answer */
        _Alignas(128) struct ivg_producer producer;
};

static inline void attach(struct ivgpu_producer *self, struct bench_worker *worker)
{
        if (ivg_ring_init(&self->view, self->ring->guest, self->ring->host, self->ring->generation) != 0 ||
            ivg_producer_open(&self->view, worker->index + 1, &self->producer) != 0)
                bench_die("ivgpu: producer %u was refused", worker->index);
        /* Read by the consumer after a record of this producer, which orders it. */
        ivg_store_relaxed_u32(&self->ring->lines[worker->index], self->producer.index);
}

static inline void detach(struct ivgpu_producer *self, struct bench_worker *worker)
{
        (void)worker;
        ivg_producer_close(&self->producer);
}

static inline void commit(struct ivgpu_producer *self, struct bench_worker *worker, const struct ivg_record *record,
                          uint16_t opcode)
{
        if (ivg_producer_commit(&self->producer, record, opcode)) {
                worker->doorbells++;
                self->ring->wake_consumer(self->ring);
        }
}

/* False: no room now. */
__attribute__((always_inline)) static inline bool reserve(struct ivgpu_producer *self, uint32_t bytes,
                                                          struct ivg_record *record)
{
        const int rc = ivg_producer_reserve(&self->producer, bytes, record);

        if (rc != 0 && rc != -EAGAIN)
                bench_die("ivgpu: reserve failed: %d", rc);
        return rc == 0;
}

/* A record of `bytes` whose first word is `word`; false: no room now. Inline, so that lengths known at the call, as at
 * most call sites of the guest, are constants all the way down. */
__attribute__((always_inline)) static inline bool send_inline(struct ivgpu_producer *self, struct bench_worker *worker,
                                                              uint64_t word, uint32_t bytes)
{
        struct ivg_record record;

        if (!reserve(self, bytes, &record))
                return false;
        if (bytes > sizeof(word))
                ivg_record_write(&self->producer, &record, sizeof(word), worker->payload + sizeof(word),
                                 bytes - (uint32_t)sizeof(word));
        ivg_record_write(&self->producer, &record, 0, &word, sizeof(word));
        commit(self, worker, &record, OPCODE_INLINE);
        return true;
}

static bool send_block(struct ivgpu_producer *self, struct bench_worker *worker, uint64_t word)
{
        const uint32_t bytes = worker->run->is.payload_bytes;
        const struct block_reference reference = {.word = word, .given = worker->blocks_given, .bytes = bytes};
        uint8_t *block = blocks_next(&self->ring->blocks, worker);
        struct ivg_record record;

        if (!block)
                return false;
        bench_copy(block, worker->payload, bytes);
        if (!reserve(self, sizeof(reference), &record))
                return false;
        blocks_sent(worker);
        ivg_record_write(&self->producer, &record, 0, &reference, sizeof(reference));
        commit(self, worker, &record, OPCODE_BLOCK);
        return true;
}

/* Inline, as the guest's calls are. */
__attribute__((always_inline)) static inline bool ivgpu_send(struct ivgpu_producer *self, struct bench_worker *worker,
                                                             uint64_t word)
{
        const uint32_t bytes = worker->run->is.payload_bytes;

        if (word & BENCH_WANTS_ANSWER) {
                self->producer.sequence = bench_word_number(word);
                self->looks = 0;
        }
        if (bytes == IVG_SLOT_PAYLOAD_BYTES)
                return send_inline(self, worker, word, IVG_SLOT_PAYLOAD_BYTES);
        if (bytes == sizeof(word))
                return send_inline(self, worker, word, sizeof(word));
        if (bytes <= IVG_RECORD_PAYLOAD_BYTES_MAX)
                return send_inline(self, worker, word, bytes);
        return send_block(self, worker, word);
}

__attribute__((always_inline)) static inline bool ivgpu_answered(struct ivgpu_producer *self,
                                                                 struct bench_worker *worker, uint64_t number)
{
        struct ivg_answer_header header;

        if (self->looks == 0 && !worker->run->is.sleeping)
                ivg_producer_rest(&self->producer);
        if (ivg_producer_look_for_answer(&self->producer, number, self->looks++, &header, NULL))
                return true;
        if (worker->run->is.sleeping) {
                if (!ivg_producer_wait_begin(&self->producer, number))
                        self->ring->producer_sleep(self->ring, worker->index, &self->producer, number);
                ivg_producer_wait_end(&self->producer);
        }
        return false;
}

/* ---- consumer ---- */

struct ivgpu_consumer {
        struct ours *ring;
        struct ivg_batch batch;
};

static inline uint64_t read_record(struct ivgpu_consumer *self, struct bench_worker *worker,
                                   const struct ivg_taken_record *record)
{
        struct block_reference reference;

        memcpy(&reference.word, record->payload, sizeof(reference.word));
        if (record->opcode == OPCODE_BLOCK) {
                const uint32_t producer = bench_word_producer(reference.word);

                memcpy(&reference, record->payload, sizeof(reference));
                bench_copy(worker->payload, blocks_at(&self->ring->blocks, producer, reference.given), reference.bytes);
                blocks_give(&self->ring->blocks, worker, producer);
        }
        return reference.word;
}

static inline uint32_t ivgpu_receive(struct ivgpu_consumer *self, struct bench_worker *worker)
{
        struct ours *ours = self->ring;
        int count;

        if (!worker->run->is.sleeping)
                ivg_consumer_rest(&ours->consumer, &self->batch);
        count = ivg_consumer_take(&ours->consumer, &self->batch);
        if (count < 0)
                bench_die("ivgpu: take failed: %d", count);
        for (int i = 0; i < count; i++) {
                const uint64_t word = read_record(self, worker, &self->batch.records[i]);
                const uint32_t producer = bench_word_producer(word);

                if (bench_note(worker, word) && ivg_consumer_answer_record(&ours->consumer, &self->batch.records[i],
                                                                           ivg_load_relaxed_u32(&ours->lines[producer]),
                                                                           bench_word_number(word), 0, NULL, 0) == 1)
                        ours->wake_producer(ours, producer);
        }
        if (count == 0 && worker->run->is.sleeping) {
                if (ivg_consumer_sleep_begin(&ours->consumer))
                        ours->consumer_sleep(ours);
                ivg_consumer_sleep_end(&ours->consumer);
        }
        return (uint32_t)count;
}

#define LOOPS_NAME ivgpu
#define LOOPS_PRODUCER struct ivgpu_producer
#define LOOPS_CONSUMER struct ivgpu_consumer
#define LOOPS_BEGIN attach
#define LOOPS_END detach
#include "loops.h"

void bench_ours_produce(struct bench_worker *worker)
{
        ivgpu_produce(worker);
}

void bench_ours_consume(struct bench_worker *worker)
{
        ivgpu_consume(worker);
}

void bench_ours_share(struct bench_run *run, struct ours *ours)
{
        ours->lines = bench_memory(run, BENCH_PRODUCERS_MAX * sizeof(ours->lines[0]), 128);
        if (run->is.payload_bytes > IVG_RECORD_PAYLOAD_BYTES_MAX)
                blocks_open(run, &ours->blocks, 0);
}

/* ---- on this machine ---- */

static void wake_consumer(struct ours *ours)
{
        ring_eventfd(ours->doorbell);
}
static void consumer_sleep(struct ours *ours)
{
        wait_eventfd(ours->doorbell);
}
static void wake_producer(struct ours *ours, uint32_t producer)
{
        ring_eventfd(ours->interrupts[producer]);
}
static void producer_sleep(struct ours *ours, uint32_t index, struct ivg_producer *producer, uint64_t number)
{
        (void)producer;
        (void)number;
        wait_eventfd(ours->interrupts[index]);
}

static const char *refusal(const struct bench_case *is)
{
        (void)is;
        return NULL;
}

static const char *open_ours(struct bench_run *run)
{
        struct ours *ours = bench_memory(run, sizeof(*ours), 128);

        ours->guest = bench_memory(run, sizeof(*ours->guest), IVG_PAGE_BYTES);
        ours->host = bench_memory(run, sizeof(*ours->host), IVG_PAGE_BYTES);
        bench_ours_share(run, ours);
        ours->wake_consumer = wake_consumer;
        ours->consumer_sleep = consumer_sleep;
        ours->wake_producer = wake_producer;
        ours->producer_sleep = producer_sleep;
        ours->generation = GENERATION;
        ivg_ring_format(ours->guest, 0);
        if (ivg_consumer_open(&ours->consumer, ours->guest, ours->host, GENERATION, 0) != 0)
                return "the ring does not open";
        ours->doorbell = eventfd(0, EFD_CLOEXEC);
        for (uint32_t i = 0; i < run->is.producers; i++)
                ours->interrupts[i] = eventfd(0, EFD_CLOEXEC);
        run->ring = ours;
        return ours->doorbell < 0 || ours->interrupts[run->is.producers - 1] < 0 ? "no eventfd" : NULL;
}

static void close_ours(struct bench_run *run)
{
        struct ours *ours = run->ring;

        close(ours->doorbell);
        for (uint32_t i = 0; i < run->is.producers; i++)
                close(ours->interrupts[i]);
}

const struct bench_peer bench_peer_ivgpu = {.name = "ivgpu",
                                            .is_mpsc = true,
                                            .is_ours = true,
                                            .refusal = refusal,
                                            .open = open_ours,
                                            .close = close_ours,

                                            .produce = bench_ours_produce,

                                            .consume = bench_ours_consume};
