/* Libraries that driver_find must judge; FAKE_DRIVER says what is wrong with this one. */
#include <signal.h>

#define CAN_BE 0
#define KILLS_AT_LOAD 1
#define IS_SHIM 2
#define LACKS_NAMES 3

int cuInit(unsigned int flags);

#if FAKE_DRIVER == IS_SHIM
extern const char fake_driver_mark[];
const char fake_driver_mark[] = "IVGPU_CHANNEL";
#endif

#if FAKE_DRIVER == KILLS_AT_LOAD
__attribute__((constructor)) static void load(void)
{
        raise(SIGKILL); /* the test program catches what a wild pointer would raise */
}
#endif

#if FAKE_DRIVER != LACKS_NAMES
__attribute__((visibility("default"))) int cuInit(unsigned int flags)
{
        return (int)flags;
}
#else
extern const int fake_driver_nothing;
const int fake_driver_nothing = 1;
#endif
