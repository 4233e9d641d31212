/* Where a device's multiprocessors lie, for cuBLASLt (ivgpu/layout_table.h): asked of the host once for each device. */
#include "layout.h"
#include "context.h"
#include "cuda_api.h"
#include "guest_send.h"
#include <stdlib.h>
#include <string.h>

static struct {
        pthread_mutex_t lock; /* asked when a library begins with a device, not before each kernel */
        struct ivg_wire_device_layout of[IVG_DEVICES_MAX];
        bool known[IVG_DEVICES_MAX];
} layouts = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The host's answer, which is checked here. One that there is none is not kept: it costs who asks again a trip. */
static CUresult fetch(struct ivg_wire_device_layout *layout)
{
        const CUresult result = ivg_send_ivgDeviceLayout(layout);

        if (result == CUDA_SUCCESS && (layout->pairs == 0 || layout->pairs > IVG_LAYOUT_PAIRS_MAX))
                return CUDA_ERROR_NOT_SUPPORTED;
        return result;
}

static CUresult device_layout(int device, struct ivg_wire_device_layout *layout)
{
        CUresult result = CUDA_SUCCESS;

        if (device < 0 || device >= (int)IVG_DEVICES_MAX)
                return CUDA_ERROR_INVALID_DEVICE;
        pthread_mutex_lock(&layouts.lock);
        if (!layouts.known[device])
                result = fetch(&layouts.of[device]);
        layouts.known[device] = result == CUDA_SUCCESS;
        *layout = layouts.of[device];
        pthread_mutex_unlock(&layouts.lock);
        return result;
}

CUresult ivg_layout_entry_get(uint8_t **place, uint8_t **group)
{
        struct ivg_wire_device_layout layout;
        struct ivg_object *context;
        CUresult result = ivg_context_require(&context);

        if (result == CUDA_SUCCESS && (place == NULL || group == NULL))
                result = CUDA_ERROR_INVALID_VALUE;
        if (result == CUDA_SUCCESS)
                result = device_layout((int)context->device, &layout);
        if (result != CUDA_SUCCESS)
                return result;
        *place = malloc(layout.pairs);
        *group = malloc(layout.pairs);
        if (*place == NULL || *group == NULL) {
                free(*place);
                free(*group);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        memcpy(*place, layout.place, layout.pairs);
        memcpy(*group, layout.group, layout.pairs);
        return CUDA_SUCCESS;
}

CUresult ivg_layout_entry_free(uint8_t *place, uint8_t *group)
{
        free(place);
        free(group);
        return CUDA_SUCCESS;
}
