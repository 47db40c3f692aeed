/* The recorder behind a dry exec. Addresses come from the dry device: distinct, never NULL, with no memory behind them, so that
 * the checks of every operation hold while nothing is computed.
 *
 * What is wrong in a model's use of the engine (a layer never let go, a tensor freed twice) is found here, at the first plan. */
#include "offload/record.h"

#include "offload/component_impl.h"
#include "offload/exec_impl.h"
#include "offload/table.h"

#include <assert.h>

typedef struct live_block {
    void *data;
    size_t index;
} live_block;

struct wo_recorder {
    const wo_component *component;
    wo_device *dry;
    wo_record *record;
    wo_record_pass *pass;
    int64_t events;
    live_block *live;
    size_t live_count, live_capacity;
    wo_tensor (*params)[WO_LAYER_MAX_PARAMS]; /* by layer */
    bool *in_use;                             /* by layer */
    void **keep_data;                         /* by keep */
    size_t keep_data_capacity;
    wo_error failure; /* of a free, which cannot return it */
};

static wo_status address(wo_recorder *r, size_t bytes, void **out, wo_error *err) {
    return r->dry->memory->alloc(r->dry, bytes > 0 ? bytes : 1, "a dry tensor", out, err);
}

wo_status wo_recorder_alloc(wo_recorder *r, wo_tensor *t, wo_error *err) {
    wo_record_pass *pass = r->pass;
    void *blocks = wo_list_reserve(pass->blocks, &pass->block_capacity, pass->block_count + 1, sizeof *pass->blocks, "the dry record", err);
    if (blocks == NULL)
        return WO_ENOMEMORY;
    pass->blocks = blocks;
    void *live = wo_list_reserve(r->live, &r->live_capacity, r->live_count + 1, sizeof *r->live, "the dry record", err);
    if (live == NULL)
        return WO_ENOMEMORY;
    r->live = live;
    size_t bytes = wo_tensor_bytes(t);
    WO_TRY(address(r, bytes, &t->data, err));
    r->live[r->live_count++] = (live_block){t->data, pass->block_count};
    pass->blocks[pass->block_count++] = (wo_lifetime){.bytes = bytes > 0 ? bytes : 1, .born = r->events++, .dies = -1};
    pass->live_most = r->live_count > pass->live_most ? r->live_count : pass->live_most;
    return WO_OK;
}

void wo_recorder_free(wo_recorder *r, const wo_tensor *t) {
    for (size_t i = r->live_count; i-- > 0;) {
        if (r->live[i].data != t->data)
            continue;
        r->pass->blocks[r->live[i].index].dies = r->events++;
        r->live[i] = r->live[--r->live_count];
        return;
    }
    if (r->failure.code == WO_OK) {
        char text[96];
        wo_error_set(&r->failure, WO_EINTERNAL, "%s: a tensor %s is freed that is not allocated", wo_component_name(r->component),
                     wo_tensor_describe(t, text, sizeof text));
    }
}

int64_t wo_record_find_keep(const wo_record *record, uint64_t key, size_t hint) {
    if (hint < record->keep_count && record->keeps[hint].key == key)
        return (int64_t)hint;
    for (size_t i = 0; i < record->keep_count; i++)
        if (record->keeps[i].key == key)
            return (int64_t)i;
    return -1;
}

static wo_status add_keep(wo_recorder *r, uint64_t key, bool host, size_t bytes, wo_error *err) {
    wo_record *record = r->record;
    size_t wanted = record->keep_count + 1;
    void *keeps = wo_list_reserve(record->keeps, &record->keep_capacity, wanted, sizeof *record->keeps, "the dry record", err);
    if (keeps == NULL)
        return WO_ENOMEMORY;
    record->keeps = keeps;
    void *data = wo_list_reserve(r->keep_data, &r->keep_data_capacity, wanted, sizeof *r->keep_data, "the dry record", err);
    if (data == NULL)
        return WO_ENOMEMORY;
    r->keep_data = data;
    WO_TRY(address(r, bytes, &r->keep_data[record->keep_count], err));
    size_t *part = host ? &record->host_keep_bytes : &record->keep_bytes;
    record->keeps[record->keep_count++] = (wo_record_keep){key, host, bytes, *part};
    *part += wo_arena_round(bytes > 0 ? bytes : 1);
    return WO_OK;
}

wo_status wo_recorder_keep(wo_recorder *r, uint64_t key, bool host, wo_tensor *t, bool *fresh, wo_error *err) {
    size_t bytes = wo_tensor_bytes(t);
    int64_t at = wo_record_find_keep(r->record, key, 0);
    *fresh = at < 0;
    if (at < 0) {
        at = (int64_t)r->record->keep_count;
        WO_TRY(add_keep(r, key, host, bytes, err));
    }
    const wo_record_keep *keep = &r->record->keeps[at];
    if (keep->bytes != bytes || keep->host != host)
        WO_FAIL(err, WO_EINTERNAL, "%s: kept memory %llu is asked for with %zu bytes, and before with %zu", wo_component_name(r->component),
                (unsigned long long)key, bytes, keep->bytes);
    t->data = r->keep_data[at];
    return WO_OK;
}

static wo_status note_use(wo_recorder *r, const wo_layer *layer, bool done, wo_error *err) {
    wo_record_pass *pass = r->pass;
    if (r->in_use[layer->index] != done)
        WO_FAIL(err, WO_EINTERNAL, "%s: layer '%s' is %s", wo_component_name(r->component), layer->name,
                done ? "let go without being in use" : "taken into use twice");
    void *uses = wo_list_reserve(pass->uses, &pass->use_capacity, pass->use_count + 1, sizeof *pass->uses, "the dry record", err);
    if (uses == NULL)
        return WO_ENOMEMORY;
    pass->uses = uses;
    pass->uses[pass->use_count++] = (wo_use_event){layer->index, done};
    r->in_use[layer->index] = !done;
    return WO_OK;
}

wo_status wo_recorder_use(wo_recorder *r, const wo_layer *layer, const wo_tensor **params, wo_error *err) {
    if (layer->read_by_row)
        WO_FAIL(err, WO_EINTERNAL, "%s: '%s' is a table, which is read by row", wo_component_name(r->component), layer->name);
    WO_TRY(note_use(r, layer, false, err));
    wo_tensor *views = r->params[layer->index];
    for (int32_t i = 0; i < layer->params; i++) {
        void *data = views[i].data;
        if (data == NULL)
            WO_TRY(address(r, wo_tensor_bytes(&layer->param[i].shape_of_use), &data, err));
        views[i] = layer->param[i].shape_of_use;
        views[i].data = data;
    }
    *params = views;
    return WO_OK;
}

wo_status wo_recorder_done(wo_recorder *r, const wo_layer *layer, wo_error *err) {
    return note_use(r, layer, true, err);
}

/* What was not freed lives to the end of the pass. */
static wo_status end_pass(wo_recorder *r, int index, wo_error *err) {
    wo_record_pass *pass = r->pass;
    for (size_t i = 0; i < wo_component_layers(r->component); i++)
        if (r->in_use[i])
            WO_FAIL(err, WO_EINTERNAL, "%s: layer '%s' is never let go in pass %d", wo_component_name(r->component),
                    wo_component_layer(r->component, i)->name, index);
    if (r->failure.code != WO_OK) {
        *err = r->failure;
        return r->failure.code;
    }
    for (size_t i = 0; i < r->live_count; i++)
        pass->blocks[r->live[i].index].dies = r->events;
    r->live_count = 0;
    WO_TRY(wo_arena_place(pass->blocks, pass->block_count, &pass->bytes, err));
    pass->live_bytes = wo_arena_lower_bound(pass->blocks, pass->block_count);
    if (pass->bytes > r->record->activation_bytes)
        r->record->activation_bytes = pass->bytes;
    return WO_OK;
}

static wo_status run_passes(wo_recorder *r, wo_exec *x, const void *model, wo_forward_fn forward, const void *request, wo_error *err) {
    for (int i = 0; i < r->record->passes; i++) {
        r->pass = &r->record->pass[i];
        r->events = 0;
        WO_TRY(forward(model, x, i, request, err));
        r->pass->work = wo_dry_take_work(x->compute);
        WO_TRY(end_pass(r, i, err));
    }
    return WO_OK;
}

static wo_status make(wo_recorder *r, wo_exec *x, const void *model, wo_forward_fn forward, int passes, const void *request, wo_error *err) {
    size_t layers = wo_component_layers(r->component);
    wo_record *record = r->record;
    record->references = 1;
    record->knobs = x->knobs;
    record->passes = passes;
    if ((record->pass = wo_table_create((size_t)passes, sizeof *record->pass, "the dry record", err)) == NULL ||
        (r->params = wo_table_create(layers, sizeof *r->params, "the dry record", err)) == NULL ||
        (r->in_use = wo_table_create(layers, sizeof *r->in_use, "the dry record", err)) == NULL)
        return WO_ENOMEMORY;
    x->recorder = r;
    WO_TRY(wo_device_open("dry", &r->dry, err));
    WO_TRY(r->dry->stream->create(r->dry, "dry", &x->compute, err));
    return run_passes(r, x, model, forward, request, err);
}

wo_status wo_record_make(const wo_component *c, const void *model, wo_forward_fn forward, int passes, const void *request,
                         const wo_device *device, const wo_knobs *knobs, wo_record **out, wo_error *err) {
    *out = NULL;
    wo_error own;
    err = err != NULL ? err : &own;
    wo_record *record = wo_table_create(1, sizeof *record, "the dry record", err);
    wo_exec *x = wo_table_create(1, sizeof *x, "a dry exec", err);
    wo_status status = WO_ENOMEMORY;
    if (record != NULL && x != NULL) {
        wo_recorder r = {.component = c, .record = record};
        x->component = c;
        x->device = (wo_device *)(uintptr_t)device;
        x->knobs = *knobs;
        status = make(&r, x, model, forward, passes, request, err);
        if (r.dry != NULL) {
            r.dry->stream->destroy(x->compute);
            wo_device_close(r.dry);
        }
        wo_memory_release(r.live);
        wo_memory_release(r.params);
        wo_memory_release(r.in_use);
        wo_memory_release(r.keep_data);
    }
    wo_memory_release(x);
    if (status == WO_OK)
        *out = record;
    else
        wo_record_release(record);
    return status;
}

wo_record *wo_record_retain(wo_record *record) {
    record->references++;
    return record;
}

void wo_record_release(wo_record *record) {
    if (record == NULL || --record->references > 0)
        return;
    for (int i = 0; record->pass != NULL && i < record->passes; i++) {
        wo_memory_release(record->pass[i].uses);
        wo_memory_release(record->pass[i].blocks);
    }
    wo_memory_release(record->pass);
    wo_memory_release(record->keeps);
    wo_memory_release(record);
}
