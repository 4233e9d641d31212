/* The driver that executors load, its GPUs, and how processes share them. A child loads it: nothing of a stranger's
 * library stays in this process, and one that hangs is ended. */
#include "control_client.h"
#include "doctor.h"
#include "driver_find.h"
#include "ivgpu/cuda_abi.h"
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEVICES_SHOWN 16u
#define MPS_PROGRAM "nvidia-cuda-mps-control"
#define COMPUTE_MODE_DEFAULT 0
#define COMPUTE_MODE_PROHIBITED 2
#define COMPUTE_MODE_EXCLUSIVE 3

struct driver_view {
        char path[IVG_DRIVER_PATH_BYTES];
        int find_rc;
        struct ivg_error find_error;
        bool asked; /* the child came to its end */
        int init, version, count;
        char names[DEVICES_SHOWN][64];
        int compute_modes[DEVICES_SHOWN];
};

/* ---- in the child ---- */

static void driver_ask(void *argument)
{
        struct driver_view *view = argument;
        void *library = dlopen(view->path, RTLD_NOW | RTLD_LOCAL);
        CUresult (*init)(unsigned int) = library ? (CUresult(*)(unsigned int))dlsym(library, "cuInit") : NULL;
        CUresult (*version)(int *) = library ? (CUresult(*)(int *))dlsym(library, "cuDriverGetVersion") : NULL;
        CUresult (*count)(int *) = library ? (CUresult(*)(int *))dlsym(library, "cuDeviceGetCount") : NULL;
        CUresult (*name)(char *, int, CUdevice) =
                library ? (CUresult(*)(char *, int, CUdevice))dlsym(library, "cuDeviceGetName") : NULL;
        CUresult (*attribute)(int *, CUdevice_attribute, CUdevice) =
                library ? (CUresult(*)(int *, CUdevice_attribute, CUdevice))dlsym(library, "cuDeviceGetAttribute")
                        : NULL;

        if (!init || !version || !count || !name || !attribute) {
                fprintf(stderr, "%s: %s\n", view->path, library ? "is no CUDA driver" : dlerror());
                return;
        }
        version(&view->version);
        view->init = (int)init(0);
        if (view->init == 0)
                count(&view->count);
        for (int i = 0; i < view->count && i < (int)DEVICES_SHOWN; i++) {
                name(view->names[i], sizeof(view->names[i]), i);
                attribute(&view->compute_modes[i], CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, i);
        }
        view->asked = true;
}

/* ---- asked once ---- */

static const struct driver_view *driver_learn(struct ivg_doctor *doctor, const struct ivg_config *config,
                                              struct ivg_child **child)
{
        static struct ivg_child driver_child;
        static struct driver_view *view;
        const char *given = config->driver[0] != '\0' ? config->driver : NULL;

        *child = &driver_child;
        if (view)
                return view;
        view = ivg_shared_new(sizeof(*view));
        if (!view)
                return NULL;
        if (config->device == IVG_DEVICE_CUDA) {
                view->find_rc = ivg_driver_find(given, view->path, &view->find_error);
        } else {
                view->find_rc = !given                        ? ivg_path_beside_program(IVG_SOFTGPU_BESIDE, view->path)
                                : realpath(given, view->path) ? 0
                                                              : -errno;
                if (view->find_rc < 0)
                        ivg_error_set(&view->find_error, "soft GPU: %s: %s", given ? given : IVG_SOFTGPU_BESIDE,
                                      strerror(-view->find_rc));
        }
        if (view->find_rc == 0)
                ivg_child_call(driver_ask, view, doctor->patience_ms, &driver_child);
        return view;
}

/* ---- what the driver's answers mean ---- */

static const struct init_answer {
        int answer;
        const char *fault, *meaning, *remedy;
} init_answers[] = {
        {CUDA_ERROR_NO_DEVICE, "gpu-absent", "no GPU is there for it",
         "nvidia-smi -L must list it: load the kernel module (modprobe nvidia nvidia-uvm), check CUDA_VISIBLE_DEVICES "
         "of "
         "ivgpud's environment and the rights of /dev/nvidia*"},
        {CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "driver-mismatch", "library and kernel module are of different versions",
         "compare /proc/driver/nvidia/version with the library's; after an update reload the module (rmmod nvidia_uvm "
         "nvidia; modprobe nvidia nvidia-uvm) or reboot"},
        {CUDA_ERROR_SYSTEM_NOT_READY, "driver-not-ready", "the machine's GPUs are not set up yet",
         "on NVSwitch machines: systemctl start nvidia-fabricmanager"},
        {CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE, "driver-compat", "forward compatibility is not for this GPU",
         "take the compat folder out of ld.so.conf and LD_LIBRARY_PATH, or name the right library: driver = \"PATH\""},
        {CUDA_ERROR_UNKNOWN, "driver-unknown-error", "the driver says \"unknown error\"",
         "mostly nvidia-uvm: modprobe nvidia-uvm, nvidia-modprobe -u -c 0; then see dmesg for \"NVRM\""},
};

static void init_failed(struct ivg_doctor *doctor, const struct driver_view *view)
{
        for (size_t i = 0; i < sizeof(init_answers) / sizeof(init_answers[0]); i++)
                if (view->init == init_answers[i].answer) {
                        ivg_seen(doctor, "%s: cuInit answers %d: %s", view->path, view->init, init_answers[i].meaning);
                        ivg_remedy(doctor, "%s", init_answers[i].remedy);
                        ivg_conclude(doctor, IVG_BAD, init_answers[i].fault, "");
                        return;
                }
        ivg_seen(doctor, "%s: cuInit answers %d", view->path, view->init);
        ivg_remedy(doctor, "CUDA programs on the host get this too: see nvidia-smi and dmesg for \"NVRM\"");
        ivg_conclude(doctor, IVG_BAD, "driver-fails", "");
}

/* False: a pool names a GPU that is not there. */
static bool pools_judge(struct ivg_doctor *doctor, const struct ivg_config *config, const struct driver_view *view)
{
        bool all = true;

        for (uint32_t i = 0; i < config->pool_count; i++)
                for (uint32_t g = 0; ivg_config_has_pool(config, i) && g < config->pools[i].gpu_count; g++) {
                        char object[64];

                        if (config->pools[i].gpus[g] < (uint32_t)view->count)
                                continue;
                        snprintf(object, sizeof(object), "pool %s", config->pools[i].name);
                        ivg_seen(doctor, "GPU %u is none of the driver's %d", config->pools[i].gpus[g], view->count);
                        ivg_remedy(doctor,
                                   "name GPUs from 0 to %d in its \"gpus\", or none for all; it holds from the "
                                   "program's next start",
                                   view->count - 1);
                        ivg_conclude(doctor, IVG_BAD, "pool-gpu-absent", object);
                        all = false;
                }
        return all;
}

void ivg_check_driver(struct ivg_doctor *doctor)
{
        const struct ivg_config *config = ivg_learn_config(doctor);
        const struct driver_view *view;
        struct ivg_child *child;
        char names[400] = "";
        size_t used = 0;

        if (!config) {
                ivg_seen(doctor, "without a configuration it is not known which");
                ivg_conclude(doctor, IVG_NOT_APPLICABLE, NULL, "");
                return;
        }
        view = driver_learn(doctor, config, &child);
        if (!view || view->find_rc < 0) {
                ivg_seen(doctor, "%s", view ? view->find_error.text : "no memory");
                ivg_remedy(doctor,
                           config->device == IVG_DEVICE_CUDA
                                   ? "install NVIDIA's driver (Debian: libcuda1), name it in \"mediator\": driver = "
                                     "\"PATH\", or try without a GPU: device = \"soft\""
                                   : "install ivgpu's soft GPU beside ivgpud, or name it: driver = \"PATH\"");
                ivg_conclude(doctor, IVG_BAD, "driver-absent", "");
                return;
        }
        if (!view->asked) {
                ivg_seen(doctor, "%s: %s%.300s", view->path,
                         child->timed_out ? "does not come up in time (--patience) " : "cannot be asked: ",
                         child->output);
                ivg_remedy(doctor, child->timed_out
                                           ? "the kernel's driver hangs: see dmesg for \"NVRM\" and \"Xid\", reset "
                                             "the GPU (nvidia-smi -r) or reboot"
                                           : "this library is no working driver: name the right one, driver = "
                                             "\"PATH\"");
                ivg_conclude(doctor, IVG_BAD, child->timed_out ? "driver-hangs" : "driver-unusable", "");
                return;
        }
        if (view->init != 0) {
                init_failed(doctor, view);
                return;
        }
        if (!pools_judge(doctor, config, view))
                return;
        for (int i = 0; i < view->count && i < (int)DEVICES_SHOWN && used < sizeof(names); i++)
                used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%d %s", i ? ", " : "", i,
                                         view->names[i]);
        ivg_seen(doctor, "%s, CUDA %d.%d, GPUs: %s", view->path, view->version / 1000, view->version % 1000 / 10,
                 names);
        ivg_conclude(doctor, IVG_OK, NULL, "");
}

/* ---- sharing ---- */

static bool pool_has(const struct ivg_pool_config *pool, uint32_t gpu)
{
        for (uint32_t i = 0; i < pool->gpu_count; i++)
                if (pool->gpus[i] == gpu)
                        return true;
        return pool->gpu_count == 0;
}

/* What the running mediator says of a pool's MPS server: "on", "down", ...; NULL: it cannot be asked. */
static const char *mps_word(struct ivg_doctor *doctor, const struct ivg_pool_config *pool)
{
        struct json_object *pools = ivg_json_array(ivg_learn_list(doctor), "pools");

        for (size_t i = 0; i < ivg_json_length(pools); i++)
                if (strcmp(ivg_json_text(json_object_array_get_idx(pools, i), "name"), pool->name) == 0)
                        return ivg_json_text(json_object_array_get_idx(pools, i), "mps");
        return NULL;
}

static bool mps_program_is_there(const struct ivg_config *config)
{
        static const char *const usual[] = {"/usr/bin", "/usr/local/nvidia/bin", "/usr/local/cuda/bin"};
        char path[PATH_MAX];

        if (config->mps_program[0] != '\0')
                return access(config->mps_program, X_OK) == 0;
        ivg_in_path_find(MPS_PROGRAM, path);
        if (strchr(path, '/'))
                return true;
        for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) {
                snprintf(path, sizeof(path), "%s/" MPS_PROGRAM, usual[i]);
                if (access(path, X_OK) == 0)
                        return true;
        }
        return false;
}

/* True: its server runs, or would. */
static bool mps_judge(struct ivg_doctor *doctor, const struct ivg_config *config, const struct ivg_pool_config *pool,
                      const char *object, bool *shares)
{
        const char *word = mps_word(doctor, pool);

        *shares = false;
        if (pool->mps == IVG_MPS_MODE_OFF || config->device != IVG_DEVICE_CUDA)
                return true;
        *shares = word ? strcmp(word, "off") != 0 : mps_program_is_there(config);
        if (word && (strcmp(word, "down") == 0 || strcmp(word, "ending") == 0)) {
                ivg_seen(doctor, "its MPS server is %s: no program of the pool starts (error 3)", word);
                ivg_remedy(doctor,
                           "journalctl -u ivgpud | grep MPS, and the logs below %s, say why; without MPS: mps = "
                           "\"off\" and restart ivgpud",
                           config->mps_dir);
                ivg_conclude(doctor, IVG_BAD, "mps-down", object);
                return false;
        }
        if (!word && pool->mps == IVG_MPS_MODE_ON && !*shares) {
                ivg_seen(doctor, "mps = \"on\", and %s is not there: ivgpud does not start",
                         config->mps_program[0] != '\0' ? config->mps_program : MPS_PROGRAM);
                ivg_remedy(doctor,
                           "install it (Debian: nvidia-cuda-mps), name it in \"mediator\": mps_program = \"PATH\", or "
                           "mps = \"auto\" for the pool");
                ivg_conclude(doctor, IVG_BAD, "mps-absent", object);
                return false;
        }
        return true;
}

/* True: nothing to say against it. */
static bool gpu_judge(struct ivg_doctor *doctor, uint32_t gpu, int mode, bool shares, const char *object)
{
        if (mode == COMPUTE_MODE_PROHIBITED) {
                ivg_seen(doctor, "GPU %u is in compute mode PROHIBITED: no context can be made on it", gpu);
                ivg_remedy(doctor, "nvidia-smi -i %u -c DEFAULT", gpu);
                ivg_conclude(doctor, IVG_BAD, "gpu-prohibited", object);
                return false;
        }
        if (mode == COMPUTE_MODE_EXCLUSIVE && !shares) {
                ivg_seen(doctor,
                         "GPU %u is in compute mode EXCLUSIVE_PROCESS: one program at a time gets a context, all "
                         "others CUDA_ERROR_DEVICE_UNAVAILABLE",
                         gpu);
                ivg_remedy(doctor, "nvidia-smi -i %u -c DEFAULT; or mps = \"on\" for the pool", gpu);
                ivg_conclude(doctor, IVG_BAD, "gpu-exclusive", object);
                return false;
        }
        return true;
}

void ivg_check_sharing(struct ivg_doctor *doctor)
{
        const struct ivg_config *config = ivg_learn_config(doctor);
        const struct driver_view *view = NULL;
        struct ivg_child *child;
        bool all = true;

        if (config)
                view = driver_learn(doctor, config, &child);
        if (!view || !view->asked || view->init != 0) {
                ivg_seen(doctor, "no driver to ask");
                ivg_conclude(doctor, IVG_NOT_APPLICABLE, NULL, "");
                return;
        }
        for (uint32_t i = 0; i < config->pool_count; i++) {
                const struct ivg_pool_config *pool = &config->pools[i];
                char object[64];
                bool shares;

                if (!ivg_config_has_pool(config, i))
                        continue;
                snprintf(object, sizeof(object), "pool %s", pool->name);
                all &= mps_judge(doctor, config, pool, object, &shares);
                for (uint32_t gpu = 0; gpu < (uint32_t)view->count && gpu < DEVICES_SHOWN; gpu++)
                        if (pool_has(pool, gpu))
                                all &= gpu_judge(doctor, gpu, view->compute_modes[gpu], shares, object);
        }
        if (!all)
                return;
        ivg_seen(doctor, "compute mode lets all programs in");
        ivg_conclude(doctor, IVG_OK, NULL, "");
}
