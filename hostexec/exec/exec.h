/* Inside ivgpu-exec: one guest process's executor. What its files share.
 *
 *   consumer thread: takes batches from the ring, decodes, runs short calls itself, never waits
 *   lane threads:    one per guest thread that makes calls which may block; in order per guest thread
 *   control thread (main): the mediator's socket, signals, end
 * The executor knows only the Driver API, loaded from a path. Guest bytes are hostile: everything below works on the
 * private copy of a record; handles are numbers looked up here with their kind. */
#ifndef IVG_EXEC_H
#define IVG_EXEC_H

#include "ivgpu/call_wire.h"
#include "ivgpu/cuda_abi.h"
#include "ivgpu/region.h"
#include "ivgpu/ring.h"
#include "ivgpu_calls.h"  /* generated: call numbers, request and answer structs, fingerprint */
#include "ivgpu_driver.h" /* generated: struct ivg_driver, one function pointer per symbol the executor may call */
#include <stdbool.h>
#include <stdint.h>

struct ivg_exec;

/* One call while it runs. Decoders read `request` (private, request_bytes checked against the record), executors fill
 * `answer`. A broken rule sets `fault` (the channel is closed with it and no answer goes out). */
struct ivg_exec_request;
struct ivg_exec_call {
        struct ivg_exec *exec;
        const uint8_t *request;
        uint32_t request_bytes;
        uint32_t producer;
        ivg_id context;
        CUstream stream;                      /* the latest that was looked up for this call; NULL: none */
        const struct ivg_exec_request *whole; /* what it came with; NULL: nothing but itself */
        bool metered;                         /* the consumer's, for the device, and it is noted where it goes */
        uint8_t *answer; /* IVG_ANSWER_AREA_BYTES, private; copied to the mailbox or the answer area afterwards */
        uint32_t answer_bytes;
        enum ivg_ring_fault fault;
        uint32_t fault_value;
        struct ivg_exec_temporary *temporaries; /* private copies of arena ranges, freed after the call */
};

/* The host's libcuda. Any thread. */
const struct ivg_driver *ivg_exec_driver(const struct ivg_exec *exec);

/* The table of generated code: one entry per call number. */
enum ivg_call_class { IVG_CLASS_ASYNC, IVG_CLASS_SYNC };
struct ivg_call_descriptor {
        uint16_t number;
        uint8_t class_;      /* enum ivg_call_class */
        bool lane;           /* runs on the guest thread's lane */
        bool needs_context;  /* the record's context is made current before */
        bool reports_async;  /* its answer carries the deferred error of earlier asynchronous calls, if any */
        bool gpu;            /* gives the device work: the gate may hold it back (gate.c) */
        bool orders_streams; /* may make one stream wait for another: ends in the legacy stream come before (meter.h) */
        bool unchains;       /* ends or changes what graphs of launches use: they end before (chain.h) */
        uint16_t request_bytes_min, request_bytes_max;
        const char *name;
        CUresult (*execute)(struct ivg_exec_call *call); /* decode, check, look up, call */
        /* "cuMemAlloc_v2(bytesize=4096)" from a private request; never reads past request_bytes. */
        int (*print)(char *text, size_t capacity, const uint8_t *request, uint32_t request_bytes);
};
const struct ivg_call_descriptor *ivg_call_find(uint16_t number); /* NULL: unknown. Array index, no search */
extern const uint32_t ivg_call_count;
const struct ivg_call_descriptor *ivg_call_at(uint32_t index); /* all of them: index < ivg_call_count */

/* Handles (handles.c, liburcu cds_lfht). Look-ups are lock-free; all threads of the executor. */
CUresult ivg_handle_get(struct ivg_exec *exec, enum ivg_kind kind, ivg_id id,
                        void **driver_handle); /* INVALID_HANDLE */
/* Fails with fault HANDLE when the number is taken or malformed. */
bool ivg_handle_put(struct ivg_exec_call *call, enum ivg_kind kind, ivg_id id, void *driver_handle);
/* The same for an object that the driver destroys with another one, `whole`: ivg_handle_remove of that takes it out
 * too. */
bool ivg_handle_put_part(struct ivg_exec_call *call, enum ivg_kind kind, ivg_id id, void *driver_handle, ivg_id whole);
/* The same for a graph's node, which the driver may name again. */
bool ivg_graph_node_put(struct ivg_exec_call *call, ivg_id id, CUgraphNode node);
void *ivg_handle_remove(struct ivg_exec *exec, enum ivg_kind kind, ivg_id id); /* NULL: was not there */
/* A stream number, special ones too: PER_THREAD is a stream of the calling guest thread, made at first use. */
CUresult ivg_handle_stream(struct ivg_exec_call *call, ivg_id id, CUstream *stream);
/* FUNCTION or KERNEL number, for launches. */
CUresult ivg_handle_function(struct ivg_exec_call *call, ivg_id id, CUfunction *function);

/* An input range: INLINE points into the private request; ARENA is copied to private memory first (freed after the
 * call) since the executor or driver interprets it. Bounds, ownership and `bytes_max` checked: else fault and false. */
bool ivg_exec_range_in(struct ivg_exec_call *call, const struct ivg_wire_range *range, uint64_t bytes_max,
                       const void **data);
/* An output range in the arena that the guest reserved: its address, checked as above; opaque bytes only. */
bool ivg_exec_range_out(struct ivg_exec_call *call, const struct ivg_wire_range *range, uint64_t bytes_max,
                        void **data);
/* Room in the answer for `bytes` more, 8-byte aligned; NULL and fault ARGUMENTS when the area is full. */
void *ivg_exec_answer_room(struct ivg_exec_call *call, uint32_t bytes);

/* Closes the channel with `fault` after this call: what decoders and hand-written bodies do on a broken rule. Returns
 * CUDA_ERROR_INVALID_VALUE so that a body can `return ivg_exec_refuse(...)`. The first fault of a call wins. */
CUresult ivg_exec_refuse(struct ivg_exec_call *call, enum ivg_ring_fault fault, uint32_t value);

/* Every device pointer that the driver dereferences by itself (copies, sets, stream writes and waits; not kernel
 * parameters) passes here first: CUDA_SUCCESS when [address, address + bytes) lies in memory that the guest obtained
 * from the driver or in the registered arena, else CUDA_ERROR_INVALID_VALUE. Without it, unified addressing would let
 * a guest name the executor's own memory. bytes may be 0. Lock-free for noted memory (ranges.c); the driver is asked
 * about any other. */
CUresult ivg_exec_device_range(struct ivg_exec_call *call, uint64_t address, uint64_t bytes);
/* The same for `rows` rows of `row_bytes`, `pitch` apart. */
CUresult ivg_exec_device_range_2d(struct ivg_exec_call *call, uint64_t address, uint64_t pitch, uint64_t row_bytes,
                                  uint64_t rows);
/* The same for a box of rows (extent: row bytes, rows of a slice, slices); `slice_rows`: from slice to slice. */
CUresult ivg_exec_device_box(struct ivg_exec_call *call, uint64_t address, uint64_t pitch, uint64_t slice_rows,
                             const uint64_t extent[3]);
/* Notes memory that the driver has just given the guest. Always CUDA_SUCCESS: memory that cannot be noted stays usable.
 */
CUresult ivg_exec_memory_add(struct ivg_exec_call *call, uint64_t address, uint64_t bytes);
/* Before a free: true when `address` is the start of noted memory, or of memory that the driver knows. */
bool ivg_exec_memory_known(struct ivg_exec_call *call, uint64_t address);
/* Drops what was noted at `address`: before the driver frees it, since it may give the address to another at once. */
void ivg_exec_memory_remove(struct ivg_exec_call *call, uint64_t address);
/* Waits (bounded) until asynchronous frees that were queued before are done; true: there were some, and trying again
 * may help. False at once on the consumer and the reaper, which must not wait. Calls on lanes that fail with
 * CUDA_ERROR_OUT_OF_MEMORY are tried again by execute.c; a body need not do it. */
bool ivg_exec_settle_frees(struct ivg_exec_call *call);

#endif
