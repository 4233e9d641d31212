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
        {"pools = ( { name = \"A\"; policy = \"best\"; } );", 1, "policy",
         "\"best\" is none of \"auto\", \"turns\", \"fair\""},
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
        {VM("socket_mode = \"0999\";"), 3, "socket_mode", "\"0999\" is no mode"},
        {VM("socket_mode = 660;"), 3, "socket_mode", "a string is expected"},
        {VM("gpu = 1;"), 3, "gpu", "unknown key"},
        {VM("vram_mib = -1;"), 3, "vram_mib", "-1 is outside 0..16777216"},
        {VM("calls_per_s = 1.5;"), 3, "calls_per_s", "a number is expected"},
        {VM("rate = \"drop\";"), 3, "rate", "\"drop\" is none of \"slow\", \"fail\""},
        {VM("inflight = 5000;"), 3, "inflight", "5000 is outside 0..4096"},
        {VM("executors_max = 300;"), 3, "executors_max", "300 is outside 0..256"},
        {VM("call_timeout_ms = 86400001;"), 3, "call_timeout_ms", "is outside 0..86400000"},
        {VM("kernel_timeout_ms = \"1s\";"), 3, "kernel_timeout_ms", "a number is expected"},
        {VM("faults_max = 17;"), 3, "faults_max", "17 is outside 0..16"},
        {VM("fault_window_s = 0;"), 3, "fault_window_s", "0 is outside 1..86400"},
        {VM("quarantine_s = 90000;"), 3, "quarantine_s", "90000 is outside 0..86400"},
        {"pools = ( { name = \"A\"; mps = \"yes\"; } );", 1, "mps", "\"yes\" is none of \"off\", \"on\", \"auto\""},
        {"defaults = {\n wieght = 3; };", 2, "wieght", "unknown key"},
        {"defaults = {\n vm_id = 3; };", 2, "vm_id", "unknown key"},
        {"defaults = ( );", 1, "defaults", "a group"},
        {"defaults = {\n pool = \"Q\"; }; local = { socket = \"/l\"; };", 2, "pool", "there is no pool \"Q\""},
        {VM("") "defaults = {\n region_mib = 48; };", 4, "region_mib", "no power of two"},
        {"vms = ( { vm_id = 1; name = \"n\"; socket = \"/s\"; } );", 1, "entry",
         "key \"pool\" is missing, here and in \"defaults\""},
        {"control = { };", 1, "control", "key \"socket\" is missing"},
        {"control = { socket = \"/c\";\n user = \"no such user\"; };", 2, "user", "knows no user \"no such user\""},
        {"control = { socket = \"/c\";\n group = \"no such group\"; };", 2, "group", "knows no group"},
        {"control = { socket = \"/c\"; user = -1; };", 1, "user", "-1 is outside"},
        {"control = { socket = \"/c\"; }; local = { socket = \"/c\"; };", 0, "socket \"/c\"",
         "both the local one and that of ivgpuctl"},
        {VM("") "control = { socket = \"/s\"; };", 0, "socket \"/s\"", "both that of ivgpuctl and that of VM 1"},
        {"metrics = { };", 1, "metrics", "either \"port\" or \"socket\""},
        {"metrics = { port = 9; socket = \"/m\"; };", 1, "metrics", "either \"port\" or \"socket\""},
        {"metrics = { port = 65536; };", 1, "port", "65536 is outside 1..65535"},
        {"metrics = {\n address = \"localhost\"; port = 1; };", 2, "address", "is no address such as"},
        {POOL "vms = ( { vm_id = 1; name = \"n\";\n pool = \"C\"; socket = \"/s\"; } );", 3, "pool",
         "error 6 (INVALID_POOL): there is no pool \"C\""},
        {POOL "vms = ( { vm_id = 1; name = \"n\"; pool = \"A\"; socket = \"/s\"; },\n"
              "{ vm_id = 1; name = \"m\"; pool = \"A\"; socket = \"/t\"; } );",
         3, "entry", "vm_id 1 twice"},
        {POOL "vms = ( { vm_id = 1; name = \"n\"; pool = \"A\"; socket = \"/s\"; },\n"
              "{ vm_id = 2; name = \"m\"; pool = \"A\"; socket = \"/s\"; } );",
         3, "entry", "socket \"/s\" twice"},
        {POOL "vms = ( { vm_id = 1; name = \"n\"; pool = \"A\"; } );", 2, "entry", "neither \"socket\""},
        {VM("local_socket = \"/s\";"), 2, "entry", "socket \"/s\" twice"},
        {POOL "vms = ( { vm_id = 1; name = \"n\"; pool = \"A\"; local_socket = \"/s\"; },\n"
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
        assert_int_equal(config.vms[0].limits.priority, IVG_PRIORITY_MEDIUM);
        assert_int_equal(config.vms[0].limits.faults_max, 5);
        assert_int_equal(config.local.limits.faults_max, 0);
        assert_int_equal(config.pools[0].policy, IVG_POLICY_AUTO);
        assert_int_equal(config.pools[0].mps, IVG_MPS_MODE_OFF);
        assert_string_equal(config.mps_dir, "/run/ivgpu/mps");
        assert_string_equal(config.control.socket, "/run/ivgpu/control.sock");
        assert_int_equal(config.metrics.port, 9435);
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

/* "Values shown are the defaults unless a line says otherwise": of the limits, this holds the example to it. */
static void example_shows_the_limits_defaults(void **state)
{
        struct ivg_error error;
        struct ivg_limits standard;

        (void)state;
        ivg_config_init(&config);
        assert_int_equal(ivg_config_read(&config, EXAMPLE_CONFIG, &error), 0);
        ivg_limits_init(&standard);
        assert_memory_equal(&config.vms[0].limits, &standard, sizeof(standard));
}

static void defaults_hold_for_who_says_nothing(void **state)
{
        struct ivg_error error;

        (void)state;
        assert_int_equal(
                read_words("vms = ( { vm_id = 1; name = \"n\"; socket = \"/s\"; vram_mib = 7; calls_per_s = 9; rate = "
                           "\"fail\"; }, { vm_id = 2; name = \"m\"; socket = \"/t\"; pool = \"A\"; channels = 3; } );\n"
                           "pools = ( { name = \"A\"; policy = \"turns\"; }, { name = \"B\"; mps = true; } );\n"
                           "local = { socket = \"/l\"; inflight = 8; };\n"
                           "defaults = { pool = \"B\"; weight = 40; vram_mib = 100; channels = 5; faults_max = 2; };",
                           &error),
                0);
        assert_int_equal(config.vms[0].pool, 1);
        assert_int_equal(config.vms[0].limits.weight, 40);
        assert_int_equal(config.vms[0].limits.vram_mib, 7);
        assert_int_equal(config.vms[0].limits.rate, IVG_RATE_FAIL);
        assert_int_equal(config.vms[0].channels, 5);
        assert_int_equal(config.vms[1].pool, 0);
        assert_int_equal(config.vms[1].limits.vram_mib, 100);
        assert_int_equal(config.vms[1].limits.calls_per_s, 0);
        assert_int_equal(config.vms[1].channels, 3);
        assert_int_equal(config.local.pool, 0); /* the first: of VMs only */
        assert_int_equal(config.local.limits.weight, 40);
        assert_int_equal(config.local.limits.faults_max, 2);
        assert_int_equal(config.local.limits.inflight, 8);
        assert_int_equal(config.pools[0].policy, IVG_POLICY_TURNS);
        assert_int_equal(config.pools[1].mps, IVG_MPS_MODE_ON);
}

static void limits_are_parsed_as_in_the_file(void **state)
{
        const struct ivg_limit *weight = ivg_limit_find("weight"), *priority = ivg_limit_find("priority");
        struct ivg_error error;
        uint32_t value;

        (void)state;
        assert_null(ivg_limit_find("wieght"));
        assert_int_equal(ivg_limit_parse(weight, "100", &value, &error), 0);
        assert_int_equal(value, 100);
        assert_int_equal(ivg_limit_parse(priority, "high", &value, &error), 0);
        assert_int_equal(value, IVG_PRIORITY_HIGH);
        assert_int_equal(ivg_limit_parse(weight, "101", &value, &error), -EINVAL);
        assert_string_equal(error.text, "weight: 101 is outside 1..100");
        assert_int_equal(ivg_limit_parse(weight, "99999999999999999999999", &value, &error), -EINVAL);
        assert_int_equal(ivg_limit_parse(weight, "-1", &value, &error), -EINVAL);
        assert_int_equal(ivg_limit_parse(weight, "1x", &value, &error), -EINVAL);
        assert_int_equal(ivg_limit_parse(weight, "", &value, &error), -EINVAL);
        assert_int_equal(ivg_limit_parse(priority, "urgent", &value, &error), -EINVAL);
        assert_string_equal(error.text, "priority: \"urgent\" is none of \"low\", \"medium\", \"high\"");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_mistake_is_named),
                cmocka_unit_test(file_that_cannot_be_read_is_named),
                cmocka_unit_test(example_says_what_it_says),
                cmocka_unit_test(example_shows_the_limits_defaults),
                cmocka_unit_test(pools_may_follow_and_defaults_hold),
                cmocka_unit_test(defaults_hold_for_who_says_nothing),
                cmocka_unit_test(limits_are_parsed_as_in_the_file),
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
