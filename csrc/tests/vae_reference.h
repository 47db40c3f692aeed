/* The VAE encoder of the specification in float64, over the whole film at once and without any state: what streaming must equal. Tensors are
 * looked up by name in the test's file. */
#ifndef WO_TESTS_VAE_REFERENCE_H
#define WO_TESTS_VAE_REFERENCE_H

#include "tests/model_reference.h"

/* Rows are (frame, y, x), columns are channels. */
typedef struct film {
    int64_t frames, height, width;
    matrix at;
} film;

static inline film film_new(int64_t frames, int64_t height, int64_t width, int64_t channels) {
    return (film){frames, height, width, matrix_new(frames * height * width, channels)};
}

/* A convolution: its size, how far it moves from one result to the next, and the zeros around its input. */
typedef struct kernel {
    int64_t kt, k, step_t, step, front, before, after;
} kernel;

static const kernel causal = {3, 3, 1, 1, 2, 1, 1}, halving = {1, 3, 1, 2, 0, 0, 1}, joining = {3, 1, 2, 1, 0, 0, 0},
                    point = {1, 1, 1, 1, 0, 0, 0};

/* One result for output channel o; the weight is [O, C, kt, k, k]. */
static inline double convolved_at(film x, const float *w, const kernel *s, int64_t t, int64_t i, int64_t j, int64_t o) {
    int64_t channels = x.at.width;
    double sum = 0;
    for (int64_t dt = 0; dt < s->kt; dt++)
        for (int64_t di = 0; di < s->k; di++)
            for (int64_t dj = 0; dj < s->k; dj++) {
                int64_t frame = t * s->step_t + dt - s->front, row = i * s->step + di - s->before, column = j * s->step + dj - s->before;
                if (frame < 0 || row < 0 || column < 0 || row >= x.height || column >= x.width)
                    continue;
                const double *pixel = x.at.at + ((frame * x.height + row) * x.width + column) * channels;
                for (int64_t c = 0; c < channels; c++)
                    sum += pixel[c] * (double)w[(((o * channels + c) * s->kt + dt) * s->k + di) * s->k + dj];
            }
    return sum;
}

static inline film convolved(film x, const char *name, const kernel *s) {
    char weight[160], bias[160];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    const float *w = values_of(weight), *b = values_of(bias);
    film y = film_new((x.frames + s->front - s->kt) / s->step_t + 1, (x.height + s->before + s->after - s->k) / s->step + 1,
                      (x.width + s->before + s->after - s->k) / s->step + 1, find_tensor(bias)->count);
    for (int64_t e = 0; e < y.at.rows * y.at.width; e++) {
        int64_t o = e % y.at.width, pixel = e / y.at.width, j = pixel % y.width, i = pixel / y.width % y.height;
        y.at.at[e] = (double)b[o] + convolved_at(x, w, s, pixel / y.width / y.height, i, j, o);
    }
    return y;
}

/* x / ||x|| * sqrt(C) * gamma at every position. */
static inline film normed(film x, const char *name) {
    char gamma[160];
    film y = film_new(x.frames, x.height, x.width, x.at.width);
    snprintf(gamma, sizeof gamma, "%s.gamma", name);
    const float *g = values_of(gamma);
    for (int64_t r = 0; r < x.at.rows; r++) {
        double squares = 0;
        for (int64_t c = 0; c < x.at.width; c++)
            squares += x.at.at[r * x.at.width + c] * x.at.at[r * x.at.width + c];
        for (int64_t c = 0; c < x.at.width; c++)
            y.at.at[r * x.at.width + c] =
                x.at.at[r * x.at.width + c] / fmax(sqrt(squares), 1e-12) * sqrt((double)x.at.width) * (double)g[c];
    }
    return y;
}

static inline film normed_silu(film x, const char *name) {
    film y = normed(x, name);
    y.at = mapped(y.at, silu);
    return y;
}

static inline film resblock(film x, const char *name) {
    char part[5][128], weight[160];
    const char *const parts[] = {"norm1", "conv1", "norm2", "conv2", "conv_shortcut"};
    for (int i = 0; i < 5; i++)
        snprintf(part[i], sizeof part[i], "%.100s.%s", name, parts[i]);
    snprintf(weight, sizeof weight, "%s.weight", part[4]);
    film y = convolved(normed_silu(x, part[0]), part[1], &causal);
    y = convolved(normed_silu(y, part[2]), part[3], &causal);
    add_to(y.at, find_tensor(weight) != NULL ? convolved(x, part[4], &point).at : x.at);
    return y;
}

/* Third `part` of the columns. */
static inline matrix third(matrix x, int part) {
    matrix y = matrix_new(x.rows, x.width / 3);
    for (int64_t r = 0; r < y.rows; r++)
        for (int64_t c = 0; c < y.width; c++)
            y.at[r * y.width + c] = x.at[r * x.width + part * y.width + c];
    return y;
}

/* Over the positions of each frame, one head. */
static inline film attended(film x, const char *norm, const char *to_qkv, const char *proj) {
    film y = film_new(x.frames, x.height, x.width, x.at.width), n = normed(x, norm);
    int64_t positions = x.height * x.width;
    for (int64_t t = 0; t < x.frames; t++) {
        matrix qkv = linear(matrix_rows(n.at, t * positions, positions), to_qkv);
        matrix o = linear(attention(third(qkv, 0), third(qkv, 1), third(qkv, 2), 1), proj);
        memcpy(y.at.at + t * positions * y.at.width, o.at, (size_t)(positions * y.at.width) * sizeof(double));
    }
    add_to(y.at, x.at);
    return y;
}

/* The first frame as it is, then one of each two, with the frame before them. */
static inline film joined_in_time(film x, const char *name) {
    film later = x.frames > 1 ? convolved(x, name, &joining) : (film){0};
    film y = film_new(1 + later.frames, x.height, x.width, x.at.width);
    int64_t first = x.height * x.width * x.at.width;
    memcpy(y.at.at, x.at.at, (size_t)first * sizeof(double));
    if (later.frames > 0)
        memcpy(y.at.at + first, later.at.at, (size_t)(later.at.rows * later.at.width) * sizeof(double));
    return y;
}

/* Frames to moments. join: for each downsampler in the encoder's order, whether it joins frames. */
static inline film encoded(film x, int levels, int resblocks, const bool *join) {
    char name[64];
    int block = 0;
    x = convolved(x, "encoder.conv_in", &causal);
    for (int level = 0; level < levels; level++) {
        for (int r = 0; r < resblocks; r++) {
            snprintf(name, sizeof name, "encoder.down_blocks.%d", block++);
            x = resblock(x, name);
        }
        if (level == levels - 1)
            break;
        snprintf(name, sizeof name, "encoder.down_blocks.%d.resample.1", block);
        x = convolved(x, name, &halving);
        snprintf(name, sizeof name, "encoder.down_blocks.%d.time_conv", block++);
        if (join[level])
            x = joined_in_time(x, name);
    }
    x = resblock(x, "encoder.mid_block.resnets.0");
    x = attended(x, "encoder.mid_block.attentions.0.norm", "encoder.mid_block.attentions.0.to_qkv", "encoder.mid_block.attentions.0.proj");
    x = resblock(x, "encoder.mid_block.resnets.1");
    return convolved(convolved(normed_silu(x, "encoder.norm_out"), "encoder.conv_out", &causal), "quant_conv", &point);
}

#endif
