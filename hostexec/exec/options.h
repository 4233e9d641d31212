/* The executor's command line: written by the mediator, not by people. */
#ifndef IVG_EXEC_OPTIONS_H
#define IVG_EXEC_OPTIONS_H

#include "exec_internal.h"

struct ivg_exec_options {
        struct ivg_exec_config channel;
        int control_fd;
        const char *driver; /* path for dlopen */
        uint32_t vm_id;
        enum ivg_log_level log_level;
};

/* False: what is wrong has been said on stderr. */
bool ivg_exec_options_parse(struct ivg_exec_options *options, int argc, char **argv);

#endif
