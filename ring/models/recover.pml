/* Recovery after a death: P0, P2, P4, the note's end (ring_producer.h) and R1..R4 (ring_recover.c). Producer 0
 * may be killed at any statement; 1 lives on and sends three records, so that a slot is soon of a later lap. The consumer sleeps (C4, C5) and doorbells are heard. The guest
 * driver's part runs on processor 3 once the producer is dead and its processor's buffer is empty.
 *
 * The ring has 2 slots, so that a slot is of a later lap soon; records are one slot long: two dead claims
 * that share a position and differ in length are left to the test ring_recovers_from_dead_producers.
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
#define POSITIONS 4 /* of all records: one by the dead, three by the other */
#define TAG(position) ((position) + 1)
#define COMMIT(position) ((position) & 1)
#define HEAD 2
#define SLEEP_AT 3
#define NOTE_POSITION(line) (4 + 2 * (line))
#define NOTE_SLOTS(line) (5 + 2 * (line))
#define WORDS 8
#include "memory.pml"

byte tail; /* P2's word: moved by locked instructions alone */
byte head; /* the consumer's private position */
bool killed, doorbell;
byte winner[POSITIONS];  /* who won the position: producer + 1 */
bool settled[POSITIONS]; /* committed, or SKIP is there */

inline p0(cpu)
{
        store(cpu, NOTE_POSITION(cpu), guess);
        store(cpu, NOTE_SLOTS(cpu), 1)
}

inline p2(cpu)
{
        d_step {
                pending[cpu].count == 0 ->
                if
                :: tail == guess -> tail = guess + 1; won = true; winner[guess] = cpu + 1
                :: else -> guess = tail
                fi
        }
}

inline reserve(cpu)
{
        guess = tail;
        do
        :: atomic { won -> won = false; break }
        :: else ->
                if
                :: guess + 1 - memory[HEAD] <= 2 /* P1 */
                :: else ->
                        store(cpu, NOTE_SLOTS(cpu), 0); /* P0 of a failed turn */
                        guess + 1 - memory[HEAD] <= 2 /* an old guess is refused by P2, and looked at again */
                fi;
#ifndef P0_AFTER_P2
                p0(cpu);
#endif
                p2(cpu)
        od;
#ifdef P0_AFTER_P2
        p0(cpu)
#endif
}

inline p4(cpu, position)
{
        d_step { pending[cpu].count == 0 -> memory[COMMIT(position)] = TAG(position); settled[position] = true }
}

inline p5(cpu, position)
{
        atomic {
                load(cpu, SLEEP_AT, seen);
                if
                :: seen == position + 1 -> doorbell = true
                :: else
                fi
        }
}

inline send(cpu)
{
        reserve(cpu);
#ifdef NOTE_ENDS_BEFORE_P4
        store(cpu, NOTE_SLOTS(cpu), 0);
#endif
        p4(cpu, guess);
        p5(cpu, guess);
        store(cpu, NOTE_SLOTS(cpu), 0) /* the note ends */
}

proctype mortal(byte cpu)
{
        byte guess, seen;
        bool won;

        { send(cpu) } unless { killed }
}

proctype survivor(byte cpu; byte records)
{
        byte guess, seen;
        bool won;

        do
        :: records == 0 -> break
        :: else -> send(cpu); d_step { records--; guess = 0; seen = 0 }
        od
}

/* claim_is_open: leaves its result in `open`. */
inline look_at_claim()
{
        open = true;
#ifdef HEAD_BEFORE_R3
        atomic {
                load(DRIVER, HEAD, seen);
                if
                :: seen > position -> open = false
                :: else
                fi
        };
#endif
#ifndef NO_R1
        atomic {
                if
                :: tail <= position -> open = false /* R1 */
                :: else
                fi
        };
#endif
        atomic {
                load(DRIVER, COMMIT(position), seen); /* R3 */
                if
                :: seen == TAG(position) -> open = false
                :: else
                fi
        };
#ifndef HEAD_BEFORE_R3
#ifndef NO_HEAD
        atomic {
                load(DRIVER, HEAD, seen);
                if
                :: seen > position -> open = false
                :: else
                fi
        };
#endif
#endif
        seen = 0
}

/* look_for_rivals: a live line that says the same position. */
inline look_at_line(line)
{
        load(DRIVER, NOTE_SLOTS(line), seen); /* R2 */
        atomic {
                load(DRIVER, NOTE_POSITION(line), other);
                rival = rival || (seen != 0 && other == position);
                seen = 0;
                other = 0
        }
}

inline look_for_rivals()
{
#ifdef NO_R2
        skip
#else
        look_at_line(1)
#endif
}

inline skip_claim()
{
#ifdef NO_SKIP
        skip
#else
        d_step {
                dead_claim = winner[position] == 1 && !settled[position];
                assert(dead_claim);
                dead_claim = false
        };
        p4(DRIVER, position);
        p5(DRIVER, position)
#endif
}

inline settle()
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
        if
        :: !rival -> slots = 0
        :: else
        fi;
        d_step { open = false; rival = false }
}

inline missed_a_record()
{
        load(DRIVER, SLEEP_AT, seen); /* R4 */
        if
        :: seen != 0 ->
                load(DRIVER, COMMIT(seen - 1), other);
                if
                :: atomic { other == TAG(seen - 1) -> doorbell = true }
                :: else
                fi
        :: else
        fi;
        d_step { seen = 0; other = 0 }
}

proctype driver()
{
        byte position, slots, seen, other;
        bool open, rival, dead_claim;

        killed = true; /* at any moment */
        d_step {
                pending[0].count == 0 -> /* its writer is dead */
                slots = memory[NOTE_SLOTS(0)];
                position = memory[NOTE_POSITION(0)]
        };
        do
        :: slots != 0 -> settle() /* -EAGAIN: called again */
        :: else -> break
        od;
#ifndef NO_R4
        missed_a_record()
#endif
}

proctype consumer()
{
        byte word;

        do
        ::      d_step {
                        load(CONSUMER, COMMIT(head), word); /* C1 */
                        word = word == TAG(head);
                        head = head + word
                };
                if
                :: word -> word = 0
                :: else ->
                        store(CONSUMER, HEAD, head); /* C3 */
                        exchange(CONSUMER, SLEEP_AT, head + 1); /* C4 */
                        load(CONSUMER, COMMIT(head), word); /* C5 */
                        if
                        :: word != TAG(head) ->
                                doorbell; /* poll */
                                doorbell = false /* read */
                        :: else
                        fi;
                        store(CONSUMER, SLEEP_AT, 0);
                        word = 0
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
