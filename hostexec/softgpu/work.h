/* Between cu_work.c and cu_wait.c; everything under sg_work_lock. */
#ifndef IVGPU_SOFTGPU_WORK_H
#define IVGPU_SOFTGPU_WORK_H

#include <time.h>

#include "softgpu.h"

struct timespec sg_deadline(unsigned milliseconds);
/* A closed and drained stream orders nothing any more. */
void sg_stream_unlink(struct sg_stream *stream);
/* Makes `op` wait for the newest operation of `stream`, unless all are done. */
CUresult sg_op_add_newest(struct sg_op *op, struct sg_stream *stream);
/* The legacy stream's rule for an operation about to be queued in `stream`. */
CUresult sg_op_order(struct sg_op *op, struct sg_stream *stream);
/* Waits for the operation's points. A worker passes its context: when that has failed, the operation will be dropped,
 * and must not hold up the queue behind work of another context. */
void sg_points_wait(const struct sg_op *op, const struct sg_context *own);

#endif
