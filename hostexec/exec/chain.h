/* Launches that stand in a row in the ring go to the driver as one graph. Between consumer.c, gate.c, meter.c and
 * calls_launch.c; the consumer's thread alone, but where it says otherwise.
 *
 * A launch costs the driver 3.4 us, and the device 1.7 us beside the kernel; a kernel's node of a graph that exists
 * 0.2 us to set and, 32 to a graph, 0.1 us to launch, and the device 0.9 us; a graph of one node 1.4 and 1.5 us (H200,
 * driver 580: docs/measurements.md). So each stream has graphs of 1, 2, 4 ... 32 kernels in a row. Launches gather in a
 * chain until a launch for another stream or a record of another kind comes, the batch ends, the gate holds the
 * consumer up or an end is to be recorded; then the nodes of as few graphs as make up their number are set to them, and
 * these are launched. What was launched before keeps what its nodes were then (cuGraphExecKernelNodeSetParams: "has no
 * effect on already enqueued or running launches").
 *
 * The program cannot tell the difference:
 *   order        a chain is of one stream: a launch for another one has it issued first, so that the driver gets all in
 *                the order of the ring, and within a graph kernels follow each other as launches do. A graph runs once
 *                at a time, so no two streams share one.
 *   errors       a launch whose node cannot be set, and all of a graph that cannot be launched, are launched one by
 *                one, and each gets the driver's own answer.
 *   first time   a kernel's first launch is a plain one: it loads its code and makes room for its stack.
 *   exceptions   kernels with clusters of their own, more than 4 KiB of parameters, or not as many as at first, streams
 *                with attributes of their own, preferred caches of a context, parts of devices (green contexts): plain
 *                launches.
 *   ends         a stream's graphs end before the stream does; all of them before code is unloaded or a context ends,
 *                since a node holds its last kernel. */
#ifndef IVG_EXEC_CHAIN_H
#define IVG_EXEC_CHAIN_H

#include "exec_internal.h"
#include "host_args.h"

#define IVG_CHAIN_SIZES 6u
#define IVG_CHAIN_LAUNCHES_MAX (1u << (IVG_CHAIN_SIZES - 1))
/* Streams that have graphs at once. A further one takes the place of one that has launched nothing for so many
 * launches, or does without. */
#define IVG_CHAIN_STREAMS_MAX 16u
#define IVG_CHAIN_STREAM_IDLE 4096u
/* What a stream's graphs take of the device's memory, at most: 300 KiB were measured. Counted for the VM as long as
 * they are there (what the driver then keeps for the next ones is the context's); a stream for which the cap has no
 * room does without. */
#define IVG_CHAIN_STREAM_BYTES (320u << 10)
/* Kernels known at once, and how many places are looked at for one. A kernel without a place is launched plainly. */
#define IVG_CHAIN_KERNELS 1024u
#define IVG_CHAIN_PROBES 8u
#define IVG_CHAIN_PARAMS_BYTES_MAX 4096u
/* Plain launches of a stream before graphs are made for it, which costs about 0.2 ms in all, and device memory that the
 * driver keeps until the context ends. Doubled each time that graphs had to go before they had been worth it. None with
 * IVGPU_LAUNCHES=chained: for tests. */
#define IVG_CHAIN_PATIENCE_MIN 64u
#define IVG_CHAIN_PATIENCE_MAX 65536u

/* NULL: IVGPU_LAUNCHES=plain, no memory, or the driver has no such graphs; all launches are plain then, and NULL is
 * taken everywhere. */
struct ivg_chains *ivg_chains_create(const struct ivg_driver *driver);
void ivg_chains_destroy(struct ivg_chains *chains); /* any thread, the consumer's is gone; graphs are the contexts' */
/* True: it is in a chain, and its failure will be told as an asynchronous call's is. False: to be launched now;
 * everything before it has been issued (by the consumer, before a launch that wants an answer). */
bool ivg_chain_launch(struct ivg_exec_call *call, const struct ivg_args_ivgLaunch *args);
/* A plain launch has gone well: the next one of that kernel may be a node. */
void ivg_chain_launched(struct ivg_exec_call *call, const struct ivg_args_ivgLaunch *args);
void ivg_chains_issue_now(struct ivg_exec *exec); /* something has been gathered */
static inline void ivg_chains_issue(struct ivg_exec *exec)
{
        if (exec->chains_open)
                ivg_chains_issue_now(exec);
}
/* The driver's list of packed parameters; it reads both, the size a size_t, where they are. */
#define IVG_PACKED_PARAMS(params, size)                                                                   \
        {                                                                                                 \
                CU_LAUNCH_PARAM_BUFFER_POINTER, (void *)(uintptr_t)(params), CU_LAUNCH_PARAM_BUFFER_SIZE, \
                        (void *)&(size), CU_LAUNCH_PARAM_END                                              \
        }
/* Before a record that ends what graphs use, or changes what a plain launch would do (rows marked `unchains`, and those
 * that end streams, code or contexts), runs here, on a lane or at the reaper. */
void ivg_chains_unmake(struct ivg_exec *exec, const struct ivg_exec_request *request);

#endif
