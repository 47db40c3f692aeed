/* _testing.run_op: one operation on an engine's device, from arrays to arrays, and how long it takes. The fields of the arguments' structs stand in
 * tables, so that a new operation is a new table.
 *
 * Two forms of a call that the structs have no field for: an input given as the name of the result is that tensor itself, whose values before the call
 * are the result's array ({"y": (array, dtype, shape), "residual": "y"}), and null_frames says how many of a convolution's first frames are NULL. */
#include "python/testing_ops.h"

#include "base/clock.h"
#include "base/memory.h"
#include "ops/ops.h"

#include <string.h>

enum { MOST_OPERANDS = 12, CHUNK_BYTES = 16 << 20 };

typedef enum { INPUT, OUTPUT, FRAMES, NULL_FRAMES, REAL, NUMBER, LONG_NUMBER, FLAG } field_kind;

typedef struct op_field {
    const char *name;
    field_kind kind;
    size_t offset;
} op_field;

#define FIELD(op, kind, name) {#name, kind, offsetof(wo_##op##_args, name)}
#define END {NULL, INPUT, 0}

static const op_field linear_fields[] = {
    FIELD(linear, INPUT, x), FIELD(linear, INPUT, w), FIELD(linear, INPUT, bias), FIELD(linear, OUTPUT, y), FIELD(linear, INPUT, other),
    FIELD(linear, INPUT, gate), FIELD(linear, NUMBER, form), FIELD(linear, NUMBER, epilogue), FIELD(linear, LONG_NUMBER, rows_per_gate), END};
static const op_field embedding_fields[] = {FIELD(embedding, INPUT, table), FIELD(embedding, INPUT, ids), FIELD(embedding, OUTPUT, y), END};
static const op_field layer_norm_fields[] = {
    FIELD(layer_norm, INPUT, x), FIELD(layer_norm, INPUT, scale), FIELD(layer_norm, INPUT, shift), FIELD(layer_norm, INPUT, weight),
    FIELD(layer_norm, INPUT, bias), FIELD(layer_norm, OUTPUT, y), FIELD(layer_norm, LONG_NUMBER, rows_per_batch), FIELD(layer_norm, REAL, eps), END};
static const op_field rms_norm_fields[] = {FIELD(rms_norm, INPUT, x),   FIELD(rms_norm, INPUT, weight), FIELD(rms_norm, OUTPUT, y),
                                           FIELD(rms_norm, INPUT, cos), FIELD(rms_norm, INPUT, sin),    FIELD(rms_norm, LONG_NUMBER, head_dim),
                                           FIELD(rms_norm, REAL, eps),  END};
static const op_field l2_norm_fields[] = {FIELD(l2_norm, INPUT, x), FIELD(l2_norm, INPUT, gamma), FIELD(l2_norm, OUTPUT, y), FIELD(l2_norm, FLAG, silu), END};
static const op_field rope_table_fields[] = {
    FIELD(rope_table, OUTPUT, cos),        FIELD(rope_table, OUTPUT, sin),         FIELD(rope_table, LONG_NUMBER, frames),
    FIELD(rope_table, LONG_NUMBER, height), FIELD(rope_table, LONG_NUMBER, width), FIELD(rope_table, LONG_NUMBER, head_dim), END};
static const op_field attention_fields[] = {
    FIELD(attention, INPUT, q),  FIELD(attention, INPUT, k),    FIELD(attention, INPUT, v),           FIELD(attention, OUTPUT, o),
    FIELD(attention, REAL, scale), FIELD(attention, REAL, last_key_bias), FIELD(attention, INPUT, relative), FIELD(attention, NUMBER, max_distance), END};
static const op_field patchify_fields[] = {FIELD(patchify, INPUT, latents), FIELD(patchify, OUTPUT, rows), END};
static const op_field unpatchify_fields[] = {FIELD(unpatchify, INPUT, rows), FIELD(unpatchify, OUTPUT, latents), END};
static const op_field sinusoid_fields[] = {FIELD(sinusoid, OUTPUT, y), FIELD(sinusoid, REAL, t), END};
static const op_field add_fields[] = {FIELD(add, INPUT, a), FIELD(add, INPUT, b), FIELD(add, OUTPUT, y), END};
static const op_field unary_fields[] = {FIELD(unary, INPUT, x), FIELD(unary, OUTPUT, y), FIELD(unary, NUMBER, kind), END};
static const op_field conv_fields[] = {FIELD(conv, FRAMES, frames), FIELD(conv, INPUT, w),      FIELD(conv, INPUT, bias),     FIELD(conv, INPUT, residual),
                                       FIELD(conv, OUTPUT, y),      FIELD(conv, FLAG, upsample), FIELD(conv, FLAG, downsample),
                                       {"null_frames", NULL_FRAMES, 0}, END};
static const op_field channels_last_fields[] = {FIELD(channels_last, INPUT, x), FIELD(channels_last, OUTPUT, y), END};

typedef union all_args {
#define MEMBER(op) wo_##op##_args op;
    WO_OP_LIST(MEMBER)
#undef MEMBER
} all_args;

#define RUN(op)                                                                              \
    static wo_status run_##op(wo_stream *s, const all_args *args, wo_error *err) {           \
        return wo_##op(s, &args->op, err);                                                   \
    }
WO_OP_LIST(RUN)
#undef RUN

static const struct {
    const char *name;
    const op_field *fields;
    wo_status (*run)(wo_stream *s, const all_args *args, wo_error *err);
} ops[] = {
#define ROW(op) {#op, op##_fields, run_##op},
    WO_OP_LIST(ROW)
#undef ROW
};
enum { OPS = sizeof ops / sizeof *ops };

/* A tensor of the call. The array is repeated until the tensor is full. */
typedef struct operand {
    const op_field *field;
    wo_tensor tensor;
    PyObject *array; /* that is read, or made for the result */
    void *data;      /* of the array: float32, int32 for ids */
    int64_t length;
    bool given; /* a result that has values before the call */
} operand;

typedef struct op_job {
    wo_device *device;
    int op;
    all_args args;
    operand operands[MOST_OPERANDS];
    int count;
    const op_field *in_place, *same; /* an input that is the same tensor as a result, and that result */
    int64_t null_frames, repeats;
    double seconds;
    void *workspace, *chunk;
    wo_stream *stream;
} op_job;

/* ---- on the core thread ---- */

static wo_status move(op_job *job, operand *o, bool in, wo_error *err) {
    const wo_stream_api *api = job->device->stream;
    bool ids = o->tensor.dtype == WO_I32;
    size_t item = wo_dtype_size(o->tensor.dtype);
    wo_conversion c = {.from = in ? WO_F32 : o->tensor.dtype, .to = in ? o->tensor.dtype : WO_F32};
    int64_t total = wo_tensor_count(&o->tensor), step = (int64_t)(CHUNK_BYTES / item);
    for (int64_t at = 0; at < total; at += step) {
        int64_t count = step < total - at ? step : total - at;
        char *there = (char *)o->tensor.data + (size_t)at * item;
        if (!in)
            WO_TRY(api->copy(job->stream, job->chunk, there, (size_t)count * item, err));
        WO_TRY(api->sync(job->stream, err));
        for (int64_t i = 0, run; i < count; i += run) {
            int64_t from = (at + i) % o->length;
            run = o->length - from < count - i ? o->length - from : count - i;
            char *chunk = (char *)job->chunk + (size_t)i * item, *array = (char *)o->data + (size_t)from * 4;
            if (ids)
                memcpy(chunk, array, (size_t)run * item);
            else
                wo_convert(&c, in ? chunk : array, in ? array : chunk, run);
        }
        if (in)
            WO_TRY(api->copy(job->stream, there, job->chunk, (size_t)count * item, err));
    }
    return api->sync(job->stream, err);
}

static void place_frames(wo_conv_args *args, const wo_tensor *t, int64_t null_frames) {
    args->x_dtype = t->dtype;
    args->height = t->shape[1];
    args->width = t->shape[2];
    args->channels = t->shape[3];
    args->kt = (int32_t)args->w.shape[1];
    args->kh = (int32_t)args->w.shape[2];
    args->kw = (int32_t)args->w.shape[3];
    args->out_frames = (int32_t)args->y.shape[0];
    size_t stride = wo_tensor_bytes(t) / (size_t)t->shape[0];
    for (int i = 0; i < t->shape[0] && i < WO_CONV_MAX_FRAMES; i++)
        args->frames[i] = i < null_frames ? NULL : (char *)t->data + (size_t)i * stride;
}

static wo_status place(op_job *job, wo_error *err) {
    const operand *frames = NULL;
    for (int i = 0; i < job->count; i++) {
        operand *o = &job->operands[i];
        WO_TRY(job->device->memory->alloc(job->device, wo_tensor_bytes(&o->tensor), "a tensor of a test", &o->tensor.data, err));
        if (o->field->kind == OUTPUT && !o->given)
            WO_TRY(job->device->stream->poison(job->stream, o->tensor.data, wo_tensor_bytes(&o->tensor), err));
        else
            WO_TRY(move(job, o, true, err));
        if (o->field->kind == FRAMES)
            frames = o;
        else
            memcpy((char *)&job->args + o->field->offset, &o->tensor, sizeof o->tensor);
    }
    if (job->in_place != NULL)
        memcpy((char *)&job->args + job->in_place->offset, (char *)&job->args + job->same->offset, sizeof(wo_tensor));
    if (frames != NULL)
        place_frames(&job->args.conv, &frames->tensor, job->null_frames);
    return WO_OK;
}

static wo_status place_workspace(op_job *job, wo_error *err) {
    const char *name = ops[job->op].name;
    wo_tensor *field = NULL;
    size_t bytes = 0;
    if (strcmp(name, "linear") == 0)
        field = &job->args.linear.workspace, bytes = wo_linear_workspace(job->device, &job->args.linear);
    else if (strcmp(name, "attention") == 0)
        field = &job->args.attention.workspace, bytes = wo_attention_workspace(job->device, &job->args.attention);
    else if (strcmp(name, "conv") == 0)
        field = &job->args.conv.workspace, bytes = wo_conv_workspace(job->device, &job->args.conv);
    if (bytes == 0)
        return WO_OK;
    WO_TRY(job->device->memory->alloc(job->device, bytes, "a workspace of a test", &job->workspace, err));
    *field = wo_tensor_of(job->workspace, WO_U8, (int64_t)bytes);
    return WO_OK;
}

static wo_status run_all(op_job *job, wo_error *err) {
    const wo_stream_api *api = job->device->stream;
    WO_TRY(wo_memory_acquire(CHUNK_BYTES, "a test's arrays", &job->chunk, err));
    WO_TRY(api->create(job->device, "test", &job->stream, err));
    WO_TRY(place(job, err));
    WO_TRY(place_workspace(job, err));
    WO_TRY(ops[job->op].run(job->stream, &job->args, err));
    WO_TRY(api->sync(job->stream, err));
    for (int i = 0; i < job->count; i++)
        if (job->operands[i].field->kind == OUTPUT)
            WO_TRY(move(job, &job->operands[i], false, err));
    double begin = wo_clock_seconds();
    for (int64_t i = 0; i < job->repeats; i++)
        WO_TRY(ops[job->op].run(job->stream, &job->args, err));
    WO_TRY(api->sync(job->stream, err));
    job->seconds = job->repeats > 0 ? (wo_clock_seconds() - begin) / (double)job->repeats : 0;
    return WO_OK;
}

static wo_status run_job(void *context, wo_error *err) {
    op_job *job = context;
    const wo_device *d = job->device;
    wo_status status = run_all(job, err);
    if (job->stream != NULL) {
        d->stream->sync(job->stream, NULL);
        d->stream->destroy(job->stream);
    }
    if (status != WO_OK)
        d->stream->clear_error(job->device);
    for (int i = 0; i < job->count; i++)
        if (job->operands[i].tensor.data != NULL)
            d->memory->release(job->device, job->operands[i].tensor.data);
    if (job->workspace != NULL)
        d->memory->release(job->device, job->workspace);
    wo_memory_release(job->chunk);
    return status;
}

/* ---- arguments ---- */

static const op_field *find_field(int op, const char *name) {
    for (const op_field *f = ops[op].fields; f->name != NULL; f++)
        if (strcmp(f->name, name) == 0)
            return f;
    PyErr_Format(PyExc_ValueError, "%s has no argument '%s'", ops[op].name, name);
    return NULL;
}

static int read_shape(PyObject *value, const char *name, wo_tensor *out) {
    int64_t shape[WO_MAX_RANK];
    PyObject *list = wo_py_sequence(value, name, "a shape");
    if (list == NULL)
        return -1;
    Py_ssize_t rank = PySequence_Fast_GET_SIZE(list);
    int result = rank >= 1 && rank <= WO_MAX_RANK ? 0 : -1;
    if (result < 0)
        PyErr_Format(PyExc_ValueError, "%s: wanted a shape of 1 to %d axes, got %zd", name, (int)WO_MAX_RANK, rank);
    for (Py_ssize_t i = 0; result == 0 && i < rank; i++)
        result = wo_py_int(PySequence_Fast_GET_ITEM(list, i), name, 1, INT64_C(1) << 40, &shape[i]);
    if (result == 0)
        *out = wo_tensor_make(NULL, out->dtype, (int)rank, shape);
    Py_DECREF(list);
    return result;
}

/* The values of a result before the call: its own array is filled with them. */
static int read_before(operand *o, const char *name, PyObject *value) {
    static const char *const axes[] = {"n"};
    int64_t length = -1;
    PyObject *array = wo_py_array_in(value, name, WO_F32, 1, &length, axes);
    if (array == NULL)
        return -1;
    const float *from = wo_py_array_data(array);
    float *to = o->data;
    for (int64_t i = 0; length > 0 && i < o->length; i++)
        to[i] = from[i % length];
    Py_DECREF(array);
    o->given = true;
    return length > 0 ? 0 : (PyErr_Format(PyExc_ValueError, "%s: the array is empty", name), -1);
}

static int read_operand(op_job *job, const char *name, PyObject *value) {
    static const char *const axes[] = {"n"};
    operand *o = &job->operands[job->count];
    const char *dtype;
    PyObject *array, *shape;
    o->field = find_field(job->op, name);
    if (o->field == NULL || !PyArg_ParseTuple(value, "OsO", &array, &dtype, &shape))
        return -1;
    if (!wo_dtype_from_name(dtype, &o->tensor.dtype))
        return PyErr_Format(PyExc_ValueError, "%s: there is no dtype '%s'", name, dtype), -1;
    if (read_shape(shape, name, &o->tensor) < 0)
        return -1;
    if (o->field->kind == OUTPUT) {
        o->length = wo_tensor_count(&o->tensor);
        o->array = wo_py_array_new(o->tensor.rank, o->tensor.shape);
    } else {
        o->length = -1;
        o->array = wo_py_array_in(array, name, o->tensor.dtype == WO_I32 ? WO_I32 : WO_F32, 1, &o->length, axes);
    }
    if (o->array == NULL)
        return -1;
    o->data = wo_py_array_data(o->array);
    job->count++;
    if (o->field->kind == OUTPUT && array != Py_None)
        return read_before(o, name, array);
    return o->length > 0 ? 0 : (PyErr_Format(PyExc_ValueError, "%s: the array is empty", name), -1);
}

static int read_scalar(op_job *job, const char *name, PyObject *value) {
    const op_field *f = find_field(job->op, name);
    char *at = (char *)&job->args + (f != NULL ? f->offset : 0);
    int64_t number = 0;
    double real = 0;
    bool flag = false;
    int result = f == NULL ? -1 : 0;
    if (result == 0 && f->kind == REAL && (result = wo_py_real(value, name, -1e9, 1e9, &real)) == 0)
        *(float *)(void *)at = (float)real;
    else if (result == 0 && f->kind == NUMBER && (result = wo_py_int(value, name, INT32_MIN, INT32_MAX, &number)) == 0)
        *(int32_t *)(void *)at = (int32_t)number;
    else if (result == 0 && f->kind == LONG_NUMBER && (result = wo_py_int(value, name, INT64_MIN, INT64_MAX, &number)) == 0)
        *(int64_t *)(void *)at = number;
    else if (result == 0 && f->kind == FLAG && (result = wo_py_bool(value, name, &flag)) == 0)
        *(bool *)at = flag;
    else if (result == 0 && f->kind == NULL_FRAMES)
        result = wo_py_int(value, name, 0, WO_CONV_MAX_FRAMES, &job->null_frames);
    return result;
}

static int read_in_place(op_job *job, const char *name, PyObject *value) {
    const char *same;
    job->in_place = find_field(job->op, name);
    if (job->in_place == NULL || wo_py_string(value, name, &same) < 0 || (job->same = find_field(job->op, same)) == NULL)
        return -1;
    if (job->in_place->kind != INPUT || job->same->kind != OUTPUT)
        return PyErr_Format(PyExc_ValueError, "%s: only an input can be a result, '%s'", name, same), -1;
    return 0;
}

/* Tensors are tuples or names of results, everything else is a scalar. */
static int read_arguments(op_job *job, PyObject *arguments) {
    PyObject *dict = wo_py_mapping(arguments, "arguments"), *key, *value;
    Py_ssize_t position = 0;
    int result = dict == NULL ? -1 : 0;
    while (result == 0 && PyDict_Next(dict, &position, &key, &value)) {
        const char *name;
        result = wo_py_string(key, "arguments", &name);
        if (result == 0 && PyTuple_Check(value) && job->count == MOST_OPERANDS)
            result = (PyErr_SetString(PyExc_ValueError, "arguments: there are too many tensors"), -1);
        else if (result == 0 && PyUnicode_Check(value))
            result = read_in_place(job, name, value);
        else if (result == 0)
            result = PyTuple_Check(value) ? read_operand(job, name, value) : read_scalar(job, name, value);
    }
    Py_XDECREF(dict);
    return result;
}

static PyObject *results(const op_job *job) {
    PyObject *dict = PyDict_New();
    for (int i = 0; dict != NULL && i < job->count; i++)
        if (job->operands[i].field->kind == OUTPUT && PyDict_SetItemString(dict, job->operands[i].field->name, job->operands[i].array) < 0)
            Py_CLEAR(dict);
    return dict == NULL ? NULL : Py_BuildValue("Nd", dict, job->seconds);
}

PyObject *wo_py_run_op(wo_py_engine *engine, PyObject *name, PyObject *arguments, int64_t repeats) {
    const char *words[OPS + 1] = {NULL};
    op_job *job = PyMem_Calloc(1, sizeof *job);
    if (job == NULL)
        return PyErr_NoMemory();
    for (int i = 0; i < OPS; i++)
        words[i] = ops[i].name;
    job->device = wo_engine_device(engine->engine);
    job->repeats = repeats;
    PyObject *made = NULL;
    if (wo_py_word(name, "op", words, &job->op) == 0 && read_arguments(job, arguments) == 0 && wo_py_engine_run(engine, NULL, run_job, job) == 0)
        made = results(job);
    for (int i = 0; i < MOST_OPERANDS; i++)
        Py_XDECREF(job->operands[i].array);
    PyMem_Free(job);
    return made;
}
