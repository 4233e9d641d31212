#include "dump.h"
#include "dump_parts.h"
#include "ivgpu/call_wire.h"
#include "ring_walk.h"
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static const char *const guest_words[] = {
        [IVG_GUEST_CHANNEL_FREE] = "FREE", [IVG_GUEST_CHANNEL_OPEN] = "OPEN", [IVG_GUEST_CHANNEL_CLOSED] = "CLOSED"};
static const char *const host_words[] = {[IVG_HOST_CHANNEL_FREE] = "FREE",
                                         [IVG_HOST_CHANNEL_STARTING] = "STARTING",
                                         [IVG_HOST_CHANNEL_READY] = "READY",
                                         [IVG_HOST_CHANNEL_FAILED] = "FAILED",
                                         [IVG_HOST_CHANNEL_DEAD] = "DEAD"};

/* ---- extents ---- */

static void add_extents(struct json_object *object, const struct ivg_region_image *image)
{
        struct json_object *runs = ivg_json_add_new(object, "extents", json_object_new_array());
        uint32_t begin = 0, used = 0;

        for (uint32_t i = 1; i <= image->region.extent_count; i++) {
                const uint32_t owner = ivg_dump_u32(&image->guest->extent_owner[begin]);
                struct json_object *run;

                if (i < image->region.extent_count && ivg_dump_u32(&image->guest->extent_owner[i]) == owner)
                        continue;
                if (owner != 0) {
                        run = json_object_new_object();
                        json_object_array_add(runs, run);
                        ivg_json_add_number(run, "first", begin);
                        ivg_json_add_number(run, "count", i - begin);
                        ivg_json_add_number(run, "channel", owner - 1);
                        ivg_json_add_bool(run, "possible", owner <= image->region.channel_count);
                        used += i - begin;
                }
                begin = i;
        }
        ivg_json_add_number(object, "extents_used", used);
        ivg_json_add_number(object, "extent_count", image->region.extent_count);
}

/* ---- channels ---- */

static void add_counters(struct json_object *channel, const struct ivg_host_channel *host)
{
        struct json_object *counters = ivg_json_add_new(channel, "counters", json_object_new_object());

        ivg_json_add_number(counters, "records", ivg_dump_u64(&host->records_consumed));
        ivg_json_add_number(counters, "batches", ivg_dump_u64(&host->batches));
        ivg_json_add_number(counters, "sleeps", ivg_dump_u64(&host->sleeps));
        ivg_json_add_number(counters, "interrupts", ivg_dump_u64(&host->interrupts));
        ivg_json_add_number(counters, "arena_bytes_from_guest", ivg_dump_u64(&host->arena_bytes_from_guest));
        ivg_json_add_number(counters, "arena_bytes_to_guest", ivg_dump_u64(&host->arena_bytes_to_guest));
        ivg_json_add_number(counters, "calls_failed", ivg_dump_u64(&host->calls_failed));
        ivg_json_add_number(counters, "calls_refused", ivg_dump_u64(&host->calls_unsupported));
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
        struct json_object *completions = ivg_json_add_new(channel, "words", json_object_new_object());

        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
                ivg_json_add_number(completions, words[i].name, ivg_dump_u64(&image->completions[words[i].word]));
}

static bool is_in_use(const struct ivg_region_image *image, uint32_t channel)
{
        return ivg_channel_word_state(ivg_dump_u64(&image->guest->channels[channel].state)) != IVG_GUEST_CHANNEL_FREE ||
               ivg_channel_word_state(ivg_dump_u64(&image->host->channels[channel].state)) != IVG_HOST_CHANNEL_FREE;
}

static struct json_object *channel_json(const struct ivg_region_image *image, const struct ivg_channel_image *ring,
                                        uint32_t index, const struct ivg_dump_options *options)
{
        const struct ivg_guest_channel *guest = &image->guest->channels[index];
        const struct ivg_host_channel *host = &image->host->channels[index];
        const uint64_t guest_word = ivg_dump_u64(&guest->state), host_word = ivg_dump_u64(&host->state);
        struct json_object *channel = json_object_new_object();

        ivg_json_add_number(channel, "channel", index);
        IVG_DUMP_ADD_WORD(channel, "guest", ivg_channel_word_state(guest_word), guest_words);
        ivg_json_add_number(channel, "guest_generation", ivg_channel_word_generation(guest_word));
        IVG_DUMP_ADD_WORD(channel, "host", ivg_channel_word_state(host_word), host_words);
        ivg_json_add_number(channel, "generation", ivg_channel_word_generation(host_word));
        if (ivg_dump_u32(&host->reason) != 0)
                ivg_json_add_text(channel, "reason",
                                  ivg_error_code_name((enum ivg_error_code)ivg_dump_u32(&host->reason)));
        ivg_dump_add_claimed_text(channel, "program", guest->program, sizeof(guest->program));
        ivg_json_add_number(channel, "guest_pid", ivg_dump_u32(&guest->pid));
        ivg_json_add_number(channel, "executor_pid", ivg_dump_u32(&host->executor_pid));
        add_counters(channel, host);
        ivg_dump_add_ring(channel, ring, options->calls, image->is_own_table);
        ivg_dump_add_threads(channel, ring);
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
                word = ivg_dump_u64(&first->guest.slots[at & IVG_RING_SLOT_MASK].commit);
                if (ivg_dump_u64(&first->guest.tail) - at - 1 < IVG_RING_SLOTS && !ivg_commit_matches(word, at))
                        ivg_json_add_number(one, "ms_at_least", ms);
        }
}

static bool has_half_written(const struct ivg_channel_image *image)
{
        struct ivg_ring_walk walk = {.guest = &image->guest, .head = ivg_dump_u64(&image->host.head)};
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
        struct json_object *region = ivg_json_add_new(dump, "region", json_object_new_object());
        char text[24];

        ivg_json_add_number(region, "vm_id", image->region.vm_id);
        ivg_dump_add_claimed_text(region, "vm_name", image->region.vm_name, sizeof(image->region.vm_name));
        ivg_json_add_number(region, "bytes", image->region.region_bytes);
        ivg_json_add_number(region, "layout_version", IVG_LAYOUT_VERSION);
        snprintf(text, sizeof(text), "%016llx", (unsigned long long)image->fingerprint);
        ivg_json_add_text(region, "call_table", text);
        ivg_json_add_bool(region, "own_call_table", image->is_own_table);
        snprintf(text, sizeof(text), "%016llx", (unsigned long long)image->region.host_instance);
        ivg_json_add_text(region, "host_instance", text);
        ivg_json_add_number(region, "channel_count", image->region.channel_count);
        ivg_json_add_number(region, "vector_count", image->region.vector_count);
        snprintf(text, sizeof(text), "%016llx", (unsigned long long)ivg_dump_u64(&image->guest->boot_epoch));
        ivg_json_add_text(region, "boot_epoch", text);
        ivg_json_add_bool(region, "boot_epoch_seen",
                          ivg_dump_u64(&image->guest->boot_epoch) == ivg_dump_u64(&image->host->epoch_seen));
        ivg_json_add_number(region, "vectors_used", ivg_dump_u32(&image->guest->vectors_used));
        ivg_json_add_number(region, "heartbeat", ivg_dump_u64(&image->host->heartbeat));
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
        channels = ivg_json_add_new(dump, "channels", json_object_new_array());
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
                ivg_dump_add_entries(object, ring, calls, image.is_own_table);
                if (json_object_object_get_ex(object, "calls", &list))
                        json_object_get(list);
        }
        json_object_put(object);
        free(ring);
        ivg_region_image_free(&image);
        return list;
}
