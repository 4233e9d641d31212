/* Options of module loads and links: numbers from the guest, logs in private memory.
 *
 * An option's value is a pointer-sized word that the driver may take for an address. Only options whose value is a
 * number pass; logs are buffers of this process, copied to the guest afterwards. */
#ifndef IVG_EXEC_JIT_H
#define IVG_EXEC_JIT_H

#include "exec.h"

#define IVG_JIT_OPTIONS_MAX 72u /* 64 of the table's row, and the logs, the time, and what a load adds */
#define IVG_JIT_LOG_BYTES_MAX (1u << 20)

struct ivg_jit {
        CUjit_option options[IVG_JIT_OPTIONS_MAX];
        void *values[IVG_JIT_OPTIONS_MAX];
        uint32_t count;
        uint32_t wall_time_at, threads_at; /* places of options that the driver answers in; UINT32_MAX: not there */
        char *info_log, *error_log;        /* NUL-terminated; NULL: not wanted */
        uint32_t info_log_bytes, error_log_bytes;
};

/* CUDA_ERROR_INVALID_VALUE or NOT_SUPPORTED for an option that may not pass. */
CUresult ivg_jit_begin(struct ivg_jit *jit, const struct ivg_wire_jit_option *options, uint32_t count);
/* Buffers that live at least as long as the driver may write to them; zeroed by the caller. */
void ivg_jit_add_logs(struct ivg_jit *jit, char *info_log, uint32_t info_bytes, char *error_log, uint32_t error_bytes);
float ivg_jit_wall_time(const struct ivg_jit *jit); /* milliseconds; 0 when not asked */
uint32_t ivg_jit_threads_per_block(const struct ivg_jit *jit);

/* Copies a log into the guest's memory, with its NUL. Returns its length without. */
uint32_t ivg_jit_copy_log(void *target, uint32_t target_bytes, const char *log, uint32_t log_bytes);

/* An image whose own lengths stay inside `bytes`, and that holds no addresses: a fatbin, an ELF file or text that ends
 * with NUL. The driver is told no length, so this must hold before it looks. */
bool ivg_image_contained(const void *image, uint32_t bytes);

/* Parts of a device-linked image lie at multiples of this. */
#define IVG_IMAGE_PART_ALIGNMENT 16u

/* False: no kernel of this contained image can print on a device of `capability` (90: 9.0). In doubt true. */
bool ivg_image_prints(const void *image, uint64_t bytes, uint32_t capability);
/* Notes in the completion word IVG_MAY_PRINT when a loaded image, or a part of it, may print. Any thread. */
void ivg_image_note_printing(struct ivg_exec *exec, const void *image, uint64_t bytes, const uint64_t *parts,
                             uint32_t parts_count);
bool ivg_exec_may_print(const struct ivg_exec *exec); /* whether one was noted */

#endif
