/* What ivgpuctl may ask the mediator for.
 *
 * A request is a JSON object: "command", and, where the command takes them, "object" (a VM's number or name, or
 * "local"), "key" and "value", "seconds", "pid". The answer is one too: {"ok": true, ...} or {"ok": false, "error":
 * "..."}, where the text names the object and the number. */
#ifndef IVGPUD_COMMANDS_H
#define IVGPUD_COMMANDS_H

#include "mediator.h"

/* The answer to one line, with its newline, to be freed; NULL: no memory. Never waits. `pid`: who asks, for the log. */
char *ivg_command_run(struct ivg_mediator *mediator, const char *line, bool may_change, pid_t pid);

#endif
