#include "module.h"
#include "driver_find.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

const void *ivg_module_load(const char *name, const char *symbol, struct ivg_error *error)
{
        char relative[64], path[IVG_DRIVER_PATH_BYTES];
        const void *exported;
        const char *why;
        void *module;
        int rc;

        snprintf(relative, sizeof(relative), "../lib/ivgpu-host/%s.so", name);
        strcpy(path, relative);
        rc = ivg_path_beside_program(relative, path);
        module = rc == 0 ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
        exported = module ? dlsym(module, symbol) : NULL;
        if (!exported) {
                why = rc == 0 ? dlerror() : strerror(-rc);
                ivg_error_set(error, "%.100s: %.150s", rc == 0 ? path : relative, why ? why : "not ours");
        }
        return exported;
}
