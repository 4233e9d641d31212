/* How long the sides of a ring rest: the search finds the best length, ends when it should and keeps what it found, and
 * only those rest who may. */
#include "ring_fixture.h"

#define LENGTH_MAX (IVG_REST_LENGTHS * IVG_REST_LENGTHS / 3 + IVG_REST_FINE_LENGTHS / 2)
#define SEARCH_ROUNDS ((IVG_REST_LENGTHS + IVG_REST_FINE_LENGTHS + 1) * IVG_REST_SWEEPS * IVG_REST_TRIAL_ROUNDS)

/* The learning without the resting, which would take seconds here. */
static void round_passes(struct ivg_rest *rest)
{
        if (rest->rounds_left-- == 0)
                ivg_rest_learn(rest);
        assert_true(rest->length <= LENGTH_MAX);
}

static void search_ends_and_its_result_is_kept_longer_each_time(void **state)
{
        struct ivg_rest rest = {0};
        uint32_t kept = IVG_REST_ROUNDS_KEPT_MIN;

        (void)state;
        for (uint32_t search = 0; search < 8; search++) {
                uint32_t length;

                for (uint32_t round = 0; round < SEARCH_ROUNDS; round++) {
                        round_passes(&rest);
                        assert_int_not_equal(rest.stage, IVG_REST_KEPT);
                }
                round_passes(&rest);
                length = rest.length;
                for (uint32_t round = 1; round < kept; round++) {
                        assert_int_equal(rest.stage, IVG_REST_KEPT);
                        assert_int_equal(rest.length, length);
                        round_passes(&rest);
                }
                kept = kept < IVG_REST_ROUNDS_KEPT_MAX ? 2 * kept : kept;
        }
}

/* A clock that never was: the next reading is earlier than the last. */
static void search_survives_a_clock_that_goes_back(void **state)
{
        struct ivg_rest rest = {0};

        (void)state;
        for (uint32_t round = 0; round <= SEARCH_ROUNDS; round++) {
                round_passes(&rest);
                rest.begin_ticks = UINT64_MAX / 2;
        }
        assert_int_equal(rest.stage, IVG_REST_KEPT);
}

#define BEST 41u
#define TRIAL_TICKS (1ull << 40) /* minutes, beside which it does not matter what the test itself takes */

static uint64_t ticks_with(uint32_t length, uint64_t per_step)
{
        return TRIAL_TICKS + per_step * (length > BEST ? length - BEST : BEST - length);
}

/* One search in which trials take what the test says; one in `interrupted_every` takes ten times as long. */
static void search(struct ivg_rest *rest, uint64_t per_step, uint32_t interrupted_every)
{
        uint32_t trials = 0;

        rest->rounds_left = 0;
        do {
                if (rest->rounds_left == 0) {
                        uint64_t ticks = ticks_with(rest->length, per_step);

                        if (interrupted_every != 0 && ++trials % interrupted_every == 0)
                                ticks *= 10;
                        rest->begin_ticks = ivg_cpu_ticks() - ticks;
                }
                round_passes(rest);
        } while (rest->stage != IVG_REST_KEPT);
}

static void search_finds_the_best_length(void **state)
{
        static const uint32_t interrupted_every[] = {0, 7, 35};

        (void)state;
        for (uint32_t i = 0; i < 3; i++) {
                struct ivg_rest rest = {.length = 160};

                search(&rest, TRIAL_TICKS / 10, interrupted_every[i]);
                assert_int_equal(rest.length, BEST);
        }
}

static void length_stays_beside_one_that_is_hardly_better(void **state)
{
        struct ivg_rest rest = {.length = BEST + 20};

        (void)state;
        search(&rest, TRIAL_TICKS / IVG_REST_CLEARLY / 25, 0); /* 20 of 25 parts of what would be clearly worse */
        assert_int_equal(rest.length, BEST + 20);
        search(&rest, TRIAL_TICKS / IVG_REST_CLEARLY / 15, 0);
        assert_int_equal(rest.length, BEST);
}

/* Two sides that begin at once and take turns: where one tries lengths, the other keeps its own. */
static void sides_do_not_search_at_once(void **state)
{
        struct ring_fixture f;

        (void)state;
        fixture_open(&f, 0);
        for (uint32_t round = 0; round < 4 * IVG_REST_ROUNDS_KEPT_MAX; round++) {
                round_passes(&f.consumer.rest);
                round_passes(&f.producer.rest);
                assert_true(f.consumer.rest.stage == IVG_REST_KEPT || f.producer.rest.stage == IVG_REST_KEPT);
        }
        fixture_close(&f);
}

static uint32_t rests_of(struct ring_fixture *f)
{
        const uint32_t before = f->consumer.rest.rounds_left;

        ivg_consumer_rest(&f->consumer, &f->batch);
        return before - f->consumer.rest.rounds_left;
}

static void consumer_rests_behind_the_answer_to_a_single_record(void **state)
{
        struct ring_fixture f;

        (void)state;
        fixture_open(&f, 0);
        f.consumer.rest.rounds_left = 1000; /* with length 0 */
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 0);
        assert_int_equal(rests_of(&f), 0); /* nothing was taken */

        assert_false(fixture_send(&f, 1, 8, 1));
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 1);
        assert_int_equal(rests_of(&f), 0); /* not answered: posted, or a lane has it */
        assert_int_equal(ivg_consumer_answer(&f.consumer, f.producer.index, 1, 0, NULL, 0), 0);
        assert_int_equal(rests_of(&f), 0); /* nor in its slot */
        assert_int_equal(ivg_consumer_answer_record(&f.consumer, &f.batch.records[0], f.producer.index, 1, 0, NULL, 0),
                         0);
        assert_int_equal(rests_of(&f), 1);

        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 0);
        assert_int_equal(rests_of(&f), 0); /* once a round */

        f.consumer.next_alone = false; /* more than one at once */
        assert_false(fixture_send(&f, 2, 8, 1));
        assert_false(fixture_send(&f, 3, 8, 1));
        assert_int_equal(ivg_consumer_take(&f.consumer, &f.batch), 2);
        assert_int_equal(ivg_consumer_answer_record(&f.consumer, &f.batch.records[1], f.producer.index, 2, 0, NULL, 0),
                         0);
        assert_int_equal(rests_of(&f), 0);
        fixture_close(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(search_ends_and_its_result_is_kept_longer_each_time),
                cmocka_unit_test(search_survives_a_clock_that_goes_back),
                cmocka_unit_test(search_finds_the_best_length),
                cmocka_unit_test(length_stays_beside_one_that_is_hardly_better),
                cmocka_unit_test(sides_do_not_search_at_once),
                cmocka_unit_test(consumer_rests_behind_the_answer_to_a_single_record),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
