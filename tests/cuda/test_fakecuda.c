/* The fake card is as strict as a real one, and stricter: what it does is shown here by driver calls alone. */
#include "device/cuda/driver.h"
#include "fakecuda/fakecuda.h"
#include "tests/check.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

static const fakecuda_api *fake;
static wo_cuda_driver cu;
static wo_cu_context context;

#define CU(call)                                                                                              \
    do {                                                                                                      \
        wo_cu_result cu_result_ = (call);                                                                     \
        if (cu_result_ != WO_CU_SUCCESS) {                                                                    \
            fprintf(stderr, "%s:%d: %s: %d (%s)\n", __FILE__, __LINE__, #call, cu_result_, fake->message());  \
            exit(1);                                                                                          \
        }                                                                                                     \
    } while (0)

static void find_driver(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    CHECK(library != NULL);
#define FIND(name, symbol, params) CHECK((*(void **)&cu.name = dlsym(library, symbol)) != NULL);
    WO_CU_ENTRY_LIST(FIND)
#undef FIND
}

static void enter(void) {
    CU(cu.context_retain(&context, 0));
    CU(cu.context_set_current(context));
    fake->reset();
}

/* Also sees to it that a test has left nothing. */
static void leave(uint64_t misuses) {
    CHECK(fake->misuses() == misuses);
    CU(cu.context_release(0));
    CHECK(fake->misuses() == misuses);
    for (int kind = 0; kind < FAKECUDA_KINDS; kind++)
        CHECK(fake->live((fakecuda_kind)kind) == 0);
    CHECK(fake->device_bytes() == 0 && fake->pinned_bytes() == 0);
}

static wo_cu_stream new_stream(void) {
    wo_cu_stream s;
    CU(cu.stream_create(&s, WO_CU_STREAM_NON_BLOCKING));
    return s;
}

static unsigned char *new_pinned(size_t bytes) {
    void *p;
    CU(cu.host_alloc(&p, bytes, WO_CU_MEMHOSTALLOC_PORTABLE));
    return p;
}

static wo_cu_ptr address(const void *p) {
    return (wo_cu_ptr)(uintptr_t)p;
}

/* --- memory ----------------------------------------------------------------------------------------------------------------------- */

static void test_memory_comes_filled_with_nan_and_goes_through_copies(void) {
    enter();
    wo_cu_ptr d;
    wo_cu_stream s = new_stream();
    unsigned char *in = new_pinned(1000), *out = new_pinned(1000);
    CU(cu.memory_alloc(&d, 1000));
    CHECK(d % 256 == 0 && fake->device_bytes() >= 1000 && fake->pinned_bytes() == 2000);
    CU(cu.copy_async(address(out), d, 1000, s));
    CU(cu.stream_synchronize(s));
    for (int i = 0; i < 1000; i++) {
        CHECK(out[i] == 0xff);
        in[i] = (unsigned char)(i * 7);
    }
    CU(cu.copy_async(d, address(in), 1000, s));
    CU(cu.fill_async(d + 10, 3, 5, s));
    CU(cu.copy_async(address(out), d, 1000, s));
    CU(cu.stream_synchronize(s));
    for (int i = 0; i < 1000; i++)
        CHECK(out[i] == (i >= 10 && i < 15 ? 3 : (unsigned char)(i * 7)));
    CHECK(fake->pageable_copies() == 0 && fake->implicit_waits() == 0);
    CU(cu.memory_free(d));
    CU(cu.host_free(in));
    CU(cu.host_free(out));
    CU(cu.stream_destroy(s));
    leave(0);
}

static void test_a_copy_beyond_an_allocation_or_into_a_freed_one_is_refused(void) {
    enter();
    wo_cu_ptr d, other;
    wo_cu_stream s = new_stream();
    unsigned char *host = new_pinned(4096);
    CU(cu.memory_alloc(&d, 100));
    CU(cu.memory_alloc(&other, 100));
    CHECK(cu.copy_async(d + 50, address(host), 51, s) == WO_CU_INVALID_VALUE);
    CHECK_CONTAINS(fake->message(), "bytes 50 to 101 of an allocation of 100 bytes");
    CHECK(cu.fill_async(d - 1, 0, 1, s) == WO_CU_INVALID_VALUE);
    CHECK(cu.copy_async(d, d + 10, 50, s) == WO_CU_INVALID_VALUE);
    CHECK_CONTAINS(fake->message(), "onto itself");
    CU(cu.memory_free(d));
    CHECK(cu.copy_async(address(host), d, 1, s) == WO_CU_INVALID_VALUE);
    CHECK_CONTAINS(fake->message(), "was freed");
    CHECK(cu.memory_free(d) == WO_CU_INVALID_VALUE);
    CU(cu.memory_free(other));
    CU(cu.host_free(host));
    CU(cu.stream_destroy(s));
    leave(5);
}

static void test_a_card_has_only_so_much_memory(void) {
    enter();
    size_t free_bytes, total;
    wo_cu_ptr d, more = 1;
    CU(cu.memory_info(&free_bytes, &total));
    CHECK(free_bytes == total);
    CU(cu.memory_alloc(&d, total / 64));
    CHECK(cu.memory_alloc(&more, total) == WO_CU_OUT_OF_MEMORY && more == 1);
    CU(cu.memory_info(&free_bytes, &total));
    CHECK(free_bytes == total - total / 64);
    CU(cu.memory_free(d));
    CHECK(fake->device_peak() == total / 64);
    leave(0);
}

static void test_host_memory_is_pinned_whole_and_once(void) {
    enter();
    static unsigned char page[8192];
    wo_cu_ptr d;
    wo_cu_stream s = new_stream();
    CU(cu.memory_alloc(&d, 8192));
    CU(cu.host_register(page, 4096, WO_CU_MEMHOSTREGISTER_PORTABLE));
    CHECK(cu.host_register(page + 4000, 1000, 0) == WO_CU_HOST_MEMORY_ALREADY_REGISTERED);
    CU(cu.copy_async(d, address(page), 4096, s));
    CHECK(fake->pageable_copies() == 0);
    CHECK(cu.copy_async(d, address(page), 4097, s) == WO_CU_INVALID_VALUE);
    CHECK_CONTAINS(fake->message(), "a part is pinned");
    CU(cu.copy_async(d, address(page + 4096), 4096, s));
    CHECK(fake->pageable_copies() == 1);
    CHECK(cu.host_unregister(page + 1) != WO_CU_SUCCESS);
    CU(cu.host_unregister(page));
    CU(cu.memory_free(d));
    CU(cu.stream_destroy(s));
    leave(2);
}

/* --- order ------------------------------------------------------------------------------------------------------------------------ */

typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool open;
    int entered, passed;
} gate;

static void pass(void *ctx) {
    gate *g = ctx;
    pthread_mutex_lock(&g->lock);
    g->entered++;
    pthread_cond_broadcast(&g->opened);
    while (!g->open)
        pthread_cond_wait(&g->opened, &g->lock);
    g->passed++;
    pthread_mutex_unlock(&g->lock);
}

static void open_gate(gate *g) {
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->opened);
    pthread_mutex_unlock(&g->lock);
}

static void wait_for_one_inside(gate *g) {
    pthread_mutex_lock(&g->lock);
    while (g->entered == 0)
        pthread_cond_wait(&g->opened, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

#define CLOSED {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0, 0}

static void test_a_wait_is_for_what_the_event_stood_for_when_it_was_made(void) {
    enter();
    gate first = CLOSED, second = CLOSED;
    wo_cu_stream a = new_stream(), b = new_stream();
    wo_cu_event e;
    unsigned char *host = new_pinned(2);
    host[0] = host[1] = 0;
    CU(cu.event_create(&e, WO_CU_EVENT_DISABLE_TIMING));
    CU(cu.event_query(e));                     /* never recorded: nothing to wait for */
    CU(cu.stream_wait_event(b, e, 0));
    CU(cu.launch_host_func(a, pass, &first));
    CU(cu.event_record(e, a));
    CU(cu.stream_wait_event(b, e, 0));         /* for the first gate only */
    CU(cu.launch_host_func(a, pass, &second));
    CU(cu.event_record(e, a));                 /* stands for the second from here on */
    CU(cu.fill_async(address(host), 1, 1, b));
    CHECK(cu.event_query(e) == WO_CU_NOT_READY && host[0] == 0);
    open_gate(&first);
    CU(cu.stream_synchronize(b));
    CHECK(host[0] == 1 && cu.event_query(e) == WO_CU_NOT_READY);
    open_gate(&second);
    CU(cu.event_synchronize(e));
    CU(cu.event_query(e));
    CHECK(first.passed == 1 && second.passed == 1);
    CU(cu.event_destroy(e));
    CU(cu.host_free(host));
    CU(cu.stream_destroy(a));
    CU(cu.stream_destroy(b));
    leave(0);
}

static void test_an_event_may_go_while_a_stream_waits_for_it(void) {
    enter();
    gate g = CLOSED;
    wo_cu_stream a = new_stream(), b = new_stream();
    wo_cu_event e;
    unsigned char *host = new_pinned(1);
    host[0] = 0;
    CU(cu.event_create(&e, 0));
    CU(cu.launch_host_func(a, pass, &g));
    CU(cu.event_record(e, a));
    CU(cu.stream_wait_event(b, e, 0));
    CU(cu.fill_async(address(host), 9, 1, b));
    CU(cu.event_destroy(e));
    CHECK(cu.event_query(e) != WO_CU_SUCCESS && host[0] == 0);
    CU(cu.stream_destroy(b)); /* what is queued still runs */
    open_gate(&g);
    CU(cu.stream_destroy(a));
    CU(cu.host_free(host)); /* waits */
    CHECK(fake->implicit_waits() <= 1);
    leave(1);
}

static void query_from_a_host_function(void *ctx) {
    *(wo_cu_result *)ctx = cu.event_query(NULL);
}

static void test_a_host_function_may_not_call_the_driver(void) {
    enter();
    wo_cu_result r = WO_CU_SUCCESS;
    wo_cu_stream s = new_stream();
    CU(cu.launch_host_func(s, query_from_a_host_function, &r));
    CU(cu.stream_synchronize(s));
    CHECK(r == 800);
    CU(cu.stream_destroy(s));
    leave(1);
}

static void test_a_copy_of_memory_that_is_not_pinned_comes_at_once_or_later(void) {
    enter();
    gate g = CLOSED;
    unsigned char host = 5, *pinned = new_pinned(1);
    wo_cu_ptr d;
    wo_cu_stream s = new_stream();
    CU(cu.memory_alloc(&d, 1));
    CU(cu.copy_async(d, address(&host), 1, s));
    host = 6;
    CU(cu.copy_async(address(pinned), d, 1, s));
    CU(cu.stream_synchronize(s));
    CHECK(pinned[0] == 5);
    fake->set_pageable(true);
    CU(cu.launch_host_func(s, pass, &g));
    CU(cu.copy_async(d, address(&host), 1, s));
    host = 7;
    open_gate(&g);
    CU(cu.copy_async(address(pinned), d, 1, s));
    CU(cu.stream_synchronize(s));
    CHECK(pinned[0] == 7 && fake->pageable_copies() == 2);
    CU(cu.memory_free(d));
    CU(cu.host_free(pinned));
    CU(cu.stream_destroy(s));
    leave(0);
}

/* --- failures --------------------------------------------------------------------------------------------------------------------- */

static void test_the_nth_call_of_an_entry_fails_and_no_other(void) {
    enter();
    wo_cu_ptr d[3] = {0, 0, 0};
    fake->fail("cuMemAlloc_v2", 2, WO_CU_OUT_OF_MEMORY, false);
    CU(cu.memory_alloc(&d[0], 1));
    CHECK(!fake->fired() && cu.memory_alloc(&d[1], 1) == WO_CU_OUT_OF_MEMORY && d[1] == 0 && fake->fired());
    CU(cu.memory_alloc(&d[2], 1));
    CHECK(fake->calls("cuMemAlloc_v2") == 3 && fake->live(FAKECUDA_ALLOCATIONS) == 2);
    CU(cu.memory_free(d[0]));
    CU(cu.memory_free(d[2]));
    leave(0);
}

static void test_a_lost_card_says_so_until_its_context_is_gone(void) {
    enter();
    gate g = CLOSED;
    wo_cu_stream a = new_stream(), b = new_stream();
    wo_cu_event e;
    wo_cu_ptr d;
    CU(cu.event_create(&e, 0));
    CU(cu.launch_host_func(a, pass, &g));
    CU(cu.event_record(e, a));
    CU(cu.stream_wait_event(b, e, 0));
    CU(cu.launch_host_func(b, pass, &g)); /* not reached before the loss, and never called */
    wait_for_one_inside(&g);
    fake->fail("cuMemAlloc_v2", 1, WO_CU_ECC_UNCORRECTABLE, true);
    CHECK(cu.memory_alloc(&d, 1) == WO_CU_ECC_UNCORRECTABLE);
    CHECK(cu.stream_synchronize(b) == WO_CU_ECC_UNCORRECTABLE); /* does not hang */
    CHECK(cu.event_query(e) == WO_CU_ECC_UNCORRECTABLE);
    CHECK(cu.memory_alloc(&d, 1) == WO_CU_ECC_UNCORRECTABLE);
    open_gate(&g);
    leave(0);
    CHECK(g.passed == 1);
    enter();
    CU(cu.memory_alloc(&d, 1));
    CU(cu.memory_free(d));
    leave(0);
}

/* --- launches --------------------------------------------------------------------------------------------------------------------- */

static wo_cu_function find_kernel(wo_cu_module *module, const char *name) {
    wo_cu_function f;
    CU(cu.module_load_data(module, "any image"));
    CU(cu.module_function(&f, *module, name));
    return f;
}

static wo_cu_result launch(wo_cu_function f, unsigned threads, unsigned shared_bytes, wo_cu_stream s, uint64_t parameter) {
    void *params[] = {&parameter};
    return cu.launch(f, 1, 1, 1, threads, 1, 1, shared_bytes, s, params, NULL);
}

static void test_a_kernel_runs_in_stream_order_and_is_counted(void) {
    enter();
    wo_cu_module module;
    wo_cu_function f;
    wo_cu_stream s = new_stream();
    uint64_t *time = (uint64_t *)(void *)new_pinned(sizeof *time);
    wo_cu_function stamp = find_kernel(&module, "wo_stamp");
    CHECK(cu.module_function(&f, module, "wo_nothing") == WO_CU_NOT_FOUND);
    CU(cu.fill_async(address(time), 0, sizeof *time, s));
    CU(launch(stamp, 1, 0, s, address(time)));
    CU(cu.stream_synchronize(s));
    CHECK(*time != 0 && fake->kernel("wo_stamp").launches == 1 && fake->kernel("wo_stamp").instructions > 0);
    CHECK(launch(stamp, 1025, 0, s, address(time)) == WO_CU_INVALID_VALUE);
    CHECK(launch(stamp, 1, (48 << 10) + 1, s, address(time)) == WO_CU_INVALID_VALUE);
    CU(cu.function_set_attribute(stamp, WO_CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES, 64 << 10));
    CU(launch(stamp, 1, (48 << 10) + 1, s, address(time)));
    CHECK(cu.function_set_attribute(stamp, WO_CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1 << 20) == WO_CU_INVALID_VALUE);
    CU(cu.stream_synchronize(s));
    CU(cu.module_unload(module));
    CHECK(launch(stamp, 1, 0, s, address(time)) == 400);
    CU(cu.host_free(time));
    CU(cu.stream_destroy(s));
    leave(3);
}

/* The call is counted under the card's lock, which the launch gives up only while it waits. */
static void *open_when_a_launch_waits(void *g) {
    while (fake->calls("cuLaunchKernel") == 0)
        sched_yield();
    open_gate(g);
    return NULL;
}

static void test_a_first_launch_waits_for_the_card_where_loading_is_lazy(void) {
    enter();
    gate first = CLOSED, second = CLOSED;
    wo_cu_module module;
    wo_cu_stream a = new_stream(), b = new_stream();
    pthread_t opener;
    uint64_t *time = (uint64_t *)(void *)new_pinned(sizeof *time);
    wo_cu_function stamp = find_kernel(&module, "wo_stamp");
    fake->set_lazy(true);
    CU(cu.launch_host_func(a, pass, &first));
    wait_for_one_inside(&first);
    CHECK(pthread_create(&opener, NULL, open_when_a_launch_waits, &first) == 0);
    CU(launch(stamp, 1, 0, b, address(time)));
    CHECK(first.passed == 1 && fake->late_loads() == 1);
    CHECK(pthread_join(opener, NULL) == 0);
    CU(cu.launch_host_func(a, pass, &second));
    wait_for_one_inside(&second);
    CU(launch(stamp, 1, 0, b, address(time))); /* it is loaded: this waits for nothing */
    CHECK(second.passed == 0 && fake->late_loads() == 1);
    open_gate(&second);
    CU(cu.stream_synchronize(b));
    *time = 0;
    fake->set_rehearsal(true);
    CU(launch(stamp, 1, 0, b, address(time)));
    CU(cu.stream_synchronize(b));
    CHECK(*time == 0 && fake->kernel("wo_stamp").launches == 3);
    CU(cu.module_unload(module));
    CU(cu.host_free(time));
    CU(cu.stream_destroy(a));
    CU(cu.stream_destroy(b));
    leave(0);
}

/* Each loses the card: at the launch nothing is known of it, at the next wait it is. */
static void test_a_kernel_that_goes_wrong_is_an_error_of_later_calls(void) {
    uint64_t pageable = 0;
    for (int variant = 0; variant < 4; variant++) {
        enter();
        wo_cu_module module;
        wo_cu_ptr d;
        wo_cu_stream s = new_stream();
        wo_cu_function stamp = find_kernel(&module, "wo_stamp");
        CU(cu.memory_alloc(&d, 12));
        const uint64_t at[] = {d + 8, d + 4, address(&pageable), d};
        const char *const says[] = {"bytes 8 to 16 of an allocation of 12 bytes", "not aligned", "not pinned", "was to fail"};
        if (variant == 3)
            fake->fail_kernel(1, WO_CU_LAUNCH_FAILED);
        const wo_cu_result wanted = variant == 3 ? WO_CU_LAUNCH_FAILED : WO_CU_ILLEGAL_ADDRESS;
        CU(launch(stamp, 1, 0, s, at[variant]));
        CHECK(cu.stream_synchronize(s) == wanted);
        CHECK_CONTAINS(fake->message(), says[variant]);
        CHECK(cu.memory_free(d) == wanted && launch(stamp, 1, 0, s, d) == wanted);
        leave(0);
    }
    CHECK(pageable == 0);
}

static void test_what_is_left_in_a_context_is_a_misuse(void) {
    enter();
    wo_cu_ptr d;
    new_stream();
    CU(cu.memory_alloc(&d, 1));
    CU(cu.context_release(0));
    CHECK(fake->misuses() == 1);
    CHECK_CONTAINS(fake->message(), "2 objects were left");
    CHECK(cu.memory_alloc(&d, 1) == WO_CU_INVALID_CONTEXT);
}

/* A host access to the card's memory crashes. */
static void test_the_host_cannot_touch_the_cards_memory(void) {
    enter();
    wo_cu_ptr d;
    int ends[2];
    CU(cu.memory_alloc(&d, 4096));
    CHECK(pipe(ends) == 0);
    /* The kernel refuses the address, as the processor would. */
    CHECK(write(ends[1], (const void *)(uintptr_t)d, 1) == -1);
    close(ends[0]);
    close(ends[1]);
    CU(cu.memory_free(d));
    leave(0);
}

int main(void) {
    fake = fakecuda();
    find_driver();
    CHECK(cu.device_count(&(int){0}) == WO_CU_NOT_INITIALIZED);
    CU(cu.init(0));
    for (int seed = 0; seed < 3; seed++) {
        test_memory_comes_filled_with_nan_and_goes_through_copies();
        test_a_copy_beyond_an_allocation_or_into_a_freed_one_is_refused();
        test_a_card_has_only_so_much_memory();
        test_host_memory_is_pinned_whole_and_once();
        test_a_wait_is_for_what_the_event_stood_for_when_it_was_made();
        test_an_event_may_go_while_a_stream_waits_for_it();
        test_a_host_function_may_not_call_the_driver();
        test_a_copy_of_memory_that_is_not_pinned_comes_at_once_or_later();
        test_the_nth_call_of_an_entry_fails_and_no_other();
        test_a_lost_card_says_so_until_its_context_is_gone();
        test_a_kernel_runs_in_stream_order_and_is_counted();
        test_a_first_launch_waits_for_the_card_where_loading_is_lazy();
        test_a_kernel_that_goes_wrong_is_an_error_of_later_calls();
        test_what_is_left_in_a_context_is_a_misuse();
        test_the_host_cannot_touch_the_cards_memory();
        fake->set_seed((uint64_t)seed + 1, 1e-3);
    }
    printf("the fake card: ok\n");
    return 0;
}
