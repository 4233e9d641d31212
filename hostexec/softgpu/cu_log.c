/* The driver's log: what sg_report says, kept for cuLogs*. One line for each message. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "softgpu.h"

#define SG_LOG_LINES 64u
#define SG_LOG_LINE_BYTES 512u

static pthread_mutex_t sg_log_lock = PTHREAD_MUTEX_INITIALIZER;
static char sg_log[SG_LOG_LINES][SG_LOG_LINE_BYTES]; /* message n in place n % SG_LOG_LINES */
static uint32_t sg_log_count;                        /* messages so far */

void sg_report(const char *format, ...)
{
        char line[SG_LOG_LINE_BYTES];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(line, sizeof(line), format, arguments);
        va_end(arguments);
        line[strcspn(line, "\n")] = '\0'; /* a compiler's log ends its lines */
        fprintf(stderr, "ivgpu soft GPU: %s\n", line);
        pthread_mutex_lock(&sg_log_lock);
        memcpy(sg_log[sg_log_count++ % SG_LOG_LINES], line, sizeof(line));
        pthread_mutex_unlock(&sg_log_lock);
}

/* The first message of `from`.. that is still there, such that all from it on fit into `bytes` with their newlines. */
static uint32_t sg_log_first(uint32_t from, size_t bytes)
{
        uint32_t first = sg_log_count;
        size_t used = 1; /* the NUL behind all */
        while (first != from && sg_log_count - first < SG_LOG_LINES) {
                used += strlen(sg_log[(first - 1) % SG_LOG_LINES]) + 1;
                if (used > bytes)
                        break;
                first--;
        }
        return first;
}

SG_ENTRY(cuLogsCurrent, CUlogIterator *out, unsigned flags)
{
        (void)flags; /* not looked at, as NVIDIA's driver does not */
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_lock(&sg_log_lock);
        *out = sg_log_count;
        pthread_mutex_unlock(&sg_log_lock);
        return CUDA_SUCCESS;
}

SG_ENTRY(cuLogsDumpToMemory, CUlogIterator *iterator, char *text, size_t *bytes, unsigned flags)
{
        if (text == NULL || bytes == NULL || *bytes == 0 || flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        size_t used = 0;
        pthread_mutex_lock(&sg_log_lock);
        const uint32_t oldest = sg_log_count > SG_LOG_LINES ? sg_log_count - SG_LOG_LINES : 0;
        const uint32_t from = iterator != NULL && *iterator - oldest <= sg_log_count - oldest ? *iterator : oldest;
        const uint32_t first = sg_log_first(from, *bytes);
        for (uint32_t i = first; i != sg_log_count; i++)
                used += (size_t)snprintf(text + used, *bytes - used, "%s\n", sg_log[i % SG_LOG_LINES]);
        const bool lost = first == sg_log_count && from != sg_log_count; /* not even one fits */
        if (iterator != NULL && !lost)
                *iterator = sg_log_count;
        pthread_mutex_unlock(&sg_log_lock);
        text[used] = '\0';
        *bytes = used;
        return lost ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}
