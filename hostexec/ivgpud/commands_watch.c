/* Commands for those who look on: counters of everybody, and memory to read. */
#include "command_request.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* ---- counters ---- */

/* [[bucket, count], ...]: who asks twice can tell percentiles of the time between (ivgpu/histogram.h). */
static void add_buckets(struct json_object *object, const struct ivg_histogram *histogram)
{
        struct json_object *buckets = ivg_json_add_new(object, "buckets", json_object_new_array());

        for (uint32_t i = 0; i < IVG_HISTOGRAM_BUCKETS; i++) {
                const uint64_t count = ivg_load_relaxed_u64(&histogram->counts[i]); /* relaxed: our own copy */
                struct json_object *pair;

                if (count == 0)
                        continue;
                pair = json_object_new_array_ext(2);
                json_object_array_add(pair, json_object_new_int((int)i));
                json_object_array_add(pair, json_object_new_uint64(count));
                json_object_array_add(buckets, pair);
        }
}

static void add_view(struct json_object *object, const struct ivg_account_view *view, bool buckets)
{
        for (const struct ivg_account_field *field = ivg_account_fields; field->name; field++) {
                uint64_t value;

                memcpy(&value, (const char *)view + field->offset, sizeof(value));
                if (field->is_seconds)
                        json_object_object_add(object, field->name, json_object_new_double((double)value / 1e9));
                else
                        ivg_json_add_number(object, field->name, value);
        }
        for (uint32_t i = 0; i < IVG_BOARD_LATENCIES; i++) {
                const struct ivg_latency *latency = &view->latencies[i];
                struct json_object *of_it = ivg_json_add_new(object, ivg_latency_names[i], json_object_new_object());

                ivg_json_add_number(of_it, "count", latency->count);
                ivg_json_add_number(of_it, "p50_ns", latency->p50_ns);
                ivg_json_add_number(of_it, "p95_ns", latency->p95_ns);
                ivg_json_add_number(of_it, "p99_ns", latency->p99_ns);
                if (buckets)
                        add_buckets(of_it, &ivg_account_viewed_latencies()[i]);
        }
}

static bool wants_buckets(const struct request *request)
{
        struct json_object *value;

        return json_object_object_get_ex(request->json, "buckets", &value) && json_object_get_boolean(value);
}

static void add_account(struct json_object *accounts, const struct ivg_account_view *view, bool buckets)
{
        struct json_object *object = json_object_new_object();

        json_object_array_add(accounts, object);
        ivg_json_add_text(object, "kind",
                          view->kind == IVG_ACCOUNT_POOL ? "pool"
                          : view->kind == IVG_ACCOUNT_VM ? "vm"
                                                         : "local");
        if (view->kind == IVG_ACCOUNT_VM)
                ivg_json_add_number(object, "vm_id", view->vm_id);
        ivg_json_add_text(object, "name", view->name);
        ivg_json_add_text(object, "pool", view->pool);
        if (view->state)
                ivg_json_add_text(object, "state", view->state);
        add_view(object, view, buckets);
}

int ivg_command_stats(struct request *request)
{
        struct ivg_mediator *mediator = request->mediator;
        struct json_object *accounts = ivg_json_add_new(request->answer, "accounts", json_object_new_array());
        const bool buckets = wants_buckets(request);
        struct ivg_account_view view;

        ivg_json_add_number(request->answer, "now_ns", ivg_loop_now_ns());
        for (uint32_t i = 0; !request->member && i < mediator->config.pool_count; i++)
                if (ivg_config_has_pool(&mediator->config, i)) {
                        ivg_account_view_pool(mediator, i, &view);
                        add_account(accounts, &view, buckets);
                }
        for (struct ivg_member *member = NULL; (member = ivg_member_next(mediator, member)) != NULL;)
                if (!request->member || request->member == member) {
                        ivg_account_view_member(member, &view);
                        add_account(accounts, &view, buckets);
                }
        return 0;
}

/* ---- running programs ---- */

static void add_program(struct json_object *object, const struct ivg_channel *channel)
{
        char program[IVG_PROGRAM_BYTES];

        ivg_json_add_number(object, "guest_pid", ivg_channel_program(channel, program));
        ivg_json_add_text(object, "program", program);
        ivg_json_add_text(object, "of", channel->tenant->name);
        ivg_json_add_number(object, "channel", channel->index);
        ivg_json_add_number(object, "generation", channel->generation);
        ivg_json_add_number(object, "executor_pid", (uint64_t)channel->executor->pid);
        ivg_json_add_text(object, "phase", ivg_command_phase_word(channel->executor));
}

int ivg_command_programs(struct request *request)
{
        struct json_object *programs = ivg_json_add_new(request->answer, "programs", json_object_new_array());
        const bool buckets = wants_buckets(request);

        ivg_json_add_number(request->answer, "now_ns", ivg_loop_now_ns());
        for (struct ivg_tenant *tenant = request->mediator->tenants; tenant; tenant = tenant->next)
                for (uint32_t i = 0; i < tenant->region.channel_count; i++) {
                        const struct ivg_channel *channel = &tenant->channels[i];
                        struct ivg_account_view view;
                        struct json_object *object;

                        if (!channel->executor || (request->member && tenant->member != request->member))
                                continue;
                        object = json_object_new_object();
                        json_object_array_add(programs, object);
                        ivg_command_add_identity(object, tenant->member);
                        json_object_object_del(object, "programs"); /* its VM's */
                        add_program(object, channel);
                        ivg_account_view_channel(channel, &view);
                        add_view(object, &view, buckets);
                }
        return 0;
}

/* ---- regions ---- */

/* Adds the descriptor, which the answer owns from then on, and the member that says which it is. */
static void add_fd(struct request *request, struct json_object *object, int fd)
{
        struct ivg_command_answer *out = request->out;

        ivg_json_add_number(object, "fd", out->fd_count);
        out->fds[out->fd_count++] = fd;
}

/* With "pid": the one whose executor that is; with "after": those behind that number, as many as there is room for. */
int ivg_command_regions(struct request *request)
{
        struct json_object *regions = ivg_json_add_new(request->answer, "regions", json_object_new_array());
        uint32_t pid = 0, after = 0, number = 0;
        int rc = get_number(request, "pid", INT32_MAX, &pid);

        if (rc == 0 || rc == -ENOENT)
                rc = get_number(request, "after", INT32_MAX, &after);
        if (rc < 0 && rc != -ENOENT)
                return rc;
        for (struct ivg_tenant *tenant = request->mediator->tenants; tenant; tenant = tenant->next) {
                bool wanted = pid == 0;
                struct json_object *object;

                if (request->member && tenant->member != request->member)
                        continue;
                for (uint32_t i = 0; !wanted && i < tenant->region.channel_count; i++)
                        wanted = tenant->channels[i].executor && (uint32_t)tenant->channels[i].executor->pid == pid;
                if (!wanted || ++number <= after)
                        continue;
                if (request->out->fd_count == IVG_FDS_PER_MESSAGE_MAX) {
                        ivg_json_add_number(request->answer, "more_after", number - 1);
                        break;
                }
                object = json_object_new_object();
                json_object_array_add(regions, object);
                ivg_json_add_text(object, "of", tenant->name);
                ivg_command_add_identity(object, tenant->member);
                ivg_json_add_number(object, "region_bytes", tenant->region.region_bytes);
                rc = ivg_readable_fd(tenant->memfd, &request->error);
                if (rc < 0)
                        return rc;
                add_fd(request, object, rc);
        }
        if (pid != 0 && request->out->fd_count == 0) {
                ivg_error_set(&request->error, "no executor %u", pid);
                return -ESRCH;
        }
        return 0;
}

/* ---- tracing ---- */

static void add_source(struct request *request, struct json_object *sources, const struct ivg_trace_source *source)
{
        struct json_object *object = json_object_new_object();

        json_object_array_add(sources, object);
        ivg_json_add_text(object, "of", source->of);
        ivg_json_add_text(object, "program", source->program);
        ivg_json_add_number(object, "guest_pid", source->guest_pid);
        ivg_json_add_number(object, "channel", source->channel);
        ivg_json_add_number(object, "executor_pid", (uint64_t)source->executor_pid);
        ivg_json_add_number(object, "first", source->first);
        add_fd(request, object, source->fd);
}

/* The first begins a session, which ends with the connection; each gives executors that are new since the one before,
 * as many as there is room for, and says which still run. */
int ivg_command_trace(struct request *request)
{
        struct ivg_trace_session *session = &request->mediator->trace;
        struct json_object *sources, *running;
        struct ivg_trace_source source;
        const int rc = ivg_trace_begin(request->mediator, request->member, request->asker->client, &request->error);

        if (rc < 0)
                return rc;
        request->goes_on = rc == 0;
        ivg_json_add_number(request->answer, "now_ns", ivg_loop_now_ns());
        ivg_json_add_number(request->answer, "board_bytes", sizeof(struct ivg_board));
        ivg_json_add_number(request->answer, "trace_offset", offsetof(struct ivg_board, trace));
        sources = ivg_json_add_new(request->answer, "sources", json_object_new_array());
        while (request->out->fd_count < IVG_FDS_PER_MESSAGE_MAX && ivg_trace_take(session, &source))
                add_source(request, sources, &source);
        ivg_json_add_bool(request->answer, "more", session->count > 0);
        ivg_json_add_number(request->answer, "lost", session->lost);
        running = ivg_json_add_new(request->answer, "running", json_object_new_array());
        for (const struct ivg_tenant *tenant = request->mediator->tenants; tenant; tenant = tenant->next)
                for (uint32_t i = 0; tenant->member == request->member && i < tenant->region.channel_count; i++)
                        if (tenant->channels[i].executor)
                                json_object_array_add(running,
                                                      json_object_new_int64(tenant->channels[i].executor->pid));
        return 0;
}
