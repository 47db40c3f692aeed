/* Inside of the WAN transformer: the layers that transformer.c declares and transformer_forward.c runs. */
#ifndef WO_MODEL_TRANSFORMER_H
#define WO_MODEL_TRANSFORMER_H

#include "model/declare.h"
#include "model/model.h"

/* Self or cross attention. norm_q and norm_k are RMS over all heads. */
typedef struct wo_transformer_attention {
    const wo_layer *to_q, *norm_q, *to_k, *norm_k, *to_v, *to_out;
} wo_transformer_attention;

typedef struct wo_transformer_block {
    const wo_layer *scale_shift_table; /* [1, 6, d]: shift, scale, gate of the self attention, then of the feed-forward */
    wo_transformer_attention attn1, attn2;
    const wo_layer *norm2; /* affine, before the cross attention; NULL without cross_attn_norm */
    const wo_layer *ffn_in, *ffn_out;
} wo_transformer_block;

struct wo_transformer {
    wo_transformer_config config;
    wo_dtype dtype, compute; /* of weights held; of operands */
    int64_t width;           /* num_heads * head_dim */
    wo_component *component;
    const wo_layer *text_in, *text_out;
    const wo_layer *patch_embedding;
    const wo_layer *time_in, *time_out, *time_proj;
    const wo_layer *scale_shift_table; /* [1, 2, d]: shift and scale before the head */
    const wo_layer *proj_out;
    wo_transformer_block *blocks; /* [num_layers] */
};

#endif
