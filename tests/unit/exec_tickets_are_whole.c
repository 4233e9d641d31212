/* IPC tickets between two executors of one tenant: what one publishes the other finds whole, and nobody finds what was
 * withdrawn, what is of another kind, or a ticket that differs by one bit. The finder gets the ticket by relaxed
 * stores, so that only T1 and T2 (ipc.c) order the place behind it; ThreadSanitizer tells what they lack. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "exec_internal.h"
#include "ipc_table.h"
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#define ADDRESS 0x7000u
#define ROUNDS 200u

static struct ivg_exec exporter, opener;
static _Atomic(uint64_t) passed[IVG_IPC_HANDLE_BYTES / 8]; /* the ticket, by the guest's own means */
static _Atomic(uint32_t) rounds_sent, rounds_found;
static const char *complaint;

static void handle_fill(uint8_t handle[IVG_IPC_HANDLE_BYTES], uint32_t round)
{
        memset(handle, (int)(round % 250 + 1), IVG_IPC_HANDLE_BYTES);
}

static const char *find(uint32_t round)
{
        uint8_t wanted[IVG_IPC_HANDLE_BYTES], found[IVG_IPC_HANDLE_BYTES];
        uint64_t ticket[IVG_IPC_HANDLE_BYTES / 8];

        for (size_t i = 0; i < sizeof(ticket) / sizeof(ticket[0]); i++)
                ticket[i] = ivg_load_relaxed_u64(&passed[i]);
        handle_fill(wanted, round);
        if (ivg_ipc_find(&opener, IVG_IPC_MEMORY, ticket, found) != CUDA_SUCCESS)
                return "a ticket was not found";
        if (memcmp(found, wanted, sizeof(found)) != 0)
                return "another handle";
        if (ivg_ipc_find(&opener, IVG_IPC_EVENT, ticket, found) != CUDA_ERROR_INVALID_VALUE)
                return "found as another kind";
        ticket[2] ^= 1; /* of the secret */
        if (ivg_ipc_find(&opener, IVG_IPC_MEMORY, ticket, found) != CUDA_ERROR_INVALID_VALUE)
                return "a forged ticket was found";
        return NULL;
}

static void *finder(void *unused)
{
        for (uint32_t round = 0; round < ROUNDS && !complaint; round++) {
                while (ivg_load_relaxed_u32(&rounds_sent) == round)
                        sched_yield();
                complaint = find(round);
                ivg_store_release_u32(&rounds_found, round + 1);
        }
        return unused;
}

static void send_ticket(uint32_t round)
{
        uint8_t handle[IVG_IPC_HANDLE_BYTES];
        const struct ivg_ipc_export object = {
                .kind = IVG_IPC_MEMORY, .address = ADDRESS, .bytes = 4096, .handle = handle, .fd = -1};
        uint64_t ticket[IVG_IPC_HANDLE_BYTES / 8];

        handle_fill(handle, round);
        assert_int_equal(ivg_ipc_publish(&exporter, &object, ticket), CUDA_SUCCESS);
        for (size_t i = 0; i < sizeof(ticket) / sizeof(ticket[0]); i++)
                ivg_store_relaxed_u64(&passed[i], ticket[i]);
        ivg_store_relaxed_u32(&rounds_sent, round + 1);
}

static void what_is_found_is_whole_and_ends(void **state)
{
        uint8_t found[IVG_IPC_HANDLE_BYTES];
        uint64_t ticket[IVG_IPC_HANDLE_BYTES / 8];
        pthread_t thread;

        (void)state;
        assert_int_equal(pthread_create(&thread, NULL, finder, NULL), 0);
        for (uint32_t round = 0; round < ROUNDS; round++) {
                send_ticket(round);
                while (ivg_load_acquire_u32(&rounds_found) == round)
                        sched_yield();
                if (complaint)
                        break;
                ivg_ipc_withdraw(&exporter, IVG_IPC_MEMORY, ADDRESS);
                for (size_t i = 0; i < sizeof(ticket) / sizeof(ticket[0]); i++)
                        ticket[i] = ivg_load_relaxed_u64(&passed[i]);
                assert_int_equal(ivg_ipc_find(&opener, IVG_IPC_MEMORY, ticket, found), CUDA_ERROR_INVALID_VALUE);
        }
        pthread_join(thread, NULL);
        if (complaint)
                fail_msg("%s", complaint);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_found_is_whole_and_ends),
        };
        const int fd = ivg_ipc_table_create();

        exporter.ipc = ivg_ipc_map(fd);
        opener.ipc = exporter.ipc; /* one mapping: ThreadSanitizer goes by addresses */
        if (!exporter.ipc)
                return 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
