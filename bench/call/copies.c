/* Copies of every kind and size. The time of one copy counts until its data may be used: a synchronous one's until it
 * returns, asynchronous ones' until the stream that holds several of them has been waited for. Before a kind is
 * measured, what it carried there and back is compared. */
#include "bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BYTES_FIRST 4u
#define COPIES_PER_PASS_MAX 64u
#define PASS_NS 4e6
#define CHECKED_BYTES (3u << 20 | 40)
#define RATE_FROM_BYTES (64u << 10) /* below it, a copy's time says more than its rate */

enum memory_kind { PAGEABLE, PINNED, REGISTERED, MEMORY_KINDS };
static const char *const memory_names[] = {"pageable", "pinned", "registered"};
enum direction { HTOD, DTOH, DTOD };
static const char *const direction_names[] = {"htod", "dtoh", "dtod"};

struct buffers {
        uint64_t bytes; /* of each that is there */
        CUdeviceptr device, device_other;
        uint8_t *host[MEMORY_KINDS];
        uint64_t host_bytes[MEMORY_KINDS]; /* 0: not to be had */
};

/* ---- memory ---- */

static void *map_pages(uint64_t bytes)
{
        void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (memory == MAP_FAILED)
                bench_die("no %llu bytes of memory", (unsigned long long)bytes);
        memset(memory, 0x5a, bytes); /* the kernel's first touch is not what is measured */
        return memory;
}

/* The largest of bytes, bytes / 2, … that can be pinned. */
static void pin_memory(struct buffers *buffers)
{
        CUresult result = CUDA_SUCCESS;

        for (uint64_t bytes = buffers->bytes; bytes >= CHECKED_BYTES; bytes /= 2) {
                void *memory;

                result = cuMemHostAlloc(&memory, bytes, 0);
                if (result == CUDA_SUCCESS) {
                        memset(memory, 0x5a, bytes);
                        buffers->host[PINNED] = memory;
                        buffers->host_bytes[PINNED] = bytes;
                        return;
                }
        }
        figure_skip("copy_*_pinned_*", "cuMemHostAlloc", result);
}

static void register_memory(struct buffers *buffers)
{
        void *memory = map_pages(buffers->bytes);
        const CUresult result = cuMemHostRegister_v2(memory, buffers->bytes, 0);

        if (result == CUDA_SUCCESS) {
                buffers->host[REGISTERED] = memory;
                buffers->host_bytes[REGISTERED] = buffers->bytes;
                return;
        }
        munmap(memory, buffers->bytes);
        figure_skip("copy_*_registered_*", "cuMemHostRegister", result);
}

static void free_buffers(struct buffers *buffers)
{
        CU(cuMemFree_v2(buffers->device));
        CU(cuMemFree_v2(buffers->device_other));
        munmap(buffers->host[PAGEABLE], buffers->bytes);
        if (buffers->host[PINNED])
                CU(cuMemFreeHost(buffers->host[PINNED]));
        if (buffers->host[REGISTERED]) {
                CU(cuMemHostUnregister(buffers->host[REGISTERED]));
                munmap(buffers->host[REGISTERED], buffers->bytes);
        }
}

/* ---- one copy ---- */

struct copy {
        enum direction direction;
        enum memory_kind memory; /* of the host's side */
        bool async;
        uint64_t bytes;
};

static void issue(const struct bench *bench, const struct buffers *buffers, const struct copy *copy)
{
        uint8_t *host = buffers->host[copy->memory];

        switch (copy->direction) {
        case HTOD:
                if (copy->async)
                        CU(cuMemcpyHtoDAsync_v2(buffers->device, host, copy->bytes, bench->stream));
                else
                        CU(cuMemcpyHtoD_v2(buffers->device, host, copy->bytes));
                return;
        case DTOH:
                if (copy->async)
                        CU(cuMemcpyDtoHAsync_v2(host, buffers->device, copy->bytes, bench->stream));
                else
                        CU(cuMemcpyDtoH_v2(host, buffers->device, copy->bytes));
                return;
        case DTOD:
                if (copy->async)
                        CU(cuMemcpyDtoDAsync_v2(buffers->device_other, buffers->device, copy->bytes, bench->stream));
                else
                        CU(cuMemcpyDtoD_v2(buffers->device_other, buffers->device, copy->bytes));
                return;
        }
}

/* What goes up in this way comes down in this way. */
static void check_memory(const struct bench *bench, const struct buffers *buffers, enum memory_kind memory, bool async)
{
        struct copy copy = {.direction = HTOD, .memory = memory, .async = async, .bytes = CHECKED_BYTES};
        uint8_t *host = buffers->host[memory], *before = malloc(CHECKED_BYTES);

        if (!before)
                bench_die("no %u bytes of memory", CHECKED_BYTES);
        for (uint32_t i = 0; i < CHECKED_BYTES; i++)
                before[i] = (uint8_t)(i * 2654435761u >> 24 ^ (uint32_t)memory);
        memcpy(host, before, CHECKED_BYTES);
        issue(bench, buffers, &copy);
        CU(cuCtxSynchronize());
        memset(host, 0, CHECKED_BYTES);
        copy.direction = DTOH;
        issue(bench, buffers, &copy);
        CU(cuCtxSynchronize());
        if (memcmp(host, before, CHECKED_BYTES) != 0)
                bench_die("%u bytes of %s memory came back changed", CHECKED_BYTES, memory_names[memory]);
        free(before);
}

/* ---- measured ---- */

/* Nanoseconds of one copy. */
static double copy_pass(const struct bench *bench, const struct buffers *buffers, const struct copy *copy,
                        uint32_t copies)
{
        const double start = bench_now_ns();
        double ns;

        for (uint32_t i = 0; i < copies; i++)
                issue(bench, buffers, copy);
        if (copy->async)
                CU(cuStreamSynchronize(bench->stream));
        else if (copy->bytes >= RATE_FROM_BYTES || copy->direction == DTOD)
                CU(cuCtxSynchronize());
        ns = (bench_now_ns() - start) / copies;
        CU(cuCtxSynchronize()); /* the next pass finds the device idle */
        return ns;
}

static void measure_copy(const struct bench *bench, const struct buffers *buffers, const struct copy *copy,
                         const char *name)
{
        const uint32_t passes_count = bench->passes > 3 ? 3 : bench->passes;
        const bool as_rate = copy->bytes >= RATE_FROM_BYTES;
        double passes[BENCH_PASSES_MAX];
        const double first_ns = copy_pass(bench, buffers, copy, 1), fit = PASS_NS / first_ns;
        uint32_t copies = fit > COPIES_PER_PASS_MAX ? COPIES_PER_PASS_MAX : (uint32_t)fit;

        if (copies == 0)
                copies = 1;
        for (uint32_t pass = 0; pass < passes_count; pass++) {
                const double ns = copy_pass(bench, buffers, copy, copies);

                passes[pass] = as_rate ? (double)copy->bytes / ns : ns / 1e3;
        }
        figure_add(name, as_rate ? "GB/s" : "us", passes, passes_count);
}

/* Names end in the size, in bytes. */
static void name_copy(const struct copy *copy, char *name, size_t name_bytes)
{
        const char *way = copy->async ? "async" : "sync";

        if (copy->direction == DTOD)
                snprintf(name, name_bytes, "copy_dtod_%s_%llu", way, (unsigned long long)copy->bytes);
        else
                snprintf(name, name_bytes, "copy_%s_%s_%s_%llu", direction_names[copy->direction],
                         memory_names[copy->memory], way, (unsigned long long)copy->bytes);
}

static void measure_sizes(const struct bench *bench, const struct buffers *buffers, struct copy copy,
                          uint64_t bytes_max)
{
        for (copy.bytes = BYTES_FIRST; copy.bytes <= bytes_max; copy.bytes *= 4) {
                char name[64];

                name_copy(&copy, name, sizeof(name));
                if (bench_wants(bench, name))
                        measure_copy(bench, buffers, &copy, name);
        }
}

void bench_copies(struct bench *bench)
{
        struct buffers buffers = {.bytes = bench->copy_bytes_max < 2 * CHECKED_BYTES ? 2 * CHECKED_BYTES
                                                                                     : bench->copy_bytes_max};

        if (bench->only && strncmp(bench->only, "copy", 4) != 0)
                return;
        CU(cuMemAlloc_v2(&buffers.device, buffers.bytes));
        CU(cuMemAlloc_v2(&buffers.device_other, buffers.bytes));
        CU(cuMemsetD8_v2(buffers.device, 0, buffers.bytes));
        buffers.host[PAGEABLE] = map_pages(buffers.bytes);
        buffers.host_bytes[PAGEABLE] = buffers.bytes;
        pin_memory(&buffers);
        register_memory(&buffers);
        for (int async = 0; async < 2; async++) {
                for (int memory = 0; memory < MEMORY_KINDS; memory++) {
                        const uint64_t bytes_max = buffers.host_bytes[memory] < bench->copy_bytes_max
                                                           ? buffers.host_bytes[memory]
                                                           : bench->copy_bytes_max;

                        if (bytes_max == 0)
                                continue;
                        check_memory(bench, &buffers, (enum memory_kind)memory, async);
                        for (int direction = HTOD; direction <= DTOH; direction++)
                                measure_sizes(bench, &buffers,
                                              (struct copy){.direction = (enum direction)direction,
                                                            .memory = (enum memory_kind)memory,
                                                            .async = async},
                                              bytes_max);
                }
                measure_sizes(bench, &buffers, (struct copy){.direction = DTOD, .async = async}, bench->copy_bytes_max);
        }
        free_buffers(&buffers);
}
