#include "ivgpu/number.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

bool ivg_number_read(const char *text, uint64_t min, uint64_t max, uint64_t *number)
{
        unsigned long long value;
        char *end;

        if (text[0] < '0' || text[0] > '9') /* strtoull would take blanks and signs */
                return false;
        errno = 0;
        value = strtoull(text, &end, 10);
        if (errno != 0 || *end != '\0' || value < min || value > max)
                return false;
        *number = value;
        return true;
}

bool ivg_number_option(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *number)
{
        if (ivg_number_read(text, min, max, number))
                return true;
        fprintf(stderr, "%s: --%s: \"%s\" is no number from %" PRIu64 " to %" PRIu64 "\n",
                program_invocation_short_name, option, text, min, max);
        return false;
}
