/* Where a tensor lies in its file: its size from its shape, and that no two share bytes. */
#pragma once

#include "runtime/tensor/tensor.h"

/**
 * Bytes of a tensor as the file stores it: rows of whole blocks.
 * @param what  names file and tensor in the error.
 * @param dims  (n_dims) outermost first.
 * @return AG_OK, AG_ERR_FORMAT (a row that is not whole blocks, a size beyond 2^63).
 */
ag_status_t ag_extent_bytes(const char *what, ag_dtype_t dtype, uint32_t n_dims,
                            const uint64_t *dims, uint64_t *bytes_p);

typedef struct ag_extent {
    const char *name;
    uint64_t begin_bytes;
    uint64_t bytes;
} ag_extent_t;

/** Refuse tensors that share bytes; empty ones share none. The extents are sorted. */
ag_status_t ag_extents_check(const char *path, ag_extent_t *extents, size_t n_extents);
