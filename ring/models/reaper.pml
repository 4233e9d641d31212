/* The reaper's sleep and the sleep for it: R1 to R5 (hostexec/exec/reaper.c). The consumer on processor 0 hands over CALLS
 * calls, the reaper on processor 1 runs them, a lane on processor 2 waits until all are done.
 *
 * A futex is slept on only while its word in memory is the one that was seen, and the system call empties the store buffer
 * first: R4 and R5 rely on that, so here it is their absence that shows. The time-outs (60 s, the lane's own) are left out.
 *
 * Shown: no call is left with the reaper, no lane left asleep, and a call that is found is there.
 *
 * variant NO_R1_BARRIER: assertion ended == 3
 * variant NO_R3_BARRIER: assertion ended == 3
 * variant NO_R4: assertion ended == 3
 * variant NO_R5: assertion ended == 3
 * variant R1_BEFORE_CALL: assertion call >= done
 */
#define CALLS 3
#define CONSUMER 0
#define REAPER 1
#define LANE 2
#define CPUS 3
#define CALL 0 /* what the queue holds: the latest call's number */
#define SUBMITTED 1
#define SLEEPING 2
#define DONE 3
#define WAITERS 4
#define WORDS 5
#include "memory.pml"

bool asleep[CPUS];
byte ended;

inline futex_wait(cpu, w, seen)
{
        d_step { drain(cpu); asleep[cpu] = memory[w] == (seen) };
        !asleep[cpu]
}

inline futex_wake(cpu, whom)
{
        d_step { drain(cpu); asleep[whom] = false }
}

proctype consumer()
{
        byte submitted, sleeping;

        do
        :: submitted == CALLS -> break
        :: else ->
                submitted++;
#ifdef R1_BEFORE_CALL
                exchange(CONSUMER, SUBMITTED, submitted);
                store(CONSUMER, CALL, submitted);
#else
                store(CONSUMER, CALL, submitted);
#ifdef NO_R1_BARRIER
                store(CONSUMER, SUBMITTED, submitted);
#else
                exchange(CONSUMER, SUBMITTED, submitted); /* R1 */
#endif
#endif
                load(CONSUMER, SLEEPING, sleeping);
                if
                :: sleeping != 0 -> futex_wake(CONSUMER, REAPER)
                :: else
                fi;
                sleeping = 0
        od;
        ended++
}

proctype reaper()
{
        byte done, submitted, waiters, call;

        do
        :: done == CALLS -> break
        :: else ->
                load(REAPER, SUBMITTED, submitted); /* R2 */
                if
                :: submitted == done ->
#ifndef NO_R5
                        exchange(REAPER, SLEEPING, 1); /* R5 */
#endif
                        load(REAPER, SUBMITTED, submitted);
                        if
                        :: submitted == done -> futex_wait(REAPER, SUBMITTED, done)
                        :: else
                        fi;
                        store(REAPER, SLEEPING, 0)
                :: else ->
                        done++;
                        load(REAPER, CALL, call);
                        assert(call >= done);
                        call = 0;
#ifdef NO_R3_BARRIER
                        store(REAPER, DONE, done);
#else
                        exchange(REAPER, DONE, done); /* R3 */
#endif
                        load(REAPER, WAITERS, waiters);
                        if
                        :: waiters != 0 -> futex_wake(REAPER, LANE)
                        :: else
                        fi;
                        waiters = 0
                fi;
                submitted = 0
        od;
        ended++
}

proctype lane()
{
        byte done;

#ifndef NO_R4
        exchange(LANE, WAITERS, 1); /* R4 */
#endif
        do
        ::      load(LANE, DONE, done);
                if
                :: done == CALLS -> break
                :: else -> futex_wait(LANE, DONE, done)
                fi
        od;
        ended++
}

init
{
        atomic {
                run consumer();
                run reaper();
                run lane()
        };
        timeout -> assert(ended == 3)
}
