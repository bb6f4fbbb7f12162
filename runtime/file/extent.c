#include "runtime/file/extent_priv.h"

#include <stdlib.h>

ag_status_t ag_extent_bytes(const char *what, ag_dtype_t dtype, uint32_t n_dims,
                            const uint64_t *dims, uint64_t *bytes_p)
{
    const ag_dtype_info_t *info = ag_dtype_info(dtype);
    uint64_t row_elements = n_dims == 0 ? 1 : dims[n_dims - 1];
    uint64_t bytes;

    if (row_elements % info->block_elements != 0) {
        return ag_fail(AG_ERR_FORMAT, "%s: rows of %llu are not whole blocks of %u, as %s needs",
                       what, (unsigned long long)row_elements, info->block_elements, info->name);
    }
    bytes = row_elements / info->block_elements;
    if (__builtin_mul_overflow(bytes, info->block_bytes, &bytes)) {
        goto too_large;
    }
    for (uint32_t d = 0; d + 1 < n_dims; d++) {
        if (__builtin_mul_overflow(bytes, dims[d], &bytes)) {
            goto too_large;
        }
    }
    if (bytes > INT64_MAX) {
        goto too_large;
    }
    *bytes_p = bytes;
    return AG_OK;

too_large:
    return ag_fail(AG_ERR_FORMAT, "%s: damaged: its shape is too large for any file", what);
}

static int by_begin(const void *a, const void *b)
{
    const ag_extent_t *left = a;
    const ag_extent_t *right = b;

    return (left->begin_bytes > right->begin_bytes) - (left->begin_bytes < right->begin_bytes);
}

ag_status_t ag_extents_check(const char *path, ag_extent_t *extents, size_t n_extents)
{
    const ag_extent_t *last = NULL;

    if (n_extents > 0) {
        qsort(extents, n_extents, sizeof(*extents), by_begin);
    }
    for (size_t i = 0; i < n_extents; i++) {
        if (extents[i].bytes == 0) {
            continue;
        }
        if (last != NULL && extents[i].begin_bytes - last->begin_bytes < last->bytes) {
            return ag_fail(AG_ERR_FORMAT, "%s: damaged: tensors '%s' and '%s' share bytes", path,
                           last->name, extents[i].name);
        }
        last = &extents[i];
    }
    return AG_OK;
}
