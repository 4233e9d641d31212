#include "policy.h"
#include <stddef.h>

#define MS 1000000ull
/* Virtual time of weight 100 is charged time; weights below run faster. */
#define WEIGHT_SCALE 100u
/* Reports come late by a little: time that passed without a charge may be charged until then. */
#define BUDGET_CARRIED_NS (4 * MS)
/* A device that is busy for less than this part of the time idles, and has room for one more. */
#define IDLE_PERCENT 75u
#define IDLE_LOOK_NS (32 * MS)
#define EXTRA_STAYS 4u /* such looks */
#define EXTRA_MAX 64u

/* Several at once: a device idles less, and its own time slices (about 2 ms on an H200 without MPS) divide it. A
 * quantum of that length decides often enough for 10 ms of reaction, and is long against a mediator's wake-up (50 us).
 */
const struct ivg_sched_settings ivg_sched_fair = {.running_max = 4,
                                                  .quantum_ns = 2 * MS,
                                                  .tick_ns = 1 * MS,
                                                  .linger_ns = 1 * MS,
                                                  .starve_ns = 100 * MS,
                                                  .queue_ns = 4 * MS,
                                                  .queue_below_ns = MS / 2};
/* One at a time. A change costs about 0.4 ms (0.15 of the device's own on an H200, the rest to see the end and to wake
 * the next): 3 to 5 % of a round of two to four. Within a quantum, and what may be queued before it, one that was idle
 * is served again: below 10 ms. Silent for longer than a program needs between a wait and its next launch (some 60 us
 * with a pause of its own): the turn is over. */
const struct ivg_sched_settings ivg_sched_turns = {.running_max = 1,
                                                   .drain = true,
                                                   .drain_ns = 20 * MS,
                                                   .quantum_ns = 2 * MS,
                                                   .round_ns = 24 * MS,
                                                   .tail_ns = 3 * MS / 10,
                                                   .rest_ns = MS / 5,
                                                   .change_ns = MS / 5,
                                                   .tick_ns = MS / 4,
                                                   .linger_ns = MS / 5,
                                                   .starve_ns = 100 * MS,
                                                   .queue_ns = 4 * MS,
                                                   .queue_below_ns = MS / 2};

void ivg_sched_device_init(struct ivg_sched_device *device, const struct ivg_sched_settings *settings, uint64_t now_ns)
{
        *device = (struct ivg_sched_device){.settings = *settings, .now_ns = now_ns};
}

static void cut_turns(struct ivg_sched_device *device)
{
        for (struct ivg_sched_vm *vm = device->vms; vm; vm = vm->next)
                if (vm->left_ns > device->settings.quantum_ns)
                        vm->left_ns = device->settings.quantum_ns;
}

void ivg_sched_device_change(struct ivg_sched_device *device, const struct ivg_sched_settings *settings)
{
        device->settings = *settings;
        device->extra = 0;
        cut_turns(device);
}

void ivg_sched_vm_add(struct ivg_sched_device *device, struct ivg_sched_vm *vm)
{
        vm->next = device->vms;
        vm->priority_seen = vm->priority;
        device->vms = vm;
}

void ivg_sched_vm_remove(struct ivg_sched_device *device, struct ivg_sched_vm *vm)
{
        struct ivg_sched_vm **link = &device->vms;

        while (*link != vm)
                link = &(*link)->next;
        *link = vm->next;
        if (device->owner == vm)
                device->owner = NULL;
        if (vm->rescued) /* its place is free again */
                device->rescue_after_ns = device->now_ns;
}

void ivg_sched_client_add(struct ivg_sched_device *device, struct ivg_sched_vm *vm, struct ivg_sched_client *client)
{
        client->vm = vm;
        client->next = vm->clients;
        client->silent_since_ns = device->now_ns;
        vm->clients = client;
}

void ivg_sched_client_remove(struct ivg_sched_device *device, struct ivg_sched_client *client)
{
        struct ivg_sched_client **link = &client->vm->clients;

        (void)device;
        while (*link != client)
                link = &(*link)->next;
        *link = client->next;
}

/* ---- what has happened since the last look ---- */

static void charge(struct ivg_sched_device *device, struct ivg_sched_vm *vm, uint64_t ns)
{
        const uint64_t free_ns = vm->free_ns < ns ? vm->free_ns : ns;

        vm->free_ns -= free_ns;
        ns -= free_ns;
        device->charged_ns += ns;
        vm->charged_ns += ns;
        vm->virtual_ns += ns * WEIGHT_SCALE / vm->weight;
        vm->left_ns = vm->left_ns > ns ? vm->left_ns - ns : 0;
}

/* Whose turn it is, or was: none other can have used the device. NULL: nobody's. */
static struct ivg_sched_vm *find_holder(const struct ivg_sched_device *device)
{
        struct ivg_sched_vm *leaving = NULL;

        for (struct ivg_sched_vm *vm = device->vms; vm; vm = vm->next) {
                if (vm->runs)
                        return vm;
                if (vm->drains)
                        leaving = vm;
        }
        return leaving;
}

/* What a client is to be charged, before it is scaled to the time that has passed. */
static uint64_t claim(const struct ivg_sched_vm *vm, const struct ivg_sched_vm *holder,
                      const struct ivg_sched_client *client, uint64_t passed_ns)
{
        const uint64_t measured = client->gpu_ns > client->gpu_seen_ns ? client->gpu_ns - client->gpu_seen_ns : 0;

        return vm == holder && client == vm->clients && measured < passed_ns ? passed_ns : measured;
}

/* Looked at over IDLE_LOOK_NS: what a client's work under way seems to have taken is put right when it has been
 * measured. In at once, out slowly: while they fill the device it looks as busy as with too many. */
static void count_extra(struct ivg_sched_device *device, uint64_t passed_ns)
{
        for (struct ivg_sched_vm *vm = device->vms; vm; vm = vm->next)
                for (struct ivg_sched_client *client = vm->clients; client; client = client->next) {
                        device->idle_busy_ns += (int64_t)(client->gpu_ns - client->gpu_before_ns);
                        client->gpu_before_ns = client->gpu_ns;
                }
        device->idle_passed_ns += passed_ns;
        if (device->idle_passed_ns < IDLE_LOOK_NS)
                return;
        if (device->idle_busy_ns * 100 >= (int64_t)(device->idle_passed_ns * IDLE_PERCENT))
                device->extra -= device->extra > 0;
        else if (!device->settings.drain && device->extra < EXTRA_MAX * EXTRA_STAYS)
                device->extra += EXTRA_STAYS;
        device->idle_passed_ns = 0;
        device->idle_busy_ns = 0;
}

static void charge_all(struct ivg_sched_device *device, uint64_t passed_ns)
{
        const struct ivg_sched_vm *holder = device->settings.drain ? find_holder(device) : NULL;
        uint64_t total = 0, carried = device->budget_ns < BUDGET_CARRIED_NS ? device->budget_ns : BUDGET_CARRIED_NS;
        double part;

        for (struct ivg_sched_vm *vm = device->vms; vm; vm = vm->next)
                for (struct ivg_sched_client *client = vm->clients; client; client = client->next)
                        total += claim(vm, holder, client, passed_ns);
        device->budget_ns = passed_ns + carried;
        part = total > device->budget_ns ? (double)device->budget_ns / (double)total : 1;
        for (struct ivg_sched_vm *vm = device->vms; vm; vm = vm->next)
                for (struct ivg_sched_client *client = vm->clients; client; client = client->next) {
                        charge(device, vm, (uint64_t)((double)claim(vm, holder, client, passed_ns) * part));
                        if (client->gpu_ns > client->gpu_seen_ns)
                                client->gpu_seen_ns = client->gpu_ns;
                }
        device->budget_ns -= total < device->budget_ns ? total : device->budget_ns;
}

static bool look_at_client(const struct ivg_sched_device *device, struct ivg_sched_client *client)
{
        if (client->busy || client->waiting || client->calls != client->calls_seen) {
                client->calls_seen = client->calls;
                client->silent_since_ns = device->now_ns;
                client->wants = true;
        } else if (device->now_ns - client->silent_since_ns >= device->settings.linger_ns) {
                client->wants = false;
        }
        return client->wants;
}

static void look_at_vm(struct ivg_sched_device *device, struct ivg_sched_vm *vm)
{
        bool wants = false;

        for (struct ivg_sched_client *client = vm->clients; client; client = client->next)
                wants |= look_at_client(device, client);
        wants &= !vm->paused;
        if (vm->priority != vm->priority_seen) { /* the classes' times have nothing to do with each other */
                vm->priority_seen = vm->priority;
                vm->virtual_ns = device->floor_ns[vm->priority];
        }
        if (wants && !vm->wants) {
                vm->waits_since_ns = device->now_ns;
                cut_turns(device);
                if (vm->virtual_ns < device->floor_ns[vm->priority])
                        vm->virtual_ns = device->floor_ns[vm->priority];
        }
        vm->wants = wants;
}

/* A class's time is that of its last VM; it does not go back. */
static void raise_floors(struct ivg_sched_device *device)
{
        uint64_t lowest[IVG_SCHED_CLASSES] = {UINT64_MAX, UINT64_MAX, UINT64_MAX};

        for (const struct ivg_sched_vm *vm = device->vms; vm; vm = vm->next)
                if (vm->wants && vm->virtual_ns < lowest[vm->priority])
                        lowest[vm->priority] = vm->virtual_ns;
        for (uint32_t class = 0; class < IVG_SCHED_CLASSES; class ++)
                if (lowest[class] != UINT64_MAX && lowest[class] > device->floor_ns[class])
                        device->floor_ns[class] = lowest[class];
}

/* ---- who runs ---- */

struct view {                      /* of the VMs, once a run */
        uint32_t present, wanting; /* VMs with clients; of them those that want */
        int top, top_present;      /* the highest class that wants, that is there; -1: none */
        uint32_t top_wanting;      /* VMs that want in that class */
        uint64_t top_weight;       /* theirs in all */
        uint64_t behind_ns;        /* the least virtual time there */
        bool draining;
};

/* More than the next one need wait for. */
static bool has_work(const struct ivg_sched_device *device, const struct ivg_sched_vm *vm)
{
        for (const struct ivg_sched_client *client = vm->clients; client; client = client->next)
                if (client->busy &&
                    (client->used_ns < client->gpu_ns || client->used_ns - client->gpu_ns > device->settings.rest_ns))
                        return true;
        return false;
}

static void look_around(const struct ivg_sched_device *device, struct view *view)
{
        *view = (struct view){.top = -1, .top_present = -1, .behind_ns = UINT64_MAX};
        for (const struct ivg_sched_vm *vm = device->vms; vm; vm = vm->next) {
                if (!vm->clients)
                        continue;
                view->present++;
                if ((int)vm->priority > view->top_present)
                        view->top_present = (int)vm->priority;
                if (!vm->wants)
                        continue;
                view->wanting++;
                if ((int)vm->priority > view->top) {
                        view->top = (int)vm->priority;
                        view->top_wanting = 0;
                        view->top_weight = 0;
                        view->behind_ns = UINT64_MAX;
                }
                if ((int)vm->priority == view->top) {
                        view->top_wanting++;
                        view->top_weight += vm->weight;
                        if (vm->virtual_ns < view->behind_ns)
                                view->behind_ns = vm->virtual_ns;
                }
        }
}

static uint64_t quantum_of(const struct ivg_sched_device *device, const struct view *view,
                           const struct ivg_sched_vm *vm)
{
        const uint64_t part = (int)vm->priority == view->top && view->top_weight
                                      ? device->settings.round_ns * vm->weight / view->top_weight
                                      : 0;

        return part > device->settings.quantum_ns ? part : device->settings.quantum_ns;
}

static void start(struct ivg_sched_device *device, const struct view *view, struct ivg_sched_vm *vm, bool rescued)
{
        /* One that goes on has its turn prolonged: nobody who waits is to wait for another whole one. */
        vm->left_ns = rescued || vm->drains ? device->settings.quantum_ns : quantum_of(device, view, vm);
        if (!vm->drains)
                vm->free_ns = device->settings.change_ns;
        vm->runs = true;
        vm->rescued = rescued;
        vm->drains = false;
        if (rescued)
                device->rescue_after_ns = UINT64_MAX; /* one at a time */
}

static void stop(struct ivg_sched_device *device, struct ivg_sched_vm *vm)
{
        if (vm->rescued)
                device->rescue_after_ns = device->now_ns + (IVG_SCHED_RESCUE_EVERY - 1) * device->settings.quantum_ns;
        vm->runs = vm->rescued = false;
        vm->waits_since_ns = device->now_ns;
        vm->drains = true;
        vm->drains_until_ns = device->now_ns + device->settings.drain_ns;
}

static uint32_t stop_all_due(struct ivg_sched_device *device, struct view *view)
{
        uint32_t running = 0;

        for (struct ivg_sched_vm *vm = device->vms; vm; vm = vm->next) {
                if (vm->runs && (!vm->wants || vm->left_ns == 0 || ((int)vm->priority < view->top && !vm->rescued)))
                        stop(device, vm);
                if (vm->drains && (!has_work(device, vm) || device->now_ns >= vm->drains_until_ns))
                        vm->drains = false;
                view->draining |= vm->drains;
                running += vm->runs;
        }
        return running;
}

/* Whoever has waited longest, and too long; NULL: nobody. */
static struct ivg_sched_vm *find_starved(struct ivg_sched_device *device)
{
        struct ivg_sched_vm *found = NULL;

        for (struct ivg_sched_vm *vm = device->vms; vm; vm = vm->next)
                if (vm->wants && !vm->runs && device->now_ns - vm->waits_since_ns > device->settings.starve_ns &&
                    (!found || vm->waits_since_ns < found->waits_since_ns))
                        found = vm;
        return found;
}

/* Whoever is behind most in the highest class, unless it is a quantum ahead of the one that is behind most: that one
 * runs already, and the others wait for it; but not (`any`) while the device idles. */
static struct ivg_sched_vm *find_next(const struct ivg_sched_device *device, const struct view *view, bool any)
{
        struct ivg_sched_vm *found = NULL;

        for (struct ivg_sched_vm *vm = device->vms; vm; vm = vm->next) {
                if (!vm->wants || vm->runs || (int)vm->priority != view->top)
                        continue;
                if (!any && vm->virtual_ns - view->behind_ns >= device->settings.quantum_ns * WEIGHT_SCALE / vm->weight)
                        continue;
                if (!found || vm->virtual_ns < found->virtual_ns ||
                    (vm->virtual_ns == found->virtual_ns &&
                     (found->drains || vm->waits_since_ns < found->waits_since_ns)))
                        found = vm;
        }
        return found;
}

/* May `vm` begin while others are still leaving? With turns it may not, but for one that is leaving itself. */
static bool may_begin(const struct ivg_sched_device *device, const struct view *view, const struct ivg_sched_vm *vm)
{
        if (!device->settings.drain || !view->draining)
                return true;
        for (const struct ivg_sched_vm *other = device->vms; other; other = other->next)
                if (other != vm && other->drains)
                        return false;
        return true;
}

static void choose(struct ivg_sched_device *device, struct view *view)
{
        /* A VM of a higher class finds no more than one queue before it when it comes back. */
        const uint32_t running_max = view->top < view->top_present ? 1 : device->settings.running_max;
        uint32_t running = stop_all_due(device, view);
        struct ivg_sched_vm *vm;

        /* Beside the others where several run; where one does, in its place. */
        if (device->now_ns >= device->rescue_after_ns && running < running_max + !device->settings.drain) {
                vm = find_starved(device);
                if (vm && may_begin(device, view, vm)) {
                        start(device, view, vm, true);
                        running += device->settings.drain;
                } else if (vm) {
                        return; /* the turn is its own, once the one before has left */
                }
        }
        while (running < running_max && (vm = find_next(device, view, false)) != NULL && may_begin(device, view, vm)) {
                start(device, view, vm, false);
                running++;
        }
        for (uint32_t more = 0;
             running_max > 1 && more < device->extra / EXTRA_STAYS && (vm = find_next(device, view, true)) != NULL;
             more++)
                start(device, view, vm, false);
}

/* ---- what each client is told ---- */

/* Nobody who wants is as high: it would be alone, and need not wait to be told so. */
static bool would_lead(const struct ivg_sched_vm *vm, const struct view *view)
{
        return (int)vm->priority > view->top;
}

static void decide(const struct ivg_sched_device *device, const struct view *view, const struct ivg_sched_vm *vm,
                   struct ivg_sched_client *client)
{
        client->ask = vm->drains && client->busy ? IVG_SCHED_ASK_IDLE : IVG_SCHED_ASK_NOTHING;
        client->queue_ns = view->present == 1                      ? 0
                           : (int)vm->priority < view->top_present ? device->settings.queue_below_ns
                                                                   : device->settings.queue_ns;
        client->granted_ns = 0;
        if (vm->paused)
                return;
        if (view->present == 1) {
                client->granted_ns = IVG_SCHED_NO_LIMIT;
        } else if (vm->runs) {
                /* With turns what is on the device has its end within the turn. */
                client->granted_ns = (int)vm->priority == view->top && view->top_wanting == 1 ? IVG_SCHED_NO_LIMIT
                                     : device->settings.drain ? client->gpu_ns + vm->left_ns + device->settings.tail_ns
                                                              : client->used_ns + vm->left_ns;
        } else if (!vm->wants && would_lead(vm, view)) {
                client->granted_ns = IVG_SCHED_NO_LIMIT;
                if (device->owner != vm || view->wanting != 0)
                        client->ask = IVG_SCHED_ASK_BEGIN;
        }
}

uint64_t ivg_sched_run(struct ivg_sched_device *device, uint64_t now_ns)
{
        const uint64_t passed_ns = now_ns > device->now_ns ? now_ns - device->now_ns : 0;
        struct view view;

        device->now_ns += passed_ns;
        charge_all(device, passed_ns);
        count_extra(device, passed_ns);
        raise_floors(device); /* before anybody comes back at them */
        for (struct ivg_sched_vm *vm = device->vms; vm; vm = vm->next)
                look_at_vm(device, vm);
        look_around(device, &view);
        choose(device, &view);
        for (struct ivg_sched_vm *vm = device->vms; vm; vm = vm->next) {
                if (vm->runs && view.wanting == 1)
                        device->owner = vm;
                for (struct ivg_sched_client *client = vm->clients; client; client = client->next)
                        decide(device, &view, vm, client);
        }
        /* A VM that has the device for itself needs no looks: who wants it says so. */
        return view.wanting > 1 || view.draining ? device->now_ns + device->settings.tick_ns : IVG_SCHED_NEVER;
}
