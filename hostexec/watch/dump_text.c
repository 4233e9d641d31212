#include "control_client.h"
#include "dump.h"
#include <inttypes.h>

static bool is_true(struct json_object *object, const char *key)
{
        struct json_object *value;

        return json_object_object_get_ex(object, key, &value) && json_object_get_boolean(value);
}

static uint64_t number(struct json_object *object, const char *key)
{
        return ivg_json_number(object, key);
}

static void print_region(FILE *out, struct json_object *region)
{
        struct json_object *extents = ivg_json_array(region, "extents");

        fprintf(out, "region    VM %" PRIu64 " (%s), %" PRIu64 " MiB, layout %" PRIu64 ", call table %s%s\n",
                number(region, "vm_id"), ivg_json_text(region, "vm_name"), number(region, "bytes") >> 20,
                number(region, "layout_version"), ivg_json_text(region, "call_table"),
                is_true(region, "own_call_table") ? "" : " (another build's: calls are not decoded)");
        fprintf(out, "host      instance %s, heartbeat %" PRIu64 ", %" PRIu64 " channels, %" PRIu64 " vectors\n",
                ivg_json_text(region, "host_instance"), number(region, "heartbeat"), number(region, "channel_count"),
                number(region, "vector_count"));
        fprintf(out, "guest     boot epoch %s (%s by the host), vectors used %" PRIu64 "\n",
                ivg_json_text(region, "boot_epoch"), is_true(region, "boot_epoch_seen") ? "seen" : "not yet seen",
                number(region, "vectors_used"));
        fprintf(out, "arena     %" PRIu64 " of %" PRIu64 " extents of 2 MiB owned\n", number(region, "extents_used"),
                number(region, "extent_count"));
        for (size_t i = 0; i < ivg_json_length(extents); i++) {
                struct json_object *run = json_object_array_get_idx(extents, i);
                const uint64_t first = number(run, "first"), last = first + number(run, "count") - 1;

                fprintf(out, "  extents %" PRIu64 "-%" PRIu64 " channel %" PRIu64 "%s\n", first, last,
                        number(run, "channel"), is_true(run, "possible") ? "" : " (there is no such channel)");
        }
}

static void print_odd(FILE *out, struct json_object *odd, const char *name)
{
        for (size_t i = 0; i < ivg_json_length(odd); i++) {
                struct json_object *one = json_object_array_get_idx(odd, i);

                fprintf(out, "  %-12s %" PRIu64 " slots at %" PRIu64 "%s", name, number(one, "slots"),
                        number(one, "position"), is_true(one, "taken") ? " (taken)" : "");
                if (json_object_object_get_ex(one, "rule", NULL))
                        fprintf(out, ": %s", ivg_json_text(one, "rule"));
                else if (json_object_object_get_ex(one, "line", NULL))
                        fprintf(out, " by thread %" PRIu64 "%s, line %" PRIu64, number(one, "thread"),
                                is_true(one, "owner_dead") ? " (dead)" : "", number(one, "line"));
                else
                        fprintf(out, " by nobody known");
                if (json_object_object_get_ex(one, "ms_at_least", NULL))
                        fprintf(out, ", for %" PRIu64 " ms or longer", number(one, "ms_at_least"));
                fprintf(out, "\n");
        }
}

static void print_ring(FILE *out, struct json_object *ring)
{
        const uint64_t waiting = number(ring, "records_waiting");
        struct json_object *calls = ivg_json_array(ring, "calls");

        fprintf(out, "  ring         %s, tail %" PRIu64 ", head shown %" PRIu64 "%s, %" PRIu64 " records not taken, ",
                ivg_json_text(ring, "status"), number(ring, "tail"), number(ring, "head"),
                is_true(ring, "impossible") ? " (impossible)" : "", waiting);
        if (is_true(ring, "consumer_sleeps"))
                fprintf(out, "consumer sleeps for %" PRIu64 "\n", number(ring, "awaits"));
        else
                fprintf(out, "consumer awake\n");
        if (json_object_object_get_ex(ring, "fault", NULL))
                fprintf(out, "  fault        %s broken (value %" PRIu64 ") at %" PRIu64 "\n",
                        ivg_json_text(ring, "fault"), number(ring, "fault_value"), number(ring, "fault_position"));
        print_odd(out, ivg_json_array(ring, "half_written"), "half-written");
        print_odd(out, ivg_json_array(ring, "broken"), "broken");
        if (number(ring, "not_shown") > 0)
                fprintf(out, "  and %" PRIu64 " more of these\n", number(ring, "not_shown"));
        for (size_t i = 0; i < ivg_json_length(calls); i++) {
                struct json_object *call = json_object_array_get_idx(calls, i);

                fprintf(out, "  %c %10" PRIu64 "  thread %-8s %-5s  %s\n", is_true(call, "taken") ? ' ' : '>',
                        number(call, "position"), ivg_json_text(call, "thread"),
                        is_true(call, "sync") ? "sync" : "async", ivg_json_text(call, "text"));
        }
}

static void print_threads(FILE *out, struct json_object *threads)
{
        for (size_t i = 0; i < ivg_json_length(threads); i++) {
                struct json_object *thread = json_object_array_get_idx(threads, i),
                                   *mailbox = ivg_json_object(thread, "mailbox");

                fprintf(out,
                        "  thread       %" PRIu64 "%s, line %" PRIu64 ": calls %" PRIu64 " (waited for %" PRIu64
                        "), local %" PRIu64 ", doorbells %" PRIu64 "; mailbox %" PRIu64 " = %" PRIu64 ", %" PRIu64
                        " bytes%s\n",
                        number(thread, "thread"), is_true(thread, "dead") ? " (dead)" : "", number(thread, "line"),
                        number(thread, "calls"), number(thread, "calls_waited"), number(thread, "calls_local"),
                        number(thread, "doorbells"), number(mailbox, "sequence"), number(mailbox, "result"),
                        number(mailbox, "bytes"), is_true(thread, "sleeps") ? "; sleeps" : "");
        }
}

static void print_line(FILE *out, struct json_object *object, const char *name)
{
        const char *separator = "";

        fprintf(out, "  %-12s ", name);
        json_object_object_foreach(object, key, value)
        {
                fprintf(out, "%s%s %s", separator, key, json_object_get_string(value));
                separator = ", ";
        }
        fprintf(out, "\n");
}

static void print_channel(FILE *out, struct json_object *channel)
{
        fprintf(out, "\nchannel %" PRIu64 "   guest %s, host %s, generation %" PRIu64, number(channel, "channel"),
                ivg_json_text(channel, "guest"), ivg_json_text(channel, "host"), number(channel, "generation"));
        if (number(channel, "guest_generation") != number(channel, "generation"))
                fprintf(out, " (the guest's word: %" PRIu64 ")", number(channel, "guest_generation"));
        if (json_object_object_get_ex(channel, "reason", NULL))
                fprintf(out, ", %s", ivg_json_text(channel, "reason"));
        fprintf(out, "; %s (guest pid %" PRIu64 "), executor %" PRIu64 "\n", ivg_json_text(channel, "program"),
                number(channel, "guest_pid"), number(channel, "executor_pid"));
        print_line(out, ivg_json_object(channel, "counters"), "counters");
        print_line(out, ivg_json_object(channel, "words"), "words");
        print_threads(out, ivg_json_array(channel, "threads"));
        print_ring(out, ivg_json_object(channel, "ring"));
}

void ivg_dump_print(FILE *out, struct json_object *dump)
{
        struct json_object *channels = ivg_json_array(dump, "channels");

        print_region(out, ivg_json_object(dump, "region"));
        for (size_t i = 0; i < ivg_json_length(channels); i++)
                print_channel(out, json_object_array_get_idx(channels, i));
}
