/* A tensor as the directory of its file has it, whatever the format. */
#pragma once

#include "runtime/tensor/tensor.h"

typedef struct ag_file_tensor {
    const char *name; /* NUL-terminated */
    ag_dtype_t dtype;
    uint32_t n_dims;
    uint64_t dims[AG_MAX_DIMS]; /* outermost first (GGUF's own order reversed) */
    uint64_t offset_bytes;      /* from the start of the file */
    uint64_t bytes;
} ag_file_tensor_t;
