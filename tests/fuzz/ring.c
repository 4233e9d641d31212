/* A consumer against a guest part that holds anything.
 *
 * Input: steps. Each is one byte of what to do, then its operands:
 *   0..3  a slot: u16 distance from the consumer's position, u8 kind of word, u64 the word itself or its parts
 *   4..5  take;  6 sleep_begin and sleep_end;  7 answer (u8 index, u8 bytes) */
#include "ivgpu/ring.h"
#include "fuzz.h"

static struct ivg_ring_guest_part *guest;
static struct ivg_ring_host_part *host;

static void write_slot(struct fuzz_input *input, const struct ivg_consumer *consumer)
{
        const uint64_t position = ivg_load_relaxed_u64(&consumer->head) + fuzz_take_number(input, 2) % 128;
        struct ivg_ring_slot *slot = &guest->slots[position & IVG_RING_SLOT_MASK];
        const uint32_t form = (uint32_t)fuzz_take_number(input, 1);
        const uint64_t word = fuzz_take_number(input, 8);

        if (form % 4 == 0) /* anything */
                ivg_store_relaxed_u64(&slot->commit, word);
        else if (form % 4 == 1)
                ivg_store_relaxed_u64(&slot->commit, ivg_commit_word(position, 0, IVG_SLOT_CONT, 0));
        else /* the right tag, and the rest as it comes */
                ivg_store_relaxed_u64(&slot->commit, (word & ~(uint64_t)UINT32_MAX) | (uint32_t)(position + 1));
        slot->payload[0] = word;
}

static void check_batch(const struct ivg_batch *batch, int taken, uint64_t before, uint64_t after)
{
        uint64_t position = before;
        uint32_t bytes = 0;

        MUST(taken == (int)batch->records_count || taken == -71, "taken %d, %u records", taken, batch->records_count);
        MUST(batch->records_count <= IVG_BATCH_SLOTS_MAX, "%u records", batch->records_count);
        for (uint32_t i = 0; i < batch->records_count; i++) {
                const struct ivg_taken_record *record = &batch->records[i];

                MUST(record->slots >= 1 && record->slots <= IVG_RECORD_SLOTS_MAX, "%u slots", record->slots);
                MUST(record->payload_bytes == record->slots * IVG_SLOT_PAYLOAD_BYTES, "%u bytes",
                     record->payload_bytes);
                MUST(record->payload == batch->bytes + bytes, "record %u", i);
                MUST(record->position >= position, "position %llu", (unsigned long long)record->position);
                position = record->position + record->slots;
                bytes += record->payload_bytes;
        }
        MUST(bytes <= sizeof(batch->bytes), "%u bytes", bytes);
        MUST(after >= position && after - before <= IVG_BATCH_SLOTS_MAX, "head from %llu to %llu",
             (unsigned long long)before, (unsigned long long)after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const uint64_t starts[] = {0, UINT32_MAX - 20ull, UINT64_MAX - 200, IVG_RING_SLOTS - 3};
        struct fuzz_input input = {data, size};
        static struct ivg_consumer consumer;
        static struct ivg_batch batch;
        bool faulted = false;
        uint64_t start;

        if (!guest) {
                guest = aligned_alloc(IVG_PAGE_BYTES, sizeof(*guest));
                host = aligned_alloc(IVG_PAGE_BYTES, (sizeof(*host) + 4095) & ~(size_t)4095);
        }
        start = starts[fuzz_take_number(&input, 1) % 3];
        ivg_ring_format(guest, start);
        memset(host, 0, sizeof(*host));
        batch.records_count = 0;
        MUST(ivg_consumer_open(&consumer, guest, host, 5, start) == 0, "open");
        for (uint32_t step = 0; input.left > 0 && step < 512; step++) {
                const uint32_t what = (uint32_t)fuzz_take_number(&input, 1) % 8;

                if (what < 4) {
                        write_slot(&input, &consumer);
                } else if (what < 6) {
                        const uint64_t before = ivg_load_relaxed_u64(&consumer.head);
                        const int taken = ivg_consumer_take(&consumer, &batch);

                        MUST(!faulted || taken == -71, "taken %d after a fault", taken);
                        check_batch(&batch, taken, before, ivg_load_relaxed_u64(&consumer.head));
                        faulted = taken < 0;
                        MUST(faulted == ((uint32_t)ivg_load_relaxed_u64(&host->status) == IVG_RING_FAULT), "status");
                        MUST(!faulted || (uint32_t)ivg_load_relaxed_u64(&host->fault) != IVG_FAULT_NONE, "no reason");
                } else if (what == 6) {
                        (void)ivg_consumer_sleep_begin(&consumer);
                        ivg_consumer_sleep_end(&consumer);
                } else {
                        const uint32_t index = (uint32_t)fuzz_take_number(&input, 1);
                        const uint32_t bytes = (uint32_t)fuzz_take_number(&input, 1) % (IVG_MAILBOX_PAYLOAD_BYTES + 1);
                        uint8_t payload[IVG_MAILBOX_PAYLOAD_BYTES] = {0};
                        /* In the slot too, where there is a record. */
                        const int rc = batch.records_count != 0
                                               ? ivg_consumer_answer_record(&consumer,
                                                                            &batch.records[index % batch.records_count],
                                                                            index, step + 1, 0, payload, bytes)
                                               : ivg_consumer_answer(&consumer, index, step + 1, 0, payload, bytes);

                        MUST((rc < 0) == (index >= IVG_RING_PRODUCERS), "index %u: %d", index, rc);
                }
        }
        return 0;
}
