/* One table of op cases: shapes, dtypes and error bounds, for the test against float64 (test_ops_cases.c). A new operation gets its rows
 * here, its arguments in op_call.h and its definition in op_reference.h. */
#ifndef WO_TESTS_OP_CASES_H
#define WO_TESTS_OP_CASES_H

#include "device/op_args.h"

typedef enum op_kind {
#define OP_KIND(op) OP_##op,
    WO_OP_LIST(OP_KIND)
#undef OP_KIND
        OP_KINDS
} op_kind;

/* What a case has beside its shape. */
enum {
    OP_IN_PLACE = 1,        /* the output is the input that the op may overwrite */
    OP_BIAS = 2,            /* linear, conv: bias; layer_norm: weight and bias */
    OP_MODULATED = 4,       /* layer_norm: scale and shift */
    OP_ROTATED = 8,         /* rms_norm: cos and sin */
    OP_SILU = 16,           /* l2_norm */
    OP_RELATIVE = 32,       /* attention: UMT5's bias by distance */
    OP_LAST_KEY = 64,       /* attention: last_key_bias */
    OP_NEGATIVE_SCALE = 128, /* attention */
    OP_STEEP = 8192,        /* attention: scores of hundreds, whose exponentials only the maximum keeps finite */
    OP_DOT = 256,           /* linear */
    OP_UPSAMPLE = 512,      /* conv */
    OP_RESIDUAL = 1024,     /* conv; linear: epilogue GATE */
    OP_DOWNSAMPLE = 4096,   /* conv */
    OP_SLOW = 2048          /* left out where a sanitizer makes everything tens of times slower */
};

/* The bound of an element's error is bound * (root mean square of its row + its magnitude), and half a unit in the last place of
 * bfloat16 or float16 where the output is that. Attention over long heads is allowed more, for a score is one chain of sums. In the op's own letters, n is
 *   linear M N K          embedding M U N       layer_norm M N B      rms_norm M N head_dim S    l2_norm P C
 *   rope_table F H W D    attention Sq Sk H D   patchify C F h w      unpatchify C F h w         sinusoid n t
 *   add M N Mb            unary count kind      conv H W C N kt kh    channels_last C T H W */
typedef struct op_case {
    op_kind op;
    int64_t n[6];
    wo_dtype x, y;
    unsigned flags;
    double bound;
} op_case;

/* All draw from one sequence of random numbers: a new case goes to the end, so that the others keep theirs. */
static const op_case op_cases[] = {
    {OP_linear, {5, 17, 31}, WO_F32, WO_F32, OP_BIAS, 2e-6},
    {OP_linear, {33, 100, 130}, WO_F32, WO_F32, OP_BIAS | OP_RESIDUAL | OP_IN_PLACE, 4e-6},
    {OP_linear, {20, 64, 96}, WO_BF16, WO_BF16, OP_DOT, 4e-6},
    {OP_conv, {5, 7, 16, 20, 3, 3}, WO_F32, WO_F32, OP_BIAS, 2e-6},
    {OP_conv, {4, 3, 12, 7, 1, 3}, WO_BF16, WO_BF16, OP_BIAS | OP_UPSAMPLE | OP_RESIDUAL, 4e-6},

    {OP_embedding, {1, 1, 1}, WO_F32, WO_F32, 0, 0},
    {OP_embedding, {9, 20, 33}, WO_BF16, WO_F32, 0, 0},
    {OP_embedding, {7, 5, 4096}, WO_F16, WO_F32, 0, 0},
    {OP_embedding, {40, 3, 65}, WO_F32, WO_BF16, 0, 0},
    {OP_embedding, {3, 9, 50}, WO_F16, WO_BF16, 0, 0},
    {OP_embedding, {3, 9, 51}, WO_BF16, WO_BF16, 0, 0},

    {OP_layer_norm, {1, 1, 1}, WO_F32, WO_F32, 0, 1e-6},
    {OP_layer_norm, {7, 3, 1}, WO_F32, WO_F32, OP_BIAS, 2e-6},
    {OP_layer_norm, {50, 1536, 2}, WO_F32, WO_BF16, OP_MODULATED, 2e-6},
    {OP_layer_norm, {11, 1536, 3}, WO_BF16, WO_BF16, OP_MODULATED, 2e-6},
    {OP_layer_norm, {13, 77, 1}, WO_BF16, WO_F32, OP_BIAS, 2e-6},
    {OP_layer_norm, {200, 1280, 1}, WO_F32, WO_F32, OP_BIAS, 2e-6},
    {OP_layer_norm, {3, 5121, 2}, WO_F32, WO_F32, OP_MODULATED, 2e-6},

    {OP_rms_norm, {1, 1, 0, 0}, WO_F32, WO_F32, 0, 1e-6},
    {OP_rms_norm, {20, 4096, 0, 0}, WO_F32, WO_BF16, 0, 1e-6},
    {OP_rms_norm, {9, 131, 0, 0}, WO_BF16, WO_F32, 0, 1e-6},
    {OP_rms_norm, {6, 36, 12, 6}, WO_F32, WO_F32, OP_ROTATED, 2e-6},
    {OP_rms_norm, {10, 80, 40, 5}, WO_BF16, WO_BF16, OP_ROTATED | OP_IN_PLACE, 2e-6},
    {OP_rms_norm, {96, 1536, 128, 48}, WO_F32, WO_F32, OP_ROTATED | OP_IN_PLACE, 2e-6},
    {OP_rms_norm, {33, 1536, 128, 33}, WO_F32, WO_BF16, OP_ROTATED, 2e-6},
    {OP_rms_norm, {5, 18, 6, 3}, WO_F32, WO_F32, OP_ROTATED, 2e-6},

    {OP_l2_norm, {1, 1}, WO_F32, WO_F32, 0, 1e-6},
    {OP_l2_norm, {100, 3}, WO_F32, WO_F32, OP_SILU, 2e-6},
    {OP_l2_norm, {77, 20}, WO_BF16, WO_BF16, OP_SILU, 2e-6},
    {OP_l2_norm, {900, 96}, WO_F32, WO_F32, OP_SILU, 2e-6},
    {OP_l2_norm, {64, 384}, WO_BF16, WO_F32, 0, 1e-6},
    {OP_l2_norm, {65, 192}, WO_F32, WO_BF16, OP_SILU, 2e-6},

    {OP_rope_table, {1, 1, 1, 2}, WO_F32, WO_F32, 0, 1e-7},
    {OP_rope_table, {3, 4, 5, 128}, WO_F32, WO_F32, 0, 1e-7},
    {OP_rope_table, {2, 7, 1, 40}, WO_F32, WO_F32, 0, 1e-7},
    {OP_rope_table, {5, 1, 6, 12}, WO_F32, WO_F32, 0, 1e-7},
    {OP_rope_table, {1, 45, 80, 128}, WO_F32, WO_F32, 0, 1e-7},

    {OP_attention, {1, 1, 1, 1}, WO_F32, WO_F32, 0, 1e-6},
    {OP_attention, {7, 5, 2, 12}, WO_F32, WO_F32, OP_LAST_KEY, 4e-6},
    {OP_attention, {7, 5, 2, 12}, WO_BF16, WO_BF16, OP_LAST_KEY, 4e-6},
    {OP_attention, {13, 1, 2, 3}, WO_F32, WO_F32, 0, 1e-6},
    {OP_attention, {13, 1, 2, 3}, WO_BF16, WO_F32, OP_LAST_KEY, 1e-6},
    {OP_attention, {100, 600, 3, 40}, WO_F32, WO_F32, 0, 4e-6},
    {OP_attention, {100, 600, 3, 40}, WO_BF16, WO_BF16, OP_LAST_KEY, 4e-6},
    {OP_attention, {130, 1100, 2, 128}, WO_F32, WO_F32, OP_LAST_KEY | OP_SLOW, 4e-6},
    {OP_attention, {130, 1100, 2, 128}, WO_BF16, WO_F32, OP_SLOW, 4e-6},
    {OP_attention, {45, 512, 2, 128}, WO_F32, WO_F32, 0, 4e-6},
    {OP_attention, {45, 256, 2, 128}, WO_BF16, WO_BF16, 0, 4e-6},
    {OP_attention, {200, 21, 12, 128}, WO_BF16, WO_BF16, OP_LAST_KEY, 4e-6},
    {OP_attention, {40, 40, 5, 64}, WO_F32, WO_F32, OP_RELATIVE, 4e-6},
    {OP_attention, {70, 300, 2, 64}, WO_BF16, WO_F32, OP_RELATIVE, 4e-6},
    {OP_attention, {3, 700, 1, 20}, WO_F32, WO_F32, OP_RELATIVE | OP_LAST_KEY, 4e-6},
    {OP_attention, {700, 3, 1, 20}, WO_F32, WO_F32, OP_RELATIVE, 4e-6},
    {OP_attention, {50, 170, 1, 384}, WO_F32, WO_F32, 0, 8e-6},
    {OP_attention, {50, 170, 1, 384}, WO_BF16, WO_BF16, 0, 8e-6},
    {OP_attention, {5, 90, 1, 80}, WO_BF16, WO_F32, OP_NEGATIVE_SCALE, 4e-6},
    {OP_attention, {5, 90, 1, 17}, WO_F32, WO_F32, OP_NEGATIVE_SCALE, 4e-6},
    {OP_attention, {3, 70, 1, 2100}, WO_F32, WO_F32, OP_SLOW, 3e-5},
    {OP_attention, {3, 70, 1, 2101}, WO_BF16, WO_F32, OP_SLOW, 3e-5},

    {OP_patchify, {16, 2, 6, 10}, WO_F32, WO_F32, 0, 0},
    {OP_patchify, {3, 1, 2, 2}, WO_F32, WO_BF16, 0, 0},
    {OP_unpatchify, {16, 2, 6, 10}, WO_F32, WO_F32, 0, 0},
    {OP_unpatchify, {3, 1, 2, 2}, WO_BF16, WO_F32, 0, 0},
    {OP_channels_last, {16, 2, 5, 7}, WO_F32, WO_F32, 0, 0},
    {OP_channels_last, {3, 1, 1, 1}, WO_F32, WO_BF16, 0, 0},

    {OP_sinusoid, {256, 999}, WO_F32, WO_F32, 0, 1e-7},
    {OP_sinusoid, {256, 0}, WO_F32, WO_F32, 0, 1e-7},
    {OP_sinusoid, {6, 500}, WO_F32, WO_BF16, 0, 1e-7},

    {OP_add, {1, 1, 1}, WO_F32, WO_F32, 0, 1e-7},
    {OP_add, {12, 33, 4}, WO_F32, WO_F32, OP_IN_PLACE, 1e-7},
    {OP_add, {130, 1280, 130}, WO_F32, WO_F32, 0, 1e-7},

    {OP_unary, {1, WO_UNARY_COPY}, WO_F32, WO_BF16, 0, 0},
    {OP_unary, {70001, WO_UNARY_COPY}, WO_BF16, WO_F32, 0, 0},
    {OP_unary, {1003, WO_UNARY_COPY}, WO_F32, WO_F32, OP_IN_PLACE, 0},
    {OP_unary, {70001, WO_UNARY_SILU}, WO_F32, WO_F32, OP_IN_PLACE, 1e-6},
    {OP_unary, {517, WO_UNARY_SILU}, WO_BF16, WO_BF16, 0, 1e-6},
    {OP_unary, {5, WO_UNARY_CLAMP_ONE}, WO_F32, WO_F32, 0, 0},
    {OP_unary, {999, WO_UNARY_CLAMP_ONE}, WO_BF16, WO_F32, 0, 0},
    {OP_unary, {7777, WO_UNARY_GELU_TANH}, WO_F32, WO_F32, 0, 1e-6},
    {OP_unary, {7777, WO_UNARY_GELU_ERF}, WO_F32, WO_F32, 0, 1e-6},
    {OP_unary, {31, WO_UNARY_GELU_ERF}, WO_F32, WO_BF16, 0, 1e-6},

    {OP_conv, {9, 7, 12, 20, 1, 3}, WO_F32, WO_F32, OP_BIAS | OP_DOWNSAMPLE, 2e-6},
    {OP_conv, {2, 3, 5, 4, 3, 3}, WO_F32, WO_BF16, OP_DOWNSAMPLE | OP_RESIDUAL, 2e-6},
    {OP_conv, {6, 8, 13, 7, 1, 3}, WO_BF16, WO_BF16, OP_BIAS | OP_DOWNSAMPLE | OP_RESIDUAL, 4e-6},
    {OP_conv, {3, 34, 64, 33, 1, 3}, WO_BF16, WO_F32, OP_DOWNSAMPLE, 4e-6},

    {OP_layer_norm, {3, 16500, 1}, WO_F32, WO_BF16, OP_BIAS, 2e-6},
    {OP_layer_norm, {2, 33003, 2}, WO_BF16, WO_F32, OP_MODULATED, 2e-6},
    {OP_layer_norm, {9, 512, 9}, WO_F32, WO_F32, OP_MODULATED, 2e-6},
    {OP_layer_norm, {16, 513, 1}, WO_F32, WO_BF16, 0, 2e-6},
    {OP_rms_norm, {7, 5120, 128, 4}, WO_BF16, WO_BF16, OP_ROTATED | OP_IN_PLACE, 2e-6},
    {OP_rms_norm, {9, 48, 6, 8}, WO_BF16, WO_F32, OP_ROTATED, 2e-6},
    {OP_rms_norm, {3, 17000, 1000, 2}, WO_F32, WO_F32, OP_ROTATED | OP_IN_PLACE, 2e-6},
    {OP_l2_norm, {1001, 96}, WO_BF16, WO_BF16, OP_SILU, 2e-6},
    {OP_l2_norm, {5, 17000}, WO_F32, WO_BF16, OP_SILU, 2e-6},
    {OP_embedding, {5, 7, 2056}, WO_BF16, WO_BF16, 0, 0},
    {OP_rope_table, {2, 3, 170, 600}, WO_F32, WO_F32, 0, 1e-7},
    {OP_rope_table, {1, 2, 20000, 6}, WO_F32, WO_F32, 0, 1e-7},
    {OP_patchify, {5, 3, 34, 18}, WO_F32, WO_BF16, 0, 0},
    {OP_unpatchify, {5, 3, 34, 18}, WO_F32, WO_F32, 0, 0},
    {OP_channels_last, {70, 3, 9, 11}, WO_F32, WO_BF16, 0, 0},
    {OP_sinusoid, {1100, 731}, WO_F32, WO_BF16, 0, 1e-7},
    {OP_add, {300, 8, 3}, WO_F32, WO_F32, OP_IN_PLACE, 1e-7},
    {OP_add, {9, 1280, 1}, WO_F32, WO_F32, 0, 1e-7},
    {OP_unary, {8200, WO_UNARY_GELU_TANH}, WO_BF16, WO_BF16, OP_IN_PLACE, 1e-6},
    {OP_unary, {4097, WO_UNARY_SILU}, WO_BF16, WO_F32, 0, 1e-6},
    {OP_attention, {300, 200, 2, 64}, WO_BF16, WO_BF16, OP_LAST_KEY, 4e-6},
    {OP_attention, {129, 128, 1, 128}, WO_BF16, WO_BF16, OP_NEGATIVE_SCALE, 4e-6},
    {OP_attention, {16, 192, 1, 128}, WO_BF16, WO_F32, OP_RELATIVE | OP_LAST_KEY | OP_NEGATIVE_SCALE, 4e-6},
    {OP_attention, {150, 257, 1, 80}, WO_BF16, WO_BF16, 0, 4e-6},
    {OP_attention, {70, 130, 2, 200}, WO_BF16, WO_BF16, OP_RELATIVE | OP_LAST_KEY, 8e-6},
    {OP_attention, {70, 130, 1, 261}, WO_BF16, WO_F32, OP_RELATIVE, 8e-6},
    {OP_attention, {65, 65, 1, 256}, WO_F32, WO_F32, OP_RELATIVE | OP_NEGATIVE_SCALE, 8e-6},
    {OP_linear, {65, 132, 264}, WO_BF16, WO_F32, OP_BIAS | OP_RESIDUAL | OP_IN_PLACE, 4e-6},
    {OP_linear, {40, 77, 45}, WO_BF16, WO_BF16, OP_BIAS, 4e-6},
    {OP_linear, {17, 33, 600}, WO_F32, WO_F32, OP_BIAS, 4e-6},
    {OP_linear, {1, 260, 320}, WO_F32, WO_F32, OP_DOT, 4e-6},
    {OP_linear, {129, 1924, 40}, WO_BF16, WO_BF16, OP_BIAS, 4e-6},
    {OP_linear, {129, 1923, 24}, WO_F32, WO_F32, OP_BIAS, 4e-6},
    {OP_conv, {4, 5, 20, 40, 3, 3}, WO_F32, WO_F32, OP_BIAS, 4e-6},
    {OP_conv, {6, 5, 24, 100, 3, 3}, WO_BF16, WO_BF16, OP_BIAS | OP_RESIDUAL, 4e-6},
    {OP_conv, {5, 6, 16, 12, 1, 3}, WO_BF16, WO_F32, OP_UPSAMPLE, 4e-6},
    {OP_conv, {9, 10, 3, 96, 3, 3}, WO_BF16, WO_BF16, OP_BIAS, 4e-6},
    {OP_conv, {12, 11, 96, 3, 3, 3}, WO_F32, WO_F32, OP_BIAS, 4e-6},
    {OP_conv, {4, 6, 16, 32, 3, 1}, WO_BF16, WO_BF16, OP_BIAS, 4e-6},
    {OP_attention, {20, 70, 2, 33}, WO_BF16, WO_BF16, 0, 4e-6},
    {OP_attention, {17, 130, 1, 64}, WO_F32, WO_F32, OP_STEEP | OP_LAST_KEY, 1e-4},
    {OP_attention, {17, 130, 1, 64}, WO_BF16, WO_BF16, OP_STEEP | OP_NEGATIVE_SCALE, 1e-4},
    {OP_attention, {17, 130, 1, 12}, WO_BF16, WO_F32, OP_STEEP | OP_RELATIVE, 1e-4},
    {OP_attention, {17, 130, 1, 12}, WO_F32, WO_F32, OP_STEEP | OP_NEGATIVE_SCALE, 1e-4},

    /* float16 as a compute dtype, which not every device has */
    {OP_linear, {129, 1924, 40}, WO_F16, WO_F16, OP_BIAS, 4e-6},
    {OP_linear, {65, 132, 264}, WO_F16, WO_F32, OP_BIAS | OP_RESIDUAL | OP_IN_PLACE, 4e-6},
    {OP_linear, {9, 100, 136}, WO_F16, WO_F16, OP_RESIDUAL | OP_IN_PLACE, 4e-6},
    {OP_linear, {9, 33, 64}, WO_F32, WO_F16, OP_BIAS | OP_RESIDUAL | OP_IN_PLACE, 4e-6},
    {OP_conv, {6, 5, 24, 100, 3, 3}, WO_F16, WO_F16, OP_BIAS | OP_RESIDUAL, 4e-6},
    {OP_conv, {5, 6, 16, 12, 1, 3}, WO_F16, WO_F32, OP_UPSAMPLE, 4e-6},
    {OP_conv, {2, 3, 5, 4, 3, 3}, WO_F32, WO_F16, OP_DOWNSAMPLE | OP_RESIDUAL, 4e-6},
    {OP_attention, {40, 70, 2, 64}, WO_F16, WO_F16, OP_LAST_KEY, 4e-6},
    {OP_attention, {20, 130, 1, 128}, WO_F16, WO_F16, OP_NEGATIVE_SCALE, 4e-6},
    {OP_attention, {16, 130, 1, 64}, WO_F16, WO_F32, OP_RELATIVE, 4e-6},
    {OP_attention, {20, 70, 1, 80}, WO_F16, WO_F16, 0, 4e-6},
    {OP_attention, {17, 130, 1, 12}, WO_F16, WO_F32, OP_STEEP | OP_RELATIVE, 1e-4},
    {OP_layer_norm, {7, 96, 3}, WO_F32, WO_F16, OP_MODULATED, 2e-6},
    {OP_layer_norm, {5, 77, 1}, WO_F16, WO_F16, OP_BIAS, 2e-6},
    {OP_layer_norm, {5, 80, 1}, WO_F16, WO_F32, 0, 2e-6},
    {OP_rms_norm, {10, 80, 40, 5}, WO_F16, WO_F16, OP_ROTATED | OP_IN_PLACE, 2e-6},
    {OP_rms_norm, {6, 36, 12, 6}, WO_F32, WO_F16, OP_ROTATED, 2e-6},
    {OP_rms_norm, {9, 48, 6, 8}, WO_F16, WO_F32, OP_ROTATED, 2e-6},
    {OP_l2_norm, {77, 24}, WO_F16, WO_F16, OP_SILU, 2e-6},
    {OP_l2_norm, {9, 96}, WO_F32, WO_F16, OP_SILU, 2e-6},
    {OP_l2_norm, {9, 48}, WO_F16, WO_F32, 0, 1e-6},
    {OP_embedding, {5, 7, 264}, WO_F16, WO_F16, 0, 0},
    {OP_embedding, {5, 7, 33}, WO_F32, WO_F16, 0, 0},
    {OP_patchify, {5, 3, 6, 10}, WO_F32, WO_F16, 0, 0},
    {OP_unpatchify, {5, 3, 6, 10}, WO_F16, WO_F32, 0, 0},
    {OP_channels_last, {7, 3, 9, 11}, WO_F32, WO_F16, 0, 0},
    {OP_sinusoid, {64, 731}, WO_F32, WO_F16, 0, 1e-7},
    {OP_unary, {1003, WO_UNARY_COPY}, WO_F32, WO_F16, 0, 0},
    {OP_unary, {1003, WO_UNARY_SILU}, WO_F16, WO_F32, 0, 1e-6},
    {OP_unary, {1003, WO_UNARY_GELU_TANH}, WO_F16, WO_F16, OP_IN_PLACE, 1e-6},
};
enum { OP_CASES = sizeof op_cases / sizeof op_cases[0] };

#endif
