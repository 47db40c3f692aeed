/* A row's bits are its own: the same alone, in a tail and in any batch. This is what lets a plan cut and join rows and branches without changing
 * a film. The cases and their tests, for every device. */
#ifndef WO_TESTS_OP_ROWS_H
#define WO_TESTS_OP_ROWS_H

#include "tests/op_call.h"

static const char *op_where = "cpu"; /* what computes, for messages */

static const int64_t parts[][2] = {{0, 1}, {1, 1}, {196, 1}, {0, 31}, {90, 33}, {5, 96}, {95, 102}, {3, 194}};
enum { PARTS = sizeof parts / sizeof parts[0], ROWS = 197 };

static void check_same_bits(const op_call *part, const wo_tensor *whole, int64_t first, int64_t rows) {
    wo_tensor wanted = wo_tensor_rows(whole, first, rows);
    char text[256];
    op_describe(part->c, text, sizeof text);
    if (memcmp(part->out[0].data, wanted.data, wo_tensor_bytes(&wanted)) != 0) {
        fprintf(stderr, "%s on %s: rows %lld .. %lld differ when computed alone\n", text, op_where, (long long)first,
                (long long)(first + rows - 1));
        exit(1);
    }
}

/* Rows [first, first + rows) of a whole call as a call of its own. */
static op_call cut_rows(const op_call *whole, int64_t first, int64_t rows) {
    op_call part = *whole;
#define CUT(tensor) (tensor) = wo_tensor_rows(&(tensor), first, rows)
    switch (whole->c->op) {
    case OP_layer_norm:
        CUT(part.a.layer_norm.x);
        part.out[0] = part.a.layer_norm.y = op_make(whole->out[0].dtype, 2, (int64_t[]){rows, whole->out[0].shape[1]});
        if (part.a.layer_norm.scale.data != NULL) {
            /* Every row has a modulation of its own here, so that the part can begin anywhere. */
            CUT(part.a.layer_norm.scale);
            CUT(part.a.layer_norm.shift);
        }
        break;
    case OP_rms_norm:
        CUT(part.a.rms_norm.x);
        part.out[0] = part.a.rms_norm.y = op_make(whole->out[0].dtype, 2, (int64_t[]){rows, whole->out[0].shape[1]});
        if (part.a.rms_norm.cos.data != NULL) {
            CUT(part.a.rms_norm.cos);
            CUT(part.a.rms_norm.sin);
        }
        break;
    case OP_l2_norm:
        CUT(part.a.l2_norm.x);
        part.out[0] = part.a.l2_norm.y = op_make(whole->out[0].dtype, 2, (int64_t[]){rows, whole->out[0].shape[1]});
        break;
    case OP_unary:
        CUT(part.a.unary.x);
        part.out[0] = part.a.unary.y = op_make(whole->out[0].dtype, 1, (int64_t[]){rows});
        break;
    default:
        CHECK(whole->c->op == OP_attention);
        CUT(part.a.attention.q);
        part.out[0] = part.a.attention.o =
            op_make(whole->out[0].dtype, 3, (int64_t[]){rows, whole->out[0].shape[1], whole->out[0].shape[2]});
    }
#undef CUT
    return part;
}

static const op_case row_cases[] = {
    {OP_layer_norm, {ROWS, 1536, ROWS}, WO_F32, WO_BF16, OP_MODULATED, 0},
    {OP_layer_norm, {ROWS, 61, 1}, WO_BF16, WO_F32, OP_BIAS, 0},
    {OP_rms_norm, {ROWS, 256, 128, ROWS}, WO_F32, WO_F32, OP_ROTATED, 0},
    {OP_rms_norm, {ROWS, 36, 12, ROWS}, WO_BF16, WO_BF16, OP_ROTATED, 0},
    {OP_l2_norm, {ROWS, 96}, WO_F32, WO_F32, OP_SILU, 0},
    {OP_l2_norm, {ROWS, 3}, WO_F32, WO_BF16, OP_SILU, 0},
    {OP_unary, {ROWS, WO_UNARY_SILU}, WO_F32, WO_F32, 0, 0},
    {OP_unary, {ROWS, WO_UNARY_GELU_ERF}, WO_BF16, WO_F32, 0, 0},
    {OP_attention, {ROWS, 600, 2, 128}, WO_F32, WO_F32, OP_LAST_KEY, 0},
    {OP_attention, {ROWS, 600, 2, 128}, WO_BF16, WO_BF16, OP_LAST_KEY, 0},
    {OP_attention, {ROWS, 21, 3, 40}, WO_F32, WO_F32, OP_LAST_KEY, 0},
    {OP_attention, {ROWS, 21, 3, 40}, WO_BF16, WO_F32, 0, 0},
    {OP_attention, {ROWS, 300, 1, 384}, WO_F32, WO_F32, 0, 0},
    {OP_attention, {ROWS, 300, 1, 384}, WO_BF16, WO_F32, 0, 0},
    {OP_attention, {ROWS, 1, 2, 12}, WO_F32, WO_F32, OP_LAST_KEY, 0},
    {OP_layer_norm, {ROWS, 1536, ROWS}, WO_F32, WO_F16, OP_MODULATED, 0},
    {OP_rms_norm, {ROWS, 36, 12, ROWS}, WO_F16, WO_F16, OP_ROTATED, 0},
    {OP_attention, {ROWS, 600, 2, 128}, WO_F16, WO_F16, OP_LAST_KEY, 0},
    {OP_attention, {ROWS, 21, 3, 40}, WO_F16, WO_F32, 0, 0},
};
enum { ROW_CASES = sizeof row_cases / sizeof row_cases[0] };

static void test_rows_have_the_same_bits_alone_in_a_tail_and_in_any_batch(const op_case *c) {
    if (!op_device_has(c))
        return;
    op_call whole = op_build(c);
    op_run(&whole);
    for (int i = 0; i < PARTS; i++) {
        int kept = op_block_count;
        op_call part = cut_rows(&whole, parts[i][0], parts[i][1]);
        op_run(&part);
        check_same_bits(&part, &whole.out[0], parts[i][0], parts[i][1]);
        op_release_to(kept);
    }
    op_release_all();
}

/* Head h of a [S, H, D] tensor as [S, 1, D]. */
static wo_tensor head_of(const wo_tensor *t, int64_t h) {
    wo_tensor one = OP_MAKE(t->dtype, t->shape[0], 1, t->shape[2]);
    size_t bytes = (size_t)t->shape[2] * wo_dtype_size(t->dtype);
    for (int64_t s = 0; s < t->shape[0]; s++)
        memcpy((char *)one.data + (size_t)s * bytes, (const char *)t->data + (size_t)(s * t->shape[1] + h) * bytes, bytes);
    return one;
}

static void test_a_head_has_the_same_bits_alone_as_among_others(wo_dtype dtype, int64_t queries) {
    const op_case c = {OP_attention, {queries, 210, 5, 64}, dtype, WO_F32, OP_RELATIVE, 0};
    op_call whole = op_build(&c);
    op_run(&whole);
    for (int64_t h = 0; h < 5; h++) {
        op_call part = whole;
        wo_attention_args *a = &part.a.attention;
        a->q = head_of(&whole.a.attention.q, h);
        a->k = head_of(&whole.a.attention.k, h);
        a->v = head_of(&whole.a.attention.v, h);
        a->relative = OP_MAKE(WO_F32, 32, 1);
        for (int64_t i = 0; i < 32; i++)
            op_set(&a->relative, i, op_get(&whole.a.attention.relative, i * 5 + h));
        part.out[0] = a->o = OP_MAKE(WO_F32, queries, 1, 64);
        op_run(&part);
        wo_tensor wanted = head_of(&whole.out[0], h);
        CHECK(memcmp(part.out[0].data, wanted.data, wo_tensor_bytes(&wanted)) == 0);
    }
    op_release_all();
}

#endif
