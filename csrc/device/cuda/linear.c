/* Linear: the choice between cuBLASLt and own kernels, and among own kernels. */
#include "device/cuda/product.h"

#include <assert.h>

#define OP "linear"

static_assert((int)WO_CUDA_EPILOGUE_NONE == (int)WO_EPILOGUE_NONE && (int)WO_CUDA_EPILOGUE_SILU == (int)WO_EPILOGUE_SILU &&
                  (int)WO_CUDA_EPILOGUE_GELU_TANH == (int)WO_EPILOGUE_GELU_TANH && (int)WO_CUDA_EPILOGUE_GELU_ERF == (int)WO_EPILOGUE_GELU_ERF &&
                  (int)WO_CUDA_EPILOGUE_MUL == (int)WO_EPILOGUE_MUL && (int)WO_CUDA_EPILOGUE_ADD == (int)WO_EPILOGUE_ADD &&
                  (int)WO_CUDA_EPILOGUE_GATE == (int)WO_EPILOGUE_GATE,
              "kernels number the epilogues as the host does");

/* Who computes a call. The library answers from the device, shapes and dtypes alone, so that every call of a layer goes the same way; own kernels
 * take all the rest. */
static bool vendor_computes(const wo_device *d, const wo_linear_args *args) {
    return wo_cublaslt_takes((const wo_cuda_device *)d, args);
}

size_t wo_cuda_linear_workspace(const wo_device *d, const wo_linear_args *args) {
    return vendor_computes(d, args) ? wo_cublaslt_workspace((const wo_cuda_device *)d, args) : 0;
}

/* Large tiles reuse most; where there are few rows, or too few tiles to fill a card, small ones. The kernels of a pair of dtypes sum every element in the
 * same order (k from first to last, on tensor cores; or by blocks of k, in float32), so that the choice, which depends on rows and
 * addresses, changes no bit, and neither does the form: both are quick for few rows here. */
static wo_cuda_product_tile choose_tile(const wo_linear_args *args) {
    enum { FEW_ROWS = 64, FEW_TILES = 32 };
#define HALF_TILES(dtype)                                                                                                                        \
    {WO_CUDA_linear_##dtype, WO_CUDA_LINEAR_HALF_ROWS, WO_CUDA_LINEAR_HALF_COLUMNS, WO_CUDA_LINEAR_HALF_THREADS},                                 \
    {WO_CUDA_linear_##dtype##_few, WO_CUDA_LINEAR_HALF_FEW_ROWS, WO_CUDA_LINEAR_HALF_FEW_COLUMNS, WO_CUDA_LINEAR_HALF_FEW_THREADS},               \
    {WO_CUDA_linear_##dtype##_ragged, WO_CUDA_LINEAR_HALF_FEW_ROWS, WO_CUDA_LINEAR_HALF_FEW_COLUMNS, WO_CUDA_LINEAR_HALF_FEW_THREADS}
    enum { LARGE, FEW, RAGGED };
    static const wo_cuda_product_tile bf16[] = {HALF_TILES(bf16)}, f16[] = {HALF_TILES(f16)};
#undef HALF_TILES
    static const wo_cuda_product_tile
        f32 = {WO_CUDA_linear_f32, WO_CUDA_LINEAR_F32_ROWS, WO_CUDA_LINEAR_F32_COLUMNS, WO_CUDA_LINEAR_F32_THREADS},
        f32_few = {WO_CUDA_linear_f32_few, WO_CUDA_LINEAR_F32_FEW_ROWS, WO_CUDA_LINEAR_F32_FEW_COLUMNS, WO_CUDA_LINEAR_F32_FEW_THREADS};
    const int64_t rows = args->x.shape[0], k = args->x.shape[1], columns = args->w.shape[0];
    const bool tensor_cores = wo_cuda_on_tensor_cores(args->x.dtype, args->w.dtype);
    const wo_cuda_product_tile *half = args->x.dtype == WO_BF16 ? bf16 : f16, *large = tensor_cores ? &half[LARGE] : &f32;
    const bool few = rows <= FEW_ROWS || wo_cuda_product_blocks(large, rows, columns) < FEW_TILES;
    if (!tensor_cores)
        return few ? f32_few : f32;
    if (!wo_cuda_reads_in(8, args->x.data, args->x.dtype, k) || !wo_cuda_reads_in(8, args->w.data, args->w.dtype, k))
        return half[RAGGED];
    return half[few ? FEW : LARGE];
}

wo_status wo_cuda_linear(wo_stream *s, const wo_linear_args *args, wo_error *err) {
    const int64_t rows = args->x.shape[0], k = args->x.shape[1], columns = args->w.shape[0];
    if (vendor_computes(s->device, args))
        return wo_cublaslt_linear(s, args, err);
    WO_TRY(wo_cuda_check_product(OP, rows, columns, k, err));
    wo_cuda_linear_args a = {.x = args->x.data,
                             .w = args->w.data,
                             .k = (int32_t)k,
                             .x_dtype = (int32_t)args->x.dtype,
                             .w_dtype = (int32_t)args->w.dtype,
                             .x_in_fours = wo_cuda_reads_in(4, args->x.data, args->x.dtype, k),
                             .w_in_fours = wo_cuda_reads_in(4, args->w.data, args->w.dtype, k),
                             .out = wo_cuda_output_of(&args->y, &args->bias, &args->other, args->epilogue)};
    if (args->epilogue == WO_EPILOGUE_GATE)
        wo_cuda_gate(&a.out, &args->gate, args->rows_per_gate);
    const wo_cuda_product_tile tile = choose_tile(args);
    return wo_cuda_launch_product(s, &tile, &a.out, &a, OP, err);
}
