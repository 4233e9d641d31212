/* The guest's way of a load: by name where that may help, with the image where it must, and never asking in vain twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "function.h"
#include "image.h"
#include "ivgpu/digest.h"
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#define BYTES (IVG_IMAGE_NAMED_BYTES_MIN + 100)

static uint8_t data[BYTES];

/* A host that answers as told, and notes what it was asked. */
static struct {
        uint32_t wanted;
        CUresult result;
        uint32_t asked, sent, sent_with_name;
        struct ivg_wire_image_name name;
} host;

static CUresult play(const struct ivg_image_load *load, void *argument, uint32_t *wanted)
{
        assert_ptr_equal(argument, &host);
        *wanted = IVG_IMAGE_LOADED;
        if (load->data == NULL) {
                assert_int_equal(load->bytes, 0);
                assert_int_equal(load->name.bytes, load->image->bytes);
                host.asked++;
                host.name = load->name;
                *wanted = host.wanted;
                return host.result;
        }
        assert_ptr_equal(load->data, data);
        assert_int_equal(load->bytes, load->image->bytes);
        host.sent++;
        host.sent_with_name += load->name.bytes == load->bytes;
        return host.result;
}

static CUresult load(uint64_t bytes)
{
        const struct ivg_flat_image image = {.data = data, .bytes = bytes};

        host.asked = host.sent = host.sent_with_name = 0;
        return ivg_image_send(&image, play, &host);
}

static void what_the_host_has_is_not_sent(void **state)
{
        struct ivg_digest digest;

        (void)state;
        host.wanted = IVG_IMAGE_LOADED;
        assert_int_equal(load(BYTES), CUDA_SUCCESS);
        assert_int_equal(host.asked, 1);
        assert_int_equal(host.sent, 0);
        ivg_digest_of(data, BYTES, &digest);
        assert_memory_equal(host.name.digest, &digest, sizeof(digest));
        data[BYTES - 1] ^= 1; /* the same address, another image */
        assert_int_equal(load(BYTES), CUDA_SUCCESS);
        assert_memory_not_equal(host.name.digest, &digest, sizeof(digest));
}

static void what_it_has_not_is_sent_with_its_name(void **state)
{
        (void)state;
        host.wanted = IVG_IMAGE_SEND;
        for (int i = 0; i < 2; i++) { /* it is asked for again the next time: another may have sent it meanwhile */
                assert_int_equal(load(BYTES), CUDA_SUCCESS);
                assert_int_equal(host.asked, 1);
                assert_int_equal(host.sent, 1);
                assert_int_equal(host.sent_with_name, 1);
        }
}

static void small_images_are_sent(void **state)
{
        (void)state;
        host.wanted = IVG_IMAGE_LOADED;
        assert_int_equal(load(IVG_IMAGE_NAMED_BYTES_MIN - 1), CUDA_SUCCESS);
        assert_int_equal(host.asked, 0);
        assert_int_equal(host.sent, 1);
        assert_int_equal(host.sent_with_name, 0);
}

static void errors_are_the_programs(void **state)
{
        (void)state;
        host.wanted = IVG_IMAGE_LOADED;
        host.result = CUDA_ERROR_INVALID_PTX; /* of the load by name: the host has it, and the driver wants it not */
        assert_int_equal(load(BYTES), CUDA_ERROR_INVALID_PTX);
        assert_int_equal(host.sent, 0);
        host.result = CUDA_SUCCESS;
}

/* Last: it is for the process's life. */
static void a_host_that_keeps_nothing_is_asked_once(void **state)
{
        (void)state;
        host.wanted = IVG_IMAGE_SEND_ALWAYS;
        assert_int_equal(load(BYTES), CUDA_SUCCESS);
        assert_int_equal(host.asked, 1);
        assert_int_equal(host.sent, 1);
        assert_int_equal(host.sent_with_name, 0);
        assert_int_equal(load(BYTES), CUDA_SUCCESS);
        assert_int_equal(host.asked, 0);
        assert_int_equal(host.sent, 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_the_host_has_is_not_sent),
                cmocka_unit_test(what_it_has_not_is_sent_with_its_name),
                cmocka_unit_test(small_images_are_sent),
                cmocka_unit_test(errors_are_the_programs),
                cmocka_unit_test(a_host_that_keeps_nothing_is_asked_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
