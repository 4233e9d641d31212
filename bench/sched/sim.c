#include "sim.h"
#include <stdlib.h>
#include <string.h>

#define US 1000ull
#define MS 1000000ull
#define DEPTH_STANDARD 1024u
#define ESTIMATE_FIRST_NS (100 * US) /* a call's time before one has been measured (gate.c) */
#define UNKNOWN_CALLS_MAX 16u        /* and how many of those may be on the device */
#define WAIT_LOOK_NS (150 * US)      /* between looks of one that waits at its gate, a timer's slack included */
#define GAP_NS (50 * US)             /* between two kernels of a context: counts as use (meter.h) */
#define RANDOM_SEED 0x9e3779b97f4a7c15ull

struct kernel {
        uint64_t at_ns, length_ns;
};

struct vm {
        const struct sim_load *load;
        struct ivg_sched_vm policy;
        struct ivg_sched_client client;
        uint64_t granted_ns, queue_ns; /* as the executor knows them */
        uint64_t open_ns;              /* a grant wakes it at that time */
        uint64_t issue_next_ns;        /* no launch before */
        /* its work on the device, in a ring */
        struct kernel *queue;
        uint32_t depth, head, count;
        uint64_t done_ns; /* of the head kernel */
        uint64_t estimate_ns, measured_ns, busy_since_ns;
        uint64_t begun_ns; /* the event that begins its measured period has run, when its context came to it; 0: not yet
                            */
        uint64_t ended_ns; /* the last kernel */
        bool measured_any;
        /* what it knows of that since its last look */
        uint64_t look_ns, known_ns, known_busy_since_ns;
        uint32_t known_count;
        /* the program */
        uint64_t next_ns; /* a closed one's next launch */
        uint32_t arrival;
        bool burst_first; /* the next launch opens a burst */
        uint64_t burst_ns;
        bool burst_waits;
        uint64_t wanted_since_ns; /* without being served; 0: does not want */
        uint64_t *latencies;
        uint32_t latency_count;
};

struct device {
        struct ivg_sched_device policy;
        uint64_t next_look_ns;
        uint32_t turn; /* the VM whose slice it is */
        uint64_t slice_left_ns, switch_left_ns, busy_ns, wanted_ns;
};

struct sim {
        const struct sim_settings *settings;
        struct sim_result *result;
        struct device devices[SIM_DEVICES_MAX];
        struct vm *vms;
        uint64_t now_ns, random;
        uint64_t into_ns; /* how far the device is in this step */
};

static uint64_t random_below(struct sim *sim, uint64_t bound)
{
        sim->random ^= sim->random << 13;
        sim->random ^= sim->random >> 7;
        sim->random ^= sim->random << 17;
        return bound ? sim->random % bound : 0;
}

void sim_settings_init(struct sim_settings *settings)
{
        *settings = (struct sim_settings){.device_count = 1,
                                          .policy = ivg_sched_fair,
                                          .scheduled = true,
                                          .slice_ns = 2090 * US,
                                          .switch_ns = 150 * US,
                                          .step_ns = 20 * US,
                                          .wake_ns = 60 * US,
                                          .late_ns = 200 * US,
                                          .report_ns = 550 * US,
                                          .report_soon_ns = 150 * US,
                                          .length_ns = 10000 * MS,
                                          .ignore_ns = 500 * MS};
}

/* ---- the program: does it have something to launch now? ---- */

static bool in_burst(const struct sim *sim, const struct vm *vm)
{
        const struct sim_load *load = vm->load;

        return sim->now_ns >= load->begin_ns &&
               (sim->now_ns - load->begin_ns) % (load->on_ns + load->off_ns) < load->on_ns;
}

static bool has_launch(const struct sim *sim, const struct vm *vm)
{
        switch (vm->load->kind) {
        case SIM_SATURATES:
                return sim->now_ns >= vm->load->begin_ns;
        case SIM_BURSTS:
                return in_burst(sim, vm);
        case SIM_CLOSED:
                return vm->count == 0 && sim->now_ns >= vm->next_ns;
        case SIM_RECORDED:
                return vm->arrival < vm->load->arrival_count && sim->now_ns >= vm->load->arrivals[vm->arrival].at_ns;
        }
        return false;
}

static uint64_t length_of(struct sim *sim, struct vm *vm)
{
        const struct sim_load *load = vm->load;

        if (load->kind == SIM_RECORDED)
                return load->arrivals[vm->arrival++].kernel_ns;
        if (load->spread < 2)
                return load->kernel_ns;
        return load->kernel_ns / load->spread +
               random_below(sim, 2 * (load->kernel_ns - load->kernel_ns / load->spread));
}

/* ---- the executor ---- */

static uint64_t used(const struct vm *vm)
{
        return vm->known_ns + vm->known_count * vm->estimate_ns;
}

static bool has_room(const struct vm *vm)
{
        if (vm->queue_ns == 0 || vm->known_count == 0)
                return true;
        return vm->measured_any ? vm->known_count * vm->estimate_ns < vm->queue_ns
                                : vm->known_count < UNKNOWN_CALLS_MAX;
}

static void kick(struct sim *sim, struct vm *vm)
{
        struct device *device = &sim->devices[vm->load->device];

        if (device->next_look_ns > sim->now_ns + sim->settings->wake_ns)
                device->next_look_ns = sim->now_ns + sim->settings->wake_ns;
}

/* What has ended until now. */
static void executor_looks(struct sim *sim, struct vm *vm)
{
        if (vm->known_count != vm->count)
                vm->known_busy_since_ns = sim->now_ns;
        vm->known_count = vm->count;
        vm->known_ns = vm->measured_ns;
        vm->look_ns = sim->now_ns;
        if (vm->count == 0 && vm->client.ask == IVG_SCHED_ASK_IDLE) {
                vm->client.ask = IVG_SCHED_ASK_NOTHING;
                kick(sim, vm);
        }
}

static void launch(struct sim *sim, struct vm *vm)
{
        /* A closed program counts from when it would have launched, a recorded one from when it did. */
        const uint64_t at = vm->load->kind == SIM_CLOSED     ? vm->next_ns
                            : vm->load->kind == SIM_RECORDED ? vm->load->arrivals[vm->arrival].at_ns
                                                             : sim->now_ns;
        const struct kernel kernel = {.at_ns = at, .length_ns = length_of(sim, vm)};

        vm->queue[(vm->head + vm->count) % vm->depth] = kernel;
        if (vm->count++ == 0 && (vm->ended_ns == 0 || sim->now_ns - vm->ended_ns > GAP_NS))
                vm->begun_ns = 0;
        if (vm->known_count++ == 0)
                vm->known_busy_since_ns = sim->now_ns;
        vm->issue_next_ns = sim->now_ns + vm->load->issue_ns;
        vm->client.calls++;
}

static void executor_step(struct sim *sim, struct vm *vm)
{
        const uint64_t report_ns =
                vm->client.ask == IVG_SCHED_ASK_IDLE ? sim->settings->report_soon_ns : sim->settings->report_ns;
        const uint32_t before = vm->known_count;
        bool waits = false;

        if (vm->known_count > 0 && sim->now_ns - vm->look_ns >= report_ns)
                executor_looks(sim, vm);

        if (vm->load->kind == SIM_BURSTS && !in_burst(sim, vm))
                vm->burst_first = true;
        while (has_launch(sim, vm)) {
                if (vm->load->kind == SIM_BURSTS && vm->burst_first) {
                        vm->burst_first = false;
                        vm->burst_waits = true;
                        vm->burst_ns = sim->now_ns;
                }
                if (vm->count >= vm->depth || sim->now_ns < vm->issue_next_ns)
                        break;
                if (sim->settings->scheduled && (used(vm) >= vm->granted_ns || !has_room(vm))) {
                        if (sim->now_ns - vm->look_ns >= WAIT_LOOK_NS)
                                executor_looks(sim, vm);
                        waits = used(vm) >= vm->granted_ns;
                        if (waits || !has_room(vm))
                                break;
                }
                if (sim->now_ns < vm->open_ns)
                        break;
                launch(sim, vm);
        }
        if (waits && !vm->client.waiting) /* a gate that opened and closed meanwhile kicks again */
                kick(sim, vm);
        if (vm->client.ask == IVG_SCHED_ASK_BEGIN && before == 0 && vm->known_count > 0) {
                vm->client.ask = IVG_SCHED_ASK_NOTHING;
                kick(sim, vm);
        }
        vm->client.waiting = waits;
        if ((waits || vm->count > 0 || has_launch(sim, vm)) && vm->wanted_since_ns == 0)
                vm->wanted_since_ns = sim->now_ns;
}

/* ---- the device ---- */

static void kernel_ends(struct sim *sim, struct vm *vm, struct sim_figures *figures)
{
        const struct kernel *kernel = &vm->queue[vm->head];
        const uint64_t now_ns = sim->now_ns + sim->into_ns, latency = now_ns - kernel->at_ns;

        if (sim->now_ns >= sim->settings->ignore_ns) {
                figures->kernels++;
                if (vm->latency_count < SIM_LATENCIES_MAX)
                        vm->latencies[vm->latency_count++] = latency;
        }
        if (vm->burst_waits) {
                const uint64_t wait = now_ns - vm->burst_ns;

                vm->burst_waits = false;
                if (wait > kernel->length_ns && wait - kernel->length_ns > figures->begin_wait_max_ns)
                        figures->begin_wait_max_ns = wait - kernel->length_ns;
        }
        vm->estimate_ns =
                vm->measured_any ? vm->estimate_ns - vm->estimate_ns / 8 + kernel->length_ns / 8 : kernel->length_ns;
        vm->measured_any = true;
        vm->head = (vm->head + 1) % vm->depth;
        vm->done_ns = 0;
        if (vm->load->kind == SIM_CLOSED)
                vm->next_ns = now_ns + vm->load->think_ns;
        vm->measured_ns += now_ns - vm->begun_ns;
        vm->begun_ns = vm->ended_ns = now_ns;
        vm->count--;
}

/* `ns` of the device for one VM, as far as it has work. */
static uint64_t device_serve(struct sim *sim, struct vm *vm, uint64_t ns)
{
        struct sim_figures *figures = &sim->result->vms[vm - sim->vms];
        uint64_t given = 0;

        if (figures->first_ns == 0)
                figures->first_ns = sim->now_ns;
        if (vm->wanted_since_ns != 0 && sim->now_ns - vm->wanted_since_ns > figures->starved_max_ns)
                figures->starved_max_ns = sim->now_ns - vm->wanted_since_ns;
        if (vm->begun_ns == 0)
                vm->begun_ns = sim->now_ns + sim->into_ns;
        while (given < ns && vm->count > 0) {
                const uint64_t left = vm->queue[vm->head].length_ns - vm->done_ns;
                const uint64_t part = left < ns - given ? left : ns - given;

                given += part;
                sim->into_ns += part;
                vm->done_ns += part;
                if (part == left)
                        kernel_ends(sim, vm, figures);
        }
        vm->wanted_since_ns = 0; /* it is served; wanted again with the next step */
        if (sim->now_ns >= sim->settings->ignore_ns)
                figures->gpu_ns += given;
        return given;
}

/* The next context with work, round robin, is the device's: its slice begins, after the change. False: none but the one
 * that has it. */
static bool device_changes(struct sim *sim, uint32_t index)
{
        struct device *device = &sim->devices[index];
        const uint32_t count = sim->settings->vm_count;

        for (uint32_t i = 1; i < count; i++) {
                const struct vm *vm = &sim->vms[(device->turn + i) % count];

                if (vm->load->device != index || vm->count == 0)
                        continue;
                device->turn = (device->turn + i) % count;
                device->slice_left_ns = sim->settings->slice_ns;
                device->switch_left_ns = sim->settings->switch_ns;
                return true;
        }
        device->slice_left_ns = sim->settings->slice_ns;
        return false;
}

static void device_step(struct sim *sim, uint32_t index)
{
        struct device *device = &sim->devices[index];
        uint64_t left = sim->settings->step_ns;

        while (left > 0) {
                struct vm *vm = &sim->vms[device->turn];
                uint64_t part = left;

                if (device->switch_left_ns > 0) {
                        part = part < device->switch_left_ns ? part : device->switch_left_ns;
                        device->switch_left_ns -= part;
                        sim->into_ns += part;
                        left -= part;
                } else if (vm->load->device != index || vm->count == 0) {
                        if (!device_changes(sim, index))
                                return; /* nobody has work */
                } else if (device->slice_left_ns == 0) {
                        (void)device_changes(sim, index);
                } else {
                        part = part < device->slice_left_ns ? part : device->slice_left_ns;
                        part = device_serve(sim, vm, part);
                        device->slice_left_ns -= part;
                        device->busy_ns += sim->now_ns >= sim->settings->ignore_ns ? part : 0;
                        left -= part;
                }
        }
}

/* ---- the mediator ---- */

static void mediator_look(struct sim *sim, uint32_t index)
{
        struct device *device = &sim->devices[index];
        uint64_t next;

        for (uint32_t i = 0; i < sim->settings->vm_count; i++) {
                struct vm *vm = &sim->vms[i];

                if (vm->load->device != index)
                        continue;
                vm->client.used_ns = used(vm);
                vm->client.gpu_ns = vm->known_ns + (vm->known_count ? sim->now_ns - vm->known_busy_since_ns : 0);
                vm->client.busy = vm->known_count > 0;
        }
        next = ivg_sched_run(&device->policy, sim->now_ns);
        for (uint32_t i = 0; i < sim->settings->vm_count; i++) {
                struct vm *vm = &sim->vms[i];

                if (vm->load->device != index)
                        continue;
                if (vm->client.waiting && used(vm) < vm->client.granted_ns)
                        vm->open_ns = sim->now_ns + sim->settings->wake_ns;
                vm->granted_ns = vm->client.granted_ns;
                vm->queue_ns = vm->client.queue_ns;
        }
        device->next_look_ns = next == IVG_SCHED_NEVER ? next : next + random_below(sim, sim->settings->late_ns);
        sim->result->looks++;
}

/* ---- all of it ---- */

static int compare(const void *a, const void *b)
{
        const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

        return left < right ? -1 : left > right;
}

static void figures_finish(struct sim *sim)
{
        const struct sim_settings *settings = sim->settings;
        const double counted = (double)(settings->length_ns - settings->ignore_ns);
        double sum = 0, squares = 0;
        uint32_t steady = 0;

        for (uint32_t i = 0; i < settings->vm_count; i++) {
                struct sim_figures *figures = &sim->result->vms[i];
                struct vm *vm = &sim->vms[i];

                figures->share = (double)figures->gpu_ns / counted;
                /* One that still waits has waited until now. */
                if (vm->wanted_since_ns != 0 && sim->now_ns - vm->wanted_since_ns > figures->starved_max_ns)
                        figures->starved_max_ns = sim->now_ns - vm->wanted_since_ns;
                figures->latency_count = vm->latency_count;
                if (vm->latency_count > 0) {
                        qsort(vm->latencies, vm->latency_count, sizeof(uint64_t), compare);
                        figures->latency_p50_ns = vm->latencies[vm->latency_count / 2];
                        figures->latency_p99_ns = vm->latencies[(uint64_t)vm->latency_count * 99 / 100];
                        figures->latency_max_ns = vm->latencies[vm->latency_count - 1];
                }
                if (settings->loads[i].kind == SIM_SATURATES && settings->loads[i].begin_ns == 0) {
                        const double part = figures->share / settings->loads[i].weight;

                        sum += part;
                        squares += part * part;
                        steady++;
                }
        }
        sim->result->jain = squares > 0 ? sum * sum / (steady * squares) : 1;
        for (uint32_t i = 0; i < settings->device_count; i++) {
                sim->result->busy[i] = (double)sim->devices[i].busy_ns / counted;
                sim->result->wanted[i] = (double)sim->devices[i].wanted_ns / counted;
        }
}

static int open_vms(struct sim *sim)
{
        for (uint32_t i = 0; i < sim->settings->vm_count; i++) {
                struct vm *vm = &sim->vms[i];
                const struct sim_load *load = &sim->settings->loads[i];

                vm->load = load;
                vm->depth = load->depth ? load->depth : DEPTH_STANDARD;
                vm->queue = calloc(vm->depth, sizeof(*vm->queue));
                vm->latencies = malloc(SIM_LATENCIES_MAX * sizeof(*vm->latencies));
                if (!vm->queue || !vm->latencies)
                        return -1;
                vm->estimate_ns = ESTIMATE_FIRST_NS;
                vm->next_ns = load->begin_ns;
                vm->burst_first = true;
                vm->policy = (struct ivg_sched_vm){.priority = load->priority, .weight = load->weight};
                ivg_sched_vm_add(&sim->devices[load->device].policy, &vm->policy);
                ivg_sched_client_add(&sim->devices[load->device].policy, &vm->policy, &vm->client);
        }
        return 0;
}

static void note_wanted(struct sim *sim)
{
        bool wanted[SIM_DEVICES_MAX] = {false};

        for (uint32_t i = 0; i < sim->settings->vm_count; i++)
                if (sim->vms[i].count > 0 || has_launch(sim, &sim->vms[i]))
                        wanted[sim->vms[i].load->device] = true;
        for (uint32_t i = 0; i < sim->settings->device_count; i++)
                sim->devices[i].wanted_ns +=
                        wanted[i] && sim->now_ns >= sim->settings->ignore_ns ? sim->settings->step_ns : 0;
}

static void timeline_row(const struct sim *sim, uint64_t *before, uint64_t period_ns)
{
        fprintf(sim->settings->timeline, "%llu", (unsigned long long)(sim->now_ns / MS));
        for (uint32_t i = 0; i < sim->settings->vm_count; i++) {
                fprintf(sim->settings->timeline, " %.4f",
                        (double)(sim->result->vms[i].gpu_ns - before[i]) / (double)period_ns);
                before[i] = sim->result->vms[i].gpu_ns;
        }
        fprintf(sim->settings->timeline, "\n");
}

static void run(struct sim *sim)
{
        const struct sim_settings *settings = sim->settings;
        const uint64_t period_ns = 10 * MS;
        static uint64_t before[SIM_VMS_MAX];

        memset(before, 0, sizeof(before));
        for (sim->now_ns = settings->step_ns; sim->now_ns < settings->length_ns; sim->now_ns += settings->step_ns) {
                for (uint32_t i = 0; i < settings->device_count && settings->scheduled; i++)
                        if (sim->now_ns >= sim->devices[i].next_look_ns)
                                mediator_look(sim, i);
                for (uint32_t i = 0; i < settings->vm_count; i++)
                        executor_step(sim, &sim->vms[i]);
                note_wanted(sim);
                for (uint32_t i = 0; i < settings->device_count; i++) {
                        sim->into_ns = 0;
                        device_step(sim, i);
                }
                sim->into_ns = 0;
                if (settings->timeline && sim->now_ns % period_ns < settings->step_ns)
                        timeline_row(sim, before, period_ns);
        }
}

int sim_run(const struct sim_settings *settings, struct sim_result *result)
{
        struct sim sim = {.settings = settings, .result = result, .random = RANDOM_SEED};
        int rc = -1;

        memset(result, 0, sizeof(*result));
        sim.vms = calloc(settings->vm_count, sizeof(*sim.vms));
        for (uint32_t i = 0; i < settings->device_count; i++)
                ivg_sched_device_init(&sim.devices[i].policy, &settings->policy, 0);
        if (sim.vms)
                rc = open_vms(&sim);
        if (rc == 0) {
                run(&sim);
                figures_finish(&sim);
        }
        for (uint32_t i = 0; sim.vms && i < settings->vm_count; i++) {
                free(sim.vms[i].queue);
                free(sim.vms[i].latencies);
        }
        free(sim.vms);
        return rc;
}
