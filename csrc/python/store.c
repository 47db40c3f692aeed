/* Store: an opened checkpoint. */
#include "python/module.h"

typedef struct {
    const char *path;
    wo_store *store;
} open_job;

static wo_status open_store(void *context, wo_error *err) {
    open_job *job = context;
    return wo_store_open(job->path, &job->store, err);
}

/* Opening reads headers, maybe over a slow network: it runs on a core thread of its own, and Ctrl-C is raised at its end. */
static wo_store *open_path(wo_py_state *state, const char *path) {
    wo_error err;
    wo_py_worker *worker;
    wo_status status = wo_py_worker_create(&worker, &err);
    if (status != WO_OK) {
        wo_py_raise(state, status, &err);
        return NULL;
    }
    open_job job = {.path = path};
    int result = wo_py_job_run(state, worker, NULL, open_store, &job);
    wo_py_worker_destroy(worker);
    if (result == 0)
        return job.store;
    wo_store_release(job.store);
    return NULL;
}

static PyObject *store_new(PyTypeObject *type, PyObject *args, PyObject *names) {
    static char *keywords[] = {"path", NULL};
    PyObject *path, *encoded;
    if (!PyArg_ParseTupleAndKeywords(args, names, "O:Store", keywords, &path))
        return NULL;
    if (!PyUnicode_FSConverter(path, &encoded))
        return NULL;
    wo_py_state *state = PyType_GetModuleState(type);
    wo_store *store = open_path(state, PyBytes_AS_STRING(encoded));
    Py_DECREF(encoded);
    if (store == NULL)
        return NULL;
    wo_py_store *self = (wo_py_store *)type->tp_alloc(type, 0);
    if (self == NULL)
        wo_store_release(store);
    else
        self->store = store;
    return (PyObject *)self;
}

static void store_dealloc(PyObject *object) {
    wo_py_store *self = (wo_py_store *)object;
    PyTypeObject *type = Py_TYPE(object);
    wo_store_release(self->store);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *shape_tuple(const wo_entry *entry) {
    PyObject *tuple = PyTuple_New(entry->rank);
    for (int i = 0; tuple != NULL && i < entry->rank; i++) {
        PyObject *size = PyLong_FromLongLong(entry->shape[i]);
        if (size == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, size);
    }
    return tuple;
}

/* The public name, or the file's own spelling of a dtype that has none. */
static const char *dtype_text(const wo_entry *entry) {
    return entry->dtype == WO_DTYPE_COUNT ? entry->dtype_at_rest : wo_dtype_name(entry->dtype);
}

static PyObject *entry_dict(const wo_store *store, const wo_entry *entry) {
    PyObject *dict = PyDict_New();
    if (dict == NULL)
        return NULL;
    PyObject *skipped = entry->skipped == NULL ? Py_NewRef(Py_None) : wo_py_text(entry->skipped);
    if (wo_py_put(dict, "name", wo_py_text(entry->name)) == 0 &&
        wo_py_put(dict, "dtype", wo_py_text(dtype_text(entry))) == 0 &&
        wo_py_put(dict, "shape", shape_tuple(entry)) == 0 &&
        wo_py_put(dict, "file", PyUnicode_DecodeFSDefault(wo_store_file_path(store, entry->file))) == 0 &&
        wo_py_put(dict, "offset", PyLong_FromUnsignedLongLong(entry->offset)) == 0 &&
        wo_py_put(dict, "bytes", PyLong_FromUnsignedLongLong(entry->bytes)) == 0 &&
        wo_py_put(dict, "skipped", Py_XNewRef(skipped)) == 0) {
        Py_XDECREF(skipped);
        return dict;
    }
    Py_XDECREF(skipped);
    Py_DECREF(dict);
    return NULL;
}

static PyObject *store_entries(PyObject *object, PyObject *Py_UNUSED(none)) {
    const wo_store *store = ((wo_py_store *)object)->store;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < wo_store_count(store); i++)
        if (wo_py_append(list, entry_dict(store, wo_store_at(store, i))) < 0)
            Py_CLEAR(list);
    return list;
}

static PyObject *store_files(PyObject *object, void *Py_UNUSED(closure)) {
    const wo_store *store = ((wo_py_store *)object)->store;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < wo_store_files(store); i++)
        if (wo_py_append(list, PyUnicode_DecodeFSDefault(wo_store_file_path(store, (int32_t)i))) < 0)
            Py_CLEAR(list);
    return list;
}

static PyObject *store_bytes(PyObject *object, void *Py_UNUSED(closure)) {
    return PyLong_FromUnsignedLongLong(wo_store_bytes(((wo_py_store *)object)->store));
}

PyDoc_STRVAR(store_doc, "Store(path)\n--\n\n"
                        "An opened checkpoint: a .safetensors file, an index.json, or a folder that holds one of them.");
PyDoc_STRVAR(entries_doc, "entries($self, /)\n--\n\n"
                          "One dict per tensor: name, dtype, shape, file (its path), offset, bytes, skipped (None or why).");

static PyMethodDef methods[] = {
    {"entries", store_entries, METH_NOARGS, entries_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef properties[] = {
    {"files", store_files, NULL, "Paths of the files.", NULL},
    {"bytes", store_bytes, NULL, "Size of all files together.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)store_doc}, {Py_tp_new, store_new},       {Py_tp_dealloc, store_dealloc},
    {Py_tp_methods, methods},       {Py_tp_getset, properties}, {0, NULL},
};

static PyType_Spec spec = {
    .name = "wanoffload._core.Store",
    .basicsize = sizeof(wo_py_store),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

PyTypeObject *wo_py_store_type(PyObject *module) { return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL); }
