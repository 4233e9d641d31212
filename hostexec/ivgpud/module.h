/* Parts of ivgpud that link a library which not every machine has: lib/ivgpu-host/NAME.so, loaded when they are needed.
 */
#ifndef IVGPUD_MODULE_H
#define IVGPUD_MODULE_H

#include "ivgpu/region.h"

/* What the module exports as `symbol`; NULL with words. A module stays loaded. */
const void *ivg_module_load(const char *name, const char *symbol, struct ivg_error *error);

#endif
