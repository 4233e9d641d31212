/* Large pageable copies by several threads: every byte arrives for every length and alignment, nobody touches the
 * program's memory after the call, errors in the middle are told, and the helpers are good guests in the program's
 * process. */
#include "cuda_api.h"
#include "guest_fake_host.h"
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define HELPERS 3
#define MIB ((size_t)1 << 20)
#define DEVICE_BYTES (24 * MIB)
#define GUARD_BYTES 256u
static uint8_t *device;

static void begin(void)
{
        fake_host_start(64, 20);
        device = calloc(1, DEVICE_BYTES);
        if (device == NULL)
                abort();
}

static CUdeviceptr at(size_t offset)
{
        return (uintptr_t)device + offset;
}

static void fill(uint8_t *bytes, size_t count, uint64_t seed)
{
        for (size_t i = 0; i < count; i++) {
                seed = seed * 6364136223846793005ull + 1442695040888963407ull;
                bytes[i] = (uint8_t)(seed >> 56);
        }
}

static bool is_all(const uint8_t *bytes, size_t count, uint8_t value)
{
        for (size_t i = 0; i < count; i++)
                if (bytes[i] != value)
                        return false;
        return true;
}

static void *pages(size_t bytes)
{
        void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(memory != MAP_FAILED);
        return memory;
}

/* ---- moving past the caches ---- */

static void bytes_past_the_caches_are_the_same_bytes(void **state)
{
        (void)state;
        enum { ROOM = 1024 };
        uint8_t from[ROOM], to[ROOM];
        fill(from, ROOM, 1);
        for (size_t bytes = 0; bytes <= 400; bytes += bytes < 140 ? 1 : 13)
                for (size_t a = 0; a < 64; a += 7)
                        for (size_t b = 0; b < 64; b += 9) {
                                memset(to, 0xee, ROOM);
                                ivg_copy_bytes_past_caches(to + GUARD_BYTES + a, from + b, bytes);
                                assert_memory_equal(to + GUARD_BYTES + a, from + b, bytes);
                                assert_true(is_all(to, GUARD_BYTES + a, 0xee));
                                assert_true(is_all(to + GUARD_BYTES + a + bytes, ROOM - GUARD_BYTES - a - bytes, 0xee));
                        }
}

/* ---- lengths and alignments ---- */

static void round_trip(uint8_t *program, const uint8_t *pattern, size_t bytes, size_t skew)
{
        uint8_t *here = program + GUARD_BYTES + skew;
        memset(program, 0xa5, bytes + 2 * GUARD_BYTES + skew);
        memcpy(here, pattern, bytes);
        device[bytes + 11] = 0x77;
        assert_int_equal(cuMemcpyHtoD_v2(at(11), here, bytes), CUDA_SUCCESS);
        memset(here, 0xa5, bytes); /* the source has been read */
        assert_int_equal(cuMemcpyDtoH_v2(here, at(11), bytes), CUDA_SUCCESS);
        assert_memory_equal(here, pattern, bytes);
        assert_true(is_all(program, GUARD_BYTES + skew, 0xa5));
        assert_true(is_all(here + bytes, GUARD_BYTES, 0xa5));
        assert_int_equal(device[bytes + 11], 0x77);
}

static void every_length_around_a_threshold_arrives(void **state)
{
        (void)state;
        static const size_t around[] = {3000,    64 << 10, 128 << 10, 256 << 10, 512 << 10,
                                        MIB,     2 * MIB,  4 * MIB,   8 * MIB,   8 * MIB + (192 << 10),
                                        20 * MIB};
        uint8_t *program = malloc(DEVICE_BYTES), *pattern = malloc(DEVICE_BYTES);
        fill(pattern, DEVICE_BYTES, 9);
        for (size_t i = 0; i < sizeof around / sizeof around[0]; i++)
                for (int more = -1; more <= 1; more++)
                        round_trip(program, pattern + i, around[i] + (size_t)more,
                                   (i * 3 + (size_t)(more + 1) * 29) % 64);
        for (size_t skew = 0; skew < 64; skew += 5)
                round_trip(program, pattern, MIB + skew * 4099, skew);
        free(program);
        free(pattern);
}

static void nobody_touches_the_programs_memory_afterwards(void **state)
{
        (void)state;
        const size_t bytes = 3 * MIB + 5;
        for (uint32_t round = 0; round < 30; round++) {
                uint8_t *program = pages(bytes);
                memset(program, (int)round + 1, bytes);
                assert_int_equal(cuMemcpyHtoDAsync_v2(at(0), program, bytes, NULL), CUDA_SUCCESS);
                assert_int_equal(munmap(program, bytes), 0);
                program = pages(bytes);
                assert_int_equal(cuMemcpyDtoHAsync_v2(program, at(0), bytes, NULL), CUDA_SUCCESS);
                assert_true(is_all(program, bytes, (uint8_t)(round + 1)));
                assert_int_equal(munmap(program, bytes), 0);
        }
}

static void registered_memory_is_staged_the_same_way(void **state)
{
        (void)state;
        const size_t bytes = 5 * MIB;
        uint8_t *program = pages(bytes), *pattern = malloc(bytes);
        fill(pattern, bytes, 21);
        memcpy(program, pattern, bytes);
        assert_int_equal(cuMemHostRegister_v2(program, bytes, 0), CUDA_SUCCESS);
        assert_int_equal(cuMemcpyHtoDAsync_v2(at(3), program + 7, bytes - 7, NULL), CUDA_SUCCESS);
        memset(program, 0, bytes);
        assert_int_equal(cuMemcpyDtoHAsync_v2(program + 7, at(3), bytes - 7, NULL), CUDA_SUCCESS);
        assert_memory_equal(program + 7, pattern + 7, bytes - 7);
        assert_int_equal(cuMemHostUnregister(program), CUDA_SUCCESS);
        munmap(program, bytes);
        free(pattern);
}

/* ---- failures ---- */

static void a_failure_in_the_middle_is_told_and_leaves_nothing_behind(void **state)
{
        (void)state;
        const size_t bytes = 12 * MIB;
        for (uint32_t after = 0; after < 20; after += 3) {
                uint8_t *program = pages(bytes);
                memset(program, 0x42, bytes);
                fake_host_fail_copy_after(after, CUDA_ERROR_ILLEGAL_ADDRESS);
                assert_int_equal(cuMemcpyDtoH_v2(program, at(0), bytes), CUDA_ERROR_ILLEGAL_ADDRESS);
                assert_int_equal(munmap(program, bytes), 0); /* no helper is in it any more */
                assert_int_equal(fake_host_count().deferred, CUDA_SUCCESS);
                program = pages(bytes);
                memset(program, 0x42, bytes);
                fake_host_fail_copy_after(after, CUDA_ERROR_INVALID_VALUE);
                /* Told by the copy itself when it sees the failure in time, else by the next call that may. */
                const CUresult up = cuMemcpyHtoD_v2(at(0), program, bytes);
                assert_int_equal(munmap(program, bytes), 0);
                fake_host_settle();
                const CUresult later = cuMemcpy(at(0), at(100), 10); /* host to host: synchronizes */
                assert_true((up == CUDA_ERROR_INVALID_VALUE && later == CUDA_SUCCESS) ||
                            (up == CUDA_SUCCESS && later == CUDA_ERROR_INVALID_VALUE));
        }
        uint8_t *program = pages(bytes);
        memset(device, 0x31, bytes);
        assert_int_equal(cuMemcpyDtoH_v2(program, at(0), bytes), CUDA_SUCCESS);
        assert_true(is_all(program, bytes, 0x31));
        munmap(program, bytes);
}

/* ---- words of synchronous calls ---- */

#define SYNC_WORDS 64

/* A word whose value is still to come is nobody's until then, and somebody's afterwards. */
static void a_word_that_was_left_comes_back(void **state)
{
        (void)state;
        struct ivg_completion *words[SYNC_WORDS], *left;
        struct ivg_object *context;
        assert_int_equal(ivg_context_require(&context), CUDA_SUCCESS);
        for (int i = 0; i < SYNC_WORDS; i++) {
                words[i] = ivg_completion_take();
                assert_non_null(words[i]);
        }
        assert_null(ivg_completion_take());
        left = words[7];
        const uint64_t value = ivg_completion_begin(left, IVG_ID_STREAM_LEGACY, context);
        assert_int_equal(ivg_completion_wait_at_most(left, 1000), CUDA_SUCCESS);
        assert_true(left->pending);
        ivg_completion_give(left);
        assert_null(ivg_completion_take());
        ivg_store_release_u64(ivg_region_completions(NULL, 0) + left->index, value);
        words[7] = ivg_completion_take();
        assert_ptr_equal(words[7], left);
        assert_false(left->pending);
        for (int i = 0; i < SYNC_WORDS; i++)
                ivg_completion_give(words[i]);
}

/* ---- threads ---- */

#define THREADS 5

static void *copy_in_a_thread(void *arg)
{
        const size_t bytes = 3 * MIB + 77 * (uintptr_t)arg, base = (uintptr_t)arg * 4 * MIB;
        uint8_t *up = malloc(bytes), *down = malloc(bytes);
        void *complaint = NULL;
        for (uint64_t round = 0; round < 6 && complaint == NULL; round++) {
                fill(up, bytes, round * 31 + (uintptr_t)arg);
                if (cuMemcpyHtoD_v2(at(base), up, bytes) != CUDA_SUCCESS ||
                    cuMemcpyDtoH_v2(down, at(base), bytes) != CUDA_SUCCESS)
                        complaint = (void *)(uintptr_t) "a copy failed";
                else if (memcmp(up, down, bytes) != 0)
                        complaint = (void *)(uintptr_t) "another copy's bytes";
        }
        free(up);
        free(down);
        return complaint;
}

static void threads_copy_at_once(void **state)
{
        (void)state;
        pthread_t threads[THREADS];
        for (uintptr_t i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, copy_in_a_thread, (void *)i), 0);
        for (int i = 0; i < THREADS; i++) {
                void *complaint;
                assert_int_equal(pthread_join(threads[i], &complaint), 0);
                if (complaint != NULL)
                        fail_msg("%s", (const char *)complaint);
        }
}

/* ---- guests in the program's process ---- */

/* Calls `look` with /proc/self/task/ID/status of each helper; returns how many there are. */
static uint32_t each_helper(void (*look)(FILE *status))
{
        DIR *tasks = opendir("/proc/self/task");
        uint32_t count = 0;
        assert_non_null(tasks);
        for (const struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
                char path[300], name[32] = "";
                snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
                FILE *status = entry->d_name[0] != '.' ? fopen(path, "r") : NULL;
                if (status == NULL)
                        continue;
                if (fscanf(status, "Name: %31s", name) == 1 && strcmp(name, "ivgpu-copy") == 0) {
                        count++;
                        look(status);
                }
                fclose(status);
        }
        closedir(tasks);
        return count;
}

static void look_at_signals(FILE *status)
{
        char line[200];
        unsigned long long blocked = 0;
        while (fgets(line, sizeof line, status) != NULL)
                if (sscanf(line, "SigBlk: %llx", &blocked) == 1)
                        break;
        assert_true(blocked >> (SIGUSR1 - 1) & 1);
        assert_true(blocked >> (SIGALRM - 1) & 1);
        assert_false(blocked >> (SIGSEGV - 1) & 1);
}

static uint32_t helpers_asleep;

static void count_asleep(FILE *status)
{
        char line[200], what = 0;
        while (fgets(line, sizeof line, status) != NULL)
                if (sscanf(line, "State: %c", &what) == 1)
                        break;
        helpers_asleep += what == 'S';
}

static void helpers_are_few_and_leave_signals_to_the_program(void **state)
{
        (void)state;
        assert_int_equal(each_helper(look_at_signals), HELPERS);
}

static void helpers_sleep_when_nothing_is_copied(void **state)
{
        (void)state;
        struct timespec before, after;
        for (int i = 0; i < 1000 && helpers_asleep != HELPERS; i++) { /* they look for work a while first */
                usleep(10000);
                helpers_asleep = 0;
                assert_int_equal(each_helper(count_asleep), HELPERS);
        }
        assert_int_equal(helpers_asleep, HELPERS);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
        usleep(200000);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
        assert_true((after.tv_sec - before.tv_sec) * 1000000000ll + after.tv_nsec - before.tv_nsec < 20000000);
}

static uint8_t *guarded;
static _Atomic(uint32_t) faults;

static void on_fault(int number, siginfo_t *info, void *context)
{
        (void)number;
        (void)context;
        const uintptr_t address = (uintptr_t)info->si_addr;
        if (address - (uintptr_t)guarded >= 8 * MIB)
                _exit(4);
        mprotect((void *)(address & ~(uintptr_t)4095), 4096, PROT_READ | PROT_WRITE);
        faults++;
}

/* Programs that watch their pages by protecting them: the handler runs on whichever thread touched one. */
static void a_programs_fault_handler_is_obeyed(void **state)
{
        (void)state;
        const struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
        struct sigaction old;
        guarded = pages(8 * MIB);
        memset(guarded, 0x5c, 8 * MIB);
        assert_int_equal(sigaction(SIGSEGV, &action, &old), 0);
        assert_int_equal(mprotect(guarded, 8 * MIB, PROT_NONE), 0);
        assert_int_equal(cuMemcpyHtoD_v2(at(0), guarded, 8 * MIB), CUDA_SUCCESS);
        assert_int_equal(sigaction(SIGSEGV, &old, NULL), 0);
        assert_true(faults >= 8 * MIB / 4096);
        fake_host_settle();
        assert_true(is_all(device, 8 * MIB, 0x5c));
        munmap(guarded, 8 * MIB);
}

/* ---- ends ---- */

/* In a process of its own: a thread copies all the time, and the process forks, then exits. */
static void *copy_for_ever(void *arg)
{
        uint8_t *program = pages(6 * MIB);
        (void)arg;
        for (uint64_t round = 0;; round++) {
                memset(program, (int)round, 6 * MIB);
                if (cuMemcpyHtoD_v2(at(0), program, 6 * MIB) != CUDA_SUCCESS ||
                    cuMemcpyDtoH_v2(program, at(0), 6 * MIB) != CUDA_SUCCESS ||
                    !is_all(program, 6 * MIB, (uint8_t)round))
                        _exit(5);
        }
        return NULL;
}

static int scenario(void)
{
        pthread_t thread;
        begin();
        if (pthread_create(&thread, NULL, copy_for_ever, NULL) != 0)
                return 6;
        for (int i = 0; i < 10; i++) {
                int status;
                usleep(5000);
                const pid_t child = fork();
                if (child == 0) {
                        free(malloc(100));
                        _exit(each_helper(count_asleep) == 0 ? 0 : 7);
                }
                if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
                        return 8;
        }
        exit(0);
}

static void a_process_forks_and_ends_beside_copies(void **state)
{
        (void)state;
        for (int i = 0; i < 3; i++) {
                int status;
                const pid_t child = fork();
                assert_true(child >= 0);
                if (child == 0) {
                        execl("/proc/self/exe", "scenario", "scenario", (char *)NULL);
                        _exit(9);
                }
                assert_int_equal(waitpid(child, &status, 0), child);
                assert_int_equal(status, 0);
        }
}

static int start(void **state)
{
        (void)state;
        begin();
        return 0;
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(bytes_past_the_caches_are_the_same_bytes),
                cmocka_unit_test(every_length_around_a_threshold_arrives),
                cmocka_unit_test(nobody_touches_the_programs_memory_afterwards),
                cmocka_unit_test(registered_memory_is_staged_the_same_way),
                cmocka_unit_test(a_failure_in_the_middle_is_told_and_leaves_nothing_behind),
                cmocka_unit_test(a_word_that_was_left_comes_back),
                cmocka_unit_test(threads_copy_at_once),
                cmocka_unit_test(helpers_are_few_and_leave_signals_to_the_program),
                cmocka_unit_test(helpers_sleep_when_nothing_is_copied),
                cmocka_unit_test(a_programs_fault_handler_is_obeyed),
                cmocka_unit_test(a_process_forks_and_ends_beside_copies),
        };
        setenv("IVGPU_COPY_THREADS", "4", 1); /* whatever the machine has */
        if (argc == 2 && strcmp(argv[1], "scenario") == 0)
                return scenario();
        return cmocka_run_group_tests(tests, start, NULL);
}
