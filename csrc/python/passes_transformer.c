/* The passes of a transformer: prepare begins a generation with its texts and images, step computes one velocity. */
#include "python/exec.h"

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

/* Whether image_of, None or a list, says the same as the plan: what is computed for an embedding is shared as planned. */
static int check_image_of(PyObject *value, const wo_transformer_request *planned) {
    if (value == Py_None)
        return 0;
    PyObject *list = wo_py_sequence(value, "image_of", "the index of each batch item's embedding");
    if (list == NULL)
        return -1;
    int64_t index, count = planned->images.count > 0 ? planned->batch : 0;
    int result = 0;
    if (PySequence_Fast_GET_SIZE(list) != count) {
        PyErr_Format(PyExc_ValueError, "image_of: wanted the plan's %lld batch items, got %zd", (long long)count,
                     PySequence_Fast_GET_SIZE(list));
        result = -1;
    }
    for (int64_t i = 0; result == 0 && i < count; i++)
        result = wo_py_int(PySequence_Fast_GET_ITEM(list, i), "image_of", planned->images.of[i], planned->images.of[i], &index);
    Py_DECREF(list);
    return result;
}

/* Keeps the array of embeddings in embeds, and points out at its contents; None where the plan has no images. */
static int read_images(PyObject *value, const wo_images *planned, int64_t columns, PyObject *embeds, const float **out) {
    static const char *const axes[] = {"images", "rows", "image_dim"};
    *out = NULL;
    if (planned->count == 0 && value == Py_None)
        return 0;
    if (planned->count == 0) {
        PyErr_SetString(PyExc_ValueError, "images: the plan has none");
        return -1;
    }
    int64_t shape[] = {planned->count, planned->rows, columns};
    PyObject *array = wo_py_array_in(value, "images", WO_F32, 3, shape, axes);
    *out = array == NULL ? NULL : wo_py_array_data(array);
    return wo_py_append(embeds, array);
}

/* What the arguments of prepare become: texts and images of a generation, and the arrays that they lie in. */
typedef struct {
    wo_text *text;
    const float *images;
    PyObject *embeds;
} generation;

static void forget(generation *g) {
    PyMem_Free(g->text);
    Py_XDECREF(g->embeds);
}

static int read_generation(wo_py_exec *self, PyObject *text, PyObject *images, PyObject *image_of, generation *out) {
    const wo_transformer_request *planned = &wo_py_exec_request(self)->as.transformer;
    const wo_transformer_config *config = &wo_py_exec_network(self)->config.transformer;
    *out = (generation){.text = PyMem_Calloc((size_t)planned->batch, sizeof *out->text), .embeds = PyList_New(0)};
    int result = out->text == NULL || out->embeds == NULL ? (PyErr_NoMemory(), -1) : 0;
    if (result == 0)
        result = read_texts(text, planned, config->text_dim, out->text, out->embeds);
    if (result == 0)
        result = read_images(images, &planned->images, config->image_dim, out->embeds, &out->images);
    if (result == 0)
        result = check_image_of(image_of, planned);
    if (result == 0)
        result = wo_py_exec_check(self, WO_PY_TRANSFORMER, "prepare");
    if (result < 0)
        forget(out);
    return result;
}

/* Every expert's keys and values, one after the other; the first expert's step follows. */
static int prepare_experts(wo_py_exec *self, bool follow, const wo_transformer_request *request) {
    const wo_turn step = {.pass = follow ? WO_TRANSFORMER_STEP : -1};
    int experts = wo_py_exec_experts(self), result = 0;
    for (int i = 0; result == 0 && i < experts; i++) {
        wo_turn turn = {WO_TRANSFORMER_PREPARE, i}, next = {WO_TRANSFORMER_PREPARE, i + 1};
        result = wo_py_exec_run_turn(self, "prepare", turn, i + 1 < experts ? next : step, request);
    }
    return result;
}

PyObject *wo_py_exec_prepare(PyObject *object, PyObject *args, PyObject *names) {
    static char *keywords[] = {"text", "frames", "height", "width", "unfolded", "follow", "images", "image_of", NULL};
    wo_py_exec *self = (wo_py_exec *)object;
    PyObject *text, *frames, *height, *width, *unfolded = Py_False, *flag = Py_True, *images = Py_None, *of = Py_None;
    bool follow;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OOOO|OOOO:prepare", keywords, &text, &frames, &height, &width, &unfolded,
                                     &flag, &images, &of) ||
        wo_py_exec_check(self, WO_PY_TRANSFORMER, "prepare") < 0)
        return NULL;
    wo_transformer_request request = wo_py_exec_request(self)->as.transformer;
    generation new;
    if (check_sizes(&request, frames, height, width, unfolded) < 0 || wo_py_bool(flag, "follow", &follow) < 0 ||
        read_generation(self, text, images, of, &new) < 0)
        return NULL;
    generation old = {self->text, self->images, self->embeds};
    request.text = self->text = new.text;
    request.images.embeds = self->images = new.images;
    self->embeds = new.embeds;
    self->prepared = false;
    int result = prepare_experts(self, follow, &request);
    self->prepared = result == 0;
    forget(&old);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

/* Which expert's step this is, and whose comes next. */
static int read_turns(const wo_py_exec *self, PyObject *follow, PyObject *expert, PyObject *next_expert, wo_turn *turn, wo_turn *next) {
    int64_t most = wo_py_exec_experts(self) - 1, now = 0, then;
    bool follows;
    if (wo_py_bool(follow, "follow", &follows) < 0 || (expert != NULL && wo_py_int(expert, "expert", 0, most, &now) < 0))
        return -1;
    then = now;
    if (next_expert != Py_None && wo_py_int(next_expert, "next_expert", 0, most, &then) < 0)
        return -1;
    *turn = (wo_turn){WO_TRANSFORMER_STEP, (int)now};
    *next = (wo_turn){follows ? WO_TRANSFORMER_STEP : -1, (int)then};
    return 0;
}

PyObject *wo_py_exec_step(PyObject *object, PyObject *args, PyObject *names) {
    static char *keywords[] = {"latents", "timesteps", "follow", "expert", "next_expert", NULL};
    static const char *const axes[] = {"B", "C", "F", "h", "w"};
    wo_py_exec *self = (wo_py_exec *)object;
    PyObject *latents_value, *timesteps_value, *flag = Py_False, *expert = NULL, *next_expert = Py_None;
    wo_turn turn, next;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OO|OOO:step", keywords, &latents_value, &timesteps_value, &flag, &expert,
                                     &next_expert) ||
        wo_py_exec_check(self, WO_PY_TRANSFORMER, "step") < 0 || read_turns(self, flag, expert, next_expert, &turn, &next) < 0)
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
        r.images.embeds = self->images;
        r.latents = wo_py_array_data(latents);
        r.timesteps = wo_py_array_data(timesteps);
        r.velocity = wo_py_array_data(velocity);
        if (wo_py_exec_run_turn(self, "step", turn, next, &r) < 0)
            Py_CLEAR(velocity);
    }
    Py_XDECREF(latents);
    Py_XDECREF(timesteps);
    return velocity;
}
