/* Where callgrind counts: between two toggles, in the thread that makes them. Nothing without valgrind. */
#ifndef IVG_GUARD_COLLECT_H
#define IVG_GUARD_COLLECT_H

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#define GUARD_TOGGLE_COLLECT() CALLGRIND_TOGGLE_COLLECT
#else
#define GUARD_TOGGLE_COLLECT() ((void)0)
#endif

#endif
