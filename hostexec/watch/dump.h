/* A region as a JSON object, and such an object as text. */
#ifndef IVG_DUMP_H
#define IVG_DUMP_H

#include "region_source.h"
#include <json-c/json.h>
#include <stdio.h>

struct ivg_dump_options {
        uint32_t channel;       /* IVG_CHANNEL_NONE: those in use */
        bool all_channels;      /* also those that nobody uses */
        uint32_t calls;         /* that were taken and are still there, the latest so many */
        uint32_t look_again_ms; /* 0: once; else what is half-written is looked at twice, for its age */
};
/* To be put. NULL with words. */
struct json_object *ivg_dump_region(const struct ivg_region_source *source, const struct ivg_dump_options *options,
                                    struct ivg_error *error);
void ivg_dump_print(FILE *out, struct json_object *dump);

/* The latest calls of one channel, oldest first: [{"position", "taken", "thread", "sync", "number", "text"}, ...].
 * Of one that was answered in its slot, by bytes that lie over thread and arguments, there is no "thread". */
struct json_object *ivg_dump_calls(const struct ivg_region_source *source, uint32_t channel, uint32_t calls,
                                   struct ivg_error *error);

#endif
