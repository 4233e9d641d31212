/* Records of every call against the executor itself: header check, generated decoder, look-ups, ranges, hand-written
 * bodies, and a driver that looks at every address it is given. No thread takes part: what a lane or the reaper would
 * run is run here, so that an input always does the same.
 *
 * Input: records, each u16 call number, u16 bytes, payload (struct ivg_call_header first; bytes 0 there: as many as
 * there are). A new executor for each input, with an object of each kind that is opaque to the executor
 * (FUZZ_ID(kind)), one allocation and two arena extents of its own. */
#include "exec_fixture.h"
#include "fuzz.h"
#include "rcu.h"
#include <sys/eventfd.h>

/* The consumer's own check of a record's header, which is private to its file. */
void *ivg_consumer_main_of_fuzz(void *argument);
#define ivg_consumer_main ivg_consumer_main_of_fuzz
#include "../../hostexec/exec/consumer.c"
#undef ivg_consumer_main

#define FUZZ_ID(kind) (IVG_ID_FIRST + 32u + (uint32_t)(kind))
#define OWN_EXTENTS 2u
#define RECORDS_MAX 64u
#define ALLOCATION_BYTES_MAX (1u << 20)
#define COPIED_BYTES_MAX 4096u /* of one copy: its ends matter, not its length */

static struct exec_fixture f;
static struct ivg_driver pristine; /* functions that the target takes from the tests' driver */

/* ---- RCU, as of one thread: liburcu's own waits some milliseconds for each grace period (linked with --wrap) ---- */

void __wrap_urcu_memb_call_rcu(struct rcu_head *head, void (*run)(struct rcu_head *head));
void __wrap_urcu_memb_barrier(void);
void __wrap_urcu_memb_synchronize_rcu(void);

static struct rcu_later {
        struct rcu_head *head;
        void (*run)(struct rcu_head *head);
} * rcu_later;
static size_t rcu_later_count, rcu_later_room;

void __wrap_urcu_memb_call_rcu(struct rcu_head *head, void (*run)(struct rcu_head *head))
{
        if (rcu_later_count == rcu_later_room) {
                rcu_later_room = rcu_later_room ? 2 * rcu_later_room : 64;
                rcu_later = realloc(rcu_later, rcu_later_room * sizeof(*rcu_later));
                MUST(rcu_later, "memory");
        }
        rcu_later[rcu_later_count++] = (struct rcu_later){head, run};
}

void __wrap_urcu_memb_barrier(void)
{
        for (size_t i = 0; i < rcu_later_count; i++)
                rcu_later[i].run(rcu_later[i].head);
        rcu_later_count = 0;
}

void __wrap_urcu_memb_synchronize_rcu(void)
{
}

/* ---- the driver ---- */

static bool lies_in(uint64_t address, uint64_t bytes, uint64_t start, uint64_t length)
{
        return address >= start && address - start <= length && bytes <= length - (address - start);
}

/* The driver would follow this address: it must be memory that the guest has, and not this process's own. */
static void must_be_the_guests(uint64_t address, uint64_t bytes, const char *what)
{
        const uint64_t arena = ivg_load_relaxed_u64(&f.exec->arena);
        CUdeviceptr start;
        size_t length;

        if (bytes == 0)
                return;
        if (arena && lies_in(address, bytes, arena, OWN_EXTENTS * (uint64_t)IVG_EXTENT_BYTES))
                return;
        if (lies_in(address, bytes, (uintptr_t)f.exec->completions, IVG_COMPLETION_WORDS * 8u))
                return;
        if (pristine.cuMemGetAddressRange_v2(&start, &length, address) == CUDA_SUCCESS &&
            lies_in(address, bytes, start, length))
                return;
        fprintf(stderr, "%s reached the driver with [%#llx, +%llu)\n", what, (unsigned long long)address,
                (unsigned long long)bytes);
        abort();
}

static void must_be_rows(uint64_t address, uint64_t pitch, unsigned __int128 row, uint64_t rows, const char *what)
{
        const unsigned __int128 bytes = rows == 0 || row == 0 ? 0 : (unsigned __int128)pitch * (rows - 1) + row;

        MUST(bytes <= UINT64_MAX, "%s: more bytes than there are", what);
        must_be_the_guests(address, (uint64_t)bytes, what);
}

static CUresult refuse_all(void)
{
        return CUDA_ERROR_UNKNOWN;
}

/* For functions whose first parameter is the place of a new handle. */
static CUresult make_handle(void **handle)
{
        static uintptr_t last = 0x700000;

        *handle = (void *)++last;
        return CUDA_SUCCESS;
}

static CUresult allocate(CUdeviceptr *address, size_t bytes)
{
        if (bytes == 0)
                return CUDA_ERROR_INVALID_VALUE;
        return bytes <= ALLOCATION_BYTES_MAX ? pristine.cuMemAlloc_v2(address, bytes) : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult copy_to_device(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
        static uint8_t seen[COPIED_BYTES_MAX];

        (void)stream;
        must_be_the_guests(to, bytes, "HtoD");
        memcpy(seen, from, bytes < sizeof(seen) ? bytes : sizeof(seen)); /* the sanitizer looks */
        return CUDA_SUCCESS;
}

static CUresult copy_to_host(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
        (void)stream;
        must_be_the_guests(from, bytes, "DtoH, from");
        must_be_the_guests((uintptr_t)to, bytes, "DtoH, to");
        return CUDA_SUCCESS;
}

static CUresult copy_on_device(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
        (void)stream;
        must_be_the_guests(from, bytes, "DtoD, from");
        must_be_the_guests(to, bytes, "DtoD, to");
        return CUDA_SUCCESS;
}

static CUresult copy_to_peer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                             size_t bytes, CUstream stream)
{
        (void)to_context, (void)from_context;
        return copy_on_device(to, from, bytes, stream);
}

static CUresult set_8(CUdeviceptr to, unsigned char value, size_t count, CUstream stream)
{
        (void)value, (void)stream;
        must_be_rows(to, 0, count, 1, "set of bytes");
        return CUDA_SUCCESS;
}

static CUresult set_16(CUdeviceptr to, unsigned short value, size_t count, CUstream stream)
{
        (void)value, (void)stream;
        must_be_rows(to, 0, (unsigned __int128)count * 2, 1, "set of halves");
        return CUDA_SUCCESS;
}

static CUresult set_32(CUdeviceptr to, unsigned int value, size_t count, CUstream stream)
{
        (void)value, (void)stream;
        must_be_rows(to, 0, (unsigned __int128)count * 4, 1, "set of words");
        return CUDA_SUCCESS;
}

static CUresult set_rows_8(CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t rows,
                           CUstream stream)
{
        (void)value, (void)stream;
        must_be_rows(to, pitch, width, rows, "set of rows of bytes");
        return CUDA_SUCCESS;
}

static CUresult set_rows_16(CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t rows,
                            CUstream stream)
{
        (void)value, (void)stream;
        must_be_rows(to, pitch, (unsigned __int128)width * 2, rows, "set of rows of halves");
        return CUDA_SUCCESS;
}

static CUresult set_rows_32(CUdeviceptr to, size_t pitch, unsigned int value, size_t width, size_t rows,
                            CUstream stream)
{
        (void)value, (void)stream;
        must_be_rows(to, pitch, (unsigned __int128)width * 4, rows, "set of rows of words");
        return CUDA_SUCCESS;
}

static CUresult value_32(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned int flags)
{
        (void)stream, (void)value, (void)flags;
        must_be_the_guests(address, 4, "a value of 32 bits");
        return CUDA_SUCCESS;
}

static CUresult value_64(CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned int flags)
{
        (void)stream, (void)value, (void)flags;
        must_be_the_guests(address, 8, "a value of 64 bits");
        return CUDA_SUCCESS;
}

static void put_maker(CUresult (*function)(void **), void *place)
{
        memcpy(place, &function, sizeof(function));
}

static void fill_driver(struct ivg_driver *driver)
{
        CUresult (*const refuse_it)(void) = refuse_all;
        const struct ivg_driver *const fakes = &pristine;
        uint8_t *const words = (uint8_t *)driver;

        fake_driver_fill(&pristine);
        for (size_t at = offsetof(struct ivg_driver, library) + sizeof(void *); at < sizeof(*driver);
             at += sizeof(void *)) {
                void *known;

                memcpy(&known, (const uint8_t *)fakes + at, sizeof(known));
                if (known)
                        memcpy(words + at, &known, sizeof(known));
                else
                        memcpy(words + at, &refuse_it, sizeof(refuse_it));
        }
        driver->cuMemAlloc_v2 = allocate;
        driver->cuMemcpyHtoDAsync_v2 = copy_to_device;
        driver->cuMemcpyDtoHAsync_v2 = copy_to_host;
        driver->cuMemcpyDtoDAsync_v2 = copy_on_device;
        driver->cuMemcpyPeerAsync = copy_to_peer;
        driver->cuMemsetD8Async = set_8;
        driver->cuMemsetD16Async = set_16;
        driver->cuMemsetD32Async = set_32;
        driver->cuMemsetD2D8Async = set_rows_8;
        driver->cuMemsetD2D16Async = set_rows_16;
        driver->cuMemsetD2D32Async = set_rows_32;
        driver->cuStreamWriteValue32_v2 = driver->cuStreamWaitValue32_v2 = value_32;
        driver->cuStreamWriteValue64_v2 = driver->cuStreamWaitValue64_v2 = value_64;
        put_maker(make_handle, &driver->cuEventCreate);
        put_maker(make_handle, &driver->cuGraphCreate);
        put_maker(make_handle, &driver->cuModuleLoadDataEx);
        put_maker(make_handle, &driver->cuModuleGetFunction);
        put_maker(make_handle, &driver->cuLibraryLoadData);
        put_maker(make_handle, &driver->cuLibraryGetKernel);
        put_maker(make_handle, &driver->cuMemPoolCreate);
        put_maker(make_handle, &driver->cuArrayCreate_v2);
        put_maker(make_handle, &driver->cuUserObjectCreate);
}

/* ---- the executor ---- */

static void must_work(int rc, const struct ivg_error *error)
{
        MUST(rc == 0, "%d: %s", rc, error->text);
}

static void make_region(void)
{
        const struct ivg_region_config config = {.region_bytes = FIXTURE_REGION_BYTES,
                                                 .channel_count = 2,
                                                 .vector_count = 4,
                                                 .vm_name = "fuzz",
                                                 .call_table_fingerprint = IVG_CALL_TABLE_FINGERPRINT};
        struct ivg_error error = {.text = ""};
        struct ivg_guest_pages *pages;

        ivg_log_set_fd(-1); /* nobody reads it */
        urcu_memb_register_thread();
        f.doorbell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        f.interrupt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        must_work(ivg_region_create(&config, &f.memfd, &error), &error);
        must_work(ivg_region_check_fd(f.memfd, IVG_CALL_TABLE_FINGERPRINT, &f.guest_region, &error), &error);
        must_work(ivg_region_map(&f.guest_region, f.memfd, IVG_SIDE_GUEST, FIXTURE_CHANNEL, &error), &error);
        pages = ivg_region_guest_pages(&f.guest_region);
        for (uint32_t i = 0; i < f.guest_region.extent_count; i++) /* its own, then another's, then nobody's */
                ivg_store_relaxed_u32(&pages->extent_owner[i], i < OWN_EXTENTS    ? FIXTURE_CHANNEL + 1
                                                               : i == OWN_EXTENTS ? FIXTURE_CHANNEL
                                                                                  : 0);
}

/* As consumer.c does with a record that it has taken, but all on this thread. */
static void run_record(uint16_t number, const uint8_t *payload, uint32_t payload_bytes)
{
        struct ivg_exec_request request;
        const struct ivg_taken_record record = {
                .opcode = number, .slots = 1, .payload_bytes = payload_bytes, .payload = payload};

        if (accept_record(f.exec, &record, &request))
                ivg_exec_run(f.exec, &request);
}

static void run_own(uint16_t number, void *request, uint32_t bytes)
{
        const struct ivg_call_header header = {.sequence_low = 1,
                                               .context = FIXTURE_CONTEXT,
                                               .bytes = (uint16_t)bytes,
                                               .flags = IVG_CALL_WANTS_ANSWER};

        memcpy(request, &header, sizeof(header));
        run_record(number, request, bytes);
}

static void put_objects(void)
{
        static const enum ivg_kind opaque[] = {
                IVG_KIND_STREAM,  IVG_KIND_EVENT,   IVG_KIND_MODULE,      IVG_KIND_FUNCTION, IVG_KIND_LIBRARY,
                IVG_KIND_KERNEL,  IVG_KIND_GRAPH,   IVG_KIND_GRAPH_NODE,  IVG_KIND_ARRAY,    IVG_KIND_GRAPH_EXEC,
                IVG_KIND_MIPMAP,  IVG_KIND_TEXTURE, IVG_KIND_MEMORY_POOL, IVG_KIND_SURFACE,  IVG_KIND_GREEN_CONTEXT,
                IVG_KIND_SURFREF, IVG_KIND_TEXREF};
        struct ivg_exec_call put = {.exec = f.exec, .context = FIXTURE_CONTEXT};

        for (size_t i = 0; i < sizeof(opaque) / sizeof(opaque[0]); i++)
                MUST(ivg_handle_put(&put, opaque[i], FUZZ_ID(opaque[i]), (void *)(uintptr_t)(0x900000 + opaque[i])),
                     "kind %d", opaque[i]);
}

static void begin(void)
{
        const struct ivg_exec_config config = {.region_fd = f.memfd,
                                               .ipc_fd = -1,
                                               .images_fd = -1,
                                               .share_fd = -1,
                                               .board_fd = -1,
                                               .kick_fd = -1,
                                               .doorbell_fd = f.doorbell_fd,
                                               .interrupt_fd = f.interrupt_fd,
                                               .channel = FIXTURE_CHANNEL,
                                               .generation = FIXTURE_GENERATION};
        struct ivg_request_ivgHello hello = {.pid = 77};
        struct ivg_request_cuDevicePrimaryCtxRetain retain = {.dev = 0, .pctx = FIXTURE_CONTEXT};
        struct ivg_request_cuMemAlloc_v2 memory = {.bytesize = 4096};
        struct ivg_error error = {.text = ""};

        must_work(ivg_exec_create(&config, &f.exec, &error), &error);
        fill_driver(&f.exec->driver);
        must_work(ivg_consumer_open(&f.exec->consumer, ivg_region_ring_guest(&f.exec->region, FIXTURE_CHANNEL),
                                    ivg_region_ring_host(&f.exec->region, FIXTURE_CHANNEL), FIXTURE_GENERATION, 0),
                  &error);
        for (uint32_t attempt = 0; attempt < IVG_WINDOW_ATTEMPTS_MAX && !ivg_load_relaxed_u64(&f.exec->arena);
             attempt++) {
                hello.window = (uintptr_t)ivg_region_window_candidate(&f.guest_region, attempt);
                run_own(IVG_CALL_ivgHello, &hello, sizeof(hello));
        }
        MUST(ivg_load_relaxed_u64(&f.exec->arena), "no window");
        run_own(IVG_CALL_cuDevicePrimaryCtxRetain, &retain, sizeof(retain));
        run_own(IVG_CALL_cuMemAlloc_v2, &memory, sizeof(memory));
        put_objects();
        MUST(!ivg_load_relaxed_u32(&f.exec->fault), "the beginning broke a rule: %u", f.exec->fault);
}

/* What the guest has left allocated in the driver. */
static void free_blocks(void)
{
        CUdeviceptr start;
        size_t length;

        while (fake_any_block(&start, &length))
                (void)pristine.cuMemFree_v2(start);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct fuzz_input input = {data, size};

        if (!f.memfd)
                make_region();
        begin();
        for (uint32_t i = 0; i < RECORDS_MAX && input.left >= 4 && may_go_on(f.exec); i++) {
                const uint16_t number = (uint16_t)fuzz_take_number(&input, 2);
                const uint32_t bytes = (uint32_t)fuzz_take_number(&input, 2) % (IVG_RECORD_PAYLOAD_BYTES_MAX + 1);
                struct ivg_call_header header = {0};
                /* Memory that ends with the record, so that the sanitizer sees a read too far. */
                uint8_t *const payload = malloc(bytes < sizeof(header) ? sizeof(header) : bytes);

                MUST(payload, "memory");
                memset(payload, 0, sizeof(header));
                fuzz_take(&input, payload, bytes);
                memcpy(&header, payload, sizeof(header));
                if (header.bytes == 0)
                        header.bytes = (uint16_t)bytes;
                memcpy(payload, &header, sizeof(header));
                run_record(number, payload, bytes < sizeof(header) ? sizeof(header) : bytes);
                free(payload);
        }
        ivg_exec_close_contexts(f.exec);
        ivg_exec_destroy(f.exec);
        f.exec = NULL;
        free_blocks();
        return 0;
}
