/* cvt between any two types, a lane at a time: the value goes through a long double, which holds each of them exactly (64-bit integers: on machines
 * whose long double has 64 bits of fraction). Rounding other than to nearest is a step from the nearest value. */
#include "scalar.h"

#include <fenv.h>

typedef long double wide;

static bool is_float_type(int t) {
    return t == T_f16 || t == T_bf16 || t == T_f32 || t == T_f64 || t == T_tf32;
}
static wide from_small(u32 code, int fraction, int bias, u32 nan_from) {
    u32 magnitude = code & 0x7f, exponent = magnitude >> fraction, rest = magnitude & ((1u << fraction) - 1);
    wide x = exponent ? ldexpl((wide)(rest + (1u << fraction)), (int)exponent - bias - fraction) : ldexpl((wide)rest, 1 - bias - fraction);
    if (magnitude >= nan_from) x = fraction == 2 && magnitude == 0x7c ? INFINITY : NAN;
    return code & 0x80 ? -x : x;
}
/* Nearest even, beyond the largest value that value. */
static u32 to_small(wide x, int fraction, int bias, u32 largest) {
    if (x != x) return 0x7f;
    wide a = fabsl(x);
    int exponent = a > 0 ? ilogbl(a) : 1 - bias;
    if (exponent < 1 - bias) exponent = 1 - bias;
    u32 code = exponent > 20 ? largest : ((u32)(exponent - (1 - bias)) << fraction) + (u32)rintl(ldexpl(a, fraction - exponent));
    return (code > largest ? largest : code) | (signbit(x) ? 0x80 : 0);
}
static wide value_of(int t, u64 bits) {
    f64 d;
    switch (t) {
    case T_u8:
    case T_b8: return (u8)bits;
    case T_s8: return (s8)bits;
    case T_u16:
    case T_b16: return (u16)bits;
    case T_s16: return (s16)bits;
    case T_u32:
    case T_b32: return (u32)bits;
    case T_s32: return (s32)bits;
    case T_u64:
    case T_b64: return bits;
    case T_s64: return (s64)bits;
    case T_f16: return from_f16((u16)bits);
    case T_bf16: return from_bf16((u16)bits);
    case T_f32:
    case T_tf32: return as_f32((u32)bits);
    default: memcpy(&d, &bits, 8); return d;
    }
}
static u64 nearest(int t, wide x) {
    f64 d = (f64)x;
    u64 bits;
    switch (t) {
    case T_f16: return to_f16(odd(d));
    case T_bf16: return to_bf16(odd(d));
    case T_f32: return x != x ? 0x7fffffffu : as_u32((f32)x);
    default: memcpy(&bits, &d, 8); return x != x ? 0x7fffffffffffffffu : bits;
    }
}
static u64 round_to(int t, wide x, int rounding) {
    u64 bits = nearest(t, x), sign = (u64)1 << (ptxsim_type_bytes(t) * 8 - 1);
    wide v = value_of(t, bits);
    if (x != x) return bits;
    if (rounding == R_rz) return fabsl(v) > fabsl(x) ? bits - 1 : bits;
    if (rounding == R_rm && v > x) return v > 0 ? bits - 1 : v < 0 ? bits + 1 : (sign | 1);
    if (rounding == R_rp && v < x) return v < 0 ? bits - 1 : v > 0 ? bits + 1 : 1;
    return bits;
}
static wide to_integer(wide x, int rounding) {
    return rounding == R_rzi || rounding == R_rz ? truncl(x) : rounding == R_rmi ? floorl(x) : rounding == R_rpi ? ceill(x) : rintl(x);
}
static u64 clamp_to(int t, wide x) {
    int bits = ptxsim_type_bytes(t) * 8;
    bool is_signed = t == T_s8 || t == T_s16 || t == T_s32 || t == T_s64;
    wide end = ldexpl(1, bits - is_signed), low = is_signed ? -end : 0;
    if (x != x) return 0;
    if (x <= low) return is_signed ? (u64)1 << (bits - 1) : 0;
    if (x >= end) return is_signed ? ((u64)1 << (bits - 1)) - 1 : bits == 64 ? ~(u64)0 : ((u64)1 << bits) - 1;
    return is_signed ? (u64)(s64)x : (u64)x;
}
static u64 convert_one(const ins *i, int to, int from, u64 bits) {
    wide x = value_of(from, bits);
    if (i->mode & F_FTZ && from == T_f32) x = flush((f32)x);
    if (!is_float_type(to)) {
        if (is_float_type(from)) return clamp_to(to, to_integer(x, i->rounding));
        return i->mode & F_SAT ? clamp_to(to, x) : x < 0 ? (u64)(s64)x : (u64)x;
    }
    if (to == T_tf32) return x != x ? 0x7fffffffu : (as_u32((f32)x) + 0x1000u) & ~0x1fffu;
    if (i->rounding >= R_rni) x = to_integer(x, i->rounding);
    if (i->mode & F_SAT) x = x > 0 ? (x < 1 ? x : 1) : 0;
    if (i->mode & F_RELU && x < 0) x = 0;
    u64 r = round_to(to, x, i->rounding);
    return i->mode & F_FTZ && to == T_f32 ? as_u32(flush(as_f32((u32)r))) : r;
}
static u64 convert_pair(const ins *i, u64 a, u64 b) {
    int t = i->type, half = t == T_f16x2 ? T_f16 : T_bf16, fraction = (t == T_e4m3x2 || i->type2 == T_e4m3x2) ? 3 : 2, bias = fraction == 3 ? 7 : 15;
    if (i->type2 != T_f32 && t == T_f16x2) { /* from eight bits */
        u32 nan_from = fraction == 3 ? 0x7f : 0x7c;
        return nearest(T_f16, from_small((u32)a >> 8 & 255, fraction, bias, nan_from)) << 16 |
               nearest(T_f16, from_small((u32)a & 255, fraction, bias, nan_from));
    }
    if (i->type2 == T_f32 && (t == T_f16x2 || t == T_bf16x2)) return convert_one(i, half, T_f32, a) << 16 | convert_one(i, half, T_f32, b);
    wide high = i->type2 == T_f32 ? value_of(T_f32, a) : value_of(T_f16, a >> 16), low = i->type2 == T_f32 ? value_of(T_f32, b) : value_of(T_f16, a);
    u32 largest = fraction == 3 ? 0x7e : 0x7b;
    if (i->mode & F_RELU) high = high < 0 ? 0 : high, low = low < 0 ? 0 : low;
    return (u64)to_small(high, fraction, bias, largest) << 8 | to_small(low, fraction, bias, largest);
}
void ptxsim_convert(warp *w, const ins *i, u32 exec) {
    const unsigned char *a = lanes(w, i->o[1]), *b = lanes(w, i->o[i->sources]);
    unsigned char *d = lanes(w, i->o[0]);
    bool pair = i->type == T_f16x2 || i->type == T_bf16x2 || i->type == T_e4m3x2 || i->type == T_e5m2x2;
    bool is_signed = i->type == T_s8 || i->type == T_s16 || i->type == T_s32;
    for (int l = 0; l < LANES; l++) {
        if (!(exec >> l & 1)) continue;
        u64 x = 0, y = 0, r;
        memcpy(&x, a + l * i->width, i->width), memcpy(&y, b + l * i->width, i->width);
        r = pair ? convert_pair(i, x, y) : convert_one(i, i->type, i->type2, x);
        int bits = ptxsim_type_bytes(i->type) * 8;
        if (is_signed) r = (u64)((s64)(r << (64 - bits)) >> (64 - bits)); /* a register wider than the type holds the value */
        else if (bits < 64) r &= ((u64)1 << bits) - 1;
        memcpy(d + l * i->bytes, &r, i->bytes);
    }
}

/* ---- lane operations with more to them ---- */
static void flush_all(f32 *x) {
    for (int l = 0; l < LANES; l++) x[l] = flush(x[l]);
}
void ptxsim_lane_slow(warp *w, const ins *i, u32 exec) {
    static const int modes[] = {FE_TONEAREST, FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
    ins copied = *i;
    operand o[5];
    memcpy(o, i->o, sizeof(o));
    copied.o = o;
    if (i->flags & F_FTZ)
        for (int k = 1; k <= i->sources; k++) {
            if (k == 3 && i->kind == K_COMPARE) break;
            o[k].at = AT_SCRATCH + (k - 1) * 256;
            memcpy(lanes(w, o[k]), lanes(w, i->o[k]), sizeof(f32) * LANES);
            flush_all(lanes(w, o[k]));
        }
    if (i->kind == K_COMPARE) {
        *(u32 *)lanes(w, (operand){AT_SINK, 0}) = i->fn.compare(w, &copied);
        return;
    }
    o[0].at = AT_SCRATCH + 4 * 256; /* results first go where they can be changed without a look at exec */
    if (i->rounding > R_rn) fesetround(modes[i->rounding]);
    i->fn.lane(w, &copied, EVERY_LANE);
    if (i->rounding > R_rn) fesetround(FE_TONEAREST);
    const int bytes = i->type == T_f64 || (i->type >= T_u64 && i->type <= T_b64) ? 8 : i->type <= T_b16 ? 2 : 4;
    unsigned char *from = lanes(w, o[0]), *to = lanes(w, i->o[0]);
    f32 *x = (f32 *)from;
    if (i->flags & F_FTZ) flush_all(x);
    for (int l = 0; l < LANES; l++) {
        if (i->flags & F_SAT) x[l] = x[l] > 0 ? (x[l] < 1 ? x[l] : 1) : 0;
        if (i->flags & F_RELU && x[l] < 0) x[l] = 0;
        if (exec >> l & 1) memcpy(to + l * bytes, from + l * bytes, (size_t)bytes);
    }
}
bool ptxsim_divisors(warp *w, const ins *i, u32 exec) {
    const unsigned char *b = lanes(w, i->o[2]);
    const int bytes = ptxsim_type_bytes(i->type);
    u32 known = w->valid[i->o[2].valid];
    for (int l = 0; l < LANES; l++) {
        u64 x = 0;
        memcpy(&x, b + l * bytes, (size_t)bytes);
        if (exec & known & 1u << l && !x) return ptxsim_report_lane(w, i, l, "division of an integer by zero");
    }
    return true;
}
