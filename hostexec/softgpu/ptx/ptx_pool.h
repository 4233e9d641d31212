/* The worker threads of the process: they help the thread that launches. */
#ifndef IVGPU_SOFTGPU_PTX_POOL_H
#define IVGPU_SOFTGPU_PTX_POOL_H

#include <stdbool.h>
#include <stdint.h>

struct ptx_task {
        void (*work)(void *context); /* returns when there is nothing left to start */
        void *context;
        uint32_t wanted;  /* helpers still to join; the pool's lock guards this and what follows */
        uint32_t running; /* helpers inside work */
        struct ptx_task *next;
};

/* Runs task->work on the calling thread and on up to `helpers` others; returns when all of them have returned.
 * Callers: any thread. Helpers that cannot be had are done without. */
void ptx_pool_run(struct ptx_task *task, uint32_t helpers);
/* How many threads a launch may use: the processors this process may run on. */
uint32_t ptx_pool_size(void);

#endif
