/* Launch shapes and their checks: shared by launch.c and occupancy.c. */
#ifndef IVG_GUEST_LAUNCH_H
#define IVG_GUEST_LAUNCH_H

#include "function.h"

#define IVG_LAUNCH_ATTRIBUTES_MAX 32u

/* Brings an attribute into the form that travels: numbers for events. Refuses by name what would bring a handle of the
 * host's, by number what is not known. */
IVG_HIDDEN CUresult ivg_launch_attribute(CUlaunchAttribute *attribute);
/* Copies a launch configuration's attributes so, and leaves out those without a meaning (CU_LAUNCH_ATTRIBUTE_IGNORE).
 */
IVG_HIDDEN CUresult ivg_launch_attributes(const CUlaunchAttribute *attributes, unsigned int count,
                                          CUlaunchAttribute copies[IVG_LAUNCH_ATTRIBUTES_MAX], uint32_t *copies_count);

/* A launch whose parameters are packed already (launch_first.c). */
struct ivg_packed_launch {
        CUfunction function;
        CUstream stream;
        ivg_id null_stream;
        uint32_t grid[3], block[3], shared_bytes;
        const void *parameters;
        uint64_t bytes;
};
IVG_HIDDEN CUresult ivg_launch_packed(const struct ivg_packed_launch *launch);

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
