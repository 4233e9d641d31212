/* A context that was made before there was a guest process: what the driver is asked for, call by call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_process.h"
#include "ivgpu_calls.h"
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NEVER_MS 600000

static char notes_path[64];

/* What the driver has been asked, comma between calls. */
static const char *asked(void)
{
        static char text[512];
        FILE *file = fopen(notes_path, "r");
        size_t bytes = file ? fread(text, 1, sizeof(text) - 1, file) : 0;

        if (file)
                fclose(file);
        text[bytes] = '\0';
        for (char *end = text; (end = strchr(end, '\n')) != NULL;)
                *end = ',';
        return text;
}

static void begin(struct process *p, const char *misbehaviour, int unused_ms)
{
        unlink(notes_path);
        start_waiting(p, misbehaviour, unused_ms);
        assert_int_equal(adopt(p, ALL_THREE), 0);
        become_ready(p);
}

static void end(struct process *p)
{
        kill(p->pid, SIGTERM);
        assert_int_equal(wait_for_exit(p, 5000), IVG_EXEC_EXIT_TOLD);
        finish(p);
}

static void retain(struct process *p, int32_t device, ivg_id id)
{
        struct ivg_request_cuDevicePrimaryCtxRetain request = {.dev = device, .pctx = id};

        assert_int_equal(call(p, IVG_CALL_cuDevicePrimaryCtxRetain, &request, sizeof(request)), CUDA_SUCCESS);
}

static void set_flags(struct process *p, int32_t device, uint32_t flags)
{
        struct ivg_request_cuDevicePrimaryCtxSetFlags_v2 request = {.dev = device, .flags = flags};

        assert_int_equal(call(p, IVG_CALL_cuDevicePrimaryCtxSetFlags_v2, &request, sizeof(request)), CUDA_SUCCESS);
}

/* The guest's reference is the only one from then on, so its release or reset ends the context, and it can begin anew.
 */
static void the_guests_first_retain_takes_it_over(void **state)
{
        struct ivg_request_cuDevicePrimaryCtxRelease_v2 release = {.dev = 0};
        struct ivg_request_cuDevicePrimaryCtxReset_v2 reset = {.dev = 0};
        struct process p;

        (void)state;
        begin(&p, "", NEVER_MS);
        assert_string_equal(asked(), "retain 0,");
        retain(&p, 0, IVG_ID_FIRST);
        assert_string_equal(asked(), "retain 0,retain 0,release 0,");
        assert_int_equal(call(&p, IVG_CALL_cuDevicePrimaryCtxRelease_v2, &release, sizeof(release)), CUDA_SUCCESS);
        assert_string_equal(asked(), "retain 0,retain 0,release 0,release 0,");
        retain(&p, 0, IVG_ID_FIRST);
        assert_int_equal(call(&p, IVG_CALL_cuDevicePrimaryCtxReset_v2, &reset, sizeof(reset)), CUDA_SUCCESS);
        assert_string_equal(asked(), "retain 0,retain 0,release 0,release 0,retain 0,release 0,");
        end(&p);
}

static void flags_are_those_of_a_context_made_after_them(void **state)
{
        struct process p;

        (void)state;
        begin(&p, "", NEVER_MS);
        set_flags(&p, 0, 0); /* as it was made */
        set_flags(&p, 0, CU_CTX_SCHED_BLOCKING_SYNC);
        retain(&p, 0, IVG_ID_FIRST);
        assert_string_equal(asked(), "retain 0,flags 0 0,release 0,flags 0 4,retain 0,");
        end(&p);
}

static void a_created_context_stands_alone(void **state)
{
        struct ivg_request_ivgContextCreate create = {.version = 2, .device = 0, .pctx = IVG_ID_FIRST};
        struct process p;

        (void)state;
        begin(&p, "", NEVER_MS);
        assert_int_equal(call(&p, IVG_CALL_ivgContextCreate, &create, sizeof(create)), CUDA_SUCCESS);
        assert_string_equal(asked(), "retain 0,release 0,create 0,");
        end(&p);
}

static void another_device_is_the_only_one_held(void **state)
{
        struct process p;

        (void)state;
        begin(&p, "two", NEVER_MS);
        retain(&p, 1, IVG_ID_FIRST);
        assert_string_equal(asked(), "retain 0,release 0,retain 1,");
        retain(&p, 0, IVG_ID_FIRST + 1);
        assert_string_equal(asked(), "retain 0,release 0,retain 1,retain 0,");
        end(&p);
}

static void a_program_without_context_holds_none_for_long(void **state)
{
        struct process p;
        uint64_t bound;

        (void)state;
        begin(&p, "", 50);
        for (bound = now_ms() + 5000; strcmp(asked(), "retain 0,") == 0; usleep(5000))
                assert_true(now_ms() < bound);
        assert_string_equal(asked(), "retain 0,release 0,");
        retain(&p, 0, IVG_ID_FIRST); /* later: as natively */
        usleep(100000);
        assert_string_equal(asked(), "retain 0,release 0,retain 0,");
        end(&p);
}

static void a_device_for_one_process_is_left_to_it(void **state)
{
        struct process p;

        (void)state;
        begin(&p, "exclusive", NEVER_MS);
        assert_string_equal(asked(), "");
        retain(&p, 0, IVG_ID_FIRST);
        assert_string_equal(asked(), "retain 0,");
        end(&p);
}

static void a_cold_one_makes_none(void **state)
{
        struct process p;

        (void)state;
        unlink(notes_path);
        start_ready(&p, "");
        assert_string_equal(asked(), "");
        retain(&p, 0, IVG_ID_FIRST);
        assert_string_equal(asked(), "retain 0,");
        end(&p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_guests_first_retain_takes_it_over),
                cmocka_unit_test(flags_are_those_of_a_context_made_after_them),
                cmocka_unit_test(a_created_context_stands_alone),
                cmocka_unit_test(another_device_is_the_only_one_held),
                cmocka_unit_test(a_program_without_context_holds_none_for_long),
                cmocka_unit_test(a_device_for_one_process_is_left_to_it),
                cmocka_unit_test(a_cold_one_makes_none),
        };
        int failures;

        snprintf(notes_path, sizeof(notes_path), "/tmp/ivgpu-warm-test.%d", (int)getpid());
        setenv("FAKE_DRIVER_NOTES", notes_path, 1);
        failures = cmocka_run_group_tests(tests, NULL, NULL);
        unlink(notes_path);
        return failures;
}
