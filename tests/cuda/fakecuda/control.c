/* What tests ask for (fakecuda.h) and what every entry point begins and ends with. */
#include "fakecuda/internal.h"

#include <stdarg.h>

fake_state fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static _Thread_local wo_cu_context current;
static _Thread_local bool in_host_function;

static const char *const symbols[FAKE_ENTRIES] = {
#define SYMBOL(name, symbol, params) [FAKE_##name] = symbol,
    WO_CU_ENTRY_LIST(SYMBOL)
#undef SYMBOL
};

/* Makes an entry of the list that nobody has written an error of the linker. */
FAKE_EXPORT extern void *const fakecuda_entries[];
void *const fakecuda_entries[FAKE_ENTRIES] = {
#define ADDRESS(name, symbol, params) (void *)fake_##name,
    WO_CU_ENTRY_LIST(ADDRESS)
#undef ADDRESS
};

uint64_t fake_mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void say(const char *format, va_list list) {
    vsnprintf(fake.message, sizeof fake.message, format, list);
    if (fake.trace)
        fprintf(stderr, "fakecuda: %s\n", fake.message);
}

void fake_say(const char *format, ...) {
    va_list list;
    va_start(list, format);
    say(format, list);
    va_end(list);
}

void fake_misuse(const char *format, ...) {
    va_list list;
    va_start(list, format);
    say(format, list);
    va_end(list);
    fprintf(stderr, "fakecuda: misuse: %s\n", fake.message);
    fake.misuses++;
}

void fake_lose(wo_cu_context context, wo_cu_result error) {
    if (context->error == WO_CU_SUCCESS)
        context->error = error;
    pthread_cond_broadcast(&fake.changed);
}

void fake_set_current(wo_cu_context context) {
    current = context;
}

void fake_set_in_host_function(bool inside) {
    in_host_function = inside;
}

/* The armed fault, when this call is the one. */
static wo_cu_result fault_of(fake_entry entry, wo_cu_context context) {
    fake_fault *f = &fake.fault;
    if (f->left == 0 || (f->entry >= 0 && f->entry != (int)entry) || --f->left > 0)
        return WO_CU_SUCCESS;
    fake.fired = true;
    fake_say("%s: the fault that was asked for", symbols[entry]);
    if (f->sticky && context != NULL)
        fake_lose(context, f->result);
    return f->result;
}

wo_cu_result fake_enter(fake_entry entry, bool needs_context, wo_cu_context *context) {
    pthread_mutex_lock(&fake.lock);
    fake.calls[entry]++;
    if (context != NULL)
        *context = current;
    if (in_host_function) {
        fake_misuse("%s was called from a host function", symbols[entry]);
        return FAKE_NOT_PERMITTED;
    }
    wo_cu_result fault = fault_of(entry, current);
    if (fault != WO_CU_SUCCESS)
        return fault;
    if (!fake.initialised && entry != FAKE_init && entry != FAKE_driver_version) {
        fake_misuse("%s was called before cuInit", symbols[entry]);
        return WO_CU_NOT_INITIALIZED;
    }
    if (!needs_context)
        return WO_CU_SUCCESS;
    if (current == NULL || current->retained == 0) {
        fake_misuse("%s was called without a context%s", symbols[entry], current != NULL ? " that is still there" : "");
        return WO_CU_INVALID_CONTEXT;
    }
    return current->error;
}

wo_cu_result fake_leave(wo_cu_result result) {
    pthread_mutex_unlock(&fake.lock);
    return result;
}

/* --- the environment -------------------------------------------------------------------------------------------------------------- */

static double number(const char *name, double otherwise) {
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? strtod(text, NULL) : otherwise;
}

static int find_symbol(const char *symbol) {
    for (int i = 0; i < FAKE_ENTRIES; i++)
        if (strcmp(symbols[i], symbol) == 0)
            return i;
    fprintf(stderr, "fakecuda: there is no entry point '%s'\n", symbol);
    abort();
}

/* SYMBOL:N:RESULT[:sticky] */
static void read_fault(const char *text) {
    char symbol[64] = "", sticky[16] = "";
    long long n = 0;
    int result = 0;
    if (text == NULL)
        return;
    if (sscanf(text, "%63[^:]:%lld:%d:%15s", symbol, &n, &result, sticky) < 3) {
        fprintf(stderr, "fakecuda: FAKECUDA_FAIL=%s is not SYMBOL:N:RESULT[:sticky]\n", text);
        abort();
    }
    fake.fault = (fake_fault){find_symbol(symbol), n, result, strcmp(sticky, "sticky") == 0};
}

static void set_target(int target) {
    fake.target = target;
    fake.sm = (int)number("FAKECUDA_SM", target);
}

static void read_seed(void) {
    const char *pageable = getenv("FAKECUDA_PAGEABLE");
    fake.seed = (uint64_t)number("FAKECUDA_SEED", 0);
    fake.delay = number("FAKECUDA_DELAY", 0);
    fake.lazy = number("FAKECUDA_LAZY", 0) != 0;
    fake.pageable_async = pageable != NULL && strcmp(pageable, "async") == 0;
}

__attribute__((constructor)) static void read_environment(void) {
    const char *name = getenv("FAKECUDA_NAME"), *ptx = getenv("FAKECUDA_PTX");
    fake.count = (int)number("FAKECUDA_COUNT", 1);
    fake.count = fake.count > FAKE_MAX_DEVICES ? FAKE_MAX_DEVICES : fake.count;
    fake.memory = (uint64_t)number("FAKECUDA_MEMORY", 1 << 30);
    fake.driver = (int)number("FAKECUDA_DRIVER", 13000);
    fake.threads = (int)number("FAKECUDA_THREADS", 1);
    fake.trace = number("FAKECUDA_TRACE", 0) != 0;
    snprintf(fake.name, sizeof fake.name, "%s", name != NULL ? name : "Fake card");
    snprintf(fake.ptx, sizeof fake.ptx, "%s", ptx != NULL ? ptx : "");
    set_target((int)number("FAKECUDA_TARGET", 80));
    read_seed();
    read_fault(getenv("FAKECUDA_FAIL"));
}

/* --- fakecuda.h ------------------------------------------------------------------------------------------------------------------- */

#define EXPORTED(name, result, params) FAKE_EXPORT result fakecuda_##name params;
FAKECUDA_LIST(EXPORTED)

void fakecuda_reset(void) {
    pthread_mutex_lock(&fake.lock);
    fake.fault = (fake_fault){.left = 0};
    fake.kernel_left = 0;
    fake.fired = fake.rehearsal = false;
    memset(fake.calls, 0, sizeof fake.calls);
    fake.misuses = fake.pageable_copies = fake.implicit_waits = fake.late_loads = 0;
    fake.message[0] = '\0';
    fake_reset_peak();
    fake_reset_kernels();
    read_seed();
    pthread_mutex_unlock(&fake.lock);
}

void fakecuda_set_target(int target) {
    pthread_mutex_lock(&fake.lock);
    if (fake.live[FAKECUDA_CONTEXTS] > 0)
        fake_misuse("the target changes while a context is there");
    set_target(target);
    pthread_mutex_unlock(&fake.lock);
}

void fakecuda_set_seed(uint64_t seed, double max_delay) {
    pthread_mutex_lock(&fake.lock);
    fake.seed = seed;
    fake.delay = max_delay;
    pthread_mutex_unlock(&fake.lock);
}

void fakecuda_set_pageable(bool async) {
    fake.pageable_async = async;
}

void fakecuda_set_lazy(bool lazy) {
    pthread_mutex_lock(&fake.lock);
    fake.lazy = lazy;
    pthread_mutex_unlock(&fake.lock);
}

void fakecuda_set_rehearsal(bool rehearsal) {
    pthread_mutex_lock(&fake.lock);
    fake.rehearsal = rehearsal;
    pthread_mutex_unlock(&fake.lock);
}

void fakecuda_fail(const char *symbol, int64_t n, int result, bool sticky) {
    pthread_mutex_lock(&fake.lock);
    fake.fault = (fake_fault){symbol != NULL ? find_symbol(symbol) : -1, n, result, sticky};
    fake.fired = false;
    pthread_mutex_unlock(&fake.lock);
}

void fakecuda_fail_kernel(int64_t n, int result) {
    pthread_mutex_lock(&fake.lock);
    fake.kernel_left = n;
    fake.kernel_result = result;
    fake.fired = false;
    pthread_mutex_unlock(&fake.lock);
}

/* One number that others change under the lock. */
static uint64_t read_locked(const uint64_t *number_) {
    pthread_mutex_lock(&fake.lock);
    uint64_t value = *number_;
    pthread_mutex_unlock(&fake.lock);
    return value;
}

bool fakecuda_fired(void) {
    pthread_mutex_lock(&fake.lock);
    bool fired = fake.fired;
    pthread_mutex_unlock(&fake.lock);
    return fired;
}

const char *fakecuda_message(void) {
    static _Thread_local char text[sizeof fake.message];
    pthread_mutex_lock(&fake.lock);
    memcpy(text, fake.message, sizeof text);
    pthread_mutex_unlock(&fake.lock);
    return text;
}

uint64_t fakecuda_calls(const char *symbol) {
    if (symbol != NULL)
        return read_locked(&fake.calls[find_symbol(symbol)]);
    uint64_t sum = 0;
    pthread_mutex_lock(&fake.lock);
    for (int i = 0; i < FAKE_ENTRIES; i++)
        sum += fake.calls[i];
    pthread_mutex_unlock(&fake.lock);
    return sum;
}

uint64_t fakecuda_live(fakecuda_kind kind) {
    return read_locked(&fake.live[kind]);
}

static fake_memory_count count_memory(void) {
    pthread_mutex_lock(&fake.lock);
    fake_memory_count count = fake_count_memory();
    pthread_mutex_unlock(&fake.lock);
    return count;
}

uint64_t fakecuda_device_bytes(void) {
    return count_memory().device_bytes;
}

uint64_t fakecuda_device_peak(void) {
    return count_memory().device_peak;
}

uint64_t fakecuda_pinned_bytes(void) {
    return count_memory().pinned_bytes;
}

uint64_t fakecuda_misuses(void) {
    return read_locked(&fake.misuses);
}

uint64_t fakecuda_pageable_copies(void) {
    return read_locked(&fake.pageable_copies);
}

uint64_t fakecuda_implicit_waits(void) {
    return read_locked(&fake.implicit_waits);
}

uint64_t fakecuda_late_loads(void) {
    return read_locked(&fake.late_loads);
}

void fakecuda_misuse(const char *text) {
    pthread_mutex_lock(&fake.lock);
    fake_misuse("%s", text);
    pthread_mutex_unlock(&fake.lock);
}
