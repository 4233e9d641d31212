/* Private to ivgpu-exec: the executor's state and how its files use each other.
 *
 *   main.c ── exec_open.c ── consumer.c ── execute.c ── (generated decoders) ── calls_*.c
 *                                │             ├─ context.c    current context of an operating-system thread
 *                                │             ├─ deferred.c   errors of asynchronous calls
 *                                │             └─ answers      mailbox, answer area, interrupt
 *                                ├─ lane.c     calls that may block, one thread for each guest thread
 *                                ├─ gate.c     what of the device's time may be used; meter.c  what has been used
 *                                └─ reaper.c   asynchronous calls that may block, one thread, in the ring's order
 *   tables, lock-free to read: handles.c (numbers), ranges.c (device memory); pinned.c (registered arena memory) */
#ifndef IVG_EXEC_INTERNAL_H
#define IVG_EXEC_INTERNAL_H

#include "board.h"
#include "exec.h"
#include "exec_control.h"
#include "log.h"
#include <pthread.h>

/* ---- limits, each with its motive ---- */

/* About one wake-up's cost: below it, sleeping is dearer than spinning. Where records keep coming a little later than
 * that, the consumer looks on between offers of its processor, up to the longer time. */
#define IVG_CONSUMER_SPIN_NS 50000u
#define IVG_CONSUMER_YIELD_NS_MAX 500000u
/* The guest's thread that waits for the device stays awake for so long (IVG_WAIT_YIELD_NS there) and makes its next
 * call at once: so does the consumer, unless somebody else wants its processor, which a yield that takes so long tells.
 */
#define IVG_AWAITED_NS_MAX 20000000u
#define IVG_YIELD_TAKEN_NS 10000u
#define IVG_LANE_SPIN_NS 20000u
/* A lane without work for so long ends; the next blocking call of that guest thread starts another. */
#define IVG_LANE_IDLE_MS 30000u
/* Calls of one guest thread on its lane: the one it waits for, and the next when the lane has answered but not yet
 * counted the first as finished. A third one means two unanswered calls at once: a broken rule. */
#define IVG_LANE_SLOTS 2u
/* Asynchronous calls waiting for the reaper. A guest that frees faster than the driver does for so long gets
 * CUDA_ERROR_OUT_OF_MEMORY as a deferred error, and the object stays until the executor ends: the consumer never waits,
 * and the executor's memory stays bounded (about 200 MiB in the worst case). */
#define IVG_REAPER_CALLS_MAX (1u << 20)
/* An allocation that failed waits so long for the frees queued before it, then tries once more. */
#define IVG_REAPER_SETTLE_MS 5000u
/* Contexts in which one guest thread has used its per-thread default stream. */
#define IVG_THREAD_STREAMS_MAX 16u
/* Driver calls at the end that take longer are cut off: the kernel driver frees everything at exit. */
#define IVG_EXEC_CLOSE_MS 300u
/* Devices of one host. */
#define IVG_EXEC_DEVICES_MAX 64u
/* Host functions queued in streams and not yet run; those in graphs stay. 64 bytes each. */
#define IVG_CALLBACKS_MAX (1u << 20)
/* While the guest runs a host function the executor looks at its count: for so long without a pause, then with pauses
 * that double up to the most. Nothing wakes the executor here, as a consumer that is inside the driver cannot. */
#define IVG_CALLBACK_SPIN_NS 20000u
#define IVG_CALLBACK_PAUSE_NS_MIN 20000u
#define IVG_CALLBACK_PAUSE_NS_MAX 1000000u
/* What kernels have printed and the guest has not fetched; beyond it the oldest goes. */
#define IVG_OUTPUT_UNREAD_MAX (64ull << 20)
/* Allocations, conditions and bodies of graphs that live. 40 bytes each. */
#define IVG_GRAPH_THINGS_MAX (1u << 16)
/* Graphs of one conditional node: as many numbers as a record brings. */
#define IVG_GRAPH_BODIES_MAX 256u
/* User objects whose destructor has not run. 64 bytes each. */
#define IVG_USER_OBJECTS_MAX (1u << 16)
/* Parts of devices that one guest process may hold at once, and distinct resources that it may have seen. */
#define IVG_GREEN_CONTEXTS_MAX 256u
#define IVG_DEV_RESOURCES_MAX 4096u
/* Bytes of one call's private copies of arena ranges, all together: module images are the largest. */
#define IVG_TEMPORARY_BYTES_MAX (1ull << 30)
/* From so many bytes on a private copy is memory with a descriptor: what may be a module image can then be kept for
 * others (images.c) without another copy. Guests name no smaller images (IVG_IMAGE_NAMED_BYTES_MIN). */
#define IVG_TEMPORARY_FILE_BYTES_MIN IVG_IMAGE_NAMED_BYTES_MIN
/* The keeper of images answers within microseconds, or some hundred when it hashes. One that does not is left alone
 * from then on. */
#define IVG_IMAGES_ANSWER_MS 2000

/* ---- state ---- */

struct ivg_handles;
struct ivg_ranges;
struct ivg_lane;

/* The last word that a stream was to write: what a guest thread that is awake waits for. Value 0: nothing. */
struct ivg_exec_awaited {
        uint32_t index;
        uint64_t value;
};

/* Events whose end is told by a word, which the consumer writes (watch.h). */
struct ivg_watch {
        uint32_t index;
        ivg_id context, number; /* of the event; IVG_ID_NONE: the executor's own */
        uint64_t value;
        CUevent event;
};
struct ivg_watches {
        struct ivg_watch all[IVG_SIGNAL_WORDS];
        uint32_t count, next; /* to be asked */
        uint64_t asked_ns;
};

/* What the executor keeps for one guest thread (one producer line). */
struct ivg_exec_producer {
        uint64_t sequence;      /* consumer only: of the last request that wants an answer */
        uint64_t reaper_last;   /* consumer only: ticket of this thread's last call on the reaper */
        _Atomic(uint64_t) lane; /* struct ivg_lane *, made by the consumer at the first need (0 before), then kept */
        _Atomic(uint32_t) stream_contexts[IVG_THREAD_STREAMS_MAX]; /* ivg_id, 0: free place */
};

/* A decoded record on its way to its execution; `bytes` is private memory. */
struct ivg_exec_request {
        const struct ivg_call_descriptor *descriptor;
        const uint8_t *bytes;
        uint32_t bytes_count;
        uint32_t producer;
        ivg_id context;
        bool wants_answer;
        bool capturing;       /* IVG_CALL_CAPTURING */
        uint8_t capture_mode; /* CUstreamCaptureMode to run in */
        uint64_t sequence;
        uint64_t position;                     /* of the record, for messages */
        const struct ivg_taken_record *record; /* while it is in the batch, on the consumer; NULL on a lane */
};

/* Counters that several threads add to: private here, copied to the host pages by whoever added. */
struct ivg_exec_counters {
        _Atomic(uint64_t) interrupts, arena_bytes_from_guest, arena_bytes_to_guest, calls_failed, calls_unsupported,
                images_found, image_bytes_found, images_kept;
};

struct ivg_reaper_queue;
struct ivg_reaper {
        pthread_t thread;
        bool started;
        _Atomic(uint64_t) submitted; /* tickets given out; written by the consumer */
        _Atomic(uint64_t) done;      /* tickets finished; written by the reaper */
        _Atomic(uint32_t) sleeping;  /* the reaper waits for `submitted` to move */
        _Atomic(uint32_t) waiters;   /* threads that wait for `done` to move */
        struct ivg_reaper_queue *queue;
};

/* The consumer's part of the gate (gate.c). */
struct ivg_gate {
        ivg_id context; /* `device` is that of; while `epoch` is the executor's context_epoch */
        uint32_t epoch, device;
        int32_t free_calls; /* that may go without a look */
        uint32_t wake_seen; /* the board's `wake` at the latest look */
        uint64_t given;     /* calls given to `device` */
        uint64_t gpu_calls; /* to all devices, as the board shows */
        bool metering;      /* streams of calls are noted */
        bool legacy_dirty;  /* work in the legacy stream whose end has not been recorded: it must be the next there */
        bool expects_more;  /* after the latest pause of the program more came within IVG_METER_DELAY_NS */
        bool windowed;      /* the number of calls on the device is limited: their ends are waited for one by one */
        bool sampling;
        bool over_rate;     /* this batch's launches fail */
        uint64_t sample_ns; /* when the sample began */
        uint64_t rate_ns, rate_calls_per_s;
        double tokens, burst; /* calls that may be made now, and at most */
        uint64_t calls[IVG_BOARD_CLASSES];
};

struct ivg_exec {
        struct ivg_driver driver;
        struct ivg_region region;
        struct ivg_host_channel *host_channel;
        _Atomic(uint64_t) *completions;
        struct ivg_consumer consumer;
        uint32_t channel, generation;
        int region_fd, doorbell_fd, interrupt_fd;
        int stop_fd;  /* eventfd: makes the consumer look at `stop` */
        int event_fd; /* eventfd: tells the owner (main) that the channel has a fault */

        struct ivg_handles *handles;
        struct ivg_ranges *ranges;
        struct ivg_pinned *pinned;
        struct ivg_callbacks *callbacks;
        struct ivg_graph_things *graph_things;
        struct ivg_user_object *user_objects; /* under calls_user_object.c's mutex */
        struct ivg_images *images;
        struct ivg_board *board;
        int kick_fd; /* -1: none */
        struct ivg_meter *meter;
        struct ivg_gate gate;           /* consumer only */
        struct ivg_ipc_table *ipc;      /* NULL: none */
        int share_fd;                   /* to the mediator, for descriptors (share.c); -1: none */
        _Atomic(uint32_t) ipc_exported; /* something of this process stands in the table: frees look there */
        _Atomic(uint64_t) arena;        /* window address; 0 before ivgHello */

        _Atomic(uint32_t) stop;           /* no more records, no more lane calls */
        _Atomic(uint32_t) fault;          /* enum ivg_ring_fault once the channel is closed by one */
        _Atomic(uint32_t) deferred;       /* CUresult of the first failed asynchronous call not yet told */
        _Atomic(uint32_t) context_epoch;  /* moves when a context goes: cached current contexts are looked up again */
        _Atomic(uint32_t) captures_begun; /* not 0: streams may be capturing */
        _Atomic(uint32_t) graph_nodes;    /* nodes with numbers */
        _Atomic(uint32_t) threads_alive;  /* lanes; at the end they are waited for, within a bound */

        /* Contexts of parts of devices: their number, and above it that of the primary context they belong to. Written
         * under calls_context.c's mutex; 0: free place. */
        _Atomic(uint64_t) green[IVG_GREEN_CONTEXTS_MAX];
        _Atomic(uint32_t) green_count;
        ivg_id primary[IVG_EXEC_DEVICES_MAX]; /* primary contexts, by device; under calls_context.c's mutex */
        /* The device whose primary context was retained before there was a guest; -1: none (any more). Under the same.
         */
        CUdevice warm_device;

        struct ivg_exec_counters counters;
        struct ivg_log_limit failure_log;
        struct ivg_reaper reaper;
        pthread_t consumer_thread;
        bool consumer_started;
        uint64_t records_consumed, batches, sleeps; /* consumer only */
        uint64_t yield_ns;                          /* likewise: how long it looks on before it sleeps */
        bool has_woken;                             /* likewise: and has not offered its processor since */
        struct ivg_exec_awaited awaited;            /* likewise */
        struct ivg_watches watches;                 /* likewise (watch.h) */
        struct ivg_chains *chains;                  /* likewise; NULL: launches are plain (chain.h) */
        bool chains_open;                           /* likewise: launches have been gathered and not yet issued */
        struct ivg_exec_producer producers[IVG_RING_PRODUCERS];
        uint64_t trace_taken_ns; /* consumer only: when this batch was taken, if it is traced; else 0 */
        struct ivg_batch batch;  /* consumer only */
};

/* ---- exec_open.c ---- */
struct ivg_exec_config {
        int region_fd, doorbell_fd, interrupt_fd; /* owned by the caller; interrupt_fd -1: none */
        uint32_t channel, generation;
        int ipc_fd;    /* the tenant's table of shared objects; -1: none, then nothing is shared */
        int images_fd; /* to the keeper of module images; -1: none, then each is sent. Owned by the executor */
        int share_fd;  /* to the mediator, for what is shared by descriptor; -1: none */
        int vram_fd;   /* its VM's table of device memory, for ivg_vram_open; -1: none */
        uint32_t vram_place;
        int board_fd; /* board.h; -1: none, then nothing is scheduled or limited */
        int kick_fd;  /* to make the mediator look at the board; -1: none */
};
/* Maps the region, makes the tables. The driver is filled in by the caller (exec->driver) before ivg_exec_start. */
int ivg_exec_create(const struct ivg_exec_config *config, struct ivg_exec **exec, struct ivg_error *error);
/* Opens the ring and starts consumer and reaper. */
int ivg_exec_start(struct ivg_exec *exec, struct ivg_error *error);
/* Closes the ring with `state` and stops all threads; waits at most `timeout_ms` for calls inside the driver.
 * -ETIMEDOUT: some are still there; nothing may be freed. */
int ivg_exec_stop(struct ivg_exec *exec, enum ivg_ring_state state, uint32_t timeout_ms);
/* Destroys contexts that the guest left. May block in the driver: the caller has a timer running. */
void ivg_exec_close_contexts(struct ivg_exec *exec);
void ivg_exec_destroy(struct ivg_exec *exec); /* after a successful stop */
/* Around the body of every thread that runs calls: its name, its part in RCU. */
void ivg_exec_thread_begins(const char *name);
void ivg_exec_thread_ends(void);

/* ---- board.c ---- */
/* Maps the board behind `fd`; with -1, a private one without limits. NULL: not one of ours, or no memory. */
struct ivg_board *ivg_board_map(int fd);
void ivg_board_unmap(struct ivg_board *board);

/* ---- trace.c ---- */
struct ivg_trace_times {
        uint64_t position, taken_ns, begin_ns;
};
/* A call is over: tells the trace. `request` is private memory. */
void ivg_trace_call(struct ivg_exec *exec, uint16_t call, const uint8_t *request, uint32_t bytes,
                    const struct ivg_trace_times *times, enum ivg_trace_place place);
/* The same on lanes and reaper, whose call was taken at `taken_ns` (0: it is not traced). */
void ivg_exec_run_traced(struct ivg_exec *exec, const struct ivg_exec_request *request, uint64_t taken_ns,
                         enum ivg_trace_place place);

/* ---- gate.c: may this call go to the device? The consumer, but where something else is said ---- */
/* The way of all but the first call: one that may go without a look. False: the channel ends. */
static inline bool ivg_gate_pass(struct ivg_exec *exec, ivg_id context);
bool ivg_gate_look(struct ivg_exec *exec, ivg_id context);
void ivg_gate_settle(struct ivg_exec *exec); /* shows the meter how many calls have gone */
void ivg_gate_batch_ends(struct ivg_exec *exec);
/* Before a batch: waits until the call rate lets calls through, or says that launches are to fail. */
void ivg_gate_rate(struct ivg_exec *exec);
/* Lanes: waits for the grant of the device whose context is current. False: the channel ends. */
bool ivg_gate_lane(struct ivg_exec *exec, uint32_t *device);
/* Any thread: whether the mediator has asked for that, and kicks it if so. */
bool ivg_gate_is_asked(const struct ivg_exec *exec, uint32_t device, enum ivg_board_ask what);
void ivg_gate_answer(struct ivg_exec *exec, uint32_t device, enum ivg_board_ask what);
void ivg_gate_wake(struct ivg_exec *exec); /* whoever waits there looks at `stop` */
/* The consumer, when it has ended a sleep: tells a mediator that did not look any more. */
void ivg_gate_consumer_woke(struct ivg_exec *exec);

static inline bool ivg_gate_pass(struct ivg_exec *exec, ivg_id context)
{
        struct ivg_gate *gate = &exec->gate;

        if (__builtin_expect(gate->free_calls > 0 && gate->context == context, 1)) {
                gate->free_calls--;
                gate->given++;
                return true;
        }
        return ivg_gate_look(exec, context);
}

/* ---- meter.c: how long the device worked (meter.h) ---- */
/* An empty ring is a pause of the program's when it lasts so long: longer than a program takes from the end of a wait
 * to its next launch, shorter than what ends a period (IVG_METER_GAP_NS) and than the consumer's looks before it
 * sleeps. */
#define IVG_METER_DELAY_NS 25000u
_Static_assert(IVG_METER_DELAY_NS < IVG_CONSUMER_SPIN_NS, "ends are recorded before the consumer sleeps");
int ivg_meter_create(struct ivg_exec *exec);
void ivg_meter_destroy(struct ivg_exec *exec);
int ivg_meter_start(struct ivg_exec *exec); /* -errno */
bool ivg_meter_gone(struct ivg_exec *exec); /* after `stop`: its thread has ended */
void ivg_meter_wake(struct ivg_exec *exec);
/* Consumer: a call has gone to this stream; the ends of all that did are recorded now. The latter before anything that
 * may end a stream. */
void ivg_meter_note_stream(struct ivg_exec *exec, ivg_id context, CUstream stream);
void ivg_meter_flush_now(struct ivg_exec *exec);
static inline void ivg_meter_flush(struct ivg_exec *exec)
{
        if (exec->gate.metering)
                ivg_meter_flush_now(exec);
}
/* Consumer: the ring is empty, since `begin_ns`. Records the ends, or not yet: false, call again. */
bool ivg_meter_pause_now(struct ivg_exec *exec, uint64_t begin_ns, uint64_t now_ns);
static inline bool ivg_meter_pause(struct ivg_exec *exec, uint64_t begin_ns, uint64_t now_ns)
{
        return !exec->gate.metering || ivg_meter_pause_now(exec, begin_ns, now_ns);
}
/* A lane has given work to `device`, in `context`, which is current. */
void ivg_meter_lane_call(struct ivg_exec *exec, ivg_id context, uint32_t device, CUstream stream);
/* The context is current and about to end. */
void ivg_meter_context_ends(struct ivg_exec *exec, ivg_id context);

/* ---- ipc.c: what the processes of one tenant share ---- */
struct ivg_ipc_table *ivg_ipc_map(int fd); /* NULL: not one of ours */
void ivg_ipc_unmap(struct ivg_ipc_table *table);
struct ivg_ipc_export {
        uint32_t kind;      /* enum ivg_ipc_kind */
        uint64_t address;   /* of the memory, or the driver's handle: exported again, the ticket is the same */
        uint64_t bytes;     /* for the guest's own book-keeping */
        const void *handle; /* the driver's, IVG_IPC_HANDLE_BYTES; NULL: a descriptor stands for the object */
        int fd;             /* that one, for the mediator to keep; the caller closes its own; -1: none */
};
/* Writes the ticket, IVG_IPC_HANDLE_BYTES. NOT_SUPPORTED: there is no table; OUT_OF_MEMORY: no place. Lanes only. */
CUresult ivg_ipc_publish(struct ivg_exec *exec, const struct ivg_ipc_export *object, void *ticket);
/* The object is about to end: nobody opens it any more. */
void ivg_ipc_withdraw(struct ivg_exec *exec, uint32_t kind, uint64_t address);
/* What is behind a guest's ticket: the driver's handle, or its descriptor, which is then the caller's. INVALID_VALUE:
 * nothing of that kind, or not in this tenant. */
CUresult ivg_ipc_find(struct ivg_exec *exec, uint32_t kind, const void *ticket, void *handle);
CUresult ivg_ipc_fetch(struct ivg_exec *exec, uint32_t kind, const void *ticket, int *fd);

/* ---- share.c: descriptors left with the mediator. Lanes and the reaper; at most IVG_SHARE_ANSWER_MS ---- */
CUresult ivg_share_keep(struct ivg_exec *exec, uint32_t place, int fd);
CUresult ivg_share_let_go(struct ivg_exec *exec, uint32_t place);
CUresult ivg_share_fetch(struct ivg_exec *exec, uint32_t place, int *fd); /* INVALID_VALUE: the place is empty */

/* ---- physical.c: memory of cuMemCreate, while numbers or mappings hold it ---- */
struct ivg_physical;
/* The guest has got (another) number for the driver's `handle`; `device` below 0: another process's, counted nowhere.
 * False: no memory. */
bool ivg_physical_add(struct ivg_exec *exec, uint64_t handle, uint64_t bytes, int32_t device);
/* One more holder, for a mapping; NULL: not a handle of ours. */
struct ivg_physical *ivg_physical_hold(struct ivg_exec *exec, uint64_t handle);
void ivg_physical_let_go(struct ivg_exec *exec, struct ivg_physical *physical);
/* The number that ivg_physical_add counted is taken out. */
void ivg_physical_release(struct ivg_exec *exec, uint64_t handle);
/* calls_virtual.c: gives the driver's `handle` the guest's number; on failure the driver has it back. */
CUresult ivg_memory_number(struct ivg_exec_call *call, ivg_id id, uint64_t handle, uint64_t bytes, int32_t device);

/* ---- images.c: what the host keeps of module images (image_control.h) ---- */
struct ivg_image_view { /* an image of the keeper's, mapped */
        const void *data;
        uint64_t bytes;
};
/* Takes the descriptor (-1: no keeper) over. NULL: no memory. */
struct ivg_images *ivg_images_create(int fd);
void ivg_images_destroy(struct ivg_images *images);
bool ivg_images_usable(struct ivg_images *images);
/* True: the keeper has an image of that name and length, and it is mapped. Lanes only: waits for an answer. */
bool ivg_images_find(struct ivg_images *images, const struct ivg_wire_image_name *name, struct ivg_image_view *view);
void ivg_images_unmap(struct ivg_image_view *view);
/* Offers the private copy at `data` to the keeper, under the name that the guest says it has. False: not offered. */
bool ivg_images_keep(struct ivg_exec_call *call, const struct ivg_wire_image_name *name, const void *data);

/* ---- consumer.c ---- */
void *ivg_consumer_main(void *exec);

/* ---- execute.c ---- */
/* Runs one call on the calling thread and answers it. Callers: consumer, lanes, reaper. */
void ivg_exec_run(struct ivg_exec *exec, const struct ivg_exec_request *request);
/* Closes the channel with a fault; wakes the guest's threads; the first fault wins. Any thread. */
void ivg_exec_fault(struct ivg_exec *exec, enum ivg_ring_fault fault, uint32_t value, uint64_t position,
                    const char *what);
/* Makes sleeping guest threads look at their mailboxes and the ring's status. */
void ivg_exec_interrupt(struct ivg_exec *exec);
/* Adds to a counter of several writers and shows the sum in the host pages. */
void ivg_exec_count(_Atomic(uint64_t) *counter, _Atomic(uint64_t) *shown, uint64_t n);
/* An asynchronous call has failed: counted, logged, kept for the next answer that reports. */
void ivg_exec_call_failed(struct ivg_exec *exec, const struct ivg_exec_request *request, CUresult result);
/* A launch that the call rate does not let through: told, or kept as a deferred error. */
void ivg_exec_over_rate(struct ivg_exec *exec, const struct ivg_exec_request *request);
/* Callers: whoever runs calls for that producer; see consumer.c for why that is one thread at a time. */
void ivg_exec_answer(struct ivg_exec *exec, const struct ivg_exec_request *request, CUresult result,
                     const uint8_t *answer, uint32_t answer_bytes);

/* ---- arguments.c ---- */
void ivg_exec_temporaries_free(struct ivg_exec_call *call);
/* The descriptor behind a private copy of at least IVG_TEMPORARY_FILE_BYTES_MIN, sealed for good; -1: none. */
int ivg_exec_temporary_fd(const struct ivg_exec_call *call, const void *data);
/* Where arena memory of this channel lies in this process; NULL and fault ARENA when it is another's or out of bounds.
 */
uint8_t *ivg_exec_arena(struct ivg_exec_call *call, uint64_t offset, uint64_t bytes);

/* ---- completion.c ---- */
#define IVG_COMPLETION_NONE UINT32_MAX /* index: nobody waits */
struct ivg_exec_completion {
        uint32_t index;
        uint64_t value;
        CUdeviceptr address; /* 0: none wanted */
};
/* Before the copy: everything that may fail for other reasons than the copy itself. */
CUresult ivg_exec_completion_prepare(struct ivg_exec_call *call, struct ivg_exec_completion *completion, uint32_t index,
                                     uint64_t value);
/* After the copy: lets the stream write the word, or writes the failure itself. Returns `result` or the word's failure.
 */
CUresult ivg_exec_completion_finish(struct ivg_exec_call *call, const struct ivg_exec_completion *completion,
                                    CUstream stream, CUresult result);
/* The same when the driver's return is all that is waited for. */
CUresult ivg_exec_completion_finish_read(struct ivg_exec_call *call, const struct ivg_exec_completion *completion,
                                         CUresult result);

/* ---- deferred.c ---- */
void ivg_deferred_note(struct ivg_exec *exec, CUresult result);
CUresult ivg_deferred_take(struct ivg_exec *exec);
/* What an answer of a reporting row carries: its own failure, else the deferred error, which is then told. */
CUresult ivg_deferred_report(struct ivg_exec *exec, CUresult result);

/* ---- context.c ---- */
/* Makes the guest's context current in this thread; costs two compares when it is already. */
CUresult ivg_context_enter(struct ivg_exec *exec, ivg_id context);
/* Forgets what this thread believes to be current: after driver calls that change it by themselves. */
ivg_id ivg_context_current(void); /* of this thread; IVG_ID_NONE: not known */
void ivg_context_forget(void);
/* A context has just got its number / is about to be destroyed / has been: memory registrations and what the tables
 * know of it follow. */
CUresult ivg_context_begins(struct ivg_exec *exec, ivg_id context);
CUcontext ivg_context_ends(struct ivg_exec *exec, ivg_id context); /* out of the table; NULL: was not there */
void ivg_context_ended(struct ivg_exec *exec);
/* Ends the context that was made before there was a guest, unless the guest has retained it: whatever makes another
 * context, or changes how it would be made, calls this before. May block in the driver. */
void ivg_context_warm_end(struct ivg_exec *exec);
void ivg_context_close(struct ivg_exec *exec, ivg_id context); /* calls_context.c: whatever kind it is */
/* Around starts and ends of contexts (calls_context.c). */
void ivg_contexts_lock(void);
void ivg_contexts_unlock(void);

/* ---- green.c: contexts of parts of a device ---- */
/* The context that owns what is made in `context`: the primary one for that of a part, else itself. */
ivg_id ivg_context_owner(const struct ivg_exec *exec, ivg_id context);
bool ivg_context_is_green(const struct ivg_exec *exec, ivg_id context);
/* With the lock: its primary context is about to end, or the executor. The numbers lead nowhere afterwards. */
void ivg_greens_forget(struct ivg_exec *exec, ivg_id primary);
void ivg_green_close(struct ivg_exec *exec, ivg_id context);

/* ---- capture_mode.c ---- */
/* The calling thread's interaction mode in the driver; costs one compare when it is the wanted one already. */
extern _Thread_local uint32_t ivg_thread_capture_mode;
void ivg_capture_mode_change(struct ivg_exec *exec, uint32_t mode);
static inline void ivg_capture_mode_enter(struct ivg_exec *exec, uint32_t mode)
{
        if (__builtin_expect(ivg_thread_capture_mode != mode, 0))
                ivg_capture_mode_change(exec, mode);
}
/* The same for calls of the executor's own; gives the mode to go back to. */
uint32_t ivg_capture_mode_relax(struct ivg_exec *exec);
/* Captures that this thread has begun and nobody has ended on it: its lane stays. */
extern _Thread_local uint32_t ivg_thread_captures;
/* True when `stream` captures: what is given to the driver now is looked at again at each launch of the graph. */
bool ivg_capture_under_way(struct ivg_exec *exec, CUstream stream);

/* ---- graph_names.c: graph nodes and their numbers ---- */
/* The node's number; takes the next of `fresh` for a node without one, in which case *used grows. IVG_ID_NONE: none
 * left.
 */
ivg_id ivg_graph_node_number(struct ivg_exec_call *call, CUgraphNode node, const uint32_t *fresh, uint32_t fresh_count,
                             uint32_t *used);
struct ivg_forgotten {     /* numbers taken back */
        uint32_t *numbers; /* may be NULL */
        uint32_t capacity, count;
};
/* The number of a graph that a node owns; takes `fresh`, when it is not IVG_ID_NONE, for one without. */
ivg_id ivg_graph_of_node_number(struct ivg_exec_call *call, CUgraph graph, ivg_id fresh);
/* Before the driver destroys a graph or a node: takes back its nodes' numbers, those of child graphs too. Stops when
 * `forgotten` is full. */
void ivg_graph_forget(struct ivg_exec *exec, CUgraph graph, struct ivg_forgotten *forgotten);
void ivg_graph_node_forget(struct ivg_exec *exec, CUgraphNode node, struct ivg_forgotten *forgotten);

/* ---- graph_things.c: what graphs and nodes own beside nodes ---- */
enum ivg_graph_thing_kind {
        IVG_GRAPH_MEMORY,    /* of a graph: address and bytes of an allocation */
        IVG_GRAPH_CONDITION, /* of a graph: a conditional handle, 1 long */
        IVG_GRAPH_BODY       /* of a node: a graph of the driver's, 1 long */
};
struct ivg_graph_things;
struct ivg_graph_things *ivg_graph_things_create(void);
void ivg_graph_things_destroy(struct ivg_graph_things *things);
/* False: too many, or no memory. */
bool ivg_graph_thing_add(struct ivg_exec *exec, const void *owner, enum ivg_graph_thing_kind kind, uint64_t value,
                         uint64_t bytes);
/* Whether a thing of `kind` contains [value, value + bytes). */
bool ivg_graph_thing_holds(struct ivg_exec *exec, enum ivg_graph_thing_kind kind, uint64_t value, uint64_t bytes);
uint32_t ivg_graph_things_of(struct ivg_exec *exec, const void *owner, enum ivg_graph_thing_kind kind, uint64_t *values,
                             uint32_t capacity);
void ivg_graph_things_drop(struct ivg_exec *exec, const void *owner);

/* ---- calls_capture.c ---- */
/* What the stream captures into; *graph is left as it is when it does not. */
CUresult ivg_capture_graph(const struct ivg_driver *driver, CUstream stream, cuuint64_t *id, CUgraph *graph);

/* ---- calls_user_object.c ---- */
struct ivg_user_object;
void ivg_user_objects_destroy(struct ivg_exec *exec); /* the driver makes no calls any more */

/* ---- calls_launch.c ---- */
/* Replaces what stands for a handle by it, and refuses what is not known: CUDA_ERROR_NOT_SUPPORTED. */
CUresult ivg_launch_attribute(struct ivg_exec_call *call, CUlaunchAttribute *attribute);

/* ---- calls_stream.c ---- */
/* A stream memory operation with its address checked, and nothing else of the guest's in it. */
CUresult ivg_memory_operation(struct ivg_exec_call *call, CUstreamBatchMemOpParams *to,
                              const CUstreamBatchMemOpParams *from);

/* ---- lane.c ---- */
/* Hands a call to the producer's lane, copying the request; it starts when the reaper has finished what this guest
 * thread gave it before. Consumer only. Fails: -EPROTO when IVG_LANE_SLOTS calls of this thread are there already,
 * -ENOMEM. */
int ivg_lane_submit(struct ivg_exec *exec, const struct ivg_exec_request *request);
/* Calls on this producer's lane that are not finished. Consumer only. */
uint32_t ivg_lane_pending(const struct ivg_exec *exec, uint32_t producer);
/* The guest thread is gone: its lane ends when it has nothing to do. Any thread. */
void ivg_lane_end(struct ivg_exec *exec, uint32_t producer);
void ivg_lanes_wake(struct ivg_exec *exec);
void ivg_lanes_destroy(struct ivg_exec *exec); /* no lane thread is alive */

/* ---- reaper.c ---- */
extern _Thread_local bool ivg_thread_may_wait; /* true on lanes only */
int ivg_reaper_start(struct ivg_exec *exec);
/* Hands an asynchronous call over, copying the request. False: the queue is full or memory is short. Consumer only. */
bool ivg_reaper_submit(struct ivg_exec *exec, const struct ivg_exec_request *request);
/* Waits until the reaper has finished `ticket`, at most timeout_ms. Not on consumer or reaper. -ETIMEDOUT, -ESHUTDOWN
 */
int ivg_reaper_wait(struct ivg_exec *exec, uint64_t ticket, uint32_t timeout_ms);
void ivg_reaper_wake(struct ivg_exec *exec);
void ivg_reaper_destroy(struct ivg_exec *exec); /* its thread has been joined */

/* ---- handles.c ---- */
struct ivg_handles *ivg_handles_create(void);
void ivg_handles_destroy(struct ivg_handles *handles); /* no reader left */
/* Takes out what was put as a part of `whole`, of every kind. */
void ivg_handles_remove_parts(struct ivg_exec *exec, ivg_id whole);
/* Numbers by driver handle, for handles that the driver gives out again. False: there is one already, or no memory. */
bool ivg_handle_name_put(struct ivg_exec *exec, const void *driver_handle, ivg_id id);
ivg_id ivg_handle_name_get(struct ivg_exec *exec, const void *driver_handle); /* IVG_ID_NONE */
ivg_id ivg_handle_name_remove(struct ivg_exec *exec, const void *driver_handle);
/* Calls `visit` for every live object of `kind` (a moment's view). */
void ivg_handles_visit(struct ivg_exec *exec, enum ivg_kind kind, void (*visit)(void *arg, ivg_id id, void *handle),
                       void *arg);
/* Takes out all that the driver destroys with a context: its numbers must not lead to freed objects. */
void ivg_handles_remove_context(struct ivg_exec *exec, ivg_id context);
/* Per-thread default streams: each of a guest thread (place below IVG_THREAD_STREAMS_MAX; NULL: none there), all of
 * one, or all of a context. */
CUstream ivg_thread_stream(const struct ivg_exec *exec, uint32_t producer, uint32_t place);
void ivg_thread_streams_end(struct ivg_exec *exec, uint32_t producer);
void ivg_thread_streams_context_ends(struct ivg_exec *exec, ivg_id context);
/* The call's context's event number `place`, for a stream's position (watch.h). Made at the first need, ends with the
 * context. Consumer only. */
CUresult ivg_handle_watch_event(struct ivg_exec_call *call, uint32_t place, CUevent *event);

/* ---- ranges.c ---- */
struct ivg_ranges *ivg_ranges_create(void);
void ivg_ranges_destroy(struct ivg_ranges *ranges); /* no reader left */
/* Fails: -EINVAL empty or wrapping, -EEXIST overlaps a noted range, -ENOMEM. Nothing is noted then. */
int ivg_ranges_add(struct ivg_ranges *ranges, uint64_t start, uint64_t bytes, ivg_id context);
/* The same, counted as memory of `device` while it is noted. */
int ivg_ranges_add_on(struct ivg_ranges *ranges, uint64_t start, uint64_t bytes, ivg_id context, int32_t device);
/* From now on the bytes of each device stand in device_bytes[IVG_SHOWN_DEVICES_MAX]. Before the first range. */
void ivg_ranges_show(struct ivg_ranges *ranges, _Atomic(uint64_t) *device_bytes);
/* A mapping of `physical`, which is counted by itself. Mappings in a row are looked up as one range. */
int ivg_ranges_add_mapping(struct ivg_ranges *ranges, uint64_t start, uint64_t bytes, struct ivg_physical *physical);
/* The first mapping that starts in [start, start + bytes), taken out; false: there is none. */
bool ivg_ranges_take_mapping(struct ivg_ranges *ranges, uint64_t start, uint64_t bytes, uint64_t *mapping_start,
                             uint64_t *mapping_bytes, struct ivg_physical **physical);
/* Memory that is no range: shown with the others of its device. */
void ivg_ranges_count(struct ivg_ranges *ranges, int32_t device, uint64_t bytes, bool added);
bool ivg_ranges_remove(struct ivg_ranges *ranges, uint64_t start);
void ivg_ranges_remove_context(struct ivg_ranges *ranges, ivg_id context);
bool ivg_ranges_contain(const struct ivg_ranges *ranges, uint64_t address, uint64_t bytes);

/* ---- pinned.c ---- */
struct ivg_pinned *ivg_pinned_create(void);
void ivg_pinned_destroy(struct ivg_pinned *pinned);
CUresult ivg_pinned_register(struct ivg_exec *exec, ivg_id context, uint64_t offset, uint64_t bytes);
CUresult ivg_pinned_unregister(struct ivg_exec *exec, uint64_t offset);
void ivg_pinned_context_begins(struct ivg_exec *exec, ivg_id context);
void ivg_pinned_context_ends(struct ivg_exec *exec, ivg_id context);
/* The device's address of a completion word; registers the words' pages at first use. */
CUresult ivg_pinned_completion_word(struct ivg_exec *exec, ivg_id context, uint32_t index, CUdeviceptr *address);

/* ---- callbacks.c: functions of the guest that run in stream order ---- */
struct ivg_callback; /* one function of the guest, for the driver as `userData` */
struct ivg_callbacks *ivg_callbacks_create(void);
void ivg_callbacks_destroy(struct ivg_callbacks *callbacks); /* the driver runs none any more */
/* Where the guest counts; in this channel's part of the arena. */
CUresult ivg_callbacks_start(struct ivg_exec_call *call, uint64_t arena_offset);
/* Prepares one, which gives itself back when it has run. NULL: too many, or ivg_callbacks_start has not been called. */
struct ivg_callback *ivg_callback_take(struct ivg_exec *exec, uint64_t function, uint64_t data, uint64_t stream_handle,
                                       enum ivg_callback_kind kind);
/* The same for a node of a graph: it runs any number of times, and stays. */
struct ivg_callback *ivg_callback_of_graph(struct ivg_exec *exec, uint64_t function, uint64_t data,
                                           uint64_t stream_handle, enum ivg_callback_kind kind);
void ivg_callback_give(struct ivg_callback *callback); /* it was never handed to the driver, or will never run again */
void ivg_callback_describe(const struct ivg_callback *callback, uint64_t *function, uint64_t *data);
/* What the driver is given: a CUhostFn and a CUstreamCallback. They return when the guest has run its function. */
void ivg_callback_host_function(void *callback);
void ivg_callback_stream_callback(CUstream stream, CUresult status, void *callback);

/* ---- output.c: what the driver prints for kernels ---- */
/* Takes this process's stdout and stderr: from here on they are the guest's, and the log keeps the old stderr. Before
 * the driver is loaded; once. Fails: -errno, nothing has changed then. */
int ivg_output_open(void);
/* After a call that may have made the driver print: tells the guest how much there is. Nothing when not opened. */
void ivg_output_publish(struct ivg_exec *exec);
/* At the end: what nobody fetched goes to the log's stream, within bounds. */
void ivg_output_close(void);

/* ---- futex, clock ---- */
uint64_t ivg_clock_ns(void);        /* monotonic */
uint64_t ivg_clock_coarse_ns(void); /* the same, behind by some milliseconds at most, and cheaper */
/* Waits while *word == seen, at most timeout_ms; may return early for no reason. */
void ivg_futex_wait(_Atomic(uint32_t) *word, uint32_t seen, uint32_t timeout_ms);
void ivg_futex_wake_all(_Atomic(uint32_t) *word);
/* The same for words that another process has mapped too. */
void ivg_futex_wait_shared(_Atomic(uint32_t) *word, uint32_t seen, uint64_t timeout_ns);
void ivg_futex_wake_shared(_Atomic(uint32_t) *word);
/* The half of a 64-bit word that moves: a futex has 32 bits. A wait that slept through exactly 2^32 steps would be cut
 * by its time-out. */
static inline _Atomic(uint32_t) *ivg_futex_low_half(_Atomic(uint64_t) *word)
{
        _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the low half comes first");
        return (_Atomic(uint32_t) *)(void *)word;
}

#endif
