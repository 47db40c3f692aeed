/* Host conversion from the dtype and layout at rest to those of use. Round to nearest even; NaN stays NaN; inf stays
 * inf. */
#ifndef WO_BASE_CONVERT_H
#define WO_BASE_CONVERT_H

#include "base/tensor.h"

/* How a param lies in memory when it is used. ROWS: as in the file. TAPS_OUTSIDE: a convolution weight [O, I, taps]
 * becomes [O, taps, I]; one row is the I * taps elements of one output channel, so any whole number of rows converts
 * alone. */
typedef enum wo_layout { WO_LAYOUT_ROWS, WO_LAYOUT_TAPS_OUTSIDE } wo_layout;

typedef struct wo_conversion {
    wo_dtype from, to;  /* to: F32, BF16 or F16 */
    wo_layout layout;
    int64_t channels, taps; /* TAPS_OUTSIDE only: I and the number of taps */
    /* From F8_E4M3 only: the float32 product with scale is what is rounded to `to`. scale is 0 or of a magnitude of
     * 2^-100 to 2^100, so that no product is subnormal or overflows float32. */
    bool scaled;
    float scale;
} wo_conversion;

/* True when the conversion is a plain copy of bytes. */
bool wo_conversion_is_copy(const wo_conversion *c);
/* Converts count elements (a whole number of rows for TAPS_OUTSIDE). src may be unaligned; dst is aligned to its
 * elements; they do not overlap. Any thread. */
void wo_convert(const wo_conversion *c, void *dst, const void *src, int64_t count);

float wo_f8_e4m3_to_f32(uint8_t x);
float wo_bf16_to_f32(uint16_t x);
uint16_t wo_f32_to_bf16(float x);
float wo_f16_to_f32(uint16_t x);
uint16_t wo_f32_to_f16(float x);

#endif
