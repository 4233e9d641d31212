/* Memory shared between two processes by handle; each has its own executor.
 *   ipc                 exporter and opener, as parent and child
 *   ipc export          prints a handle in hexadecimal and holds the memory until its input ends
 *   ipc stranger HEX    the handle is another machine's: opening it must fail */
#include "check.h"
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES ((size_t)3 << 20)
#define SMALL_BYTES ((size_t)5000)

struct message {
        CUipcMemHandle large, small;
        CUipcEventHandle event;
        int has_event; /* the device shares events */
};

static void transfer(int fd, void *memory, size_t bytes, bool out)
{
        const ssize_t done = out ? write(fd, memory, bytes) : read(fd, memory, bytes);

        CHECK(done == (ssize_t)bytes, "%zd of %zu bytes through a pipe", done, bytes);
}

static void expect(CUdeviceptr memory, size_t bytes, uint64_t seed)
{
        uint8_t *have = malloc(bytes), *want = malloc(bytes);

        CHECK(have != NULL && want != NULL, "no memory");
        test_fill(want, bytes, seed);
        CU(cuMemcpyDtoH_v2(have, memory, bytes));
        CHECK(memcmp(have, want, bytes) == 0, "%zu bytes of seed %d differ", bytes, (int)seed);
        free(have);
        free(want);
}

static void fill(CUdeviceptr memory, size_t bytes, uint64_t seed)
{
        uint8_t *data = malloc(bytes);

        CHECK(data != NULL, "no memory");
        test_fill(data, bytes, seed);
        CU(cuMemcpyHtoD_v2(memory, data, bytes));
        free(data);
}

static void opener(int from, int to)
{
        struct message message;
        CUdeviceptr large = 0, again = 0, small = 0;
        CUevent event = NULL;
        char byte = 1;

        transfer(from, &message, sizeof(message), false);
        test_context();
        CU(cuIpcOpenMemHandle_v2(&large, message.large, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
        CU(cuIpcOpenMemHandle_v2(&again, message.large, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
        CHECK(again == large, "opened twice, two addresses");
        CU(cuIpcOpenMemHandle_v2(&small, message.small, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
        if (message.has_event) {
                CU(cuIpcOpenEventHandle(&event, message.event));
                CU(cuStreamWaitEvent(NULL, event, 0));
                CU(cuEventSynchronize(event));
                CU(cuEventQuery(event));
        }
        expect(large, BYTES, 1);
        expect(small, SMALL_BYTES, 2);
        CU(cuIpcCloseMemHandle(again));
        fill(large, BYTES, 3); /* still open once */
        CU(cuMemcpyDtoD_v2(small, large, SMALL_BYTES));
        if (message.has_event) { /* of both: the exporter waits for what this process records */
                CU(cuEventRecord(event, NULL));
                transfer(to, &byte, 1, true);
        }
        CU(cuCtxSynchronize());
        if (message.has_event)
                CU(cuEventDestroy_v2(event));
        CU(cuIpcCloseMemHandle(large));
        CU(cuIpcCloseMemHandle(small));
        if (getenv("IVGPU_CHANNEL") != NULL) { /* natively such handles are the driver's to judge */
                message.large.reserved[17] ^= 1;
                CU_EXPECT(CUDA_ERROR_INVALID_VALUE,
                          cuIpcOpenMemHandle_v2(&large, message.large, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
                CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuIpcCloseMemHandle(small));
                (void)cuMemcpyDtoD_v2(small, small, 16); /* closed: refused at once or at the next synchronization */
                CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuCtxSynchronize());
        }
        transfer(to, &byte, 1, true);
        transfer(from, &byte, 1, false); /* the exporter has freed it */
        if (getenv("IVGPU_CHANNEL") != NULL)
                CU_EXPECT(CUDA_ERROR_INVALID_VALUE,
                          cuIpcOpenMemHandle_v2(&small, message.small, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
        exit(0);
}

static void exporter(int from, int to)
{
        struct message message, same;
        CUdeviceptr large, small, other;
        CUevent event;
        char byte;

        test_context();
        memset(&message, 0, sizeof(message));
        CU(cuMemAlloc_v2(&large, BYTES));
        CU(cuMemAlloc_v2(&other, 700)); /* so that the next shares its block */
        CU(cuMemAlloc_v2(&small, SMALL_BYTES));
        fill(large, BYTES, 1);
        fill(small, SMALL_BYTES, 2);
        CU(cuIpcGetMemHandle(&message.large, large));
        CU(cuIpcGetMemHandle(&same.large, large));
        CHECK(memcmp(&message.large, &same.large, sizeof(same.large)) == 0, "two handles of one memory");
        CU(cuIpcGetMemHandle(&message.small, small));
        CU(cuDeviceGetAttribute(&message.has_event, CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED, 0));
        if (message.has_event) {
                CU(cuEventCreate(&event, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING));
                CU(cuEventRecord(event, NULL));
                CU(cuIpcGetEventHandle(&message.event, event));
        } else {
                CU_EXPECT(CUDA_ERROR_NOT_SUPPORTED,
                          cuEventCreate(&event, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING));
        }
        transfer(to, &message, sizeof(message), true);
        if (message.has_event) {
                transfer(from, &byte, 1, false);
                CU(cuEventSynchronize(event));
                expect(small, SMALL_BYTES, 3);
        }
        transfer(from, &byte, 1, false);
        expect(large, BYTES, 3);
        expect(small, SMALL_BYTES, 3);
        CU(cuMemFree_v2(small));
        CU(cuMemFree_v2(large));
        CU(cuCtxSynchronize());
        transfer(to, &byte, 1, true);
}

static int export_and_wait(void)
{
        CUipcMemHandle handle;
        CUdeviceptr memory;

        test_context();
        CU(cuMemAlloc_v2(&memory, BYTES));
        CU(cuIpcGetMemHandle(&handle, memory));
        for (size_t i = 0; i < sizeof(handle.reserved); i++)
                printf("%02x", (unsigned char)handle.reserved[i]);
        puts("");
        fflush(stdout);
        (void)getchar();
        return 0;
}

static int stranger(const char *text)
{
        CUipcMemHandle handle;
        CUdeviceptr memory = 0;

        CHECK(strlen(text) == 2 * sizeof(handle.reserved), "a handle of %zu digits", strlen(text));
        for (size_t i = 0; i < sizeof(handle.reserved); i++) {
                unsigned int byte = 0;

                CHECK(sscanf(text + 2 * i, "%2x", &byte) == 1, "digit %zu", i);
                handle.reserved[i] = (char)byte;
        }
        test_context();
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuIpcOpenMemHandle_v2(&memory, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
        puts("ipc: a stranger's handle is refused");
        return 0;
}

int main(int argc, char **argv)
{
        int to_child[2], to_parent[2], status;
        pid_t child;

        if (argc > 1 && strcmp(argv[1], "export") == 0)
                return export_and_wait();
        if (argc > 2 && strcmp(argv[1], "stranger") == 0)
                return stranger(argv[2]);
        CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0, "pipe");
        child = fork(); /* before either has called CUDA */
        CHECK(child >= 0, "fork");
        if (child == 0) {
                close(to_child[1]); /* a parent that dies is seen likewise */
                close(to_parent[0]);
                opener(to_child[0], to_parent[1]);
        }
        close(to_parent[1]); /* a child that dies is seen by its pipe's end */
        exporter(to_parent[0], to_child[1]);
        CHECK(waitpid(child, &status, 0) == child && status == 0, "the opener ended with status 0x%x", status);
        puts("ipc: ok");
        return 0;
}
