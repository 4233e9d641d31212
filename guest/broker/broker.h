/* Inside ivgpu-broker: one region, its channels, the programs that have them.
 *
 *   main.c ── broker.c ──┬─ channels.c     claims, gives back, passes shared interrupts on
 *                        └─ vfio_device.c  the device
 *
 * One thread, one poll(). Nothing of a program is trusted but its hello; nothing of it is waited for but that. */
#ifndef IVG_BROKER_INTERNAL_H
#define IVG_BROKER_INTERNAL_H

#include "ivgpu/broker.h"
#include "ivgpu/guest_part.h"
#include "vfio_device.h"

/* A program connects and says hello in one breath; one that does not is holding a place. */
#define IVG_BROKER_HELLO_MS 5000u
/* How long a program waits while the host ends an earlier owner's executor. */
#define IVG_BROKER_CHANNEL_MS 8000u
/* How long the host may take to answer a new boot epoch. */
#define IVG_BROKER_EPOCH_MS 8000u
/* Programs connected at once, with those that wait for a channel. */
#define IVG_BROKER_PROGRAMS_MAX 128u
/* The host's word for a channel that is ending is looked at so often, growing. */
#define IVG_BROKER_DRAIN_FIRST_MS 5u
#define IVG_BROKER_DRAIN_LAST_MS 500u

enum ivg_program_state {
        IVG_PROGRAM_NONE,
        IVG_PROGRAM_CONNECTED, /* no hello yet */
        IVG_PROGRAM_WAITING,   /* for a channel */
        IVG_PROGRAM_RUNNING,
};

struct ivg_program {
        enum ivg_program_state state;
        int socket_fd, process_fd; /* its end is the program's; a forked child may hold the socket */
        uint32_t channel;
        uint32_t pid;
        uint64_t deadline_ms;
};

struct ivg_broker_channel {
        enum { IVG_BROKER_FREE, IVG_BROKER_OPEN, IVG_BROKER_DRAINING } state;
        uint32_t generation;
        int interrupt_fd; /* its owner's: the vector's own, or where vectors are shared one we write */
        uint64_t state_seen, interrupts_seen; /* of the host's words, when its owner was last woken */
};

struct ivg_broker {
        const char *device_name;
        struct ivg_vfio_device device;
        struct ivg_region region;
        uint64_t fingerprint; /* of the region's call table: a program must have the same */
        uint64_t epoch;
        uint32_t vectors_usable;
        bool vectors_are_shared;
        struct ivg_broker_channel channels[IVG_CHANNELS_MAX];
        uint32_t drain_ms;
        int listen_fd, signal_fd;
        struct ivg_program programs[IVG_BROKER_PROGRAMS_MAX];
};

void ivg_broker_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t ivg_broker_now_ms(void); /* CLOCK_MONOTONIC */

/* ---- channels.c ---- */

int ivg_broker_channels_start(struct ivg_broker *broker, struct ivg_error *error);
/* A free channel for a program: -EBUSY all have owners, -EAGAIN some are ending. */
int ivg_broker_channel_claim(struct ivg_broker *broker, uint32_t pid, uint32_t *channel);
/* Its program has gone: tells the host; the channel is free once that is done with it (ivg_broker_channels_drain). */
void ivg_broker_channel_give_back(struct ivg_broker *broker, uint32_t channel);
/* Frees those that the host is done with; true while some are ending. */
bool ivg_broker_channels_drain(struct ivg_broker *broker);
/* Vector `vector`, a shared one, has interrupted: wakes those whose words have changed. */
void ivg_broker_vector_ready(struct ivg_broker *broker, uint32_t vector);

/* ---- broker.c ---- */

/* Attaches: region, interrupts, boot epoch. */
int ivg_broker_open(struct ivg_broker *broker, const char *sysfs_root, const char *device_name,
                    struct ivg_error *error);
/* Serves until a signal or until the device goes; returns why. */
const char *ivg_broker_serve(struct ivg_broker *broker);
void ivg_broker_close(struct ivg_broker *broker);

#endif
