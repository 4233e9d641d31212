/* Graphs of kernels for the driver of the executor's tests, and a list of what has reached its device, in order. What a
 * launch brings is read when the driver would read it: a plain one's at once, a node's when it is set. */
#ifndef EXEC_FAKE_GRAPHS_H
#define EXEC_FAKE_GRAPHS_H

#include "exec_fixture.h"

#define FAKE_ARRIVALS_MAX 16384u
#define FAKE_GRAPH_NODES_MAX 64u
/* `graph` of an arrival that no graph brought. */
#define FAKE_PLAIN 0u
#define FAKE_NO_LAUNCH UINT32_MAX /* an event record or a set */

struct fake_arrival {
        uintptr_t function, stream;
        uint32_t graph;  /* kernels of the graph that it came with */
        uint32_t number; /* grid_x: what the test calls it */
        uint32_t params_bytes;
        uint64_t params[2];
};

struct fake_graphs {
        /* what it is to do */
        _Atomic(uint32_t) hold;           /* the next event record waits for fake.release */
        _Atomic(uint32_t) node_fails;     /* the launch of that number cannot be set to a node */
        _Atomic(uint32_t) plain_fails;    /* nor launched */
        _Atomic(uint32_t) added_fails;    /* nor a node be made of it */
        _Atomic(uint32_t) launches_fail;  /* so many graphs' launches */
        _Atomic(uint32_t) makes_no_execs; /* instantiation fails */
        _Atomic(uintptr_t) clustered;     /* a function that has clusters of its own */
        /* what it has seen */
        _Atomic(uint32_t) held;           /* event records that wait */
        _Atomic(uint32_t) instantiations; /* tried */
        _Atomic(uint32_t) graphs, execs;  /* alive */
        _Atomic(uint32_t) execs_made;
        _Atomic(uint32_t) ends;               /* of streams, code, contexts, and changed limits */
        _Atomic(uint32_t) graphs_left_at_end; /* alive at such a moment, all together */
};
extern struct fake_graphs fake_graphs;

void fake_graphs_fill(struct ivg_driver *driver);
void fake_graphs_free(void); /* after the executor's end */
/* What has arrived so far; the list stays. Call it after a call has been answered, or a condition met. */
uint32_t fake_arrivals(const struct fake_arrival **list);

#endif
