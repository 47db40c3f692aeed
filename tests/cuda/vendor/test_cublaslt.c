/* Linear by the library, on the fake card and its fake cuBLASLt, which is as awkward as the real one may be: every epilogue against float64, the same bits
 * for a row whatever rows come with it, the calls that are left to own kernels, and what a failure leaves behind. */
#include "device/cuda/vendor.h"
#include "products.h"

enum { WORKSPACE = 42 << 20 };
static void *workspace;

typedef struct linear {
    pair x, w, bias, y, other, gate;
    wo_linear_args args; /* tensors of the card */
} linear;

static uint64_t library_objects(void) {
    void *library = dlopen("libcublasLt.so.13", RTLD_NOW);
    uint64_t (*count)(void) = NULL;
    *(void **)&count = dlsym(library, "fakecublaslt_live");
    CHECK(count != NULL);
    return count();
}

static linear make_linear(int64_t m, int64_t n, int64_t k, const wo_dtype *d, wo_epilogue epilogue, bool biased) {
    linear c = {.x = fill(MAKE(d[0], m, k), 1), .w = fill(MAKE(d[1], n, k), 1 / sqrtf((float)k)), .y = MAKE(d[2], m, n)};
    if (biased)
        c.bias = fill(MAKE(WO_F32, n), 1);
    if (epilogue >= WO_EPILOGUE_MUL)
        c.other = fill(MAKE(d[2], m, n), 1);
    if (epilogue == WO_EPILOGUE_GATE)
        c.gate = fill(MAKE(WO_F32, 3, n), 1);
    c.args = (wo_linear_args){.x = c.x.card, .w = c.w.card, .bias = c.bias.card, .y = c.y.card, .other = c.other.card, .gate = c.gate.card,
                              .epilogue = epilogue, .rows_per_gate = (m + 2) / 3};
    return c;
}

static bool taken(const wo_linear_args *args) {
    return wo_cublaslt_takes((const wo_cuda_device *)device, args);
}

/* With workspace that ends where the device's memory for it does. */
static wo_status run(wo_linear_args *args) {
    const size_t bytes = (wo_linear_workspace(device, args) + 255) / 256 * 256;
    CHECK(bytes <= WORKSPACE);
    if (bytes > 0)
        args->workspace = wo_tensor_of((char *)workspace + (WORKSPACE - bytes), WO_U8, (int64_t)bytes);
    const wo_status status = wo_linear(stream, args, &err);
    args->workspace = (wo_tensor){0};
    return status == WO_OK ? device->stream->sync(stream, &err) : status;
}

static double finish(const linear *c, double acc, int64_t row, int64_t column) {
    const int64_t n = c->y.host.shape[1];
    const double other = c->other.host.data == NULL ? 0 : (double)get(&c->other.host, row * n + column);
    switch (c->args.epilogue) {
    case WO_EPILOGUE_SILU:
        return acc / (1 + exp(-acc));
    case WO_EPILOGUE_GELU_TANH:
        return 0.5 * acc * (1 + tanh(sqrt(2 / M_PI) * (acc + 0.044715 * acc * acc * acc)));
    case WO_EPILOGUE_GELU_ERF:
        return 0.5 * acc * erfc(-acc / M_SQRT2);
    case WO_EPILOGUE_MUL:
        return acc * other;
    case WO_EPILOGUE_ADD:
        return other + acc;
    case WO_EPILOGUE_GATE:
        return other + acc * (double)get(&c->gate.host, row / c->args.rows_per_gate * n + column);
    default:
        return acc;
    }
}

/* A few units in the last place of float32 of what is summed; where y has 16 bits half of one of its own for y, and, because the library wants it so,
 * for the bias, of which no epilogue makes more than 1.13 times the change. */
static void check_row(const linear *c, int64_t row) {
    const int64_t n = c->y.host.shape[1], k = c->x.host.shape[1];
    for (int64_t column = 0; column < n; column++) {
        const double bias = c->bias.host.data != NULL ? (double)get(&c->bias.host, column) : 0;
        double acc = bias, magnitude = fabs(acc);
        for (int64_t j = 0; j < k; j++) {
            const double product = (double)get(&c->x.host, row * k + j) * (double)get(&c->w.host, column * k + j);
            acc += product;
            magnitude += fabs(product);
        }
        const double wanted = finish(c, acc, row, column), found = (double)get(&c->y.host, row * n + column);
        double bound = 1e-6 * (1 + magnitude) * (c->args.epilogue >= WO_EPILOGUE_MUL ? 4 : 1) + 1e-6 * fabs(wanted);
        bound += half_unit(c->y.host.dtype) * (fabs(wanted) + 1.13 * fabs(bias));
        if (!(fabs(found - wanted) <= bound)) {
            fprintf(stderr, "epilogue %d, row %lld, column %lld: %g, not %g +- %g\n", (int)c->args.epilogue, (long long)row, (long long)column, found, wanted,
                    bound);
            exit(1);
        }
    }
}

static uint64_t own_products(void) {
    return fakecuda()->kernel("wo_linear_bf16").launches + fakecuda()->kernel("wo_linear_bf16_few").launches +
           fakecuda()->kernel("wo_linear_f16").launches + fakecuda()->kernel("wo_linear_f16_few").launches +
           fakecuda()->kernel("wo_linear_f32").launches + fakecuda()->kernel("wo_linear_f32_few").launches;
}

static bool is_for_the_library(const wo_dtype *d) {
    return d[0] == d[1] && (d[2] == WO_F32 || d[2] == d[0]);
}

static void every_epilogue_is_right(void) {
    for (int d = 0; d < DTYPES; d++)
        for (int epilogue = WO_EPILOGUE_NONE; epilogue <= WO_EPILOGUE_GATE && is_for_the_library(dtypes[d]); epilogue++)
            for (int biased = 0; biased < 2; biased++) {
                linear c = make_linear(37, 40, 48, dtypes[d], (wo_epilogue)epilogue, biased);
                CHECK(taken(&c.args));
                CHECK_OK(run(&c.args), &err);
                download(&c.y);
                for (int64_t row = 0; row < 37; row++)
                    check_row(&c, row);
                release_to(0);
            }
    CHECK(own_products() == 0);
}

/* In place, as the model calls ADD and GATE. */
static void the_residual_may_be_y_itself(void) {
    for (int epilogue = WO_EPILOGUE_ADD; epilogue <= WO_EPILOGUE_GATE; epilogue++) {
        linear c = make_linear(37, 40, 48, dtypes[2], (wo_epilogue)epilogue, true);
        CHECK_OK(run(&c.args), &err);
        download(&c.y);
        c.args.y = c.args.other;
        CHECK_OK(run(&c.args), &err);
        download(&c.other);
        CHECK(same_bits(&c.y.host, &c.other.host));
        release_to(0);
    }
}

/* The fake's first algorithm changes with the number of rows, and with it the bits. */
static void a_row_has_the_same_bits_whatever_comes_with_it(void) {
    static const int64_t portions[] = {1, 2, 3, 5, 7, 40};
    for (int d = 1; d < 3; d++)
        for (int epilogue = WO_EPILOGUE_NONE; epilogue <= WO_EPILOGUE_GATE; epilogue++) {
            linear c = make_linear(41, 40, 48, dtypes[d], (wo_epilogue)epilogue, true);
            c.args.rows_per_gate = 100; /* portions that begin inside a gate's rows have the gate of the first */
            CHECK_OK(run(&c.args), &err);
            download(&c.y);
            for (size_t i = 0; i < sizeof portions / sizeof *portions; i++) {
                pair again = MAKE(c.y.host.dtype, 41, 40);
                for (int64_t at = 0, rows; at < 41; at += rows) {
                    rows = 41 - at < portions[i] ? 41 - at : portions[i];
                    wo_linear_args part = c.args;
                    part.x = wo_tensor_rows(&c.args.x, at, rows);
                    part.y = wo_tensor_rows(&again.card, at, rows);
                    if (epilogue >= WO_EPILOGUE_MUL)
                        part.other = wo_tensor_rows(&c.args.other, at, rows);
                    CHECK_OK(run(&part), &err);
                }
                download(&again);
                CHECK(same_bits(&c.y.host, &again.host));
            }
            release_to(0);
        }
}

/* More rows than a portion of 32 MiB has: the gate's row and the residual's must go on from portion to portion. */
static void portions_go_on_where_the_last_ended(void) {
    enum { ROWS = 1100, PORTION = 1024, WIDE = 8192 };
    linear c = make_linear(ROWS, WIDE, 8, dtypes[2], WO_EPILOGUE_GATE, true);
    CHECK(wo_linear_workspace(device, &c.args) == ((size_t)8 << 20) + (size_t)PORTION * WIDE * 4);
    CHECK_OK(run(&c.args), &err);
    CHECK(fakecuda()->kernel("wo_epilogue").launches == 2);
    download(&c.y);
    static const int64_t rows[] = {0, 366, 367, PORTION - 1, PORTION, ROWS - 1};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_row(&c, rows[i]);
    release_to(0);
}

/* The fake rounds operands to 10 bits of mantissa then. */
static void tf32_is_for_those_who_ask(void) {
    linear single = make_linear(5, 16, 64, dtypes[0], WO_EPILOGUE_NONE, false), half = make_linear(5, 16, 64, dtypes[1], WO_EPILOGUE_NONE, false);
    linear *both[] = {&single, &half};
    for (int i = 0; i < 2; i++) {
        double most = 0;
        pair exact = MAKE(both[i]->y.host.dtype, 5, 16);
        linear c = *both[i];
        c.args.y = exact.card;
        CHECK(!wo_cuda_allows_tf32());
        CHECK_OK(run(&c.args), &err);
        wo_cuda_allow_tf32(true);
        CHECK_OK(run(&both[i]->args), &err);
        wo_cuda_allow_tf32(false);
        download(&exact);
        download(&both[i]->y);
        for (int64_t k = 0; k < 5 * 16; k++)
            most = fmax(most, fabs((double)get(&exact.host, k) - (double)get(&both[i]->y.host, k)));
        CHECK(i == 0 ? most > 1e-5 && most < 1e-2 : most == 0);
    }
    release_to(0);
}

static void what_does_not_suit_is_left_to_own_kernels(void) {
    for (int d = 0; d < DTYPES; d++) {
        linear c = make_linear(5, 16, 16, dtypes[d], WO_EPILOGUE_NONE, true);
        CHECK(taken(&c.args) == is_for_the_library(dtypes[d]));
        c.args.form = WO_FORM_DOT;
        CHECK(!taken(&c.args) && wo_linear_workspace(device, &c.args) == 0);
        release_to(0);
    }
    linear narrow = make_linear(5, 12, 16, dtypes[1], WO_EPILOGUE_NONE, true), short_sums = make_linear(5, 16, 12, dtypes[1], WO_EPILOGUE_NONE, true);
    CHECK(!taken(&narrow.args) && !taken(&short_sums.args));
    CHECK_OK(run(&narrow.args), &err);
    release_to(0);
}

/* Plans are made for cards that are not there, and with tensors that have no address yet. */
static void a_plan_asks_for_the_workspace_of_the_card(void) {
    wo_device *planned = NULL;
    CHECK_OK(wo_device_open("cuda:rtx4090", &planned, &err), &err);
    for (int d = 0; d < DTYPES; d++)
        for (int epilogue = WO_EPILOGUE_NONE; epilogue <= WO_EPILOGUE_GATE; epilogue++) {
            wo_linear_args here = {.x = wo_tensor_of(NULL, dtypes[d][0], 3000, 64), .w = wo_tensor_of(NULL, dtypes[d][1], 5120, 64),
                                   .y = wo_tensor_of(NULL, dtypes[d][2], 3000, 5120), .epilogue = (wo_epilogue)epilogue, .rows_per_gate = 1};
            const size_t bytes = wo_linear_workspace(planned, &here);
            CHECK(bytes == wo_linear_workspace(device, &here));
            CHECK((bytes > 0) == is_for_the_library(dtypes[d]));
            here.bias.data = &here; /* not looked at */
            CHECK(bytes == wo_linear_workspace(device, &here));
        }
    wo_device_close(planned);
}

static void a_tensor_that_is_not_aligned_is_refused(void) {
    linear c = make_linear(5, 16, 16, dtypes[1], WO_EPILOGUE_NONE, true);
    pair shifted = copy_at(1, &c.x);
    c.args.x = shifted.card;
    CHECK_STATUS(run(&c.args), WO_EINTERNAL);
    CHECK_CONTAINS(err.message, "multiples of 16 bytes");
    release_to(0);
}

static void a_failure_sticks_to_the_device(void) {
    linear c = make_linear(5, 16, 16, dtypes[1], WO_EPILOGUE_NONE, false);
    c.args.workspace = wo_tensor_of(workspace, WO_U8, (int64_t)WORKSPACE);
    c.args.w.data = (void *)(uintptr_t)16; /* no memory of the card */
    CHECK_OK(wo_linear(stream, &c.args, &err), &err);
    CHECK_STATUS(device->stream->sync(stream, &err), WO_EDEVICE);
    wo_status status = wo_linear(stream, &c.args, &err); /* skipped, or refused because the context is lost */
    CHECK(status == WO_OK || status == WO_EDEVICE);
}

static void open_device(void) {
    fakecuda()->reset();
    wo_cuda_forget_lost_cards();
    CHECK_OK(wo_device_open("cuda", &device, &err), &err);
    CHECK_OK(device->stream->create(device, "compute", &stream, &err), &err);
    CHECK_OK(device->memory->alloc(device, WORKSPACE, "workspace", &workspace, &err), &err);
    CHECK_OK(device->stream->poison(stream, workspace, WORKSPACE, &err), &err);
}

static void close_device(void) {
    device->memory->release(device, workspace);
    device->stream->destroy(stream);
    wo_device_close(device);
    CHECK(library_objects() == 0);
}

static void variables_that_change_results_are_refused(void) {
    static const char *const names[] = {"NVIDIA_TF32_OVERRIDE", "CUBLAS_EMULATE_SINGLE_PRECISION", "CUDNN_FORT_ANYTHING"};
    static const char *const harmless[] = {"NVIDIA_TF32_OVERRIDE", "CUBLASLT_LOG_LEVEL", "CUDNN_LOGLEVEL_DBG"};
    char text[4096];
    for (int i = 0; i < 3; i++) {
        CHECK(setenv(names[i], "1", 1) == 0);
        CHECK_STATUS(wo_device_open("cuda", &device, &err), WO_EVALUE);
        CHECK_CONTAINS(err.message, names[i]);
        wo_cuda_describe(text, sizeof text);
        CHECK_CONTAINS(text, "refused: it changes results");
        CHECK(unsetenv(names[i]) == 0 && setenv(harmless[i], "0", 1) == 0);
        CHECK_OK(wo_device_open("cuda", &device, &err), &err);
        wo_device_close(device);
        wo_cuda_describe(text, sizeof text);
        CHECK_CONTAINS(text, harmless[i]);
        CHECK(strstr(text, "refused") == NULL);
        CHECK(unsetenv(harmless[i]) == 0);
    }
}

static void the_library_is_described(void) {
    char text[4096];
    wo_cuda_describe(text, sizeof text);
    CHECK_CONTAINS(text, "cublaslt: 13.2.0 (");
    CHECK_CONTAINS(text, "libcublasLt.so.13)");
    for (size_t bytes = 0; bytes < 600; bytes++) { /* however little room there is */
        memset(text, 'x', sizeof text);
        wo_cuda_vendor_describe(text, bytes);
        CHECK(bytes == 0 || memchr(text, '\0', bytes) != NULL);
        CHECK(text[bytes] == 'x');
    }
}

/* Without the library own kernels do the same. */
static void own_kernels_can_be_asked_for(void) {
    wo_cuda_set_own_kernels_only(true);
    open_device();
    linear c = make_linear(5, 16, 16, dtypes[1], WO_EPILOGUE_NONE, true);
    CHECK(!taken(&c.args));
    CHECK_OK(run(&c.args), &err);
    CHECK(own_products() == 1);
    release_to(0);
    close_device();
    wo_cuda_set_own_kernels_only(false);
}

int main(void) {
    open_device();
    every_epilogue_is_right();
    the_residual_may_be_y_itself();
    a_row_has_the_same_bits_whatever_comes_with_it();
    fakecuda()->reset();
    portions_go_on_where_the_last_ended();
    tf32_is_for_those_who_ask();
    what_does_not_suit_is_left_to_own_kernels();
    a_plan_asks_for_the_workspace_of_the_card();
    a_tensor_that_is_not_aligned_is_refused();
    close_device();
    own_kernels_can_be_asked_for();
    variables_that_change_results_are_refused();
    the_library_is_described();
    open_device();
    a_failure_sticks_to_the_device();
    printf("cublaslt: ok\n");
    return 0;
}
