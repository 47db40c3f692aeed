/* Traces: from the core's events to dicts. The names of groups and lanes are shared among them, for there may be many. */
#include "python/exec.h"

/* The names of the plan's groups, by number. */
static PyObject *group_names(const wo_plan *plan) {
    wo_plan_summary summary;
    wo_plan_summarize(plan, &summary);
    PyObject *names = PyList_New(0);
    for (size_t i = 0; names != NULL && i < summary.groups; i++)
        if (wo_py_append(names, wo_py_text(wo_plan_group_at(plan, i)->name)) < 0)
            Py_CLEAR(names);
    return names;
}

static PyObject *group_or_none(PyObject *names, int32_t group) {
    PyObject *name = group >= 0 ? PyList_GET_ITEM(names, group % PyList_GET_SIZE(names)) : Py_None;
    return Py_NewRef(name);
}

/* The groups of the second expert come behind those of the first. */
static long expert_of(PyObject *names, int32_t group) { return group >= 0 ? group / (long)PyList_GET_SIZE(names) : 0; }

/* From when to when the group had its place in the ring; None where it has none. */
static PyObject *held_or_none(const wo_trace_event *event) {
    if (event->held_from <= 0)
        Py_RETURN_NONE;
    return event->held_to > 0 ? Py_BuildValue("(dd)", event->held_from, event->held_to)
                              : Py_BuildValue("(dO)", event->held_from, Py_None);
}

static PyObject *event_dict(const wo_trace_event *event, PyObject *lanes, PyObject *names) {
    PyObject *dict = PyDict_New();
    if (dict != NULL && (wo_py_put(dict, "lane", Py_NewRef(PyList_GET_ITEM(lanes, event->lane))) < 0 ||
                         wo_py_put(dict, "group", group_or_none(names, event->group)) < 0 ||
                         wo_py_put(dict, "expert", PyLong_FromLong(expert_of(names, event->group))) < 0 ||
                         wo_py_put(dict, "pass", PyLong_FromUnsignedLongLong(event->pass)) < 0 ||
                         wo_py_put(dict, "thread", PyLong_FromLong(event->thread)) < 0 ||
                         wo_py_put(dict, "bytes", PyLong_FromSize_t(event->bytes)) < 0 ||
                         wo_py_put(dict, "begin", PyFloat_FromDouble(event->begin)) < 0 ||
                         wo_py_put(dict, "end", PyFloat_FromDouble(event->end)) < 0 ||
                         wo_py_put(dict, "held", held_or_none(event)) < 0))
        Py_CLEAR(dict);
    return dict;
}

static PyObject *event_list(const wo_trace *trace, PyObject *lanes, PyObject *names) {
    PyObject *events = PyList_New(0);
    wo_trace_event event;
    for (size_t cursor = 0; events != NULL && wo_trace_next(trace, &cursor, &event);)
        if (wo_py_append(events, event_dict(&event, lanes, names)) < 0)
            Py_CLEAR(events);
    return events;
}

PyObject *wo_py_trace_dict(const wo_trace *trace, const wo_plan *plan) {
    PyObject *names = group_names(plan), *lanes = PyList_New(0), *dict = NULL;
    int result = names == NULL || lanes == NULL ? -1 : 0;
    for (int lane = 0; result == 0 && lane < WO_LANE_COUNT; lane++)
        result = wo_py_append(lanes, wo_py_text(wo_lane_name((wo_lane)lane)));
    if (result == 0)
        dict = PyDict_New();
    if (dict != NULL && (wo_py_put(dict, "events", event_list(trace, lanes, names)) < 0 ||
                         wo_py_put(dict, "dropped", PyLong_FromUnsignedLongLong(wo_trace_dropped(trace))) < 0))
        Py_CLEAR(dict);
    Py_XDECREF(names);
    Py_XDECREF(lanes);
    return dict;
}
