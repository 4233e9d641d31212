#include "ptx_pool.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "ptx_limits.h"

static struct {
        pthread_mutex_t lock;
        pthread_cond_t work; /* a task wants helpers, or the pool closes */
        pthread_cond_t idle; /* a helper has left its task */
        struct ptx_task *tasks;
        pthread_t threads[PTX_WORKERS_MAX];
        uint32_t thread_count;
        bool closing;
        pid_t owner; /* threads do not survive fork */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER};

uint32_t ptx_pool_size(void)
{
        cpu_set_t set;
        int count;

        if (sched_getaffinity(0, sizeof(set), &set) != 0)
                return 1;
        count = CPU_COUNT(&set);
        return count < 1 ? 1 : count > (int)PTX_WORKERS_MAX ? PTX_WORKERS_MAX : (uint32_t)count;
}

static struct ptx_task *take_task(void)
{
        struct ptx_task *task = pool.tasks;

        while (task && !task->wanted)
                task = task->next;
        if (task) {
                task->wanted--;
                task->running++;
        }
        return task;
}

static void *helper_main(void *unused)
{
        (void)unused;
        pthread_mutex_lock(&pool.lock);
        while (!pool.closing) {
                struct ptx_task *task = take_task();

                if (!task) {
                        pthread_cond_wait(&pool.work, &pool.lock);
                        continue;
                }
                pthread_mutex_unlock(&pool.lock);
                task->work(task->context);
                pthread_mutex_lock(&pool.lock);
                task->running--;
                pthread_cond_broadcast(&pool.idle);
        }
        pthread_mutex_unlock(&pool.lock);
        return NULL;
}

/* Grows the pool to `wanted` threads if the system lets it. With the lock held. */
static void grow(uint32_t wanted)
{
        if (pool.owner != getpid()) {
                pool.owner = getpid();
                pool.thread_count = 0;
        }
        while (pool.thread_count < wanted && pool.thread_count < PTX_WORKERS_MAX &&
               pthread_create(&pool.threads[pool.thread_count], NULL, helper_main, NULL) == 0)
                pool.thread_count++;
}

static void unlink_task(const struct ptx_task *task)
{
        struct ptx_task **link = &pool.tasks;

        while (*link != task)
                link = &(*link)->next;
        *link = task->next;
}

void ptx_pool_run(struct ptx_task *task, uint32_t helpers)
{
        if (!helpers) {
                task->work(task->context);
                return;
        }
        pthread_mutex_lock(&pool.lock);
        grow(helpers);
        task->wanted = helpers;
        task->running = 0;
        task->next = pool.tasks;
        pool.tasks = task;
        pthread_cond_broadcast(&pool.work);
        pthread_mutex_unlock(&pool.lock);

        task->work(task->context);

        pthread_mutex_lock(&pool.lock);
        unlink_task(task);
        while (task->running)
                pthread_cond_wait(&pool.idle, &pool.lock);
        pthread_mutex_unlock(&pool.lock);
}

/* The library may be unloaded, and its code must not be under running threads then. */
__attribute__((destructor)) static void close_pool(void)
{
        uint32_t count;

        pthread_mutex_lock(&pool.lock);
        count = pool.owner == getpid() ? pool.thread_count : 0;
        pool.thread_count = 0;
        pool.closing = true;
        pthread_cond_broadcast(&pool.work);
        pthread_mutex_unlock(&pool.lock);
        for (uint32_t i = 0; i < count; i++)
                pthread_join(pool.threads[i], NULL);
}
