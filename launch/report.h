/* The figures that every run ends with: what it did, what these machines could do, what held it
 * back. */
#pragma once

#include "launch/limits.h"
#include "launch/links.h"
#include "parallel/run/driver.h"

/* A host of the job. */
typedef struct ag_report_host {
    uint64_t id;
    ag_limits_t limits;
    uint32_t n_threads; /* of all its ranks */
} ag_report_host_t;

/* What there was to be done it with. */
typedef struct ag_report_job {
    const ag_plan_t *plan;
    const ag_build_t *whole; /* the model unsplit, on one rank: what the work costs at least */
    const ag_programs_t *whole_programs;
    const ag_build_t *build; /* as it was run */
    const ag_programs_t *programs;
    const ag_report_host_t *hosts; /* (n_hosts), rank 0's first */
    uint32_t n_hosts;
    uint32_t n_threads;     /* of rank 0 */
    const ag_link_t *links; /* (n_links) */
    size_t n_links;
    double balance;        /* mean over the longest of the ranks' time computing; 0: not known */
    uint32_t slowest_rank; /* who took longest */
} ag_report_job_t;

/* A kind of kernel on rank 0. */
typedef struct ag_report_kernel {
    const char *node; /* listed with them: SAMPLING, and operations that were waited for */
    const char *type; /* of its weight; NULL: it has none */
    double seconds;
    double bytes, ops; /* what it moved and computed at least */
    double bound_s;    /* what that takes at the limits */
    bool memory;       /* the larger of the two is the bytes' */
    double held_s;     /* the same of the bytes as memory holds them: --compute f32 unpacks */
    bool held_memory;
} ag_report_kernel_t;

enum { AG_MAX_REPORT_KERNELS = 32 };

typedef struct ag_report_phase {
    double tokens_per_s; /* 0: there was no such phase */
    double limit;        /* tokens/s */
    double seconds;
    double barrier_s; /* of rank 0: its threads waited for each other */
    double other_s;   /* in no kernel: other ranks, between segments, text put out */
    char held_back_by[48];
    uint32_t n_kernels;
    ag_report_kernel_t kernels[AG_MAX_REPORT_KERNELS]; /* the longest first */
} ag_report_phase_t;

typedef struct ag_report {
    ag_report_phase_t prefill, decode;
    char held_back_by[48]; /* the longer phase's */
} ag_report_t;

/**
 * Figures and limits by DESIGN section 1: the larger of weight and cache bytes over the read rate
 * and of operations over the peak of the type computed in, where ranks on several hosts add up
 * theirs, and of what each link carries over its rate. What held a phase back is where most of its
 * time went: what kernels take at the memory's limit (of the bytes that memory holds), at the
 * arithmetic's, what they and the rest took beyond it, what rank 0 waited in for sums of its stage
 * (exposed communication) and for messages of other stages (bubble), or for the link that takes
 * most of that; but where the ranks of a stage idle for more than a quarter of the slowest one's
 * time, the longer phase has imbalance.
 */
ag_report_t ag_report_make(const ag_report_job_t *job, const ag_run_figures_t *figures);

/** Did a phase do more than the limit says can be done? Then the limit was measured too low. */
bool ag_report_is_above(const ag_report_phase_t *phase);

/** The one closing line, without line feed. */
void ag_report_line(const ag_report_t *report, char *line, size_t n_bytes);

/** Members that scripts read: prefill_tokens_per_s, decode_tokens_per_s, limit, ratio,
 * held_back_by; above_limit, true, where a figure is beyond its limit. */
void ag_report_to_json(const ag_report_t *report, ag_json_t *json);

/** The same kernels as events of a Chrome trace, each followed by ",\n". */
void ag_report_trace(const ag_report_t *report, FILE *file);

/** A table of kernels: time, bytes, operations, and the limit beside them. */
void ag_report_table(const ag_report_t *report, FILE *file);
