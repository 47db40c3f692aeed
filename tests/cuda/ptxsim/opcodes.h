/* The one table of opcodes. What is not here, by name and type, fails when the module is loaded.
 *
 * LANE   X(id, name, types, sources, D, A, B, C, E, result)  result in the C type D from a, b, c, e of the C types A, B, C, E, and imm
 * CHOOSE X(id, types, T)                                     selp
 * TEST   X(id, types, T, as)                                 setp and set: compares as(a) with as(b)
 * LOGIC  X(id, name, sources, result)                        predicates, 32 lanes to a word
 * STEP   X(name, decoder)                                    everything with an effect beyond its destination; the longest name that fits
 *
 * A name is the opcode with its modifiers less types, rounding, ftz, sat, approx, full; of two types the first is the row's, the second joins the name.
 */
#ifndef PTXSIM_OPCODES_H
#define PTXSIM_OPCODES_H

#define I16 (TY(u16) | TY(s16) | TY(b16))
#define I32 (TY(u32) | TY(s32) | TY(b32))
#define I64 (TY(u64) | TY(s64) | TY(b64))

/* The same text for each width; w in the text is the number of bits. */
#define WRAP(X, id, name, n, r)                                   \
    X(id##_16, name, I16, n, u16, u16, u16, u16, u16, r)          \
    X(id##_32, name, I32, n, u32, u32, u32, u32, u32, r)          \
    X(id##_64, name, I64, n, u64, u64, u64, u64, u64, r)
#define BOTH(X, id, name, n, ru, rs)                                     \
    X(id##_u16, name, TY(u16), n, u16, u16, u16, u16, u16, ru)           \
    X(id##_u32, name, TY(u32), n, u32, u32, u32, u32, u32, ru)           \
    X(id##_u64, name, TY(u64), n, u64, u64, u64, u64, u64, ru)           \
    X(id##_s16, name, TY(s16), n, s16, s16, s16, s16, s16, rs)           \
    X(id##_s32, name, TY(s32), n, s32, s32, s32, s32, s32, rs)           \
    X(id##_s64, name, TY(s64), n, s64, s64, s64, s64, s64, rs)
#define SHIFT(X, id, name, types, T, r) X(id, name, types, 2, T, T, u32, u32, u32, r)
#define FLOATS(X, id, name, n, r32, r64)                          \
    X(id##_f32, name, TY(f32), n, f32, f32, f32, f32, f32, r32)   \
    X(id##_f64, name, TY(f64), n, f64, f64, f64, f64, f64, r64)
/* Text over floats x, y, z, for halves alone and in pairs; rounded once, to nearest even. */
#define HALF(X, id, name, n, r)                                                                         \
    X(id##_f16, name, TY(f16), n, u16, u16, u16, u16, u16, HALF1(from_f16, to_f16, r))                  \
    X(id##_bf16, name, TY(bf16), n, u16, u16, u16, u16, u16, HALF1(from_bf16, to_bf16, r))              \
    X(id##_f16x2, name, TY(f16x2), n, u32, u32, u32, u32, u32, HALF2(from_f16, to_f16, r))              \
    X(id##_bf16x2, name, TY(bf16x2), n, u32, u32, u32, u32, u32, HALF2(from_bf16, to_bf16, r))
#define BITS(X, id, name, n, r16, r32)                                          \
    X(id##_h, name, TY(f16) | TY(bf16), n, u16, u16, u16, u16, u16, r16)        \
    X(id##_h2, name, TY(f16x2) | TY(bf16x2), n, u32, u32, u32, u32, u32, r32)

#define PTXSIM_LANE_OPS(X)                                                                                                                        \
    WRAP(X, add, "add", 2, a + b)                                                                                                                 \
    WRAP(X, sub, "sub", 2, a - b)                                                                                                                 \
    WRAP(X, mul_lo, "mul.lo", 2, a * (b + 0u))                                                                                                    \
    WRAP(X, mad_lo, "mad.lo", 3, a * (b + 0u) + c)                                                                                                \
    WRAP(X, and, "and", 2, a & b)                                                                                                                 \
    WRAP(X, or, "or", 2, a | b)                                                                                                                   \
    WRAP(X, xor, "xor", 2, a ^ b)                                                                                                                 \
    WRAP(X, not, "not", 1, ~a)                                                                                                                    \
    WRAP(X, neg, "neg", 1, 0u - a)                                                                                                                \
    WRAP(X, cnot, "cnot", 1, a == 0)                                                                                                              \
    X(mov_16, "mov", I16 | TY(f16) | TY(bf16), 1, u16, u16, u16, u16, u16, a)                                                                     \
    X(mov_32, "mov", I32 | TY(f32) | TY(f16x2) | TY(bf16x2), 1, u32, u32, u32, u32, u32, a)                                                       \
    X(mov_64, "mov", I64 | TY(f64), 1, u64, u64, u64, u64, u64, a)                                                                                \
    X(pack_2x16, "pack.b16", TY(b32), 2, u32, u16, u16, u16, u16, (u32)b << 16 | a)                                                               \
    X(pack_2x32, "pack.b32", TY(b64), 2, u64, u32, u32, u32, u32, (u64)b << 32 | a)                                                               \
    X(pack_4x16, "pack.b16", TY(b64), 4, u64, u16, u16, u16, u16, (u64)e << 48 | (u64)c << 32 | (u64)b << 16 | a)                                 \
    BOTH(X, min, "min", 2, a < b ? a : b, a < b ? a : b)                                                                                          \
    BOTH(X, max, "max", 2, a > b ? a : b, a > b ? a : b)                                                                                          \
    BOTH(X, div, "div", 2, b ? a / b : 0, b == 0 ? 0 : b == -1 ? (s64)(0 - (u64)a) : a / b)                                                       \
    BOTH(X, rem, "rem", 2, b ? a % b : 0, b == 0 || b == -1 ? 0 : a % b)                                                                          \
    BOTH(X, abs, "abs", 1, a, a < 0 ? (s64)(0 - (u64)a) : a)                                                                                      \
    BOTH(X, sad, "sad", 3, c + (a < b ? b - a : a - b), (s64)((u64)c + (a < b ? (u64)b - (u64)a : (u64)a - (u64)b)))                              \
    X(mul_hi_u16, "mul.hi", TY(u16), 2, u16, u16, u16, u16, u16, ((u32)a * b) >> 16)                                                              \
    X(mul_hi_s16, "mul.hi", TY(s16), 2, s16, s16, s16, s16, s16, ((s32)a * b) >> 16)                                                              \
    X(mul_hi_u32, "mul.hi", TY(u32), 2, u32, u32, u32, u32, u32, ((u64)a * b) >> 32)                                                              \
    X(mul_hi_s32, "mul.hi", TY(s32), 2, s32, s32, s32, s32, s32, ((s64)a * b) >> 32)                                                              \
    X(mul_hi_u64, "mul.hi", TY(u64), 2, u64, u64, u64, u64, u64, high_u64(a, b))                                                                  \
    X(mul_hi_s64, "mul.hi", TY(s64), 2, s64, s64, s64, s64, s64, high_s64(a, b))                                                                  \
    X(mad_hi_u32, "mad.hi", TY(u32), 3, u32, u32, u32, u32, u32, (((u64)a * b) >> 32) + c)                                                        \
    X(mad_hi_s32, "mad.hi", TY(s32), 3, u32, s32, s32, u32, u32, (u32)(((s64)a * b) >> 32) + c)                                                   \
    X(mad_hi_u64, "mad.hi", TY(u64), 3, u64, u64, u64, u64, u64, high_u64(a, b) + c)                                                              \
    X(mad_hi_s64, "mad.hi", TY(s64), 3, u64, s64, s64, u64, u64, (u64)high_s64(a, b) + c)                                                         \
    X(mul_wide_u16, "mul.wide", TY(u16), 2, u32, u16, u16, u16, u16, (u32)a * b)                                                                  \
    X(mul_wide_s16, "mul.wide", TY(s16), 2, s32, s16, s16, s16, s16, (s32)a * b)                                                                  \
    X(mul_wide_u32, "mul.wide", TY(u32), 2, u64, u32, u32, u32, u32, (u64)a * b)                                                                  \
    X(mul_wide_s32, "mul.wide", TY(s32), 2, s64, s32, s32, s32, s32, (s64)a * b)                                                                  \
    X(mad_wide_u16, "mad.wide", TY(u16), 3, u32, u16, u16, u32, u32, (u32)a * b + c)                                                              \
    X(mad_wide_s16, "mad.wide", TY(s16), 3, u32, s16, s16, u32, u32, (u32)((s32)a * b) + c)                                                       \
    X(mad_wide_u32, "mad.wide", TY(u32), 3, u64, u32, u32, u64, u64, (u64)a * b + c)                                                              \
    X(mad_wide_s32, "mad.wide", TY(s32), 3, u64, s32, s32, u64, u64, (u64)((s64)a * b) + c)                                                       \
    SHIFT(X, shl_16, "shl", I16, u16, b > 15 ? 0 : a << b)                                                                                        \
    SHIFT(X, shl_32, "shl", I32, u32, b > 31 ? 0 : a << (b & 31))                                                                                 \
    SHIFT(X, shl_64, "shl", I64, u64, b > 63 ? 0 : a << (b & 63))                                                                                 \
    SHIFT(X, shr_u16, "shr", TY(u16) | TY(b16), u16, b > 15 ? 0 : a >> b)                                                                         \
    SHIFT(X, shr_u32, "shr", TY(u32) | TY(b32), u32, b > 31 ? 0 : a >> (b & 31))                                                                  \
    SHIFT(X, shr_u64, "shr", TY(u64) | TY(b64), u64, b > 63 ? 0 : a >> (b & 63))                                                                  \
    SHIFT(X, shr_s16, "shr", TY(s16), s16, a >> (b > 15 ? 15 : b))                                                                                \
    SHIFT(X, shr_s32, "shr", TY(s32), s32, a >> (b > 31 ? 31 : b))                                                                                \
    SHIFT(X, shr_s64, "shr", TY(s64), s64, a >> (b > 63 ? 63 : b))                                                                                \
    X(shf_l_wrap, "shf.l.wrap", TY(b32), 3, u32, u32, u32, u32, u32, (u32)(((u64)b << 32 | a) << (c & 31) >> 32))                                 \
    X(shf_l_clamp, "shf.l.clamp", TY(b32), 3, u32, u32, u32, u32, u32, (u32)(((u64)b << 32 | a) << (c > 32 ? 32 : c) >> 32))                      \
    X(shf_r_wrap, "shf.r.wrap", TY(b32), 3, u32, u32, u32, u32, u32, (u32)(((u64)b << 32 | a) >> (c & 31)))                                       \
    X(shf_r_clamp, "shf.r.clamp", TY(b32), 3, u32, u32, u32, u32, u32, (u32)(((u64)b << 32 | a) >> (c > 32 ? 32 : c)))                            \
    X(popc_32, "popc", TY(b32), 1, u32, u32, u32, u32, u32, (u32)__builtin_popcount(a))                                                           \
    X(popc_64, "popc", TY(b64), 1, u32, u64, u64, u64, u64, (u32)__builtin_popcountll(a))                                                         \
    X(clz_32, "clz", TY(b32), 1, u32, u32, u32, u32, u32, a ? (u32)__builtin_clz(a) : 32)                                                         \
    X(clz_64, "clz", TY(b64), 1, u32, u64, u64, u64, u64, a ? (u32)__builtin_clzll(a) : 64)                                                       \
    X(bfind_u32, "bfind", TY(u32), 1, u32, u32, u32, u32, u32, a ? 31u - (u32)__builtin_clz(a) : ~0u)                                             \
    X(bfind_s32, "bfind", TY(s32), 1, u32, u32, u32, u32, u32, find_s32(a))                                                                       \
    X(bfind_u64, "bfind", TY(u64), 1, u32, u64, u64, u64, u64, a ? 63u - (u32)__builtin_clzll(a) : ~0u)                                           \
    X(brev_32, "brev", TY(b32), 1, u32, u32, u32, u32, u32, reverse(a))                                                                           \
    X(brev_64, "brev", TY(b64), 1, u64, u64, u64, u64, u64, (u64)reverse((u32)a) << 32 | reverse((u32)(a >> 32)))                                 \
    X(bfe_u32, "bfe", TY(u32), 3, u32, u32, u32, u32, u32, (u32)extract(a, b, c, 32, 0))                                                          \
    X(bfe_s32, "bfe", TY(s32), 3, u32, s32, u32, u32, u32, (u32)extract((u64)(s64)a, b, c, 32, 1))                                                \
    X(bfe_u64, "bfe", TY(u64), 3, u64, u64, u32, u32, u32, extract(a, b, c, 64, 0))                                                               \
    X(bfe_s64, "bfe", TY(s64), 3, u64, u64, u32, u32, u32, extract(a, b, c, 64, 1))                                                               \
    X(bfi_32, "bfi", TY(b32), 4, u32, u32, u32, u32, u32, (u32)insert(a, b, c, e, 32))                                                            \
    X(bfi_64, "bfi", TY(b64), 4, u64, u64, u64, u32, u32, insert(a, b, c, e, 64))                                                                 \
    X(lop3, "lop3", TY(b32), 3, u32, u32, u32, u32, u32, look_up(a, b, c, (u32)imm))                                                              \
    X(prmt, "prmt", TY(b32), 3, u32, u32, u32, u32, u32, permute(a, b, c))                                                                        \
    X(slct_s32, "slct.s32", I32 | TY(f32), 3, u32, u32, u32, s32, s32, c >= 0 ? a : b)                                                            \
    X(slct_f32, "slct.f32", I32 | TY(f32), 3, u32, u32, u32, f32, f32, c >= 0 ? a : b)                                                            \
    FLOATS(X, add, "add", 2, a + b, a + b)                                                                                                        \
    FLOATS(X, sub, "sub", 2, a - b, a - b)                                                                                                        \
    FLOATS(X, mul, "mul", 2, a * b, a * b)                                                                                                        \
    FLOATS(X, fma, "fma", 3, fmaf(a, b, c), fma(a, b, c))                                                                                         \
    FLOATS(X, mad, "mad", 3, fmaf(a, b, c), fma(a, b, c))                                                                                         \
    FLOATS(X, div, "div", 2, a / b, a / b)                                                                                                        \
    FLOATS(X, sqrt, "sqrt", 1, sqrtf(a), sqrt(a))                                                                                                 \
    FLOATS(X, rcp, "rcp", 1, 1.0f / a, 1.0 / a)                                                                                                   \
    FLOATS(X, rsqrt, "rsqrt", 1, 1.0f / sqrtf(a), 1.0 / sqrt(a))                                                                                  \
    FLOATS(X, abs, "abs", 1, fabsf(a), fabs(a))                                                                                                   \
    FLOATS(X, neg, "neg", 1, -a, -a)                                                                                                              \
    FLOATS(X, min, "min", 2, least(a, b), least_64(a, b))                                                                                         \
    FLOATS(X, max, "max", 2, most(a, b), most_64(a, b))                                                                                           \
    FLOATS(X, copysign, "copysign", 2, copysignf(b, a), copysign(b, a))                                                                           \
    X(min_nan, "min.NaN", TY(f32), 2, f32, f32, f32, f32, f32, a != a || b != b ? NAN : least(a, b))                                              \
    X(max_nan, "max.NaN", TY(f32), 2, f32, f32, f32, f32, f32, a != a || b != b ? NAN : most(a, b))                                               \
    X(ex2, "ex2", TY(f32), 1, f32, f32, f32, f32, f32, power_of_two(a))                                                                           \
    X(ex2_ftz, "ex2.ftz", TY(f32), 1, f32, f32, f32, f32, f32, flush(power_of_two(a)))                                                            \
    X(lg2, "lg2", TY(f32), 1, f32, f32, f32, f32, f32, log2f(a))                                                                                  \
    X(sin, "sin", TY(f32), 1, f32, f32, f32, f32, f32, sinf(a))                                                                                   \
    X(cos, "cos", TY(f32), 1, f32, f32, f32, f32, f32, cosf(a))                                                                                   \
    X(tanh, "tanh", TY(f32), 1, f32, f32, f32, f32, f32, tanhf(a))                                                                                \
    HALF(X, add, "add", 2, x + y)                                                                                                                 \
    HALF(X, sub, "sub", 2, x - y)                                                                                                                 \
    HALF(X, mul, "mul", 2, x *y)                                                                                                                  \
    HALF(X, fma, "fma", 3, odd((f64)x * y + z))                                                                                                   \
    HALF(X, min, "min", 2, least(x, y))                                                                                                           \
    HALF(X, max, "max", 2, most(x, y))                                                                                                            \
    HALF(X, ex2, "ex2", 1, power_of_two(x))                                                                                                       \
    HALF(X, ex2_ftz, "ex2.ftz", 1, power_of_two(x))                                                                                               \
    HALF(X, tanh, "tanh", 1, tanhf(x))                                                                                                            \
    BITS(X, neg, "neg", 1, a ^ 0x8000u, a ^ 0x80008000u)                                                                                          \
    BITS(X, abs, "abs", 1, a & 0x7fffu, a & 0x7fff7fffu)                                                                                          \
    X(cvt_bf16_f32, "cvt.bf16", TY(f32), 1, f32, u16, u16, u16, u16, from_bf16(a))                                                                \
    X(cvt_f16_f32, "cvt.f16", TY(f32), 1, f32, u16, u16, u16, u16, from_f16(a))                                                                   \
    X(cvt_f32_bf16, "cvt.f32", TY(bf16), 1, u16, f32, f32, f32, f32, to_bf16(a))                                                                  \
    X(cvt_f32_f16, "cvt.f32", TY(f16), 1, u16, f32, f32, f32, f32, to_f16(a))                                                                     \
    X(cvt_f32_bf16x2, "cvt.f32", TY(bf16x2), 2, u32, f32, f32, f32, f32, (u32)to_bf16(a) << 16 | to_bf16(b))                                      \
    X(cvt_f32_f16x2, "cvt.f32", TY(f16x2), 2, u32, f32, f32, f32, f32, (u32)to_f16(a) << 16 | to_f16(b))                                          \
    X(cvt_s32_f32, "cvt.s32", TY(f32), 1, f32, s32, s32, s32, s32, (f32)a)                                                                        \
    X(cvt_u32_f32, "cvt.u32", TY(f32), 1, f32, u32, u32, u32, u32, (f32)a)                                                                        \
    X(cvt_s32_64, "cvt.s32", TY(s64) | TY(u64), 1, s64, s32, s32, s32, s32, a)                                                                    \
    X(cvt_u32_64, "cvt.u32", TY(s64) | TY(u64), 1, u64, u32, u32, u32, u32, a)                                                                    \
    X(cvt_u64_32, "cvt.u64", TY(u32) | TY(s32), 1, u32, u64, u64, u64, u64, a)                                                                    \
    X(cvt_s64_32, "cvt.s64", TY(u32) | TY(s32), 1, u32, u64, u64, u64, u64, a)                                                                    \
    X(cvt_u16_32, "cvt.u16", TY(u32) | TY(s32), 1, u32, u16, u16, u16, u16, a)                                                                    \
    X(cvt_s16_32, "cvt.s16", TY(u32) | TY(s32), 1, s32, s16, s16, s16, s16, a)                                                                    \
    X(cvt_32_16, "cvt.u32", TY(u16) | TY(s16), 1, u16, u32, u32, u32, u32, a)                                                                     \
    X(cvt_f64_f32, "cvt.f64", TY(f32), 1, f32, f64, f64, f64, f64, (f32)a)                                                                        \
    X(cvt_f32_f64, "cvt.f32", TY(f64), 1, f64, f32, f32, f32, f32, a)

#define PTXSIM_CHOOSE_OPS(X)                                        \
    X(selp_16, I16 | TY(f16) | TY(bf16), u16)                       \
    X(selp_32, I32 | TY(f32) | TY(f16x2) | TY(bf16x2), u32)         \
    X(selp_64, I64 | TY(f64), u64)

#define PTXSIM_TEST_OPS(X)                     \
    X(setp_u16, TY(u16) | TY(b16), u16, )      \
    X(setp_s16, TY(s16), s16, )                \
    X(setp_u32, TY(u32) | TY(b32), u32, )      \
    X(setp_s32, TY(s32), s32, )                \
    X(setp_u64, TY(u64) | TY(b64), u64, )      \
    X(setp_s64, TY(s64), s64, )                \
    X(setp_f32, TY(f32), f32, )                \
    X(setp_f64, TY(f64), f64, )                \
    X(setp_f16, TY(f16), u16, from_f16)        \
    X(setp_bf16, TY(bf16), u16, from_bf16)

#define PTXSIM_LOGIC_OPS(X)            \
    X(and_pred, "and", 2, a & b)       \
    X(or_pred, "or", 2, a | b)         \
    X(xor_pred, "xor", 2, a ^ b)       \
    X(not_pred, "not", 1, ~a)          \
    X(mov_pred, "mov", 1, a)

#define PTXSIM_STEP_OPS(X)                                                                                                                        \
    X("mov", mov) X("cvt", cvt) X("cvta", cvta) X("setp", setp) X("set", set) X("selp", selp) X("lop3", lop3)                                     \
    X("ld", ld) X("ldu", ld) X("st", st) X("isspacep", isspacep) X("prefetch", nothing) X("prefetchu", nothing)                                   \
    X("cp.async", cp_async) X("cp.async.commit_group", cp_commit) X("cp.async.wait_group", cp_wait) X("cp.async.wait_all", cp_wait)               \
    X("shfl.sync", shfl) X("vote.sync", vote) X("match", match) X("redux.sync", redux) X("activemask", activemask)                                \
    X("ldmatrix.sync.aligned", ldmatrix) X("mma.sync.aligned", mma)                                                                               \
    X("bar", bar) X("barrier", bar) X("bar.warp.sync", warp_sync) X("membar", nothing) X("fence", nothing) X("nanosleep", nothing)                \
    X("bra", bra) X("brx.idx", brx) X("call", call) X("ret", ret) X("exit", ret) X("trap", trap) X("brkpt", trap)

/* The rows in one order for all tables. */
typedef enum lane_id {
#define X(id, ...) L_##id,
    PTXSIM_LANE_OPS(X) PTXSIM_CHOOSE_OPS(X) PTXSIM_LOGIC_OPS(X)
#undef X
        LANE_IDS
} lane_id;
typedef enum test_id {
#define X(id, ...) Q_##id,
    PTXSIM_TEST_OPS(X)
#undef X
        TEST_IDS
} test_id;

#endif
