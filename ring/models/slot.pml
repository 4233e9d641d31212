/* An answer in the request's own slot: P9, P10, and of P2 what comes behind it (ring_producer.h), C8 (ring_consumer.h),
 * C3 (ring_consumer.c). The ring has one slot. Thread 0 has claimed it and waits for its answer, looking into the slot
 * and now and then into the mailbox; thread 1 wants the slot's next lap; the executor on processor 2 takes and answers.
 *
 * Shown: whatever the waiter takes is its own answer, whole; the next lap's record arrives whole; and a waiter that never
 * saw its answer in the slot, or saw it too late, has it from the mailbox.
 *
 * variant NO_P10: assertion answer == ANSWER
 * variant P10_BEFORE_COPY: assertion answer == ANSWER
 * variant P3_BEFORE_P2: assertion answer == ANSWER
 * variant COPY_BEFORE_P9: assertion answer == ANSWER
 * variant C8_BEFORE_ANSWER: assertion answer == ANSWER
 * variant C3_BEFORE_C8: assertion taken == OTHER
 * variant NO_TAG: assertion answer == ANSWER
 * variant NO_MAILBOX: assertion answered
 */
#define WAITER 0
#define NEXT 1
#define EXECUTOR 2
#define CPUS 3
#define COMMIT 0
#define PAYLOAD 1
#define TAIL 2
#define HEAD 3
#define SEQUENCE 4
#define RESULT 5
#define WORDS 6
#define REQUEST 7 /* payloads */
#define OTHER 8
#define ANSWER 9
#define FOREIGN 10 /* the other one's answer */
#define WORD(position, kind) ((position) + 1 | (kind) << 4)
#define DATA 1
#define ANSWERED 4
#include "memory.pml"

bool answered;

inline look()
{
#ifdef COPY_BEFORE_P9
        load(WAITER, PAYLOAD, answer);
        load(WAITER, COMMIT, word);
#else
        load(WAITER, COMMIT, word); /* P9 */
#endif
        if
#ifdef NO_TAG
        :: word >> 4 == ANSWERED ->
#else
        :: word == WORD(0, ANSWERED) ->
#endif
#ifdef NO_P10
                load(WAITER, PAYLOAD, answer);
                tail = 1
#else
#ifdef P10_BEFORE_COPY
                load(WAITER, TAIL, tail);
                load(WAITER, PAYLOAD, answer)
#else
#ifndef COPY_BEFORE_P9
                load(WAITER, PAYLOAD, answer);
#endif
                load(WAITER, TAIL, tail) /* P10 */
#endif
#endif
#ifdef NO_TAG
                ;
                tail = 1 /* with its 64 bits P10 tells laps apart as well: the tag alone is the variant's matter */
#endif
        :: else
        fi
}

proctype waiter()
{
        byte word, answer, tail;

        store(WAITER, PAYLOAD, REQUEST);
        exchange(WAITER, COMMIT, WORD(0, DATA)); /* P4 */
        do
        :: tail = 0;
                look();
                if
                :: tail == 1 -> break
                :: else /* not yet, or the next lap has begun */
                fi;
                if
                :: skip -> /* the look at the mailbox; P6, which answer.pml is about, and its order */
                        memory[SEQUENCE] == 1;
                        load(WAITER, RESULT, answer);
                        break
                :: skip ->
                        memory[COMMIT] != WORD(0, DATA); /* it looks on; a look at the same is no news */
                        if
                        :: memory[COMMIT] == WORD(0, ANSWERED)
                        :: else ->
#ifdef NO_TAG
                                memory[COMMIT] == WORD(1, ANSWERED) || memory[SEQUENCE] == 1;
                                if
                                :: memory[COMMIT] == WORD(1, ANSWERED)
                                :: else -> load(WAITER, RESULT, answer); break
                                fi
#else
                                memory[SEQUENCE] == 1;
                                load(WAITER, RESULT, answer);
                                break
#endif
                        fi
                fi
        od;
        assert(answer == ANSWER);
        answered = true
}

proctype next()
{
        byte head;

        do
        :: load(NEXT, HEAD, head); /* P1 */
                if
                :: head >= 1 -> break
                :: else -> memory[HEAD] >= 1
                fi
        od;
#ifdef P3_BEFORE_P2
        store(NEXT, PAYLOAD, OTHER);
        exchange(NEXT, TAIL, 2);
#else
        exchange(NEXT, TAIL, 2);     /* P2 */
        store(NEXT, PAYLOAD, OTHER); /* P3 */
#endif
        exchange(NEXT, COMMIT, WORD(1, DATA)) /* P4 */
}

proctype executor()
{
        byte taken;

        memory[COMMIT] == WORD(0, DATA); /* C1 */
        load(EXECUTOR, PAYLOAD, taken);
        assert(taken == REQUEST);
#ifdef C3_BEFORE_C8
        store(EXECUTOR, HEAD, 1);
#endif
#ifdef C8_BEFORE_ANSWER
        store(EXECUTOR, COMMIT, WORD(0, ANSWERED));
        store(EXECUTOR, PAYLOAD, ANSWER);
#else
        store(EXECUTOR, PAYLOAD, ANSWER);
        store(EXECUTOR, COMMIT, WORD(0, ANSWERED)); /* C8 */
#endif
#ifndef NO_MAILBOX
        store(EXECUTOR, RESULT, ANSWER);
        exchange(EXECUTOR, SEQUENCE, 1); /* C6 */
#endif
#ifndef C3_BEFORE_C8
        store(EXECUTOR, HEAD, 1); /* C3 */
#endif
        memory[COMMIT] == WORD(1, DATA); /* C1, the next lap's */
        load(EXECUTOR, PAYLOAD, taken);
        assert(taken == OTHER);
        store(EXECUTOR, PAYLOAD, FOREIGN);
        store(EXECUTOR, COMMIT, WORD(1, ANSWERED)) /* C8 */
}

init
{
        atomic {
                memory[TAIL] = 1; /* the waiter's claim */
                run waiter();
                run next();
                run executor()
        };
        timeout -> assert(answered)
}
