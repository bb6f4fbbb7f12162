/* All that a rank of a job has, opened the way the command does it. */
#pragma once

#include "device_lazy.h"
#include "parallel/run/job.h"
#include "turns.h"

typedef struct ag_rank_opts {
    const char *model;                 /* its path */
    const ag_plan_opts_t *plan;        /* what the plan is made of; NULL: */
    const char *plan_json;             /* the plan */
    const ag_device_lazy_opts_t *lazy; /* on lazy devices, with seeds made of this one's; NULL: on
                                          the CPU */
    bool last_outputs_only; /* of each sequence; else every row's logits may be asked for */
    bool has_budget; /* just what is foretold, as the plan's and a ledger's; else there is none */
    const uint32_t *hosts; /* (ranks) that they stand on, by any number; NULL: one */
    ag_clock_t clock;      /* none: the turn's */
    ag_cancel_t cancel;
    /* The programs, before they are bound; NULL: as they are. */
    void (*change)(void *arg, ag_programs_t *programs);
    void *change_arg;
} ag_rank_opts_t;

typedef struct ag_rank {
    ag_model_t *model;
    ag_plan_t *plan;
    ag_build_t *build;
    ag_programs_t programs;
    ag_ledger_t *ledger;
    ag_team_t *team; /* of one thread */
    ag_device_t *device;
    ag_job_t *job;
} ag_rank_t;

/** Give each rank of a plan the budget that it is foretold to need, with one thread. */
void ag_rank_fill_budgets(ag_plan_t *plan, const ag_build_t *build, const ag_programs_t *programs,
                          bool staged);

/** @param rank  zeroed; to be closed, also after a failure. */
ag_status_t ag_rank_open(const ag_turn_t *turn, const ag_rank_opts_t *opts, ag_rank_t *rank);

/** @return the bytes that its ledger still had: none. */
uint64_t ag_rank_close(ag_rank_t *rank);
