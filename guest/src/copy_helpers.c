/* Threads that help with large pageable copies: one processor moves about 10 GB/s, the bus several times that.
 *
 * They are strangers in the program's process, so: few, made at the first copy that is worth it, named, asleep while
 * there is nothing to move, without a line of the ring, without calls. Asynchronous signals are the program's own
 * threads' business and blocked here; a fault is not: a program that protects its pages and handles the fault finds its
 * handler run on whichever thread touched them. A fork()ed child has none and needs none (CUDA is gone there); exit()
 * finds them asleep or moving bytes of a copy that it abandons, as it abandons the copying thread.
 *
 * One copy has them at a time. Another thread's copy in the meantime does without: it has a processor of its own.
 *
 *   H1 `active`, add, then the work's `opened` (both seq_cst)    <->  H2 `opened` := 0, then `active` (both seq_cst)
 *   H3 `opened`, store (W1), then `sleepers` (both seq_cst)      <->  H4 `sleepers`, add, then `opened` (both seq_cst)
 * H1, H2: a helper finds nothing open, or whoever gives the work up waits for it. H3, H4: no helper sleeps on open work
 * without being woken. `active`'s decrement is a release, for H2's load: the helper's last reads of the work are over.
 */
#include "copy_work.h"
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS_MAX 16u    /* what IVGPU_COPY_THREADS may ask for */
#define THREADS_DEFAULT 8u /* and never more than half of the processors: the executor and the program want some */
#define STACK_BYTES (256u << 10) /* a fault's handler of the program may run on it */
#define IDLE_SPINS 2000u         /* some 50 us: the next chunk, or the next copy */
#define SPINS_PER_YIELD 1000u    /* of the copying thread, which waits for a helper's last piece */

static struct {
        struct ivg_copy_work work;
        _Alignas(64) _Atomic(uint32_t) taken; /* by a copying thread */
        _Atomic(uint32_t) started;            /* threads that run; 0: not yet, or none could be made */
        _Alignas(64) _Atomic(uint32_t) active;
        _Alignas(64) _Atomic(uint32_t) sleepers;
        _Atomic(uint32_t) calls; /* futex */
} helpers;

static pthread_once_t threads_once = PTHREAD_ONCE_INIT;
static pthread_once_t start_once = PTHREAD_ONCE_INIT;
static uint32_t threads_count;

/* ---- how many ---- */

/* The process's processors, not those of the thread that happens to copy first. */
static uint32_t processors(cpu_set_t *set)
{
        CPU_ZERO(set);
        if (sched_getaffinity(getpid(), sizeof(*set), set) == 0)
                return (uint32_t)CPU_COUNT(set);
        const long online = sysconf(_SC_NPROCESSORS_ONLN); /* more than a cpu_set_t holds */
        return online > 0 ? (uint32_t)online : 1;
}

static void threads_decide(void)
{
        const char *wanted = secure_getenv("IVGPU_COPY_THREADS");
        cpu_set_t set;
        const uint32_t half = processors(&set) / 2;

        threads_count = half < THREADS_DEFAULT ? half : THREADS_DEFAULT;
        if (wanted != NULL && *wanted != 0) {
                char *end;
                const unsigned long number = strtoul(wanted, &end, 10);

                if (*end == 0 && number >= 1 && number <= THREADS_MAX)
                        threads_count = (uint32_t)number;
                else
                        ivg_log("IVGPU_COPY_THREADS is 1 to %u, not '%s'", THREADS_MAX, wanted);
        }
        if (threads_count == 0)
                threads_count = 1;
}

uint32_t ivg_copy_threads(void)
{
        pthread_once(&threads_once, threads_decide);
        return threads_count;
}

/* ---- a helper ---- */

static void futex(int operation, uint32_t value)
{
        /* Every result (woken, changed, interrupted) means the same: look again. */
        (void)syscall(SYS_futex, &helpers.calls, operation, value, NULL, NULL, 0);
}

static void work_a_while(void)
{
        (void)atomic_fetch_add(&helpers.active, 1); /* H1 */
        if (ivg_copy_work_is_there(&helpers.work))
                while (ivg_copy_work_one(&helpers.work))
                        continue;
        atomic_fetch_sub_explicit(&helpers.active, 1, memory_order_release);
}

static void sleep_until_called(void)
{
        const uint32_t calls = ivg_load_acquire_u32(&helpers.calls);

        (void)atomic_fetch_add(&helpers.sleepers, 1); /* H4 */
        if (!ivg_copy_work_is_there(&helpers.work))
                futex(FUTEX_WAIT_PRIVATE, calls);
        (void)atomic_fetch_sub(&helpers.sleepers, 1);
}

static void *helper_main(void *argument)
{
        (void)argument;
        prctl(PR_SET_NAME, "ivgpu-copy", 0, 0, 0);
        for (uint32_t spins = 0;; spins++) { /* until the process ends */
                if (ivg_copy_work_is_there(&helpers.work)) {
                        work_a_while();
                        spins = 0;
                } else if (spins < IDLE_SPINS) {
                        ivg_cpu_relax();
                } else {
                        sleep_until_called();
                        spins = 0;
                }
        }
        return NULL;
}

/* ---- starting ---- */

static void signals_of_helpers(sigset_t *set)
{
        static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};

        sigfillset(set);
        for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
                sigdelset(set, faults[i]);
}

static void start(void)
{
        pthread_attr_t attributes;
        sigset_t theirs, before;
        pthread_t thread;
        cpu_set_t set;
        uint32_t count = 0;

        signals_of_helpers(&theirs);
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attributes, STACK_BYTES);
        processors(&set);
        if (CPU_COUNT(&set) > 0)
                pthread_attr_setaffinity_np(&attributes, sizeof(set), &set);
        pthread_sigmask(SIG_SETMASK, &theirs, &before);
        while (count + 1 < ivg_copy_threads() && pthread_create(&thread, &attributes, helper_main, NULL) == 0)
                count++; /* fewer than wanted is slower, nothing else */
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
        ivg_store_relaxed_u32(&helpers.started, count); /* read after pthread_once, which orders it */
}

/* ---- the copying thread ---- */

struct ivg_copy_work *ivg_copy_helpers_take(void)
{
        uint32_t free = 0;

        if (ivg_copy_threads() == 1)
                return NULL;
        pthread_once(&start_once, start);
        if (ivg_load_relaxed_u32(&helpers.started) == 0)
                return NULL;
        /* Acquire pairs with the release in give: the last copy's fields are nobody's any more. */
        if (!ivg_compare_exchange_acq_rel_u32(&helpers.taken, &free, 1))
                return NULL;
        ivg_store_relaxed_u64(&helpers.work.next, 0); /* nothing is open: nobody takes it */
        return &helpers.work;
}

void ivg_copy_helpers_call(uint32_t threads)
{
        const uint32_t sleepers = ivg_load_seq_cst_u32(&helpers.sleepers); /* H3 */

        if (sleepers == 0)
                return;
        (void)atomic_fetch_add(&helpers.calls, 1);
        futex(FUTEX_WAKE_PRIVATE, threads < sleepers ? threads : sleepers);
}

void ivg_copy_helpers_give(void)
{
        uint32_t spins = 0;

        (void)ivg_exchange_seq_cst_u64(&helpers.work.opened, 0); /* H2 */
        /* Bounded by one piece of each helper. */
        for (; ivg_load_seq_cst_u32(&helpers.active) != 0; spins++) {
                ivg_cpu_relax();
                if (spins % SPINS_PER_YIELD == SPINS_PER_YIELD - 1)
                        sched_yield();
        }
        ivg_store_release_u32(&helpers.taken, 0);
}
