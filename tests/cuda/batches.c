/* Batches of copies, prefetches and discards, and memory whose synchronous operations always wait. */
#include "check.h"

#define COPIES 24u
#define LENGTH(i) ((size_t)1000 + 7919 * (i))
#define BYTES_MAX LENGTH(COPIES)

typedef CUresult (*batch_function)(CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, CUmemcpyAttributes *attributes,
                                   size_t *starts, size_t entries, CUstream stream);

static CUresult first_version(CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, CUmemcpyAttributes *attributes,
                              size_t *starts, size_t entries, CUstream stream)
{
        size_t failed = 0;

        return cuMemcpyBatchAsync(to, from, sizes, COPIES, attributes, starts, entries, &failed, stream);
}

static CUresult second_version(CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, CUmemcpyAttributes *attributes,
                               size_t *starts, size_t entries, CUstream stream)
{
        return cuMemcpyBatchAsync_v2(to, from, sizes, COPIES, attributes, starts, entries, stream);
}

/* Up, across and down in three batches; sources of every kind and all orders of access. */
static void copies(CUstream stream, batch_function batch)
{
        CUdeviceptr first[COPIES], second[COPIES], sources[COPIES], targets[COPIES];
        CUmemcpyAttributes attributes[3] = {{.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM},
                                            {.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL},
                                            {.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_ANY}};
        size_t sizes[COPIES], starts[3] = {0, COPIES / 3, COPIES / 2}, wrong[3] = {0, 5, 5};
        uint8_t *data[COPIES], *back[COPIES];
        void *pinned;

        CU(cuMemHostAlloc(&pinned, BYTES_MAX * COPIES, 0));
        for (uint32_t i = 0; i < COPIES; i++) {
                sizes[i] = LENGTH(i);
                data[i] = i % 2 ? malloc(sizes[i]) : (uint8_t *)pinned + i * BYTES_MAX;
                back[i] = malloc(sizes[i]);
                CHECK(data[i] != NULL && back[i] != NULL, "no memory");
                test_fill(data[i], sizes[i], i);
                CU(cuMemAlloc_v2(&first[i], sizes[i]));
                CU(cuMemAlloc_v2(&second[i], sizes[i]));
                sources[i] = (uintptr_t)data[i];
                targets[i] = (uintptr_t)back[i];
        }
        CU(batch(first, sources, sizes, attributes, starts, 3, stream));
        CU(batch(second, first, sizes, attributes, starts, 1, stream));
        CU(batch(targets, second, sizes, attributes, starts, 1, stream));
        CU(cuStreamSynchronize(stream));
        for (uint32_t i = 0; i < COPIES; i++)
                CHECK(memcmp(data[i], back[i], sizes[i]) == 0, "copy %u of %zu bytes differs", i, sizes[i]);

        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, batch(first, sources, sizes, attributes, wrong, 3, stream));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, batch(first, sources, sizes, attributes, starts, 0, stream));
        attributes[0].srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_INVALID;
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, batch(first, sources, sizes, attributes, starts, 1, stream));
        CHECK(batch(second, first, sizes, attributes + 1, starts, 1, CU_STREAM_LEGACY) != CUDA_SUCCESS,
              "a batch on the legacy stream");
        for (uint32_t i = 0; i < COPIES; i++) {
                CU(cuMemFree_v2(first[i]));
                CU(cuMemFree_v2(second[i]));
                free(i % 2 ? data[i] : NULL);
                free(back[i]);
        }
        CU(cuMemFreeHost(pinned));
}

/* A box of 40 x 30 x 20 bytes out of rows and layers that are longer, up and packed down again. */
static void boxes(CUstream stream)
{
        enum { WIDTH = 40, HEIGHT = 30, DEPTH = 20, ROW = 64, ROWS = 33 };
        uint8_t *data = malloc(ROW * ROWS * DEPTH), *back = malloc(WIDTH * HEIGHT * DEPTH);
        CUDA_MEMCPY3D_BATCH_OP up = {.extent = {.width = WIDTH, .height = HEIGHT, .depth = DEPTH},
                                     .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM};
        CUDA_MEMCPY3D_BATCH_OP down;
        CUdeviceptr device;
        size_t failed = 0;

        CHECK(data != NULL && back != NULL, "no memory");
        test_fill(data, ROW * ROWS * DEPTH, 99);
        CU(cuMemAlloc_v2(&device, WIDTH * HEIGHT * DEPTH));
        up.src.type = up.dst.type = CU_MEMCPY_OPERAND_TYPE_POINTER;
        up.src.op.ptr.ptr = (uintptr_t)data;
        up.src.op.ptr.rowLength = ROW;
        up.src.op.ptr.layerHeight = ROWS;
        up.dst.op.ptr.ptr = device; /* packed */
        down = up;
        memset(&down.src.op, 0, sizeof(down.src.op));
        down.src.op.ptr.ptr = device;
        down.dst.op.ptr.ptr = (uintptr_t)back;
        CU(cuMemcpy3DBatchAsync(1, &up, &failed, 0, stream));
        CU(cuMemcpy3DBatchAsync_v2(1, &down, 0, stream));
        CU(cuStreamSynchronize(stream));
        for (size_t z = 0; z < DEPTH; z++)
                for (size_t y = 0; y < HEIGHT; y++)
                        CHECK(memcmp(back + (z * HEIGHT + y) * WIDTH, data + (z * ROWS + y) * ROW, WIDTH) == 0,
                              "row %zu of layer %zu differs", y, z);
        down.extent.depth = 0;
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemcpy3DBatchAsync_v2(1, &down, 0, stream));
        CU(cuMemFree_v2(device));
        free(data);
        free(back);
}

static void managed(CUstream stream)
{
        CUmemLocation locations[2] = {{.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0},
                                      {.type = CU_MEM_LOCATION_TYPE_HOST}};
        size_t starts[2] = {0, 2}, sizes[3] = {1u << 20, 1u << 20, 1u << 20};
        CUdeviceptr memory[3];

        for (uint32_t i = 0; i < 3; i++) {
                CU(cuMemAllocManaged(&memory[i], sizes[i], CU_MEM_ATTACH_GLOBAL));
                memset((void *)(uintptr_t)memory[i], 0x20 + (int)i, sizes[i]);
        }
        CU(cuMemPrefetchBatchAsync(memory, sizes, 3, locations, starts, 2, 0, stream));
        CU(cuStreamSynchronize(stream));
        for (uint32_t i = 0; i < 3; i++)
                CHECK(*(const uint8_t *)(uintptr_t)(memory[i] + 4097) == 0x20 + i, "prefetched memory %u changed", i);
        CU(cuMemDiscardBatchAsync(memory, sizes, 1, 0, stream)); /* what it holds is undefined from here on */
        CU(cuMemDiscardAndPrefetchBatchAsync(memory, sizes, 2, locations, starts, 1, 0, stream));
        CU(cuStreamSynchronize(stream));
        CHECK(*(const uint8_t *)(uintptr_t)(memory[2] + 4097) == 0x22, "memory beside the discarded changed");
        memset((void *)(uintptr_t)memory[0], 0x11, sizes[0]);
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemDiscardBatchAsync(memory, sizes, 1, 1, stream));
        starts[0] = 1;
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemPrefetchBatchAsync(memory, sizes, 3, locations, starts, 1, 0, stream));
        for (uint32_t i = 0; i < 3; i++)
                CU(cuMemFree_v2(memory[i]));
}

/* Sets and device copies usually return before they are done; with the attribute they do not. */
static void synchronous_memory(CUmodule module)
{
        const unsigned int on = 1, off = 0;
        uint32_t seed = 1, rounds = 200000, state = 7;
        CUdeviceptr memory, plain;
        CUfunction spin = test_function(module, "spin_rounds");
        void *params[] = {&memory, &seed, &rounds};
        CUevent after;

        CU(cuMemAlloc_v2(&memory, 1u << 20));
        CU(cuMemAlloc_v2(&plain, 1u << 20));
        CU(cuEventCreate(&after, CU_EVENT_DISABLE_TIMING));
        CU(cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, memory));
        CU(cuPointerGetAttribute(&state, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, memory + 99));
        CHECK((state & 0xff) == 1, "the attribute is %u", state & 0xff);
        for (uint32_t way = 0; way < 3; way++) {
                CU(cuLaunchKernel(spin, 1, 1, 1, 32, 1, 1, 0, NULL, params, NULL));
                CU(cuEventRecord(after, NULL));
                if (way == 0)
                        CU(cuMemsetD8_v2(memory, 1, 1u << 20));
                else if (way == 1)
                        CU(cuMemcpyDtoD_v2(memory, plain, 1u << 20));
                else
                        CU(cuMemcpyDtoD_v2(plain, memory, 1u << 20));
                CU(cuEventQuery(after)); /* and so is all that came before */
        }
        CU(cuPointerSetAttribute(&off, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, memory));
        CU(cuPointerGetAttribute(&state, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, memory));
        CHECK((state & 0xff) == 0, "the attribute stays");
        CU(cuEventDestroy_v2(after));
        CU(cuMemFree_v2(memory));
        CU(cuMemFree_v2(plain));
}

/* A program's own pages: whether the device sees them is what the attributes say. */
static void registered_memory(void)
{
        int supported = 0;
        CUdeviceptr device = 0;
        void *pages;

        CU(cuDeviceGetAttribute(&supported, CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, 0));
        CHECK(posix_memalign(&pages, 4096, 1u << 16) == 0, "no memory");
        CU(cuMemHostRegister_v2(pages, 1u << 16, CU_MEMHOSTREGISTER_DEVICEMAP));
        if (supported != 0)
                CU(cuMemHostGetDevicePointer_v2(&device, pages, 0));
        else if (getenv("IVGPU_CHANNEL") != NULL)
                CU_EXPECT(CUDA_ERROR_NOT_SUPPORTED, cuMemHostGetDevicePointer_v2(&device, pages, 0));
        CU(cuMemHostUnregister(pages));
        free(pages);
}

int main(void)
{
        CUstream stream;
        int version = 0;

        test_context();
        CU(cuDriverGetVersion(&version));
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        copies(stream, first_version);
        boxes(stream);
        if (version >= 13000) {
                copies(stream, second_version);
                managed(stream);
        }
        synchronous_memory(test_module());
        registered_memory();
        CU(cuStreamDestroy_v2(stream));
        puts("batches: ok");
        return 0;
}
