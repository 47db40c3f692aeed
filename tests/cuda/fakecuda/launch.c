/* Modules, functions and launches. What a module's image says is not looked at: functions are found by name in the PTX that the build has
 * put into this library, or in the folder FAKECUDA_PTX. */
#include "fakecuda/internal.h"

typedef struct loaded {
    int target;
    const char *module;
    char *text; /* own copy; NULL: the table's */
    ptxsim_module *ptx;
} loaded;

typedef struct kernel_row {
    char name[64];
    fakecuda_counts counts;
} kernel_row;

enum { MAX_LOADED = 64, MAX_KERNELS = 256 };
static loaded modules[MAX_LOADED]; /* parsed once a process */
static int module_count;
static kernel_row kernels[MAX_KERNELS];
static int kernel_count;

/* --- PTX -------------------------------------------------------------------------------------------------------------------------- */

static char *read_file(const char *path) {
    FILE *in = fopen(path, "rb");
    if (in == NULL)
        return NULL;
    size_t room = 1 << 16, used = 0;
    char *text = malloc(room);
    while (text != NULL && (used += fread(text + used, 1, room - used - 1, in)) == room - 1)
        text = realloc(text, room *= 2);
    fclose(in);
    if (text != NULL)
        text[used] = '\0';
    return text;
}

/* The text of a row of the table, or of the file that takes its place. */
static char *replaced_text(const char *module) {
    char path[640];
    if (fake.ptx[0] == '\0')
        return NULL;
    snprintf(path, sizeof path, "%s/%s.ptx", fake.ptx, module);
    return read_file(path);
}

static bool has_entry(const char *text, const char *name) {
    char wanted[80];
    int n = snprintf(wanted, sizeof wanted, ".entry %s(", name);
    return n < (int)sizeof wanted && strstr(text, wanted) != NULL;
}

static const loaded *load_row(const fake_ptx *row, char *message, size_t bytes) {
    for (int i = 0; i < module_count; i++)
        if (modules[i].target == row->target && modules[i].module == row->module)
            return &modules[i];
    loaded l = {.target = row->target, .module = row->module, .text = replaced_text(row->module)};
    l.ptx = ptxsim_load(l.text != NULL ? l.text : row->text, message, bytes);
    if (l.ptx == NULL || module_count == MAX_LOADED) {
        free(l.text);
        return NULL;
    }
    modules[module_count] = l;
    return &modules[module_count++];
}

/* The row of the table that has an entry; NULL: none. */
static const fake_ptx *find_row(const char *name) {
    for (size_t i = 0; i < fake_ptx_count; i++)
        if (fake_ptx_table[i].target == fake.target && has_entry(fake_ptx_table[i].text, name))
            return &fake_ptx_table[i];
    return NULL;
}

/* --- modules and functions -------------------------------------------------------------------------------------------------------- */

wo_cu_result fake_module_load_data(wo_cu_module *out, const void *image) {
    wo_cu_context context;
    wo_cu_result r = fake_enter(FAKE_module_load_data, true, &context);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    if (out == NULL || image == NULL)
        return fake_leave(WO_CU_INVALID_VALUE);
    wo_cu_module m = calloc(1, sizeof *m);
    if (m == NULL)
        return fake_leave(WO_CU_OUT_OF_MEMORY);
    fake_add_object(&m->head, FAKECUDA_MODULES, context);
    *out = m;
    return fake_leave(WO_CU_SUCCESS);
}

wo_cu_result fake_module_unload(wo_cu_module module) {
    wo_cu_context context;
    wo_cu_result r = fake_enter(FAKE_module_unload, true, &context);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    fake_object *o = fake_find_object(module, FAKECUDA_MODULES, context);
    if (o == NULL)
        return fake_leave(FAKE_INVALID_HANDLE);
    fake.live[FAKECUDA_MODULES]--;
    fake_remove_object(o);
    fake_free_object(o);
    return fake_leave(WO_CU_SUCCESS);
}

static wo_cu_result find_function(wo_cu_module m, const char *name, wo_cu_function *out) {
    char message[512] = "";
    for (struct CUfunc_st *f = m->functions; f != NULL; f = f->next)
        if (strcmp(f->name, name) == 0) {
            *out = f;
            return WO_CU_SUCCESS;
        }
    const fake_ptx *row = find_row(name);
    if (row == NULL) {
        fake_say("there is no kernel '%s' for compute_%d among %zu modules of PTX", name, fake.target, fake_ptx_count);
        return WO_CU_NOT_FOUND;
    }
    const loaded *l = load_row(row, message, sizeof message);
    int entry = l != NULL ? ptxsim_find(l->ptx, name) : -1;
    if (entry < 0) {
        fake_say("the PTX of module '%s' cannot be run: %s", row->module, message[0] != '\0' ? message : "the entry is not there");
        fprintf(stderr, "fakecuda: %s\n", fake.message);
        return WO_CU_INVALID_IMAGE;
    }
    struct CUfunc_st *f = calloc(1, sizeof *f);
    if (f == NULL)
        return WO_CU_OUT_OF_MEMORY;
    snprintf(f->name, sizeof f->name, "%s", name);
    f->module = l->ptx;
    f->entry = entry;
    f->shared_fixed = (unsigned)ptxsim_shared_bytes(l->ptx, entry);
    f->shared_most = (48 << 10) - f->shared_fixed;
    f->next = m->functions;
    m->functions = f;
    *out = f;
    return WO_CU_SUCCESS;
}

wo_cu_result fake_module_function(wo_cu_function *out, wo_cu_module module, const char *name) {
    wo_cu_context context;
    wo_cu_result r = fake_enter(FAKE_module_function, true, &context);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    wo_cu_module m = (wo_cu_module)fake_find_object(module, FAKECUDA_MODULES, context);
    return fake_leave(m == NULL ? FAKE_INVALID_HANDLE : find_function(m, name, out));
}

/* A function of a module that is there. */
static bool is_function(wo_cu_function function, wo_cu_context context) {
    for (fake_object *o = fake.objects; o != NULL; o = o->next)
        if (o->kind == FAKECUDA_MODULES && o->context == context)
            for (struct CUfunc_st *f = ((wo_cu_module)o)->functions; f != NULL; f = f->next)
                if (f == function)
                    return true;
    fake_misuse("%p is no function of this context", (void *)function);
    return false;
}

wo_cu_result fake_function_get_attribute(int *value, int attribute, wo_cu_function function) {
    wo_cu_context context;
    wo_cu_result r = fake_enter(FAKE_function_get_attribute, true, &context);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    if (!is_function(function, context))
        return fake_leave(FAKE_INVALID_HANDLE);
    if (attribute != WO_CU_FUNC_SHARED_SIZE_BYTES && attribute != WO_CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES)
        return fake_leave(WO_CU_INVALID_VALUE);
    *value = (int)(attribute == WO_CU_FUNC_SHARED_SIZE_BYTES ? function->shared_fixed : function->shared_most);
    return fake_leave(WO_CU_SUCCESS);
}

wo_cu_result fake_function_set_attribute(wo_cu_function function, int attribute, int value) {
    wo_cu_context context;
    wo_cu_result r = fake_enter(FAKE_function_set_attribute, true, &context);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    if (!is_function(function, context))
        return fake_leave(FAKE_INVALID_HANDLE);
    if (attribute != WO_CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 || (size_t)value > fake_shared_limit() - function->shared_fixed)
        return fake_leave(WO_CU_INVALID_VALUE);
    function->shared_most = (unsigned)value;
    return fake_leave(WO_CU_SUCCESS);
}

/* --- launches --------------------------------------------------------------------------------------------------------------------- */

/* The limits of every card since sm_80. */
static bool is_legal_shape(const fake_grid *l) {
    const unsigned grid_most[3] = {2147483647u, 65535, 65535}, block_most[3] = {1024, 1024, 64};
    for (int i = 0; i < 3; i++)
        if (l->grid[i] == 0 || l->grid[i] > grid_most[i] || l->block[i] == 0 || l->block[i] > block_most[i])
            return false;
    return (uint64_t)l->block[0] * l->block[1] * l->block[2] <= 1024;
}

static wo_cu_result push_launch(wo_cu_stream s, wo_cu_function f, const fake_grid *shape, const void *params) {
    size_t bytes = ptxsim_param_bytes(f->module, f->entry);
    fake_grid *l = malloc(sizeof *l);
    void *copy = malloc(bytes + 1);
    if (l == NULL || copy == NULL) {
        free(l);
        free(copy);
        return WO_CU_OUT_OF_MEMORY;
    }
    *l = *shape;
    memcpy(l->name, f->name, sizeof l->name);
    l->module = f->module;
    l->entry = f->entry;
    l->params = memcpy(copy, params, bytes);
    wo_cu_result r = fake_push(s, &(fake_command){.kind = FAKE_LAUNCH, .launch = l});
    if (r != WO_CU_SUCCESS) {
        free(copy);
        free(l);
    }
    return r;
}

static wo_cu_result enqueue(wo_cu_function f, const fake_grid *shape, wo_cu_stream stream, void **params) {
    wo_cu_context context;
    wo_cu_result r = fake_enter(FAKE_launch, true, &context);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    wo_cu_stream s = (wo_cu_stream)fake_find_object(stream, FAKECUDA_STREAMS, context);
    if (s == NULL || !is_function(f, context))
        return fake_leave(FAKE_INVALID_HANDLE);
    if (params == NULL || params[0] == NULL || !is_legal_shape(shape) || shape->shared_bytes > f->shared_most) {
        fake_misuse("%s: a launch of (%u, %u, %u) blocks of (%u, %u, %u) threads with %u bytes of dynamic shared memory, of which %u are allowed",
                    f->name, shape->grid[0], shape->grid[1], shape->grid[2], shape->block[0], shape->block[1], shape->block[2],
                    shape->shared_bytes, f->shared_most);
        return fake_leave(WO_CU_INVALID_VALUE);
    }
    if (!f->launched)
        fake_load_lazily(context);
    f->launched = true;
    if (context->error != WO_CU_SUCCESS) /* lost while the lock was not held */
        return fake_leave(context->error);
    return fake_leave(push_launch(s, f, shape, params[0]));
}

wo_cu_result fake_launch(wo_cu_function f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared_bytes,
                         wo_cu_stream stream, void **params, void **extra) {
    const fake_grid shape = {.grid = {gx, gy, gz}, .block = {bx, by, bz}, .shared_bytes = shared_bytes};
    return enqueue(f, &shape, stream, extra == NULL ? params : NULL);
}

/* --- running ---------------------------------------------------------------------------------------------------------------------- */

static void *resolve(void *ctx, uint64_t address, size_t bytes, bool write, const char **reason) {
    (void)write;
    return fake_resolve(ctx, address, bytes, false, reason);
}

static kernel_row *row_of(const char *name) {
    for (int i = 0; i < kernel_count; i++)
        if (strcmp(kernels[i].name, name) == 0)
            return &kernels[i];
    if (kernel_count == MAX_KERNELS)
        return &kernels[0];
    kernel_row *row = &kernels[kernel_count++];
    *row = (kernel_row){.counts = {.launches = 0}};
    snprintf(row->name, sizeof row->name, "%s", name);
    return row;
}

static void count(const char *name, const ptxsim_report *r) {
    fakecuda_counts *k = &row_of(name)->counts;
    k->launches++;
    k->instructions += r->instructions;
    k->shared_accesses += r->shared_accesses;
    k->shared_passes += r->shared_passes;
    k->ldmatrix_phases += r->ldmatrix_phases;
    k->ldmatrix_passes += r->ldmatrix_passes;
    k->global_accesses += r->global_accesses;
    k->global_sectors += r->global_sectors;
    k->global_sectors_least += r->global_sectors_least;
}

bool fake_run(wo_cu_stream s, const fake_grid *l) {
    ptxsim_report report = {.message = ""};
    pthread_mutex_lock(&fake.lock);
    uint64_t seed = fake.seed == 0 ? 0 : fake_mix(fake.seed + ++s->launches) | 1;
    ptxsim_launch launch = {.module = l->module,
                            .entry = l->entry,
                            .grid = {l->grid[0], l->grid[1], l->grid[2]},
                            .block = {l->block[0], l->block[1], l->block[2]},
                            .shared_bytes = l->shared_bytes,
                            .shared_limit = fake_shared_limit(),
                            .params = l->params,
                            .memory = {resolve, s->head.context},
                            .seed = seed,
                            .async = seed == 0 ? PTXSIM_ASYNC_LATE : (ptxsim_async)(seed >> 32) % 3,
                            .threads = fake.threads};
    const bool rehearsal = fake.rehearsal;
    pthread_mutex_unlock(&fake.lock);
    bool ok = rehearsal || ptxsim_run(&launch, &report);
    pthread_mutex_lock(&fake.lock);
    count(l->name, &report);
    if (!ok) {
        fake_say("%s", report.message);
        fprintf(stderr, "fakecuda: %s: %s\n", l->name, report.message);
    }
    pthread_mutex_unlock(&fake.lock);
    return ok;
}

void fake_reset_kernels(void) {
    kernel_count = 0;
}

FAKE_EXPORT fakecuda_counts fakecuda_kernel(const char *name);

fakecuda_counts fakecuda_kernel(const char *name) {
    fakecuda_counts counts = {.launches = 0};
    pthread_mutex_lock(&fake.lock);
    for (int i = 0; i < kernel_count; i++)
        if (strcmp(kernels[i].name, name) == 0)
            counts = kernels[i].counts;
    pthread_mutex_unlock(&fake.lock);
    return counts;
}
