/* What Eva is asked about the ring's consumer (tools/prove): that no content of the guest's part makes it read or write
 * outside its arrays. In steps: ivg_slot_copy_payload's contract is what copy_record may rely on. It leaves out what is
 * written, which nobody reads here. Not shown: ivg_consumer_take's own arithmetic (docs/trust.md). */
#include <stddef.h>
#include <stdint.h>

#include "ivgpu/ring_layout.h"

volatile int ivg_any;
static volatile uint32_t any_u32;
static volatile uint64_t any_u64;

/*@ requires room: \valid(to + (0 .. 55));
    requires slot: \valid_read(slot);
    assigns \nothing; */
static inline void ivg_slot_copy_payload(uint8_t *to, const struct ivg_ring_slot *slot);

#include "ivgpu/ring.h"

#include "ring_attach.c"
#include "ring_consumer.c"

static struct ivg_ring_guest_part guest;
static struct ivg_ring_host_part host;
static struct ivg_consumer consumer;
static uint8_t bytes[IVG_RECORD_SLOTS_MAX * IVG_SLOT_PAYLOAD_BYTES];

/* Any slot, to the last bytes of an array. */
void prove_copy_payload(void)
{
        const uint32_t index = any_u32;

        if (index < IVG_RING_SLOTS)
                ivg_slot_copy_payload(bytes + sizeof(bytes) - IVG_SLOT_PAYLOAD_BYTES, &guest.slots[index]);
}

/* Any position, each length, to the last bytes of an array that hold just that. */
void prove_copy_record(void)
{
        const uint32_t slots = any_u32;

        if (slots < 1 || slots > IVG_RECORD_SLOTS_MAX)
                return;
        //@ split slots;
        (void)copy_record(&guest, any_u64, slots, bytes + (IVG_RECORD_SLOTS_MAX - slots) * IVG_SLOT_PAYLOAD_BYTES);
}

/* A consumer in any state, a guest part with any content. */
void prove_sleep(void)
{
        consumer.guest = &guest;
        consumer.host = &host;
        (void)ivg_consumer_sleep_begin(&consumer);
        ivg_consumer_sleep_end(&consumer);
}

/* Any index, any length that the interface allows. */
void prove_answer(void)
{
        const uint32_t count = any_u32;

        consumer.guest = &guest;
        consumer.host = &host;
        if (count <= IVG_MAILBOX_PAYLOAD_BYTES)
                (void)ivg_consumer_answer(&consumer, any_u32, any_u64, any_u32, bytes, count);
        else
                (void)ivg_consumer_answer(&consumer, any_u32, any_u64, any_u32, NULL, count);
}

/* Any record, whatever its position, any index, any length that the interface allows. */
void prove_answer_record(void)
{
        const struct ivg_taken_record record = {
                .position = any_u64, .opcode = (uint16_t)any_u32, .slots = (uint16_t)any_u32};
        const uint32_t count = any_u32;

        consumer.guest = &guest;
        consumer.host = &host;
        consumer.head_published = any_u64;
        if (count <= IVG_MAILBOX_PAYLOAD_BYTES)
                (void)ivg_consumer_answer_record(&consumer, &record, any_u32, any_u64, any_u32, bytes, count);
        else
                (void)ivg_consumer_answer_record(&consumer, &record, any_u32, any_u64, any_u32, NULL, count);
}
