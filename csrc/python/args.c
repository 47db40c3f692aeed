/* Arguments by name. Everything is checked before any work, and a message says which argument, what was wanted and what was
 * found; so the argument tuples are parsed as plain objects and converted here. */
#include "python/module.h"

#include <string.h>

static int wrong_type(const char *name, const char *wanted, PyObject *value) {
    PyErr_Format(PyExc_TypeError, "%s: wanted %s, got %R of type %s", name, wanted, value, Py_TYPE(value)->tp_name);
    return -1;
}

int wo_py_int(PyObject *value, const char *name, int64_t least, int64_t most, int64_t *out) {
    if (PyBool_Check(value) || !PyIndex_Check(value))
        return wrong_type(name, "an integer", value);
    PyObject *number = PyNumber_Index(value);
    if (number == NULL)
        return -1;
    int overflow = 0;
    long long result = PyLong_AsLongLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    if (overflow != 0 || result < least || result > most) {
        PyErr_Format(PyExc_ValueError, "%s: wanted an integer from %lld to %lld, got %R", name, (long long)least,
                     (long long)most, value);
        return -1;
    }
    *out = result;
    return 0;
}

int wo_py_real(PyObject *value, const char *name, double least, double most, double *out) {
    PyNumberMethods *number = Py_TYPE(value)->tp_as_number;
    if (PyBool_Check(value) || number == NULL || (number->nb_float == NULL && number->nb_index == NULL))
        return wrong_type(name, "a number", value);
    double result = PyFloat_AsDouble(value);
    if (result == -1.0 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError))
            return -1;
        PyErr_Clear();
        result = most * 2.0 + 1.0;
    }
    if (!(result >= least && result <= most)) {
        PyObject *low = PyFloat_FromDouble(least), *high = PyFloat_FromDouble(most);
        if (low != NULL && high != NULL)
            PyErr_Format(PyExc_ValueError, "%s: wanted a number from %R to %R, got %R", name, low, high, value);
        Py_XDECREF(low);
        Py_XDECREF(high);
        return -1;
    }
    *out = result;
    return 0;
}

int wo_py_bool(PyObject *value, const char *name, bool *out) {
    if (!PyBool_Check(value) && !wo_py_is_numpy_bool(value))
        return wrong_type(name, "True or False", value);
    int truth = PyObject_IsTrue(value);
    if (truth < 0)
        return -1;
    *out = truth != 0;
    return 0;
}

int wo_py_string(PyObject *value, const char *name, const char **out) {
    if (!PyUnicode_Check(value))
        return wrong_type(name, "a str", value);
    *out = PyUnicode_AsUTF8(value);
    return *out == NULL ? -1 : 0;
}

int wo_py_word(PyObject *value, const char *name, const char *const *words, int *out) {
    const char *text;
    if (wo_py_string(value, name, &text) < 0)
        return -1;
    char list[256] = "";
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], text) == 0) {
            *out = i;
            return 0;
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s\"%s\"", i == 0 ? "" : ", ", words[i]);
    }
    PyErr_Format(PyExc_ValueError, "%s: wanted one of %s, got %R", name, list, value);
    return -1;
}

int wo_py_dtype(PyObject *value, const char *name, wo_dtype *out) {
    static const char *const words[] = {"float32", "bfloat16", "float16", NULL};
    static const wo_dtype dtypes[] = {WO_F32, WO_BF16, WO_F16};
    int index;
    if (wo_py_word(value, name, words, &index) < 0)
        return -1;
    *out = dtypes[index];
    return 0;
}

PyObject *wo_py_sequence(PyObject *value, const char *name, const char *wanted) {
    if (PyUnicode_Check(value) || PyBytes_Check(value) || !PySequence_Check(value)) {
        wrong_type(name, wanted, value);
        return NULL;
    }
    return PySequence_Fast(value, name);
}

PyObject *wo_py_mapping(PyObject *value, const char *name) {
    PyObject *dict = NULL;
    if (PyDict_Check(value) || (PyMapping_Check(value) && PyObject_HasAttrString(value, "keys")))
        dict = PyDict_New();
    else
        wrong_type(name, "a mapping", value);
    if (dict != NULL && PyDict_Update(dict, value) < 0)
        Py_CLEAR(dict);
    return dict;
}

int wo_py_instance(PyObject *value, const char *name, PyTypeObject *type) {
    if (PyObject_TypeCheck(value, type))
        return 0;
    return wrong_type(name, type->tp_name, value);
}

int wo_py_put(PyObject *dict, const char *key, PyObject *value) {
    if (value == NULL)
        return -1;
    int result = PyDict_SetItemString(dict, key, value);
    Py_DECREF(value);
    return result;
}

int wo_py_append(PyObject *list, PyObject *value) {
    if (value == NULL)
        return -1;
    int result = PyList_Append(list, value);
    Py_DECREF(value);
    return result;
}
