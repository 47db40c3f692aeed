/* Requests: the sizes that a plan is made for, and that an Exec under that plan then works on. */
#include "python/module.h"

enum { LARGEST_SIDE = 1 << 16, MOST_TOKENS = 1 << 20, MOST_ITEMS = 1 << 16 };

/* A list of at least one and at most MOST_ITEMS items. */
static PyObject *some_items(PyObject *value, const char *name, const char *wanted) {
    PyObject *list = wo_py_sequence(value, name, wanted);
    if (list == NULL)
        return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(list);
    if (count >= 1 && count <= MOST_ITEMS)
        return list;
    PyErr_Format(PyExc_ValueError, "%s: wanted 1 to %d items, got %zd", name, MOST_ITEMS, count);
    Py_DECREF(list);
    return NULL;
}

int wo_py_request_umt5(PyObject *tokens, wo_py_request *out) {
    *out = (wo_py_request){.text = NULL};
    PyObject *list = some_items(tokens, "tokens", "a list of integers");
    if (list == NULL)
        return -1;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(list);
    out->tokens = PyMem_Calloc((size_t)count, sizeof *out->tokens);
    int result = out->tokens == NULL ? (PyErr_NoMemory(), -1) : 0;
    for (Py_ssize_t i = 0; result == 0 && i < count; i++) {
        int64_t number = 0;
        result = wo_py_int(PySequence_Fast_GET_ITEM(list, i), "tokens", 1, MOST_TOKENS, &number);
        out->tokens[i] = (int32_t)number;
    }
    Py_DECREF(list);
    out->as.umt5 = (wo_umt5_request){.prompts = (int32_t)count, .tokens = out->tokens};
    if (result < 0)
        wo_py_request_fini(out);
    return result;
}

/* (rows, real) of one batch item. */
static int read_text_size(PyObject *item, wo_text *out) {
    PyObject *pair = wo_py_sequence(item, "text", "(rows, real) of each batch item");
    if (pair == NULL)
        return -1;
    int result = 0;
    if (PySequence_Fast_GET_SIZE(pair) != 2) {
        PyErr_Format(PyExc_ValueError, "text: wanted (rows, real) of each batch item, got %R", item);
        result = -1;
    }
    if (result == 0)
        result = wo_py_int(PySequence_Fast_GET_ITEM(pair, 0), "text: rows", 1, MOST_TOKENS, &out->rows);
    if (result == 0)
        result = wo_py_int(PySequence_Fast_GET_ITEM(pair, 1), "text: real", 0, out->rows, &out->real);
    Py_DECREF(pair);
    return result;
}

static int read_even(PyObject *value, const char *name, int64_t *out) {
    if (wo_py_int(value, name, 2, LARGEST_SIDE, out) < 0)
        return -1;
    if (*out % 2 == 0)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: wanted an even number of latents, got %lld", name, (long long)*out);
    return -1;
}

int wo_py_request_transformer(PyObject *frames, PyObject *height, PyObject *width, PyObject *text, PyObject *unfolded,
                              wo_py_request *out) {
    *out = (wo_py_request){.text = NULL};
    wo_transformer_request *r = &out->as.transformer;
    if (wo_py_int(frames, "frames", 1, LARGEST_SIDE, &r->frames) < 0 || read_even(height, "height", &r->height) < 0 ||
        read_even(width, "width", &r->width) < 0 || wo_py_bool(unfolded, "unfolded", &r->unfolded) < 0)
        return -1;
    PyObject *list = some_items(text, "text", "a list of (rows, real)");
    if (list == NULL)
        return -1;
    r->batch = PySequence_Fast_GET_SIZE(list);
    out->text = PyMem_Calloc((size_t)r->batch, sizeof *out->text);
    int result = out->text == NULL ? (PyErr_NoMemory(), -1) : 0;
    for (Py_ssize_t i = 0; result == 0 && i < r->batch; i++)
        result = read_text_size(PySequence_Fast_GET_ITEM(list, i), &out->text[i]);
    Py_DECREF(list);
    r->text = out->text;
    if (result < 0)
        wo_py_request_fini(out);
    return result;
}

/* Fills out->image_of from the index of each batch item; the embeddings are those up to the largest index. */
static int read_image_of(PyObject *value, wo_py_request *out) {
    wo_transformer_request *r = &out->as.transformer;
    PyObject *list = wo_py_sequence(value, "images", "the index of each batch item's embedding");
    if (list == NULL)
        return -1;
    int result = 0;
    if (PySequence_Fast_GET_SIZE(list) != r->batch) {
        PyErr_Format(PyExc_ValueError, "images: wanted the index of each of %lld batch items' embedding, got %zd",
                     (long long)r->batch, PySequence_Fast_GET_SIZE(list));
        result = -1;
    }
    out->image_of = result < 0 ? NULL : PyMem_Calloc((size_t)r->batch, sizeof *out->image_of);
    if (result == 0 && out->image_of == NULL)
        result = (PyErr_NoMemory(), -1);
    for (Py_ssize_t i = 0; result == 0 && i < r->batch; i++) {
        int64_t index = 0;
        result = wo_py_int(PySequence_Fast_GET_ITEM(list, i), "images: index", 0, r->batch - 1, &index);
        out->image_of[i] = (int32_t)index;
        if (index >= r->images.count)
            r->images.count = index + 1;
    }
    Py_DECREF(list);
    r->images.of = out->image_of;
    return result;
}

static int read_images(PyObject *images, const wo_transformer_config *config, wo_py_request *out) {
    wo_transformer_request *r = &out->as.transformer;
    if (config->image_dim == 0) {
        PyErr_SetString(PyExc_ValueError, "images: this transformer takes none (its config has no image_dim)");
        return -1;
    }
    PyObject *pair = wo_py_sequence(images, "images", "(rows, index of each batch item's embedding)");
    if (pair == NULL)
        return -1;
    int result = 0;
    if (PySequence_Fast_GET_SIZE(pair) != 2) {
        PyErr_Format(PyExc_ValueError, "images: wanted (rows, index of each batch item's embedding), got %R", images);
        result = -1;
    }
    int64_t table = config->pos_embed_seq_len;
    if (result == 0)
        result = wo_py_int(PySequence_Fast_GET_ITEM(pair, 0), "images: rows", table > 0 ? table : 1, table > 0 ? table : MOST_TOKENS,
                           &r->images.rows);
    if (result == 0)
        result = read_image_of(PySequence_Fast_GET_ITEM(pair, 1), out);
    Py_DECREF(pair);
    return result;
}

int wo_py_request_images(PyObject *images, const wo_transformer_config *config, wo_py_request *out) {
    if (images == Py_None || read_images(images, config, out) == 0)
        return 0;
    wo_py_request_fini(out);
    return -1;
}

int wo_py_request_clip(PyObject *images, wo_py_request *out) {
    *out = (wo_py_request){.text = NULL};
    int64_t count;
    if (wo_py_int(images, "images", 1, MOST_ITEMS, &count) < 0)
        return -1;
    out->as.clip.images = (int32_t)count;
    return 0;
}

int wo_py_request_vae(PyObject *height, PyObject *width, wo_py_request *out) {
    *out = (wo_py_request){.text = NULL};
    if (wo_py_int(height, "height", 1, LARGEST_SIDE, &out->as.vae.height) < 0 ||
        wo_py_int(width, "width", 1, LARGEST_SIDE, &out->as.vae.width) < 0)
        return -1;
    return 0;
}

/* A side of the frames, in whole latents. */
static int read_pixels(PyObject *value, const char *name, int64_t scale, int64_t *out) {
    if (wo_py_int(value, name, scale, LARGEST_SIDE, out) < 0)
        return -1;
    if (*out % scale == 0)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: wanted a multiple of %lld pixels, got %lld", name, (long long)scale, (long long)*out);
    return -1;
}

int wo_py_request_vae_encode(PyObject *height, PyObject *width, int64_t scale, wo_py_request *out) {
    *out = (wo_py_request){.text = NULL};
    if (read_pixels(height, "height", scale, &out->as.vae_encode.height) < 0 ||
        read_pixels(width, "width", scale, &out->as.vae_encode.width) < 0)
        return -1;
    return 0;
}

void wo_py_request_fini(wo_py_request *request) {
    PyMem_Free(request->text);
    PyMem_Free(request->image_of);
    PyMem_Free(request->tokens);
    request->text = NULL;
    request->image_of = NULL;
    request->tokens = NULL;
}
