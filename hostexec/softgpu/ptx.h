/* The soft GPU's PTX engine: text in, kernels run on the CPU.
 *
 * ptx_load parses one PTX module (PTX ISA, as nvcc emits it for compute_75 and later) into an internal program;
 * ptx_launch executes one grid. The engine knows no contexts, streams or allocations: the driver half (softgpu's cu*.c)
 * supplies a memory map and runs launches from its stream threads. An instruction the engine lacks is refused at load
 * time, named in the log with its line; it is never guessed. */
#ifndef IVGPU_SOFTGPU_PTX_H
#define IVGPU_SOFTGPU_PTX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ptx_module;
struct ptx_function;

enum ptx_status {
        PTX_OK = 0,
        PTX_INVALID,     /* syntax or semantics; log says line and token */
        PTX_UNSUPPORTED, /* a valid instruction or target that the engine lacks; log names it */
        PTX_OUT_OF_MEMORY,
        PTX_ILLEGAL_ADDRESS, /* launch: access outside the memory map, or misaligned: PTX_MISALIGNED */
        PTX_MISALIGNED,
        PTX_TRAP,             /* launch: trap or brkpt executed */
        PTX_ASSERT,           /* launch: __assertfail called; message in the result */
        PTX_OUT_OF_RESOURCES, /* launch: block or shared memory beyond the limits */
        PTX_BARRIER,          /* launch: threads wait at barriers that can never complete */
        PTX_ABORTED,          /* launch: the abort flag was raised */
};

/* Diagnostics of a load, as a driver's JIT log: NUL-terminated, cut at capacity. */
struct ptx_log {
        char *text;
        size_t capacity;
        size_t used;
};

/* One page-less view of device memory for bounds checks: sorted, disjoint, immutable while a launch runs. */
struct ptx_range {
        uint64_t start;
        uint64_t bytes;
        bool writable;
};
struct ptx_memory {
        const struct ptx_range *ranges; /* addresses are plain pointers of this process */
        size_t count;
};

/* Parses `text` (need not be NUL-terminated). Module-scope .global/.const variables get storage from `allocate`
 * (aligned, zeroed, with initialisers applied by the engine) so that the caller's memory map knows them; `release`
 * gives it back. Callers: any thread; modules are independent. */
struct ptx_allocator {
        void *(*allocate)(void *user, size_t bytes, size_t alignment);
        void (*release)(void *user, void *address);
        void *user;
};
enum ptx_status ptx_load(const char *text, size_t bytes, const struct ptx_allocator *allocator, struct ptx_log *log,
                         struct ptx_module **out);
void ptx_unload(struct ptx_module *module);

/* Kernels (.entry) and module variables, by name and by index; NULL / false when absent. Valid until ptx_unload. */
size_t ptx_function_count(const struct ptx_module *module);
struct ptx_function *ptx_function_at(const struct ptx_module *module, size_t index);
struct ptx_function *ptx_function_find(const struct ptx_module *module, const char *name);
bool ptx_global_find(const struct ptx_module *module, const char *name, void **address, size_t *bytes);

/* Where a module-scope .texref or .surfref keeps the number of what is bound to it; 0: nothing. */
bool ptx_reference_find(const struct ptx_module *module, const char *name, bool surface, uint64_t **slot);

struct ptx_function_info {
        const char *name;
        size_t param_count;
        size_t param_bytes;   /* size of the packed parameter block */
        size_t shared_bytes;  /* static shared memory */
        size_t local_bytes;   /* per thread */
        size_t const_bytes;   /* module constants the kernel can see */
        uint32_t registers;   /* a plausible count for occupancy: distinct 32-bit registers, at most 255 */
        uint32_t max_threads; /* .maxntid product, or 1024 */
        uint32_t ptx_version; /* e.g. 90 for 9.0 */
        uint32_t target;      /* e.g. 75 for sm_75 */
};
void ptx_function_query(const struct ptx_function *function, struct ptx_function_info *info);
/* Offset and size of parameter `index` in the packed block; false past the end. */
bool ptx_function_param(const struct ptx_function *function, size_t index, size_t *offset, size_t *bytes);

/* ---- textures and surfaces: what a number in a kernel's hands looks at ---- */

enum ptx_texel { /* of one channel */
                 PTX_TEXEL_U8,
                 PTX_TEXEL_S8,
                 PTX_TEXEL_U16,
                 PTX_TEXEL_S16,
                 PTX_TEXEL_U32,
                 PTX_TEXEL_S32,
                 PTX_TEXEL_HALF,
                 PTX_TEXEL_FLOAT
};
enum ptx_texture_address { PTX_TEXTURE_WRAP, PTX_TEXTURE_CLAMP, PTX_TEXTURE_MIRROR, PTX_TEXTURE_BORDER };
#define PTX_TEXTURE_LEVELS_MAX 17u
struct ptx_texture_level {
        uint8_t *data;
        uint32_t width, height, depth; /* in texels, at least 1; of a layered texture depth is the layers */
        uint64_t pitch, slice;         /* bytes from row to row, from slice to slice */
};
struct ptx_texture {
        bool surface;
        bool in_memory; /* the data is memory of the program: every access is checked against the launch's map */
        bool linear;    /* one dimension of memory: integer coordinates, zero outside */
        bool layered;
        uint32_t dimensions; /* 1 to 3, without layers */
        enum ptx_texel texel;
        uint32_t channels; /* 1, 2 or 4 */
        uint32_t level_count;
        struct ptx_texture_level levels[PTX_TEXTURE_LEVELS_MAX];
        enum ptx_texture_address address[3];
        bool filter_linear, levels_linear;
        bool normalized; /* coordinates from 0 to 1 */
        bool as_integer; /* 8 and 16 bits integers as they are, not as fractions of one */
        float level_bias, level_min, level_max;
        float border[4];
};

/* Blocks of one launch that may be started and not finished: they can wait for each other. More wait their turn. */
#define PTX_RESIDENT_BLOCKS_MAX 1024u

struct ptx_launch {
        const struct ptx_function *function;
        uint32_t grid[3];
        uint32_t block[3];
        uint32_t dynamic_shared_bytes;
        const void *params; /* packed block of param_bytes, copied by ptx_launch before it returns to running blocks */
        const struct ptx_memory *memory;
        const _Atomic(uint32_t) *abort; /* non-zero: stop at the next block or back edge; may be NULL */
        unsigned workers;               /* CPU threads to use; 0: all */
        bool cooperative;               /* grid.sync() works; blocks must not exceed PTX_RESIDENT_BLOCKS_MAX */
        /* printf from the device (vprintf): called with complete text, from worker threads, serialised. May be NULL. */
        void (*print)(void *user, const char *text, size_t bytes);
        void *print_user;
        /* What a number stands for: constant and there while the launch runs. NULL: nothing. May be NULL: no textures.
         */
        const struct ptx_texture *(*texture)(void *user, uint64_t number);
        void *texture_user;
};
struct ptx_fault {
        uint64_t address;
        uint32_t block[3];
        uint32_t thread[3];
        uint32_t line; /* of the PTX text */
        char detail[160];
};
/* Runs the grid to its end. Blocks are spread over a worker pool shared by all launches of the process. Synchronous.
 * Callers: any thread; concurrent launches are allowed. On failure `fault` (may be NULL) tells where. */
enum ptx_status ptx_launch(const struct ptx_launch *launch, struct ptx_fault *fault);

const char *ptx_status_name(enum ptx_status status);

#endif
