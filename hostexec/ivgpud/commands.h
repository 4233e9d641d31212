/* What ivgpuctl and its kin may ask the mediator for.
 *
 * A request is a JSON object: "command", and, where the command takes them, "object" (a VM's number or name, or
 * "local"), "key" and "value", "seconds", "pid". The answer is one too: {"ok": true, ...} or {"ok": false, "error":
 * "..."}, where the text names the object and the number. Descriptors come with its first byte; "fd": N in it is the
 * N-th of them. */
#ifndef IVGPUD_COMMANDS_H
#define IVGPUD_COMMANDS_H

#include "ivgpu/fd_pass.h"
#include "mediator.h"

struct ivg_command_asker {
        bool may_change;
        pid_t pid;          /* for the log */
        const void *client; /* tells clients apart */
};

struct ivg_command_answer {
        char *text; /* one line with its newline */
        size_t bytes;
        uint32_t fd_count;
        int fds[IVG_FDS_PER_MESSAGE_MAX];
};

/* The answer to one line, to be freed; false: no memory. Never waits. */
bool ivg_command_run(struct ivg_mediator *mediator, const char *line, const struct ivg_command_asker *asker,
                     struct ivg_command_answer *answer);
void ivg_command_answer_free(struct ivg_command_answer *answer); /* and its descriptors that were not sent */

#endif
