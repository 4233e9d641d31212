/* The wait for a grant: Q1, Q4, Q5 (ivgpud/sched.c), Q2, Q3 (exec/gate.c). The executor on processor 1 makes CALLS calls, each
 * of which needs a grant of its own. The mediator on processor 0 gives one at some moment by itself, as its timer makes it;
 * every other one when a kick tells it to look, and it finds an executor that waits and has used what it had.
 *
 * Both sides' time-outs (a wait ends after 0.1 s, the mediator looks again at its tick) are left out: what is missed is
 * missed for ever. As in reaper.pml a futex compares in memory, and system calls empty the store buffer.
 *
 * Shown: no wait sleeps through a grant, no kick is answered as if nobody waited.
 *
 * variant NO_Q1_BARRIER: assertion calls == CALLS
 * variant NO_Q5: assertion calls == CALLS
 * variant Q1_BEFORE_GRANT: assertion calls == CALLS
 * variant GRANT_BEFORE_Q2: assertion calls == CALLS
 * variant KICK_BEFORE_Q3: assertion calls == CALLS
 */
#define CALLS 3
#define MEDIATOR 0
#define EXECUTOR 1
#define CPUS 2
#define GRANTED 0
#define WAKE 1
#define USED 2
#define WAITING 3
#define WORDS 4
#include "memory.pml"

bool kicked, asleep;
byte calls;

proctype executor()
{
        byte seen, granted, waiting;

        do
        :: calls == CALLS -> break
        :: else ->
#ifdef GRANT_BEFORE_Q2
                load(EXECUTOR, GRANTED, granted);
                load(EXECUTOR, WAKE, seen);
#else
                load(EXECUTOR, WAKE, seen); /* Q2 */
                load(EXECUTOR, GRANTED, granted);
#endif
                if
                :: granted > calls ->
                        store(EXECUTOR, WAITING, 0);
                        calls++;
                        store(EXECUTOR, USED, calls)
                :: else ->
                        load(EXECUTOR, WAITING, waiting);
                        if
                        :: waiting == 0 ->
#ifdef KICK_BEFORE_Q3
                                d_step { drain(EXECUTOR); kicked = true };
                                store(EXECUTOR, WAITING, 1)
#else
                                store(EXECUTOR, WAITING, 1); /* Q3 */
                                d_step { drain(EXECUTOR); kicked = true }
#endif
                        :: else
                        fi;
                        d_step { drain(EXECUTOR); asleep = memory[WAKE] == seen }; /* futex */
                        !asleep
                fi;
                d_step { seen = 0; granted = 0; waiting = 0 }
        od
}

/* tell() */
inline grant()
{
        granted++;
#ifdef Q1_BEFORE_GRANT
        exchange(MEDIATOR, WAKE, granted);
        store(MEDIATOR, GRANTED, granted);
#else
        store(MEDIATOR, GRANTED, granted);
#ifdef NO_Q1_BARRIER
        store(MEDIATOR, WAKE, granted);
#else
        exchange(MEDIATOR, WAKE, granted); /* Q1 */
#endif
#endif
#ifndef NO_Q5
        load(MEDIATOR, WAITING, waiting);
#endif
        if
        :: waiting != 0 -> d_step { drain(MEDIATOR); asleep = false }
        :: else
        fi
}

inline look()
{
        load(MEDIATOR, WAITING, waiting); /* Q4 */
        load(MEDIATOR, USED, used)
}

proctype mediator()
{
        byte granted, used, waiting;
        bool by_itself;

end:    do
        :: !by_itself ->
                by_itself = true;
                look();
                if
                :: granted < CALLS -> grant()
                :: else
                fi
        :: d_step { kicked -> kicked = false };
                look();
                if
                :: waiting != 0 && used == granted && granted < CALLS -> grant()
                :: else
                fi
        od
}

init
{
        atomic {
                run executor();
                run mediator()
        };
        timeout -> assert(calls == CALLS)
}
