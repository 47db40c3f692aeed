/* Zeroed tables and growing lists in counted host memory. Private to offload. */
#ifndef WO_OFFLOAD_TABLE_H
#define WO_OFFLOAD_TABLE_H

#include "base/memory.h"

/* count items of item_bytes each, all zero; at least one item. NULL when there is no memory, and then *err says so.
 * wo_memory_release frees it. */
void *wo_table_create(size_t count, size_t item_bytes, const char *what, wo_error *err);

/* Makes room for `wanted` items in a list that starts as NULL with capacity 0. Returns the list, moved if it had to grow; NULL when
 * there is no memory, and then the old list still stands. New room is zero. */
void *wo_list_reserve(void *items, size_t *capacity, size_t wanted, size_t item_bytes, const char *what, wo_error *err);

/* A copy of the text. */
char *wo_text_create(const char *text, wo_error *err);

#endif
