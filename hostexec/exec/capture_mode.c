/* The driver's capture rules know operating-system threads: each has an interaction mode, a capture has the thread that
 * began it, and what is forbidden while one is under way depends on both.
 *
 * So while a guest process captures, all its calls run on lanes, one thread for each guest thread, in the guest
 * thread's mode. Calls that were sent while nothing captured run in mode RELAXED wherever they run: they may meet a
 * capture here that the program began later, and must not spoil it. So do the executor's own calls, between those of
 * the program: asking an event, or making a stream, would end a capture that is global. */
#include "exec_internal.h"

_Thread_local uint32_t ivg_thread_captures;

_Thread_local uint32_t ivg_thread_capture_mode = CU_STREAM_CAPTURE_MODE_GLOBAL; /* the driver's initial one */

void ivg_capture_mode_change(struct ivg_exec *exec, uint32_t mode)
{
        CUstreamCaptureMode wanted = (CUstreamCaptureMode)mode;

        if (!exec->driver.cuThreadExchangeStreamCaptureMode)
                return;
        if (exec->driver.cuThreadExchangeStreamCaptureMode(&wanted) == CUDA_SUCCESS)
                ivg_thread_capture_mode = mode;
}

uint32_t ivg_capture_mode_relax(struct ivg_exec *exec)
{
        const uint32_t before = ivg_thread_capture_mode;

        ivg_capture_mode_enter(exec, CU_STREAM_CAPTURE_MODE_RELAXED);
        return before;
}

bool ivg_capture_under_way(struct ivg_exec *exec, CUstream stream)
{
        CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
        CUresult result;

        /* Relaxed: a capture that another guest thread begins at this moment is concurrent in the program too. */
        if (ivg_load_relaxed_u32(&exec->captures_begun) == 0)
                return false;
        result = exec->driver.cuStreamIsCapturing(stream, &status);
        /* The legacy stream: a stream that would wait for it captures. */
        return result == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT ||
               (result == CUDA_SUCCESS && status != CU_STREAM_CAPTURE_STATUS_NONE);
}
