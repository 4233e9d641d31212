/* Graph nodes on this side: objects that are made when the program first sees a node, and end with its graph. */
#ifndef IVG_GUEST_GRAPH_H
#define IVG_GUEST_GRAPH_H

#include "guest.h"
#pragma GCC visibility push(hidden)

#define IVG_GRAPH_NODES_MAX 65536u /* of one list: what a row of the table carries */

/* Numbers for nodes that the host may meet for the first time. It uses them in order. */
struct ivg_fresh_nodes {
        ivg_id *ids;
        uint32_t count;
};
CUresult ivg_fresh_nodes_take(uint32_t count, struct ivg_fresh_nodes *fresh);
/* Gives back those that do not occur in `numbers`, which the host has answered. */
void ivg_fresh_nodes_settle(struct ivg_fresh_nodes *fresh, const ivg_id *numbers, uint64_t count);
/* INVALID_HANDLE when one is not a node. */
CUresult ivg_graph_node_ids(const CUgraphNode *nodes, size_t count, ivg_id *ids);
static inline CUgraphNode ivg_graph_node_of(ivg_id number)
{
        return (CUgraphNode)ivg_object_of_id(IVG_KIND_GRAPH_NODE, number);
}

#pragma GCC visibility pop
#endif
