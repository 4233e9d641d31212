/* A machine to try the scheduler's policy on, in simulated time: the policy is the real one (hostexec/sched), around it
 * are a GPU that slices time between contexts, executors with a gate, estimates and a queue, and a mediator that looks
 * at its ticks and, a little later, when it is kicked. Deterministic: the same loads give the same figures. */
#ifndef IVG_SCHED_SIM_H
#define IVG_SCHED_SIM_H

#include "policy.h"
#include <stdio.h>

#define SIM_VMS_MAX 1024u
#define SIM_DEVICES_MAX 16u
#define SIM_LATENCIES_MAX 100000u /* of one VM */
#define SIM_TRACE_MAX 1000000u    /* kernels of a recorded load */

enum sim_kind {
        SIM_SATURATES, /* launches as fast as it may, `depth` kernels ahead */
        SIM_CLOSED,    /* launches one, waits for it, thinks, launches the next */
        SIM_BURSTS,    /* saturates for on_ns, is silent for off_ns */
        SIM_RECORDED,  /* launches at given times */
};

struct sim_arrival { /* of a recorded load */
        uint64_t at_ns, kernel_ns;
};

struct sim_load {
        enum sim_kind kind;
        uint32_t priority, weight, device;
        uint64_t kernel_ns; /* the mean length */
        uint32_t spread;    /* 0: all alike; else lengths of 1/spread to 2 - 1/spread of the mean, evenly */
        uint32_t depth;     /* kernels that the program has launched and not seen end; 0: 1024, as a driver's queue */
        uint64_t issue_ns;  /* the executor's part of a launch: one follows the other so far apart */
        uint64_t think_ns, begin_ns, on_ns, off_ns;
        const struct sim_arrival *arrivals;
        uint32_t arrival_count;
};

struct sim_settings {
        uint32_t vm_count, device_count;
        const struct sim_load *loads;
        struct ivg_sched_settings policy;
        bool scheduled;                /* else everybody runs as the device's slices have it */
        uint64_t slice_ns;             /* of the device between contexts that have work; one without loses it at once */
        uint64_t switch_ns;            /* the device does nothing so long when another context comes */
        uint64_t step_ns;              /* of the simulation */
        uint64_t wake_ns;              /* from a kick to the mediator's look, and of a grant to its client */
        uint64_t late_ns;              /* ticks come late by up to this, evenly */
        uint64_t report_ns;            /* between two looks of an executor at what has ended, */
        uint64_t report_soon_ns;       /* while the mediator waits for an end */
        uint64_t length_ns, ignore_ns; /* figures count from ignore_ns on */
        FILE *timeline;                /* NULL, or rows "ms share share ..." of every 10 ms */
};

struct sim_figures {  /* of a VM */
        double share; /* of the device's time, from ignore_ns on */
        uint64_t gpu_ns, kernels;
        uint64_t latency_count, latency_p50_ns, latency_p99_ns, latency_max_ns; /* from a launch to its end */
        uint64_t begin_wait_max_ns; /* a burst's first kernel, but for its own length: how fast a share is taken back */
        uint64_t starved_max_ns;    /* the longest time that it wanted and got nothing */
        uint64_t first_ns;          /* when it was served for the first time */
};

struct sim_result {
        struct sim_figures vms[SIM_VMS_MAX];
        double busy[SIM_DEVICES_MAX];   /* part of the time that the device ran something */
        double wanted[SIM_DEVICES_MAX]; /* and that somebody wanted it */
        double jain;                    /* fairness of share by weight, over the VMs that never cease to want */
        uint64_t looks;                 /* of the mediator */
};

/* 0, or -1 without memory. `result` is large: not for a stack. */
int sim_run(const struct sim_settings *settings, struct sim_result *result);
/* What the machine is like when nothing is said: an H200's slices, wake-ups as measured. */
void sim_settings_init(struct sim_settings *settings);

#endif
