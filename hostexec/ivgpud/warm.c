/* Executors that wait for a program, per pool: their driver is started and has a context, which is most of a program's
 * start. Replaced in the background, one at a time; each serves one guest process and ends, like any other. */
#include "mediator.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_spare(const struct ivg_executor *executor, uint32_t pool)
{
        return !executor->channel && executor->pool == pool &&
               (executor->phase == IVG_EXECUTOR_WARMING || executor->phase == IVG_EXECUTOR_WAITING);
}

uint32_t ivg_warm_count(const struct ivg_mediator *mediator, uint32_t pool, enum ivg_executor_phase phase)
{
        uint32_t count = 0;

        for (const struct ivg_executor *executor = mediator->executors; executor; executor = executor->next)
                count += is_spare(executor, pool) && executor->phase == phase;
        return count;
}

/* A pool that nobody can use needs none. */
static bool pool_is_used(const struct ivg_mediator *mediator, uint32_t pool)
{
        const struct ivg_config *config = &mediator->config;

        if (config->local.socket[0] != '\0' && config->local.pool == pool)
                return true;
        for (uint32_t i = 0; i < config->vm_count; i++)
                if (ivg_config_has_vm(config, i) && config->vms[i].pool == pool)
                        return true;
        return false;
}

/* ---- more, or fewer ---- */

static void delay(struct ivg_warm *warm)
{
        warm->pause_ms = warm->pause_ms == 0 ? IVG_WARM_RETRY_MS : warm->pause_ms * 2;
        if (warm->pause_ms > IVG_WARM_RETRY_MS_MAX)
                warm->pause_ms = IVG_WARM_RETRY_MS_MAX;
        warm->next_start_ms = ivg_loop_now_ms() + warm->pause_ms;
}

static void start_one(struct ivg_mediator *mediator, uint32_t pool)
{
        struct ivg_warm *warm = &mediator->warm[pool];
        struct ivg_error error = {""};

        warm->begun++;
        if (ivg_executor_start_spare(mediator, pool, &error) == 0)
                return;
        ivg_log(IVG_EVENT_WARM_LOST, IVG_ABOUT_NOBODY, "[WARM] pool %s: %s", mediator->config.pools[pool].name,
                error.text);
        delay(warm);
}

static void end_surplus(struct ivg_mediator *mediator, uint32_t pool, uint32_t surplus)
{
        for (struct ivg_executor *executor = mediator->executors; executor && surplus > 0; executor = executor->next)
                if (is_spare(executor, pool)) {
                        ivg_executor_end(executor);
                        surplus--;
                }
}

/* Returns as a tick does. What else may change is an event: one waits, one is taken, one is gone, another number is
 * wanted. */
static uint64_t pool_fill(struct ivg_mediator *mediator, uint32_t pool, uint64_t now_ms)
{
        const struct ivg_warm *warm = &mediator->warm[pool];
        const uint32_t wanted = mediator->config.pools[pool].warm_executors;
        const uint32_t warming = ivg_warm_count(mediator, pool, IVG_EXECUTOR_WARMING);
        const uint32_t have = warming + ivg_warm_count(mediator, pool, IVG_EXECUTOR_WAITING);

        if (have > wanted)
                end_surplus(mediator, pool, have - wanted);
        if (have >= wanted || warming != 0 || (mediator->config.warm_once && warm->begun >= wanted))
                return IVG_TICK_NEVER;
        if (now_ms < warm->next_start_ms)
                return warm->next_start_ms;
        start_one(mediator, pool);
        return warm->next_start_ms > now_ms ? warm->next_start_ms : IVG_TICK_NEVER;
}

uint64_t ivg_warm_tick(struct ivg_mediator *mediator, uint64_t now_ms)
{
        uint64_t next_ms = IVG_TICK_NEVER;

        if (mediator->ending)
                return next_ms;
        for (uint32_t i = 0; i < mediator->config.pool_count; i++) {
                if (!ivg_mps_is_up(mediator, i))
                        continue; /* it would find no server, and not say so */
                if (pool_is_used(mediator, i))
                        next_ms = ivg_tick_earlier(next_ms, pool_fill(mediator, i, now_ms));
                else
                        ivg_warm_end_pool(mediator, i);
        }
        return next_ms;
}

void ivg_warm_end_pool(struct ivg_mediator *mediator, uint32_t pool)
{
        end_surplus(mediator, pool, UINT32_MAX);
}

void ivg_warm_end(struct ivg_mediator *mediator)
{
        for (uint32_t i = 0; i < mediator->config.pool_count; i++)
                ivg_warm_end_pool(mediator, i);
}

/* ---- what becomes of them ---- */

struct ivg_executor *ivg_warm_take(struct ivg_mediator *mediator, uint32_t pool)
{
        struct ivg_executor *found = NULL;

        /* One that still starts is ahead of one that would start now. */
        for (struct ivg_executor *executor = mediator->executors; executor; executor = executor->next)
                if (is_spare(executor, pool) && (!found || executor->phase == IVG_EXECUTOR_WAITING))
                        found = executor;
        return found;
}

void ivg_warm_waits(struct ivg_executor *executor, const struct ivg_exec_message *message)
{
        struct ivg_mediator *mediator = executor->mediator;

        mediator->warm[executor->pool].pause_ms = 0;
        ivg_log(IVG_EVENT_WARM_WAITS, ivg_about_executor(executor),
                "[WARM] pool %s: executor %d waits for a program (driver %d, %d devices)",
                mediator->config.pools[executor->pool].name, (int)executor->pid, message->driver_version,
                message->device_count);
}

void ivg_warm_lost(struct ivg_executor *executor, const char *how)
{
        struct ivg_mediator *mediator = executor->mediator;
        struct ivg_warm *warm = &mediator->warm[executor->pool];

        warm->lost++;
        delay(warm);
        ivg_log(IVG_EVENT_WARM_LOST, ivg_about_executor(executor),
                "[WARM] pool %s: %s before a program came; the next is started in %u ms",
                mediator->config.pools[executor->pool].name, how, warm->pause_ms);
}
