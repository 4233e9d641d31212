/* Waiting on a word of this process, and the clock. */
#include "exec_internal.h"
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_read(clockid_t clock)
{
        struct timespec now;

        clock_gettime(clock, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t ivg_clock_ns(void)
{
        return clock_read(CLOCK_MONOTONIC);
}

uint64_t ivg_clock_coarse_ns(void)
{
        return clock_read(CLOCK_MONOTONIC_COARSE);
}

static void wait_on(_Atomic(uint32_t) *word, int operation, uint32_t seen, uint64_t timeout_ns)
{
        const struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                                         .tv_nsec = (long)(timeout_ns % 1000000000u)};

        /* Every result (woken, changed, timed out, interrupted) means the same: look again. */
        (void)syscall(SYS_futex, word, operation, seen, &timeout, NULL, 0);
}

void ivg_futex_wait(_Atomic(uint32_t) *word, uint32_t seen, uint32_t timeout_ms)
{
        wait_on(word, FUTEX_WAIT_PRIVATE, seen, timeout_ms * 1000000ull);
}

void ivg_futex_wait_shared(_Atomic(uint32_t) *word, uint32_t seen, uint64_t timeout_ns)
{
        wait_on(word, FUTEX_WAIT, seen, timeout_ns);
}

void ivg_futex_wake_all(_Atomic(uint32_t) *word)
{
        (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void ivg_futex_wake_shared(_Atomic(uint32_t) *word)
{
        (void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}
