/* The passes of the encoders and of the decoder. Each method checks its arguments against the sizes that the plan was made for,
 * makes the arrays that it will hand out, and runs one pass. Nothing gives the GIL away between the last check and the run. */
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

/* ---- encode_images ---- */

PyObject *wo_py_exec_encode_images(PyObject *object, PyObject *args, PyObject *names) {
    static char *keywords[] = {"patches", NULL};
    static const char *const axes[] = {"images", "patches", "columns"};
    wo_py_exec *self = (wo_py_exec *)object;
    PyObject *value;
    if (!PyArg_ParseTupleAndKeywords(args, names, "O:encode_images", keywords, &value) ||
        wo_py_exec_check(self, WO_PY_IMAGE_ENCODER, "encode_images") < 0)
        return NULL;
    const wo_clip_config *config = &wo_py_exec_network(self)->config.clip;
    wo_clip_request r = wo_py_exec_request(self)->as.clip;
    int64_t tokens = wo_clip_tokens(config);
    int64_t in[] = {r.images, tokens - 1, config->num_channels * config->patch_size * config->patch_size};
    int64_t out[] = {r.images, tokens, config->hidden_size};
    PyObject *patches = wo_py_array_in(value, "patches", WO_F32, 3, in, axes);
    PyObject *hidden = patches == NULL ? NULL : wo_py_array_new(3, out);
    if (hidden != NULL) {
        r.patches = wo_py_array_data(patches);
        r.out = wo_py_array_data(hidden);
        if (wo_py_exec_run(self, "encode_images", WO_CLIP_ENCODE, -1, &r) < 0)
            Py_CLEAR(hidden);
    }
    Py_XDECREF(patches);
    return hidden;
}

/* ---- encode_frames and decode ---- */

/* ValueError when a later frame comes before any first one. */
static int check_order(const wo_py_exec *self, bool first, const char *method, const char *what) {
    if (first || self->started)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: the first %s comes first (first=True)", method, what);
    return -1;
}

PyObject *wo_py_exec_encode_frames(PyObject *object, PyObject *args, PyObject *names) {
    static char *keywords[] = {"frames", "first", "follow", NULL};
    static const char *const axes[] = {"T", "H", "W", "C"};
    wo_py_exec *self = (wo_py_exec *)object;
    PyObject *value, *first_flag, *follow_flag = Py_False;
    bool first, follow;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OO|O:encode_frames", keywords, &value, &first_flag, &follow_flag) ||
        wo_py_exec_check(self, WO_PY_VAE_ENCODER, "encode_frames") < 0 || wo_py_bool(first_flag, "first", &first) < 0 ||
        wo_py_bool(follow_flag, "follow", &follow) < 0 || check_order(self, first, "encode_frames", "frame") < 0)
        return NULL;
    const wo_vae_config *config = &wo_py_exec_network(self)->config.vae;
    wo_vae_encode_request r = wo_py_exec_request(self)->as.vae_encode;
    int64_t scale = wo_vae_spatial_scale(config);
    int64_t in[] = {first ? 1 : wo_vae_frames_per_latent(config), r.height, r.width, config->in_channels};
    int64_t out[] = {2 * config->z_dim, r.height / scale, r.width / scale};
    PyObject *frames = wo_py_array_in(value, "frames", WO_F32, 4, in, axes);
    PyObject *moments = frames == NULL ? NULL : wo_py_array_new(3, out);
    if (moments != NULL) {
        r.frames = wo_py_array_data(frames);
        r.moments = wo_py_array_data(moments);
        int pass = first ? WO_VAE_ENCODE_FIRST : WO_VAE_ENCODE_NEXT;
        if (wo_py_exec_run(self, "encode_frames", pass, follow ? WO_VAE_ENCODE_NEXT : -1, &r) < 0)
            Py_CLEAR(moments);
        else
            self->started = true;
    }
    Py_XDECREF(frames);
    return moments;
}

PyObject *wo_py_exec_decode(PyObject *object, PyObject *args, PyObject *names) {
    static char *keywords[] = {"latent", "first", "follow", "clamp", NULL};
    static const char *const axes[] = {"z", "h", "w"};
    wo_py_exec *self = (wo_py_exec *)object;
    PyObject *value, *first_flag, *follow_flag = Py_False, *clamp_flag = Py_True;
    bool first, follow, clamp;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OO|OO:decode", keywords, &value, &first_flag, &follow_flag,
                                     &clamp_flag) ||
        wo_py_exec_check(self, WO_PY_VAE_DECODER, "decode") < 0 || wo_py_bool(first_flag, "first", &first) < 0 ||
        wo_py_bool(follow_flag, "follow", &follow) < 0 || wo_py_bool(clamp_flag, "clamp", &clamp) < 0 ||
        check_order(self, first, "decode", "latent frame") < 0)
        return NULL;
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
