/* The table of what the processes of one tenant share (ipc_table.h): the driver's handles stay there, guests get
 * tickets.
 */
#include "exec_internal.h"
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
                       sizeof(CUipcEventHandle) == sizeof(struct ticket) &&
                       sizeof(CUmemPoolPtrExportData) == sizeof(struct ticket) &&
                       sizeof(struct ivg_wire_ticket) == sizeof(struct ticket),
               "a ticket takes a handle's place");
#define TICKET_MAGIC 0x50495649u /* "IVIP" */

/* This process's exports and withdrawals, one at a time; other processes are kept apart by the places' states. What has
 * a descriptor has a mutex of its own, which lanes hold while they ask the mediator: frees, which may run on the
 * consumer, must not wait for that. A place of one sort is never looked at as one of the other. */
static pthread_mutex_t handles_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t descriptors_mutex = PTHREAD_MUTEX_INITIALIZER;

static bool has_descriptor(uint32_t kind)
{
        return kind == IVG_IPC_SHARED_MEMORY || kind == IVG_IPC_SHARED_POOL;
}

static pthread_mutex_t *mutex_of(uint32_t kind)
{
        return has_descriptor(kind) ? &descriptors_mutex : &handles_mutex;
}

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

/* Fills a place that was claimed; frees it again when that fails. The mutex is held. */
static CUresult fill(struct ivg_exec *exec, struct ivg_ipc_slot *slot, const struct ivg_ipc_export *object)
{
        CUresult result = CUDA_SUCCESS;

        if (getrandom(slot->ticket, sizeof(slot->ticket), 0) != (ssize_t)sizeof(slot->ticket))
                result = CUDA_ERROR_OPERATING_SYSTEM;
        else if (object->fd >= 0)
                result = ivg_share_keep(exec, (uint32_t)(slot - exec->ipc->slots), object->fd);
        if (result != CUDA_SUCCESS) {
                ivg_store_release_u32(&slot->state, IVG_IPC_FREE);
                return result;
        }
        slot->kind = object->kind;
        slot->exporter = (int32_t)getpid();
        slot->address = object->address;
        memset(slot->handle, 0, sizeof(slot->handle));
        if (object->handle)
                memcpy(slot->handle, object->handle, sizeof(slot->handle));
        ivg_store_release_u32(&slot->state, IVG_IPC_READY); /* T1 */
        return CUDA_SUCCESS;
}

/* The mutex is held. */
static CUresult publish(struct ivg_exec *exec, const struct ivg_ipc_export *object, struct ticket *ticket)
{
        struct ivg_ipc_table *table = exec->ipc;
        struct ivg_ipc_slot *slot = own_slot(table, object->kind, object->address);
        CUresult result = CUDA_SUCCESS;

        if (slot && object->handle && memcmp(slot->handle, object->handle, sizeof(slot->handle)) != 0) {
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
                result = fill(exec, slot, object);
        }
        *ticket = (struct ticket){.magic = TICKET_MAGIC,
                                  .kind = object->kind,
                                  .slot = (uint32_t)(slot - table->slots),
                                  .secret = {slot->ticket[0], slot->ticket[1]},
                                  .bytes = object->bytes};
        return result;
}

CUresult ivg_ipc_publish(struct ivg_exec *exec, const struct ivg_ipc_export *object, void *out)
{
        struct ticket ticket;
        CUresult result;

        if (!exec->ipc)
                return CUDA_ERROR_NOT_SUPPORTED;
        ivg_store_relaxed_u32(&exec->ipc_exported, 1);
        pthread_mutex_lock(mutex_of(object->kind));
        result = publish(exec, object, &ticket);
        pthread_mutex_unlock(mutex_of(object->kind));
        if (result == CUDA_SUCCESS)
                memcpy(out, &ticket, sizeof(ticket));
        return result;
}

void ivg_ipc_withdraw(struct ivg_exec *exec, uint32_t kind, uint64_t address)
{
        struct ivg_ipc_slot *slot;

        /* Relaxed: set by the export, which the guest ordered before this free. */
        if (!exec->ipc || ivg_load_relaxed_u32(&exec->ipc_exported) == 0)
                return;
        pthread_mutex_lock(mutex_of(kind));
        slot = own_slot(exec->ipc, kind, address);
        if (slot) {
                /* First the descriptor: once the place is free another executor may bring its own. */
                if (has_descriptor(kind))
                        (void)ivg_share_let_go(exec, (uint32_t)(slot - exec->ipc->slots));
                ivg_store_release_u32(&slot->state, IVG_IPC_FREE);
        }
        pthread_mutex_unlock(mutex_of(kind));
}

/* ---- opening ---- */

/* The table is shared with executors that serve the same guest: each word is read once, and the place looked at again
 * after the copy, since its exporter may withdraw it meanwhile. */
static bool look_up(struct ivg_ipc_table *table, uint32_t kind, const struct ticket *ticket,
                    uint8_t out[IVG_IPC_HANDLE_BYTES])
{
        const struct ivg_ipc_slot *slot;
        bool same;

        if (ticket->magic != TICKET_MAGIC || ticket->kind != kind || ticket->slot >= IVG_IPC_SLOTS)
                return false;
        slot = &table->slots[ticket->slot];
        if (ivg_load_acquire_u32(&slot->state) != IVG_IPC_READY) /* T2 */
                return false;
        memcpy(out, slot->handle, IVG_IPC_HANDLE_BYTES);
        same = slot->kind == kind && slot->ticket[0] == ticket->secret[0] && slot->ticket[1] == ticket->secret[1];
        return same && ivg_load_acquire_u32(&slot->state) == IVG_IPC_READY;
}

CUresult ivg_ipc_find(struct ivg_exec *exec, uint32_t kind, const void *given, void *handle)
{
        struct ticket ticket;

        if (!exec->ipc)
                return CUDA_ERROR_NOT_SUPPORTED;
        memcpy(&ticket, given, sizeof(ticket));
        return look_up(exec->ipc, kind, &ticket, handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult ivg_ipc_fetch(struct ivg_exec *exec, uint32_t kind, const void *given, int *fd)
{
        uint8_t unused[IVG_IPC_HANDLE_BYTES];
        struct ticket ticket;
        CUresult result = ivg_ipc_find(exec, kind, given, unused);

        if (result != CUDA_SUCCESS)
                return result;
        memcpy(&ticket, given, sizeof(ticket));
        result = ivg_share_fetch(exec, ticket.slot, fd);
        /* Still that ticket's place, and not another's descriptor. */
        if (result == CUDA_SUCCESS && !look_up(exec->ipc, kind, &ticket, unused)) {
                close(*fd);
                result = CUDA_ERROR_INVALID_VALUE;
        }
        return result;
}
