#include "ring_headers.h"

void ring_layout_facts_cxx(uint64_t facts[RING_LAYOUT_FACTS_COUNT])
{
        const uint64_t cxx[] = {RING_LAYOUT_FACTS};

        static_assert(sizeof(cxx) / sizeof(cxx[0]) == RING_LAYOUT_FACTS_COUNT, "one count for both languages");
        for (int i = 0; i < RING_LAYOUT_FACTS_COUNT; i++)
                facts[i] = cxx[i];
}
