/* Several devices in one process: contexts, copies and access from one to the other, and figures that are each one's
 * own.
 *   peers           everything; with one device it says so and ends well
 *   peers count N   the program sees exactly N devices, and each works */
#include "check.h"

#define BYTES ((size_t)5 << 20)
#define WORD UINT32_C(0xfeed0000)
#define LARGE ((size_t)256 << 20)
#define DEVICES_MAX 8

static CUcontext contexts[DEVICES_MAX];
static CUmodule modules[DEVICES_MAX];

static void enter(int device)
{
        CU(cuCtxSetCurrent(contexts[device]));
}

static CUdeviceptr memory_on(int device, size_t bytes)
{
        CUdeviceptr memory = 0;

        enter(device);
        CU(cuMemAlloc_v2(&memory, bytes));
        return memory;
}

/* The n-th word becomes `word` + n, by a kernel of `device`. */
static void number_words(int device, CUdeviceptr address, uint32_t word)
{
        uint64_t count = BYTES / 4;
        void *params[] = {&address, &word, &count};

        enter(device);
        CU(cuLaunchKernel(test_function(modules[device], "fill_u32"), 8, 1, 1, 256, 1, 1, 0, NULL, params, NULL));
        CU(cuCtxSynchronize());
}

static void expect_words(int device, CUdeviceptr address, uint32_t word)
{
        uint32_t *have = malloc(BYTES);

        CHECK(have != NULL, "no memory");
        enter(device);
        CU(cuMemcpyDtoH_v2(have, address, BYTES));
        for (size_t i = 0; i < BYTES / 4; i++)
                CHECK(have[i] == word + (uint32_t)i, "word %zu on device %d is 0x%x, not 0x%x", i, device, have[i],
                      word + (uint32_t)i);
        free(have);
}

/* ---- apart ---- */

static void each_its_own(int count)
{
        for (int device = 0; device < count; device++) {
                size_t before[DEVICES_MAX], after, total;
                CUdeviceptr memory;
                CUdevice current = -1;
                int ordinal = -1;

                for (int i = 0; i < count; i++) {
                        enter(i);
                        CU(cuMemGetInfo_v2(&before[i], &total));
                }
                memory = memory_on(device, LARGE);
                for (int i = 0; i < count; i++) {
                        enter(i);
                        CU(cuMemGetInfo_v2(&after, &total));
                        CHECK((before[i] >= after + LARGE) == (i == device),
                              "%zu bytes of device %d are free, %zu were", after, i, before[i]);
                }
                enter(device);
                CU(cuCtxGetDevice(&current));
                CHECK(current == device, "device %d is current, not %d", current, device);
                CU(cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, memory));
                CHECK(ordinal == device, "memory of device %d, not %d", ordinal, device);
                number_words(device, memory, WORD + (uint32_t)device);
                expect_words(device, memory, WORD + (uint32_t)device);
                CU(cuMemFree_v2(memory));
                CU(cuCtxSynchronize());
        }
}

/* Contexts beside the primary ones, pushed and popped. */
static void contexts_stack(void)
{
        CUcontext other = NULL, popped = NULL;
        CUdevice device = -1;

        CU(cuCtxCreate_v2(&other, 0, 1));
        CU(cuCtxGetDevice(&device));
        CHECK(device == 1, "a new context of device %d", device);
        CU(cuCtxPushCurrent_v2(contexts[0]));
        CU(cuCtxGetDevice(&device));
        CHECK(device == 0, "a pushed context of device %d", device);
        CU(cuCtxPopCurrent_v2(&popped));
        CHECK(popped == contexts[0], "another context was popped");
        CU(cuCtxDestroy_v2(other));
        enter(0);
}

/* ---- copies, which need no access ---- */

static void copies(void)
{
        CUdeviceptr first = memory_on(0, BYTES), second = memory_on(1, BYTES);
        CUstream stream;
        CUevent event;
        void *pinned;

        number_words(0, first, WORD);
        CU(cuMemcpyPeer(second, contexts[1], first, contexts[0], BYTES));
        expect_words(1, second, WORD);
        /* Back, in a stream of the second device, which the first device's stream then waits for. */
        number_words(1, second, WORD + 7);
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
        CU(cuMemcpyPeerAsync(first, contexts[0], second, contexts[1], BYTES, stream));
        CU(cuEventRecord(event, stream));
        enter(0);
        CU(cuStreamWaitEvent(NULL, event, 0));
        CU(cuStreamSynchronize(NULL));
        expect_words(0, first, WORD + 7);
        enter(1);
        CU(cuEventDestroy_v2(event));
        CU(cuStreamDestroy_v2(stream));
        /* Unified addresses say where memory is. */
        number_words(0, first, WORD + 9);
        CU(cuMemcpyDtoD_v2(second, first, BYTES));
        CU(cuCtxSynchronize());
        expect_words(1, second, WORD + 9);
        /* Pinned memory is everybody's. */
        enter(0);
        CU(cuMemHostAlloc(&pinned, BYTES, CU_MEMHOSTALLOC_PORTABLE));
        for (size_t i = 0; i < BYTES / 4; i++)
                ((uint32_t *)pinned)[i] = WORD + 11 + (uint32_t)i;
        enter(1);
        CU(cuMemcpyHtoD_v2(second, pinned, BYTES));
        expect_words(1, second, WORD + 11);
        number_words(1, (uintptr_t)pinned, WORD + 13);
        CHECK(((uint32_t *)pinned)[5] == WORD + 18, "a kernel of the second device did not write pinned memory");
        CU(cuMemFreeHost(pinned));
        CU(cuMemFree_v2(second));
        enter(0);
        CU(cuMemFree_v2(first));
}

/* ---- access ---- */

static int can_access(int from, int to)
{
        int can = -1, attribute = -1;

        CU(cuDeviceCanAccessPeer(&can, from, to));
        CU(cuDeviceGetP2PAttribute(&attribute, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, from, to));
        CHECK(can == attribute && (can == 0 || can == 1), "access %d, attribute %d", can, attribute);
        return can;
}

static void peer_access(void)
{
        CUdeviceptr first = memory_on(0, BYTES);

        enter(1);
        CU(cuCtxEnablePeerAccess(contexts[0], 0));
        CU_EXPECT(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, cuCtxEnablePeerAccess(contexts[0], 0));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuCtxEnablePeerAccess(contexts[0], 1));
        number_words(1, first, WORD + 21); /* a kernel there writes memory here */
        expect_words(0, first, WORD + 21);
        enter(1);
        CU(cuCtxDisablePeerAccess(contexts[0]));
        CU_EXPECT(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, cuCtxDisablePeerAccess(contexts[0]));
        enter(0);
        CU(cuMemFree_v2(first));
}

static CUmemAccessDesc access_of(int device, CUmemAccess_flags flags)
{
        return (CUmemAccessDesc){.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device}, .flags = flags};
}

static void pool_access(void)
{
        const CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
        const CUmemAccessDesc both[2] = {access_of(0, CU_MEM_ACCESS_FLAGS_PROT_READWRITE),
                                         access_of(1, CU_MEM_ACCESS_FLAGS_PROT_READWRITE)};
        CUmemLocation there = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 1};
        CUmemAccess_flags flags = CU_MEM_ACCESS_FLAGS_PROT_READ;
        CUmemoryPool pool = NULL;
        CUdeviceptr memory = 0;

        enter(0);
        CU(cuMemPoolCreate(&pool, &props));
        CU(cuMemPoolGetAccess(&flags, pool, &there));
        CHECK(flags == CU_MEM_ACCESS_FLAGS_PROT_NONE, "access %d that nobody gave", (int)flags);
        CU(cuMemPoolSetAccess(pool, both, 2));
        CU(cuMemPoolGetAccess(&flags, pool, &there));
        CHECK(flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE, "access %d, not what was given", (int)flags);
        CU(cuMemAllocFromPoolAsync(&memory, BYTES, pool, NULL));
        CU(cuStreamSynchronize(NULL));
        number_words(1, memory, WORD + 31);
        expect_words(0, memory, WORD + 31);
        CU(cuMemFreeAsync(memory, NULL));
        CU(cuStreamSynchronize(NULL));
        CU(cuMemPoolDestroy(pool));
}

/* Memory of one device mapped for both. */
static void mapped_for_both(void)
{
        const CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                          .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 1}};
        const CUmemAccessDesc both[2] = {access_of(0, CU_MEM_ACCESS_FLAGS_PROT_READWRITE),
                                         access_of(1, CU_MEM_ACCESS_FLAGS_PROT_READWRITE)};
        CUmemGenericAllocationHandle handle = 0;
        CUdeviceptr address = 0;
        size_t granule = 0, bytes;
        int ordinal = -1;

        CU(cuMemGetAllocationGranularity(&granule, &prop, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED));
        bytes = (BYTES + granule - 1) / granule * granule;
        CU(cuMemCreate(&handle, bytes, &prop, 0));
        CU(cuMemAddressReserve(&address, bytes, 0, 0, 0));
        CU(cuMemMap(address, bytes, 0, handle, 0));
        CU(cuMemSetAccess(address, bytes, both, 2));
        enter(0);
        CU(cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address));
        CHECK(ordinal == 1, "memory of device %d, not 1", ordinal);
        number_words(0, address, WORD + 41);
        expect_words(1, address, WORD + 41);
        number_words(1, address, WORD + 43);
        expect_words(0, address, WORD + 43);
        CU(cuMemUnmap(address, bytes));
        CU(cuMemAddressFree(address, bytes));
        CU(cuMemRelease(handle));
}

int main(int argc, char **argv)
{
        int count = 0;

        CU(cuInit(0));
        CU(cuDeviceGetCount(&count));
        if (argc > 2 && strcmp(argv[1], "count") == 0)
                CHECK(count == atoi(argv[2]), "%d devices, not %s", count, argv[2]);
        count = count > DEVICES_MAX ? DEVICES_MAX : count;
        for (int i = 0; i < count; i++) {
                CU(cuDevicePrimaryCtxRetain(&contexts[i], i));
                enter(i);
                modules[i] = test_module();
        }
        each_its_own(count);
        if (count < 2) {
                puts("skipped: one device");
                return 0;
        }
        contexts_stack();
        copies();
        if (can_access(1, 0) && can_access(0, 1)) {
                peer_access();
                pool_access();
                mapped_for_both();
        } else {
                puts("skipped on this device: access from one device to the other");
        }
        puts("peers: ok");
        return 0;
}
