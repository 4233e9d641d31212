/* A device whose kernels take stated time and no processor: for tests of what shares a GPU.
 *
 * With IVGPU_SOFT_BLOCK_NS a kernel, when it has been computed, holds the device for so long for each of its blocks, in
 * slices of SG_SLICE_NS. Who wants the next slice stands in a queue: one context of this process at a time, and, with
 * IVGPU_SOFT_ENGINE naming a file, all processes that name the same. So processes share the device as contexts share a
 * GPU: slice by slice, in turn, however many streams they have.
 *
 * The queue is a ticket lock in the file. Whoever holds a ticket and dies is passed over when the others have waited
 * SG_DEAD_MS for it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "softgpu.h"

#define SG_SLICE_NS 500000ull
#define SG_DEAD_MS 20
#define SG_TICKETS_MAX 1024u /* processes that wait at once */

struct sg_engine { /* of one device; zero: nobody is there */
        _Atomic(uint32_t) next, serving;
        _Atomic(uint64_t) owners[SG_TICKETS_MAX]; /* ticket << 32 | pid */
};

static struct sg_engine sg_private_engines[SG_DEVICES_MAX];
static struct sg_engine *sg_engines = sg_private_engines;
static pthread_mutex_t sg_engine_turns[SG_DEVICES_MAX];
static unsigned long sg_block_ns;

bool sg_engine_open(unsigned long block_ns)
{
        const char *path = getenv("IVGPU_SOFT_ENGINE");
        sg_block_ns = block_ns;
        for (unsigned i = 0; i < SG_DEVICES_MAX; i++)
                pthread_mutex_init(&sg_engine_turns[i], NULL);
        if (path == NULL || *path == '\0' || block_ns == 0)
                return true;
        const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        void *map = MAP_FAILED;
        if (fd >= 0 && ftruncate(fd, sizeof(sg_private_engines)) == 0)
                map = mmap(NULL, sizeof(sg_private_engines), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (fd >= 0)
                close(fd);
        if (map == MAP_FAILED) {
                sg_report("IVGPU_SOFT_ENGINE: %s cannot be used", path);
                return false;
        }
        sg_engines = map;
        return true;
}

/* Also one that nobody has waited for yet: its parent may wait for us first. */
static bool sg_process_has_ended(pid_t pid)
{
        const int fd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (fd < 0)
                return errno == ESRCH;
        struct pollfd end = {.fd = fd, .events = POLLIN};
        const bool ended = poll(&end, 1, 0) == 1;
        close(fd);
        return ended;
}

/* Its owner is gone, or died before it could say that it is the owner. */
static bool sg_ticket_is_dead(struct sg_engine *engine, uint32_t ticket)
{
        const uint64_t owner = atomic_load(&engine->owners[ticket % SG_TICKETS_MAX]);
        return (uint32_t)(owner >> 32) != ticket || sg_process_has_ended((pid_t)(uint32_t)owner);
}

static void sg_ticket_pass(struct sg_engine *engine, uint32_t ticket)
{
        if (atomic_compare_exchange_strong(&engine->serving, &ticket, ticket + 1))
                syscall(SYS_futex, &engine->serving, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static uint32_t sg_ticket_take(struct sg_engine *engine)
{
        const struct timespec dead = {.tv_nsec = SG_DEAD_MS * 1000000l};
        const uint32_t ticket = atomic_fetch_add(&engine->next, 1);
        atomic_store(&engine->owners[ticket % SG_TICKETS_MAX], (uint64_t)ticket << 32 | (uint32_t)getpid());
        for (;;) {
                const uint32_t serving = atomic_load(&engine->serving);
                if (serving == ticket)
                        return ticket;
                const long failed = syscall(SYS_futex, &engine->serving, FUTEX_WAIT, serving, &dead, NULL, 0);
                if (failed != 0 && errno == ETIMEDOUT && sg_ticket_is_dead(engine, serving))
                        sg_ticket_pass(engine, serving);
        }
}

static void sg_sleep_until(uint64_t end_ns)
{
        const struct timespec end = {(time_t)(end_ns / 1000000000u), (long)(end_ns % 1000000000u)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
                ;
}

void sg_engine_run(const struct sg_context *context, uint64_t blocks)
{
        const unsigned slot = (unsigned)context->device->slot;
        struct sg_engine *engine = &sg_engines[slot];
        uint64_t left_ns = blocks * sg_block_ns;
        while (left_ns > 0 && atomic_load(&context->abort) == 0) {
                pthread_mutex_lock(&sg_engine_turns[slot]);
                const uint32_t ticket = sg_ticket_take(engine);
                const uint64_t slice_ns = left_ns < SG_SLICE_NS ? left_ns : SG_SLICE_NS;
                sg_sleep_until(sg_now_ns() + slice_ns);
                sg_ticket_pass(engine, ticket);
                pthread_mutex_unlock(&sg_engine_turns[slot]);
                left_ns -= slice_ns;
        }
}
