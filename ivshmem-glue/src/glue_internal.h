/* What the files of ivshmem-glue share: time, descriptors, rounding. */
#ifndef IVG_GLUE_INTERNAL_H
#define IVG_GLUE_INTERNAL_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#define IVG_NS_PER_MS 1000000ull
#define IVG_NS_PER_US 1000ull

static inline uint64_t ivg_now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static inline uint64_t ivg_round_up(uint64_t value, uint64_t power_of_two)
{
        return (value + power_of_two - 1) & ~(power_of_two - 1);
}

static inline uint64_t ivg_min_u64(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}

/* Closes *fd if there is one and forgets it; errno is kept for the caller's message. */
static inline void ivg_close_fd(int *fd)
{
        const int saved_errno = errno;

        if (*fd >= 0)
                close(*fd);
        *fd = -1;
        errno = saved_errno;
}

/* Sleeps without being a cancellation point, and however often signals interrupt it at most once around. */
void ivg_sleep_ns(uint64_t duration_ns);

#endif
