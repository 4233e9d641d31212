/* A channel's life, by the words that driver and mediator show each other: B1, B2, G1 (guest_part.c, ivg_channel.c), H1,
 * H2 (ivgpud/channel.c), D1, D2 (ivg_channel.c), I1 (execute.c), I2 (ivg_pci.c, broker/channels.c).
 *
 * A guest boots on processor 0 while the words of an earlier boot, whose program had just opened the channel, are there;
 * then two programs, one after the other, open it, have one call answered, and close. Processor 1 handles interrupts, 2 is
 * the mediator, 3 the executor. A doorbell or an interrupt is a system call or a write to a device: stores before it are
 * seen by whom it wakes. No timer looks again: what is missed is missed for ever.
 *
 * Shown: no wake-up is missed; the mediator believes no word of an earlier boot, and finds who opened; nobody opens while
 * an executor of an earlier boot runs; READY says that the ring is open.
 *
 * variant B1_BEFORE_WORDS: assertion opened_now
 * variant NO_B2: assertion lives == LIVES
 * variant G1_BEFORE_PROGRAM: assertion program_is_there
 * variant H1_BEFORE_RING: assertion ring_is_open
 * variant RING_BEFORE_H2: assertion ring_is_open
 * variant NO_D1_BARRIER: assertion lives == LIVES
 * variant INTERRUPT_BEFORE_I1: assertion lives == LIVES
 * variant I2_BEFORE_STATE: assertion lives == LIVES
 */
#ifdef B1_BEFORE_WORDS
#define LIVES 1 /* shows it sooner */
#else
#define LIVES 2
#endif
#define GUEST 0
#define HANDLER 1
#define MEDIATOR 2
#define EXECUTOR 3
#define CPUS 4
#define EPOCH 0
#define GUEST_STATE 1
#define PROGRAM 2
#define DRAINING 3 /* the driver's own */
#define HOST_STATE 4
#define EPOCH_SEEN 5
#define RING 6
#define ANSWER 7
#define INTERRUPTS 8
#define WORDS 9
byte asked; /* the record in the ring: generation */
byte runs;  /* the executor's generation, 0: none */
/* Nobody looks at what an executor does before it is ready. */
#define DRAINS(cpu) ((cpu) != EXECUTOR || asked == runs)
#include "memory.pml"

#define FREE(generation) (4 * (generation))
#define OPEN(generation) (4 * (generation) + 1)
#define CLOSED(generation) (4 * (generation) + 2)
#define READY(generation) (4 * (generation) + 3)

bool control, irq, ready; /* control doorbell, the channel's interrupt, the executor's message */
bool woken, reap;         /* whoever sleeps on the file; the driver's second look at a draining channel */
byte opens, lives;        /* what has happened */

#define DOORBELL(cpu, flag) d_step { drain(cpu); flag = true }

proctype guest()
{
        byte word, generation, got;
        bool ring_is_open, no_old_executor;

#ifdef B1_BEFORE_WORDS
        store(GUEST, EPOCH, 1);
        store(GUEST, GUEST_STATE, 0);
#else
        store(GUEST, GUEST_STATE, 0);
        store(GUEST, EPOCH, 1); /* B1 */
#endif
        DOORBELL(GUEST, control);
#ifndef NO_B2
        memory[EPOCH_SEEN] == 1; /* B2 */
#endif
        load(GUEST, HOST_STATE, word); /* H2 */
        do
        :: lives == LIVES -> break
        :: else ->
                atomic {
                        no_old_executor = runs == 0 && word % 4 == 0;
                        assert(no_old_executor);
                        no_old_executor = false;
                        generation = word / 4;
                        opens++
                };
#ifdef G1_BEFORE_PROGRAM
                store(GUEST, GUEST_STATE, OPEN(generation));
                store(GUEST, PROGRAM, opens);
#else
                store(GUEST, PROGRAM, opens);
                store(GUEST, GUEST_STATE, OPEN(generation)); /* G1 */
#endif
                DOORBELL(GUEST, control);
                do
                ::
#ifdef RING_BEFORE_H2
                        load(GUEST, RING, got);
                        load(GUEST, HOST_STATE, word);
#else
                        load(GUEST, HOST_STATE, word); /* H2 */
                        load(GUEST, RING, got);
#endif
                        if
                        :: word == READY(generation) -> break
                        :: else -> d_step { woken -> woken = false }
                        fi
                od;
                atomic {
                        ring_is_open = got == generation;
                        assert(ring_is_open);
                        ring_is_open = false
                };
                d_step { asked = generation; word = 0; got = 0 };
                do
                ::      load(GUEST, ANSWER, got);
                        if
                        :: got == generation -> break
                        :: else -> d_step { woken -> woken = false }
                        fi
                od;
                got = 0;
                store(GUEST, GUEST_STATE, CLOSED(generation));
                DOORBELL(GUEST, control);
                store(GUEST, DRAINING, 1); /* D1 */
#ifndef NO_D1_BARRIER
                pending[GUEST].count == 0;
#endif
                do
                ::      load(GUEST, HOST_STATE, word); /* D2 */
                        if
                        :: word == FREE(generation + 1) -> break
                        :: else -> d_step { reap -> reap = false }
                        fi
                od;
                skip;
                store(GUEST, DRAINING, 0);
                lives++
        od
}

proctype handler()
{
        byte state, count, draining;
        byte state_seen = FREE(1), count_seen;

end:    do
        :: d_step { irq -> irq = false };
#ifdef I2_BEFORE_STATE
                load(HANDLER, INTERRUPTS, count);
                load(HANDLER, HOST_STATE, state);
#else
                load(HANDLER, HOST_STATE, state);
                load(HANDLER, INTERRUPTS, count); /* I2 */
#endif
                if
                :: state == state_seen && count == count_seen
                :: else ->
                        d_step { state_seen = state; count_seen = count; woken = true };
                        d_step { load_in(HANDLER, DRAINING, draining); reap = reap || draining == 1 }
                fi;
                d_step { state = 0; count = 0; draining = 0 }
        od
}

#define MEDIATOR_FREE 0
#define MEDIATOR_STARTING 1
#define MEDIATOR_READY 2

inline free_next()
{
        runs = 0; /* killed, and waited for */
        d_step { drain(EXECUTOR); ready = false };
        store(MEDIATOR, INTERRUPTS, 0);
        generation++;
        store(MEDIATOR, HOST_STATE, FREE(generation)); /* H1 */
        DOORBELL(MEDIATOR, irq);
        state = MEDIATOR_FREE
}

proctype mediator()
{
        byte epoch, word, program, state, generation = 1;
        bool opened_now, program_is_there;

end:    do
        :: d_step { control -> control = false };
                load(MEDIATOR, EPOCH, epoch);
                if
                :: epoch == memory[EPOCH_SEEN] /* its own word */
                :: else ->
                        if
                        :: state == MEDIATOR_FREE
                        :: else -> free_next()
                        fi;
                        store(MEDIATOR, EPOCH_SEEN, epoch)
                fi;
                load(MEDIATOR, GUEST_STATE, word);
                if
                :: word == OPEN(generation) && state == MEDIATOR_FREE ->
                        load(MEDIATOR, PROGRAM, program);
                        d_step {
                                opened_now = epoch == 0 || opens > lives;
                                assert(opened_now);
                                program_is_there = epoch == 0 || program == opens;
                                assert(program_is_there);
                                opened_now = false;
                                program_is_there = false;
                                state = MEDIATOR_STARTING;
                                runs = generation
                        };
#ifdef H1_BEFORE_RING
                        store(MEDIATOR, HOST_STATE, READY(generation));
                        DOORBELL(MEDIATOR, irq)
#endif
                :: word == CLOSED(generation) && state != MEDIATOR_FREE -> free_next()
                :: else
                fi;
                d_step { epoch = 0; word = 0; program = 0 }
        :: d_step { ready && state == MEDIATOR_STARTING -> ready = false; state = MEDIATOR_READY };
                store(MEDIATOR, HOST_STATE, READY(generation)); /* H1 */
                DOORBELL(MEDIATOR, irq)
        od
}

proctype executor()
{
        byte generation;

end:    do
        :: d_step { runs != 0 && runs != generation && opens > lives -> generation = runs }; /* what an earlier boot's does shows nothing */
                {
                        store(EXECUTOR, RING, generation);
                        DOORBELL(EXECUTOR, ready);
                        asked == generation;
                        store(EXECUTOR, ANSWER, generation);
#ifdef INTERRUPT_BEFORE_I1
                        DOORBELL(EXECUTOR, irq);
                        store(EXECUTOR, INTERRUPTS, 1)
#else
                        store(EXECUTOR, INTERRUPTS, 1); /* I1 */
                        DOORBELL(EXECUTOR, irq)
#endif
                } unless { runs != generation }
        od
}

init
{
        atomic {
                memory[GUEST_STATE] = OPEN(1);
                memory[HOST_STATE] = FREE(1);
                control = true; /* not looked at yet */
                run guest();
                run handler();
                run mediator();
                run executor()
        };
        timeout -> assert(lives == LIVES)
}
