/* Inside ivgpud: the mediator's objects and how its files use each other.
 *
 *   main.c ── loop.c ──┬─ vm.c      a VM: its listening socket, its QEMU
 *                      ├─ local.c   local programs: listening socket, hello, life
 *                      │     └────┬─ tenant.c    one region and its channels (of a QEMU or of a local program)
 *                      │          ├─ channel.c   a channel's states (region_layout.h)
 *                      │          ├─ relay.c     doorbells that channels share
 *                      │          └─ executor.c  one ivgpu-exec process
 *                      ├─ member.c  what a VM, or all local programs, may do: limits, faults, quarantine
 *                      ├─ watchdog.c  calls, kernels and executors that take too long
 *                      ├─ reload.c  another configuration, while everything runs
 *                      ├─ warm.c    executors that wait for a program
 *                      ├─ sched.c   who may use the devices
 *                      ├─ images.c  ivgpu-images, and each executor's way to it
 *                      ├─ share.c   descriptors that a tenant's executors share
 *                      ├─ accounts.c  what was done; stats.c, control.c, metrics.c show it
 *                      ├─ control.c   ivgpuctl's socket ── commands.c  what it may ask for
 *                      ├─ manager.c   systemd: sockets that it holds, news for it ── systemd_module.c, libsystemd
 *                      └─ log.c     what is told; executor_log.c, what executors say
 *
 * One thread, one epoll loop; nothing blocks. Of a guest's memory only state words, the boot epoch and counters to show
 * are read. Objects are freed at the end of a turn of the loop, since other events of the same turn may name them. */
#ifndef IVGPUD_MEDIATOR_H
#define IVGPUD_MEDIATOR_H

#include "board.h"
#include "config.h"
#include "exec_control.h"
#include "ivgpu/ring.h"
#include "ivgpu/server.h"
#include "log.h"
#include "policy.h"
#include "vram_table.h"
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>

/* ---- limits, each with its motive ---- */

#define IVG_EVENTS_PER_TURN 64
/* After SIGTERM an executor has so long to give back contexts; together with one tick below a second, so that a killed
 * program's memory is back within one. */
#define IVG_EXECUTOR_TERM_MS 700u
/* A local program connects and says hello in one breath; one that does not is holding a place. */
#define IVG_HELLO_MS 5000u
#define IVG_LOCAL_PROGRAMS_MAX 256u
/* An executor that waits has its driver and its context: from its adoption to READY are a few mappings and a thread.
 * One that takes longer than this hangs, and a cold one is started in its place. */
#define IVG_ADOPTION_MS 2000u
/* A killed process is gone in a moment, unless the kernel's driver holds it; the program is told after so long. */
#define IVG_KILLED_GONE_MS 1000u
/* A waiting executor that dies is replaced, later each time, until one gets as far as waiting. */
#define IVG_WARM_RETRY_MS 1000u
#define IVG_WARM_RETRY_MS_MAX 60000u
/* Messages of one executor handled in one turn, so that one that asks a lot leaves room for the others. */
#define IVG_EXECUTOR_MESSAGES_PER_TURN 4u
/* Bytes that a QEMU may send before it is called broken; the protocol lets it send none. */
#define IVG_QEMU_BYTES_PER_TURN 64u
/* ivgpuctl asks one thing and goes; each that stays holds a request's and an answer's memory. */
#define IVG_CONTROL_CLIENTS_MAX 16u
#define IVG_CONTROL_REQUEST_BYTES 4096u
#define IVG_CONTROL_MS 10000u /* for a request to come, for an answer to be read */
/* So many moments of faults are remembered of each member: faults_max is at most that. */
#define IVG_FAULTS_REMEMBERED 16u
/* A keeper of images that dies is started again, but not in a loop. */
#define IVG_IMAGES_RESTART_MS 1000u
/* At the end it has so long to go by itself: it frees memory, no more. */
#define IVG_IMAGES_END_MS 500

/* An MPS control daemon listens within a moment; one that ends is started again, later each time, at once again after
 * it has been steady for so long. At the end it has so long to see its server off. */
#define IVG_MPS_READY_MS 10000u
#define IVG_MPS_RETRY_MS 500u
#define IVG_MPS_RETRY_MS_MAX 30000u
#define IVG_MPS_STEADY_MS 60000u
#define IVG_MPS_END_MS 3000u

/* ---- loop.c ---- */

struct ivg_mediator;

struct ivg_source {
        int fd; /* -1: not watched (any more) */
        void (*ready)(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events);
};

struct ivg_garbage { /* first member of whatever ivg_loop_free takes */
        struct ivg_garbage *next;
};

/* Watches source->fd for EPOLLIN and hang-up. -errno. */
int ivg_loop_watch(struct ivg_mediator *mediator, struct ivg_source *source);
/* The same for EPOLLOUT in its place, and back. */
int ivg_loop_watch_for(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events);
void ivg_loop_unwatch(struct ivg_mediator *mediator, struct ivg_source *source); /* leaves the descriptor open */
void ivg_loop_close(struct ivg_mediator *mediator, struct ivg_source *source);   /* and closes it */
void ivg_loop_free(struct ivg_mediator *mediator, struct ivg_garbage *garbage);  /* at the end of the turn */
int ivg_process_open(pid_t pid); /* its pidfd; -ESRCH: it has ended, reaped or not; another -errno. Any thread */
uint64_t ivg_loop_now_ns(void);  /* the clock of what executors stamp. Any thread; the next two the loop's alone */
uint64_t ivg_loop_now_ms(void);  /* for deadlines: without the time in which the mediator stood still */
/* The tick. Each function below that is named for it does what is due, and returns when it is to be called again at the
 * latest, by ivg_loop_now_ms: deadlines hold to a tick. None comes sooner than IVG_HEARTBEAT_MS after another, nor
 * later than IVG_HEARTBEAT_SLOW_MS, nor later than IVG_HEARTBEAT_MS after any event of the loop. */
#define IVG_TICK_NEVER UINT64_MAX
static inline uint64_t ivg_tick_earlier(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}
uint64_t ivg_loop_resumed_ns(void); /* when it last stood still no more, by the first of these clocks; 0: never */
/* Before any socket exists: from then on a signal waits for the loop, which ends in order. Without it a SIGTERM right
 * after "ready" would leave sockets behind and statistics unwritten. */
void ivg_loop_hold_signals(void);
/* Runs until ivg_loop_end has been asked for and every executor is gone. 0 or -errno of the loop itself. */
int ivg_loop_run(struct ivg_mediator *mediator, struct ivg_error *error);
void ivg_loop_end(struct ivg_mediator *mediator, const char *why);

/* ---- accounts.c ---- */

/* Counters of a channel, summed up for its VM and its pool. All of them 64 bits: they are added as an array. */
struct ivg_totals {
        uint64_t records, batches, sleeps, interrupts, bytes_from_guest, bytes_to_guest, failed, unsupported,
                images_found, image_bytes_found, images_kept; /* host's */
        uint64_t calls, calls_sync, calls_local, doorbells;   /* the guest's claims: shown, nothing depends on them */
        uint64_t run[IVG_BOARD_CLASSES];                      /* calls, by where they ran */
        uint64_t gpu_calls, gpu_ns, gates, gated_ns, throttles, throttled_ns, rate_failures;
        uint64_t programs, faults, executor_failures, rejections, quarantines;
};

struct ivg_account { /* what a pool or a member did; of programs that are gone */
        struct ivg_totals ended;
        struct ivg_histogram *latencies; /* IVG_BOARD_LATENCIES; NULL: no program has ended */
};

struct ivg_latency {
        uint64_t count, sum_ns, p50_ns, p95_ns, p99_ns;
};
/* What has ended and what runs, at one moment; of a pool, a VM or the local programs. Bytes only: it may be copied. */
struct ivg_account_view {
        enum ivg_account_kind { IVG_ACCOUNT_POOL, IVG_ACCOUNT_VM, IVG_ACCOUNT_LOCAL } kind;
        uint32_t vm_id;
        char name[IVG_NAME_BYTES], pool[IVG_NAME_BYTES];
        const char *state; /* of a member: a word that stays, as "running" or "paused" */
        struct ivg_totals totals;
        uint64_t running, ring_depth, gpu_inflight, vram_bytes, vram_limit_bytes; /* now; a limit of 0: none */
        struct ivg_latency latencies[IVG_BOARD_LATENCIES];
};
/* One line for each counter and each thing that goes up and down: what `stats` and Prometheus say. */
struct ivg_account_field {
        const char *name;   /* in JSON */
        const char *family; /* Prometheus: ivgpu_FAMILY, with _total for a counter; NULL: as in JSON */
        const char *labels; /* within the family; NULL: it has one member */
        const char *help;   /* NULL: of the same family as the line before */
        size_t offset;      /* of a uint64_t in struct ivg_account_view */
        bool is_counter;
        bool is_seconds; /* kept in nanoseconds */
};
extern const struct ivg_account_field ivg_account_fields[]; /* end with a NULL name */
extern const char *const ivg_latency_names[IVG_BOARD_LATENCIES];

/* Moves the counters of `channel` to the accounts of its member and pool: once, when its executor is gone. */
struct ivg_channel;
void ivg_account_settle(struct ivg_channel *channel);
void ivg_account_clear(struct ivg_account *account);
struct ivg_member;
void ivg_account_view_pool(struct ivg_mediator *mediator, uint32_t pool, struct ivg_account_view *view);
void ivg_account_view_member(struct ivg_member *member, struct ivg_account_view *view);
/* Of one running program: counters only. */
void ivg_account_view_channel(const struct ivg_channel *channel, struct ivg_account_view *view);
/* IVG_BOARD_LATENCIES distributions of the view made last, until the next is made. */
const struct ivg_histogram *ivg_account_viewed_latencies(void);

/* ---- stats.c ---- */

/* The [MEDIATOR STATS] block, to the end of it or to the first failure. */
void ivg_stats_write(struct ivg_mediator *mediator, int fd);
void ivg_stats_log(struct ivg_mediator *mediator);

/* ---- member.c ---- */

/* What a member did wrong. Each is counted; so many within a time end in quarantine (struct ivg_limits). */
enum ivg_fault_kind {
        IVG_FAULT_KIND_PROTOCOL, /* a rule of the channel was broken */
        IVG_FAULT_KIND_DIED,     /* the executor ended by itself while it served a program */
        IVG_FAULT_KIND_CALL,     /* one call took longer than call_timeout_ms */
        IVG_FAULT_KIND_KERNEL,   /* the GPU made no progress for kernel_timeout_ms */
        IVG_FAULT_KIND_SILENT,   /* the executor did not answer the mediator */
        IVG_FAULT_KINDS,
};
const char *ivg_fault_kind_name(enum ivg_fault_kind kind); /* "protocol", "died", ... */

/* A member of a pool: a VM, or all local programs together. It has limits and an account, and is admitted or not. */
struct ivg_member {
        struct ivg_mediator *mediator;
        char name[64];   /* "VM 1 (demo)", "local programs" */
        uint32_t slot;   /* of mediator->vms; IVG_VMS_MAX: local programs */
        uint32_t number; /* not 0; its own, as long as the mediator runs */
        const struct ivg_limits *limits;
        struct ivg_account account;
        struct ivg_vram_table *vram; /* NULL: it had no program yet */
        int vram_fd;
        bool vram_taken[IVG_VRAM_PLACES];
        uint32_t executors_alive;
        bool draining;                                  /* no new programs: until it is resumed */
        bool paused;                                    /* its programs stand still: likewise */
        bool quarantined;                               /* no programs at all: until the time is over or released */
        uint64_t quarantine_end_ms;                     /* UINT64_MAX: until it is released */
        uint64_t fault_at_ms[IVG_FAULTS_REMEMBERED];    /* the latest, a ring */
        uint64_t fault_counts[IVG_FAULT_KINDS], faults; /* faults: by all kinds */
        uint64_t quarantines, rejections;               /* how often so far */
};
void ivg_member_init(struct ivg_member *member, struct ivg_mediator *mediator, uint32_t slot,
                     const struct ivg_limits *limits);
void ivg_member_end(struct ivg_member *member); /* its last program is gone */
/* A place for an executor in the table of device memory. 0 or -errno. */
int ivg_member_vram_place(struct ivg_member *member, uint32_t *place);
void ivg_member_vram_leave(struct ivg_member *member, uint32_t place); /* the executor is gone */
void ivg_member_rename(struct ivg_member *member);                     /* its VM has got another name */
void ivg_member_limits_changed(struct ivg_member *member);             /* its limits, or whether it is paused */
const char *ivg_member_state(const struct ivg_member *member); /* "running", "paused", "draining", "quarantined" */
uint32_t ivg_member_pool(const struct ivg_member *member);     /* of programs that start now */
/* May another executor start? IVG_ERROR_NONE, or why not, in words too; a refusal is counted. */
enum ivg_error_code ivg_member_admit(struct ivg_member *member, struct ivg_error *error);
/* Counts it and, when it is one too many, quarantines. The caller ends the executor. */
struct ivg_tenant;
void ivg_member_fault(struct ivg_tenant *tenant, enum ivg_fault_kind kind);
/* Ends its programs with error 11 and lets none in for `seconds`; 0: until released. */
void ivg_member_quarantine(struct ivg_member *member, uint32_t seconds, const char *why);
void ivg_member_release(struct ivg_member *member, const char *why); /* with no faults on record */
uint64_t ivg_member_tick(struct ivg_member *member, uint64_t now_ms);
/* All of them: those VMs whose slot is taken, then local programs. NULL: no more. */
struct ivg_member *ivg_member_next(struct ivg_mediator *mediator, const struct ivg_member *after);

/* ---- tenant.c ---- */

enum ivg_tenant_kind { IVG_TENANT_VM, IVG_TENANT_LOCAL };

struct ivg_channel {
        struct ivg_tenant *tenant;
        uint32_t index, generation;
        enum ivg_host_channel_state state;
        struct ivg_executor *executor; /* NULL: none, or gone */
        int doorbell_fd;               /* its own, where its vector is shared (relay.c); else -1 */
};

struct ivg_relay { /* watches a vector's doorbell where channels share it */
        struct ivg_source source;
        struct ivg_tenant *tenant;
        uint32_t vector;
};

struct ivg_tenant {
        struct ivg_garbage garbage;
        struct ivg_tenant *next;
        struct ivg_mediator *mediator;
        enum ivg_tenant_kind kind;
        uint32_t vm_id;
        char name[64]; /* "VM 1 (demo)", "local program 4711" */
        uint32_t pool;
        struct ivg_member *member;
        int memfd;
        int ipc_fd; /* what its processes share (ipc_table.h): a VM's own, or that of all local programs */
        struct ivg_shares *shares; /* likewise */
        struct ivg_region region;
        struct ivg_doorbells doorbells; /* of a VM; a local program's three: vector 0 and 1 */
        struct ivg_source control;      /* the guest rings when a state word has changed */
        uint32_t vectors_usable;        /* by the guest's own word (region_layout.h) */
        struct ivg_relay relays[IVG_VECTORS_MAX];
        uint64_t epoch_pending; /* a boot epoch to adopt once the old executors are gone; 0: none */
        uint32_t executors_alive;
        bool ending; /* its QEMU or program is gone: freed with the last executor */
        struct ivg_channel channels[IVG_CHANNELS_MAX];
};

/* What an ivgpud that ended has left of a tenant (vm.c). */
struct ivg_left {
        int memfd;
        struct ivg_doorbells doorbells;
};
void ivg_left_close(struct ivg_left *left);

struct ivg_tenant_config {
        enum ivg_tenant_kind kind;
        uint32_t vm_id, pool, region_mib, channels, vectors;
        const char *name;    /* for messages */
        const char *vm_name; /* for the region page */
        struct ivg_member *member;
        struct ivg_local *local; /* where a local program has come in */
        struct ivg_left *left;   /* to go on with, for a VM: taken over in any case. NULL: all is new */
};
int ivg_tenant_create(struct ivg_mediator *mediator, const struct ivg_tenant_config *config, struct ivg_tenant **tenant,
                      struct ivg_error *error);
/* Its QEMU or program is gone: ends every executor, drops the region when the last is gone. The caller forgets it. */
void ivg_tenant_end(struct ivg_tenant *tenant, const char *why);
void ivg_tenant_scan(struct ivg_tenant *tenant); /* looks at the guest's words and acts */
void ivg_tenant_beat(struct ivg_tenant *tenant);
/* The guest gets to know that the next beat comes after so long; in the tick, after the beat. */
void ivg_tenant_tell_pace(struct ivg_tenant *tenant, uint64_t pause_ms);
void ivg_tenant_executor_gone(struct ivg_tenant *tenant);
/* Descriptors that an executor of `channel` gets. */
int ivg_tenant_doorbell_fd(const struct ivg_tenant *tenant, uint32_t channel);
int ivg_tenant_interrupt_fd(const struct ivg_tenant *tenant, uint32_t channel);
void ivg_tenant_interrupt(const struct ivg_tenant *tenant, uint32_t channel);

/* ---- relay.c ---- */

void ivg_relays_init(struct ivg_tenant *tenant);
/* No executor is there: from now on the guest uses so many vectors, 0 for all. -errno: doorbells would be lost. */
int ivg_relays_adopt(struct ivg_tenant *tenant, uint32_t vectors_used);
void ivg_relays_end(struct ivg_tenant *tenant);

/* ---- channel.c ---- */

void ivg_channel_init(struct ivg_channel *channel, struct ivg_tenant *tenant, uint32_t index);
/* The same for one that an earlier mediator has left: a program that it had is told that it is over. */
void ivg_channel_adopt(struct ivg_channel *channel, struct ivg_tenant *tenant, uint32_t index);
void ivg_channel_look(struct ivg_channel *channel); /* at the guest's word */
/* Ends its executor if there is one; true when none is left and the channel is (now) FREE. */
bool ivg_channel_clear(struct ivg_channel *channel);
void ivg_channel_ready(struct ivg_channel *channel, const struct ivg_exec_message *message);
void ivg_channel_failed(struct ivg_channel *channel, enum ivg_error_code code, const char *text);
void ivg_channel_fault(struct ivg_channel *channel, const struct ivg_exec_message *message);
/* Ends its program: the channel is DEAD with that reason at once, the executor is told to go. */
void ivg_channel_stop(struct ivg_channel *channel, enum ivg_error_code reason);
/* `told`: we had asked it to end. */
void ivg_channel_executor_gone(struct ivg_channel *channel, bool told, const char *how);
/* A warm executor that was to serve this channel is gone before it did. True: a cold one is started in its place. */
bool ivg_channel_start_cold(struct ivg_channel *channel, const char *how);

/* What the guest says of the channel's program: shown, never trusted; printable characters only. */
#define IVG_PROGRAM_BYTES 33u
uint32_t ivg_channel_program(const struct ivg_channel *channel, char program[IVG_PROGRAM_BYTES]); /* its pid */

/* ---- executor.c ---- */

/* Cold: STARTING, READY. Warm: WARMING, WAITING, and, when it is given a channel in either, STARTING, READY. */
enum ivg_executor_phase {
        IVG_EXECUTOR_STARTING,
        IVG_EXECUTOR_WARMING,
        IVG_EXECUTOR_WAITING,
        IVG_EXECUTOR_READY,
        IVG_EXECUTOR_TERM,
        IVG_EXECUTOR_KILL,
};

#define IVG_EXECUTOR_LINE_BYTES 768u /* of its own lines at most (exec/log.c) */
struct ivg_executor_words {          /* executor_log.c */
        struct ivg_source source;    /* -1: it writes where ivgpud does */
        uint32_t used;
        char line[IVG_EXECUTOR_LINE_BYTES];
};

struct ivg_executor {
        struct ivg_garbage garbage;
        struct ivg_executor *next;
        struct ivg_mediator *mediator;
        struct ivg_channel *channel; /* NULL: it waits for one */
        uint32_t pool;
        bool warm; /* started without a channel */
        bool told; /* ivg_executor_end */
        pid_t pid;
        struct ivg_source process; /* pidfd */
        struct ivg_source control;
        struct ivg_source share; /* share_protocol.h */
        struct ivg_executor_words words;
        struct ivg_board *board; /* from its channel on; NULL before */
        int board_fd;            /* its file, as long as it is there */
        uint32_t vram_place;     /* in its member's table */
        bool vram_placed;
        struct ivg_sched_seat *seats; /* by device, seat_count of them: from READY on */
        uint32_t seat_count;
        enum ivg_executor_phase phase;
        uint64_t asked_ms;     /* by a PING that is not answered; 0: none */
        uint64_t next_ping_ms; /* READY */
        uint64_t deadline_ms;  /* STARTING: be ready; WARMING: wait; TERM, KILL: be gone */
        uint64_t batches_seen; /* at the latest tick */
        uint64_t still_ms;     /* since when it has done nothing, by ticks */
        bool unwatched;        /* as its board says (watchdog.c) */
};

/* An executor for this channel: one that waits, or, when there is none or `cold`, a new one. */
int ivg_executor_start(struct ivg_channel *channel, bool cold, struct ivg_executor **executor, struct ivg_error *error);
int ivg_executor_start_spare(struct ivg_mediator *mediator, uint32_t pool, struct ivg_error *error);
void ivg_executor_end(struct ivg_executor *executor); /* SIGTERM, later SIGKILL */
uint64_t ivg_executor_tick(struct ivg_executor *executor, uint64_t now_ms);

/* ---- executor_log.c ---- */

/* Before it is started: the descriptor that becomes its standard error, to be closed then; -1: it has ours. -errno. */
int ivg_executor_words_open(struct ivg_executor *executor, int *their_end);
void ivg_executor_words_end(struct ivg_executor *executor); /* it is gone: its last words */

/* How every child begins: no signal blocked or ignored, a process group of its own. 0 or an error number. */
int ivg_child_attributes(posix_spawnattr_t *attributes);

/* ---- board.c ---- */

/* A board without limits, mapped. Its descriptor, sealed in its size, or -errno. */
int ivg_board_create(struct ivg_board **board);
void ivg_board_close(struct ivg_board *board, int fd); /* NULL: nothing */

/* ---- watchdog.c ---- */

/* Looks whether an executor answers, and whether its calls and its GPU's work keep to its VM's time limits. */
uint64_t ivg_watchdog_tick(struct ivg_executor *executor, uint64_t now_ms);
/* An executor has kicked: those that were looked at seldom are looked at in each tick again. */
void ivg_watchdog_kicked(struct ivg_mediator *mediator);

/* ---- sched.c: who may use the devices ---- */

struct ivg_sched_domain;
struct ivg_sched {
        struct ivg_source kick;                          /* executors write it */
        struct ivg_source timer;                         /* off while nobody competes */
        uint64_t timer_ns;                               /* when it runs out; IVG_SCHED_NEVER: off */
        struct ivg_sched_domain *domains[IVG_POOLS_MAX]; /* by device; NULL: not used yet */
};
int ivg_sched_open(struct ivg_mediator *mediator, struct ivg_error *error);
void ivg_sched_close(struct ivg_mediator *mediator); /* no executor is left */
/* An executor with a channel begins to be scheduled on that many devices; is gone. */
void ivg_sched_join(struct ivg_executor *executor, uint32_t devices);
void ivg_sched_leave(struct ivg_executor *executor);
/* Weight, priority, rate, window, pause: they hold from now on. */
void ivg_sched_limits_changed(struct ivg_mediator *mediator, const struct ivg_member *member);
void ivg_sched_policy_changed(struct ivg_mediator *mediator, uint32_t pool);          /* likewise, of a pool */
enum ivg_policy ivg_sched_policy(const struct ivg_mediator *mediator, uint32_t pool); /* in force: never auto */

/* ---- warm.c ---- */

struct ivg_warm {               /* of a pool */
        uint64_t next_start_ms; /* not before */
        uint32_t pause_ms;      /* after the latest loss */
        uint64_t begun, taken, cold, lost;
};
uint64_t ivg_warm_tick(struct ivg_mediator *mediator, uint64_t now_ms); /* starts what lacks, ends what is too many */
void ivg_warm_end(struct ivg_mediator *mediator);
void ivg_warm_end_pool(struct ivg_mediator *mediator, uint32_t pool);
/* A spare executor of the pool to be given a channel; NULL: there is none. */
struct ivg_executor *ivg_warm_take(struct ivg_mediator *mediator, uint32_t pool);
void ivg_warm_waits(struct ivg_executor *executor, const struct ivg_exec_message *message);
void ivg_warm_lost(struct ivg_executor *executor, const char *how);
uint32_t ivg_warm_count(const struct ivg_mediator *mediator, uint32_t pool, enum ivg_executor_phase phase);

/* ---- environment.c ---- */

struct ivg_mps_folders {
        char pipe[IVG_SOCKET_PATH_BYTES], log[IVG_SOCKET_PATH_BYTES]; /* pipe empty: no MPS */
};
/* What a pool's executors find in their environment, or its MPS control daemon; `mps` NULL: without one. One
 * allocation. -ENOMEM. */
int ivg_environment_make(const struct ivg_pool_config *pool, const struct ivg_mps_folders *mps, bool daemon,
                         char ***out);
void ivg_environments_free(struct ivg_mediator *mediator);

/* ---- mps.c ---- */

enum ivg_mps_phase { IVG_MPS_NONE, IVG_MPS_DOWN, IVG_MPS_STARTING, IVG_MPS_UP, IVG_MPS_ENDING };
struct ivg_mps { /* of a pool */
        enum ivg_mps_phase phase;
        struct ivg_mps_folders folders;
        int lock_fd;
        struct ivg_source daemon, server; /* pidfds; -1: not there, or not known */
        pid_t pid, server_pid, quit_pid;  /* quit_pid: of what tells the daemon to end; 0: none */
        uint32_t pause_ms;                /* after the latest end */
        uint64_t since_ms;                /* UP */
        uint64_t deadline_ms;             /* DOWN: start; STARTING: listen; ENDING: be gone */
        uint64_t daemon_losses, server_losses;
};
void ivg_mps_init(struct ivg_mediator *mediator); /* nothing is there */
/* Whether the pool in that slot is to have a server: 1, and its folders are ours until ivg_mps_end, or 0. -errno with
 * words. */
int ivg_mps_prepare(struct ivg_mediator *mediator, uint32_t pool, const struct ivg_pool_config *config,
                    struct ivg_error *error);
int ivg_mps_open(struct ivg_mediator *mediator, struct ivg_error *error); /* all that are prepared; waits for them */
void ivg_mps_begin(struct ivg_mediator *mediator, uint32_t pool);         /* does not wait */
void ivg_mps_end(struct ivg_mediator *mediator, uint32_t pool);
void ivg_mps_close(struct ivg_mediator *mediator);
uint64_t ivg_mps_tick(struct ivg_mediator *mediator, uint64_t now_ms);
bool ivg_mps_is_used(const struct ivg_mediator *mediator, uint32_t pool);
bool ivg_mps_is_up(const struct ivg_mediator *mediator, uint32_t pool);       /* or not used */
const char *ivg_mps_word(const struct ivg_mediator *mediator, uint32_t pool); /* "off", "on", "down", ... */
/* May an executor start? IVG_ERROR_NONE, or why not, in words too. */
enum ivg_error_code ivg_mps_admit(const struct ivg_mediator *mediator, uint32_t pool, struct ivg_error *error);
/* An executor has failed to start: if the server refused it, those that keep it from taking new ones end. */
void ivg_mps_refused(const struct ivg_executor *executor, const struct ivg_exec_message *message);

/* ---- images.c ---- */

struct ivg_images { /* the keeper of module images: started with the first executor, again when it has died */
        struct ivg_source process; /* pidfd; -1: not running */
        int control_fd;
        pid_t pid;
        uint64_t next_start_ms; /* not before */
};
void ivg_images_init(struct ivg_mediator *mediator);
/* An executor's end of a socket to the keeper; -1: it has none, and gets every image sent. */
int ivg_images_connect(struct ivg_mediator *mediator, const struct ivg_tenant *tenant);
void ivg_images_close(struct ivg_mediator *mediator);
/* ---- share.c ---- */

struct ivg_shares *ivg_shares_create(void); /* NULL: no memory */
void ivg_shares_destroy(struct ivg_shares *shares);
void ivg_shares_end_of(struct ivg_shares *shares, const struct ivg_executor *executor); /* it is gone */
void ivg_shares_ready(struct ivg_mediator *mediator, struct ivg_source *source, uint32_t events);

/* ---- vm.c, local.c ---- */

struct ivg_local;
struct ivg_local_program {
        struct ivg_garbage garbage;
        struct ivg_local *local;
        struct ivg_local_program *next;
        struct ivg_source socket;
        struct ivg_source process; /* pidfd; -1: not known */
        struct ivg_tenant *tenant; /* NULL until hello */
        uint64_t deadline_ms;      /* of the hello */
};
/* Where programs of this machine come in: those of nobody in particular, or those of one VM (local_socket). */
struct ivg_local {
        struct ivg_source listener;
        const char *path; /* of the configuration, as the following; empty: there is none */
        const uint32_t *pool, *region_mib;
        uint32_t vm_id;
        struct ivg_member *whose;
        struct ivg_member member; /* that, where it is nobody's in particular */
        int ipc_fd;               /* the table of what these programs share (ipc_table.h); -1: not made yet */
        struct ivg_shares *shares;
        struct ivg_local_program *programs;
        uint32_t program_count;
};

struct ivg_vm {
        struct ivg_mediator *mediator;
        const struct ivg_vm_config *config;
        struct ivg_source listener;
        struct ivg_source qemu;
        struct ivg_tenant *tenant; /* NULL: no QEMU */
        struct ivg_member member;
        struct ivg_local local; /* its local_socket */
        bool removed;           /* from the configuration: its slot is free when its last program has ended */
};
/* Listens; refuses what could not work for the first QEMU either (geometry). */
int ivg_vm_open(struct ivg_mediator *mediator, uint32_t slot, struct ivg_error *error);
void ivg_vm_close(struct ivg_vm *vm);
/* For a new configuration in that slot; it does not listen yet. */
void ivg_vm_init(struct ivg_mediator *mediator, uint32_t slot);
/* A listening socket for `config`, not watched yet. -errno with words. */
int ivg_vm_listen(const struct ivg_vm_config *config, struct ivg_error *error);
int ivg_vm_listen_local(const struct ivg_vm_config *config, struct ivg_error *error); /* its local_socket */
/* Watches such a socket in place of the one it had. */
int ivg_vm_take_listener(struct ivg_vm *vm, int fd, struct ivg_error *error);
void ivg_vm_announce(const struct ivg_vm *vm); /* in the log: where it listens */
void ivg_vm_stop_listening(struct ivg_vm *vm);
/* Takes no new QEMU from now on. */
void ivg_vm_remove(struct ivg_vm *vm);
/* Frees the slots of VMs and pools that were removed and have ended, which are events. */
void ivg_removed_tick(struct ivg_mediator *mediator);

/* ---- reload.c ---- */

/* Reads the configuration again: everything is checked before anything changes. What cannot change while running is
 * named in the log and holds from the next start. -errno with words: nothing has changed. */
int ivg_reload(struct ivg_mediator *mediator, struct ivg_error *error);

void ivg_local_init(struct ivg_local *local); /* before all else */
int ivg_local_take_listener(struct ivg_mediator *mediator, struct ivg_local *local, int fd, struct ivg_error *error);
int ivg_local_open(struct ivg_mediator *mediator, struct ivg_local *local, mode_t mode, struct ivg_error *error);
uint64_t ivg_local_tick(struct ivg_mediator *mediator, struct ivg_local *local, uint64_t now_ms);
void ivg_local_stop_listening(struct ivg_mediator *mediator, struct ivg_local *local);
void ivg_local_close(struct ivg_mediator *mediator, struct ivg_local *local);

/* ---- control.c ---- */

struct ivg_control_client;
struct ivg_control {
        struct ivg_source listener; /* -1: there is none */
        struct ivg_control_client *clients;
        uint32_t client_count;
};
int ivg_control_open(struct ivg_mediator *mediator, struct ivg_error *error);
uint64_t ivg_control_tick(struct ivg_mediator *mediator, uint64_t now_ms); /* cuts off who is too slow */
void ivg_control_close(struct ivg_mediator *mediator);

/* ---- trace.c ---- */

/* Executors whose boards a client has not yet fetched; it asks many times a second. */
#define IVG_TRACE_SOURCES_MAX 64u

struct ivg_trace_source { /* an executor that is traced, or was */
        int fd;           /* of its board, for reading */
        pid_t executor_pid;
        uint32_t guest_pid, channel;
        uint64_t first; /* event of its trace that belongs to the session */
        char program[IVG_PROGRAM_BYTES], of[64];
};
struct ivg_trace_session {
        const void *client; /* NULL: there is none */
        const struct ivg_member *member;
        uint32_t count;
        uint64_t lost; /* executors that the client does not get to see */
        struct ivg_trace_source sources[IVG_TRACE_SOURCES_MAX];
};
/* 1: it has begun; 0: it goes on; -EBUSY with words. */
int ivg_trace_begin(struct ivg_mediator *mediator, const struct ivg_member *member, const void *client,
                    struct ivg_error *error);
void ivg_trace_end(struct ivg_mediator *mediator, const void *client); /* if it is that client's */
/* Its executor has a board and is about to get its channel. */
void ivg_trace_executor_begins(const struct ivg_channel *channel);
/* The next that the client does not have; its descriptor is the caller's. */
bool ivg_trace_take(struct ivg_trace_session *session, struct ivg_trace_source *source);
/* A descriptor of the same memory file that can only read; -errno with words. */
int ivg_readable_fd(int fd, struct ivg_error *error);

/* ---- metrics.c ---- */

struct ivg_metrics {
        void *server; /* metrics.h; NULL: none */
        const struct ivg_metrics_http *http;
        int listen_fd; /* -1: none */
        uint64_t next_ms;
};
int ivg_metrics_open(struct ivg_mediator *mediator, struct ivg_error *error);  /* loads, listens; no thread yet */
int ivg_metrics_start(struct ivg_mediator *mediator, struct ivg_error *error); /* in the process that stays */
uint64_t ivg_metrics_tick(struct ivg_mediator *mediator, uint64_t now_ms);
void ivg_metrics_close(struct ivg_mediator *mediator);

/* ---- everything ---- */

struct ivg_mediator {
        struct ivg_config config;
        char executor_path[IVG_PATH_BYTES];
        char driver_path[IVG_PATH_BYTES];
        char **executor_environment[IVG_POOLS_MAX]; /* by pool */
        char mps_program[IVG_PATH_BYTES];
        struct ivg_mps mps[IVG_POOLS_MAX];
        struct ivg_images images;
        struct ivg_sched sched;
        int epoll_fd;
        struct ivg_source signals, timer;
        struct ivg_control control;
        struct ivg_trace_session trace;
        struct ivg_metrics metrics;
        uint64_t next_heartbeat_log_ms;
        bool ending;
        bool quiet; /* warnings and errors only, also from executors */
        struct ivg_garbage *garbage;
        struct ivg_tenant *tenants;
        struct ivg_executor *executors;
        struct ivg_local local;
        uint32_t member_count;            /* that there ever were */
        bool pool_removed[IVG_POOLS_MAX]; /* from the configuration: as with VMs */
        struct ivg_account pools[IVG_POOLS_MAX];
        uint64_t records_of_gone_pools;
        struct ivg_warm warm[IVG_POOLS_MAX];
        const char *config_path; /* NULL: none */
        /* The file and the command line, anew. */
        int (*configure)(struct ivg_config *config, struct ivg_error *error);
        struct ivg_vm vms[IVG_VMS_MAX];
};

#endif
