/* A case of training: a model, a plan and batches, all drawn from its number. */
#pragma once

#include "model.h"
#include "rank.h"

enum { MOST_RANKS = 12, MOST_BATCHES = 8, MOST_STEPS = 2, TEXT_BYTES = 64 };

typedef struct train_case {
    uint64_t number;
    model_t model;
    char path[256];
    char tp[TEXT_BYTES], tensor_split[TEXT_BYTES], pipeline_split[TEXT_BYTES];
    char micro_batches[TEXT_BYTES], ep[TEXT_BYTES];
    ag_plan_opts_t opts, one;
    uint32_t n_ranks, n_batches, n_steps, n_tokens; /* of a micro-batch */
    ag_update_t update;
    int32_t *tokens, *targets; /* (steps, batches, tokens); targets -1: none */
    int32_t *row_begin;        /* (steps, batches, tokens + 1) */
    uint32_t *n_sequences;     /* (steps, batches) */
} train_case_t;

/* The model's files go into the folder. */
void train_case_draw(uint64_t number, const char *folder, train_case_t *c);
void train_case_free(train_case_t *c);
void train_case_print(const train_case_t *c);
