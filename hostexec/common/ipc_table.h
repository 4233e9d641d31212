/* What the processes of one tenant (a VM; or all local programs of one mediator) share by IPC handles.
 *
 * A handle of the driver is bytes that any process of the host may present, so a guest never sees one: it could forge
 * one and reach another tenant. The executor that exports puts it into this table, and gives the guest a ticket: a
 * place and 128 random bits. The executor that opens finds the driver's handle by the ticket. The table is a memfd that
 * ivgpud makes and hands to the tenant's executors only, so a ticket of one VM means nothing in another.
 *
 *   FREE -claim-> BUSY -fill-> READY -withdraw, or its exporter is dead-> FREE or BUSY
 *   T1 READY is stored with release, pairs with T2 the load with acquire: handle and ticket are complete. */
#ifndef IVG_IPC_TABLE_H
#define IVG_IPC_TABLE_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define IVG_IPC_SLOTS 1024u /* live exports of one tenant; a place of a dead process is taken again */
#define IVG_IPC_HANDLE_BYTES 64u

enum ivg_ipc_state { IVG_IPC_FREE = 0, IVG_IPC_BUSY = 1, IVG_IPC_READY = 2 };
enum ivg_ipc_kind {
        IVG_IPC_MEMORY = 1,
        IVG_IPC_EVENT = 2,
        IVG_IPC_POINTER = 3,       /* memory of a pool that is shared */
        IVG_IPC_SHARED_MEMORY = 4, /* of cuMemCreate; ivgpud keeps its descriptor (share_protocol.h) */
        IVG_IPC_SHARED_POOL = 5,   /* likewise */
};

struct ivg_ipc_slot {
        _Atomic(uint32_t) state; /* enum ivg_ipc_state */
        uint32_t kind;           /* enum ivg_ipc_kind */
        int32_t exporter;        /* its executor's pid */
        uint32_t reserved;
        uint64_t address; /* of the memory, or the event's number: exported again, the ticket is the same */
        uint64_t ticket[2];
        uint8_t handle[IVG_IPC_HANDLE_BYTES]; /* the driver's */
        uint8_t padding[24];
};
_Static_assert(sizeof(struct ivg_ipc_slot) == 128, "two lines");

struct ivg_ipc_table {
        struct ivg_ipc_slot slots[IVG_IPC_SLOTS];
};

/* A descriptor, sealed in its size, all FREE; or -errno. */
static inline int ivg_ipc_table_create(void)
{
        int fd = memfd_create("ivgpu-ipc", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        int error;

        if (fd < 0)
                return -errno;
        if (ftruncate(fd, sizeof(struct ivg_ipc_table)) == 0 &&
            fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0)
                return fd;
        error = -errno;
        close(fd);
        return error;
}

#endif
