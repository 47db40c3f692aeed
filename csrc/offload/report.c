/* What happened in an exec, and how far the arena was really written.
 *
 * The high-water mark: the arena begins full of poison. Before an activation is poisoned again, a look from its end backwards
 * finds the last byte that is none; at close the whole arena is looked at in the same way, beyond the plan's end too. */
#include "offload/exec_impl.h"

#include "base/clock.h"
#include "base/memory.h"

static const unsigned char POISON = 0xff;

size_t wo_exec_find_touched(const char *arena, const char *from, size_t bytes) {
    const unsigned char *begin = (const unsigned char *)from;
    while (bytes > 0 && begin[bytes - 1] == POISON)
        bytes--;
    return bytes > 0 ? wo_arena_round((size_t)(from - arena) + bytes) : 0;
}

static void look(void *ctx) {
    const wo_touch *touch = ctx;
    wo_exec *x = touch->exec;
    size_t end = wo_exec_find_touched(x->arena, touch->from, touch->bytes);
    x->touched = end > x->touched ? end : x->touched;
}

wo_status wo_exec_poison(wo_exec *x, char *from, size_t bytes, wo_error *err) {
    const wo_stream_api *api = x->device->stream;
    if (x->device->memory->host_addressable && x->touch_cursor < x->touch_count) {
        wo_touch *touch = &x->touches[x->touch_cursor++];
        *touch = (wo_touch){x, from, bytes};
        WO_TRY(api->host_call(x->compute, look, touch, err));
    }
    return api->poison(x->compute, from, bytes, err);
}

static size_t measure_touched(const wo_exec *x) {
    if (!x->engine->testing.poison || !x->device->memory->host_addressable || x->engine->arena_bytes == 0)
        return 0;
    size_t end = wo_exec_find_touched(x->arena, x->arena, x->engine->arena_bytes);
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
