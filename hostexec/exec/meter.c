/* Whoever gives the device work tells the meter: the consumer before and after, lanes for what they do themselves. */
#include "chain.h"
#include "meter_internal.h"

/* ---- the board; the mutex is held ---- */

static uint64_t inflight_of(const struct ivg_meter_device *device)
{
        return ivg_load_relaxed_u64(&device->given) + device->lane_calls - device->done;
}

/* Relaxed: each word is true by itself, and looked at again soon. */
struct ivg_meter_view ivg_meter_publish(struct ivg_exec *exec, uint32_t index)
{
        struct ivg_meter_device *device = &exec->meter->devices[index];
        struct ivg_board_use *use = &exec->board->uses[index];
        const uint64_t inflight = inflight_of(device), now_ns = ivg_clock_ns();
        const struct ivg_meter_view view = {.used_ns = device->measured_ns + inflight * device->call_ns,
                                            .inflight = inflight,
                                            .call_ns = device->call_ns};

        if (inflight == 0)
                device->busy_since_ns = 0;
        else if (device->busy_since_ns == 0)
                device->busy_since_ns = device->progress_ns = now_ns;
        ivg_store_relaxed_u64(&use->gpu_ns, device->measured_ns);
        ivg_store_relaxed_u64(&use->busy_since_ns, device->busy_since_ns);
        ivg_store_relaxed_u64(&use->progress_ns, device->progress_ns);
        ivg_store_relaxed_u64(&use->calls, ivg_load_relaxed_u64(&device->given) + device->lane_calls);
        ivg_store_relaxed_u64(&use->inflight, inflight);
        ivg_store_relaxed_u64(&use->call_ns, device->call_ns);
        ivg_store_relaxed_u64(&use->used_ns, view.used_ns);
        return view;
}

void ivg_meter_count_by_estimate(struct ivg_meter_device *device)
{
        const uint64_t given = ivg_load_relaxed_u64(&device->given), calls = given - device->accounted;

        device->measured_ns += calls * device->call_ns;
        device->done += calls;
        device->accounted = given;
        device->touched |= calls != 0;
        device->blind |= calls != 0;
}

/* ---- the consumer ---- */

/* Calls since the last time belong to the open period; the mutex is held. */
static void flush(struct ivg_exec *exec, uint64_t now_ns)
{
        struct ivg_meter *meter = exec->meter;
        struct ivg_meter_context *context = ivg_meter_find_context(meter, meter->dirty_context);
        struct ivg_meter_device *device;

        if (meter->dirty_count == 0) { /* all that went is in a period */
                if (context && context->open && context->flushed_ns == 0)
                        context->flushed_ns = now_ns;
                return;
        }
        if (meter->dirty_context == IVG_ID_NONE || !context || ivg_context_enter(exec, context->id) != CUDA_SUCCESS ||
            !ivg_meter_open_period(exec, context)) {
                meter->dirty_count = 0; /* counted by estimate at the next look */
                return;
        }
        device = &meter->devices[context->device];
        ivg_meter_newest_period(context)->calls += ivg_load_relaxed_u64(&device->given) - device->accounted;
        device->accounted = ivg_load_relaxed_u64(&device->given);
        for (uint32_t i = 0; i < meter->dirty_count; i++)
                if (!ivg_capture_under_way(exec, meter->dirty[i]))
                        ivg_meter_end_period_in(exec, context, meter->dirty[i]);
        meter->dirty_count = 0;
        context->flushed_ns = now_ns;
}

void ivg_meter_flush_now(struct ivg_exec *exec)
{
        struct ivg_meter *meter = exec->meter;

        ivg_chains_issue(exec);
        ivg_gate_settle(exec);
        pthread_mutex_lock(&meter->mutex);
        flush(exec, ivg_clock_ns());
        pthread_mutex_unlock(&meter->mutex);
        exec->gate.free_calls = 0; /* the next call looks whether the period goes on */
        exec->gate.legacy_dirty = false;
}

/* An end costs a driver call, and the device a moment between two kernels. A program that comes again at once is given
 * no chance to lose that for each kernel: its pause shorter than IVG_METER_DELAY_NS is none. Not so long for a program
 * that has lately come later: its ends are recorded right behind its work, so that they tell the work's time and not
 * ours; nor once ends are as old as a period, as records that give the device nothing may come for ever. */
bool ivg_meter_pause_now(struct ivg_exec *exec, uint64_t begin_ns, uint64_t now_ns)
{
        const struct ivg_meter *meter = exec->meter;

        if (meter->dirty_count > 0 && exec->gate.expects_more && !exec->gate.windowed &&
            now_ns - begin_ns < IVG_METER_DELAY_NS && now_ns - meter->dirty_since_ns < IVG_METER_PERIOD_NS)
                return false;
        ivg_meter_flush_now(exec);
        return true;
}

void ivg_meter_note_stream(struct ivg_exec *exec, ivg_id context, CUstream stream)
{
        struct ivg_meter *meter = exec->meter;
        uint32_t place = 0;

        if (meter->dirty_context != context) {
                if (meter->dirty_count > 0)
                        ivg_meter_flush_now(exec);
                meter->dirty_context = context;
        }
        while (place < meter->dirty_count && meter->dirty[place] != stream)
                place++;
        if (place < meter->dirty_count)
                return;
        if (place == IVG_METER_STREAMS) {
                ivg_meter_flush_now(exec);
                place = 0;
        }
        if (place == 0)
                meter->dirty_since_ns = ivg_clock_ns();
        meter->dirty[place] = stream;
        meter->dirty_count = place + 1;
        exec->gate.legacy_dirty |= stream == CU_STREAM_LEGACY;
}

struct ivg_meter_view ivg_meter_update(struct ivg_exec *exec, ivg_id id, uint32_t index, bool metering, bool close,
                                       bool begin)
{
        struct ivg_meter *meter = exec->meter;
        struct ivg_meter_context *context;
        const uint64_t now_ns = ivg_clock_ns();
        struct ivg_meter_view view;

        pthread_mutex_lock(&meter->mutex);
        if (begin) /* waiting may have made another one current */
                (void)ivg_context_enter(exec, id);
        if (meter->metering && meter->dirty_count > 0)
                flush(exec, now_ns);
        if (!begin) /* else the first call is the period's */
                ivg_meter_count_by_estimate(&meter->devices[index]);
        meter->metering = metering && meter->usable;
        context = meter->usable ? ivg_meter_find_context(meter, id) : NULL;
        if (context && context->open) {
                const uint64_t idle_ns =
                        context->flushed_ns && context->flushed_ns < now_ns ? now_ns - context->flushed_ns : 0;

                if (close || !metering || idle_ns > IVG_METER_GAP_NS ||
                    now_ns - ivg_meter_newest_period(context)->begun_ns >= IVG_METER_PERIOD_NS)
                        ivg_meter_close_period(context);
        }
        if (meter->metering && begin) {
                context = ivg_meter_take_context(exec, id, index);
                if (!context || !ivg_meter_open_period(exec, context))
                        meter->metering = false; /* more contexts than places, or no memory */
                else
                        context->flushed_ns = 0;
        }
        view = ivg_meter_publish(exec, index);
        pthread_mutex_unlock(&meter->mutex);
        return view;
}

struct ivg_meter_view ivg_meter_look(struct ivg_exec *exec, uint32_t index)
{
        struct ivg_meter *meter = exec->meter;
        struct ivg_meter_view view;

        pthread_mutex_lock(&meter->mutex);
        for (uint32_t i = 0; i < IVG_METER_CONTEXTS_MAX; i++)
                if (meter->contexts[i].id != IVG_ID_NONE && meter->contexts[i].device == index)
                        (void)ivg_meter_collect(exec, &meter->contexts[i]);
        view = ivg_meter_publish(exec, index);
        pthread_mutex_unlock(&meter->mutex);
        return view;
}

/* ---- lanes ---- */

void ivg_meter_lane_call(struct ivg_exec *exec, ivg_id id, uint32_t index, CUstream stream)
{
        struct ivg_meter *meter = exec->meter;
        struct ivg_meter_device *device = &meter->devices[index];
        struct ivg_meter_context *context = NULL;

        if (ivg_capture_under_way(exec, stream)) /* nothing has gone to the device */
                return;
        pthread_mutex_lock(&meter->mutex);
        device->lane_calls++;
        if (meter->usable && ivg_context_enter(exec, id) == CUDA_SUCCESS)
                context = ivg_meter_take_context(exec, id, index);
        if (context && ivg_meter_open_period(exec, context)) {
                ivg_meter_newest_period(context)->calls++;
                ivg_meter_end_period_in(exec, context, stream);
                context->flushed_ns = ivg_clock_ns();
        } else {
                device->measured_ns += device->call_ns;
                device->done++;
        }
        ivg_meter_publish(exec, index);
        pthread_mutex_unlock(&meter->mutex);
}

/* ---- the end of a context: it is current, and its events are about to end with it ---- */

void ivg_meter_context_ends(struct ivg_exec *exec, ivg_id id)
{
        struct ivg_meter *meter = exec->meter;
        struct ivg_meter_context *context;

        if (!meter || id == IVG_ID_NONE)
                return;
        pthread_mutex_lock(&meter->mutex);
        context = ivg_meter_find_context(meter, id);
        if (context) {
                struct ivg_meter_device *device = &meter->devices[context->device];

                context->open = false;
                while (ivg_meter_collect(exec, context)) { /* what does not end now counts by the clock */
                        struct ivg_meter_period *period = &context->periods[context->oldest];

                        device->measured_ns += ivg_clock_ns() - period->begun_ns;
                        device->done += period->calls;
                        context->oldest = (context->oldest + 1) % IVG_METER_PERIODS;
                        context->count--;
                        context->has_previous = false;
                }
                ivg_meter_destroy_events(exec, context);
                context->id = IVG_ID_NONE;
                ivg_meter_publish(exec, context->device);
        }
        pthread_mutex_unlock(&meter->mutex);
}
