#include "show.h"
#include "control_client.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* "7 (seven)", "local" */
static const char *name_of(struct json_object *member, char *text, size_t capacity)
{
        if (json_object_object_get_ex(member, "vm_id", NULL))
                snprintf(text, capacity, "%" PRIu64 " (%s)", ivg_json_number(member, "vm_id"),
                         ivg_json_text(member, "name"));
        else
                snprintf(text, capacity, "%s", ivg_json_text(member, "name"));
        return text;
}

void ivg_show_list(struct json_object *answer)
{
        struct json_object *pools = ivg_json_array(answer, "pools"), *members = ivg_json_array(answer, "members");
        char name[80];

        for (size_t i = 0; i < ivg_json_length(pools); i++) {
                struct json_object *pool = json_object_array_get_idx(pools, i), *gpus = ivg_json_array(pool, "gpus");

                printf("pool %s: policy %s, mps %s, GPUs ", ivg_json_text(pool, "name"), ivg_json_text(pool, "policy"),
                       ivg_json_text(pool, "mps"));
                for (size_t j = 0; j < ivg_json_length(gpus); j++)
                        printf("%s%s", j ? ", " : "", json_object_get_string(json_object_array_get_idx(gpus, j)));
                printf("%s; %" PRIu64 " executors wait\n", ivg_json_length(gpus) == 0 ? "all" : "",
                       ivg_json_number(pool, "executors_waiting"));
        }
        printf("%-24s %-10s %-12s %8s  %-8s %6s %10s\n", "VM", "POOL", "STATE", "PROGRAMS", "PRIORITY", "WEIGHT",
               "VRAM MiB");
        for (size_t i = 0; i < ivg_json_length(members); i++) {
                struct json_object *member = json_object_array_get_idx(members, i);

                printf("%-24s %-10s %-12s %8" PRIu64 "  %-8s %6" PRIu64 " ", name_of(member, name, sizeof(name)),
                       ivg_json_text(member, "pool"), ivg_json_text(member, "state"),
                       ivg_json_number(member, "programs"), ivg_json_text(member, "priority"),
                       ivg_json_number(member, "weight"));
                if (ivg_json_number(member, "vram_mib") != 0)
                        printf("%10" PRIu64 "\n", ivg_json_number(member, "vram_mib"));
                else
                        printf("%10s\n", "no cap");
        }
}

static void show_part(struct json_object *object, const char *name)
{
        struct json_object *part;

        if (!json_object_object_get_ex(object, name, &part))
                return;
        printf("%s\n", name);
        json_object_object_foreach(part, key, value)
        {
                printf("  %-20s %s\n", key, json_object_get_string(value));
        }
}

void ivg_show_member(struct json_object *answer)
{
        struct json_object *executors = ivg_json_array(answer, "executors");
        char name[80];

        printf("VM        %s\npool      %s\n", name_of(answer, name, sizeof(name)), ivg_json_text(answer, "pool"));
        if (json_object_object_get_ex(answer, "vectors", NULL))
                printf("device    %" PRIu64 " MiB, %" PRIu64 " channels, %" PRIu64 " vectors; %s; %s\n",
                       ivg_json_number(answer, "region_mib"), ivg_json_number(answer, "channels"),
                       ivg_json_number(answer, "vectors"), ivg_json_text(answer, "socket"),
                       strcmp(ivg_json_text(answer, "qemu"), "true") == 0 ? "QEMU is connected" : "no QEMU");
        printf("state     %s", ivg_json_text(answer, "state"));
        if (json_object_object_get_ex(answer, "quarantine_s_left", NULL))
                printf(" (%" PRIu64 " s more)", ivg_json_number(answer, "quarantine_s_left"));
        printf("\n");
        show_part(answer, "limits");
        show_part(answer, "faults");
        printf("executors\n");
        for (size_t i = 0; i < ivg_json_length(executors); i++) {
                struct json_object *executor = json_object_array_get_idx(executors, i);

                printf("  pid %-8" PRIu64 " %s, channel %" PRIu64 ", %s\n", ivg_json_number(executor, "pid"),
                       ivg_json_text(executor, "of"), ivg_json_number(executor, "channel"),
                       ivg_json_text(executor, "phase"));
        }
}

static void show_counters(struct json_object *account)
{
        json_object_object_foreach(account, key, value)
        {
                if (json_object_is_type(value, json_type_int) && strcmp(key, "vm_id") != 0)
                        printf("  %-22s %" PRIu64 "\n", key, json_object_get_uint64(value));
                else if (json_object_is_type(value, json_type_double))
                        printf("  %-22s %.6f\n", key, json_object_get_double(value));
                else if (json_object_is_type(value, json_type_object) && ivg_json_number(value, "count") != 0)
                        printf("  %-22s p50 %.1f us, p95 %.1f us, p99 %.1f us of %" PRIu64 "\n", key,
                               (double)ivg_json_number(value, "p50_ns") / 1e3,
                               (double)ivg_json_number(value, "p95_ns") / 1e3,
                               (double)ivg_json_number(value, "p99_ns") / 1e3, ivg_json_number(value, "count"));
        }
}

static void show_account(struct json_object *account)
{
        char name[80];

        printf("%s %s",
               strcmp(ivg_json_text(account, "kind"), "local") == 0 ? "programs" : ivg_json_text(account, "kind"),
               name_of(account, name, sizeof(name)));
        if (strcmp(ivg_json_text(account, "kind"), "pool") != 0)
                printf(", pool %s, %s", ivg_json_text(account, "pool"), ivg_json_text(account, "state"));
        printf("\n");
        show_counters(account);
}

void ivg_show_stats(struct json_object *answer)
{
        struct json_object *accounts = ivg_json_array(answer, "accounts");

        for (size_t i = 0; i < ivg_json_length(accounts); i++)
                show_account(json_object_array_get_idx(accounts, i));
}

void ivg_show_programs(struct json_object *answer)
{
        struct json_object *programs = ivg_json_array(answer, "programs");

        for (size_t i = 0; i < ivg_json_length(programs); i++) {
                struct json_object *program = json_object_array_get_idx(programs, i);

                printf("%s of %s, %s\n", ivg_json_text(program, "program"), ivg_json_text(program, "of"),
                       ivg_json_text(program, "phase"));
                show_counters(program);
        }
}
