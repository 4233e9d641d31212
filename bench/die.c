#include "measure.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void bench_die(const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        fprintf(stderr, "%s: ", program_invocation_short_name);
        vfprintf(stderr, format, arguments);
        fputc('\n', stderr);
        va_end(arguments);
        exit(1);
}
