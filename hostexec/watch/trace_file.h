/* A trace in the Trace Event Format, which chrome://tracing and ui.perfetto.dev open: calls as executors ran them, by
 * thread, and the calls that guest threads waited for, each with an arrow to where it ran. Written as it comes, nothing
 * is kept. */
#ifndef IVG_TRACE_FILE_H
#define IVG_TRACE_FILE_H

#include "board.h"
#include <stdio.h>

/* Threads of an executor: 1 the consumer, 2 the reaper, 3 + n the lane of line n; in the file from 1001 on, as a viewer
 * takes a thread with its process's number for the main one. */
#define IVG_TRACE_LANE_TID 3u
#define IVG_TRACE_TID_BASE 1000u

struct ivg_trace_file {
        FILE *out;
        uint64_t base_ns; /* time 0 of the trace */
        uint64_t events;  /* calls written */
        uint64_t arrows;
        bool begun; /* something stands in the list */
};

struct ivg_trace_track { /* one program and its executor */
        uint32_t number; /* from 0: the program is process 2n + 1 of the trace, its executor 2n + 2 */
        bool named[IVG_TRACE_LANE_TID + IVG_RING_PRODUCERS];
        uint32_t thread_of[IVG_RING_PRODUCERS];    /* the guest thread whose calls come there; 0: none was seen */
        uint32_t thread_named[IVG_RING_PRODUCERS]; /* the one that has a name there; 0: none */
        uint64_t answered_ns[IVG_RING_PRODUCERS]; /* its latest waited call's end: calls of one thread do not overlap */
};

void ivg_trace_file_begin(struct ivg_trace_file *file, FILE *out, uint64_t base_ns);
void ivg_trace_file_process(struct ivg_trace_file *file, struct ivg_trace_track *track, const char *program,
                            const char *executor);
void ivg_trace_file_call(struct ivg_trace_file *file, struct ivg_trace_track *track,
                         const struct ivg_trace_event *event);
/* At that moment it was noticed that so many of its calls are missing. */
void ivg_trace_file_lost(struct ivg_trace_file *file, const struct ivg_trace_track *track, uint64_t now_ns,
                         uint64_t calls);
/* False: the file could not be written. The stream stays open. */
bool ivg_trace_file_end(struct ivg_trace_file *file, uint64_t calls_lost, uint64_t programs_lost);

#endif
