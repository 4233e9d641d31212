/* The mediator's log: lines for people and for scripts that knew its predecessor's words. */
#include "mediator.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum ivg_log_level shown_level = IVG_LOG_INFO;

void ivg_log_setup(enum ivg_log_level shown)
{
        shown_level = shown;
}

void ivg_log(enum ivg_log_level level, const char *format, ...)
{
        static const char *const words[] = {
                [IVG_LOG_ERROR] = "ERROR: ", [IVG_LOG_WARNING] = "WARNING: ", [IVG_LOG_INFO] = ""};
        char line[1024];
        struct timespec now;
        struct tm parts;
        va_list arguments;
        size_t used;

        if (level > shown_level)
                return;
        clock_gettime(CLOCK_REALTIME, &now);
        localtime_r(&now.tv_sec, &parts);
        used = strftime(line, sizeof(line), "%F %T", &parts);
        used += (size_t)snprintf(line + used, sizeof(line) - used, ".%03ld ivgpud: %s", now.tv_nsec / 1000000,
                                 words[level]);
        va_start(arguments, format);
        vsnprintf(line + used, sizeof(line) - used - 1, format, arguments);
        va_end(arguments);
        used = strlen(line);
        line[used++] = '\n';
        /* Nothing helps when stderr is gone. */
        if (write(STDERR_FILENO, line, used) < 0)
                return;
}
