/* Attributes of kernel nodes. */
#include "cuda_api.h"
#include "guest_send.h"
#include "launch.h"

static CUresult begin(CUgraphNode handle, const void *value, const struct ivg_object **node)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_require(&context);

        if (result != CUDA_SUCCESS)
                return result;
        *node = ivg_object_of(IVG_KIND_GRAPH_NODE, handle);
        return *node == NULL || value == NULL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

/* Events are of launches, not of nodes; the others hold no handles. */
static CUresult check(CUlaunchAttribute *attribute)
{
        if (attribute->id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT ||
            attribute->id == CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT)
                return CUDA_ERROR_INVALID_VALUE;
        return ivg_launch_attribute(attribute);
}

CUresult cuGraphKernelNodeGetAttribute(CUgraphNode hNode, CUkernelNodeAttrID attr, CUkernelNodeAttrValue *value_out)
{
        CUlaunchAttribute attribute = {.id = attr};
        const struct ivg_object *node;
        CUresult result = begin(hNode, value_out, &node);

        if (result == CUDA_SUCCESS)
                result = check(&attribute);
        return result == CUDA_SUCCESS ? ivg_send_cuGraphKernelNodeGetAttribute(node->id, (int32_t)attr, value_out)
                                      : result;
}

CUresult cuGraphKernelNodeSetAttribute(CUgraphNode hNode, CUkernelNodeAttrID attr, const CUkernelNodeAttrValue *value)
{
        CUlaunchAttribute attribute = {.id = attr};
        const struct ivg_object *node;
        CUresult result = begin(hNode, value, &node);

        if (result == CUDA_SUCCESS) {
                attribute.value = *value;
                result = check(&attribute);
        }
        return result == CUDA_SUCCESS
                       ? ivg_send_cuGraphKernelNodeSetAttribute(node->id, (int32_t)attr, &attribute.value)
                       : result;
}
