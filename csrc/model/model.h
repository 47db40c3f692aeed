/* The three networks of text to video, written once over ops/ and offload/. Sources of maths and names stand at the head of each file.
 * Every create claims its tensors from the store (diffusers names), lists the rest as unused, and fails by name on what is missing.
 *
 * dtype: of matrix operands and of weights held: F32, BF16, or F16 (weights held F16, operands F32). Islands (patch and time embedding,
 * post_quant_conv, head of the transformer, norm weights, biases, modulation tables) are F32.
 */
#ifndef WO_MODEL_MODEL_H
#define WO_MODEL_MODEL_H

#include "offload/engine.h"

/* ---- UMT5 encoder ---- */
typedef struct wo_umt5_config {
    int64_t vocab_size, d_model, d_kv, d_ff, num_layers, num_heads, num_buckets, max_distance;
    float eps;
} wo_umt5_config;
typedef struct wo_umt5 wo_umt5;
wo_status wo_umt5_create(wo_store *store, const wo_umt5_config *config, wo_dtype dtype, wo_umt5 **out, wo_error *err);
void wo_umt5_destroy(wo_umt5 *m);
wo_component *wo_umt5_component(const wo_umt5 *m);
/* prompts ragged: prompt p has tokens[p] ids (real tokens only, </s> included), ids one after the other. out: F32 [sum, d_model]. */
typedef struct wo_umt5_request {
    int32_t prompts;
    const int32_t *tokens;
    const int32_t *ids; /* NULL when planning */
    float *out;         /* NULL when planning */
} wo_umt5_request;
enum { WO_UMT5_ENCODE, WO_UMT5_PASSES };
wo_status wo_umt5_forward(const void *model, wo_exec *x, int pass, const void *request, wo_error *err);

/* ---- WAN transformer ---- */
typedef struct wo_transformer_config {
    int64_t num_layers, num_heads, head_dim, ffn_dim, in_channels, out_channels, text_dim, freq_dim;
    float eps;
    bool cross_attn_norm;
} wo_transformer_config;
typedef struct wo_transformer wo_transformer;
wo_status wo_transformer_create(wo_store *store, const wo_transformer_config *config, wo_dtype dtype, wo_transformer **out, wo_error *err);
void wo_transformer_destroy(wo_transformer *m);
wo_component *wo_transformer_component(const wo_transformer *m);
/* Text of one batch item: `rows` rows given in all, of which the first `real` may differ from zero (real = index of the last non-zero
 * row + 1, or 0). When rows - real >= 2 the zero rows are folded into one key with bias ln(rows - real), unless unfolded is set (tests). */
typedef struct wo_text {
    int64_t rows, real;
    const float *embeds; /* F32 [real, text_dim]; NULL when planning */
} wo_text;
/* PREPARE computes the text context (and, with the cache, each block's keys and values) into kept memory of the exec; it must run before
 * the first STEP and again when the texts change. STEP computes the velocity of every batch item. PREPARE reads sizes and text only. */
typedef struct wo_transformer_request {
    int64_t batch, frames, height, width; /* of the latents, per item; height, width even */
    const wo_text *text;                  /* [batch] */
    bool unfolded;
    const float *latents;    /* F32 [batch, in_channels, frames, height, width] */
    const float *timesteps;  /* F32 [batch] */
    float *velocity;         /* F32 [batch, out_channels, frames, height, width] */
} wo_transformer_request;
enum { WO_TRANSFORMER_PREPARE, WO_TRANSFORMER_STEP, WO_TRANSFORMER_PASSES };
wo_status wo_transformer_forward(const void *model, wo_exec *x, int pass, const void *request, wo_error *err);

/* ---- VAE decoder (2.1) ---- */
typedef struct wo_vae_config {
    int64_t base_dim, z_dim, num_res_blocks, out_channels, levels;
    int64_t dim_mult[8];
    bool temporal_upsample[8]; /* in decoder order: temperal_downsample reversed */
} wo_vae_config;
typedef struct wo_vae_decoder wo_vae_decoder;
wo_status wo_vae_decoder_create(wo_store *store, const wo_vae_config *config, wo_dtype dtype, wo_vae_decoder **out, wo_error *err);
void wo_vae_decoder_destroy(wo_vae_decoder *m);
wo_component *wo_vae_decoder_component(const wo_vae_decoder *m);
/* FIRST decodes latent frame 0 to one frame (state from nothing); NEXT each later latent frame to as many frames as the temporal
 * upsamplers make. */
typedef struct wo_vae_request {
    int64_t height, width;  /* of the latents */
    const float *latent;    /* F32 [z_dim, height, width] */
    float *frames;          /* F32 [T, scale*height, scale*width, out_channels], clamped to [-1, 1] */
    bool unclamped;         /* leave values outside [-1, 1] as they are: tiles are blended first and clamped then */
} wo_vae_request;
enum { WO_VAE_FIRST, WO_VAE_NEXT, WO_VAE_PASSES };
wo_status wo_vae_decoder_forward(const void *model, wo_exec *x, int pass, const void *request, wo_error *err);
int64_t wo_vae_frames_per_latent(const wo_vae_config *config);   /* 4 for the published model */
int64_t wo_vae_spatial_scale(const wo_vae_config *config);       /* 8 */

#endif
