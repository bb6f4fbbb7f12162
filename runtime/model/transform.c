#include "runtime/model/transform.h"

uint64_t ag_transform_rows(ag_transform_t transform, uint32_t head_dim)
{
    return transform == AG_TRANSFORM_NONE ? 1 : head_dim;
}

/* Rows of a head are pairs of a rope: here all first ones, then all second ones; in the file each
 * pair together. */
uint64_t ag_transform_load(ag_transform_t transform, uint32_t head_dim, uint64_t row)
{
    uint64_t half = head_dim / 2, within;

    if (transform == AG_TRANSFORM_NONE) {
        return row;
    }
    within = row % head_dim;
    return row - within + 2 * (within % half) + within / half;
}

uint64_t ag_transform_store(ag_transform_t transform, uint32_t head_dim, uint64_t row)
{
    uint64_t half = head_dim / 2, within;

    if (transform == AG_TRANSFORM_NONE) {
        return row;
    }
    within = row % head_dim;
    return row - within + within % 2 * half + within / 2;
}
