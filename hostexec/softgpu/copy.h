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
bool sg_span_is_read_only(const struct sg_span *span);

#endif
