#include "offload/table.h"

#include "base/tensor.h"

#include <string.h>

void *wo_table_create(size_t count, size_t item_bytes, const char *what, wo_error *err) {
    uint64_t bytes;
    void *items;
    if (!wo_mul_size(count > 0 ? count : 1, item_bytes, &bytes)) {
        wo_error_set(err, WO_ENOMEMORY, "%s: %zu items of %zu bytes are more than can be addressed", what, count, item_bytes);
        return NULL;
    }
    if (wo_memory_acquire((size_t)bytes, what, &items, err) != WO_OK)
        return NULL;
    memset(items, 0, (size_t)bytes);
    return items;
}

void *wo_list_reserve(void *items, size_t *capacity, size_t wanted, size_t item_bytes, const char *what, wo_error *err) {
    if (wanted <= *capacity)
        return items;
    size_t grown = *capacity < 8 ? 16 : *capacity * 2;
    grown = grown < wanted ? wanted : grown;
    void *larger = wo_table_create(grown, item_bytes, what, err);
    if (larger == NULL)
        return NULL;
    if (items != NULL)
        memcpy(larger, items, *capacity * item_bytes);
    wo_memory_release(items);
    *capacity = grown;
    return larger;
}

char *wo_text_create(const char *text, wo_error *err) {
    size_t bytes = strlen(text) + 1;
    char *copy = wo_table_create(bytes, 1, "a name", err);
    if (copy != NULL)
        memcpy(copy, text, bytes);
    return copy;
}
