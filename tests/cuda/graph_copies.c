/* Graph nodes that copy: with arrays, and with memory of the program that is not pinned, by hand and captured. */
#include "graph_check.h"
#include <stdbool.h>

#define COUNT 1024u
#define BYTES (COUNT * sizeof(uint32_t))
enum { WIDTH = 64, HEIGHT = 12, DEPTH = 5 }; /* of arrays of words */

static CUcontext context;
static CUstream stream;

static CUdeviceptr device_words(void)
{
        CUdeviceptr memory;
        CU(cuMemAlloc_v2(&memory, BYTES));
        return memory;
}

static uint32_t *host_words(void)
{
        uint32_t *words = malloc(BYTES);
        CHECK(words != NULL, "no memory");
        return words;
}

/* ---- parameters ---- */

static CUDA_MEMCPY3D row_to_device(CUdeviceptr to, const void *from, size_t bytes)
{
        return (CUDA_MEMCPY3D){.srcMemoryType = CU_MEMORYTYPE_HOST,
                               .srcHost = from,
                               .srcPitch = bytes,
                               .srcHeight = 1,
                               .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                               .dstDevice = to,
                               .dstPitch = bytes,
                               .dstHeight = 1,
                               .WidthInBytes = bytes,
                               .Height = 1,
                               .Depth = 1};
}

static CUgraphNode add_copy(CUgraph graph, const CUgraphNode *dependencies, size_t count, const CUDA_MEMCPY3D *copy)
{
        CUgraphNode node;
        CU(cuGraphAddMemcpyNode(&node, graph, dependencies, count, copy, context));
        return node;
}

static CUgraphNode add_set(CUgraph graph, const CUgraphNode *dependencies, size_t count, CUdeviceptr memory,
                           unsigned value)
{
        const CUDA_MEMSET_NODE_PARAMS set = {
                .dst = memory, .value = value, .elementSize = 4, .width = COUNT, .height = 1};
        CUgraphNode node;
        CU(cuGraphAddMemsetNode(&node, graph, dependencies, count, &set, context));
        return node;
}

/* ---- by hand, with pageable memory ---- */

/* What comes before the copy has happened when the program's memory is read, what comes behind it finds it written. */
static void by_hand_in_order(void)
{
        CUdeviceptr a = device_words(), b = device_words();
        uint32_t *first = host_words(), *second = host_words();
        CUgraph graph = test_graph();
        CUgraphExec exec;
        CUDA_MEMCPY3D copy = test_row_to_host(first, a, BYTES), told;
        const CUgraphNode set = add_set(graph, NULL, 0, a, 17);
        const CUgraphNode down = add_copy(graph, &set, 1, &copy);
        CU(cuGraphMemcpyNodeGetParams(down, &told));
        CHECK(told.srcMemoryType == CU_MEMORYTYPE_DEVICE && told.srcDevice == a &&
                      told.dstMemoryType == CU_MEMORYTYPE_HOST && told.dstHost == first && told.WidthInBytes == BYTES,
              "a copy to the program is told as another one");
        copy = row_to_device(b, first, BYTES);
        const CUgraphNode up = add_copy(graph, &down, 1, &copy);
        CU(cuGraphMemcpyNodeGetParams(up, &told));
        CHECK(told.srcMemoryType == CU_MEMORYTYPE_HOST && told.srcHost == first && told.dstDevice == b,
              "a copy from the program is told as another one");
        copy = test_row_to_host(second, b, BYTES);
        CUgraphNode last;
        CU(cuGraphAddEmptyNode(&last, graph, &up, 1)); /* the copy is not the only kind that depends on one */
        CUgraphNode again = add_copy(graph, &last, 1, &copy);
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        for (unsigned round = 0; round < 3; round++) {
                memset(first, 1, BYTES);
                memset(second, 2, BYTES);
                test_graph_launch(exec, stream);
                for (uint32_t i = 0; i < COUNT; i++)
                        CHECK(first[i] == 17 && second[i] == 17, "round %u, word %u: %u, %u", round, i, first[i],
                              second[i]);
        }
        CU(cuGraphExecDestroy(exec));

        /* Another place in the program's memory; then one node less. */
        copy = test_row_to_host(second + COUNT / 2, b, BYTES / 2);
        CU(cuGraphMemcpyNodeSetParams(again, &copy));
        CU(cuGraphMemcpyNodeGetParams(again, &told));
        CHECK(told.dstHost == second + COUNT / 2 && told.WidthInBytes == BYTES / 2, "the change is not told");
        memset(second, 3, BYTES);
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        test_graph_launch(exec, stream);
        CHECK(second[0] == 0x03030303 && second[COUNT / 2] == 17 && second[COUNT - 1] == 17, "%#x, %#x, %#x", second[0],
              second[COUNT / 2], second[COUNT - 1]);
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphDestroyNode(again));
        memset(second, 4, BYTES);
        test_graph_run(graph, stream);
        CHECK(second[COUNT / 2] == 0x04040404, "a node that is destroyed has copied: %#x", second[COUNT / 2]);
        CU(cuMemFree_v2(a));
        CU(cuMemFree_v2(b));
        free(first);
        free(second);
}

/* Edges that are added and removed, a clone whose node gets dependents, the graph gone before its instance. */
static void by_hand_tied(void)
{
        CUdeviceptr a = device_words(), b = device_words();
        uint32_t *in = host_words(), *out = host_words();
        CUgraph graph = test_graph(), clone;
        CUgraphExec exec;
        CUDA_MEMCPY3D copy = test_row_to_host(in, a, BYTES);
        const CUgraphNode set = add_set(graph, NULL, 0, a, 5), down = add_copy(graph, NULL, 0, &copy);
        copy = row_to_device(b, in, BYTES);
        const CUgraphNode up = add_copy(graph, NULL, 0, &copy);
        CU(cuGraphAddDependencies(graph, &down, &up, 1));
        CU(cuGraphAddDependencies(graph, &set, &down, 1));
        CU(cuGraphAddDependencies(graph, &set, &up, 1));
        CU(cuGraphRemoveDependencies(graph, &set, &up, 1));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuGraphRemoveDependencies(graph, &set, &up, 1));
        CU(cuGraphClone(&clone, graph));
        CUgraphNode up_there;
        CU(cuGraphNodeFindInClone(&up_there, up, clone));
        copy = test_row_to_host(out, b, BYTES);
        add_copy(clone, &up_there, 1, &copy);
        CUgraphNode down_there;
        CU(cuGraphNodeFindInClone(&down_there, down, clone));
        add_set(clone, &down_there, 1, a, 6);
        CU(cuGraphInstantiateWithFlags(&exec, clone, 0));
        CU(cuGraphDestroy(graph));
        CU(cuGraphDestroy(clone));
        memset(in, 1, BYTES);
        memset(out, 2, BYTES);
        test_graph_launch(exec, stream);
        for (uint32_t i = 0; i < COUNT; i++)
                CHECK(in[i] == 5 && out[i] == 5, "word %u: %u, %u", i, in[i], out[i]);
        CU(cuMemcpyDtoH_v2(out, a, BYTES));
        CHECK(out[0] == 6 && out[COUNT - 1] == 6, "%u, %u", out[0], out[COUNT - 1]);
        CU(cuGraphExecDestroy(exec));
        CU(cuMemFree_v2(a));
        CU(cuMemFree_v2(b));
        free(in);
        free(out);
}

/* Rows with gaps, slices with gaps, by the call for nodes of every kind; and what it had before, given back. */
static void by_hand_boxes(void)
{
        enum { W = 40, H = 6, D = 3, PITCH = 64, ROWS = 8 };
        static uint8_t in[D][ROWS][PITCH], out[D][ROWS][PITCH];
        CUdeviceptr memory = device_words();
        CUgraph graph = test_graph();
        CUgraphNode nodes[2];
        CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEMCPY};
        params.memcpy.copyCtx = context;
        params.memcpy.copyParams = (CUDA_MEMCPY3D){.srcMemoryType = CU_MEMORYTYPE_HOST,
                                                   .srcHost = in,
                                                   .srcPitch = PITCH,
                                                   .srcHeight = ROWS,
                                                   .srcXInBytes = 4,
                                                   .srcY = 1,
                                                   .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                                                   .dstDevice = memory,
                                                   .dstPitch = W,
                                                   .dstHeight = H,
                                                   .WidthInBytes = W,
                                                   .Height = H,
                                                   .Depth = D};
        CU(cuGraphAddNode(&nodes[0], graph, NULL, 0, &params));
        params.memcpy.copyParams = (CUDA_MEMCPY3D){.srcMemoryType = CU_MEMORYTYPE_DEVICE,
                                                   .srcDevice = memory,
                                                   .srcPitch = W,
                                                   .srcHeight = H,
                                                   .dstMemoryType = CU_MEMORYTYPE_HOST,
                                                   .dstHost = out,
                                                   .dstPitch = PITCH,
                                                   .dstHeight = ROWS,
                                                   .dstXInBytes = 8,
                                                   .dstY = 2,
                                                   .WidthInBytes = W,
                                                   .Height = H,
                                                   .Depth = D};
        CU(cuGraphAddNode(&nodes[1], graph, nodes, 1, &params));
        CUDA_MEMCPY3D told;
        CU(cuGraphMemcpyNodeGetParams(nodes[1], &told));
        CHECK((uint8_t *)told.dstHost + told.dstXInBytes + (told.dstY + told.dstZ * told.dstHeight) * told.dstPitch ==
                              &out[0][2][8] &&
                      told.dstPitch == PITCH && told.dstHeight == ROWS && told.WidthInBytes == W && told.Height == H &&
                      told.Depth == D,
              "a box is told as another one");
        CU(cuGraphMemcpyNodeSetParams(nodes[1], &told));
        test_fill(in, sizeof(in), 4);
        memset(out, 0xee, sizeof(out));
        test_graph_run(graph, stream);
        for (int z = 0; z < D; z++)
                for (int y = 0; y < ROWS; y++)
                        for (int x = 0; x < PITCH; x++) {
                                const bool inside = x >= 8 && x < 8 + W && y >= 2 && y < 2 + H;
                                const uint8_t expected = inside ? in[z][y - 1][x - 4] : 0xee;
                                CHECK(out[z][y][x] == expected, "(%d, %d, %d) is %#x, not %#x", x, y, z, out[z][y][x],
                                      expected);
                        }
        CU(cuMemFree_v2(memory));
}

/* ---- with arrays ---- */

static CUDA_MEMCPY3D box_of(size_t width, size_t height, size_t depth)
{
        return (CUDA_MEMCPY3D){.WidthInBytes = width, .Height = height, .Depth = depth};
}

/* From the program (pageable or pinned) into an array, from there a part into another, from there back. */
static void arrays_by_hand(bool pinned)
{
        const size_t row = WIDTH * 4, bytes = row * HEIGHT * DEPTH;
        const CUarray a = test_array(WIDTH, HEIGHT, DEPTH, CU_AD_FORMAT_UNSIGNED_INT32, 1, 0);
        const CUarray b = test_array(WIDTH, HEIGHT, DEPTH, CU_AD_FORMAT_UNSIGNED_INT32, 1, 0);
        uint32_t(*in)[HEIGHT][WIDTH], (*out)[HEIGHT][WIDTH];
        CUgraph graph = test_graph();
        CUgraphExec exec;
        CUDA_MEMCPY3D copy = box_of(row, HEIGHT, DEPTH), told;
        if (pinned) {
                CU(cuMemHostAlloc((void **)&in, bytes, 0));
                CU(cuMemHostAlloc((void **)&out, bytes, 0));
        } else {
                in = malloc(bytes);
                out = malloc(bytes);
                CHECK(in != NULL && out != NULL, "no memory");
        }
        copy.srcMemoryType = CU_MEMORYTYPE_HOST;
        copy.srcHost = in;
        copy.srcPitch = row;
        copy.srcHeight = HEIGHT;
        copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
        copy.dstArray = a;
        CUgraphNode nodes[4];
        nodes[0] = add_copy(graph, NULL, 0, &copy);
        CU(cuGraphMemcpyNodeGetParams(nodes[0], &told));
        CHECK(told.dstMemoryType == CU_MEMORYTYPE_ARRAY && told.dstArray == a && told.srcHost == in &&
                      told.WidthInBytes == row && told.Height == HEIGHT && told.Depth == DEPTH,
              "a copy to an array is told as another one");
        copy.dstArray = b;
        nodes[1] = add_copy(graph, nodes, 1, &copy);
        /* A box inside, from a to b. */
        copy = box_of(row - 32, HEIGHT - 3, DEPTH - 2);
        copy.srcMemoryType = copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
        copy.srcArray = a;
        copy.srcXInBytes = 16;
        copy.srcY = 1;
        copy.srcZ = 2;
        copy.dstArray = b;
        copy.dstXInBytes = 32;
        copy.dstY = 3;
        nodes[2] = add_copy(graph, nodes + 1, 1, &copy);
        CU(cuGraphMemcpyNodeGetParams(nodes[2], &told));
        CHECK(told.srcMemoryType == CU_MEMORYTYPE_ARRAY && told.srcArray == a && told.srcXInBytes == 16 &&
                      told.srcY == 1 && told.srcZ == 2 && told.dstArray == b && told.dstXInBytes == 32 &&
                      told.dstY == 3 && told.dstZ == 0,
              "a copy between arrays is told as another one");
        CU(cuGraphMemcpyNodeSetParams(nodes[2], &told));
        copy = box_of(row, HEIGHT, DEPTH);
        copy.srcMemoryType = CU_MEMORYTYPE_ARRAY;
        copy.srcArray = b;
        copy.dstMemoryType = CU_MEMORYTYPE_HOST;
        copy.dstHost = out;
        copy.dstPitch = row;
        copy.dstHeight = HEIGHT;
        nodes[3] = add_copy(graph, nodes + 2, 1, &copy);
        copy.Depth = DEPTH + 1; /* more than there is */
        CHECK(cuGraphAddMemcpyNode(&nodes[3], graph, NULL, 0, &copy, context) != CUDA_SUCCESS, "a copy past the array");
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        for (uint64_t round = 0; round < 2; round++) {
                test_fill(in, bytes, round);
                memset(out, 0, bytes);
                test_graph_launch(exec, stream);
                for (int z = 0; z < DEPTH; z++)
                        for (int y = 0; y < HEIGHT; y++)
                                for (int x = 0; x < WIDTH; x++) {
                                        const bool inside = x >= 8 && y >= 3 && z < DEPTH - 2;
                                        const uint32_t expected = inside ? in[z + 2][y - 2][x - 4] : in[z][y][x];
                                        CHECK(out[z][y][x] == expected, "(%d, %d, %d) is %#x, not %#x", x, y, z,
                                              out[z][y][x], expected);
                                }
        }
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphDestroy(graph));
        if (pinned) {
                CU(cuMemFreeHost(in));
                CU(cuMemFreeHost(out));
        } else {
                free(in);
                free(out);
        }
        CU(cuArrayDestroy(a));
        CU(cuArrayDestroy(b));
}

/* Rows by the calls of one dimension, planes by boxes; told by the nodes that the capture made. */
static void arrays_captured(void)
{
        const CUarray line = test_array(COUNT, 0, 0, CU_AD_FORMAT_UNSIGNED_INT32, 1, 0);
        const CUarray plane = test_array(WIDTH, COUNT / WIDTH, 0, CU_AD_FORMAT_UNSIGNED_INT32, 1, 0);
        uint32_t *in = host_words(), *out = host_words();
        CUdeviceptr memory = device_words();
        CUDA_MEMCPY2D box = {.srcMemoryType = CU_MEMORYTYPE_DEVICE,
                             .srcDevice = memory,
                             .srcPitch = WIDTH * 4,
                             .dstMemoryType = CU_MEMORYTYPE_ARRAY,
                             .dstArray = plane,
                             .WidthInBytes = WIDTH * 4,
                             .Height = COUNT / WIDTH};
        CUgraph graph;
        CUgraphExec exec;
        CU(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
        CU(cuMemcpyHtoAAsync_v2(line, 0, in, BYTES, stream));
        CU(cuMemcpyAtoHAsync_v2(out, line, 0, BYTES, stream));
        CU(cuMemcpyHtoDAsync_v2(memory, out, BYTES, stream));
        CU(cuMemcpy2DAsync_v2(&box, stream));
        box = (CUDA_MEMCPY2D){.srcMemoryType = CU_MEMORYTYPE_ARRAY,
                              .srcArray = plane,
                              .dstMemoryType = CU_MEMORYTYPE_HOST,
                              .dstHost = out,
                              .dstPitch = WIDTH * 4,
                              .WidthInBytes = WIDTH * 4,
                              .Height = COUNT / WIDTH};
        CU(cuMemsetD32Async(memory, 0, COUNT, stream));
        CU(cuMemcpyDtoHAsync_v2(out, memory, BYTES, stream)); /* zeros, which the plane takes the place of */
        CU(cuMemcpy2DAsync_v2(&box, stream));
        CU(cuStreamEndCapture(stream, &graph));

        CUgraphNode nodes[32];
        size_t count = 32, with_line = 0, with_plane = 0;
        CU(cuGraphGetNodes(graph, nodes, &count));
        for (size_t i = 0; i < count; i++) {
                CUgraphNodeType type;
                CUDA_MEMCPY3D told;
                CU(cuGraphNodeGetType(nodes[i], &type));
                if (type != CU_GRAPH_NODE_TYPE_MEMCPY)
                        continue;
                CU(cuGraphMemcpyNodeGetParams(nodes[i], &told));
                const bool from = told.srcMemoryType == CU_MEMORYTYPE_ARRAY;
                const bool to = told.dstMemoryType == CU_MEMORYTYPE_ARRAY;
                with_line += (from && told.srcArray == line) || (to && told.dstArray == line);
                with_plane += (from && told.srcArray == plane) || (to && told.dstArray == plane);
        }
        CHECK(with_line == 2 && with_plane == 2, "%zu and %zu copies with the arrays", with_line, with_plane);
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        for (uint64_t round = 0; round < 2; round++) {
                test_fill(in, BYTES, round + 9);
                memset(out, 0, BYTES);
                test_graph_launch(exec, stream);
                CHECK(memcmp(in, out, BYTES) == 0, "round %d: other words", (int)round);
        }
        CU(cuGraphExecDestroy(exec));
        CU(cuGraphDestroy(graph));
        CU(cuArrayDestroy(line));
        CU(cuArrayDestroy(plane));
        CU(cuMemFree_v2(memory));
        free(in);
        free(out);
}

/* ---- captured, with pageable memory ---- */

/* Read and written at each launch, in the graph's order: what comes out of one copy goes into the next. */
static void captured_pageable(void)
{
        uint32_t *in = malloc(BYTES), *between = malloc(BYTES), *out = malloc(BYTES);
        uint8_t *rows = malloc(64 * 100);
        CUdeviceptr first, second;
        CUgraph graph, clone;
        CUgraphExec execs[2];
        CHECK(in != NULL && between != NULL && out != NULL && rows != NULL, "no memory");
        CU(cuMemAlloc_v2(&first, BYTES));
        CU(cuMemAlloc_v2(&second, BYTES));
        memset(in, 1, BYTES);
        memset(between, 2, BYTES);
        const CUDA_MEMCPY2D box = {.srcMemoryType = CU_MEMORYTYPE_DEVICE,
                                   .srcDevice = second,
                                   .srcPitch = 64,
                                   .dstMemoryType = CU_MEMORYTYPE_HOST,
                                   .dstHost = rows,
                                   .dstPitch = 100,
                                   .WidthInBytes = 60,
                                   .Height = 64};
        CU(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
        CU(cuMemcpyHtoDAsync_v2(first, in, BYTES, stream));
        CU(cuMemcpyDtoHAsync_v2(between, first, BYTES, stream));
        CU(cuMemsetD32Async(first, 0, COUNT, stream));
        CU(cuMemcpyHtoDAsync_v2(second, between, BYTES, stream));
        CU(cuMemcpyHtoDAsync_v2(second, in + 1, 4, stream)); /* a few bytes */
        CU(cuMemcpyDtoHAsync_v2(out, second, BYTES, stream));
        CU(cuMemcpy2DAsync_v2(&box, stream));
        CU(cuStreamEndCapture(stream, &graph));
        CHECK(between[0] == 0x02020202, "a captured copy was made");
        CU(cuGraphClone(&clone, graph));
        CU(cuGraphInstantiateWithFlags(&execs[0], graph, 0));
        CU(cuGraphInstantiateWithFlags(&execs[1], clone, 0));
        CU(cuGraphDestroy(graph));
        CU(cuGraphDestroy(clone));
        for (uint32_t round = 0; round < 6; round++) {
                for (uint32_t i = 0; i < COUNT; i++)
                        in[i] = i * 7 + round;
                memset(out, 0, BYTES);
                memset(rows, 0xee, 64 * 100);
                CU(cuGraphLaunch(execs[round % 2], stream));
                CU(cuStreamSynchronize(stream));
                CHECK(memcmp(in, between, BYTES) == 0, "round %u: what came between is another", round);
                CHECK(out[0] == in[1] && memcmp(in + 1, out + 1, BYTES - 4) == 0, "round %u: another result", round);
                for (uint32_t row = 0; row < 64; row++)
                        CHECK(memcmp(rows + row * 100, (uint8_t *)out + row * 64, 60) == 0 &&
                                      rows[row * 100 + 60] == 0xee,
                              "round %u: row %u", round, row);
        }
        for (int i = 0; i < 2; i++)
                CU(cuGraphExecDestroy(execs[i]));

        /* Again and again: what graphs have let go of is used again. */
        const size_t large = 8u << 20;
        uint8_t *bytes = malloc(large), *back = malloc(large);
        CUdeviceptr target;
        CHECK(bytes != NULL && back != NULL, "no memory");
        CU(cuMemAlloc_v2(&target, large));
        for (unsigned round = 0; round < 80; round++) {
                test_fill(bytes, large, round);
                CU(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
                CU(cuMemcpyHtoDAsync_v2(target, bytes, large, stream));
                CU(cuMemcpyDtoHAsync_v2(back, target, large, stream));
                CU(cuStreamEndCapture(stream, &graph));
                test_graph_run(graph, stream);
                CHECK(memcmp(bytes, back, large) == 0, "round %u: other bytes", round);
        }
        CU(cuMemFree_v2(target));
        CU(cuMemFree_v2(first));
        CU(cuMemFree_v2(second));
        free(bytes);
        free(back);
        free(in);
        free(between);
        free(out);
        free(rows);
}

int main(void)
{
        context = test_context();
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        by_hand_in_order();
        by_hand_tied();
        by_hand_boxes();
        arrays_by_hand(true);
        arrays_by_hand(false);
        arrays_captured();
        captured_pageable();
        CU(cuStreamDestroy_v2(stream));
        puts("graph copies: right");
        return 0;
}
