/* The greeting byte for byte as QEMU reads it; a client that does not read or has gone costs an error, never a wait. */
#include "glue_fixture.h"
#include "ivgpu/fd_pass.h"
#include "ivgpu/server.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static int64_t read_message(int socket, int *fd)
{
        uint8_t bytes[8];
        int fds[IVG_FDS_PER_MESSAGE_MAX];
        uint32_t fd_count;
        uint64_t value = 0;

        assert_int_equal(ivg_fds_receive(socket, bytes, sizeof(bytes), fds, &fd_count), 8);
        assert_true(fd_count <= 1);
        *fd = fd_count == 1 ? fds[0] : -1;
        for (int i = 7; i >= 0; i--)
                value = value << 8 | bytes[i];
        return (int64_t)value;
}

/* The descriptor's other end is `expected`: what is written here is read there. */
static void assert_eventfd_is(int fd, int expected, uint64_t value)
{
        uint64_t got = 0;

        assert_true(fd >= 0);
        assert_int_equal(write(fd, &value, sizeof(value)), sizeof(value));
        assert_int_equal(read(expected, &got, sizeof(got)), sizeof(got));
        assert_int_equal(got, value);
        close(fd);
}

static void assert_greeting(uint32_t vectors)
{
        int memfd = test_region(2, vectors), sockets[2], fd;
        struct ivg_doorbells doorbells;
        struct ivg_error error = {""};
        struct stat sent, got;

        assert_int_equal(ivg_doorbells_create(&doorbells, vectors, &error), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
        assert_int_equal(ivg_ivshmem_greet(sockets[0], memfd, &doorbells, &error), 0);
        assert_int_equal(read_message(sockets[1], &fd), 0);
        assert_int_equal(fd, -1);
        assert_int_equal(read_message(sockets[1], &fd), 1);
        assert_int_equal(fd, -1);
        assert_int_equal(read_message(sockets[1], &fd), -1);
        assert_int_equal(fstat(fd, &got), 0);
        assert_int_equal(fstat(memfd, &sent), 0);
        assert_int_equal(got.st_ino, sent.st_ino);
        close(fd);
        for (uint32_t i = 0; i < vectors; i++) {
                assert_int_equal(read_message(sockets[1], &fd), 0);
                assert_eventfd_is(fd, doorbells.to_host[i], i + 1);
        }
        for (uint32_t i = 0; i < vectors; i++) {
                assert_int_equal(read_message(sockets[1], &fd), 1);
                assert_eventfd_is(fd, doorbells.to_guest[i], i + 1000);
        }
        assert_int_equal(recv(sockets[1], &fd, 1, MSG_DONTWAIT), -1);
        assert_int_equal(errno, EAGAIN);
        ivg_doorbells_close(&doorbells);
        close(sockets[0]);
        close(sockets[1]);
        close(memfd);
}

static void greeting_is_what_qemu_reads(void **state)
{
        (void)state;
        assert_greeting(2);
        assert_greeting(16);
        assert_greeting(IVG_VECTORS_MAX);
}

static void slow_or_closed_clients_do_not_block(void **state)
{
        int memfd = test_region(1, 2), sockets[2];
        struct ivg_doorbells doorbells;
        struct ivg_error error = {""};
        const uint64_t begin_ns = ivg_now_ns();
        int rc = 0;

        (void)state;
        assert_int_equal(ivg_doorbells_create(&doorbells, 64, &error), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
        for (int i = 0; i < 64 && rc == 0; i++)
                rc = ivg_ivshmem_greet(sockets[0], memfd, &doorbells, &error); /* nobody reads */
        assert_true(rc == -EAGAIN || rc == -ETOOMANYREFS);
        assert_words(error, "ivshmem greeting");
        close(sockets[1]);
        assert_int_equal(ivg_ivshmem_greet(sockets[0], memfd, &doorbells, &error), -EPIPE);
        assert_true(test_ms_since(begin_ns) < 5000);
        ivg_doorbells_close(&doorbells);
        close(sockets[0]);
        close(memfd);
}

static void doorbells_are_bounded_and_closed(void **state)
{
        struct ivg_doorbells doorbells;
        struct ivg_error error = {""};
        int probe, again;

        (void)state;
        assert_int_equal(ivg_doorbells_create(&doorbells, 1, &error), -EINVAL);
        assert_int_equal(ivg_doorbells_create(&doorbells, IVG_VECTORS_MAX + 1, &error), -EINVAL);
        assert_words(error, "vector_count 129 outside 2..128");
        probe = dup(0);
        close(probe);
        assert_int_equal(ivg_doorbells_create(&doorbells, IVG_VECTORS_MAX, &error), 0);
        assert_true((fcntl(doorbells.to_host[0], F_GETFL) & O_NONBLOCK) != 0);
        ivg_doorbells_close(&doorbells);
        ivg_doorbells_close(&doorbells);
        again = dup(0);
        assert_int_equal(again, probe); /* no descriptor was left open */
        close(again);
}

static int connect_to(const char *path, int type)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

        strcpy(address.sun_path, path);
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
                return fd;
        close(fd);
        return -1;
}

static void stale_sockets_are_replaced_and_live_ones_refused(void **state)
{
        char directory[64], path[128], other[128], longest[200];
        struct ivg_error error = {""};
        struct stat status;
        int first, second, client;
        const mode_t mask = umask(077);

        (void)state;
        test_directory(directory);
        snprintf(path, sizeof(path), "%s/vm.sock", directory);
        snprintf(other, sizeof(other), "%s/file", directory);
        first = ivg_server_listen(path, 0660, SOCK_STREAM, &error);
        assert_true(first >= 0);
        umask(mask);
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 07777, 0660);
        assert_true((fcntl(first, F_GETFL) & O_NONBLOCK) != 0);
        assert_int_equal(accept(first, NULL, NULL), -1);
        assert_int_equal(errno, EAGAIN);

        assert_int_equal(ivg_server_listen(path, 0600, SOCK_STREAM, &error), -EADDRINUSE);
        assert_words(error, path);
        assert_words(error, "another server is listening");
        assert_int_equal(ivg_server_listen(path, 0600, SOCK_SEQPACKET, &error), -EADDRINUSE);
        client = connect_to(path, SOCK_STREAM);
        assert_true(client >= 0); /* the refused ones harmed nothing */
        close(client);

        close(first); /* what a killed server leaves behind */
        second = ivg_server_listen(path, 0600, SOCK_SEQPACKET, &error);
        assert_true(second >= 0);
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 07777, 0600);
        client = connect_to(path, SOCK_SEQPACKET);
        assert_true(client >= 0);
        close(client);
        close(second);
        unlink(path);

        close(open(other, O_CREAT | O_WRONLY, 0600));
        assert_int_equal(ivg_server_listen(other, 0600, SOCK_STREAM, &error), -ENOTSOCK);
        assert_words(error, "not a socket");
        assert_int_equal(stat(other, &status), 0);
        unlink(other);
        rmdir(directory);
        assert_int_equal(ivg_server_listen(path, 0600, SOCK_STREAM, &error), -ENOENT);
        memset(longest, 'x', sizeof(longest) - 1);
        longest[sizeof(longest) - 1] = '\0';
        assert_int_equal(ivg_server_listen(longest, 0600, SOCK_STREAM, &error), -ENAMETOOLONG);
        assert_int_equal(ivg_server_listen("", 0600, SOCK_STREAM, &error), -ENAMETOOLONG);
}

/* ---- local hello and welcome ---- */

struct hello_case {
        const void *bytes;
        size_t count;
        enum ivg_error_code code;
        const char *words[2];
};

static void assert_hello_refused(const struct hello_case *test)
{
        struct ivg_local_welcome answer;
        struct ivg_error error = {""};
        struct ucred peer;
        int sockets[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
        assert_int_equal(send(sockets[1], test->bytes, test->count, 0), test->count);
        assert_int_equal(ivg_local_receive_hello(sockets[0], TEST_FINGERPRINT, &peer, &error), -EPROTO);
        assert_int_equal(recv(sockets[1], &answer, sizeof(answer), MSG_DONTWAIT), sizeof(answer));
        assert_int_equal(answer.magic, IVG_LOCAL_MAGIC);
        assert_int_equal(answer.code, test->code);
        for (int i = 0; i < 2; i++) {
                assert_words(error, test->words[i]);
                assert_non_null(strstr(answer.text, test->words[i]));
        }
        close(sockets[0]);
        close(sockets[1]);
}

static void wrong_hellos_are_refused_with_both_values(void **state)
{
        const struct ivg_local_hello good = {IVG_LOCAL_MAGIC, IVG_LAYOUT_VERSION, TEST_FINGERPRINT};
        struct ivg_local_hello magic = good, version = good, fingerprint = good;
        uint8_t longer[sizeof(good) + 1] = {0};

        (void)state;
        magic.magic = 0xdeadbeef;
        version.layout_version = 99;
        fingerprint.call_table_fingerprint = 0xabc;
        assert_hello_refused(
                &(struct hello_case){&magic, sizeof(magic), IVG_ERROR_INVALID_REQUEST, {"deadbeef", "4c475649"}});
        assert_hello_refused(&(struct hello_case){
                &version, sizeof(version), IVG_ERROR_INVALID_REQUEST, {"program has 99", "mediator has 2"}});
        assert_hello_refused(&(struct hello_case){&fingerprint,
                                                  sizeof(fingerprint),
                                                  IVG_ERROR_INVALID_REQUEST,
                                                  {"program has 0000000000000abc", "mediator has 1122334455667788"}});
        assert_hello_refused(&(struct hello_case){
                &good, sizeof(good) - 1, IVG_ERROR_INVALID_LENGTH, {"hello of 15 bytes", "expected 16"}});
        assert_hello_refused(&(struct hello_case){
                longer, sizeof(longer), IVG_ERROR_INVALID_LENGTH, {"hello of 17 bytes", "expected 16"}});
}

static void a_right_hello_brings_credentials_and_four_descriptors(void **state)
{
        const struct ivg_local_hello hello = {IVG_LOCAL_MAGIC, IVG_LAYOUT_VERSION, TEST_FINGERPRINT};
        int memfd = test_region(1, 0), events[3], sockets[2], fds[IVG_FDS_PER_MESSAGE_MAX];
        struct ivg_local_welcome welcome;
        struct ivg_error error = {""};
        struct stat sent, got;
        struct ucred peer;
        uint32_t fd_count;
        int leaked, probe;

        (void)state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
        assert_int_equal(ivg_local_receive_hello(sockets[0], TEST_FINGERPRINT, &peer, &error), -EAGAIN);
        /* A client that sends descriptors along leaves none with us. */
        probe = dup(0);
        close(probe);
        assert_int_equal(ivg_fds_send(sockets[1], &hello, sizeof(hello), sockets, 2), 0);
        assert_int_equal(ivg_local_receive_hello(sockets[0], TEST_FINGERPRINT, &peer, &error), 0);
        leaked = dup(0);
        assert_int_equal(leaked, probe);
        close(leaked);
        assert_int_equal(peer.pid, getpid());
        assert_int_equal(peer.uid, getuid());

        for (int i = 0; i < 3; i++)
                events[i] = eventfd(0, EFD_NONBLOCK);
        assert_int_equal(
                ivg_local_send_welcome(sockets[0], memfd, events[0], events[1], events[2], TEST_REGION_BYTES, &error),
                0);
        assert_int_equal(ivg_fds_receive(sockets[1], &welcome, sizeof(welcome), fds, &fd_count), sizeof(welcome));
        assert_int_equal(fd_count, 4);
        assert_int_equal(welcome.code, IVG_ERROR_NONE);
        assert_int_equal(welcome.region_bytes, TEST_REGION_BYTES);
        assert_int_equal(welcome.call_table_fingerprint, TEST_FINGERPRINT);
        assert_int_equal(fstat(fds[0], &got), 0);
        assert_int_equal(fstat(memfd, &sent), 0);
        assert_int_equal(got.st_ino, sent.st_ino);
        assert_true((fcntl(fds[0], F_GETFD) & FD_CLOEXEC) != 0);
        for (int i = 0; i < 3; i++)
                assert_eventfd_is(fds[i + 1], events[i], (uint64_t)i + 5);
        close(fds[0]);
        close(sockets[1]);
        assert_int_equal(ivg_local_receive_hello(sockets[0], TEST_FINGERPRINT, &peer, &error), -EPIPE);
        assert_int_equal(ivg_local_send_refusal(sockets[0], IVG_ERROR_TIMEOUT, "late"), -EPIPE);
        assert_int_equal(ivg_local_send_refusal(sockets[0], IVG_ERROR_NONE, "nothing"), -EINVAL);
        close(sockets[0]);
        for (int i = 0; i < 3; i++)
                close(events[i]);
        close(memfd);
}

static void long_refusals_are_cut(void **state)
{
        struct ivg_local_welcome answer;
        char longer[400];
        int sockets[2];

        (void)state;
        memset(longer, 'y', sizeof(longer) - 1);
        longer[sizeof(longer) - 1] = '\0';
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
        assert_int_equal(ivg_local_send_refusal(sockets[0], IVG_ERROR_VM_QUARANTINED, longer), 0);
        assert_int_equal(recv(sockets[1], &answer, sizeof(answer), MSG_DONTWAIT), sizeof(answer));
        assert_int_equal(answer.code, IVG_ERROR_VM_QUARANTINED);
        assert_int_equal(strnlen(answer.text, sizeof(answer.text)), sizeof(answer.text) - 1);
        close(sockets[0]);
        close(sockets[1]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(greeting_is_what_qemu_reads),
                cmocka_unit_test(slow_or_closed_clients_do_not_block),
                cmocka_unit_test(doorbells_are_bounded_and_closed),
                cmocka_unit_test(stale_sockets_are_replaced_and_live_ones_refused),
                cmocka_unit_test(wrong_hellos_are_refused_with_both_values),
                cmocka_unit_test(a_right_hello_brings_credentials_and_four_descriptors),
                cmocka_unit_test(long_refusals_are_cut),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
