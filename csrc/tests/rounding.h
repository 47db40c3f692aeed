/* What rounding to a dtype may change of a number. */
#ifndef WO_TESTS_ROUNDING_H
#define WO_TESTS_ROUNDING_H

#include "base/tensor.h"

/* Half a unit in the last place, of the number's magnitude. */
static inline double half_unit(wo_dtype dtype) {
    return dtype == WO_BF16 ? 0x1p-8 : dtype == WO_F16 ? 0x1p-11 : 0;
}

#endif
