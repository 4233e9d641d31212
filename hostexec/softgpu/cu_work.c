/* Work: stream queues and the threads that serve them. Waiting is in cu_wait.c.
 *
 *   submit ──► queue of stream S ──► worker of S: waits for the operation's points, runs it without locks,
 *                                    completed = its sequence, wakes who waits on S
 *
 * An operation completes in queue order, so "completed >= n" says that the first n operations of a stream are done; a
 * point is such a pair. The legacy stream's rule is made of points: an operation in it waits for the newest operation
 * of every blocking stream, and an operation in a blocking stream waits for the legacy stream's newest. Points name
 * only operations submitted earlier, so they cannot form a cycle.
 *
 * One lock for all queues: an operation costs two short critical sections, against a kernel or a copy of microseconds.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "softgpu.h"
#include "work.h"

#define SG_POINTS_MAX 65536u
#define SG_FOREIGN_POLL_MS 50u /* a wait for another context looks this often whether its own has failed */
#define SG_POLL_SPIN_ROUNDS 64u
#define SG_POLL_SLEEP_NS_MAX 200000l

pthread_mutex_t sg_work_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(uint64_t) sg_stream_ids = 1;

uint64_t sg_now_ns(void)
{
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct timespec sg_deadline(unsigned milliseconds)
{
        struct timespec deadline;
        clock_gettime(CLOCK_MONOTONIC, &deadline);
        deadline.tv_sec += milliseconds / 1000;
        deadline.tv_nsec += (long)(milliseconds % 1000) * 1000000;
        if (deadline.tv_nsec >= 1000000000) {
                deadline.tv_nsec -= 1000000000;
                deadline.tv_sec++;
        }
        return deadline;
}

bool sg_poll_pause(const struct sg_context *context, unsigned *round)
{
        if (sg_context_check(context) != CUDA_SUCCESS || atomic_load(&context->closing) != 0)
                return false;
        const unsigned at = (*round)++;
        if (at < SG_POLL_SPIN_ROUNDS)
                return true;
        const long wanted = 1000l * (long)(at - SG_POLL_SPIN_ROUNDS + 1);
        const struct timespec pause = {0, wanted < SG_POLL_SLEEP_NS_MAX ? wanted : SG_POLL_SLEEP_NS_MAX};
        nanosleep(&pause, NULL);
        return true;
}

/* ---- streams ---- */

/* A new stream starts behind what the context waits for (cuCtxWaitEvent). */
static CUresult sg_stream_wait_gate(struct sg_stream *stream, struct sg_stream *gate)
{
        struct sg_op *op = sg_op_new(sizeof(*op), sg_op_run_nothing, sg_op_free);
        if (op == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        pthread_mutex_lock(&sg_work_lock);
        const CUresult result = sg_op_add_newest(op, gate);
        pthread_mutex_unlock(&sg_work_lock);
        if (result == CUDA_SUCCESS)
                return sg_submit(stream, op);
        sg_op_free(op);
        return result;
}

CUresult sg_stream_open(struct sg_context *context, enum sg_stream_role role, unsigned flags, int priority,
                        struct sg_stream **out)
{
        struct sg_stream *stream = sg_object_new(SG_STREAM);
        if (stream == NULL)
                return CUDA_ERROR_OUT_OF_MEMORY;
        pthread_condattr_t attributes;
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&stream->wake, &attributes);
        pthread_cond_init(&stream->progress, &attributes);
        pthread_condattr_destroy(&attributes);
        stream->context = context;
        stream->role = role;
        stream->flags = flags;
        stream->priority = priority;
        stream->id = atomic_fetch_add(&sg_stream_ids, 1);
        sg_object_get(context);
        pthread_mutex_lock(&sg_work_lock);
        stream->next = context->streams;
        stream->previous = &context->streams;
        if (stream->next != NULL)
                stream->next->previous = &stream->next;
        context->streams = stream;
        struct sg_stream *gate = context->gate;
        const bool waits = gate != NULL && gate->completed != gate->submitted;
        pthread_mutex_unlock(&sg_work_lock);
        *out = stream;
        return waits ? sg_stream_wait_gate(stream, gate) : CUDA_SUCCESS;
}

/* A closed and drained stream orders nothing any more; under sg_work_lock. */
void sg_stream_unlink(struct sg_stream *stream)
{
        if (stream->previous == NULL)
                return;
        *stream->previous = stream->next;
        if (stream->next != NULL)
                stream->next->previous = stream->previous;
        stream->previous = NULL;
}

void sg_stream_close(struct sg_stream *stream)
{
        sg_capture_forget_stream(stream);
        pthread_mutex_lock(&sg_work_lock);
        stream->closing = true;
        pthread_cond_signal(&stream->wake);
        if (stream->completed == stream->submitted)
                sg_stream_unlink(stream);
        pthread_mutex_unlock(&sg_work_lock);
        sg_object_put(stream);
}

void sg_stream_finalize(struct sg_stream *stream)
{
        sg_capture_forget_stream(stream);
        pthread_mutex_lock(&sg_work_lock);
        sg_stream_unlink(stream);
        pthread_mutex_unlock(&sg_work_lock);
        pthread_cond_destroy(&stream->wake);
        pthread_cond_destroy(&stream->progress);
        sg_object_put(stream->context);
}

bool sg_stream_is_blocking(const struct sg_stream *stream)
{
        return (stream->flags & CU_STREAM_NON_BLOCKING) == 0;
}

/* ---- operations ---- */

void *sg_op_new(size_t bytes, CUresult (*run)(struct sg_op *, struct sg_stream *), void (*release)(struct sg_op *))
{
        struct sg_op *op = calloc(1, bytes);
        if (op == NULL)
                return NULL;
        op->run = run;
        op->release = release;
        op->node_type = SG_NODE_TYPE_NONE;
        return op;
}

void sg_op_free(struct sg_op *op)
{
        for (unsigned i = 0; i < op->point_count; i++)
                sg_object_put(op->points[i].stream);
        free(op->points);
        free(op);
}

CUresult sg_op_add_point(struct sg_op *op, const struct sg_point *point)
{
        if (op->point_count == SG_POINTS_MAX)
                return CUDA_ERROR_OUT_OF_MEMORY;
        /* Grows by doubling: the capacity is the next power of two. */
        if ((op->point_count & (op->point_count - 1)) == 0) {
                const size_t capacity = op->point_count != 0 ? 2 * (size_t)op->point_count : 1;
                struct sg_point *larger = realloc(op->points, capacity * sizeof(*larger));
                if (larger == NULL)
                        return CUDA_ERROR_OUT_OF_MEMORY;
                op->points = larger;
        }
        sg_object_get(point->stream);
        op->points[op->point_count++] = *point;
        return CUDA_SUCCESS;
}

CUresult sg_op_add_newest(struct sg_op *op, struct sg_stream *stream)
{
        if (stream->completed == stream->submitted)
                return CUDA_SUCCESS;
        const struct sg_point point = {stream, stream->submitted};
        return sg_op_add_point(op, &point);
}

/* The legacy stream's rule, at submission; under sg_work_lock. */
CUresult sg_op_order(struct sg_op *op, struct sg_stream *stream)
{
        struct sg_stream *legacy = stream->context->legacy;
        if (stream != legacy)
                return sg_stream_is_blocking(stream) ? sg_op_add_newest(op, legacy) : CUDA_SUCCESS;
        CUresult result = CUDA_SUCCESS;
        for (struct sg_stream *other = stream->context->streams; other != NULL && result == CUDA_SUCCESS;
             other = other->next)
                if (other != legacy && sg_stream_is_blocking(other))
                        result = sg_op_add_newest(op, other);
        return result;
}

CUresult sg_op_run_nothing(struct sg_op *op, struct sg_stream *stream)
{
        (void)op;
        (void)stream;
        return CUDA_SUCCESS;
}

static void sg_op_run(struct sg_op *op, struct sg_stream *stream)
{
        struct sg_context *context = stream->context;
        if (sg_context_check(context) != CUDA_SUCCESS && !op->always)
                return; /* dropped: the context has failed */
        const CUresult result = op->run(op, stream);
        if (result != CUDA_SUCCESS)
                sg_context_fail(context, result);
}

static void sg_stream_complete(struct sg_stream *stream, uint64_t sequence)
{
        stream->completed = sequence;
        pthread_cond_broadcast(&stream->progress);
        if (stream->closing && stream->completed == stream->submitted)
                sg_stream_unlink(stream);
}

/* ---- the worker ---- */

/* Under sg_work_lock. False when the stream has been idle long enough, or closes with nothing left. */
static bool sg_worker_wait(struct sg_stream *stream)
{
        const struct timespec deadline = sg_deadline(SG_STREAM_IDLE_MS);
        while (stream->head == NULL) {
                if (stream->closing)
                        return false;
                if (pthread_cond_timedwait(&stream->wake, &sg_work_lock, &deadline) == ETIMEDOUT)
                        return stream->head != NULL;
        }
        return true;
}

/* Under sg_work_lock. A worker passes its context: when that has failed, the operation will be dropped, and must not
 * hold up the queue behind work of another context. */
void sg_points_wait(const struct sg_op *op, const struct sg_context *own)
{
        for (unsigned i = 0; i < op->point_count; i++) {
                struct sg_stream *other = op->points[i].stream;
                while (other->completed < op->points[i].sequence) {
                        if (own == NULL || other->context == own) {
                                pthread_cond_wait(&other->progress, &sg_work_lock);
                                continue;
                        }
                        if (sg_context_check(own) != CUDA_SUCCESS)
                                return;
                        const struct timespec deadline = sg_deadline(SG_FOREIGN_POLL_MS);
                        (void)pthread_cond_timedwait(&other->progress, &sg_work_lock, &deadline);
                }
        }
}

static void *sg_worker(void *argument)
{
        struct sg_stream *stream = argument;
        pthread_mutex_lock(&sg_work_lock);
        while (sg_worker_wait(stream)) {
                struct sg_op *op = stream->head;
                /* A synchronous call may be running the operation before this one on its own thread. */
                while (stream->completed + 1 != op->sequence)
                        pthread_cond_wait(&stream->progress, &sg_work_lock);
                sg_points_wait(op, stream->context);
                pthread_mutex_unlock(&sg_work_lock);
                sg_op_run(op, stream);
                pthread_mutex_lock(&sg_work_lock);
                stream->head = op->next;
                if (stream->head == NULL)
                        stream->tail = NULL;
                /* Released before completion is visible: who has waited may rely on the references being gone. */
                pthread_mutex_unlock(&sg_work_lock);
                const uint64_t sequence = op->sequence;
                op->release(op);
                pthread_mutex_lock(&sg_work_lock);
                sg_stream_complete(stream, sequence);
        }
        stream->worker = false;
        pthread_cond_broadcast(&stream->progress);
        pthread_mutex_unlock(&sg_work_lock);
        sg_object_put(stream);
        return NULL;
}

static CUresult sg_worker_start(struct sg_stream *stream)
{
        pthread_attr_t attributes;
        pthread_t thread;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        sg_object_get(stream);
        const int failed = pthread_create(&thread, &attributes, sg_worker, stream);
        pthread_attr_destroy(&attributes);
        if (failed != 0) {
                sg_object_put(stream); /* never the last: the caller has one */
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        stream->worker = true;
        return CUDA_SUCCESS;
}

/* ---- submission ---- */

/* Under sg_work_lock. On failure the operation has not been queued. */
static CUresult sg_enqueue(struct sg_stream *stream, struct sg_op *op)
{
        while (stream->submitted - stream->completed >= SG_STREAM_PENDING_MAX)
                pthread_cond_wait(&stream->progress, &sg_work_lock);
        CUresult result = sg_op_order(op, stream);
        if (result == CUDA_SUCCESS && !stream->worker)
                result = sg_worker_start(stream);
        if (result != CUDA_SUCCESS)
                return result;
        op->sequence = ++stream->submitted;
        op->next = NULL;
        if (stream->tail != NULL)
                stream->tail->next = op;
        else
                stream->head = op;
        stream->tail = op;
        if (op->queued != NULL)
                op->queued(op, stream);
        pthread_cond_signal(&stream->wake);
        return CUDA_SUCCESS;
}

_Thread_local struct sg_op **sg_submit_catch;

CUresult sg_submit(struct sg_stream *stream, struct sg_op *op)
{
        CUresult result;
        if (sg_submit_catch != NULL) {
                *sg_submit_catch = op;
                return CUDA_SUCCESS;
        }
        if (atomic_load(&sg_captures) != 0 && sg_capture_op(stream, op, &result))
                return result;
        pthread_mutex_lock(&sg_work_lock);
        result = sg_enqueue(stream, op);
        pthread_mutex_unlock(&sg_work_lock);
        if (result != CUDA_SUCCESS)
                op->release(op);
        return result;
}

/* Nothing is before the operation: no queue, no synchronous call of another thread, no point left to wait for. */
static bool sg_may_run_now(const struct sg_stream *stream, const struct sg_op *op)
{
        if (stream->completed != stream->submitted)
                return false;
        for (unsigned i = 0; i < op->point_count; i++)
                if (op->points[i].stream->completed < op->points[i].sequence)
                        return false;
        return true;
}

CUresult sg_submit_wait(struct sg_stream *stream, struct sg_op *op)
{
        struct sg_context *context = stream->context;
        CUresult result = atomic_load(&sg_captures) != 0 ? sg_capture_check_wait(stream) : CUDA_SUCCESS;
        if (sg_submit_catch != NULL)
                result = CUDA_ERROR_NOT_SUPPORTED; /* pageable memory in a node */
        if (result != CUDA_SUCCESS) {
                op->release(op);
                return result;
        }
        pthread_mutex_lock(&sg_work_lock);
        result = sg_op_order(op, stream);
        if (result == CUDA_SUCCESS && sg_may_run_now(stream, op)) {
                const uint64_t sequence = ++stream->submitted;
                pthread_mutex_unlock(&sg_work_lock);
                sg_op_run(op, stream);
                op->release(op);
                pthread_mutex_lock(&sg_work_lock);
                sg_stream_complete(stream, sequence);
                pthread_mutex_unlock(&sg_work_lock);
                return sg_context_check(context);
        }
        if (result == CUDA_SUCCESS)
                result = sg_enqueue(stream, op); /* orders again: points taken twice do no harm */
        if (result == CUDA_SUCCESS) {
                const uint64_t sequence = stream->submitted;
                while (stream->completed < sequence)
                        pthread_cond_wait(&stream->progress, &sg_work_lock);
        }
        pthread_mutex_unlock(&sg_work_lock);
        if (result != CUDA_SUCCESS) {
                op->release(op);
                return result;
        }
        return sg_context_check(context);
}
