/* Stream attributes. */
#include "softgpu.h"

static const CUstreamAttrID sg_hint_ids[SG_STREAM_HINTS] = {
        CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW,
        CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY,
        CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP,
        CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN,
};

/* Where a hint is kept; NULL for what is no stream attribute of this device. */
static CUstreamAttrValue *sg_hint_find(struct sg_stream *stream, CUstreamAttrID id)
{
        for (unsigned i = 0; i < SG_STREAM_HINTS; i++)
                if (sg_hint_ids[i] == id)
                        return &stream->hints[i];
        return NULL;
}

SG_ENTRY(cuStreamGetAttribute, CUstream handle, CUstreamAttrID id, CUstreamAttrValue *out)
{
        struct sg_stream *stream;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&sg_work_lock);
        const CUstreamAttrValue *hint = sg_hint_find(stream, id);
        if (out == NULL || (hint == NULL && id != CU_LAUNCH_ATTRIBUTE_PRIORITY))
                result = CUDA_ERROR_INVALID_VALUE;
        else if (hint != NULL)
                *out = *hint;
        else
                out->priority = stream->priority;
        pthread_mutex_unlock(&sg_work_lock);
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuStreamGetAttribute_ptsz, CUstream handle, CUstreamAttrID id, CUstreamAttrValue *out)
{
        return cuStreamGetAttribute(sg_per_thread(handle), id, out);
}

SG_ENTRY(cuStreamSetAttribute, CUstream handle, CUstreamAttrID id, const CUstreamAttrValue *value)
{
        struct sg_stream *stream;
        CUresult result = sg_stream_resolve(handle, &stream);
        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&sg_work_lock);
        CUstreamAttrValue *hint = sg_hint_find(stream, id);
        const bool is_priority = id == CU_LAUNCH_ATTRIBUTE_PRIORITY;
        if (value == NULL || (hint == NULL && !is_priority) ||
            (is_priority && (value->priority > 0 || value->priority < SG_PRIORITY_GREATEST)))
                result = CUDA_ERROR_INVALID_VALUE;
        else if (hint != NULL)
                *hint = *value;
        else
                stream->priority = value->priority;
        pthread_mutex_unlock(&sg_work_lock);
        sg_object_put(stream);
        return result;
}

SG_ENTRY(cuStreamSetAttribute_ptsz, CUstream handle, CUstreamAttrID id, const CUstreamAttrValue *value)
{
        return cuStreamSetAttribute(sg_per_thread(handle), id, value);
}

SG_ENTRY(cuStreamCopyAttributes, CUstream to_handle, CUstream from_handle)
{
        struct sg_stream *to, *from;
        CUresult result = sg_stream_resolve(to_handle, &to);
        if (result != CUDA_SUCCESS)
                return result;
        result = sg_stream_resolve(from_handle, &from);
        if (result == CUDA_SUCCESS) {
                pthread_mutex_lock(&sg_work_lock);
                for (unsigned i = 0; i < SG_STREAM_HINTS; i++)
                        to->hints[i] = from->hints[i];
                to->priority = from->priority;
                pthread_mutex_unlock(&sg_work_lock);
                sg_object_put(from);
        }
        sg_object_put(to);
        return result;
}

SG_ENTRY(cuStreamCopyAttributes_ptsz, CUstream to, CUstream from)
{
        return cuStreamCopyAttributes(sg_per_thread(to), sg_per_thread(from));
}
