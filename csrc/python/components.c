/* Component and the three networks. What differs between them stands in one table of functions and in their plan methods. */
#include "python/module.h"

/* ---- networks ---- */

static wo_status create_umt5(wo_store *store, wo_py_network *n, wo_error *err) {
    wo_umt5 *model = NULL;
    WO_TRY(wo_umt5_create(store, &n->config.umt5, n->dtype, &model, err));
    n->model = model;
    n->component = wo_umt5_component(model);
    return WO_OK;
}

static wo_status create_transformer(wo_store *store, wo_py_network *n, wo_error *err) {
    wo_transformer *model = NULL;
    WO_TRY(wo_transformer_create(store, &n->config.transformer, n->dtype, &model, err));
    n->model = model;
    n->component = wo_transformer_component(model);
    return WO_OK;
}

static wo_status create_vae(wo_store *store, wo_py_network *n, wo_error *err) {
    wo_vae_decoder *model = NULL;
    WO_TRY(wo_vae_decoder_create(store, &n->config.vae, n->dtype, &model, err));
    n->model = model;
    n->component = wo_vae_decoder_component(model);
    return WO_OK;
}

static void destroy_umt5(void *model) { wo_umt5_destroy(model); }
static void destroy_transformer(void *model) { wo_transformer_destroy(model); }
static void destroy_vae(void *model) { wo_vae_decoder_destroy(model); }
static int config_umt5(PyObject *config, wo_py_network *n) { return wo_py_config_umt5(config, &n->config.umt5); }
static int config_vae(PyObject *config, wo_py_network *n) { return wo_py_config_vae(config, &n->config.vae); }
static int config_transformer(PyObject *config, wo_py_network *n) {
    return wo_py_config_transformer(config, &n->config.transformer);
}

static const struct {
    int (*config)(PyObject *config, wo_py_network *n);
    wo_status (*create)(wo_store *store, wo_py_network *n, wo_error *err);
    void (*destroy)(void *model);
    wo_forward_fn forward;
    int passes;
} kinds[] = {
    [WO_PY_TEXT_ENCODER] = {config_umt5, create_umt5, destroy_umt5, wo_umt5_forward, WO_UMT5_PASSES},
    [WO_PY_TRANSFORMER] = {config_transformer, create_transformer, destroy_transformer, wo_transformer_forward,
                           WO_TRANSFORMER_PASSES},
    [WO_PY_VAE_DECODER] = {config_vae, create_vae, destroy_vae, wo_vae_decoder_forward, WO_VAE_PASSES},
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

/* NULL with an exception. */
static wo_py_network *network_new(wo_py_state *state, wo_py_kind kind, wo_store *store, PyObject *config, PyObject *dtype) {
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

/* ---- the Python objects ---- */

static PyObject *component_new(PyTypeObject *type, PyObject *args, PyObject *names) {
    static char *keywords[] = {"store", "config", "dtype", NULL};
    PyObject *store, *config, *dtype;
    wo_py_state *state = PyType_GetModuleState(type);
    if (!PyArg_ParseTupleAndKeywords(args, names, "OOO", keywords, &store, &config, &dtype) ||
        wo_py_instance(store, "store", state->store) < 0)
        return NULL;
    wo_py_kind kind = WO_PY_TEXT_ENCODER;
    while (state->networks[kind] != type)
        kind++;
    wo_py_network *network = network_new(state, kind, ((wo_py_store *)store)->store, config, dtype);
    if (network == NULL)
        return NULL;
    wo_py_component *self = (wo_py_component *)type->tp_alloc(type, 0);
    if (self == NULL) {
        wo_py_network_release(network);
        return NULL;
    }
    self->network = network;
    self->store = Py_NewRef(store);
    return (PyObject *)self;
}

static void component_dealloc(PyObject *object) {
    wo_py_component *self = (wo_py_component *)object;
    PyTypeObject *type = Py_TYPE(object);
    self->network->abandoned = true;
    wo_py_engines_abandon(wo_py_state_of(object), self->network);
    wo_py_network_release(self->network);
    Py_DECREF(self->store);
    type->tp_free(object);
    Py_DECREF(type);
}

static const wo_component *component_of(PyObject *object) { return ((wo_py_component *)object)->network->component; }

static PyObject *component_name(PyObject *object, void *Py_UNUSED(closure)) {
    return wo_py_text(wo_component_name(component_of(object)));
}

static PyObject *component_dtype(PyObject *object, void *Py_UNUSED(closure)) {
    return wo_py_text(wo_dtype_name(((wo_py_component *)object)->network->dtype));
}

static PyObject *component_bytes(PyObject *object, void *Py_UNUSED(closure)) {
    return PyLong_FromSize_t(wo_component_bytes(component_of(object)));
}

static PyObject *block_name(const wo_component *c, int32_t block) {
    if (block < 0)
        Py_RETURN_NONE;
    return wo_py_text(wo_component_block_name(c, (size_t)block));
}

static PyObject *layer_dict(const wo_component *c, const wo_layer *layer) {
    PyObject *params = PyList_New(0), *dict = PyDict_New();
    bool ok = params != NULL && dict != NULL;
    for (int i = 0; ok && i < layer->params; i++)
        ok = wo_py_append(params, wo_py_text(layer->param[i].entry->name)) == 0;
    ok = ok && wo_py_put(dict, "name", wo_py_text(layer->name)) == 0 &&
         wo_py_put(dict, "block", block_name(c, layer->block)) == 0 &&
         wo_py_put(dict, "bytes", PyLong_FromSize_t(layer->bytes)) == 0 &&
         wo_py_put(dict, "params", Py_NewRef(params)) == 0 &&
         wo_py_put(dict, "read_by_row", PyBool_FromLong(layer->read_by_row)) == 0;
    Py_XDECREF(params);
    if (!ok)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *component_layers(PyObject *object, PyObject *Py_UNUSED(none)) {
    const wo_component *c = component_of(object);
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < wo_component_layers(c); i++)
        if (wo_py_append(list, layer_dict(c, wo_component_layer(c, i))) < 0)
            Py_CLEAR(list);
    return list;
}

static PyObject *component_blocks(PyObject *object, PyObject *Py_UNUSED(none)) {
    const wo_component *c = component_of(object);
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < wo_component_blocks(c); i++)
        if (wo_py_append(list, block_name(c, (int32_t)i)) < 0)
            Py_CLEAR(list);
    return list;
}

static PyObject *component_unused(PyObject *object, PyObject *Py_UNUSED(none)) {
    const wo_component *c = component_of(object);
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < wo_component_unused(c); i++) {
        const wo_unused *unused = wo_component_unused_at(c, i);
        PyObject *name = wo_py_text(unused->name), *reason = wo_py_text(unused->reason);
        PyObject *pair = name == NULL || reason == NULL ? NULL : PyTuple_Pack(2, name, reason);
        Py_XDECREF(name);
        Py_XDECREF(reason);
        if (wo_py_append(list, pair) < 0)
            Py_CLEAR(list);
    }
    return list;
}

/* ---- plan(): the request differs, the rest does not ---- */

static PyObject *plan_request(PyObject *self, PyObject *engine, wo_py_request *request, PyObject *policy) {
    if (wo_py_instance(engine, "engine", wo_py_state_of(self)->engine) < 0) {
        wo_py_request_fini(request);
        return NULL;
    }
    return wo_py_plan_new(self, engine, request, policy);
}

static PyObject *text_encoder_plan(PyObject *self, PyObject *args, PyObject *names) {
    static char *keywords[] = {"engine", "tokens", "policy", NULL};
    PyObject *engine, *tokens, *policy;
    wo_py_request request;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OOO:plan", keywords, &engine, &tokens, &policy) ||
        wo_py_request_umt5(tokens, &request) < 0)
        return NULL;
    return plan_request(self, engine, &request, policy);
}

static PyObject *transformer_plan(PyObject *self, PyObject *args, PyObject *names) {
    static char *keywords[] = {"engine", "frames", "height", "width", "text", "policy", "unfolded", NULL};
    PyObject *engine, *frames, *height, *width, *text, *policy, *unfolded = Py_False;
    wo_py_request request;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OOOOOO|O:plan", keywords, &engine, &frames, &height, &width, &text,
                                     &policy, &unfolded) ||
        wo_py_request_transformer(frames, height, width, text, unfolded, &request) < 0)
        return NULL;
    return plan_request(self, engine, &request, policy);
}

static PyObject *vae_decoder_plan(PyObject *self, PyObject *args, PyObject *names) {
    static char *keywords[] = {"engine", "height", "width", "policy", NULL};
    PyObject *engine, *height, *width, *policy;
    wo_py_request request;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OOOO:plan", keywords, &engine, &height, &width, &policy) ||
        wo_py_request_vae(height, width, &request) < 0)
        return NULL;
    return plan_request(self, engine, &request, policy);
}

static PyObject *vae_decoder_frames(PyObject *object, void *Py_UNUSED(closure)) {
    return PyLong_FromLongLong(wo_vae_frames_per_latent(&((wo_py_component *)object)->network->config.vae));
}

static PyObject *vae_decoder_scale(PyObject *object, void *Py_UNUSED(closure)) {
    return PyLong_FromLongLong(wo_vae_spatial_scale(&((wo_py_component *)object)->network->config.vae));
}

/* ---- types ---- */

PyDoc_STRVAR(layers_doc, "layers($self, /)\n--\n\n"
                         "One dict per layer in execution order: name, block (name or None), bytes, params (names),\n"
                         "read_by_row.");
PyDoc_STRVAR(blocks_doc, "blocks($self, /)\n--\n\nNames of the blocks in execution order.");
PyDoc_STRVAR(unused_doc, "unused($self, /)\n--\n\n"
                         "(tensor, reason) for every tensor of the checkpoint that is never read.");
PyDoc_STRVAR(text_encoder_doc,
             "TextEncoder(store, config, dtype)\n--\n\n"
             "A UMT5 encoder. dtype: float32, bfloat16 or float16.\n\n"
             "config: vocab_size d_model d_kv d_ff num_layers num_heads relative_attention_num_buckets\n"
             "relative_attention_max_distance layer_norm_epsilon.");
PyDoc_STRVAR(transformer_doc,
             "Transformer(store, config, dtype)\n--\n\n"
             "A WAN transformer. dtype: float32, bfloat16 or float16.\n\n"
             "config: diffusers' WanTransformer3DModel config (num_layers num_attention_heads attention_head_dim\n"
             "ffn_dim in_channels out_channels text_dim freq_dim eps cross_attn_norm).");
PyDoc_STRVAR(vae_decoder_doc,
             "VaeDecoder(store, config, dtype)\n--\n\n"
             "A WAN VAE's decoder. dtype: float32, bfloat16 or float16.\n\n"
             "config: diffusers' AutoencoderKLWan config (base_dim z_dim dim_mult num_res_blocks temperal_downsample;\n"
             "optional: decoder_base_dim, else base_dim; out_channels, else 3).");
PyDoc_STRVAR(text_encoder_plan_doc, "plan($self, engine, tokens, policy)\n--\n\n"
                                    "tokens: real tokens of each prompt.");
PyDoc_STRVAR(transformer_plan_doc, "plan($self, engine, frames, height, width, text, policy, unfolded=False)\n--\n\n"
                                   "frames, height, width of the latents; text: (rows, real) of each batch item.");
PyDoc_STRVAR(vae_decoder_plan_doc, "plan($self, engine, height, width, policy)\n--\n\nheight, width of the latents.");

static PyMethodDef methods[] = {
    {"layers", component_layers, METH_NOARGS, layers_doc},
    {"blocks", component_blocks, METH_NOARGS, blocks_doc},
    {"unused", component_unused, METH_NOARGS, unused_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef properties[] = {
    {"name", component_name, NULL, "What plans and reports call it.", NULL},
    {"dtype", component_dtype, NULL, "Dtype of use.", NULL},
    {"bytes", component_bytes, NULL, "Weight bytes in the dtype of use, embedding tables left out.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot component_slots[] = {
    {Py_tp_doc, "A network bound to a checkpoint. Base of the three below."},
    {Py_tp_dealloc, component_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {0, NULL},
};

static PyType_Spec component_spec = {
    .name = "wanoffload._core.Component",
    .basicsize = sizeof(wo_py_component),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = component_slots,
};

PyTypeObject *wo_py_component_type(PyObject *module) {
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &component_spec, NULL);
}

static PyMethodDef text_encoder_methods[] = {
    {"plan", WO_PY_METHOD(text_encoder_plan), METH_VARARGS | METH_KEYWORDS, text_encoder_plan_doc},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef transformer_methods[] = {
    {"plan", WO_PY_METHOD(transformer_plan), METH_VARARGS | METH_KEYWORDS, transformer_plan_doc},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef vae_decoder_methods[] = {
    {"plan", WO_PY_METHOD(vae_decoder_plan), METH_VARARGS | METH_KEYWORDS, vae_decoder_plan_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef vae_decoder_properties[] = {
    {"frames_per_latent", vae_decoder_frames, NULL, "Frames that each latent frame but the first becomes.", NULL},
    {"spatial_scale", vae_decoder_scale, NULL, "Pixels per latent along height and width.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef no_properties[] = {{NULL, NULL, NULL, NULL, NULL}};

int wo_py_network_types(PyObject *module, wo_py_state *state) {
    const struct {
        const char *name, *doc;
        PyMethodDef *methods;
        PyGetSetDef *properties;
    } rows[] = {
        [WO_PY_TEXT_ENCODER] = {"wanoffload._core.TextEncoder", text_encoder_doc, text_encoder_methods, no_properties},
        [WO_PY_TRANSFORMER] = {"wanoffload._core.Transformer", transformer_doc, transformer_methods, no_properties},
        [WO_PY_VAE_DECODER] = {"wanoffload._core.VaeDecoder", vae_decoder_doc, vae_decoder_methods,
                               vae_decoder_properties},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PyType_Slot slots[] = {
            {Py_tp_doc, (void *)rows[i].doc}, {Py_tp_new, component_new},         {Py_tp_methods, rows[i].methods},
            {Py_tp_getset, rows[i].properties}, {Py_tp_dealloc, component_dealloc}, {0, NULL},
        };
        PyType_Spec spec = {
            .name = rows[i].name,
            .basicsize = sizeof(wo_py_component),
            .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
            .slots = slots,
        };
        state->networks[i] = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, (PyObject *)state->component);
        if (state->networks[i] == NULL)
            return -1;
    }
    return 0;
}
