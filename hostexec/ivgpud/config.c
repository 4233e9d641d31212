/* The keys of ivgpud.conf, a table for each group. */
#include "config_reader.h"
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOCAL_REGION_BYTES_MAX (16ull << 30) /* of the default */
#define REGION_MIB_MIN ((uint32_t)(IVG_REGION_BYTES_MIN >> 20))
#define REGION_MIB_MAX ((uint32_t)(IVG_REGION_BYTES_MAX >> 20))
/* More than any host keeps; each image is a descriptor too. */
#define IVG_IMAGES_MIB_MAX (1u << 20)
#define IVG_IMAGES_COUNT_MAX (1u << 16)

/* ---- keys of each group ---- */

static int read_region_mib(const struct ivg_config_reader *reader, const config_setting_t *setting, uint32_t *value)
{
        int rc = ivg_setting_number(reader, setting, REGION_MIB_MIN, REGION_MIB_MAX, value);

        if (rc == 0 && (*value & (*value - 1)) != 0)
                return ivg_setting_refuse(reader, setting, "%u is no power of two: QEMU could not make a BAR of it",
                                          *value);
        return rc;
}

static int read_gpus(const struct ivg_config_reader *reader, const config_setting_t *setting,
                     struct ivg_pool_config *pool)
{
        if (!config_setting_is_array(setting) && !config_setting_is_list(setting))
                return ivg_setting_refuse(reader, setting, "a list of GPU numbers is expected, such as [ 0, 1 ]");
        if (config_setting_length(setting) > (int)IVG_POOL_GPUS_MAX)
                return ivg_setting_refuse(reader, setting, "%d GPUs, at most %u", config_setting_length(setting),
                                          IVG_POOL_GPUS_MAX);
        pool->gpu_count = (uint32_t)config_setting_length(setting);
        for (uint32_t i = 0; i < pool->gpu_count; i++) {
                int rc = ivg_setting_number(reader, config_setting_get_elem(setting, i), 0, 1023, &pool->gpus[i]);

                for (uint32_t j = 0; rc == 0 && j < i; j++)
                        if (pool->gpus[j] == pool->gpus[i])
                                rc = ivg_setting_refuse(reader, setting, "GPU %u twice", pool->gpus[i]);
                if (rc < 0)
                        return rc;
        }
        return 0;
}

/* A function for one key: `field` of the struct that `into` points to. */
#define KEY_READER(function, struct_type, expression)                                                      \
        static int function(struct ivg_config_reader *reader, const config_setting_t *setting, void *into) \
        {                                                                                                  \
                struct_type *to = into;                                                                    \
                return expression;                                                                         \
        }

/* mediator */
static const char *const device_words[] = {[IVG_DEVICE_CUDA] = "cuda", [IVG_DEVICE_SOFT] = "soft", NULL};

static int read_device(struct ivg_config_reader *reader, const config_setting_t *setting, void *into)
{
        uint32_t word;
        int rc = ivg_setting_word(reader, setting, device_words, &word);

        if (rc == 0)
                ((struct ivg_config *)into)->device = (enum ivg_device_kind)word;
        return rc;
}
KEY_READER(read_driver, struct ivg_config, ivg_setting_text(reader, setting, sizeof(to->driver), to->driver))
KEY_READER(read_executor, struct ivg_config, ivg_setting_text(reader, setting, sizeof(to->executor), to->executor))
KEY_READER(read_mps_program, struct ivg_config,
           ivg_setting_text(reader, setting, sizeof(to->mps_program), to->mps_program))
KEY_READER(read_mps_dir, struct ivg_config, ivg_setting_text(reader, setting, sizeof(to->mps_dir), to->mps_dir))
KEY_READER(read_heartbeat, struct ivg_config, ivg_setting_number(reader, setting, 0, 86400, &to->heartbeat_log_s))
KEY_READER(read_ready_timeout, struct ivg_config,
           ivg_setting_number(reader, setting, 100, 600000, &to->ready_timeout_ms))
KEY_READER(read_silent_timeout, struct ivg_config,
           ivg_setting_number(reader, setting, 0, 600000, &to->silent_timeout_ms))
KEY_READER(read_warm, struct ivg_config,
           ivg_setting_number(reader, setting, 0, IVG_WARM_EXECUTORS_MAX, &to->warm_executors))

static const struct ivg_config_key mediator_keys[] = {
        {"device", false, read_device},
        {"driver", false, read_driver},
        {"executor", false, read_executor},
        {"heartbeat_log_s", false, read_heartbeat},
        {"mps_dir", false, read_mps_dir},
        {"mps_program", false, read_mps_program},
        {"ready_timeout_ms", false, read_ready_timeout},
        {"silent_timeout_ms", false, read_silent_timeout},
        {"warm_executors", false, read_warm},
        {NULL, false, NULL},
};

/* pools */
KEY_READER(read_pool_name, struct ivg_pool_config, ivg_setting_text(reader, setting, sizeof(to->name), to->name))
KEY_READER(read_pool_gpus, struct ivg_pool_config, read_gpus(reader, setting, to))
KEY_READER(read_pool_warm, struct ivg_pool_config,
           ivg_setting_number(reader, setting, 0, IVG_WARM_EXECUTORS_MAX, &to->warm_executors))

const char *const ivg_policy_words[] = {
        [IVG_POLICY_AUTO] = "auto", [IVG_POLICY_TURNS] = "turns", [IVG_POLICY_FAIR] = "fair", NULL};
KEY_READER(read_pool_policy, struct ivg_pool_config, ivg_setting_word(reader, setting, ivg_policy_words, &to->policy))

static int read_pool_mps(struct ivg_config_reader *reader, const config_setting_t *setting, void *into)
{
        static const char *const words[] = {
                [IVG_MPS_MODE_OFF] = "off", [IVG_MPS_MODE_ON] = "on", [IVG_MPS_MODE_AUTO] = "auto", NULL};
        uint32_t word;
        int rc = 0;

        if (config_setting_type(setting) == CONFIG_TYPE_BOOL)
                word = config_setting_get_bool(setting) ? IVG_MPS_MODE_ON : IVG_MPS_MODE_OFF;
        else
                rc = ivg_setting_word(reader, setting, words, &word);
        if (rc == 0)
                ((struct ivg_pool_config *)into)->mps = (enum ivg_mps_mode)word;
        return rc;
}

static const struct ivg_config_key pool_keys[] = {
        {"name", true, read_pool_name}, {"gpus", false, read_pool_gpus},           {"policy", false, read_pool_policy},
        {"mps", false, read_pool_mps},  {"warm_executors", false, read_pool_warm}, {NULL, false, NULL},
};

static int read_pool(struct ivg_config_reader *reader, const config_setting_t *group, void *into)
{
        struct ivg_config *config = reader->config;
        struct ivg_pool_config *pool = &config->pools[config->pool_count];
        int rc;

        (void)into;
        if (config->pool_count == IVG_POOLS_MAX)
                return ivg_setting_refuse(reader, group, "more than %u pools", IVG_POOLS_MAX);
        pool->warm_executors = IVG_WARM_UNSET;
        rc = ivg_setting_group(reader, group, pool_keys, pool, NULL);
        if (rc < 0)
                return rc;
        for (uint32_t i = 0; i < config->pool_count; i++)
                if (strcmp(config->pools[i].name, pool->name) == 0)
                        return ivg_setting_refuse(reader, group, "pool \"%s\" twice", pool->name);
        config->pool_count++;
        return 0;
}

/* vms */
static int read_pool_reference(struct ivg_config_reader *reader, const config_setting_t *setting,
                               struct ivg_pool_reference *reference)
{
        reference->line = config_setting_source_line(setting);
        return ivg_setting_text(reader, setting, sizeof(reference->name), reference->name);
}

KEY_READER(read_vm_id, struct ivg_vm_config, ivg_setting_number(reader, setting, 0, UINT32_MAX, &to->vm_id))
KEY_READER(read_vm_name, struct ivg_vm_config, ivg_setting_text(reader, setting, sizeof(to->name), to->name))
KEY_READER(read_vm_pool, struct ivg_vm_config,
           read_pool_reference(reader, setting,
                               to == &reader->defaults ? &reader->default_pool
                                                       : &reader->vm_pools[to - reader->config->vms]))
KEY_READER(read_vm_socket, struct ivg_vm_config, ivg_setting_text(reader, setting, sizeof(to->socket), to->socket))
KEY_READER(read_vm_local_socket, struct ivg_vm_config,
           ivg_setting_text(reader, setting, sizeof(to->local_socket), to->local_socket))
KEY_READER(read_vm_socket_mode, struct ivg_vm_config, ivg_setting_mode(reader, setting, &to->socket_mode))
KEY_READER(read_vm_region, struct ivg_vm_config, read_region_mib(reader, setting, &to->region_mib))
KEY_READER(read_vm_channels, struct ivg_vm_config,
           ivg_setting_number(reader, setting, 1, IVG_CHANNELS_MAX, &to->channels))
KEY_READER(read_vm_vectors, struct ivg_vm_config, ivg_setting_number(reader, setting, 2, IVG_VECTORS_MAX, &to->vectors))

static const struct ivg_config_key vm_keys[] = {
        {"vm_id", true, read_vm_id},
        {"name", true, read_vm_name},
        {"pool", false, read_vm_pool},
        {"socket", false, read_vm_socket},
        {"local_socket", false, read_vm_local_socket},
        {"socket_mode", false, read_vm_socket_mode},
        {"region_mib", false, read_vm_region},
        {"channels", false, read_vm_channels},
        {"vectors", false, read_vm_vectors},
        {NULL, false, NULL},
};
/* What VMs have that say nothing of their own. */
static const struct ivg_config_key default_keys[] = {
        {"pool", false, read_vm_pool},         {"socket_mode", false, read_vm_socket_mode},
        {"region_mib", false, read_vm_region}, {"channels", false, read_vm_channels},
        {"vectors", false, read_vm_vectors},   {NULL, false, NULL},
};

/* A path that both would listen on; of one VM, with itself: twice. NULL: none. */
static const char *socket_of_both(const struct ivg_vm_config *a, const struct ivg_vm_config *b)
{
        const char *const of_a[] = {a->socket, a->local_socket}, *const of_b[] = {b->socket, b->local_socket};

        for (size_t i = 0; i < 2; i++)
                for (size_t j = 0; j < 2; j++)
                        if (of_a[i][0] != '\0' && strcmp(of_a[i], of_b[j]) == 0 && (a != b || i != j))
                                return of_a[i];
        return NULL;
}

static int read_vm(struct ivg_config_reader *reader, const config_setting_t *group, void *into)
{
        struct ivg_config *config = reader->config;
        struct ivg_vm_config *vm = &config->vms[config->vm_count];
        int rc;

        (void)into;
        if (config->vm_count == IVG_VMS_MAX)
                return ivg_setting_refuse(reader, group, "more than %u VMs", IVG_VMS_MAX);
        *vm = reader->defaults;
        reader->vm_pools[config->vm_count] = reader->default_pool;
        rc = ivg_setting_group(reader, group, vm_keys, vm, &vm->limits);
        if (rc < 0)
                return rc;
        if (reader->vm_pools[config->vm_count].name[0] == '\0')
                return ivg_setting_refuse(reader, group, "key \"pool\" is missing, here and in \"defaults\"");
        if (vm->socket[0] == '\0' && vm->local_socket[0] == '\0')
                return ivg_setting_refuse(reader, group, "neither \"socket\" (QEMU's) nor \"local_socket\" is there");
        for (uint32_t i = 0; i < config->vm_count; i++)
                if (config->vms[i].vm_id == vm->vm_id)
                        return ivg_setting_refuse(reader, group, "vm_id %u twice", vm->vm_id);
        for (uint32_t i = 0; i <= config->vm_count; i++) {
                const char *twice = socket_of_both(vm, &config->vms[i]);

                if (twice)
                        return ivg_setting_refuse(reader, group, "socket \"%s\" twice", twice);
        }
        config->vm_count++;
        return 0;
}

/* local */
KEY_READER(read_local_socket, struct ivg_local_config,
           ivg_setting_text(reader, setting, sizeof(to->socket), to->socket))
KEY_READER(read_local_mode, struct ivg_local_config, ivg_setting_mode(reader, setting, &to->socket_mode))
KEY_READER(read_local_region, struct ivg_local_config, read_region_mib(reader, setting, &to->region_mib))

static int read_local_pool(struct ivg_config_reader *reader, const config_setting_t *setting, void *into)
{
        (void)into;
        return read_pool_reference(reader, setting, &reader->local_pool);
}

static const struct ivg_config_key local_keys[] = {
        {"socket", true, read_local_socket},
        {"socket_mode", false, read_local_mode},
        {"region_mib", false, read_local_region},
        {"pool", false, read_local_pool},
        {NULL, false, NULL},
};

/* images */
static int read_images_share(struct ivg_config_reader *reader, const config_setting_t *setting, void *into)
{
        static const char *const words[] = {
                [IVG_IMAGES_OFF] = "off", [IVG_IMAGES_VM] = "vm", [IVG_IMAGES_HOST] = "host", NULL};
        uint32_t word;
        int rc = ivg_setting_word(reader, setting, words, &word);

        if (rc == 0)
                ((struct ivg_images_config *)into)->share = (enum ivg_image_sharing)word;
        return rc;
}
KEY_READER(read_images_mib, struct ivg_images_config,
           ivg_setting_number(reader, setting, 1, IVG_IMAGES_MIB_MAX, &to->mib))
KEY_READER(read_images_vm_mib, struct ivg_images_config,
           ivg_setting_number(reader, setting, 1, IVG_IMAGES_MIB_MAX, &to->vm_mib))
KEY_READER(read_images_count, struct ivg_images_config,
           ivg_setting_number(reader, setting, 1, IVG_IMAGES_COUNT_MAX, &to->count))

static const struct ivg_config_key images_keys[] = {
        {"share", false, read_images_share},
        {"mib", false, read_images_mib},
        {"vm_mib", false, read_images_vm_mib},
        {"count", false, read_images_count},
        {NULL, false, NULL},
};

/* control */
KEY_READER(read_control_socket, struct ivg_control_config,
           ivg_setting_text(reader, setting, sizeof(to->socket), to->socket))
KEY_READER(read_control_mode, struct ivg_control_config, ivg_setting_mode(reader, setting, &to->socket_mode))

/* A name that the system knows, or a number. */
static int read_owner(const struct ivg_config_reader *reader, const config_setting_t *setting, bool group, uint32_t *id)
{
        char name[IVG_NAME_BYTES];
        const struct passwd *user;
        const struct group *members;
        int rc;

        if (config_setting_is_number(setting))
                return ivg_setting_number(reader, setting, 0, UINT32_MAX - 1, id);
        rc = ivg_setting_text(reader, setting, sizeof(name), name);
        if (rc < 0)
                return rc;
        user = group ? NULL : getpwnam(name);
        members = group ? getgrnam(name) : NULL;
        if (!user && !members)
                return ivg_setting_refuse(reader, setting, "this system knows no %s \"%s\"", group ? "group" : "user",
                                          name);
        *id = user ? user->pw_uid : members->gr_gid;
        return 0;
}
KEY_READER(read_control_user, struct ivg_control_config, read_owner(reader, setting, false, &to->user))
KEY_READER(read_control_group, struct ivg_control_config, read_owner(reader, setting, true, &to->group))

static const struct ivg_config_key control_keys[] = {
        {"socket", true, read_control_socket},
        {"socket_mode", false, read_control_mode},
        {"user", false, read_control_user},
        {"group", false, read_control_group},
        {NULL, false, NULL},
};

/* metrics */
static int read_metrics_address(struct ivg_config_reader *reader, const config_setting_t *setting, void *into)
{
        struct ivg_metrics_config *metrics = into;
        unsigned char bytes[sizeof(struct in6_addr)];
        int rc = ivg_setting_text(reader, setting, sizeof(metrics->address), metrics->address);

        if (rc == 0 && inet_pton(AF_INET, metrics->address, bytes) != 1 &&
            inet_pton(AF_INET6, metrics->address, bytes) != 1)
                rc = ivg_setting_refuse(reader, setting, "\"%s\" is no address such as \"127.0.0.1\"",
                                        metrics->address);
        return rc;
}
KEY_READER(read_metrics_port, struct ivg_metrics_config, ivg_setting_number(reader, setting, 1, 65535, &to->port))
KEY_READER(read_metrics_socket, struct ivg_metrics_config,
           ivg_setting_text(reader, setting, sizeof(to->socket), to->socket))
KEY_READER(read_metrics_mode, struct ivg_metrics_config, ivg_setting_mode(reader, setting, &to->socket_mode))

static const struct ivg_config_key metrics_keys[] = {
        {"address", false, read_metrics_address},
        {"port", false, read_metrics_port},
        {"socket", false, read_metrics_socket},
        {"socket_mode", false, read_metrics_mode},
        {NULL, false, NULL},
};

static int read_metrics(struct ivg_config_reader *reader, const config_setting_t *group)
{
        struct ivg_metrics_config *metrics = &reader->config->metrics;
        int rc = ivg_setting_group(reader, group, metrics_keys, metrics, NULL);

        if (rc == 0 && (metrics->port == 0) == (metrics->socket[0] == '\0'))
                rc = ivg_setting_refuse(reader, group, "either \"port\" or \"socket\" is expected");
        return rc;
}

/* ---- the file ---- */

/* The groups that others depend on come first, wherever they stand in the file. */
static int read_defaults(struct ivg_config_reader *reader, const config_setting_t *root)
{
        const config_setting_t *group = config_setting_get_member(root, "defaults");
        struct ivg_vm_config *defaults = &reader->defaults;
        int rc = 0;

        *defaults = (struct ivg_vm_config){.socket_mode = 0660,
                                           .region_mib = (uint32_t)(IVG_REGION_BYTES_DEFAULT >> 20),
                                           .channels = 15,
                                           .vectors = 16};
        ivg_limits_init(&defaults->limits);
        if (group)
                rc = ivg_setting_group(reader, group, default_keys, defaults, &defaults->limits);
        if (rc == 0 && group)
                rc = ivg_setting_group(reader, group, default_keys, defaults, &reader->config->local.limits);
        return rc;
}

static int read_root(struct ivg_config_reader *reader, const config_setting_t *root)
{
        struct ivg_config *config = reader->config;
        int rc = read_defaults(reader, root);

        for (unsigned int i = 0; rc == 0 && i < (unsigned int)config_setting_length(root); i++) {
                const config_setting_t *setting = config_setting_get_elem(root, i);
                const char *name = config_setting_name(setting);

                if (strcmp(name, "defaults") == 0)
                        continue;
                if (strcmp(name, "mediator") == 0)
                        rc = ivg_setting_group(reader, setting, mediator_keys, config, NULL);
                else if (strcmp(name, "pools") == 0)
                        rc = ivg_setting_list(reader, setting, read_pool);
                else if (strcmp(name, "vms") == 0)
                        rc = ivg_setting_list(reader, setting, read_vm);
                else if (strcmp(name, "local") == 0)
                        rc = ivg_setting_group(reader, setting, local_keys, &config->local, &config->local.limits);
                else if (strcmp(name, "images") == 0)
                        rc = ivg_setting_group(reader, setting, images_keys, &config->images, NULL);
                else if (strcmp(name, "control") == 0)
                        rc = ivg_setting_group(reader, setting, control_keys, &config->control, NULL);
                else if (strcmp(name, "metrics") == 0)
                        rc = read_metrics(reader, setting);
                else
                        rc = ivg_setting_refuse(reader, setting, "unknown key");
        }
        return rc;
}

static int resolve_pool(const struct ivg_config_reader *reader, const struct ivg_pool_reference *reference,
                        uint32_t *pool)
{
        if (reference->name[0] == '\0') /* local without one: the first */
                return 0;
        for (*pool = 0; *pool < reader->config->pool_count; (*pool)++)
                if (strcmp(reader->config->pools[*pool].name, reference->name) == 0)
                        return 0;
        ivg_error_set(reader->error, "%s:%u: pool: error %d (%s): there is no pool \"%s\"", reader->path,
                      reference->line, IVG_ERROR_INVALID_POOL, ivg_error_code_name(IVG_ERROR_INVALID_POOL),
                      reference->name);
        return -EINVAL;
}

static int read_file(struct ivg_config_reader *reader, config_t *file)
{
        uint32_t pool;
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
                rc = resolve_pool(reader, &reader->vm_pools[i], &reader->config->vms[i].pool);
        if (rc == 0)
                rc = resolve_pool(reader, &reader->local_pool, &reader->config->local.pool);
        if (rc == 0) /* also when nobody uses it */
                rc = resolve_pool(reader, &reader->default_pool, &pool);
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
        config->silent_timeout_ms = 10000;
        strcpy(config->mps_dir, "/run/ivgpu/mps");
        config->warm_executors = IVG_WARM_UNSET;
        config->local.socket_mode = 0660;
        config->local.region_mib = local_region_mib();
        ivg_limits_init(&config->local.limits);
        config->local.limits.faults_max = 0; /* a program that fails is its user's business, not its neighbours' */
        config->control = (struct ivg_control_config){.socket_mode = 0660, .user = (uid_t)-1, .group = (gid_t)-1};
        config->metrics = (struct ivg_metrics_config){.address = "127.0.0.1", .socket_mode = 0660};
        config->images = (struct ivg_images_config){.share = IVG_IMAGES_HOST, .mib = 1024, .count = 1024};
}

int ivg_config_read(struct ivg_config *config, const char *path, struct ivg_error *error)
{
        struct ivg_config_reader *reader = calloc(1, sizeof(*reader));
        config_t file;
        int rc;

        if (!reader) {
                ivg_error_set(error, "%s: no memory", path);
                return -ENOMEM;
        }
        *reader = (struct ivg_config_reader){.path = path, .config = config, .error = error};
        config_init(&file);
        rc = read_file(reader, &file);
        config_destroy(&file);
        free(reader);
        return rc;
}

/* Those of VMs are known to differ from each other. */
static int sockets_check(const struct ivg_config *config, struct ivg_error *error)
{
        const struct {
                const char *what, *path;
        } others[] = {{"the local one", config->local.socket},
                      {"that of ivgpuctl", config->control.socket},
                      {"that of metrics", config->metrics.socket}};
        const size_t count = sizeof(others) / sizeof(others[0]);

        for (size_t i = 0; i < count; i++) {
                if (others[i].path[0] == '\0')
                        continue;
                for (size_t j = i + 1; j < count; j++)
                        if (strcmp(others[i].path, others[j].path) == 0) {
                                ivg_error_set(error, "socket \"%s\" is both %s and %s", others[i].path, others[i].what,
                                              others[j].what);
                                return -EINVAL;
                        }
                for (uint32_t j = 0; j < config->vm_count; j++)
                        if (strcmp(config->vms[j].socket, others[i].path) == 0 ||
                            strcmp(config->vms[j].local_socket, others[i].path) == 0) {
                                ivg_error_set(error, "socket \"%s\" is both %s and that of VM %u", others[i].path,
                                              others[i].what, config->vms[j].vm_id);
                                return -EINVAL;
                        }
        }
        return 0;
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
        return sockets_check(config, error);
}
