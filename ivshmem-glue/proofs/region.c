/* What Eva is asked about the check of a region page (tools/prove): that no content of the page makes it read or write
 * outside its arrays, divide by 0, or compute a bound that wraps around. In steps: page_copy's contract is what
 * ivg_region_check may rely on. Not shown: the two sums of check_overlap (docs/trust.md). */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "glue_internal.h"
#include "ivgpu/region.h"

volatile int ivg_any;
static volatile uint64_t any_u64;

struct part;

/* Every content: three cases of the one number that is divided by, since Eva knows one value by itself, and none of two
 * together. */
/*@ requires page: \valid_read(page);
    requires copy: \valid(copy);
    assigns *copy \from \nothing;
    ensures \initialized(copy);
    ensures copy->channel_count == 0 || 1 <= copy->channel_count <= IVG_CHANNELS_MAX ||
            copy->channel_count > IVG_CHANNELS_MAX; */
static void page_copy(const struct ivg_region_page *page, struct ivg_region_page *copy);

/*@ assigns \result \from *a, *b; */
static int check_overlap(const struct part *a, const struct part *b, struct ivg_error *error);

/* The library's is known to Frama-C by logic that Eva does not read. */
static void *find_byte(const void *bytes, int byte, size_t count)
{
        const unsigned char *at = bytes;

        for (size_t i = 0; i < count; i++)
                if (at[i] == (unsigned char)byte) {
                        //@ split i;
                        return (void *)(at + i);
                }
        return NULL;
}
#define memchr find_byte

#include "region_check.c"

static struct ivg_region_page page, copy;
static struct ivg_region region;
static struct ivg_error error;

void prove_region_copy(void)
{
        page_copy(&page, &copy);
}

/* Any page, any size of the file, any fingerprint. */
void prove_region(void)
{
        (void)ivg_region_check(&page, any_u64, any_u64, &region, &error);
}
