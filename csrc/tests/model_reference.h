/* The formulas of the networks in float64, one function each and as plain as they can be, over the values of the test's file. */
#ifndef WO_TESTS_MODEL_REFERENCE_H
#define WO_TESTS_MODEL_REFERENCE_H

#include "tests/model_file.h"

#include <math.h>

/* Row-major. Memory comes from one pool that a new reference begins again. */
typedef struct matrix {
    int64_t rows, width;
    double *at;
} matrix;

enum { REFERENCE_POOL = 1 << 22 };

static struct {
    double values[REFERENCE_POOL];
    int64_t used;
} reference_pool;

static inline matrix matrix_new(int64_t rows, int64_t width) {
    matrix m = {rows, width, reference_pool.values + reference_pool.used};
    reference_pool.used += rows * width;
    CHECK(reference_pool.used <= REFERENCE_POOL);
    memset(m.at, 0, (size_t)(rows * width) * sizeof *m.at);
    return m;
}

static inline matrix matrix_from(const float *values, int64_t rows, int64_t width) {
    matrix m = matrix_new(rows, width);
    for (int64_t i = 0; i < rows * width; i++)
        m.at[i] = (double)values[i];
    return m;
}

static inline matrix matrix_rows(matrix m, int64_t first, int64_t rows) {
    return (matrix){rows, m.width, m.at + first * m.width};
}

static inline double gelu_tanh(double x) {
    return 0.5 * x * (1.0 + tanh(sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

static inline double gelu_erf(double x) {
    return 0.5 * x * (1.0 + erf(x / sqrt(2.0)));
}

static inline double silu(double x) {
    return x / (1.0 + exp(-x));
}

/* f(x), element by element. */
static inline matrix mapped(matrix x, double (*f)(double)) {
    matrix y = matrix_new(x.rows, x.width);
    for (int64_t i = 0; i < x.rows * x.width; i++)
        y.at[i] = f(x.at[i]);
    return y;
}

/* x += y, where y may have fewer rows, which are then added again and again. */
static inline void add_to(matrix x, matrix y) {
    CHECK(x.width == y.width && x.rows % y.rows == 0);
    for (int64_t i = 0; i < x.rows * x.width; i++)
        x.at[i] += y.at[i % (y.rows * y.width)];
}

/* x W^T + b with the weight, and the bias where there is one, of that name. */
static inline matrix linear(matrix x, const char *name) {
    char weight[160], bias[160];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    const float *w = values_of(weight), *b = find_tensor(bias) != NULL ? values_of(bias) : NULL;
    matrix y = matrix_new(x.rows, find_tensor(weight)->count / x.width);
    for (int64_t r = 0; r < y.rows; r++)
        for (int64_t c = 0; c < y.width; c++) {
            double sum = b != NULL ? (double)b[c] : 0.0;
            for (int64_t k = 0; k < x.width; k++)
                sum += x.at[r * x.width + k] * (double)w[c * x.width + k];
            y.at[r * y.width + c] = sum;
        }
    return y;
}

/* (x - mean) / sqrt(variance + eps), then times weight plus bias where there is a name. */
static inline matrix layer_norm(matrix x, double eps, const char *name) {
    char weight[160], bias[160];
    const float *w = NULL, *b = NULL;
    matrix y = matrix_new(x.rows, x.width);
    if (name != NULL) {
        snprintf(weight, sizeof weight, "%s.weight", name);
        snprintf(bias, sizeof bias, "%s.bias", name);
        w = values_of(weight);
        b = values_of(bias);
    }
    for (int64_t r = 0; r < x.rows; r++) {
        const double *from = x.at + r * x.width;
        double mean = 0, variance = 0;
        for (int64_t c = 0; c < x.width; c++)
            mean += from[c] / (double)x.width;
        for (int64_t c = 0; c < x.width; c++)
            variance += (from[c] - mean) * (from[c] - mean) / (double)x.width;
        for (int64_t c = 0; c < x.width; c++) {
            double value = (from[c] - mean) / sqrt(variance + eps);
            y.at[r * x.width + c] = w != NULL ? value * (double)w[c] + (double)b[c] : value;
        }
    }
    return y;
}

/* x / sqrt(mean(x^2) + eps) * weight. */
static inline matrix rms_norm(matrix x, double eps, const char *name) {
    char weight[160];
    matrix y = matrix_new(x.rows, x.width);
    snprintf(weight, sizeof weight, "%s.weight", name);
    const float *w = values_of(weight);
    for (int64_t r = 0; r < x.rows; r++) {
        double squares = 0;
        for (int64_t c = 0; c < x.width; c++)
            squares += x.at[r * x.width + c] * x.at[r * x.width + c];
        for (int64_t c = 0; c < x.width; c++)
            y.at[r * x.width + c] = x.at[r * x.width + c] / sqrt(squares / (double)x.width + eps) * (double)w[c];
    }
    return y;
}

/* softmax(q k^T / sqrt(head_dim)) v of every head. */
static inline matrix attention(matrix q, matrix k, matrix v, int64_t heads) {
    int64_t dim = q.width / heads;
    matrix o = matrix_new(q.rows, q.width), scores = matrix_new(1, k.rows);
    for (int64_t h = 0; h < heads; h++)
        for (int64_t i = 0; i < q.rows; i++) {
            double most = -INFINITY, sum = 0;
            for (int64_t j = 0; j < k.rows; j++) {
                double dot = 0;
                for (int64_t c = h * dim; c < (h + 1) * dim; c++)
                    dot += q.at[i * q.width + c] * k.at[j * k.width + c];
                scores.at[j] = dot / sqrt((double)dim);
                most = fmax(most, scores.at[j]);
            }
            for (int64_t j = 0; j < k.rows; j++)
                sum += scores.at[j] = exp(scores.at[j] - most);
            for (int64_t j = 0; j < k.rows; j++)
                for (int64_t c = h * dim; c < (h + 1) * dim; c++)
                    o.at[i * q.width + c] += scores.at[j] / sum * v.at[j * v.width + c];
        }
    return o;
}

/* ||found - wanted|| / ||wanted||; NaN where found is. */
static inline double relative_error(const float *found, const double *wanted, size_t count) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += ((double)found[i] - wanted[i]) * ((double)found[i] - wanted[i]);
        norm += wanted[i] * wanted[i];
    }
    return sqrt(difference / norm);
}

#endif
