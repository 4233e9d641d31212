/* Shared words as Frama-C is to see them: volatile, so that each access may find anything. Included before all else, in
 * the place of <stdatomic.h>: Frama-C 25 has no _Atomic. */
#ifndef IVG_PROOFS_WORDS_H
#define IVG_PROOFS_WORDS_H

#define __FC_STDATOMIC
#define _Atomic(type) volatile type
#define _Alignas(bytes)
#define _Static_assert(condition, words)
#define ATOMIC_LLONG_LOCK_FREE 2
#define ATOMIC_INT_LOCK_FREE 2
enum memory_order {
        memory_order_relaxed,
        memory_order_acquire,
        memory_order_release,
        memory_order_acq_rel,
        memory_order_seq_cst
};
extern volatile int ivg_any;

#define atomic_load_explicit(word, order) (*(word))
#define atomic_store_explicit(word, value, order) ((void)(*(word) = (value)))
#define atomic_exchange_explicit(word, value, order) (*(word) = (value))
#define atomic_compare_exchange_strong_explicit(word, expected, desired, order, failed) \
        (ivg_any ? (*(word) = (desired), 1) : (*(expected) = *(word), 0))
#define atomic_thread_fence(order) ((void)0)

#endif
