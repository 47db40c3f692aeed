/* Conversions against their definition, which is written here in another way: a 16-bit value is found by dividing by its
 * unit in the last place, which is exact in float64, and rounding to an integer. Every 16-bit value is tried, and every
 * place between two of them where the rounding turns. */
#include "base/convert.h"
#include "base/memory.h"
#include "tests/check.h"

#include <math.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

typedef struct format {
    int mantissa, smallest; /* explicit bits of the mantissa; exponent of the smallest normal number */
    double infinite;        /* what rounds to this magnitude is infinite */
} format;

static const format BF16 = {7, -126, 0x1p128}, F16 = {10, -14, 0x1p16};

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

/* The value of a 16-bit pattern, from its definition. */
static double value_of(format f, uint16_t pattern) {
    int exponent_bits = 15 - f.mantissa, field = (pattern & 0x7FFF) >> f.mantissa, fraction = pattern & ((1 << f.mantissa) - 1);
    double sign = pattern & 0x8000 ? -1.0 : 1.0;
    if (field == (1 << exponent_bits) - 1)
        return fraction != 0 ? NAN : sign * INFINITY;
    if (field == 0)
        return sign * ldexp(fraction, f.smallest - f.mantissa);
    return sign * ldexp(fraction + (1 << f.mantissa), f.smallest - f.mantissa + field - 1);
}

/* x rounded to nearest even in the format, as a value. */
static double rounded(format f, double x) {
    int exponent;
    if (x == 0 || isnan(x) || isinf(x))
        return x;
    frexp(x, &exponent);
    int unit = (exponent - 1 < f.smallest ? f.smallest : exponent - 1) - f.mantissa;
    double result = ldexp(rint(ldexp(x, -unit)), unit);
    return fabs(result) >= f.infinite ? copysign(INFINITY, x) : result;
}

/* The value of an 8-bit code, from the definition of e4m3fn: bias 7, no infinity, NaN where all bits but the sign are set. */
static double value_of_f8(unsigned code) {
    int field = (int)(code >> 3 & 15), fraction = (int)(code & 7);
    double sign = code & 0x80 ? -1.0 : 1.0;
    if (field == 15 && fraction == 7)
        return NAN;
    return sign * (field == 0 ? fraction / 512.0 : ldexp(1 + fraction / 8.0, field - 7));
}

static bool same(double a, double b) {
    return (isnan(a) && isnan(b)) || (a == b && !signbit(a) == !signbit(b));
}

static void check_narrowing(float x) {
    CHECK(same(value_of(BF16, wo_f32_to_bf16(x)), rounded(BF16, x)));
    CHECK(same(value_of(F16, wo_f32_to_f16(x)), rounded(F16, x)));
}

static void all_16_bit_values_widen_exactly_and_come_back(void) {
    for (unsigned i = 0; i < 65536; i++) {
        uint16_t pattern = (uint16_t)i;
        float b = wo_bf16_to_f32(pattern), h = wo_f16_to_f32(pattern);
        CHECK(same(b, value_of(BF16, pattern)) && same(h, value_of(F16, pattern)));
        CHECK(isnan(b) ? isnan(value_of(BF16, wo_f32_to_bf16(b))) : wo_f32_to_bf16(b) == pattern);
        CHECK(isnan(h) ? isnan(value_of(F16, wo_f32_to_f16(h))) : wo_f32_to_f16(h) == pattern);
    }
}

/* The neighbours of each value, and of the middle between it and the next larger one. */
static void narrowing_rounds_to_nearest_even_wherever_it_turns(void) {
    for (unsigned i = 0; i < 65536; i++) {
        for (int k = 0; k < 2; k++) {
            format f = k == 0 ? BF16 : F16;
            double here = value_of(f, (uint16_t)i), next = value_of(f, (uint16_t)(i ^ 0x8000u) == 0 ? 1 : (uint16_t)(i + 1));
            if (!isfinite(here))
                continue;
            double top = ldexp(f.infinite, -f.mantissa - 1); /* half a unit above the largest value is the last turn */
            double middle = isfinite(next) ? here + (next - here) / 2 : copysign(fabs(here) + top / 2, here);
            uint32_t at[2] = {bits_of((float)here), bits_of((float)middle)};
            for (int m = 0; m < 2; m++)
                for (uint32_t d = 0; d < 3; d++)
                    check_narrowing(float_of(at[m] + d - 1));
        }
    }
    for (uint32_t bits = 0; bits < 0xFFFF0000u; bits += 65521) /* a prime step through all floats */
        check_narrowing(float_of(bits));
}

static void nan_stays_nan_and_infinity_infinity(void) {
    const uint32_t nans[] = {0x7F800001u, 0xFF800001u, 0x7FC00000u, 0xFFFFFFFFu, 0x7FBFFFFFu, 0x7F80FFFFu};
    for (size_t i = 0; i < sizeof nans / sizeof *nans; i++) {
        CHECK(isnan(value_of(BF16, wo_f32_to_bf16(float_of(nans[i])))));
        CHECK(isnan(value_of(F16, wo_f32_to_f16(float_of(nans[i])))));
    }
    CHECK(wo_f32_to_bf16(INFINITY) == 0x7F80 && wo_f32_to_f16(-INFINITY) == 0xFC00);
    CHECK(wo_f32_to_f16(65519.99f) == 0x7BFF && wo_f32_to_f16(65520.0f) == 0x7C00 && wo_f32_to_f16(3e38f) == 0x7C00);
    CHECK(wo_f32_to_f16(-0.0f) == 0x8000 && wo_f32_to_bf16(-0.0f) == 0x8000);
}

/* Rounding through float32 and then once more would turn these the other way. */
static void float64_is_rounded_once(void) {
    const wo_conversion to_bf16 = {.from = WO_F64, .to = WO_BF16}, to_f16 = {.from = WO_F64, .to = WO_F16};
    for (unsigned i = 0; i < 65536; i++) {
        for (int k = 0; k < 2; k++) {
            format f = k == 0 ? BF16 : F16;
            double here = value_of(f, (uint16_t)i), next = value_of(f, (uint16_t)(i + 1));
            if (!isfinite(here) || !isfinite(next))
                continue;
            double middle = here + (next - here) / 2;
            double x[] = {here, middle, nextafter(middle, INFINITY), nextafter(middle, -INFINITY), middle * (1 + 0x1p-40), middle * (1 - 0x1p-40)};
            uint16_t out[6];
            wo_convert(k == 0 ? &to_bf16 : &to_f16, out, x, 6);
            for (int m = 0; m < 6; m++)
                CHECK(same(value_of(f, out[m]), rounded(f, x[m])));
        }
    }
    const double special[] = {1e300, -1e300, 0x1p128, INFINITY, NAN, 1e-320, -0.0, 0x1.FFFFFFp127};
    uint16_t out[8];
    wo_convert(&to_bf16, out, special, 8);
    for (int m = 0; m < 8; m++)
        CHECK(same(value_of(BF16, out[m]), rounded(BF16, special[m])));
}

/* What element i of an output in one of the dtypes of use is worth. */
static double value_at(wo_dtype dtype, const void *out, size_t i) {
    float single;
    uint16_t half;
    memcpy(&single, (const char *)out + 4 * (dtype == WO_F32 ? i : 0), 4);
    memcpy(&half, (const char *)out + 2 * (dtype == WO_F32 ? 0 : i), 2);
    return dtype == WO_F32 ? single : value_of(dtype == WO_BF16 ? BF16 : F16, half);
}

/* Every code is a number of each dtype of use, so nothing may be rounded, not even a subnormal. */
static void all_8_bit_codes_widen_exactly(void) {
    static const struct {
        uint8_t code;
        double value;
    } anchors[] = {{0x00, 0}, {0x01, 0x1p-9}, {0x07, 7 * 0x1p-9}, {0x08, 0x1p-6}, {0x38, 1}, {0x39, 1.125}, {0x77, 240}, {0x7E, 448}, {0xB8, -1}, {0xFE, -448}, {0x80, -0.0}};
    uint8_t codes[256];
    float out[256];
    for (unsigned i = 0; i < 256; i++)
        codes[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof anchors / sizeof *anchors; i++)
        CHECK(same(value_of_f8(anchors[i].code), anchors[i].value) && same(wo_f8_e4m3_to_f32(anchors[i].code), anchors[i].value));
    for (wo_dtype to = WO_F32; to <= WO_F16; to++) {
        wo_convert(&(wo_conversion){.from = WO_F8_E4M3, .to = to}, out, codes, 256);
        for (unsigned i = 0; i < 256; i++)
            CHECK(same(value_at(to, out, i), value_of_f8(i)) && isnan(value_at(to, out, i)) == ((i & 0x7F) == 0x7F));
    }
}

/* The product is a float32, and that is rounded to the dtype of use. */
static void a_scale_multiplies_8_bit_codes_in_float32(void) {
    static const float scales[] = {1, 0, -0.0f, 2, -1, 0.0123456789f, 1 / 448.0f, 1.00000012f, 3e-5f, 0x1p-100f, -0x1.FFFFFEp-100f, 0x1p100f, 7e4f};
    uint8_t codes[256];
    float out[256];
    for (unsigned i = 0; i < 256; i++)
        codes[i] = (uint8_t)i;
    for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
        for (wo_dtype to = WO_F32; to <= WO_F16; to++) {
            wo_convert(&(wo_conversion){.from = WO_F8_E4M3, .to = to, .scaled = true, .scale = scales[s]}, out, codes, 256);
            for (unsigned i = 0; i < 256; i++) {
                float product = (float)(value_of_f8(i) * (double)scales[s]);
                CHECK(same(value_at(to, out, i), to == WO_F32 ? product : rounded(to == WO_BF16 ? BF16 : F16, product)));
            }
        }
    }
}

static const wo_dtype FROM[] = {WO_F32, WO_BF16, WO_F16, WO_F64, WO_F8_E4M3}, TO[] = {WO_F32, WO_BF16, WO_F16};

/* Writes element i of a test pattern in the dtype, and returns what its conversion must be, as bits. */
static uint32_t element(wo_dtype from, wo_dtype to, uint32_t i, void *at) {
    uint32_t pattern = i * 2654435761u;
    uint16_t half = (uint16_t)(pattern >> 16);
    float x = from == WO_BF16 ? wo_bf16_to_f32(half) : from == WO_F16 ? wo_f16_to_f32(half) : float_of(pattern);
    uint8_t code = (uint8_t)(pattern >> 24);
    if (from == WO_F8_E4M3)
        x = wo_f8_e4m3_to_f32(code);
    double wide = x;
    if (from == WO_F32)
        memcpy(at, &x, 4);
    else if (from == WO_F64)
        memcpy(at, &wide, 8);
    else if (from == WO_F8_E4M3)
        memcpy(at, &code, 1);
    else
        memcpy(at, &half, 2);
    if (to == from)
        return from == WO_F32 ? bits_of(x) : half;
    return to == WO_F32 ? bits_of(x) : to == WO_BF16 ? wo_f32_to_bf16(x) : wo_f32_to_f16(x);
}

static bool equal_bits(wo_dtype to, const void *got, uint32_t wanted) {
    uint32_t bits = 0;
    memcpy(&bits, got, wo_dtype_size(to));
    bool nan = to == WO_F32 && isnan(float_of(wanted)) && isnan(float_of(bits)); /* float64 quiets a signalling NaN on its way */
    return nan || bits == wanted;
}

/* Both ends lie against a guard page, and the source at each misalignment, so a read or write too far stops the program. */
static void rows_convert_at_any_alignment_and_length_and_never_read_beyond(void) {
    enum { PAGE = 4096 };
    void *source, *target;
    wo_error err;
    CHECK_OK(wo_memory_acquire_guarded(PAGE, "test", &source, &err), &err);
    CHECK_OK(wo_memory_acquire_guarded(PAGE, "test", &target, &err), &err);
    for (size_t f = 0; f < sizeof FROM / sizeof *FROM; f++) {
        for (size_t t = 0; t < 3; t++) {
            const wo_conversion c = {.from = FROM[f], .to = TO[t]};
            size_t in = wo_dtype_size(c.from), out = wo_dtype_size(c.to);
            CHECK(wo_conversion_is_copy(&c) == (c.from == c.to));
            for (size_t count = 0; count <= 67; count++) {
                for (size_t shift = 0; shift < in; shift++) {
                    char *src = (char *)source + PAGE - count * in - shift, *dst = (char *)target + PAGE - count * out;
                    uint32_t wanted[67];
                    for (size_t i = 0; i < count; i++)
                        wanted[i] = element(c.from, c.to, (uint32_t)(i + 97 * count), src + i * in);
                    dst[-1] = 0x55;
                    wo_convert(&c, dst, src, (int64_t)count);
                    CHECK(dst[-1] == 0x55);
                    for (size_t i = 0; i < count; i++)
                        CHECK(equal_bits(c.to, dst + i * out, wanted[i]));
                }
            }
        }
    }
    wo_memory_release_guarded(source);
    wo_memory_release_guarded(target);
}

/* [O, I, taps] -> [O, taps, I], with blocks that divide evenly and that do not, and more taps than a block holds. */
static void taps_go_outside(void) {
    static const int64_t shapes[][3] = {{2, 1, 27}, {2, 3, 1}, {3, 5, 3}, {2, 64, 27}, {1, 1500, 9}, {2, 7, 2000}, {1, 2, 1024}, {1, 3, 1025}, {4, 384, 4}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        int64_t rows = shapes[s][0], channels = shapes[s][1], taps = shapes[s][2], count = rows * channels * taps;
        for (size_t pair = 0; pair < 3 * sizeof FROM / sizeof *FROM; pair++) {
            const wo_conversion c = {.from = FROM[pair / 3], .to = TO[pair % 3], .layout = WO_LAYOUT_TAPS_OUTSIDE, .channels = channels, .taps = taps};
            size_t in = wo_dtype_size(c.from), out = wo_dtype_size(c.to);
            char *src = malloc((size_t)count * in + 1), *dst = malloc((size_t)count * out);
            CHECK(src != NULL && dst != NULL);
            CHECK(wo_conversion_is_copy(&c) == (c.from == c.to && (channels == 1 || taps == 1)));
            for (int64_t i = 0; i < count; i++)
                element(c.from, c.to, (uint32_t)i, src + 1 + (size_t)i * in);
            wo_convert(&c, dst, src + 1, count);
            for (int64_t i = 0; i < count; i++) {
                int64_t row = i / (channels * taps), tap = i / channels % taps, channel = i % channels;
                char ignored[8];
                uint32_t wanted = element(c.from, c.to, (uint32_t)((row * channels + channel) * taps + tap), ignored);
                CHECK(equal_bits(c.to, dst + (size_t)i * out, wanted));
            }
            free(src);
            free(dst);
        }
    }
}

/* torch.set_flush_denormal is the user's choice for the whole process, and must not reach the bits of the weights. */
static void flush_to_zero_does_not_change_the_bits(void) {
#if defined(__x86_64__)
    static uint16_t patterns[65536], before[65536], after[65536];
    static float wide[2][65536];
    const wo_conversion widen = {.from = WO_F16, .to = WO_F32}, cross = {.from = WO_F16, .to = WO_BF16}, narrow = {.from = WO_F32, .to = WO_F16};
    for (unsigned i = 0; i < 65536; i++)
        patterns[i] = (uint16_t)i;
    unsigned mode = _mm_getcsr();
    for (int flushed = 0; flushed < 2; flushed++) {
        _mm_setcsr(flushed ? mode | 0x8040u : mode);
        wo_convert(&widen, wide[flushed], patterns, 65536);
        wo_convert(&cross, flushed ? after : before, patterns, 65536);
        _mm_setcsr(mode);
        CHECK(memcmp(wide[0], wide[flushed], sizeof wide[0]) == 0);
    }
    CHECK(memcmp(before, after, sizeof before) == 0);
    for (int flushed = 0; flushed < 2; flushed++) {
        _mm_setcsr(flushed ? mode | 0x8040u : mode);
        wo_convert(&narrow, flushed ? after : before, wide[0], 65536);
        _mm_setcsr(mode);
    }
    CHECK(memcmp(before, after, sizeof before) == 0);
    const float scales[] = {1, 0x1p-100f, 0x1p-10f}; /* the last one makes numbers that are subnormal in float16 */
    for (size_t s = 0; s < 3; s++) {
        for (wo_dtype to = WO_F32; to <= WO_F16; to++) {
            for (int flushed = 0; flushed < 2; flushed++) {
                _mm_setcsr(flushed ? mode | 0x8040u : mode);
                wo_convert(&(wo_conversion){.from = WO_F8_E4M3, .to = to, .scaled = true, .scale = scales[s]}, wide[flushed], patterns, 65536);
                _mm_setcsr(mode);
            }
            CHECK(memcmp(wide[0], wide[1], 65536 * wo_dtype_size(to)) == 0);
        }
    }
#endif
}

int main(void) {
    all_16_bit_values_widen_exactly_and_come_back();
    narrowing_rounds_to_nearest_even_wherever_it_turns();
    nan_stays_nan_and_infinity_infinity();
    all_8_bit_codes_widen_exactly();
    a_scale_multiplies_8_bit_codes_in_float32();
    float64_is_rounded_once();
    rows_convert_at_any_alignment_and_length_and_never_read_beyond();
    taps_go_outside();
    flush_to_zero_does_not_change_the_bits();
    return 0;
}
