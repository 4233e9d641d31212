/* What the shim says: one line per event on stderr, and counts of what it refused. Off the hot paths. */
#include "guest.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOG_LINE_BYTES 600
/* Distinct refused names that are told apart: more than libcuda exports, a power of two. */
#define REFUSED_NAMES_MAX 1024u

bool ivg_log_calls;
static bool log_summary;

/* Open addressing by name; entries are only ever added, so that look-ups need no lock. Names are literals. */
static struct {
        _Atomic(uintptr_t) name;
        _Atomic(uint64_t) count;
} refused[REFUSED_NAMES_MAX];

__attribute__((constructor)) static void log_start(void)
{
        const char *wanted = getenv("IVGPU_LOG");

        if (wanted == NULL)
                return;
        ivg_log_calls = strstr(wanted, "calls") != NULL;
        log_summary = strstr(wanted, "summary") != NULL;
}

void ivg_log(const char *format, ...)
{
        char line[LOG_LINE_BYTES] = "ivgpu: ";
        const size_t prefix = strlen(line);
        va_list arguments;
        int written;

        va_start(arguments, format);
        written = vsnprintf(line + prefix, sizeof(line) - prefix - 1, format, arguments);
        va_end(arguments);
        if (written < 0)
                return;

        size_t bytes = prefix + (size_t)written;
        if (bytes > sizeof(line) - 2)
                bytes = sizeof(line) - 2;
        line[bytes++] = '\n';
        /* One write per line: lines of several threads and processes stay whole. Nobody to tell when it fails. */
        if (write(STDERR_FILENO, line, bytes) < 0)
                return;
}

void ivg_log_local(const char *name, CUresult result)
{
        ivg_log("%s(local) = %d", name, (int)result);
}

static uint32_t name_hash(const char *name)
{
        uint32_t hash = 2166136261u; /* FNV-1a */

        for (; *name != '\0'; name++)
                hash = (hash ^ (uint8_t)*name) * 16777619u;
        return hash;
}

/* The entry of `name`, made when `add`; NULL: not there, or the table is full. */
static _Atomic(uint64_t) *count_of(const char *name, bool add)
{
        const uint32_t start = name_hash(name);

        for (uint32_t i = 0; i < REFUSED_NAMES_MAX; i++) {
                const uint32_t at = (start + i) % REFUSED_NAMES_MAX;
                /* Acquire: the literal may come from a library that was loaded just now. */
                uintptr_t there = atomic_load_explicit(&refused[at].name, memory_order_acquire);

                if (there == 0) {
                        if (!add)
                                return NULL;
                        if (atomic_compare_exchange_strong_explicit(&refused[at].name, &there, (uintptr_t)name,
                                                                    memory_order_acq_rel, memory_order_acquire))
                                return &refused[at].count;
                }
                if (strcmp((const char *)there, name) == 0)
                        return &refused[at].count;
        }
        return NULL;
}

static bool count_first(const char *name)
{
        _Atomic(uint64_t) *count = count_of(name, true);

        /* Relaxed: a counter; whoever gets zero is the first. */
        return count != NULL && atomic_fetch_add_explicit(count, 1, memory_order_relaxed) == 0;
}

CUresult ivg_refuse(const char *name)
{
        if (count_first(name))
                ivg_log("%s is not carried: answered CUDA_ERROR_NOT_SUPPORTED", name);
        return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult ivg_count_unknown_entry(const char *name)
{
        if (count_first(name))
                ivg_log("private entry %s was called: its meaning is unknown, answered 0", name);
        return CUDA_SUCCESS;
}

uint64_t ivg_refused_count(const char *name)
{
        const _Atomic(uint64_t) *count = count_of(name, false);

        return count == NULL ? 0 : ivg_load_relaxed_u64(count);
}

__attribute__((destructor)) static void log_end(void)
{
        if (!log_summary)
                return;
        for (uint32_t i = 0; i < REFUSED_NAMES_MAX; i++) {
                const uintptr_t name = atomic_load_explicit(&refused[i].name, memory_order_acquire);

                if (name != 0)
                        ivg_log("summary: %s refused or unknown %llu times", (const char *)name,
                                (unsigned long long)ivg_load_relaxed_u64(&refused[i].count));
        }
}
