/* How an executor gets its channel (exec_control.h). Before it, nothing in the process is any guest's. */
#ifndef IVG_EXEC_ADOPT_H
#define IVG_EXEC_ADOPT_H

#include "exec_internal.h"

/* Waits for the mediator's ADOPT. -EPIPE: the mediator is gone; -ECANCELED: a signal came; -EPROTO: with words, the
 * message was none of ours or lacked a descriptor, and what came with it is closed. */
int ivg_exec_adopt(int control_fd, int signal_fd, struct ivg_exec_config *config, uint32_t *vm_id,
                   struct ivg_error *error);

#endif
