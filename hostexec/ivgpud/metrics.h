/* Counters for Prometheus: the mediator publishes what it knows once a second, a thread of libmicrohttpd's serves it.
 *
 * They share one pointer, read under RCU: nobody waits for the other. The HTTP part is a module, loaded only when
 * metrics are configured, so that ivgpud runs where libmicrohttpd is not installed. */
#ifndef IVGPUD_METRICS_H
#define IVGPUD_METRICS_H

#include <stddef.h>

#define IVG_METRICS_PERIOD_MS 1000u
#define IVG_METRICS_CONNECTIONS_MAX 16u
#define IVG_METRICS_CONNECTION_S 10u

/* The text to serve, to be freed, and its length; NULL: no memory. Callers: any thread. */
typedef char *ivg_metrics_text(size_t *bytes);

/* What metrics_http.c exports, as "ivg_metrics_http". */
struct ivg_metrics_http {
        void *(*start)(int listen_fd, ivg_metrics_text *text); /* takes the descriptor; NULL: it could not */
        void (*stop)(void *server);                            /* its thread is gone, and the descriptor closed */
};

#endif
