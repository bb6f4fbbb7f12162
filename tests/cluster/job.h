/* A case's job, on one rank and on all of its plan's. */
#pragma once

#include "prompts.h"

/* One run of the work. */
typedef struct run {
    const cluster_case_t *c;
    work_t *work;
    const char *plan_json;             /* NULL: one rank */
    const ag_device_lazy_opts_t *lazy; /* NULL: the CPU */
    prompts_t *prompts;                /* to be answered in the work's place; NULL: the work */
    float *logits;                     /* out: (work->n_outputs, vocabulary) */
    bool chooses;     /* the likeliest tokens become the work's; else those that are there count */
    uint64_t n_ahead; /* out: steps that were posted behind another under way */
    uint64_t n_by_host[AG_N_COLLECTIVES]; /* out: steps that certainly had such by host */
    float router_gap;                     /* out: rank 0's least; INFINITY: it has routed none */
    uint64_t left_bytes;                  /* out: that some rank's ledger had at the end */
} run_t;

/** What each rank does; turn->arg is the run. */
ag_status_t run_rank(ag_turn_t *turn);

/** The likeliest token of a row of logits; the lowest of several. @param margin_p  out: how much
 * likelier than the next; may be NULL. */
int32_t likeliest(const float *logits, uint32_t vocab, float *margin_p);
