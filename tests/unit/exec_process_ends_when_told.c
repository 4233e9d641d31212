/* ivgpu-exec as the mediator sees it: its messages, its exit codes, what the guest reads in the ring, and how long it
 * takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_process.h"
#include "ivgpu_calls.h"
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- ends ---- */

static void the_mediators_end_is_its_end(void **state)
{
        struct process p;

        (void)state;
        start_ready(&p, "");
        retain_context(&p);
        close(p.control);
        p.control = -1;
        assert_int_equal(wait_for_exit(&p, 5000), IVG_EXEC_EXIT_TOLD);
        assert_int_equal(ivg_ring_state_errno(&p.ring), -EOWNERDEAD);
        finish(&p);
}

static void sigterm_closes_in_order(void **state)
{
        struct process p;

        (void)state;
        start_ready(&p, "");
        kill(p.pid, SIGTERM);
        assert_int_equal(wait_for_exit(&p, 5000), IVG_EXEC_EXIT_TOLD);
        assert_int_equal(ivg_ring_state_errno(&p.ring), -ESHUTDOWN);
        finish(&p);
}

static void a_hanging_driver_does_not_keep_it(void **state)
{
        struct process p;
        uint64_t begin;

        (void)state;
        start_ready(&p, "hangs");
        retain_context(&p);
        begin = now_ms();
        kill(p.pid, SIGTERM);
        assert_int_equal(wait_for_exit(&p, 10000), IVG_EXEC_EXIT_STUCK);
        assert_true(now_ms() - begin < 5000);
        finish(&p);
}

/* ---- starts ---- */

static void expect_failure(const char *driver, const char *misbehaviour, const char *words)
{
        struct ivg_exec_message message;
        struct process p;

        start(&p, driver, misbehaviour);
        assert_true(receive(&p, &message));
        assert_int_equal(message.type, IVG_EXEC_FAILED);
        assert_int_equal(message.code, IVG_ERROR_CUDA_ERROR);
        assert_non_null(strstr(message.text, words));
        assert_int_equal(wait_for_exit(&p, 5000), IVG_EXEC_EXIT_START);
        finish(&p);
}

static void a_missing_driver_is_named(void **state)
{
        (void)state;
        expect_failure("/nonexistent/libcuda.so.1", "", "/nonexistent/libcuda.so.1");
}

static void a_library_that_is_no_driver_is_named(void **state)
{
        (void)state;
        expect_failure("libc.so.6", "", "lacks cuInit");
}

static void a_driver_without_device_is_told(void **state)
{
        (void)state;
        expect_failure(EXEC_DRIVER, "init-fails", "CUDA error 100");
}

static void a_driver_without_its_mps_server_is_told(void **state)
{
        (void)state;
        expect_failure(EXEC_DRIVER, "mps-absent", "no MPS server serves device 0");
}

/* The mediator knows by the driver's error that others keep the server from it. */
static void a_server_that_takes_nobody_is_told(void **state)
{
        struct ivg_exec_message message;
        struct process p;

        (void)state;
        start_process(&p, EXEC_DRIVER, "mps-faulted", "1000");
        assert_true(receive(&p, &message));
        assert_int_equal(message.type, IVG_EXEC_FAILED);
        assert_int_equal(message.fault, CUDA_ERROR_MPS_SERVER_NOT_READY);
        assert_int_equal(wait_for_exit(&p, 5000), IVG_EXEC_EXIT_START);
        finish(&p);
}

/* ---- a fault ---- */

static void after_a_fault_it_waits_to_be_ended(void **state)
{
        struct ivg_exec_message message;
        struct ivg_call_header header = {.bytes = sizeof(header)};
        struct ivg_record record = {0};
        struct process p;

        (void)state;
        start_ready(&p, "");
        assert_int_equal(ivg_producer_reserve(&p.producer, sizeof(header), &record), 0);
        ivg_record_write(&p.producer, &record, 0, &header, sizeof(header));
        if (ivg_producer_commit(&p.producer, &record, 0xfff0))
                assert_int_equal(eventfd_write(p.doorbell, 1), 0);
        assert_true(receive(&p, &message));
        assert_int_equal(message.type, IVG_EXEC_FAULT);
        assert_int_equal(message.fault, IVG_FAULT_OPCODE);
        assert_non_null(strstr(message.text, ivg_ring_fault_name(IVG_FAULT_OPCODE)));
        assert_int_equal(ivg_ring_state_errno(&p.ring), -EPROTO);
        usleep(50000);
        assert_int_equal(waitpid(p.pid, NULL, WNOHANG), 0); /* alive */
        kill(p.pid, SIGTERM);
        assert_int_equal(wait_for_exit(&p, 5000), IVG_EXEC_EXIT_TOLD);
        assert_int_equal(ivg_ring_state_errno(&p.ring), -EPROTO); /* the first end stands */
        finish(&p);
}

static unsigned long ticks_used(pid_t pid)
{
        char path[64], line[512];
        unsigned long user = 0, system = 0;
        FILE *file;

        snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        file = fopen(path, "r");
        assert_non_null(file);
        assert_non_null(fgets(line, sizeof(line), file));
        fclose(file);
        assert_int_equal(
                sscanf(strrchr(line, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system),
                2);
        return user + system;
}

static void it_sleeps_when_nothing_comes(void **state)
{
        unsigned long before, used = 0;
        struct process p;

        (void)state;
        start_ready(&p, "");
        /* Threads look on for a while before they sleep, on a loaded machine a late while. */
        for (int look = 0; look < 20; look++) {
                before = ticks_used(p.pid);
                usleep(300000);
                used = ticks_used(p.pid) - before;
                if (used <= 1)
                        break;
        }
        assert_true(used <= 1); /* ticks of 10 ms in 300 ms */
        kill(p.pid, SIGTERM);
        assert_int_equal(wait_for_exit(&p, 5000), IVG_EXEC_EXIT_TOLD);
        finish(&p);
}

/* ---- waiting for a channel ---- */

static void a_waiting_one_becomes_a_guests(void **state)
{
        struct process p;

        (void)state;
        start_waiting(&p, "", 0);
        assert_int_equal(adopt(&p, ALL_THREE), 0);
        become_ready(&p);
        retain_context(&p);
        kill(p.pid, SIGTERM);
        assert_int_equal(wait_for_exit(&p, 5000), IVG_EXEC_EXIT_TOLD);
        finish(&p);
}

static void a_waiting_one_ends_when_told_or_left(void **state)
{
        struct process p;

        (void)state;
        start_waiting(&p, "", 0);
        kill(p.pid, SIGTERM);
        assert_int_equal(wait_for_exit(&p, 5000), IVG_EXEC_EXIT_TOLD);
        finish(&p);
        start_waiting(&p, "", 0);
        close(p.control);
        p.control = -1;
        assert_int_equal(wait_for_exit(&p, 5000), IVG_EXEC_EXIT_TOLD);
        finish(&p);
}

static void a_channel_without_its_descriptors_is_refused(void **state)
{
        static const uint32_t wrong[] = {ALL_THREE & ~(1u << IVG_EXEC_SLOT_REGION), ALL_THREE | 1u << IVG_EXEC_SLOT_IPC,
                                         ALL_THREE | 1u << IVG_EXEC_SLOTS};

        (void)state;
        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
                struct ivg_exec_message message;
                struct process p;

                start_waiting(&p, "", 0);
                assert_int_equal(adopt(&p, wrong[i]), 0);
                assert_true(receive(&p, &message));
                assert_int_equal(message.type, IVG_EXEC_FAILED);
                assert_non_null(strstr(message.text, "no channel in a message"));
                assert_int_equal(wait_for_exit(&p, 5000), IVG_EXEC_EXIT_START);
                finish(&p);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_mediators_end_is_its_end),
                cmocka_unit_test(sigterm_closes_in_order),
                cmocka_unit_test(a_hanging_driver_does_not_keep_it),
                cmocka_unit_test(a_missing_driver_is_named),
                cmocka_unit_test(a_library_that_is_no_driver_is_named),
                cmocka_unit_test(a_driver_without_device_is_told),
                cmocka_unit_test(a_driver_without_its_mps_server_is_told),
                cmocka_unit_test(a_server_that_takes_nobody_is_told),
                cmocka_unit_test(after_a_fault_it_waits_to_be_ended),
                cmocka_unit_test(it_sleeps_when_nothing_comes),
                cmocka_unit_test(a_waiting_one_becomes_a_guests),
                cmocka_unit_test(a_waiting_one_ends_when_told_or_left),
                cmocka_unit_test(a_channel_without_its_descriptors_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
