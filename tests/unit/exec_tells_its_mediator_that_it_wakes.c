/* A mediator that has stopped looking at an executor is kicked by its consumer's next wake-up, and by no other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_fixture.h"
#include <cmocka.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 20u
#define WAIT_S 20u

static bool consumer_sleeps(const struct exec_fixture *f)
{
        const struct timespec pause = {.tv_nsec = 1000000};

        for (uint32_t ms = 0; ms < WAIT_S * 1000u; ms++) {
                if (ivg_load_seq_cst_u64(&f->exec->consumer.host->sleep_at) != 0)
                        return true;
                nanosleep(&pause, NULL);
        }
        return false;
}

/* The mediator's part: W1, W2. False: the consumer is awake. */
static bool stop_watching(struct exec_fixture *f)
{
        (void)ivg_exchange_seq_cst_u32(&f->exec->board->orders.unwatched, 1);
        if (consumer_sleeps(f))
                return true;
        (void)ivg_exchange_seq_cst_u32(&f->exec->board->orders.unwatched, 0);
        return false;
}

static void a_wake_up_kicks_who_does_not_look(void **state)
{
        struct exec_fixture *f = *state;
        const int kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        eventfd_t kicks;

        f->exec->kick_fd = kick_fd;
        for (uint32_t round = 0; round < ROUNDS; round++) {
                assert_true(consumer_sleeps(f));
                assert_true(stop_watching(f));
                assert_int_equal(eventfd_read(kick_fd, &kicks), -1); /* its sleep tells nobody */
                fixture_settle(f, &f->producer);
                assert_int_equal(eventfd_read(kick_fd, &kicks), 0);
                (void)ivg_exchange_seq_cst_u32(&f->exec->board->orders.unwatched, 0);
                assert_true(consumer_sleeps(f));
                (void)eventfd_read(kick_fd, &kicks); /* one more, from before the exchange */
                fixture_settle(f, &f->producer);
                assert_int_equal(eventfd_read(kick_fd, &kicks), -1);
        }
        f->exec->kick_fd = -1;
        close(kick_fd);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_wake_up_kicks_who_does_not_look, fixture_setup, fixture_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
