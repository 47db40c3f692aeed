/* The operations and their arguments: the only thing that ops/, the devices and the op-case tests share.
 *
 * Conventions. All tensors are contiguous. "compute" means a dtype that the device computes in: F32 and BF16 everywhere, F16 where
 * wo_ops_api.computes says so. Weights may be F32, BF16 or F16; products take operands as they are: x BF16 with w BF16, or x F16
 * with w F16, is the product of that dtype (float32 sums); x F32 with w F32 the float32 one; x F32 with w F16 or BF16 widens w; x
 * BF16 or F16 with w F32 widens x. x meets the other dtype of 16 bits neither in w nor in y. What is too large for F16
 * becomes infinite there. How sums over K are grouped is the device's: the cpu's start anew in every K block, the matrix units of a
 * card go on. The result of an output row depends on that row's inputs, on (N, K, dtypes, instruction set) and on `form`; never on
 * the number of rows in the call, nor on threads. Unused optional tensors have data == NULL. No op works in place unless it says so.
 */
#ifndef WO_DEVICE_OP_ARGS_H
#define WO_DEVICE_OP_ARGS_H

#include "base/tensor.h"

/* The order of sums of a product, chosen by the model from its own input. TILE: register tiles, for many rows. DOT: lanes
 * along K, reads each weight once; for few rows (text encoder, time embedding), any number is right. */
typedef enum wo_form { WO_FORM_TILE, WO_FORM_DOT } wo_form;

/* What a linear does with acc = x w^T + bias before storing. */
typedef enum wo_epilogue {
    WO_EPILOGUE_NONE,
    WO_EPILOGUE_SILU,
    WO_EPILOGUE_GELU_TANH,
    WO_EPILOGUE_GELU_ERF,
    WO_EPILOGUE_MUL,  /* y = acc * other                      other: [M, N], dtype of y */
    WO_EPILOGUE_ADD,  /* y = other + acc                      other: [M, N], dtype of y; may be y itself */
    WO_EPILOGUE_GATE  /* y = other + acc * gate[row / rows_per_gate]; gate F32 [B, N]; other as for ADD, may be y itself */
} wo_epilogue;

/* y[M, N] = epilogue(x[M, K] w[N, K]^T + bias[N]). x: compute. w: F32/BF16/F16. bias: F32 (optional). y: compute. */
typedef struct wo_linear_args {
    wo_tensor x, w, bias, y;
    wo_form form;
    wo_epilogue epilogue;
    wo_tensor other, gate;
    int64_t rows_per_gate;
    wo_tensor workspace; /* U8, at least linear_workspace bytes; may be empty when that is 0 */
} wo_linear_args;

/* y[i] = table[ids[i]]. table: [U, N] F32/BF16/F16; ids: I32 [M], in range (the caller's duty); y: [M, N] compute. */
typedef struct wo_embedding_args {
    wo_tensor table, ids, y;
} wo_embedding_args;

/* y = (x - mean) / sqrt(var + eps) over the last axis, then * (1 + scale[b]) + shift[b] where scale is given (F32 [B, N], row r has b =
 * r / rows_per_batch), or * weight + bias where weight is given (F32 [N]), or neither. x: compute [M, N]; y: compute [M, N]. */
typedef struct wo_layer_norm_args {
    wo_tensor x, scale, shift, weight, bias, y;
    int64_t rows_per_batch;
    float eps;
} wo_layer_norm_args;

/* y = x / sqrt(mean(x^2) + eps) * weight over the last axis. x: compute [M, N]; weight: F32 [N]; y: compute [M, N]; y may be x
 * when the dtypes agree. With cos (and sin) given the row is then rotated in pairs (2p, 2p+1) of every head:
 * N = heads * head_dim; cos, sin: F32 [S, head_dim / 2]; row r of x is token r % S. (a, b) -> (a cos - b sin, a sin + b cos). */
typedef struct wo_rms_norm_args {
    wo_tensor x, weight, y;
    float eps;
    wo_tensor cos, sin;
    int64_t head_dim;
} wo_rms_norm_args;

/* y[p] = x[p] / max(||x[p]||_2, 1e-12) * sqrt(C) * gamma, then silu where asked. x: compute [P, C] (channels last);
 * gamma: F32 [C]; y: compute [P, C]. */
typedef struct wo_l2_norm_args {
    wo_tensor x, gamma, y;
    bool silu;
} wo_l2_norm_args;

/* cos, sin [S, D/2] for the grid F x H x W (token s = (f*H + i)*W + j), D = head_dim split t, h, w as the spec says (h = w =
 * 2 * (D / 6), t the rest), theta 10000; angles in float64, stored F32. */
typedef struct wo_rope_table_args {
    wo_tensor cos, sin;
    int64_t frames, height, width, head_dim;
} wo_rope_table_args;

/* o = softmax(q k^T * scale + bias) v for one batch item.
 * q, o: [Sq, H, D]; k, v: [Sk, H, D]; all one compute dtype (o may also be F32 with 16-bit operands); softmax and sums float32.
 * last_key_bias: added to the logits of key Sk-1 (natural log units; 0 when not folded).
 * relative: optional F32 [buckets, H], the UMT5 bias table: logit += relative[bucket(key - query)][h], with
 * bucket as in the spec (bidirectional, max_distance). */
typedef struct wo_attention_args {
    wo_tensor q, k, v, o;
    float scale, last_key_bias;
    wo_tensor relative;
    int32_t max_distance;
    wo_tensor workspace; /* U8, at least attention_workspace bytes, at a 64-byte boundary */
} wo_attention_args;

/* rows[s, c*4 + ph*2 + pw] = latents[c, f, 2i+ph, 2j+pw], s = (f*(h/2) + i)*(w/2) + j. latents: F32 [C, F, h, w]; rows: compute [S, 4C]. */
typedef struct wo_patchify_args {
    wo_tensor latents, rows;
} wo_patchify_args;

/* latents[c, f, 2i+ph, 2j+pw] = rows[s, (ph*2+pw)*C + c]. rows: compute [S, 4C]; latents: F32 [C, F, h, w]. */
typedef struct wo_unpatchify_args {
    wo_tensor rows, latents;
} wo_unpatchify_args;

/* y[n] = [cos(t*w_0..), sin(t*w_0..)], w_j = 10000^(-j/half) in float32, half = n/2; y: compute [n]. */
typedef struct wo_sinusoid_args {
    wo_tensor y;
    float t;
} wo_sinusoid_args;

/* y[r, :] = a[r, :] + b[r % rows(b), :]; a, y: F32 [M, N], b: F32 [Mb, N], Mb divides M. y may be a. */
typedef struct wo_add_args {
    wo_tensor a, b, y;
} wo_add_args;

typedef enum wo_unary_kind { WO_UNARY_COPY, WO_UNARY_SILU, WO_UNARY_CLAMP_ONE, WO_UNARY_GELU_TANH, WO_UNARY_GELU_ERF } wo_unary_kind;

/* y = f(x), element by element; x, y: compute, the same count. y may be x when the dtypes agree. COPY converts. */
typedef struct wo_unary_args {
    wo_tensor x, y;
    wo_unary_kind kind;
} wo_unary_args;

enum { WO_CONV_MAX_FRAMES = 10 };

/* Convolution over channels-last frames, zero padding (kh-1)/2, (kw-1)/2 in space and none in time:
 * for t < out_frames:  y[t] = sum over dt of conv2d(frames[t + dt], w[:, dt]) + bias (+ residual[t]).
 * frames: out_frames + kt - 1 pointers to [height, width, C] of dtype x_dtype (compute); NULL = a frame of zeros, whose taps are skipped.
 * w: [N, kt, kh, kw, C] F32/BF16/F16 with N rows (a view of more rows is fine); bias: F32 [N] optional.
 * y: [out_frames, outH, outW, N] compute; residual: like y, optional, may be y itself.
 * upsample: the input is first doubled in height and width by nearest neighbour (outH = 2*height), without being stored.
 * downsample: stride 2 in height and width, zero padding of one row below and one column to the right only (outH = height / 2, rounded
 * down; kh = kw = 3; not together with upsample).
 * frame t of y must not overlap frames[] of the same call. 1x1x1 is allowed and equals a linear in TILE form. */
typedef struct wo_conv_args {
    const void *frames[WO_CONV_MAX_FRAMES];
    wo_dtype x_dtype;
    int64_t height, width, channels;
    int32_t out_frames, kt, kh, kw;
    bool upsample, downsample;
    wo_tensor w, bias, y, residual;
    wo_tensor workspace; /* U8, at least conv_workspace bytes */
} wo_conv_args;

/* y[t, i, j, c] = x[c, t, i, j]. x: F32 [C, T, H, W]; y: compute [T, H, W, C]. */
typedef struct wo_channels_last_args {
    wo_tensor x, y;
} wo_channels_last_args;

/* X(op): the device table, the argument struct wo_X_args, the checked function wo_X of ops/ops.h. */
#define WO_OP_LIST(X)   \
    X(linear)           \
    X(embedding)        \
    X(layer_norm)       \
    X(rms_norm)         \
    X(l2_norm)          \
    X(rope_table)       \
    X(attention)        \
    X(patchify)         \
    X(unpatchify)       \
    X(sinusoid)         \
    X(add)              \
    X(unary)            \
    X(conv)             \
    X(channels_last)

typedef enum wo_op {
#define WO_OP_ENUM(op) WO_OP_##op,
    WO_OP_LIST(WO_OP_ENUM)
#undef WO_OP_ENUM
        WO_OPS
} wo_op;

#endif
