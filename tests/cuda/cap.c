/* Device memory under a cap, which the test's mediator has: hit exactly by every form of memory, seen in every answer,
 * and given back.
 *   cap forms MIB   all forms, each up to the cap and down again
 *   cap hold        as much as there is, in pieces of 1 MiB; says how many; another one for each line on stdin
 *   cap crash       the same, and ends without giving anything back
 *   cap launches MIB KIB   graphs that executors make of launches (IVGPU_LAUNCHES=chained): KIB for each stream
 *   cap card        all of a large cap, written to; for a line on stdin, half of it given back and taken again */
#include "check.h"
#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define PIECE ((size_t)1 << 20)
#define PIECES_MAX 4096
#define GRAPH_STREAMS 16u /* IVG_CHAIN_STREAMS_MAX */
#define STREAMS (GRAPH_STREAMS + 4)

static uint64_t pieces[PIECES_MAX];
static CUmemoryPool pool;
static size_t physical_bytes; /* a piece of cuMemCreate */

/* ---- one piece of each form ---- */

static CUresult take_plain(uint64_t *piece)
{
        return cuMemAlloc_v2((CUdeviceptr *)piece, PIECE);
}

static CUresult give_plain(uint64_t piece)
{
        return cuMemFree_v2(piece);
}

static CUresult take_pitched(uint64_t *piece)
{
        size_t pitch;
        const CUresult result = cuMemAllocPitch_v2((CUdeviceptr *)piece, &pitch, 4096, PIECE / 4096, 4);

        CHECK(result != CUDA_SUCCESS || pitch == 4096, "pitch %zu", pitch);
        return result;
}

static CUresult take_async(uint64_t *piece)
{
        return cuMemAllocAsync((CUdeviceptr *)piece, PIECE, NULL);
}

static CUresult give_async(uint64_t piece)
{
        const CUresult result = cuMemFreeAsync(piece, NULL);

        return result != CUDA_SUCCESS ? result : cuStreamSynchronize(NULL);
}

static CUresult take_of_pool(uint64_t *piece)
{
        return cuMemAllocFromPoolAsync((CUdeviceptr *)piece, PIECE, pool, NULL);
}

static const CUDA_ARRAY3D_DESCRIPTOR flat = {
        .Width = 512, .Height = 512, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1}; /* a piece */

static CUresult take_array(uint64_t *piece)
{
        return cuArray3DCreate_v2((CUarray *)piece, &flat);
}

static CUresult give_array(uint64_t piece)
{
        return cuArrayDestroy((CUarray)(uintptr_t)piece);
}

static CUresult take_physical(uint64_t *piece)
{
        const CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                          .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};

        return cuMemCreate((CUmemGenericAllocationHandle *)piece, physical_bytes, &prop, 0);
}

static CUresult give_physical(uint64_t piece)
{
        return cuMemRelease(piece);
}

static const struct form {
        const char *name;
        CUresult (*take)(uint64_t *piece);
        CUresult (*give)(uint64_t piece);
} forms[] = {
        {"cuMemAlloc", take_plain, give_plain},      {"cuMemAllocPitch", take_pitched, give_plain},
        {"cuMemAllocAsync", take_async, give_async}, {"cuMemAllocFromPoolAsync", take_of_pool, give_async},
        {"cuArray3DCreate", take_array, give_array}, {"cuMemCreate", take_physical, give_physical},
};

/* ---- up to the cap ---- */

static size_t fill(const struct form *form, size_t from)
{
        CUresult result = CUDA_SUCCESS;
        size_t count = from;

        while (count < PIECES_MAX && (result = form->take(&pieces[count])) == CUDA_SUCCESS)
                count++;
        CHECK(result == CUDA_ERROR_OUT_OF_MEMORY, "%s: error %d at the cap", form->name, (int)result);
        return count;
}

static void expect_free(const char *when, size_t mib, size_t cap_mib)
{
        size_t free_bytes = 1, total_bytes = 1;

        CU(cuMemGetInfo_v2(&free_bytes, &total_bytes));
        CHECK(total_bytes == cap_mib << 20, "%s: a total of %zu bytes", when, total_bytes);
        CHECK(free_bytes == mib << 20, "%s: %zu bytes are free, not %zu MiB", when, free_bytes, mib);
}

static void form_fills_the_cap(const struct form *form, size_t cap_mib)
{
        const size_t piece_mib = form->take == take_physical ? physical_bytes >> 20 : 1;
        const size_t count = fill(form, 0);
        CUdeviceptr one = 0;

        CHECK(count == cap_mib / piece_mib, "%s: %zu pieces, not %zu", form->name, count, cap_mib / piece_mib);
        expect_free(form->name, 0, cap_mib);
        CHECK(cuMemAlloc_v2(&one, 1) == CUDA_ERROR_OUT_OF_MEMORY, "%s: a byte above the cap", form->name);
        CU(form->give(pieces[count / 2]));
        expect_free(form->name, piece_mib, cap_mib);
        CU(form->take(&pieces[count / 2]));
        CHECK(cuMemAlloc_v2(&one, 1) == CUDA_ERROR_OUT_OF_MEMORY, "%s: a byte above the cap", form->name);
        for (size_t i = 0; i < count; i++)
                CU(form->give(pieces[i]));
        expect_free(form->name, cap_mib, cap_mib);
        printf("%s: right\n", form->name);
}

/* ---- what is special ---- */

static void mapping_holds_released_memory(size_t cap_mib)
{
        const CUmemAccessDesc access = {.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0},
                                        .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
        CUdeviceptr address = 0;

        CU(cuMemAddressReserve(&address, physical_bytes, 0, 0, 0));
        CU(take_physical(&pieces[0]));
        CU(cuMemMap(address, physical_bytes, 0, pieces[0], 0));
        CU(cuMemSetAccess(address, physical_bytes, &access, 1));
        CU(cuMemRelease(pieces[0]));
        expect_free("released, mapped", cap_mib - (physical_bytes >> 20), cap_mib);
        CU(cuMemUnmap(address, physical_bytes));
        expect_free("unmapped", cap_mib, cap_mib);
        CU(cuMemAddressFree(address, physical_bytes));
}

static void failures_take_nothing(size_t cap_mib)
{
        CUDA_ARRAY3D_DESCRIPTOR strange = flat;
        CUdeviceptr address = 0;
        CUarray array;
        size_t pitch;

        CHECK(cuMemAlloc_v2(&address, 0) == CUDA_ERROR_INVALID_VALUE, "0 bytes");
        CHECK(cuMemAlloc_v2(&address, SIZE_MAX) == CUDA_ERROR_OUT_OF_MEMORY, "all bytes");
        CHECK(cuMemAlloc_v2(&address, (cap_mib << 20) + 1) == CUDA_ERROR_OUT_OF_MEMORY, "a byte too many");
        CHECK(cuMemAllocPitch_v2(&address, &pitch, SIZE_MAX / 2, 4, 4) != CUDA_SUCCESS, "an endless pitch");
        strange.NumChannels = 3;
        CHECK(cuArray3DCreate_v2(&array, &strange) != CUDA_SUCCESS, "three channels");
        expect_free("after failures", cap_mib, cap_mib);
}

static void context_takes_its_memory_along(size_t cap_mib)
{
        CUcontext context = NULL;

        CU(cuCtxCreate_v2(&context, 0, 0));
        CHECK(fill(&forms[0], 0) == cap_mib, "not the whole cap in another context");
        CU(cuCtxDestroy_v2(context));
        expect_free("context destroyed", cap_mib, cap_mib);
}

/* nvmlDeviceGetMemoryInfo's struct */
struct memory {
        unsigned long long total, free, used;
};

static void nvml_shows_the_cap(size_t cap_mib)
{
        void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
        int (*init)(void) = library ? (int (*)(void))dlsym(library, "nvmlInit_v2") : NULL;
        int (*by_index)(unsigned int, void **) =
                library ? (int (*)(unsigned int, void **))dlsym(library, "nvmlDeviceGetHandleByIndex_v2") : NULL;
        int (*info)(void *, struct memory *) =
                library ? (int (*)(void *, struct memory *))dlsym(library, "nvmlDeviceGetMemoryInfo") : NULL;
        struct memory memory = {0, 0, 0};
        void *device = NULL;

        CHECK(init && by_index && info, "libnvidia-ml.so.1 is not there: %s", dlerror());
        CU(cuMemAlloc_v2((CUdeviceptr *)&pieces[0], 3 * PIECE));
        CHECK(init() == 0 && by_index(0, &device) == 0 && info(device, &memory) == 0, "NVML fails");
        CHECK(memory.total == cap_mib << 20, "NVML: a total of %llu bytes", memory.total);
        CHECK(memory.used == 3 * PIECE, "NVML: %llu bytes are used", memory.used);
        CU(cuMemFree_v2(pieces[0]));
}

static void forms_fill_the_cap(size_t cap_mib)
{
        const CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
        const CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = props.location};
        size_t total_bytes = 0;

        CU(cuDeviceTotalMem_v2(&total_bytes, 0));
        CHECK(total_bytes == cap_mib << 20, "cuDeviceTotalMem: %zu", total_bytes);
        CU(cuMemPoolCreate(&pool, &props));
        CU(cuMemGetAllocationGranularity(&physical_bytes, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
        for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
                form_fills_the_cap(&forms[i], cap_mib);
        mapping_holds_released_memory(cap_mib);
        failures_take_nothing(cap_mib);
        nvml_shows_the_cap(cap_mib);
        context_takes_its_memory_along(cap_mib);
}

static void launch_in(CUfunction increment, CUstream stream, CUdeviceptr counter)
{
        void *parameters[] = {&counter};

        for (unsigned i = 0; i < 3; i++)
                CU(cuLaunchKernel(increment, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

static void expect_free_bytes(const char *when, size_t bytes)
{
        size_t free_bytes = 1, total_bytes = 1;

        CU(cuMemGetInfo_v2(&free_bytes, &total_bytes));
        CHECK(free_bytes == bytes, "%s: %zu bytes are free, not %zu", when, free_bytes, bytes);
}

/* Graphs that the program knows nothing of take memory of its VM, of a bounded number of streams at once; without room
 * its launches go well all the same. */
static void launches_stay_below(size_t cap_mib, size_t graph_kib)
{
        const size_t start = (cap_mib - 1) << 20, graph_bytes = graph_kib << 10;
        const CUfunction increment = test_function(test_module(), "increment");
        CUstream streams[STREAMS], stream;
        const unsigned launched = 3 * 4 * STREAMS;
        unsigned seen = 0;
        CUdeviceptr counter;
        size_t count;

        CU(cuMemAlloc_v2(&counter, PIECE));
        CU(cuMemsetD8_v2(counter, 0, PIECE));
        CU(cuCtxSynchronize()); /* the streams do not wait for it */
        expect_free_bytes("before", start);
        for (unsigned i = 0; i < STREAMS; i++)
                CU(cuStreamCreate(&streams[i], CU_STREAM_NON_BLOCKING));
        for (unsigned i = 0; i < STREAMS; i++) {
                launch_in(increment, streams[i], counter);
                expect_free_bytes("launched", start - (i < GRAPH_STREAMS ? i + 1 : GRAPH_STREAMS) * graph_bytes);
        }
        for (unsigned i = 0; i < STREAMS; i++)
                CU(cuStreamDestroy_v2(streams[i]));
        expect_free_bytes("streams destroyed", start);
        for (unsigned i = 0; i < STREAMS; i++) { /* one after the other, as many as there may be */
                CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
                launch_in(increment, stream, counter);
                expect_free_bytes("one stream", start - graph_bytes);
                CU(cuStreamDestroy_v2(stream));
        }
        count = fill(&forms[0], 0);
        CHECK(count == cap_mib - 1, "%zu pieces after streams have ended", count);
        for (unsigned i = 0; i < STREAMS; i++) {
                CU(cuStreamCreate(&streams[i], CU_STREAM_NON_BLOCKING));
                launch_in(increment, streams[i], counter);
        }
        expect_free_bytes("at the cap", 0);
        CU(cuMemFree_v2(pieces[0]));
        expect_free_bytes("a piece given back", PIECE);
        for (unsigned i = 0; i < STREAMS; i++)
                launch_in(increment, streams[i], counter);
        expect_free_bytes("as many as there is room for", PIECE % graph_bytes);
        CU(cuCtxSynchronize());
        CU(cuMemcpyDtoH_v2(&seen, counter, sizeof(seen)));
        CHECK(seen == launched, "%u launches of %u have happened", seen, launched);
}

static int hold(bool crash)
{
        size_t count = fill(&forms[0], 0);
        char line[16];

        printf("%zu\n", count);
        fflush(stdout);
        if (crash)
                _exit(7);
        while (fgets(line, sizeof(line), stdin)) {
                count = fill(&forms[0], count);
                printf("%zu\n", count);
                fflush(stdout);
        }
        return 0;
}

/* A card's part is too much for pieces of 1 MiB alone; they fill what is left. */
static struct {
        CUdeviceptr address;
        size_t bytes;
} blocks[PIECES_MAX];
static size_t block_count;

static void take_all(size_t bytes)
{
        CUresult result = CUDA_SUCCESS;

        while (block_count < PIECES_MAX &&
               (result = cuMemAlloc_v2(&blocks[block_count].address, bytes)) == CUDA_SUCCESS)
                blocks[block_count++].bytes = bytes;
        CHECK(result == CUDA_ERROR_OUT_OF_MEMORY, "error %d after %zu pieces of %zu bytes", (int)result, block_count,
              bytes);
}

static void tell_held(void)
{
        size_t held = 0, free_bytes = 0, total_bytes = 0;

        for (size_t i = 0; i < block_count; i++) {
                held += blocks[i].bytes;
                CU(cuMemsetD8_v2(blocks[i].address, 0x5a, blocks[i].bytes));
        }
        CU(cuCtxSynchronize());
        CU(cuMemGetInfo_v2(&free_bytes, &total_bytes));
        printf("{\"held\": %zu, \"free\": %zu, \"total\": %zu}\n", held, free_bytes, total_bytes);
        fflush(stdout);
}

static int card(void)
{
        char line[16];

        take_all(64 * PIECE);
        take_all(PIECE);
        tell_held();
        while (fgets(line, sizeof(line), stdin)) {
                const size_t kept = block_count / 2;

                while (block_count > kept)
                        CU(cuMemFree_v2(blocks[--block_count].address));
                take_all(64 * PIECE);
                take_all(PIECE);
                tell_held();
        }
        return 0;
}

int main(int argc, char **argv)
{
        CUcontext context;

        CU(cuInit(0));
        CU(cuDevicePrimaryCtxRetain(&context, 0));
        CU(cuCtxSetCurrent(context));
        if (argc == 3 && strcmp(argv[1], "forms") == 0)
                forms_fill_the_cap((size_t)atoi(argv[2]));
        else if (argc == 4 && strcmp(argv[1], "launches") == 0)
                launches_stay_below((size_t)atoi(argv[2]), (size_t)atoi(argv[3]));
        else if (argc == 2 && strcmp(argv[1], "card") == 0)
                return card();
        else if (argc == 2)
                return hold(strcmp(argv[1], "crash") == 0);
        printf("right\n");
        return 0;
}
