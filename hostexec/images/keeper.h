/* The keeper's work: answers executors, verifies what they bring, in small steps so that no one waits for another.
 *
 * One thread, one epoll loop. Nothing that arrives is believed: a descriptor must be sealed memory of the length that
 * is claimed, and its bytes must have the name that is claimed. */
#ifndef IVG_IMAGE_KEEPER_H
#define IVG_IMAGE_KEEPER_H

#include "image_store.h"

/* Bytes hashed between two looks at the sockets: about a quarter of a millisecond. */
#define IVG_KEEPER_STEP_BYTES (1u << 20)
/* Executors at once; a further one gets no store. Executors of all VMs together. */
#define IVG_KEEPER_CLIENTS_MAX 4096u
/* Images brought and not verified yet: beyond that they are dropped, since a later load brings them again. */
#define IVG_KEEPER_PENDING_MAX 64u
/* The same of one executor: it brings one at a time from each of its threads. */
#define IVG_KEEPER_PENDING_OF_ONE_MAX 8u
/* Their bytes, together; half as much again as one image, so that the largest does not keep out all others. */
#define IVG_KEEPER_PENDING_BYTES_MAX (384ull << 20)
/* Messages of one client handled in one turn. */
#define IVG_KEEPER_MESSAGES_PER_TURN 4u

struct ivg_keeper;

struct ivg_keeper_counts { /* since the start */
        uint64_t found, missing, kept;
        uint64_t refused; /* not sealed, of another length, or of another name than claimed */
        uint64_t dropped; /* for want of room, or already here */
};

/* `mediator_fd` brings executors; it stays the caller's. NULL: no memory or descriptors. */
struct ivg_keeper *ivg_keeper_create(int mediator_fd, const struct ivg_image_limits *limits);
/* One turn: waits for something to do at most timeout_ms (-1: for ever). False when the mediator is gone. */
bool ivg_keeper_turn(struct ivg_keeper *keeper, int timeout_ms);
void ivg_keeper_counts(const struct ivg_keeper *keeper, struct ivg_keeper_counts *counts,
                       struct ivg_image_totals *totals);
void ivg_keeper_destroy(struct ivg_keeper *keeper);

#endif
