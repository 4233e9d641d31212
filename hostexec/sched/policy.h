/* Who may use one device of a pool, and how much: weighted fairness over measured GPU time.
 *
 * Pure policy: no clock, no memory of its own, no input or output. ivgpud and the simulator (bench/ivgpu-sched-sim)
 * fill in what executors say, call ivg_sched_run, and carry its decisions out; tests run it over simulated time.
 *
 *   device ── VM (priority, weight) ── client (one executor of it)
 *
 * Charges. A client's GPU time is what its events measured, and for work under way the time since it began. Where
 * several clients were busy at once each is charged its part, so that charges never add up to more than the time that
 * has passed. A VM's virtual time is its charges by its weight; who is behind runs. Work is charged when it has run, at
 * whatever length it had: an overrun is carried on, as a deficit.
 * Priorities. While a VM of a higher class wants the device, lower classes are held, but for what the bound below gives
 * them. A VM that is alone in the highest class that wants is never held itself.
 * With turns (`drain`) the device is one VM's at a time, and the time of its turn is what it is charged: the device
 * does nothing for others meanwhile, however short the work is. A VM that comes cuts the turn under way to a quantum.
 * Work conservation. Nobody is held for the sake of a VM that wants nothing: one that has been silent for linger_ns is
 * asked to say (by a kick) when it wants again. It comes back at the others' virtual time: idleness saves nothing up.
 * While those who run leave the device idle, more of their class are let in, one after the other.
 * No starvation. Whoever wants has got quantum_ns after starve_ns + n * (round_ns + IVG_SCHED_RESCUE_EVERY *
 * quantum_ns), n being the number of VMs that want, plus what others' running kernels take beyond their quanta (and,
 * for turns, the drains). Within one class and with turns it waits for one round: round_ns, or n * quantum_ns if that
 * is more, and the changes.
 *
 * Callers: one thread for each device. Cost: a few passes over its clients. */
#ifndef IVG_SCHED_POLICY_H
#define IVG_SCHED_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#define IVG_SCHED_CLASSES 3u /* priorities: 0 is low */
/* One of so many quanta goes to whoever has waited longest, once that has been longer than starve_ns. */
#define IVG_SCHED_RESCUE_EVERY 5u
#define IVG_SCHED_NO_LIMIT UINT64_MAX
#define IVG_SCHED_NEVER UINT64_MAX

struct ivg_sched_settings {
        uint32_t running_max; /* VMs on the device at once; 1: they take turns */
        bool drain;           /* the next starts when the one before has nothing on the device any more */
        uint64_t drain_ns;    /* but is not kept waiting for longer: work may wait for other work */
        uint64_t quantum_ns;  /* what a VM may use before others are looked at again */
        uint64_t round_ns; /* not 0: VMs divide so much by weight, and each has its part at once; quantum_ns at least */
        uint64_t tail_ns;  /* of work may be on the device at the end of a turn */
        uint64_t rest_ns;  /* and with so much the next one may begin: it is woken while that runs */
        uint64_t change_ns; /* what a change of turns costs: charged to nobody */
        uint64_t tick_ns;   /* between two looks while VMs compete */
        uint64_t linger_ns; /* silent for so long: wants nothing */
        uint64_t starve_ns;
        uint64_t queue_ns;       /* of work on the device, for one client, while other VMs are there */
        uint64_t queue_below_ns; /* the same while a VM of a higher class is there */
};
/* As they are used with and without turns; each with its motive in policy.c. */
extern const struct ivg_sched_settings ivg_sched_fair, ivg_sched_turns;

enum ivg_sched_ask {
        IVG_SCHED_ASK_NOTHING,
        IVG_SCHED_ASK_BEGIN, /* say so when work begins */
        IVG_SCHED_ASK_IDLE,  /* say so when no work is left */
};

struct ivg_sched_client {
        /* what the executor says, before each run */
        uint64_t used_ns; /* measured and estimated: what granted_ns is compared with */
        uint64_t gpu_ns;  /* measured, work under way up to now included. A step back is let pass */
        uint64_t calls;   /* given to the device so far */
        bool busy;        /* something of it is on the device, or not known done */
        bool waiting;     /* its gate holds work back */
        /* what is decided */
        uint64_t granted_ns;
        uint64_t queue_ns; /* 0: no limit */
        enum ivg_sched_ask ask;
        /* private */
        struct ivg_sched_client *next;
        struct ivg_sched_vm *vm;
        uint64_t gpu_seen_ns, gpu_before_ns, calls_seen, silent_since_ns;
        bool wants;
};

struct ivg_sched_vm {
        /* given */
        uint32_t priority; /* below IVG_SCHED_CLASSES */
        uint32_t weight;   /* 1 to 100 */
        bool paused;
        /* to be read: GPU time charged in all */
        uint64_t charged_ns;
        /* private */
        struct ivg_sched_vm *next;
        struct ivg_sched_client *clients;
        uint64_t virtual_ns; /* charges by weight */
        uint32_t priority_seen;
        uint64_t left_ns; /* of the quantum */
        uint64_t free_ns; /* not charged yet: of the change to it */
        uint64_t waits_since_ns;
        bool wants, runs, rescued;
        bool drains; /* has been stopped, and may still have work there */
        uint64_t drains_until_ns;
};

struct ivg_sched_device {
        struct ivg_sched_settings settings;
        struct ivg_sched_vm *vms;
        uint64_t now_ns;
        uint64_t budget_ns; /* time that passed and is not charged to anybody yet */
        uint32_t extra;     /* VMs beyond running_max, since the device idles; in parts (policy.c) */
        uint64_t idle_passed_ns;
        int64_t idle_busy_ns;
        uint64_t floor_ns[IVG_SCHED_CLASSES];
        uint64_t rescue_after_ns;   /* no rescue before */
        struct ivg_sched_vm *owner; /* the last one that had the device for itself: needs not say when it begins */
        uint64_t charged_ns;        /* of all, those that are gone too */
};

/* Nobody uses it yet. `now_ns` here and below: any clock that never steps back. */
void ivg_sched_device_init(struct ivg_sched_device *device, const struct ivg_sched_settings *settings, uint64_t now_ns);
/* Other settings from the next run on: a VM that runs keeps what is left of its quantum, if the new one is not shorter.
 */
void ivg_sched_device_change(struct ivg_sched_device *device, const struct ivg_sched_settings *settings);
/* The structures are the caller's, zero but for what is given, and stay where they are until they are taken out. */
void ivg_sched_vm_add(struct ivg_sched_device *device, struct ivg_sched_vm *vm);
void ivg_sched_vm_remove(struct ivg_sched_device *device, struct ivg_sched_vm *vm); /* it has no clients */
void ivg_sched_client_add(struct ivg_sched_device *device, struct ivg_sched_vm *vm, struct ivg_sched_client *client);
/* What it was charged stays with its VM. */
void ivg_sched_client_remove(struct ivg_sched_device *device, struct ivg_sched_client *client);
/* Decides anew for every client. Returns when to call again, at the latest; IVG_SCHED_NEVER: when somebody speaks. */
uint64_t ivg_sched_run(struct ivg_sched_device *device, uint64_t now_ns);

#endif
