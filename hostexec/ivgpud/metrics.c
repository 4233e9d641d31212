/* What the mediator publishes for metrics, and how it is written for Prometheus.
 *
 *   M1 publish (store release of `published`)   pairs with   M2 take (load acquire): the snapshot is complete */
#include "metrics.h"
#include "manager.h"
#include "mediator.h"
#include "module.h"
#include "rcu.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTEN_BACKLOG 16

struct snapshot {
        struct ivg_rcu_header rcu; /* first: see rcu.h */
        uint64_t taken_ns;
        uint32_t count;
        struct ivg_account_view views[];
};

static _Atomic(uint64_t) published; /* struct snapshot * */

/* ---- the mediator's side ---- */

static void publish(struct snapshot *snapshot)
{
        /* Relaxed: this thread wrote it. */
        struct snapshot *old = (struct snapshot *)(uintptr_t)ivg_load_relaxed_u64(&published);

        ivg_store_release_u64(&published, (uint64_t)(uintptr_t)snapshot); /* M1 */
        ivg_rcu_free(old ? &old->rcu : NULL);
}

static uint32_t accounts_count(struct ivg_mediator *mediator)
{
        struct ivg_member *member = NULL;
        uint32_t count = 0;

        for (uint32_t i = 0; i < mediator->config.pool_count; i++)
                count += ivg_config_has_pool(&mediator->config, i);
        while ((member = ivg_member_next(mediator, member)) != NULL)
                count++;
        return count;
}

static void snapshot_take(struct ivg_mediator *mediator)
{
        struct snapshot *snapshot = malloc(sizeof(*snapshot) + accounts_count(mediator) * sizeof(snapshot->views[0]));
        struct ivg_member *member = NULL;

        if (!snapshot) /* the older one stays */
                return;
        snapshot->taken_ns = ivg_loop_now_ns();
        snapshot->count = 0;
        for (uint32_t i = 0; i < mediator->config.pool_count; i++)
                if (ivg_config_has_pool(&mediator->config, i))
                        ivg_account_view_pool(mediator, i, &snapshot->views[snapshot->count++]);
        while ((member = ivg_member_next(mediator, member)) != NULL)
                ivg_account_view_member(member, &snapshot->views[snapshot->count++]);
        publish(snapshot);
}

uint64_t ivg_metrics_tick(struct ivg_mediator *mediator, uint64_t now_ms)
{
        struct ivg_metrics *metrics = &mediator->metrics;

        if (!metrics->server)
                return IVG_TICK_NEVER;
        if (now_ms >= metrics->next_ms) {
                metrics->next_ms = now_ms + IVG_METRICS_PERIOD_MS;
                snapshot_take(mediator);
        }
        return metrics->next_ms;
}

/* ---- as text ---- */

static void print_escaped(FILE *out, const char *label, const char *text)
{
        fprintf(out, "%s=\"", label);
        for (; *text; text++) {
                if (*text == '"' || *text == '\\')
                        fputc('\\', out);
                if (*text == '\n')
                        fputs("\\n", out);
                else
                        fputc(*text, out);
        }
        fputc('"', out);
}

static const char *prefix_of(bool pools)
{
        return pools ? "ivgpu_pool_" : "ivgpu_vm_";
}

/* pool="A" or vm="7",name="web",pool="A" */
static void print_labels(FILE *out, const struct ivg_account_view *view)
{
        if (view->kind == IVG_ACCOUNT_VM)
                fprintf(out, "vm=\"%u\",", view->vm_id);
        else if (view->kind == IVG_ACCOUNT_LOCAL)
                fputs("vm=\"local\",", out);
        if (view->kind != IVG_ACCOUNT_POOL) {
                print_escaped(out, "name", view->name);
                fputc(',', out);
        }
        print_escaped(out, "pool", view->pool);
}

static void print_field(FILE *out, const struct snapshot *snapshot, const struct ivg_account_field *field, bool pools)
{
        const char *family = field->family ? field->family : field->name;
        const char *suffix = field->is_counter ? "_total" : "";

        if (field->help)
                fprintf(out, "# HELP %s%s%s %s.\n# TYPE %s%s%s %s\n", prefix_of(pools), family, suffix, field->help,
                        prefix_of(pools), family, suffix, field->is_counter ? "counter" : "gauge");
        for (uint32_t i = 0; i < snapshot->count; i++) {
                const struct ivg_account_view *view = &snapshot->views[i];
                uint64_t value;

                if ((view->kind == IVG_ACCOUNT_POOL) != pools)
                        continue;
                memcpy(&value, (const char *)view + field->offset, sizeof(value));
                fprintf(out, "%s%s%s{", prefix_of(pools), family, suffix);
                print_labels(out, view);
                fprintf(out, "%s%s} ", field->labels ? "," : "", field->labels ? field->labels : "");
                if (field->is_seconds)
                        fprintf(out, "%.9f\n", (double)value / 1e9);
                else
                        fprintf(out, "%llu\n", (unsigned long long)value);
        }
}

static void print_latency(FILE *out, const struct ivg_account_view *view, uint32_t which, bool pools)
{
        const struct ivg_latency *latency = &view->latencies[which];
        const struct {
                const char *quantile;
                uint64_t ns;
        } quantiles[] = {{"0.5", latency->p50_ns}, {"0.95", latency->p95_ns}, {"0.99", latency->p99_ns}};

        for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
                fprintf(out, "%slatency_seconds{", prefix_of(pools));
                print_labels(out, view);
                fprintf(out, ",stage=\"%s\",quantile=\"%s\"} %.9f\n", ivg_latency_names[which], quantiles[i].quantile,
                        (double)quantiles[i].ns / 1e9);
        }
        fprintf(out, "%slatency_seconds_sum{", prefix_of(pools));
        print_labels(out, view);
        fprintf(out, ",stage=\"%s\"} %.9f\n%slatency_seconds_count{", ivg_latency_names[which],
                (double)latency->sum_ns / 1e9, prefix_of(pools));
        print_labels(out, view);
        fprintf(out, ",stage=\"%s\"} %llu\n", ivg_latency_names[which], (unsigned long long)latency->count);
}

static void print_all(FILE *out, const struct snapshot *snapshot, bool pools)
{
        for (const struct ivg_account_field *field = ivg_account_fields; field->name; field++)
                print_field(out, snapshot, field, pools);
        fprintf(out,
                "# HELP %slatency_seconds Calls in the executor: waiting, executed, both.\n# TYPE %slatency_seconds "
                "summary\n",
                prefix_of(pools), prefix_of(pools));
        for (uint32_t i = 0; i < snapshot->count; i++)
                for (uint32_t which = 0; which < IVG_BOARD_LATENCIES; which++)
                        if ((snapshot->views[i].kind == IVG_ACCOUNT_POOL) == pools)
                                print_latency(out, &snapshot->views[i], which, pools);
        if (pools)
                return;
        fputs("# HELP ivgpu_vm_state The state that a VM is in.\n# TYPE ivgpu_vm_state gauge\n", out);
        for (uint32_t i = 0; i < snapshot->count; i++) {
                if (snapshot->views[i].kind == IVG_ACCOUNT_POOL)
                        continue;
                fputs("ivgpu_vm_state{", out);
                print_labels(out, &snapshot->views[i]);
                fprintf(out, ",state=\"%s\"} 1\n", snapshot->views[i].state);
        }
}

/* Callers: the HTTP thread. The section covers the writing, which waits for nothing but memory. */
static char *metrics_text(size_t *bytes)
{
        char *text = NULL;
        FILE *out = open_memstream(&text, bytes);
        const struct snapshot *snapshot;

        if (!out)
                return NULL;
        urcu_memb_register_thread();
        ivg_rcu_read_lock();
        snapshot = (const struct snapshot *)(uintptr_t)ivg_load_acquire_u64(&published); /* M2 */
        fprintf(out,
                "# HELP ivgpu_snapshot_age_seconds How old these figures are.\n# TYPE ivgpu_snapshot_age_seconds "
                "gauge\nivgpu_snapshot_age_seconds %.3f\n",
                (double)(ivg_loop_now_ns() - snapshot->taken_ns) / 1e9);
        print_all(out, snapshot, true);
        print_all(out, snapshot, false);
        ivg_rcu_read_unlock();
        urcu_memb_unregister_thread();
        if (fclose(out) == 0)
                return text;
        free(text);
        return NULL;
}

/* ---- beginning and end ---- */

static int listen_on_port(const struct ivg_metrics_config *config, struct ivg_error *error)
{
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)config->port)};
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)config->port)};
        const bool is_v4 = inet_pton(AF_INET, config->address, &v4.sin_addr) == 1;
        const struct sockaddr *address = is_v4 ? (const struct sockaddr *)&v4 : (const struct sockaddr *)&v6;
        const int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
        int rc;

        if (!is_v4)
                (void)inet_pton(AF_INET6, config->address, &v6.sin6_addr); /* one of the two (config.c) */
        if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
            bind(fd, address, is_v4 ? sizeof(v4) : sizeof(v6)) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
                return fd;
        rc = -errno;
        ivg_error_set(error, "metrics: %s port %u: %s", config->address, config->port, strerror(-rc));
        if (fd >= 0)
                close(fd);
        return rc;
}

int ivg_metrics_open(struct ivg_mediator *mediator, struct ivg_error *error)
{
        const struct ivg_metrics_config *config = &mediator->config.metrics;
        struct ivg_metrics *metrics = &mediator->metrics;
        int rc;

        metrics->listen_fd = -1;
        if (config->port == 0 && config->socket[0] == '\0')
                return 0;
        metrics->http = ivg_module_load("metrics", "ivg_metrics_http", error);
        if (!metrics->http) {
                ivg_error_prefix(error, "metrics");
                return -ELIBACC;
        }
        rc = config->port != 0 ? listen_on_port(config, error)
                               : ivg_manager_listen(config->socket, config->socket_mode, SOCK_STREAM, error);
        metrics->listen_fd = rc;
        return rc < 0 ? rc : 0;
}

int ivg_metrics_start(struct ivg_mediator *mediator, struct ivg_error *error)
{
        struct ivg_metrics *metrics = &mediator->metrics;

        if (metrics->listen_fd < 0)
                return 0;
        snapshot_take(mediator);
        if (ivg_load_relaxed_u64(&published) != 0) /* relaxed: this thread wrote it */
                metrics->server = metrics->http->start(metrics->listen_fd, metrics_text);
        if (!metrics->server) {
                ivg_error_set(error, "metrics: the HTTP server does not start");
                return -ENOMEM;
        }
        return 0;
}

void ivg_metrics_close(struct ivg_mediator *mediator)
{
        struct ivg_metrics *metrics = &mediator->metrics;

        if (metrics->server)
                metrics->http->stop(metrics->server);
        else if (metrics->listen_fd >= 0)
                close(metrics->listen_fd);
        if (metrics->listen_fd >= 0 && mediator->config.metrics.socket[0] != '\0')
                ivg_manager_unlink(mediator->config.metrics.socket);
        metrics->server = NULL;
        metrics->listen_fd = -1;
        if (ivg_load_relaxed_u64(&published) == 0) /* relaxed: this thread wrote it */
                return;
        publish(NULL);
        ivg_rcu_drain();
}
