/* Graph nodes on this side: objects that are made when the program first sees a node, and end with its graph. */
#ifndef IVG_GUEST_GRAPH_H
#define IVG_GUEST_GRAPH_H

#include "guest.h"
#pragma GCC visibility push(hidden)

#define IVG_GRAPH_NODES_MAX 65536u /* of one list: what a row of the table carries */
#define IVG_GRAPH_BODIES_MAX 256u  /* of one conditional node */
/* Flag of a GRAPH object: a node's own, which ends with the node. */
#define IVG_GRAPH_OF_NODE 1u

/* ---- graph.c ---- */

/* Numbers for nodes that the host may meet for the first time. It uses them in order. */
struct ivg_fresh_nodes {
        ivg_id *ids;
        uint32_t count;
};
/* OUT_OF_MEMORY: none is taken. Else ivg_fresh_nodes_settle() ends it. */
CUresult ivg_fresh_nodes_take(uint32_t count, struct ivg_fresh_nodes *fresh);
/* Gives back those that do not occur in `numbers`, which the host has answered. */
void ivg_fresh_nodes_settle(struct ivg_fresh_nodes *fresh, const ivg_id *numbers, uint64_t count);
/* A copy of pageable memory that was made by hand has a host function's node before it (it reads) or behind it (it
 * writes): the handle is the copy's, edges begin and end at whichever is outermost. In `values` of the copy's object.
 */
enum ivg_node_value {
        IVG_NODE_READER, /* ivg_id; NONE: there is none */
        IVG_NODE_WRITER,
        IVG_NODE_GRAPH, /* of a copy that has one of them: the number of its graph */
};
/* Which end of a node an edge touches. */
enum ivg_node_end { IVG_NODE_AS_FROM, IVG_NODE_AS_TO };
/* INVALID_HANDLE when one is not a node. */
CUresult ivg_graph_node_ids(const CUgraphNode *nodes, size_t count, enum ivg_node_end end, ivg_id *ids);
static inline CUgraphNode ivg_graph_node_of(ivg_id number)
{
        return (CUgraphNode)ivg_object_of_id(IVG_KIND_GRAPH_NODE, number);
}

/* ---- graph_node_params.c: what a node does, as it travels ---- */

struct ivg_paged_box { /* rows in the program's memory */
        uint64_t address, pitch, slice_pitch;
        uint64_t width, height, depth;
};
struct ivg_node {
        struct ivg_wire_graph_node wire;
        void *payload; /* freed by ivg_node_end */
        uint64_t payload_bytes;
        /* A copy with one pageable side: that side in `wire` is packed, its address not there yet. */
        enum { IVG_NODE_NOT_PAGED, IVG_NODE_READS, IVG_NODE_WRITES } paged;
        struct ivg_paged_box rows;
};
/* Each fills `node`, which ivg_node_end ends whatever the result. */
CUresult ivg_node_kernel(struct ivg_node *node, const CUDA_KERNEL_NODE_PARAMS *p);
CUresult ivg_node_kernel_v1(struct ivg_node *node, const CUDA_KERNEL_NODE_PARAMS_v1 *p);
CUresult ivg_node_memcpy(struct ivg_node *node, const CUDA_MEMCPY3D *p, CUcontext context);
CUresult ivg_node_memset(struct ivg_node *node, const CUDA_MEMSET_NODE_PARAMS *p, CUcontext context);
CUresult ivg_node_host(struct ivg_node *node, const CUDA_HOST_NODE_PARAMS *p);
CUresult ivg_node_batch(struct ivg_node *node, const CUDA_BATCH_MEM_OP_NODE_PARAMS *p);
CUresult ivg_node_alloc(struct ivg_node *node, const CUDA_MEM_ALLOC_NODE_PARAMS *p);
CUresult ivg_node_free(struct ivg_node *node, CUdeviceptr address);
CUresult ivg_node_generic(struct ivg_node *node, const CUgraphNodeParams *p);
void ivg_node_end(struct ivg_node *node);

/* ---- allocate.c ---- */

/* Notes memory that a graph allocates: it has its address from now on. */
CUresult ivg_graph_memory_note(struct ivg_object *context, uint64_t address, uint64_t bytes);

#pragma GCC visibility pop
#endif
