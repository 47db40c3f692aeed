/* Inside of the VAE decoder: the layers that vae.c declares, the past frames that vae_past.c keeps, the passes of vae_forward.c. */
#ifndef WO_MODEL_VAE_H
#define WO_MODEL_VAE_H

#include "model/declare.h"
#include "model/model.h"
#include "offload/exec.h"

/* Limits of a configuration; the published model has 4 levels of 3 residual blocks. */
enum { WO_VAE_LEVELS = 8, WO_VAE_RESBLOCKS = 8, WO_VAE_LAYERS = 384, WO_VAE_PASTS = 160, WO_VAE_BANKS = 24, WO_VAE_FRAMES = 128 };

/* A causal convolution and what it keeps: `past` numbers the two frames that it saw last. */
typedef struct wo_vae_conv {
    const wo_layer *layer;
    int32_t past;
} wo_vae_conv;

typedef struct wo_vae_resblock {
    int64_t in, out; /* channels */
    const wo_layer *norm1, *norm2, *shortcut; /* shortcut: NULL where in == out */
    wo_vae_conv conv1, conv2;
} wo_vae_resblock;

/* An up block: residual blocks, then (all but the last) an upsampler. */
typedef struct wo_vae_stage {
    int64_t width, scale, frames; /* channels; height and width over those of the latents; frames per later latent */
    wo_vae_resblock resblock[WO_VAE_RESBLOCKS];
    wo_vae_conv time_conv; /* layer NULL where time is not upsampled */
    const wo_layer *resample; /* NULL in the last stage */
} wo_vae_stage;

/* Past frames of one shape lie in one bank: two for each of its convolutions and one that is being filled. */
typedef struct wo_vae_bank {
    int64_t channels, scale;
    int32_t convs;
} wo_vae_bank;

typedef struct wo_vae_place {
    int32_t bank, index; /* index among the bank's convolutions */
} wo_vae_place;

struct wo_vae_decoder {
    wo_vae_config config;
    wo_dtype dtype, compute; /* of weights held; of operands */
    wo_component *component;
    const wo_layer *post_quant_conv;
    wo_vae_conv conv_in;
    wo_vae_resblock middle[2];
    const wo_layer *attention_norm, *to_qkv, *proj;
    int32_t stages, resblocks; /* resblocks of each stage */
    wo_vae_stage stage[WO_VAE_LEVELS];
    const wo_layer *norm_out;
    wo_vae_conv conv_out;
    int32_t pasts, banks;
    wo_vae_place past[WO_VAE_PASTS];
    wo_vae_bank bank[WO_VAE_BANKS];
};

/* Which slots of its bank hold the past of a convolution, and how many of the two are filled. */
typedef struct wo_vae_slots {
    int32_t older, newer, filled;
} wo_vae_slots;

/* All that the passes carry over besides the frames; kept in host memory between them. */
typedef struct wo_vae_ledger {
    wo_vae_slots slots[WO_VAE_PASTS];
    int32_t spare[WO_VAE_BANKS]; /* the slot of the bank that is filled next; -1 where banks rest on the host */
} wo_vae_ledger;

typedef struct wo_vae_pass {
    const wo_vae_decoder *m;
    wo_exec *x;
    const wo_vae_request *r;
    bool first;
    int64_t emitted; /* frames handed out */
    wo_vae_ledger ledger;
    wo_tensor bank[WO_VAE_BANKS];             /* [slots, height, width, channels] */
    const wo_tensor *params[WO_VAE_LAYERS];   /* of the layers in use, by index */
} wo_vae_pass;

/* The frames of one call of a causal convolution: two of the past (NULL: there was none) and the newest, to be filled by the caller. */
typedef struct wo_vae_window {
    int32_t past;
    const void *frames[3];
    wo_tensor newest;          /* [height, width, channels] in the dtype of operands */
    wo_tensor older, newer;    /* device copies, where the bank rests on the host */
} wo_vae_window;

/* begin finds the banks and the ledger of this exec (a first latent starts them afresh); end writes the ledger back. */
wo_status wo_vae_past_begin(wo_vae_pass *p, wo_error *err);
wo_status wo_vae_past_end(wo_vae_pass *p, wo_error *err);
/* enter gives the window of a convolution's next frame; leave makes the newest frame part of the past, after the last call that reads
 * the window was enqueued. One window of a bank is open at a time. */
wo_status wo_vae_past_enter(wo_vae_pass *p, int32_t past, wo_vae_window *window, wo_error *err);
wo_status wo_vae_past_leave(wo_vae_pass *p, wo_vae_window *window, wo_error *err);

#endif
