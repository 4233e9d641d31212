/* The mediator's log. On a terminal, or in a file, lines with a time; in systemd's journal, which stderr leads to when
 * a unit says nothing else, entries with fields:
 *
 *   MESSAGE_ID, IVGPU_EVENT     the event (log_events.h)
 *   IVGPU_VM, IVGPU_VM_NAME     whom it is about, "local" being programs of this machine
 *   IVGPU_CHANNEL, IVGPU_EXECUTOR, IVGPU_ERROR
 *
 * so that `journalctl -u ivgpud IVGPU_VM=7` is one VM's story. The words are the predecessor's, whose operators grep.
 *
 * Of one event and one VM IVG_LOG_BURST lines are shown in IVG_LOG_WINDOW_MS, since a guest must not fill the host's
 * journal; what was not shown is counted, and the count is told. A VM's limit "log_level" (ivgpuctl set) hides its
 * lines by level. */
#ifndef IVGPUD_LOG_H
#define IVGPUD_LOG_H

#include "ivgpu/region.h"
#include "log_events.h"
#include <stdbool.h>
#include <sys/types.h>

#define IVG_LOG_BURST 200u
#define IVG_LOG_WINDOW_MS 10000u

struct ivg_channel;
struct ivg_executor;
struct ivg_mediator;
struct ivg_member;

/* Whom a line is about; what is not known is 0 or NULL. */
struct ivg_log_about {
        const struct ivg_member *member;
        const struct ivg_channel *channel;
        pid_t executor;
        enum ivg_error_code error;
};
#define IVG_ABOUT_NOBODY ((struct ivg_log_about){0})
struct ivg_log_about ivg_about_member(const struct ivg_member *member);
struct ivg_log_about ivg_about_channel(const struct ivg_channel *channel,
                                       enum ivg_error_code error); /* its executor too */
struct ivg_log_about ivg_about_executor(const struct ivg_executor *executor);

enum ivg_log_form { IVG_LOG_AUTO, IVG_LOG_TEXT, IVG_LOG_JOURNAL };
/* What is shown, and how; AUTO: to the journal where stderr leads there. -errno with words: no way to the journal. */
int ivg_log_setup(enum ivg_log_level shown, enum ivg_log_form form, struct ivg_error *error);
bool ivg_log_is_journal(void);

/* One line or entry; one system call. */
void ivg_log(enum ivg_log_event event, struct ivg_log_about about, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* The same with another level than the event's: of words that are an executor's. */
void ivg_log_at(enum ivg_log_level level, enum ivg_log_event event, struct ivg_log_about about, const char *text);
/* Several lines that belong together, as one entry; `message` begins with "MESSAGE=". */
void ivg_log_block(enum ivg_log_event event, char *message);
/* Tells what was not shown, when its time is over. Returns when that is; UINT64_MAX: nothing was hidden. */
uint64_t ivg_log_tick(struct ivg_mediator *mediator, uint64_t now_ms);

#endif
