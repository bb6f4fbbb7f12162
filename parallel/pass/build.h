/* What the passes work with besides program and plan: the model, and each rank's part of it. */
#pragma once

#include "parallel/program/program.h"
#include "runtime/model/block.h"

typedef struct ag_rank_build {
    ag_place_t place;
    ag_shard_t shard;
    ag_params_t params;   /* filled while segments are built; the same for every class of program */
    uint64_t saved_bytes; /* copies of what it writes of a checkpoint; 0: nobody has asked
                             (ag_catalog_foretell()) */
} ag_rank_build_t;

typedef struct ag_build {
    const ag_plan_t *plan;
    const ag_model_t *model;
    uint32_t n_ranks;
    ag_rank_build_t *ranks; /* (n_ranks) */
} ag_build_t;

/**
 * Share each stage's heads, columns and vocabulary out over its ranks.
 * @return AG_OK; AG_ERR_INVALID: a rank is left nothing at all (says which, and what would do).
 */
ag_status_t ag_build_create(const ag_plan_t *plan, const ag_model_t *model, ag_build_t **build_p);
void ag_build_destroy(ag_build_t *build); /* NULL is allowed */

/** The facts of a model that a plan is made from. */
ag_plan_model_t ag_build_plan_model(const ag_model_t *model);

/**
 * A checked program of one class, through every pass.
 * @param bounds  the most that a step of this class has.
 * @param check   also check after each pass; it is always checked at the end.
 */
ag_status_t ag_build_program(ag_build_t *build, const uint64_t bounds[AG_N_SIZE_COUNTERS],
                             bool check, ag_program_t **program_p);

/** The same way forward without the way back, for the loss alone. @param training  the program of
 * training, built before; bounds and groups are its. */
ag_status_t ag_build_evaluation(ag_build_t *build, const ag_program_t *training, bool check,
                                ag_program_t **program_p);
