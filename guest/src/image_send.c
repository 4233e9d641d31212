/* Images that the host may have already: asked for by name, sent only when it has not.
 *
 * The name is computed for every load anew. Remembering it by the image's address would have to notice that the memory
 * is another's now (dlclose and dlopen, mprotect, a JIT's buffer), and saves little: hashing runs at the pace of a
 * copy, and programs seldom load the same image twice in one process. */
#include "function.h"
#include "image.h"
#include "ivgpu/digest.h"
#include <stdlib.h>
#include <string.h>

/* The host keeps nothing, or IVGPU_IMAGES=send: no name is worth its computation. */
static _Atomic(uint32_t) always_send;

__attribute__((constructor)) static void read_environment(void)
{
        const char *wish = getenv("IVGPU_IMAGES");

        if (wish != NULL && strcmp(wish, "send") == 0)
                ivg_store_relaxed_u32(&always_send, 1);
}

static void set_name(struct ivg_image_load *load)
{
        struct ivg_digest digest;

        ivg_digest_of(load->image->data, load->image->bytes, &digest);
        _Static_assert(sizeof(digest) == sizeof(load->name.digest), "as it travels");
        memcpy(load->name.digest, &digest, sizeof(digest));
        load->name.bytes = load->image->bytes;
}

CUresult ivg_image_send(const struct ivg_flat_image *image, ivg_image_sender send, void *argument)
{
        struct ivg_image_load load = {.image = image};
        uint32_t wanted = IVG_IMAGE_LOADED;

        /* Relaxed: a flag that stands by itself; whoever misses it asks once more. */
        if (image->bytes >= IVG_IMAGE_NAMED_BYTES_MIN && ivg_load_relaxed_u32(&always_send) == 0) {
                set_name(&load);
                const CUresult result = send(&load, argument, &wanted);

                if (result != CUDA_SUCCESS || wanted == IVG_IMAGE_LOADED)
                        return result;
                if (wanted == IVG_IMAGE_SEND_ALWAYS) {
                        ivg_store_relaxed_u32(&always_send, 1);
                        load.name = (struct ivg_wire_image_name){0};
                }
        }
        load.data = image->data;
        load.bytes = image->bytes;
        return send(&load, argument, &wanted);
}
