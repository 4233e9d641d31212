/* Any text as a PTX module: loaded or refused with words; what is refused leaves nothing allocated; what is loaded
 * describes itself within bounds. Nothing is launched. */
#include "ptx.h"
#include "fuzz.h"

#define VARIABLES_BYTES_MAX (16u << 20)

struct memory {
        size_t alive, used;
};

static void *allocate(void *user, size_t bytes, size_t alignment)
{
        struct memory *memory = user;
        void *block = NULL;

        MUST(alignment && (alignment & (alignment - 1)) == 0, "alignment %zu", alignment);
        if (bytes > VARIABLES_BYTES_MAX - memory->used || alignment > 4096 ||
            posix_memalign(&block, alignment < sizeof(void *) ? sizeof(void *) : alignment, bytes ? bytes : 1))
                return NULL;
        memset(block, 0, bytes);
        memory->used += bytes;
        memory->alive++;
        return block;
}

static void release(void *user, void *address)
{
        ((struct memory *)user)->alive--;
        free(address);
}

static void describe(const struct ptx_module *module)
{
        for (size_t i = 0; i < ptx_function_count(module); i++) {
                const struct ptx_function *function = ptx_function_at(module, i);
                struct ptx_function_info info;
                size_t offset, bytes, end = 0;

                ptx_function_query(function, &info);
                MUST(info.name && info.name[0], "a kernel without name");
                MUST(ptx_function_find(module, info.name), "%s is not found", info.name);
                for (size_t p = 0; p < info.param_count; p++) {
                        MUST(ptx_function_param(function, p, &offset, &bytes), "parameter %zu", p);
                        MUST(offset >= end && offset <= info.param_bytes && bytes <= info.param_bytes - offset,
                             "%s, parameter %zu: %zu bytes at %zu", info.name, p, bytes, offset);
                        end = offset + bytes;
                }
                MUST(!ptx_function_param(function, info.param_count, &offset, &bytes), "one parameter too many");
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct memory memory = {0};
        const struct ptx_allocator allocator = {allocate, release, &memory};
        char text[512] = "";
        struct ptx_log log = {.text = text, .capacity = sizeof(text)};
        struct ptx_module *module = NULL;
        char *const exact = malloc(size ? size : 1); /* no NUL behind it */
        enum ptx_status status;

        MUST(exact, "memory");
        memcpy(exact, data, size);
        status = ptx_load(exact, size, &allocator, &log, &module);
        free(exact);
        MUST(memchr(text, 0, sizeof(text)), "the log has no end");
        if (status == PTX_OK) {
                describe(module);
                ptx_unload(module);
        } else {
                MUST(!module, "%s, and a module", ptx_status_name(status));
                MUST(text[0] || status == PTX_OUT_OF_MEMORY, "%s without words", ptx_status_name(status));
        }
        MUST(memory.alive == 0, "%zu variables left", memory.alive);
        return 0;
}
