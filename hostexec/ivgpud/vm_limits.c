#include "vm_limits.h"
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DAY_S 86400u
#define DAY_MS (DAY_S * 1000u)
#define VRAM_MIB_MAX (1u << 24) /* 16 TiB: more than any GPU has */
#define CALLS_PER_S_MAX 1000000000u
#define INFLIGHT_MAX 4096u /* a ring's slots: more cannot wait */
#define EXECUTORS_MAX 256u /* IVG_LOCAL_PROGRAMS_MAX; a VM has fewer channels anyway */
#define FAULTS_MAX 16u     /* as many moments are remembered of each VM */
#define FAULTS_STANDARD 5u /* the prototype's watchdog */
#define WINDOW_S_STANDARD 60u
#define QUARANTINE_S_STANDARD 60u

static const char *const priority_words[] = {
        [IVG_PRIORITY_LOW] = "low", [IVG_PRIORITY_MEDIUM] = "medium", [IVG_PRIORITY_HIGH] = "high", NULL};
static const char *const rate_words[] = {[IVG_RATE_SLOW] = "slow", [IVG_RATE_FAIL] = "fail", NULL};

static const char *const log_level_words[] = {
        [IVG_LOG_ERROR] = "error", [IVG_LOG_WARNING] = "warning", [IVG_LOG_INFO] = "info", NULL};

#define AT(field) offsetof(struct ivg_limits, field)

const struct ivg_limit ivg_limit_table[] = {
        {"priority", AT(priority), 0, IVG_PRIORITY_HIGH, IVG_PRIORITY_MEDIUM, priority_words},
        {"weight", AT(weight), 1, 100, 10, NULL},
        {"vram_mib", AT(vram_mib), 0, VRAM_MIB_MAX, 0, NULL},
        {"calls_per_s", AT(calls_per_s), 0, CALLS_PER_S_MAX, 0, NULL},
        {"rate", AT(rate), 0, IVG_RATE_FAIL, IVG_RATE_SLOW, rate_words},
        {"inflight", AT(inflight), 0, INFLIGHT_MAX, 0, NULL},
        {"executors_max", AT(executors_max), 0, EXECUTORS_MAX, 0, NULL},
        {"call_timeout_ms", AT(call_timeout_ms), 0, DAY_MS, 0, NULL},
        {"kernel_timeout_ms", AT(kernel_timeout_ms), 0, DAY_MS, 0, NULL},
        {"faults_max", AT(faults_max), 0, FAULTS_MAX, FAULTS_STANDARD, NULL},
        {"fault_window_s", AT(fault_window_s), 1, DAY_S, WINDOW_S_STANDARD, NULL},
        {"quarantine_s", AT(quarantine_s), 0, DAY_S, QUARANTINE_S_STANDARD, NULL},
        {"log_level", AT(log_level), 0, IVG_LOG_INFO, IVG_LOG_INFO, log_level_words},
        {NULL, 0, 0, 0, 0, NULL},
};

const struct ivg_limit *ivg_limit_find(const char *name)
{
        for (const struct ivg_limit *limit = ivg_limit_table; limit->name; limit++)
                if (strcmp(limit->name, name) == 0)
                        return limit;
        return NULL;
}

uint32_t ivg_limit_get(const struct ivg_limits *limits, const struct ivg_limit *limit)
{
        uint32_t value;

        memcpy(&value, (const char *)limits + limit->offset, sizeof(value));
        return value;
}

void ivg_limit_set(struct ivg_limits *limits, const struct ivg_limit *limit, uint32_t value)
{
        memcpy((char *)limits + limit->offset, &value, sizeof(value));
}

void ivg_limits_init(struct ivg_limits *limits)
{
        memset(limits, 0, sizeof(*limits));
        for (const struct ivg_limit *limit = ivg_limit_table; limit->name; limit++)
                ivg_limit_set(limits, limit, limit->standard);
}

bool ivg_word_find(const char *const *words, const char *text, uint32_t *index)
{
        for (*index = 0; words[*index]; (*index)++)
                if (strcmp(words[*index], text) == 0)
                        return true;
        return false;
}

void ivg_words_list(const char *const *words, char *text, size_t capacity)
{
        size_t used = 0;

        text[0] = '\0';
        for (const char *const *word = words; *word && used + strlen(*word) + 5 < capacity; word++)
                used += (size_t)sprintf(text + used, "%s\"%s\"", word == words ? "" : ", ", *word);
}

int ivg_limit_parse(const struct ivg_limit *limit, const char *text, uint32_t *value, struct ivg_error *error)
{
        unsigned long long number;
        char known[80], *end;

        if (limit->words) {
                if (ivg_word_find(limit->words, text, value))
                        return 0;
                ivg_words_list(limit->words, known, sizeof(known));
                ivg_error_set(error, "%s: \"%.40s\" is none of %s", limit->name, text, known);
                return -EINVAL;
        }
        errno = 0;
        number = strtoull(text, &end, 10);
        if (text[0] < '0' || text[0] > '9' || *end != '\0') {
                ivg_error_set(error, "%s: \"%.40s\" is no number", limit->name, text);
                return -EINVAL;
        }
        if (errno != 0 || number < limit->min || number > limit->max) {
                ivg_error_set(error, "%s: %.40s is outside %u..%u", limit->name, text, limit->min, limit->max);
                return -EINVAL;
        }
        *value = (uint32_t)number;
        return 0;
}
