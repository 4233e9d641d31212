/* Launches in their rarer forms: attributes, many and long parameters, the first interface of CUDA. */
#include "check.h"
#include <stdarg.h>

#define COUNT 256u

static CUmodule module;
static CUstream stream;
static CUdeviceptr memory;

/* ---- code made here ---- */

struct text {
        char *at;
        size_t used, room;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
        va_list arguments;
        va_start(arguments, format);
        const int length = vsnprintf(text->at + text->used, text->room - text->used, format, arguments);
        va_end(arguments);
        CHECK(length >= 0 && (size_t)length < text->room - text->used, "no room for code");
        text->used += (size_t)length;
}

static CUmodule compile(struct text *text)
{
        CUmodule made;
        CU(cuModuleLoadData(&made, text->at));
        free(text->at);
        return made;
}

static struct text begin(void)
{
        struct text text = {.at = malloc(1u << 20), .room = 1u << 20};
        CHECK(text.at != NULL, "no memory");
        add(&text, ".version 8.1\n.target sm_75\n.address_size 64\n");
        return text;
}

/* A kernel of an address and `count` bytes, which makes one number of them all. */
static void many_parameters(unsigned count)
{
        struct text text = begin();
        add(&text, ".visible .entry many(.param .u64 p");
        for (unsigned i = 0; i < count; i++)
                add(&text, ", .param .u8 p%u", i);
        add(&text, ")\n{\n.reg .b64 %%rd<5>;\n.reg .b32 %%r<2>;\nld.param.u64 %%rd1, [p];\n"
                   "cvta.to.global.u64 %%rd2, %%rd1;\nmov.u64 %%rd3, 0;\n");
        for (unsigned i = 0; i < count; i++)
                add(&text, "ld.param.u8 %%r1, [p%u];\ncvt.u64.u32 %%rd4, %%r1;\nmad.lo.s64 %%rd3, %%rd3, 31, %%rd4;\n",
                    i);
        add(&text, "st.global.u64 [%%rd2], %%rd3;\nret;\n}\n");
        CUmodule made = compile(&text);
        uint8_t *bytes = malloc(count);
        void **parameters = malloc((count + 1) * sizeof(void *));
        CHECK(bytes != NULL && parameters != NULL, "no memory");
        test_fill(bytes, count, count);
        uint64_t expected = 0, got = 0;
        parameters[0] = &memory;
        for (unsigned i = 0; i < count; i++) {
                parameters[i + 1] = &bytes[i];
                expected = expected * 31 + bytes[i];
        }
        CU(cuLaunchKernel(test_function(made, "many"), 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
        CU(cuStreamSynchronize(stream));
        CU(cuMemcpyDtoH_v2(&got, memory, sizeof(got)));
        CHECK(got == expected, "%u parameters: %llx, not %llx", count, (unsigned long long)got,
              (unsigned long long)expected);
        free(bytes);
        free(parameters);
        CU(cuModuleUnload(made));
}

/* One parameter of `bytes`, of which the kernel looks at the first, the middle and the last word. */
static void long_parameters(unsigned bytes)
{
        struct text text = begin();
        add(&text,
            ".visible .entry whole(.param .u64 p, .param .align 8 .b8 q[%u])\n{\n.reg .b64 %%rd<3>;\n.reg .b32 "
            "%%r<4>;\n"
            "ld.param.u64 %%rd1, [p];\ncvta.to.global.u64 %%rd2, %%rd1;\nld.param.u32 %%r1, [q];\n"
            "ld.param.u32 %%r2, [q+%u];\nld.param.u32 %%r3, [q+%u];\nst.global.u32 [%%rd2], %%r1;\n"
            "st.global.u32 [%%rd2+4], %%r2;\nst.global.u32 [%%rd2+8], %%r3;\nret;\n}\n",
            bytes, bytes / 8 * 4, bytes - 4);
        CUmodule made = compile(&text);
        const CUfunction whole = test_function(made, "whole");
        uint32_t *words = malloc(bytes), got[3] = {0};
        uint8_t *packed = malloc(bytes + 8);
        size_t packed_bytes = bytes + 8, offset = 0, size = 0;
        CHECK(words != NULL && packed != NULL, "no memory");
        test_fill(words, bytes, bytes);
        void *parameters[] = {&memory, words};
        CU(cuFuncGetParamInfo(whole, 1, &offset, &size));
        CHECK(offset == 8 && size == bytes, "the parameter lies at %zu, %zu long", offset, size);
        memcpy(packed, &memory, 8);
        memcpy(packed + 8, words, bytes);
        void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, packed, CU_LAUNCH_PARAM_BUFFER_SIZE, &packed_bytes,
                         CU_LAUNCH_PARAM_END};
        for (int form = 0; form < 2; form++) {
                CU(cuMemsetD32_v2(memory, 0, 3));
                CU(cuCtxSynchronize());
                CU(cuLaunchKernel(whole, 1, 1, 1, 1, 1, 1, 0, stream, form == 0 ? parameters : NULL,
                                  form == 0 ? NULL : extra));
                CU(cuStreamSynchronize(stream));
                CU(cuMemcpyDtoH_v2(got, memory, sizeof(got)));
                CHECK(got[0] == words[0] && got[1] == words[bytes / 8] && got[2] == words[bytes / 4 - 1],
                      "%u bytes of parameters, form %d: another word", bytes, form);
        }
        free(words);
        free(packed);
        CU(cuModuleUnload(made));
}

/* ---- attributes ---- */

static uint32_t first_word(void)
{
        uint32_t word = 0;
        CU(cuMemcpyDtoH_v2(&word, memory, 4));
        return word;
}

/* Launches `increment` with these, and says what came of it; on success it must have run once. */
static CUresult launch_with(CUlaunchAttribute *attributes, unsigned count)
{
        const CUlaunchConfig config = {.gridDimX = 1,
                                       .gridDimY = 1,
                                       .gridDimZ = 1,
                                       .blockDimX = 1,
                                       .blockDimY = 1,
                                       .blockDimZ = 1,
                                       .hStream = stream,
                                       .attrs = attributes,
                                       .numAttrs = count};
        void *parameters[] = {&memory};
        CU(cuMemsetD32_v2(memory, 40, 1));
        CU(cuCtxSynchronize());
        const CUresult result = cuLaunchKernelEx(&config, test_function(module, "increment"), parameters, NULL);
        CU(cuStreamSynchronize(stream));
        CHECK(first_word() == (result == CUDA_SUCCESS ? 41u : 40u), "answered %d, and the word is %u", (int)result,
              first_word());
        return result;
}

static void attributes(void)
{
        CUlaunchAttribute one = {.id = CU_LAUNCH_ATTRIBUTE_IGNORE};
        CU(launch_with(&one, 1));
        CU(launch_with(NULL, 0));
        one = (CUlaunchAttribute){.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE, .value.cooperative = 1};
        CU(launch_with(&one, 1));
        one = (CUlaunchAttribute){.id = CU_LAUNCH_ATTRIBUTE_PRIORITY, .value.priority = -1};
        CU(launch_with(&one, 1));
        one = (CUlaunchAttribute){.id = CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT,
                                  .value.sharedMemCarveout = 50};
        CU(launch_with(&one, 1));
        one = (CUlaunchAttribute){.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION};
        one.value.clusterDim.x = one.value.clusterDim.y = one.value.clusterDim.z = 1;
        CU(launch_with(&one, 1));
        one = (CUlaunchAttribute){.id = CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW};
        one.value.accessPolicyWindow = (CUaccessPolicyWindow){.base_ptr = (void *)(uintptr_t)memory,
                                                              .num_bytes = 64,
                                                              .hitRatio = 1.f,
                                                              .hitProp = CU_ACCESS_PROPERTY_PERSISTING,
                                                              .missProp = CU_ACCESS_PROPERTY_NORMAL};
        CU(launch_with(&one, 1));
        one = (CUlaunchAttribute){.id = CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN,
                                  .value.memSyncDomain = CU_LAUNCH_MEM_SYNC_DOMAIN_DEFAULT};
        CU(launch_with(&one, 1));
        CUlaunchAttribute several[] = {{.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
                                        .value.programmaticStreamSerializationAllowed = 1},
                                       {.id = CU_LAUNCH_ATTRIBUTE_IGNORE},
                                       {.id = CU_LAUNCH_ATTRIBUTE_PRIORITY, .value.priority = 0}};
        CU(launch_with(several, 3));
        one = (CUlaunchAttribute){.id = (CUlaunchAttributeID)61};
        CHECK(launch_with(&one, 1) != CUDA_SUCCESS, "an attribute that nobody knows was accepted");
}

/* Events that a launch records: each must come, and no sooner than it may. */
static void events_of_launches(void)
{
        static const CUlaunchAttributeID ids[] = {CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT,
                                                  CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT};
        for (int i = 0; i < 2; i++) {
                CUlaunchAttribute attribute = {.id = ids[i]};
                CUevent event;
                CU(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
                if (ids[i] == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT)
                        attribute.value.programmaticEvent.event = event;
                else
                        attribute.value.launchCompletionEvent.event = event;
                CU(launch_with(&attribute, 1));
                CU(cuEventSynchronize(event));
                CU(cuEventQuery(event));
                CU(cuEventDestroy_v2(event));
        }
}

/* ---- the first interface ---- */

static void reversed_is_right(void)
{
        static uint32_t words[COUNT];
        CU(cuStreamSynchronize(stream));
        CU(cuMemcpyDtoH_v2(words, memory, sizeof(words)));
        for (uint32_t i = 0; i < COUNT; i++)
                CHECK(words[i] == COUNT - 1 - i, "word %u is %u", i, words[i]);
}

static void first_interface(void)
{
        const CUfunction fill = test_function(module, "fill_u32"), reverse = test_function(module, "shared_reverse");
        uint64_t count = COUNT;
        CU(cuFuncSetBlockShape(fill, 32, 1, 1));
        CU(cuParamSetv(fill, 0, &memory, sizeof(memory)));
        CU(cuParamSeti(fill, 8, 1000));
        CU(cuParamSetv(fill, 16, &count, sizeof(count)));
        CU(cuParamSetSize(fill, 24));
        CU(cuLaunchGrid(fill, 2, 1));
        CU(cuCtxSynchronize());
        CHECK(first_word() == 1000, "%u", first_word());
        CU(cuParamSeti(fill, 8, 0)); /* the rest stays as it was set */
        CU(cuLaunch(fill));
        CU(cuCtxSynchronize());
        CHECK(first_word() == 0, "%u", first_word());
        CU(cuFuncSetBlockShape(reverse, (int)COUNT, 1, 1));
        CU(cuFuncSetSharedSize(reverse, COUNT * 4));
        CU(cuParamSetv(reverse, 0, &memory, sizeof(memory)));
        CU(cuParamSetSize(reverse, 8));
        CU(cuLaunchGridAsync(reverse, 1, 1, stream));
        reversed_is_right();

        const CUfunction vector_add = test_function(module, "vector_add");
        CUdeviceptr a = memory, b = memory + 64, c = memory + 128;
        float ones[16], sum[16];
        for (int i = 0; i < 16; i++)
                ones[i] = 1.5f;
        CU(cuMemcpyHtoD_v2(a, ones, sizeof(ones)));
        CU(cuMemcpyHtoD_v2(b, ones, sizeof(ones)));
        CU(cuFuncSetBlockShape(vector_add, 16, 1, 1));
        CU(cuParamSetv(vector_add, 0, &a, 8));
        CU(cuParamSetv(vector_add, 8, &b, 8));
        CU(cuParamSetv(vector_add, 16, &c, 8));
        CU(cuParamSetf(vector_add, 24, 0.f)); /* the bits of an int, 0: then another */
        CU(cuParamSeti(vector_add, 24, 16));
        CU(cuParamSetSize(vector_add, 28));
        CU(cuLaunchGridAsync(vector_add, 1, 1, stream));
        CU(cuStreamSynchronize(stream));
        CU(cuMemcpyDtoH_v2(sum, c, sizeof(sum)));
        for (int i = 0; i < 16; i++)
                CHECK(sum[i] == 3.f, "element %d is %g", i, (double)sum[i]);
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuFuncSetBlockShape(fill, 0, 1, 1));
}

int main(void)
{
        test_context();
        module = test_module();
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuMemAlloc_v2(&memory, COUNT * 4));
        many_parameters(3);
        many_parameters(512);
        many_parameters(2000);
        long_parameters(4000);
        long_parameters(4096);
        long_parameters(32000);
        long_parameters(32752);
        attributes();
        events_of_launches();
        first_interface();
        CU(cuMemFree_v2(memory));
        CU(cuStreamDestroy_v2(stream));
        CU(cuCtxSynchronize()); /* with the frees too: a trace of this program is whole */
        puts("launches: right");
        return 0;
}
