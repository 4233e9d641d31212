#include "build_mark.h"
#include "ivgpu/region_layout.h"
#include "ivgpu_calls.h"

extern const char ivg_build_mark[];
__attribute__((used)) const char ivg_build_mark[IVG_BUILD_MARK_BYTES] = IVG_BUILD_MARK;
