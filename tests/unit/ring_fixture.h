/* One ring in this process's memory, both sides at hand, and slots built by hand. */
#ifndef RING_FIXTURE_H
#define RING_FIXTURE_H

/* cmocka needs these four before itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "ivgpu/ring.h"
#include <cmocka.h>
#include <sys/mman.h>

#define FIXTURE_GENERATION 7u
#define FIXTURE_OWNER 41u

struct ring_fixture {
        struct ivg_ring_guest_part *guest;
        struct ivg_ring_host_part *host;
        struct ivg_ring ring;
        struct ivg_consumer consumer;
        struct ivg_producer producer; /* owner FIXTURE_OWNER */
        struct ivg_batch batch;
};

static inline void fixture_open(struct ring_fixture *f, uint64_t start)
{
        memset(f, 0, sizeof(*f));
        f->guest = mmap(NULL, sizeof(*f->guest), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        f->host = mmap(NULL, sizeof(*f->host), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(f->guest, MAP_FAILED);
        assert_ptr_not_equal(f->host, MAP_FAILED);
        ivg_ring_format(f->guest, start);
        assert_int_equal(ivg_consumer_open(&f->consumer, f->guest, f->host, FIXTURE_GENERATION, start), 0);
        assert_int_equal(ivg_ring_init(&f->ring, f->guest, f->host, FIXTURE_GENERATION), 0);
        assert_int_equal(ivg_producer_open(&f->ring, FIXTURE_OWNER, &f->producer), 0);
}

static inline void fixture_close(struct ring_fixture *f)
{
        munmap(f->guest, sizeof(*f->guest));
        munmap(f->host, sizeof(*f->host));
}

static inline struct ivg_ring_slot *fixture_slot(struct ring_fixture *f, uint64_t position)
{
        return &f->guest->slots[position & IVG_RING_SLOT_MASK];
}

static inline void fixture_poke(struct ring_fixture *f, uint64_t position, uint64_t commit)
{
        ivg_store_release_u64(&fixture_slot(f, position)->commit, commit);
}

/* One byte per position in a record's payload that differs between neighbours, records and laps. */
static inline uint8_t fixture_byte(uint64_t seed, uint32_t offset)
{
        return (uint8_t)(seed * 31 + offset * 7 + (offset >> 8));
}

static inline bool fixture_try_send(struct ring_fixture *f, uint64_t seed, uint32_t bytes, uint16_t opcode,
                                    bool *asleep)
{
        uint8_t payload[IVG_RECORD_PAYLOAD_BYTES_MAX];
        struct ivg_record record = {0};
        const int rc = ivg_producer_reserve(&f->producer, bytes, &record);

        if (rc == -EAGAIN)
                return false;
        assert_int_equal(rc, 0);
        for (uint32_t i = 0; i < bytes; i++)
                payload[i] = fixture_byte(seed, i);
        ivg_record_write(&f->producer, &record, 0, payload, bytes);
        *asleep = ivg_producer_commit(&f->producer, &record, opcode);
        return true;
}

/* Sends one record; returns commit's word on the doorbell. */
static inline bool fixture_send(struct ring_fixture *f, uint64_t seed, uint32_t bytes, uint16_t opcode)
{
        bool asleep = false;

        assert_true(fixture_try_send(f, seed, bytes, opcode, &asleep));
        return asleep;
}

static inline void fixture_check_record(const struct ivg_taken_record *record, uint64_t seed, uint32_t bytes,
                                        uint16_t opcode)
{
        const uint32_t slots = bytes == 0 ? 1 : (bytes + IVG_SLOT_PAYLOAD_BYTES - 1) / IVG_SLOT_PAYLOAD_BYTES;

        assert_int_equal(record->opcode, opcode);
        assert_int_equal(record->slots, slots);
        assert_int_equal(record->payload_bytes, slots * IVG_SLOT_PAYLOAD_BYTES);
        assert_int_equal((uintptr_t)record->payload % 8, 0);
        for (uint32_t i = 0; i < bytes; i++)
                assert_int_equal(record->payload[i], fixture_byte(seed, i));
}

#endif
