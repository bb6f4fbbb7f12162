/* Programs of the tiny llama for the tests of passes and checker. */
#pragma once

#include "parallel/pass/build.h"

typedef struct setup {
    ag_model_t *model;
    ag_plan_t *plan;
    ag_build_t *build;
    ag_program_t *program;
} setup_t;

/** Plan and program as the options say; the first failure's status. Everything is released by
 * close_setup. */
ag_status_t open_setup(const char *tp, uint32_t pp, const char *tensor_split, setup_t *setup);

/** The same for a class of steps, by its bounds. */
ag_status_t open_class(const char *tp, uint32_t pp, const char *tensor_split,
                       const uint64_t bounds[AG_N_SIZE_COUNTERS], setup_t *setup);

/** The same for a model below AG_TEST_DATA. */
ag_status_t open_model(const char *model, const ag_plan_opts_t *opts,
                       const uint64_t bounds[AG_N_SIZE_COUNTERS], setup_t *setup);
/** Degrees of up to 3 stages, their shares, and a class of decoding, or of prefill in halves; all
 * drawn from a seed. AG_ERR_INVALID where the shares leave a rank nothing. */
ag_status_t open_random(uint64_t seed, setup_t *setup);
void close_setup(setup_t *setup);

/** Number of operations of a kind on a rank. */
uint32_t count_ops(const ag_program_t *program, uint32_t rank, ag_op_kind_t kind);
