#include "runtime/base/array.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 8 };

static ag_status_t grow(ag_array_t *array, size_t n_items)
{
    size_t capacity = array->capacity > 0 ? array->capacity : FIRST_CAPACITY;
    void *items;

    while (capacity < n_items) {
        if (capacity > SIZE_MAX / 2) {
            return ag_fail_nomem("growing a list", SIZE_MAX);
        }
        capacity *= 2;
    }
    if (capacity > SIZE_MAX / array->item_bytes) {
        return ag_fail_nomem("growing a list", SIZE_MAX);
    }
    items = realloc(array->items, capacity * array->item_bytes);
    if (items == NULL) {
        return ag_fail_nomem("growing a list", (unsigned long long)capacity * array->item_bytes);
    }
    array->items = items;
    array->capacity = capacity;
    return AG_OK;
}

ag_status_t ag_array_append(ag_array_t *array, const void *items, size_t n)
{
    ag_status_t status;

    if (n == 0) {
        return AG_OK;
    }
    if (n > SIZE_MAX - array->n_items) {
        return ag_fail_nomem("growing a list", SIZE_MAX);
    }
    if (array->n_items + n > array->capacity) {
        status = grow(array, array->n_items + n);
        if (status != AG_OK) {
            return status;
        }
    }
    if (items != NULL) {
        memcpy((char *)array->items + array->n_items * array->item_bytes, items,
               n * array->item_bytes);
    } else {
        memset((char *)array->items + array->n_items * array->item_bytes, 0, n * array->item_bytes);
    }
    array->n_items += n;
    return AG_OK;
}

void ag_array_fini(ag_array_t *array)
{
    free(array->items);
    *array = (ag_array_t){.item_bytes = array->item_bytes};
}
