/* The weights that a spec asks for, and where files have them. */
#pragma once

#include "runtime/base/array.h"
#include "runtime/model/model.h"
#include "runtime/model/transform.h"

typedef struct ag_weight {
    ag_role_t role;
    uint32_t layer, expert; /* 0 where there are none */
    uint64_t rows, cols;    /* a vector has rows 0 */
} ag_weight_t;

/**
 * Every weight of a model, each once: the embedding, layer by layer, what comes behind them.
 * @param weights  ag_weight_t items, appended.
 * @return AG_OK, AG_ERR_NOMEM.
 */
ag_status_t ag_weights_list(const ag_spec_t *spec, ag_array_t *weights);

/* The form of a tensor that holds a weight, alone or among others. */
typedef struct ag_weight_form {
    uint32_t n_dims;
    uint64_t dims[3];
    uint64_t n;           /* rows, of vectors elements, of all roles in it */
    uint64_t first;       /* of those, the weight's first; experts' are not counted */
    bool is_fused;        /* several roles share it */
    uint32_t index;       /* of the weight among theirs */
    ag_head_rows_t heads; /* where those rows stand in the tensor */
} ag_weight_form_t;

ag_weight_form_t ag_weight_form(const ag_spec_t *spec, const ag_weight_t *weight, ag_stack_t stack,
                                ag_transform_t transform);

/** Where a row of a transposed tensor stands in each of the file's. */
static inline uint64_t ag_place_turned(uint64_t row, uint64_t turns)
{
    return turns == 0 ? row : 2 * (row % turns) + row / turns;
}

/**
 * A name of the weight's own: its tensor's in Hugging Face folders, with "#" and its number where
 * several share one.
 * @return AG_OK; AG_ERR_UNSUPPORTED: such folders have no name for it.
 */
ag_status_t ag_weight_name(const ag_model_t *model, const ag_weight_t *weight,
                           char name[AG_TENSOR_NAME_BYTES]);

/* Where a weight stands in a model's files. */
typedef struct ag_place_in_file {
    const ag_model_tensor_t *tensor;
    ag_transform_t transform;
    uint64_t row_elements; /* of the tensor, as rows are counted here: of all experts; of one whose
                              heads are turned, as they stand there */
    ag_head_rows_t heads;
    uint64_t first_row, first_col;
    bool is_column; /* a vector whose elements are rows of one column */
    uint64_t turns; /* of a transposed tensor in which as many rows of each of two weights take
                       turns; 0: none do */
} ag_place_in_file_t;

/**
 * @return AG_OK; AG_ERR_FORMAT: the tensor is missing or has another shape (named, with both);
 *         AG_ERR_UNSUPPORTED: such files have no name for it, or it is of an unknown type.
 */
ag_status_t ag_weight_find(const ag_model_t *model, const ag_weight_t *weight,
                           ag_place_in_file_t *place_p);
