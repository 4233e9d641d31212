/* See call_encode_fake.h: a guest's and an executor's header cannot be included in one file. */
#include "call_encode_fake.h"
#include "exec.h"
#include <stdlib.h>
#include <string.h>

uint8_t fake_arena[FAKE_ARENA_BYTES];
static struct ivg_driver driver;
static _Alignas(8) uint8_t answer_area[8192];

static CUresult answers_success(void)
{
        return CUDA_SUCCESS;
}

const struct ivg_driver *ivg_exec_driver(const struct ivg_exec *exec)
{
        (void)exec;
        return &driver;
}

CUresult ivg_handle_get(struct ivg_exec *exec, enum ivg_kind kind, ivg_id id, void **driver_handle)
{
        (void)exec;
        (void)kind;
        *driver_handle = (void *)(uintptr_t)id;
        return id == IVG_ID_NONE ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}

bool ivg_handle_put(struct ivg_exec_call *call, enum ivg_kind kind, ivg_id id, void *driver_handle)
{
        (void)call;
        (void)kind;
        (void)driver_handle;
        return id != IVG_ID_NONE;
}

bool ivg_handle_put_part(struct ivg_exec_call *call, enum ivg_kind kind, ivg_id id, void *driver_handle, ivg_id whole)
{
        (void)whole;
        return ivg_handle_put(call, kind, id, driver_handle);
}

bool ivg_graph_node_put(struct ivg_exec_call *call, ivg_id id, CUgraphNode node)
{
        return ivg_handle_put(call, IVG_KIND_GRAPH_NODE, id, node);
}

void *ivg_handle_remove(struct ivg_exec *exec, enum ivg_kind kind, ivg_id id)
{
        (void)exec;
        (void)kind;
        return (void *)(uintptr_t)id;
}

CUresult ivg_handle_stream(struct ivg_exec_call *call, ivg_id id, CUstream *stream)
{
        (void)call;
        *stream = (CUstream)(uintptr_t)id;
        return CUDA_SUCCESS;
}

CUresult ivg_handle_function(struct ivg_exec_call *call, ivg_id id, CUfunction *function)
{
        (void)call;
        *function = (CUfunction)(uintptr_t)id;
        return CUDA_SUCCESS;
}

static bool arena_range(struct ivg_exec_call *call, const struct ivg_wire_range *range, void **data)
{
        if (range->offset > FAKE_ARENA_BYTES || range->bytes > FAKE_ARENA_BYTES - range->offset) {
                call->fault = IVG_FAULT_ARENA;
                return false;
        }
        *data = fake_arena + range->offset;
        return true;
}

bool ivg_exec_range_in(struct ivg_exec_call *call, const struct ivg_wire_range *range, uint64_t bytes_max,
                       const void **data)
{
        void *memory;
        (void)bytes_max;
        if (range->where == IVG_RANGE_INLINE) {
                *data = call->request + range->offset;
                return true;
        }
        if (!arena_range(call, range, &memory))
                return false;
        *data = memory;
        return true;
}

bool ivg_exec_range_out(struct ivg_exec_call *call, const struct ivg_wire_range *range, uint64_t bytes_max, void **data)
{
        (void)bytes_max;
        return arena_range(call, range, data);
}

void *ivg_exec_answer_room(struct ivg_exec_call *call, uint32_t bytes)
{
        void *const room = call->answer + call->answer_bytes;
        const uint32_t padded = (bytes + 7u) & ~7u;
        if (padded > sizeof(answer_area) - call->answer_bytes) {
                call->fault = IVG_FAULT_ARGUMENTS;
                return NULL;
        }
        call->answer_bytes += padded;
        return room;
}

CUresult ivg_exec_device_range(struct ivg_exec_call *call, uint64_t address, uint64_t bytes)
{
        (void)call;
        (void)address;
        (void)bytes;
        return CUDA_SUCCESS;
}

CUresult ivg_exec_device_range_2d(struct ivg_exec_call *call, uint64_t address, uint64_t pitch, uint64_t row_bytes,
                                  uint64_t rows)
{
        (void)pitch;
        (void)rows;
        return ivg_exec_device_range(call, address, row_bytes);
}

CUresult ivg_exec_memory_add(struct ivg_exec_call *call, uint64_t address, uint64_t bytes)
{
        return ivg_exec_device_range(call, address, bytes);
}

bool ivg_exec_memory_known(struct ivg_exec_call *call, uint64_t address)
{
        return ivg_exec_device_range(call, address, 1) == CUDA_SUCCESS;
}

void ivg_exec_memory_remove(struct ivg_exec_call *call, uint64_t address)
{
        (void)call;
        (void)address;
}

struct fake_run fake_execute(uint16_t number, const uint8_t *request, uint32_t bytes)
{
        const struct ivg_call_descriptor *const descriptor = ivg_call_find(number);
        CUresult (*const answer)(void) = answers_success;
        for (size_t at = sizeof(void *); at < sizeof(driver); at += sizeof(answer))
                memcpy((char *)&driver + at, &answer, sizeof(answer));
        if (!descriptor || bytes < descriptor->request_bytes_min || bytes > descriptor->request_bytes_max)
                return (struct fake_run){.fault = IVG_FAULT_RECORD_HEADER, .name = descriptor ? descriptor->name : "?"};
        struct ivg_exec_call call = {.request = request, .request_bytes = bytes, .answer = answer_area};
        const CUresult result = descriptor->execute(&call);
        return (struct fake_run){.result = result,
                                 .fault = call.fault,
                                 .fault_value = call.fault_value,
                                 .answer_bytes = call.answer_bytes,
                                 .answer = answer_area,
                                 .name = descriptor->name,
                                 .is_async = descriptor->class_ == IVG_CLASS_ASYNC};
}
