/* How weights stand in files that order their rows otherwise, or hold other values: both ways. */
#pragma once

#include "runtime/model/family.h"

/** Do rows, or elements of a vector, move? */
bool ag_transform_moves(ag_transform_t transform);

/** What is to be added to each element of the file's; 0: values stay. */
float ag_transform_offset(ag_transform_t transform);

/** Rows that move only among themselves: a head's, or one where nothing moves. */
uint64_t ag_transform_rows(ag_transform_t transform, uint32_t head_dim);

/** The row of the file's tensor that becomes row `row` of the weight. */
uint64_t ag_transform_load(ag_transform_t transform, uint32_t head_dim, uint64_t row);

/** The reverse: the row of the weight that stands in row `row` of the file's tensor. */
uint64_t ag_transform_store(ag_transform_t transform, uint32_t head_dim, uint64_t row);
