/* Many threads copy pageable memory at once, in lengths and at alignments of all kinds, each on a stream of its own and
 * in its own part of the device, while the process forks; sources are overwritten as soon as a copy has returned. */
#include "check.h"
#include <pthread.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4
#define ROUNDS 3
#define FORKS 4
#define ROOM_BYTES ((size_t)26 << 20)

static const size_t lengths[] = {4097,           65535,          65536,          65537,
                                 262144 + 9,     (1 << 20) - 1,  1 << 20,        (1 << 20) + 1,
                                 (3 << 20) + 77, (8 << 20) - 63, (17 << 20) + 5, (25 << 20) + 1};
#define LENGTHS (sizeof lengths / sizeof lengths[0])

static CUcontext context;

struct part {
        pthread_t thread;
        uint32_t number;
        bool registered;
        CUdeviceptr device;
        CUstream stream;
        uint8_t *up, *down, *kept;
};

static void go_there_and_back(const struct part *part, size_t bytes, size_t skew, bool async)
{
        uint8_t *up = part->up + skew, *down = part->down + skew / 2 + 1;
        const CUdeviceptr device = part->device + skew;

        memcpy(up, part->kept, bytes);
        down[-1] = down[bytes] = 0xa7;
        if (async)
                CU(cuMemcpyHtoDAsync_v2(device, up, bytes, part->stream));
        else
                CU(cuMemcpyHtoD_v2(device, up, bytes));
        if (!async || !part->registered) /* registered memory is read when the stream comes to the copy */
                memset(up, 0x11, bytes);
        if (async)
                CU(cuMemcpyDtoHAsync_v2(down, device, bytes, part->stream));
        else
                CU(cuMemcpyDtoH_v2(down, device, bytes));
        if (async)
                CU(cuStreamSynchronize(part->stream));
        CHECK(memcmp(down, part->kept, bytes) == 0, "thread %u, %zu bytes at %zu: not what was sent", part->number,
              bytes, skew);
        CHECK(down[-1] == 0xa7 && down[bytes] == 0xa7, "thread %u, %zu bytes at %zu: beyond the ends", part->number,
              bytes, skew);
}

static void *copy_all(void *argument)
{
        struct part *part = argument;

        CU(cuCtxSetCurrent(context));
        for (uint32_t round = 0; round < ROUNDS; round++)
                for (size_t i = 0; i < LENGTHS; i++) {
                        test_fill(part->kept, lengths[i], part->number * 1000 + round * 100 + i);
                        go_there_and_back(part, lengths[i], (part->number * 13 + round * 7 + i) % 64, (round + i) % 2);
                }
        return NULL;
}

static void part_begin(struct part *part, uint32_t number)
{
        part->number = number;
        part->registered = number % 2 != 0;
        CU(cuMemAlloc_v2(&part->device, ROOM_BYTES));
        CU(cuStreamCreate(&part->stream, CU_STREAM_NON_BLOCKING));
        part->up = malloc(ROOM_BYTES);
        part->down = malloc(ROOM_BYTES);
        part->kept = malloc(ROOM_BYTES);
        CHECK(part->up && part->down && part->kept, "%zu bytes of memory", ROOM_BYTES);
        if (part->registered) /* the program's own pages */
                CU(cuMemHostRegister_v2(part->up, ROOM_BYTES, 0));
        CHECK(pthread_create(&part->thread, NULL, copy_all, part) == 0, "thread %u", number);
}

static void part_end(struct part *part)
{
        CHECK(pthread_join(part->thread, NULL) == 0, "thread %u", part->number);
        if (part->registered)
                CU(cuMemHostUnregister(part->up));
        CU(cuStreamDestroy_v2(part->stream));
        CU(cuMemFree_v2(part->device));
        free(part->up);
        free(part->down);
        free(part->kept);
}

/* A child that makes no CUDA calls, as a data loader's worker or system() does. */
static void fork_beside(void)
{
        const pid_t child = fork();
        int status;

        CHECK(child >= 0, "fork");
        if (child == 0)
                _exit(42);
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 42,
              "the child ended with status 0x%x", (unsigned)status);
}

/* Small ones in a row, each from the same memory, read on return. */
static void small_ones_keep_their_order(void)
{
        static uint32_t source[16384];
        static uint32_t back[16384];
        CUdeviceptr device;

        CU(cuMemAlloc_v2(&device, sizeof(source)));
        for (uint32_t round = 1; round <= 200; round++) {
                const uint32_t words = 700 + round * 78;

                for (uint32_t i = 0; i < words; i++)
                        source[i] = round << 16 ^ i;
                CU(cuMemcpyHtoDAsync_v2(device, source, (size_t)words * 4, NULL));
        }
        memset(source, 0, sizeof(source));
        CU(cuMemcpyDtoH_v2(back, device, sizeof(back)));
        for (uint32_t i = 0; i < 16300; i++)
                CHECK(back[i] == (200u << 16 ^ i), "word %u is 0x%x, not the last copy's", i, back[i]);
        CU(cuMemFree_v2(device));
}

int main(void)
{
        static struct part parts[THREADS];

        context = test_context();
        small_ones_keep_their_order();
        for (uint32_t i = 0; i < THREADS; i++)
                part_begin(&parts[i], i);
        for (uint32_t i = 0; i < FORKS; i++) {
                usleep(20000);
                fork_beside();
        }
        for (uint32_t i = 0; i < THREADS; i++)
                part_end(&parts[i]);
        small_ones_keep_their_order();
        puts("large copies: every byte arrived");
        return 0;
}
