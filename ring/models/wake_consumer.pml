/* The consumer's sleep against the doorbell: P4, P5 (ring_producer.h) and C1, C4, C5 (ring_consumer.c), with the block as
 * hostexec/exec/consumer.c does it. Three producers on processors 0..2, the consumer on 3. No wrap: claim.pml has that.
 *
 * Shown: nobody is left sleeping for a record that is there; one sleep is answered by at most one doorbell.
 *
 * variant NO_P4_BARRIER: assertion taken == RECORDS
 * variant NO_C4_BARRIER: assertion taken == RECORDS
 * variant NO_C5: assertion taken == RECORDS
 * variant C5_BEFORE_C4: assertion taken == RECORDS
 * variant P5_BEFORE_P4: assertion taken == RECORDS
 * variant DRAIN_AFTER_C5: assertion taken == RECORDS
 * variant P5_IS_A_FLAG: assertion doorbells <= sleeps
 */
#define PRODUCERS 3
#define RECORDS 4 /* producer 0 sends two */
#define CONSUMER 3
#define CPUS 4
#define COMMIT 0 /* words 0..RECORDS-1: the commit words, 0 or 1 */
#define SLEEP_AT RECORDS
#define WORDS (RECORDS + 1)
#include "memory.pml"

byte tail;      /* P2's word: moved by locked instructions alone */
bool doorbell;  /* the eventfd: its counter is zero or not */
byte doorbells;
byte sleeps;
byte taken;

inline p4(cpu, position)
{
#ifdef NO_P4_BARRIER
        store(cpu, COMMIT + position, 1)
#else
        exchange(cpu, COMMIT + position, 1)
#endif
}

inline p5(cpu, seen)
{
        load(cpu, SLEEP_AT, seen)
}

proctype producer(byte cpu; byte records)
{
        byte position, seen;

        do
        :: records == 0 -> break
        :: else ->
                records--;
                d_step { pending[cpu].count == 0 -> position = tail; tail++ } /* P2 */
#ifdef P5_BEFORE_P4
                p5(cpu, seen);
                p4(cpu, position);
#else
                p4(cpu, position);
                p5(cpu, seen);
#endif
                if
#ifdef P5_IS_A_FLAG
                :: seen != 0 -> atomic { doorbell = true; doorbells++ }
#else
                :: seen == position + 1 -> atomic { doorbell = true; doorbells++ }
#endif
                :: else
                fi;
                position = 0;
                seen = 0
        od
}

inline c4()
{
#ifdef NO_C4_BARRIER
        d_step { pending[CONSUMER].count < DEPTH -> sleeps++ };
        store(CONSUMER, SLEEP_AT, taken + 1)
#else
        d_step { pending[CONSUMER].count == 0 -> sleeps++; memory[SLEEP_AT] = taken + 1 }
#endif
}

inline c5()
{
#ifdef NO_C5
        skip
#else
        load(CONSUMER, COMMIT + taken, word)
#endif
}

proctype consumer()
{
        byte word;

        do
        :: taken == RECORDS -> break
        :: else ->
                load(CONSUMER, COMMIT + taken, word); /* C1 */
                if
                :: word != 0 -> taken++; word = 0
                :: else ->
#ifdef C5_BEFORE_C4
                        c5();
                        c4();
#else
                        c4();
                        c5();
#endif
                        if
                        :: word == 0 ->
#ifdef DRAIN_AFTER_C5
                                doorbell = false;
                                doorbell;
#else
                                doorbell; /* poll */
                                doorbell = false; /* read */
#endif
                        :: else
                        fi;
                        store(CONSUMER, SLEEP_AT, 0); /* ivg_consumer_sleep_end */
                        word = 0
                fi
        od
}

init
{
        atomic {
                run producer(0, 2);
                run producer(1, 1);
                run producer(2, 1);
                run consumer()
        };
        timeout -> /* nothing can move any more */
        assert(taken == RECORDS);
        assert(doorbells <= sleeps)
}
