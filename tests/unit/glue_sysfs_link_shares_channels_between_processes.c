/* The sysfs link on a tree of ordinary files: devices, doorbells, locks, epochs and processes that die. The host is a
 * thread that does what a mediator does with the state words, and hears doorbells in the register's memory. */
#include "glue_fixture.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define CHANNELS 3u
#define VECTORS 3u
#define BAR0_IN_PAGE 0x100u
#define DEVICE "0000:00:03.0"

struct sysfs_fixture {
        char root[64];
        int region_fd, bar0_fd;
        volatile uint32_t *doorbell;
        struct ivg_region region; /* the mediator's view */
        pthread_t thread;
        _Atomic(uint32_t) ended, beats_stopped, deaf, executors;
};

static void file_write(const char *root, const char *device, const char *name, const char *text)
{
        char path[256];
        int fd;

        snprintf(path, sizeof(path), "%s/%s/%s", root, device, name);
        fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        close(fd);
}

static void device_make(const char *root, const char *device, const char *vendor, const char *id)
{
        char path[256];

        snprintf(path, sizeof(path), "%s/%s", root, device);
        assert_int_equal(mkdir(path, 0755), 0);
        file_write(root, device, "vendor", vendor);
        file_write(root, device, "device", id);
        file_write(root, device, "enable", "0\n");
        file_write(root, device, "resource",
                   "0x00000000febf1100 0x00000000febf11ff 0x0000000000040200\n"
                   "0x0000000000000000 0x0000000000000000 0x0000000000000000\n");
}

/* Copies what a fresh memfd holds into the file that stands for BAR2. */
static int bar2_make(const char *root, const char *device, uint32_t vector_count)
{
        static uint8_t head[4 << 20];
        char path[256];
        int memfd = test_region(CHANNELS, vector_count);
        int fd;

        snprintf(path, sizeof(path), "%s/%s/resource2", root, device);
        fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
        assert_true(fd >= 0);
        assert_int_equal(pread(memfd, head, sizeof(head), 0), sizeof(head));
        assert_int_equal(pwrite(fd, head, sizeof(head), 0), sizeof(head));
        assert_int_equal(ftruncate(fd, TEST_REGION_BYTES), 0);
        close(memfd);
        return fd;
}

/* ---- the host ---- */

static void host_channel_serve(struct sysfs_fixture *fixture, uint32_t channel)
{
        _Atomic(uint64_t) *state = &ivg_region_host_pages(&fixture->region)->channels[channel].state;
        const uint64_t guest = ivg_load_acquire_u64(&ivg_region_guest_pages(&fixture->region)->channels[channel].state);
        const uint64_t host = ivg_load_acquire_u64(state);
        const uint32_t generation = ivg_channel_word_generation(host);

        if (ivg_channel_word_generation(guest) != generation)
                return;
        if (ivg_channel_word_state(guest) == IVG_GUEST_CHANNEL_OPEN &&
            ivg_channel_word_state(host) == IVG_HOST_CHANNEL_FREE) {
                ivg_store_release_u64(&ivg_region_ring_host(&fixture->region, channel)->status,
                                      ivg_channel_word(generation, IVG_RING_OPEN));
                ivg_store_release_u64(state, ivg_channel_word(generation, IVG_HOST_CHANNEL_READY));
                atomic_fetch_add(&fixture->executors, 1);
        } else if (ivg_channel_word_state(guest) == IVG_GUEST_CHANNEL_CLOSED &&
                   ivg_channel_word_state(host) == IVG_HOST_CHANNEL_READY) {
                ivg_store_release_u64(state, ivg_channel_word(generation + 1, IVG_HOST_CHANNEL_FREE));
                atomic_fetch_sub(&fixture->executors, 1);
        }
}

static void host_epoch_serve(struct sysfs_fixture *fixture)
{
        struct ivg_host_pages *host = ivg_region_host_pages(&fixture->region);
        const uint64_t epoch = ivg_load_acquire_u64(&ivg_region_guest_pages(&fixture->region)->boot_epoch);

        if (ivg_load_relaxed_u64(&host->epoch_seen) == epoch)
                return;
        for (uint32_t i = 0; i < CHANNELS; i++) {
                const uint64_t word = ivg_load_relaxed_u64(&host->channels[i].state);

                if (ivg_channel_word_state(word) == IVG_HOST_CHANNEL_READY)
                        ivg_store_release_u64(
                                &host->channels[i].state,
                                ivg_channel_word(ivg_channel_word_generation(word) + 1, IVG_HOST_CHANNEL_FREE));
        }
        atomic_store(&fixture->executors, 0);
        ivg_store_release_u64(&host->epoch_seen, epoch);
}

static void *host_main(void *arg)
{
        struct sysfs_fixture *fixture = arg;
        _Atomic(uint64_t) *heartbeat = &ivg_region_host_pages(&fixture->region)->heartbeat;

        while (atomic_load(&fixture->ended) == 0) {
                if (atomic_load(&fixture->beats_stopped) == 0)
                        ivg_store_relaxed_u64(heartbeat, ivg_load_relaxed_u64(heartbeat) + 1);
                if (atomic_load(&fixture->deaf) == 0) {
                        host_epoch_serve(fixture);
                        for (uint32_t i = 0; i < CHANNELS; i++)
                                host_channel_serve(fixture, i);
                }
                usleep(1000);
        }
        return NULL;
}

static int sysfs_setup(void **state)
{
        struct sysfs_fixture *fixture = calloc(1, sizeof(*fixture));
        char path[256];
        uint8_t *bar0;

        test_directory(fixture->root);
        device_make(fixture->root, DEVICE, "0x1af4\n", "0x1110\n");
        fixture->region_fd = bar2_make(fixture->root, DEVICE, VECTORS);
        snprintf(path, sizeof(path), "%s/" DEVICE "/resource0", fixture->root);
        fixture->bar0_fd = open(path, O_CREAT | O_RDWR, 0600);
        assert_int_equal(ftruncate(fixture->bar0_fd, 4096), 0);
        bar0 = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fixture->bar0_fd, 0);
        assert_ptr_not_equal(bar0, MAP_FAILED);
        fixture->doorbell = (volatile uint32_t *)(void *)(bar0 + BAR0_IN_PAGE + 12);
        *fixture->doorbell = UINT32_MAX;
        fixture->region = test_map(fixture->region_fd, IVG_SIDE_HOST_MEDIATOR, 0);
        assert_int_equal(pthread_create(&fixture->thread, NULL, host_main, fixture), 0);
        *state = fixture;
        return 0;
}

static int sysfs_teardown(void **state)
{
        struct sysfs_fixture *fixture = *state;
        char command[128];

        atomic_store(&fixture->ended, 1);
        pthread_join(fixture->thread, NULL);
        ivg_region_unmap(&fixture->region);
        munmap((void *)((uintptr_t)fixture->doorbell & ~4095ul), 4096);
        close(fixture->region_fd);
        close(fixture->bar0_fd);
        snprintf(command, sizeof(command), "rm -rf %s", fixture->root);
        assert_int_equal(system(command), 0);
        free(fixture);
        return 0;
}

/* ---- the guest ---- */

struct opening {
        int rc;
        enum ivg_error_code code;
        struct ivg_error error;
        struct ivg_link *link;
};

static struct opening sysfs_try(const struct sysfs_fixture *fixture, const char *forced, uint32_t open_ms)
{
        const struct ivg_link_places places = {
                .forced = forced, .socket = "/nonexistent/s", .sysfs_root = fixture->root, .open_ms = open_ms};
        struct opening opening = {.error = {""}};

        opening.rc = ivg_link_open_at(&places, TEST_FINGERPRINT, &opening.link, &opening.code, &opening.error);
        return opening;
}

static struct ivg_link *sysfs_open(const struct sysfs_fixture *fixture)
{
        const struct opening opening = sysfs_try(fixture, "sysfs:" DEVICE, 10000);

        if (opening.rc != 0)
                fail_msg("%s", opening.error.text);
        return opening.link;
}

struct guest_process {
        pid_t pid;
        int said; /* its channel, once open */
};

/* A process that opens a link, says which channel it got, claims two extents and waits to be killed or for its stdin.
 */
static struct guest_process guest_start(const struct sysfs_fixture *fixture)
{
        struct guest_process process;
        int out[2], channel = -1;

        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        process.pid = fork();
        if (process.pid == 0) {
                const struct opening opening = sysfs_try(fixture, "sysfs:" DEVICE, 10000);
                uint32_t first;

                if (opening.rc == 0 && ivg_link_extents_claim(opening.link, 2, &first) == 0)
                        channel = (int)ivg_link_channel(opening.link);
                if (write(out[1], &channel, sizeof(channel)) != sizeof(channel))
                        _exit(1);
                sleep(60);
                _exit(2);
        }
        close(out[1]);
        assert_int_equal(read(out[0], &process.said, sizeof(process.said)), sizeof(process.said));
        close(out[0]);
        assert_true(process.said >= 0);
        return process;
}

static void guest_kill(const struct guest_process *process)
{
        int status;

        kill(process->pid, SIGKILL);
        assert_int_equal(waitpid(process->pid, &status, 0), process->pid);
        assert_true(WIFSIGNALED(status));
}

static uint32_t extents_owned(const struct sysfs_fixture *fixture)
{
        uint32_t count = 0;

        for (uint32_t i = 0; i < fixture->region.extent_count; i++)
                count += ivg_load_acquire_u32(&ivg_region_guest_pages(&fixture->region)->extent_owner[i]) != 0;
        return count;
}

/* ---- tests ---- */

static bool never(void *arg)
{
        (void)arg;
        return false;
}

static void opens_rings_and_closes_in_order(void **state)
{
        struct sysfs_fixture *fixture = *state;
        struct ivg_link *link = sysfs_open(fixture);
        const struct ivg_guest_pages *guest = ivg_region_guest_pages(&fixture->region);
        uint32_t first;

        assert_string_equal(ivg_link_name(link), "sysfs:" DEVICE);
        assert_int_equal(ivg_link_channel(link), 0);
        assert_int_equal(ivg_link_alive(link), 0);
        assert_int_equal(*fixture->doorbell, 0); /* control: peer 0, vector 0 */
        ivg_link_doorbell(link);
        assert_int_equal(*fixture->doorbell, 1); /* channel 0: vector 1 */
        assert_int_equal(ivg_load_acquire_u64(&guest->channels[0].state), ivg_channel_word(1, IVG_GUEST_CHANNEL_OPEN));
        assert_int_equal(ivg_link_extents_claim(link, 3, &first), 0);
        assert_int_equal(extents_owned(fixture), 3);
        assert_int_equal(ivg_link_wait(link, never, NULL, 10), -ETIMEDOUT);
        ivg_link_close(link);
        assert_int_equal(extents_owned(fixture), 0);
        assert_int_equal(ivg_load_acquire_u64(&guest->channels[0].state), ivg_channel_word(1, IVG_GUEST_CHANNEL_FREE));
        assert_int_equal(atomic_load(&fixture->executors), 0);

        link = sysfs_open(fixture); /* the process may come again */
        assert_int_equal(ivg_link_channel(link), 0);
        assert_int_equal(ivg_link_generation(link), 2);
        ivg_link_close(link);
}

static void processes_get_channels_of_their_own(void **state)
{
        struct sysfs_fixture *fixture = *state;
        const struct guest_process first = guest_start(fixture);
        const struct guest_process second = guest_start(fixture);
        struct ivg_link *link = sysfs_open(fixture);
        struct opening opening;

        assert_int_equal(first.said, 0);
        assert_int_equal(second.said, 1);
        assert_int_equal(ivg_link_channel(link), 2);
        ivg_link_doorbell(link);
        assert_int_equal(*fixture->doorbell, 1); /* channel 2 of 3 vectors shares vector 1 */
        opening = sysfs_try(fixture, "sysfs:" DEVICE, 500);
        assert_int_equal(opening.rc, -EBUSY);
        assert_words(opening.error, "this process has a link");
        ivg_link_close(link);
        guest_kill(&first);
        guest_kill(&second);
}

static void full_is_said_and_a_killed_processs_channel_is_recovered(void **state)
{
        struct sysfs_fixture *fixture = *state;
        struct guest_process processes[CHANNELS];
        struct opening opening;

        for (uint32_t i = 0; i < CHANNELS; i++)
                processes[i] = guest_start(fixture);
        opening = sysfs_try(fixture, "sysfs:" DEVICE, 2000);
        assert_int_equal(opening.rc, -EBUSY);
        assert_int_equal(opening.code, IVG_ERROR_QUEUE_FULL);
        assert_words(opening.error, "all 3 channels are in use");
        assert_int_equal(extents_owned(fixture), 6);

        guest_kill(&processes[1]);
        opening = sysfs_try(fixture, "sysfs:" DEVICE, 10000);
        assert_int_equal(opening.rc, 0);
        assert_int_equal(ivg_link_channel(opening.link), 1);
        assert_int_equal(ivg_link_generation(opening.link), 2);
        assert_int_equal(extents_owned(fixture), 4); /* the dead one's two came back */
        assert_int_equal(atomic_load(&fixture->executors), 3);
        ivg_link_close(opening.link);
        guest_kill(&processes[0]);
        guest_kill(&processes[2]);
}

static void a_new_boot_starts_clean(void **state)
{
        struct sysfs_fixture *fixture = *state;
        struct ivg_region guest = test_map(fixture->region_fd, IVG_SIDE_GUEST, IVG_CHANNEL_NONE);
        struct ivg_guest_pages *pages = ivg_region_guest_pages(&guest);
        struct ivg_link *link;

        /* What an earlier boot leaves: its epoch, an open channel with an executor, extents. */
        ivg_store_release_u64(&pages->boot_epoch, 12345);
        usleep(20000);
        ivg_store_release_u32(&pages->extent_owner[4], 3);
        ivg_store_release_u64(&pages->channels[2].state, ivg_channel_word(1, IVG_GUEST_CHANNEL_OPEN));
        for (int i = 0; i < 1000 && atomic_load(&fixture->executors) == 0; i++)
                usleep(1000);
        assert_int_equal(atomic_load(&fixture->executors), 1);
        link = sysfs_open(fixture);
        assert_int_equal(atomic_load(&fixture->executors), 1); /* ours; the old one is gone */
        assert_int_equal(extents_owned(fixture), 0);
        assert_int_not_equal(ivg_load_acquire_u64(&pages->boot_epoch), 12345);
        assert_int_equal(ivg_load_acquire_u64(&ivg_region_host_pages(&fixture->region)->epoch_seen),
                         ivg_load_acquire_u64(&pages->boot_epoch));
        ivg_link_close(link);
        ivg_region_unmap(&guest);
}

static void a_silent_mediator_is_refused_and_noticed(void **state)
{
        struct sysfs_fixture *fixture = *state;
        struct opening opening;
        uint64_t begin_ns;

        atomic_store(&fixture->deaf, 1);
        atomic_store(&fixture->beats_stopped, 1);
        begin_ns = ivg_now_ns();
        opening = sysfs_try(fixture, "sysfs:" DEVICE, 10000);
        assert_int_equal(opening.rc, -EPIPE);
        assert_int_equal(opening.code, IVG_ERROR_MEDIATOR_UNAVAILABLE);
        assert_words(opening.error, "mediator does not answer");
        assert_true(test_ms_since(begin_ns) >= IVG_HEARTBEAT_LOST_MS && test_ms_since(begin_ns) < 5000);

        atomic_store(&fixture->deaf, 0);
        atomic_store(&fixture->beats_stopped, 0);
        opening = sysfs_try(fixture, "sysfs:" DEVICE, 10000);
        assert_int_equal(opening.rc, 0);
        atomic_store(&fixture->beats_stopped, 1);
        begin_ns = ivg_now_ns();
        assert_int_equal(ivg_link_wait(opening.link, never, NULL, 10000), -EPIPE);
        assert_true(test_ms_since(begin_ns) < 5000);
        ivg_link_close(opening.link);
}

static void a_forked_child_neither_owns_nor_closes(void **state)
{
        struct sysfs_fixture *fixture = *state;
        struct ivg_link *link = sysfs_open(fixture);
        int status;
        const pid_t child = fork();

        if (child == 0) {
                struct opening opening;

                ivg_link_abandon(link);
                opening = sysfs_try(fixture, "sysfs:" DEVICE, 10000);
                _exit(opening.rc == 0 && ivg_link_channel(opening.link) == 1 ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        assert_int_equal(ivg_link_alive(link), 0);
        assert_int_equal(ivg_load_acquire_u64(&ivg_region_guest_pages(&fixture->region)->channels[0].state),
                         ivg_channel_word(1, IVG_GUEST_CHANNEL_OPEN));
        ivg_link_close(link);
}

static void unfit_devices_are_refused_by_name(void **state)
{
        struct sysfs_fixture *fixture = *state;
        struct opening opening;
        char path[256];

        device_make(fixture->root, "0000:00:01.0", "0x8086\n", "0x1110\n");
        opening = sysfs_try(fixture, "sysfs:0000:00:01.0", 500);
        assert_int_equal(opening.rc, -ENOENT);
        assert_words(opening.error, "sysfs:0000:00:01.0: not an ivshmem device");
        opening = sysfs_try(fixture, "sysfs:0000:00:09.0", 500);
        assert_int_equal(opening.rc, -ENOENT);
        assert_words(opening.error, "no such device");
        opening = sysfs_try(fixture, "sysfs:../etc", 500);
        assert_int_equal(opening.rc, -EINVAL);
        assert_words(opening.error, "is no device name");

        device_make(fixture->root, "0000:00:02.0", "0x1af4\n", "0x1110\n");
        close(bar2_make(fixture->root, "0000:00:02.0", 0));
        opening = sysfs_try(fixture, "sysfs:0000:00:02.0", 500);
        assert_int_equal(opening.rc, -EINVAL);
        assert_words(opening.error, "vector_count 0");
        close(bar2_make(fixture->root, "0000:00:02.0", 2));
        file_write(fixture->root, "0000:00:02.0", "resource", "0x0000000000000000 0x0 0x0\n");
        opening = sysfs_try(fixture, "sysfs:0000:00:02.0", 500);
        assert_int_equal(opening.rc, -ENXIO);
        assert_words(opening.error, "BAR0 at 0 is not placed");
        snprintf(path, sizeof(path), "%s/0000:00:02.0/driver", fixture->root);
        assert_int_equal(symlink("/", path), 0);
        opening = sysfs_try(fixture, "sysfs:0000:00:02.0", 500);
        assert_int_equal(opening.rc, -EBUSY);
        assert_words(opening.error, "a kernel driver has this device");

        /* A search passes them over and finds the right one. */
        opening = sysfs_try(fixture, NULL, 10000);
        assert_int_equal(opening.rc, 0);
        assert_string_equal(ivg_link_name(opening.link), "sysfs:" DEVICE);
        ivg_link_close(opening.link);
}

static void without_rights_it_says_so(void **state)
{
        struct sysfs_fixture *fixture = *state;
        int status;
        pid_t child;

        if (getuid() != 0)
                skip();
        assert_int_equal(chmod(fixture->root, 0755), 0);
        file_write(fixture->root, DEVICE, "enable", "1\n");
        child = fork();
        if (child == 0) {
                struct opening opening;
                char path[256];

                for (int i = 0; i < 3; i++) {
                        static const char *const readable[] = {"vendor", "device", "enable"};

                        snprintf(path, sizeof(path), "%s/" DEVICE "/%s", fixture->root, readable[i]);
                        if (chmod(path, 0644) != 0)
                                _exit(3);
                }
                if (setgid(65534) != 0 || setuid(65534) != 0)
                        _exit(2);
                opening = sysfs_try(fixture, "sysfs:" DEVICE, 500);
                _exit(opening.rc == -EACCES && strstr(opening.error.text, "sysfs needs root") != NULL ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
}

int main(void)
{
#define SYSFS_TEST(name) cmocka_unit_test_setup_teardown(name, sysfs_setup, sysfs_teardown)
        const struct CMUnitTest tests[] = {
                SYSFS_TEST(opens_rings_and_closes_in_order),
                SYSFS_TEST(processes_get_channels_of_their_own),
                SYSFS_TEST(full_is_said_and_a_killed_processs_channel_is_recovered),
                SYSFS_TEST(a_new_boot_starts_clean),
                SYSFS_TEST(a_silent_mediator_is_refused_and_noticed),
                SYSFS_TEST(a_forked_child_neither_owns_nor_closes),
                SYSFS_TEST(unfit_devices_are_refused_by_name),
                SYSFS_TEST(without_rights_it_says_so),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
