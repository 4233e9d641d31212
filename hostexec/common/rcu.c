/* Delayed freeing. */
#include "rcu.h"
#include <stdlib.h>

#ifdef IVG_TSAN
char ivg_rcu_grace_tag;

/* What liburcu's own thread does with liburcu's own memory. */
const char *__tsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void)
{
        return "race:call_rcu_thread\nrace:urcu_memb_barrier\n";
}
#endif

static void free_header(struct rcu_head *head)
{
#ifdef IVG_TSAN
        ivg_tsan_acquire(&ivg_rcu_grace_tag);
        ivg_tsan_acquire(head);
#endif
        free(head); /* the first member's address is the allocation's */
}

void ivg_rcu_free(struct ivg_rcu_header *header)
{
        if (!header)
                return;
        ivg_tsan_release(&header->head);
        urcu_memb_call_rcu(&header->head, free_header);
}

void ivg_rcu_drain(void)
{
        urcu_memb_barrier();
}
