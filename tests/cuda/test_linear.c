/* Own linear kernels on the fake card: every epilogue and pair of dtypes against float64, and every address and tile, rows alone and rows among others
 * for the same bits. */
#include "products.h"

typedef struct linear {
    pair x, w, bias, y, other, gate;
    wo_linear_args args; /* tensors of the card */
} linear;

static linear make_linear(int64_t m, int64_t n, int64_t k, const wo_dtype *d, wo_epilogue epilogue) {
    linear c = {.x = fill(MAKE(d[0], m, k), 1), .w = fill(MAKE(d[1], n, k), 1 / sqrtf((float)k)), .bias = fill(MAKE(WO_F32, n), 1), .y = MAKE(d[2], m, n)};
    if (epilogue >= WO_EPILOGUE_MUL)
        c.other = fill(MAKE(d[2], m, n), 1);
    if (epilogue == WO_EPILOGUE_GATE)
        c.gate = fill(MAKE(WO_F32, 3, n), 1);
    c.args = (wo_linear_args){.x = c.x.card, .w = c.w.card, .bias = c.bias.card, .y = c.y.card, .other = c.other.card, .gate = c.gate.card,
                              .epilogue = epilogue, .rows_per_gate = (m + 2) / 3};
    return c;
}

static void run_linear(const wo_linear_args *args) {
    CHECK(wo_linear_workspace(device, args) == 0);
    CHECK_OK(wo_linear(stream, args, &err), &err);
}

static double finish(const linear *c, double acc, int64_t row, int64_t column) {
    const int64_t n = c->y.host.shape[1];
    double other = c->other.host.data == NULL ? 0 : get(&c->other.host, row * n + column);
    switch (c->args.epilogue) {
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
        return other + acc * get(&c->gate.host, row / c->args.rows_per_gate * n + column);
    default:
        return acc;
    }
}

/* The bound: float32 sums lose at most a few units in the last place of the sum of magnitudes; the store may round to 16 bits. */
static void check_linear(linear *c) {
    const int64_t m = c->y.host.shape[0], n = c->y.host.shape[1], k = c->x.host.shape[1];
    download(&c->y);
    for (int64_t i = 0; i < m * n; i++) {
        double acc = get(&c->bias.host, i % n), magnitude = fabs(acc);
        for (int64_t j = 0; j < k; j++) {
            double product = (double)get(&c->x.host, i / n * k + j) * get(&c->w.host, i % n * k + j);
            acc += product;
            magnitude += fabs(product);
        }
        double wanted = finish(c, acc, i / n, i % n), found = get(&c->y.host, i);
        double bound = 4e-7 * (1 + magnitude) * (c->args.epilogue >= WO_EPILOGUE_MUL ? 4 : 1.2) + (1e-6 + half_unit(c->y.host.dtype)) * fabs(wanted);
        if (!(fabs(found - wanted) <= bound)) {
            fprintf(stderr, "linear M %lld N %lld K %lld, dtypes %d %d %d, epilogue %d: y[%lld, %lld] is %.9g, not %.9g +- %.2g\n", (long long)m, (long long)n,
                    (long long)k, (int)c->x.host.dtype, (int)c->w.host.dtype, (int)c->y.host.dtype, (int)c->args.epilogue, (long long)(i / n),
                    (long long)(i % n), found, wanted, bound);
            exit(1);
        }
    }
}

static void linear_agrees_with_float64_in_every_epilogue_and_dtype(void) {
    static const int64_t shapes[][3] = {{1, 1, 1}, {33, 100, 130}, {9, 52, 64}, {70, 31, 24}, {3, 40, 577}, {18, 36, 1200}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int d = 0; d < DTYPES; d++)
            for (int e = (int)s % 2; e <= WO_EPILOGUE_GATE; e += s == 1 ? 1 : 2) {
                linear c = make_linear(shapes[s][0], shapes[s][1], shapes[s][2], dtypes[d], (wo_epilogue)e);
                run_linear(&c.args);
                check_linear(&c);
                release_to(0);
            }
}

static void linear_adds_into_its_own_residual(void) {
    for (int d = 0; d < 2; d++)
        for (int e = WO_EPILOGUE_ADD; e <= WO_EPILOGUE_GATE; e++) {
            linear c = make_linear(37, 41 - d, 56, dtypes[d], (wo_epilogue)e);
            c.y = copy_at(0, &c.other);
            c.args.y = c.args.other = c.y.card;
            run_linear(&c.args);
            check_linear(&c);
            release_to(0);
        }
}

/* The large tile is taken from 32 tiles on, of which the last row and column are mostly empty here, and bands of eight rows of tiles. */
static void linear_of_many_tiles_agrees_with_float64(void) {
    linear wide = make_linear(129, 1924, 136, dtypes[2], WO_EPILOGUE_NONE), tall = make_linear(1100, 500, 40, dtypes[1], WO_EPILOGUE_ADD);
    linear f32 = make_linear(129, 1923, 24, dtypes[4], WO_EPILOGUE_SILU);
    linear *all[] = {&wide, &tall, &f32};
    for (int i = 0; i < 3; i++) {
        run_linear(&all[i]->args);
        check_linear(all[i]);
    }
    release_to(0);
}

/* One chain of 16384 sums would lose 1.3e-6 of the root mean square; sums that start anew in every block of k lose 2e-7. */
static void linear_of_long_rows_in_float32_loses_no_more_than_short_sums(void) {
    linear c = make_linear(8, 36, 16384, dtypes[0], WO_EPILOGUE_NONE);
    double errors = 0, squares = 0;
    run_linear(&c.args);
    check_linear(&c);
    for (int64_t i = 0; i < 8 * 36; i++) {
        double wanted = get(&c.bias.host, i % 36);
        for (int64_t j = 0; j < 16384; j++)
            wanted += (double)get(&c.x.host, i / 36 * 16384 + j) * get(&c.w.host, i % 36 * 16384 + j);
        errors += pow(get(&c.y.host, i) - wanted, 2);
        squares += pow(wanted, 2);
    }
    CHECK(sqrt(errors) <= 5e-7 * sqrt(squares));
    release_to(0);
}

/* One call in parts: whoever cuts rows gets other tiles, and the same bits. */
static void linear_rows_have_the_same_bits_alone_in_a_tail_and_in_any_batch(void) {
    static const int64_t parts[][2] = {{0, 1}, {128, 1}, {60, 64}, {63, 65}, {5, 7}, {0, 129}};
    static const int64_t depths[DTYPES] = {300, 136, 70, 12, 9, 20, 24};
    for (int d = 0; d < DTYPES; d++) {
        linear whole = make_linear(129, 1932, depths[d], dtypes[d], WO_EPILOGUE_GELU_TANH);
        run_linear(&whole.args);
        download(&whole.y);
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            const int kept = pairs;
            wo_tensor wanted = wo_tensor_rows(&whole.y.host, parts[i][0], parts[i][1]);
            pair y = MAKE(dtypes[d][2], parts[i][1], 1932);
            wo_linear_args part = whole.args;
            part.x = wo_tensor_rows(&part.x, parts[i][0], parts[i][1]);
            part.y = y.card;
            run_linear(&part);
            download(&y);
            CHECK(same_bits(&y.host, &wanted));
            release_to(kept);
        }
        release_to(0);
    }
}

/* One tensor at a time begins one element behind a multiple of 16 bytes. */
static void linear_has_the_same_bits_at_any_address(void) {
    for (int d = 0; d < DTYPES; d++)
        for (int shifted = 0; shifted < 6; shifted++) {
            linear c = make_linear(35, 44, 88, dtypes[d], WO_EPILOGUE_GATE);
            pair y = MAKE_AT(shifted == 5, dtypes[d][2], 35, 44);
            run_linear(&c.args);
            download(&c.y);
            c.args.x = copy_at(shifted == 0, &c.x).card;
            c.args.w = copy_at(shifted == 1, &c.w).card;
            c.args.bias = copy_at(shifted == 2, &c.bias).card;
            c.args.other = copy_at(shifted == 3, &c.other).card;
            c.args.gate = copy_at(shifted == 4, &c.gate).card;
            c.args.y = y.card;
            run_linear(&c.args);
            download(&y);
            CHECK(same_bits(&y.host, &c.y.host));
            release_to(0);
        }
}

#define HALF_TILES(dtype)                                                                                                              \
    {{WO_CUDA_linear_##dtype, WO_CUDA_LINEAR_HALF_ROWS, WO_CUDA_LINEAR_HALF_COLUMNS, WO_CUDA_LINEAR_HALF_THREADS},                      \
     {WO_CUDA_linear_##dtype##_few, WO_CUDA_LINEAR_HALF_FEW_ROWS, WO_CUDA_LINEAR_HALF_FEW_COLUMNS, WO_CUDA_LINEAR_HALF_FEW_THREADS},    \
     {WO_CUDA_linear_##dtype##_ragged, WO_CUDA_LINEAR_HALF_FEW_ROWS, WO_CUDA_LINEAR_HALF_FEW_COLUMNS, WO_CUDA_LINEAR_HALF_FEW_THREADS}}
static const wo_cuda_product_tile linear_bf16_tiles[] = HALF_TILES(bf16), linear_f16_tiles[] = HALF_TILES(f16);
static const wo_cuda_product_tile linear_f32_tiles[] = {
    {WO_CUDA_linear_f32, WO_CUDA_LINEAR_F32_ROWS, WO_CUDA_LINEAR_F32_COLUMNS, WO_CUDA_LINEAR_F32_THREADS},
    {WO_CUDA_linear_f32_few, WO_CUDA_LINEAR_F32_FEW_ROWS, WO_CUDA_LINEAR_F32_FEW_COLUMNS, WO_CUDA_LINEAR_F32_FEW_THREADS}};

/* Large enough for two tiles in both directions and, in depth, for every stage to be filled more than once; float32 for two blocks of k. */
static void linear_has_the_same_bits_in_every_tile(void) {
    for (int d = 0; d < DTYPES; d++) {
        const bool tensor_cores = wo_cuda_on_tensor_cores(dtypes[d][0], dtypes[d][1]);
        const wo_cuda_product_tile *half = dtypes[d][0] == WO_BF16 ? linear_bf16_tiles : linear_f16_tiles;
        const int64_t k = tensor_cores ? 456 : d == 0 ? 600 : 276;
        linear c = make_linear(150, 140, k, dtypes[d], WO_EPILOGUE_NONE);
        run_linear(&c.args);
        download(&c.y);
        for (int i = 0; i < (tensor_cores ? 3 : 2); i++) {
            const int kept = pairs;
            const wo_cuda_product_tile *tile = tensor_cores ? &half[i] : &linear_f32_tiles[i];
            pair y = MAKE(dtypes[d][2], 150, 140);
            wo_cuda_linear_args a = {.x = c.x.card.data, .w = c.w.card.data, .k = (int32_t)k, .x_dtype = (int32_t)dtypes[d][0], .w_dtype = (int32_t)dtypes[d][1],
                                     .x_in_fours = 1, .w_in_fours = 1, .out = wo_cuda_output_of(&y.card, &c.bias.card, &c.other.card, WO_EPILOGUE_NONE)};
            CHECK_OK(wo_cuda_launch_product(stream, tile, &a.out, &a, "linear", &err), &err);
            download(&y);
            CHECK(same_bits(&y.host, &c.y.host));
            release_to(kept);
        }
        release_to(0);
    }
}

static void run_all(void) {
    linear_agrees_with_float64_in_every_epilogue_and_dtype();
    linear_adds_into_its_own_residual();
    linear_of_many_tiles_agrees_with_float64();
    linear_of_long_rows_in_float32_loses_no_more_than_short_sums();
    linear_rows_have_the_same_bits_alone_in_a_tail_and_in_any_batch();
    linear_has_the_same_bits_at_any_address();
    linear_has_the_same_bits_in_every_tile();
    check_fragments_are_read_without_bank_conflicts("wo_linear_bf16");
    check_fragments_are_read_without_bank_conflicts("wo_linear_bf16_few");
    check_fragments_are_read_without_bank_conflicts("wo_linear_bf16_ragged");
}

int main(void) {
    run_on_both_targets(run_all, "linear");
    return 0;
}
