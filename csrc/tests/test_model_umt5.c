/* The UMT5 encoder, tiny and with random weights, under every kind of plan: its bits are those of the resident plan on one thread. That
 * these bits are the right ones is shown against transformers in Python; that no plan changes them, and that no address is wrong under a
 * sanitizer, is shown here. */
#include "model/model.h"
#include "tests/model_file.h"
#include "tests/model_plans.h"

static const wo_umt5_config umt5_config = {.vocab_size = 31, .d_model = 20, .d_kv = 6, .d_ff = 22, .num_layers = 3, .num_heads = 3,
                                           .num_buckets = 8, .max_distance = 16, .eps = 1e-6f};

static wo_store *umt5_store(void) {
    const wo_umt5_config *c = &umt5_config;
    int64_t inner = c->num_heads * c->d_kv;
    begin_file();
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
    return open_file();
}

static const int32_t prompt_tokens[] = {5, 35}, prompt_ids[40] = {3, 3, 9, 30, 1, 4, 8, 15, 16, 23, 4, 2, 0, 30, 29, 28, 27, 5, 5, 5,
                                                                  5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 1};

static void run_umt5(const network *n, wo_exec *x, float *out) {
    wo_umt5_request r = {.prompts = 2, .tokens = prompt_tokens, .ids = prompt_ids, .out = out};
    run_pass(n, x, WO_UMT5_ENCODE, -1, &r);
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

int main(void) {
    for (wo_dtype dtype = WO_F32; dtype <= WO_F16; dtype++)
        test_umt5(dtype);
    puts("umt5: ok");
    return 0;
}
