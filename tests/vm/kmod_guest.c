/* The guest's half of the kernel driver's tests; run by a user without rights who may open /dev/ivgpu0.
 *
 *   isolation      what a process may map, touch, name and find; what forked children get; who may have what afterwards
 *   crowd          every channel taken, one too many, all killed, all free again
 *   work           claims, writes, rings and releases until it is killed (the storm's victims)
 *   await          says "MARK-waiting", then blocks in poll() until the host interrupts for a dead executor
 *   pin            says "MARK-pinned" when a pipe holds pages of its arena, and lets go when its standard input ends
 *   undisturbed    says "MARK-still", then fails if anything wakes it until its standard input ends
 *   idle SECONDS [SCHEME]  sleeps in ivg_link_wait(); fails if that costs processor time, or if the way is not SCHEME's
 *
 * Exit code 0: everything held; else the first broken expectation is named on standard error. */
#include "ivgpu/link.h"
#include "ivgpu_calls.h"
#include "ivgpu_uapi.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NODE "/dev/ivgpu0"
#define ATTRIBUTES "/sys/class/ivgpu/ivgpu0/"
#define HOST_MS 10000 /* for the host to end an executor, on a busy machine */
#define SETTLE_MS 1000
#define IDLE_SHARE_MAX 0.01
#define IDLE_STEP_MS 300 /* how often a sleeper looks for its mediator's heartbeat */

#define expect(condition)                                                                                        \
        do {                                                                                                     \
                if (!(condition)) {                                                                              \
                        fprintf(stderr, "kmod_guest:%d: expected %s (errno %d)\n", __LINE__, #condition, errno); \
                        exit(1);                                                                                 \
                }                                                                                                \
        } while (0)
#define expect_errno(code, call)                         \
        do {                                             \
                errno = 0;                               \
                expect((call) == -1 && errno == (code)); \
        } while (0)

/* ---- the device, without the shim's help ---- */

struct channel {
        int fd;
        struct ivgpu_info info;
        struct ivg_region region;
};

static void *map(const struct channel *channel, uint64_t offset, uint64_t bytes, int protection)
{
        return mmap(NULL, bytes, protection, MAP_SHARED, channel->fd, (off_t)offset);
}

/* -1 and errno when it is refused; else the mapping goes again. */
static int try_map(const struct channel *channel, uint64_t offset, uint64_t bytes, int protection, int flags)
{
        void *address = mmap(NULL, bytes, protection, flags, channel->fd, (off_t)offset);

        if (address == MAP_FAILED)
                return -1;
        munmap(address, bytes);
        return 0;
}

static struct channel channel_open(void)
{
        struct channel channel = {.fd = open(NODE, O_RDWR | O_CLOEXEC)};
        struct ivg_error error = {""};
        void *page;

        expect(channel.fd >= 0);
        expect(ioctl(channel.fd, IVGPU_IOC_INFO, &channel.info) == 0);
        expect(channel.info.abi_version == IVGPU_ABI_VERSION && channel.info.generation != 0);
        page = map(&channel, 0, IVG_PAGE_BYTES, PROT_READ);
        expect(page != MAP_FAILED);
        expect(ivg_region_check(page, channel.info.region_bytes, IVG_CALL_TABLE_FINGERPRINT, &channel.region, &error) ==
               0);
        munmap(page, IVG_PAGE_BYTES);
        return channel;
}

static uint64_t ring_offset(const struct channel *channel, uint32_t index)
{
        return channel->region.channels_offset + index * channel->region.channel_stride + IVG_CHANNEL_RING_GUEST_OFFSET;
}

static uint64_t host_offset(const struct channel *channel, uint32_t index)
{
        return channel->region.channels_offset + index * channel->region.channel_stride + IVG_CHANNEL_RING_HOST_OFFSET;
}

static int claim(const struct channel *channel, uint32_t count, uint32_t *first)
{
        struct ivgpu_extents extents = {.count = count};

        if (ioctl(channel->fd, IVGPU_IOC_EXTENTS_CLAIM, &extents) < 0)
                return -1;
        *first = extents.first;
        return 0;
}

static int release(const struct channel *channel, uint32_t first, uint32_t count)
{
        struct ivgpu_extents extents = {.first = first, .count = count};

        return ioctl(channel->fd, IVGPU_IOC_EXTENTS_RELEASE, &extents);
}

static bool host_state_is(const struct ivg_host_pages *host, const struct channel *own, uint32_t state)
{
        return ivg_load_acquire_u64(&host->channels[own->info.channel].state) ==
               ivg_channel_word(own->info.generation, state);
}

/* Maps the host pages and sleeps until the executor has opened the ring. */
static const struct ivg_host_pages *channel_wait_ready(const struct channel *own)
{
        const struct ivg_host_pages *host =
                map(own, own->region.host_pages_offset, own->region.host_pages_bytes, PROT_READ);
        uint64_t count;

        expect((void *)host != MAP_FAILED);
        while (!host_state_is(host, own, IVG_HOST_CHANNEL_READY))
                expect(read(own->fd, &count, sizeof(count)) == sizeof(count)); /* until the host interrupts */
        return host;
}

/* ---- time, attributes, children ---- */

static uint64_t now_ms(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t attribute(const char *name)
{
        char path[128], text[64] = "";
        int fd;

        snprintf(path, sizeof(path), ATTRIBUTES "%s", name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        expect(fd >= 0);
        expect(read(fd, text, sizeof(text) - 1) > 0);
        close(fd);
        return strtoull(text, NULL, 10);
}

static bool attribute_becomes(const char *name, uint64_t value)
{
        const uint64_t deadline_ms = now_ms() + HOST_MS;

        while (attribute(name) != value) {
                if (now_ms() > deadline_ms) {
                        fprintf(stderr, "kmod_guest: %s is %llu after %d ms, not %llu\n", name,
                                (unsigned long long)attribute(name), HOST_MS, (unsigned long long)value);
                        return false;
                }
                usleep(5000);
        }
        return true;
}

static void child_ends(pid_t child)
{
        int status;

        expect(waitpid(child, &status, 0) == child);
        if (status != 0)
                fprintf(stderr, "kmod_guest: child ended with status 0x%x\n", status);
        expect(status == 0);
}

static void child_is_killed(pid_t child)
{
        int status;

        expect(kill(child, SIGKILL) == 0);
        expect(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void say(int fd)
{
        expect(write(fd, "x", 1) == 1);
}

static void hear(int fd)
{
        char byte;

        expect(read(fd, &byte, 1) == 1);
}

/* ---- touching what may not be touched ---- */

static sigjmp_buf touch_return;

static void touch_failed(int number)
{
        siglongjmp(touch_return, number);
}

/* 0, or the signal that a read of one byte brought. */
static int touch(const volatile uint8_t *address)
{
        const struct sigaction action = {.sa_handler = touch_failed};
        int number;

        sigaction(SIGBUS, &action, NULL);
        sigaction(SIGSEGV, &action, NULL);
        number = sigsetjmp(touch_return, 1);
        if (number == 0)
                (void)*address;
        signal(SIGBUS, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        return number;
}

/* ---- isolation ---- */

static void mappings_are_refused(const struct channel *own, uint32_t other)
{
        const struct ivg_region *region = &own->region;
        const uint64_t page = IVG_PAGE_BYTES;
        const int rw = PROT_READ | PROT_WRITE;
        uint8_t *host_part;

        expect_errno(EACCES, try_map(own, ring_offset(own, other), page, PROT_READ, MAP_SHARED));
        expect_errno(EACCES, try_map(own, host_offset(own, other), page, PROT_READ, MAP_SHARED));
        expect_errno(EACCES, try_map(own, region->guest_pages_offset, page, PROT_READ, MAP_SHARED));
        expect_errno(EACCES, try_map(own, region->guest_pages_offset, page, rw, MAP_SHARED));
        expect_errno(EACCES, try_map(own, 0, page, rw, MAP_SHARED));
        expect_errno(EACCES, try_map(own, region->host_pages_offset, page, rw, MAP_SHARED));
        expect_errno(EACCES, try_map(own, host_offset(own, own->info.channel), page, rw, MAP_SHARED));
        /* Over an edge: ring and gap, region page and guest pages, everything, beyond the end. */
        expect_errno(EACCES, try_map(own, ring_offset(own, own->info.channel), IVG_CHANNEL_GUEST_BYTES + page,
                                     PROT_READ, MAP_SHARED));
        expect_errno(EACCES, try_map(own, 0, 2 * page, PROT_READ, MAP_SHARED));
        expect_errno(EACCES, try_map(own, 0, region->region_bytes, PROT_READ, MAP_SHARED));
        expect_errno(EACCES, try_map(own, region->region_bytes - page, 2 * page, PROT_READ, MAP_SHARED));
        expect_errno(EACCES, try_map(own, region->region_bytes, page, PROT_READ, MAP_SHARED));
        expect_errno(EINVAL,
                     try_map(own, ring_offset(own, own->info.channel), page, PROT_READ | PROT_EXEC, MAP_SHARED));
        expect_errno(EINVAL, try_map(own, region->arena_offset, page, rw, MAP_PRIVATE));
        /* Nor by asking for more afterwards. */
        host_part = map(own, host_offset(own, own->info.channel), IVG_CHANNEL_HOST_BYTES, PROT_READ);
        expect(host_part != MAP_FAILED && touch(host_part) == 0);
        expect_errno(EACCES, mprotect(host_part, page, rw));
        expect_errno(EACCES, mprotect(host_part, page, PROT_READ | PROT_EXEC));
        munmap(host_part, IVG_CHANNEL_HOST_BYTES);
}

static void extents_are_refused(const struct channel *own, uint32_t foreign_first, uint32_t foreign_count)
{
        struct ivgpu_extents extents = {.count = 1, .reserved = 1};
        uint32_t first;

        expect_errno(ENXIO, release(own, foreign_first, foreign_count));
        expect_errno(EINVAL, release(own, own->region.extent_count, 1));
        expect_errno(EINVAL, release(own, 1, UINT32_MAX));
        expect_errno(EINVAL, release(own, 0, 0));
        expect_errno(EINVAL, claim(own, 0, &first));
        expect_errno(ENOSPC, claim(own, own->region.extent_count + 1, &first));
        expect_errno(ENOSPC, claim(own, UINT32_MAX, &first));
        expect_errno(EINVAL, ioctl(own->fd, IVGPU_IOC_EXTENTS_CLAIM, &extents));
        expect_errno(ENOTTY, ioctl(own->fd, _IO(IVGPU_IOC_TYPE, 0x7f)));
        expect_errno(EFAULT, ioctl(own->fd, IVGPU_IOC_EXTENTS_CLAIM, (void *)1));
}

static void stranger(uint32_t other_channel, uint32_t foreign_first, uint32_t foreign_count)
{
        struct channel own = channel_open();
        uint8_t *arena = map(&own, own.region.arena_offset, own.region.arena_bytes, PROT_READ | PROT_WRITE);
        uint32_t first;

        expect(own.info.channel != other_channel);
        mappings_are_refused(&own, other_channel);
        extents_are_refused(&own, foreign_first, foreign_count);

        expect(arena != MAP_FAILED);
        for (uint32_t i = 0; i < foreign_count; i++)
                expect(touch(arena + (uint64_t)(foreign_first + i) * IVG_EXTENT_BYTES) == SIGBUS);
        expect(claim(&own, 2, &first) == 0);
        expect(first + 2 <= foreign_first || first >= foreign_first + foreign_count);
        memset(arena + (uint64_t)first * IVG_EXTENT_BYTES, 0x5a, 2 * (size_t)IVG_EXTENT_BYTES);
        /* Own ones only, one by one too. */
        expect(release(&own, first, 1) == 0);
        expect(touch(arena + (uint64_t)first * IVG_EXTENT_BYTES) == SIGBUS);
        expect(touch(arena + (uint64_t)(first + 1) * IVG_EXTENT_BYTES) == 0);
        expect_errno(ENXIO, release(&own, first, 2));
}

/* A child of the owner, which has inherited the descriptor. */
static void heir(const struct channel *parents, const uint8_t *arena, const uint8_t *ring)
{
        struct ivgpu_info info;
        uint32_t first;

        expect(touch(arena) == SIGSEGV && touch(ring) == SIGSEGV);
        expect_errno(EPERM, ioctl(parents->fd, IVGPU_IOC_INFO, &info));
        expect_errno(EPERM, claim(parents, 1, &first));
        expect_errno(EPERM, ioctl(parents->fd, IVGPU_IOC_DOORBELL));
        expect_errno(EPERM, ioctl(parents->fd, IVGPU_IOC_CLOSE));
        expect_errno(EPERM, try_map(parents, 0, IVG_PAGE_BYTES, PROT_READ, MAP_SHARED));
}

static void processes_are_apart(void)
{
        struct channel own = channel_open();
        uint8_t *ring = map(&own, ring_offset(&own, own.info.channel), IVG_CHANNEL_GUEST_BYTES, PROT_READ | PROT_WRITE);
        uint8_t *arena = map(&own, own.region.arena_offset, own.region.arena_bytes, PROT_READ | PROT_WRITE);
        uint8_t *mine;
        uint32_t first;
        pid_t child;

        expect(ring != MAP_FAILED && arena != MAP_FAILED);
        expect(claim(&own, 3, &first) == 0);
        mine = arena + (uint64_t)first * IVG_EXTENT_BYTES;
        for (uint32_t i = 0; i < 3 * IVG_EXTENT_BYTES; i += 64)
                mine[i] = (uint8_t)(i >> 6);

        child = fork();
        if (child == 0) {
                heir(&own, mine, ring);
                exit(0);
        }
        child_ends(child);
        child = fork();
        if (child == 0) {
                stranger(own.info.channel, first, 3);
                exit(0);
        }
        child_ends(child);
        for (uint32_t i = 0; i < 3 * IVG_EXTENT_BYTES; i += 64)
                expect(mine[i] == (uint8_t)(i >> 6));

        /* The ring is how a process is heard: without it the channel is closed, and there is no more to be had. */
        expect(munmap(ring, IVG_CHANNEL_GUEST_BYTES) == 0);
        expect_errno(ESHUTDOWN, claim(&own, 1, &first));
        expect(touch(mine) == 0); /* what is mapped stays: other threads may be copying */
        munmap(arena, own.region.arena_bytes);
        close(own.fd);
}

/* ---- what is left behind ---- */

static void all_is_free(void)
{
        expect(attribute_becomes("channels_in_use", 0));
        expect(attribute_becomes("channels_draining", 0));
        expect(attribute("extents_in_use") == 0 && attribute("extents_kept") == 0);
}

static void leaver(uint32_t extents)
{
        struct channel own = channel_open();
        uint8_t *ring = map(&own, ring_offset(&own, own.info.channel), IVG_CHANNEL_GUEST_BYTES, PROT_READ | PROT_WRITE);
        uint8_t *arena = map(&own, own.region.arena_offset, own.region.arena_bytes, PROT_READ | PROT_WRITE);
        uint32_t first;

        expect(ring != MAP_FAILED && arena != MAP_FAILED && claim(&own, extents, &first) == 0);
        memset(arena + (uint64_t)first * IVG_EXTENT_BYTES, 0xee, (size_t)extents * IVG_EXTENT_BYTES);
        (void)channel_wait_ready(&own); /* the executor has formatted the ring and will not do it again */
        memset(ring + IVG_CHANNEL_GUEST_BYTES - 64 * IVG_SLOT_BYTES, 0xee, 64 * IVG_SLOT_BYTES);
        _exit(0);
}

static bool has_byte(const uint8_t *bytes, uint64_t count, uint8_t value)
{
        return memchr(bytes, value, count) != NULL;
}

static void nothing_is_left_for_the_next(void)
{
        const uint32_t extents = 4;
        struct channel next;
        uint8_t *ring, *arena;
        uint32_t first;
        pid_t child = fork();

        if (child == 0)
                leaver(extents);
        child_ends(child);
        all_is_free();
        next = channel_open();
        ring = map(&next, ring_offset(&next, next.info.channel), IVG_CHANNEL_GUEST_BYTES, PROT_READ);
        arena = map(&next, next.region.arena_offset, next.region.arena_bytes, PROT_READ | PROT_WRITE);
        expect(ring != MAP_FAILED && arena != MAP_FAILED);
        expect(!has_byte(ring, IVG_CHANNEL_GUEST_BYTES, 0xee));
        /* First fit: among them those that the other has left. */
        expect(claim(&next, next.region.extent_count, &first) == 0 && first == 0);
        for (uint32_t i = 0; i < 16; i++) {
                const uint8_t *extent = arena + (uint64_t)i * IVG_EXTENT_BYTES;

                expect(extent[0] == 0 && memcmp(extent, extent + 1, IVG_EXTENT_BYTES - 1) == 0);
        }
        close(next.fd);
        munmap(ring, IVG_CHANNEL_GUEST_BYTES);
        munmap(arena, next.region.arena_bytes);
        all_is_free();
}

/* A pipe holds a page of a dead process: direct I/O as the kernel sees it. Its extent is nobody's until it lets go. */
static void pinned_pages_are_waited_for(void)
{
        int pages[2], status;
        struct channel next;
        uint32_t first;
        char *read_back;
        pid_t child;

        expect(pipe(pages) == 0);
        child = fork();
        if (child == 0) {
                struct channel own = channel_open();
                uint8_t *arena = map(&own, own.region.arena_offset, own.region.arena_bytes, PROT_READ | PROT_WRITE);
                struct iovec page;

                expect(claim(&own, 1, &first) == 0);
                page.iov_base = arena + (uint64_t)first * IVG_EXTENT_BYTES + 5 * IVG_PAGE_BYTES;
                page.iov_len = IVG_PAGE_BYTES;
                memset(page.iov_base, 0x77, IVG_PAGE_BYTES);
                expect(vmsplice(pages[1], &page, 1, 0) == IVG_PAGE_BYTES);
                _exit(0);
        }
        expect(waitpid(child, &status, 0) == child && status == 0);
        all_is_free();
        expect(attribute("extents_pinned") == 1);
        next = channel_open();
        expect_errno(ENOSPC, claim(&next, next.region.extent_count, &first));
        read_back = malloc(IVG_PAGE_BYTES);
        expect(read_back != NULL && read(pages[0], read_back, IVG_PAGE_BYTES) == IVG_PAGE_BYTES);
        expect(read_back[0] == 0x77 && read_back[IVG_PAGE_BYTES - 1] == 0x77);
        free(read_back);
        expect(claim(&next, next.region.extent_count, &first) == 0);
        expect(attribute("extents_pinned") == 0);
        close(next.fd);
        close(pages[0]);
        close(pages[1]);
        all_is_free();
}

/* A killed process whose child still holds the descriptor: the child keeps nothing alive. */
static void a_child_delays_nothing(void)
{
        int ready[2], stop[2];
        pid_t owner;

        expect(pipe(ready) == 0 && pipe(stop) == 0);
        owner = fork();
        if (owner == 0) {
                struct channel own = channel_open();
                uint32_t first;

                expect(map(&own, ring_offset(&own, own.info.channel), IVG_CHANNEL_GUEST_BYTES,
                           PROT_READ | PROT_WRITE) != MAP_FAILED);
                expect(claim(&own, 2, &first) == 0);
                if (fork() == 0) {
                        struct pollfd end = {.fd = own.fd, .events = 0};

                        say(ready[1]);
                        hear(stop[0]); /* outlives its parent */
                        expect(poll(&end, 1, HOST_MS) == 1 && (end.revents & POLLHUP) != 0);
                        expect_errno(EPERM, ioctl(own.fd, IVGPU_IOC_DOORBELL));
                        say(ready[1]);
                        _exit(0);
                }
                pause();
        }
        hear(ready[0]);
        expect(attribute("channels_in_use") == 1 && attribute("extents_in_use") == 2);
        child_is_killed(owner);
        all_is_free();
        say(stop[1]);
        hear(ready[0]);
}

static void interrupts_are_counted(void)
{
        struct channel own = channel_open();
        struct pollfd watched = {.fd = own.fd, .events = POLLIN};
        uint64_t count;

        expect((own.info.flags & IVGPU_INFO_INTERRUPTS) != 0);
        /* The host interrupts when the channel is starting, and when it is ready. */
        expect(poll(&watched, 1, HOST_MS) == 1 && watched.revents == POLLIN);
        expect(read(own.fd, &count, sizeof(count)) == sizeof(count) && count >= 1);
        expect_errno(EINVAL, (int)read(own.fd, &count, 4));
        expect(attribute("interrupts") >= 1);
        close(own.fd);
}

static int isolation(void)
{
        all_is_free();
        expect(attribute("extents_pinned") == 0);
        processes_are_apart();
        all_is_free();
        nothing_is_left_for_the_next();
        pinned_pages_are_waited_for();
        a_child_delays_nothing();
        interrupts_are_counted();
        all_is_free();
        printf("isolation: all held\n");
        return 0;
}

/* ---- crowd ---- */

static int crowd(void)
{
        const uint64_t channels = attribute("channels_total");
        pid_t children[IVG_CHANNELS_MAX];
        int ready[2];

        expect(pipe(ready) == 0 && channels <= IVG_CHANNELS_MAX);
        for (uint64_t i = 0; i < channels; i++) {
                children[i] = fork();
                if (children[i] == 0) {
                        (void)channel_open();
                        say(ready[1]);
                        pause();
                }
                hear(ready[0]);
        }
        expect(attribute("channels_in_use") == channels);
        expect_errno(EBUSY, open(NODE, O_RDWR | O_CLOEXEC));
        for (uint64_t i = 0; i < channels; i++)
                child_is_killed(children[i]);
        close(channel_open().fd); /* waits until the host is done with one of them */
        all_is_free();
        printf("crowd: %llu channels, all free again\n", (unsigned long long)channels);
        return 0;
}

/* ---- work ---- */

static int work(void)
{
        struct channel own = channel_open();
        uint64_t *ring =
                map(&own, ring_offset(&own, own.info.channel), IVG_CHANNEL_GUEST_BYTES, PROT_READ | PROT_WRITE);
        uint8_t *arena = map(&own, own.region.arena_offset, own.region.arena_bytes, PROT_READ | PROT_WRITE);

        expect(ring != MAP_FAILED && arena != MAP_FAILED);
        (void)channel_wait_ready(&own);
        printf("work: running\n");
        fflush(stdout);
        for (;;) {
                const uint32_t count = 1 + (uint32_t)rand() % 4;
                uint32_t first;

                if (claim(&own, count, &first) == 0) {
                        memset(arena + (uint64_t)first * IVG_EXTENT_BYTES, (int)own.info.channel + 1,
                               (size_t)count * IVG_EXTENT_BYTES);
                        for (uint64_t i = 0; i < (uint64_t)count * IVG_EXTENT_BYTES; i += IVG_PAGE_BYTES)
                                expect(arena[(uint64_t)first * IVG_EXTENT_BYTES + i] == own.info.channel + 1);
                        if (rand() % 2 == 0)
                                expect(release(&own, first, count) == 0);
                } else {
                        expect(errno == ENOSPC);
                }
                expect(ioctl(own.fd, IVGPU_IOC_DOORBELL) == 0);
                usleep(1000); /* eight of these share two emulated processors */
        }
}

/* ---- sleepers ---- */

static int await(void)
{
        struct channel own = channel_open();
        struct pollfd watched = {.fd = own.fd, .events = POLLIN};
        const struct ivg_host_pages *host = channel_wait_ready(&own);
        uint64_t count;

        expect(fcntl(own.fd, F_SETFL, O_NONBLOCK) == 0);
        (void)!read(own.fd, &count, sizeof(count));
        printf("MARK-waiting\n");
        fflush(stdout);
        while (!host_state_is(host, &own, IVG_HOST_CHANNEL_DEAD)) {
                expect(poll(&watched, 1, -1) == 1 && (watched.revents & POLLIN) != 0);
                expect(read(own.fd, &count, sizeof(count)) == sizeof(count));
        }
        printf("MARK-woken\n");
        return 0;
}

static int pin(void)
{
        struct channel own = channel_open();
        uint8_t *arena = map(&own, own.region.arena_offset, own.region.arena_bytes, PROT_READ | PROT_WRITE);
        uint32_t first;
        int pages[2];
        char byte;

        expect(arena != MAP_FAILED && claim(&own, 1, &first) == 0 && pipe(pages) == 0);
        expect(vmsplice(pages[1],
                        &(struct iovec){.iov_base = arena + (uint64_t)first * IVG_EXTENT_BYTES,
                                        .iov_len = IVG_PAGE_BYTES},
                        1, 0) == IVG_PAGE_BYTES);
        printf("MARK-pinned\n");
        fflush(stdout);
        expect(read(STDIN_FILENO, &byte, 1) == 0);
        expect_errno(ENODEV, ioctl(own.fd, IVGPU_IOC_DOORBELL));
        expect(read(pages[0], &byte, 1) == 1); /* whatever it is */
        return 0;
}

static int undisturbed(void)
{
        struct channel own = channel_open();
        struct pollfd watched[2] = {{.fd = own.fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
        uint64_t count;

        (void)channel_wait_ready(&own);
        while (poll(watched, 1, SETTLE_MS) > 0) /* READY is seen before its interrupt has come */
                expect(read(own.fd, &count, sizeof(count)) == sizeof(count));
        printf("MARK-still\n");
        fflush(stdout);
        expect(poll(watched, 2, -1) > 0);
        expect(watched[0].revents == 0);
        return 0;
}

static bool never(void *arg)
{
        (void)arg;
        return false;
}

static double cpu_s(void)
{
        struct rusage usage;

        getrusage(RUSAGE_SELF, &usage);
        return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

/* What the same number of bare sleeps costs meanwhile: on a loaded machine an emulated processor that is not scheduled
 * counts as busy. A child that writes its processor time into the pipe it returns. */
static int bare_sleeper_start(double seconds)
{
        int result[2];

        expect(pipe(result) == 0);
        if (fork() == 0) {
                const uint64_t end_ms = now_ms() + (uint64_t)(seconds * 1000);
                double used_s;

                while (now_ms() < end_ms)
                        usleep(IDLE_STEP_MS * 1000);
                used_s = cpu_s();
                _exit(write(result[1], &used_s, sizeof(used_s)) == sizeof(used_s) ? 0 : 1);
        }
        close(result[1]);
        return result[0];
}

static int idle(double seconds, const char *scheme)
{
        struct ivg_link *link = NULL;
        enum ivg_error_code code;
        struct ivg_error error = {""};
        const int rc = ivg_link_open(IVG_CALL_TABLE_FINGERPRINT, &link, &code, &error);
        double begin_s, share, bare_s;
        struct rusage before, after;
        int bare;

        if (rc != 0)
                fprintf(stderr, "kmod_guest: %s\n", error.text);
        expect(rc == 0 && strncmp(ivg_link_name(link), scheme, strlen(scheme)) == 0);
        printf("MARK-idle\n");
        fflush(stdout);
        bare = bare_sleeper_start(seconds);
        getrusage(RUSAGE_SELF, &before);
        begin_s = cpu_s();
        expect(ivg_link_wait(link, never, NULL, (uint32_t)(seconds * 1000)) == -ETIMEDOUT);
        share = (cpu_s() - begin_s) / seconds;
        getrusage(RUSAGE_SELF, &after);
        expect(read(bare, &bare_s, sizeof(bare_s)) == sizeof(bare_s));
        printf("MARK-idle-ended: %.2f %% of a processor (bare sleeps %.2f %%), woken %ld times\n", share * 100,
               bare_s / seconds * 100, after.ru_nvcsw - before.ru_nvcsw);
        expect((double)(after.ru_nvcsw - before.ru_nvcsw) <= 2 * seconds * 1000 / IDLE_STEP_MS);
        expect(share < IDLE_SHARE_MAX + 2 * bare_s / seconds);
        ivg_link_close(link);
        return 0;
}

int main(int argc, char **argv)
{
        const char *what = argc > 1 ? argv[1] : "";

        srand((unsigned)getpid());
        if (strcmp(what, "isolation") == 0)
                return isolation();
        if (strcmp(what, "crowd") == 0)
                return crowd();
        if (strcmp(what, "work") == 0)
                return work();
        if (strcmp(what, "await") == 0)
                return await();
        if (strcmp(what, "pin") == 0)
                return pin();
        if (strcmp(what, "undisturbed") == 0)
                return undisturbed();
        if (strcmp(what, "idle") == 0 && (argc == 3 || argc == 4))
                return idle(atof(argv[2]), argc == 4 ? argv[3] : "driver:" NODE);
        fprintf(stderr,
                "usage: kmod_guest isolation | crowd | work | await | pin | undisturbed | idle SECONDS [SCHEME]\n");
        return 2;
}
