/* A growing array of fixed-size items: the one way this code grows lists. */
#pragma once

#include <stddef.h>

#include "runtime/base/status.h"

typedef struct ag_array {
    void *items;
    size_t n_items;
    size_t capacity;
    size_t item_bytes;
} ag_array_t;

#define AG_ARRAY(type) ((ag_array_t){.item_bytes = sizeof(type)})

/** Append n items (copied from items, or zeroed when items is NULL). @return AG_OK, AG_ERR_NOMEM.
 */
ag_status_t ag_array_append(ag_array_t *array, const void *items, size_t n);

/** Release the storage; the array is empty and usable again. */
void ag_array_fini(ag_array_t *array);

/* The items as a typed pointer: AG_ITEMS(&tokens, int32_t)[3]. */
#define AG_ITEMS(array, type) ((type *)(array)->items)
