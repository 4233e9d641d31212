/* Module images: what the executor lets pass to the driver (ivg_image_contained) has no length that leads out of it, so
 * the guest's measure of it, which trusts it, must stay inside too; whether it prints is found without reading outside;
 * and the soft GPU takes it apart.
 *
 * Input: u8 capability, then the image, which lies in memory that ends with it. */
#include "fuzz.h"
#include "image.h"
#include "jit.h"
#include "softgpu.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct fuzz_input input = {data, size};
        const uint32_t capability = (uint32_t)fuzz_take_number(&input, 1);
        uint8_t *const image = malloc(input.left ? input.left : 1);
        struct sg_image text = {0};
        struct ivg_image measured;

        MUST(image, "memory");
        memcpy(image, input.at, input.left);
        (void)ivg_image_prints(image, input.left, capability);
        if (ivg_image_contained(image, (uint32_t)input.left)) {
                const int rc = ivg_image_measure(image, &measured);

                MUST(rc != 0 || measured.bytes <= input.left, "measured %llu of %zu",
                     (unsigned long long)measured.bytes, input.left);
                MUST(rc == 0 || rc == -22, "a contained image has no length: %d", rc);
                if (sg_image_open_bounded(image, input.left, &text) == CUDA_SUCCESS)
                        sg_image_close(&text);
        }
        free(image);
        return 0;
}
