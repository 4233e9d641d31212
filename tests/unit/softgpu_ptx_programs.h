/* For tests of ptx/programs.ptx: it is open while one of them runs, as `device`. */
#ifndef IVGPU_TESTS_SOFTGPU_PTX_PROGRAMS_H
#define IVGPU_TESTS_SOFTGPU_PTX_PROGRAMS_H

#include "softgpu_ptx.h"

static struct device *device;

static int open_programs(void **unused)
{
        (void)unused;
        device = device_open("programs.ptx");
        return 0;
}

static int close_programs(void **unused)
{
        (void)unused;
        device_close(device);
        return 0;
}

#endif
