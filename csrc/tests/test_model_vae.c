/* The two halves of the VAE, tiny and with random weights. Under every kind of plan the bits are those of the resident plan on one thread. The
 * encoder, frame by frame, is held to the closed form in float64 over the whole film (vae_reference.h); the decoder's bits are shown to be
 * the right ones against diffusers in Python. */
#include "model/model.h"
#include "tests/model_plans.h"
#include "tests/vae_reference.h"

/* --- layers that both halves have --------------------------------------------------------------------------------------------- */

static void conv_tensors(const char *name, int64_t out, int64_t in, int64_t kt, int64_t k) {
    TENSOR_OF(name, "%s.weight", out, in, kt, k, k);
    TENSOR_OF(name, "%s.bias", out);
}

static void resblock_tensors(const char *name, int64_t in, int64_t out) {
    char part[96];
    TENSOR_OF(name, "%s.norm1.gamma", in, 1, 1, 1);
    snprintf(part, sizeof part, "%s.conv1", name);
    conv_tensors(part, out, in, 3, 3);
    TENSOR_OF(name, "%s.norm2.gamma", out, 1, 1, 1);
    snprintf(part, sizeof part, "%s.conv2", name);
    conv_tensors(part, out, out, 3, 3);
    snprintf(part, sizeof part, "%s.conv_shortcut", name);
    if (in != out)
        conv_tensors(part, out, in, 1, 1);
}

static void middle_tensors(const char *half, int64_t width) {
    char name[96];
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s.mid_block.resnets.%d", half, i);
        resblock_tensors(name, width, width);
    }
    TENSOR_OF(half, "%s.mid_block.attentions.0.norm.gamma", width, 1, 1);
    TENSOR_OF(half, "%s.mid_block.attentions.0.to_qkv.weight", 3 * width, width, 1, 1);
    TENSOR_OF(half, "%s.mid_block.attentions.0.to_qkv.bias", 3 * width);
    TENSOR_OF(half, "%s.mid_block.attentions.0.proj.weight", width, width, 1, 1);
    TENSOR_OF(half, "%s.mid_block.attentions.0.proj.bias", width);
}

/* --- decoder ------------------------------------------------------------------------------------------------------------------ */

static const wo_vae_config decoder_config = {.base_dim = 3, .z_dim = 4, .num_res_blocks = 1, .out_channels = 3, .levels = 3,
                                             .dim_mult = {1, 2, 4}, .temporal_upsample = {true, false}};

static wo_store *decoder_store(void) {
    const int64_t in[] = {12, 6, 3}, out[] = {12, 6, 3};
    char name[96];
    begin_file();
    conv_tensors("post_quant_conv", 4, 4, 1, 1);
    conv_tensors("decoder.conv_in", 12, 4, 3, 3);
    middle_tensors("decoder", 12);
    for (int i = 0; i < 3; i++) {
        for (int r = 0; r < 2; r++) {
            snprintf(name, sizeof name, "decoder.up_blocks.%d.resnets.%d", i, r);
            resblock_tensors(name, r == 0 ? in[i] : out[i], out[i]);
        }
        if (i == 2)
            break;
        snprintf(name, sizeof name, "decoder.up_blocks.%d.upsamplers.0.time_conv", i);
        if (decoder_config.temporal_upsample[i])
            conv_tensors(name, 2 * out[i], out[i], 3, 1);
        TENSOR_OF(i, "decoder.up_blocks.%d.upsamplers.0.resample.1.weight", out[i] / 2, out[i], 3, 3);
        TENSOR_OF(i, "decoder.up_blocks.%d.upsamplers.0.resample.1.bias", out[i] / 2);
    }
    TENSOR("decoder.norm_out.gamma", 3, 1, 1, 1);
    conv_tensors("decoder.conv_out", 3, 3, 3, 3);
    TENSOR("encoder.conv_in.weight", 2, 2);
    TENSOR("quant_conv.weight", 2, 2);
    return open_file();
}

enum { LATENTS = 4 };
static float latents[LATENTS][4 * 6 * 5];

static void run_decoder(const network *n, wo_exec *x, float *out) {
    for (int i = 0; i < LATENTS; i++) {
        wo_vae_request r = {.height = 6, .width = 5, .latent = latents[i], .frames = out};
        run_pass(n, x, i == 0 ? WO_VAE_FIRST : WO_VAE_NEXT, i + 1 < LATENTS ? WO_VAE_NEXT : -1, &r);
        out += (i == 0 ? 1 : 2) * 24 * 20 * 3;
    }
}

/* Every tensor of the other half is listed as unused, and says of what it is a part. */
static void check_unused(const wo_component *c, size_t count, const char *reason) {
    CHECK(wo_component_unused(c) == count);
    for (size_t i = 0; i < count; i++)
        CHECK_CONTAINS(wo_component_unused_at(c, i)->reason, reason);
}

static void test_no_plan_changes_the_bits_of_the_decoder(wo_dtype dtype) {
    const wo_vae_request planning = {.height = 6, .width = 5};
    wo_store *store = decoder_store();
    wo_vae_decoder *m;
    wo_error err;
    CHECK_OK(wo_vae_decoder_create(store, &decoder_config, dtype, &m, &err), &err);
    CHECK(wo_vae_frames_per_latent(&decoder_config) == 2 && wo_vae_spatial_scale(&decoder_config) == 4);
    check_unused(wo_vae_decoder_component(m), 2, "the encoder is another component");
    check_plans(&(network){"vae", m, wo_vae_decoder_component(m), wo_vae_decoder_forward, WO_VAE_PASSES, &planning,
                           (1 + 2 * (LATENTS - 1)) * 24 * 20 * 3, run_decoder});
    wo_vae_decoder_destroy(m);
    wo_store_release(store);
}

/* --- encoder ------------------------------------------------------------------------------------------------------------------ */

/* An encoder and a film for it. join: temperal_downsample as config.json has it. */
typedef struct encoder_case {
    int64_t base_dim, z_dim, in_channels;
    int resblocks, levels;
    int64_t dim_mult[4];
    bool join[3];
    int64_t height, width;
    int later; /* latents after the first */
} encoder_case;

/* In the larger frames the head is run frame by frame; in the smaller ones the weights of the first stage are more than a frame. */
static const encoder_case encoder_cases[] = {
    {3, 4, 3, 1, 3, {1, 2, 4}, {false, true}, 12, 20, 3},   {3, 2, 3, 2, 3, {1, 2, 4}, {true, true}, 4, 12, 2},
    {5, 3, 3, 1, 3, {1, 2, 2}, {true, true}, 44, 36, 2},    {2, 1, 4, 1, 4, {1, 3, 2, 5}, {true, false, true}, 40, 56, 1},
    {3, 2, 1, 2, 2, {2, 1}, {false}, 14, 6, 2},             {4, 3, 3, 1, 1, {1}, {false}, 5, 3, 2},
    {3, 2, 3, 1, 2, {1, 3}, {true}, 2, 2, 0},
};
enum { ENCODER_CASES = sizeof encoder_cases / sizeof encoder_cases[0], MOST_INPUT = 1 << 16 };

static const encoder_case *the_case; /* of the run */
static float film_in[MOST_INPUT];

static wo_vae_config encoder_config(const encoder_case *e) {
    wo_vae_config c = {.base_dim = e->base_dim, .z_dim = e->z_dim, .num_res_blocks = e->resblocks, .in_channels = e->in_channels,
                       .levels = e->levels};
    for (int i = 0; i < e->levels; i++)
        c.dim_mult[i] = e->dim_mult[i];
    for (int i = 0; i + 1 < e->levels; i++)
        c.temporal_upsample[e->levels - 2 - i] = e->join[i];
    return c;
}

static wo_store *encoder_store(const encoder_case *e) {
    char name[96];
    int block = 0;
    int64_t width = e->base_dim;
    begin_file();
    conv_tensors("encoder.conv_in", e->base_dim, e->in_channels, 3, 3);
    for (int level = 0; level < e->levels; level++) {
        int64_t in = width;
        width = e->base_dim * e->dim_mult[level];
        for (int r = 0; r < e->resblocks; r++) {
            snprintf(name, sizeof name, "encoder.down_blocks.%d", block++);
            resblock_tensors(name, r == 0 ? in : width, width);
        }
        if (level == e->levels - 1)
            break;
        TENSOR_OF(block, "encoder.down_blocks.%d.resample.1.weight", width, width, 3, 3);
        TENSOR_OF(block, "encoder.down_blocks.%d.resample.1.bias", width);
        snprintf(name, sizeof name, "encoder.down_blocks.%d.time_conv", block++);
        if (e->join[level])
            conv_tensors(name, width, width, 3, 1);
    }
    middle_tensors("encoder", width);
    TENSOR("encoder.norm_out.gamma", width, 1, 1, 1);
    conv_tensors("encoder.conv_out", 2 * e->z_dim, width, 3, 3);
    conv_tensors("quant_conv", 2 * e->z_dim, 2 * e->z_dim, 1, 1);
    TENSOR("post_quant_conv.weight", 2, 2);
    TENSOR("decoder.conv_in.weight", 2, 2);
    TENSOR("decoder.conv_in.bias", 2);
    return open_file();
}

/* The film's first frame, then its groups; moments one latent after the other. */
static void run_encoder(const network *n, wo_exec *x, float *out) {
    const wo_vae_config config = encoder_config(the_case);
    const int64_t frame = the_case->height * the_case->width * the_case->in_channels;
    const float *in = film_in;
    for (int i = 0; i <= the_case->later; i++) {
        wo_vae_encode_request r = {.height = the_case->height, .width = the_case->width, .frames = in, .moments = out};
        run_pass(n, x, i == 0 ? WO_VAE_ENCODE_FIRST : WO_VAE_ENCODE_NEXT, i < the_case->later ? WO_VAE_ENCODE_NEXT : -1, &r);
        in += (i == 0 ? 1 : wo_vae_frames_per_latent(&config)) * frame;
        out += n->outputs / (size_t)(the_case->later + 1);
    }
}

/* The encoder of a case as a network of check_plans; opened, run, and closed. */
typedef struct encoder {
    wo_vae_config config;
    wo_store *store;
    wo_vae_encoder *m;
    wo_vae_encode_request planning;
    network n;
} encoder;

static void encoder_open(const encoder_case *e, wo_dtype dtype, encoder *out) {
    wo_error err;
    the_case = e;
    *out = (encoder){.config = encoder_config(e), .store = encoder_store(e), .planning = {.height = e->height, .width = e->width}};
    CHECK_OK(wo_vae_encoder_create(out->store, &out->config, dtype, &out->m, &err), &err);
    int64_t scale = wo_vae_spatial_scale(&out->config), positions = e->height / scale * (e->width / scale);
    out->n = (network){"vae encoder", out->m, wo_vae_encoder_component(out->m), wo_vae_encoder_forward, WO_VAE_ENCODE_PASSES,
                       &out->planning, (size_t)((e->later + 1) * 2 * e->z_dim * positions), run_encoder};
}

static void encoder_close(encoder *e) {
    wo_vae_encoder_destroy(e->m);
    wo_store_release(e->store);
}

/* [T, h, w, 2z] of the reference as the passes give it: [T][2z, h, w]. */
static void channels_first(film x, double *out) {
    int64_t positions = x.height * x.width, channels = x.at.width;
    for (int64_t i = 0; i < x.at.rows * channels; i++) {
        int64_t t = i / channels / positions, p = i / channels % positions, c = i % channels;
        out[(t * channels + c) * positions + p] = x.at.at[i];
    }
}

/* Products of bfloat16 and weights held in float16 are rounded; what is wrong for another reason is off by far more. */
static const double bounds[] = {[WO_F32] = 5e-7, [WO_BF16] = 1e-2, [WO_F16] = 1e-3};

static void test_frames_encoded_one_latent_at_a_time_equal_the_closed_form_under_every_plan(const encoder_case *c, wo_dtype dtype) {
    static double wanted[MOST_OUTPUT];
    encoder e;
    encoder_open(c, dtype, &e);
    check_unused(e.n.component, 3, "the decoder is another component");
    int64_t frames = 1 + c->later * wo_vae_frames_per_latent(&e.config);
    reference_pool.used = 0;
    CHECK(frames * c->height * c->width * c->in_channels <= MOST_INPUT);
    film x = {frames, c->height, c->width, matrix_from(film_in, frames * c->height * c->width, c->in_channels)};
    film moments = encoded(x, c->levels, c->resblocks, c->join);
    CHECK(moments.frames == c->later + 1 && moments.at.rows * moments.at.width == (int64_t)e.n.outputs);
    channels_first(moments, wanted);
    double error = relative_error(check_plans(&e.n), wanted, e.n.outputs);
    if (!(error < bounds[dtype]))
        fprintf(stderr, "vae encoder, case %d, dtype %s: relative error %.3g\n", (int)(c - encoder_cases), wo_dtype_name(dtype), error);
    CHECK(error < bounds[dtype]);
    encoder_close(&e);
}

/* What the passes of a plan carry over, in float32 on the host: frames of the size of each convolution's input. */
static void test_the_encoder_remembers_two_frames_of_a_causal_convolution_and_one_of_a_downsampler(void) {
    const encoder_case *c = &encoder_cases[2]; /* widths 5, 10, 10; joined at half and at quarter size */
    int64_t full = 44 * 36, elements = 2 * full * (3 + 5 + 5) + 2 * full / 4 * (5 + 10) + 2 * full / 16 * (10 + 10 + 4 * 10 + 10);
    elements += full / 4 * 5 + full / 16 * 10;
    encoder e;
    encoder_open(c, WO_F32, &e);
    wo_engine *engine = open_engine();
    wo_policy policy = wo_policy_default();
    wo_plan_summary summary;
    wo_plan *plan;
    wo_error err;
    policy.knobs.state_on_host = true;
    CHECK_OK(wo_plan_make(e.n.component, e.m, e.n.forward, e.n.passes, &e.planning, wo_engine_device(engine), &policy, &plan, &err), &err);
    wo_plan_summarize(plan, &summary);
    size_t bytes = (size_t)elements * sizeof(float), small = 8192; /* the ledger, and each bank's rounding up */
    CHECK(summary.host_keep_bytes >= bytes && summary.host_keep_bytes <= bytes + small);
    wo_plan_release(plan);
    close_engine(engine);
    encoder_close(&e);
}

static void test_frames_of_another_size_are_refused_by_what_they_must_be(void) {
    const int64_t sizes[][2] = {{0, 20}, {12, 18}, {-4, 20}, {12, (int64_t)1 << 40}};
    wo_engine *engine = open_engine();
    wo_policy policy = wo_policy_default();
    wo_plan *plan;
    wo_error err;
    encoder e;
    encoder_open(&encoder_cases[0], WO_F32, &e);
    for (int i = 0; i < 4; i++) {
        e.planning = (wo_vae_encode_request){.height = sizes[i][0], .width = sizes[i][1]};
        CHECK_STATUS(wo_plan_make(e.n.component, e.m, e.n.forward, e.n.passes, &e.planning, wo_engine_device(engine), &policy, &plan, &err),
                     WO_EVALUE);
        CHECK_CONTAINS(err.message, "vae encoder: height and width of the frames must be multiples of 4");
    }
    close_engine(engine);
    encoder_close(&e);
}

/* A configuration, or a file, that is not the one of the other. */
static void test_an_encoder_that_does_not_fit_its_file_is_refused_by_name(void) {
    wo_store *store = encoder_store(&encoder_cases[0]);
    wo_vae_config config = encoder_config(&encoder_cases[0]);
    wo_vae_encoder *m;
    wo_error err;
    config.in_channels = 0;
    CHECK_STATUS(wo_vae_encoder_create(store, &config, WO_F32, &m, &err), WO_EVALUE);
    CHECK_CONTAINS(err.message, "vae encoder: in_channels of the configuration");
    config.in_channels = 3;
    config.temporal_upsample[0] = false;
    config.temporal_upsample[1] = true; /* temperal_downsample the wrong way round: there is a time_conv, but one block later */
    CHECK_STATUS(wo_vae_encoder_create(store, &config, WO_F32, &m, &err), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, "encoder.down_blocks.1.time_conv.weight");
    CHECK(m == NULL);
    wo_store_release(store);
    store = decoder_store();
    config = encoder_config(&encoder_cases[0]);
    CHECK_STATUS(wo_vae_encoder_create(store, &config, WO_F32, &m, &err), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, "encoder.conv_in.weight");
    wo_store_release(store);
}

int main(void) {
    fill_random((float *)latents, sizeof latents / sizeof(float));
    fill_random(film_in, MOST_INPUT);
    for (wo_dtype dtype = WO_F32; dtype <= WO_F16; dtype++) {
        test_no_plan_changes_the_bits_of_the_decoder(dtype);
        for (int i = 0; i < ENCODER_CASES; i++)
            test_frames_encoded_one_latent_at_a_time_equal_the_closed_form_under_every_plan(&encoder_cases[i], dtype);
    }
    test_the_encoder_remembers_two_frames_of_a_causal_convolution_and_one_of_a_downsampler();
    test_frames_of_another_size_are_refused_by_what_they_must_be();
    test_an_encoder_that_does_not_fit_its_file_is_refused_by_name();
    puts("vae: ok");
    return 0;
}
