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

extern pthread_mutex_t sg_graph_lock;
void sg_graph_lock_take(void);
void sg_graph_lock_give(void);

struct sg_graph_work {
        _Atomic(uint32_t) references;
        struct sg_op *op;       /* or one of: */
        struct sg_event *event; /* referenced: event record, event wait */
        struct sg_graph *child; /* owned: child graph */
};
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
        uint64_t origin_id; /* the node that this one is a clone of, or its own */
        uint64_t id;
};

struct sg_graph {
        struct sg_object object;
        struct sg_node **nodes;
        uint32_t count, capacity;
        bool owned; /* by a node or a capture: no cuGraphDestroy */
        uint64_t id, origin_id;
};

/* What an instance does: shared with the launches under way. */
struct sg_plan {
        _Atomic(uint32_t) references;
        uint32_t count, capacity;
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

#endif
