/* The search for how long to rest (ivgpu/ring_rest.h). */
#include "ivgpu/ring.h"

#define TRIALS (IVG_REST_COARSE_TRIALS + IVG_REST_FINE_TRIALS)

/* Trials are numbered from 1 on. */
static uint32_t length_of(uint32_t trial, uint32_t middle)
{
        uint32_t fine;

        if (trial <= IVG_REST_COARSE_TRIALS)
                return trial * trial / 3;
        fine = middle + trial - (IVG_REST_COARSE_TRIALS + 1);
        return fine > IVG_REST_FINE_TRIALS / 2 ? fine - IVG_REST_FINE_TRIALS / 2 : 0;
}

static uint32_t kept_after(uint32_t kept)
{
        if (kept == 0)
                return IVG_REST_ROUNDS_KEPT_MIN;
        return kept < IVG_REST_ROUNDS_KEPT_MAX ? 2 * kept : kept;
}

void ivg_rest_learn(struct ivg_rest *rest)
{
        const uint64_t now = ivg_cpu_ticks();

        if (rest->trial != 0 && now - rest->begin_ticks < rest->best_ticks) {
                rest->best_ticks = now - rest->begin_ticks;
                rest->best = rest->length;
        }
        if (rest->trial == TRIALS) {
                rest->trial = 0;
                rest->length = rest->best;
                rest->rounds_kept = kept_after(rest->rounds_kept);
                rest->rounds_left = rest->rounds_kept - 1;
        } else {
                if (rest->trial == 0 || rest->trial == IVG_REST_COARSE_TRIALS) {
                        rest->middle = rest->best;
                        rest->best_ticks = UINT64_MAX;
                }
                rest->trial++;
                rest->length = length_of(rest->trial, rest->middle);
                rest->rounds_left =
                        (rest->trial <= IVG_REST_COARSE_TRIALS ? IVG_REST_COARSE_ROUNDS : IVG_REST_FINE_ROUNDS) - 1;
        }
        rest->begin_ticks = now;
}
