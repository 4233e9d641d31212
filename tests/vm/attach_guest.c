/* The guest's half of the attach test, run as root in a guest without our driver: opens links through sysfs, has its
 * doorbells answered, shares the device between processes and leaves one of them dead.
 *
 * Exit code 0 when everything held; else the first broken expectation is named on standard error. */
#include "attach.h"
#include "ivgpu/link.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HOST_FREES_MS 3000

#define expect(condition)                                                                                             \
        do {                                                                                                          \
                if (!(condition)) {                                                                                   \
                        fprintf(stderr, "vm_attach_guest:%d: expected %s (errno %d)\n", __LINE__, #condition, errno); \
                        exit(1);                                                                                      \
                }                                                                                                     \
        } while (0)

static uint64_t now_us(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static struct ivg_link *open_link(void)
{
        enum ivg_error_code code;
        struct ivg_error error = {""};
        struct ivg_link *link = NULL;
        const int rc = ivg_link_open(ATTACH_FINGERPRINT, &link, &code, &error);

        if (rc != 0) {
                fprintf(stderr, "vm_attach_guest: %d: %s: %s\n", rc, ivg_error_code_name(code), error.text);
                exit(1);
        }
        return link;
}

/* ---- questions through the arena, answers through a completion word ---- */

struct question {
        const _Atomic(uint64_t) *answer;
        uint64_t expected;
};

static bool answered(void *arg)
{
        const struct question *question = arg;

        return ivg_load_acquire_u64(question->answer) == question->expected;
}

static int compare_us(const void *a, const void *b)
{
        const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

        return (left > right) - (left < right);
}

static void ask(struct ivg_link *link, const char *who)
{
        const struct ivg_region *region = ivg_link_region(link);
        struct question question = {.answer = ivg_region_completions(region, ivg_link_channel(link))};
        uint64_t times_us[ATTACH_ROUNDS];
        uint8_t *window = NULL;
        uint32_t first;
        int rc = -EEXIST;

        for (uint32_t i = 0; i < IVG_WINDOW_ATTEMPTS_MAX && rc == -EEXIST; i++) {
                window = ivg_region_window_candidate(region, i);
                rc = ivg_link_map_arena(link, window);
        }
        expect(rc == 0);
        expect(ivg_link_extents_claim(link, 2, &first) == 0);
        for (uint32_t round = 0; round < ATTACH_ROUNDS; round++) {
                const uint64_t begin_us = now_us();

                question.expected = round + 1 + ATTACH_ANSWER_ADDS;
                ivg_store_release_u64((_Atomic(uint64_t) *)(void *)(window + (uint64_t)first * IVG_EXTENT_BYTES),
                                      round + 1);
                ivg_link_doorbell(link);
                expect(ivg_link_wait(link, answered, &question, 5000) == 0);
                times_us[round] = now_us() - begin_us;
        }
        qsort(times_us, ATTACH_ROUNDS, sizeof(times_us[0]), compare_us);
        printf("guest: %s on channel %u of %s, generation %u: %u doorbells answered, p50 %llu us\n", who,
               ivg_link_channel(link), ivg_link_name(link), ivg_link_generation(link), ATTACH_ROUNDS,
               (unsigned long long)times_us[ATTACH_ROUNDS / 2]);
        fflush(stdout);
}

/* ---- processes ---- */

static void child_lives_in_order(void)
{
        const pid_t child = fork();
        int status;

        expect(child >= 0);
        if (child == 0) {
                struct ivg_link *link = open_link();

                expect(ivg_link_channel(link) == 1);
                ask(link, "child");
                ivg_link_close(link);
                _exit(0);
        }
        expect(waitpid(child, &status, 0) == child && status == 0);
}

static pid_t child_stays(void)
{
        int ready[2];
        char byte;
        pid_t child;

        expect(pipe(ready) == 0);
        child = fork();
        expect(child >= 0);
        if (child == 0) {
                struct ivg_link *link = open_link();

                ask(link, "doomed child");
                expect(write(ready[1], "r", 1) == 1);
                pause();
                _exit(1);
        }
        expect(read(ready[0], &byte, 1) == 1);
        close(ready[0]);
        close(ready[1]);
        return child;
}

static void host_frees(struct ivg_link *link, uint32_t channel, uint32_t generation)
{
        const _Atomic(uint64_t) *state = &ivg_region_host_pages(ivg_link_region(link))->channels[channel].state;

        for (int i = 0; i < HOST_FREES_MS; i++) {
                if (ivg_load_acquire_u64(state) == ivg_channel_word(generation, IVG_HOST_CHANNEL_FREE))
                        return;
                usleep(1000);
        }
        expect(!"the host freed the dead process's channel");
}

int main(void)
{
        struct ivg_link *link = open_link();
        pid_t doomed;
        int status;

        expect(strncmp(ivg_link_name(link), "sysfs:", 6) == 0);
        expect(strcmp(ivg_link_region(link)->vm_name, "attach") == 0);
        expect(ivg_link_channel(link) == 0 && ivg_link_generation(link) == 1);
        ask(link, "parent");

        /* Another process gets the next channel, gives it back, and the next has it in its second generation. */
        ivg_link_close(link);
        link = open_link();
        expect(ivg_link_channel(link) == 0 && ivg_link_generation(link) == 2);
        ivg_link_close(link);

        doomed = child_stays(); /* channel 0, generation 3 */
        child_lives_in_order(); /* channel 1, while the other lives */
        kill(doomed, SIGKILL);
        expect(waitpid(doomed, &status, 0) == doomed && WIFSIGNALED(status));

        link = open_link(); /* sees the dead owner, closes its channel, takes a free one meanwhile */
        host_frees(link, 0, 4);
        expect(ivg_link_alive(link) == 0);
        ivg_link_close(link);
        link = open_link(); /* and the dead one's is to be had again, its extents too */
        expect(ivg_link_channel(link) == 0 && ivg_link_generation(link) == 4);
        ask(link, "successor");
        ivg_link_close(link);
        printf("guest: all held\n");
        return 0;
}
