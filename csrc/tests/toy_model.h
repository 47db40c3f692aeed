/* A small network for the tests of the offload engine: real operations of the cpu device over a safetensors file that the test
 * writes itself. It has everything that makes offloading hard: layers outside blocks, a layer that every block uses again, two layers
 * in use at one time, a table that is read by row, weights that need converting and one that is larger than a piece, memory kept
 * between passes, and knobs.
 *
 *     PREPARE  kept text_i = text W_i                        (cache_text: once for all steps)
 *     STEP     x = latents W_stem + state; state kept for the next step
 *              per block: x += rms_norm(x) W_conv; x += silu(x W_shared); x += text_i; x += gelu(x W_up) W_down
 *              out = x W_head                                                                                                */
#ifndef WO_TESTS_TOY_MODEL_H
#define WO_TESTS_TOY_MODEL_H

#include "base/arena.h"
#include "base/clock.h"
#include "base/memory.h"
#include "check.h"
#include "device/cpu/cpu.h"
#include "offload/engine.h"
#include "ops/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the engine of a test runs on. The test of another device names it and includes the test of this one; where kernels are interpreted it defines
 * TOY_INTERPRETED, too. */
#ifndef TOY_DEVICE
#define TOY_DEVICE "cpu"
#endif

enum { TOY_BLOCKS = 5, TOY_D = 96, TOY_H = 160, TOY_IN = 1400, TOY_ROWS = 7, TOY_TAPS = 6, TOY_MAX_TENSORS = 64, TOY_KEEP_STATE = 1000 };
enum { TOY_PREPARE, TOY_STEP, TOY_PASSES };

typedef struct toy_block {
    const wo_layer *norm, *conv, *text, *up, *down;
} toy_block;

typedef struct toy_model {
    wo_component *component;
    const wo_layer *stem, *table, *shared, *head;
    toy_block block[TOY_BLOCKS];
    int misuse; /* 0: none; else a number that toy_forward knows */
} toy_model;

typedef struct toy_request {
    const float *latents; /* [TOY_ROWS, TOY_IN] */
    const float *text;    /* [TOY_ROWS, TOY_D] */
    float *out;           /* [TOY_ROWS, TOY_D] */
} toy_request;

/* ---- the checkpoint ---- */

typedef struct toy_tensor {
    char name[48], dtype[8];
    int rank;
    int64_t shape[WO_MAX_RANK];
    double scale, offset;
} toy_tensor;

typedef struct toy_file {
    toy_tensor tensor[TOY_MAX_TENSORS];
    int count;
} toy_file;

static void toy_add(toy_file *f, const char *name, const char *dtype, double scale, double offset, int rank, int64_t a, int64_t b) {
    CHECK(f->count < TOY_MAX_TENSORS);
    toy_tensor *t = &f->tensor[f->count++];
    *t = (toy_tensor){.rank = rank, .shape = {a, b, 1, 1, 1}, .scale = scale, .offset = offset};
    snprintf(t->name, sizeof t->name, "%s", name);
    snprintf(t->dtype, sizeof t->dtype, "%s", dtype);
}

static void toy_add_linear(toy_file *f, const char *name, const char *dtype, int64_t out, int64_t in) {
    char text[48];
    snprintf(text, sizeof text, "%s.weight", name);
    toy_add(f, text, dtype, 1.5 / (double)in, 0, 2, out, in);
    snprintf(text, sizeof text, "%s.bias", name);
    toy_add(f, text, dtype, 0.1, 0, 1, out, 1);
}

/* Tensors at rest are float32, float64, bfloat16 and, in the last block, F8_E4M3, so that some are read as they are and some are converted. */
static void toy_list(toy_file *f) {
    *f = (toy_file){.count = 0};
    toy_add_linear(f, "stem", "F64", TOY_D, TOY_IN);
    toy_add(f, "table.weight", "F32", 1, 0, 2, 100, TOY_D);
    for (int i = 0; i < TOY_BLOCKS; i++) {
        const char *dtype = i == TOY_BLOCKS - 1 ? "F8_E4M3" : i % 3 == 0 ? "F32" : i % 3 == 1 ? "F64" : "BF16";
        char name[32];
        snprintf(name, sizeof name, "blocks.%d.norm.weight", i);
        toy_add(f, name, dtype, 0.3, 1, 1, TOY_D, 1);
        snprintf(name, sizeof name, "blocks.%d.conv.weight", i);
        toy_add(f, name, dtype, 2.0 / TOY_D, 0, 5, TOY_D, TOY_D / TOY_TAPS);
        memcpy(f->tensor[f->count - 1].shape, (int64_t[]){TOY_D, TOY_D / TOY_TAPS, 1, 2, 3}, sizeof(int64_t[5]));
        snprintf(name, sizeof name, "blocks.%d.text", i);
        toy_add_linear(f, name, dtype, TOY_D, TOY_D);
        snprintf(name, sizeof name, "blocks.%d.up", i);
        toy_add_linear(f, name, dtype, TOY_H, TOY_D);
        snprintf(name, sizeof name, "blocks.%d.down", i);
        toy_add_linear(f, name, dtype, TOY_D, TOY_H);
    }
    toy_add_linear(f, "shared", "F32", TOY_D, TOY_D);
    toy_add_linear(f, "head", "F32", 2 * TOY_D, TOY_D); /* the lower half is not used */
    toy_add(f, "extra.weight", "F32", 1, 0, 1, 3, 1);
}

static double toy_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 40) / (double)(1 << 23) - 1;
}

static size_t toy_element(const toy_tensor *t) {
    return t->dtype[0] == 'B' ? 2 : t->dtype[1] == '8' ? 1 : t->dtype[1] == '6' ? 8 : 4;
}

/* The largest code whose value does not exceed |v|, with v's sign. */
static uint8_t toy_code(float v) {
    uint8_t code = 0x7e;
    while (code > 0 && wo_f8_e4m3_to_f32(code) > (v < 0 ? -v : v))
        code--;
    return v < 0 ? code | 0x80 : code;
}

static size_t toy_count(const toy_tensor *t) {
    size_t count = 1;
    for (int i = 0; i < t->rank; i++)
        count *= (size_t)t->shape[i];
    return count;
}

static void toy_write_data(FILE *out, const toy_tensor *t, uint64_t seed) {
    for (size_t i = 0; i < toy_count(t); i++) {
        double v = t->offset + t->scale * toy_random(&seed);
        float single = (float)v;
        uint16_t half = wo_f32_to_bf16(single);
        uint8_t code = toy_element(t) == 1 ? toy_code(single) : 0;
        const void *bytes = t->dtype[0] == 'B' ? (void *)&half : t->dtype[1] == '8' ? (void *)&code : t->dtype[1] == '6' ? (void *)&v : (void *)&single;
        CHECK(fwrite(bytes, toy_element(t), 1, out) == 1);
    }
}

static uint64_t toy_seed; /* other weights for another one */

/* Writes the checkpoint; drop and misshape name a tensor that is left out or transposed in the header (NULL: none). */
static void toy_write(const char *path, const char *drop, const char *misshape) {
    static toy_file file;
    static char header[16384];
    toy_list(&file);
    size_t used = (size_t)snprintf(header, sizeof header, "{\"__metadata__\":{\"format\":\"pt\"}"), offset = 0;
    for (int i = 0; i < file.count; i++) {
        const toy_tensor *t = &file.tensor[i];
        if (drop != NULL && strcmp(drop, t->name) == 0)
            continue;
        used += (size_t)snprintf(header + used, sizeof header - used, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name, t->dtype);
        for (int k = 0; k < t->rank; k++) {
            int axis = misshape != NULL && strcmp(misshape, t->name) == 0 ? t->rank - 1 - k : k;
            used += (size_t)snprintf(header + used, sizeof header - used, "%s%lld", k > 0 ? "," : "", (long long)t->shape[axis]);
        }
        size_t end = offset + toy_count(t) * toy_element(t);
        used += (size_t)snprintf(header + used, sizeof header - used, "],\"data_offsets\":[%zu,%zu]}", offset, end);
        offset = end;
    }
    used += (size_t)snprintf(header + used, sizeof header - used, "}");
    FILE *out = fopen(path, "wb");
    CHECK(out != NULL);
    uint64_t length = used;
    CHECK(fwrite(&length, 8, 1, out) == 1 && fwrite(header, 1, used, out) == used);
    for (int i = 0; i < file.count; i++)
        if (drop == NULL || strcmp(drop, file.tensor[i].name) != 0)
            toy_write_data(out, &file.tensor[i], toy_seed + (uint64_t)i + 1);
    CHECK(fclose(out) == 0);
}

static inline bool toy_is_on_host(void) {
    return strcmp(TOY_DEVICE, "cpu") == 0;
}

/* A path that the test process has for itself; removed by toy_remove. */
static inline const char *toy_path(void) {
    static char path[64];
    snprintf(path, sizeof path, "/tmp/wo_toy_%ld.safetensors", (long)getpid());
    return path;
}

/* ---- the network ---- */

static wo_status toy_layer(toy_model *m, const char *name, int32_t block, int64_t out, int64_t in, wo_dtype dtype, const wo_layer **layer,
                           wo_error *err) {
    char weight[64], bias[64];
    int64_t rows = strcmp(name, "head") == 0 ? 2 * out : out;
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    wo_param_spec specs[2] = {{.tensor = weight, .rank = 2, .shape = {rows, in}, .dtype = dtype, .rows = out},
                              {.tensor = bias, .rank = 1, .shape = {rows}, .dtype = WO_F32, .rows = out}};
    return wo_component_add_layer(m->component, name, block, specs, 2, layer, err);
}

static wo_status toy_add_block(toy_model *m, int i, wo_dtype dtype, wo_error *err) {
    toy_block *b = &m->block[i];
    char name[32], weight[64];
    int32_t block;
    snprintf(name, sizeof name, "blocks.%d", i);
    WO_TRY(wo_component_add_block(m->component, name, &block, err));
    snprintf(name, sizeof name, "blocks.%d.norm", i);
    snprintf(weight, sizeof weight, "%s.weight", name);
    wo_param_spec norm = {.tensor = weight, .rank = 1, .shape = {TOY_D}, .dtype = WO_F32};
    WO_TRY(wo_component_add_layer(m->component, name, block, &norm, 1, &b->norm, err));
    snprintf(name, sizeof name, "blocks.%d.conv", i);
    snprintf(weight, sizeof weight, "%s.weight", name);
    wo_param_spec conv = {.tensor = weight, .rank = 5, .shape = {TOY_D, TOY_D / TOY_TAPS, 1, 2, 3}, .dtype = dtype, .layout = WO_LAYOUT_TAPS_OUTSIDE};
    WO_TRY(wo_component_add_layer(m->component, name, block, &conv, 1, &b->conv, err));
    snprintf(name, sizeof name, "blocks.%d.text", i);
    WO_TRY(toy_layer(m, name, block, TOY_D, TOY_D, dtype, &b->text, err));
    snprintf(name, sizeof name, "blocks.%d.up", i);
    WO_TRY(toy_layer(m, name, block, TOY_H, TOY_D, dtype, &b->up, err));
    snprintf(name, sizeof name, "blocks.%d.down", i);
    return toy_layer(m, name, block, TOY_D, TOY_H, dtype, &b->down, err);
}

static wo_status toy_declare(toy_model *m, wo_dtype dtype, wo_error *err) {
    wo_param_spec table = {.tensor = "table.weight", .rank = 2, .shape = {100, TOY_D}, .dtype = dtype};
    WO_TRY(toy_layer(m, "stem", -1, TOY_D, TOY_IN, dtype, &m->stem, err));
    WO_TRY(wo_component_add_table(m->component, "table", &table, &m->table, err));
    for (int i = 0; i < TOY_BLOCKS; i++)
        WO_TRY(toy_add_block(m, i, dtype, err));
    WO_TRY(toy_layer(m, "shared", -1, TOY_D, TOY_D, dtype, &m->shared, err));
    WO_TRY(toy_layer(m, "head", -1, TOY_D, TOY_D, dtype, &m->head, err));
    WO_TRY(wo_component_excuse(m->component, "head.", NULL, "the lower half", err));
    return wo_component_seal(m->component, err);
}

/* On failure nothing is left to destroy. */
static wo_status toy_create(toy_model *m, const char *path, wo_dtype dtype, wo_error *err) {
    wo_store *store;
    *m = (toy_model){.component = NULL};
    WO_TRY(wo_store_open(path, &store, err));
    wo_status status = wo_component_create("toy", store, &m->component, err);
    wo_store_release(store);
    if (status == WO_OK)
        status = toy_declare(m, dtype, err);
    if (status != WO_OK)
        wo_component_destroy(m->component);
    return status;
}

/* y = epilogue(x w^T + b) with the first param as w. */
static wo_status toy_linear(wo_exec *x, const wo_layer *layer, const wo_tensor *params, const wo_tensor *in, const wo_tensor *out,
                            wo_epilogue epilogue, wo_error *err) {
    wo_linear_args args = {.x = *in, .y = *out, .epilogue = epilogue};
    int64_t rows = params[0].shape[0];
    args.w = wo_tensor_as(&params[0], rows, wo_tensor_count(&params[0]) / rows);
    if (layer->params > 1)
        args.bias = params[1];
    if (epilogue == WO_EPILOGUE_ADD)
        args.other = *out;
    size_t workspace = wo_linear_workspace(wo_exec_device(x), &args);
    if (workspace > 0)
        WO_TRY(wo_exec_new(x, &args.workspace, err, WO_U8, (int64_t)workspace));
    WO_TRY(wo_linear(wo_exec_stream(x), &args, err));
    wo_exec_free(x, &args.workspace);
    return WO_OK;
}

static wo_status toy_apply(wo_exec *x, const wo_layer *layer, const wo_tensor *in, const wo_tensor *out, wo_epilogue epilogue, wo_error *err) {
    const wo_tensor *params;
    WO_TRY(wo_exec_use(x, layer, &params, err));
    WO_TRY(toy_linear(x, layer, params, in, out, epilogue, err));
    return wo_exec_done(x, layer, err);
}

static wo_status toy_text(const toy_model *m, wo_exec *x, int i, const float *text, const wo_tensor *out, wo_error *err) {
    wo_tensor in;
    WO_TRY(wo_exec_new(x, &in, err, WO_F32, TOY_ROWS, TOY_D));
    WO_TRY(wo_exec_upload(x, &in, text, err));
    WO_TRY(toy_apply(x, m->block[i].text, &in, out, WO_EPILOGUE_NONE, err));
    wo_exec_free(x, &in);
    return WO_OK;
}

static wo_status toy_kept_text(wo_exec *x, int i, wo_tensor *out, wo_error *err) {
    bool fresh;
    return wo_exec_keep(x, (uint64_t)i, false, WO_F32, 2, (int64_t[]){TOY_ROWS, TOY_D}, out, &fresh, err);
}

static inline wo_status toy_prepare(const toy_model *m, wo_exec *x, const toy_request *r, wo_error *err) {
    wo_tensor kept;
    for (int i = 0; i < TOY_BLOCKS && wo_exec_knobs(x)->cache_text; i++) {
        WO_TRY(toy_kept_text(x, i, &kept, err));
        WO_TRY(toy_text(m, x, i, r->text, &kept, err));
    }
    return WO_OK;
}

static wo_status toy_add_text(const toy_model *m, wo_exec *x, int i, const toy_request *r, const wo_tensor *to, wo_error *err) {
    bool cached = wo_exec_knobs(x)->cache_text;
    wo_tensor text;
    if (cached) {
        WO_TRY(toy_kept_text(x, i, &text, err));
    } else {
        WO_TRY(wo_exec_new(x, &text, err, WO_F32, TOY_ROWS, TOY_D));
        WO_TRY(toy_text(m, x, i, r->text, &text, err));
    }
    wo_add_args add = {.a = *to, .b = text, .y = *to};
    WO_TRY(wo_add(wo_exec_stream(x), &add, err));
    if (!cached)
        wo_exec_free(x, &text);
    return WO_OK;
}

/* Both layers are in use while chunks of rows go through them. */
static wo_status toy_feed_forward(const toy_block *b, wo_exec *x, const wo_tensor *to, wo_error *err) {
    const wo_tensor *up, *down;
    int64_t chunk = wo_exec_knobs(x)->row_chunk;
    chunk = chunk > 0 && chunk < TOY_ROWS ? chunk : TOY_ROWS;
    WO_TRY(wo_exec_use(x, b->up, &up, err));
    WO_TRY(wo_exec_use(x, b->down, &down, err));
    for (int64_t at = 0; at < TOY_ROWS; at += chunk) {
        int64_t rows = chunk < TOY_ROWS - at ? chunk : TOY_ROWS - at;
        wo_tensor part = wo_tensor_rows(to, at, rows), hidden;
        WO_TRY(wo_exec_new(x, &hidden, err, WO_F32, rows, TOY_H));
        WO_TRY(toy_linear(x, b->up, up, &part, &hidden, WO_EPILOGUE_GELU_TANH, err));
        WO_TRY(toy_linear(x, b->down, down, &hidden, &part, WO_EPILOGUE_ADD, err));
        wo_exec_free(x, &hidden);
    }
    WO_TRY(wo_exec_done(x, b->up, err));
    return wo_exec_done(x, b->down, err);
}

static wo_status toy_run_block(const toy_model *m, wo_exec *x, int i, const toy_request *r, const wo_tensor *to, wo_error *err) {
    const toy_block *b = &m->block[i];
    const wo_tensor *params;
    wo_tensor normed, gate;
    WO_TRY(wo_exec_new(x, &normed, err, WO_F32, TOY_ROWS, TOY_D));
    WO_TRY(wo_exec_use(x, b->norm, &params, err));
    wo_rms_norm_args norm = {.x = *to, .weight = params[0], .y = normed, .eps = 1e-6f};
    WO_TRY(wo_rms_norm(wo_exec_stream(x), &norm, err));
    WO_TRY(wo_exec_done(x, b->norm, err));
    WO_TRY(toy_apply(x, b->conv, &normed, to, WO_EPILOGUE_ADD, err));
    WO_TRY(wo_exec_new(x, &gate, err, WO_F32, TOY_ROWS, TOY_D));
    wo_exec_free(x, &normed);
    WO_TRY(toy_apply(x, m->shared, to, &gate, WO_EPILOGUE_SILU, err));
    wo_add_args add = {.a = *to, .b = gate, .y = *to};
    WO_TRY(wo_add(wo_exec_stream(x), &add, err));
    wo_exec_free(x, &gate);
    WO_TRY(toy_add_text(m, x, i, r, to, err));
    return toy_feed_forward(b, x, to, err);
}

/* to += state of the step before; the new state is to. */
static wo_status toy_state(wo_exec *x, const wo_tensor *to, wo_error *err) {
    bool host = wo_exec_knobs(x)->state_on_host, fresh;
    wo_tensor kept, here;
    WO_TRY(wo_exec_keep(x, TOY_KEEP_STATE, host, WO_F32, 2, to->shape, &kept, &fresh, err));
    wo_stream *s = wo_exec_stream(x);
    if (fresh)
        WO_TRY(s->device->stream->zero(s, kept.data, wo_tensor_bytes(&kept), err));
    WO_TRY(wo_exec_new(x, &here, err, WO_F32, TOY_ROWS, TOY_D));
    WO_TRY(wo_exec_copy(x, &here, &kept, err));
    wo_add_args add = {.a = *to, .b = here, .y = *to};
    WO_TRY(wo_add(s, &add, err));
    wo_exec_free(x, &here);
    return wo_exec_copy(x, &kept, to, err);
}

static inline wo_status toy_step(const toy_model *m, wo_exec *x, const toy_request *r, wo_error *err) {
    wo_tensor latents, state, out;
    WO_TRY(wo_exec_new(x, &latents, err, WO_F32, TOY_ROWS, TOY_IN));
    WO_TRY(wo_exec_upload(x, &latents, r->latents, err));
    WO_TRY(wo_exec_new(x, &state, err, WO_F32, TOY_ROWS, TOY_D));
    WO_TRY(toy_apply(x, m->stem, &latents, &state, WO_EPILOGUE_NONE, err));
    wo_exec_free(x, &latents);
    WO_TRY(toy_state(x, &state, err));
    for (int i = 0; i < TOY_BLOCKS; i++)
        WO_TRY(toy_run_block(m, x, m->misuse == 1 && !wo_exec_is_dry(x) ? TOY_BLOCKS - 1 - i : i, r, &state, err));
    WO_TRY(wo_exec_new(x, &out, err, WO_F32, TOY_ROWS, TOY_D));
    WO_TRY(toy_apply(x, m->head, &state, &out, WO_EPILOGUE_NONE, err));
    WO_TRY(wo_exec_download(x, r->out, &out, err));
    wo_exec_free(x, &out);
    wo_exec_free(x, &state);
    return WO_OK;
}

static inline wo_status toy_forward(const void *model, wo_exec *x, int pass, const void *request, wo_error *err) {
    return pass == TOY_PREPARE ? toy_prepare(model, x, request, err) : toy_step(model, x, request, err);
}

/* ---- a run: prepare and some steps, each fed with the output of the one before ---- */

enum { TOY_STEPS = 3 };

typedef struct toy_result {
    float out[TOY_STEPS][TOY_ROWS * TOY_D];
    wo_report report;
    wo_plan_summary summary;
    wo_plan_pass pass[TOY_PASSES];
} toy_result;

static inline const float *toy_latents(void) {
    static float latents[TOY_ROWS * TOY_IN];
    uint64_t seed = 77;
    for (int i = 0; i < TOY_ROWS * TOY_IN; i++)
        latents[i] = (float)toy_random(&seed);
    return latents;
}

static inline const float *toy_text_input(void) {
    static float text[TOY_ROWS * TOY_D];
    uint64_t seed = 78;
    for (int i = 0; i < TOY_ROWS * TOY_D; i++)
        text[i] = (float)toy_random(&seed);
    return text;
}

static inline wo_status toy_plan(wo_engine *e, const toy_model *m, const wo_policy *policy, wo_plan **out, wo_error *err) {
    toy_request request = {.latents = NULL};
    return wo_plan_make(m->component, m, toy_forward, TOY_PASSES, &request, wo_engine_device(e), policy, out, err);
}

/* Runs prepare and the steps in an open exec. */
static inline wo_status toy_passes(wo_exec *x, const toy_model *m, toy_result *result, wo_error *err) {
    toy_request request = {.latents = toy_latents(), .text = toy_text_input()};
    WO_TRY(wo_exec_run(x, m, toy_forward, TOY_PREPARE, TOY_STEP, &request, err));
    for (int i = 0; i < TOY_STEPS; i++) {
        request.out = result->out[i];
        WO_TRY(wo_exec_run(x, m, toy_forward, TOY_STEP, i + 1 < TOY_STEPS ? TOY_STEP : -1, &request, err));
    }
    return WO_OK;
}

static inline wo_status toy_run_plan(wo_engine *e, const toy_model *m, wo_plan *plan, toy_result *result, wo_error *err) {
    wo_exec *x;
    wo_plan_summarize(plan, &result->summary);
    for (int i = 0; i < TOY_PASSES; i++)
        result->pass[i] = *wo_plan_pass_at(plan, i);
    WO_TRY(wo_exec_open(e, m->component, plan, &x, err));
    wo_status status = toy_passes(x, m, result, err);
    wo_exec_close(x, &result->report);
    return status;
}

static inline wo_status toy_run(wo_engine *e, const toy_model *m, const wo_policy *policy, toy_result *result, wo_error *err) {
    wo_plan *plan;
    memset(result, 0, sizeof *result);
    WO_TRY(toy_plan(e, m, policy, &plan, err));
    wo_status status = toy_run_plan(e, m, plan, result, err);
    wo_plan_release(plan);
    return status;
}

/* What resting on the host as codes saves, of the whole component. */
static inline size_t toy_saving(const wo_component *c) {
    size_t saving = 0;
    for (size_t i = 0; i < wo_component_layers(c); i++) {
        const wo_layer *layer = wo_component_layer(c, i);
        for (int32_t k = 0; k < layer->params && !layer->read_by_row; k++) {
            const size_t count = (size_t)wo_tensor_count(&layer->param[k].shape_of_use);
            if (layer->param[k].conversion.from == WO_F8_E4M3)
                saving += wo_arena_round(count * wo_dtype_size(layer->param[k].conversion.to)) - wo_arena_round(count);
        }
    }
    return saving;
}

static inline bool toy_same(const toy_result *a, const toy_result *b) {
    return memcmp(a->out, b->out, sizeof a->out) == 0;
}

#endif
