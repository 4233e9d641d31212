/* One guest thread's part of the ring: a producer line of its own from its first call to its end.
 *
 * There are IVG_RING_PRODUCERS lines. The process takes one at the start as the shared line: a thread that finds no
 * free line sends through it, one call at a time, until it ends (it never changes back, for the executor keeps order
 * per line only). So a program with many hundred threads is slower then, not broken. */
#include "guest.h"
#include "guest_send.h"
#include "work.h"
#include <unistd.h>

_Thread_local struct ivg_thread ivg_thread_here = {.own_work = &ivg_work_no_line};

static struct {
        pthread_once_t once;
        pthread_key_t key; /* only for its destructor, which runs at the end of each thread that has a line */
        bool key_made;
        pthread_mutex_t shared_lock;
        struct ivg_producer shared;
} threads = {.once = PTHREAD_ONCE_INIT, .shared_lock = PTHREAD_MUTEX_INITIALIZER};

/* Hot: every locally answered call. */
void ivg_count_local(void)
{
        struct ivg_ring_producer *line = ivg_thread_local()->line;

        /* Own line, one writer: relaxed load and store suffice. A shared line has many and is not counted. */
        if (__builtin_expect(line != NULL, 1))
                ivg_store_relaxed_u32(&line->calls_local_low, ivg_load_relaxed_u32(&line->calls_local_low) + 1);
}

/* At a thread's end: the executor may end the thread's lane, and the line goes to the next thread. */
static void thread_end(void *argument)
{
        struct ivg_thread *thread = argument;
        const uint32_t state = ivg_load_acquire_u32(&ivg_process.state);

        /* Otherwise the channel is closed, its lines are nobody's business here. */
        if (!thread->open || (state != IVG_PROCESS_READY && state != IVG_PROCESS_CONNECTED))
                return;
        if (ivg_process_check() == CUDA_SUCCESS)
                (void)ivg_send_ivgThreadEnd(); /* a lost executor has no lane either */
        thread->line = NULL;
        thread->own_work = &ivg_work_no_line;
        ivg_producer_close(&thread->producer);
        thread->open = false;
}

static void threads_start(void)
{
        threads.key_made = pthread_key_create(&threads.key, thread_end) == 0;
}

CUresult ivg_threads_start(void)
{
        int rc;

        pthread_once(&threads.once, threads_start);
        if (!threads.key_made)
                return CUDA_ERROR_OPERATING_SYSTEM;
        rc = ivg_producer_open(&ivg_process.ring, (uint32_t)getpid(), &threads.shared);
        if (rc != 0)
                return ivg_result_from_errno(rc);
        return CUDA_SUCCESS;
}

void ivg_thread_forked(void)
{
        struct ivg_thread *thread = ivg_thread_local();

        thread->open = false;
        thread->line = NULL;
        thread->shared = false;
        thread->connecting = false;
}

/* Its first record is under way, and perhaps for a stream that it has named. */
static void gets_line(struct ivg_thread *thread, const struct ivg_producer *producer)
{
        thread->own_work = ivg_work_of_line(producer->index);
        if (thread->work == &ivg_work_no_line)
                thread->work = thread->own_work;
}

bool ivg_thread_take_line(struct ivg_thread *thread)
{
        const uint32_t state = ivg_load_acquire_u32(&ivg_process.state);

        if (thread->in_callback)
                return false;
        if (state != IVG_PROCESS_READY &&
            !((state == IVG_PROCESS_CONNECTING || state == IVG_PROCESS_CONNECTED) && thread->connecting))
                return false;
        if (ivg_producer_open(&ivg_process.ring, (uint32_t)gettid(), &thread->producer) == 0) {
                /* Without the destructor the line would stay with a dead thread: share instead. */
                if (pthread_setspecific(threads.key, thread) == 0) {
                        thread->open = true;
                        thread->line = ivg_producer_line(&thread->producer);
                        gets_line(thread, &thread->producer);
                        return true;
                }
                ivg_producer_close(&thread->producer);
        }
        thread->shared = true;
        gets_line(thread, &threads.shared);
        return true;
}

struct ivg_producer *ivg_thread_shared_take(void)
{
        pthread_mutex_lock(&threads.shared_lock);
        return &threads.shared;
}

void ivg_thread_shared_give(void)
{
        pthread_mutex_unlock(&threads.shared_lock);
}
