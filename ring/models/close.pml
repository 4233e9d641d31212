/* A ring's end while producers are in flight: end() and ivg_ring_mark_peer_gone (ring_attach.c), the look at `status`
 * before a claim (ivg_ring_state_errno) and while waiting (wait_over in link_wait.c, answer_sleep in guest/src/call.c).
 *
 * Two producers, processors 0 and 1, each make a call and wait for its answer. The consumer, on 2, answers and may find a
 * fault in any record; the executor's other thread, on 3, may close the ring in order at any moment; the executor may
 * die at any moment, or not, and then the mediator, on 4, says so. Whoever ends the ring interrupts all who sleep.
 *
 * Shown: no call waits for ever; a call that was answered gets its answer, also when the end came after it; who is told
 * of a fault finds the reason; the first end wins, so all are told the same.
 *
 * variant NO_LAST_LOOK: assertion told_truly
 * variant REASON_AFTER_STATUS: assertion reason_is_there
 * variant INTERRUPT_BEFORE_STATUS: assertion returned == 2
 * variant NO_LOOK_WHILE_WAITING: assertion returned == 2
 * variant NO_PRIVATE_STATE: assertion first_end_wins
 * variant MEDIATOR_STORES: assertion first_end_wins
 */
#define CONSUMER 2
#define CLOSER 3
#define MEDIATOR 4
#define CPUS 5
#define STATUS 0
#define FAULT 1
#define SEQUENCE(producer) (2 + (producer)) /* the mailbox: 1 when the answer is there */
#define WORDS 4
#include "memory.pml"

#define OPEN 0
#define CLOSED 1
#define PEER_GONE 2
#define FAULTED 3

byte state; /* the consumer's private word, moved by a locked instruction */
bool committed[2], answered[2];
bool interrupt[2];
bool executor_dead;
byte shown; /* the end that was seen first */
byte returned;

inline interrupt_all()
{
        d_step { interrupt[0] = true; interrupt[1] = true }
}

/* Stores the end and, for a fault, its reason before it. */
inline status_store(cpu, end_state)
{
#ifdef REASON_AFTER_STATUS
        store(cpu, STATUS, end_state);
        store(cpu, FAULT, end_state == FAULTED)
#else
        if
        :: end_state == FAULTED -> store(cpu, FAULT, 1)
        :: else
        fi;
        store(cpu, STATUS, end_state)
#endif
}

inline end_ring(cpu, end_state)
{
        d_step {
                pending[cpu].count == 0 ->
#ifdef NO_PRIVATE_STATE
                won = true
#else
                won = state == OPEN;
                if
                :: won -> state = end_state
                :: else
                fi
#endif
        };
        if
        :: won ->
#ifdef INTERRUPT_BEFORE_STATUS
                interrupt_all();
                status_store(cpu, end_state)
#else
                status_store(cpu, end_state);
                pending[cpu].count == 0; /* the interrupt is a system call */
                interrupt_all()
#endif
        :: else
        fi
}

/* What this side was told; the answer, if it is there, is not asked for any more. */
inline check_end(cpu)
{
        load(cpu, FAULT, reason);
        d_step {
                reason_is_there = status != FAULTED || reason != 0;
                assert(reason_is_there);
                shown = (shown == OPEN -> status : shown);
                first_end_wins = shown == status;
                assert(first_end_wins);
                reason_is_there = false;
                first_end_wins = false
        }
}

proctype producer(byte cpu)
{
        byte status, sequence, reason;
        bool was_answered, told_truly, reason_is_there, first_end_wins;

        load(cpu, STATUS, status); /* before the claim: P1 and P2 are claim.pml's */
        if
        :: status != OPEN -> check_end(cpu); goto back
        :: else
        fi;
        committed[cpu] = true; /* P4 and the doorbell */
        do
        ::      load(cpu, SEQUENCE(cpu), sequence); /* P6 or P8 */
                if
                :: sequence != 0 -> break
                :: else
                fi;
#ifndef NO_LOOK_WHILE_WAITING
                d_step { load(cpu, STATUS, status); was_answered = answered[cpu] };
                if
                :: status != OPEN ->
#ifndef NO_LAST_LOOK
                        load(cpu, SEQUENCE(cpu), sequence);
#endif
                        d_step {
                                told_truly = sequence != 0 || !was_answered;
                                assert(told_truly);
                                told_truly = false
                        };
                        check_end(cpu);
                        break
                :: else
                fi;
#endif
                interrupt[cpu]; /* poll */
                interrupt[cpu] = false /* read */
        od;
back:   returned++
}

proctype consumer()
{
        byte who;
        bool won;

        {
                do
                :: state != OPEN -> break
                :: atomic { state == OPEN && committed[0] && !answered[0] -> who = 0 };
                        answer_it:
                        if
                        :: skip -> /* C6, C7 */
                                d_step {
                                        pending[CONSUMER].count == 0 ->
                                        memory[SEQUENCE(who)] = 1;
                                        answered[who] = true
                                };
                                interrupt[who] = true
                        :: end_ring(CONSUMER, FAULTED); break
                        fi
                :: atomic { state == OPEN && committed[1] && !answered[1] -> who = 1 };
                        goto answer_it
                od
        } unless { executor_dead }
}

proctype closer()
{
        bool won;

        { end_ring(CLOSER, CLOSED) } unless { executor_dead }
}

proctype mediator()
{
        if
        :: executor_dead = true /* at any moment */
        :: goto back
        fi;
        pending[CONSUMER].count == 0 && pending[CLOSER].count == 0;
#ifdef MEDIATOR_STORES
        d_step { pending[MEDIATOR].count == 0 -> memory[STATUS] = PEER_GONE };
#else
        d_step {
                pending[MEDIATOR].count == 0 ->
                if
                :: memory[STATUS] == OPEN -> memory[STATUS] = PEER_GONE
                :: else
                fi
        };
#endif
        interrupt_all(); /* set_state, ivgpud/channel.c */
back:   skip
}

init
{
        atomic {
                run producer(0);
                run producer(1);
                run consumer();
                run closer();
                run mediator()
        };
        timeout -> assert(returned == 2)
}
