/* The only file that includes NumPy's headers. Arrays come in as borrowed contents of a contiguous array, and go out as new
 * arrays that own their memory. */
#include "python/module.h"

#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#include <numpy/arrayobject.h>

#include <string.h>

int wo_py_arrays_init(void) { return PyArray_ImportNumPyAPI(); }

bool wo_py_is_numpy_bool(PyObject *value) { return PyArray_IsScalar(value, Bool); }

static int numpy_type(wo_dtype dtype) { return dtype == WO_I32 ? NPY_INT32 : NPY_FLOAT32; }

/* "[2, C, 3]" of what is wanted. */
static void describe_wanted(char *buffer, size_t bytes, int rank, const int64_t *shape, const char *const *axes) {
    size_t used = (size_t)snprintf(buffer, bytes, "[");
    for (int i = 0; i < rank && used < bytes; i++) {
        const char *comma = i == 0 ? "" : ", ";
        if (shape[i] >= 0)
            used += (size_t)snprintf(buffer + used, bytes - used, "%s%lld", comma, (long long)shape[i]);
        else
            used += (size_t)snprintf(buffer + used, bytes - used, "%s%s", comma, axes[i]);
    }
    if (used < bytes)
        snprintf(buffer + used, bytes - used, "]");
}

/* The shape of an array in the same form, whatever its rank. */
static PyObject *describe_found(PyArrayObject *array) {
    PyObject *shape = PyArray_IntTupleFromIntp(PyArray_NDIM(array), PyArray_DIMS(array));
    PyObject *list = shape == NULL ? NULL : PySequence_List(shape);
    Py_XDECREF(shape);
    return list;
}

static PyObject *refuse(PyObject *exception, PyObject *value, const char *name, wo_dtype dtype, int rank,
                        const int64_t *shape, const char *const *axes) {
    char wanted[128];
    describe_wanted(wanted, sizeof wanted, rank, shape, axes);
    const char *type = wo_dtype_name(dtype);
    if (!PyArray_Check(value)) {
        PyErr_Format(exception, "%s: wanted a NumPy array of %s %s, got %s", name, type, wanted,
                     Py_TYPE(value)->tp_name);
        return NULL;
    }
    PyObject *found = describe_found((PyArrayObject *)value);
    if (found != NULL)
        PyErr_Format(exception, "%s: wanted an array of %s %s, got %S %S", name, type, wanted,
                     (PyObject *)PyArray_DESCR((PyArrayObject *)value), found);
    Py_XDECREF(found);
    return NULL;
}

PyObject *wo_py_array_in(PyObject *value, const char *name, wo_dtype dtype, int rank, int64_t *shape,
                         const char *const *axes) {
    if (!PyArray_Check(value) || PyArray_TYPE((PyArrayObject *)value) != numpy_type(dtype))
        return refuse(PyExc_TypeError, value, name, dtype, rank, shape, axes);
    PyArrayObject *array = (PyArrayObject *)value;
    bool fits = PyArray_NDIM(array) == rank;
    for (int i = 0; fits && i < rank; i++)
        fits = shape[i] < 0 || shape[i] == PyArray_DIM(array, i);
    if (!fits)
        return refuse(PyExc_ValueError, value, name, dtype, rank, shape, axes);
    for (int i = 0; i < rank; i++)
        shape[i] = PyArray_DIM(array, i);
    return PyArray_FROM_OTF(value, numpy_type(dtype), NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED);
}

PyObject *wo_py_array_new(int rank, const int64_t *shape) {
    npy_intp dims[WO_MAX_RANK];
    for (int i = 0; i < rank; i++)
        dims[i] = (npy_intp)shape[i];
    return PyArray_SimpleNew(rank, dims, NPY_FLOAT32);
}

void *wo_py_array_data(PyObject *array) { return PyArray_DATA((PyArrayObject *)array); }
