/* How ivgpud.conf is read: values that check themselves, groups by tables of their keys. A key that is in no table is
 * refused, since a misspelt limit that is silently ignored is no limit.
 *
 * Every function returns 0, or -EINVAL with "FILE:LINE: key: what is wrong" in reader->error. */
#ifndef IVGPUD_CONFIG_READER_H
#define IVGPUD_CONFIG_READER_H

#include "config.h"
#include <libconfig.h>

struct ivg_pool_reference { /* looked up at the end: pools may follow */
        char name[IVG_NAME_BYTES];
        uint32_t line;
};

struct ivg_config_reader {
        const char *path;
        struct ivg_config *config;
        struct ivg_error *error;
        struct ivg_pool_reference vm_pools[IVG_VMS_MAX], local_pool, default_pool;
        struct ivg_vm_config defaults; /* what a VM begins with */
};

struct ivg_config_key {
        const char *name;
        bool required;
        int (*read)(struct ivg_config_reader *reader, const config_setting_t *setting, void *into);
};

/* Says what is wrong with `setting`. -EINVAL. */
int ivg_setting_refuse(const struct ivg_config_reader *reader, const config_setting_t *setting, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

int ivg_setting_number(const struct ivg_config_reader *reader, const config_setting_t *setting, uint32_t min,
                       uint32_t max, uint32_t *value);
int ivg_setting_text(const struct ivg_config_reader *reader, const config_setting_t *setting, size_t capacity,
                     char *value);
int ivg_setting_mode(const struct ivg_config_reader *reader, const config_setting_t *setting, mode_t *mode);
/* One of `words`, which end with NULL. */
int ivg_setting_word(const struct ivg_config_reader *reader, const config_setting_t *setting, const char *const *words,
                     uint32_t *index);

/* `keys` end with a NULL name. With `limits`, the keys of ivg_limit_keys are the group's as well. */
int ivg_setting_group(struct ivg_config_reader *reader, const config_setting_t *group,
                      const struct ivg_config_key *keys, void *into, struct ivg_limits *limits);
int ivg_setting_list(struct ivg_config_reader *reader, const config_setting_t *list,
                     int (*read)(struct ivg_config_reader *reader, const config_setting_t *setting, void *into));

#endif
