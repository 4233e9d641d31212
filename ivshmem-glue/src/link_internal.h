/* Inside a link: its state and what a transport must supply.
 *
 *   link.c          opens by name or by search, closes, asks whether the peer lives
 *   link_channel.c  the guest driver's part in a channel's life: claim, wait for READY, close
 *   link_extents.c  arena extents
 *   link_wait.c     sleeping for an interrupt
 *   link_socket.c   a socket to whoever hands out the region, and its end as a sign
 *   link_driver.c, link_local.c, link_broker.c, link_sysfs.c   transports */
#ifndef IVG_LINK_INTERNAL_H
#define IVG_LINK_INTERNAL_H

#include "glue_internal.h"
#include "ivgpu/guest_part.h"
#include "ivgpu/link.h"
#include <pthread.h>

#define IVG_LINK_NAME_BYTES 160u

/* One attempt to open: where to look, until when, and where the answer's words go. */
struct ivg_link_request {
        const char *device_prefix; /* "/dev/ivgpu"; tests have none */
        uint64_t call_table_fingerprint;
        uint64_t deadline_ns;
        const char *sysfs_root; /* "/sys/bus/pci/devices"; tests build their own tree */
        enum ivg_error_code code;
        struct ivg_error *error;
};

/* Where a link may lead. The public ivg_link_open() fills it from the environment. */
struct ivg_link_places {
        const char *forced;        /* "driver:NODE", "local:PATH", "broker:PATH", "sysfs:DEVICE"; NULL: search */
        const char *device_prefix; /* "/dev/ivgpu"; NULL: the search passes over the driver */
        const char *socket;        /* NULL: IVG_LINK_SOCKET_DEFAULT */
        const char *broker;        /* its socket; NULL: the search passes over it */
        const char *sysfs_root;
        uint32_t open_ms;
};
#define IVG_LINK_SOCKET_DEFAULT "/run/ivgpu/local.sock"
#define IVG_LINK_SYSFS_ROOT "/sys/bus/pci/devices"
#define IVG_LINK_DEVICE_PREFIX "/dev/ivgpu"
#define IVG_LINK_DEVICES_MAX 16u /* as many as the kernel driver serves */
int ivg_link_open_at(const struct ivg_link_places *places, uint64_t call_table_fingerprint, struct ivg_link **link,
                     enum ivg_error_code *code, struct ivg_error *error);

/* A way to a region. Functions get a link that open() has filled; close() undoes open(), also after it failed midway.
 */
struct ivg_link_transport {
        const char *scheme;
        bool has_interrupts;
        const char *cost; /* for the user: what this way lacks beside the best one; NULL: nothing */
        /* Reaches a region, maps it, claims a channel and waits until it is READY. -ENOENT, -ECONNREFUSED, -EACCES:
         * not to be had here, a search may go on; anything else ends the search. */
        int (*open)(struct ivg_link *link, const char *path, struct ivg_link_request *request);
        void (*ring_control)(struct ivg_link *link);
        void (*ring_channel)(struct ivg_link *link);
        int (*alive)(struct ivg_link *link); /* the transport's own signs of life; 0 or -EPIPE */
        /* What is the transport's own; `in_order` with the channel, else (in a forked child) only what this
         * process holds. NULL: nothing but the channel. */
        void (*close)(struct ivg_link *link, bool in_order);
        /* Where the guest's kernel plays the guest driver's part; NULL: this process does, in the guest pages. */
        void (*channel_close)(struct ivg_link *link);
        int (*extents_claim)(struct ivg_link *link, uint32_t count, uint32_t *first);
        void (*extents_release)(struct ivg_link *link, uint32_t first, uint32_t count);
};
extern const struct ivg_link_transport ivg_link_transport_driver;
extern const struct ivg_link_transport ivg_link_transport_local;
extern const struct ivg_link_transport ivg_link_transport_broker;
extern const struct ivg_link_transport ivg_link_transport_sysfs;

struct ivg_link {
        const struct ivg_link_transport *transport;
        struct ivg_region region;
        uint32_t channel, generation;
        bool claimed; /* guest state is OPEN with `generation` */
        void *arena;  /* window, or NULL */
        char name[IVG_LINK_NAME_BYTES];

        int region_fd, socket_fd, control_fd, doorbell_fd, interrupt_fd; /* -1: the transport has none */

        /* sysfs: the page that holds BAR0, the doorbell register in it; broker: where it is in the device's file */
        void *register_page;
        volatile uint32_t *doorbell_register;
        uint64_t doorbell_file_offset;
        uint32_t doorbell_control_word, doorbell_channel_word; /* what rings which vector */

        /* signs of life; any thread */
        _Atomic(uint32_t) mediator_gone; /* sticky */
        _Atomic(uint64_t) socket_checked_ns;
        _Atomic(uint64_t) heartbeat_seen, heartbeat_looked_ns, heartbeat_silent_ns;

        /* waiting; see link_wait.c */
        _Alignas(64) _Atomic(uint32_t) wait_leader; /* thread id, 0: none */
        _Atomic(uint32_t) wait_sequence;            /* futex: moves after every interrupt and change of leader */
        _Atomic(uint32_t) wait_followers;
        uint64_t wait_slice_ns; /* IVG_LINK_WAIT_SLICE_NS; tests make it so long that it hides no lost wake-up */

        /* extents; see link_extents.c */
        pthread_mutex_t extents_lock; /* claims and releases of this process: they never see each other half done */
};

/* ---- link_channel.c ---- */

/* Claims `link->channel`: guest := OPEN with the host's generation, control rung. The host word must be FREE. */
void ivg_link_channel_claim(struct ivg_link *link);
/* Waits until the claimed channel is READY and its ring OPEN. Claims again when the host has moved on to another
 * generation meanwhile (it adopted our boot epoch). -ECONNABORTED: FAILED or DEAD, code and words say why; -ETIMEDOUT;
 * -EPIPE: mediator gone; -EPROTO. */
int ivg_link_channel_wait_ready(struct ivg_link *link, struct ivg_link_request *request);
/* guest := CLOSED, control rung; nothing if the channel is not claimed. */
void ivg_link_channel_close(struct ivg_link *link);
/* Sleeps a step while a state word is awaited, less when the peer speaks up. Steps grow from 20 us to 1 ms. */
void ivg_link_step(struct ivg_link *link, uint64_t *step_ns);

/* ---- link_socket.c ---- */

/* Connects to `whose` socket at `path` ("mediator"), says hello and receives the welcome, `bytes` long, that begins
 * with a struct ivg_local_welcome, which has been checked, with exactly `fds_wanted` descriptors. Those that came are
 * the caller's, also on failure; `fds` must hold -1 before. Bounded by the request's deadline. */
int ivg_link_welcome(struct ivg_link *link, const char *path, const char *whose, void *welcome, size_t bytes, int *fds,
                     uint32_t fds_wanted, struct ivg_link_request *request);
/* -EPIPE once the other end is closed; asks the kernel at most every few ms, whichever thread calls. */
int ivg_link_socket_alive(struct ivg_link *link);
/* Makes the interrupt eventfd, which any thread may drain, one that nobody blocks on. */
int ivg_link_interrupts_prepare(struct ivg_link *link, struct ivg_link_request *request);

/* ---- link_heartbeat.c ---- */

/* -EPIPE when the mediator's heartbeat has stood still for so long as it said it would at most, counted from the
 * last beat that was seen here or from heartbeat_looked_ns, which the transport sets when it opens. Any thread. */
int ivg_link_heartbeat_check(struct ivg_link *link);

/* ---- link_wait.c ---- */

/* The longest sleep without a look at the peer's signs of life and, for a follower, the leader's. */
#define IVG_LINK_WAIT_SLICE_NS (50 * IVG_NS_PER_MS)
/* The same where somebody tells the sleeper of everything but one thing, a mediator that hangs: for that it reads the
 * heartbeat, which is lost only after IVG_HEARTBEAT_LOST_MS. Three looks a second cost next to nothing, while it waits.
 */
#define IVG_LINK_TOLD_SLICE_NS (300 * IVG_NS_PER_MS)
#define IVG_HEARTBEAT_GAP_NS IVG_LINK_TOLD_SLICE_NS /* link_heartbeat.c */
#define IVG_LINK_STEP_NS_MIN (20 * IVG_NS_PER_US)
#define IVG_LINK_STEP_NS_MAX IVG_NS_PER_MS

#endif
