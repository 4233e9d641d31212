/* Texture and surface references, as programs for CUDA 11 and before have them. */
#include "check.h"

PTX_FILE(references_ptx, IVG_REFERENCES_PTX);

enum { WIDTH = 32, HEIGHT = 8 };

static CUmodule module;

static void copy_2d(CUarray to, void *to_host, CUdeviceptr to_device, CUarray from, void *from_host, size_t pitch)
{
        const CUDA_MEMCPY2D copy = {.srcMemoryType = from ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_HOST,
                                    .srcArray = from,
                                    .srcHost = from_host,
                                    .srcPitch = WIDTH * 4,
                                    .dstMemoryType = to        ? CU_MEMORYTYPE_ARRAY
                                                     : to_host ? CU_MEMORYTYPE_HOST
                                                               : CU_MEMORYTYPE_DEVICE,
                                    .dstArray = to,
                                    .dstHost = to_host,
                                    .dstDevice = to_device,
                                    .dstPitch = pitch,
                                    .WidthInBytes = WIDTH * 4,
                                    .Height = HEIGHT};
        CU(cuMemcpy2D_v2(&copy));
}

static void read_image_is(const float expected[HEIGHT][WIDTH], const char *what)
{
        static float seen[HEIGHT][WIDTH];
        unsigned width = WIDTH;
        CUdeviceptr out;
        void *parameters[] = {&out, &width};
        CU(cuMemAlloc_v2(&out, sizeof(seen)));
        CU(cuLaunchKernel(test_function(module, "read_image"), HEIGHT, 1, 1, WIDTH, 1, 1, 0, NULL, parameters, NULL));
        CU(cuMemcpyDtoH_v2(seen, out, sizeof(seen)));
        CU(cuMemFree_v2(out));
        for (int y = 0; y < HEIGHT; y++)
                for (int x = 0; x < WIDTH; x++)
                        CHECK(seen[y][x] == expected[y][x], "%s: (%d, %d) is %g, not %g", what, x, y,
                              (double)seen[y][x], (double)expected[y][x]);
}

static void settings_come_back(CUtexref reference)
{
        CUaddress_mode mode;
        CUfilter_mode filter;
        CUarray_format format;
        float bias, low, high, color[4], wanted[4] = {1, 2, 3, 4};
        int channels, anisotropy;
        unsigned flags;
        CU(cuTexRefSetFormat(reference, CU_AD_FORMAT_FLOAT, 1));
        CU(cuTexRefGetFormat(&format, &channels, reference));
        CHECK(format == CU_AD_FORMAT_FLOAT && channels == 1, "format %d, %d channels", (int)format, channels);
        CU(cuTexRefSetAddressMode(reference, 1, CU_TR_ADDRESS_MODE_BORDER));
        CU(cuTexRefGetAddressMode(&mode, reference, 1));
        CHECK(mode == CU_TR_ADDRESS_MODE_BORDER, "address mode %d", (int)mode);
        CU(cuTexRefSetFilterMode(reference, CU_TR_FILTER_MODE_LINEAR));
        CU(cuTexRefGetFilterMode(&filter, reference));
        CHECK(filter == CU_TR_FILTER_MODE_LINEAR, "filter %d", (int)filter);
        CU(cuTexRefSetMipmapFilterMode(reference, CU_TR_FILTER_MODE_LINEAR));
        CU(cuTexRefGetMipmapFilterMode(&filter, reference));
        CHECK(filter == CU_TR_FILTER_MODE_LINEAR, "filter between levels %d", (int)filter);
        CU(cuTexRefSetMipmapLevelBias(reference, 0.5f));
        CU(cuTexRefGetMipmapLevelBias(&bias, reference));
        CHECK(bias == 0.5f, "bias %g", (double)bias);
        CU(cuTexRefSetMipmapLevelClamp(reference, 1.0f, 3.0f));
        CU(cuTexRefGetMipmapLevelClamp(&low, &high, reference));
        CHECK(low == 1.0f && high == 3.0f, "levels %g to %g", (double)low, (double)high);
        CU(cuTexRefSetMaxAnisotropy(reference, 4));
        CU(cuTexRefGetMaxAnisotropy(&anisotropy, reference));
        CHECK(anisotropy == 4, "anisotropy %d", anisotropy);
        CU(cuTexRefSetBorderColor(reference, wanted));
        CU(cuTexRefGetBorderColor(color, reference));
        CHECK(memcmp(color, wanted, sizeof(color)) == 0, "border color (%g, ...)", (double)color[0]);
        CU(cuTexRefSetFlags(reference, CU_TRSF_NORMALIZED_COORDINATES));
        CU(cuTexRefGetFlags(&flags, reference));
        CHECK(flags == CU_TRSF_NORMALIZED_COORDINATES, "flags %u", flags);
}

static void arrays_and_pitched_memory(void)
{
        static float first[HEIGHT][WIDTH], second[HEIGHT][WIDTH];
        const CUDA_ARRAY_DESCRIPTOR shape = {
                .Width = WIDTH, .Height = HEIGHT, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1};
        const CUarray array = test_array(WIDTH, HEIGHT, 0, CU_AD_FORMAT_FLOAT, 1, 0),
                      other = test_array(WIDTH, HEIGHT, 0, CU_AD_FORMAT_FLOAT, 1, 0);
        CUtexref image, again;
        CUarray bound;
        CUdeviceptr memory, found;
        size_t pitch;
        for (int i = 0; i < WIDTH * HEIGHT; i++) {
                first[i / WIDTH][i % WIDTH] = (float)i;
                second[i / WIDTH][i % WIDTH] = (float)(3 * i + 1);
        }
        copy_2d(array, NULL, 0, NULL, first, 0);
        copy_2d(other, NULL, 0, NULL, second, 0);

        CU(cuModuleGetTexRef(&image, module, "image"));
        CU(cuModuleGetTexRef(&again, module, "image"));
        CHECK(image == again, "one reference has two handles");
        CU_EXPECT(CUDA_ERROR_NOT_FOUND, cuModuleGetTexRef(&again, module, "no_such_image"));
        for (int d = 0; d < 2; d++)
                CU(cuTexRefSetAddressMode(image, d, CU_TR_ADDRESS_MODE_CLAMP));
        CU(cuTexRefSetFilterMode(image, CU_TR_FILTER_MODE_POINT));
        CU(cuTexRefSetFlags(image, 0));
        CU(cuTexRefSetFormat(image, CU_AD_FORMAT_FLOAT, 1));
        CU(cuTexRefSetArray(image, array, CU_TRSA_OVERRIDE_FORMAT));
        CU(cuTexRefGetArray(&bound, image));
        CHECK(bound == array, "another array is bound");
        read_image_is(first, "the first array");
        CU(cuTexRefSetArray(image, other, CU_TRSA_OVERRIDE_FORMAT));
        read_image_is(second, "the second array");

        CU(cuMemAllocPitch_v2(&memory, &pitch, WIDTH * 4, HEIGHT, 4));
        copy_2d(NULL, NULL, memory, NULL, first, pitch);
        CU(cuTexRefSetAddress2D_v3(image, &shape, memory, pitch));
        CU(cuTexRefGetAddress_v2(&found, image));
        CHECK(found == memory, "another address is bound");
        read_image_is(first, "pitched memory");
        CU(cuTexRefSetArray(image, other, CU_TRSA_OVERRIDE_FORMAT));
        CU(cuTexRefSetAddress2D_v2(image, &shape, memory, pitch));
        read_image_is(first, "pitched memory, bound the older way");
        CU(cuTexRefSetArray(image, array, CU_TRSA_OVERRIDE_FORMAT));
        CU(cuMemFree_v2(memory));
        CU(cuArrayDestroy(other));
}

static void linear_memory(void)
{
        float numbers[WIDTH], seen[WIDTH];
        CUtexref reference;
        CUdeviceptr memory, out, found;
        size_t offset = 1;
        int alignment;
        void *parameters[] = {&out};
        for (int i = 0; i < WIDTH; i++)
                numbers[i] = (float)(i * i);
        CU(cuDeviceGetAttribute(&alignment, CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, 0));
        CU(cuMemAlloc_v2(&memory, 4096));
        CU(cuMemAlloc_v2(&out, sizeof(seen)));
        CU(cuMemcpyHtoD_v2(memory, numbers, sizeof(numbers)));
        CU(cuModuleGetTexRef(&reference, module, "numbers"));
        CU(cuTexRefSetFormat(reference, CU_AD_FORMAT_FLOAT, 1));
        CU(cuTexRefSetAddress_v2(&offset, reference, memory + 64, 1024));
        CHECK(offset == (memory + 64) % (size_t)alignment, "an offset of %zu", offset);
        CU(cuTexRefSetAddress_v2(&offset, reference, memory, sizeof(numbers)));
        CHECK(offset == 0, "an offset of %zu", offset);
        CU(cuTexRefGetAddress_v2(&found, reference));
        CHECK(found == memory, "another address is bound");
        CU(cuLaunchKernel(test_function(module, "read_numbers"), 1, 1, 1, WIDTH, 1, 1, 0, NULL, parameters, NULL));
        CU(cuMemcpyDtoH_v2(seen, out, sizeof(seen)));
        CHECK(memcmp(seen, numbers, sizeof(seen)) == 0, "linear memory reads as something else");
        CU(cuMemFree_v2(out));
        CU(cuMemFree_v2(memory));
}

static void surface_reference(void)
{
        static int seen[HEIGHT][WIDTH];
        const CUarray array = test_array(WIDTH, HEIGHT, 0, CU_AD_FORMAT_SIGNED_INT32, 1, CUDA_ARRAY3D_SURFACE_LDST);
        CUsurfref canvas;
        CUarray bound;
        CU(cuModuleGetSurfRef(&canvas, module, "canvas"));
        CU(cuSurfRefSetArray(canvas, array, 0));
        CU(cuSurfRefGetArray(&bound, canvas));
        CHECK(bound == array, "another array is bound");
        CU(cuLaunchKernel(test_function(module, "write_canvas"), HEIGHT, 1, 1, WIDTH, 1, 1, 0, NULL, NULL, NULL));
        copy_2d(NULL, seen, 0, array, NULL, WIDTH * 4);
        for (int y = 0; y < HEIGHT; y++)
                for (int x = 0; x < WIDTH; x++)
                        CHECK(seen[y][x] == 100 * y + x, "(%d, %d) of the canvas is %d", x, y, seen[y][x]);
}

static void made_by_hand(void)
{
        const CUDA_ARRAY3D_DESCRIPTOR descriptor = {
                .Width = WIDTH, .Height = HEIGHT, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1};
        CUmipmappedArray mipmap, bound;
        CUtexref reference;
        CU(cuTexRefCreate(&reference));
        settings_come_back(reference);
        CU(cuMipmappedArrayCreate(&mipmap, &descriptor, 3));
        CU(cuTexRefSetMipmappedArray(reference, mipmap, CU_TRSA_OVERRIDE_FORMAT));
        CU(cuTexRefGetMipmappedArray(&bound, reference));
        CHECK(bound == mipmap, "another mipmapped array is bound");
        CU(cuTexRefDestroy(reference));
        CU(cuMipmappedArrayDestroy(mipmap));
}

int main(void)
{
        test_context();
        CU(cuModuleLoadData(&module, references_ptx));
        arrays_and_pitched_memory();
        linear_memory();
        surface_reference();
        made_by_hand();
        CU(cuModuleUnload(module));
        puts("references: all bound, all right");
        return 0;
}
