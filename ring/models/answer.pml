/* An answer and the sleep for it: P6 (ring_producer.h), P7, P8 (ring_producer.c), C6, C7 (ring_consumer.h). A guest
 * thread on processor 0 makes CALLS calls, one after the other; the executor on processor 1 answers each. How the thread
 * parks, and who wakes it among others, is park.pml's matter: here an interrupt is an eventfd of its own.
 *
 * Shown: no thread is left asleep with its answer there, and what it reads is the answer of this call, complete.
 *
 * variant NO_C6_BARRIER: assertion answered == CALLS
 * variant NO_P7_BARRIER: assertion answered == CALLS
 * variant NO_P8: assertion answered == CALLS
 * variant P8_BEFORE_P7: assertion answered == CALLS
 * variant C7_BEFORE_C6: assertion answered == CALLS
 * variant C6_BEFORE_RESULT: assertion result == call
 * variant RESULT_BEFORE_P6: assertion result == call
 */
#define CALLS 3
#define THREAD 0
#define EXECUTOR 1
#define CPUS 2
#define SEQUENCE 0
#define RESULT 1
#define WAITING 2
#define WORDS 3
#include "memory.pml"

byte requested; /* the ring between them, which other models show */
bool interrupt;
byte answered;

inline p6()
{
#ifdef RESULT_BEFORE_P6
        load(THREAD, RESULT, result);
        load(THREAD, SEQUENCE, sequence)
#else
        load(THREAD, SEQUENCE, sequence);
        load(THREAD, RESULT, result)
#endif
}

inline p7()
{
#ifdef NO_P7_BARRIER
        store(THREAD, WAITING, 1)
#else
        exchange(THREAD, WAITING, 1)
#endif
}

proctype thread()
{
        byte call, sequence, result;

        do
        :: call == CALLS -> break
        :: else ->
                call++;
                requested = call;
                if
                :: skip -> /* has spun long enough */
#ifdef P8_BEFORE_P7
                        load(THREAD, SEQUENCE, sequence); /* P8 */
                        p7();
#else
                        p7();
#ifndef NO_P8
                        load(THREAD, SEQUENCE, sequence); /* P8 */
#endif
#endif
                        do
                        :: sequence == call -> break
                        :: else ->
                                interrupt; /* poll */
                                interrupt = false; /* read */
                                load(THREAD, SEQUENCE, sequence) /* answer_is_there, call.c */
                        od;
                        store(THREAD, WAITING, 0) /* ivg_producer_wait_end */
                :: skip
                fi;
                do /* ivg_producer_poll_answer until it is there: spins on the line, not on anybody's wake-up */
                :: p6();
                        if
                        :: sequence == call -> break
                        :: else -> memory[SEQUENCE] == call
                        fi
                od;
                assert(result == call);
                answered++;
                result = 0
        od
}

inline c6(call)
{
#ifdef NO_C6_BARRIER
        store(EXECUTOR, SEQUENCE, call)
#else
        exchange(EXECUTOR, SEQUENCE, call)
#endif
}

proctype executor()
{
        byte call, waiting;

        do
        :: call == CALLS -> break
        :: else ->
                requested > call;
                call++;
#ifdef C7_BEFORE_C6
                load(EXECUTOR, WAITING, waiting); /* C7 */
                store(EXECUTOR, RESULT, call);
                c6(call);
#else
#ifdef C6_BEFORE_RESULT
                c6(call);
                store(EXECUTOR, RESULT, call);
#else
                store(EXECUTOR, RESULT, call);
                c6(call);
#endif
                load(EXECUTOR, WAITING, waiting); /* C7 */
#endif
                if
                :: waiting != 0 -> interrupt = true
                :: else
                fi;
                waiting = 0
        od
}

init
{
        atomic {
                run thread();
                run executor()
        };
        timeout -> assert(answered == CALLS)
}
