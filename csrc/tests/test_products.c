/* Products (linear in both forms, conv) of every instruction set that this machine runs: against float64, and bit for bit
 * against themselves when rows are cut or joined, frames are cut or joined, and threads change. Every tensor ends at a guard page, so a
 * read or write past the end ends the test. */
#include "base/convert.h"
#include "base/memory.h"
#include "device/cpu/cpu.h"
#include "device/cpu/kernels.h"
#include "tests/check.h"

#include <math.h>

#define TABLE_OF(tag) extern const wo_cpu_kernels wo_cpu_##tag##_table;
TABLE_OF(generic)
TABLE_OF(avx2)
TABLE_OF(avx512)
TABLE_OF(avx512_bf16)
TABLE_OF(amx)

static const wo_cpu_kernels *const tables[WO_ISA_COUNT] = {
    [WO_ISA_GENERIC] = &wo_cpu_generic_table,
#ifdef WO_HAVE_ISA_AVX2
    [WO_ISA_AVX2] = &wo_cpu_avx2_table,
#endif
#ifdef WO_HAVE_ISA_AVX512
    [WO_ISA_AVX512] = &wo_cpu_avx512_table,
#endif
#ifdef WO_HAVE_ISA_AVX512_BF16
    [WO_ISA_AVX512_BF16] = &wo_cpu_avx512_bf16_table,
#endif
#ifdef WO_HAVE_ISA_AMX
    [WO_ISA_AMX] = &wo_cpu_amx_table,
#endif
};

static const wo_cpu_kernels *kernels; /* under test */
static const char *isa_name;
static wo_pool *pool;

/* --- memory and numbers ------------------------------------------------------------------------------------------------------- */

enum { MAX_BLOCKS = 32 };
static void *blocks[MAX_BLOCKS];
static int block_count;

/* A tensor whose last byte is the last one before a guard page. */
static wo_tensor make(wo_dtype dtype, int rank, const int64_t *shape) {
    wo_tensor t = wo_tensor_make(NULL, dtype, rank, shape);
    size_t bytes = wo_tensor_bytes(&t), pages = (bytes + 4095) / 4096 * 4096;
    wo_error err;
    CHECK(block_count < MAX_BLOCKS);
    CHECK_OK(wo_memory_acquire_guarded(pages, "a test tensor", &blocks[block_count], &err), &err);
    t.data = (char *)blocks[block_count++] + pages - bytes;
    memset(t.data, 0xff, bytes);
    return t;
}
#define MAKE(dtype, ...) \
    make((dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__})

static void release_all(void) {
    while (block_count > 0)
        wo_memory_release_guarded(blocks[--block_count]);
}

static uint64_t seed = 1;

/* Roughly normal, mean 0, variance 1. */
static float noise(void) {
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(seed >> 40) / 16777216.0f - 0.5f;
    }
    return sum * 1.7320508f;
}

static float get(const wo_tensor *t, int64_t i) {
    if (t->dtype == WO_F32)
        return ((const float *)t->data)[i];
    uint16_t half;
    memcpy(&half, (const char *)t->data + 2 * i, 2);
    return t->dtype == WO_BF16 ? wo_bf16_to_f32(half) : wo_f16_to_f32(half);
}

static void set(wo_tensor *t, int64_t i, float value) {
    uint16_t half = t->dtype == WO_BF16 ? wo_f32_to_bf16(value) : wo_f32_to_f16(value);
    if (t->dtype == WO_F32)
        ((float *)t->data)[i] = value;
    else
        memcpy((char *)t->data + 2 * i, &half, 2);
}

static void fill(wo_tensor *t, float scale) {
    for (int64_t i = 0; i < wo_tensor_count(t); i++)
        set(t, i, scale * noise());
}

static wo_tensor copy_of(const wo_tensor *t) {
    wo_tensor copy = make(t->dtype, t->rank, t->shape);
    memcpy(copy.data, t->data, wo_tensor_bytes(t));
    return copy;
}

/* --- linear ------------------------------------------------------------------------------------------------------------------- */

static double epilogue_of(const wo_linear_args *args, double acc, int64_t row, int64_t column) {
    const int64_t n = args->y.shape[1];
    double other = args->other.data == NULL ? 0 : get(&args->other, row * n + column);
    switch (args->epilogue) {
    case WO_EPILOGUE_SILU:
        return acc / (1 + exp(-acc));
    case WO_EPILOGUE_GELU_TANH:
        return 0.5 * acc * (1 + tanh(sqrt(2 / M_PI) * (acc + 0.044715 * acc * acc * acc)));
    case WO_EPILOGUE_GELU_ERF:
        return 0.5 * acc * erfc(-acc / M_SQRT2);
    case WO_EPILOGUE_MUL:
        return acc * other;
    case WO_EPILOGUE_ADD:
        return other + acc;
    case WO_EPILOGUE_GATE:
        return other + acc * get(&args->gate, row / args->rows_per_gate * n + column);
    default:
        return acc;
    }
}

/* The bound: float32 sums lose at most a few units in the last place of the sum of magnitudes; the store may round to bfloat16. */
static void check_linear(const wo_linear_args *args, const wo_linear_args *before) {
    const int64_t m = args->x.shape[0], k = args->x.shape[1], n = args->w.shape[0];
    for (int64_t r = 0; r < m; r++)
        for (int64_t c = 0; c < n; c++) {
            double acc = args->bias.data == NULL ? 0 : get(&args->bias, c), magnitude = fabs(acc);
            for (int64_t i = 0; i < k; i++) {
                double product = (double)get(&args->x, r * k + i) * get(&args->w, c * k + i);
                acc += product;
                magnitude += fabs(product);
            }
            double wanted = epilogue_of(before, acc, r, c), found = get(&args->y, r * n + c);
            double bound = 4e-7 * (1 + magnitude) * (args->epilogue >= WO_EPILOGUE_MUL ? 4 : 1.2) + 1e-6 * fabs(wanted);
            if (args->y.dtype == WO_BF16)
                bound += fabs(wanted) / 256;
            if (!(fabs(found - wanted) <= bound)) {
                fprintf(stderr, "%s: linear form %d epilogue %d M %lld N %lld K %lld dtypes %d %d %d: y[%lld, %lld] = %.9g, not %.9g +- %.2g\n",
                        isa_name, (int)args->form, (int)args->epilogue, (long long)m, (long long)n, (long long)k, (int)args->x.dtype,
                        (int)args->w.dtype, (int)args->y.dtype, (long long)r, (long long)c, found, wanted, bound);
                exit(1);
            }
        }
}

static wo_linear_args linear_case(int64_t m, int64_t n, int64_t k, wo_dtype x, wo_dtype w, wo_dtype y, bool bias, wo_form form,
                                  wo_epilogue epilogue) {
    wo_linear_args args = {.x = MAKE(x, m, k), .w = MAKE(w, n, k), .y = MAKE(y, m, n), .form = form, .epilogue = epilogue};
    fill(&args.x, 1);
    fill(&args.w, 1 / sqrtf((float)k));
    if (bias) {
        args.bias = MAKE(WO_F32, n);
        fill(&args.bias, 1);
    }
    if (epilogue >= WO_EPILOGUE_MUL) {
        args.other = MAKE(y, m, n);
        fill(&args.other, 1);
    }
    if (epilogue == WO_EPILOGUE_GATE) {
        args.rows_per_gate = (m + 1) / 2;
        args.gate = MAKE(WO_F32, 2, n);
        fill(&args.gate, 1);
    }
    return args;
}

static void run_linear(const wo_linear_args *args) {
    CHECK(kernels->linear_workspace(args) == 0);
    CHECK_STATUS(kernels->linear(pool, NULL, args), WO_OK);
}

static const wo_dtype dtypes[][3] = {{WO_F32, WO_F32, WO_F32},   {WO_BF16, WO_BF16, WO_BF16}, {WO_BF16, WO_BF16, WO_F32},
                                     {WO_F32, WO_BF16, WO_BF16}, {WO_F32, WO_F16, WO_F32},    {WO_BF16, WO_F32, WO_F32}};
enum { DTYPES = sizeof dtypes / sizeof dtypes[0] };

static void test_linear_agrees_with_float64_for_every_shape_dtype_and_epilogue(void) {
    static const int64_t shapes[][3] = {{1, 1, 1},    {1, 7, 3},      {2, 3, 33},    {5, 17, 31},   {7, 48, 64},    {9, 50, 65},
                                        {31, 97, 17}, {33, 100, 130}, {40, 64, 577}, {3, 5, 1201}, {6, 130, 2311}, {515, 33, 40}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int d = 0; d < DTYPES; d++)
            for (int form = WO_FORM_TILE; form <= WO_FORM_DOT; form++) {
                wo_epilogue epilogue = (wo_epilogue)((s * DTYPES + (size_t)d) % (WO_EPILOGUE_GATE + 1));
                wo_linear_args args = linear_case(shapes[s][0], shapes[s][1], shapes[s][2], dtypes[d][0], dtypes[d][1], dtypes[d][2],
                                                  (s + (size_t)d) % 3 != 0, (wo_form)form, epilogue);
                run_linear(&args);
                check_linear(&args, &args);
                release_all();
            }
}

static void test_linear_adds_into_its_own_residual(void) {
    for (int form = WO_FORM_TILE; form <= WO_FORM_DOT; form++)
        for (int epilogue = WO_EPILOGUE_ADD; epilogue <= WO_EPILOGUE_GATE; epilogue++) {
            wo_linear_args args = linear_case(21, 59, 77, WO_F32, WO_F32, WO_F32, true, (wo_form)form, (wo_epilogue)epilogue);
            wo_linear_args before = args;
            args.y = copy_of(&args.other);
            args.other = args.y;
            run_linear(&args);
            check_linear(&args, &before);
            release_all();
        }
}

/* One row of the batch, computed in a call of rows [first, first + rows), has the bits it had in the whole batch. */
static void check_rows_alone(const wo_linear_args *whole, int64_t first, int64_t rows) {
    wo_linear_args part = *whole;
    part.x = wo_tensor_rows(&whole->x, first, rows);
    part.y = MAKE(whole->y.dtype, rows, whole->y.shape[1]);
    run_linear(&part);
    wo_tensor wanted = wo_tensor_rows(&whole->y, first, rows);
    CHECK(memcmp(part.y.data, wanted.data, wo_tensor_bytes(&wanted)) == 0);
}

static void test_linear_rows_have_the_same_bits_alone_in_a_tail_and_in_any_batch(void) {
    static const int64_t parts[][2] = {{0, 1}, {511, 1}, {300, 31}, {301, 32}, {302, 33}, {5, 7}, {0, 512}, {100, 413}, {512, 7}};
    for (int d = 0; d < DTYPES; d++)
        for (int form = WO_FORM_TILE; form <= WO_FORM_DOT; form++) {
            wo_linear_args whole = linear_case(519, 70, 1203, dtypes[d][0], dtypes[d][1], dtypes[d][2], true, (wo_form)form,
                                               WO_EPILOGUE_GELU_TANH);
            run_linear(&whole);
            for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
                check_rows_alone(&whole, parts[i][0], parts[i][1]);
            release_all();
        }
}

static void test_linear_has_the_same_bits_on_any_number_of_threads(void) {
    wo_error err;
    for (int d = 0; d < DTYPES; d++)
        for (int form = WO_FORM_TILE; form <= WO_FORM_DOT; form++) {
            wo_linear_args args = linear_case(70, 300, 650, dtypes[d][0], dtypes[d][1], dtypes[d][2], true, (wo_form)form, WO_EPILOGUE_NONE);
            run_linear(&args);
            wo_linear_args again = args;
            again.y = MAKE(args.y.dtype, 70, 300);
            CHECK_OK(wo_pool_resize(pool, 1, &err), &err);
            run_linear(&again);
            CHECK_OK(wo_pool_resize(pool, 3, &err), &err);
            CHECK(memcmp(again.y.data, args.y.data, wo_tensor_bytes(&args.y)) == 0);
            release_all();
        }
}

/* --- conv --------------------------------------------------------------------------------------------------------------------- */

typedef enum resizing { SAME, UP, DOWN } resizing;

typedef struct conv_shape {
    int64_t height, width, channels, n;
    int32_t out_frames, kt, kh, kw;
    resizing resize;
    bool residual;
} conv_shape;

static wo_conv_args conv_case(const conv_shape *s, const wo_dtype *d) {
    int64_t up = s->resize == UP ? 2 : 1, down = s->resize == DOWN ? 2 : 1;
    wo_conv_args args = {.x_dtype = d[0],
                         .height = s->height,
                         .width = s->width,
                         .channels = s->channels,
                         .out_frames = s->out_frames,
                         .kt = s->kt,
                         .kh = s->kh,
                         .kw = s->kw,
                         .upsample = s->resize == UP,
                         .downsample = s->resize == DOWN,
                         .w = MAKE(d[1], s->n, s->kt, s->kh, s->kw, s->channels),
                         .bias = MAKE(WO_F32, s->n),
                         .y = MAKE(d[2], s->out_frames, s->height * up / down, s->width * up / down, s->n)};
    for (int32_t i = 0; i < s->out_frames + s->kt - 1; i++) {
        wo_tensor frame = MAKE(d[0], s->height, s->width, s->channels);
        fill(&frame, 1);
        args.frames[i] = frame.data;
    }
    fill(&args.w, 1 / sqrtf((float)(s->kt * s->kh * s->kw * s->channels)));
    fill(&args.bias, 1);
    if (s->residual) {
        args.residual = make(args.y.dtype, 4, args.y.shape);
        fill(&args.residual, 1);
    }
    return args;
}

static void run_conv(const wo_conv_args *args) {
    CHECK(kernels->conv_workspace(args) == 0);
    CHECK_STATUS(kernels->conv(pool, NULL, args), WO_OK);
}

/* acc and the sum of magnitudes of one output. */
static void conv_at(const wo_conv_args *args, int64_t t, int64_t y, int64_t x, int64_t n, double *acc, double *magnitude) {
    const int64_t scale = args->upsample ? 2 : 1, step = args->downsample ? 2 : 1, c = args->channels;
    const int64_t above = args->downsample ? 0 : (args->kh - 1) / 2, left = args->downsample ? 0 : (args->kw - 1) / 2;
    for (int64_t dt = 0; dt < args->kt; dt++)
        for (int64_t dy = 0; dy < args->kh; dy++)
            for (int64_t dx = 0; dx < args->kw; dx++) {
                int64_t row = y * step + dy - above, column = x * step + dx - left;
                if (args->frames[t + dt] == NULL || row < 0 || column < 0 || row >= args->height * scale || column >= args->width * scale)
                    continue;
                wo_tensor frame = wo_tensor_of((void *)(uintptr_t)args->frames[t + dt], args->x_dtype, args->height, args->width, c);
                int64_t pixel = row / scale * args->width + column / scale, tap = ((n * args->kt + dt) * args->kh + dy) * args->kw + dx;
                for (int64_t i = 0; i < c; i++) {
                    double product = (double)get(&frame, pixel * c + i) * get(&args->w, tap * c + i);
                    *acc += product;
                    *magnitude += fabs(product);
                }
            }
}

static void check_conv(const wo_conv_args *args, const wo_tensor *residual) {
    const int64_t height = args->y.shape[1], width = args->y.shape[2], columns = args->y.shape[3];
    for (int64_t i = 0; i < wo_tensor_count(&args->y); i++) {
        int64_t n = i % columns, x = i / columns % width, y = i / columns / width % height, t = i / columns / width / height;
        double wanted = get(&args->bias, n), magnitude = fabs(wanted), found = get(&args->y, i);
        conv_at(args, t, y, x, n, &wanted, &magnitude);
        if (residual->data != NULL)
            wanted += get(residual, i);
        double bound = 4e-7 * (1 + magnitude) + 1e-6 * fabs(wanted) + (args->y.dtype == WO_BF16 ? fabs(wanted) / 256 : 0);
        if (!(fabs(found - wanted) <= bound)) {
            fprintf(stderr, "%s: conv %lldx%lldx%lld to %lld, kernel %dx%dx%d, dtypes %d %d: y[%lld, %lld, %lld, %lld] = %.9g, not %.9g +- %.2g\n",
                    isa_name, (long long)args->height, (long long)args->width, (long long)args->channels, (long long)columns, args->kt,
                    args->kh, args->kw, (int)args->x_dtype, (int)args->w.dtype, (long long)t, (long long)y, (long long)x, (long long)n,
                    found, wanted, bound);
            exit(1);
        }
    }
}

static const conv_shape conv_shapes[] = {
    {5, 7, 16, 20, 2, 3, 3, 3, SAME, false}, {4, 9, 40, 50, 1, 3, 3, 3, SAME, true},  {6, 5, 13, 3, 2, 3, 3, 3, SAME, false},
    {9, 8, 96, 3, 1, 3, 3, 3, SAME, false},  {3, 4, 33, 35, 1, 1, 3, 3, UP, false},  {8, 8, 24, 7, 3, 3, 1, 1, SAME, true},
    {1, 1, 5, 4, 1, 3, 3, 3, SAME, false},   {7, 3, 12, 48, 3, 1, 1, 1, SAME, false}, {1, 40, 64, 32, 1, 1, 3, 3, SAME, false},
    {5, 6, 8, 2, 1, 1, 3, 3, UP, true},     {3, 2, 600, 5, 1, 1, 3, 3, SAME, false}, {3, 3, 1300, 9, 1, 3, 1, 1, SAME, false},
    {24, 23, 6, 5, 1, 1, 3, 3, SAME, false},
    {9, 7, 16, 20, 2, 1, 3, 3, DOWN, false},    {6, 5, 13, 3, 2, 3, 3, 3, DOWN, true},    {2, 3, 600, 5, 1, 1, 3, 3, DOWN, false},
    {7, 71, 64, 40, 1, 1, 3, 3, DOWN, false},   {4, 36, 1024, 3, 1, 1, 3, 3, DOWN, false}, {33, 66, 6, 5, 1, 1, 3, 3, DOWN, false},
};
enum { CONV_SHAPES = sizeof conv_shapes / sizeof conv_shapes[0] };

static void test_conv_agrees_with_float64_for_every_shape_and_dtype(void) {
    for (int s = 0; s < CONV_SHAPES; s++)
        for (int d = 0; d < DTYPES; d++) {
            wo_conv_args args = conv_case(&conv_shapes[s], dtypes[d]);
            run_conv(&args);
            check_conv(&args, &args.residual);
            release_all();
        }
}

static void test_conv_adds_into_its_own_residual(void) {
    for (int d = 0; d < 2; d++) {
        wo_conv_args args = conv_case(&conv_shapes[1], dtypes[d]);
        wo_tensor before = copy_of(&args.residual);
        args.y = args.residual;
        run_conv(&args);
        check_conv(&args, &before);
        release_all();
    }
}

static void test_conv_skips_frames_that_are_null_and_gives_the_bits_of_frames_of_zeros(void) {
    for (int s = 0; s < CONV_SHAPES; s++)
        for (int d = 0; d < DTYPES; d++) {
            wo_conv_args args = conv_case(&conv_shapes[s], dtypes[d]), zeros = args;
            wo_tensor zero = MAKE(args.x_dtype, args.height, args.width, args.channels);
            memset(zero.data, 0, wo_tensor_bytes(&zero));
            for (int32_t i = 0; i < args.out_frames + args.kt - 1 && i < 2; i++) {
                args.frames[i] = NULL;
                zeros.frames[i] = zero.data;
            }
            zeros.y = make(args.y.dtype, 4, args.y.shape);
            run_conv(&args);
            run_conv(&zeros);
            check_conv(&args, &args.residual);
            for (int64_t i = 0; i < wo_tensor_count(&args.y); i++)
                CHECK(get(&args.y, i) == get(&zeros.y, i));
            release_all();
        }
}

static void test_conv_frames_have_the_same_bits_alone_and_together_on_any_number_of_threads(void) {
    wo_error err;
    for (int s = 0; s < CONV_SHAPES; s++)
        for (int d = 0; d < DTYPES; d++) {
            wo_conv_args whole = conv_case(&conv_shapes[s], dtypes[d]);
            run_conv(&whole);
            CHECK_OK(wo_pool_resize(pool, 1, &err), &err);
            for (int32_t t = 0; t < whole.out_frames; t++) {
                wo_conv_args one = whole;
                memmove(one.frames, one.frames + t, sizeof one.frames - (size_t)t * sizeof one.frames[0]);
                wo_tensor wanted = wo_tensor_rows(&whole.y, t, 1);
                one.out_frames = 1;
                one.y = make(whole.y.dtype, 4, wanted.shape);
                if (whole.residual.data != NULL)
                    one.residual = wo_tensor_rows(&whole.residual, t, 1);
                run_conv(&one);
                CHECK(memcmp(one.y.data, wanted.data, wo_tensor_bytes(&wanted)) == 0);
            }
            CHECK_OK(wo_pool_resize(pool, 3, &err), &err);
            release_all();
        }
}

/* Without padding above and to the left, pixel (y, x) sees what pixel (2y + 1, 2x + 1) of the convolution of full size sees. */
static void test_conv_that_halves_has_the_bits_of_every_second_pixel_of_the_whole(void) {
    for (int s = 0; s < CONV_SHAPES; s++)
        for (int d = 0; d < DTYPES && conv_shapes[s].resize == DOWN; d++) {
            wo_conv_args half = conv_case(&conv_shapes[s], dtypes[d]), whole = half;
            half.residual = whole.residual = (wo_tensor){0};
            whole.downsample = false;
            whole.y = MAKE(half.y.dtype, half.out_frames, half.height, half.width, half.y.shape[3]);
            run_conv(&half);
            run_conv(&whole);
            const size_t bytes = (size_t)half.y.shape[3] * wo_dtype_size(half.y.dtype);
            for (int64_t i = 0; i < half.y.shape[0] * half.y.shape[1] * half.y.shape[2]; i++) {
                int64_t x = i % half.y.shape[2], y = i / half.y.shape[2] % half.y.shape[1], t = i / half.y.shape[2] / half.y.shape[1];
                int64_t same = (t * half.height + 2 * y + 1) * half.width + 2 * x + 1;
                CHECK(memcmp((char *)half.y.data + (size_t)i * bytes, (char *)whole.y.data + (size_t)same * bytes, bytes) == 0);
            }
            release_all();
        }
}

static void test_conv_of_one_tap_has_the_bits_of_a_linear(void) {
    for (int d = 0; d < DTYPES; d++) {
        conv_shape shape = {6, 7, 1300, 50, 1, 1, 1, 1, SAME, false};
        wo_conv_args conv = conv_case(&shape, dtypes[d]);
        wo_linear_args linear = {.x = wo_tensor_of((void *)(uintptr_t)conv.frames[0], conv.x_dtype, 42, 1300),
                                 .w = wo_tensor_as(&conv.w, 50, 1300),
                                 .bias = conv.bias,
                                 .y = MAKE(conv.y.dtype, 42, 50),
                                 .form = WO_FORM_TILE};
        run_conv(&conv);
        run_linear(&linear);
        CHECK(memcmp(conv.y.data, linear.y.data, wo_tensor_bytes(&conv.y)) == 0);
        release_all();
    }
}

static void test_a_cancelled_product_ends_at_once(void) {
    wo_cancel cancel;
    wo_cancel_reset(&cancel);
    wo_cancel_request(&cancel);
    wo_linear_args args = linear_case(40, 40, 40, WO_F32, WO_F32, WO_F32, false, WO_FORM_TILE, WO_EPILOGUE_NONE);
    CHECK_STATUS(kernels->linear(pool, &cancel, &args), WO_ECANCELLED);
    args.form = WO_FORM_DOT;
    CHECK_STATUS(kernels->linear(pool, &cancel, &args), WO_ECANCELLED);
    release_all();
}

int main(void) {
    wo_error err;
    CHECK_OK(wo_pool_create(3, WO_CPU_SCRATCH_BYTES, &pool, &err), &err);
    for (int isa = 0; isa < WO_ISA_COUNT; isa++) {
        if (!wo_isa_supported((wo_isa)isa))
            continue;
        kernels = tables[isa];
        isa_name = wo_isa_name((wo_isa)isa);
        if (!UNDER_THREAD_SANITIZER) { /* threads are not what these are about */
            test_linear_agrees_with_float64_for_every_shape_dtype_and_epilogue();
            test_conv_agrees_with_float64_for_every_shape_and_dtype();
        }
        test_linear_adds_into_its_own_residual();
        test_linear_rows_have_the_same_bits_alone_in_a_tail_and_in_any_batch();
        test_linear_has_the_same_bits_on_any_number_of_threads();
        test_conv_adds_into_its_own_residual();
        test_conv_skips_frames_that_are_null_and_gives_the_bits_of_frames_of_zeros();
        test_conv_frames_have_the_same_bits_alone_and_together_on_any_number_of_threads();
        test_conv_that_halves_has_the_bits_of_every_second_pixel_of_the_whole();
        test_conv_of_one_tap_has_the_bits_of_a_linear();
        test_a_cancelled_product_ends_at_once();
        printf("products of %s: ok\n", isa_name);
    }
    wo_pool_destroy(pool);
    return 0;
}
