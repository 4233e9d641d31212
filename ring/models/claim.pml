/* A record's life on a ring that wraps: P1..P4 (ring_producer.h), C1..C3 (ring_consumer.c), and a producer that dies
 * between its claim and its commit, for which the guest driver then writes SKIP. Producers on processors 0..2, the
 * consumer on 3. Sleeping is wake_consumer.pml's matter and notes and rivals are recover.pml's: here
 * the driver knows whose a claim is.
 *
 * The ring has 4 slots. Producer 0 sends a record of two slots or dies over it, the others send one of one slot and one
 * of two: 8 slots, so each slot is used twice. The lap tag has 3 bits and the first position is 5, so the tag wraps too.
 *
 * Shown: every committed record is delivered once, whole, in its producer's order; an honest producer is never faulted;
 * a dead one stops neither the consumer nor the others for good.
 *
 * variant NO_P1: assertion whole
 * variant NO_P2: assertion whole
 * variant P4_BEFORE_P3: assertion whole
 * variant C3_BEFORE_C2: assertion whole
 * variant NO_LAP_TAG: assertion whole
 * variant NO_CONT_WORD: assertion whole
 * variant NO_SKIP: assertion head == tail
 */
#define PRODUCERS 3
#define SLOTS 4
#define START 5
#define TAG(position) (((position) + 1) & 7)
#define CONSUMER 3
#define CPUS 4
#define COMMIT(position) ((position) & 3)
#define PAYLOAD(position) (4 + ((position) & 3))
#define HEAD 8
#define WORDS 9
#define WORD(position, slots, kind) (TAG(position) | (slots) << 3 | (kind) << 5)
#define DATA 1
#define CONT 2
#define SKIP 3
#include "memory.pml"

byte tail = START;       /* P2's word: moved by locked instructions alone */
local byte head = START; /* the consumer's private position; looked at by others once nothing moves */
byte committed;
local byte delivered;
bool dead;
byte dead_position; /* what the driver finds out: whose claim it was */

#define RECORDS(producer) ((producer) == 0 -> 1 : 2)
#define LENGTH(producer, record) (1 + (((producer) + (record) + 1) & 1)) /* in slots */
/* Payload of a record's slot: who, which record, which slot. Never 0. */
#define BYTES(producer, record, slot) (1 + (producer) * 4 + (record) * 2 + (slot))

inline p1(cpu)
{
        if
        :: guess + slots - head_seen <= SLOTS
        :: else ->
#ifdef NO_P1
                skip
#else
                /* full: tries again until there is room; the guess may be old by then, which P2 refuses */
                d_step { guess + slots - memory[HEAD] <= SLOTS -> head_seen = memory[HEAD] }
#endif
        fi
}

inline p2()
{
#ifdef NO_P2
        d_step { tail = guess + slots; won = true }
#else
        d_step {
                if
                :: tail == guess -> tail = guess + slots; won = true
                :: else -> guess = tail
                fi
        }
#endif
}

/* Into the buffer at once: what counts is when it leaves it. */
inline p3(cpu)
{
        d_step {
                put(cpu, PAYLOAD(guess), BYTES(cpu, record, 0));
                if
                :: slots == 2 ->
                        put(cpu, PAYLOAD(guess + 1), BYTES(cpu, record, 1));
#ifndef NO_CONT_WORD
                        put(cpu, COMMIT(guess + 1), WORD(guess + 1, 0, CONT))
#endif
                :: else
                fi
        }
}

inline p4(cpu)
{
        d_step { pending[cpu].count == 0 -> memory[COMMIT(guess)] = WORD(guess, slots, DATA); committed++ }
}

inline die()
{
        atomic {
                cpu == 0 ->
                dead_position = guess;
                dead = true
        }
}

proctype producer(byte cpu)
{
        byte record, slots, guess;
        byte head_seen = START;
        bool won;

        do
        :: record == RECORDS(cpu) -> break
        :: else ->
                d_step { slots = LENGTH(cpu, record); guess = tail };
again:          p1(cpu);
                atomic {
                        p2();
                        if
                        :: won -> won = false
                        :: else -> goto again
                        fi;
                        if
                        :: die(); break /* between P2 and P3 */
                        :: skip
                        fi;
#ifndef P4_BEFORE_P3
                        p3(cpu)
#endif
                };
                if
                :: die(); break /* between P3 and P4 */
                :: skip
                fi;
                p4(cpu);
#ifdef P4_BEFORE_P3
                p3(cpu);
#endif
                record++
        od;
        atomic { guess = 0; slots = 0; head_seen = 0 }
}

proctype driver()
{
#ifndef NO_SKIP
        d_step { dead -> drain(0) };
        d_step { /* another step: others see the dead one's stores without SKIP */
                memory[COMMIT(dead_position + 1)] = WORD(dead_position + 1, 0, CONT);
                memory[COMMIT(dead_position)] = WORD(dead_position, 2, SKIP) /* P4 */
        }
#endif
        skip
}

#ifdef NO_LAP_TAG
#define MATCHES(word, position) ((word) != 0)
#else
#define MATCHES(word, position) (((word) & 7) == TAG(position))
#endif

/* What C1's word says, once it matches. */
inline check_first_word()
{
        d_step {
                slots = (word >> 3) & 3;
                data = word >> 5 == DATA;
                whole = (data || word >> 5 == SKIP) && slots >= 1;
                assert(whole);
                word = 0
        }
}

/* The record's own first bytes: of whom, in order, with as many slots as were sent. */
inline check_first_bytes()
{
        whole = bytes != 0 && ((bytes - 1) & 1) == 0;
        assert(whole);
        whole = due[(bytes - 1) / 4] == (((bytes - 1) / 2) & 1) &&
                slots == LENGTH((bytes - 1) / 4, ((bytes - 1) / 2) & 1);
        assert(whole);
        due[(bytes - 1) / 4]++;
        delivered++
}

inline publish()
{
        store(CONSUMER, HEAD, head); /* C3 */
        published = head
}

proctype consumer()
{
        byte word, slots, bytes, next, published = START;
        byte due[PRODUCERS]; /* the record that is to come next from each */
        bool data, whole;

        do
        ::      atomic {
                        load(CONSUMER, COMMIT(head), word); /* C1 */
                        if
                        :: MATCHES(word, head) -> check_first_word()
                        :: else -> word = 0; goto nothing
                        fi
                };
#ifdef C3_BEFORE_C2
                store(CONSUMER, HEAD, head + slots);
#endif
                if
                :: data ->
                        d_step { load_in(CONSUMER, PAYLOAD(head), bytes); check_first_bytes() }; /* C2 */
                        if
                        :: slots == 2 ->
                                d_step { /* C2 */
                                        load_in(CONSUMER, COMMIT(head + 1), next);
                                        whole = next == WORD(head + 1, 0, CONT);
                                        assert(whole)
                                };
                                d_step { /* C2 */
                                        load_in(CONSUMER, PAYLOAD(head + 1), next);
                                        whole = next == bytes + 1;
                                        assert(whole)
                                }
                        :: else
                        fi
                :: else
                fi;
                atomic {
                        d_step { head = head + slots; bytes = 0; next = 0; slots = 0; data = false; whole = false };
                        if
                        :: head - published >= 2 -> publish()
                        :: else
                        fi
                };
                goto again;
nothing:        if
                :: head != published -> publish()
                :: else
                fi;
                MATCHES(memory[COMMIT(head)], head); /* sleeps */
again:          skip
        od
}

init
{
        atomic {
                memory[COMMIT(START)] = TAG(START - SLOTS);
                memory[COMMIT(START + 1)] = TAG(START + 1 - SLOTS);
                memory[COMMIT(START + 2)] = TAG(START + 2 - SLOTS);
                memory[COMMIT(START + 3)] = TAG(START + 3 - SLOTS);
                memory[HEAD] = START;
                run producer(0);
                run producer(1);
                run producer(2);
                run driver();
                run consumer()
        };
        timeout ->
        assert(head == tail);
        assert(delivered == committed)
}
