/* What kernels print (printf, assert): the driver has printed it in the executor; here it reaches the program's
 * streams.
 *
 * Fetched by whichever thread's call made the driver print it, before that call returns: as on bare metal, text is
 * there when a synchronization is over, and in order with what the program prints through stdio. */
#include "guest.h"
#include "guest_send.h"
#include <stdio.h>

_Atomic(uint64_t) ivg_output_seen;

static pthread_mutex_t output_lock = PTHREAD_MUTEX_INITIALIZER; /* texts of several threads do not mix */
static char output_text[IVG_OUTPUT_FETCH_BYTES];                /* under the lock */

static void fetch_stream(uint32_t number, FILE *stream)
{
        uint32_t used;

        do {
                used = 0;
                if (ivg_send_ivgOutputFetch(number, output_text, sizeof(output_text), &used) != CUDA_SUCCESS)
                        return; /* a lost executor, or the arena is full: what is lost is text */
                if (used > sizeof(output_text))
                        return;
                fwrite(output_text, 1, used, stream);
        } while (used == sizeof(output_text));
}

void ivg_output_fetch(void)
{
        struct ivg_thread *thread = ivg_thread_local();
        const _Atomic(uint64_t) *words =
                ivg_region_completions(ivg_link_region(ivg_process.link), ivg_link_channel(ivg_process.link));
        uint64_t printed;

        thread->fetching_output = true;
        pthread_mutex_lock(&output_lock);
        /* Before fetching: what is printed meanwhile moves the word again. Relaxed as in ivg_output_is_there. */
        printed = ivg_load_relaxed_u64(&words[IVG_OUTPUT_PRINTED]);
        if (printed != ivg_load_relaxed_u64(&ivg_output_seen)) {
                fetch_stream(1, stdout);
                fetch_stream(2, stderr);
                ivg_store_relaxed_u64(&ivg_output_seen, printed);
        }
        pthread_mutex_unlock(&output_lock);
        thread->fetching_output = false;
}
