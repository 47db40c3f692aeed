/* GFLOP/s of the products at the shapes of the models, beside the rate of multiply-adds between registers on the same threads.
 *   bench_ops_products [instruction set] [threads] [part of a row's name]
 * With one thread it counts CPU time, which other processes disturb less; with more it counts wall time. Best of several runs. */
#include "base/clock.h"
#include "base/memory.h"
#include "device/cpu/cpu.h"
#include "device/cpu/kernels.h"
#include "tests/check.h"

#include <time.h>

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

typedef struct linear_row {
    const char *name;
    int64_t m, n, k;
    wo_form form;
} linear_row;

static const linear_row linears[] = {
    {"DiT 1.3B square, 512 tokens", 512, 1536, 1536, WO_FORM_TILE},
    {"DiT 1.3B up, 512 tokens", 512, 8960, 1536, WO_FORM_TILE},
    {"DiT 1.3B down, 512 tokens", 512, 1536, 8960, WO_FORM_TILE},
    {"DiT 1.3B square, 4096 tokens", 4096, 1536, 1536, WO_FORM_TILE},
    {"DiT 1.3B down, 4096 tokens", 4096, 1536, 8960, WO_FORM_TILE},
    {"UMT5 square, 20 tokens", 20, 4096, 4096, WO_FORM_DOT},
    {"UMT5 up, 20 tokens", 20, 10240, 4096, WO_FORM_DOT},
    {"UMT5 up, 1 token", 1, 10240, 4096, WO_FORM_DOT},
};

typedef struct conv_row {
    const char *name;
    int64_t height, width, channels, n;
    int32_t out_frames, kt, kh, kw;
    int resize; /* 2: doubled, -2: halved, 1: as it is */
} conv_row;

static const conv_row convs[] = {
    {"VAE 16 to 384 at 32x32", 32, 32, 16, 384, 4, 3, 3, 3, 1},
    {"VAE 384 at 32x32", 32, 32, 384, 384, 1, 3, 3, 3, 1},
    {"VAE time 384 to 768 at 32x32", 32, 32, 384, 768, 2, 3, 1, 1, 1},
    {"VAE 384 to 192 up to 64x64", 32, 32, 384, 192, 1, 1, 3, 3, 2},
    {"VAE 192 at 128x128", 128, 128, 192, 192, 1, 3, 3, 3, 1},
    {"VAE 96 at 256x256", 256, 256, 96, 96, 1, 3, 3, 3, 1},
    {"VAE 96 to 3 at 256x256", 256, 256, 96, 3, 1, 3, 3, 3, 1},
    {"VAE 96 down to 128x128", 256, 256, 96, 96, 1, 1, 3, 3, -2},
    {"VAE 384 down to 32x32", 64, 64, 384, 384, 1, 1, 3, 3, -2},
};

static const wo_cpu_kernels *kernels;
static wo_pool *pool;
static double peak[2]; /* float32, bfloat16 */

static double seconds(void) {
    if (wo_pool_threads(pool) > 1)
        return wo_clock_seconds();
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A tensor of small numbers, none of them denormal. */
static wo_tensor make(wo_dtype dtype, int rank, const int64_t *shape) {
    wo_tensor t = wo_tensor_make(NULL, dtype, rank, shape);
    wo_error err;
    CHECK_OK(wo_memory_acquire(wo_tensor_bytes(&t), "a tensor of the benchmark", &t.data, &err), &err);
    uint32_t state = 1;
    for (int64_t i = 0; i < wo_tensor_count(&t); i++) {
        state = state * 1664525u + 1013904223u;
        if (dtype == WO_F32)
            ((float *)t.data)[i] = (float)(state >> 8) / 16777216.0f - 0.5f;
        else
            ((uint16_t *)t.data)[i] = (uint16_t)(0x3d00u + (state >> 24) + (state >> 8 & 0x8000u));
    }
    return t;
}
#define MAKE(dtype, ...) \
    make((dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__})

static void report(const char *name, wo_dtype dtype, double flop, double weight_bytes, double best) {
    printf("%-32s %-9s %8.1f GFLOP/s %5.1f %%  %6.1f GB/s of weights\n", name, wo_dtype_name(dtype), flop / best * 1e-9,
           100 * flop / best / peak[dtype == WO_BF16], weight_bytes / best * 1e-9);
    fflush(stdout);
}

/* Runs are repeated until they have taken so long together. */
static const double SECONDS_OF_A_ROW = 0.4;

static void bench_linear(const linear_row *row, wo_dtype dtype) {
    wo_linear_args args = {.x = MAKE(dtype, row->m, row->k),
                           .w = MAKE(dtype, row->n, row->k),
                           .bias = MAKE(WO_F32, row->n),
                           .y = MAKE(dtype, row->m, row->n),
                           .form = row->form};
    double best = 1e9;
    for (double all = 0, spent; all < SECONDS_OF_A_ROW; all += spent) {
        double begin = seconds();
        CHECK_STATUS(kernels->linear(pool, NULL, &args), WO_OK);
        spent = seconds() - begin;
        best = spent < best ? spent : best;
    }
    report(row->name, dtype, 2.0 * (double)row->m * (double)row->n * (double)row->k, (double)wo_tensor_bytes(&args.w), best);
    wo_memory_release(args.x.data);
    wo_memory_release(args.w.data);
    wo_memory_release(args.bias.data);
    wo_memory_release(args.y.data);
}

static void bench_conv(const conv_row *row, wo_dtype dtype) {
    int64_t up = row->resize == 2 ? 2 : 1, down = row->resize == -2 ? 2 : 1, frames = row->out_frames + row->kt - 1;
    wo_conv_args args = {.x_dtype = dtype,
                         .height = row->height,
                         .width = row->width,
                         .channels = row->channels,
                         .out_frames = row->out_frames,
                         .kt = row->kt,
                         .kh = row->kh,
                         .kw = row->kw,
                         .upsample = row->resize == 2,
                         .downsample = row->resize == -2,
                         .w = MAKE(dtype, row->n, row->kt, row->kh, row->kw, row->channels),
                         .bias = MAKE(WO_F32, row->n),
                         .y = MAKE(dtype, row->out_frames, row->height * up / down, row->width * up / down, row->n)};
    wo_tensor x = MAKE(dtype, frames, row->height, row->width, row->channels);
    for (int64_t i = 0; i < frames; i++)
        args.frames[i] = wo_tensor_rows(&x, i, 1).data;
    double best = 1e9;
    for (double all = 0, spent; all < SECONDS_OF_A_ROW; all += spent) {
        double begin = seconds();
        CHECK_STATUS(kernels->conv(pool, NULL, &args), WO_OK);
        spent = seconds() - begin;
        best = spent < best ? spent : best;
    }
    double taps = row->kt * row->kh * row->kw;
    report(row->name, dtype, 2.0 * (double)wo_tensor_count(&args.y) * taps * (double)row->channels, (double)wo_tensor_bytes(&args.w), best);
    wo_memory_release(x.data);
    wo_memory_release(args.w.data);
    wo_memory_release(args.bias.data);
    wo_memory_release(args.y.data);
}

int main(int argc, char **argv) {
    int isa = WO_ISA_COUNT - 1;
    while (isa > 0 && (argc > 1 ? strcmp(argv[1], wo_isa_name((wo_isa)isa)) != 0 : !wo_isa_supported((wo_isa)isa)))
        isa--;
    CHECK(wo_isa_supported((wo_isa)isa));
    const char *part = argc > 3 ? argv[3] : "";
    wo_error err;
    CHECK_OK(wo_pool_create(argc > 2 ? atoi(argv[2]) : 1, WO_CPU_SCRATCH_BYTES, &pool, &err), &err);
    kernels = tables[isa];
    for (int bf16 = 0; bf16 < 2; bf16++)
        peak[bf16] = kernels->probe_peak(pool, bf16);
    printf("%s, %d threads; between registers: float32 %.0f, bfloat16 %.0f GFLOP/s\n", wo_isa_name((wo_isa)isa), wo_pool_threads(pool),
           peak[0] * 1e-9, peak[1] * 1e-9);
    for (wo_dtype dtype = WO_F32; dtype <= WO_BF16; dtype++) {
        for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++)
            if (strstr(linears[i].name, part) != NULL)
                bench_linear(&linears[i], dtype);
        for (size_t i = 0; i < sizeof convs / sizeof convs[0]; i++)
            if (strstr(convs[i].name, part) != NULL)
                bench_conv(&convs[i], dtype);
    }
    wo_pool_destroy(pool);
    return 0;
}
