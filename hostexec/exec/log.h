/* The executor's log: one line each on stderr, which the mediator hands to its journal. */
#ifndef IVG_EXEC_LOG_H
#define IVG_EXEC_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum ivg_log_level { IVG_LOG_ERROR, IVG_LOG_WARNING, IVG_LOG_INFO, IVG_LOG_DEBUG };

/* Before any thread starts: what is shown; and, once there is a channel, whose every line is. */
void ivg_log_setup(enum ivg_log_level shown);
void ivg_log_setup_channel(uint32_t vm_id, uint32_t channel);
/* Where lines go; stderr before. Before any thread starts. */
void ivg_log_set_fd(int fd);
int ivg_log_fd(void);
bool ivg_log_level_parse(const char *word, enum ivg_log_level *level); /* "error", "warning", "info", "debug" */
/* One line, cut to some 750 characters, in one write; any thread. Where a guest can cause it: ivg_log_permit() first.
 */
void ivg_log(enum ivg_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool ivg_log_shows(enum ivg_log_level level);

/* At most IVG_LOG_LINES_PER_SECOND lines of one sort: a guest must not fill the host's journal. */
#define IVG_LOG_LINES_PER_SECOND 10u
struct ivg_log_limit {
        _Atomic(uint64_t) second; /* the running second in the upper half, lines of it in the lower */
        _Atomic(uint64_t) suppressed;
};
/* True: log this one; *suppressed tells how many were not since the last. Lock-free, any thread. */
bool ivg_log_permit(struct ivg_log_limit *limit, uint64_t *suppressed);

#endif
