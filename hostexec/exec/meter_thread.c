/* The meter's thread: asks for the ends of periods while some are under way, sleeps otherwise; and the meter's own
 * begin and end. */
#include "meter_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <time.h>

/* ---- the thread ---- */

static bool collect_all(struct ivg_exec *exec)
{
        struct ivg_meter *meter = exec->meter;
        bool under_way = false;

        for (uint32_t i = 0; i < IVG_METER_CONTEXTS_MAX; i++)
                if (meter->contexts[i].id != IVG_ID_NONE)
                        under_way |= ivg_meter_collect(exec, &meter->contexts[i]);
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
                        ivg_meter_count_by_estimate(device);
                if (!device->touched)
                        continue;
                happened = true;
                device->touched = false;
                if (ivg_meter_publish(exec, i).inflight == 0)
                        ivg_gate_answer(exec, i, IVG_BOARD_ASK_IDLE);
        }
        return happened;
}

/* The mediator waits for the end of what is on some device, to let somebody else have it. */
static bool is_end_awaited(const struct ivg_exec *exec)
{
        for (uint32_t i = 0; i < IVG_BOARD_DEVICES_MAX; i++)
                if (ivg_gate_is_asked(exec, i, IVG_BOARD_ASK_IDLE))
                        return true;
        return false;
}

static void *meter_main(void *argument)
{
        struct ivg_exec *exec = argument;
        struct ivg_meter *meter = exec->meter;

        ivg_exec_thread_begins("ivgpu-meter");
        ivg_capture_mode_enter(exec, CU_STREAM_CAPTURE_MODE_RELAXED);
        while (!ivg_load_acquire_u32(&exec->stop)) {
                bool under_way, happened, timed_out;
                uint32_t seen;

                pthread_mutex_lock(&meter->mutex);
                under_way = collect_all(exec);
                happened = publish_all(exec);
                seen = ivg_load_relaxed_u32(&meter->wake);
                if (!under_way)
                        ivg_store_relaxed_u32(&meter->sleeping, happened ? IVG_METER_NAPS : IVG_METER_SLEEPS);
                pthread_mutex_unlock(&meter->mutex);
                if (under_way) {
                        const struct timespec pause = {.tv_nsec = is_end_awaited(exec) ? IVG_METER_LOOK_SOON_NS
                                                                                       : IVG_METER_LOOK_NS};

                        nanosleep(&pause, NULL);
                        continue;
                }
                ivg_futex_wait(&meter->wake, seen, happened ? IVG_METER_SAMPLE_EVERY_MS : IVG_METER_SLEEP_MS);
                timed_out = ivg_load_relaxed_u32(&meter->wake) == seen;
                if (timed_out || !happened) /* else a period has begun: it is measured already */
                        ivg_store_relaxed_u32(&meter->sample_due, 1); /* a flag by itself */
        }
        ivg_exec_thread_ends();
        return NULL;
}

void ivg_meter_wake(struct ivg_exec *exec)
{
        atomic_fetch_add_explicit(&exec->meter->wake, 1, memory_order_relaxed);
        ivg_store_relaxed_u32(&exec->meter->sleeping, IVG_METER_AWAKE);
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
