/* Graphs: nodes with what they do, and instances that do it.
 *
 * A node's work is an operation like those of streams, which is never queued itself: a launch of an instance is one
 * operation that runs those of the nodes, one after the other in an order that keeps their dependencies. Graph, its
 * clones and its instances share the work, which never changes once it is there.
 *
 * sg_graph_lock protects graphs and captures. It comes before the driver's other locks, and is recursive, since letting
 * go of work may let go of events and streams. */
#ifndef IVGPU_SOFTGPU_GRAPH_H
#define IVGPU_SOFTGPU_GRAPH_H

#include "softgpu.h"

#define SG_GRAPH_NODES_MAX (1u << 20)
#define SG_GRAPH_DEPTH_MAX 16u
#define SG_NODE_HINTS 8u /* attributes of a kernel node that are kept and told, and change nothing */

/* Of all graphs, and recursive: functions below take it themselves. */
extern pthread_mutex_t sg_graph_lock;
void sg_graph_lock_take(void);
void sg_graph_lock_give(void);

struct sg_graph_work {
        _Atomic(uint32_t) references;
        struct sg_op *op;             /* or one of: */
        struct sg_event *event;       /* referenced: event record, event wait */
        struct sg_graph *child;       /* owned: child graph */
        struct sg_allocation *memory; /* referenced and held: what it allocates */
        CUmemAccessDesc *access;      /* with `memory`: as given */
        size_t access_count;
        CUdeviceptr freed;
};
/* With one reference, the caller's; takes `op` and `child` over, and a reference to `event`. NULL: no memory, and
 * nothing is taken. */
struct sg_graph_work *sg_graph_work_new(struct sg_op *op, struct sg_event *event, struct sg_graph *child);
void sg_graph_work_get(struct sg_graph_work *work);
void sg_graph_work_put(struct sg_graph_work *work);

struct sg_node {
        struct sg_object object;
        struct sg_graph *graph;
        CUgraphNodeType type;
        struct sg_graph_work *work; /* NULL: an empty node */
        struct sg_tips dependencies;
        uint32_t index;     /* in its graph */
        bool disabled;      /* of an instance: does nothing */
        uint64_t origin_id; /* the node that this one is a clone of, or its own */
        uint64_t id;
        CUlaunchAttribute hints[SG_NODE_HINTS]; /* in use: those with an id */
};

struct sg_user {
        struct sg_object object;
        CUhostFn destroy;
        void *data;
        unsigned references; /* under sg_graph_lock; 0: the destructor is due or has run */
};
/* References to user objects that one owner has. */
struct sg_user_hold {
        struct sg_user *user;
        unsigned count;
};
struct sg_user_holds {
        struct sg_user_hold *items;
        unsigned count;
};

struct sg_graph {
        struct sg_object object;
        struct sg_node **nodes;
        uint32_t count, capacity;
        bool owned; /* by a node or a capture: no cuGraphDestroy */
        struct sg_user_holds users;
        uint64_t id, origin_id;
};

/* What an instance does: shared with the launches under way. */
struct sg_plan {
        _Atomic(uint32_t) references;
        uint32_t count, capacity;
        struct sg_user_holds users; /* until the last launch has ended */
        struct {
                CUgraphNodeType type;
                struct sg_graph_work *work; /* referenced */
        } steps[];
};

struct sg_exec {
        struct sg_object object;
        struct sg_context *context; /* referenced */
        struct sg_graph *graph;     /* a clone, for updates */
        struct sg_plan *plan;
        unsigned long long flags;
};

/* All under sg_graph_lock. */
CUresult sg_graph_new(struct sg_graph **out);
void sg_graph_close(struct sg_graph *graph);
/* Takes the work in every case. */
CUresult sg_graph_add(struct sg_graph *graph, CUgraphNodeType type, struct sg_graph_work *work,
                      struct sg_node *const *dependencies, size_t count, struct sg_node **out);
CUresult sg_graph_copy(const struct sg_graph *graph, struct sg_graph **out);
CUresult sg_tips_add(struct sg_tips *tips, struct sg_node *node); /* once each */
CUresult sg_tips_merge(struct sg_tips *tips, const struct sg_tips *more);
void sg_tips_clear(struct sg_tips *tips);
/* True when `from` is `node` or comes before it. */
bool sg_node_precedes(const struct sg_node *from, const struct sg_node *node);
CUresult sg_plan_make(const struct sg_graph *graph, struct sg_plan **out);
void sg_plan_put(struct sg_plan *plan);
/* Adds a node to what the handles name; takes the work in every case. */
CUresult sg_graph_add_handles(CUgraphNode *out, CUgraph handle, const CUgraphNode *dependencies, size_t count,
                              CUgraphNodeType type, struct sg_graph_work *work);
bool sg_graph_resolve(CUgraph handle, struct sg_graph **out);
/* Work that is a copy of this graph. */
CUresult sg_graph_child_work(CUgraph handle, struct sg_graph_work **out);
/* Whether `new` has the nodes and edges of `old`; *first: the first node that says no, or NULL. */
CUgraphExecUpdateResult sg_graph_differs(const struct sg_graph *old, const struct sg_graph *new, CUgraphNode *first);

/* ---- cu_graph_memory.c ---- */

CUresult sg_graph_memory_work(struct sg_context *context, const CUDA_MEM_ALLOC_NODE_PARAMS_v2 *params,
                              struct sg_graph_work **out);
CUresult sg_graph_free_work(CUdeviceptr address, struct sg_graph_work **out);
void sg_graph_memory_release(struct sg_graph_work *work);
/* Counts what a launch of the plan allocates and frees. INVALID_VALUE: something is live from an earlier launch. */
CUresult sg_graph_memory_launch(const struct sg_plan *plan, bool free_before);
/* What a capture makes of a call: a node of `type`; takes the work in every case. */
CUresult sg_capture_work(struct sg_stream *stream, CUgraphNodeType type, struct sg_graph_work *work);

/* ---- cu_user_object.c ---- */

/* Adds references of the same user objects. */
CUresult sg_user_holds_copy(struct sg_user_holds *to, const struct sg_user_holds *from);
void sg_user_holds_release(struct sg_user_holds *holds);

#endif
