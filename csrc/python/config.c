/* Model configs: from the keys that diffusers and transformers write to the structs of model/model.h. A key that is missing
 * or out of range is a ValueError that names it. Keys that would change the network, and that only one value of is
 * implemented, are compared with that value where they are given; all others are ignored. */
#include "python/module.h"

#include <string.h>

enum { LARGEST = 1 << 20 };

/* Borrowed; NULL and no exception when the key is absent or None. */
static PyObject *look_up(PyObject *config, const char *key) {
    PyObject *name = PyUnicode_FromString(key);
    PyObject *value = name == NULL ? NULL : PyDict_GetItemWithError(config, name);
    Py_XDECREF(name);
    return value == Py_None ? NULL : value;
}

static PyObject *require(PyObject *config, const char *key) {
    PyObject *value = look_up(config, key);
    if (value == NULL && !PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "config: the key '%s' is missing", key);
    return value;
}

/* A wrong type in a file is a wrong value to whoever reads the file, so it is a ValueError here. */
static int as_value_error(int result) {
    if (result < 0 && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyObject *exception = wo_py_exception_take();
        PyErr_Format(PyExc_ValueError, "%S", exception);
        Py_DECREF(exception);
    }
    return result;
}

static int convert_int(PyObject *value, const char *key, int64_t most, int64_t *out) {
    char name[80];
    snprintf(name, sizeof name, "config: %s", key);
    return as_value_error(wo_py_int(value, name, 1, most, out));
}

static int get_int(PyObject *config, const char *key, int64_t most, int64_t *out) {
    PyObject *value = require(config, key);
    return value == NULL ? -1 : convert_int(value, key, most, out);
}

/* As get_int, with a value for an absent key. */
static int get_int_or(PyObject *config, const char *key, int64_t fallback, int64_t *out) {
    PyObject *value = look_up(config, key);
    *out = fallback;
    if (value == NULL)
        return PyErr_Occurred() ? -1 : 0;
    return convert_int(value, key, LARGEST, out);
}

static int get_eps(PyObject *config, const char *key, float *out) {
    PyObject *value = require(config, key);
    double eps;
    char name[80];
    snprintf(name, sizeof name, "config: %s", key);
    if (value == NULL || as_value_error(wo_py_real(value, name, 0.0, 1.0, &eps)) < 0)
        return -1;
    *out = (float)eps;
    return 0;
}

static int get_bool(PyObject *config, const char *key, bool *out) {
    PyObject *value = require(config, key);
    char name[80];
    snprintf(name, sizeof name, "config: %s", key);
    return value == NULL ? -1 : as_value_error(wo_py_bool(value, name, out));
}

/* ValueError unless the key is absent, None, or equal to the one value that is implemented (reference taken). */
static int only(PyObject *config, const char *key, PyObject *implemented) {
    PyObject *value = look_up(config, key);
    int equal = implemented == NULL || (value == NULL && PyErr_Occurred()) ? -1 : 1;
    if (equal > 0 && value != NULL) {
        PyObject *list = PyTuple_Check(value) ? PySequence_List(value) : Py_NewRef(value);
        equal = list == NULL ? -1 : PyObject_RichCompareBool(list, implemented, Py_EQ);
        Py_XDECREF(list);
    }
    if (equal == 0)
        PyErr_Format(PyExc_ValueError, "config: %s is %R, but this version supports only %R", key, value, implemented);
    Py_XDECREF(implemented);
    return equal > 0 ? 0 : -1;
}

/* ValueError when the key is given: what it stands for is not there. */
static int never(PyObject *config, const char *key, const char *meaning) {
    PyObject *value = look_up(config, key);
    if (value != NULL)
        PyErr_Format(PyExc_ValueError, "config: %s is %R: %s is not supported", key, value, meaning);
    return PyErr_Occurred() ? -1 : 0;
}

static int even(const char *key, int64_t value) {
    if (value % 2 == 0)
        return 0;
    PyErr_Format(PyExc_ValueError, "config: %s: wanted an even number, got %lld", key, (long long)value);
    return -1;
}

int wo_py_config_umt5(PyObject *config, wo_umt5_config *out) {
    int ok = get_int(config, "vocab_size", INT32_MAX, &out->vocab_size) == 0 &&
             get_int(config, "d_model", LARGEST, &out->d_model) == 0 &&
             get_int(config, "d_kv", LARGEST, &out->d_kv) == 0 && get_int(config, "d_ff", LARGEST, &out->d_ff) == 0 &&
             get_int(config, "num_layers", 4096, &out->num_layers) == 0 &&
             get_int(config, "num_heads", 4096, &out->num_heads) == 0 &&
             get_int(config, "relative_attention_num_buckets", 4096, &out->num_buckets) == 0 &&
             get_int(config, "relative_attention_max_distance", LARGEST, &out->max_distance) == 0 &&
             get_eps(config, "layer_norm_epsilon", &out->eps) == 0 &&
             only(config, "feed_forward_proj", PyUnicode_FromString("gated-gelu")) == 0;
    return ok ? 0 : -1;
}

int wo_py_config_clip(PyObject *config, wo_clip_config *out) {
    int ok = get_int(config, "hidden_size", LARGEST, &out->hidden_size) == 0 &&
             get_int(config, "intermediate_size", LARGEST, &out->intermediate_size) == 0 &&
             get_int(config, "num_hidden_layers", 4096, &out->num_layers) == 0 &&
             get_int(config, "num_attention_heads", 4096, &out->num_heads) == 0 &&
             get_int(config, "image_size", 4096, &out->image_size) == 0 &&
             get_int(config, "patch_size", 4096, &out->patch_size) == 0 &&
             get_int(config, "num_channels", 4096, &out->num_channels) == 0 &&
             get_eps(config, "layer_norm_eps", &out->eps) == 0 && require(config, "hidden_act") != NULL &&
             only(config, "hidden_act", PyUnicode_FromString("gelu")) == 0;
    return ok ? 0 : -1;
}

/* The three entries of conditioning on an image go together: a network that has one of them in another way is none that was published. */
static int get_images(PyObject *config, wo_transformer_config *out) {
    int64_t width = out->num_heads * out->head_dim, added;
    if (get_int_or(config, "image_dim", 0, &out->image_dim) < 0 || get_int_or(config, "added_kv_proj_dim", 0, &added) < 0 ||
        get_int_or(config, "pos_embed_seq_len", 0, &out->pos_embed_seq_len) < 0)
        return -1;
    if (out->image_dim == 0) /* As in diffusers, the table is part of the image embedder, and goes with it. */
        out->pos_embed_seq_len = 0;
    if (added == (out->image_dim > 0 ? width : 0))
        return 0;
    if (out->image_dim == 0)
        PyErr_Format(PyExc_ValueError, "config: added_kv_proj_dim is %lld, but image_dim is missing: there is nothing to project",
                     (long long)added);
    else if (added == 0)
        PyErr_Format(PyExc_ValueError, "config: image_dim is %lld, but added_kv_proj_dim is missing: wanted %lld", (long long)out->image_dim,
                     (long long)width);
    else
        PyErr_Format(PyExc_ValueError, "config: added_kv_proj_dim is %lld: wanted num_attention_heads * attention_head_dim, %lld",
                     (long long)added, (long long)width);
    return -1;
}

int wo_py_config_transformer(PyObject *config, wo_transformer_config *out) {
    int ok = get_int(config, "num_layers", 4096, &out->num_layers) == 0 &&
             get_int(config, "num_attention_heads", 4096, &out->num_heads) == 0 &&
             get_int(config, "attention_head_dim", LARGEST, &out->head_dim) == 0 &&
             even("attention_head_dim", out->head_dim) == 0 &&
             get_int(config, "ffn_dim", LARGEST, &out->ffn_dim) == 0 &&
             get_int(config, "in_channels", 4096, &out->in_channels) == 0 &&
             get_int_or(config, "out_channels", out->in_channels, &out->out_channels) == 0 &&
             get_int(config, "text_dim", LARGEST, &out->text_dim) == 0 &&
             get_int(config, "freq_dim", LARGEST, &out->freq_dim) == 0 && even("freq_dim", out->freq_dim) == 0 &&
             get_eps(config, "eps", &out->eps) == 0 && get_bool(config, "cross_attn_norm", &out->cross_attn_norm) == 0 &&
             only(config, "patch_size", Py_BuildValue("[iii]", 1, 2, 2)) == 0 &&
             only(config, "qk_norm", PyUnicode_FromString("rms_norm_across_heads")) == 0 &&
             get_images(config, out) == 0;
    return ok ? 0 : -1;
}

static int get_levels(PyObject *config, wo_vae_config *out) {
    PyObject *value = require(config, "dim_mult");
    PyObject *list = value == NULL ? NULL : wo_py_sequence(value, "config: dim_mult", "a list of integers");
    int result = list == NULL ? as_value_error(-1) : 0;
    out->levels = result == 0 ? PySequence_Fast_GET_SIZE(list) : 0;
    if (result == 0 && (out->levels < 1 || out->levels > 8)) {
        PyErr_Format(PyExc_ValueError, "config: dim_mult: wanted 1 to 8 factors, got %R", value);
        result = -1;
    }
    for (Py_ssize_t i = 0; result == 0 && i < out->levels; i++)
        result = convert_int(PySequence_Fast_GET_ITEM(list, i), "dim_mult", 1024, &out->dim_mult[i]);
    Py_XDECREF(list);
    return result;
}

/* The encoder's list of downsamplings is walked backwards by the decoder. */
static int get_upsamplings(PyObject *config, wo_vae_config *out) {
    PyObject *value = require(config, "temperal_downsample");
    const char *name = "config: temperal_downsample";
    PyObject *list = value == NULL ? NULL : wo_py_sequence(value, name, "a list of booleans");
    int result = list == NULL ? as_value_error(-1) : 0;
    if (result == 0 && PySequence_Fast_GET_SIZE(list) != out->levels - 1) {
        PyErr_Format(PyExc_ValueError, "%s: wanted %lld booleans (one less than dim_mult has), got %R", name,
                     (long long)(out->levels - 1), value);
        result = -1;
    }
    for (Py_ssize_t i = 0; result == 0 && i < out->levels - 1; i++) {
        PyObject *item = PySequence_Fast_GET_ITEM(list, out->levels - 2 - i);
        result = as_value_error(wo_py_bool(item, name, &out->temporal_upsample[i]));
    }
    Py_XDECREF(list);
    return result;
}

int wo_py_config_vae(PyObject *config, wo_py_kind half, wo_vae_config *out) {
    int64_t encoder_dim, decoder_dim;
    int ok = get_int(config, "base_dim", LARGEST, &encoder_dim) == 0 &&
             get_int_or(config, "decoder_base_dim", encoder_dim, &decoder_dim) == 0 &&
             get_int(config, "z_dim", LARGEST, &out->z_dim) == 0 &&
             get_int(config, "num_res_blocks", 1024, &out->num_res_blocks) == 0 &&
             get_int_or(config, "in_channels", 3, &out->in_channels) == 0 &&
             get_int_or(config, "out_channels", 3, &out->out_channels) == 0 && get_levels(config, out) == 0 &&
             get_upsamplings(config, out) == 0 && only(config, "attn_scales", PyList_New(0)) == 0 &&
             only(config, "is_residual", Py_NewRef(Py_False)) == 0 &&
             never(config, "patch_size", "a VAE with patches (WAN 2.2)") == 0;
    if (!ok)
        return -1;
    out->base_dim = half == WO_PY_VAE_ENCODER ? encoder_dim : decoder_dim;
    return 0;
}
