/* One component in execution: where the model's code gets its memory, weights and streams. The same model code runs on a dry
 * exec (records layers used and lifetimes of activations) and on a real one (looks both up in the plan). */
#ifndef WO_OFFLOAD_EXEC_H
#define WO_OFFLOAD_EXEC_H

#include "device/device.h"
#include "offload/component.h"

/* Choices of a plan that the model's code obeys; none of them changes a bit of the result. */
typedef struct wo_knobs {
    int64_t row_chunk;    /* rows of a feed-forward, and of the projections of a self attention, computed at a time; 0 = all */
    bool cache_text;      /* keys and values of text and images are kept between passes */
    bool state_on_host;   /* VAE streaming state rests in host memory between layers */
    bool items_apart;     /* a block runs for one item of the batch after the other, so that one item's activations are alive */
    bool passes_apart;    /* a whole pass runs for one item after the other, so that one item's residual is alive, too */
} wo_knobs;

const wo_knobs *wo_exec_knobs(const wo_exec *x);
wo_device *wo_exec_device(const wo_exec *x);
wo_stream *wo_exec_stream(const wo_exec *x); /* the compute stream */
bool wo_exec_is_dry(const wo_exec *x);

/* Activation memory, valid on the compute stream from here until freed; 256-byte aligned. Frees may come in any order. The sequence of
 * calls in one pass must depend on the request only, never on data. */
wo_status wo_exec_alloc(wo_exec *x, wo_dtype dtype, int rank, const int64_t *shape, wo_tensor *out, wo_error *err);
void wo_exec_free(wo_exec *x, wo_tensor *t); /* NULL data is fine; clears *t. In chaos mode the memory turns to NaN */
#define wo_exec_new(x, out, err, dtype, ...)                                                                \
    wo_exec_alloc((x), (dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__}, (out), (err))

/* Memory that lives from this call until the exec is closed (text keys and values, VAE state). The key makes calls of later passes find
 * it again: the same key returns the same tensor, *fresh says whether it is new (contents then undefined). host: in host memory. */
wo_status wo_exec_keep(wo_exec *x, uint64_t key, bool host, wo_dtype dtype, int rank, const int64_t *shape, wo_tensor *out, bool *fresh, wo_error *err);

/* use: from here on the compute stream sees the layer's params; *params points to one tensor per param (valid until done). done: the last op
 * that reads them has been enqueued. Several layers may be in use at one time; each pass must use and release layers in the order that the
 * dry run of that pass recorded, anything else is WO_EINTERNAL naming both groups. */
wo_status wo_exec_use(wo_exec *x, const wo_layer *layer, const wo_tensor **params, wo_error *err);
wo_status wo_exec_done(wo_exec *x, const wo_layer *layer, wo_error *err);

/* host -> device and device -> host on the compute stream. On a dry exec the host pointer may be NULL. Host memory must stay until the pass ends. */
wo_status wo_exec_upload(wo_exec *x, const wo_tensor *dst, const void *src, wo_error *err);
wo_status wo_exec_download(wo_exec *x, void *dst, const wo_tensor *src, wo_error *err);
wo_status wo_exec_copy(wo_exec *x, const wo_tensor *dst, const wo_tensor *src, wo_error *err); /* equal bytes, either side host (keep) or device */

#endif
