/* Between the meter's files: meter.c (who tells it what), meter_periods.c (events and what they tell), meter_thread.c.
 * The mutex is held by whoever calls these. */
#ifndef IVG_EXEC_METER_INTERNAL_H
#define IVG_EXEC_METER_INTERNAL_H

#include "meter.h"

/* ---- meter_periods.c; the context is current, but for the first ---- */

struct ivg_meter_context *ivg_meter_find_context(struct ivg_meter *meter, ivg_id id); /* NULL: not measured */
/* The same, measured from now on if it was not; NULL: more contexts than places, or no stream. */
struct ivg_meter_context *ivg_meter_take_context(struct ivg_exec *exec, ivg_id id, uint32_t device);
void ivg_meter_destroy_events(struct ivg_exec *exec, struct ivg_meter_context *context);
struct ivg_meter_period *ivg_meter_newest_period(struct ivg_meter_context *context); /* of those under way */
/* True when one is open, now or since earlier. */
bool ivg_meter_open_period(struct ivg_exec *exec, struct ivg_meter_context *context);
void ivg_meter_close_period(struct ivg_meter_context *context); /* it stays open while there is no place for another */
/* What has gone to the stream so far ends before the newest period's end in it. */
void ivg_meter_end_period_in(struct ivg_exec *exec, struct ivg_meter_context *context, CUstream stream);
/* Takes the time of those that have run; makes the context current. True when something is still under way. */
bool ivg_meter_collect(struct ivg_exec *exec, struct ivg_meter_context *context);

/* ---- meter.c ---- */

struct ivg_meter_view ivg_meter_publish(struct ivg_exec *exec, uint32_t device); /* on the board */
/* Calls that no period holds are done as far as anybody knows. */
void ivg_meter_count_by_estimate(struct ivg_meter_device *device);

#endif
