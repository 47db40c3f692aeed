/* The dry device's streams and operations, which count. Private to device/dry. */
#ifndef WO_DEVICE_DRY_WORK_H
#define WO_DEVICE_DRY_WORK_H

#include "device/dry/dry.h"

typedef struct wo_dry_stream {
    wo_stream head;
    wo_work work;
} wo_dry_stream;

extern const wo_ops_api wo_dry_ops;

#endif
