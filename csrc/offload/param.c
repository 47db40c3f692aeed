/* A param between rest and use: where its rows lie in the file, and reading a few rows of a table by hand. */
#include "offload/component_impl.h"

#include "offload/table.h"

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

wo_status wo_component_read_rows(const wo_component *c, const wo_layer *table, const int32_t *ids, size_t count, void *dst, wo_error *err) {
    const wo_param *p = &table->param[0];
    const size_t at_rest = (size_t)row_bytes_at_rest(p);
    const size_t elements = at_rest / wo_dtype_size(p->conversion.from);
    const size_t in_use = elements * wo_dtype_size(p->conversion.to);
    void *row = wo_table_create(at_rest, 1, "a row of a table", err);
    if (row == NULL)
        return WO_ENOMEMORY;
    wo_status status = WO_OK;
    for (size_t i = 0; status == WO_OK && i < count; i++) {
        if (ids[i] < 0 || ids[i] >= p->rows) {
            status = wo_error_set(err, WO_EVALUE, "row %d of '%s' is asked for; it has rows 0 to %lld", ids[i], p->entry->name,
                                  (long long)p->rows - 1);
            break;
        }
        uint64_t offset = wo_param_file_offset(p) + (uint64_t)ids[i] * at_rest;
        status = wo_store_read(wo_component_store(c), p->entry->file, offset, at_rest, row, err);
        if (status == WO_OK)
            wo_convert(&p->conversion, (char *)dst + i * in_use, row, (int64_t)elements);
    }
    wo_memory_release(row);
    return status;
}
