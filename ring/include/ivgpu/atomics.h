/* The only door to words that the other side writes too: every ordered access of ivgpu goes through these.
 *
 * One place decides the order, ThreadSanitizer understands it, and a build can replace the loads (define IVG_LOAD_HOOK)
 * to prove that no shared word is fetched twice. A relaxed access says at its call site why relaxed is enough. */
#ifndef IVGPU_ATOMICS_H
#define IVGPU_ATOMICS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
/* C++ has no <stdatomic.h> before C++23: the same words by its own names, so that a C++ program can include these
 * headers (std::atomic of a lock-free integer has the integer's size and alignment; tests/unit/ring_headers.c compares
 * them). */
#include <atomic>
#define _Atomic(type) std::atomic<type>
#define _Static_assert static_assert
#define _Alignas alignas
using std::atomic_thread_fence;
using std::memory_order_acq_rel;
using std::memory_order_acquire;
using std::memory_order_relaxed;
using std::memory_order_release;
using std::memory_order_seq_cst;
#else
#include <stdatomic.h>
#endif

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free: two machines share them");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "32-bit atomics must be lock-free: two machines share them");

#ifdef IVG_LOAD_HOOK
void ivg_load_hook(const volatile void *address, uint32_t bytes);
#else
#define ivg_load_hook(address, bytes) ((void)0)
#endif

/* Order that ThreadSanitizer cannot see, as it goes through another process or a library that it does not instrument,
 * is told to it: what comes after the acquire comes after what came before the release of the same address. */
#ifdef IVG_TSAN
#ifdef __cplusplus
extern "C" {
#endif
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#ifdef __cplusplus
}
#endif
static inline void ivg_tsan_acquire(void *address)
{
        __tsan_acquire(address);
}
static inline void ivg_tsan_release(void *address)
{
        __tsan_release(address);
}
#else
static inline void ivg_tsan_acquire(void *address)
{
        (void)address;
}
static inline void ivg_tsan_release(void *address)
{
        (void)address;
}
#endif

/* A full fetch of one shared word; call it once for each decision (facts: a second fetch may see another value). */
#define IVG_DEFINE_ATOMICS(suffix, type)                                                                            \
        static inline type ivg_load_relaxed_##suffix(const _Atomic(type) *word)                                     \
        {                                                                                                           \
                const type value = atomic_load_explicit((_Atomic(type) *)word, memory_order_relaxed);               \
                ivg_load_hook(word, sizeof(type));                                                                  \
                return value;                                                                                       \
        }                                                                                                           \
        static inline type ivg_load_acquire_##suffix(const _Atomic(type) *word)                                     \
        {                                                                                                           \
                const type value = atomic_load_explicit((_Atomic(type) *)word, memory_order_acquire);               \
                ivg_load_hook(word, sizeof(type));                                                                  \
                return value;                                                                                       \
        }                                                                                                           \
        static inline type ivg_load_seq_cst_##suffix(const _Atomic(type) *word)                                     \
        {                                                                                                           \
                const type value = atomic_load_explicit((_Atomic(type) *)word, memory_order_seq_cst);               \
                ivg_load_hook(word, sizeof(type));                                                                  \
                return value;                                                                                       \
        }                                                                                                           \
        static inline void ivg_store_relaxed_##suffix(_Atomic(type) *word, type value)                              \
        {                                                                                                           \
                atomic_store_explicit(word, value, memory_order_relaxed);                                           \
        }                                                                                                           \
        static inline void ivg_store_release_##suffix(_Atomic(type) *word, type value)                              \
        {                                                                                                           \
                atomic_store_explicit(word, value, memory_order_release);                                           \
        }                                                                                                           \
        static inline type ivg_exchange_seq_cst_##suffix(_Atomic(type) *word, type value)                           \
        {                                                                                                           \
                return atomic_exchange_explicit(word, value, memory_order_seq_cst);                                 \
        }                                                                                                           \
        static inline bool ivg_compare_exchange_acq_rel_##suffix(_Atomic(type) *word, type *expected, type desired) \
        {                                                                                                           \
                return atomic_compare_exchange_strong_explicit(word, expected, desired, memory_order_acq_rel,       \
                                                               memory_order_acquire);                               \
        }

IVG_DEFINE_ATOMICS(u32, uint32_t)
IVG_DEFINE_ATOMICS(u64, uint64_t)

/* One fetch of eight payload bytes that the other side may change at any time: volatile, so that a compiler can neither
 * split it, repeat it, nor read the shared copy again after a check of the private one. Order comes from the commit
 * word. */
static inline uint64_t ivg_fetch_u64(const uint64_t *word)
{
        const uint64_t value = *(const volatile uint64_t *)word;
        ivg_load_hook(word, sizeof(uint64_t));
        return value;
}

/* No later load of this thread is served before its earlier stores are seen by everybody: the one order that release
 * and acquire do not give. A locked operation on the thread's own stack: MFENCE costs several times that. */
static inline void ivg_fence_seq_cst(void)
{
#if defined(__x86_64__)
        /* By hand, because some compilers take MFENCE for it, and because ThreadSanitizer, which does not model fences,
         * need not: it checks the plain words, which release and acquire order. */
        __asm__ volatile("lock orl $0, -4(%%rsp)" ::: "memory", "cc");
#else
        atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* No later load is served before an earlier one. x86 serves loads in order: the compiler alone is held. ThreadSanitizer
 * does not model fences, see above. */
static inline void ivg_fence_acquire(void)
{
#if defined(__x86_64__)
        __asm__ volatile("" ::: "memory");
#else
        atomic_thread_fence(memory_order_acquire);
#endif
}

/* No later store is seen before an earlier one; as above. */
static inline void ivg_fence_release(void)
{
#if defined(__x86_64__)
        __asm__ volatile("" ::: "memory");
#else
        atomic_thread_fence(memory_order_release);
#endif
}

/* Nothing later begins, not even by speculation, before everything earlier is done. Order is not what it is for: a look
 * at a line that begins too early takes it from who is writing it. */
static inline void ivg_cpu_finish_first(void)
{
#if defined(__x86_64__)
        __builtin_ia32_lfence();
#endif
}

/* Passes `steps` times 3 cycles, about a nanosecond each, once everything earlier is done, and lets nothing later begin
 * before: without looking at a clock, which may take as long. */
static inline void ivg_cpu_pass(uint32_t steps)
{
        uint64_t value = 3;

        ivg_cpu_finish_first();
        for (uint32_t i = 0; i < steps; i++) { /* a multiplication: each waits for the last */
                value *= value;
                __asm__ volatile("" : "+r"(value));
        }
        ivg_cpu_finish_first();
}

/* A clock of this processor that costs little, in units of its own; 0 for ever where there is none. */
static inline uint64_t ivg_cpu_ticks(void)
{
#if defined(__x86_64__)
        return __builtin_ia32_rdtsc();
#else
        return 0;
#endif
}

/* Spin-loop hint: frees the core's pipeline for its sibling and shortens the exit from the loop (x86 PAUSE). */
static inline void ivg_cpu_relax(void)
{
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
}

/* Fetches a line that will be written soon. Any address; changes nothing that a program can see. */
static inline void ivg_cpu_prefetch_for_write(const volatile void *address)
{
#if defined(__x86_64__)
        __asm__ volatile("prefetchw %0" : : "m"(*(const volatile char *)address));
#else
        __builtin_prefetch((const void *)address, 1);
#endif
}

#endif
