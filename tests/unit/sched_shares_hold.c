/* The policy over simulated time (bench/sched/sim.h): shares, priorities, idle time given and taken back, the bound on
 * waiting, many VMs. Kernels are of many lengths, ticks come late, reports come later. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "sim.h"
#include <cmocka.h>

#define US 1000ull
#define MS 1000000ull

static struct sim_result result;

static void run(const struct ivg_sched_settings *policy, const struct sim_load *loads, uint32_t count,
                uint64_t length_ms)
{
        struct sim_settings settings;

        sim_settings_init(&settings);
        settings.policy = *policy;
        settings.loads = loads;
        settings.vm_count = count;
        settings.length_ns = length_ms * MS;
        settings.slice_ns = 500 * US;
        settings.switch_ns = 0;
        settings.step_ns = count > 100 ? 200 * US : 20 * US;
        assert_int_equal(sim_run(&settings, &result), 0);
}

/* Of all that was used, within `percent` of itself. */
static void assert_share(uint32_t vm, double part, double percent)
{
        double total = 0;

        for (uint32_t i = 0; i < SIM_VMS_MAX; i++)
                total += result.vms[i].share;
        if (result.vms[vm].share / total < part * (1 - percent / 100) ||
            result.vms[vm].share / total > part * (1 + percent / 100))
                fail_msg("VM %u has %.4f of the time, and should have %.4f", vm, result.vms[vm].share / total, part);
}

static const struct ivg_sched_settings *const policies[] = {&ivg_sched_fair, &ivg_sched_turns};
#define FOR_BOTH(policy)                                                                                    \
        for (const struct ivg_sched_settings *const *each = policies, *policy = *each; each < policies + 2; \
             each++, policy = each < policies + 2 ? *each : *policies)

static void test_three_to_one(void **state)
{
        static const uint64_t lengths[][2] = {
                {1000 * US, 1000 * US}, {40 * US, 1000 * US}, {1000 * US, 40 * US}, {10000 * US, 1000 * US}};

        (void)state;
        FOR_BOTH(policy)
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
                const struct sim_load loads[] = {{.priority = 1, .weight = 3, .kernel_ns = lengths[i][0]},
                                                 {.priority = 1, .weight = 1, .kernel_ns = lengths[i][1]}};

                run(policy, loads, 2, 10000);
                assert_share(0, 0.75, 5);
                assert_share(1, 0.25, 5);
                assert_true(result.busy[0] > 0.98);
        }
}

static void test_five_to_three_to_one(void **state)
{
        const struct sim_load loads[] = {{.priority = 1, .weight = 5, .kernel_ns = MS},
                                         {.priority = 1, .weight = 3, .kernel_ns = MS / 2, .spread = 8},
                                         {.priority = 1, .weight = 1, .kernel_ns = 2 * MS}};

        (void)state;
        FOR_BOTH(policy)
        {
                run(policy, loads, 3, 10000);
                assert_share(0, 5 / 9., 5);
                assert_share(1, 3 / 9., 5);
                assert_share(2, 1 / 9., 5);
        }
}

/* An H200 as it was measured: slices of 2.09 ms, 0.15 ms to change contexts, a context whose queue is empty for a
 * moment loses its slice. Tiny kernels, of which the program keeps eight launched, are issued every 6.2 us: alone they
 * leave the device empty two thirds of the time. What is held is progress: kernels as a part of those made alone. */
enum { LONG, TINY };
static const struct sim_load h200_loads[] = {
        [LONG] = {.priority = 1, .weight = 1, .kernel_ns = 500 * US, .depth = 8},
        [TINY] = {.priority = 1, .weight = 1, .kernel_ns = 2 * US, .depth = 8, .issue_ns = 6200},
};

static void run_h200(const struct ivg_sched_settings *policy, const struct sim_load *loads, uint32_t count)
{
        struct sim_settings settings;

        sim_settings_init(&settings);
        settings.policy = *policy;
        settings.loads = loads;
        settings.vm_count = count;
        settings.length_ns = 2000 * MS;
        settings.step_ns = 3 * US;
        assert_int_equal(sim_run(&settings, &result), 0);
}

static void assert_progress(const struct ivg_sched_settings *policy, const struct sim_load *loads, uint32_t count,
                            const double alone[2])
{
        double progress[4], total = 0;
        uint32_t weights = 0;

        run_h200(policy, loads, count);
        for (uint32_t i = 0; i < count; i++) {
                progress[i] = (double)result.vms[i].kernels / alone[loads[i].issue_ns ? TINY : LONG];
                total += progress[i];
                weights += loads[i].weight;
        }
        if (total < 0.9)
                fail_msg("together they make %.3f of what one would alone", total);
        for (uint32_t i = 0; i < count; i++) {
                const double off = progress[i] / total * weights / loads[i].weight - 1;

                if (off < -0.05 || off > 0.05)
                        fail_msg("VM %u of weight %u is off by %.1f %%", i, loads[i].weight, off * 100);
        }
}

static void test_by_turns_an_h200_is_shared_whatever_the_load(void **state)
{
        static const uint32_t weights[2][4] = {{3, 1}, {4, 2, 1, 1}};
        static const int kinds[3][2] = {{LONG, LONG}, {TINY, TINY}, {LONG, TINY}};
        double alone[2];

        (void)state;
        for (int kind = 0; kind < 2; kind++) {
                run_h200(&ivg_sched_turns, &h200_loads[kind], 1);
                alone[kind] = (double)result.vms[0].kernels;
        }
        for (uint32_t w = 0; w < 2; w++)
                for (uint32_t k = 0; k < 3; k++) {
                        const uint32_t count = w ? 4 : 2;
                        struct sim_load loads[4];

                        for (uint32_t i = 0; i < count; i++) {
                                loads[i] = h200_loads[kinds[k][i % 2]];
                                loads[i].weight = weights[w][i];
                        }
                        assert_progress(&ivg_sched_turns, loads, count, alone);
                }
}

/* Two programs that launch and wait, with 60 us of their own between: each keeps its turn through its pauses. One whose
 * pauses are longer than the patience gives its turn up. */
static void test_by_turns_short_pauses_keep_a_turn_and_long_ones_do_not(void **state)
{
        struct sim_load loads[] = {
                {.kind = SIM_CLOSED, .priority = 1, .weight = 1, .kernel_ns = 2 * US, .think_ns = 64 * US},
                {.kind = SIM_CLOSED, .priority = 1, .weight = 1, .kernel_ns = 2 * US, .think_ns = 64 * US}};

        (void)state;
        run_h200(&ivg_sched_turns, loads, 2);
        assert_true(result.vms[0].latency_p50_ns < 10 * US && result.vms[1].latency_p50_ns < 10 * US);
        loads[0].kernel_ns = MS;
        loads[0].think_ns = 2 * MS;
        loads[1] = h200_loads[LONG];
        run_h200(&ivg_sched_turns, loads, 2);
        assert_true(result.busy[0] > 0.85);
}

/* Without the policy the same loads share alike: what the tests above see is its doing. */
static void test_unscheduled_they_share_alike(void **state)
{
        const struct sim_load loads[] = {{.priority = 1, .weight = 3, .kernel_ns = MS},
                                         {.priority = 1, .weight = 1, .kernel_ns = MS}};
        struct sim_settings settings;

        (void)state;
        sim_settings_init(&settings);
        settings.loads = loads;
        settings.vm_count = 2;
        settings.scheduled = false;
        assert_int_equal(sim_run(&settings, &result), 0);
        assert_share(0, 0.5, 5);
        assert_true(result.jain < 0.9);
}

static void test_a_high_vm_waits_for_one_low_queue_at_most(void **state)
{
        struct sim_load loads[] = {{.kind = SIM_CLOSED, .priority = 2, .weight = 1, .kernel_ns = MS},
                                   {.priority = 0, .weight = 1, .kernel_ns = MS / 2},
                                   {.priority = 0, .weight = 100, .kernel_ns = MS / 2},
                                   {.priority = 1, .weight = 100, .kernel_ns = MS / 2}};

        (void)state;
        FOR_BOTH(policy)
        {
                loads[0].think_ns = 100 * US; /* shorter than the linger: the device is kept for it */
                run(policy, loads, 4, 5000);
                assert_true(result.vms[0].latency_p50_ns <= 2 * MS);
                assert_true(result.vms[0].latency_p99_ns <= policy->quantum_ns + 3 * MS); /* a rescue of a low VM */
                loads[0].think_ns = 8 * MS;
                run(policy, loads, 4, 5000);
                assert_true(result.vms[0].latency_p50_ns <= 2 * MS);
                assert_true(result.vms[3].share > 0.6); /* and the others have the rest */
        }
}

static void test_idle_time_is_given_and_taken_back_within_10_ms(void **state)
{
        const struct sim_load loads[] = {{.kind = SIM_BURSTS,
                                          .priority = 1,
                                          .weight = 1,
                                          .kernel_ns = MS / 2,
                                          .on_ns = 70 * MS,
                                          .off_ns = 130 * MS},
                                         {.priority = 1, .weight = 1, .kernel_ns = MS / 2}};

        (void)state;
        FOR_BOTH(policy)
        {
                run(policy, loads, 2, 10000);
                assert_true(result.busy[0] > 0.98); /* somebody always wants it */
                assert_true(result.vms[0].begin_wait_max_ns < 10 * MS);
                assert_share(0, 0.175, 10);
        }
}

/* One that launches small kernels now and then does not keep the device from one that could fill it. */
static void test_a_device_that_idles_is_filled(void **state)
{
        struct sim_load loads[10];

        (void)state;
        for (uint32_t i = 0; i < 9; i++)
                loads[i] = (struct sim_load){
                        .kind = SIM_CLOSED, .priority = 1, .weight = 10, .kernel_ns = 10 * US, .think_ns = 200 * US};
        loads[9] = (struct sim_load){.priority = 1, .weight = 1, .kernel_ns = MS / 2};
        run(&ivg_sched_fair, loads, 10, 5000);
        assert_true(result.busy[0] > 0.7); /* 0.3 without it */
        assert_true(result.vms[9].share > 0.5);
}

static uint64_t bound_ns(const struct ivg_sched_settings *policy, uint32_t wanting, uint64_t kernel_ns)
{
        const uint64_t turn_ns =
                policy->quantum_ns + kernel_ns + (policy->drain ? policy->queue_ns + 2 * policy->tick_ns : 0);

        return policy->starve_ns + wanting * (policy->round_ns + IVG_SCHED_RESCUE_EVERY * turn_ns);
}

static void test_nobody_starves(void **state)
{
        const struct sim_load loads[] = {{.priority = 2, .weight = 100, .kernel_ns = MS},
                                         {.priority = 1, .weight = 100, .kernel_ns = MS},
                                         {.priority = 0, .weight = 1, .kernel_ns = MS},
                                         {.priority = 0, .weight = 100, .kernel_ns = MS}};

        (void)state;
        FOR_BOTH(policy)
        {
                run(policy, loads, 4, 10000);
                for (uint32_t i = 0; i < 4; i++) {
                        assert_true(result.vms[i].kernels > 0);
                        if (result.vms[i].starved_max_ns > bound_ns(policy, 4, MS))
                                fail_msg("VM %u waited for %.1f ms", i, (double)result.vms[i].starved_max_ns / 1e6);
                }
                assert_true(result.vms[0].share > 0.6);
        }
}

static void test_a_thousand_vms(void **state)
{
        static struct sim_load loads[1000];

        (void)state;
        for (uint32_t i = 0; i < 1000; i++)
                loads[i] = (struct sim_load){.priority = 1, .weight = 1 + i % 3, .kernel_ns = MS, .depth = 4};
        run(&ivg_sched_fair, loads, 1000, 20000);
        for (uint32_t i = 0; i < 1000; i++) {
                assert_true(result.vms[i].kernels > 0);
                assert_true(result.vms[i].starved_max_ns <= bound_ns(&ivg_sched_fair, 1000, MS));
        }
        assert_true(result.busy[0] > 0.98);
        assert_true(result.jain > 0.9); /* ten rounds or so */
}

static void test_devices_are_apart(void **state)
{
        struct sim_load loads[] = {{.device = 0, .priority = 2, .weight = 9, .kernel_ns = MS},
                                   {.device = 1, .priority = 0, .weight = 1, .kernel_ns = MS},
                                   {.device = 1, .priority = 0, .weight = 3, .kernel_ns = MS}};
        struct sim_settings settings;

        (void)state;
        sim_settings_init(&settings);
        settings.loads = loads;
        settings.vm_count = 3;
        settings.device_count = 2;
        settings.slice_ns = 500 * US;
        settings.switch_ns = 0;
        settings.length_ns = 5000 * MS;
        assert_int_equal(sim_run(&settings, &result), 0);
        assert_true(result.vms[0].share > 0.99);
        assert_true(result.vms[1].share > 0.25 * 0.95 && result.vms[1].share < 0.25 * 1.05);
}

/* ---- the policy by hand ---- */

static void test_one_alone_is_never_looked_at(void **state)
{
        struct ivg_sched_device device;
        struct ivg_sched_vm vm = {.priority = 0, .weight = 1};
        struct ivg_sched_client client = {0};

        (void)state;
        ivg_sched_device_init(&device, &ivg_sched_fair, 0);
        ivg_sched_vm_add(&device, &vm);
        ivg_sched_client_add(&device, &vm, &client);
        client.calls = 5;
        client.busy = true;
        assert_true(ivg_sched_run(&device, MS) == IVG_SCHED_NEVER);
        assert_true(client.granted_ns == IVG_SCHED_NO_LIMIT);
        assert_true(client.queue_ns == 0);
        assert_int_equal(client.ask, IVG_SCHED_ASK_NOTHING);
        client.gpu_ns = 3600000 * MS;
        assert_true(ivg_sched_run(&device, 3600001 * MS) == IVG_SCHED_NEVER);
        assert_true(vm.charged_ns == 3600000 * MS);
}

static void test_a_paused_vm_is_held_and_others_are_not(void **state)
{
        struct ivg_sched_device device;
        struct ivg_sched_vm vms[2] = {{.priority = 2, .weight = 1, .paused = true}, {.priority = 0, .weight = 1}};
        struct ivg_sched_client clients[2] = {{.waiting = true}, {.busy = true}};

        (void)state;
        ivg_sched_device_init(&device, &ivg_sched_fair, 0);
        for (int i = 0; i < 2; i++) {
                ivg_sched_vm_add(&device, &vms[i]);
                ivg_sched_client_add(&device, &vms[i], &clients[i]);
        }
        (void)ivg_sched_run(&device, MS);
        assert_true(clients[0].granted_ns == 0);
        assert_true(clients[1].granted_ns == IVG_SCHED_NO_LIMIT);
        vms[0].paused = false;
        (void)ivg_sched_run(&device, 2 * MS);
        assert_true(clients[0].granted_ns == IVG_SCHED_NO_LIMIT);
        assert_true(clients[1].granted_ns == 0);
        ivg_sched_client_remove(&device, &clients[0]);
        ivg_sched_vm_remove(&device, &vms[0]);
        (void)ivg_sched_run(&device, 3 * MS);
        assert_true(clients[1].granted_ns == IVG_SCHED_NO_LIMIT);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_three_to_one),
                cmocka_unit_test(test_five_to_three_to_one),
                cmocka_unit_test(test_by_turns_an_h200_is_shared_whatever_the_load),
                cmocka_unit_test(test_by_turns_short_pauses_keep_a_turn_and_long_ones_do_not),
                cmocka_unit_test(test_unscheduled_they_share_alike),
                cmocka_unit_test(test_a_high_vm_waits_for_one_low_queue_at_most),
                cmocka_unit_test(test_idle_time_is_given_and_taken_back_within_10_ms),
                cmocka_unit_test(test_a_device_that_idles_is_filled),
                cmocka_unit_test(test_nobody_starves),
                cmocka_unit_test(test_a_thousand_vms),
                cmocka_unit_test(test_devices_are_apart),
                cmocka_unit_test(test_one_alone_is_never_looked_at),
                cmocka_unit_test(test_a_paused_vm_is_held_and_others_are_not),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
