/* Reads ivgpud.conf. Each group has a table of its keys; a key that is not in it is refused, since a misspelt limit
 * that is silently ignored is no limit. */
#include "config.h"
#include <errno.h>
#include <libconfig.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOCAL_REGION_BYTES_MAX (16ull << 30) /* of the default */
#define REGION_MIB_MIN ((uint32_t)(IVG_REGION_BYTES_MIN >> 20))
#define REGION_MIB_MAX ((uint32_t)(IVG_REGION_BYTES_MAX >> 20))
/* More than any host keeps; each image is a descriptor too. */
#define IVG_IMAGES_MIB_MAX (1u << 20)
#define IVG_IMAGES_COUNT_MAX (1u << 16)

struct reader {
        const char *path;
        struct ivg_config *config;
        struct ivg_error *error;
        struct {
                char name[IVG_NAME_BYTES];
                uint32_t line;
        } vm_pools[IVG_VMS_MAX + 1]; /* looked up at the end: pools may follow; the last one is local's */
};
#define LOCAL_POOL IVG_VMS_MAX

static int refuse(const struct reader *reader, const config_setting_t *setting, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

static int refuse(const struct reader *reader, const config_setting_t *setting, const char *format, ...)
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

static int read_number(const struct reader *reader, const config_setting_t *setting, uint32_t min, uint32_t max,
                       uint32_t *value)
{
        long long number;

        if (config_setting_type(setting) != CONFIG_TYPE_INT && config_setting_type(setting) != CONFIG_TYPE_INT64)
                return refuse(reader, setting, "a number is expected");
        number = config_setting_get_int64(setting);
        if (number < (long long)min || number > (long long)max)
                return refuse(reader, setting, "%lld is outside %u..%u", number, min, max);
        *value = (uint32_t)number;
        return 0;
}

static int read_text(const struct reader *reader, const config_setting_t *setting, size_t capacity, char *value)
{
        const char *text;

        if (config_setting_type(setting) != CONFIG_TYPE_STRING)
                return refuse(reader, setting, "a string is expected");
        text = config_setting_get_string(setting);
        if (text[0] == '\0' || strlen(text) >= capacity)
                return refuse(reader, setting, "%zu bytes are outside 1..%zu", strlen(text), capacity - 1);
        strcpy(value, text);
        return 0;
}

static int read_mode(const struct reader *reader, const config_setting_t *setting, mode_t *mode)
{
        char text[8], *end;
        unsigned long value;
        int rc = read_text(reader, setting, sizeof(text), text);

        if (rc < 0)
                return rc;
        value = strtoul(text, &end, 8);
        if (*end != '\0' || value > 0777)
                return refuse(reader, setting, "\"%s\" is no mode such as \"0660\"", text);
        *mode = (mode_t)value;
        return 0;
}

static int read_word(const struct reader *reader, const config_setting_t *setting, const char *const *words,
                     uint32_t *index)
{
        char text[64], known[80] = "";
        int rc = read_text(reader, setting, sizeof(text), text);

        if (rc < 0)
                return rc;
        for (*index = 0; words[*index]; (*index)++)
                if (strcmp(words[*index], text) == 0)
                        return 0;
        for (const char *const *word = words; *word && strlen(known) + strlen(*word) + 5 < sizeof(known); word++)
                sprintf(known + strlen(known), "%s\"%s\"", word == words ? "" : ", ", *word);
        return refuse(reader, setting, "\"%s\" is none of %s", text, known);
}

static int read_region_mib(const struct reader *reader, const config_setting_t *setting, uint32_t *value)
{
        int rc = read_number(reader, setting, REGION_MIB_MIN, REGION_MIB_MAX, value);

        if (rc == 0 && (*value & (*value - 1)) != 0)
                return refuse(reader, setting, "%u is no power of two: QEMU could not make a BAR of it", *value);
        return rc;
}

static int read_gpus(const struct reader *reader, const config_setting_t *setting, struct ivg_pool_config *pool)
{
        if (!config_setting_is_array(setting) && !config_setting_is_list(setting))
                return refuse(reader, setting, "a list of GPU numbers is expected, such as [ 0, 1 ]");
        if (config_setting_length(setting) > (int)IVG_POOL_GPUS_MAX)
                return refuse(reader, setting, "%d GPUs, at most %u", config_setting_length(setting),
                              IVG_POOL_GPUS_MAX);
        pool->gpu_count = (uint32_t)config_setting_length(setting);
        for (uint32_t i = 0; i < pool->gpu_count; i++) {
                int rc = read_number(reader, config_setting_get_elem(setting, i), 0, 1023, &pool->gpus[i]);

                for (uint32_t j = 0; rc == 0 && j < i; j++)
                        if (pool->gpus[j] == pool->gpus[i])
                                rc = refuse(reader, setting, "GPU %u twice", pool->gpus[i]);
                if (rc < 0)
                        return rc;
        }
        return 0;
}

/* ---- groups ---- */

struct key {
        const char *name;
        bool required;
        int (*read)(struct reader *reader, const config_setting_t *setting, void *into);
};

static int read_group(struct reader *reader, const config_setting_t *group, const struct key *keys, void *into)
{
        if (!config_setting_is_group(group))
                return refuse(reader, group, "a group { ... } is expected");
        for (unsigned int i = 0; i < (unsigned int)config_setting_length(group); i++) {
                const config_setting_t *setting = config_setting_get_elem(group, i);
                const struct key *key = keys;
                int rc;

                while (key->name && strcmp(key->name, config_setting_name(setting)) != 0)
                        key++;
                if (!key->name)
                        return refuse(reader, setting, "unknown key");
                rc = key->read(reader, setting, into);
                if (rc < 0)
                        return rc;
        }
        for (const struct key *key = keys; key->name; key++)
                if (key->required && !config_setting_get_member(group, key->name))
                        return refuse(reader, group, "key \"%s\" is missing", key->name);
        return 0;
}

static int read_list(struct reader *reader, const config_setting_t *list,
                     int (*read)(struct reader *reader, const config_setting_t *setting, void *into))
{
        if (!config_setting_is_list(list))
                return refuse(reader, list, "a list ( ... ) is expected");
        for (unsigned int i = 0; i < (unsigned int)config_setting_length(list); i++) {
                int rc = read(reader, config_setting_get_elem(list, i), NULL);

                if (rc < 0)
                        return rc;
        }
        return 0;
}

/* A function for one key: `field` of the struct that `into` points to. */
#define KEY_READER(function, struct_type, expression)                                           \
        static int function(struct reader *reader, const config_setting_t *setting, void *into) \
        {                                                                                       \
                struct_type *to = into;                                                         \
                return expression;                                                              \
        }

/* mediator */
static const char *const device_words[] = {[IVG_DEVICE_CUDA] = "cuda", [IVG_DEVICE_SOFT] = "soft", NULL};

static int read_device(struct reader *reader, const config_setting_t *setting, void *into)
{
        uint32_t word;
        int rc = read_word(reader, setting, device_words, &word);

        if (rc == 0)
                ((struct ivg_config *)into)->device = (enum ivg_device_kind)word;
        return rc;
}
KEY_READER(read_driver, struct ivg_config, read_text(reader, setting, sizeof(to->driver), to->driver))
KEY_READER(read_executor, struct ivg_config, read_text(reader, setting, sizeof(to->executor), to->executor))
KEY_READER(read_heartbeat, struct ivg_config, read_number(reader, setting, 0, 86400, &to->heartbeat_log_s))
KEY_READER(read_ready_timeout, struct ivg_config, read_number(reader, setting, 100, 600000, &to->ready_timeout_ms))
KEY_READER(read_warm, struct ivg_config, read_number(reader, setting, 0, IVG_WARM_EXECUTORS_MAX, &to->warm_executors))

static const struct key mediator_keys[] = {
        {"device", false, read_device},
        {"driver", false, read_driver},
        {"executor", false, read_executor},
        {"heartbeat_log_s", false, read_heartbeat},
        {"ready_timeout_ms", false, read_ready_timeout},
        {"warm_executors", false, read_warm},
        {NULL, false, NULL},
};

/* pools */
KEY_READER(read_pool_name, struct ivg_pool_config, read_text(reader, setting, sizeof(to->name), to->name))
KEY_READER(read_pool_gpus, struct ivg_pool_config, read_gpus(reader, setting, to))
KEY_READER(read_pool_warm, struct ivg_pool_config,
           read_number(reader, setting, 0, IVG_WARM_EXECUTORS_MAX, &to->warm_executors))

static int read_pool_policy(struct reader *reader, const config_setting_t *setting, void *into)
{
        static const char *const words[] = {"fair", NULL};
        uint32_t word;

        (void)into;
        return read_word(reader, setting, words, &word);
}

static const struct key pool_keys[] = {{"name", true, read_pool_name},
                                       {"gpus", false, read_pool_gpus},
                                       {"policy", false, read_pool_policy},
                                       {"warm_executors", false, read_pool_warm},
                                       {NULL, false, NULL}};

static int read_pool(struct reader *reader, const config_setting_t *group, void *into)
{
        struct ivg_config *config = reader->config;
        struct ivg_pool_config *pool = &config->pools[config->pool_count];
        int rc;

        (void)into;
        if (config->pool_count == IVG_POOLS_MAX)
                return refuse(reader, group, "more than %u pools", IVG_POOLS_MAX);
        pool->warm_executors = IVG_WARM_UNSET;
        rc = read_group(reader, group, pool_keys, pool);
        if (rc < 0)
                return rc;
        for (uint32_t i = 0; i < config->pool_count; i++)
                if (strcmp(config->pools[i].name, pool->name) == 0)
                        return refuse(reader, group, "pool \"%s\" twice", pool->name);
        config->pool_count++;
        return 0;
}

/* vms */
static int read_pool_reference(struct reader *reader, const config_setting_t *setting, uint32_t user)
{
        reader->vm_pools[user].line = config_setting_source_line(setting);
        return read_text(reader, setting, sizeof(reader->vm_pools[user].name), reader->vm_pools[user].name);
}

static int read_vm_priority(struct reader *reader, const config_setting_t *setting, void *into)
{
        static const char *const words[] = {
                [IVG_PRIORITY_LOW] = "low", [IVG_PRIORITY_MEDIUM] = "medium", [IVG_PRIORITY_HIGH] = "high", NULL};
        uint32_t word;
        int rc = read_word(reader, setting, words, &word);

        if (rc == 0)
                ((struct ivg_vm_config *)into)->priority = (enum ivg_priority)word;
        return rc;
}
KEY_READER(read_vm_id, struct ivg_vm_config, read_number(reader, setting, 0, UINT32_MAX, &to->vm_id))
KEY_READER(read_vm_name, struct ivg_vm_config, read_text(reader, setting, sizeof(to->name), to->name))
KEY_READER(read_vm_pool, struct ivg_vm_config,
           read_pool_reference(reader, setting, (uint32_t)(to - reader->config->vms)))
KEY_READER(read_vm_weight, struct ivg_vm_config, read_number(reader, setting, 1, 100, &to->weight))
KEY_READER(read_vm_socket, struct ivg_vm_config, read_text(reader, setting, sizeof(to->socket), to->socket))
KEY_READER(read_vm_socket_mode, struct ivg_vm_config, read_mode(reader, setting, &to->socket_mode))
KEY_READER(read_vm_region, struct ivg_vm_config, read_region_mib(reader, setting, &to->region_mib))
KEY_READER(read_vm_channels, struct ivg_vm_config, read_number(reader, setting, 1, IVG_CHANNELS_MAX, &to->channels))
KEY_READER(read_vm_vectors, struct ivg_vm_config, read_number(reader, setting, 2, IVG_VECTORS_MAX, &to->vectors))

static const struct key vm_keys[] = {
        {"vm_id", true, read_vm_id},
        {"name", true, read_vm_name},
        {"pool", true, read_vm_pool},
        {"priority", false, read_vm_priority},
        {"weight", false, read_vm_weight},
        {"socket", true, read_vm_socket},
        {"socket_mode", false, read_vm_socket_mode},
        {"region_mib", false, read_vm_region},
        {"channels", false, read_vm_channels},
        {"vectors", false, read_vm_vectors},
        {NULL, false, NULL},
};

static int read_vm(struct reader *reader, const config_setting_t *group, void *into)
{
        struct ivg_config *config = reader->config;
        struct ivg_vm_config *vm = &config->vms[config->vm_count];
        int rc;

        (void)into;
        if (config->vm_count == IVG_VMS_MAX)
                return refuse(reader, group, "more than %u VMs", IVG_VMS_MAX);
        *vm = (struct ivg_vm_config){.priority = IVG_PRIORITY_MEDIUM,
                                     .weight = 10,
                                     .socket_mode = 0660,
                                     .region_mib = (uint32_t)(IVG_REGION_BYTES_DEFAULT >> 20),
                                     .channels = 15,
                                     .vectors = 16};
        rc = read_group(reader, group, vm_keys, vm);
        if (rc < 0)
                return rc;
        if (vm->channels >= vm->vectors)
                return refuse(reader, group, "channels = %u, vectors = %u: each channel needs a vector beside vector 0",
                              vm->channels, vm->vectors);
        for (uint32_t i = 0; i < config->vm_count; i++) {
                if (config->vms[i].vm_id == vm->vm_id)
                        return refuse(reader, group, "vm_id %u twice", vm->vm_id);
                if (strcmp(config->vms[i].socket, vm->socket) == 0)
                        return refuse(reader, group, "socket \"%s\" twice", vm->socket);
        }
        config->vm_count++;
        return 0;
}

/* local */
KEY_READER(read_local_socket, struct ivg_local_config, read_text(reader, setting, sizeof(to->socket), to->socket))
KEY_READER(read_local_mode, struct ivg_local_config, read_mode(reader, setting, &to->socket_mode))
KEY_READER(read_local_region, struct ivg_local_config, read_region_mib(reader, setting, &to->region_mib))

static int read_local_pool(struct reader *reader, const config_setting_t *setting, void *into)
{
        (void)into;
        return read_pool_reference(reader, setting, LOCAL_POOL);
}

static const struct key local_keys[] = {
        {"socket", true, read_local_socket},
        {"socket_mode", false, read_local_mode},
        {"region_mib", false, read_local_region},
        {"pool", false, read_local_pool},
        {NULL, false, NULL},
};

/* images */
static int read_images_share(struct reader *reader, const config_setting_t *setting, void *into)
{
        static const char *const words[] = {
                [IVG_IMAGES_OFF] = "off", [IVG_IMAGES_VM] = "vm", [IVG_IMAGES_HOST] = "host", NULL};
        uint32_t word;
        int rc = read_word(reader, setting, words, &word);

        if (rc == 0)
                ((struct ivg_images_config *)into)->share = (enum ivg_image_sharing)word;
        return rc;
}
KEY_READER(read_images_mib, struct ivg_images_config, read_number(reader, setting, 1, IVG_IMAGES_MIB_MAX, &to->mib))
KEY_READER(read_images_vm_mib, struct ivg_images_config,
           read_number(reader, setting, 1, IVG_IMAGES_MIB_MAX, &to->vm_mib))
KEY_READER(read_images_count, struct ivg_images_config,
           read_number(reader, setting, 1, IVG_IMAGES_COUNT_MAX, &to->count))

static const struct key images_keys[] = {
        {"share", false, read_images_share},
        {"mib", false, read_images_mib},
        {"vm_mib", false, read_images_vm_mib},
        {"count", false, read_images_count},
        {NULL, false, NULL},
};

/* ---- the file ---- */

static int read_root(struct reader *reader, const config_setting_t *root)
{
        for (unsigned int i = 0; i < (unsigned int)config_setting_length(root); i++) {
                const config_setting_t *setting = config_setting_get_elem(root, i);
                const char *name = config_setting_name(setting);
                int rc;

                if (strcmp(name, "mediator") == 0)
                        rc = read_group(reader, setting, mediator_keys, reader->config);
                else if (strcmp(name, "pools") == 0)
                        rc = read_list(reader, setting, read_pool);
                else if (strcmp(name, "vms") == 0)
                        rc = read_list(reader, setting, read_vm);
                else if (strcmp(name, "local") == 0)
                        rc = read_group(reader, setting, local_keys, &reader->config->local);
                else if (strcmp(name, "images") == 0)
                        rc = read_group(reader, setting, images_keys, &reader->config->images);
                else
                        rc = refuse(reader, setting, "unknown key");
                if (rc < 0)
                        return rc;
        }
        return 0;
}

static int resolve_pool(const struct reader *reader, uint32_t user, uint32_t *pool)
{
        const char *name = reader->vm_pools[user].name;

        if (name[0] == '\0') /* local without one: the first */
                return 0;
        for (*pool = 0; *pool < reader->config->pool_count; (*pool)++)
                if (strcmp(reader->config->pools[*pool].name, name) == 0)
                        return 0;
        ivg_error_set(reader->error, "%s:%u: pool: error %d (%s): there is no pool \"%s\"", reader->path,
                      reader->vm_pools[user].line, IVG_ERROR_INVALID_POOL, ivg_error_code_name(IVG_ERROR_INVALID_POOL),
                      name);
        return -EINVAL;
}

static int read_file(struct reader *reader, config_t *file)
{
        int rc;

        if (!config_read_file(file, reader->path)) {
                if (config_error_type(file) == CONFIG_ERR_FILE_IO) {
                        rc = errno != 0 ? -errno : -EIO;
                        ivg_error_set(reader->error, "%s: %s", reader->path, strerror(-rc));
                        return rc;
                }
                ivg_error_set(reader->error, "%s:%d: %s", reader->path, config_error_line(file),
                              config_error_text(file));
                return -EINVAL;
        }
        rc = read_root(reader, config_root_setting(file));
        for (uint32_t i = 0; rc == 0 && i < reader->config->vm_count; i++)
                rc = resolve_pool(reader, i, &reader->config->vms[i].pool);
        if (rc == 0)
                rc = resolve_pool(reader, LOCAL_POOL, &reader->config->local.pool);
        return rc;
}

/* A quarter of this machine's memory, in a power of two: a local program may pin as much. Sparse, so that what it does
 * not use costs nothing. A VM's has a fixed default instead: it is a BAR, and its memory counts as the VM's. */
static uint32_t local_region_mib(void)
{
        const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
        const uint64_t quarter = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes / 4 : 0;
        uint64_t bytes = IVG_REGION_BYTES_DEFAULT;

        while (bytes * 2 <= quarter && bytes * 2 <= LOCAL_REGION_BYTES_MAX)
                bytes *= 2;
        return (uint32_t)(bytes >> 20);
}

void ivg_config_init(struct ivg_config *config)
{
        memset(config, 0, sizeof(*config));
        config->device = IVG_DEVICE_CUDA;
        config->heartbeat_log_s = 30;
        config->ready_timeout_ms = 30000;
        config->warm_executors = IVG_WARM_UNSET;
        config->local.socket_mode = 0660;
        config->local.region_mib = local_region_mib();
        config->images = (struct ivg_images_config){.share = IVG_IMAGES_HOST, .mib = 1024, .count = 1024};
}

int ivg_config_read(struct ivg_config *config, const char *path, struct ivg_error *error)
{
        struct reader *reader = calloc(1, sizeof(*reader));
        config_t file;
        int rc;

        if (!reader) {
                ivg_error_set(error, "%s: no memory", path);
                return -ENOMEM;
        }
        *reader = (struct reader){.path = path, .config = config, .error = error};
        config_init(&file);
        rc = read_file(reader, &file);
        config_destroy(&file);
        free(reader);
        return rc;
}

int ivg_config_finish(struct ivg_config *config, struct ivg_error *error)
{
        if (config->pool_count == 0) {
                strcpy(config->pools[0].name, "A");
                config->pools[0].warm_executors = IVG_WARM_UNSET;
                config->pool_count = 1;
        }
        if (config->warm_executors == IVG_WARM_UNSET)
                config->warm_executors = config->device == IVG_DEVICE_CUDA ? 1 : 0;
        for (uint32_t i = 0; i < config->pool_count; i++)
                if (config->pools[i].warm_executors == IVG_WARM_UNSET)
                        config->pools[i].warm_executors = config->warm_executors;
        if (config->vm_count == 0 && config->local.socket[0] == '\0') {
                ivg_error_set(error, "nothing to serve: neither a VM nor a local socket is configured");
                return -EINVAL;
        }
        if (config->images.vm_mib == 0)
                config->images.vm_mib = (config->images.mib + 1) / 2;
        if (config->images.vm_mib > config->images.mib) {
                ivg_error_set(error, "images: vm_mib = %u is more than mib = %u, which holds for all VMs together",
                              config->images.vm_mib, config->images.mib);
                return -EINVAL;
        }
        for (uint32_t i = 0; i < config->vm_count; i++)
                if (strcmp(config->vms[i].socket, config->local.socket) == 0) {
                        ivg_error_set(error, "socket \"%s\" is both the local one and that of VM %u",
                                      config->local.socket, config->vms[i].vm_id);
                        return -EINVAL;
                }
        return 0;
}
