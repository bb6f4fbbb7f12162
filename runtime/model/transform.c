#include "runtime/model/transform.h"

bool ag_transform_moves(ag_transform_t transform)
{
    return transform == AG_TRANSFORM_UNPERMUTE_ROPE;
}

float ag_transform_offset(ag_transform_t transform)
{
    return transform == AG_TRANSFORM_ADD_1 ? 1 : 0;
}

uint64_t ag_transform_rows(ag_transform_t transform, uint32_t head_dim)
{
    return ag_transform_moves(transform) ? head_dim : 1;
}

/* Rows of a head are pairs of a rope: here all first ones, then all second ones; in the file each
 * pair together. */
uint64_t ag_transform_load(ag_transform_t transform, uint32_t head_dim, uint64_t row)
{
    uint64_t half = head_dim / 2, within;

    if (!ag_transform_moves(transform)) {
        return row;
    }
    within = row % head_dim;
    return row - within + 2 * (within % half) + within / half;
}

uint64_t ag_transform_store(ag_transform_t transform, uint32_t head_dim, uint64_t row)
{
    uint64_t half = head_dim / 2, within;

    if (!ag_transform_moves(transform)) {
        return row;
    }
    within = row % head_dim;
    return row - within + within % 2 * half + within / 2;
}
