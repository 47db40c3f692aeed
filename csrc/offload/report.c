/* What happened in an exec, and how far the arena was really written.
 *
 * The high-water mark: the arena begins full of poison. Before an activation is poisoned again, a look from its end backwards
 * finds the last byte that is none; at close the whole arena is looked at in the same way, beyond the plan's end too. Where the host
 * cannot read the arena, a copy of the piece is looked at. */
#include "offload/exec_impl.h"

#include "base/clock.h"
#include "base/memory.h"

static const unsigned char POISON = 0xff;

size_t wo_exec_find_touched(const char *seen, size_t offset, size_t bytes) {
    const unsigned char *begin = (const unsigned char *)seen;
    while (bytes > 0 && begin[bytes - 1] == POISON)
        bytes--;
    return bytes > 0 ? wo_arena_round(offset + bytes) : 0;
}

static void look(void *ctx) {
    const wo_touch *touch = ctx;
    wo_exec *x = touch->exec;
    size_t end = wo_exec_find_touched(touch->seen, touch->offset, touch->bytes);
    x->touched = end > x->touched ? end : x->touched;
}

wo_status wo_exec_poison(wo_exec *x, char *from, size_t bytes, wo_error *err) {
    const wo_stream_api *api = x->device->stream;
    if (x->touch_cursor < x->touch_count) {
        wo_touch *touch = &x->touches[x->touch_cursor++];
        *touch = (wo_touch){x, x->mirror != NULL ? x->mirror : from, (size_t)(from - x->arena), bytes};
        if (x->mirror != NULL)
            WO_TRY(api->copy(x->compute, x->mirror, from, bytes, err));
        WO_TRY(api->host_call(x->compute, look, touch, err));
    }
    return api->poison(x->compute, from, bytes, err);
}

/* The streams have come to rest. From the end of the arena backwards, a piece of the mirror's size at a time; a copy that fails belongs to a
 * device that has failed, and what was seen before stands. */
static size_t find_in_mirror(const wo_exec *x, size_t bytes) {
    const wo_stream_api *api = x->device->stream;
    size_t end = 0;
    while (bytes > 0 && end == 0) {
        size_t piece = bytes < x->mirror_bytes ? bytes : x->mirror_bytes;
        bytes -= piece;
        if (api->copy(x->compute, x->mirror, x->arena + bytes, piece, NULL) != WO_OK || api->sync(x->compute, NULL) != WO_OK)
            return 0;
        end = wo_exec_find_touched(x->mirror, bytes, piece);
    }
    return end;
}

static size_t measure_touched(const wo_exec *x) {
    size_t bytes = x->engine->arena_bytes;
    if (!x->engine->testing.poison || bytes == 0)
        return 0;
    size_t end = x->mirror != NULL ? find_in_mirror(x, bytes) : wo_exec_find_touched(x->arena, 0, bytes);
    return end > x->touched ? end : x->touched;
}

void wo_exec_fill_report(const wo_exec *x, wo_report *report) {
    const wo_engine *e = x->engine;
    const wo_stream_api *api = e->device->stream;
    double stalled;
    *report = (wo_report){.passes = x->passes, .visits = x->streamer.visits, .bytes_loaded = x->bytes_loaded,
                          .bytes_moved = x->streamer.bytes_moved, .bytes_from_disk = x->streamer.bytes_from_disk,
                          .bytes_from_host = x->streamer.bytes_from_host, .wraps = x->streamer.ring.wraps,
                          .activation_peak = x->activation_peak, .arena_bytes = e->arena_bytes,
                          .arena_touched = measure_touched(x), .ram_peak = wo_memory_peak(), .load_seconds = x->load_seconds};
    api->times(e->compute, &report->compute_seconds, &report->stall_seconds);
    api->times(e->copy, &report->copy_seconds, &stalled);
    report->compute_seconds -= x->streamer.copy_seconds;
    report->copy_seconds += x->streamer.copy_seconds;
    report->seconds = wo_clock_seconds() - x->opened;
    if (e->reader != NULL)
        report->read_seconds = wo_reader_seconds(e->reader) - x->read_seconds_before;
}
