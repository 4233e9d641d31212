/* The executor's command line: written by the mediator, not by people. What a channel is comes later (adopt.c). */
#ifndef IVG_EXEC_OPTIONS_H
#define IVG_EXEC_OPTIONS_H

#include "log.h"

struct ivg_exec_options {
        int control_fd;
        const char *driver; /* path for dlopen */
        bool warm;          /* make a context before there is a channel */
        int warm_unused_ms; /* and keep it so long for the guest's first retain */
        bool mps;           /* an MPS server is to serve it */
        enum ivg_log_level log_level;
};

/* False: what is wrong has been said on stderr. */
bool ivg_exec_options_parse(struct ivg_exec_options *options, int argc, char **argv);

#endif
