/* Our use of liburcu: flavour "memb", one place for registration, reading and delayed freeing.
 *
 * Readers register: an executor's threads that run calls once, the mediator's thread for metrics at each request. A
 * read-side section covers one look-up and nothing else: no driver call, no wait. Writers free through ivg_rcu_free.
 * liburcu itself is not instrumented, so ThreadSanitizer is told of the two edges that it provides. */
#ifndef IVG_RCU_H
#define IVG_RCU_H

#define URCU_API_MAP
#include <ivgpu/atomics.h>
#include <stddef.h>
#include <stdint.h>
#include <urcu/urcu-memb.h>

#ifdef IVG_TSAN
extern char ivg_rcu_grace_tag;
#endif

/* The structure around a node of liburcu's; through void *, since both compilers check alignment of casts. */
#define ivg_container_of(node, type, member) ((type *)(void *)((uintptr_t)(node)-offsetof(type, member)))

static inline void ivg_rcu_read_lock(void)
{
        urcu_memb_read_lock();
}

static inline void ivg_rcu_read_unlock(void)
{
#ifdef IVG_TSAN
        ivg_tsan_release(&ivg_rcu_grace_tag);
#endif
        urcu_memb_read_unlock();
}

/* Memory that readers may still see: freed after a grace period. `header` is its first member; NULL is fine. */
struct ivg_rcu_header {
        struct rcu_head head;
};
void ivg_rcu_free(struct ivg_rcu_header *header);
/* Waits until everything given to ivg_rcu_free is freed: tests and orderly ends. */
void ivg_rcu_drain(void);

#endif
