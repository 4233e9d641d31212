/* Sharing among the processes of one tenant: the driver's handles stay here, guests get tickets (ipc_table.h). */
#include "exec_internal.h"
#include "host_args.h"
#include "ipc_table.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

/* What a guest holds, in the 64 bytes of CUDA's handle. `bytes` is for the guest's own book-keeping. */
struct ticket {
        uint32_t magic, kind, slot, reserved;
        uint64_t secret[2];
        uint64_t bytes;
        uint64_t zero[3];
};
_Static_assert(sizeof(struct ticket) == IVG_IPC_HANDLE_BYTES && sizeof(CUipcMemHandle) == sizeof(struct ticket) &&
                       sizeof(CUipcEventHandle) == sizeof(struct ticket),
               "a ticket takes a handle's place");
#define TICKET_MAGIC 0x50495649u /* "IVIP" */

/* This process's exports and withdrawals, one at a time; other processes are kept apart by the places' states. */
static pthread_mutex_t export_mutex = PTHREAD_MUTEX_INITIALIZER;

struct ivg_ipc_table *ivg_ipc_map(int fd)
{
        struct stat status;
        void *table;

        if (fstat(fd, &status) != 0 || status.st_size != (off_t)sizeof(struct ivg_ipc_table))
                return NULL;
        table = mmap(NULL, sizeof(struct ivg_ipc_table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        return table == MAP_FAILED ? NULL : table;
}

void ivg_ipc_unmap(struct ivg_ipc_table *table)
{
        if (table)
                munmap(table, sizeof(*table));
}

/* ---- exporting ---- */

static bool claim(struct ivg_ipc_slot *slot)
{
        uint32_t state = ivg_load_acquire_u32(&slot->state);

        if (state == IVG_IPC_BUSY)
                return false;
        if (state == IVG_IPC_READY && (kill(slot->exporter, 0) == 0 || errno != ESRCH))
                return false;
        return ivg_compare_exchange_acq_rel_u32(&slot->state, &state, IVG_IPC_BUSY);
}

static struct ivg_ipc_slot *own_slot(struct ivg_ipc_table *table, uint32_t kind, uint64_t address)
{
        for (uint32_t i = 0; i < IVG_IPC_SLOTS; i++) {
                struct ivg_ipc_slot *slot = &table->slots[i];

                if (ivg_load_acquire_u32(&slot->state) == IVG_IPC_READY && slot->exporter == (int32_t)getpid() &&
                    slot->kind == kind && slot->address == address)
                        return slot;
        }
        return NULL;
}

/* The mutex is held. */
static CUresult publish(struct ivg_ipc_table *table, uint32_t kind, uint64_t address, const void *handle,
                        struct ticket *ticket)
{
        struct ivg_ipc_slot *slot = own_slot(table, kind, address);

        if (slot && memcmp(slot->handle, handle, sizeof(slot->handle)) != 0) {
                ivg_store_release_u32(&slot->state, IVG_IPC_FREE); /* an earlier object of that name */
                slot = NULL;
        }
        if (!slot) {
                uint32_t i = 0;

                while (i < IVG_IPC_SLOTS && !claim(&table->slots[i]))
                        i++;
                if (i == IVG_IPC_SLOTS)
                        return CUDA_ERROR_OUT_OF_MEMORY;
                slot = &table->slots[i];
                if (getrandom(slot->ticket, sizeof(slot->ticket), 0) != (ssize_t)sizeof(slot->ticket)) {
                        ivg_store_release_u32(&slot->state, IVG_IPC_FREE);
                        return CUDA_ERROR_OPERATING_SYSTEM;
                }
                slot->kind = kind;
                slot->exporter = (int32_t)getpid();
                slot->address = address;
                memcpy(slot->handle, handle, sizeof(slot->handle));
                ivg_store_release_u32(&slot->state, IVG_IPC_READY); /* T1 */
        }
        *ticket = (struct ticket){.magic = TICKET_MAGIC,
                                  .kind = kind,
                                  .slot = (uint32_t)(slot - table->slots),
                                  .secret = {slot->ticket[0], slot->ticket[1]}};
        return CUDA_SUCCESS;
}

static CUresult export_object(struct ivg_exec *exec, uint32_t kind, uint64_t address, uint64_t bytes,
                              const void *handle, void *out)
{
        struct ticket ticket;
        CUresult result;

        pthread_mutex_lock(&export_mutex);
        result = publish(exec->ipc, kind, address, handle, &ticket);
        pthread_mutex_unlock(&export_mutex);
        ticket.bytes = bytes;
        if (result == CUDA_SUCCESS)
                memcpy(out, &ticket, sizeof(ticket));
        return result;
}

void ivg_ipc_withdraw(struct ivg_exec *exec, uint64_t address)
{
        struct ivg_ipc_slot *slot;

        /* Relaxed: set by the export, which the guest ordered before this free. */
        if (!exec->ipc || ivg_load_relaxed_u32(&exec->ipc_exported) == 0)
                return;
        pthread_mutex_lock(&export_mutex);
        slot = own_slot(exec->ipc, IVG_IPC_MEMORY, address);
        if (slot)
                ivg_store_release_u32(&slot->state, IVG_IPC_FREE);
        pthread_mutex_unlock(&export_mutex);
}

/* ---- opening ---- */

/* The table is shared with executors that serve the same guest: each word is read once, and the place looked at again
 * after the copy, since its exporter may withdraw it meanwhile. */
static bool look_up(struct ivg_ipc_table *table, uint32_t kind, const void *handle, uint8_t out[IVG_IPC_HANDLE_BYTES])
{
        struct ticket ticket;
        const struct ivg_ipc_slot *slot;
        bool same;

        memcpy(&ticket, handle, sizeof(ticket));
        if (ticket.magic != TICKET_MAGIC || ticket.kind != kind || ticket.slot >= IVG_IPC_SLOTS)
                return false;
        slot = &table->slots[ticket.slot];
        if (ivg_load_acquire_u32(&slot->state) != IVG_IPC_READY) /* T2 */
                return false;
        memcpy(out, slot->handle, IVG_IPC_HANDLE_BYTES);
        same = slot->kind == kind && slot->ticket[0] == ticket.secret[0] && slot->ticket[1] == ticket.secret[1];
        return same && ivg_load_acquire_u32(&slot->state) == IVG_IPC_READY;
}

/* ---- rows ---- */

CUresult ivg_host_cuIpcGetMemHandle(struct ivg_exec_call *call, const struct ivg_args_cuIpcGetMemHandle *args)
{
        struct ivg_exec *exec = call->exec;
        CUipcMemHandle handle;
        CUdeviceptr base = 0;
        size_t bytes = 0;
        CUresult result;

        if (!exec->ipc || !exec->driver.cuIpcGetMemHandle)
                return CUDA_ERROR_NOT_SUPPORTED;
        /* The guest's own memory only: what it names must lie in what it obtained. */
        result = ivg_exec_device_range(call, args->dptr, 1);
        if (result == CUDA_SUCCESS)
                result = exec->driver.cuMemGetAddressRange_v2(&base, &bytes, args->dptr);
        if (result == CUDA_SUCCESS)
                result = exec->driver.cuIpcGetMemHandle(&handle, base);
        if (result != CUDA_SUCCESS)
                return result;
        ivg_store_relaxed_u32(&exec->ipc_exported, 1);
        return export_object(exec, IVG_IPC_MEMORY, base, bytes, &handle, &args->answer->pHandle);
}

CUresult ivg_host_cuIpcOpenMemHandle_v2(struct ivg_exec_call *call, const struct ivg_args_cuIpcOpenMemHandle_v2 *args)
{
        struct ivg_exec *exec = call->exec;
        CUipcMemHandle handle;
        CUdeviceptr base = 0, pointer = 0;
        size_t bytes = 0;
        CUresult result;

        if (!exec->ipc || !exec->driver.cuIpcOpenMemHandle_v2)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (!look_up(exec->ipc, IVG_IPC_MEMORY, &args->handle, (uint8_t *)&handle))
                return CUDA_ERROR_INVALID_VALUE;
        result = exec->driver.cuIpcOpenMemHandle_v2(&pointer, handle, args->Flags);
        if (result != CUDA_SUCCESS)
                return result;
        args->answer->pdptr = pointer;
        /* Noted as the guest's, but counted nowhere: it is its exporter's. Opened twice, it is noted already. */
        if (exec->driver.cuMemGetAddressRange_v2(&base, &bytes, pointer) == CUDA_SUCCESS)
                (void)ivg_ranges_add(exec->ranges, base, bytes, ivg_context_owner(exec, call->context));
        return CUDA_SUCCESS;
}

CUresult ivg_host_cuIpcCloseMemHandle(struct ivg_exec_call *call, const struct ivg_args_cuIpcCloseMemHandle *args)
{
        struct ivg_exec *exec = call->exec;
        CUdeviceptr base = 0;
        size_t bytes = 0;
        CUresult result;

        if (!exec->driver.cuIpcCloseMemHandle)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = ivg_exec_device_range(call, args->dptr, 1);
        if (result != CUDA_SUCCESS)
                return result;
        /* Out of the table before the driver may give the address to another; back when it is still open elsewhere. */
        (void)ivg_ranges_remove(exec->ranges, args->dptr);
        result = exec->driver.cuIpcCloseMemHandle(args->dptr);
        if (exec->driver.cuMemGetAddressRange_v2(&base, &bytes, args->dptr) == CUDA_SUCCESS && base == args->dptr)
                (void)ivg_ranges_add(exec->ranges, base, bytes, ivg_context_owner(exec, call->context));
        return result;
}

CUresult ivg_host_cuIpcGetEventHandle(struct ivg_exec_call *call, const struct ivg_args_cuIpcGetEventHandle *args)
{
        struct ivg_exec *exec = call->exec;
        CUipcEventHandle handle;
        CUresult result;

        if (!exec->ipc || !exec->driver.cuIpcGetEventHandle)
                return CUDA_ERROR_NOT_SUPPORTED;
        result = exec->driver.cuIpcGetEventHandle(&handle, args->event);
        if (result != CUDA_SUCCESS)
                return result;
        return export_object(exec, IVG_IPC_EVENT, (uintptr_t)args->event, 0, &handle, &args->answer->pHandle);
}

CUresult ivg_host_cuIpcOpenEventHandle(struct ivg_exec_call *call, const struct ivg_args_cuIpcOpenEventHandle *args)
{
        struct ivg_exec *exec = call->exec;
        CUipcEventHandle handle;
        CUevent event = NULL;
        CUresult result;

        if (!exec->ipc || !exec->driver.cuIpcOpenEventHandle)
                return CUDA_ERROR_NOT_SUPPORTED;
        if (!look_up(exec->ipc, IVG_IPC_EVENT, &args->handle, (uint8_t *)&handle))
                return CUDA_ERROR_INVALID_VALUE;
        result = exec->driver.cuIpcOpenEventHandle(&event, handle);
        if (result != CUDA_SUCCESS)
                return result;
        if (!ivg_handle_put(call, IVG_KIND_EVENT, args->phEvent, event)) {
                exec->driver.cuEventDestroy_v2(event);
                return CUDA_ERROR_INVALID_VALUE;
        }
        return CUDA_SUCCESS;
}
