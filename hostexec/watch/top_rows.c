#include "top_rows.h"
#include "ivgpu/histogram.h"
#include "json_add.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_PER_GB 1e9
#define BYTES_PER_MIB 1048576.0

const char *const ivg_top_titles[IVG_TOP_COLUMNS] = {
        [IVG_TOP_CALLS] = "calls/s",  [IVG_TOP_ASYNC] = "async/s",   [IVG_TOP_SYNC] = "sync/s",
        [IVG_TOP_LANE] = "lane/s",    [IVG_TOP_REAPER] = "reaper/s", [IVG_TOP_UP] = "up GB/s",
        [IVG_TOP_DOWN] = "dn GB/s",   [IVG_TOP_GPU] = "GPU %",       [IVG_TOP_SHARE] = "share %",
        [IVG_TOP_PROMISED] = "due %", [IVG_TOP_VRAM] = "VRAM MiB",   [IVG_TOP_CAP] = "cap MiB",
        [IVG_TOP_QUEUE] = "queue",    [IVG_TOP_P99] = "p99 us",      [IVG_TOP_SLEEPS] = "sleeps/s"};
static const int digits[IVG_TOP_COLUMNS] = {[IVG_TOP_UP] = 3,    [IVG_TOP_DOWN] = 3,     [IVG_TOP_GPU] = 1,
                                            [IVG_TOP_SHARE] = 1, [IVG_TOP_PROMISED] = 1, [IVG_TOP_P99] = 1};

/* ---- looks ---- */

static int ask(int fd, const char *command, struct json_object **answer, char words[IVG_CONTROL_WORDS_BYTES])
{
        struct json_object *request = ivg_control_request(command, NULL);
        struct ivg_control_reply reply;
        const char *refusal;
        int rc;

        ivg_json_add_bool(request, "buckets", true);
        rc = ivg_control_exchange(fd, request, &reply, words);
        json_object_put(request);
        if (rc < 0)
                return rc;
        refusal = ivg_control_refusal(reply.answer);
        if (refusal) {
                snprintf(words, IVG_CONTROL_WORDS_BYTES, "%s", refusal);
                rc = -EACCES;
        } else {
                *answer = json_object_get(reply.answer);
        }
        ivg_control_reply_free(&reply);
        return rc;
}

int ivg_top_look(int fd, struct ivg_top_look *look, char words[IVG_CONTROL_WORDS_BYTES])
{
        int rc;

        *look = (struct ivg_top_look){0};
        rc = ask(fd, "list", &look->list, words);
        if (rc == 0)
                rc = ask(fd, "stats", &look->stats, words);
        if (rc == 0)
                rc = ask(fd, "programs", &look->programs, words);
        if (rc < 0)
                ivg_top_look_free(look);
        return rc;
}

void ivg_top_look_free(struct ivg_top_look *look)
{
        json_object_put(look->list);
        json_object_put(look->stats);
        json_object_put(look->programs);
        *look = (struct ivg_top_look){0};
}

/* ---- rows ---- */

static bool is_same(struct json_object *a, struct json_object *b)
{
        return strcmp(ivg_json_text(a, "kind"), ivg_json_text(b, "kind")) == 0 &&
               strcmp(ivg_json_text(a, "name"), ivg_json_text(b, "name")) == 0 &&
               ivg_json_number(a, "vm_id") == ivg_json_number(b, "vm_id") &&
               ivg_json_number(a, "executor_pid") == ivg_json_number(b, "executor_pid");
}

static struct json_object *find(struct json_object *array, struct json_object *like)
{
        for (size_t i = 0; i < ivg_json_length(array); i++)
                if (is_same(json_object_array_get_idx(array, i), like))
                        return json_object_array_get_idx(array, i);
        return NULL;
}

/* Counters restart with ivgpud: then what there is now is what has been added. */
static double added(struct json_object *before, struct json_object *now, const char *key)
{
        const double old = before ? ivg_json_real(before, key) : 0, new = ivg_json_real(now, key);

        return new >= old ? new - old : new;
}

static void buckets_add(struct ivg_histogram *histogram, struct json_object *of, bool take_away)
{
        struct json_object *buckets = ivg_json_array(of, "buckets");

        for (size_t i = 0; i < ivg_json_length(buckets); i++) {
                struct json_object *pair = json_object_array_get_idx(buckets, i);
                const int64_t bucket = json_object_get_int64(json_object_array_get_idx(pair, 0));
                const uint64_t count = json_object_get_uint64(json_object_array_get_idx(pair, 1));
                uint64_t there;

                if (bucket < 0 || bucket >= (int64_t)IVG_HISTOGRAM_BUCKETS)
                        continue;
                there = ivg_load_relaxed_u64(&histogram->counts[bucket]); /* relaxed: our own */
                there = !take_away ? there + count : there > count ? there - count : 0;
                ivg_store_relaxed_u64(&histogram->counts[bucket], there);
        }
}

static double p99_us(struct json_object *before, struct json_object *now)
{
        static struct ivg_histogram between;

        ivg_histogram_clear(&between);
        buckets_add(&between, ivg_json_object(now, "total"), false);
        if (before)
                buckets_add(&between, ivg_json_object(before, "total"), true);
        ivg_store_relaxed_u64(&between.value_max, UINT64_MAX);
        return ivg_histogram_count(&between) == 0 ? -1 : (double)ivg_histogram_percentile(&between, 99) / 1e3;
}

static void fill(struct ivg_top_row *row, struct json_object *before, struct json_object *now, double seconds)
{
        static const char *const rates[] = {[IVG_TOP_CALLS] = "records",
                                            [IVG_TOP_ASYNC] = "run_async",
                                            [IVG_TOP_SYNC] = "run_sync",
                                            [IVG_TOP_LANE] = "run_lane",
                                            [IVG_TOP_REAPER] = "run_reaper"};

        for (uint32_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
                row->values[i] = added(before, now, rates[i]) / seconds;
        row->values[IVG_TOP_UP] = added(before, now, "bytes_from_guest") / BYTES_PER_GB / seconds;
        row->values[IVG_TOP_DOWN] = added(before, now, "bytes_to_guest") / BYTES_PER_GB / seconds;
        row->values[IVG_TOP_GPU] = added(before, now, "gpu_seconds") / seconds * 100;
        row->values[IVG_TOP_SHARE] = row->values[IVG_TOP_PROMISED] = -1;
        row->values[IVG_TOP_VRAM] = ivg_json_real(now, "vram_bytes") / BYTES_PER_MIB;
        row->values[IVG_TOP_CAP] = ivg_json_real(now, "vram_limit_bytes") / BYTES_PER_MIB;
        if (row->values[IVG_TOP_CAP] <= 0)
                row->values[IVG_TOP_CAP] = -1;
        row->values[IVG_TOP_QUEUE] = ivg_json_real(now, "ring_depth");
        row->values[IVG_TOP_P99] = p99_us(before, now);
        row->values[IVG_TOP_SLEEPS] = added(before, now, "sleeps") / seconds;
        snprintf(row->pool, sizeof(row->pool), "%s", ivg_json_text(now, "pool"));
}

static void name_row(struct ivg_top_row *row, struct json_object *now)
{
        if (row->kind == IVG_TOP_PROGRAM) {
                snprintf(row->name, sizeof(row->name), "%s %" PRIu64 " of %s", ivg_json_text(now, "program"),
                         ivg_json_number(now, "guest_pid"), ivg_json_text(now, "name"));
                snprintf(row->state, sizeof(row->state), "%s", ivg_json_text(now, "phase"));
                row->executor_pid = ivg_json_number(now, "executor_pid");
                row->channel = ivg_json_number(now, "channel");
        } else if (row->kind == IVG_TOP_POOL) {
                snprintf(row->name, sizeof(row->name), "pool %s", ivg_json_text(now, "name"));
                snprintf(row->state, sizeof(row->state), "%" PRIu64 " run", ivg_json_number(now, "programs_running"));
        } else {
                if (json_object_object_get_ex(now, "vm_id", NULL))
                        snprintf(row->name, sizeof(row->name), "%" PRIu64 " %s", ivg_json_number(now, "vm_id"),
                                 ivg_json_text(now, "name"));
                else
                        snprintf(row->name, sizeof(row->name), "%s", ivg_json_text(now, "name"));
                snprintf(row->state, sizeof(row->state), "%s", ivg_json_text(now, "state"));
        }
}

/* Its weight among those of its pool and priority that have programs. */
static double promised(struct json_object *members, struct json_object *account)
{
        struct json_object *own = find(members, account);
        double weights = 0;

        if (!own || ivg_json_number(own, "programs") == 0)
                return -1;
        for (size_t i = 0; i < ivg_json_length(members); i++) {
                struct json_object *other = json_object_array_get_idx(members, i);

                if (ivg_json_number(other, "programs") != 0 &&
                    strcmp(ivg_json_text(other, "pool"), ivg_json_text(own, "pool")) == 0 &&
                    strcmp(ivg_json_text(other, "priority"), ivg_json_text(own, "priority")) == 0)
                        weights += ivg_json_real(other, "weight");
        }
        return weights > 0 ? ivg_json_real(own, "weight") / weights * 100 : -1;
}

static void add_shares(struct ivg_top_rows *rows)
{
        for (uint32_t i = 0; i < rows->count; i++)
                for (uint32_t j = 0; rows->rows[i].kind != IVG_TOP_POOL && j < rows->count; j++)
                        if (rows->rows[j].kind == IVG_TOP_POOL && rows->rows[j].values[IVG_TOP_GPU] > 0 &&
                            strcmp(rows->rows[i].pool, rows->rows[j].pool) == 0)
                                rows->rows[i].values[IVG_TOP_SHARE] =
                                        rows->rows[i].values[IVG_TOP_GPU] / rows->rows[j].values[IVG_TOP_GPU] * 100;
}

static void add_rows(struct ivg_top_rows *rows, struct json_object *before, struct json_object *now,
                     struct json_object *members, bool programs)
{
        for (size_t i = 0; i < ivg_json_length(now); i++) {
                struct json_object *one = json_object_array_get_idx(now, i);
                struct ivg_top_row *row = &rows->rows[rows->count++];

                row->kind = programs                                          ? IVG_TOP_PROGRAM
                            : strcmp(ivg_json_text(one, "kind"), "pool") == 0 ? IVG_TOP_POOL
                                                                              : IVG_TOP_MEMBER;
                fill(row, find(before, one), one, rows->seconds);
                name_row(row, one);
                if (row->kind == IVG_TOP_MEMBER)
                        row->values[IVG_TOP_PROMISED] = promised(members, one);
        }
}

int ivg_top_rows_make(const struct ivg_top_look *before, const struct ivg_top_look *now, struct ivg_top_rows *rows)
{
        struct json_object *accounts = ivg_json_array(now->stats, "accounts"),
                           *programs = ivg_json_array(now->programs, "programs");
        const uint64_t begin_ns = ivg_json_number(before->stats, "now_ns"),
                       end_ns = ivg_json_number(now->stats, "now_ns");

        *rows = (struct ivg_top_rows){.seconds = end_ns > begin_ns ? (double)(end_ns - begin_ns) / 1e9 : 1};
        rows->rows = calloc(ivg_json_length(accounts) + ivg_json_length(programs) + 1, sizeof(rows->rows[0]));
        if (!rows->rows)
                return -ENOMEM;
        add_rows(rows, ivg_json_array(before->stats, "accounts"), accounts, ivg_json_array(now->list, "members"),
                 false);
        add_rows(rows, ivg_json_array(before->programs, "programs"), programs, NULL, true);
        add_shares(rows);
        return 0;
}

/* ---- arranging, printing ---- */

static uint32_t sort_column;

static int compare(const void *left, const void *right)
{
        const struct ivg_top_row *a = left, *b = right;

        if (a->kind != b->kind)
                return a->kind < b->kind ? -1 : 1;
        if (sort_column < IVG_TOP_COLUMNS && a->values[sort_column] > b->values[sort_column])
                return -1;
        if (sort_column < IVG_TOP_COLUMNS && a->values[sort_column] < b->values[sort_column])
                return 1;
        return strcmp(a->name, b->name);
}

void ivg_top_rows_arrange(struct ivg_top_rows *rows, uint32_t column, const char *filter, int kind)
{
        uint32_t kept = 0;

        for (uint32_t i = 0; i < rows->count; i++) {
                const struct ivg_top_row *row = &rows->rows[i];

                if ((kind < 0 || (int)row->kind == kind) &&
                    (filter[0] == '\0' || strstr(row->name, filter) || strstr(row->pool, filter)))
                        rows->rows[kept++] = *row;
        }
        rows->count = kept;
        sort_column = column;
        qsort(rows->rows, rows->count, sizeof(rows->rows[0]), compare);
}

void ivg_top_row_print(const struct ivg_top_row *row, char *text, size_t capacity)
{
        int used = snprintf(text, capacity, "%-28.28s %-8.8s %-11.11s", row ? row->name : "NAME",
                            row ? row->pool : "POOL", row ? row->state : "STATE");

        for (uint32_t i = 0; i < IVG_TOP_COLUMNS && used >= 0 && (size_t)used < capacity; i++) {
                if (!row)
                        used += snprintf(text + used, capacity - (size_t)used, " %9s", ivg_top_titles[i]);
                else if (row->values[i] < 0)
                        used += snprintf(text + used, capacity - (size_t)used, " %9s", "-");
                else
                        used += snprintf(text + used, capacity - (size_t)used, " %9.*f", digits[i], row->values[i]);
        }
}
