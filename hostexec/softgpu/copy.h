/* Checked ranges, shared by all copies and fills. */
#ifndef IVGPU_SOFTGPU_COPY_H
#define IVGPU_SOFTGPU_COPY_H

#include "softgpu.h"

/* What a call's argument may name: device-accessible memory, memory of the host, or either (unified addressing). */
enum sg_side { SG_SIDE_DEVICE, SG_SIDE_HOST, SG_SIDE_ANY };

struct sg_span {
        char *address;
        struct sg_allocation *owner; /* referenced; NULL for pageable memory */
        bool pageable;
        bool read_only; /* of mappings */
};

/* Checks that [address, address + bytes) lies in one live allocation, in mappings in a row, or in pageable memory where
 * `side` allows it. */
CUresult sg_span_open(uint64_t address, size_t bytes, enum sg_side side, struct sg_span *out);
void sg_span_close(struct sg_span *span);
/* How a node's description names this side. */
CUmemorytype sg_span_type(const struct sg_span *span);
bool sg_span_is_read_only(const struct sg_span *span);

/* One side of a box's copy, as the caller's structure says it. */
struct sg_box_side {
        CUmemorytype type;
        uint64_t host, device;
        CUarray array;
        size_t x, y, z, pitch, height;
};
/* Copies a box of `extent`: bytes of a row, rows, slices. */
CUresult sg_box_copy(CUstream stream, const struct sg_box_side *to, const struct sg_box_side *from,
                     const size_t extent[3], bool synchronous);

#endif
