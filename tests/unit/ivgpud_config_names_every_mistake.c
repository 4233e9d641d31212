/* Every mistake in ivgpud.conf is refused with its line and key; a good file says what it says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/ivgpud-config.XXXXXX";
static struct ivg_config config;

static int read_words(const char *words, struct ivg_error *error)
{
        FILE *file = fopen(path, "w");
        int rc;

        assert_non_null(file);
        fputs(words, file);
        fclose(file);
        error->text[0] = '\0';
        ivg_config_init(&config);
        rc = ivg_config_read(&config, path, error);
        return rc < 0 ? rc : ivg_config_finish(&config, error);
}

#define POOL "pools = ( { name = \"A\"; } );\n"
#define VM(rest) POOL "vms = ( { vm_id = 1; name = \"n\"; pool = \"A\"; socket = \"/s\";\n" rest " } );"

static const struct {
        const char *words;
        uint32_t line; /* 0: none to name */
        const char *key, *why;
} mistakes[] = {
        {"", 0, "nothing to serve", "neither a VM nor a local socket"},
        {"pools = (", 1, "", "syntax error"},
        {"medaitor = { };", 1, "medaitor", "unknown key"},
        {"mediator = 3;", 1, "mediator", "a group"},
        {"mediator = { devise = \"soft\"; };", 1, "devise", "unknown key"},
        {"mediator = {\n device = \"tpu\"; };", 2, "device", "\"tpu\" is none of \"cuda\", \"soft\""},
        {"mediator = { device = 1; };", 1, "device", "a string is expected"},
        {"mediator = { driver = \"\"; };", 1, "driver", "0 bytes"},
        {"mediator = { heartbeat_log_s = -1; };", 1, "heartbeat_log_s", "-1 is outside 0..86400"},
        {"mediator = { ready_timeout_ms = \"1\"; };", 1, "ready_timeout_ms", "a number is expected"},
        {"pools = { };", 1, "pools", "a list ( ... )"},
        {"pools = ( { gpus = [ 0 ]; } );", 1, "entry", "key \"name\" is missing"},
        {"pools = ( { name = \"A\"; gpus = [ 0, 0 ]; } );", 1, "gpus", "GPU 0 twice"},
        {"pools = ( { name = \"A\"; gpus = 0; } );", 1, "gpus", "a list of GPU numbers"},
        {"pools = ( { name = \"A\"; gpus = [ 5000 ]; } );", 1, "entry", "5000 is outside"},
        {"pools = ( { name = \"A\"; policy = \"best\"; } );", 1, "policy", "\"best\" is none of \"fair\""},
        {"pools = ( { name = \"A\"; },\n { name = \"A\"; } );", 2, "entry", "pool \"A\" twice"},
        {"pools = ( { name = \"12345678901234567890123456789012\"; } );", 1, "name", "32 bytes are outside 1..31"},
        {POOL "vms = ( { vm_id = 1; } );", 2, "entry", "key \"name\" is missing"},
        {"images = ( );", 1, "images", "a group"},
        {"images = {\n share = \"all\"; };", 2, "share", "\"all\" is none of \"off\", \"vm\", \"host\""},
        {"images = { mib = 0; };", 1, "mib", "0 is outside 1..1048576"},
        {"images = { vm_mib = 2000000; };", 1, "vm_mib", "2000000 is outside"},
        {"images = { count = 70000; };", 1, "count", "70000 is outside 1..65536"},
        {"images = { bytes = 1; };", 1, "bytes", "unknown key"},
        {POOL "local = { socket = \"/l\"; }; images = { mib = 4; vm_mib = 5; };", 0, "images",
         "vm_mib = 5 is more than mib = 4"},
        {VM("priority = \"urgent\";"), 3, "priority", "\"low\", \"medium\", \"high\""},
        {VM("weight = 0;"), 3, "weight", "0 is outside 1..100"},
        {VM("weight = 101;"), 3, "weight", "101 is outside 1..100"},
        {VM("region_mib = 1000;"), 3, "region_mib", "no power of two"},
        {VM("region_mib = 8;"), 3, "region_mib", "8 is outside 16..65536"},
        {VM("region_mib = 99999999999L;"), 3, "region_mib", "is outside"},
        {VM("channels = 65;"), 3, "channels", "65 is outside 1..64"},
        {VM("vectors = 1;"), 3, "vectors", "1 is outside 2..128"},
        {VM("channels = 16; vectors = 16;"), 2, "entry", "channels = 16, vectors = 16"},
        {VM("socket_mode = \"0999\";"), 3, "socket_mode", "\"0999\" is no mode"},
        {VM("socket_mode = 660;"), 3, "socket_mode", "a string is expected"},
        {VM("gpu = 1;"), 3, "gpu", "unknown key"},
        {POOL "vms = ( { vm_id = 1; name = \"n\";\n pool = \"C\"; socket = \"/s\"; } );", 3, "pool",
         "error 6 (INVALID_POOL): there is no pool \"C\""},
        {POOL "vms = ( { vm_id = 1; name = \"n\"; pool = \"A\"; socket = \"/s\"; },\n"
              "{ vm_id = 1; name = \"m\"; pool = \"A\"; socket = \"/t\"; } );",
         3, "entry", "vm_id 1 twice"},
        {POOL "vms = ( { vm_id = 1; name = \"n\"; pool = \"A\"; socket = \"/s\"; },\n"
              "{ vm_id = 2; name = \"m\"; pool = \"A\"; socket = \"/s\"; } );",
         3, "entry", "socket \"/s\" twice"},
        {VM("") "local = { socket = \"/s\"; };", 0, "socket \"/s\"", "both the local one and that of VM 1"},
        {POOL "local = { socket = \"/l\"; pool = \"Z\"; };", 2, "pool", "there is no pool \"Z\""},
        {POOL "local = { region_mib = 16; };", 2, "local", "key \"socket\" is missing"},
};

static void every_mistake_is_named(void **state)
{
        (void)state;
        for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
                struct ivg_error error;
                char place[64] = "";

                assert_int_equal(read_words(mistakes[i].words, &error), -EINVAL);
                if (mistakes[i].line != 0)
                        snprintf(place, sizeof(place), "%s:%u: %s", path, mistakes[i].line, mistakes[i].key);
                else
                        snprintf(place, sizeof(place), "%s", mistakes[i].key);
                if (!strstr(error.text, place) || !strstr(error.text, mistakes[i].why))
                        fail_msg("case %zu: \"%s\" names neither \"%s\" nor \"%s\"", i, error.text, place,
                                 mistakes[i].why);
        }
}

static void file_that_cannot_be_read_is_named(void **state)
{
        struct ivg_error error;

        (void)state;
        ivg_config_init(&config);
        assert_int_equal(ivg_config_read(&config, "/nonexistent/ivgpud.conf", &error), -ENOENT);
        assert_non_null(strstr(error.text, "/nonexistent/ivgpud.conf: No such file"));
}

static void example_says_what_it_says(void **state)
{
        struct ivg_error error;

        (void)state;
        ivg_config_init(&config);
        assert_int_equal(ivg_config_read(&config, EXAMPLE_CONFIG, &error), 0);
        assert_int_equal(ivg_config_finish(&config, &error), 0);
        assert_int_equal(config.device, IVG_DEVICE_CUDA);
        assert_int_equal(config.pool_count, 2);
        assert_string_equal(config.pools[1].name, "B");
        assert_int_equal(config.pools[0].gpu_count, 1);
        assert_int_equal(config.pools[1].gpu_count, 0);
        assert_int_equal(config.vm_count, 1);
        assert_int_equal(config.vms[0].socket_mode, 0660);
        assert_int_equal(config.vms[0].region_mib, 1024);
        assert_int_equal(config.vms[0].priority, IVG_PRIORITY_MEDIUM);
        assert_string_equal(config.local.socket, "/run/ivgpu/local.sock");
        assert_int_equal(config.images.share, IVG_IMAGES_HOST);
        assert_int_equal(config.images.mib, 1024);
        assert_int_equal(config.images.vm_mib, 512);
        assert_int_equal(config.images.count, 1024);
}

static void pools_may_follow_and_defaults_hold(void **state)
{
        struct ivg_error error;

        (void)state;
        assert_int_equal(read_words("vms = ( { vm_id = 4000000000L; name = \"n\"; pool = \"B\"; socket = \"/s\"; } );\n"
                                    "pools = ( { name = \"A\"; }, { name = \"B\"; gpus = [ 3, 1 ]; } );",
                                    &error),
                         0);
        assert_int_equal(config.vms[0].vm_id, 4000000000u);
        assert_int_equal(config.vms[0].pool, 1);
        assert_int_equal(config.vms[0].channels, 15);
        assert_int_equal(config.vms[0].vectors, 16);
        assert_int_equal(config.pools[1].gpus[0], 3);
        assert_int_equal(read_words("local = { socket = \"/l\"; };", &error), 0);
        assert_int_equal(config.pool_count, 1);
        assert_string_equal(config.pools[config.local.pool].name, "A");
        assert_int_equal(config.images.share, IVG_IMAGES_HOST);
        assert_int_equal(config.images.vm_mib, 512);
        assert_int_equal(read_words("local = { socket = \"/l\"; }; images = { share = \"vm\"; mib = 9; };", &error), 0);
        assert_int_equal(config.images.share, IVG_IMAGES_VM);
        assert_int_equal(config.images.vm_mib, 5); /* half, rounded up */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_mistake_is_named),
                cmocka_unit_test(file_that_cannot_be_read_is_named),
                cmocka_unit_test(example_says_what_it_says),
                cmocka_unit_test(pools_may_follow_and_defaults_hold),
        };
        int failed;
        const int fd = mkstemp(path);

        if (fd < 0)
                return 1;
        close(fd);
        failed = cmocka_run_group_tests(tests, NULL, NULL);
        unlink(path);
        return failed;
}
