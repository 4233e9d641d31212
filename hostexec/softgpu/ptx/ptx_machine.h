/* A running grid: warps, their parts and frames, blocks. Handlers see a warp; the interpreter sees all. */
#ifndef IVGPU_SOFTGPU_PTX_MACHINE_H
#define IVGPU_SOFTGPU_PTX_MACHINE_H

#include <stdatomic.h>

#include "ptx_program.h"

/* Lanes hold untyped bits: a register is read as whatever the instruction says. */
typedef uint8_t __attribute__((may_alias)) lane_u8;
typedef uint16_t __attribute__((may_alias)) lane_u16;
typedef uint32_t __attribute__((may_alias)) lane_u32;
typedef uint64_t __attribute__((may_alias)) lane_u64;
typedef int16_t __attribute__((may_alias)) lane_s16;
typedef int32_t __attribute__((may_alias)) lane_s32;
typedef int64_t __attribute__((may_alias)) lane_s64;
typedef float __attribute__((may_alias)) lane_f32;
typedef double __attribute__((may_alias)) lane_f64;

/* Registers of one call. Parts of a warp that are in the same call share it and write different lanes. */
struct ptx_frame {
        struct ptx_frame *parent;
        const struct ptx_function *function;
        const struct ptx_call *call; /* what the parent waits for */
        struct ptx_frame *next_free;
        uint32_t return_pc;
        uint32_t depth;
        uint32_t references; /* fragments in this frame or above it in a callee */
        uint32_t local_base;
        uint32_t capacity; /* of registers, in bytes */
        uint8_t *registers;
};

enum ptx_fragment_state {
        PTX_FRAGMENT_RUNS,
        PTX_FRAGMENT_AT_SYNC,    /* waits for the other lanes of its member mask */
        PTX_FRAGMENT_AT_WARPBAR, /* the same, at bar.warp.sync */
        PTX_FRAGMENT_AT_BARRIER, /* waits for other warps */
};

/* Lanes of a warp at one place. Diverging splits a fragment, meeting at the same place and frame joins two. */
struct ptx_fragment {
        struct ptx_frame *frame;
        uint32_t pc;
        uint32_t mask;
        uint32_t members; /* AT_WARPBAR */
        uint32_t barrier; /* AT_BARRIER */
        uint64_t stamp;   /* when it last ran */
        enum ptx_fragment_state state;
};

struct ptx_warp {
        /* Of the fragment that runs; what handlers need comes first. */
        uint8_t *registers;
        const uint8_t *constants;
        struct ptx_block *block;
        uint32_t local_base;
        uint32_t carry; /* condition code, by lane */

        /* The range of the memory map that was hit last. */
        uint64_t cached_start;
        uint64_t cached_bytes;
        bool cached_writable;

        uint32_t index;
        uint32_t alive; /* lanes that have not exited */
        uint32_t born;  /* lanes the block has threads for */
        uint32_t first_thread;
        uint32_t tid[3][PTX_LANES];

        struct ptx_fragment fragments[PTX_LANES];
        uint32_t fragment_count;
        uint64_t clock; /* stamps */
        struct ptx_frame *free_frames;

        /* Of a fault. */
        uint32_t fault_lane;
        uint64_t fault_address;
        char fault_detail[128];
};

struct ptx_barrier {
        uint32_t arrived[PTX_BLOCK_THREADS_MAX / PTX_LANES]; /* lanes, by warp */
        uint32_t expected;                                   /* threads; 0: all that live */
        bool in_use;
        uint32_t red_count; /* lanes with a true predicate */
        uint32_t red_total; /* lanes that gave one */
};

struct ptx_block {
        struct ptx_run *run;
        uint32_t ctaid[3];
        uint32_t alive; /* threads */
        uint32_t warp_count;
        struct ptx_warp *warps;
        uint8_t *shared;
        uint32_t shared_bytes;
        uint8_t *local;
        uint32_t local_stride;
        struct ptx_barrier barriers[PTX_BARRIERS_MAX];
        struct ptx_block *next; /* resident blocks of a worker */
};

/* One launch, shared by its workers; constant but for the atomics. */
struct ptx_run {
        const struct ptx_launch *launch;
        const struct ptx_function *function;
        const struct ptx_module *module;
        uint8_t *params;
        uint32_t shared_bytes;   /* static and dynamic */
        uint32_t dynamic_shared; /* where dynamic shared memory starts */
        uint32_t threads;        /* per block */
        uint64_t block_count;
        uint64_t grid_id;
        _Alignas(64) _Atomic(uint64_t) next_block;
        _Atomic(uint32_t) stop;     /* a fault or the abort flag: no new work */
        _Atomic(uint32_t) resident; /* blocks started and not done */
        pthread_mutex_t lock;       /* fault and status */
        enum ptx_status status;
        struct ptx_fault fault;
        uint32_t helpers; /* pool threads inside; guarded by the pool's lock */
        struct ptx_run *pool_next;
        uint32_t workspace[16]; /* of cooperative groups: see %envreg1 */
};

static inline void *ptx_at(const struct ptx_warp *warp, ptx_ref ref)
{
        const uint8_t *base = ref & PTX_REF_CONSTANT ? warp->constants : warp->registers;

        return (void *)(uintptr_t)(base + (ref & ~PTX_REF_CONSTANT));
}

/* Runs BODY with `i` as lane for the lanes of MASK. Two loops, because the full one vectorises. */
#if defined(__clang__)
#define PTX_VECTORISE _Pragma("clang loop vectorize(assume_safety)")
#else
#define PTX_VECTORISE _Pragma("GCC ivdep")
#endif
#define PTX_LANES_DO(MASK, ...)                                                    \
        do {                                                                       \
                if ((MASK) == PTX_MASK_FULL) {                                     \
                        PTX_VECTORISE                                              \
                        for (unsigned i = 0; i < PTX_LANES; i++) {                 \
                                __VA_ARGS__                                        \
                        }                                                          \
                } else {                                                           \
                        for (uint32_t rest_ = (MASK); rest_; rest_ &= rest_ - 1) { \
                                unsigned i = (unsigned)__builtin_ctz(rest_);       \
                                __VA_ARGS__                                        \
                        }                                                          \
                }                                                                  \
        } while (0)

/* membar, fence, and the order that .acquire and .release ask for. ThreadSanitizer knows no fences: for it, every fence
 * is a read-modify-write of one word. */
#ifdef IVG_TSAN
void ptx_fence(void);
#else
static inline void ptx_fence(void)
{
        atomic_thread_fence(memory_order_seq_cst);
}
#endif

/* Relaxed: the flags order nothing, they only end loops. */
static inline bool ptx_must_stop(const struct ptx_run *run)
{
        const _Atomic(uint32_t) *abort_flag = run->launch->abort;

        return atomic_load_explicit(&run->stop, memory_order_relaxed) ||
               (abort_flag && atomic_load_explicit(abort_flag, memory_order_relaxed));
}

ptx_handler ptx_arith_find(const char *key);

/* Fault of the handler that runs: remembers where, returns `status`. */
int ptx_fault_at(struct ptx_warp *warp, enum ptx_status status, unsigned lane, uint64_t address, const char *format,
                 ...) __attribute__((format(printf, 5, 6)));

/* ptx_address.c. Checked host addresses of an access of `bytes` for each lane of mask. */
int ptx_resolve(struct ptx_warp *warp, const struct ptx_insn *insn, uint32_t mask, unsigned bytes, bool write,
                uint8_t *place[PTX_LANES]);
/* One lane's generic address; NULL: outside. *room, if not NULL: how many bytes may follow. */
uint8_t *ptx_resolve_generic(struct ptx_warp *warp, unsigned lane, uint64_t address, uint64_t bytes, bool write,
                             uint64_t *room);
uint64_t ptx_local_window(const struct ptx_warp *warp, unsigned lane);

/* ptx_block.c */
struct ptx_block *ptx_block_create(struct ptx_run *run);
void ptx_block_destroy(struct ptx_block *block);
bool ptx_block_start(struct ptx_block *block, uint64_t index);
enum ptx_block_progress { PTX_BLOCK_DONE, PTX_BLOCK_YIELDS, PTX_BLOCK_FAILED };
enum ptx_block_progress ptx_block_run(struct ptx_block *block);
void ptx_block_fail(struct ptx_block *block, const struct ptx_warp *warp, uint32_t line, enum ptx_status status);
/* Lanes of a warp arrive at barrier `id`, with a predicate for bar.red. */
void ptx_barrier_arrive(struct ptx_block *block, uint32_t id, uint32_t warp, uint32_t lanes, uint32_t true_lanes,
                        uint32_t expected, bool gives_predicate);

/* ptx_interpreter.c */
enum ptx_warp_progress { PTX_WARP_DONE, PTX_WARP_YIELDS, PTX_WARP_WAITS, PTX_WARP_FAILED };
enum ptx_warp_progress ptx_warp_run(struct ptx_warp *warp);
bool ptx_warp_start(struct ptx_warp *warp);
void ptx_warp_release(struct ptx_warp *warp);
/* A barrier completed: its waiters move on, with the reduction's result. */
void ptx_warp_pass_barrier(struct ptx_warp *warp, uint32_t id, const struct ptx_barrier *barrier);

#endif
