/* Memory that processes of one tenant share by descriptor (cuMemExportToShareableHandle): the driver's descriptors stay
 * on the host. ivgpud keeps them, each for one place of the tenant's table (ipc_table.h), and hands them to executors
 * of the same tenant only. An executor asks on a SOCK_SEQPACKET pair of its own, one request at a time:
 *
 *   KEEP    a place and one descriptor: kept until LET_GO, or until the executor that brought it is gone
 *   LET_GO  a place that this executor filled
 *   FETCH   a place: the answer carries the descriptor
 * Each is answered by the same message with `error` set: 0 or an errno value. */
#ifndef IVG_SHARE_PROTOCOL_H
#define IVG_SHARE_PROTOCOL_H

#include <stdint.h>

#define IVG_SHARE_MAGIC 0x53475649u /* "IVGS" */
/* The mediator answers in one turn of its loop; one that does not within so long is hung or gone. */
#define IVG_SHARE_ANSWER_MS 2000u

enum ivg_share_request { IVG_SHARE_KEEP = 1, IVG_SHARE_LET_GO = 2, IVG_SHARE_FETCH = 3 };

struct ivg_share_message {
        uint32_t magic;
        uint32_t request;  /* enum ivg_share_request */
        uint32_t place;    /* below IVG_IPC_SLOTS */
        uint32_t sequence; /* of the executor's requests: an answer that came too late is recognised by it */
        int32_t error;     /* of an answer */
        uint32_t reserved;
};

#endif
