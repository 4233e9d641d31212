/* An executor in this process, with a driver of the test's own, and the test playing the guest over a real region.
 *
 * The guest side is mapped apart, as a guest process would map it; records are written by hand or through the ring. */
#ifndef EXEC_FIXTURE_H
#define EXEC_FIXTURE_H

#include "exec_internal.h"
#include "ivgpu/ring.h"
#include <semaphore.h>

/* What the driver of these tests does, and what it has seen. Kernels are FAKE_KERNEL + n. */
#define FAKE_KERNEL_OK 1u
#define FAKE_KERNEL_FAILS 2u  /* its launch answers CUDA_ERROR_INVALID_VALUE */
#define FAKE_KERNEL_STICKY 3u /* its launch makes the context answer CUDA_ERROR_ILLEGAL_ADDRESS from then on */

struct fake_driver {
        _Atomic(uint32_t) launches;
        _Atomic(uint32_t) frees_begun, frees;
        _Atomic(uint32_t) contexts_set;
        _Atomic(uint32_t) streams_made, streams_destroyed;
        _Atomic(uint32_t) registered, unregistered;
        _Atomic(uint32_t) sticky;         /* CUresult of the context */
        _Atomic(uint32_t) stream_in_sync; /* threads inside cuStreamSynchronize */
        _Atomic(uint32_t) sync_blocks;    /* cuStreamSynchronize waits for `release` */
        _Atomic(uint32_t) free_blocks;    /* cuMemFree waits for `release` */
        _Atomic(uint32_t) words_held;     /* cuStreamWriteValue64 writes nothing */
        _Atomic(uint64_t) memory_limit;   /* bytes in use at most */
        _Atomic(uint64_t) memory_used;
        _Atomic(uintptr_t) last_stream;
        sem_t release;
};
extern struct fake_driver fake;
/* Fills in what this driver has; the rest stays NULL. */
void fake_driver_fill(struct ivg_driver *driver);
/* Some block that nobody has freed. False: there is none. */
bool fake_any_block(CUdeviceptr *start, size_t *bytes);

struct exec_fixture {
        struct ivg_exec *exec;
        struct ivg_region guest_region;
        int memfd, doorbell_fd, interrupt_fd;
        uint8_t *arena; /* the executor's window, same address: this process plays both, so it is mapped once */
        struct ivg_ring ring;
        struct ivg_producer producer;
};

#define FIXTURE_GENERATION 3u
#define FIXTURE_CHANNEL 1u
#define FIXTURE_REGION_BYTES (64ull << 20)
#define FIXTURE_CONTEXT (IVG_ID_FIRST + 0u)
#define FIXTURE_STREAM (IVG_ID_FIRST + 1u)
#define FIXTURE_KERNEL(n) (IVG_ID_FIRST + 16u + (n))

/* Creates and starts all; greets; makes context FIXTURE_CONTEXT, stream and kernels known. Asserts on failure. */
int fixture_setup(void **state);
/* The same with a driver that can do more, told before the executor starts. */
int fixture_setup_driver(void **state, void (*fill_more)(struct ivg_driver *driver));
int fixture_teardown(void **state);
/* Another guest thread. */
void fixture_open_producer(struct exec_fixture *f, struct ivg_producer *producer);
void fixture_own_extents(struct exec_fixture *f, uint32_t first, uint32_t count, uint32_t channel);

/* A request's header for call `number`; `wants` an answer or not. */
struct ivg_call_header fixture_header(struct ivg_producer *producer, uint32_t bytes, bool wants);
/* Sends a request as it stands and rings when told. */
void fixture_send(struct exec_fixture *f, struct ivg_producer *producer, uint16_t number, const void *request,
                  uint32_t bytes);
/* Waits (bounded) for the answer to the producer's last request; copies up to `bytes` of it. */
CUresult fixture_answer(struct exec_fixture *f, struct ivg_producer *producer, void *answer, uint32_t bytes);
bool fixture_answered(struct exec_fixture *f, struct ivg_producer *producer);
/* Fills header, sends, waits. `request` begins with its header. */
CUresult fixture_call(struct exec_fixture *f, struct ivg_producer *producer, uint16_t number, void *request,
                      uint32_t bytes, void *answer, uint32_t answer_bytes);
void fixture_async(struct exec_fixture *f, struct ivg_producer *producer, uint16_t number, void *request,
                   uint32_t bytes);
/* Everything sent before has been taken by the consumer: a round trip without side effects. */
void fixture_settle(struct exec_fixture *f, struct ivg_producer *producer);
/* Waits (bounded) until the ring is closed by `fault`; false when it is closed by another or not at all. */
bool fixture_faulted(struct exec_fixture *f, enum ivg_ring_fault fault);
/* Waits (bounded) until *word is `value`. */
bool fixture_reaches(_Atomic(uint32_t) *word, uint32_t value);

/* Shorthands. */
CUresult fixture_alloc(struct exec_fixture *f, struct ivg_producer *producer, uint64_t bytes, uint64_t *address);
void fixture_free_async(struct exec_fixture *f, struct ivg_producer *producer, uint64_t address);
void fixture_launch(struct exec_fixture *f, struct ivg_producer *producer, uint32_t kernel, ivg_id stream);
CUresult fixture_synchronize(struct exec_fixture *f, struct ivg_producer *producer);

#endif
