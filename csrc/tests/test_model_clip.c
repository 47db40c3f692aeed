/* The CLIP vision encoder, tiny and with random weights: it computes what the formulas say up to the input of its last block, no plan
 * changes a bit of it, and what lies behind is neither needed nor read. */
#include "tests/model_plans.h"
#include "tests/model_reference.h"

#include "model/model.h"

/* The image is no multiple of the patch: two pixels of each side are left over. */
static const wo_clip_config config = {.hidden_size = 24, .intermediate_size = 34, .num_layers = 4, .num_heads = 2, .image_size = 14,
                                      .patch_size = 4, .num_channels = 3, .eps = 1e-5f};

enum { IMAGES = 2, PATCHES = 9, TOKENS = PATCHES + 1, PATCH = 3 * 4 * 4, WIDTH = 24 };
static float patches[IMAGES * PATCHES * PATCH];

/* Lists the file with `blocks` of its blocks, of which the network needs all but the last. */
static void list_clip(const char *prefix, int blocks) {
    const char *linears[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"};
    char name[96];
    begin_file();
    TENSOR_OF(prefix, "%sembeddings.class_embedding", WIDTH);
    TENSOR_OF(prefix, "%sembeddings.patch_embedding.weight", WIDTH, config.num_channels, config.patch_size, config.patch_size);
    TENSOR_OF(prefix, "%sembeddings.position_embedding.weight", TOKENS, WIDTH);
    snprintf(name, sizeof name, "%spre_layrnorm", prefix);
    add_norm(name, WIDTH);
    for (int i = 0; i < blocks; i++) {
        for (int j = 0; j < 2; j++) {
            snprintf(name, sizeof name, "%sencoder.layers.%d.layer_norm%d", prefix, i, j + 1);
            add_norm(name, WIDTH);
        }
        for (int j = 0; j < 4; j++) {
            snprintf(name, sizeof name, "%sencoder.layers.%d.%s", prefix, i, linears[j]);
            add_linear(name, WIDTH, WIDTH);
        }
        snprintf(name, sizeof name, "%sencoder.layers.%d.mlp.fc1", prefix, i);
        add_linear(name, config.intermediate_size, WIDTH);
        snprintf(name, sizeof name, "%sencoder.layers.%d.mlp.fc2", prefix, i);
        add_linear(name, WIDTH, config.intermediate_size);
    }
}

/* What published files hold beside. */
static void list_rest(void) {
    add_norm("vision_model.post_layernorm", WIDTH);
    TENSOR("vision_model.embeddings.position_ids", 1, TOKENS);
    TENSOR("visual_projection.weight", 16, WIDTH);
    TENSOR("text_projection.weight", 16, WIDTH);
    TENSOR("text_model.final_layer_norm.weight", WIDTH);
    TENSOR("logit_scale", 1);
}

/* ---- the reference ---- */

static matrix named(matrix x, const char *layer, const char *name) {
    char full[128];
    snprintf(full, sizeof full, "%s%s", layer, name);
    return linear(x, full);
}

static void reference_block(int index, const char *prefix, matrix x) {
    char layer[96], norm[128];
    snprintf(layer, sizeof layer, "%sencoder.layers.%d.", prefix, index);
    snprintf(norm, sizeof norm, "%slayer_norm1", layer);
    matrix y = layer_norm(x, (double)config.eps, norm);
    matrix o = attention(named(y, layer, "self_attn.q_proj"), named(y, layer, "self_attn.k_proj"), named(y, layer, "self_attn.v_proj"),
                         config.num_heads);
    add_to(x, named(o, layer, "self_attn.out_proj"));
    snprintf(norm, sizeof norm, "%slayer_norm2", layer);
    y = layer_norm(x, (double)config.eps, norm);
    add_to(x, named(mapped(named(y, layer, "mlp.fc1"), gelu_erf), layer, "mlp.fc2"));
}

/* The hidden state before the last block of one image, [TOKENS, WIDTH]; good until the next call. */
static const double *reference_image(int image, const char *prefix) {
    char name[96];
    reference_pool.used = 0;
    matrix x = matrix_new(TOKENS, WIDTH);
    snprintf(name, sizeof name, "%sembeddings.class_embedding", prefix);
    memcpy(x.at, matrix_from(values_of(name), 1, WIDTH).at, WIDTH * sizeof(double));
    snprintf(name, sizeof name, "%sembeddings.patch_embedding", prefix);
    matrix projected = linear(matrix_from(patches + image * PATCHES * PATCH, PATCHES, PATCH), name);
    memcpy(x.at + WIDTH, projected.at, PATCHES * WIDTH * sizeof(double));
    snprintf(name, sizeof name, "%sembeddings.position_embedding.weight", prefix);
    add_to(x, matrix_from(values_of(name), TOKENS, WIDTH));
    snprintf(name, sizeof name, "%spre_layrnorm", prefix);
    x = layer_norm(x, (double)config.eps, name);
    for (int i = 0; i + 1 < config.num_layers; i++)
        reference_block(i, prefix, x);
    return x.at;
}

/* ---- the tests ---- */

static const wo_clip_request planning = {.images = IMAGES};

static void run_clip(const network *n, wo_exec *x, float *out) {
    wo_clip_request r = {.images = IMAGES, .patches = patches, .out = out};
    run_pass(n, x, WO_CLIP_ENCODE, -1, &r);
}

static wo_clip *create(wo_store *store, wo_dtype dtype) {
    wo_clip *m;
    wo_error err;
    CHECK_OK(wo_clip_create(store, &config, dtype, &m, &err), &err);
    return m;
}

static void test_every_plan_computes_the_formulas(const char *prefix, wo_dtype dtype) {
    double tolerance = dtype == WO_F32 ? 1e-5 : dtype == WO_BF16 ? 3e-2 : 3e-3;
    list_clip(prefix, 4);
    wo_store *store = open_file();
    wo_clip *m = create(store, dtype);
    const float *found = check_plans(&(network){"clip", m, wo_clip_component(m), wo_clip_forward, WO_CLIP_PASSES, &planning,
                                                IMAGES * TOKENS * WIDTH, run_clip});
    for (int i = 0; i < IMAGES; i++) {
        double error = relative_error(found + i * TOKENS * WIDTH, reference_image(i, prefix), TOKENS * WIDTH);
        if (!(error <= tolerance)) {
            fprintf(stderr, "clip, %s, image %d: relative error %g\n", wo_dtype_name(dtype), i, error);
            exit(1);
        }
    }
    wo_clip_destroy(m);
    wo_store_release(store);
}

/* Blocks are blocks of the component, so that block level groups by them; all that lies behind the result has a reason. */
static void test_what_lies_behind_the_result_is_not_read(void) {
    wo_error err;
    wo_clip *m;
    list_clip("vision_model.", 4);
    list_rest();
    wo_store *store = open_file();
    m = create(store, WO_F32);
    const wo_component *c = wo_clip_component(m);
    CHECK(wo_component_blocks(c) == 3);
    CHECK(strcmp(wo_component_block_name(c, 2), "vision_model.encoder.layers.2") == 0);
    for (size_t i = 0; i < wo_component_layers(c); i++) {
        const char *name = wo_component_layer(c, i)->name;
        CHECK(strstr(name, "layers.3") == NULL && strstr(name, "post_layernorm") == NULL && strstr(name, "projection") == NULL);
    }
    CHECK(wo_component_unused(c) == 16 + 7);
    for (size_t i = 0; i < wo_component_unused(c); i++)
        CHECK(strstr(wo_component_unused_at(c, i)->reason, "not part of this model") == NULL);
    wo_clip_destroy(m);
    wo_store_release(store);

    list_clip("vision_model.", 3);
    store = open_file();
    wo_clip_destroy(create(store, WO_F32));
    wo_store_release(store);
    list_clip("vision_model.", 2);
    store = open_file();
    CHECK_STATUS(wo_clip_create(store, &config, WO_F32, &m, &err), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, "vision_model.encoder.layers.2.layer_norm1");
    wo_store_release(store);
}

static void check_refused(wo_store *store, wo_clip_config wrong, const char *part) {
    wo_clip *m;
    wo_error err;
    CHECK_STATUS(wo_clip_create(store, &wrong, WO_F32, &m, &err), WO_EVALUE);
    CHECK_CONTAINS(err.message, part);
    CHECK(m == NULL);
}

static void test_impossible_sizes_are_named(void) {
    wo_clip_config wrong[] = {config, config, config, config, config};
    list_clip("", 4);
    wo_store *store = open_file();
    wrong[0].num_heads = 5;
    check_refused(store, wrong[0], "hidden_size of the configuration must be a multiple of 5");
    wrong[1].patch_size = 15;
    check_refused(store, wrong[1], "patch_size of the configuration must be at most image_size, which is 14, but is 15");
    wrong[2].image_size = 1 << 20;
    check_refused(store, wrong[2], "(image_size / patch_size)^2 + 1");
    wrong[3].num_channels = 1 << 20;
    check_refused(store, wrong[3], "num_channels * patch_size^2");
    wrong[4].eps = 0;
    check_refused(store, wrong[4], "layer_norm_eps");

    wo_clip *m = create(store, WO_F32);
    wo_engine *engine = open_engine();
    wo_policy policy = wo_policy_default();
    wo_clip_request none = {.images = 0};
    wo_plan *plan;
    wo_error err;
    CHECK_STATUS(wo_plan_make(wo_clip_component(m), m, wo_clip_forward, WO_CLIP_PASSES, &none, wo_engine_device(engine), &policy, &plan, &err),
                 WO_EVALUE);
    CHECK_CONTAINS(err.message, "images, but there are 0");
    close_engine(engine);
    wo_clip_destroy(m);
    wo_store_release(store);
}

int main(void) {
    fill_random(patches, sizeof patches / sizeof(float));
    CHECK(wo_clip_tokens(&config) == TOKENS);
    for (wo_dtype dtype = WO_F32; dtype <= WO_F16; dtype++) {
        test_every_plan_computes_the_formulas("vision_model.", dtype);
        test_every_plan_computes_the_formulas("", dtype);
    }
    test_what_lies_behind_the_result_is_not_read();
    test_impossible_sizes_are_named();
    puts("clip: ok");
    return 0;
}
