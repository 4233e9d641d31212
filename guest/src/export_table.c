/* Private tables that NVIDIA's own libraries ask of libcuda by UUID: entries and answers as measured with real programs
 * (docs). The first word of a table is its length in bytes, except where noted. Entries nobody was seen to need answer
 * 0 and are counted by name, so that a program that does need one leaves a trace. */
#include "context.h"
#include "cuda_api.h"
#include "export_check.h"
#include "ivgpu/layout_table.h"
#include "layout.h"
#include "management.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void (*table_entry)(void);
#define TABLE_BYTES(bytes) ((table_entry)(uintptr_t)(bytes))
#define ENTRY(function) ((table_entry)(function))

/* One function per unknown entry: its name must come out of the call alone. */
#define UNKNOWN(table, index)                                          \
        static CUresult unknown_##table##_##index(void)                \
        {                                                              \
                return ivg_count_unknown_entry(#table "[" #index "]"); \
        }
#define UNKNOWN_TEN(table, tens) \
        UNKNOWN(table, tens##0)  \
        UNKNOWN(table, tens##1)  \
        UNKNOWN(table, tens##2)  \
        UNKNOWN(table, tens##3)  \
        UNKNOWN(table, tens##4)  \
        UNKNOWN(table, tens##5)  \
        UNKNOWN(table, tens##6)  \
        UNKNOWN(table, tens##7)  \
        UNKNOWN(table, tens##8)  \
        UNKNOWN(table, tens##9)
#define OTHER(table, index) [index] = ENTRY(unknown_##table##_##index)
#define OTHER_TEN(table, tens)                                                                              \
        OTHER(table, tens##0), OTHER(table, tens##1), OTHER(table, tens##2), OTHER(table, tens##3),         \
                OTHER(table, tens##4), OTHER(table, tens##5), OTHER(table, tens##6), OTHER(table, tens##7), \
                OTHER(table, tens##8), OTHER(table, tens##9)

static CUresult nothing(void)
{
        return CUDA_SUCCESS;
}

/* ---- 6bd5fb6c: the runtime's way to modules and the primary context ---- */

static CUresult runtime_module_load(CUmodule *module, const void *wrapper)
{
        return cuModuleLoadData(module, wrapper);
}

static CUresult runtime_primary_context(CUcontext *out, CUdevice device)
{
        struct ivg_object *context;
        CUresult result;

        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        result = ivg_context_primary_retain(device, &context);
        if (result == CUDA_SUCCESS)
                *out = (CUcontext)context;
        return result;
}

static CUresult runtime_module_load_wrapper(CUmodule *module, const void *wrapper, void *zero0, void *zero1,
                                            unsigned int zero2)
{
        (void)zero0;
        (void)zero1;
        (void)zero2;
        return cuModuleLoadData(module, wrapper);
}

static CUresult runtime_module_load_fatbin(const void *fatbin, CUmodule *module, void *zero0, void *zero1,
                                           unsigned int zero2)
{
        (void)zero0;
        (void)zero1;
        (void)zero2;
        return cuModuleLoadData(module, fatbin);
}

UNKNOWN(6bd5fb6c, 3)
UNKNOWN(6bd5fb6c, 4)
UNKNOWN(6bd5fb6c, 5)
UNKNOWN(6bd5fb6c, 9)
UNKNOWN(6bd5fb6c, 10)
UNKNOWN(6bd5fb6c, 11)

static const table_entry table_6bd5fb6c[13] = {
        TABLE_BYTES(104),
        ENTRY(runtime_module_load),
        ENTRY(runtime_primary_context),
        OTHER(6bd5fb6c, 3),
        OTHER(6bd5fb6c, 4),
        OTHER(6bd5fb6c, 5),
        [6] = ENTRY(runtime_module_load_wrapper),
        [7] = ENTRY(nothing),
        [8] = ENTRY(runtime_module_load_fatbin),
        OTHER(6bd5fb6c, 9),
        OTHER(6bd5fb6c, 10),
        OTHER(6bd5fb6c, 11),
        [12] = ENTRY(nothing),
};

/* ---- 42d85a81: the current context, asked before every cuBLASLt kernel ---- */

static CUresult tools_current_context(CUcontext *out)
{
        return cuCtxGetCurrent(out);
}

UNKNOWN(42d85a81, 1)

static const table_entry table_42d85a81[3] = {TABLE_BYTES(24), OTHER(42d85a81, 1), [2] = ENTRY(tools_current_context)};

/* ---- a094798c: hooks of profilers; zero means that none is there ---- */

#define HOOKS_LARGE 1024u
#define HOOKS_SMALL 14u
static uint64_t hooks_large[HOOKS_LARGE], hooks_small[HOOKS_SMALL];

static CUresult hooks_get_large(void **hooks, size_t *count)
{
        *hooks = hooks_large;
        *count = HOOKS_LARGE;
        return CUDA_SUCCESS;
}

static CUresult hooks_get_small(void **hooks, size_t *count)
{
        *hooks = hooks_small;
        *count = HOOKS_SMALL;
        return CUDA_SUCCESS;
}

UNKNOWN(a094798c, 1)
UNKNOWN(a094798c, 3)
UNKNOWN(a094798c, 4)
UNKNOWN(a094798c, 5)

static const table_entry table_a094798c[7] = {
        TABLE_BYTES(56),    OTHER(a094798c, 1), [2] = ENTRY(hooks_get_large), OTHER(a094798c, 3),
        OTHER(a094798c, 4), OTHER(a094798c, 5), [6] = ENTRY(hooks_get_small),
};

/* ---- c693336e: context-local storage (no length word) ---- */

static CUresult storage_put(CUcontext ctx, void *key, void *value, ivg_storage_destructor destructor)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_given(ctx, &context);

        return result != CUDA_SUCCESS ? result : ivg_storage_put(ivg_context_storage(context), key, value, destructor);
}

static CUresult storage_delete(CUcontext ctx, void *key)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_given(ctx, &context);

        return result != CUDA_SUCCESS ? result : ivg_storage_delete(ivg_context_storage(context), key);
}

static CUresult storage_get(void **value, CUcontext ctx, void *key)
{
        struct ivg_object *context;
        const CUresult result = ivg_context_given(ctx, &context);

        if (result != CUDA_SUCCESS)
                return result;
        return value == NULL ? CUDA_ERROR_INVALID_VALUE : ivg_storage_get(ivg_context_storage(context), key, value);
}

UNKNOWN(c693336e, 3)

static const table_entry table_c693336e[4] = {ENTRY(storage_put), ENTRY(storage_delete), ENTRY(storage_get),
                                              OTHER(c693336e, 3)};

/* ---- 263e8860: two questions whose answer is no ---- */

static CUresult question_context(CUcontext ctx, uint32_t *first, void **second)
{
        (void)ctx;
        (void)second;
        if (first != NULL)
                *first = 0;
        return CUDA_SUCCESS;
}

UNKNOWN(263e8860, 1)
UNKNOWN(263e8860, 4)
UNKNOWN(263e8860, 5)
UNKNOWN(263e8860, 6)
UNKNOWN(263e8860, 7)
UNKNOWN(263e8860, 8)
UNKNOWN(263e8860, 9)
UNKNOWN(263e8860, 10)
UNKNOWN(263e8860, 11)
UNKNOWN(263e8860, 12)
UNKNOWN(263e8860, 13)
UNKNOWN(263e8860, 14)

static const table_entry table_263e8860[15] = {
        TABLE_BYTES(120),     OTHER(263e8860, 1),  [2] = ENTRY(question_context),
        [3] = ENTRY(nothing), OTHER(263e8860, 4),  OTHER(263e8860, 5),
        OTHER(263e8860, 6),   OTHER(263e8860, 7),  OTHER(263e8860, 8),
        OTHER(263e8860, 9),   OTHER(263e8860, 10), OTHER(263e8860, 11),
        OTHER(263e8860, 12),  OTHER(263e8860, 13), OTHER(263e8860, 14),
};

/* ---- d4082055: the runtime's check of its driver ---- */

static CUresult check_driver(uint32_t version, uint64_t unix_seconds, uint64_t out[2]);

UNKNOWN(d4082055, 2)

static const table_entry table_d4082055[3] = {TABLE_BYTES(24), ENTRY(check_driver), OTHER(d4082055, 2)};

static CUresult check_driver(uint32_t version, uint64_t unix_seconds, uint64_t out[2])
{
        struct ivg_export_check_device devices[IVG_DEVICES_MAX];
        struct ivg_export_check check = {
                .version = version,
                .process = (uint32_t)getpid(),
                .thread = (uint32_t)(uintptr_t)pthread_self(),
                .runtime_table = (uintptr_t)table_6bd5fb6c,
                .check_table = (uintptr_t)table_d4082055,
                .check_entry = (uintptr_t)table_d4082055[1],
                .unix_seconds = unix_seconds,
        };
        int driver_version = 0, count = 0;
        CUresult result = CUDA_SUCCESS;

        if (out == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (ivg_export_check_is_digest(version)) { /* the constants need no driver */
                result = cuDriverGetVersion(&driver_version);
                count = ivg_process_check() == CUDA_SUCCESS ? ivg_process.device_count : 0;
        }
        check.driver_version = (uint32_t)driver_version;
        for (int i = 0; i < count && result == CUDA_SUCCESS; i++) {
                const struct ivg_device *device;

                result = ivg_device_get(i, &device);
                if (result != CUDA_SUCCESS)
                        break;
                memcpy(devices[i].uuid, device->uuid.bytes, sizeof(devices[i].uuid));
                devices[i].pci_domain = device->attributes[CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID];
                devices[i].pci_bus = device->attributes[CU_DEVICE_ATTRIBUTE_PCI_BUS_ID];
                devices[i].pci_device = device->attributes[CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID];
        }
        if (ivg_log_calls)
                ivg_log("the runtime checks its driver: version %u, answered by %s", version,
                        ivg_export_check_is_digest(version) ? "HMAC-MD2" : "constants");
        if (result == CUDA_SUCCESS)
                ivg_export_check(&check, devices, (uint32_t)count, out);
        return result;
}

/* ---- f8cff951: the driver's log, printf-like; ours is not for it ---- */

UNKNOWN(f8cff951, 2)

static const table_entry table_f8cff951[3] = {TABLE_BYTES(24), ENTRY(nothing), OTHER(f8cff951, 2)};

/* ---- 21318c60: a context's id, asked before every cuBLASLt kernel; without this table cuBLAS gives up ---- */

static CUresult context_id(CUcontext ctx, uint64_t *id)
{
        unsigned long long value;
        const CUresult result = cuCtxGetId(ctx, &value);

        if (result == CUDA_SUCCESS && id != NULL)
                *id = value;
        return id == NULL ? CUDA_ERROR_INVALID_VALUE : result;
}

UNKNOWN(21318c60, 1)
UNKNOWN(21318c60, 2)
UNKNOWN(21318c60, 3)
UNKNOWN(21318c60, 5)
UNKNOWN(21318c60, 6)
UNKNOWN(21318c60, 7)
UNKNOWN(21318c60, 8)
UNKNOWN(21318c60, 9)
UNKNOWN_TEN(21318c60, 1)
UNKNOWN_TEN(21318c60, 2)
UNKNOWN_TEN(21318c60, 3)
UNKNOWN_TEN(21318c60, 4)
UNKNOWN_TEN(21318c60, 5)
UNKNOWN_TEN(21318c60, 6)
UNKNOWN_TEN(21318c60, 7)
UNKNOWN_TEN(21318c60, 8)
UNKNOWN(21318c60, 90)
UNKNOWN(21318c60, 91)
UNKNOWN(21318c60, 92)

static const table_entry table_21318c60[93] = {
        TABLE_BYTES(744),        OTHER(21318c60, 1),     OTHER(21318c60, 2),     OTHER(21318c60, 3),
        [4] = ENTRY(context_id), OTHER(21318c60, 5),     OTHER(21318c60, 6),     OTHER(21318c60, 7),
        OTHER(21318c60, 8),      OTHER(21318c60, 9),     OTHER_TEN(21318c60, 1), OTHER_TEN(21318c60, 2),
        OTHER_TEN(21318c60, 3),  OTHER_TEN(21318c60, 4), OTHER_TEN(21318c60, 5), OTHER_TEN(21318c60, 6),
        OTHER_TEN(21318c60, 7),  OTHER_TEN(21318c60, 8), OTHER(21318c60, 90),    OTHER(21318c60, 91),
        OTHER(21318c60, 92),
};

/* ---- 1734dc26: where the multiprocessors lie (layout.c); cuBLASLt crashes without the table ---- */

UNKNOWN(1734dc26, 1)
UNKNOWN(1734dc26, 2)
UNKNOWN(1734dc26, 3)
UNKNOWN(1734dc26, 5)
UNKNOWN(1734dc26, 6)
UNKNOWN(1734dc26, 7)
UNKNOWN(1734dc26, 8)
UNKNOWN(1734dc26, 9)
UNKNOWN(1734dc26, 10)
UNKNOWN(1734dc26, 11)
UNKNOWN(1734dc26, 12)
UNKNOWN(1734dc26, 14)
UNKNOWN(1734dc26, 15)
UNKNOWN(1734dc26, 16)

static const table_entry table_1734dc26[IVG_LAYOUT_TABLE_WORDS] = {
        TABLE_BYTES(136),
        OTHER(1734dc26, 1),
        OTHER(1734dc26, 2),
        OTHER(1734dc26, 3),
        OTHER(1734dc26, 5),
        OTHER(1734dc26, 6),
        OTHER(1734dc26, 7),
        OTHER(1734dc26, 8),
        OTHER(1734dc26, 9),
        OTHER(1734dc26, 10),
        OTHER(1734dc26, 11),
        OTHER(1734dc26, 12),
        OTHER(1734dc26, 14),
        OTHER(1734dc26, 15),
        OTHER(1734dc26, 16),
        [IVG_LAYOUT_GET] = ENTRY(ivg_layout_entry_get),
        [IVG_LAYOUT_FREE] = ENTRY(ivg_layout_entry_free),
};

/* ---- 6e163fbe: what cuFFT asks for after loading a module whose kernels it does not know by name ---- */

/* Calls each(user, function) for every function of the module, answers their number. As measured: the same with another
 * current context, with none, and with NULL for the first argument; what `each` returns is not looked at. */
static unsigned int module_each_function(CUcontext ctx, CUmodule module, void (*each)(void *user, CUfunction function),
                                         void *user)
{
        const struct ivg_object *object = ivg_object_of(IVG_KIND_MODULE, module);
        CUfunction *functions = NULL;
        CUcontext previous;
        unsigned int count = 0;

        (void)ctx;
        if (object == NULL || each == NULL || cuCtxPushCurrent_v2((CUcontext)object->context) != CUDA_SUCCESS)
                return 0;
        if (cuModuleGetFunctionCount(&count, module) == CUDA_SUCCESS && count > 0)
                functions = calloc(count, sizeof(CUfunction));
        if (functions == NULL || cuModuleEnumerateFunctions(functions, count, module) != CUDA_SUCCESS)
                count = 0;
        cuCtxPopCurrent_v2(&previous);
        for (unsigned int i = 0; i < count; i++)
                each(user, functions[i]);
        free(functions);
        return count;
}

UNKNOWN(6e163fbe, 1)
UNKNOWN(6e163fbe, 2)
UNKNOWN(6e163fbe, 3)
UNKNOWN(6e163fbe, 4)
UNKNOWN(6e163fbe, 5)
UNKNOWN(6e163fbe, 6)
UNKNOWN(6e163fbe, 8)
UNKNOWN(6e163fbe, 9)
UNKNOWN_TEN(6e163fbe, 1)
UNKNOWN_TEN(6e163fbe, 2)
UNKNOWN_TEN(6e163fbe, 3)
UNKNOWN_TEN(6e163fbe, 4)
UNKNOWN_TEN(6e163fbe, 5)
UNKNOWN_TEN(6e163fbe, 6)
UNKNOWN_TEN(6e163fbe, 7)
UNKNOWN_TEN(6e163fbe, 8)
UNKNOWN(6e163fbe, 90)
UNKNOWN(6e163fbe, 91)
UNKNOWN(6e163fbe, 92)
UNKNOWN(6e163fbe, 93)
UNKNOWN(6e163fbe, 94)
UNKNOWN(6e163fbe, 95)
UNKNOWN(6e163fbe, 96)
UNKNOWN(6e163fbe, 97)
UNKNOWN(6e163fbe, 98)

static const table_entry table_6e163fbe[99] = {
        TABLE_BYTES(792),       OTHER(6e163fbe, 1),     OTHER(6e163fbe, 2),     OTHER(6e163fbe, 3),
        OTHER(6e163fbe, 4),     OTHER(6e163fbe, 5),     OTHER(6e163fbe, 6),     [7] = ENTRY(module_each_function),
        OTHER(6e163fbe, 8),     OTHER(6e163fbe, 9),     OTHER_TEN(6e163fbe, 1), OTHER_TEN(6e163fbe, 2),
        OTHER_TEN(6e163fbe, 3), OTHER_TEN(6e163fbe, 4), OTHER_TEN(6e163fbe, 5), OTHER_TEN(6e163fbe, 6),
        OTHER_TEN(6e163fbe, 7), OTHER_TEN(6e163fbe, 8), OTHER(6e163fbe, 90),    OTHER(6e163fbe, 91),
        OTHER(6e163fbe, 92),    OTHER(6e163fbe, 93),    OTHER(6e163fbe, 94),    OTHER(6e163fbe, 95),
        OTHER(6e163fbe, 96),    OTHER(6e163fbe, 97),    OTHER(6e163fbe, 98),
};

/* ---- by UUID ---- */

static const struct {
        uint8_t uuid[16];
        const table_entry *table;
} tables[] = {
        {{0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a, 0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9},
         table_6bd5fb6c},
        {{0x42, 0xd8, 0x5a, 0x81, 0x23, 0xf6, 0xcb, 0x47, 0x82, 0x98, 0xf6, 0xe7, 0x8a, 0x3a, 0xec, 0xdc},
         table_42d85a81},
        {{0xa0, 0x94, 0x79, 0x8c, 0x2e, 0x74, 0x2e, 0x74, 0x93, 0xf2, 0x08, 0x00, 0x20, 0x0c, 0x0a, 0x66},
         table_a094798c},
        {{0xc6, 0x93, 0x33, 0x6e, 0x11, 0x21, 0xdf, 0x11, 0xa8, 0xc3, 0x68, 0xf3, 0x55, 0xd8, 0x95, 0x93},
         table_c693336e},
        {{0x26, 0x3e, 0x88, 0x60, 0x7c, 0xd2, 0x61, 0x43, 0x92, 0xf6, 0xbb, 0xd5, 0x00, 0x6d, 0xfa, 0x7e},
         table_263e8860},
        {{0xd4, 0x08, 0x20, 0x55, 0xbd, 0xe6, 0x70, 0x4b, 0x8d, 0x34, 0xba, 0x12, 0x3c, 0x66, 0xe1, 0xf2},
         table_d4082055},
        {{0xf8, 0xcf, 0xf9, 0x51, 0x21, 0x46, 0x8b, 0x4e, 0xb9, 0xe2, 0xfb, 0x46, 0x9e, 0x7c, 0x0d, 0xd9},
         table_f8cff951},
        {{0x21, 0x31, 0x8c, 0x60, 0x97, 0x14, 0x32, 0x48, 0x8c, 0xa6, 0x41, 0xff, 0x73, 0x24, 0xc8, 0xf2},
         table_21318c60},
        {IVG_LAYOUT_TABLE_UUID, table_1734dc26},
        {{0x6e, 0x16, 0x3f, 0xbe, 0xb9, 0x58, 0x44, 0x4d, 0x83, 0x5c, 0xe1, 0x82, 0xaf, 0xf1, 0x99, 0x1e},
         table_6e163fbe},
};

static void table_log_unknown(const CUuuid *id)
{
        char text[2 * sizeof(id->bytes) + 1];

        for (size_t i = 0; i < sizeof(id->bytes); i++)
                snprintf(text + 2 * i, 3, "%02x", (unsigned char)id->bytes[i]);
        ivg_log("export table %s is not known", text);
}

CUresult cuGetExportTable(const void **ppExportTable, const CUuuid *pExportTableId)
{
        if (ppExportTable == NULL || pExportTableId == NULL)
                return CUDA_ERROR_INVALID_VALUE;
        if (memcmp(ivg_management_uuid, pExportTableId->bytes, sizeof(ivg_management_uuid)) == 0) {
                *ppExportTable = &ivg_management;
                return CUDA_SUCCESS;
        }
        *ppExportTable = NULL;
        for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
                if (memcmp(tables[i].uuid, pExportTableId->bytes, sizeof(tables[i].uuid)) == 0) {
                        *ppExportTable = (const void *)tables[i].table;
                        return ivg_local("cuGetExportTable", CUDA_SUCCESS);
                }
        /* Known ones that nobody needs (69a28e9f, da9151d3) and unknown ones alike: most askers have another way. */
        if (ivg_log_calls)
                table_log_unknown(pExportTableId);
        return ivg_local("cuGetExportTable", CUDA_ERROR_NOT_FOUND);
}
