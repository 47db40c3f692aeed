/* add, unary, and the conversion of params that arrive. */
#include "device/cuda/grid.h"

_Static_assert(WO_CUDA_F64 == (int)WO_F64 && WO_CUDA_F8_E4M3 == (int)WO_F8_E4M3, "kernels/scalar.h and base/tensor.h number dtypes alike");
_Static_assert(WO_UNARY_COPY == 0 && WO_UNARY_SILU == 1 && WO_UNARY_CLAMP_ONE == 2 && WO_UNARY_GELU_TANH == 3 && WO_UNARY_GELU_ERF == 4,
               "elementwise.cu has these numbers");

wo_status wo_cuda_add(wo_stream *s, const wo_add_args *args, wo_error *err) {
    wo_cuda_add_args a = {.a = args->a.data,
                          .b = args->b.data,
                          .y = args->y.data,
                          .count = wo_tensor_count(&args->a),
                          .period = wo_tensor_count(&args->b)};
    a.step = WO_CUDA_FLAT_BLOCK * 4 % a.period;
    a.vectors = a.period % 4 == 0 && wo_cuda_aligned(a.a) && wo_cuda_aligned(a.b) && wo_cuda_aligned(a.y);
    wo_cuda_grid grid;
    WO_TRY(wo_cuda_blocks("add", a.count, WO_CUDA_FLAT_CHUNK, &grid, err));
    return wo_cuda_launch(s, WO_CUDA_add, grid, WO_CUDA_FLAT_BLOCK, 0, &a, "add", err);
}

wo_status wo_cuda_unary(wo_stream *s, const wo_unary_args *args, wo_error *err) {
    wo_cuda_unary_args a = {.x = args->x.data,
                            .y = args->y.data,
                            .count = wo_tensor_count(&args->x),
                            .x_dtype = (int32_t)args->x.dtype,
                            .y_dtype = (int32_t)args->y.dtype,
                            .kind = (int32_t)args->kind,
                            .vectors = wo_cuda_aligned(args->x.data) && wo_cuda_aligned(args->y.data)};
    wo_cuda_grid grid;
    WO_TRY(wo_cuda_blocks("unary", a.count, WO_CUDA_FLAT_CHUNK, &grid, err));
    return wo_cuda_launch(s, WO_CUDA_unary, grid, WO_CUDA_FLAT_BLOCK, 0, &a, "unary", err);
}

/* --- convert -------------------------------------------------------------------------------------------------------------------- */

/* Conversions run beside other work, often at the speed of the link, so they take a few blocks of each multiprocessor and go round. Their
 * results do not depend on how many there are. */
static wo_cuda_grid few_blocks(const wo_stream *s, int64_t wanted, int64_t per_multiprocessor) {
    int64_t most = wo_cuda_of(s)->properties.multiprocessors * per_multiprocessor;
    int64_t blocks = wanted < most ? wanted : most;
    return (wo_cuda_grid){(unsigned)(blocks < 1 ? 1 : blocks), 1, 1};
}

/* Cuts source and target into units; see wo_cuda_convert_rows_args. */
static void cut_into_units(wo_cuda_convert_rows_args *a) {
    enum { LINE = 128 };
    int64_t in = (int64_t)wo_dtype_size((wo_dtype)a->from), out = (int64_t)wo_dtype_size((wo_dtype)a->to);
    int64_t unit = 16 / (in > out ? in : out), word = unit * in;
    a->lead = (int64_t)((uintptr_t)a->dst / (uintptr_t)out % (uintptr_t)unit);
    uintptr_t elements = (uintptr_t)a->src - (uintptr_t)(a->lead * in);
    int64_t shift = (int64_t)(elements % (uintptr_t)word), skipped = (int64_t)(elements % LINE) / word;
    a->lead += skipped * unit;
    int64_t bytes = (a->count + a->lead) * in; /* from where unit 0 begins to the end of the source */
    a->first_unit = (a->lead * in + shift + word - 1) / word;
    a->end_unit = (bytes + shift) / word - (shift != 0);
    if (a->end_unit < a->first_unit)
        a->end_unit = a->first_unit;
}

static wo_status convert_rows(wo_stream *s, const wo_conversion *c, void *dst, const void *src, int64_t count, wo_error *err) {
    wo_cuda_convert_rows_args a = {.src = src, .dst = dst, .count = count, .from = (int32_t)c->from, .to = (int32_t)c->to};
    a.scale = c->scaled ? c->scale : 1.0f;
    cut_into_units(&a);
    int64_t per_block = WO_CUDA_CONVERT_BLOCK * WO_CUDA_CONVERT_UNROLL;
    wo_cuda_grid grid = few_blocks(s, (a.end_unit + per_block - 1) / per_block, 2);
    return wo_cuda_launch(s, WO_CUDA_convert_rows, grid, WO_CUDA_CONVERT_BLOCK, 0, &a, "convert", err);
}

static wo_status convert_taps(wo_stream *s, const wo_conversion *c, void *dst, const void *src, int64_t count, wo_error *err) {
    wo_cuda_convert_taps_args a = {.src = src,
                                   .dst = dst,
                                   .count = count,
                                   .channels = c->channels,
                                   .taps = c->taps,
                                   .from = (int32_t)c->from,
                                   .to = (int32_t)c->to,
                                   .scale = c->scaled ? c->scale : 1.0f};
    int64_t room = WO_CUDA_TAPS_BYTES / (int64_t)wo_dtype_size(c->from);
    a.tile_taps = a.taps < room ? a.taps : room;
    a.tile_channels = a.taps < room ? room / a.taps : 1;
    if (a.tile_channels > 32)
        a.tile_channels -= a.tile_channels % 32; /* whole warps in the target */
    if (a.tile_channels > a.channels)
        a.tile_channels = a.channels;
    a.channel_tiles = (a.channels + a.tile_channels - 1) / a.tile_channels;
    a.tap_tiles = (a.taps + a.tile_taps - 1) / a.tile_taps;
    a.tiles = count / (a.channels * a.taps) * a.channel_tiles * a.tap_tiles;
    return wo_cuda_launch(s, WO_CUDA_convert_taps, few_blocks(s, a.tiles, 4), WO_CUDA_CONVERT_BLOCK, 0, &a, "convert", err);
}

wo_status wo_cuda_convert(wo_stream *s, const wo_conversion *c, void *dst, const void *src, int64_t count, wo_error *err) {
    bool rows = c->layout == WO_LAYOUT_ROWS || c->taps == 1 || c->channels == 1;
    if (count == 0)
        return WO_OK;
    if (wo_conversion_is_copy(c))
        return s->device->stream->copy(s, dst, src, (size_t)count * wo_dtype_size(c->to), err);
    if ((unsigned)c->from > WO_F8_E4M3 || (unsigned)c->to > WO_F16)
        WO_FAIL(err, WO_EUNSUPPORTED, "convert: the cuda device has no conversion from %s to %s", wo_dtype_name(c->from), wo_dtype_name(c->to));
    return rows ? convert_rows(s, c, dst, src, count, err) : convert_taps(s, c, dst, src, count, err);
}
