/* From wo_error to Python exceptions. WO_STATUS_LIST names the class of each status; wanoffload.errors has those that are
 * ours, the builtins the rest. */
#include "python/module.h"

#include <string.h>

static const char *const class_names[WO_STATUS_COUNT] = {
#define CLASS_NAME(name, python, text) [WO_##name] = python,
    WO_STATUS_LIST(CLASS_NAME)
#undef CLASS_NAME
};

static PyObject *find_class(PyObject *ours, PyObject *builtins, const char *name) {
    if (PyObject_HasAttrString(ours, name))
        return PyObject_GetAttrString(ours, name);
    return PyObject_GetAttrString(builtins, name);
}

int wo_py_errors_init(wo_py_state *state) {
    PyObject *ours = PyImport_ImportModule("wanoffload.errors");
    PyObject *builtins = ours == NULL ? NULL : PyImport_ImportModule("builtins");
    int result = builtins == NULL ? -1 : 0;
    for (int i = WO_OK + 1; result == 0 && i < WO_STATUS_COUNT; i++) {
        state->exceptions[i] = find_class(ours, builtins, class_names[i]);
        if (state->exceptions[i] == NULL)
            result = -1;
    }
    Py_XDECREF(ours);
    Py_XDECREF(builtins);
    return result;
}

PyObject *wo_py_exception_take(void) {
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

void wo_py_exception_put(PyObject *exception) {
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exception);
#else
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exception)), exception, PyException_GetTraceback(exception));
#endif
}

PyObject *wo_py_text(const char *text) { return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace"); }

static PyObject *budget_or_none(int64_t bytes) {
    if (bytes < 0)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(bytes);
}

/* {"vram": ..., "ram": ...} */
static PyObject *budgets(int64_t vram, int64_t ram) {
    PyObject *dict = PyDict_New();
    if (dict == NULL || wo_py_put(dict, "vram", budget_or_none(vram)) < 0 ||
        wo_py_put(dict, "ram", budget_or_none(ram)) < 0)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *make_plan_error(PyObject *class, PyObject *text, const wo_shortfall *s) {
    PyObject *args = PyTuple_Pack(1, text), *names = PyDict_New(), *made = NULL;
    if (args != NULL && names != NULL &&
        wo_py_put(names, "budget", budgets(s->vram_budget, s->ram_budget)) == 0 &&
        wo_py_put(names, "needed", budgets(s->vram_needed, s->ram_needed)) == 0)
        made = PyObject_Call(class, args, names);
    Py_XDECREF(args);
    Py_XDECREF(names);
    return made;
}

/* OSError picks the subclass (FileNotFoundError, ...) by errno. */
static PyObject *make_os_error(PyObject *class, PyObject *text, const wo_error *err) {
    if (err->os_errno == 0)
        return PyObject_CallFunctionObjArgs(class, text, NULL);
    if (err->path[0] == '\0')
        return PyObject_CallFunction(class, "iO", err->os_errno, text);
    PyObject *path = PyUnicode_DecodeFSDefault(err->path);
    if (path == NULL)
        return NULL;
    return PyObject_CallFunction(class, "iON", err->os_errno, text, path);
}

/* The message; with the file's name where the message itself does not have it. OSError shows its file name by itself. */
static PyObject *make_text(wo_status status, const wo_error *err) {
    PyObject *text = wo_py_text(err->message[0] != '\0' ? err->message : wo_status_text(status));
    if (text == NULL || status == WO_EOS || err->path[0] == '\0' || strstr(err->message, err->path) != NULL)
        return text;
    PyObject *path = PyUnicode_DecodeFSDefault(err->path);
    PyObject *both = path == NULL ? NULL : PyUnicode_FromFormat("%U (%U)", text, path);
    Py_DECREF(text);
    Py_XDECREF(path);
    return both;
}

int wo_py_raise(const wo_py_state *state, wo_status status, const wo_error *err) {
    if (status <= WO_OK || status >= WO_STATUS_COUNT)
        status = WO_EINTERNAL;
    PyObject *class = state->exceptions[status];
    PyObject *text = make_text(status, err), *made = NULL;
    if (text == NULL)
        return -1;
    if (status == WO_EPLAN)
        made = make_plan_error(class, text, &err->shortfall);
    else if (status == WO_EOS)
        made = make_os_error(class, text, err);
    else if (status == WO_ECANCELLED && err->message[0] == '\0')
        made = PyObject_CallNoArgs(class);
    else
        made = PyObject_CallFunctionObjArgs(class, text, NULL);
    Py_DECREF(text);
    if (made != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(made), made);
        Py_DECREF(made);
    }
    return -1;
}
