/* The search for how long to rest (ivgpu/ring_rest.h). */
#include "ivgpu/ring.h"

/* Those of the second stage, then the length before the search, to be measured beside them. */
static uint32_t count_of(const struct ivg_rest *rest)
{
        return rest->stage == IVG_REST_FINE ? IVG_REST_FINE_LENGTHS + 1 : IVG_REST_LENGTHS;
}

static uint32_t length_of(const struct ivg_rest *rest, uint32_t index)
{
        if (rest->stage == IVG_REST_COARSE)
                return index * index / 3;
        if (index == IVG_REST_FINE_LENGTHS)
                return rest->before;
        return rest->middle + index > IVG_REST_FINE_LENGTHS / 2 ? rest->middle + index - IVG_REST_FINE_LENGTHS / 2 : 0;
}

static uint32_t kept_after(uint32_t kept)
{
        if (kept == 0)
                return IVG_REST_ROUNDS_KEPT_MIN;
        return kept < IVG_REST_ROUNDS_KEPT_MAX ? 2 * kept : kept;
}

static void begin_stage(struct ivg_rest *rest, enum ivg_rest_stage stage)
{
        rest->stage = stage;
        rest->sweep = 0;
        rest->index = 0;
        rest->least_ticks = UINT64_MAX;
        for (uint32_t i = 0; i < IVG_REST_LENGTHS; i++)
                rest->ticks[i] = 0;
}

/* The first sweep tells only what a trial may take. One that takes much longer was interrupted, by something that is
 * not the length's fault. */
static void count_trial(struct ivg_rest *rest, uint64_t ticks)
{
        uint64_t ticks_max;

        if (ticks < rest->least_ticks)
                rest->least_ticks = ticks;
        ticks_max = rest->least_ticks + rest->least_ticks / 2;
        if (rest->sweep != 0)
                rest->ticks[rest->index] += ticks < ticks_max ? ticks : ticks_max;
}

static uint32_t best_of(const struct ivg_rest *rest)
{
        const uint32_t count = count_of(rest);
        uint32_t best = 0;

        for (uint32_t i = 1; i < count; i++)
                if (rest->ticks[i] < rest->ticks[best])
                        best = i;
        /* The other side has found its own length beside that before: it stays unless it is clearly worse. */
        if (rest->stage == IVG_REST_FINE &&
            rest->ticks[count - 1] - rest->ticks[best] <= rest->ticks[best] / IVG_REST_CLEARLY)
                best = count - 1;
        return length_of(rest, best);
}

static void keep(struct ivg_rest *rest, uint32_t length)
{
        rest->stage = IVG_REST_KEPT;
        rest->length = length;
        rest->rounds_kept = kept_after(rest->rounds_kept);
        rest->rounds_left = rest->rounds_kept - 1;
}

/* False: it was the last of its stage. */
static bool next_trial(struct ivg_rest *rest)
{
        if (++rest->index < count_of(rest))
                return true;
        rest->index = 0;
        return ++rest->sweep < IVG_REST_SWEEPS;
}

static void end_stage(struct ivg_rest *rest)
{
        const uint32_t best = best_of(rest);

        if (rest->stage == IVG_REST_FINE) {
                keep(rest, best);
        } else {
                rest->middle = best;
                begin_stage(rest, IVG_REST_FINE);
        }
}

void ivg_rest_learn(struct ivg_rest *rest)
{
        if (rest->stage == IVG_REST_KEPT) {
                rest->before = rest->length;
                begin_stage(rest, IVG_REST_COARSE);
        } else {
                count_trial(rest, ivg_cpu_ticks() - rest->begin_ticks);
                if (!next_trial(rest))
                        end_stage(rest);
        }
        if (rest->stage == IVG_REST_KEPT)
                return;
        rest->length = length_of(rest, rest->index);
        rest->rounds_left = IVG_REST_TRIAL_ROUNDS - 1;
        rest->begin_ticks = ivg_cpu_ticks();
}
