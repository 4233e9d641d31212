/* ivgpud's configuration: from a file (libconfig), from the command line, or both.
 *
 * Everything is checked when it is read; a mistake is named with file, line and key, and nothing starts. */
#ifndef IVGPUD_CONFIG_H
#define IVGPUD_CONFIG_H

#include "ivgpu/region.h"
#include "vm_limits.h"
#include <stdbool.h>
#include <sys/types.h>

#define IVG_POOLS_MAX 32u
#define IVG_POOL_GPUS_MAX 64u
#define IVG_WARM_EXECUTORS_MAX 64u /* of a pool: each holds a context's memory of its first GPU */
#define IVG_WARM_UNSET UINT32_MAX
#define IVG_VMS_MAX 256u
#define IVG_NAME_BYTES 32u /* as IVG_VM_NAME_BYTES: names travel in the region page */
#define IVG_PATH_BYTES 4096u
#define IVG_ADDRESS_BYTES 46u      /* INET6_ADDRSTRLEN */
#define IVG_SOCKET_PATH_BYTES 108u /* sockaddr_un's */
#define IVG_MPS_DIR_BYTES 80u      /* so that "/31/pipe/control_privileged" can follow, a socket */

enum ivg_device_kind { IVG_DEVICE_CUDA, IVG_DEVICE_SOFT };
/* How a pool's executors come to run: one VM at a time, or by weighted shares with several on the GPU at once. Auto: in
 * turns; under an MPS server, where they need not wait for each other's time slices, several at once. */
enum ivg_policy { IVG_POLICY_AUTO, IVG_POLICY_TURNS, IVG_POLICY_FAIR };
/* Whether its executors run under an MPS server of the pool's own. Auto: where the driver's program for it is there. */
enum ivg_mps_mode { IVG_MPS_MODE_OFF, IVG_MPS_MODE_ON, IVG_MPS_MODE_AUTO };

struct ivg_pool_config {
        char name[IVG_NAME_BYTES];
        uint32_t gpu_count; /* 0: all that the driver shows */
        uint32_t gpus[IVG_POOL_GPUS_MAX];
        uint32_t warm_executors; /* that wait for programs; IVG_WARM_UNSET until ivg_config_finish */
        uint32_t policy;         /* enum ivg_policy */
        enum ivg_mps_mode mps;
};

struct ivg_vm_config {
        uint32_t vm_id;
        char name[IVG_NAME_BYTES];
        uint32_t pool; /* index */
        struct ivg_limits limits;
        char socket[IVG_SOCKET_PATH_BYTES];       /* QEMU's; empty: none */
        char local_socket[IVG_SOCKET_PATH_BYTES]; /* of programs of this machine that belong to it; empty: none */
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
        struct ivg_limits limits; /* of all local programs together, as if they were one VM */
};

/* The socket of ivgpuctl. */
struct ivg_control_config {
        char socket[IVG_SOCKET_PATH_BYTES]; /* empty: none */
        mode_t socket_mode;
        uid_t user;  /* (uid_t)-1: the mediator's own. It and root may change things; */
        gid_t group; /* (gid_t)-1: none. Its members may, too; others who can connect may look */
};

/* Where Prometheus finds the counters: a TCP port, a UNIX socket, or neither. */
struct ivg_metrics_config {
        char address[IVG_ADDRESS_BYTES];
        uint32_t port;                      /* 0: none */
        char socket[IVG_SOCKET_PATH_BYTES]; /* empty: none */
        mode_t socket_mode;
};

/* Who is given an image that a process has brought: other processes of its VM, or of any VM. */
enum ivg_image_sharing { IVG_IMAGES_OFF = 0, IVG_IMAGES_VM = 1, IVG_IMAGES_HOST = 2 };

struct ivg_images_config {
        enum ivg_image_sharing share;
        uint32_t mib;    /* kept on the host at most, by all VMs together */
        uint32_t vm_mib; /* by one VM; 0: half of it */
        uint32_t count;
};

/* While the mediator runs, a pool and a VM keep their places in these arrays: what a reload takes out leaves a hole,
 * which what it adds may fill. */
struct ivg_config {
        enum ivg_device_kind device;
        char driver[IVG_PATH_BYTES];   /* empty: found by itself */
        char executor[IVG_PATH_BYTES]; /* empty: beside ivgpud */
        uint32_t heartbeat_log_s;      /* 0: no such lines */
        uint32_t ready_timeout_ms;
        uint32_t silent_timeout_ms; /* an executor that does not answer for so long is ended; 0: it is not asked */
        char mps_program[IVG_PATH_BYTES]; /* the control daemon; empty: found by itself */
        char mps_dir[IVG_MPS_DIR_BYTES];  /* where MPS has its sockets and logs */
        uint32_t warm_executors; /* of pools that say nothing of their own; IVG_WARM_UNSET: 1 for CUDA, 0 for soft */
        bool warm_once;          /* at the start only: what programs take is not replaced */
        uint32_t pool_count, vm_count;
        struct ivg_pool_config pools[IVG_POOLS_MAX];
        struct ivg_vm_config vms[IVG_VMS_MAX];
        struct ivg_local_config local;
        struct ivg_images_config images;
        struct ivg_control_config control;
        struct ivg_metrics_config metrics;
};

extern const char *const ivg_policy_words[]; /* by enum ivg_policy; end with NULL */

static inline bool ivg_config_has_pool(const struct ivg_config *config, uint32_t pool)
{
        return pool < config->pool_count && config->pools[pool].name[0] != '\0';
}
static inline bool ivg_config_has_vm(const struct ivg_config *config, uint32_t slot)
{
        return slot < config->vm_count && config->vms[slot].name[0] != '\0';
}

/* Defaults; one pool "A" with all GPUs is added by ivg_config_finish when there is none. */
void ivg_config_init(struct ivg_config *config);
/* Adds what `path` says. Fails: -EINVAL with "FILE:LINE: key: what is wrong", -errno of reading it. */
int ivg_config_read(struct ivg_config *config, const char *path, struct ivg_error *error);
/* The last checks, of things that may come from file and command line both. Fails: -EINVAL with words. */
int ivg_config_finish(struct ivg_config *config, struct ivg_error *error);

#endif
