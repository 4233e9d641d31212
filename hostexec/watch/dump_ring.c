/* A channel's ring and its threads as JSON. */
#include "call_print.h"
#include "dump_parts.h"
#include "ivgpu/ring.h"
#include "ring_walk.h"
#include <stdio.h>
#include <string.h>

#define CALL_TEXT_BYTES 512
/* Of a hostile ring all slots may be broken ones; so many are shown of each channel, the others counted. */
#define ODD_ENTRIES_SHOWN 64u

static const char *const ring_words[] = {[IVG_RING_UNUSED] = "UNUSED",
                                         [IVG_RING_OPEN] = "OPEN",
                                         [IVG_RING_CLOSED] = "CLOSED",
                                         [IVG_RING_PEER_GONE] = "PEER_GONE",
                                         [IVG_RING_FAULT] = "FAULT"};

/* What an answer in a record's slot has left of it: result and length lie over the first words, which tell nothing
 * here; the answer's own bytes over sender and arguments. */
struct answered {
        uint32_t result, covers; /* bytes of sender and arguments; of a longer answer they are elsewhere */
};

static struct answered answered(const struct ivg_ring_entry *entry)
{
        uint32_t words[2];

        memcpy(words, entry->payload, sizeof(words));
        return (struct answered){.result = words[0], .covers = words[1] <= IVG_MAILBOX_PAYLOAD_BYTES ? words[1] : 0};
}

static void add_sender(struct json_object *call, const struct ivg_call_header *header,
                       const struct ivg_ring_guest_part *guest)
{
        ivg_json_add_number(call, "line", header->producer);
        if (header->producer < IVG_RING_PRODUCERS) /* the line may be another thread's by now */
                ivg_json_add_number(call, "thread", ivg_dump_u32(&guest->producers[header->producer].owner));
}

static void add_text(struct json_object *call, const struct ivg_ring_entry *entry, const struct answered *answer,
                     bool decode)
{
        char text[CALL_TEXT_BYTES];
        size_t length;

        if (decode)
                (void)ivg_print_call(entry->call, text, sizeof(text), entry->payload,
                                     answer->covers ? 0 : entry->bytes);
        else
                snprintf(text, sizeof(text), "call 0x%04x", entry->call);
        if (answer->covers)
                text[strcspn(text, "(")] = '\0';
        length = strlen(text);
        if (entry->answered)
                snprintf(text + length, sizeof(text) - length, "%s = %u", answer->covers ? "(overwritten)" : "",
                         answer->result);
        ivg_json_add_text(call, "text", text);
}

static struct json_object *call_json(const struct ivg_ring_entry *entry, const struct ivg_ring_guest_part *guest,
                                     bool decode)
{
        const struct answered answer = entry->answered ? answered(entry) : (struct answered){0, 0};
        struct json_object *call = json_object_new_object();
        struct ivg_call_header header;

        memcpy(&header, entry->payload, sizeof(header));
        ivg_json_add_number(call, "position", entry->position);
        ivg_json_add_number(call, "slots", entry->slots);
        ivg_json_add_bool(call, "taken", entry->taken);
        if (!answer.covers)
                add_sender(call, &header, guest);
        ivg_json_add_bool(call, "sync", entry->answered || (header.flags & IVG_CALL_WANTS_ANSWER));
        ivg_json_add_number(call, "number", entry->call);
        if (entry->answered) {
                ivg_json_add_bool(call, "answered", true);
                ivg_json_add_number(call, "result", answer.result);
                ivg_json_add_number(call, "overwritten_bytes", answer.covers);
        }
        add_text(call, entry, &answer, decode);
        return call;
}

static struct json_object *odd_json(const struct ivg_ring_entry *entry, const struct ivg_ring_guest_part *guest)
{
        struct json_object *odd = json_object_new_object();

        ivg_json_add_number(odd, "position", entry->position);
        ivg_json_add_number(odd, "slots", entry->slots);
        ivg_json_add_bool(odd, "taken", entry->taken);
        if (entry->kind == IVG_ENTRY_BROKEN)
                ivg_json_add_text(odd, "rule", entry->what);
        if (entry->kind == IVG_ENTRY_HALF_WRITTEN && entry->owner_known) {
                const uint32_t owner = ivg_dump_u32(&guest->producers[entry->line].owner);

                ivg_json_add_number(odd, "line", entry->line);
                ivg_json_add_number(odd, "thread", owner & ~IVG_OWNER_DEAD);
                ivg_json_add_bool(odd, "owner_dead", owner & IVG_OWNER_DEAD);
        }
        return odd;
}

/* Keeps the latest `max` of what was taken, and all that waits. */
static void add_call(struct json_object *calls, struct json_object *call, uint32_t *taken, uint32_t max, bool is_taken)
{
        json_object_array_add(calls, call);
        if (is_taken && ++*taken > max) {
                json_object_array_del_idx(calls, 0, 1);
                --*taken;
        }
}

void ivg_dump_add_entries(struct json_object *object, const struct ivg_channel_image *image, uint32_t calls_max,
                          bool decode)
{
        struct ivg_ring_walk walk = {.guest = &image->guest, .head = ivg_dump_u64(&image->host.head)};
        struct json_object *calls = json_object_new_array(), *half = json_object_new_array(),
                           *broken = json_object_new_array();
        uint32_t taken = 0, odd_hidden = 0, skips = 0, waiting = 0;
        struct ivg_ring_entry entry;

        ivg_ring_walk_begin(&walk);
        while (ivg_ring_walk_next(&walk, &entry)) {
                struct json_object *odd = entry.kind == IVG_ENTRY_BROKEN ? broken : half;

                if (entry.kind == IVG_ENTRY_SKIP)
                        skips++;
                else if (entry.kind == IVG_ENTRY_RECORD)
                        add_call(calls, call_json(&entry, &image->guest, decode), &taken, calls_max, entry.taken);
                else if (json_object_array_length(odd) < ODD_ENTRIES_SHOWN)
                        json_object_array_add(odd, odd_json(&entry, &image->guest));
                else
                        odd_hidden++;
                waiting += entry.kind == IVG_ENTRY_RECORD && !entry.taken;
        }
        ivg_json_add_bool(object, "impossible", walk.impossible);
        ivg_json_add_number(object, "records_waiting", waiting);
        ivg_json_add_number(object, "skips", skips);
        json_object_object_add(object, "half_written", half);
        json_object_object_add(object, "broken", broken);
        ivg_json_add_number(object, "not_shown", odd_hidden);
        json_object_object_add(object, "calls", calls);
}

void ivg_dump_add_ring(struct json_object *channel, const struct ivg_channel_image *image, uint32_t calls, bool decode)
{
        struct json_object *ring = ivg_json_add_new(channel, "ring", json_object_new_object());
        const struct ivg_ring_host_part *host = &image->host;
        const uint64_t status = ivg_dump_u64(&host->status), fault = ivg_dump_u64(&host->fault),
                       sleep_at = ivg_dump_u64(&host->sleep_at);

        ivg_json_add_number(ring, "tail", ivg_dump_u64(&image->guest.tail));
        ivg_json_add_number(ring, "head", ivg_dump_u64(&host->head));
        IVG_DUMP_ADD_WORD(ring, "status", (uint32_t)status, ring_words);
        ivg_json_add_number(ring, "generation", status >> 32);
        ivg_json_add_bool(ring, "consumer_sleeps", sleep_at != 0);
        if (sleep_at != 0)
                ivg_json_add_number(ring, "awaits", sleep_at - 1);
        if (fault != 0) {
                ivg_json_add_text(ring, "fault", ivg_ring_fault_name((enum ivg_ring_fault)(uint32_t)fault));
                ivg_json_add_number(ring, "fault_value", fault >> 32);
                ivg_json_add_number(ring, "fault_position", ivg_dump_u64(&host->fault_position));
        }
        ivg_dump_add_entries(ring, image, calls, decode);
}

/* ---- threads, their mailboxes ---- */

void ivg_dump_add_threads(struct json_object *channel, const struct ivg_channel_image *image)
{
        struct json_object *threads = ivg_json_add_new(channel, "threads", json_object_new_array());

        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++) {
                const struct ivg_ring_producer *line = &image->guest.producers[i];
                const struct ivg_ring_mailbox *mailbox = &image->host.mailboxes[i];
                const uint32_t owner = ivg_dump_u32(&line->owner), claim = ivg_dump_u32(&line->slots);
                struct json_object *thread, *answer;

                if (owner == 0 && claim == 0)
                        continue;
                thread = json_object_new_object();
                json_object_array_add(threads, thread);
                ivg_json_add_number(thread, "line", i);
                ivg_json_add_number(thread, "thread", owner & ~IVG_OWNER_DEAD);
                ivg_json_add_bool(thread, "dead", owner & IVG_OWNER_DEAD);
                if (claim != 0) {
                        ivg_json_add_number(thread, "claim_position", ivg_dump_u64(&line->position));
                        ivg_json_add_number(thread, "claim_slots", claim);
                }
                ivg_json_add_number(thread, "calls", ivg_dump_u64(&line->calls));
                ivg_json_add_number(thread, "calls_waited", ivg_dump_u64(&line->calls_sync));
                ivg_json_add_number(thread, "calls_local", ivg_dump_u32(&line->calls_local_low));
                ivg_json_add_number(thread, "doorbells", ivg_dump_u64(&line->doorbells));
                ivg_json_add_bool(thread, "sleeps", ivg_dump_u32(&image->guest.waiters[i].waiting) != 0);
                answer = ivg_json_add_new(thread, "mailbox", json_object_new_object());
                ivg_json_add_number(answer, "sequence", ivg_dump_u64(&mailbox->sequence));
                ivg_json_add_number(answer, "result", mailbox->result);
                ivg_json_add_number(answer, "bytes", mailbox->answer_bytes);
        }
}
