/* Sequences on their way through a job: where each stands, the steps they are put into, and the
 * time that these take. */
#pragma once

#include "parallel/run/driver.h"

typedef struct ag_sequence {
    uint32_t position; /* tokens in the cache, or on their way there */
    uint32_t n_blocks;
    int32_t *blocks; /* (n_blocks) the plan's context long */
} ag_sequence_t;

/** @param pool  of the job's blocks. @return AG_OK, AG_ERR_NOMEM, AG_ERR_BUDGET. */
ag_status_t ag_sequence_init(const ag_plan_t *plan, ag_kv_pool_t *pool, ag_sequence_t *sequence_p);
void ag_sequence_fini(ag_sequence_t *sequence);

/** Bytes that a sequence's blocks take; what a step being put together takes. */
uint64_t ag_sequence_bytes(const ag_plan_t *plan);
uint64_t ag_rows_bytes(const ag_plan_t *plan);

typedef enum ag_sequence_outputs {
    AG_OUTPUT_NONE,
    AG_OUTPUT_LAST,
    AG_OUTPUT_ALL
} ag_sequence_outputs_t;

/* A step being put together: rows of one sequence after another. */
typedef struct ag_rows {
    const ag_spec_t *spec;
    ag_step_t step;
    int32_t *tokens, *positions, *outputs; /* (batch tokens, or sequences) */
    int32_t *row_begin;                    /* (sequences + 1) */
    int32_t *tables;                       /* (sequences, blocks of the context) */
} ag_rows_t;

/** @param spec  borrowed. */
ag_status_t ag_rows_init(const ag_plan_t *plan, const ag_spec_t *spec, ag_rows_t *rows_p);
void ag_rows_fini(ag_rows_t *rows);
void ag_rows_begin(ag_rows_t *rows);

/**
 * Append n tokens of a sequence, at its position, which moves on.
 * @param phase  added to: tokens, outputs and what they attend to.
 */
void ag_rows_add(ag_rows_t *rows, ag_sequence_t *sequence, const int32_t *tokens, uint32_t n,
                 ag_sequence_outputs_t outputs, ag_phase_t *phase);

/* Until when the job's time was accounted for. */
typedef struct ag_meter {
    ag_job_t *job;
    uint64_t lap_ns, compute_ns;
    uint64_t waits_ns[AG_N_OP_KINDS];
} ag_meter_t;

ag_meter_t ag_meter_begin(ag_job_t *job);

/** All since the last lap, or since the beginning, was a phase's; NULL: was nobody's. */
void ag_meter_lap(ag_meter_t *meter, ag_phase_t *phase);

/** The failure of logits that are infinite or no numbers: AG_ERR_FORMAT, names the model. */
ag_status_t ag_fail_logits(const ag_job_t *job);
