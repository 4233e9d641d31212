/* The board of one executor: what it and the mediator tell each other while calls flow, without a system call.
 *
 * A memory file that ivgpud makes for each channel's executor and hands over with ADOPT (exec_control.h). No guest sees
 * it, and no other executor: a broken one can spoil its own account only. Every word has one writer. The mediator's
 * words lie on pages of their own; what it reads of the executor's it reads once and bounds.
 *
 * Who may run. For each device the mediator says how much GPU time in all the executor may have used (granted_ns) and
 * the executor says how much it has used (used_ns): it gives work to the GPU while used_ns is below granted_ns, else
 * its consumer waits on `wake`. Looking costs one load a batch, telling one store; no lock, no trip to the mediator.
 *
 *   mediator                                    executor
 *   Q1 granted_ns, then `wake`            ->    Q2 `wake`, then granted_ns
 *   Q4 waiting_ns (at each kick)          <-    Q3 waiting_ns, then kick (eventfd, IVG_EXEC_SLOT_KICK)
 *   Q1, then Q5 waiting_ns, then futex    <->   Q3, then futex on `wake` as Q2 has seen it
 *   W1 `unwatched`, then W2 `sleep_at`    <->   W3 `sleep_at`, then W4 `unwatched`, then kick
 * A grant that comes between the look and the sleep moves `wake`, so that the sleep ends at once; one that comes when
 * the other sleeps finds it waiting. Waits are bounded all the same (gate.c). Of W1 and W3 (the ring's word: 0, the
 * consumer is awake) one sees the other: a mediator that looks seldom is told of the first record after a pause. */
#ifndef IVG_BOARD_H
#define IVG_BOARD_H

#include "ivgpu/atomics.h"
#include "ivgpu/histogram.h"
#include "ivgpu/ring_layout.h"
#include "trace_ring.h"
#include <stddef.h>

#define IVG_BOARD_MAGIC 0x31445242u   /* "BRD1" */
#define IVG_BOARD_DEVICES_MAX 64u     /* those that one executor can use: IVG_POOL_GPUS_MAX, IVG_EXEC_DEVICES_MAX */
#define IVG_BOARD_NO_LIMIT UINT64_MAX /* of granted_ns: need not be looked at for long */
#define IVG_BOARD_CALL_NONE 0u        /* of `call`: no call of the table has this number */

/* What the mediator has decided about the VM. */
enum ivg_board_state {
        IVG_BOARD_RUN = 0,
        IVG_BOARD_PAUSE = 1, /* nothing new goes to the GPU; all else goes on */
};

/* ---- the mediator's words ---- */

struct ivg_board_orders {
        uint32_t magic, bytes;              /* of this structure's file; before anybody else sees it */
        _Atomic(uint32_t) state;            /* enum ivg_board_state */
        _Atomic(uint32_t) inflight_calls;   /* given to the GPU and not known done, at most; 0: no such limit */
        _Atomic(uint64_t) rate_calls_per_s; /* this executor's part of its VM's rate; 0: no limit */
        _Atomic(uint64_t) rate_burst_calls; /* a full bucket */
        _Atomic(uint32_t) rate_fails;       /* launches above the rate fail, and do not wait */
        _Atomic(uint32_t) watched;          /* work on the device is to be known of all the time, not by samples */
        _Atomic(uint32_t) trace;            /* calls go to the board's trace: looked at once a batch */
        _Atomic(uint32_t) unwatched;        /* the mediator looks seldom, until a consumer that wakes has kicked it */
        _Atomic(uint32_t) reserved[4];
};
_Static_assert(sizeof(struct ivg_board_orders) == 64, "one line: the consumer looks at it once a batch");

enum ivg_board_ask {                          /* what a kick is wanted for */
                     IVG_BOARD_ASK_BEGIN = 0, /* work begins */
                     IVG_BOARD_ASK_IDLE = 1,  /* none is left */
};

struct ivg_board_grant { /* of one device */
        _Atomic(uint64_t) granted_ns;
        _Atomic(uint64_t) queue_ns; /* work given to the GPU and not known done, at most, by its time; 0: no limit */
        _Atomic(uint32_t) wake;     /* futex: moves with each change of these words, or of the orders */
        _Atomic(uint32_t) announce; /* moves when a kick is wanted at the next event; its kind in the lowest bit */
        uint64_t reserved[5];
};
_Static_assert(sizeof(struct ivg_board_grant) == 64, "one line for each device");

/* ---- the executor's words: counters, each true by itself. What the guest sees too (failures, bytes) stands in the
 * region's host pages ---- */

enum ivg_board_class { /* where a call ran (consumer.c) */
                       IVG_BOARD_CONSUMER_ASYNC,
                       IVG_BOARD_CONSUMER_SYNC,
                       IVG_BOARD_LANE,
                       IVG_BOARD_REAPER,
                       IVG_BOARD_CLASSES
};

/* Of the consumer's calls, from one batch in IVG_BOARD_LATENCY_EVERY. */
enum ivg_board_latency {
        IVG_BOARD_RING_WAIT, /* from the batch's taking to the call's beginning, on average in the batch */
        IVG_BOARD_EXECUTION, /* a call: the batch's time by its calls */
        IVG_BOARD_TOTAL,     /* a batch, from its taking to its end */
        IVG_BOARD_LATENCIES
};
#define IVG_BOARD_LATENCY_EVERY 16u

struct ivg_board_counters {
        _Atomic(uint64_t) calls[IVG_BOARD_CLASSES];
        _Atomic(uint64_t) batches;
        _Atomic(uint64_t) gpu_calls;    /* launches, copies, sets: what a gate may hold back */
        _Atomic(uint64_t) throttled_ns; /* the consumer waited: for the call rate */
        _Atomic(uint64_t) throttles;
        _Atomic(uint64_t) rate_failures; /* calls refused by the call rate */
        _Atomic(uint64_t) gated_ns;      /* for a grant, or for room in the window */
        _Atomic(uint64_t) gates;
        _Atomic(uint64_t) kicks;
        _Atomic(uint32_t) ring_depth; /* slots that waited when the latest batch was taken */
        /* For a watchdog: the call that the consumer is in, and since when it is in its batch (ivg_clock_ns, to some
         * milliseconds; 0: in none, or at a gate). */
        _Atomic(uint32_t) call;
        _Atomic(uint64_t) call_since_ns;
        _Atomic(uint64_t) reserved[2];
        _Atomic(uint64_t) lane_since_ns[IVG_RING_PRODUCERS]; /* the same of the lanes' calls, each its lane's word */
};
_Static_assert(sizeof(struct ivg_board_counters) % 64 == 0, "whole lines");

struct ivg_board_use {             /* of one device */
        _Atomic(uint64_t) used_ns; /* measured, and what is under way by estimate: what granted_ns is compared with */
        _Atomic(uint64_t) gpu_ns;  /* measured: busy periods that have ended */
        _Atomic(uint64_t) busy_since_ns; /* of work that is not known done: since when the GPU had some; 0: none */
        _Atomic(uint64_t) progress_ns;   /* the latest sign that the GPU finished something, or was given the first */
        _Atomic(uint64_t) calls;         /* given to the GPU */
        _Atomic(uint64_t) inflight;      /* of them not known done */
        _Atomic(uint64_t) call_ns;       /* estimate: GPU time of one call */
        _Atomic(uint64_t) waiting_ns;    /* since when the gate holds work back (ivg_clock_ns); 0: it does not */
        _Atomic(uint32_t) announced;     /* the value of `announce` that has been answered */
        _Atomic(uint32_t) reserved_word;
        uint64_t reserved[7];
};
_Static_assert(sizeof(struct ivg_board_use) == 128, "two lines for each device");

/* ---- the file ---- */

struct ivg_board {
        struct ivg_board_orders orders;
        struct ivg_board_grant grants[IVG_BOARD_DEVICES_MAX];
        _Alignas(4096) struct ivg_board_counters counters;
        _Alignas(64) struct ivg_board_use uses[IVG_BOARD_DEVICES_MAX];
        _Alignas(64) struct ivg_histogram latencies[IVG_BOARD_LATENCIES]; /* nanoseconds */
        _Alignas(4096) struct ivg_trace_ring trace;                       /* no memory until it is used */
};
_Static_assert(offsetof(struct ivg_board, counters) % 4096 == 0, "each side's words lie on pages of their own");

/* A fresh board of zeros becomes one without limits. Relaxed: whoever hands it on orders it. */
static inline void ivg_board_format(struct ivg_board *board)
{
        board->orders.magic = IVG_BOARD_MAGIC;
        board->orders.bytes = sizeof(*board);
        for (uint32_t i = 0; i < IVG_BOARD_DEVICES_MAX; i++)
                ivg_store_relaxed_u64(&board->grants[i].granted_ns, IVG_BOARD_NO_LIMIT);
}

#endif
