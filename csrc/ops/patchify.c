#include "ops/check.h"

#define OP "patchify"

wo_status wo_patchify(wo_stream *s, const wo_patchify_args *args, wo_error *err) {
    const int64_t *latents = args->latents.shape;
    WO_CHECK_TENSOR(latents, 4, WO_IS_F32);
    WO_CHECK_TENSOR(rows, 2, WO_IS_COMPUTE);
    WO_CHECK_RULE(latents[2] % 2 == 0 && latents[3] % 2 == 0, "latents must be even in height and width", latents, rows);
    WO_CHECK_RULE(args->rows.shape[0] == latents[1] * (latents[2] / 2) * (latents[3] / 2) && args->rows.shape[1] == 4 * latents[0],
                  "rows must hold one row of 4 * channels for each patch", rows, latents);
    WO_CHECK_APART(rows, latents);
    WO_CHECK_DISPATCH(patchify);
}
