/* The networks of text and image to video, written once over ops/ and offload/. Sources of maths and names stand at the head of each file.
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
    int64_t image_dim;         /* width of image embeddings; 0: the network takes none */
    int64_t pos_embed_seq_len; /* rows of the table added to image embeddings (first and last frame); 0: there is none */
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
/* Image embeddings of a generation: `count` of them, `rows` each; item i of the batch attends to embedding of[i], so that items share one.
 * Both 0: none, and then the items attend to their texts alone. With pos_embed_seq_len that is the number of rows: first and last frame
 * are one embedding together. */
typedef struct wo_images {
    int64_t count, rows;
    const int32_t *of;   /* [batch] */
    const float *embeds; /* F32 [count, rows, image_dim]; NULL when planning */
} wo_images;
/* PREPARE computes the contexts of text and images (and, with the cache, each block's keys and values of both) into kept memory of the
 * exec; it must run before the first STEP and again when they change. STEP computes the velocity of every batch item. PREPARE reads sizes,
 * text and images only; STEP does not read the embeddings again. */
typedef struct wo_transformer_request {
    int64_t batch, frames, height, width; /* of the latents, per item; height, width even */
    const wo_text *text;                  /* [batch] */
    wo_images images;
    bool unfolded;
    const float *latents;    /* F32 [batch, in_channels, frames, height, width] */
    const float *timesteps;  /* F32 [batch] */
    float *velocity;         /* F32 [batch, out_channels, frames, height, width] */
} wo_transformer_request;
enum { WO_TRANSFORMER_PREPARE, WO_TRANSFORMER_STEP, WO_TRANSFORMER_PASSES };
wo_status wo_transformer_forward(const void *model, wo_exec *x, int pass, const void *request, wo_error *err);

/* ---- VAE decoder (2.1) ---- */
typedef struct wo_vae_config {
    int64_t base_dim, z_dim, num_res_blocks, in_channels, out_channels, levels; /* base_dim: of this half */
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
/* ---- VAE encoder (2.1) ---- */
typedef struct wo_vae_encoder wo_vae_encoder;
/* config->out_channels is not looked at; in_channels is 3 in the published model. */
wo_status wo_vae_encoder_create(wo_store *store, const wo_vae_config *config, wo_dtype dtype, wo_vae_encoder **out, wo_error *err);
void wo_vae_encoder_destroy(wo_vae_encoder *m);
wo_component *wo_vae_encoder_component(const wo_vae_encoder *m);
/* FIRST encodes the first frame to latent frame 0 (state from nothing); NEXT each later group of frames_per_latent frames to one. */
typedef struct wo_vae_encode_request {
    int64_t height, width; /* of the frames, multiples of spatial_scale */
    const float *frames;   /* F32 [T, height, width, in_channels] in [-1, 1]; T is 1 for FIRST, frames_per_latent for NEXT */
    float *moments;        /* F32 [2 * z_dim, height / scale, width / scale]: mean, then log of the variance */
} wo_vae_encode_request;
enum { WO_VAE_ENCODE_FIRST, WO_VAE_ENCODE_NEXT, WO_VAE_ENCODE_PASSES };
wo_status wo_vae_encoder_forward(const void *model, wo_exec *x, int pass, const void *request, wo_error *err);

int64_t wo_vae_frames_per_latent(const wo_vae_config *config);   /* 4 for the published model */
int64_t wo_vae_spatial_scale(const wo_vae_config *config);       /* 8 */

/* ---- CLIP vision encoder (ViT) ---- */
typedef struct wo_clip_config {
    int64_t hidden_size, intermediate_size, num_layers, num_heads, image_size, patch_size, num_channels;
    float eps;
} wo_clip_config;
typedef struct wo_clip wo_clip;
/* Tensor names with or without the prefix "vision_model.". The last block, post_layernorm and the projection are never read. */
wo_status wo_clip_create(wo_store *store, const wo_clip_config *config, wo_dtype dtype, wo_clip **out, wo_error *err);
void wo_clip_destroy(wo_clip *m);
wo_component *wo_clip_component(const wo_clip *m);
int64_t wo_clip_tokens(const wo_clip_config *config); /* patches + 1: 257 for the published model */
/* out: F32 [images, tokens, hidden_size], the hidden state before the last block. */
typedef struct wo_clip_request {
    int32_t images;
    const float *patches; /* F32 [images, tokens - 1, num_channels * patch_size^2], columns in the order of the weight; NULL when planning */
    float *out;           /* NULL when planning */
} wo_clip_request;
enum { WO_CLIP_ENCODE, WO_CLIP_PASSES };
wo_status wo_clip_forward(const void *model, wo_exec *x, int pass, const void *request, wo_error *err);

#endif
