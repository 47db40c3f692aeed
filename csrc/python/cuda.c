/* Functions of the module about NVIDIA cards. None of them is called at import: the driver is first touched when a card is asked about. */
#include "python/module.h"

#include "device/cuda/cuda.h"

#include <string.h>

bool wo_py_is_cuda(const char *name) { return strcmp(name, "cuda") == 0 || strncmp(name, "cuda:", 5) == 0; }

PyObject *wo_py_cuda_describe(void) {
    char text[8192] = "";
    Py_BEGIN_ALLOW_THREADS
    wo_cuda_describe(text, sizeof text);
    Py_END_ALLOW_THREADS
    return wo_py_text(text);
}

static PyObject *cuda_count(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    int count;
    Py_BEGIN_ALLOW_THREADS
    count = wo_cuda_count();
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(count);
}

static PyObject *cuda_cards(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    PyObject *list = PyList_New(0);
    const char *name;
    for (int i = 0; list != NULL && (name = wo_cuda_card_name(i)) != NULL; i++)
        if (wo_py_append(list, wo_py_text(name)) < 0)
            Py_CLEAR(list);
    return list;
}

static int put_numbers(PyObject *dict, const wo_cuda_properties *p) {
    const struct {
        const char *key;
        int64_t value;
    } whole[] = {
        {"sm", p->sm},
        {"multiprocessors", p->multiprocessors},
        {"shared_bytes", p->shared_bytes},
        {"memory_bytes", (int64_t)p->memory_bytes},
        {"l2_bytes", (int64_t)p->l2_bytes},
        {"clock_mhz", p->clock_mhz},
    };
    const struct {
        const char *key;
        double value;
    } rates[] = {
        {"bf16_tflops", p->bf16_tflops},
        {"f32_tflops", p->f32_tflops},
        {"memory_gbs", p->memory_gbs},
        {"link_gbs", p->link_gbs},
    };
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (wo_py_put(dict, whole[i].key, PyLong_FromLongLong(whole[i].value)) < 0)
            return -1;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        if (wo_py_put(dict, rates[i].key, PyFloat_FromDouble(rates[i].value)) < 0)
            return -1;
    return 0;
}

static PyObject *card_properties(PyObject *module, PyObject *args, PyObject *names) {
    static char *keywords[] = {"name", NULL};
    PyObject *value;
    const char *name;
    wo_py_state *state = PyModule_GetState(module);
    if (!PyArg_ParseTupleAndKeywords(args, names, "O:card_properties", keywords, &value) || wo_py_check_process(state) < 0 ||
        wo_py_string(value, "name", &name) < 0)
        return NULL;
    if (!wo_py_is_cuda(name))
        return PyErr_Format(PyExc_ValueError, "name: wanted a cuda device, got '%s'", name);
    wo_error err;
    wo_cuda_properties p;
    bool planning_only;
    wo_status status;
    Py_BEGIN_ALLOW_THREADS
    status = wo_cuda_look(name, &p, &planning_only, &err);
    Py_END_ALLOW_THREADS
    if (status != WO_OK) {
        wo_py_raise(state, status, &err);
        return NULL;
    }
    PyObject *dict = PyDict_New();
    if (dict != NULL && (wo_py_put(dict, "name", wo_py_text(p.name)) < 0 || put_numbers(dict, &p) < 0 ||
                         wo_py_put(dict, "planning_only", PyBool_FromLong(planning_only)) < 0))
        Py_CLEAR(dict);
    return dict;
}

static PyObject *set_library_folders(PyObject *Py_UNUSED(module), PyObject *args, PyObject *names) {
    static char *keywords[] = {"folders", NULL};
    PyObject *value;
    if (!PyArg_ParseTupleAndKeywords(args, names, "O:set_library_folders", keywords, &value))
        return NULL;
    PyObject *list = wo_py_sequence(value, "folders", "a list of folders");
    PyObject *colon = list == NULL ? NULL : PyUnicode_FromString(":");
    PyObject *joined = colon == NULL ? NULL : PyUnicode_Join(colon, list);
    const char *folders = joined == NULL ? NULL : PyUnicode_AsUTF8(joined);
    if (folders != NULL)
        wo_cuda_set_library_folders(folders);
    Py_XDECREF(list);
    Py_XDECREF(colon);
    Py_XDECREF(joined);
    if (folders == NULL)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *allow_tf32(PyObject *Py_UNUSED(module), PyObject *value) {
    bool allow;
    if (wo_py_bool(value, "allow", &allow) < 0)
        return NULL;
    wo_cuda_allow_tf32(allow);
    Py_RETURN_NONE;
}

static PyObject *allows_tf32(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    return PyBool_FromLong(wo_cuda_allows_tf32());
}

PyDoc_STRVAR(cuda_count_doc, "cuda_count($module, /)\n--\n\nCards that the driver shows; 0 without a driver.");
PyDoc_STRVAR(cuda_cards_doc, "cuda_cards($module, /)\n--\n\n"
                             "Names of the cards that can be planned for without being there: \"rtx4090\" of \"cuda:rtx4090\".");
PyDoc_STRVAR(card_properties_doc,
             "card_properties($module, name)\n--\n\n"
             "Of a cuda device, which need not be opened for it: name, sm (compute capability times 10), multiprocessors, shared_bytes,\n"
             "memory_bytes, l2_bytes, clock_mhz; tabled rates, 0 where unknown: bf16_tflops, f32_tflops, memory_gbs, link_gbs;\n"
             "planning_only. DeviceError where it is not there.");
PyDoc_STRVAR(set_library_folders_doc,
             "set_library_folders($module, folders)\n--\n\n"
             "Folders in which cuBLASLt, cuDNN and NVRTC may lie, searched before the system's; for devices opened from now on.");
PyDoc_STRVAR(allow_tf32_doc, "allow_tf32($module, allow, /)\n--\n\n"
                             "Whether cuBLASLt may multiply float32 matrices as TF32, on all cards from the next plan on.");
PyDoc_STRVAR(allows_tf32_doc, "allows_tf32($module, /)\n--\n\nWhether it may.");

PyMethodDef wo_py_cuda_functions[] = {
    {"cuda_count", cuda_count, METH_NOARGS, cuda_count_doc},
    {"cuda_cards", cuda_cards, METH_NOARGS, cuda_cards_doc},
    {"card_properties", WO_PY_METHOD(card_properties), METH_VARARGS | METH_KEYWORDS, card_properties_doc},
    {"set_library_folders", WO_PY_METHOD(set_library_folders), METH_VARARGS | METH_KEYWORDS, set_library_folders_doc},
    {"allow_tf32", allow_tf32, METH_O, allow_tf32_doc},
    {"allows_tf32", allows_tf32, METH_NOARGS, allows_tf32_doc},
    {NULL, NULL, 0, NULL},
};
