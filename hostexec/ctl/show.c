#include "show.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *text_of(struct json_object *object, const char *key)
{
        struct json_object *value;

        return json_object_object_get_ex(object, key, &value) ? json_object_get_string(value) : "-";
}

static uint64_t number_of(struct json_object *object, const char *key)
{
        struct json_object *value;

        return json_object_object_get_ex(object, key, &value) ? json_object_get_uint64(value) : 0;
}

static struct json_object *array_of(struct json_object *object, const char *key)
{
        struct json_object *value;

        return json_object_object_get_ex(object, key, &value) && json_object_is_type(value, json_type_array) ? value
                                                                                                             : NULL;
}

static size_t length_of(struct json_object *array)
{
        return array ? json_object_array_length(array) : 0;
}

/* "7 (seven)", "local" */
static const char *name_of(struct json_object *member, char *text, size_t capacity)
{
        if (json_object_object_get_ex(member, "vm_id", NULL))
                snprintf(text, capacity, "%" PRIu64 " (%s)", number_of(member, "vm_id"), text_of(member, "name"));
        else
                snprintf(text, capacity, "%s", text_of(member, "name"));
        return text;
}

void ivg_show_list(struct json_object *answer)
{
        struct json_object *pools = array_of(answer, "pools"), *members = array_of(answer, "members");
        char name[80];

        for (size_t i = 0; i < length_of(pools); i++) {
                struct json_object *pool = json_object_array_get_idx(pools, i), *gpus = array_of(pool, "gpus");

                printf("pool %s: policy %s, mps %s, GPUs ", text_of(pool, "name"), text_of(pool, "policy"),
                       strcmp(text_of(pool, "mps"), "true") == 0 ? "on" : "off");
                for (size_t j = 0; j < length_of(gpus); j++)
                        printf("%s%s", j ? ", " : "", json_object_get_string(json_object_array_get_idx(gpus, j)));
                printf("%s; %" PRIu64 " executors wait\n", length_of(gpus) == 0 ? "all" : "",
                       number_of(pool, "executors_waiting"));
        }
        printf("%-24s %-10s %-12s %8s  %-8s %6s %10s\n", "VM", "POOL", "STATE", "PROGRAMS", "PRIORITY", "WEIGHT",
               "VRAM MiB");
        for (size_t i = 0; i < length_of(members); i++) {
                struct json_object *member = json_object_array_get_idx(members, i);

                printf("%-24s %-10s %-12s %8" PRIu64 "  %-8s %6" PRIu64 " ", name_of(member, name, sizeof(name)),
                       text_of(member, "pool"), text_of(member, "state"), number_of(member, "programs"),
                       text_of(member, "priority"), number_of(member, "weight"));
                if (number_of(member, "vram_mib") != 0)
                        printf("%10" PRIu64 "\n", number_of(member, "vram_mib"));
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
        struct json_object *executors = array_of(answer, "executors");
        char name[80];

        printf("VM        %s\npool      %s\nstate     %s", name_of(answer, name, sizeof(name)), text_of(answer, "pool"),
               text_of(answer, "state"));
        if (json_object_object_get_ex(answer, "quarantine_s_left", NULL))
                printf(" (%" PRIu64 " s more)", number_of(answer, "quarantine_s_left"));
        printf("\n");
        show_part(answer, "limits");
        show_part(answer, "faults");
        printf("executors\n");
        for (size_t i = 0; i < length_of(executors); i++) {
                struct json_object *executor = json_object_array_get_idx(executors, i);

                printf("  pid %-8" PRIu64 " %s, channel %" PRIu64 ", %s\n", number_of(executor, "pid"),
                       text_of(executor, "of"), number_of(executor, "channel"), text_of(executor, "phase"));
        }
}

static void show_account(struct json_object *account)
{
        char name[80];

        printf("%s %s", strcmp(text_of(account, "kind"), "local") == 0 ? "programs" : text_of(account, "kind"),
               name_of(account, name, sizeof(name)));
        if (strcmp(text_of(account, "kind"), "pool") != 0)
                printf(", pool %s, %s", text_of(account, "pool"), text_of(account, "state"));
        printf("\n");
        json_object_object_foreach(account, key, value)
        {
                if (json_object_is_type(value, json_type_int) && strcmp(key, "vm_id") != 0)
                        printf("  %-22s %" PRIu64 "\n", key, json_object_get_uint64(value));
                else if (json_object_is_type(value, json_type_double))
                        printf("  %-22s %.6f\n", key, json_object_get_double(value));
                else if (json_object_is_type(value, json_type_object) && number_of(value, "count") != 0)
                        printf("  %-22s p50 %.1f us, p95 %.1f us, p99 %.1f us of %" PRIu64 "\n", key,
                               (double)number_of(value, "p50_ns") / 1e3, (double)number_of(value, "p95_ns") / 1e3,
                               (double)number_of(value, "p99_ns") / 1e3, number_of(value, "count"));
        }
}

void ivg_show_stats(struct json_object *answer)
{
        struct json_object *accounts = array_of(answer, "accounts");

        for (size_t i = 0; i < length_of(accounts); i++)
                show_account(json_object_array_get_idx(accounts, i));
}
