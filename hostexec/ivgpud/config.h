/* ivgpud's configuration: from a file (libconfig), from the command line, or both.
 *
 * Everything is checked when it is read; a mistake is named with file, line and key, and nothing starts. */
#ifndef IVGPUD_CONFIG_H
#define IVGPUD_CONFIG_H

#include "ivgpu/region.h"
#include <stdbool.h>
#include <sys/types.h>

#define IVG_POOLS_MAX 32u
#define IVG_POOL_GPUS_MAX 64u
#define IVG_WARM_EXECUTORS_MAX 64u /* of a pool: each holds a context's memory of its first GPU */
#define IVG_WARM_UNSET UINT32_MAX
#define IVG_VMS_MAX 256u
#define IVG_NAME_BYTES 32u /* as IVG_VM_NAME_BYTES: names travel in the region page */
#define IVG_PATH_BYTES 4096u
#define IVG_SOCKET_PATH_BYTES 108u /* sockaddr_un's */

enum ivg_device_kind { IVG_DEVICE_CUDA, IVG_DEVICE_SOFT };
enum ivg_priority { IVG_PRIORITY_LOW = 0, IVG_PRIORITY_MEDIUM = 1, IVG_PRIORITY_HIGH = 2 };

struct ivg_pool_config {
        char name[IVG_NAME_BYTES];
        uint32_t gpu_count; /* 0: all that the driver shows */
        uint32_t gpus[IVG_POOL_GPUS_MAX];
        uint32_t warm_executors; /* that wait for programs; IVG_WARM_UNSET until ivg_config_finish */
};

struct ivg_vm_config {
        uint32_t vm_id;
        char name[IVG_NAME_BYTES];
        uint32_t pool; /* index */
        enum ivg_priority priority;
        uint32_t weight; /* 1..100 */
        char socket[IVG_SOCKET_PATH_BYTES];
        mode_t socket_mode;
        uint32_t region_mib; /* a power of two */
        uint32_t channels;
        uint32_t vectors; /* more than channels: vector 0 is control, every channel has one of its own */
};

struct ivg_local_config {
        char socket[IVG_SOCKET_PATH_BYTES]; /* empty: no local programs */
        mode_t socket_mode;
        uint32_t region_mib;
        uint32_t pool;
};

/* Who is given an image that a process has brought: other processes of its VM, or of any VM. */
enum ivg_image_sharing { IVG_IMAGES_OFF = 0, IVG_IMAGES_VM = 1, IVG_IMAGES_HOST = 2 };

struct ivg_images_config {
        enum ivg_image_sharing share;
        uint32_t mib;    /* kept on the host at most, by all VMs together */
        uint32_t vm_mib; /* by one VM; 0: half of it */
        uint32_t count;
};

struct ivg_config {
        enum ivg_device_kind device;
        char driver[IVG_PATH_BYTES];   /* empty: found by itself */
        char executor[IVG_PATH_BYTES]; /* empty: beside ivgpud */
        uint32_t heartbeat_log_s;      /* 0: no such lines */
        uint32_t ready_timeout_ms;
        uint32_t warm_executors; /* of pools that say nothing of their own; IVG_WARM_UNSET: 1 for CUDA, 0 for soft */
        bool warm_once;          /* at the start only: what programs take is not replaced */
        uint32_t pool_count, vm_count;
        struct ivg_pool_config pools[IVG_POOLS_MAX];
        struct ivg_vm_config vms[IVG_VMS_MAX];
        struct ivg_local_config local;
        struct ivg_images_config images;
};

/* Defaults; one pool "A" with all GPUs is added by ivg_config_finish when there is none. */
void ivg_config_init(struct ivg_config *config);
/* Adds what `path` says. Fails: -EINVAL with "FILE:LINE: key: what is wrong", -errno of reading it. */
int ivg_config_read(struct ivg_config *config, const char *path, struct ivg_error *error);
/* The last checks, of things that may come from file and command line both. Fails: -EINVAL with words. */
int ivg_config_finish(struct ivg_config *config, struct ivg_error *error);

#endif
