/* Whole jobs of the tiny llama in one process. */
#pragma once

#include "rank.h"

enum { MOST_IDS = 33, VOCAB = 307 };

/* What all ranks of a job share; rank 0 leaves its logits here. */
typedef struct work {
    const char *model; /* below AG_TEST_DATA; NULL: the tiny llama */
    ag_plan_opts_t opts;
    const int32_t *ids; /* (n_ids) */
    uint32_t n_ids;
    const uint32_t *hosts; /* of the ranks; NULL: one */
    void (*change)(
        void *arg,
        ag_programs_t *programs); /* each rank's, before they are bound; NULL: as they are */
    void *change_arg;
    float logits[MOST_IDS * VOCAB];
    uint64_t n_rows;                   /* of the logits */
    float router_gap;                  /* rank 0's */
    const ag_device_lazy_opts_t *lazy; /* NULL: what the whole test runs on */
    int lazy_rank;                     /* whose device it is that forgets, or is late */
    ag_clock_t clock;                  /* none: the cluster's */
    ag_cancel_t cancel;                /* of all ranks */
} work_t;

/** All tests run on the CPU, and once more on lazy devices: these; NULL: the CPU. */
const ag_device_lazy_opts_t *devices_of_tests(void);

/** A rank of turn->arg, a work_t. Everything is released by close_rank(), also after a failure. */
ag_status_t open_rank(ag_turn_t *turn, ag_rank_t *rank);
void close_rank(ag_rank_t *rank);

/* Options drawn from a seed: degrees per stage, shares, layers per stage, chunks of prefill, and
 * from how many rows on these run in two halves. */
typedef struct draw {
    const char *model;
    char tp[32], tensor_split[64], pipeline_split[32], ep[32], expert_split[64];
    char overlap_tokens[8];
    uint32_t n_ranks;
    ag_plan_opts_t opts;
} draw_t;

void draw_options(uint64_t seed, draw_t *draw);

/** The same for the tiny Mixtral: ranks that share experts out, attention too or not. */
void draw_experts(uint64_t seed, draw_t *draw);

/**
 * Evaluate the ids on n_ranks ranks. @param what  names the job where it fails.
 * @return false where the shares leave a rank nothing: all ranks refuse them alike.
 */
bool run_work(work_t *work, uint32_t n_ranks, uint64_t seed, const char *what);

/**
 * A work_t's change: each sum of what has one size, of gradients or of single rows, is taken in
 * uneven shares, some of them empty, which are gathered then.
 * @param arg  unsigned: plus how many there are.
 */
void sum_in_shares(void *arg, ag_programs_t *programs);
