/* What one command of a stream does. Kernels spread over the pool (ops.c); everything here runs on the stream's own thread, so that a
 * copy stream never competes with the compute stream for pool threads. Long copies look at the cancel token once per chunk. */
#include "device/cpu/internal.h"

#include "base/clock.h"

#include <string.h>

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static void copy(wo_cpu_device *d, unsigned char *dst, const unsigned char *src, size_t bytes) {
    for (size_t done = 0, step; done < bytes && !wo_cpu_interrupted(d); done += step) {
        step = smaller(bytes - done, WO_CPU_CHUNK_BYTES);
        memcpy(dst + done, src + done, step);
    }
}

static void fill(wo_cpu_device *d, unsigned char *dst, size_t bytes, int byte) {
    for (size_t done = 0, step; done < bytes && !wo_cpu_interrupted(d); done += step) {
        step = smaller(bytes - done, WO_CPU_CHUNK_BYTES);
        memset(dst + done, byte, step);
    }
}

/* Whole rows per chunk, for a conversion that moves taps may only be cut between rows. */
static void convert(wo_cpu_device *d, const wo_conversion *c, unsigned char *dst, const unsigned char *src, int64_t count) {
    const int64_t row = c->layout == WO_LAYOUT_TAPS_OUTSIDE ? c->channels * c->taps : 1;
    const size_t from = wo_dtype_size(c->from), to = wo_dtype_size(c->to);
    int64_t chunk = WO_CPU_CHUNK_BYTES / (int64_t)(from > to ? from : to) / row * row;
    if (chunk < row)
        chunk = row;
    for (int64_t done = 0, step; done < count && !wo_cpu_interrupted(d); done += step) {
        step = count - done < chunk ? count - done : chunk;
        wo_convert(c, dst + (size_t)done * to, src + (size_t)done * from, step);
    }
}

/* In slices, so that a cancelled or failed device does not sleep to the end. */
static void delay(wo_cpu_device *d, double seconds) {
    const double end = wo_clock_seconds() + seconds;
    for (double left = seconds; left > 0 && !wo_cpu_interrupted(d); left = end - wo_clock_seconds())
        wo_clock_sleep(left < 1e-3 ? left : 1e-3);
}

void wo_cpu_command_execute(wo_cpu_device *d, const wo_cpu_command *command) {
    if (wo_cpu_interrupted(d))
        return;
    switch (command->kind) {
    case WO_CPU_COPY:
        copy(d, command->u.copy.dst, command->u.copy.src, command->u.copy.bytes);
        return;
    case WO_CPU_CONVERT:
        convert(d, &command->u.convert.conversion, command->u.convert.dst, command->u.convert.src, command->u.convert.count);
        return;
    case WO_CPU_FILL:
        fill(d, command->u.fill.dst, command->u.fill.bytes, command->u.fill.byte);
        return;
    case WO_CPU_HOST_CALL:
        command->u.host_call.fn(command->u.host_call.ctx);
        return;
    case WO_CPU_DELAY:
        delay(d, command->u.delay.seconds);
        return;
    default: {
        const wo_status status = wo_cpu_op_execute(d, command);
        wo_error err;
        if (status == WO_ECANCELLED)
            wo_error_set(&err, status, "cancelled");
        else if (status != WO_OK)
            wo_error_set(&err, status, "a kernel of the cpu device failed: %s", wo_status_text(status));
        if (status != WO_OK)
            wo_cpu_post_error(&d->head, &err);
        return;
    }
    }
}
