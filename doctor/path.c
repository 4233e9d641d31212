/* What the walk of a program's way (path_walk.h) says: each check reports its part of it. */
#include "ivgpu/cuda_abi.h"
#include "path_walk.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
        ivg_child_call(ivg_path_walk, walk, doctor->patience_ms, &walk->child);
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
        ivg_seen(doctor, "%.2f us (median of %u calls; shortest %.2f us)", doctor->walk->roundtrip_us,
                 IVG_WALK_ROUNDTRIPS, doctor->walk->roundtrip_min_us);
        ivg_conclude(doctor, IVG_OK, NULL, "");
}

void ivg_check_kernel(struct ivg_doctor *doctor)
{
        if (!step_reached(doctor, STEP_KERNEL, "kernel-fails"))
                return;
        ivg_seen(doctor, "%u words computed, every one right (%.0f us)", IVG_WALK_KERNEL_WORDS,
                 doctor->walk->kernel_us);
        ivg_conclude(doctor, IVG_OK, NULL, "");
}

void ivg_check_copies(struct ivg_doctor *doctor)
{
        if (!step_reached(doctor, STEP_COPIES, "copies-fail"))
                return;
        ivg_seen(doctor, "%u MiB there and back, every word right: up %.2f GB/s, down %.2f GB/s",
                 IVG_WALK_COPY_BYTES >> 20, doctor->walk->up_bytes_per_s / 1e9, doctor->walk->down_bytes_per_s / 1e9);
        ivg_conclude(doctor, IVG_OK, NULL, "");
}
