#include <stdlib.h>
#include <string.h>

#include "parallel/run/checkpoint_priv.h"

uint32_t ag_flat_slices(ag_range_t rows, ag_range_t cols, ag_range_t flat, float *data,
                        ag_saved_slice_t slices[AG_FLAT_SLICES])
{
    uint64_t width = cols.end - cols.begin;
    uint32_t n = 0;

    for (uint64_t at = flat.begin; at < flat.end;) {
        uint64_t row = at / width, col = at % width, left = flat.end - at;
        uint64_t n_rows = col == 0 && left >= width ? left / width : 1;
        uint64_t n_cols = left < width - col ? left : width - col;

        slices[n] = (ag_saved_slice_t){
            .rows = {rows.begin + row, rows.begin + row + n_rows},
            .cols = {cols.begin + col, cols.begin + col + n_cols},
            .data = data + (at - flat.begin),
            .stride = n_cols,
        };
        at += n_rows * n_cols;
        n++;
    }
    return n;
}

static bool is_name(const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; i < n; i++) {
        if (name[i] < ' ' || name[i] > '~') {
            return false;
        }
    }
    return n > 0 && n < AG_SAVED_NAME_BYTES;
}

static bool is_within(ag_range_t range, uint64_t extent)
{
    return range.begin <= range.end && range.end <= extent;
}

/* @param item  where it stands in the lists. */
static ag_status_t list_slice(const ag_saved_tensor_t *tensor, ag_held_t item, ag_array_t *held)
{
    const ag_saved_slice_t *slice = &tensor->slices[item.slice];

    item.rows = tensor->rows;
    item.cols = tensor->cols;
    item.rect = (ag_rect_t){slice->rows, slice->cols};
    if (!is_within(slice->rows, tensor->rows) || !is_within(slice->cols, tensor->cols)) {
        return ag_fail(AG_ERR_INVALID, "tensor %s: slice %u lies outside %llu x %llu", tensor->name,
                       item.slice, (unsigned long long)tensor->rows,
                       (unsigned long long)tensor->cols);
    }
    if (ag_rect_floats(&item.rect) == 0) {
        return AG_OK;
    }
    if (slice->data == NULL || slice->stride < slice->cols.end - slice->cols.begin) {
        return ag_fail(AG_ERR_INVALID, "tensor %s: slice %u has no data, or rows that overlap",
                       tensor->name, item.slice);
    }
    strcpy(item.name, tensor->name);
    return ag_array_append(held, &item, 1);
}

ag_status_t ag_held_list(const ag_saved_tensor_t *tensors, size_t n_tensors, uint32_t rank,
                         ag_array_t *held)
{
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < n_tensors; i++) {
        const ag_saved_tensor_t *tensor = &tensors[i];

        if (!is_name(tensor->name) || tensor->rows == 0 || tensor->cols == 0 ||
            tensor->rows > AG_MOST_FLOATS / tensor->cols) {
            return ag_fail(AG_ERR_INVALID, "tensor %zu of a checkpoint has no name or no size", i);
        }
        for (uint32_t k = 0; k < tensor->n_slices && status == AG_OK; k++) {
            ag_held_t item = {.rank = rank, .tensor = (uint32_t)i, .slice = k};

            status = list_slice(tensor, item, held);
        }
    }
    return status;
}

static int by_name(const void *a, const void *b)
{
    const ag_held_t *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    if (order != 0) {
        return order;
    }
    if (x->rank != y->rank) {
        return x->rank < y->rank ? -1 : 1;
    }
    return (x->slice > y->slice) - (x->slice < y->slice);
}

void ag_held_sort(ag_array_t *held)
{
    if (held->n_items > 0) {
        qsort(held->items, held->n_items, sizeof(ag_held_t), by_name);
    }
}

/* All ranks' items by way of rank 0. @param all  room for all; own ones at their place. */
static ag_status_t collect(ag_net_t *net, const ag_idle_t *idle, const uint64_t *counts,
                           ag_held_t *all, size_t n_all)
{
    ag_status_t status = AG_OK;
    size_t at = 0;

    for (int r = 0; r < net->n_ranks && status == AG_OK; r++) {
        size_t n_bytes = counts[r] * sizeof(*all);

        if (n_bytes == 0) {
            continue;
        }
        if (r != 0 && net->rank == 0) {
            status = ag_net_recv(net, idle, r, all + at, n_bytes);
        } else if (r != 0 && net->rank == r) {
            status = ag_net_send(net, idle, 0, all + at, n_bytes);
        }
        at += counts[r];
    }
    return status == AG_OK && n_all > 0
               ? ag_agree_broadcast(net, idle, 0, all, n_all * sizeof(*all))
               : status;
}

ag_status_t ag_held_gather(ag_net_t *net, const ag_idle_t *idle, ag_array_t *held)
{
    uint64_t *counts = calloc((size_t)net->n_ranks, sizeof(*counts));
    ag_array_t all = AG_ARRAY(ag_held_t);
    size_t n_all = 0, n_before = 0;
    ag_status_t status;

    if (counts == NULL) {
        return ag_fail_nomem("gathering a checkpoint's layout", 0);
    }
    counts[net->rank] = held->n_items;
    status = ag_agree_gather(net, idle, counts, sizeof(*counts));
    for (int r = 0; r < net->n_ranks; r++) {
        n_before += r < net->rank ? counts[r] : 0;
        n_all += counts[r];
    }
    /* a rank without room must not leave the others waiting */
    status = status == AG_OK ? ag_agree(net, idle, ag_array_append(&all, NULL, n_all + 1), NULL)
                             : status;
    if (status == AG_OK) {
        if (held->n_items > 0) {
            memcpy((ag_held_t *)all.items + n_before, held->items,
                   held->n_items * sizeof(ag_held_t));
        }
        status = collect(net, idle, counts, all.items, n_all);
    }
    free(counts);
    if (status != AG_OK) {
        ag_array_fini(&all);
        return status;
    }
    all.n_items = n_all;
    ag_held_sort(&all);
    ag_array_fini(held);
    *held = all;
    return AG_OK;
}
