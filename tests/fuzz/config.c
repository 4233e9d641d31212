/* Any text as ivgpud.conf: read or refused with words; what is accepted is within its bounds. */
#include "config.h"
#include "fuzz.h"
#include <sys/mman.h>
#include <unistd.h>

static void check_limits(const struct ivg_limits *limits)
{
        for (const struct ivg_limit *limit = ivg_limit_table; limit->name; limit++) {
                const uint32_t value = ivg_limit_get(limits, limit);

                MUST(value >= limit->min && value <= limit->max, "%s %u", limit->name, value);
        }
}

static void check(const struct ivg_config *config)
{
        check_limits(&config->local.limits);
        MUST(config->pool_count >= 1 && config->pool_count <= IVG_POOLS_MAX, "%u pools", config->pool_count);
        MUST(config->vm_count <= IVG_VMS_MAX, "%u machines", config->vm_count);
        MUST(config->local.socket[0] == '\0' || config->local.pool < config->pool_count, "local pool");
        MUST(config->images.vm_mib <= config->images.mib, "%u of %u MiB", config->images.vm_mib, config->images.mib);
        for (uint32_t i = 0; i < config->pool_count; i++)
                MUST(config->pools[i].gpu_count <= IVG_POOL_GPUS_MAX, "%u GPUs", config->pools[i].gpu_count);
        for (uint32_t i = 0; i < config->vm_count; i++) {
                const struct ivg_vm_config *vm = &config->vms[i];

                MUST(vm->pool < config->pool_count, "pool %u", vm->pool);
                check_limits(&vm->limits);
                MUST(vm->region_mib >= 16 && (vm->region_mib & (vm->region_mib - 1)) == 0, "%u MiB", vm->region_mib);
                MUST(vm->channels >= 1 && vm->channels <= IVG_CHANNELS_MAX, "%u channels", vm->channels);
                MUST(vm->vectors > vm->channels || vm->vectors >= 2, "%u vectors", vm->vectors);
                MUST(memchr(vm->name, 0, sizeof(vm->name)) && memchr(vm->socket, 0, sizeof(vm->socket)), "no end");
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct ivg_config config;
        static int fd = -1;
        static char path[64];
        struct ivg_error error = {.text = ""};
        int rc;

        if (memchr(data, '@', size)) /* libconfig's @include: the administrator's files, not this target's */
                return 0;
        if (fd < 0) {
                fd = memfd_create("fuzz", MFD_CLOEXEC);
                snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        }
        MUST(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size, "file");
        ivg_config_init(&config);
        rc = ivg_config_read(&config, path, &error);
        if (rc == 0)
                rc = ivg_config_finish(&config, &error);
        MUST(rc <= 0, "%d", rc);
        MUST(rc == 0 || error.text[0], "refused without words");
        if (rc == 0)
                check(&config);
        return 0;
}
