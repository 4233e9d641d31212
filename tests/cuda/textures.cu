// Kernels that read textures and write surfaces. textures.ptx is this file through: nvcc -ptx -arch=compute_75 textures.cu
#define INDEX const int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= count) return

extern "C" __global__ void fetch_1d(cudaTextureObject_t texture, const float4 *at, float4 *out, int count)
{
        INDEX;
        out[i] = tex1D<float4>(texture, at[i].x);
}

extern "C" __global__ void fetch_2d(cudaTextureObject_t texture, const float4 *at, float4 *out, int count)
{
        INDEX;
        out[i] = tex2D<float4>(texture, at[i].x, at[i].y);
}

extern "C" __global__ void fetch_3d(cudaTextureObject_t texture, const float4 *at, float4 *out, int count)
{
        INDEX;
        out[i] = tex3D<float4>(texture, at[i].x, at[i].y, at[i].z);
}

extern "C" __global__ void fetch_1d_layered(cudaTextureObject_t texture, const float4 *at, float4 *out, int count)
{
        INDEX;
        out[i] = tex1DLayered<float4>(texture, at[i].x, (int)at[i].w);
}

extern "C" __global__ void fetch_2d_layered(cudaTextureObject_t texture, const float4 *at, float4 *out, int count)
{
        INDEX;
        out[i] = tex2DLayered<float4>(texture, at[i].x, at[i].y, (int)at[i].w);
}

extern "C" __global__ void fetch_level(cudaTextureObject_t texture, const float4 *at, float4 *out, int count)
{
        INDEX;
        out[i] = tex2DLod<float4>(texture, at[i].x, at[i].y, at[i].w);
}

extern "C" __global__ void fetch_linear(cudaTextureObject_t texture, const float4 *at, float4 *out, int count)
{
        INDEX;
        out[i] = tex1Dfetch<float4>(texture, (int)at[i].x);
}

extern "C" __global__ void fetch_integers(cudaTextureObject_t texture, const float4 *at, int4 *out, int count)
{
        INDEX;
        out[i] = tex2D<int4>(texture, at[i].x, at[i].y);
}

extern "C" __global__ void gather_second(cudaTextureObject_t texture, const float4 *at, float4 *out, int count)
{
        INDEX;
        out[i] = tex2Dgather<float4>(texture, at[i].x, at[i].y, 1);
}

extern "C" __global__ void query(cudaTextureObject_t texture, cudaSurfaceObject_t surface, int *out)
{
        asm("txq.width.b32 %0, [%1];" : "=r"(out[0]) : "l"(texture));
        asm("txq.height.b32 %0, [%1];" : "=r"(out[1]) : "l"(texture));
        asm("suq.width.b32 %0, [%1];" : "=r"(out[2]) : "l"(surface));
        asm("suq.height.b32 %0, [%1];" : "=r"(out[3]) : "l"(surface));
}

// Every element gets twice its value and its place added.
extern "C" __global__ void surface_2d(cudaSurfaceObject_t surface, int width, int height)
{
        const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y;
        if (x >= width || y >= height)
                return;
        const int value = surf2Dread<int>(surface, x * 4, y);
        surf2Dwrite<int>(2 * value + 1000 * y + x, surface, x * 4, y);
}

// Places outside: zero, the edge; and writes there that must be dropped.
extern "C" __global__ void surface_outside(cudaSurfaceObject_t surface, int width, int height, int *out)
{
        out[0] = surf2Dread<int>(surface, -4, 0, cudaBoundaryModeZero);
        out[1] = surf2Dread<int>(surface, width * 4, 1, cudaBoundaryModeZero);
        out[2] = surf2Dread<int>(surface, 4, height, cudaBoundaryModeZero);
        out[3] = surf2Dread<int>(surface, -400, 1, cudaBoundaryModeClamp);
        out[4] = surf2Dread<int>(surface, width * 8, 1, cudaBoundaryModeClamp);
        out[5] = surf2Dread<int>(surface, 8, height + 5, cudaBoundaryModeClamp);
        surf2Dwrite<int>(-1, surface, -4, 0, cudaBoundaryModeZero);
        surf2Dwrite<int>(-1, surface, 0, height, cudaBoundaryModeZero);
}

extern "C" __global__ void surface_kinds(cudaSurfaceObject_t bytes, cudaSurfaceObject_t shorts, cudaSurfaceObject_t deep,
                                         cudaSurfaceObject_t layers, int width)
{
        const int x = threadIdx.x;
        if (x >= width)
                return;
        const uchar4 b = surf1Dread<uchar4>(bytes, x * 4);
        surf1Dwrite(make_uchar4(b.w, b.z, b.y, b.x), bytes, x * 4);
        const short2 s = surf2Dread<short2>(shorts, x * 4, 0);
        surf2Dwrite(make_short2(s.y, -s.x), shorts, x * 4, 0);
        for (int z = 0; z < 3; z++) {
                surf3Dwrite(make_float2((float)x, (float)(10 * z)), deep, x * 8, 1, z);
                surf2DLayeredwrite((long long)x * 5000000000ll + z, layers, x * 8, 1, z);
        }
}
