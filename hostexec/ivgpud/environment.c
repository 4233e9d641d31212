/* The environment of a pool's executors. Our own variables are for guests' programs, but for those of the soft GPU,
 * which is a driver; what the service manager told ivgpud is for ivgpud; the pool's GPUs are told in the driver's way.
 */
#include "mediator.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GPUS_VARIABLE "CUDA_VISIBLE_DEVICES="
#define GPU_TEXT_BYTES 8u /* ",1023" */

extern char **environ;

static bool is_managers(const char *variable)
{
        static const char *const names[] = {"NOTIFY_SOCKET=", "LISTEN_", "WATCHDOG_", "JOURNAL_STREAM="};

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                if (strncmp(variable, names[i], strlen(names[i])) == 0)
                        return true;
        return false;
}

static bool is_for_executors(const char *variable, const struct ivg_pool_config *pool)
{
        if (is_managers(variable))
                return false;
        if (strncmp(variable, "IVGPU_", 6) == 0)
                return strncmp(variable, "IVGPU_SOFT_", 11) == 0;
        return pool->gpu_count == 0 || strncmp(variable, GPUS_VARIABLE, strlen(GPUS_VARIABLE)) != 0;
}

int ivg_environment_make(const struct ivg_pool_config *pool, char ***out)
{
        size_t count = 0, used = 0;
        char **environment;
        char *gpus;

        while (environ[count])
                count++;
        environment = calloc(1, (count + 2) * sizeof(char *) + sizeof(GPUS_VARIABLE) +
                                        (size_t)pool->gpu_count * GPU_TEXT_BYTES);
        if (!environment)
                return -ENOMEM;
        for (size_t i = 0; i < count; i++)
                if (is_for_executors(environ[i], pool))
                        environment[used++] = environ[i];
        if (pool->gpu_count != 0) {
                gpus = environment[used++] = (char *)(environment + count + 2);
                gpus += sprintf(gpus, GPUS_VARIABLE);
                for (uint32_t i = 0; i < pool->gpu_count; i++)
                        gpus += sprintf(gpus, "%s%u", i ? "," : "", pool->gpus[i]);
        }
        *out = environment;
        return 0;
}

void ivg_environments_free(struct ivg_mediator *mediator)
{
        for (uint32_t i = 0; i < IVG_POOLS_MAX; i++) {
                free(mediator->executor_environment[i]);
                mediator->executor_environment[i] = NULL;
        }
}
