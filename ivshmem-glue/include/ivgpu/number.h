/* Numbers that people give: in one way for all programs, and refused with what they are. */
#ifndef IVGPU_NUMBER_H
#define IVGPU_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/* Decimal digits and nothing else. False, and *number untouched: they are not, or the number is not in min..max. */
bool ivg_number_read(const char *text, uint64_t min, uint64_t max, uint64_t *number);
/* Of a command line's --option; false after a line on stderr that names program, option, text and bounds. */
bool ivg_number_option(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *number);

#endif
