/* A graph makes its copies again at each launch. For pageable memory, which the host cannot reach, a copy becomes two
 * nodes: the device's copy from or to arena memory, and a host function of ours, before or behind it, that copies
 * between the program's memory and the arena. Both run when the graph comes to them, so the program's memory is read
 * and written just then, in whatever order the graph keeps. graph_node.c ties those of a node made by hand to its one
 * handle.
 *
 * The arena memory is the graph's: a user object, held by graph, clones and instances, says when all of them and their
 * launches are over. Its destructor runs on the callback thread, which may make no calls (the host may be waiting for
 * it), so it only marks the memory; the next one that needs some gives it back. */
#include "paged.h"
#include "guest_send.h"
#include <stdlib.h>
#include <string.h>

struct ivg_paged {
        struct ivg_paged *next;
        struct ivg_paged_box box;
        uint8_t *memory;
        uint64_t bytes;
        _Atomic(uint32_t) over;
};

static struct {
        pthread_mutex_t lock;
        struct ivg_paged *first;
        _Atomic(uint32_t) over; /* marked and not given back */
} paged_all = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- on the callback thread ---- */

static void rows_copy(const struct ivg_paged *paged, bool to_program)
{
        const struct ivg_paged_box *box = &paged->box;
        uint8_t *packed = paged->memory;

        for (uint64_t slice = 0; slice < box->depth; slice++)
                for (uint64_t row = 0; row < box->height; row++, packed += box->width) {
                        uint8_t *own =
                                (uint8_t *)(uintptr_t)(box->address + slice * box->slice_pitch + row * box->pitch);
                        memcpy(to_program ? own : packed, to_program ? packed : own, box->width);
                }
}

static void read_run(void *data)
{
        rows_copy(data, false);
}

static void write_run(void *data)
{
        rows_copy(data, true);
}

static void nothing_run(void *data)
{
        (void)data;
}

/* Release: what the functions above did to the memory comes before its next use. */
static void over_run(void *data)
{
        ivg_store_release_u32(&((struct ivg_paged *)data)->over, 1);
        atomic_fetch_add_explicit(&paged_all.over, 1, memory_order_release);
}

/* ---- on the program's threads ---- */

static void paged_free(struct ivg_paged *paged)
{
        (void)ivg_pool_give(&ivg_pinned_pool, paged->memory, paged->bytes); /* it logs */
        free(paged);
}

void ivg_paged_sweep(void)
{
        struct ivg_paged *ended = NULL;

        if (ivg_load_acquire_u32(&paged_all.over) == 0)
                return;
        pthread_mutex_lock(&paged_all.lock);
        for (struct ivg_paged **at = &paged_all.first; *at != NULL;) {
                struct ivg_paged *paged = *at;

                if (ivg_load_acquire_u32(&paged->over) == 0) {
                        at = &paged->next;
                        continue;
                }
                *at = paged->next;
                paged->next = ended;
                ended = paged;
                atomic_fetch_sub_explicit(&paged_all.over, 1, memory_order_relaxed);
        }
        pthread_mutex_unlock(&paged_all.lock);
        while (ended != NULL) {
                struct ivg_paged *next = ended->next;

                paged_free(ended);
                ended = next;
        }
}

/* Held by nobody yet. */
static CUresult paged_new(const struct ivg_paged_box *box, struct ivg_paged **out)
{
        struct ivg_paged *paged;
        void *memory = NULL;
        uint64_t bytes;
        CUresult result;

        if (__builtin_mul_overflow(box->width, box->height, &bytes) ||
            __builtin_mul_overflow(bytes, box->depth, &bytes))
                return CUDA_ERROR_INVALID_VALUE;
        ivg_paged_sweep();
        result = ivg_callbacks_require();
        if (result == CUDA_SUCCESS)
                result = ivg_pinned_take(bytes, &memory);
        if (result != CUDA_SUCCESS)
                return result;
        paged = calloc(1, sizeof(*paged));
        if (paged == NULL) {
                (void)ivg_pool_give(&ivg_pinned_pool, memory, bytes);
                return CUDA_ERROR_OUT_OF_MEMORY;
        }
        *paged = (struct ivg_paged){.box = *box, .memory = memory, .bytes = bytes};
        *out = paged;
        return CUDA_SUCCESS;
}

/* Held by `graph`, or by the graph of the stream's capture: over_run() is told when it ends. */
static CUresult paged_hold(struct ivg_paged *paged, ivg_id graph, ivg_id stream)
{
        const CUresult result = ivg_send_ivgGraphUserObject(graph, stream, (uintptr_t)over_run, (uintptr_t)paged);

        if (result != CUDA_SUCCESS) {
                paged_free(paged);
                return result;
        }
        pthread_mutex_lock(&paged_all.lock);
        paged->next = paged_all.first;
        paged_all.first = paged;
        pthread_mutex_unlock(&paged_all.lock);
        return CUDA_SUCCESS;
}

CUresult ivg_paged_begin(const struct ivg_copy *copy, const struct ivg_paged_box *box, struct ivg_paged **paged)
{
        CUresult result;

        if (copy->synchronous) { /* waits for a stream that captures: the driver says what becomes of that */
                result = ivg_send_cuStreamSynchronize(copy->stream);
                return result != CUDA_SUCCESS ? result : CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
        result = paged_new(box, paged);
        return result == CUDA_SUCCESS ? paged_hold(*paged, IVG_ID_NONE, copy->stream) : result;
}

CUresult ivg_paged_of_graph(ivg_id graph, const struct ivg_paged_box *box, struct ivg_paged **paged)
{
        const CUresult result = paged_new(box, paged);

        return result == CUDA_SUCCESS ? paged_hold(*paged, graph, IVG_ID_STREAM_LEGACY) : result;
}

bool ivg_paged_find(uint64_t address, struct ivg_paged_box *box)
{
        bool found = false;

        pthread_mutex_lock(&paged_all.lock);
        for (const struct ivg_paged *at = paged_all.first; at != NULL && !found; at = at->next) {
                found = (uintptr_t)at->memory == address;
                if (found)
                        *box = at->box;
        }
        pthread_mutex_unlock(&paged_all.lock);
        return found;
}

uint64_t ivg_paged_address(const struct ivg_paged *paged)
{
        return (uintptr_t)paged->memory;
}

static CUresult add_function(const struct ivg_copy *copy, struct ivg_paged *paged, CUhostFn function)
{
        return ivg_send_ivgHostFunction(copy->stream, IVG_CALLBACK_HOST_FUNCTION, (uintptr_t)function, (uintptr_t)paged,
                                        0);
}

CUresult ivg_paged_read(const struct ivg_copy *copy, struct ivg_paged *paged)
{
        return add_function(copy, paged, read_run);
}

void ivg_paged_node(struct ivg_paged *paged, bool to_program, struct ivg_wire_graph_node *wire)
{
        const CUhostFn function = paged == NULL ? nothing_run : to_program ? write_run : read_run;

        *wire = (struct ivg_wire_graph_node){
                .type = CU_GRAPH_NODE_TYPE_HOST, .host_function = (uintptr_t)function, .host_data = (uintptr_t)paged};
}

CUresult ivg_paged_write(const struct ivg_copy *copy, struct ivg_paged *paged)
{
        return add_function(copy, paged, write_run);
}
