/* What one execution of a forward program works on. Made by the driver, the same on every rank. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a size is counted in. A program holds bounds; a step holds the real numbers. */
typedef enum ag_counter {
    AG_COUNT_ONE,     /* a size that no step changes */
    AG_COUNT_TOKENS,  /* rows that go through the layers */
    AG_COUNT_OUTPUTS, /* rows whose logits are asked for */
    AG_COUNT_SEQUENCES,
    AG_COUNT_SENT,     /* copies of this rank's rows, one for each expert that a row uses */
    AG_COUNT_RECEIVED, /* copies of any rank's rows that this rank's experts work on */
    AG_N_COUNTERS,
} ag_counter_t;

/* What a step of training has for all its micro-batches. */
typedef struct ag_update {
    uint64_t number;  /* of the step, from 1 on */
    float loss_scale; /* 1 / target tokens of the global batch */
    float learning_rate;
    float beta1, beta2, eps, weight_decay;
    float clip_norm;  /* of all gradients together; 0: they are not clipped */
    float balance, z; /* factors of the routers' two losses over a micro-batch (train.h), each
                         layer's added to the others'; 0: there are none */
    bool is_frozen;   /* nothing is changed: the totals are what is wanted */
    bool finds_bad;   /* it is looked for where numbers stop being some */
    bool evaluates;   /* the loss alone is wanted; is_frozen, too */
} ag_update_t;

typedef struct ag_step {
    uint64_t counts[AG_N_COUNTERS]; /* counts[AG_COUNT_ONE] is 1; SENT and RECEIVED are 0: they are
                                       a rank's, and come out of the run */
    const int32_t *tokens;          /* (tokens) ids */
    const int32_t *positions;       /* (tokens) position in its sequence */
    const int32_t *row_begin;    /* (sequences + 1) rows of sequence s: row_begin[s] .. [s + 1] - 1,
                                    consecutive positions */
    const int32_t *outputs;      /* (outputs) ascending row numbers */
    const int32_t *block_tables; /* (sequences, table_stride) KV block holding positions
                                    i * block_tokens .. */
    uint32_t table_stride;
    const int32_t *targets;    /* training: (outputs) the token that should follow; else NULL */
    const ag_update_t *update; /* training; else NULL */
} ag_step_t;

/**
 * Rows begin to end - 1 of a step, as a step of its own that asks for no outputs. Sequences may be
 * cut: what they are cut off from must be in the cache when it runs.
 * @param row_begin  (sequences of the step + 1) storage of the result's; the other arrays are the
 *                   step's.
 */
ag_step_t ag_step_rows(const ag_step_t *step, uint64_t begin, uint64_t end, int32_t *row_begin);
