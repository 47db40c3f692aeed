/* Every case of the table on every instruction set that this machine has, through ops/ and a stream of the cpu device: within its bound of
 * the definition in float64, and with the same bits on one thread and on three. Every tensor ends at a guard page. */
#include "tests/op_reference.h"

/* Where attention multiplies pairs of bfloat16, its weights are rounded to bfloat16 as well: up to 2^-9 of each value. */
static double bound_of(const op_case *c, wo_isa isa) {
    bool pairs = isa == WO_ISA_AVX512_BF16 || isa == WO_ISA_AMX;
    return c->op == OP_attention && c->x == WO_BF16 && pairs && c->n[1] > 1 ? 8e-3 : c->bound;
}

static void run_with(op_call *call, wo_isa isa, int threads) {
    CHECK_OK(wo_cpu_force_isa(isa, &op_err), &op_err);
    CHECK_OK(wo_cpu_set_threads(threads, &op_err), &op_err);
    op_run(call);
}

static void check_threads_agree(op_call *call, wo_isa isa, const double *const wanted[2]) {
    unsigned char *bits[2] = {NULL, NULL};
    run_with(call, isa, 1);
    for (int i = 0; i < call->outs; i++) {
        op_check(call->c, bound_of(call->c, isa), wo_isa_name(isa), &call->out[i], wanted[i]);
        bits[i] = malloc(wo_tensor_bytes(&call->out[i]));
        CHECK(bits[i] != NULL);
        memcpy(bits[i], call->out[i].data, wo_tensor_bytes(&call->out[i]));
    }
    run_with(call, isa, 3);
    for (int i = 0; i < call->outs; i++) {
        CHECK(memcmp(bits[i], call->out[i].data, wo_tensor_bytes(&call->out[i])) == 0);
        free(bits[i]);
    }
}

static void test_a_case_agrees_with_float64_and_with_itself_on_any_number_of_threads(const op_case *c) {
    op_call call = op_build(c);
    double *wanted[2] = {op_wanted(&call, 0), op_wanted(&call, 1)};
    for (int isa = 0; isa < WO_ISA_COUNT; isa++)
        if (wo_isa_supported((wo_isa)isa))
            check_threads_agree(&call, (wo_isa)isa, (const double *const *)wanted);
    free(wanted[0]);
    free(wanted[1]);
    op_release_all();
}

int main(void) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    const bool slow = true;
#else
    const bool slow = false;
#endif
    op_open();
    int count = 0;
    for (int i = 0; i < OP_CASES; i++) {
        CHECK(op_device_has(&op_cases[i]) || op_cases[i].x == WO_F16 || op_cases[i].y == WO_F16);
        if (op_device_has(&op_cases[i]) && (!slow || (op_cases[i].flags & OP_SLOW) == 0)) {
            test_a_case_agrees_with_float64_and_with_itself_on_any_number_of_threads(&op_cases[i]);
            count++;
        }
    }
    op_close();
    printf("%d cases: ok\n", count);
    return 0;
}
