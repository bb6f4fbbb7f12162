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
    bool by_heads = ag_transform_moves(transform) || transform == AG_TRANSFORM_TURN_HEADS;

    return by_heads ? head_dim : 1;
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

uint64_t ag_head_rows_load(const ag_head_rows_t *heads, uint64_t row)
{
    uint64_t n_first = (uint64_t)heads->n_heads * heads->n[0];
    uint64_t both = (uint64_t)heads->n[0] + heads->n[1];

    if (heads->n_heads == 0) {
        return row;
    }
    if (row < n_first) {
        return row / heads->n[0] * both + row % heads->n[0];
    }
    row -= n_first;
    return row / heads->n[1] * both + heads->n[0] + row % heads->n[1];
}
