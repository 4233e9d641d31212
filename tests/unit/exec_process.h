/* ivgpu-exec as a process of a test: the test plays the mediator and the guest. */
#ifndef EXEC_PROCESS_H
#define EXEC_PROCESS_H

#include "exec_control.h"
#include "ivgpu/cuda_abi.h"
#include "ivgpu/region.h"
#include "ivgpu/ring.h"
#include <stdbool.h>
#include <sys/types.h>

#ifndef EXEC_PROGRAM
#error "the build names the program and its driver"
#endif

#define ALL_THREE (1u << IVG_EXEC_SLOT_REGION | 1u << IVG_EXEC_SLOT_DOORBELL | 1u << IVG_EXEC_SLOT_INTERRUPT)

struct process {
        pid_t pid;
        int memfd, doorbell, interrupt, control; /* control: the mediator's end */
        struct ivg_region region;                /* the guest's mapping */
        struct ivg_ring ring;
        struct ivg_producer producer;
};

/* The driver behaves as `misbehaviour` says (exec_process_driver.c); with "mps..." an MPS server is to serve it.
 * `warm`: --warm's value; NULL: it is given its channel at once. */
void start_process(struct process *p, const char *driver, const char *misbehaviour, const char *warm);
void start(struct process *p, const char *driver, const char *misbehaviour);
void start_ready(struct process *p, const char *misbehaviour);
/* With a context, without a channel. */
void start_waiting(struct process *p, const char *misbehaviour, int unused_ms);
/* Gives the channel, as the mediator does, with three descriptors. 0 or -errno. */
int adopt(const struct process *p, uint32_t given);
/* Waits for READY and attaches as a guest. */
void become_ready(struct process *p);
bool receive(struct process *p, struct ivg_exec_message *message);
/* The exit status, or -1 when it does not end in time. */
int wait_for_exit(struct process *p, uint32_t bound_ms);
void finish(struct process *p);
/* A request, with its header to be filled, and its answer's result. */
CUresult call(struct process *p, uint16_t number, void *request, uint32_t bytes);
void retain_context(struct process *p);
uint64_t now_ms(void);

#endif
