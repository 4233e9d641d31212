/* Lost wake-ups: the consumer sleeps as soon as it finds nothing, and each record comes at another instant of its
 * falling asleep. A record that lies there while nobody has rung is lost; a third thread looks for that. */
#include "bench.h"
#include "ivgpu/ring.h"
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define DELAY_NS_MAX 4000.0 /* longer than it takes to fall asleep */
#define STANDSTILL_MS 3000u /* beyond any scheduling delay: then the ring is looked at */
#define LOOK_EVERY_MS 100u

struct sleeps {
        const struct bench_options *options;
        uint64_t sleeps;
        struct ivg_ring_guest_part guest;
        struct ivg_ring_host_part host;
        struct ivg_ring ring;
        int doorbell;
        _Alignas(128) struct ivg_consumer consumer;
        _Alignas(128) _Atomic(uint64_t) slept; /* consumer's */
        _Atomic(uint64_t) taken;
        _Alignas(128) _Atomic(uint64_t) sent; /* producer's */
        _Atomic(uint64_t) doorbells;
        _Alignas(128) _Atomic(uint32_t) done;
};

static void *consume(void *argument)
{
        struct sleeps *self = argument;
        struct ivg_batch *batch = aligned_alloc(64, sizeof(*batch));
        uint64_t slept = 0, taken = 0;

        if (!batch)
                bench_die("out of memory");
        bench_pin(self->options->processors[1]);
        while (ivg_load_acquire_u32(&self->done) == 0) {
                const int count = ivg_consumer_take(&self->consumer, batch);

                if (count < 0)
                        bench_die("take failed: %d", count);
                for (int i = 0; i < count; i++) {
                        ivg_store_relaxed_u64(&self->taken, ++taken); /* looked at when nothing moves */
                        (void)ivg_consumer_answer(&self->consumer, 0, taken, 0, NULL, 0);
                }
                if (count == 0) {
                        uint64_t rings;

                        if (ivg_consumer_sleep_begin(&self->consumer)) {
                                ivg_store_relaxed_u64(&self->slept, ++slept); /* a count alone */
                                if (read(self->doorbell, &rings, sizeof(rings)) != sizeof(rings))
                                        bench_die("no doorbell could be waited for");
                        }
                        ivg_consumer_sleep_end(&self->consumer);
                }
        }
        free(batch);
        return NULL;
}

static void ring_doorbell(const struct sleeps *self)
{
        const uint64_t one = 1;

        if (write(self->doorbell, &one, sizeof(one)) != sizeof(one))
                bench_die("no doorbell could be rung");
}

static void *produce(void *argument)
{
        struct sleeps *self = argument;
        struct ivg_producer producer;
        uint64_t random = 88172645463325252u, doorbells = 0;

        bench_pin(self->options->processors[0]);
        if (ivg_producer_open(&self->ring, 1, &producer) != 0)
                bench_die("the producer was refused");
        for (uint64_t number = 1; ivg_load_relaxed_u64(&self->slept) < self->sleeps; number++) { /* a count alone */
                const uint64_t begin = bench_ticks();
                struct ivg_answer_header header;
                struct ivg_record record;
                uint64_t delay;

                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                delay = (uint64_t)((double)(random % 4096) / 4096 * DELAY_NS_MAX / self->options->ns_per_tick);
                while (bench_ticks() - begin < delay)
                        ivg_cpu_relax();
                if (ivg_producer_reserve(&producer, 8, &record) != 0)
                        bench_die("reserve failed");
                ivg_record_write(&producer, &record, 0, &number, sizeof(number));
                if (ivg_producer_commit(&producer, &record, 0)) {
                        ivg_store_relaxed_u64(&self->doorbells, ++doorbells); /* read when this thread has ended */
                        ring_doorbell(self);
                }
                ivg_store_relaxed_u64(&self->sent, number); /* looked at when nothing moves */
                while (!ivg_producer_poll_answer(&producer, number, &header, NULL))
                        ivg_cpu_relax();
        }
        ivg_store_release_u32(&self->done, 1); /* pairs with the consumer's load */
        ring_doorbell(self);
        ivg_producer_close(&producer);
        return NULL;
}

/* Until the end: how often nothing moved for long with a record there. */
static uint64_t watch(struct sleeps *self)
{
        const struct timespec pause = {.tv_nsec = LOOK_EVERY_MS * 1000000};
        uint64_t last = 0, lost = 0;
        uint32_t still_ms = 0;

        while (ivg_load_acquire_u32(&self->done) == 0) {
                const uint64_t taken = ivg_load_relaxed_u64(&self->taken); /* by whoever moves, seen soon enough */

                nanosleep(&pause, NULL);
                still_ms = taken == last ? still_ms + LOOK_EVERY_MS : 0;
                last = taken;
                if (still_ms < STANDSTILL_MS || ivg_load_relaxed_u64(&self->sent) == taken ||
                    ivg_load_relaxed_u64(&self->host.sleep_at) == 0)
                        continue;
                lost++;
                still_ms = 0;
                ring_doorbell(self); /* on with it */
        }
        return lost;
}

uint64_t bench_count_lost_wakeups(const struct bench_options *options, uint64_t sleeps, uint64_t *doorbells,
                                  double *seconds)
{
        struct sleeps *self = aligned_alloc(4096, (sizeof(*self) + 4095) / 4096 * 4096);
        pthread_t consumer, producer;
        uint64_t begin, lost;

        if (!self)
                bench_die("out of memory");
        memset((void *)self, 0, sizeof(*self));
        self->options = options;
        self->sleeps = sleeps;
        self->doorbell = eventfd(0, EFD_CLOEXEC);
        ivg_ring_format(&self->guest, 0);
        if (self->doorbell < 0 || ivg_consumer_open(&self->consumer, &self->guest, &self->host, 1, 0) != 0 ||
            ivg_ring_init(&self->ring, &self->guest, &self->host, 1) != 0)
                bench_die("the ring does not open");
        begin = bench_ticks();
        if (pthread_create(&consumer, NULL, consume, self) != 0 || pthread_create(&producer, NULL, produce, self) != 0)
                bench_die("no thread for a worker");
        lost = watch(self);
        pthread_join(producer, NULL);
        pthread_join(consumer, NULL);
        *seconds = (double)(bench_ticks() - begin) * self->options->ns_per_tick / 1e9;
        *doorbells = ivg_load_relaxed_u64(&self->doorbells);
        close(self->doorbell);
        free(self);
        return lost;
}
