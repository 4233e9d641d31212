/* Addresses that the program reserves, and memory mapped there.
 *
 * A reservation is address space without access. A mapping is an allocation of the registry; when its last reference
 * goes, which may be a running kernel's, its addresses are without access again. Until then they stay taken, so that a
 * late end cannot hit what was mapped there next. */
#include <stdlib.h>
#include <sys/mman.h>

#include "softgpu.h"

struct sg_reservation {
        struct sg_reservation *next;
        uint64_t start;
        size_t bytes;
        struct sg_allocation *mappings; /* those that have not ended, in the registry or not */
};
static struct sg_reservation *sg_reservations; /* under sg_memory_lock */

static bool sg_inside(uint64_t start, size_t bytes, uint64_t address, size_t length)
{
        return address >= start && length <= bytes && address - start <= bytes - length;
}

/* The lock is held. */
static struct sg_reservation *sg_reservation_of(uint64_t address, size_t bytes)
{
        struct sg_reservation *reservation = sg_reservations;
        while (reservation != NULL && !sg_inside(reservation->start, reservation->bytes, address, bytes))
                reservation = reservation->next;
        return reservation;
}

bool sg_address_is_reserved(uint64_t address, size_t bytes)
{
        bool touches = false;
        pthread_mutex_lock(&sg_memory_lock);
        for (struct sg_reservation *r = sg_reservations; r != NULL && !touches; r = r->next)
                touches = address < r->start + r->bytes && (address >= r->start || bytes > r->start - address);
        pthread_mutex_unlock(&sg_memory_lock);
        return touches;
}

/* ---- reservations ---- */

/* Without access, aligned; where the program wished if that is free. */
static void *sg_addresses_take(size_t bytes, size_t alignment, uint64_t wish)
{
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        if (wish != 0 && wish % alignment == 0) {
                void *got = mmap(sg_pointer(wish), bytes, PROT_NONE, flags | MAP_FIXED_NOREPLACE, -1, 0);
                if (got == sg_pointer(wish))
                        return got;
                if (got != MAP_FAILED)
                        munmap(got, bytes);
        }
        if (bytes > SIZE_MAX - alignment)
                return NULL;
        char *wide = mmap(NULL, bytes + alignment, PROT_NONE, flags, -1, 0);
        if (wide == MAP_FAILED)
                return NULL;
        char *start = sg_pointer((sg_address(wide) + alignment - 1) & ~(uint64_t)(alignment - 1));
        if (start != wide)
                munmap(wide, (size_t)(start - wide));
        if (start + bytes != wide + bytes + alignment)
                munmap(start + bytes, (size_t)(wide + bytes + alignment - (start + bytes)));
        return start;
}

SG_ENTRY(cuMemAddressReserve, CUdeviceptr *out, size_t bytes, size_t alignment, CUdeviceptr wish,
         unsigned long long flags)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        if (out == NULL || bytes == 0 || bytes % SG_MAPPING_BYTES != 0 || (alignment & (alignment - 1)) != 0 ||
            flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_reservation *reservation = calloc(1, sizeof(*reservation));
        if (reservation == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        void *start = sg_addresses_take(bytes, alignment > SG_MAPPING_BYTES ? alignment : SG_MAPPING_BYTES, wish);
        if (start == NULL) {
                free(reservation);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        reservation->start = sg_address(start);
        reservation->bytes = bytes;
        pthread_mutex_lock(&sg_memory_lock);
        reservation->next = sg_reservations;
        sg_reservations = reservation;
        pthread_mutex_unlock(&sg_memory_lock);
        *out = reservation->start;
        return CUDA_SUCCESS;
}

SG_ENTRY(cuMemAddressFree, CUdeviceptr address, size_t bytes)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        pthread_mutex_lock(&sg_memory_lock);
        struct sg_reservation **link = &sg_reservations;
        while (*link != NULL && ((*link)->start != address || (*link)->bytes != bytes))
                link = &(*link)->next;
        struct sg_reservation *reservation = *link;
        if (reservation != NULL && reservation->mappings != NULL)
                reservation = NULL;
        if (reservation != NULL)
                *link = reservation->next;
        pthread_mutex_unlock(&sg_memory_lock);
        if (reservation == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        munmap(sg_pointer(address), bytes);
        free(reservation);
        return CUDA_SUCCESS;
}

/* ---- mappings ---- */

void sg_mapping_end(const struct sg_allocation *mapping)
{
        struct sg_physical *physical = mapping->physical;
        (void)mmap(sg_pointer(mapping->start), mapping->map_bytes, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        pthread_mutex_lock(&sg_memory_lock);
        struct sg_allocation **link = &sg_reservation_of(mapping->start, mapping->map_bytes)->mappings;
        while (*link != mapping)
                link = &(*link)->next_mapping;
        *link = mapping->next_mapping;
        const bool last = sg_physical_drop_locked(physical, &physical->mappings);
        pthread_mutex_unlock(&sg_memory_lock);
        if (last)
                sg_physical_end(physical);
}

static bool sg_mapping_begin(struct sg_allocation *mapping)
{
        pthread_mutex_lock(&sg_memory_lock);
        struct sg_reservation *reservation = sg_reservation_of(mapping->start, mapping->bytes);
        bool fits = reservation != NULL && mapping->physical->handles != 0;
        for (const struct sg_allocation *other = fits ? reservation->mappings : NULL; other != NULL && fits;
             other = other->next_mapping)
                fits = mapping->start >= other->start + other->bytes || other->start >= mapping->start + mapping->bytes;
        if (fits) {
                mapping->next_mapping = reservation->mappings;
                reservation->mappings = mapping;
                mapping->physical->mappings++;
        }
        pthread_mutex_unlock(&sg_memory_lock);
        return fits;
}

SG_ENTRY(cuMemMap, CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
         unsigned long long flags)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        struct sg_physical *physical = sg_physical_of(handle);
        if (physical == NULL || bytes == 0 || bytes % SG_MAPPING_BYTES != 0 || address % SG_MAPPING_BYTES != 0 ||
            offset != 0 || bytes > physical->bytes || flags != 0)
                return CUDA_ERROR_INVALID_VALUE;
        struct sg_allocation *mapping = calloc(1, sizeof(*mapping));
        if (mapping == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        mapping->start = address;
        mapping->bytes = mapping->map_bytes = bytes;
        mapping->kind = SG_MEMORY_MAPPED;
        mapping->device = physical->device;
        mapping->physical = physical;
        atomic_init(&mapping->references, 1);
        if (!sg_mapping_begin(mapping)) {
                free(mapping);
                return CUDA_ERROR_INVALID_VALUE;
        }
        CUresult result = CUDA_SUCCESS;
        if (mmap(sg_pointer(address), bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, physical->fd, 0) ==
            MAP_FAILED)
                result = CUDA_ERROR_OUT_OF_MEMORY;
        if (result == CUDA_SUCCESS)
                result = sg_registry_insert(mapping);
        if (result != CUDA_SUCCESS)
                sg_allocation_put(mapping); /* and so sg_mapping_end */
        return result;
}

/* True when the range consists of whole mappings in a row. `visit` is called for each, under the lock. */
static bool sg_mappings_visit(uint64_t address, size_t bytes,
                              void (*visit)(struct sg_allocation *mapping, const void *argument), const void *argument)
{
        uint64_t at = address;
        bool whole = true;
        while (whole && at - address < bytes) {
                const struct sg_allocation *mapping = sg_registry_at_locked(at);
                whole = mapping != NULL && mapping->kind == SG_MEMORY_MAPPED && mapping->start == at;
                at += whole ? mapping->bytes : 0;
        }
        whole = whole && bytes != 0 && at - address == bytes;
        for (at = address; whole && visit != NULL && at - address < bytes;) {
                struct sg_allocation *mapping = sg_registry_at_locked(at);
                visit(mapping, argument);
                at += mapping->bytes;
        }
        return whole;
}

SG_ENTRY(cuMemUnmap, CUdeviceptr address, size_t bytes)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        pthread_mutex_lock(&sg_memory_lock);
        const bool whole = sg_mappings_visit(address, bytes, NULL, NULL);
        pthread_mutex_unlock(&sg_memory_lock);
        if (!whole)
                return CUDA_ERROR_INVALID_VALUE;
        sg_contexts_drain(); /* before it leaves the registry: work that is queued still takes its map from there */
        for (uint64_t at = address; at - address < bytes;) {
                struct sg_allocation *mapping = sg_registry_take(at, 1u << SG_MEMORY_MAPPED);
                if (mapping == NULL) /* another thread unmapped it meanwhile */
                        return CUDA_ERROR_INVALID_VALUE;
                at += mapping->bytes;
                sg_contexts_forget_maps();
                sg_allocation_put(mapping);
        }
        return CUDA_SUCCESS;
}

SG_ENTRY(cuMemRetainAllocationHandle, CUmemGenericAllocationHandle *out, void *pointer)
{
        const CUresult ready = sg_ready();
        if (ready != CUDA_SUCCESS)
                return ready;
        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_lock(&sg_memory_lock);
        const struct sg_allocation *mapping = sg_registry_at_locked(sg_address(pointer));
        struct sg_physical *physical = mapping != NULL && mapping->kind == SG_MEMORY_MAPPED ? mapping->physical : NULL;
        if (physical != NULL)
                physical->handles++;
        pthread_mutex_unlock(&sg_memory_lock);
        if (physical == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        *out = (CUmemGenericAllocationHandle)sg_address(physical);
        return CUDA_SUCCESS;
}

/* ---- access ---- */

struct sg_access_change {
        int device;
        unsigned flags;
};

static void sg_access_set(struct sg_allocation *mapping, const void *argument)
{
        const struct sg_access_change *change = argument;
        mapping->access[change->device] = (uint8_t)change->flags;
}

SG_ENTRY(cuMemSetAccess, CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access, size_t count)
{
        CUresult result = sg_ready();
        if (result == CUDA_SUCCESS && (access == NULL || count == 0))
                result = CUDA_ERROR_INVALID_VALUE;
        for (size_t i = 0; i < count && result == CUDA_SUCCESS; i++) {
                struct sg_device *device;
                if (access[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
                    (access[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE &&
                     access[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READ &&
                     access[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE))
                        result = CUDA_ERROR_INVALID_VALUE;
                else
                        result = sg_device_find(access[i].location.id, &device);
        }
        if (result != CUDA_SUCCESS)
                return result;
        sg_contexts_drain(); /* work given before sees the access of before */
        pthread_mutex_lock(&sg_memory_lock);
        for (size_t i = 0; i < count && result == CUDA_SUCCESS; i++) {
                const struct sg_access_change change = {access[i].location.id, access[i].flags};
                if (!sg_mappings_visit(address, bytes, sg_access_set, &change))
                        result = CUDA_ERROR_INVALID_VALUE;
        }
        sg_registry_changed();
        pthread_mutex_unlock(&sg_memory_lock);
        return result;
}

SG_ENTRY(cuMemGetAccess, unsigned long long *out, const CUmemLocation *location, CUdeviceptr address)
{
        struct sg_device *device;
        if (out == NULL || location == NULL || location->type != CU_MEM_LOCATION_TYPE_DEVICE)
                return sg_ready() != CUDA_SUCCESS ? CUDA_ERROR_NOT_INITIALIZED : CUDA_ERROR_INVALID_VALUE;
        const CUresult result = sg_device_find(location->id, &device);
        if (result != CUDA_SUCCESS)
                return result;
        pthread_mutex_lock(&sg_memory_lock);
        const struct sg_allocation *mapping = sg_registry_at_locked(address);
        const bool mapped = mapping != NULL && mapping->kind == SG_MEMORY_MAPPED;
        if (mapped)
                *out = mapping->access[device->ordinal];
        pthread_mutex_unlock(&sg_memory_lock);
        return mapped ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* Copies are the devices' work, and some device must have the access; kernels are held to their own device's. */
bool sg_mappings_allow(uint64_t address, size_t bytes, bool *read_only)
{
        bool allowed = true;
        *read_only = false;
        pthread_mutex_lock(&sg_memory_lock);
        while (allowed && bytes != 0) {
                const struct sg_allocation *mapping = sg_registry_at_locked(address);
                unsigned most = 0;
                for (unsigned i = 0; mapping != NULL && i < SG_DEVICES_MAX; i++)
                        most = mapping->access[i] > most ? mapping->access[i] : most;
                allowed = mapping != NULL && mapping->kind == SG_MEMORY_MAPPED && most != CU_MEM_ACCESS_FLAGS_PROT_NONE;
                if (!allowed)
                        break;
                const size_t left = mapping->bytes - (address - mapping->start);
                *read_only |= most == CU_MEM_ACCESS_FLAGS_PROT_READ;
                address += left;
                bytes -= bytes < left ? bytes : left;
        }
        pthread_mutex_unlock(&sg_memory_lock);
        return allowed;
}
