/* A trace of one VM (or of local programs) by a mediator's help: from executors' boards into a file. */
#ifndef IVG_TRACE_SESSION_H
#define IVG_TRACE_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#define IVG_TRACE_CALLS_STANDARD 500000u /* some 200 MiB of text */

struct ivg_trace_options {
        const char *socket, *object, *file;
        uint32_t seconds;   /* 0: until SIGINT, SIGTERM, or the mediator's end */
        uint64_t calls_max; /* then it ends */
        /* A byte goes there when every call from then on is traced, and another some time after SIGTERM, when all
         * programs so far are known; the trace ends with the mediator then. -1: nobody asks. */
        int ready_fd;
        const char *name; /* of the program, for messages */
};
enum ivg_trace_end {
        IVG_TRACE_DONE = 0,
        IVG_TRACE_REFUSED = 1,     /* by the mediator, or the file cannot be written */
        IVG_TRACE_NO_MEDIATOR = 3, /* or it went away in the middle; what was traced is in the file */
};
/* Says on stderr how it went. */
enum ivg_trace_end ivg_trace_run(const struct ivg_trace_options *options);

#endif
