/* Prompts of a case, answered by ag_generate(): each alone, then all at once, by the same job. */
#pragma once

#include "case.h"
#include "parallel/run/driver.h"

enum { MOST_PROMPTS = 2 * MOST_SEQUENCES, MOST_MADE = 6 };

typedef struct answer {
    uint32_t n_tokens;
    int32_t tokens[MOST_MADE];
    ag_stop_t stop;
} answer_t;

typedef struct prompts {
    uint32_t n;
    uint32_t n_tokens[MOST_PROMPTS];
    int32_t tokens[MOST_PROMPTS][MOST_POSITIONS];
    ag_sampling_t sampling;
    uint32_t end_every; /* tokens with multiples of it for ids end an answer; 0: none does */
    answer_t alone[MOST_PROMPTS], together[MOST_PROMPTS]; /* out: of rank 0 */
    uint64_t n_steps;                                     /* out: of all together */
    uint64_t n_rows;                                      /* and what they decoded in them */
} prompts_t;

void prompts_draw(const cluster_case_t *c, prompts_t *prompts);

/** Rank 0, while nothing is in flight. */
ag_status_t prompts_answer(ag_job_t *job, prompts_t *prompts);

/** The first prompt whose answer in company is not the one alone; -1: there is none. */
int prompts_compare(const prompts_t *prompts);
