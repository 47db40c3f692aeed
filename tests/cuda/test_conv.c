/* Own kernels of conv on the fake card: every shape and pair of dtypes against float64, and every address and tile, frames alone, frames that are NULL, pixels
 * of other sizes and a linear for the same bits. */
#include "products.h"

typedef enum resizing { SAME, UP, DOWN } resizing;

typedef struct conv_shape {
    int64_t height, width, channels, n;
    int32_t out_frames, kt, kh, kw;
    resizing resize;
    bool residual;
} conv_shape;

typedef struct conv {
    pair frames[WO_CONV_MAX_FRAMES], w, bias, y, residual;
    wo_conv_args args; /* tensors of the card */
} conv;

static conv make_conv(const conv_shape *s, const wo_dtype *d) {
    const int64_t up = s->resize == UP ? 2 : 1, down = s->resize == DOWN ? 2 : 1;
    conv c = {.w = fill(MAKE(d[1], s->n, s->kt, s->kh, s->kw, s->channels), 1 / sqrtf((float)(s->kt * s->kh * s->kw * s->channels))),
              .bias = fill(MAKE(WO_F32, s->n), 1),
              .y = MAKE(d[2], s->out_frames, s->height * up / down, s->width * up / down, s->n)};
    if (s->residual)
        c.residual = fill(make_at(0, d[2], 4, c.y.host.shape), 1);
    c.args = (wo_conv_args){.x_dtype = d[0], .height = s->height, .width = s->width, .channels = s->channels, .out_frames = s->out_frames,
                            .kt = s->kt, .kh = s->kh, .kw = s->kw, .upsample = s->resize == UP, .downsample = s->resize == DOWN,
                            .w = c.w.card, .bias = c.bias.card, .y = c.y.card, .residual = c.residual.card};
    for (int32_t i = 0; i < s->out_frames + s->kt - 1; i++) {
        c.frames[i] = fill(MAKE(d[0], s->height, s->width, s->channels), 1);
        c.args.frames[i] = c.frames[i].card.data;
    }
    return c;
}

static void run_conv(const wo_conv_args *args) {
    CHECK(wo_conv_workspace(device, args) == 0);
    CHECK_OK(wo_conv(stream, args, &err), &err);
}

/* acc and the sum of magnitudes of element i of y. */
static void conv_at(const conv *c, int64_t i, double *acc, double *magnitude) {
    const wo_conv_args *a = &c->args;
    const int64_t *s = c->y.host.shape, n = i % s[3], x = i / s[3] % s[2], y = i / s[3] / s[2] % s[1], t = i / s[3] / s[2] / s[1];
    const int64_t scale = a->upsample ? 2 : 1, step = a->downsample ? 2 : 1;
    const int64_t above = a->downsample ? 0 : (a->kh - 1) / 2, left = a->downsample ? 0 : (a->kw - 1) / 2;
    for (int64_t dt = 0; dt < a->kt; dt++)
        for (int64_t dy = 0; dy < a->kh; dy++)
            for (int64_t dx = 0; dx < a->kw; dx++) {
                int64_t row = y * step + dy - above, column = x * step + dx - left;
                if (a->frames[t + dt] == NULL || row < 0 || column < 0 || row >= a->height * scale || column >= a->width * scale)
                    continue;
                int64_t pixel = row / scale * a->width + column / scale, tap = ((n * a->kt + dt) * a->kh + dy) * a->kw + dx;
                for (int64_t j = 0; j < a->channels; j++) {
                    double product = (double)get(&c->frames[t + dt].host, pixel * a->channels + j) * get(&c->w.host, tap * a->channels + j);
                    *acc += product;
                    *magnitude += fabs(product);
                }
            }
}

static void check_conv(conv *c) {
    const int64_t columns = c->y.host.shape[3];
    download(&c->y);
    for (int64_t i = 0; i < wo_tensor_count(&c->y.host); i++) {
        double wanted = get(&c->bias.host, i % columns), magnitude = fabs(wanted), found = get(&c->y.host, i);
        conv_at(c, i, &wanted, &magnitude);
        if (c->residual.host.data != NULL)
            wanted += get(&c->residual.host, i);
        double bound = 4e-7 * (1 + magnitude) + (1e-6 + half_unit(c->y.host.dtype)) * fabs(wanted);
        if (!(fabs(found - wanted) <= bound)) {
            fprintf(stderr, "conv %lldx%lldx%lld to %lld, kernel %dx%dx%d, dtypes %d %d: element %lld is %.9g, not %.9g +- %.2g\n", (long long)c->args.height,
                    (long long)c->args.width, (long long)c->args.channels, (long long)columns, c->args.kt, c->args.kh, c->args.kw, (int)c->args.x_dtype,
                    (int)c->args.w.dtype, (long long)i, found, wanted, bound);
            exit(1);
        }
    }
}

static const conv_shape conv_shapes[] = {
    {5, 7, 16, 20, 2, 3, 3, 3, SAME, false}, {4, 9, 40, 50, 1, 3, 3, 3, SAME, true}, {6, 5, 13, 3, 2, 3, 3, 3, SAME, false},
    {3, 4, 33, 35, 1, 1, 3, 3, UP, false},   {8, 8, 24, 7, 3, 3, 1, 1, SAME, true},  {1, 1, 5, 4, 1, 3, 3, 3, SAME, false},
    {7, 3, 12, 48, 3, 1, 1, 1, SAME, false}, {5, 6, 8, 100, 1, 1, 3, 3, UP, true},   {9, 7, 16, 20, 2, 1, 3, 3, DOWN, false},
    {6, 5, 13, 3, 2, 3, 3, 3, DOWN, true},   {4, 36, 96, 96, 1, 1, 3, 3, DOWN, true}, {24, 23, 6, 5, 1, 1, 3, 3, SAME, false},
};
enum { CONV_SHAPES = sizeof conv_shapes / sizeof conv_shapes[0] };

static void conv_agrees_with_float64_for_every_shape_and_dtype(void) {
    for (int s = 0; s < CONV_SHAPES; s++)
        for (int d = 0; d < DTYPES; d++) {
            conv c = make_conv(&conv_shapes[s], dtypes[d]);
            run_conv(&c.args);
            check_conv(&c);
            release_to(0);
        }
}

static void conv_adds_into_its_own_residual(void) {
    for (int d = 0; d < 2; d++) {
        conv c = make_conv(&conv_shapes[1], dtypes[d]);
        c.y = copy_at(0, &c.residual);
        c.args.y = c.args.residual = c.y.card;
        run_conv(&c.args);
        check_conv(&c);
        release_to(0);
    }
}

/* Frames that are NULL at the front are not summed at all where a whole tile has only those; elsewhere they read as zeros. */
static void conv_gives_frames_that_are_null_the_bits_of_frames_of_zeros(void) {
    static const conv_shape shapes[] = {{5, 7, 16, 20, 1, 3, 3, 3, SAME, false}, {5, 7, 24, 40, 3, 3, 3, 3, SAME, true}, {9, 16, 6, 5, 2, 3, 3, 3, SAME, false}};
    static const uint32_t absent[] = {1, 3, 2, 7, 6};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int d = 0; d < 2; d++)
            for (size_t m = 0; m < sizeof absent / sizeof absent[0]; m++) {
                conv c = make_conv(&shapes[s], dtypes[d]), zeros = c;
                pair zero = MAKE(dtypes[d][0], shapes[s].height, shapes[s].width, shapes[s].channels);
                CHECK_OK(device->stream->zero(stream, zero.card.data, wo_tensor_bytes(&zero.card), &err), &err);
                for (int32_t i = 0; i < shapes[s].out_frames + 2; i++)
                    if (absent[m] >> i & 1) {
                        c.args.frames[i] = NULL;
                        zeros.args.frames[i] = zero.card.data;
                    }
                zeros.y = make_at(0, dtypes[d][2], 4, c.y.host.shape);
                zeros.args.y = zeros.y.card;
                run_conv(&c.args);
                run_conv(&zeros.args);
                download(&zeros.y);
                check_conv(&c);
                CHECK(same_bits(&c.y.host, &zeros.y.host));
                release_to(0);
            }
}

/* The last step along k reaches past the last tap; what lies there, the next output's last frame, is not read even to be multiplied by zeros. */
static void conv_does_not_see_the_frame_behind_its_taps(void) {
    for (int d = 0; d < 2; d++) {
        conv c = make_conv(&conv_shapes[0], dtypes[d]);
        const size_t bytes = wo_tensor_bytes(&c.y.host) / 2;
        run_conv(&c.args);
        download(&c.y);
        unsigned char *first = memcpy(malloc(bytes), c.y.host.data, bytes);
        CHECK_OK(device->stream->poison(stream, c.frames[3].card.data, wo_tensor_bytes(&c.frames[3].card), &err), &err);
        run_conv(&c.args);
        download(&c.y);
        CHECK(memcmp(first, c.y.host.data, bytes) == 0);
        CHECK(isnan(get(&c.y.host, wo_tensor_count(&c.y.host) - 1)));
        free(first);
        release_to(0);
    }
}

static void conv_frames_have_the_same_bits_alone_and_together(void) {
    for (int s = 0; s < CONV_SHAPES; s++)
        for (int d = 0; d < 2 && conv_shapes[s].out_frames > 1; d++) {
            conv whole = make_conv(&conv_shapes[s], dtypes[d]);
            run_conv(&whole.args);
            download(&whole.y);
            for (int32_t t = 0; t < whole.args.out_frames; t++) {
                const int kept = pairs;
                wo_tensor wanted = wo_tensor_rows(&whole.y.host, t, 1);
                pair y = make_at(0, dtypes[d][2], 4, wanted.shape);
                wo_conv_args one = whole.args;
                memmove(one.frames, one.frames + t, sizeof one.frames - (size_t)t * sizeof one.frames[0]);
                one.out_frames = 1;
                one.y = y.card;
                if (whole.residual.host.data != NULL)
                    one.residual = wo_tensor_rows(&whole.residual.card, t, 1);
                run_conv(&one);
                download(&y);
                CHECK(same_bits(&y.host, &wanted));
                release_to(kept);
            }
            release_to(0);
        }
}

/* Without padding above and to the left, pixel (y, x) sees what pixel (2y + 1, 2x + 1) of the convolution of full size sees. */
static void conv_that_halves_has_the_bits_of_every_second_pixel_of_the_whole(void) {
    for (int s = 0; s < CONV_SHAPES; s++)
        for (int d = 0; d < 2 && conv_shapes[s].resize == DOWN; d++) {
            conv half = make_conv(&conv_shapes[s], dtypes[d]);
            const conv_shape *shape = &conv_shapes[s];
            pair y = MAKE(dtypes[d][2], shape->out_frames, shape->height, shape->width, shape->n);
            half.args.residual = (wo_tensor){0};
            wo_conv_args whole = half.args;
            whole.downsample = false;
            whole.y = y.card;
            run_conv(&half.args);
            run_conv(&whole);
            download(&half.y);
            download(&y);
            const int64_t *o = half.y.host.shape;
            const size_t bytes = (size_t)shape->n * wo_dtype_size(dtypes[d][2]);
            for (int64_t i = 0; i < o[0] * o[1] * o[2]; i++) {
                int64_t same = (i / o[2] / o[1] * shape->height + 2 * (i / o[2] % o[1]) + 1) * shape->width + 2 * (i % o[2]) + 1;
                CHECK(memcmp((char *)half.y.host.data + (size_t)i * bytes, (char *)y.host.data + (size_t)same * bytes, bytes) == 0);
            }
            release_to(0);
        }
}

static void conv_of_one_tap_has_the_bits_of_a_linear(void) {
    for (int d = 0; d < DTYPES; d++) {
        static const conv_shape shape = {6, 7, 1304, 50, 1, 1, 1, 1, SAME, false};
        conv c = make_conv(&shape, dtypes[d]);
        pair y = MAKE(dtypes[d][2], 42, 50);
        wo_linear_args linear_args = {.x = wo_tensor_as(&c.frames[0].card, 42, 1304), .w = wo_tensor_as(&c.w.card, 50, 1304), .bias = c.bias.card, .y = y.card};
        run_conv(&c.args);
        CHECK_OK(wo_linear(stream, &linear_args, &err), &err);
        download(&c.y);
        download(&y);
        CHECK(memcmp(c.y.host.data, y.host.data, wo_tensor_bytes(&y.host)) == 0);
        release_to(0);
    }
}

/* A frame that begins at an odd address is read element by element. Narrow and wide tiles meet where N is 32 or 33: the first 32 weights are the same. */
static void conv_has_the_same_bits_at_any_address_and_in_every_tile(void) {
    for (int d = 0; d < DTYPES; d++) {
        static const conv_shape shape = {7, 9, 24, 33, 2, 3, 3, 3, SAME, false};
        conv c = make_conv(&shape, dtypes[d]);
        pair odd = copy_at(1, &c.frames[1]), y = MAKE(dtypes[d][2], 2, 7, 9, 33), narrow = MAKE(dtypes[d][2], 2, 7, 9, 32);
        wo_conv_args shifted = c.args, first = c.args;
        shifted.frames[1] = odd.card.data;
        shifted.y = y.card;
        first.w = wo_tensor_rows(&first.w, 0, 32);
        first.bias = wo_tensor_rows(&first.bias, 0, 32);
        first.y = narrow.card;
        run_conv(&c.args);
        run_conv(&shifted);
        run_conv(&first);
        download(&c.y);
        download(&y);
        download(&narrow);
        CHECK(same_bits(&y.host, &c.y.host));
        const size_t bytes = wo_dtype_size(dtypes[d][2]);
        for (int64_t i = 0; i < 2 * 7 * 9; i++)
            CHECK(memcmp((char *)narrow.host.data + (size_t)i * 32 * bytes, (char *)y.host.data + (size_t)i * 33 * bytes, 32 * bytes) == 0);
        release_to(0);
    }
}

static void run_all(void) {
    conv_agrees_with_float64_for_every_shape_and_dtype();
    conv_adds_into_its_own_residual();
    conv_gives_frames_that_are_null_the_bits_of_frames_of_zeros();
    conv_does_not_see_the_frame_behind_its_taps();
    conv_frames_have_the_same_bits_alone_and_together();
    conv_that_halves_has_the_bits_of_every_second_pixel_of_the_whole();
    conv_of_one_tap_has_the_bits_of_a_linear();
    conv_has_the_same_bits_at_any_address_and_in_every_tile();
    check_fragments_are_read_without_bank_conflicts("wo_conv_bf16");
    check_fragments_are_read_without_bank_conflicts("wo_conv_bf16_narrow");
    check_fragments_are_read_without_bank_conflicts("wo_conv_bf16_ragged");
}

int main(void) {
    run_on_both_targets(run_all, "conv");
    return 0;
}
