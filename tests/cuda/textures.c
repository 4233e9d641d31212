/* Texture and surface objects: what kernels read through them is what the CUDA programming guide says, computed here on
 * the CPU; what kernels write through surfaces is there. Sizes are powers of two and coordinates multiples of 1/256 of
 * a texel, where the hardware's weights are exact. */
#include "check.h"
#include <math.h>
#include <stdbool.h>

PTX_FILE(textures_ptx, IVG_TEXTURES_PTX);

enum { WIDTH = 16, HEIGHT = 8, DEPTH = 4, POINTS = 192 };

static CUmodule module;
static float image[DEPTH][HEIGHT][WIDTH][4];

/* ---- the model ---- */

struct sampling {
        CUaddress_mode mode;
        bool linear, normalized;
        /* An H200 takes a one-dimensional array for an image of one row, and blends it by half with the border's colour
         * where the second address mode says so. */
        bool one_row;
        float border[4];
};

/* Index of a texel, -1 for the border. */
static int place(const struct sampling *s, int i, int size)
{
        if (i >= 0 && i < size)
                return i;
        if (s->mode == CU_TR_ADDRESS_MODE_BORDER)
                return -1;
        if (s->mode == CU_TR_ADDRESS_MODE_WRAP)
                return (i % size + size) % size;
        if (s->mode == CU_TR_ADDRESS_MODE_MIRROR) {
                i = (i % (2 * size) + 2 * size) % (2 * size);
                return i < size ? i : 2 * size - 1 - i;
        }
        return i < 0 ? 0 : size - 1;
}

static float texel(const struct sampling *s, const int at[3], int dimensions, const int sizes[3], int channel)
{
        int p[3] = {0, 0, 0};
        for (int d = 0; d < dimensions; d++) {
                p[d] = place(s, at[d], sizes[d]);
                if (p[d] < 0)
                        return s->border[channel];
        }
        return image[p[2]][p[1]][p[0]][channel];
}

/* `at` in texels; `spread`: how far the texels that were blended lie apart. */
static float model(const struct sampling *s, const float at[3], int dimensions, const int sizes[3], int channel,
                   float *spread)
{
        double sum = 0, low = INFINITY, high = -INFINITY;
        int base[3] = {0, 0, 0};
        double weight[3] = {0, 0, 0};
        for (int d = 0; d < dimensions; d++) {
                const double x = s->linear ? at[d] - 0.5 : at[d];
                base[d] = (int)floor(x);
                weight[d] = s->linear ? x - floor(x) : 0;
        }
        for (int corner = 0; corner < 1 << dimensions; corner++) {
                double share = 1;
                int index[3] = {0, 0, 0};
                for (int d = 0; d < dimensions; d++) {
                        index[d] = base[d] + (corner >> d & 1);
                        share *= corner >> d & 1 ? weight[d] : 1 - weight[d];
                }
                if (share > 0) {
                        const double one = (double)texel(s, index, dimensions, sizes, channel);
                        sum += share * one;
                        low = fmin(low, one);
                        high = fmax(high, one);
                }
        }
        *spread = (float)(high - low);
        return (float)sum;
}

/* ---- the device ---- */

/* Runs a fetching kernel over POINTS coordinates. */
static void fetch(const char *kernel, CUtexObject texture, const float at[POINTS][4], void *out)
{
        CUdeviceptr points, results;
        int count = POINTS;
        void *parameters[] = {&texture, &points, &results, &count};
        CU(cuMemAlloc_v2(&points, POINTS * 16));
        CU(cuMemAlloc_v2(&results, POINTS * 16));
        CU(cuMemcpyHtoD_v2(points, at, POINTS * 16));
        CU(cuLaunchKernel(test_function(module, kernel), (POINTS + 63) / 64, 1, 1, 64, 1, 1, 0, NULL, parameters,
                          NULL));
        CU(cuMemcpyDtoH_v2(out, results, POINTS * 16));
        CU(cuMemFree_v2(points));
        CU(cuMemFree_v2(results));
}

/* All of an array, row by row, from or to packed memory of the program. */
static void move_array(CUarray array, void *memory, size_t row_bytes, size_t rows, size_t slices, bool upload)
{
        CUDA_MEMCPY3D copy = {.WidthInBytes = row_bytes, .Height = rows, .Depth = slices};
        copy.srcMemoryType = upload ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_ARRAY;
        copy.dstMemoryType = upload ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_HOST;
        copy.srcHost = copy.dstHost = memory;
        copy.srcArray = copy.dstArray = array;
        copy.srcPitch = copy.dstPitch = row_bytes;
        copy.srcHeight = copy.dstHeight = rows;
        CU(cuMemcpy3D_v2(&copy));
}

static CUDA_RESOURCE_DESC of_array(CUarray array)
{
        return (CUDA_RESOURCE_DESC){.resType = CU_RESOURCE_TYPE_ARRAY, .res.array.hArray = array};
}

static CUtexObject texture_of(const CUDA_RESOURCE_DESC *resource, const struct sampling *s, unsigned flags)
{
        const CUaddress_mode others = s->one_row ? CU_TR_ADDRESS_MODE_CLAMP : s->mode;
        CUtexObject texture;
        CUDA_TEXTURE_DESC sampling = {.addressMode = {s->mode, others, others},
                                      .filterMode = s->linear ? CU_TR_FILTER_MODE_LINEAR : CU_TR_FILTER_MODE_POINT,
                                      .flags = flags | (s->normalized ? CU_TRSF_NORMALIZED_COORDINATES : 0)};
        memcpy(sampling.borderColor, s->border, sizeof(sampling.borderColor));
        CU(cuTexObjectCreate(&texture, resource, &sampling, NULL));
        return texture;
}

/* Coordinates in texels, inside and outside; never on a border between texels, where rounding would decide. */
static void choose(float at[POINTS][4], int reach, uint64_t seed)
{
        uint64_t state = seed * 2 + 1;
        for (int i = 0; i < POINTS; i++)
                for (int d = 0; d < 4; d++)
                        at[i][d] = (float)((int)(test_random(&state) >> 33) % (3 * reach) - reach) +
                                   (float)(2 + (test_random(&state) >> 33) % 253) / 256.0f;
}

/* ---- comparing ---- */

/* What a point's filter may look at: `filtered` dimensions of `dimensions`; the others are at a texel's centre. */
struct place {
        float at[3];
        int filtered, dimensions, sizes[3];
};

/* Near an edge the programming guide leaves open how a filter mixes: it gives the formula inside, and says for outside
 * which texel a coordinate comes to, not which both neighbours do (an H200 mixes otherwise than the model there). Fixed
 * is that nothing comes out but a mixture of the texels around and, with a border, of its colour or zero. On the soft
 * GPU, which follows the model, every point must be the model's. */
static struct {
        bool follows_model;
        int points, otherwise[4]; /* by address mode */
} edges;

static bool near_an_edge(const struct sampling *s, const struct place *p)
{
        bool near = false;

        for (int d = 0; d < p->filtered; d++)
                near = near || p->at[d] < 1.5f || p->at[d] > (float)p->sizes[d] - 1.5f;
        return s->linear && near;
}

static void expect_mixture(const char *what, const struct sampling *s, const struct place *p, int channel, float value)
{
        float low = INFINITY, high = -INFINITY;

        for (int corner = 0; corner < 1 << 2 * p->filtered; corner++) {
                int index[3];
                for (int d = 0; d < 3; d++)
                        index[d] = d < p->filtered ? (int)floorf(p->at[d] - 0.5f) - 1 + (corner >> 2 * d & 3)
                                                   : (int)floorf(p->at[d]);
                const float one = texel(s, index, p->dimensions, p->sizes, channel);
                low = fminf(low, one);
                high = fmaxf(high, one);
        }
        if (s->mode == CU_TR_ADDRESS_MODE_BORDER) {
                low = fminf(low, 0);
                high = fmaxf(high, s->border[channel]);
        }
        CHECK(value >= low - 1e-3f * (1 + fabsf(low)) && value <= high + 1e-3f * (1 + fabsf(high)),
              "%s, mode %d, normalized %d: (%g, %g, %g)[%d] is %g, around there are %g to %g", what, (int)s->mode,
              s->normalized, (double)p->at[0], (double)p->at[1], (double)p->at[2], channel, (double)value, (double)low,
              (double)high);
}

static void compare_value(const char *what, const struct sampling *s, const struct place *p, int channel, float value)
{
        float spread;
        const float expected = model(s, p->at, p->dimensions, p->sizes, channel, &spread);
        /* Hardware rounds each texel's weight, a product of several, to 8 bits; the weights' errors cancel out. */
        const float rounding =
                s->linear && p->filtered > 1 && !edges.follows_model ? spread * (float)(1 << p->filtered) / 1024 : 0;
        const bool right = fabsf(value - expected) <= 1e-3f * (1 + fabsf(expected)) + rounding;

        if (near_an_edge(s, p) && !edges.follows_model) {
                expect_mixture(what, s, p, channel, value);
                edges.points++;
                edges.otherwise[s->mode] += !right;
                return;
        }
        CHECK(right, "%s, mode %d, linear %d, normalized %d: (%g, %g, %g)[%d] is %g, not %g", what, (int)s->mode,
              s->linear, s->normalized, (double)p->at[0], (double)p->at[1], (double)p->at[2], channel, (double)value,
              (double)expected);
}

static void compare(const char *what, const struct sampling *s, const float at[POINTS][4], const float out[POINTS][4],
                    int dimensions, const int sizes[3], int channels)
{
        for (int i = 0; i < POINTS; i++) {
                const struct place p = {.at = {at[i][0], at[i][1], at[i][2]},
                                        .filtered = dimensions,
                                        .dimensions = dimensions,
                                        .sizes = {sizes[0], sizes[1], sizes[2]}};
                for (int c = 0; c < channels; c++)
                        compare_value(what, s, &p, c, out[i][c]);
        }
}

static void tell_of_edges(void)
{
        if (edges.points > 0)
                printf("textures: of %d values near an edge, mixed otherwise than by the model: %d wrapped, %d "
                       "clamped, "
                       "%d mirrored, %d with a border\n",
                       edges.points, edges.otherwise[CU_TR_ADDRESS_MODE_WRAP],
                       edges.otherwise[CU_TR_ADDRESS_MODE_CLAMP], edges.otherwise[CU_TR_ADDRESS_MODE_MIRROR],
                       edges.otherwise[CU_TR_ADDRESS_MODE_BORDER]);
}

/* ---- fetches ---- */

static void filters_and_address_modes(void)
{
        static const char *const kernels[] = {"fetch_1d", "fetch_2d", "fetch_3d"};
        static float at[POINTS][4], scaled[POINTS][4], out[POINTS][4];
        const int sizes[3] = {WIDTH, HEIGHT, DEPTH};
        for (int dimensions = 1; dimensions <= 3; dimensions++) {
                const CUarray array = test_array(WIDTH, dimensions > 1 ? HEIGHT : 0, dimensions > 2 ? DEPTH : 0,
                                                 CU_AD_FORMAT_FLOAT, 4, 0);
                const CUDA_RESOURCE_DESC resource = of_array(array);
                move_array(array, image, WIDTH * 16, dimensions > 1 ? HEIGHT : 1, dimensions > 2 ? DEPTH : 1, true);
                for (int kind = 0; kind < 16; kind++) {
                        const struct sampling s = {.mode = (CUaddress_mode)(kind & 3),
                                                   .linear = kind >> 2 & 1,
                                                   .normalized = kind >> 3 & 1,
                                                   .one_row = dimensions == 1,
                                                   .border = {100, 200, 300, 400}};
                        if (!s.normalized && (s.mode == CU_TR_ADDRESS_MODE_WRAP || s.mode == CU_TR_ADDRESS_MODE_MIRROR))
                                continue; /* needs normalized coordinates */
                        const CUtexObject texture = texture_of(&resource, &s, 0);
                        choose(at, WIDTH, (uint64_t)(kind + 100 * dimensions));
                        for (int i = 0; i < POINTS; i++)
                                for (int d = 0; d < 3; d++)
                                        scaled[i][d] = s.normalized ? at[i][d] / (float)sizes[d] : at[i][d];
                        fetch(kernels[dimensions - 1], texture, scaled, out);
                        compare(kernels[dimensions - 1], &s, at, out, dimensions, sizes, 4);
                        CU(cuTexObjectDestroy(texture));
                }
                CU(cuArrayDestroy(array));
        }
}

static void layers(void)
{
        static float at[POINTS][4], out[POINTS][4];
        const struct sampling s = {.mode = CU_TR_ADDRESS_MODE_CLAMP, .linear = true};
        for (int dimensions = 1; dimensions <= 2; dimensions++) {
                const CUarray array = test_array(WIDTH, dimensions > 1 ? HEIGHT : 0, DEPTH, CU_AD_FORMAT_FLOAT, 4,
                                                 CUDA_ARRAY3D_LAYERED);
                const CUDA_RESOURCE_DESC resource = of_array(array);
                const CUtexObject texture = texture_of(&resource, &s, 0);
                static float packed[DEPTH][WIDTH][4];
                for (int z = 0; z < DEPTH; z++)
                        memcpy(packed[z], image[z][0], sizeof(packed[z]));
                move_array(array, dimensions > 1 ? (void *)image : (void *)packed, WIDTH * 16,
                           dimensions > 1 ? HEIGHT : 1, DEPTH, true);
                choose(at, WIDTH, (uint64_t)dimensions);
                for (int i = 0; i < POINTS; i++)
                        at[i][3] = (float)(i % DEPTH);
                fetch(dimensions > 1 ? "fetch_2d_layered" : "fetch_1d_layered", texture, at, out);
                for (int i = 0; i < POINTS; i++) {
                        /* A layer is an image of its own: nothing is blended across. */
                        const struct place p = {.at = {at[i][0], dimensions > 1 ? at[i][1] : 0.5f, at[i][3] + 0.5f},
                                                .filtered = dimensions,
                                                .dimensions = 3,
                                                .sizes = {WIDTH, dimensions > 1 ? HEIGHT : 1, DEPTH}};
                        for (int c = 0; c < 4; c++)
                                compare_value("a layer", &s, &p, c, out[i][c]);
                }
                CU(cuTexObjectDestroy(texture));
                CU(cuArrayDestroy(array));
        }
}

/* Bytes as fractions, signed shorts as fractions and as integers, halves. */
static void formats(void)
{
        static float at[POINTS][4], out[POINTS][4];
        static int integers[POINTS][4];
        static uint8_t bytes[HEIGHT][WIDTH][4];
        static int16_t shorts[HEIGHT][WIDTH][2];
        static uint16_t halves[HEIGHT][WIDTH];
        const struct sampling s = {.mode = CU_TR_ADDRESS_MODE_CLAMP};
        for (int i = 0; i < POINTS; i++) {
                at[i][0] = (float)(i % WIDTH) + 0.5f;
                at[i][1] = (float)(i / WIDTH % HEIGHT) + 0.5f;
        }
        test_fill(bytes, sizeof(bytes), 5);
        test_fill(shorts, sizeof(shorts), 6);
        shorts[0][0][0] = INT16_MIN;
        for (int i = 0; i < WIDTH * HEIGHT; i++) /* 1, 1 1/64, 1 1/32 ... times a power of two */
                halves[i / WIDTH][i % WIDTH] = (uint16_t)((10 + i % 8) << 10 | (i * 16 & 0x3ff));

        const CUarray of_bytes = test_array(WIDTH, HEIGHT, 0, CU_AD_FORMAT_UNSIGNED_INT8, 4, 0);
        const CUarray of_shorts = test_array(WIDTH, HEIGHT, 0, CU_AD_FORMAT_SIGNED_INT16, 2, 0);
        const CUarray of_halves = test_array(WIDTH, HEIGHT, 0, CU_AD_FORMAT_HALF, 1, 0);
        const CUDA_RESOURCE_DESC resources[3] = {of_array(of_bytes), of_array(of_shorts), of_array(of_halves)};
        move_array(of_bytes, bytes, WIDTH * 4, HEIGHT, 1, true);
        move_array(of_shorts, shorts, WIDTH * 4, HEIGHT, 1, true);
        move_array(of_halves, halves, WIDTH * 2, HEIGHT, 1, true);
        CUtexObject textures[4] = {texture_of(&resources[0], &s, 0), texture_of(&resources[1], &s, 0),
                                   texture_of(&resources[2], &s, 0),
                                   texture_of(&resources[1], &s, CU_TRSF_READ_AS_INTEGER)};

        fetch("fetch_2d", textures[0], at, out);
        for (int i = 0; i < POINTS; i++)
                for (int c = 0; c < 4; c++)
                        CHECK(fabsf(out[i][c] - (float)bytes[i / WIDTH % HEIGHT][i % WIDTH][c] / 255.0f) < 1e-6f,
                              "byte %d[%d] is %g", i, c, (double)out[i][c]);
        fetch("fetch_2d", textures[1], at, out);
        for (int i = 0; i < POINTS; i++)
                for (int c = 0; c < 2; c++) {
                        const float expected = (float)shorts[i / WIDTH % HEIGHT][i % WIDTH][c] / 32767.0f;
                        CHECK(fabsf(out[i][c] - (expected < -1 ? -1 : expected)) < 1e-6f, "short %d[%d] is %g, not %g",
                              i, c, (double)out[i][c], (double)expected);
                }
        fetch("fetch_2d", textures[2], at, out);
        for (int i = 0; i < POINTS; i++) {
                const uint16_t half = halves[i / WIDTH % HEIGHT][i % WIDTH];
                const float expected = ldexpf(1.0f + (float)(half & 0x3ff) / 1024.0f, (half >> 10) - 15);
                CHECK(fabsf(out[i][0] - expected) < 1e-6f, "half %d is %g, not %g", i, (double)out[i][0],
                      (double)expected);
        }
        fetch("fetch_integers", textures[3], at, integers);
        for (int i = 0; i < POINTS; i++)
                for (int c = 0; c < 2; c++)
                        CHECK(integers[i][c] == shorts[i / WIDTH % HEIGHT][i % WIDTH][c], "integer %d[%d] is %d", i, c,
                              integers[i][c]);
        for (int i = 0; i < 4; i++)
                CU(cuTexObjectDestroy(textures[i]));
        CU(cuArrayDestroy(of_bytes));
        CU(cuArrayDestroy(of_shorts));
        CU(cuArrayDestroy(of_halves));
}

/* Memory of the program: one dimension by whole numbers, two with a pitch. */
static void memory_as_texture(void)
{
        static float at[POINTS][4], out[POINTS][4];
        const int sizes[3] = {WIDTH, HEIGHT, 1};
        const struct sampling point = {.mode = CU_TR_ADDRESS_MODE_CLAMP};
        const struct sampling linear = {.mode = CU_TR_ADDRESS_MODE_CLAMP, .linear = true};
        CUDA_RESOURCE_DESC resource = {.resType = CU_RESOURCE_TYPE_LINEAR};
        CUdeviceptr memory, pitched;
        size_t pitch;

        CU(cuMemAlloc_v2(&memory, WIDTH * 16));
        CU(cuMemcpyHtoD_v2(memory, image, WIDTH * 16));
        resource.res.linear.devPtr = memory;
        resource.res.linear.format = CU_AD_FORMAT_FLOAT;
        resource.res.linear.numChannels = 4;
        resource.res.linear.sizeInBytes = WIDTH * 16;
        CUtexObject texture = texture_of(&resource, &point, 0);
        for (int i = 0; i < POINTS; i++)
                at[i][0] = (float)(i - WIDTH);
        fetch("fetch_linear", texture, at, out);
        for (int i = 0; i < POINTS; i++)
                for (int c = 0; c < 4; c++) {
                        const bool inside = i >= WIDTH && i < 2 * WIDTH;
                        const float expected = inside ? image[0][0][i - WIDTH][c] : 0.0f;
                        CHECK(out[i][c] == expected, "element %d[%d] of linear memory is %g, not %g", i - WIDTH, c,
                              (double)out[i][c], (double)expected);
                }
        CU(cuTexObjectDestroy(texture));
        CU(cuMemFree_v2(memory));

        CU(cuMemAllocPitch_v2(&pitched, &pitch, WIDTH * 16, HEIGHT, 16));
        const CUDA_MEMCPY2D copy = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                                    .srcHost = image,
                                    .srcPitch = WIDTH * 16,
                                    .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                                    .dstDevice = pitched,
                                    .dstPitch = pitch,
                                    .WidthInBytes = WIDTH * 16,
                                    .Height = HEIGHT};
        CU(cuMemcpy2D_v2(&copy));
        resource = (CUDA_RESOURCE_DESC){.resType = CU_RESOURCE_TYPE_PITCH2D};
        resource.res.pitch2D.devPtr = pitched;
        resource.res.pitch2D.format = CU_AD_FORMAT_FLOAT;
        resource.res.pitch2D.numChannels = 4;
        resource.res.pitch2D.width = WIDTH;
        resource.res.pitch2D.height = HEIGHT;
        resource.res.pitch2D.pitchInBytes = pitch;
        texture = texture_of(&resource, &linear, 0);
        choose(at, WIDTH, 77);
        fetch("fetch_2d", texture, at, out);
        compare("pitched memory", &linear, at, out, 2, sizes, 4);

        CUDA_RESOURCE_DESC back;
        CU(cuTexObjectGetResourceDesc(&back, texture));
        CHECK(back.resType == CU_RESOURCE_TYPE_PITCH2D && back.res.pitch2D.devPtr == pitched &&
                      back.res.pitch2D.width == WIDTH && back.res.pitch2D.height == HEIGHT &&
                      back.res.pitch2D.pitchInBytes == pitch && back.res.pitch2D.numChannels == 4,
              "the resource came back as another one");
        CU(cuTexObjectDestroy(texture));
        CU(cuMemFree_v2(pitched));
}

/* Level l of the mipmapped array is 10 l everywhere. */
static void levels(void)
{
        static float at[POINTS][4], out[POINTS][4];
        const CUDA_ARRAY3D_DESCRIPTOR descriptor = {
                .Width = WIDTH, .Height = HEIGHT, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 4};
        CUmipmappedArray mipmap;
        CU(cuMipmappedArrayCreate(&mipmap, &descriptor, 4));
        for (unsigned l = 0; l < 4; l++) {
                static float same[HEIGHT * WIDTH * 4];
                CUarray level, again;
                CUDA_ARRAY3D_DESCRIPTOR of_level;
                for (int i = 0; i < HEIGHT * WIDTH * 4; i++)
                        same[i] = 10.0f * (float)l;
                CU(cuMipmappedArrayGetLevel(&level, mipmap, l));
                CU(cuMipmappedArrayGetLevel(&again, mipmap, l));
                CHECK(level == again, "a level is two arrays");
                CU(cuArray3DGetDescriptor_v2(&of_level, level));
                CHECK(of_level.Width == (size_t)WIDTH >> l && of_level.Height == (size_t)HEIGHT >> l,
                      "level %u is %zu x %zu", l, of_level.Width, of_level.Height);
                move_array(level, same, (WIDTH >> l) * 16, HEIGHT >> l, 1, true);
        }
        const CUDA_RESOURCE_DESC resource = {.resType = CU_RESOURCE_TYPE_MIPMAPPED_ARRAY,
                                             .res.mipmap.hMipmappedArray = mipmap};
        CUDA_TEXTURE_DESC sampling = {.addressMode = {CU_TR_ADDRESS_MODE_WRAP, CU_TR_ADDRESS_MODE_WRAP},
                                      .filterMode = CU_TR_FILTER_MODE_LINEAR,
                                      .flags = CU_TRSF_NORMALIZED_COORDINATES,
                                      .mipmapFilterMode = CU_TR_FILTER_MODE_LINEAR,
                                      .mipmapLevelBias = 0.5f,
                                      .minMipmapLevelClamp = 0,
                                      .maxMipmapLevelClamp = 2};
        CUtexObject texture;
        CU(cuTexObjectCreate(&texture, &resource, &sampling, NULL));
        for (int i = 0; i < POINTS; i++) {
                at[i][0] = (float)(i % 32) / 32.0f;
                at[i][1] = (float)(i % 8) / 8.0f;
                at[i][3] = (float)(i % 24 - 4) / 8.0f;
        }
        fetch("fetch_level", texture, at, out);
        for (int i = 0; i < POINTS; i++) {
                const float level = fminf(fmaxf(at[i][3] + 0.5f, 0), 2);
                CHECK(fabsf(out[i][0] - 10 * level) < 0.02f, "level %g is %g", (double)at[i][3], (double)out[i][0]);
        }
        CUDA_RESOURCE_VIEW_DESC view = {.format = CU_RES_VIEW_FORMAT_FLOAT_4X32,
                                        .width = WIDTH,
                                        .height = HEIGHT,
                                        .firstMipmapLevel = 1,
                                        .lastMipmapLevel = 2};
        CUDA_RESOURCE_VIEW_DESC viewed;
        CUDA_TEXTURE_DESC sampled;
        CUDA_RESOURCE_DESC back;
        /* None was given: an error by NVIDIA's documents, though an H200's driver answers. */
        const CUresult none = cuTexObjectGetResourceViewDesc(&viewed, texture);
        CHECK(none == CUDA_ERROR_INVALID_VALUE || (none == CUDA_SUCCESS && !edges.follows_model), "answered %d",
              (int)none);
        CU(cuTexObjectDestroy(texture));

        sampling.mipmapFilterMode = CU_TR_FILTER_MODE_POINT;
        sampling.mipmapLevelBias = 0;
        sampling.maxMipmapLevelClamp = 10;
        CU(cuTexObjectCreate(&texture, &resource, &sampling, &view));
        CU(cuTexObjectGetResourceViewDesc(&viewed, texture));
        CHECK(viewed.format == view.format && viewed.width == WIDTH && viewed.firstMipmapLevel == 1 &&
                      viewed.lastMipmapLevel == 2,
              "the view came back as another one");
        CU(cuTexObjectGetTextureDesc(&sampled, texture));
        CHECK(sampled.filterMode == CU_TR_FILTER_MODE_LINEAR && sampled.flags == CU_TRSF_NORMALIZED_COORDINATES &&
                      sampled.addressMode[1] == CU_TR_ADDRESS_MODE_WRAP,
              "the sampling came back as another one");
        CU(cuTexObjectGetResourceDesc(&back, texture));
        CHECK(back.resType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY && back.res.mipmap.hMipmappedArray == mipmap,
              "the mipmapped array came back as another one");
        for (int i = 0; i < POINTS; i++)
                at[i][3] = i % 2 ? 0.75f : 0.25f; /* of the view's levels, which are 1 and 2 */
        fetch("fetch_level", texture, at, out);
        for (int i = 0; i < POINTS; i++)
                CHECK(out[i][0] == (i % 2 ? 20.0f : 10.0f), "through a view, level %g is %g", (double)at[i][3],
                      (double)out[i][0]);
        CU(cuTexObjectDestroy(texture));
        CU(cuMipmappedArrayDestroy(mipmap));
}

static void gathering(void)
{
        static float at[POINTS][4], out[POINTS][4];
        const CUarray array = test_array(WIDTH, HEIGHT, 0, CU_AD_FORMAT_FLOAT, 4, CUDA_ARRAY3D_TEXTURE_GATHER);
        const struct sampling s = {.mode = CU_TR_ADDRESS_MODE_CLAMP};
        const CUDA_RESOURCE_DESC resource = of_array(array);
        const CUtexObject texture = texture_of(&resource, &s, 0);
        move_array(array, image, WIDTH * 16, HEIGHT, 1, true);
        for (int i = 0; i < POINTS; i++) { /* the middle of four texels */
                at[i][0] = (float)(1 + i % (WIDTH - 1));
                at[i][1] = (float)(1 + i % (HEIGHT - 1));
        }
        fetch("gather_second", texture, at, out);
        for (int i = 0; i < POINTS; i++) {
                const int x = (int)at[i][0], y = (int)at[i][1];
                CHECK(out[i][0] == image[0][y][x - 1][1] && out[i][1] == image[0][y][x][1] &&
                              out[i][2] == image[0][y - 1][x][1] && out[i][3] == image[0][y - 1][x - 1][1],
                      "the four around (%d, %d) are others", x, y);
        }
        CU(cuTexObjectDestroy(texture));
        CU(cuArrayDestroy(array));
}

/* ---- surfaces ---- */

static CUsurfObject surface_of(CUarray array)
{
        const CUDA_RESOURCE_DESC resource = of_array(array);
        CUDA_RESOURCE_DESC back;
        CUsurfObject surface;
        CU(cuSurfObjectCreate(&surface, &resource));
        CU(cuSurfObjectGetResourceDesc(&back, surface));
        CHECK(back.resType == CU_RESOURCE_TYPE_ARRAY && back.res.array.hArray == array, "another array came back");
        return surface;
}

static void surfaces(void)
{
        static int values[HEIGHT][WIDTH], after[HEIGHT][WIDTH];
        int width = WIDTH, height = HEIGHT, outside[6], sizes[4];
        CUdeviceptr out;
        const CUarray array = test_array(WIDTH, HEIGHT, 0, CU_AD_FORMAT_SIGNED_INT32, 1, CUDA_ARRAY3D_SURFACE_LDST);
        CUsurfObject surface = surface_of(array);
        const CUDA_RESOURCE_DESC resource = of_array(array);
        const struct sampling s = {.mode = CU_TR_ADDRESS_MODE_CLAMP};
        CUtexObject texture = texture_of(&resource, &s, CU_TRSF_READ_AS_INTEGER);
        test_fill(values, sizeof(values), 9);
        for (int i = 0; i < WIDTH * HEIGHT; i++)
                values[i / WIDTH][i % WIDTH] &= 0xffffff;
        move_array(array, values, WIDTH * 4, HEIGHT, 1, true);
        void *parameters[] = {&surface, &width, &height};
        CU(cuLaunchKernel(test_function(module, "surface_2d"), 1, HEIGHT, 1, WIDTH, 1, 1, 0, NULL, parameters, NULL));
        move_array(array, after, WIDTH * 4, HEIGHT, 1, false);
        for (int y = 0; y < HEIGHT; y++)
                for (int x = 0; x < WIDTH; x++)
                        CHECK(after[y][x] == 2 * values[y][x] + 1000 * y + x, "(%d, %d) is %d after %d", x, y,
                              after[y][x], values[y][x]);

        CU(cuMemAlloc_v2(&out, sizeof(outside)));
        void *more[] = {&surface, &width, &height, &out};
        CU(cuLaunchKernel(test_function(module, "surface_outside"), 1, 1, 1, 1, 1, 1, 0, NULL, more, NULL));
        CU(cuMemcpyDtoH_v2(outside, out, sizeof(outside)));
        const int expected[6] = {0, 0, 0, after[1][0], after[1][WIDTH - 1], after[HEIGHT - 1][2]};
        for (int i = 0; i < 6; i++)
                CHECK(outside[i] == expected[i], "outside %d is %d, not %d", i, outside[i], expected[i]);
        move_array(array, values, WIDTH * 4, HEIGHT, 1, false);
        CHECK(memcmp(values, after, sizeof(values)) == 0, "a write outside went inside");

        void *asked[] = {&texture, &surface, &out};
        CU(cuLaunchKernel(test_function(module, "query"), 1, 1, 1, 1, 1, 1, 0, NULL, asked, NULL));
        CU(cuMemcpyDtoH_v2(sizes, out, sizeof(sizes)));
        CHECK(sizes[0] == WIDTH && sizes[1] == HEIGHT && sizes[2] == WIDTH && sizes[3] == HEIGHT,
              "the kernel finds %d x %d and %d x %d", sizes[0], sizes[1], sizes[2], sizes[3]);
        CU(cuMemFree_v2(out));
        CU(cuTexObjectDestroy(texture));
        CU(cuSurfObjectDestroy(surface));
        CU(cuArrayDestroy(array));
}

static void surfaces_of_all_kinds(void)
{
        int width = WIDTH;
        uint8_t bytes[WIDTH][4], bytes_after[WIDTH][4];
        int16_t shorts[WIDTH][2], shorts_after[WIDTH][2];
        static float deep[3][2][WIDTH][2];
        static long long layered[3][2][WIDTH];
        const unsigned flag = CUDA_ARRAY3D_SURFACE_LDST;
        const CUarray arrays[4] = {
                test_array(WIDTH, 0, 0, CU_AD_FORMAT_UNSIGNED_INT8, 4, flag),
                test_array(WIDTH, 1, 0, CU_AD_FORMAT_SIGNED_INT16, 2, flag),
                test_array(WIDTH, 2, 3, CU_AD_FORMAT_FLOAT, 2, flag),
                test_array(WIDTH, 2, 3, CU_AD_FORMAT_UNSIGNED_INT32, 2, flag | CUDA_ARRAY3D_LAYERED)};
        CUsurfObject surface[4];
        void *parameters[] = {&surface[0], &surface[1], &surface[2], &surface[3], &width};
        for (int i = 0; i < 4; i++)
                surface[i] = surface_of(arrays[i]);
        test_fill(bytes, sizeof(bytes), 1);
        test_fill(shorts, sizeof(shorts), 2);
        CU(cuMemcpyHtoA_v2(arrays[0], 0, bytes, sizeof(bytes)));
        move_array(arrays[1], shorts, sizeof(shorts), 1, 1, true);
        CU(cuLaunchKernel(test_function(module, "surface_kinds"), 1, 1, 1, WIDTH, 1, 1, 0, NULL, parameters, NULL));
        CU(cuMemcpyAtoH_v2(bytes_after, arrays[0], 0, sizeof(bytes_after)));
        move_array(arrays[1], shorts_after, sizeof(shorts), 1, 1, false);
        move_array(arrays[2], deep, WIDTH * 8, 2, 3, false);
        move_array(arrays[3], layered, WIDTH * 8, 2, 3, false);
        for (int x = 0; x < WIDTH; x++) {
                for (int c = 0; c < 4; c++)
                        CHECK(bytes_after[x][c] == bytes[x][3 - c], "byte %d[%d]", x, c);
                CHECK(shorts_after[x][0] == shorts[x][1] && shorts_after[x][1] == (int16_t)-shorts[x][0], "short %d",
                      x);
                for (int z = 0; z < 3; z++) {
                        CHECK(deep[z][1][x][0] == (float)x && deep[z][1][x][1] == (float)(10 * z), "(%d, 1, %d)", x, z);
                        CHECK(layered[z][1][x] == x * 5000000000ll + z, "layer %d, element %d", z, x);
                }
        }
        for (int i = 0; i < 4; i++) {
                CU(cuSurfObjectDestroy(surface[i]));
                CU(cuArrayDestroy(arrays[i]));
        }
}

int main(void)
{
        uint64_t state = 3;
        char name[64];
        test_context();
        CU(cuDeviceGetName(name, sizeof(name), 0));
        edges.follows_model = strstr(name, "soft GPU") != NULL;
        CU(cuModuleLoadData(&module, textures_ptx));
        for (size_t i = 0; i < sizeof(image) / sizeof(float); i++)
                (&image[0][0][0][0])[i] = (float)(test_random(&state) >> 58);
        filters_and_address_modes();
        layers();
        formats();
        memory_as_texture();
        levels();
        gathering();
        surfaces();
        surfaces_of_all_kinds();
        tell_of_edges();
        puts("textures: every texel right");
        return 0;
}
