/* Copies over a device that is late: every size and way arrives whole, sources may be reused when CUDA says so,
 * failures are told once, and many threads share the buffers. */
#include "cuda_api.h"
#include "guest_fake_host.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DEVICE_BYTES (5u << 20)
static uint8_t *device; /* "device memory": told to no index, so that only the call says what it is */

static int start(void **state)
{
        (void)state;
        fake_host_start(16, 300);
        device = calloc(1, DEVICE_BYTES);
        return device == NULL;
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

static const size_t sizes[] = {
        1, 8, 2999, 3000, 3001, 65536, 65537, (1u << 19) - 1, 1u << 19, (1u << 19) + 1, (2u << 20) + 7, DEVICE_BYTES};

static void round_trip(uint8_t *up, uint8_t *down, size_t bytes, bool async)
{
        fill(up, bytes, bytes);
        memset(down, 0xa5, bytes);
        memset(device, 0x77, bytes);
        if (async) {
                assert_int_equal(cuMemcpyHtoDAsync_v2(at(0), up, bytes, NULL), CUDA_SUCCESS);
                assert_int_equal(cuMemcpyDtoHAsync_v2(down, at(0), bytes, NULL), CUDA_SUCCESS);
                fake_host_settle(); /* for pinned memory: as cuStreamSynchronize would */
        } else {
                assert_int_equal(cuMemcpyHtoD_v2(at(0), up, bytes), CUDA_SUCCESS);
                assert_int_equal(cuMemcpyDtoH_v2(down, at(0), bytes), CUDA_SUCCESS);
        }
        assert_memory_equal(up, down, bytes);
}

static void every_size_goes_both_ways(void **state)
{
        (void)state;
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                uint8_t *pageable[2] = {malloc(sizes[i]), malloc(sizes[i])};
                void *pinned[2];
                assert_int_equal(cuMemAllocHost_v2(&pinned[0], sizes[i]), CUDA_SUCCESS);
                assert_int_equal(cuMemAllocHost_v2(&pinned[1], sizes[i]), CUDA_SUCCESS);
                for (int async = 0; async < 2; async++) {
                        round_trip(pageable[0], pageable[1], sizes[i], async);
                        round_trip(pinned[0], pinned[1], sizes[i], async);
                        round_trip(pinned[0], pageable[1], sizes[i], async);
                        round_trip(pageable[0], pinned[1], sizes[i], async);
                }
                assert_int_equal(cuMemFreeHost(pinned[0]), CUDA_SUCCESS);
                assert_int_equal(cuMemFreeHost(pinned[1]), CUDA_SUCCESS);
                free(pageable[0]);
                free(pageable[1]);
        }
}

static void pageable_sources_are_read_on_return(void **state)
{
        (void)state;
        const size_t bytes = 3u << 20;
        uint8_t *source = malloc(bytes), *expected = malloc(bytes), *back = malloc(bytes);
        for (uint64_t round = 0; round < 3; round++) {
                fill(source, bytes, round);
                memcpy(expected, source, bytes);
                assert_int_equal(cuMemcpyHtoDAsync_v2(at(0), source, bytes, NULL), CUDA_SUCCESS);
                memset(source, 0, bytes);
                assert_int_equal(cuMemcpyDtoH_v2(back, at(0), bytes), CUDA_SUCCESS);
                assert_memory_equal(back, expected, bytes);
        }
        free(source);
        free(expected);
        free(back);
}

/* Uploads that the executor reads at once: a stream that waits for something the program has yet to do must not stop
 * the program, however many there are. */
static void small_uploads_never_wait_for_their_stream(void **state)
{
        (void)state;
        uint8_t source[5000];
        const uint32_t before = fake_host_count().synchronizations;
        fake_host_set_delay(1000);
        for (int round = 0; round < 200; round++) {
                memset(source, round, sizeof source);
                assert_int_equal(cuMemcpyHtoDAsync_v2(at(0), source, sizeof source, NULL), CUDA_SUCCESS);
        }
        assert_int_equal(fake_host_count().synchronizations, before);
        fake_host_settle();
        fake_host_set_delay(300);
        assert_int_equal(device[0], 199);
        assert_int_equal(device[sizeof source - 1], 199);
}

static void synchronous_pinned_copies_are_done_on_return(void **state)
{
        (void)state;
        void *pinned;
        assert_int_equal(cuMemAllocHost_v2(&pinned, 100), CUDA_SUCCESS);
        memset(pinned, 3, 100);
        memset(device, 0, 100);
        fake_host_set_delay(5000);
        assert_int_equal(cuMemcpyHtoD_v2(at(0), pinned, 100), CUDA_SUCCESS);
        assert_int_equal(device[99], 3); /* without any other wait */
        fake_host_set_delay(300);
        assert_int_equal(cuMemFreeHost(pinned), CUDA_SUCCESS);
}

static void asynchronous_pinned_copies_read_the_source_in_stream_order(void **state)
{
        (void)state;
        void *pinned;
        assert_int_equal(cuMemAllocHost_v2(&pinned, 64), CUDA_SUCCESS);
        memset(device, 5, 128);
        memset(pinned, 0, 64);
        /* The device writes the pinned memory first, then copies it on: nothing may be read before. */
        assert_int_equal(cuMemcpyDtoHAsync_v2(pinned, at(0), 64, NULL), CUDA_SUCCESS);
        assert_int_equal(cuMemcpyHtoDAsync_v2(at(1000), pinned, 64, NULL), CUDA_SUCCESS);
        fake_host_settle();
        assert_int_equal(device[1000], 5);
        assert_int_equal(cuMemFreeHost(pinned), CUDA_SUCCESS);
}

static void freeing_pinned_memory_waits_for_its_copies(void **state)
{
        (void)state;
        void *pinned, *next;
        assert_int_equal(cuMemAllocHost_v2(&pinned, 4096), CUDA_SUCCESS);
        memset(pinned, 9, 4096);
        fake_host_set_delay(3000);
        assert_int_equal(cuMemcpyHtoDAsync_v2(at(0), pinned, 4096, NULL), CUDA_SUCCESS);
        assert_int_equal(cuMemFreeHost(pinned), CUDA_SUCCESS);
        assert_int_equal(cuMemAllocHost_v2(&next, 4096), CUDA_SUCCESS);
        memset(next, 0, 4096); /* most likely the same place */
        fake_host_settle();
        fake_host_set_delay(300);
        assert_int_equal(device[4095], 9);
        assert_int_equal(cuMemFreeHost(next), CUDA_SUCCESS);
}

static void failures_are_told_once(void **state)
{
        (void)state;
        uint8_t small[64], *large = calloc(1, 3u << 20);
        for (int round = 0; round < 3; round++) { /* the same failure again on the same word must count again */
                fake_host_fail_next_copy(CUDA_ERROR_INVALID_VALUE);
                assert_int_equal(cuMemcpyDtoH_v2(small, at(0), 64), CUDA_ERROR_INVALID_VALUE);
                assert_int_equal(fake_host_count().deferred, CUDA_SUCCESS);
                fake_host_fail_next_copy(CUDA_ERROR_ILLEGAL_ADDRESS);
                assert_int_equal(cuMemcpyDtoH_v2(large, at(0), 3u << 20), CUDA_ERROR_ILLEGAL_ADDRESS);
                assert_int_equal(fake_host_count().deferred, CUDA_SUCCESS);
                memset(device, round, 64);
                assert_int_equal(cuMemcpyDtoH_v2(small, at(0), 64), CUDA_SUCCESS);
                assert_int_equal(small[63], round);
        }
        /* A staged copy to the device that nobody waits for: the error waits for a call that may tell it. */
        fake_host_fail_next_copy(CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(cuMemcpyHtoDAsync_v2(at(0), large, 5000, NULL), CUDA_SUCCESS);
        fake_host_settle();
        assert_int_equal(fake_host_count().deferred, CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(cuMemcpy(at(0), at(100), 10), CUDA_ERROR_INVALID_VALUE); /* host to host: synchronizes */
        assert_int_equal(cuMemcpyDtoH_v2(small, at(0), 64), CUDA_SUCCESS);
        free(large);
}

static void unified_copies_go_by_the_address(void **state)
{
        (void)state;
        uint8_t host[100];
        void *pinned;
        uint32_t synchronizations;
        struct ivg_memory_range range = {.base = at(0), .bytes = 1000, .kind = IVG_MEMORY_DEVICE}, removed;
        assert_int_equal(ivg_memory_add(&ivg_memory_of_device, &range), 0);
        assert_int_equal(cuMemAllocHost_v2(&pinned, 100), CUDA_SUCCESS);
        fill(host, 100, 1);
        assert_int_equal(cuMemcpy(at(0), (uintptr_t)host, 100), CUDA_SUCCESS);
        assert_int_equal(cuMemcpy(at(500), at(0), 100), CUDA_SUCCESS);
        assert_int_equal(cuMemcpy((uintptr_t)pinned, at(500), 100), CUDA_SUCCESS);
        assert_memory_equal(pinned, host, 100);
        memset(host, 0, 100);
        assert_int_equal(cuMemcpyAsync((uintptr_t)host, (uintptr_t)pinned, 100, NULL), CUDA_SUCCESS);
        assert_memory_equal(pinned, host, 100);
        /* A device pointer passed as a host pointer: unified addressing allows it. */
        assert_int_equal(cuMemcpyHtoD_v2(at(700), (const void *)(uintptr_t)at(0), 100), CUDA_SUCCESS);
        fake_host_settle();
        assert_memory_equal(device + 700, host, 100);
        /* To memory that the program may read at once: waited for, once. */
        memset(pinned, 0, 100);
        synchronizations = fake_host_count().synchronizations;
        assert_int_equal(cuMemcpyHtoD_v2((uintptr_t)pinned, (const void *)(uintptr_t)at(700), 100), CUDA_SUCCESS);
        assert_memory_equal(pinned, host, 100);
        assert_int_equal(fake_host_count().synchronizations, synchronizations + 1);
        assert_int_equal(cuMemcpy(0, at(0), 100), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(cuMemcpyHtoD_v2(at(0), NULL, 100), CUDA_ERROR_INVALID_VALUE);
        assert_int_equal(cuMemcpyHtoD_v2(at(0), NULL, 0), CUDA_SUCCESS);
        assert_int_equal(cuMemFreeHost(pinned), CUDA_SUCCESS);
        assert_true(ivg_memory_remove(&ivg_memory_of_device, at(0), IVG_MEMORY_DEVICE, &removed));
}

/* ---- boxes ---- */

#define HOST_PITCH 211u
#define HOST_ROWS 23u
#define DEVICE_PITCH 307u
#define DEVICE_ROWS 19u
#define HOST_BYTES (HOST_PITCH * HOST_ROWS * 5u)

static void box_goes_there_and_back(uint8_t *host, uint8_t *back)
{
        const CUDA_MEMCPY3D up = {.srcXInBytes = 3,
                                  .srcY = 2,
                                  .srcZ = 1,
                                  .srcMemoryType = CU_MEMORYTYPE_HOST,
                                  .srcHost = host,
                                  .srcPitch = HOST_PITCH,
                                  .srcHeight = HOST_ROWS,
                                  .dstXInBytes = 7,
                                  .dstY = 1,
                                  .dstZ = 2,
                                  .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                                  .dstDevice = at(0),
                                  .dstPitch = DEVICE_PITCH,
                                  .dstHeight = DEVICE_ROWS,
                                  .WidthInBytes = 200,
                                  .Height = 17,
                                  .Depth = 4};
        const CUDA_MEMCPY3D down = {.srcXInBytes = 7,
                                    .srcY = 1,
                                    .srcZ = 2,
                                    .srcMemoryType = CU_MEMORYTYPE_DEVICE,
                                    .srcDevice = at(0),
                                    .srcPitch = DEVICE_PITCH,
                                    .srcHeight = DEVICE_ROWS,
                                    .dstXInBytes = 3,
                                    .dstY = 2,
                                    .dstZ = 1,
                                    .dstMemoryType = CU_MEMORYTYPE_HOST,
                                    .dstHost = back,
                                    .dstPitch = HOST_PITCH,
                                    .dstHeight = HOST_ROWS,
                                    .WidthInBytes = 200,
                                    .Height = 17,
                                    .Depth = 4};
        fill(host, HOST_BYTES, 77);
        memset(back, 0xcc, HOST_BYTES);
        memset(device, 0x33, 1u << 20);
        assert_int_equal(cuMemcpy3D_v2(&up), CUDA_SUCCESS);
        assert_int_equal(cuMemcpy3D_v2(&down), CUDA_SUCCESS);
        for (uint32_t z = 0; z < 5; z++)
                for (uint32_t y = 0; y < HOST_ROWS; y++)
                        for (uint32_t x = 0; x < HOST_PITCH; x++) {
                                const size_t i = ((size_t)z * HOST_ROWS + y) * HOST_PITCH + x;
                                const bool inside = x >= 3 && x < 203 && y >= 2 && y < 19 && z >= 1;
                                assert_int_equal(back[i], inside ? host[i] : 0xcc);
                        }
        assert_int_equal(device[(2 * DEVICE_ROWS + 1) * DEVICE_PITCH + 6], 0x33); /* the byte before the box */
        assert_int_equal(device[(2 * DEVICE_ROWS + 1) * DEVICE_PITCH + 7], host[(HOST_ROWS + 2) * HOST_PITCH + 3]);
}

static void boxes_keep_to_their_bounds(void **state)
{
        (void)state;
        uint8_t *host = malloc(HOST_BYTES), *back = malloc(HOST_BYTES);
        void *pinned[2];
        assert_int_equal(cuMemAllocHost_v2(&pinned[0], HOST_BYTES), CUDA_SUCCESS);
        assert_int_equal(cuMemAllocHost_v2(&pinned[1], HOST_BYTES), CUDA_SUCCESS);
        box_goes_there_and_back(host, back);
        box_goes_there_and_back(pinned[0], pinned[1]);
        box_goes_there_and_back(host, pinned[1]);
        box_goes_there_and_back(pinned[0], back);
        assert_int_equal(cuMemFreeHost(pinned[0]), CUDA_SUCCESS);
        assert_int_equal(cuMemFreeHost(pinned[1]), CUDA_SUCCESS);
        free(host);
        free(back);
}

static void tall_and_wide_planes_are_cut_up(void **state)
{
        (void)state;
        /* More rows than one buffer holds; and rows longer than one buffer. */
        const struct {
                size_t width, height, pitch;
        } planes[] = {{1000, 2000, 1003}, {(600u << 10) + 1, 3, (600u << 10) + 64}};
        for (int i = 0; i < 2; i++) {
                const size_t bytes = planes[i].pitch * planes[i].height;
                uint8_t *host = malloc(bytes), *back = calloc(1, bytes);
                CUDA_MEMCPY2D copy = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                                      .srcHost = host,
                                      .srcPitch = planes[i].pitch,
                                      .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                                      .dstDevice = at(0),
                                      .dstPitch = planes[i].width,
                                      .WidthInBytes = planes[i].width,
                                      .Height = planes[i].height};
                fill(host, bytes, 5);
                assert_int_equal(cuMemcpy2D_v2(&copy), CUDA_SUCCESS);
                copy = (CUDA_MEMCPY2D){.srcMemoryType = CU_MEMORYTYPE_DEVICE,
                                       .srcDevice = at(0),
                                       .srcPitch = planes[i].width,
                                       .dstMemoryType = CU_MEMORYTYPE_HOST,
                                       .dstHost = back,
                                       .dstPitch = planes[i].pitch,
                                       .WidthInBytes = planes[i].width,
                                       .Height = planes[i].height};
                assert_int_equal(cuMemcpy2DAsync_v2(&copy, NULL), CUDA_SUCCESS);
                for (size_t row = 0; row < planes[i].height; row++)
                        assert_memory_equal(back + row * planes[i].pitch, host + row * planes[i].pitch,
                                            planes[i].width);
                free(host);
                free(back);
        }
}

static void impossible_boxes_are_refused(void **state)
{
        (void)state;
        uint8_t host[64];
        const CUDA_MEMCPY2D good = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                                    .srcHost = host,
                                    .srcPitch = 8,
                                    .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                                    .dstDevice = at(0),
                                    .dstPitch = 8,
                                    .WidthInBytes = 8,
                                    .Height = 8};
        CUDA_MEMCPY2D copy;
        assert_int_equal(cuMemcpy2D_v2(&good), CUDA_SUCCESS);
        assert_int_equal(cuMemcpy2D_v2(NULL), CUDA_ERROR_INVALID_VALUE);
#define REFUSED(error, change)                                 \
        do {                                                   \
                copy = good;                                   \
                change;                                        \
                assert_int_equal(cuMemcpy2D_v2(&copy), error); \
        } while (0)
        REFUSED(CUDA_ERROR_INVALID_VALUE, copy.srcPitch = 7);
        REFUSED(CUDA_ERROR_INVALID_VALUE, copy.srcXInBytes = 1);
        REFUSED(CUDA_ERROR_INVALID_VALUE, copy.srcXInBytes = SIZE_MAX);
        REFUSED(CUDA_ERROR_INVALID_VALUE, (copy.Height = SIZE_MAX / 2));
        REFUSED(CUDA_ERROR_INVALID_VALUE, copy.dstY = SIZE_MAX / 4);
        REFUSED(CUDA_ERROR_INVALID_VALUE, copy.srcHost = NULL);
        REFUSED(CUDA_ERROR_INVALID_VALUE, copy.dstMemoryType = 0);
        REFUSED(CUDA_ERROR_INVALID_HANDLE, copy.dstMemoryType = CU_MEMORYTYPE_ARRAY);
        REFUSED(CUDA_SUCCESS, copy.Height = 0);
#undef REFUSED
}

/* ---- threads ---- */

#define THREADS 6

static void *copy_in_a_thread(void *arg)
{
        const size_t bytes = 700001, base = (uintptr_t)arg * bytes;
        uint8_t *up = malloc(bytes), *down = malloc(bytes);
        void *complaint = NULL;
        for (uint64_t round = 0; round < 6 && complaint == NULL; round++) {
                fill(up, bytes, round * 31 + (uintptr_t)arg);
                if (cuMemcpyHtoD_v2(at(base), up, bytes) != CUDA_SUCCESS ||
                    cuMemcpyDtoH_v2(down, at(base), bytes) != CUDA_SUCCESS)
                        complaint = (void *)(uintptr_t) "a copy failed";
                else if (memcmp(up, down, bytes) != 0)
                        complaint = (void *)(uintptr_t) "another thread's bytes";
        }
        free(up);
        free(down);
        return complaint;
}

static void threads_share_the_buffers(void **state)
{
        (void)state;
        pthread_t threads[THREADS];
        fake_host_set_delay(50);
        for (uintptr_t i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, copy_in_a_thread, (void *)i), 0);
        for (int i = 0; i < THREADS; i++) {
                void *complaint;
                assert_int_equal(pthread_join(threads[i], &complaint), 0);
                if (complaint != NULL)
                        fail_msg("%s", (const char *)complaint);
        }
        /* The shares of the two kinds of buffers. */
        assert_true(fake_host_count().extents_owned <= 16 / 4 + 16 / 8 + IVG_POOL_EMPTY_EXTENTS_KEPT);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_size_goes_both_ways),
                cmocka_unit_test(pageable_sources_are_read_on_return),
                cmocka_unit_test(small_uploads_never_wait_for_their_stream),
                cmocka_unit_test(synchronous_pinned_copies_are_done_on_return),
                cmocka_unit_test(asynchronous_pinned_copies_read_the_source_in_stream_order),
                cmocka_unit_test(freeing_pinned_memory_waits_for_its_copies),
                cmocka_unit_test(failures_are_told_once),
                cmocka_unit_test(unified_copies_go_by_the_address),
                cmocka_unit_test(boxes_keep_to_their_bounds),
                cmocka_unit_test(tall_and_wide_planes_are_cut_up),
                cmocka_unit_test(impossible_boxes_are_refused),
                cmocka_unit_test(threads_share_the_buffers),
        };
        return cmocka_run_group_tests(tests, start, NULL);
}
