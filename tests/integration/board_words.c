/* Tells tests that are no C programs where words of the board lie: NAME OFFSET a line. */
#include "board.h"
#include <stdio.h>

#define WORD(name) printf("%s %zu\n", #name, offsetof(struct ivg_board, name))

int main(void)
{
        WORD(orders.unwatched);
        WORD(counters.call_since_ns);
        WORD(counters.lane_since_ns[5]);
        WORD(uses[2].busy_since_ns);
        WORD(uses[2].progress_ns);
        return 0;
}
