#include "ring_walk.h"
#include <string.h>

/* Relaxed throughout: a private copy. */
static uint64_t commit_at(const struct ivg_ring_walk *walk, uint64_t position)
{
        return ivg_load_relaxed_u64(&walk->guest->slots[position & IVG_RING_SLOT_MASK].commit);
}

void ivg_ring_walk_begin(struct ivg_ring_walk *walk)
{
        walk->tail = ivg_load_relaxed_u64(&walk->guest->tail);
        walk->impossible = walk->tail - walk->head > IVG_RING_SLOTS;
        walk->next = walk->tail < IVG_RING_SLOTS ? 0 : walk->tail - IVG_RING_SLOTS;
        /* The head is shown late: all before a record that was answered in its slot has been taken. */
        for (uint64_t position = walk->head; !walk->impossible && position != walk->tail; position++) {
                const uint64_t word = commit_at(walk, position);

                if (ivg_commit_matches(word, position) && ivg_commit_kind(word) == IVG_SLOT_ANSWERED)
                        walk->head = position + 1;
        }
}

/* The line whose note says that this claim is its own; IVG_RING_PRODUCERS: none. */
static uint32_t claimant(const struct ivg_ring_walk *walk, uint64_t position, uint32_t *slots)
{
        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++) {
                const struct ivg_ring_producer *line = &walk->guest->producers[i];

                *slots = ivg_load_relaxed_u32(&line->slots);
                if (*slots >= 1 && *slots <= IVG_RECORD_SLOTS_MAX && ivg_load_relaxed_u64(&line->position) == position)
                        return i;
        }
        return IVG_RING_PRODUCERS;
}

static bool is_taken(const struct ivg_ring_walk *walk, uint64_t position)
{
        return !walk->impossible && (int64_t)(position - walk->head) < 0;
}

static void entry_half_written(const struct ivg_ring_walk *walk, struct ivg_ring_entry *entry)
{
        const uint64_t left = walk->tail - entry->position;
        uint32_t slots;

        entry->kind = IVG_ENTRY_HALF_WRITTEN;
        entry->line = claimant(walk, entry->position, &slots);
        entry->owner_known = entry->line < IVG_RING_PRODUCERS;
        if (entry->owner_known) {
                entry->slots = slots < left ? slots : (uint32_t)left;
                return;
        }
        for (entry->slots = 1; entry->slots < left; entry->slots++)
                if (ivg_commit_matches(commit_at(walk, entry->position + entry->slots),
                                       entry->position + entry->slots) ||
                    claimant(walk, entry->position + entry->slots, &slots) < IVG_RING_PRODUCERS)
                        break;
}

static void entry_broken(struct ivg_ring_entry *entry, uint32_t slots, const char *what)
{
        entry->kind = IVG_ENTRY_BROKEN;
        entry->slots = slots;
        entry->what = what;
}

static void copy_payload(const struct ivg_ring_walk *walk, struct ivg_ring_entry *entry)
{
        for (uint32_t i = 0; i < entry->slots; i++)
                memcpy(entry->payload + i * IVG_SLOT_PAYLOAD_BYTES,
                       walk->guest->slots[(entry->position + i) & IVG_RING_SLOT_MASK].payload, IVG_SLOT_PAYLOAD_BYTES);
        entry->bytes = entry->slots * IVG_SLOT_PAYLOAD_BYTES;
}

static void entry_record(const struct ivg_ring_walk *walk, struct ivg_ring_entry *entry, uint64_t word)
{
        const uint32_t kind = ivg_commit_kind(word), slots = ivg_commit_slots(word);

        if (kind != IVG_SLOT_DATA && kind != IVG_SLOT_SKIP && kind != IVG_SLOT_ANSWERED) {
                entry_broken(entry, 1, "neither data nor skip");
                return;
        }
        if (slots == 0 || slots > IVG_RECORD_SLOTS_MAX || slots > walk->tail - entry->position) {
                entry_broken(entry, 1, "impossible length");
                return;
        }
        entry->slots = slots;
        for (uint32_t i = 1; i < slots; i++) {
                const uint64_t next = commit_at(walk, entry->position + i);

                if (ivg_commit_matches(next, entry->position + i) && ivg_commit_kind(next) == IVG_SLOT_CONT)
                        continue;
                entry_broken(entry, slots, "a continuation is missing");
                return;
        }
        entry->kind = kind == IVG_SLOT_SKIP ? IVG_ENTRY_SKIP : IVG_ENTRY_RECORD;
        entry->answered = kind == IVG_SLOT_ANSWERED;
        entry->call = ivg_commit_opcode(word);
        copy_payload(walk, entry);
}

bool ivg_ring_walk_next(struct ivg_ring_walk *walk, struct ivg_ring_entry *entry)
{
        while (walk->next != walk->tail) {
                const uint64_t word = commit_at(walk, walk->next);
                const bool matches = ivg_commit_matches(word, walk->next);

                *entry = (struct ivg_ring_entry){.position = walk->next, .taken = is_taken(walk, walk->next)};
                if (entry->taken && (!matches || ivg_commit_kind(word) == IVG_SLOT_CONT)) {
                        walk->next++; /* the rest of something that was overwritten, or never was */
                        continue;
                }
                if (matches)
                        entry_record(walk, entry, word);
                else
                        entry_half_written(walk, entry);
                walk->next += entry->slots;
                return true;
        }
        return false;
}
