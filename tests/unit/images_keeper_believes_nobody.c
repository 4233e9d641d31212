/* The keeper of images against executors that a guest has taken over: nothing is given out under a name that it does
 * not have, nothing that is sent makes it wait, grow or leak. */
#include "images_fixture.h"
#include "keeper.h"

#define MIB (1u << 20)
#define TURNS_MAX 4000u

struct fixture {
        struct ivg_keeper *keeper;
        int mediator;
        int inner; /* the keeper's end, which stays ours */
        uint32_t descriptors;
};

static const struct ivg_image_limits limits = {.bytes_max = 64 * MIB, .tenant_bytes_max = 48 * MIB, .count_max = 16};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        int pair[2];

        *state = f;
        f->descriptors = test_descriptors();
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        f->mediator = pair[0];
        f->inner = pair[1];
        f->keeper = ivg_keeper_create(pair[1], &limits);
        assert_non_null(f->keeper);
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        ivg_keeper_destroy(f->keeper);
        close(f->inner);
        if (f->mediator >= 0)
                close(f->mediator);
        assert_int_equal(test_descriptors(), f->descriptors);
        free(f);
        return 0;
}

static struct ivg_keeper_counts counts(const struct fixture *f)
{
        struct ivg_image_totals totals;
        struct ivg_keeper_counts now;

        ivg_keeper_counts(f->keeper, &now, &totals);
        return now;
}

static void turns(struct fixture *f, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++)
                assert_true(ivg_keeper_turn(f->keeper, 0));
}

static int client_open(struct fixture *f, uint32_t tenant, uint32_t space)
{
        const struct ivg_images_message message = {
                .magic = IVG_IMAGES_MAGIC, .type = IVG_IMAGES_CONNECT, .tenant = tenant, .space = space};
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        assert_int_equal(ivg_images_send(f->mediator, &message, pair[1]), 0);
        close(pair[1]);
        turns(f, 1);
        return pair[0];
}

/* Takes `fd` over. */
static void bring(int client, const struct ivg_digest *digest, uint64_t bytes, int fd)
{
        const struct ivg_images_message message = {
                .magic = IVG_IMAGES_MAGIC, .type = IVG_IMAGES_KEEP, .digest = *digest, .bytes = bytes};

        assert_int_equal(ivg_images_send(client, &message, fd), 0);
        if (fd >= 0)
                close(fd);
}

static void bring_image(int client, const struct test_image *image)
{
        bring(client, &image->digest, image->bytes, test_image_file(image, IVG_IMAGES_SEALS));
}

/* A descriptor, or -1. The answer comes within the turn that reads the question. */
static int find(struct fixture *f, int client, const struct ivg_digest *digest, uint64_t bytes)
{
        struct ivg_images_message message = {.magic = IVG_IMAGES_MAGIC,
                                             .type = IVG_IMAGES_FIND,
                                             .sequence = bytes ^ 0x5555,
                                             .digest = *digest,
                                             .bytes = bytes};
        int fd;

        assert_int_equal(ivg_images_send(client, &message, -1), 0);
        turns(f, 1);
        assert_int_equal(ivg_images_receive(client, &message, &fd), 0);
        assert_int_equal(message.sequence, bytes ^ 0x5555);
        assert_int_equal(message.type, fd >= 0 ? IVG_IMAGES_FOUND : IVG_IMAGES_MISSING);
        return fd;
}

static bool found(struct fixture *f, int client, const struct test_image *image)
{
        const int fd = find(f, client, &image->digest, image->bytes);
        uint8_t *copy;

        if (fd < 0)
                return false;
        copy = malloc(image->bytes);
        assert_true(ivg_images_sealed(fd, image->bytes));
        assert_int_equal(pread(fd, copy, image->bytes, 0), image->bytes);
        assert_memory_equal(copy, image->data, image->bytes);
        assert_true(write(fd, "x", 1) < 0);
        free(copy);
        close(fd);
        return true;
}

static bool closed(int client)
{
        struct ivg_images_message message;
        int fd;

        return ivg_images_receive(client, &message, &fd) == -EPIPE;
}

/* ---- what should be ---- */

static void what_one_brings_others_find(void **state)
{
        struct fixture *f = *state;
        const int a = client_open(f, 1, 0), b = client_open(f, 2, 0), apart = client_open(f, 3, 9);
        struct test_image image = test_image_make(3 * MIB + 17, 1);

        assert_false(found(f, b, &image));
        bring_image(a, &image);
        turns(f, 5);
        assert_true(found(f, a, &image));
        assert_true(found(f, b, &image));
        assert_false(found(f, apart, &image));
        close(a); /* whose process ends; the image stays */
        turns(f, 2);
        assert_true(found(f, b, &image));
        assert_int_equal(counts(f).kept, 1);
        close(b);
        close(apart);
        test_image_free(&image);
}

/* ---- lies ---- */

static void a_name_is_not_taken_on_trust(void **state)
{
        struct fixture *f = *state;
        const int evil = client_open(f, 1, 0), good = client_open(f, 2, 0);
        struct test_image wanted = test_image_make(MIB, 1), other = test_image_make(MIB, 2);

        /* Another's content under the name that the victim will ask for. */
        bring(evil, &wanted.digest, MIB, test_image_file(&other, IVG_IMAGES_SEALS));
        turns(f, 4);
        assert_false(found(f, good, &wanted));
        assert_false(found(f, good, &other)); /* nor under its own, which nobody claimed */
        assert_int_equal(counts(f).refused, 1);
        bring_image(good, &wanted); /* and the lie does not stand in the truth's way */
        turns(f, 4);
        assert_true(found(f, evil, &wanted));
        /* An image that nobody ever sent, whatever its name. */
        struct ivg_digest nobody = {{1, 2, 3, 4}};
        assert_int_equal(find(f, evil, &nobody, MIB), -1);
        /* The right name with another length. */
        assert_int_equal(find(f, evil, &wanted.digest, MIB - 1), -1);
        assert_int_equal(find(f, evil, &wanted.digest, UINT64_MAX), -1);
        close(evil);
        close(good);
        test_image_free(&wanted);
        test_image_free(&other);
}

static void lengths_are_not_taken_on_trust(void **state)
{
        struct fixture *f = *state;
        const int evil = client_open(f, 1, 0);
        struct test_image image = test_image_make(MIB, 1);
        static const uint64_t lies[] = {0, 1, MIB - 1, MIB + 1, IVG_IMAGES_BYTES_MAX + 1, UINT64_MAX, 1ull << 63};

        for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
                bring(evil, &image.digest, lies[i], test_image_file(&image, IVG_IMAGES_SEALS));
                turns(f, 4);
                assert_int_equal(counts(f).refused, i + 1);
        }
        assert_false(found(f, evil, &image));
        close(evil);
        test_image_free(&image);
}

/* Changed during or after the upload: only what cannot change any more is looked at. */
static void what_may_still_change_is_refused(void **state)
{
        struct fixture *f = *state;
        const int evil = client_open(f, 1, 0);
        struct test_image image = test_image_make(MIB, 1);
        const int lacking[] = {F_SEAL_WRITE, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL, IVG_IMAGES_SEALS};
        uint32_t refused = 0;
        int fds[2], fd;

        for (size_t i = 0; i < sizeof(lacking) / sizeof(lacking[0]); i++) {
                bring(evil, &image.digest, MIB, test_image_file(&image, IVG_IMAGES_SEALS & ~lacking[i]));
                turns(f, 4);
                assert_int_equal(counts(f).refused, ++refused);
        }
        /* Things that are no memory at all, some of which would never end or never answer. */
        static const char *const files[] = {"/dev/zero", "/proc/self/exe", "/dev/null", "/proc/self/mem"};
        for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
                fd = open(files[i], O_RDONLY | O_CLOEXEC);
                assert_true(fd >= 0);
                bring(evil, &image.digest, MIB, fd);
                turns(f, 2);
                assert_int_equal(counts(f).refused, ++refused);
        }
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        bring(evil, &image.digest, MIB, fds[0]);
        bring(evil, &image.digest, MIB, fds[1]);
        bring(evil, &image.digest, MIB, -1);
        turns(f, 4);
        assert_int_equal(counts(f).refused, refused + 3);
        assert_false(found(f, evil, &image));
        close(evil);
        test_image_free(&image);
}

static void nonsense_ends_its_sender_only(void **state)
{
        struct fixture *f = *state;
        const int good = client_open(f, 1, 0);
        struct test_image image = test_image_make(70000, 1);
        static const uint32_t types[] = {0, IVG_IMAGES_CONNECT, IVG_IMAGES_FOUND, IVG_IMAGES_MISSING, 77};
        uint8_t bytes[200] = {0};

        for (size_t i = 0; i < sizeof(types) / sizeof(types[0]) + 3; i++) {
                const int evil = client_open(f, 2, 0);
                struct ivg_images_message message = {.magic = IVG_IMAGES_MAGIC, .type = i < 5 ? types[i] : 0};

                if (i < 5) {
                        const int fd = test_image_file(&image, 0);

                        assert_int_equal(ivg_images_send(evil, &message, fd), 0);
                        close(fd);
                } else {
                        assert_true(send(evil, bytes, (size_t[]){1, 63, 200}[i - 5], MSG_NOSIGNAL) > 0);
                }
                turns(f, 2);
                assert_true(closed(evil));
                close(evil);
        }
        bring_image(good, &image);
        turns(f, 2);
        assert_true(found(f, good, &image));
        close(good);
        test_image_free(&image);
}

/* Two descriptors in one message: neither is kept, and neither stays open. */
static void more_descriptors_than_one_are_closed(void **state)
{
        struct fixture *f = *state;
        const int evil = client_open(f, 1, 0);
        struct test_image image = test_image_make(70000, 1);
        struct ivg_images_message message = {
                .magic = IVG_IMAGES_MAGIC, .type = IVG_IMAGES_KEEP, .digest = image.digest, .bytes = image.bytes};
        struct iovec part = {.iov_base = &message, .iov_len = sizeof(message)};
        int fds[2] = {test_image_file(&image, IVG_IMAGES_SEALS), test_image_file(&image, IVG_IMAGES_SEALS)};
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(fds))] = {0};
        struct msghdr header = {
                .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};

        CMSG_FIRSTHDR(&header)->cmsg_level = SOL_SOCKET;
        CMSG_FIRSTHDR(&header)->cmsg_type = SCM_RIGHTS;
        CMSG_FIRSTHDR(&header)->cmsg_len = CMSG_LEN(sizeof(fds));
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&header)), fds, sizeof(fds));
        assert_int_equal(sendmsg(evil, &header, MSG_NOSIGNAL), sizeof(message));
        close(fds[0]);
        close(fds[1]);
        const uint32_t before = test_descriptors();
        turns(f, 2);
        assert_true(closed(evil));
        assert_true(test_descriptors() < before); /* the client's own is closed, and none came instead */
        close(evil);
        test_image_free(&image);
}

/* ---- floods ---- */

static void a_flood_delays_nobody_and_fills_nothing(void **state)
{
        struct fixture *f = *state;
        const int evil = client_open(f, 1, 0), good = client_open(f, 2, 0);
        struct test_image large = test_image_make(40 * MIB, 1), small = test_image_make(70000, 2);
        struct ivg_image_totals totals;
        struct ivg_keeper_counts now;
        const int file = test_image_file(&large, IVG_IMAGES_SEALS);
        uint32_t last = 0;

        bring_image(good, &small);
        turns(f, 2);
        /* The same large image under a hundred wrong names: each would have to be hashed. */
        for (uint32_t i = 0; i < 100; i++) {
                struct ivg_digest name = {{i, i, i, i + 1}};

                bring(evil, &name, large.bytes, fcntl(file, F_DUPFD_CLOEXEC, 0));
                turns(f, 1);
                assert_true(found(f, good, &small)); /* answered within its turn */
        }
        while (counts(f).refused + counts(f).dropped < 100 && last++ < TURNS_MAX)
                turns(f, 1);
        ivg_keeper_counts(f->keeper, &now, &totals);
        assert_int_equal(now.refused + now.dropped, 100);
        assert_true(now.dropped >= 100 - IVG_KEEPER_PENDING_OF_ONE_MAX * 3);
        assert_int_equal(now.kept, 1);
        assert_int_equal(totals.bytes, small.bytes);
        close(file);
        close(evil);
        close(good);
        test_image_free(&large);
        test_image_free(&small);
}

/* Its sender is gone before it was verified. */
static void a_sender_may_end_at_any_time(void **state)
{
        struct fixture *f = *state;
        struct test_image image = test_image_make(8 * MIB, 1);
        int a = client_open(f, 1, 0), b;

        bring_image(a, &image);
        close(a);
        b = client_open(f, 2, 0);
        turns(f, 12);
        assert_true(found(f, b, &image));
        /* One that asks and never takes its answers. */
        for (uint32_t i = 0; i < 2000; i++) {
                const struct ivg_images_message message = {.magic = IVG_IMAGES_MAGIC, .type = IVG_IMAGES_FIND};

                (void)ivg_images_send(b, &message, -1);
                turns(f, 1);
        }
        a = client_open(f, 3, 0);
        assert_true(found(f, a, &image));
        close(a);
        close(b);
        test_image_free(&image);
}

static void the_mediators_end_is_the_end(void **state)
{
        struct fixture *f = *state;
        const int a = client_open(f, 1, 0);

        close(f->mediator);
        f->mediator = -1;
        assert_false(ivg_keeper_turn(f->keeper, 0));
        close(a);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(what_one_brings_others_find),
                TEST(a_name_is_not_taken_on_trust),
                TEST(lengths_are_not_taken_on_trust),
                TEST(what_may_still_change_is_refused),
                TEST(nonsense_ends_its_sender_only),
                TEST(more_descriptors_than_one_are_closed),
                TEST(a_flood_delays_nobody_and_fills_nothing),
                TEST(a_sender_may_end_at_any_time),
                TEST(the_mediators_end_is_the_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
