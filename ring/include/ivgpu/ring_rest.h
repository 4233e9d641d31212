/* How long not to look. Who has written a line and looks at once for what the other side writes next takes the line
 * from it just then, and it has to fetch it back: a look too early costs one line's way or two, a look too late what it
 * is late. The best length depends on the processors, on how far they are apart, on what each side does between look
 * and write, and on how long the other side rests. So it is found by trying: some lengths, then those around the best
 * of them, in turn and again, so that all of them meet whatever else the processors do. That with which the rounds took
 * least is kept for a while. A round is all that goes on between two rests, the other side's part included. Where
 * rounds are long for other reasons any length is as good: it is over before there is anything to see.
 *
 * Private to one thread; begins with a length and the rounds until its first search, the rest zeroed. Include
 * ivgpu/ring.h, not this. */
#ifndef IVGPU_RING_REST_H
#define IVGPU_RING_REST_H

#ifndef IVGPU_RING_H
#error "include ivgpu/ring.h"
#endif

/* A search tries IVG_REST_LENGTHS from 0 to 176 steps (ring.h), close together where they are short, and then those
 * around the best. */
#define IVG_REST_FINE_LENGTHS 9u
#define IVG_REST_SWEEPS 8u              /* of a stage, through all its lengths */
#define IVG_REST_TRIAL_ROUNDS 64u       /* of each length in each sweep */
#define IVG_REST_CLEARLY 32u            /* a length that is better by less than 1/32 does not replace the one before */
#define IVG_REST_ROUNDS_KEPT_MIN 24576u /* after the first search, then twice as many each time, up to */
#define IVG_REST_ROUNDS_KEPT_MAX 393216u
/* The producer begins between two searches of the consumer: neither tries while the other does. */
#define IVG_REST_PRODUCER_BEGINS 20480u
/* Where both begin. Sides that look for the best length in turn come to rest at pairs, of which some are a tenth worse
 * than others; from this one they seldom do. Best in one complex of an EPYC 7003, elsewhere a start. */
#define IVG_REST_PRODUCER_LENGTH 16u
#define IVG_REST_CONSUMER_LENGTH 28u

/* The rounds of one trial, or those of a length that was kept, are over. Out of line: once in many. */
void ivg_rest_learn(struct ivg_rest *rest);

/* Between a write and the first look. Begins when the write has been seen by everybody, if a full barrier follows it.
 */
static inline void ivg_rest_pass(struct ivg_rest *rest)
{
        if (__builtin_expect(rest->rounds_left-- == 0, 0))
                ivg_rest_learn(rest);
        ivg_cpu_pass(rest->length);
}

#endif
