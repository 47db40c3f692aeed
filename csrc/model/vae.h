/* What the two halves of the VAE share: their layers (vae.c), the past of their causal convolutions (vae_past.c) and the blocks that both are
 * made of (vae_blocks.c). vae_decoder.c and vae_encoder.c say in which order. */
#ifndef WO_MODEL_VAE_H
#define WO_MODEL_VAE_H

#include "model/declare.h"
#include "model/model.h"
#include "offload/exec.h"

/* Limits of a configuration; the published model has 4 levels of 2 (decoder: 3) residual blocks. SIDE is that of the latents: with it no size
 * in bytes of the largest configuration overflows. */
enum {
    WO_VAE_LEVELS = 8, WO_VAE_RESBLOCKS = 8, WO_VAE_LAYERS = 384, WO_VAE_PASTS = 160, WO_VAE_BANKS = 24, WO_VAE_FRAMES = 128,
    WO_VAE_SIDE = 8192
};

/* A causal convolution and what it keeps: `past` numbers the frames that it saw last. */
typedef struct wo_vae_conv {
    const wo_layer *layer;
    int32_t past;
} wo_vae_conv;

typedef struct wo_vae_resblock {
    int64_t in, out; /* channels */
    const wo_layer *norm1, *norm2, *shortcut; /* shortcut: NULL where in == out */
    wo_vae_conv conv1, conv2;
} wo_vae_resblock;

/* Two residual blocks with attention between them, at the size of the latents. */
typedef struct wo_vae_middle {
    wo_vae_resblock resblock[2];
    const wo_layer *norm, *to_qkv, *proj;
} wo_vae_middle;

/* A level: residual blocks, then (all but the last) a resampler. */
typedef struct wo_vae_stage {
    int64_t width, scale, frames; /* channels; height and width over those of the latents; frames of each later latent */
    wo_vae_resblock resblock[WO_VAE_RESBLOCKS];
    wo_vae_conv time_conv; /* layer NULL where time is not resampled */
    const wo_layer *resample; /* NULL in the last stage */
} wo_vae_stage;

/* Past frames of one shape lie in one bank: those of each of its convolutions and one that is being filled. */
typedef struct wo_vae_bank {
    int64_t channels, scale;
    int32_t slots; /* without the one that is being filled */
} wo_vae_bank;

typedef struct wo_vae_place {
    int32_t bank, first, kept; /* kept: one or two frames, in slots of the bank from `first` on */
} wo_vae_place;

/* One half of the VAE. */
typedef struct wo_vae_network {
    const char *name; /* of the component; messages begin with it */
    wo_vae_config config;
    wo_dtype dtype; /* of weights held */
    wo_component *component;
    const wo_layer *quant_conv; /* post_quant_conv before the decoder, quant_conv behind the encoder */
    wo_vae_conv conv_in, conv_out;
    const wo_layer *norm_out;
    wo_vae_middle middle;
    int32_t stages, resblocks; /* resblocks of each stage */
    wo_vae_stage stage[WO_VAE_LEVELS]; /* in order of execution */
    int32_t pasts, banks;
    wo_vae_place past[WO_VAE_PASTS];
    wo_vae_bank bank[WO_VAE_BANKS];
} wo_vae_network;

struct wo_vae_decoder {
    wo_vae_network net;
};

struct wo_vae_encoder {
    wo_vae_network net;
};

/* ---- declaring ---- */

/* Begins a network that has no layers yet. io: the number of channels of its frames, which is checked with the rest. */
wo_status wo_vae_init(wo_vae_network *m, const char *name, const wo_vae_config *config, const wo_config_entry *io, wo_dtype dtype, wo_error *err);
/* Gives the convolution a place for the last `kept` frames of its input, which has so many channels at `scale`. */
void wo_vae_reserve_past(wo_vae_network *m, int64_t channels, int64_t scale, int32_t kept, wo_vae_conv *conv);
/* A causal 3 x kernel x kernel convolution over frames at `scale`, with two frames of past. */
wo_status wo_vae_declare_causal(wo_vae_network *m, const wo_declare *d, const char *name, const wo_tensor *shape, int64_t scale,
                                wo_vae_conv *conv, wo_error *err);
wo_status wo_vae_declare_resblock(wo_vae_network *m, const wo_declare *d, int64_t scale, wo_vae_resblock *b, wo_error *err);
/* half: "decoder" or "encoder". */
wo_status wo_vae_declare_middle(wo_vae_network *m, wo_declare *d, const char *half, int64_t width, wo_error *err);

/* ---- a pass ---- */

/* Which slots of its bank hold the past of a convolution, and how many frames there are yet. Where one is kept, it is both. */
typedef struct wo_vae_slots {
    int32_t older, newer, filled;
} wo_vae_slots;

/* All that the passes carry over besides the frames; kept in host memory between them. */
typedef struct wo_vae_ledger {
    wo_vae_slots slots[WO_VAE_PASTS];
    int32_t spare[WO_VAE_BANKS]; /* the slot of the bank that is filled next; -1 where banks rest on the host */
} wo_vae_ledger;

typedef struct wo_vae_pass {
    const wo_vae_network *m;
    wo_exec *x;
    wo_dtype compute; /* of operands */
    bool first;
    int64_t height, width; /* of the latents */
    const float *input;    /* the caller's memory that is read next, NULL when planning */
    float *output;         /* the caller's memory that is written next, NULL when planning */
    bool clamped;          /* the decoder's frames, to [-1, 1] */
    wo_vae_ledger ledger;
    wo_tensor bank[WO_VAE_BANKS];             /* [slots, height, width, channels] */
    const wo_tensor *params[WO_VAE_LAYERS];   /* of the layers in use, by index */
} wo_vae_pass;

/* The frames of one call of a causal convolution: two of the past (NULL: there was none) and the newest, to be filled by the caller. Where
 * one frame is kept it is the first, and the second is the caller's to give. */
typedef struct wo_vae_window {
    int32_t past;
    const void *frames[3];
    wo_tensor newest;          /* [height, width, channels] in the dtype of operands */
    wo_tensor older, newer;    /* device copies, where the bank rests on the host */
} wo_vae_window;

/* begin finds the banks and the ledger of this exec (a first pass starts them afresh); end writes the ledger back. */
wo_status wo_vae_past_begin(wo_vae_pass *p, wo_error *err);
wo_status wo_vae_past_end(wo_vae_pass *p, wo_error *err);
/* enter gives the window of a convolution's next frame; leave makes the newest frame part of the past, after the last call that reads
 * the window was enqueued. One window of a bank is open at a time. */
wo_status wo_vae_past_enter(wo_vae_pass *p, int32_t past, wo_vae_window *window, wo_error *err);
wo_status wo_vae_past_leave(wo_vae_pass *p, wo_vae_window *window, wo_error *err);

/* Layers first .. last come into use, their params into p->params; and are let go. */
wo_status wo_vae_hold(wo_vae_pass *p, const wo_layer *first, const wo_layer *last, wo_error *err);
wo_status wo_vae_let_go(wo_vae_pass *p, const wo_layer *first, const wo_layer *last, wo_error *err);

/* What decides between all frames of a latent through one layer at a time and one frame through many layers: bytes of the layers first ..
 * last, and of all frames but one that a later latent has in a stage. */
uint64_t wo_vae_weights(const wo_vae_network *m, const wo_layer *first, const wo_layer *last);
uint64_t wo_vae_other_frames(const wo_vae_pass *p, const wo_vae_stage *s);

/* y = conv of the window with rows [first, first + rows of y) of the weight, plus what y holds where add is set. */
wo_status wo_vae_convolve(wo_vae_pass *p, const wo_layer *layer, const wo_vae_window *window, int kernel, int64_t first,
                          const wo_tensor *y, bool add, wo_error *err);
/* y = the 3x3 convolution of x, which is doubled by nearest neighbour before or halved behind, as the heights say. x, in the dtype of
 * operands, is freed. */
wo_status wo_vae_resample(wo_vae_pass *p, const wo_layer *layer, wo_tensor *x, const wo_tensor *y, wo_error *err);
/* The normed and silued frame x as the newest of the convolution's window. */
wo_status wo_vae_enter_normed(wo_vae_pass *p, const wo_layer *norm, const wo_tensor *x, int32_t past, wo_vae_window *window, wo_error *err);
/* x in the dtype of operands: x itself, or a copy that replaces it. */
wo_status wo_vae_as_operand(wo_vae_pass *p, wo_tensor *x, wo_error *err);

/* The residual stream x (F32 [height, width, channels]) through blocks whose layers are in use: x changes in place, or gives way. */
wo_status wo_vae_run_resblock(wo_vae_pass *p, const wo_vae_resblock *b, wo_tensor *x, wo_error *err);
/* Blocks that take their layers into use, one after the other: all frames of a latent through each residual block of a stage; one frame
 * through the middle. */
wo_status wo_vae_run_stage(wo_vae_pass *p, const wo_vae_stage *s, wo_tensor *frames, int count, wo_error *err);
wo_status wo_vae_run_middle(wo_vae_pass *p, wo_tensor *x, wo_error *err);

/* Frame tensors are [height, width, channels]; ops look at them as rows of channels or as one of several frames. */
static inline wo_tensor wo_vae_rows_of(const wo_tensor *t) {
    return wo_tensor_as(t, t->shape[0] * t->shape[1], t->shape[2]);
}

static inline wo_tensor wo_vae_frames_of(const wo_tensor *t) {
    return wo_tensor_as(t, (int64_t)1, t->shape[0], t->shape[1], t->shape[2]);
}

static inline const wo_layer *wo_vae_resblock_last(const wo_vae_resblock *b) {
    return b->conv2.layer;
}

#endif
