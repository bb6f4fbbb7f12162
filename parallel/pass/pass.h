/* Each further aspect of a program is one pass over it. In the order in which they run. */
#pragma once

#include "parallel/pass/build.h"

struct ag_schedule;

/** Turn each item of a schedule into segments; put messages between stages, and the way back. */
ag_status_t ag_pass_expand(ag_program_t *program, ag_build_t *build,
                           const struct ag_schedule *schedule);

/** The same of a training program, from the schedules that its plan names. */
ag_status_t ag_pass_expand_train(ag_program_t *program, ag_build_t *build, bool evaluates);

/** Sum what is partial, where it is made. */
ag_status_t ag_pass_tensor(ag_program_t *program, const ag_plan_t *plan);

/** Put the exchanges of a layer's experts around them: numbers of rows, rows, results, and each
 * rank's sums to all. */
ag_status_t ag_pass_expert(ag_program_t *program, const ag_build_t *build);

/** Training: sum gradients of what several ranks of a replica hold, and use for other work each. */
ag_status_t ag_pass_share(ag_program_t *program, ag_build_t *build);

/** Training: sum gradients over the replicas, and the totals over all ranks. */
ag_status_t ag_pass_reduce(ag_program_t *program, const ag_build_t *build);

/** Join neighbouring segments: a boundary exists only where bytes leave. */
ag_status_t ag_pass_fuse(ag_program_t *program, const ag_plan_t *plan);

/** Do what sums in two halves of the rows, so that one's sums run behind the other's arithmetic. */
ag_status_t ag_pass_split(ag_program_t *program, const ag_plan_t *plan);

/** Compile what is inside the segments, and give each the scratch it needs. */
ag_status_t ag_pass_compile(ag_program_t *program, const ag_build_t *build);

/** Give every buffer an offset; those never in use together may share bytes. */
ag_status_t ag_pass_place(ag_program_t *program, const ag_plan_t *plan);
