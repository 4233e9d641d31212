/* Recovery after a death: P0, P2, P4, the note's end (ring_producer.h) and R1..R4 (ring_recover.c). Producer 0
 * may be killed at any statement; 1 lives on and sends three records, so that a slot is soon of a later lap. The consumer sleeps (C4, C5) and doorbells are heard. The guest
 * driver's part runs on processor 3 once the producer is dead and its processor's buffer is empty.
 *
 * The ring has 2 slots, so that a slot is of a later lap soon; records are one slot long: two dead claims
 * that share a position and differ in length are left to the test ring_recovers_from_dead_producers. What no other
 * process could see between two statements of one is a single step.
 *
 * Shown: SKIP is written at a position that a dead producer won and did not commit, and at no other; nothing stays
 * behind a dead claim; nobody sleeps for a record that is there.
 *
 * variant P0_AFTER_P2: assertion head == tail
 * variant NO_R1: assertion dead_claim
 * variant NO_R2: assertion dead_claim
 * variant NO_SECOND_LOOK: assertion dead_claim
 * variant HEAD_BEFORE_R3: assertion dead_claim
 * variant NO_HEAD: assertion dead_claim
 * variant NOTE_ENDS_BEFORE_P4: assertion dead_claim
 * variant NO_R4: assertion head == tail
 * variant NO_SKIP: assertion head == tail
 */
#define CONSUMER 2
#define DRIVER 3
#define CPUS 4
#define TAG(position) ((position) + 1)
#define COMMIT(position) ((position) & 1)
#define HEAD 2
#define SLEEP_AT 3
#define NOTE_POSITION(line) (4 + 2 * (line))
#define NOTE_SLOTS(line) (5 + 2 * (line))
#define WORDS 8
#define DRAINS(cpu) (killed || cpu == CONSUMER) /* the producers' hold notes alone, which the driver alone reads */
bool killed, settled; /* the driver's part has begun; it needs no notes any more */
#include "memory.pml"

byte tail; /* P2's word: moved by locked instructions alone */
local byte head; /* the consumer's private position; looked at by others once nothing moves */
bool doorbell;
byte open_claim; /* position + 1 that the mortal won, until it is committed or SKIP is there */

/* A store to one's own line. Once nobody reads it any more it is left out. */
inline note(cpu, w, v)
{
        d_step {
                settled || pending[cpu].count < DEPTH ->
                if
                :: !settled -> put(cpu, w, v)
                :: else
                fi
        }
}

#define HAS_ROOM (guess + 1 - memory[HEAD] <= 2)

/* An old guess is refused by P2, and looked at again. */
inline p1(cpu)
{
        if
        :: HAS_ROOM
        :: else ->
                note(cpu, NOTE_SLOTS(cpu), 0); /* P0 of a failed turn */
                HAS_ROOM
        fi
}

inline p2(cpu)
{
        d_step {
                drain(cpu);
                if
                :: tail == guess ->
                        tail = guess + 1;
                        won = true;
                        open_claim = (cpu == 0 -> guess + 1 : open_claim)
                :: else -> guess = tail
                fi
        }
}

inline reserve(cpu)
{
        guess = tail;
        do
        ::
#ifdef P0_AFTER_P2
                p1(cpu);
#else
                atomic { p1(cpu); note(cpu, NOTE_POSITION(cpu), guess) }; /* P0 */
                note(cpu, NOTE_SLOTS(cpu), 1);
#endif
                atomic {
                        p2(cpu);
                        if
                        :: won -> won = false; break
                        :: else
                        fi
                }
        od;
#ifdef P0_AFTER_P2
        note(cpu, NOTE_POSITION(cpu), guess);
        note(cpu, NOTE_SLOTS(cpu), 1)
#endif
}

inline p4(cpu, position)
{
        d_step {
                drain(cpu);
                memory[COMMIT(position)] = TAG(position);
                open_claim = (open_claim == position + 1 -> 0 : open_claim)
        }
}

inline p5(cpu, position)
{
        d_step {
                load_in(cpu, SLEEP_AT, seen);
                doorbell = doorbell || seen == position + 1;
                seen = 0
        }
}

inline send(cpu)
{
        reserve(cpu);
#ifdef NOTE_ENDS_BEFORE_P4
        note(cpu, NOTE_SLOTS(cpu), 0);
#endif
        p4(cpu, guess);
        p5(cpu, guess);
        atomic { note(cpu, NOTE_SLOTS(cpu), 0); guess = 0 } /* the note ends */
}

proctype mortal(byte cpu)
{
        byte guess, seen;
        bool won;

        { send(cpu) } unless { d_step { killed -> guess = 0 } }
}

proctype survivor(byte cpu; byte records)
{
        byte guess, seen;
        bool won;

        do
        :: records == 0 -> break
        :: else -> records--; send(cpu)
        od
}

inline r1()
{
#ifdef NO_R1
        open = true
#else
        open = tail > position
#endif
}

inline r3()
{
        if
        :: open ->
                d_step {
                        load_in(DRIVER, COMMIT(position), seen);
                        open = seen != TAG(position);
                        seen = 0
                }
        :: else
        fi
}

inline look_at_head()
{
#ifdef NO_HEAD
        skip
#else
        if
        :: open ->
                d_step {
                        load_in(DRIVER, HEAD, seen);
                        open = seen <= position;
                        seen = 0
                }
        :: else
        fi
#endif
}

/* claim_is_open: leaves its result in `open`. */
inline look_at_claim()
{
        r1();
#ifdef HEAD_BEFORE_R3
        look_at_head();
        r3()
#else
        r3();
        look_at_head()
#endif
}

/* look_for_rivals: a live line that says the same position. */
inline look_for_rivals()
{
#ifdef NO_R2
        skip
#else
        load(DRIVER, NOTE_SLOTS(1), seen); /* R2 */
        d_step {
                load_in(DRIVER, NOTE_POSITION(1), other);
                rival = seen != 0 && other == position;
                seen = 0;
                other = 0
        }
#endif
}

inline skip_claim()
{
#ifdef NO_SKIP
        skip
#else
        atomic {
                d_step {
                        dead_claim = open_claim == position + 1;
                        assert(dead_claim);
                        dead_claim = false
                };
                p4(DRIVER, position)
        };
        p5(DRIVER, position)
#endif
}

/* settle_claim: `rival` says that it must be called again (-EAGAIN). */
inline settle_claim()
{
        look_at_claim();
        if
        :: open ->
                look_for_rivals();
                if
                :: rival
                :: else ->
#ifndef NO_SECOND_LOOK
                        look_at_claim();
#endif
                        if
                        :: open -> skip_claim()
                        :: else
                        fi
                fi
        :: else
        fi;
        open = false
}

inline missed_a_record()
{
        load(DRIVER, SLEEP_AT, seen); /* R4 */
        if
        :: seen != 0 ->
                d_step {
                        load_in(DRIVER, COMMIT(seen - 1), other);
                        doorbell = doorbell || other == TAG(seen - 1);
                        seen = 0;
                        other = 0
                }
        :: else
        fi
}

proctype driver()
{
        byte position, slots, seen, other;
        bool open, rival, dead_claim;

        d_step {
                killed = true; /* at any moment */
                drain(0);      /* its writer is dead, and for long */
                slots = memory[NOTE_SLOTS(0)];
                position = memory[NOTE_POSITION(0)];
                memory[NOTE_SLOTS(0)] = 0;
                memory[NOTE_POSITION(0)] = 0
        };
        if
        :: slots != 0 ->
                do
                ::      rival = false;
                        settle_claim();
                        if
                        :: rival
                        :: else -> break
                        fi
                od
        :: else
        fi;
        skip; /* Spin allows no jump to a d_step */
        d_step {
                settled = true;
                drain(1);
                memory[NOTE_SLOTS(1)] = 0;
                memory[NOTE_POSITION(1)] = 0;
                position = 0;
                slots = 0
        };
#ifndef NO_R4
        missed_a_record()
#endif
}

proctype consumer()
{
        byte word, published;

        do
        ::      d_step {
                        load_in(CONSUMER, COMMIT(head), word); /* C1 */
                        word = word == TAG(head);
                        head = head + word
                };
                if
                :: word -> word = 0
                :: else ->
                        if
                        :: head != published ->
                                /* C3: C4's barrier is behind it, so that its way through the buffer is nobody's to see */
                                atomic { exchange(CONSUMER, HEAD, head); published = head }
                        :: else
                        fi;
                        exchange(CONSUMER, SLEEP_AT, head + 1); /* C4 */
                        d_step {
                                load_in(CONSUMER, COMMIT(head), word); /* C5 */
                                word = word == TAG(head)
                        };
                        if
                        :: word -> word = 0
                        :: else -> d_step { doorbell -> doorbell = false } /* poll, read */
                        fi;
                        store(CONSUMER, SLEEP_AT, 0)
                fi
        od
}

init
{
        atomic {
                run mortal(0);
                run survivor(1, 3);
                run driver();
                run consumer()
        };
        timeout -> assert(head == tail)
}
