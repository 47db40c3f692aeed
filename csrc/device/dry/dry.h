/* The dry device: a model's code runs on it to be recorded. It computes nothing and its memory is addresses that nobody reads; what
 * the operations would have been to a device that computes is counted. */
#ifndef WO_DEVICE_DRY_DRY_H
#define WO_DEVICE_DRY_DRY_H

#include "device/device.h"

enum { WO_WORK_F32, WO_WORK_HALF, WO_WORK_KINDS }; /* HALF: both operands bfloat16, or both float16; F32: anything else */

/* Work of what was enqueued on a stream, from the shapes alone: floating point operations of products (2MNK), of attention (both
 * products) and of convolutions by the operands' kind, and the bytes that all other operations read and write. */
typedef struct wo_work {
    double products[WO_WORK_KINDS], attention[WO_WORK_KINDS], convolutions[WO_WORK_KINDS];
    double other_bytes;
    int64_t operations; /* of all kinds */
} wo_work;

wo_status wo_dry_open(wo_device **out, wo_error *err); /* one for the process, without state that could need closing */
void wo_dry_close(wo_device *d);
/* What has been enqueued on this stream of the dry device since it was created, or since the last call. */
wo_work wo_dry_take_work(wo_stream *s);

#endif
