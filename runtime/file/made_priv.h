/* Tensors that no file has. */
#pragma once

#include "runtime/file/model_files.h"

/* What one is drawn by. */
typedef struct ag_made {
    float mean, deviation;
    uint32_t stream; /* of the random numbers */
} ag_made_t;

/** Bytes [begin, begin + n) of a tensor, whole elements. @return AG_OK, AG_ERR_INVALID. */
ag_status_t ag_made_draw(const ag_made_t *made, uint64_t seed, const ag_model_tensor_t *tensor,
                         uint64_t begin, uint64_t n, void *dst);
