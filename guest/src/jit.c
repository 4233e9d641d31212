/* Options of a just-in-time compilation: which travel as numbers, which name buffers that are filled on the way back.
 */
#include "function.h"
#include <string.h>

static CUresult note_log(void *value, char **log)
{
        *log = value;
        return CUDA_SUCCESS;
}

static uint32_t log_bytes(void *value)
{
        const uintptr_t bytes = (uintptr_t)value & UINT32_MAX; /* an unsigned int in a pointer */
        return bytes < IVG_JIT_LOG_BYTES_MAX ? (uint32_t)bytes : IVG_JIT_LOG_BYTES_MAX;
}

static CUresult note_number(struct ivg_jit *jit, CUjit_option option, void *value)
{
        jit->wire[jit->wire_count++] = (struct ivg_wire_jit_option){
                .option = (uint32_t)option,
                .value = (uintptr_t)value & UINT32_MAX,
        };
        return CUDA_SUCCESS;
}

/* CUDA passes option values in the pointers themselves, and some answers come back in their places. */
static CUresult parse_option(struct ivg_jit *jit, CUjit_option option, void **value)
{
        switch (option) {
        case CU_JIT_WALL_TIME:
                jit->wall_time = value;
                return note_number(jit, option, NULL);
        case CU_JIT_THREADS_PER_BLOCK: /* in: the least wanted; out: what the result was made for */
                jit->threads = value;
                return note_number(jit, option, *value);
        case CU_JIT_INFO_LOG_BUFFER:
                return note_log(*value, &jit->info_log);
        case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
                jit->info_bytes = log_bytes(*value);
                jit->info_used = value;
                return CUDA_SUCCESS;
        case CU_JIT_ERROR_LOG_BUFFER:
                return note_log(*value, &jit->error_log);
        case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
                jit->error_bytes = log_bytes(*value);
                jit->error_used = value;
                return CUDA_SUCCESS;
        case CU_JIT_GLOBAL_SYMBOL_NAMES:
        case CU_JIT_GLOBAL_SYMBOL_ADDRESSES:
        case CU_JIT_GLOBAL_SYMBOL_COUNT:
                return ivg_refuse("JIT option CU_JIT_GLOBAL_SYMBOL_*");
        case CU_JIT_REFERENCED_KERNEL_NAMES:
        case CU_JIT_REFERENCED_KERNEL_COUNT:
        case CU_JIT_REFERENCED_VARIABLE_NAMES:
        case CU_JIT_REFERENCED_VARIABLE_COUNT:
                return ivg_refuse("JIT option CU_JIT_REFERENCED_*");
        default:
                if ((unsigned int)option >= CU_JIT_NUM_OPTIONS)
                        return CUDA_ERROR_INVALID_VALUE;
                return note_number(jit, option, *value);
        }
}

CUresult ivg_jit_parse(struct ivg_jit *jit, unsigned int count, const CUjit_option *options, void **values)
{
        memset(jit, 0, sizeof *jit);
        if (count > 0 && (options == NULL || values == NULL))
                return CUDA_ERROR_INVALID_VALUE;
        if (count > IVG_JIT_OPTIONS_MAX)
                return CUDA_ERROR_INVALID_VALUE;
        for (unsigned int i = 0; i < count; i++) {
                const CUresult result = parse_option(jit, options[i], &values[i]);
                if (result != CUDA_SUCCESS)
                        return result;
        }
        /* A buffer without a size, or the other way round, holds nothing. */
        if (jit->info_log == NULL || jit->info_bytes == 0)
                jit->info_log = NULL;
        if (jit->error_log == NULL || jit->error_bytes == 0)
                jit->error_log = NULL;
        jit->info_bytes = jit->info_log != NULL ? jit->info_bytes : 0;
        jit->error_bytes = jit->error_log != NULL ? jit->error_bytes : 0;
        return CUDA_SUCCESS;
}

void ivg_jit_store_logs(const struct ivg_jit *jit, const struct ivg_jit_answer *answer)
{
        if (jit->info_used != NULL)
                *jit->info_used = (void *)(uintptr_t)answer->info_used;
        if (jit->error_used != NULL)
                *jit->error_used = (void *)(uintptr_t)answer->error_used;
}

void ivg_jit_store(const struct ivg_jit *jit, const struct ivg_jit_answer *answer)
{
        ivg_jit_store_logs(jit, answer);
        if (jit->threads != NULL && answer->threads != 0)
                *jit->threads = (void *)(uintptr_t)answer->threads;
        if (jit->wall_time != NULL) {
                uint32_t bits; /* a float in a pointer */
                memcpy(&bits, &answer->wall_time, sizeof bits);
                *jit->wall_time = (void *)(uintptr_t)bits;
        }
}
