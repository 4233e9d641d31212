/* The environment of a pool's executors, and of its MPS control daemon. Our own variables are for guests' programs, but
 * for those of the soft GPU, which is a driver, and how executors launch (chain.h); what the service manager told
 * ivgpud is for ivgpud; the pool's GPUs are told in the driver's way. Under MPS the daemon is told them: to its clients
 * they are then 0, 1, ... */
#include "mediator.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GPUS_VARIABLE "CUDA_VISIBLE_DEVICES="
#define GPU_TEXT_BYTES 8u /* ",1023" */
#define MPS_PIPE_VARIABLE "CUDA_MPS_PIPE_DIRECTORY="
#define MPS_LOG_VARIABLE "CUDA_MPS_LOG_DIRECTORY="
#define OWN_VARIABLES_MAX 3u

extern char **environ;

static bool begins(const char *variable, const char *with)
{
        return strncmp(variable, with, strlen(with)) == 0;
}

static bool is_managers(const char *variable)
{
        static const char *const names[] = {"NOTIFY_SOCKET=", "LISTEN_", "WATCHDOG_", "JOURNAL_STREAM="};

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                if (begins(variable, names[i]))
                        return true;
        return false;
}

static bool is_handed_on(const char *variable, const struct ivg_pool_config *pool, const struct ivg_mps_folders *mps,
                         bool daemon)
{
        if (is_managers(variable))
                return false;
        if (begins(variable, "IVGPU_"))
                return begins(variable, "IVGPU_SOFT_") || begins(variable, "IVGPU_LAUNCHES=");
        if (begins(variable, GPUS_VARIABLE))
                return pool->gpu_count == 0 && (!mps || daemon);
        return !mps || (!begins(variable, MPS_PIPE_VARIABLE) && !begins(variable, MPS_LOG_VARIABLE));
}

static char *write_gpus(char *to, const struct ivg_pool_config *pool)
{
        to += sprintf(to, GPUS_VARIABLE);
        for (uint32_t i = 0; i < pool->gpu_count; i++)
                to += sprintf(to, "%s%u", i ? "," : "", pool->gpus[i]);
        return to + 1;
}

int ivg_environment_make(const struct ivg_pool_config *pool, const struct ivg_mps_folders *mps, bool daemon,
                         char ***out)
{
        const size_t own_bytes =
                sizeof(GPUS_VARIABLE) + (size_t)pool->gpu_count * GPU_TEXT_BYTES +
                (mps ? sizeof(MPS_PIPE_VARIABLE) + sizeof(MPS_LOG_VARIABLE) + strlen(mps->pipe) + strlen(mps->log) : 0);
        size_t count = 0, used = 0;
        char **environment, *text;

        while (environ[count])
                count++;
        count += OWN_VARIABLES_MAX + 1;
        environment = calloc(1, count * sizeof(char *) + own_bytes);
        if (!environment)
                return -ENOMEM;
        text = (char *)(environment + count);
        for (size_t i = 0; environ[i]; i++)
                if (is_handed_on(environ[i], pool, mps, daemon))
                        environment[used++] = environ[i];
        if (pool->gpu_count != 0 && (!mps || daemon)) {
                environment[used++] = text;
                text = write_gpus(text, pool);
        }
        if (mps) {
                environment[used++] = text;
                text += sprintf(text, MPS_PIPE_VARIABLE "%s", mps->pipe) + 1;
                environment[used++] = text;
                sprintf(text, MPS_LOG_VARIABLE "%s", mps->log);
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
