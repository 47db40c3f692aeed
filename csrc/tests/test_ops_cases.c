/* Every case of the table on every instruction set that this machine has, through ops/ and a stream of the cpu device: within its bound of
 * the definition in float64, and with the same bits on one thread and on three. Every tensor ends at a guard page. */
#include "tests/op_reference.h"

/* Where attention multiplies pairs of bfloat16, its weights are rounded to bfloat16 as well: up to 2^-9 of each value. */
static double bound_of(const op_case *c, wo_isa isa) {
    bool pairs = isa == WO_ISA_AVX512_BF16 || isa == WO_ISA_AMX;
    return c->op == OP_attention && c->x == WO_BF16 && pairs && c->n[1] > 1 ? 8e-3 : c->bound;
}

static void check_output(const op_case *c, wo_isa isa, const wo_tensor *found, const double *wanted) {
    int64_t width = found->shape[found->rank - 1], count = wo_tensor_count(found);
    double bound = bound_of(c, isa), row = 0, errors = 0, squares = 0;
    for (int64_t i = 0; i < count; i++) {
        if (i % width == 0) {
            row = 0;
            for (int64_t j = 0; j < width; j++)
                row += wanted[i + j] * wanted[i + j] / (double)width;
            row = sqrt(row);
        }
        double allowed = bound * (row + fabs(wanted[i])) + (found->dtype == WO_BF16 ? fabs(wanted[i]) / 256 : 0);
        if (!(fabs(op_get(found, i) - wanted[i]) <= allowed)) {
            char text[256];
            op_describe(c, text, sizeof text);
            fprintf(stderr, "%s on %s: element %lld is %.9g, not %.9g +- %.2g\n", text, wo_isa_name(isa), (long long)i,
                    (double)op_get(found, i), wanted[i], allowed);
            exit(1);
        }
        errors += pow(op_get(found, i) - wanted[i], 2);
        squares += wanted[i] * wanted[i];
    }
    /* Errors of single elements are random: taken together they must be well below the bound. */
    double half_ulp = found->dtype == WO_BF16 ? 1.0 / 256 : 0;
    CHECK(count < 100 || sqrt(errors) <= (bound / 3 + half_ulp / 2) * sqrt(squares));
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
        check_output(call->c, isa, &call->out[i], wanted[i]);
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
    double *wanted[2] = {NULL, NULL};
    for (int i = 0; i < call.outs; i++) {
        wanted[i] = malloc((size_t)wo_tensor_count(&call.out[i]) * sizeof *wanted[i]);
        CHECK(wanted[i] != NULL);
        op_reference(&call, i, wanted[i]);
    }
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
    for (int i = 0; i < OP_CASES; i++)
        if (!slow || (op_cases[i].flags & OP_SLOW) == 0)
            test_a_case_agrees_with_float64_and_with_itself_on_any_number_of_threads(&op_cases[i]);
    op_close();
    printf("%d cases: ok\n", OP_CASES);
    return 0;
}
