/* Periods of the meter (meter.h): events around them, and what they tell when they have run. The mutex is held, and the
 * context is current. */
#include "meter_internal.h"

/* ---- contexts ---- */

struct ivg_meter_context *ivg_meter_find_context(struct ivg_meter *meter, ivg_id id)
{
        for (uint32_t i = 0; i < IVG_METER_CONTEXTS_MAX; i++)
                if (meter->contexts[i].id == id)
                        return &meter->contexts[i];
        return NULL;
}

struct ivg_meter_context *ivg_meter_take_context(struct ivg_exec *exec, ivg_id id, uint32_t device)
{
        struct ivg_meter_context *context = ivg_meter_find_context(exec->meter, id);

        if (context || id == IVG_ID_NONE)
                return context;
        context = ivg_meter_find_context(exec->meter, IVG_ID_NONE);
        if (!context)
                return NULL;
        *context = (struct ivg_meter_context){.device = device};
        if (exec->driver.cuStreamCreate(&context->stream, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS)
                return NULL;
        context->id = id;
        return context;
}

static bool record(struct ivg_exec *exec, CUevent *event, CUstream stream)
{
        if (!*event && exec->driver.cuEventCreate(event, CU_EVENT_DEFAULT) != CUDA_SUCCESS) {
                *event = NULL;
                return false;
        }
        return exec->driver.cuEventRecord(*event, stream) == CUDA_SUCCESS;
}

struct ivg_meter_period *ivg_meter_newest_period(struct ivg_meter_context *context)
{
        return &context->periods[(context->oldest + context->count - 1) % IVG_METER_PERIODS];
}

static void wake_thread(struct ivg_meter *meter)
{
        if (ivg_load_relaxed_u32(&meter->sleeping) == IVG_METER_AWAKE) /* written under the mutex */
                return;
        ivg_store_relaxed_u32(&meter->sleeping, IVG_METER_AWAKE);
        atomic_fetch_add_explicit(&meter->wake, 1, memory_order_relaxed);
        ivg_futex_wake_all(&meter->wake);
}

bool ivg_meter_open_period(struct ivg_exec *exec, struct ivg_meter_context *context)
{
        struct ivg_meter_period *period;

        if (context->open)
                return true;
        context->count++;
        period = ivg_meter_newest_period(context);
        period->stream_count = 0;
        period->calls = 0;
        period->begun_ns = ivg_clock_ns();
        period->blind = exec->meter->devices[context->device].blind;
        exec->meter->devices[context->device].blind = false;
        context->flushed_ns = 0;
        context->open = record(exec, &period->begin, context->stream);
        if (!context->open)
                context->count--;
        else
                wake_thread(exec->meter);
        return context->open;
}

/* One place is kept for the period before the oldest, which the oldest is compared with. */
void ivg_meter_close_period(struct ivg_meter_context *context)
{
        if (context->open && context->count < IVG_METER_PERIODS - 1)
                context->open = false;
}

void ivg_meter_end_period_in(struct ivg_exec *exec, struct ivg_meter_context *context, CUstream stream)
{
        struct ivg_meter_period *period = ivg_meter_newest_period(context);
        uint32_t place = 0;

        while (place < period->stream_count && period->streams[place] != stream)
                place++;
        if (place == IVG_METER_STREAMS)
                place = 0; /* its end so far is lost: the period could not be closed in time */
        if (!record(exec, &period->ends[place], stream))
                return;
        period->streams[place] = stream;
        if (place == period->stream_count)
                period->stream_count++;
}

void ivg_meter_destroy_events(struct ivg_exec *exec, struct ivg_meter_context *context)
{
        for (uint32_t i = 0; i < IVG_METER_PERIODS; i++) {
                struct ivg_meter_period *period = &context->periods[i];

                for (uint32_t j = 0; j < IVG_METER_STREAMS; j++)
                        if (period->ends[j])
                                exec->driver.cuEventDestroy_v2(period->ends[j]);
                if (period->begin)
                        exec->driver.cuEventDestroy_v2(period->begin);
        }
        exec->driver.cuStreamDestroy_v2(context->stream);
}

/* ---- periods that have ended ---- */

static CUresult elapsed(const struct ivg_exec *exec, CUevent from, CUevent to, uint64_t *ns)
{
        float ms = 0;
        const CUresult result = exec->driver.cuEventElapsedTime_v2 ? exec->driver.cuEventElapsedTime_v2(&ms, from, to)
                                                                   : exec->driver.cuEventElapsedTime(&ms, from, to);

        *ns = ms > 0 ? (uint64_t)(ms * 1e6f) : 0;
        return result;
}

/* False while something of it is under way. */
static bool period_done(struct ivg_exec *exec, const struct ivg_meter_period *period)
{
        for (uint32_t i = 0; i < period->stream_count; i++)
                if (exec->driver.cuEventQuery(period->ends[i]) == CUDA_ERROR_NOT_READY)
                        return false;
        return true; /* a broken context's work is over as well */
}

/* What cannot be measured (a broken context) counts by the clock. */
static uint64_t period_time(struct ivg_exec *exec, struct ivg_meter_context *context, struct ivg_meter_period *period)
{
        const struct ivg_meter_period *before =
                &context->periods[(context->oldest + IVG_METER_PERIODS - 1) % IVG_METER_PERIODS];
        uint64_t longest = 0, ns;

        for (uint32_t i = 0; i < period->stream_count; i++) {
                if (elapsed(exec, period->begin, period->ends[i], &ns) != CUDA_SUCCESS)
                        return ivg_clock_ns() - period->begun_ns;
                if (ns >= longest) {
                        longest = ns;
                        period->last = i;
                }
        }
        if (context->has_previous && period->stream_count > 0 && before->stream_count > 0 &&
            elapsed(exec, before->ends[before->last], period->ends[period->last], &ns) == CUDA_SUCCESS && ns < longest)
                longest = ns;
        return longest;
}

static void learn(struct ivg_meter_device *device, uint64_t ns, uint64_t calls)
{
        const uint64_t each = ns / calls;

        device->call_ns = device->measured_any ? device->call_ns - device->call_ns / 4 + each / 4 : each;
        if (device->call_ns == 0)
                device->call_ns = 1;
        device->measured_any = true;
}

/* True when something is still under way. */
bool ivg_meter_collect(struct ivg_exec *exec, struct ivg_meter_context *context)
{
        struct ivg_meter_device *device = &exec->meter->devices[context->device];

        if (context->count == 0)
                return false;
        if (context->open && context->flushed_ns != 0 && ivg_clock_ns() - context->flushed_ns > IVG_METER_GAP_NS)
                ivg_meter_close_period(context); /* nothing came since */
        while (context->count > (context->open ? 1u : 0u)) {
                struct ivg_meter_period *period = &context->periods[context->oldest];
                const bool was_known = device->measured_any;
                uint64_t ns;

                if (ivg_context_enter(exec, context->id) != CUDA_SUCCESS || !period_done(exec, period))
                        return true;
                ns = period_time(exec, context, period);
                if (period->blind && device->measured_any && ns > period->calls * device->call_ns)
                        ns = period->calls * device->call_ns; /* the wait for those before is counted already */
                device->measured_ns += ns;
                device->done += period->calls;
                device->touched = true;
                if (period->calls > 0 && !(period->blind && device->measured_any))
                        learn(device, ns, period->calls);
                device->measured_any &=
                        !period->blind || was_known; /* a first guess, until one has been measured alone */
                device->progress_ns = ivg_clock_ns();
                device->busy_since_ns = device->progress_ns; /* of what is left */
                context->has_previous = true;
                context->oldest = (context->oldest + 1) % IVG_METER_PERIODS;
                context->count--;
        }
        return context->count > 0;
}
