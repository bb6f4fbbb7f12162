/* A case: a model, a plan, work and an order, all drawn from its number. */
#pragma once

#include "model.h"
#include "rank.h"

enum { MOST_SEQUENCES = 4, MOST_STEPS = 64, MOST_POSITIONS = 128, MOST_CASE_RANKS = 12 };

/* One step: of each sequence so many rows, and the logits of so many of the last of them. */
typedef struct work_step {
    uint32_t n_rows[MOST_SEQUENCES];
    uint32_t n_outputs[MOST_SEQUENCES];
    uint32_t first_output[MOST_SEQUENCES]; /* where these go among all of the work's */
    uint32_t position[MOST_SEQUENCES];     /* of the first row */
} work_step_t;

typedef struct work {
    uint32_t n_sequences, n_steps, n_outputs;
    uint32_t n_prompt[MOST_SEQUENCES], n_tokens[MOST_SEQUENCES];
    int32_t tokens[MOST_SEQUENCES][MOST_POSITIONS]; /* prompts; what follows is one rank's choice */
    uint32_t first_block[MOST_SEQUENCES];           /* by which sequences lie in the cache */
    work_step_t steps[MOST_STEPS];
} work_t;

typedef struct cluster_case {
    uint64_t number;
    model_t model;
    char path[256]; /* of the model's files */
    uint32_t n_ranks;
    uint32_t n_refused;     /* plans that were drawn before, and leave a rank nothing */
    uint32_t n_unsupported; /* or ask for what is not there yet */
    char *plan_json;
    ag_plan_opts_t one; /* the plan of a single rank */
    ag_compute_t compute;
    bool last_outputs_only, has_budget;
    work_t work;
    uint32_t n_hosts, hosts[MOST_CASE_RANKS]; /* the host of each rank, by any number */
    uint64_t order;
    bool is_lazy;     /* its plan runs on devices that defer their work, one rank on the CPU */
    bool is_repeated; /* in another order, for the same bits */
    bool has_death;
    bool has_prompts; /* that are answered alone and at once */
} cluster_case_t;

/**
 * Draw a case and write its model.
 * @param folder  for the model's files.
 */
ag_status_t case_make(uint64_t number, const char *folder, cluster_case_t *c);
void case_fini(cluster_case_t *c);

void case_print(const cluster_case_t *c, FILE *file);
