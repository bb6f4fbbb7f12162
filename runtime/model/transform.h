/* How weights stand in files that order their rows otherwise, or hold other values: both ways. */
#pragma once

#include "runtime/model/family.h"

/** Do rows, or elements of a vector, move? */
bool ag_transform_moves(ag_transform_t transform);

/** What is to be added to each element of the file's; 0: values stay. */
float ag_transform_offset(ag_transform_t transform);

/** Rows that move only among themselves, or are turned together: a head's, or one where nothing
 * moves. */
uint64_t ag_transform_rows(ag_transform_t transform, uint32_t head_dim);

/** The row of the file's tensor that becomes row `row` of the weight. */
uint64_t ag_transform_load(ag_transform_t transform, uint32_t head_dim, uint64_t row);

/** The reverse: the row of the weight that stands in row `row` of the file's tensor. */
uint64_t ag_transform_store(ag_transform_t transform, uint32_t head_dim, uint64_t row);

/* Rows of two weights in one tensor, head after head: of each head the first weight's, then the
 * second's. Their rows are counted as if all of the first weight's came before. */
typedef struct ag_head_rows {
    uint32_t n_heads; /* 0: rows stand as they are counted */
    uint32_t n[2];    /* of a head, of each weight */
} ag_head_rows_t;

/** The row of the tensor that is counted as row `row`. */
uint64_t ag_head_rows_load(const ag_head_rows_t *heads, uint64_t row);
