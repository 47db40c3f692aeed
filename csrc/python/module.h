/* What the files of the CPython module share.
 *
 * Each Python object owns one C handle, and children keep their parents: Component -> Store; Plan -> Component;
 * Exec -> Engine, Component, Plan. Nothing refers back, so there are no cycles for the collector. All fields of the objects
 * below are touched with the GIL held only; a job on a core thread sees nothing but what it was handed.
 *
 * An engine may hold weights of a component whose Python object is gone, and may be busy at that moment. So the network
 * behind a Component is counted: by the object, and by each engine that has opened it. An engine lets go of what was
 * abandoned at the end of the call that kept it busy, or at once when it was idle.
 */
#ifndef WO_PYTHON_MODULE_H
#define WO_PYTHON_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "model/model.h"
#include "python/job.h"

typedef struct wo_py_engine wo_py_engine;

typedef enum wo_py_kind {
    WO_PY_TEXT_ENCODER,
    WO_PY_IMAGE_ENCODER,
    WO_PY_TRANSFORMER,
    WO_PY_VAE_DECODER,
    WO_PY_VAE_ENCODER,
    WO_PY_KINDS
} wo_py_kind;

typedef struct wo_py_state {
    PyObject *exceptions[WO_STATUS_COUNT]; /* by status; NULL for WO_OK */
    PyTypeObject *store, *component, *networks[WO_PY_KINDS], *plan, *engine, *exec; /* networks: by wo_py_kind */
    wo_py_engine *engines;     /* those alive, not counted */
    pid_t process;             /* whose engines these are; 0 when there are none */
    int64_t running;           /* jobs on core threads */
    bool exiting;              /* the interpreter is going down: */
    unsigned long exit_thread; /* only this thread may still start jobs */
} wo_py_state;

/* A model, its component, and what checking arguments needs to know of it. */
typedef struct wo_py_network {
    wo_py_kind kind;
    void *model;
    const wo_component *component; /* owned by the model */
    wo_dtype dtype;
    union {
        wo_umt5_config umt5;
        wo_clip_config clip;
        wo_transformer_config transformer;
        wo_vae_config vae; /* base_dim: of the half that this is */
    } config;
    int holders;    /* the Component object and the engines that have opened it */
    bool abandoned; /* the Component object is gone */
} wo_py_network;

/* Sizes that a plan was made for, in the form that the model's passes take. */
typedef struct wo_py_request {
    union {
        wo_umt5_request umt5;
        wo_clip_request clip;
        wo_transformer_request transformer;
        wo_vae_request vae;
        wo_vae_encode_request vae_encode;
    } as;
    wo_text *text;     /* owned; as.transformer.text points here */
    int32_t *image_of; /* owned; as.transformer.images.of points here */
    int32_t *tokens;   /* owned; as.umt5.tokens points here */
} wo_py_request;

typedef struct {
    PyObject_HEAD
    wo_store *store;
} wo_py_store;

typedef struct {
    PyObject_HEAD
    wo_py_network *network;
    PyObject *store;
} wo_py_component;

typedef struct {
    PyObject_HEAD
    wo_plan *plan;
    PyObject *component, *second; /* second: the expert that takes turns with the component, or NULL */
    wo_py_request request;
    char device[32]; /* name of the device it was made for */
} wo_py_plan;

/* A network that an engine has opened, in a singly linked list. */
typedef struct wo_py_tie {
    wo_py_network *network;
    struct wo_py_tie *next;
} wo_py_tie;

struct wo_py_engine {
    PyObject_HEAD
    wo_engine *engine;
    wo_py_worker *worker;
    bool busy;             /* a call runs */
    int64_t trace_spans;   /* that plans made from now on have room for */
    wo_cancel *stoppable;  /* the token of that call, NULL when it cannot be cancelled */
    const wo_py_network *open, *open_second; /* the network whose Exec is open, and its second expert; or NULL */
    wo_py_tie *ties;
    wo_exec *orphan;       /* an Exec that was collected while the engine was busy, with its plan */
    wo_plan *orphan_plan;
    wo_py_engine *next, *previous;
};

/* A method with keywords, as the method table wants it. */
#define WO_PY_METHOD(function) ((PyCFunction)(void (*)(void))(function))

/* The state of the module that defines the type of self. None of the types can be subclassed from Python. */
static inline wo_py_state *wo_py_state_of(PyObject *self) { return PyType_GetModuleState(Py_TYPE(self)); }

/* ---- errors.c ---- */
/* Fills state->exceptions from wanoffload.errors and the builtins. */
int wo_py_errors_init(wo_py_state *state);
/* Sets the exception that belongs to a failed status; always -1. */
int wo_py_raise(const wo_py_state *state, wo_status status, const wo_error *err);
/* Takes the current exception out, and puts one back (and with it the reference). */
PyObject *wo_py_exception_take(void);
void wo_py_exception_put(PyObject *exception);
/* Text that came from a file or was cut off may not be UTF-8; it is shown all the same. */
PyObject *wo_py_text(const char *text);

/* ---- args.c: arguments by name; 0, or -1 with a TypeError or ValueError that names wanted and got ---- */
int wo_py_int(PyObject *value, const char *name, int64_t least, int64_t most, int64_t *out);
int wo_py_real(PyObject *value, const char *name, double least, double most, double *out);
int wo_py_bool(PyObject *value, const char *name, bool *out);
int wo_py_dtype(PyObject *value, const char *name, wo_dtype *out);
/* The index of value in words, which ends with NULL. */
int wo_py_word(PyObject *value, const char *name, const char *const *words, int *out);
/* A str as UTF-8, borrowed from value. */
int wo_py_string(PyObject *value, const char *name, const char **out);
/* A new list or tuple with the items of a sequence that is no str. */
PyObject *wo_py_sequence(PyObject *value, const char *name, const char *wanted);
/* A new dict with the items of a mapping. */
PyObject *wo_py_mapping(PyObject *value, const char *name);
int wo_py_instance(PyObject *value, const char *name, PyTypeObject *type);
/* Put value, whose reference they take and which may be NULL after an error, under key or at the end. */
int wo_py_put(PyObject *dict, const char *key, PyObject *value);
int wo_py_append(PyObject *list, PyObject *value);

/* ---- arrays.c: the only file that knows NumPy ---- */
int wo_py_arrays_init(void);
bool wo_py_is_numpy_bool(PyObject *value);
/* A reference to a contiguous, aligned array in native byte order with the contents of value: value itself, or a copy. value
 * has to be an array of dtype (F32 or I32) and rank, with shape[i] along each axis where shape[i] >= 0; other axes are free
 * and called axes[i] in messages. Fills shape. */
PyObject *wo_py_array_in(PyObject *value, const char *name, wo_dtype dtype, int rank, int64_t *shape,
                         const char *const *axes);
/* A new float32 array, contents undefined. */
PyObject *wo_py_array_new(int rank, const int64_t *shape);
void *wo_py_array_data(PyObject *array);

/* ---- networks.c, components.c, config.c ---- */
/* A network that the caller holds; NULL with an exception. config: a mapping; dtype: a str. */
wo_py_network *wo_py_network_new(wo_py_state *state, wo_py_kind kind, wo_store *store, PyObject *config, PyObject *dtype);
void wo_py_network_release(wo_py_network *network);
wo_forward_fn wo_py_network_forward(const wo_py_network *network);
int wo_py_network_passes(const wo_py_network *network);
PyTypeObject *wo_py_component_type(PyObject *module);
int wo_py_network_types(PyObject *module, wo_py_state *state);
int wo_py_config_umt5(PyObject *config, wo_umt5_config *out);
int wo_py_config_clip(PyObject *config, wo_clip_config *out);
int wo_py_config_transformer(PyObject *config, wo_transformer_config *out);
/* base_dim becomes that of the half that is asked for. */
int wo_py_config_vae(PyObject *config, wo_py_kind half, wo_vae_config *out);

/* ---- store.c, plans.c, policy.c, requests.c ---- */
PyTypeObject *wo_py_store_type(PyObject *module);
PyTypeObject *wo_py_plan_type(PyObject *module);
/* Makes the dry run on the engine's core thread; takes over the contents of request, also when it fails. second: another Component
 * that takes turns with this one, or NULL. */
PyObject *wo_py_plan_new(PyObject *component, PyObject *second, PyObject *engine, wo_py_request *request, PyObject *policy);
int wo_py_policy(PyObject *value, wo_policy *out);
extern const char *const wo_py_level_words[], *const wo_py_tier_words[];
int wo_py_request_umt5(PyObject *tokens, wo_py_request *out);
int wo_py_request_transformer(PyObject *frames, PyObject *height, PyObject *width, PyObject *text, PyObject *unfolded,
                              wo_py_request *out);
/* Adds images, (rows, index of the embedding of each batch item) or None; gives up the request when it fails. */
int wo_py_request_images(PyObject *images, const wo_transformer_config *config, wo_py_request *out);
int wo_py_request_clip(PyObject *images, wo_py_request *out);
int wo_py_request_vae(PyObject *height, PyObject *width, wo_py_request *out);
int wo_py_request_vae_encode(PyObject *height, PyObject *width, int64_t scale, wo_py_request *out);
void wo_py_request_fini(wo_py_request *request);

/* ---- engine.c ---- */
PyTypeObject *wo_py_engine_type(PyObject *module);
/* Core threads do not survive fork(): RuntimeError in a child of a process that had engines. */
int wo_py_check_process(const wo_py_state *state);
/* BusyError when a call runs already. */
int wo_py_engine_check_idle(const wo_py_engine *engine);
/* Runs a job on the engine's core thread, after check_idle. cancel: the token that Ctrl-C requests, or
 * NULL for work that has to be waited for. Afterwards lets go of what was abandoned meanwhile. */
int wo_py_engine_run(wo_py_engine *engine, wo_cancel *cancel, wo_py_job_fn fn, void *job);
/* From now on the engine may hold weights of the network. */
int wo_py_engine_tie(wo_py_engine *engine, wo_py_network *network);
/* The Component object of the network is gone. */
void wo_py_engines_abandon(wo_py_state *state, wo_py_network *network);
/* The Exec object of an open exec is gone. */
void wo_py_engine_abandon_exec(wo_py_engine *engine, wo_exec *exec, wo_plan *plan);

/* ---- cuda.c ---- */
bool wo_py_is_cuda(const char *name);
/* What there is of NVIDIA's on this machine and in this build; a new str. */
PyObject *wo_py_cuda_describe(void);
extern PyMethodDef wo_py_cuda_functions[];

/* ---- exec.c, functions.c, testing.c ---- */
PyTypeObject *wo_py_exec_type(PyObject *module);
extern PyMethodDef wo_py_functions[];
wo_status wo_py_device_open(const char *name, wo_device **out, wo_error *err);
PyTypeObject *wo_py_testing_type(PyObject *module);

#endif
