/* Parking: ivshmem-glue/src/link_wait.c, F1 and W1..W4. THREADS guest threads each wait for an answer of their own; one
 * eventfd tells all of them. All accesses are sequentially consistent there, so no store buffers here.
 *
 * Time-outs (a slice) are left out: with them a lost wake-up would be late only, and the model is to see it.
 * Shown: no thread is left parked with its answer there, whoever leads, leaves first or follows, and however many of the
 * others wait on for ever.
 *
 * variant NO_W4_WAKE: assertion woken == answers
 * variant W4_AFTER_WAKE: assertion woken == answers
 * variant DONE_BEFORE_W1: assertion woken == answers
 * variant NO_DONE_AFTER_W3: assertion woken == answers
 * variant COUNT_BEFORE_W2: assertion woken == answers
 * variant NO_F1: assertion woken == answers
 * variant NO_FUTEX_COMPARE: assertion woken == answers
 */
#define THREADS 3

bool answer[THREADS];
bool interrupt;
byte wait_sequence, wait_followers;
byte wait_leader; /* thread + 1 */
bool asleep[THREADS];
byte answers, woken;

inline futex_wake_all()
{
        d_step {
                asleep[0] = false;
                asleep[1] = false;
                asleep[2] = false
        }
}

inline followers_wake()
{
#ifdef COUNT_BEFORE_W2
        followers = wait_followers;
        wait_sequence++;
#else
        wait_sequence++; /* W2 */
        followers = wait_followers;
#endif
        if
        :: followers != 0 -> futex_wake_all()
        :: else
        fi;
        followers = 0
}

inline lead()
{
#ifdef NO_DONE_AFTER_W3
        done = false;
#else
        done = answer[self]; /* after W3 */
#endif
        do
        :: done -> break
        :: else ->
                interrupt; /* ppoll */
                interrupt = false; /* read */
                followers_wake();
                done = answer[self] /* after each drain */
        od;
#ifdef W4_AFTER_WAKE
        followers_wake();
        wait_leader = 0
#else
        wait_leader = 0; /* W4 */
#ifndef NO_W4_WAKE
        followers_wake()
#endif
#endif
}

inline follow()
{
#ifndef NO_F1
        wait_followers++; /* F1 */
#endif
        if
#ifdef NO_FUTEX_COMPARE
        :: asleep[self] = true;
                !asleep[self]
#else
        :: d_step { wait_sequence == sequence -> asleep[self] = true };
                !asleep[self]
        :: wait_sequence != sequence
#endif
        fi;
#ifndef NO_F1
        wait_followers--
#endif
}

proctype thread(byte self)
{
        byte sequence, followers;
        bool done, led;

        do
#ifdef DONE_BEFORE_W1
        ::      done = answer[self];
                sequence = wait_sequence;
#else
        ::      sequence = wait_sequence; /* W1 */
                done = answer[self];
#endif
                if
                :: done -> break
                :: else
                fi;
                d_step { /* W3 */
                        if
                        :: wait_leader == 0 -> wait_leader = self + 1; led = true
                        :: else
                        fi
                };
                if
                :: led -> lead(); break
                :: else -> follow()
                fi
        od;
        woken++
}

/* The executor: the answer first (C6), then the interrupt, for these threads have all said that they wait (P7). */
proctype executor()
{
        do
        :: answers == THREADS -> break
        :: break /* the others' calls run for hours */
        :: answers < THREADS ->
                answer[answers] = true;
                interrupt = true;
                answers++
        od
}

init
{
        atomic {
                run thread(0);
                run thread(1);
                run thread(2);
                run executor()
        };
        timeout -> assert(woken == answers)
}
