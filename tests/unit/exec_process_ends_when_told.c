/* ivgpu-exec as the mediator sees it: its messages, its exit codes, what the guest reads in the ring, and how long it
 * takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_control.h"
#include "ivgpu/fd_pass.h"
#include "ivgpu/region.h"
#include "ivgpu/ring.h"
#include "ivgpu_calls.h"
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef EXEC_PROGRAM
#error "the build names the program and its driver"
#endif

#define GENERATION 7u
#define REGION_BYTES (32ull << 20)
#define PATIENCE_MS 20000
#define ALL_THREE (1u << IVG_EXEC_SLOT_REGION | 1u << IVG_EXEC_SLOT_DOORBELL | 1u << IVG_EXEC_SLOT_INTERRUPT)

struct process {
        pid_t pid;
        int memfd, doorbell, interrupt, control; /* control: the mediator's end */
        struct ivg_region region;                /* the guest's mapping */
        struct ivg_ring ring;
        struct ivg_producer producer;
};

static uint64_t now_ms(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void make_region(struct process *p)
{
        const struct ivg_region_config config = {.region_bytes = REGION_BYTES,
                                                 .channel_count = 1,
                                                 .vector_count = 2,
                                                 .vm_name = "test",
                                                 .call_table_fingerprint = IVG_CALL_TABLE_FINGERPRINT};
        struct ivg_error error = {.text = ""};
        void *page;

        assert_int_equal(ivg_region_create(&config, &p->memfd, &error), 0);
        page = mmap(NULL, IVG_PAGE_BYTES, PROT_READ, MAP_SHARED, p->memfd, 0);
        assert_ptr_not_equal(page, MAP_FAILED);
        assert_int_equal(ivg_region_check(page, REGION_BYTES, IVG_CALL_TABLE_FINGERPRINT, &p->region, &error), 0);
        munmap(page, IVG_PAGE_BYTES);
        assert_int_equal(ivg_region_map(&p->region, p->memfd, IVG_SIDE_GUEST, 0, &error), 0);
}

static void exec_child(int control, const char *driver, bool warm)
{
        char control_text[16];

        fcntl(control, F_SETFD, 0);
        snprintf(control_text, sizeof(control_text), "%d", control);
        execl(EXEC_PROGRAM, EXEC_PROGRAM, "--control-fd", control_text, "--driver", driver, "--log-level", "error",
              warm ? "--warm" : NULL, (char *)NULL);
        _exit(99);
}

/* As the mediator does. 0 or -errno. */
static int adopt(const struct process *p, uint32_t given)
{
        const struct ivg_exec_adoption message = {.magic = IVG_EXEC_CONTROL_MAGIC,
                                                  .type = IVG_EXEC_ADOPT,
                                                  .channel = 0,
                                                  .generation = GENERATION,
                                                  .given = given};
        const int fds[] = {p->memfd, p->doorbell, p->interrupt};

        return ivg_fds_send(p->control, &message, sizeof(message), fds, 3);
}

static void start_process(struct process *p, const char *driver, const char *misbehaviour, bool warm)
{
        int pair[2];

        memset(p, 0, sizeof(*p));
        make_region(p);
        p->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        p->interrupt = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        p->control = pair[0];
        if (!warm) /* first: a process that fails at once closes its end */
                assert_int_equal(adopt(p, ALL_THREE), 0);
        setenv("FAKE_DRIVER", misbehaviour, 1);
        p->pid = fork();
        assert_true(p->pid >= 0);
        if (p->pid == 0)
                exec_child(pair[1], driver, warm);
        close(pair[1]);
}

static void start(struct process *p, const char *driver, const char *misbehaviour)
{
        start_process(p, driver, misbehaviour, false);
}

static bool receive(struct process *p, struct ivg_exec_message *message)
{
        struct pollfd fd = {.fd = p->control, .events = POLLIN};

        return poll(&fd, 1, PATIENCE_MS) == 1 &&
               recv(p->control, message, sizeof(*message), 0) == (ssize_t)sizeof(*message) &&
               message->magic == IVG_EXEC_CONTROL_MAGIC;
}

static void become_ready(struct process *p)
{
        struct ivg_exec_message message;

        assert_true(receive(p, &message));
        assert_int_equal(message.type, IVG_EXEC_READY);
        assert_int_equal(message.driver_version, 13000);
        assert_int_equal(message.device_count, 1);
        assert_int_equal(ivg_ring_init(&p->ring, ivg_region_ring_guest(&p->region, 0),
                                       ivg_region_ring_host(&p->region, 0), GENERATION),
                         0);
        assert_int_equal(ivg_producer_open(&p->ring, 1, &p->producer), 0);
}

static void start_ready(struct process *p, const char *misbehaviour)
{
        start(p, EXEC_DRIVER, misbehaviour);
        become_ready(p);
}

static void start_waiting(struct process *p)
{
        struct ivg_exec_message message;

        start_process(p, EXEC_DRIVER, "", true);
        assert_true(receive(p, &message));
        assert_int_equal(message.type, IVG_EXEC_WAITING);
        assert_int_equal(message.driver_version, 13000);
        assert_int_equal(message.device_count, 1);
}

/* The exit status, or -1 when it does not end in time. */
static int wait_for_exit(struct process *p, uint32_t bound_ms)
{
        const uint64_t end = now_ms() + bound_ms;
        int status = 0;

        while (waitpid(p->pid, &status, WNOHANG) == 0) {
                if (now_ms() > end) {
                        kill(p->pid, SIGKILL);
                        waitpid(p->pid, &status, 0);
                        return -1;
                }
                usleep(2000);
        }
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void finish(struct process *p)
{
        if (p->control >= 0)
                close(p->control);
        close(p->doorbell);
        close(p->interrupt);
        ivg_region_unmap(&p->region);
        close(p->memfd);
}

static CUresult call(struct process *p, uint16_t number, void *request, uint32_t bytes)
{
        struct ivg_call_header *header = request;
        struct ivg_record record = {0};
        struct ivg_answer_header answer;
        uint8_t payload[IVG_MAILBOX_PAYLOAD_BYTES];
        const uint64_t end = now_ms() + PATIENCE_MS;

        header->sequence_low = (uint32_t)++p->producer.sequence;
        header->bytes = (uint16_t)bytes;
        header->producer = (uint8_t)p->producer.index;
        header->flags = IVG_CALL_WANTS_ANSWER;
        assert_int_equal(ivg_producer_reserve(&p->producer, bytes, &record), 0);
        ivg_record_write(&p->producer, &record, 0, request, bytes);
        if (ivg_producer_commit(&p->producer, &record, number))
                assert_int_equal(eventfd_write(p->doorbell, 1), 0);
        while (!ivg_producer_poll_answer(&p->producer, p->producer.sequence, &answer, payload)) {
                assert_true(now_ms() < end);
                usleep(100);
        }
        return (CUresult)answer.result;
}

static void retain_context(struct process *p)
{
        struct ivg_request_cuDevicePrimaryCtxRetain request = {.dev = 0, .pctx = IVG_ID_FIRST};

        assert_int_equal(call(p, IVG_CALL_cuDevicePrimaryCtxRetain, &request, sizeof(request)), CUDA_SUCCESS);
}

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

static void it_sleeps_when_nothing_comes(void **state)
{
        char path[64], line[512];
        unsigned long user = 0, system = 0, user_later = 0, system_later = 0;
        struct process p;

        (void)state;
        start_ready(&p, "");
        snprintf(path, sizeof(path), "/proc/%d/stat", (int)p.pid);
        for (int look = 0; look < 2; look++) {
                FILE *file;

                usleep(300000);
                file = fopen(path, "r");
                assert_non_null(file);
                assert_non_null(fgets(line, sizeof(line), file));
                fclose(file);
                assert_int_equal(sscanf(strrchr(line, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                                        look ? &user_later : &user, look ? &system_later : &system),
                                 2);
        }
        assert_true(user_later + system_later - user - system <= 1); /* ticks of 10 ms in 300 ms */
        kill(p.pid, SIGTERM);
        assert_int_equal(wait_for_exit(&p, 5000), IVG_EXEC_EXIT_TOLD);
        finish(&p);
}

/* ---- waiting for a channel ---- */

static void a_waiting_one_becomes_a_guests(void **state)
{
        struct process p;

        (void)state;
        start_waiting(&p);
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
        start_waiting(&p);
        kill(p.pid, SIGTERM);
        assert_int_equal(wait_for_exit(&p, 5000), IVG_EXEC_EXIT_TOLD);
        finish(&p);
        start_waiting(&p);
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

                start_waiting(&p);
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
                cmocka_unit_test(after_a_fault_it_waits_to_be_ended),
                cmocka_unit_test(it_sleeps_when_nothing_comes),
                cmocka_unit_test(a_waiting_one_becomes_a_guests),
                cmocka_unit_test(a_waiting_one_ends_when_told_or_left),
                cmocka_unit_test(a_channel_without_its_descriptors_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
