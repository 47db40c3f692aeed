/* What a request for the WAN transformer must be, and what follows from it for both passes. */
#include "model/apply.h"
#include "model/transformer.h"

/* Up to so many rows of text (of the longest item) its products run in the dot form. Those of images run in the tile form always. */
enum { DOT_ROWS = 32 };

static wo_status check_latents(const wo_transformer_request *r, wo_error *err) {
    const int64_t sizes[] = {r->batch, r->frames, r->height, r->width};
    const char *names[] = {"batch", "frames", "height", "width"};
    for (int i = 0; i < 4; i++)
        if (sizes[i] < 1 || sizes[i] > WO_CONFIG_LIMIT)
            WO_FAIL(err, WO_EVALUE, "transformer: %s of the latents must be between 1 and %d, but is %lld", names[i],
                    (int)WO_CONFIG_LIMIT, (long long)sizes[i]);
    uint64_t elements = 1;
    for (int i = 0; i < 4; i++)
        if (!wo_mul_size(elements, (uint64_t)sizes[i], &elements) || elements > INT32_MAX)
            WO_FAIL(err, WO_EVALUE, "transformer: latents of %lld x %lld x %lld x %lld are too large", (long long)r->batch,
                    (long long)r->frames, (long long)r->height, (long long)r->width);
    if (r->height % 2 != 0 || r->width % 2 != 0)
        WO_FAIL(err, WO_EVALUE, "transformer: height and width of the latents must be even, but are %lld and %lld",
                (long long)r->height, (long long)r->width);
    return WO_OK;
}

static wo_status check_text(const wo_transformer_request *r, wo_error *err) {
    for (int64_t b = 0; b < r->batch; b++)
        if (r->text[b].rows < 1 || r->text[b].rows > WO_CONFIG_LIMIT || r->text[b].real < 0 || r->text[b].real > r->text[b].rows)
            WO_FAIL(err, WO_EVALUE, "transformer: item %lld has %lld rows of text, of which %lld are real; there must be 1 to %d rows",
                    (long long)b, (long long)r->text[b].rows, (long long)r->text[b].real, (int)WO_CONFIG_LIMIT);
    return WO_OK;
}

/* A network that takes images runs without them, too: on the text alone. */
static wo_status check_images(const wo_transformer_config *c, const wo_transformer_request *r, wo_error *err) {
    const wo_images *images = &r->images;
    if (images->count == 0 && images->rows == 0)
        return WO_OK;
    if (c->image_dim == 0)
        WO_FAIL(err, WO_EVALUE, "transformer: image embeddings are given, but this network takes none: its configuration has no image_dim");
    if (images->count < 1 || images->count > WO_CONFIG_LIMIT || images->rows < 1 || images->rows > WO_CONFIG_LIMIT)
        WO_FAIL(err, WO_EVALUE, "transformer: %lld image embeddings of %lld rows are given; both numbers must be between 1 and %d",
                (long long)images->count, (long long)images->rows, (int)WO_CONFIG_LIMIT);
    if (images->count * images->rows > INT32_MAX)
        WO_FAIL(err, WO_EVALUE, "transformer: %lld image embeddings of %lld rows are too many", (long long)images->count,
                (long long)images->rows);
    if (c->pos_embed_seq_len != 0 && images->rows != c->pos_embed_seq_len)
        WO_FAIL(err, WO_EVALUE, "transformer: an image embedding has %lld rows, but the table of positions (pos_embed_seq_len) has %lld: "
                "first and last frame make one embedding together", (long long)images->rows, (long long)c->pos_embed_seq_len);
    for (int64_t b = 0; b < r->batch; b++)
        if (images->of[b] < 0 || images->of[b] >= images->count)
            WO_FAIL(err, WO_EVALUE, "transformer: item %lld attends to image embedding %d, but there are %lld", (long long)b,
                    (int)images->of[b], (long long)images->count);
    return WO_OK;
}

wo_status wo_transformer_run_init(wo_transformer_run *p, const wo_transformer *m, wo_exec *x, const wo_transformer_request *r,
                                  wo_error *err) {
    int64_t longest = 0;
    WO_TRY(check_latents(r, err));
    WO_TRY(check_text(r, err));
    WO_TRY(check_images(&m->config, r, err));
    *p = (wo_transformer_run){.m = m, .x = x, .r = r, .compute = wo_apply_compute(x, m->dtype),
                              .tokens = r->frames * (r->height / 2) * (r->width / 2)};
    for (int64_t b = 0; b < r->batch; b++) {
        int64_t rows = wo_transformer_text_rows(p, &r->text[b]);
        p->source_rows[WO_SOURCE_TEXT] += rows;
        longest = rows > longest ? rows : longest;
    }
    p->source_form[WO_SOURCE_TEXT] = longest <= DOT_ROWS ? WO_FORM_DOT : WO_FORM_TILE;
    p->source_rows[WO_SOURCE_IMAGE] = r->images.count * r->images.rows;
    p->source_form[WO_SOURCE_IMAGE] = WO_FORM_TILE;
    return WO_OK;
}
