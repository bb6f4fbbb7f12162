/* A tensor: type, shape, bytes. Row-major, outermost dimension first, rows contiguous. */
#pragma once

#include "runtime/tensor/dtype.h"

enum { AG_MAX_DIMS = 4 };

typedef struct ag_tensor {
    ag_dtype_t dtype;
    uint32_t n_dims;
    uint64_t dims[AG_MAX_DIMS]; /* outermost first; unused ones are 1 */
    void *data;                 /* borrowed */
} ag_tensor_t;

/** "(576, 1536)" in text; returns text. */
const char *ag_shape_text(uint32_t n_dims, const uint64_t *dims, char *text, size_t n_bytes);
