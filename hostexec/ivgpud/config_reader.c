#include "config_reader.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int ivg_setting_refuse(const struct ivg_config_reader *reader, const config_setting_t *setting, const char *format, ...)
{
        const char *name = config_setting_name(setting);
        char what[200];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(what, sizeof(what), format, arguments);
        va_end(arguments);
        ivg_error_set(reader->error, "%s:%u: %s: %s", reader->path, config_setting_source_line(setting),
                      name ? name : "entry", what);
        return -EINVAL;
}

/* ---- values ---- */

int ivg_setting_number(const struct ivg_config_reader *reader, const config_setting_t *setting, uint32_t min,
                       uint32_t max, uint32_t *value)
{
        long long number;

        if (config_setting_type(setting) != CONFIG_TYPE_INT && config_setting_type(setting) != CONFIG_TYPE_INT64)
                return ivg_setting_refuse(reader, setting, "a number is expected");
        number = config_setting_get_int64(setting);
        if (number < (long long)min || number > (long long)max)
                return ivg_setting_refuse(reader, setting, "%lld is outside %u..%u", number, min, max);
        *value = (uint32_t)number;
        return 0;
}

int ivg_setting_text(const struct ivg_config_reader *reader, const config_setting_t *setting, size_t capacity,
                     char *value)
{
        const char *text;

        if (config_setting_type(setting) != CONFIG_TYPE_STRING)
                return ivg_setting_refuse(reader, setting, "a string is expected");
        text = config_setting_get_string(setting);
        if (text[0] == '\0' || strlen(text) >= capacity)
                return ivg_setting_refuse(reader, setting, "%zu bytes are outside 1..%zu", strlen(text), capacity - 1);
        strcpy(value, text);
        return 0;
}

int ivg_setting_mode(const struct ivg_config_reader *reader, const config_setting_t *setting, mode_t *mode)
{
        char text[8], *end;
        unsigned long value;
        int rc = ivg_setting_text(reader, setting, sizeof(text), text);

        if (rc < 0)
                return rc;
        value = strtoul(text, &end, 8);
        if (*end != '\0' || value > 0777)
                return ivg_setting_refuse(reader, setting, "\"%s\" is no mode such as \"0660\"", text);
        *mode = (mode_t)value;
        return 0;
}

int ivg_setting_word(const struct ivg_config_reader *reader, const config_setting_t *setting, const char *const *words,
                     uint32_t *index)
{
        char text[64], known[80];
        int rc = ivg_setting_text(reader, setting, sizeof(text), text);

        if (rc < 0)
                return rc;
        if (ivg_word_find(words, text, index))
                return 0;
        ivg_words_list(words, known, sizeof(known));
        return ivg_setting_refuse(reader, setting, "\"%s\" is none of %s", text, known);
}

/* ---- groups ---- */

static int limit_read(const struct ivg_config_reader *reader, const config_setting_t *setting,
                      const struct ivg_limit *limit, struct ivg_limits *limits)
{
        uint32_t value;
        int rc = limit->words ? ivg_setting_word(reader, setting, limit->words, &value)
                              : ivg_setting_number(reader, setting, limit->min, limit->max, &value);

        if (rc == 0)
                ivg_limit_set(limits, limit, value);
        return rc;
}

int ivg_setting_group(struct ivg_config_reader *reader, const config_setting_t *group,
                      const struct ivg_config_key *keys, void *into, struct ivg_limits *limits)
{
        if (!config_setting_is_group(group))
                return ivg_setting_refuse(reader, group, "a group { ... } is expected");
        for (unsigned int i = 0; i < (unsigned int)config_setting_length(group); i++) {
                const config_setting_t *setting = config_setting_get_elem(group, i);
                const struct ivg_limit *limit = limits ? ivg_limit_find(config_setting_name(setting)) : NULL;
                const struct ivg_config_key *key = keys;
                int rc;

                while (key->name && strcmp(key->name, config_setting_name(setting)) != 0)
                        key++;
                if (key->name)
                        rc = key->read(reader, setting, into);
                else if (limit)
                        rc = limit_read(reader, setting, limit, limits);
                else
                        rc = ivg_setting_refuse(reader, setting, "unknown key");
                if (rc < 0)
                        return rc;
        }
        for (const struct ivg_config_key *key = keys; key->name; key++)
                if (key->required && !config_setting_get_member(group, key->name))
                        return ivg_setting_refuse(reader, group, "key \"%s\" is missing", key->name);
        return 0;
}

int ivg_setting_list(struct ivg_config_reader *reader, const config_setting_t *list,
                     int (*read)(struct ivg_config_reader *reader, const config_setting_t *setting, void *into))
{
        if (!config_setting_is_list(list))
                return ivg_setting_refuse(reader, list, "a list ( ... ) is expected");
        for (unsigned int i = 0; i < (unsigned int)config_setting_length(list); i++) {
                int rc = read(reader, config_setting_get_elem(list, i), NULL);

                if (rc < 0)
                        return rc;
        }
        return 0;
}
