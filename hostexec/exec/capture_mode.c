/* The driver's capture rules know operating-system threads: each has an interaction mode, a capture has the thread that
 * began it, and what is forbidden while one is under way depends on both.
 *
 * So while a guest process captures, all its calls run on lanes, one thread for each guest thread, in the guest
 * thread's mode. Calls that were sent while nothing captured run in mode RELAXED wherever they run: they may meet a
 * capture here that the program began later, and must not spoil it. */
#include "exec_internal.h"

_Thread_local uint32_t ivg_thread_captures;

void ivg_capture_mode_enter(struct ivg_exec *exec, uint32_t mode)
{
        static _Thread_local uint32_t current = CU_STREAM_CAPTURE_MODE_GLOBAL; /* the driver's initial one */
        CUstreamCaptureMode wanted = (CUstreamCaptureMode)mode;

        if (__builtin_expect(current == mode, 1) || !exec->driver.cuThreadExchangeStreamCaptureMode)
                return;
        if (exec->driver.cuThreadExchangeStreamCaptureMode(&wanted) == CUDA_SUCCESS)
                current = mode;
}

bool ivg_capture_under_way(struct ivg_exec *exec, CUstream stream)
{
        CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;

        /* Relaxed: a capture that another guest thread begins at this moment is concurrent in the program too. */
        if (ivg_load_relaxed_u32(&exec->captures_begun) == 0)
                return false;
        return exec->driver.cuStreamIsCapturing(stream, &status) == CUDA_SUCCESS &&
               status != CU_STREAM_CAPTURE_STATUS_NONE;
}
