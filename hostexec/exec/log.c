/* Log lines, their level and their rate. */
#include "log.h"
#include "ivgpu/atomics.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum ivg_log_level shown_level = IVG_LOG_INFO;
static int log_fd = STDERR_FILENO;
static char line_prefix[64] = "ivgpu-exec: ";

static const char *const level_names[] = {"error", "warning", "info", "debug"};

void ivg_log_setup(enum ivg_log_level shown)
{
        shown_level = shown;
        snprintf(line_prefix, sizeof(line_prefix), "ivgpu-exec[no channel, pid=%d]: ", (int)getpid());
}

void ivg_log_setup_channel(uint32_t vm_id, uint32_t channel)
{
        snprintf(line_prefix, sizeof(line_prefix), "ivgpu-exec[vm=%u channel=%u pid=%d]: ", vm_id, channel,
                 (int)getpid());
}

void ivg_log_set_fd(int fd)
{
        log_fd = fd;
}

int ivg_log_fd(void)
{
        return log_fd;
}

bool ivg_log_level_parse(const char *word, enum ivg_log_level *level)
{
        for (uint32_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++)
                if (strcmp(word, level_names[i]) == 0) {
                        *level = (enum ivg_log_level)i;
                        return true;
                }
        return false;
}

bool ivg_log_shows(enum ivg_log_level level)
{
        return level <= shown_level;
}

void ivg_log(enum ivg_log_level level, const char *format, ...)
{
        char line[768];
        va_list arguments;
        int length, body;

        if (!ivg_log_shows(level))
                return;
        length = snprintf(line, sizeof(line), "%s%s%s", line_prefix, level == IVG_LOG_ERROR ? "ERROR " : "",
                          level == IVG_LOG_WARNING ? "WARNING " : "");
        va_start(arguments, format);
        body = vsnprintf(line + length, sizeof(line) - (size_t)length - 1, format, arguments);
        va_end(arguments);
        if (body > 0)
                length += body;
        if (length > (int)sizeof(line) - 2)
                length = (int)sizeof(line) - 2;
        line[length++] = '\n';
        /* One write: lines of several threads and processes do not mix. Nothing helps when stderr is gone. */
        if (write(log_fd, line, (size_t)length) < 0)
                return;
}

bool ivg_log_permit(struct ivg_log_limit *limit, uint64_t *suppressed)
{
        struct timespec now;
        uint64_t seen = ivg_load_relaxed_u64(&limit->second); /* a counter: nothing else hangs on it */

        clock_gettime(CLOCK_MONOTONIC, &now);
        for (;;) {
                const uint64_t second = (uint64_t)now.tv_sec << 32;
                const uint64_t next = (seen & ~(uint64_t)UINT32_MAX) == second ? seen + 1 : second + 1;

                if ((uint32_t)next > IVG_LOG_LINES_PER_SECOND) {
                        atomic_fetch_add_explicit(&limit->suppressed, 1, memory_order_relaxed);
                        return false;
                }
                if (ivg_compare_exchange_acq_rel_u64(&limit->second, &seen, next))
                        break;
        }
        *suppressed = atomic_exchange_explicit(&limit->suppressed, 0, memory_order_relaxed);
        return true;
}
