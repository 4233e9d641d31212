/* Peer access: which context's kernels may reach which other context's device memory. */
#include "softgpu.h"

SG_ENTRY(cuDeviceCanAccessPeer, int *out, CUdevice ordinal, CUdevice peer_ordinal)
{
        struct sg_device *device, *peer;
        CUresult result = sg_device_find(ordinal, &device);
        if (result == CUDA_SUCCESS)
                result = sg_device_find(peer_ordinal, &peer);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = device != peer; /* all soft devices share the host's memory */
        return CUDA_SUCCESS;
}

SG_ENTRY(cuDeviceGetP2PAttribute, int *out, CUdevice_P2PAttribute attribute, CUdevice source, CUdevice destination)
{
        struct sg_device *first, *second;
        CUresult result = sg_device_find(source, &first);
        if (result == CUDA_SUCCESS)
                result = sg_device_find(destination, &second);
        if (result != CUDA_SUCCESS)
                return result;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (first == second)
                return CUDA_ERROR_INVALID_DEVICE;
        switch (attribute) {
        case CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK:
        case CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED:
                *out = 0;
                return CUDA_SUCCESS;
        case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED:
        case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED:
                *out = 1;
                return CUDA_SUCCESS;
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
}

static CUresult sg_peer_pair(CUcontext handle, struct sg_context **mine, struct sg_context **peer)
{
        const CUresult result = sg_context_current(mine);
        if (result != CUDA_SUCCESS)
                return result;
        return sg_context_lookup(handle, peer);
}

SG_ENTRY(cuCtxEnablePeerAccess, CUcontext handle, unsigned flags)
{
        struct sg_context *context, *peer;
        CUresult result = sg_peer_pair(handle, &context, &peer);
        if (result != CUDA_SUCCESS)
                return result;
        if (flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (context == peer)
                return CUDA_ERROR_INVALID_CONTEXT;
        if (context->device == peer->device)
                return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
        pthread_mutex_lock(&sg_memory_lock);
        for (unsigned i = 0; i < context->peer_count; i++)
                if (context->peers[i] == peer)
                        result = CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
        if (result == CUDA_SUCCESS && context->peer_count == SG_PEERS_MAX)
                result = CUDA_ERROR_TOO_MANY_PEERS;
        if (result == CUDA_SUCCESS) {
                context->peers[context->peer_count++] = peer;
                sg_registry_changed();
        }
        pthread_mutex_unlock(&sg_memory_lock);
        return result;
}

SG_ENTRY(cuCtxDisablePeerAccess, CUcontext handle)
{
        struct sg_context *context, *peer;
        CUresult result = sg_peer_pair(handle, &context, &peer);
        if (result != CUDA_SUCCESS)
                return result;
        result = CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
        pthread_mutex_lock(&sg_memory_lock);
        for (unsigned i = 0; i < context->peer_count; i++)
                if (context->peers[i] == peer) {
                        context->peers[i] = context->peers[--context->peer_count];
                        sg_registry_changed();
                        result = CUDA_SUCCESS;
                        break;
                }
        pthread_mutex_unlock(&sg_memory_lock);
        return result;
}
