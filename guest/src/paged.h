/* Copies between the program's pageable memory and the device that a graph makes (paged.c). */
#ifndef IVG_GUEST_PAGED_H
#define IVG_GUEST_PAGED_H

#include "graph.h"
#include "memory.h"
#pragma GCC visibility push(hidden)

struct ivg_paged;

/* ---- of a capture ---- */

/* Arena memory for the box, its rows packed, which the graph of the capture keeps. */
CUresult ivg_paged_begin(const struct ivg_copy *copy, const struct ivg_paged_box *box, struct ivg_paged **paged);
uint64_t ivg_paged_address(const struct ivg_paged *paged);
/* The next node of the stream copies from the program's memory into it, or out of it. */
CUresult ivg_paged_read(const struct ivg_copy *copy, struct ivg_paged *paged);
CUresult ivg_paged_write(const struct ivg_copy *copy, struct ivg_paged *paged);

/* ---- of a node by hand ---- */

/* The same, kept by `graph`. */
CUresult ivg_paged_of_graph(ivg_id graph, const struct ivg_paged_box *box, struct ivg_paged **paged);
/* The host function's node that reads into it or writes out of it; of NULL: one that does nothing. */
void ivg_paged_node(struct ivg_paged *paged, bool to_program, struct ivg_wire_graph_node *wire);

/* ---- of both ---- */

/* What `address` stands for in a node's description; false: it is nothing of this. */
bool ivg_paged_find(uint64_t address, struct ivg_paged_box *box);
/* Gives back what graphs have let go of. */
void ivg_paged_sweep(void);

#pragma GCC visibility pop
#endif
