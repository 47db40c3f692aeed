/* Networks: the models of model/model.h behind one face. What differs between them stands in one table of functions. */
#include "python/module.h"

static wo_status create_umt5(wo_store *store, wo_py_network *n, wo_error *err) {
    wo_umt5 *model = NULL;
    WO_TRY(wo_umt5_create(store, &n->config.umt5, n->dtype, &model, err));
    n->model = model;
    n->component = wo_umt5_component(model);
    return WO_OK;
}

static wo_status create_clip(wo_store *store, wo_py_network *n, wo_error *err) {
    wo_clip *model = NULL;
    WO_TRY(wo_clip_create(store, &n->config.clip, n->dtype, &model, err));
    n->model = model;
    n->component = wo_clip_component(model);
    return WO_OK;
}

static wo_status create_transformer(wo_store *store, wo_py_network *n, wo_error *err) {
    wo_transformer *model = NULL;
    WO_TRY(wo_transformer_create(store, &n->config.transformer, n->dtype, &model, err));
    n->model = model;
    n->component = wo_transformer_component(model);
    return WO_OK;
}

static wo_status create_vae_decoder(wo_store *store, wo_py_network *n, wo_error *err) {
    wo_vae_decoder *model = NULL;
    WO_TRY(wo_vae_decoder_create(store, &n->config.vae, n->dtype, &model, err));
    n->model = model;
    n->component = wo_vae_decoder_component(model);
    return WO_OK;
}

static wo_status create_vae_encoder(wo_store *store, wo_py_network *n, wo_error *err) {
    wo_vae_encoder *model = NULL;
    WO_TRY(wo_vae_encoder_create(store, &n->config.vae, n->dtype, &model, err));
    n->model = model;
    n->component = wo_vae_encoder_component(model);
    return WO_OK;
}

static void destroy_umt5(void *model) { wo_umt5_destroy(model); }
static void destroy_clip(void *model) { wo_clip_destroy(model); }
static void destroy_transformer(void *model) { wo_transformer_destroy(model); }
static void destroy_vae_decoder(void *model) { wo_vae_decoder_destroy(model); }
static void destroy_vae_encoder(void *model) { wo_vae_encoder_destroy(model); }

static int config_umt5(PyObject *config, wo_py_network *n) { return wo_py_config_umt5(config, &n->config.umt5); }
static int config_clip(PyObject *config, wo_py_network *n) { return wo_py_config_clip(config, &n->config.clip); }
static int config_vae(PyObject *config, wo_py_network *n) { return wo_py_config_vae(config, n->kind, &n->config.vae); }
static int config_transformer(PyObject *config, wo_py_network *n) {
    return wo_py_config_transformer(config, &n->config.transformer);
}

static const struct {
    int (*config)(PyObject *config, wo_py_network *n);
    wo_status (*create)(wo_store *store, wo_py_network *n, wo_error *err);
    void (*destroy)(void *model);
    wo_forward_fn forward;
    int passes;
} kinds[WO_PY_KINDS] = {
    [WO_PY_TEXT_ENCODER] = {config_umt5, create_umt5, destroy_umt5, wo_umt5_forward, WO_UMT5_PASSES},
    [WO_PY_IMAGE_ENCODER] = {config_clip, create_clip, destroy_clip, wo_clip_forward, WO_CLIP_PASSES},
    [WO_PY_TRANSFORMER] = {config_transformer, create_transformer, destroy_transformer, wo_transformer_forward,
                           WO_TRANSFORMER_PASSES},
    [WO_PY_VAE_DECODER] = {config_vae, create_vae_decoder, destroy_vae_decoder, wo_vae_decoder_forward, WO_VAE_PASSES},
    [WO_PY_VAE_ENCODER] = {config_vae, create_vae_encoder, destroy_vae_encoder, wo_vae_encoder_forward,
                           WO_VAE_ENCODE_PASSES},
};

wo_forward_fn wo_py_network_forward(const wo_py_network *network) { return kinds[network->kind].forward; }
int wo_py_network_passes(const wo_py_network *network) { return kinds[network->kind].passes; }

void wo_py_network_release(wo_py_network *network) {
    if (--network->holders > 0)
        return;
    if (network->model != NULL)
        kinds[network->kind].destroy(network->model);
    PyMem_Free(network);
}

wo_py_network *wo_py_network_new(wo_py_state *state, wo_py_kind kind, wo_store *store, PyObject *config, PyObject *dtype) {
    wo_py_network *network = PyMem_Calloc(1, sizeof *network);
    if (network == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    network->kind = kind;
    network->holders = 1;
    wo_error err;
    wo_status status = WO_OK;
    PyObject *dict = wo_py_mapping(config, "config");
    int result = dict == NULL ? -1 : kinds[kind].config(dict, network);
    Py_XDECREF(dict);
    if (result == 0)
        result = wo_py_dtype(dtype, "dtype", &network->dtype);
    if (result == 0 && (status = kinds[kind].create(store, network, &err)) != WO_OK)
        result = wo_py_raise(state, status, &err);
    if (result == 0)
        return network;
    wo_py_network_release(network);
    return NULL;
}
