/* How long not to look. Who has written a line and looks at once for what the other side writes next takes the line
 * from it just then, and it has to fetch it back: a look too early costs one line's way or two, a look too late what it
 * is late. The best length depends on the processors, on how far they are apart and on what each side does between look
 * and write. So it is found by trying: some lengths for a few rounds each, then those around the best of them, and that
 * with which the rounds took least is kept for a while. A round is all that goes on between two rests, the other side's
 * part included. Where rounds are long for other reasons any length is as good: it is over before there is anything to
 * see.
 *
 * Private to one thread; zeroed, it begins. Include ivgpu/ring.h, not this. */
#ifndef IVGPU_RING_REST_H
#define IVGPU_RING_REST_H

#ifndef IVGPU_RING_H
#error "include ivgpu/ring.h"
#endif

/* A search tries lengths from 0 to 192 steps, close together where they are short, and then those around the best. */
#define IVG_REST_COARSE_TRIALS 24u
#define IVG_REST_COARSE_ROUNDS 256u /* of each */
#define IVG_REST_FINE_TRIALS 9u
#define IVG_REST_FINE_ROUNDS 512u
#define IVG_REST_ROUNDS_KEPT_MIN 12288u /* after the first search, then twice as many each time, up to */
#define IVG_REST_ROUNDS_KEPT_MAX 393216u
/* The producer begins in the middle between two searches of the consumer: neither tries while the other does. */
#define IVG_REST_PRODUCER_BEGINS 11776u

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
