/* The mesh is a table, not a box: where each rank stands, derived from the plan. */
#pragma once

#include "parallel/plan/plan.h"

typedef struct ag_place {
    uint32_t stage;
    uint32_t replica;
    uint32_t index; /* within the replica */
} ag_place_t;

/** Where a rank stands. @return AG_ERR_INVALID: the plan has no such rank. */
ag_status_t ag_mesh_place(const ag_plan_t *plan, uint32_t rank, ag_place_t *place_p);
