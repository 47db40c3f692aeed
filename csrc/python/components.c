/* Component and the networks behind it as Python objects. What differs between them are their plan methods. */
#include "python/module.h"

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
    wo_py_network *network = wo_py_network_new(state, kind, ((wo_py_store *)store)->store, config, dtype);
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

static const wo_py_network *network_of(PyObject *object) { return ((wo_py_component *)object)->network; }
static const wo_component *component_of(PyObject *object) { return network_of(object)->component; }

static PyObject *component_name(PyObject *object, void *Py_UNUSED(closure)) {
    return wo_py_text(wo_component_name(component_of(object)));
}

static PyObject *component_dtype(PyObject *object, void *Py_UNUSED(closure)) {
    return wo_py_text(wo_dtype_name(network_of(object)->dtype));
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

static PyObject *plan_request(PyObject *self, PyObject *second, PyObject *engine, wo_py_request *request, PyObject *policy) {
    if (wo_py_instance(engine, "engine", wo_py_state_of(self)->engine) < 0) {
        wo_py_request_fini(request);
        return NULL;
    }
    return wo_py_plan_new(self, second, engine, request, policy);
}

static PyObject *text_encoder_plan(PyObject *self, PyObject *args, PyObject *names) {
    static char *keywords[] = {"engine", "tokens", "policy", NULL};
    PyObject *engine, *tokens, *policy;
    wo_py_request request;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OOO:plan", keywords, &engine, &tokens, &policy) ||
        wo_py_request_umt5(tokens, &request) < 0)
        return NULL;
    return plan_request(self, NULL, engine, &request, policy);
}

static PyObject *image_encoder_plan(PyObject *self, PyObject *args, PyObject *names) {
    static char *keywords[] = {"engine", "images", "policy", NULL};
    PyObject *engine, *images, *policy;
    wo_py_request request;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OOO:plan", keywords, &engine, &images, &policy) ||
        wo_py_request_clip(images, &request) < 0)
        return NULL;
    return plan_request(self, NULL, engine, &request, policy);
}

static PyObject *transformer_plan(PyObject *self, PyObject *args, PyObject *names) {
    static char *keywords[] = {"engine", "frames", "height", "width", "text", "policy", "unfolded", "images", "second", NULL};
    PyObject *engine, *frames, *height, *width, *text, *policy, *unfolded = Py_False, *images = Py_None, *second = Py_None;
    wo_py_request request;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OOOOOO|OOO:plan", keywords, &engine, &frames, &height, &width, &text,
                                     &policy, &unfolded, &images, &second) ||
        (second != Py_None && wo_py_instance(second, "second", Py_TYPE(self)) < 0) ||
        wo_py_request_transformer(frames, height, width, text, unfolded, &request) < 0 ||
        wo_py_request_images(images, &network_of(self)->config.transformer, &request) < 0)
        return NULL;
    return plan_request(self, second == Py_None ? NULL : second, engine, &request, policy);
}

static PyObject *vae_decoder_plan(PyObject *self, PyObject *args, PyObject *names) {
    static char *keywords[] = {"engine", "height", "width", "policy", NULL};
    PyObject *engine, *height, *width, *policy;
    wo_py_request request;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OOOO:plan", keywords, &engine, &height, &width, &policy) ||
        wo_py_request_vae(height, width, &request) < 0)
        return NULL;
    return plan_request(self, NULL, engine, &request, policy);
}

static PyObject *vae_encoder_plan(PyObject *self, PyObject *args, PyObject *names) {
    static char *keywords[] = {"engine", "height", "width", "policy", NULL};
    PyObject *engine, *height, *width, *policy;
    wo_py_request request;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OOOO:plan", keywords, &engine, &height, &width, &policy) ||
        wo_py_request_vae_encode(height, width, wo_vae_spatial_scale(&network_of(self)->config.vae), &request) < 0)
        return NULL;
    return plan_request(self, NULL, engine, &request, policy);
}

static PyObject *vae_frames_per_latent(PyObject *object, void *Py_UNUSED(closure)) {
    return PyLong_FromLongLong(wo_vae_frames_per_latent(&network_of(object)->config.vae));
}

static PyObject *vae_spatial_scale(PyObject *object, void *Py_UNUSED(closure)) {
    return PyLong_FromLongLong(wo_vae_spatial_scale(&network_of(object)->config.vae));
}

static PyObject *image_encoder_tokens(PyObject *object, void *Py_UNUSED(closure)) {
    return PyLong_FromLongLong(wo_clip_tokens(&network_of(object)->config.clip));
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
PyDoc_STRVAR(image_encoder_doc,
             "ImageEncoder(store, config, dtype)\n--\n\n"
             "A CLIP vision encoder up to its last block but one. dtype: float32, bfloat16 or float16.\n\n"
             "config: CLIP's vision config (hidden_size intermediate_size num_hidden_layers num_attention_heads\n"
             "image_size patch_size num_channels layer_norm_eps hidden_act).");
PyDoc_STRVAR(transformer_doc,
             "Transformer(store, config, dtype)\n--\n\n"
             "A WAN transformer. dtype: float32, bfloat16 or float16.\n\n"
             "config: diffusers' WanTransformer3DModel config (num_layers num_attention_heads attention_head_dim\n"
             "ffn_dim in_channels out_channels text_dim freq_dim eps cross_attn_norm; optional: image_dim with\n"
             "added_kv_proj_dim, and pos_embed_seq_len).");
PyDoc_STRVAR(vae_decoder_doc,
             "VaeDecoder(store, config, dtype)\n--\n\n"
             "A WAN VAE's decoder. dtype: float32, bfloat16 or float16.\n\n"
             "config: diffusers' AutoencoderKLWan config (base_dim z_dim dim_mult num_res_blocks temperal_downsample;\n"
             "optional: decoder_base_dim, else base_dim; out_channels, else 3).");
PyDoc_STRVAR(vae_encoder_doc,
             "VaeEncoder(store, config, dtype)\n--\n\n"
             "A WAN VAE's encoder. dtype: float32, bfloat16 or float16.\n\n"
             "config: diffusers' AutoencoderKLWan config (base_dim z_dim dim_mult num_res_blocks temperal_downsample;\n"
             "optional: in_channels, else 3).");
PyDoc_STRVAR(text_encoder_plan_doc, "plan($self, engine, tokens, policy)\n--\n\n"
                                    "tokens: real tokens of each prompt.");
PyDoc_STRVAR(image_encoder_plan_doc, "plan($self, engine, images, policy)\n--\n\n"
                                     "images: how many are encoded at once.");
PyDoc_STRVAR(transformer_plan_doc,
             "plan($self, engine, frames, height, width, text, policy, unfolded=False, images=None, second=None)\n--\n\n"
             "frames, height, width of the latents; text: (rows, real) of each batch item; images: rows of an image\n"
             "embedding, and the index of the embedding that each batch item attends to. second: another Transformer of\n"
             "the same shape that takes turns with this one in one Exec, sharing ring and arena.");
PyDoc_STRVAR(vae_decoder_plan_doc, "plan($self, engine, height, width, policy)\n--\n\nheight, width of the latents.");
PyDoc_STRVAR(vae_encoder_plan_doc, "plan($self, engine, height, width, policy)\n--\n\n"
                                   "height, width of the frames, multiples of spatial_scale.");

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
    {Py_tp_doc, "A network bound to a checkpoint. Base of those below."},
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

static PyMethodDef image_encoder_methods[] = {
    {"plan", WO_PY_METHOD(image_encoder_plan), METH_VARARGS | METH_KEYWORDS, image_encoder_plan_doc},
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

static PyMethodDef vae_encoder_methods[] = {
    {"plan", WO_PY_METHOD(vae_encoder_plan), METH_VARARGS | METH_KEYWORDS, vae_encoder_plan_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef image_encoder_properties[] = {
    {"tokens", image_encoder_tokens, NULL, "Rows of an embedding: one per patch, and the class.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef vae_properties[] = {
    {"frames_per_latent", vae_frames_per_latent, NULL, "Frames that each latent frame but the first stands for.", NULL},
    {"spatial_scale", vae_spatial_scale, NULL, "Pixels per latent along height and width.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef no_properties[] = {{NULL, NULL, NULL, NULL, NULL}};

int wo_py_network_types(PyObject *module, wo_py_state *state) {
    const struct {
        const char *name, *doc;
        PyMethodDef *methods;
        PyGetSetDef *properties;
    } rows[WO_PY_KINDS] = {
        [WO_PY_TEXT_ENCODER] = {"wanoffload._core.TextEncoder", text_encoder_doc, text_encoder_methods, no_properties},
        [WO_PY_IMAGE_ENCODER] = {"wanoffload._core.ImageEncoder", image_encoder_doc, image_encoder_methods,
                                 image_encoder_properties},
        [WO_PY_TRANSFORMER] = {"wanoffload._core.Transformer", transformer_doc, transformer_methods, no_properties},
        [WO_PY_VAE_DECODER] = {"wanoffload._core.VaeDecoder", vae_decoder_doc, vae_decoder_methods, vae_properties},
        [WO_PY_VAE_ENCODER] = {"wanoffload._core.VaeEncoder", vae_encoder_doc, vae_encoder_methods, vae_properties},
    };
    for (size_t i = 0; i < WO_PY_KINDS; i++) {
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
