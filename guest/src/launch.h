/* Launch shapes and their checks: shared by launch.c and occupancy.c. */
#ifndef IVG_GUEST_LAUNCH_H
#define IVG_GUEST_LAUNCH_H

#include "function.h"

#define IVG_LAUNCH_ATTRIBUTES_MAX 32u

/* Copies the attributes of a launch configuration that the host may see, and leaves out those without a meaning
 * (CU_LAUNCH_ATTRIBUTE_IGNORE). Refuses by name those whose values are handles of this side. */
IVG_HIDDEN CUresult ivg_launch_attributes(const CUlaunchAttribute *attributes, unsigned int count,
                                          CUlaunchAttribute copies[IVG_LAUNCH_ATTRIBUTES_MAX], uint32_t *copies_count);

/* A kernel's parameters packed for a node of a graph, after the checks of a launch; free() them. */
struct ivg_node_launch {
        CUfunction function;
        uint32_t grid[3], block[3], shared_bytes;
        void *const *parameters;
        void *const *extra;
};
IVG_HIDDEN CUresult ivg_launch_node(const struct ivg_node_launch *launch, ivg_id *function, void **packed,
                                    uint64_t *bytes);

#endif
