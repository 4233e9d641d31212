/* The wire form of a call: what the generated encoders and decoders share beyond the table itself.
 *
 * A request is one ring record: struct ivg_call_header, then the call's fixed part (a generated struct, fields in table
 * order with natural alignment), then its inline byte ranges, each starting at a multiple of 8. An answer is the
 * mailbox's result, then the call's fixed answer part and its byte ranges likewise: up to 48 bytes in the mailbox, up
 * to IVG_ANSWER_AREA_BYTES in the thread's answer area. Longer ranges travel in the arena, both ways. */
#ifndef IVGPU_CALL_WIRE_H
#define IVGPU_CALL_WIRE_H

#include "ivgpu/device_status.h"
#include <stdint.h>

/* Object numbers: minted by the guest, unique while alive; 24 bits of index, 8 bits of generation above. */
typedef uint32_t ivg_id;
#define IVG_ID_NONE 0u
#define IVG_ID_STREAM_LEGACY 1u     /* CU_STREAM_LEGACY, and the NULL stream of plain symbols */
#define IVG_ID_STREAM_PER_THREAD 2u /* CU_STREAM_PER_THREAD, and the NULL stream of _ptsz/_ptds symbols */
#define IVG_ID_FIRST 16u            /* lowest index of a minted number */
#define IVG_ID_INDEX_BITS 24u

enum ivg_kind { /* of a numbered object; the executor's table checks it at each look-up */
                IVG_KIND_NONE = 0,
                IVG_KIND_CONTEXT,
                IVG_KIND_STREAM,
                IVG_KIND_EVENT,
                IVG_KIND_MODULE,
                IVG_KIND_FUNCTION,
                IVG_KIND_LIBRARY,
                IVG_KIND_KERNEL,
                IVG_KIND_LINK,
                IVG_KIND_GRAPH,
                IVG_KIND_GRAPH_NODE,
                IVG_KIND_GRAPH_EXEC,
                IVG_KIND_MEMORY_POOL,
                IVG_KIND_MEMORY_HANDLE,
                IVG_KIND_ARRAY,
                IVG_KIND_MIPMAP,
                IVG_KIND_TEXTURE,
                IVG_KIND_SURFACE,
                IVG_KIND_USER_OBJECT,
                IVG_KIND_GREEN_CONTEXT,
                IVG_KIND_RESOURCE_DESC,
                IVG_KIND_TEXREF,
                IVG_KIND_SURFREF,
                IVG_KIND_COUNT
};

struct ivg_call_header {
        uint32_t sequence_low; /* of the mailbox sequence; answers carry the full one kept by the guest thread */
        uint32_t context;      /* ivg_id of the caller's current context, or IVG_ID_NONE */
        uint16_t bytes;        /* of the whole request, header included; <= the record's payload */
        uint8_t producer;      /* index of the calling thread's line and mailbox */
        uint8_t flags;         /* IVG_CALL_... */
        uint32_t reserved;     /* zero */
};
#define IVG_CALL_WANTS_ANSWER 1u
/* Something in the process captures: the call, which wants an answer, runs on its thread's lane, in the thread's
 * CUstreamCaptureMode. Without it the mode is RELAXED: the driver shall not blame a call for a capture that began
 * later. */
#define IVG_CALL_CAPTURING 2u
#define IVG_CALL_MODE_SHIFT 2u /* two bits, zero without IVG_CALL_CAPTURING */
#define IVG_CALL_MODE_MASK (3u << IVG_CALL_MODE_SHIFT)

/* What a launch above its VM's call rate fails with, where it is to fail: CUDA_ERROR_SYSTEM_NOT_READY, which no launch
 * fails with otherwise. The guest's libcuda says what it means: error 10 (RATE_LIMITED). */
#define IVG_RESULT_RATE_LIMITED ((CUresult)802)

/* A byte range of a request or answer. `bytes` 0 with where NULL: the caller passed NULL. */
enum ivg_range_where { IVG_RANGE_NULL = 0, IVG_RANGE_INLINE = 1, IVG_RANGE_ARENA = 2 };
struct ivg_wire_range {
        uint32_t bytes;
        uint32_t where;  /* enum ivg_range_where */
        uint64_t offset; /* INLINE: from the start of the request; ARENA: from the start of the arena */
};

/* ---- structures of internal calls (tools/apigen/calls.txt) ---- */

/* ivgDeviceSnapshot: what never changes about a device, in one answer. */
#define IVG_DEVICE_ATTRIBUTES 160u /* CU_DEVICE_ATTRIBUTE_MAX of a newer driver still fits */
struct ivg_wire_device {
        char name[256];
        uint8_t uuid[16];
        char pci_bus_id[32];
        uint64_t total_bytes;
        uint64_t known[(IVG_DEVICE_ATTRIBUTES + 63) / 64]; /* bit n: attributes[n] is the driver's answer */
        int32_t attributes[IVG_DEVICE_ATTRIBUTES];
};

/* ivgDeviceLayout: layout_table.h tells what the numbers are. */
#define IVG_LAYOUT_PAIRS_MAX 256u
struct ivg_wire_device_layout {
        uint32_t pairs, reserved;
        uint8_t place[IVG_LAYOUT_PAIRS_MAX]; /* of each pair, in its group */
        uint8_t group[IVG_LAYOUT_PAIRS_MAX];
};

/* ivgFunctionDescribe: a function's or kernel's attributes; its parameters come beside it. */
#define IVG_FUNCTION_ATTRIBUTES 32u
struct ivg_wire_function {
        int32_t attributes[IVG_FUNCTION_ATTRIBUTES];
        uint32_t known; /* bit n: attributes[n] is the driver's answer */
        uint32_t loaded;
        uint32_t parameters_count; /* of the kernel, even when fewer were asked for */
        uint32_t reserved;
};
#define IVG_FUNCTION_PARAMETERS_MAX 512u /* in that answer */
#define IVG_KERNEL_PARAMETERS_MAX 32764u /* of one byte each: all bytes that a kernel may have */
struct ivg_wire_parameter {
        uint32_t offset, bytes;
};

/* A module image by its content. */
struct ivg_wire_image_name {
        uint64_t bytes;     /* of the image as it travels; 0: no name */
        uint64_t digest[4]; /* struct ivg_digest of them */
};
/* Below this an image is sent sooner than it is asked for (docs/measurements.md). */
#define IVG_IMAGE_NAMED_BYTES_MIN (64u << 10)
enum ivg_image_wanted {
        IVG_IMAGE_LOADED = 0,
        IVG_IMAGE_SEND = 1,       /* not here: send it with its name */
        IVG_IMAGE_SEND_ALWAYS = 2 /* nothing is kept here: do not ask again */
};

/* An option of a module load or a link, with its value as a number. Options whose values are addresses (log buffers,
 * symbol names) do not travel in this form: logs are ranges of the call, the others are refused by the guest. */
struct ivg_wire_jit_option {
        uint32_t option; /* enum CUjit_option */
        uint32_t reserved;
        uint64_t value;
};

/* The bytes of a CUtensorMap, whose own alignment of 128 no record has. */
struct ivg_wire_tensor_map {
        uint64_t words[16];
};

/* ivgCopyHtoD that the driver reads at once, as it does with pageable memory: one driver call instead of two, and of
 * the shorter kind, but on the executor's consumer, hence the bound. */
#define IVG_COPY_READ_BYTES_MAX (64u << 10)

/* ---- completion words ----
 *
 * A word holds the last value that was written to it, values grow. Where what was to write one failed, the executor
 * stores that instead: which value (31 bits of it), and the CUresult. */
#define IVG_COMPLETION_FAILED (1ull << 63)
static inline uint64_t ivg_completion_failure(uint64_t value, uint32_t result)
{
        return IVG_COMPLETION_FAILED | (value & 0x7fffffffu) << 32 | result;
}
/* Words for questions that the executor keeps an eye on at once. */
#define IVG_SIGNAL_WORDS 16u

/* A part of a device (CUdevResource). What of it is the driver's own stays in the executor, under a number. */
struct ivg_wire_dev_resource {
        uint32_t type;      /* CUdevResourceType */
        uint32_t number;    /* the executor's; 0: none */
        uint32_t words[12]; /* the public part, read by the program only */
};

/* What stands for shared memory in a guest: a place in a table of the host and 128 random bits (ipc_table.h). */
struct ivg_wire_ticket {
        uint64_t words[8];
};

/* ---- host functions: the host's way to call into the guest ----
 *
 * A stream that comes to a host function stops there. The executor puts it into the queue below, which lies among the
 * channel's completion words (host-written, the guest maps them read-only), and interrupts; the guest runs it and
 * counts it in a word of its own in the arena (ivgCallbacksStart), which the executor watches: then the stream goes on.
 * No record is involved, since the consumer may be inside a driver call that waits for this very stream.
 *
 *   word IVG_CALLBACK_DUE            how many host functions have come due so far; stored last, with release
 *   words IVG_CALLBACK_QUEUE + 4 * (n % IVG_CALLBACK_SLOTS)   the n-th, counted from 0: see enum ivg_callback_word
 * At most IVG_CALLBACK_SLOTS are due and not yet counted. */
#define IVG_COMPLETION_COPY_WORDS 2048u /* words below are for copies */
#define IVG_CALLBACK_DUE 2048u
#define IVG_CALLBACK_QUEUE 2056u
#define IVG_CALLBACK_SLOTS 256u
enum ivg_callback_word {
        IVG_CALLBACK_FUNCTION,
        IVG_CALLBACK_DATA,
        IVG_CALLBACK_STREAM,
        IVG_CALLBACK_STATUS, /* CUresult, and enum ivg_callback_kind << 32 */
        IVG_CALLBACK_WORDS
};
enum ivg_callback_kind {
        IVG_CALLBACK_HOST_FUNCTION = 0, /* CUhostFn(data) */
        IVG_CALLBACK_STREAM_CALLBACK,   /* CUstreamCallback(stream, status, data) */
        IVG_CALLBACK_USER_OBJECT        /* CUhostFn(data), the end of user object number `stream` */
};

/* ---- what kernels print ----
 *
 * The driver prints it to the executor's stdout and stderr, as a rule when something is synchronized. The completion
 * word IVG_OUTPUT_PRINTED counts the bytes so far; it moves before the answer of the call that made the driver print. A
 * guest that sees it move fetches the text (ivgOutputFetch) and writes it to its own streams. */
#define IVG_OUTPUT_PRINTED 3200u
#define IVG_OUTPUT_FETCH_BYTES 0x10000u
/* Non-zero once a module is loaded whose kernels may print: from then on a synchronization must be the driver's own, as
 * it shows what was printed only there. Moves before the load's answer. */
#define IVG_MAY_PRINT 3208u

/* How many errors of asynchronous calls were noted so far: a guest that sees it move asks for the error by a call that
 * reports. It moves before any later completion word of the same stream. */
#define IVG_DEFERRED_NOTED 3216u

/* What a graph node does. Addresses are unified ones; of a copy, both sides are device or pinned memory. What a type
 * does not name is zero. */
#define IVG_NODE_PAYLOAD_BYTES_MAX 32768u
struct ivg_wire_graph_node {
        uint32_t type;   /* CUgraphNodeType */
        ivg_id function; /* kernel: FUNCTION or KERNEL number of `func`; the payload has its parameters, packed */
        uint32_t grid[3];
        uint32_t block[3];
        uint32_t shared_bytes;
        uint32_t value;         /* set */
        uint32_t element_bytes; /* set: 1, 2, 4 */
        uint32_t flags;         /* batch of memory operations: its flags; kernel, in an answer: IVG_NODE_... */
        /* Memory allocated or freed: dst. A copy's side that is an array: bytes, rows, slices before the box. */
        uint64_t dst, dst_pitch, dst_height;
        uint64_t src, src_pitch, src_height;
        uint64_t width, height, depth; /* set: width in elements, no depth; memory allocated: width bytes */
        ivg_id object;                 /* kernel: KERNEL number of `kern`; child graph; event */
        ivg_id context;                /* kernel of `kern`, in an answer */
        uint32_t dst_type, src_type;   /* copy: CUmemorytype; memory allocated: its location's */
        ivg_id dst_array, src_array;   /* copy: of the type ARRAY */
        uint32_t count;                /* batch: operations in the payload; memory allocated: CUmemAccessDesc there;
                                          conditional: bodies */
        int32_t which; /* child graph: ownership; conditional: type; memory allocated: the location's id */
        uint64_t host_function, host_data; /* the guest's addresses */
        uint64_t handle;                   /* conditional */
};
/* `function` is the kernel whose function in the context the node has: it has no number of its own yet. */
#define IVG_NODE_FUNCTION_OF_KERNEL 1u

/* A copy of a box, with arrays or between contexts. A side without an array is a unified address: the box's first byte.
 */
struct ivg_wire_box_side {
        uint64_t address, pitch, height; /* no array: where, bytes from row to row, rows from slice to slice */
        uint64_t x, y, z;                /* array: bytes, rows, slices before the box; else zero */
};
struct ivg_wire_box {
        struct ivg_wire_box_side to, from;
        uint64_t width, height, depth;
        uint32_t peer; /* 1: cuMemcpy3DPeer, with the contexts of the call */
        uint32_t reserved;
};

/* What a texture or surface looks at; arrays are handles of the call. */
struct ivg_wire_resource {
        uint32_t type;             /* CUresourcetype */
        uint32_t format, channels; /* linear, pitch2D */
        uint32_t flags;
        uint64_t address; /* linear, pitch2D: a device address that only the device follows */
        uint64_t bytes;   /* linear */
        uint64_t width, height, pitch;
};
struct ivg_wire_color {
        float components[4];
};

_Static_assert(sizeof(struct ivg_call_header) == 16, "changes the wire: bump IVG_LAYOUT_VERSION");
_Static_assert(sizeof(struct ivg_wire_range) == 16, "changes the wire: bump IVG_LAYOUT_VERSION");

#endif
