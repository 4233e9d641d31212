// arch: compute_80
// f16 and bf16: arithmetic, comparisons, conversions; and what sm_80 brought.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline.h>
typedef unsigned u32;
typedef unsigned short u16;
#define INDEX (blockIdx.x * blockDim.x + threadIdx.x)

#define OP16(NAME, TEXT)                                                                                               \
        extern "C" __global__ void NAME(const u16 *a, const u16 *b, const u16 *c, u16 *d)                              \
        {                                                                                                              \
                u16 r;                                                                                                 \
                asm volatile("{ .reg .pred p; .reg .f32 s; .reg .b32 w; .reg .f64 l;" TEXT "}"                         \
                             : "=h"(r)                                                                                 \
                             : "h"(a[INDEX]), "h"(b[INDEX]), "h"(c[INDEX]));                                           \
                d[INDEX] = r;                                                                                          \
        }
#define OP32(NAME, TEXT)                                                                                               \
        extern "C" __global__ void NAME(const u32 *a, const u32 *b, const u32 *c, u32 *d)                              \
        {                                                                                                              \
                u32 r;                                                                                                 \
                asm volatile("{ .reg .pred p, q; .reg .b16 h, l;" TEXT "}"                                             \
                             : "=r"(r)                                                                                 \
                             : "r"(a[INDEX]), "r"(b[INDEX]), "r"(c[INDEX]));                                           \
                d[INDEX] = r;                                                                                          \
        }
OP16(h_add, "add.f16 %0, %1, %2;")
OP16(h_sub, "sub.rn.f16 %0, %1, %2;")
OP16(h_mul, "mul.f16 %0, %1, %2;")
OP16(h_fma, "fma.rn.f16 %0, %1, %2, %3;")
OP16(h_fma_sat, "fma.rn.sat.f16 %0, %1, %2, %3;")
OP16(h_fma_relu, "fma.rn.relu.f16 %0, %1, %2, %3;")
OP16(h_neg, "neg.f16 %0, %1;")
OP16(h_abs, "abs.f16 %0, %1;")
OP16(h_min, "min.f16 %0, %1, %2;")
OP16(h_max_nan, "max.NaN.f16 %0, %1, %2;")
OP16(h_setp, "setp.lt.f16 p, %1, %2; selp.b16 %0, %1, %3, p;")
OP16(h_to_int, "cvt.rni.s16.f16 %0, %1;")
OP16(h_from_int, "cvt.rn.f16.s16 %0, %1;")
OP16(h_rint, "cvt.rni.f16.f16 %0, %1;")
OP16(h_tanh, "tanh.approx.f16 %0, %1;")
OP16(h_ex2, "ex2.approx.f16 %0, %1;")
OP16(b_fma, "fma.rn.bf16 %0, %1, %2, %3;")
OP16(b_neg, "neg.bf16 %0, %1;")
OP16(b_min, "min.bf16 %0, %1, %2;")
OP32(h2_fma, "fma.rn.f16x2 %0, %1, %2, %3;")
OP32(h2_add, "add.f16x2 %0, %1, %2;")
OP32(h2_max, "max.f16x2 %0, %1, %2;")
OP32(h2_setp, "setp.ge.f16x2 p|q, %1, %2; mov.b32 {l, h}, %3; @p neg.f16 l, l; @q abs.f16 h, h; mov.b32 %0, {l, h};")
OP32(b2_fma, "fma.rn.bf16x2 %0, %1, %2, %3;")
OP32(b2_from_f32, "cvt.rn.bf16x2.f32 %0, %1, %2;")
OP32(h2_from_f32, "cvt.rn.f16x2.f32 %0, %1, %2;")
OP32(h2_from_f32_relu, "cvt.rn.relu.f16x2.f32 %0, %1, %2;")
OP32(b_from_f32_rz, "cvt.rz.bf16.f32 h, %1; cvt.u32.u16 %0, h;")
OP32(tf32_rna, "cvt.rna.tf32.f32 %0, %1;")
OP32(min_nan_f32, "min.NaN.f32 %0, %1, %2;")
OP32(pack_s8, "cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;")
OP32(pack_u16, "cvt.pack.sat.u16.s32 %0, %1, %2;")

extern "C" __global__ void half_polynomial(const __half *a, const __nv_bfloat16 *b, float *out)
{
        int i = INDEX;
        __half x = a[i], r = __hfma(x, __float2half(0.5f), __float2half(-1.25f));
        r = __hadd(__hmul(r, x), hrcp(__hadd(__habs(x), __float2half(1.0f))));
        __nv_bfloat16 y = b[i], s = __hfma(y, y, __float2bfloat16(0.75f));
        s = __hsub(s, __hmul(y, __float2bfloat16(3.0f)));
        __half2 p = __halves2half2(x, r);
        p = __hfma2(p, p, __float2half2_rn(0.125f));
        out[i] = __half2float(r) + __bfloat162float(s) + __low2float(p) + __high2float(p) + (__hgt(x, r) ? 64.0f : 0.0f);
}

extern "C" __global__ void reductions(const int *in, int *out)
{
        int v = in[threadIdx.x], lane = threadIdx.x & 31;
        out[threadIdx.x * 5] = __reduce_add_sync(~0u, v);
        out[threadIdx.x * 5 + 1] = __reduce_min_sync(~0u, v);
        out[threadIdx.x * 5 + 2] = __reduce_max_sync(~0u, (unsigned)v);
        unsigned mine = lane < 10 ? 0x3ffu : ~0x3ffu;
        out[threadIdx.x * 5 + 3] = __reduce_xor_sync(mine, v);
        out[threadIdx.x * 5 + 4] = __reduce_and_sync(mine, v | 0x100) + __reduce_or_sync(mine, v);
}

extern "C" __global__ void asynchronous_copy(const int4 *in, int4 *out)
{
        __shared__ int4 s[64];
        __pipeline_memcpy_async(&s[threadIdx.x], &in[threadIdx.x], 16, threadIdx.x & 1 ? 4 : 0);
        __pipeline_commit();
        __pipeline_wait_prior(0);
        __syncthreads();
        out[threadIdx.x] = s[63 - threadIdx.x];
}

extern "C" __global__ void scoped_memory(int *data, int *out)
{
        int v, w;
        asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(v) : "l"(data + threadIdx.x) : "memory");
        asm volatile("st.release.sys.global.s32 [%0], %1;" ::"l"(data + threadIdx.x), "r"(v + 1) : "memory");
        asm volatile("ld.relaxed.cta.global.L1::no_allocate.s32 %0, [%1];" : "=r"(w) : "l"(data + threadIdx.x) : "memory");
        asm volatile("fence.acq_rel.gpu;" ::: "memory");
        asm volatile("atom.add.release.gpu.global.s32 %0, [%1], %2;" : "=r"(v) : "l"(data + threadIdx.x), "r"(5) : "memory");
        asm volatile("red.relaxed.gpu.global.max.s32 [%0], %1;" ::"l"(data + threadIdx.x), "r"(17) : "memory");
        asm volatile("prefetch.global.L2 [%0];" ::"l"(data));
        out[threadIdx.x] = v * 1000 + w + __ldg(data + threadIdx.x) * 1000000;
}
