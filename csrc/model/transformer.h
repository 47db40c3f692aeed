/* Inside of the WAN transformer: the layers that transformer.c declares, and the two passes. */
#ifndef WO_MODEL_TRANSFORMER_H
#define WO_MODEL_TRANSFORMER_H

#include "model/declare.h"
#include "model/model.h"
#include "offload/exec.h"

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

/* One pass in the making. */
typedef struct wo_transformer_run {
    const wo_transformer *m;
    wo_exec *x;
    const wo_transformer_request *r;
    int64_t tokens, rows; /* of one item; of all items */
    int64_t text_rows;    /* of all items, as computed */
    wo_form text_form;
    wo_tensor residual;   /* X, F32 [rows, width] */
    wo_tensor time, modulation_base; /* e, F32 [batch, width]; e0, F32 [6 * batch, width], batch inside */
    wo_tensor cos, sin;
} wo_transformer_run;

/* Whether the zero rows of a text are folded into one key, which is done where it saves any; and the rows that are computed. */
bool wo_transformer_is_folded(const wo_transformer_run *p, const wo_text *text);
int64_t wo_transformer_text_rows(const wo_transformer_run *p, const wo_text *text);

wo_status wo_transformer_prepare(wo_transformer_run *p, wo_error *err);
/* Sets p->cos and p->sin to the tables that PREPARE computes. */
wo_status wo_transformer_find_rope(wo_transformer_run *p, wo_error *err);
/* Keys and values of the text in one block, [text_rows, width]: kept by PREPARE, or computed again, by the same calls, from the context
 * that it kept; the caller then frees them. */
wo_status wo_transformer_text_keys(const wo_transformer_run *p, int64_t block, wo_tensor *k, wo_tensor *v, wo_error *err);

#endif
