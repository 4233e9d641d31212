/* What an executor and its mediator tell each other: fixed-size messages on a SOCK_SEQPACKET pair.
 *
 *   executor -> mediator
 *     WAITING  (started with --warm) the driver is up, a context is there: a channel may come. It may come before, too
 *     READY    the ring is open: the channel may be called READY
 *     FAILED   start-up ended; `code` and `text` say why; the executor exits by itself
 *     FAULT    the guest broke a rule of the channel: the ring is closed with it, nothing more is executed; the
 *              executor waits to be ended, at most IVG_EXEC_FAULT_LINGER_MS
 *     PONG     at once after a PING
 *   mediator -> executor
 *     ADOPT    once: its channel, with the descriptors of it: what makes an executor that of one VM and guest process
 *     PING     after READY, now and then: is it there
 *
 * Either side's end-of-file means that the other is gone: the executor then closes the ring with PEER_GONE and exits.
 */
#ifndef IVG_EXEC_CONTROL_H
#define IVG_EXEC_CONTROL_H

#include <stdint.h>

#define IVG_EXEC_CONTROL_MAGIC 0x45475649u /* "IVGE" */
#define IVG_EXEC_FAULT_LINGER_MS 10000u
/* A context that was made before the guest's process was known is kept for its first retain for so long (--warm):
 * programs that ask for devices only, such as monitors, are then without one, as they would be natively. */
#define IVG_EXEC_WARM_UNUSED_MS 30000
#define IVG_EXEC_TEXT_BYTES 232u

enum ivg_exec_message_type {
        IVG_EXEC_READY = 1,
        IVG_EXEC_FAILED = 2,
        IVG_EXEC_FAULT = 3,
        IVG_EXEC_WAITING = 4,
        IVG_EXEC_ADOPT = 5,
        IVG_EXEC_PING = 6,
        IVG_EXEC_PONG = 7,
};

struct ivg_exec_message {
        uint32_t magic;
        uint32_t type;                  /* enum ivg_exec_message_type */
        uint32_t code;                  /* enum ivg_error_code of the region's layout; 0 for READY */
        uint32_t fault;                 /* FAULT: enum ivg_ring_fault; FAILED: the driver's error, or 0 */
        int32_t driver_version;         /* for READY and WAITING: what the driver reports, e.g. 13000 */
        int32_t device_count;           /* for READY and WAITING */
        char text[IVG_EXEC_TEXT_BYTES]; /* NUL-terminated; for FAILED and FAULT */
};
_Static_assert(sizeof(struct ivg_exec_message) == 256, "one message, one size: both ends are of one build");

/* The descriptors that come with ADOPT, in this order; those not given are left out. */
enum ivg_exec_slot {
        IVG_EXEC_SLOT_REGION,
        IVG_EXEC_SLOT_DOORBELL,
        IVG_EXEC_SLOT_INTERRUPT, /* may lack */
        IVG_EXEC_SLOT_IPC,       /* may lack */
        IVG_EXEC_SLOT_SHARE,     /* share_protocol.h; may lack */
        IVG_EXEC_SLOT_IMAGES,    /* may lack */
        IVG_EXEC_SLOT_BOARD,     /* board.h; may lack: then nothing is scheduled or limited */
        IVG_EXEC_SLOT_KICK,      /* an eventfd, for the executor to write: look at the boards; may lack */
        IVG_EXEC_SLOT_VRAM,      /* vram_table.h; may lack */
        IVG_EXEC_SLOTS,
};
#define IVG_EXEC_SLOTS_NEEDED (1u << IVG_EXEC_SLOT_REGION | 1u << IVG_EXEC_SLOT_DOORBELL)

struct ivg_exec_adoption {
        uint32_t magic;
        uint32_t type; /* IVG_EXEC_ADOPT */
        uint32_t channel, generation;
        uint32_t vm_id;
        uint32_t given;      /* bit by slot: its descriptor comes with this message */
        uint32_t vram_place; /* its place in the table of device memory */
        uint32_t reserved;
};
_Static_assert(sizeof(struct ivg_exec_adoption) == 32, "one message, one size: both ends are of one build");

/* The executor's exit status: why it ended. */
enum ivg_exec_exit {
        IVG_EXEC_EXIT_TOLD = 0, /* the mediator ended it, or went away */
        IVG_EXEC_EXIT_USAGE = 2,
        IVG_EXEC_EXIT_START = 3, /* FAILED was sent */
        IVG_EXEC_EXIT_FAULT = 4, /* lingered after FAULT and was not ended */
        IVG_EXEC_EXIT_STUCK = 5, /* the driver did not let go in time; the kernel takes everything back */
};

#endif
