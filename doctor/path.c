/* A program's way, walked once by a child: our libcuda.so.1, channel, executor, driver, GPU and back. Each check
 * reports its part of it. What the child learns lies in memory that both share, so that a child that dies or hangs has
 * told how far it got. */
#include "doctor.h"
#include "driver_find.h"
#include "ivgpu/cuda_abi.h"
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDTRIPS 200u
#define KERNEL_WORDS (1u << 20)
#define COPY_BYTES (32u << 20)
#define COPY_TRIES 3u /* the best counts: the first touches memory for the first time */

enum step { STEP_NONE, STEP_LOADED, STEP_STARTED, STEP_GPU, STEP_ROUNDTRIP, STEP_KERNEL, STEP_COPIES };

struct ivg_path_walk {
        enum step done;
        char shim[IVG_DRIVER_PATH_BYTES],
                channel[IVG_SOCKET_PATH_BYTES + 32]; /* forced: "local:PATH"; empty: searched */
        char failed[64];                             /* the call that failed */
        int result;
        char wrong[200]; /* a result that is not what it must be */
        double start_ms, context_ms, roundtrip_us, roundtrip_min_us, kernel_us, up_bytes_per_s, down_bytes_per_s;
        int driver_version, device_count;
        char device[128];
        size_t free_bytes, total_bytes;
        struct ivg_child child; /* the parent's */
};

/* a[i] = a[i] * 3 + i, for 32-bit words */
static const char kernel_ptx[] = ".version 6.4\n"
                                 ".target sm_75\n"
                                 ".address_size 64\n"
                                 ".visible .entry ivgpu_doctor(.param .u64 words, .param .u32 count)\n"
                                 "{\n"
                                 "  .reg .pred %p1;\n"
                                 "  .reg .b32 %r<8>;\n"
                                 "  .reg .b64 %rd<4>;\n"
                                 "  ld.param.u64 %rd1, [words];\n"
                                 "  ld.param.u32 %r1, [count];\n"
                                 "  mov.u32 %r2, %ctaid.x;\n"
                                 "  mov.u32 %r3, %ntid.x;\n"
                                 "  mov.u32 %r4, %tid.x;\n"
                                 "  mad.lo.s32 %r5, %r2, %r3, %r4;\n"
                                 "  setp.ge.u32 %p1, %r5, %r1;\n"
                                 "  @%p1 bra end;\n"
                                 "  cvta.to.global.u64 %rd2, %rd1;\n"
                                 "  mul.wide.u32 %rd3, %r5, 4;\n"
                                 "  add.s64 %rd2, %rd2, %rd3;\n"
                                 "  ld.global.u32 %r6, [%rd2];\n"
                                 "  mad.lo.s32 %r7, %r6, 3, %r5;\n"
                                 "  st.global.u32 [%rd2], %r7;\n"
                                 "end:\n"
                                 "  ret;\n"
                                 "}\n";

/* ---- in the child ---- */

static struct {
        CUresult (*cuInit)(unsigned int);
        CUresult (*cuDriverGetVersion)(int *);
        CUresult (*cuDeviceGetCount)(int *);
        CUresult (*cuDeviceGetName)(char *, int, CUdevice);
        CUresult (*cuDevicePrimaryCtxRetain)(CUcontext *, CUdevice);
        CUresult (*cuDevicePrimaryCtxRelease)(CUdevice);
        CUresult (*cuCtxSetCurrent)(CUcontext);
        CUresult (*cuCtxSynchronize)(void);
        CUresult (*cuMemGetInfo)(size_t *, size_t *);
        CUresult (*cuMemAlloc)(CUdeviceptr *, size_t);
        CUresult (*cuMemFree)(CUdeviceptr);
        CUresult (*cuMemcpyHtoD)(CUdeviceptr, const void *, size_t);
        CUresult (*cuMemcpyDtoH)(void *, CUdeviceptr, size_t);
        CUresult (*cuModuleLoadData)(CUmodule *, const void *);
        CUresult (*cuModuleGetFunction)(CUfunction *, CUmodule, const char *);
        CUresult (*cuLaunchKernel)(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int,
                                   unsigned int, unsigned int, CUstream, void **, void **);
} api;

static const struct {
        const char *name;
        void *into; /* a pointer of `api` */
} api_names[] = {
        {"cuInit", &api.cuInit},
        {"cuDriverGetVersion", &api.cuDriverGetVersion},
        {"cuDeviceGetCount", &api.cuDeviceGetCount},
        {"cuDeviceGetName", &api.cuDeviceGetName},
        {"cuDevicePrimaryCtxRetain", &api.cuDevicePrimaryCtxRetain},
        {"cuDevicePrimaryCtxRelease_v2", &api.cuDevicePrimaryCtxRelease},
        {"cuCtxSetCurrent", &api.cuCtxSetCurrent},
        {"cuCtxSynchronize", &api.cuCtxSynchronize},
        {"cuMemGetInfo_v2", &api.cuMemGetInfo},
        {"cuMemAlloc_v2", &api.cuMemAlloc},
        {"cuMemFree_v2", &api.cuMemFree},
        {"cuMemcpyHtoD_v2", &api.cuMemcpyHtoD},
        {"cuMemcpyDtoH_v2", &api.cuMemcpyDtoH},
        {"cuModuleLoadData", &api.cuModuleLoadData},
        {"cuModuleGetFunction", &api.cuModuleGetFunction},
        {"cuLaunchKernel", &api.cuLaunchKernel},
};

/* Leaves the walk where a call fails. */
#define CALL(walk, name, ...)                                                  \
        do {                                                                   \
                snprintf((walk)->failed, sizeof((walk)->failed), "%s", #name); \
                (walk)->result = (int)api.name(__VA_ARGS__);                   \
                if ((walk)->result != 0)                                       \
                        return false;                                          \
                (walk)->failed[0] = '\0';                                      \
        } while (0)

static double now_s(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static bool walk_load(struct ivg_path_walk *walk)
{
        void *library;

        if (walk->channel[0] != '\0')
                setenv("IVGPU_CHANNEL", walk->channel, 1);
        unsetenv("IVGPU_LOG");
        library = dlopen(walk->shim, RTLD_NOW | RTLD_LOCAL);
        if (!library) {
                snprintf(walk->wrong, sizeof(walk->wrong), "%.190s", dlerror());
                return false;
        }
        for (size_t i = 0; i < sizeof(api_names) / sizeof(api_names[0]); i++) {
                void *symbol = dlsym(library, api_names[i].name);

                if (!symbol) {
                        snprintf(walk->wrong, sizeof(walk->wrong), "%.100s lacks %s", walk->shim, api_names[i].name);
                        return false;
                }
                memcpy(api_names[i].into, &symbol, sizeof(symbol));
        }
        walk->done = STEP_LOADED;
        return true;
}

static bool walk_start(struct ivg_path_walk *walk)
{
        const double begin = now_s();

        CALL(walk, cuInit, 0);
        walk->start_ms = (now_s() - begin) * 1e3;
        walk->done = STEP_STARTED;
        return true;
}

static bool walk_gpu(struct ivg_path_walk *walk)
{
        CUcontext context;
        double begin;

        CALL(walk, cuDriverGetVersion, &walk->driver_version);
        CALL(walk, cuDeviceGetCount, &walk->device_count);
        CALL(walk, cuDeviceGetName, walk->device, sizeof(walk->device), 0);
        begin = now_s();
        CALL(walk, cuDevicePrimaryCtxRetain, &context, 0);
        CALL(walk, cuCtxSetCurrent, context);
        CALL(walk, cuMemGetInfo, &walk->free_bytes, &walk->total_bytes);
        walk->context_ms = (now_s() - begin) * 1e3;
        walk->done = STEP_GPU;
        return true;
}

static int by_size(const void *a, const void *b)
{
        const double left = *(const double *)a, right = *(const double *)b;

        return left < right ? -1 : left > right;
}

/* A call that the executor must answer, and that costs the driver little. */
static bool walk_roundtrip(struct ivg_path_walk *walk)
{
        double times[ROUNDTRIPS];
        size_t free_bytes, total_bytes;

        for (uint32_t i = 0; i < ROUNDTRIPS; i++) {
                const double begin = now_s();

                CALL(walk, cuMemGetInfo, &free_bytes, &total_bytes);
                times[i] = (now_s() - begin) * 1e6;
        }
        qsort(times, ROUNDTRIPS, sizeof(times[0]), by_size);
        walk->roundtrip_us = times[ROUNDTRIPS / 2];
        walk->roundtrip_min_us = times[0];
        walk->done = STEP_ROUNDTRIP;
        return true;
}

/* Words that no run of zeros or repetition can fake. */
static void words_fill(uint32_t *words, size_t count, uint64_t seed)
{
        for (size_t i = 0; i < count; i++) {
                seed = seed * 6364136223846793005ull + 1442695040888963407ull;
                words[i] = (uint32_t)(seed >> 32);
        }
}

static bool walk_kernel(struct ivg_path_walk *walk, uint32_t *up, uint32_t *down, CUdeviceptr device)
{
        uint32_t count = KERNEL_WORDS;
        void *parameters[] = {&device, &count};
        CUmodule module;
        CUfunction function;
        double begin;

        words_fill(up, KERNEL_WORDS, 7);
        CALL(walk, cuModuleLoadData, &module, kernel_ptx);
        CALL(walk, cuModuleGetFunction, &function, module, "ivgpu_doctor");
        CALL(walk, cuMemcpyHtoD, device, up, KERNEL_WORDS * sizeof(*up));
        CALL(walk, cuCtxSynchronize);
        begin = now_s();
        CALL(walk, cuLaunchKernel, function, KERNEL_WORDS / 256, 1, 1, 256, 1, 1, 0, NULL, parameters, NULL);
        CALL(walk, cuCtxSynchronize);
        walk->kernel_us = (now_s() - begin) * 1e6;
        CALL(walk, cuMemcpyDtoH, down, device, KERNEL_WORDS * sizeof(*down));
        for (uint32_t i = 0; i < KERNEL_WORDS; i++)
                if (down[i] != up[i] * 3 + i) {
                        snprintf(walk->wrong, sizeof(walk->wrong), "word %u is %08x, must be %08x", i, down[i],
                                 up[i] * 3 + i);
                        return false;
                }
        walk->done = STEP_KERNEL;
        return true;
}

static bool walk_copies(struct ivg_path_walk *walk, uint32_t *up, uint32_t *down, CUdeviceptr device)
{
        for (uint32_t i = 0; i < COPY_TRIES; i++) {
                double begin, middle, end;

                words_fill(up, COPY_BYTES / sizeof(*up), i + 1);
                memset(down, 0x5a, COPY_BYTES);
                begin = now_s();
                CALL(walk, cuMemcpyHtoD, device, up, COPY_BYTES);
                middle = now_s();
                CALL(walk, cuMemcpyDtoH, down, device, COPY_BYTES);
                end = now_s();
                if (COPY_BYTES / (middle - begin) > walk->up_bytes_per_s)
                        walk->up_bytes_per_s = COPY_BYTES / (middle - begin);
                if (COPY_BYTES / (end - middle) > walk->down_bytes_per_s)
                        walk->down_bytes_per_s = COPY_BYTES / (end - middle);
                for (size_t word = 0; word < COPY_BYTES / sizeof(*up); word++)
                        if (up[word] != down[word]) {
                                snprintf(walk->wrong, sizeof(walk->wrong), "word %zu came back as %08x, was %08x", word,
                                         down[word], up[word]);
                                return false;
                        }
        }
        walk->done = STEP_COPIES;
        return true;
}

static bool walk_work(struct ivg_path_walk *walk)
{
        uint32_t *up = malloc(COPY_BYTES), *down = malloc(COPY_BYTES);
        CUdeviceptr device;
        bool all;

        if (!up || !down) {
                snprintf(walk->wrong, sizeof(walk->wrong), "no memory for %u bytes twice", COPY_BYTES);
                return false;
        }
        CALL(walk, cuMemAlloc, &device, COPY_BYTES);
        all = walk_kernel(walk, up, down, device) && walk_copies(walk, up, down, device);
        if (all) {
                CALL(walk, cuMemFree, device);
                CALL(walk, cuDevicePrimaryCtxRelease, 0);
        }
        free(up);
        free(down);
        return all;
}

static void walk_body(void *argument)
{
        struct ivg_path_walk *walk = argument;

        if (walk_load(walk) && walk_start(walk) && walk_gpu(walk) && walk_roundtrip(walk))
                walk_work(walk);
        exit(0); /* the library ends the channel in order */
}

/* ---- the parent ---- */

/* On the host a program comes in through the local socket; in a guest by whatever it finds. NULL: there is none. */
static struct ivg_path_walk *walk_learn(struct ivg_doctor *doctor)
{
        const char *local = doctor->side == IVG_GUEST_SIDE ? NULL : ivg_local_place(doctor);
        struct ivg_path_walk *walk;

        if (doctor->walk || (!local && doctor->side == IVG_HOST_SIDE))
                return doctor->walk;
        walk = ivg_shared_new(sizeof(*walk));
        if (!walk)
                return NULL;
        if (doctor->shim)
                snprintf(walk->shim, sizeof(walk->shim), "%s", doctor->shim);
        else if (doctor->shim_found[0] != '\0')
                snprintf(walk->shim, sizeof(walk->shim), "%s", doctor->shim_found);
        else if (ivg_path_beside_program("../lib/ivgpu/libcuda.so.1", walk->shim) < 0)
                snprintf(walk->shim, sizeof(walk->shim), "/usr/lib/ivgpu/libcuda.so.1");
        if (local)
                snprintf(walk->channel, sizeof(walk->channel), "local:%s", local);
        ivg_child_call(walk_body, walk, doctor->patience_ms, &walk->child);
        return doctor->walk = walk;
}

/* What libcuda.so.1 has said: "ivgpu: error N (NAME): ..." */
static unsigned int error_told(const char *output, char line[400])
{
        const char *at = strstr(output, "ivgpu: error ");

        line[0] = '\0';
        if (!at)
                return 0;
        snprintf(line, 400, "%.*s", (int)strcspn(at, "\n"), at);
        return (unsigned int)strtoul(at + strlen("ivgpu: error "), NULL, 10);
}

static const struct error_answer {
        unsigned int error;
        const char *words; /* in its line; NULL: whatever it says */
        const char *fault, *remedy;
} error_answers[] = {
        {1, NULL, "builds-differ",
         "guest and host are of two builds: install the same version of ivgpu on both, restart "
         "ivgpud, start the VM again"},
        {3, "call table", "builds-differ",
         "guest and host are of two builds: install the same version of ivgpu on both, "
         "restart ivgpud, start the VM again"},
        {3, "layout", "builds-differ",
         "guest and host are of two builds: install the same version of ivgpu on both, restart "
         "ivgpud, start the VM again"},
        {3, "ermission", "way-forbidden",
         "see \"node\" in a guest; on the host this user must be in the group of the local "
         "socket, or socket_mode = \"0666\" in \"local\""},
        {3, "draining", "vm-draining", "an operator lets no new program in: ivgpuctl resume VM"},
        {3, "absent", "way-absent", "start ivgpud (host: see \"mediator\"); in a guest see \"device\" and \"module\""},
        {3, "refused", "mediator-dead", "ivgpud is gone and its socket is left: systemctl restart ivgpud"},
        {3, NULL, "mediator-unavailable", "see what it says, ivgpud's log on the host, and \"mediator\" there"},
        {4, NULL, "executor-late",
         "the executor did not get ready, or a time limit is over: ivgpud's log says which; see "
         "\"driver\" on the host, raise ready_timeout_ms or the VM's limit"},
        {5, NULL, "driver-fails", "the host's driver fails: see \"driver\" on the host, and ivgpud's log"},
        {6, NULL, "pool-absent",
         "the VM's pool does not exist: mend \"pool\" in the host's configuration, ivgpuctl reload"},
        {7, NULL, "queue-full",
         "end a program, raise executors_max (ivgpuctl set VM executors_max=N), or channels and start "
         "the VM again"},
        {8, NULL, "way-unknown", "IVGPU_CHANNEL names a way that does not exist: unset it"},
        {10, NULL, "rate-limited", "ivgpuctl set VM calls_per_s=0, or rate=slow"},
        {11, NULL, "vm-quarantined",
         "its faults stand in ivgpud's log ([WATCHDOG]); mend them, then: ivgpuctl release VM"},
};

/* True: libcuda.so.1 has said what is wrong, and that is told. */
static bool told_conclude(struct ivg_doctor *doctor, const struct ivg_path_walk *walk)
{
        char line[400];
        const unsigned int error = error_told(walk->child.output, line);

        for (size_t i = 0; i < sizeof(error_answers) / sizeof(error_answers[0]); i++)
                if (error_answers[i].error == error &&
                    (!error_answers[i].words || strstr(line, error_answers[i].words))) {
                        ivg_seen(doctor, "%s", line);
                        ivg_remedy(doctor, "%s", error_answers[i].remedy);
                        ivg_conclude(doctor, IVG_BAD, error_answers[i].fault, "");
                        return true;
                }
        return false;
}

/* The walk ended before `step`, or in it. */
static void walk_conclude(struct ivg_doctor *doctor, const struct ivg_path_walk *walk, const char *fault)
{
        if (walk->wrong[0] != '\0') {
                ivg_seen(doctor, "%s", walk->wrong);
                ivg_remedy(doctor,
                           "a wrong result is a defect: report it with this output, ivgpud's log and the versions");
        } else if (walk->child.timed_out) {
                ivg_seen(doctor, "no end within %u s", doctor->patience_ms / 1000);
                ivg_remedy(
                        doctor,
                        "is the VM paused (ivgpuctl resume VM)? Else the driver hangs or the GPU is busy for others: "
                        "ivgpud's log, dmesg on the host for \"NVRM\" and \"Xid\"");
                fault = "way-hangs";
        } else if (told_conclude(doctor, walk)) {
                return;
        } else if (walk->result == CUDA_ERROR_OUT_OF_MEMORY) {
                ivg_seen(doctor, "%s: out of memory; %zu of %zu MiB are free", walk->failed, walk->free_bytes >> 20,
                         walk->total_bytes >> 20);
                ivg_remedy(doctor,
                           "end a program, raise vram_mib (ivgpuctl set VM vram_mib=N), or see nvidia-smi on the host "
                           "for who holds the GPU's memory");
                fault = "memory-full";
        } else {
                ivg_seen(doctor, "%s answers CUDA error %d (child's status %x) %.300s", walk->failed, walk->result,
                         (unsigned int)walk->child.status, walk->child.output);
                ivg_remedy(doctor, "the executor's words stand in ivgpud's log on the host (journalctl -u ivgpud)");
        }
        ivg_conclude(doctor, IVG_BAD, fault, "");
}

void ivg_check_executor(struct ivg_doctor *doctor)
{
        const struct ivg_path_walk *walk = walk_learn(doctor);
        const char *told;

        if (!walk) {
                ivg_seen(doctor, "no \"local\" socket is configured: programs come in through VMs only");
                ivg_remedy(doctor,
                           "the whole way is tried by ivgpu-doctor in a guest; to try it here, add local = { socket = "
                           "\"/run/ivgpu/local.sock\"; }");
                ivg_conclude(doctor, IVG_NOT_APPLICABLE, NULL, "");
        } else if (walk->done == STEP_NONE) {
                ivg_seen(doctor, "loading %s: %s%.300s", walk->shim, walk->wrong, walk->child.output);
                ivg_remedy(doctor, "install ivgpu's libcuda.so.1, or name it: --shim FILE");
                ivg_conclude(doctor, IVG_BAD, "shim-absent", "");
        } else if (walk->done < STEP_STARTED) {
                walk_conclude(doctor, walk, "start-fails");
        } else {
                told = strstr(walk->child.output, "ivgpu: "); /* what a slower way costs */
                ivg_seen(doctor, "ready after %.1f ms%s%s%s%.*s", walk->start_ms, walk->channel[0] ? " through " : "",
                         walk->channel, told ? "; " : "", told ? (int)strcspn(told, "\n") : 0, told ? told : "");
                ivg_conclude(doctor, IVG_OK, NULL, "");
        }
}

/* False: the walk did not get to the step before, or stopped here, which is told. */
static bool step_reached(struct ivg_doctor *doctor, enum step step, const char *fault)
{
        const struct ivg_path_walk *walk = walk_learn(doctor);

        if (walk && walk->done >= step)
                return true;
        if (!walk || (int)walk->done < (int)step - 1) {
                ivg_seen(doctor, "what comes before it failed");
                ivg_conclude(doctor, IVG_NOT_APPLICABLE, NULL, "");
                return false;
        }
        walk_conclude(doctor, walk, fault);
        return false;
}

void ivg_check_gpu(struct ivg_doctor *doctor)
{
        const struct ivg_path_walk *walk;

        if (!step_reached(doctor, STEP_GPU, "gpu-unusable"))
                return;
        walk = doctor->walk;
        ivg_seen(doctor, "%s, %zu of %zu MiB free, CUDA %d.%d, %d devices; context after %.1f ms", walk->device,
                 walk->free_bytes >> 20, walk->total_bytes >> 20, walk->driver_version / 1000,
                 walk->driver_version % 1000 / 10, walk->device_count, walk->context_ms);
        ivg_conclude(doctor, IVG_OK, NULL, "");
}

void ivg_check_roundtrip(struct ivg_doctor *doctor)
{
        if (!step_reached(doctor, STEP_ROUNDTRIP, "roundtrip-fails"))
                return;
        ivg_seen(doctor, "%.2f us (median of %u calls; shortest %.2f us)", doctor->walk->roundtrip_us, ROUNDTRIPS,
                 doctor->walk->roundtrip_min_us);
        ivg_conclude(doctor, IVG_OK, NULL, "");
}

void ivg_check_kernel(struct ivg_doctor *doctor)
{
        if (!step_reached(doctor, STEP_KERNEL, "kernel-fails"))
                return;
        ivg_seen(doctor, "%u words computed, every one right (%.0f us)", KERNEL_WORDS, doctor->walk->kernel_us);
        ivg_conclude(doctor, IVG_OK, NULL, "");
}

void ivg_check_copies(struct ivg_doctor *doctor)
{
        if (!step_reached(doctor, STEP_COPIES, "copies-fail"))
                return;
        ivg_seen(doctor, "%u MiB there and back, every word right: up %.2f GB/s, down %.2f GB/s", COPY_BYTES >> 20,
                 doctor->walk->up_bytes_per_s / 1e9, doctor->walk->down_bytes_per_s / 1e9);
        ivg_conclude(doctor, IVG_OK, NULL, "");
}
