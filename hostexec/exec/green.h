/* Between calls_context.c, calls_green.c and green.c: with the lock of contexts held. */
#ifndef IVG_EXEC_GREEN_H
#define IVG_EXEC_GREEN_H

#include "exec_internal.h"

/* False: IVG_GREEN_CONTEXTS_MAX are there already. */
bool ivg_green_note(struct ivg_exec *exec, ivg_id context, ivg_id primary);
/* The numbers of the context and of its streams lead nowhere afterwards; the driver's object stays. */
void ivg_green_drop(struct ivg_exec *exec, ivg_id context);

#endif
