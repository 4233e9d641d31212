/* Functions and kernels, modules and libraries: what module.c, library.c, kernel.c, launch.c and occupancy.c share.
 *
 *   module  ──< function                    a module's functions, by name
 *   library ──< kernel ──< function         a kernel's functions, one per context; they share the kernel's description
 *           └─< module                      one per context
 * The same thing asked twice is the same handle. Descriptions (parameter layout, attributes) are fetched in one call at
 * the first need and cached until the module or library goes. */
#ifndef IVG_GUEST_FUNCTION_H
#define IVG_GUEST_FUNCTION_H

#include "guest.h"
#pragma GCC visibility push(hidden)

/* ---- descriptions (function.c) ---- */

/* Kernel parameters are at most 32764 bytes since CUDA 12.1 (4096 before). */
#define IVG_PARAMETER_BYTES_MAX 32764u
struct ivg_function_layout { /* constant once published */
        uint32_t count;
        uint32_t bytes; /* of the packed parameters: the furthest end */
        struct ivg_wire_parameter parameters[];
};

#define IVG_OCCUPANCY_CACHE 16u
struct ivg_function_attributes { /* of one device */
        _Atomic(uint32_t) known; /* bit per attribute */
        _Atomic(uint32_t) values[IVG_FUNCTION_ATTRIBUTES];
        _Atomic(uint64_t) occupancy[IVG_OCCUPANCY_CACHE]; /* see occupancy.c */
};

struct ivg_function_instance { /* a kernel's function in one context; prepended, never removed before the kernel */
        struct ivg_function_instance *next;
        ivg_id context;
        ivg_id id; /* of the function: its cell may have another tenant once the context has gone */
        struct ivg_object *function;
};

struct ivg_function {              /* `data` of FUNCTION and KERNEL objects */
        struct ivg_object *owner;  /* module or library */
        struct ivg_object *kernel; /* NULL for a module's function */
        char *name;
        _Atomic(struct ivg_function_layout *) layout;
        _Atomic(struct ivg_function_attributes *) attributes[IVG_DEVICES_MAX];
        _Atomic(struct ivg_function_instance *) instances; /* kernels only */
        struct ivg_first_launch *first_launch;             /* NULL: nothing set; launch_first.c's */
};

/* Object and description of a function or kernel called `name`, of `owner`. */
CUresult ivg_function_create(enum ivg_kind kind, struct ivg_object *context, struct ivg_object *owner, const char *name,
                             struct ivg_object **object);
/* A kernel's function in `context`: shares the kernel's description, which outlives it. */
CUresult ivg_function_create_of_kernel(struct ivg_object *kernel, struct ivg_object *context,
                                       struct ivg_object **object);

/* The description behind a FUNCTION or KERNEL object. Never NULL. Hot. */
static inline struct ivg_function *ivg_function_of(const struct ivg_object *object)
{
        return object->data;
}

/* Layout and attributes on `device`, fetched by a trip at the first need. Hot after that: F1 acquire loads, pairing
 * with F2, the release of publishing. */
CUresult ivg_function_fetch(struct ivg_object *object, int device, bool again);
static inline CUresult ivg_function_need(struct ivg_object *object, int device,
                                         const struct ivg_function_layout **layout,
                                         struct ivg_function_attributes **attributes)
{
        struct ivg_function *function = ivg_function_of(object);
        if (device < 0 || device >= IVG_DEVICES_MAX)
                return CUDA_ERROR_INVALID_DEVICE;
        *attributes = atomic_load_explicit(&function->attributes[device], memory_order_acquire); /* F1 */
        if (__builtin_expect(*attributes == NULL, 0)) {
                const CUresult result = ivg_function_fetch(object, device, false);
                if (result != CUDA_SUCCESS)
                        return result;
                *attributes = atomic_load_explicit(&function->attributes[device], memory_order_acquire); /* F1 */
        }
        *layout = atomic_load_explicit(&function->layout,
                                       memory_order_acquire); /* F1; published before F2 of the above */
        return CUDA_SUCCESS;
}
/* False: the driver gave no answer for this attribute. Relaxed: each value stands by itself. */
static inline bool ivg_function_value(const struct ivg_function_attributes *attributes, uint32_t attribute, int *value)
{
        if (attribute >= IVG_FUNCTION_ATTRIBUTES || !(ivg_load_relaxed_u32(&attributes->known) >> attribute & 1))
                return false;
        *value = (int)ivg_load_relaxed_u32(&attributes->values[attribute]);
        return true;
}
void ivg_function_note_value(struct ivg_function_attributes *attributes, uint32_t attribute, int value);

/* ---- things by name (names.c) ---- */

#define IVG_NAMES_BUCKETS 64u
#define IVG_NAME_BYTES_MAX 8192u /* mangled C++ names of templates get long; CUDA names no bound */
struct ivg_name {
        struct ivg_name *next;
        ivg_id context;            /* of the thing, or IVG_ID_NONE where it is the same in all */
        struct ivg_object *object; /* function, kernel, module; NULL for a variable */
        ivg_id id;                 /* of the object: its cell may have another tenant by now */
        uint64_t address, bytes;   /* of a variable */
        uint64_t range_id;         /* of its entry in the memory index: both end with the context */
        char name[];
};
struct ivg_names { /* lock held around look-up, call and add: so no name is asked for twice */
        pthread_mutex_t lock;
        struct ivg_name *buckets[IVG_NAMES_BUCKETS];
};
void ivg_names_init(struct ivg_names *names);
struct ivg_name *ivg_names_find(struct ivg_names *names, const char *name, ivg_id context);
struct ivg_name *ivg_names_add(struct ivg_names *names, const char *name, ivg_id context); /* NULL: no memory */
/* Frees all, after calling `end` for each (NULL: nothing to call). */
void ivg_names_end(struct ivg_names *names, void (*end)(struct ivg_name *name));
/* An `end`: destroys the object if it is still the one that was noted. */
void ivg_name_end_object(struct ivg_name *name);
/* Destroys `object` if it still is number `id`: objects of a context may have ended with it before. */
void ivg_object_destroy_if(struct ivg_object *object, ivg_id id);

struct ivg_module {                 /* `data` of MODULE and LIBRARY objects */
        struct ivg_object *library; /* of a library's module; NULL: loaded as a module */
        struct ivg_names functions; /* of a library: kernels */
        struct ivg_names variables;
        struct ivg_names textures, surfaces; /* of a module: references to them */
        struct ivg_names modules;            /* of a library: its module in each context; the name is "" */
};
CUresult ivg_module_create(enum ivg_kind kind, struct ivg_object *context, struct ivg_object **object);
static inline struct ivg_module *ivg_module_of(const struct ivg_object *object)
{
        return object->data;
}
/* Address and bytes of a variable, cached. `ask` makes the trip. */
typedef CUresult (*ivg_ask_variable)(ivg_id owner, const char *name, uint64_t *address, uint64_t *bytes);
CUresult ivg_module_variable(struct ivg_object *owner, struct ivg_object *context, const char *name,
                             ivg_ask_variable ask, CUdeviceptr *address, size_t *bytes);

/* The function of a module, or the kernel of a library, by that name: always the same object. `ask` makes the trip,
 * once. Any thread. NOT_FOUND as the driver says it, OUT_OF_MEMORY. */
typedef CUresult (*ivg_ask_function)(ivg_id owner, const char *name, ivg_id function);
CUresult ivg_module_function(struct ivg_object *owner, enum ivg_kind kind, const char *name, ivg_ask_function ask,
                             struct ivg_object **function);

/* ---- images and options (load.c, jit.c) ---- */

#define IVG_JIT_OPTIONS_MAX 64u
#define IVG_JIT_LOG_BYTES_MAX (1u << 20) /* of a larger buffer the first MiB is used */
struct ivg_jit {                         /* a call's options, sorted into what travels and what comes back */
        struct ivg_wire_jit_option wire[IVG_JIT_OPTIONS_MAX];
        uint32_t wire_count;
        char *info_log, *error_log; /* the program's buffers */
        uint32_t info_bytes, error_bytes;
        void **info_used, **error_used, **wall_time, **threads; /* where the program wants these; NULL: it does not */
};
struct ivg_jit_answer { /* what a call brings back for them */
        uint32_t info_used, error_used, threads;
        float wall_time;
};
CUresult ivg_jit_parse(struct ivg_jit *jit, unsigned int count, const CUjit_option *options, void **values);
/* Writes back what came into the places of the options. */
void ivg_jit_store(const struct ivg_jit *jit, const struct ivg_jit_answer *answer);
void ivg_jit_store_logs(const struct ivg_jit *jit, const struct ivg_jit_answer *answer); /* of them only the lengths */

/* Reads a whole file with a NUL behind it; free() it. FILE_NOT_FOUND, INVALID_IMAGE when too long, OUT_OF_MEMORY. */
CUresult ivg_file_read(const char *path, void **contents, uint64_t *bytes);
/* Names of a module's functions or a library's kernels, each with its NUL; free() them. */
typedef CUresult (*ivg_ask_names)(ivg_id owner, void *names, uint64_t names_bytes, uint32_t *count,
                                  uint64_t *total_bytes);
CUresult ivg_names_fetch(ivg_ask_names ask, ivg_id owner, char **names, uint32_t *count);
/* The first `most` functions of a module, or kernels of a library, as those names say: an array of their handles. */
typedef CUresult (*ivg_get_function)(struct ivg_object *owner, const char *name, struct ivg_object **function);
CUresult ivg_module_functions(struct ivg_object *owner, ivg_ask_names ask, ivg_get_function get, void *handles,
                              unsigned int most);
/* ivg_image_open with its errors as the program gets them. */
struct ivg_flat_image;
CUresult ivg_image_load(const void *image, struct ivg_flat_image *flat);
/* A module's or library's load, as its call has it: by name alone (`data` NULL), with image and name, or with an image
 * and the name of none. *wanted: enum ivg_image_wanted. */
struct ivg_image_load {
        const struct ivg_flat_image *image;
        struct ivg_wire_image_name name;
        const void *data;
        uint64_t bytes;
};
typedef CUresult (*ivg_image_sender)(const struct ivg_image_load *load, void *argument, uint32_t *wanted);
/* Loads by `send`: first by the image's name where that may save sending it, then with the image. Any thread. */
CUresult ivg_image_send(const struct ivg_flat_image *image, ivg_image_sender send, void *argument);

#pragma GCC visibility pop
#endif
