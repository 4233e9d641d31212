/* Arrays: what they say of themselves, and every copy that has one on a side, from and to every kind of memory.
 *   arrays          today's calls
 *   arrays old      those of CUDA 3.1 and before, with sizes of 32 bits */
#include "check.h"
#include <stdbool.h>

static CUstream stream;

static void same(const void *a, const void *b, size_t bytes, const char *what)
{
        CHECK(memcmp(a, b, bytes) == 0, "%s: other bytes came back", what);
}

/* ---- one dimension ---- */

enum { ROW = 65536, ROW_BYTES = ROW * 16 }; /* 1 MiB: several chunks of what is staged */

static void one_dimension(void)
{
        uint8_t *source = malloc(ROW_BYTES), *seen = malloc(ROW_BYTES);
        uint8_t *pinned;
        CUdeviceptr memory;
        const CUarray array = test_array(ROW, 0, 0, CU_AD_FORMAT_FLOAT, 4, 0);
        CUDA_ARRAY_DESCRIPTOR flat = {.Width = ROW, .Height = 0, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 4};
        CUarray other;
        CU(cuArrayCreate_v2(&other, &flat));
        memset(&flat, 0, sizeof(flat));
        CU(cuArrayGetDescriptor_v2(&flat, array));
        CHECK(flat.Width == ROW && flat.Height == 0 && flat.NumChannels == 4, "a flat description of %zu x %zu",
              flat.Width, flat.Height);
        CU(cuMemAlloc_v2(&memory, ROW_BYTES));
        CU(cuMemAllocHost_v2((void **)&pinned, ROW_BYTES));

        test_fill(source, ROW_BYTES, 1);
        CU(cuMemcpyHtoA_v2(array, 0, source, ROW_BYTES));
        CU(cuMemcpyAtoH_v2(seen, array, 0, ROW_BYTES));
        same(source, seen, ROW_BYTES, "pageable memory");
        CU(cuMemcpyAtoH_v2(seen, array, 4096, 160));
        same(source + 4096, seen, 160, "a part");
        CU(cuMemcpyHtoA_v2(array, 1600, source, 320));
        CU(cuMemcpyAtoH_v2(seen, array, 0, 3200));
        same(source, seen + 1600, 320, "a part that was changed");
        same(source, seen, 1600, "what lies before it");
        same(source + 1920, seen + 1920, 1280, "what lies behind it");

        test_fill(pinned, ROW_BYTES, 2);
        CU(cuMemcpyHtoAAsync_v2(array, 0, pinned, ROW_BYTES, stream));
        CU(cuMemcpyAtoHAsync_v2(seen, array, 0, ROW_BYTES, stream));
        CU(cuStreamSynchronize(stream));
        same(pinned, seen, ROW_BYTES, "pinned memory");

        test_fill(source, ROW_BYTES, 3);
        CU(cuMemcpyHtoAAsync_v2(array, 0, source, ROW_BYTES, stream));
        memset(source, 0, 4096); /* pageable memory has been read when the call returns */
        CU(cuMemcpyAtoHAsync_v2(pinned, array, 0, ROW_BYTES, stream));
        CU(cuStreamSynchronize(stream));
        test_fill(source, ROW_BYTES, 3);
        same(source, pinned, ROW_BYTES, "pageable memory, in a stream");

        CU(cuMemcpyAtoA_v2(other, 16, array, 32, 6400));
        CU(cuMemcpyAtoD_v2(memory, other, 16, 6400));
        CU(cuMemcpyDtoH_v2(seen, memory, 6400));
        same(source + 32, seen, 6400, "by way of another array");
        CU(cuMemsetD8_v2(memory, 0x5a, 640));
        CU(cuMemcpyDtoA_v2(other, 320, memory, 640));
        CU(cuMemcpyAtoH_v2(seen, other, 320, 640));
        for (int i = 0; i < 640; i++)
                CHECK(seen[i] == 0x5a, "byte %d from device memory is %#x", i, seen[i]);
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoA_v2(array, ROW_BYTES - 16, source, 32));

        CU(cuArrayDestroy(array));
        CU(cuArrayDestroy(other));
        CU(cuMemFree_v2(memory));
        CU(cuMemFreeHost(pinned));
        free(source);
        free(seen);
}

/* ---- boxes ---- */

/* A side of a copy: an array or packed memory. */
struct side {
        CUarray array;
        void *host;
        CUdeviceptr device;
        size_t pitch, height;
        size_t x, y, z;
};

static CUDA_MEMCPY3D box_of(const struct side *to, const struct side *from, size_t width, size_t height, size_t depth)
{
        return (CUDA_MEMCPY3D){.dstMemoryType = to->array  ? CU_MEMORYTYPE_ARRAY
                                                : to->host ? CU_MEMORYTYPE_HOST
                                                           : CU_MEMORYTYPE_DEVICE,
                               .dstArray = to->array,
                               .dstHost = to->host,
                               .dstDevice = to->device,
                               .dstPitch = to->pitch,
                               .dstHeight = to->height,
                               .dstXInBytes = to->x,
                               .dstY = to->y,
                               .dstZ = to->z,
                               .srcMemoryType = from->array  ? CU_MEMORYTYPE_ARRAY
                                                : from->host ? CU_MEMORYTYPE_HOST
                                                             : CU_MEMORYTYPE_DEVICE,
                               .srcArray = from->array,
                               .srcHost = from->host,
                               .srcDevice = from->device,
                               .srcPitch = from->pitch,
                               .srcHeight = from->height,
                               .srcXInBytes = from->x,
                               .srcY = from->y,
                               .srcZ = from->z,
                               .WidthInBytes = width,
                               .Height = height,
                               .Depth = depth};
}

static CUDA_MEMCPY2D flat_of(const struct side *to, const struct side *from, size_t width, size_t height)
{
        const CUDA_MEMCPY3D box = box_of(to, from, width, height, 1);
        return (CUDA_MEMCPY2D){.dstMemoryType = box.dstMemoryType,
                               .dstArray = box.dstArray,
                               .dstHost = box.dstHost,
                               .dstDevice = box.dstDevice,
                               .dstPitch = box.dstPitch,
                               .dstXInBytes = box.dstXInBytes,
                               .dstY = box.dstY,
                               .srcMemoryType = box.srcMemoryType,
                               .srcArray = box.srcArray,
                               .srcHost = box.srcHost,
                               .srcDevice = box.srcDevice,
                               .srcPitch = box.srcPitch,
                               .srcXInBytes = box.srcXInBytes,
                               .srcY = box.srcY,
                               .WidthInBytes = width,
                               .Height = height};
}

/* Rows of 1.25 MiB do not fit a staging buffer, short ones go in groups. */
static void two_dimensions(size_t width, size_t height)
{
        const size_t row = width * 4, bytes = row * height;
        uint8_t *source = malloc(bytes), *seen = malloc(bytes), *pinned;
        CUdeviceptr memory;
        size_t pitch;
        const CUarray array = test_array(width, height, 0, CU_AD_FORMAT_UNSIGNED_INT8, 4, 0);
        const CUarray other = test_array(width, height, 0, CU_AD_FORMAT_UNSIGNED_INT8, 4, 0);
        CU(cuMemAllocPitch_v2(&memory, &pitch, row, height, 4));
        CU(cuMemAllocHost_v2((void **)&pinned, bytes));
        const struct side of_array = {.array = array}, of_other = {.array = other};
        const struct side of_source = {.host = source, .pitch = row}, of_seen = {.host = seen, .pitch = row};
        const struct side of_pinned = {.host = pinned, .pitch = row}, of_memory = {.device = memory, .pitch = pitch};

        test_fill(source, bytes, width);
        CUDA_MEMCPY2D copy = flat_of(&of_array, &of_source, row, height);
        CU(cuMemcpy2D_v2(&copy));
        copy = flat_of(&of_memory, &of_array, row, height);
        CU(cuMemcpy2DAsync_v2(&copy, NULL));
        copy = flat_of(&of_other, &of_memory, row, height);
        CU(cuMemcpy2DUnaligned_v2(&copy));
        copy = flat_of(&of_seen, &of_other, row, height);
        CU(cuMemcpy2D_v2(&copy));
        same(source, seen, bytes, "a plane from array to memory to array");

        memset(pinned, 0, bytes);
        copy = flat_of(&of_pinned, &of_array, row, height);
        CU(cuMemcpy2DAsync_v2(&copy, stream));
        CU(cuStreamSynchronize(stream));
        same(source, pinned, bytes, "a plane to pinned memory");
        test_fill(pinned, bytes, width + 1);
        copy = flat_of(&of_array, &of_pinned, row, height);
        CU(cuMemcpy2DAsync_v2(&copy, stream));
        copy = flat_of(&of_seen, &of_array, row, height);
        CU(cuMemcpy2DAsync_v2(&copy, stream));
        CU(cuStreamSynchronize(stream));
        same(pinned, seen, bytes, "a plane from pinned memory, read back in the stream");

        /* A part of it, from another place of the source. */
        const struct side part = {.array = array, .x = 8, .y = 1};
        const struct side from = {.host = source, .pitch = row, .x = 16, .y = 2};
        copy = flat_of(&part, &from, row - 32, height - 3);
        CU(cuMemcpy2D_v2(&copy));
        copy = flat_of(&of_seen, &of_array, row, height);
        CU(cuMemcpy2D_v2(&copy));
        for (size_t y = 0; y < height; y++) {
                const bool inside = y >= 1 && y < height - 2;
                same(seen + y * row, pinned + y * row, 8, "left of the part");
                same(seen + y * row + 8, inside ? source + (y + 1) * row + 16 : pinned + y * row + 8, row - 32,
                     "a row of the part");
        }
        copy = flat_of(&part, &of_source, row, height); /* eight bytes too far to the right */
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D_v2(&copy));
        CU(cuArrayDestroy(array));
        CU(cuArrayDestroy(other));
        CU(cuMemFree_v2(memory));
        CU(cuMemFreeHost(pinned));
        free(source);
        free(seen);
}

enum { W = 40, H = 12, D = 9, BOX_BYTES = W * 8 * H * D };

static void three_dimensions(unsigned flags)
{
        static uint8_t source[BOX_BYTES], seen[BOX_BYTES];
        CUcontext context;
        CUdeviceptr memory;
        const CUarray array = test_array(W, H, D, CU_AD_FORMAT_HALF, 4, flags);
        const CUarray other = test_array(W, H, D, CU_AD_FORMAT_HALF, 4, flags);
        const struct side of_array = {.array = array}, of_other = {.array = other};
        const struct side of_source = {.host = source, .pitch = W * 8, .height = H};
        const struct side of_seen = {.host = seen, .pitch = W * 8, .height = H};
        CU(cuCtxGetCurrent(&context));
        CU(cuMemAlloc_v2(&memory, BOX_BYTES));
        const struct side of_memory = {.device = memory, .pitch = W * 8, .height = H};
        test_fill(source, BOX_BYTES, 7 + flags);
        CUDA_MEMCPY3D copy = box_of(&of_array, &of_source, W * 8, H, D);
        CU(cuMemcpy3D_v2(&copy));
        copy = box_of(&of_memory, &of_array, W * 8, H, D);
        CU(cuMemcpy3DAsync_v2(&copy, NULL));
        copy = box_of(&of_other, &of_memory, W * 8, H, D);
        CU(cuMemcpy3DAsync_v2(&copy, NULL));
        copy = box_of(&of_seen, &of_other, W * 8, H, D);
        CU(cuMemcpy3D_v2(&copy));
        same(source, seen, BOX_BYTES, "a box");

        /* A box inside, between arrays: as a copy between contexts that are the same one. */
        const struct side inner = {.array = other, .x = 16, .y = 1, .z = 2};
        const struct side origin = {.array = array, .x = 8, .y = 3, .z = 4};
        copy = box_of(&inner, &origin, 80, 5, 3);
        CUDA_MEMCPY3D_PEER peer;
        memcpy(&peer, &copy, sizeof(peer)); /* the contexts stand where the other has reserved words */
        peer.srcContext = peer.dstContext = context;
        CU(cuMemcpy3DPeerAsync(&peer, stream));
        CU(cuStreamSynchronize(stream));
        copy = box_of(&of_seen, &of_other, W * 8, H, D);
        memcpy(&peer, &copy, sizeof(peer));
        peer.srcContext = peer.dstContext = context;
        CU(cuMemcpy3DPeer(&peer));
        for (size_t z = 0; z < D; z++)
                for (size_t y = 0; y < H; y++)
                        for (size_t x = 0; x < W * 8; x++) {
                                const bool inside = x >= 16 && x < 96 && y >= 1 && y < 6 && z >= 2 && z < 5;
                                const size_t from =
                                        inside ? ((z + 2) * H + y + 2) * W * 8 + x - 8 : (z * H + y) * W * 8 + x;
                                CHECK(seen[(z * H + y) * W * 8 + x] == source[from], "byte (%zu, %zu, %zu)", x, y, z);
                        }
        CU(cuMemFree_v2(memory));
        CU(cuArrayDestroy(array));
        CU(cuArrayDestroy(other));
}

/* ---- what arrays say ---- */

static void descriptions(void)
{
        const CUarray array = test_array(64, 64, 0, CU_AD_FORMAT_UNSIGNED_INT8, 1, 0);
        const CUDA_ARRAY3D_DESCRIPTOR planar = {
                .Width = 64, .Height = 64, .Format = CU_AD_FORMAT_NV12, .NumChannels = 3};
        const CUDA_ARRAY3D_DESCRIPTOR empty = {.Width = 0, .Height = 4, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1};
        CUDA_ARRAY_MEMORY_REQUIREMENTS requirements;
        CUDA_ARRAY_SPARSE_PROPERTIES sparse;
        CUDA_ARRAY3D_DESCRIPTOR descriptor;
        CUarray plane, again;
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuArray3DCreate_v2(&plane, &empty));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuArrayGetPlane(&plane, array, 0)); /* it has none */
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuArrayGetSparseProperties(&sparse, array));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuArrayGetMemoryRequirements(&requirements, array, 0));
        CU(cuArrayDestroy(array));
        const CUresult result = cuArray3DCreate_v2(&plane, &planar);
        if (result == CUDA_ERROR_NOT_SUPPORTED || result == CUDA_ERROR_INVALID_VALUE) { /* an H200 answers the latter */
                puts("skipped on this device: arrays of several planes");
                return;
        }
        CHECK(result == CUDA_SUCCESS, "an array of several planes answered %d", (int)result);
        const CUarray whole = plane;
        CU(cuArrayGetPlane(&plane, whole, 1));
        CU(cuArrayGetPlane(&again, whole, 1));
        CHECK(plane == again, "one plane has two handles");
        CU(cuArray3DGetDescriptor_v2(&descriptor, plane));
        CHECK(descriptor.Width == 32 && descriptor.Height == 32 && descriptor.NumChannels == 2,
              "the second plane is %zu x %zu with %u channels", descriptor.Width, descriptor.Height,
              descriptor.NumChannels);
        CU(cuArrayDestroy(whole));
}

/* A sparse array: memory of cuMemCreate is put behind one of its tiles. */
static void sparse_arrays(void)
{
        const CUDA_ARRAY3D_DESCRIPTOR descriptor = {.Width = 4096,
                                                    .Height = 4096,
                                                    .Format = CU_AD_FORMAT_FLOAT,
                                                    .NumChannels = 1,
                                                    .Flags = CUDA_ARRAY3D_SPARSE};
        const CUmemAllocationProp tile = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                          .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0},
                                          .allocFlags = {.usage = CU_MEM_CREATE_USAGE_TILE_POOL}};
        CUDA_ARRAY_SPARSE_PROPERTIES properties;
        CUmemGenericAllocationHandle memory;
        static uint8_t source[65536], seen[65536];
        CUarray array;
        const CUresult result = cuArray3DCreate_v2(&array, &descriptor);
        if (result == CUDA_ERROR_NOT_SUPPORTED) {
                puts("skipped on this device: sparse arrays");
                return;
        }
        CHECK(result == CUDA_SUCCESS, "a sparse array answered %d", (int)result);
        CU(cuArrayGetSparseProperties(&properties, array));
        const size_t row = properties.tileExtent.width * 4, rows = properties.tileExtent.height;
        CHECK(row * rows <= sizeof(source) && row * rows != 0, "a tile is %zu x %zu bytes", row, rows);
        CU(cuMemCreate(&memory, 2u << 20, &tile, 0));
        CUarrayMapInfo map = {.resourceType = CU_RESOURCE_TYPE_ARRAY,
                              .resource.array = array,
                              .subresourceType = CU_ARRAY_SPARSE_SUBRESOURCE_TYPE_SPARSE_LEVEL,
                              .subresource.sparseLevel = {.extentWidth = properties.tileExtent.width,
                                                          .extentHeight = properties.tileExtent.height,
                                                          .extentDepth = 1},
                              .memOperationType = CU_MEM_OPERATION_TYPE_MAP,
                              .memHandleType = CU_MEM_HANDLE_TYPE_GENERIC,
                              .memHandle.memHandle = memory,
                              .deviceBitMask = 1};
        CU(cuMemMapArrayAsync(&map, 1, stream));
        test_fill(source, sizeof(source), 12);
        const struct side of_array = {.array = array}, of_source = {.host = source, .pitch = row};
        const struct side of_seen = {.host = seen, .pitch = row};
        CUDA_MEMCPY2D copy = flat_of(&of_array, &of_source, row, rows);
        CU(cuMemcpy2DAsync_v2(&copy, stream));
        copy = flat_of(&of_seen, &of_array, row, rows);
        CU(cuMemcpy2DAsync_v2(&copy, stream));
        CU(cuStreamSynchronize(stream));
        same(source, seen, row * rows, "a tile");
        map.memOperationType = CU_MEM_OPERATION_TYPE_UNMAP;
        map.memHandle.memHandle = 0;
        CU(cuMemMapArrayAsync(&map, 1, stream));
        CU(cuStreamSynchronize(stream));
        CU(cuArrayDestroy(array));
        CU(cuMemRelease(memory));
}

/* ---- the old calls ---- */

static void old_calls(void)
{
        static uint8_t source[64 * 8], seen[64 * 8];
        CUarray row, plane, box;
        CUDA_ARRAY_DESCRIPTOR_v1 flat = {
                .Width = 64, .Height = 0, .Format = CU_AD_FORMAT_UNSIGNED_INT8, .NumChannels = 1};
        CUDA_ARRAY3D_DESCRIPTOR_v1 deep = {
                .Width = 16, .Height = 4, .Depth = 8, .Format = CU_AD_FORMAT_UNSIGNED_INT8, .NumChannels = 1};
        CU(cuArrayCreate(&row, &flat));
        flat.Height = 8;
        CU(cuArrayCreate(&plane, &flat));
        CU(cuArray3DCreate(&box, &deep));
        memset(&flat, 0, sizeof(flat));
        memset(&deep, 0, sizeof(deep));
        CU(cuArrayGetDescriptor(&flat, plane));
        CHECK(flat.Width == 64 && flat.Height == 8 && flat.NumChannels == 1, "%u x %u", flat.Width, flat.Height);
        CU(cuArray3DGetDescriptor(&deep, box));
        CHECK(deep.Width == 16 && deep.Height == 4 && deep.Depth == 8, "%u x %u x %u", deep.Width, deep.Height,
              deep.Depth);

        test_fill(source, sizeof(source), 21);
        CU(cuMemcpyHtoA(row, 0, source, 64));
        CU(cuMemcpyAtoA(row, 32, row, 0, 16));
        CU(cuMemcpyAtoH(seen, row, 0, 64));
        same(source, seen, 32, "the first half of a row");
        same(source, seen + 32, 16, "a row copied inside itself");
        CU(cuMemcpyHtoAAsync(row, 0, source + 64, 64, stream));
        CU(cuMemcpyAtoHAsync(seen, row, 0, 64, stream));
        CU(cuStreamSynchronize(stream));
        same(source + 64, seen, 64, "a row in a stream");

        CUDA_MEMCPY2D_v1 to = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                               .srcHost = source,
                               .srcPitch = 64,
                               .dstMemoryType = CU_MEMORYTYPE_ARRAY,
                               .dstArray = plane,
                               .WidthInBytes = 64,
                               .Height = 8};
        CUDA_MEMCPY2D_v1 back = {.srcMemoryType = CU_MEMORYTYPE_ARRAY,
                                 .srcArray = plane,
                                 .dstMemoryType = CU_MEMORYTYPE_HOST,
                                 .dstHost = seen,
                                 .dstPitch = 64,
                                 .WidthInBytes = 64,
                                 .Height = 8};
        CU(cuMemcpy2D(&to));
        CU(cuMemcpy2DUnaligned(&back));
        same(source, seen, sizeof(source), "a plane");
        memset(seen, 0, sizeof(seen));
        CU(cuMemcpy2DAsync(&back, stream));
        CU(cuStreamSynchronize(stream));
        same(source, seen, sizeof(source), "a plane in a stream");

        CUDA_MEMCPY3D_v1 in = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                               .srcHost = source,
                               .srcPitch = 16,
                               .srcHeight = 4,
                               .dstMemoryType = CU_MEMORYTYPE_ARRAY,
                               .dstArray = box,
                               .WidthInBytes = 16,
                               .Height = 4,
                               .Depth = 8};
        CUDA_MEMCPY3D_v1 out = {.srcMemoryType = CU_MEMORYTYPE_ARRAY,
                                .srcArray = box,
                                .dstMemoryType = CU_MEMORYTYPE_HOST,
                                .dstHost = seen,
                                .dstPitch = 16,
                                .dstHeight = 4,
                                .WidthInBytes = 16,
                                .Height = 4,
                                .Depth = 8};
        memset(seen, 0, sizeof(seen));
        CU(cuMemcpy3D(&in));
        CU(cuMemcpy3DAsync(&out, stream));
        CU(cuStreamSynchronize(stream));
        same(source, seen, sizeof(source), "a box");
        CU(cuArrayDestroy(row));
        CU(cuArrayDestroy(plane));
        CU(cuArrayDestroy(box));
}

int main(int argc, char **argv)
{
        test_context();
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        if (argc > 1 && strcmp(argv[1], "old") == 0) {
                old_calls();
                puts("arrays: the old calls are right");
                return 0;
        }
        one_dimension();
        two_dimensions(100, 37);
        two_dimensions(3000, 500); /* 6 MB, in several groups of rows */
        two_dimensions(65536, 6);
        three_dimensions(0);
        three_dimensions(CUDA_ARRAY3D_LAYERED);
        descriptions();
        sparse_arrays();
        puts("arrays: every copy right");
        return 0;
}
