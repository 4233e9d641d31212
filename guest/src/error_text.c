/* Names and texts of every CUresult: answered without a connection. Texts are this project's words wherever programs do
 * not look for particular ones. */
#include "cuda_api.h"
#include "guest.h"

struct error_text {
        CUresult error;
        const char *name;
        const char *text;
};

#define ERROR_TEXT(error, text)     \
        {                           \
                error, #error, text \
        }
/* By ascending value: looked up by halving. */
static const struct error_text error_texts[] = {
        ERROR_TEXT(CUDA_SUCCESS, "no error"),
        ERROR_TEXT(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
        ERROR_TEXT(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
        ERROR_TEXT(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
        ERROR_TEXT(CUDA_ERROR_DEINITIALIZED, "driver shutting down"),
        ERROR_TEXT(CUDA_ERROR_PROFILER_DISABLED, "profiler disabled while using external profiling tool"),
        ERROR_TEXT(CUDA_ERROR_PROFILER_NOT_INITIALIZED, "profiler not initialized: call cuProfilerInitialize()"),
        ERROR_TEXT(CUDA_ERROR_PROFILER_ALREADY_STARTED, "profiler already started"),
        ERROR_TEXT(CUDA_ERROR_PROFILER_ALREADY_STOPPED, "profiler already stopped"),
        ERROR_TEXT(CUDA_ERROR_STUB_LIBRARY, "the library found is a stub, not a driver"),
        ERROR_TEXT(CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER, "the call needs a newer driver"),
        ERROR_TEXT(CUDA_ERROR_DEVICE_UNAVAILABLE, "CUDA-capable device(s) is/are busy or unavailable"),
        ERROR_TEXT(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
        ERROR_TEXT(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
        ERROR_TEXT(CUDA_ERROR_DEVICE_NOT_LICENSED, "the device has no valid licence"),
        ERROR_TEXT(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"),
        ERROR_TEXT(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
        ERROR_TEXT(CUDA_ERROR_CONTEXT_ALREADY_CURRENT, "context already current"),
        ERROR_TEXT(CUDA_ERROR_MAP_FAILED, "mapping of buffer object failed"),
        ERROR_TEXT(CUDA_ERROR_UNMAP_FAILED, "unmapping of buffer object failed"),
        ERROR_TEXT(CUDA_ERROR_ARRAY_IS_MAPPED, "array is mapped"),
        ERROR_TEXT(CUDA_ERROR_ALREADY_MAPPED, "resource already mapped"),
        ERROR_TEXT(CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"),
        ERROR_TEXT(CUDA_ERROR_ALREADY_ACQUIRED, "resource already acquired"),
        ERROR_TEXT(CUDA_ERROR_NOT_MAPPED, "resource not mapped"),
        ERROR_TEXT(CUDA_ERROR_NOT_MAPPED_AS_ARRAY, "resource not mapped as array"),
        ERROR_TEXT(CUDA_ERROR_NOT_MAPPED_AS_POINTER, "resource not mapped as pointer"),
        ERROR_TEXT(CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered"),
        ERROR_TEXT(CUDA_ERROR_UNSUPPORTED_LIMIT, "limit is not supported on this architecture"),
        ERROR_TEXT(CUDA_ERROR_CONTEXT_ALREADY_IN_USE, "context is already in use by another thread"),
        ERROR_TEXT(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "peer access is not supported between these two devices"),
        ERROR_TEXT(CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed"),
        ERROR_TEXT(CUDA_ERROR_INVALID_GRAPHICS_CONTEXT, "invalid OpenGL or DirectX context"),
        ERROR_TEXT(CUDA_ERROR_NVLINK_UNCORRECTABLE, "uncorrectable NVLink error detected during the execution"),
        ERROR_TEXT(CUDA_ERROR_JIT_COMPILER_NOT_FOUND, "PTX JIT compiler library not found"),
        ERROR_TEXT(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "the provided PTX was compiled with an unsupported toolchain."),
        ERROR_TEXT(CUDA_ERROR_JIT_COMPILATION_DISABLED, "PTX JIT compilation was disabled"),
        ERROR_TEXT(CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY, "the provided execution affinity is not supported"),
        ERROR_TEXT(CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC, "device-side synchronization is not supported here"),
        ERROR_TEXT(CUDA_ERROR_CONTAINED, "a contained error ended the work of this process"),
        ERROR_TEXT(CUDA_ERROR_INVALID_SOURCE, "device kernel source is invalid"),
        ERROR_TEXT(CUDA_ERROR_FILE_NOT_FOUND, "file not found"),
        ERROR_TEXT(CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND, "shared object symbol not found"),
        ERROR_TEXT(CUDA_ERROR_SHARED_OBJECT_INIT_FAILED, "shared object initialization failed"),
        ERROR_TEXT(CUDA_ERROR_OPERATING_SYSTEM, "OS call failed or operation not supported on this OS"),
        ERROR_TEXT(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
        ERROR_TEXT(CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state"),
        ERROR_TEXT(CUDA_ERROR_LOSSY_QUERY, "the query would lose part of the answer"),
        ERROR_TEXT(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
        ERROR_TEXT(CUDA_ERROR_NOT_READY, "device not ready"),
        ERROR_TEXT(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
        ERROR_TEXT(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
        ERROR_TEXT(CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated"),
        ERROR_TEXT(CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING, "launch uses incompatible texturing mode"),
        ERROR_TEXT(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "peer access is already enabled"),
        ERROR_TEXT(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "peer access has not been enabled"),
        ERROR_TEXT(CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, "cannot set while device is active in this process"),
        ERROR_TEXT(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
        ERROR_TEXT(CUDA_ERROR_ASSERT, "device-side assert triggered"),
        ERROR_TEXT(CUDA_ERROR_TOO_MANY_PEERS, "peer mapping resources exhausted"),
        ERROR_TEXT(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
                   "part or all of the requested memory range is already mapped"),
        ERROR_TEXT(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "pointer does not correspond to a registered memory region"),
        ERROR_TEXT(CUDA_ERROR_HARDWARE_STACK_ERROR, "hardware stack error"),
        ERROR_TEXT(CUDA_ERROR_ILLEGAL_INSTRUCTION, "an illegal instruction was encountered"),
        ERROR_TEXT(CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address"),
        ERROR_TEXT(CUDA_ERROR_INVALID_ADDRESS_SPACE, "operation not supported on global/shared address space"),
        ERROR_TEXT(CUDA_ERROR_INVALID_PC, "invalid program counter"),
        ERROR_TEXT(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
        ERROR_TEXT(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "too many blocks in cooperative launch"),
        ERROR_TEXT(CUDA_ERROR_TENSOR_MEMORY_LEAK, "a block exited without freeing all tensor memory"),
        ERROR_TEXT(CUDA_ERROR_NOT_PERMITTED, "operation not permitted"),
        ERROR_TEXT(CUDA_ERROR_NOT_SUPPORTED, "operation not supported"),
        ERROR_TEXT(CUDA_ERROR_SYSTEM_NOT_READY, "system not yet initialized"),
        ERROR_TEXT(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
                   "system has unsupported display driver / cuda driver combination"),
        ERROR_TEXT(CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE,
                   "forward compatibility was attempted on non supported HW"),
        ERROR_TEXT(CUDA_ERROR_MPS_CONNECTION_FAILED,
                   "MPS client failed to connect to the MPS control daemon or the MPS server"),
        ERROR_TEXT(CUDA_ERROR_MPS_RPC_FAILURE,
                   "the remote procedural call between the MPS server and the MPS client failed"),
        ERROR_TEXT(CUDA_ERROR_MPS_SERVER_NOT_READY, "MPS server is not ready to accept new MPS client requests"),
        ERROR_TEXT(CUDA_ERROR_MPS_MAX_CLIENTS_REACHED,
                   "the hardware resources required to create MPS client have been exhausted"),
        ERROR_TEXT(CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED,
                   "the hardware resources required to support device connections have been exhausted"),
        ERROR_TEXT(CUDA_ERROR_MPS_CLIENT_TERMINATED, "the MPS client has been terminated by the server"),
        ERROR_TEXT(CUDA_ERROR_CDP_NOT_SUPPORTED, "dynamic parallelism is not supported here"),
        ERROR_TEXT(CUDA_ERROR_CDP_VERSION_MISMATCH, "the program mixes versions of dynamic parallelism"),
        ERROR_TEXT(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"),
        ERROR_TEXT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"),
        ERROR_TEXT(CUDA_ERROR_STREAM_CAPTURE_MERGE, "operation would result in a merge of separate capture sequences"),
        ERROR_TEXT(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "capture was not ended in the same stream as it began"),
        ERROR_TEXT(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work"),
        ERROR_TEXT(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream"),
        ERROR_TEXT(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
                   "operation would make the legacy stream depend on a capturing blocking stream"),
        ERROR_TEXT(CUDA_ERROR_CAPTURED_EVENT,
                   "operation not permitted on an event last recorded in a capturing stream"),
        ERROR_TEXT(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,
                   "attempt to terminate a thread-local capture sequence from another thread"),
        ERROR_TEXT(CUDA_ERROR_TIMEOUT, "wait operation timed out"),
        ERROR_TEXT(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE,
                   "the graph update was not performed because it included changes which violated constraints specific "
                   "to instantiated graph update"),
        ERROR_TEXT(CUDA_ERROR_EXTERNAL_DEVICE, "an asynchronous error occurred in an external device"),
        ERROR_TEXT(CUDA_ERROR_INVALID_CLUSTER_SIZE, "the cluster size does not fit the kernel or the device"),
        ERROR_TEXT(CUDA_ERROR_FUNCTION_NOT_LOADED, "the function is not loaded"),
        ERROR_TEXT(CUDA_ERROR_INVALID_RESOURCE_TYPE, "the resource type does not fit the call"),
        ERROR_TEXT(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION, "the resources are too small or misconfigured"),
        ERROR_TEXT(CUDA_ERROR_KEY_ROTATION, "a key rotation was under way"),
        ERROR_TEXT(CUDA_ERROR_UNKNOWN, "unknown error"),
};

static const struct error_text *error_find(CUresult error)
{
        size_t low = 0, high = sizeof(error_texts) / sizeof(error_texts[0]);

        while (low < high) { /* halves: at most 7 turns */
                const size_t middle = low + (high - low) / 2;

                if (error_texts[middle].error == error)
                        return &error_texts[middle];
                if (error_texts[middle].error < error)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

CUresult cuGetErrorName(CUresult error, const char **pStr)
{
        const struct error_text *found = error_find(error);

        if (pStr == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *pStr = found != NULL ? found->name : NULL;
        return ivg_local("cuGetErrorName", found != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuGetErrorString(CUresult error, const char **pStr)
{
        const struct error_text *found = error_find(error);

        if (pStr == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *pStr = found != NULL ? found->text : NULL;
        return ivg_local("cuGetErrorString", found != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}
