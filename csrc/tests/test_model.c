/* The three networks, tiny and with random weights, under every kind of plan: the bits of each are those of the resident plan on one
 * thread. That these bits are the right ones is shown against diffusers in Python; that no plan changes them, and that no address is
 * wrong under a sanitizer, is shown here. */
#include "device/cpu/cpu.h"
#include "model/model.h"
#include "tests/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <unistd.h>

/* --- a checkpoint of random float32 tensors ----------------------------------------------------------------------------------- */

static char header[1 << 16];
static size_t header_bytes;
static uint64_t data_bytes;

static float next_random(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (float)(state >> 40) / (float)(1 << 24) * 2.0f - 1.0f;
}

static void begin(void) {
    header_bytes = (size_t)snprintf(header, sizeof header, "{");
    data_bytes = 0;
}

/* A tensor of rank 1 to 5; shape ends with 0. */
static void tensor(const int64_t *shape, const char *format, ...) {
    char name[128];
    uint64_t bytes = sizeof(float);
    va_list list;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    header_bytes += (size_t)snprintf(header + header_bytes, sizeof header - header_bytes, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[",
                                     header_bytes > 1 ? "," : "", name);
    for (int i = 0; shape[i] != 0; i++) {
        header_bytes += (size_t)snprintf(header + header_bytes, sizeof header - header_bytes, i > 0 ? ",%" PRId64 : "%" PRId64, shape[i]);
        bytes *= (uint64_t)shape[i];
    }
    header_bytes += (size_t)snprintf(header + header_bytes, sizeof header - header_bytes, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
                                     data_bytes, data_bytes + bytes);
    data_bytes += bytes;
    CHECK(header_bytes < sizeof header - 1);
}
#define TENSOR(name, ...) tensor((const int64_t[]){__VA_ARGS__, 0}, "%s", (name))
#define TENSOR_OF(number, format, ...) tensor((const int64_t[]){__VA_ARGS__, 0}, (format), (number))

static void write_all(FILE *f, const void *p, size_t bytes) {
    CHECK(fwrite(p, 1, bytes, f) == bytes);
}

/* Writes the file and opens it; the file is gone from its folder afterwards, but stays readable while it is open. */
static wo_store *end(void) {
    char path[] = "/tmp/wanoffload-model-XXXXXX.safetensors";
    wo_store *store;
    wo_error err;
    int fd = mkstemps(path, 12);
    FILE *f = fd >= 0 ? fdopen(fd, "wb") : NULL;
    CHECK(f != NULL);
    header[header_bytes++] = '}';
    uint64_t length = header_bytes;
    write_all(f, &length, sizeof length);
    write_all(f, header, header_bytes);
    for (uint64_t i = 0; i < data_bytes / sizeof(float); i++) {
        float value = 0.3f * next_random();
        write_all(f, &value, sizeof value);
    }
    CHECK(fclose(f) == 0);
    CHECK_OK(wo_store_open(path, &store, &err), &err);
    CHECK(unlink(path) == 0);
    return store;
}

static void attention_tensors(int block, int number, int64_t width) {
    const char *matrices[] = {"to_q", "to_k", "to_v", "to_out.0"}, *norms[] = {"norm_q", "norm_k"};
    char name[64];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "blocks.%d.attn%d.%s", block, number, matrices[i]);
        TENSOR_OF(name, "%s.weight", width, width);
        TENSOR_OF(name, "%s.bias", width);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "blocks.%d.attn%d.%s", block, number, norms[i]);
        TENSOR_OF(name, "%s.weight", width);
    }
}

static const wo_transformer_config transformer_config = {.num_layers = 3, .num_heads = 2, .head_dim = 12, .ffn_dim = 34, .in_channels = 3,
                                                         .out_channels = 5, .text_dim = 10, .freq_dim = 8, .eps = 1e-6f,
                                                         .cross_attn_norm = true};

static wo_store *transformer_store(void) {
    const wo_transformer_config *c = &transformer_config;
    int64_t width = c->num_heads * c->head_dim;
    begin();
    TENSOR("condition_embedder.text_embedder.linear_1.weight", width, c->text_dim);
    TENSOR("condition_embedder.text_embedder.linear_1.bias", width);
    TENSOR("condition_embedder.text_embedder.linear_2.weight", width, width);
    TENSOR("condition_embedder.text_embedder.linear_2.bias", width);
    TENSOR("condition_embedder.time_embedder.linear_1.weight", width, c->freq_dim);
    TENSOR("condition_embedder.time_embedder.linear_1.bias", width);
    TENSOR("condition_embedder.time_embedder.linear_2.weight", width, width);
    TENSOR("condition_embedder.time_embedder.linear_2.bias", width);
    TENSOR("condition_embedder.time_proj.weight", 6 * width, width);
    TENSOR("condition_embedder.time_proj.bias", 6 * width);
    TENSOR("patch_embedding.weight", width, c->in_channels, 1, 2, 2);
    TENSOR("patch_embedding.bias", width);
    for (int i = 0; i < c->num_layers; i++) {
        TENSOR_OF(i, "blocks.%d.scale_shift_table", 1, 6, width);
        attention_tensors(i, 1, width);
        TENSOR_OF(i, "blocks.%d.norm2.weight", width);
        TENSOR_OF(i, "blocks.%d.norm2.bias", width);
        attention_tensors(i, 2, width);
        TENSOR_OF(i, "blocks.%d.ffn.net.0.proj.weight", c->ffn_dim, width);
        TENSOR_OF(i, "blocks.%d.ffn.net.0.proj.bias", c->ffn_dim);
        TENSOR_OF(i, "blocks.%d.ffn.net.2.weight", width, c->ffn_dim);
        TENSOR_OF(i, "blocks.%d.ffn.net.2.bias", width);
    }
    TENSOR("scale_shift_table", 1, 2, width);
    TENSOR("proj_out.weight", 4 * c->out_channels, width);
    TENSOR("proj_out.bias", 4 * c->out_channels);
    return end();
}

static const wo_umt5_config umt5_config = {.vocab_size = 31, .d_model = 20, .d_kv = 6, .d_ff = 22, .num_layers = 3, .num_heads = 3,
                                           .num_buckets = 8, .max_distance = 16, .eps = 1e-6f};

static wo_store *umt5_store(void) {
    const wo_umt5_config *c = &umt5_config;
    int64_t inner = c->num_heads * c->d_kv;
    begin();
    TENSOR("shared.weight", c->vocab_size, c->d_model);
    for (int i = 0; i < c->num_layers; i++) {
        TENSOR_OF(i, "encoder.block.%d.layer.0.layer_norm.weight", c->d_model);
        TENSOR_OF(i, "encoder.block.%d.layer.0.SelfAttention.q.weight", inner, c->d_model);
        TENSOR_OF(i, "encoder.block.%d.layer.0.SelfAttention.k.weight", inner, c->d_model);
        TENSOR_OF(i, "encoder.block.%d.layer.0.SelfAttention.v.weight", inner, c->d_model);
        TENSOR_OF(i, "encoder.block.%d.layer.0.SelfAttention.relative_attention_bias.weight", c->num_buckets, c->num_heads);
        TENSOR_OF(i, "encoder.block.%d.layer.0.SelfAttention.o.weight", c->d_model, inner);
        TENSOR_OF(i, "encoder.block.%d.layer.1.layer_norm.weight", c->d_model);
        TENSOR_OF(i, "encoder.block.%d.layer.1.DenseReluDense.wi_0.weight", c->d_ff, c->d_model);
        TENSOR_OF(i, "encoder.block.%d.layer.1.DenseReluDense.wi_1.weight", c->d_ff, c->d_model);
        TENSOR_OF(i, "encoder.block.%d.layer.1.DenseReluDense.wo.weight", c->d_model, c->d_ff);
    }
    TENSOR("encoder.final_layer_norm.weight", c->d_model);
    return end();
}

static const wo_vae_config vae_config = {.base_dim = 3, .z_dim = 4, .num_res_blocks = 1, .out_channels = 3, .levels = 3,
                                         .dim_mult = {1, 2, 4}, .temporal_upsample = {true, false}};

static void resblock_tensors(const char *name, int64_t in, int64_t out) {
    TENSOR_OF(name, "%s.norm1.gamma", in, 1, 1, 1);
    TENSOR_OF(name, "%s.conv1.weight", out, in, 3, 3, 3);
    TENSOR_OF(name, "%s.conv1.bias", out);
    TENSOR_OF(name, "%s.norm2.gamma", out, 1, 1, 1);
    TENSOR_OF(name, "%s.conv2.weight", out, out, 3, 3, 3);
    TENSOR_OF(name, "%s.conv2.bias", out);
    if (in != out) {
        TENSOR_OF(name, "%s.conv_shortcut.weight", out, in, 1, 1, 1);
        TENSOR_OF(name, "%s.conv_shortcut.bias", out);
    }
}

static wo_store *vae_store(void) {
    const int64_t in[] = {12, 6, 3}, out[] = {12, 6, 3};
    char name[64];
    begin();
    TENSOR("post_quant_conv.weight", 4, 4, 1, 1, 1);
    TENSOR("post_quant_conv.bias", 4);
    TENSOR("decoder.conv_in.weight", 12, 4, 3, 3, 3);
    TENSOR("decoder.conv_in.bias", 12);
    resblock_tensors("decoder.mid_block.resnets.0", 12, 12);
    TENSOR("decoder.mid_block.attentions.0.norm.gamma", 12, 1, 1);
    TENSOR("decoder.mid_block.attentions.0.to_qkv.weight", 36, 12, 1, 1);
    TENSOR("decoder.mid_block.attentions.0.to_qkv.bias", 36);
    TENSOR("decoder.mid_block.attentions.0.proj.weight", 12, 12, 1, 1);
    TENSOR("decoder.mid_block.attentions.0.proj.bias", 12);
    resblock_tensors("decoder.mid_block.resnets.1", 12, 12);
    for (int i = 0; i < 3; i++) {
        for (int r = 0; r < 2; r++) {
            snprintf(name, sizeof name, "decoder.up_blocks.%d.resnets.%d", i, r);
            resblock_tensors(name, r == 0 ? in[i] : out[i], out[i]);
        }
        if (i == 2)
            break;
        if (vae_config.temporal_upsample[i]) {
            TENSOR_OF(i, "decoder.up_blocks.%d.upsamplers.0.time_conv.weight", 2 * out[i], out[i], 3, 1, 1);
            TENSOR_OF(i, "decoder.up_blocks.%d.upsamplers.0.time_conv.bias", 2 * out[i]);
        }
        TENSOR_OF(i, "decoder.up_blocks.%d.upsamplers.0.resample.1.weight", out[i] / 2, out[i], 3, 3);
        TENSOR_OF(i, "decoder.up_blocks.%d.upsamplers.0.resample.1.bias", out[i] / 2);
    }
    TENSOR("decoder.norm_out.gamma", 3, 1, 1, 1);
    TENSOR("decoder.conv_out.weight", 3, 3, 3, 3, 3);
    TENSOR("decoder.conv_out.bias", 3);
    TENSOR("encoder.conv_in.weight", 2, 2);
    return end();
}

/* --- a network, its passes and its output ------------------------------------------------------------------------------------- */

enum { MOST_OUTPUT = 1 << 15, LATENTS = 4, STEPS = 2 };

typedef struct network {
    const char *name;
    const void *model;
    const wo_component *component;
    wo_forward_fn forward;
    int passes;
    const void *planning; /* the request without data */
    size_t outputs;
    /* Runs the passes that make one output. */
    void (*run)(const struct network *n, wo_exec *x, float *out);
} network;

static void run_pass(const network *n, wo_exec *x, int pass, int next, const void *request) {
    wo_error err;
    CHECK_OK(wo_exec_run(x, n->model, n->forward, pass, next, request, &err), &err);
}

enum { BATCH = 2, FRAMES = 2, SIDE = 4 };
static float text_embeds[40 * 10];
static const wo_text texts[BATCH] = {{.rows = 48, .real = 40, .embeds = text_embeds}, {.rows = 48, .real = 3, .embeds = text_embeds}};
static float latents[BATCH * 3 * FRAMES * SIDE * SIDE];

static void run_transformer(const network *n, wo_exec *x, float *out) {
    const float timesteps[STEPS][BATCH] = {{999, 999}, {17, 500}};
    wo_transformer_request r = {.batch = BATCH, .frames = FRAMES, .height = SIDE, .width = SIDE, .text = texts, .latents = latents};
    run_pass(n, x, WO_TRANSFORMER_PREPARE, WO_TRANSFORMER_STEP, &r);
    for (int i = 0; i < STEPS; i++) {
        r.timesteps = timesteps[i];
        r.velocity = out + (size_t)i * n->outputs / STEPS;
        run_pass(n, x, WO_TRANSFORMER_STEP, i + 1 < STEPS ? WO_TRANSFORMER_STEP : -1, &r);
    }
}

static const int32_t prompt_tokens[] = {5, 35}, prompt_ids[40] = {3, 3, 9, 30, 1, 4, 8, 15, 16, 23, 4, 2, 0, 30, 29, 28, 27, 5, 5, 5,
                                                                  5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 1};

static void run_umt5(const network *n, wo_exec *x, float *out) {
    wo_umt5_request r = {.prompts = 2, .tokens = prompt_tokens, .ids = prompt_ids, .out = out};
    run_pass(n, x, WO_UMT5_ENCODE, -1, &r);
}

static float vae_latents[LATENTS][4 * 6 * 5];

static void run_vae(const network *n, wo_exec *x, float *out) {
    for (int i = 0; i < LATENTS; i++) {
        wo_vae_request r = {.height = 6, .width = 5, .latent = vae_latents[i], .frames = out};
        run_pass(n, x, i == 0 ? WO_VAE_FIRST : WO_VAE_NEXT, i + 1 < LATENTS ? WO_VAE_NEXT : -1, &r);
        out += (i == 0 ? 1 : 2) * 24 * 20 * 3;
    }
}

/* --- plans -------------------------------------------------------------------------------------------------------------------- */

static void run_under(const network *n, wo_engine *engine, const wo_policy *policy, float *out, wo_report *report) {
    wo_plan *plan;
    wo_exec *x;
    wo_error err;
    for (size_t i = 0; i < n->outputs; i++)
        out[i] = NAN;
    CHECK_OK(wo_plan_make(n->component, n->model, n->forward, n->passes, n->planning, wo_engine_device(engine), policy, &plan, &err), &err);
    CHECK_OK(wo_exec_open(engine, n->component, plan, &x, &err), &err);
    n->run(n, x, out);
    wo_exec_close(x, report);
    wo_plan_release(plan);
    wo_engine_drop(engine, n->component);
}

static void check_bits(const network *n, const char *what, const float *wanted, const float *found) {
    if (memcmp(wanted, found, n->outputs * sizeof *wanted) == 0)
        return;
    fprintf(stderr, "%s: other bits under the plan: %s\n", n->name, what);
    exit(1);
}

/* Every plan of the list, poisoned and on one to three threads, against the resident one. */
static void check_plans(const network *n) {
    static float wanted[MOST_OUTPUT], found[MOST_OUTPUT];
    const wo_level levels[] = {WO_LEVEL_RESIDENT, WO_LEVEL_MODEL, WO_LEVEL_BLOCK, WO_LEVEL_LEAF};
    const wo_knobs knobs[] = {{0, true, false}, {5, false, true}, {7, true, true}};
    wo_engine *engine;
    wo_device *device;
    wo_report report;
    wo_error err;
    char what[128];
    int cell = 0;
    CHECK(n->outputs <= MOST_OUTPUT);
    CHECK_OK(wo_device_open("cpu", &device, &err), &err);
    CHECK_OK(wo_engine_create(device, &engine, &err), &err);
    CHECK_OK(wo_cpu_set_threads(1, &err), &err);
    wo_policy policy = wo_policy_default();
    policy.knobs = knobs[0];
    run_under(n, engine, &policy, wanted, &report);
    double sum = 0;
    for (size_t i = 0; i < n->outputs; i++) {
        CHECK(isfinite(wanted[i]));
        sum += fabs((double)wanted[i]);
    }
    CHECK(sum > 0.01 * (double)n->outputs);
    wo_engine_set_testing(engine, &(wo_testing){.poison = true});
    for (int level = 0; level < 4; level++)
        for (int disk = 0; disk < 2; disk++)
            for (int stream = 0; stream < 2; stream++, cell++) {
                policy.level = levels[level];
                policy.blocks_per_group = 1;
                policy.tier = disk ? WO_TIER_DISK : WO_TIER_HOST;
                policy.use_stream = stream;
                policy.knobs = knobs[cell % 3];
                CHECK_OK(wo_cpu_set_threads(1 + cell % 3, &err), &err);
                snprintf(what, sizeof what, "level %d, %s, %s, knobs %d, %d threads", level, disk ? "disk" : "host",
                         stream ? "stream" : "no stream", cell % 3, 1 + cell % 3);
                run_under(n, engine, &policy, found, &report);
                check_bits(n, what, wanted, found);
                CHECK((report.bytes_moved > 0) == (levels[level] == WO_LEVEL_BLOCK || levels[level] == WO_LEVEL_LEAF));
            }
    wo_engine_destroy(engine);
    wo_device_close(device);
}

static void test_transformer(wo_dtype dtype) {
    const wo_transformer_request planning = {.batch = BATCH, .frames = FRAMES, .height = SIDE, .width = SIDE, .text = texts};
    wo_store *store = transformer_store();
    wo_transformer *m;
    wo_error err;
    CHECK_OK(wo_transformer_create(store, &transformer_config, dtype, &m, &err), &err);
    check_plans(&(network){"transformer", m, wo_transformer_component(m), wo_transformer_forward, WO_TRANSFORMER_PASSES, &planning,
                           STEPS * BATCH * 5 * FRAMES * SIDE * SIDE, run_transformer});
    wo_transformer_destroy(m);
    wo_store_release(store);
}

static void test_umt5(wo_dtype dtype) {
    const wo_umt5_request planning = {.prompts = 2, .tokens = prompt_tokens};
    wo_store *store = umt5_store();
    wo_umt5 *m;
    wo_error err;
    CHECK_OK(wo_umt5_create(store, &umt5_config, dtype, &m, &err), &err);
    check_plans(&(network){"umt5", m, wo_umt5_component(m), wo_umt5_forward, WO_UMT5_PASSES, &planning, 40 * 20, run_umt5});
    wo_umt5_destroy(m);
    wo_store_release(store);
}

static void test_vae(wo_dtype dtype) {
    const wo_vae_request planning = {.height = 6, .width = 5};
    wo_store *store = vae_store();
    wo_vae_decoder *m;
    wo_error err;
    CHECK_OK(wo_vae_decoder_create(store, &vae_config, dtype, &m, &err), &err);
    CHECK(wo_vae_frames_per_latent(&vae_config) == 2 && wo_vae_spatial_scale(&vae_config) == 4);
    check_plans(&(network){"vae", m, wo_vae_decoder_component(m), wo_vae_decoder_forward, WO_VAE_PASSES, &planning,
                           (1 + 2 * (LATENTS - 1)) * 24 * 20 * 3, run_vae});
    wo_vae_decoder_destroy(m);
    wo_store_release(store);
}

int main(void) {
    for (size_t i = 0; i < sizeof text_embeds / sizeof text_embeds[0]; i++)
        text_embeds[i] = next_random();
    for (size_t i = 0; i < sizeof latents / sizeof latents[0]; i++)
        latents[i] = next_random();
    for (int i = 0; i < LATENTS; i++)
        for (size_t j = 0; j < sizeof vae_latents[0] / sizeof(float); j++)
            vae_latents[i][j] = next_random();
    for (wo_dtype dtype = WO_F32; dtype <= WO_F16; dtype++) {
        test_transformer(dtype);
        test_umt5(dtype);
        test_vae(dtype);
    }
    puts("model: ok");
    return 0;
}
