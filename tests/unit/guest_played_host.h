/* A host for the shim, played by threads of the test: mediator by the local protocol, executor by the ring. It answers
 * every call with success and zeros, except the few that the shim looks into, and misbehaves on request.
 *
 * The shim's process state is made once per process, so each scenario runs in a child of its own: played_scenario(). */
#ifndef IVG_GUEST_PLAYED_HOST_H
#define IVG_GUEST_PLAYED_HOST_H

#include "guest.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <cmocka.h>

#define PLAYED_DRIVER_VERSION 12040
#define PLAYED_PAIRS 7u /* of multiprocessors, three to a group */

struct played_host {
        char directory[64], path[96];
        pthread_t mediator, executor;
        _Atomic(uint32_t) executor_runs;
        int listener, memfd, control, doorbell, interrupt;
        _Atomic(int) socket;
        struct ivg_region region; /* the mediator's mapping */
        struct ivg_region executor_region;
        struct ivg_consumer consumer;
        uint64_t sequences[IVG_RING_PRODUCERS];
        uint64_t fingerprint;              /* of its call table; set before played_host_start for another */
        _Atomic(uint32_t) paused;          /* takes nothing */
        _Atomic(uint32_t) mute;            /* takes, but does not answer */
        _Atomic(uint32_t) windows_refused; /* so many times ivgHello finds the window taken */
        _Atomic(uint32_t) result;          /* of the calls that nothing special is known about */
        _Atomic(uint32_t) calls[4096];     /* by number */
        _Atomic(uint64_t) signal_value;    /* of the latest ivgEventWatch or ivgStreamWatch */
        _Atomic(uint32_t) signal_index;
        _Atomic(uint32_t) order_errors; /* ivgExtentsUnregister: offsets of one line must count up */
        uint64_t last_offset[IVG_RING_PRODUCERS];
        _Atomic(uint32_t) closed; /* the guest's state word says CLOSED */
};

/* Starts and points the environment at it. */
void played_host_start(struct played_host *host);
/* The executor ends: its ring says `state`, its channel DEAD, and the guest is interrupted. */
void played_host_lose(struct played_host *host, enum ivg_ring_state state, enum ivg_ring_fault fault);
/* The mediator's socket closes. */
void played_host_hang_up(struct played_host *host);

/* Runs `scenario` in a child that ends by exit(0); anything else fails the test. Its standard error goes to `said`. */
void played_scenario(void (*scenario)(void), char *said, size_t capacity);
/* How many lines of `said` start with "ivgpu: ". */
uint32_t played_lines(const char *said);

/* For children, where cmocka's assertions cannot be used. */
#define REQUIRE(condition)                                                                      \
        do {                                                                                    \
                if (!(condition)) {                                                             \
                        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
                        _exit(3);                                                               \
                }                                                                               \
        } while (0)
#define REQUIRE_RESULT(call, expected)                                                                              \
        do {                                                                                                        \
                const int result_ = (int)(call);                                                                    \
                if (result_ != (int)(expected)) {                                                                   \
                        fprintf(stderr, "%s:%d: %s = %d, not %s\n", __FILE__, __LINE__, #call, result_, #expected); \
                        _exit(3);                                                                                   \
                }                                                                                                   \
        } while (0)

#endif
