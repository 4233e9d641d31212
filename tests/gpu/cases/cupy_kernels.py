"""CuPy: kernels compiled by NVRTC in the program, modules with globals and templates, a texture object, streams,
events, graphs, pinned memory, managed memory."""

import support

numpy = support.need("numpy")
cupy = support.need("cupy")


def elementwise():
    kernel = cupy.ElementwiseKernel("float32 x, float32 y", "float32 z", "z = (x - y) * (x - y)", "squared_difference")
    x, y = cupy.arange(1000, dtype="float32"), cupy.full(1000, 3, dtype="float32")
    support.check(
        numpy.array_equal(cupy.asnumpy(kernel(x, y)), (numpy.arange(1000, dtype="float32") - 3) ** 2), "elementwise"
    )
    total = cupy.ReductionKernel("float32 x", "float32 y", "x * x", "a + b", "y = a", "0", "sum_of_squares")
    support.result("reduction", float(total(cupy.arange(100, dtype="float32"))))
    support.result("fused", float(cupy.sqrt(x * 2 + 1).astype("float64").sum()))


def raw_kernel():
    kernel = cupy.RawKernel(
        r"""
    extern "C" __global__ void add(const float *a, const float *b, float *c, int n)
    {
        int i = blockDim.x * blockIdx.x + threadIdx.x;
        if (i < n)
            c[i] = a[i] + b[i];
    }""",
        "add",
    )
    n = 100000
    a, b, c = (
        cupy.arange(n, dtype="float32"),
        cupy.arange(n, dtype="float32")[::-1].copy(),
        cupy.zeros(n, dtype="float32"),
    )
    kernel(((n + 255) // 256,), (256,), (a, b, c, numpy.int32(n)))
    support.check(bool((c == n - 1).all()), "raw kernel")
    support.result("registers", kernel.num_regs)
    support.result("threads_max", kernel.max_threads_per_block)


def raw_module():
    source = r"""
    __constant__ float factors[4];
    __device__ int calls;
    template <typename T> __global__ void scale(T *x, int n)
    {
        int i = blockDim.x * blockIdx.x + threadIdx.x;
        if (i == 0)
            atomicAdd(&calls, 1);
        if (i < n)
            x[i] = x[i] * (T)factors[i % 4];
    }"""
    names = ["scale<float>", "scale<double>"]
    module = cupy.RawModule(code=source, options=("-std=c++17",), name_expressions=names)
    for name, dtype in zip(names, ("float32", "float64")):
        function = module.get_function(name)
        pointer = module.get_global("factors")
        factors = cupy.ndarray(4, "float32", pointer)
        factors[:] = cupy.asarray([1, 2, 3, 4], dtype="float32")
        x = cupy.ones(1000, dtype=dtype)
        function((4,), (256,), (x, numpy.int32(1000)))
        support.check(numpy.array_equal(cupy.asnumpy(x), numpy.tile([1, 2, 3, 4], 250)), name)
    calls = cupy.ndarray(1, "int32", module.get_global("calls"))
    support.result("calls", int(calls[0]))


def texture():
    source = r"""
    extern "C" __global__ void sample(float *out, cudaTextureObject_t texture, int width, int height)
    {
        int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
        if (x < width && y < height)
            out[y * width + x] = tex2D<float>(texture, (float)x + 0.5f, (float)y + 0.5f);
    }"""
    from cupy.cuda import runtime, texture as textures

    width, height = 48, 20
    data = numpy.arange(width * height, dtype="float32").reshape(height, width)
    channel = textures.ChannelFormatDescriptor(32, 0, 0, 0, runtime.cudaChannelFormatKindFloat)
    array = textures.CUDAarray(channel, width, height)
    array.copy_from(data)
    resource = textures.ResourceDescriptor(runtime.cudaResourceTypeArray, cuArr=array)
    description = textures.TextureDescriptor(
        (runtime.cudaAddressModeClamp, runtime.cudaAddressModeClamp),
        runtime.cudaFilterModePoint,
        runtime.cudaReadModeElementType,
    )
    with_texture = textures.TextureObject(resource, description)
    out = cupy.zeros((height, width), dtype="float32")
    cupy.RawKernel(source, "sample")((3, 2), (16, 16), (out, with_texture, numpy.int32(width), numpy.int32(height)))
    support.check(numpy.array_equal(cupy.asnumpy(out), data), "what the texture gave")
    back = numpy.zeros_like(data)
    array.copy_to(back)
    support.check(numpy.array_equal(back, data), "the array read back")
    support.result("texture", support.digest(out))


def streams_and_events():
    stream = cupy.cuda.Stream(non_blocking=True)
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record(stream)
    with stream:
        x = cupy.ones(1 << 20)
        for _ in range(10):
            x = x * 2
    end.record(stream)
    end.synchronize()
    support.check(cupy.cuda.get_elapsed_time(start, end) > 0, "elapsed time")
    support.result("stream", float(x[5]))
    called = []
    stream.launch_host_func(called.append, 7)
    stream.synchronize()
    support.result("host_function", called)


def graph():
    stream = cupy.cuda.Stream(non_blocking=True)
    kernel = cupy.RawKernel('extern "C" __global__ void more(int *x) { atomicAdd(x, (int)threadIdx.x); }', "more")
    x = cupy.zeros(1, dtype="int32")
    kernel((1,), (1,), (x,))
    cupy.cuda.runtime.deviceSynchronize()
    with stream:
        stream.begin_capture()
        for _ in range(5):
            kernel((1,), (32,), (x,))
        graph_of = stream.end_capture()
        for _ in range(3):
            graph_of.launch()
    stream.synchronize()
    support.result("graph", int(x[0]))
    support.check(int(x[0]) == 15 * 496, "launched graph gave", int(x[0]))


def pinned_and_pool():
    memory = cupy.cuda.alloc_pinned_memory(1 << 20)
    host = numpy.frombuffer(memory, dtype="int32", count=1 << 18)
    host[:] = numpy.arange(1 << 18)
    device = cupy.empty(1 << 18, dtype="int32")
    device.set(host, stream=cupy.cuda.Stream.null)
    support.result("pinned", int(device.sum(dtype="int64")))
    pool = cupy.get_default_memory_pool()
    used = pool.used_bytes()
    x = cupy.empty(10 << 20, dtype="uint8")
    support.result("pool", pool.used_bytes() - used)
    del x
    previous = cupy.cuda.get_allocator()
    try:
        cupy.cuda.set_allocator(cupy.cuda.MemoryAsyncPool().malloc)
        support.result("async_pool", float(cupy.arange(1000.0).sum()))
    finally:
        cupy.cuda.set_allocator(previous)


def managed():
    previous = cupy.cuda.get_allocator()
    try:
        cupy.cuda.set_allocator(cupy.cuda.MemoryPool(cupy.cuda.malloc_managed).malloc)
        x = cupy.arange(1 << 16, dtype="float64")
        support.result("managed", float((x * 2).sum()))
    finally:
        cupy.cuda.set_allocator(previous)


support.run(elementwise, raw_kernel, raw_module, texture, streams_and_events, graph, pinned_and_pool, managed)
