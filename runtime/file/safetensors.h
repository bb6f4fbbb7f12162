/* Safetensors: a JSON header and raw tensors. */
#pragma once

#include "runtime/file/file_tensor.h"

typedef struct ag_safetensors ag_safetensors_t;

/**
 * Read and check the header (sizes, offsets, names; no byte of two tensors or of none). Tensors of
 * types that are no row of the dtype table are AG_ERR_UNSUPPORTED only when `strict`; otherwise
 * left out.
 * @return AG_OK, AG_ERR_IO, AG_ERR_FORMAT, AG_ERR_UNSUPPORTED.
 */
ag_status_t ag_safetensors_open(const char *path, bool strict, ag_safetensors_t **file_p);
void ag_safetensors_close(ag_safetensors_t *file);
const ag_file_tensor_t *ag_safetensors_tensors(const ag_safetensors_t *file, size_t *n_tensors_p);

/* A tensor that was left out, because no dtype here holds its type. */
typedef struct ag_safetensors_left_out {
    const char *name;
    const char *type; /* as the file spells it */
    uint32_t n_dims;  /* of U8, as far as they make sense, else 0 */
    uint64_t dims[AG_MAX_DIMS];
    uint64_t offset_bytes, bytes; /* in the file */
} ag_safetensors_left_out_t;

const ag_safetensors_left_out_t *ag_safetensors_left_out(const ag_safetensors_t *file, size_t *n_p);
