/* The VAE of WAN 2.1: what its configuration allows, and the layers that both halves have in common. Each declares its layers in its own
 * order of execution.
 *
 * Widths follow diffusers: base_dim * dim_mult, from the pixels to the latents. Source of shapes and names: diffusers 0.42,
 * autoencoder_kl_wan.py.
 */
#include "model/vae.h"

static wo_status check_widths(const char *name, const wo_vae_config *c, wo_error *err) {
    if (c->num_res_blocks >= WO_VAE_RESBLOCKS)
        WO_FAIL(err, WO_EVALUE, "%s: num_res_blocks of the configuration must be below %d, but is %lld", name, (int)WO_VAE_RESBLOCKS,
                (long long)c->num_res_blocks);
    if (c->levels < 1 || c->levels > WO_VAE_LEVELS)
        WO_FAIL(err, WO_EVALUE, "%s: dim_mult of the configuration must have 1 to %d entries, but has %lld", name, (int)WO_VAE_LEVELS,
                (long long)c->levels);
    for (int64_t i = 0; i < c->levels; i++) {
        int64_t width = c->dim_mult[i] > 0 && c->dim_mult[i] <= WO_CONFIG_LIMIT ? c->base_dim * c->dim_mult[i] : 0;
        if (width < 1 + (i > 0) || width > WO_CONFIG_LIMIT)
            WO_FAIL(err, WO_EVALUE, "%s: base_dim * dim_mult[%lld] of the configuration is not a possible width: %lld * %lld", name,
                    (long long)i, (long long)c->base_dim, (long long)c->dim_mult[i]);
    }
    return WO_OK;
}

wo_status wo_vae_init(wo_vae_network *m, const char *name, const wo_vae_config *config, const wo_config_entry *io, wo_dtype dtype, wo_error *err) {
    const wo_config_entry entries[] = {
        {"base_dim", config->base_dim, 1}, {"z_dim", config->z_dim, 1}, {"num_res_blocks", config->num_res_blocks, 1}, *io};
    WO_TRY(wo_config_check(name, entries, sizeof entries / sizeof entries[0], err));
    WO_TRY(check_widths(name, config, err));
    WO_TRY(wo_config_check_dtype(name, dtype, err));
    *m = (wo_vae_network){.name = name, .config = *config, .dtype = dtype, .stages = (int32_t)config->levels};
    return WO_OK;
}

/* Opens a bank where the convolution is the first with an input of that shape. */
void wo_vae_reserve_past(wo_vae_network *m, int64_t channels, int64_t scale, int32_t kept, wo_vae_conv *conv) {
    int32_t b = 0;
    while (b < m->banks && (m->bank[b].channels != channels || m->bank[b].scale != scale))
        b++;
    if (b == m->banks)
        m->bank[m->banks++] = (wo_vae_bank){.channels = channels, .scale = scale};
    m->past[m->pasts] = (wo_vae_place){.bank = b, .first = m->bank[b].slots, .kept = kept};
    m->bank[b].slots += kept;
    conv->past = m->pasts++;
}

wo_status wo_vae_declare_causal(wo_vae_network *m, const wo_declare *d, const char *name, const wo_tensor *shape, int64_t scale,
                                wo_vae_conv *conv, wo_error *err) {
    wo_vae_reserve_past(m, shape->shape[1], scale, 2, conv);
    return wo_declare_kernel(d, name, shape, WO_LAYOUT_TAPS_OUTSIDE, &conv->layer, err);
}

wo_status wo_vae_declare_resblock(wo_vae_network *m, const wo_declare *d, int64_t scale, wo_vae_resblock *b, wo_error *err) {
    wo_tensor gamma1 = wo_tensor_of(NULL, WO_F32, b->in, 1, 1, 1), gamma2 = wo_tensor_of(NULL, WO_F32, b->out, 1, 1, 1);
    wo_tensor shortcut = wo_tensor_of(NULL, m->dtype, b->out, b->in, 1, 1, 1);
    wo_tensor conv1 = wo_tensor_of(NULL, m->dtype, b->out, b->in, 3, 3, 3), conv2 = wo_tensor_of(NULL, m->dtype, b->out, b->out, 3, 3, 3);
    WO_TRY(wo_declare_param(d, "norm1", ".gamma", &gamma1, &b->norm1, err));
    if (b->in != b->out)
        WO_TRY(wo_declare_kernel(d, "conv_shortcut", &shortcut, WO_LAYOUT_ROWS, &b->shortcut, err));
    WO_TRY(wo_vae_declare_causal(m, d, "conv1", &conv1, scale, &b->conv1, err));
    WO_TRY(wo_declare_param(d, "norm2", ".gamma", &gamma2, &b->norm2, err));
    return wo_vae_declare_causal(m, d, "conv2", &conv2, scale, &b->conv2, err);
}

wo_status wo_vae_declare_middle(wo_vae_network *m, wo_declare *d, const char *half, int64_t width, wo_error *err) {
    wo_vae_middle *middle = &m->middle;
    wo_tensor gamma = wo_tensor_of(NULL, WO_F32, width, 1, 1);
    wo_tensor qkv = wo_tensor_of(NULL, m->dtype, 3 * width, width, 1, 1), proj = wo_tensor_of(NULL, m->dtype, width, width, 1, 1);
    wo_declare_enter(d, "%s.mid_block", half);
    WO_TRY(wo_component_add_block(m->component, d->prefix, &d->block, err));
    middle->resblock[0] = middle->resblock[1] = (wo_vae_resblock){.in = width, .out = width};
    wo_declare_enter(d, "%s.mid_block.resnets.0.", half);
    WO_TRY(wo_vae_declare_resblock(m, d, 1, &middle->resblock[0], err));
    wo_declare_enter(d, "%s.mid_block.attentions.0.", half);
    WO_TRY(wo_declare_param(d, "norm", ".gamma", &gamma, &middle->norm, err));
    WO_TRY(wo_declare_kernel(d, "to_qkv", &qkv, WO_LAYOUT_ROWS, &middle->to_qkv, err));
    WO_TRY(wo_declare_kernel(d, "proj", &proj, WO_LAYOUT_ROWS, &middle->proj, err));
    wo_declare_enter(d, "%s.mid_block.resnets.1.", half);
    return wo_vae_declare_resblock(m, d, 1, &middle->resblock[1], err);
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
