/* See exec_process.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_process.h"
#include "ivgpu/fd_pass.h"
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

#define GENERATION 7u
#define REGION_BYTES (32ull << 20)
#define PATIENCE_MS 20000

uint64_t now_ms(void)
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

static void exec_child(int control, const char *driver, const char *misbehaviour, const char *warm)
{
        char control_text[24], driver_text[300], warm_text[32], program[] = EXEC_PROGRAM, level[] = "--log-level=error",
                                                                mps[] = "--mps";
        char *arguments[7] = {program, control_text, driver_text, level};
        int count = 4;

        fcntl(control, F_SETFD, 0);
        snprintf(control_text, sizeof(control_text), "--control-fd=%d", control);
        snprintf(driver_text, sizeof(driver_text), "--driver=%s", driver);
        snprintf(warm_text, sizeof(warm_text), "--warm=%s", warm ? warm : "");
        if (warm)
                arguments[count++] = warm_text;
        if (strncmp(misbehaviour, "mps", 3) == 0)
                arguments[count++] = mps;
        execv(EXEC_PROGRAM, arguments);
        _exit(99);
}

int adopt(const struct process *p, uint32_t given)
{
        const struct ivg_exec_adoption message = {.magic = IVG_EXEC_CONTROL_MAGIC,
                                                  .type = IVG_EXEC_ADOPT,
                                                  .channel = 0,
                                                  .generation = GENERATION,
                                                  .given = given};
        const int fds[] = {p->memfd, p->doorbell, p->interrupt};

        return ivg_fds_send(p->control, &message, sizeof(message), fds, 3);
}

void start_process(struct process *p, const char *driver, const char *misbehaviour, const char *warm)
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
                exec_child(pair[1], driver, misbehaviour, warm);
        close(pair[1]);
}

void start(struct process *p, const char *driver, const char *misbehaviour)
{
        start_process(p, driver, misbehaviour, NULL);
}

bool receive(struct process *p, struct ivg_exec_message *message)
{
        struct pollfd fd = {.fd = p->control, .events = POLLIN};
        ssize_t bytes = -1;

        if (poll(&fd, 1, PATIENCE_MS) == 1)
                bytes = recv(p->control, message, sizeof(*message), 0);
        if (bytes < 0 && errno == ECONNRESET) /* said once, when it ended without taking its channel; then its words */
                bytes = recv(p->control, message, sizeof(*message), 0);
        return bytes == (ssize_t)sizeof(*message) && message->magic == IVG_EXEC_CONTROL_MAGIC;
}

void become_ready(struct process *p)
{
        struct ivg_exec_message message;

        assert_true(receive(p, &message));
        assert_int_equal(message.type, IVG_EXEC_READY);
        assert_int_equal(message.driver_version, 13000);
        assert_in_range(message.device_count, 1, 2);
        assert_int_equal(ivg_ring_init(&p->ring, ivg_region_ring_guest(&p->region, 0),
                                       ivg_region_ring_host(&p->region, 0), GENERATION),
                         0);
        assert_int_equal(ivg_producer_open(&p->ring, 1, &p->producer), 0);
}

void start_ready(struct process *p, const char *misbehaviour)
{
        start(p, EXEC_DRIVER, misbehaviour);
        become_ready(p);
}

void start_waiting(struct process *p, const char *misbehaviour, int unused_ms)
{
        struct ivg_exec_message message;
        char text[16];

        snprintf(text, sizeof(text), "%d", unused_ms);
        start_process(p, EXEC_DRIVER, misbehaviour, text);
        assert_true(receive(p, &message));
        assert_int_equal(message.type, IVG_EXEC_WAITING);
        assert_int_equal(message.driver_version, 13000);
        assert_in_range(message.device_count, 1, 2);
}

int wait_for_exit(struct process *p, uint32_t bound_ms)
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

void finish(struct process *p)
{
        if (p->control >= 0)
                close(p->control);
        close(p->doorbell);
        close(p->interrupt);
        ivg_region_unmap(&p->region);
        close(p->memfd);
}

CUresult call(struct process *p, uint16_t number, void *request, uint32_t bytes)
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

void retain_context(struct process *p)
{
        struct ivg_request_cuDevicePrimaryCtxRetain request = {.dev = 0, .pctx = IVG_ID_FIRST};

        assert_int_equal(call(p, IVG_CALL_cuDevicePrimaryCtxRetain, &request, sizeof(request)), CUDA_SUCCESS);
}
