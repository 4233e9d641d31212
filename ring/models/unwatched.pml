/* An executor that is not looked at while it does nothing: W1, W2 (ivgpud/watchdog.c), W3, W4 (exec/gate.c). The executor's
 * consumer on processor 1 sleeps and wakes SLEEPS times and is awake in the end. The mediator on processor 0 stops looking
 * at any moment, up to LOOKS times, and looks again when it is kicked.
 *
 * The tick that comes all the same is left out: what is missed is missed for ever. System calls empty the store buffer.
 *
 * Shown: a consumer that is awake is looked at.
 *
 * variant NO_W1_BARRIER: assertion watched
 * variant NO_W2: assertion watched
 * variant W2_BEFORE_W1: assertion watched
 * variant NO_W3_BARRIER: assertion watched
 * variant W4_BEFORE_W3: assertion watched
 */
#define SLEEPS 2
#define LOOKS 3
#define MEDIATOR 0
#define EXECUTOR 1
#define CPUS 2
#define UNWATCHED 0
#define SLEEP_AT 1
#define WORDS 2
#include "memory.pml"

bool kicked, watched = true;

inline wake()
{
        store(EXECUTOR, SLEEP_AT, 0); /* ivg_consumer_sleep_end */
#ifndef NO_W3_BARRIER
        d_step { drain(EXECUTOR) } /* W3 */
#endif
}

proctype executor()
{
        byte sleeps, unwatched;

        do
        :: sleeps == SLEEPS -> break
        :: else ->
                exchange(EXECUTOR, SLEEP_AT, 1); /* C4 */
#ifdef W4_BEFORE_W3
                load(EXECUTOR, UNWATCHED, unwatched);
                wake();
#else
                wake();
                load(EXECUTOR, UNWATCHED, unwatched); /* W4 */
#endif
                if
                :: unwatched != 0 -> d_step { drain(EXECUTOR); kicked = true }
                :: else
                fi;
                sleeps++;
                unwatched = 0
        od
}

inline w1()
{
#ifdef NO_W1_BARRIER
        store(MEDIATOR, UNWATCHED, 1)
#else
        exchange(MEDIATOR, UNWATCHED, 1)
#endif
}

inline w2()
{
#ifdef NO_W2
        sleep_at = 1
#else
        load(MEDIATOR, SLEEP_AT, sleep_at)
#endif
}

proctype mediator()
{
        byte looks, sleep_at;

end:    do
        :: watched && looks < LOOKS ->
                looks++;
#ifdef W2_BEFORE_W1
                w2();
                w1();
#else
                w1();
                w2();
#endif
                if
                :: sleep_at == 0 -> exchange(MEDIATOR, UNWATCHED, 0)
                :: else -> watched = false
                fi;
                sleep_at = 0
        :: d_step { kicked -> kicked = false };
                exchange(MEDIATOR, UNWATCHED, 0);
                watched = true
        od
}

init
{
        atomic {
                run executor();
                run mediator()
        };
        timeout -> assert(watched)
}
