/* GPU time, measured by events around busy periods. Between the meter (meter_internal.h) and gate.c.
 *
 * A period begins with an event in a stream of the meter's own (it runs at once: the beginning), collects calls, and
 * ends with an event in each stream that they went to. Its time is from its beginning, or from the end of the period
 * before if that is later, to its last end: streams that overlap count once, waits inside streams count, gaps below
 * IVG_METER_GAP_NS count. Events are recorded by whoever gives the work, asked and evaluated off the consumer, by the
 * meter's thread, or by a consumer that waits at its gate anyway.
 *
 * An end is recorded at the gate's next look, when the program pauses, and before a record that may end a stream. In
 * the legacy stream it waits for all that went to blocking streams before, and all that goes there later waits for it.
 * The work that it ends has done both already, so it adds nothing, if between the two nothing has gone to another
 * stream that takes time there or waits. So it is recorded before work for another stream (handles.c) and before what
 * orders streams (consumer.c). What may stand between: calls that name no stream, and marks (a completion word's write,
 * an event). A mark in another blocking stream waits for what went there before the work, as the work itself does, and
 * takes no time. A lane that gives work to another stream meanwhile got its call before the work's record came, and has
 * not answered it: to the program the two are at once, and the work might have waited for it as well.
 *
 * Not every call is measured. An executor that nobody competes with is sampled: one period of about
 * IVG_METER_SAMPLE_NS, then IVG_METER_SAMPLE_EVERY_MS in which calls count with the time that one took before. */
#ifndef IVG_EXEC_METER_H
#define IVG_EXEC_METER_H

#include "exec_internal.h"

/* Contexts that are measured at once; further ones count by estimate. A process has one, as a rule. */
#define IVG_METER_CONTEXTS_MAX 4u
/* Periods under way. With more work than that queued the newest just grows. */
#define IVG_METER_PERIODS 16u
/* Streams of one period; one more ends it. */
#define IVG_METER_STREAMS 8u
/* A period is closed at the first chance after so long: what the gate knows is never older by more. */
#define IVG_METER_PERIOD_NS 200000u
#define IVG_METER_SAMPLE_NS 1000000u
#define IVG_METER_SAMPLE_EVERY_MS 20u
/* A pause between calls that still counts as use: nobody else could have used the device meanwhile. */
#define IVG_METER_GAP_NS 50000u
/* How often the thread looks at periods under way, the same while the mediator waits for their end, and how long it
 * sleeps when there is nothing at all. */
#define IVG_METER_LOOK_NS 500000u
#define IVG_METER_LOOK_SOON_NS 100000u
#define IVG_METER_SLEEP_MS 60000u
/* What a call is believed to take before one has been measured. */
#define IVG_METER_CALL_NS 20000u

struct ivg_meter_period {
        CUevent begin, ends[IVG_METER_STREAMS];
        CUstream streams[IVG_METER_STREAMS]; /* to tell them apart; never used as handles */
        uint32_t stream_count, last;         /* the end that was last */
        uint64_t calls, begun_ns;
        bool blind; /* calls that nobody measured may run before its own */
};

struct ivg_meter_context {
        ivg_id id; /* IVG_ID_NONE: free place */
        uint32_t device;
        CUstream stream;
        uint32_t oldest, count; /* periods under way, the open one included */
        bool open;
        bool has_previous;   /* the period before the oldest is still there to compare with */
        uint64_t flushed_ns; /* the open one's ends have been recorded, and nothing came since; 0: not so */
        struct ivg_meter_period periods[IVG_METER_PERIODS];
};

struct ivg_meter_device {
        _Atomic(uint64_t) given; /* calls of the consumer; its word */
        uint64_t accounted;      /* of them in a period, or counted by estimate */
        uint64_t lane_calls, done, measured_ns, call_ns, busy_since_ns, progress_ns;
        bool measured_any, touched;
        bool blind; /* calls have been counted by estimate since the latest period began */
};

enum ivg_meter_sleep {
        IVG_METER_AWAKE = 0,
        IVG_METER_SLEEPS, /* until something is given to the device */
        IVG_METER_NAPS,   /* IVG_METER_SAMPLE_EVERY_MS, or until a period begins */
};

struct ivg_meter {
        pthread_mutex_t mutex; /* of all below but what is the consumer's; never held over a call that may block */
        pthread_t thread;
        bool started;
        bool usable;                  /* the driver has what is needed */
        bool metering;                /* calls belong to periods */
        _Atomic(uint32_t) sleeping;   /* enum ivg_meter_sleep; the thread sleeps until `wake` moves */
        _Atomic(uint32_t) wake;       /* futex */
        _Atomic(uint32_t) sample_due; /* set by the thread, cleared by the consumer */
        struct ivg_meter_device devices[IVG_BOARD_DEVICES_MAX];
        struct ivg_meter_context contexts[IVG_METER_CONTEXTS_MAX];
        /* the consumer's: streams that calls went to since their ends were recorded last */
        ivg_id dirty_context;
        uint32_t dirty_count;
        uint64_t dirty_since_ns; /* the oldest of them */
        CUstream dirty[IVG_METER_STREAMS];
};

struct ivg_meter_view { /* of a device */
        uint64_t used_ns, inflight, call_ns;
};

/* Consumer, with the mutex not held and the context current. Says whether calls are measured from here on, brings the
 * board up to date, closes a period that is long enough (`close`: in any case), and, when `begin`, opens one. */
struct ivg_meter_view ivg_meter_update(struct ivg_exec *exec, ivg_id context, uint32_t device, bool metering,
                                       bool close, bool begin);
/* The same from a wait: asks for ends as well. */
struct ivg_meter_view ivg_meter_look(struct ivg_exec *exec, uint32_t device);

#endif
