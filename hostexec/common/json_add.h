/* Adding members to a JSON object: what cannot be added for want of memory is missing. */
#ifndef IVG_JSON_ADD_H
#define IVG_JSON_ADD_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

static inline void ivg_json_add_text(struct json_object *object, const char *key, const char *text)
{
        json_object_object_add(object, key, json_object_new_string(text));
}

static inline void ivg_json_add_number(struct json_object *object, const char *key, uint64_t number)
{
        json_object_object_add(object, key, json_object_new_uint64(number));
}

static inline void ivg_json_add_bool(struct json_object *object, const char *key, bool value)
{
        json_object_object_add(object, key, json_object_new_boolean(value));
}

/* Returns `value`, which is the object's from here on. */
static inline struct json_object *ivg_json_add_new(struct json_object *object, const char *key,
                                                   struct json_object *value)
{
        json_object_object_add(object, key, value);
        return value;
}

#endif
