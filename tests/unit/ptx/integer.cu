// arch: compute_75
// One instruction per kernel, on 32-bit and 64-bit operands: the test computes the same in C.
#define INDEX (blockIdx.x * blockDim.x + threadIdx.x)
typedef unsigned u32;
typedef unsigned long long u64;

#define OP32(NAME, TEXT)                                                                                               \
        extern "C" __global__ void NAME(const u32 *a, const u32 *b, const u32 *c, u32 *d)                              \
        {                                                                                                              \
                u32 r;                                                                                                 \
                asm volatile(TEXT : "=r"(r) : "r"(a[INDEX]), "r"(b[INDEX]), "r"(c[INDEX]));                            \
                d[INDEX] = r;                                                                                          \
        }
#define OP64(NAME, TEXT)                                                                                               \
        extern "C" __global__ void NAME(const u64 *a, const u64 *b, const u64 *c, u64 *d)                              \
        {                                                                                                              \
                u64 r;                                                                                                 \
                asm volatile("{ .reg .u32 x, y; .reg .u16 h, g, k; .reg .pred p, q;" TEXT "}"                          \
                             : "=l"(r)                                                                                 \
                             : "l"(a[INDEX]), "l"(b[INDEX]), "l"(c[INDEX]));                                           \
                d[INDEX] = r;                                                                                          \
        }

OP32(add_u32, "add.u32 %0, %1, %2;")
OP32(sub_u32, "sub.s32 %0, %1, %2;")
OP32(add_sat_s32, "add.sat.s32 %0, %1, %2;")
OP32(sub_sat_s32, "sub.sat.s32 %0, %1, %2;")
OP32(mul_lo_s32, "mul.lo.s32 %0, %1, %2;")
OP32(mul_hi_s32, "mul.hi.s32 %0, %1, %2;")
OP32(mul_hi_u32, "mul.hi.u32 %0, %1, %2;")
OP32(mad_lo_s32, "mad.lo.s32 %0, %1, %2, %3;")
OP32(mad_hi_u32, "mad.hi.u32 %0, %1, %2, %3;")
OP32(mad_hi_sat_s32, "mad.hi.sat.s32 %0, %1, %2, %3;")
OP32(mul24_lo_s32, "mul24.lo.s32 %0, %1, %2;")
OP32(mul24_hi_u32, "mul24.hi.u32 %0, %1, %2;")
OP32(mad24_lo_u32, "mad24.lo.u32 %0, %1, %2, %3;")
OP32(sad_s32, "sad.s32 %0, %1, %2, %3;")
OP32(sad_u32, "sad.u32 %0, %1, %2, %3;")
OP32(div_s32, "div.s32 %0, %1, %2;")
OP32(div_u32, "div.u32 %0, %1, %2;")
OP32(rem_s32, "rem.s32 %0, %1, %2;")
OP32(rem_u32, "rem.u32 %0, %1, %2;")
OP32(min_s32, "min.s32 %0, %1, %2;")
OP32(max_u32, "max.u32 %0, %1, %2;")
OP32(abs_s32, "abs.s32 %0, %1;")
OP32(neg_s32, "neg.s32 %0, %1;")
OP32(and_b32, "and.b32 %0, %1, %2;")
OP32(or_b32, "or.b32 %0, %1, %2;")
OP32(xor_b32, "xor.b32 %0, %1, %2;")
OP32(not_b32, "not.b32 %0, %1;")
OP32(cnot_b32, "cnot.b32 %0, %1;")
OP32(shl_b32, "shl.b32 %0, %1, %2;")
OP32(shr_u32, "shr.u32 %0, %1, %2;")
OP32(shr_s32, "shr.s32 %0, %1, %2;")
OP32(shf_l_wrap, "shf.l.wrap.b32 %0, %1, %2, %3;")
OP32(shf_l_clamp, "shf.l.clamp.b32 %0, %1, %2, %3;")
OP32(shf_r_wrap, "shf.r.wrap.b32 %0, %1, %2, %3;")
OP32(shf_r_clamp, "shf.r.clamp.b32 %0, %1, %2, %3;")
OP32(lop3_1e, "lop3.b32 %0, %1, %2, %3, 0x1e;")
OP32(lop3_e8, "lop3.b32 %0, %1, %2, %3, 0xe8;")
OP32(prmt_index, "prmt.b32 %0, %1, %2, %3;")
OP32(prmt_f4e, "prmt.b32.f4e %0, %1, %2, %3;")
OP32(prmt_b4e, "prmt.b32.b4e %0, %1, %2, %3;")
OP32(prmt_rc8, "prmt.b32.rc8 %0, %1, %2, %3;")
OP32(prmt_ecl, "prmt.b32.ecl %0, %1, %2, %3;")
OP32(prmt_ecr, "prmt.b32.ecr %0, %1, %2, %3;")
OP32(prmt_rc16, "prmt.b32.rc16 %0, %1, %2, %3;")
OP32(popc_b32, "popc.b32 %0, %1;")
OP32(clz_b32, "clz.b32 %0, %1;")
OP32(brev_b32, "brev.b32 %0, %1;")
OP32(bfind_u32, "bfind.u32 %0, %1;")
OP32(bfind_s32, "bfind.s32 %0, %1;")
OP32(bfind_shiftamt_s32, "bfind.shiftamt.s32 %0, %1;")
OP32(bfe_u32, "bfe.u32 %0, %1, %2, %3;")
OP32(bfe_s32, "bfe.s32 %0, %1, %2, %3;")
OP32(bfi_b32, "bfi.b32 %0, %1, %2, %3, 7;")
OP32(bfi_len, "bfi.b32 %0, %1, %2, 5, %3;")
OP32(fns_b32, "fns.b32 %0, %1, %2, %3;")
OP32(bmsk_clamp, "bmsk.clamp.b32 %0, %1, %2;")
OP32(bmsk_wrap, "bmsk.wrap.b32 %0, %1, %2;")
OP32(szext_clamp_s32, "szext.clamp.s32 %0, %1, %2;")
OP32(szext_wrap_u32, "szext.wrap.u32 %0, %1, %2;")
OP32(dp4a_s32_s32, "dp4a.s32.s32 %0, %1, %2, %3;")
OP32(dp4a_u32_s32, "dp4a.u32.s32 %0, %1, %2, %3;")
OP32(dp2a_lo_s32_u32, "dp2a.lo.s32.u32 %0, %1, %2, %3;")
OP32(dp2a_hi_u32_u32, "dp2a.hi.u32.u32 %0, %1, %2, %3;")
OP32(carry_chain, "{ .reg .u32 t; add.cc.u32 t, %1, %2; addc.u32 %0, t, %3; }")
OP32(borrow_chain, "{ .reg .u32 t; sub.cc.u32 t, %1, %2; subc.u32 %0, t, %3; }")
OP32(mad_chain, "{ .reg .u32 t; mad.lo.cc.u32 t, %1, %2, %3; madc.hi.u32 %0, %1, %2, t; }")
OP32(slct_s32, "slct.u32.s32 %0, %1, %2, %3;")
OP32(selp_lo, "{ .reg .pred p; setp.lo.u32 p, %1, %2; selp.u32 %0, %3, %1, p; }")
OP32(set_le, "set.le.u32.s32 %0, %1, %2;")
OP32(set_and, "{ .reg .pred p; setp.gt.s32 p, %3, 0; set.lt.and.u32.u32 %0, %1, %2, p; }")
OP32(setp_both, "{ .reg .pred p, q; setp.ge.s32 p|q, %1, %2; selp.u32 %0, 1, 2, p; @q add.u32 %0, %0, 16; }")
OP32(setp_xor_not,
     "{ .reg .pred p, q; setp.eq.u32 q, %3, 7; setp.ne.xor.s32 p, %1, %2, !q; selp.u32 %0, 11, 22, p; }")
OP32(half_words, "{ .reg .u16 l, h; mov.b32 {l, h}, %1; add.u16 l, l, h; mul.lo.u16 h, l, h; mov.b32 %0, {h, l}; }")
OP32(bytes, "{ .reg .u16 l, h; .reg .u32 t; cvt.u16.u8 l, %1; mov.b32 {l, h}, %1; cvt.s16.s8 h, h; cvt.u32.u16 t, l; "
            "mad.wide.s16 %0, h, h, t; }")
OP32(guarded, "{ .reg .pred p; setp.lt.s32 p, %1, %2; mov.u32 %0, 5; @p mov.u32 %0, %3; @!p bra L; add.u32 %0, %0, 1; L: "
              "xor.b32 %0, %0, 3; }")

OP64(add_u64, "add.u64 %0, %1, %2;")
OP64(sub_s64, "sub.s64 %0, %1, %2;")
OP64(mul_lo_u64, "mul.lo.u64 %0, %1, %2;")
OP64(mul_hi_u64, "mul.hi.u64 %0, %1, %2;")
OP64(mul_hi_s64, "mul.hi.s64 %0, %1, %2;")
OP64(mad_lo_s64, "mad.lo.s64 %0, %1, %2, %3;")
OP64(div_s64, "div.s64 %0, %1, %2;")
OP64(rem_u64, "rem.u64 %0, %1, %2;")
OP64(min_s64, "min.s64 %0, %1, %2;")
OP64(max_u64, "max.u64 %0, %1, %2;")
OP64(abs_s64, "abs.s64 %0, %1;")
OP64(shl_b64, "cvt.u32.u64 x, %2; shl.b64 %0, %1, x;")
OP64(shr_s64, "cvt.u32.u64 x, %2; shr.s64 %0, %1, x;")
OP64(shr_u64, "cvt.u32.u64 x, %2; shr.u64 %0, %1, x;")
OP64(popc_b64, "popc.b64 x, %1; cvt.u64.u32 %0, x;")
OP64(clz_b64, "clz.b64 x, %1; cvt.u64.u32 %0, x;")
OP64(brev_b64, "brev.b64 %0, %1;")
OP64(bfind_s64, "bfind.s64 x, %1; cvt.u64.u32 %0, x;")
OP64(bfe_s64, "cvt.u32.u64 x, %2; cvt.u32.u64 y, %3; bfe.s64 %0, %1, x, y;")
OP64(bfe_u64, "cvt.u32.u64 x, %2; cvt.u32.u64 y, %3; bfe.u64 %0, %1, x, y;")
OP64(bfi_b64, "cvt.u32.u64 x, %3; bfi.b64 %0, %1, %2, x, 9;")
OP64(mul_wide_s32, "cvt.u32.u64 x, %1; cvt.u32.u64 y, %2; mul.wide.s32 %0, x, y;")
OP64(mul_wide_u32, "cvt.u32.u64 x, %1; cvt.u32.u64 y, %2; mul.wide.u32 %0, x, y;")
OP64(mad_wide_u32, "cvt.u32.u64 x, %1; cvt.u32.u64 y, %2; mad.wide.u32 %0, x, y, %3;")
OP64(sext_s8, "cvt.s64.s8 %0, %1;")
OP64(zext_u8, "cvt.u64.u8 %0, %1;")
OP64(sext_s16, "cvt.u16.u64 h, %1; cvt.s64.s16 %0, h;")
OP64(sext_s32, "cvt.u32.u64 x, %1; cvt.s64.s32 %0, x;")
OP64(sat_s8_s64, "cvt.sat.s8.s64 x, %1; cvt.s64.s32 %0, x;")
OP64(sat_u16_s64, "cvt.sat.u16.s64 h, %1; cvt.u64.u16 %0, h;")
OP64(sat_s32_u64, "cvt.sat.s32.u64 x, %1; cvt.s64.s32 %0, x;")
OP64(sat_u64_s32, "cvt.u32.u64 x, %1; cvt.sat.u64.s32 %0, x;")
OP64(s16_ops, "cvt.u16.u64 h, %1; cvt.u16.u64 g, %2; min.s16 k, h, g; mul.hi.s16 h, h, g; sub.s16 h, h, k; shr.s16 h, h, 3; "
              "div.s16 g, g, 7; xor.b16 h, h, g; cvt.s64.s16 %0, h;")
OP64(u16_ops, "cvt.u16.u64 h, %1; cvt.u16.u64 g, %2; max.u16 k, h, g; mul.hi.u16 h, h, g; add.u16 h, h, k; shr.u16 h, h, 2; "
              "rem.u16 g, g, 11; or.b16 h, h, g; mul.wide.u16 x, h, g; cvt.u64.u32 %0, x;")
OP64(pack_quarters, "mov.b64 {h, g, k, _}, %1; mov.b64 %0, {k, h, g, h};")
OP64(pack_halves, "mov.b64 {x, y}, %1; mov.b64 %0, {y, x};")
OP64(wide_carry, "{ .reg .u64 t; add.cc.u64 t, %1, %2; addc.u64 %0, t, %3; }")
OP64(wide_borrow, "{ .reg .u64 t; sub.cc.u64 t, %1, %2; subc.u64 %0, %3, t; }")
OP64(cmp_u64, "setp.hi.u64 p, %1, %2; selp.u64 %0, %3, %2, p;")
OP64(pred_logic, "setp.lt.s64 p, %1, %2; setp.gt.u64 q, %2, %3; xor.pred p, p, q; not.pred q, q; or.pred p, p, q; "
                 "selp.u64 %0, 1, 0, p; @p and.b64 %0, %0, %1;")
