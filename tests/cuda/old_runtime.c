/* A program as nvcc of an older toolkit makes them, over that toolkit's libcudart.so, which is given by path: its
 * fatbin is registered by a static initializer, before main. Exits 77 with words when no path is given.
 *
 *   old_runtime PATH                 everything right
 *   old_runtime PATH insufficient    the driver is too old for it, and the runtime says so */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES ((size_t)3 << 20)
#define SCALE 3 /* of tests/unit/fatbin/kernels.cu */
#define INSUFFICIENT_DRIVER 35

extern const char test_fatbin[]; /* a fatbin of PTX; below */
__asm__(".section .nv_fatbin, \"a\"\n"
        ".balign 8\n"
        ".global test_fatbin\n"
        "test_fatbin:\n"
        ".incbin \"" IVG_FATBIN "\"\n"
        ".previous\n");

static struct {
        uint32_t magic, version;
        const void *data;
        void *name;
} wrapper = {0x466243b1, 1, test_fatbin, NULL};

struct dim3 {
        unsigned x, y, z;
};

static void *library;
static void **registered;
static uint32_t scale_shadow, counter_shadow;

/* What nvcc's stubs are to the runtime: addresses by which it knows kernels. */
static void fill_stub(void)
{
}

static void count_stub(void)
{
}

static void *symbol(const char *name)
{
        void *found = dlsym(library, name);

        if (found == NULL) {
                fprintf(stderr, "old_runtime: %s\n", dlerror());
                exit(1);
        }
        return found;
}

static const char *text_of(int error)
{
        const char *(*text)(int) = (const char *(*)(int))symbol("cudaGetErrorString");

        return text(error);
}

static void check(int error, const char *what)
{
        if (error != 0) {
                fprintf(stderr, "old_runtime: %s answered %d: %s\n", what, error, text_of(error));
                exit(1);
        }
}

static void must(int holds, const char *what)
{
        if (!holds) {
                fprintf(stderr, "old_runtime: %s does not hold\n", what);
                exit(1);
        }
}

#define FUNCTION(result, name, types) ((result(*) types)symbol(#name))
#define CALL(name, types, ...) check(FUNCTION(int, name, types)(__VA_ARGS__), #name)
#define MUST(condition) must(condition, #condition)

/* What nvcc writes for a file with kernels and device variables. */
__attribute__((constructor)) static void register_all(int argc, char **argv)
{
        if (argc < 2)
                return;
        library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
        if (library == NULL)
                return; /* main says it */
        registered = FUNCTION(void **, __cudaRegisterFatBinary, (void *))(&wrapper);
        FUNCTION(void, __cudaRegisterFunction,
                 (void **, const char *, char *, const char *, int, void *, void *, void *, void *, int *))
        (registered, (const char *)fill_stub, (char *)(uintptr_t) "fill", "fill", -1, NULL, NULL, NULL, NULL, NULL);
        FUNCTION(void, __cudaRegisterFunction,
                 (void **, const char *, char *, const char *, int, void *, void *, void *, void *, int *))
        (registered, (const char *)count_stub, (char *)(uintptr_t) "count", "count", -1, NULL, NULL, NULL, NULL, NULL);
        FUNCTION(void, __cudaRegisterVar, (void **, char *, char *, const char *, int, size_t, int, int))
        (registered, (char *)&scale_shadow, (char *)(uintptr_t) "scale", "scale", 0, 4, 1, 0);
        FUNCTION(void, __cudaRegisterVar, (void **, char *, char *, const char *, int, size_t, int, int))
        (registered, (char *)&counter_shadow, (char *)(uintptr_t) "counter", "counter", 0, 4, 0, 0);
        FUNCTION(void, __cudaRegisterFatBinaryEnd, (void **))(registered);
}

__attribute__((destructor)) static void unregister_all(void)
{
        if (registered != NULL)
                FUNCTION(void, __cudaUnregisterFatBinary, (void **))(registered);
}

static void launch(void (*stub)(void), unsigned blocks, unsigned threads, void **arguments, void *stream)
{
        CALL(cudaLaunchKernel, (const void *, struct dim3, struct dim3, void **, size_t, void *), (const void *)stub,
             (struct dim3){blocks, 1, 1}, (struct dim3){threads, 1, 1}, arguments, 0, stream);
        CALL(cudaGetLastError, (void));
}

static void kernels(void *stream)
{
        enum { N = 10000 };
        static int out[N];
        int n = N, value = 5, scale = 11;
        unsigned counter = 0;
        void *memory = NULL, *arguments[] = {&memory, &n, &value};

        CALL(cudaMalloc, (void **, size_t), &memory, sizeof out);
        launch(fill_stub, (N + 255) / 256, 256, arguments, stream);
        CALL(cudaMemcpyAsync, (void *, const void *, size_t, int, void *), out, memory, sizeof out, 2, stream);
        CALL(cudaStreamSynchronize, (void *), stream);
        for (int i = 0; i < N; i++)
                MUST(out[i] == value * SCALE + i);
        /* Constants and variables by their shadows. */
        CALL(cudaMemcpyToSymbol, (const void *, const void *, size_t, size_t, int), &scale_shadow, &scale, 4, 0, 1);
        launch(fill_stub, (N + 255) / 256, 256, arguments, NULL);
        CALL(cudaMemcpy, (void *, const void *, size_t, int), out, memory, sizeof out, 2);
        for (int i = 0; i < N; i++)
                MUST(out[i] == value * scale + i);
        launch(count_stub, 4, 64, NULL, stream);
        CALL(cudaDeviceSynchronize, (void));
        CALL(cudaMemcpyFromSymbol, (void *, const void *, size_t, size_t, int), &counter, &counter_shadow, 4, 0, 2);
        MUST(counter == 7 + 4 * 64);
        CALL(cudaFree, (void *), memory);
}

static void copies(void *stream)
{
        void *memory = NULL, *event = NULL, *pinned = NULL;
        size_t free_bytes = 0, total_bytes = 0;
        unsigned char *out = malloc(BYTES), *in = malloc(BYTES);

        MUST(out != NULL && in != NULL);
        CALL(cudaMalloc, (void **, size_t), &memory, BYTES);
        CALL(cudaMemGetInfo, (size_t *, size_t *), &free_bytes, &total_bytes);
        MUST(free_bytes > 0 && free_bytes < total_bytes);
        CALL(cudaMemset, (void *, int, size_t), memory, 0x5a, BYTES);
        CALL(cudaMemcpy, (void *, const void *, size_t, int), in, memory, BYTES, 2);
        for (size_t i = 0; i < BYTES; i++)
                MUST(in[i] == 0x5a);
        for (size_t i = 0; i < BYTES; i++)
                out[i] = (unsigned char)(i * 2654435761u >> 13);
        CALL(cudaEventCreate, (void **), &event);
        CALL(cudaMallocHost, (void **, size_t), &pinned, BYTES);
        memcpy(pinned, out, BYTES);
        CALL(cudaMemcpyAsync, (void *, const void *, size_t, int, void *), memory, pinned, BYTES, 1, stream);
        CALL(cudaEventRecord, (void *, void *), event, stream);
        CALL(cudaEventSynchronize, (void *), event);
        CALL(cudaStreamSynchronize, (void *), stream);
        CALL(cudaMemcpy, (void *, const void *, size_t, int), in, memory, BYTES, 2);
        MUST(memcmp(in, out, BYTES) == 0);
        CALL(cudaEventDestroy, (void *), event);
        CALL(cudaFreeHost, (void *), pinned);
        CALL(cudaFree, (void *), memory);
        free(out);
        free(in);
}

static int insufficient(void)
{
        int count = -1;
        const int error = FUNCTION(int, cudaGetDeviceCount, (int *))(&count);

        if (error != INSUFFICIENT_DRIVER) {
                fprintf(stderr, "old_runtime: cudaGetDeviceCount answered %d: %s\n", error, text_of(error));
                return 1;
        }
        puts("old_runtime: the driver is too old, as it should be: ok");
        return 0;
}

int main(int argc, char **argv)
{
        int runtime = 0, driver = 0, count = 0;
        void *stream = NULL;

        if (argc < 2) {
                puts("old_runtime: skipped: no libcudart.so given");
                return 77;
        }
        if (library == NULL) {
                fprintf(stderr, "old_runtime: %s: %s\n", argv[1], dlerror());
                return 1;
        }
        if (argc > 2)
                return insufficient();
        CALL(cudaRuntimeGetVersion, (int *), &runtime);
        CALL(cudaDriverGetVersion, (int *), &driver);
        CALL(cudaGetDeviceCount, (int *), &count);
        MUST(count >= 1);
        MUST(driver / 1000 >= runtime / 1000); /* within a major version any driver will do */
        CALL(cudaSetDevice, (int), 0);
        CALL(cudaStreamCreate, (void **), &stream);
        kernels(stream);
        copies(stream);
        CALL(cudaStreamDestroy, (void *), stream);
        CALL(cudaDeviceSynchronize, (void));
        CALL(cudaDeviceReset, (void));
        printf("old_runtime: runtime %d over driver %d: ok\n", runtime, driver);
        return 0;
}
