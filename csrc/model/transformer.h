/* Inside of the WAN transformer: the layers that transformer.c declares, and the two passes. */
#ifndef WO_MODEL_TRANSFORMER_H
#define WO_MODEL_TRANSFORMER_H

#include "model/declare.h"
#include "model/model.h"
#include "offload/exec.h"

/* Where keys and values come from: the tokens themselves or the text (to_k, norm_k, to_v in a checkpoint), or an image (add_k_proj,
 * norm_added_k, add_v_proj). The norms are RMS over all heads. */
typedef struct wo_transformer_key_layers {
    const wo_layer *to_k, *norm_k, *to_v;
} wo_transformer_key_layers;

/* Self or cross attention. image: of the cross attention in a network that takes images, else NULL in all. */
typedef struct wo_transformer_attention {
    const wo_layer *to_q, *norm_q, *to_out;
    wo_transformer_key_layers keys, image;
} wo_transformer_attention;

/* An image embedding on its way to the context of the blocks: LN -> linear -> gelu -> linear -> LN. */
typedef struct wo_transformer_image_embedder {
    const wo_layer *pos_embed; /* [1, pos_embed_seq_len, image_dim], added first; NULL where there is none */
    const wo_layer *norm1, *ff_in, *ff_out, *norm2;
} wo_transformer_image_embedder;

typedef struct wo_transformer_block {
    const wo_layer *scale_shift_table; /* [1, 6, d]: shift, scale, gate of the self attention, then of the feed-forward */
    wo_transformer_attention attn1, attn2;
    const wo_layer *norm2; /* affine, before the cross attention; NULL without cross_attn_norm */
    const wo_layer *ffn_in, *ffn_out;
} wo_transformer_block;

/* Shift, scale and gate of the self attention, then of the feed-forward. */
enum { WO_MODULATIONS = 6 };

struct wo_transformer {
    wo_transformer_config config;
    wo_dtype dtype;          /* of weights held */
    int64_t width;           /* num_heads * head_dim */
    wo_component *component;
    const wo_layer *text_in, *text_out;
    wo_transformer_image_embedder image_embedder;
    const wo_layer *patch_embedding;
    const wo_layer *time_in, *time_out, *time_proj[WO_MODULATIONS]; /* the last: rows of one matrix in a checkpoint */
    const wo_layer *scale_shift_table; /* [1, 2, d]: shift and scale before the head */
    const wo_layer *proj_out;
    wo_transformer_block *blocks; /* [num_layers] */
};

/* What the cross attention looks at: both have a context of their own, the same in all steps, and in each block keys and values of it. */
typedef enum wo_transformer_source { WO_SOURCE_TEXT, WO_SOURCE_IMAGE, WO_SOURCES } wo_transformer_source;

/* [rows, width], rows of all items (text) or of all distinct images, one after the other; empty where there are none. */
typedef struct wo_transformer_keys {
    wo_tensor k[WO_SOURCES], v[WO_SOURCES];
} wo_transformer_keys;

/* One pass in the making. */
typedef struct wo_transformer_run {
    const wo_transformer *m;
    wo_exec *x;
    const wo_transformer_request *r;
    wo_dtype compute; /* of operands */
    int64_t tokens; /* of one item */
    int64_t first_held, held; /* items whose residual is in memory: all, or one after the other */
    int64_t first_item, items; /* those of them that the block at work computes: all, or one after the other */
    int64_t source_rows[WO_SOURCES]; /* as computed */
    wo_form source_form[WO_SOURCES];
    wo_tensor residual;   /* X, F32 [held * tokens, width] */
    wo_tensor time, modulation_base; /* e, F32 [held, width]; e0, F32 [6 * held, width], items inside */
    wo_tensor cos, sin;
} wo_transformer_run;

/* Checks the request and works out what both passes need. */
wo_status wo_transformer_run_init(wo_transformer_run *p, const wo_transformer *m, wo_exec *x, const wo_transformer_request *r,
                                  wo_error *err);
/* Whether the zero rows of a text are folded into one key, which is done where it saves any; and the rows that are computed. */
bool wo_transformer_is_folded(const wo_transformer_run *p, const wo_text *text);
int64_t wo_transformer_text_rows(const wo_transformer_run *p, const wo_text *text);

/* out[i * items + b] = base[i * held + item + b] + table[i], F32 [parts * items, width], for the `parts` rows of a scale_shift_table and the items at
 * work. base may have one part, which then serves every row of the table (the head adds e to both). */
wo_status wo_transformer_modulate(const wo_transformer_run *p, const wo_layer *layer, const wo_tensor *base, int parts, wo_tensor *out,
                                  wo_error *err);
/* A block for the items at work. */
wo_status wo_transformer_run_block(wo_transformer_run *p, int64_t index, wo_error *err);

wo_status wo_transformer_prepare(wo_transformer_run *p, wo_error *err);
/* Sets p->cos and p->sin to the tables that PREPARE computes. */
wo_status wo_transformer_find_rope(wo_transformer_run *p, wo_error *err);
/* Keys and values of text and images in one block: kept by PREPARE, or computed again, by the same calls, from the contexts that it kept.
 * Both are let go by `release`. */
wo_status wo_transformer_find_keys(const wo_transformer_run *p, int64_t block, wo_transformer_keys *keys, wo_error *err);
void wo_transformer_release_keys(const wo_transformer_run *p, wo_transformer_keys *keys);

#endif
