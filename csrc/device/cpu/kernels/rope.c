/* The rotation tables of a grid of tokens. Only frames + height + width of the rows have angles of their own: the first job computes
 * the t part of the rows (f, 0, 0), the h part of (0, i, 0) and the w part of (0, 0, j) in float64, and the second copies them to all others.
 * A part of a row that is a source is never written by the second job, so its tiles may run side by side. */
#include "device/cpu/kernels/rows.h"

#include <math.h>

typedef struct rope_job {
    float *cos, *sin;
    int64_t frames, height, width, pairs; /* pairs = head_dim / 2, the width of a row */
    int64_t axis_pairs[3], axis_first[3]; /* t, h, w */
    int64_t axis_size[3], axis_step[3];   /* positions of the axis, and rows from one to the next */
} rope_job;

static rope_job make_job(const wo_rope_table_args *args) {
    rope_job job = {.cos = args->cos.data,
                    .sin = args->sin.data,
                    .frames = args->frames,
                    .height = args->height,
                    .width = args->width,
                    .pairs = args->head_dim / 2};
    int64_t side = args->head_dim / 6;
    job.axis_pairs[0] = job.pairs - 2 * side;
    job.axis_pairs[1] = job.axis_pairs[2] = side;
    job.axis_first[1] = job.axis_pairs[0];
    job.axis_first[2] = job.axis_pairs[0] + side;
    job.axis_size[0] = args->frames;
    job.axis_size[1] = args->height;
    job.axis_size[2] = args->width;
    job.axis_step[0] = args->height * args->width;
    job.axis_step[1] = args->width;
    job.axis_step[2] = 1;
    return job;
}

/* Tile = one position of one axis. */
static void angles_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    const rope_job *job = ctx;
    int axis = 0;
    (void)worker;
    (void)scratch;
    while (tile >= job->axis_size[axis])
        tile -= job->axis_size[axis++];
    int64_t at = tile * job->axis_step[axis] * job->pairs + job->axis_first[axis], n = job->axis_pairs[axis];
    for (int64_t p = 0; p < n; p++) {
        double angle = (double)tile * (1.0 / pow(10000.0, (double)(2 * p) / (double)(2 * n)));
        job->cos[at + p] = (float)cos(angle);
        job->sin[at + p] = (float)sin(angle);
    }
}

static void copy_part(const rope_job *job, int axis, int64_t to_row, int64_t from_row) {
    if (to_row == from_row)
        return;
    size_t bytes = (size_t)job->axis_pairs[axis] * sizeof(float);
    int64_t to = to_row * job->pairs + job->axis_first[axis], from = from_row * job->pairs + job->axis_first[axis];
    memcpy(job->cos + to, job->cos + from, bytes);
    memcpy(job->sin + to, job->sin + from, bytes);
}

/* Tile = the rows of one (frame, height). */
static void copy_tile(void *ctx, int64_t tile, int worker, void *scratch) {
    const rope_job *job = ctx;
    int64_t f = tile / job->height, i = tile % job->height;
    (void)worker;
    (void)scratch;
    for (int64_t j = 0; j < job->width; j++) {
        int64_t row = tile * job->width + j;
        copy_part(job, 0, row, f * job->axis_step[0]);
        copy_part(job, 1, row, i * job->axis_step[1]);
        copy_part(job, 2, row, j);
    }
}

wo_status WO_KERNEL(rope_table)(wo_pool *pool, wo_cancel *cancel, const wo_rope_table_args *args) {
    rope_job job = make_job(args);
    wo_status status = wo_pool_run(pool, job.frames + job.height + job.width, angles_tile, &job, cancel);
    if (status != WO_OK)
        return status;
    return wo_pool_run(pool, job.frames * job.height, copy_tile, &job, cancel);
}
