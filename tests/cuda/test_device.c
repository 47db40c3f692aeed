/* Opening the cuda device, its memory, the device for planning, and what doctor is told: on the fake card. Some cases need another card or driver and run
 * in a process of their own: this program with the name of the case. */
#include "base/memory.h"
#include "device/cuda/cuda.h"
#include "device/cuda/device_impl.h"
#include "fakecuda/fakecuda.h"
#include "tests/check.h"

#include <sys/wait.h>
#include <unistd.h>

static const fakecuda_api *card;
static wo_error err;

static wo_device *open_cuda(void) {
    wo_device *d = NULL;
    CHECK_OK(wo_cuda_open("cuda", &d, &err), &err);
    return d;
}

/* Nothing is left of what was opened. */
static void check_clean(void) {
    for (int i = 0; i < FAKECUDA_KINDS; i++)
        CHECK(card->live((fakecuda_kind)i) == 0);
    CHECK(wo_memory_current() == 0 && wo_cuda_pinned_bytes() == 0);
}

/* ---- opening ---- */

static void a_card_is_opened_by_its_number_and_described_by_the_driver(void) {
    static const char *const names[] = {"cuda", "cuda:0"};
    for (int i = 0; i < 2; i++) {
        wo_device *d = NULL;
        CHECK_OK(wo_cuda_open(names[i], &d, &err), &err);
        const wo_cuda_properties *p = wo_cuda_get_properties(d);
        CHECK(strcmp(d->name, names[i]) == 0 && !wo_cuda_is_planning_only(d) && !d->memory->host_addressable);
        CHECK(strcmp(p->name, "Fake card") == 0 && p->memory_bytes == (uint64_t)1 << 30 && p->sm == 80 && p->multiprocessors == 108);
        CHECK(p->bf16_tflops == 0); /* not a card of the table */
        CHECK(d->fixed_bytes > 0 && d->memory->version == WO_DEVICE_ABI && d->stream->version == WO_DEVICE_ABI && d->ops->version == WO_DEVICE_ABI);
        wo_cuda_close(d);
    }
    check_clean();
}

static void names_that_mean_nothing_are_errors_that_say_what_does(void) {
    wo_device *d = NULL;
    CHECK_STATUS(wo_cuda_open("cuda:1", &d, &err), WO_EDEVICE);
    CHECK_CONTAINS(err.message, "no card 1");
    CHECK_CONTAINS(err.message, "CUDA_VISIBLE_DEVICES");
    CHECK_STATUS(wo_cuda_open("cuda:gtx1080", &d, &err), WO_EVALUE);
    CHECK_CONTAINS(err.message, "gtx1080");
    CHECK_CONTAINS(err.message, "rtx3060");
    CHECK_CONTAINS(err.message, "h200");
    CHECK_STATUS(wo_cuda_open("cuda:", &d, &err), WO_EVALUE);
    CHECK_STATUS(wo_cuda_open("cuda:-1", &d, &err), WO_EVALUE);
    CHECK_STATUS(wo_cuda_open("cuda:0x", &d, &err), WO_EVALUE);
    CHECK_STATUS(wo_cuda_open("cpu", &d, &err), WO_EVALUE);
    check_clean();
}

static void two_devices_have_errors_of_their_own_and_one_context(void) {
    wo_device *a = open_cuda(), *b = open_cuda();
    wo_stream *s[2];
    wo_error e;
    CHECK_OK(a->stream->create(a, "a", &s[0], &err), &err);
    CHECK_OK(b->stream->create(b, "b", &s[1], &err), &err);
    CHECK(card->live(FAKECUDA_CONTEXTS) == 1);
    wo_error_set(&e, WO_EOS, "a file is gone");
    a->stream->post_error(a, &e);
    CHECK_STATUS(a->stream->sync(s[0], &err), WO_EOS);
    CHECK_OK(b->stream->sync(s[1], &err), &err);
    wo_cuda_close(a); /* the stream holds the device */
    CHECK_STATUS(s[0]->device->stream->sync(s[0], &err), WO_EOS);
    s[0]->device->stream->destroy(s[0]);
    CHECK(card->live(FAKECUDA_CONTEXTS) == 1);
    b->stream->destroy(s[1]);
    wo_cuda_close(b);
    check_clean();
}

/* The n-th call of the driver fails, for every n until opening succeeds. */
static void whatever_fails_while_a_device_is_opened_leaves_nothing_behind(void) {
    static const int results[] = {WO_CU_OUT_OF_MEMORY, WO_CU_INVALID_VALUE, WO_CU_NO_BINARY_FOR_GPU};
    int failures = 0;
    for (size_t i = 0; i < sizeof results / sizeof *results; i++)
        for (int n = 1;; n++) {
            wo_device *d = NULL;
            card->fail(NULL, n, results[i], false);
            const wo_status status = wo_cuda_open("cuda", &d, &err);
            const bool fired = card->fired();
            card->fail(NULL, 0, 0, false);
            if (status == WO_OK)
                wo_cuda_close(d);
            check_clean();
            if (!fired)
                break;
            if (status == WO_OK)
                continue; /* a fact that may be missing */
            CHECK(d == NULL && (status == WO_EUNSUPPORTED || status == (results[i] == WO_CU_OUT_OF_MEMORY ? WO_ENOMEMORY : WO_EDEVICE)));
            CHECK(strlen(err.message) > 40);
            failures++;
        }
    CHECK(failures > 30);
    CHECK(card->misuses() == 0);
}

static void a_stream_that_cannot_be_made_leaves_nothing_behind(void) {
    wo_device *d = open_cuda();
    int failures = 0;
    for (bool fired = true; fired;) {
        wo_stream *s = NULL;
        card->fail(NULL, ++failures, WO_CU_OUT_OF_MEMORY, false);
        const wo_status status = d->stream->create(d, "copy", &s, &err);
        fired = card->fired();
        card->fail(NULL, 0, 0, false);
        CHECK(status == (fired ? WO_ENOMEMORY : WO_OK));
        if (!fired)
            d->stream->destroy(s);
        CHECK(card->live(FAKECUDA_STREAMS) == 0 && card->live(FAKECUDA_EVENTS) == 0 && card->live(FAKECUDA_HOST_ALLOCATIONS) == 0);
        d->stream->clear_error(d);
    }
    CHECK(failures > 15);
    wo_cuda_close(d);
    check_clean();
}

/* ---- in a process of its own ---- */

static int open_and_say(void) {
    wo_device *d = NULL;
    const wo_status status = wo_cuda_open("cuda", &d, &err);
    if (status == WO_OK)
        wo_cuda_close(d);
    printf("%s: %s", wo_status_text(status), status != WO_OK ? err.message : "");
    return 0;
}

static int describe(void) {
    char text[4096];
    wo_cuda_describe(text, sizeof text);
    printf("%d cards\n%s", wo_cuda_count(), text);
    return 0;
}

/* What this program says when it runs `what` with one variable set; "" unsets it. Valid until the next call. */
static const char *run_with(const char *what, const char *variable, const char *value) {
    static char said[8192];
    int ends[2], state;
    CHECK(pipe(ends) == 0);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (value[0] != 0)
            setenv(variable, value, 1);
        else
            unsetenv(variable);
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        execl("/proc/self/exe", "test_device", what, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    size_t used = 0;
    for (ssize_t got; (got = read(ends[0], said + used, sizeof said - 1 - used)) > 0;)
        used += (size_t)got;
    said[used] = 0;
    close(ends[0]);
    CHECK(waitpid(child, &state, 0) == child && WIFEXITED(state) && WEXITSTATUS(state) == 0);
    return said;
}

static void properties_are_read_without_a_context(void) {
    wo_cuda_properties p;
    bool planning_only = true;
    const uint64_t before = fakecuda()->live(FAKECUDA_CONTEXTS), retained = fakecuda()->calls("cuDevicePrimaryCtxRetain");
    CHECK_OK(wo_cuda_look("cuda", &p, &planning_only, &err), &err);
    CHECK(!planning_only && strcmp(p.name, "Fake card") == 0);
    CHECK(fakecuda()->live(FAKECUDA_CONTEXTS) == before && fakecuda()->calls("cuDevicePrimaryCtxRetain") == retained);
    CHECK_OK(wo_cuda_look("cuda:h200", &p, &planning_only, &err), &err);
    CHECK(planning_only && p.sm == 90);
    CHECK_STATUS(wo_cuda_look("cuda:7", &p, &planning_only, &err), WO_EDEVICE);
}

static void drivers_and_cards_that_will_not_do_are_refused_with_the_remedy(void) {
    const char *said = run_with("open", "FAKECUDA_DRIVER", "11080");
    CHECK_CONTAINS(said, "CUDA 11.8");
    CHECK_CONTAINS(said, "12.0 is needed");
    said = run_with("open", "FAKECUDA_DRIVER", "12000");
    CHECK_CONTAINS(said, "the kernels of this build need one for 12.1");
    said = run_with("open", "FAKECUDA_COUNT", "0");
    CHECK_CONTAINS(said, "shows no card");
    said = run_with("open", "FAKECUDA_SM", "75");
    CHECK_CONTAINS(said, "compute capability 7.5");
    CHECK_CONTAINS(said, "device=\"cpu\"");
    said = run_with("open", "FAKECUDA_FAIL", "cuInit:1:803");
    CHECK_CONTAINS(said, "restart");
    said = run_with("open", "FAKECUDA_FAIL", "cuDevicePrimaryCtxRetain:1:46");
    CHECK_CONTAINS(said, "Another process");
    said = run_with("open", "FAKECUDA_FAIL", "cuModuleLoadData:1:222");
    CHECK_CONTAINS(said, "newer driver");
    CHECK_CONTAINS(said, "attention"); /* the first module */
    CHECK_CONTAINS(run_with("open", "FAKECUDA_NAME", "NVIDIA H200"), "ok: ");
}

static void what_doctor_is_told_names_the_driver_the_cards_and_the_kernels(void) {
    const char *said = run_with("describe", "FAKECUDA_COUNT", "2");
    CHECK_CONTAINS(said, "2 cards\n");
    CHECK_CONTAINS(said, "driver: libcuda.so.1, for CUDA 13.0\n");
    CHECK_CONTAINS(said, "card 1: Fake card, compute capability 8.0, 108 multiprocessors, 1.0 GiB\n");
    CHECK_CONTAINS(said, "kernels: in this build");
    said = run_with("describe", "FAKECUDA_SM", "75");
    CHECK_CONTAINS(said, "too old: 8.0 is needed");
    said = run_with("describe", "FAKECUDA_DRIVER", "11080");
    CHECK_CONTAINS(said, "0 cards\n");
    CHECK_CONTAINS(said, "driver: none that works. NVIDIA's driver here is for CUDA 11.8");
    CHECK_CONTAINS(said, "kernels: in this build");
    char small[16];
    wo_cuda_describe(small, sizeof small); /* cut, not overrun */
    CHECK(strlen(small) < sizeof small);
}

static void a_forked_child_is_refused(void) {
    wo_device *d = open_cuda();
    int state;
    const pid_t child = fork();
    if (child == 0) {
        wo_device *mine = NULL;
        _exit(wo_cuda_open("cuda", &mine, &err) == WO_EDEVICE && strstr(err.message, "forked") != NULL ? 0 : 1);
    }
    CHECK(waitpid(child, &state, 0) == child && WIFEXITED(state) && WEXITSTATUS(state) == 0);
    wo_cuda_close(d);
}

/* ---- memory ---- */

static void memory_of_the_card_is_aligned_counted_and_runs_out_with_advice(void) {
    wo_device *d = open_cuda();
    const wo_memory_api *m = d->memory;
    uint64_t free_bytes, total_bytes;
    void *p[3];
    for (int i = 0; i < 3; i++) {
        CHECK_OK(m->alloc(d, (size_t)5000 * (size_t)i, "a test", &p[i], &err), &err);
        CHECK(p[i] != NULL && (uintptr_t)p[i] % 4096 == 0);
    }
    CHECK_OK(m->budget(d, &free_bytes, &total_bytes, &err), &err);
    CHECK(total_bytes == (uint64_t)1 << 30 && free_bytes < total_bytes - 15000 && free_bytes > total_bytes - 65536);
    void *none = p;
    CHECK_STATUS(m->alloc(d, (size_t)2 << 30, "the work arena", &none, &err), WO_ENOMEMORY);
    CHECK(none == NULL);
    CHECK_CONTAINS(err.message, "2048.0 MiB for the work arena");
    CHECK_CONTAINS(err.message, "1024.0 MiB are free");
    CHECK_CONTAINS(err.message, "vram");
    CHECK_STATUS(m->alloc(d, SIZE_MAX, "too much", &none, &err), WO_ENOMEMORY);
    for (int i = 0; i < 3; i++)
        m->release(d, p[i]);
    m->release(d, NULL);
    CHECK_OK(m->budget(d, &free_bytes, &total_bytes, &err), &err);
    CHECK(free_bytes == total_bytes);
    CHECK_OK(m->alloc(d, 4096, "left to the device", &p[0], &err), &err);
    wo_cuda_close(d);
    check_clean();
    CHECK(card->misuses() == 0);
}

static void host_memory_is_pinned_and_counted(void) {
    wo_device *d = open_cuda();
    void *p = NULL;
    CHECK_OK(d->memory->host_alloc(d, 10000, "a test", &p, &err), &err);
    CHECK((uintptr_t)p % 4096 == 0 && wo_cuda_pinned_bytes() == 12288 && card->pinned_bytes() == 12288);
    CHECK(wo_memory_current() >= 12288);
    CHECK(wo_cuda_kernel_may_read((char *)p + 5, 9995) && wo_cuda_copy_run(p, 10000) == 10000);
    d->memory->host_release(d, p);
    d->memory->host_release(d, NULL);
    wo_cuda_close(d);
    check_clean();
}

static void small_host_memory_that_cannot_be_pinned_is_refused(void) {
    wo_device *d = open_cuda();
    void *p = NULL;
    card->fail("cuMemHostRegister_v2", 1, WO_CU_OUT_OF_MEMORY, false);
    CHECK_STATUS(d->memory->host_alloc(d, 1 << 20, "staging", &p, &err), WO_ENOMEMORY);
    CHECK_CONTAINS(err.message, "1.0 MiB of host memory for staging");
    CHECK_CONTAINS(err.message, "CUDA_ERROR_OUT_OF_MEMORY");
    CHECK(p == NULL && wo_memory_current() == 0);
    wo_memory_fail_at(1);
    CHECK_STATUS(d->memory->host_alloc(d, 1 << 20, "staging", &p, &err), WO_ENOMEMORY);
    CHECK_OK(d->memory->host_alloc(d, 1 << 20, "staging", &p, &err), &err);
    d->memory->host_release(d, p);
    wo_cuda_close(d);
    check_clean();
}

/* One piece and a little more: the little is refused. */
static void large_host_memory_stays_pageable_where_pinning_is_refused_and_copies_are_right(void) {
    enum { PIECE = 256 << 20, REST = 1 << 20, AROUND = 64 << 10 };
    wo_device *d = open_cuda();
    wo_stream *s = NULL;
    void *memory = NULL, *on_card = NULL, *back = NULL;
    CHECK_OK(d->stream->create(d, "copy", &s, &err), &err);
    CHECK_OK(d->memory->alloc(d, AROUND, "a test", &on_card, &err), &err);
    CHECK_OK(d->memory->host_alloc(d, AROUND, "a test", &back, &err), &err);
    card->fail("cuMemHostRegister_v2", 2, WO_CU_OUT_OF_MEMORY, false);
    CHECK_OK(d->memory->host_alloc(d, PIECE + REST, "host slabs of weights", &memory, &err), &err);
    CHECK(card->fired() && wo_cuda_pinned_bytes() == PIECE + AROUND);
    char *border = (char *)memory + PIECE - AROUND / 2 + 7;
    for (int i = 0; i < AROUND; i++)
        border[i] = (char)(i * 31 + i / 256);
    CHECK_OK(d->stream->copy(s, on_card, border, AROUND, &err), &err);
    CHECK_OK(d->stream->copy(s, back, on_card, AROUND, &err), &err);
    CHECK_OK(d->stream->sync(s, &err), &err);
    CHECK(memcmp(back, border, AROUND) == 0);
    CHECK(card->pageable_copies() == 1);
    const wo_conversion c = {.from = WO_BF16, .to = WO_F32, .layout = WO_LAYOUT_ROWS};
    CHECK_STATUS(d->stream->convert(s, &c, on_card, border, 1000, &err), WO_OK);
    CHECK_STATUS(d->stream->convert(s, &c, on_card, border, 16384, &err), WO_ENOMEMORY);
    CHECK_CONTAINS(err.message, "did not pin");
    char text[1024];
    wo_cuda_describe(text, sizeof text);
    CHECK_CONTAINS(text, "pinned host memory: 256.1 MiB; some stays pageable");
    d->stream->destroy(s);
    d->memory->host_release(d, memory);
    d->memory->host_release(d, back);
    d->memory->release(d, on_card);
    wo_cuda_close(d);
    check_clean();
    CHECK(card->misuses() == 0);
}

/* ---- a card that is not there ---- */

static void an_absent_card_can_be_planned_for_and_not_be_run(void) {
    static const char *const names[] = {"cuda:rtx4090", "cuda:RTX4090", "cuda:4090"};
    for (int i = 0; i < 3; i++) {
        wo_device *d = NULL;
        wo_stream *s = NULL;
        wo_event *e = NULL;
        wo_ticket t;
        uint64_t free_bytes, total_bytes;
        void *p = &s;
        CHECK_OK(wo_cuda_open(names[i], &d, &err), &err);
        CHECK(strcmp(d->name, "cuda:rtx4090") == 0 && wo_cuda_is_planning_only(d) && wo_cuda_get_properties(d)->sm == 89);
        CHECK_OK(d->memory->budget(d, &free_bytes, &total_bytes, &err), &err);
        CHECK(free_bytes == total_bytes && total_bytes > (uint64_t)23 << 30 && total_bytes < (uint64_t)24 << 30);
        CHECK_OK(d->stream->create(d, "compute", &s, &err), &err);
        CHECK_OK(d->stream->event_create(d, &e, &err), &err);
        CHECK_OK(d->stream->event_record(s, e, &t, &err), &err);
        CHECK_OK(d->stream->wait(s, t, &err), &err);
        CHECK(d->stream->reached(t) && d->stream->reached(d->stream->event_expect(e)));
        CHECK_OK(d->stream->host_wait(d, t, &err), &err);
        CHECK_OK(d->stream->sync(s, &err), &err);
        CHECK_STATUS(d->memory->alloc(d, 1, "the work arena", &p, &err), WO_EDEVICE);
        CHECK_CONTAINS(err.message, "the work arena");
        CHECK_CONTAINS(err.message, "cuda:rtx4090");
        CHECK_CONTAINS(err.message, "planned for only");
        CHECK(p == NULL);
        CHECK_STATUS(d->stream->copy(s, &t, &t, 1, &err), WO_EDEVICE);
        CHECK_STATUS(d->ops->add(s, &(wo_add_args){0}, &err), WO_EDEVICE);
        d->stream->event_destroy(e);
        wo_cuda_close(d);
        d->stream->destroy(s); /* holds the device */
    }
    CHECK(card->calls(NULL) == 0); /* the driver was not even asked */
}

static void the_known_cards_are_told_with_all_that_a_plan_needs(void) {
    int count = 0;
    for (const char *name; (name = wo_cuda_card_name(count)) != NULL; count++) {
        char text[64];
        wo_device *d = NULL, *card_here = NULL;
        snprintf(text, sizeof text, "cuda:%s", name);
        CHECK_OK(wo_cuda_open(text, &d, &err), &err);
        CHECK_OK(wo_cuda_open("cuda", &card_here, &err), &err);
        const wo_cuda_properties *p = wo_cuda_get_properties(d);
        CHECK(p->sm >= 80 && p->multiprocessors > 20 && p->shared_bytes >= 101376 && p->memory_bytes > (uint64_t)9 << 30 && p->l2_bytes > 0);
        CHECK(p->clock_mhz > 1000 && p->bf16_tflops > p->f32_tflops && p->f32_tflops > 10 && p->memory_gbs > p->link_gbs && p->link_gbs > 5);
        CHECK(d->fixed_bytes == card_here->fixed_bytes); /* so that plans agree */
        wo_cuda_close(card_here);
        wo_cuda_close(d);
    }
    CHECK(count >= 6 && wo_cuda_card_name(-1) == NULL);
}

int main(int count, char **arguments) {
    if (count > 1)
        return strcmp(arguments[1], "open") == 0 ? open_and_say() : describe();
    card = fakecuda();
    an_absent_card_can_be_planned_for_and_not_be_run();
    the_known_cards_are_told_with_all_that_a_plan_needs();
    a_card_is_opened_by_its_number_and_described_by_the_driver();
    names_that_mean_nothing_are_errors_that_say_what_does();
    two_devices_have_errors_of_their_own_and_one_context();
    whatever_fails_while_a_device_is_opened_leaves_nothing_behind();
    a_stream_that_cannot_be_made_leaves_nothing_behind();
    properties_are_read_without_a_context();
    drivers_and_cards_that_will_not_do_are_refused_with_the_remedy();
    what_doctor_is_told_names_the_driver_the_cards_and_the_kernels();
    a_forked_child_is_refused();
    memory_of_the_card_is_aligned_counted_and_runs_out_with_advice();
    host_memory_is_pinned_and_counted();
    small_host_memory_that_cannot_be_pinned_is_refused();
    large_host_memory_stays_pageable_where_pinning_is_refused_and_copies_are_right();
    return 0;
}
