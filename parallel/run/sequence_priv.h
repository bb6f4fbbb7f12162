/* One sequence on its way through a job: its blocks, its position, and the step it is put into. */
#pragma once

#include "parallel/run/driver.h"

typedef struct ag_sequence {
    ag_job_t *job;
    uint32_t position; /* tokens in the cache */
    uint32_t n_blocks;
    int32_t *blocks;    /* (n_blocks) the plan's context long */
    int32_t *positions; /* (batch tokens) */
    int32_t *outputs;   /* (batch tokens) */
    int32_t row_begin[2];
    uint64_t lap_ns; /* until when the time was accounted for */
} ag_sequence_t;

ag_status_t ag_sequence_init(ag_job_t *job, ag_sequence_t *sequence_p);
void ag_sequence_fini(ag_sequence_t *sequence);

/** All time since the last lap, or since the beginning, was a phase's; NULL: was nobody's. */
void ag_sequence_lap(ag_sequence_t *sequence, ag_phase_t *phase);

/** Forget what is in the cache. */
void ag_sequence_begin(ag_sequence_t *sequence);

typedef enum ag_sequence_outputs {
    AG_OUTPUT_NONE,
    AG_OUTPUT_LAST,
    AG_OUTPUT_ALL
} ag_sequence_outputs_t;

/**
 * Run n tokens (at most the plan's batch) at the sequence's position.
 * @param phase  added to, all but its ns: ag_sequence_lap().
 */
ag_status_t ag_sequence_step(ag_sequence_t *sequence, const int32_t *tokens, uint32_t n,
                             ag_sequence_outputs_t outputs, const float **logits_p,
                             ag_phase_t *phase);

/** The failure of logits that are infinite or no numbers: AG_ERR_FORMAT, names the model. */
ag_status_t ag_sequence_fail_logits(const ag_sequence_t *sequence);
