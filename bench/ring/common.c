/* What a ring's own file needs of the program; also part of each module, which so needs nothing from the program. */
#include "bench.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void *bench_memory(struct bench_run *run, size_t bytes, size_t alignment)
{
        uint8_t *at = (uint8_t *)(((uintptr_t)run->memory + alignment - 1) & ~(uintptr_t)(alignment - 1));
        const size_t used = (size_t)(at - run->memory) + bytes;

        if (used > run->memory_bytes)
                bench_die("%s: the run's memory is used up", run->is.peer->name);
        run->memory += used;
        run->memory_bytes -= used;
        return at;
}
