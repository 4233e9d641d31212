/* Virtual memory management: physical memory and addresses apart, a range that grows as PyTorch's expandable segments
 * do, shared memory between two processes (by fork and over a UNIX socket).
 *   vmm                 everything
 *   vmm export          prints the path of a shareable handle, and holds it until its input ends
 *   vmm stranger PATH   the handle at that path is another machine's: importing it must fail
 *   vmm import FD BYTES WORD   started by it: maps what the descriptor stands for, and renumbers its words */
#include "pass.h"
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORD UINT32_C(0x5eed0001)
#define SEGMENTS 12u
#define SHARED_BYTES ((size_t)64 << 20)
#define NUMBERED_BYTES ((size_t)4 << 20) /* of it by importers' kernels, which a soft GPU runs slowly */
#define PIECE_GRANULES 32u               /* of one_mapping */
#define SLACK_BYTES ((size_t)16 << 20)   /* that a driver may take for itself meanwhile */
#define SETTLE_MS 5000                   /* for a process's memory to come back after its end */

static size_t granule;

static CUmemAllocationProp properties(CUmemAllocationHandleType types)
{
        return (CUmemAllocationProp){.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                     .requestedHandleTypes = types,
                                     .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
}

static CUmemGenericAllocationHandle create(size_t bytes, CUmemAllocationHandleType types)
{
        const CUmemAllocationProp prop = properties(types);
        CUmemGenericAllocationHandle handle = 0;

        CU(cuMemCreate(&handle, bytes, &prop, 0));
        return handle;
}

static void allow(CUdeviceptr address, size_t bytes, CUmemAccess_flags flags)
{
        const CUmemAccessDesc access = {.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}, .flags = flags};

        CU(cuMemSetAccess(address, bytes, &access, 1));
}

static CUdeviceptr map_anywhere(CUmemGenericAllocationHandle handle, size_t bytes)
{
        CUdeviceptr address = 0;

        CU(cuMemAddressReserve(&address, bytes, 0, 0, 0));
        CU(cuMemMap(address, bytes, 0, handle, 0));
        allow(address, bytes, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
        return address;
}

static void unmap(CUdeviceptr address, size_t bytes)
{
        CU(cuMemUnmap(address, bytes));
        CU(cuMemAddressFree(address, bytes));
}

/* Words that start with `word` and grow by `step`. */
static void expect_words(CUdeviceptr address, size_t bytes, uint32_t word, uint32_t step)
{
        uint32_t *have = malloc(bytes);

        CHECK(have != NULL, "no memory");
        CU(cuMemcpyDtoH_v2(have, address, bytes));
        for (size_t i = 0; i < bytes / sizeof(*have); i++)
                CHECK(have[i] == word + (uint32_t)i * step, "word %zu of %zu is 0x%x, not 0x%x", i,
                      bytes / sizeof(*have), have[i], word + (uint32_t)i * step);
        free(have);
}

/* By a kernel: the n-th word becomes `word` + n. */
static void number_words(CUmodule module, CUdeviceptr address, size_t bytes, uint32_t word)
{
        uint64_t count = bytes / 4;
        void *params[] = {&address, &word, &count};

        CU(cuLaunchKernel(test_function(module, "fill_u32"), 8, 1, 1, 256, 1, 1, 0, NULL, params, NULL));
}

static size_t free_bytes(void)
{
        size_t left, total;

        CU(cuMemGetInfo_v2(&left, &total));
        return left;
}

static void expect_free(size_t bytes)
{
        size_t now = free_bytes();

        for (int waited_ms = 0; now + SLACK_BYTES < bytes && waited_ms < SETTLE_MS; waited_ms += 10) {
                usleep(10000);
                now = free_bytes();
        }
        CHECK(now + SLACK_BYTES >= bytes, "%zu bytes are free, %zu were", now, bytes);
}

/* ---- one piece of memory ---- */

static void attributes_agree(void)
{
        const CUmemAllocationProp prop = properties(CU_MEM_HANDLE_TYPE_NONE);
        size_t recommended = 0;
        int supported = 0;

        CU(cuDeviceGetAttribute(&supported, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0));
        CHECK(supported == 1, "no virtual memory management");
        CU(cuDeviceGetAttribute(&supported, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, 0));
        CHECK(supported == 1, "no shareable descriptors");
        CU(cuMemGetAllocationGranularity(&granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
        CU(cuMemGetAllocationGranularity(&recommended, &prop, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED));
        CHECK(granule >= 65536 && recommended % granule == 0, "granularity %zu, recommended %zu", granule, recommended);
        /* What this library does not carry its attributes do not promise. */
        if (getenv("IVGPU_CHANNEL") != NULL) {
                static const CUdevice_attribute absent[] = {
                        CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED, CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED,
                        CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED,
                        CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM};
                CUmemAllocationProp fabric = properties(CU_MEM_HANDLE_TYPE_FABRIC);
                CUmemGenericAllocationHandle handle = 0;
                CUmulticastObjectProp multicast = {.numDevices = 1, .size = granule};

                for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
                        CU(cuDeviceGetAttribute(&supported, absent[i], 0));
                        CHECK(supported == 0, "attribute %d is %d", (int)absent[i], supported);
                }
                CU_EXPECT(CUDA_ERROR_NOT_SUPPORTED, cuMemCreate(&handle, granule, &fabric, 0));
                CU_EXPECT(CUDA_ERROR_NOT_SUPPORTED, cuMulticastCreate(&handle, &multicast));
        }
}

static void one_mapping(void)
{
        const CUmemLocation here = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0};
        const size_t piece = PIECE_GRANULES * granule, before = free_bytes();
        CUmemGenericAllocationHandle handle = create(piece, CU_MEM_HANDLE_TYPE_NONE), again = 0;
        CUmemAllocationProp prop;
        CUdeviceptr address = 0, start = 0;
        unsigned long long access = 0;
        unsigned int type = 0;
        size_t bytes = 0;
        int fd = -1;

        CHECK(before - free_bytes() >= piece, "memory was made and %zu bytes are gone", before - free_bytes());
        CU(cuMemGetAllocationPropertiesFromHandle(&prop, handle));
        CHECK(prop.type == CU_MEM_ALLOCATION_TYPE_PINNED && prop.location.id == 0, "properties of other memory");
        CU(cuMemAddressReserve(&address, 2 * piece, 0, 0, 0));
        CU(cuMemMap(address, piece, 0, handle, 0));
        CU(cuMemGetAccess(&access, &here, address));
        CHECK(access == CU_MEM_ACCESS_FLAGS_PROT_NONE, "access %llu before any was given", access);
        allow(address, piece, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
        CU(cuMemGetAccess(&access, &here, address));
        CHECK(access == CU_MEM_ACCESS_FLAGS_PROT_READWRITE, "access %llu", access);
        CU(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address + 5));
        CHECK(type == CU_MEMORYTYPE_DEVICE, "memory type %u", type);
        CU(cuMemGetAddressRange_v2(&start, &bytes, address + granule + 5));
        CHECK(start == address && bytes >= piece, "0x%llx of %zu bytes", start, bytes);
        CU(cuMemsetD32_v2(address, WORD, piece / 4));
        expect_words(address, piece, WORD, 0);

        /* Released, the memory lives as long as it is mapped, and its handle can be had again. */
        CU(cuMemRelease(handle));
        expect_words(address, piece, WORD, 0);
        CU(cuMemRetainAllocationHandle(&again, (void *)(uintptr_t)(address + 77)));
        CU(cuMemUnmap(address, piece));
        CHECK(before - free_bytes() >= piece, "a handle is held, and the memory is gone");
        CU(cuMemMap(address + piece, piece, 0, again, 0));
        allow(address + piece, piece, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
        expect_words(address + piece, piece, WORD, 0);
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE,
                  cuMemExportToShareableHandle(&fd, again, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
        CU(cuMemRelease(again));
        CU(cuMemUnmap(address + piece, piece));
        CU(cuMemAddressFree(address, 2 * piece));
        expect_free(before);
}

/* ---- a segment that grows, shrinks in the middle and grows again ---- */

static void growing_segment(CUmodule module)
{
        const size_t total = SEGMENTS * granule, before = free_bytes();
        CUmemGenericAllocationHandle handles[SEGMENTS];
        CUdeviceptr base = 0, counts;
        uint8_t *data = malloc(total), *back = malloc(total);

        CHECK(data != NULL && back != NULL, "no memory");
        CU(cuMemAlloc_v2(&counts, 4096));
        CU(cuMemAddressReserve(&base, total, 0, 0, 0));
        for (uint32_t i = 0; i < SEGMENTS; i++) {
                handles[i] = create(granule, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
                CU(cuMemMap(base + i * granule, granule, 0, handles[i], 0));
                allow(base + i * granule, granule, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
        }
        /* Copies and kernels that cross from one piece into the next. */
        test_fill(data, total, 7);
        CU(cuMemcpyHtoD_v2(base, data, total));
        CU(cuMemcpyDtoH_v2(back, base, total));
        CHECK(memcmp(data, back, total) == 0, "a copy over %u pieces differs", SEGMENTS);
        CU(cuMemcpyDtoD_v2(counts, base + granule - 2048, 4096));
        CU(cuMemcpyDtoH_v2(back, counts, 4096));
        CHECK(memcmp(data + granule - 2048, back, 4096) == 0, "a copy across a border differs");
        CU(cuMemsetD32_v2(base, WORD, total / 4));
        number_words(module, base, total, WORD);
        expect_words(base, total, WORD, 1);
        /* The middle third goes back to the device and comes again; its neighbours stay. */
        CU(cuCtxSynchronize());
        CU(cuMemUnmap(base + 4 * granule, 4 * granule));
        for (uint32_t i = 4; i < 8; i++)
                CU(cuMemRelease(handles[i]));
        expect_words(base, 4 * granule, WORD, 1);
        expect_words(base + 8 * granule, 4 * granule, WORD + (uint32_t)(2 * granule), 1);
        for (uint32_t i = 4; i < 8; i++) {
                handles[i] = create(granule, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
                CU(cuMemMap(base + i * granule, granule, 0, handles[i], 0));
        }
        allow(base + 4 * granule, 4 * granule, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
        CU(cuMemsetD32_v2(base + 4 * granule, WORD, granule));
        CU(cuMemsetD32_v2(base, WORD, granule));
        CU(cuMemsetD32_v2(base + 8 * granule, WORD, granule));
        expect_words(base, total, WORD, 0);
        CU(cuMemUnmap(base, total));
        for (uint32_t i = 0; i < SEGMENTS; i++)
                CU(cuMemRelease(handles[i]));
        CU(cuMemAddressFree(base, total));
        CU(cuMemFree_v2(counts));
        CU(cuCtxSynchronize());
        expect_free(before);
        free(data);
        free(back);
}

/* ---- between processes ---- */

static void send_fd(int socket, int fd)
{
        test_send_fd(socket, fd, "", 1);
}

static int receive_fd(int socket)
{
        char byte;

        return test_receive_fd(socket, &byte, 1);
}

static CUdeviceptr import(int fd, size_t bytes)
{
        CUmemGenericAllocationHandle handle = 0;
        CUdeviceptr address;

        CU(cuMemImportFromShareableHandle(&handle, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
        close(fd);
        address = map_anywhere(handle, bytes);
        CU(cuMemRelease(handle));
        return address;
}

/* What both importers do. */
static void import_and_number(int fd, size_t bytes, uint32_t word)
{
        CUdeviceptr address;

        test_context();
        address = import(fd, bytes);
        expect_words(address, bytes, word, 0);
        number_words(test_module(), address, NUMBERED_BYTES, word);
        CU(cuCtxSynchronize());
        unmap(address, bytes);
}

/* Forked before CUDA is used: gets descriptors over the socket, answers when it has used each. */
static void importer(int socket, size_t bytes)
{
        char byte = 2;
        int fd = receive_fd(socket);

        import_and_number(fd, bytes, WORD + 1);
        CHECK(write(socket, &byte, 1) == 1, "write");
        fd = receive_fd(socket); /* the exporter has no handle and no mapping of this any more */
        CHECK(read(socket, &byte, 1) == 1, "read");
        expect_words(import(fd, bytes), bytes, WORD + 5, 0);
        CHECK(write(socket, &byte, 1) == 1, "write");
        exit(0);
}

/* Another program gets the descriptor by inheritance. */
static void share_by_exec(int fd, size_t bytes, uint32_t word)
{
        char fd_text[16], bytes_text[32], word_text[16];
        int status;
        pid_t child;

        snprintf(word_text, sizeof(word_text), "%u", word);
        snprintf(bytes_text, sizeof(bytes_text), "%zu", bytes);
        child = fork();
        CHECK(child >= 0, "fork");
        if (child == 0) {
                const int inherited = dup(fd); /* without close-on-exec, whatever the handle's own is */

                snprintf(fd_text, sizeof(fd_text), "%d", inherited);
                execl("/proc/self/exe", "vmm", "import", fd_text, bytes_text, word_text, (char *)NULL);
                _exit(127);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0, "the importer ended with status 0x%x", status);
}

static void shared(int socket, pid_t child, size_t bytes)
{
        const size_t before = free_bytes();
        CUmemGenericAllocationHandle handle = create(bytes, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR), own = 0;
        CUdeviceptr address = map_anywhere(handle, bytes), twice;
        int fd = -1, other = -1, status;
        char byte;

        CU(cuMemsetD32_v2(address, WORD, bytes / 4));
        CU(cuCtxSynchronize());
        CU(cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
        CU(cuMemExportToShareableHandle(&other, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
        CHECK(fd >= 0 && other >= 0 && fd != other, "descriptors %d and %d", fd, other);
        /* The process itself may import it too, and map it twice. */
        CU(cuMemImportFromShareableHandle(&own, (void *)(intptr_t)other, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
        close(other);
        twice = map_anywhere(own, bytes);
        expect_words(twice, bytes, WORD, 0);
        CU(cuMemsetD32_v2(twice, WORD + 1, bytes / 4));
        CU(cuCtxSynchronize());
        expect_words(address, bytes, WORD + 1, 0);
        unmap(twice, bytes);
        CU(cuMemRelease(own));

        send_fd(socket, fd);
        CHECK(read(socket, &byte, 1) == 1, "the importer is gone");
        expect_words(address, NUMBERED_BYTES, WORD + 1, 1);
        expect_words(address + NUMBERED_BYTES, bytes - NUMBERED_BYTES, WORD + 1, 0);
        CU(cuMemsetD32_v2(address, WORD + 2, bytes / 4));
        CU(cuCtxSynchronize());
        share_by_exec(fd, bytes, WORD + 2);
        expect_words(address, NUMBERED_BYTES, WORD + 2, 1);

        /* What only the descriptor holds lives. */
        CU(cuMemsetD32_v2(address, WORD + 5, bytes / 4));
        CU(cuCtxSynchronize());
        send_fd(socket, fd);
        close(fd);
        unmap(address, bytes);
        CU(cuMemRelease(handle));
        CHECK(write(socket, &byte, 1) == 1, "write");
        CHECK(read(socket, &byte, 1) == 1, "the importer is gone");
        CHECK(waitpid(child, &status, 0) == child && status == 0, "the importer ended with status 0x%x", status);
        /* And goes with it; this program notices when it makes or releases memory next. */
        CU(cuMemRelease(create(granule, CU_MEM_HANDLE_TYPE_NONE)));
        expect_free(before);
}

/* Through us a shareable handle ends with the process that made it, which shall give its memory back when it dies;
 * natively the descriptor would keep it. */
static void dead_exporter(void)
{
        CUmemGenericAllocationHandle handle = 0;
        CUresult result = CUDA_SUCCESS;
        int pair[2], status, fd;
        pid_t child;

        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "socketpair");
        child = fork();
        CHECK(child >= 0, "fork");
        if (child == 0) {
                char fd_text[16];

                snprintf(fd_text, sizeof(fd_text), "%d", dup(pair[1]));
                execl("/proc/self/exe", "vmm", "die", fd_text, (char *)NULL);
                _exit(127);
        }
        close(pair[1]);
        fd = receive_fd(pair[0]);
        CU(cuMemImportFromShareableHandle(&handle, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
        CU(cuMemRelease(handle));
        close(pair[0]); /* it waits for this */
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status), "the exporter ended with 0x%x", status);
        for (int waited_ms = 0; result == CUDA_SUCCESS && waited_ms < SETTLE_MS; waited_ms += 10) {
                usleep(10000);
                result = cuMemImportFromShareableHandle(&handle, (void *)(intptr_t)fd,
                                                        CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
                if (result == CUDA_SUCCESS)
                        CU(cuMemRelease(handle));
        }
        CHECK(result == CUDA_ERROR_INVALID_VALUE, "a dead process's memory was imported: %d", (int)result);
        close(fd);
}

static CUmemGenericAllocationHandle export(int *fd)
{
        CUmemGenericAllocationHandle handle;

        test_context();
        handle = create(SHARED_BYTES, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
        CU(cuMemExportToShareableHandle(fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
        return handle;
}

static int export_and_die(int socket)
{
        char byte;
        int fd = -1;

        (void)export(&fd);
        send_fd(socket, fd);
        (void)!read(socket, &byte, 1);
        raise(SIGKILL);
        return 1;
}

static int export_and_wait(void)
{
        int fd = -1;
        const CUmemGenericAllocationHandle handle = export(&fd);

        printf("/proc/%d/fd/%d\n", (int)getpid(), fd);
        fflush(stdout);
        (void)getchar();
        CU(cuMemRelease(handle));
        return 0;
}

static int stranger(const char *path)
{
        CUmemGenericAllocationHandle handle = 0;
        const int fd = open(path, O_RDONLY | O_CLOEXEC);

        CHECK(fd >= 0, "%s cannot be opened", path);
        test_context();
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemImportFromShareableHandle(&handle, (void *)(intptr_t)fd,
                                                                           CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
        puts("vmm: a stranger's memory is refused");
        return 0;
}

int main(int argc, char **argv)
{
        CUmemGenericAllocationHandle handle = 0;
        int pair[2], not_ours[2];
        pid_t child;

        if (argc > 4 && strcmp(argv[1], "import") == 0) {
                import_and_number(atoi(argv[2]), (size_t)strtoull(argv[3], NULL, 10),
                                  (uint32_t)strtoul(argv[4], NULL, 10));
                return 0;
        }
        if (argc > 1 && strcmp(argv[1], "export") == 0)
                return export_and_wait();
        if (argc > 2 && strcmp(argv[1], "stranger") == 0)
                return stranger(argv[2]);
        if (argc > 2 && strcmp(argv[1], "die") == 0)
                return export_and_die(atoi(argv[2]));
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
        child = fork(); /* before either has called CUDA */
        CHECK(child >= 0, "fork");
        if (child == 0) {
                close(pair[0]);
                importer(pair[1], SHARED_BYTES);
        }
        close(pair[1]);
        test_context();
        attributes_agree();
        one_mapping();
        growing_segment(test_module());
        shared(pair[0], child, SHARED_BYTES);
        if (getenv("IVGPU_CHANNEL") != NULL) {
                dead_exporter();
                /* Natively a descriptor of something else is the driver's to judge. */
                CHECK(pipe(not_ours) == 0, "pipe");
                CU_EXPECT(CUDA_ERROR_INVALID_VALUE,
                          cuMemImportFromShareableHandle(&handle, (void *)(intptr_t)not_ours[0],
                                                         CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
        }
        puts("vmm: ok");
        return 0;
}
