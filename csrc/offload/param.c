/* A param between rest and use: where its rows lie in the file, and reading a few rows of a table by hand. */
#include "offload/component_impl.h"

int64_t wo_param_granule(const wo_param *p) {
    return p->conversion.layout == WO_LAYOUT_TAPS_OUTSIDE ? p->conversion.channels * p->conversion.taps : 1;
}

static uint64_t row_bytes_at_rest(const wo_param *p) {
    return p->entry->bytes / (uint64_t)p->entry->shape[0];
}

uint64_t wo_param_bytes_at_rest(const wo_param *p) {
    return row_bytes_at_rest(p) * (uint64_t)p->rows;
}

uint64_t wo_param_file_offset(const wo_param *p) {
    return p->entry->offset + row_bytes_at_rest(p) * (uint64_t)p->first_row;
}

enum { ROW_BUFFER = 16384 };

/* Reads and converts one row, piece by piece, without taking memory. */
static wo_status read_row(const wo_component *c, const wo_param *p, int32_t id, char *dst, wo_error *err) {
    _Alignas(64) char buffer[ROW_BUFFER];
    const size_t from = wo_dtype_size(p->conversion.from), to = wo_dtype_size(p->conversion.to);
    const uint64_t bytes = row_bytes_at_rest(p), offset = wo_param_file_offset(p) + (uint64_t)id * bytes;
    for (uint64_t at = 0; at < bytes; at += ROW_BUFFER) {
        size_t piece = bytes - at < ROW_BUFFER ? (size_t)(bytes - at) : ROW_BUFFER;
        WO_TRY(wo_store_read(wo_component_store(c), p->entry->file, offset + at, piece, buffer, err));
        wo_convert(&p->conversion, dst + at / from * to, buffer, (int64_t)(piece / from));
    }
    return WO_OK;
}

wo_status wo_component_read_rows(const wo_component *c, const wo_layer *table, const int32_t *ids, size_t count, void *dst, wo_error *err) {
    const wo_param *p = &table->param[0];
    const size_t in_use = (size_t)row_bytes_at_rest(p) / wo_dtype_size(p->conversion.from) * wo_dtype_size(p->conversion.to);
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= p->rows)
            WO_FAIL(err, WO_EVALUE, "row %d of '%s' is asked for; it has rows 0 to %lld", ids[i], p->entry->name, (long long)p->rows - 1);
        WO_TRY(read_row(c, p, ids[i], (char *)dst + i * in_use, err));
    }
    return WO_OK;
}
