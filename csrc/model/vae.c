/* The VAE decoder of WAN 2.1: configuration, layers in the order of a decode, and the past that each causal convolution keeps.
 *
 * Widths follow diffusers: dims = base_dim * [m_last, m_last, ..., m_0]; stage i goes from dims[i] (halved by the upsampler before it,
 * i > 0) to dims[i + 1]. Source of shapes and names: diffusers 0.42, autoencoder_kl_wan.py.
 */
#include "model/vae.h"

#include <stdlib.h>

static wo_status check_config(const wo_vae_config *c, wo_error *err) {
    const wo_config_entry entries[] = {
        {"base_dim", c->base_dim, 1},         {"z_dim", c->z_dim, 1},
        {"num_res_blocks", c->num_res_blocks, 1}, {"out_channels", c->out_channels, 1},
    };
    WO_TRY(wo_config_check("vae", entries, sizeof entries / sizeof entries[0], err));
    if (c->num_res_blocks >= WO_VAE_RESBLOCKS)
        WO_FAIL(err, WO_EVALUE, "vae: num_res_blocks of the configuration must be below %d, but is %lld", (int)WO_VAE_RESBLOCKS,
                (long long)c->num_res_blocks);
    if (c->levels < 1 || c->levels > WO_VAE_LEVELS)
        WO_FAIL(err, WO_EVALUE, "vae: dim_mult of the configuration must have 1 to %d entries, but has %lld", (int)WO_VAE_LEVELS,
                (long long)c->levels);
    for (int64_t i = 0; i < c->levels; i++) {
        int64_t width = c->dim_mult[i] > 0 && c->dim_mult[i] <= WO_CONFIG_LIMIT ? c->base_dim * c->dim_mult[i] : 0;
        if (width < 1 + (i > 0) || width > WO_CONFIG_LIMIT)
            WO_FAIL(err, WO_EVALUE, "vae: base_dim * dim_mult[%lld] of the configuration is not a possible width: %lld * %lld",
                    (long long)i, (long long)c->base_dim, (long long)c->dim_mult[i]);
    }
    return WO_OK;
}

/* Gives the convolution two frames of the bank of its input's shape; opens the bank where it is the first of that shape. */
static void reserve_past(wo_vae_decoder *m, int64_t channels, int64_t scale, wo_vae_conv *conv) {
    int32_t b = 0;
    while (b < m->banks && (m->bank[b].channels != channels || m->bank[b].scale != scale))
        b++;
    if (b == m->banks)
        m->bank[m->banks++] = (wo_vae_bank){.channels = channels, .scale = scale};
    m->past[m->pasts] = (wo_vae_place){.bank = b, .index = m->bank[b].convs++};
    conv->past = m->pasts++;
}

/* A causal 3 x kernel x kernel convolution over frames at `scale` with the past that goes with it. */
static wo_status declare_causal(wo_vae_decoder *m, const wo_declare *d, const char *name, const wo_tensor *shape, int64_t scale,
                                wo_vae_conv *conv, wo_error *err) {
    reserve_past(m, shape->shape[1], scale, conv);
    return wo_declare_kernel(d, name, shape, WO_LAYOUT_TAPS_OUTSIDE, &conv->layer, err);
}

static wo_status declare_resblock(wo_vae_decoder *m, const wo_declare *d, int64_t scale, wo_vae_resblock *b, wo_error *err) {
    wo_tensor gamma1 = wo_tensor_of(NULL, WO_F32, b->in, 1, 1, 1), gamma2 = wo_tensor_of(NULL, WO_F32, b->out, 1, 1, 1);
    wo_tensor shortcut = wo_tensor_of(NULL, m->dtype, b->out, b->in, 1, 1, 1);
    wo_tensor conv1 = wo_tensor_of(NULL, m->dtype, b->out, b->in, 3, 3, 3), conv2 = wo_tensor_of(NULL, m->dtype, b->out, b->out, 3, 3, 3);
    WO_TRY(wo_declare_param(d, "norm1", ".gamma", &gamma1, &b->norm1, err));
    if (b->in != b->out)
        WO_TRY(wo_declare_kernel(d, "conv_shortcut", &shortcut, WO_LAYOUT_ROWS, &b->shortcut, err));
    WO_TRY(declare_causal(m, d, "conv1", &conv1, scale, &b->conv1, err));
    WO_TRY(wo_declare_param(d, "norm2", ".gamma", &gamma2, &b->norm2, err));
    return declare_causal(m, d, "conv2", &conv2, scale, &b->conv2, err);
}

static wo_status declare_middle(wo_vae_decoder *m, wo_declare *d, int64_t width, wo_error *err) {
    wo_tensor gamma = wo_tensor_of(NULL, WO_F32, width, 1, 1);
    wo_tensor qkv = wo_tensor_of(NULL, m->dtype, 3 * width, width, 1, 1), proj = wo_tensor_of(NULL, m->dtype, width, width, 1, 1);
    WO_TRY(wo_component_add_block(m->component, "decoder.mid_block", &d->block, err));
    m->middle[0] = m->middle[1] = (wo_vae_resblock){.in = width, .out = width};
    wo_declare_enter(d, "decoder.mid_block.resnets.0.");
    WO_TRY(declare_resblock(m, d, 1, &m->middle[0], err));
    wo_declare_enter(d, "decoder.mid_block.attentions.0.");
    WO_TRY(wo_declare_param(d, "norm", ".gamma", &gamma, &m->attention_norm, err));
    WO_TRY(wo_declare_kernel(d, "to_qkv", &qkv, WO_LAYOUT_ROWS, &m->to_qkv, err));
    WO_TRY(wo_declare_kernel(d, "proj", &proj, WO_LAYOUT_ROWS, &m->proj, err));
    wo_declare_enter(d, "decoder.mid_block.resnets.1.");
    return declare_resblock(m, d, 1, &m->middle[1], err);
}

static wo_status declare_stage(wo_vae_decoder *m, wo_declare *d, int32_t index, int64_t in, wo_error *err) {
    wo_vae_stage *s = &m->stage[index];
    int64_t width = s->width;
    wo_declare_enter(d, "decoder.up_blocks.%d", index);
    WO_TRY(wo_component_add_block(m->component, d->prefix, &d->block, err));
    for (int32_t i = 0; i < m->resblocks; i++) {
        s->resblock[i] = (wo_vae_resblock){.in = i == 0 ? in : width, .out = width};
        wo_declare_enter(d, "decoder.up_blocks.%d.resnets.%d.", index, i);
        WO_TRY(declare_resblock(m, d, s->scale, &s->resblock[i], err));
    }
    if (index == m->stages - 1)
        return WO_OK;
    wo_declare_enter(d, "decoder.up_blocks.%d.upsamplers.0.", index);
    wo_tensor time = wo_tensor_of(NULL, m->dtype, 2 * width, width, 3, 1, 1);
    wo_tensor space = wo_tensor_of(NULL, m->dtype, width / 2, width, 3, 3);
    if (m->config.temporal_upsample[index])
        WO_TRY(declare_causal(m, d, "time_conv", &time, s->scale, &s->time_conv, err));
    return wo_declare_kernel(d, "resample.1", &space, WO_LAYOUT_TAPS_OUTSIDE, &s->resample, err);
}

static wo_status declare_all(wo_vae_decoder *m, wo_store *store, wo_error *err) {
    const wo_vae_config *c = &m->config;
    int64_t z = c->z_dim, width = c->base_dim * c->dim_mult[c->levels - 1], scale = 1, frames = 1;
    wo_tensor post = wo_tensor_of(NULL, WO_F32, z, z, 1, 1, 1), in = wo_tensor_of(NULL, m->dtype, width, z, 3, 3, 3);
    WO_TRY(wo_component_create("vae", store, &m->component, err));
    wo_declare d = {.component = m->component, .block = -1, .dtype = WO_F32, .bias = true};
    WO_TRY(wo_declare_kernel(&d, "post_quant_conv", &post, WO_LAYOUT_ROWS, &m->post_quant_conv, err));
    d.dtype = m->dtype;
    wo_declare_enter(&d, "decoder.");
    WO_TRY(declare_causal(m, &d, "conv_in", &in, 1, &m->conv_in, err));
    WO_TRY(declare_middle(m, &d, width, err));
    for (int32_t i = 0; i < m->stages; i++) {
        int64_t from = i == 0 ? width : m->stage[i - 1].width / 2;
        m->stage[i].width = c->base_dim * c->dim_mult[c->levels - 1 - i];
        m->stage[i].scale = scale;
        m->stage[i].frames = frames;
        WO_TRY(declare_stage(m, &d, i, from, err));
        scale *= 2;
        frames *= c->temporal_upsample[i] ? 2 : 1;
    }
    int64_t last = m->stage[m->stages - 1].width;
    wo_tensor gamma = wo_tensor_of(NULL, WO_F32, last, 1, 1, 1), out = wo_tensor_of(NULL, m->dtype, c->out_channels, last, 3, 3, 3);
    d.block = -1;
    wo_declare_enter(&d, "decoder.");
    WO_TRY(wo_declare_param(&d, "norm_out", ".gamma", &gamma, &m->norm_out, err));
    WO_TRY(declare_causal(m, &d, "conv_out", &out, scale / 2, &m->conv_out, err));
    WO_TRY(wo_component_excuse(m->component, "encoder.", NULL, "the encoder is not used for text to video", err));
    WO_TRY(wo_component_excuse(m->component, "quant_conv.", NULL, "the encoder is not used for text to video", err));
    return wo_component_seal(m->component, err);
}

wo_status wo_vae_decoder_create(wo_store *store, const wo_vae_config *config, wo_dtype dtype, wo_vae_decoder **out, wo_error *err) {
    wo_dtype compute;
    *out = NULL;
    WO_TRY(check_config(config, err));
    WO_TRY(wo_config_check_dtype("vae", dtype, &compute, err));
    wo_vae_decoder *m = calloc(1, sizeof *m);
    if (m == NULL)
        WO_FAIL(err, WO_ENOMEMORY, "vae: no memory for its layers");
    *m = (wo_vae_decoder){.config = *config, .dtype = dtype, .compute = compute, .stages = (int32_t)config->levels,
                          .resblocks = (int32_t)config->num_res_blocks + 1};
    wo_status status = declare_all(m, store, err);
    if (status != WO_OK) {
        wo_vae_decoder_destroy(m);
        return status;
    }
    *out = m;
    return WO_OK;
}

void wo_vae_decoder_destroy(wo_vae_decoder *m) {
    if (m == NULL)
        return;
    wo_component_destroy(m->component);
    free(m);
}

wo_component *wo_vae_decoder_component(const wo_vae_decoder *m) {
    return m->component;
}

int64_t wo_vae_frames_per_latent(const wo_vae_config *config) {
    int64_t frames = 1;
    for (int64_t i = 0; i + 1 < config->levels && i < WO_VAE_LEVELS; i++)
        frames *= config->temporal_upsample[i] ? 2 : 1;
    return frames;
}

int64_t wo_vae_spatial_scale(const wo_vae_config *config) {
    return (int64_t)1 << (config->levels - 1);
}
