/* Finds the libcuda.so.1 that executors are to load, without loading it here: a child process does and tells.
 *
 * Whether the driver works is the executor's to find out: starting one may take seconds, and ivgpud listens at once.
 * Our own libcuda.so.1 is refused wherever it lies: an executor that loaded it would call itself. */
#ifndef IVGPUD_DRIVER_FIND_H
#define IVGPUD_DRIVER_FIND_H

#include "ivgpu/region.h"

#define IVG_DRIVER_FIND_MS 5000u /* a library is loaded, no device is touched */
#define IVG_DRIVER_PATH_BYTES 4096u

/* `path`: the one to look at; NULL: as the dynamic linker finds it, then the usual folders. Fails: -ENODEV with what
 * each attempt said, -ETIMEDOUT, -errno. Callers: a process without threads. */
int ivg_driver_find(const char *path, char found[IVG_DRIVER_PATH_BYTES], struct ivg_error *error);
/* True when the file is our own shim. */
bool ivg_driver_is_shim(const char *path);

/* "FOLDER/../lib/ivgpu-host/metrics.so" and the like, FOLDER being that of this program's file. -errno. */
int ivg_path_beside_program(const char *relative, char path[IVG_DRIVER_PATH_BYTES]);
#define IVG_SOFTGPU_BESIDE "../lib/ivgpu-host/softgpu/libcuda.so.1" /* the soft GPU, in that way */
/* A program that ivgpud starts: beside it, as in a build tree, or where it is installed, ../lib/ivgpu-host. -errno. */
int ivg_path_of_helper(const char *name, char path[IVG_DRIVER_PATH_BYTES]);

#endif
