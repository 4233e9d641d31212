/* What a VM may have and use: one table of limits, from which the configuration file, `ivgpuctl set` and `ivgpuctl
 * show` all work. Each is a 32-bit number of struct ivg_limits; a word's value is its index. */
#ifndef IVGPUD_VM_LIMITS_H
#define IVGPUD_VM_LIMITS_H

#include "ivgpu/region.h"
#include "log_events.h"
#include <stdbool.h>
#include <stdint.h>

enum ivg_priority { IVG_PRIORITY_LOW = 0, IVG_PRIORITY_MEDIUM = 1, IVG_PRIORITY_HIGH = 2 };
/* What becomes of a call above calls_per_s: it waits, or fails with error 10 (RATE_LIMITED). */
enum ivg_rate_action { IVG_RATE_SLOW = 0, IVG_RATE_FAIL = 1 };

struct ivg_limits {
        uint32_t priority; /* enum ivg_priority */
        uint32_t weight;   /* its share of the pool's GPU time beside others of its priority */
        uint32_t vram_mib; /* on each GPU of its pool, by all its programs together; 0: no cap */
        uint32_t calls_per_s;
        uint32_t rate;              /* enum ivg_rate_action */
        uint32_t inflight;          /* calls given to the GPU and not known done; 0: the policy's */
        uint32_t executors_max;     /* programs at once; 0: as many as it has channels */
        uint32_t call_timeout_ms;   /* of one call that the executor is in; 0: none */
        uint32_t kernel_timeout_ms; /* of the GPU without a sign of progress; 0: none */
        uint32_t faults_max;        /* that many within fault_window_s: quarantine; 0: never by itself */
        uint32_t fault_window_s;
        uint32_t quarantine_s; /* 0: until somebody releases it */
        uint32_t log_level;    /* enum ivg_log_level: lines about it that are shown */
};

struct ivg_limit {
        const char *name;
        size_t offset; /* in struct ivg_limits */
        uint32_t min, max, standard;
        const char *const *words; /* NULL: a number. Else the value is an index of these */
};
/* Ends with a NULL name. */
extern const struct ivg_limit ivg_limit_table[];

const struct ivg_limit *ivg_limit_find(const char *name); /* NULL: there is no such */
uint32_t ivg_limit_get(const struct ivg_limits *limits, const struct ivg_limit *limit);
void ivg_limit_set(struct ivg_limits *limits, const struct ivg_limit *limit, uint32_t value);
void ivg_limits_init(struct ivg_limits *limits);
/* The number or word in `text`. Fails: -EINVAL with what is allowed in its place. */
int ivg_limit_parse(const struct ivg_limit *limit, const char *text, uint32_t *value, struct ivg_error *error);
bool ivg_word_find(const char *const *words, const char *text, uint32_t *index);
/* "\"low\", \"medium\", \"high\"": cut if need be. */
void ivg_words_list(const char *const *words, char *text, size_t capacity);

#endif
