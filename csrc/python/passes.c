/* The passes of each network. Each method checks its arguments against the sizes that the plan was made for, makes the arrays
 * that it will hand out, and runs one pass. Nothing gives the GIL away between the last check and the run. */
#include "python/exec.h"

#include <string.h>

/* ---- encode ---- */

/* Copies the ids of one prompt behind the others. */
static int read_ids(PyObject *item, int64_t tokens, int64_t vocabulary, int32_t *out) {
    static const char *const axes[] = {"tokens"};
    PyObject *array = wo_py_array_in(item, "ids", WO_I32, 1, &tokens, axes);
    if (array == NULL)
        return -1;
    memcpy(out, wo_py_array_data(array), (size_t)tokens * sizeof *out);
    Py_DECREF(array);
    for (int64_t i = 0; i < tokens; i++)
        if (out[i] < 0 || out[i] >= vocabulary) {
            PyErr_Format(PyExc_ValueError, "ids: wanted token ids from 0 to %lld, got %d", (long long)vocabulary - 1, out[i]);
            return -1;
        }
    return 0;
}

/* All ids one after the other, to be freed by the caller. */
static int32_t *read_prompts(PyObject *value, const wo_umt5_request *planned, int64_t vocabulary, int64_t *sum) {
    PyObject *list = wo_py_sequence(value, "ids", "a list of arrays");
    if (list == NULL)
        return NULL;
    int result = 0;
    if (PySequence_Fast_GET_SIZE(list) != planned->prompts) {
        PyErr_Format(PyExc_ValueError, "ids: wanted the plan's %d prompts, got %zd", planned->prompts,
                     PySequence_Fast_GET_SIZE(list));
        result = -1;
    }
    *sum = 0;
    for (int32_t i = 0; i < planned->prompts; i++)
        *sum += planned->tokens[i];
    int32_t *ids = result < 0 ? NULL : PyMem_Calloc((size_t)*sum, sizeof *ids);
    if (result == 0 && ids == NULL)
        result = (PyErr_NoMemory(), -1);
    int64_t at = 0;
    for (int32_t i = 0; result == 0 && i < planned->prompts; at += planned->tokens[i], i++)
        result = read_ids(PySequence_Fast_GET_ITEM(list, i), planned->tokens[i], vocabulary, ids + at);
    Py_DECREF(list);
    if (result == 0)
        return ids;
    PyMem_Free(ids);
    return NULL;
}

/* One new array per prompt from the rows of all. */
static PyObject *split_rows(PyObject *all, const wo_umt5_request *planned, int64_t columns) {
    const float *row = wo_py_array_data(all);
    PyObject *list = PyList_New(0);
    for (int32_t i = 0; list != NULL && i < planned->prompts; i++) {
        const int64_t shape[] = {planned->tokens[i], columns};
        PyObject *array = wo_py_array_new(2, shape);
        if (array != NULL)
            memcpy(wo_py_array_data(array), row, (size_t)(shape[0] * columns) * sizeof *row);
        row += shape[0] * columns;
        if (wo_py_append(list, array) < 0)
            Py_CLEAR(list);
    }
    return list;
}

PyObject *wo_py_exec_encode(PyObject *object, PyObject *args, PyObject *names) {
    static char *keywords[] = {"ids", NULL};
    wo_py_exec *self = (wo_py_exec *)object;
    PyObject *value, *result = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, names, "O:encode", keywords, &value) ||
        wo_py_exec_check(self, WO_PY_TEXT_ENCODER, "encode") < 0)
        return NULL;
    const wo_umt5_config *config = &wo_py_exec_network(self)->config.umt5;
    wo_umt5_request request = wo_py_exec_request(self)->as.umt5;
    int64_t sum;
    int32_t *ids = read_prompts(value, &request, config->vocab_size, &sum);
    if (ids == NULL)
        return NULL;
    const int64_t shape[] = {sum, config->d_model};
    PyObject *all = wo_py_array_new(2, shape);
    if (all != NULL) {
        request.ids = ids;
        request.out = wo_py_array_data(all);
        if (wo_py_exec_run(self, "encode", WO_UMT5_ENCODE, -1, &request) == 0)
            result = split_rows(all, &request, config->d_model);
    }
    Py_XDECREF(all);
    PyMem_Free(ids);
    return result;
}

/* ---- prepare and step ---- */

/* (rows, embeds) of one batch item, compared with the plan's sizes; keeps the array in embeds. */
static int read_text(PyObject *item, const wo_text *planned, int64_t columns, wo_text *out, PyObject *embeds) {
    static const char *const axes[] = {"real", "text_dim"};
    PyObject *pair = wo_py_sequence(item, "text", "(rows, embeds) of each batch item");
    if (pair == NULL)
        return -1;
    int result = 0;
    if (PySequence_Fast_GET_SIZE(pair) != 2) {
        PyErr_SetString(PyExc_ValueError, "text: wanted (rows, embeds) of each batch item");
        result = -1;
    }
    int64_t shape[] = {planned->real, columns};
    if (result == 0)
        result = wo_py_int(PySequence_Fast_GET_ITEM(pair, 0), "text: rows", planned->rows, planned->rows, &out->rows);
    if (result == 0) {
        PyObject *array = wo_py_array_in(PySequence_Fast_GET_ITEM(pair, 1), "text: embeds", WO_F32, 2, shape, axes);
        out->real = planned->real;
        out->embeds = array == NULL ? NULL : wo_py_array_data(array);
        result = wo_py_append(embeds, array);
    }
    Py_DECREF(pair);
    return result;
}

static int read_texts(PyObject *value, const wo_transformer_request *planned, int64_t columns, wo_text *out,
                      PyObject *embeds) {
    PyObject *list = wo_py_sequence(value, "text", "a list of (rows, embeds)");
    if (list == NULL)
        return -1;
    int result = 0;
    if (PySequence_Fast_GET_SIZE(list) != planned->batch) {
        PyErr_Format(PyExc_ValueError, "text: wanted the plan's %lld batch items, got %zd", (long long)planned->batch,
                     PySequence_Fast_GET_SIZE(list));
        result = -1;
    }
    for (int64_t i = 0; result == 0 && i < planned->batch; i++)
        result = read_text(PySequence_Fast_GET_ITEM(list, i), &planned->text[i], columns, &out[i], embeds);
    Py_DECREF(list);
    return result;
}

/* Each size has to be the plan's. */
static int check_sizes(const wo_transformer_request *r, PyObject *frames, PyObject *height, PyObject *width,
                       PyObject *unfolded) {
    int64_t size;
    bool flag;
    if (wo_py_int(frames, "frames", r->frames, r->frames, &size) < 0 ||
        wo_py_int(height, "height", r->height, r->height, &size) < 0 ||
        wo_py_int(width, "width", r->width, r->width, &size) < 0 || wo_py_bool(unfolded, "unfolded", &flag) < 0)
        return -1;
    if (flag == r->unfolded)
        return 0;
    PyErr_Format(PyExc_ValueError, "unfolded: wanted the plan's %s, got %R", r->unfolded ? "True" : "False", unfolded);
    return -1;
}

PyObject *wo_py_exec_prepare(PyObject *object, PyObject *args, PyObject *names) {
    static char *keywords[] = {"text", "frames", "height", "width", "unfolded", "follow", NULL};
    wo_py_exec *self = (wo_py_exec *)object;
    PyObject *value, *frames, *height, *width, *unfolded = Py_False, *flag = Py_True;
    bool follow;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OOOO|OO:prepare", keywords, &value, &frames, &height, &width,
                                     &unfolded, &flag) ||
        wo_py_exec_check(self, WO_PY_TRANSFORMER, "prepare") < 0)
        return NULL;
    wo_transformer_request request = wo_py_exec_request(self)->as.transformer;
    if (check_sizes(&request, frames, height, width, unfolded) < 0 || wo_py_bool(flag, "follow", &follow) < 0)
        return NULL;
    wo_text *text = PyMem_Calloc((size_t)request.batch, sizeof *text);
    PyObject *embeds = PyList_New(0);
    int result = text == NULL || embeds == NULL ? (PyErr_NoMemory(), -1) : 0;
    if (result == 0)
        result = read_texts(value, &request, wo_py_exec_network(self)->config.transformer.text_dim, text, embeds);
    if (result == 0)
        result = wo_py_exec_check(self, WO_PY_TRANSFORMER, "prepare");
    if (result < 0) {
        PyMem_Free(text);
        Py_XDECREF(embeds);
        return NULL;
    }
    request.text = text;
    wo_text *old_text = self->text;
    PyObject *old_embeds = self->embeds;
    self->text = text;
    self->embeds = embeds;
    self->prepared = false;
    result = wo_py_exec_run(self, "prepare", WO_TRANSFORMER_PREPARE, follow ? WO_TRANSFORMER_STEP : -1, &request);
    self->prepared = result == 0;
    PyMem_Free(old_text);
    Py_XDECREF(old_embeds);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *wo_py_exec_step(PyObject *object, PyObject *args, PyObject *names) {
    static char *keywords[] = {"latents", "timesteps", "follow", NULL};
    static const char *const axes[] = {"B", "C", "F", "h", "w"};
    wo_py_exec *self = (wo_py_exec *)object;
    PyObject *latents_value, *timesteps_value, *flag = Py_False;
    bool follow;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OO|O:step", keywords, &latents_value, &timesteps_value, &flag) ||
        wo_py_exec_check(self, WO_PY_TRANSFORMER, "step") < 0 || wo_py_bool(flag, "follow", &follow) < 0)
        return NULL;
    if (!self->prepared) {
        PyErr_SetString(PyExc_ValueError, "step: prepare() comes first");
        return NULL;
    }
    const wo_transformer_config *config = &wo_py_exec_network(self)->config.transformer;
    wo_transformer_request r = wo_py_exec_request(self)->as.transformer;
    int64_t in[] = {r.batch, config->in_channels, r.frames, r.height, r.width};
    int64_t out[] = {r.batch, config->out_channels, r.frames, r.height, r.width};
    PyObject *latents = wo_py_array_in(latents_value, "latents", WO_F32, 5, in, axes), *timesteps = NULL, *velocity = NULL;
    if (latents != NULL)
        timesteps = wo_py_array_in(timesteps_value, "timesteps", WO_F32, 1, &r.batch, axes);
    if (timesteps != NULL)
        velocity = wo_py_array_new(5, out);
    if (velocity != NULL) {
        r.text = self->text;
        r.latents = wo_py_array_data(latents);
        r.timesteps = wo_py_array_data(timesteps);
        r.velocity = wo_py_array_data(velocity);
        if (wo_py_exec_run(self, "step", WO_TRANSFORMER_STEP, follow ? WO_TRANSFORMER_STEP : -1, &r) < 0)
            Py_CLEAR(velocity);
    }
    Py_XDECREF(latents);
    Py_XDECREF(timesteps);
    return velocity;
}

/* ---- decode ---- */

PyObject *wo_py_exec_decode(PyObject *object, PyObject *args, PyObject *names) {
    static char *keywords[] = {"latent", "first", "follow", "clamp", NULL};
    static const char *const axes[] = {"z", "h", "w"};
    wo_py_exec *self = (wo_py_exec *)object;
    PyObject *value, *first_flag, *follow_flag = Py_False, *clamp_flag = Py_True;
    bool first, follow, clamp;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OO|OO:decode", keywords, &value, &first_flag, &follow_flag,
                                     &clamp_flag) ||
        wo_py_exec_check(self, WO_PY_VAE_DECODER, "decode") < 0 || wo_py_bool(first_flag, "first", &first) < 0 ||
        wo_py_bool(follow_flag, "follow", &follow) < 0 || wo_py_bool(clamp_flag, "clamp", &clamp) < 0)
        return NULL;
    if (!first && !self->started) {
        PyErr_SetString(PyExc_ValueError, "decode: the first latent frame comes first (first=True)");
        return NULL;
    }
    const wo_vae_config *config = &wo_py_exec_network(self)->config.vae;
    wo_vae_request r = wo_py_exec_request(self)->as.vae;
    int64_t in[] = {config->z_dim, r.height, r.width};
    int64_t scale = wo_vae_spatial_scale(config);
    int64_t out[] = {first ? 1 : wo_vae_frames_per_latent(config), scale * r.height, scale * r.width, config->out_channels};
    PyObject *latent = wo_py_array_in(value, "latent", WO_F32, 3, in, axes);
    PyObject *frames = latent == NULL ? NULL : wo_py_array_new(4, out);
    if (frames != NULL) {
        r.latent = wo_py_array_data(latent);
        r.frames = wo_py_array_data(frames);
        r.unclamped = !clamp;
        if (wo_py_exec_run(self, "decode", first ? WO_VAE_FIRST : WO_VAE_NEXT, follow ? WO_VAE_NEXT : -1, &r) < 0)
            Py_CLEAR(frames);
        else
            self->started = true;
    }
    Py_XDECREF(latent);
    return frames;
}
