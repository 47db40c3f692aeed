/* Every wrong call of an operation is refused before the device sees it, with a message that names the op, the rule and the tensors. */
#include "tests/op_call.h"

/* What is wrong with a call that was right. */
#define SPOIL(name, ...)                   \
    static void name(op_call *call) {      \
        __VA_ARGS__;                       \
    }
#define RESHAPE(tensor, ...) (tensor) = wo_tensor_of((tensor).data, (tensor).dtype, __VA_ARGS__)

SPOIL(linear_x_missing, call->a.linear.x.data = NULL)
SPOIL(linear_x_dtype, call->a.linear.x.dtype = WO_F16)
SPOIL(linear_x_rank, RESHAPE(call->a.linear.x, 5, 31, 1))
SPOIL(linear_x_empty, RESHAPE(call->a.linear.x, 0, 31))
SPOIL(linear_columns, RESHAPE(call->a.linear.w, 17, 30))
SPOIL(linear_mixed_halves, call->a.linear.x.dtype = WO_BF16; call->a.linear.w.dtype = WO_F16)
SPOIL(linear_y_rows, RESHAPE(call->a.linear.y, 4, 17))
SPOIL(linear_y_columns, RESHAPE(call->a.linear.y, 5, 16))
SPOIL(linear_bias, RESHAPE(call->a.linear.bias, 16))
SPOIL(linear_bias_dtype, call->a.linear.bias.dtype = WO_BF16)
SPOIL(linear_overlap, call->a.linear.y.data = (char *)call->a.linear.x.data + 4)
SPOIL(linear_misaligned, call->a.linear.y.data = (char *)call->a.linear.y.data - 2)
SPOIL(linear_form, call->a.linear.form = (wo_form)7)
SPOIL(linear_epilogue, call->a.linear.epilogue = (wo_epilogue)99)
SPOIL(linear_other_missing, call->a.linear.epilogue = WO_EPILOGUE_MUL)
SPOIL(linear_other_shape, RESHAPE(call->a.linear.other, 32, 100))
SPOIL(linear_other_shifted, call->a.linear.other.data = (char *)call->a.linear.y.data - 4)
SPOIL(linear_mul_in_place, call->a.linear.epilogue = WO_EPILOGUE_MUL)
SPOIL(linear_gate_width, RESHAPE(call->a.linear.gate, 2, 99))
SPOIL(linear_gate_rows, call->a.linear.rows_per_gate = 2)
SPOIL(linear_gate_zero, call->a.linear.rows_per_gate = 0)
SPOIL(conv_even, call->a.conv.kh = 2)
SPOIL(conv_frames, call->a.conv.out_frames = 9)
SPOIL(conv_dtype, call->a.conv.x_dtype = WO_F16)
SPOIL(conv_w, RESHAPE(call->a.conv.w, 20, 3, 3, 3, 15))
SPOIL(conv_y, call->a.conv.upsample = true)
SPOIL(conv_both_ways, call->a.conv.upsample = true)
SPOIL(conv_down_y, RESHAPE(call->a.conv.y, 2, 5, 3, 6))
SPOIL(conv_down_kernel, call->a.conv.kh = call->a.conv.kw = 1; RESHAPE(call->a.conv.w, 6, 1, 1, 1, 12))
SPOIL(conv_down_small, call->a.conv.height = 1)
SPOIL(conv_overlap, call->a.conv.frames[1] = call->a.conv.y.data)
SPOIL(conv_residual, RESHAPE(call->a.conv.residual, 2, 8, 6, 5))
SPOIL(embedding_rows, RESHAPE(call->a.embedding.y, 8, 33))
SPOIL(embedding_width, RESHAPE(call->a.embedding.y, 9, 32))
SPOIL(embedding_ids, call->a.embedding.ids.dtype = WO_F32)
SPOIL(layer_norm_shape, RESHAPE(call->a.layer_norm.y, 50, 1535))
SPOIL(layer_norm_in_place, call->a.layer_norm.y = call->a.layer_norm.x)
SPOIL(layer_norm_shift, call->a.layer_norm.shift.data = NULL)
SPOIL(layer_norm_scale, RESHAPE(call->a.layer_norm.scale, 2, 1535))
SPOIL(layer_norm_batches, call->a.layer_norm.rows_per_batch = 24)
SPOIL(layer_norm_both, call->a.layer_norm.weight = wo_tensor_rows(&call->a.layer_norm.scale, 0, 1))
SPOIL(layer_norm_bias, call->a.layer_norm.bias.data = NULL)
SPOIL(layer_norm_eps, call->a.layer_norm.eps = -1)
SPOIL(rms_norm_weight, RESHAPE(call->a.rms_norm.weight, 79))
SPOIL(rms_norm_dtypes, call->a.rms_norm.y.dtype = WO_F32)
SPOIL(rms_norm_sin, RESHAPE(call->a.rms_norm.sin, 4, 20))
SPOIL(rms_norm_head, call->a.rms_norm.head_dim = 39)
SPOIL(rms_norm_table, RESHAPE(call->a.rms_norm.cos, 4, 25); call->a.rms_norm.sin = call->a.rms_norm.cos)
SPOIL(rms_norm_heads, call->a.rms_norm.head_dim = 60; RESHAPE(call->a.rms_norm.cos, 3, 30); call->a.rms_norm.sin = call->a.rms_norm.cos)
SPOIL(l2_norm_gamma, RESHAPE(call->a.l2_norm.gamma, 19))
SPOIL(l2_norm_shape, RESHAPE(call->a.l2_norm.y, 76, 20))
SPOIL(rope_rows, call->a.rope_table.frames = 4)
SPOIL(rope_columns, call->a.rope_table.head_dim = 126)
SPOIL(rope_odd, call->a.rope_table.head_dim = 127)
SPOIL(rope_grid, call->a.rope_table.width = 0)
SPOIL(rope_overlap, call->a.rope_table.sin = call->a.rope_table.cos)
SPOIL(attention_k_dtype, call->a.attention.k.dtype = WO_BF16)
SPOIL(attention_v_dtype, call->a.attention.v.dtype = WO_BF16)
SPOIL(attention_o_dtype, call->a.attention.o.dtype = WO_BF16)
SPOIL(attention_o_shape, RESHAPE(call->a.attention.o, 6, 2, 12))
SPOIL(attention_kv, RESHAPE(call->a.attention.v, 4, 2, 12))
SPOIL(attention_heads, RESHAPE(call->a.attention.k, 5, 1, 24); call->a.attention.v = call->a.attention.k)
SPOIL(attention_scale, call->a.attention.scale = NAN)
SPOIL(attention_bias, call->a.attention.last_key_bias = INFINITY)
SPOIL(attention_in_place, call->a.attention.o = call->a.attention.q)
SPOIL(attention_workspace, call->a.attention.workspace.shape[0]--)
SPOIL(attention_no_workspace, call->a.attention.workspace.data = NULL)
SPOIL(attention_relative, RESHAPE(call->a.attention.relative, 32, 4))
SPOIL(attention_buckets, RESHAPE(call->a.attention.relative, 31, 5))
SPOIL(attention_distance, call->a.attention.max_distance = 8)
SPOIL(patchify_odd, RESHAPE(call->a.patchify.latents, 16, 2, 5, 12))
SPOIL(patchify_rows, RESHAPE(call->a.patchify.rows, 29, 64))
SPOIL(unpatchify_rows, RESHAPE(call->a.unpatchify.rows, 30, 63))
SPOIL(channels_last_shape, RESHAPE(call->a.channels_last.y, 2, 7, 5, 16))
SPOIL(sinusoid_odd, RESHAPE(call->a.sinusoid.y, 255))
SPOIL(sinusoid_t, call->a.sinusoid.t = INFINITY)
SPOIL(add_width, RESHAPE(call->a.add.b, 4, 32))
SPOIL(add_rows, RESHAPE(call->a.add.b, 5, 33))
SPOIL(add_b_in_place, RESHAPE(call->a.add.b, 12, 33); call->a.add.b.data = call->a.add.y.data)
SPOIL(unary_count, RESHAPE(call->a.unary.y, 1002))
SPOIL(unary_shifted, call->a.unary.y.data = (char *)call->a.unary.y.data - 4)
SPOIL(unary_kind, call->a.unary.kind = (wo_unary_kind)5)

static const op_case linear = {OP_linear, {5, 17, 31}, WO_F32, WO_F32, OP_BIAS, 0};
static const op_case gated = {OP_linear, {33, 100, 130}, WO_F32, WO_F32, OP_RESIDUAL, 0};
static const op_case conv = {OP_conv, {5, 7, 16, 20, 3, 3}, WO_F32, WO_F32, OP_BIAS, 0};
static const op_case conv_up = {OP_conv, {4, 3, 12, 6, 1, 3}, WO_F32, WO_F32, OP_UPSAMPLE | OP_RESIDUAL, 0};
static const op_case conv_down = {OP_conv, {9, 7, 12, 6, 1, 3}, WO_F32, WO_F32, OP_DOWNSAMPLE, 0};
static const op_case embedding = {OP_embedding, {9, 20, 33}, WO_F32, WO_F32, 0, 0};
static const op_case modulated = {OP_layer_norm, {50, 1536, 2}, WO_F32, WO_F32, OP_MODULATED, 0};
static const op_case affine = {OP_layer_norm, {50, 1536, 1}, WO_F32, WO_F32, OP_BIAS, 0};
static const op_case rotated = {OP_rms_norm, {10, 80, 40, 5}, WO_BF16, WO_BF16, OP_ROTATED | OP_IN_PLACE, 0};
static const op_case l2_norm = {OP_l2_norm, {77, 20}, WO_F32, WO_F32, 0, 0};
static const op_case rope = {OP_rope_table, {3, 4, 5, 128}, WO_F32, WO_F32, 0, 0};
static const op_case attention = {OP_attention, {7, 5, 2, 12}, WO_F32, WO_F32, 0, 0};
static const op_case relative = {OP_attention, {40, 40, 5, 64}, WO_F32, WO_F32, OP_RELATIVE, 0};
static const op_case patchify = {OP_patchify, {16, 2, 6, 10}, WO_F32, WO_F32, 0, 0};
static const op_case unpatchify = {OP_unpatchify, {16, 2, 6, 10}, WO_F32, WO_F32, 0, 0};
static const op_case channels_last = {OP_channels_last, {16, 2, 5, 7}, WO_F32, WO_F32, 0, 0};
static const op_case sinusoid = {OP_sinusoid, {256, 1}, WO_F32, WO_F32, 0, 0};
static const op_case add = {OP_add, {12, 33, 4}, WO_F32, WO_F32, 0, 0};
static const op_case unary = {OP_unary, {1003, WO_UNARY_SILU}, WO_F32, WO_F32, OP_IN_PLACE, 0};

/* A right call, how it is spoilt, and what the message must say. */
static const struct {
    const op_case *c;
    void (*spoil)(op_call *call);
    const char *says[3];
} refusals[] = {
    {&linear, linear_x_missing, {"linear", "x is missing"}},
    {&linear, linear_x_dtype, {"x must have rank 2", "float32 or bfloat16", "[5, 31] float16"}},
    {&linear, linear_x_rank, {"x must have rank 2", "[5, 31, 1] float32"}},
    {&linear, linear_x_empty, {"x must not be empty", "[0, 31] float32"}},
    {&linear, linear_columns, {"same number of columns", "x is [5, 31] float32", "w is [17, 30] float32"}},
    {&linear, linear_mixed_halves, {"no product of bfloat16 with float16", "x is [5, 31] bfloat16", "w is [17, 31] float16"}},
    {&linear, linear_y_rows, {"rows of x", "y is [4, 17] float32", "x is [5, 31] float32"}},
    {&linear, linear_y_columns, {"a column for each row of w", "y is [5, 16] float32", "w is [17, 31] float32"}},
    {&linear, linear_bias, {"bias must have an element for each row of w", "bias is [16] float32", "w is [17, 31] float32"}},
    {&linear, linear_bias_dtype, {"bias must have rank 1", "float32", "[17] bfloat16"}},
    {&linear, linear_overlap, {"y and x must not overlap", "y is [5, 17] float32", "x is [5, 31] float32"}},
    {&linear, linear_misaligned, {"linear: y, [5, 17] float32", "not aligned to its elements"}},
    {&linear, linear_form, {"linear: there is no form 7"}},
    {&linear, linear_epilogue, {"linear: there is no epilogue 99"}},
    {&linear, linear_other_missing, {"linear", "other is missing"}},
    {&gated, linear_other_shape, {"shape and dtype of y", "other is [32, 100] float32", "y is [33, 100] float32"}},
    {&gated, linear_other_shifted, {"y must be other itself or apart from it", "[33, 100] float32"}},
    {&gated, linear_mul_in_place, {"y and other must not overlap"}},
    {&gated, linear_gate_width, {"gate must have the width of y", "gate is [2, 99] float32", "y is [33, 100] float32"}},
    {&gated, linear_gate_rows, {"a row for every rows_per_gate rows", "gate is [2, 100] float32"}},
    {&gated, linear_gate_zero, {"rows_per_gate must be at least 1, but is 0"}},
    {&conv, conv_even, {"conv", "odd in height and width", "3 x 2 x 3"}},
    {&conv, conv_frames, {"conv", "9 frames out with 3 taps", "10 frames in"}},
    {&conv, conv_dtype, {"conv", "frames must be float32 or bfloat16"}},
    {&conv, conv_w, {"w must be [N, kt, kh, kw, channels]", "w is [20, 3, 3, 3, 15] float32", "y is [2, 5, 7, 20] float32"}},
    {&conv, conv_y, {"doubled in space where upsample is set", "y is [2, 5, 7, 20] float32", "w is [20, 3, 3, 3, 16] float32"}},
    {&conv, conv_overlap, {"y must not overlap the frames read", "a frame is [5, 7, 16] float32", "y is [2, 5, 7, 20] float32"}},
    {&conv_up, conv_residual, {"residual must have the shape and dtype of y", "residual is [2, 8, 6, 5]", "y is [2, 8, 6, 6]"}},
    {&conv_down, conv_both_ways, {"upsample and downsample must not both be set"}},
    {&conv_down, conv_down_y, {"halved where downsample is", "y is [2, 5, 3, 6] float32", "w is [6, 1, 3, 3, 12] float32"}},
    {&conv_down, conv_down_kernel, {"downsample is for a kernel of 3 x 3", "the kernel is 1 x 1", "a frame 9 x 7"}},
    {&conv_down, conv_down_small, {"frames of 2 x 2 or more", "the kernel is 3 x 3", "a frame 1 x 7"}},
    {&embedding, embedding_rows, {"a row for each id", "y is [8, 33] float32", "ids is [9] int32"}},
    {&embedding, embedding_width, {"the width of table", "y is [9, 32] float32", "table is [20, 33] float32"}},
    {&embedding, embedding_ids, {"embedding: ids must have rank 1 and be int32", "[9] float32"}},
    {&modulated, layer_norm_shape, {"layer_norm", "y is [50, 1535] float32", "x is [50, 1536] float32"}},
    {&affine, layer_norm_in_place, {"y and x must not overlap"}},
    {&modulated, layer_norm_shift, {"layer_norm: shift is missing"}},
    {&modulated, layer_norm_scale, {"scale must have the width of x", "scale is [2, 1535] float32", "x is [50, 1536] float32"}},
    {&modulated, layer_norm_batches, {"a row for every rows_per_batch rows of x", "scale is [2, 1536] float32", "x is [50, 1536]"}},
    {&modulated, layer_norm_both, {"either scale or weight"}},
    {&affine, layer_norm_bias, {"layer_norm: bias is missing"}},
    {&affine, layer_norm_eps, {"layer_norm: eps must not be negative, but is -1"}},
    {&rotated, rms_norm_weight, {"rms_norm", "weight is [79] float32", "x is [10, 80] bfloat16"}},
    {&rotated, rms_norm_dtypes, {"y must be x itself, in the same dtype", "y is [10, 80] float32", "x is [10, 80] bfloat16"}},
    {&rotated, rms_norm_sin, {"sin must have the shape of cos", "sin is [4, 20] float32", "cos is [5, 20] float32"}},
    {&rotated, rms_norm_head, {"rms_norm: head_dim must be even, but is 39"}},
    {&rotated, rms_norm_table, {"cos must have half of head_dim columns", "cos is [4, 25] float32", "x is [10, 80] bfloat16"}},
    {&rotated, rms_norm_heads, {"a whole number of heads", "x is [10, 80] bfloat16", "cos is [3, 30] float32"}},
    {&l2_norm, l2_norm_gamma, {"l2_norm", "gamma is [19] float32", "x is [77, 20] float32"}},
    {&l2_norm, l2_norm_shape, {"l2_norm", "y is [76, 20] float32", "x is [77, 20] float32"}},
    {&rope, rope_rows, {"rope_table", "a row for each token of the grid", "cos is [60, 64] float32"}},
    {&rope, rope_columns, {"half of head_dim columns", "cos is [60, 64] float32"}},
    {&rope, rope_odd, {"rope_table: head_dim must be even, but is 127"}},
    {&rope, rope_grid, {"rope_table: the grid must not be empty, but is 3 x 4 x 0"}},
    {&rope, rope_overlap, {"cos and sin must not overlap"}},
    {&attention, attention_k_dtype, {"attention: q and k must have one dtype", "k is [5, 2, 12] bfloat16", "q is [7, 2, 12] float32"}},
    {&attention, attention_v_dtype, {"q and v must have one dtype", "v is [5, 2, 12] bfloat16", "q is [7, 2, 12] float32"}},
    {&attention, attention_o_dtype, {"o must be float32 or have the dtype of q", "o is [7, 2, 12] bfloat16", "q is [7, 2, 12] float32"}},
    {&attention, attention_o_shape, {"o must have the shape of q", "o is [6, 2, 12] float32", "q is [7, 2, 12] float32"}},
    {&attention, attention_kv, {"k and v must have one shape", "k is [5, 2, 12] float32", "v is [4, 2, 12] float32"}},
    {&attention, attention_heads, {"heads and the head_dim of q", "k is [5, 1, 24] float32", "q is [7, 2, 12] float32"}},
    {&attention, attention_scale, {"attention: scale and last_key_bias must be finite", "nan"}},
    {&attention, attention_bias, {"attention: scale and last_key_bias must be finite", "inf"}},
    {&attention, attention_in_place, {"o and q must not overlap", "o is [7, 2, 12] float32"}},
    {&attention, attention_workspace, {"attention: workspace must have at least", "uint8"}},
    {&attention, attention_no_workspace, {"attention: workspace is missing"}},
    {&relative, attention_relative, {"a column for each head", "relative is [32, 4] float32", "q is [40, 5, 64] float32"}},
    {&relative, attention_buckets, {"an even number of buckets", "relative is [31, 5] float32"}},
    {&relative, attention_distance, {"attention: max_distance must exceed 8", "is 8"}},
    {&patchify, patchify_odd, {"patchify: latents must be even", "latents is [16, 2, 5, 12] float32"}},
    {&patchify, patchify_rows, {"one row of 4 * channels for each patch", "rows is [29, 64] float32", "latents is [16, 2, 6, 10] float32"}},
    {&unpatchify, unpatchify_rows, {"unpatchify", "rows is [30, 63] float32", "latents is [16, 2, 6, 10] float32"}},
    {&channels_last, channels_last_shape, {"channels_last", "y is [2, 7, 5, 16] float32", "x is [16, 2, 5, 7] float32"}},
    {&sinusoid, sinusoid_odd, {"sinusoid: y must have an even number of elements", "y is [255] float32"}},
    {&sinusoid, sinusoid_t, {"sinusoid: t must be finite, but is inf"}},
    {&add, add_width, {"add: b must have the width of a", "b is [4, 32] float32", "a is [12, 33] float32"}},
    {&add, add_rows, {"the rows of b must divide those of a", "b is [5, 33] float32", "a is [12, 33] float32"}},
    {&add, add_b_in_place, {"y and b must not overlap"}},
    {&unary, unary_count, {"unary: x and y must have the same number of elements", "x is [1003] float32", "y is [1002] float32"}},
    {&unary, unary_shifted, {"y must be x itself, in the same dtype, or apart from it"}},
    {&unary, unary_kind, {"unary: there is no kind 5"}},
};
enum { REFUSALS = sizeof refusals / sizeof refusals[0] };

static void give_workspace(op_call *call) {
    if (call->c->op != OP_attention)
        return;
    size_t bytes = wo_attention_workspace(op_device, &call->a.attention);
    call->a.attention.workspace = OP_MAKE(WO_U8, (int64_t)bytes);
}

static void test_a_wrong_call_is_refused_with_a_message_that_names_the_tensors(int i) {
    op_call call = op_build(refusals[i].c);
    wo_error err = {0};
    give_workspace(&call);
    CHECK_OK(op_enqueue(&call, &err), &err);
    CHECK_OK(op_device->stream->sync(op_stream, &err), &err);
    refusals[i].spoil(&call);
    if (op_enqueue(&call, &err) != WO_EINTERNAL) {
        fprintf(stderr, "refusal %d, \"%s\": the call was taken\n", i, refusals[i].says[0]);
        exit(1);
    }
    CHECK(err.code == WO_EINTERNAL);
    CHECK(strncmp(err.message, op_name(refusals[i].c->op), strlen(op_name(refusals[i].c->op))) == 0);
    for (int s = 0; s < 3 && refusals[i].says[s] != NULL; s++)
        CHECK_CONTAINS(err.message, refusals[i].says[s]);
    op_release_all();
}

static void test_an_operation_that_the_device_lacks_is_a_clear_error(void) {
    wo_ops_api empty = {.version = WO_DEVICE_ABI, .size = sizeof empty, .computes = 1u << WO_F32 | 1u << WO_BF16 | 1u << WO_F16};
    wo_device device = *op_device;
    wo_stream stream = {.device = &device}, *real = op_stream;
    device.name = "toy";
    device.ops = &empty;
    op_stream = &stream;
    /* A table that ends before the entry lacks it too, whatever lies behind. */
    for (int shorter = 0; shorter < 2; shorter++) {
        wo_ops_api cut_off = *op_device->ops;
        cut_off.computes = empty.computes;
        if (shorter) {
            cut_off.size = offsetof(wo_ops_api, linear);
            device.ops = &cut_off;
        }
        for (int i = 0; i < OP_CASES; i++) {
            op_call call = op_build(&op_cases[i]);
            wo_error err = {0};
            CHECK_STATUS(op_enqueue(&call, &err), WO_EUNSUPPORTED);
            CHECK_CONTAINS(err.message, "\"toy\"");
            CHECK_CONTAINS(err.message, op_name(op_cases[i].op));
            op_release_all();
        }
    }
    op_stream = real;
}

/* Refused before anything is enqueued: the kernels of a device that has both have no way for the pair. */
static void test_bfloat16_and_float16_do_not_meet_in_a_call(void) {
    wo_ops_api both = *op_device->ops;
    wo_device device = *op_device;
    wo_stream stream = {.device = &device}, *real = op_stream;
    both.computes = 1u << WO_F32 | 1u << WO_BF16 | 1u << WO_F16;
    device.ops = &both;
    op_stream = &stream;
    static const op_case cases[] = {{OP_linear, {5, 17, 31}, WO_BF16, WO_F16, 0, 0},        {OP_conv, {4, 3, 12, 7, 1, 3}, WO_F16, WO_BF16, 0, 0},
                                    {OP_layer_norm, {7, 3, 1}, WO_F16, WO_BF16, OP_BIAS, 0}, {OP_rms_norm, {9, 131, 0, 0}, WO_BF16, WO_F16, 0, 0},
                                    {OP_l2_norm, {77, 20}, WO_BF16, WO_F16, 0, 0},           {OP_unary, {31, WO_UNARY_COPY}, WO_F16, WO_BF16, 0, 0},
                                    {OP_attention, {7, 5, 2, 12}, WO_F16, WO_BF16, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        op_call call = op_build(&cases[i]);
        wo_error err = {0};
        CHECK_STATUS(op_enqueue(&call, &err), WO_EINTERNAL);
        CHECK_CONTAINS(err.message, cases[i].op == OP_attention ? "o must be float32 or have the dtype of q" : "must not be bfloat16 and float16");
        op_release_all();
    }
    op_call product = op_build(&(op_case){OP_linear, {5, 17, 31}, WO_F16, WO_F16, 0, 0});
    wo_error err = {0};
    product.a.linear.w.dtype = WO_BF16;
    CHECK_STATUS(op_enqueue(&product, &err), WO_EINTERNAL);
    CHECK_CONTAINS(err.message, "no product of bfloat16 with float16");
    op_release_all();
    op_stream = real;
}

int main(void) {
    op_open();
    for (int i = 0; i < REFUSALS; i++)
        test_a_wrong_call_is_refused_with_a_message_that_names_the_tensors(i);
    test_an_operation_that_the_device_lacks_is_a_clear_error();
    test_bfloat16_and_float16_do_not_meet_in_a_call();
    op_close();
    printf("%d refusals: ok\n", REFUSALS);
    return 0;
}
