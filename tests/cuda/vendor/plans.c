/* Makes cuDNN's plans for a card that is not there, by the device's own code.
 *
 *   plans FOLDERS SM DESCRIPTION [disk] <problems >choices
 *
 * FOLDERS: where the libraries lie, separated by ':'. DESCRIPTION: the card as cuDNN's JSON. disk: plans are kept, as those
 * of a card are. A problem is a line
 *
 *   attention queries keys heads head_dim [float16]
 *   conv frames height width channels out_channels kt kh kw [doubled | halved | rounded | float16]
 *
 * of bfloat16 unless it says otherwise, and its answer a line: the problem, a tab, and the engine with its knobs and workspace, "own" for
 * a call that is left to own kernels, or "none: why".
 */
#include "device/cuda/cudnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what the device would do while running; nothing runs here ---- */

wo_status wo_cuda_begin(wo_stream *s, const char *op, bool *skip, wo_error *err) {
    (void)s, (void)op, (void)err;
    *skip = true;
    return WO_OK;
}

void wo_cuda_end(wo_stream *s) {
    (void)s;
}

wo_cu_stream wo_cuda_raw_stream(wo_stream *s) {
    (void)s;
    return NULL;
}

wo_status wo_cuda_enter(wo_cuda_device *d, wo_error *err) {
    (void)d, (void)err;
    return WO_OK;
}

void wo_lt_open(wo_cuda_device *d, wo_lt **out) {
    (void)d;
    *out = NULL;
}

void wo_lt_close(wo_lt *lt) {
    (void)lt;
}

/* ---- problems ---- */

static bool read_attention(const char *line, wo_attention_args *a) {
    long long n[4];
    char kind[16] = "";
    if (sscanf(line, "attention %lld %lld %lld %lld %15s", &n[0], &n[1], &n[2], &n[3], kind) < 4)
        return false;
    const wo_dtype dtype = strcmp(kind, "float16") == 0 ? WO_F16 : WO_BF16;
    *a = (wo_attention_args){.q = wo_tensor_of(NULL, dtype, n[0], n[2], n[3]), .k = wo_tensor_of(NULL, dtype, n[1], n[2], n[3]), .scale = 1};
    a->v = a->k;
    a->o = a->q;
    return true;
}

static bool read_conv(const char *line, wo_conv_args *a) {
    long long n[5];
    char kind[16] = "";
    int taps[3];
    if (sscanf(line, "conv %lld %lld %lld %lld %lld %d %d %d %15s", &n[0], &n[1], &n[2], &n[3], &n[4], &taps[0], &taps[1], &taps[2], kind) < 8)
        return false;
    const wo_dtype dtype = strcmp(kind, "float16") == 0 ? WO_F16 : WO_BF16;
    *a = (wo_conv_args){.x_dtype = dtype, .height = n[1], .width = n[2], .channels = n[3], .out_frames = (int32_t)n[0] - taps[0] + 1, .kt = taps[0],
                        .kh = taps[1], .kw = taps[2]};
    a->w = wo_tensor_of(NULL, dtype, n[4], (int64_t)taps[0], (int64_t)taps[1], (int64_t)taps[2], n[3]);
    a->upsample = strcmp(kind, "doubled") == 0;
    a->downsample = strcmp(kind, "halved") == 0;
    a->y = wo_tensor_of(NULL, strcmp(kind, "rounded") == 0 ? WO_BF16 : WO_F32, (int64_t)a->out_frames, n[1], n[2], n[4]);
    return true;
}

static void answer(wo_dnn *dnn, const char *line, const wo_dnn_problem *problem) {
    const wo_dnn_plan *plan = wo_dnn_find(dnn, problem);
    if (plan == NULL)
        printf("%s\tnone: %s\n", line, wo_dnn_problem_text(dnn));
    else
        printf("%s\t%s, workspace %lld\n", line, wo_dnn_plan_choice(plan), (long long)wo_dnn_plan_workspace(plan));
    fflush(stdout);
}

static bool answer_line(wo_dnn *dnn, int sm, const char *line) {
    wo_dnn_attention_shape attention_shapes[2];
    wo_dnn_conv_shape conv_shape;
    wo_dnn_problem problem;
    wo_attention_args attention;
    wo_conv_args conv;
    bool taken;
    if (read_attention(line, &attention))
        taken = wo_dnn_attention_problem(sm, &attention, &problem, attention_shapes);
    else if (read_conv(line, &conv))
        taken = wo_dnn_conv_problem(sm, &conv, &problem, &conv_shape);
    else
        return false;
    if (taken)
        answer(dnn, line, &problem);
    else
        printf("%s\town\n", line);
    return true;
}

int main(int count, char **arguments) {
    char line[256];
    wo_error err = {0};
    wo_dnn *dnn = NULL;
    if (count != 4 && (count != 5 || strcmp(arguments[4], "disk") != 0)) {
        fprintf(stderr, "usage: plans FOLDERS SM DESCRIPTION [disk] <problems >choices\n");
        return 2;
    }
    wo_cuda_set_library_folders(arguments[1]);
    if (wo_dnn_open_without_card(atoi(arguments[2]), arguments[3], count == 5, &dnn, &err) != WO_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const wo_cuda_libraries *l = wo_cuda_libraries_get();
    printf("cudnn %zu nvrtc %d\n", l->dnn_version, l->nvrtc_version);
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (!answer_line(dnn, atoi(arguments[2]), line)) {
            fprintf(stderr, "no problem: %s\n", line);
            return 2;
        }
    }
    wo_dnn_close(dnn);
    return 0;
}
