/* A program of an older toolkit: its libcudart.so, given by path, over whatever libcuda.so.1 the loader finds. Exits 77
 * with words when no path is given: the gate needs no such library. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES ((size_t)3 << 20)

static void *library;

static void *symbol(const char *name)
{
        void *found = dlsym(library, name);

        if (found == NULL) {
                fprintf(stderr, "old_runtime: %s\n", dlerror());
                exit(1);
        }
        return found;
}

static void check(int error, const char *what)
{
        const char *(*text)(int) = (const char *(*)(int))symbol("cudaGetErrorString");

        if (error != 0) {
                fprintf(stderr, "old_runtime: %s answered %d: %s\n", what, error, text(error));
                exit(1);
        }
}

#define CALL(name, types, ...) check(((int(*) types)symbol(#name))(__VA_ARGS__), #name)

int main(int argc, char **argv)
{
        const char *path = argc > 1 ? argv[1] : getenv("IVGPU_TEST_CUDART");
        unsigned char *out, *in;
        int runtime = 0, driver = 0, count = 0;
        void *memory = NULL, *stream = NULL, *event = NULL, *pinned = NULL;
        size_t free_bytes = 0, total_bytes = 0;

        if (path == NULL || path[0] == '\0') {
                puts("old_runtime: skipped: no libcudart.so given (argument, or IVGPU_TEST_CUDART)");
                return 77;
        }
        library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
        if (library == NULL) {
                fprintf(stderr, "old_runtime: %s\n", dlerror());
                return 1;
        }
        CALL(cudaRuntimeGetVersion, (int *), &runtime);
        CALL(cudaDriverGetVersion, (int *), &driver);
        CALL(cudaGetDeviceCount, (int *), &count);
        if (count < 1 || driver < runtime) {
                fprintf(stderr, "old_runtime: %d devices, driver %d, runtime %d\n", count, driver, runtime);
                return 1;
        }
        CALL(cudaSetDevice, (int), 0);
        CALL(cudaMalloc, (void **, size_t), &memory, BYTES);
        CALL(cudaMemGetInfo, (size_t *, size_t *), &free_bytes, &total_bytes);
        CALL(cudaMemset, (void *, int, size_t), memory, 0x5a, BYTES);
        out = malloc(BYTES);
        in = malloc(BYTES);
        if (out == NULL || in == NULL)
                return 1;
        CALL(cudaMemcpy, (void *, const void *, size_t, int), in, memory, BYTES, 2);
        for (size_t i = 0; i < BYTES; i++)
                if (in[i] != 0x5a) {
                        fprintf(stderr, "old_runtime: byte %zu of the set memory is 0x%x\n", i, in[i]);
                        return 1;
                }
        for (size_t i = 0; i < BYTES; i++)
                out[i] = (unsigned char)(i * 2654435761u >> 13);
        CALL(cudaStreamCreate, (void **), &stream);
        CALL(cudaEventCreate, (void **), &event);
        CALL(cudaMallocHost, (void **, size_t), &pinned, BYTES);
        memcpy(pinned, out, BYTES);
        CALL(cudaMemcpyAsync, (void *, const void *, size_t, int, void *), memory, pinned, BYTES, 1, stream);
        CALL(cudaEventRecord, (void *, void *), event, stream);
        CALL(cudaEventSynchronize, (void *), event);
        CALL(cudaStreamSynchronize, (void *), stream);
        CALL(cudaMemcpy, (void *, const void *, size_t, int), in, memory, BYTES, 2);
        if (memcmp(in, out, BYTES) != 0) {
                fprintf(stderr, "old_runtime: what came back differs\n");
                return 1;
        }
        CALL(cudaEventDestroy, (void *), event);
        CALL(cudaStreamDestroy, (void *), stream);
        CALL(cudaFreeHost, (void *), pinned);
        CALL(cudaFree, (void *), memory);
        CALL(cudaDeviceSynchronize, (void));
        CALL(cudaDeviceReset, (void));
        printf("old_runtime: runtime %d over driver %d: ok\n", runtime, driver);
        free(out);
        free(in);
        return 0;
}
