/* The figures that every run ends with: what it did, what these machines could do, what held it
 * back. */
#pragma once

#include "launch/limits.h"
#include "parallel/run/driver.h"

/* A host of the job, and the share of each stage's work that its ranks have. */
typedef struct ag_report_host {
    ag_limits_t limits;
    uint32_t n_threads; /* of all its ranks */
} ag_report_host_t;

typedef struct ag_report {
    double prefill_tokens_per_s, decode_tokens_per_s; /* 0: there was none */
    double prefill_limit, decode_limit;               /* tokens/s; 0: not to be had */
    const char *held_back_by;
} ag_report_t;

/**
 * Figures and limits by DESIGN section 1: the larger of weight and cache bytes over the read rate
 * and of operations over the peak of the type computed in; ranks on several hosts add up theirs.
 * What held the run back is the largest of: what the limit takes, what rank 0 computed beyond it,
 * what it waited.
 * @param plan   as it was run.
 * @param whole  the model unsplit, one rank, with its programs: what the work costs at least.
 */
ag_report_t ag_report_make(const ag_plan_t *plan, const ag_build_t *whole,
                           const ag_programs_t *programs, const ag_report_host_t *hosts,
                           uint32_t n_hosts, const ag_run_figures_t *figures);

/** The one closing line, without line feed. */
void ag_report_line(const ag_report_t *report, char *line, size_t n_bytes);
