/* What has a handle, and events. An event stands for a point of a stream's queue since it was recorded. */
#include "fakecuda/internal.h"

/* --- objects ---------------------------------------------------------------------------------------------------------------------- */

void fake_add_object(fake_object *o, fakecuda_kind kind, wo_cu_context context) {
    *o = (fake_object){kind, context, fake.objects};
    fake.objects = o;
    fake.live[kind]++;
}

void fake_remove_object(fake_object *o) {
    for (fake_object **at = &fake.objects; *at != NULL; at = &(*at)->next)
        if (*at == o) {
            *at = o->next;
            return;
        }
}

fake_object *fake_find_object(const void *handle, fakecuda_kind kind, wo_cu_context context) {
    static const char *const names[] = {"context", "stream", "event", "module"};
    for (fake_object *o = fake.objects; o != NULL; o = o->next)
        if (o == handle && o->kind == kind && !(kind == FAKECUDA_STREAMS && ((wo_cu_stream)o)->closing)) {
            if (o->context == context)
                return o;
            fake_misuse("the %s %p is of another context", names[kind], handle);
            return NULL;
        }
    fake_misuse("%p is no %s, or none any more", handle, names[kind]);
    return NULL;
}

void fake_release_point(fake_point *p) {
    if (p != NULL && --p->holders == 0)
        free(p);
}

void fake_free_object(fake_object *o) {
    if (o->kind == FAKECUDA_EVENTS)
        fake_release_point(((wo_cu_event)o)->latest);
    if (o->kind == FAKECUDA_MODULES)
        for (struct CUfunc_st *f = ((wo_cu_module)o)->functions, *next; f != NULL; f = next) {
            next = f->next;
            free(f);
        }
    free(o);
}

/* --- entry points of events ------------------------------------------------------------------------------------------------------- */

wo_cu_result fake_event_create(wo_cu_event *out, unsigned flags) {
    wo_cu_context context;
    wo_cu_result r = fake_enter(FAKE_event_create, true, &context);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    if (out == NULL || flags > (WO_CU_EVENT_BLOCKING_SYNC | WO_CU_EVENT_DISABLE_TIMING))
        return fake_leave(WO_CU_INVALID_VALUE);
    wo_cu_event e = calloc(1, sizeof *e);
    if (e == NULL)
        return fake_leave(WO_CU_OUT_OF_MEMORY);
    fake_add_object(&e->head, FAKECUDA_EVENTS, context);
    *out = e;
    return fake_leave(WO_CU_SUCCESS);
}

static wo_cu_result enter_with_event(fake_entry entry, wo_cu_event event, wo_cu_event *out) {
    wo_cu_context context;
    wo_cu_result r = fake_enter(entry, true, &context);
    *out = r == WO_CU_SUCCESS ? (wo_cu_event)fake_find_object(event, FAKECUDA_EVENTS, context) : NULL;
    return r != WO_CU_SUCCESS || *out != NULL ? r : FAKE_INVALID_HANDLE;
}

/* Waits for the event that others have queued go on. */
wo_cu_result fake_event_destroy(wo_cu_event event) {
    wo_cu_event e;
    wo_cu_result r = enter_with_event(FAKE_event_destroy, event, &e);
    if (e == NULL)
        return fake_leave(r);
    fake.live[FAKECUDA_EVENTS]--;
    fake_remove_object(&e->head);
    fake_free_object(&e->head);
    return fake_leave(WO_CU_SUCCESS);
}

wo_cu_result fake_event_record(wo_cu_event event, wo_cu_stream stream) {
    wo_cu_stream s;
    wo_cu_result r = fake_enter_with_stream(FAKE_event_record, stream, &s);
    if (s == NULL)
        return fake_leave(r);
    wo_cu_event e = (wo_cu_event)fake_find_object(event, FAKECUDA_EVENTS, s->head.context);
    if (e == NULL)
        return fake_leave(FAKE_INVALID_HANDLE);
    fake_point *p = malloc(sizeof *p);
    if (p == NULL)
        return fake_leave(WO_CU_OUT_OF_MEMORY);
    *p = (fake_point){.holders = 2};
    fake_release_point(e->latest);
    e->latest = p;
    return fake_leave(fake_push(s, &(fake_command){.kind = FAKE_RECORD, .point = p}));
}

/* Waits for what the event stands for now, whatever it is recorded for later. */
wo_cu_result fake_stream_wait_event(wo_cu_stream stream, wo_cu_event event, unsigned flags) {
    wo_cu_stream s;
    wo_cu_result r = fake_enter_with_stream(FAKE_stream_wait_event, stream, &s);
    if (s == NULL)
        return fake_leave(r);
    wo_cu_event e = (wo_cu_event)fake_find_object(event, FAKECUDA_EVENTS, s->head.context);
    if (e == NULL || flags != 0)
        return fake_leave(e == NULL ? FAKE_INVALID_HANDLE : WO_CU_INVALID_VALUE);
    if (e->latest == NULL)
        return fake_leave(WO_CU_SUCCESS);
    e->latest->holders++;
    return fake_leave(fake_push(s, &(fake_command){.kind = FAKE_WAIT, .point = e->latest}));
}

wo_cu_result fake_event_query(wo_cu_event event) {
    wo_cu_event e;
    wo_cu_result r = enter_with_event(FAKE_event_query, event, &e);
    if (e == NULL)
        return fake_leave(r);
    return fake_leave(e->latest == NULL || e->latest->reached ? WO_CU_SUCCESS : WO_CU_NOT_READY);
}

wo_cu_result fake_event_synchronize(wo_cu_event event) {
    wo_cu_event e;
    wo_cu_result r = enter_with_event(FAKE_event_synchronize, event, &e);
    if (e == NULL || e->latest == NULL)
        return fake_leave(r);
    wo_cu_context context = e->head.context;
    fake_point *p = e->latest;
    p->holders++;
    while (!p->reached && context->error == WO_CU_SUCCESS)
        pthread_cond_wait(&fake.changed, &fake.lock);
    fake_release_point(p);
    return fake_leave(context->error);
}
