/* Between the commands: a request, how it is read, how its answer is built. */
#ifndef IVGPUD_COMMAND_REQUEST_H
#define IVGPUD_COMMAND_REQUEST_H

#include "../common/json_add.h"
#include "commands.h"
#include <errno.h>

struct request {
        struct ivg_mediator *mediator;
        struct json_object *json;
        struct json_object *answer;
        struct ivg_command_answer *out; /* for descriptors */
        const struct ivg_command_asker *asker;
        bool goes_on;              /* with what an earlier request began: that one was logged */
        struct ivg_member *member; /* "object"; NULL: the command takes none, or none was given */
        struct ivg_error error;
};

/* ---- reading requests ---- */

static inline const char *get_text(const struct request *request, const char *key)
{
        struct json_object *value;

        return json_object_object_get_ex(request->json, key, &value) && json_object_is_type(value, json_type_string)
                       ? json_object_get_string(value)
                       : NULL;
}

/* -ENOENT: it is not there. */
static inline int get_number(struct request *request, const char *key, uint32_t max, uint32_t *number)
{
        struct json_object *value;
        int64_t wide;

        if (!json_object_object_get_ex(request->json, key, &value))
                return -ENOENT;
        wide = json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : -1;
        if (wide < 0 || wide > (int64_t)max) {
                ivg_error_set(&request->error, "\"%s\" is no number from 0 to %u", key, max);
                return -EINVAL;
        }
        *number = (uint32_t)wide;
        return 0;
}

/* ---- commands.c ---- */

void ivg_command_add_identity(struct json_object *object, const struct ivg_member *member);
const char *ivg_command_phase_word(const struct ivg_executor *executor);

/* ---- commands_watch.c: for those who look on ---- */

int ivg_command_stats(struct request *request);
int ivg_command_programs(struct request *request);
int ivg_command_regions(struct request *request);
int ivg_command_trace(struct request *request);

#endif
