#include "meter.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- the board; the mutex is held ---- */

static uint64_t inflight_of(const struct ivg_meter_device *device)
{
        return ivg_load_relaxed_u64(&device->given) + device->lane_calls - device->done;
}

/* Relaxed: each word is true by itself, and looked at again soon. */
static struct ivg_meter_view publish(struct ivg_exec *exec, uint32_t index)
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

/* Calls that no period holds are done as far as anybody knows. */
static void count_by_estimate(struct ivg_meter_device *device)
{
        const uint64_t given = ivg_load_relaxed_u64(&device->given), calls = given - device->accounted;

        device->measured_ns += calls * device->call_ns;
        device->done += calls;
        device->accounted = given;
        device->touched |= calls != 0;
}

/* ---- contexts and their events; the mutex is held, the context is current ---- */

static struct ivg_meter_context *find_context(struct ivg_meter *meter, ivg_id id)
{
        for (uint32_t i = 0; i < IVG_METER_CONTEXTS_MAX; i++)
                if (meter->contexts[i].id == id)
                        return &meter->contexts[i];
        return NULL;
}

static struct ivg_meter_context *take_context(struct ivg_exec *exec, ivg_id id, uint32_t device)
{
        struct ivg_meter_context *context = find_context(exec->meter, id);

        if (context || id == IVG_ID_NONE)
                return context;
        context = find_context(exec->meter, IVG_ID_NONE);
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

static struct ivg_meter_period *newest(struct ivg_meter_context *context)
{
        return &context->periods[(context->oldest + context->count - 1) % IVG_METER_PERIODS];
}

static void wake_thread(struct ivg_meter *meter)
{
        if (!ivg_load_relaxed_u32(&meter->sleeping)) /* written under the mutex */
                return;
        ivg_store_relaxed_u32(&meter->sleeping, 0);
        atomic_fetch_add_explicit(&meter->wake, 1, memory_order_relaxed);
        ivg_futex_wake_all(&meter->wake);
}

static bool period_open(struct ivg_exec *exec, struct ivg_meter_context *context)
{
        struct ivg_meter_period *period;

        if (context->open)
                return true;
        context->count++;
        period = newest(context);
        period->stream_count = 0;
        period->calls = 0;
        period->begun_ns = ivg_clock_ns();
        context->flushed_ns = 0;
        context->open = record(exec, &period->begin, context->stream);
        if (!context->open)
                context->count--;
        else
                wake_thread(exec->meter);
        return context->open;
}

/* One place is kept for the period before the oldest, which the oldest is compared with. */
static void period_close(struct ivg_meter_context *context)
{
        if (context->open && context->count < IVG_METER_PERIODS - 1)
                context->open = false;
}

static void period_end_in(struct ivg_exec *exec, struct ivg_meter_context *context, CUstream stream)
{
        struct ivg_meter_period *period = newest(context);
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

static void events_destroy(struct ivg_exec *exec, struct ivg_meter_context *context)
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

/* ---- periods that have ended; the mutex is held ---- */

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
static bool collect(struct ivg_exec *exec, struct ivg_meter_context *context)
{
        struct ivg_meter_device *device = &exec->meter->devices[context->device];

        if (context->count == 0)
                return false;
        if (context->open && context->flushed_ns != 0 && ivg_clock_ns() - context->flushed_ns > IVG_METER_GAP_NS)
                period_close(context); /* nothing came since */
        while (context->count > (context->open ? 1u : 0u)) {
                struct ivg_meter_period *period = &context->periods[context->oldest];
                uint64_t ns;

                if (ivg_context_enter(exec, context->id) != CUDA_SUCCESS || !period_done(exec, period))
                        return true;
                ns = period_time(exec, context, period);
                device->measured_ns += ns;
                device->done += period->calls;
                device->touched = true;
                if (period->calls > 0)
                        learn(device, ns, period->calls);
                device->progress_ns = ivg_clock_ns();
                device->busy_since_ns = device->progress_ns; /* of what is left */
                context->has_previous = true;
                context->oldest = (context->oldest + 1) % IVG_METER_PERIODS;
                context->count--;
        }
        return context->count > 0;
}

/* ---- the consumer ---- */

/* Calls since the last time belong to the open period; the mutex is held. */
static void flush(struct ivg_exec *exec, uint64_t now_ns)
{
        struct ivg_meter *meter = exec->meter;
        struct ivg_meter_context *context = find_context(meter, meter->dirty_context);
        struct ivg_meter_device *device;

        if (meter->dirty_count == 0) { /* all that went is in a period */
                if (context && context->open && context->flushed_ns == 0)
                        context->flushed_ns = now_ns;
                return;
        }
        if (meter->dirty_context == IVG_ID_NONE || !context || ivg_context_enter(exec, context->id) != CUDA_SUCCESS ||
            !period_open(exec, context)) {
                meter->dirty_count = 0; /* counted by estimate at the next look */
                return;
        }
        device = &meter->devices[context->device];
        newest(context)->calls += ivg_load_relaxed_u64(&device->given) - device->accounted;
        device->accounted = ivg_load_relaxed_u64(&device->given);
        for (uint32_t i = 0; i < meter->dirty_count; i++)
                if (!ivg_capture_under_way(exec, meter->dirty[i]))
                        period_end_in(exec, context, meter->dirty[i]);
        meter->dirty_count = 0;
        context->flushed_ns = now_ns;
}

void ivg_meter_flush_now(struct ivg_exec *exec)
{
        struct ivg_meter *meter = exec->meter;

        ivg_gate_settle(exec);
        pthread_mutex_lock(&meter->mutex);
        flush(exec, ivg_clock_ns());
        pthread_mutex_unlock(&meter->mutex);
        exec->gate.free_calls = 0; /* the next call looks whether the period goes on */
        exec->gate.legacy_dirty = false;
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
                count_by_estimate(&meter->devices[index]);
        meter->metering = metering && meter->usable;
        context = meter->usable ? find_context(meter, id) : NULL;
        if (context && context->open) {
                const uint64_t idle_ns =
                        context->flushed_ns && context->flushed_ns < now_ns ? now_ns - context->flushed_ns : 0;

                if (close || !metering || idle_ns > IVG_METER_GAP_NS ||
                    now_ns - newest(context)->begun_ns >= IVG_METER_PERIOD_NS)
                        period_close(context);
        }
        if (meter->metering && begin) {
                context = take_context(exec, id, index);
                if (!context || !period_open(exec, context))
                        meter->metering = false; /* more contexts than places, or no memory */
                else
                        context->flushed_ns = 0;
        }
        view = publish(exec, index);
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
                        (void)collect(exec, &meter->contexts[i]);
        view = publish(exec, index);
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
                context = take_context(exec, id, index);
        if (context && period_open(exec, context)) {
                newest(context)->calls++;
                period_end_in(exec, context, stream);
                context->flushed_ns = ivg_clock_ns();
        } else {
                device->measured_ns += device->call_ns;
                device->done++;
        }
        publish(exec, index);
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
        context = find_context(meter, id);
        if (context) {
                struct ivg_meter_device *device = &meter->devices[context->device];

                context->open = false;
                while (collect(exec, context)) { /* what does not end now counts by the clock */
                        struct ivg_meter_period *period = &context->periods[context->oldest];

                        device->measured_ns += ivg_clock_ns() - period->begun_ns;
                        device->done += period->calls;
                        context->oldest = (context->oldest + 1) % IVG_METER_PERIODS;
                        context->count--;
                        context->has_previous = false;
                }
                events_destroy(exec, context);
                context->id = IVG_ID_NONE;
                publish(exec, context->device);
        }
        pthread_mutex_unlock(&meter->mutex);
}

/* ---- the thread ---- */

static bool collect_all(struct ivg_exec *exec)
{
        struct ivg_meter *meter = exec->meter;
        bool under_way = false;

        for (uint32_t i = 0; i < IVG_METER_CONTEXTS_MAX; i++)
                if (meter->contexts[i].id != IVG_ID_NONE)
                        under_way |= collect(exec, &meter->contexts[i]);
        return under_way;
}

/* True when something has happened since the last look. */
static bool publish_all(struct ivg_exec *exec)
{
        struct ivg_meter *meter = exec->meter;
        bool happened = false;

        for (uint32_t i = 0; i < IVG_BOARD_DEVICES_MAX; i++) {
                struct ivg_meter_device *device = &meter->devices[i];

                if (!meter->metering)
                        count_by_estimate(device);
                if (!device->touched)
                        continue;
                happened = true;
                device->touched = false;
                if (publish(exec, i).inflight == 0)
                        ivg_gate_answer(exec, i, IVG_BOARD_ASK_IDLE);
        }
        return happened;
}

static void *meter_main(void *argument)
{
        const struct timespec pause = {.tv_nsec = IVG_METER_LOOK_NS};
        struct ivg_exec *exec = argument;
        struct ivg_meter *meter = exec->meter;

        ivg_exec_thread_begins("ivgpu-meter");
        ivg_capture_mode_enter(exec, CU_STREAM_CAPTURE_MODE_RELAXED);
        while (!ivg_load_acquire_u32(&exec->stop)) {
                bool under_way, happened;
                uint32_t seen;

                pthread_mutex_lock(&meter->mutex);
                under_way = collect_all(exec);
                happened = publish_all(exec);
                seen = ivg_load_relaxed_u32(&meter->wake);
                if (!under_way && !happened)
                        ivg_store_relaxed_u32(&meter->sleeping, 1);
                pthread_mutex_unlock(&meter->mutex);
                if (under_way) {
                        nanosleep(&pause, NULL);
                        continue;
                }
                ivg_futex_wait(&meter->wake, seen, happened ? IVG_METER_SAMPLE_EVERY_MS : IVG_METER_SLEEP_MS);
                ivg_store_relaxed_u32(&meter->sample_due, 1); /* a flag by itself */
        }
        ivg_exec_thread_ends();
        return NULL;
}

void ivg_meter_wake(struct ivg_exec *exec)
{
        atomic_fetch_add_explicit(&exec->meter->wake, 1, memory_order_relaxed);
        ivg_store_relaxed_u32(&exec->meter->sleeping, 0);
        ivg_futex_wake_all(&exec->meter->wake);
}

/* ---- begin and end ---- */

int ivg_meter_create(struct ivg_exec *exec)
{
        struct ivg_meter *meter = calloc(1, sizeof(*meter));

        if (!meter)
                return -ENOMEM;
        pthread_mutex_init(&meter->mutex, NULL);
        for (uint32_t i = 0; i < IVG_BOARD_DEVICES_MAX; i++)
                meter->devices[i].call_ns = IVG_METER_CALL_NS;
        exec->meter = meter;
        return 0;
}

int ivg_meter_start(struct ivg_exec *exec)
{
        const struct ivg_driver *driver = &exec->driver;
        int error;

        exec->meter->usable = driver->cuStreamCreate && driver->cuStreamDestroy_v2 && driver->cuEventCreate &&
                              driver->cuEventRecord && driver->cuEventQuery && driver->cuEventDestroy_v2 &&
                              (driver->cuEventElapsedTime || driver->cuEventElapsedTime_v2);
        if (!exec->meter->usable)
                ivg_log(IVG_LOG_WARNING, "the driver lacks events: GPU time is counted by calls");
        error = pthread_create(&exec->meter->thread, NULL, meter_main, exec);
        exec->meter->started = error == 0;
        return -error;
}

bool ivg_meter_gone(struct ivg_exec *exec)
{
        if (!exec->meter->started)
                return true;
        ivg_meter_wake(exec);
        if (pthread_tryjoin_np(exec->meter->thread, NULL) == 0)
                exec->meter->started = false;
        return !exec->meter->started;
}

void ivg_meter_destroy(struct ivg_exec *exec)
{
        if (!exec->meter)
                return;
        pthread_mutex_destroy(&exec->meter->mutex);
        free(exec->meter);
        exec->meter = NULL;
}
