/* ivgpu-dump's reading of regions: what it says of one that is known word by word, and that no bytes at all make it
 * read where it should not, or not end (run under AddressSanitizer by the gate). */
#include "call_print.h"
#include "dump.h"
#include "ivgpu/ring.h"
#include "ring_walk.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define REGION_BYTES (16ull << 20)
#define CHANNELS 2u
#define THREAD_A 4711u
#define THREAD_B 4712u
#define RANDOM_IMAGES 300u
#define RANDOM_WORDS_MAX 400u

struct fixture {
        int fd;
        uint8_t *base;
        struct ivg_region_source source;
        struct ivg_region_page *page;
        struct ivg_guest_pages *guest_pages;
        struct ivg_host_pages *host_pages;
        struct ivg_ring_guest_part *guest;
        struct ivg_ring_host_part *host;
        struct ivg_ring ring;
};

static int setup(void **state)
{
        const struct ivg_region_config config = {.region_bytes = REGION_BYTES,
                                                 .channel_count = CHANNELS,
                                                 .vm_id = 7,
                                                 .vm_name = "web",
                                                 .call_table_fingerprint = IVG_CALL_TABLE_FINGERPRINT};
        struct fixture *f = calloc(1, sizeof(*f));
        struct ivg_error error = {""};

        assert_non_null(f);
        assert_int_equal(ivg_region_create(&config, &f->fd, &error), 0);
        f->base = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
        assert_true(f->base != MAP_FAILED);
        assert_int_equal(ivg_region_source_open(&f->source, dup(f->fd), &error), 0);
        f->page = (void *)f->base;
        f->guest_pages = (void *)(f->base + f->page->guest_pages_offset);
        f->host_pages = (void *)(f->base + f->page->host_pages_offset);
        f->guest = (void *)(f->base + f->page->channels_offset + f->page->channel_stride);
        f->host = (void *)((uint8_t *)f->guest + IVG_CHANNEL_RING_HOST_OFFSET);
        ivg_ring_format(f->guest, 0);
        ivg_store_relaxed_u64(&f->host->status, ivg_channel_word(1, IVG_RING_OPEN));
        ivg_store_relaxed_u64(&f->guest_pages->channels[1].state, ivg_channel_word(1, IVG_GUEST_CHANNEL_OPEN));
        ivg_store_relaxed_u64(&f->host_pages->channels[1].state, ivg_channel_word(1, IVG_HOST_CHANNEL_READY));
        assert_int_equal(ivg_ring_init(&f->ring, f->guest, f->host, 1), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        ivg_region_source_close(&f->source);
        munmap(f->base, REGION_BYTES);
        close(f->fd);
        free(f);
        return 0;
}

/* ---- a region that is known ---- */

static struct json_object *dump(struct fixture *f, uint32_t calls, uint32_t look_again_ms)
{
        const struct ivg_dump_options options = {
                .channel = IVG_CHANNEL_NONE, .calls = calls, .look_again_ms = look_again_ms};
        struct ivg_error error = {""};
        struct json_object *object = ivg_dump_region(&f->source, &options, &error);

        if (!object)
                fail_msg("%s", error.text);
        return object;
}

static struct json_object *at(struct json_object *object, const char *pointer)
{
        struct json_object *found = NULL;

        if (json_pointer_get(object, pointer, &found) != 0)
                fail_msg("no %s in %s", pointer, json_object_to_json_string(object));
        return found;
}

static void expect_number(struct json_object *object, const char *pointer, uint64_t value)
{
        if (json_object_get_uint64(at(object, pointer)) != value)
                fail_msg("%s is %s, not %llu", pointer, json_object_to_json_string(at(object, pointer)),
                         (unsigned long long)value);
}

static void expect_text(struct json_object *object, const char *pointer, const char *text)
{
        assert_string_equal(json_object_get_string(at(object, pointer)), text);
}

static void expect_length(struct json_object *object, const char *pointer, size_t length)
{
        assert_int_equal(json_object_array_length(at(object, pointer)), length);
}

static void send_call(struct ivg_producer *producer, uint8_t flags)
{
        struct ivg_request_cuStreamSynchronize request = {
                .header = {.bytes = sizeof(request), .producer = (uint8_t)producer->index, .flags = flags},
                .hStream = 0x42};
        struct ivg_record record = {0};

        assert_int_equal(ivg_producer_reserve(producer, sizeof(request), &record), 0);
        ivg_record_write(producer, &record, 0, &request, sizeof(request));
        ivg_producer_commit(producer, &record, IVG_CALL_cuStreamSynchronize);
}

static void a_known_region_is_told_word_by_word(void **state)
{
        struct fixture *f = *state;
        struct ivg_producer a, b;
        struct ivg_record half = {0};
        struct json_object *object;

        memset(f->guest_pages->channels[1].program, 'p', sizeof(f->guest_pages->channels[1].program));
        f->guest_pages->channels[1].program[1] = '\033';
        ivg_store_relaxed_u32(&f->guest_pages->channels[1].pid, 99);
        ivg_store_relaxed_u32(&f->guest_pages->extent_owner[2], 2);
        ivg_store_relaxed_u32(&f->guest_pages->extent_owner[3], 2);
        ivg_store_relaxed_u32(&f->guest_pages->extent_owner[4], 77);
        assert_int_equal(ivg_producer_open(&f->ring, THREAD_A, &a), 0);
        assert_int_equal(ivg_producer_open(&f->ring, THREAD_B, &b), 0);
        for (int i = 0; i < 5; i++)
                send_call(&a, 0);
        ivg_store_relaxed_u64(&f->host->head, 3);
        assert_int_equal(ivg_producer_reserve(&b, 3 * IVG_SLOT_PAYLOAD_BYTES, &half), 0);
        send_call(&a, IVG_CALL_WANTS_ANSWER);
        f->host->mailboxes[a.index].result = 700;

        object = dump(f, 2, 3);
        expect_number(object, "/region/vm_id", 7);
        expect_number(object, "/region/extents_used", 3);
        expect_length(object, "/region/extents", 2);
        expect_number(object, "/region/extents/0/first", 2);
        expect_number(object, "/region/extents/0/count", 2);
        expect_number(object, "/region/extents/0/channel", 1);
        assert_false(json_object_get_boolean(at(object, "/region/extents/1/possible")));
        expect_length(object, "/channels", 1); /* nobody uses the other */
        expect_number(object, "/channels/0/channel", 1);
        expect_text(object, "/channels/0/program", "p?pppppppppppppppppppppppppppppp");
        expect_number(object, "/channels/0/guest_pid", 99);
        expect_text(object, "/channels/0/ring/status", "OPEN");
        expect_number(object, "/channels/0/ring/tail", 9);
        expect_number(object, "/channels/0/ring/records_waiting", 3);
        expect_length(object, "/channels/0/ring/calls", 5); /* the latest two of three that were taken, and the rest */
        expect_number(object, "/channels/0/ring/calls/0/position", 1);
        assert_true(json_object_get_boolean(at(object, "/channels/0/ring/calls/1/taken")));
        assert_false(json_object_get_boolean(at(object, "/channels/0/ring/calls/2/taken")));
        expect_text(object, "/channels/0/ring/calls/0/text", "cuStreamSynchronize(hStream=stream#42)");
        expect_number(object, "/channels/0/ring/calls/4/position", 8);
        assert_true(json_object_get_boolean(at(object, "/channels/0/ring/calls/4/sync")));
        expect_number(object, "/channels/0/ring/calls/4/thread", THREAD_A);
        expect_length(object, "/channels/0/ring/half_written", 1);
        expect_number(object, "/channels/0/ring/half_written/0/position", 5);
        expect_number(object, "/channels/0/ring/half_written/0/slots", 3);
        expect_number(object, "/channels/0/ring/half_written/0/thread", THREAD_B);
        expect_number(object, "/channels/0/ring/half_written/0/ms_at_least", 3);
        expect_length(object, "/channels/0/ring/broken", 0);
        expect_number(object, "/channels/0/threads/0/mailbox/result", 700);
        json_object_put(object);

        ivg_store_relaxed_u64(&f->guest->slots[8].commit,
                              ivg_commit_word(8, 1, IVG_SLOT_ANSWERED, IVG_CALL_cuStreamSynchronize));
        f->guest->slots[8].payload[0] = 700;
        object = dump(f, 2, 0);
        expect_number(object, "/channels/0/ring/records_waiting", 0);
        expect_length(object, "/channels/0/ring/calls", 2); /* all before it have been taken */
        expect_text(object, "/channels/0/ring/calls/1/text", "cuStreamSynchronize(hStream=stream#42) = 700");
        expect_number(object, "/channels/0/ring/calls/1/thread", THREAD_A);
        assert_true(json_object_get_boolean(at(object, "/channels/0/ring/calls/0/taken")));
        json_object_put(object);
        f->guest->slots[8].payload[0] = (uint64_t)IVG_ANSWER_AREA_BYTES << 32; /* elsewhere */
        object = dump(f, 1, 0);
        expect_text(object, "/channels/0/ring/calls/0/text", "cuStreamSynchronize(hStream=stream#42) = 0");
        json_object_put(object);
        f->guest->slots[8].payload[0] = (uint64_t)IVG_MAILBOX_PAYLOAD_BYTES << 32 | 1;
        object = dump(f, 1, 0);
        expect_text(object, "/channels/0/ring/calls/0/text", "cuStreamSynchronize(overwritten) = 1");
        expect_number(object, "/channels/0/ring/calls/0/overwritten_bytes", IVG_MAILBOX_PAYLOAD_BYTES);
        assert_false(json_object_object_get_ex(at(object, "/channels/0/ring/calls/0"), "thread", NULL));
        assert_false(json_object_object_get_ex(at(object, "/channels/0/ring/calls/0"), "line", NULL));
        json_object_put(object);
        ivg_producer_abandon(&b, &half);
        object = dump(f, 0, 0);
        expect_length(object, "/channels/0/ring/half_written", 0);
        expect_number(object, "/channels/0/ring/skips", 1);
        expect_length(object, "/channels/0/ring/calls", 0);
        json_object_put(object);
}

static void broken_rules_are_named(void **state)
{
        struct fixture *f = *state;
        struct json_object *object;

        ivg_store_relaxed_u64(&f->guest->slots[0].commit, ivg_commit_word(0, 65, IVG_SLOT_DATA, 1));
        ivg_store_relaxed_u64(&f->guest->slots[1].commit, ivg_commit_word(1, 1, IVG_SLOT_CONT, 0));
        ivg_store_relaxed_u64(&f->guest->slots[2].commit, ivg_commit_word(2, 2, IVG_SLOT_DATA, 1));
        ivg_store_relaxed_u64(&f->guest->tail, 5);
        object = dump(f, 0, 0);
        expect_text(object, "/channels/0/ring/broken/0/rule", "impossible length");
        expect_text(object, "/channels/0/ring/broken/1/rule", "neither data nor skip");
        expect_text(object, "/channels/0/ring/broken/2/rule", "a continuation is missing");
        expect_number(object, "/channels/0/ring/half_written/0/position", 4);
        json_object_put(object);
        ivg_store_relaxed_u64(&f->host->head, 6);
        object = dump(f, 0, 0);
        assert_true(json_object_get_boolean(at(object, "/channels/0/ring/impossible")));
        json_object_put(object);
}

static void a_saved_region_says_the_same(void **state)
{
        struct fixture *f = *state;
        char path[] = "/tmp/ivgpu-dump-test-XXXXXX", file[64];
        struct json_object *live, *saved;
        struct ivg_region_source source;
        struct ivg_error error = {""};
        struct ivg_producer a;

        assert_int_equal(ivg_producer_open(&f->ring, THREAD_A, &a), 0);
        send_call(&a, 0);
        memset(f->base + f->page->arena_offset, 0xee, IVG_EXTENT_BYTES); /* a program's data */
        assert_non_null(mkdtemp(path));
        snprintf(file, sizeof(file), "%s/saved", path);
        assert_int_equal(ivg_region_source_save(&f->source, file, &error), 0);
        assert_int_equal(ivg_region_source_save(&f->source, file, &error), -EEXIST);
        live = dump(f, 9, 0);
        ivg_region_source_close(&f->source);
        assert_int_equal(ivg_region_source_open_path(&source, file, &error), 0);
        f->source = source;
        saved = dump(f, 9, 0);
        assert_string_equal(json_object_to_json_string(live), json_object_to_json_string(saved));
        json_object_put(live);
        json_object_put(saved);
        assert_int_equal(ivg_region_source_read(&source, f->page->arena_offset, path, 1, &error), 0);
        assert_int_equal(path[0], 0);
        path[0] = '/';
        /* Cut while it is open. */
        assert_int_equal(truncate(file, IVG_PAGE_BYTES), 0);
        assert_null(ivg_dump_region(&source, &(struct ivg_dump_options){.channel = IVG_CHANNEL_NONE}, &error));
        assert_non_null(strstr(error.text, "has been cut"));
        unlink(file);
        rmdir(path);
}

/* ---- regions that are anything ---- */

static uint64_t random_state = 0x9e3779b97f4a7c15ull;

static uint64_t random_number(void)
{
        random_state ^= random_state << 13;
        random_state ^= random_state >> 7;
        random_state ^= random_state << 17;
        return random_state;
}

static uint64_t random_word(void)
{
        static const uint64_t edges[] = {0,    1,    63,         64,        65,         4095,
                                         4096, 4097, UINT32_MAX, INT64_MAX, UINT64_MAX, 1ull << 32};
        const uint64_t r = random_number();

        if (r % 3 == 0)
                return edges[r / 3 % (sizeof(edges) / sizeof(edges[0]))];
        if (r % 3 == 1) /* nearly a commit word */
                return ivg_commit_word(random_number() % IVG_RING_SLOTS, (uint32_t)(random_number() % 70),
                                       (enum ivg_slot_kind)(random_number() % 5), (uint16_t)(random_number() % 700));
        return random_number();
}

static void spoil(uint8_t *part, size_t bytes)
{
        for (uint64_t n = random_number() % RANDOM_WORDS_MAX; n > 0; n--) {
                const uint64_t word = random_word();

                memcpy(part + random_number() % (bytes / 8) * 8, &word, sizeof(word));
        }
}

static void nonsense_is_shown_or_refused(void **state)
{
        struct fixture *f = *state;
        const struct ivg_region_page page = *f->page;
        FILE *nowhere = fopen("/dev/null", "w");
        uint32_t shown = 0;

        assert_non_null(nowhere);
        for (uint32_t i = 0; i < RANDOM_IMAGES; i++) {
                const struct ivg_dump_options options = {.channel = IVG_CHANNEL_NONE,
                                                         .all_channels = true,
                                                         .calls = i % 2 ? 4096 : 3,
                                                         .look_again_ms = i % 16 == 0};
                struct ivg_error error = {""};
                struct json_object *object;

                memcpy(f->page, &page, sizeof(page));
                if (i % 8 == 0)
                        spoil((uint8_t *)f->page, sizeof(page));
                spoil((uint8_t *)f->guest_pages, page.guest_pages_bytes);
                spoil((uint8_t *)f->host_pages, page.host_pages_bytes);
                spoil((uint8_t *)f->guest, sizeof(*f->guest));
                spoil((uint8_t *)f->guest->slots, sizeof(f->guest->slots));
                spoil((uint8_t *)f->host, sizeof(*f->host));
                /* Often near the slots that are there. */
                ivg_store_relaxed_u64(&f->guest->tail, i % 4 == 0 ? random_word() : random_number() % 9000);
                ivg_store_relaxed_u64(&f->host->head, i % 4 == 1 ? random_word() : random_number() % 9000);
                object = ivg_dump_region(&f->source, &options, &error);
                if (!object) {
                        assert_true(error.text[0] != '\0');
                        continue;
                }
                assert_non_null(json_object_to_json_string(object));
                ivg_dump_print(nowhere, object);
                json_object_put(object);
                shown++;
        }
        fclose(nowhere);
        assert_true(shown >= RANDOM_IMAGES * 7 / 8);
}

static void no_region_is_named(void **state)
{
        struct fixture *f = *state;
        const struct ivg_dump_options options = {.channel = IVG_CHANNEL_NONE};
        struct ivg_error error = {""};

        f->page->region_bytes /= 2;
        assert_null(ivg_dump_region(&f->source, &options, &error));
        assert_non_null(strstr(error.text, "no region: region_bytes"));
        ivg_region_source_close(&f->source);
        assert_int_equal(ivg_region_source_open_path(&f->source, "/dev/null", &error), -EINVAL);
        assert_int_equal(ivg_region_source_open_path(&f->source, "/nowhere", &error), -ENOENT);
        f->source.fd = -1;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_known_region_is_told_word_by_word, setup, teardown),
                cmocka_unit_test_setup_teardown(broken_rules_are_named, setup, teardown),
                cmocka_unit_test_setup_teardown(a_saved_region_says_the_same, setup, teardown),
                cmocka_unit_test_setup_teardown(nonsense_is_shown_or_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(no_region_is_named, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
