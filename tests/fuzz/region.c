/* A region page with anything in it: what passes the check lies inside the file, disjoint and aligned.
 *
 * Input: u8 size of the file (a power of two, or one more byte), then changes of a good page: u8 which 32-bit word,
 * u8 how (store, add, xor, shift), u64 with what. */
#include "ivgpu/region.h"
#include "fuzz.h"
#include <unistd.h>

#define FINGERPRINT 0x1234567890abcdefull
#define BYTES (64ull << 20)

static struct ivg_region_page good;

static void make_good(void)
{
        const struct ivg_region_config config = {.region_bytes = BYTES,
                                                 .channel_count = 4,
                                                 .vector_count = 5,
                                                 .vm_id = 3,
                                                 .vm_name = "fuzz",
                                                 .call_table_fingerprint = FINGERPRINT};
        struct ivg_error error = {.text = ""};
        int fd = -1;

        MUST(ivg_region_create(&config, &fd, &error) == 0, "%s", error.text);
        MUST(pread(fd, &good, sizeof(good), 0) == (ssize_t)sizeof(good), "page");
        close(fd);
}

static void change(struct fuzz_input *input, uint32_t *words, size_t count)
{
        const size_t at = fuzz_take_number(input, 1) % (count - 1);
        const uint32_t how = (uint32_t)fuzz_take_number(input, 1) % 4;
        const uint64_t with = fuzz_take_number(input, 8);
        uint64_t value;

        memcpy(&value, &words[at], sizeof(value));
        value = how == 0 ? with : how == 1 ? value + with : how == 2 ? value ^ with : value << (with % 64);
        memcpy(&words[at], &value, sizeof(value));
}

static void check(const struct ivg_region *region, uint64_t file_bytes)
{
        const struct {
                uint64_t start, bytes;
        } parts[] = {{0, IVG_PAGE_BYTES},
                     {region->guest_pages_offset, region->guest_pages_bytes},
                     {region->host_pages_offset, region->host_pages_bytes},
                     {region->channels_offset, region->channel_stride * region->channel_count},
                     {region->arena_offset, region->arena_bytes}};

        MUST(region->region_bytes <= file_bytes, "region of %llu", (unsigned long long)region->region_bytes);
        MUST(region->channel_count >= 1 && region->channel_count <= IVG_CHANNELS_MAX, "%u", region->channel_count);
        MUST(region->channel_stride >= IVG_CHANNEL_STRIDE && region->channel_stride < file_bytes, "stride");
        MUST((uint64_t)region->extent_count * IVG_EXTENT_BYTES <= region->arena_bytes, "%u", region->extent_count);
        MUST(sizeof(struct ivg_guest_pages) + 4ull * region->extent_count <= region->guest_pages_bytes, "owners");
        MUST(sizeof(struct ivg_host_pages) <= region->host_pages_bytes, "host pages");
        MUST(memchr(region->vm_name, 0, sizeof(region->vm_name)), "a name without end");
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
                MUST(parts[i].start % IVG_PAGE_BYTES == 0, "part %zu", i);
                MUST(parts[i].start <= file_bytes && parts[i].bytes <= file_bytes - parts[i].start, "part %zu", i);
                for (size_t k = 0; k < i; k++)
                        MUST(parts[i].start >= parts[k].start + parts[k].bytes ||
                                     parts[k].start >= parts[i].start + parts[i].bytes,
                             "parts %zu and %zu", k, i);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct fuzz_input input = {data, size};
        struct ivg_error error = {.text = ""};
        struct ivg_region region;
        union {
                struct ivg_region_page page;
                uint32_t words[sizeof(struct ivg_region_page) / 4];
        } bad;
        uint64_t file_bytes;
        uint32_t changes = 0;
        int rc;

        if (!good.region_bytes)
                make_good();
        bad.page = good;
        file_bytes = fuzz_take_number(&input, 1);
        file_bytes = file_bytes == 0 ? BYTES : (1ull << (file_bytes % 64)) + file_bytes / 128;
        for (; input.left > 0 && changes < 32; changes++)
                change(&input, bad.words, sizeof(bad.words) / sizeof(bad.words[0]));
        memset(&region, 0xee, sizeof(region));
        rc = ivg_region_check(&bad.page, file_bytes, FINGERPRINT, &region, &error);
        MUST(rc <= 0, "%d", rc);
        MUST(rc == 0 || error.text[0], "refused without words");
        if (rc == 0)
                check(&region, file_bytes);
        else
                MUST(changes > 0 || file_bytes != BYTES, "%s", error.text);
        return 0;
}
