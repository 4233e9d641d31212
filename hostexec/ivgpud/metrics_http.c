/* The HTTP endpoint of metrics: GET /metrics, one thread, by libmicrohttpd. A module of its own (metrics.h). */
#include "metrics.h"
#include <microhttpd.h>
#include <string.h>
#include <unistd.h>

#define TEXT_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define CONNECTION_BYTES 32768u

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned int status, char *body, size_t bytes,
                              enum MHD_ResponseMemoryMode mode)
{
        struct MHD_Response *response = MHD_create_response_from_buffer(bytes, body, mode);
        enum MHD_Result result;

        if (!response)
                return MHD_NO;
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, TEXT_TYPE);
        result = MHD_queue_response(connection, status, response);
        MHD_destroy_response(response);
        return result;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned int status, const char *what)
{
        return answer(connection, status, (char *)(unsigned long)what, strlen(what), MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_bytes, void **state)
{
        ivg_metrics_text *text = (ivg_metrics_text *)context;
        size_t bytes;
        char *body;

        (void)version;
        (void)upload;
        (void)state;
        if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
                *upload_bytes = 0;
                return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET only\n");
        }
        if (strcmp(url, "/metrics") != 0 && strcmp(url, "/") != 0)
                return refuse(connection, MHD_HTTP_NOT_FOUND, "only /metrics is here\n");
        body = text(&bytes);
        if (!body)
                return refuse(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "no memory\n");
        return answer(connection, MHD_HTTP_OK, body, bytes, MHD_RESPMEM_MUST_FREE);
}

static void *start(int listen_fd, ivg_metrics_text *text)
{
        struct MHD_Daemon *daemon =
                MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL, 0, NULL, NULL, handle, (void *)text,
                                 MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_CONNECTION_LIMIT,
                                 IVG_METRICS_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, IVG_METRICS_CONNECTION_S,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_END);

        if (!daemon)
                close(listen_fd);
        return daemon;
}

static void stop(void *server)
{
        MHD_stop_daemon(server);
}

extern const struct ivg_metrics_http ivg_metrics_http;
__attribute__((visibility("default"))) const struct ivg_metrics_http ivg_metrics_http = {.start = start, .stop = stop};
