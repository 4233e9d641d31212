/* Memory of cuMemCreate: it belongs to no context, and the driver frees it when the last number, mapping and descriptor
 * is gone. Counted here as long, so that a guest that gives its number back while a mapping stays is seen to hold it.
 *
 * A chained hash by the driver's handle, under one mutex: these calls are milliseconds in the driver. */
#include "exec_internal.h"
#include "vram.h"
#include <stdlib.h>

#define PHYSICAL_BUCKETS 1024u

struct ivg_physical {
        struct ivg_physical *next;
        uint64_t handle, bytes;
        int32_t device;
        uint32_t holders; /* numbers and mappings */
};

static pthread_mutex_t physical_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct ivg_physical *buckets[PHYSICAL_BUCKETS];

static struct ivg_physical **find(uint64_t handle)
{
        struct ivg_physical **link = &buckets[(handle * 0x9e3779b97f4a7c15ull) >> 54];

        while (*link && (*link)->handle != handle)
                link = &(*link)->next;
        return link;
}

bool ivg_physical_add(struct ivg_exec *exec, uint64_t handle, uint64_t bytes, int32_t device)
{
        struct ivg_physical **link, *physical;
        bool is_new = false;

        pthread_mutex_lock(&physical_mutex);
        link = find(handle);
        physical = *link;
        if (!physical) {
                physical = calloc(1, sizeof(*physical));
                if (physical)
                        *physical = (struct ivg_physical){.handle = handle, .bytes = bytes, .device = device};
                *link = physical;
                is_new = physical != NULL;
        }
        if (physical)
                physical->holders++; /* imported into the process that made it, or twice: one memory */
        pthread_mutex_unlock(&physical_mutex);
        if (is_new)
                ivg_ranges_count(exec->ranges, device, bytes, true);
        return physical != NULL;
}

struct ivg_physical *ivg_physical_hold(struct ivg_exec *exec, uint64_t handle)
{
        struct ivg_physical *physical;

        (void)exec;
        pthread_mutex_lock(&physical_mutex);
        physical = *find(handle);
        if (physical)
                physical->holders++;
        pthread_mutex_unlock(&physical_mutex);
        return physical;
}

void ivg_physical_let_go(struct ivg_exec *exec, struct ivg_physical *physical)
{
        bool last;

        pthread_mutex_lock(&physical_mutex);
        last = --physical->holders == 0;
        if (last)
                *find(physical->handle) = physical->next;
        pthread_mutex_unlock(&physical_mutex);
        if (last) {
                ivg_ranges_count(exec->ranges, physical->device, physical->bytes, false);
                ivg_vram_give(physical->device, physical->bytes);
                free(physical);
        }
}

void ivg_physical_release(struct ivg_exec *exec, uint64_t handle)
{
        struct ivg_physical *physical;

        pthread_mutex_lock(&physical_mutex);
        physical = *find(handle);
        pthread_mutex_unlock(&physical_mutex);
        if (physical) /* alive: the number that the caller has just taken out holds it */
                ivg_physical_let_go(exec, physical);
}
