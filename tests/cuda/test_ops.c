/* Every case of csrc/tests/op_cases.h on own kernels, whose PTX runs in the interpreter: within its bound of the definition in float64, for both targets,
 * under several schedules of warps and arrivals of cp.async, from aligned and from unaligned tensors. All checks of the interpreter are on. And every
 * kernel that an operation may launch has run. */
#include "op_card.h"
#include "tests/op_reference.h"

#include <time.h>

/* Tensor cores round attention's weights to the dtype of the values: up to 2^-9 of each in bfloat16, and 2^-12 in float16. */
static double bound_of(const op_case *c) {
    if (c->op != OP_attention || c->x == WO_F32 || c->n[1] == 1)
        return c->bound;
    return c->x == WO_BF16 ? 8e-3 : 1e-3;
}

/* Schedule 0 switches warps at barriers only. Others may leave bits alone: an order of sums is the kernel's, not the schedule's. */
enum { SCHEDULES = 3 };

static void test_a_case_agrees_with_float64_under_every_schedule(const op_case *c, int target) {
    char where[64];
    op_call call = op_build(c);
    double *wanted[2] = {op_wanted(&call, 0), op_wanted(&call, 1)};
    unsigned char *bits[2] = {NULL, NULL};
    for (int schedule = 0; schedule < SCHEDULES; schedule++)
        for (int shifts = 0; shifts < 2; shifts++) {
            card_shifts = shifts != 0;
            card->set_seed((uint64_t)schedule, 0);
            op_run(&call);
            snprintf(where, sizeof where, "compute_%d, schedule %d, %s", target, schedule, shifts ? "unaligned" : "aligned");
            for (int i = 0; i < call.outs; i++) {
                op_check(c, bound_of(c), where, &call.out[i], wanted[i]);
                size_t bytes = wo_tensor_bytes(&call.out[i]);
                if (bits[i] == NULL)
                    bits[i] = memcpy(malloc(bytes), call.out[i].data, bytes);
                CHECK(memcmp(bits[i], call.out[i].data, bytes) == 0);
            }
        }
    for (int i = 0; i < 2; i++) {
        free(wanted[i]);
        free(bits[i]);
    }
    op_release_all();
}

/* As base/convert.c rounds, which is as the hardware does; neighbours of the largest number, of the least ones and of a tie. */
static void test_what_float16_cannot_hold_becomes_infinite_and_no_other_number(void) {
    static const float numbers[] = {65504, 65519, 65520, -65520, 1e6f, -INFINITY, 0x1p-24f, 0x1.8p-25f, 0x1p-25f, 1 + 0x1p-11f, 1 + 0x1.8p-10f};
    enum { COUNT = sizeof numbers / sizeof *numbers };
    op_case c = {OP_unary, {COUNT, WO_UNARY_COPY}, WO_F32, WO_F16, 0, 0};
    op_call call = op_build(&c);
    for (int shifts = 0; shifts < 2; shifts++) {
        card_shifts = shifts != 0;
        for (int i = 0; i < COUNT; i++)
            op_set(&call.a.unary.x, i, numbers[i]);
        op_run(&call);
        for (int i = 0; i < COUNT; i++)
            CHECK(((const uint16_t *)call.out[0].data)[i] == wo_f32_to_f16(numbers[i]));
    }
    op_release_all();
}

/* Launched by the device itself (test_device.c, test_convert.c) or behind a library's product (vendor/test_cublaslt.c). */
static bool is_tested_elsewhere(const char *kernel) {
    return strcmp(kernel, "wo_stamp") == 0 || strncmp(kernel, "wo_convert", 10) == 0 || strcmp(kernel, "wo_epilogue") == 0;
}

static void test_every_kernel_has_run(void) {
    static const char *const kernels[] = {
#define KERNEL_NAME(module, entry) "wo_" #entry,
        WO_CUDA_KERNEL_LIST(KERNEL_NAME)
#undef KERNEL_NAME
    };
    for (int i = 0; i < WO_CUDA_KERNELS; i++)
        if (!is_tested_elsewhere(kernels[i]) && card->kernel(kernels[i]).launches == 0) {
            fprintf(stderr, "%s was never launched\n", kernels[i]);
            exit(1);
        }
}

/* Whether the case launches the kernel when its tensors are aligned or when they are not. */
static bool launches(const op_case *c, const char *kernel) {
    const uint64_t before = card->kernel(kernel).launches, seed = op_seed;
    op_call call = op_build(c);
    card->set_rehearsal(true);
    for (int shifts = 0; shifts < 2; shifts++) {
        card_shifts = shifts != 0;
        op_run(&call);
    }
    card->set_rehearsal(false);
    op_release_all();
    op_seed = seed;
    return card->kernel(kernel).launches > before;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv) {
    const char *only = argc > 1 ? argv[1] : NULL, *kernel = argc > 2 ? argv[2] : NULL; /* an operation; and cases that launch this kernel */
    const bool verbose = getenv("VERBOSE") != NULL;
    int count = 0;
    for (int target = 80; target <= 120; target += 40) {
        card_open(target);
        for (int i = 0; i < OP_CASES; i++) {
            char text[256];
            const op_case *c = &op_cases[i];
            if ((c->flags & OP_SLOW) != 0 || (only != NULL && strcmp(only, op_name(c->op)) != 0))
                continue;
            if (kernel != NULL && !launches(c, kernel))
                continue;
            double began = now();
            test_a_case_agrees_with_float64_under_every_schedule(c, target);
            op_describe(c, text, sizeof text);
            if (verbose)
                printf("compute_%d %s: %.2f s\n", target, text, now() - began);
            count++;
        }
        test_what_float16_cannot_hold_becomes_infinite_and_no_other_number();
        if (only == NULL)
            test_every_kernel_has_run();
        card_close();
    }
    printf("%d cases on own kernels: ok\n", count);
    return count > 0 ? 0 : 2; /* 2: nothing was tried */
}
