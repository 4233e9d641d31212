/* A mediator in a thread of the test: speaks the local protocol and misbehaves on request. */
#ifndef IVG_GLUE_FAKE_MEDIATOR_H
#define IVG_GLUE_FAKE_MEDIATOR_H

#include "glue_fixture.h"
#include <pthread.h>

enum fake_behaviour {
        FAKE_READY,
        FAKE_NO_WELCOME,     /* accepts, never answers */
        FAKE_END_AT_HELLO,   /* closes instead of a welcome */
        FAKE_REFUSE,         /* refuses with RATE_LIMITED */
        FAKE_WRONG_MAGIC,    /* welcome with another magic */
        FAKE_WRONG_VERSION,  /* ... layout version */
        FAKE_WRONG_TABLE,    /* ... call table */
        FAKE_WRONG_LENGTH,   /* ... length */
        FAKE_NO_DESCRIPTORS, /* ... no descriptors */
        FAKE_UNSEALED,       /* region whose file can shrink */
        FAKE_WRONG_SIZE,     /* says another size than the region has */
        FAKE_NEVER_READY,    /* channel stays STARTING */
        FAKE_FAIL,           /* channel FAILED with INVALID_POOL */
        FAKE_END_AT_CLAIM,   /* closes the socket when the channel is claimed */
        FAKE_NEW_GENERATION, /* adopts the boot epoch by ending generation 1 first */
        FAKE_GENERATIONS_FOREVER,
        FAKE_RING_NOT_OPEN, /* READY without an open ring */
        FAKE_UNKNOWN_STATE,
};

struct fake_mediator {
        enum fake_behaviour behaviour;
        char directory[64], path[96];
        pthread_t thread;
        bool joined;
        int listener, stop;
        _Atomic(int) socket;
        int memfd, control, doorbell, interrupt;
        struct ivg_region region;            /* mediator's view, valid once a client has been welcomed */
        _Atomic(uint32_t) closed_generation; /* of the guest's CLOSED word; 0: not seen */
};

void fake_mediator_start(struct fake_mediator *fake, enum fake_behaviour behaviour);
void fake_mediator_stop(struct fake_mediator *fake);
/* Ends the mediator's thread and listening, but leaves everything else, its socket's file too. */
void fake_mediator_die(struct fake_mediator *fake);
/* Closes the socket as a dying mediator does. Only while the mediator's thread waits for control. */
void fake_mediator_hang_up(struct fake_mediator *fake);
/* Opens a link to it; fails the test if that does not work. */
struct ivg_link *fake_mediator_link(struct fake_mediator *fake);

#endif
