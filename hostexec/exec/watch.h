/* Words for questions: what a guest has found pending, the consumer asks the driver for in the guest's stead, and
 * writes the word when it is done. The consumer's thread alone.
 *
 * It asks between its looks at an empty ring, and at a batch's end. An event that is pending costs the driver 0.23 us
 * to say so (H200), a question that crosses the ring takes ten times that. While the consumer sleeps or is held at its
 * gate nobody asks; then the guest's own next question does, which wakes it.
 *
 * Tried instead: streams of the executor's own that wait for the event and write the word. A waiting stream holds back
 * the program's streams that share a queue of the device with it, whatever its priority: on an H200 a program with two
 * streams stood still. */
#ifndef IVG_EXEC_WATCH_H
#define IVG_EXEC_WATCH_H

#include "exec_internal.h"

/* Not more often, and at most so many events each time. */
#define IVG_WATCH_NS 1000u
#define IVG_WATCH_AT_ONCE 4u

void ivg_watches_ask(struct ivg_exec *exec, uint64_t now_ns);
static inline void ivg_watches_look(struct ivg_exec *exec, uint64_t now_ns)
{
        if (__builtin_expect(exec->watches.count > 0, 0) && now_ns - exec->watches.asked_ns >= IVG_WATCH_NS)
                ivg_watches_ask(exec, now_ns);
}
/* Before a record that may end an event, or make it a part of a capture. */
void ivg_watches_before(struct ivg_exec *exec, const struct ivg_exec_request *request);

#endif
