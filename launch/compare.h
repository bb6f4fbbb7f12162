/* Logits of two plans on the same tokens: how far apart they are, and how far they may be. */
#pragma once

#include "parallel/plan/plan.h"

/* The largest differences of rows that were compared; zero: none were. */
typedef struct ag_difference {
    uint64_t n_rows;
    double absolute; /* infinite where one of the two is no finite number */
    uint64_t row;    /* where that is, */
    uint32_t entry;
    float own, reference; /* and what stands there */
    double relative;      /* to the row's largest reference logit */
    double scale;         /* the largest reference logit of all, without its sign */
    uint64_t n_far;       /* rows that are off by more than a tenth of their largest logit */
    uint64_t n_greedy;    /* rows whose likeliest token is another one */
    double margin;        /* the reference's lead of its token over that one, where it is largest */
} ag_difference_t;

/** Compare a row. @param own, reference  (n) */
void ag_difference_add(ag_difference_t *difference, uint64_t row, const float *own,
                       const float *reference, uint32_t n);

/* How far two plans may be apart. */
typedef struct ag_bound {
    double relative;
    double absolute;  /* relative x scale */
    float router_gap; /* scores of experts that are nearer may go either way by rounding; 0: none */
    const char *why;
} ag_bound_t;

typedef enum ag_verdict {
    AG_VERDICT_WITHIN,
    AG_VERDICT_EXCUSED, /* beyond the bound, by tokens that may have gone to other experts */
    AG_VERDICT_BEYOND,
} ag_verdict_t;

/**
 * The bound for logits of two plans.
 * @param scale  the largest reference logit: logits are sums, and their rounding goes with them.
 * @param given  the user's own, relative; 0: none.
 */
ag_bound_t ag_bound_of(const ag_plan_t *plan, const ag_plan_t *reference, double scale,
                       double given);

/**
 * Are two plans alike?
 * @param differences  (n) of the parts of a run.
 * @param router_gap   the least gap between the last expert used and the next one's score, of all
 *                     tokens; INFINITY: none was routed.
 */
ag_verdict_t ag_bound_judge(const ag_bound_t *bound, const ag_difference_t *differences, uint32_t n,
                            float router_gap);
