// arch: compute_75
// Floating point, one instruction per kernel; operands and results are bit patterns.
#define INDEX (blockIdx.x * blockDim.x + threadIdx.x)
typedef unsigned u32;
typedef unsigned long long u64;

#define OP32(NAME, TEXT)                                                                                               \
        extern "C" __global__ void NAME(const u32 *a, const u32 *b, const u32 *c, u32 *d)                              \
        {                                                                                                              \
                u32 r;                                                                                                 \
                asm volatile("{ .reg .f32 x, y, z, w; .reg .pred p, q; .reg .b16 h; mov.b32 x, %1; mov.b32 y, %2; "    \
                             "mov.b32 z, %3;" TEXT " mov.b32 %0, w; }"                                                 \
                             : "=r"(r)                                                                                 \
                             : "r"(a[INDEX]), "r"(b[INDEX]), "r"(c[INDEX]));                                           \
                d[INDEX] = r;                                                                                          \
        }
#define OP64(NAME, TEXT)                                                                                               \
        extern "C" __global__ void NAME(const u64 *a, const u64 *b, const u64 *c, u64 *d)                              \
        {                                                                                                              \
                u64 r;                                                                                                 \
                asm volatile("{ .reg .f64 x, y, z, w; .reg .pred p, q; .reg .f32 s; .reg .b32 i; .reg .b16 h; "        \
                             "mov.b64 x, %1; mov.b64 y, %2; mov.b64 z, %3;" TEXT " mov.b64 %0, w; }"                   \
                             : "=l"(r)                                                                                 \
                             : "l"(a[INDEX]), "l"(b[INDEX]), "l"(c[INDEX]));                                           \
                d[INDEX] = r;                                                                                          \
        }

OP32(add_f32, "add.f32 w, x, y;")
OP32(sub_f32, "sub.rn.f32 w, x, y;")
OP32(mul_f32, "mul.f32 w, x, y;")
OP32(fma_f32, "fma.rn.f32 w, x, y, z;")
OP32(div_f32, "div.rn.f32 w, x, y;")
OP32(sqrt_f32, "sqrt.rn.f32 w, x;")
OP32(rcp_f32, "rcp.rn.f32 w, x;")
OP32(min_f32, "min.f32 w, x, y;")
OP32(max_f32, "max.f32 w, x, y;")
OP32(abs_f32, "abs.f32 w, x;")
OP32(neg_f32, "neg.f32 w, x;")
OP32(add_ftz_f32, "add.ftz.f32 w, x, y;")
OP32(mul_ftz_f32, "mul.ftz.f32 w, x, y;")
OP32(fma_ftz_f32, "fma.rn.ftz.f32 w, x, y, z;")
OP32(add_sat_f32, "add.sat.f32 w, x, y;")
OP32(fma_sat_f32, "fma.rn.sat.f32 w, x, y, z;")
OP32(add_rz_f32, "add.rz.f32 w, x, y;")
OP32(add_rm_f32, "add.rm.f32 w, x, y;")
OP32(mul_rp_f32, "mul.rp.f32 w, x, y;")
OP32(fma_rz_f32, "fma.rz.f32 w, x, y, z;")
OP32(div_rp_f32, "div.rp.f32 w, x, y;")
OP32(sqrt_rm_f32, "sqrt.rm.f32 w, x;")
OP32(copysign_f32, "copysign.f32 w, x, y;")
OP32(setp_ltu, "setp.ltu.f32 p, x, y; selp.f32 w, 0f3F800000, 0f40000000, p;")
OP32(setp_ne, "setp.ne.f32 p, x, y; selp.f32 w, 0f3F800000, 0f40000000, p;")
OP32(setp_neu, "setp.neu.f32 p, x, y; selp.f32 w, 0f3F800000, 0f40000000, p;")
OP32(setp_nan, "setp.nan.f32 p, x, y; selp.f32 w, 0f3F800000, 0f40000000, p;")
OP32(setp_ge_and, "setp.num.f32 q, z, z; setp.ge.and.f32 p|q, x, y, q; selp.f32 w, x, y, p; @q mov.f32 w, z;")
OP32(set_gt_f32, "set.gt.f32.f32 w, x, y;")
OP32(testp_normal, "testp.normal.f32 p, x; testp.subnormal.f32 q, x; selp.f32 w, 0f3F800000, 0f00000000, p; @q mov.f32 w, x;")
OP32(testp_infinite, "testp.infinite.f32 p, x; testp.notanumber.f32 q, x; selp.f32 w, y, z, p; @q mov.f32 w, x;")
OP32(rint_f32, "cvt.rni.f32.f32 w, x;")
OP32(trunc_f32, "cvt.rzi.f32.f32 w, x;")
OP32(floor_f32, "cvt.rmi.f32.f32 w, x;")
OP32(ceil_f32, "cvt.rpi.f32.f32 w, x;")
OP32(sat_f32, "cvt.sat.f32.f32 w, x;")
OP32(f32_to_s32, "{ .reg .s32 t; cvt.rzi.s32.f32 t, x; mov.b32 w, t; }")
OP32(f32_to_u32, "{ .reg .u32 t; cvt.rni.u32.f32 t, x; mov.b32 w, t; }")
OP32(f32_to_s8, "{ .reg .s32 t; cvt.rmi.s8.f32 t, x; mov.b32 w, t; }")
OP32(f32_to_u16, "{ .reg .u16 g; .reg .u32 t; cvt.rpi.u16.f32 g, x; cvt.u32.u16 t, g; mov.b32 w, t; }")
OP32(s32_to_f32, "{ .reg .s32 t; mov.b32 t, x; cvt.rn.f32.s32 w, t; }")
OP32(u32_to_f32_rz, "{ .reg .u32 t; mov.b32 t, x; cvt.rz.f32.u32 w, t; }")
OP32(f32_to_f16, "{ .reg .u32 t; cvt.rn.f16.f32 h, x; cvt.u32.u16 t, h; mov.b32 w, t; }")
OP32(f32_to_f16_rz, "{ .reg .u32 t; cvt.rz.f16.f32 h, x; cvt.u32.u16 t, h; mov.b32 w, t; }")
OP32(f16_to_f32, "{ .reg .b16 g; mov.b32 {h, g}, x; cvt.f32.f16 w, h; }")
OP32(sin_approx, "sin.approx.f32 w, x;")
OP32(cos_approx, "cos.approx.f32 w, x;")
OP32(ex2_approx, "ex2.approx.ftz.f32 w, x;")
OP32(lg2_approx, "lg2.approx.f32 w, x;")
OP32(tanh_approx, "tanh.approx.f32 w, x;")
OP32(rsqrt_approx, "rsqrt.approx.f32 w, x;")
OP32(rcp_approx, "rcp.approx.ftz.f32 w, x;")
OP32(sqrt_approx, "sqrt.approx.f32 w, x;")
OP32(div_full, "div.full.f32 w, x, y;")

OP64(add_f64, "add.f64 w, x, y;")
OP64(mul_f64, "mul.f64 w, x, y;")
OP64(fma_f64, "fma.rn.f64 w, x, y, z;")
OP64(div_f64, "div.rn.f64 w, x, y;")
OP64(sqrt_f64, "sqrt.rn.f64 w, x;")
OP64(min_f64, "min.f64 w, x, y;")
OP64(max_f64, "max.f64 w, x, y;")
OP64(add_rp_f64, "add.rp.f64 w, x, y;")
OP64(mul_rz_f64, "mul.rz.f64 w, x, y;")
OP64(fma_rm_f64, "fma.rm.f64 w, x, y, z;")
OP64(setp_gtu_f64, "setp.gtu.f64 p, x, y; selp.f64 w, x, z, p;")
OP64(f64_to_f32, "cvt.rn.f32.f64 s, x; cvt.f64.f32 w, s;")
OP64(f64_to_f32_rm, "cvt.rm.f32.f64 s, x; cvt.f64.f32 w, s;")
OP64(f64_to_f16, "{ .reg .b64 t; cvt.rn.f16.f64 h, x; cvt.u64.u16 t, h; mov.b64 w, t; }")
OP64(f64_to_s64, "{ .reg .b64 t; cvt.rzi.s64.f64 t, x; mov.b64 w, t; }")
OP64(f64_to_u64, "{ .reg .b64 t; cvt.rni.u64.f64 t, x; mov.b64 w, t; }")
OP64(f64_to_s32, "{ .reg .b64 t; cvt.rzi.s32.f64 i, x; cvt.s64.s32 t, i; mov.b64 w, t; }")
OP64(s64_to_f64, "{ .reg .b64 t; mov.b64 t, x; cvt.rn.f64.s64 w, t; }")
OP64(u64_to_f64_rz, "{ .reg .b64 t; mov.b64 t, x; cvt.rz.f64.u64 w, t; }")
OP64(s64_to_f32, "{ .reg .b64 t; mov.b64 t, x; cvt.rn.f32.s64 s, t; cvt.f64.f32 w, s; }")
OP64(u64_to_f32_rp, "{ .reg .b64 t; mov.b64 t, x; cvt.rp.f32.u64 s, t; cvt.f64.f32 w, s; }")
OP64(f32_to_s64, "{ .reg .b64 t; cvt.rn.f32.f64 s, x; cvt.rzi.s64.f32 t, s; mov.b64 w, t; }")
OP64(rint_f64, "cvt.rni.f64.f64 w, x;")
OP64(rcp_gross_f64, "rcp.approx.ftz.f64 w, x;")
