/* A call's byte ranges, its room for answers, and its faults: what decoders and bodies ask for. */
#include "exec_internal.h"
#include "image_control.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* A private copy that lives as long as the call: behind this header, or, of large ones, a mapped file of memory. */
struct ivg_exec_temporary {
        struct ivg_exec_temporary *next;
        uint64_t bytes;
        int fd; /* -1: none */
        uint8_t *data;
        _Alignas(16) uint8_t own[];
};

CUresult ivg_exec_refuse(struct ivg_exec_call *call, enum ivg_ring_fault fault, uint32_t value)
{
        if (call->fault == IVG_FAULT_NONE) {
                call->fault = fault;
                call->fault_value = value;
        }
        return CUDA_ERROR_INVALID_VALUE;
}

void ivg_exec_temporaries_free(struct ivg_exec_call *call)
{
        while (call->temporaries) {
                struct ivg_exec_temporary *temporary = call->temporaries;

                call->temporaries = temporary->next;
                if (temporary->fd >= 0) {
                        munmap(temporary->data, temporary->bytes);
                        close(temporary->fd);
                }
                free(temporary);
        }
}

int ivg_exec_temporary_fd(const struct ivg_exec_call *call, const void *data)
{
        for (const struct ivg_exec_temporary *temporary = call->temporaries; temporary; temporary = temporary->next)
                if (temporary->data == data)
                        return temporary->fd;
        return -1;
}

/* Copies by writing: the pages are made full, not first empty. Then nobody can change them, this process included. */
static int file_fill(int fd, const uint8_t *source, uint64_t bytes)
{
        for (uint64_t done = 0; done < bytes;) {
                const ssize_t step = write(fd, source + done, bytes - done);

                if (step < 0 && errno == EINTR)
                        continue;
                if (step <= 0)
                        return -1;
                done += (uint64_t)step;
        }
        return fcntl(fd, F_ADD_SEALS, IVG_IMAGES_SEALS);
}

static bool temporary_file(struct ivg_exec_temporary *temporary, const uint8_t *source)
{
        void *data = MAP_FAILED;

        temporary->fd = memfd_create("ivgpu-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (temporary->fd >= 0 && file_fill(temporary->fd, source, temporary->bytes) == 0)
                data = mmap(NULL, temporary->bytes, PROT_READ, MAP_SHARED, temporary->fd, 0);
        if (data != MAP_FAILED) {
                temporary->data = data;
                return true;
        }
        if (temporary->fd >= 0)
                close(temporary->fd);
        return false;
}

/* A private copy of `bytes` bytes at `source`, which the guest may be changing. */
static const void *temporary_new(struct ivg_exec_call *call, const uint8_t *source, uint64_t bytes)
{
        const bool in_file = bytes >= IVG_TEMPORARY_FILE_BYTES_MIN;
        struct ivg_exec_temporary *temporary;
        uint64_t total = bytes;

        for (temporary = call->temporaries; temporary; temporary = temporary->next)
                total += temporary->bytes;
        if (total > IVG_TEMPORARY_BYTES_MAX)
                return NULL;
        temporary = malloc(sizeof(*temporary) + (in_file ? 0 : bytes));
        if (!temporary)
                return NULL;
        *temporary = (struct ivg_exec_temporary){
                .next = call->temporaries, .bytes = bytes, .fd = -1, .data = temporary->own};
        if (in_file && !temporary_file(temporary, source)) {
                free(temporary);
                return NULL;
        }
        if (!in_file)
                memcpy(temporary->own, source, bytes);
        call->temporaries = temporary;
        return temporary->data;
}

/* Where an arena range lies in this process, or NULL and a fault. */
static uint8_t *arena_range(struct ivg_exec_call *call, uint64_t offset, uint64_t bytes)
{
        struct ivg_exec *exec = call->exec;
        /* Relaxed: stored by ivgHello, an earlier call; lanes got it with their request. */
        uint8_t *arena = (uint8_t *)(uintptr_t)ivg_load_relaxed_u64(&exec->arena);

        if (!arena || !ivg_region_arena_owned(&exec->region, exec->channel, offset, bytes)) {
                ivg_exec_refuse(call, IVG_FAULT_ARENA, (uint32_t)offset);
                return NULL;
        }
        return arena + offset;
}

uint8_t *ivg_exec_arena(struct ivg_exec_call *call, uint64_t offset, uint64_t bytes)
{
        return arena_range(call, offset, bytes);
}

static bool inline_range(struct ivg_exec_call *call, const struct ivg_wire_range *range, const void **data)
{
        if (range->offset < sizeof(struct ivg_call_header) || range->offset > call->request_bytes ||
            range->bytes > call->request_bytes - range->offset) {
                ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, (uint32_t)range->offset);
                return false;
        }
        *data = call->request + range->offset;
        return true;
}

static bool null_range(struct ivg_exec_call *call, const struct ivg_wire_range *range)
{
        if (range->bytes != 0 || range->offset != 0) {
                ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, range->bytes);
                return false;
        }
        return true;
}

bool ivg_exec_range_in(struct ivg_exec_call *call, const struct ivg_wire_range *range, uint64_t bytes_max,
                       const void **data)
{
        const uint8_t *source;
        const void *copy;

        *data = NULL;
        if (range->bytes > bytes_max) {
                ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, range->bytes);
                return false;
        }
        switch (range->where) {
        case IVG_RANGE_NULL:
                return null_range(call, range);
        case IVG_RANGE_INLINE:
                return inline_range(call, range, data);
        case IVG_RANGE_ARENA:
                break;
        default:
                ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, range->where);
                return false;
        }
        source = arena_range(call, range->offset, range->bytes);
        if (!source)
                return false;
        copy = temporary_new(call, source, range->bytes);
        if (!copy) {
                ivg_log(IVG_LOG_ERROR, "no memory for a private copy of %u bytes", range->bytes);
                ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, range->bytes);
                return false;
        }
        ivg_exec_count(&call->exec->counters.arena_bytes_from_guest, &call->exec->host_channel->arena_bytes_from_guest,
                       range->bytes);
        *data = copy;
        return true;
}

bool ivg_exec_range_out(struct ivg_exec_call *call, const struct ivg_wire_range *range, uint64_t bytes_max, void **data)
{
        *data = NULL;
        if (range->bytes > bytes_max) {
                ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, range->bytes);
                return false;
        }
        if (range->where == IVG_RANGE_NULL)
                return null_range(call, range);
        if (range->where != IVG_RANGE_ARENA) {
                ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, range->where);
                return false;
        }
        *data = arena_range(call, range->offset, range->bytes);
        if (!*data)
                return false;
        ivg_exec_count(&call->exec->counters.arena_bytes_to_guest, &call->exec->host_channel->arena_bytes_to_guest,
                       range->bytes);
        return true;
}

void *ivg_exec_answer_room(struct ivg_exec_call *call, uint32_t bytes)
{
        const uint32_t start = (call->answer_bytes + 7u) & ~7u;

        if (start > IVG_ANSWER_AREA_BYTES || bytes > IVG_ANSWER_AREA_BYTES - start) {
                ivg_exec_refuse(call, IVG_FAULT_ARGUMENTS, bytes);
                return NULL;
        }
        /* The padding and the room are the guest's to read: no byte of an earlier answer may be left in them. */
        memset(call->answer + call->answer_bytes, 0, start + bytes - call->answer_bytes);
        call->answer_bytes = start + bytes;
        return call->answer + start;
}

const struct ivg_driver *ivg_exec_driver(const struct ivg_exec *exec)
{
        return &exec->driver;
}
