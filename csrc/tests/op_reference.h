/* The definition of every op in float64, written down as in device/op_args.h and with no regard to speed; and the comparison with what
 * a kernel made of it. */
#ifndef WO_TESTS_OP_REFERENCE_H
#define WO_TESTS_OP_REFERENCE_H

#include "tests/op_call.h"
#include "tests/rounding.h"

static inline double op_silu(double x) {
    return x / (1 + exp(-x));
}

static inline double op_gelu_tanh(double x) {
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static inline double op_gelu_erf(double x) {
    return 0.5 * x * erfc(-x / M_SQRT2);
}

/* Element i of an input that the call may have overwritten. */
static inline double op_input(const op_call *call, const wo_tensor *x, int64_t i) {
    return op_get(call->pristine.data != NULL ? &call->pristine : x, i);
}

static inline void op_reference_linear(const op_call *call, double *y) {
    const wo_linear_args *a = &call->a.linear;
    int64_t m = a->x.shape[0], k = a->x.shape[1], n = a->w.shape[0];
    for (int64_t r = 0; r < m; r++)
        for (int64_t c = 0; c < n; c++) {
            double sum = a->bias.data != NULL ? op_get(&a->bias, c) : 0;
            for (int64_t i = 0; i < k; i++)
                sum += (double)op_get(&a->x, r * k + i) * op_get(&a->w, c * k + i);
            if (a->epilogue == WO_EPILOGUE_GATE)
                sum = op_input(call, &a->other, r * n + c) + sum * op_get(&a->gate, r / a->rows_per_gate * n + c);
            y[r * n + c] = sum;
        }
}

static inline double op_conv_at(const wo_conv_args *a, int64_t t, int64_t i, int64_t j, int64_t n) {
    int64_t scale = a->upsample ? 2 : 1, step = a->downsample ? 2 : 1, c = a->channels;
    int64_t above = a->downsample ? 0 : (a->kh - 1) / 2, left = a->downsample ? 0 : (a->kw - 1) / 2;
    double sum = a->bias.data != NULL ? op_get(&a->bias, n) : 0;
    for (int64_t dt = 0; dt < a->kt; dt++)
        for (int64_t di = 0; di < a->kh; di++)
            for (int64_t dj = 0; dj < a->kw; dj++) {
                int64_t row = i * step + di - above, column = j * step + dj - left;
                if (a->frames[t + dt] == NULL || row < 0 || column < 0 || row >= a->height * scale || column >= a->width * scale)
                    continue;
                wo_tensor frame = wo_tensor_of((void *)(uintptr_t)a->frames[t + dt], a->x_dtype, a->height, a->width, c);
                int64_t pixel = row / scale * a->width + column / scale, tap = ((n * a->kt + dt) * a->kh + di) * a->kw + dj;
                for (int64_t x = 0; x < c; x++)
                    sum += (double)op_get(&frame, pixel * c + x) * op_get(&a->w, tap * c + x);
            }
    return sum;
}

static inline void op_reference_conv(const op_call *call, double *y) {
    const wo_conv_args *a = &call->a.conv;
    const int64_t *s = a->y.shape;
    for (int64_t e = 0; e < wo_tensor_count(&a->y); e++) {
        y[e] = op_conv_at(a, e / s[3] / s[2] / s[1], e / s[3] / s[2] % s[1], e / s[3] % s[2], e % s[3]);
        if (a->residual.data != NULL)
            y[e] += op_get(&a->residual, e);
    }
}

static inline void op_reference_layer_norm(const op_call *call, double *y) {
    const wo_layer_norm_args *a = &call->a.layer_norm;
    int64_t rows = a->x.shape[0], n = a->x.shape[1];
    for (int64_t r = 0; r < rows; r++) {
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < n; i++)
            mean += op_get(&a->x, r * n + i) / (double)n;
        for (int64_t i = 0; i < n; i++)
            variance += pow(op_get(&a->x, r * n + i) - mean, 2) / (double)n;
        for (int64_t i = 0; i < n; i++) {
            double v = (op_get(&a->x, r * n + i) - mean) / sqrt(variance + (double)a->eps);
            int64_t b = a->scale.data != NULL ? r / a->rows_per_batch * n : 0;
            if (a->scale.data != NULL)
                v = v * (1 + (double)op_get(&a->scale, b + i)) + op_get(&a->shift, b + i);
            if (a->weight.data != NULL)
                v = v * op_get(&a->weight, i) + op_get(&a->bias, i);
            y[r * n + i] = v;
        }
    }
}

static inline void op_reference_rms_norm(const op_call *call, double *y) {
    const wo_rms_norm_args *a = &call->a.rms_norm;
    int64_t rows = a->x.shape[0], n = a->x.shape[1];
    for (int64_t r = 0; r < rows; r++) {
        double square = 0;
        for (int64_t i = 0; i < n; i++)
            square += pow(op_input(call, &a->x, r * n + i), 2) / (double)n;
        for (int64_t i = 0; i < n; i++)
            y[r * n + i] = op_input(call, &a->x, r * n + i) / sqrt(square + (double)a->eps) * op_get(&a->weight, i);
        for (int64_t i = 0; a->cos.data != NULL && i < n; i += 2) {
            int64_t at = r % a->cos.shape[0] * (a->head_dim / 2) + i % a->head_dim / 2;
            double p = y[r * n + i], q = y[r * n + i + 1], c = op_get(&a->cos, at), s = op_get(&a->sin, at);
            y[r * n + i] = p * c - q * s;
            y[r * n + i + 1] = p * s + q * c;
        }
    }
}

static inline void op_reference_l2_norm(const op_call *call, double *y) {
    const wo_l2_norm_args *a = &call->a.l2_norm;
    int64_t pixels = a->x.shape[0], n = a->x.shape[1];
    for (int64_t p = 0; p < pixels; p++) {
        double square = 0;
        for (int64_t i = 0; i < n; i++)
            square += pow(op_get(&a->x, p * n + i), 2);
        for (int64_t i = 0; i < n; i++) {
            double v = op_get(&a->x, p * n + i) / fmax(sqrt(square), 1e-12) * sqrt((double)n) * op_get(&a->gamma, i);
            y[p * n + i] = a->silu ? op_silu(v) : v;
        }
    }
}

/* out: 0 = cos, 1 = sin */
static inline void op_reference_rope_table(const op_call *call, int out, double *y) {
    const wo_rope_table_args *a = &call->a.rope_table;
    int64_t side = 2 * (a->head_dim / 6), dims[3] = {a->head_dim - 2 * side, side, side};
    for (int64_t s = 0; s < a->frames * a->height * a->width; s++) {
        int64_t position[3] = {s / a->width / a->height, s / a->width % a->height, s % a->width};
        for (int axis = 0; axis < 3; axis++)
            for (int64_t p = 0; p < dims[axis] / 2; p++) {
                double angle = (double)position[axis] * pow(10000, -2.0 * (double)p / (double)dims[axis]);
                *y++ = out == 0 ? cos(angle) : sin(angle);
            }
    }
}

/* From the table of the specification, computed with PyTorch in float32 for 32 buckets and a distance of 128. */
static inline int64_t op_bucket(int64_t difference) {
    static const int64_t borders[] = {12, 16, 23, 32, 46, 64, 91};
    int64_t distance = difference < 0 ? -difference : difference, bucket = distance < 8 ? distance : 8;
    for (int i = 0; i < 7 && distance >= borders[i]; i++)
        bucket = 9 + i;
    return bucket + (difference > 0 ? 16 : 0);
}

static inline void op_reference_attention_row(const wo_attention_args *a, int64_t i, int64_t h, double *weights, double *y) {
    int64_t keys = a->k.shape[0], heads = a->q.shape[1], n = a->q.shape[2];
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < keys; j++) {
        double score = 0;
        for (int64_t d = 0; d < n; d++)
            score += (double)op_get(&a->q, (i * heads + h) * n + d) * op_get(&a->k, (j * heads + h) * n + d);
        score = score * (double)a->scale + (j == keys - 1 ? (double)a->last_key_bias : 0);
        if (a->relative.data != NULL)
            score += op_get(&a->relative, op_bucket(j - i) * heads + h);
        weights[j] = score;
        top = fmax(top, score);
    }
    for (int64_t j = 0; j < keys; j++)
        sum += weights[j] = exp(weights[j] - top);
    for (int64_t d = 0; d < n; d++)
        y[d] = 0;
    for (int64_t j = 0; j < keys; j++)
        for (int64_t d = 0; d < n; d++)
            y[d] += weights[j] / sum * op_get(&a->v, (j * heads + h) * n + d);
}

static inline void op_reference_attention(const op_call *call, double *y) {
    const wo_attention_args *a = &call->a.attention;
    int64_t heads = a->q.shape[1], n = a->q.shape[2];
    double *weights = malloc((size_t)a->k.shape[0] * sizeof *weights);
    CHECK(weights != NULL);
    for (int64_t i = 0; i < a->q.shape[0]; i++)
        for (int64_t h = 0; h < heads; h++)
            op_reference_attention_row(a, i, h, weights, y + (i * heads + h) * n);
    free(weights);
}

static inline void op_reference_layouts(const op_call *call, double *y) {
    const int64_t *n = call->c->n;
    int64_t rows = n[2] / 2, columns = n[3] / 2;
    for (int64_t c = 0; c < n[0]; c++)
        for (int64_t f = 0; f < n[1]; f++)
            for (int64_t i = 0; i < n[2]; i++)
                for (int64_t j = 0; j < n[3]; j++) {
                    int64_t plain = ((c * n[1] + f) * n[2] + i) * n[3] + j, s = (f * rows + i / 2) * columns + j / 2, ph = i % 2, pw = j % 2;
                    if (call->c->op == OP_patchify)
                        y[s * 4 * n[0] + c * 4 + ph * 2 + pw] = op_get(&call->a.patchify.latents, plain);
                    else if (call->c->op == OP_unpatchify)
                        y[plain] = op_get(&call->a.unpatchify.rows, s * 4 * n[0] + (ph * 2 + pw) * n[0] + c);
                    else
                        y[((f * n[2] + i) * n[3] + j) * n[0] + c] = op_get(&call->a.channels_last.x, plain);
                }
}

static inline void op_reference_sinusoid(const op_call *call, double *y) {
    int64_t half = call->c->n[0] / 2;
    for (int64_t j = 0; j < half; j++) {
        float exponent = (float)-log(10000) * (float)j;
        exponent /= (float)half;
        float frequency = (float)exp((double)exponent), angle = (float)call->c->n[1] * frequency;
        y[j] = cos((double)angle);
        y[half + j] = sin((double)angle);
    }
}

static inline void op_reference_unary(const op_call *call, double *y) {
    const wo_unary_args *a = &call->a.unary;
    for (int64_t i = 0; i < wo_tensor_count(&a->x); i++) {
        double x = op_input(call, &a->x, i);
        y[i] = a->kind == WO_UNARY_SILU        ? op_silu(x)
               : a->kind == WO_UNARY_CLAMP_ONE ? fmax(-1, fmin(1, x))
               : a->kind == WO_UNARY_GELU_TANH ? op_gelu_tanh(x)
               : a->kind == WO_UNARY_GELU_ERF  ? op_gelu_erf(x)
                                               : x;
    }
}

/* Every element of output `out`, before it is rounded to the output's dtype. */
static inline void op_reference(const op_call *call, int out, double *y) {
    const int64_t *n = call->c->n;
    switch (call->c->op) {
    case OP_linear:
        op_reference_linear(call, y);
        break;
    case OP_conv:
        op_reference_conv(call, y);
        break;
    case OP_embedding:
        for (int64_t i = 0; i < n[0] * n[2]; i++)
            y[i] = op_get(&call->a.embedding.table, ((const int32_t *)call->a.embedding.ids.data)[i / n[2]] * n[2] + i % n[2]);
        break;
    case OP_layer_norm:
        op_reference_layer_norm(call, y);
        break;
    case OP_rms_norm:
        op_reference_rms_norm(call, y);
        break;
    case OP_l2_norm:
        op_reference_l2_norm(call, y);
        break;
    case OP_rope_table:
        op_reference_rope_table(call, out, y);
        break;
    case OP_attention:
        op_reference_attention(call, y);
        break;
    case OP_patchify:
    case OP_unpatchify:
    case OP_channels_last:
        op_reference_layouts(call, y);
        break;
    case OP_sinusoid:
        op_reference_sinusoid(call, y);
        break;
    case OP_add:
        for (int64_t i = 0; i < n[0] * n[1]; i++)
            y[i] = op_input(call, &call->a.add.a, i) + (double)op_get(&call->a.add.b, i % (n[2] * n[1]));
        break;
    case OP_unary:
        op_reference_unary(call, y);
        break;
    case OP_KINDS:
        break;
    }
}

/* The same in memory that the caller frees; NULL when there is no such output. */
static inline double *op_wanted(const op_call *call, int out) {
    if (out >= call->outs)
        return NULL;
    double *y = malloc((size_t)wo_tensor_count(&call->out[out]) * sizeof *y);
    CHECK(y != NULL);
    op_reference(call, out, y);
    return y;
}

/* Every element within the bound of its definition, and all of them together well within. where: on what it was computed. */
static inline void op_check(const op_case *c, double bound, const char *where, const wo_tensor *found, const double *wanted) {
    int64_t width = found->shape[found->rank - 1], count = wo_tensor_count(found);
    double row = 0, errors = 0, squares = 0;
    const double half_ulp = half_unit(found->dtype), least = found->dtype == WO_F16 ? 0x1p-25 : 0; /* of what is less than float16's normal numbers */
    for (int64_t i = 0; i < count; i++) {
        if (i % width == 0) {
            row = 0;
            for (int64_t j = 0; j < width; j++)
                row += wanted[i + j] * wanted[i + j] / (double)width;
            row = sqrt(row);
        }
        double allowed = bound * (row + fabs(wanted[i])) + fabs(wanted[i]) * half_ulp + least;
        if (!(fabs(op_get(found, i) - wanted[i]) <= allowed)) {
            char text[256];
            op_describe(c, text, sizeof text);
            fprintf(stderr, "%s on %s: element %lld is %.9g, not %.9g +- %.2g\n", text, where, (long long)i,
                    (double)op_get(found, i), wanted[i], allowed);
            exit(1);
        }
        errors += pow(op_get(found, i) - wanted[i], 2);
        squares += wanted[i] * wanted[i];
    }
    /* Errors of single elements are random: taken together they must be well below the bound. */
    CHECK(count < 100 || sqrt(errors) <= (bound / 3 + half_ulp / 2) * sqrt(squares));
}

#endif
