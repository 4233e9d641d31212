/* A program's way, walked by a child: our libcuda.so.1, channel, executor, driver, GPU and back. What it learns lies in
 * memory that parent and child share, so that a child that dies or hangs has told how far it got. */
#ifndef IVG_DOCTOR_PATH_WALK_H
#define IVG_DOCTOR_PATH_WALK_H

#include "doctor.h"
#include "driver_find.h"

#define IVG_WALK_ROUNDTRIPS 200u
#define IVG_WALK_KERNEL_WORDS (1u << 20)
#define IVG_WALK_COPY_BYTES (32u << 20)

enum step { STEP_NONE, STEP_LOADED, STEP_STARTED, STEP_GPU, STEP_ROUNDTRIP, STEP_KERNEL, STEP_COPIES };

struct ivg_path_walk {
        enum step done; /* the last that came to its end */
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

/* The child's, for ivg_child_call(): `argument` is a struct ivg_path_walk with `shim` and `channel` filled. */
void ivg_path_walk(void *argument);

#endif
