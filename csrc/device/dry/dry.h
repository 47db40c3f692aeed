/* The dry device: a model's code runs on it to be recorded. It computes nothing and its memory is addresses that nobody reads. */
#ifndef WO_DEVICE_DRY_DRY_H
#define WO_DEVICE_DRY_DRY_H

#include "device/device.h"

wo_status wo_dry_open(wo_device **out, wo_error *err); /* one for the process, without state that could need closing */
void wo_dry_close(wo_device *d);

#endif
