/* Copies in two and three dimensions between host memory, device memory and arrays.
 *
 * A copy is brought to one form first: two sides, each an address with pitches or a place in an array, and a box of
 * rows. Then, as in copy.c: in place when no side is pageable; else in groups of rows that are packed into copy buffers
 * on the way. */
#include "cuda_api.h"
#include "graph.h"
#include "guest_send.h"
#include "memory.h"
#include "paged.h"
#include <string.h>

enum side_kind { SIDE_DEVICE, SIDE_PINNED, SIDE_PAGEABLE, SIDE_ARRAY };
struct side {
        enum side_kind kind;
        ivg_id array;     /* SIDE_ARRAY */
        ivg_id context;   /* of a copy between contexts */
        uint64_t x, y, z; /* of an array: bytes, rows and slices before the box */
        /* of any other */
        uint64_t address;     /* of the box's first byte */
        uint64_t pitch;       /* from row to row */
        uint64_t slice_pitch; /* from slice to slice */
};
struct box {
        struct side to, from;
        uint64_t width, height, depth;
        bool peer; /* between the sides' contexts */
};

/* ---- to one form ---- */

/* One side as the program describes it. */
struct described {
        CUmemorytype type;
        uint64_t host, device;
        CUarray array;
        CUcontext context;             /* of a copy between contexts */
        uint64_t x, y, z, pitch, rows; /* rows: per slice */
};

/* The driver's structures name the members of their two ends alike. */
#define DESCRIBE_2D(p, end)                                                                                    \
        {                                                                                                      \
                .type = (p)->end##MemoryType, .host = (uintptr_t)(p)->end##Host, .device = (p)->end##Device,   \
                .array = (p)->end##Array, .x = (p)->end##XInBytes, .y = (p)->end##Y, .pitch = (p)->end##Pitch, \
        }
#define DESCRIBE_3D(p, end)                                                                                    \
        {                                                                                                      \
                .type = (p)->end##MemoryType, .host = (uintptr_t)(p)->end##Host, .device = (p)->end##Device,   \
                .array = (p)->end##Array, .x = (p)->end##XInBytes, .y = (p)->end##Y, .pitch = (p)->end##Pitch, \
                .z = (p)->end##Z, .rows = (p)->end##Height,                                                    \
        }

static bool add_product(uint64_t *sum, uint64_t a, uint64_t b)
{
        uint64_t product;
        return !__builtin_mul_overflow(a, b, &product) && !__builtin_add_overflow(*sum, product, sum);
}

/* Bytes from the first to behind the last one of the box on this side; false: it wraps. */
static bool side_span(const struct side *side, const struct box *box, uint64_t *bytes)
{
        *bytes = box->width;
        return add_product(bytes, box->height - 1, side->pitch) &&
               add_product(bytes, box->depth - 1, side->slice_pitch);
}

static enum side_kind host_kind(uint64_t address, uint64_t bytes)
{
        uint64_t offset;
        return ivg_pinned_offset((const void *)(uintptr_t)address, bytes, &offset) ? SIDE_PINNED : SIDE_PAGEABLE;
}

static CUresult side_kind_find(const struct described *described, struct side *side, uint64_t span)
{
        struct ivg_memory_range range;
        switch (described->type) {
        case CU_MEMORYTYPE_HOST:
                side->kind = host_kind(side->address, span);
                return CUDA_SUCCESS;
        case CU_MEMORYTYPE_DEVICE:
                side->kind = SIDE_DEVICE;
                return CUDA_SUCCESS;
        case CU_MEMORYTYPE_UNIFIED:
                side->kind = ivg_memory_find(&ivg_memory_of_device, side->address, &range)
                                     ? SIDE_DEVICE
                                     : host_kind(side->address, span);
                return CUDA_SUCCESS;
        default:
                return CUDA_ERROR_INVALID_VALUE;
        }
}

static CUresult side_of_array(const struct described *described, struct side *side)
{
        const struct ivg_object *array = ivg_object_of(IVG_KIND_ARRAY, described->array);
        if (array == NULL)
                return CUDA_ERROR_INVALID_HANDLE;
        side->kind = SIDE_ARRAY;
        side->array = array->id;
        side->x = described->x;
        side->y = described->y;
        side->z = described->z;
        return CUDA_SUCCESS;
}

static CUresult side_resolve(const struct described *described, const struct box *box, struct side *side)
{
        uint64_t row_end, span;
        if (described->type == CU_MEMORYTYPE_ARRAY)
                return side_of_array(described, side);
        const bool one_row = box->height == 1 && box->depth == 1;
        side->pitch = described->pitch == 0 && one_row ? described->x + box->width : described->pitch;
        if (__builtin_add_overflow(described->x, box->width, &row_end) || side->pitch < row_end)
                return CUDA_ERROR_INVALID_VALUE;
        if (box->depth > 1 && (box->height > described->rows || described->y > described->rows - box->height))
                return CUDA_ERROR_INVALID_VALUE;
        if (__builtin_mul_overflow(side->pitch, described->rows, &side->slice_pitch))
                return CUDA_ERROR_INVALID_VALUE;
        side->address = described->type == CU_MEMORYTYPE_HOST ? described->host : described->device;
        if (side->address == 0)
                return CUDA_ERROR_INVALID_VALUE;
        if (!add_product(&side->address, described->x, 1) || !add_product(&side->address, described->y, side->pitch) ||
            !add_product(&side->address, described->z, side->slice_pitch) || !side_span(side, box, &span) ||
            span > UINT64_MAX - side->address)
                return CUDA_ERROR_INVALID_VALUE;
        return side_kind_find(described, side, span);
}

/* ---- in place ---- */

/* Rows of a slice, for a side whose slices are a whole number of rows apart. */
static uint64_t side_rows(const struct side *side, const struct box *box)
{
        return side->slice_pitch != 0 ? side->slice_pitch / side->pitch : box->height;
}

static struct ivg_wire_box_side wire_side(const struct side *side, const struct box *box)
{
        if (side->kind == SIDE_ARRAY)
                return (struct ivg_wire_box_side){.x = side->x, .y = side->y, .z = side->z};
        return (struct ivg_wire_box_side){
                .address = side->address, .pitch = side->pitch, .height = side_rows(side, box)};
}

/* Such a box may be found wrong by the driver only, not here: a synchronous copy waits to answer that. */
static bool by_driver_only(const struct box *box)
{
        return box->peer || box->to.kind == SIDE_ARRAY || box->from.kind == SIDE_ARRAY;
}

static CUresult send_box(const struct ivg_copy *copy, const struct box *box, uint32_t index, uint64_t value)
{
        if (by_driver_only(box)) {
                const struct ivg_wire_box wire = {.to = wire_side(&box->to, box),
                                                  .from = wire_side(&box->from, box),
                                                  .width = box->width,
                                                  .height = box->height,
                                                  .depth = box->depth,
                                                  .peer = box->peer};
                return ivg_send_ivgCopyBox(&wire, box->to.array, box->from.array, box->to.context, box->from.context,
                                           copy->stream, index, value);
        }
        if (box->depth == 1)
                return ivg_send_ivgCopy2D(box->to.address, box->to.pitch, box->from.address, box->from.pitch,
                                          box->width, box->height, copy->stream, index, value);
        /* Each slice's rows are a whole number of pitches apart: side_resolve made slice_pitch so. */
        return ivg_send_ivgCopy3D(box->to.address, box->to.pitch, box->to.slice_pitch / box->to.pitch,
                                  box->from.address, box->from.pitch, box->from.slice_pitch / box->from.pitch,
                                  box->width, box->height, box->depth, copy->stream, index, value);
}

static CUresult copy_box_in_place(const struct ivg_copy *copy, const struct box *box)
{
        const bool wait = copy->synchronous &&
                          (box->to.kind == SIDE_PINNED || box->from.kind == SIDE_PINNED || by_driver_only(box));
        struct ivg_completion *completion = wait && !copy->captured ? ivg_completion_take() : NULL;
        if (completion == NULL) {
                const CUresult result = send_box(copy, box, IVG_COMPLETION_NONE, 0);
                return result != CUDA_SUCCESS || !wait ? result : ivg_send_cuStreamSynchronize(copy->stream);
        }
        const uint64_t value = ivg_completion_begin(completion, copy->stream, copy->context);
        CUresult result = send_box(copy, box, completion->index, value);
        if (result == CUDA_SUCCESS)
                result = ivg_completion_wait(completion);
        ivg_completion_give(completion);
        return result;
}

/* ---- by way of a copy buffer ---- */

static uint8_t *row_address(const struct side *side, uint64_t slice, uint64_t row)
{
        return (uint8_t *)(uintptr_t)(side->address + slice * side->slice_pitch + row * side->pitch);
}

/* A piece of a box: some rows of one slice, or a part of one row. */
struct piece {
        uint64_t column, row, slice, width, rows;
};

static struct side side_at(const struct side *side, const struct piece *piece)
{
        struct side part = *side;
        if (side->kind == SIDE_ARRAY) {
                part.x += piece->column;
                part.y += piece->row;
                part.z += piece->slice;
        } else {
                part.address = (uintptr_t)row_address(side, piece->slice, piece->row) + piece->column;
        }
        return part;
}

/* One piece, packed in a buffer. */
static CUresult stage_piece(const struct ivg_copy *copy, const struct box *box, struct ivg_copy_buffer *buffer,
                            const struct piece *piece)
{
        const bool to_device = box->from.kind == SIDE_PAGEABLE;
        const uint64_t width = piece->width, rows = piece->rows;
        struct box part = {.to = side_at(&box->to, piece),
                           .from = side_at(&box->from, piece),
                           .width = width,
                           .height = rows,
                           .depth = 1,
                           .peer = box->peer};
        struct side *pageable = to_device ? &part.from : &part.to;
        const struct side program = *pageable;
        CUresult result = ivg_completion_wait(&buffer->completion);
        if (result != CUDA_SUCCESS)
                return result;
        for (uint64_t i = 0; to_device && i < rows; i++)
                memcpy(buffer->memory + i * width, row_address(&program, 0, i), width);
        const uint64_t value = ivg_completion_begin(&buffer->completion, copy->stream, copy->context);
        pageable->kind = SIDE_PINNED;
        pageable->address = (uintptr_t)buffer->memory;
        pageable->pitch = width;
        pageable->slice_pitch = 0;
        result = ivg_completion_sent(&buffer->completion, send_box(copy, &part, buffer->completion.index, value));
        if (result != CUDA_SUCCESS || to_device)
                return result;
        result = ivg_completion_wait(&buffer->completion);
        for (uint64_t i = 0; result == CUDA_SUCCESS && i < rows; i++)
                memcpy(row_address(&program, 0, i), buffer->memory + i * width, width);
        return result;
}

/* The next piece of the box that a buffer holds: as many whole rows as fit, or as much of one. False: that was all. */
static bool next_piece(const struct box *box, struct piece *piece)
{
        piece->column += piece->width;
        if (piece->column == box->width) {
                piece->column = 0;
                piece->row += piece->rows;
        }
        if (piece->row == box->height) {
                piece->row = 0;
                piece->slice++;
        }
        const uint64_t columns = box->width - piece->column, group = IVG_COPY_CHUNK_BYTES / box->width;
        const uint64_t rows = box->height - piece->row;
        piece->width = columns < IVG_COPY_CHUNK_BYTES ? columns : IVG_COPY_CHUNK_BYTES;
        piece->rows = group == 0 ? 1 : rows < group ? rows : group;
        return piece->slice < box->depth;
}

/* Two buffers: to the device, one is filled while the other is in DMA. */
static CUresult stage_box(const struct ivg_copy *copy, const struct box *box)
{
        struct ivg_copy_buffer *buffers[2];
        struct piece piece = {0};
        uint32_t may_make = 1;
        CUresult result = ivg_copy_buffer_take(&ivg_copy_buffers_for_dma, copy, &buffers[0]);
        if (result != CUDA_SUCCESS)
                return result;
        buffers[1] = ivg_copy_buffer_try(&ivg_copy_buffers_for_dma, &may_make);
        for (uint32_t turn = 0; result == CUDA_SUCCESS && next_piece(box, &piece); turn++)
                result = stage_piece(copy, box, buffers[1] != NULL ? buffers[turn % 2] : buffers[0], &piece);
        const bool wait = copy->synchronous && (by_driver_only(box) || ivg_upload_waits(copy));
        for (uint32_t i = 0; i < 2 && buffers[i] != NULL && wait; i++) {
                const CUresult waited = ivg_completion_wait(&buffers[i]->completion);
                result = result != CUDA_SUCCESS ? result : waited;
        }
        ivg_copy_buffer_give(buffers[0]);
        if (buffers[1] != NULL)
                ivg_copy_buffer_give(buffers[1]);
        return result;
}

/* Rows longer than a buffer are copies of their own: those overlap more. */
static CUresult copy_rows_singly(const struct ivg_copy *copy, const struct box *box)
{
        CUresult result = CUDA_SUCCESS;
        for (uint64_t slice = 0; slice < box->depth; slice++) {
                for (uint64_t row = 0; row < box->height && result == CUDA_SUCCESS; row++) {
                        uint8_t *to = row_address(&box->to, slice, row), *from = row_address(&box->from, slice, row);
                        result = box->from.kind == SIDE_PAGEABLE
                                         ? ivg_copy_to_device(copy, (uintptr_t)to, from, box->width)
                                         : ivg_copy_from_device(copy, to, (uintptr_t)from, box->width);
                }
        }
        return result;
}

static CUresult copy_box_on_host(const struct ivg_copy *copy, const struct box *box)
{
        const CUresult result = ivg_send_cuStreamSynchronize(copy->stream);
        for (uint64_t slice = 0; result == CUDA_SUCCESS && slice < box->depth; slice++)
                for (uint64_t row = 0; row < box->height; row++)
                        memmove(row_address(&box->to, slice, row), row_address(&box->from, slice, row), box->width);
        return result;
}

static struct ivg_paged_box rows_of(const struct side *side, const struct box *box)
{
        return (struct ivg_paged_box){.address = side->address,
                                      .pitch = side->pitch,
                                      .slice_pitch = side->slice_pitch,
                                      .width = box->width,
                                      .height = box->height,
                                      .depth = box->depth};
}

static struct side packed_side(uint64_t address, const struct box *box)
{
        return (struct side){
                .kind = SIDE_PINNED, .address = address, .pitch = box->width, .slice_pitch = box->width * box->height};
}

/* A capture's: packed rows of the arena take the pageable side's place. */
static CUresult copy_box_paged(const struct ivg_copy *copy, const struct box *box)
{
        const bool to_device = box->from.kind == SIDE_PAGEABLE;
        struct box moved = *box;
        struct side *side = to_device ? &moved.from : &moved.to;
        const struct ivg_paged_box rows = rows_of(side, box);
        struct ivg_paged *paged;
        CUresult result = ivg_paged_begin(copy, &rows, &paged);

        if (result != CUDA_SUCCESS)
                return result;
        *side = packed_side(ivg_paged_address(paged), box);
        if (to_device)
                result = ivg_paged_read(copy, paged);
        if (result == CUDA_SUCCESS)
                result = copy_box_in_place(copy, &moved);
        return result == CUDA_SUCCESS && !to_device ? ivg_paged_write(copy, paged) : result;
}

static CUresult copy_box(const struct ivg_copy *copy, const struct box *box)
{
        const bool on_host = box->to.kind == SIDE_PINNED || box->to.kind == SIDE_PAGEABLE;
        if (on_host && (box->from.kind == SIDE_PINNED || box->from.kind == SIDE_PAGEABLE))
                return copy_box_on_host(copy, box);
        if (box->to.kind != SIDE_PAGEABLE && box->from.kind != SIDE_PAGEABLE)
                return copy_box_in_place(copy, box);
        if (copy->captured)
                return copy_box_paged(copy, box);
        return by_driver_only(box) || box->width <= IVG_COPY_CHUNK_BYTES ? stage_box(copy, box)
                                                                         : copy_rows_singly(copy, box);
}

/* ---- the exported forms ---- */

static CUresult copy_described(const struct described *to, const struct described *from, struct box *box,
                               CUstream stream, ivg_id null_stream, bool synchronous)
{
        struct ivg_copy copy;
        CUresult result = ivg_copy_begin(&copy, stream, null_stream, synchronous);
        if (result != CUDA_SUCCESS)
                return result;
        if (box->width == 0 || box->height == 0 || box->depth == 0)
                return CUDA_SUCCESS;
        result = side_resolve(to, box, &box->to);
        if (result == CUDA_SUCCESS)
                result = side_resolve(from, box, &box->from);
        return result != CUDA_SUCCESS ? result : copy_box(&copy, box);
}

CUresult ivg_copy_2d(const CUDA_MEMCPY2D *p, CUstream stream, ivg_id null_stream, bool synchronous)
{
        if (p == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        const struct described to = DESCRIBE_2D(p, dst), from = DESCRIBE_2D(p, src);
        struct box box = {.width = p->WidthInBytes, .height = p->Height, .depth = 1};
        return copy_described(&to, &from, &box, stream, null_stream, synchronous);
}

static CUresult described_3d(const CUDA_MEMCPY3D *p, struct described *to, struct described *from, struct box *box)
{
        if (p == NULL || p->srcLOD != 0 || p->dstLOD != 0)
                return CUDA_ERROR_INVALID_VALUE;
        *to = (struct described)DESCRIBE_3D(p, dst);
        *from = (struct described)DESCRIBE_3D(p, src);
        *box = (struct box){.width = p->WidthInBytes, .height = p->Height, .depth = p->Depth};
        return CUDA_SUCCESS;
}

/* As the program says, but what it calls the device's may be managed memory, which is the arena's. */
static CUmemorytype node_side_type(const struct described *described, const struct side *side)
{
        uint64_t offset;
        return described->type == CU_MEMORYTYPE_DEVICE &&
                               ivg_arena_offset((const void *)(uintptr_t)side->address, 1, &offset)
                       ? CU_MEMORYTYPE_UNIFIED
                       : described->type;
}

/* Packed rows of the arena are to take the pageable side's place. */
static CUresult node_paged(struct ivg_node *node, struct described *described, struct box *box, bool reads)
{
        struct side *side = reads ? &box->from : &box->to;
        uint64_t bytes;

        if (__builtin_mul_overflow(box->width, box->height, &bytes))
                return CUDA_ERROR_INVALID_VALUE;
        node->paged = reads ? IVG_NODE_READS : IVG_NODE_WRITES;
        node->rows = rows_of(side, box);
        *side = packed_side(0, box);
        described->type = CU_MEMORYTYPE_HOST;
        return CUDA_SUCCESS;
}

CUresult ivg_copy_node(const CUDA_MEMCPY3D *copy, struct ivg_node *graph_node)
{
        struct ivg_wire_graph_node *node = &graph_node->wire;
        struct described to, from;
        struct box box;
        CUresult result = described_3d(copy, &to, &from, &box);

        if (result != CUDA_SUCCESS)
                return result;
        if (box.width == 0 || box.height == 0 || box.depth == 0)
                return CUDA_ERROR_INVALID_VALUE;
        result = side_resolve(&to, &box, &box.to);
        if (result == CUDA_SUCCESS)
                result = side_resolve(&from, &box, &box.from);
        if (result != CUDA_SUCCESS)
                return result;
        if (box.to.kind == SIDE_PAGEABLE && box.from.kind == SIDE_PAGEABLE)
                return ivg_refuse("graph node that copies from pageable to pageable memory");
        if (box.from.kind == SIDE_PAGEABLE)
                result = node_paged(graph_node, &from, &box, true);
        else if (box.to.kind == SIDE_PAGEABLE)
                result = node_paged(graph_node, &to, &box, false);
        if (result != CUDA_SUCCESS)
                return result;
        const bool to_array = box.to.kind == SIDE_ARRAY, from_array = box.from.kind == SIDE_ARRAY;
        node->dst_type = node_side_type(&to, &box.to);
        node->src_type = node_side_type(&from, &box.from);
        node->dst_array = box.to.array;
        node->src_array = box.from.array;
        node->dst = to_array ? box.to.x : box.to.address;
        node->dst_pitch = to_array ? box.to.y : box.to.pitch;
        node->dst_height = to_array ? box.to.z : side_rows(&box.to, &box);
        node->src = from_array ? box.from.x : box.from.address;
        node->src_pitch = from_array ? box.from.y : box.from.pitch;
        node->src_height = from_array ? box.from.z : side_rows(&box.from, &box);
        node->width = box.width;
        node->height = box.height;
        node->depth = box.depth;
        return CUDA_SUCCESS;
}

CUresult ivg_copy_3d(const CUDA_MEMCPY3D *p, CUstream stream, ivg_id null_stream, bool synchronous)
{
        struct described to, from;
        struct box box;
        const CUresult result = described_3d(p, &to, &from, &box);

        return result != CUDA_SUCCESS ? result : copy_described(&to, &from, &box, stream, null_stream, synchronous);
}

/* The context of a side that is an array says nothing, the array has its own. */
static CUresult peer_context(const struct described *described, struct side *side)
{
        const struct ivg_object *context = ivg_object_of(IVG_KIND_CONTEXT, described->context);
        if (context != NULL)
                side->context = context->id;
        return context != NULL || described->type == CU_MEMORYTYPE_ARRAY ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult ivg_copy_3d_peer(const CUDA_MEMCPY3D_PEER *p, CUstream stream, ivg_id null_stream, bool synchronous)
{
        if (p == NULL || p->srcLOD != 0 || p->dstLOD != 0)
                return CUDA_ERROR_INVALID_VALUE;
        struct described to = DESCRIBE_3D(p, dst), from = DESCRIBE_3D(p, src);
        struct box box = {.width = p->WidthInBytes, .height = p->Height, .depth = p->Depth, .peer = true};
        to.context = p->dstContext;
        from.context = p->srcContext;
        CUresult result = peer_context(&to, &box.to);
        if (result == CUDA_SUCCESS)
                result = peer_context(&from, &box.from);
        return result != CUDA_SUCCESS ? result : copy_described(&to, &from, &box, stream, null_stream, synchronous);
}
