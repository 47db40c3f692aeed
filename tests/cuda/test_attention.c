/* Own attention kernels on the fake card, beside the cases of csrc/tests/op_cases.h: relative biases of any number of buckets, heads that know nothing of
 * each other, and what must stay cheap: memory read in whole sectors and without bank conflicts. */
#include "products.h"

typedef struct attention {
    pair q, k, v, o, relative;
    wo_attention_args args; /* tensors of the card */
} attention;

/* buckets: 0 for none. */
static attention make_attention(const int64_t *n, wo_dtype dtype, int64_t buckets, int32_t max_distance) {
    attention c = {.q = fill(MAKE(dtype, n[0], n[2], n[3]), 2), .k = fill(MAKE(dtype, n[1], n[2], n[3]), 1), .v = fill(MAKE(dtype, n[1], n[2], n[3]), 1),
                   .o = MAKE(dtype, n[0], n[2], n[3])};
    if (buckets > 0)
        c.relative = fill(MAKE(WO_F32, buckets, n[2]), 2);
    c.args = (wo_attention_args){.q = c.q.card, .k = c.k.card, .v = c.v.card, .o = c.o.card, .relative = c.relative.card,
                                 .scale = 1 / sqrtf((float)n[3]), .max_distance = max_distance};
    return c;
}

static void run_attention(const wo_attention_args *args) {
    CHECK(wo_attention_workspace(device, args) == 0);
    CHECK_OK(wo_attention(stream, args, &err), &err);
}

/* As UMT5 has it: a half of the buckets for each sign, half of those for single steps, the others logarithmic; every step in float32. */
static int64_t bucket_of(int64_t difference, int64_t buckets, int32_t max_distance) {
    int64_t half = buckets / 2, exact = half / 2, distance = difference < 0 ? -difference : difference, bucket = distance;
    if (distance >= exact) {
        float ratio = logf((float)distance / (float)exact) / (float)log((double)max_distance / (double)exact), steps = ratio * (float)(half - exact);
        bucket = steps < (float)half ? exact + (int64_t)steps : half - 1;
        bucket = bucket < half - 1 ? bucket : half - 1;
    }
    return bucket + (difference > 0 ? half : 0);
}

/* o of one query and head, in float64. */
static void reference_row(const attention *c, int64_t row, int64_t head, double *o) {
    const int64_t keys = c->k.host.shape[0], heads = c->k.host.shape[1], n = c->k.host.shape[2];
    double sum = 0, *weights = malloc((size_t)keys * sizeof *weights);
    CHECK(weights != NULL);
    memset(o, 0, (size_t)n * sizeof *o);
    for (int64_t j = 0; j < keys; j++) {
        double score = get(&c->relative.host, bucket_of(j - row, c->relative.host.shape[0], c->args.max_distance) * heads + head);
        for (int64_t d = 0; d < n; d++)
            score += (double)c->args.scale * get(&c->q.host, (row * heads + head) * n + d) * get(&c->k.host, (j * heads + head) * n + d);
        sum += weights[j] = exp(score);
    }
    for (int64_t j = 0; j < keys; j++)
        for (int64_t d = 0; d < n; d++)
            o[d] += weights[j] / sum * get(&c->v.host, (j * heads + head) * n + d);
    free(weights);
}

/* A wrong bucket moves a weight by a factor of e^2 or so; float32 rounds to 1e-6 of a row, and tensor cores weights and o to 2^-8 each. */
static void check_attention(attention *c) {
    const int64_t heads = c->o.host.shape[1], n = c->o.host.shape[2];
    const double bound = c->o.host.dtype == WO_F32 ? 4e-6 : 1.2e-2;
    double wanted[64];
    CHECK(n <= 64);
    download(&c->o);
    for (int64_t i = 0; i < c->o.host.shape[0] * heads; i++) {
        double square = 0;
        reference_row(c, i / heads, i % heads, wanted);
        for (int64_t d = 0; d < n; d++)
            square += wanted[d] * wanted[d] / (double)n;
        for (int64_t d = 0; d < n; d++)
            if (!(fabs(get(&c->o.host, i * n + d) - wanted[d]) <= bound * (sqrt(square) + fabs(wanted[d])))) {
                fprintf(stderr, "attention with %lld buckets up to a distance of %d: o[%lld, %lld, %lld] is %.9g, not %.9g\n",
                        (long long)c->relative.host.shape[0], (int)c->args.max_distance, (long long)(i / heads), (long long)(i % heads), (long long)d,
                        get(&c->o.host, i * n + d), wanted[d]);
                exit(1);
            }
    }
}

static void attention_takes_a_relative_bias_of_any_number_of_buckets(void) {
    static const int32_t biases[][2] = {{4, 2}, {4, 90}, {6, 30}, {10, 3}, {32, 128}, {64, 17}, {64, 70}, {100, 200}, {1024, 4000}};
    for (size_t i = 0; i < sizeof biases / sizeof biases[0]; i++)
        for (int d = 0; d < 2; d++) {
            static const int64_t sizes[2][4] = {{70, 100, 2, 5}, {70, 100, 2, 64}};
            attention c = make_attention(sizes[i % 2], d == 0 ? WO_F32 : WO_BF16, biases[i][0], biases[i][1]);
            run_attention(&c.args);
            check_attention(&c);
            release_to(0);
        }
}

static void attention_refuses_more_buckets_than_a_launch_holds(void) {
    attention c = make_attention((const int64_t[]){3, 4, 1, 8}, WO_F32, 1026, 5000);
    CHECK_STATUS(wo_attention(stream, &c.args, &err), WO_EUNSUPPORTED);
    CHECK_CONTAINS(err.message, "1024 buckets");
    release_to(0);
}

/* The elements of head `head` of a [tokens, heads, head_dim], as a tensor of one head. */
static pair cut_head(const pair *p, int64_t head) {
    const int64_t tokens = p->host.shape[0], heads = p->host.shape[1];
    const size_t bytes = (size_t)p->host.shape[2] * wo_dtype_size(p->host.dtype);
    pair one = MAKE(p->host.dtype, tokens, (int64_t)1, p->host.shape[2]);
    for (int64_t t = 0; t < tokens; t++)
        memcpy((char *)one.host.data + (size_t)t * bytes, (const char *)p->host.data + (size_t)(t * heads + head) * bytes, bytes);
    upload(&one);
    return one;
}

static void attention_of_a_head_has_the_same_bits_alone_and_among_others(void) {
    static const int64_t sizes[][4] = {{70, 90, 3, 64}, {140, 70, 3, 128}, {40, 70, 3, 12}, {70, 70, 3, 140}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int d = 0; d < 2; d++) {
            attention c = make_attention(sizes[i], d == 0 ? WO_F32 : WO_BF16, 0, 0);
            run_attention(&c.args);
            download(&c.o);
            for (int64_t head = 0; head < 3; head += 2) {
                pair q = cut_head(&c.q, head), k = cut_head(&c.k, head), v = cut_head(&c.v, head), wanted = cut_head(&c.o, head);
                pair o = MAKE(c.o.host.dtype, sizes[i][0], (int64_t)1, sizes[i][3]);
                wo_attention_args args = c.args;
                args.q = q.card, args.k = k.card, args.v = v.card, args.o = o.card;
                run_attention(&args);
                download(&o);
                CHECK(same_bits(&o.host, &wanted.host));
            }
            release_to(0);
        }
}

/* Warps in order, so that lanes part nowhere by chance; whole tiles, so that nothing is read for nothing. */
static void attention_moves_no_more_than_it_must(void) {
    static const struct {
        const char *kernel;
        int64_t sizes[4];
        wo_dtype dtype;
        double shared, sectors; /* per access, or for the bytes used: the most that is allowed */
    } rows[] = {{"wo_attention_bf16_64", {128, 128, 2, 64}, WO_BF16, 1.0, 1.0},
                {"wo_attention_bf16_128", {128, 128, 2, 128}, WO_BF16, 1.0, 1.0},
                {"wo_attention_bf16", {64, 128, 2, 96}, WO_BF16, 1.05, 1.0},
                {"wo_attention_f32", {64, 128, 2, 128}, WO_F32, 1.0, 1.05}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        attention c = make_attention(rows[i].sizes, rows[i].dtype, 0, 0);
        CHECK_OK(device->stream->sync(stream, &err), &err);
        fakecuda()->reset();
        fakecuda()->set_seed(0, 0);
        run_attention(&c.args);
        CHECK_OK(device->stream->sync(stream, &err), &err);
        fakecuda_counts counts = fakecuda()->kernel(rows[i].kernel);
        double shared = (double)counts.shared_passes / (double)counts.shared_accesses;
        double sectors = (double)counts.global_sectors / (double)counts.global_sectors_least;
        if (!(counts.launches == 1 && counts.ldmatrix_passes == counts.ldmatrix_phases && shared <= rows[i].shared && sectors <= rows[i].sectors)) {
            fprintf(stderr, "%s: %d launches, %.3f passes of ldmatrix's phases, %.3f of shared accesses, %.3f of the sectors needed\n", rows[i].kernel,
                    (int)counts.launches, (double)counts.ldmatrix_passes / (double)counts.ldmatrix_phases, shared, sectors);
            exit(1);
        }
        release_to(0);
    }
}

static void run_all(void) {
    attention_takes_a_relative_bias_of_any_number_of_buckets();
    attention_refuses_more_buckets_than_a_launch_holds();
    attention_of_a_head_has_the_same_bits_alone_and_among_others();
    attention_moves_no_more_than_it_must();
}

int main(void) {
    run_on_both_targets(run_all, "attention");
    return 0;
}
