/* Claims by compare-and-swap: first fit, fragmentation, exhaustion, and no extent owned twice with four threads at it.
 */
#include "glue_fixture.h"
#include <pthread.h>

#ifdef IVG_TSAN
#define ROUNDS 4000
#else
#define ROUNDS 20000
#endif
#define THREADS 4u

/* A link that leads nowhere: extents need only the mapped region, a channel, and a transport that leaves them to us. */
struct extents_fixture {
        int fd;
        struct ivg_link link;
};

static int extents_setup(void **state)
{
        struct extents_fixture *fixture = aligned_alloc(64, sizeof(*fixture));

        memset(fixture, 0, sizeof(*fixture));
        fixture->fd = test_region(2, 3);
        fixture->link.region = test_map(fixture->fd, IVG_SIDE_GUEST, 1);
        fixture->link.channel = 1;
        fixture->link.transport = &ivg_link_transport_sysfs;
        *state = fixture;
        return 0;
}

static int extents_teardown(void **state)
{
        struct extents_fixture *fixture = *state;

        ivg_region_unmap(&fixture->link.region);
        close(fixture->fd);
        free(fixture);
        return 0;
}

static uint32_t extents_owned(const struct ivg_link *link, uint32_t channel)
{
        uint32_t count = 0;

        for (uint32_t i = 0; i < link->region.extent_count; i++)
                count += ivg_load_acquire_u32(&ivg_region_guest_pages(&link->region)->extent_owner[i]) == channel + 1;
        return count;
}

static void exhaustion_and_return(void **state)
{
        struct ivg_link *link = &((struct extents_fixture *)*state)->link;
        const uint32_t count = link->region.extent_count;
        uint32_t first = 99;

        assert_true(count > 20);
        for (uint32_t i = 0; i < count; i++) {
                assert_int_equal(ivg_link_extents_claim(link, 1, &first), 0);
                assert_int_equal(first, i);
        }
        assert_int_equal(ivg_link_extents_claim(link, 1, &first), -ENOSPC);
        assert_int_equal(extents_owned(link, 1), count);
        ivg_link_extents_release(link, 0, count);
        assert_int_equal(extents_owned(link, 1), 0);
        assert_int_equal(ivg_link_extents_claim(link, count, &first), 0);
        assert_int_equal(first, 0);
        ivg_link_extents_release(link, 0, count);
        assert_int_equal(ivg_link_extents_claim(link, count + 1, &first), -ENOSPC);
        assert_int_equal(ivg_link_extents_claim(link, UINT32_MAX, &first), -ENOSPC);
        assert_int_equal(ivg_link_extents_claim(link, 0, &first), -EINVAL);
}

static void fragments_are_skipped_and_filled(void **state)
{
        struct ivg_link *link = &((struct extents_fixture *)*state)->link;
        const uint32_t count = link->region.extent_count;
        uint32_t first;

        assert_int_equal(ivg_link_extents_claim(link, count, &first), 0);
        for (uint32_t i = 0; i < count; i += 2)
                ivg_link_extents_release(link, i, 1);
        assert_int_equal(ivg_link_extents_claim(link, 2, &first), -ENOSPC);
        ivg_link_extents_release(link, 5, 1); /* 4, 5, 6 are free now */
        assert_int_equal(ivg_link_extents_claim(link, 3, &first), 0);
        assert_int_equal(first, 4);
        assert_int_equal(ivg_link_extents_claim(link, 1, &first), 0);
        assert_int_equal(first, 0);
        ivg_guest_extents_release_all(&link->region, 1);
        assert_int_equal(extents_owned(link, 1), 0);
}

static void another_channels_extents_stay_its_own(void **state)
{
        struct ivg_link *link = &((struct extents_fixture *)*state)->link;
        _Atomic(uint32_t) *owner = ivg_region_guest_pages(&link->region)->extent_owner;
        uint32_t first;

        ivg_store_release_u32(&owner[3], 1); /* channel 0 */
        assert_int_equal(ivg_link_extents_claim(link, 4, &first), 0);
        assert_int_equal(first, 4);
        ivg_guest_extents_release_all(&link->region, 1);
        assert_int_equal(ivg_load_acquire_u32(&owner[3]), 1);
        assert_int_equal(extents_owned(link, 0), 1);
}

struct claimer {
        struct ivg_link *link;
        _Atomic(uint32_t) *users; /* per extent: threads that believe to own it; relaxed, so as to order nothing */
        uint32_t *notes;          /* per extent, plain, of its owner: only E1 and E2 (link_extents.c) pass them on */
        uint32_t seed;
        uint32_t claims, refusals, doubly_owned;
        uint64_t extents;
};

static uint32_t next_random(uint32_t *seed)
{
        *seed ^= *seed << 13;
        *seed ^= *seed >> 17;
        *seed ^= *seed << 5;
        return *seed;
}

static void *claim_and_release(void *arg)
{
        struct claimer *claimer = arg;

        for (uint32_t round = 0; round < ROUNDS; round++) {
                const uint32_t count = 1 + next_random(&claimer->seed) % 9;
                uint32_t first;

                if (ivg_link_extents_claim(claimer->link, count, &first) != 0) {
                        claimer->refusals++;
                        continue;
                }
                claimer->claims++;
                for (uint32_t i = first; i < first + count; i++) {
                        claimer->doubly_owned +=
                                atomic_fetch_add_explicit(&claimer->users[i], 1, memory_order_relaxed) != 0;
                        claimer->notes[i]++;
                }
                claimer->extents += count;
                for (uint32_t i = first; i < first + count; i++)
                        atomic_fetch_sub_explicit(&claimer->users[i], 1, memory_order_relaxed);
                ivg_link_extents_release(claimer->link, first, count);
        }
        return NULL;
}

static void four_threads_never_own_one_extent_twice(void **state)
{
        struct ivg_link *link = &((struct extents_fixture *)*state)->link;
        _Atomic(uint32_t) *users = calloc(link->region.extent_count, sizeof(*users));
        uint32_t *notes = calloc(link->region.extent_count, sizeof(*notes));
        uint64_t noted = 0, extents = 0;
        static struct ivg_link links[THREADS]; /* as of so many processes: no lock of theirs is shared */
        struct claimer claimers[THREADS];
        pthread_t threads[THREADS];

        for (uint32_t i = 0; i < THREADS; i++) {
                memcpy(&links[i], link, sizeof(*link));
                links[i].channel = i;
                claimers[i] = (struct claimer){.link = &links[i], .users = users, .notes = notes, .seed = 77 + i};
                assert_int_equal(pthread_create(&threads[i], NULL, claim_and_release, &claimers[i]), 0);
        }
        for (uint32_t i = 0; i < THREADS; i++) {
                pthread_join(threads[i], NULL);
                assert_int_equal(claimers[i].doubly_owned, 0);
                assert_int_equal(claimers[i].claims + claimers[i].refusals, ROUNDS);
                /* How many are refused depends on who is preempted while it holds extents. */
                assert_true(claimers[i].claims > 0);
                extents += claimers[i].extents;
        }
        for (uint32_t i = 0; i < link->region.extent_count; i++)
                noted += notes[i];
        assert_int_equal(noted, extents); /* no owner lost another's note */
        for (uint32_t i = 0; i < THREADS; i++)
                assert_int_equal(extents_owned(link, i), 0);
        free(users);
        free(notes);
}

/* Two runs fit, two threads want one each: neither may be told that there is no room because the other was in its way.
 */
static void *claim_half(void *arg)
{
        struct claimer *claimer = arg;
        const uint32_t half = claimer->link->region.extent_count / 2;

        for (uint32_t round = 0; round < ROUNDS / 10; round++) {
                uint32_t first;

                if (ivg_link_extents_claim(claimer->link, half, &first) != 0)
                        claimer->refusals++;
                else
                        ivg_link_extents_release(claimer->link, first, half);
        }
        return NULL;
}

static void room_for_both_is_given_to_both(void **state)
{
        struct ivg_link *link = &((struct extents_fixture *)*state)->link;
        struct claimer claimers[2] = {{.link = link}, {.link = link}};
        pthread_t threads[2];
        uint32_t first;

        /* Keep exactly two halves free, and those on fixed places. */
        if (link->region.extent_count % 2 != 0)
                assert_int_equal(ivg_link_extents_claim(link, 1, &first), 0);
        for (int i = 0; i < 2; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, claim_half, &claimers[i]), 0);
        for (int i = 0; i < 2; i++)
                pthread_join(threads[i], NULL);
        assert_int_equal(claimers[0].refusals + claimers[1].refusals, 0);
}

int main(void)
{
#define EXTENTS_TEST(name) cmocka_unit_test_setup_teardown(name, extents_setup, extents_teardown)
        const struct CMUnitTest tests[] = {
                EXTENTS_TEST(exhaustion_and_return),
                EXTENTS_TEST(fragments_are_skipped_and_filled),
                EXTENTS_TEST(another_channels_extents_stay_its_own),
                EXTENTS_TEST(four_threads_never_own_one_extent_twice),
                EXTENTS_TEST(room_for_both_is_given_to_both),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
