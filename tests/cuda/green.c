/* Parts of a device: split, described, made into contexts whose streams run, and given back. */
#include "supported.h"

static unsigned multiprocessors(const CUdevResource *resource)
{
        return resource->type == CU_DEV_RESOURCE_TYPE_SM ? resource->sm.smCount : 0;
}

/* The parts are disjoint: their counts and the rest's make the whole. */
static unsigned split(const CUdevResource *whole, CUdevResource *parts, unsigned wanted, unsigned least)
{
        CUdevResource rest;
        unsigned could = 0, made = wanted, sum = 0;
        CU(cuDevSmResourceSplitByCount(NULL, &could, whole, NULL, 0, least));
        CHECK(could >= 1, "a split of %u multiprocessors into parts of %u", multiprocessors(whole), least);
        memset(&rest, 0, sizeof rest);
        CU(cuDevSmResourceSplitByCount(parts, &made, whole, &rest, 0, least));
        CHECK(made >= 1 && made <= wanted && made <= could, "%u parts, %u wanted, %u possible", made, wanted, could);
        for (unsigned i = 0; i < made; i++) {
                CHECK(multiprocessors(&parts[i]) >= least, "part %u has %u", i, multiprocessors(&parts[i]));
                sum += multiprocessors(&parts[i]);
        }
        CHECK(sum + multiprocessors(&rest) == multiprocessors(whole), "%u in parts, %u left, of %u", sum,
              multiprocessors(&rest), multiprocessors(whole));
        return made;
}

static void works_in(CUgreenCtx green, CUcontext context, CUcontext primary, CUmodule module)
{
        CUstream own, plain;
        CUcontext found;
        CUgreenCtx of_stream;
        CUdeviceptr counter;
        CUevent event;
        uint32_t value = 0;
        unsigned long long id = 0, current_id = 1;
        CU(cuGreenCtxStreamCreate(&own, green, CU_STREAM_NON_BLOCKING, 0));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuGreenCtxStreamCreate(&plain, green, CU_STREAM_DEFAULT, 0));
        CU(cuStreamGetGreenCtx(own, &of_stream));
        CHECK(of_stream == green, "the stream is of another part");
        CU(cuStreamGetCtx(own, &found));
        CHECK(found == context, "the stream's context");
        CU(cuStreamGetCtx_v2(own, &found, &of_stream));
        CHECK(found == primary && of_stream == green, "the stream's two contexts");

        CU(cuCtxSetCurrent(context));
        CU(cuGreenCtxGetId(green, &id));
        CU(cuGreenCtxGetId(NULL, &current_id));
        CHECK(id == current_id, "ids %llu and %llu", id, current_id);
        CU(cuStreamCreate(&plain, CU_STREAM_NON_BLOCKING));
        CU(cuStreamGetGreenCtx(plain, &of_stream));
        CHECK(of_stream == green, "a stream made while the part is current");
        CU(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
        CU(cuMemAlloc_v2(&counter, 4));
        CU(cuMemsetD32Async(counter, 0, 1, own));
        CU(cuStreamSynchronize(own));
        void *parameters[] = {&counter};
        CUfunction increment = test_function(module, "increment");
        CU(cuLaunchKernel(increment, 2, 1, 1, 8, 1, 1, 0, own, parameters, NULL));
        CU(cuGreenCtxRecordEvent(green, event));
        CU(cuEventSynchronize(event));
        CU(cuStreamQuery(own));
        CU(cuGreenCtxWaitEvent(green, event));
        CU(cuLaunchKernel(increment, 2, 1, 1, 8, 1, 1, 0, plain, parameters, NULL));
        CU(cuStreamSynchronize(plain));
        CU(cuStreamDestroy_v2(plain));
        CU(cuStreamDestroy_v2(own));
        CU(cuEventDestroy_v2(event));
        CU(cuCtxSetCurrent(primary)); /* the memory is the primary context's too */
        CU(cuMemcpyDtoH_v2(&value, counter, 4));
        CHECK(value == 32, "%u", value);
        CU(cuMemFree_v2(counter));
}

int main(void)
{
        CUdevResource whole, parts[4], again;
        CUdevResourceDesc desc[4];
        CUgreenCtx green[4], of_primary;
        CUcontext primary = test_context(), context;
        CUmodule module = test_module();
        CUdeviceptr kept;
        uint32_t value = 0;
        int count = 0;
        memset(&whole, 0, sizeof whole);
        if (!test_supported(cuDeviceGetDevResource(0, &whole, CU_DEV_RESOURCE_TYPE_SM), "parts of a device")) {
                puts("green: right");
                return 0;
        }
        CU(cuDeviceGetAttribute(&count, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0));
        CHECK((int)multiprocessors(&whole) == count, "%u multiprocessors, the attribute says %d",
              multiprocessors(&whole), count);
        CU(cuCtxGetDevResource(primary, &again, CU_DEV_RESOURCE_TYPE_SM));
        CHECK(multiprocessors(&again) == multiprocessors(&whole), "the primary context has %u",
              multiprocessors(&again));
        CU(cuStreamGetGreenCtx(NULL, &of_primary));
        CHECK(of_primary == NULL, "the primary context is a part");

        const unsigned made = split(&whole, parts, 4, 2);
        for (unsigned i = 0; i < made; i++) {
                CU(cuDevResourceGenerateDesc(&desc[i], &parts[i], 1));
                CU(cuGreenCtxCreate(&green[i], desc[i], 0, CU_GREEN_CTX_DEFAULT_STREAM));
                CU(cuGreenCtxGetDevResource(green[i], &again, CU_DEV_RESOURCE_TYPE_SM));
                CHECK(multiprocessors(&again) == multiprocessors(&parts[i]), "part %u got %u of %u", i,
                      multiprocessors(&again), multiprocessors(&parts[i]));
        }
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuGreenCtxCreate(&of_primary, desc[0], 0, 0));
        for (unsigned i = 0; i < made; i++) {
                CU(cuCtxFromGreenCtx(&context, green[i]));
                CHECK(context != primary, "a part is the whole");
                works_in(green[i], context, primary, module);
        }
        /* Memory and modules made in a part outlive it. */
        CU(cuCtxFromGreenCtx(&context, green[0]));
        CU(cuCtxSetCurrent(context));
        CUmodule of_part = test_module();
        CU(cuMemAlloc_v2(&kept, 4));
        CU(cuMemsetD32_v2(kept, 70, 1));
        CU(cuCtxSynchronize());
        CU(cuCtxSetCurrent(primary));
        for (unsigned i = 0; i < made; i++)
                CU(cuGreenCtxDestroy(green[i]));
        void *parameters[] = {&kept};
        CU(cuLaunchKernel(test_function(of_part, "increment"), 1, 1, 1, 3, 1, 1, 0, NULL, parameters, NULL));
        CU(cuMemcpyDtoH_v2(&value, kept, 4));
        CHECK(value == 73, "%u after the part's end", value);
        CU(cuMemFree_v2(kept));
        CU(cuModuleUnload(of_part));
        printf("green: right, %u parts\n", made);
        return 0;
}
