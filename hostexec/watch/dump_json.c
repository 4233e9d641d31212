#include "call_print.h"
#include "dump.h"
#include "ivgpu/ring.h"
#include "region_image.h"
#include "ring_walk.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CALL_TEXT_BYTES 512
/* Of a hostile ring all slots may be broken ones; so many are shown of each channel, the others counted. */
#define ODD_ENTRIES_SHOWN 64u

static void add_text(struct json_object *object, const char *key, const char *text)
{
        json_object_object_add(object, key, json_object_new_string(text));
}

static void add_number(struct json_object *object, const char *key, uint64_t number)
{
        json_object_object_add(object, key, json_object_new_uint64(number));
}

static void add_bool(struct json_object *object, const char *key, bool value)
{
        json_object_object_add(object, key, json_object_new_boolean(value));
}

static struct json_object *add_new(struct json_object *object, const char *key, struct json_object *value)
{
        json_object_object_add(object, key, value);
        return value;
}

/* A text of the other side: printable characters only, no end needed. */
static void add_claimed_text(struct json_object *object, const char *key, const char *bytes, size_t count)
{
        char text[65];
        size_t length = 0;

        for (; length < count && length < sizeof(text) - 1 && bytes[length]; length++)
                text[length] = bytes[length];
        text[length] = '\0';
        for (char *c = text; *c; c++)
                if (*c < ' ' || *c > '~')
                        *c = '?';
        add_text(object, key, text);
}

static void add_word(struct json_object *object, const char *key, uint32_t value, const char *const *words,
                     uint32_t count)
{
        if (value < count && words[value])
                add_text(object, key, words[value]);
        else
                add_number(object, key, value);
}
#define ADD_WORD(object, key, value, words) \
        add_word(object, key, value, words, (uint32_t)(sizeof(words) / sizeof((words)[0])))

static const char *const guest_words[] = {
        [IVG_GUEST_CHANNEL_FREE] = "FREE", [IVG_GUEST_CHANNEL_OPEN] = "OPEN", [IVG_GUEST_CHANNEL_CLOSED] = "CLOSED"};
static const char *const host_words[] = {[IVG_HOST_CHANNEL_FREE] = "FREE",
                                         [IVG_HOST_CHANNEL_STARTING] = "STARTING",
                                         [IVG_HOST_CHANNEL_READY] = "READY",
                                         [IVG_HOST_CHANNEL_FAILED] = "FAILED",
                                         [IVG_HOST_CHANNEL_DEAD] = "DEAD"};
static const char *const ring_words[] = {[IVG_RING_UNUSED] = "UNUSED",
                                         [IVG_RING_OPEN] = "OPEN",
                                         [IVG_RING_CLOSED] = "CLOSED",
                                         [IVG_RING_PEER_GONE] = "PEER_GONE",
                                         [IVG_RING_FAULT] = "FAULT"};

/* Relaxed from here on: private copies. */
static uint64_t u64(const _Atomic(uint64_t) *word)
{
        return ivg_load_relaxed_u64(word);
}
static uint32_t u32(const _Atomic(uint32_t) *word)
{
        return ivg_load_relaxed_u32(word);
}

/* ---- the ring ---- */

static struct json_object *call_json(const struct ivg_ring_entry *entry, const struct ivg_ring_guest_part *guest,
                                     bool decode)
{
        struct json_object *call = json_object_new_object();
        struct ivg_call_header header;
        char text[CALL_TEXT_BYTES];

        memcpy(&header, entry->payload, sizeof(header));
        add_number(call, "position", entry->position);
        add_number(call, "slots", entry->slots);
        add_bool(call, "taken", entry->taken);
        add_number(call, "line", header.producer);
        if (header.producer < IVG_RING_PRODUCERS) /* the line may be another thread's by now */
                add_number(call, "thread", u32(&guest->producers[header.producer].owner));
        add_bool(call, "sync", header.flags & IVG_CALL_WANTS_ANSWER);
        add_number(call, "number", entry->call);
        if (decode)
                (void)ivg_print_call(entry->call, text, sizeof(text), entry->payload, entry->bytes);
        else
                snprintf(text, sizeof(text), "call 0x%04x", entry->call);
        add_text(call, "text", text);
        return call;
}

static struct json_object *odd_json(const struct ivg_ring_entry *entry, const struct ivg_ring_guest_part *guest)
{
        struct json_object *odd = json_object_new_object();

        add_number(odd, "position", entry->position);
        add_number(odd, "slots", entry->slots);
        add_bool(odd, "taken", entry->taken);
        if (entry->kind == IVG_ENTRY_BROKEN)
                add_text(odd, "rule", entry->what);
        if (entry->kind == IVG_ENTRY_HALF_WRITTEN && entry->owner_known) {
                const uint32_t owner = u32(&guest->producers[entry->line].owner);

                add_number(odd, "line", entry->line);
                add_number(odd, "thread", owner & ~IVG_OWNER_DEAD);
                add_bool(odd, "owner_dead", owner & IVG_OWNER_DEAD);
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

static void add_entries(struct json_object *object, const struct ivg_channel_image *image, uint32_t calls_max,
                        bool decode)
{
        struct ivg_ring_walk walk = {.guest = &image->guest, .head = u64(&image->host.head)};
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
        add_bool(object, "impossible", walk.impossible);
        add_number(object, "records_waiting", waiting);
        add_number(object, "skips", skips);
        json_object_object_add(object, "half_written", half);
        json_object_object_add(object, "broken", broken);
        add_number(object, "not_shown", odd_hidden);
        json_object_object_add(object, "calls", calls);
}

static void add_ring(struct json_object *channel, const struct ivg_channel_image *image, uint32_t calls, bool decode)
{
        struct json_object *ring = add_new(channel, "ring", json_object_new_object());
        const struct ivg_ring_host_part *host = &image->host;
        const uint64_t status = u64(&host->status), fault = u64(&host->fault), sleep_at = u64(&host->sleep_at);

        add_number(ring, "tail", u64(&image->guest.tail));
        add_number(ring, "head", u64(&host->head));
        ADD_WORD(ring, "status", (uint32_t)status, ring_words);
        add_number(ring, "generation", status >> 32);
        add_bool(ring, "consumer_sleeps", sleep_at != 0);
        if (sleep_at != 0)
                add_number(ring, "awaits", sleep_at - 1);
        if (fault != 0) {
                add_text(ring, "fault", ivg_ring_fault_name((enum ivg_ring_fault)(uint32_t)fault));
                add_number(ring, "fault_value", fault >> 32);
                add_number(ring, "fault_position", u64(&host->fault_position));
        }
        add_entries(ring, image, calls, decode);
}

/* ---- threads, their mailboxes ---- */

static void add_threads(struct json_object *channel, const struct ivg_channel_image *image)
{
        struct json_object *threads = add_new(channel, "threads", json_object_new_array());

        for (uint32_t i = 0; i < IVG_RING_PRODUCERS; i++) {
                const struct ivg_ring_producer *line = &image->guest.producers[i];
                const struct ivg_ring_mailbox *mailbox = &image->host.mailboxes[i];
                const uint32_t owner = u32(&line->owner), claim = u32(&line->slots);
                struct json_object *thread, *answer;

                if (owner == 0 && claim == 0)
                        continue;
                thread = json_object_new_object();
                json_object_array_add(threads, thread);
                add_number(thread, "line", i);
                add_number(thread, "thread", owner & ~IVG_OWNER_DEAD);
                add_bool(thread, "dead", owner & IVG_OWNER_DEAD);
                if (claim != 0) {
                        add_number(thread, "claim_position", u64(&line->position));
                        add_number(thread, "claim_slots", claim);
                }
                add_number(thread, "calls", u64(&line->calls));
                add_number(thread, "calls_waited", u64(&line->calls_sync));
                add_number(thread, "calls_local", u32(&line->calls_local_low));
                add_number(thread, "doorbells", u64(&line->doorbells));
                add_bool(thread, "sleeps", u32(&image->guest.waiters[i].waiting) != 0);
                answer = add_new(thread, "mailbox", json_object_new_object());
                add_number(answer, "sequence", u64(&mailbox->sequence));
                add_number(answer, "result", mailbox->result);
                add_number(answer, "bytes", mailbox->answer_bytes);
        }
}

/* ---- extents ---- */

static void add_extents(struct json_object *object, const struct ivg_region_image *image)
{
        struct json_object *runs = add_new(object, "extents", json_object_new_array());
        uint32_t begin = 0, used = 0;

        for (uint32_t i = 1; i <= image->region.extent_count; i++) {
                const uint32_t owner = u32(&image->guest->extent_owner[begin]);
                struct json_object *run;

                if (i < image->region.extent_count && u32(&image->guest->extent_owner[i]) == owner)
                        continue;
                if (owner != 0) {
                        run = json_object_new_object();
                        json_object_array_add(runs, run);
                        add_number(run, "first", begin);
                        add_number(run, "count", i - begin);
                        add_number(run, "channel", owner - 1);
                        add_bool(run, "possible", owner <= image->region.channel_count);
                        used += i - begin;
                }
                begin = i;
        }
        add_number(object, "extents_used", used);
        add_number(object, "extent_count", image->region.extent_count);
}

/* ---- channels ---- */

static void add_counters(struct json_object *channel, const struct ivg_host_channel *host)
{
        struct json_object *counters = add_new(channel, "counters", json_object_new_object());

        add_number(counters, "records", u64(&host->records_consumed));
        add_number(counters, "batches", u64(&host->batches));
        add_number(counters, "sleeps", u64(&host->sleeps));
        add_number(counters, "interrupts", u64(&host->interrupts));
        add_number(counters, "arena_bytes_from_guest", u64(&host->arena_bytes_from_guest));
        add_number(counters, "arena_bytes_to_guest", u64(&host->arena_bytes_to_guest));
        add_number(counters, "calls_failed", u64(&host->calls_failed));
        add_number(counters, "calls_refused", u64(&host->calls_unsupported));
}

static void add_completions(struct json_object *channel, const struct ivg_channel_image *image)
{
        static const struct {
                const char *name;
                uint32_t word;
        } words[] = {{"host_functions_due", IVG_CALLBACK_DUE},
                     {"printed_bytes", IVG_OUTPUT_PRINTED},
                     {"may_print", IVG_MAY_PRINT},
                     {"deferred_errors", IVG_DEFERRED_NOTED}};
        struct json_object *completions = add_new(channel, "words", json_object_new_object());

        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
                add_number(completions, words[i].name, u64(&image->completions[words[i].word]));
}

static bool is_in_use(const struct ivg_region_image *image, uint32_t channel)
{
        return ivg_channel_word_state(u64(&image->guest->channels[channel].state)) != IVG_GUEST_CHANNEL_FREE ||
               ivg_channel_word_state(u64(&image->host->channels[channel].state)) != IVG_HOST_CHANNEL_FREE;
}

static struct json_object *channel_json(const struct ivg_region_image *image, const struct ivg_channel_image *ring,
                                        uint32_t index, const struct ivg_dump_options *options)
{
        const struct ivg_guest_channel *guest = &image->guest->channels[index];
        const struct ivg_host_channel *host = &image->host->channels[index];
        const uint64_t guest_word = u64(&guest->state), host_word = u64(&host->state);
        struct json_object *channel = json_object_new_object();

        add_number(channel, "channel", index);
        ADD_WORD(channel, "guest", ivg_channel_word_state(guest_word), guest_words);
        add_number(channel, "guest_generation", ivg_channel_word_generation(guest_word));
        ADD_WORD(channel, "host", ivg_channel_word_state(host_word), host_words);
        add_number(channel, "generation", ivg_channel_word_generation(host_word));
        if (u32(&host->reason) != 0)
                add_text(channel, "reason", ivg_error_code_name((enum ivg_error_code)u32(&host->reason)));
        add_claimed_text(channel, "program", guest->program, sizeof(guest->program));
        add_number(channel, "guest_pid", u32(&guest->pid));
        add_number(channel, "executor_pid", u32(&host->executor_pid));
        add_counters(channel, host);
        add_ring(channel, ring, options->calls, image->is_own_table);
        add_threads(channel, ring);
        add_completions(channel, ring);
        return channel;
}

/* What is half-written now and was so at the first look is at least so old. */
static void add_ages(struct json_object *channel, const struct ivg_channel_image *first, uint32_t ms)
{
        struct json_object *ring, *half;

        if (!json_object_object_get_ex(channel, "ring", &ring) ||
            !json_object_object_get_ex(ring, "half_written", &half))
                return;
        for (size_t i = 0; i < json_object_array_length(half); i++) {
                struct json_object *one = json_object_array_get_idx(half, i), *position;
                uint64_t at, word;

                if (!json_object_object_get_ex(one, "position", &position))
                        continue;
                at = json_object_get_uint64(position);
                word = u64(&first->guest.slots[at & IVG_RING_SLOT_MASK].commit);
                if (u64(&first->guest.tail) - at - 1 < IVG_RING_SLOTS && !ivg_commit_matches(word, at))
                        add_number(one, "ms_at_least", ms);
        }
}

static bool has_half_written(const struct ivg_channel_image *image)
{
        struct ivg_ring_walk walk = {.guest = &image->guest, .head = u64(&image->host.head)};
        struct ivg_ring_entry entry;

        ivg_ring_walk_begin(&walk);
        while (ivg_ring_walk_next(&walk, &entry))
                if (entry.kind == IVG_ENTRY_HALF_WRITTEN)
                        return true;
        return false;
}

static int add_channel(struct json_object *channels, const struct ivg_region_source *source,
                       const struct ivg_region_image *image, uint32_t index, const struct ivg_dump_options *options,
                       struct ivg_error *error)
{
        const struct timespec pause = {.tv_sec = options->look_again_ms / 1000,
                                       .tv_nsec = (long)(options->look_again_ms % 1000) * 1000000};
        struct ivg_channel_image *ring = ivg_channel_image_read(source, &image->region, index, error), *first = NULL;
        struct json_object *channel;

        if (ring && options->look_again_ms != 0 && has_half_written(ring)) {
                nanosleep(&pause, NULL);
                first = ring;
                ring = ivg_channel_image_read(source, &image->region, index, error);
        }
        if (!ring) {
                free(first);
                return -EIO;
        }
        channel = channel_json(image, ring, index, options);
        json_object_array_add(channels, channel);
        if (first)
                add_ages(channel, first, options->look_again_ms);
        free(first);
        free(ring);
        return 0;
}

static void add_region(struct json_object *dump, const struct ivg_region_image *image)
{
        struct json_object *region = add_new(dump, "region", json_object_new_object());
        char text[24];

        add_number(region, "vm_id", image->region.vm_id);
        add_claimed_text(region, "vm_name", image->region.vm_name, sizeof(image->region.vm_name));
        add_number(region, "bytes", image->region.region_bytes);
        add_number(region, "layout_version", IVG_LAYOUT_VERSION);
        snprintf(text, sizeof(text), "%016llx", (unsigned long long)image->fingerprint);
        add_text(region, "call_table", text);
        add_bool(region, "own_call_table", image->is_own_table);
        snprintf(text, sizeof(text), "%016llx", (unsigned long long)image->region.host_instance);
        add_text(region, "host_instance", text);
        add_number(region, "channel_count", image->region.channel_count);
        add_number(region, "vector_count", image->region.vector_count);
        snprintf(text, sizeof(text), "%016llx", (unsigned long long)u64(&image->guest->boot_epoch));
        add_text(region, "boot_epoch", text);
        add_bool(region, "boot_epoch_seen", u64(&image->guest->boot_epoch) == u64(&image->host->epoch_seen));
        add_number(region, "vectors_used", u32(&image->guest->vectors_used));
        add_number(region, "heartbeat", u64(&image->host->heartbeat));
        add_extents(region, image);
}

struct json_object *ivg_dump_region(const struct ivg_region_source *source, const struct ivg_dump_options *options,
                                    struct ivg_error *error)
{
        struct json_object *dump, *channels;
        struct ivg_region_image image;

        if (ivg_region_image_read(source, &image, error) < 0)
                return NULL;
        if (options->channel != IVG_CHANNEL_NONE && options->channel >= image.region.channel_count) {
                ivg_error_set(error, "no channel %u: there are %u", options->channel, image.region.channel_count);
                ivg_region_image_free(&image);
                return NULL;
        }
        dump = json_object_new_object();
        add_region(dump, &image);
        channels = add_new(dump, "channels", json_object_new_array());
        for (uint32_t i = 0; dump && i < image.region.channel_count; i++) {
                const bool wanted = options->channel != IVG_CHANNEL_NONE
                                            ? options->channel == i
                                            : options->all_channels || is_in_use(&image, i);

                if (wanted && add_channel(channels, source, &image, i, options, error) < 0) {
                        json_object_put(dump);
                        dump = NULL;
                }
        }
        ivg_region_image_free(&image);
        return dump;
}

struct json_object *ivg_dump_calls(const struct ivg_region_source *source, uint32_t channel, uint32_t calls,
                                   struct ivg_error *error)
{
        struct json_object *object = NULL, *list = NULL;
        struct ivg_region_image image;
        struct ivg_channel_image *ring = NULL;

        if (ivg_region_image_read(source, &image, error) < 0)
                return NULL;
        if (channel < image.region.channel_count)
                ring = ivg_channel_image_read(source, &image.region, channel, error);
        else
                ivg_error_set(error, "no channel %u: there are %u", channel, image.region.channel_count);
        if (ring) {
                object = json_object_new_object();
                add_entries(object, ring, calls, image.is_own_table);
                if (json_object_object_get_ex(object, "calls", &list))
                        json_object_get(list);
        }
        json_object_put(object);
        free(ring);
        ivg_region_image_free(&image);
        return list;
}
